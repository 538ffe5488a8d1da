//! One server that dies, sleeps or is full: it comes back with all that it acknowledged.

use super::{Town, report};
use crate::harness::*;
use crate::redis::{Server, is_missing};
use std::time::Instant;

#[test]
fn a_primary_that_is_killed_and_started_again_has_lost_nothing() {
    if is_missing() {
        return;
    }
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
        assert!(town.nodes[node].log().contains("the store is back"));
    }
    town.has_lost_nothing(&meanwhile.refused);
}

#[test]
fn a_primary_that_is_frozen_and_thawed_is_followed_again() {
    if is_missing() {
        return;
    }
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
fn a_server_without_memory_refuses_feeds_and_shows_go_on() {
    if is_missing() {
        return;
    }
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
