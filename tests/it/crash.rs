//! Crashes: whatever was acknowledged is there after a kill, and whatever was interrupted is simply run again.

use crate::harness::*;
use crate::redis::Server;
use liangma::http::door::Door;
use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

const ROUNDS: usize = 20;
const FEEDERS: usize = 3;

/// A status whose time tells its number.
fn numbered(person: &Person, seq: u64) -> String {
    let mut line = person.said("confirmed", "set", seq);
    line["at"] = at(seq).into();
    line.to_string()
}

fn at(seq: u64) -> String {
    liangma::clock::Time(1_577_836_800_000 + 1000 * seq).to_string()
}

/// What the feeders were told.
#[derive(Default)]
struct Acknowledged {
    /// People who are red for good.
    red: Vec<Person>,
    /// The newest status of each feeder's own person: acknowledged, and sent.
    newest: HashMap<usize, (u64, u64)>,
}

#[test]
fn what_was_acknowledged_survives_a_kill_and_nothing_goes_back() {
    let folder = folder();
    let store = folder.path().join("store");
    let acknowledged = Mutex::new(Acknowledged::default());
    let next_person = AtomicUsize::new(1000);
    for round in 0..=ROUNDS {
        let node = NodeBuilder::new(&[]).over(&store).node();
        check(&node, &mut acknowledged.lock().unwrap());
        if round == ROUNDS {
            break;
        }
        let told = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for feeder in 0..FEEDERS {
                let (node, acknowledged, next_person, told) =
                    (&node, &acknowledged, &next_person, &told);
                scope.spawn(move || feed_until_cut(node, feeder, acknowledged, next_person, told));
            }
            // Somewhere between two acknowledgements, each time elsewhere.
            until("some events are acknowledged", || {
                told.load(Relaxed) > round % 7 * 2
            });
            node.signal(libc::SIGKILL);
        });
    }
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.red.len() > ROUNDS, "enough was fed");
}

fn feed_until_cut(
    node: &Node,
    feeder: usize,
    acknowledged: &Mutex<Acknowledged>,
    next_person: &AtomicUsize,
    told: &AtomicUsize,
) {
    let authority = node.seals().authority();
    let Some(mut connection) = Connection::try_to(node.address(Door::Ops)) else {
        return;
    };
    loop {
        let own = person(feeder);
        let people: Vec<Person> = (0..5)
            .map(|_| person(next_person.fetch_add(1, Relaxed)))
            .collect();
        let seq = {
            let mut acknowledged = acknowledged.lock().unwrap();
            let (_, sent) = acknowledged.newest.entry(feeder).or_insert((0, 0));
            *sent += 1;
            *sent
        };
        let mut lines: Vec<String> = people
            .iter()
            .map(|person| person.set("suspected", 1))
            .collect();
        lines.push(numbered(&own, seq));
        let ask = Ask::post("/v1/feed", lines.join("\n")).bearer(&authority);
        if !connection.try_send(&ask.bytes()) {
            return;
        }
        let Some(answer) = connection.try_answer() else {
            return;
        };
        assert_eq!(answer.json()["applied"], 6);
        let mut acknowledged = acknowledged.lock().unwrap();
        acknowledged.red.extend(people);
        acknowledged.newest.get_mut(&feeder).expect("sent").0 = seq;
        told.fetch_add(1, Relaxed);
    }
}

fn check(node: &Node, acknowledged: &mut Acknowledged) {
    let seals = node.seals();
    let mut resident = Connection::to(node.address(Door::Resident));
    for person in &acknowledged.red {
        resident.send(Ask::get("/v1/code").bearer(&seals.session(person)).bytes());
        assert_eq!(resident.answer().state(), "red", "{}", person.cert_no);
    }
    for (feeder, (told, sent)) in &mut acknowledged.newest {
        let explained = node.explain(&seals.session(&person(*feeder))).json();
        let since = explained["reasons"][0]["since"]
            .as_str()
            .map(ToOwned::to_owned);
        let found = (*told..=*sent).find(|seq| match seq {
            0 => since.is_none(),
            seq => since.as_deref() == Some(&at(*seq)),
        });
        // What is there now was seen: it must not go back either.
        *told = found.unwrap_or_else(|| panic!("{since:?} is none of {told} to {sent}"));
        *sent = (*sent).max(*told);
    }
}

fn import(store: &Path, town: &Path) -> std::process::Command {
    let mut command = command();
    command.arg("import").arg(town).arg("--store").arg(store);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Bytes under a folder.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => size(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

#[test]
fn a_first_start_that_is_killed_is_started_again() {
    for _ in 0..40 {
        let folder = folder();
        let store = folder.path().join("store");
        let file = folder.path().join("one.ndjson");
        std::fs::write(&file, person(1).resident() + "\n").unwrap();
        let begin = || {
            let mut command = command();
            command.arg("import").arg(&file).arg("--store").arg(&store);
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            command
        };
        let mut child = begin().spawn().unwrap();
        while !store.join("liangma.redb").exists() && child.try_wait().unwrap().is_none() {
            std::hint::spin_loop();
        }
        let _ = child.kill();
        child.wait().unwrap();
        let again = begin().output().unwrap();
        assert!(again.status.success(), "{}", text(&again.stderr));
    }
}

#[test]
fn an_import_that_is_killed_anywhere_is_run_again_to_the_same_end() {
    let folder = folder();
    let town = folder.path().join("town");
    let made = run(&[
        "synth",
        "--residents",
        "150000",
        "--seed",
        "11",
        "--out",
        town.to_str().unwrap(),
    ]);
    assert!(made.status.success());
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    let started = Instant::now();
    assert!(import(&whole, &town).status().unwrap().success());
    let took = started.elapsed();
    let keys = whole.join("keys");
    // The file does not shrink after a kill: the time says how far a run is.
    let far = |share, elapsed| elapsed > took * share / 100;
    import_in_pieces(cut.to_str().unwrap(), &keys, &town, far);
    let expected = holdings(whole.to_str().unwrap(), &keys);
    assert!(expected.lines >= 150_000);
    assert_eq!(holdings(cut.to_str().unwrap(), &keys), expected);
}

/// Every kind of event for many residents, some of them twice: some 5.2 lines a resident.
fn mixed(residents: usize, out: &mut impl Write) {
    for n in 0..residents {
        let person = person(n);
        let mut add = |line: String| writeln!(out, "{line}").expect("there is room for it");
        let said = |fields: serde_json::Value| {
            let mut event = serde_json::json!({
                "cert_type": "10", "cert_no": person.cert_no, "at": "2026-11-20T08:00:00Z", "source": "gz",
            });
            for (name, value) in fields.as_object().unwrap() {
                event[name] = value.clone();
            }
            event.to_string()
        };
        add(person.resident());
        add(said(
            serde_json::json!({ "event": "temperature", "celsius": 36.5, "seq": 1 }),
        ));
        add(said(
            serde_json::json!({ "event": "temperature", "celsius": 37.5, "seq": 2 }),
        ));
        add(said(
            serde_json::json!({ "event": "trip", "places": ["440100"], "seq": 1 }),
        ));
        add(said(
            serde_json::json!({ "event": "certificate", "certificate": "health", "seq": 1 }),
        ));
        if n % 10 == 0 {
            add(person.set("home_isolation", 1));
            add(said(
                serde_json::json!({ "event": "notice", "reason": "home_isolation", "seq": 2, "source": "gd-cdc" }),
            ));
        }
    }
}

/// What a store holds, whatever order it tells it in: how many lines and papers `export` writes, and a sum over all of them.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    lines: u64,
    papers: u64,
    sum: u64,
}

fn holdings(store: &str, keys: &Path) -> Holdings {
    let mut command = command();
    command
        .args(["export", "--store", store, "--keys"])
        .arg(keys);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut all = Holdings {
        lines: 0,
        papers: 0,
        sum: 0,
    };
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let mut hasher = DefaultHasher::new();
        line.hash(&mut hasher);
        all.lines += 1;
        all.papers += u64::from(line.contains("\"event\":\"paper\""));
        all.sum = all.sum.wrapping_add(hasher.finish());
    }
    assert!(child.wait().unwrap().success());
    all
}

/// Imports until the store is so far and kills it, again and again, and then to the end. Tells what each took.
fn import_in_pieces(store: &str, keys: &Path, file: &Path, far: impl Fn(u32, Duration) -> bool) {
    let import = || {
        let mut command = command();
        command.arg("import").arg(file).args(["--store", store]);
        command.arg("--keys").arg(keys);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let mut killed = 0;
    for share in [0, 20, 40, 60, 80, 95] {
        let (mut child, started) = (import(), Instant::now());
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if far(share, started.elapsed()) {
                child.kill().unwrap();
                break child.wait().unwrap();
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        println!("at {share} %: {ended} after {:.1?}", started.elapsed());
        killed += usize::from(!ended.success());
    }
    assert!(killed > 0, "every import had ended before it was killed");
    let started = Instant::now();
    assert!(import().wait().unwrap().success());
    println!("to the end: {:.1?}", started.elapsed());
}

/// How many residents a mixed import is of: a province's city, where somebody asks for it.
fn residents() -> usize {
    let said = std::env::var("TEST_MIXED_RESIDENTS");
    said.map_or(20_000, |said| said.parse().expect("a number of residents"))
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_mixed_import_that_is_killed_and_run_again_ends_in_the_same_state_in_both_stores() {
    let residents = residents();
    let folder = folder();
    let file = folder.path().join("mixed");
    let mut out = BufWriter::new(File::create(&file).unwrap());
    mixed(residents, &mut out);
    out.flush().unwrap();
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    let started = Instant::now();
    assert!(import(&whole, &file).status().unwrap().success());
    let took = started.elapsed();
    println!("{residents} residents at once: {took:.1?}");
    let keys = whole.join("keys");
    let expected = holdings(whole.to_str().unwrap(), &keys);
    println!("{expected:?}, {} bytes", size(&whole));
    assert_eq!(expected.papers, (4 * residents + residents / 10) as u64);

    let cut_text = cut.to_str().unwrap();
    let far = |share, elapsed| elapsed > took * share / 100;
    import_in_pieces(cut_text, &keys, &file, far);
    assert_eq!(holdings(cut_text, &keys), expected);

    let server = Server::start(&[]);
    // A hash for each who has papers, and some hundred keys beside.
    let end = residents as u64;
    let keys_there = || server.ask(&["DBSIZE"]).trim().parse::<u64>().unwrap();
    let far = |share, _| keys_there() > end * u64::from(share) / 100;
    import_in_pieces(&server.url(), &keys, &file, far);
    assert_eq!(holdings(&server.url(), &keys), expected);
    let memory = server.ask(&["INFO", "memory"]);
    let used = memory.lines().find(|line| line.starts_with("used_memory:"));
    println!("{}", used.unwrap());
}

#[test]
fn a_node_that_is_killed_while_it_is_fed_everything_ends_in_the_same_state_when_it_is_fed_again() {
    const RESIDENTS: usize = 5_000;
    let folder = folder();
    let store = folder.path().join("store");
    let mut lines = Vec::new();
    mixed(RESIDENTS, &mut lines);
    for round in 0..4 {
        let node = NodeBuilder::new(&[]).over(&store).node();
        let authority = node.seals().authority();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let Some(mut connection) = Connection::try_to(node.address(Door::Ops)) else {
                    return;
                };
                connection.try_send(&Ask::post("/v1/feed", &lines).bearer(&authority).bytes());
                connection.try_answer();
            });
            // Somewhere in it, each time elsewhere.
            std::thread::sleep(std::time::Duration::from_millis(30 + 120 * round));
            node.signal(libc::SIGKILL);
        });
    }
    let node = NodeBuilder::new(&[]).over(&store).node();
    let authority = node.seals().authority();
    let fed = node.post_feed(&authority, &lines).json();
    assert_eq!(fed["rejected"], serde_json::json!([]));
    let again = node.post_feed(&authority, &lines).json();
    assert_eq!(again["applied"], 0, "all of it is there, once");
    let session = node.seals().session(&person(10));
    let kinds: Vec<String> = node.read("/v1/health", &session)["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "temperature").count(),
        2
    );
    assert!(
        kinds.len() == 4 && kinds.contains(&"notice".to_owned()),
        "{kinds:?}"
    );
    assert_eq!(node.show(&session).state(), "green");
}
