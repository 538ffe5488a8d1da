//! Codes of other issuers at the gate door: passes, refusals, bulk, and a trust file that changes under a node.

use crate::harness::*;
use liangma::http::door::Door;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// When the hostile codes are judged.
const AS_OF: i64 = 1_781_481_600;

fn records(name: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/recognition");
    let lines = std::fs::read_to_string(folder.join(name)).expect("records");
    lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// Runs `liangma trust` and returns its exit code and what it printed, errors too.
fn trust(args: &[&str]) -> (i32, String) {
    let out = run(&[&["trust"][..], args].concat());
    let said = text(&out.stdout) + &text(&out.stderr);
    (out.status.code().unwrap_or(-1), said)
}

/// Writes the keys of the hostile codes and a trust file that names them.
pub fn trust_file(folder: &Path, extra: &str) -> PathBuf {
    let mut pem = String::new();
    let mut issuers = Vec::new();
    for record in records("hostile.jsonl") {
        let trust = &record["trust"];
        if let Some(certificate) = trust["x509_der_b64"].as_str()
            && !pem.contains(certificate)
        {
            pem +=
                &format!("-----BEGIN CERTIFICATE-----\n{certificate}\n-----END CERTIFICATE-----\n");
        }
        let issuer =
            json!({ "iss": trust["iss"], "name": "A card issuer", "keys": [trust["jwk"]] });
        if trust["iss"].is_string() && !issuers.contains(&issuer) {
            issuers.push(issuer);
        }
    }
    let path = |name: &str| folder.join(name);
    std::fs::write(path("keys.pem"), pem).expect("a file");
    std::fs::write(path("vci.json"), json!({ "issuers": issuers }).to_string()).expect("a file");
    for (form, list, keys) in [
        ("pem", "keys.pem", "hc1.json"),
        ("vci", "vci.json", "shc.json"),
    ] {
        let (out, list) = (path(keys), path(list));
        let args = [
            "import",
            "--format",
            form,
            "--out",
            out.to_str().unwrap(),
            list.to_str().unwrap(),
        ];
        let (code, said) = trust(&args);
        assert_eq!(code, 0, "{said}");
    }
    let trust = format!(
        "[[issuer]]\nformat = \"hc1\"\ntrust = \"hc1.json\"\npolicy = {{ tested_hours = 48, vaccinated_days = 270 }}\n\
         [[issuer]]\nformat = \"shc\"\ntrust = \"shc.json\"\n{extra}"
    );
    std::fs::write(path("trust.toml"), trust).expect("a file");
    path("trust.toml")
}

fn record(name: &str) -> Value {
    let mut all = records("hostile.jsonl").into_iter();
    all.find(|record| record["name"] == name && record["format"] == "hc1")
        .expect("a record of this name")
}

fn payload(name: &str) -> String {
    record(name)["payload"].as_str().expect("text").to_owned()
}

/// The outcomes that a refusal or a verdict at the gate may stand for.
fn outcomes(answer: &Answer) -> &'static [&'static str] {
    let said = answer.json();
    match (answer.status, said["code"].as_str()) {
        (200, _) => &["ok"],
        (422, Some("code_invalid")) => &["undecodable", "not_one_statement"],
        (413, Some("too_large")) => &["too_large", "undecodable"],
        (422, Some("signature_invalid")) => &["bad_signature", "unsupported_algorithm"],
        (422, Some("issuer_unknown")) => &["unknown_key"],
        (422, Some("issuer_not_entitled")) => &["not_entitled"],
        (422, Some("code_revoked")) => &["revoked"],
        (422, Some("code_expired")) => &["expired", "not_yet_valid"],
        _ => panic!("{} {said}", answer.status),
    }
}

/// A node whose clock stands where the hostile codes are judged.
fn node_then(folder: &Path, settings: &[&str]) -> Node {
    let clock = folder.join("clock");
    let now = i64::try_from(liangma::clock::Time::now().0 / 1_000).expect("seconds");
    shift(&clock, AS_OF - now);
    let mut builder = NodeBuilder::new(settings);
    builder.clock = Some(clock);
    builder.node()
}

#[test]
fn every_hostile_code_has_its_outcome_at_the_gate() {
    let folder = folder();
    let trust = trust_file(folder.path(), "");
    let setting = format!("trust={}", trust.display());
    let settings = [&setting[..], "formats=liangma,hc1,shc", "gate_threads=1"];
    let node = node_then(folder.path(), &settings);
    let scanner = node.seals().scanner();
    for record in records("hostile.jsonl") {
        let code = record["payload"].as_str().expect("text");
        let answer = node.scan(&scanner, code);
        let found = outcomes(&answer);
        let others = record["or"].as_array().cloned().unwrap_or_default();
        let is_right =
            |found: &&str| record["outcome"] == **found || others.contains(&json!(found));
        assert!(
            found.iter().any(is_right),
            "{}: {}",
            record["name"],
            text(&answer.body)
        );
    }
    // Whatever became of a code, nothing of it is kept anywhere.
    let codes: Vec<String> = records("hostile.jsonl")
        .iter()
        .filter_map(|record| record["payload"].as_str())
        .filter(|code| code.len() > 60 && code.is_ascii())
        .map(|code| code[code.len() - 40..code.len() - 8].to_owned())
        .collect();
    let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
    assert!(codes.len() > 50);
    node.keeps_nothing_of(&codes);
}

#[test]
fn a_pass_has_no_colour_and_says_what_was_checked() {
    let folder = folder();
    let trust = trust_file(folder.path(), "");
    let setting = format!("trust={}", trust.display());
    let node = node_then(
        folder.path(),
        &[
            &setting,
            "formats=liangma,hc1,shc",
            "bulk_codes_per_second=0",
        ],
    );
    let scanner = node.seals().scanner();
    let answer = node.scan(&scanner, payload("good"));
    assert_eq!(answer.status, 200, "{}", text(&answer.body));
    let said = answer.json();
    assert_eq!(said["state"], "pass");
    assert_eq!(said["pass"]["format"], "hc1");
    assert_eq!(said["pass"]["signature"], "good");
    assert_eq!(said["pass"]["revocation"], "not_checked");
    assert!(
        said.get("status").is_none() && said.get("reasons").is_none(),
        "{said}"
    );
    assert!(said["trust_as_of"].is_string());
    let card = records("hostile.jsonl")
        .into_iter()
        .find(|record| record["format"] == "shc" && record["name"] == "good");
    let card = card.expect("a good card")["payload"]
        .as_str()
        .unwrap()
        .to_owned();
    let said = node.scan(&scanner, &card).json();
    assert_eq!(
        (&said["pass"]["format"], &said["pass"]["policy"]),
        (&json!("shc"), &json!("none"))
    );
    assert_eq!(said["pass"]["issuer_name"], "A card issuer");
    // All kinds in one bulk, in their order; one that is too long spoils no other.
    let long = "A".repeat(4_097);
    let lines = format!(
        "{card}\r\n{}\n{long}\nNZCP:/1/AB\n{card}x\n{card}",
        payload("good")
    );
    let answer = Ask::post("/v1/scan/bulk", lines)
        .bearer(&scanner)
        .at(node.address(Door::Gate));
    let verdicts: Vec<Value> = text(&answer.body)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let states: Vec<&str> = verdicts
        .iter()
        .map(|verdict| {
            verdict["state"]
                .as_str()
                .or(verdict["error"].as_str())
                .expect("a word")
        })
        .collect();
    assert_eq!(
        states,
        [
            "pass",
            "pass",
            "too_large",
            "issuer_unknown",
            "code_invalid",
            "pass"
        ]
    );
    // Nothing of them is in the log or the metrics.
    let metrics = node.get(Door::Ops, "/metrics");
    let metrics = text(&metrics.body);
    assert!(
        metrics.contains("liangma_foreign_total{format=\"hc1\",outcome=\"pass\"} 2"),
        "{metrics}"
    );
    assert!(metrics.contains("liangma_trust_keys{format=\"shc\"}"));
    let name = said["name"].as_str().expect("a name");
    for kept in [node.log(), metrics] {
        assert!(!kept.contains(&payload("good")[4..40]) && !kept.contains(name));
    }
}

#[test]
fn without_a_trust_file_or_a_format_there_is_no_pass() {
    let plain = Node::start();
    let scanner = plain.seals().scanner();
    plain
        .scan(&scanner, payload("good"))
        .refuses(422, "code_invalid");
    let folder = folder();
    let trust = trust_file(folder.path(), "");
    let node = NodeBuilder::new(&[&format!("trust={}", trust.display())]).node();
    let scanner = node.seals().scanner();
    node.scan(&scanner, payload("good"))
        .refuses(422, "issuer_unknown");
    node.scan(&scanner, "NZCP:/1/2KCEVIQEIVVWK6")
        .refuses(422, "issuer_unknown");
    node.scan(&scanner, "WHATEVER").refuses(422, "code_invalid");
}

#[test]
fn a_trust_file_is_taken_up_whole_or_not_at_all() {
    let folder = folder();
    let path = trust_file(folder.path(), "");
    let setting = format!("trust={}", path.display());
    let node = node_then(folder.path(), &[&setting, "formats=hc1"]);
    let scanner = node.seals().scanner();
    let code = payload("good");
    let scan = || node.scan(&scanner, &code);
    assert_eq!(scan().status, 200);
    // Two faults: both are named, and what was in force stays.
    let good = std::fs::read_to_string(&path).unwrap();
    let bad = good.replace("hc1.json", "gone.json") + "\n[[deny]]\n[[other]]\n";
    std::fs::write(&path, &bad).unwrap();
    until("every fault is in the log", || {
        let log = node.log();
        ["gone.json", "neither a kid nor a code", "[[other]] 1"]
            .iter()
            .all(|fault| log.contains(fault))
    });
    assert_eq!(scan().status, 200);
    // A key is denied at once, by its digits.
    let kid = record("good")["trust"]["kid"].as_str().unwrap().to_owned();
    std::fs::write(&path, format!("{good}\n[[deny]]\nkid = \"{kid}\"\n")).unwrap();
    until("the key is denied", || scan().status == 422);
    scan().refuses(422, "code_revoked");
    // And all of an issuer.
    std::fs::write(&path, "").unwrap();
    until("the issuer is gone", || {
        scan().json()["code"] == "issuer_unknown"
    });
    // The same faults keep a node from starting, all of them named.
    std::fs::write(&path, &bad).unwrap();
    let out = run(&[
        "serve",
        "--set",
        &setting,
        "--set",
        "formats=hc1",
        "--store",
        folder.path().join("s").to_str().unwrap(),
    ]);
    assert_eq!(out.status.code(), Some(78));
    let said = text(&out.stderr);
    for fault in [
        "gone.json",
        "neither a kid nor a code",
        "[[other]] 1: there is no such section",
    ] {
        assert!(said.contains(fault), "{fault}: {said}");
    }
}

#[test]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
fn lists_are_imported_shown_and_tried() {
    let folder = folder();
    let path = trust_file(folder.path(), "");
    let (code, said) = trust(&["list", "--trust", path.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("\nhc1\tXX\t29bd95b894c4fa80\tES256\t"),
        "{said}"
    );
    let check = |code: &str, at: &str| {
        trust(&["check", "--trust", path.to_str().unwrap(), code, "--at", at])
    };
    let (code, said) = check(&payload("good"), "2026-06-15T00:00:00Z");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("\"state\":\"pass\""));
    let (code, said) = check(&payload("good"), "2036-06-15T00:00:00Z");
    assert_eq!((code, said.trim()), (1, r#"{"error":"code_expired"}"#));
    // An offline code of another province, by the list beside the trust file.
    let now = liangma::clock::Time::now();
    let beside = folder.path().join("province");
    let (province, code) = neighbour(&beside, now);
    let (status, said) = trust(&["check", "--trust", province.to_str().unwrap(), &code]);
    assert!(status == 0 && said.contains("\"by\":\"list\""), "{said}");
    std::fs::remove_file(beside.join("base.lml")).unwrap();
    let (_, said) = trust(&["check", "--trust", province.to_str().unwrap(), &code]);
    assert!(said.contains("\"state\":\"too_old\""), "{said}");
    // A signed list: with the key of its publisher, with another, changed, and without any.
    let sign = Command::new("sh")
        .current_dir(folder.path())
        .args(["-ec", "openssl ecparam -name prime256v1 -genkey -noout -out k.pem && openssl ec -in k.pem -pubout -out p.pem && openssl ecparam -name prime256v1 -genkey -noout -out k2.pem && openssl ec -in k2.pem -pubout -out p2.pem"])
        .output();
    if !sign.is_ok_and(|out| out.status.success()) {
        left_out("openssl");
    }
    let good = record("good");
    let body = json!({ "certificates": [{ "country": "XX", "kid": "KbwpuJTE+oA=", "rawData": good["trust"]["x509_der_b64"], "certificateType": "DSC" }] }).to_string();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("body"), &body).unwrap();
    let signature = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign", &at("k.pem"), &at("body")])
        .output()
        .unwrap()
        .stdout;
    std::fs::write(
        at("list.txt"),
        format!("{}\n{body}", base64(&raw_signature(&signature))),
    )
    .unwrap();
    let import = |key: Option<&str>, list: &str| {
        let (out, list) = (at("covpass.json"), at(list));
        let mut args = vec!["import", "--format", "covpass", "--out", &out, &list];
        let key = key.map(at);
        if let Some(key) = &key {
            args.extend(["--key", key]);
        }
        trust(&args)
    };
    let (code, said) = import(Some("p.pem"), "list.txt");
    assert!(
        code == 0 && said.contains("1 keys of hc1") && said.contains("signature good"),
        "{said}"
    );
    let (code, said) = import(Some("p2.pem"), "list.txt");
    assert!(code == 1 && said.contains("signature"), "{said}");
    std::fs::write(
        at("changed.txt"),
        std::fs::read_to_string(at("list.txt"))
            .unwrap()
            .replace("XX", "XY"),
    )
    .unwrap();
    assert_eq!(import(Some("p.pem"), "changed.txt").0, 1);
    let (code, said) = import(None, "list.txt");
    assert!(code == 1 && said.contains("--unsigned"), "{said}");
}

/// Writes the keys and the list of a province, and a trust file; returns that, and a code of a resident who is green.
fn neighbour(folder: &Path, now: liangma::clock::Time) -> (PathBuf, String) {
    use liangma::offline::code::OfflineCode;
    use liangma::offline::issue::OfflineKeys;
    use liangma::offline::list::{ListHead, build_base};
    use liangma::person::{Assurance, Document, MaskedIdentity, MaskedName, ResidentId};
    let ring = liangma::seal::ring::RingFile::generate(now);
    let keys = OfflineKeys::of(&ring, 820_000).expect("keys");
    let signing = keys.signing.as_ref().expect("a signing key");
    let list_id = keys.permutation.list_id(ResidentId(1), 0);
    let document = Document::parse("14", "M12345678", now.day()).expect("a permit");
    let as_of = liangma::clock::Time(now.0 - now.0 % 1_000);
    let code = OfflineCode {
        key: signing.id,
        issuer: 820_000,
        list_id,
        generation: 0,
        check: 0,
        issued_at: as_of,
        life_hours: 1,
        masked: MaskedIdentity {
            name: MaskedName::of("何嘉欣"),
            cert_no: document.mask(),
            assurance: Assurance::RealName,
        },
    };
    let head = ListHead {
        issuer: 820_000,
        number: as_of.0,
        as_of,
        until: as_of.plus(std::time::Duration::from_secs(3_600)),
        residents: 1,
    };
    let base = build_base(&head, &[], |each| each(list_id), signing).expect("a list");
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(folder.join("base.lml"), base).expect("a file");
    std::fs::write(folder.join("keys.jwks"), &keys.jwks).expect("a file");
    let trust = "[[issuer]]\nformat = \"liangma\"\nid = 820000\nname = \"澳门\"\nkeys = \"keys.jwks\"\nlist = \".\"\n";
    std::fs::write(folder.join("trust.toml"), trust).expect("a file");
    let code = code.sign(signing).expect("random bytes");
    (folder.join("trust.toml"), code)
}

/// Turns a signature of DER into r and s.
fn raw_signature(der: &[u8]) -> Vec<u8> {
    let part = |at: usize| {
        let length = usize::from(der[at + 1]);
        let bytes = &der[at + 2..at + 2 + length];
        let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
        [&vec![0; 32 - bytes.len()][..], bytes].concat()
    };
    [part(2), part(4 + usize::from(der[3]))].concat()
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk
            .iter()
            .fold(0u32, |all, byte| all << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for nth in 0..4 {
            match nth <= chunk.len() {
                true => text.push(char::from(SIGNS[(number >> (18 - 6 * nth) & 63) as usize])),
                false => text.push('='),
            }
        }
    }
    text
}
