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
        let mut child = command()
            .args(["demo", "--residents", "1000", "--free-ports", "--dir"])
            .arg(dir)
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
