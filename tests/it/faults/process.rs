//! One server that dies, sleeps or is full: it comes back with all that it acknowledged.

use super::{Town, delete, keys_of, report};
use crate::harness::*;
use crate::redis::Server;
use liangma::store::redis::partition;
use std::time::Instant;

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_primary_that_is_killed_and_started_again_has_lost_nothing() {
    let mut server = Server::start(&[]);
    let mut town = Town::over(&server.url());
    let (well, meanwhile) = town.while_asked(|town| {
        server.kill();
        until("feeds are refused", || town.is_refused(3));
        let back = Instant::now();
        server.restart();
        town.well_after(back)
    });
    report(
        "killed, started again with its data",
        None,
        well,
        &meanwhile,
    );
    for node in 0..2 {
        assert!(town.faults(node, &["gone"]) >= 1.0);
        assert_eq!(town.faults(node, &["emptied", "replaced", "behind"]), 0.0);
        assert!(
            town.nodes[node]
                .log()
                .contains("the store is available again")
        );
    }
    town.has_lost_nothing(&meanwhile.refused);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_primary_that_is_frozen_and_thawed_is_followed_again() {
    let server = Server::start(&[]);
    let mut town = Town::over(&server.url());
    let (well, meanwhile) = town.while_asked(|town| {
        server.freeze();
        until("feeds are refused", || town.is_refused(3));
        until("every node finds it stuck", || {
            (0..2).all(|node| town.faults(node, &["stuck"]) >= 1.0)
        });
        server.thaw();
        town.well_after(Instant::now())
    });
    report("frozen, thawed", None, well, &meanwhile);
    town.has_lost_nothing(&meanwhile.refused);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_server_without_memory_refuses_feeds_and_shows_go_on() {
    let server = Server::start(&[]);
    let mut town = Town::over(&server.url());
    let (well, meanwhile) = town.while_asked(|town| {
        server.ask(&["CONFIG", "SET", "maxmemory", "1mb"]);
        until("feeds are refused", || town.is_refused(3));
        // Whom nobody fed is not there, and what is there is fresh.
        assert!(town.is_fresh());
        let stranger = town.anybody();
        assert_eq!(town.state(&town.nodes[1], &stranger), "unknown");
        server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
        town.well_after(Instant::now())
    });
    report("out of memory, then no more", None, well, &meanwhile);
    assert!(town.nodes[0].meter("liangma_store_failures_total") >= 1.0);
    assert_eq!(town.faults(1, &["gone", "stuck", "refused"]), 0.0);
    town.is_all_kept(&meanwhile.refused);
}

/// What makes a server refuse every write, and what ends that.
const REFUSALS: [[&str; 3]; 2] = [
    ["maxmemory", "1mb", "0"],
    // As a server whose volume is full, or whose replicas are gone, refuses.
    ["min-replicas-to-write", "1", "0"],
];

/// A partition must be read whole, from a server that takes no writes.
#[track_caller]
fn is_read_although_it_refuses_writes(refusal: [&str; 3], lose: impl Fn(&Server)) {
    let server = Server::start(&[]);
    let town = Town::over(&server.url());
    for node in &town.nodes {
        node.signal(libc::SIGSTOP);
    }
    lose(&server);
    let [name, refuses, takes] = refusal;
    server.ask(&["CONFIG", "SET", name, refuses]);
    for node in &town.nodes {
        node.signal(libc::SIGCONT);
    }
    for node in 0..2 {
        let faults = ["emptied", "replaced", "behind", "trimmed"];
        until("it is read anew", || town.faults(node, &faults) >= 1.0);
    }
    assert!(town.is_refused(3));
    until("everybody is told, and fresh", || town.is_fresh());
    server.ask(&["CONFIG", "SET", name, takes]);
    town.well_after(Instant::now());
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_server_that_takes_no_writes_is_read_whole_after_a_loss() {
    for refusal in REFUSALS {
        is_read_although_it_refuses_writes(refusal, |server| delete(server, &keys_of(0)));
        is_read_although_it_refuses_writes(refusal, |server| {
            delete(server, &partition::meta(0));
        });
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_server_that_takes_no_writes_is_read_whole_by_a_node_that_slept() {
    for refusal in REFUSALS {
        is_read_although_it_refuses_writes(refusal, |server| {
            // One more entry that no node has seen, and the stream has forgotten it.
            let meta = partition::meta(0);
            server.ask(&["HINCRBY", &meta, "seq", "1"]);
            server.ask(&["XTRIM", &partition::stream(0), "MAXLEN", "0"]);
        });
    }
}
