//! Starts nodes, speaks HTTP to them over plain sockets, and writes the lines that they are fed.

use crate::fake_store::{FakeFaults, FakeStore};
use crate::process::spawn;
use liangma::board::Board;
use liangma::clock::{Moment, Time};
use liangma::config::{RawSettings, Settings};
use liangma::http::door::Door;
use liangma::identity::Platform;
use liangma::meters::Meters;
use liangma::person::{self, Assurance, Document, Identity, MaskedIdentity, MaskedName};
use liangma::seal::ring::{RingFile, TokenKind};
use liangma::seal::{AccessToken, Code, CodeClass, Nonces, Seal, Session};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing here takes so long unless it hangs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until something holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Fails a test whose tool is missing. `make test` installs the tool, or reports the test as ignored.
#[track_caller]
pub fn left_out(tool: &str) -> ! {
    panic!("no {tool} on this machine: make test installs it, or leaves out what needs it");
}

/// Tells the threads of a test that it is over, also where it fails: a scope waits for them.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

// ---- processes

/// The binary, with nothing of this machine's settings.
pub fn command() -> Command {
    bare(env!("CARGO_BIN_EXE_liangma"))
}

fn bare(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LIANGMA_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

pub fn run(args: &[&str]) -> Output {
    command().args(args).output().expect("the binary runs")
}

/// Runs `erase person` over a store; `place` says which, and with what key ring.
pub fn erase(place: &[&str], person: &Person) -> Output {
    let whom = ["--cert-type", "10", "--cert-no", &person.cert_no];
    run(&[&["erase", "person"], place, &whom].concat())
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The token that `liangma token` prints.
#[track_caller]
pub fn token(store: &Path, rest: &[&str]) -> String {
    let output = command()
        .arg("token")
        .args(rest)
        .arg("--store")
        .arg(store)
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim_end().to_owned()
}

/// A temporary folder; a store goes beneath it, because a store makes its own.
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A key ring beside a store that has no folder for it: nodes over one Redis share it.
pub struct Ring {
    _folder: TempDir,
    pub file: PathBuf,
    pub seals: Credentials,
}

impl Ring {
    pub fn make() -> Ring {
        let folder = folder();
        let file = folder.path().join("keys");
        let ring = RingFile::generate(Time::now());
        ring.write_new(&file).expect("a folder of ours");
        Ring {
            _folder: folder,
            file,
            seals: Credentials::of(&ring),
        }
    }
}

/// What every node is told, unless a test says otherwise: tests ask as often as they like.
const SETTINGS: [&str; 4] = [
    "drain_delay=0ms",
    "shows_per_second=0",
    "resident_niceness=0", // tests ask from the same cores
    "scans_per_second=0",
];

/// How a node is started.
pub struct NodeBuilder {
    /// A folder, or an address of Redis.
    pub store: Option<PathBuf>,
    /// Where they are not in the store's folder.
    pub keys: Option<PathBuf>,
    pub settings: Vec<String>,
    pub descriptors: Option<u32>,
    /// Another build of the binary.
    pub binary: Option<PathBuf>,
    /// A file of settings.
    pub config: Option<PathBuf>,
    /// A file that says how far the process's time of day is shifted, see [`shifted`].
    pub clock: Option<PathBuf>,
    /// The socket of a service manager.
    pub notify: Option<PathBuf>,
    /// Further variables of its environment.
    pub environment: Vec<(&'static str, &'static str)>,
}

impl NodeBuilder {
    pub fn new(settings: &[&str]) -> NodeBuilder {
        NodeBuilder {
            store: None,
            keys: None,
            settings: settings.iter().map(ToString::to_string).collect(),
            descriptors: None,
            binary: None,
            config: None,
            clock: None,
            notify: None,
            environment: Vec::new(),
        }
    }

    pub fn over(mut self, store: &Path) -> NodeBuilder {
        self.store = Some(store.to_owned());
        self
    }

    /// With another build of the binary.
    pub fn of_binary(mut self, binary: &Path) -> NodeBuilder {
        self.binary = Some(binary.to_owned());
        self
    }

    /// With the settings of a file in the place of those that tests usually have.
    pub fn configured(mut self, file: &Path) -> NodeBuilder {
        self.config = Some(file.to_owned());
        self
    }

    /// Under a service manager that listens at this path.
    pub fn notifying(mut self, socket: &Path) -> NodeBuilder {
        self.notify = Some(socket.to_owned());
        self
    }

    /// With these variables in its environment.
    pub fn with_environment(mut self, variables: &[(&'static str, &'static str)]) -> NodeBuilder {
        self.environment = variables.to_vec();
        self
    }

    /// Over Redis at this address.
    pub fn over_redis(mut self, url: &str, ring: &Ring) -> NodeBuilder {
        self.store = Some(url.into());
        self.keys = Some(ring.file.clone());
        self
    }

    #[track_caller]
    pub fn node(self) -> Node {
        let node = self.warming();
        until("the node is ready", || {
            node.get(Door::Ops, "/ready").status == 200
        });
        node
    }

    /// As [`NodeBuilder::node`], as soon as the doors are open.
    #[track_caller]
    pub fn warming(self) -> Node {
        self.starting().open()
    }

    /// As [`NodeBuilder::node`], as soon as there is a process.
    #[track_caller]
    pub fn starting(self) -> Starting {
        let folder = folder();
        let store = self.store.unwrap_or_else(|| folder.path().join("store"));
        let mut command = match self.descriptors {
            None => match &self.binary {
                None => command(),
                Some(binary) => bare(binary.to_str().expect("UTF-8")),
            },
            Some(most) => {
                let mut shell = bare("sh");
                let script = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
                shell.args(["-c", &script, env!("CARGO_BIN_EXE_liangma")]);
                shell
            }
        };
        if let Some(file) = &self.clock {
            command.envs(shifted(file));
        }
        if let Some(socket) = &self.notify {
            command.env("NOTIFY_SOCKET", socket);
        }
        command.envs(self.environment.iter().copied());
        command.arg("serve");
        if let Some(file) = &self.config {
            command.arg("--config").arg(file);
        } else {
            for pair in SETTINGS {
                command.args(["--set", pair]);
            }
        }
        command.arg("--store").arg(&store);
        if let Some(keys) = &self.keys {
            command.arg("--keys").arg(keys);
        }
        for door in Door::ALL {
            command.args(["--set", &format!("{}=127.0.0.1:0", door.name())]);
        }
        for pair in &self.settings {
            command.args(["--set", pair]);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(command).expect("the binary runs");
        let mut named = self
            .settings
            .iter()
            .filter_map(|pair| pair.strip_prefix("doors="));
        let named = named
            .next_back()
            .map(|list| list.split(',').collect::<Vec<_>>());
        let is_named = |door: &Door| {
            named
                .as_ref()
                .is_none_or(|list| list.contains(&door.name()))
        };
        Starting {
            doors: Door::ALL.into_iter().filter(is_named).collect(),
            log: gather(child.stderr.take().expect("piped")),
            out: BufReader::new(child.stdout.take().expect("piped")),
            child,
            keys: self.keys.unwrap_or_else(|| store.join("keys")),
            store,
            folder,
        }
    }
}

/// The environment of a process whose time of day is shifted by what `file` says, see `shifted_clock.c`.
pub fn shifted(file: &Path) -> [(&'static str, PathBuf); 2] {
    static LIBRARY: std::sync::OnceLock<(TempDir, PathBuf)> = std::sync::OnceLock::new();
    let (_, library) = LIBRARY.get_or_init(|| {
        let folder = folder();
        let library = folder.path().join("shifted_clock.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shifted_clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]);
        let built = compiler.arg(&library).arg(source).status();
        assert!(built.expect("a C compiler").success());
        (folder, library)
    });
    [
        ("LD_PRELOAD", library.clone()),
        ("SHIFTED_CLOCK", file.to_owned()),
    ]
}

/// Sets by how many seconds processes with this file have their time of day shifted. In place: they have the file's page, and
/// a file that is cut for a moment ends them.
pub fn shift(file: &Path, seconds: i64) {
    let mut options = std::fs::File::options();
    let opened = options.write(true).create(true).truncate(false).open(file);
    let written = opened.and_then(|mut file| file.write_all(&seconds.to_ne_bytes()));
    written.expect("a folder of ours");
}

/// A process whose doors may not be open yet; it is to be [`Starting::open`]ed or [`Starting::kill`]ed.
pub struct Starting {
    child: Child,
    /// Those that it opens, in the order of [`Door::ALL`].
    doors: Vec<Door>,
    log: Arc<Mutex<Vec<u8>>>,
    out: BufReader<ChildStdout>,
    store: PathBuf,
    keys: PathBuf,
    folder: TempDir,
}

impl Starting {
    pub fn log(&self) -> String {
        text(&self.log.lock().unwrap())
    }

    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn signal(&self, signal: i32) {
        send(&self.child, signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> ExitStatus {
        ended(&mut self.child)
    }

    /// Waits until the doors are open.
    #[track_caller]
    pub fn open(mut self) -> Node {
        let mut said = String::new();
        let mut doors = Vec::new();
        for door in Door::ALL {
            if !self.doors.contains(&door) {
                doors.push(([0, 0, 0, 0], 0).into());
                continue;
            }
            let mut line = String::new();
            self.out.read_line(&mut line).expect("a line a door");
            let address = line.trim_end().strip_prefix(door.name());
            let address = address.and_then(|rest| {
                let plain = rest.strip_prefix(" http://");
                plain.or_else(|| rest.strip_prefix(" https://"))
            });
            let Some(address) = address else {
                let log = self.log();
                self.kill();
                panic!("{line:?} names no door: {log}");
            };
            doors.push(address.parse().expect("an address"));
            said.push_str(&line);
        }
        let node = Node {
            child: self.child,
            doors,
            log: self.log,
            out: gather(self.out),
            store: self.store,
            keys: self.keys,
            _folder: self.folder,
        };
        node.out.lock().unwrap().extend_from_slice(said.as_bytes());
        node
    }
}

pub fn send(child: &Child, signal: i32) {
    // SAFETY: a bare system call; the child is ours and was not waited for, so its id is still its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

/// Fails unless HAProxy takes the files of this command and has nothing to say about them.
#[track_caller]
pub fn is_taken_in_silence(haproxy: &mut Command) {
    let checked = haproxy.arg("-c").output().expect("haproxy is here");
    let said = text(&checked.stderr);
    let is_silent = !said.contains("[ALERT]") && !said.contains("[WARNING]");
    assert!(checked.status.success() && is_silent, "{said}");
}

/// What a server counts, of its metrics; `name` has its labels.
pub fn metric_in(metrics: &str, name: &str) -> Option<f64> {
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map(|value| value.parse().expect("a number"))
}

/// Waits until HAProxy, whose meters are there, has so many active servers in each of these backends.
#[track_caller]
pub fn until_active(meters: SocketAddr, backends: &[(&str, u32)]) {
    until("haproxy has as many nodes in every backend", || {
        if Connection::try_to(meters).is_none() {
            return false;
        }
        let metrics = text(&Ask::get("/metrics").at(meters).body);
        backends.iter().all(|(proxy, count)| {
            let active = format!("haproxy_backend_active_servers{{proxy=\"{proxy}\"}}");
            metric_in(&metrics, &active) == Some(f64::from(*count))
        })
    });
}

/// Listens at a free port for as long as the tests run: reads the head of a request from each client, one client after the other, sends
/// what `answer` makes of it, and ends the connection.
pub fn answers_each(answer: impl Fn(&[u8]) -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut head = [0; 1024];
            let length = client.read(&mut head).unwrap_or_default();
            let _ = client.write_all(answer(&head[..length]).as_bytes());
        }
    });
    at
}

/// A process that is killed, and waited for, when it is dropped.
pub struct KilledOnDrop(pub Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
pub fn ended(child: &mut Child) -> ExitStatus {
    let mut status = None;
    until("the process has ended", || {
        status = child.try_wait().expect("ours");
        status.is_some()
    });
    status.expect("just seen")
}

/// Keeps what a child writes, so that it never waits for us.
pub fn gather(mut from: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = kept.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            keep.lock().unwrap().extend_from_slice(&buffer[..length]);
        }
    });
    kept
}

/// A running process with its doors open; it is killed when it is dropped.
pub struct Node {
    child: Child,
    doors: Vec<SocketAddr>,
    log: Arc<Mutex<Vec<u8>>>,
    out: Arc<Mutex<Vec<u8>>>,
    pub store: PathBuf,
    keys: PathBuf,
    _folder: TempDir,
}

impl Node {
    #[track_caller]
    pub fn start() -> Node {
        NodeBuilder::new(&[]).node()
    }

    pub fn log(&self) -> String {
        text(&self.log.lock().unwrap())
    }

    pub fn out(&self) -> String {
        text(&self.out.lock().unwrap())
    }

    /// None of these texts is in what the node printed, logged or counted, nor in a file of its store.
    #[track_caller]
    pub fn keeps_nothing_of(&self, texts: &[&str]) {
        let metrics = text(&self.get(Door::Ops, "/metrics").body);
        let mut kept = vec![
            ("the log".to_owned(), self.log().into_bytes()),
            ("standard output".to_owned(), self.out().into_bytes()),
            ("the metrics".to_owned(), metrics.into_bytes()),
        ];
        for entry in std::fs::read_dir(&self.store).expect("the store's folder") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let bytes = std::fs::read(&path).expect("a file of the store");
                kept.push((path.display().to_string(), bytes));
            }
        }
        assert!(kept.len() > 3, "the store has files: {kept:?}");
        for (place, bytes) in &kept {
            for text in texts {
                let is_here = memchr::memmem::find(bytes, text.as_bytes()).is_some();
                assert!(!is_here, "{place} holds {text}");
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: i32) {
        send(&self.child, signal);
    }

    /// Stops all its threads until SIGCONT, and waits until they have stopped: one that runs goes on for a while.
    #[track_caller]
    pub fn halt(&self) {
        self.signal(libc::SIGSTOP);
        until("every thread has stopped", || {
            let folder = format!("/proc/{}/task", self.pid());
            let mut tasks = std::fs::read_dir(folder).expect("it runs").flatten();
            tasks.all(|task| {
                let status = std::fs::read_to_string(task.path().join("status"));
                status.is_ok_and(|status| status.contains("\nState:\tT"))
            })
        });
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> ExitStatus {
        ended(&mut self.child)
    }

    /// What it counted under this name, labels and all; nothing before it counted any.
    pub fn meter(&self, name: &str) -> f64 {
        let metrics = text(&self.get(Door::Ops, "/metrics").body);
        metric_in(&metrics, name).unwrap_or_default()
    }

    /// Resident memory in KiB.
    pub fn memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.expect("VmRSS").parse().expect("a number")
    }

    pub fn seals(&self) -> Credentials {
        Credentials::of(&RingFile::read(&self.keys).expect("the node read it"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---- a node in this process, over a store that does as it is told

pub struct InProcessNode {
    runtime: tokio::runtime::Runtime,
    node: Option<liangma::node::Node>,
    doors: Vec<SocketAddr>,
    pub store: Arc<FakeStore>,
    pub seals: Credentials,
}

impl InProcessNode {
    /// `age` is how old the board's knowledge is at the start; None: the store was never seen alive.
    pub fn open(faults: FakeFaults, settings: &[&str], age: Option<Duration>) -> InProcessNode {
        let mut said = RawSettings::default();
        for door in Door::ALL {
            said.set(door.name(), "127.0.0.1:0", "test");
        }
        for pair in SETTINGS.iter().chain(&["too_old_after=1h"]).chain(settings) {
            said.set_pair(pair);
        }
        let settings: Settings = said.settings().expect("good settings");
        let ring = RingFile::generate(Time::now());
        let meters = Arc::new(Meters::new());
        let board = Arc::new(Board::new(0, settings.board.clone()));
        if let Some(age) = age {
            board.confirm(Moment(
                Moment::now().0.saturating_sub(age.as_millis() as u64),
            ));
        }
        let store = Arc::new(FakeStore::new(board.clone(), faults));
        let parts = liangma::node::Components {
            board,
            seal: Seal::new(&ring, settings.seal.clone()),
            store: store.clone(),
            platform: Platform::read(settings.identity.clone()).expect("no platform"),
            guidance: liangma::desk::guidance::Guidance::default(),
            names: liangma::desk::display_names::DisplayNames::default(),
            offline: None,
            recogniser: None,
            meters,
        };
        let runtime = liangma_runtime();
        let opened = liangma::node::Node::open(parts, liangma::node::Settings::from(&settings));
        let node = runtime.block_on(opened).expect("free ports");
        InProcessNode {
            doors: node.doors.iter().map(|(_, address)| *address).collect(),
            runtime,
            node: Some(node),
            store,
            seals: Credentials::of(&ring),
        }
    }

    /// Waits until the board is full.
    pub fn filled(mut self) -> InProcessNode {
        let node = self.node.as_mut().expect("open until it is dropped");
        self.runtime
            .block_on(node.filled())
            .expect("the fake store fills");
        self
    }
}

fn liangma_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

impl Drop for InProcessNode {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            self.runtime.block_on(node.end(Duration::ZERO));
        }
    }
}

// ---- who asks

/// Whatever has doors.
pub trait Doors {
    fn address(&self, door: Door) -> SocketAddr;

    fn get(&self, door: Door, path: &str) -> Answer {
        Ask::get(path).at(self.address(door))
    }

    fn show(&self, session: &str) -> Answer {
        Ask::get("/v1/code")
            .bearer(session)
            .at(self.address(Door::Resident))
    }

    /// The code of a good show.
    #[track_caller]
    fn code(&self, session: &str) -> String {
        let shown = self.show(session);
        assert_eq!(shown.status, 200, "{}", text(&shown.body));
        shown.json()["code"].as_str().expect("a code").to_owned()
    }

    fn scan(&self, scanner: &str, code: impl AsRef<[u8]>) -> Answer {
        Ask::post("/v1/scan", code)
            .bearer(scanner)
            .at(self.address(Door::Gate))
    }

    fn explain(&self, session: &str) -> Answer {
        Ask::get("/v1/status")
            .bearer(session)
            .at(self.address(Door::Desk))
    }

    /// Asks the desk for something with these credentials.
    fn desk(&self, method: &str, path: &str, token: &str, body: Option<&Value>) -> Answer {
        let mut ask = match body {
            Some(body) => Ask::with_body(method, path, body.to_string()).json(),
            None => Ask::new(method, path),
        };
        ask = ask.bearer(token);
        ask.at(self.address(Door::Desk))
    }

    fn read(&self, path: &str, token: &str) -> Value {
        let answer = self.desk("GET", path, token, None);
        assert_eq!(answer.status, 200, "{path}: {}", text(&answer.body));
        answer.json()
    }

    /// Something that must be taken.
    #[track_caller]
    fn put(&self, path: &str, token: &str, body: Value) -> Value {
        let answer = self.desk("POST", path, token, Some(&body));
        assert_eq!(answer.status, 201, "{path}: {}", text(&answer.body));
        answer.json()
    }

    fn post_feed(&self, authority: &str, lines: impl AsRef<[u8]>) -> Answer {
        Ask::post("/v1/feed", lines)
            .bearer(authority)
            .at(self.address(Door::Ops))
    }

    /// Feeds lines that must all be taken in.
    #[track_caller]
    fn feed(&self, authority: &str, lines: &[String]) -> Value {
        let answer = self.post_feed(authority, lines.join("\n"));
        assert_eq!(answer.status, 200, "{}", text(&answer.body));
        let answer = answer.json();
        assert_eq!(answer["rejected"], json!([]));
        answer
    }
}

impl Doors for Node {
    fn address(&self, door: Door) -> SocketAddr {
        self.doors[door as usize]
    }
}

impl Doors for InProcessNode {
    fn address(&self, door: Door) -> SocketAddr {
        self.doors[door as usize]
    }
}

/// Codes and credentials made in this process with a node's own ring: of any time, and quickly.
pub struct Credentials {
    pub seal: Seal,
    nonces: Nonces,
}

impl Credentials {
    pub fn of(ring: &RingFile) -> Credentials {
        let settings = liangma::seal::Settings {
            code_life: Duration::from_secs(60),
            clock_skew: Duration::from_secs(2),
            issuer: None,
        };
        Credentials {
            seal: Seal::new(ring, settings),
            nonces: Nonces::new(),
        }
    }

    pub fn who(&self, person: &Person) -> (Identity, MaskedIdentity) {
        let document = Document::parse("10", &person.cert_no, u32::MAX).expect("a good number");
        let masked = MaskedIdentity {
            name: MaskedName::of(person.name),
            cert_no: document.mask(),
            assurance: Assurance::RealPerson,
        };
        (self.seal.identify(&document), masked)
    }

    pub fn session(&self, person: &Person) -> String {
        self.session_until(person, Time::now().plus(Duration::from_secs(3600)))
    }

    /// The session of a minor whose face check failed.
    pub fn session_unverified(&self, person: &Person) -> String {
        self.session_of(person, Assurance::Unverified, None, in_an_hour())
    }

    /// A session by which a family member is shown.
    pub fn session_of_member(&self, person: &Person) -> String {
        self.session_of(person, Assurance::RealPerson, Some(9), in_an_hour())
    }

    pub fn session_until(&self, person: &Person, expires_at: Time) -> String {
        self.session_of(person, Assurance::RealPerson, None, expires_at)
    }

    fn session_of(
        &self,
        person: &Person,
        assurance: Assurance,
        member: Option<u64>,
        expires_at: Time,
    ) -> String {
        let (identity, mut masked) = self.who(person);
        masked.assurance = assurance;
        let session = Session {
            identity,
            steps: 0,
            member,
            masked,
            issued_at: Time(expires_at.0 - 3_600_000),
            expires_at,
        };
        self.seal.session(&self.nonces, &session)
    }

    pub fn code_of(&self, person: &Person, issued_at: Time) -> String {
        let (identity, masked) = self.who(person);
        let code = Code {
            resident: identity.home,
            check: identity.check(),
            class: CodeClass::Live,
            issued_at,
            masked,
        };
        text(&self.seal.code(&self.nonces, &code).0)
    }

    pub fn scanner(&self) -> String {
        self.pass(TokenKind::Scanner, "east-gate", in_an_hour())
    }

    pub fn organisation(&self, name: &str) -> String {
        self.pass(TokenKind::Organisation, name, in_an_hour())
    }

    /// A scanner whose tokens open the grants of this organisation too.
    pub fn scanner_of(&self, organisation: &str) -> String {
        let name = AccessToken::bound_name("east-gate", Some(organisation));
        self.pass(TokenKind::Scanner, &name, in_an_hour())
    }

    pub fn staff(&self, name: &str, region: &str) -> String {
        let name = AccessToken::bound_name(name, Some(region));
        self.pass(TokenKind::Staff, &name, in_an_hour())
    }

    pub fn operator(&self) -> String {
        self.pass(TokenKind::Operator, "ops-1", in_an_hour())
    }

    pub fn authority(&self) -> String {
        // An exchange's: every source that the tests speak for.
        let all = "gz-cdc,sz.customs,gz-lab,carriers,gate,east-gate,gz";
        self.authority_of("gd-cdc", Some(all))
    }

    /// An authority that speaks for its own source, and for these.
    pub fn authority_of(&self, source: &str, others: Option<&str>) -> String {
        let name = AccessToken::bound_name(source, others);
        self.pass(TokenKind::Authority, &name, in_an_hour())
    }

    pub fn pass(&self, kind: TokenKind, name: &str, expires_at: Time) -> String {
        let pass = AccessToken {
            name: name.to_owned(),
            issued_at: Time(expires_at.0 - 3_600_000),
            expires_at,
        };
        self.seal.pass(kind, &self.nonces, &pass)
    }
}

pub fn in_an_hour() -> Time {
    Time::now().plus(Duration::from_secs(3600))
}

pub fn long_ago() -> Time {
    Time(Time::now().0 - 1_000)
}

// ---- people and what is said of them

#[derive(Clone, Debug)]
pub struct Person {
    pub cert_no: String,
    pub name: &'static str,
}

/// One of many, each with a number of their own.
pub fn person(nth: usize) -> Person {
    let (sequence, day) = (nth % 1000, nth / 1000);
    let (day, month, year) = (1 + day % 28, 1 + day / 28 % 12, 1950 + day / 336);
    let body = format!("440106{year}{month:02}{day:02}{sequence:03}");
    let digits: &[u8; 17] = body.as_bytes().try_into().expect("17 digits");
    let check = person::check_digit(digits) as char;
    Person {
        cert_no: format!("{body}{check}"),
        name: "陈美玲",
    }
}

impl Person {
    pub fn resident(&self) -> String {
        json!({
            "event": "resident", "cert_type": "10", "cert_no": self.cert_no,
            "name": self.name, "assurance": "real_person",
        })
        .to_string()
    }

    /// Every field of a status, to be changed.
    pub fn said(&self, reason: &str, action: &str, seq: u64) -> Value {
        json!({
            "event": "status", "cert_type": "10", "cert_no": self.cert_no, "reason": reason, "action": action,
            "at": "2020-04-20T08:00:00+08:00", "source": "gd-cdc", "seq": seq,
            "until": "2020-05-04", "region": "440106",
        })
    }

    pub fn set(&self, reason: &str, seq: u64) -> String {
        self.said(reason, "set", seq).to_string()
    }

    pub fn clear(&self, reason: &str, seq: u64) -> String {
        self.said(reason, "clear", seq).to_string()
    }

    pub fn mask(&self) -> String {
        format!(
            "{}**************{}",
            &self.cert_no[..2],
            &self.cert_no[16..]
        )
    }
}

// ---- HTTP, by hand

/// A request to be written.
pub struct Ask {
    line: String,
    headers: String,
    body: Option<Vec<u8>>,
}

impl Ask {
    pub fn new(method: &str, path: &str) -> Ask {
        Ask {
            line: format!("{method} {path} HTTP/1.1\r\nhost: test\r\n"),
            headers: String::new(),
            body: None,
        }
    }

    pub fn get(path: &str) -> Ask {
        Ask::new("GET", path)
    }

    pub fn post(path: &str, body: impl AsRef<[u8]>) -> Ask {
        Ask::with_body("POST", path, body)
    }

    pub fn with_body(method: &str, path: &str, body: impl AsRef<[u8]>) -> Ask {
        let mut ask = Ask::new(method, path);
        ask.body = Some(body.as_ref().to_vec());
        ask
    }

    pub fn header(mut self, name: &str, value: &str) -> Ask {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub fn bearer(self, token: &str) -> Ask {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub fn json(self) -> Ask {
        self.header("content-type", "application/json")
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}{}", self.line, self.headers);
        if let Some(body) = &self.body {
            bytes.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        bytes.push_str("\r\n");
        let mut bytes = bytes.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Asks on a connection of its own.
    #[track_caller]
    pub fn at(self, address: SocketAddr) -> Answer {
        let mut connection = Connection::to(address);
        connection.send(self.bytes());
        connection.answer()
    }
}

/// A response, read.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", text(&self.body)))
    }

    /// Holds a busy page against what a browser needs of it: words in its language, and when to ask again.
    #[track_caller]
    pub fn is_busy_page(&self, language: &str, words: &[&str]) {
        let page = text(&self.body);
        assert_eq!(self.status, 503, "{page}");
        assert_eq!(
            self.header("content-type"),
            Some("text/html; charset=utf-8"),
            "{page}"
        );
        assert_eq!(self.header("content-language"), Some(language));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert!(self.header("content-security-policy").is_some());
        let seconds = self.header("retry-after").expect("when to come back");
        assert!(seconds.parse::<u64>().expect("seconds") >= 1);
        assert_eq!(self.header("refresh"), Some(seconds));
        assert!(
            page.contains(&format!("<html lang=\"{language}\">")),
            "{page}"
        );
        assert!(
            page.contains(&format!("<b id=\"s\">{seconds}</b>")),
            "{page}"
        );
        assert!(words.iter().all(|word| page.contains(word)), "{page}");
        assert!(page.len() < 1_024, "it is small");
    }

    /// Holds a refusal against the contract.
    #[track_caller]
    pub fn refuses(&self, status: u16, code: &str) -> Value {
        let said = text(&self.body);
        assert_eq!(self.status, status, "{said}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{said}"
        );
        let body = self.json();
        assert_eq!(body["code"], code);
        assert_eq!(body["type"], format!("urn:liangma:{code}"));
        assert_eq!(body["status"], status);
        assert!(
            body["title"]
                .as_str()
                .is_some_and(|title| !title.is_empty())
        );
        let retry = self
            .header("retry-after")
            .map(|seconds| seconds.parse::<u64>().expect("whole"));
        let retry_ms = body
            .get("retry_after_ms")
            .map(|ms| ms.as_u64().expect("whole"));
        assert_eq!(retry.is_some(), matches!(status, 429 | 503), "{said}");
        assert_eq!(retry, retry_ms.map(|ms| ms.div_ceil(1000)));
        body
    }

    /// The state that is told.
    #[track_caller]
    pub fn state(&self) -> String {
        assert_eq!(self.status, 200, "{}", text(&self.body));
        self.json()["state"].as_str().expect("a state").to_owned()
    }
}

/// A connection, read with care for its limits: nothing here waits for ever.
pub struct Connection {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl Connection {
    #[track_caller]
    pub fn to(address: SocketAddr) -> Connection {
        Connection::try_to(address).expect("the door is open")
    }

    /// To a door that may be gone by now.
    pub fn try_to(address: SocketAddr) -> Option<Connection> {
        let stream = TcpStream::connect_timeout(&address, DEADLINE).ok()?;
        Some(Connection::over(stream))
    }

    /// From another address of this machine.
    #[track_caller]
    pub fn between(source: IpAddr, address: SocketAddr) -> Connection {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            None,
        );
        let socket = socket.expect("a socket");
        let source = SocketAddr::new(source, 0);
        socket.bind(&source.into()).expect("an address of ours");
        let connected = socket.connect_timeout(&address.into(), DEADLINE);
        connected.expect("the door is open");
        Connection::over(socket.into())
    }

    fn over(stream: TcpStream) -> Connection {
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Connection {
            stream,
            unread: Vec::new(),
        }
    }

    /// Whether the other side was still there to be sent to.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("it reads");
    }

    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// One chunk of a body in pieces.
    #[track_caller]
    pub fn chunk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let head = format!("{:x}\r\n", bytes.len());
        self.send([head.as_bytes(), bytes, b"\r\n"].concat());
    }

    /// More bytes; false at the end, or when the other side cut the connection.
    #[track_caller]
    fn more(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(length) => {
                self.unread.extend_from_slice(&buffer[..length]);
                length > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&self.unread)),
        }
    }

    #[track_caller]
    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.unread, b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Some(text(&line[..end]));
            }
            if !self.more() {
                return None;
            }
        }
    }

    #[track_caller]
    fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(self.more(), "the connection ended within a body");
        }
        self.unread.drain(..length).collect()
    }

    /// The head of an answer; None if the connection ended instead.
    #[track_caller]
    pub fn head(&mut self) -> Option<Answer> {
        let line = self.line()?;
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .or(line.strip_prefix("HTTP/1.0 "))
            .and_then(|rest| rest.get(..3));
        let status = status.and_then(|status| status.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line().expect("a whole head");
            let Some((name, value)) = line.split_once(':') else {
                assert_eq!(line, "");
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Some(Answer {
            status: status.unwrap_or_else(|| panic!("no status line: {line:?}")),
            headers,
            body: Vec::new(),
        })
    }

    /// One piece of a body that comes in pieces; None at its end.
    #[track_caller]
    pub fn piece(&mut self) -> Option<Vec<u8>> {
        let line = self.line().expect("a chunk");
        let length = usize::from_str_radix(&line, 16).expect("a length");
        let piece = self.exactly(length);
        assert_eq!(self.exactly(2), b"\r\n");
        (length > 0).then_some(piece)
    }

    /// The next answer, whole; None if the connection ended instead.
    #[track_caller]
    pub fn try_answer(&mut self) -> Option<Answer> {
        let mut answer = self.head()?;
        answer.body = self.rest(&answer);
        Some(answer)
    }

    /// The body behind a head.
    #[track_caller]
    pub fn rest(&mut self, head: &Answer) -> Vec<u8> {
        let mut body = Vec::new();
        if head.header("transfer-encoding") == Some("chunked") {
            while let Some(piece) = self.piece() {
                body.extend(piece);
            }
        } else {
            let length = head.header("content-length").expect("a length").parse();
            body = self.exactly(length.expect("a number"));
        }
        body
    }

    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    /// Whether the other side neither says anything nor ends the connection for so long.
    pub fn is_quiet_for(&self, time: Duration) -> bool {
        let set = |time| self.stream.set_read_timeout(Some(time)).expect("a socket");
        set(time);
        let quiet = self
            .stream
            .peek(&mut [0])
            .is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        set(DEADLINE);
        quiet
    }

    /// Waits for the other side to end the connection; what it still said.
    #[track_caller]
    pub fn ended(mut self) -> Vec<u8> {
        while self.more() {}
        self.unread
    }
}
