//! Showing: a resident brings up their own code.

use crate::fake_store::FakeFaults;
use crate::harness::*;
use liangma::http::door::Door;
use serde_json::json;
use std::collections::HashSet;
use std::time::Duration;

#[test]
fn a_resident_on_record_is_green_and_masked() {
    let node = Node::start();
    let seals = node.seals();
    let chen = person(1);
    node.feed(&seals.authority(), &[chen.resident()]);
    let answer = node.show(&seals.session(&chen));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let shown = answer.json();
    assert_eq!(shown["state"], "green");
    assert_eq!(shown["status"], "00");
    assert_eq!(shown["reasons"], json!([]));
    assert_eq!(shown["name"], "陈**");
    assert_eq!(shown["cert_no"], chen.mask());
    assert_eq!(shown["assurance"], "real_person");
    assert_eq!(shown["refresh_after_ms"], 30_000);
    let time = |name: &str| -> jiff::Timestamp { shown[name].as_str().unwrap().parse().unwrap() };
    let life = time("expires_at").as_millisecond() - time("issued_at").as_millisecond();
    assert_eq!(life, 60_000);
    assert!(time("as_of") <= time("expires_at"));
}

#[test]
fn each_reason_is_red_with_its_guidance_and_goes_when_it_is_cleared() {
    let node = Node::start();
    let seals = node.seals();
    let authority = seals.authority();
    let reasons = [
        "confirmed",
        "suspected",
        "close_contact",
        "high_risk_area",
        "central_isolation",
        "home_isolation",
    ];
    for (nth, reason) in reasons.into_iter().enumerate() {
        let person = person(nth);
        let session = seals.session(&person);
        node.feed(&authority, &[person.resident(), person.set(reason, 1)]);
        let shown = node.show(&session).json();
        assert_eq!(
            (&shown["state"], &shown["status"]),
            (&json!("red"), &json!("10"))
        );
        assert_eq!(shown["reasons"][0]["reason"], reason);
        assert!(
            shown["reasons"][0]["guidance"]
                .as_str()
                .unwrap()
                .chars()
                .count()
                > 10
        );
        node.feed(&authority, &[person.clear(reason, 2)]);
        assert_eq!(node.show(&session).state(), "green");
    }
}

#[test]
fn somebody_not_on_record_is_unknown_without_a_status() {
    let node = Node::start();
    let shown = node.show(&node.seals().session(&person(1))).json();
    assert_eq!(shown["state"], "unknown");
    assert_eq!(shown.get("status"), None);
    assert_eq!(shown["reasons"], json!([]));
    assert_eq!(shown["name"], "陈**");
}

#[test]
fn a_token_of_the_command_line_shows_what_it_says() {
    let node = Node::start();
    let chen = person(1);
    let rest = [
        "--cert-type",
        "10",
        "--cert-no",
        &chen.cert_no,
        "--name",
        chen.name,
    ];
    let session = token(
        &node.store,
        &[&["resident"], &rest[..], &["--assurance", "unverified"]].concat(),
    );
    let shown = node.show(&session).json();
    assert_eq!(shown["assurance"], "unverified");
    assert_eq!(shown["cert_no"], chen.mask());
}

#[test]
fn travel_permits_and_passports_are_shown_too() {
    let node = Node::start();
    let authority = node.seals().authority();
    for (cert_type, cert_no, masked) in [
        ("14", "H12345678", "H1*****78"),
        ("20", "EA1234567", "EA*****67"),
    ] {
        let line = json!({"event": "resident", "cert_type": cert_type, "cert_no": cert_no,
            "name": "Ann Lee", "assurance": "real_name"});
        node.feed(&authority, &[line.to_string()]);
        let session = token(
            &node.store,
            &[
                "resident",
                "--cert-type",
                cert_type,
                "--cert-no",
                cert_no,
                "--name",
                "Ann Lee",
                "--assurance",
                "real_name",
            ],
        );
        let shown = node.show(&session).json();
        assert_eq!(
            (&shown["state"], &shown["cert_no"]),
            (&json!("green"), &json!(masked))
        );
        assert_eq!(shown["name"], "A******");
    }
}

#[test]
fn every_code_is_new_short_and_made_for_a_screen() {
    let node = Node::start();
    let session = node.seals().session(&person(1));
    let mut connection = Connection::to(node.address(Door::Resident));
    let mut codes = HashSet::new();
    for _ in 0..200 {
        connection.send(Ask::get("/v1/code").bearer(&session).bytes());
        let shown = connection.answer().json();
        let code = shown["code"].as_str().unwrap().to_owned();
        assert!(code.len() <= 128);
        let of_the_set =
            |c: char| c.is_ascii_digit() || c.is_ascii_uppercase() || "$%*+-./: ".contains(c);
        assert!(code.chars().all(of_the_set), "{code}");
        assert!(codes.insert(code));
    }
}

#[test]
fn people_are_answered_in_their_language() {
    let node = Node::start();
    let seals = node.seals();
    let chen = person(1);
    node.feed(&seals.authority(), &[chen.set("home_isolation", 1)]);
    let session = seals.session(&chen);
    for (said, told, busy) in [
        ("", "居家隔离", "未登录或凭证无效，请重新登录或更换凭证"),
        ("fr", "居家隔离", "未登录或凭证无效，请重新登录或更换凭证"),
        (
            "zh-Hant",
            "居家隔離",
            "未登入或憑證無效，請重新登入或更換憑證",
        ),
        (
            "fr, en-GB;q=0.8, zh;q=0.2",
            "Home isolation",
            "No valid credentials. Please log in again or renew the token",
        ),
    ] {
        let ask = |session: &str| {
            let ask = Ask::get("/v1/code")
                .bearer(session)
                .header("accept-language", said);
            ask.at(node.address(Door::Resident))
        };
        assert_eq!(ask(&session).json()["reasons"][0]["text"], told, "{said}");
        assert_eq!(ask("NOBODY").refuses(401, "unauthorized")["title"], busy);
    }
}

#[test]
fn knowledge_past_its_bounds_is_marked_and_then_not_told() {
    for (age, state, stale) in [
        (Some(Duration::ZERO), "green", None),
        (Some(Duration::from_secs(1200)), "green", Some(true)),
        (Some(Duration::from_secs(7200)), "too_old", Some(true)),
        (None, "too_old", Some(true)),
    ] {
        let node = InProcessNode::open(FakeFaults::default(), &["stale_after=10m"], age).filled();
        let chen = person(1);
        node.feed(&node.seals.authority(), &[chen.resident()]);
        let answer = node.show(&node.seals.session(&chen));
        assert_eq!(answer.state(), state);
        let shown = answer.json();
        assert_eq!(shown.get("status").is_some(), state == "green");
        let verdict = node
            .scan(&node.seals.scanner(), shown["code"].as_str().unwrap())
            .json();
        assert_eq!(verdict["state"], state);
        assert_eq!(
            verdict.get("stale").and_then(|stale| stale.as_bool()),
            stale
        );
        let ready = node.get(Door::Ops, "/ready");
        assert_eq!(ready.status, if state == "green" { 200 } else { 503 });
        let said = ready.json()["state"].clone();
        assert_eq!(said, if state == "green" { "ready" } else { "too_old" });
    }
}
