//! A start and an end, as supervisors see them: the operations door before there is a store, and signals that come twice.

use crate::harness::*;
use crate::process::free_port;
use liangma::http::door::Door;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

#[test]
fn the_operations_door_tells_what_a_start_waits_for() {
    let ring = Ring::make();
    let (ops, redis) = (free_port(), free_port());
    let setting = format!("ops=127.0.0.1:{ops}");
    let url = format!("redis://127.0.0.1:{redis}");
    let starting = NodeBuilder::new(&[&setting])
        .over_redis(&url, &ring)
        .starting();
    let address = SocketAddr::from(([127, 0, 0, 1], ops));
    until("the door is open", || Connection::try_to(address).is_some());
    for method in ["GET", "HEAD"] {
        let head = |path: &str| {
            let mut connection = Connection::to(address);
            connection.send(Ask::new(method, path).bytes());
            connection.head().expect("an answer")
        };
        assert_eq!(head("/live").status, 200);
        let ready = head("/ready");
        assert_eq!(ready.status, 503);
        assert!(ready.header("retry-after").is_some());
    }
    let ready = Ask::get("/ready").at(address).json();
    assert_eq!(ready["state"], "store_away");
    assert!(ready["retry_after_ms"].is_u64(), "{ready}");
    let metrics = text(&Ask::get("/metrics").at(address).body);
    assert!(metrics.contains("\nliangma_ready 0\n"), "{metrics}");
    Ask::post("/v1/feed", "")
        .at(address)
        .refuses(503, "warming");
    // Who sends a whole feed before it reads is answered too.
    Ask::post("/v1/feed", vec![b'x'; 12_000_000])
        .at(address)
        .refuses(503, "warming");
    // Who says nothing holds nobody up.
    let silent: Vec<Connection> = (0..40).map(|_| Connection::to(address)).collect();
    assert_eq!(Ask::get("/live").at(address).status, 200);
    drop(silent);
    starting.signal(libc::SIGTERM);
    assert_eq!(starting.end().code(), Some(0));
}

#[test]
fn the_door_is_the_nodes_once_there_is_a_store() {
    let port = free_port();
    let setting = format!("ops=127.0.0.1:{port}");
    let node = NodeBuilder::new(&[&setting]).node();
    assert_eq!(node.address(Door::Ops).port(), port);
    assert_eq!(node.get(Door::Ops, "/ready").json()["state"], "ready");
}

#[test]
fn systemd_is_told_when_the_doors_are_open_and_when_the_node_drains() {
    let folder = folder();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let told = || {
        let mut text = [0; 256];
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    };
    let store = folder.path().join("store");
    let node = NodeBuilder::new(&[])
        .over(&store)
        .notifying(&path)
        .starting();
    // What a command needs as soon as `systemctl start` is back.
    assert!(told().starts_with("READY=1\n"));
    assert!(store.join("keys").exists());
    let node = node.open();
    node.signal(libc::SIGTERM);
    assert!(told().starts_with("STOPPING=1\n"));
    assert_eq!(node.end().code(), Some(0));

    // A store of another machine must not hold up who started the node.
    let ring = Ring::make();
    let url = format!("redis://127.0.0.1:{}", free_port());
    let starting = NodeBuilder::new(&[])
        .over_redis(&url, &ring)
        .notifying(&path)
        .starting();
    assert_eq!(told(), "READY=1\nSTATUS=Waiting for the store.");
    starting.signal(libc::SIGTERM);
    assert_eq!(starting.end().code(), Some(0));
}

#[test]
fn a_signal_that_comes_twice_at_once_is_one() {
    let node = NodeBuilder::new(&["drain_delay=2s"]).node();
    let session = node.seals().session(&person(1));
    node.signal(libc::SIGTERM);
    node.signal(libc::SIGINT);
    until("it leaves", || node.get(Door::Ops, "/ready").status == 503);
    // The doors are open for as long as was said.
    assert_eq!(node.show(&session).status, 200);
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn a_later_signal_ends_at_once() {
    let node = NodeBuilder::new(&["drain_delay=5m"]).node();
    node.signal(libc::SIGTERM);
    until("it leaves", || node.get(Door::Ops, "/ready").status == 503);
    let begun = Instant::now();
    until("a second has passed", || {
        begun.elapsed().as_millis() > 1_100
    });
    node.signal(libc::SIGTERM);
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn a_command_gives_up_on_a_store_that_is_away_after_the_wait() {
    let ring = Ring::make();
    let mut command = command();
    command.args(["export", "--wait", "200ms", "--store"]);
    command.arg(format!("redis://127.0.0.1:{}", free_port()));
    let output = command.arg("--keys").arg(&ring.file).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
}
