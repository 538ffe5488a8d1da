//! Faults of Redis: what residents, scanners and feeders get meanwhile, that all is well again by itself, and what is lost.

mod cluster;
mod connection;
mod loss;
mod process;
mod sentinel;

use crate::harness::*;
use crate::redis::Server;
use liangma::http::door::Door;
use liangma::store::redis::partition::{self, PARTITIONS};
use serde_json::json;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What the nodes of a town are told beside where the store is: nobody waits long for one that is away.
const SETTINGS: [&str; 4] = [
    "store_timeout=700ms",
    "resident_threads=1",
    "gate_threads=1",
    "code_life=10m",
];

/// Some nodes over one Redis, and people of whom they know.
pub struct Town {
    url: String,
    settings: Vec<String>,
    pub ring: Ring,
    pub nodes: Vec<Node>,
    authority: String,
    scanner: String,
    /// Each with the colour that was acknowledged.
    known: Vec<Known>,
    /// One of each partition whose colour goes to and fro, to see whether feeds reach every board.
    probes: Vec<Person>,
    turn: AtomicU64,
    next: AtomicUsize,
}

#[derive(Clone)]
struct Known {
    person: Person,
    session: String,
    colour: &'static str,
}

/// What was fed while something was broken: people set red, one by one.
pub struct Meanwhile {
    pub taken: usize,
    /// Of whom nobody can say whether they were.
    pub refused: Vec<Person>,
    /// Shows and scans that were answered, each rightly.
    pub asked: usize,
}

impl Town {
    /// Two nodes, and of each partition one who is red and one who was.
    #[track_caller]
    pub fn over(url: &str) -> Town {
        Town::with(url, 2, &[])
    }

    #[track_caller]
    pub fn with(url: &str, nodes: usize, settings: &[&str]) -> Town {
        let ring = Ring::make();
        let mut town = Town {
            url: url.to_owned(),
            settings: [&SETTINGS, settings]
                .concat()
                .iter()
                .map(ToString::to_string)
                .collect(),
            nodes: Vec::new(),
            authority: ring.seals.authority(),
            scanner: ring.seals.scanner(),
            known: Vec::new(),
            probes: Vec::new(),
            turn: AtomicU64::new(1),
            next: AtomicUsize::new(0),
            ring,
        };
        let starting: Vec<Starting> = (0..nodes).map(|_| town.start_at(url).starting()).collect();
        town.nodes.extend(starting.into_iter().map(Starting::open));
        town.until_ready();
        for partition in 0..PARTITIONS {
            let [red, green, probe] = std::array::from_fn(|_| town.newcomer(partition));
            let fed = [
                red.resident(),
                red.set("suspected", 1),
                green.resident(),
                green.set("close_contact", 1),
                green.clear("close_contact", 2),
            ];
            town.feed(&fed);
            town.know(red, "red");
            town.know(green, "green");
            town.probes.push(probe);
        }
        until("every node knows", || {
            town.nodes.iter().all(|node| town.is_told_by(node))
        });
        town
    }

    /// A node of this town, perhaps by another way to the same store.
    pub fn start_at(&self, url: &str) -> NodeBuilder {
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        NodeBuilder::new(&settings).over_redis(url, &self.ring)
    }

    #[track_caller]
    fn until_ready(&self) {
        until("every node is ready", || {
            let mut nodes = self.nodes.iter();
            nodes.all(|node| node.get(Door::Ops, "/ready").status == 200)
        });
    }

    pub fn partition(&self, person: &Person) -> usize {
        partition::of(self.ring.seals.who(person).0.home)
    }

    /// Somebody new in a partition.
    pub fn newcomer(&self, partition: usize) -> Person {
        loop {
            let person = self.anybody();
            if self.partition(&person) == partition {
                return person;
            }
        }
    }

    pub fn anybody(&self) -> Person {
        person(self.next.fetch_add(1, Relaxed))
    }

    /// From now on every node must tell this.
    pub fn know(&mut self, person: Person, colour: &'static str) {
        let session = self.ring.seals.session(&person);
        self.known
            .retain(|known| known.person.cert_no != person.cert_no);
        self.known.push(Known {
            person,
            session,
            colour,
        });
    }

    /// Everybody of whom every node knows, and the colour.
    pub fn known(&self) -> impl Iterator<Item = (&Person, &'static str)> {
        self.known.iter().map(|known| (&known.person, known.colour))
    }

    /// Feeds to the first node what must be taken in the end; on a busy machine Redis may be slower than `store_timeout`.
    #[track_caller]
    pub fn feed(&self, lines: &[String]) {
        until("a feed is taken", || {
            let fed = self.try_feed(lines);
            if fed.status != 200 {
                fed.refuses(503, "upstream_busy");
                return false;
            }
            assert_eq!(fed.json()["rejected"], json!([]), "{}", text(&fed.body));
            true
        });
    }

    pub fn try_feed(&self, lines: &[String]) -> Answer {
        self.nodes[0].post_feed(&self.authority, lines.join("\n"))
    }

    /// Whether feeds are refused, for one of a partition.
    #[track_caller]
    pub fn is_refused(&self, partition: usize) -> bool {
        let answer = self.try_feed(&[self.probes[partition].resident()]);
        let refused = answer.status != 200;
        if refused {
            answer.refuses(503, "upstream_busy");
        }
        refused
    }

    /// All that made the known what they are, in one feed.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.known.iter().flat_map(|known| {
            let person = &known.person;
            match known.colour {
                "red" => vec![person.resident(), person.set("suspected", 1)],
                _ => vec![
                    person.resident(),
                    person.set("close_contact", 1),
                    person.clear("close_contact", 2),
                ],
            }
        });
        lines.collect()
    }

    /// The state that a node shows.
    #[track_caller]
    pub fn state(&self, node: &Node, person: &Person) -> String {
        node.show(&self.ring.seals.session(person)).state()
    }

    /// Whether a node tells all that is known, and none of it is stale.
    pub fn is_told_by(&self, node: &Node) -> bool {
        let mut resident = Connection::to(node.address(Door::Resident));
        self.known.iter().all(|known| {
            resident.send(Ask::get("/v1/code").bearer(&known.session).bytes());
            let shown = resident.answer();
            if shown.status != 200 {
                return false;
            }
            let shown = shown.json();
            shown["state"] == known.colour && shown["stale"] != true
        })
    }

    /// Whether every node tells all that is known, and is fresh, ready or not: beside a store whose clock is wrong nobody is.
    pub fn is_told(&self) -> bool {
        self.nodes.iter().all(|node| self.is_told_by(node))
    }

    /// Whether every node is ready, tells all that is known, and is fresh.
    pub fn is_fresh(&self) -> bool {
        self.nodes
            .iter()
            .all(|node| node.get(Door::Ops, "/ready").status == 200 && self.is_told_by(node))
    }

    /// Whether a feed to each partition is taken, and told by every node at once or a little later.
    fn is_fed(&self) -> bool {
        let turn = self.turn.fetch_add(1, Relaxed);
        let (action, colour) = match turn % 2 {
            0 => ("clear", "green"),
            _ => ("set", "red"),
        };
        let said = |probe: &Person| probe.said("home_isolation", action, turn).to_string();
        let lines: Vec<String> = self.probes.iter().map(said).collect();
        let fed = self.try_feed(&lines);
        if fed.status != 200 {
            fed.refuses(503, "upstream_busy");
            return false;
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        let told = |node: &Node| {
            let mut probes = self.probes.iter();
            probes.all(|probe| self.state(node, probe) == colour)
        };
        self.nodes.iter().all(|node| {
            while !told(node) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            told(node)
        })
    }

    /// Waits until nodes are fresh and tell what is known; how long after `since`.
    #[track_caller]
    pub fn fresh_after(&self, since: Instant) -> Duration {
        until("every node is fresh", || self.is_fresh());
        since.elapsed()
    }

    /// Waits until feeds are taken and told as well.
    #[track_caller]
    pub fn well_after(&self, since: Instant) -> Duration {
        until("feeds are taken and told", || self.is_fed());
        self.fresh_after(since)
    }

    /// Breaks something while residents, scanners and feeders come and go: nobody is ever told a wrong colour.
    ///
    /// What was acknowledged meanwhile is known from then on.
    #[track_caller]
    pub fn while_asked<T>(&mut self, act: impl FnOnce(&Town) -> T) -> (T, Meanwhile) {
        let town = &*self;
        let over = AtomicBool::new(false);
        let taken = Mutex::new(Vec::new());
        let refused = Mutex::new(Vec::new());
        let asked = AtomicUsize::new(0);
        let done = std::thread::scope(|scope| {
            let _over = SetOnDrop(&over);
            let (known, scanner) = (&town.known, &town.scanner);
            for node in &town.nodes {
                let (over, asked) = (&over, &asked);
                scope.spawn(move || ask_until(over, node, known, scanner, asked));
            }
            let (node, authority) = (&town.nodes[0], &town.authority);
            let next = &town.next;
            scope.spawn(|| feed_until(&over, node, authority, next, &taken, &refused));
            act(town)
        });
        let taken = taken.into_inner().unwrap();
        let meanwhile = Meanwhile {
            taken: taken.len(),
            refused: refused.into_inner().unwrap(),
            asked: asked.into_inner(),
        };
        for person in taken {
            self.know(person, "red");
        }
        (done, meanwhile)
    }

    /// Nobody knows of anything that was acknowledged and is gone.
    #[track_caller]
    pub fn has_lost_nothing(&self, refused: &[Person]) {
        // A node counts again after a lost connection; what is gone stays counted.
        until("no node knows more than the store", || {
            self.ahead().iter().all(|ahead| *ahead == 0.0)
        });
        self.is_all_kept(refused);
    }

    /// Starts a node over what the store has now: it must tell all that was acknowledged, and what was refused as the others do.
    #[track_caller]
    pub fn is_all_kept(&self, refused: &[Person]) {
        let node = self.start_at(&self.url).node();
        for known in &self.known {
            let state = self.state(&node, &known.person);
            assert_eq!(state, known.colour, "{}", known.person.cert_no);
        }
        for person in refused {
            // Redis may take what it was sent after the node has given up waiting for it.
            until("the nodes agree about whom a feed was refused", || {
                let state = self.state(&node, person);
                let mut nodes = self.nodes.iter();
                nodes.all(|other| self.state(other, person) == state)
            });
        }
    }

    /// The sum of some faults at every node, by its name.
    pub fn faults(&self, node: usize, names: &[&str]) -> f64 {
        let meters = names.iter().map(|name| {
            let meter = format!("liangma_store_faults_total{{fault=\"{name}\"}}");
            self.nodes[node].meter(&meter)
        });
        meters.sum()
    }

    /// Residents of whom each node knows more than the store.
    pub fn ahead(&self) -> Vec<f64> {
        let meter = |node: &Node| node.meter("liangma_board_lost_by_store");
        self.nodes.iter().map(meter).collect()
    }
}

/// Shows and scans of everybody in turn; none waits, none is refused, none has another colour.
fn ask_until(over: &AtomicBool, node: &Node, known: &[Known], scanner: &str, asked: &AtomicUsize) {
    let mut resident = Connection::to(node.address(Door::Resident));
    let mut gate = Connection::to(node.address(Door::Gate));
    for known in known.iter().cycle() {
        if over.load(Relaxed) {
            return;
        }
        let cert_no = &known.person.cert_no;
        resident.send(Ask::get("/v1/code").bearer(&known.session).bytes());
        let shown = resident.answer();
        assert_eq!(shown.state(), known.colour, "{cert_no}");
        let shown = shown.json();
        let code = shown["code"].as_str().expect("a code");
        gate.send(Ask::post("/v1/scan", code).bearer(scanner).bytes());
        assert_eq!(gate.answer().state(), known.colour, "{cert_no}");
        asked.fetch_add(2, Relaxed);
        // Two cores are shared with the servers.
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// New people, who are red from the first on; each feed is taken, or refused as a busy store refuses.
fn feed_until(
    over: &AtomicBool,
    node: &Node,
    authority: &str,
    next: &AtomicUsize,
    taken: &Mutex<Vec<Person>>,
    refused: &Mutex<Vec<Person>>,
) {
    let mut back = Connection::to(node.address(Door::Ops));
    while !over.load(Relaxed) {
        let person = person(next.fetch_add(1, Relaxed));
        let ask = Ask::post("/v1/feed", person.set("suspected", 1)).bearer(authority);
        back.send(ask.bytes());
        let answer = back.answer();
        if answer.status == 200 {
            assert_eq!(answer.json()["applied"], json!(1), "{}", person.cert_no);
            taken.lock().unwrap().push(person);
        } else {
            answer.refuses(503, "upstream_busy");
            refused.lock().unwrap().push(person);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A row for the table in the README.
fn report(fault: &str, fresh: Option<Duration>, well: Duration, meanwhile: &Meanwhile) {
    let fresh = fresh.map_or(String::new(), |fresh| format!(", fresh after {fresh:.1?}"));
    eprintln!(
        "FAULT {fault}{fresh}, well after {well:.1?}; {} shows and scans, {} feeds taken, {} refused",
        meanwhile.asked,
        meanwhile.taken,
        meanwhile.refused.len(),
    );
}

/// A pattern of all keys of a partition.
fn keys_of(partition: usize) -> String {
    let meta = partition::meta(partition);
    format!("{}*", &meta[..meta.len() - 1])
}

/// Deletes the keys of a pattern inside the server, because not all of them are text.
fn delete(server: &Server, pattern: &str) {
    const DELETE: &str =
        "local keys = redis.call('KEYS', ARGV[1]) return redis.call('DEL', unpack(keys)) - #keys";
    assert_eq!(server.ask(&["EVAL", DELETE, "0", pattern]), "0");
}
