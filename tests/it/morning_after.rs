//! The page "the morning after", run command by command.

use crate::harness::*;
use crate::tls;
use liangma::http::door::Door;
use std::path::Path;
use std::process::{Command, Stdio};

/// The commands of a page, in its order.
fn commands(page: &str) -> String {
    let mut all = String::new();
    for block in page.split("```sh\n").skip(1) {
        all.push_str(block.split("```").next().expect("a block"));
    }
    all
}

#[test]
#[cfg_attr(no_curl, ignore = "no curl on this machine")]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
fn every_command_of_the_page_does_what_the_page_says() {
    if Command::new("curl").arg("--version").output().is_err() {
        left_out("curl");
    }
    let authority = tls::Authority::make();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operate/morning-after.md");
    let commands = commands(&std::fs::read_to_string(page).unwrap());
    assert!(commands.matches("liangma ").count() > 12, "{commands}");
    let folder = folder();
    let put = |name: &str, from: &Path| std::fs::copy(from, folder.path().join(name)).unwrap();
    let old = authority.signs("old");
    let new = authority.own_signed("new");
    put("gate.pem", &old.cert);
    put("gate.key", &old.key);
    put("new.pem", &new.cert);
    put("new.key", &new.key);
    put("old-ca.pem", &authority.own.cert);
    let files = tls::Pair {
        cert: folder.path().join("gate.pem"),
        key: folder.path().join("gate.key"),
    };
    let settings = tls::with(Door::Gate, &files);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let node = NodeBuilder::new(&[&settings[..], &["offline_issuer=440000"]].concat()).node();
    node.feed(&node.seals().authority(), &[person(1).set("confirmed", 1)]);
    let stolen = token(&node.store, &["scanner", "--site", "east-gate"]);
    let duty = token(&node.store, &["operator", "--name", "duty"]);
    std::fs::write(folder.path().join("duty.token"), duty).unwrap();
    // The log of a node, as it was before: with an end that was written down.
    let verified = Command::new(env!("CARGO_BIN_EXE_liangma"))
        .args(["audit", "verify", "--token-file"])
        .arg(folder.path().join("duty.token"))
        .arg("--from")
        .arg(format!("http://{}", node.address(Door::Ops)))
        .arg("--store")
        .arg(&node.store)
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", text(&verified.stderr));
    std::fs::write(folder.path().join("node.log"), &verified.stdout).unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_liangma")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    // Both authorities are trusted, as gates do while one takes the place of the other; where the page names one, that one.
    let both = [&authority.own.cert, &new.cert].map(|cert| std::fs::read(cert).unwrap());
    std::fs::write(folder.path().join("both.pem"), both.concat()).unwrap();
    let ran = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &commands])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("CURL_CA_BUNDLE", folder.path().join("both.pem"))
        .env("STORE", &node.store)
        .env("OPS", format!("http://{}", node.address(Door::Ops)))
        .env("GATE", format!("https://{}", node.address(Door::Gate)))
        .env("GATE_CERT", &files.cert)
        .env("GATE_KEY", &files.key)
        .env("PID", node.pid().to_string())
        .env("STOLEN_SCANNER", stolen)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = format!("{}\n{}", text(&ran.stdout), text(&ran.stderr));
    assert!(ran.status.success(), "{said}\n{}", node.log());
}
