//! The life of a node: doors open, the board fills, changes arrive and leave, the doors drain.

use crate::board::Board;
use crate::clock::{self, Moment, Time, offset};
use crate::critical::CriticalTask;
use crate::desk::display_names::DisplayNames;
use crate::desk::guidance::Guidance;
use crate::desk::{grant_scan_notices, revocation};
use crate::exchange::{ExchangeSettings, lists};
use crate::http::agent;
use crate::http::door::Door;
use crate::http::doors::waiting::WaitingDoor;
use crate::http::doors::{self, ShutdownPhase};
use crate::identity::Platform;
use crate::meters::Meters;
use crate::offline::issue::OfflineIssuer;
use crate::paper::Retention;
use crate::recognition::peer::Peer;
use crate::recognition::recogniser::Recogniser;
use crate::seal::Seal;
use crate::service::{self, AppState};
use crate::store::{self, Store};
use crate::tls::pinned::AdmittedKeys;
use crate::tls::{ReloadOutcome, ServerTls};
use crate::{config, http, publishing};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The components of a node.
pub struct Components {
    /// The board, which the store fills.
    pub board: Arc<Board>,
    /// Keys of codes, tokens and papers.
    pub seal: Seal,
    /// The store, open.
    pub store: Arc<dyn Store>,
    /// The identity platform, whose assertions are accepted.
    pub platform: Platform,
    /// Texts of guidance.
    pub guidance: Guidance,
    /// Display names of sources, organisations and sites.
    pub names: DisplayNames,
    /// Issuer of offline codes; None if the node issues none.
    pub offline: Option<Arc<OfflineIssuer>>,
    /// The recogniser; None if codes of other issuers are not recognised.
    pub recogniser: Option<Arc<Recogniser>>,
    /// The metrics of the node, shared with the store.
    pub meters: Arc<Meters>,
}

/// Settings of a node beside those of its components.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The doors, each with its settings.
    pub doors: Vec<(Door, doors::Settings)>,
    /// Address of the agent port; None to open none.
    pub agent: Option<SocketAddr>,
    /// The limits of one request.
    pub http: http::Settings,
    /// Settings of the service.
    pub service: service::Settings,
    /// Time between `/ready` answering no and the doors closing.
    pub drain_delay: Duration,
    /// Time for running queries until their connections are cut.
    pub drain_timeout: Duration,
    /// Retention of each kind of paper.
    pub keep: Retention,
    /// Interval of sweeps of papers past their retention.
    pub retention_sweep_interval: Duration,
    /// Settings of requests to other issuers.
    pub exchange: ExchangeSettings,
}

impl From<&config::Settings> for Settings {
    fn from(settings: &config::Settings) -> Settings {
        Settings {
            doors: settings.doors.clone(),
            agent: settings.agent,
            http: settings.http.clone(),
            service: settings.service.clone(),
            drain_delay: settings.drain_delay,
            drain_timeout: settings.drain_timeout,
            keep: settings.keep.clone(),
            retention_sweep_interval: settings.retention_sweep_interval,
            exchange: settings.exchange.clone(),
        }
    }
}

/// A node with open doors.
pub struct Node {
    /// State shared by all threads.
    pub app: Arc<AppState>,
    /// The doors and their bound addresses.
    pub doors: Vec<(Door, SocketAddr)>,
    certificates: Arc<DoorCertificates>,
    /// The bound address of the agent port, if it is open.
    pub agent: Option<SocketAddr>,
    settings: Settings,
    fill: JoinHandle<Result<(), store::Error>>,
    sweeper: JoinHandle<()>,
    refresher: JoinHandle<()>,
    clock: JoinHandle<()>,
    teller: JoinHandle<()>,
    recorder: JoinHandle<()>,
    publisher: JoinHandle<()>,
    fetcher: Option<JoinHandle<()>>,
    agent_task: Option<JoinHandle<()>>,
    /// Phase of the operations door, which closes after the others, so that the drain can be watched.
    front: watch::Sender<ShutdownPhase>,
    ops: watch::Sender<ShutdownPhase>,
    threads: Vec<(Door, std::thread::JoinHandle<()>)>,
}

/// Time for one reading of the revocations.
const REFRESH_WAIT: Duration = Duration::from_secs(5);

/// Longest time without a reading of the revocations, if nothing was written to the store meanwhile.
const REFRESH_IDLE: Duration = Duration::from_secs(60);

/// Time for notices of scanned grants at the end.
const DELIVER_WAIT: Duration = Duration::from_secs(1);

/// Interval of records of feeds in the audit log.
const RECORD_EVERY: Duration = Duration::from_secs(2);

/// Interval of log lines with the end of the audit log's chain.
const AUDIT_END_EVERY: Duration = Duration::from_secs(3_600);

/// Interval of looks at the system's clock and the store's, the time for one reading, and its validity.
const CLOCK_LOOK_EVERY: Duration = Duration::from_millis(250);
const STORE_CLOCK_EVERY: Duration = Duration::from_secs(1);
const STORE_CLOCK_WAIT: Duration = Duration::from_secs(1);
const STORE_CLOCK_LIFE: Duration = Duration::from_secs(10);

/// Time that a starting node, whose clocks differ, gives the others to announce theirs. They look once a second.
const ANNOUNCEMENT_WAIT: Duration = Duration::from_secs(3);

/// Interval of looks at the file of the identity platform's keys.
const PLATFORM_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Interval of looks at the files of certificates.
const CERTIFICATE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Time after which a postponed sweep is tried again.
const SWEEP_RETRY: Duration = Duration::from_secs(60);

/// Time without sweeps after our time leapt forward, so that a wrong clock, of this node or of Redis, costs no paper before it
/// is corrected.
const SWEEP_AFTER_LEAP: Duration = Duration::from_secs(86_400);

/// Interval of log lines about the progress of a start.
const FILL_REPORT: Duration = Duration::from_secs(5);

impl Node {
    /// Reads the revocations and the clocks, opens the doors and starts to fill the board. Queries are answered from the first resident on;
    /// the rest is `warming`, as is every credential if the revocations could not be read in time.
    ///
    /// # Errors
    ///
    /// A message: a door or the agent port cannot be opened, or a thread cannot be started.
    pub async fn open(parts: Components, settings: Settings) -> Result<Node, String> {
        Node::open_over(parts, settings, None).await
    }

    /// Opens a node like [`Node::open`], over an operations door that is open already.
    ///
    /// # Errors
    ///
    /// As for [`Node::open`].
    pub async fn open_over(
        parts: Components,
        settings: Settings,
        mut waiting: Option<WaitingDoor>,
    ) -> Result<Node, String> {
        let app = AppState::new(
            parts.board,
            parts.seal,
            parts.store,
            parts.platform,
            parts.guidance,
            parts.meters,
            settings.service.clone(),
        );
        let runtime = tokio::runtime::Handle::current();
        let app = app.naming(parts.names).issuing(parts.offline).recognising(
            parts.recogniser,
            &settings.exchange,
            runtime,
        );
        let app = Arc::new(app);
        first_reading(&app).await;
        let clocks = ClockLook::first(&app).await;
        watch_platform(&app)?;
        let (front, front_stage) = watch::channel(ShutdownPhase::Open);
        let (ops, ops_stage) = watch::channel(ShutdownPhase::Open);
        let mut bound = Vec::new();
        for (door, settings) in &settings.doors {
            let address = settings.address;
            let mut settings = settings.clone();
            if *door == Door::Exchange
                && let Some(files) = &mut settings.tls
            {
                files.admitted = Some(admitted(&app));
            }
            let waiting = waiting.take_if(|_| *door == Door::Ops);
            bound.push(match waiting {
                Some(waiting) => waiting.close(settings).await,
                None => doors::bind(*door, settings)
                    .map_err(|error| format!("the {} door at {address}: {error}", door.name()))?,
            });
        }
        let certificates = Arc::new(DoorCertificates {
            doors: bound
                .iter()
                .filter_map(|bound| Some((bound.door, bound.tls.clone()?)))
                .collect(),
            meters: app.meters.clone(),
        });
        let agent = match settings.agent {
            None => None,
            Some(address) => {
                let listener = TcpListener::bind(address)
                    .await
                    .map_err(|error| format!("the agent port at {address}: {error}"))?;
                let address = listener.local_addr().map_err(|error| error.to_string())?;
                Some((listener, address))
            }
        };
        let mut node = Node {
            agent: agent.as_ref().map(|(_, address)| *address),
            agent_task: None,
            doors: bound.iter().map(|b| (b.door, b.address)).collect(),
            certificates,
            fill: tokio::spawn(fill(app.clone())),
            sweeper: tokio::spawn(sweep(
                app.clone(),
                settings.keep.clone(),
                settings.retention_sweep_interval,
            )),
            refresher: tokio::spawn(refresh(app.clone())),
            clock: tokio::spawn(watch_clock(app.clone(), clocks)),
            teller: tokio::spawn(tell(app.clone())),
            recorder: tokio::spawn(record(app.clone())),
            publisher: tokio::spawn(publishing::run(app.clone())),
            fetcher: fetch_lists(&app, &settings.exchange),
            app,
            settings,
            front,
            ops,
            threads: Vec::new(),
        };
        for bound in bound {
            let door = bound.door;
            let stage = match door {
                Door::Ops => &ops_stage,
                Door::Resident | Door::Gate | Door::Desk | Door::Exchange => &front_stage,
            };
            let threads = bound
                .open(&node.app, &node.settings.http, stage)
                .map_err(|error| format!("the {} door: {error}", door.name()))?;
            node.threads
                .extend(threads.into_iter().map(|thread| (door, thread)));
        }
        watch_certificates(&node.certificates)?;
        // After the doors: the port names only doors that are open.
        node.agent_task = agent.map(|(listener, _)| {
            let balancers = node.settings.http.balancers;
            tokio::spawn(agent::serve(listener, node.app.clone(), balancers))
        });
        Ok(node)
    }

    /// Returns the bound address of a door; None if it is not open.
    pub fn address_of(&self, door: Door) -> Option<SocketAddr> {
        let found = self.doors.iter().find(|(known, _)| *known == door);
        found.map(|(_, address)| *address)
    }

    /// Returns whether a door uses TLS.
    pub fn has_tls(&self, door: Door) -> bool {
        let mut doors = self.certificates.doors.iter();
        doors.any(|(one, _)| *one == door)
    }

    /// Returns the certificates of the doors, for reloads.
    pub fn certificates(&self) -> Arc<DoorCertificates> {
        self.certificates.clone()
    }

    /// Waits until every resident on record is on the board.
    ///
    /// # Errors
    ///
    /// The board cannot be filled.
    pub async fn filled(&mut self) -> Result<(), store::Error> {
        (&mut self.fill)
            .await
            .map_err(|error| store::Error::Failed(error.into()))?
    }

    /// Drains: `/ready` answers no at once, the doors close after `drain_delay`, queries end or are cut, the store closes.
    pub async fn drain(self) {
        self.app.drain();
        tokio::time::sleep(self.settings.drain_delay).await;
        let timeout = self.settings.drain_timeout;
        self.end(timeout).await;
    }

    /// Closes the doors; connections that are open after `timeout` are cut.
    pub async fn end(mut self, timeout: Duration) {
        self.app.drain();
        let deadline = Instant::now() + timeout;
        for (stage, ops) in [(&self.front, false), (&self.ops, true)] {
            let _ = stage.send(ShutdownPhase::Leaving);
            let (these, others) = std::mem::take(&mut self.threads)
                .into_iter()
                .partition(|(door, _)| (*door == Door::Ops) == ops);
            self.threads = others;
            join(these, stage, deadline).await;
        }
        self.fill.abort();
        self.sweeper.abort();
        self.refresher.abort();
        self.clock.abort();
        self.teller.abort();
        self.recorder.abort();
        self.publisher.abort();
        self.agent_task.iter().for_each(JoinHandle::abort);
        self.fetcher.iter().for_each(JoinHandle::abort);
        let _ = tokio::time::timeout(DELIVER_WAIT, self.app.record_feeds()).await;
        self.app
            .tell_audit_end("the audit log of this node ends here");
        let rest = self.app.deliver_grant_scans(true);
        let _ = tokio::time::timeout(DELIVER_WAIT, rest).await;
        self.app.store.close().await;
    }
}

/// Returns the public keys that the exchange door admits: those of the trust list in force.
fn admitted(app: &Arc<AppState>) -> AdmittedKeys {
    let recogniser = app.recogniser.clone();
    AdmittedKeys(Arc::new(move |key| {
        let recogniser = recogniser.as_ref();
        recogniser.is_some_and(|recogniser| recogniser.list().peer_of_pin(key).is_some())
    }))
}

/// Starts to fetch status lists of other issuers; None if their codes are not recognised.
fn fetch_lists(app: &Arc<AppState>, settings: &ExchangeSettings) -> Option<JoinHandle<()>> {
    let recogniser = app.recogniser.clone()?;
    let exchange = app.exchange.clone();
    let pinned = Arc::new(move |peer: &Peer| exchange.as_ref()?.tls(peer));
    let every = settings.list_fetch_every;
    Some(tokio::spawn(lists::run(recogniser, every, pinned)))
}

async fn join(
    threads: Vec<(Door, std::thread::JoinHandle<()>)>,
    stage: &watch::Sender<ShutdownPhase>,
    deadline: Instant,
) {
    let mut ended = tokio::task::spawn_blocking(move || {
        for (door, thread) in threads {
            if thread.join().is_err() {
                tracing::error!(door = door.name(), "a door's thread had panicked");
            }
        }
    });
    if tokio::time::timeout_at(deadline.into(), &mut ended)
        .await
        .is_err()
    {
        tracing::warn!("queries did not end in time: their connections are cut");
        let _ = stage.send(ShutdownPhase::Ended);
        let _ = ended.await;
    }
}

/// Sweeps papers past their retention again and again. Nodes start at different times, so that they do not all sweep one store
/// at once.
async fn sweep(app: Arc<AppState>, keep: Retention, every: Duration) {
    let _critical = CriticalTask("the sweeper");
    let odds = Time::now().0 ^ u64::from(std::process::id()) << 7;
    tokio::time::sleep(every * (odds % 1_000) as u32 / 1_000).await;
    loop {
        // Papers past their retention by a wrong clock must stay.
        let put_off = match app.clock_offset_is_too_large() {
            true => Some("the clocks are apart"),
            false => offset::leapt_within(SWEEP_AFTER_LEAP)
                .then_some("the clock leapt forward less than a day ago"),
        };
        if let Some(why) = put_off {
            tracing::warn!(why, "papers past their retention are not removed now");
            tokio::time::sleep(every.min(SWEEP_RETRY)).await;
            continue;
        }
        match app.store.sweep(&keep, Time::now(), every).await {
            Ok(0) => {}
            Ok(papers) => {
                app.meters.store.swept.fetch_add(papers, Relaxed);
                tracing::info!(papers, "papers past their retention were removed");
            }
            Err(error) => tracing::warn!(%error, "papers past their retention cannot be removed"),
        }
        tokio::time::sleep(every).await;
    }
}

/// Reads the identity platform's keys again when their file changes, until the node ends. It has its own thread, because a
/// hanging mount would block it.
fn watch_platform(app: &Arc<AppState>) -> Result<(), String> {
    let app = Arc::downgrade(app);
    let watch = move || {
        while let Some(app) = app.upgrade() {
            app.reload_platform(false);
            app.reload_trust(false);
            drop(app);
            std::thread::sleep(PLATFORM_LOOK_EVERY);
        }
    };
    let thread = std::thread::Builder::new().name("platform-keys".into());
    let started = thread.spawn(watch).map(drop);
    started.map_err(|error| format!("the reader of the platform's keys: {error}"))
}

/// The certificates of the doors with TLS.
pub struct DoorCertificates {
    doors: Vec<(Door, Arc<ServerTls>)>,
    meters: Arc<Meters>,
}

impl DoorCertificates {
    /// Reads certificates again whose files changed, logs that, and sets the metrics of their expiry.
    pub fn look(&self) {
        for (door, tls) in &self.doors {
            let outcome = tls.reload(Time::now());
            let metrics = self.meters.doors().into_iter();
            for (_, metrics) in metrics.filter(|(name, _)| *name == door.name()) {
                if let ReloadOutcome::Refused(_) = outcome {
                    metrics.certificate_failures.fetch_add(1, Relaxed);
                }
                let expires_at = tls.expires_at().map_or(0, |at| at.0);
                metrics.certificate_expires_at.store(expires_at, Relaxed);
            }
            match outcome {
                ReloadOutcome::Unchanged => {}
                ReloadOutcome::Replaced => tracing::info!(
                    door = door.name(),
                    expires_at = tls.expires_at().map(|at| at.to_string()),
                    "the certificate was read again"
                ),
                ReloadOutcome::Refused(error) => tracing::error!(
                    %error,
                    door = door.name(),
                    "a changed certificate cannot be used: the one in force stays"
                ),
            }
        }
    }
}

/// Reads certificates again when their files change, until the node ends. It has its own thread, like [`watch_platform`].
fn watch_certificates(certificates: &Arc<DoorCertificates>) -> Result<(), String> {
    if certificates.doors.is_empty() {
        return Ok(());
    }
    // The metrics show the expiry from the first scrape on.
    certificates.look();
    let now = Time::now();
    for (door, tls) in &certificates.doors {
        match tls.expires_at() {
            Some(at) if at <= now => {
                tracing::error!(door = door.name(), expired_at = %at, "the certificate has expired");
            }
            Some(_) => {}
            None => tracing::warn!(
                door = door.name(),
                "the dates of the certificate cannot be read"
            ),
        }
    }
    let certificates = Arc::downgrade(certificates);
    let watch = move || {
        while let Some(certificates) = certificates.upgrade() {
            certificates.look();
            drop(certificates);
            std::thread::sleep(CERTIFICATE_LOOK_EVERY);
        }
    };
    let thread = std::thread::Builder::new().name("certificates".into());
    let started = thread.spawn(watch).map(drop);
    started.map_err(|error| format!("the reader of certificates: {error}"))
}

/// Clock offset that nodes announce to each other if the store's clock is wrong.
#[derive(Default)]
struct ClockWord {
    /// Whether this node's time was ever confirmed, by the system's clock and the store's or by other nodes.
    confirmed: bool,
    /// Since when the clocks differ at a start.
    apart_since: Option<Moment>,
    asked: Option<Moment>,
}

impl ClockWord {
    /// Returns the offset to use for the store's: the announced one if the store's clock differs from this node's clocks. A
    /// confirmed node announces its offset to starting ones. A starting node with differing clocks gives the others
    /// [`ANNOUNCEMENT_WAIT`] for that before it takes the store's: None until then. `had_witness`: there was one before.
    async fn witness(
        &mut self,
        app: &AppState,
        store: i64,
        bound: Duration,
        had_witness: bool,
    ) -> Option<i64> {
        let near = |one: i64, other: i64| u128::from(one.abs_diff(other)) <= bound.as_millis();
        let (own, system) = (clock::own(), clock::system_offset());
        if near(store, own) && near(store, system) {
            self.confirmed = true;
            return Some(store);
        }
        let told = tokio::time::timeout(STORE_CLOCK_WAIT, app.store.fleet_offset());
        let told = told.await.ok().and_then(Result::ok).flatten();
        let now = Moment::now();
        let is_due = |asked: Moment| now.since(asked) >= STORE_CLOCK_EVERY;
        self.confirmed |= told.is_some_and(|told| near(told, own));
        // Only with its own clock behind it: a node that followed a wrong clock, which was corrected since, would hear its own
        // announcement.
        let is_sure = self.confirmed && near(own, system);
        if is_sure && !near(store, own) && self.asked.is_none_or(is_due) {
            self.asked = Some(now);
            let tell = tokio::time::timeout(STORE_CLOCK_WAIT, app.store.tell_offset(own));
            if let Ok(Err(error)) = tell.await {
                tracing::debug!(%error, "the time of this node cannot be announced to other nodes");
            }
        }
        let since = *self.apart_since.get_or_insert(now);
        let is_decided = had_witness || told.is_some() || now.since(since) >= ANNOUNCEMENT_WAIT;
        is_decided.then(|| told.unwrap_or(store))
    }
}

/// Looks at the system's clock and the store's for steps and differences.
#[derive(Default)]
struct ClockLook {
    judge: offset::OffsetJudge,
    store: Option<(i64, Moment)>,
    asked: Option<Moment>,
    apart: bool,
    word: ClockWord,
}

impl ClockLook {
    async fn look(&mut self, app: &AppState) {
        let bound = app.clock_offset_max();
        let now = Moment::now();
        if (self.asked).is_none_or(|asked| now.since(asked) >= STORE_CLOCK_EVERY) {
            self.asked = Some(now);
            let read = tokio::time::timeout(STORE_CLOCK_WAIT, app.store.clock_offset());
            if let Ok(Ok(Some(offset))) = read.await {
                self.store = Some((offset, now));
            }
        }
        let known = self
            .store
            .filter(|(_, at)| Moment::now().since(*at) < STORE_CLOCK_LIFE);
        let known = known.map(|(offset, _)| offset);
        let witness = match known {
            Some(store) => {
                let had_witness = self.judge.had_witness();
                self.word.witness(app, store, bound, had_witness).await
            }
            None => None,
        };
        match offset::look(&mut self.judge, witness, bound) {
            offset::ClockCheck::Agreed | offset::ClockCheck::Apart(_) => {}
            offset::ClockCheck::Stepped(ms) => tracing::error!(
                ms,
                "the system's clock stepped: codes and sessions keep the time before the step"
            ),
            offset::ClockCheck::Moved(ms) => {
                tracing::warn!(
                    ms,
                    "the time of this node moved: at its start to the store's, later to that of the system's clock"
                );
            }
        }
        app.clock.note(known);
        if self.apart != app.clock_offset_is_too_large() {
            self.apart = !self.apart;
            let ms = app.clock.apart_ms();
            match self.apart {
                true => tracing::error!(
                    ms,
                    "the system's clock and the store's are apart: the node is not ready"
                ),
                false => tracing::info!(ms, "the system's clock and the store's agree"),
            }
        }
    }

    /// Looks until it is decided which time this node starts with. A store that does not answer, or has no clock, is not awaited.
    async fn first(app: &AppState) -> ClockLook {
        let mut look = ClockLook::default();
        let began = Moment::now();
        look.look(app).await;
        let is_undecided = |look: &ClockLook| look.store.is_some() && !look.judge.had_witness();
        while is_undecided(&look) && Moment::now().since(began) < 2 * ANNOUNCEMENT_WAIT {
            tokio::time::sleep(CLOCK_LOOK_EVERY).await;
            look.look(app).await;
        }
        look
    }
}

/// Looks at the clocks until the node ends.
async fn watch_clock(app: Arc<AppState>, mut look: ClockLook) {
    let _critical = CriticalTask("the watch of clocks");
    loop {
        tokio::time::sleep(CLOCK_LOOK_EVERY).await;
        look.look(&app).await;
    }
}

/// Reads the revocations before the doors open. A store that does not answer is awaited no longer than a feed would.
async fn first_reading(app: &AppState) {
    let wait = app.store_client.store_timeout();
    let read = async {
        app.refresh_revoked().await?;
        app.refresh_generations(0).await
    };
    let why = match tokio::time::timeout(wait, read).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {wait:?}"),
    };
    tracing::warn!(
        why,
        "the revocations cannot be read: every credential is refused until they are"
    );
}

/// Reads the revocations again and again. A slow or unreachable store is asked again; known revocations stay.
async fn refresh(app: Arc<AppState>) {
    let _critical = CriticalTask("the reader of revocations");
    let mut nth = 0;
    // Writes of the store before the last reading, and when that was.
    let mut read: Option<(u64, Moment)> = None;
    loop {
        tokio::time::sleep(revocation::REFRESH_EVERY).await;
        let (writes, now) = (app.store.writes(), Moment::now());
        let is_same = |(before, at)| Some(before) == writes && now.since(at) < REFRESH_IDLE;
        if read.is_some_and(is_same) {
            continue;
        }
        read = None;
        let known = app.seal.revoked.is_read();
        let revoked = match tokio::time::timeout(REFRESH_WAIT, app.refresh_revoked()).await {
            Ok(Ok(())) => {
                if !known {
                    tracing::info!("the revocations were read: credentials are accepted");
                }
                true
            }
            // Damage is logged where it is counted.
            Ok(Err(error)) => {
                tracing::debug!(%error, "the revocations could not be read");
                false
            }
            Err(_) => false,
        };
        match tokio::time::timeout(REFRESH_WAIT, app.refresh_generations(nth)).await {
            Ok(Ok(())) => {
                nth += 1;
                read = writes.filter(|_| revoked).map(|writes| (writes, now));
            }
            Ok(Err(error)) => tracing::debug!(%error, "the revoked generations could not be read"),
            Err(_) => {}
        }
    }
}

/// Delivers notices of scanned grants. Those that the store does not take stay for the next time.
async fn tell(app: Arc<AppState>) {
    let _critical = CriticalTask("the teller of scans");
    loop {
        if let Err(refusal) = app.deliver_grant_scans(false).await {
            let why = refusal.code();
            tracing::debug!(why, "notices of scanned grants cannot be stored yet");
        }
        tokio::time::sleep(grant_scan_notices::EVERY).await;
    }
}

/// Records feeds in the audit log again and again, and logs the end of its chain at intervals.
async fn record(app: Arc<AppState>) {
    let _critical = CriticalTask("the recorder of feeds");
    let mut told = Instant::now();
    loop {
        if let Err(refusal) = app.record_feeds().await {
            let why = refusal.code();
            tracing::debug!(why, "feeds cannot be recorded in the audit log yet");
        }
        if told.elapsed() >= AUDIT_END_EVERY {
            told = Instant::now();
            app.tell_audit_end("so far the audit log of this node has come");
        }
        tokio::time::sleep(RECORD_EVERY).await;
    }
}

/// Interval of checks whether a filled board has caught up with lookups during the filling.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(5);

async fn fill(app: Arc<AppState>) -> Result<(), store::Error> {
    let started = Instant::now();
    let total = app.meters.store.on_record.load(Relaxed);
    let filled = Arc::new(AtomicU64::new(0));
    let progress = {
        let filled = filled.clone();
        Arc::new(move |more| {
            filled.fetch_add(more, Relaxed);
        })
    };
    let mut filling = std::pin::pin!(app.store.fill(progress));
    loop {
        match tokio::time::timeout(FILL_REPORT, &mut filling).await {
            Ok(outcome) => {
                outcome
                    .inspect_err(|error| tracing::error!(%error, "the board cannot be filled"))?;
                break;
            }
            Err(_) => {
                let filled = filled.load(Relaxed);
                tracing::info!(filled, total, "the board is being filled");
            }
        }
    }
    while !app.board.fill_done() {
        tokio::time::sleep(CATCH_UP_PAUSE).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    tracing::info!(
        residents = app.board.residents(),
        seconds,
        "the board is filled"
    );
    Ok(())
}
