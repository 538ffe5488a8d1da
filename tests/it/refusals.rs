//! Refusals: every line of the contract's table, as it comes over the wire.

use crate::fake_store::{FakeFault, FakeFaults};
use crate::harness::*;
use liangma::http::door::Door;
use liangma::seal::ring::TokenKind;
use liangma::status::{Reason, Reasons};

#[test]
fn a_newcomer_past_the_cap_is_told_that_we_are_busy() {
    let node = NodeBuilder::new(&["resident_connections_max=1"]).node();
    let session = node.seals().session(&person(1));
    let mut first = Connection::to(node.address(Door::Resident));
    let ask = || Ask::get("/v1/code").bearer(&session);
    first.send(ask().bytes());
    assert_eq!(first.answer().status, 200);
    for _ in 0..5 {
        ask().at(node.address(Door::Resident)).refuses(503, "busy");
        first.send(ask().bytes());
        let status = first.answer().status;
        assert_eq!(status, 200, "whoever was there first is served");
    }
    drop(first);
    until("there is room again", || node.show(&session).status == 200);
}

#[test]
fn a_busy_answer_is_in_the_language_of_the_one_who_asks() {
    let node = NodeBuilder::new(&["resident_connections_max=1"]).node();
    let session = node.seals().session(&person(1));
    let mut first = Connection::to(node.address(Door::Resident));
    for _ in 0..20 {
        first.send(Ask::get("/v1/code").bearer(&session).bytes());
        assert_eq!(first.answer().status, 200);
        let ask = Ask::get("/v1/code").header("accept-language", "en");
        let body = ask.at(node.address(Door::Resident)).refuses(503, "busy");
        let title = body["title"].as_str().unwrap();
        assert!(title.starts_with("The system is busy"), "{title}");
    }
}

#[test]
fn a_busy_answer_is_in_chinese_unless_asked_otherwise() {
    let node = NodeBuilder::new(&["desk_connections_max=1"]).node();
    let session = node.seals().session(&person(1));
    let mut first = Connection::to(node.address(Door::Desk));
    // Whoever is in without credentials would make room.
    first.send(Ask::get("/v1/status").bearer(&session).bytes());
    assert_eq!(first.answer().status, 200);
    let body = node.get(Door::Desk, "/v1/status").refuses(503, "busy");
    assert_eq!(body["title"], "系统繁忙，当前查询人数过多，请稍后再试");
}

#[test]
fn a_store_that_stalls_or_errs_leaves_the_desk_and_the_feed_busy_and_shows_alone() {
    for mood in [FakeFault::Stalls, FakeFault::Errs] {
        let node = InProcessNode::open(
            FakeFaults::default(),
            &["store_timeout=50ms"],
            Some(Default::default()),
        )
        .filled();
        let chen = person(1);
        let (session, authority) = (node.seals.session(&chen), node.seals.authority());
        node.feed(&authority, &[chen.set("suspected", 1)]);
        node.store.set(FakeFaults {
            find: mood,
            apply: mood,
            ..FakeFaults::default()
        });
        node.explain(&session).refuses(503, "upstream_busy");
        node.post_feed(&authority, chen.set("suspected", 2))
            .refuses(503, "upstream_busy");
        assert_eq!(node.show(&session).state(), "red");
        assert_eq!(
            node.scan(&node.seals.scanner(), node.code(&session))
                .state(),
            "red"
        );
        node.store.set(FakeFaults::default());
        assert_eq!(node.explain(&session).state(), "red");
        node.feed(&authority, &[chen.clear("suspected", 3)]);
        assert_eq!(node.show(&session).state(), "green");
    }
}

#[test]
fn a_node_that_is_being_filled_asks_the_store_for_whom_it_has_not_loaded() {
    let filling = |find| FakeFaults {
        fill: FakeFault::Stalls,
        find,
        ..FakeFaults::default()
    };
    let node = InProcessNode::open(
        filling(FakeFault::Errs),
        &["store_read_timeout=100ms"],
        Some(Default::default()),
    );
    let (known, late, nobody) = (person(1), person(2), person(3));
    node.store.put_unposted(node.seals.who(&late).0);
    let scan = |who| {
        let code = node.seals.code_of(who, liangma::clock::Time::now());
        node.scan(&node.seals.scanner(), &code)
    };
    let show = |who| node.show(&node.seals.session(who));
    for mood in [FakeFault::Errs, FakeFault::Stalls] {
        node.store.set(filling(mood));
        show(&late).refuses(503, "upstream_busy");
        scan(&late).refuses(503, "upstream_busy");
        let bulk = Ask::post(
            "/v1/scan/bulk",
            node.seals.code_of(&late, liangma::clock::Time::now()),
        )
        .bearer(&node.seals.scanner());
        let bulk = bulk.at(node.address(Door::Gate));
        assert_eq!(text(&bulk.body).trim_end(), r#"{"error":"warming"}"#);
    }
    node.store.set(filling(FakeFault::Works));
    node.feed(&node.seals.authority(), &[known.resident()]);
    assert_eq!(show(&known).state(), "green");
    assert_eq!(scan(&late).state(), "green");
    assert_eq!(show(&late).state(), "green");
    assert_eq!(show(&nobody).state(), "unknown");
    assert_eq!(scan(&nobody).state(), "unknown");
    let ready = node.get(Door::Ops, "/ready");
    assert_eq!(
        (ready.status, &ready.json()["state"]),
        (503, &"warming".into())
    );
    assert_eq!(node.get(Door::Ops, "/live").status, 200);
    node.store.set(FakeFaults::default());
    // Looks have told of later than the board knew.
    node.store.confirm();
    let node = node.filled();
    assert_eq!(node.show(&node.seals.session(&nobody)).state(), "unknown");
    assert_eq!(node.get(Door::Ops, "/ready").status, 200);
}

#[test]
fn a_resident_whose_home_is_a_strangers_shows_the_own_colour() {
    let stalled = FakeFaults {
        fill: FakeFault::Stalls,
        ..FakeFaults::default()
    };
    let node = InProcessNode::open(stalled, &[], Some(Default::default()));
    let one = person(1);
    let (who, _) = node.seals.who(&one);
    node.store.displace(who);
    let session = node.seals.session(&one);
    assert_eq!(node.show(&session).state(), "green");
    let red = Reasons::NONE.with(Reason::Suspected);
    node.store.post_displaced(who, red);
    let shown = node.show(&session);
    assert_eq!(shown.state(), "red");
    let code = shown.json()["code"].as_str().unwrap().to_owned();
    let verdict = node.scan(&node.seals.scanner(), &code);
    assert_eq!(verdict.state(), "red");
    // A code made of the document alone holds the stranger's id: the stranger's green is not told.
    let code = node.seals.code_of(&one, liangma::clock::Time::now());
    let verdict = node.scan(&node.seals.scanner(), &code);
    assert_eq!(verdict.state(), "unknown");
}

#[test]
fn a_node_that_is_not_ready_says_when_to_come_again() {
    let stalled = FakeFaults {
        fill: FakeFault::Stalls,
        ..FakeFaults::default()
    };
    let node = InProcessNode::open(stalled, &[], Some(Default::default()));
    let ready = node.get(Door::Ops, "/ready");
    assert!(ready.header("retry-after").is_some());
    assert!(ready.json()["retry_after_ms"].is_u64());
}

#[test]
fn a_leaving_node_begins_no_feed() {
    let node = NodeBuilder::new(&["drain_delay=30s"]).node();
    let authority = node.seals().authority();
    node.signal(libc::SIGTERM);
    until("it leaves", || node.get(Door::Ops, "/ready").status == 503);
    node.post_feed(&authority, person(1).resident())
        .refuses(503, "draining");
    // One that comes within a second is the same one.
    node.signal(libc::SIGKILL);
    node.end();
}

#[test]
fn a_session_that_asks_the_desk_too_often_is_told_to_wait() {
    let node = NodeBuilder::new(&["desk_requests_per_second=1"]).node();
    let seals = node.seals();
    let (eager, other) = (seals.session(&person(1)), seals.session(&person(2)));
    assert_eq!(node.explain(&eager).status, 200);
    let mut refused = node.explain(&eager);
    until("it has asked too often", || {
        let too_often = refused.status == 429;
        if !too_often {
            refused = node.explain(&eager);
        }
        too_often
    });
    refused.refuses(429, "rate_limited");
    assert_eq!(
        node.explain(&other).status,
        200,
        "others have their own turns"
    );
}

#[test]
fn credentials_are_missing_bad_expired_or_of_the_wrong_kind() {
    let node = Node::start();
    let seals = node.seals();
    let chen = person(1);
    let session = seals.session(&chen);
    let (scanner, authority) = (seals.scanner(), seals.authority());
    for (door, method, path, expired, wrong) in [
        (
            Door::Resident,
            "GET",
            "/v1/code",
            seals.session_until(&chen, long_ago()),
            &scanner,
        ),
        (
            Door::Desk,
            "GET",
            "/v1/status",
            seals.session_until(&chen, long_ago()),
            &authority,
        ),
        (
            Door::Gate,
            "POST",
            "/v1/scan",
            seals.pass(TokenKind::Scanner, "x", long_ago()),
            &session,
        ),
        (
            Door::Gate,
            "POST",
            "/v1/scan/bulk",
            seals.pass(TokenKind::Scanner, "x", long_ago()),
            &session,
        ),
        (
            Door::Ops,
            "POST",
            "/v1/feed",
            seals.pass(TokenKind::Authority, "x", long_ago()),
            &scanner,
        ),
    ] {
        let ask = || match method {
            "GET" => Ask::get(path),
            _ => Ask::post(path, "x"),
        };
        let at = node.address(door);
        ask().at(at).refuses(401, "unauthorized");
        ask()
            .header("authorization", "Basic Zm9v")
            .at(at)
            .refuses(401, "unauthorized");
        ask()
            .bearer(&"A".repeat(4000))
            .at(at)
            .refuses(401, "unauthorized");
        ask().bearer("!").at(at).refuses(401, "unauthorized");
        ask()
            .bearer(&expired)
            .at(at)
            .refuses(401, "session_expired");
        ask().bearer(wrong).at(at).refuses(403, "not_permitted");
    }
}

#[test]
fn paths_methods_and_bodies_that_no_door_takes_are_refused() {
    let node = Node::start();
    let seals = node.seals();
    let (scanner, authority) = (seals.scanner(), seals.authority());
    node.get(Door::Resident, "/v1/scan")
        .refuses(404, "not_found");
    node.get(Door::Gate, "/metrics").refuses(404, "not_found");
    for (door, method, path, allow) in [
        (Door::Resident, "POST", "/v1/code", "GET, HEAD"),
        (Door::Gate, "GET", "/v1/scan", "POST"),
        (Door::Gate, "DELETE", "/v1/scan/bulk", "POST"),
        (Door::Desk, "PUT", "/v1/sessions", "POST"),
        (Door::Desk, "POST", "/v1/status", "GET, HEAD"),
        (Door::Ops, "POST", "/ready", "GET, HEAD"),
        (Door::Ops, "GET", "/v1/feed", "POST"),
    ] {
        let answer = Ask::new(method, path).at(node.address(door));
        answer.refuses(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some(allow), "{path}");
    }
    let gate = node.address(Door::Gate);
    let scan = |body: &str| Ask::post("/v1/scan", body).bearer(&scanner);
    scan("{").json().at(gate).refuses(400, "malformed");
    scan("<a/>")
        .header("content-type", "text/xml")
        .at(gate)
        .refuses(415, "unsupported_media_type");
    scan(&"A".repeat(5000)).at(gate).refuses(413, "too_large");
    scan("A").at(gate).refuses(422, "code_invalid");
    let old = seals.code_of(&person(1), liangma::clock::Time(long_ago().0 - 3_600_000));
    scan(&old).at(gate).refuses(422, "code_expired");
    let feed = Ask::post("/v1/feed", "x").bearer(&authority);
    let feed = feed
        .header("content-type", "text/html")
        .at(node.address(Door::Ops));
    feed.refuses(415, "unsupported_media_type");
    let desk = node.address(Door::Desk);
    Ask::post("/v1/sessions", "[]")
        .at(desk)
        .refuses(400, "malformed");
    Ask::post("/v1/sessions", vec![b' '; 20_000])
        .at(desk)
        .refuses(413, "too_large");
}

#[test]
fn a_feed_past_its_bytes_is_too_large() {
    let node = NodeBuilder::new(&["feed_bytes_max=1KiB"]).node();
    let authority = node.seals().authority();
    let lines: Vec<String> = (0..20).map(|nth| person(nth).resident()).collect();
    node.post_feed(&authority, lines.join("\n"))
        .refuses(413, "too_large");
}
