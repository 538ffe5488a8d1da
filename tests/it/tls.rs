//! TLS at the doors: certificates, clients with and without one, new files, and handshakes that never end.

use crate::harness::*;
use liangma::http::door::Door;
use liangma::seal::AccessToken;
use liangma::seal::ring::TokenKind;
use liangma::tls::{CertificateDigest, ClientFiles};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use tempfile::TempDir;

/// A certificate and its key.
#[derive(Clone)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// An authority, in a folder of its own.
pub struct Authority {
    pub folder: TempDir,
    pub own: Pair,
}

fn openssl(command: &mut Command) {
    let output = command.output().expect("openssl runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Makes a key of P-256 by `openssl req`, and what these arguments ask for.
fn request(args: &[&str], key: &Path, out: &Path) {
    let mut command = Command::new("openssl");
    command
        .args(["req", "-nodes"])
        .args(args)
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(out);
    openssl(&mut command);
}

impl Authority {
    pub fn make() -> Authority {
        if Command::new("openssl").arg("version").output().is_err() {
            left_out("openssl");
        }
        let folder = folder();
        let own = Pair {
            cert: folder.path().join("ca.pem"),
            key: folder.path().join("ca.key"),
        };
        request(
            &["-x509", "-days", "30", "-subj", "/CN=ca"],
            &own.key,
            &own.cert,
        );
        Authority { folder, own }
    }

    fn file(&self, name: &str, end: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.{end}"))
    }

    fn pair(&self, name: &str) -> Pair {
        Pair {
            cert: self.file(name, "pem"),
            key: self.file(name, "key"),
        }
    }

    pub fn signs(&self, name: &str) -> Pair {
        self.signs_for(name, 30, &[])
    }

    /// Makes a certificate that signs itself.
    pub fn own_signed(&self, name: &str) -> Pair {
        let pair = self.pair(name);
        let subject = format!("/CN={name}");
        let alternative = "subjectAltName=IP:127.0.0.1";
        let dated = ["-x509", "-days", "30", "-subj", &subject];
        let args = [&dated[..], &["-addext", alternative]].concat();
        request(&args, &pair.key, &pair.cert);
        pair
    }

    /// Signs a certificate for so many days; `before` is a command before openssl's, as `faketime` is.
    pub fn signs_for(&self, name: &str, days: u32, before: &[&str]) -> Pair {
        let at = |end: &str| self.file(name, end);
        let pair = self.pair(name);
        request(&["-subj", &format!("/CN={name}")], &pair.key, &at("csr"));
        std::fs::write(at("ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
        let words = before.iter().copied().chain(["openssl"]);
        let words: Vec<&str> = words.collect();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .args(["x509", "-req", "-days", &days.to_string()])
            .arg("-CA")
            .arg(&self.own.cert)
            .arg("-CAkey")
            .arg(&self.own.key)
            .arg("-extfile")
            .arg(at("ext"))
            .arg("-in")
            .arg(at("csr"))
            .arg("-out")
            .arg(&pair.cert);
        openssl(&mut command);
        pair
    }
}

/// The settings of a door with this certificate.
pub fn with(door: Door, pair: &Pair) -> [String; 2] {
    let name = door.name();
    [
        format!("{name}_tls_cert={}", pair.cert.display()),
        format!("{name}_tls_key={}", pair.key.display()),
    ]
}

fn node_of(settings: &[String]) -> NodeBuilder {
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    NodeBuilder::new(&settings)
}

/// A client that keeps its connection.
struct Client(StreamOwned<ClientConnection, TcpStream>);

impl Client {
    /// The handshake ends with the first request.
    fn to(address: SocketAddr, ca: &Pair, own: Option<&Pair>) -> Client {
        let files = ClientFiles {
            ca: Some(ca.cert.clone()),
            cert: own.map(|own| (own.cert.clone(), own.key.clone())),
        };
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let session = ClientConnection::new(files.load().unwrap(), name).unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Client(StreamOwned::new(session, socket))
    }

    /// The status and body, or why there is none.
    fn ask(&mut self, ask: Ask) -> std::io::Result<(u16, String)> {
        self.0.write_all(&ask.bytes())?;
        self.answer()
    }

    fn answer(&mut self) -> std::io::Result<(u16, String)> {
        let mut bytes = Vec::new();
        let mut piece = [0; 4_096];
        loop {
            let said = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = said.split_once("\r\n\r\n") {
                let head = head.to_ascii_lowercase();
                let length = head.split("content-length: ").nth(1);
                let length = length.and_then(|rest| rest.lines().next()?.trim().parse().ok());
                let whole = match length {
                    Some(length) => body.len() >= length,
                    None => body.ends_with("0\r\n\r\n"),
                };
                if whole {
                    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
                    return Ok((status.expect("a status"), body.to_owned()));
                }
            }
            match self.0.read(&mut piece)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                length => bytes.extend_from_slice(&piece[..length]),
            }
        }
    }

    /// The digest of the certificate that the node showed.
    fn shown(&self) -> String {
        let certificates = self.0.conn.peer_certificates().expect("shaken hands");
        CertificateDigest::of(&certificates[0]).hex()
    }
}

fn curl(args: &[&str]) -> Output {
    let output = Command::new("curl")
        .args(["-sS", "-m", "30"])
        .args(args)
        .output();
    output.unwrap_or_else(|_| left_out("curl"))
}

#[test]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
fn a_door_with_tls_answers_as_one_without() {
    let ca = Authority::make();
    let pair = ca.signs("node");
    let settings: Vec<String> = Door::ALL
        .iter()
        .flat_map(|door| with(*door, &pair))
        .collect();
    let node = node_of(&settings).warming();
    let seals = node.seals();
    let client = |door| Client::to(node.address(door), &ca.own, None);
    let mut ops = client(Door::Ops);
    until("the node is ready", || {
        ops.ask(Ask::get("/ready")).unwrap().0 == 200
    });
    assert!(
        node.out().lines().all(|line| line.contains(" https://")),
        "{}",
        node.out()
    );
    let chen = person(1);
    let lines = [chen.resident(), chen.set("confirmed", 1)].join("\n");
    let fed = ops
        .ask(Ask::post("/v1/feed", lines).bearer(&seals.authority()))
        .unwrap();
    assert_eq!(fed.0, 200, "{}", fed.1);
    let mut resident = client(Door::Resident);
    let show = || Ask::get("/v1/code").bearer(&seals.session(&chen));
    let shown: serde_json::Value = serde_json::from_str(&resident.ask(show()).unwrap().1).unwrap();
    assert_eq!(shown["state"], "red");
    let code = shown["code"].as_str().unwrap();
    let mut gate = client(Door::Gate);
    let scan = || Ask::post("/v1/scan", code).bearer(&seals.scanner());
    assert!(gate.ask(scan()).unwrap().1.contains("\"red\""));
    // A body of many records, and an answer of as many.
    let codes = vec![code; 20_000].join("\n");
    let bulk = gate
        .ask(Ask::post("/v1/scan/bulk", codes).bearer(&seals.scanner()))
        .unwrap();
    assert_eq!((bulk.0, bulk.1.matches("\"red\"").count()), (200, 20_000));
    // A refusal that leaves a body unread ends the connection, and is read whole before.
    let large = Ask::post("/v1/scan", vec![b'x'; 200_000]).bearer(&seals.scanner());
    assert_eq!(gate.ask(large).unwrap().0, 413);
    let mut desk = client(Door::Desk);
    let explained = desk
        .ask(Ask::get("/v1/status").bearer(&seals.session(&chen)))
        .unwrap();
    assert_eq!(explained.0, 200);
    // A head that hyper refuses gets our words here too.
    let mut bad = client(Door::Gate);
    bad.0
        .write_all(b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
        .unwrap();
    let answer = bad.answer().unwrap();
    assert!(
        answer.0 == 400 && answer.1.contains("\"malformed\""),
        "{}",
        answer.1
    );
    // Plain HTTP gets nothing.
    let mut plain = TcpStream::connect(node.address(Door::Gate)).unwrap();
    plain.write_all(&Ask::get("/v1/keys").bytes()).unwrap();
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/"), "{rest:?}");
}

#[test]
#[cfg_attr(no_curl, ignore = "no curl on this machine")]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
fn tools_of_others_speak_tls_with_a_node_and_know_its_authority() {
    let (ca, other) = (Authority::make(), Authority::make());
    let node = node_of(&with(Door::Ops, &ca.signs("node"))).warming();
    let url = format!("https://{}/live", node.address(Door::Ops));
    let path = |pair: &Pair| pair.cert.to_str().unwrap().to_owned();
    let (own, foreign) = (path(&ca.own), path(&other.own));
    for version in [
        &["--tls-max", "1.2"][..],
        &["--tlsv1.3"],
        &["--http1.1"],
        &[],
    ] {
        let output = curl(&[&["--cacert", &own, &url], version].concat());
        assert!(
            text(&output.stdout).contains("\"live\""),
            "{}",
            text(&output.stderr)
        );
    }
    let refused = curl(&["--cacert", &foreign, &url]);
    assert_eq!(refused.status.code(), Some(60), "{}", text(&refused.stderr));
    let negotiated = Command::new("openssl")
        .args([
            "s_client",
            "-alpn",
            "h2,http/1.1",
            "-CAfile",
            &own,
            "-verify_return_error",
        ])
        .arg("-connect")
        .arg(node.address(Door::Ops).to_string())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&negotiated.stdout).into_owned();
    assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
}

#[test]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
fn a_client_without_a_certificate_of_the_authority_gets_no_connection() {
    let (ca, clients, other) = (Authority::make(), Authority::make(), Authority::make());
    let mut settings = with(Door::Ops, &ca.signs("node")).to_vec();
    settings.push(format!("ops_client_ca={}", clients.own.cert.display()));
    let node = node_of(&settings).warming();
    let address = node.address(Door::Ops);
    let ask = |own: Option<&Pair>, ask: Ask| Client::to(address, &ca.own, own).ask(ask);
    let cdc = clients.signs("gd-cdc");
    until("the node is ready", || {
        ask(Some(&cdc), Ask::get("/ready")).unwrap().0 == 200
    });
    let old = clients.signs_for("old", 10, &["faketime", "40 days ago"]);
    for own in [
        None,
        Some(&other.signs("gd-cdc")),
        Some(&old),
        Some(&ca.signs("node-2")),
    ] {
        let refused = ask(own, Ask::get("/live"));
        assert!(refused.is_err(), "{refused:?}");
    }
    // A token that is bound to a certificate is good with it alone.
    let digest = CertificateDigest::of_file(&cdc.cert).unwrap().hex();
    let seals = node.seals();
    for (name, speaks_for_gz) in [("gd-cdc", false), ("gd-cdc\0gz-cdc", true)] {
        let name = AccessToken::with_certificate(name, &digest);
        let token = seals.pass(TokenKind::Authority, &name, in_an_hour());
        let feed = |own: &Pair| {
            let mut line = person(1).said("confirmed", "set", 1);
            line["source"] = "gz-cdc".into();
            let lines = [person(1).set("confirmed", 1), line.to_string()].join("\n");
            ask(Some(own), Ask::post("/v1/feed", lines).bearer(&token)).unwrap()
        };
        let (status, body) = feed(&cdc);
        assert_eq!(status, 200, "{body}");
        assert_eq!(
            body.contains("source_not_permitted"),
            !speaks_for_gz,
            "{body}"
        );
        let (status, body) = feed(&clients.signs("sz-cdc"));
        assert!(
            status == 401 && body.contains("\"unauthorized\""),
            "{status} {body}"
        );
        // Nor at a door that asks for no certificate.
        let read = node.desk("GET", "/v1/appeals", &token, None);
        read.refuses(401, "unauthorized");
    }
    // The command makes such a token, and import comes with the certificate.
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let cert = path(&cdc.cert);
    let made = token(
        &node.store,
        &["authority", "--source", "gd-cdc", "--certificate", &cert],
    );
    let file = clients.folder.path().join("feed");
    std::fs::write(&file, person(2).set("confirmed", 1)).unwrap();
    let token_file = clients.folder.path().join("token");
    std::fs::write(&token_file, &made).unwrap();
    let import = |ca: &Pair, own: &Pair| {
        let mut command = command();
        command
            .arg("import")
            .arg(&file)
            .arg("--to")
            .arg(format!("https://{address}"));
        command
            .arg("--token-file")
            .arg(&token_file)
            .arg("--ca")
            .arg(&ca.cert);
        command
            .arg("--client-cert")
            .arg(&own.cert)
            .arg("--client-key")
            .arg(&own.key);
        command.output().expect("the binary runs")
    };
    let done = import(&ca.own, &cdc);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("\"applied\":1"));
    let refused = text(&import(&ca.own, &clients.signs("sz-cdc")).stderr);
    assert!(refused.contains("unauthorized"), "{refused}");
    let refused = text(&import(&other.own, &cdc).stderr);
    assert!(refused.contains("the TLS handshake failed"), "{refused}");
    let refused = import(&ca.own, &other.signs("gd-cdc"));
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
}

#[test]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
fn a_new_certificate_is_taken_up_and_refuses_nobody_meanwhile() {
    let ca = Authority::make();
    let (first, second) = (
        ca.signs_for("first", 10, &[]),
        ca.signs_for("second", 20, &[]),
    );
    let files = ca.signs("files");
    let put = |from: &Path, to: &Path| {
        let beside = to.with_extension("new");
        std::fs::copy(from, &beside).unwrap();
        std::fs::rename(&beside, to).unwrap();
    };
    put(&first.cert, &files.cert);
    put(&first.key, &files.key);
    let node = node_of(&with(Door::Gate, &files)).node();
    let address = node.address(Door::Gate);
    let days = || {
        let seconds = node.meter("liangma_tls_certificate_expiry_seconds{door=\"gate\"}");
        (seconds / 86_400.0).round()
    };
    assert_eq!(days(), 10.0);
    let digest = |pair: &Pair| CertificateDigest::of_file(&pair.cert).unwrap().hex();
    let (ended, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let kept = &mut Client::to(address, &ca.own, None);
    assert_eq!(kept.ask(Ask::get("/nothing")).unwrap().0, 404);
    std::thread::scope(|scope| {
        let _ends = SetOnDrop(&ended);
        for _ in 0..2 {
            scope.spawn(|| {
                while !ended.load(Relaxed) {
                    let mut client = Client::to(address, &ca.own, None);
                    assert_eq!(client.ask(Ask::get("/nothing")).unwrap().0, 404);
                    answered.fetch_add(1, Relaxed);
                }
            });
        }
        let shown = || {
            let mut client = Client::to(address, &ca.own, None);
            client.ask(Ask::get("/nothing")).unwrap();
            client.shown()
        };
        for (pair, life) in [(&second, 20.0), (&first, 10.0)] {
            // One file after the other, as tools write them.
            put(&pair.cert, &files.cert);
            put(&pair.key, &files.key);
            until("the new one is shown", || shown() == digest(pair));
            assert_eq!(days(), life);
        }
        // A key of another: the one in force stays, and that is counted once.
        put(&second.key, &files.key);
        let failures = || node.meter("liangma_tls_reload_failures_total{door=\"gate\"}");
        until("the bad pair is counted", || failures() > 0.0);
        node.signal(libc::SIGHUP);
        assert_eq!(shown(), digest(&first));
        put(&second.cert, &files.cert);
        until("the pair that fits is shown", || shown() == digest(&second));
        assert_eq!(failures(), 1.0);
        let before = answered.load(Relaxed);
        until("others go on", || answered.load(Relaxed) > before + 4);
    });
    // Who came before goes on with the certificate of then.
    assert_eq!(kept.ask(Ask::get("/nothing")).unwrap().0, 404);
    assert_eq!(kept.shown(), digest(&first));
}

#[test]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
fn a_client_that_never_finishes_the_handshake_holds_nobody_up() {
    let ca = Authority::make();
    let mut settings = with(Door::Gate, &ca.signs("node")).to_vec();
    settings.extend(["head_timeout=1s".into(), "gate_connections_max=40".into()]);
    let node = node_of(&settings).node();
    let address = node.address(Door::Gate);
    let mut early = Client::to(address, &ca.own, None).0;
    while early.conn.is_handshaking() {
        early.conn.complete_io(&mut early.sock).unwrap();
    }
    let mut hello = Client::to(address, &ca.own, None);
    let mut wire = Vec::new();
    hello.0.conn.write_tls(&mut wire).unwrap();
    let begun: Vec<TcpStream> = (0..30)
        .map(|nth| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            // Nothing, half a hello, and a whole one without what comes after it.
            let length = [0, wire.len() / 2, wire.len()][nth % 3];
            stream.write_all(&wire[..length]).unwrap();
            stream
        })
        .collect();
    let mut client = Client::to(address, &ca.own, None);
    assert_eq!(client.ask(Ask::get("/nothing")).unwrap().0, 404);
    for mut stream in begun {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    let closed = || node.meter("liangma_tls_handshakes_total{door=\"gate\",outcome=\"closed\"}");
    until("all are counted", || closed() >= 30.0);
    // Who did, and asks later than that, is served.
    assert_eq!(Client(early).ask(Ask::get("/nothing")).unwrap().0, 404);
    until("none is left", || {
        node.meter("liangma_connections{door=\"gate\"}") <= 2.0
    });
}

#[test]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
fn a_newcomer_of_a_full_door_is_told_within_tls() {
    let ca = Authority::make();
    let mut settings = with(Door::Resident, &ca.signs("node")).to_vec();
    settings.extend([
        "resident_connections_max=1".into(),
        "busy_cpu_percent=100".into(),
    ]);
    let node = node_of(&settings).node();
    let address = node.address(Door::Resident);
    let session = node.seals().session(&person(1));
    let show = || Ask::get("/v1/code").bearer(&session);
    let mut inside = Client::to(address, &ca.own, None);
    for nth in 0..20 {
        assert_eq!(inside.ask(show()).unwrap().0, 200);
        let mut newcomer = Client::to(address, &ca.own, None);
        let asks = match nth % 4 {
            // More than the node and the kernel take in unless it is read.
            0 => Ask::post("/v1/code", vec![b'x'; 1_000_000]),
            _ => show(),
        };
        let socket = socket2::SockRef::from(&newcomer.0.sock);
        socket.set_send_buffer_size(16_384).unwrap();
        let (status, body) = newcomer.ask(asks).unwrap();
        assert!(
            status == 503 && body.contains("\"busy\""),
            "{status} {body}"
        );
    }
    // One that never shakes hands is let go.
    let mut silent = TcpStream::connect(address).unwrap();
    assert_eq!(inside.ask(show()).unwrap().0, 200);
    assert_eq!(silent.read(&mut [0; 16]).unwrap_or(0), 0);
}

#[test]
#[cfg_attr(no_openssl, ignore = "no openssl on this machine")]
fn files_that_cannot_be_used_are_named_before_a_door_opens() {
    let ca = Authority::make();
    let (one, two) = (ca.signs("one"), ca.signs("two"));
    let path = |path: &Path| path.display().to_string();
    let cases = [
        (
            vec![format!("gate_tls_cert={}", path(&one.cert))],
            vec!["gate_tls_key is missing"],
        ),
        (
            vec![format!("ops_client_ca={}", path(&ca.own.cert))],
            vec!["ops_tls_cert is missing"],
        ),
        (
            [
                &with(
                    Door::Gate,
                    &Pair {
                        key: two.key.clone(),
                        ..one.clone()
                    },
                )[..],
                &with(
                    Door::Desk,
                    &Pair {
                        cert: one.key.clone(),
                        ..one.clone()
                    },
                )[..],
                &with(
                    Door::Ops,
                    &Pair {
                        key: "/nowhere".into(),
                        ..one.clone()
                    },
                )[..],
            ]
            .concat(),
            vec![
                "--set: gate_tls_cert = ",
                "not that of the certificate",
                "--set: desk_tls_cert = ",
                "holds no certificate",
                "--set: ops_tls_key = ",
                "/nowhere",
            ],
        ),
    ];
    for (settings, expected) in cases {
        let starting = node_of(&settings).starting();
        let log = {
            until("it says why", || {
                expected.iter().all(|part| starting.log().contains(part))
            });
            starting.log()
        };
        assert_eq!(starting.end().code(), Some(78), "{log}");
    }
}
