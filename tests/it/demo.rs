//! The demonstration: what it prints is what a newcomer opens and pastes.

use crate::harness::{Ask, command, ended, folder, gather, send, text, until};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

struct Demo {
    child: Child,
    out: Arc<Mutex<Vec<u8>>>,
}

impl Demo {
    fn start(dir: &Path) -> Demo {
        Demo::start_with(dir, &[])
    }

    fn start_with(dir: &Path, more: &[&str]) -> Demo {
        let mut child = command()
            .args(["demo", "--residents", "1000", "--free-ports", "--dir"])
            .arg(dir)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let out = gather(child.stdout.take().expect("piped"));
        let demo = Demo { child, out };
        until("it has said all", || demo.said().contains("Ctrl-C ends it"));
        demo
    }

    fn said(&self) -> String {
        text(&self.out.lock().unwrap())
    }

    /// What it says to open: the address, and what the page keeps to itself.
    fn link(&self, what: &str) -> (SocketAddr, String) {
        let said = self.said();
        let line = said.lines().find_map(|line| line.strip_prefix(what));
        let link = line.expect("a line of that").trim().strip_prefix("http://");
        let (address, rest) = link.expect("a link").split_once('/').expect("a path");
        let (_, token) = rest.split_once('=').unwrap_or_default();
        (address.parse().expect("an address"), token.to_owned())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_demonstration_shows_a_code_scans_it_and_has_the_desk_under_the_same_name() {
    let folder = folder();
    let dir = folder.path().join("town");
    let demo = Demo::start(&dir);
    let (gate, scanner) = demo.link("scan it at a gate");
    for colour in ["green", "red"] {
        let (front, session) = demo.link(&format!("show a {colour} code"));
        assert_eq!(front, gate, "one name for both");
        let page = Ask::get("/").at(front);
        assert_eq!(page.status, 200);
        assert!(text(&page.body).contains("<html"));
        let shown = Ask::get("/v1/code").bearer(&session).at(front).json();
        assert_eq!(shown["state"], *colour);
        let code = shown["code"].as_str().expect("a code").to_owned();
        let scan = Ask::post("/v1/scan", code).header("content-type", "text/plain");
        let scanned = scan.bearer(&scanner).at(front).json();
        assert_eq!(scanned["state"], *colour);
        let explained = Ask::get("/v1/status").bearer(&session).at(front);
        assert_eq!(explained.status, 200);
        let health = Ask::get("/v1/health").bearer(&session).at(front);
        assert_eq!(health.status, 200);
    }
    assert!(text(&Ask::get("/gate").at(gate).body).contains("<html"));
    Ask::get("/metrics").at(gate).refuses(404, "not_found");
}

#[test]
fn the_first_page_has_a_link_that_works_for_each_who_comes() {
    let folder = folder();
    let dir = folder.path().join("town");
    let demo = Demo::start(&dir);
    let (front, _) = demo.link("show a green code");
    until("its address is the last line", || {
        demo.said()
            .trim_end()
            .ends_with(&format!("Open http://{front}/demo"))
    });
    let page = Ask::get("/demo").at(front);
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").is_some());
    let told = Ask::get("/demo/links.json").at(front).json();
    // A visitor of another province, with the colour that its list gives.
    let (gate, scanner) = demo.link("scan it at a gate");
    let visitor = told["visitor"].as_str().expect("a code").to_owned();
    let scan = Ask::post("/v1/scan", visitor).header("content-type", "text/plain");
    let scanned = scan.bearer(&scanner).at(gate).json();
    assert_eq!(
        (
            &scanned["state"],
            &scanned["issuer"]["name"],
            &scanned["class"]
        ),
        (&"green".into(), &"澳门".into(), &"offline".into()),
        "{scanned}"
    );
    let links = told["links"].as_array().expect("links");
    let link = |role: &str| {
        let found = links.iter().find(|link| link["role"] == *role);
        found
            .and_then(|link| link["link"].as_str())
            .expect("a link")
            .to_owned()
    };
    let token = |role: &str, name: &str| {
        let link = link(role);
        let start = link.find(&format!("{name}=")).expect("a token") + name.len() + 1;
        link[start..]
            .split('&')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let show = |session: &str| Ask::get("/v1/code").bearer(session).at(front).json();
    let green = token("green", "s");
    assert_eq!(show(&green)["state"], "green");
    assert_eq!(show(&token("red", "s"))["state"], "red");
    let white = show(&token("white", "s"));
    assert_eq!(
        (&white["state"], &white["assurance"]),
        (&"green".into(), &"unverified".into())
    );
    for path in ["/gate", "/organisation", "/staff"] {
        assert_eq!(Ask::get(path).at(front).status, 200, "{path}");
    }
    // Its people have papers, a family with a white code, a grant and an appeal.
    let ask = |path: &str, token: &str| Ask::get(path).bearer(token).at(front).json();
    let family = ask("/v1/family", &green);
    let members = family["members"].as_array().expect("members");
    assert_eq!(members.len(), 2);
    assert!(members.iter().any(|member| member["background"] == "white"));
    for member in members {
        let path = format!("/v1/family/{}/session", member["id"].as_str().unwrap());
        let opened = Ask::post(&path, "{}").json().bearer(&green).at(front);
        let session = opened.json()["session"].as_str().unwrap().to_owned();
        let shown = ask("/v1/code", &session);
        assert_eq!(
            shown["assurance"], member["assurance"],
            "the list and the code agree"
        );
    }
    let records = ask("/v1/health?limit=100", &green);
    let kinds = |kind: &str| {
        let records = records["records"].as_array().expect("records").iter();
        records.filter(|record| record["kind"] == *kind).count()
    };
    assert!(
        kinds("temperature") > 2
            && kinds("certificate") == 1
            && kinds("notice") == 1
            && kinds("declaration") == 1,
        "{records}"
    );
    // Nobody reads who said it by an identifier.
    let of = |record: &&serde_json::Value| record["kind"] == "certificate";
    let certificate = records["records"].as_array().unwrap().iter().find(of);
    assert_eq!(certificate.unwrap()["source_name"], "示范市疾控中心");
    assert_eq!(ask("/v1/trip", &green)["state"], "known");
    assert_eq!(
        ask("/v1/entries", &green)["entries"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    assert_eq!(
        ask("/v1/appeals", &token("red", "s"))["appeals"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    let roster = ask("/v1/roster", &token("school", "t"));
    assert!(
        roster["members"]
            .as_array()
            .is_some_and(|members| members.len() > 10),
        "{roster}"
    );
    let codes: String = roster["members"]
        .as_array()
        .expect("members")
        .iter()
        .map(|member| format!("{}\n", member["code"].as_str().expect("a code")))
        .collect();
    let scan = Ask::post("/v1/scan/bulk", codes).header("content-type", "text/plain");
    let verdicts = scan.bearer(&token("school", "g")).at(front);
    assert_eq!(verdicts.status, 200);
    assert!(text(&verdicts.body).contains("\"state\":\"green\""));
}

#[test]
fn lines_to_paste_are_printed_where_they_are_asked_for() {
    let folder = folder();
    let dir = folder.path().join("town");
    let demo = Demo::start(&dir);
    assert!(!demo.said().contains("curl"));
    drop(demo);
    let demo = Demo::start_with(&dir, &["--lines"]);
    assert!(demo.said().contains("/v1/scan/bulk"));
}

#[test]
fn the_demonstration_ends_by_ctrl_c_and_finds_its_town_again() {
    let folder = folder();
    let dir = folder.path().join("town");
    let session = |demo: &Demo| demo.link("show a red code").1;
    let mut demo = Demo::start(&dir);
    let old = session(&demo);
    send(&demo.child, libc::SIGINT);
    assert!(ended(&mut demo.child).success());
    let again = Demo::start(&dir);
    let (front, _) = again.link("show a red code");
    let shown = Ask::get("/v1/code").bearer(&old).at(front).json();
    assert_eq!(shown["state"], "red");
}
