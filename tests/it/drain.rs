//! Leaving: signals, and what becomes of those who are inside.

use crate::harness::*;
use liangma::http::door::Door;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

fn is_open(node: &Node, door: Door) -> bool {
    TcpStream::connect(node.address(door)).is_ok()
}

#[test]
fn ready_says_no_first_while_queries_are_still_answered() {
    let node = NodeBuilder::new(&["drain_delay=30s"]).node();
    let seals = node.seals();
    let session = seals.session(&person(1));
    let mut kept = Connection::to(node.address(Door::Resident));
    node.signal(libc::SIGTERM);
    until("/ready says so", || {
        let ready = node.get(Door::Ops, "/ready");
        ready.status == 503 && ready.json()["state"] == "draining"
    });
    assert_eq!(node.get(Door::Ops, "/live").status, 200);
    for _ in 0..10 {
        assert_eq!(node.show(&session).status, 200, "new connections are taken");
    }
    kept.send(Ask::get("/v1/code").bearer(&session).bytes());
    let last = kept.answer();
    assert_eq!(last.status, 200, "old ones are answered");
    assert_eq!(last.header("connection"), Some("close"), "once more");
    assert_eq!(kept.ended(), b"");
    assert_eq!(node.scan(&seals.scanner(), node.code(&session)).status, 200);
    node.signal(libc::SIGINT);
    assert_eq!(node.end().code(), Some(0), "the second signal ends at once");
}

#[test]
fn what_the_kernel_held_when_the_doors_close_is_answered() {
    for _ in 0..10 {
        let node = NodeBuilder::new(&["resident_threads=1", "queue_delay_target=5s"]).node();
        let session = node.seals().session(&person(1));
        let ask = Ask::get("/v1/code").bearer(&session).bytes();
        let mut idle = Connection::to(node.address(Door::Resident));
        idle.send(&ask);
        assert_eq!(idle.answer().status, 200);
        // What waited for long on a busy machine is no crowd. Stopped, the node reads nothing; told to leave before it goes on, it finds all of it at once.
        node.signal(libc::SIGSTOP);
        idle.send(&ask);
        let mut fresh = Connection::to(node.address(Door::Resident));
        fresh.send(&ask);
        node.signal(libc::SIGTERM);
        node.signal(libc::SIGCONT);
        assert_eq!(idle.answer().status, 200);
        assert_eq!(fresh.answer().status, 200);
        assert_eq!(node.end().code(), Some(0));
    }
}

#[test]
fn connections_without_a_query_end_at_the_drain() {
    let node = NodeBuilder::new(&["drain_timeout=5m", "head_timeout=5m", "idle_timeout=1h"]).node();
    let session = node.seals().session(&person(1));
    let silent = Connection::to(node.address(Door::Gate));
    let mut idle = Connection::to(node.address(Door::Resident));
    idle.send(Ask::get("/v1/code").bearer(&session).bytes());
    assert_eq!(idle.answer().status, 200);
    node.signal(libc::SIGTERM);
    assert_eq!(idle.ended(), b"");
    assert_eq!(silent.ended(), b"");
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn a_connection_that_rests_is_answered_when_it_speaks_again_and_ends_at_the_drain() {
    let node = NodeBuilder::new(&["drain_timeout=5m"]).node();
    let session = node.seals().session(&person(1));
    let mut phones: Vec<Connection> = (0..3)
        .map(|_| Connection::to(node.address(Door::Resident)))
        .collect();
    let ask = Ask::get("/v1/code").bearer(&session).bytes();
    for phone in &mut phones {
        phone.send(&ask);
        assert_eq!(phone.answer().state(), "unknown");
    }
    assert!(phones[0].is_quiet_for(Duration::from_secs(3)));
    let (start, rest) = ask.split_at(9);
    phones[0].send([&ask, &ask, start].concat());
    phones[1].send(start);
    for phone in &mut phones[..2] {
        phone.send(rest);
    }
    for asked in [0, 0, 0, 1] {
        assert_eq!(phones[asked].answer().state(), "unknown");
    }
    node.signal(libc::SIGTERM);
    for phone in phones {
        assert_eq!(phone.ended(), b"");
    }
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn a_bulk_under_way_is_finished_and_the_back_door_stays_to_the_end() {
    let node = NodeBuilder::new(&["drain_timeout=1m"]).node();
    let seals = node.seals();
    let code = node.code(&seals.session(&person(1)));
    let mut bulk = Connection::to(node.address(Door::Gate));
    let ask = Ask::new("POST", "/v1/scan/bulk").bearer(&seals.scanner());
    bulk.send(ask.header("transfer-encoding", "chunked").bytes());
    bulk.chunk(format!("{code}\n"));
    assert_eq!(bulk.head().expect("an answer").status, 200);
    assert!(text(&bulk.piece().expect("a verdict")).contains("unknown"));
    node.signal(libc::SIGTERM);
    until("the gate takes nobody any more", || {
        !is_open(&node, Door::Gate)
    });
    let ready = node.get(Door::Ops, "/ready");
    assert_eq!(
        (ready.status, &ready.json()["state"]),
        (503, &"draining".into())
    );
    bulk.chunk(format!("{code}\n"));
    assert!(text(&bulk.piece().expect("a verdict")).contains("unknown"));
    bulk.send("0\r\n\r\n");
    assert_eq!(bulk.piece(), None);
    assert_eq!(bulk.ended(), b"");
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn whoever_does_not_end_is_cut_at_the_last() {
    let node = NodeBuilder::new(&["drain_timeout=300ms", "head_timeout=5m"]).node();
    let mut bulk = Connection::to(node.address(Door::Gate));
    let ask = Ask::new("POST", "/v1/scan/bulk").bearer(&node.seals().scanner());
    bulk.send(ask.header("transfer-encoding", "chunked").bytes());
    bulk.chunk("AAAA\n");
    assert_eq!(bulk.head().expect("an answer").status, 200);
    let mut partial = Connection::to(node.address(Door::Resident));
    partial.send("GET /v1/co");
    node.signal(libc::SIGTERM);
    assert_eq!(node.end().code(), Some(0));
    partial.ended();
    bulk.ended();
}

#[test]
fn a_partial_head_holds_the_drain_no_longer_than_its_own_timeout() {
    let node = NodeBuilder::new(&["drain_timeout=10m", "head_timeout=500ms"]).node();
    let mut partial = Connection::to(node.address(Door::Resident));
    partial.send("GET /v1/co");
    node.signal(libc::SIGTERM);
    partial.ended();
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn a_store_is_free_again_after_the_drain_and_holds_what_was_fed() {
    let folder = folder();
    let store = folder.path().join("store");
    let node = NodeBuilder::new(&[]).over(&store).node();
    node.feed(&node.seals().authority(), &[person(1).set("confirmed", 1)]);
    node.signal(libc::SIGTERM);
    assert_eq!(node.end().code(), Some(0));
    let node = NodeBuilder::new(&[]).over(&store).node();
    assert_eq!(node.show(&node.seals().session(&person(1))).state(), "red");
}

fn rotate(keys: &Path) {
    let rotated = run(&["keys", "rotate", "--keys", keys.to_str().unwrap()]);
    assert!(rotated.status.success(), "{}", text(&rotated.stderr));
}

#[test]
fn a_rotation_refuses_nothing_and_needs_no_order_among_the_nodes() {
    let folder = folder();
    let keys = folder.path().join("ring");
    let setting = format!("key_ring={}", keys.display());
    assert!(
        run(&["keys", "new", "--keys", keys.to_str().unwrap()])
            .status
            .success()
    );
    let (here, there) = (
        NodeBuilder::new(&[&setting]).node(),
        NodeBuilder::new(&[&setting]).node(),
    );
    let seals = Credentials::of(&liangma::seal::ring::RingFile::read(&keys).unwrap());
    let chen = person(1);
    for node in [&here, &there] {
        node.feed(&seals.authority(), &[chen.resident()]);
    }
    let (session, scanner) = (seals.session(&chen), seals.scanner());
    let old_code = here.code(&session);
    let loads = |node: &Node| node.log().matches("the key ring was read again").count();

    rotate(&keys);
    here.signal(libc::SIGHUP);
    until("it read the ring", || loads(&here) == 1);
    let new_code = here.code(&session);
    assert_ne!(old_code[..3], new_code[..3], "it seals with the next key");
    for node in [&here, &there] {
        for code in [&old_code, &new_code] {
            assert_eq!(node.scan(&scanner, code).state(), "green");
        }
    }
    let new_seals = Credentials::of(&liangma::seal::ring::RingFile::read(&keys).unwrap());
    assert_eq!(there.scan(&new_seals.scanner(), &old_code).state(), "green");
    assert_eq!(there.show(&new_seals.session(&chen)).state(), "green");

    // A ring that is no ring changes nothing.
    std::fs::OpenOptions::new()
        .append(true)
        .open(&keys)
        .unwrap()
        .write_all(b"rubbish")
        .unwrap();
    here.signal(libc::SIGHUP);
    until("it says so", || {
        here.log().contains("the key ring in force stays")
    });
    assert_eq!(here.scan(&scanner, here.code(&session)).state(), "green");
}

#[test]
fn a_ring_of_another_store_is_not_taken_up() {
    let node = Node::start();
    let session = node.seals().session(&person(1));
    let keys = node.store.join("keys");
    let elsewhere = tempfile::tempdir().unwrap();
    let other = elsewhere.path().join("other");
    assert!(
        run(&["keys", "new", "--keys", other.to_str().unwrap()])
            .status
            .success()
    );
    std::fs::copy(&other, &keys).unwrap();
    node.signal(libc::SIGHUP);
    until("it says so", || {
        node.log().contains("belongs to another store")
    });
    assert_eq!(node.show(&session).status, 200);
}
