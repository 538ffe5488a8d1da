//! The audit log, and what is left after somebody was erased; nothing personal is told to operators.

use crate::harness::*;
use crate::redis::{Server, is_missing};
use liangma::http::query::Door;
use serde_json::{Value, json};
use std::path::Path;

fn look(node: &Node, number: &Value, times: usize) {
    let staff = node.seals().staff("wang-01", "440100");
    for _ in 0..times {
        let body = json!({ "number": number, "purpose": "gate-check" });
        let answer = node.desk("POST", "/v1/registrations/find", &staff, Some(&body));
        assert_eq!(answer.status, 200, "{}", text(&answer.body));
    }
}

fn register(node: &Node) -> Value {
    let body = json!({ "cert_type": "none", "name": "无名氏" });
    node.put(
        "/v1/registrations",
        &node.seals().staff("wang-01", "440100"),
        body,
    )["number"]
        .clone()
}

fn audit(what: &str, store: &str, keys: Option<&Path>) -> (Option<i32>, String) {
    let mut command = command();
    command.args(["audit", what, "--store", store]);
    if let Some(keys) = keys {
        command.arg("--keys").arg(keys);
    }
    let output = command.output().expect("the binary runs");
    (
        output.status.code(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

#[test]
fn every_look_is_in_the_log_over_restarts_and_the_log_holds() {
    let folder = folder();
    let store = folder.path().join("store");
    let mut number = Value::Null;
    for round in 0..3 {
        let node = Start::new(&["desk_per_second=1000"]).over(&store).node();
        if round == 0 {
            number = register(&node);
        }
        look(&node, &number, 5);
        match round {
            // However a node ends.
            0 => node.signal(libc::SIGKILL),
            _ => node.signal(libc::SIGTERM),
        }
        node.end();
    }
    let store = store.to_str().unwrap();
    let (code, said) = audit("verify", store, None);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("15 looks") && said.matches("5 links").count() == 3,
        "{said}"
    );
    let (_, listed) = audit("list", store, None);
    let lines: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 15);
    assert!(
        lines
            .iter()
            .all(|line| line["by"] == "wang-01" && line["purpose"] == "gate-check")
    );
    assert!(!listed.contains("无名氏"));
}

#[test]
fn a_link_that_was_taken_out_or_put_elsewhere_is_found() {
    if is_missing() {
        return;
    }
    let (server, ring) = (Server::start(&[]), Ring::make());
    let node = Start::new(&["desk_per_second=1000"])
        .over_redis(&server.url(), &ring)
        .node();
    let number = register(&node);
    look(&node, &number, 20);
    let verify = || audit("verify", &server.url(), Some(&ring.file));
    let (code, said) = verify();
    assert!(code == Some(0) && said.contains("20 looks"), "{said}");
    // The chain is spread over sixteen owners, of one link or two.
    let (_, listed) = audit("list", &server.url(), Some(&ring.file));
    let listed: Vec<Value> = listed
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let chain = listed[0]["chain"].as_str().unwrap();
    let key_of = |n: u8| {
        let owner = ring.seals.seal.owner("audit", &format!("{chain}:0"), n);
        let partition = liangma::store::redis::partition::of(owner.home);
        let mut key = liangma::store::redis::partition::papers(partition).into_bytes();
        key.extend_from_slice(&owner.home.0.to_be_bytes());
        key.extend_from_slice(&owner.claim);
        key
    };
    for (n, findings) in [
        (3u8, "links before it are missing"),
        (5, "the log has lost it"),
    ] {
        let hex: String = key_of(n).iter().map(|byte| format!("{byte:02x}")).collect();
        let script = "return redis.call('DEL', (ARGV[1]:gsub('..', function(h) return string.char(tonumber(h, 16)) end)))";
        assert_eq!(server.ask(&["EVAL", script, "0", &hex]), "1");
        let (code, said) = verify();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(findings), "{said}");
    }
}

#[test]
fn who_is_erased_leaves_nothing_and_a_red_is_not_erased() {
    let folder = folder();
    let store = folder.path().join("store");
    let place = store.to_str().unwrap();
    let (chen, red) = (person(1), person(2));
    let node = Start::new(&[]).over(&store).node();
    let seals = node.seals();
    let reading = |person: &Person| {
        json!({
            "event": "temperature", "cert_type": "10", "cert_no": person.cert_no, "celsius": 36.5,
            "at": "2026-11-20T08:00:00Z", "source": "gate", "seq": 1,
        })
        .to_string()
    };
    let lines = [
        chen.resident(),
        red.resident(),
        reading(&chen),
        red.set("confirmed", 1),
    ];
    node.feed(&seals.authority(), &lines);
    node.signal(libc::SIGTERM);
    node.end();
    let erase = |person: &Person| {
        run(&[
            "erase",
            "person",
            "--store",
            place,
            "--cert-type",
            "10",
            "--cert-no",
            &person.cert_no,
        ])
    };
    let refused = erase(&red);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("a reason is active"));
    let erased = erase(&chen);
    assert!(erased.status.success(), "{}", text(&erased.stderr));
    let report: Value = serde_json::from_slice(&erased.stdout).unwrap();
    assert_eq!(
        (&report["papers"], &report["found_afterwards"]),
        (&json!(1), &json!(0))
    );
    assert!(report["proof"].as_str().unwrap().len() > 40);
    let exported = run(&["export", "--store", place]);
    let exported = text(&exported.stdout);
    assert!(exported.contains(&red.cert_no) && !exported.contains(&chen.cert_no));
    let node = Start::new(&[]).over(&store).node();
    assert_eq!(
        node.read("/v1/health", &seals.session(&chen))["records"],
        json!([])
    );
    assert_eq!(node.show(&seals.session(&red)).state(), "red");
    drop(node);

    // A service: its key goes, and with it everything that it sealed.
    let ended = run(&["erase", "service", "--store", place, "--name", "health"]);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert!(
        !text(&std::fs::read(store.join("keys")).unwrap()).contains("purpose = \"health\"\nsecret")
    );
    let again = run(&["erase", "service", "--store", place, "--name", "health"]);
    assert_eq!(again.status.code(), Some(1));
    let node = Start::new(&[]).over(&store).node();
    let fed = node.post_feed(&seals.authority(), reading(&red)).json();
    assert_eq!(fed["rejected"][0]["code"], "service_ended");
}

#[test]
fn neither_logs_nor_meters_nor_the_store_hold_what_was_said_at_the_desk() {
    let node = Start::new(&["log=debug", "desk_per_second=1000"]).node();
    let (seals, chen, other) = (node.seals(), person(1), person(2));
    let (session, staff) = (seals.session(&chen), seals.staff("wang-01", "440100"));
    let secrets = [
        "陈美玲",
        "李秀英",
        "John Smith",
        "13800138000",
        "天河路一号",
        "我不在那里",
        &chen.cert_no,
        &other.cert_no,
    ];
    node.feed(
        &seals.authority(),
        &[chen.resident(), chen.set("suspected", 1)],
    );
    let declared = json!({
        "symptoms": ["none"], "contact": "no", "high_risk_area": false, "celsius": 36.5,
        "for": { "cert_type": "10", "cert_no": other.cert_no, "name": "李秀英" },
    });
    node.put("/v1/declarations", &session, declared.clone());
    let mut bad = declared;
    bad["for"]["cert_no"] = json!(format!("{}X", &other.cert_no[..17]));
    let answer = node.desk("POST", "/v1/declarations", &session, Some(&bad));
    assert!(!text(&answer.body).contains(&other.cert_no[..17]));
    node.put(
        "/v1/appeals",
        &session,
        json!({ "reason": "suspected", "text": "我不在那里" }),
    );
    node.put(
        "/v1/grants",
        &session,
        json!({ "organisation": "gz-school", "until": "2099-01-01" }),
    );
    let smith = json!({
        "cert_type": "34", "cert_no": "ABC123456789012", "name": "John Smith", "phone": "13800138000", "address": "天河路一号",
    });
    let number = node.put("/v1/registrations", &staff, smith)["number"].clone();
    look(&node, &number, 1);
    for path in [
        "/v1/health",
        "/v1/declarations",
        "/v1/grants",
        "/v1/appeals",
        "/v1/accesses",
        "/v1/family",
        "/v1/trip",
    ] {
        let said = node.read(path, &session).to_string();
        assert!(
            secrets[..2].iter().all(|secret| !said.contains(secret)),
            "{said}"
        );
        assert!(
            !said.contains(&chen.cert_no) && !said.contains(&other.cert_no),
            "{said}"
        );
    }
    let metrics = text(&node.get(Door::Back, "/metrics").body);
    node.signal(libc::SIGTERM);
    until("it says that it has ended", || {
        node.log().contains("every query has ended")
    });
    let said = [node.log(), node.out(), metrics].concat();
    let file = std::fs::read(node.store.join("liangma.redb")).unwrap();
    for secret in secrets {
        assert!(!said.contains(secret), "{secret} is told");
        assert!(
            memchr::memmem::find(&file, secret.as_bytes()).is_none(),
            "{secret} rests in clear"
        );
    }
    assert!(!said.contains(&session) && !said.contains(&staff));
}
