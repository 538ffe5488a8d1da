//! Offline codes over real doors: issued, scanned, revoked, after rotations, restarts and an erasure.

use crate::harness::*;
use crate::redis::Server;
use liangma::http::door::Door;
use serde_json::{Value, json};

const ISSUER: &str = "offline_issuer=440000";

fn issue(node: &Node, session: &str, query: &str) -> Answer {
    Ask::get(&format!("/v1/code/offline{query}"))
        .bearer(session)
        .at(node.address(Door::Resident))
}

/// The code of a good answer.
#[track_caller]
fn offline_code(node: &Node, session: &str) -> String {
    let answer = issue(node, session, "");
    assert_eq!(answer.status, 200, "{}", text(&answer.body));
    answer.json()["code"].as_str().expect("a code").to_owned()
}

#[track_caller]
fn verdict(node: &Node, code: &str) -> Value {
    let answer = node.scan(&node.seals().scanner(), code);
    assert_eq!(answer.status, 200, "{}", text(&answer.body));
    answer.json()
}

fn bulk(node: &Node, lines: &str) -> Vec<Value> {
    let answer = Ask::post("/v1/scan/bulk", lines)
        .bearer(&node.seals().scanner())
        .at(node.address(Door::Gate));
    let lines = answer.body.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect()
}

fn revoke(node: &Node, token: &str, body: Option<&Value>) -> Answer {
    node.desk("POST", "/v1/offline-codes/revoke", token, body)
}

#[test]
fn an_offline_code_takes_its_colour_from_the_board() {
    let node = NodeBuilder::new(&[ISSUER, "gate_reasons=all"]).node();
    let (seals, chen) = (node.seals(), person(1));
    node.feed(&seals.authority(), &[chen.resident()]);
    let session = seals.session(&chen);
    let answer = issue(&node, &session, "?hours=48");
    assert_eq!(answer.status, 200, "{}", text(&answer.body));
    let issued = answer.json();
    let code = issued["code"].as_str().unwrap();
    assert_eq!(code.len(), 154);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(issued.get("state").is_none() && issued.get("status").is_none());
    let green = verdict(&node, code);
    for (name, said) in [
        ("state", json!("green")),
        ("class", json!("offline")),
        ("check_document", json!(true)),
        ("issued_at", issued["issued_at"].clone()),
        ("expires_at", issued["expires_at"].clone()),
        ("name", issued["name"].clone()),
        ("cert_no", issued["cert_no"].clone()),
        ("assurance", json!("real_person")),
    ] {
        assert_eq!(green[name], said, "{name}");
    }
    node.feed(&seals.authority(), &[chen.set("close_contact", 1)]);
    let red = verdict(&node, &code.to_ascii_lowercase());
    assert_eq!(red["state"], "red");
    assert_eq!(red["reasons"][0]["reason"], "close_contact");
    // Live codes and bad lines beside it are answered each for itself, in their order.
    let other = if code.ends_with('A') { 'B' } else { 'A' };
    let lines = format!("{code}\n{}\n{}{other}\n", node.code(&session), &code[..153]);
    let all = bulk(&node, &lines);
    assert_eq!(
        (&all[0]["state"], &all[0]["class"]),
        (&json!("red"), &json!("offline"))
    );
    assert_eq!(
        (&all[1]["state"], all[1].get("class")),
        (&json!("red"), None)
    );
    assert_eq!(all[2], json!({ "error": "code_invalid" }));
}

#[test]
fn what_is_asked_badly_gets_no_code() {
    let node = NodeBuilder::new(&[ISSUER, "offline_life_max=72h"]).node();
    let (seals, chen, nobody) = (node.seals(), person(1), person(2));
    node.feed(&seals.authority(), &[chen.resident()]);
    let session = seals.session(&chen);
    for hours in ["0", "73", "-1", "", "x", "1e1", "99999999999999999999999"] {
        issue(&node, &session, &format!("?hours={hours}")).refuses(400, "malformed");
    }
    issue(&node, &seals.session(&nobody), "").refuses(404, "not_found");
    issue(&node, &seals.scanner(), "").refuses(403, "not_permitted");
    Ask::get("/v1/code/offline")
        .at(node.address(Door::Resident))
        .refuses(401, "unauthorized");
    // A member's session shows the member, and gets the member's code.
    let member = offline_code(&node, &seals.session_of_member(&chen));
    assert_eq!(verdict(&node, &member)["cert_no"], chen.mask());
    let mut codes = 1;
    while issue(&node, &session, "").status == 200 {
        codes += 1;
    }
    assert_eq!(codes, 4);
    // A limit of a day is no rate: nothing says to come back in a second.
    let refused = issue(&node, &session, "");
    let problem = refused.refuses(409, "limit_reached");
    assert!(problem.get("retry_after_ms").is_none(), "{problem}");
    // A node without an issuer has none.
    let plain = Node::start();
    let seals = plain.seals();
    issue(&plain, &seals.session(&chen), "").refuses(404, "not_found");
    plain
        .scan(&seals.scanner(), &member)
        .refuses(422, "code_invalid");
    let keys = plain.get(Door::Gate, "/v1/keys").json();
    assert_eq!(keys, json!({ "keys": [] }));
}

#[test]
fn a_revoked_generation_is_refused_on_every_node_and_after_a_restart() {
    let folder = folder();
    let store = folder.path().join("store");
    let start = || NodeBuilder::new(&[ISSUER]).over(&store).node();
    let chen = person(1);
    let node = start();
    let seals = node.seals();
    node.feed(&seals.authority(), &[chen.resident()]);
    let (session, scanner) = (seals.session(&chen), seals.scanner());
    let old = offline_code(&node, &session);
    let said = revoke(&node, &session, None);
    assert_eq!(said.status, 201, "{}", text(&said.body));
    node.scan(&scanner, &old).refuses(422, "code_revoked");
    assert_eq!(bulk(&node, &old), [json!({ "error": "code_revoked" })]);
    let new = offline_code(&node, &session);
    assert_eq!(verdict(&node, &new)["state"], "green");
    // Staff revoke for whoever lost a card, and say why; the person reads both.
    let staff = seals.staff("wang-01", "440100");
    let mut asked = json!({ "cert_type": "10", "cert_no": chen.cert_no, "name": chen.name });
    let why = revoke(&node, &staff, Some(&asked)).json();
    assert_eq!(why["code"], "missing_field");
    assert_eq!(verdict(&node, &new)["state"], "green");
    asked["purpose"] = "card-lost".into();
    let said = revoke(&node, &staff, Some(&asked));
    assert_eq!(said.status, 201, "{}", text(&said.body));
    node.scan(&scanner, &new).refuses(422, "code_revoked");
    let told = node.desk("GET", "/v1/accesses", &session, None).json();
    let told = told["accesses"].as_array().unwrap().iter();
    let told: Vec<_> = told
        .map(|access| (access["role"].clone(), access["purpose"].clone()))
        .collect();
    assert_eq!(
        told,
        [
            (json!("staff"), json!("card-lost")),
            (json!("resident"), json!("own_request"))
        ]
    );
    let newest = offline_code(&node, &session);
    node.signal(libc::SIGKILL);
    node.end();
    let node = start();
    for code in [&old, &new] {
        node.scan(&scanner, code).refuses(422, "code_revoked");
    }
    assert_eq!(verdict(&node, &newest)["state"], "green");
    // Whoever is erased has left no code that is good.
    node.signal(libc::SIGTERM);
    node.end();
    let erased = erase(&["--store", store.to_str().unwrap()], &chen);
    assert!(erased.status.success(), "{}", text(&erased.stderr));
    let node = start();
    node.scan(&scanner, &newest).refuses(422, "code_revoked");
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn another_node_learns_what_was_revoked() {
    let (server, ring) = (Server::start(&[]), Ring::make());
    let start = || {
        NodeBuilder::new(&[ISSUER])
            .over_redis(&server.url(), &ring)
            .node()
    };
    let (one, other) = (start(), start());
    let (seals, chen) = (&ring.seals, person(1));
    one.feed(&seals.authority(), &[chen.resident()]);
    let session = seals.session(&chen);
    let scanner = seals.scanner();
    let code = offline_code(&one, &session);
    until("the other node knows the person", || {
        let answer = other.scan(&scanner, &code);
        answer.status == 200 && answer.json()["state"] == "green"
    });
    assert_eq!(revoke(&one, &session, None).status, 201);
    until("the other node refuses the code", || {
        other.scan(&scanner, &code).status == 422
    });
    other.scan(&scanner, &code).refuses(422, "code_revoked");
    // What the other revokes is of the generation behind, though it may not have read the one before.
    let next = offline_code(&one, &session);
    assert_eq!(revoke(&other, &session, None).status, 201);
    until("the first node refuses the next code", || {
        one.scan(&scanner, &next).status == 422
    });
}

#[test]
fn keys_are_published_before_they_sign_and_outlive_a_rotation() {
    let folder = folder();
    let store = folder.path().join("store");
    let node = NodeBuilder::new(&[ISSUER]).over(&store).node();
    let (seals, chen) = (node.seals(), person(1));
    node.feed(&seals.authority(), &[chen.resident()]);
    let code = offline_code(&node, &seals.session(&chen));
    let kids = || -> Vec<String> {
        let keys = node.get(Door::Gate, "/v1/keys");
        let keys = keys.json();
        assert_eq!(keys["issuer"], "440000");
        let keys = keys["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(kids(), ["1", "2"]);
    let answer = node.get(Door::Resident, "/v1/keys");
    let tag = answer.header("etag").expect("a tag").to_owned();
    let again = Ask::get("/v1/keys").header("if-none-match", &tag);
    let mut gate = Connection::to(node.address(Door::Gate));
    gate.send(again.bytes());
    assert_eq!(gate.head().expect("an answer").status, 304);
    let rotate = |more: &[&str]| {
        let rotated = command()
            .args(["keys", "rotate", "--sign"])
            .args(more)
            .arg("--store")
            .arg(&store)
            .output()
            .expect("the binary runs");
        assert!(rotated.status.success(), "{}", text(&rotated.stderr));
        node.signal(libc::SIGHUP);
    };
    rotate(&[]);
    until("the rotated keys are published", || {
        kids() == ["2", "3", "1"]
    });
    assert_eq!(verdict(&node, &code)["state"], "green");
    rotate(&["--drop-previous"]);
    until("the key before is gone", || kids() == ["3", "4"]);
    node.scan(&seals.scanner(), &code)
        .refuses(422, "code_invalid");
    // Tokens are of other keys.
    assert_eq!(node.show(&seals.session(&chen)).status, 200);
}

#[test]
fn staff_revoke_for_whom_they_can_name_and_nobody_uses_up_the_generations() {
    let node = NodeBuilder::new(&[ISSUER]).node();
    let (seals, chen, nobody) = (node.seals(), person(1), person(2));
    node.feed(&seals.authority(), &[chen.resident()]);
    let (session, staff) = (seals.session(&chen), seals.staff("desk-7", "650100"));
    let named = |person: &Person, name: &str| json!({ "cert_type": "10", "cert_no": person.cert_no, "name": name, "purpose": "lost_phone" });
    let code = issue(&node, &session, "").json()["code"]
        .as_str()
        .unwrap()
        .to_owned();
    // A wrong name, and nobody of this number, are one answer; both are recorded.
    let before = node.meter("liangma_audit_links_total");
    for miss in [named(&chen, "不对"), named(&nobody, nobody.name)] {
        revoke(&node, &staff, Some(&miss)).refuses(404, "not_found");
    }
    assert_eq!(node.meter("liangma_audit_links_total"), before + 2.0);
    assert_eq!(verdict(&node, &code)["state"], "green");
    assert_eq!(
        revoke(&node, &staff, Some(&named(&chen, chen.name))).status,
        201
    );
    for _ in 1..8 {
        assert_eq!(revoke(&node, &session, None).status, 201);
    }
    // Eight a day: the generations last, and codes of each can be revoked.
    revoke(&node, &session, None).refuses(409, "limit_reached");
    revoke(&node, &staff, Some(&named(&chen, chen.name))).refuses(409, "limit_reached");
    assert_eq!(issue(&node, &session, "").status, 200);
}

#[test]
fn others_leave_a_person_enough_revocations_of_offline_codes() {
    let node = NodeBuilder::new(&[ISSUER]).node();
    let (seals, chen) = (node.seals(), person(1));
    node.feed(&seals.authority(), &[chen.resident()]);
    let (session, shown) = (seals.session(&chen), seals.session_of_member(&chen));
    let named = json!({ "cert_type": "10", "cert_no": chen.cert_no, "name": chen.name, "purpose": "lost_phone" });
    for nth in 0..4 {
        let staff = seals.staff(&format!("desk-{nth}"), "650100");
        assert_eq!(revoke(&node, &staff, Some(&named)).status, 201);
    }
    revoke(&node, &shown, None).refuses(409, "limit_reached");
    for _ in 0..4 {
        assert_eq!(revoke(&node, &session, None).status, 201);
    }
    revoke(&node, &session, None).refuses(409, "limit_reached");
}
