//! Feeding: events at the operations door and by `import`, and all of it out again by `export`.

use crate::harness::*;
use liangma::http::door::Door;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

#[test]
fn what_changes_something_is_applied_and_the_same_again_is_not() {
    let node = Node::start();
    let authority = node.seals().authority();
    let chen = person(1);
    let lines = [
        chen.resident(),
        chen.set("confirmed", 5),
        chen.clear("confirmed", 4),
    ];
    let first = node.feed(&authority, &lines);
    assert_eq!(
        (&first["applied"], &first["unchanged"]),
        (&json!(2), &json!(1))
    );
    let again = node.feed(&authority, &lines);
    assert_eq!(
        (&again["applied"], &again["unchanged"]),
        (&json!(0), &json!(3))
    );
    assert_eq!(node.show(&node.seals().session(&chen)).state(), "red");
}

#[test]
fn the_highest_seq_wins_in_whatever_order_events_come() {
    let node = Node::start();
    let seals = node.seals();
    let authority = seals.authority();
    let orders = [
        [1, 2, 3],
        [1, 3, 2],
        [2, 1, 3],
        [2, 3, 1],
        [3, 1, 2],
        [3, 2, 1],
    ];
    for (nth, order) in orders.into_iter().enumerate() {
        let (red, green) = (person(10 + nth), person(100 + nth));
        for seq in order {
            let (one, other) = (red.set("suspected", seq), red.clear("suspected", seq));
            let (red_line, green_line) = match seq {
                2 => (other, green.set("suspected", seq)),
                _ => (one, green.clear("suspected", seq)),
            };
            node.feed(&authority, &[red_line, green_line]);
        }
        assert_eq!(node.show(&seals.session(&red)).state(), "red", "{order:?}");
        assert_eq!(
            node.show(&seals.session(&green)).state(),
            "green",
            "{order:?}"
        );
    }
}

#[test]
fn a_reason_stays_while_any_source_has_it_set() {
    let node = Node::start();
    let seals = node.seals();
    let authority = seals.authority();
    let chen = person(1);
    let session = seals.session(&chen);
    let by = |source: &str, action: &str, seq: u64| {
        let mut line = chen.said("close_contact", action, seq);
        line["source"] = json!(source);
        line.to_string()
    };
    node.feed(
        &authority,
        &[by("gd-cdc", "set", 9), by("gz-cdc", "set", 1)],
    );
    node.feed(&authority, &[by("gd-cdc", "clear", 10)]);
    assert_eq!(node.show(&session).state(), "red");
    node.feed(&authority, &[by("gz-cdc", "clear", 2)]);
    assert_eq!(node.show(&session).state(), "green");
}

#[test]
fn an_authority_speaks_for_the_sources_of_its_token_alone() {
    let node = Node::start();
    let seals = node.seals();
    let chen = person(1);
    let of = |event: &str, source: &str| {
        let mut line = chen.said("close_contact", "set", 1);
        line["event"] = json!(event);
        line["source"] = json!(source);
        // A notice is a clear, and counts with what else is said of its reason.
        line["seq"] = json!(1 + u64::from(event == "notice"));
        line["celsius"] = json!(36.5);
        line["certificate"] = json!("nucleic_test");
        line["places"] = json!(["440100"]);
        line.to_string()
    };
    let tokens = [
        (seals.authority_of("gz-cdc", None), ["gz-cdc"].as_slice()),
        (
            seals.authority_of("exchange", Some("gz-cdc,gz-lab")),
            &["exchange", "gz-cdc", "gz-lab"],
        ),
    ];
    for (token, may) in &tokens {
        for event in ["status", "notice", "temperature", "certificate", "trip"] {
            for source in ["gd-cdc", "gz", "gz-cdc", "gz-lab", "exchange"] {
                // A resident's line carries no source: whoever feeds may send it, and nothing else is lost.
                let lines = [of(event, source), chen.resident()].join("\n");
                let fed = node.post_feed(token, lines).json();
                let rejected = fed["rejected"].as_array().unwrap();
                match may.contains(&source) {
                    true => assert!(rejected.is_empty(), "{event} {source}: {fed}"),
                    false => {
                        assert_eq!(rejected.len(), 1, "{event} {source}: {fed}");
                        assert_eq!(rejected[0]["code"], "source_not_permitted");
                        assert_eq!(rejected[0]["line"], 1);
                    }
                }
            }
        }
    }
    let by_nobody = node.seals().session(&person(2));
    let other = person(2);
    let fed = node.post_feed(&tokens[0].0, other.set("confirmed", 1));
    assert_eq!(fed.json()["applied"], 0);
    assert_eq!(node.show(&by_nobody).state(), "unknown", "gd-cdc said it");
}

#[test]
fn news_of_somebody_unknown_registers_them_without_a_name() {
    let node = Node::start();
    let seals = node.seals();
    let chen = person(1);
    node.feed(&seals.authority(), &[chen.set("close_contact", 1)]);
    assert_eq!(node.show(&seals.session(&chen)).state(), "red");
    node.feed(&seals.authority(), &[chen.resident()]);
    assert_eq!(
        node.show(&seals.session(&chen)).state(),
        "red",
        "an application clears nothing"
    );
}

/// Lines that are rejected, each with its code.
fn bad_lines() -> Vec<(String, &'static str)> {
    let chen = person(1);
    let status = |name: &str, value: Value| {
        let mut line = chen.said("confirmed", "set", 1);
        match value {
            Value::Null => drop(line.as_object_mut().unwrap().remove(name)),
            value => line[name] = value,
        }
        line.to_string()
    };
    let resident = |name: &str, value: Value| {
        let mut line: Value = serde_json::from_str(&chen.resident()).unwrap();
        line[name] = value;
        line.to_string()
    };
    let mut wrong_digit = chen.cert_no.clone().into_bytes();
    wrong_digit[17] = if wrong_digit[17] == b'1' { b'2' } else { b'1' };
    vec![
        ("not json".into(), "not_json"),
        ("{\"event\":".into(), "not_json"),
        ("\u{feff}{}".into(), "not_json"),
        ("[]".into(), "not_an_object"),
        ("7".into(), "not_an_object"),
        ("null".into(), "not_an_object"),
        ("{}".into(), "missing_field"),
        (status("event", json!("dance")), "unknown_event"),
        (status("seq", json!("7")), "bad_field"),
        (status("seq", json!(-7)), "bad_field"),
        (status("event", json!(7)), "bad_field"),
        (status("reason", Value::Null), "missing_field"),
        (status("action", Value::Null), "missing_field"),
        (status("at", Value::Null), "missing_field"),
        (status("source", Value::Null), "missing_field"),
        (status("seq", Value::Null), "missing_field"),
        (status("cert_type", json!("15")), "offline_registration"),
        (status("cert_type", json!("34")), "offline_registration"),
        (status("cert_type", json!("14")), "bad_document"),
        (
            status("cert_no", json!("44010619900307721")),
            "bad_document",
        ),
        (
            status("cert_no", json!("440106199002307211")),
            "bad_birth_date",
        ),
        (
            status("cert_no", json!(text(&wrong_digit))),
            "bad_check_digit",
        ),
        (status("reason", json!("hungry")), "unknown_reason"),
        (status("action", json!("SET")), "unknown_action"),
        (status("at", json!("yesterday")), "bad_time"),
        (status("at", json!("2020-04-20T08:00:00")), "bad_time"),
        (status("until", json!("2020-02-30")), "bad_until"),
        (status("source", json!("gd cdc")), "bad_source"),
        (status("region", json!("44")), "bad_region"),
        (resident("name", json!("")), "bad_name"),
        (resident("name", json!("a\u{7}b")), "bad_name"),
        (resident("assurance", json!("sure")), "unknown_assurance"),
        (
            format!("{{\"event\":\"{}\"}}", "x".repeat(5000)),
            "too_large",
        ),
    ]
}

#[test]
fn a_bad_line_rejects_itself_alone_with_its_number_and_code() {
    let node = Node::start();
    let seals = node.seals();
    let mut body = String::new();
    let mut expected = Vec::new();
    let mut number = 0;
    for (nth, (line, code)) in bad_lines().into_iter().enumerate() {
        body.push_str(&format!("{}\r\n\n{line}\n", person(100 + nth).resident()));
        number += 3;
        expected.push((number, code.to_owned()));
    }
    let answer = node.post_feed(&seals.authority(), body);
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    let rejected = answer["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rejected| {
            assert!(!rejected["detail"].as_str().unwrap().is_empty());
            (
                rejected["line"].as_u64().unwrap(),
                rejected["code"].as_str().unwrap().to_owned(),
            )
        });
    assert_eq!(rejected.collect::<Vec<_>>(), expected);
    assert_eq!(answer["applied"], expected.len());
    for nth in 0..expected.len() {
        assert_eq!(
            node.show(&seals.session(&person(100 + nth))).state(),
            "green"
        );
    }
}

#[test]
fn a_body_may_be_cut_anywhere() {
    let node = Node::start();
    let seals = node.seals();
    for (round, size) in [1, 2, 3, 7, 64, 500].into_iter().enumerate() {
        let people: Vec<_> = (0..4).map(|nth| person(10 * round + nth)).collect();
        let lines: Vec<_> = people.iter().map(Person::resident).collect();
        let body = format!(
            "{}\r\nrubbish\n{}",
            lines[..2].join("\n"),
            lines[2..].join("\r\n")
        );
        let mut connection = Connection::to(node.address(Door::Ops));
        let ask = Ask::new("POST", "/v1/feed").bearer(&seals.authority());
        connection.send(ask.header("transfer-encoding", "chunked").bytes());
        for piece in body.as_bytes().chunks(size) {
            connection.chunk(piece);
        }
        connection.send("0\r\n\r\n");
        let answer = connection.answer().json();
        assert_eq!(answer["applied"], 4, "{size}");
        assert_eq!(answer["rejected"][0]["line"], 3);
        for person in &people {
            assert_eq!(node.show(&seals.session(person)).state(), "green");
        }
    }
}

// ---- import and export

fn import(store: &Path, files: &[&Path]) -> Output {
    let mut command = command();
    command.arg("import").args(files).arg("--store").arg(store);
    command.output().expect("the binary runs")
}

#[track_caller]
fn answered(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{:?}: {}", output.status, text(&output.stderr)))
}

/// Everything on record, in an order that does not depend on the ring.
#[track_caller]
pub fn export(store: &Path) -> Vec<String> {
    let output = command()
        .arg("export")
        .arg("--store")
        .arg(store)
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut lines: Vec<String> = text(&output.stdout)
        .lines()
        .map(ToOwned::to_owned)
        .collect();
    lines.sort();
    lines
}

#[test]
fn import_says_by_its_exit_code_whether_every_line_was_taken() {
    let folder = folder();
    let (store, good, bad) = (
        folder.path().join("store"),
        folder.path().join("good"),
        folder.path().join("bad"),
    );
    std::fs::write(
        &good,
        format!(
            "{}\n{}\n",
            person(1).resident(),
            person(1).set("confirmed", 1)
        ),
    )
    .unwrap();
    std::fs::write(&bad, format!("rubbish\n{}", person(2).resident())).unwrap();
    let first = import(&store, &[&good]);
    assert_eq!(first.status.code(), Some(0));
    assert_eq!(
        answered(&first),
        json!({"applied": 2, "unchanged": 0, "rejected": []})
    );
    let again = import(&store, &[&good]);
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(
        answered(&again),
        json!({"applied": 0, "unchanged": 2, "rejected": []})
    );
    let both = import(&store, &[&good, &bad]);
    assert_eq!(both.status.code(), Some(3));
    assert_eq!(answered(&both)["applied"], 1);
    assert_eq!(
        answered(&both)["rejected"][0]["line"],
        3,
        "numbers run on over files"
    );
    let reused = folder.path().join("reused");
    std::fs::write(&reused, person(1).clear("confirmed", 1)).unwrap();
    let reused = import(&store, &[&reused]);
    assert_eq!(reused.status.code(), Some(3), "{}", text(&reused.stderr));
    assert_eq!(answered(&reused)["rejected_unlisted"], 1);
    let missing = import(&store, &[&folder.path().join("missing")]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("missing"));
}

#[test]
fn import_reads_standard_input() {
    let folder = folder();
    let store = folder.path().join("store");
    let mut command = command();
    command.args(["import", "-", "--store"]).arg(&store);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(person(1).resident().as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert_eq!(answered(&output)["applied"], 1);
    assert_eq!(export(&store), [sorted(&person(1).resident())]);
}

/// A line as export writes it: the same fields, in the order of their names.
fn sorted(line: &str) -> String {
    serde_json::from_str::<Value>(line).unwrap().to_string()
}

#[test]
fn a_store_in_use_is_fed_through_its_node() {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(
        &file,
        format!("{}\nrubbish\n\n[]\n", person(1).set("confirmed", 1)),
    )
    .unwrap();
    let node = Node::start();
    let refused = import(&node.store, &[&file]);
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(said.contains("in use") && said.contains("--to"), "{said}");
    let to = format!("http://{}", node.address(Door::Ops));
    let authority = token(&node.store, &["authority", "--source", "gd-cdc"]);
    let send = |token: &str| {
        let mut command = command();
        command
            .arg("import")
            .arg(&file)
            .args(["--to", &to, "--token", token]);
        command.output().expect("the binary runs")
    };
    let sent = send(&authority);
    assert_eq!(sent.status.code(), Some(3), "{}", text(&sent.stderr));
    let answer = answered(&sent);
    assert_eq!(answer["applied"], 1);
    let lines: Vec<_> = (0..2)
        .map(|nth| answer["rejected"][nth]["line"].clone())
        .collect();
    assert_eq!(lines, [json!(2), json!(4)]);
    assert_eq!(answered(&send(&authority))["unchanged"], 1);
    let refused = send(&node.seals().scanner());
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("not_permitted"));
    assert_eq!(node.show(&node.seals().session(&person(1))).state(), "red");
}

#[test]
fn what_is_exported_and_imported_elsewhere_is_exported_again() {
    let folder = folder();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    let (town, out) = (folder.path().join("town"), folder.path().join("out"));
    let made = run(&[
        "synth",
        "--residents",
        "3000",
        "--seed",
        "7",
        "--out",
        town.to_str().unwrap(),
    ]);
    assert!(made.status.success());
    assert_eq!(import(&here, &[&town]).status.code(), Some(0));
    let mut command = command();
    command
        .args(["export", "--out"])
        .arg(&out)
        .arg("--store")
        .arg(&here);
    assert!(command.status().unwrap().success());
    assert!(
        !command.status().unwrap().success(),
        "a file that is there is not overwritten"
    );
    assert_eq!(import(&there, &[&out]).status.code(), Some(0));
    let (here, there) = (export(&here), export(&there));
    assert!(here.len() >= 3000);
    assert!(here == there);
}

#[test]
fn the_shared_file_of_guangdong_gives_what_is_expected_of_it() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/feed");
    let (data, expect) = (
        shared.join("guangdong-20k.ndjson"),
        shared.join("guangdong-20k.expect.json"),
    );
    let (Ok(_), Ok(expect)) = (std::fs::metadata(&data), std::fs::read(&expect)) else {
        eprintln!("SKIPPED: {} is not on this machine", data.display());
        return;
    };
    let expect: Value = serde_json::from_slice(&expect).unwrap();
    let folder = folder();
    let store = folder.path().join("store");
    let imported = import(&store, &[&data]);
    assert_eq!(
        imported.status.code(),
        Some(3),
        "{}",
        text(&imported.stderr)
    );
    let answer = answered(&imported);
    let rejected: Vec<_> = answer["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["line"].clone())
        .collect();
    assert_eq!(json!(rejected), expect["bad_lines"]);

    let node = NodeBuilder::new(&[]).over(&store).node();
    assert_eq!(
        node.get(Door::Ops, "/ready").json()["residents"],
        expect["residents"]
    );
    for person in expect["sample"].as_array().unwrap() {
        let of = |name: &str| person[name].as_str().unwrap();
        let session = token(
            &store,
            &[
                "resident",
                "--cert-type",
                of("cert_type"),
                "--cert-no",
                of("cert_no"),
                "--name",
                of("name"),
                "--assurance",
                of("assurance"),
            ],
        );
        let shown = node.show(&session).json();
        let reasons = shown["reasons"].as_array().unwrap().iter();
        let mut reasons: Vec<_> = reasons.map(|one| one["reason"].as_str().unwrap()).collect();
        let red = person["red"].as_array().unwrap().iter();
        let mut red: Vec<_> = red.map(|one| one.as_str().unwrap()).collect();
        reasons.sort_unstable();
        red.sort_unstable();
        assert_eq!(reasons, red, "{}", of("cert_no"));
        assert_eq!(shown["state"], if red.is_empty() { "green" } else { "red" });
    }

    // The same at the operations door of a node that has it all: nothing changes.
    let answer = node
        .post_feed(&node.seals().authority(), std::fs::read(&data).unwrap())
        .json();
    assert_eq!(answer["applied"], 0);
    let rejected: Vec<_> = answer["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["line"].clone())
        .collect();
    assert_eq!(json!(rejected), expect["bad_lines"]);
}
