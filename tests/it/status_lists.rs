//! Status lists over real doors: published by one node, served by all, and read as a gate without a network reads them.

use crate::fake_store::{FakeFaults, FakeStore};
use crate::harness::*;
use crate::redis::Server;
use liangma::board::{self, Board};
use liangma::clock::{Moment, Time};
use liangma::http::door::Door;
use liangma::lists::shelf::ListShelf;
use liangma::lists::{ListSettings, Lists};
use liangma::offline::code::OfflineCode;
use liangma::offline::daily;
use liangma::offline::gate::{HeldLists, ListAges, OfflineDecision};
use liangma::offline::issue::{OfflineKeys, read_jwks};
use liangma::offline::list::{BaseList, ListChanges};
use liangma::offline::publisher::{Edition, ListSource, publish};
use liangma::offline::sign::VerifyingKey;
use liangma::offline::{ListState, publisher};
use liangma::paper::{Cursor, Paper, PaperKey, PaperKinds, Retention};
use liangma::person::{Identity, ResidentId};
use liangma::seal::ring::RingFile;
use liangma::seal::{self, Seal};
use liangma::status::{Reason, Reasons, Word};
use liangma::store::{Change, ChangeOutcome, Error, LocatedRecord, Store};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// A node that publishes each second.
const LISTS: [&str; 3] = [
    "offline_issuer=440000",
    "list_every=1s",
    "list_base_every=3s",
];

/// A gate that asks a node for keys and lists, and then judges alone.
struct Gate<'n> {
    node: &'n Node,
    scanner: String,
    held: HeldLists,
    keys: Vec<VerifyingKey>,
}

impl Gate<'_> {
    fn of<'n>(node: &'n Node, seals: &Credentials) -> Gate<'n> {
        let keys = node.get(Door::Gate, "/v1/keys");
        Gate {
            node,
            scanner: seals.scanner(),
            held: HeldLists::default(),
            keys: read_jwks(&keys.body).expect("a JWKS").1,
        }
    }

    fn ask(&self, path: &str) -> Answer {
        Ask::get(&format!("/v1/list/440000{path}"))
            .bearer(&self.scanner)
            .at(self.node.address(Door::Gate))
    }

    /// Asks as a device does: the base that it holds may still have changes.
    fn sync(&mut self) {
        let index = self.ask("");
        if index.status != 200 {
            index.refuses(503, "warming");
            return;
        }
        let newest = index.json()["bases"][0]["number"].clone();
        let number = newest.as_str().expect("a number").to_owned();
        let base = self.ask("/base");
        assert_eq!(base.status, 200);
        let base = BaseList::open(base.body.into(), &self.keys).expect("a base");
        let changes = self.ask(&format!("/changes-{number}"));
        // A base that was published between two answers is taken the next time.
        let _ = self.held.take_base(base);
        if changes.status == 200 {
            let changes = ListChanges::open(&changes.body, &self.keys).expect("changes");
            let _ = self.held.take_changes(changes);
        }
    }

    fn judge(&self, code: &str) -> OfflineDecision {
        let opened = OfflineCode::open(code.as_bytes(), |_| &self.keys).expect("a code");
        self.held.judge(&opened, Time::now(), &ListAges::default())
    }

    #[track_caller]
    fn says(&mut self, code: &str, wanted: OfflineDecision) {
        until(&format!("the gate says {wanted:?}"), || {
            self.sync();
            self.judge(code) == wanted
        });
    }
}

fn colour(state: ListState) -> OfflineDecision {
    OfflineDecision::Colour {
        state,
        stale: false,
    }
}

fn offline_code(node: &Node, session: &str) -> String {
    let answer = Ask::get("/v1/code/offline")
        .bearer(session)
        .at(node.address(Door::Resident));
    assert_eq!(answer.status, 200, "{}", text(&answer.body));
    answer.json()["code"].as_str().expect("a code").to_owned()
}

#[test]
fn a_gate_without_a_network_says_what_its_list_says() {
    let node = NodeBuilder::new(&LISTS).node();
    let seals = node.seals();
    let authority = seals.authority();
    let people: Vec<Person> = (1..40).map(person).collect();
    let lines: Vec<String> = people.iter().map(Person::resident).collect();
    node.feed(&authority, &lines);
    node.feed(&authority, &[people[1].set("close_contact", 1)]);
    let codes: Vec<String> = people[..4]
        .iter()
        .map(|person| offline_code(&node, &seals.session(person)))
        .collect();
    let mut gate = Gate::of(&node, &seals);
    gate.says(&codes[0], colour(ListState::Green));
    gate.says(&codes[1], colour(ListState::Red));
    // A change reaches the gate with the next list.
    node.feed(&authority, &[people[1].clear("close_contact", 2)]);
    node.feed(&authority, &[people[2].set("confirmed", 1)]);
    gate.says(&codes[1], colour(ListState::Green));
    gate.says(&codes[2], colour(ListState::Red));
    // What was revoked is void, and the next code of the same person is not.
    let session = seals.session(&people[3]);
    let said = node.desk("POST", "/v1/offline-codes/revoke", &session, None);
    assert_eq!(said.status, 201);
    gate.says(&codes[3], OfflineDecision::Void);
    let next = offline_code(&node, &session);
    assert_eq!(gate.judge(&next), OfflineDecision::NotCovered);
    gate.says(&next, colour(ListState::Green));
    // Somebody who is new is not covered by the lists of before, whatever they would answer.
    let new = person(77);
    node.feed(&authority, &[new.resident(), new.set("suspected", 1)]);
    let code = offline_code(&node, &seals.session(&new));
    assert_eq!(gate.judge(&code), OfflineDecision::NotCovered);
    gate.says(&code, colour(ListState::Red));
    // Through all of this there were new bases.
    let first = gate.ask("").json()["bases"][0]["number"].clone();
    until("the base is made anew", || {
        gate.ask("").json()["bases"][0]["number"] != first
    });
    gate.says(&codes[2], colour(ListState::Red));
    // That base lists somebody who is green now: the changes since say so.
    node.feed(&authority, &[people[2].clear("confirmed", 2)]);
    gate.says(&codes[2], colour(ListState::Green));
    assert_eq!(node.meter("liangma_list_wrong_total"), 0.0);
    assert!(node.meter("liangma_list_published_total{outcome=\"published\"}") > 1.0);
    assert_eq!(node.meter("liangma_list_residents"), 40.0);
    assert_eq!(node.meter("liangma_list_listed{state=\"void\"}"), 1.0);
}

#[test]
fn somebody_who_was_erased_is_void() {
    let folder = folder();
    let store = folder.path().join("store");
    let start = || NodeBuilder::new(&LISTS).over(&store).node();
    let node = start();
    let (seals, chen) = (node.seals(), person(1));
    node.feed(&seals.authority(), &[chen.resident(), person(2).resident()]);
    let code = offline_code(&node, &seals.session(&chen));
    Gate::of(&node, &seals).says(&code, colour(ListState::Green));
    node.signal(libc::SIGTERM);
    node.end();
    let erased = erase(&["--store", store.to_str().unwrap()], &chen);
    assert!(erased.status.success(), "{}", text(&erased.stderr));
    let node = start();
    Gate::of(&node, &seals).says(&code, OfflineDecision::Void);
}

#[test]
fn files_are_given_to_scanners_and_sealed_ones_to_anybody() {
    let settings = [
        "offline_issuer=440000",
        "list_every=1h",
        "list_base_every=1h",
    ];
    let node = NodeBuilder::new(&settings).node();
    let seals = node.seals();
    node.feed(&seals.authority(), &[person(1).resident()]);
    let gate = Gate::of(&node, &seals);
    until("there is a list", || gate.ask("").status == 200);
    let index = gate.ask("").json();
    assert_eq!(index["issuer"], "440000");
    assert_eq!(index["every_ms"], 3_600_000);
    let number = index["bases"][0]["number"].as_str().unwrap().to_owned();
    let changes = format!("/changes-{number}");
    for path in ["", "/base", &changes] {
        let answer = gate.ask(path);
        assert_eq!(answer.status, 200, "{path}");
        let cached = answer.header("cache-control").unwrap();
        assert!(cached.starts_with("private, max-age="), "{cached}");
        let tag = answer.header("etag").expect("a tag").to_owned();
        let whole = format!("/v1/list/440000{path}");
        let again = Ask::get(&whole)
            .bearer(&gate.scanner)
            .header("if-none-match", &format!("\"x\", {tag}"));
        let mut connection = Connection::to(node.address(Door::Gate));
        connection.send(again.bytes());
        let same = connection.head().expect("an answer");
        assert_eq!((same.status, same.header("etag")), (304, Some(&tag[..])));
        connection.send(Ask::new("HEAD", &whole).bearer(&gate.scanner).bytes());
        let head = connection.head().expect("an answer");
        assert_eq!((head.status, head.header("etag")), (200, Some(&tag[..])));
        let length = answer.body.len().to_string();
        assert_eq!(head.header("content-length"), Some(&length[..]));
        // Nobody else is given it, and no other door has it.
        Ask::get(&whole)
            .at(node.address(Door::Gate))
            .refuses(401, "unauthorized");
        Ask::get(&whole)
            .bearer(&seals.authority())
            .at(node.address(Door::Gate))
            .refuses(403, "not_permitted");
        Ask::get(&whole)
            .bearer(&gate.scanner)
            .at(node.address(Door::Resident))
            .refuses(404, "not_found");
        Ask::post(&whole, "")
            .bearer(&gate.scanner)
            .at(node.address(Door::Gate))
            .refuses(405, "method_not_allowed");
    }
    for path in [
        "/v1/list/820000/base",
        "/v1/list/440000/changes-1",
        "/v1/list/440000/changes-",
        "/v1/list/440000/changes-007",
        "/v1/list/440000/changes-99999999999999999999999",
        "/v1/list/440000/",
        "/v1/list/440000/base/",
        "/v1/list/44000/base",
        "/v1/list/+40000/base",
        "/v1/list/",
        "/v1/list",
    ] {
        Ask::get(path)
            .bearer(&gate.scanner)
            .at(node.address(Door::Gate))
            .refuses(404, "not_found");
    }
    // Any cache may keep what is sealed; scanners have the key.
    let days = gate.ask("/days");
    assert_eq!(days.header("cache-control"), Some("no-store"));
    let days = days.json();
    assert_eq!(days["days"].as_array().unwrap().len(), 3);
    let key_of = |day: u32| {
        let mut days = days["days"].as_array().unwrap().iter();
        let key = days.find(|key| key["day"] == day)?["key"].as_str()?;
        let mut bytes = daily::DayKey::default();
        seal::base32::decode(key.as_bytes(), &mut bytes[..])?;
        Some(bytes)
    };
    for (path, plain) in [("/base", "/base"), (&changes, &changes)] {
        for door in [Door::Resident, Door::Gate] {
            let sealed = node.get(door, &format!("/v1/list/440000{path}.sealed"));
            assert_eq!(sealed.status, 200);
            let cached = sealed.header("cache-control").unwrap();
            assert!(cached.starts_with("public, max-age="), "{cached}");
            let plain = gate.ask(plain).body;
            assert_eq!(daily::open(&sealed.body, key_of), Some(plain));
        }
    }
    Ask::get("/v1/list/440000/days")
        .at(node.address(Door::Gate))
        .refuses(401, "unauthorized");
    let days = node.get(Door::Resident, "/v1/list/440000/days");
    days.refuses(404, "not_found");
    // A node without an issuer has none.
    let plain = Node::start();
    Ask::get("/v1/list/440000/base")
        .bearer(&plain.seals().scanner())
        .at(plain.address(Door::Gate))
        .refuses(404, "not_found");
}

#[test]
fn a_thread_sends_no_more_of_lists_than_it_may_and_scans_go_on() {
    let settings = [
        "offline_issuer=440000",
        "list_every=1h",
        "list_base_every=1h",
        "list_bytes_per_second=64KiB",
        "gate_threads=1",
    ];
    let node = NodeBuilder::new(&settings).node();
    let seals = node.seals();
    node.feed(&seals.authority(), &[person(1).resident()]);
    let gate = Gate::of(&node, &seals);
    until("there is a list", || gate.ask("").status == 200);
    // Many at once over one connection: more than a second's worth.
    let asked = Ask::get("/v1/list/440000").bearer(&gate.scanner).bytes();
    let many = asked.repeat(300);
    let mut busy = 0;
    until("lists are busy", || {
        let mut connection = Connection::to(node.address(Door::Gate));
        connection.send(&many);
        for _ in 0..300 {
            let Some(answer) = connection.try_answer() else {
                break;
            };
            if answer.status == 503 {
                answer.refuses(503, "busy");
                busy += 1;
            }
        }
        busy > 3
    });
    let session = seals.session(&person(1));
    let scanned = node.scan(&seals.scanner(), node.code(&session));
    assert_eq!(scanned.json()["state"], "green");
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn one_node_publishes_and_every_node_serves_the_same() {
    let (server, ring) = (Server::start(&[]), Ring::make());
    let start = || {
        let settings = [
            "offline_issuer=440000",
            "list_every=1s",
            "list_base_every=2s",
        ];
        NodeBuilder::new(&settings)
            .over_redis(&server.url(), &ring)
            .node()
    };
    let (one, other) = (start(), start());
    let seals = &ring.seals;
    let people: Vec<Person> = (1..30).map(person).collect();
    let lines: Vec<String> = people.iter().map(Person::resident).collect();
    one.feed(&seals.authority(), &lines);
    let code = offline_code(&one, &seals.session(&people[0]));
    let published = |node: &Node| node.meter("liangma_list_published_total{outcome=\"published\"}");
    let (mut first, mut second) = (Gate::of(&one, seals), Gate::of(&other, seals));
    first.says(&code, colour(ListState::Green));
    second.says(&code, colour(ListState::Green));
    until("both serve the same", || {
        let pair =
            [&first, &second].map(|gate| gate.ask("/base").header("etag").map(str::to_owned));
        pair[0].is_some() && pair[0] == pair[1]
    });
    // One dies; lists go on, and numbers rise.
    let number = |gate: &Gate<'_>| -> u64 {
        let number = gate.ask("").json()["bases"][0]["number"].clone();
        number.as_str().unwrap().parse().unwrap()
    };
    let before = number(&second);
    one.signal(libc::SIGKILL);
    one.end();
    let had = published(&other);
    until("the other publishes alone", || {
        published(&other) > had + 2.0
    });
    until("there is a newer base", || number(&second) > before);
    other.feed(&seals.authority(), &[people[0].set("confirmed", 1)]);
    second.says(&code, colour(ListState::Red));
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_is_stale_is_not_published() {
    let (server, ring) = (Server::start(&[]), Ring::make());
    let node = NodeBuilder::new(&[
        "offline_issuer=440000",
        "list_every=1s",
        "list_base_every=1s",
    ])
    .over_redis(&server.url(), &ring)
    .node();
    let seals = &ring.seals;
    node.feed(&seals.authority(), &[person(1).resident()]);
    let gate = Gate::of(&node, seals);
    let as_of = || gate.ask("").json()["as_of"].clone();
    until("there is a list", || as_of().is_string());
    server.freeze();
    until("the node is not ready", || {
        node.get(Door::Ops, "/ready").status == 503
    });
    // It serves the last one on, with the time that it is of.
    let last = as_of();
    let published = || node.meter("liangma_list_published_total{outcome=\"published\"}");
    let had = published();
    until("a list would be due", || {
        node.meter("liangma_list_age_seconds") > 4.0
    });
    assert_eq!((as_of(), published()), (last.clone(), had));
    server.thaw();
    until("there is a new list", || as_of() != last);
}

#[test]
fn the_command_builds_shows_and_asks_lists() {
    let folder = folder();
    let store = folder.path().join("store");
    let node = NodeBuilder::new(&["offline_issuer=440000"])
        .over(&store)
        .node();
    let (seals, chen) = (node.seals(), person(1));
    let lines = [
        chen.resident(),
        person(2).resident(),
        chen.set("confirmed", 1),
    ];
    node.feed(&seals.authority(), &lines);
    let red = offline_code(&node, &seals.session(&chen));
    let green = offline_code(&node, &seals.session(&person(2)));
    node.signal(libc::SIGTERM);
    node.end();
    let out = folder.path().join("lists");
    // Codes are of whole seconds, rounded up: a list from the same second covers them not yet.
    until("the list covers the codes", || {
        let built = command()
            .args(["list", "build", "--set", "offline_issuer=440000", "--out"])
            .arg(&out)
            .arg("--store")
            .arg(&store)
            .output()
            .expect("the binary runs");
        assert!(built.status.success(), "{}", text(&built.stderr));
        let said: serde_json::Value = serde_json::from_slice(&built.stdout).unwrap();
        assert_eq!((&said["residents"], &said["red"]), (&2.into(), &1.into()));
        check(&out, &green).0 != "not_covered"
    });
    assert_eq!(check(&out, &red), ("red".to_owned(), true));
    assert_eq!(check(&out, &green), ("green".to_owned(), true));
    let changed = format!("A{}", &red[1..]);
    assert_eq!(check(&out, &changed), ("code_invalid".to_owned(), false));
    for (name, kind, listed) in [("base.lml", "base", 1), ("changes.lml", "changes", 0)] {
        let shown = command()
            .args(["list", "show"])
            .arg(out.join(name))
            .arg("--jwks")
            .arg(out.join("keys.json"))
            .output()
            .expect("the binary runs");
        assert!(shown.status.success(), "{}", text(&shown.stderr));
        let said: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(said["kind"], kind);
        assert_eq!(said["signature"], "good");
        assert_eq!(
            (&said["listed"], &said["issuer"]),
            (&listed.into(), &"440000".into())
        );
    }
    // A byte that was changed is no list.
    let mut base = std::fs::read(out.join("base.lml")).unwrap();
    base[70] ^= 1;
    std::fs::write(out.join("base.lml"), base).unwrap();
    let asked = asked_of(&out, &red);
    assert!(!asked.status.success() && asked.stdout.is_empty());
}

fn asked_of(out: &std::path::Path, code: &str) -> std::process::Output {
    command()
        .args(["list", "check", "--code", code, "--base"])
        .arg(out.join("base.lml"))
        .arg("--changes")
        .arg(out.join("changes.lml"))
        .arg("--jwks")
        .arg(out.join("keys.json"))
        .output()
        .expect("the binary runs")
}

fn check(out: &std::path::Path, code: &str) -> (String, bool) {
    let asked = asked_of(out, code);
    let said: serde_json::Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    let state = said["state"].as_str().expect("a state").to_owned();
    (state, asked.status.success())
}

// ---- publishers that die

/// A store that takes so many calls that write, and then no more.
struct Mortal {
    store: FakeStore,
    left: AtomicUsize,
}

#[async_trait::async_trait]
impl Store for Mortal {
    async fn residents(&self) -> Result<u64, Error> {
        self.store.residents().await
    }

    async fn fill(&self, progress: Arc<dyn Fn(u64) + Send + Sync>) -> Result<(), Error> {
        self.store.fill(progress).await
    }

    async fn ingest(&self, changes: Vec<Change>) -> Result<Vec<ChangeOutcome>, Error> {
        let left = self
            .left
            .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        match left {
            Ok(_) => self.store.ingest(changes).await,
            Err(_) => Err(Error::Closed),
        }
    }

    async fn find(&self, who: Identity) -> Result<Option<LocatedRecord>, Error> {
        self.store.find(who).await
    }

    async fn word(&self, id: ResidentId) -> Result<Option<Word>, Error> {
        self.store.word(id).await
    }

    async fn papers(
        &self,
        owner: Identity,
        kinds: PaperKinds,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Paper>, Error> {
        self.store.papers(owner, kinds, after, limit).await
    }

    async fn some(&self, owner: Identity, keys: &[PaperKey]) -> Result<Vec<Option<Paper>>, Error> {
        self.store.some(owner, keys).await
    }

    async fn remove(&self, owner: Identity, keys: &[PaperKey]) -> Result<u64, Error> {
        self.store.remove(owner, keys).await
    }

    async fn sweep(&self, keep: &Retention, now: Time, every: Duration) -> Result<u64, Error> {
        self.store.sweep(keep, now, every).await
    }

    async fn close(&self) {}
}

/// A board with many residents, of whom every fourth is red by the version.
fn town(version: u64) -> Arc<Board> {
    let settings = board::Settings {
        stale_after: Duration::from_secs(2),
        too_old_after: Duration::from_secs(30),
        shards: 16,
    };
    let board = Board::new(0, settings);
    for nth in 0..300_000u64 {
        let reasons = match (nth + version).is_multiple_of(4) {
            true => Reasons::NONE.with(Reason::CloseContact),
            false => Reasons::NONE,
        };
        let id = ResidentId(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        board.post(id, Word::new(version, 7, reasons));
    }
    board.confirm(Moment::now());
    board.fill_done();
    Arc::new(board)
}

struct Whole(Arc<Board>);

impl publisher::OnRecord for Whole {
    fn each(&self, each: &mut dyn FnMut(ResidentId, Word)) {
        self.0.walk(each);
    }

    fn has(&self, resident: ResidentId) -> bool {
        self.0.word(resident).is_some()
    }
}

fn edition(keys: &OfflineKeys, board: &Arc<Board>, so_far: &[BaseList], as_of: Time) -> Edition {
    let source = ListSource {
        keys,
        issuer: 440_000,
        residents: &Whole(board.clone()),
        revoked: &HashMap::new(),
        as_of,
        life: Duration::from_secs(3_600),
        recent: u64::MAX,
    };
    publish(&source, so_far, true).expect("a list")
}

#[tokio::test]
async fn a_publisher_that_dies_at_any_step_leaves_the_list_before_or_a_whole_one() {
    let now = Time::now();
    let ring = RingFile::generate(now);
    let settings = seal::Settings {
        code_life: Duration::from_secs(60),
        clock_skew: Duration::from_secs(2),
        issuer: None,
    };
    let seal = Seal::new(&ring, settings);
    let keys = OfflineKeys::of(&ring, 440_000).expect("keys");
    let lists = || {
        let hour = Duration::from_secs(3_600);
        let settings = ListSettings {
            every: Duration::from_secs(600),
            base_every: hour,
            stale_after: hour,
            too_old_after: hour,
            bytes_per_second: 1 << 20,
        };
        Lists::new(settings, 440_000)
    };
    let (before, after) = (town(4), town(5));
    let first = edition(&keys, &before, &[], Time(now.0 - 700_000));
    let base = BaseList::open(first.pairs[0].base.clone(), &keys.verifying).expect("a base");
    let second = edition(&keys, &after, &[base], now);
    let store = Mortal {
        store: FakeStore::new(before.clone(), FakeFaults::default()),
        left: AtomicUsize::new(usize::MAX),
    };
    let shelf = ListShelf {
        store: &store,
        seal: &seal,
        issuer: 440_000,
    };
    let slot = |nth: u64| Time((now.0 / 600_000 + nth) * 600_000);
    let publisher = lists();
    let put = publisher.put(&shelf, slot(0), &first, 300_000, now).await;
    assert!(put.expect("the store works"));
    publisher
        .refresh(&store, &seal, &keys)
        .await
        .expect("it works");
    let held = publisher.served().expect("the first");
    assert_eq!(held.number(), first.pairs[0].number);
    let mut steps = 0;
    loop {
        store.left.store(steps, SeqCst);
        let put = publisher.put(&shelf, slot(1), &second, 300_000, now).await;
        let reader = lists();
        reader
            .refresh(&store, &seal, &keys)
            .await
            .expect("it works");
        let served = reader.served().expect("one of the two");
        let number = match put {
            Ok(true) => second.pairs[0].number,
            Ok(false) => panic!("nobody else published"),
            Err(_) => first.pairs[0].number,
        };
        assert_eq!(served.number(), number, "after {steps} steps");
        let pair = &served.pairs[0];
        assert!(BaseList::open(pair.base.bytes[..].into(), &keys.verifying).is_ok());
        assert!(ListChanges::open(&pair.changes.bytes, &keys.verifying).is_ok());
        if put.is_ok() {
            break;
        }
        steps += 1;
    }
    assert!(steps > 10, "files have many parts: {steps}");
    // One that was held up and comes with an older list finds the slot taken; in another slot nobody takes it up.
    store.left.store(usize::MAX, SeqCst);
    let late = edition(&keys, &before, &[], Time(now.0 - 500_000));
    let put = publisher.put(&shelf, slot(1), &late, 300_000, now).await;
    assert!(!put.expect("the store works"));
    let put = publisher.put(&shelf, slot(2), &late, 300_000, now).await;
    assert!(put.expect("the store works"));
    for reader in [publisher, lists()] {
        reader
            .refresh(&store, &seal, &keys)
            .await
            .expect("it works");
        let served = reader.served().expect("the second");
        assert_eq!(served.number(), second.pairs[0].number);
    }
}

/// Prints what a list of a whole city costs; `TEST_RESIDENTS` says how many.
#[test]
#[ignore = "takes minutes; prints seconds and memory"]
fn the_list_of_a_million_residents_is_proved_in_seconds() {
    let residents = std::env::var("TEST_RESIDENTS").unwrap_or_else(|_| "1000000".to_owned());
    let folder = folder();
    let (store, lines) = (
        folder.path().join("store"),
        folder.path().join("town.ndjson"),
    );
    let town = ["synth", "--seed", "1", "--residents", &residents, "--out"];
    for command in [
        command().args(town).arg(&lines),
        command()
            .arg("import")
            .arg(&lines)
            .arg("--store")
            .arg(&store),
    ] {
        let done = command.output().expect("the binary runs");
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
    let node = NodeBuilder::new(&["offline_issuer=440000", "list_every=1h"])
        .over(&store)
        .node();
    let before = node.memory();
    until("there is a list", || {
        node.meter("liangma_list_bytes{file=\"base\"}") > 0.0
    });
    let meter = |name| node.meter(name);
    println!(
        "{residents} residents: {} s, base {} bytes, {} red, memory {} KiB before and {} KiB after",
        meter("liangma_list_build_seconds"),
        meter("liangma_list_bytes{file=\"base\"}"),
        meter("liangma_list_listed{state=\"red\"}"),
        before,
        node.memory(),
    );
    assert_eq!(meter("liangma_list_wrong_total"), 0.0);
    assert_eq!(meter("liangma_list_residents").to_string(), residents);
}
