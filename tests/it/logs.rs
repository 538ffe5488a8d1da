//! The log: its two forms, priorities for the journal, and the id of a request in it.

use crate::harness::*;
use liangma::http::door::Door;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

#[test]
fn every_line_of_a_log_in_json_is_an_object_with_its_level() {
    let node = NodeBuilder::new(&["log_format=json", "log=debug"]).node();
    let feed = Ask::post("/v1/feed", person(1).resident())
        .bearer(&node.seals().authority())
        .header("x-request-id", "feed-1");
    assert_eq!(feed.at(node.address(Door::Ops)).status, 200);
    let line = || {
        let log = node.log();
        log.lines()
            .filter(|line| !line.starts_with("liangma: "))
            .map(|line| serde_json::from_str::<Value>(line).expect(line))
            .find(|line| line["request_id"] == "feed-1")
    };
    until("the feed is in the log", || line().is_some());
    let line = line().unwrap();
    assert!(
        line["level"].is_string() && line["timestamp"].is_string(),
        "{line}"
    );
    let log = node.log();
    assert!(
        !log.contains(&person(1).cert_no) && !log.contains("\u{1b}["),
        "{log}"
    );
}

#[test]
fn lines_have_their_priority_where_the_journal_reads_them() {
    let folder = folder();
    let path = folder.path().join("log");
    let run = |said: Option<String>, form: &str| {
        let log = std::fs::File::create(&path).unwrap();
        let mut command: Command = command();
        command.args(["serve", "--ops", "127.0.0.1:0", "--doors", "ops", "--set"]);
        command
            .arg(format!("log_format={form}"))
            .arg("--set")
            .arg("drain_delay=0ms");
        command.arg("--store").arg(folder.path().join("store"));
        let number = log.metadata().unwrap();
        let own = format!("{}:{}", number.dev(), number.ino());
        match said {
            Some(said) => command.env("JOURNAL_STREAM", said),
            None => command.env("JOURNAL_STREAM", own),
        };
        command.stdout(Stdio::null()).stderr(log);
        let mut child = crate::process::spawn(command).unwrap();
        let read = || std::fs::read_to_string(&path).unwrap();
        until("it has logged", || read().contains("allocating the board"));
        send(&child, libc::SIGTERM);
        ended(&mut child);
        let log = read();
        let lines = log.lines().filter(|line| !line.starts_with("liangma: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    for form in ["text", "json"] {
        let lines = run(None, form);
        assert!(lines.len() > 1, "{lines:?}");
        for line in lines {
            let level = ["ERROR", "WARN", "INFO"]
                .iter()
                .position(|level| line.contains(level));
            let priority = ["<3>", "<4>", "<6>"][level.expect("a level")];
            assert!(line.starts_with(priority), "{line}");
        }
    }
    // Another stream than the journal's.
    for line in run(Some("1:2".to_owned()), "text") {
        assert!(!line.starts_with('<'), "{line}");
    }
}

#[test]
fn answers_of_the_desk_and_of_feeds_have_the_id_of_their_request() {
    let node = Node::start();
    let seals = node.seals();
    let session = seals.session(&person(1));
    let asks: [(Door, Box<dyn Fn() -> Ask>); 4] = [
        (
            Door::Desk,
            Box::new(|| Ask::get("/v1/status").bearer(&session)),
        ),
        (
            Door::Desk,
            Box::new(|| Ask::get("/v1/health").bearer("nonsense")),
        ),
        (
            Door::Desk,
            Box::new(|| Ask::post("/v1/sessions", "{}").json()),
        ),
        (
            Door::Ops,
            Box::new(|| Ask::post("/v1/feed", "").bearer("nonsense")),
        ),
    ];
    for (door, ask) in &asks {
        let answer = ask()
            .header("x-request-id", "a-1.B_2")
            .at(node.address(*door));
        assert_eq!(answer.header("x-request-id"), Some("a-1.B_2"));
        if answer.status >= 400 {
            assert_eq!(answer.json()["request_id"], json!("a-1.B_2"));
        }
        for bad in ["", "a b", "\"}{", &"x".repeat(65)] {
            let answer = ask().header("x-request-id", bad).at(node.address(*door));
            let made = answer.header("x-request-id").expect("one is made");
            assert!(made.len() == 16 && made != bad, "{made}");
        }
    }
    // What is asked a thousand times a second has none, also where it is refused.
    let shown = node.show(&session);
    let refused = node.scan("nonsense", "x");
    for answer in [shown, refused] {
        assert_eq!(answer.header("x-request-id"), None);
        assert!(answer.json().get("request_id").is_none());
    }
}
