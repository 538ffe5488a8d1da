//! Clocks that somebody sets: the node's, while it serves, and that of Redis. Ages go on, nothing expired comes back, and the
//! node says what it saw.

use crate::harness::*;
use crate::redis::Server;
use liangma::http::door::Door;
use std::path::{Path, PathBuf};

const MINUTE: i64 = 60;
const DAY: i64 = 86_400;

/// Steps of the time of day, in seconds.
const STEPS: [i64; 6] = [-5 * MINUTE, 5 * MINUTE, -DAY, DAY, -40 * DAY, 40 * DAY];

/// A file that shifts clocks, and what it says.
struct Clock(PathBuf);

impl Clock {
    fn new(folder: &Path) -> Clock {
        let clock = Clock(folder.join("clock"));
        clock.set(0);
        clock
    }

    fn set(&self, seconds: i64) {
        shift(&self.0, seconds);
    }
}

fn state(answer: &Answer) -> String {
    answer.json()["state"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_node_whose_clock_is_set_over_redis_goes_on_with_its_time_and_is_not_ready() {
    let folder = folder();
    let clock = Clock::new(folder.path());
    let ring = Ring::make();
    let server = Server::start(&[]);
    let mut start = NodeBuilder::new(&["clock_offset_max=2s"]).over_redis(&server.url(), &ring);
    start.clock = Some(clock.0.clone());
    let node = start.node();
    let other = NodeBuilder::new(&[])
        .over_redis(&server.url(), &ring)
        .node();
    let authority = ring.seals.authority();
    let session = ring.seals.session(&person(1));
    let scanner = ring.seals.scanner();
    node.feed(
        &authority,
        &[person(1).resident(), person(1).set("confirmed", 1)],
    );
    let mut seq = 1;
    for step in STEPS {
        clock.set(step);
        until("the node says that its clock is apart", || {
            state(&node.get(Door::Ops, "/ready")) == "clock"
        });
        // Both show and scan each other's codes, with the right colour, and a change goes through.
        seq += 1;
        let what = if seq % 2 == 0 { "clear" } else { "set" };
        let colour = if seq % 2 == 0 { "green" } else { "red" };
        node.feed(
            &authority,
            &[person(1).said("confirmed", what, seq).to_string()],
        );
        for (from, to) in [(&node, &other), (&other, &node), (&node, &node)] {
            until("both know the change", || {
                state(&from.show(&session)) == colour
            });
            let code = from.code(&session);
            until("the other does too", || {
                state(&to.scan(&scanner, &code)) == colour
            });
        }
        assert_eq!(other.get(Door::Ops, "/ready").status, 200);
        clock.set(0);
        until("the clocks agree again", || {
            node.get(Door::Ops, "/ready").status == 200
        });
    }
    assert!(node.meter("liangma_clock_steps_total") >= STEPS.len() as f64);
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn knowledge_ages_although_the_clock_was_set_back_or_leapt_ahead_and_was_put_right() {
    for shifts in [
        &[-3600][..],
        &[-300],
        &[3600, 0],
        &[-40 * DAY],
        &[40 * DAY, -DAY],
    ] {
        let folder = folder();
        let clock = Clock::new(folder.path());
        let ring = Ring::make();
        let mut server = Server::start(&[]);
        let settings = ["stale_after=500ms", "too_old_after=2s"];
        let mut start = NodeBuilder::new(&settings).over_redis(&server.url(), &ring);
        start.clock = Some(clock.0.clone());
        let node = start.node();
        let session = ring.seals.session(&person(1));
        node.feed(&ring.seals.authority(), &[person(1).resident()]);
        until("green", || state(&node.show(&session)) == "green");
        for (nth, shift) in shifts.iter().enumerate() {
            clock.set(*shift);
            until("the step is seen", || {
                node.meter("liangma_clock_steps_total") > nth as f64 || *shift == 0
            });
        }
        server.kill();
        // A green is marked before it goes, and does not come back.
        until("too old", || state(&node.show(&session)) == "too_old");
        assert_ne!(node.get(Door::Ops, "/ready").status, 200);
        assert!(node.meter("liangma_data_age_seconds") > 2.0);
        let shown = node.show(&session).json();
        assert_eq!(shown["stale"], true, "{shifts:?}: {shown}");
    }
}

#[test]
fn a_code_that_has_expired_stays_so_when_the_clock_is_set_back() {
    let folder = folder();
    let clock = Clock::new(folder.path());
    let mut start = NodeBuilder::new(&["code_life=1s", "clock_skew=0ms"]);
    start.clock = Some(clock.0.clone());
    let node = start.node();
    let seals = node.seals();
    let session = seals.session(&person(1));
    node.feed(&seals.authority(), &[person(1).resident()]);
    let code = node.code(&session);
    let scanner = seals.scanner();
    until("it expires", || node.scan(&scanner, &code).status == 422);
    for back in [2, 60, 3600] {
        clock.set(-back);
        until("the step is seen", || {
            node.log().contains("stepped") || back == 2
        });
        for _ in 0..20 {
            let scanned = node.scan(&scanner, &code);
            assert_eq!(scanned.json()["code"], "code_expired", "{back} s back");
        }
        // New ones are good all the same.
        assert_eq!(state(&node.scan(&scanner, node.code(&session))), "green");
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_redis_whose_clock_is_set_keeps_its_nodes_true() {
    let folder = folder();
    let clock = Clock::new(folder.path());
    let ring = Ring::make();
    let server = Server::start_shifted(&clock.0);
    let nodes = [(); 2].map(|()| {
        NodeBuilder::new(&[])
            .over_redis(&server.url(), &ring)
            .node()
    });
    let session = ring.seals.session(&person(1));
    let authority = ring.seals.authority();
    nodes[0].feed(&authority, &[person(1).resident()]);
    let mut seq = 0;
    for step in STEPS {
        clock.set(step);
        for (what, colour) in [("set", "red"), ("clear", "green")] {
            seq += 1;
            let fed = nodes[seq as usize % 2].feed(
                &authority,
                &[person(1).said("confirmed", what, seq).to_string()],
            );
            assert_eq!(fed["applied"], 1, "{step}: {fed}");
            for node in &nodes {
                until("the change is shown", || {
                    state(&node.show(&session)) == colour
                });
            }
        }
        until("a node says that the clocks are apart", || {
            state(&nodes[0].get(Door::Ops, "/ready")) == "clock"
        });
        clock.set(0);
        until("they agree again", || {
            nodes[0].get(Door::Ops, "/ready").status == 200
        });
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_node_that_starts_beside_a_redis_whose_clock_is_wrong_takes_the_time_of_those_that_run() {
    // Whether those that run have noticed yet, or it starts in the second in which the clock of Redis steps.
    for (step, noticed) in STEPS.into_iter().zip([true, false].into_iter().cycle()) {
        let folder = folder();
        let clock = Clock::new(folder.path());
        let ring = Ring::make();
        let server = Server::start_shifted(&clock.0);
        let start = || {
            NodeBuilder::new(&["clock_offset_max=2s"])
                .over_redis(&server.url(), &ring)
                .starting()
                .open()
        };
        let node = start();
        until("it is ready", || {
            node.get(Door::Ops, "/ready").status == 200
        });
        let session = ring.seals.session(&person(1));
        let scanner = ring.seals.scanner();
        node.feed(&ring.seals.authority(), &[person(1).resident()]);
        clock.set(step);
        if noticed {
            until("it says that the clocks are apart", || {
                state(&node.get(Door::Ops, "/ready")) == "clock"
            });
            until("it says so to others", || {
                !server.ask(&["KEYS", "lm:*:c"]).is_empty()
            });
        }
        let new = start();
        until("the new node tells", || {
            new.show(&session).status == 200 && state(&new.show(&session)) == "green"
        });
        until("its clock was judged", || {
            state(&new.get(Door::Ops, "/ready")) == "clock"
        });
        // Each takes what the other issues, as of the same time.
        for (from, to) in [(&node, &new), (&new, &node)] {
            let code = from.code(&session);
            assert_eq!(state(&to.scan(&scanner, &code)), "green", "{step}");
        }
        let as_of = |node: &Node| {
            let shown = node.show(&session).json();
            liangma::feed::parse_time(shown["as_of"].as_str().expect("a time"))
                .expect("a time")
                .0
        };
        let (one, other) = (as_of(&node), as_of(&new));
        assert!(one.abs_diff(other) < 60_000, "{step}: {one} and {other}");
        clock.set(0);
        for node in [&node, &new] {
            until("the clocks agree again", || {
                node.get(Door::Ops, "/ready").status == 200
            });
        }
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_was_revoked_stays_so_and_nothing_is_swept_by_whatever_clock_is_wrong() {
    // Whose clock is set: the first node's, Redis's, or both, which then agree that it is another day.
    for (of_node, of_redis) in [(true, false), (false, true), (true, true)] {
        let folder = folder();
        let clock = Clock::new(folder.path());
        let ring = Ring::make();
        let server = match of_redis {
            true => Server::start_shifted(&clock.0),
            false => Server::start(&[]),
        };
        let settings = ["retention_temperatures=1d", "retention_sweep_interval=1s"];
        let mut start = NodeBuilder::new(&settings).over_redis(&server.url(), &ring);
        start.clock = of_node.then(|| clock.0.clone());
        let nodes = [
            start.node(),
            NodeBuilder::new(&settings)
                .over_redis(&server.url(), &ring)
                .node(),
        ];
        let seals = &ring.seals;
        let (lost, session) = (seals.scanner(), seals.session(&person(1)));
        let at = liangma::clock::Time::now().print();
        let temperature = serde_json::json!({
            "event": "temperature", "celsius": 36.5, "at": text(&at), "seq": 1, "region": "440106",
            "cert_type": "10", "cert_no": person(1).cert_no, "source": "gz-lab",
        });
        let fed = [person(1).resident(), temperature.to_string()];
        nodes[0].feed(&seals.authority_of("gz-lab", None), &fed);
        let asked = serde_json::json!({ "token": lost }).to_string();
        let asked = Ask::post("/v1/revocations", asked).json();
        let revoked = asked
            .bearer(&seals.operator())
            .at(nodes[0].address(Door::Ops));
        assert_eq!(revoked.status, 201, "{}", text(&revoked.body));
        for step in STEPS {
            // By the first node, or by the second, whose clock is right, beside a Redis whose clock is wrong.
            let put_off = || -> usize {
                let logs = nodes.iter().map(Node::log);
                logs.map(|log| {
                    log.matches("papers past their retention are not removed now")
                        .count()
                })
                .sum()
            };
            let before = put_off();
            clock.set(step);
            until("a sweep is put off", || put_off() > before);
            for node in &nodes {
                until("the revoked token is refused", || {
                    node.scan(&lost, "x").status == 401
                });
            }
            clock.set(0);
            until("the clocks agree again", || {
                nodes[0].get(Door::Ops, "/ready").status == 200
            });
            for node in &nodes {
                until("it is the time that it was", || {
                    node.scan(&lost, "x").json()["code"] == "unauthorized"
                });
                // A Redis whose clock was set may be away for a moment.
                let mut known = serde_json::Value::Null;
                until("the desk answers", || {
                    let asked = Ask::get("/v1/health?kind=temperature").bearer(&session);
                    let answer = asked.at(node.address(Door::Desk));
                    known = answer.json();
                    answer.status == 200
                });
                let papers = known["records"].as_array().map(Vec::len);
                assert_eq!(papers, Some(1), "{of_node} {of_redis} {step}: {known}");
            }
        }
    }
}
