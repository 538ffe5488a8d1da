//! The audit log, and what is left after somebody was erased; nothing personal is told to operators.

use crate::harness::*;
use crate::redis::{Server, edit_kind};
use liangma::clock::Time;
use liangma::http::door::Door;
use liangma::paper::PaperKind;
use liangma::person::Identity;
use liangma::store::redis::partition;
use serde_json::{Value, json};
use std::path::Path;

/// Looks so many times, each with a purpose of its own.
fn look(node: &Node, number: &Value, times: usize) {
    let staff = node.seals().staff("wang-01", "440100");
    for nth in 0..times {
        let body = json!({ "number": number, "purpose": format!("gate-check-{nth}") });
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
    audit_with(what, store, keys, &[])
}

fn audit_with(
    what: &str,
    store: &str,
    keys: Option<&Path>,
    more: &[&str],
) -> (Option<i32>, String) {
    let mut command = command();
    command.args(["audit", what, "--store", store]).args(more);
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
        let node = NodeBuilder::new(&["desk_requests_per_second=1000"])
            .over(&store)
            .node();
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
        said.ends_with("15 looks and 1 acts, all as they were written\n"),
        "{said}"
    );
    let (_, listed) = audit("list", store, None);
    let lines: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 16);
    assert_eq!(lines[0]["act"], "register");
    assert!(lines.is_sorted_by_key(|line| line["at"].as_str().unwrap().to_owned()));
    assert!(lines.iter().all(|line| line["by"] == "wang-01"));
    let purposes = lines[1..]
        .iter()
        .map(|line| line["purpose"].as_str().unwrap());
    assert!(
        purposes
            .into_iter()
            .all(|purpose| purpose.starts_with("gate-check-"))
    );
    let day = &lines[0]["at"].as_str().unwrap()[..10];
    assert_eq!(
        audit_with("list", store, None, &["--to", "2026-01-01"]).1,
        ""
    );
    assert!(
        audit_with("list", store, None, &["--from", day])
            .1
            .lines()
            .count()
            > 0
    );
    assert!(!listed.contains("无名氏"));
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_link_that_was_taken_out_or_put_elsewhere_is_found() {
    let (server, ring) = (Server::start(&[]), Ring::make());
    let node = NodeBuilder::new(&["desk_requests_per_second=1000"])
        .over_redis(&server.url(), &ring)
        .node();
    let number = register(&node);
    look(&node, &number, 20);
    let verify = || audit("verify", &server.url(), Some(&ring.file));
    let (code, said) = verify();
    assert!(code == Some(0) && said.contains("20 looks"), "{said}");
    // A day is spread over sixteen owners, of one link or two.
    let key_of = |n: u64| {
        let owner = liangma::desk::audit::owner(&ring.seals.seal, Time::now().day(), n);
        key_of(&owner)
    };
    for (n, findings) in [
        (3, "links before it are missing"),
        (5, "the log has lost it"),
    ] {
        delete(&server, &key_of(n));
        let (code, said) = verify();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(findings), "{said}");
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_link_or_a_look_whose_kind_was_edited_is_found() {
    let (server, ring) = (Server::start(&[]), Ring::make());
    let node = NodeBuilder::new(&["desk_requests_per_second=1000"])
        .over_redis(&server.url(), &ring)
        .node();
    let number = register(&node);
    look(&node, &number, 3);
    drop(node);
    // Puts another kind in the place of the kind of the first paper of a kind.
    let edit = |kind: PaperKind, other: PaperKind| {
        assert_eq!(edit_kind(&server, kind as u8, other as u8, 1), 1);
    };
    let verify = || audit("verify", &server.url(), Some(&ring.file));
    assert_eq!(verify().0, Some(0), "{}", verify().1);
    for kind in [PaperKind::Audit, PaperKind::Access] {
        edit(kind, PaperKind::GrantScan);
        let (code, said) = verify();
        assert_eq!(code, Some(1), "{kind:?}: {said}");
        edit(PaperKind::GrantScan, kind);
        assert_eq!(verify().0, Some(0), "{kind:?}");
    }
}

/// The key of an owner's papers in Redis.
fn key_of(owner: &Identity) -> Vec<u8> {
    let partition = partition::of(owner.home);
    let mut key = partition::papers(partition).into_bytes();
    key.extend_from_slice(&owner.home.0.to_be_bytes());
    key.extend_from_slice(&owner.claim);
    key
}

fn delete(server: &Server, key: &[u8]) {
    let hex = liangma::hex::text(key);
    let script = "return redis.call('DEL', (ARGV[1]:gsub('..', function(h) return string.char(tonumber(h, 16)) end)))";
    assert_eq!(server.ask(&["EVAL", script, "0", &hex]), "1");
}

#[test]
fn looks_alike_are_told_once_a_day_and_nothing_pushes_them_out() {
    let folder = folder();
    let store = folder.path().join("store");
    let node = NodeBuilder::new(&["desk_requests_per_second=10000"])
        .over(&store)
        .node();
    let (seals, chen) = (node.seals(), person(1));
    let (session, authority) = (seals.session(&chen), seals.authority());
    let appeal = json!({ "reason": "close_contact", "text": "not me" });
    node.put("/v1/appeals", &session, appeal);
    let poll = |purpose: &str| {
        let ask = Ask::get(&format!("/v1/appeals?purpose={purpose}")).bearer(&authority);
        ask.at(node.address(Door::Ops))
    };
    assert_eq!(poll("curiosity").status, 200);
    for nth in 0..600 {
        assert_eq!(poll(&format!("office-{}", nth % 3)).status, 200);
    }
    let told = node.read("/v1/accesses?limit=100", &session);
    let mut told: Vec<&str> = (told["accesses"].as_array().unwrap().iter())
        .map(|access| access["purpose"].as_str().unwrap())
        .collect();
    told.sort_unstable();
    assert_eq!(told, ["curiosity", "office-0", "office-1", "office-2"]);
    // Purposes are not made up without end.
    let refused = (0..400).find(|nth| poll(&format!("made-up-{nth}")).status == 409);
    assert_eq!(refused, Some(196));
    poll("one-more").refuses(409, "limit_reached");
    assert_eq!(poll("curiosity").status, 200);
    node.signal(libc::SIGTERM);
    until("it says that it has ended", || {
        node.log().contains("the node has drained")
    });
    let log = node.log();
    node.end();
    let (code, said) = audit("verify", store.to_str().unwrap(), None);
    assert_eq!(code, Some(0), "{said}");
    assert!(log.contains("audit_end="), "{log}");
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn an_end_that_was_cut_off_is_missed_where_it_was_written_down() {
    let (server, ring) = (Server::start(&[]), Ring::make());
    let node = NodeBuilder::new(&[])
        .over_redis(&server.url(), &ring)
        .node();
    let number = register(&node);
    look(&node, &number, 1);
    node.signal(libc::SIGTERM);
    until("it says that it has ended", || {
        node.log().contains("the node has drained")
    });
    let folder = folder();
    let log = folder.path().join("log");
    std::fs::write(&log, node.log()).unwrap();
    let ends = ["--ends", log.to_str().unwrap()];
    let verify = |more: &[&str]| audit_with("verify", &server.url(), Some(&ring.file), more);
    let (code, said) = verify(&ends);
    assert!(
        code == Some(0) && said.contains("1 looks and 1 acts"),
        "{said}"
    );
    let end = said.split("the end is ").nth(1).unwrap();
    let end = end.split_whitespace().next().unwrap();
    // The last link, and what the person was told: both are gone, and the log agrees with itself.
    let seal = &ring.seals.seal;
    let number = number.as_str().unwrap();
    let anywhere = seal.owner("registration by number", number, 0);
    let person = seal.owner("registration by number", number, anywhere.claim[0] & 15);
    let key = liangma::hex::text(&key_of(&person));
    let script = "local key = ARGV[1]:gsub('..', function(h) return string.char(tonumber(h, 16)) end)
        for _, field in ipairs(redis.call('HKEYS', key)) do
            if string.byte(redis.call('HGET', key, field), 7) == 11 then redis.call('HDEL', key, field) end
        end";
    server.ask(&["EVAL", script, "0", &key]);
    let last = liangma::desk::audit::owner(seal, Time::now().day(), 1);
    delete(&server, &key_of(&last));
    let (code, said) = verify(&[]);
    assert!(
        code == Some(0) && said.contains("0 looks and 1 acts"),
        "{said}"
    );
    for more in [&ends[..], &["--end", end]] {
        let (code, said) = verify(more);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("it ends after 1 links, and 2 were written down"),
            "{said}"
        );
    }
    let (code, said) = verify(&["--end", "nonsense"]);
    assert!(
        code == Some(2) && said.contains("CHAIN:LINKS:HASH@DAY"),
        "{said}"
    );
    node.end();
}

#[test]
fn what_offices_do_is_in_the_log_with_who_did_it() {
    let folder = folder();
    let store = folder.path().join("store");
    let place = store.to_str().unwrap();
    let node = NodeBuilder::new(&["desk_requests_per_second=1000"])
        .over(&store)
        .node();
    let (seals, chen) = (node.seals(), person(1));
    let session = seals.session(&chen);
    let authority = seals.authority_of("gd-cdc", Some("gz-cdc"));
    let mut of_other: Value = serde_json::from_str(&chen.set("suspected", 5)).unwrap();
    of_other["source"] = json!("gz-cdc");
    node.feed(
        &authority,
        &[
            chen.resident(),
            chen.set("suspected", 1),
            of_other.to_string(),
        ],
    );
    assert_eq!(node.post_feed(&authority, "{").status, 200);
    until("the feeds are counted", || {
        let metrics = text(&node.get(Door::Ops, "/metrics").body);
        metrics.contains("liangma_feed_reds_total{token=\"gd-cdc\"} 2")
    });
    let number = register(&node);
    let elsewhere = seals.staff("li-02", "650100");
    let body = json!({ "number": number, "purpose": "gate-check" });
    // Staff of another region find nobody, and that is recorded.
    let find = |token: &str| node.desk("POST", "/v1/registrations/find", token, Some(&body));
    find(&elsewhere).refuses(404, "not_found");
    assert_eq!(find(&seals.staff("wang-01", "440100")).status, 200);
    let entries = "/v1/entries?destination=440106&day=2026-11-25&purpose=reception";
    node.desk("GET", entries, &elsewhere, None)
        .refuses(403, "not_permitted");
    let nothing = json!({
        "cert_type": "10", "cert_no": person(9).cert_no, "reason": "suspected", "source": "gd-cdc", "purpose": "case-7",
    });
    let ask = Ask::post("/v1/overrides", nothing.to_string()).json();
    ask.bearer(&seals.operator())
        .at(node.address(Door::Ops))
        .refuses(404, "not_found");
    node.read("/v1/roster", &seals.organisation("gz-school"));
    node.put(
        "/v1/appeals",
        &session,
        json!({ "reason": "suspected", "text": "not me" }),
    );
    let at_back = |ask: Ask, token: &str| ask.bearer(token).at(node.address(Door::Ops));
    let all = at_back(Ask::get("/v1/appeals?purpose=office"), &authority).json();
    let path = format!("/v1/appeals/{}", all["appeals"][0]["id"].as_str().unwrap());
    let answer = Ask::post(&path, json!({ "state": "upheld" }).to_string()).json();
    assert_eq!(at_back(answer, &authority).status, 201);
    let token = json!({ "token": seals.scanner() }).to_string();
    let revoke = Ask::post("/v1/revocations", token).json();
    assert_eq!(at_back(revoke, &seals.operator()).status, 201);
    node.signal(libc::SIGTERM);
    node.end();
    let exported = run(&["export", "--store", place]);
    assert!(exported.status.success());
    let again = run(&["export", "--store", place]);
    assert_eq!(exported.stdout, again.stdout);

    let (code, said) = audit("verify", place, None);
    assert_eq!(code, Some(0), "{said}");
    let (_, listed) = audit("list", place, None);
    let lines: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of =
        |act: &str| -> Vec<&Value> { lines.iter().filter(|line| line["act"] == act).collect() };
    for (act, by, role, count) in [
        ("register", "wang-01", "staff", 1),
        ("read_roster", "gz-school", "organisation", 1),
        ("read_appeals", "gd-cdc", "authority", 1),
        ("answer_appeal", "gd-cdc", "authority", 1),
        ("revoke", "ops-1", "operator", 1),
        ("find_registered", "li-02", "staff", 2),
        ("read_entries", "li-02", "staff", 1),
        ("override", "ops-1", "operator", 1),
    ] {
        let found = of(act);
        assert_eq!(found.len(), count, "{act}: {listed}");
        assert_eq!(
            (&found[0]["by"], &found[0]["role"]),
            (&json!(by), &json!(role))
        );
    }
    assert_eq!(of("export").len(), 2);
    let misses = of("find_registered");
    assert_eq!(misses[0]["detail"]["found"], json!(false));
    let fed = of("feed");
    let sum = |source: &str, what: &str| -> u64 {
        let of = fed.iter().filter(|line| line["detail"]["source"] == source);
        of.map(|line| line["detail"][what].as_u64().unwrap()).sum()
    };
    assert!(fed.iter().all(|line| line["by"] == "gd-cdc"));
    assert_eq!((sum("gd-cdc", "applied"), sum("gd-cdc", "reds")), (2, 1));
    assert_eq!((sum("gz-cdc", "applied"), sum("gz-cdc", "reds")), (1, 1));
    assert_eq!(sum("gd-cdc", "rejected"), 1);
}

#[test]
fn who_is_erased_leaves_nothing_and_a_red_is_not_erased() {
    let folder = folder();
    let store = folder.path().join("store");
    let place = store.to_str().unwrap();
    let (chen, red) = (person(1), person(2));
    let node = NodeBuilder::new(&[]).over(&store).node();
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
    let erase = |person: &Person| erase(&["--store", place], person);
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
    let node = NodeBuilder::new(&[]).over(&store).node();
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
    let node = NodeBuilder::new(&[]).over(&store).node();
    let fed = node.post_feed(&seals.authority(), reading(&red)).json();
    assert_eq!(fed["rejected"][0]["code"], "service_ended");
}

#[test]
fn neither_logs_nor_meters_nor_the_store_hold_what_was_said_at_the_desk() {
    let node = NodeBuilder::new(&["log=debug", "desk_requests_per_second=1000"]).node();
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
    let answer = node.desk("POST", "/v1/declarations", &session, Some(&declared));
    answer.refuses(403, "no_consent");
    assert!(!text(&answer.body).contains(&other.cert_no));
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
    let metrics = text(&node.get(Door::Ops, "/metrics").body);
    node.signal(libc::SIGTERM);
    until("it says that it has ended", || {
        node.log().contains("the node has drained")
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
