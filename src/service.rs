//! The service: turns a query into an answer. Shows, scans, sessions, explanations. A show or a scan in the steady state waits
//! for nothing: the credential and the board have all it needs.

pub mod answer;
pub mod foreign;
pub mod in_force;

use crate::admission::budget::Budget;
use crate::admission::bytes::ByteBudget;
use crate::admission::concurrency::{ConcurrencyCounter, ConcurrencyGuard};
use crate::admission::rate_limit::RateLimiter;
use crate::board::{Board, Found};
use crate::clock::offset::ClockWatch;
use crate::clock::{Now, Time};
use crate::desk::audit::{Audit, FeedCounts, Feeder};
use crate::desk::display_names::DisplayNames;
use crate::desk::grant::{Organisation, RevokedGrantCache, RevokedGrants};
use crate::desk::grant_scan_notices::{GrantScan, GrantScanQueue, SeenGrants};
use crate::desk::guidance::Guidance;
use crate::desk::offline_code::read_generations;
use crate::desk::revocation;
use crate::desk::roles::{Act, Role};
use crate::desk::{self, Desk, DeskResponse};
use crate::door_load::DoorLoads;
use crate::exchange::ExchangeSettings;
use crate::exchange::asking::Exchange;
use crate::identity::{AssertionNumber, AssertionPurpose, Platform, Reloaded};
use crate::language::Language;
use crate::lists::{ListSettings, Lists, Published, ServedFile, ServedPair};
use crate::meters::{Meters, OfflineFacts, QueryOutcome, RequestKind, ThreadMetrics};
use crate::offline::code::OFFLINE_CODE_CHARS;
use crate::offline::issue::{
    CodeOutcome, OfflineHolder, OfflineIssuer, OfflineSettings, OpenedOffline,
};
use crate::person::{Identity, MaskedIdentity, MaskedName, Profile, ResidentId};
use crate::recognition::recogniser::{Recogniser, TrustReloaded};
use crate::refusal::Refusal;
use crate::seal::ring::{KeyFile, TokenKind};
use crate::seal::{
    AccessToken, AccessTokenId, Caller, Code, CodeClass, GRANT_CHARS, Nonces, Seal, Session,
};
use crate::service::answer::{
    OfflineIssued, OfflineVerdict, OpenedSession, ReasonDetail, ReasonSource, ShownCode,
    StatusExplanation, Verdict,
};
use crate::sightings::Sightings;
use crate::status::Word;
use crate::status::{Freshness, ResidentStatus};
use crate::store::reseal::{ResealReport, until_settled};
use crate::store::{self, Store, StoreStream, record};
use crate::store_client::{self, StoreClient};
use crate::tls::CertificateDigest;
use crate::traces;
use arc_swap::ArcSwap;
use foreign::{FOREIGN_PER_SECOND, ForeignVerdict};
use in_force::SettingsInForce;
use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Settings of the service.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest difference between the system's clock and the store's with which the node is ready.
    pub clock_offset_max: Duration,
    /// Validity of a resident's session.
    pub session_life: Duration,
    /// Settings of the store client.
    pub store_client: store_client::Settings,
    /// Log-ins and explanations of one resident in a second.
    pub desk_requests_per_second: u32,
    /// Limits of the desk.
    pub desk: desk::Settings,
    /// Rates of each credential.
    pub rate_limits: RateLimits,
    /// Whether gates get the reasons of a red.
    pub gate_reasons: bool,
    /// Settings of offline codes; None if the node issues none.
    pub offline: Option<OfflineSettings>,
    /// Settings of status lists.
    pub lists: ListSettings,
    /// Pages that each thread of a door serves in a second; 0 for none.
    pub pages_per_second: u32,
    /// All settings in force, for operators.
    pub in_force: SettingsInForce,
}

/// Rates of each credential; 0 for no limit. Shows and scans of ten seconds may be saved up.
#[derive(Clone, Debug)]
pub struct RateLimits {
    /// Shows of one resident in a second, over all sessions.
    pub shows_per_second: u32,
    /// Scans with one token in a second.
    pub scans_per_second: u32,
    /// Lines of bulk scans with one token in a second.
    pub bulk_codes_per_second: u32,
    /// Concurrent bulk scans with one token.
    pub bulk_scans_per_token: u32,
    /// Lines that may be saved up: a whole bulk scan, so that a first one is never delayed.
    pub bulk_codes_saved: u64,
}

const SAVED_SECONDS: u64 = 10;

/// Debt of a token's bulk scans above which no further one may begin. A delayed scan owes for 64 lines at a time, so a few can
/// share the rate.
const BULK_OWED_MAX: Duration = Duration::from_millis(50);

/// Slots of the rate limiter of residents for each core: 1 MiB. A core answers 100,000 shows a second; spread over well-behaved
/// residents, they fill less than half of the slots.
const RESIDENT_PLACES: usize = 1 << 17;

/// Slots of the rate limiter of scanners for the node: 512 KiB for some thousands.
const SCANNER_PLACES: usize = 1 << 16;

/// Residents whose desk requests are counted at once; older ones start again.
const DESK_COUNTED_MAX: u64 = 200_000;

/// Offline codes of one resident and generation in a day, from one node.
const OFFLINE_CODES_A_DAY: u8 = 4;

/// Residents whose offline codes are counted at once; older ones start again.
const OFFLINE_COUNTED_MAX: u64 = 200_000;

/// Answers with public keys that each thread of a door gives in a second.
const LISTS_PER_SECOND: u32 = 200;

/// Each reading of this number reads all revoked generations; the others read new ones.
const GENERATIONS_WHOLE_EVERY: u64 = 600;

/// State that all threads share.
pub struct AppState {
    /// The board.
    pub board: Arc<Board>,
    /// Keys of codes, tokens and papers.
    pub seal: Seal,
    /// The open store.
    pub store: Arc<dyn Store>,
    /// Access to the store, under a limit and a deadline.
    pub store_client: StoreClient,
    /// The identity platform, whose assertions are accepted.
    pub platform: Platform,
    /// The metrics of the node.
    pub meters: Arc<Meters>,
    /// The watch of the system's clock.
    pub clock: ClockWatch,
    audit: Audit,
    revoked_grants: RevokedGrantCache,
    scans: GrantScanQueue,
    /// Codes read by scanners of two sites.
    pub sightings: Sightings,
    guidance: ArcSwap<Guidance>,
    names: ArcSwap<DisplayNames>,
    /// All settings in force, for operators. A reload changes them.
    pub in_force: ArcSwap<SettingsInForce>,
    /// The load of each open door.
    pub door_loads: DoorLoads,
    /// Whether the last reload succeeded for all files.
    pub is_reloaded: AtomicBool,
    desk_requests_per_second: AtomicU32,
    /// Issuer of offline codes; None if the node issues none.
    pub offline: Option<Arc<OfflineIssuer>>,
    /// The status list; None if the node issues no offline codes.
    pub lists: Option<Arc<Lists>>,
    /// The recogniser; None if codes of other issuers are not recognised.
    pub recogniser: Option<Arc<Recogniser>>,
    /// Access to other issuers' services; None if none is asked.
    pub exchange: Option<Arc<Exchange>>,
    exchange_limiter: RateLimiter,
    offline_codes: moka::sync::Cache<(Identity, u8), Arc<AtomicU8>>,
    settings: Settings,
    desk_budgets: moka::sync::Cache<Identity, Arc<std::sync::Mutex<Budget>>>,
    show_limiter: RateLimiter,
    scan_limiter: RateLimiter,
    bulk_limiter: RateLimiter,
    bulks: Arc<ConcurrencyCounter>,
    backups: Arc<ConcurrencyCounter>,
    /// Number of readings of the revocations.
    revoked_readings: AtomicU32,
    draining: AtomicBool,
}

/// A parsed query. Its credential is not checked yet.
pub enum Query<'q> {
    /// Shows a code.
    Show {
        /// The sealed session.
        session: &'q [u8],
        /// The language of the guidance.
        language: Language,
    },
    /// Scans a code.
    Scan {
        /// The admitted scanner.
        scanner: AdmittedScanner<'q>,
        /// The code as read.
        code: &'q [u8],
        /// The language of the verdict.
        language: Language,
    },
    /// Issues an offline code.
    OfflineCode {
        /// The sealed session.
        session: &'q [u8],
        /// Requested validity in hours, as sent.
        hours: Option<&'q str>,
    },
    /// Opens a session.
    OpenSession {
        /// The identity platform's assertion of a log-in.
        assertion: &'q str,
    },
    /// Explains a status.
    Explain {
        /// The sealed session.
        session: &'q [u8],
        /// The language of the guidance.
        language: Language,
    },
    /// An act of the desk with the caller that [`Service::admit_desk`] admitted. Boxed, so that shows and scans stay small.
    Desk(Box<desk::DeskRequest<'q>>, Box<Caller>),
}

/// Answer to a query, with the language to print it in.
pub enum Answer {
    /// Answer to a show.
    Shown(ShownCode, Language),
    /// Answer to a scan.
    Verdict(Verdict, Language),
    /// A new session.
    Opened(OpenedSession),
    /// A status in detail.
    Explained(StatusExplanation, Language),
    /// A new offline code.
    OfflineCode(Box<OfflineIssued>),
    /// Answer to a scan of an offline code.
    OfflineVerdict(Box<OfflineVerdict>, Language),
    /// Answer to a scan of a code of another issuer.
    Foreign(Box<ForeignVerdict>),
    /// Answer of the desk. Boxed, because it is rare.
    Desk(Box<desk::DeskResponse>, Language),
}

impl From<&Result<Answer, Refusal>> for QueryOutcome {
    fn from(result: &Result<Answer, Refusal>) -> QueryOutcome {
        match result {
            Ok(Answer::Shown(shown, _)) => QueryOutcome::Told(shown.status),
            Ok(Answer::Verdict(verdict, _)) => QueryOutcome::Told(verdict.status),
            Ok(Answer::Explained(explained, _)) => QueryOutcome::Told(explained.status),
            Ok(Answer::OfflineVerdict(told, _)) => QueryOutcome::Told(told.verdict.status),
            Ok(
                Answer::Opened(_) | Answer::OfflineCode(_) | Answer::Foreign(_) | Answer::Desk(..),
            ) => QueryOutcome::Done,
            Err(refusal) => QueryOutcome::Refused(*refusal),
        }
    }
}

/// An admitted scanner: its token and the token's number.
#[derive(Clone, Copy)]
pub struct AdmittedScanner<'q> {
    token: &'q [u8],
    pass: AccessTokenId,
}

/// An admitted bulk scan. It counts as in progress until this is dropped.
pub struct AdmittedBulk {
    /// The number of the token.
    pub pass: AccessTokenId,
    _under_way: ConcurrencyGuard,
}

/// A query with the kind it is counted as, which is known even if parsing failed.
pub struct TimedQuery<'q> {
    /// The kind under which the query is counted.
    pub kind: RequestKind,
    /// The query, or why it could not be parsed.
    pub query: Result<Query<'q>, Refusal>,
    /// When the head of the request was read.
    pub started: Instant,
    /// The time of the query by both clocks.
    pub now: Now,
}

impl AppState {
    /// Returns the shared state of a node.
    pub fn new(
        board: Arc<Board>,
        seal: Seal,
        store: Arc<dyn Store>,
        platform: Platform,
        guidance: Guidance,
        meters: Arc<Meters>,
        settings: Settings,
    ) -> AppState {
        // Until the revocations are read, no credential is accepted.
        seal.revoked.await_reading();
        let (rate_limits, epoch) = (settings.rate_limits.clone(), Instant::now());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let accepted = seal.code_life() + 2 * seal.clock_skew();
        let turns = |per_second: u32, places| {
            let saved = u64::from(per_second) * SAVED_SECONDS;
            RateLimiter::new(per_second, saved, places, epoch)
        };
        AppState {
            show_limiter: turns(rate_limits.shows_per_second, RESIDENT_PLACES * cores.max(2)),
            scan_limiter: turns(rate_limits.scans_per_second, SCANNER_PLACES),
            bulk_limiter: RateLimiter::new(
                rate_limits.bulk_codes_per_second,
                rate_limits.bulk_codes_saved,
                SCANNER_PLACES,
                epoch,
            ),
            bulks: ConcurrencyCounter::new(rate_limits.bulk_scans_per_token),
            backups: ConcurrencyCounter::new(1),
            store_client: StoreClient::new(
                board.clone(),
                store.clone(),
                meters.store.clone(),
                settings.store_client.clone(),
            ),
            board,
            seal,
            store,
            platform,
            meters,
            clock: ClockWatch::default(),
            audit: Audit::default(),
            revoked_grants: RevokedGrantCache::default(),
            scans: GrantScanQueue::default(),
            sightings: Sightings::new(accepted),
            guidance: ArcSwap::from_pointee(guidance),
            names: ArcSwap::default(),
            in_force: ArcSwap::from_pointee(settings.in_force.clone()),
            door_loads: DoorLoads::default(),
            is_reloaded: AtomicBool::new(true),
            desk_requests_per_second: settings.desk_requests_per_second.into(),
            offline: None,
            lists: None,
            recogniser: None,
            exchange: None,
            exchange_limiter: RateLimiter::new(0, 0, 0, epoch),
            offline_codes: moka::sync::Cache::builder()
                .max_capacity(OFFLINE_COUNTED_MAX)
                .time_to_live(Duration::from_secs(86_400))
                .build(),
            settings,
            desk_budgets: moka::sync::Cache::builder()
                .max_capacity(DESK_COUNTED_MAX)
                .time_to_idle(Duration::from_secs(10))
                .build(),
            revoked_readings: AtomicU32::new(0),
            draining: AtomicBool::new(false),
        }
    }

    /// Sets the issuer of offline codes.
    pub fn issuing(self, offline: Option<Arc<OfflineIssuer>>) -> AppState {
        let lists = offline.as_ref().map(|offline| {
            let lists = Lists::new(self.settings.lists.clone(), offline.settings.issuer);
            Arc::new(lists)
        });
        AppState {
            lists,
            offline,
            ..self
        }
    }

    /// Sets the display names of sources, organisations and sites.
    pub fn naming(self, names: DisplayNames) -> AppState {
        AppState {
            names: ArcSwap::from_pointee(names),
            ..self
        }
    }

    /// Sets the recogniser of other issuers' codes.
    pub fn recognising(
        self,
        recogniser: Option<Arc<Recogniser>>,
        settings: &ExchangeSettings,
        runtime: tokio::runtime::Handle,
    ) -> AppState {
        let exchange = recogniser.clone().zip(settings.cert.as_ref());
        let exchange =
            exchange.map(|(recogniser, _)| Exchange::new(settings.clone(), recogniser, runtime));
        let per_second = settings.per_second;
        let places = foreign::PEER_PLACES;
        AppState {
            exchange_limiter: RateLimiter::new(
                per_second,
                u64::from(per_second),
                places,
                Instant::now(),
            ),
            exchange: exchange.map(Arc::new),
            recogniser,
            ..self
        }
    }

    /// Reads the trust list again if its files changed, or if `force` is set. Returns false if they are faulty; then the list
    /// in force stays.
    pub fn reload_trust(&self, force: bool) -> bool {
        let Some(recogniser) = &self.recogniser else {
            return true;
        };
        match recogniser.reload(force) {
            TrustReloaded::Same => true,
            TrustReloaded::Read => {
                if let Some(exchange) = &self.exchange {
                    exchange.forget();
                }
                tracing::info!("the trust list was read again");
                true
            }
            TrustReloaded::Bad(faults) => {
                for fault in faults {
                    tracing::error!(%fault, "the trust list has a fault: the one in force stays");
                }
                false
            }
        }
    }

    /// Returns whether the system's clock and the store's differ by more than `clock_offset_max`.
    pub fn clock_offset_is_too_large(&self) -> bool {
        self.clock.is_apart(self.settings.clock_offset_max)
    }

    /// Returns the largest allowed difference of the two clocks.
    pub fn clock_offset_max(&self) -> Duration {
        self.settings.clock_offset_max
    }

    /// Starts the drain: `/ready` answers no, and nothing long begins.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Returns whether the node is draining.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Reads the identity platform's keys again if their file changed, or if `force` is set. Returns false if the file is
    /// faulty; then the keys in force stay.
    pub fn reload_platform(&self, force: bool) -> bool {
        match self.platform.reload(force) {
            Reloaded::Same => {}
            Reloaded::Read(keys) => {
                tracing::info!(keys, "the identity platform's keys were read again")
            }
            Reloaded::Bad(why) => {
                tracing::error!(%why, "the file of the identity platform's keys has a fault: the keys in force stay");
                return false;
            }
        }
        true
    }

    /// Reads the revocations of credentials again.
    ///
    /// # Errors
    ///
    /// The store fails, or a revocation cannot be opened.
    pub async fn refresh_revoked(&self) -> Result<(), crate::store::Error> {
        let nth = self.revoked_readings.fetch_add(1, Relaxed);
        let whole = !self.seal.revoked.is_read() || nth.is_multiple_of(revocation::WHOLE_EVERY);
        let read = revocation::refresh(&*self.store, &self.seal, whole).await;
        self.tell_damage(read)
    }

    fn tell_damage<T>(
        &self,
        read: Result<T, crate::store::Error>,
    ) -> Result<T, crate::store::Error> {
        if let Err(crate::store::Error::Damaged(what)) = &read {
            self.store_client.tell_damaged(what);
        }
        read
    }

    /// Reads the revoked generations of offline codes: new ones, and all of them now and then. `nth` counts the calls.
    ///
    /// # Errors
    ///
    /// The store fails, or a paper cannot be opened.
    pub async fn refresh_generations(&self, nth: u64) -> Result<(), crate::store::Error> {
        let Some(offline) = &self.offline else {
            return Ok(());
        };
        let began = Time::now();
        let from = offline.generations.read_to();
        let from = from.filter(|_| !nth.is_multiple_of(GENERATIONS_WHOLE_EVERY));
        let revoked = read_generations(&*self.store, &self.seal, from).await;
        let revoked = self.tell_damage(revoked)?;
        offline.generations.add(&revoked);
        offline.generations.was_read(began);
        Ok(())
    }

    /// Returns the metrics of offline codes and the status list; None if the node issues none.
    pub fn offline_facts(&self, now: Now) -> Option<OfflineFacts> {
        let (offline, lists) = self.offline.as_ref().zip(self.lists.as_ref())?;
        let served = lists.served();
        let head = served.as_ref().map(|served| &served.head);
        let [red, yellow, void] = head.map_or([0; 3], |head| head.listed);
        let newest = served.as_ref().and_then(|served| served.pairs.first());
        let bytes = |file: fn(&ServedPair) -> &ServedFile| {
            newest.map_or(0, |pair| file(pair).bytes.len() as u64)
        };
        let metrics = &lists.metrics;
        Some(OfflineFacts {
            list_age: match &served {
                Some(served) => now.time.since(served.as_of()),
                None => now.moment.since(lists.since),
            },
            residents: head.map_or(0, |head| head.residents),
            listed: [("red", red), ("yellow", yellow), ("void", void)],
            clashes: head.map_or(0, |head| head.clashes),
            bytes: [
                ("base", bytes(|pair| &pair.base)),
                ("changes", bytes(|pair| &pair.changes)),
            ],
            published: Published::ALL.map(|outcome| (outcome.label(), metrics.counted(outcome))),
            wrong: metrics.wrong.load(Relaxed),
            build: Duration::from_millis(metrics.build_ms.load(Relaxed)),
            codes: CodeOutcome::ALL.map(|outcome| (outcome.label(), offline.counted(outcome))),
        })
    }

    /// Sets the texts of guidance.
    pub fn set_guidance(&self, guidance: Guidance) {
        self.guidance.store(Arc::new(guidance));
    }

    /// Sets the display names.
    pub fn set_names(&self, names: DisplayNames) {
        self.names.store(Arc::new(names));
    }

    /// Sets the rate of the setting `name`. Returns false if that needs a restart.
    pub fn set_rate(&self, name: &str, newer: &Settings) -> bool {
        let RateLimits {
            shows_per_second,
            scans_per_second,
            bulk_codes_per_second,
            bulk_scans_per_token,
            ..
        } = newer.rate_limits;
        let saved = |per_second: u32| u64::from(per_second) * SAVED_SECONDS;
        match name {
            "shows_per_second" => {
                (self.show_limiter).set_rate(shows_per_second, saved(shows_per_second))
            }
            "scans_per_second" => {
                (self.scan_limiter).set_rate(scans_per_second, saved(scans_per_second))
            }
            "bulk_codes_per_second" => {
                // A larger bulk scan needs a restart, as does what may be saved up for one.
                let saved = self.settings.rate_limits.bulk_codes_saved;
                self.bulk_limiter.set_rate(bulk_codes_per_second, saved)
            }
            "bulk_scans_per_token" => {
                self.bulks.allow(bulk_scans_per_token);
                true
            }
            "desk_requests_per_second" => {
                let per_second = newer.desk_requests_per_second;
                self.desk_requests_per_second.store(per_second, Relaxed);
                self.desk_budgets.invalidate_all();
                true
            }
            _ => false,
        }
    }

    /// Takes up a rotated key ring. Returns false if it lacks signing keys that are needed.
    pub fn reload_ring(&self, ring: &KeyFile) -> bool {
        self.seal.reload(ring);
        let signs = self
            .offline
            .as_ref()
            .is_none_or(|offline| offline.reload(ring));
        if !signs {
            tracing::error!("the key ring has no signing keys: those in force stay");
        }
        signs
    }

    /// Notifies residents of scanned grants, as soon as there are any. With `end` it delivers the remaining ones and returns.
    ///
    /// # Errors
    ///
    /// The refusals of [`StoreClient`]. Undelivered notices stay for the next call.
    pub async fn deliver_grant_scans(&self, end: bool) -> Result<u64, Refusal> {
        match end {
            false => self.scans.tell(&self.seal, &self.store_client).await,
            true => {
                self.scans
                    .deliver_rest(&self.seal, &self.store_client)
                    .await
            }
        }
    }

    /// Counts what a token fed, until [`AppState::record_feeds`] records it.
    pub fn count_feed(&self, feeder: Feeder, feed: FeedCounts) {
        self.meters.store.fed_reds(&feeder.holder, feed.reds);
        self.audit.count_feed(feeder, feed);
    }

    /// Records the feeds since the last call in the audit log.
    ///
    /// # Errors
    ///
    /// The refusals of [`Audit::file_feeds`].
    pub async fn record_feeds(&self) -> Result<(), Refusal> {
        let now = Time::now();
        self.audit
            .file_feeds(&self.seal, &self.store_client, now)
            .await
    }

    /// Writes the end of the audit log's chain to the node's log.
    pub fn tell_audit_end(&self, what: &'static str) {
        self.audit.tell_end(what);
    }

    /// Returns the number of links of the audit log that this node wrote.
    pub fn audit_links(&self) -> u64 {
        self.audit.links.load(Relaxed)
    }

    /// Opens a credential, and checks whether its role permits the act.
    fn caller(
        &self,
        act: Act,
        credential: &[u8],
        certificate: Option<CertificateDigest>,
        now: Time,
    ) -> Result<Caller, Refusal> {
        let caller = self.seal.open_caller(credential, now)?;
        if let Caller::Token(_, token, _) = &caller
            && !token.is_of(certificate)
        {
            return Err(Refusal::Unauthorized);
        }
        match act.is_for(Role::of(&caller)) {
            true => Ok(caller),
            false => Err(Refusal::NotPermitted),
        }
    }

    /// Takes a turn of a resident's rate at the desk.
    fn limit_desk_rate(&self, who: Identity) -> Result<(), Refusal> {
        let now = Instant::now();
        let per_second = self.desk_requests_per_second.load(Relaxed);
        let budget = self.desk_budgets.get_with(who, || {
            Arc::new(std::sync::Mutex::new(full_budget(per_second, now)))
        });
        let mut budget = budget
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        budget.take(now).then_some(()).ok_or(Refusal::RateLimited)
    }
}

/// Lines of a walk that wait for its reader; those that find no room are left out.
const RESEAL_LINES_MAX: usize = 4;

/// How often a walk tells how far it is.
const RESEAL_REPORT: Duration = Duration::from_secs(1);

/// Seals data at rest anew, and tells of it line by line: how far it is, and at the end how it ended. Without the last line it did not
/// end.
async fn reseal(app: Arc<AppState>, lines: tokio::sync::mpsc::Sender<Vec<u8>>) {
    let told_at = std::sync::Mutex::new(Instant::now());
    let tell = |report: &ResealReport| {
        let mut told_at = told_at
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if told_at.elapsed() >= RESEAL_REPORT {
            *told_at = Instant::now();
            let _ = lines.try_send(line_of(report));
        }
        !lines.is_closed() && !app.is_draining()
    };
    match until_settled(&*app.store, &|| app.seal.rest_seal(), &tell).await {
        Ok(outcome) => {
            tracing::info!(
                key = outcome.key,
                sealed_anew = outcome.report.sealed_anew,
                unopened = outcome.report.unopened.values().sum::<u64>(),
                "data at rest was sealed anew"
            );
            let _ = lines.send(line_of(&outcome)).await;
        }
        Err(store::Error::Closed) => {
            tracing::info!("sealing anew ended with its reader, or the node")
        }
        Err(error) => tracing::warn!(%error, "data at rest could not be sealed anew"),
    }
}

fn line_of(told: &impl serde::Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(told).expect("numbers and words");
    line.push(b'\n');
    line
}

/// A backup in progress. There is only one at a time.
pub struct BegunBackup {
    /// The frames of the backup.
    pub frames: StoreStream,
    _under_way: ConcurrencyGuard,
}

/// The service of one thread.
pub struct Service {
    /// State shared by all threads.
    pub app: Arc<AppState>,
    /// The counts of this thread.
    pub metrics: Arc<ThreadMetrics>,
    nonces: Nonces,
    page_budget: RefCell<Budget>,
    /// Budget of assets requested by version. Separate, so that a client with a page gets its assets whatever others request.
    part_budget: RefCell<Budget>,
    grants_seen: RefCell<SeenGrants>,
    offline_budget: RefCell<Budget>,
    foreign_budget: RefCell<Budget>,
    list_budget: RefCell<Budget>,
    list_bytes: RefCell<ByteBudget>,
}

impl Service {
    /// Returns the service of one thread.
    pub fn new(app: Arc<AppState>) -> Service {
        let page_budget = full_budget(app.settings.pages_per_second, Instant::now());
        Service {
            page_budget: RefCell::new(page_budget),
            part_budget: RefCell::new(page_budget),
            grants_seen: RefCell::default(),
            foreign_budget: RefCell::new(full_budget(FOREIGN_PER_SECOND, Instant::now())),
            list_budget: RefCell::new(full_budget(LISTS_PER_SECOND, Instant::now())),
            list_bytes: RefCell::new(ByteBudget::new(
                app.settings.lists.bytes_per_second,
                Instant::now(),
            )),
            offline_budget: RefCell::new(full_budget(
                (app.settings.offline.as_ref()).map_or(0, |offline| offline.codes_per_second),
                Instant::now(),
            )),
            metrics: app.meters.metrics(),
            app,
            nonces: Nonces::new(),
        }
    }

    /// Answers a query, and counts it with its duration.
    ///
    /// # Errors
    ///
    /// The refusal of the query.
    pub async fn answer(&self, request: TimedQuery<'_>) -> Result<Answer, Refusal> {
        let visit = self.metrics.enter(request.kind, request.started); // dropped unfinished, it counts as gone
        let result = self.walk(request.query, request.now, request.started).await;
        visit.leave(QueryOutcome::from(&result));
        result
    }

    /// Answers a query. The refusals of each step are named beside it.
    async fn walk(
        &self,
        query: Result<Query<'_>, Refusal>,
        now: Now,
        started: Instant,
    ) -> Result<Answer, Refusal> {
        let AppState { show_limiter, .. } = &*self.app;
        match query? {
            Query::Show { session, language } => {
                let session = self.app.seal.open_session(session, now.time)?; // Unauthorized, SessionExpired, NotPermitted
                turn(show_limiter, session.identity.home.0, started)?; // RateLimited
                let shown = self.show(&session, now).await?; // UpstreamBusy if the store must be asked
                Ok(Answer::Shown(shown, language))
            }
            Query::Scan {
                scanner,
                code,
                language,
            } => {
                self.still_admits(scanner.pass, scanner.token, now.time)?; // Unauthorized: the token was revoked while the body came
                match self.scan(scanner.token, code, now).await {
                    Ok(verdict) => Ok(Answer::Verdict(verdict, language)),
                    Err(Refusal::CodeInvalid) if self.is_foreign(code) => {
                        let scanned = Box::pin(self.scan_foreign(scanner.pass, code, now)).await;
                        Ok(Answer::Foreign(Box::new(scanned?))) // IssuerUnknown, SignatureInvalid, IssuerNotEntitled, RateLimited, Busy
                    }
                    // CodeRevoked, and as below
                    Err(Refusal::CodeInvalid) if code.len() == OFFLINE_CODE_CHARS => {
                        let told = Box::pin(self.scan_offline(code, now)).await?;
                        Ok(Answer::OfflineVerdict(Box::new(told), language))
                    }
                    Err(refusal) => Err(refusal), // CodeInvalid, CodeExpired; UpstreamBusy while the board fills
                }
            }
            Query::OfflineCode { session, hours } => {
                let session = self.app.seal.open_session(session, now.time)?; // Unauthorized, SessionExpired, NotPermitted
                let issued = Box::pin(self.issue_offline(&session, hours, now)).await?; // NotFound, Malformed, RateLimited, Busy, Warming
                Ok(Answer::OfflineCode(Box::new(issued)))
            }
            Query::OpenSession { assertion } => {
                let AppState { platform, .. } = &*self.app;
                let (profile, number) =
                    noted(platform.person(assertion, AssertionPurpose::LogIn, now.time))?; // Unauthorized, SessionExpired, Malformed, OfflineRegistration
                let opened = noted(self.open_session(profile, number, now.time).await)?; // RateLimited, UpstreamBusy; Unauthorized if it was used
                Ok(Answer::Opened(opened))
            }
            Query::Explain { session, language } => {
                let session = noted(self.app.seal.open_session(session, now.time))?; // Unauthorized, SessionExpired, NotPermitted
                traces::note_here(traces::ROLE, Role::of_session(&session).word());
                let explained = noted(self.explain(&session, language, now).await)?; // RateLimited, UpstreamBusy
                Ok(Answer::Explained(explained, language))
            }
            Query::Desk(request, caller) => {
                // Boxed, so that shows and scans stay small.
                let said = Box::pin(self.desk(now.time).answer(&request, &caller)).await;
                let mut said = noted(said)?; // what the desk refuses
                if let DeskResponse::Found(said) | DeskResponse::Done(said) = &mut said {
                    self.app.names.load().add(said, request.language);
                }
                Ok(Answer::Desk(Box::new(said), request.language))
            }
        }
    }

    /// Checks a scanner's token before the body of its scan is read.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, `SessionExpired`, `NotPermitted`, `Warming`, or `RateLimited`.
    pub fn admit_scan<'q>(
        &self,
        token: &'q [u8],
        now: Time,
        started: Instant,
    ) -> Result<AdmittedScanner<'q>, Refusal> {
        let pass = self.app.seal.admits(TokenKind::Scanner, token, now)?;
        turn(&self.app.scan_limiter, pass.0, started)?;
        Ok(AdmittedScanner { token, pass })
    }

    /// Checks that an admitted token is still in force, by one lookup in memory.
    ///
    /// # Errors
    ///
    /// `Unauthorized` if it was revoked, `SessionExpired`, or `Warming`.
    pub fn still_admits(
        &self,
        pass: AccessTokenId,
        token: &[u8],
        now: Time,
    ) -> Result<(), Refusal> {
        let Seal { revoked, .. } = &self.app.seal;
        match revoked.has_holders(TokenKind::Scanner) {
            true => self.still_scanner(token, now).map(drop),
            false => revoked.admits(pass.0, Time(0)),
        }
    }

    /// Checks credential, role and rate before the body is read.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, `SessionExpired`, `NotPermitted`, `Warming`, or `RateLimited`.
    pub fn admit_desk(
        &self,
        act: Act,
        credential: &[u8],
        certificate: Option<CertificateDigest>,
        now: Time,
    ) -> Result<Caller, Refusal> {
        let caller = self.app.caller(act, credential, certificate, now)?;
        self.app.limit_desk_rate(match &caller {
            Caller::Session(session) => session.identity,
            // Tokens have their own key, so they share no resident's rate.
            Caller::Token(.., id) => Identity {
                home: ResidentId(id.0),
                claim: [0; 16],
            },
        })?;
        Ok(caller)
    }

    /// Checks again a credential that was admitted before its body arrived.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, `SessionExpired`, `NotPermitted`, or `Warming`.
    pub fn still_permits(
        &self,
        act: Act,
        credential: &[u8],
        certificate: Option<CertificateDigest>,
        now: Time,
    ) -> Result<(), Refusal> {
        self.app.caller(act, credential, certificate, now).map(drop)
    }

    fn desk(&self, now: Time) -> Desk<'_> {
        let AppState {
            seal,
            store_client,
            platform,
            audit,
            revoked_grants,
            settings,
            offline,
            ..
        } = &*self.app;
        Desk {
            offline: offline.as_deref(),
            seal,
            store_client,
            platform,
            audit,
            revoked_grants,
            nonces: &self.nonces,
            settings: &settings.desk,
            now,
        }
    }

    async fn show(&self, session: &Session, now: Now) -> Result<ShownCode, Refusal> {
        let AppState { board, seal, .. } = &*self.app;
        let mut resident = session.resident();
        let mut check = session.identity.check();
        let mut freshness = board.freshness_of(resident, now);
        let word = match board.find(resident, check) {
            Found::Word(word) => Some(word),
            Found::Absent => None,
            // The id is not loaded yet, or may belong to another resident: the store decides by the claim.
            Found::NotYet | Found::Ask => {
                // Boxed, so that shows without a lookup stay small.
                let looked = Box::pin(self.app.store_client.lookup(session.identity)).await?;
                if let Some(placed) = &looked.placed {
                    resident = placed.id;
                }
                let word;
                if board.note_lookup(resident, looked.as_of) {
                    freshness = board.freshness_at(looked.as_of, now);
                    let known = board.word(resident);
                    word = match looked.placed {
                        // A change that arrived meanwhile may be newer.
                        Some(placed) => Some(newer(known, placed.word)),
                        None => known.filter(|word| word.check() == check),
                    };
                } else {
                    self.app.store_client.caught_up(resident).await?;
                    let known;
                    (known, freshness) = self.known(resident, now)?;
                    // If two residents share a home, the lookup gives the id; the status is the one that any caller gets for
                    // it.
                    let is_own = |word: &Word| looked.placed.is_some() || word.check() == check;
                    word = known.filter(is_own);
                }
                check = word.map_or(check, Word::check);
                word
            }
        };
        let code = Code {
            resident,
            check,
            class: CodeClass::Live,
            issued_at: now.time,
            masked: session.masked,
        };
        Ok(ShownCode {
            status: board.status(word, &freshness),
            masked: session.masked,
            code: seal.code(&self.nonces, &code),
            issued_at: now.time,
            expires_at: now.time.plus(seal.code_life()),
            freshness,
        })
    }

    /// Opens one code of an admitted scanner.
    async fn scan(&self, scanner: &[u8], code: &[u8], now: Now) -> Result<Verdict, Refusal> {
        match self.scan_now(code, now) {
            Ok(verdict) if Sightings::watches(verdict.issued_at) => {
                self.note_sighting(scanner, code, now);
                Ok(verdict)
            }
            Err(Refusal::Warming) => Box::pin(self.scan_by_lookup(code, now)).await,
            Err(Refusal::CodeInvalid) if code.len() == GRANT_CHARS => {
                let revoked_grants = Box::pin(self.revoked_grants_of(scanner, code, now)).await?;
                self.scan_grant(code, Some(&revoked_grants), now)
            }
            verdict => verdict,
        }
    }

    /// Records the site at which a watched code was read.
    #[cold]
    #[inline(never)]
    fn note_sighting(&self, scanner: &[u8], code: &[u8], now: Now) {
        let AppState {
            seal, sightings, ..
        } = &*self.app;
        if let Ok(pass) = seal.open_token(TokenKind::Scanner, scanner, now.time) {
            sightings.note(code, pass.holder(), now.moment);
        }
    }

    /// Opens a text with the length of an offline code. The status comes from memory, or from the store while the board is
    /// filled.
    async fn scan_offline(&self, code: &[u8], now: Now) -> Result<OfflineVerdict, Refusal> {
        match self.scan_offline_now(code, now) {
            Err(Refusal::Warming) => {
                let opened = self.open_offline(code, now.time)?;
                let (word, freshness) = self.looked(opened.resident, now).await?;
                self.offline_verdict(&opened, word, freshness)
            }
            told => told,
        }
    }

    /// Opens an offline code from memory.
    ///
    /// # Errors
    ///
    /// The refusals of the code, and `Warming` if the board cannot answer yet.
    pub fn scan_offline_now(&self, code: &[u8], now: Now) -> Result<OfflineVerdict, Refusal> {
        let opened = self.open_offline(code, now.time)?;
        let (word, freshness) = self.known(opened.resident, now)?;
        self.offline_verdict(&opened, word, freshness)
    }

    fn open_offline(&self, code: &[u8], now: Time) -> Result<OpenedOffline, Refusal> {
        let offline = self.app.offline.as_ref().ok_or(Refusal::CodeInvalid)?;
        offline.open(code, now, self.app.seal.clock_skew())
    }

    fn offline_verdict(
        &self,
        opened: &OpenedOffline,
        word: Option<Word>,
        freshness: Freshness,
    ) -> Result<OfflineVerdict, Refusal> {
        let own = own(word, opened.code.check)?;
        Ok(OfflineVerdict {
            verdict: Verdict {
                status: self.app.board.status(own, &freshness),
                masked: opened.code.masked,
                issued_at: opened.code.issued_at,
                freshness,
                with_reasons: self.app.settings.gate_reasons,
            },
            expires_at: opened.code.expires_at(),
        })
    }

    /// Issues an offline code for a session's resident. `NotFound` if the node issues none or the person is not on record,
    /// `RateLimited` beyond a resident's daily number, `Busy` beyond this thread's rate of signatures.
    async fn issue_offline(
        &self,
        session: &Session,
        hours: Option<&str>,
        now: Now,
    ) -> Result<OfflineIssued, Refusal> {
        let offline = self.app.offline.as_ref().ok_or(Refusal::NotFound)?;
        let life = offline.life(hours)?;
        turn(
            &self.app.show_limiter,
            session.identity.home.0,
            Instant::now(),
        )?;
        let (resident, word) = self.on_record(session).await?;
        let generation = offline.generations.current(resident)?;
        let count = self
            .app
            .offline_codes
            .get_with((session.identity, generation), Arc::default);
        let counted = |count: u8| (count < OFFLINE_CODES_A_DAY).then_some(count + 1);
        if count.load(Relaxed) >= OFFLINE_CODES_A_DAY {
            return Err(Refusal::RateLimited);
        }
        if !self.offline_budget.borrow_mut().take(Instant::now()) {
            return Err(Refusal::Busy);
        }
        count
            .fetch_update(Relaxed, Relaxed, counted)
            .map_err(|_| Refusal::RateLimited)?;
        let holder = OfflineHolder {
            resident,
            check: word.check(),
            masked: session.masked,
        };
        let (text, code) = offline.issue(&holder, life, now.time)?;
        Ok(OfflineIssued {
            code: text,
            issued_at: code.issued_at,
            expires_at: code.expires_at(),
            masked: session.masked,
        })
    }

    /// Returns the id and word of a session's resident from the board or the store. `NotFound` if the person is not on record.
    async fn on_record(&self, session: &Session) -> Result<(ResidentId, Word), Refusal> {
        let resident = session.resident();
        match self.app.board.find(resident, session.identity.check()) {
            Found::Word(word) => Ok((resident, word)),
            Found::Absent => Err(Refusal::NotFound),
            Found::NotYet | Found::Ask => {
                let looked = self.app.store_client.lookup(session.identity).await?;
                let placed = looked.placed.ok_or(Refusal::NotFound)?;
                Ok((placed.id, placed.word))
            }
        }
    }

    /// Returns the organisation of a scanner; None if it belongs to none.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, `SessionExpired`, `NotPermitted`, or `Warming`.
    pub fn organisation(&self, scanner: &[u8], now: Now) -> Result<Option<Organisation>, Refusal> {
        let seal = &self.app.seal;
        let pass = seal.open_token(TokenKind::Scanner, scanner, now.time)?;
        Ok(pass.bound().map(|name| Organisation::new(seal, name)))
    }

    /// Returns the number of a grant to an organisation; None if the code is no grant to it in force.
    pub fn number_of(&self, organisation: &Organisation, code: &[u8], now: Now) -> Option<u64> {
        let opened = self.app.seal.open_grant(code, organisation.id, now.time);
        opened.ok().map(|grant| grant.number)
    }

    /// Looks up whether grants were revoked.
    ///
    /// # Errors
    ///
    /// `UpstreamBusy` if the store does not answer in time.
    pub async fn revoked_grants(
        &self,
        organisation: &Organisation,
        numbers: &HashSet<u64>,
    ) -> Result<RevokedGrants, Refusal> {
        let AppState {
            seal,
            store_client,
            revoked_grants,
            ..
        } = &*self.app;
        revoked_grants
            .of(organisation, numbers, seal, store_client)
            .await
    }

    /// Looks up whether one grant was revoked. A code that cannot be opened is refused without a lookup.
    async fn revoked_grants_of(
        &self,
        scanner: &[u8],
        code: &[u8],
        now: Now,
    ) -> Result<RevokedGrants, Refusal> {
        let organisation = self.organisation(scanner, now)?;
        let organisation = organisation.ok_or(Refusal::CodeInvalid)?;
        let grant = (self.app.seal).open_grant(code, organisation.id, now.time)?;
        self.revoked_grants(&organisation, &HashSet::from([grant.number]))
            .await
    }

    /// Opens one grant. The status comes from memory, the revocation from `revoked_grants`.
    ///
    /// # Errors
    ///
    /// `CodeInvalid`, `GrantExpired`, `GrantRevoked`, `Warming`, or `UpstreamBusy` if no lookup covers the grant.
    pub fn scan_grant(
        &self,
        code: &[u8],
        revoked_grants: Option<&RevokedGrants>,
        now: Now,
    ) -> Result<Verdict, Refusal> {
        let AppState {
            board, seal, scans, ..
        } = &*self.app;
        let revoked_grants = revoked_grants.ok_or(Refusal::CodeInvalid)?;
        let grant = seal.open_grant(code, revoked_grants.organisation.id, now.time)?;
        match revoked_grants.was_taken_back(grant.number) {
            Some(false) => {}
            Some(true) => return Err(Refusal::GrantRevoked),
            None => return Err(Refusal::UpstreamBusy),
        }
        let (word, mut freshness) = self.known(grant.resident, now)?;
        if revoked_grants.as_of < freshness.moment {
            // Whether it was revoked since is unknown.
            freshness = board.freshness_at(revoked_grants.as_of, now);
        }
        let own = own(word, grant.check)?;
        let scan = GrantScan {
            organisation: revoked_grants.organisation.name.clone(),
            resident: grant.resident,
            number: grant.number,
            at: now.time,
        };
        scans.note(&mut self.grants_seen.borrow_mut(), scan);
        Ok(Verdict {
            status: board.status(own, &freshness),
            masked: grant.masked,
            issued_at: now.time,
            freshness,
            with_reasons: self.app.settings.gate_reasons,
        })
    }

    /// Opens a live code from memory.
    ///
    /// # Errors
    ///
    /// `CodeInvalid`, `CodeExpired`, or `Warming` if the board cannot answer yet.
    pub fn scan_now(&self, code: &[u8], now: Now) -> Result<Verdict, Refusal> {
        let code = self.app.seal.open_code(code, now.time)?;
        let (word, freshness) = self.known(code.resident, now)?;
        self.verdict(&code, word, freshness)
    }

    /// Opens a live code, and asks the store while the board is filled.
    async fn scan_by_lookup(&self, code: &[u8], now: Now) -> Result<Verdict, Refusal> {
        let code = self.app.seal.open_code(code, now.time)?;
        let (word, freshness) = self.looked(code.resident, now).await?;
        self.verdict(&code, word, freshness)
    }

    /// Returns the word at an id from memory, and its freshness; `Warming` if the board cannot answer yet.
    #[inline]
    fn known(&self, id: ResidentId, now: Now) -> Result<(Option<Word>, Freshness), Refusal> {
        let board = &self.app.board;
        // Read before the word, which is at least as new.
        let freshness = board.freshness_of(id, now);
        let word = board.word(id);
        match board.is_unconfirmed(id) || word.is_none() && !board.is_filled() {
            true => Err(Refusal::Warming),
            false => Ok((word, freshness)),
        }
    }

    /// Returns the word at an id from a lookup, or from memory if it has caught up meanwhile.
    async fn looked(&self, id: ResidentId, now: Now) -> Result<(Option<Word>, Freshness), Refusal> {
        let AppState {
            board,
            store_client,
            ..
        } = &*self.app;
        let (word, as_of) = store_client.word(id).await?;
        if !board.note_lookup(id, as_of) {
            store_client.caught_up(id).await?;
            return self.known(id, now);
        }
        // A change that arrived meanwhile may be newer.
        let known = board.word(id);
        let word = word.map_or(known, |word| Some(newer(known, word)));
        Ok((word, board.freshness_at(as_of, now)))
    }

    /// Returns the verdict of a code. The code holds the check bits of its id's word; other bits mean that the id belonged to
    /// another resident then or does now, so the status is unknown.
    fn verdict(
        &self,
        code: &Code,
        word: Option<Word>,
        freshness: Freshness,
    ) -> Result<Verdict, Refusal> {
        let own = own(word, code.check)?;
        Ok(Verdict {
            status: self.app.board.status(own, &freshness),
            masked: code.masked,
            issued_at: code.issued_at,
            freshness,
            with_reasons: self.app.settings.gate_reasons,
        })
    }

    /// Opens a session. A first one registers the resident.
    async fn open_session(
        &self,
        profile: Profile,
        number: AssertionNumber,
        now: Time,
    ) -> Result<OpenedSession, Refusal> {
        let AppState { seal, settings, .. } = &*self.app;
        let who = seal.identify(&profile.document);
        self.app.limit_desk_rate(who)?;
        let steps = self.desk(now).register(who, &profile).await?;
        // Marked as used last, so that a refused log-in can be repeated with the same assertion.
        self.desk(now).use_assertion(number, None).await?;
        let masked = MaskedIdentity {
            name: MaskedName::of(profile.name.as_deref().unwrap_or_default()),
            cert_no: profile.document.mask(),
            assurance: profile.assurance,
        };
        let expires_at = now.plus(settings.session_life);
        let session = Session {
            identity: who,
            steps,
            member: None,
            masked,
            issued_at: now,
            expires_at,
        };
        Ok(OpenedSession {
            session: seal.session(&self.nonces, &session),
            expires_at,
            masked,
        })
    }

    async fn explain(
        &self,
        session: &Session,
        language: Language,
        now: Now,
    ) -> Result<StatusExplanation, Refusal> {
        let board = &self.app.board;
        let guidance = self.app.guidance.load_full();
        let names = self.app.names.load_full();
        let said_by = |status: &record::Assertion| ReasonSource {
            since: status.at,
            until: status.until,
            region: status.region,
            source: status.source.to_string(),
            source_name: names.of(&status.source, language).map(str::to_owned),
        };
        self.app.limit_desk_rate(session.identity)?;
        let freshness = board.freshness(now);
        let placed = self.app.store_client.record(session.identity).await?;
        let mut explained = StatusExplanation {
            status: ResidentStatus::Unknown,
            details: Vec::new(),
            released: Vec::new(),
            masked: session.masked,
            freshness,
        };
        if board.is_too_old(&freshness) {
            explained.status = ResidentStatus::TooOld;
        } else if let Some(placed) = placed {
            let record = &placed.record;
            let lost = board.retained(placed.id).without(record.reasons());
            explained.status = ResidentStatus::Known(record.reasons().and(lost));
            explained.details = record
                .active()
                .map(|status| ReasonDetail {
                    reason: status.reason,
                    guidance: guidance
                        .text(status.reason, status.region, language)
                        .to_owned(),
                    said: Some(said_by(status)),
                })
                .chain(lost.iter().map(|reason| ReasonDetail {
                    reason,
                    guidance: guidance.text(reason, None, language).to_owned(),
                    said: None,
                }))
                .collect();
            let cleared = record.assertions.iter().filter(|status| !status.active);
            let released = cleared.filter(|status| status.is_told());
            explained.released = released
                .map(|status| (status.reason, said_by(status)))
                .collect();
            explained
                .released
                .sort_by_key(|(_, said)| std::cmp::Reverse(said.since));
            explained
                .details
                .sort_by_key(|detail| (detail.reason, detail.said.as_ref().map(|said| said.since)));
        }
        Ok(explained)
    }

    /// Checks a scanner once for a whole bulk scan.
    ///
    /// # Errors
    ///
    /// `RateLimited` while the token owes for earlier bulk scans or has too many in progress; else as of
    /// [`Service::still_scanner`].
    pub fn admit_bulk(
        &self,
        token: &[u8],
        now: Time,
        started: Instant,
    ) -> Result<AdmittedBulk, Refusal> {
        let pass = self.still_scanner(token, now)?;
        if self.app.bulk_limiter.wait(pass.0, started) > BULK_OWED_MAX {
            return Err(Refusal::RateLimited);
        }
        let under_way = self.app.bulks.enter(pass.0);
        Ok(AdmittedBulk {
            pass,
            _under_way: under_way.ok_or(Refusal::RateLimited)?,
        })
    }

    /// Checks a scanner's token, also during a bulk scan.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, `SessionExpired`, `NotPermitted`, or `Warming`.
    pub fn still_scanner(&self, token: &[u8], now: Time) -> Result<AccessTokenId, Refusal> {
        self.app.seal.admits(TokenKind::Scanner, token, now)
    }

    /// Charges lines of a bulk scan. Returns how long the scanner must wait before the next ones.
    pub fn charge_bulk(&self, pass: AccessTokenId, lines: u64) -> Duration {
        self.app.bulk_limiter.charge(pass.0, lines, Instant::now())
    }

    /// Takes a page from this thread's budget, which protects its queries.
    ///
    /// # Errors
    ///
    /// `Busy` if the budget is used up, `NotFound` if the node serves no pages.
    pub fn admit_page(&self, versioned: bool, started: Instant) -> Result<(), Refusal> {
        let budget = match versioned {
            true => &self.part_budget,
            false => &self.page_budget,
        };
        match self.app.settings.pages_per_second {
            0 => Err(Refusal::NotFound),
            _ => match budget.borrow_mut().take(started) {
                true => Ok(()),
                false => Err(Refusal::Busy),
            },
        }
    }

    /// Takes an answer with public keys from this thread's budget.
    ///
    /// # Errors
    ///
    /// `Busy` if the budget is used up.
    pub fn admit_keys(&self, started: Instant) -> Result<(), Refusal> {
        match self.list_budget.borrow_mut().take(started) {
            true => Ok(()),
            false => Err(Refusal::Busy),
        }
    }

    /// Takes bytes of a list from this thread's budget.
    ///
    /// # Errors
    ///
    /// `Busy` if the budget is used up.
    pub fn admit_list_bytes(&self, bytes: u64, started: Instant) -> Result<(), Refusal> {
        match self.list_bytes.borrow_mut().take(bytes, started) {
            true => Ok(()),
            false => Err(Refusal::Busy),
        }
    }

    /// Opens an authority's token.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, also for a token bound to another certificate; `SessionExpired`, `NotPermitted`, or `Warming`.
    pub fn admit_authority(
        &self,
        token: &[u8],
        certificate: Option<CertificateDigest>,
        now: Time,
    ) -> Result<AccessToken, Refusal> {
        let seal = &self.app.seal;
        let token = seal.open_token(TokenKind::Authority, token, now)?;
        match token.is_of(certificate) {
            true => Ok(token),
            false => Err(Refusal::Unauthorized),
        }
    }

    /// Starts a backup of the store, and records who asked for it.
    ///
    /// # Errors
    ///
    /// `Busy` while another backup runs, `NotFound` if the store has its own means, and the refusals of the audit log.
    pub async fn begin_backup(&self, caller: &Caller, now: Time) -> Result<BegunBackup, Refusal> {
        let Caller::Token(_, operator, _) = caller else {
            return Err(Refusal::NotPermitted);
        };
        let under_way = self.app.backups.enter(0).ok_or(Refusal::Busy)?;
        self.desk(now)
            .record_operation(operator, Act::Backup)
            .await?;
        match self.app.store.backup().await {
            Ok(Some(frames)) => Ok(BegunBackup {
                frames,
                _under_way: under_way,
            }),
            Ok(None) => Err(Refusal::NotFound),
            Err(error) => {
                tracing::warn!(%error, "the store cannot start a backup");
                Err(Refusal::UpstreamBusy)
            }
        }
    }

    /// Begins to seal data at rest anew, and records who asked for it. It ends with its reader, and with the node. `Busy` while there is
    /// another, or a backup.
    ///
    /// # Errors
    ///
    /// `Busy`, `NotPermitted`, and the refusals of the store client while the act is recorded.
    pub async fn begin_reseal(&self, caller: &Caller, now: Time) -> Result<BegunBackup, Refusal> {
        let Caller::Token(_, operator, _) = caller else {
            return Err(Refusal::NotPermitted);
        };
        let under_way = self.app.backups.enter(0).ok_or(Refusal::Busy)?;
        self.desk(now)
            .record_operation(operator, Act::Reseal)
            .await?;
        let (lines, frames) = tokio::sync::mpsc::channel(RESEAL_LINES_MAX);
        tokio::spawn(reseal(self.app.clone(), lines));
        Ok(BegunBackup {
            frames,
            _under_way: under_way,
        })
    }

    /// Returns the number of an authority's token.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, `SessionExpired`, `NotPermitted`, or `Warming`.
    pub fn authority_number(&self, token: &[u8], now: Time) -> Result<AccessTokenId, Refusal> {
        self.app.seal.admits(TokenKind::Authority, token, now)
    }
}

/// Notes the refusal of a request at the desk in its span.
fn noted<T>(result: Result<T, Refusal>) -> Result<T, Refusal> {
    result.inspect_err(|refusal| traces::note_refusal(*refusal))
}

/// Returns the word if its check bits match. Refuses if the word in the store is damaged, because "unknown" would be wrong for
/// a resident on record.
fn own(word: Option<Word>, check: u16) -> Result<Option<Word>, Refusal> {
    match word {
        Some(word) if word.check() == check => Ok(Some(word)),
        Some(word) if word.is_doubtful() => Err(Refusal::UpstreamBusy),
        _ => Ok(None),
    }
}

/// Returns the newer of the board's and the store's word.
fn newer(known: Option<Word>, told: Word) -> Word {
    known
        .filter(|known| known.version() >= told.version())
        .unwrap_or(told)
}

/// Returns a budget with one second saved up.
fn full_budget(per_second: u32, now: Instant) -> Budget {
    let full = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
    Budget::new(per_second, full)
}

fn turn(turns: &RateLimiter, who: u64, now: Instant) -> Result<(), Refusal> {
    turns
        .take(who, now)
        .then_some(())
        .ok_or(Refusal::RateLimited)
}
