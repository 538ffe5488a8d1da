//! Two builds side by side: the one of the oldest commit with today's formats beside this one, over one Redis and over one embedded store.

use crate::harness::*;
use crate::redis::Server;
use liangma::http::door::Door;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest commit whose key ring, embedded store and Redis have the formats of today. A change of a format moves it.
const OLDEST: &str = "3a5bd25";

/// Returns the binary of that commit: the one that TEST_OLD_BINARY names, or one that is built under target/.
fn old_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("TEST_OLD_BINARY") {
        return path.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("target").join(format!("old-{OLDEST}"));
    let (source, built) = (folder.join("source"), folder.join("built"));
    let binary = built.join("release/liangma");
    if binary.exists() {
        return binary;
    }
    std::fs::create_dir_all(&source).expect("target/ can be written");
    let succeeds = |command: &mut Command| {
        let status = command.status().expect("git and cargo are here");
        assert!(status.success(), "{command:?}: {status}");
    };
    let archive = folder.join("source.tar");
    succeeds(
        Command::new("git")
            .current_dir(root)
            .args(["archive", "--output"])
            .arg(&archive)
            .arg(OLDEST),
    );
    succeeds(
        Command::new("tar")
            .arg("xf")
            .arg(&archive)
            .arg("-C")
            .arg(&source),
    );
    succeeds(
        Command::new(env!("CARGO"))
            .current_dir(&source)
            .args(["build", "--release", "--locked", "--bin", "liangma"])
            .env("CARGO_TARGET_DIR", &built),
    );
    binary
}

/// What one node says and the other must understand, whichever of the two builds each is.
fn understands(told_by: &Node, asked: &Node, nth: usize, is_red: bool) {
    let person = person(nth);
    let (seals, expected) = (told_by.seals(), if is_red { "red" } else { "green" });
    let session = seals.session(&person);
    until("the other node knows the person", || {
        asked.show(&session).json()["state"] == expected
    });
    // A code of each is opened by the other.
    for (shows, scans) in [(told_by, asked), (asked, told_by)] {
        let code = shows.code(&session);
        assert_eq!(
            scans.scan(&seals.scanner(), &code).json()["state"],
            expected
        );
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
#[ignore = "builds the binary of an older commit, some minutes; TEST_OLD_BINARY names one that is there"]
fn the_oldest_build_of_these_formats_runs_beside_this_one_and_either_takes_over_from_the_other() {
    let old = old_binary();
    let (server, ring) = (Server::start(&[]), Ring::make());
    let of = |binary: Option<&Path>| {
        let builder = NodeBuilder::new(&["store_replicas=0"]).over_redis(&server.url(), &ring);
        match binary {
            Some(binary) => builder.of_binary(binary).node(),
            None => builder.node(),
        }
    };
    // The old one first, as in an upgrade, then the new one first, as in a rollback.
    for (round, first_is_old) in [(0, true), (1, false)] {
        let [first, second] =
            [first_is_old, !first_is_old].map(|is_old| of(is_old.then_some(&*old)));
        for (nth, (fed, asked)) in [(&first, &second), (&second, &first)]
            .into_iter()
            .enumerate()
        {
            let nth = 10 * round + 2 * nth + 1;
            let (green, red) = (person(nth), person(nth + 1));
            let lines = [
                green.resident(),
                red.resident(),
                red.set("confirmed", nth as u64),
            ];
            fed.feed(&fed.seals().authority(), &lines);
            understands(fed, asked, nth, false);
            understands(fed, asked, nth + 1, true);
            // What one set the other clears.
            asked.feed(
                &asked.seals().authority(),
                &[red.clear("confirmed", nth as u64 + 100)],
            );
            understands(asked, fed, nth + 1, false);
        }
        assert_eq!(first.get(Door::Ops, "/ready").status, 200);
        assert_eq!(second.get(Door::Ops, "/ready").status, 200);
    }
    // One embedded store, from the old build to the new one and back.
    let folder = folder();
    let store = folder.path().join("store");
    let mut fed = 0;
    for is_old in [true, false, true, false] {
        let mut builder = NodeBuilder::new(&[]).over(&store);
        if is_old {
            builder = builder.of_binary(&old);
        }
        let node = builder.node();
        let session = |nth| node.seals().session(&person(nth));
        for nth in 1..=fed {
            assert_eq!(node.show(&session(nth)).json()["state"], "red", "{nth}");
        }
        fed += 1;
        let one = person(fed);
        node.feed(
            &node.seals().authority(),
            &[one.resident(), one.set("suspected", fed as u64)],
        );
        assert_eq!(node.show(&session(fed)).json()["state"], "red");
        node.signal(libc::SIGTERM);
        assert!(node.end().success());
    }
}
