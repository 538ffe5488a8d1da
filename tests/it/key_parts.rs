//! Nodes that have the part of a key ring which their doors need, beside one that has it whole.

use crate::harness::*;
use crate::redis::Server;
use liangma::clock::Time;
use liangma::http::door::Door;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Output;

fn export(ring: &Path, doors: &str, out: &Path) -> Output {
    let mut command = command();
    command
        .args(["keys", "export", "--for", doors, "--out"])
        .arg(out);
    let store = ["--store", "redis://x", "--keys"];
    command
        .args(store)
        .arg(ring)
        .output()
        .expect("the binary runs")
}

fn part(ring: &Ring, doors: &str, name: &str) -> PathBuf {
    let out = ring.file.with_file_name(name);
    let exported = export(&ring.file, doors, &out);
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    out
}

fn node(url: &str, keys: &Path, doors: &str) -> NodeBuilder {
    let mut builder = NodeBuilder::new(&[
        doors,
        "offline_issuer=440000",
        "offline_codes_per_second=100",
        "desk_requests_per_second=1000",
    ]);
    (builder.store, builder.keys) = (Some(url.into()), Some(keys.to_owned()));
    builder
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn nodes_with_parts_of_a_ring_do_all_that_their_doors_do_and_nothing_else() {
    let (server, ring) = (Server::start(&[]), Ring::make());
    let url = server.url();
    let seals = &ring.seals;
    let whole = node(&url, &ring.file, "doors=resident,gate,desk,ops").node();
    let (chen, li) = (person(1), person(2));
    let lines = [chen.resident(), li.resident(), li.set("confirmed", 1)];
    whole.feed(&seals.authority(), &lines);
    let gate = node(&url, &part(&ring, "gate", "gate"), "doors=gate,ops").node();
    let resident = node(
        &url,
        &part(&ring, "resident", "resident"),
        "doors=resident,ops",
    )
    .node();
    let scanner = seals.scanner();
    for (who, state) in [(&chen, "green"), (&li, "red")] {
        let session = seals.session(who);
        until("the part shows", || {
            resident.show(&session).state() == state
        });
        until("the part scans", || {
            gate.scan(&scanner, resident.code(&session)).state() == state
        });
        assert_eq!(whole.scan(&scanner, resident.code(&session)).state(), state);
        // An offline code is signed by the one and verified by the other.
        let ask = Ask::get("/v1/code/offline").bearer(&session);
        let code = ask.at(resident.address(Door::Resident)).json();
        let code = code["code"].as_str().expect("a code").to_owned();
        until("the part scans offline codes", || {
            gate.scan(&scanner, &code).state() == state
        });
    }
    // Grants, until they are taken back; and who gave them hears of the scan.
    let session = seals.session(&chen);
    let body = json!({ "organisation": "o-1", "until": "2099-12-31" });
    let grant = whole.put("/v1/grants", &session, body);
    let code = grant["code"].as_str().unwrap();
    let officer = seals.scanner_of("o-1");
    until("the grant is scanned", || {
        gate.scan(&officer, code).state() == "green"
    });
    until("who gave it hears of it", || {
        let told = whole.read("/v1/accesses", &session);
        let told = told["accesses"].as_array().expect("a list").clone();
        told.iter().any(|one: &Value| one["by"] == "o-1")
    });
    let path = format!("/v1/grants/{}", grant["id"].as_str().unwrap());
    assert_eq!(whole.desk("DELETE", &path, &session, None).status, 200);
    until("the grant is refused", || {
        gate.scan(&officer, code).status == 422
    });
    // A token that was revoked is refused, and no token of an office is known.
    let revoke = |node: &Node| {
        let ask = Ask::post("/v1/revocations", json!({ "token": scanner }).to_string()).json();
        ask.bearer(&seals.operator())
            .at(node.address(Door::Ops))
            .status
    };
    assert_eq!(revoke(&gate), 401);
    assert_eq!(
        gate.post_feed(&seals.authority(), chen.resident()).status,
        401
    );
    assert_eq!(
        resident
            .post_feed(&seals.authority(), chen.resident())
            .status,
        401
    );
    assert_eq!(revoke(&whole), 201);
    let live = seals.code_of(&chen, Time::now());
    until("the token is refused", || {
        gate.scan(&scanner, &live).status == 401
    });
    let log = gate.log() + &resident.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_part_is_for_its_doors_alone_and_follows_its_ring() {
    let (server, mut ring) = (Server::start(&[]), Ring::make());
    let url = server.url();
    let keys = part(&ring, "gate", "gate");
    for doors in ["resident", "desk", "gate,desk"] {
        let refused = node(&url, &keys, &format!("doors={doors}")).starting();
        assert_eq!(refused.end().code(), Some(78), "{doors}");
    }
    let bad = export(&ring.file, "desk", &keys.with_extension("desk"));
    assert_eq!(bad.status.code(), Some(2), "{}", text(&bad.stderr));
    let again = export(&ring.file, "gate", &keys);
    assert!(!again.status.success() && text(&again.stderr).contains("not overwritten"));
    let of_part = export(&keys, "gate", &keys.with_extension("part"));
    assert!(
        text(&of_part.stderr).contains("the whole ring is needed"),
        "{}",
        text(&of_part.stderr)
    );

    let whole = node(&url, &ring.file, "doors=resident,gate,desk,ops").node();
    let chen = person(1);
    whole.feed(&ring.seals.authority(), &[chen.resident()]);
    let gate = node(&url, &keys, "doors=gate,ops").node();
    let rotate = |more: &[&str]| {
        let mut command = command();
        command
            .args(["keys", "rotate", "--store", "redis://x", "--keys"])
            .arg(&ring.file);
        assert!(
            command
                .args(more)
                .output()
                .expect("the binary runs")
                .status
                .success()
        );
    };
    rotate(&["--drop-previous"]);
    let fresh = part(&ring, "gate", "fresh");
    ring.seals = Credentials::of(&liangma::seal::ring::RingFile::read(&ring.file).unwrap());
    let scan = |seals: &Credentials| {
        let code = seals.code_of(&chen, Time::now());
        gate.scan(&seals.scanner(), &code).status
    };
    // The part of before knows the next key.
    until("the board knows", || scan(&ring.seals) == 200);
    // Of another door, of another ring, and rubbish: what is in force stays.
    let (other, foreign) = (part(&ring, "resident", "other"), Ring::make());
    let foreign = part(&foreign, "gate", "foreign");
    for (file, told) in [
        (&other, "the door resident"),
        (&foreign, "belongs to another store"),
    ] {
        std::fs::copy(file, &keys).unwrap();
        gate.signal(libc::SIGHUP);
        until("the bad one is told", || gate.log().contains(told));
        assert_eq!(scan(&ring.seals), 200);
    }
    std::fs::copy(&fresh, &keys).unwrap();
    gate.signal(libc::SIGHUP);
    until("the ring is read", || {
        gate.log().contains("the key ring was read again")
    });
    rotate(&["--drop-previous"]);
    ring.seals = Credentials::of(&liangma::seal::ring::RingFile::read(&ring.file).unwrap());
    assert_eq!(
        scan(&ring.seals),
        200,
        "the new part knows the next key too"
    );
}
