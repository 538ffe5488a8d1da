//! More people than a door has room for: who stays, who goes, and what those are told who must wait.

use crate::harness::{Answer, Ask, Connection, Doors, Node, NodeBuilder, SetOnDrop, person, until};
use liangma::http::door::Door;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

fn evicted(door: &str) -> String {
    format!("liangma_connections_closed_total{{door=\"{door}\",reason=\"evicted\"}}")
}

#[test]
fn whoever_is_idle_for_longest_makes_room_for_whoever_waits() {
    let node =
        NodeBuilder::new(&["resident_connections_max=3", "busy_answers_per_second=0"]).node();
    let session = node.seals().session(&person(1));
    let ask = || Ask::get("/v1/code").bearer(&session).bytes();
    let mut inside: Vec<Connection> = (0..3)
        .map(|_| Connection::to(node.address(Door::Resident)))
        .collect();
    for connection in &mut inside {
        connection.send(ask());
        assert_eq!(connection.answer().status, 200);
    }
    let address = node.address(Door::Resident);
    let newcomer = {
        let ask = ask();
        std::thread::spawn(move || {
            let mut newcomer = Connection::to(address);
            newcomer.send(ask);
            newcomer.answer().status
        })
    };
    // The others go on speaking, and are let be.
    while !newcomer.is_finished() {
        for connection in &mut inside[1..] {
            connection.send(ask());
            assert_eq!(connection.answer().status, 200);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(newcomer.join().expect("it was served"), 200);
    assert!(inside.remove(0).ended().is_empty());
    assert_eq!(node.meter(&evicted("resident")), 1.0);
}

#[test]
fn the_first_who_is_turned_away_is_told_when_to_come_back() {
    let node = NodeBuilder::new(&["resident_connections_max=1"]).node();
    let session = node.seals().session(&person(1));
    let mut inside = Connection::to(node.address(Door::Resident));
    inside.send(Ask::get("/v1/code").bearer(&session).bytes());
    assert_eq!(inside.answer().status, 200);
    let mut newcomer = Connection::to(node.address(Door::Resident));
    newcomer.send(Ask::get("/v1/code").bytes());
    let busy = newcomer.answer();
    busy.refuses(503, "busy");
    assert!(busy.json()["retry_after_ms"].as_u64() >= Some(1_000));
    assert_ne!(busy.header("retry-after"), Some("0"));
}

#[test]
fn every_newcomer_of_a_full_door_is_told_whatever_it_sends_and_those_inside_go_on() {
    const NEWCOMERS: usize = 240;
    let settings = ["resident_connections_max=1", "busy_cpu_percent=100"];
    let node = NodeBuilder::new(&settings).node();
    let session = node.seals().session(&person(1));
    let address = node.address(Door::Resident);
    let mut inside = Connection::to(address);
    let show = Ask::get("/v1/code").bearer(&session).bytes();
    let mut shows = || {
        inside.send(&show);
        assert_eq!(inside.answer().status, 200);
    };
    shows();
    let large = Ask::post("/v1/scan", vec![b'x'; 20_000]).bytes();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    for nth in 0..NEWCOMERS / 8 {
                        let mut newcomer = Connection::to(address);
                        match nth % 4 {
                            // Silent, and half a head.
                            0 => {}
                            1 => drop(newcomer.try_send(b"GET /v1/code HTTP/1.1\r\n")),
                            2 => drop(newcomer.try_send(&large)),
                            _ => drop(newcomer.try_send(&show)),
                        }
                        let told = newcomer.try_answer().expect("an answer, and no reset");
                        told.refuses(503, "busy");
                    }
                })
            })
            .collect();
        while callers.iter().any(|caller| !caller.is_finished()) {
            shows();
        }
    });
    let told = || node.meter("liangma_connections_rejected_total{door=\"resident\"}");
    // Counted a moment after the last was told.
    until("all are counted", || told() >= NEWCOMERS as f64);
    assert_eq!(told(), NEWCOMERS as f64);
    // There is room again, and nobody is told any more.
    drop(inside);
    until("a newcomer is let in", || {
        let mut newcomer = Connection::to(address);
        newcomer.try_send(&show) && newcomer.try_answer().is_some_and(|a| a.status == 200)
    });
}

#[test]
fn whoever_sends_a_roster_whole_to_a_full_door_hears_that_it_is_busy() {
    // At the usual share, of which an idle node has next to nothing, and with time for all of the longest.
    for (bytes, busy_cpu_percent) in [(1_000_000, 5), (12_000_000, 100)] {
        let share = format!("busy_cpu_percent={busy_cpu_percent}");
        let node = NodeBuilder::new(&["gate_connections_max=1", &share]).node();
        let seals = node.seals();
        let scan = Ask::post("/v1/scan", node.code(&seals.session(&person(1))));
        let scan = scan.bearer(&seals.scanner()).bytes();
        let roster = Ask::post("/v1/scan/bulk", vec![b'A'; bytes]).bytes();
        let address = node.address(Door::Gate);
        // On a machine that is busy with other things the one inside may be idle for so long that it makes room.
        until("a roster finds no room", || {
            let mut inside = Connection::to(address);
            inside.send(&scan);
            if inside.answer().status != 200 {
                return false;
            }
            let mut sender = Connection::to(address);
            // It sends no more than the node takes in.
            let socket = socket2::SockRef::from(&sender.stream);
            socket.set_send_buffer_size(bytes / 64).expect("a socket");
            sender.send(&roster);
            let answer = sender.answer();
            match answer.status {
                503 => answer.refuses(503, "busy"),
                _ => answer.refuses(401, "unauthorized"),
            };
            answer.status == 503
        });
    }
}

#[test]
fn a_browser_that_loads_a_page_is_told_by_a_page_before_and_after_its_request_is_read() {
    let browser = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";
    let languages = [
        ("fr", "zh-Hans", "秒后自动重试"),
        ("zh-HK", "zh-Hant", "秒後自動重試"),
        ("en", "en", "seconds until this page tries again"),
    ];
    let full = NodeBuilder::new(&["resident_connections_max=1"]).node();
    let _inside = Connection::to(full.address(Door::Resident));
    // One page a second is given, and then refusals.
    let spent = NodeBuilder::new(&["pages_per_second=1", "resident_threads=1"]).node();
    for node in [&full, &spent] {
        let refused = |ask: &dyn Fn() -> Ask| {
            let mut answer = None;
            until("it is refused", || {
                let said = ask().at(node.address(Door::Resident));
                answer = (said.status != 200).then_some(said);
                answer.is_some()
            });
            answer.expect("just seen")
        };
        for (asked, language, words) in languages {
            let ask = || Ask::get("/").header("accept-language", asked);
            let page = refused(&|| ask().header("accept", browser));
            page.is_busy_page(language, &[words]);
            refused(&ask).refuses(503, "busy");
        }
        let no_html = "text/html;q=0, application/json";
        refused(&|| Ask::get("/").header("accept", no_html)).refuses(503, "busy");
    }
    // A refusal that no asking again helps is none of these pages.
    let ask = Ask::get("/v1/code").header("accept", browser);
    ask.at(spent.address(Door::Resident))
        .refuses(401, "unauthorized");
}

#[test]
fn whoever_is_idle_makes_room_in_a_crowd_and_is_heard_again_after_it() {
    let mut crowded = a_crowd_comes();
    let cap = crowded.meter("liangma_connections_limit");
    assert!((64.0..300.0).contains(&cap), "{cap}");
    crowded.crowd.clear();
    until("nobody has to make room any more", || {
        crowded.frozen() == 0.0
    });
    let mut answers = Vec::new();
    for connection in &mut crowded.idle {
        if connection.try_send(&Ask::get("/nothing").bytes()) {
            answers.extend(connection.try_answer());
        }
    }
    crowded.resets_nobody(answers.len());
    // A quarter where it was measured; the others were closed.
    let heard = answers.iter().filter(|answer| answer.status == 404).count();
    assert!(heard >= 20, "{heard}");
}

#[test]
fn whoever_made_room_and_asks_is_told_that_the_door_is_busy() {
    let mut crowded = a_crowd_comes();
    // All ask at once, and their requests are late when the door finds them: it has room again only after that.
    crowded.node.halt();
    let mut asked: Vec<&mut Connection> = crowded.idle.iter_mut().collect();
    asked.retain_mut(|connection| connection.try_send(&Ask::get("/nothing").bytes()));
    std::thread::sleep(Duration::from_millis(40));
    crowded.node.signal(libc::SIGCONT);
    let answers = asked.into_iter().filter_map(Connection::try_answer);
    let answers: Vec<Answer> = answers.collect();
    let is_busy = |answer: &&Answer| answer.status == 503;
    for answer in answers.iter().filter(is_busy) {
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    crowded.resets_nobody(answers.len());
    assert!(answers.iter().any(|answer| is_busy(&answer)));
}

#[test]
fn whoever_made_room_and_asks_a_door_that_has_time_is_served() {
    // The crowd stays and asks nothing.
    let mut crowded = a_crowd_comes();
    let mut answers = Vec::new();
    for connection in &mut crowded.idle {
        if connection.try_send(&Ask::get("/nothing").bytes()) {
            answers.extend(connection.try_answer());
        }
    }
    // On a machine that is busy with other things the door may have no time for a few.
    let served = answers.iter().filter(|answer| answer.status == 404).count();
    let all = answers.len();
    assert!(served * 2 > all, "{served} of {all}");
}

#[test]
fn whoever_made_room_and_has_left_takes_no_busy_answer_from_others() {
    let mut crowded = a_crowd_comes();
    let told = "liangma_connections_rejected_total";
    let before = crowded.meter(told);
    // Their requests are late when they are found, and nobody waits for answers.
    crowded.node.halt();
    for mut connection in crowded.idle.drain(..) {
        connection.try_send(&Ask::get("/nothing").bytes());
    }
    std::thread::sleep(Duration::from_millis(40));
    crowded.node.signal(libc::SIGCONT);
    // The crowd goes too, so that the door looks at all who made room, and needs none of their places.
    crowded.crowd.clear();
    until("nobody has to make room any more", || {
        crowded.frozen() == 0.0
    });
    assert_eq!(crowded.meter(told), before);
}

#[test]
fn whoever_has_left_the_queue_takes_no_busy_answer_from_who_stays() {
    const LEFT: usize = 60;
    let settings = ["resident_connections_max=1", "busy_cpu_percent=0"];
    let ask = Ask::get("/v1/code").bytes();
    // On a machine that is busy with other things the one inside may be idle for so long that it makes room.
    until("who stays finds no room", || {
        let node = NodeBuilder::new(&settings).node();
        let address = node.address(Door::Resident);
        let meter = |name: &str| node.meter(&format!("{name}{{door=\"resident\"}}"));
        let mut inside = Connection::to(address);
        inside.send(&ask);
        assert_eq!(inside.answer().status, 401);
        // Their requests are late when the door finds them.
        node.halt();
        for _ in 0..LEFT {
            Connection::to(address).send(&ask);
        }
        let mut stays = Connection::to(address);
        stays.send(&ask);
        std::thread::sleep(Duration::from_millis(200));
        node.signal(libc::SIGCONT);
        let answer = stays.answer();
        if answer.status != 503 {
            return false;
        }
        answer.refuses(503, "busy");
        let told = "liangma_connections_rejected_total";
        until("the answer is counted", || meter(told) > 0.0);
        let left = "liangma_connections_left_total{door=\"resident\",request=\"late\"}";
        assert_eq!([meter(told), node.meter(left)], [1.0, LEFT as f64]);
        true
    });
}

/// A node with a crowd, some of which had to make room.
struct Crowded {
    node: Node,
    /// Two hundred who were idle before the crowd came.
    idle: Vec<Connection>,
    crowd: Vec<Connection>,
}

impl Crowded {
    /// What the residents' door counted under this name.
    fn meter(&self, name: &str) -> f64 {
        self.node.meter(&format!("{name}{{door=\"resident\"}}"))
    }

    /// How many connections had to make room.
    fn frozen(&self) -> f64 {
        self.meter("liangma_connections_frozen")
    }

    /// All who were idle got an answer, or were closed for a reason.
    #[track_caller]
    fn resets_nobody(&self, answers: usize) {
        let closed = |reason| {
            let labels = format!("{{door=\"resident\",reason=\"{reason}\"}}");
            let name = format!("liangma_connections_closed_total{labels}");
            self.node.meter(&name)
        };
        let closed = ["evicted", "idle", "untold"].map(closed);
        assert!(
            answers as f64 + closed.iter().sum::<f64>() >= 200.0,
            "{answers} answers, {closed:?} closed"
        );
    }
}

/// Two hundred who are idle, then a crowd that is too many and asks no more. On a machine that is busy with other things the next one
/// may be too many.
fn a_crowd_comes() -> Crowded {
    let mut found = None;
    until("a crowd came, and some had to make room", || {
        found = a_crowd_tries();
        // All answers are counted by then.
        std::thread::sleep(Duration::from_millis(200));
        found.as_ref().is_some_and(|crowded| crowded.frozen() > 0.0)
    });
    found.expect("just seen")
}

/// As [`a_crowd_comes`]; None if nobody was seen to make room.
fn a_crowd_tries() -> Option<Crowded> {
    let node = NodeBuilder::new(&["resident_threads=1", "queue_delay_target=5ms"]).node();
    let address = node.address(Door::Resident);
    let ask = || Ask::get("/nothing").bytes();
    let open = |count| -> Vec<Connection> {
        let mut inside = Vec::new();
        until("all are let in", || {
            let mut connection = Connection::to(address);
            let answer = connection.try_send(&ask()).then(|| connection.try_answer());
            if answer.flatten().is_some_and(|answer| answer.status == 404) {
                inside.push(connection);
            }
            inside.len() == count
        });
        inside
    };
    let idle = open(200);
    std::thread::sleep(Duration::from_millis(1_500));
    let mut crowded = Crowded {
        crowd: open(100),
        node,
        idle,
    };
    let evicted = evicted("resident");
    // A machine that stops again and again is too slow for so many.
    while crowded.frozen() == 0.0 {
        if crowded.crowd.is_empty() || crowded.node.meter(&evicted) > 0.0 {
            return None;
        }
        crowded.node.signal(libc::SIGSTOP);
        crowded
            .crowd
            .retain_mut(|connection| connection.try_send(&ask()));
        std::thread::sleep(Duration::from_millis(40));
        crowded.node.signal(libc::SIGCONT);
        crowded.crowd.retain_mut(|connection| {
            let answer = connection.try_answer();
            answer.is_some_and(|answer| answer.header("connection") != Some("close"))
        });
    }
    Some(crowded)
}

/// How often each thread of a node's doors gave up the processor by itself so far.
fn wakes(node: &Node) -> Vec<(String, u64)> {
    let folder = format!("/proc/{}/task", node.pid());
    let tasks = std::fs::read_dir(folder).expect("it runs").flatten();
    let threads = tasks.filter_map(|task| {
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let name = field("Name:")?.trim().to_owned();
        let wakes = field("voluntary_ctxt_switches:")?.trim().parse().ok()?;
        let is_door = Door::ALL.iter().any(|door| name.starts_with(door.name()));
        is_door.then_some((name, wakes))
    });
    let mut threads: Vec<_> = threads.collect();
    threads.sort();
    threads
}

/// How often each of them did within so long.
fn wakes_within(node: &Node, time: Duration) -> Vec<(String, u64)> {
    let before = wakes(node);
    std::thread::sleep(time);
    let pairs = wakes(node).into_iter().zip(before);
    pairs.map(|(now, then)| (now.0, now.1 - then.1)).collect()
}

#[test]
fn a_door_that_nobody_asks_sleeps_and_is_awake_for_who_comes() {
    let node = NodeBuilder::new(&[
        "queue_delay_target=5ms",
        "resident_threads=2",
        "head_timeout=2s",
    ])
    .node();
    let session = node.seals().session(&person(1));
    let ask = Ask::get("/v1/code").bearer(&session).bytes();
    let mut kept = Connection::to(node.address(Door::Resident));
    for _ in 0..2 {
        // Connections that rest are no work.
        kept.send(&ask);
        assert_eq!(kept.answer().status, 200);
        // It falls asleep, and goes on sleeping.
        until("no thread wakes often", || {
            let counts = wakes_within(&node, Duration::from_secs(1));
            counts.iter().all(|(_, wakes)| *wakes < 16)
        });
        let counts = wakes_within(&node, Duration::from_secs(4));
        assert!(counts.len() >= 5, "{counts:?}");
        // Seven were measured, and 140 of a door that is awake.
        assert!(counts.iter().all(|(_, wakes)| *wakes < 16), "{counts:?}");
        // Time-outs go on by the right clock: a head that has begun after a long rest has all of its time, and no more.
        let mut slow = Connection::to(node.address(Door::Resident));
        slow.send("GET /nothing HTTP/1.1\r\nhost: test\r\n");
        std::thread::sleep(Duration::from_millis(100));
        slow.send("\r\n");
        slow.answer().refuses(404, "not_found");
        let mut begun = Connection::to(node.address(Door::Resident));
        begun.send("GET /nothing HTTP/1.1\r\n");
        assert_eq!(begun.ended(), b"");
        // The wait in the kernel is seen at once.
        let wait = "liangma_queue_delay_seconds{door=\"resident\",quantile=\"0.99\"}";
        node.halt();
        kept.send(&ask);
        std::thread::sleep(Duration::from_millis(40));
        node.signal(libc::SIGCONT);
        assert_eq!(kept.answer().status, 200);
        until("the wait is told", || node.meter(wait) >= 0.02);
        // On a machine that is busy with other things the next one may wait as well.
        until("one that does not wait is told as well", || {
            kept.send(&ask);
            assert_eq!(kept.answer().status, 200);
            node.meter(wait) < 0.02
        });
    }
}

#[test]
fn a_door_with_room_evicts_nobody_and_keeps_its_cap() {
    let node = NodeBuilder::new(&["gate_connections_max=8"]).node();
    let mut idle = Connection::to(node.address(Door::Gate));
    idle.send(Ask::get("/nothing").bytes());
    idle.answer().refuses(404, "not_found");
    for _ in 0..20 {
        node.get(Door::Gate, "/nothing").refuses(404, "not_found");
        std::thread::sleep(Duration::from_millis(100));
    }
    idle.send(Ask::get("/nothing").bytes());
    idle.answer().refuses(404, "not_found");
    assert_eq!(node.meter(&evicted("gate")), 0.0);
    let meter = |name: &str| node.meter(&format!("{name}{{door=\"gate\"}}"));
    assert_eq!(meter("liangma_connections_limit"), 8.0);
    assert_eq!(meter("liangma_retry_after_seconds"), 2.0);
}

#[test]
fn whoever_sends_many_requests_at_once_is_answered_all_of_them_in_order() {
    let node = NodeBuilder::new(&[]).node();
    let session = node.seals().session(&person(1));
    let mut many = Connection::to(node.address(Door::Resident));
    let (known, unknown) = (Ask::get("/v1/code").bearer(&session), Ask::get("/nothing"));
    let pair = [known.bytes(), unknown.bytes()].concat();
    many.send(pair.repeat(50));
    for _ in 0..50 {
        assert_eq!(many.answer().status, 200);
        assert_eq!(many.answer().status, 404);
    }
}

/// Sends `ask` on new connections until it is told to stop, and reads nothing.
struct Flood {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    fn of(address: SocketAddr, bytes: &'static [u8]) -> Flood {
        let stopped = Arc::new(AtomicBool::new(false));
        let until = stopped.clone();
        let thread = std::thread::spawn(move || {
            let mut held = VecDeque::new();
            while !until.load(SeqCst) {
                if let Some(mut connection) = Connection::try_to(address) {
                    let _ = connection.try_send(bytes);
                    held.push_back(connection);
                }
                if held.len() > 64 {
                    held.pop_front();
                }
                // Enough to keep the door full, and to leave the machine to others.
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Flood {
            stopped,
            thread: Some(thread),
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn a_flood_of_silent_half_begun_or_malformed_connections_does_not_shut_out_gates() {
    const GATES: usize = 10;
    let settings = ["gate_connections_max=16", "busy_answers_per_second=0"];
    let node = NodeBuilder::new(&settings).node();
    let seals = node.seals();
    let (session, scanner) = (seals.session(&person(1)), seals.scanner());
    let address = node.address(Door::Gate);
    for bytes in [
        &b""[..],
        b"POST /v1/scan HTTP/1.1\r\nhost: x\r\n",
        b"\x16\x03\x01rubbish\r\n\r\n",
    ] {
        let _flood = Flood::of(address, bytes);
        let mut tries = 0;
        for _ in 0..GATES {
            let ask = Ask::post("/v1/scan", node.code(&session)).bearer(&scanner);
            until("a gate is served", || {
                tries += 1;
                let mut gate = Connection::to(address);
                gate.try_send(&ask.bytes())
                    && gate.try_answer().is_some_and(|answer| answer.status == 200)
            });
        }
        // Each at its first try, where the machine has time for it.
        assert!(tries <= 2 * GATES, "{tries}");
    }
}

/// Asks on one connection after the other until it is told to stop, and crowds the door with eleven silent ones more than itself.
/// Fails if an answer ends within its head or body.
fn crowds(address: SocketAddr, ask: &[u8], stopped: &AtomicBool) {
    while !stopped.load(SeqCst) {
        let Some(mut asking) = Connection::try_to(address) else {
            continue;
        };
        let _crowd: Vec<_> = (0..11).map(|_| Connection::try_to(address)).collect();
        while asking.try_send(ask)
            && asking
                .try_answer()
                .is_some_and(|answer| answer.status == 200)
        {}
    }
}

#[test]
fn a_drain_in_a_crowd_answers_whatever_was_sent_before_it_and_ends() {
    const INSIDE: usize = 6;
    // More than are taken in or refused before the doors close.
    const NEWCOMERS: usize = 60;
    for drain_delay in ["drain_delay=0ms", "drain_delay=0ms", "drain_delay=100ms"] {
        let node = NodeBuilder::new(&[
            drain_delay,
            "resident_connections_max=64",
            // On a machine that is busy with other things requests wait for long, which is no overload.
            "queue_delay_target=5s",
        ])
        .node();
        let session = node.seals().session(&person(1));
        let address = node.address(Door::Resident);
        let ask = Ask::get("/v1/code").bearer(&session).bytes();
        let is_served = |connection: &mut Connection| {
            let answer = connection.try_send(&ask).then(|| connection.try_answer());
            answer.flatten().is_some_and(|answer| answer.status == 200)
        };
        let stopped = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _stops = SetOnDrop(&stopped);
            for _ in 0..INSIDE {
                scope.spawn(|| crowds(address, &ask, &stopped));
            }
            let mut inside: Vec<Connection> = Vec::new();
            let refused = || node.meter("liangma_connections_rejected_total{door=\"resident\"}");
            until("some are inside, and others are turned away", || {
                inside.resize_with(INSIDE, || Connection::to(address));
                inside.retain_mut(is_served);
                inside.len() == INSIDE && refused() > 0.0
            });
            // Nothing of these is read before the drain begins. One that has ended meanwhile is no more inside.
            node.halt();
            inside.retain(|connection| connection.is_quiet_for(Duration::from_millis(1)));
            assert!(!inside.is_empty(), "they asked a moment ago");
            let mut newcomers: Vec<_> = (0..NEWCOMERS).map(|_| Connection::to(address)).collect();
            for connection in inside.iter_mut().chain(&mut newcomers) {
                connection.send(&ask);
            }
            node.signal(libc::SIGTERM);
            node.signal(libc::SIGCONT);
            for connection in &mut inside {
                assert_eq!(connection.answer().status, 200);
            }
            for connection in &mut newcomers {
                let answer = connection.answer();
                if answer.status != 200 {
                    answer.refuses(503, "busy");
                }
            }
            assert_eq!(node.end().code(), Some(0));
        });
    }
}

#[test]
fn whoever_is_told_that_it_is_busy_leaves_nothing_behind() {
    let node = NodeBuilder::new(&["resident_connections_max=1"]).node();
    let address = node.address(Door::Resident);
    let session = node.seals().session(&person(1));
    let known = Ask::get("/v1/code").bearer(&session);
    let mut inside = Connection::to(address);
    let descriptors = || {
        let folder = format!("/proc/{}/fd", node.pid());
        std::fs::read_dir(folder).expect("it runs").count()
    };
    let told = || node.meter("liangma_connections_rejected_total{door=\"resident\"}");
    let mut turn = || {
        // Whoever goes on asking stays.
        inside.send(known.bytes());
        assert_eq!(inside.answer().status, 200);
        let mut newcomer = Connection::to(address);
        newcomer.send(Ask::get("/v1/code").bytes());
        newcomer.answer().refuses(503, "busy");
    };
    turn();
    // Counted a moment after it is told.
    until("the first is counted", || told() == 1.0);
    let before = descriptors();
    for _ in 0..60 {
        turn();
    }
    until("all are counted", || told() >= 61.0);
    assert_eq!(told(), 61.0);
    until("all are gone", || descriptors() <= before);
}
