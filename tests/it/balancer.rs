//! HAProxy, set as we ship it, before three nodes over one Redis: what callers meet while nodes leave, die, or are all away.

use crate::harness::*;
use crate::redis::{Cluster, Server};
use liangma::http::door::Door;
use liangma::language::Language;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// Nobody takes it while its node is away: the kernel gives out ports from 32,768 on, and Redis has those below 30,000.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = (std::process::id() * 257).wrapping_add(NEXT.fetch_add(1, Relaxed));
        let address = ([127, 0, 0, 1], 30_000 + (next % 2_700) as u16).into();
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// One way through the balancer, to all doors but the back one.
struct Front([SocketAddr; 3]);

/// A node's agent port, beside its operations door.
fn agent_of(place: &[SocketAddr; 4]) -> SocketAddr {
    ([127, 0, 0, 2], place[Door::Ops as usize].port()).into()
}

impl Doors for Front {
    fn address(&self, door: Door) -> SocketAddr {
        self.0[door as usize]
    }
}

/// HAProxy with the files that we ship: the fronts of L4, L7 and its meters, before nodes at these places. It tells more of its servers
/// at `socket` in the folder.
fn haproxy(folder: &TempDir, fronts: &[SocketAddr; 5], places: &[[SocketAddr; 4]]) -> Command {
    let mut command = Command::new("haproxy");
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/haproxy"));
    let (socket, more) = (folder.path().join("socket"), folder.path().join("more.cfg"));
    let extra = format!(
        "global\n\tstats socket {} mode 600 level admin\n",
        socket.display()
    );
    std::fs::write(&more, extra).expect("a folder of ours");
    command.args("-db -f common.cfg -f l4.cfg -f l7.cfg -f".split(' '));
    command.arg(&more);
    let names = ["L4_RESIDENT", "L4_GATE", "L4_DESK", "L7", "METERS"];
    command.envs(names.into_iter().zip(fronts.map(|front| front.to_string())));
    command.env("BUSY", format!("abns@{}", more.display()));
    // Nobody is at the others: not a cluster of somebody else on this machine.
    let nobody = [SocketAddr::from(([127, 0, 0, 1], 1)); 4];
    let places = places.iter().chain(std::iter::repeat(&nobody));
    for (node, place) in (1..=3).zip(places) {
        let names = Door::ALL.map(|door| format!("NODE{node}_{}", door.name().to_uppercase()));
        command.envs(names.into_iter().zip(place.map(|door| door.to_string())));
        let agent = agent_of(place);
        command.env(format!("NODE{node}_AGENT_HOST"), agent.ip().to_string());
        command.env(format!("NODE{node}_AGENT_PORT"), agent.port().to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// HAProxy before nodes at these places, once it answers.
#[track_caller]
fn started(folder: &TempDir, fronts: &[SocketAddr; 5], places: &[[SocketAddr; 4]]) -> KilledOnDrop {
    let mut haproxy = haproxy(folder, fronts, places);
    let Ok(child) = haproxy.stderr(Stdio::null()).spawn() else {
        left_out("haproxy");
    };
    let child = KilledOnDrop(child);
    until("haproxy answers", || {
        Connection::try_to(fronts[4]).is_some()
    });
    child
}

/// What haproxy answers to a command of its runtime API.
#[track_caller]
fn told(socket: &Path, command: &str) -> String {
    let mut socket = UnixStream::connect(socket).expect("haproxy runs");
    socket
        .write_all(format!("{command}\n").as_bytes())
        .expect("it listens");
    let mut said = String::new();
    socket.read_to_string(&mut said).expect("it answers");
    said
}

/// What haproxy, whose meters are there, counts; `what` is a name with its labels.
fn meter(meters: SocketAddr, what: &str) -> Option<f64> {
    metric_in(&text(&Ask::get("/metrics").at(meters).body), what)
}

/// What it counts of a server of a backend; `more` are further labels.
fn of_server(
    meters: SocketAddr,
    what: &str,
    backend: &str,
    server: &str,
    more: &str,
) -> Option<f64> {
    let labels = format!("{{proxy=\"{backend}\",server=\"{server}\"{more}}}");
    meter(meters, &format!("haproxy_server_{what}{labels}"))
}

/// Three nodes behind a balancer, and somebody red.
struct Town {
    haproxy: Child,
    meters: SocketAddr,
    /// Where haproxy tells more of its servers, and the folder that it is in.
    socket: PathBuf,
    _folder: TempDir,
    l4: Front,
    l7: Front,
    nodes: Vec<Node>,
    settings: Vec<String>,
    ring: Ring,
    url: String,
    /// Ends with the town; None where the test has its own.
    _redis: Option<Server>,
}

/// Three nodes over one Redis, behind HAProxy.
#[track_caller]
fn open(drain_delay: &str) -> Town {
    let redis = Server::start(&[]);
    let url = redis.url();
    open_over(&url, Some(redis), &[&format!("drain_delay={drain_delay}")])
}

/// Three nodes over a store, with these settings, behind HAProxy.
#[track_caller]
fn open_over(url: &str, redis: Option<Server>, settings: &[&str]) -> Town {
    open_sized(url, redis, settings, &[])
}

/// Three nodes over a store, with these settings, behind HAProxy with these sizes.
#[track_caller]
fn open_sized(url: &str, redis: Option<Server>, settings: &[&str], sizes: &[(&str, &str)]) -> Town {
    let places = [(); 3].map(|()| Door::ALL.map(|_| free_address()));
    let fronts = [(); 5].map(|()| free_address());
    let folder = folder();
    let socket = folder.path().join("socket");
    let mut command = haproxy(&folder, &fronts, &places);
    command.envs(sizes.iter().copied());
    let Ok(mut haproxy) = command.stderr(Stdio::piped()).spawn() else {
        left_out("haproxy");
    };
    let log = gather(haproxy.stderr.take().expect("piped"));
    let [resident, gate, desk, paths, meters] = fronts;
    let mut town = Town {
        haproxy,
        meters,
        socket,
        _folder: folder,
        l4: Front([resident, gate, desk]),
        l7: Front([paths; 3]),
        nodes: Vec::new(),
        settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
        ring: Ring::make(),
        url: url.to_owned(),
        _redis: redis,
    };
    until("haproxy answers", || {
        let ended = town.haproxy.try_wait().expect("ours");
        assert!(ended.is_none(), "{}", text(&log.lock().unwrap()));
        Connection::try_to(meters).is_some()
    });
    let red = [person(1).resident(), person(1).set("confirmed", 1)];
    for place in places {
        town.start(place);
        town.nodes[0].feed(&town.ring.seals.authority(), &red);
    }
    town.until_ready(3);
    town
}

impl Drop for Town {
    fn drop(&mut self) {
        let _ = self.haproxy.kill().and_then(|()| self.haproxy.wait());
    }
}

impl Town {
    #[track_caller]
    fn start(&mut self, place: [SocketAddr; 4]) {
        let mut start = NodeBuilder::new(&[]);
        start.settings.extend(self.settings.iter().cloned());
        for (door, address) in Door::ALL.iter().zip(place) {
            start.settings.push(format!("{}={address}", door.name()));
        }
        start.settings.push(format!("agent={}", agent_of(&place)));
        self.nodes
            .push(start.over_redis(&self.url, &self.ring).node());
    }

    /// Ends the node that has run longest; where it was.
    #[track_caller]
    fn end(&mut self, signal: i32) -> [SocketAddr; 4] {
        let node = self.nodes.remove(0);
        let place = Door::ALL.map(|door| node.address(door));
        node.signal(signal);
        assert_eq!(node.end().success(), signal == libc::SIGTERM);
        place
    }

    fn meters(&self) -> String {
        text(&Ask::get("/metrics").at(self.meters).body)
    }

    /// Waits until haproxy takes so many nodes for ready.
    #[track_caller]
    fn until_ready(&self, nodes: usize) {
        self.until_up("nodes", nodes);
    }

    /// Waits until so many nodes pass this check of haproxy.
    #[track_caller]
    fn until_up(&self, check: &str, nodes: usize) {
        let node = format!("haproxy_server_status{{proxy=\"{check}\"");
        let is_up = |line: &&str| line.starts_with(&node) && line.ends_with("\"UP\"} 1");
        let up = || self.meters().lines().filter(is_up).count();
        until("haproxy has noticed", || up() == nodes);
    }

    /// What haproxy counts of a server.
    fn of_server(&self, what: &str, backend: &str, server: &str, more: &str) -> Option<f64> {
        of_server(self.meters, what, backend, server, more)
    }

    /// How many requests haproxy gives to the resident door of a node at once.
    fn maxconn(&self, server: &str) -> f64 {
        let most = self.of_server("limit_sessions", "l7_resident", server, "");
        most.expect("the backend has it")
    }

    /// Whether the agent of a node's resident door said `drain`.
    fn is_drained(&self, server: &str) -> bool {
        const FORCED_DRAIN: u32 = 8; // SRV_ADMF_FDRAIN
        let said = told(&self.socket, "show servers state l7_resident");
        let mut lines = said.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let fields = lines.find(|fields| fields.get(3) == Some(&server));
        let fields = fields.unwrap_or_else(|| panic!("no such server: {said}"));
        fields[6].parse::<u32>().expect("a number") & FORCED_DRAIN != 0
    }

    /// The bytes of a show, and of a scan.
    fn asks(&self) -> [(Door, Vec<u8>); 2] {
        let session = self.ring.seals.session(&person(1));
        let scan = Ask::post("/v1/scan", self.nodes[0].code(&session));
        let scan = scan.bearer(&self.ring.seals.scanner()).bytes();
        let show = Ask::get("/v1/code").bearer(&session).bytes();
        [(Door::Resident, show), (Door::Gate, scan)]
    }

    /// Crowds at L4 and at L7, once all in them were answered.
    #[track_caller]
    fn crowds(&self) -> [Callers; 2] {
        let crowds = [&self.l4, &self.l7].map(|front| {
            let crowd = Arc::<Crowd>::default();
            let asks = self.asks().into_iter().cycle();
            for (nth, (ask, keeps)) in asks.zip([true, true, false, false]).enumerate() {
                let (crowd, address) = (crowd.clone(), front.address(ask.0));
                std::thread::spawn(move || call(&crowd, nth, address, &ask.1, keeps));
            }
            Callers(crowd)
        });
        go_on(&crowds);
        crowds
    }
}

/// Who show or scan again and again until this is dropped.
struct Callers(Arc<Crowd>);

impl Deref for Callers {
    type Target = Crowd;

    fn deref(&self) -> &Crowd {
        &self.0
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.stopped.store(true, Relaxed);
    }
}

/// What callers and their test share.
#[derive(Default)]
struct Crowd {
    stopped: AtomicBool,
    /// How often, each their own.
    answered: [AtomicUsize; 4],
    /// What came instead of answers.
    lost: Mutex<Vec<String>>,
}

/// On one connection until it is told to close it, or on a fresh one each time.
fn call(crowd: &Crowd, nth: usize, address: SocketAddr, ask: &[u8], keeps: bool) {
    let mut kept = None;
    while !crowd.stopped.load(Relaxed) {
        let mut connection = kept.take().or_else(|| Connection::try_to(address));
        let answer = connection.as_mut().and_then(|connection| {
            connection.try_send(ask);
            connection.try_answer()
        });
        match answer {
            Some(answer) if answer.status == 200 && answer.state() == "red" => {
                crowd.answered[nth].fetch_add(1, Relaxed);
                let stays = keeps && answer.header("connection") != Some("close");
                kept = connection.filter(|_| stays);
            }
            instead => crowd.lost.lock().unwrap().push(format!("{instead:?}")),
        }
    }
}

/// Waits until every caller was answered some more.
#[track_caller]
fn go_on(crowds: &[Callers; 2]) {
    for answered in crowds.iter().flat_map(|crowd| &crowd.answered) {
        let before = answered.load(Relaxed);
        until("all are answered", || answered.load(Relaxed) > before + 20);
    }
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
fn haproxy_has_nothing_to_say_about_the_files_that_we_ship() {
    for files in ["-f l4.cfg -f l7.cfg", "-f l4.cfg", "-f l7.cfg"] {
        let mut check = Command::new("haproxy");
        check.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/haproxy"));
        check.args("-f common.cfg".split(' '));
        is_taken_in_silence(check.args(files.split(' ')));
    }
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn every_door_but_the_back_one_is_reached_through_either_front() {
    let town = open("1s");
    let seals = &town.ring.seals;
    let (session, scanner) = (seals.session(&person(1)), seals.scanner());
    for front in [&town.l4, &town.l7] {
        let code = front.code(&session);
        assert_eq!(front.explain(&session).state(), "red");
        for node in &town.nodes {
            assert_eq!(front.scan(&scanner, node.code(&session)).state(), "red");
            assert_eq!(node.scan(&scanner, &code).state(), "red");
        }
        let mut bulk = Connection::to(front.address(Door::Gate));
        let ask = Ask::new("POST", "/v1/scan/bulk").bearer(&scanner);
        bulk.send(ask.header("transfer-encoding", "chunked").bytes());
        bulk.chunk(format!("{code}\n"));
        assert_eq!(bulk.head().expect("an answer").status, 200);
        let verdict = bulk.piece().expect("it does not wait for more codes");
        assert!(text(&verdict).contains("\"state\":\"red\""));
        for door in [Door::Resident, Door::Gate, Door::Desk] {
            for path in ["/live", "/ready", "/metrics", "/v1/feed"] {
                front.get(door, path).refuses(404, "not_found");
            }
        }
    }
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_rolling_restart_fails_nobody() {
    let mut town = open("1s");
    let crowds = town.crowds();
    for _ in 0..3 {
        let place = town.end(libc::SIGTERM);
        town.start(place);
        go_on(&crowds);
    }
    for crowd in crowds {
        assert_eq!(*crowd.lost.lock().unwrap(), [""; 0]);
    }
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_killed_node_costs_l4_what_it_held_and_l7_nothing() {
    let mut town = open("1s");
    let crowds = town.crowds();
    for killed in 1..=3 {
        let place = town.end(libc::SIGKILL);
        go_on(&crowds);
        town.until_ready(2);
        town.start(place);
        town.until_ready(3);
        let [l4, l7] = crowds.each_ref().map(|crowd| crowd.lost.lock().unwrap());
        assert_eq!(*l7, [""; 0]);
        // The kernel closes what the dead had one by one: whoever is cut off may find the door open once more.
        assert!(l4.len() <= 2 * crowds[0].answered.len() * killed, "{l4:?}");
    }
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_scan_whose_body_comes_later_outlives_its_node_at_l7() {
    let mut town = open("1s");
    let [_, (door, scan)] = town.asks();
    let (head, body) = scan.split_at(scan.len() - 1);
    let mut gates = [(); 30].map(|()| Connection::to(town.l7.address(door)));
    gates.iter_mut().for_each(|gate| gate.send(head));
    let heads = "haproxy_frontend_http_requests_total{proxy=\"l7\"} 30\n";
    until("haproxy has them", || town.meters().contains(heads));
    town.end(libc::SIGKILL);
    for gate in &mut gates {
        gate.send(body);
        assert_eq!(gate.answer().state(), "red");
    }
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn whoever_would_wait_in_a_long_queue_at_l7_is_told_at_once_and_nobody_is_silent() {
    let town = open("5m");
    let session = town.ring.seals.session(&person(1));
    let show = Ask::get("/v1/code").bearer(&session).bytes();
    for node in &town.nodes {
        node.signal(libc::SIGSTOP);
    }
    // Three pools of 64, a queue of 64, and as many who are too many.
    let crowd = (0..640).map(|_| {
        let mut phone = Connection::to(town.l7.address(Door::Resident));
        phone.send(&show);
        phone
    });
    let mut crowd: Vec<Connection> = crowd.collect();
    let denied = "haproxy_frontend_requests_denied_total{proxy=\"l7\"} ";
    let told_at_once = || {
        let meters = town.meters();
        let line = meters.lines().find_map(|line| line.strip_prefix(denied));
        line.and_then(|count| count.parse::<u64>().ok())
    };
    until("some are told at once", || told_at_once() > Some(0));
    for node in &town.nodes {
        node.signal(libc::SIGCONT);
    }
    let (mut shown, mut waits) = (0, Vec::new());
    for phone in &mut crowd {
        let answer = phone.answer();
        match answer.status {
            200 => shown += 1,
            _ => waits.push(wait_of(&answer)),
        }
    }
    let busy = waits.len();
    assert!(shown >= 1 && busy >= 1, "{shown} shown, {busy} busy");
    // Who is refused after many others comes back after them: no more than all of these were taken in within a second.
    let told = told_at_once().expect("haproxy counts").saturating_sub(8);
    let longest = waits.into_iter().max().unwrap_or_default();
    assert!(longest >= 2_000 + told * 4_000 / 660, "{longest} {told}");
}

/// The wait that a refusal tells, in milliseconds.
fn wait_of(answer: &Answer) -> u64 {
    answer.refuses(503, "busy");
    let wait = answer.json()["retry_after_ms"].as_u64();
    wait.expect("a refusal that passes tells when to come back")
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_front_at_l7_that_is_nearly_full_keeps_no_connection_for_a_next_query() {
    let redis = Server::start(&[]);
    let url = redis.url();
    let town = open_sized(&url, Some(redis), &["drain_delay=0ms"], &[("L7_FULL", "3")]);
    let [(_, show), _] = town.asks();
    let come = || {
        let mut phone = Connection::to(town.l7.address(Door::Resident));
        phone.send(&show);
        let answer = phone.answer();
        assert_eq!(answer.status, 200);
        let is_kept = answer.header("connection") != Some("close");
        (phone, is_kept)
    };
    let mut two = [come(), come()];
    assert!(two.iter().all(|(_, is_kept)| *is_kept));
    let (third, is_kept) = come();
    assert!(!is_kept);
    assert_eq!(third.ended(), b"");
    // Those who came before are answered on their connections.
    for (phone, _) in &mut two {
        phone.send(&show);
        assert_eq!(phone.answer().status, 200);
    }
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn l7_gives_a_node_as_many_requests_at_once_as_it_says_and_none_when_it_leaves() {
    let redis = Server::start(&[]);
    let url = redis.url();
    let settings = ["drain_delay=5m", "balancers=2", "queue_delay_target=200ms"];
    let mut town = open_over(&url, Some(redis), &settings);
    let servers = ["n1", "n2", "n3"];
    until("every node's agent is heard", || {
        servers.iter().all(|server| town.maxconn(server) == 32.0)
    });
    // One node shows that it can do more.
    let fast = &town.nodes[0];
    let [(_, show), _] = town.asks();
    let mut phone = Connection::to(fast.address(Door::Resident));
    let many = show.repeat(50);
    let answered_in_turn = |phone: &mut Connection| {
        phone.send(&many);
        (0..50).for_each(|_| assert_eq!(phone.answer().status, 200));
    };
    until("haproxy gives it more", || {
        answered_in_turn(&mut phone);
        town.maxconn("n1") > 40.0
    });
    assert_eq!(town.maxconn("n2"), 32.0);
    // It is given the processor for a moment only, again and again: what it is asked waits.
    let halted = "liangma_queue_delay_seconds{door=\"resident\",quantile=\"0.9\"}";
    until("haproxy gives it less", || {
        fast.halt();
        phone.send(&many);
        std::thread::sleep(Duration::from_millis(150));
        fast.signal(libc::SIGCONT);
        (0..50).for_each(|_| assert_eq!(phone.answer().status, 200));
        town.maxconn("n1") < 32.0 && town.of_server("weight", "l7_resident", "n1", "") < Some(100.0)
    });
    assert!(fast.meter(halted) > 0.0);
    // And what it can do is known again once it has the processor.
    until("haproxy gives it more", || {
        answered_in_turn(&mut phone);
        town.maxconn("n1") > 40.0
    });
    fast.signal(libc::SIGTERM);
    until("haproxy has heard that it leaves", || town.is_drained("n1"));
    assert!(!town.is_drained("n2") && !town.is_drained("n3"));
    // Who has its address after it is taken in again.
    let place = town.end(libc::SIGKILL);
    town.start(place);
    until("haproxy has heard that it is back", || {
        !town.is_drained("n1")
    });
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn whoever_finds_a_front_full_at_l4_is_told_and_comes_in_when_there_is_room() {
    let redis = Server::start(&[]);
    let url = redis.url();
    let sizes = [("L4_RESIDENT_FULL", "8")];
    let town = open_sized(&url, Some(redis), &["drain_delay=0ms"], &sizes);
    let [(_, show), (_, scan)] = town.asks();
    let front = town.l4.address(Door::Resident);
    let mut inside: Vec<Connection> = (0..8).map(|_| Connection::to(front)).collect();
    for phone in &mut inside {
        phone.send(&show);
        assert_eq!(phone.answer().status, 200);
    }
    let told = || {
        let mut newcomer = Connection::to(front);
        newcomer.send(&show);
        let wait = wait_of(&newcomer.answer());
        assert_eq!(newcomer.ended(), b"");
        wait
    };
    let waits: Vec<u64> = (0..60).map(|_| told()).collect();
    // Who is refused later comes back later, when the others have been served.
    let [first, last] = [&waits[..20], &waits[40..]].map(|some| some.iter().sum::<u64>() / 20);
    assert!(last > first + 1_000, "{waits:?}");
    // The others are neither told nor cut, and gates have a front of their own.
    for phone in &mut inside {
        phone.send(&show);
        assert_eq!(phone.answer().status, 200);
    }
    let mut gate = Connection::to(town.l4.address(Door::Gate));
    gate.send(&scan);
    assert_eq!(gate.answer().state(), "red");
    inside.pop();
    until("there is room", || {
        let mut newcomer = Connection::to(front);
        newcomer.send(&show);
        newcomer.answer().status == 200
    });
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn l4_gives_a_node_as_many_connections_as_it_admits_and_tells_the_others() {
    let redis = Server::start(&[]);
    let url = redis.url();
    let settings = ["drain_delay=0ms", "resident_connections_max=4"];
    let town = open_over(&url, Some(redis), &settings);
    let (admitted, newcomers) = (4.0, 4.0);
    let most = |server| {
        let most = town.of_server("limit_sessions", "l4_resident_nodes", server, "");
        most.expect("the backend has it")
    };
    until("every node's agent is heard", || {
        let said = ["n1", "n2", "n3"].map(most);
        said == [admitted + newcomers; 3]
    });
    let [(_, show), _] = town.asks();
    let front = town.l4.address(Door::Resident);
    let come = || {
        let mut phone = Connection::to(front);
        phone.send(&show);
        phone
    };
    // What comes piles up at the nodes, and those who are too many hear it while no node could say it.
    for node in &town.nodes {
        node.signal(libc::SIGSTOP);
    }
    let mut inside: Vec<Connection> = (0..3 * 8).map(|_| come()).collect();
    let open = |server| town.of_server("current_sessions", "l4_resident_nodes", server, "");
    until("haproxy has given what the nodes admit", || {
        ["n1", "n2", "n3"].map(open) == [Some(admitted + newcomers); 3]
    });
    for _ in 0..10 {
        let mut newcomer = come();
        newcomer.answer().refuses(503, "busy");
        assert_eq!(newcomer.ended(), b"");
    }
    for node in &town.nodes {
        node.signal(libc::SIGCONT);
    }
    for phone in &mut inside {
        let answer = phone.answer();
        if answer.status != 200 {
            answer.refuses(503, "busy");
        }
    }
    drop(inside);
    until("there is room", || {
        let mut newcomer = Connection::to(front);
        newcomer.send(&show);
        newcomer.answer().status == 200
    });
}

/// Several times what the balancer gives to the nodes at once, again and again: a short form of `make storm`, in counts.
#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_crowd_at_l7_is_shown_or_told_and_nobody_is_silent() {
    const CROWDS: usize = 12;
    const PHONES: usize = 60;
    const ROUNDS: usize = 8;
    let town = open("5m");
    let [(_, show), _] = town.asks();
    let front = town.l7.address(Door::Resident);
    let counts = || [(); 2].map(|()| AtomicUsize::new(0));
    let [shown, told] = &counts();
    std::thread::scope(|scope| {
        for crowd in 0..CROWDS {
            let show = &show;
            scope.spawn(move || {
                let keeps = crowd % 2 == 0;
                let mut kept: Vec<Connection> = Vec::new();
                for _ in 0..ROUNDS {
                    let mut phones = std::mem::take(&mut kept);
                    phones.resize_with(PHONES, || Connection::to(front));
                    phones.iter_mut().for_each(|phone| phone.send(show));
                    for mut phone in phones {
                        let answer = phone.try_answer().expect("nobody is silent");
                        let stays = keeps && answer.header("connection") != Some("close");
                        match answer.status {
                            200 => shown.fetch_add(1, Relaxed),
                            _ => {
                                answer.refuses(503, "busy");
                                told.fetch_add(1, Relaxed)
                            }
                        };
                        kept.extend(Some(phone).filter(|_| stays));
                    }
                }
            });
        }
    });
    let (shown, told) = (shown.load(Relaxed), told.load(Relaxed));
    assert_eq!(shown + told, CROWDS * PHONES * ROUNDS);
    // The nodes have room for a quarter of them at once, and are free for the next as soon as they answered.
    assert!(shown >= (shown + told) / 10, "{shown} shown, {told} told");
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn every_path_of_residents_is_answered_by_their_door_through_l7() {
    let town = open("1s");
    // Without an issuer there are no offline codes: their door says so itself, and another door would say it of every caller.
    let session = town.ring.seals.session(&person(1));
    for path in ["/v1/code/offline", "/v1/keys"] {
        let at = |address| Ask::get(path).bearer(&session).at(address);
        let (direct, through) = (
            at(town.nodes[0].address(Door::Resident)),
            at(town.l7.address(Door::Resident)),
        );
        assert_eq!(direct.status, through.status, "{path}");
        assert_eq!(text(&direct.body), text(&through.body), "{path}");
    }
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn without_a_ready_node_either_front_says_so_in_the_language_asked() {
    let town = open("5m");
    for node in &town.nodes {
        node.signal(libc::SIGTERM);
    }
    town.until_ready(0);
    town.until_up("answering", 0);
    let [hans, hant, en] = [
        "系统繁忙，暂时无法查询，请稍后再试",
        "系統繁忙，暫時無法查詢，請稍後再試",
        "The system is busy and cannot look this up now. Please try again later",
    ];
    let far = format!("ja,{},zh-TW", "a".repeat(150));
    let mut waits = HashSet::new();
    for (language, expected) in [
        ("", Language::Hans),
        ("*", Language::Hans),
        ("fr", Language::Hans),
        ("fr, *;q=0.5, en;q=0.4", Language::Hans),
        (&far, Language::Hant),
        ("zh-CN", Language::Hans),
        ("zh-CN,zh;q=0.9,en;q=0.8", Language::Hans),
        ("zh-Hans-HK", Language::Hans),
        ("zh-TW,en;q=0.5", Language::Hant),
        ("zh-MO", Language::Hant),
        ("en;q=0.1,zh-TW", Language::Hant),
        ("en;q=0.1, zh-HK;q=0.2, zh-CN;q=0.15", Language::Hant),
        ("zh-TW;q=0.3,en", Language::En),
        ("zh-TW;q=0.0,en;q=0.1", Language::En),
        ("en;q=0", Language::Hans),
        ("en-GB", Language::En),
        ("en-GB,en;q=0.9,zh;q=0.8", Language::En),
        ("EN", Language::En),
        ("fr, en;q=0.5", Language::En),
        ("ja,ZH-Hant-HK;q=0.9,en;q=0.8", Language::Hant),
        ("ja,zh-CN;q=0.9,zh-TW;q=0.8", Language::Hans),
        ("cs-CZ,zh-TW;q=0.9", Language::Hant),
    ] {
        // A node finds the same.
        assert_eq!(Language::accepted(language), expected, "{language}");
        let title = [hans, hant, en][expected as usize];
        for (front, path) in [
            (&town.l7, "/v1/code"),
            (&town.l7, "/v1/scan"),
            (&town.l7, "/v1/status"),
            (&town.l4, "/v1/status"),
        ] {
            let ask = Ask::get(path).header("accept-language", language);
            let said = ask.at(front.address(Door::Desk));
            let said = said.refuses(503, "upstream_busy");
            assert_eq!(said["title"], title, "{language}");
            assert_eq!(said["type"], "urn:liangma:upstream_busy");
            waits.insert(said["retry_after_ms"].as_u64());
        }
    }
    let browser = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";
    for (language, tag, words) in [
        ("fr", "zh-Hans", [hans, "秒后自动重试"]),
        ("zh-TW", "zh-Hant", [hant, "秒後自動重試"]),
        ("en-GB", "en", [en, "seconds until this page"]),
    ] {
        for path in ["/", "/gate", "/%67ate"] {
            let ask = Ask::get(path).header("accept-language", language);
            let front = town.l7.address(Door::Desk);
            let page = ask.header("accept", browser).at(front);
            page.is_busy_page(tag, &words);
        }
    }
    // Whoever is no browser is answered as before, there too; without a language in simplified Chinese.
    for front in [&town.l4, &town.l7] {
        let said = Ask::get("/").at(front.address(Door::Desk));
        assert_eq!(said.refuses(503, "upstream_busy")["title"], hans);
    }
    assert!(waits.len() > 3, "they would come back together: {waits:?}");
    for door in [Door::Resident, Door::Gate, Door::Desk] {
        let front = town.l4.address(door);
        let said = Ask::post("/v1/scan", "x".repeat(400)).at(front);
        said.refuses(503, "upstream_busy");
        let english = Ask::get("/").header("accept-language", "en-GB");
        let page = english.header("accept", browser).at(front);
        page.is_busy_page("en", &[en, "seconds until this page"]);
        // Whoever asks nothing is let go, and so is who does not end a head.
        let mut slow = Connection::to(front);
        slow.send("GET /v1/co");
        assert_eq!(slow.ended(), b"");
        assert_eq!(Connection::to(front).ended(), b"");
    }
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
fn whoever_sends_a_body_too_slowly_at_l4_hears_the_refusal_that_is_counted() {
    let (fronts, folder) = ([(); 5].map(|()| free_address()), folder());
    let _haproxy = started(&folder, &fronts, &[]);
    until_active(fronts[4], &[("nodes", 0), ("answering", 0)]);
    let head = "POST /v1/sessions HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n";
    let heads = ["", "accept: text/html\r\n", "expect: 100-continue\r\n"];
    let mut told_at = 0;
    for (more, body) in heads
        .iter()
        .flat_map(|more| [(more, ""), (more, "12345678")])
    {
        let mut slow = Connection::to(fronts[2]);
        slow.send(format!("{head}{more}\r\n{body}"));
        if more.starts_with("expect") {
            assert_eq!(slow.head().expect("an answer").status, 100);
        }
        let answer = slow.answer();
        answer.refuses(503, "upstream_busy");
        assert!(answer.header("retry-after").is_some());
        assert_eq!(slow.ended(), b"");
        told_at += 1;
    }
    // Gates are not counted, however they spell their path.
    for path in ["/v1/scan", "/v1/%73can", "/v1/lis%74/1"] {
        let said = Ask::post(path, "x").at(fronts[1]);
        said.refuses(503, "upstream_busy");
    }
    let counted = told(&folder.path().join("socket"), "show table l4_refused");
    let counts = format!("gpc0_rate(60000)={told_at}\n");
    assert!(counted.contains(&counts), "{counted}");
}

/// A node that says at its checks that it is ready, answers `busy` to who asks for that, and holds every other query without an answer,
/// and how many of them it holds.
fn holds_each() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = listener.local_addr().expect("bound");
    let count = Arc::new(AtomicUsize::new(0));
    let held = count.clone();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut client in listener.incoming().flatten() {
            let mut head = [0; 1024];
            let length = client.read(&mut head).unwrap_or_default();
            let head = text(&head[..length]);
            let status = match (head.starts_with("GET /ready "), head.contains("x-busy")) {
                (true, _) => "200 OK",
                (_, true) => "503 busy",
                _ => {
                    kept.push(client);
                    held.store(kept.len(), Relaxed);
                    continue;
                }
            };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = client.write_all(answer.as_bytes());
        }
    });
    (at, count)
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
fn whose_time_in_the_queue_of_l7_ends_is_counted_once_and_comes_back_after_those_before() {
    let (node, held) = holds_each();
    let (fronts, folder) = ([(); 5].map(|()| free_address()), folder());
    let _haproxy = started(&folder, &fronts, &[[node; 4]]);
    let [.., l7, meters] = fronts;
    until_active(meters, &[("l7_resident", 1)]);
    let come = |path: &str| {
        let mut phone = Connection::to(l7);
        phone.send(Ask::get(path).bytes());
        phone
    };
    // Whom the node refuses, it counts itself.
    let busy = Ask::get("/v1/code").header("x-busy", "1").at(l7);
    assert_eq!(busy.status, 503);
    assert_eq!(busy.header("retry-after"), None);
    let _inside: Vec<Connection> = (0..64).map(|_| come("/v1/code")).collect();
    until("the node has as many as it says", || {
        held.load(Relaxed) == 64
    });
    // Fewer than a queue that is full, again and again.
    let paths = ["/v1/code", "/v1/%63ode", "/v1/code/offline"];
    let (mut refused, mut longest) = (0, [0; 3]);
    for _ in 0..30 {
        let phones: Vec<Connection> = (0..15).map(|nth| come(paths[nth % 3])).collect();
        longest = [0; 3];
        for (nth, mut phone) in phones.into_iter().enumerate() {
            let wait = wait_of(&phone.answer());
            longest[nth % 3] = wait.max(longest[nth % 3]);
            refused += 1;
        }
    }
    let denied = "haproxy_frontend_requests_denied_total{proxy=\"l7\"}";
    assert_eq!(meter(meters, denied), Some(0.0));
    // The node answers nobody: those who wait for nothing are no answers of it.
    assert!(longest.iter().all(|wait| *wait > 20_000), "{longest:?}");
    // A crowd that is told at once, but for those who find room in the queue.
    let crowd: Vec<Connection> = (0..200).map(|nth| come(paths[nth % 3])).collect();
    for mut phone in crowd {
        wait_of(&phone.answer());
        refused += 1;
    }
    assert!(meter(meters, denied) > Some(0.0));
    let counted = told(&folder.path().join("socket"), "show table l7_refused");
    let counts = format!("gpc0_rate(60000)={refused} ");
    assert!(counted.contains(&counts), "{refused}: {counted}");
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
fn what_an_agent_said_last_holds_until_an_operator_ends_it_and_its_silence_is_seen() {
    let node = answers_each(|_| {
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
    });
    let (fronts, folder) = ([(); 5].map(|()| free_address()), folder());
    let _haproxy = started(&folder, &fronts, &[[node; 4]]);
    let (meters, socket) = (fronts[4], folder.path().join("socket"));
    let listener = TcpListener::bind(agent_of(&[node; 4])).expect("a free port");
    // None: the port is silent.
    let line: Arc<Mutex<Option<&str>>> = Arc::default();
    let said = line.clone();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 64]);
            if let Some(line) = *said.lock().unwrap() {
                let _ = client.write_all(format!("{line}\n").as_bytes());
            }
        }
    });
    let says = |said| *line.lock().unwrap() = said;
    let n1 = |what: &str, more: &str| of_server(meters, what, "l7_resident", "n1", more);
    let is = |state: &str| n1("status", &format!(",state=\"{state}\"")) == Some(1.0);
    let most = || n1("limit_sessions", "");
    let weight = || n1("weight", "");
    let agents = || meter(meters, "haproxy_backend_active_servers{proxy=\"agents\"}");
    let nodes = || meter(meters, "haproxy_backend_active_servers{proxy=\"nodes\"}");
    says(Some("drain 40% maxconn:7"));
    until("the agent is heard", || {
        is("DRAIN") && most() == Some(7.0) && weight() == Some(40.0)
    });
    until("its port is known", || agents() == Some(1.0));
    assert_eq!(nodes(), Some(1.0));
    says(None);
    until("its silence is seen", || agents() == Some(0.0));
    assert!(nodes() == Some(1.0) && is("DRAIN"));
    // As docs/operate/overload.md says. `agent up` ends no drain.
    let tell = |command: &str| assert_eq!(told(&socket, command).trim(), "", "{command}");
    tell("set server l7_resident/n1 agent up");
    assert!(is("DRAIN"));
    tell("set server l7_resident/n1 state ready");
    tell("set maxconn server l7_resident/n1 64");
    tell("set server l7_resident/n1 weight 100%");
    assert!(is("UP") && most() == Some(64.0) && weight() == Some(100.0));
    // The line of a node that has no such door takes the server out.
    says(Some("down #agent-send names no open door"));
    until("it is heard", || is("DOWN"));
    says(None);
    until("its silence is seen", || agents() == Some(0.0));
    assert!(is("DOWN"));
    tell("set server l7_resident/n1 agent up");
    assert!(is("UP"));
    // And a node that has it again ends all that by itself.
    says(Some("drain maxconn:7"));
    until("it is heard", || is("DRAIN"));
    says(Some("ready up 100% maxconn:9"));
    until("it is heard", || is("UP") && most() == Some(9.0));
    until("its port is known", || agents() == Some(1.0));
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
fn what_a_node_breaks_off_at_l7_is_not_told_as_too_many_people() {
    let queries = Arc::new(AtomicUsize::new(0));
    let count = queries.clone();
    // It says that it is ready, and ends each query without an answer.
    let at = answers_each(move |head| match head.starts_with(b"GET /ready ") {
        true => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
        false => {
            count.fetch_add(1, Relaxed);
            String::new()
        }
    });
    let fronts = [(); 5].map(|()| free_address());
    let folder = folder();
    let _haproxy = started(&folder, &fronts, &[[at; 4]]);
    let [.., l7, meters] = fronts;
    until_active(meters, &[("l7_resident", 1)]);
    let english = Ask::get("/v1/code").header("accept-language", "en");
    let said = english.at(l7).refuses(503, "upstream_busy");
    assert!(queries.load(Relaxed) > 0);
    assert!(
        said["title"]
            .as_str()
            .is_some_and(|title| title.contains("cannot look this up"))
    );
    let browser = Ask::get("/").header("accept", "text/html").at(l7);
    browser.is_busy_page("zh-Hans", &["系统繁忙，暂时无法查询"]);
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn where_a_shard_is_lost_the_others_residents_are_answered_and_its_own_hear_too_old() {
    let mut cluster = Cluster::start(3, 0, &["cluster-require-full-coverage no"]);
    let settings = ["store_replicas=0", "stale_after=2s", "too_old_after=4s"];
    let town = open_over(&cluster.url(), None, &settings);
    let people = 1..=48;
    let lines: Vec<String> = people
        .clone()
        .flat_map(|nth| [person(nth).resident(), person(nth).set("suspected", 1)])
        .collect();
    town.nodes[0].feed(&town.ring.seals.authority(), &lines);
    cluster.servers[0].kill();
    for node in &town.nodes {
        until("no node can be any better", || {
            node.get(Door::Ops, "/ready").json()["state"] == "degraded"
        });
    }
    town.until_ready(3);
    let mut told = HashSet::new();
    for nth in people {
        let session = town.ring.seals.session(&person(nth));
        let ask = |front: &Front| {
            let answer = Ask::get("/v1/code")
                .bearer(&session)
                .at(front.address(Door::Resident));
            match answer.status {
                200 => answer.json()["state"].as_str().unwrap().to_owned(),
                _ => answer.refuses(503, "too_old")["code"].to_string(),
            }
        };
        // They lead to different nodes, where what is lost grows too old one after the other.
        let mut last = String::new();
        until("both tell the same", || {
            last = ask(&town.l7);
            ask(&town.l4) == last
        });
        told.insert(last);
    }
    assert_eq!(told.len(), 2, "some of each: {told:?}");
    assert!(!told.contains("green"), "{told:?}");
    // Without a majority nobody knows anything, and that is told as well.
    cluster.servers[1].kill();
    town.until_ready(0);
    town.until_up("answering", 3);
    let session = town.ring.seals.session(&person(1));
    for front in [&town.l4, &town.l7] {
        until("everybody is told that nothing is known", || {
            let answer = Ask::get("/v1/code")
                .bearer(&session)
                .at(front.address(Door::Resident));
            answer.json()["state"] == "too_old"
        });
    }
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn pages_come_from_the_balancer_and_cost_the_nodes_one_request() {
    let town = open("1s");
    let front = town.l7.address(Door::Desk);
    for path in ["/", "/gate", "/pages/resident.js"] {
        let mut seen = None;
        for _ in 0..20 {
            let answer = Ask::get(path).header("accept-encoding", "gzip").at(front);
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-encoding"), Some("gzip"));
            assert!(answer.header("content-security-policy").is_some());
            let body = seen.get_or_insert_with(|| answer.body.clone());
            assert_eq!(*body, answer.body, "{path}");
        }
    }
    let served = "liangma_queries_total{kind=\"page\",outcome=\"done\"}";
    let served: f64 = town.nodes.iter().map(|node| node.meter(served)).sum();
    assert_eq!(served, 3.0);
    // What is said of a person is said once.
    let session = town.ring.seals.session(&person(1));
    let [first, second] = [(); 2].map(|()| town.l7.code(&session));
    assert_ne!(first, second);
}

#[test]
#[cfg_attr(no_haproxy, ignore = "no haproxy on this machine")]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn no_spelling_of_a_page_costs_the_nodes_more_than_the_page() {
    let town = open("1s");
    let front = town.l7.address(Door::Desk);
    let page = Ask::get("/").at(front);
    let part = text(&page.body);
    let part = part.split(['"', '\'']).find(|part| part.contains(".js?v="));
    let part = format!("/{}", part.expect("a script"));
    let served = || -> f64 {
        let served = "liangma_queries_total{kind=\"page\",outcome=\"done\"}";
        town.nodes.iter().map(|node| node.meter(served)).sum()
    };
    let ask = |line: &str, headers: &[(&str, &str)]| {
        let head = headers.iter().fold(String::new(), |head, (name, value)| {
            format!("{head}{name}: {value}\r\n")
        });
        let host = if head.contains("host: ") {
            ""
        } else {
            "host: test\r\n"
        };
        let mut connection = Connection::to(front);
        connection.send(format!("GET {line} HTTP/1.1\r\n{host}{head}\r\n"));
        connection.answer()
    };
    // Each of what a page may be, once.
    for coding in ["", "gzip", "br"] {
        for path in ["/", "/gate", &part] {
            assert_eq!(ask(path, &[("accept-encoding", coding)]).status, 200);
        }
    }
    let before = served();
    for nth in 0..30 {
        let name = format!("h{nth}");
        for (line, headers) in [
            (format!("/?r={nth}"), vec![]),
            (format!("/gate?v=zz{nth}"), vec![]),
            (format!("{part}&r={nth}"), vec![]),
            (format!("{part}&v={nth}"), vec![]),
            ("/".into(), vec![("host", name.as_str())]),
            (format!("http://{name}/gate"), vec![("host", name.as_str())]),
            ("/".into(), vec![("cache-control", "no-cache")]),
            ("/".into(), vec![("pragma", "no-cache")]),
            ("/".into(), vec![("cache-control", "max-age=0")]),
            ("/".into(), vec![("authorization", "Bearer x")]),
            ("/".into(), vec![("accept-encoding", name.as_str())]),
            ("/".into(), vec![("accept-encoding", "br;q=0")]),
            ("/".into(), vec![("cookie", name.as_str())]),
            ("/".into(), vec![("accept-language", name.as_str())]),
            ("/%67ate".into(), vec![]),
            (part.replacen("/pages", "/%70ages", 1), vec![]),
        ] {
            let answer = ask(&line, &headers);
            assert_eq!(answer.status, 200, "{line} {headers:?}");
            assert_eq!(served(), before, "{line} {headers:?}");
        }
    }
    // Versions that no node has lead to what is kept here.
    let (part, _) = part.split_once('?').expect("bound to what it holds");
    assert_eq!(ask(part, &[]).status, 200);
    for nth in 0..30 {
        for (path, location) in [
            ("/", "./"),
            ("/gate", "gate"),
            (part, &part["/pages/".len()..]),
        ] {
            let other = ask(&format!("{path}?v={nth:08x}"), &[]);
            assert_eq!(other.status, 307, "{path}");
            assert_eq!(other.header("location"), Some(location));
            assert_eq!(other.header("cache-control"), Some("no-store"));
            assert_eq!(other.body, b"");
            let before = served();
            assert_eq!(ask(path, &[]).status, 200);
            assert_eq!(served(), before, "{path}");
        }
    }
    // In its plain form a path leads to its door as well.
    let session = town.ring.seals.session(&person(1));
    let shown = Ask::get("/v1/%63ode").bearer(&session).at(front);
    assert_eq!(shown.status, 200);
}
