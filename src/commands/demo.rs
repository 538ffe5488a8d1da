//! `demo`: everything on one machine without a server: a synthetic town, its doors, links to open and lines to paste.

mod front;
mod people;
mod visitor;

use super::failure::{CommandResult, Failure};
use super::key_ring::ring;
use super::log::log;
use super::output::Output;
use super::serve::open;
use super::sources::{Sources, settings};
use super::stores::{open_embedded, runtime};
use super::terminal::{note, progress};
use crate::clock::Time;
use crate::config::Settings;
use crate::feed;
use crate::http::door::Door;
use crate::identity::stand_in::{self, StandIn};
use crate::lines::LineSplitter;
use crate::node::Node;
use crate::person::{Document, MaskedIdentity, MaskedName};
use crate::recognition::recogniser::{LIANGMA, RecognitionSettings};
use crate::seal::ring::{KeyFile, RingFile, TokenKind};
use crate::seal::{AccessToken, Code, CodeClass, Nonces, Seal, Session};
use crate::signals::{SignalAction, Signals};
use crate::store::embedded::bulk::RUN_BYTES;
use crate::synth::{Resident, Town};
use anyhow::Context;
use clap::Args;
use people::{DemoPeople, PeopleTokens};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Run everything on this machine: a synthetic town of 100,000, the doors, and a page with links for each role
///
/// The town is kept in a directory, so the next start takes a second. Ctrl-C ends it.
#[derive(Args)]
pub struct Demo {
    /// Where the town is kept
    #[arg(long, value_name = "DIR", default_value = "./liangma-demo")]
    dir: PathBuf,
    /// Residents of the town
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    residents: u64,
    /// The town's seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Take free ports even if the usual ones are free
    #[arg(long)]
    free_ports: bool,
    /// Print lines to paste: show, scan, bulk, feed
    #[arg(long)]
    lines: bool,
    /// Open the pages to phones on this machine's network, over HTTP: anybody on it may act as any person of the town
    #[arg(long)]
    lan: bool,
}

/// Port of the pages, where all doors share one name.
const FRONT_PORT: u16 = 8088;

/// Codes that are refreshed for the bulk scan.
const CODES: u64 = 1_000;
const CODES_EVERY: Duration = Duration::from_secs(20);

impl Demo {
    pub fn run(self) -> CommandResult {
        let jwks = self.dir.join("platform.json");
        let sources = Sources {
            store: Some(self.dir.display().to_string()),
            keys: None,
            config: None,
            wait: None,
            pairs: vec![
                "drain_delay=0ms".into(),
                "doors=resident,gate,desk,ops".into(),
                format!("identity_jwks_file={}", jwks.display()),
                format!("identity_issuer={}", stand_in::ISSUER),
            ],
        };
        let mut settings = settings(sources.raw())?;
        log(&settings.log, settings.log_format)?;
        for (_, door) in &mut settings.doors {
            let taken = || std::net::TcpListener::bind(door.address).is_err();
            if self.free_ports || taken() {
                door.address.set_port(0);
            }
        }
        let ring = ring(&settings)?;
        let platform = StandIn::new(&jwks)?;
        let (trust, visitor) = visitor::write(&self.dir.join("neighbour"), Time::now())?;
        settings.recognition = Some(RecognitionSettings {
            trust,
            formats: vec![LIANGMA.to_owned()],
        });
        let names = self.dir.join("names.toml");
        std::fs::write(&names, people::NAMES).with_context(|| names.display().to_string())?;
        settings.names = Some(names);
        let town = Town {
            residents: self.residents,
            seed: self.seed,
        };
        settle(&self.dir, &settings, &ring, town)?;
        runtime()?.block_on(self.show(settings, ring, town, platform, visitor))
    }

    async fn show(
        self,
        settings: Settings,
        ring: RingFile,
        town: Town,
        platform: StandIn,
        visitor: String,
    ) -> CommandResult {
        let mut signals = Signals::listen()?;
        let mut node = open(&settings, &KeyFile::Whole(Box::new(ring))).await?;
        node.filled().await?;
        let codes = self.dir.join("codes.txt");
        write_codes(&node, town, &codes)?;
        let chosen = DemoPeople::of(town).context("a town has people of every kind")?;
        let tokens = Tokens::new(&node, town, &chosen).context("documents of the town")?;
        people::file(&node, &chosen, &tokens.people_tokens(), &platform).await?;
        let front = self.front(&node, &tokens, &visitor).await?;
        self.tell(&node, &chosen, &tokens, &codes, &front)?;
        if self.lines {
            note(&format!(
                "a visitor of another province, to scan or paste: {visitor}"
            ));
        }
        let mut fresh = tokio::time::interval(CODES_EVERY);
        loop {
            tokio::select! {
                asked = signals.next() => if asked == SignalAction::End { break },
                _ = fresh.tick() => write_codes(&node, town, &codes)?,
            }
        }
        node.drain().await;
        Ok(ExitCode::SUCCESS)
    }

    /// Starts the proxy that gives all doors but the operations door one name.
    async fn front(&self, node: &Node, tokens: &Tokens, visitor: &str) -> Result<String, Failure> {
        let [resident, gate, desk] =
            [Door::Resident, Door::Gate, Door::Desk].map(|door| at(node, door));
        let front = front::Front {
            links: tokens.links(at(node, Door::Ops), self.lan, visitor).into(),
            resident,
            gate,
            desk,
        };
        let port = if self.free_ports { 0 } else { FRONT_PORT };
        let address = front
            .open(port, self.lan)
            .await
            .context("one name for the doors")?;
        Ok(match self.lan {
            true => format!("http://{}:{}", lan_address(), address.port()),
            false => format!("http://{address}"),
        })
    }

    fn tell(
        &self,
        node: &Node,
        chosen: &DemoPeople,
        tokens: &Tokens,
        codes: &Path,
        front: &str,
    ) -> io::Result<()> {
        let mut out = Output::lock();
        writeln!(
            out,
            "\nliangma serves a town of {} residents.\n",
            self.residents
        )?;
        if self.lines {
            lines(&mut out, node, chosen, tokens, codes)?;
        }
        for (colour, session) in [
            ("green", &tokens.green),
            ("red", &tokens.red),
            ("white", &tokens.white),
        ] {
            writeln!(out, "show a {colour} code   {front}/#s={session}")?;
        }
        writeln!(out, "scan it at a gate   {front}/gate#t={}", tokens.scanner)?;
        writeln!(out, "watch the node      http://{}", at(node, Door::Ops))?;
        if self.lan {
            writeln!(
                out,
                "\nPhones on this network open it too, over HTTP. Their cameras need HTTPS: scan with this machine, or paste."
            )?;
        }
        let more = match self.lines {
            true => "",
            false => " Lines to paste: --lines.",
        };
        writeln!(
            out,
            "\nCtrl-C ends it. The town stays in {}.{more}\n\nOpen {front}{}",
            self.dir.display(),
            front::FIRST
        )?;
        out.flush()
    }
}

/// Credentials of all roles of the demonstration.
struct Tokens {
    green: String,
    red: String,
    white: String,
    pupils: Vec<String>,
    scanner: String,
    authority: String,
    school: String,
    school_scanner: String,
    staff: String,
}

impl Tokens {
    /// Makes the credentials with the key ring of a node; None if a document is invalid.
    fn new(node: &Node, town: Town, chosen: &DemoPeople) -> Option<Tokens> {
        let nonces = Nonces::new();
        let seal = &node.app.seal;
        let now = Time::now();
        let pass = |kind: TokenKind, name: &str, bound: Option<&str>| {
            let pass = AccessToken {
                name: AccessToken::bound_name(name, bound),
                issued_at: now,
                expires_at: now.plus(Duration::from_secs(30 * 86_400)),
            };
            seal.pass(kind, &nonces, &pass)
        };
        let session_of = |someone: &Resident| session(seal, &nonces, someone, now);
        let pupils = (0..people::pupils(town)).filter_map(|nth| session_of(&town.resident(nth)));
        Some(Tokens {
            green: session_of(&chosen.green)?,
            red: session_of(&chosen.red)?,
            white: session_of(&chosen.white)?,
            pupils: pupils.collect(),
            scanner: pass(TokenKind::Scanner, "demo-gate", None),
            authority: pass(TokenKind::Authority, people::SOURCE, None),
            school: pass(TokenKind::Organisation, people::SCHOOL, None),
            school_scanner: pass(TokenKind::Scanner, "demo-school-gate", Some(people::SCHOOL)),
            staff: pass(TokenKind::Staff, "demo-staff", Some("440000")),
        })
    }

    fn people_tokens(&self) -> PeopleTokens {
        PeopleTokens {
            authority: self.authority.clone(),
            green: self.green.clone(),
            red: self.red.clone(),
            pupils: self.pupils.clone(),
        }
    }

    /// Returns the links of the first page as JSON: paths of the common name, and the operations door's address on this
    /// machine.
    fn links(&self, ops: SocketAddr, lan: bool, visitor: &str) -> String {
        let links = [
            ("green", format!("/#s={}", self.green)),
            ("red", format!("/#s={}", self.red)),
            ("white", format!("/#s={}", self.white)),
            ("gate", format!("/gate#t={}&n=Demo", self.scanner)),
            (
                "school",
                format!(
                    "/organisation#t={}&g={}&n=demo-school",
                    self.school, self.school_scanner
                ),
            ),
            ("staff", format!("/staff#t={}&n=demo-staff", self.staff)),
            ("operator", format!("http://{ops}/")),
        ];
        let links = links.map(|(role, link)| serde_json::json!({ "role": role, "link": link }));
        serde_json::json!({ "links": links, "lan": lan, "visitor": visitor }).to_string()
    }
}

/// Returns the address of this machine on its network, if known: the source address of a packet to elsewhere. No packet is
/// sent.
fn lan_address() -> IpAddr {
    let told = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    told.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

/// Prints lines to paste into another terminal.
fn lines(
    out: &mut impl Write,
    node: &Node,
    chosen: &DemoPeople,
    tokens: &Tokens,
    codes: &Path,
) -> io::Result<()> {
    let [resident, gate, desk, ops] = [Door::Resident, Door::Gate, Door::Desk, Door::Ops]
        .map(|door| format!("http://{}", at(node, door)));
    let scanner = &tokens.scanner;
    for (colour, session) in [("green", &tokens.green), ("red", &tokens.red)] {
        let name = colour.to_uppercase();
        writeln!(
            out,
            "# a {colour} code: shown by its resident, then scanned at a gate"
        )?;
        writeln!(out, "{name}={session}")?;
        writeln!(
            out,
            "curl -s {resident}/v1/code -H \"Authorization: Bearer ${name}\""
        )?;
        writeln!(
            out,
            "CODE=$(curl -s {resident}/v1/code -H \"Authorization: Bearer ${name}\" | sed 's/.*\"code\":\"\\([A-Z0-9]*\\)\".*/\\1/')"
        )?;
        writeln!(
            out,
            "curl -s {gate}/v1/scan -H 'Content-Type: text/plain' -H 'Authorization: Bearer {scanner}' -d \"$CODE\"\n"
        )?;
    }
    writeln!(out, "# why red, and how it is cleared")?;
    writeln!(
        out,
        "curl -s {desk}/v1/status -H \"Authorization: Bearer $RED\" -H 'Accept-Language: en'\n"
    )?;
    writeln!(
        out,
        "# {CODES} codes in one request (the file is fresh every {} s)",
        CODES_EVERY.as_secs()
    )?;
    writeln!(
        out,
        "curl -s {gate}/v1/scan/bulk -H 'Content-Type: text/plain' -H 'Authorization: Bearer {scanner}' --data-binary @{}\n",
        codes.display()
    )?;
    writeln!(out, "# a change of status, as an authority feeds it")?;
    let now = Time::now();
    let (someone, source) = (&chosen.relative, people::SOURCE);
    writeln!(
        out,
        "curl -s {ops}/v1/feed -H 'Content-Type: application/x-ndjson' -H 'Authorization: Bearer {}' -d '{{\"event\":\"status\",\"cert_type\":\"{}\",\"cert_no\":\"{}\",\"reason\":\"close_contact\",\"action\":\"set\",\"at\":\"{now}\",\"source\":\"{source}\",\"seq\":{}}}'\n",
        tokens.authority,
        someone.cert_type.code(),
        someone.cert_no,
        now.0
    )?;
    writeln!(out, "# health and meters")?;
    writeln!(out, "curl -s {ops}/ready; curl -s {ops}/metrics\n")
}

/// Returns the address of a door; the demonstration opens all of them.
fn at(node: &Node, door: Door) -> SocketAddr {
    node.address_of(door)
        .expect("the demonstration opens all doors")
}

/// Generates the town unless it exists.
fn settle(dir: &Path, settings: &Settings, ring: &RingFile, town: Town) -> Result<(), Failure> {
    let seal = Seal::new(ring, settings.seal.clone());
    let store = open_embedded(dir, &seal, settings.store_cache_bytes)?;
    if store.residents()? >= town.residents {
        return Ok(());
    }
    note(&format!("making a town of {} residents", town.residents));
    let bar = progress(Some(town.residents), "residents", false);
    let mut bulk = store.bulk(RUN_BYTES)?;
    let today = Time::now().day();
    let mut lines = LineSplitter::new(feed::LINE_BYTES_MAX);
    let mut text = Vec::new();
    town.write(&mut text, |done| bar.set_position(done))?;
    let mut outcome = Ok(());
    lines.push(&text, |_, line| {
        let event = line.and_then(|line| feed::parse(line, today).ok());
        let event = event.expect("a synthetic line is a good one");
        if outcome.is_ok() {
            let changes = feed::seal_event(event, &seal).expect("its service goes on");
            outcome = changes.into_iter().try_for_each(|change| bulk.push(change));
        }
    });
    outcome?;
    bulk.finish(|_| ())?;
    bar.finish_and_clear();
    Ok(())
}

fn session(seal: &Seal, nonces: &Nonces, someone: &Resident, now: Time) -> Option<String> {
    let document = Document::parse(someone.cert_type.code(), &someone.cert_no, now.day()).ok()?;
    let session = Session {
        identity: seal.identify(&document),
        steps: 0,
        member: None,
        masked: masked(someone, &document),
        issued_at: now,
        expires_at: now.plus(Duration::from_secs(86_400)),
    };
    Some(seal.session(nonces, &session))
}

fn masked(someone: &Resident, document: &Document) -> MaskedIdentity {
    MaskedIdentity {
        name: MaskedName::of(&someone.name),
        cert_no: document.mask(),
        assurance: someone.assurance,
    }
}

/// Writes codes of the first residents, as if each had just shown theirs.
fn write_codes(node: &Node, town: Town, path: &Path) -> Result<(), Failure> {
    let now = Time::now();
    let seal = &node.app.seal;
    let nonces = Nonces::new();
    let mut text = Vec::new();
    for nth in 0..CODES.min(town.residents) {
        let someone = town.resident(nth);
        let Ok(document) = Document::parse(someone.cert_type.code(), &someone.cert_no, now.day())
        else {
            continue;
        };
        let identity = seal.identify(&document);
        let code = Code {
            resident: identity.home,
            check: identity.check(),
            class: CodeClass::Live,
            issued_at: now,
            masked: masked(&someone, &document),
        };
        text.extend_from_slice(&seal.code(&nonces, &code).0);
        text.push(b'\n');
    }
    std::fs::write(path, text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    Ok(())
}
