//! Truth: three nodes over real Redis servers, harm by the dice, feeders who repeat what was not acknowledged, and watchers
//! who hold every answer against what was fed. Nobody may be lied to.
//!
//! `TEST_TRUTH_SEED` makes the same dice fall again (not the same race), `TEST_TRUTH_SECONDS` says for how long,
//! `TEST_TRUTH_OVER` over what: `single`, `sentinel`, `cluster`, or `loss`, in which the store forgets;
//! `TEST_TRUTH_REPLICAS` is the nodes' `store_replicas`.

mod checker;
mod life;
mod line;
mod people;
mod rng;
mod schedule;
mod town;
mod world;

use crate::harness::{Credentials, Doors, Ring};
use checker::Bounds;
use liangma::clock::Time;
use liangma::http::door::Door;
use liangma::seal::ring::RingFile;
use life::Life;
use people::Codes;
use rng::Rng;
use schedule::Schedule;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::thread::{Scope, sleep};
use std::time::{Duration, Instant};
use town::{Over, STALE_AFTER, Step, TOO_OLD_AFTER, Town};
use world::{NODES, Phase, World};

const RESIDENTS: usize = 200;
const FEEDERS: usize = 6;

/// Who stand at each node's door when it opens: while its board is filled each waits for the store.
const CROWD: usize = 12;

/// A run of this length has seen each kind of harm; a longer one is made of several.
const ROUND: Duration = Duration::from_secs(60);

/// For what is under way to be acknowledged, and for all nodes to show it.
const AGREEMENT: Duration = Duration::from_secs(30);

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    setting(name).map(|value| value.parse().expect("a number"))
}

fn seed() -> u64 {
    number("TEST_TRUTH_SEED").unwrap_or_else(|| Time::now().0)
}

/// Past the test runner, which keeps what is printed to itself.
fn tell(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn no_node_ever_lies() {
    let seed = seed();
    let length = Duration::from_secs(number("TEST_TRUTH_SECONDS").unwrap_or(16));
    let mut rng = Rng::new(seed);
    if let Some(over) = setting("TEST_TRUTH_OVER") {
        return run(&over, seed, length);
    }
    let kinds = ["sentinel", "cluster", "single"];
    if length <= ROUND {
        // The one has failures that the other has not.
        return run(kinds[rng.below(2)], seed, length);
    }
    let started = Instant::now();
    for nth in 0.. {
        let left = length.saturating_sub(started.elapsed());
        if left < ROUND / 2 {
            break;
        }
        run(kinds[nth % kinds.len()], rng.roll() >> 16, left.min(ROUND));
    }
}

#[test]
fn sabotage_finds_in_the_source_what_it_takes_out() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sabotage");
    let Ok(done) = std::process::Command::new(script).arg("--words").output() else {
        tell("no Python is here");
        return;
    };
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn no_node_lies_that_is_filled_while_changes_come() {
    if setting("TEST_TRUTH_OVER").is_some() {
        return;
    }
    let seed = seed();
    // Only there is a relay before the store, which can be made slow.
    run("single", seed, Duration::from_secs(12));
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn no_red_that_a_node_knew_is_forgotten_with_the_store() {
    if setting("TEST_TRUTH_OVER").is_some_and(|over| over != "loss") {
        return;
    }
    let seed = seed();
    let length = number("TEST_TRUTH_SECONDS").unwrap_or(10).min(60);
    run("loss", seed, Duration::from_secs(length));
}

fn run(kind: &str, seed: u64, length: Duration) {
    let (over, loss) = match kind {
        "single" => (Over::Single, false),
        "sentinel" => (Over::Watched, false),
        "cluster" => (Over::Cluster, false),
        "loss" => (Over::Single, true),
        other => panic!("TEST_TRUTH_OVER={other}: single, sentinel, cluster or loss"),
    };
    let again = format!(
        "TEST_TRUTH_SEED={seed} TEST_TRUTH_OVER={kind} TEST_TRUTH_SECONDS={}",
        length.as_secs()
    );
    tell(&format!("truth: {again}"));
    let rng = Rng::new(seed);
    let ring = Ring::make();
    let lives = (0..RESIDENTS).map(|nth| Life::new(nth, loss && nth % 2 == 0, loss));
    let bounds = Bounds {
        stale_after: STALE_AFTER,
        too_old_after: TOO_OLD_AFTER,
    };
    // Sentinels may choose either of the two replicas: both are waited for.
    let replicas = match number("TEST_TRUTH_REPLICAS") {
        None if over == Over::Watched => Some(2),
        count => count.map(|count| count as u32),
    };
    let seals = Credentials::of(&RingFile::read(&ring.file).expect("just made"));
    let mut town = Town::build(over, &ring, replicas);
    let world = World::new(lives.collect(), seals, bounds);
    let codes = Codes::new(&world);
    let sessions = people::sessions(&world);
    let mut faults = 0;
    std::thread::scope(|scope| {
        for nth in 0..FEEDERS {
            let (world, rng) = (&world, rng.others(nth as u64 + 100));
            scope.spawn(move || people::feed(world, nth, FEEDERS, rng));
        }
        for node in 0..NODES {
            let (world, codes, sessions) = (&world, &codes, &sessions);
            let watcher = rng.others(node as u64 + 200);
            scope.spawn(move || people::scan_all(world, codes, node));
            scope.spawn(move || people::watch(world, codes, sessions, node, watcher));
            for nth in 0..CROWD {
                let one = rng.others((node * CROWD + nth) as u64 + 300);
                scope.spawn(move || people::crowd(world, codes, sessions, node, one));
            }
        }
        let town = &mut town;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut schedule = Schedule::new(over, rng.others(1));
            for node in 0..NODES {
                town.take(&Step::StartNode(node), &world, scope);
            }
            wait(&world, "all doors are open", || {
                town.greet(&world);
                town.are_all_open()
            });
            world.enter(Phase::Feed);
            match loss {
                false => harm(town, &world, &mut schedule, scope, length),
                true => lose(
                    town,
                    &world,
                    scope,
                    length,
                    rng.others(2),
                    &mut schedule.faults,
                ),
            }
            if !world.has_lies() {
                agree(town, &world);
            }
            schedule.faults
        }));
        // Threads that wait for a node are set free by its end.
        world.stop();
        let logs = town.logs();
        town.end();
        match outcome {
            Ok(count) => faults = count,
            Err(panic) => {
                tell(&format!("{again}\n{}{logs}", world.happened()));
                resume_unwind(panic);
            }
        }
        if world.has_lies() {
            tell(&format!(
                "what happened, in ms since the start:\n{}{logs}",
                world.happened()
            ));
        }
    });
    let lies = world.lies();
    assert!(lies.is_empty(), "{again}\n{}", lies.join("\n"));
    report(&world, faults, &again, length);
}

/// Waits while the run goes on.
fn wait(world: &World, what: &str, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + AGREEMENT;
    loop {
        if holds() {
            return true;
        }
        if world.is_stopped() {
            return false;
        }
        if Instant::now() > deadline {
            world.lie(format!("waited in vain until {what}"));
            return false;
        }
        sleep(Duration::from_millis(20));
    }
}

fn harm<'scope, 'env>(
    town: &mut Town,
    world: &World,
    schedule: &mut Schedule,
    scope: &'scope Scope<'scope, 'env>,
    length: Duration,
) {
    let end = Instant::now() + length;
    while !world.is_stopped() && !world.has_lies() && Instant::now() < end {
        schedule.tick(town, world, scope, true);
        sleep(Duration::from_millis(10));
    }
    if world.has_lies() {
        // A lie seldom comes alone, and together they tell more.
        sleep(Duration::from_millis(300));
    }
    world.note("the last faults are healed");
    while !schedule.is_healed(town) && !world.is_stopped() {
        schedule.tick(town, world, scope, false);
        sleep(Duration::from_millis(10));
    }
}

/// The store forgets, is fed by those who do not know it yet, then everything again in order, and all nodes are started anew.
fn lose<'scope, 'env>(
    town: &mut Town,
    world: &World,
    scope: &'scope Scope<'scope, 'env>,
    length: Duration,
    mut rng: Rng,
    faults: &mut usize,
) {
    let end = Instant::now() + length;
    let pause = |ms| {
        let until = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < until && !world.is_stopped() && !world.has_lies() {
            sleep(Duration::from_millis(10));
        }
    };
    while Instant::now() < end && !world.is_stopped() && !world.has_lies() {
        pause(rng.within(500..=1_500));
        let back_up = rng.percent(50);
        if back_up {
            world.note("a backup is made");
            town.back_up(0);
            pause(rng.within(300..=1_500));
        }
        world.losing();
        *faults += 1;
        let flush = ["FLUSHALL"].map(str::to_owned).to_vec();
        let steps = match (back_up, rng.percent(50)) {
            (true, _) => vec![Step::Kill(0), Step::Restore(0), Step::Restart(0)],
            (false, true) => vec![Step::Ask(0, flush)],
            (false, false) => vec![Step::Kill(0), Step::Empty(0), Step::Restart(0)],
        };
        for step in steps {
            world.note(format!("{step:?}"));
            town.take(&step, world, scope);
        }
        world.has_lost();
        pause(rng.within(0..=1_500));
        world.note("all is fed again");
        world.enter(Phase::Hold);
        if !wait(world, "the feeders hold", || world.is_held()) || world.has_lies() {
            return;
        }
        let lines = last_said(world.fed());
        if !people::feed_again(world, &lines, rng.others(rng.clone().roll())) {
            return;
        }
        world.note(format!("{} lines were fed again", lines.len()));
        pause(300);
        if world.has_lies() {
            return;
        }
        for node in 0..NODES {
            town.take(&Step::KillNode(node), world, scope);
            town.take(&Step::StartNode(node), world, scope);
        }
        wait(world, "all doors are open again", || {
            town.greet(world);
            town.are_all_open()
        });
        world.has_nothing_lost();
        world.enter(Phase::Feed);
    }
}

/// What sources have to say now: of each reason, person and source the last line. A whole history would be shown as it goes by.
fn last_said(lines: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut last: Vec<String> = lines
        .into_iter()
        .rev()
        .filter(|line| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let of = ["cert_no", "event", "reason", "source"];
            seen.insert(of.map(|name| line[name].to_string()))
        })
        .collect();
    last.reverse();
    last
}

/// In the end all is acknowledged, every node shows it and is ready, and so is the store.
fn agree(town: &mut Town, world: &World) {
    world.enter(Phase::Finish);
    world.note("what is under way is fed to its end");
    let all = || {
        world
            .lives
            .iter()
            .all(|life| world::lock(life).history.is_acknowledged())
    };
    if !wait(world, "all is acknowledged", all) {
        return;
    }
    world.note("all is acknowledged");
    let fed_until = Time::now().0;
    for node in 0..NODES {
        let mut behind = None;
        let shown = wait(world, &format!("node {node} shows all"), || {
            behind = world.behind(node, fed_until);
            behind.is_none()
        });
        if !shown {
            world.lie(format!("node {node} does not get to resident {behind:?}"));
        }
        let is_ready = || {
            let node = town.node(node).expect("all are open");
            node.get(Door::Ops, "/ready").status == 200
        };
        wait(world, &format!("node {node} is ready"), is_ready);
    }
    let read = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
    let lines = town.export();
    let lines = lines.iter().map(|line| read(line));
    let statuses = lines.filter(|line| line["event"] == "status");
    let stored: BTreeSet<String> = statuses.map(|line| line.to_string()).collect();
    let lives = world.lives.iter();
    let truth: BTreeSet<String> = lives
        .flat_map(|life| {
            let life = world::lock(life);
            life.exported()
                .map(|line| line.to_string())
                .collect::<Vec<_>>()
        })
        .collect();
    for line in truth.difference(&stored).take(3) {
        world.lie(format!(
            "it was acknowledged, and is not in the store: {line}"
        ));
    }
    for line in stored.difference(&truth).take(3) {
        world.lie(format!("it is in the store, and was not fed so: {line}"));
    }
}

/// What was done and seen; a run that checked nothing fails.
fn report(world: &World, faults: usize, again: &str, length: Duration) {
    let counts = &world.counts;
    let count = |of: &std::sync::atomic::AtomicU64| of.load(SeqCst);
    let answers = count(&counts.shows)
        + count(&counts.scans)
        + count(&counts.bulk)
        + count(&counts.explained);
    let mut delays = world::lock(&counts.delays);
    delays.sort_unstable();
    let delay = |share: f64| match delays.len() {
        0 => 0,
        some => delays[((some - 1) as f64 * share) as usize],
    };
    tell(&format!(
        "truth: {answers} answers were true ({} shown, {} scanned, {} in bulk, {} explained; {} marked stale, {} too old), \
         {} refused, {} cut; {faults} faults; {} changes acknowledged, {} feeds repeated; \
         from acknowledgement to sight: half {} ms, 99 of 100 {} ms, longest {} ms ({again})",
        count(&counts.shows),
        count(&counts.scans),
        count(&counts.bulk),
        count(&counts.explained),
        count(&counts.marked),
        count(&counts.too_old),
        count(&counts.refused),
        count(&counts.cut),
        count(&counts.acknowledged),
        count(&counts.repeated),
        delay(0.5),
        delay(0.99),
        delay(1.0),
    ));
    let seconds = length.as_secs();
    assert!(answers > 2_000 * seconds, "{answers} answers are too few");
    assert!(
        count(&counts.shows).min(count(&counts.scans)) > 50 * seconds,
        "too few were shown or scanned"
    );
    assert!(
        count(&counts.acknowledged) > 10 * seconds,
        "too little was acknowledged"
    );
    assert!(faults as u64 >= seconds / 10, "too few faults");
}
