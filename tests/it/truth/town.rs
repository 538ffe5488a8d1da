//! The nodes and the Redis servers of a run, and the steps by which they are harmed and healed.

use super::rng::Rng;
use super::world::{NODES, Place, World};
use crate::harness::{Doors, Node, NodeBuilder, Ring, run};
use crate::redis::{Backup, Cluster, Relay, Server, Watched};
use liangma::http::door::Door;
use liangma::store::redis::partition::{self, PARTITIONS};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;
use std::time::Duration;

/// What the nodes' statuses are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Single,
    Watched,
    Cluster,
}

enum Store {
    Single(Server),
    Watched(Watched),
    Cluster(Cluster),
}

/// One harm or its healing. Servers, nodes and relays by their number.
#[derive(Clone, Debug)]
pub enum Step {
    Kill(usize),
    Restart(usize),
    Freeze(usize),
    Thaw(usize),
    FreezeSentinel(usize),
    ThawSentinel(usize),
    /// To a server, whatever it answers.
    Ask(usize, Vec<String>),
    /// Throws the streams of these partitions away.
    Trim(Vec<usize>),
    Wait,
    /// To a sentinel.
    AskSentinel(usize, Vec<String>),
    BeginMove(u16, usize),
    MoveKeys(u16, usize, usize),
    FinishMove(u16, usize),
    /// So many more bytes to the last node.
    Cut(usize),
    Silence,
    /// No new connections to it, and the old ones cut.
    Refuse,
    /// By so many milliseconds, on so many connections to come.
    Straggle(u64, usize),
    Pass,
    KillNode(usize),
    /// Asks it to leave.
    EndNode(usize),
    StartNode(usize),
    FreezeNode(usize),
    ThawNode(usize),
    /// The data of a server that is killed are gone, or those of the backup.
    Empty(usize),
    Restore(usize),
}

pub struct Town<'s> {
    store: Store,
    /// Between the last node and what its address names.
    relays: Vec<Relay>,
    ring: &'s Ring,
    replicas: Option<u32>,
    nodes: [Option<Node>; NODES],
    /// Processes that were started, of all nodes.
    processes: usize,
    /// Those whose doors are not open yet.
    starting: [bool; NODES],
    started: (Sender<Started>, Receiver<Started>),
    backup: Option<Backup>,
    frozen: HashSet<usize>,
}

struct Started {
    nth: usize,
    process: usize,
    /// None: it ended, and opened no door.
    node: Option<Node>,
}

/// Short, so that a run of seconds has seen every age.
pub const STALE_AFTER: u64 = 1_000;
pub const TOO_OLD_AFTER: u64 = 3_000;

/// Who becomes whose replica when is told only then.
const LOGGED: [&str; 1] = ["loglevel notice"];

/// Lines of each log that are told beside a lie.
const LOG_LINES: usize = 100;

impl<'s> Town<'s> {
    pub fn build(over: Over, ring: &'s Ring, replicas: Option<u32>) -> Town<'s> {
        let store = match over {
            Over::Single => Store::Single(Server::start(&LOGGED)),
            Over::Watched => Store::Watched(Watched::start(2, &LOGGED)),
            Over::Cluster => Store::Cluster(Cluster::start(3, 1, &LOGGED)),
        };
        let relays = match &store {
            Store::Single(server) => vec![Relay::start(server.address())],
            Store::Watched(watched) => {
                let sentinels = watched.sentinels.iter();
                sentinels
                    .map(|sentinel| Relay::start(sentinel.address()))
                    .collect()
            }
            // A cluster's nodes tell their own addresses.
            Store::Cluster(_) => Vec::new(),
        };
        Town {
            store,
            relays,
            ring,
            replicas,
            nodes: [const { None }; NODES],
            processes: 0,
            starting: [false; NODES],
            started: channel(),
            backup: None,
            frozen: HashSet::new(),
        }
    }

    pub fn url(&self) -> String {
        match &self.store {
            Store::Single(server) => server.url(),
            Store::Watched(watched) => watched.url(),
            Store::Cluster(cluster) => cluster.url(),
        }
    }

    fn url_of(&self, node: usize) -> String {
        let relays: Vec<String> = self
            .relays
            .iter()
            .map(|r| r.address().to_string())
            .collect();
        match &self.store {
            Store::Cluster(cluster) => cluster.url(),
            _ if node + 1 < NODES => self.url(),
            Store::Single(_) => self.relays[0].url(),
            Store::Watched(_) => format!("redis+sentinel://{}/liangma", relays.join(",")),
        }
    }

    pub fn servers(&self) -> &[Server] {
        match &self.store {
            Store::Single(server) => std::slice::from_ref(server),
            Store::Watched(watched) => &watched.servers,
            Store::Cluster(cluster) => &cluster.servers,
        }
    }

    fn server(&mut self, nth: usize) -> &mut Server {
        match &mut self.store {
            Store::Single(server) => server,
            Store::Watched(watched) => &mut watched.servers[nth],
            Store::Cluster(cluster) => &mut cluster.servers[nth],
        }
    }

    fn sentinel(&self, nth: usize) -> Option<&Server> {
        match &self.store {
            Store::Watched(watched) => watched.sentinels.get(nth),
            _ => None,
        }
    }

    /// One of the primaries.
    pub fn primary(&self, rng: &mut Rng) -> usize {
        match &self.store {
            Store::Single(_) => 0,
            Store::Watched(watched) => watched.primary(),
            Store::Cluster(cluster) => {
                let slot = partition::slot(rng.below(PARTITIONS));
                cluster.primary_of(slot)
            }
        }
    }

    /// Whether a change is acknowledged only when every replica has it.
    pub fn all_are_waited_for(&self) -> bool {
        self.replicas.unwrap_or(1) as usize + 1 >= self.servers().len()
    }

    pub fn replicas_of(&self, primary: usize) -> Vec<usize> {
        let info = self.servers()[primary].info("replication");
        let ports = info.lines().filter(|line| line.starts_with("slave"));
        let ports = ports.filter_map(|line| line.split("port=").nth(1)?.split(',').next());
        let ports: Vec<u16> = ports.filter_map(|port| port.parse().ok()).collect();
        let servers = self.servers().iter().enumerate();
        let named = servers.filter(|(_, server)| ports.contains(&server.port()));
        named.map(|(nth, _)| nth).collect()
    }

    pub fn cluster(&self) -> Option<&Cluster> {
        match &self.store {
            Store::Cluster(cluster) => Some(cluster),
            _ => None,
        }
    }

    /// Whether every server runs, every primary is followed by all of its replicas, and all agree on who is who.
    pub fn is_settled(&self) -> bool {
        match &self.store {
            Store::Single(server) => server.is_primary(),
            Store::Watched(watched) => {
                let sentinels = watched.sentinels.iter();
                let mut told = sentinels.map(|sentinel| {
                    sentinel.try_ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "liangma"])
                });
                let first = told.next().flatten();
                let agree = first.is_some() && told.all(|other| other == first);
                let count = watched.servers.len() - 1;
                let primary = watched.try_primary();
                agree
                    && primary.is_some_and(|nth| watched.servers[nth].is_followed(count))
                    && watched.servers.iter().filter(|s| s.follows()).count() == count
            }
            Store::Cluster(cluster) => {
                let servers = || cluster.servers.iter();
                servers().all(|server| {
                    let info = server.try_ask(&["CLUSTER", "INFO"]);
                    let whole = info.is_some_and(|info| info.starts_with("cluster_state:ok"));
                    whole && (server.is_followed(1) || server.follows())
                }) && servers().filter(|server| server.is_primary()).count() == 3
            }
        }
    }

    /// Takes in the nodes whose doors have opened since.
    pub fn greet(&mut self, world: &World) {
        while let Ok(started) = self.started.1.try_recv() {
            let Started { nth, process, node } = started;
            self.starting[nth] = false;
            let Some(node) = node else {
                world.lie(format!("node {nth} has opened no door, and ended"));
                return world.stop();
            };
            let doors = [Door::Resident, Door::Gate, Door::Desk, Door::Ops];
            let doors = doors.map(|door| node.address(door));
            world.note(format!(
                "node {nth} has opened its doors (process {process})"
            ));
            self.nodes[nth] = Some(node);
            world.moved(nth, Some(Place { process, doors }));
        }
    }

    /// A node that nobody ended, and that is no more.
    pub fn ended(&self) -> Option<usize> {
        self.nodes.iter().position(|node| {
            let stat = node
                .as_ref()
                .map(|node| format!("/proc/{}/stat", node.pid()));
            let stat = stat.and_then(|stat| std::fs::read_to_string(stat).ok());
            // The children of a test are waited for when they are dropped.
            stat.is_some_and(|stat| stat.contains(") Z "))
        })
    }

    pub fn are_all_open(&self) -> bool {
        self.nodes.iter().all(Option::is_some)
    }

    pub fn node(&self, nth: usize) -> Option<&Node> {
        self.nodes[nth].as_ref()
    }

    fn start_node<'scope, 'env>(&mut self, nth: usize, scope: &'scope Scope<'scope, 'env>) {
        if self.nodes[nth].is_some() || self.starting[nth] {
            return;
        }
        self.processes += 1;
        self.starting[nth] = true;
        let process = self.processes;
        let mut settings = vec![
            format!("stale_after={STALE_AFTER}ms"),
            format!("too_old_after={TOO_OLD_AFTER}ms"),
            "code_life=10m".to_owned(),
            "gate_reasons=all".to_owned(),
            "store_timeout=2s".to_owned(),
            "store_read_timeout=1s".to_owned(),
            "board_shards=16".to_owned(),
            "resident_threads=1".to_owned(),
            "gate_threads=1".to_owned(),
        ];
        settings.extend(self.replicas.map(|count| format!("store_replicas={count}")));
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let starting = NodeBuilder::new(&settings)
            .over_redis(&self.url_of(nth), self.ring)
            .starting();
        let started = self.started.0.clone();
        // It opens no door before it has reached the store, and that may be away.
        scope.spawn(move || {
            let node = catch_unwind(AssertUnwindSafe(|| starting.open())).ok();
            let _ = started.send(Started { nth, process, node });
        });
    }

    pub fn take<'scope, 'env>(
        &mut self,
        step: &Step,
        world: &World,
        scope: &'scope Scope<'scope, 'env>,
    ) {
        match step {
            Step::Kill(nth) => self.server(*nth).kill(),
            Step::Restart(nth) => self.server(*nth).restart(),
            Step::Freeze(nth) => {
                self.frozen.insert(*nth);
                self.servers()[*nth].freeze();
            }
            Step::Thaw(nth) => {
                self.frozen.remove(nth);
                self.servers()[*nth].thaw();
            }
            Step::Wait => {}
            Step::Trim(partitions) => {
                // Whoever does not hold a stream, or is no primary, declines.
                for (nth, server) in self.servers().iter().enumerate() {
                    for partition in partitions {
                        let stream = partition::stream(*partition);
                        if !self.frozen.contains(&nth) {
                            server.try_ask(&["XTRIM", &stream, "MAXLEN", "0"]);
                        }
                    }
                }
            }
            Step::FreezeSentinel(nth) => {
                self.sentinel(*nth).map(Server::freeze);
            }
            Step::ThawSentinel(nth) => {
                self.sentinel(*nth).map(Server::thaw);
            }
            Step::Ask(nth, command) => {
                let words: Vec<&str> = command.iter().map(String::as_str).collect();
                self.servers()[*nth].try_ask(&words);
            }
            Step::AskSentinel(nth, command) => {
                let words: Vec<&str> = command.iter().map(String::as_str).collect();
                let said = self.sentinel(*nth).and_then(|s| s.try_ask(&words));
                world.note(format!("the sentinel says {said:?}"));
            }
            Step::BeginMove(slot, to) => self.in_cluster(|c| c.begin_move(*slot, *to)),
            Step::MoveKeys(slot, to, most) => self.in_cluster(|c| {
                c.move_keys(*slot, *to, *most);
            }),
            Step::FinishMove(slot, to) => self.in_cluster(|c| c.finish_move(*slot, *to)),
            Step::Cut(bytes) => self.relays.iter().for_each(|relay| relay.cut_after(*bytes)),
            Step::Silence => self.relays.iter().for_each(Relay::silence),
            Step::Refuse => self.relays.iter().for_each(|relay| {
                relay.refuse();
                relay.cut_after(0);
            }),
            Step::Straggle(ms, connections) => self
                .relays
                .iter()
                .for_each(|relay| relay.straggle(Duration::from_millis(*ms), *connections)),
            Step::Pass => self.relays.iter().for_each(Relay::pass),
            Step::KillNode(nth) => {
                self.nodes[*nth] = None;
                world.moved(*nth, None);
            }
            Step::EndNode(nth) => {
                if let Some(node) = self.nodes[*nth].take() {
                    node.signal(libc::SIGTERM);
                    let status = node.end();
                    world.moved(*nth, None);
                    if !status.success() {
                        world.lie(format!("node {nth} left with {status}"));
                    }
                }
            }
            Step::StartNode(nth) => self.start_node(*nth, scope),
            Step::FreezeNode(nth) => self.signal(*nth, libc::SIGSTOP),
            Step::ThawNode(nth) => self.signal(*nth, libc::SIGCONT),
            Step::Empty(nth) => self.server(*nth).empty(),
            Step::Restore(nth) => {
                if let Some(backup) = self.backup.take() {
                    self.server(*nth).restore(&backup);
                }
            }
        }
    }

    fn in_cluster(&self, act: impl FnOnce(&Cluster)) {
        if let Store::Cluster(cluster) = &self.store {
            act(cluster);
        }
    }

    fn signal(&self, nth: usize, signal: i32) {
        if let Some(node) = &self.nodes[nth] {
            node.signal(signal);
        }
    }

    pub fn back_up(&mut self, nth: usize) {
        self.backup = Some(self.servers()[nth].keep());
    }

    /// All that is on record, as lines.
    pub fn export(&self) -> Vec<String> {
        let keys = self.ring.file.to_str().expect("UTF-8");
        let output = run(&["export", "--store", &self.url(), "--keys", keys]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let lines = String::from_utf8(output.stdout).expect("UTF-8");
        lines.lines().map(str::to_owned).collect()
    }

    /// The end of what all processes that run have logged.
    pub fn logs(&self) -> String {
        let nodes = self
            .nodes
            .iter()
            .flatten()
            .map(|node| ("a node", node.log()));
        let servers = self.servers().iter();
        let servers =
            servers.map(|server| ("a server", format!("{}\n{}", server.url(), server.log())));
        let sentinels = (0..3).filter_map(|nth| self.sentinel(nth));
        let sentinels = sentinels.map(|sentinel| ("a sentinel", sentinel.log()));
        let logs = nodes.chain(servers).chain(sentinels);
        logs.map(|(whose, log)| {
            let lines: Vec<&str> = log.lines().collect();
            let first = lines.len().saturating_sub(LOG_LINES);
            format!("---- {whose}\n{}\n", lines[first..].join("\n"))
        })
        .collect()
    }
}

impl Town<'_> {
    /// Ends all nodes. One that still waits for its store has no handle here but its key ring.
    pub fn end(&mut self) {
        self.nodes = [const { None }; NODES];
        let ours = self.ring.file.display().to_string();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        for process in processes {
            let path = process.path();
            let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
            let parent = stat
                .rsplit(") ")
                .next()
                .and_then(|rest| rest.split(' ').nth(1));
            let line = std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
            if parent == Some(&std::process::id().to_string()) && line.contains(&ours) {
                let pid = process.file_name().to_string_lossy().parse();
                // SAFETY: a bare system call; a child of ours.
                unsafe { libc::kill(pid.expect("a number"), libc::SIGKILL) };
            }
        }
    }
}
