//! Pages: what people see is served whole, light and keepable, loads nothing from elsewhere, and stands back behind codes.

use crate::harness::*;
use liangma::http::door::Door;
use liangma::http::pages::PAGES;

fn get(node: &Node, door: Door, path: &str, accepts: &str) -> Answer {
    Ask::get(path)
        .header("accept-encoding", accepts)
        .at(node.address(door))
}

/// What a page loads.
fn parts(html: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for attribute in [
        "<script src=\"",
        "<link rel=\"icon\" href=\"",
        "<link rel=\"stylesheet\" href=\"",
    ] {
        for (at, _) in html.match_indices(attribute) {
            let value = &html[at + attribute.len()..];
            parts.push(value[..value.find('"').expect("quoted")].to_owned());
        }
    }
    parts
}

#[test]
fn every_door_has_its_page_and_whatever_that_loads() {
    let node = Node::start();
    for (door, path) in [
        (Door::Resident, "/"),
        (Door::Gate, "/"),
        (Door::Gate, "/gate"),
        (Door::Desk, "/"),
        (Door::Desk, "/gate"),
        (Door::Desk, "/organisation"),
        (Door::Desk, "/staff"),
        (Door::Ops, "/"),
    ] {
        let page = get(&node, door, path, "");
        assert_eq!(page.status, 200, "{door:?} {path}");
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        let html = text(&page.body);
        let parts = parts(&html);
        assert_eq!(parts.len(), 3);
        for part in parts {
            let (asset, version) = part.split_once("?v=").expect("bound to what it holds");
            assert!(asset.starts_with("pages/"), "{part}");
            assert_eq!(version.len(), 16, "{part}");
            let answer = get(&node, door, &format!("/{part}"), "");
            assert_eq!(answer.status, 200, "{part}");
            let kept = answer.header("cache-control").unwrap();
            assert_eq!(kept, "public, max-age=31536000, immutable");
        }
    }
    for door in [Door::Resident, Door::Desk] {
        let worker = get(&node, door, "/sw.js", "");
        assert_eq!(worker.status, 200);
        assert!(text(&worker.body).contains("pages/desk.js?v="));
        let manifest = get(&node, door, "/manifest.json", "").json();
        let icon = manifest["icons"][0]["src"]
            .as_str()
            .expect("an icon")
            .to_owned();
        let icon = get(&node, door, &format!("/{icon}"), "");
        assert_eq!(icon.header("content-type"), Some("image/png"));
        assert!(icon.body.starts_with(b"\x89PNG"));
    }
    get(&node, Door::Gate, "/sw.js", "").refuses(404, "not_found");
    get(&node, Door::Resident, "/gate", "").refuses(404, "not_found");
    get(&node, Door::Resident, "/pages/none.js", "").refuses(404, "not_found");
}

#[test]
fn another_version_leads_to_what_is_here_and_is_not_kept_under_that_name() {
    let node = Node::start();
    for (door, path, location) in [
        (Door::Gate, "/pages/gate.js", "gate.js"),
        (Door::Gate, "/", "./"),
        (Door::Desk, "/organisation", "organisation"),
        (Door::Resident, "/sw.js", "sw.js"),
    ] {
        let whole = get(&node, door, path, "");
        assert_eq!(whole.status, 200);
        for version in ["00000000", "0000000000000000", "", "x&r=1"] {
            let other = get(&node, door, &format!("{path}?v={version}"), "");
            assert_eq!(other.status, 307, "{path} {version}");
            assert_eq!(other.header("location"), Some(location));
            assert_eq!(other.header("cache-control"), Some("no-store"));
            assert_eq!(other.body, b"");
        }
    }
    // A page asks for its parts again after ten minutes; a part that has no version may belong to another page.
    for (path, kept_for) in [
        ("/", "public, max-age=600,"),
        ("/pages/gate.js", "public, max-age=60"),
    ] {
        let page = get(&node, Door::Gate, path, "");
        let kept = page.header("cache-control").unwrap();
        assert!(kept.starts_with(kept_for), "{kept}");
    }
}

#[test]
fn each_form_has_a_tag_of_its_own_and_is_not_sent_twice() {
    let node = Node::start();
    let mut tags = std::collections::HashSet::new();
    for (accepts, encoding) in [("", None), ("gzip", Some("gzip")), ("gzip, br", Some("br"))] {
        let first = get(&node, Door::Resident, "/", accepts);
        assert_eq!(first.header("content-encoding"), encoding);
        assert_eq!(first.header("vary"), Some("accept-encoding"));
        let tag = first.header("etag").unwrap().to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
        let mut connection = Connection::to(node.address(Door::Resident));
        let again = Ask::get("/")
            .header("accept-encoding", accepts)
            .header("if-none-match", &format!("\"other\", {tag}"));
        connection.send(again.bytes());
        let kept = connection.head().unwrap();
        assert_eq!(kept.status, 304);
        assert_eq!(kept.header("etag"), Some(tag.as_str()));
        assert!(kept.header("cache-control").is_some());
        assert!(kept.header("content-encoding").is_none());
        // Nothing came behind it: the connection goes on with the next answer.
        connection.send(Ask::get("/v1/code").bytes());
        connection.answer().refuses(401, "unauthorized");
        assert!(tags.insert(tag));
    }
}

#[test]
fn a_head_is_the_head_of_the_page() {
    let node = Node::start();
    let whole = get(&node, Door::Gate, "/", "br");
    let mut connection = Connection::to(node.address(Door::Gate));
    connection.send("HEAD / HTTP/1.1\r\nhost: a\r\naccept-encoding: br\r\n\r\n");
    let head = connection.head().unwrap();
    assert_eq!(head.status, 200);
    for name in [
        "content-length",
        "content-type",
        "content-encoding",
        "etag",
        "cache-control",
    ] {
        assert_eq!(head.header(name), whole.header(name), "{name}");
    }
    connection.send("DELETE / HTTP/1.1\r\nhost: a\r\n\r\n");
    let refused = connection.answer();
    refused.refuses(405, "method_not_allowed");
    assert_eq!(refused.header("allow"), Some("GET, HEAD"));
}

#[test]
fn nothing_runs_or_loads_that_is_not_ours() {
    let node = Node::start();
    for door in Door::ALL {
        let page = get(&node, door, "/", "");
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(!policy.contains("http"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        let camera = page.header("permissions-policy").unwrap();
        assert_eq!(camera.contains("camera=(self)"), door == Door::Gate);
    }
    for page in PAGES.iter().filter(|page| page.name.ends_with(".html")) {
        let html = text(page.whole);
        for inline in [
            "<style",
            " style=",
            " onclick",
            " onload",
            "javascript:",
            "<script>",
        ] {
            assert!(!html.contains(inline), "{}: {inline}", page.name);
        }
    }
    for page in PAGES
        .iter()
        .filter(|page| !["jsQR.js", "openapi.json"].contains(&page.name))
        .filter(|page| !page.name.ends_with(".png"))
    {
        let whole = text(page.whole).replace("http://www.w3.org/2000/svg", "");
        for elsewhere in [
            "http://",
            "https://",
            "//cdn",
            "eval(",
            "innerHTML",
            "document.write",
        ] {
            assert!(!whole.contains(elsewhere), "{}: {elsewhere}", page.name);
        }
    }
}

/// Whole, not packed: what a phone has to read, however it came.
#[test]
fn a_residents_first_view_weighs_less_than_90_kb() {
    let node = Node::start();
    let html = text(&get(&node, Door::Resident, "/", "").body);
    let parts = parts(&html);
    let weigh = |accepts: &str| {
        let all = parts
            .iter()
            .map(|part| format!("/{part}"))
            .chain(["/".to_owned()]);
        all.map(|path| get(&node, Door::Resident, &path, accepts).body.len())
            .sum::<usize>()
    };
    let (whole, packed) = (weigh(""), weigh("br, gzip"));
    eprintln!(
        "the resident's page: {} requests, {whole} bytes, {packed} packed",
        parts.len() + 1
    );
    assert!(whole < 90_000, "{whole}");
    assert!(packed < 25_000, "{packed}");
}

#[test]
fn pages_stand_back_behind_codes() {
    let node = NodeBuilder::new(&["pages_per_second=5", "resident_threads=1"]).node();
    let session = node.seals().session(&person(1));
    let mut connection = Connection::to(node.address(Door::Resident));
    let mut served = 0;
    let mut busy = 0;
    for _ in 0..200 {
        connection.send(Ask::get("/").bytes());
        let answer = connection.answer();
        match answer.status {
            200 => served += 1,
            _ => {
                answer.refuses(503, "busy");
                busy += 1;
            }
        }
        connection.send(Ask::get("/v1/code").bearer(&session).bytes());
        assert_eq!(connection.answer().status, 200);
    }
    assert!(served >= 5 && busy > 0, "{served} served, {busy} busy");
    assert_eq!(
        node.meter("liangma_queries_total{kind=\"page\",outcome=\"done\"}"),
        f64::from(served)
    );
}

#[test]
fn parts_of_a_page_are_served_whatever_else_is_asked_for() {
    let node = NodeBuilder::new(&["pages_per_second=20", "resident_threads=1"]).node();
    let resident = node.address(Door::Resident);
    let page = text(&Ask::get("/").at(resident).body);
    let part = page.split(['"', '\'']).find(|part| part.contains(".js?v="));
    let part = format!("/{}", part.expect("a script"));
    let mut connection = Connection::to(resident);
    let mut busy = 0;
    for nth in 0..1_000 {
        connection.send(Ask::get(&format!("/?r={nth}")).bytes());
        busy += usize::from(connection.answer().status == 503);
    }
    assert!(busy > 500, "{busy} busy");
    let asked = Ask::get(&format!("{part}&x=1")).at(resident);
    assert_eq!(asked.status, 200);
    let kept = asked.header("cache-control").expect("a time");
    assert!(kept.contains("immutable"), "{kept}");
}

#[test]
fn versions_that_nobody_has_spend_no_budget_of_pages() {
    let settings = ["pages_per_second=1", "resident_threads=1"];
    let node = NodeBuilder::new(&settings).node();
    let mut connection = Connection::to(node.address(Door::Resident));
    let mut ask = |path: &str| {
        connection.send(Ask::get(path).bytes());
        connection.answer().status
    };
    for nth in 0..500 {
        assert_eq!(ask(&format!("/?v={nth:08x}")), 307);
        assert_eq!(ask(&format!("/pages/resident.js?v={nth:08x}")), 307);
    }
    assert_eq!(ask("/"), 200);
}

#[test]
fn a_node_behind_something_that_keeps_pages_has_none() {
    let node = NodeBuilder::new(&["pages_per_second=0"]).node();
    for door in Door::ALL {
        for path in ["/", "/pages/gate.js", "/?v=00000000"] {
            get(&node, door, path, "").refuses(404, "not_found");
        }
    }
}

#[test]
#[cfg_attr(no_node, ignore = "no node on this machine")]
fn every_word_of_an_answer_has_its_word_on_the_pages_in_each_language() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut node = std::process::Command::new("node");
    let node = node
        .args(["--test", "tests/pages/words.test.js"])
        .current_dir(root);
    match node.output() {
        Ok(output) => assert!(output.status.success(), "{}", text(&output.stdout)),
        Err(_) => left_out("node"),
    }
}
