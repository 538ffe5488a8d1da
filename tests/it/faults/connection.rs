//! Connections that break or are not let in.

use super::{Town, report};
use crate::harness::*;
use crate::redis::{Relay, Server};
use std::time::Instant;

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn replies_that_are_cut_anywhere_lose_nothing() {
    let server = Server::start(&[]);
    let relay = Relay::start(server.address());
    let mut town = Town::over(&relay.url());
    let (well, meanwhile) = town.while_asked(|town| {
        // In greetings, scripts' replies, entries and waits, wherever these many bytes end.
        for bytes in [0, 1, 7, 30, 100, 333, 1000, 2222, 5000] {
            relay.cut_after(bytes);
            until("a feed is taken again", || !town.is_refused(bytes % 16));
        }
        let last = Instant::now();
        relay.cut_after(0);
        town.well_after(last)
    });
    report(
        "all connections cut, nine times in mid-reply",
        None,
        well,
        &meanwhile,
    );
    for node in 0..2 {
        assert!(town.faults(node, &["gone"]) >= 1.0);
        assert_eq!(town.faults(node, &["emptied", "replaced", "behind"]), 0.0);
    }
    town.has_lost_nothing(&meanwhile.refused);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_store_that_is_silent_is_asked_again_when_it_speaks() {
    let server = Server::start(&[]);
    let relay = Relay::start(server.address());
    let mut town = Town::with(&server.url(), 1, &[]);
    // The second node hears nothing while the first goes on.
    town.nodes.push(town.start_at(&relay.url()).node());
    let (well, meanwhile) = town.while_asked(|town| {
        relay.silence();
        until("the node finds it stuck", || {
            town.faults(1, &["stuck"]) >= 1.0
        });
        assert_eq!(town.faults(0, &["stuck"]), 0.0);
        relay.pass();
        town.well_after(Instant::now())
    });
    assert!(meanwhile.refused.is_empty(), "feeds go to the other node");
    report(
        "silent for one of two nodes, then not",
        None,
        well,
        &meanwhile,
    );
    town.is_all_kept(&[]);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn clients_that_are_killed_and_scripts_that_are_forgotten_come_back() {
    let server = Server::start(&[]);
    let mut town = Town::over(&server.url());
    let (well, meanwhile) = town.while_asked(|town| {
        server.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
        server.ask(&["SCRIPT", "FLUSH"]);
        town.well_after(Instant::now())
    });
    report(
        "all clients killed, scripts forgotten",
        None,
        well,
        &meanwhile,
    );
    server.ask(&["SCRIPT", "FLUSH"]);
    town.is_all_kept(&meanwhile.refused);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_password_that_is_wrong_leaves_shows_alone_until_the_file_has_the_new_one() {
    let mut server = Server::start(&["requirepass old-secret"]);
    let folder = folder();
    let file = folder.path().join("password");
    std::fs::write(&file, "old-secret\n").unwrap();
    let setting = format!("store_password_file={}", file.display());
    let mut town = Town::with(&server.url(), 2, &[&setting]);
    let (well, meanwhile) = town.while_asked(|town| {
        server.ask(&["CONFIG", "SET", "requirepass", "new-secret"]);
        server.password = Some("new-secret".to_owned());
        server.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
        until("feeds are refused", || town.is_refused(3));
        until("every node has lost it", || {
            (0..2).all(|node| town.faults(node, &["gone", "refused"]) >= 16.0)
        });
        std::fs::write(&file, "new-secret\n").unwrap();
        town.well_after(Instant::now())
    });
    report("password changed, then told", None, well, &meanwhile);
    town.is_all_kept(&meanwhile.refused);
    for node in &town.nodes {
        assert!(!node.log().contains("secret"), "{}", node.log());
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_password_that_is_refused_is_what_the_log_says() {
    let mut server = Server::start(&["requirepass old-secret"]);
    let url = server.url().replace("redis://", "redis://:old-secret@");
    let town = Town::with(&url, 1, &[]);
    server.ask(&["CONFIG", "SET", "requirepass", "new-secret"]);
    server.password = Some("new-secret".to_owned());
    server.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    // The connection's end is but how it began: an operator must learn why it does not come back.
    until("the log says why", || {
        town.nodes[0].log().contains("WRONGPASS")
    });
    assert!(town.faults(0, &["refused"]) >= 1.0);
}
