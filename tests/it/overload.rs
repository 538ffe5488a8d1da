//! More people than a door has room for: who stays, who goes, and what those are told who must wait.

use crate::harness::{Ask, Connection, Doors, Start, person, until};
use liangma::http::query::Door;
use std::time::Duration;

fn evicted(door: &str) -> String {
    format!("liangma_connections_closed_total{{door=\"{door}\",why=\"evicted\"}}")
}

#[test]
fn whoever_is_idle_for_longest_makes_room_for_whoever_waits() {
    let node = Start::new(&["resident_connections_max=3", "busy_answers_per_second=0"]).node();
    let session = node.seals().session(&person(1));
    let ask = || Ask::get("/v1/code").bearer(&session).bytes();
    let mut inside: Vec<Connection> = (0..3)
        .map(|_| Connection::to(node.address(Door::Resident)))
        .collect();
    for connection in &mut inside {
        connection.send(ask());
        assert_eq!(connection.answer().status, 200);
    }
    let address = node.address(Door::Resident);
    let newcomer = {
        let ask = ask();
        std::thread::spawn(move || {
            let mut newcomer = Connection::to(address);
            newcomer.send(ask);
            newcomer.answer().status
        })
    };
    // The others go on speaking, and are let be.
    while !newcomer.is_finished() {
        for connection in &mut inside[1..] {
            connection.send(ask());
            assert_eq!(connection.answer().status, 200);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(newcomer.join().expect("it was served"), 200);
    assert!(inside.remove(0).ended().is_empty());
    assert_eq!(node.meter(&evicted("resident")), 1.0);
}

#[test]
fn the_first_who_is_turned_away_is_told_when_to_come_back() {
    let node = Start::new(&["resident_connections_max=1"]).node();
    let _inside = Connection::to(node.address(Door::Resident));
    let mut newcomer = Connection::to(node.address(Door::Resident));
    newcomer.send(Ask::get("/v1/code").bytes());
    let busy = newcomer.answer();
    busy.refuses(503, "busy");
    assert!(busy.json()["retry_after_ms"].as_u64() >= Some(1_000));
    assert_ne!(busy.header("retry-after"), Some("0"));
}

#[test]
fn whoever_is_idle_makes_room_in_a_crowd_and_is_heard_again_after_it() {
    let node = Start::new(&["resident_threads=1", "wait_max=5ms"]).node();
    let address = node.address(Door::Resident);
    let ask = || Ask::get("/nothing").bytes();
    let open = |count| -> Vec<Connection> {
        (0..count)
            .map(|_| {
                let mut connection = Connection::to(address);
                connection.send(ask());
                connection.answer().refuses(404, "not_found");
                connection
            })
            .collect()
    };
    let mut idle = open(200);
    std::thread::sleep(Duration::from_millis(1_500));
    let mut crowd = open(100);
    let frozen = || node.meter("liangma_connections_frozen{door=\"resident\"}");
    // A machine that stops again and again is too slow for so many.
    until("the door has too many", || {
        node.signal(libc::SIGSTOP);
        let mut asked = Vec::new();
        for mut connection in crowd.drain(..) {
            if connection.try_send(&ask()) {
                asked.push(connection);
            }
        }
        std::thread::sleep(Duration::from_millis(40));
        node.signal(libc::SIGCONT);
        for mut connection in asked {
            let answer = connection.try_answer();
            if answer.is_some_and(|answer| answer.header("connection") != Some("close")) {
                crowd.push(connection);
            }
        }
        frozen() > 0.0
    });
    let cap = node.meter("liangma_connections_cap{door=\"resident\"}");
    assert!((64.0..300.0).contains(&cap), "{cap}");
    drop(crowd);
    until("nobody has to make room any more", || frozen() == 0.0);
    let heard = idle.iter_mut().filter_map(|connection| {
        connection
            .try_send(&ask())
            .then(|| connection.try_answer())?
    });
    let heard = heard.filter(|answer| answer.status == 404).count();
    let evicted = node.meter(&evicted("resident"));
    assert_eq!(heard as f64 + evicted, 200.0);
    assert!(heard > 0);
}

#[test]
fn a_door_with_room_evicts_nobody_and_keeps_its_cap() {
    let node = Start::new(&["gate_connections_max=8"]).node();
    let mut idle = Connection::to(node.address(Door::Gate));
    idle.send(Ask::get("/nothing").bytes());
    idle.answer().refuses(404, "not_found");
    for _ in 0..20 {
        node.get(Door::Gate, "/nothing").refuses(404, "not_found");
        std::thread::sleep(Duration::from_millis(100));
    }
    idle.send(Ask::get("/nothing").bytes());
    idle.answer().refuses(404, "not_found");
    assert_eq!(node.meter(&evicted("gate")), 0.0);
    let meter = |name: &str| node.meter(&format!("{name}{{door=\"gate\"}}"));
    assert_eq!(meter("liangma_connections_cap"), 8.0);
    assert_eq!(meter("liangma_retry_after_seconds"), 2.0);
}

#[test]
fn whoever_sends_many_requests_at_once_is_answered_all_of_them_in_order() {
    let node = Start::new(&[]).node();
    let session = node.seals().session(&person(1));
    let mut many = Connection::to(node.address(Door::Resident));
    let (known, unknown) = (Ask::get("/v1/code").bearer(&session), Ask::get("/nothing"));
    let pair = [known.bytes(), unknown.bytes()].concat();
    many.send(pair.repeat(50));
    for _ in 0..50 {
        assert_eq!(many.answer().status, 200);
        assert_eq!(many.answer().status, 404);
    }
}
