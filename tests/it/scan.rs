//! Scanning: a gate reads one code.

use crate::harness::*;
use liangma::clock::Time;
use liangma::http::door::Door;
use liangma::seal::ring::TokenKind;
use serde_json::json;

#[test]
fn a_gate_is_told_why_where_a_setting_says_so_alone() {
    for (settings, told) in [
        (&[][..], 0),
        (&["gate_reasons=none"], 0),
        (&["gate_reasons=all"], 2),
    ] {
        let node = NodeBuilder::new(settings).node();
        let seals = node.seals();
        let (scanner, chen) = (seals.scanner(), person(1));
        let reds = [chen.set("close_contact", 1), chen.set("confirmed", 2)];
        node.feed(&seals.authority(), &reds);
        let code = node.code(&seals.session(&chen));
        let verdict = node.scan(&scanner, &code).json();
        let ask = Ask::post("/v1/scan/bulk", format!("{code}\n")).bearer(&scanner);
        let bulk = ask.at(node.address(Door::Gate)).json();
        for verdict in [verdict, bulk] {
            assert_eq!(
                (&verdict["state"], &verdict["status"]),
                (&json!("red"), &json!("10"))
            );
            assert_eq!(
                verdict["reasons"].as_array().unwrap().len(),
                told,
                "{settings:?}"
            );
        }
    }
}

#[test]
fn one_code_follows_its_resident_from_green_to_red_and_back() {
    let node = NodeBuilder::new(&["gate_reasons=all"]).node();
    let seals = node.seals();
    let (scanner, authority) = (seals.scanner(), seals.authority());
    let chen = person(1);
    node.feed(&authority, &[chen.resident()]);
    let code = node.code(&seals.session(&chen));
    let verdict = node.scan(&scanner, &code).json();
    assert_eq!(
        (&verdict["state"], &verdict["status"]),
        (&json!("green"), &json!("00"))
    );
    assert_eq!(
        (&verdict["name"], &verdict["cert_no"]),
        (&json!("陈**"), &json!(chen.mask()))
    );
    assert_eq!(verdict["assurance"], "real_person");
    assert!(
        verdict["age_ms"].as_u64().is_some()
            && verdict["issued_at"].is_string()
            && verdict["as_of"].is_string()
    );
    node.feed(
        &authority,
        &[chen.set("close_contact", 1), chen.set("confirmed", 2)],
    );
    let verdict = node.scan(&scanner, &code).json();
    assert_eq!(
        (&verdict["state"], &verdict["status"]),
        (&json!("red"), &json!("10"))
    );
    let reasons = verdict["reasons"].as_array().unwrap();
    let reasons: Vec<_> = reasons
        .iter()
        .map(|reason| reason["reason"].as_str().unwrap())
        .collect();
    assert_eq!(reasons, ["confirmed", "close_contact"]);
    node.feed(
        &authority,
        &[chen.clear("close_contact", 3), chen.clear("confirmed", 4)],
    );
    assert_eq!(node.scan(&scanner, &code).state(), "green");
}

#[test]
fn a_code_comes_bare_in_text_or_in_json() {
    let node = Node::start();
    let seals = node.seals();
    let chen = person(1);
    node.feed(&seals.authority(), &[chen.resident()]);
    let code = node.code(&seals.session(&chen));
    let ask = |media: &str, body: String| {
        let ask = Ask::post("/v1/scan", body).bearer(&seals.scanner());
        ask.header("content-type", media)
            .at(node.address(Door::Gate))
    };
    for media in ["text/plain", "text/plain; charset=utf-8"] {
        assert_eq!(ask(media, code.clone()).state(), "green");
        assert_eq!(ask(media, format!("{code}\r\n")).state(), "green");
    }
    assert_eq!(
        ask("application/json", json!({ "code": code }).to_string()).state(),
        "green"
    );
    ask("application/json", code.clone()).refuses(400, "malformed");
    ask("application/json", json!({ "code": 7 }).to_string()).refuses(400, "malformed");
    ask("image/png", code.clone()).refuses(415, "unsupported_media_type");
    ask("text/plain", format!("{code}{}", "A".repeat(600))).refuses(422, "code_invalid");
    ask("text/plain", format!("{code}{}", "A".repeat(5000))).refuses(413, "too_large");
}

#[test]
fn a_code_that_was_shown_before_its_resident_was_known_is_unknown() {
    let node = Node::start();
    let seals = node.seals();
    let code = node.code(&seals.session(&person(1)));
    let verdict = node.scan(&seals.scanner(), code).json();
    assert_eq!(verdict["state"], "unknown");
    assert_eq!(verdict.get("status"), None);
}

#[test]
fn a_code_that_was_changed_anywhere_is_invalid() {
    let node = Node::start();
    let seals = node.seals();
    let scanner = seals.scanner();
    let chen = person(1);
    node.feed(&seals.authority(), &[chen.resident()]);
    let code = node.code(&seals.session(&chen));
    let mut gate = Connection::to(node.address(Door::Gate));
    let mut refuses = |code: &str| {
        gate.send(Ask::post("/v1/scan", code).bearer(&scanner).bytes());
        gate.answer().refuses(422, "code_invalid");
    };
    for at in 0..code.len() {
        let mut changed = code.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        refuses(&text(&changed));
        refuses(&code[..at]);
    }
    refuses(&format!("{code}A"));
    refuses("陈美玲");
    assert_eq!(node.scan(&scanner, &code).state(), "green");
}

#[test]
fn a_code_of_another_key_ring_is_invalid() {
    let (here, there) = (Node::start(), Node::start());
    let code = there.code(&there.seals().session(&person(1)));
    here.scan(&here.seals().scanner(), code)
        .refuses(422, "code_invalid");
}

#[test]
fn a_code_is_good_for_its_life_and_neither_before_nor_after() {
    let node = Node::start();
    let seals = node.seals();
    let scanner = seals.scanner();
    let chen = person(1);
    node.feed(&seals.authority(), &[chen.resident()]);
    let now = Time::now();
    for (age_ms, good) in [
        (70_000, false),
        (50_000, true),
        (0, true),
        (-1_000, true),
        (-60_000, false),
    ] {
        let code = seals.code_of(&chen, Time(now.0.checked_add_signed(-age_ms).unwrap()));
        let answer = node.scan(&scanner, code);
        match good {
            true => assert_eq!(answer.state(), "green", "{age_ms}"),
            false => drop(answer.refuses(422, "code_expired")),
        }
    }
}

#[test]
fn only_a_scanner_in_force_may_scan() {
    let node = Node::start();
    let seals = node.seals();
    let chen = person(1);
    let code = node.code(&seals.session(&chen));
    node.scan(&seals.pass(TokenKind::Scanner, "old", long_ago()), &code)
        .refuses(401, "session_expired");
    for genuine in [seals.session(&chen), seals.authority(), code.clone()] {
        node.scan(&genuine, &code).refuses(403, "not_permitted");
    }
    node.scan("RUBBISH", &code).refuses(401, "unauthorized");
    let nobody = Ask::post("/v1/scan", &code).at(node.address(Door::Gate));
    nobody.refuses(401, "unauthorized");
    let stranger = Ask::post("/v1/scan", vec![b'A'; 10_000]).at(node.address(Door::Gate));
    stranger.refuses(401, "unauthorized");
    let scanner = token(&node.store, &["scanner", "--site", "east-gate"]);
    assert_eq!(node.scan(&scanner, &code).state(), "unknown");
}
