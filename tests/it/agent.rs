//! The agent port: what a node tells balancers of its doors, and what it says to those who ask wrongly.

use crate::harness::{Ask, Connection, Doors, Node, NodeBuilder, person, text, until};
use liangma::http::door::Door;
use std::net::{IpAddr, SocketAddr};

const DOWN: &str = "down #agent-send names no open door\n";

fn agent_of(node: &Node) -> SocketAddr {
    let mut address = None;
    until("the agent port is printed", || {
        let out = node.out();
        let mut lines = out.lines();
        address = lines.find_map(|line| line.strip_prefix("agent tcp://")?.parse().ok());
        address.is_some()
    });
    address.expect("just seen")
}

/// What the port says to these bytes, until it ends the connection.
fn said(agent: SocketAddr, bytes: &[u8]) -> String {
    said_to(Connection::to(agent), bytes)
}

fn said_to(mut caller: Connection, bytes: &[u8]) -> String {
    caller.send(bytes);
    text(&caller.ended())
}

fn in_flight_max(node: &Node, door: &str) -> u64 {
    node.meter(&format!("liangma_in_flight_max{{door=\"{door}\"}}")) as u64
}

#[test]
fn a_line_that_names_an_open_door_is_answered_with_its_number_and_any_other_is_an_error() {
    let settings = [
        "agent=127.0.0.1:0",
        "gate_connections_max=8",
        "doors=resident,gate,desk,ops",
    ];
    let node = NodeBuilder::new(&settings).node();
    let agent = agent_of(&node);
    for (bytes, answer) in [
        (&b"resident\n"[..], "ready up 100% maxconn:64\n"),
        (b"gate\r\n", "ready up 100% maxconn:8\n"),
        (b"gate\nresident\n", "ready up 100% maxconn:8\n"),
        (b"gate connections\n", "ready up 100% maxconn:16\n"),
        (b"resident connections\r\n", "ready up 100% maxconn:128\n"),
        (b"gate requests\n", DOWN),
        (b" connections\n", DOWN),
        (b"Gate\n", DOWN),
        (b"\n", DOWN),
        (b"GET / HTTP/1.1\r\n\r\n", DOWN),
        (b"\xff\xfe\n", DOWN),
        (b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", DOWN),
    ] {
        assert_eq!(
            said(agent, bytes),
            answer,
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
    }
    let ready = node.get(Door::Ops, "/ready");
    assert_eq!(ready.header("in-flight-max"), Some("resident=64, gate=8"));
}

#[test]
fn callers_who_say_nothing_are_let_go_and_keep_nobody_out_for_long() {
    let node = NodeBuilder::new(&["agent=127.0.0.1:0"]).node();
    let agent = agent_of(&node);
    let silent: Vec<Connection> = (0..200).map(|_| Connection::to(agent)).collect();
    until("somebody is answered", || {
        let Some(mut caller) = Connection::try_to(agent) else {
            return false;
        };
        caller.try_send(b"gate\n") && text(&caller.ended()) == "ready up 100% maxconn:64\n"
    });
    for caller in silent {
        assert_eq!(caller.ended(), b"");
    }
}

#[test]
fn the_number_follows_what_the_door_answers_and_balancers_share_it() {
    let node = NodeBuilder::new(&["agent=127.0.0.1:0", "balancers=4"]).node();
    let agent = agent_of(&node);
    assert_eq!(said(agent, b"resident\n"), "ready up 100% maxconn:16\n");
    let session = node.seals().session(&person(1));
    let ask = Ask::get("/v1/code").bearer(&session).bytes().repeat(100);
    let mut phone = Connection::to(node.address(Door::Resident));
    until("the door has shown what it can do", || {
        phone.send(&ask);
        (0..100).for_each(|_| assert!(phone.answer().status >= 200));
        in_flight_max(&node, "resident") > 2 * 64
    });
    assert_eq!(in_flight_max(&node, "gate"), 64, "each door by itself");
    let ready = node.get(Door::Ops, "/ready");
    let header = ready
        .header("in-flight-max")
        .expect("it is said")
        .to_owned();
    let resident = header
        .strip_prefix("resident=")
        .and_then(|rest| rest.strip_suffix(", gate=16"));
    assert!(
        resident.is_some_and(|most| most.parse::<u64>().unwrap() > 16),
        "{header}"
    );
}

#[test]
fn a_balancer_keeps_the_connections_that_it_has_though_another_has_none() {
    let settings = [
        "agent=127.0.0.1:0",
        "balancers=2",
        "resident_connections_max=1000",
    ];
    let node = NodeBuilder::new(&settings).node();
    let agent = agent_of(&node);
    let [old, new]: [IpAddr; 2] = [[127, 0, 0, 2].into(), [127, 0, 0, 3].into()];
    let told = |balancer| -> u64 {
        let said = said_to(
            Connection::between(balancer, agent),
            b"resident connections\n",
        );
        let most = said.trim_end().strip_prefix("ready up 100% maxconn:");
        most.and_then(|most| most.parse().ok())
            .unwrap_or_else(|| panic!("{said}"))
    };
    assert_eq!([told(old), told(new)], [64; 2], "of 128 newcomers");
    let door = node.address(Door::Resident);
    let opened: Vec<Connection> = (0..300).map(|_| Connection::between(old, door)).collect();
    let open = || node.meter("liangma_connections{door=\"resident\"}") as u64;
    until("all are taken in", || open() == 300);
    // As many more as it may send at once, and the other one as many.
    let (of_old, of_new) = (told(old), told(new));
    assert!(of_old >= 300 + 64, "{of_old}");
    assert!((64..=300).contains(&of_new), "{of_new}");
    drop(opened);
    until("they have ended", || open() == 0);
    until("both have as much again", || told(old) == told(new));
    // Addresses that tell nobody apart: each gets an equal share.
    let others: Vec<Connection> = (0..100).map(|_| Connection::to(door)).collect();
    until("all are taken in", || open() == 100);
    assert_eq!(told(old), told(new));
    assert!(told(old) >= (100 + 128) / 2);
    drop(others);
}

#[test]
fn a_node_that_leaves_says_drain_until_its_end_and_one_without_the_setting_has_no_port() {
    let node = NodeBuilder::new(&["agent=127.0.0.1:0", "drain_delay=5m"]).node();
    let agent = agent_of(&node);
    node.signal(libc::SIGTERM);
    until("it says so", || {
        said(agent, b"resident\n") == "drain maxconn:64\n"
    });
    let node = Node::start();
    assert_eq!(node.get(Door::Ops, "/live").status, 200);
    assert!(!node.out().contains("agent"));
}
