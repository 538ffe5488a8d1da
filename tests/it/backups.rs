//! Backups: a copy of a store that is fed meanwhile, a store made of it, and stores that are older than what was acknowledged.

use crate::harness::*;
use liangma::http::door::Door;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};

fn backup(node: &Node, into: &Path) -> Output {
    let operator = node.seals().operator();
    backup_with(node, &operator, into)
}

fn backup_with(node: &Node, token: &str, into: &Path) -> Output {
    let mut command = command();
    command.args(["backup", "--token", token, "--from"]);
    command.arg(format!("http://{}", node.address(Door::Ops)));
    command.arg("--into").arg(into);
    command.output().expect("the binary runs")
}

fn restore(store: &Path, rest: &[&str]) -> Command {
    let mut command = command();
    command.arg("restore").args(rest).arg("--store").arg(store);
    command
}

#[track_caller]
fn said(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// An empty directory with a copy of a store's key ring.
fn beside(folder: &Path, node: &Node) -> PathBuf {
    let store = folder.join("restored");
    std::fs::create_dir_all(&store).unwrap();
    std::fs::copy(node.store.join("keys"), store.join("keys")).unwrap();
    store
}

fn stop(node: Node) {
    node.signal(libc::SIGTERM);
    assert!(node.end().success());
}

#[test]
fn a_backup_taken_under_a_feed_holds_all_that_was_acknowledged_before_it() {
    let node = Node::start();
    let folder = folder();
    let file = folder.path().join("backup");
    let authority = node.seals().authority();
    let (ended, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (before, after) = std::thread::scope(|scope| {
        let _ends = SetOnDrop(&ended);
        scope.spawn(|| {
            for nth in 0.. {
                if ended.load(Acquire) {
                    return;
                }
                let lines: Vec<String> = (nth * 20..nth * 20 + 20)
                    .map(|nth| person(nth).set("confirmed", 1))
                    .collect();
                node.feed(&authority, &lines);
                acknowledged.store(lines.len() * (nth + 1), Release);
            }
        });
        until("some are acknowledged", || {
            acknowledged.load(Acquire) >= 200
        });
        let before = acknowledged.load(Acquire);
        let made = said(&backup(&node, &file));
        assert!(made["residents"].as_u64().unwrap() >= before as u64);
        let after = acknowledged.load(Acquire);
        until("the feed goes on", || acknowledged.load(Acquire) > after);
        (before, after)
    });
    let store = beside(folder.path(), &node);
    let checked = said(
        &restore(&store, &[file.to_str().unwrap(), "--check"])
            .output()
            .unwrap(),
    );
    assert_eq!(checked["is_whole"], true);
    let report = said(&restore(&store, &[file.to_str().unwrap()]).output().unwrap());
    assert_eq!(report["believed"], false);
    assert!(
        report["not_green"].as_u64().unwrap() >= before as u64,
        "{report}"
    );
    assert!(
        report["newest_change"].is_string() && report["papers"]["audit"].is_u64(),
        "{report}"
    );
    assert!(after >= before);
    said(&restore(&store, &["--accept"]).output().unwrap());
    let other = NodeBuilder::new(&[]).over(&store).node();
    for nth in 0..before {
        let session = other.seals().session(&person(nth));
        assert_eq!(other.show(&session).state(), "red", "{nth} of {before}");
    }
}

#[test]
fn a_store_of_a_backup_tells_of_nobody_until_it_is_accepted() {
    let node = Node::start();
    let folder = folder();
    let file = folder.path().join("backup");
    let (chen, wang) = (person(1), person(2));
    let authority = node.seals().authority();
    node.feed(&authority, &[chen.resident(), wang.set("confirmed", 1)]);
    said(&backup(&node, &file));
    // The backup has her green, and no news of it.
    node.feed(&authority, &[chen.set("confirmed", 1)]);
    let scanner = node.seals().scanner();
    let code = node.code(&node.seals().session(&chen));
    let store = beside(folder.path(), &node);
    said(&restore(&store, &[file.to_str().unwrap()]).output().unwrap());
    let other = NodeBuilder::new(&["too_old_after=1h"])
        .over(&store)
        .warming();
    until("it says why it is not ready", || {
        other.get(Door::Ops, "/ready").json()["state"] == "restored"
    });
    assert!(other.log().contains("is not believed"), "{}", other.log());
    let tells_of_nobody = || {
        for person in [&chen, &wang, &person(3)] {
            let session = other.seals().session(person);
            assert!(
                other.show(&session).status >= 500,
                "{}",
                text(&other.show(&session).body)
            );
            assert!(other.explain(&session).status >= 500);
        }
        let scanned = other.scan(&scanner, &code);
        assert!(scanned.status >= 500, "{}", text(&scanned.body));
    };
    tells_of_nobody();
    // What came after the backup is sent again, and is durable.
    other.feed(
        &authority,
        &[chen.set("confirmed", 1), person(3).resident()],
    );
    tells_of_nobody();
    stop(other);
    let report = said(&restore(&store, &["--check"]).output().unwrap());
    assert_eq!(
        (&report["believed"], &report["not_green"]),
        (&false.into(), &2.into())
    );
    said(&restore(&store, &["--accept"]).output().unwrap());
    let report = said(&restore(&store, &["--check"]).output().unwrap());
    assert_eq!(report["believed"], true);
    let other = NodeBuilder::new(&[]).over(&store).node();
    for (person, state) in [(&chen, "red"), (&wang, "red"), (&person(3), "green")] {
        assert_eq!(other.show(&other.seals().session(person)).state(), state);
    }
}

#[test]
fn a_copy_that_is_put_back_is_noticed_and_not_believed() {
    let node = Node::start();
    let folder = folder();
    let store = folder.path().join("store");
    std::fs::create_dir(&store).unwrap();
    std::fs::copy(node.store.join("keys"), store.join("keys")).unwrap();
    drop(node);
    let chen = person(1);
    let node = NodeBuilder::new(&[]).over(&store).node();
    let authority = node.seals().authority();
    node.feed(&authority, &[chen.resident()]);
    stop(node);
    let (data, copy) = (store.join("liangma.redb"), folder.path().join("copy"));
    std::fs::copy(&data, &copy).unwrap();
    let node = NodeBuilder::new(&[]).over(&store).node();
    node.feed(&authority, &[chen.set("confirmed", 1)]);
    // However it ends: the count is noted while it works.
    stop(node);
    std::fs::copy(&copy, &data).unwrap();
    let node = NodeBuilder::new(&[]).over(&store).warming();
    let session = node.seals().session(&chen);
    until("it says why it is not ready", || {
        node.get(Door::Ops, "/ready").json()["state"] == "restored"
    });
    assert!(node.show(&session).status >= 500);
    node.feed(&authority, &[chen.set("confirmed", 1)]);
    stop(node);
    let report = said(&restore(&store, &["--check"]).output().unwrap());
    assert!(
        report["why"].as_str().unwrap().contains("from a copy"),
        "{report}"
    );
    said(&restore(&store, &["--accept"]).output().unwrap());
    let node = NodeBuilder::new(&[]).over(&store).node();
    assert_eq!(node.show(&session).state(), "red");
    stop(node);
    // The same copy again.
    std::fs::copy(&copy, &data).unwrap();
    let report = said(&restore(&store, &["--check"]).output().unwrap());
    assert_eq!(report["believed"], false);
}

#[test]
fn a_backup_that_is_cut_changed_or_of_another_ring_makes_no_store() {
    let node = Node::start();
    let folder = folder();
    let file = folder.path().join("backup");
    let seals = node.seals();
    let lines: Vec<String> = (0..2_000)
        .map(|nth| person(nth).set("confirmed", 1))
        .collect();
    node.feed(&seals.authority(), &lines);
    for token in [
        seals.scanner(),
        seals.authority(),
        seals.staff("wang", "440100"),
    ] {
        let refused = backup_with(&node, &token, &file);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("not_permitted"));
    }
    said(&backup(&node, &file));
    let again = backup(&node, &file);
    assert!(text(&again.stderr).contains("not overwritten"));
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 1, "nothing half is left");
    let whole = std::fs::read(&file).unwrap();
    let store = beside(folder.path(), &node);
    let bad = folder.path().join("bad");
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    for (bytes, why) in [
        (&whole[..whole.len() - 1], "incomplete"),
        (&whole[..whole.len() / 2], "incomplete"),
        (&whole[..10], "not a backup"),
        (&changed, "not as it was written"),
        (&[&whole[..], b"x"].concat(), "not as it was written"),
    ] {
        std::fs::write(&bad, bytes).unwrap();
        for rest in [
            &[bad.to_str().unwrap()][..],
            &[bad.to_str().unwrap(), "--check"],
        ] {
            let refused = restore(&store, rest).output().unwrap();
            assert_eq!(refused.status.code(), Some(1));
            assert!(
                text(&refused.stderr).contains(why),
                "{why}: {}",
                text(&refused.stderr)
            );
        }
        let left: Vec<_> = std::fs::read_dir(&store).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
    let ring = Ring::make();
    let mut foreign = restore(&store, &[file.to_str().unwrap()]);
    let foreign = foreign.arg("--keys").arg(&ring.file).output().unwrap();
    assert!(
        text(&foreign.stderr).contains("another key ring"),
        "{}",
        text(&foreign.stderr)
    );
    said(&restore(&store, &[file.to_str().unwrap()]).output().unwrap());
    let twice = restore(&store, &[file.to_str().unwrap()]).output().unwrap();
    assert!(
        text(&twice.stderr).contains("not overwritten"),
        "{}",
        text(&twice.stderr)
    );
}

#[test]
fn a_reader_that_stands_still_holds_up_no_feed_and_leaves() {
    let node = NodeBuilder::new(&["stall_timeout=3s"]).node();
    let seals = node.seals();
    for first in (0..30_000).step_by(2_000) {
        let lines: Vec<String> = (first..first + 2_000)
            .map(|nth| person(nth).set("confirmed", 1))
            .collect();
        node.feed(&seals.authority(), &lines);
    }
    let mut reader = Connection::to(node.address(Door::Ops));
    let ask = || Ask::new("POST", "/v1/backup").bearer(&seals.operator());
    reader.send(ask().bytes());
    node.feed(&seals.authority(), &[person(1).clear("confirmed", 2)]);
    assert_eq!(node.show(&seals.session(&person(1))).state(), "green");
    // While it stands there is no other; then it is closed.
    until("its place is free", || {
        let folder = folder();
        backup(&node, &folder.path().join("backup"))
            .status
            .success()
    });
    drop(reader);
}

#[test]
fn a_running_node_is_exported_and_its_audit_log_verified() {
    let node = Node::start();
    let seals = node.seals();
    node.feed(
        &seals.authority(),
        &[person(1).resident(), person(2).set("confirmed", 1)],
    );
    let from = format!("http://{}", node.address(Door::Ops));
    // What a command that was killed left behind, and what is no copy.
    let temporary = folder();
    for name in ["liangma-copy-1", "another"] {
        std::fs::create_dir(temporary.path().join(name)).unwrap();
        std::fs::write(temporary.path().join(name).join("backup"), "x").unwrap();
    }
    let run = |words: &[&str]| {
        let mut command = command();
        command.env("TMPDIR", temporary.path()).args(words).args([
            "--from",
            &from,
            "--token",
            &seals.operator(),
        ]);
        command.arg("--store").arg(&node.store).output().unwrap()
    };
    let exported = run(&["export"]);
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    let lines = text(&exported.stdout);
    assert!(
        lines.contains(&person(1).cert_no) && lines.contains("\"confirmed\""),
        "{lines}"
    );
    let verified = run(&["audit", "verify"]);
    let said = text(&verified.stdout);
    assert!(
        verified.status.success() && said.contains("all as they were written"),
        "{said}"
    );
    assert_eq!(node.show(&seals.session(&person(2))).state(), "red");
    let left = std::fs::read_dir(temporary.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["another"]);
}
