//! Which harm comes when: at most one that Redis has to recover from, and one of another kind beside it.

use super::rng::Rng;
use super::town::{Over, Step, Town};
use super::world::{NODES, World};
use liangma::store::redis::partition::{self, PARTITIONS};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// Steps, and how many milliseconds after the one before.
struct Fault {
    name: String,
    steps: Vec<(u64, Step)>,
    /// Nothing else is harmed meanwhile.
    alone: bool,
}

fn fault(name: impl Into<String>, steps: Vec<(u64, Step)>) -> Fault {
    Fault {
        name: name.into(),
        steps,
        alone: false,
    }
}

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

/// A fault that was begun: what is left to be done, and when.
struct Begun {
    name: String,
    alone: bool,
    steps: std::vec::IntoIter<(u64, Step)>,
    next: Option<(Instant, Step)>,
}

impl Begun {
    fn of(fault: Fault) -> Begun {
        let mut begun = Begun {
            name: fault.name,
            alone: fault.alone,
            steps: fault.steps.into_iter(),
            next: None,
        };
        begun.advance();
        begun
    }

    /// Takes the steps that are due, or all that are left.
    fn go_on<'scope, 'env>(
        &mut self,
        town: &mut Town,
        world: &World,
        scope: &'scope Scope<'scope, 'env>,
        all: bool,
    ) {
        while let Some((at, step)) = self.next.clone()
            && (at <= Instant::now() || all)
        {
            world.note(format!("{}: {step:?}", self.name));
            town.take(&step, world, scope);
            self.advance();
        }
    }

    fn advance(&mut self) {
        let after = |ms| Instant::now() + Duration::from_millis(ms);
        self.next = self.steps.next().map(|(ms, step)| (after(ms), step));
    }
}

/// Kinds of harm, by number: each comes once before any comes again.
#[derive(Default)]
struct Deck(Vec<usize>);

impl Deck {
    fn draw(&mut self, kinds: usize, rng: &mut Rng) -> usize {
        if self.0.is_empty() {
            self.0 = (0..kinds).collect();
        }
        self.0.swap_remove(rng.below(self.0.len()))
    }
}

/// The first connections of a node: one to look at the settings of its store, then one a partition for asking, on which its
/// board is filled too. Those that follow the streams come after.
const ASKING: usize = 1 + PARTITIONS;

/// Time in which Redis must recover by itself. A sentinel that the machine stops for two seconds does nothing for half a minute after
/// it (tilt), and more than one may.
const RECOVERY: Duration = Duration::from_secs(150);

/// Looking whether it has asks every server.
const LOOK_PAUSE: Duration = Duration::from_millis(150);

pub struct Schedule {
    over: Over,
    rng: Rng,
    /// Of Redis, and of the rest.
    large: Option<Begun>,
    small: Option<Begun>,
    large_kinds: Deck,
    small_kinds: Deck,
    /// Since when all of Redis is there again, and not yet settled.
    settling: Option<Instant>,
    next_large: Instant,
    next_small: Instant,
    looked: Instant,
    pub faults: usize,
}

impl Schedule {
    pub fn new(over: Over, rng: Rng) -> Schedule {
        let soon = Instant::now() + Duration::from_millis(500);
        Schedule {
            over,
            rng,
            large: None,
            small: None,
            large_kinds: Deck::default(),
            small_kinds: Deck::default(),
            settling: None,
            next_large: soon,
            next_small: soon,
            looked: soon,
            faults: 0,
        }
    }

    /// Does what is due, and begins what may begin.
    pub fn tick<'scope, 'env>(
        &mut self,
        town: &mut Town,
        world: &World,
        scope: &'scope Scope<'scope, 'env>,
        begin: bool,
    ) {
        town.greet(world);
        if let Some(node) = town.ended() {
            world.lie(format!("node {node} has ended by itself"));
            return world.stop();
        }
        let now = Instant::now();
        for begun in [&mut self.large, &mut self.small].into_iter().flatten() {
            begun.go_on(town, world, scope, !begin);
        }
        if self
            .large
            .as_ref()
            .is_some_and(|begun| begun.next.is_none())
        {
            self.large = None;
            self.settling = Some(now);
        }
        if self
            .small
            .as_ref()
            .is_some_and(|begun| begun.next.is_none())
            && town.are_all_open()
        {
            self.small = None;
            self.next_small = now + Duration::from_millis(self.rng.within(200..=1_200));
        }
        if let Some(since) = self.settling
            && self.looked.elapsed() > LOOK_PAUSE
        {
            self.looked = Instant::now();
            if town.is_settled() {
                world.note("Redis has settled");
                self.settling = None;
                self.next_large = now + Duration::from_millis(self.rng.within(100..=800));
            } else if since.elapsed() > RECOVERY {
                world.lie("Redis itself has not recovered".to_owned());
                world.stop();
            }
        }
        if !begin || !town.are_all_open() {
            return;
        }
        if self.large.is_none() && self.settling.is_none() && self.next_large <= now {
            let fault = self.large(town);
            self.faults += 1;
            world.note(fault.name.clone());
            if fault.alone
                && let Some(mut small) = self.small.take()
            {
                small.go_on(town, world, scope, true);
            }
            self.large = Some(Begun::of(fault));
        }
        let alone = self.large.as_ref().is_some_and(|begun| begun.alone);
        if self.small.is_none() && self.next_small <= now && !alone {
            let fault = self.small(town);
            self.faults += 1;
            world.note(fault.name.clone());
            self.small = Some(Begun::of(fault));
        }
    }

    pub fn is_healed(&self, town: &Town) -> bool {
        self.large.is_none()
            && self.small.is_none()
            && self.settling.is_none()
            && town.are_all_open()
    }

    /// What Redis has to recover from. None of it may lose what was acknowledged.
    fn large(&mut self, town: &Town) -> Fault {
        let rng = &mut self.rng;
        let primary = town.primary(rng);
        let mut replicas = town.replicas_of(primary);
        // In the order of the dice.
        if rng.percent(50) {
            replicas.reverse();
        }
        let over = self.over;
        if over == Over::Single {
            return match self.large_kinds.draw(3, rng) {
                0 => fault(
                    "kill of the server",
                    vec![
                        (0, Step::Kill(0)),
                        (rng.within(20..=2_000), Step::Restart(0)),
                    ],
                ),
                1 => fault(
                    "frozen server",
                    vec![
                        (0, Step::Freeze(0)),
                        (rng.within(100..=4_000), Step::Thaw(0)),
                    ],
                ),
                _ => Fault {
                    alone: true,
                    ..fault(
                        "a node is filled by a store that is slow to tell, and quick to tell of changes",
                        vec![
                            (0, Step::KillNode(NODES - 1)),
                            (0, Step::Straggle(rng.within(150..=400), ASKING)),
                            (0, Step::StartNode(NODES - 1)),
                            (4_000, Step::Pass),
                        ],
                    )
                },
            };
        }
        let replica = *replicas.first().expect("Redis has settled");
        match self.large_kinds.draw(8, rng) {
            0 => fault(
                format!("kill of primary {primary}"),
                vec![
                    (0, Step::Kill(primary)),
                    (rng.within(20..=6_000), Step::Restart(primary)),
                ],
            ),
            1 => fault(
                format!("frozen primary {primary}"),
                vec![
                    (0, Step::Freeze(primary)),
                    (rng.within(100..=6_000), Step::Thaw(primary)),
                ],
            ),
            2 | 3 if over == Over::Watched && town.all_are_waited_for() => {
                let ask = words("SENTINEL FAILOVER liangma");
                fault(
                    format!("fail-over from {primary}"),
                    vec![
                        (0, Step::AskSentinel(rng.below(3), ask)),
                        // The others have not heard of it at once.
                        (3_000, Step::Wait),
                    ],
                )
            }
            // The old primary takes changes until it is told that it is none, and so do replicas that follow it till then.
            2 | 3 | 7 if over == Over::Watched => {
                let ask = words("SENTINEL FAILOVER liangma");
                fault(
                    format!("fail-over with care from {primary}"),
                    vec![
                        (0, Step::Ask(primary, words("CLIENT PAUSE 5000 WRITE"))),
                        (50, Step::AskSentinel(rng.below(3), ask)),
                        (3_000, Step::Wait),
                    ],
                )
            }
            2 | 3 => fault(
                format!("fail-over from {primary} to {replica}"),
                vec![(0, Step::Ask(replica, words("CLUSTER FAILOVER")))],
            ),
            4 => {
                // For a moment the primary alone has what it takes in; then it dies.
                let mut steps: Vec<(u64, Step)> = replicas
                    .iter()
                    .map(|replica| (0, Step::Freeze(*replica)))
                    .collect();
                steps.push((30, Step::Ask(primary, words("CLIENT KILL TYPE replica"))));
                // After a while what it alone has is vouched for by electors, and shown; changes wait for replicas in vain for a second.
                steps.push((rng.within(300..=2_500), Step::Kill(primary)));
                steps.extend(replicas.iter().map(|replica| (0, Step::Thaw(*replica))));
                steps.push((rng.within(4_500..=7_000), Step::Restart(primary)));
                fault(format!("lonely primary {primary}, killed"), steps)
            }
            5 => fault(
                format!("kill of replica {replica}"),
                vec![
                    (0, Step::Kill(replica)),
                    (rng.within(100..=3_000), Step::Restart(replica)),
                ],
            ),
            6 => fault(
                format!("frozen replica {replica}"),
                vec![
                    (0, Step::Freeze(replica)),
                    (rng.within(100..=3_000), Step::Thaw(replica)),
                ],
            ),
            _ => {
                let slot = partition::slot(rng.below(PARTITIONS));
                let cluster = town.cluster().expect("only there are slots moved");
                let from = cluster.primary_of(slot);
                let others: Vec<usize> = (0..cluster.servers.len())
                    .filter(|nth| *nth != from && cluster.servers[*nth].is_primary())
                    .collect();
                let to = rng.pick(&others).expect("three primaries");
                let mut steps = vec![(0, Step::BeginMove(slot, to))];
                for _ in 0..rng.below(4) {
                    steps.push((rng.within(5..=200), Step::MoveKeys(slot, to, 1)));
                }
                steps.push((rng.within(5..=400), Step::FinishMove(slot, to)));
                fault(format!("slot {slot} moves from {from} to {to}"), steps)
            }
        }
    }

    fn small(&mut self, town: &Town) -> Fault {
        let rng = &mut self.rng;
        let node = rng.below(NODES);
        let server = rng.below(town.servers().len());
        let kinds = match self.over {
            Over::Single => 12,
            Over::Watched => 13,
            Over::Cluster => 9,
        };
        match self.small_kinds.draw(kinds, rng) {
            0 => fault(
                format!("kill of node {node}"),
                vec![
                    (0, Step::KillNode(node)),
                    (rng.within(0..=500), Step::StartNode(node)),
                ],
            ),
            1 => fault(
                format!("node {node} leaves"),
                vec![
                    (0, Step::EndNode(node)),
                    (rng.within(0..=500), Step::StartNode(node)),
                ],
            ),
            2 | 3 => fault(
                format!("frozen node {node}"),
                vec![
                    (0, Step::FreezeNode(node)),
                    (rng.within(50..=4_000), Step::ThawNode(node)),
                ],
            ),
            4 => fault(
                format!("clients of server {server} cut off"),
                vec![(0, Step::Ask(server, words("CLIENT KILL TYPE normal")))],
            ),
            // Those that are awake have read them by then.
            5 | 6 => {
                let those: Vec<usize> = match rng.percent(70) {
                    true => (0..PARTITIONS).collect(),
                    false => vec![rng.below(PARTITIONS)],
                };
                fault(
                    format!("streams trimmed past node {node}"),
                    vec![
                        (0, Step::FreezeNode(node)),
                        (rng.within(100..=1_500), Step::Trim(those)),
                        (rng.within(0..=300), Step::ThawNode(node)),
                    ],
                )
            }
            7 => fault(
                format!("scripts of server {server} forgotten"),
                vec![(0, Step::Ask(server, words("SCRIPT FLUSH SYNC")))],
            ),
            8 => {
                let ms = rng.within(50..=900);
                let pause = format!("CLIENT PAUSE {ms} ALL");
                fault(
                    format!("server {server} is slow"),
                    vec![(0, Step::Ask(server, words(&pause))), (ms, Step::Wait)],
                )
            }
            9 => fault(
                "the relay is cut",
                vec![
                    (0, Step::Cut(rng.below(20_000))),
                    (rng.within(50..=2_000), Step::Pass),
                ],
            ),
            10 => fault(
                "the relay is silent",
                vec![(0, Step::Silence), (rng.within(50..=4_500), Step::Pass)],
            ),
            11 => fault(
                "the relay refuses",
                vec![(0, Step::Refuse), (rng.within(50..=4_500), Step::Pass)],
            ),
            _ => {
                let one = rng.below(3);
                fault(
                    format!("frozen sentinel {one}"),
                    vec![
                        (0, Step::FreezeSentinel(one)),
                        (rng.within(50..=4_000), Step::ThawSentinel(one)),
                    ],
                )
            }
        }
    }
}
