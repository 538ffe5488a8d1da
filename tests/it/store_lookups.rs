//! Misses: whom memory does not know yet waits for the store, a moment and in small numbers; all others never do.

use crate::fake_store::{FakeFault, FakeFaults};
use crate::harness::*;
use liangma::clock::Time;
use liangma::http::door::Door;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A node whose board is never filled, over a store that does so when it is asked for somebody.
fn filling(find: FakeFault) -> FakeFaults {
    FakeFaults {
        fill: FakeFault::Stalls,
        find,
        ..FakeFaults::default()
    }
}

fn meter(node: &InProcessNode, name: &str) -> f64 {
    let metrics = text(&node.get(Door::Ops, "/metrics").body);
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.expect("a meter").parse().expect("a number")
}

/// Asks on one connection until the store tells; until then it is busy, says when to come back, and keeps the connection.
fn insist(address: SocketAddr, ask: &[u8], refused: &AtomicUsize) {
    let mut connection = Connection::to(address);
    until("the store has told", || {
        connection.send(ask);
        let answer = connection.answer();
        if answer.status != 200 {
            answer.refuses(503, "upstream_busy");
            assert_ne!(answer.header("connection"), Some("close"));
            refused.fetch_add(1, Relaxed);
            return false;
        }
        assert_eq!(answer.state(), "green");
        true
    });
}

#[test]
fn a_store_that_stalls_keeps_those_waiting_whom_memory_does_not_know_and_nobody_else() {
    let node = InProcessNode::open(
        filling(FakeFault::Works),
        &["store_read_timeout=100ms"],
        Some(Duration::ZERO),
    );
    let (seals, scanner) = (&node.seals, node.seals.scanner());
    let known = person(0);
    node.feed(&seals.authority(), &[known.resident()]);
    assert_eq!(meter(&node, "liangma_store_lookups_limit"), 32.0);
    let late: Vec<Person> = (1..60).map(person).collect();
    for person in &late {
        node.store.put_unposted(seals.who(person).0);
    }
    let asks = late.iter().enumerate().map(|(nth, person)| match nth % 2 {
        0 => {
            let show = Ask::get("/v1/code").bearer(&seals.session(person));
            (node.address(Door::Resident), show.bytes())
        }
        _ => {
            let code = seals.code_of(person, Time::now().plus(Duration::from_secs(1)));
            let scan = Ask::post("/v1/scan", code).bearer(&scanner);
            (node.address(Door::Gate), scan.bytes())
        }
    });
    let asks: Vec<(SocketAddr, Vec<u8>)> = asks.collect();
    let show = Ask::get("/v1/code").bearer(&seals.session(&known)).bytes();
    let doors = [Door::Resident, Door::Gate].map(|door| node.address(door));
    let (refused, over) = (AtomicUsize::new(0), AtomicBool::new(false));

    node.store.set(filling(FakeFault::Stalls));
    std::thread::scope(|scope| {
        // Some give up and leave.
        for (address, ask) in &asks[..20] {
            Connection::to(*address).send(ask);
        }
        let askers: Vec<_> = asks
            .iter()
            .map(|(address, ask)| scope.spawn(|| insist(*address, ask, &refused)))
            .collect();
        let from_memory = scope.spawn(|| {
            let [mut resident, mut gate] = doors.map(Connection::to);
            let mut answered = 0;
            let deadline = Instant::now() + DEADLINE;
            while !over.load(Relaxed) && Instant::now() < deadline {
                resident.send(&show);
                let shown = resident.answer();
                assert_eq!(shown.state(), "green");
                let code = shown.json()["code"].as_str().expect("a code").to_owned();
                gate.send(Ask::post("/v1/scan", code).bearer(&scanner).bytes());
                assert_eq!(gate.answer().state(), "green");
                answered += 1;
            }
            answered
        });
        // What the store does not work on is a queue, and one of six is long enough.
        until("the limit is near its least", || {
            meter(&node, "liangma_store_lookups_limit") <= 6.0
        });
        until("everybody was refused a few times", || {
            refused.load(Relaxed) > 5 * asks.len()
        });
        until("those who went before it fell are back", || {
            meter(&node, "liangma_store_lookups_in_flight") <= 6.0
        });
        assert!(meter(&node, "liangma_store_rtt_seconds{stat=\"smoothed\"}") > 0.03);
        node.store.set(filling(FakeFault::Works));
        for asker in askers {
            asker.join().expect("told in the end");
        }
        over.store(true, Relaxed);
        let answered = from_memory.join().expect("always answered");
        assert!(answered > 20, "{answered} shows and scans from memory");
    });
    assert_eq!(meter(&node, "liangma_store_lookups_in_flight"), 0.0);
    assert!(meter(&node, "liangma_store_rtt_seconds{stat=\"floor\"}") <= 0.01);
}

#[test]
fn what_a_board_has_read_and_not_confirmed_is_told_to_nobody_because_it_may_be_discarded() {
    let node = InProcessNode::open(filling(FakeFault::Works), &[], None);
    let somebody = person(0);
    let (who, session) = (node.seals.who(&somebody).0, node.seals.session(&somebody));
    node.store.put_unposted(who);
    assert_eq!(node.show(&session).state(), "green");
    let scanner = node.seals.scanner();
    let code = node.seals.code_of(&somebody, Time::now());
    assert_eq!(node.scan(&scanner, &code).state(), "green");
    // The store has told both that there is no reason; what the board holds is not known to be the store's.
    node.store.post_unconfirmed(who);
    assert_eq!(node.show(&session).state(), "green");
    assert_eq!(node.scan(&scanner, &code).state(), "green");
}
