//! Commands over Redis, and what they never tell.

use crate::harness::*;
use crate::redis::Server;
use liangma::http::door::Door;
use serde_json::json;
use std::path::Path;
use std::process::Output;

fn over(store: &str, keys: Option<&Path>, args: &[&str]) -> Output {
    let mut command = command();
    command.args(args).args(["--store", store]);
    if let Some(keys) = keys {
        command.arg("--keys").arg(keys);
    }
    command.output().expect("the binary runs")
}

fn sorted(bytes: &[u8]) -> Vec<String> {
    let text = text(bytes);
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    lines.sort();
    lines
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_is_imported_into_redis_is_exported_as_from_the_embedded_store() {
    let server = Server::start(&[]);
    let (ring, folder) = (Ring::make(), folder());
    let (file, embedded) = (folder.path().join("lines"), folder.path().join("store"));
    let synth = run(&["synth", "--residents", "3000", "--seed", "7"]);
    std::fs::write(&file, &synth.stdout).unwrap();
    let [file, embedded] = [&file, &embedded].map(|path| path.display().to_string());
    let mut exports = Vec::new();
    for store in [server.url(), embedded] {
        let keys = Some(ring.file.as_path());
        let import = over(&store, keys, &["import", &file]);
        assert_eq!(import.status.code(), Some(0), "{}", text(&import.stderr));
        let said: serde_json::Value = serde_json::from_slice(&import.stdout).unwrap();
        let again = over(&store, keys, &["import", &file]);
        let nothing: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
        assert_eq!(nothing["applied"], 0);
        let export = over(&store, keys, &["export"]);
        assert_eq!(export.status.code(), Some(0), "{}", text(&export.stderr));
        exports.push((said, nothing, sorted(&export.stdout)));
    }
    assert!(exports[0].2.len() > 3000);
    assert!(
        exports[0] == exports[1],
        "{:?} {:?}",
        exports[0].0,
        exports[1].0
    );
    // And a node over it shows them all.
    let node = NodeBuilder::new(&[])
        .over_redis(&server.url(), &ring)
        .node();
    assert_eq!(node.meter("liangma_residents"), 3000.0);
    assert_eq!(node.meter("liangma_residents_on_record"), 3000.0);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn an_older_message_brings_nobody_back_who_was_erased_before_an_export_and_an_import() {
    let server = Server::start(&[]);
    let (ring, folder) = (Ring::make(), folder());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let keys = Some(ring.file.as_path());
    let gone = person(1);
    let answered = |store: &str, keys: Option<&Path>, lines: &[String]| -> serde_json::Value {
        std::fs::write(at("lines"), lines.join("\n")).unwrap();
        let import = over(store, keys, &["import", &at("lines")]);
        serde_json::from_slice(&import.stdout)
            .unwrap_or_else(|_| panic!("{}", text(&import.stderr)))
    };
    for (kind, here) in [("redis", server.url()), ("embedded", at("embedded"))] {
        let lived = [
            gone.resident(),
            gone.set("suspected", 1),
            gone.clear("suspected", 9),
            person(2).resident(),
        ];
        assert_eq!(answered(&here, keys, &lived)["applied"], 4, "{kind}");
        let place = ["--store", &here, "--keys", ring.file.to_str().unwrap()];
        let erased = erase(&place, &gone);
        assert!(erased.status.success(), "{}", text(&erased.stderr));
        let export = over(&here, keys, &["export"]);
        assert_eq!(export.status.code(), Some(0), "{}", text(&export.stderr));
        let lines = sorted(&export.stdout);
        assert!(!lines.iter().any(|line| line.contains(&gone.cert_no)));
        let there = at(&format!("{kind}-again"));
        assert_eq!(answered(&there, keys, &lines)["rejected"], json!([]));
        let export = over(&there, keys, &["export"]);
        assert_eq!(sorted(&export.stdout), lines, "{kind}");
        for (line, outcome) in [
            (gone.set("suspected", 5), "unchanged"),
            (gone.set("suspected", 10), "applied"),
        ] {
            assert_eq!(answered(&there, keys, &[line])[outcome], 1, "{kind}");
        }
        // The line is nobody's where other keys are.
        let foreign = answered(&at(&format!("{kind}-elsewhere")), None, &lines);
        let codes = foreign["rejected"].as_array().unwrap();
        let is_foreign = |one: &serde_json::Value| one["code"] == "foreign_paper";
        assert!(
            !codes.is_empty() && codes.iter().all(is_foreign),
            "{foreign}"
        );
    }
}

#[test]
fn a_store_in_redis_without_its_ring_is_no_setting() {
    let url = "redis://liangma:hush@127.0.0.1:1";
    for args in [
        &["serve"][..],
        &["import", "-"],
        &["export"],
        &["keys", "list"],
    ] {
        let output = over(url, None, args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{args:?} {said}");
        assert!(
            said.contains("key_ring is missing (`--keys FILE`)"),
            "{args:?} {said}"
        );
        assert!(!said.contains("hush"), "{args:?} {said}");
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_ring_that_is_another_stores_is_refused_and_a_password_is_never_told() {
    let server = Server::start(&["requirepass hush"]);
    let url = server.url().replace("redis://", "redis://:hush@");
    let (own, foreign) = (Ring::make(), Ring::make());
    let node = NodeBuilder::new(&["log=debug"])
        .over_redis(&url, &own)
        .node();
    node.feed(&own.seals.authority(), &[person(1).resident()]);
    let refused = over(&url, Some(&foreign.file), &["export"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("another key ring"), "{said}");
    let wrong = url.replace("hush", "whisper");
    let outs = [
        refused,
        over(&wrong, Some(&own.file), &["serve", "--set", "log=debug"]),
        over(&wrong, Some(&own.file), &["export", "--set", "log=debug"]),
        over(&format!("{url}/x"), Some(&own.file), &["serve"]),
        over(
            &url.replace("redis:", "redis+moon:"),
            Some(&own.file),
            &["serve"],
        ),
    ];
    for (output, code) in outs.iter().zip([1, 1, 1, 78, 78]) {
        let said = [text(&output.stderr), text(&output.stdout)].concat();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(
            !said.contains("hush") && !said.contains("whisper"),
            "{said}"
        );
    }
    let metrics = text(&node.get(Door::Ops, "/metrics").body);
    let said = [node.log(), node.out(), metrics].concat();
    assert!(!said.contains("hush"), "{said}");
}
