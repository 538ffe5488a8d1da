//! What is good no more: refused by a node that was just started too, and lost phones show nothing.

use super::family::assertion;
use crate::fake_store::{FakeFault, FakeFaults};
use crate::harness::*;
use crate::redis::{Server, edit_kind};
use crate::sessions::{claims, node};
use liangma::clock::Time;
use liangma::http::door::Door;
use liangma::paper::PaperKind;
use liangma::seal::AccessToken;
use liangma::seal::ring::TokenKind;
use serde_json::json;
use std::time::Duration;

fn revoke(node: &Node, token: &str) {
    let ask = Ask::post("/v1/revocations", json!({ "token": token }).to_string()).json();
    let operator = node.seals().operator();
    let answer = ask.bearer(&operator).at(node.address(Door::Ops));
    assert_eq!(answer.status, 201, "{}", text(&answer.body));
}

/// The session of a phone on which somebody logged in so long ago.
fn session_of(node: &Node, person: &Person, ago: Duration) -> String {
    let expires_at = Time::now().0 + 3_600_000 - ago.as_millis() as u64;
    node.seals().session_until(person, Time(expires_at))
}

fn end_sessions(node: &Node, session: &str) -> serde_json::Value {
    node.put("/v1/sessions/revoke", session, json!({}))
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_node_that_was_just_started_lets_in_nothing_that_was_revoked_before() {
    let folder = folder();
    let store = folder.path().join("store");
    let start = || NodeBuilder::new(&[]).over(&store).node();
    knows_from_its_first_answer(start);
    let (server, ring) = (Server::start(&[]), Ring::make());
    knows_from_its_first_answer(|| {
        NodeBuilder::new(&[])
            .over_redis(&server.url(), &ring)
            .node()
    });
}

fn knows_from_its_first_answer(start: impl Fn() -> Node) {
    let chen = person(1);
    let node = start();
    let seals = node.seals();
    node.feed(&seals.authority(), &[chen.resident()]);
    let (gate, other) = (seals.scanner(), seals.scanner());
    let lost = session_of(&node, &chen, Duration::from_secs(60));
    let found = seals.session(&chen);
    revoke(&node, &gate);
    end_sessions(&node, &found);
    node.signal(libc::SIGKILL);
    node.end();
    for _ in 0..3 {
        let node = start();
        let code = seals.code_of(&chen, Time::now());
        node.scan(&gate, &code).refuses(401, "unauthorized");
        node.show(&lost).refuses(401, "unauthorized");
        assert_eq!(node.scan(&other, &code).status, 200);
        assert_eq!(node.show(&found).state(), "green");
        node.signal(libc::SIGKILL);
        node.end();
    }
}

#[test]
fn while_a_store_does_not_say_what_was_revoked_nobody_is_let_in() {
    for mood in [FakeFault::Stalls, FakeFault::Errs] {
        let silent = FakeFaults {
            papers: mood,
            ..FakeFaults::default()
        };
        let node =
            InProcessNode::open(silent, &["store_timeout=50ms"], Some(Duration::ZERO)).filled();
        let chen = person(1);
        let (session, scanner) = (node.seals.session(&chen), node.seals.scanner());
        let code = node.seals.code_of(&chen, Time::now());
        node.show(&session).refuses(503, "warming");
        node.scan(&scanner, &code).refuses(503, "warming");
        node.post_feed(&node.seals.authority(), chen.resident())
            .refuses(503, "warming");
        let ready = node.get(Door::Ops, "/ready");
        assert_eq!(
            (ready.status, &ready.json()["state"]),
            (503, &json!("warming"))
        );
        assert_eq!(node.get(Door::Ops, "/live").status, 200);
        node.store.set(FakeFaults::default());
        until("what was revoked is known", || {
            node.get(Door::Ops, "/ready").status == 200
        });
        assert_eq!(node.show(&session).status, 200);
        assert_eq!(node.scan(&scanner, &code).status, 200);
        // Once it was read, a store that is away takes nothing back and lets nothing in.
        node.store.set(silent);
        assert_eq!(node.show(&session).status, 200);
    }
}

#[test]
fn a_lost_phone_shows_nothing_more_and_the_new_one_stays() {
    let node = node();
    let (seals, chen, mother) = (node.seals(), person(1), person(2));
    node.feed(&seals.authority(), &[chen.resident()]);
    let lost = session_of(&node, &chen, Duration::from_secs(60));
    let added = node.put(
        "/v1/family",
        &lost,
        json!({ "assertion": assertion(&claims(&mother)) }),
    );
    let member = added["session"].as_str().unwrap();
    assert_eq!(node.show(member).state(), "green");
    // The log-in on the new phone comes after whatever was given to the old one.
    let given = Time::now();
    until("the clock has moved on", || Time::now() > given);
    let found = seals.session(&chen);
    let said = end_sessions(&node, &found);
    assert_eq!(
        (&said["revoked"], &said["members"]),
        (&json!("sessions"), &json!(1))
    );
    for session in [&*lost, member] {
        node.show(session).refuses(401, "unauthorized");
        node.desk("GET", "/v1/family", session, None)
            .refuses(401, "unauthorized");
    }
    assert_eq!(node.show(&found).state(), "green");
    assert_eq!(node.show(&seals.session(&mother)).state(), "green");
    // The member is still one, and is shown by a session of the new phone.
    let path = format!("/v1/family/{}/session", added["id"].as_str().unwrap());
    let renewed = node.put(&path, &found, json!({}));
    assert_eq!(
        node.show(renewed["session"].as_str().unwrap()).state(),
        "green"
    );
    // Asked again it is the same; whoever holds an older session ends none that is newer.
    let newer = session_of(&node, &chen, Duration::ZERO);
    end_sessions(&node, &found);
    for session in [&found, &newer] {
        assert_eq!(node.show(session).state(), "green");
    }
    node.desk("POST", "/v1/sessions/revoke", member, None)
        .refuses(401, "unauthorized");
    let shown_by = seals.session_of_member(&chen);
    node.desk("POST", "/v1/sessions/revoke", &shown_by, None)
        .refuses(403, "not_permitted");
}

#[test]
fn a_resident_ends_sessions_sixteen_times_and_pushes_nothing_out() {
    let node = NodeBuilder::new(&["desk_requests_per_second=1000"]).node();
    let (seals, chen) = (node.seals(), person(1));
    let gate = seals.scanner();
    revoke(&node, &gate);
    for nth in (0..20u64).rev() {
        let session = session_of(&node, &chen, Duration::from_secs(nth));
        let answer = node.desk("POST", "/v1/sessions/revoke", &session, None);
        match nth >= 4 {
            true => assert_eq!(answer.status, 201, "{}", text(&answer.body)),
            false => drop(answer.refuses(409, "limit_reached")),
        }
    }
    node.scan(&gate, seals.code_of(&chen, Time::now()))
        .refuses(401, "unauthorized");
}

#[test]
fn an_operator_ends_the_sessions_of_a_resident_up_to_the_one_that_was_lost() {
    let node = Node::start();
    let chen = person(1);
    let lost = session_of(&node, &chen, Duration::from_secs(60));
    let newer = session_of(&node, &chen, Duration::from_secs(30));
    revoke(&node, &lost);
    node.show(&lost).refuses(401, "unauthorized");
    assert_eq!(node.show(&newer).state(), "unknown");
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn sessions_that_were_ended_on_one_node_are_refused_on_the_other() {
    let (server, ring) = (Server::start(&[]), Ring::make());
    let start = || {
        NodeBuilder::new(&[])
            .over_redis(&server.url(), &ring)
            .node()
    };
    let (one, two) = (start(), start());
    let chen = person(1);
    one.feed(&one.seals().authority(), &[chen.resident()]);
    let lost = session_of(&one, &chen, Duration::from_secs(60));
    let found = one.seals().session(&chen);
    until("the other node knows the resident", || {
        two.show(&lost).json()["state"] == "green"
    });
    end_sessions(&one, &found);
    until("the other node refuses the lost phone", || {
        two.show(&lost).status == 401
    });
    assert_eq!(two.show(&found).state(), "green");
}

fn scanner_at(seals: &Credentials, site: &str) -> String {
    let name = AccessToken::bound_name(site, Some("gz-school"));
    seals.pass(TokenKind::Scanner, &name, in_an_hour())
}

fn revoke_holder(node: &Node, role: &str, name: &str) -> Answer {
    let ask = Ask::post(
        "/v1/revocations",
        json!({ "role": role, "name": name }).to_string(),
    );
    let operator = node.seals().operator();
    ask.json().bearer(&operator).at(node.address(Door::Ops))
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_redis_that_was_flushed_gives_nothing_back_on_the_nodes_that_run() {
    let (server, ring) = (Server::start(&[]), Ring::make());
    let start = || {
        NodeBuilder::new(&[])
            .over_redis(&server.url(), &ring)
            .node()
    };
    let nodes = [start(), start()];
    let (seals, chen) = (nodes[0].seals(), person(1));
    nodes[0].feed(&seals.authority(), &[chen.resident()]);
    let lost = session_of(&nodes[0], &chen, Duration::from_secs(60));
    let (gate, authority) = (seals.scanner(), seals.authority());
    let of_site = scanner_at(&seals, "lost-site");
    end_sessions(&nodes[0], &seals.session(&chen));
    revoke(&nodes[0], &gate);
    revoke(&nodes[0], &authority);
    assert_eq!(revoke_holder(&nodes[0], "scanner", "lost-site").status, 201);
    let code = || seals.code_of(&chen, Time::now());
    let refused = |node: &Node| {
        [
            node.show(&lost).status,
            node.scan(&gate, code()).status,
            node.scan(&of_site, code()).status,
            node.post_feed(&authority, chen.resident()).status,
        ]
    };
    let all = [401; 4];
    until("both nodes refuse all", || {
        nodes.iter().all(|node| refused(node) == all)
    });
    server.ask(&["FLUSHALL"]);
    // Both read all lists each second: after so many calls each has read the emptied store.
    let calls = || {
        let stats = server.info("stats");
        let line = stats.lines().find_map(|line| {
            let count = line.strip_prefix("total_commands_processed:")?;
            count.trim().parse::<u64>().ok()
        });
        line.unwrap()
    };
    let before = calls();
    until("both nodes have read the emptied store", || {
        calls() > before + 1_000
    });
    for node in &nodes {
        assert_eq!(refused(node), all);
    }
}

#[test]
fn a_holder_is_revoked_by_role_and_name_and_wrong_bodies_are_refused() {
    let node = Node::start();
    let (seals, chen) = (node.seals(), person(1));
    let (lost, other) = (
        scanner_at(&seals, "lost-site"),
        scanner_at(&seals, "other-site"),
    );
    let code = || seals.code_of(&chen, Time::now());
    assert_eq!(node.scan(&lost, code()).status, 200);
    let said = revoke_holder(&node, "scanner", "lost-site");
    assert_eq!(
        (said.status, &said.json()["revoked"]),
        (201, &json!("lost-site"))
    );
    node.scan(&lost, code()).refuses(401, "unauthorized");
    assert_eq!(node.scan(&other, code()).status, 200);
    // Tokens that are made later are good.
    let then = Time::now();
    until("the clock has moved on", || Time::now() > then);
    let new = scanner_at(&seals, "lost-site");
    assert_eq!(node.scan(&new, code()).status, 200);
    for (body, status, code) in [
        (json!({}), 422, "missing_field"),
        (json!({ "role": "scanner" }), 422, "missing_field"),
        (json!({ "name": "a" }), 422, "missing_field"),
        (json!({ "role": "resident", "name": "a" }), 400, "malformed"),
        (json!({ "role": "Scanner", "name": "a" }), 400, "malformed"),
        (json!({ "role": "staff", "name": "a b" }), 400, "malformed"),
        (json!({ "role": "scanner", "name": "" }), 400, "malformed"),
        (
            json!({ "role": "scanner", "name": "a\u{0}b" }),
            400,
            "malformed",
        ),
        (json!({ "token": new, "name": "a" }), 400, "malformed"),
    ] {
        let ask = Ask::post("/v1/revocations", body.to_string()).json();
        let answer = ask
            .bearer(&node.seals().operator())
            .at(node.address(Door::Ops));
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (status, &json!(code)),
            "{body}"
        );
    }
    assert_eq!(node.scan(&new, code()).status, 200);
}

#[test]
fn a_membership_whose_session_was_revoked_is_renewed_by_nobody() {
    let node = node();
    let (seals, chen, mother) = (node.seals(), person(1), person(2));
    let session = seals.session(&chen);
    let add = || json!({ "assertion": assertion(&claims(&mother)) });
    let added = node.put("/v1/family", &session, add());
    let member = added["session"].as_str().unwrap();
    let path = format!("/v1/family/{}/session", added["id"].as_str().unwrap());
    let other = node.put(&path, &session, json!({}));
    revoke(&node, member);
    for session in [member, other["session"].as_str().unwrap()] {
        node.show(session).refuses(401, "unauthorized");
    }
    node.desk("POST", &path, &session, Some(&json!({})))
        .refuses(404, "not_found");
    // Added again it is another membership.
    let again = node.put("/v1/family", &session, add());
    assert_ne!(again["id"], added["id"]);
    assert_eq!(node.show(again["session"].as_str().unwrap()).status, 200);
}

#[test]
fn what_revokes_sessions_stays_for_the_longest_life_of_a_session() {
    let jwks = concat!(
        "identity_jwks_file=",
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/identity/jwks.json"
    );
    let settings = [
        jwks,
        "identity_issuer=https://id.example",
        "session_life=60s",
    ];
    let node = NodeBuilder::new(&settings).node();
    let (seals, chen, mother) = (node.seals(), person(1), person(2));
    let longest = Time::now().plus(liangma::seal::SESSION_LIFE_MAX);
    let is_late = |said: &serde_json::Value| {
        let until: jiff::Timestamp = said["until"].as_str().unwrap().parse().unwrap();
        assert!(until.as_millisecond() as u64 >= longest.0, "{said}");
    };
    let added = node.put(
        "/v1/family",
        &seals.session(&chen),
        json!({ "assertion": assertion(&claims(&mother)) }),
    );
    for token in [
        added["session"].as_str().unwrap(),
        &session_of(&node, &chen, Duration::from_secs(60)),
    ] {
        let ask = Ask::post("/v1/revocations", json!({ "token": token }).to_string()).json();
        let answer = ask
            .bearer(&node.seals().operator())
            .at(node.address(Door::Ops));
        is_late(&answer.json());
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn no_byte_of_a_revocation_in_redis_is_edited_so_that_the_credential_is_let_in_again() {
    let (server, ring) = (Server::start(&[]), Ring::make());
    let start = || {
        NodeBuilder::new(&["store_timeout=500ms"])
            .over_redis(&server.url(), &ring)
            .warming()
    };
    let node = start();
    let scanner = ring.seals.scanner();
    until("the node is ready", || {
        node.get(Door::Ops, "/ready").status == 200
    });
    revoke(&node, &scanner);
    node.signal(libc::SIGKILL);
    node.end();
    let edit = |kind: u8, other: u8| edit_kind(&server, kind, other, u32::MAX);
    let revocation = PaperKind::Revocation as u8;
    for other in [0, 1, PaperKind::GrantScan as u8, 23, 40, 255] {
        assert_eq!(edit(revocation, other), 1);
        let node = start();
        until("the damage is counted", || {
            node.meter("liangma_store_damaged_total") > 0.0
        });
        node.scan(&scanner, "no code").refuses(503, "warming");
        assert_eq!(edit(other, revocation), 1);
        until("the node is ready", || {
            node.get(Door::Ops, "/ready").status == 200
        });
        node.scan(&scanner, "no code").refuses(401, "unauthorized");
        // A node that runs goes on with what it knows, and learns what other lists say.
        assert_eq!(edit(revocation, other), 1);
        let before = node.meter("liangma_store_damaged_total");
        until("the damage is counted again", || {
            node.meter("liangma_store_damaged_total") > before
        });
        node.scan(&scanner, "no code").refuses(401, "unauthorized");
        assert_eq!(edit(other, revocation), 1);
    }
}
