//! A cluster: primaries change, and slots move from one to another.

use super::{Town, report};
use crate::harness::*;
use crate::redis::Cluster;
use liangma::http::door::Door;
use liangma::store::redis::partition::{self, PARTITIONS};
use std::time::Instant;

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_cluster_whose_primaries_change_loses_nothing() {
    let mut cluster = Cluster::start(3, 1, &[]);
    // One address is enough to learn the others.
    let url = cluster.url();
    let (url, _) = url.split_once(',').expect("several addresses");
    let mut town = Town::over(url);

    let (well, meanwhile) = town.while_asked(|town| {
        let asked = Instant::now();
        cluster.promote(3);
        town.well_after(asked)
    });
    report(
        "failover that was asked for (Cluster)",
        None,
        well,
        &meanwhile,
    );

    let slot = partition::slot(8);
    let old = cluster.primary_of(slot);
    let ((fresh, well), meanwhile) = town.while_asked(|town| {
        let frozen = Instant::now();
        cluster.servers[old].freeze();
        until("another is the primary", || cluster.primary_of(slot) != old);
        let fresh = town.fresh_after(frozen);
        assert!(
            town.is_refused(8),
            "alone it has nobody to keep a change with"
        );
        assert!(!town.is_refused(0), "the other primaries go on");
        let thawed = Instant::now();
        cluster.servers[old].thaw();
        (fresh, town.well_after(thawed))
    });
    report(
        "a primary frozen, its replica elected, thawed (Cluster)",
        Some(fresh),
        well,
        &meanwhile,
    );

    let slot = partition::slot(15);
    let old = cluster.primary_of(slot);
    let ((fresh, well), meanwhile) = town.while_asked(|town| {
        let killed = Instant::now();
        cluster.servers[old].kill();
        until("another is the primary", || cluster.primary_of(slot) != old);
        let fresh = town.fresh_after(killed);
        assert!(town.is_refused(15));
        let back = Instant::now();
        cluster.servers[old].restart();
        (fresh, town.well_after(back))
    });
    report(
        "a primary killed, its replica elected, started again (Cluster)",
        Some(fresh),
        well,
        &meanwhile,
    );
    for node in 0..2 {
        // What was refused for want of a replica was on the boards before the primary was lost with it.
        let behind = town.faults(node, &["behind", "trimmed"]);
        eprintln!("behind or trimmed: {behind}, ahead: {:?}", town.ahead());
        assert_eq!(town.faults(node, &["emptied", "replaced"]), 0.0);
    }
    town.is_all_kept(&[]);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn slots_that_move_while_feeds_come_are_refused_or_applied_and_never_by_halves() {
    let cluster = Cluster::start(3, 0, &[]);
    let mut town = Town::with(&cluster.url(), 2, &["store_replicas=0"]);
    // Enough that the partition has several buckets.
    let many: Vec<Person> = (0..200).map(|_| town.newcomer(0)).collect();
    town.feed(&many.iter().map(Person::resident).collect::<Vec<_>>());

    let slot = partition::slot(0);
    let (from, to) = (cluster.primary_of(slot), 1);
    assert_ne!(from, to);
    let mut batches: Vec<(bool, Vec<Person>)> = Vec::new();
    let (well, meanwhile) = town.while_asked(|town| {
        let mut feed = || {
            // Some who are there and some who are not; together they are one script.
            let mut people: Vec<Person> = (0..3).map(|_| town.newcomer(0)).collect();
            let nth = batches.len();
            people.extend(many[3 * nth..3 * nth + 3].iter().cloned());
            let lines: Vec<String> = people
                .iter()
                .map(|person| person.set("confirmed", 1))
                .collect();
            let answer = town.try_feed(&lines);
            if answer.status != 200 {
                answer.refuses(503, "upstream_busy");
            }
            batches.push((answer.status == 200, people));
        };
        cluster.begin_move(slot, to);
        feed();
        // One key after the other, and each time feeds meet another half of them.
        while cluster.move_keys(slot, to, 1) > 0 {
            feed();
            feed();
        }
        let moved = Instant::now();
        cluster.finish_move(slot, to);
        assert_eq!(cluster.primary_of(slot), to);
        town.well_after(moved)
    });
    report(
        "a slot moved, key by key, then given away (Cluster)",
        None,
        well,
        &meanwhile,
    );
    let fresh = town.start_at(&cluster.url()).node();
    let mut refused = 0;
    for (taken, people) in batches {
        let states: Vec<String> = people
            .iter()
            .map(|person| town.state(&fresh, person))
            .collect();
        let reds = states.iter().filter(|state| *state == "red").count();
        match taken {
            true => assert_eq!(reds, people.len(), "{states:?}"),
            false => {
                refused += 1;
                assert!([0, people.len()].contains(&reds), "{states:?}");
            }
        }
        for node in &town.nodes {
            let told: Vec<String> = people
                .iter()
                .map(|person| town.state(node, person))
                .collect();
            assert_eq!(told, states);
        }
    }
    assert!(refused > 0, "the move was met");

    // Many slots, whole, while feeds come.
    let (well, meanwhile) = town.while_asked(|town| {
        for nth in 0..PARTITIONS {
            let slot = partition::slot(nth);
            cluster.move_slot(slot, (cluster.primary_of(slot) + 1) % 3);
        }
        town.well_after(Instant::now())
    });
    report("all sixteen slots moved (Cluster)", None, well, &meanwhile);
    for node in 0..2 {
        assert_eq!(
            town.faults(node, &["emptied", "replaced", "behind", "trimmed"]),
            0.0
        );
    }
    town.has_lost_nothing(&meanwhile.refused);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn nodes_that_are_without_a_lost_shard_alike_stay_ready_and_tell_of_all_others() {
    let mut cluster = Cluster::start(3, 1, &["cluster-require-full-coverage no"]);
    let settings = ["stale_after=1s", "too_old_after=3s"];
    let town = Town::with(&cluster.url(), 1, &settings);
    let lost: Vec<usize> = (0..PARTITIONS)
        .filter(|nth| cluster.primary_of(partition::slot(*nth)) == 0)
        .collect();
    assert!((5..=6).contains(&lost.len()), "{lost:?}");
    cluster.servers[3].kill();
    cluster.servers[0].kill();
    let ready = |node: &Node| node.get(Door::Ops, "/ready");
    until("the node says what it is without", || {
        let answer = ready(&town.nodes[0]);
        answer.status == 200 && answer.json()["state"] == "degraded"
    });
    // They grow too old one after the other.
    until("all that it is without is too old", || {
        ready(&town.nodes[0]).json()["too_old"] == serde_json::json!(lost)
    });
    let node = &town.nodes[0];
    for (meter, value) in [
        ("liangma_partitions_too_old", lost.len() as f64),
        ("liangma_partitions_unavailable", lost.len() as f64),
        ("liangma_ready", 1.0),
    ] {
        assert_eq!(node.meter(meter), value, "{meter}");
    }
    for (person, colour) in town.known() {
        let is_lost = lost.contains(&town.partition(person));
        let session = town.ring.seals.session(person);
        match is_lost {
            true => assert_eq!(node.show(&session).state(), "too_old"),
            false => until("it is told, and fresh", || {
                let shown = node.show(&session);
                assert_eq!(shown.state(), colour);
                shown.json()["stale"] != true
            }),
        }
    }
    // Feeds for the others go on.
    let other = (0..PARTITIONS).find(|nth| !lost.contains(nth));
    assert!(!town.is_refused(other.expect("some are not lost")));
    assert!(town.is_refused(lost[0]));
    // Two of three are lost: nobody is left who could say so, and nothing may be told of anybody.
    let majority = [1, 4].map(|nth| &cluster.servers[nth]);
    majority.iter().for_each(|server| server.freeze());
    until("the node is not ready", || ready(node).status == 503);
    assert_eq!(ready(node).json()["state"], "too_old");
    majority.iter().for_each(|server| server.thaw());
    until("it is ready without the lost ones again", || {
        ready(node).json()["state"] == "degraded"
    });
    cluster.servers[0].restart();
    cluster.servers[3].restart();
    town.well_after(Instant::now());
    assert_eq!(ready(&town.nodes[0]).json()["state"], "ready");
    assert_eq!(town.nodes[0].meter("liangma_partitions_unavailable"), 0.0);
    town.is_all_kept(&[]);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_node_that_alone_cannot_reach_a_shard_is_not_ready() {
    let mut cluster = Cluster::start(3, 0, &["cluster-require-full-coverage no"]);
    let settings = ["store_replicas=0", "stale_after=1s", "too_old_after=2s"];
    let town = Town::with(&cluster.url(), 1, &settings);
    let node = &town.nodes[0];
    // This server lets nobody in any more; the others hear it, so that it has not failed.
    cluster.servers[0].ask(&["CONFIG", "SET", "requirepass", "another"]);
    cluster.servers[0].password = Some("another".to_owned());
    cluster.servers[0].ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    until("it is not ready", || {
        let answer = node.get(Door::Ops, "/ready");
        answer.status == 503 && answer.json()["state"] == "too_old"
    });
    assert_eq!(node.meter("liangma_partitions_unavailable"), 0.0);
    assert!(node.meter("liangma_partitions_too_old") >= 5.0);
}
