//! Bodies of requests: judged before they are read, bounded in bytes and time, ended when their sender may send no more.

use crate::harness::*;
use crate::redis::Server;
use liangma::http::door::Door;
use liangma::seal::ring::TokenKind;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Every door's paths that take a body, and who may use them.
const WITH_BODIES: [(Door, &str, &str); 15] = [
    (Door::Gate, "/v1/scan", "scanner"),
    (Door::Gate, "/v1/scan/bulk", "scanner"),
    (Door::Ops, "/v1/feed", "authority"),
    (Door::Ops, "/v1/revocations", "operator"),
    (Door::Ops, "/v1/appeals/AAAA", "authority"),
    (Door::Desk, "/v1/declarations", "resident"),
    (Door::Desk, "/v1/declarations/bulk", "organisation"),
    (Door::Desk, "/v1/entries", "resident"),
    (Door::Desk, "/v1/family", "resident"),
    (Door::Desk, "/v1/family/AAAA/session", "resident"),
    (Door::Desk, "/v1/grants", "resident"),
    (Door::Desk, "/v1/registrations", "staff"),
    (Door::Desk, "/v1/appeals", "resident"),
    (Door::Desk, "/v1/sessions/revoke", "resident"),
    (Door::Desk, "/v1/offline-codes/revoke", "resident"),
];

fn token(seals: &Credentials, role: &str) -> String {
    match role {
        "scanner" => seals.scanner(),
        "authority" => seals.authority(),
        "operator" => seals.operator(),
        "organisation" => seals.organisation("gz-school"),
        "staff" => seals.staff("wang-01", "440100"),
        _ => seals.session(&person(1)),
    }
}

/// A head that promises a body.
fn promises(path: &str, token: &str, bytes: usize) -> Vec<u8> {
    let ask = Ask::new("POST", path).header("content-length", &bytes.to_string());
    match token {
        "" => ask.bytes(),
        token => ask.bearer(token).bytes(),
    }
}

#[test]
fn credentials_are_judged_before_a_byte_of_a_body_comes() {
    let node = NodeBuilder::new(&["desk_requests_per_second=10000"]).node();
    let seals = node.seals();
    let garbage = "A".repeat(120);
    for (door, path, role) in WITH_BODIES {
        let wrong = match role {
            "scanner" => seals.authority(),
            _ => seals.scanner(),
        };
        let old = match role {
            "scanner" => seals.pass(TokenKind::Scanner, "x", long_ago()),
            "authority" => seals.pass(TokenKind::Authority, "x", long_ago()),
            "operator" => seals.pass(TokenKind::Operator, "x", long_ago()),
            "organisation" => seals.pass(TokenKind::Organisation, "x", long_ago()),
            "staff" => seals.pass(TokenKind::Staff, "x", long_ago()),
            _ => seals.session_until(&person(1), long_ago()),
        };
        for (bearer, status, code) in [
            ("", 401, "unauthorized"),
            (&garbage, 401, "unauthorized"),
            (&old, 401, "session_expired"),
            (&wrong, 403, "not_permitted"),
        ] {
            for bytes in [10, 1 << 30] {
                let mut asked = Connection::to(node.address(door));
                asked.send(promises(path, bearer, bytes));
                asked.answer().refuses(status, code);
            }
            // Neither a media type, nor a coding, nor an idempotency key is looked at before.
            let mut asked = Connection::to(node.address(door));
            let ask = Ask::new("POST", path)
                .header("content-length", "10")
                .header("content-type", "image/png")
                .header("content-encoding", "gzip")
                .header("idempotency-key", &"x".repeat(100));
            let ask = if bearer.is_empty() {
                ask
            } else {
                ask.bearer(bearer)
            };
            asked.send(ask.bytes());
            asked.answer().refuses(status, code);
        }
    }
    for (door, method, path, status, code) in [
        (Door::Gate, "PUT", "/v1/scan", 405, "method_not_allowed"),
        (Door::Desk, "POST", "/nowhere", 404, "not_found"),
        (
            Door::Resident,
            "POST",
            "/v1/code",
            405,
            "method_not_allowed",
        ),
        (Door::Desk, "DELETE", "/v1/health", 401, "unauthorized"),
    ] {
        let mut asked = Connection::to(node.address(door));
        asked.send(
            Ask::new(method, path)
                .header("content-length", "1073741824")
                .bytes(),
        );
        asked.answer().refuses(status, code);
    }
}

#[test]
fn bodies_past_their_bounds_are_refused_by_their_length_alone() {
    let node = NodeBuilder::new(&["desk_requests_per_second=10000"]).node();
    let seals = node.seals();
    for (door, path, role) in WITH_BODIES {
        let mut asked = Connection::to(node.address(door));
        asked.send(promises(path, &token(&seals, role), 2 << 40));
        asked.answer().refuses(413, "too_large");
    }
    let mut asked = Connection::to(node.address(Door::Desk));
    asked.send(promises("/v1/sessions", "", 1 << 20));
    asked.answer().refuses(413, "too_large");
    // A length that is not said is met on the way.
    for (door, path, role) in [
        (Door::Desk, "/v1/declarations", "resident"),
        (Door::Gate, "/v1/scan", "scanner"),
        (Door::Desk, "/v1/sessions", ""),
    ] {
        let mut asked = Connection::to(node.address(door));
        let ask = Ask::new("POST", path).header("transfer-encoding", "chunked");
        let ask = if role.is_empty() {
            ask
        } else {
            ask.bearer(&token(&seals, role))
        };
        asked.send(ask.bytes());
        asked.chunk("x".repeat(20_000));
        asked.answer().refuses(413, "too_large");
    }
}

/// Sends a large body without looking whether anybody reads it; then the answer.
fn blindly(address: SocketAddr, path: &str, bytes: usize) -> Answer {
    let mut asked = Connection::to(address);
    asked.send(promises(path, "", bytes));
    asked.send(vec![b'x'; bytes]);
    asked.answer()
}

#[test]
fn nothing_that_is_sent_without_credentials_costs_more_than_a_head() {
    let node = Node::start();
    let seals = node.seals();
    let code = node.code(&seals.session(&person(1)));
    let desk = node.address(Door::Desk);
    blindly(desk, "/v1/declarations/bulk", 4_000_000).refuses(401, "unauthorized");
    let before = node.memory();
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                blindly(desk, "/v1/declarations/bulk", 4_000_000).refuses(401, "unauthorized");
            });
        }
        for _ in 0..20 {
            assert_eq!(node.scan(&seals.scanner(), &code).status, 200);
        }
    });
    let grown = node.memory().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more");
}

#[test]
fn a_refusal_is_received_by_those_who_send_everything_first() {
    let node = Node::start();
    let scanner = node.seals().scanner();
    for _ in 0..10 {
        blindly(node.address(Door::Gate), "/v1/scan", 3_000_000).refuses(401, "unauthorized");
        blindly(node.address(Door::Desk), "/v1/sessions", 3_000_000).refuses(413, "too_large");
        blindly(node.address(Door::Desk), "/nowhere", 3_000_000).refuses(404, "not_found");
        blindly(node.address(Door::Ops), "/v1/feed", 3_000_000).refuses(401, "unauthorized");
        // A roster of a hundred thousand codes and more.
        let gate = node.address(Door::Gate);
        blindly(gate, "/v1/scan/bulk", 12_000_000).refuses(401, "unauthorized");
        let mut asked = Connection::to(node.address(Door::Gate));
        asked.send(promises("/v1/scan", &scanner, 3_000_000));
        asked.send(vec![b'x'; 3_000_000]);
        asked.answer().refuses(413, "too_large");
        // A head that is far too long.
        let mut asked = Connection::to(node.address(Door::Resident));
        let head = Ask::get("/v1/code").header("x", &"y".repeat(2 << 20));
        asked.send(head.bytes());
        asked.answer().refuses(413, "too_large");
    }
}

#[test]
fn gates_scan_while_a_full_door_waits_for_bodies() {
    let node = NodeBuilder::new(&["gate_connections_max=50"]).node();
    let seals = node.seals();
    let code = node.code(&seals.session(&person(1)));
    let genuine = seals.scanner();
    let garbage = "A".repeat(120);
    for (path, token) in [
        ("/v1/scan", &garbage),
        ("/v1/scan/bulk", &garbage),
        ("/v1/scan/bulk", &genuine),
    ] {
        let mut dripping: Vec<Connection> = (0..50)
            .filter_map(|_| {
                let mut one = Connection::try_to(node.address(Door::Gate))?;
                one.try_send(&promises(path, token, 4_000)).then_some(one)
            })
            .collect();
        until("those who may not send are out of the door", || {
            for one in &mut dripping {
                one.try_send(b"A");
            }
            node.meter("liangma_connections{door=\"gate\"}") <= 5.0
        });
        for _ in 0..60 {
            for one in &mut dripping {
                one.try_send(b"A");
            }
            assert_eq!(node.scan(&genuine, &code).status, 200, "{path}");
        }
    }
}

#[test]
fn gates_scan_while_callers_without_credentials_ask_a_full_door_on_and_on() {
    const GATES: usize = 20;
    let node = NodeBuilder::new(&["gate_connections_max=50"]).node();
    let seals = node.seals();
    let address = node.address(Door::Gate);
    let session = seals.session(&person(1));
    let mut gate = Connection::to(address);
    let garbage = "A".repeat(120);
    for (what, ask) in [
        ("no credential", Ask::post("/v1/scan", "A".repeat(88))),
        (
            "a credential of nobody",
            Ask::post("/v1/scan", "A".repeat(88)).bearer(&garbage),
        ),
        (
            "a resident's",
            Ask::post("/v1/scan", "A".repeat(88)).bearer(&session),
        ),
        ("another path", Ask::get("/nothing")),
        ("the page", Ask::get("/")),
    ] {
        let scan = Ask::post("/v1/scan", node.code(&session)).bearer(&seals.scanner());
        let (stopped, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let _stops = SetOnDrop(&stopped);
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut held: Vec<Connection> = Vec::new();
                    while !stopped.load(SeqCst) {
                        if held.len() < 40 {
                            held.extend(Connection::try_to(address));
                        }
                        // Each asks twice a second: too often to be idle, and seldom enough to cost nothing.
                        held.retain_mut(|one| {
                            std::thread::sleep(Duration::from_millis(10));
                            asked.fetch_add(1, SeqCst);
                            one.try_send(&ask.bytes()) && one.try_answer().is_some()
                        });
                    }
                });
            }
            until("all of them have asked", || asked.load(SeqCst) > 200);
            let mut tries = 0;
            for _ in 0..GATES {
                // One who was known before stays, and one who comes gets in.
                gate.send(scan.bytes());
                assert_eq!(gate.answer().status, 200, "{what}");
                until("a gate that comes is served", || {
                    tries += 1;
                    let mut new = Connection::to(address);
                    new.try_send(&scan.bytes())
                        && new.try_answer().is_some_and(|answer| answer.status == 200)
                });
            }
            // Most at their first try: the door may be full for a moment.
            assert!(tries <= 2 * GATES, "{what}: {tries}");
        });
    }
}

#[test]
fn a_door_that_fills_up_keeps_no_connection_of_whom_it_does_not_know() {
    let node = NodeBuilder::new(&["gate_connections_max=10"]).node();
    let seals = node.seals();
    let scan = Ask::post("/v1/scan", node.code(&seals.session(&person(1))));
    let scan = scan.bearer(&seals.scanner());
    let ends = |answer: &Answer| answer.header("connection") == Some("close");
    let mut gates: Vec<Connection> = (0..9)
        .map(|_| Connection::to(node.address(Door::Gate)))
        .collect();
    for gate in &mut gates {
        gate.send(scan.bytes());
        assert_eq!(gate.answer().status, 200);
    }
    for (what, ask) in [
        ("no credential", Ask::post("/v1/scan", "A".repeat(88))),
        ("another path", Ask::get("/nothing")),
        ("the page", Ask::get("/")),
    ] {
        // Once the one before has left; else it is told that the door is busy.
        let asks = || {
            let mut served = None;
            until("somebody unknown is let in", || {
                let mut unknown = Connection::to(node.address(Door::Gate));
                let answer = unknown.try_send(&ask.bytes()).then(|| unknown.try_answer());
                served = answer.flatten().filter(|answer| answer.status != 503);
                served.is_some()
            });
            served.expect("just seen")
        };
        until("the door has seen that it fills up", || ends(&asks()));
        for _ in 0..3 {
            assert!(ends(&asks()), "{what}");
        }
        for gate in &mut gates {
            gate.send(scan.bytes());
            let answer = gate.answer();
            assert!(answer.status == 200 && !ends(&answer), "{what}");
        }
    }
}

#[test]
fn a_full_door_gives_up_those_who_do_not_send_the_body_of_a_scan() {
    let node = NodeBuilder::new(&[
        "gate_connections_max=20",
        "head_timeout=60s",
        "stall_timeout=60s",
    ])
    .node();
    let seals = node.seals();
    let code = node.code(&seals.session(&person(1)));
    let scanner = seals.scanner();
    let mut slow: Vec<Connection> = (0..20)
        .map(|_| Connection::to(node.address(Door::Gate)))
        .collect();
    for one in &mut slow {
        one.try_send(&promises("/v1/scan", &scanner, 88));
    }
    until("a scan gets in", || {
        for one in &mut slow {
            one.try_send(b"A");
        }
        node.scan(&scanner, &code).status == 200
    });
    let closed = |why| {
        node.meter(&format!(
            "liangma_connections_closed_total{{door=\"gate\",reason=\"{why}\"}}"
        ))
    };
    assert!(closed("body") + closed("evicted") > 0.0);
}

#[test]
fn a_small_body_has_the_time_of_a_head() {
    let node = NodeBuilder::new(&["head_timeout=300ms"]).node();
    let seals = node.seals();
    for (door, path, role) in [
        (Door::Gate, "/v1/scan", "scanner"),
        (Door::Desk, "/v1/grants", "resident"),
    ] {
        let mut slow = Connection::to(node.address(door));
        slow.send(promises(path, &token(&seals, role), 4_000));
        until("it is given up", || !slow.try_send(b" "));
    }
    let mut slow = Connection::to(node.address(Door::Desk));
    slow.send(promises("/v1/sessions", "", 4_000));
    until("it is given up", || !slow.try_send(b" "));
    let late = |door: &str| {
        node.meter(&format!(
            "liangma_connections_closed_total{{door=\"{door}\",reason=\"body\"}}"
        ))
    };
    assert_eq!((late("gate"), late("desk")), (1.0, 2.0));
}

#[test]
fn bodies_under_way_at_one_door_are_bounded_together() {
    let node = NodeBuilder::new(&["body_bytes_max=64KiB", "body_timeout=5m"]).node();
    let seals = node.seals();
    let school = seals.organisation("gz-school");
    let resident = seals.session(&person(1));
    let mut first = Connection::to(node.address(Door::Desk));
    first.send(promises("/v1/declarations/bulk", &school, 1 << 20));
    first.send(vec![b' '; 40 << 10]);
    let declares = || {
        let mut second = Connection::to(node.address(Door::Desk));
        let ask = Ask::new("POST", "/v1/declarations/bulk").bearer(&school);
        second.send(ask.header("transfer-encoding", "chunked").bytes());
        // In pieces, so that it must be gathered.
        for _ in 0..40 {
            second.try_send(format!("400\r\n{}\r\n", " ".repeat(1 << 10)).as_bytes());
        }
        second.try_send(b"0\r\n\r\n");
        second.answer()
    };
    until("the first body has taken its bytes", || {
        declares().status == 503
    });
    declares().refuses(503, "busy");
    // What comes in one piece takes none of them.
    let grant = Ask::post("/v1/grants", "{}").json().bearer(&resident);
    assert_eq!(grant.at(node.address(Door::Desk)).status, 422);
    drop(first);
    until("its bytes are given back", || declares().status == 200);
}

#[test]
fn a_scanner_has_two_bulks_at_once() {
    let node = Node::start();
    let seals = node.seals();
    let (scanner, other) = (seals.scanner(), seals.scanner_of("gz-school"));
    let begin = |token: &str| {
        let mut bulk = Connection::to(node.address(Door::Gate));
        bulk.send(promises("/v1/scan/bulk", token, 100));
        bulk.send("A\n");
        bulk
    };
    let mut under_way = [begin(&scanner), begin(&scanner)];
    for bulk in &mut under_way {
        assert_eq!(bulk.head().expect("an answer").status, 200);
    }
    begin(&scanner).answer().refuses(429, "rate_limited");
    assert_eq!(begin(&other).head().expect("an answer").status, 200);
    drop(under_way);
    until("both have ended", || {
        begin(&scanner).head().expect("an answer").status == 200
    });
}

/// Has an operator revoke a token.
fn revoke(node: &Node, token: &str) {
    let body = serde_json::json!({ "token": token }).to_string();
    let ask = Ask::post("/v1/revocations", body).json();
    let answer = ask
        .bearer(&node.seals().operator())
        .at(node.address(Door::Ops));
    assert!(answer.status < 300, "{}", text(&answer.body));
}

/// Tries something at one node while it is revoked at the same, and at another over the same Redis.
fn on_any_node(tries: impl Fn(&Node, &Node)) {
    let node = Node::start();
    tries(&node, &node);
    let (server, ring) = (Server::start(&[]), Ring::make());
    let start = || {
        NodeBuilder::new(&[])
            .over_redis(&server.url(), &ring)
            .node()
    };
    let (node, other) = (start(), start());
    tries(&node, &other);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_bulk_whose_token_is_revoked_ends_at_once_and_says_so() {
    on_any_node(|node, other| {
        let seals = node.seals();
        let code = node.code(&seals.session(&person(1)));
        for sends in [true, false] {
            let scanner = seals.scanner();
            let mut bulk = Connection::to(node.address(Door::Gate));
            let ask = Ask::new("POST", "/v1/scan/bulk").bearer(&scanner);
            bulk.send(ask.header("transfer-encoding", "chunked").bytes());
            bulk.chunk(format!("{code}\n"));
            assert_eq!(bulk.head().expect("an answer").status, 200);
            assert!(text(&bulk.piece().expect("a verdict")).contains("\"state\""));
            revoke(other, &scanner);
            let mut said = None;
            until("the bulk is ended", || {
                if sends {
                    bulk.try_send(format!("{:x}\r\n{code}\n\r\n", code.len() + 1).as_bytes());
                }
                if !bulk.is_quiet_for(Duration::from_millis(100)) {
                    said = bulk.piece().map(|piece| text(&piece));
                }
                said.as_deref() == Some("{\"error\":\"unauthorized\"}\n")
            });
            assert_eq!(bulk.piece(), None);
            assert_eq!(bulk.ended(), b"");
        }
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_feed_whose_token_is_revoked_applies_nothing_more() {
    on_any_node(|node, other| {
        let seals = node.seals();
        let (session, chen) = (seals.session(&person(1)), person(1));
        node.feed(&seals.authority(), &[chen.set("confirmed", 1)]);
        for sends in [true, false] {
            let authority = seals.authority();
            let mut feed = Connection::to(node.address(Door::Ops));
            let ask = Ask::new("POST", "/v1/feed").bearer(&authority);
            feed.send(ask.header("transfer-encoding", "chunked").bytes());
            feed.chunk(format!("{}\n", chen.clear("confirmed", 2)));
            revoke(other, &authority);
            // What is not known here yet is known within two seconds; the body goes on until then.
            until("the feed is ended", || {
                if sends {
                    feed.try_send(b"1\r\n\n\r\n");
                }
                !feed.is_quiet_for(Duration::from_millis(100))
            });
            feed.answer().refuses(401, "unauthorized");
            assert_eq!(node.show(&session).state(), "red");
        }
    });
}

#[test]
fn a_feed_of_long_lines_holds_no_more_of_them_than_a_batch_of_short_ones() {
    let node = Node::start();
    let seals = node.seals();
    let chen = person(1);
    let mut feed = Connection::to(node.address(Door::Ops));
    let ask = Ask::new("POST", "/v1/feed").bearer(&seals.authority());
    feed.send(ask.header("transfer-encoding", "chunked").bytes());
    let line = chen.set("confirmed", 1);
    let line = format!("{line:<4000}\n");
    for _ in 0..300 {
        feed.chunk(&line);
    }
    let session = seals.session(&chen);
    until("what came is applied before the body ends", || {
        node.show(&session).state() == "red"
    });
    feed.send("0\r\n\r\n");
    assert_eq!(feed.answer().json()["applied"], 1);
}

#[test]
fn what_was_admitted_before_its_body_is_judged_again_after_it() {
    let node = Node::start();
    let seals = node.seals();
    for (door, path, token, body) in [
        (Door::Gate, "/v1/scan", seals.scanner(), "A"),
        (
            Door::Desk,
            "/v1/declarations/bulk",
            seals.organisation("gz-school"),
            "{",
        ),
    ] {
        let mut asked = Connection::to(node.address(door));
        asked.send(
            Ask::new("POST", path)
                .bearer(&token)
                .header("content-length", "1")
                .header("expect", "100-continue")
                .bytes(),
        );
        let mut go = [0; 25];
        asked.stream.read_exact(&mut go).expect("it is admitted");
        assert!(go.starts_with(b"HTTP/1.1 100"));
        revoke(&node, &token);
        asked.stream.write_all(body.as_bytes()).expect("it reads");
        asked.answer().refuses(401, "unauthorized");
    }
}

#[test]
fn a_code_is_as_old_as_it_is_when_all_of_it_has_come() {
    let node = NodeBuilder::new(&["code_life=1s", "clock_skew=0ms", "head_timeout=60s"]).node();
    let seals = node.seals();
    let scanner = seals.scanner();
    let code = node.code(&seals.session(&person(1)));
    let late = |body: &str, json: bool| {
        let mut one = Connection::to(node.address(Door::Gate));
        let ask = Ask::new("POST", "/v1/scan").bearer(&scanner);
        let ask = ask.header("content-length", &body.len().to_string());
        let ask = if json { ask.json() } else { ask };
        one.send(ask.bytes());
        one
    };
    let json = serde_json::json!({ "code": code }).to_string();
    let mut one = late(&code, false);
    let mut two = late(&json, true);
    let mut three = late(&code, false);
    three.send(&code[..87]);
    until("the code has expired", || {
        node.scan(&scanner, &code).status == 422
    });
    one.send(&code);
    one.answer().refuses(422, "code_expired");
    two.send(&json);
    two.answer().refuses(422, "code_expired");
    three.send(&code[87..]);
    three.answer().refuses(422, "code_expired");
}

#[test]
fn a_hundred_thousand_codes_are_answered_to_who_sends_them_all_before_reading() {
    let node = Node::start();
    let seals = node.seals();
    let (green, red) = (person(1), person(2));
    node.feed(
        &seals.authority(),
        &[green.resident(), red.set("confirmed", 1)],
    );
    let [green, red] = [&green, &red].map(|person| node.code(&seals.session(person)));
    let body = format!("{green}\n{red}\n").repeat(50_000);
    let before = node.memory();
    for _ in 0..2 {
        let mut connection = Connection::to(node.address(Door::Gate));
        let scanner = seals.scanner();
        connection.send(Ask::post("/v1/scan/bulk", &body).bearer(&scanner).bytes());
        std::thread::sleep(Duration::from_millis(300));
        let answer = connection.answer();
        let told = text(&answer.body);
        assert_eq!(told.lines().count(), 100_000);
        for (line, state) in told.lines().zip(["\"green\"", "\"red\""].iter().cycle()) {
            assert!(line.contains(state), "{line}");
        }
    }
    let grown = node.memory().saturating_sub(before);
    assert!(grown < 40 << 10, "{grown} KiB more");
}
