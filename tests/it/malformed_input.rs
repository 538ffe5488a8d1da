//! Rubbish: whatever comes in at a door, the next who asks properly is served.

use crate::harness::*;
use liangma::http::door::Door;
use proptest::prelude::*;
use std::io::Write;

/// A node and somebody who is shown as ever.
struct Scene {
    node: Node,
    session: String,
}

impl Scene {
    fn new(settings: &[&str]) -> Scene {
        let node = NodeBuilder::new(settings).node();
        let session = node.seals().session(&person(1));
        Scene { node, session }
    }

    /// Sends bytes and the end of them; all that comes back until the node ends the connection.
    fn says(&self, door: Door, bytes: &[u8]) -> Vec<u8> {
        let mut connection = Connection::to(self.node.address(door));
        // A node may end a connection before it has read everything.
        let _ = connection.stream.write_all(bytes);
        connection.finish();
        let said = connection.ended();
        self.is_well();
        said
    }

    #[track_caller]
    fn is_well(&self) {
        assert_eq!(self.node.show(&self.session).state(), "unknown");
    }

    #[track_caller]
    fn refuses(&self, bytes: &[u8], status: u16, code: &str) {
        let mut connection = Connection::to(self.node.address(Door::Resident));
        connection.send(bytes);
        connection.answer().refuses(status, code);
        self.is_well();
    }
}

#[test]
fn heads_that_are_none_are_malformed() {
    let scene = Scene::new(&[]);
    for bytes in [
        &b"rubbish\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET /v1/code\r\n\r\n",
        b"G<T /v1/code HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v1/code HTTP/9.1\r\nhost: x\r\n\r\n",
        b"GET /v1/code HTTP/1.1\r\nhost: \0\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v1/code HTTP/1.1\r\nno colon\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST /v1/code HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/code HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /v1/code HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST /v1/code HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n",
    ] {
        scene.refuses(bytes, 400, "malformed");
    }
}

#[test]
fn a_head_past_its_bounds_is_too_large() {
    let scene = Scene::new(&[]);
    let long = Ask::get("/v1/code").header("x", &"y".repeat(9000)).bytes();
    scene.refuses(&long, 413, "too_large");
    let many = (0..200).fold(Ask::get("/v1/code"), |ask, nth| {
        ask.header(&format!("x{nth}"), "y")
    });
    scene.refuses(&many.bytes(), 413, "too_large");
    let path = Ask::get(&format!("/{}", "x".repeat(9000))).bytes();
    scene.refuses(&path, 413, "too_large");
    // What is still unread when the connection ends may take the answer with it.
    let giant = Ask::get("/v1/code")
        .header("x", &"y".repeat(2 << 20))
        .bytes();
    let said = scene.says(Door::Resident, &giant);
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 413 "));
}

#[test]
fn a_body_with_two_lengths_smuggles_nothing() {
    let scene = Scene::new(&[]);
    let scanner = scene.node.seals().scanner();
    let code = scene.node.code(&scene.session);
    let inner = text(&Ask::post("/v1/scan", &code).bearer(&scanner).bytes());
    let outer = |headers: &str, body: &str| {
        format!(
            "POST /v1/scan HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {scanner}\r\n{headers}\r\n{body}"
        )
    };
    let body = format!("0\r\n\r\n{inner}");
    let length = format!("content-length: {}\r\n", body.len());
    for headers in [
        format!("{length}transfer-encoding: chunked\r\n"),
        format!("transfer-encoding: chunked\r\n{length}"),
        format!("{length}transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n"),
        format!("{length}transfer-encoding : chunked\r\n"),
        format!("{length}transfer-encoding: x\r\n"),
    ] {
        let said = scene.says(Door::Gate, outer(&headers, &body).as_bytes());
        let said = String::from_utf8_lossy(&said);
        assert!(
            !said.contains("\"state\""),
            "{headers:?}: the inner request was answered: {said}"
        );
    }
}

#[test]
fn slow_heads_and_silent_connections_are_ended_while_others_are_served() {
    let scene = Scene::new(&["head_timeout=300ms", "idle_timeout=300ms"]);
    let silent = Connection::to(scene.node.address(Door::Resident));
    let mut slow = Connection::to(scene.node.address(Door::Resident));
    slow.send("GET /v1/code HTTP/1.1\r\nhost: x\r\n");
    let mut idle = Connection::to(scene.node.address(Door::Resident));
    idle.send(Ask::get("/v1/code").bearer(&scene.session).bytes());
    assert_eq!(idle.answer().state(), "unknown");
    // A drop now and then does not make a head any quicker.
    until("the slow one is ended", || {
        scene.is_well();
        slow.stream.write_all(b"x: y\r\n").is_err()
    });
    assert_eq!(silent.ended(), b"");
    assert_eq!(idle.ended(), b"");
    scene.is_well();
}

#[test]
fn a_connection_that_was_opened_ahead_of_its_request_is_served() {
    let scene = Scene::new(&["head_timeout=300ms", "resident_threads=1"]);
    let address = scene.node.address(Door::Resident);
    let mut early = Connection::to(address);
    let mut slow = Connection::to(address);
    slow.send("GET /v1/code HTTP/1.1\r\n");
    // It was opened later, and has run out of time.
    slow.ended();
    early.send(Ask::get("/v1/code").bearer(&scene.session).bytes());
    assert_eq!(early.answer().state(), "unknown");
}

#[test]
fn many_that_are_idle_since_the_same_moment_are_all_closed() {
    let scene = Scene::new(&["idle_timeout=3s", "resident_threads=1"]);
    let address = scene.node.address(Door::Resident);
    let ask = Ask::get("/v1/code").bearer(&scene.session).bytes();
    let crowd: Vec<Connection> = (0..100)
        .map(|nth| {
            let mut one = Connection::to(address);
            // Every other one has never asked.
            if nth % 2 == 0 {
                one.send(&ask);
                assert_eq!(one.answer().state(), "unknown");
            }
            one
        })
        .collect();
    for one in crowd {
        assert_eq!(one.ended(), b"");
    }
    let closed = || {
        let name = "liangma_connections_closed_total{door=\"resident\",reason=\"idle\"}";
        scene.node.meter(name)
    };
    assert_eq!(closed(), 100.0);
    scene.is_well();
}

#[test]
fn a_body_that_stops_coming_is_given_up() {
    let scene = Scene::new(&["stall_timeout=300ms"]);
    let scanner = scene.node.seals().scanner();
    let mut stalled = Connection::to(scene.node.address(Door::Gate));
    let head = "POST /v1/scan HTTP/1.1\r\nhost: x\r\ncontent-length: 88\r\n";
    stalled.send(format!("{head}authorization: Bearer {scanner}\r\n\r\nAAAA"));
    stalled.ended();
    scene.is_well();
}

#[test]
fn a_client_that_has_asked_all_it_will_still_gets_its_answer() {
    let scene = Scene::new(&[]);
    for _ in 0..20 {
        let mut connection = Connection::to(scene.node.address(Door::Resident));
        connection.send(Ask::get("/v1/code").bearer(&scene.session).bytes());
        connection.finish();
        assert_eq!(connection.answer().state(), "unknown");
        assert_eq!(connection.ended(), b"");
    }
}

#[test]
fn requests_in_a_row_are_answered_in_their_order() {
    let scene = Scene::new(&[]);
    let seals = scene.node.seals();
    let scanner = seals.scanner();
    let (green, red) = (person(2), person(3));
    scene.node.feed(
        &seals.authority(),
        &[green.resident(), red.set("confirmed", 1)],
    );
    let codes = [&green, &red, &person(1)].map(|person| scene.node.code(&seals.session(person)));
    let mut bytes = Vec::new();
    for nth in 0..50 {
        bytes.extend(
            Ask::post("/v1/scan", &codes[nth * nth % 3])
                .bearer(&scanner)
                .bytes(),
        );
        bytes.extend(Ask::get("/nowhere").bytes());
    }
    let mut connection = Connection::to(scene.node.address(Door::Gate));
    connection.send(&bytes);
    for nth in 0..50 {
        assert_eq!(
            connection.answer().state(),
            ["green", "red", "unknown"][nth * nth % 3]
        );
        connection.answer().refuses(404, "not_found");
    }
    for cut in [1, 100, 1000, bytes.len()] {
        let mut gone = Connection::to(scene.node.address(Door::Gate));
        gone.send(&bytes[..cut]);
        drop(gone);
    }
    scene.is_well();
}

#[test]
fn descriptors_that_run_out_end_nothing() {
    let node = NodeBuilder::new(&[]).node();
    let few = libc::rlimit {
        rlim_cur: 64,
        rlim_max: 64,
    };
    // SAFETY: a bare system call that reads `few`; a child of ours.
    let set = unsafe {
        libc::prlimit(
            node.pid() as i32,
            libc::RLIMIT_NOFILE,
            &raw const few,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(set, 0);
    let session = node.seals().session(&person(1));
    let resident = node.address(Door::Resident);
    let crowd: Vec<Connection> = (0..100).map(|_| Connection::to(resident)).collect();
    until("no descriptor is left", || {
        let mut last = Connection::to(resident);
        last.stream
            .set_read_timeout(Some(std::time::Duration::from_millis(200)))
            .expect("a socket");
        let asked = last.try_send(&Ask::get("/v1/code").bearer(&session).bytes());
        let mut first = [0];
        !asked || std::io::Read::read(&mut last.stream, &mut first).is_err()
    });
    drop(crowd);
    until("it serves again", || {
        let Some(mut again) = Connection::try_to(resident) else {
            return false;
        };
        again.send(Ask::get("/v1/code").bearer(&session).bytes());
        again
            .try_answer()
            .is_some_and(|answer| answer.state() == "unknown")
    });
    assert_eq!(node.get(Door::Ops, "/ready").status, 200);
    assert!(node.meter("liangma_accept_errors_total{door=\"resident\"}") > 0.0);
}

#[test]
fn residents_leave_gates_their_share_of_the_descriptors() {
    let mut start = NodeBuilder::new(&["busy_answers_per_second=0"]);
    start.descriptors = Some(128);
    let node = start.node();
    let most = |door| node.meter(&format!("liangma_connections_limit_max{{door=\"{door}\"}}"));
    assert_eq!((most("resident"), most("gate")), (26.0, 30.0));
    let seals = node.seals();
    let code = node.code(&seals.session(&person(1)));
    let resident = node.address(Door::Resident);
    let _crowd: Vec<Connection> = (0..200).map(|_| Connection::to(resident)).collect();
    for _ in 0..20 {
        assert_eq!(node.scan(&seals.scanner(), code.clone()).status, 200);
    }
    assert_eq!(
        node.meter("liangma_accept_errors_total{door=\"gate\"}"),
        0.0
    );
    assert!(
        node.log()
            .contains("the limit of file descriptors is lower")
    );
}

#[test]
fn a_reload_shares_scarce_descriptors_among_all_doors_as_a_start_does() {
    let folder = folder();
    let file = folder.path().join("liangma.toml");
    let asks = |gates: usize| {
        let text = format!("gate_connections_max = {gates}\nops_connections_max = 16\n");
        std::fs::write(&file, text).expect("a folder of ours");
    };
    let start = || {
        let mut start = NodeBuilder::new(&[]).configured(&file);
        start.descriptors = Some(128);
        start.node()
    };
    let most = |node: &Node| {
        let name = |door: Door| format!("{{door=\"{}\"}}", door.name());
        Door::ALL.map(|door| node.meter(&format!("liangma_connections_limit_max{}", name(door))))
    };
    asks(4);
    let node = start();
    let few_gates = most(&node);
    asks(40);
    let many_gates = most(&start());
    let resident = Door::Resident as usize;
    assert!(many_gates[resident] < few_gates[resident]);
    for (times, gates, expected) in [(1, 40, many_gates), (2, 4, few_gates)] {
        asks(gates);
        node.signal(libc::SIGHUP);
        until("the settings were read before the key ring", || {
            node.log().matches("the key ring was read again").count() == times
        });
        assert_eq!(most(&node), expected);
    }
}

#[test]
fn no_bytes_whatever_harm_a_door() {
    let scene = Scene::new(&["head_timeout=1s", "stall_timeout=1s"]);
    let start = prop_oneof![
        Just(&b""[..]),
        Just(&b"GET /v1/code HTTP/1.1\r\n"[..]),
        Just(&b"POST /v1/scan HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"[..]),
        Just(&b"POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n"[..]),
    ];
    let rest = proptest::collection::vec(any::<u8>(), 0..300);
    let config = ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(door in 0usize..4, start in start, rest in rest)| {
        let said = scene.says(Door::ALL[door], &[start, &rest].concat());
        prop_assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 "));
    });
}
