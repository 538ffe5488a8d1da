//! What operators look at: every meter that a panel or an alert names is one that a node prints, alerts ring when they should
//! and not otherwise, and a real Prometheus that scrapes a real node leaves no panel empty.

use crate::harness::*;
use crate::tls;
use liangma::http::door::Door;
use liangma::meters::METERS;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).expect("a file of ours")
}

/// Whether a program is here; says loudly that a test is left out where it is not.
/// Fails the test where there is no such program.
fn needs(program: &str) {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        left_out(program);
    }
}

/// A node that has everything that is measured: it issues offline codes, and its desk door speaks TLS.
fn node_with_all(authority: &tls::Authority, folder: &Path) -> Node {
    let mut settings = tls::with(Door::Desk, &authority.signs("desk")).to_vec();
    settings.push("offline_issuer=440000".to_owned());
    let ring = liangma::seal::ring::RingFile::generate(liangma::clock::Time::now());
    let keys = liangma::offline::issue::OfflineKeys::of(&ring, 820_000).expect("keys");
    std::fs::write(folder.join("mo.jwks"), &keys.jwks).expect("a file");
    let peer = format!(
        "[[issuer]]\nformat = \"liangma\"\nid = 820000\nname = \"澳门\"\nkeys = \"mo.jwks\"\n\
         list = \"mo\"\nexchange = \"https://127.0.0.1:9\"\npeer = \"{}\"\n",
        "0".repeat(64)
    );
    let trust = crate::recognition::trust_file(folder, &peer);
    let own = authority.signs("exchange");
    settings.push(format!("exchange_cert={}", own.cert.display()));
    settings.push(format!("exchange_cert_key={}", own.key.display()));
    settings.push(format!("trust={}", trust.display()));
    settings.push("formats=liangma,hc1".to_owned());
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    NodeBuilder::new(&settings).node()
}

/// The expressions of the dashboard, with its variables filled in.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("grafana/dashboards/liangma.json")).unwrap();
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            all.push((
                panel["title"].as_str().unwrap().to_owned(),
                expression
                    .replace("$node", ".*")
                    .replace("$job", ".*")
                    .replace("$__rate_interval", "1m"),
            ));
        }
    }
    assert!(all.len() > 40, "{}", all.len());
    all
}

/// The meters that a text names; those with a colon are recorded by rules.
fn meters(text: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("liangma_") {
        let rest = &text[at..];
        let end = rest
            .find(|c: char| !c.is_ascii_lowercase() && c != '_')
            .unwrap_or(rest.len());
        let name = rest[..end].trim_end_matches('_');
        let bare = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        found.insert(bare);
    }
    found
}

#[test]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
fn every_meter_of_a_panel_or_an_alert_is_printed_by_a_node() {
    let tls = tls::Authority::make();
    let folder = folder();
    let node = node_with_all(&tls, folder.path());
    let seals = node.seals();
    let chen = person(1);
    node.feed(&seals.authority(), &[chen.resident()]);
    let code = node.code(&seals.session(&chen));
    node.scan(&seals.scanner(), &code);
    node.scan(&seals.scanner(), "HC1:");
    let bulk = Ask::post("/v1/scan/bulk", code).bearer(&seals.scanner());
    assert_eq!(bulk.at(node.address(Door::Gate)).status, 200);
    let printed = text(&node.get(Door::Ops, "/metrics").body);
    let printed: BTreeSet<&str> = printed
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let listed: BTreeSet<&str> = METERS.iter().map(|(name, ..)| *name).collect();
    let dashboard = panels()
        .into_iter()
        .map(|(_, expression)| expression + "\n");
    let dashboard: String = dashboard.collect();
    let mut named = 0;
    for text in [
        dashboard,
        read("prometheus/rules/liangma.yml"),
        read("prometheus/tests/liangma.yml"),
        read("prometheus/rules/around.yml"),
        read("prometheus/tests/around.yml"),
    ] {
        for meter in meters(&text) {
            assert!(listed.contains(meter), "{meter} is no meter");
            assert!(
                printed.contains(meter),
                "{meter} is not printed by a node that has just worked"
            );
            named += 1;
        }
    }
    assert!(named > 50, "{named}");
}

#[test]
fn every_meter_is_on_a_panel() {
    let dashboard: String = panels()
        .into_iter()
        .map(|(_, expression)| expression)
        .collect();
    for (name, ..) in METERS {
        assert!(dashboard.contains(name), "{name} is on no panel");
    }
}

#[test]
fn every_panel_says_what_it_shows_and_asks_the_chosen_source_job_and_node() {
    let dashboard: Value = serde_json::from_str(&read("grafana/dashboards/liangma.json")).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<&str> = variables
        .iter()
        .map(|of| of["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["datasource", "job", "node"]);
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(
            panel["description"]
                .as_str()
                .is_some_and(|said| said.len() > 8),
            "{title}"
        );
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = target["expr"].as_str().unwrap();
            let is_recorded = expression.contains("liangma:");
            let is_chosen = expression.contains("job=~\"$job\",instance=~\"$node\"");
            assert!(is_recorded || is_chosen, "{title}: {expression}");
        }
    }
}

#[test]
fn every_alert_says_what_to_do_and_is_tried() {
    let both = |folder| {
        ["liangma.yml", "around.yml"]
            .map(|file| read(&format!("prometheus/{folder}/{file}")))
            .concat()
    };
    let (rules, tests) = (both("rules"), both("tests"));
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 20);
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        for part in ["severity: ", "summary: ", "runbook: "] {
            assert!(alert.contains(part), "{name} has no {part}");
        }
        let tried = format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}");
        assert!(tests.contains(&tried), "{name} is not tried");
    }
}

#[test]
#[cfg_attr(no_promtool, ignore = "no promtool on this machine")]
fn alerts_ring_for_what_is_wrong_and_for_nothing_else() {
    needs("promtool");
    let tried = Command::new("promtool")
        .args(["test", "rules", "liangma.yml", "around.yml"])
        .current_dir(deploy("prometheus/tests"))
        .output()
        .expect("it is here");
    assert!(
        tried.status.success(),
        "{}{}",
        text(&tried.stdout),
        text(&tried.stderr)
    );
}

#[test]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
#[cfg_attr(no_prometheus, ignore = "no prometheus on this machine")]
fn a_prometheus_that_scrapes_a_node_leaves_no_panel_empty() {
    needs("prometheus");
    let tls = tls::Authority::make();
    let folder = folder();
    let node = node_with_all(&tls, folder.path());
    let seals = node.seals();
    let chen = person(1);
    let authority = seals.authority();
    node.feed(&authority, &[chen.resident()]);
    let back = node.address(Door::Ops);
    // The file that we ship, with this node for its nodes, and in a hurry.
    let shipped = read("prometheus/prometheus.yml");
    let hurried = shipped
        .replace(
            "rules/*.yml",
            deploy("prometheus/rules/*.yml").to_str().unwrap(),
        )
        .replace(
            "[node1:9090, node2:9090, node3:9090]",
            &format!("[\"{back}\"]"),
        )
        .replace("_interval: 5s", "_interval: 300ms");
    assert!(hurried.contains(&back.to_string()), "{hurried}");
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, hurried).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.path().join("data").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it is here");
    let _prometheus = KilledOnDrop(prometheus);
    let asks = |expression: &str| -> Option<Vec<Value>> {
        Connection::try_to(address)?;
        let path = format!("/api/v1/query?query={}", escaped(expression));
        let answer = Ask::get(&path).at(address);
        let answer: Value = serde_json::from_slice(&answer.body).ok()?;
        Some(answer["data"]["result"].as_array()?.clone())
    };
    until("it has scraped the node", || {
        asks("up{job=\"liangma\"} == 1").is_some_and(|found| !found.is_empty())
    });
    let session = seals.session(&chen);
    let scanner = seals.scanner();
    let mut seq = 0;
    for (panel, expression) in panels() {
        // What is recorded by a rule comes within its minute; its expression is what counts.
        if expression.contains("liangma:") {
            continue;
        }
        until(&format!("{panel} shows something: {expression}"), || {
            let code = node.code(&session);
            node.scan(&scanner, &code);
            node.scan(&scanner, "HC1:");
            let bulk = Ask::post("/v1/scan/bulk", code).bearer(&scanner);
            bulk.at(node.address(Door::Gate));
            seq += 1;
            node.feed(&authority, &[chen.set("home_isolation", seq)]);
            asks(&expression).is_some_and(|found| !found.is_empty())
        });
    }
    let rules =
        asks("count(ALERTS{alertstate=\"firing\",alertname!=\"LiangmaWatchdog\"}) or vector(0)")
            .expect("it answers");
    assert_eq!(rules[0]["value"][1], "0", "{:?}", asks("ALERTS"));
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
