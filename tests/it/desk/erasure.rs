//! Who is erased is on no list of others, in no free page of the store's file, and in no log of Redis.

use crate::harness::*;
use crate::redis::Server;
use liangma::http::door::Door;
use liangma::paper::{PaperKind, PaperKinds};
use liangma::store::{embedded, redis};
use serde_json::{Value, json};
use std::path::Path;

const SCHOOL: &str = "gz-school";

/// Kinds of which nothing may be left, wherever they lie.
const PERSONAL: PaperKinds = PaperKinds::of(&[
    PaperKind::Temperature,
    PaperKind::Appeal,
    PaperKind::AppealState,
    PaperKind::Entry,
    PaperKind::Grant,
    PaperKind::Declaration,
]);

/// Files what a person files in a year, and clears the reason at the end. Returns the code of a grant.
fn live(node: &Node, seals: &Credentials, chen: &Person) -> String {
    let (session, authority) = (seals.session(chen), seals.authority());
    let reading = json!({
        "event": "temperature", "cert_type": "10", "cert_no": chen.cert_no, "celsius": 36.5,
        "at": "2026-11-20T08:00:00Z", "source": "gate", "seq": 1,
    });
    node.feed(
        &authority,
        &[
            chen.resident(),
            chen.set("suspected", 1),
            reading.to_string(),
        ],
    );
    let appeal = json!({ "reason": "suspected", "text": "我的电话是13800138000" });
    let appeal = node.put("/v1/appeals", &session, appeal);
    let path = format!("/v1/appeals/{}", appeal["id"].as_str().unwrap());
    let answer = json!({ "state": "upheld", "note": "已核实" }).to_string();
    let answered = Ask::post(&path, answer).json().bearer(&authority);
    assert_eq!(answered.at(node.address(Door::Ops)).status, 201);
    let declared = json!({
        "symptoms": ["none"], "contact": "no", "high_risk_area": false, "celsius": 36.5,
    });
    node.put("/v1/declarations", &session, declared);
    let entry = json!({ "destination": "440106", "arrives": "2026-11-25", "transport": "train" });
    node.put("/v1/entries", &session, entry);
    let grant = json!({ "organisation": SCHOOL, "until": "2099-01-01" });
    let grant = node.put("/v1/grants", &session, grant);
    node.feed(&authority, &[chen.clear("suspected", 2)]);
    grant["code"].as_str().unwrap().to_owned()
}

fn has_appeals(node: &Node, seals: &Credentials) -> usize {
    let ask = Ask::get("/v1/appeals?purpose=office").bearer(&seals.authority());
    let all = ask.at(node.address(Door::Ops)).json();
    all["appeals"].as_array().unwrap().len()
}

fn has_entries(node: &Node, seals: &Credentials) -> usize {
    let path = "/v1/entries?destination=440106&day=2026-11-25&purpose=reception";
    let all = node.read(path, &seals.staff("wang-01", "440100"));
    all["entries"].as_array().unwrap().len()
}

fn has_members(node: &Node, seals: &Credentials) -> usize {
    let all = node.read("/v1/roster", &seals.organisation(SCHOOL));
    all["members"].as_array().unwrap().len()
}

fn report_of(place: &[&str], person: &Person) -> Value {
    let erased = erase(place, person);
    assert!(erased.status.success(), "{}", text(&erased.stderr));
    serde_json::from_slice(&erased.stdout).unwrap()
}

/// How many of these are in the files of a folder.
fn found_in(folder: &Path, bodies: &[Vec<u8>]) -> usize {
    let files: Vec<Vec<u8>> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| std::fs::read(file.unwrap().path()).unwrap_or_default())
        .collect();
    let is_in = |body: &Vec<u8>| {
        let mut files = files.iter();
        files.any(|file| memchr::memmem::find(file, &body[..16]).is_some())
    };
    bodies.iter().filter(|body| is_in(body)).count()
}

/// Holds that nothing of the first person is left beside a second one, and that the second is not touched.
fn holds_after(node: &Node, seals: &Credentials, codes: &[String], report: &Value) {
    assert_eq!(report["found_afterwards"], 0, "{report}");
    // The appeal and its answer, the entry, and the grant.
    assert_eq!(report["on_lists"], 4, "{report}");
    assert_eq!(report["not_followed"], Value::Null);
    assert_eq!(has_appeals(node, seals), 1);
    assert_eq!(has_entries(node, seals), 1);
    assert_eq!(has_members(node, seals), 1);
    let scanner = seals.scanner_of(SCHOOL);
    node.scan(&scanner, &codes[0]).refuses(422, "grant_revoked");
    assert_eq!(node.scan(&scanner, &codes[1]).state(), "green");
}

#[test]
fn nothing_is_left_on_lists_of_others_or_in_the_file_of_an_embedded_store() {
    let folder = folder();
    let store = folder.path().join("store");
    let place = store.to_str().unwrap();
    let people = [person(1), person(2)];
    let node = NodeBuilder::new(&[]).over(&store).node();
    let seals = node.seals();
    let codes: Vec<String> = people.iter().map(|one| live(&node, &seals, one)).collect();
    assert_eq!(has_appeals(&node, &seals), 2);
    node.signal(libc::SIGTERM);
    node.end();
    let bodies = |kinds| {
        let settings = embedded::Settings::new(store.clone());
        let (mark, tags) = (seals.seal.mark(), seals.seal.status_tags());
        let opened = embedded::OpenedEmbedded::open(settings, mark, tags).unwrap();
        let mut bodies = Vec::new();
        let all = opened.each_paper(kinds, |_, paper| {
            bodies.push(paper.body.to_vec());
            Ok(())
        });
        all.unwrap();
        bodies
    };
    let before = bodies(PERSONAL);
    assert_eq!(found_in(&store, &before), before.len());
    let report = report_of(&["--store", place], &people[0]);
    assert_eq!(report["traces"]["found"], 0, "{report}");
    let others = bodies(PERSONAL);
    let gone: Vec<Vec<u8>> = before
        .into_iter()
        .filter(|body| !others.contains(body))
        .collect();
    // Own and on lists: temperature, declaration; appeal, its answer, entry and grant twice.
    assert_eq!(gone.len(), 10);
    assert_eq!(found_in(&store, &gone), 0);
    assert_eq!(found_in(&store, &others), others.len());
    let mode = std::fs::metadata(store.join("liangma.redb")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&mode) & 0o777, 0o600);
    let node = NodeBuilder::new(&[]).over(&store).node();
    holds_after(&node, &seals, &codes, &report);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn nothing_is_left_on_lists_of_others_or_in_the_log_of_redis() {
    let server = Server::start(&[]);
    let ring = Ring::make();
    let people = [person(1), person(2)];
    let node = NodeBuilder::new(&[])
        .over_redis(&server.url(), &ring)
        .node();
    let seals = &ring.seals;
    let codes: Vec<String> = people.iter().map(|one| live(&node, seals, one)).collect();
    let bodies = || -> Vec<Vec<u8>> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let place = redis::url::StoreUrl::parse(&server.url()).unwrap();
            let settings = redis::Settings::new(place);
            let (mark, tags) = (seals.seal.mark(), seals.seal.status_tags());
            let opened = redis::OpenedRedis::open(settings, mark, tags)
                .await
                .unwrap();
            let mut bodies = Vec::new();
            let all = opened.each_paper(PERSONAL, |_, paper| {
                bodies.push(paper.body.to_vec());
                Ok(())
            });
            all.await.unwrap();
            bodies
        })
    };
    let before = bodies();
    let folder = server.ask(&["CONFIG", "GET", "dir"]);
    let log = Path::new(folder.lines().nth(1).unwrap()).join("appendonlydir");
    assert_eq!(found_in(&log, &before), before.len());
    let (url, keys) = (server.url(), ring.file.to_str().unwrap());
    let report = report_of(&["--store", &url, "--keys", keys], &people[0]);
    assert_eq!(
        report["traces"]["servers"].as_array().unwrap().len(),
        1,
        "{report}"
    );
    let others = bodies();
    let gone: Vec<Vec<u8>> = before
        .into_iter()
        .filter(|body| !others.contains(body))
        .collect();
    assert_eq!(gone.len(), 10);
    assert_eq!(found_in(&log, &gone), 0);
    assert_eq!(found_in(&log, &others), others.len());
    holds_after(&node, seals, &codes, &report);
}

/// A session of the person, one by which another shows the person, and one by which the person shows another.
fn sessions_of(node: &Node, seals: &Credentials) -> [String; 3] {
    let show = |owner: &Person, member: &Person| {
        let assertion = super::family::assertion(&crate::sessions::claims(member));
        let added = node.put(
            "/v1/family",
            &seals.session(owner),
            json!({ "assertion": assertion }),
        );
        added["session"].as_str().unwrap().to_owned()
    };
    let (chen, other) = (person(1), person(2));
    [
        seals.session(&chen),
        show(&other, &chen),
        show(&chen, &person(3)),
    ]
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn an_erasure_ends_the_persons_sessions_and_those_by_which_family_members_are_shown() {
    let folder = folder();
    let store = folder.path().join("store");
    let start = || {
        NodeBuilder::new(&crate::sessions::platform())
            .over(&store)
            .node()
    };
    let node = start();
    let seals = node.seals();
    let ended = sessions_of(&node, &seals);
    let stays = seals.session(&person(2));
    node.feed(&seals.authority(), &[person(2).resident()]);
    node.signal(libc::SIGTERM);
    node.end();
    report_of(&["--store", store.to_str().unwrap()], &person(1));
    let node = start();
    for session in &ended {
        node.show(session).refuses(401, "unauthorized");
    }
    assert_eq!(node.show(&stays).state(), "green");
    let (server, ring) = (Server::start(&[]), Ring::make());
    let node = NodeBuilder::new(&crate::sessions::platform())
        .over_redis(&server.url(), &ring)
        .node();
    let ended = sessions_of(&node, &ring.seals);
    let stays = ring.seals.session(&person(2));
    node.feed(&ring.seals.authority(), &[person(2).resident()]);
    let (url, keys) = (server.url(), ring.file.to_str().unwrap());
    report_of(&["--store", &url, "--keys", keys], &person(1));
    for session in &ended {
        until("the running node has learned it", || {
            node.show(session).status == 401
        });
    }
    assert_eq!(node.show(&stays).state(), "green");
}
