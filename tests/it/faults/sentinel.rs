//! A primary that sentinels watch: another takes its place, and the old one is not believed.

use super::{Town, report};
use crate::harness::{Doors, Person, until};
use crate::redis::{Relay, Server, Watched};
use liangma::clock::Time;
use liangma::store::redis::partition::PARTITIONS;
use std::time::{Duration, Instant};

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_failover_that_is_asked_for_loses_nothing() {
    // One replica: what is acknowledged is in both, so that the one that takes over has it.
    fail_over(1, "failover that was asked for (Sentinel)");
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_failover_that_is_asked_for_loses_nothing_where_all_replicas_are_waited_for() {
    // The old primary takes changes until it is told that it is none, and the second replica has them: one is not enough.
    fail_over(
        2,
        "failover that was asked for, two replicas waited for (Sentinel)",
    );
}

/// `replicas` are there, and waited for.
fn fail_over(replicas: usize, what: &str) {
    let watched = Watched::start(replicas, &[]);
    let mut town = Town::with(&watched.url(), 2, &[&format!("store_replicas={replicas}")]);
    let ((fresh, well), meanwhile) = town.while_asked(|town| {
        let asked = Instant::now();
        watched.fail_over();
        let fresh = town.fresh_after(asked);
        (fresh, town.well_after(asked))
    });
    report(what, Some(fresh), well, &meanwhile);
    for node in 0..2 {
        assert_eq!(town.faults(node, &["emptied", "replaced"]), 0.0);
    }
    // What was refused for want of a replica may be on the boards and nowhere else.
    town.is_all_kept(&[]);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_primary_that_is_frozen_or_killed_is_replaced_and_not_believed_again() {
    // Two replicas, so that one is left to keep changes with.
    let mut watched = Watched::start(2, &["requirepass hush"]);
    let mut town = Town::over(&watched.url().replace("://", "://:hush@"));
    let old = watched.primary();
    let ((fresh, well, new), meanwhile) = town.while_asked(|town| {
        let frozen = Instant::now();
        watched.servers[old].freeze();
        watched.changed(old);
        let fresh = town.fresh_after(frozen);
        let well = town.well_after(frozen);
        // What is acknowledged from here on, the old one does not know.
        let new: Vec<_> = (0..16).map(|nth| town.newcomer(nth)).collect();
        town.feed(
            &new.iter()
                .map(|new| new.set("confirmed", 1))
                .collect::<Vec<_>>(),
        );
        watched.servers[old].thaw();
        // Whoever starts now, or looks again now, may meet it before it knows that it is none any more.
        for _ in 0..3 {
            let node = town.start_at(&town.url).node();
            for new in &new {
                assert_eq!(town.state(&node, new), "red");
            }
        }
        (fresh, well, new)
    });
    report(
        "primary frozen, another elected (Sentinel)",
        Some(fresh),
        well,
        &meanwhile,
    );
    for new in new {
        town.know(new, "red");
    }
    watched.settled();
    town.is_all_kept(&[]);

    let old = watched.primary();
    let ((fresh, well), meanwhile) = town.while_asked(|town| {
        let killed = Instant::now();
        watched.servers[old].kill();
        watched.changed(old);
        let fresh = town.fresh_after(killed);
        (fresh, town.well_after(killed))
    });
    report(
        "primary killed, another elected (Sentinel)",
        Some(fresh),
        well,
        &meanwhile,
    );
    watched.servers[old].restart();
    watched.settled();
    town.is_all_kept(&[]);
    for node in 0..2 {
        assert_eq!(town.faults(node, &["emptied", "replaced"]), 0.0);
    }
    assert!(!town.nodes[0].log().contains("hush"));
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_primary_that_is_isolated_with_a_node_is_not_believed() {
    let watched = Watched::start(2, &["requirepass hush"]);
    // However long the sentinels need to agree, the node that is cut off gives a colour.
    let url = watched.url().replace("://", "://:hush@");
    let mut town = Town::with(&url, 1, &["too_old_after=10m"]);
    let relay = |sentinel: &Server| Relay::start(sentinel.address());
    let relays: Vec<Relay> = watched.sentinels.iter().map(relay).collect();
    let hosts: Vec<String> = relays.iter().map(|r| r.address().to_string()).collect();
    let by_relays = format!("redis+sentinel://:hush@{}/liangma", hosts.join(","));
    town.nodes.push(town.start_at(&by_relays).node());
    let new: Vec<_> = (0..PARTITIONS).map(|nth| town.newcomer(nth)).collect();
    let set = |reason| {
        let lines = new.iter().map(|new| new.set(reason, 1));
        town.feed(&lines.collect::<Vec<_>>());
    };
    set("suspected");
    town.fresh_after(Instant::now());

    // The last node reaches the primary, and nobody else.
    let isolated = Instant::now();
    relays.iter().for_each(Relay::silence);
    let old = watched.primary();
    watched.isolate(old);
    watched.changed(old);
    set("confirmed");
    let acknowledged = Time::now();
    let (mut asked, mut marked) = (0, 0);
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        for new in &new {
            let shown = town.nodes[1].show(&town.ring.seals.session(new)).json();
            let reasons = shown["reasons"].as_array().map(Vec::len);
            assert_eq!(reasons, Some(1), "{shown}");
            let as_of: jiff::Timestamp = shown["as_of"].as_str().expect("a time").parse().unwrap();
            let as_of = as_of.as_millisecond() as u64;
            assert!(as_of < acknowledged.0, "BELIEVED: it cannot know {shown}");
            asked += 1;
            marked += usize::from(shown["stale"] == true);
        }
    }
    assert!(
        marked > asked / 2,
        "BELIEVED: {marked} of {asked} are marked"
    );
    let age = town.nodes[1].meter("liangma_data_age_seconds");
    let believed = isolated.elapsed().as_secs_f64() - age;
    // Its electors named it last just before the relays fell silent.
    assert!(believed < 1.0, "BELIEVED for {believed} s after that");

    watched.rejoin(old);
    relays.iter().for_each(Relay::pass);
    let well = town.well_after(Instant::now());
    eprintln!("FAULT primary isolated with one node of two (Sentinel), well after {well:.1?}");
    for new in new {
        town.know(new, "red");
    }
    town.is_all_kept(&[]);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_sentinel_that_is_frozen_ages_nothing() {
    let watched = Watched::start(1, &[]);
    let town = Town::with(&watched.url(), 1, &[]);
    watched.sentinels[1].freeze();
    let end = Instant::now() + Duration::from_secs(4);
    let mut oldest: f64 = 0.0;
    while Instant::now() < end {
        oldest = oldest.max(town.nodes[0].meter("liangma_data_age_seconds"));
        std::thread::sleep(Duration::from_millis(20));
    }
    eprintln!("with one of three sentinels frozen knowledge was {oldest} s old at most");
    // What is older than two seconds is marked as stale.
    assert!(oldest < 2.0, "{oldest}");
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_primary_for_whom_no_sentinel_vouches_is_lost_once_and_found_once() {
    let mut watched = Watched::start(1, &[]);
    let town = Town::with(&watched.url(), 1, &[]);
    let count = |what: &str| town.nodes[0].log().matches(what).count();
    for sentinel in &mut watched.sentinels {
        sentinel.kill();
    }
    until("the node says so", || count("vouches for this primary") > 0);
    // It stays so, and there is nothing new to say.
    let stays = Instant::now() + Duration::from_secs(2);
    while Instant::now() < stays {
        assert!(town.nodes[0].meter("liangma_data_age_seconds") > 2.0);
        std::thread::sleep(Duration::from_millis(100));
    }
    let gone = count("the store is unavailable");
    let back = count("the store is available again");
    eprintln!(
        "without sentinels: unavailable {gone} times, available again {back} times, {} faults",
        town.faults(0, &["gone"])
    );
    for sentinel in &mut watched.sentinels {
        sentinel.restart();
    }
    town.well_after(Instant::now());
    assert_eq!((gone, back), (1, 0));
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_red_that_was_refused_goes_with_a_clear_that_is_acknowledged() {
    // Either the replica comes back and has the red as well, or it takes over without it.
    for takes_over in [false, true] {
        let mut watched = Watched::start(1, &[]);
        let town = Town::over(&watched.url());
        let old = watched.primary();
        let people: Vec<_> = (0..PARTITIONS).map(|nth| town.newcomer(nth)).collect();
        let all =
            |line: &dyn Fn(&Person) -> String| -> Vec<String> { people.iter().map(line).collect() };
        town.feed(&all(&|person| person.resident()));
        watched.servers[1 - old].freeze();
        let refused = town.try_feed(&all(&|person| person.set("confirmed", 1)));
        refused.refuses(503, "upstream_busy");
        let show = |colour: &str| {
            let mut nodes = town.nodes.iter();
            nodes.all(|node| {
                people
                    .iter()
                    .all(|person| town.state(node, person) == colour)
            })
        };
        until("every node shows what nobody may take for untrue", || {
            show("red")
        });
        if takes_over {
            watched.servers[old].kill();
            watched.servers[1 - old].thaw();
            watched.changed(old);
            // As a replica; without one nothing is acknowledged.
            watched.servers[old].restart();
            watched.settled();
        } else {
            watched.servers[1 - old].thaw();
        }
        town.feed(&all(&|person| person.clear("confirmed", 2)));
        until("every node shows what was acknowledged", || show("green"));
        let new = town.start_at(&watched.url()).node();
        for person in &people {
            assert_eq!(
                town.state(&new, person),
                "green",
                "taken over: {takes_over}"
            );
        }
        town.well_after(Instant::now());
        assert!(show("green"), "taken over: {takes_over}");
    }
}
