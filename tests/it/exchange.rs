//! Two provinces that recognise each other: live codes asked over the exchange door, offline codes by lists, and what faults of one cost the other.

use crate::harness::*;
use crate::tls::{Authority, Pair};
use liangma::http::door::Door;
use liangma::tls::pinned::key_digest_of_file;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

/// One province: its number, its certificate, its folder.
struct Province {
    issuer: u32,
    pair: Pair,
    trust: PathBuf,
    folder: tempfile::TempDir,
}

impl Province {
    fn new(authority: &Authority, issuer: u32) -> Province {
        let folder = folder();
        let trust = folder.path().join("trust.toml");
        std::fs::write(&trust, "").unwrap();
        Province {
            issuer,
            pair: authority.signs(&issuer.to_string()),
            trust,
            folder,
        }
    }

    fn start(&self, more: &[&str]) -> Node {
        let settings = self.settings(more);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        NodeBuilder::new(&settings).node()
    }

    fn settings(&self, more: &[&str]) -> Vec<String> {
        let mut settings = vec![
            format!("offline_issuer={:06}", self.issuer),
            format!("trust={}", self.trust.display()),
            format!("exchange_cert={}", self.pair.cert.display()),
            format!("exchange_cert_key={}", self.pair.key.display()),
            "exchange=127.0.0.1:0".to_owned(),
            "list_every=1s".to_owned(),
            "list_fetch_every=1s".to_owned(),
        ];
        settings.extend(more.iter().map(ToString::to_string));
        settings
    }

    fn pin(&self) -> String {
        let digest = key_digest_of_file(&self.pair.cert).expect("a certificate");
        liangma::hex::text(&digest)
    }

    /// Names another province in the trust file; `lines` say more of it.
    fn trusts(&self, issuer: u32, pin: &str, lines: &str) {
        let trust = format!(
            "[[issuer]]\nformat = \"liangma\"\nid = {issuer}\nname = \"澳门\"\npeer = \"{pin}\"\n{lines}\n"
        );
        let beside = self.folder.path().join("trust.new");
        std::fs::write(&beside, trust).unwrap();
        std::fs::rename(beside, &self.trust).unwrap();
    }

    /// Puts the keys of a node beside the trust file.
    fn keeps_keys_of(&self, node: &Node) {
        let keys = node.get(Door::Gate, "/v1/keys").body;
        std::fs::write(self.folder.path().join("keys.jwks"), keys).unwrap();
    }
}

/// Where a node's exchange door is.
fn exchange_of(node: &Node) -> SocketAddr {
    let mut address = None;
    until("the node prints where its exchange door is", || {
        let out = node.out();
        let line = out
            .lines()
            .find_map(|line| line.strip_prefix("exchange https://"));
        address = line.map(|line| line.trim().parse().expect("an address"));
        address.is_some()
    });
    address.expect("it was printed")
}

/// Waits until what is scanned is answered so.
#[track_caller]
fn becomes(node: &Node, code: impl Fn() -> String, what: &str) -> Value {
    let scanner = node.seals().scanner();
    let mut said = Value::Null;
    until(what, || {
        said = node.scan(&scanner, code()).json();
        said["state"].as_str().or(said["code"].as_str()) == Some(what)
    });
    said
}

/// The province whose gates scan, and another one.
fn two_provinces(authority: &Authority) -> (Province, Province) {
    let of = |issuer| Province::new(authority, issuer);
    (of(440_000), of(820_000))
}

#[test]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
fn a_visitor_is_seen_with_the_colour_of_home_live_and_offline_both_ways() {
    let authority = Authority::make();
    let (here, there) = two_provinces(&authority);
    let (home, abroad) = (there.start(&["gate_reasons=all"]), here.start(&[]));
    for (one, other, node) in [(&here, &there, &home), (&there, &here, &abroad)] {
        one.keeps_keys_of(node);
        let door = exchange_of(node);
        let list = format!("https://{door}/v1/list/{:06}", other.issuer);
        let lines =
            format!("keys = \"keys.jwks\"\nexchange = \"https://{door}\"\nlist = \"{list}\"");
        one.trusts(other.issuer, &other.pin(), &lines);
    }
    for (near, far, issuer) in [(&abroad, &home, "820000"), (&home, &abroad, "440000")] {
        let (seals, who) = (far.seals(), person(1));
        far.feed(&seals.authority(), &[who.resident()]);
        let session = seals.session(&who);
        let live = || far.code(&session);
        let green = becomes(near, live, "green");
        assert_eq!(green["issuer"], json!({ "id": issuer, "name": "澳门" }));
        assert_eq!(
            (&green["class"], &green["by"]),
            (&json!("live"), &json!("exchange"))
        );
        assert_eq!(
            (&green["status"], green.get("check_document")),
            (&json!("00"), None)
        );
        assert_eq!(green["cert_no"], who.mask());
        let offline = Ask::get("/v1/code/offline")
            .bearer(&session)
            .at(far.address(Door::Resident));
        let offline = offline.json()["code"].as_str().expect("a code").to_owned();
        let by_list = becomes(near, || offline.clone(), "green");
        assert_eq!(
            (&by_list["class"], &by_list["by"]),
            (&json!("offline"), &json!("list"))
        );
        assert_eq!(by_list["check_document"], json!(true));
        // A red fed at home is seen abroad: at once where the issuer is asked, and by its next list.
        far.feed(&seals.authority(), &[who.set("close_contact", 1)]);
        let scanner = near.seals().scanner();
        let red = near.scan(&scanner, live()).json();
        assert_eq!(
            (&red["state"], &red["status"]),
            (&json!("red"), &json!("10")),
            "{red}"
        );
        let told = matches!(issuer, "820000").then(|| json!("close_contact"));
        assert_eq!(red["reasons"][0].get("reason"), told.as_ref());
        becomes(near, || offline.clone(), "red");
        // Own codes are told as before, and are nothing that is asked.
        let own = near.seals();
        near.feed(&own.authority(), &[person(2).resident()]);
        let said = near
            .scan(&scanner, near.code(&own.session(&person(2))))
            .json();
        assert_eq!(
            (&said["state"], said.get("issuer")),
            (&json!("green"), None)
        );
        // A bulk keeps its order: own, theirs, nobody's.
        let lines = format!(
            "{}\n{}\nNONSENSE\n{offline}\n",
            near.code(&own.session(&person(2))),
            live()
        );
        let answer = Ask::post("/v1/scan/bulk", lines)
            .bearer(&scanner)
            .at(near.address(Door::Gate));
        let states: Vec<String> = text(&answer.body)
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
            .map(|said| {
                said["state"]
                    .as_str()
                    .or(said["error"].as_str())
                    .unwrap_or("?")
                    .to_owned()
            })
            .collect();
        assert_eq!(states, ["green", "red", "code_invalid", "red"]);
        far.feed(&seals.authority(), &[who.clear("close_contact", 2)]);
    }
    // A code of home that was changed is refused as such, and one of a province that nobody named.
    let who = person(1);
    let seals = home.seals();
    let scanner = abroad.seals().scanner();
    let live = home.code(&seals.session(&who));
    let last = if live.ends_with('A') { 'B' } else { 'A' };
    let changed = format!("{}{last}", &live[..live.len() - 1]);
    abroad.scan(&scanner, &changed).refuses(422, "code_invalid");
    let third = NodeBuilder::new(&["offline_issuer=330000"]).node();
    third.feed(&third.seals().authority(), &[who.resident()]);
    let stranger = third.code(&third.seals().session(&who));
    abroad
        .scan(&scanner, &stranger)
        .refuses(422, "issuer_unknown");
    // Nothing of the codes is kept anywhere.
    let live = home.code(&seals.session(&who));
    abroad.scan(&scanner, &live);
    let metrics = text(&abroad.get(Door::Ops, "/metrics").body);
    assert!(
        metrics.contains("liangma_exchange_asked_total{issuer=\"820000\",outcome=\"answered\"}"),
        "{metrics}"
    );
    assert!(
        text(&home.get(Door::Ops, "/metrics").body)
            .contains("liangma_exchange_answered_total{issuer=\"440000\",outcome=\"green\"}")
    );
    for node in [&abroad, &home] {
        node.keeps_nothing_of(&[&live[20..60], &who.mask(), &who.cert_no, who.name]);
    }
    // With the peer away a live code says so, and offline codes go on by its list.
    let session = seals.session(&who);
    let live = home.code(&session);
    let offline = Ask::get("/v1/code/offline")
        .bearer(&session)
        .at(home.address(Door::Resident));
    let offline = offline.json()["code"].as_str().expect("a code").to_owned();
    becomes(&abroad, || offline.clone(), "green");
    drop(home);
    let answer = abroad.scan(&scanner, &live);
    answer.refuses(503, "issuer_unreachable");
    assert_eq!(abroad.scan(&scanner, &offline).json()["state"], "green");
}

/// A peer that does as it is told, in place of a node.
struct FakePeer {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Conduct {
    /// Takes connections and says nothing.
    Frozen,
    /// Ends the connection at once.
    Cut,
    /// Ends the connection in the middle of its answer.
    CutAnswer,
    /// Answers with this.
    Says(&'static str),
}

impl FakePeer {
    /// Speaks TLS with this certificate, and conducts itself so.
    fn start(pair: &Pair, conduct: Conduct) -> FakePeer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let (asked, stop) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let config = server_config(pair);
        let (count, ends) = (asked.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ends.load(SeqCst) {
                    return;
                }
                let (config, count) = (config.clone(), count.clone());
                std::thread::spawn(move || answer(stream, config, conduct, &count));
            }
        });
        FakePeer {
            address,
            asked,
            stop,
        }
    }
}

impl Drop for FakePeer {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

pub fn server_config(pair: &Pair) -> Arc<rustls::ServerConfig> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let cert = CertificateDer::from_pem_file(&pair.cert).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert], key);
    Arc::new(config.expect("a pair"))
}

fn answer(
    stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
    conduct: Conduct,
    asked: &AtomicUsize,
) {
    if conduct == Conduct::Cut {
        return;
    }
    let Ok(session) = rustls::ServerConnection::new(config) else {
        return;
    };
    let mut stream = rustls::StreamOwned::new(session, stream);
    while let Some(()) = request(&mut stream) {
        asked.fetch_add(1, SeqCst);
        match conduct {
            Conduct::Frozen => loop {
                std::thread::park();
            },
            Conduct::Cut => return,
            Conduct::CutAnswer => {
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"state\":\"green\"",
                );
                return;
            }
            Conduct::Says(body) => {
                let now = liangma::clock::Time::now();
                let body = body
                    .replace("NOW", &now.to_string())
                    .replace("LATER", &liangma::clock::Time(now.0 + 60_000).to_string())
                    .replace(
                        "BEFORE",
                        &liangma::clock::Time(now.0 - 3_600_000).to_string(),
                    );
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                if stream.write_all((head + &body).as_bytes()).is_err() {
                    return;
                }
            }
        }
    }
}

/// Reads one request, with a live code as its body.
fn request(stream: &mut impl Read) -> Option<()> {
    let mut read = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        let bytes = stream.read(&mut piece).ok().filter(|bytes| *bytes > 0)?;
        read.extend_from_slice(&piece[..bytes]);
        let said = text(&read);
        if said
            .split_once("\r\n\r\n")
            .is_some_and(|(_, body)| body.len() >= 88)
        {
            return Some(());
        }
    }
}

const GREEN: &str = r#"{"state":"green","status":"00","reasons":[],"name":"陈**","cert_no":"1*","assurance":"real_name","as_of":"NOW","age_ms":3,"issuer":"820000"}"#;

#[test]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
fn whatever_is_wrong_with_a_peer_gives_no_colour_and_costs_own_scans_nothing() {
    let authority = Authority::make();
    let there = Province::new(&authority, 820_000);
    let other = Province::new(&authority, 330_000);
    let home = there.start(&[]);
    let (seals, who) = (home.seals(), person(1));
    home.feed(&seals.authority(), &[who.resident()]);
    let session = seals.session(&who);
    for (conduct, pair, expected) in [
        (Conduct::Says(GREEN), &there.pair, "green"),
        (
            Conduct::Says(
                r#"{"state":"green","status":"00","reasons":[],"name":"x","cert_no":"y","assurance":"real_name","as_of":"BEFORE","age_ms":3,"issuer":"820000"}"#,
            ),
            &there.pair,
            "too_old",
        ),
        (
            Conduct::Says(
                r#"{"state":"green","status":"00","reasons":[],"name":"x","cert_no":"y","assurance":"real_name","as_of":"LATER","age_ms":3,"issuer":"820000"}"#,
            ),
            &there.pair,
            "issuer_unreachable",
        ),
        (
            Conduct::Says(
                r#"{"state":"green","status":"00","reasons":[],"name":"x","cert_no":"y","assurance":"real_name","as_of":"NOW","age_ms":3,"issuer":"110000"}"#,
            ),
            &there.pair,
            "issuer_unreachable",
        ),
        (
            Conduct::Says(r#"{"state":"green","status":"10","as_of":"NOW","issuer":"820000"}"#),
            &there.pair,
            "issuer_unreachable",
        ),
        (Conduct::Says("rubbish"), &there.pair, "issuer_unreachable"),
        (Conduct::Frozen, &there.pair, "issuer_unreachable"),
        (Conduct::Cut, &there.pair, "issuer_unreachable"),
        (Conduct::CutAnswer, &there.pair, "issuer_unreachable"),
        // The certificate of somebody else.
        (Conduct::Says(GREEN), &other.pair, "issuer_unreachable"),
    ] {
        let peer = FakePeer::start(pair, conduct);
        let here = Province::new(&authority, 440_000);
        here.trusts(
            820_000,
            &there.pin(),
            &format!("exchange = \"https://{}\"", peer.address),
        );
        let abroad = here.start(&["exchange_wait=300ms"]);
        let scanner = abroad.seals().scanner();
        let own = abroad.seals();
        abroad.feed(&own.authority(), &[who.resident()]);
        let own_session = own.session(&who);
        let live = home.code(&session);
        // Own scans go on while theirs wait.
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| abroad.scan(&scanner, &live));
            let own = abroad.scan(&scanner, abroad.code(&own_session));
            assert_eq!(own.json()["state"], "green", "{conduct:?}");
            let said = asking.join().expect("no panic");
            let found = said.json();
            let found = found["state"]
                .as_str()
                .or(found["code"].as_str())
                .map(str::to_owned);
            assert_eq!(
                found.as_deref(),
                Some(expected),
                "{conduct:?}: {}",
                text(&said.body)
            );
        });
        // The same code twice is one question, within two seconds.
        if expected == "green" {
            let before = peer.asked.load(SeqCst);
            let live = home.code(&session);
            let answers: Vec<Answer> = (0..3).map(|_| abroad.scan(&scanner, &live)).collect();
            assert!(
                answers
                    .iter()
                    .all(|answer| answer.json()["state"] == "green")
            );
            assert_eq!(peer.asked.load(SeqCst), before + 1);
        }
    }
}

#[test]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
fn a_code_that_was_seen_abroad_is_of_no_use_once_its_life_is_over() {
    let authority = Authority::make();
    let (here, there) = two_provinces(&authority);
    let home = there.start(&["code_life=2s"]);
    let (seals, who) = (home.seals(), person(1));
    home.feed(&seals.authority(), &[who.resident()]);
    there.trusts(440_000, &here.pin(), "");
    let exchange = format!("exchange = \"https://{}\"", exchange_of(&home));
    here.trusts(820_000, &there.pin(), &exchange);
    let abroad = here.start(&[]);
    let session = seals.session(&who);
    becomes(&abroad, || home.code(&session), "green");
    // A verdict is kept for two seconds with its `as_of`; who repeats the code after that hears that it is over.
    let kept = home.code(&session);
    let scanner = abroad.seals().scanner();
    becomes(&abroad, || kept.clone(), "code_expired");
    abroad.scan(&scanner, &kept).refuses(422, "code_expired");
}

#[test]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
fn a_peer_that_fails_is_left_alone_and_tried_again() {
    let authority = Authority::make();
    let (here, there) = two_provinces(&authority);
    let home = there.start(&[]);
    let (seals, who) = (home.seals(), person(1));
    home.feed(&seals.authority(), &[who.resident()]);
    let session = seals.session(&who);
    there.trusts(440_000, &here.pin(), "");
    let address = exchange_of(&home);
    here.trusts(
        820_000,
        &there.pin(),
        &format!("exchange = \"https://{address}\""),
    );
    let abroad = here.start(&["exchange_wait=200ms"]);
    becomes(&abroad, || home.code(&session), "green");
    // Stopped: after ten questions nobody is asked, and one trial finds it again.
    let scanner = abroad.seals().scanner();
    let codes: Vec<String> = (0..40).map(|_| home.code(&session)).collect();
    home.halt();
    let open = || abroad.meter("liangma_exchange_open{issuer=\"820000\"}") > 0.0;
    for code in &codes {
        if open() {
            break;
        }
        abroad
            .scan(&scanner, code)
            .refuses(503, "issuer_unreachable");
    }
    assert!(open());
    home.signal(libc::SIGCONT);
    becomes(&abroad, || home.code(&session), "green");
    assert!(!open());
}

#[test]
#[cfg_attr(no_curl, ignore = "no curl on this machine")]
#[cfg_attr(no_faketime, ignore = "no faketime on this machine")]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
fn nobody_comes_in_at_the_exchange_door_without_a_key_that_the_trust_file_names() {
    let authority = Authority::make();
    let (here, there) = two_provinces(&authority);
    let strange = Province::new(&authority, 330_000);
    let is_there = |tool: &str| {
        std::process::Command::new(tool)
            .arg("--version")
            .output()
            .is_ok()
    };
    if !is_there("curl") || !is_there("faketime") {
        left_out("curl, faketime");
    }
    there.trusts(440_000, &here.pin(), "");
    let home = there.start(&["exchange_per_second=5"]);
    let door = exchange_of(&home);
    let ask = |pair: Option<&Pair>, path: &str, body: &str| -> Option<(u16, String)> {
        let mut curl = std::process::Command::new("curl");
        curl.args([
            "-sk",
            "--max-time",
            "5",
            "-w",
            "\n%{http_code}",
            "-H",
            "content-type: text/plain",
        ]);
        if let Some(pair) = pair {
            curl.arg("--cert")
                .arg(&pair.cert)
                .arg("--key")
                .arg(&pair.key);
        }
        curl.args(["--data-binary", body])
            .arg(format!("https://{door}{path}"));
        let out = curl.output().expect("curl");
        let said = text(&out.stdout);
        let (body, status) = said.rsplit_once('\n')?;
        let status: u16 = status.parse().ok().filter(|status| *status > 0)?;
        Some((status, body.to_owned()))
    };
    let (seals, who) = (home.seals(), person(1));
    home.feed(&seals.authority(), &[who.resident()]);
    let live = home.code(&seals.session(&who));
    let path = "/v1/exchange/scan";
    assert_eq!(ask(None, path, &live), None, "without a certificate");
    assert_eq!(
        ask(Some(&strange.pair), path, &live),
        None,
        "with one that is not named"
    );
    let (status, body) = ask(Some(&here.pair), path, &live).expect("an answer");
    let said: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        (status, &said["state"], &said["issuer"]),
        (200, &json!("green"), &json!("820000"))
    );
    assert_eq!(
        ask(Some(&here.pair), path, "NONSENSE")
            .expect("an answer")
            .0,
        422
    );
    // Only own codes are opened, and nothing else is there.
    for other in ["/", "/v1/scan", "/v1/code", "/metrics", "/openapi.json"] {
        assert_eq!(
            ask(Some(&here.pair), other, &live).expect("an answer").0,
            404,
            "{other}"
        );
    }
    let many = format!("{live}\nNONSENSE\n{live}");
    let (status, body) = ask(Some(&here.pair), "/v1/exchange/scan/bulk", &many).expect("an answer");
    assert_eq!((status, body.lines().count()), (200, 3), "{body}");
    // A budget for each peer.
    until("the peer has asked enough", || {
        ask(Some(&here.pair), path, &live).is_some_and(|(status, _)| status == 429)
    });
    // A certificate whose time is over is none, whatever its key.
    let over = authority.signs_for("over", 1, &["faketime", "-f", "-10d"]);
    let pin = key_digest_of_file(&over.cert).expect("a certificate");
    there.trusts(440_000, &liangma::hex::text(&pin), "");
    until("the other key is not admitted", || {
        ask(Some(&here.pair), path, &live).is_none()
    });
    assert_eq!(
        ask(Some(&over), path, &live),
        None,
        "with one that has expired"
    );
    there.trusts(440_000, &here.pin(), "");
    until("the key is admitted again", || {
        ask(Some(&here.pair), path, &live).is_some()
    });
    // Taken out of the trust file, it comes in no more.
    std::fs::write(&there.trust, "").unwrap();
    until("the peer is not admitted", || {
        ask(Some(&here.pair), path, &live).is_none()
    });
}

#[test]
fn an_exchange_that_is_set_badly_is_named_at_once() {
    let folder = folder();
    let trust = folder.path().join("trust.toml");
    std::fs::write(
        &trust,
        "[[issuer]]\nformat = \"liangma\"\nid = 82\nname = \"\"\nexchange = \"http://x\"\nlist = \"ftp://x/y\"\npeer = \"abc\"\n[[issuer]]\nformat = \"liangma\"\nid = 820000\nname = \"x\"\nkeys = \"none.jwks\"\nbogus = 1\n",
    )
    .unwrap();
    let trust = format!("trust={}", trust.display());
    let store = folder.path().join("s");
    let out = run(&[
        "serve",
        "--set",
        &trust,
        "--set",
        "exchange=127.0.0.1:0",
        "--store",
        store.to_str().unwrap(),
    ]);
    assert_eq!(out.status.code(), Some(78));
    let said = text(&out.stderr);
    for fault in [
        "id: is not a division",
        "exchange: is not an address",
        "list: is neither a folder",
        "peer: is not the SHA-256",
        "name: is empty",
        "bogus",
        "exchange_cert",
        "offline_issuer",
    ] {
        assert!(said.contains(fault), "{fault}: {said}");
    }
}
