//! Several nodes over one Redis: they tell the same, and each knows how old what it tells is.

mod commands;
mod edited;
mod redis_logins;

use crate::faults::Town;
use crate::harness::*;
use crate::redis::{Cluster, Relay, Server};
use liangma::http::door::Door;
use liangma::store::redis::partition;
use serde_json::json;
use std::time::Duration;

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn three_nodes_agree_on_every_show_and_every_scan() {
    let server = Server::start(&[]);
    let mut town = Town::with(&server.url(), 3, &[]);
    let heard = || town.nodes[2].meter("liangma_replication_lag_seconds_count");
    let before = heard();
    let (chen, scanner) = (town.anybody(), town.ring.seals.scanner());
    let session = town.ring.seals.session(&chen);
    for (line, state) in [
        (chen.resident(), "green"),
        (chen.set("confirmed", 1), "red"),
        (chen.clear("confirmed", 2), "green"),
        (chen.set("home_isolation", 1), "red"),
    ] {
        town.feed(&[line]);
        until("every node tells it", || {
            let mut nodes = town.nodes.iter();
            nodes.all(|node| node.show(&session).state() == state)
        });
        for shown in &town.nodes {
            let code = shown.code(&session);
            for scanned in &town.nodes {
                assert_eq!(scanned.scan(&scanner, &code).state(), state);
            }
        }
    }
    assert!(heard() >= before + 4.0, "changes made elsewhere are timed");
    // The desk of one tells what was fed to another, reasons and all.
    let explained = town.nodes[1].explain(&session).json();
    assert_eq!(explained["reasons"][0]["reason"], "home_isolation");
    town.know(chen, "red");
    assert!(town.is_fresh());
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_status_fed_to_any_node_is_on_every_board() {
    let server = Server::start(&[]);
    let mut town = Town::over(&server.url());
    let authority = town.ring.seals.authority();
    // Both feed of the same person: whichever number is highest wins everywhere.
    let both = town.anybody();
    for seq in 1..20 {
        let line = match seq % 3 {
            0 => both.clear("suspected", seq),
            _ => both.set("suspected", seq),
        };
        town.nodes[seq as usize % 2].feed(&authority, &[line]);
    }
    let (one, other) = (town.anybody(), town.anybody());
    town.nodes[0].feed(&authority, &[one.set("suspected", 1)]);
    town.nodes[1].feed(&authority, &[other.set("suspected", 1)]);
    // Whoever fed knows at once.
    assert_eq!(town.state(&town.nodes[0], &one), "red");
    assert_eq!(town.state(&town.nodes[1], &other), "red");
    for person in [both, one, other] {
        town.know(person, "red");
    }
    until("every node tells it", || town.is_fresh());
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_node_that_starts_while_feeds_come_misses_nothing() {
    let server = Server::start(&[]);
    let mut town = Town::with(&server.url(), 1, &[]);
    let (started, meanwhile) = town.while_asked(|town| {
        let start = || town.start_at(&server.url()).node();
        [start(), start(), start()]
    });
    assert!(meanwhile.taken > 3, "{}", meanwhile.taken);
    town.nodes.extend(started);
    until("every node tells it", || town.is_fresh());
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_node_whose_store_is_silent_at_the_start_waits_and_says_so() {
    let server = Server::start(&[]);
    let relay = Relay::start(server.address());
    let mut town = Town::with(&server.url(), 1, &[]);
    relay.silence();
    let starting = town.start_at(&relay.url()).starting();
    until("it says that it waits", || {
        let log = starting.log();
        log.contains("the store cannot be reached: the next attempt follows in a second")
    });
    relay.pass();
    let node = starting.open();
    until("it is ready", || {
        node.get(Door::Ops, "/ready").status == 200
    });
    assert_eq!(
        node.log().matches("cannot be reached").count(),
        1,
        "{}",
        node.log()
    );
    town.nodes.push(node);
    assert!(town.is_fresh());

    // Whoever is told to leave while it waits, leaves.
    relay.silence();
    let starting = town.start_at(&relay.url()).starting();
    until("it says that it waits", || {
        starting.log().contains("cannot be reached")
    });
    starting.signal(libc::SIGTERM);
    assert_eq!(starting.end().code(), Some(0));
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_node_that_is_not_filled_yet_reads_through() {
    let (server, twin) = (Server::start(&[]), Server::start(&[]));
    let ring = Ring::make();
    let authority = ring.seals.authority();
    let in_partition = |wanted: usize, nth: usize| {
        let people = (0..).map(person);
        let mut people = people.filter(|one| partition::of(ring.seals.who(one).0.home) == wanted);
        people.nth(nth).expect("one in sixteen")
    };
    let (seen, late, lost) = (in_partition(0, 0), in_partition(0, 1), in_partition(7, 0));
    let bucket = |nth: usize| partition::meta(nth).replace("}:m", "}:0:0");
    // A server whose seventh partition cannot be read, and a twin of it that knows one more.
    for (server, people) in [(&server, vec![&seen, &lost]), (&twin, vec![&seen, &late])] {
        let node = NodeBuilder::new(&[])
            .over_redis(&server.url(), &ring)
            .node();
        let lines: Vec<String> = people.iter().map(|one| one.set("suspected", 1)).collect();
        node.feed(&authority, &lines);
    }
    server.ask(&["RENAME", &bucket(7), "{7}kept"]);
    server.ask(&["SET", &bucket(7), "rubbish"]);
    let node = NodeBuilder::new(&[])
        .over_redis(&server.url(), &ring)
        .warming();
    let show = |who: &Person| node.show(&ring.seals.session(who));
    let scan = |who: &Person| {
        let code = ring.seals.code_of(who, long_ago());
        node.scan(&ring.seals.scanner(), &code)
    };
    until("the first partition is followed", || {
        show(&seen).status == 200 && node.log().contains("the store is unavailable")
    });
    assert_eq!(show(&seen).state(), "red");
    // Behind the back of those who follow, so that the store alone knows.
    let port = server.port().to_string();
    let moved = [
        "MIGRATE",
        "127.0.0.1",
        &port,
        &bucket(0),
        "0",
        "1000",
        "REPLACE",
    ];
    assert_eq!(twin.ask(&moved), "OK");
    let misses = |outcome: &str| {
        let meter = format!("liangma_store_lookups_total{{outcome=\"{outcome}\"}}");
        node.meter(&meter)
    };
    let found = misses("found");
    assert_eq!(scan(&late).state(), "red");
    assert_eq!(misses("found"), found + 1.0);
    assert_eq!(show(&late).state(), "red");
    let stranger = in_partition(0, 2);
    assert_eq!(show(&stranger).state(), "unknown");
    assert_eq!(scan(&stranger).state(), "unknown");
    assert!(misses("absent") >= 1.0);
    // What cannot be read is nobody's colour.
    show(&lost).refuses(503, "upstream_busy");
    scan(&lost).refuses(503, "upstream_busy");
    assert!(misses("busy") >= 1.0);
    let ready = node.get(Door::Ops, "/ready");
    assert_eq!(
        (ready.status, &ready.json()["state"]),
        (503, &json!("warming"))
    );
    assert_eq!(node.meter("liangma_board_filled"), 0.0);

    server.ask(&["RENAME", "{7}kept", &bucket(7)]);
    until("it is ready", || {
        node.get(Door::Ops, "/ready").status == 200
    });
    // The late one came without an entry in the stream, after this partition was read.
    for who in [&seen, &lost] {
        assert_eq!(show(who).state(), "red");
    }
}

/// What a node says that it knows, and how old it is.
fn ready(node: &Node) -> (u16, String, f64) {
    let answer = node.get(Door::Ops, "/ready");
    let state = answer.json()["state"].as_str().expect("a state").to_owned();
    (answer.status, state, node.meter("liangma_data_age_seconds"))
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_a_silent_store_said_turns_stale_then_too_old_then_fresh_again() {
    let server = Server::start(&[]);
    let relay = Relay::start(server.address());
    let town = Town::with(&relay.url(), 1, &["stale_after=1s", "too_old_after=3s"]);
    let node = &town.nodes[0];
    let chen = town.anybody();
    town.feed(&[chen.set("suspected", 1)]);
    let (session, scanner) = (town.ring.seals.session(&chen), town.ring.seals.scanner());
    let code = node.code(&session);
    for _ in 0..2 {
        relay.silence();
        until("it is stale", || {
            node.show(&session).json()["stale"] == json!(true)
        });
        // Between stale and too old the colour stands, and is marked; a slow machine may be past it.
        let scanned = node.scan(&scanner, &code);
        assert!(
            scanned.json()["stale"] == json!(true),
            "{}",
            text(&scanned.body)
        );
        until("it is too old", || node.show(&session).state() == "too_old");
        assert_eq!(node.scan(&scanner, &code).state(), "too_old");
        // Who is not on record is of the same age, in the same part.
        let stranger = town.newcomer(town.partition(&chen));
        assert_eq!(town.state(node, &stranger), "too_old");
        let (status, state, age) = ready(node);
        assert_eq!((status, state.as_str()), (503, "too_old"));
        assert!(age > 3.0, "{age}");
        assert_eq!(node.meter("liangma_ready"), 0.0);
        assert_eq!(node.get(Door::Ops, "/live").status, 200);
        relay.pass();
        until("it is fresh", || {
            let shown = node.show(&session);
            shown.state() == "red" && shown.json()["stale"] != json!(true)
        });
        until("it is ready", || {
            node.get(Door::Ops, "/ready").status == 200
        });
        assert_eq!(node.meter("liangma_ready"), 1.0);
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_frozen_primary_of_a_cluster_ages_its_own_residents_alone() {
    let cluster = Cluster::start(3, 0, &["cluster-require-full-coverage no"]);
    let settings = [
        "store_replicas=0",
        "stale_after=400ms",
        "too_old_after=2500ms",
    ];
    let town = Town::with(&cluster.url(), 1, &settings);
    let node = &town.nodes[0];
    let people: Vec<(usize, Person)> = (0..16)
        .map(|nth| (cluster.primary_of(partition::slot(nth)), town.newcomer(nth)))
        .collect();
    let lines: Vec<String> = people
        .iter()
        .map(|(_, one)| one.set("suspected", 1))
        .collect();
    town.feed(&lines);
    let told = |primary: usize| {
        let own = people.iter().filter(move |(of, _)| *of == primary);
        own.map(|(_, one)| town.state(node, one))
            .collect::<Vec<_>>()
    };
    assert_eq!([0, 1, 2].map(|primary| told(primary).len()), [5, 6, 5]);
    cluster.servers[1].freeze();
    until("its residents are too old", || {
        told(1).iter().all(|state| state == "too_old")
    });
    // While the others take it for failing and after, theirs are as they were.
    for _ in 0..20 {
        for primary in [0, 2] {
            assert!(told(primary).iter().all(|state| state == "red"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    // A majority of the cluster calls it failed: no other node is any better.
    until("the node is ready without them", || {
        ready(node).1 == "degraded"
    });
    let (_, one) = people.iter().find(|(of, _)| *of == 0).expect("six");
    town.feed(&[one.set("suspected", 2)]);
    cluster.servers[1].thaw();
    until("all are fresh", || town.is_fresh());
    assert!(told(1).iter().all(|state| state == "red"));
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_too_few_replicas_have_is_not_acknowledged() {
    let primary = Server::start(&[]);
    let ring = Ring::make();
    let node = NodeBuilder::new(&["store_replicas=1"])
        .over_redis(&primary.url(), &ring)
        .node();
    assert!(node.log().contains("store_replicas"), "{}", node.log());
    let (authority, chen) = (ring.seals.authority(), person(1));
    let line = chen.set("suspected", 1);
    node.post_feed(&authority, &line)
        .refuses(503, "upstream_busy");
    let replicaof = format!("replicaof 127.0.0.1 {}", primary.port());
    let replica = Server::start(&[&replicaof]);
    until("the replica follows", || primary.is_followed(1));
    let mut answer = node.post_feed(&authority, &line);
    until("the feed is taken", || {
        let taken = answer.status == 200;
        if !taken {
            answer = node.post_feed(&authority, &line);
        }
        taken
    });
    // It was in the primary; now the replica is known to have it too.
    assert_eq!(answer.json()["unchanged"], 1);
    node.feed(&authority, &[chen.set("suspected", 2)]);
    assert_eq!(replica.ask(&["DBSIZE"]), primary.ask(&["DBSIZE"]));
    replica.freeze();
    node.post_feed(&authority, chen.set("suspected", 3))
        .refuses(503, "upstream_busy");
    replica.thaw();
    until("feeds are taken again", || {
        node.post_feed(&authority, chen.set("suspected", 3)).status == 200
    });
}
