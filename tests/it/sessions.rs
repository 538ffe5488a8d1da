//! Sessions: the identity platform's assertion in, a session out. The keys beside this file are for these tests alone.

use crate::harness::*;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use liangma::http::query::Door;
use serde_json::{Value, json};

const JWKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/identity/jwks.json");

pub fn node() -> Node {
    let jwks = format!("identity_jwks={JWKS}");
    Start::new(&[&jwks, "identity_issuer=https://id.example"]).node()
}

pub fn ed() -> EncodingKey {
    EncodingKey::from_ed_pem(include_bytes!("identity/ed.pem")).unwrap()
}

fn es() -> EncodingKey {
    EncodingKey::from_ec_pem(include_bytes!("identity/es.pem")).unwrap()
}

fn rs() -> EncodingKey {
    EncodingKey::from_rsa_pem(include_bytes!("identity/rs.pem")).unwrap()
}

fn strange() -> EncodingKey {
    EncodingKey::from_ed_pem(include_bytes!("identity/strange.pem")).unwrap()
}

fn now() -> u64 {
    liangma::clock::Time::now().0 / 1000
}

pub fn claims(person: &Person) -> Value {
    json!({
        "iss": "https://id.example", "aud": "liangma", "exp": now() + 300,
        "cert_type": "10", "cert_no": person.cert_no, "name": person.name, "assurance": "real_person",
    })
}

pub fn with(person: &Person, name: &str, value: Value) -> Value {
    let mut claims = claims(person);
    claims[name] = value;
    claims
}

pub fn sign(algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey, claims: &Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(ToOwned::to_owned);
    encode(&header, claims, key).unwrap()
}

fn log_in(node: &Node, assertion: &str) -> Answer {
    let body = json!({ "assertion": assertion }).to_string();
    Ask::post("/v1/sessions", body)
        .json()
        .at(node.address(Door::Desk))
}

#[test]
fn each_kind_of_key_opens_a_session_that_registers_and_shows() {
    let node = node();
    for (nth, (algorithm, kid, key)) in [
        (Algorithm::EdDSA, Some("ed"), ed()),
        (Algorithm::ES256, Some("es"), es()),
        (Algorithm::RS256, Some("rs"), rs()),
        (Algorithm::RS256, None, rs()),
    ]
    .into_iter()
    .enumerate()
    {
        let person = person(nth);
        assert_eq!(node.show(&node.seals().session(&person)).state(), "unknown");
        let answer = log_in(&node, &sign(algorithm, kid, &key, &claims(&person)));
        assert_eq!(answer.status, 201, "{algorithm:?}: {}", text(&answer.body));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let opened = answer.json();
        assert_eq!(
            (&opened["name"], &opened["cert_no"]),
            (&json!("陈**"), &json!(person.mask()))
        );
        assert_eq!(opened["assurance"], "real_person");
        let expires: jiff::Timestamp = opened["expires_at"].as_str().unwrap().parse().unwrap();
        assert!(expires > jiff::Timestamp::now());
        let session = opened["session"].as_str().unwrap();
        assert_eq!(node.show(session).state(), "green");
        node.feed(
            &node.seals().authority(),
            &[person.set("home_isolation", 1)],
        );
        assert_eq!(node.show(session).state(), "red");
    }
}

#[test]
fn the_desk_says_since_when_until_when_where_and_who_says_so() {
    let node = node();
    let person = person(1);
    node.feed(
        &node.seals().authority(),
        &[person.set("home_isolation", 1)],
    );
    let opened = log_in(
        &node,
        &sign(Algorithm::EdDSA, Some("ed"), &ed(), &claims(&person)),
    );
    let opened = opened.json();
    let session = opened["session"].as_str().unwrap();
    assert_eq!(
        node.show(session).state(),
        "red",
        "a log-in does not clear what an authority said"
    );
    let explained = node.explain(session).json();
    assert_eq!(
        (&explained["state"], &explained["status"]),
        (&json!("red"), &json!("10"))
    );
    let reason = &explained["reasons"][0];
    assert_eq!(reason["reason"], "home_isolation");
    assert_eq!(reason["text"], "居家隔离");
    assert_eq!(reason["since"], "2020-04-20T00:00:00.000Z");
    assert_eq!(reason["until"], "2020-05-04");
    assert_eq!(reason["region"], "440106");
    assert_eq!(reason["source"], "gd-cdc");
    assert!(!reason["guidance"].as_str().unwrap().is_empty());
    assert!(!explained["appeal"].as_str().unwrap().is_empty());
    assert_eq!(explained["name"], "陈**");
}

#[test]
fn an_assertion_that_is_not_what_was_agreed_is_refused() {
    let node = node();
    let chen = person(1);
    let good = claims(&chen);
    let by_ed = |claims: &Value| sign(Algorithm::EdDSA, Some("ed"), &ed(), claims);
    for (why, assertion) in [
        (
            "issuer",
            by_ed(&with(&chen, "iss", json!("https://other.example"))),
        ),
        ("audience", by_ed(&with(&chen, "aud", json!("other")))),
        ("no issuer", by_ed(&with(&chen, "iss", Value::Null))),
        ("no expiry", by_ed(&with(&chen, "exp", Value::Null))),
        ("not yet", by_ed(&with(&chen, "nbf", json!(now() + 3600)))),
        (
            "stranger",
            sign(Algorithm::EdDSA, Some("ed"), &strange(), &good),
        ),
        (
            "unknown kid",
            sign(Algorithm::EdDSA, Some("other"), &ed(), &good),
        ),
        (
            "another's kid",
            sign(Algorithm::EdDSA, Some("es"), &ed(), &good),
        ),
        (
            "another algorithm",
            sign(Algorithm::RS512, Some("rs"), &rs(), &good),
        ),
        (
            "another algorithm without kid",
            sign(Algorithm::PS256, None, &rs(), &good),
        ),
        ("rubbish", "rubbish".into()),
        ("nothing", String::new()),
        ("dots", "..".into()),
    ] {
        let answer = log_in(&node, &assertion);
        assert_eq!(answer.status, 401, "{why}: {}", text(&answer.body));
        answer.refuses(401, "unauthorized");
    }
    let late = by_ed(&with(&chen, "exp", json!(now() - 3600)));
    log_in(&node, &late).refuses(401, "session_expired");
    let late_stranger = sign(
        Algorithm::EdDSA,
        None,
        &strange(),
        &with(&chen, "exp", json!(now() - 3600)),
    );
    log_in(&node, &late_stranger).refuses(401, "unauthorized");
    assert_eq!(
        node.show(&node.seals().session(&chen)).state(),
        "unknown",
        "nobody was registered"
    );
}

#[test]
fn what_the_head_of_an_assertion_says_is_never_obeyed() {
    let node = node();
    let chen = person(1);
    let good = sign(Algorithm::EdDSA, Some("ed"), &ed(), &claims(&chen));
    let parts: Vec<&str> = good.split('.').collect();
    // {"alg":"none","typ":"JWT"}
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    for forged in [
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
    ] {
        log_in(&node, &forged).refuses(401, "unauthorized");
    }
    let jwks: Value = serde_json::from_str(&std::fs::read_to_string(JWKS).unwrap()).unwrap();
    let modulus = jwks["keys"][2]["n"].as_str().unwrap().as_bytes();
    for public in [&include_bytes!("identity/rs.pub.pem")[..], modulus] {
        for kid in [Some("rs"), None] {
            let key = EncodingKey::from_secret(public);
            log_in(&node, &sign(Algorithm::HS256, kid, &key, &claims(&chen)))
                .refuses(401, "unauthorized");
        }
    }
    let other = sign(Algorithm::EdDSA, Some("ed"), &ed(), &claims(&person(2)));
    let other: Vec<&str> = other.split('.').collect();
    let mixed = format!("{}.{}.{}", parts[0], other[1], parts[2]);
    log_in(&node, &mixed).refuses(401, "unauthorized");
}

#[test]
fn a_genuine_assertion_of_a_person_who_gets_no_code_is_told_so() {
    let node = node();
    let chen = person(1);
    let by_ed = |claims: &Value| sign(Algorithm::EdDSA, Some("ed"), &ed(), claims);
    for cert_type in ["15", "34", "99"] {
        let claims = with(&chen, "cert_type", json!(cert_type));
        log_in(&node, &by_ed(&claims)).refuses(422, "offline_registration");
    }
    for (name, value) in [
        ("cert_no", json!("440106199003077210")),
        ("cert_no", json!(7)),
        ("name", json!("")),
        ("name", Value::Null),
        ("assurance", json!("certain")),
    ] {
        log_in(&node, &by_ed(&with(&chen, name, value))).refuses(400, "malformed");
    }
}

#[test]
fn without_a_platform_nobody_opens_a_session() {
    let node = Node::start();
    let assertion = sign(Algorithm::EdDSA, Some("ed"), &ed(), &claims(&person(1)));
    log_in(&node, &assertion).refuses(401, "unauthorized");
}
