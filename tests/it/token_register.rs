//! The register of tokens: what was made is listed, and revoked without anybody having its text.

use crate::harness::*;
use liangma::http::door::Door;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Output;

fn run_token(store: &Path, rest: &[&str]) -> Output {
    let mut command = command();
    command.arg("token").args(rest).arg("--store").arg(store);
    command.output().expect("the binary runs")
}

/// The fields of each listed token, by its name.
fn listed(store: &Path, rest: &[&str]) -> Vec<Vec<String>> {
    let output = run_token(store, &[&["list"], rest].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let lines = said.lines().skip(1);
    lines
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

fn number_of(store: &Path, name: &str) -> String {
    let tokens = listed(store, &[]);
    let found = tokens.iter().find(|fields| fields[2] == name);
    found.expect("it is listed")[0].clone()
}

fn scans(node: &Node, token: &str) -> u16 {
    node.scan(token, "nothing").status
}

#[test]
fn what_is_made_is_listed_and_the_register_holds_no_token() {
    let node = Node::start();
    let store = &node.store;
    let name = "陈美玲";
    let made = [
        token(
            store,
            &["scanner", "--site", "东门 1", "--organisation", "gz-school"],
        ),
        token(
            store,
            &["authority", "--source", "gd-cdc", "--for", "gz-cdc,fs-cdc"],
        ),
        token(store, &["organisation", "--name", "gz-school"]),
        token(store, &["staff", "--name", "wang-01", "--region", "440100"]),
        token(store, &["operator", "--name", "duty"]),
        token(
            store,
            &[
                "resident",
                "--cert-type",
                "10",
                "--cert-no",
                &person(1).cert_no,
                "--name",
                name,
                "--assurance",
                "real_person",
            ],
        ),
    ];
    let tokens = listed(store, &[]);
    let roles: Vec<&str> = tokens.iter().map(|fields| fields[1].as_str()).collect();
    let all = [
        "scanner",
        "authority",
        "organisation",
        "staff",
        "operator",
        "resident",
    ];
    assert_eq!(roles, all);
    assert_eq!(
        (tokens[0][2].as_str(), tokens[0][3].as_str()),
        ("东门 1", "gz-school")
    );
    assert_eq!(tokens[1][3], "gz-cdc,fs-cdc");
    assert_eq!(tokens[5][2], "-");
    assert!(
        tokens
            .iter()
            .all(|fields| fields[6] == "in force" && fields[0].len() == 16)
    );
    let path = store.join("tokens.ndjson");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let kept = std::fs::read_to_string(&path).unwrap();
    for secret in made
        .iter()
        .map(String::as_str)
        .chain([name, &person(1).cert_no])
    {
        assert!(!kept.contains(secret), "{kept}");
    }
    // Keys that are gone leave no token in force.
    let mut command = command();
    command.args(["keys", "replace", "--store"]).arg(store);
    assert!(command.output().unwrap().status.success());
    assert!(listed(store, &[]).is_empty());
    assert!(
        listed(store, &["--all"])
            .iter()
            .all(|fields| fields[6] == "key gone")
    );
}

#[test]
fn tokens_are_revoked_through_a_node_by_number_name_and_site() {
    let node = Node::start();
    let store = node.store.clone();
    let operator = token(&store, &["operator", "--name", "duty"]);
    let to = format!("http://{}", node.address(Door::Ops));
    let one = token(&store, &["scanner", "--site", "one"]);
    let other = token(&store, &["scanner", "--site", "other"]);
    let authority = token(&store, &["authority", "--source", "gd-cdc"]);
    assert_eq!((scans(&node, &one), scans(&node, &other)), (422, 422));
    let revoke = |rest: &[&str], token: &str| {
        run_token(
            &store,
            &[&["revoke", "--to", &to, "--token", token], rest].concat(),
        )
    };
    let refused = revoke(&["--site", "other"], &one);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("not_permitted"));
    let done = revoke(&["--number", &number_of(&store, "one")], &operator);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!((scans(&node, &one), scans(&node, &other)), (401, 422));
    assert!(revoke(&["--site", "other"], &operator).status.success());
    assert_eq!(scans(&node, &other), 401);
    // The register has one role for this name.
    assert!(revoke(&["--name", "gd-cdc"], &operator).status.success());
    node.post_feed(&authority, "").refuses(401, "unauthorized");
    let unknown = revoke(&["--name", "nobody"], &operator);
    assert!(
        text(&unknown.stderr).contains("--role"),
        "{}",
        text(&unknown.stderr)
    );
    assert!(
        revoke(&["--name", "nobody", "--role", "staff"], &operator)
            .status
            .success()
    );
    for bad in [
        &["--number", "12"][..],
        &["--number", "zzzzzzzzzzzzzzzz"],
        &[],
        &["--site", "a", "--name", "b"],
    ] {
        let refused = revoke(bad, &operator);
        assert!(!refused.status.success(), "{bad:?}");
    }
    let states: Vec<String> = listed(&store, &["--all"])
        .into_iter()
        .map(|mut fields| fields.swap_remove(6))
        .collect();
    assert_eq!(states, ["in force", "revoked", "revoked", "revoked"]);
    // A new token for the same site is good.
    until("a token of after it is made", || {
        scans(&node, &token(&store, &["scanner", "--site", "other"])) == 422
    });
}

#[test]
fn tokens_are_revoked_in_a_store_that_nobody_serves() {
    let node = Node::start();
    let folder = folder();
    let moved = folder.path().join("store");
    let store = node.store.clone();
    let one = token(&store, &["scanner", "--site", "one"]);
    let number = number_of(&store, "one");
    let refused = run_token(&store, &["revoke", "--number", &number]);
    assert!(
        text(&refused.stderr).contains("in use"),
        "{}",
        text(&refused.stderr)
    );
    node.signal(libc::SIGTERM);
    until("the store is free", || {
        run_token(&store, &["revoke", "--number", &number])
            .status
            .success()
    });
    std::fs::create_dir_all(&moved).unwrap();
    for entry in std::fs::read_dir(&store).unwrap().flatten() {
        std::fs::copy(entry.path(), moved.join(entry.file_name())).unwrap();
    }
    let node = NodeBuilder::new(&[]).over(&moved).node();
    assert_eq!(scans(&node, &one), 401);
    assert_eq!(
        scans(&node, &token(&moved, &["scanner", "--site", "one"])),
        422
    );
    node.signal(libc::SIGTERM);
    until("the log of acts is whole, and has the revocation", || {
        let mut verify = command();
        verify.args(["audit", "verify", "--store"]).arg(&moved);
        let verified = verify.output().unwrap();
        let mut list = command();
        list.args(["audit", "list", "--store"]).arg(&moved);
        let acts = text(&list.output().unwrap().stdout);
        verified.status.success() && acts.contains("\"revoke\"") && acts.contains(&number)
    });
}

#[test]
fn a_folder_that_cannot_be_written_to_stops_no_token() {
    let node = Node::start();
    let folder = folder();
    let ring = folder.path().join("keys");
    std::fs::copy(node.store.join("keys"), &ring).unwrap();
    // As root writes everywhere, a folder stands in the place of the file.
    std::fs::create_dir(folder.path().join("tokens.ndjson")).unwrap();
    let mut command = command();
    command
        .args(["token", "scanner", "--site", "one", "--keys"])
        .arg(&ring);
    let made = command.output().unwrap();
    assert!(made.status.success());
    let said = text(&made.stderr);
    assert!(
        said.contains("is not in the register; its number is "),
        "{said}"
    );
    assert_eq!(scans(&node, text(&made.stdout).trim_end()), 422);
}
