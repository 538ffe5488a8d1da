//! Turns: who asks more often than is fair is told to wait, on a connection that stays open, and nobody else is.

use crate::harness::*;
use liangma::http::door::Door;
use std::time::{Duration, Instant};

/// Asks until it is told to wait, each time on the same connection; how often it was answered.
#[track_caller]
fn wear_out(connection: &mut Connection, ask: &[u8]) -> usize {
    for answered in 0..10_000 {
        connection.send(ask);
        let answer = connection.answer();
        if answer.status != 200 {
            answer.refuses(429, "rate_limited");
            assert_ne!(answer.header("connection"), Some("close"));
            return answered;
        }
    }
    panic!("it may ask without end");
}

#[track_caller]
fn is_answered(connection: &mut Connection, ask: &[u8]) -> bool {
    connection.send(ask);
    connection.answer().status == 200
}

/// One who asks without end and one who asks as one should, at the same door.
#[track_caller]
fn two_at(node: &Node, door: Door, eager: &[u8], other: &[u8], burst: usize, per_second: f64) {
    let started = Instant::now();
    let mut connection = Connection::to(node.address(door));
    let answered = wear_out(&mut connection, eager);
    let most = burst as f64 + per_second * started.elapsed().as_secs_f64();
    assert!((burst..=most as usize).contains(&answered), "{answered}");
    let mut others = Connection::to(node.address(door));
    for _ in 0..burst {
        assert!(
            is_answered(&mut others, other),
            "others have their own turns"
        );
        connection.send(eager);
        connection.answer();
    }
    until("it is its turn again, on the same connection", || {
        is_answered(&mut connection, eager)
    });
}

#[test]
fn a_session_that_shows_too_often_is_told_to_wait_and_no_other_is() {
    let node = NodeBuilder::new(&["shows_per_second=2"]).node();
    let seals = node.seals();
    let ask = |who: &Person| Ask::get("/v1/code").bearer(&seals.session(who)).bytes();
    let eager = ask(&person(1));
    two_at(&node, Door::Resident, &eager, &ask(&person(2)), 20, 2.0);
    assert!(node.meter("liangma_queries_total{kind=\"show\",outcome=\"rate_limited\"}") > 0.0);
    // Another session of the same resident is no way around.
    let mut connection = Connection::to(node.address(Door::Resident));
    wear_out(&mut connection, &eager);
    let again = wear_out(&mut connection, &ask(&person(1)));
    assert!(again <= 2, "{again}");
}

#[test]
fn a_scanner_that_scans_too_often_is_told_to_wait_and_no_other_is() {
    let node = NodeBuilder::new(&["scans_per_second=1"]).node();
    let seals = node.seals();
    node.feed(&seals.authority(), &[person(1).resident()]);
    let code = node.code(&seals.session(&person(1)));
    let ask = || {
        Ask::post("/v1/scan", &code)
            .bearer(&seals.scanner())
            .bytes()
    };
    two_at(&node, Door::Gate, &ask(), &ask(), 10, 1.0);
    assert!(node.meter("liangma_queries_total{kind=\"scan\",outcome=\"rate_limited\"}") > 0.0);
}

#[test]
fn bulk_scans_go_at_their_rate_after_a_first_whole_one_and_are_never_cut() {
    let node = NodeBuilder::new(&["bulk_codes_per_second=500", "bulk_lines_max=1000"]).node();
    let seals = node.seals();
    let scanner = seals.scanner();
    node.feed(&seals.authority(), &[person(1).resident()]);
    let code = node.code(&seals.session(&person(1)));
    let roster = vec![code.as_str(); 1000].join("\n");
    let bulk = |scanner: &str, body: &str| {
        let ask = Ask::post("/v1/scan/bulk", body).bearer(scanner);
        ask.at(node.address(Door::Gate))
    };
    let is_whole = |answer: &Answer| {
        let told = text(&answer.body);
        told.lines().count() == 1000 && told.lines().all(|line| line.contains("\"green\""))
    };
    let started = Instant::now();
    assert!(is_whole(&bulk(&scanner, &roster)));
    let first = started.elapsed();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            // The first may be owed for, for a moment.
            let mut answer = bulk(&scanner, &roster);
            until("a second one begins", || {
                let begun = answer.status == 200;
                if !begun {
                    answer.refuses(429, "rate_limited");
                    answer = bulk(&scanner, &roster);
                }
                begun
            });
            answer
        });
        until("no third one begins", || {
            let answer = bulk(&scanner, &code);
            if answer.status != 200 {
                answer.refuses(429, "rate_limited");
            }
            answer.status == 429
        });
        assert_eq!(
            node.scan(&scanner, &code).state(),
            "green",
            "single scans are apart"
        );
        let other = bulk(&seals.scanner(), &roster);
        assert!(is_whole(&other), "other scanners have their own turns");
        assert!(is_whole(&second.join().expect("answered")));
    });
    let both = started.elapsed();
    assert!(
        both > Duration::from_millis(1500),
        "{first:?}, both {both:?}"
    );
    until("a third one begins", || bulk(&scanner, &code).status == 200);
}
