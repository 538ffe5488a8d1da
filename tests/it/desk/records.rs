//! Health information, trip cards, declarations, entries: in by the feed or by hand, read newest first, never changed.

use crate::harness::*;
use crate::redis::Server;
use liangma::http::door::Door;
use serde_json::{Value, json};

fn event(person: &Person, fields: Value) -> String {
    let mut event = json!({ "cert_type": "10", "cert_no": person.cert_no, "source": "gz-lab" });
    for (name, value) in fields.as_object().unwrap() {
        event[name] = value.clone();
    }
    event.to_string()
}

fn temperature(person: &Person, seq: u64, celsius: f64) -> String {
    let at = format!("2026-11-20T08:00:{seq:02}+08:00");
    event(
        person,
        json!({ "event": "temperature", "celsius": celsius, "at": at, "seq": seq, "region": "440106" }),
    )
}

fn trip(person: &Person, seq: u64, at: &str, places: Value) -> String {
    event(
        person,
        json!({ "event": "trip", "places": places, "at": at, "seq": seq, "source": "carriers" }),
    )
}

pub fn over_both(test: impl Fn(&Node)) {
    over_both_with(&[], test);
}

pub fn over_both_with(settings: &[&str], test: impl Fn(&Node)) {
    test(&NodeBuilder::new(settings).node());
    let (server, ring) = (Server::start(&[]), Ring::make());
    test(
        &NodeBuilder::new(settings)
            .over_redis(&server.url(), &ring)
            .node(),
    );
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_feeds_bring_is_read_back_newest_first_and_once() {
    over_both(|node| {
        let (seals, chen) = (node.seals(), person(1));
        let authority = seals.authority();
        let lines = [
            chen.resident(),
            temperature(&chen, 1, 36.5),
            temperature(&chen, 3, 38.25),
            temperature(&chen, 2, 36.6),
            event(
                &chen,
                json!({
                    "event": "certificate", "certificate": "nucleic_test", "result": "negative", "number": "粤-7",
                    "at": "2026-11-21T08:00:00+08:00", "seq": 1, "until": "2026-11-28",
                }),
            ),
        ];
        assert_eq!(node.feed(&authority, &lines)["applied"], 5);
        assert_eq!(node.feed(&authority, &lines)["unchanged"], 5);
        let session = seals.session(&chen);
        let said = node.read("/v1/health", &session);
        let records = said["records"].as_array().unwrap();
        assert_eq!(records[0]["kind"], "certificate");
        assert_eq!(
            (&records[0]["result"], &records[0]["until"]),
            (&json!("negative"), &json!("2026-11-28"))
        );
        let celsius: Vec<_> = records[1..]
            .iter()
            .map(|record| &record["celsius"])
            .collect();
        assert_eq!(celsius, [&json!(38.3), &json!(36.6), &json!(36.5)]);
        assert_eq!(said["next"], Value::Null);
        // In pages, of one kind.
        let mut path = "/v1/health?kind=temperature&limit=2".to_owned();
        let mut seen = 0;
        loop {
            let page = node.read(&path, &session);
            seen += page["records"].as_array().unwrap().len();
            let Some(next) = page["next"].as_str() else {
                break;
            };
            path = format!("/v1/health?kind=temperature&limit=2&after={next}");
        }
        assert_eq!(seen, 3);
        assert_eq!(
            node.read("/v1/health", &seals.session(&person(2)))["records"],
            json!([])
        );
        assert_eq!(node.show(&session).state(), "green");
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_notice_is_issued_with_its_clear_and_shown_with_it() {
    over_both(|node| {
        let (seals, chen) = (node.seals(), person(1));
        let authority = seals.authority();
        node.feed(&authority, &[chen.set("close_contact", 1)]);
        let session = seals.session(&chen);
        assert_eq!(node.show(&session).state(), "red");
        let notice = |seq: u64| {
            event(
                &chen,
                json!({
                    "event": "notice", "reason": "close_contact", "at": "2026-11-21T08:00:00+08:00", "source": "gd-cdc",
                    "seq": seq, "number": "粤卫-12", "from": "2026-11-07", "until": "2026-11-21", "region": "440106",
                }),
            )
        };
        let fed = node.feed(&authority, &[notice(2)]);
        assert_eq!((&fed["applied"], &fed["unchanged"]), (&json!(1), &json!(0)));
        assert_eq!(node.feed(&authority, &[notice(2)])["unchanged"], 1);
        assert_eq!(node.show(&session).state(), "green");
        let record = &node.read("/v1/health?kind=notice", &session)["records"][0];
        assert_eq!(
            (&record["number"], &record["reason"]),
            (&json!("粤卫-12"), &json!("close_contact"))
        );
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_number_that_a_source_used_for_something_else_is_rejected_and_changes_nothing() {
    over_both(|node| {
        let (seals, chen) = (node.seals(), person(1));
        let authority = seals.authority();
        let session = seals.session(&chen);
        let reading = |celsius: f64| temperature(&chen, 7, celsius);
        let clear = event(
            &chen,
            json!({
                "event": "notice", "reason": "close_contact", "at": "2026-11-21T08:00:00+08:00", "source": "gd-cdc",
                "seq": 5, "number": "粤卫-12", "from": "2026-11-07", "until": "2026-11-21", "region": "440106",
            }),
        );
        // Only what is told of the red is another: it is no rejected line.
        let mut later = chen.said("close_contact", "set", 5);
        later["until"] = json!("9999-12-31");
        let first = [chen.set("close_contact", 5), reading(36.5)];
        assert_eq!(node.feed(&authority, &first)["applied"], 2);
        // In the one order, and with a bad line behind them in the same batch.
        let others = [
            first[0].clone(),
            chen.clear("close_contact", 5),
            later.to_string(),
            clear,
            reading(39.5),
            "rubbish".to_owned(),
            first[1].clone(),
        ];
        for _ in 0..2 {
            let fed = node.post_feed(&authority, others.join("\n")).json();
            assert_eq!(
                (&fed["applied"], &fed["unchanged"]),
                (&json!(0), &json!(3)),
                "{fed}"
            );
            let rejected = fed["rejected"].as_array().unwrap();
            let rejected: Vec<_> = rejected
                .iter()
                .map(|one| (one["line"].as_u64(), one["code"].as_str()))
                .collect();
            let reused = |line| (Some(line), Some("seq_reused"));
            assert_eq!(
                rejected,
                [reused(2), reused(4), reused(5), (Some(6), Some("not_json"))]
            );
        }
        assert_eq!(node.show(&session).state(), "red");
        let records = node.read("/v1/health", &session);
        let records = records["records"].as_array().unwrap();
        assert_eq!(
            records.len(),
            1,
            "no notice of a release that was none: {records:?}"
        );
        assert_eq!(records[0]["celsius"], 36.5);
        // Within one body alike.
        let li = person(2);
        let both = [li.set("confirmed", 1), li.clear("confirmed", 1)].join(
            "
",
        );
        let fed = node.post_feed(&authority, both).json();
        assert_eq!(fed["rejected"][0]["code"], "seq_reused", "{fed}");
        assert_eq!(node.show(&seals.session(&li)).state(), "red");
    });
}

#[test]
fn records_can_neither_be_changed_nor_deleted_and_the_refusal_says_what_to_do() {
    let node = Node::start();
    let session = node.seals().session(&person(1));
    for method in ["PUT", "PATCH", "DELETE"] {
        for (path, allow) in [
            ("/v1/health", "GET, HEAD"),
            ("/v1/health/AAAA", ""),
            ("/v1/declarations/AAAA", ""),
            ("/v1/entries", "GET, HEAD, POST"),
        ] {
            let answer = node.desk(method, path, &session, None);
            let said = answer.refuses(405, "record_unchangeable");
            assert!(said["title"].as_str().unwrap().contains("重新申报"));
            assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
        }
    }
    let answer = node.desk("POST", "/v1/health", &session, Some(&json!({})));
    answer.refuses(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    let stranger = node.desk("DELETE", "/v1/health", "nonsense", None);
    stranger.refuses(401, "unauthorized");
    assert_eq!(stranger.header("allow"), None);
}

#[test]
fn an_unverified_minor_is_not_told_the_history_of_temperatures() {
    let node = Node::start();
    let (seals, chen) = (node.seals(), person(1));
    node.feed(
        &seals.authority(),
        &[chen.resident(), temperature(&chen, 1, 36.5)],
    );
    let said = node.read("/v1/health", &seals.session_unverified(&chen));
    assert_eq!(
        (&said["records"], &said["withheld"]),
        (&json!([]), &json!(["temperature"]))
    );
    let said = node.read(
        "/v1/health?kind=temperature",
        &seals.session_unverified(&chen),
    );
    assert_eq!(said["records"], json!([]));
    assert_eq!(
        node.read("/v1/health", &seals.session(&chen))["records"][0]["celsius"],
        36.5
    );
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_trip_card_has_a_time_of_its_own_and_never_changes_a_colour() {
    over_both(|node| {
        let (seals, chen) = (node.seals(), person(1));
        let session = seals.session(&chen);
        assert_eq!(node.read("/v1/trip", &session)["state"], "unknown");
        let day = |ago: i64| {
            let at = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * ago);
            at.to_string()
        };
        let lines = [
            chen.resident(),
            trip(&chen, 2, &day(1), json!(["440100", "420100"])),
            trip(&chen, 1, &day(2), json!(["440100"])),
        ];
        node.feed(&seals.authority(), &lines);
        let card = node.read("/v1/trip", &session);
        assert_eq!(
            (&card["state"], &card["places"]),
            (&json!("known"), &json!(["440100", "420100"]))
        );
        let as_of: jiff::Timestamp = card["as_of"].as_str().unwrap().parse().unwrap();
        assert!(as_of < jiff::Timestamp::now());
        assert_eq!(node.show(&session).state(), "green");
        // Of somebody about whom the carriers have said nothing for long.
        let old = person(2);
        node.feed(
            &seals.authority(),
            &[trip(&old, 1, "2020-04-20T00:00:00Z", json!(["420100"]))],
        );
        let card = node.read("/v1/trip", &seals.session(&old));
        assert_eq!(
            (&card["state"], &card["places"]),
            (&json!("too_old"), &json!([]))
        );
    });
}

fn declaration(celsius: f64) -> Value {
    json!({
        "celsius": celsius, "symptoms": ["cold_like", "short_breath"], "contact": "no",
        "high_risk_area": false, "places": ["440300"], "residence": "440106",
    })
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn the_newest_declaration_counts_and_the_history_stays() {
    over_both(|node| {
        let (seals, chen) = (node.seals(), person(1));
        let session = seals.session(&chen);
        node.put("/v1/declarations", &session, declaration(38.5));
        node.put("/v1/declarations", &session, declaration(36.4));
        let said = node.read("/v1/declarations", &session);
        let all = said["declarations"].as_array().unwrap();
        let told: Vec<_> = all
            .iter()
            .map(|one| (&one["celsius"], &one["current"]))
            .collect();
        assert_eq!(
            told,
            [(&json!(36.4), &json!(true)), (&json!(38.5), &json!(false))]
        );
        assert_eq!(
            (&all[0]["symptom"], &all[0]["by"]),
            (&json!("2^3"), &json!("self"))
        );
        assert_eq!(
            node.read("/v1/health?kind=declaration", &session)["records"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
    });
}

#[test]
fn a_declaration_with_an_idempotency_key_is_made_once() {
    let node = Node::start();
    let session = node.seals().session(&person(1));
    let ask = |key: &str| {
        let ask = Ask::post("/v1/declarations", declaration(36.5).to_string()).json();
        ask.bearer(&session)
            .header("idempotency-key", key)
            .at(node.address(Door::Desk))
    };
    let (first, again, other) = (ask("a").json(), ask("a").json(), ask("b").json());
    assert_eq!(
        (&first["new"], &again["new"], &other["new"]),
        (&json!(true), &json!(false), &json!(true))
    );
    assert_eq!(first["id"], again["id"]);
    ask(&"k".repeat(65)).refuses(400, "malformed");
    assert_eq!(
        node.read("/v1/declarations", &session)["declarations"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn an_idempotency_key_stands_for_one_content_whatever_is_filed() {
    over_both(|node| {
        let session = node.seals().session(&person(1));
        let mut elsewhere = entry();
        elsewhere["destination"] = json!("440300");
        let grant = |to: &str| json!({ "organisation": to, "until": "2099-12-31" });
        let appeal = |text: &str| json!({ "reason": "close_contact", "text": text });
        for (path, list, one, other) in [
            ("/v1/grants", "grants", grant("o-1"), grant("o-2")),
            ("/v1/appeals", "appeals", appeal("one"), appeal("other")),
            ("/v1/entries", "entries", entry(), elsewhere),
            (
                "/v1/declarations",
                "declarations",
                declaration(36.4),
                declaration(39.9),
            ),
        ] {
            let ask = |body: &Value| {
                let ask = Ask::post(path, body.to_string()).json().bearer(&session);
                ask.header("idempotency-key", "monday")
                    .at(node.address(Door::Desk))
            };
            let first = ask(&one).json();
            assert_eq!(ask(&one).json()["id"], first["id"], "{path}");
            ask(&other).refuses(422, "idempotency_mismatch");
            assert_eq!(ask(&one).json()["id"], first["id"], "{path}");
            let listed = node.read(path, &session);
            assert_eq!(listed[list].as_array().unwrap().len(), 1, "{path}");
        }
    });
}

#[test]
fn what_another_declares_is_never_the_declaration_that_counts() {
    let node = crate::sessions::node();
    let (seals, chen, grandmother) = (node.seals(), person(1), person(2));
    let own = seals.session(&grandmother);
    node.put("/v1/declarations", &own, declaration(36.5));
    let mut body = declaration(39.9);
    body["for"] =
        json!({ "cert_type": "10", "cert_no": grandmother.cert_no, "name": grandmother.name });
    add_member(&node, &chen, &grandmother);
    node.put("/v1/declarations", &seals.session(&chen), body.clone());
    let said = node.read("/v1/declarations", &own);
    let told = |nth: usize| {
        (
            &said["declarations"][nth]["by"],
            &said["declarations"][nth]["current"],
        )
    };
    assert_eq!(told(0), (&json!("other"), &json!(false)));
    assert_eq!(told(1), (&json!("self"), &json!(true)));
    // Also where a whole page is another's.
    for _ in 0..3 {
        node.put("/v1/declarations", &seals.session(&chen), body.clone());
    }
    let first = node.read("/v1/declarations?limit=2", &own);
    let rest = format!("/v1/declarations?after={}", first["next"].as_str().unwrap());
    let rest = node.read(&rest, &own);
    let current = |said: &Value| -> Vec<bool> {
        let all = said["declarations"].as_array().unwrap();
        all.iter()
            .map(|one| one["current"].as_bool().unwrap())
            .collect()
    };
    assert_eq!(current(&first), [false, false]);
    assert_eq!(current(&rest), [false, false, true]);
}

#[test]
fn one_appeal_of_a_reason_is_open_at_a_time() {
    let node = Node::start();
    let session = node.seals().session(&person(1));
    let appeal = |reason: &str| json!({ "reason": reason, "text": "not me" });
    node.put("/v1/appeals", &session, appeal("close_contact"));
    let again = node.desk(
        "POST",
        "/v1/appeals",
        &session,
        Some(&appeal("close_contact")),
    );
    again.refuses(409, "limit_reached");
    node.put("/v1/appeals", &session, appeal("suspected"));
}

#[test]
fn a_person_files_so_many_a_day_and_a_repeat_is_no_more() {
    let node = Node::start();
    let session = node.seals().session(&person(1));
    let ask = |key: &str| {
        let ask = Ask::post("/v1/entries", entry().to_string()).json();
        ask.bearer(&session)
            .header("idempotency-key", key)
            .at(node.address(Door::Desk))
    };
    let first = ask("0").json();
    for key in 1..16 {
        assert_eq!(ask(&key.to_string()).json()["new"], true);
    }
    ask("16").refuses(409, "limit_reached");
    assert_eq!(ask("0").json()["id"], first["id"]);
}

#[test]
fn a_person_declares_for_another_who_sees_by_whom() {
    let node = crate::sessions::node();
    let (seals, chen, grandmother) = (node.seals(), person(1), person(2));
    let mut body = declaration(36.5);
    body["for"] =
        json!({ "cert_type": "10", "cert_no": grandmother.cert_no, "name": grandmother.name });
    add_member(&node, &chen, &grandmother);
    node.put("/v1/declarations", &seals.session(&chen), body);
    let said = node.read("/v1/declarations", &seals.session(&grandmother));
    let told = &said["declarations"][0];
    assert_eq!(
        (&told["by"], &told["declarer"]["name"]),
        (&json!("other"), &json!("陈**"))
    );
    assert!(!said.to_string().contains(&chen.cert_no));
}

fn add_member(node: &Node, owner: &Person, member: &Person) -> Value {
    let assertion = super::family::assertion(&crate::sessions::claims(member));
    let session = node.seals().session(owner);
    node.put("/v1/family", &session, json!({ "assertion": assertion }))
}

#[test]
fn nobody_declares_for_a_person_who_did_not_consent_and_the_refusal_tells_nothing() {
    let node = crate::sessions::node();
    let (seals, chen) = (node.seals(), person(1));
    let (mother, stranger, nobody) = (person(2), person(3), person(4));
    let session = seals.session(&chen);
    node.feed(&seals.authority(), &[stranger.resident()]);
    let added = add_member(&node, &chen, &mother);
    let about = |person: &Person, name: &str| {
        let mut body = declaration(39.9);
        body["for"] = json!({ "cert_type": "10", "cert_no": person.cert_no, "name": name });
        body
    };
    let declare =
        |session: &str, body: &Value| node.desk("POST", "/v1/declarations", session, Some(body));
    let member = added["session"].as_str().unwrap();
    let cases = [
        // On record, and a right name; on record, and a wrong one; a member by a wrong name; on no record.
        (&*session, about(&stranger, stranger.name)),
        (&*session, about(&stranger, "不知道")),
        (&*session, about(&mother, "不知道")),
        (&*session, about(&nobody, "不知道")),
        // The member consented to be shown, and the owner did not consent to anything.
        (member, about(&chen, chen.name)),
    ];
    let mut bodies = Vec::new();
    for (session, body) in &cases {
        let answer = declare(session, body);
        answer.refuses(403, "no_consent");
        // Each request has an id of its own, which tells nothing.
        let mut body = answer.json();
        assert!(body["request_id"].take().is_string());
        bodies.push(body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    // Contents are judged before whom they are about.
    for (session, mut body) in cases {
        body["contact"] = Value::Null;
        declare(session, &body).refuses(422, "missing_field");
    }
    for person in [&chen, &mother, &stranger, &nobody] {
        let said = node.read("/v1/declarations", &seals.session(person));
        assert_eq!(said["declarations"], json!([]));
    }
    let own = about(&mother, mother.name);
    assert_eq!(declare(&session, &own).status, 201);
    // Consent ends with the membership.
    let path = format!("/v1/family/{}", added["id"].as_str().unwrap());
    assert_eq!(node.desk("DELETE", &path, &session, None).status, 200);
    declare(&session, &own).refuses(403, "no_consent");
}

#[test]
fn a_bad_declaration_is_told_which_field_is_wrong() {
    let node = Node::start();
    let session = node.seals().session(&person(1));
    for (name, value, code) in [
        ("celsius", json!(50), "bad_temperature"),
        ("symptoms", json!(["hungry"]), "unknown_symptom"),
        ("symptoms", json!(["none", "nausea"]), "unknown_symptom"),
        ("symptoms", json!([]), "missing_field"),
        ("contact", json!("perhaps"), "unknown_contact"),
        ("contact", Value::Null, "missing_field"),
        ("high_risk_area", Value::Null, "missing_field"),
        ("places", json!(["Canton"]), "bad_places"),
        ("residence", json!("44"), "bad_region"),
        (
            "for",
            json!({ "cert_type": "10", "cert_no": "440106199003077210", "name": "李" }),
            "bad_check_digit",
        ),
    ] {
        let mut body = declaration(36.5);
        body[name] = value;
        let answer = node.desk("POST", "/v1/declarations", &session, Some(&body));
        let said = answer.refuses(422, code);
        assert!(!said["detail"].as_str().unwrap().is_empty());
    }
    for body in [json!([]), json!({ "celsius": "hot" }), json!("x")] {
        node.desk("POST", "/v1/declarations", &session, Some(&body))
            .refuses(400, "malformed");
    }
}

fn entry() -> Value {
    json!({
        "destination": "440106", "arrives": "2026-11-25", "from": "420100", "departs": "2026-11-24",
        "transport": "train", "number": "G1002", "nucleic_test": { "result": "negative", "at": "2026-11-20T10:00:00+08:00" },
    })
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn an_entry_is_read_back_and_listed_for_the_destinations_staff_who_say_why() {
    over_both(|node| {
        let seals = node.seals();
        for n in 0..30 {
            node.put("/v1/entries", &seals.session(&person(n)), entry());
        }
        let own = node.read("/v1/entries", &seals.session(&person(3)));
        assert_eq!(own["entries"].as_array().unwrap().len(), 1);
        assert_eq!(own["entries"][0]["number"], "G1002");
        let staff = seals.staff("wang-01", "440100");
        let mut path =
            "/v1/entries?destination=440106&day=2026-11-25&purpose=community-reception&limit=20"
                .to_owned();
        let mut listed = Vec::new();
        loop {
            let page = node.read(&path, &staff);
            listed.extend(page["entries"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else {
                break;
            };
            path = format!(
                "/v1/entries?destination=440106&day=2026-11-25&purpose=community-reception&after={next}"
            );
        }
        assert_eq!(listed.len(), 30);
        assert!(listed.iter().all(|entry| entry["person"]["name"] == "陈**"));
        // Each who was listed is told of it.
        let told = node.read("/v1/accesses", &seals.session(&person(3)));
        let told = told["accesses"].as_array().unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!(
            (&told[0]["by"], &told[0]["purpose"]),
            (&json!("wang-01"), &json!("community-reception"))
        );
        let other = seals.staff("li-02", "440300");
        node.desk(
            "GET",
            "/v1/entries?destination=440106&day=2026-11-25&purpose=x",
            &other,
            None,
        )
        .refuses(403, "not_permitted");
        node.desk(
            "GET",
            "/v1/entries?destination=440106&day=2026-11-25",
            &staff,
            None,
        )
        .refuses(422, "missing_field");
    });
}

#[test]
fn a_bad_entry_is_told_which_field_is_wrong() {
    let node = Node::start();
    let session = node.seals().session(&person(1));
    for (name, value, code) in [
        ("destination", json!("Canton"), "bad_region"),
        ("destination", Value::Null, "missing_field"),
        ("arrives", json!("tomorrow"), "bad_until"),
        ("transport", json!("camel"), "unknown_transport"),
        (
            "nucleic_test",
            json!({ "result": "fine", "at": "2026-11-20T10:00:00+08:00" }),
            "unknown_result",
        ),
        (
            "nucleic_test",
            json!({ "result": "negative", "at": "2036-11-20T10:00:00+08:00" }),
            "bad_time",
        ),
    ] {
        let mut body = entry();
        body[name] = value;
        node.desk("POST", "/v1/entries", &session, Some(&body))
            .refuses(422, code);
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_key_stands_for_one_content_however_many_came_after_it() {
    over_both_with(&["desk_requests_per_second=10000"], |node| {
        let session = node.seals().session(&person(1));
        let ask = |key: &str, to: &str| {
            let body = json!({ "organisation": to, "until": "2099-12-31" });
            let ask = Ask::post("/v1/grants", body.to_string()).json();
            ask.bearer(&session)
                .header("idempotency-key", key)
                .at(node.address(Door::Desk))
        };
        assert_eq!(ask("first", "o-1").status, 201);
        // Refused ones have their keys bound as well.
        let mut refused = 0;
        for nth in 0..600 {
            refused += u32::from(ask(&nth.to_string(), "o-2").status == 409);
        }
        assert_eq!(refused, 600 - 63);
        ask("first", "o-3").refuses(422, "idempotency_mismatch");
        assert_eq!(ask("first", "o-1").status, 201);
    });
}

#[test]
fn the_name_of_a_member_is_not_found_by_trying() {
    let [jwks, issuer] = crate::sessions::platform();
    let node = NodeBuilder::new(&[jwks, issuer, "desk_requests_per_second=10000"]).node();
    let (seals, chen, grandmother) = (node.seals(), person(1), person(2));
    add_member(&node, &chen, &grandmother);
    let ask = |name: &str| {
        let mut body = declaration(36.5);
        body["for"] = json!({ "cert_type": "10", "cert_no": grandmother.cert_no, "name": name });
        node.desk(
            "POST",
            "/v1/declarations",
            &seals.session(&chen),
            Some(&body),
        )
    };
    for _ in 0..128 {
        ask("陈美美").refuses(403, "no_consent");
    }
    ask(grandmother.name).refuses(409, "limit_reached");
    // The member does not pay for it.
    node.put(
        "/v1/declarations",
        &seals.session(&grandmother),
        declaration(36.5),
    );
}

/// Asks for all of these at one moment. Returns how many were done.
fn at_once(nodes: &[&Node], session: &str, path: &str, bodies: &[Value]) -> usize {
    let statuses = std::thread::scope(|scope| {
        let asked = bodies.iter().enumerate().map(|(nth, body)| {
            let node = nodes[nth % nodes.len()];
            scope.spawn(move || node.desk("POST", path, session, Some(body)).status)
        });
        let asked: Vec<_> = asked.collect();
        let statuses = asked.into_iter().map(|asked| asked.join().unwrap());
        statuses.collect::<Vec<u16>>()
    });
    statuses.iter().filter(|status| **status == 201).count()
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn limits_hold_for_requests_at_one_moment_on_two_nodes() {
    let [jwks, issuer] = crate::sessions::platform();
    let settings = [jwks, issuer, "desk_requests_per_second=10000"];
    let (server, ring) = (Server::start(&[]), Ring::make());
    let start = || {
        NodeBuilder::new(&settings)
            .over_redis(&server.url(), &ring)
            .node()
    };
    let (one, other) = (start(), start());
    let session = one.seals().session(&person(1));
    let listed = |path: &str, name: &str| {
        let listed = one.read(path, &session);
        listed[name].as_array().unwrap().len()
    };
    let nodes = [&one, &other];
    let appeals: Vec<Value> = (0..20)
        .map(|nth| json!({ "reason": "close_contact", "text": format!("text {nth}") }))
        .collect();
    at_once(&nodes, &session, "/v1/appeals", &appeals);
    assert!(listed("/v1/appeals", "appeals") <= 1);
    let entries: Vec<Value> = (0..40)
        .map(|nth| {
            let mut entry = entry();
            entry["destination"] = json!((440_106 + nth % 2).to_string());
            entry["number"] = json!(format!("G{nth}"));
            entry
        })
        .collect();
    let done = at_once(&nodes, &session, "/v1/entries", &entries);
    assert_eq!((done, listed("/v1/entries?limit=100", "entries")), (16, 16));
    let members: Vec<Value> = (2..22)
        .map(|nth| {
            let assertion = super::family::assertion(&crate::sessions::claims(&person(nth)));
            json!({ "assertion": assertion })
        })
        .collect();
    let done = at_once(&nodes, &session, "/v1/family", &members);
    assert_eq!(listed("/v1/family", "members"), done);
    assert!(done <= 8, "{done}");
    let grants: Vec<Value> = (0..100)
        .map(|nth| json!({ "organisation": format!("o-{nth}"), "until": "2099-12-31" }))
        .collect();
    let done = at_once(&nodes, &session, "/v1/grants", &grants);
    assert_eq!(listed("/v1/grants", "grants"), done);
    assert!(done <= 64, "{done}");
    let declarations: Vec<Value> = (0..150).map(|_| declaration(36.5)).collect();
    let done = at_once(&nodes, &session, "/v1/declarations", &declarations);
    assert_eq!(done, 128);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_is_filed_by_who_shows_a_member_takes_nothing_from_the_members_own_quota() {
    over_both_with(&["desk_requests_per_second=10000"], |node| {
        let (seals, chen) = (node.seals(), person(1));
        let (own, shown) = (seals.session(&chen), seals.session_of_member(&chen));
        for _ in 0..16 {
            node.put("/v1/entries", &shown, entry());
        }
        let more = node.desk("POST", "/v1/entries", &shown, Some(&entry()));
        more.refuses(409, "limit_reached");
        let mut elsewhere = entry();
        elsewhere["destination"] = json!("440300");
        node.put("/v1/entries", &own, elsewhere);
        for _ in 0..128 {
            node.put("/v1/declarations", &shown, declaration(36.5));
        }
        node.desk("POST", "/v1/declarations", &shown, Some(&declaration(36.5)))
            .refuses(409, "limit_reached");
        node.put("/v1/declarations", &own, declaration(36.5));
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_one_source_says_of_a_persons_health_displaces_nothing_of_another() {
    over_both(|node| {
        let (seals, chen, other) = (node.seals(), person(1), person(2));
        let certificate = |person: &Person, source: &str, seq: usize, at: &str| {
            let said = json!({
                "event": "certificate", "certificate": "health", "at": at, "seq": seq, "source": source,
            });
            event(person, said)
        };
        let many = |person: &Person| -> Vec<String> {
            let line = |seq| certificate(person, "gz", seq, "2026-11-20T08:00:00+08:00");
            (0..600).map(line).collect()
        };
        let old = |person: &Person| {
            [certificate(
                person,
                "gz-lab",
                1,
                "2020-05-04T08:00:00+08:00",
            )]
        };
        // Before and after the many of the other.
        node.feed(&seals.authority(), &old(&chen));
        for person in [&chen, &other] {
            node.feed(&seals.authority(), &many(person));
        }
        node.feed(&seals.authority(), &old(&other));
        for person in [&chen, &other] {
            let session = seals.session(person);
            let mut path = "/v1/health?kind=certificate&limit=100".to_owned();
            let oldest = loop {
                let page = node.read(&path, &session);
                let Some(next) = page["next"].as_str() else {
                    break page["records"].as_array().unwrap().last().unwrap().clone();
                };
                path = format!("/v1/health?kind=certificate&limit=100&after={next}");
            };
            assert_eq!(oldest["source"], "gz-lab");
        }
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_text_of_the_longest_kind_of_characters_is_taken() {
    over_both(|node| {
        let session = node.seals().session(&person(1));
        let text = "😀".repeat(200);
        let appeal = json!({ "reason": "high_risk_area", "text": text });
        node.put("/v1/appeals", &session, appeal);
        let told = node.read("/v1/appeals", &session);
        assert_eq!(told["appeals"][0]["text"], text);
    });
}
