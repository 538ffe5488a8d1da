//! A store that has forgotten what it acknowledged: nobody's red is taken away, and feeding again makes it whole.

use super::{Town, delete, keys_of, report};
use crate::harness::*;
use crate::redis::{Relay, Server};
use liangma::store::redis::partition::{self, PARTITIONS};
use std::time::Instant;

/// What both nodes count when a store is another or an older one than it was.
const LOSSES: [&str; 3] = ["emptied", "replaced", "behind"];

const ALL: [&str; 4] = ["emptied", "replaced", "behind", "trimmed"];

/// Feeds all again; from then on a new node knows it as well.
#[track_caller]
fn feed_again(town: &Town) {
    town.feed(&town.lines());
    until("it is told", || town.is_fresh());
    town.is_all_kept(&[]);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_primary_that_comes_back_empty_takes_no_colour_away() {
    let mut server = Server::start(&[]);
    let mut town = Town::over(&server.url());
    let (well, meanwhile) = town.while_asked(|town| {
        server.kill();
        until("feeds are refused", || town.is_refused(3));
        server.empty();
        let back = Instant::now();
        server.restart();
        town.well_after(back)
    });
    report("killed, started again empty", None, well, &meanwhile);
    for node in 0..2 {
        until("the loss is seen", || town.faults(node, &LOSSES) >= 16.0);
        assert!(town.ahead()[node] >= 1.0, "{:?}", town.ahead());
        assert!(
            town.nodes[node]
                .log()
                .contains("sources must feed their data again")
        );
    }
    feed_again(&town);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_store_that_is_flushed_takes_no_colour_away() {
    let server = Server::start(&[]);
    let mut town = Town::over(&server.url());
    let (well, meanwhile) = town.while_asked(|town| {
        let flushed = Instant::now();
        server.ask(&["FLUSHALL"]);
        town.well_after(flushed)
    });
    report("FLUSHALL", None, well, &meanwhile);
    for node in 0..2 {
        until("the loss is seen", || town.faults(node, &LOSSES) >= 16.0);
        assert!(town.ahead()[node] >= 1.0, "{:?}", town.ahead());
    }
    // What was not fed again is not in the store; the desk does not tell what is of then.
    let fresh = town.start_at(&server.url()).node();
    let lost = &town.known[0];
    assert_eq!(town.state(&fresh, &lost.person), "unknown");
    town.nodes[0]
        .explain(&lost.session)
        .refuses(503, "upstream_busy");
    feed_again(&town);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_store_that_has_all_again_is_believed_by_a_node_that_missed_its_stream() {
    let server = Server::start(&[]);
    let mut town = Town::over(&server.url());
    server.ask(&["FLUSHALL"]);
    for node in 0..2 {
        until("the loss is seen", || town.faults(node, &LOSSES) >= 16.0);
    }
    town.feed(&town.lines());
    until("nothing is missed any more", || town.ahead() == [0.0, 0.0]);
    let red = town.known[0].person.clone();
    assert_eq!(town.known[0].colour, "red");
    town.nodes[1].signal(libc::SIGSTOP);
    // The first change after that is in its socket already.
    let other = town.newcomer(town.partition(&red));
    town.feed(&[other.resident()]);
    town.feed(&[red.clear("suspected", 2)]);
    town.know(red, "green");
    for partition in 0..PARTITIONS {
        server.ask(&["XTRIM", &partition::stream(partition), "MAXLEN", "0"]);
    }
    town.nodes[1].signal(libc::SIGCONT);
    until("what was cleared is told", || town.is_fresh());
    assert!(town.faults(1, &["trimmed"]) >= 1.0);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_store_put_back_from_a_backup_takes_no_colour_away_and_new_changes_are_told() {
    let mut server = Server::start(&[]);
    let mut town = Town::over(&server.url());
    let backup = server.keep();
    // Since then one has turned red, one has turned green, one has come.
    let [turned, cleared, came] = [1, 0, 2].map(|nth| match nth {
        2 => town.anybody(),
        nth => town.known[nth].person.clone(),
    });
    assert_eq!(
        (town.known[1].colour, town.known[0].colour),
        ("green", "red")
    );
    town.feed(&[
        turned.set("confirmed", 1),
        cleared.clear("suspected", 2),
        came.set("suspected", 1),
    ]);
    town.know(turned.clone(), "red");
    town.know(cleared.clone(), "green");
    town.know(came, "red");
    until("it is told", || town.is_fresh());
    let (well, meanwhile) = town.while_asked(|town| {
        server.kill();
        until("feeds are refused", || town.is_refused(3));
        server.restore(&backup);
        let back = Instant::now();
        server.restart();
        town.well_after(back)
    });
    report("killed, an older backup put back", None, well, &meanwhile);
    for node in 0..2 {
        // Feeds may have made as many entries anew as were lost.
        until("it is seen", || {
            town.faults(node, &["behind", "trimmed", "replaced"]) >= 1.0
        });
        // Those who turned; whoever came may be made up for by another who came while it was counted.
        until("who turned is missed", || town.ahead()[node] >= 2.0);
    }
    // The store takes this one for green, and what it says now is news: the red stays.
    let mut line: serde_json::Value = serde_json::from_str(&turned.resident()).unwrap();
    line["assurance"] = "real_name".into();
    town.feed(&[line.to_string()]);
    until("it is told", || town.is_fresh());
    // Whatever follows from what the board knows is told again.
    town.feed(&[turned.set("confirmed", 2)]);
    town.feed(&[turned.clear("confirmed", 3)]);
    town.know(turned.clone(), "green");
    until("it is told", || town.is_fresh());
    town.feed(&[turned.set("confirmed", 4), cleared.clear("suspected", 2)]);
    town.know(turned, "red");
    until("it is told", || town.is_fresh());
}

/// Deletes keys of the first partition by their pattern; whether the store has lost residents by that.
fn without(keys: &str, fault: &str, loses: bool) {
    let server = Server::start(&[]);
    let mut town = Town::over(&server.url());
    let (well, meanwhile) = town.while_asked(|town| {
        let deleted = Instant::now();
        delete(&server, keys);
        town.well_after(deleted)
    });
    report(fault, None, well, &meanwhile);
    for node in 0..2 {
        until("it is seen", || !loses || town.faults(node, &LOSSES) >= 1.0);
        // The other fifteen are as they were.
        let most = if loses { 3.0 } else { 0.0 };
        assert!(town.faults(node, &LOSSES) <= most, "{fault}");
        assert!(loses || town.ahead()[node] == 0.0, "{fault}");
    }
    match loses {
        true => feed_again(&town),
        false => town.is_all_kept(&meanwhile.refused),
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_partition_that_is_deleted_takes_no_colour_away() {
    without(&keys_of(0), "one partition deleted", true);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_partition_whose_meta_is_deleted_takes_no_colour_away() {
    without(&partition::meta(0), "one partition's meta deleted", true);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_partition_whose_stream_is_deleted_has_lost_nothing() {
    without(
        &partition::stream(0),
        "one partition's stream deleted",
        false,
    );
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_node_that_slept_longer_than_the_stream_remembers_reads_all_anew() {
    let server = Server::start(&[]);
    let mut town = Town::over(&server.url());
    town.nodes[1].signal(libc::SIGSTOP);
    for partition in 0..PARTITIONS {
        for _ in 0..3 {
            let person = town.newcomer(partition);
            town.feed(&[person.set("suspected", 1)]);
            town.know(person, "red");
        }
        server.ask(&["XTRIM", &partition::stream(partition), "MAXLEN", "0"]);
    }
    town.nodes[1].signal(libc::SIGCONT);
    let thawed = Instant::now();
    let fresh = town.fresh_after(thawed);
    let (well, meanwhile) = town.while_asked(|town| town.well_after(thawed));
    report(
        "a node slept past the end of the streams",
        Some(fresh),
        well,
        &meanwhile,
    );
    assert!(town.faults(1, &["trimmed"]) >= 1.0);
    assert_eq!(town.faults(1, &LOSSES), 0.0);
    town.has_lost_nothing(&meanwhile.refused);
}

/// Somebody whom two sources have set.
fn twice_red(town: &mut Town) -> Person {
    let person = town.anybody();
    town.feed(&[
        said_by(&person, "gd-cdc", "set", 1),
        said_by(&person, "gz-cdc", "set", 1),
    ]);
    town.know(person.clone(), "red");
    until("both know", || town.is_fresh());
    person
}

fn said_by(person: &Person, source: &str, action: &str, seq: u64) -> String {
    let mut line = person.said("close_contact", action, seq);
    line["source"] = source.into();
    line.to_string()
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_change_that_does_not_follow_from_what_the_board_knows_takes_no_red_away() {
    let server = Server::start(&[]);
    let mut town = Town::over(&server.url());
    let person = twice_red(&mut town);
    server.ask(&["FLUSHALL"]);
    // The store knows of one source alone, and that one clears.
    town.feed(&[said_by(&person, "gd-cdc", "clear", 2)]);
    for node in 0..2 {
        let contradicted = || town.nodes[node].meter("liangma_board_conflicts_total");
        until("the change has come", || contradicted() >= 1.0);
        assert_eq!(town.state(&town.nodes[node], &person), "red");
    }
    // From here on the board follows what the store says.
    town.feed(&[said_by(&person, "gz-cdc", "set", 1)]);
    until("both know", || town.is_fresh());
    town.feed(&[said_by(&person, "gz-cdc", "clear", 2)]);
    town.know(person, "green");
    until("both know", || town.is_fresh());
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn rubbish_in_a_stream_is_passed_over() {
    let server = Server::start(&[]);
    let mut town = Town::over(&server.url());
    let (well, meanwhile) = town.while_asked(|town| {
        let stream = partition::stream(0);
        for entry in [
            ["n", "rubbish", "w", "rubbish"],
            ["n", "7", "what", "is this"],
        ] {
            let before = town.faults(1, &ALL);
            server.ask(&[&["XADD", &stream, "*"], &entry[..]].concat());
            until("the node finds it", || town.faults(1, &ALL) > before);
        }
        town.well_after(Instant::now())
    });
    report("rubbish in a stream", None, well, &meanwhile);
    assert!(town.ahead() == [0.0, 0.0], "{:?}", town.ahead());
    town.is_all_kept(&meanwhile.refused);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn the_meter_of_what_the_store_has_lost_counts_everybody() {
    let server = Server::start(&[]);
    let town = Town::over(&server.url());
    let new: Vec<String> = (0..2 * PARTITIONS)
        .map(|nth| town.newcomer(nth % PARTITIONS).resident())
        .collect();
    server.ask(&["FLUSHALL"]);
    // As many come as were lost.
    town.feed(&new);
    until("the loss is seen", || {
        (0..2).all(|node| town.faults(node, &LOSSES) >= 16.0)
    });
    until("it counts everybody", || town.ahead() == [32.0, 32.0]);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn the_meter_of_what_the_store_has_lost_falls_when_it_has_it_again() {
    let server = Server::start(&[]);
    let town = Town::over(&server.url());
    server.ask(&["FLUSHALL"]);
    until("the loss is seen", || {
        town.ahead().iter().all(|ahead| *ahead >= 16.0)
    });
    feed_again(&town);
    until("the meter falls", || town.ahead() == [0.0, 0.0]);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_node_that_was_away_when_the_store_forgot_takes_no_red_away() {
    let server = Server::start(&[]);
    let relay = Relay::start(server.address());
    let mut town = Town::with(&server.url(), 1, &[]);
    town.nodes.push(town.start_at(&relay.url()).node());
    let person = twice_red(&mut town);
    relay.refuse();
    relay.cut_after(0);
    until("one node has lost it", || town.faults(1, &["gone"]) >= 16.0);
    server.ask(&["FLUSHALL"]);
    town.feed(&[said_by(&person, "gd-cdc", "clear", 2)]);
    assert_eq!(town.state(&town.nodes[0], &person), "red");
    relay.pass();
    until("it has read all anew", || town.faults(1, &LOSSES) >= 16.0);
    for node in &town.nodes {
        assert_eq!(town.state(node, &person), "red");
    }
}

/// A file that shifts the clock of Redis, at no shift.
fn clock() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = folder();
    let file = folder.path().join("clock");
    shift(&file, 0);
    (folder, file)
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn reds_are_shown_by_a_store_that_comes_back_empty_with_a_clock_that_is_behind() {
    let (_folder, file) = clock();
    let mut server = Server::start_shifted(&file);
    let mut town = Town::over(&server.url());
    let people: Vec<Person> = (0..40).map(|_| town.anybody()).collect();
    let residents: Vec<String> = people.iter().map(Person::resident).collect();
    town.feed(&residents);
    server.kill();
    until("feeds are refused", || town.is_refused(3));
    server.empty();
    shift(&file, -2 * 3600);
    server.restart();
    town.feed(&town.lines());
    town.feed(&residents);
    for person in &people {
        town.feed(&[person.set("confirmed", 1)]);
        // The node that acknowledged shows it at once.
        assert_eq!(town.state(&town.nodes[0], person), "red");
        town.know(person.clone(), "red");
    }
    until("every node shows every red", || town.is_told());
    for person in &people {
        town.feed(&[person.clear("confirmed", 2)]);
        town.know(person.clone(), "green");
    }
    until("and every green", || town.is_told());
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn reds_are_shown_by_a_restored_store_whose_clock_was_ahead_for_a_while() {
    let (_folder, file) = clock();
    let mut server = Server::start_shifted(&file);
    let mut town = Town::over(&server.url());
    let people: Vec<Person> = (0..40).map(|_| town.anybody()).collect();
    let residents: Vec<String> = people.iter().map(Person::resident).collect();
    town.feed(&residents);
    let backup = server.keep();
    shift(&file, 3600);
    // Versions of an hour ahead reach every board.
    for person in &people {
        town.feed(&[person.set("suspected", 1), person.clear("suspected", 2)]);
    }
    shift(&file, 0);
    until("every node knows", || town.is_told());
    server.kill();
    until("feeds are refused", || town.is_refused(3));
    server.restore(&backup);
    server.restart();
    for person in &people {
        town.feed(&[person.set("confirmed", 1)]);
        assert_eq!(town.state(&town.nodes[0], person), "red");
        town.know(person.clone(), "red");
    }
    until("every node shows every red", || town.is_told());
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_node_that_slept_while_an_older_backup_was_restored_keeps_its_reds() {
    let mut server = Server::start(&[]);
    let mut town = Town::over(&server.url());
    let people: Vec<Person> = (0..12).map(|_| town.anybody()).collect();
    let residents: Vec<String> = people.iter().map(Person::resident).collect();
    town.feed(&residents);
    let backup = server.keep();
    for person in &people {
        town.feed(&[person.set("confirmed", 1)]);
        town.know(person.clone(), "red");
    }
    until("every node knows", || town.is_fresh());
    town.nodes[1].signal(libc::SIGSTOP);
    server.kill();
    server.restore(&backup);
    server.restart();
    until("the node that is awake has noticed", || {
        town.faults(0, &["behind", "trimmed", "replaced"]) >= 1.0
    });
    // Other reasons come and go, until the streams have forgotten where the sleeper stopped.
    for person in &people {
        town.feed(&[person.set("suspected", 1), person.clear("suspected", 2)]);
    }
    for partition in 0..PARTITIONS {
        server.ask(&["XTRIM", &partition::stream(partition), "MAXLEN", "0"]);
    }
    town.nodes[1].signal(libc::SIGCONT);
    until("every red is red at both, and fresh", || town.is_fresh());
    for person in &people {
        for node in &town.nodes {
            assert_eq!(town.state(node, person), "red");
        }
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_loss_that_is_counted_again_beside_changes_takes_no_red_away() {
    let mut server = Server::start(&[]);
    let mut town = Town::over(&server.url());
    let people: Vec<Person> = (0..200).map(|_| town.anybody()).collect();
    let lines: Vec<String> = people
        .iter()
        .flat_map(|person| [person.resident(), person.set("suspected", 1)])
        .collect();
    town.feed(&lines);
    let backup = server.keep();
    let reds: Vec<String> = people
        .iter()
        .map(|person| person.set("confirmed", 1))
        .collect();
    town.feed(&reds);
    for person in &people {
        town.know(person.clone(), "red");
    }
    until("every node knows", || town.is_fresh());
    server.kill();
    server.restore(&backup);
    server.restart();
    // While nodes compare the store with their boards again and again, another reason of everybody is cleared.
    let ahead = || town.ahead().iter().all(|ahead| *ahead >= 1.0);
    until("the loss is counted", ahead);
    for chunk in people.chunks(20) {
        let clears: Vec<String> = chunk
            .iter()
            .map(|person| person.clear("suspected", 2))
            .collect();
        town.feed(&clears);
        std::thread::sleep(std::time::Duration::from_millis(700)); // a recount comes every two seconds and more
    }
    for person in &people {
        for node in &town.nodes {
            assert_eq!(town.state(node, person), "red");
        }
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_is_acknowledged_is_on_the_board_of_the_node_that_acknowledges() {
    let server = Server::start(&[]);
    let town = Town::over(&server.url());
    let authority = town.ring.seals.authority();
    let people: Vec<Person> = (0..20).map(|_| town.anybody()).collect();
    let residents: Vec<String> = people.iter().map(Person::resident).collect();
    town.feed(&residents);
    // Each node in turn makes the next change, so that the other's is often still on its way.
    for seq in 1..=20 {
        let (what, colour) = match seq % 2 {
            1 => ("set", "red"),
            _ => ("clear", "green"),
        };
        for person in &people {
            let node = &town.nodes[seq as usize % 2];
            let line = person.said("confirmed", what, seq).to_string();
            let answer = node.post_feed(&authority, &line);
            if answer.status == 200 {
                assert_eq!(town.state(node, person), colour, "{seq}");
                // Sent again to the other, it is there already: that node shows it too.
                let other = &town.nodes[(seq as usize + 1) % 2];
                if other.post_feed(&authority, &line).status == 200 {
                    assert_eq!(town.state(other, person), colour, "{seq}");
                }
            }
        }
    }
}

/// What became of the store while every node slept.
#[derive(Clone, Copy, Debug)]
enum Return {
    /// A backup of before its clock was ahead for a while.
    Restored,
    /// Nothing, and a clock that is behind.
    Empty,
}

/// What a node that was started over a store that went back acknowledges before any other node has raised the store's versions.
fn told_to_those_who_slept(how: Return) {
    let (_folder, file) = clock();
    let mut server = Server::start_shifted(&file);
    let mut town = Town::over(&server.url());
    let people: Vec<Person> = (0..32).map(|_| town.anybody()).collect();
    let mut residents: Vec<String> = people.iter().map(Person::resident).collect();
    residents.extend(people[..8].iter().map(|person| person.set("suspected", 1)));
    town.feed(&residents);
    let backup = server.keep();
    if let Return::Restored = how {
        shift(&file, 3600);
    }
    // These versions are above all that the store gives once it is back.
    let later = |person: &Person| [person.set("confirmed", 1), person.clear("confirmed", 2)];
    town.feed(&people.iter().flat_map(later).collect::<Vec<_>>());
    // A red that the store forgets, and a clear: the store has the red again.
    town.feed(&[
        people[30].set("close_contact", 1),
        people[0].clear("suspected", 2),
    ]);
    for (nth, person) in people.iter().enumerate() {
        let is_red = (1..8).contains(&nth) || nth == 30;
        town.know(person.clone(), if is_red { "red" } else { "green" });
    }
    until("every node knows", || town.is_told());
    for node in &town.nodes {
        node.signal(libc::SIGSTOP);
    }
    server.kill();
    match how {
        Return::Restored => {
            shift(&file, 0);
            server.restore(&backup);
        }
        Return::Empty => {
            shift(&file, -2 * 3600);
            server.empty();
        }
    }
    server.restart();
    // Beside a store whose clock is behind it is not ready; it takes feeds all the same.
    let new = town.start_at(&server.url()).starting().open();
    let feed = |lines: &[String]| {
        until("the new node takes it", || {
            let fed = new.post_feed(&town.authority, lines.join("\n"));
            fed.status == 200 && fed.json()["rejected"] == serde_json::json!([])
        });
    };
    if let Return::Empty = how {
        feed(&residents);
    }
    // Reds of people who were green, and one clear of what the store has.
    let reds: Vec<String> = people[8..24]
        .iter()
        .map(|person| person.set("suspected", 1))
        .collect();
    feed(&reds);
    if let Return::Restored = how {
        // The streams have a past in common with what the sleepers read.
        feed(&[people[1].clear("suspected", 3)]);
        town.know(people[1].clone(), "green");
    }
    for person in &people[8..24] {
        until("the new node tells it", || {
            town.state(&new, person) == "red"
        });
    }
    for node in &town.nodes {
        node.signal(libc::SIGCONT);
    }
    for person in &people[8..24] {
        town.know(person.clone(), "red");
    }
    if let Return::Empty = how {
        // To a store that has lost all, whoever feeds an older history again tells it.
        town.know(people[0].clone(), "red");
    }
    until("those who slept tell it", || town.is_told());
    // Whatever follows is told as ever.
    let clears: Vec<String> = people[8..24]
        .iter()
        .map(|person| person.clear("suspected", 2))
        .collect();
    town.feed(&clears);
    for person in &people[8..24] {
        town.know(person.clone(), "green");
    }
    until("and what comes then", || town.is_told());
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_a_new_node_acknowledges_over_a_restored_store_is_told_by_those_who_slept() {
    told_to_those_who_slept(Return::Restored);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_a_new_node_acknowledges_over_an_empty_store_is_told_by_those_who_slept() {
    told_to_those_who_slept(Return::Empty);
}
