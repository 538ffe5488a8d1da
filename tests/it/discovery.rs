//! A balancer that finds its nodes by a name: what `deploy/haproxy/template` writes, beside a DNS whose answers change.

use crate::harness::*;
use liangma::http::door::Door;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// The addresses that a name has now.
type Addresses = Arc<Mutex<Vec<Ipv4Addr>>>;

/// The doors of a node that a balancer reaches, and its agent port.
const NAMES: [&str; 5] = ["resident", "gate", "desk", "ops", "agent"];

/// Starts a DNS that answers every question for an A record with these addresses, for as long as the tests run.
fn dns(addresses: &Addresses) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let at = socket.local_addr().expect("bound");
    let addresses = addresses.clone();
    std::thread::spawn(move || {
        let mut question = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let mut end = 12;
            while end < length && question[end] != 0 {
                end += 1 + usize::from(question[end]);
            }
            // The name's end, type and class.
            let Some(asked) = question.get(12..end + 5) else {
                continue;
            };
            let is_a = question[end + 1..end + 3] == [0, 1];
            let addresses = addresses.lock().unwrap().clone();
            let answers = if is_a { &addresses[..] } else { &[] };
            let mut reply = question[..2].to_vec();
            reply.extend([0x81, 0x80, 0, 1, 0, answers.len() as u8, 0, 0, 0, 0]);
            reply.extend(asked);
            for address in answers {
                // The name of the question, A, IN, a second, four bytes.
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
                reply.extend(address.octets());
            }
            let _ = socket.send_to(&reply, from);
        }
    });
    at
}

/// Writes the balancer's files for nodes at the addresses of a name, each with its doors, and the agent port, at these ports.
#[track_caller]
fn make(folder: &TempDir, nameserver: SocketAddr, ports: &[u16]) {
    for tool in ["haproxy", "python3"] {
        let mut found = Command::new(tool);
        found.arg("-v").stdout(Stdio::null()).stderr(Stdio::null());
        if found.status().is_err() {
            left_out(tool);
        }
    }
    let mut template = Command::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/deploy/haproxy/template"
    ));
    template.args("--name nodes.liangma.test --nodes 8 --nameserver".split(' '));
    template.arg(nameserver.to_string());
    template.arg("--out").arg(folder.path());
    for (name, port) in NAMES.iter().zip(ports) {
        template.args([format!("--{name}-port"), port.to_string()]);
    }
    let made = template.output().expect("python3 is here");
    assert!(made.status.success(), "{}", text(&made.stderr));
    is_taken_in_silence(&mut haproxy(folder));
}

/// HAProxy with the files of a folder.
fn haproxy(folder: &TempDir) -> Command {
    let mut haproxy = Command::new("haproxy");
    haproxy.current_dir(folder.path());
    haproxy.args("-db -f common.cfg -f l4.cfg -f l7.cfg".split(' '));
    haproxy.env("BUSY", format!("abns@{}", folder.path().display()));
    haproxy
}

/// Starts HAProxy with the files of a folder and its fronts at these ports: L4 of residents, gates and the desk, L7, meters.
fn balancer(folder: &TempDir, ports: &[u16]) -> KilledOnDrop {
    let mut haproxy = haproxy(folder);
    let fronts = ["L4_RESIDENT", "L4_GATE", "L4_DESK", "L7", "METERS"];
    let at = |port: &u16| SocketAddr::from(([127, 0, 0, 1], *port)).to_string();
    haproxy.envs(fronts.into_iter().zip(ports.iter().map(at)));
    haproxy.stdin(Stdio::null()).stdout(Stdio::null());
    KilledOnDrop(
        haproxy
            .stderr(Stdio::null())
            .spawn()
            .expect("haproxy is here"),
    )
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_python3, ignore = "no python3 on this machine")]
fn a_balancer_that_finds_nodes_by_name_takes_those_that_come_and_leaves_those_that_go() {
    let addresses = [1, 2, 3].map(|nth| Ipv4Addr::new(127, 0, 1, nth));
    let named: Addresses = Arc::new(Mutex::new(addresses[..2].to_vec()));
    let nameserver = dns(&named);
    // Held together, so that no two are the same; a node binds them at an address of its own.
    let held = [(); 10].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let ports: Vec<u16> = held
        .iter()
        .map(|one| one.local_addr().unwrap().port())
        .collect();
    drop(held);
    let (ring, chen) = (Ring::make(), person(1));
    let nodes = addresses.map(|address| {
        let doors = NAMES
            .iter()
            .zip(&ports)
            .map(|(name, port)| format!("{name}={address}:{port}"));
        let doors: Vec<String> = doors.collect();
        let doors: Vec<&str> = doors.iter().map(String::as_str).collect();
        let mut builder = NodeBuilder::new(&doors);
        builder.keys = Some(ring.file.clone());
        let node = builder.node();
        node.feed(&ring.seals.authority(), &[chen.resident()]);
        node
    });
    let folder = folder();
    make(&folder, nameserver, &ports[..5]);
    let front = |nth: usize| SocketAddr::from(([127, 0, 0, 1], ports[5 + nth]));
    let _balancer = balancer(&folder, &ports[5..]);
    let takes = |count: u32| {
        let backends = [
            "nodes",
            "l4_resident_nodes",
            "l7_resident",
            "l7_gate",
            "l7_desk_answering",
        ];
        until_active(front(4), &backends.map(|backend| (backend, count)));
    };
    let session = ring.seals.session(&chen);
    let shows = || {
        for door in [0, 3] {
            for _ in 0..8 {
                let shown = Ask::get("/v1/code").bearer(&session).at(front(door));
                assert_eq!(shown.status, 200, "{}", text(&shown.body));
            }
        }
    };
    takes(2);
    shows();
    named.lock().unwrap().push(addresses[2]);
    takes(3);
    shows();
    // One drains: it is out before its address is, and nothing fails.
    nodes[0].signal(libc::SIGTERM);
    takes(2);
    shows();
    named
        .lock()
        .unwrap()
        .retain(|address| *address == addresses[1]);
    takes(1);
    shows();
    // What the alerts name is what this balancer tells.
    let told = text(&Ask::get("/metrics").at(front(4)).body);
    let rules = include_str!("../../deploy/prometheus/rules/around.yml");
    let mut count = 0;
    for (at, _) in rules.match_indices("haproxy_") {
        let name = rules[at..]
            .split(|c: char| !c.is_ascii_lowercase() && c != '_')
            .next();
        let name = name.unwrap_or_default();
        assert!(told.contains(&format!("# TYPE {name} ")), "{name}");
        count += 1;
    }
    assert!(count >= 5);
    assert_eq!(nodes[1].get(Door::Ops, "/ready").status, 200);
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_python3, ignore = "no python3 on this machine")]
fn while_no_node_is_ready_those_that_can_answer_are_asked_on_every_way() {
    // A node that knows nothing new, at all of its doors.
    let node = answers_each(|head| {
        let body = match head.starts_with(b"GET /ready ") {
            true => r#"{"state":"too_old"}"#,
            false => "the node itself",
        };
        let head = "HTTP/1.1 503 too old\r\nconnection: close\r\ncontent-length";
        format!("{head}: {}\r\n\r\n{body}", body.len())
    });
    let named: Addresses = Arc::new(Mutex::new(vec![Ipv4Addr::LOCALHOST]));
    let folder = folder();
    make(&folder, dns(&named), &[node.port(); 5]);
    let held = [(); 5].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let fronts = held
        .each_ref()
        .map(|one| one.local_addr().expect("bound").port());
    drop(held);
    let _balancer = balancer(&folder, &fronts);
    let meters = SocketAddr::from(([127, 0, 0, 1], fronts[4]));
    until_active(
        meters,
        &[
            ("l4_resident_nodes", 0),
            ("l4_gate_nodes", 0),
            ("l4_desk_nodes", 0),
            ("l7_desk", 0),
            ("l4_resident_nodes_answering", 1),
            ("l4_gate_nodes_answering", 1),
            ("l4_desk_nodes_answering", 1),
            ("l7_desk_answering", 1),
        ],
    );
    for (door, port) in ["L4 of residents", "L4 of gates", "L4 of the desk", "L7"]
        .into_iter()
        .zip(fronts)
    {
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        until(&format!("{door} reaches the node"), || {
            // The connection ends here: the node looks at one after the other.
            Connection::try_to(at).is_some()
                && text(&Ask::get("/v1/code").at(at).body) == "the node itself"
        });
    }
}
