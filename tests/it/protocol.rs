//! The letter of HTTP: what RFC 9110 and 9112 say of heads, lengths and methods, and what machines put around codes.

use crate::harness::*;
use liangma::http::door::Door;
use std::net::SocketAddr;

/// Everything that GET asks for, at every door.
fn readable(seals: &Credentials) -> Vec<(Door, &'static str, String)> {
    let (resident, authority) = (seals.session(&person(1)), seals.authority());
    let school = seals.organisation("gz-school");
    [
        (Door::Resident, "/v1/code", &resident),
        (Door::Resident, "/", &resident),
        (Door::Gate, "/gate", &resident),
        (Door::Desk, "/v1/status", &resident),
        (Door::Desk, "/v1/health", &resident),
        (Door::Desk, "/v1/trip", &resident),
        (Door::Desk, "/v1/declarations", &resident),
        (Door::Desk, "/v1/entries", &resident),
        (Door::Desk, "/v1/family", &resident),
        (Door::Desk, "/v1/grants", &resident),
        (Door::Desk, "/v1/roster", &school),
        (Door::Desk, "/v1/accesses", &resident),
        (Door::Desk, "/v1/appeals", &resident),
        (Door::Desk, "/openapi.json", &resident),
        (Door::Ops, "/live", &authority),
        (Door::Ops, "/ready", &authority),
        (Door::Ops, "/metrics", &authority),
        (Door::Ops, "/v1/appeals?purpose=office", &authority),
        (Door::Ops, "/", &authority),
    ]
    .map(|(door, path, token)| (door, path, token.clone()))
    .to_vec()
}

#[test]
fn head_asks_what_get_asks_and_is_told_the_head_alone() {
    let node = NodeBuilder::new(&["desk_requests_per_second=10000"]).node();
    for (door, path, token) in readable(&node.seals()) {
        for bearer in [Some(token.as_str()), None] {
            let mut connection = Connection::to(node.address(door));
            let ask = |method| {
                let ask = Ask::new(method, path);
                bearer.map_or(ask.bytes(), |token| {
                    Ask::new(method, path).bearer(token).bytes()
                })
            };
            connection.send(ask("GET"));
            let got = connection.answer();
            connection.send(ask("HEAD"));
            let head = connection.head().expect("a head");
            assert_eq!(head.status, got.status, "{door:?} {path}");
            let names = |answer: &Answer| {
                let names = answer.headers.iter().map(|(name, _)| name.clone());
                names.collect::<Vec<_>>()
            };
            assert_eq!(names(&head), names(&got), "{door:?} {path}");
            assert_eq!(head.header("content-type"), got.header("content-type"));
            // The next answer begins where the head ended.
            connection.send(ask("GET"));
            assert_eq!(connection.answer().status, got.status, "{door:?} {path}");
        }
    }
}

#[test]
fn every_answer_but_a_page_is_not_to_be_guessed_at() {
    let node = Node::start();
    let seals = node.seals();
    for (door, path, token) in readable(&seals) {
        let answer = Ask::get(path).bearer(&token).at(node.address(door));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    for (door, path) in [
        (Door::Resident, "/v1/code"),
        (Door::Gate, "/nowhere"),
        (Door::Desk, "/v1/status"),
    ] {
        let answer = Ask::get(path).at(node.address(door));
        assert!(answer.status >= 400);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    let scan = Ask::post("/v1/scan", "A").bearer(&seals.scanner());
    let answer = scan.at(node.address(Door::Gate));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let mut broken = Connection::to(node.address(Door::Gate));
    broken.send("rubbish\r\n\r\n");
    let answer = broken.answer();
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[test]
fn heads_that_break_the_rules_are_refused_at_every_door() {
    let node = Node::start();
    for door in Door::ALL {
        for (head, status, code) in [
            ("GET / HTTP/1.1\r\n", 400, "malformed"),
            ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n", 400, "malformed"),
            ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n", 400, "malformed"),
            ("GET / HTTP/1.0\r\nhost: a\r\nhost: b\r\n", 400, "malformed"),
            ("GET / HTTP/1.1\r\nhost: a, b\r\n", 400, "malformed"),
            ("GET / HTTP/1.1\r\nhost: a b\r\n", 400, "malformed"),
            (
                "GET / HTTP/1.1\r\nhost: a\r\nexpect: gold\r\n",
                417,
                "expectation_failed",
            ),
            (
                "GET / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nexpect: gold\r\n",
                417,
                "expectation_failed",
            ),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n",
                400,
                "malformed",
            ),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n",
                400,
                "malformed",
            ),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
                400,
                "malformed",
            ),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n",
                400,
                "malformed",
            ),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n",
                400,
                "malformed",
            ),
        ] {
            let mut connection = Connection::to(node.address(door));
            connection.send(format!("{head}\r\n"));
            connection.answer().refuses(status, code);
        }
        let mut old = Connection::to(node.address(door));
        old.send("GET /nowhere HTTP/1.0\r\n\r\n");
        old.answer().refuses(404, "not_found");
    }
}

#[test]
fn what_must_be_said_once_is_not_understood_twice() {
    let node = Node::start();
    let seals = node.seals();
    let (scanner, session) = (seals.scanner(), seals.session(&person(1)));
    let code = node.code(&session);
    let gate = node.address(Door::Gate);
    let scan = || Ask::post("/v1/scan", &code).bearer(&scanner);
    assert_eq!(scan().at(gate).status, 200);
    for two in [&scanner, &seals.scanner(), "AAAA"] {
        let refused = scan().bearer(two).at(gate);
        refused.refuses(401, "unauthorized");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    }
    let types = scan().header("content-type", "text/plain").json().at(gate);
    types.refuses(415, "unsupported_media_type");
    let grant = r#"{"organisation":"gz-school","until":"2099-12-31"}"#;
    let grant = Ask::post("/v1/grants", grant).json().bearer(&session);
    let grant = grant
        .header("idempotency-key", "a")
        .header("idempotency-key", "b");
    grant.at(node.address(Door::Desk)).refuses(400, "malformed");
}

#[test]
fn an_encoded_path_is_the_path_that_it_encodes() {
    let node = NodeBuilder::new(&["desk_requests_per_second=10000"]).node();
    let seals = node.seals();
    let session = seals.session(&person(1));
    let get = |door, path: &str| {
        Ask::get(path)
            .bearer(&session)
            .at(node.address(door))
            .status
    };
    for (door, path, status) in [
        (Door::Resident, "/v1/%63ode", 200),
        (Door::Resident, "/%76%31/%63%6F%64%65", 200),
        (Door::Resident, "/%70ages/resident%2Ejs", 200),
        (Door::Desk, "/v1/he%61lth", 200),
        (Door::Ops, "/r%65ady", 200),
        (Door::Resident, "/v1%2Fcode", 404),
        (Door::Resident, "/v1/%2563ode", 404),
        (Door::Resident, "/v1/code%20", 404),
        (Door::Resident, "/v1/code%00", 404),
        (Door::Resident, "/v1/%e4%bb%a3", 404),
        (Door::Resident, "/v1/%6", 404),
        (Door::Resident, "/v1/%zzode", 404),
        (Door::Resident, "/v1/%2e/code", 404),
        (Door::Desk, "/v1/health/..%2f..", 405),
    ] {
        assert_eq!(get(door, path), status, "{path}");
    }
    let (scanner, code) = (seals.scanner(), node.code(&session));
    let scan = Ask::post("/v1/sc%61n", code).bearer(&scanner);
    assert_eq!(scan.at(node.address(Door::Gate)).status, 200);
}

#[test]
fn a_body_with_a_coding_is_taken_nowhere() {
    let node = NodeBuilder::new(&["desk_requests_per_second=10000"]).node();
    let seals = node.seals();
    let resident = seals.session(&person(1));
    for (door, path, token) in [
        (Door::Gate, "/v1/scan", seals.scanner()),
        (Door::Gate, "/v1/scan/bulk", seals.scanner()),
        (Door::Ops, "/v1/feed", seals.authority()),
        (Door::Ops, "/v1/revocations", seals.operator()),
        (Door::Ops, "/v1/appeals/AAAA", seals.authority()),
        (Door::Desk, "/v1/sessions", String::new()),
        (Door::Desk, "/v1/sessions/revoke", resident.clone()),
        (Door::Desk, "/v1/offline-codes/revoke", resident.clone()),
        (Door::Desk, "/v1/declarations", resident.clone()),
        (
            Door::Desk,
            "/v1/declarations/bulk",
            seals.organisation("gz-school"),
        ),
        (Door::Desk, "/v1/entries", resident.clone()),
        (Door::Desk, "/v1/family", resident.clone()),
        (Door::Desk, "/v1/family/AAAA/session", resident.clone()),
        (Door::Desk, "/v1/grants", resident.clone()),
        (
            Door::Desk,
            "/v1/registrations",
            seals.staff("wang-01", "440100"),
        ),
        (
            Door::Desk,
            "/v1/registrations/find",
            seals.staff("wang-01", "440100"),
        ),
        (Door::Desk, "/v1/appeals", resident.clone()),
    ] {
        let ask = || match token.as_str() {
            "" => Ask::post(path, "{}"),
            token => Ask::post(path, "{}").bearer(token),
        };
        for coding in ["gzip", "GZIP", "br", "deflate, gzip", "identity, gzip", "x"] {
            let answer = ask()
                .header("content-encoding", coding)
                .at(node.address(door));
            answer.refuses(415, "unsupported_media_type");
        }
        let two = ask()
            .header("content-encoding", "identity")
            .header("content-encoding", "gzip");
        two.at(node.address(door))
            .refuses(415, "unsupported_media_type");
        let none = ask()
            .header("content-encoding", "identity")
            .at(node.address(door));
        assert_ne!(none.status, 415, "{path}");
    }
}

/// What a node says to bytes, until it ends the connection or the bytes have ended.
fn said(address: SocketAddr, bytes: &[u8]) -> String {
    let mut connection = Connection::to(address);
    connection.try_send(bytes);
    connection.finish();
    String::from_utf8_lossy(&connection.ended()).into_owned()
}

#[test]
fn no_shape_of_a_request_hides_another() {
    let node = Node::start();
    let seals = node.seals();
    let (scanner, code) = (seals.scanner(), node.code(&seals.session(&person(1))));
    let inner = text(&Ask::post("/v1/scan", &code).bearer(&scanner).bytes());
    let outer = |headers: &str, body: &str| {
        format!(
            "POST /v1/scan HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {scanner}\r\n{headers}\r\n{body}"
        )
    };
    let after = format!("0\r\n\r\n{inner}");
    let length = after.len();
    let both = format!("content-length: {length}\r\n");
    let chunked = "transfer-encoding: chunked\r\n";
    for (headers, body) in [
        // Two lengths, or one and none.
        (format!("{both}{chunked}"), after.clone()),
        (format!("{chunked}{both}"), after.clone()),
        (format!("{both}content-length: 0\r\n"), after.clone()),
        (format!("content-length: 0\r\n{both}"), after.clone()),
        (
            format!("content-length: {length}, {length}\r\n"),
            after.clone(),
        ),
        (format!("content-length: +{length}\r\n"), after.clone()),
        (format!("content-length: 0x{length:x}\r\n"), after.clone()),
        (format!("content-length: {length} 0\r\n"), after.clone()),
        ("content-length: -1\r\n".into(), after.clone()),
        ("content-length:\r\n".into(), after.clone()),
        // Codings that are nearly chunked.
        (
            format!("{both}transfer-encoding : chunked\r\n"),
            after.clone(),
        ),
        (
            format!("{both}transfer-encoding: xchunked\r\n"),
            after.clone(),
        ),
        (
            format!("{both}transfer-encoding: \"chunked\"\r\n"),
            after.clone(),
        ),
        (
            format!("{both}transfer-encoding: chunked, identity\r\n"),
            after.clone(),
        ),
        (
            format!("{both}{chunked}transfer-encoding: identity\r\n"),
            after.clone(),
        ),
        (
            format!("{both}transfer-encoding: gzip, chunked\r\n"),
            after.clone(),
        ),
        (
            format!("{both}transfer-encoding: \x0bchunked\r\n"),
            after.clone(),
        ),
        // Folded lines, and ends of lines that are none.
        (
            format!("{both}x: y\r\n transfer-encoding: chunked\r\n"),
            after.clone(),
        ),
        (
            format!("{both}transfer-encoding:\r\n chunked\r\n"),
            after.clone(),
        ),
        (
            format!("{both}x: y\rtransfer-encoding: chunked\r\n"),
            after.clone(),
        ),
        (
            format!("{both}x: y\0transfer-encoding: chunked\r\n"),
            after.clone(),
        ),
        (
            format!("{both} transfer-encoding: chunked\r\n"),
            after.clone(),
        ),
        (format!("{both}: chunked\r\n"), after.clone()),
        // Chunks whose sizes can be read in two ways.
        (chunked.into(), format!("0x0\r\n\r\n{inner}")),
        (chunked.into(), format!("-0\r\n\r\n{inner}")),
        (chunked.into(), format!("1;\nA\r\n0\r\n\r\n{inner}")),
        (chunked.into(), format!("1\rA\r\n0\r\n\r\n{inner}")),
        (chunked.into(), format!("1 1\r\nA\r\n0\r\n\r\n{inner}")),
        (
            chunked.into(),
            format!("10000000000000000\r\nA\r\n0\r\n\r\n{inner}"),
        ),
        (chunked.into(), format!("1\r\nAB0\r\n\r\n{inner}")),
        (chunked.into(), format!("g\r\nA\r\n0\r\n\r\n{inner}")),
    ] {
        let said = said(node.address(Door::Gate), outer(&headers, &body).as_bytes());
        assert!(
            !said.contains("\"state\""),
            "{headers:?} {:?}: the hidden request was answered: {said}",
            &body[..20]
        );
        let answers = said.matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{headers:?}: {said}");
    }
    // What is in order is read in order: the first answer is of the first request, the second of the second.
    for body in [
        format!("58;name=value\r\n{code}\r\n0\r\n\r\n{inner}"),
        format!("058\r\n{code}\r\n0\r\ntrailer: x\r\n\r\n{inner}"),
    ] {
        let said = said(node.address(Door::Gate), outer(chunked, &body).as_bytes());
        assert_eq!(said.matches("\"state\":\"unknown\"").count(), 2, "{said}");
    }
}

#[test]
fn what_machines_put_around_a_code_is_none_of_it() {
    let node = Node::start();
    let seals = node.seals();
    let (chen, scanner) = (person(1), seals.scanner_of("gz-school"));
    node.feed(&seals.authority(), &[chen.resident()]);
    let session = seals.session(&chen);
    let code = node.code(&session);
    let body = r#"{"organisation":"gz-school","until":"2099-12-31"}"#;
    let granted = Ask::post("/v1/grants", body).json().bearer(&session);
    let granted = granted.at(node.address(Door::Desk)).json();
    let grant = granted["code"].as_str().or(granted["grant"].as_str());
    let grant = grant.expect("a grant").to_owned();
    let mark = "\u{feff}";
    for genuine in [&code, &grant] {
        let lower = genuine.to_lowercase();
        let mixed: String = genuine
            .chars()
            .enumerate()
            .map(|(nth, c)| {
                if nth % 2 == 0 {
                    c.to_ascii_lowercase()
                } else {
                    c
                }
            })
            .collect();
        for typed in [
            genuine.clone(),
            lower.clone(),
            mixed,
            format!("{genuine}\r"),
            format!("{genuine}\n"),
            format!("{genuine}\r\n"),
            format!("{genuine}\t"),
            format!("{genuine}  "),
            format!(" {lower}\t\r\n"),
            format!("{genuine}\u{1d}"),
            format!("{genuine}\0"),
            format!("{mark}{genuine}"),
        ] {
            let gate = node.address(Door::Gate);
            let scan = Ask::post("/v1/scan", &typed).bearer(&scanner).at(gate);
            assert_eq!(scan.state(), "green", "{typed:?}");
            let json = serde_json::json!({ "code": typed.trim_start_matches(mark) }).to_string();
            for json in [json.clone(), format!("{mark}{json}")] {
                let scan = Ask::post("/v1/scan", json).json().bearer(&scanner).at(gate);
                assert_eq!(scan.state(), "green", "{typed:?} in JSON");
            }
            if typed.contains(['\n', '\r']) {
                continue;
            }
            let bulk = Ask::post("/v1/scan/bulk", format!("{typed}\r\n{code}\n{typed}"));
            let bulk = bulk.bearer(&scanner).at(gate);
            let lines = text(&bulk.body);
            let green = lines.lines().filter(|line| line.contains("\"green\""));
            assert_eq!(green.count(), 3, "{typed:?}: {lines}");
        }
    }
    // Not one more spelling of what is not a code.
    for (typed, refusal) in [
        (code.replace('A', "a") + "A", "code_invalid"),
        (format!("{}\u{130}", &code[..87]), "code_invalid"),
        (code[..87].to_lowercase(), "code_invalid"),
    ] {
        let scan = Ask::post("/v1/scan", typed).bearer(&scanner);
        scan.at(node.address(Door::Gate)).refuses(422, refusal);
    }
}

#[test]
fn a_foreign_code_is_no_code_of_ours_however_long_it_is() {
    let node = Node::start();
    let scanner = node.seals().scanner();
    let gate = node.address(Door::Gate);
    for length in [1, 88, 116, 400, 512, 513, 700, 2_953, 4_095, 4_096] {
        let foreign = format!("HC1:{}", "6BFOXN%TS3DH0YOJ58S".repeat(300));
        let foreign = &foreign[..length];
        let scan = |body: &str| Ask::post("/v1/scan", body).bearer(&scanner);
        scan(foreign).at(gate).refuses(422, "code_invalid");
        let lines = format!("{foreign}\r\n");
        scan(&lines).at(gate).refuses(422, "code_invalid");
        let json = serde_json::json!({ "code": foreign }).to_string();
        scan(&json).json().at(gate).refuses(422, "code_invalid");
        let bulk = Ask::post("/v1/scan/bulk", format!("{foreign}\nA\n")).bearer(&scanner);
        let bulk = text(&bulk.at(gate).body);
        assert_eq!(bulk, "{\"error\":\"code_invalid\"}\n".repeat(2), "{length}");
    }
    let longer = "A".repeat(4_097);
    let scan = Ask::post("/v1/scan", &longer).bearer(&scanner);
    scan.at(gate).refuses(413, "too_large");
    let bulk = Ask::post("/v1/scan/bulk", longer + "\nA").bearer(&scanner);
    let bulk = text(&bulk.at(gate).body);
    assert_eq!(
        bulk,
        "{\"error\":\"too_large\"}\n{\"error\":\"code_invalid\"}\n"
    );
}

#[test]
fn a_mark_before_a_text_is_none_of_it() {
    let node = NodeBuilder::new(&["desk_requests_per_second=10000"]).node();
    let seals = node.seals();
    let (one, two) = (person(1), person(2));
    let fed = node.post_feed(
        &seals.authority(),
        format!(
            "\u{feff}{}\r\n{}\n",
            one.set("confirmed", 1),
            two.resident()
        ),
    );
    assert_eq!(fed.json()["applied"], 2, "{}", text(&fed.body));
    assert_eq!(node.show(&seals.session(&one)).state(), "red");
    let token = seals.session(&two);
    let body = serde_json::json!({ "organisation": "gz-school", "until": "2099-12-31" });
    let grant = Ask::post("/v1/grants", format!("\u{feff}{body}"))
        .json()
        .bearer(&token);
    assert_eq!(grant.at(node.address(Door::Desk)).status, 201);
    let school = seals.organisation("gz-school");
    let line = r#"{"key":"1","for":{"cert_type":"10","cert_no":"x"},"symptoms":["none"]}"#;
    let bulk = Ask::post("/v1/declarations/bulk", format!("\u{feff}{line}\n{line}\n"));
    let told = bulk.bearer(&school).at(node.address(Door::Desk)).json();
    assert_eq!(
        told["rejected"][0]["code"], told["rejected"][1]["code"],
        "{told}"
    );
}

#[test]
fn a_bad_token_is_told_before_a_bad_body() {
    let node = Node::start();
    let seals = node.seals();
    for body in ["{", "", "[]", "{\"code\":7}", &"x".repeat(8_000)] {
        let scan = || Ask::post("/v1/scan", body).json();
        scan()
            .at(node.address(Door::Gate))
            .refuses(401, "unauthorized");
        let bad = scan().bearer("AAAA").at(node.address(Door::Gate));
        bad.refuses(401, "unauthorized");
        let wrong = scan()
            .bearer(&seals.authority())
            .at(node.address(Door::Gate));
        wrong.refuses(403, "not_permitted");
    }
}
