//! `serve`: a node over its store, from opening the doors to the end of the last query.

use super::failure::{CommandResult, Failure};
use super::key_ring::{node_keys, read_node_keys};
use super::log::{log, log_beside, set_log_filter};
use super::output::Output;
use super::sources::{Sources, checked_settings};
use super::stores::{StoreHandle, open_store, runtime};
use super::system_limits;
use super::terminal::say;
use crate::admission::descriptors::{self, DescriptorRequest};
use crate::board::Board;
use crate::clock::offset;
use crate::config::{RawSettings, Settings, StoreSettings};
use crate::critical;
use crate::desk::display_names::DisplayNames;
use crate::desk::guidance::Guidance;
use crate::http::door::Door;
use crate::http::doors;
use crate::http::doors::waiting::WaitingDoor;
use crate::identity::Platform;
use crate::logging::LogFormat;
use crate::meters::Meters;
use crate::node::{self, Components, DoorCertificates, Node};
use crate::offline::issue::{OfflineIssuer, OfflineKeys};
use crate::recognition::recogniser::Recogniser;
use crate::seal::Seal;
use crate::seal::ring::KeyFile;
use crate::service::AppState;
use crate::service::in_force::SettingsInForce;
use crate::service_manager::{self, Notice};
use crate::signals::{SignalAction, Signals};
use crate::store::{Store, embedded};
use crate::traces;
use crate::version::{COMMIT, VERSION};
use clap::Args;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Open the doors over a store
///
/// Prints one line for each door with its bound address, logs to standard error, and serves until SIGTERM: then /ready answers
/// no, the doors close, and queries end. A second signal, a second or more after the first, ends it at once. SIGHUP reads
/// settings, key ring, guidance, names and the platform's keys again.
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    sources: Sources,
    /// Resident door: residents show their code [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT")]
    resident: Option<String>,
    /// Gate door: scanners scan [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR:PORT")]
    gate: Option<String>,
    /// Desk door: log-in, records, family, grants [default: 127.0.0.1:8082]
    #[arg(long, value_name = "ADDR:PORT")]
    desk: Option<String>,
    /// Operations door: readiness, metrics, feeds [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDR:PORT")]
    ops: Option<String>,
    /// The former name of `--ops`. With it, the door's line has that name too
    #[arg(long, hide = true, conflicts_with = "ops", value_name = "ADDR:PORT")]
    back: Option<String>,
    /// Which doors to open [default: resident,gate,desk,ops]
    #[arg(long, value_name = "LIST")]
    doors: Option<String>,
    /// Check the settings and every file that they name, report all faults, and open nothing
    #[arg(long)]
    check: bool,
}

impl Serve {
    pub fn run(self) -> CommandResult {
        if self.check {
            return self.check();
        }
        let mut settings = checked_settings(self.raw())?;
        let traces = settings.traces.as_ref().map(traces::start).transpose();
        let traces =
            traces.map_err(|why| Failure::Settings(vec![format!("otlp_endpoint: {why}")]))?;
        log_beside(traces, &settings.log, settings.log_format)?;
        critical::report_panics();
        let in_force = &settings.service.in_force;
        tracing::info!(
            version = VERSION,
            commit = COMMIT,
            set = in_force.line(true),
            default = in_force.line(false),
            "starting"
        );
        if let StoreSettings::Redis(redis) = &settings.store
            && redis.dial.place.password.is_some()
            && in_force
                .origin("store")
                .is_some_and(|origin| origin.starts_with("--"))
        {
            tracing::warn!(
                "the password of Redis is among the arguments, which other users of this machine can read: use store_password_file"
            );
        }
        // A node waits for its store; its supervisor reads that in the log.
        if let StoreSettings::Redis(redis) = &mut settings.store {
            redis.open_wait = None;
        }
        let keys = node_keys(&settings)?;
        runtime()?.block_on(serve(self, settings, keys))
    }

    /// Checks whether a node could start with these settings.
    fn check(&self) -> CommandResult {
        // A starting node only warns about these.
        log("warn", LogFormat::Text)?;
        let settings = checked_settings(self.raw())?;
        if let Some(path) = &settings.guidance {
            read_guidance(path)?;
        }
        if let Some(path) = &settings.names {
            read_names(path)?;
        }
        if let Some(folder) = settings.store.folder().filter(|it| embedded::is_in(it)) {
            let mark = Seal::mark_of(&read_node_keys(&settings)?);
            embedded::check_ring(folder, mark)
                .map_err(|error| Failure::Settings(vec![format!("keys: {error}")]))?;
        }
        say("the settings are good")?;
        Ok(ExitCode::SUCCESS)
    }

    /// Returns the settings of file, environment and command line.
    fn raw(&self) -> RawSettings {
        let mut raw = self.sources.raw();
        for (name, value) in [
            ("resident", &self.resident),
            ("gate", &self.gate),
            ("desk", &self.desk),
            ("ops", &self.ops),
            ("back", &self.back),
            ("doors", &self.doors),
        ] {
            if let Some(value) = value {
                raw.set(name, value, format!("--{name}"));
            }
        }
        raw
    }

    /// Returns the name of the operations door in the output.
    fn ops_name(&self) -> &'static str {
        match self.back {
            Some(_) => "back",
            None => Door::Ops.name(),
        }
    }
}

/// Further time for the end of a node with a panicked part, which the drain may be waiting for.
const FALLEN_WAIT: Duration = Duration::from_secs(10);

async fn serve(told: Serve, settings: Settings, keys: KeyFile) -> CommandResult {
    let mut signals = Signals::listen()?;
    // Before anything that may wait: a supervisor reads there what the node waits for.
    let waiting = waiting_door(&settings)?;
    if let StoreSettings::Redis(_) = settings.store {
        service_manager::tell(Notice::WaitingForStore);
    }
    let mut node = tokio::select! {
        node = open_over(&settings, &keys, waiting) => node?,
        // The node waits for an unreachable store, and can be ended meanwhile.
        () = again(&mut signals) => return Ok(ExitCode::SUCCESS),
    };
    if let Err(error) = print_doors(&node, told.ops_name()) {
        // Without the printed addresses the doors could not be found, so a closed standard output is a failure.
        node.end(Duration::ZERO).await;
        return Err(
            anyhow::anyhow!("the doors cannot be printed to standard output: {error}").into(),
        );
    }
    service_manager::tell(Notice::Serving);
    let reload = Arc::new(Reload {
        told,
        app: node.app.clone(),
        certificates: node.certificates(),
        settings: Mutex::new(settings.clone()),
    });
    let mut filled = false;
    loop {
        let asked = tokio::select! {
            outcome = node.filled(), if !filled => {
                outcome?;
                filled = true;
                continue;
            }
            asked = signals.next() => asked,
            name = critical::fallen() => {
                tracing::error!(name, "a critical part of the node panicked: the node ends");
                let wait = settings.drain_delay + settings.drain_timeout + FALLEN_WAIT;
                let _ = tokio::time::timeout(wait, node.drain()).await;
                return Err(anyhow::anyhow!("{name} panicked").into());
            }
        };
        match asked {
            SignalAction::Reload => reload.start(),
            SignalAction::End => break,
        }
    }
    let asked_at = Instant::now();
    service_manager::tell(Notice::Draining);
    tracing::info!(
        "the node drains: a second signal, a second or more after the first, ends it at once"
    );
    let drained = async {
        node.drain().await;
        traces::flush().await;
    };
    tokio::select! {
        () = drained => tracing::info!("the node has drained: its doors and its store are closed"),
        () = again_after(&mut signals, asked_at) => tracing::warn!("the node ends at once, at a second signal"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a line for each door. `ops_name` is the name of the operations door.
fn print_doors(node: &Node, ops_name: &str) -> std::io::Result<()> {
    let mut out = Output::lock();
    for (door, address) in &node.doors {
        let name = match door {
            Door::Ops => ops_name,
            other => other.name(),
        };
        let scheme = match node.has_tls(*door) {
            true => "https",
            false => "http",
        };
        writeln!(out, "{name} {scheme}://{address}")?;
    }
    if let Some(address) = node.agent {
        writeln!(out, "agent tcp://{address}")?;
    }
    out.flush()
}

/// Opens the operations door before the node exists; None if it is not among the doors.
fn waiting_door(settings: &Settings) -> Result<Option<WaitingDoor>, Failure> {
    let ops = settings.doors.iter().find(|(door, _)| *door == Door::Ops);
    let Some((_, door)) = ops else {
        return Ok(None);
    };
    let state = match settings.store {
        StoreSettings::Redis(_) => "store_away",
        StoreSettings::Embedded(_) => "warming",
    };
    let address = door.address;
    let waiting = WaitingDoor::open(door.clone(), state)
        .map_err(|error| anyhow::anyhow!("the ops door at {address}: {error}"))?;
    Ok(Some(waiting))
}

/// Time since the last write after which this machine's clock may be wrong.
const LONG_AWAY: Duration = Duration::from_secs(86_400);

/// Postpones sweeps if the store was last written long ago by this machine's clock, which may be wrong.
fn doubt_clock(settings: &Settings) {
    let StoreSettings::Embedded(folder) = &settings.store else {
        return;
    };
    let written = embedded::written_before(folder);
    if let Some(ago) = written.filter(|ago| *ago > LONG_AWAY) {
        tracing::warn!(
            days = ago.as_secs() / 86_400,
            "by this clock the store was last written many days ago, and the clock may be wrong: no paper past its retention is removed for a day"
        );
        offset::note_leap();
    }
}

/// Creates a node from its settings and opens its doors.
///
/// # Errors
///
/// A file, the store or a door cannot be opened.
pub async fn open(settings: &Settings, keys: &KeyFile) -> Result<Node, Failure> {
    open_over(settings, keys, None).await
}

/// Opens a node like [`open`], over an operations door that is open already.
async fn open_over(
    settings: &Settings,
    keys: &KeyFile,
    waiting: Option<WaitingDoor>,
) -> Result<Node, Failure> {
    let mut node_settings = node::Settings::from(settings);
    fit_descriptors(&mut node_settings.doors);
    system_limits::compare(&node_settings.doors);
    let seal = Seal::new(keys, settings.seal.clone());
    let platform = Platform::read(settings.identity.clone())
        .map_err(|why| Failure::Settings(vec![format!("identity_jwks_file: {why}")]))?;
    if !platform.is_known() {
        tracing::info!("no identity_jwks_file is set: POST /v1/sessions refuses every assertion");
    }
    let guidance = match &settings.guidance {
        None => Guidance::default(),
        Some(path) => read_guidance(path)?,
    };
    let names = match &settings.names {
        None => DisplayNames::default(),
        Some(path) => read_names(path)?,
    };
    let offline = offline(settings, keys)?;
    let recogniser = recogniser(settings)?;
    doubt_clock(settings);
    let opened = open_store(settings, &seal, settings.store_cache_bytes).await?;
    let residents = match &opened {
        StoreHandle::Embedded(opened) => opened.residents()?,
        StoreHandle::Redis(opened) => opened.residents(),
    };
    // Memory for the board is allocated now, which takes seconds for a province.
    tracing::info!(
        residents,
        "the residents in the store were counted: allocating the board"
    );
    let meters = Arc::new(Meters::new());
    let metrics = meters.store.clone();
    metrics.on_record.store(residents, Relaxed);
    let board = Arc::new(Board::new(residents, settings.board.clone()));
    let store: Arc<dyn Store> = match opened {
        StoreHandle::Embedded(opened) => Arc::new(opened.start(board.clone(), metrics)),
        StoreHandle::Redis(opened) => Arc::new(opened.start(Some(board.clone()), metrics)),
    };
    let parts = Components {
        board,
        seal,
        store,
        platform,
        guidance,
        names,
        offline,
        recogniser,
        meters,
    };
    Ok(Node::open_over(parts, node_settings, waiting)
        .await
        .map_err(|why| anyhow::anyhow!(why))?)
}

/// Reads the texts of guidance, and warns about skipped ones.
fn read_guidance(path: &Path) -> Result<Guidance, Failure> {
    let read = Guidance::read(path);
    taken_entries("guidance_file", "the built-in text is used", read)
}

/// Reads the display names, and warns about skipped ones.
fn read_names(path: &Path) -> Result<DisplayNames, Failure> {
    let read = DisplayNames::read(path);
    taken_entries("names_file", "the identifier stands alone", read)
}

/// Returns the entries of the file that a setting names, and warns about skipped ones; `instead` says what replaces them.
fn taken_entries<T>(
    setting: &'static str,
    instead: &'static str,
    read: Result<(T, Vec<String>), String>,
) -> Result<T, Failure> {
    let (taken, passed_over) =
        read.map_err(|why| Failure::Settings(vec![format!("{setting}: {why}")]))?;
    for why in passed_over {
        tracing::warn!(why, setting, "an entry is skipped: {instead}");
    }
    Ok(taken)
}

/// Returns the issuer of offline codes; None if no issuer is set.
fn offline(settings: &Settings, keys: &KeyFile) -> Result<Option<Arc<OfflineIssuer>>, Failure> {
    let Some(offline) = &settings.service.offline else {
        return Ok(None);
    };
    let keys = OfflineKeys::of(keys, offline.issuer).ok_or_else(|| {
        Failure::Settings(vec![
            "offline_issuer: the key ring has no signing keys; `liangma keys rotate --sign` makes them"
                .to_owned(),
        ])
    })?;
    Ok(Some(Arc::new(OfflineIssuer::new(keys, offline.clone()))))
}

/// Reads the trust list; None if no trust file is set.
fn recogniser(settings: &Settings) -> Result<Option<Arc<Recogniser>>, Failure> {
    let Some(recognition) = &settings.recognition else {
        return Ok(None);
    };
    let read = Recogniser::read(recognition.clone());
    let recogniser = read.map_err(|faults| {
        let named = faults.iter().map(|fault| format!("trust: {fault}"));
        Failure::Settings(named.collect())
    })?;
    Ok(Some(Arc::new(recogniser)))
}

/// State for reloads: the sources of settings, the node, and the last settings.
struct Reload {
    told: Serve,
    app: Arc<AppState>,
    certificates: Arc<DoorCertificates>,
    /// Locked during a reload, so that there is one at a time.
    settings: Mutex<Settings>,
}

impl Reload {
    /// Reads settings and files again, on a thread, because a mount may hang.
    fn start(self: &Arc<Reload>) {
        let reload = self.clone();
        let thread = std::thread::Builder::new().name("reload".into());
        if let Err(error) = thread.spawn(move || reload.run()) {
            tracing::error!(%error, "the reload failed: its thread cannot be started");
        }
    }

    /// Reads settings, key ring, platform's keys, guidance and names again. Each is used if it is valid; a faulty one changes
    /// nothing.
    fn run(&self) {
        let mut known = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let raw = self.told.raw();
        for line in raw.renamed() {
            tracing::warn!("{line}");
        }
        let mut is_good = match raw.settings() {
            Ok(newer) => {
                self.take_up(&mut known, newer);
                true
            }
            Err(bad) => {
                for why in bad {
                    tracing::error!(why, "a setting has a fault: the settings in force stay");
                }
                false
            }
        };
        self.certificates.look();
        is_good &= self.app.reload_platform(true);
        is_good &= self.app.reload_trust(true);
        is_good &= self.reload_ring(&known);
        // By the path in force now.
        if let Some(path) = &known.guidance {
            is_good &= self.reload_guidance(path);
        }
        if let Some(path) = &known.names {
            is_good &= self.reload_names(path);
        }
        self.app.is_reloaded.store(is_good, Relaxed);
    }

    fn reload_ring(&self, known: &Settings) -> bool {
        match read_node_keys(known) {
            Ok(keys) if Seal::mark_of(&keys) != self.app.seal.mark() => {
                tracing::error!("the key ring belongs to another store: the one in force stays");
                false
            }
            Ok(keys) => {
                let is_whole = self.app.reload_ring(&keys);
                tracing::info!("the key ring was read again");
                is_whole
            }
            Err(why) => {
                log_kept("key ring", why);
                false
            }
        }
    }

    /// Applies the changed settings that a running node can change, and logs the others.
    fn take_up(&self, known: &mut Settings, newer: Settings) {
        let mut in_force = SettingsInForce::clone(&self.app.in_force.load());
        let mut connections_changed = false;
        for setting in in_force.clone().changed(&newer.service.in_force) {
            let (name, value) = (setting.name, &*setting.value);
            let is_taken = match name {
                "log" => set_log_filter(&newer.log),
                "guidance_file" => {
                    known.guidance.clone_from(&newer.guidance);
                    if known.guidance.is_none() {
                        self.app.set_guidance(Guidance::default());
                    }
                    true
                }
                "names_file" => {
                    known.names.clone_from(&newer.names);
                    if known.names.is_none() {
                        self.app.set_names(DisplayNames::default());
                    }
                    true
                }
                _ => match name.strip_suffix("_connections_max") {
                    Some(door) => {
                        let is_open = want_connections(door, &mut known.doors, &newer.doors);
                        connections_changed |= is_open;
                        is_open
                    }
                    None => setting.is_reloadable && self.app.set_rate(name, &newer.service),
                },
            };
            match is_taken {
                true => {
                    in_force.put(setting);
                    tracing::info!(name, value, "a setting was changed");
                }
                false => tracing::warn!(
                    name,
                    value,
                    "a changed setting needs a restart: the value in force stays"
                ),
            }
        }
        if connections_changed {
            self.share_connections(&known.doors);
        }
        self.app.in_force.store(Arc::new(in_force));
    }

    /// Sets the numbers of connections of all doors, fewer if descriptors are scarce: then a change of one door moves the shares of
    /// the others.
    fn share_connections(&self, wanted: &[(Door, doors::Settings)]) {
        let mut doors = wanted.to_vec();
        fit_descriptors(&mut doors);
        for (door, settings) in &doors {
            let most = settings.admission.connections_max;
            self.app.door_loads.set_connections_max(door.name(), most);
        }
    }

    fn reload_names(&self, path: &Path) -> bool {
        reread("names file", read_names(path), |names| {
            self.app.set_names(names);
        })
    }

    fn reload_guidance(&self, path: &Path) -> bool {
        reread("guidance", read_guidance(path), |guidance| {
            self.app.set_guidance(guidance);
        })
    }
}

/// Takes the number of connections that a door is to have from newer settings. Returns false if the door is not open.
fn want_connections(
    door: &str,
    open: &mut [(Door, doors::Settings)],
    newer: &[(Door, doors::Settings)],
) -> bool {
    let newer = newer.iter().find(|(one, _)| one.name() == door);
    let open = open.iter_mut().find(|(one, _)| one.name() == door);
    let (Some((_, open)), Some((_, newer))) = (open, newer) else {
        return false;
    };
    open.admission.connections_max = newer.admission.connections_max;
    true
}

/// Applies what was read again, and logs it; or logs why the former value stays. Returns whether it was applied.
fn reread<T>(what: &'static str, read: Result<T, Failure>, set: impl FnOnce(T)) -> bool {
    match read {
        Ok(newer) => {
            set(newer);
            tracing::info!("the {what} was read again");
            true
        }
        Err(why) => {
            log_kept(what, why);
            false
        }
    }
}

/// Logs why what was read again is not applied.
fn log_kept(what: &'static str, why: Failure) {
    match why {
        Failure::Settings(bad) => {
            for why in bad {
                tracing::error!(why, "the {what} in force stays: the new one cannot be used");
            }
        }
        Failure::Other(error) => {
            tracing::error!(%error, "the {what} in force stays: the new one cannot be used")
        }
    }
}

/// Time within which a second signal counts as the first: a supervisor and a shell may both send it.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// Waits for a signal other than the one at `first`.
async fn again_after(signals: &mut Signals, first: Instant) {
    loop {
        again(signals).await;
        if first.elapsed() >= SAME_SIGNAL {
            return;
        }
    }
}

async fn again(signals: &mut Signals) {
    while signals.next().await != SignalAction::End {}
}

/// Raises the limit of descriptors as far as the system allows. If it is too low, gates keep their share.
fn fit_descriptors(doors: &mut [(Door, doors::Settings)]) {
    let wishes: Vec<DescriptorRequest> = doors
        .iter()
        .map(|(door, settings)| DescriptorRequest {
            connections: settings.admission.connections_max,
            first: matches!(door, Door::Gate | Door::Ops),
        })
        .collect();
    let wanted = descriptors::wanted(&wishes) as u64;
    let got = match rlimit::increase_nofile_limit(wanted) {
        Ok(got) => got,
        Err(error) => {
            tracing::warn!(%error, "the limit of file descriptors cannot be read or raised: the doors keep their numbers of connections");
            return;
        }
    };
    if got >= wanted {
        return;
    }
    tracing::warn!(
        got,
        wanted,
        "the limit of file descriptors is lower than the doors' connections: the doors admit fewer; raise it (ulimit -n) or lower *_connections_max"
    );
    let shares = descriptors::share(&wishes, got as usize);
    for ((door, settings), connections) in doors.iter_mut().zip(shares) {
        tracing::warn!(
            door = door.name(),
            connections,
            "the door admits fewer connections"
        );
        settings.admission.connections_max = connections;
    }
}
