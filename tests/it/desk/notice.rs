//! The walk through the notice in docs/integrate/api.md, run as it stands there.

use crate::harness::*;
use crate::sessions::{claims, ed, node, sign, with};
use jsonwebtoken::Algorithm;
use liangma::http::door::Door;
use serde_json::json;
use std::io::{Write, stderr};
use std::process::Command;

const PAGE: &str = include_str!("../../../docs/integrate/api.md");

/// What stands between ```sh and ```.
fn blocks() -> Vec<&'static str> {
    let rest = PAGE.split("```sh\n").skip(1);
    rest.map(|rest| rest.split("```").next().expect("a first part"))
        .collect()
}

#[test]
fn every_command_of_the_page_does_what_it_says() {
    let missing = |program: &&&str| Command::new(**program).arg("--version").output().is_err();
    if let Some(program) = ["bash", "curl", "jq"].iter().find(missing) {
        let _ = writeln!(
            stderr(),
            "\n**** NO {program} ON THIS MACHINE: THE API PAGE IS NOT TRIED ****\n"
        );
        return;
    }
    let node = node();
    let (seals, chen) = (node.seals(), person(1));
    let mut mother = person(2);
    mother.name = "李秀英";
    let mut member = with(&mother, "name", json!("李秀英"));
    member["purpose"] = json!("family");
    assert_eq!(claims(&chen)["cert_type"], "10");
    node.feed(&seals.authority(), &[chen.resident()]);
    let school = "gz-no1-school";
    let door = |door| format!("http://{}", node.address(door));
    let blocks = blocks();
    assert!(blocks.len() >= 12);
    let script = format!("set -euo pipefail\n{}\necho walked", blocks.concat());
    let output = Command::new("bash")
        .args(["-c", &script])
        .env("RESIDENT", door(Door::Resident))
        .env("GATE", door(Door::Gate))
        .env("DESK", door(Door::Desk))
        .env("OPS", door(Door::Ops))
        .env("SESSION", seals.session(&chen))
        .env("SCANNER", seals.scanner())
        .env("SCHOOL_SCANNER", seals.scanner_of(school))
        .env("AUTHORITY", seals.authority())
        .env("SCHOOL", seals.organisation(school))
        .env("STAFF", seals.staff("wang-01", "440100"))
        .env("OPERATOR", seals.operator())
        .env(
            "ASSERTION",
            sign(Algorithm::EdDSA, Some("ed"), &ed(), &member),
        )
        .env("CERT_NO", &chen.cert_no)
        .env("MEMBER_NO", &mother.cert_no)
        .output()
        .expect("bash runs");
    let (said, erred) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}\n{erred}");
    assert!(said.ends_with("walked\n"));
    for promise in 1..=7 {
        assert!(PAGE.contains(&format!("## ({promise}) ")));
    }
}
