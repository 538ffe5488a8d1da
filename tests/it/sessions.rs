//! Sessions: the identity platform's assertion in, a session out. The keys beside this file are for these tests alone.

use crate::harness::*;
use crate::redis::Server;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use liangma::http::door::Door;
use serde_json::{Value, json};

const JWKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/identity/jwks.json");

pub fn node() -> Node {
    NodeBuilder::new(&platform()).node()
}

/// Settings of a node that accepts the assertions of this file.
pub fn platform() -> [&'static str; 2] {
    const FILE: &str = concat!(
        "identity_jwks_file=",
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/identity/jwks.json"
    );
    [FILE, "identity_issuer=https://id.example"]
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

/// Another each time, as a platform gives it.
fn jti() -> String {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed))
}

pub fn claims(person: &Person) -> Value {
    json!({
        "iss": "https://id.example", "aud": "liangma", "exp": now() + 300, "jti": jti(),
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

#[test]
fn an_assertion_is_of_one_use_one_purpose_and_these_minutes() {
    let node = node();
    let chen = person(1);
    let by_ed = |claims: &Value| sign(Algorithm::EdDSA, Some("ed"), &ed(), claims);
    let good = by_ed(&claims(&chen));
    assert_eq!(log_in(&node, &good).status, 201);
    log_in(&node, &good).refuses(401, "unauthorized");
    let mut critical = Header::new(Algorithm::EdDSA);
    critical.crit = Some(vec!["x-must".to_owned()]);
    let critical = encode(&critical, &claims(&chen), &ed()).unwrap();
    for (why, assertion) in [
        ("an extension that is critical", critical),
        (
            "of a family",
            by_ed(&with(&chen, "purpose", json!("family"))),
        ),
        (
            "of another purpose",
            by_ed(&with(&chen, "purpose", json!("vote"))),
        ),
        (
            "for ten years",
            by_ed(&with(&chen, "exp", json!(now() + 315_360_000))),
        ),
        (
            "issued a year ago",
            by_ed(&with(&chen, "iat", json!(now() - 31_536_000))),
        ),
        (
            "issued in an hour",
            by_ed(&with(&chen, "iat", json!(now() + 3_600))),
        ),
        (
            "issuers",
            by_ed(&with(&chen, "iss", json!(["https://id.example", "x"]))),
        ),
    ] {
        let answer = log_in(&node, &assertion);
        assert_eq!(answer.status, 401, "{why}: {}", text(&answer.body));
    }
    for claims in [
        with(&chen, "purpose", json!("log_in")),
        with(&chen, "iat", json!(now())),
    ] {
        assert_eq!(log_in(&node, &by_ed(&claims)).status, 201);
    }
    // One that opens a session adds nobody to a family.
    let session = node.seals().session(&person(2));
    let body = json!({ "assertion": by_ed(&claims(&chen)) });
    node.desk("POST", "/v1/family", &session, Some(&body))
        .refuses(401, "unauthorized");
}

const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64(bytes: &[u8]) -> String {
    let groups = bytes.chunks(3).flat_map(|group| {
        let mut bits = [0; 4];
        bits[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bits);
        (0..=group.len()).map(move |nth| DIGITS[(bits >> (18 - 6 * nth) & 63) as usize] as char)
    });
    groups.collect()
}

fn unbase64(text: &str) -> Vec<u8> {
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for digit in text.bytes() {
        let value = DIGITS.iter().position(|known| *known == digit).unwrap();
        (bits, count) = (bits << 6 | value as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// The other signature of the same contents: (r, n - s).
fn negated(assertion: &str) -> String {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let mut signature = unbase64(signature);
    let mut borrow = 0;
    for nth in (0..32).rev() {
        let digit = i32::from(ORDER[nth]) - i32::from(signature[32 + nth]) - borrow;
        borrow = i32::from(digit < 0);
        signature[32 + nth] = digit as u8;
    }
    format!("{signed}.{}", base64(&signature))
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn an_assertion_is_of_one_use_on_all_nodes_whatever_its_signature() {
    let (server, ring) = (Server::start(&[]), Ring::make());
    let jwks = format!("identity_jwks_file={JWKS}");
    let settings = [&*jwks, "identity_issuer=https://id.example"];
    let start = || {
        NodeBuilder::new(&settings)
            .over_redis(&server.url(), &ring)
            .node()
    };
    let nodes = [start(), start()];
    let chen = person(1);
    let by_es = |claims: &Value| sign(Algorithm::ES256, Some("es"), &es(), claims);
    // The other signature is a genuine one.
    let unused = negated(&by_es(&claims(&chen)));
    assert_eq!(log_in(&nodes[0], &unused).status, 201);
    let used = by_es(&claims(&chen));
    assert_eq!(log_in(&nodes[0], &used).status, 201);
    for node in &nodes {
        for again in [&used, &negated(&used), &negated(&unused)] {
            log_in(node, again).refuses(401, "unauthorized");
        }
    }
    // Who adds a member may repeat the request on any node, and nobody else may use what was used.
    let family = by_es(&with(&person(2), "purpose", json!("family")));
    let body = json!({ "assertion": family });
    let add = |node: &Node, who: &Person| {
        let session = node.seals().session(who);
        node.desk("POST", "/v1/family", &session, Some(&body))
    };
    assert_eq!(add(&nodes[0], &chen).status, 201);
    assert_eq!(add(&nodes[1], &chen).status, 201);
    for node in &nodes {
        add(node, &person(3)).refuses(401, "unauthorized");
    }
}

#[test]
fn a_log_in_that_was_refused_may_be_tried_again_with_the_same_assertion() {
    let jwks = format!("identity_jwks_file={JWKS}");
    let settings = [
        &*jwks,
        "identity_issuer=https://id.example",
        "desk_requests_per_second=1",
    ];
    let node = NodeBuilder::new(&settings).node();
    let chen = person(1);
    let made = || sign(Algorithm::EdDSA, Some("ed"), &ed(), &claims(&chen));
    let refused = (0..100).map(|_| made()).find(|assertion| {
        let status = log_in(&node, assertion).status;
        assert!(matches!(status, 201 | 429), "{status}");
        status == 429
    });
    let refused = refused.expect("a turn a second");
    until("there is a turn again", || {
        log_in(&node, &refused).status == 201
    });
    until("it was used", || log_in(&node, &refused).status == 401);
}

/// The set of the tests, with some changes to it.
fn jwks(change: impl FnOnce(&mut Vec<Value>)) -> String {
    let mut set: Value = serde_json::from_str(&std::fs::read_to_string(JWKS).unwrap()).unwrap();
    change(set["keys"].as_array_mut().unwrap());
    set.to_string()
}

#[test]
fn keys_that_are_not_for_us_are_passed_over_and_spoil_no_other() {
    let folder = folder();
    let file = folder.path().join("jwks.json");
    // As Keycloak, Entra ID and others publish them: certificates, other uses, other algorithms, kinds that nobody here knows.
    let written = jwks(|keys| {
        let rsa = keys[2].clone();
        for (kid, name, value) in [
            ("enc", "use", json!("enc")),
            ("oaep", "alg", json!("RSA-OAEP")),
            ("ps", "alg", json!("PS256")),
            ("wrap", "key_ops", json!(["wrapKey"])),
            ("weak", "n", json!("AQAB")),
        ] {
            let mut key = rsa.clone();
            key["kid"] = json!(kid);
            key[name] = value;
            keys.insert(0, key);
        }
        keys.push(json!({"kty": "EC", "crv": "P-521", "kid": "p521", "x": "AA", "y": "AA"}));
        keys.push(json!({"kty": "oct", "kid": "secret", "k": "AAAA"}));
        keys.push(json!({"kty": "quantum", "kid": "q"}));
        keys.push(json!("rubbish"));
        let mut twice = keys[6].clone();
        twice["kid"] = json!("ed");
        keys.push(twice);
        for key in keys.iter_mut().filter(|key| key.is_object()) {
            key["x5c"] = json!(["MIIC"]);
            key["x5t"] = json!("AA");
            key["issuer"] = json!("https://id.example/{tenantid}/v2.0");
        }
    });
    std::fs::write(&file, written).unwrap();
    let jwks = format!("identity_jwks_file={}", file.display());
    let node = NodeBuilder::new(&[&jwks, "identity_issuer=https://id.example"]).node();
    let chen = person(1);
    for (algorithm, kid, key) in [
        (Algorithm::EdDSA, "ed", ed()),
        (Algorithm::ES256, "es", es()),
        (Algorithm::RS256, "rs", rs()),
    ] {
        let good = sign(algorithm, Some(kid), &key, &claims(&chen));
        assert_eq!(log_in(&node, &good).status, 201, "{kid}");
    }
    for kid in ["enc", "oaep", "wrap"] {
        let other = sign(Algorithm::RS256, Some(kid), &rs(), &claims(&chen));
        log_in(&node, &other).refuses(401, "unauthorized");
        assert!(node.log().contains(kid), "{kid} is named");
    }
}

#[test]
fn the_keys_of_the_platform_are_read_again_and_a_bad_file_changes_nothing() {
    let folder = folder();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, jwks(|keys| keys.truncate(1))).unwrap();
    let setting = format!("identity_jwks_file={}", file.display());
    let node = NodeBuilder::new(&[&setting, "identity_issuer=https://id.example"]).node();
    let chen = person(1);
    let by_ed = || sign(Algorithm::EdDSA, Some("ed"), &ed(), &claims(&chen));
    let by_es = || sign(Algorithm::ES256, Some("es"), &es(), &claims(&chen));
    assert_eq!(log_in(&node, &by_ed()).status, 201);
    log_in(&node, &by_es()).refuses(401, "unauthorized");
    for bad in [
        "",
        "{",
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"oct","k":"AA"}]}"#,
    ] {
        let before = node.log().matches("in force stay").count();
        std::fs::write(&file, bad).unwrap();
        until("the bad file is noticed", || {
            node.log().matches("in force stay").count() > before
        });
        assert_eq!(log_in(&node, &by_ed()).status, 201, "{bad:?}");
    }
    // The first is withdrawn, another comes.
    std::fs::write(&file, jwks(|keys| keys.retain(|key| key["kid"] == "es"))).unwrap();
    until("the new key is trusted", || {
        log_in(&node, &by_es()).status == 201
    });
    log_in(&node, &by_ed()).refuses(401, "unauthorized");
    std::fs::write(&file, jwks(|keys| keys.truncate(1))).unwrap();
    node.signal(libc::SIGHUP);
    until("SIGHUP reads it too", || {
        log_in(&node, &by_ed()).status == 201
    });
}
