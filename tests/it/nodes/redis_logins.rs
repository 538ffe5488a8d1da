//! Who is let in to Redis: users, passwords, certificates.

use crate::faults::Town;
use crate::harness::*;
use crate::redis::{Server, Tls, start_with};
use std::process::Command;
use std::time::Instant;

/// The users of the operator's example, all with this password.
fn acl_lines(password: &str) -> Vec<String> {
    let users = include_str!("../../../deploy/users.acl").lines();
    let metrics = include_str!("../../../deploy/users-metrics.acl").lines();
    users
        .chain(metrics)
        .map(|line| {
            let names = ["#OPERATOR", "#REPLICA", "#LIANGMA", "#METRICS"].into_iter();
            names.fold(line.to_owned(), |line, name| {
                line.replace(name, &format!(">{password}"))
            })
        })
        .collect()
}

/// Our user of them.
fn acl_line(password: &str) -> String {
    let mut lines = acl_lines(password).into_iter();
    let line = lines.find(|line| line.starts_with("user liangma "));
    line.expect("the example has our user")
}

#[test]
fn the_template_of_users_asks_for_three_passwords_and_no_more() {
    // Whoever fills in these three has a file that Redis takes: one that is left over, and Redis does not start.
    let users = include_str!("../../../deploy/users.acl");
    let asked: Vec<&str> = users
        .split_whitespace()
        .filter(|word| word.starts_with('#'))
        .collect();
    assert_eq!(asked, ["#OPERATOR", "#REPLICA", "#LIANGMA"]);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_the_users_of_the_example_wrote_is_there_after_a_kill() {
    let lines = acl_lines("hush");
    let mut server = start_with(&[], &lines);
    let town = Town::over(&server.url().replace("redis://", "redis://liangma:hush@"));
    server.kill();
    server.restart();
    town.well_after(Instant::now());
    town.has_lost_nothing(&[]);
    assert!(!town.nodes[0].log().contains("default user"));
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_default_user_who_may_not_write_is_told_of() {
    let mut lines = acl_lines("hush");
    assert!(lines[0].starts_with("user default off "));
    lines[0].truncate("user default off".len());
    let server = start_with(&[], &lines);
    let url = server.url().replace("redis://", "redis://liangma:hush@");
    let node = NodeBuilder::new(&[])
        .over_redis(&url, &Ring::make())
        .warming();
    let log = node.log();
    assert!(
        log.contains("a restart loses what is in the append-only file"),
        "{log}"
    );
}

/// What whoever has a node's password could turn against the store and its replicas.
const FORBIDDEN: [&[&str]; 14] = [
    &["CONFIG", "GET", "masterauth"],
    &["CONFIG", "GET", "*"],
    &["CONFIG", "SET", "appendonly", "no"],
    &["PSYNC", "?", "-1"],
    &["SYNC"],
    &["REPLCONF", "listening-port", "1"],
    &["REPLICAOF", "127.0.0.1", "1"],
    &["ACL", "LIST"],
    &["ACL", "GETUSER", "replica"],
    &["MONITOR"],
    &["KEYS", "*"],
    &["GET", "another"],
    &["FLUSHALL"],
    &["DEBUG", "SLEEP", "0"],
];

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn the_user_of_the_nodes_reads_no_password_and_replicates_nothing() {
    let server = start_with(&[], &acl_lines("hush"));
    for command in FORBIDDEN {
        let said = server.ask(&[&["ACL", "DRYRUN", "liangma"], command].concat());
        assert!(said.contains("permissions"), "{command:?}: {said}");
    }
    // A script has the rights of whoever runs it.
    for script in [
        "return redis.call('CONFIG', 'GET', 'masterauth')",
        "return redis.call('GET', 'another')",
    ] {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &server.port().to_string(), "--user", "liangma"]);
        let output = cli
            .env("REDISCLI_AUTH", "hush")
            .args(["EVAL", script, "0"])
            .output();
        let output = output.expect("redis-cli runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            ["can't access", "NOPERM", "not allowed from script"]
                .iter()
                .any(|refusal| said.contains(refusal)),
            "{script}: {said}"
        );
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_a_redis_would_lose_is_told_without_the_right_to_read_its_settings() {
    let server = start_with(
        &["appendonly no", "maxmemory-policy allkeys-lru"],
        &acl_lines("hush"),
    );
    let url = server.url().replace("redis://", "redis://liangma:hush@");
    let node = NodeBuilder::new(&[])
        .over_redis(&url, &Ring::make())
        .warming();
    let log = node.log();
    for said in [
        "appendonly is not yes",
        "maxmemory-policy is not noeviction",
        "settings were not checked because this user may not read them: appendfsync",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_password_that_is_rotated_well_is_never_missed() {
    let server = Server::start(&[&acl_line("first-secret")]);
    let folder = folder();
    let file = folder.path().join("password");
    std::fs::write(&file, "first-secret").unwrap();
    let setting = format!("store_password_file={}", file.display());
    let url = server.url().replace("redis://", "redis://liangma@");
    let mut town = Town::with(&url, 2, &[&setting, "log=debug"]);
    let mut before = "first-secret";
    let ((), meanwhile) = town.while_asked(|town| {
        for next in ["second-secret", "third-secret"] {
            // Both are good for a while; old connections are ended only at the end.
            server.ask(&["ACL", "SETUSER", "liangma", &format!(">{next}")]);
            std::fs::write(folder.path().join("next"), next).unwrap();
            std::fs::rename(folder.path().join("next"), &file).unwrap();
            server.ask(&["ACL", "SETUSER", "liangma", &format!("<{before}")]);
            server.ask(&["CLIENT", "KILL", "USER", "liangma"]);
            town.well_after(Instant::now());
            before = next;
        }
    });
    for node in 0..2 {
        assert_eq!(town.faults(node, &["refused"]), 0.0);
    }
    town.is_all_kept(&meanwhile.refused);
    for node in &town.nodes {
        assert!(!node.log().contains("secret"), "{}", node.log());
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_user_who_may_not_follow_is_told_so_and_not_without_end() {
    let line = acl_line("hush");
    assert!(line.contains(" +xread "));
    let server = Server::start(&[&line.replace(" +xread ", " ")]);
    let ring = Ring::make();
    let url = server.url().replace("redis://", "redis://liangma:hush@");
    let node = NodeBuilder::new(&[]).over_redis(&url, &ring).warming();
    until("the log says why", || node.log().contains("xread"));
    let faults = || node.meter("liangma_store_faults_total{fault=\"refused\"}");
    until("it is counted", || faults() >= 16.0);
    std::thread::sleep(std::time::Duration::from_secs(1));
    let log = node.log();
    let said = log.matches("the store is unavailable").count();
    // It is unavailable, and stays so.
    assert!(faults() < 33.0 && said <= 2, "{} {said}", faults());
}

#[test]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_node_speaks_tls_and_shows_its_certificate() {
    let tls = Tls::make();
    let server = Server::start_tls(&tls, &["requirepass hush"]);
    let url = server.url().replace("rediss://", "rediss://:hush@");
    let file = |setting: &str, name: &str| format!("{setting}={}", tls.file(name).display());
    let ca = file("store_ca_file", "ca.crt");
    let (cert, key) = (
        file("store_cert_file", "client.crt"),
        file("store_cert_key_file", "client.key"),
    );
    let town = Town::with(&url, 2, &[&ca, &cert, &key]);
    assert!(town.is_fresh());
    // Without ours, or without knowing theirs, nothing is told to anybody.
    for settings in [&[ca.as_str()][..], &[&cert, &key]] {
        let starting = NodeBuilder::new(settings)
            .over_redis(&url, &town.ring)
            .starting();
        let why = || starting.log().to_lowercase().contains("certificate");
        until("it says why", why);
        let log = starting.log();
        assert!(!log.contains("hush"), "{log}");
        starting.kill();
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn sentinels_have_a_login_of_their_own() {
    let server = Server::start(&["requirepass one-secret"]);
    let watch = format!("sentinel monitor liangma 127.0.0.1 {} 1", server.port());
    let sentinel = Server::open(
        None,
        &[
            &watch,
            "sentinel auth-pass liangma one-secret",
            "requirepass two-secret",
        ],
    );
    let folder = folder();
    let file = folder.path().join("password");
    std::fs::write(&file, "two-secret\n").unwrap();
    let setting = format!("store_sentinel_password_file={}", file.display());
    let url = format!(
        "redis+sentinel://:one-secret@{}/liangma",
        sentinel.address()
    );
    let town = Town::with(&url, 1, &[&setting, "store_replicas=0"]);
    let somebody = town.newcomer(0);
    town.feed(&[somebody.set("confirmed", 1)]);
    assert_eq!(town.state(&town.nodes[0], &somebody), "red");
    assert!(!town.nodes[0].log().contains("secret"));
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_server_is_reached_by_its_unix_socket() {
    let folder = folder();
    let socket = folder.path().join("redis.sock");
    let line = format!("unixsocket {}", socket.display());
    let _server = Server::start(&["requirepass hush", &line]);
    let url = format!("unix://:hush@{}", socket.display());
    let town = Town::with(&url, 1, &["store_replicas=0"]);
    let somebody = town.newcomer(0);
    town.feed(&[somebody.set("confirmed", 1)]);
    assert_eq!(town.state(&town.nodes[0], &somebody), "red");
}
