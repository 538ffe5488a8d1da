//! Family members: added by assertion, shown like anybody, removed, withdrawn.

use crate::harness::*;
use crate::sessions::{claims, ed, node, sign, with};
use jsonwebtoken::Algorithm;
use liangma::http::door::Door;
use serde_json::{Value, json};

pub fn assertion(claims: &Value) -> String {
    let mut claims = claims.clone();
    claims["purpose"] = json!("family");
    sign(Algorithm::EdDSA, Some("ed"), &ed(), &claims)
}

/// A child of ten, with a number of one.
fn child() -> Person {
    let body = b"44010620161123001";
    let check = liangma::person::check_digit(body) as char;
    Person {
        cert_no: format!("{}{check}", std::str::from_utf8(body).unwrap()),
        name: "陈小明",
    }
}

fn unverified(person: &Person) -> String {
    assertion(&with(person, "assurance", json!("unverified")))
}

#[test]
fn a_member_is_added_shown_scanned_listed_and_removed() {
    let node = node();
    let (seals, chen, mother) = (node.seals(), person(1), person(2));
    let session = seals.session(&chen);
    node.feed(&seals.authority(), &[mother.set("home_isolation", 1)]);
    let added = node.put(
        "/v1/family",
        &session,
        json!({ "assertion": assertion(&claims(&mother)) }),
    );
    assert_eq!(
        (&added["name"], &added["background"]),
        (&json!("陈**"), &json!("coloured"))
    );
    let member = added["session"].as_str().unwrap();
    assert_eq!(node.show(member).state(), "red");
    let code = node.code(member);
    assert_eq!(node.scan(&seals.scanner(), code).state(), "red");
    // A member's session shows, and arranges nothing.
    node.desk("GET", "/v1/family", member, None)
        .refuses(403, "not_permitted");
    let listed = node.read("/v1/family", &session);
    assert_eq!(listed["members"][0]["id"], added["id"]);
    assert_eq!(
        node.read("/v1/family", &seals.session(&mother))["shown_by"][0]["id"],
        added["id"]
    );
    // Added again it is the same one.
    let again = node.put(
        "/v1/family",
        &session,
        json!({ "assertion": assertion(&claims(&mother)) }),
    );
    assert_eq!(again["id"], added["id"]);
    let path = format!("/v1/family/{}", added["id"].as_str().unwrap());
    let renewed = node.put(&format!("{path}/session"), &session, json!({}));
    assert_eq!(
        node.show(renewed["session"].as_str().unwrap()).state(),
        "red"
    );
    assert_eq!(node.desk("DELETE", &path, &session, None).status, 200);
    for token in [member, renewed["session"].as_str().unwrap()] {
        node.show(token).refuses(401, "unauthorized");
    }
    assert_eq!(node.show(&seals.session(&mother)).state(), "red");
    assert_eq!(node.read("/v1/family", &session)["members"], json!([]));
    node.desk("DELETE", &path, &session, None)
        .refuses(404, "not_found");
    // And may be added anew.
    let anew = node.put(
        "/v1/family",
        &session,
        json!({ "assertion": assertion(&claims(&mother)) }),
    );
    assert_ne!(anew["id"], added["id"]);
    assert_eq!(node.show(anew["session"].as_str().unwrap()).state(), "red");
}

#[test]
fn a_member_withdraws() {
    let node = node();
    let (seals, chen, mother) = (node.seals(), person(1), person(2));
    let added = node.put(
        "/v1/family",
        &seals.session(&chen),
        json!({ "assertion": assertion(&claims(&mother)) }),
    );
    let path = format!("/v1/family/{}", added["id"].as_str().unwrap());
    node.desk("DELETE", &path, &seals.session(&person(3)), None)
        .refuses(404, "not_found");
    assert_eq!(
        node.desk("DELETE", &path, &seals.session(&mother), None)
            .status,
        200
    );
    node.show(added["session"].as_str().unwrap())
        .refuses(401, "unauthorized");
    assert_eq!(
        node.read("/v1/family", &seals.session(&chen))["members"],
        json!([])
    );
}

#[test]
fn a_minor_whose_face_check_failed_has_a_white_background_and_scans_like_any_other() {
    let node = node();
    let (seals, chen, child) = (node.seals(), person(1), child());
    let session = seals.session(&chen);
    let post = |body: Value| node.desk("POST", "/v1/family", &session, Some(&body));
    let added = node.put(
        "/v1/family",
        &session,
        json!({ "assertion": unverified(&child), "student": true }),
    );
    assert_eq!(
        (&added["background"], &added["assurance"]),
        (&json!("white"), &json!("unverified"))
    );
    let member = added["session"].as_str().unwrap();
    let verdict = node.scan(&seals.scanner(), node.code(member)).json();
    assert_eq!(
        (&verdict["state"], &verdict["assurance"]),
        (&json!("green"), &json!("unverified"))
    );
    assert_eq!(
        node.read("/v1/health", member)["withheld"],
        json!(["temperature"])
    );
    assert_eq!(
        node.read("/v1/family", &session)["members"][0]["student"],
        true
    );
    // Student or not must be said; a grown-up's face is checked.
    post(json!({ "assertion": unverified(&child) })).refuses(422, "not_a_minor");
    post(json!({ "assertion": unverified(&person(2)), "student": false }))
        .refuses(422, "not_a_minor");
    // The face check succeeds later: the same member, of higher assurance.
    let risen = node.put(
        "/v1/family",
        &session,
        json!({ "assertion": assertion(&claims(&child)) }),
    );
    assert_eq!(
        (&risen["id"], &risen["background"]),
        (&added["id"], &json!("coloured"))
    );
    let path = format!("/v1/family/{}/session", added["id"].as_str().unwrap());
    assert_eq!(
        node.put(&path, &session, json!({}))["assurance"],
        "real_person"
    );
}

#[test]
fn nobody_adds_more_than_the_limit_or_without_a_genuine_assertion() {
    let jwks = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/identity/jwks.json");
    let jwks = format!("identity_jwks_file={jwks}");
    let node = NodeBuilder::new(&[
        &jwks,
        "identity_issuer=https://id.example",
        "family_members_max=2",
    ])
    .node();
    let (seals, chen) = (node.seals(), person(1));
    let session = seals.session(&chen);
    let post = |assertion: &str| {
        node.desk(
            "POST",
            "/v1/family",
            &session,
            Some(&json!({ "assertion": assertion })),
        )
    };
    for n in 2..4 {
        assert_eq!(post(&assertion(&claims(&person(n)))).status, 201);
    }
    post(&assertion(&claims(&person(4)))).refuses(409, "limit_reached");
    // One who is there already is no more.
    assert_eq!(post(&assertion(&claims(&person(3)))).status, 201);
    post("a.b.c").refuses(401, "unauthorized");
    post(&assertion(&claims(&chen))).refuses(400, "malformed");
    post(&assertion(&with(&person(2), "cert_type", json!("15"))))
        .refuses(422, "offline_registration");
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn an_assertion_adds_no_member_again_after_the_membership_ended() {
    super::records::over_both_with(&crate::sessions::platform(), |node| {
        let (seals, chen, mother) = (node.seals(), person(1), person(2));
        let session = seals.session(&chen);
        let used = assertion(&claims(&mother));
        let add = |assertion: &str, key: Option<&str>| {
            let body = json!({ "assertion": assertion }).to_string();
            let ask = Ask::post("/v1/family", body).json().bearer(&session);
            match key {
                Some(key) => ask.header("idempotency-key", key),
                None => ask,
            }
            .at(node.address(Door::Desk))
        };
        let id = add(&used, None).json()["id"].clone();
        // As long as the membership lasts, the request may be repeated.
        assert_eq!(add(&used, None).json()["id"], id);
        assert_eq!(add(&used, Some("a")).json()["id"], id);
        let path = format!("/v1/family/{}", id.as_str().unwrap());
        let left = node.desk("DELETE", &path, &seals.session(&mother), None);
        assert_eq!(left.status, 200);
        for key in [None, Some("a"), Some("b")] {
            add(&used, key).refuses(401, "unauthorized");
        }
        assert_eq!(node.read("/v1/family", &session)["members"], json!([]));
        let anew = add(&assertion(&claims(&mother)), None);
        assert_eq!(anew.status, 201);
    });
}
