//! What rests is sealed anew by the command, beside nodes that serve and feeds that go on; then the old keys go.

use crate::harness::*;
use crate::redis::Server;
use liangma::http::door::Door;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

/// Where a store is, and its ring.
struct KeptStore {
    store: PathBuf,
    ring: Option<Ring>,
    _folder: tempfile::TempDir,
    server: Option<Server>,
}

impl KeptStore {
    fn embedded() -> KeptStore {
        let folder = folder();
        KeptStore {
            store: folder.path().join("store"),
            ring: None,
            _folder: folder,
            server: None,
        }
    }

    fn redis() -> KeptStore {
        let server = Server::start(&[]);
        KeptStore {
            store: server.url().into(),
            ring: Some(Ring::make()),
            _folder: folder(),
            server: Some(server),
        }
    }

    fn both() -> [KeptStore; 2] {
        [KeptStore::embedded(), KeptStore::redis()]
    }

    fn node(&self) -> Node {
        let mut builder = NodeBuilder::new(&["desk_requests_per_second=1000"]).over(&self.store);
        builder.keys = self.ring.as_ref().map(|ring| ring.file.clone());
        builder.node()
    }

    fn keys(&self, what: &[&str]) -> Command {
        let mut command = command();
        command.arg("keys").args(what);
        command.arg("--store").arg(&self.store);
        if let Some(ring) = &self.ring {
            command.arg("--keys").arg(&ring.file);
        }
        command
    }

    #[track_caller]
    fn does(&self, what: &[&str]) -> String {
        let output = self.keys(what).output().unwrap();
        assert!(
            output.status.success(),
            "{what:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    fn reseal(&self, node: &Node) -> Command {
        let mut command = self.keys(&["reseal"]);
        command.args(["--token", &node.seals().operator(), "--from"]);
        command.arg(format!("http://{}", node.address(Door::Ops)));
        command
    }

    /// Everything on record as lines, each name and number opened.
    fn export(&self) -> Vec<String> {
        let mut command = command();
        command.args(["export", "--store"]).arg(&self.store);
        if let Some(ring) = &self.ring {
            command.arg("--keys").arg(&ring.file);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let lines = text(&output.stdout);
        lines.lines().map(str::to_owned).collect()
    }
}

#[track_caller]
fn told(output: &Output, code: i32) -> Value {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    assert_eq!(output.status.code(), Some(code), "{}", text(&said));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn temperature(person: &Person, seq: u64) -> String {
    json!({
        "event": "temperature", "cert_type": "10", "cert_no": person.cert_no, "celsius": 36.5,
        "at": "2020-04-20T08:00:00+08:00", "source": "gd-cdc", "seq": seq, "region": "440106",
    })
    .to_string()
}

const PEOPLE: usize = 1_200;

/// People, of whom each third is red, each with a temperature.
fn town(node: &Node) -> Vec<Person> {
    let people: Vec<Person> = (0..PEOPLE).map(person).collect();
    let authority = node.seals().authority();
    for (nth, some) in people.chunks(300).enumerate() {
        let lines = some.iter().enumerate().flat_map(|(of, person)| {
            let red = ((nth * 300 + of) % 3 == 0).then(|| person.set("confirmed", 1));
            let both = [person.resident(), temperature(person, 1)];
            both.into_iter().chain(red)
        });
        node.feed(&authority, &lines.collect::<Vec<_>>());
    }
    people
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn under_a_feed_all_is_sealed_anew_and_opens_without_the_old_key() {
    for place in KeptStore::both() {
        let node = place.node();
        let seals = node.seals();
        let people = town(&node);
        let before = std::fs::read(place.ring_file()).unwrap();
        // What may still be needed is not let go of.
        place.does(&["rotate", "--rest"]);
        let dropped = place.keys(&["drop"]).output().unwrap();
        assert_eq!(dropped.status.code(), Some(1));
        assert!(
            text(&dropped.stderr).contains("reseal"),
            "{}",
            text(&dropped.stderr)
        );
        assert_ne!(before, std::fs::read(place.ring_file()).unwrap());
        node.signal(libc::SIGHUP);
        // Sent again it is the same, whichever key sealed it.
        let fed = Ask::post("/v1/feed", temperature(&people[5], 1));
        until("the node seals with the next key", || {
            let settings = Ask::get("/v1/settings").bearer(&seals.operator());
            settings.at(node.address(Door::Ops)).json()["rest_key"] == 2
        });
        let fed = fed.bearer(&seals.authority()).at(node.address(Door::Ops));
        assert_eq!(fed.json()["unchanged"], 1, "{}", text(&fed.body));
        let other = temperature(&people[5], 1).replace("36.5", "37.5");
        let fed = node.post_feed(&seals.authority(), other).json();
        assert_eq!(fed["rejected"][0]["code"], "seq_reused", "{fed}");

        let authority = seals.authority();
        let sessions: Vec<String> = people.iter().map(|one| seals.session(one)).collect();
        let (ended, seq) = (AtomicBool::new(false), AtomicU64::new(1));
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Acquire) {
                    let next = seq.load(Acquire) + 1;
                    let some = people.iter().step_by(11);
                    let lines: Vec<String> = some
                        .map(|person| match next % 2 {
                            0 => person.set("suspected", next),
                            _ => person.clear("suspected", next),
                        })
                        .collect();
                    node.feed(&authority, &lines);
                    seq.store(next, Release);
                    let session = &sessions[next as usize % PEOPLE];
                    let declared = json!({
                        "symptoms": ["none"], "contact": "no", "high_risk_area": false, "celsius": 36.5,
                    });
                    node.put("/v1/declarations", session, declared);
                }
            });
            until("the feed goes on", || seq.load(Acquire) > 2);
            let output = place.reseal(&node).output();
            // Before anything can fail: the scope waits for the feed.
            ended.store(true, Release);
            told(&output.unwrap(), 0)
        });
        assert_eq!(outcome["previous_keys"], "not needed", "{outcome}");
        assert_eq!(outcome["unopened"], json!({}), "{outcome}");
        let sealed = outcome["sealed_anew"].as_u64().unwrap();
        assert!(sealed > PEOPLE as u64, "{outcome}");
        // What the feed changed meanwhile had new tags before a walk came by.
        assert!(sealed <= 2 * PEOPLE as u64 + 20, "{outcome}");
        place.does(&["drop"]);
        node.signal(libc::SIGHUP);
        until("the node has read the ring", || {
            node.log().matches("was read again").count() == 2
        });
        let red = |nth: usize| {
            nth.is_multiple_of(3) || nth.is_multiple_of(11) && seq.load(Acquire).is_multiple_of(2)
        };
        let tells = |node: &Node| {
            for (nth, person) in people.iter().enumerate() {
                let state = if red(nth) { "red" } else { "green" };
                assert_eq!(node.show(&seals.session(person)).state(), state, "{nth}");
            }
            for person in people.iter().step_by(40) {
                let session = seals.session(person);
                assert_eq!(node.explain(&session).status, 200);
                let health = node.read("/v1/health?kind=temperature", &session);
                assert_eq!(health["records"][0]["celsius"], 36.5, "{health}");
            }
            assert_eq!(node.meter("liangma_store_damaged_total"), 0.0);
        };
        tells(&node);
        node.signal(libc::SIGTERM);
        node.end();
        let lines = place.export();
        let named = lines.iter().filter(|line| line.contains("陈美玲"));
        assert!(named.count() >= PEOPLE);
        // A node that starts knows no other key.
        tells(&place.node());
    }
}

impl KeptStore {
    fn ring_file(&self) -> PathBuf {
        match &self.ring {
            Some(ring) => ring.file.clone(),
            None => self.store.join("keys"),
        }
    }
}

#[test]
fn a_node_that_has_not_read_the_ring_is_not_asked_and_says_what_it_seals_with() {
    let place = KeptStore::embedded();
    let node = place.node();
    town(&node);
    place.does(&["rotate", "--rest"]);
    let output = place.reseal(&node).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("with key 1, the ring here with key 2"),
        "{said}"
    );
    assert!(said.contains("SIGHUP"), "{said}");
}

/// Returns how often scripts were called at a server.
fn calls(server: &Server) -> u64 {
    let stats = server.info("commandstats");
    let line = stats
        .lines()
        .find(|line| line.starts_with("cmdstat_evalsha:"));
    let calls = line.and_then(|line| line.split(['=', ',']).nth(1));
    calls.map_or(0, |calls| calls.parse().expect("a number"))
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_walk_whose_command_or_node_is_killed_is_begun_again_and_ends() {
    let place = KeptStore::redis();
    let server = place.server.as_ref().unwrap();
    let people = town(&place.node());
    place.does(&["rotate", "--rest"]);
    for more in [20, 45, 70] {
        // Over the store itself, with no node.
        let before = calls(server);
        let mut command = spawn(&mut place.keys(&["reseal"]));
        until("it has begun", || {
            calls(server) > before + more || command.try_wait().unwrap().is_some()
        });
        let _ = command.kill();
        command.wait().unwrap();
        // By a node, which is killed.
        let node = place.node();
        let before = calls(server);
        let mut command = spawn(&mut place.reseal(&node));
        until("it has begun", || {
            calls(server) > before + more || command.try_wait().unwrap().is_some()
        });
        node.signal(libc::SIGKILL);
        node.end();
        command.wait().unwrap();
    }
    let outcome = told(&place.keys(&["reseal"]).output().unwrap(), 0);
    assert_eq!(outcome["previous_keys"], "not needed", "{outcome}");
    place.does(&["drop"]);
    let node = place.node();
    for (nth, person) in people.iter().enumerate() {
        let state = if nth % 3 == 0 { "red" } else { "green" };
        assert_eq!(node.show(&node.seals().session(person)).state(), state);
    }
    assert_eq!(node.meter("liangma_store_damaged_total"), 0.0);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn one_damaged_record_stops_nothing_and_holds_the_old_key_back() {
    let place = KeptStore::redis();
    let server = place.server.as_ref().unwrap();
    let people = town(&place.node());
    let edit = "for _, key in ipairs(redis.call('KEYS', 'lm:{*}:[0-9]*:*')) do
  local all = redis.call('HGETALL', key)
  local v = all[2]
  redis.call('HSET', key, all[1], v:sub(1, 50) .. string.char((v:byte(51) + 1) % 256) .. v:sub(52))
  return 1
end";
    assert_eq!(server.ask(&["EVAL", edit, "0"]), "1");
    place.does(&["rotate", "--rest"]);
    let output = place.keys(&["reseal"]).output().unwrap();
    let outcome = told(&output, 3);
    assert_eq!(outcome["unopened"], json!({ "record": 1 }), "{outcome}");
    assert_eq!(outcome["previous_keys"], "may be needed", "{outcome}");
    assert_eq!(outcome["sealed_anew"], 2 * PEOPLE - 1, "{outcome}");
    let said = text(&output.stderr);
    assert!(
        said.contains("1 of the kind record open with no key"),
        "{said}"
    );
    for person in &people {
        assert!(!said.contains(&person.cert_no));
    }
    assert_eq!(
        place.keys(&["drop"]).output().unwrap().status.code(),
        Some(1)
    );
    place.does(&["drop", "--unproved"]);
    let node = place.node();
    let seals = node.seals();
    let busy = people
        .iter()
        .filter(|person| node.show(&seals.session(person)).status != 200);
    assert!(busy.count() <= 1);
}
