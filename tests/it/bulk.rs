//! Bulk scans: verdicts in the order asked, streamed both ways, bounded.

use crate::harness::*;
use liangma::http::door::Door;
use serde_json::Value;
use std::io::Write;
use std::time::Duration;

fn verdicts(body: &[u8]) -> Vec<String> {
    let lines = text(body);
    lines.lines().map(word).collect()
}

/// The state or the error of one verdict.
fn word(line: &str) -> String {
    let verdict: Value = serde_json::from_str(line).expect("JSON a line");
    let word = verdict.get("state").or(verdict.get("error"));
    word.and_then(Value::as_str)
        .expect("a state or an error")
        .to_owned()
}

fn begin(node: &Node, scanner: &str) -> Connection {
    let mut connection = Connection::to(node.address(Door::Gate));
    let ask = Ask::new("POST", "/v1/scan/bulk").bearer(scanner);
    connection.send(ask.header("transfer-encoding", "chunked").bytes());
    connection
}

/// A node, a scanner, and the codes of somebody green and somebody red.
fn scene(settings: &[&str]) -> (Node, String, String, String) {
    let node = NodeBuilder::new(settings).node();
    let seals = node.seals();
    let (green, red) = (person(1), person(2));
    node.feed(
        &seals.authority(),
        &[green.resident(), red.set("confirmed", 1)],
    );
    let codes = [&green, &red].map(|person| node.code(&seals.session(person)));
    let [green, red] = codes;
    (node, seals.scanner(), green, red)
}

#[test]
fn verdicts_come_in_the_order_asked_whatever_the_lines_are() {
    let (node, scanner, green, red) = scene(&[]);
    let old = node
        .seals()
        .code_of(&person(1), liangma::clock::Time(long_ago().0 - 3_600_000));
    let tampered = format!("AAAA{}", &green[4..]);
    let long = "A".repeat(5000);
    let lines = [
        &green, &red, &tampered, "", &old, &long, &red, "\u{0}", &green,
    ]
    .join("\n");
    let told = [
        "green",
        "red",
        "code_invalid",
        "code_invalid",
        "code_expired",
        "too_large",
        "red",
        "code_invalid",
        "green",
    ];
    for body in [
        lines.clone(),
        lines.replace('\n', "\r\n"),
        format!("{lines}\n"),
    ] {
        let ask = Ask::post("/v1/scan/bulk", body)
            .bearer(&scanner)
            .header("content-type", "text/plain");
        let answer = ask.at(node.address(Door::Gate));
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
        assert_eq!(verdicts(&answer.body), told);
    }
    let nothing = Ask::post("/v1/scan/bulk", "")
        .bearer(&scanner)
        .at(node.address(Door::Gate));
    assert_eq!((nothing.status, nothing.body.len()), (200, 0));
}

#[test]
fn the_first_verdicts_leave_before_the_last_codes_arrive() {
    let (node, scanner, green, red) = scene(&[]);
    let mut bulk = begin(&node, &scanner);
    bulk.chunk(format!("{green}\n{red}\n{}", &green[..10]));
    assert_eq!(bulk.head().expect("an answer").status, 200);
    let mut told = Vec::new();
    while told.len() < 2 {
        told.extend(verdicts(&bulk.piece().expect("verdicts of whole lines")));
    }
    assert_eq!(told, ["green", "red"]);
    assert_eq!(
        node.scan(&scanner, &green).state(),
        "green",
        "others are served meanwhile"
    );
    bulk.chunk(format!("{}\r\n{red}", &green[10..]));
    assert_eq!(verdicts(&bulk.piece().expect("a verdict")), ["green"]);
    bulk.send("0\r\n\r\n");
    assert_eq!(
        verdicts(&bulk.piece().expect("the last line has no end")),
        ["red"]
    );
    assert_eq!(bulk.piece(), None);
    bulk.send(Ask::post("/v1/scan", &red).bearer(&scanner).bytes());
    assert_eq!(bulk.answer().state(), "red", "the connection goes on");
}

#[test]
fn a_status_that_changes_under_way_is_told() {
    let (node, scanner, green, _) = scene(&[]);
    let mut bulk = begin(&node, &scanner);
    bulk.chunk(format!("{green}\n"));
    bulk.head().expect("an answer");
    assert_eq!(verdicts(&bulk.piece().expect("a verdict")), ["green"]);
    node.feed(&node.seals().authority(), &[person(1).set("suspected", 1)]);
    bulk.chunk(format!("{green}\n"));
    assert_eq!(verdicts(&bulk.piece().expect("a verdict")), ["red"]);
}

#[test]
fn a_bulk_has_so_many_lines_and_no_more() {
    let (node, scanner, green, _) = scene(&["bulk_lines_max=3"]);
    let ask = |lines: usize| {
        let body = vec![green.as_str(); lines].join("\n");
        Ask::post("/v1/scan/bulk", body)
            .bearer(&scanner)
            .at(node.address(Door::Gate))
    };
    assert_eq!(verdicts(&ask(3).body), ["green"; 3]);
    assert_eq!(
        verdicts(&ask(5).body),
        ["green", "green", "green", "too_large"]
    );
    ask(100).refuses(413, "too_large");
    assert_eq!(node.scan(&scanner, &green).state(), "green");
}

#[test]
fn a_hundred_thousand_codes_get_a_hundred_thousand_verdicts() {
    let (node, scanner, green, red) = scene(&[]);
    let body = format!("{green}\n{red}\n").repeat(50_000);
    let mut connection = Connection::to(node.address(Door::Gate));
    let mut writer = connection.stream.try_clone().expect("a socket");
    let bytes = Ask::post("/v1/scan/bulk", body).bearer(&scanner).bytes();
    let writing = std::thread::spawn(move || writer.write_all(&bytes).expect("it reads"));
    let answer = connection.answer();
    writing.join().expect("all is sent");
    let told = text(&answer.body);
    assert_eq!(told.lines().count(), 100_000);
    for (line, state) in told.lines().zip(["\"green\"", "\"red\""].iter().cycle()) {
        assert!(line.contains(state), "{line}");
    }
}

#[test]
fn a_client_that_never_reads_costs_no_memory_and_stops_nobody() {
    let (node, scanner, green, _) = scene(&["bulk_lines_max=10000000"]);
    let mut bulk = begin(&node, &scanner);
    bulk.stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("a socket");
    let lines = format!("{green}\n").repeat(1000);
    let chunk = format!("{:x}\r\n{lines}\r\n", lines.len());
    let before = node.memory();
    // The node stops reading when its verdicts are not read; then a write waits in vain.
    let mut sent = 0u64;
    while sent < 2000 && bulk.stream.write_all(chunk.as_bytes()).is_ok() {
        sent += 1;
        if sent.is_multiple_of(20) {
            assert_eq!(node.scan(&scanner, &green).state(), "green");
        }
    }
    assert!(sent < 2000, "178 MB were taken in for nobody");
    assert_eq!(node.scan(&scanner, &green).state(), "green");
    let grown = node.memory().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB more");
}

#[test]
fn a_bulk_that_is_cut_leaves_the_node_well() {
    let (node, scanner, green, _) = scene(&[]);
    for cut in 0..20 {
        let mut bulk = begin(&node, &scanner);
        bulk.chunk(format!("{green}\n").repeat(cut * 100));
        if cut % 2 == 0 {
            bulk.send("ffff\r\nAAAA");
        }
        drop(bulk);
    }
    assert_eq!(node.scan(&scanner, &green).state(), "green");
    until("every cut connection is forgotten", || {
        let metrics = text(&node.get(Door::Ops, "/metrics").body);
        metrics.contains("liangma_connections{door=\"gate\"} 0")
    });
}
