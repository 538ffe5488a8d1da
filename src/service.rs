//! The service: one query to one answer. Show, scan, sessions, explanations.
//! A show and a scan in the steady state wait for nothing: all they need is in what the caller holds and on the board.

pub mod foreign;
pub mod in_force;

use crate::admission::bytes::ByteBudget;
use crate::admission::concurrency::{ConcurrencyCounter, ConcurrencyGuard};
use crate::admission::rate_limit::RateLimiter;
use crate::admission::{Budget, ConnectionCaps};
use crate::answer::{
    Freshness, OfflineIssued, OfflineVerdict, OpenedSession, ReasonDetail, ReasonSource, Refusal,
    ResidentStatus, ShownCode, StatusExplanation, Verdict,
};
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
use crate::seal::ring::{KeyFile, TokenKind};
use crate::seal::{
    AccessToken, AccessTokenId, Caller, Code, CodeClass, GRANT_CHARS, Nonces, Seal, Session,
};
use crate::sightings::Sightings;
use crate::status::Word;
use crate::store::{Store, StoreStream, record};
use crate::store_client::{self, StoreClient};
use crate::tls::CertificateDigest;
use arc_swap::ArcSwap;
use foreign::{FOREIGN_PER_SECOND, ForeignVerdict};
use in_force::SettingsInForce;
use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How queries are answered.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How far the system's clock may be from the store's before the node is not ready.
    pub clock_offset_max: Duration,
    /// How long a resident's session lasts.
    pub session_life: Duration,
    /// How the store is asked.
    pub store_client: store_client::Settings,
    /// Log-ins and explanations that one resident may ask for in a second.
    pub desk_requests_per_second: u32,
    /// Limits of the desk.
    pub desk: desk::Settings,
    /// How often each credential may ask.
    pub rate_limits: RateLimits,
    /// Whether gates are told why somebody is red.
    pub gate_reasons: bool,
    /// None where no offline codes are issued.
    pub offline: Option<OfflineSettings>,
    /// How status lists are made and used.
    pub lists: ListSettings,
    /// Pages that each thread of a door serves in a second; 0 for none at all.
    pub pages_per_second: u32,
    /// All settings of the node, for operators.
    pub in_force: SettingsInForce,
}

/// How often is fair; 0 for no limit. Ten seconds' worth is saved up of shows and of scans.
#[derive(Clone, Debug)]
pub struct RateLimits {
    /// Shows of one resident in a second, whatever sessions they come with.
    pub shows_per_second: u32,
    /// Scans with one token in a second.
    pub scans_per_second: u32,
    /// Lines of bulk scans with one token in a second.
    pub bulk_codes_per_second: u32,
    /// Bulk scans with one token at once.
    pub bulk_scans_per_token: u32,
    /// Lines that are saved up: a whole bulk, so that a first one is never held up.
    pub bulk_codes_saved: u64,
}

const SAVED_SECONDS: u64 = 10;

/// A scanner that owes for so much of its bulk scans begins no other. One that is held up owes for 64 lines at a time: a
/// few may share the rate.
const BULK_OWED_MAX: Duration = Duration::from_millis(50);

/// Places in which the turns of residents are counted, for each core: 1 MiB. A core answers 100,000 shows a second; spread
/// over residents who ask as they should, they fill a place of these to less than half.
const RESIDENT_PLACES: usize = 1 << 17;

/// The same of scanners, for the node: 512 KiB for some thousands of them.
const SCANNER_PLACES: usize = 1 << 16;

/// Residents whose desk queries are counted at once; the rest begin anew.
const DESK_COUNTED_MAX: u64 = 200_000;

/// Offline codes of one resident and generation in a day, from one node.
const OFFLINE_CODES_A_DAY: u8 = 4;

/// Residents whose offline codes are counted at once; the rest begin anew.
const OFFLINE_COUNTED_MAX: u64 = 200_000;

/// Answers with keys that each thread of a door gives in a second.
const LISTS_PER_SECOND: u32 = 200;

/// Readings of what is new between two of all revoked generations.
const GENERATIONS_WHOLE_EVERY: u64 = 600;

/// The state that every thread shares.
pub struct AppState {
    /// The board.
    pub board: Arc<Board>,
    /// Keys of codes, tokens and papers.
    pub seal: Seal,
    /// The store, open.
    pub store: Arc<dyn Store>,
    /// What asks the store, under a limit and a deadline.
    pub store_client: StoreClient,
    /// Whose assertions of a log-in are believed.
    pub platform: Platform,
    /// The node's meters.
    pub meters: Arc<Meters>,
    /// What watches the time of day.
    pub clock: ClockWatch,
    audit: Audit,
    revoked_grants: RevokedGrantCache,
    scans: GrantScanQueue,
    /// Codes that scanners of two sites read.
    pub sightings: Sightings,
    guidance: ArcSwap<Guidance>,
    names: ArcSwap<DisplayNames>,
    /// All settings of the node, for operators. A reload changes it.
    pub in_force: ArcSwap<SettingsInForce>,
    /// How many connections each door may have.
    pub connection_caps: ConnectionCaps,
    /// Whether all was good that was read again last.
    pub is_reloaded: AtomicBool,
    desk_requests_per_second: AtomicU32,
    /// None where no offline codes are issued.
    pub offline: Option<Arc<OfflineIssuer>>,
    /// None where no offline codes are issued.
    pub lists: Option<Arc<Lists>>,
    /// None where codes of other issuers are not recognised.
    pub recogniser: Option<Arc<Recogniser>>,
    /// None where no other issuer's service is asked.
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
    /// How often the revocations were read.
    revoked_readings: AtomicU32,
    draining: AtomicBool,
}

/// A query, read and not yet believed.
pub enum Query<'q> {
    /// A code is asked for.
    Show {
        /// The session, sealed.
        session: &'q [u8],
        /// The language of the guidance.
        language: Language,
    },
    /// A code was scanned.
    Scan {
        /// Who scans.
        scanner: AdmittedScanner<'q>,
        /// The code, as it was read.
        code: &'q [u8],
        /// The language of the verdict.
        language: Language,
    },
    /// An offline code that lasts so many hours, as they were said.
    OfflineCode {
        /// The session, sealed.
        session: &'q [u8],
        /// How many hours the code is to last, as the query says.
        hours: Option<&'q str>,
    },
    /// A session is to be opened.
    OpenSession {
        /// The platform's assertion of a log-in.
        assertion: &'q str,
    },
    /// The status in detail is asked for.
    Explain {
        /// The session, sealed.
        session: &'q [u8],
        /// The language of the guidance.
        language: Language,
    },
    /// What is asked of the desk, and the caller that [`Service::admit_desk`] let in. Boxed, so that those who show and scan carry no
    /// place for it.
    Desk(Box<desk::DeskRequest<'q>>, Box<Caller>),
}

/// What a query ends in when it is not refused, and the language to say it in.
pub enum Answer {
    /// A code, and the language of its guidance.
    Shown(ShownCode, Language),
    /// What a gate is told of a code, and the language.
    Verdict(Verdict, Language),
    /// A session just opened.
    Opened(OpenedSession),
    /// A status in detail, and the language.
    Explained(StatusExplanation, Language),
    /// An offline code just issued.
    OfflineCode(Box<OfflineIssued>),
    /// What a gate is told of an offline code, and the language.
    OfflineVerdict(Box<OfflineVerdict>, Language),
    /// What a gate is told of a code of another issuer.
    Foreign(Box<ForeignVerdict>),
    /// What the desk says; rare beside the others, so that they carry no place for it.
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

/// A scanner that was admitted: its token and the number of it.
#[derive(Clone, Copy)]
pub struct AdmittedScanner<'q> {
    token: &'q [u8],
    pass: AccessTokenId,
}

/// A bulk scan that was admitted: the number of its token. It counts as under way until this is dropped.
pub struct AdmittedBulk {
    /// The number of the token.
    pub pass: AccessTokenId,
    _under_way: ConcurrencyGuard,
}

/// A query and what it is counted as; that is known even of one that could not be read.
pub struct TimedQuery<'q> {
    /// The kind under which the query is counted.
    pub kind: RequestKind,
    /// What is asked, or why that could not be read.
    pub query: Result<Query<'q>, Refusal>,
    /// When its head was read.
    pub started: Instant,
    /// The time of the query, by both clocks.
    pub now: Now,
}

impl AppState {
    /// Returns what all threads of a node share.
    pub fn new(
        board: Arc<Board>,
        seal: Seal,
        store: Arc<dyn Store>,
        platform: Platform,
        guidance: Guidance,
        meters: Arc<Meters>,
        settings: Settings,
    ) -> AppState {
        // Whether a credential was revoked is not known yet.
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
            connection_caps: ConnectionCaps::default(),
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

    /// Returns the same state, issuing offline codes where there is an issuer.
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

    /// Returns the same state, with names of sources, organisations and sites.
    pub fn naming(self, names: DisplayNames) -> AppState {
        AppState {
            names: ArcSwap::from_pointee(names),
            ..self
        }
    }

    /// Returns the same state, recognising codes of other issuers where there is a trust list.
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

    /// Reads the trust list again where its files are others, or where `force` says so. Bad files change nothing; false says so.
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
                    tracing::error!(%fault, "the trust list in force stays");
                }
                false
            }
        }
    }

    /// Whether the system's clock and the store's are further apart than they may be.
    pub fn clock_offset_is_too_large(&self) -> bool {
        self.clock.is_apart(self.settings.clock_offset_max)
    }

    /// How far the two may be apart.
    pub fn clock_offset_max(&self) -> Duration {
        self.settings.clock_offset_max
    }

    /// From now on `/ready` says no and nothing long is begun.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Returns whether the node is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Reads the identity platform's keys again where their file is another, or where `force` says so. A bad file changes nothing,
    /// and is told by false.
    pub fn reload_platform(&self, force: bool) -> bool {
        match self.platform.reload(force) {
            Reloaded::Same => {}
            Reloaded::Read(keys) => {
                tracing::info!(keys, "the identity platform's keys were read again")
            }
            Reloaded::Bad(why) => {
                tracing::error!(%why, "the identity platform's keys in force stay");
                return false;
            }
        }
        true
    }

    /// Reads anew what is good no more.
    pub async fn refresh_revoked(&self) -> Result<(), crate::store::Error> {
        let nth = self.revoked_readings.fetch_add(1, Relaxed);
        let whole = !self.seal.revoked.is_read() || nth.is_multiple_of(revocation::WHOLE_EVERY);
        revocation::refresh(&*self.store, &self.seal, whole).await
    }

    /// Reads which generations of offline codes were revoked: what is new, and now and then all. `nth` counts the readings.
    pub async fn refresh_generations(&self, nth: u64) -> Result<(), crate::store::Error> {
        let Some(offline) = &self.offline else {
            return Ok(());
        };
        let began = Time::now();
        let from = offline.generations.read_to();
        let from = from.filter(|_| !nth.is_multiple_of(GENERATIONS_WHOLE_EVERY));
        let revoked = read_generations(&*self.store, &self.seal, from).await?;
        offline.generations.add(&revoked);
        offline.generations.was_read(began);
        Ok(())
    }

    /// Returns what the meters tell of offline codes and of the status list; None where no offline codes are issued.
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

    /// Takes up other texts of guidance.
    pub fn set_guidance(&self, guidance: Guidance) {
        self.guidance.store(Arc::new(guidance));
    }

    /// Takes up other names of sources, organisations and sites.
    pub fn set_names(&self, names: DisplayNames) {
        self.names.store(Arc::new(names));
    }

    /// Takes up other rates of the setting `name`. False where that needs a restart.
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
                // A longer bulk needs a restart, and so does what is saved up for one.
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

    /// Takes up a key ring that was rotated meanwhile. False where it has no signing keys and needs some.
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

    /// Tells those whose grants were scanned, as soon as there are any; or, at the `end`, those whom nobody has told yet.
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

    /// Counts what a token fed; it is recorded by [`AppState::record_feeds`].
    pub fn count_feed(&self, feeder: Feeder, feed: FeedCounts) {
        self.meters.store.fed_reds(&feeder.holder, feed.reds);
        self.audit.count_feed(feeder, feed);
    }

    /// Records what was fed since the last time in the audit log.
    pub async fn record_feeds(&self) -> Result<(), Refusal> {
        let now = Time::now();
        self.audit
            .file_feeds(&self.seal, &self.store_client, now)
            .await
    }

    /// Writes the end of the audit log's chain to the log of the node.
    pub fn tell_audit_end(&self, what: &'static str) {
        self.audit.tell_end(what);
    }

    /// Links of the audit log that this node filed.
    pub fn audit_links(&self) -> u64 {
        self.audit.links.load(Relaxed)
    }

    /// Opens credentials and judges whether their role may do this.
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

    /// A resident's turn at the desk.
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

/// A backup that is being read, and its place: there is one at a time.
pub struct BegunBackup {
    /// The frames of the backup, as they are read.
    pub frames: StoreStream,
    _under_way: ConcurrencyGuard,
}

/// The service as one thread holds it.
pub struct Service {
    /// What all threads share.
    pub app: Arc<AppState>,
    /// The counts of this thread.
    pub metrics: Arc<ThreadMetrics>,
    nonces: Nonces,
    page_budget: RefCell<Budget>,
    /// For parts of pages that are asked for by their version: who has a page gets its parts, whatever others ask for.
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

    /// Answers a query, and counts it with the time that it took.
    pub async fn answer(&self, request: TimedQuery<'_>) -> Result<Answer, Refusal> {
        let visit = self.metrics.enter(request.kind, request.started); // dropped unfinished, it counts as gone
        let result = self.walk(request.query, request.now, request.started).await;
        visit.leave(QueryOutcome::from(&result));
        result
    }

    /// Every `?` is a door out, named beside it.
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
                    platform.person(assertion, AssertionPurpose::LogIn, now.time)?; // Unauthorized, SessionExpired, Malformed, OfflineRegistration
                let opened = self.open_session(profile, number, now.time).await?; // RateLimited, UpstreamBusy; Unauthorized if it was used
                Ok(Answer::Opened(opened))
            }
            Query::Explain { session, language } => {
                let session = self.app.seal.open_session(session, now.time)?; // Unauthorized, SessionExpired, NotPermitted
                let explained = self.explain(&session, language, now).await?; // RateLimited, UpstreamBusy
                Ok(Answer::Explained(explained, language))
            }
            Query::Desk(request, caller) => {
                // Boxed, so that those who show and scan carry no place for it.
                let mut said = Box::pin(self.desk(now.time).answer(&request, &caller)).await?; // what the desk refuses
                if let DeskResponse::Found(said) | DeskResponse::Done(said) = &mut said {
                    self.app.names.load().add(said, request.language);
                }
                Ok(Answer::Desk(Box::new(said), request.language))
            }
        }
    }

    /// Judges a scanner's token before the body of its scan is read. `Unauthorized`, `SessionExpired`, `NotPermitted`, or
    /// `RateLimited`.
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

    /// Returns whether a pass that was admitted is still in force; costs one look at the table in memory.
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

    /// Judges credentials and role before the body is read. `Unauthorized`, `SessionExpired`, `NotPermitted`, or
    /// `RateLimited`.
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
            // As one who shares a resident's turns with nobody.
            Caller::Token(.., id) => Identity {
                home: ResidentId(id.0),
                claim: [0; 16],
            },
        })?;
        Ok(caller)
    }

    /// Judges credentials once more, for what was admitted before its body came.
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
            // Not loaded yet, or another has this id, or may have: the store knows by the claim.
            Found::NotYet | Found::Ask => {
                // Boxed, so that those who need it not carry no place for it.
                let looked = Box::pin(self.app.store_client.lookup(session.identity)).await?;
                if let Some(placed) = &looked.placed {
                    resident = placed.id;
                }
                let word;
                if board.note_lookup(resident, looked.as_of) {
                    freshness = board.freshness_at(looked.as_of, now);
                    let known = board.word(resident);
                    word = match looked.placed {
                        // What came by another way meanwhile may be newer.
                        Some(placed) => Some(newer(known, placed.word)),
                        None => known.filter(|word| word.check() == check),
                    };
                } else {
                    self.app.store_client.caught_up(resident).await?;
                    let known;
                    (known, freshness) = self.known(resident, now)?;
                    // Where two share a home, the look tells the id; the colour is what anybody else is told of it.
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

    /// Reads one code. The scanner has been admitted.
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

    /// Notes at which site a code that is watched was read.
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

    /// Reads an offline code whose length says that it may be one: as memory knows the resident, or the store while the board is
    /// being filled.
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

    /// As memory knows it; `Warming` where the board is not there yet.
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

    /// Signs an offline code for whom a session shows. `NotFound` where none are issued, or the person is not on record;
    /// `RateLimited` past what one resident gets in a day, `Busy` past what this thread signs in a second.
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

    /// Returns whom a session shows, as the board knows it or the store. `NotFound` for who is not on record.
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

    /// The organisation of a scanner; None for a scanner of none.
    pub fn organisation(&self, scanner: &[u8], now: Now) -> Result<Option<Organisation>, Refusal> {
        let seal = &self.app.seal;
        let pass = seal.open_token(TokenKind::Scanner, scanner, now.time)?;
        Ok(pass.bound().map(|name| Organisation::new(seal, name)))
    }

    /// Returns the number of a grant to an organisation; None for whatever is no grant to it that is in force.
    pub fn number_of(&self, organisation: &Organisation, code: &[u8], now: Now) -> Option<u64> {
        let opened = self.app.seal.open_grant(code, organisation.id, now.time);
        opened.ok().map(|grant| grant.number)
    }

    /// Whether the grants with these numbers were taken back.
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

    /// Whether one grant was taken back. What cannot be opened is refused before the store is asked.
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

    /// Reads one grant: as memory knows the resident, and the organisation's roster.
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
            // Whether it was taken back since is not known.
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

    /// As memory knows it; `Warming` where the board is not there yet.
    pub fn scan_now(&self, code: &[u8], now: Now) -> Result<Verdict, Refusal> {
        let code = self.app.seal.open_code(code, now.time)?;
        let (word, freshness) = self.known(code.resident, now)?;
        self.verdict(&code, word, freshness)
    }

    /// Asks the store while the board is being filled.
    async fn scan_by_lookup(&self, code: &[u8], now: Now) -> Result<Verdict, Refusal> {
        let code = self.app.seal.open_code(code, now.time)?;
        let (word, freshness) = self.looked(code.resident, now).await?;
        self.verdict(&code, word, freshness)
    }

    /// Returns the word at an id as memory knows it, and of when that is; `Warming` where the board cannot tell yet.
    #[inline]
    fn known(&self, id: ResidentId, now: Now) -> Result<(Option<Word>, Freshness), Refusal> {
        let board = &self.app.board;
        // Before the word, which is as new as that or newer.
        let freshness = board.freshness_of(id, now);
        let word = board.word(id);
        match board.is_unconfirmed(id) || word.is_none() && !board.is_filled() {
            true => Err(Refusal::Warming),
            false => Ok((word, freshness)),
        }
    }

    /// Returns the word at an id as a look into the store tells it, or as memory does where it has caught up meanwhile.
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
        // What came by another way meanwhile may be newer.
        let known = board.word(id);
        let word = word.map_or(known, |word| Some(newer(known, word)));
        Ok((word, board.freshness_at(as_of, now)))
    }

    /// The code was sealed with the check bits of its id's word. Other bits mean that the id was another's then or is now:
    /// whose, nobody can tell from here, and it is not this resident's.
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

    /// A first session registers the resident.
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
        // Last, so that a log-in that was refused may be tried again with the same assertion.
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

    /// Whether a scanner may scan, said once for a whole bulk. `RateLimited` while it owes for those that it had.
    /// `RateLimited` also while it has as many under way as it may.
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

    /// Judges a scanner's token, also in the middle of a bulk scan.
    pub fn still_scanner(&self, token: &[u8], now: Time) -> Result<AccessTokenId, Refusal> {
        self.app.seal.admits(TokenKind::Scanner, token, now)
    }

    /// Charges lines of a bulk scan; how long the scanner should wait before the next ones.
    pub fn charge_bulk(&self, pass: AccessTokenId, lines: u64) -> Duration {
        self.app.bulk_limiter.charge(pass.0, lines, Instant::now())
    }

    /// Whether this thread may serve a page: so many and no more, because it has codes to serve.
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

    /// Whether this thread may serve keys now, or is `Busy`.
    pub fn admit_keys(&self, started: Instant) -> Result<(), Refusal> {
        match self.list_budget.borrow_mut().take(started) {
            true => Ok(()),
            false => Err(Refusal::Busy),
        }
    }

    /// Whether this thread may send so many bytes of a list now, or is `Busy`.
    pub fn admit_list_bytes(&self, bytes: u64, started: Instant) -> Result<(), Refusal> {
        match self.list_bytes.borrow_mut().take(bytes, started) {
            true => Ok(()),
            false => Err(Refusal::Busy),
        }
    }

    /// Opens an authority's token. `Unauthorized` also where it is bound to a certificate other than the one that was shown.
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

    /// Begins a backup of the store, and records who asked for it. `Busy` while there is another, `NotFound` where the store is backed up by its
    /// own means.
    pub async fn begin_backup(&self, caller: &Caller, now: Time) -> Result<BegunBackup, Refusal> {
        let Caller::Token(_, operator, _) = caller else {
            return Err(Refusal::NotPermitted);
        };
        let under_way = self.app.backups.enter(0).ok_or(Refusal::Busy)?;
        self.desk(now).record_backup(operator).await?;
        match self.app.store.backup().await {
            Ok(Some(frames)) => Ok(BegunBackup {
                frames,
                _under_way: under_way,
            }),
            Ok(None) => Err(Refusal::NotFound),
            Err(error) => {
                tracing::warn!(%error, "no backup could be begun");
                Err(Refusal::UpstreamBusy)
            }
        }
    }

    /// What tells an authority's token from every other.
    pub fn authority_number(&self, token: &[u8], now: Time) -> Result<AccessTokenId, Refusal> {
        self.app.seal.admits(TokenKind::Authority, token, now)
    }
}

/// Returns the word if these are its check bits. Refuses where the store's own is not as it was written: "unknown" would be said
/// of somebody who is on record.
fn own(word: Option<Word>, check: u16) -> Result<Option<Word>, Refusal> {
    match word {
        Some(word) if word.check() == check => Ok(Some(word)),
        Some(word) if word.is_doubtful() => Err(Refusal::UpstreamBusy),
        _ => Ok(None),
    }
}

/// Of what the board knows and what the store told, the newer.
fn newer(known: Option<Word>, told: Word) -> Word {
    known
        .filter(|known| known.version() >= told.version())
        .unwrap_or(told)
}

/// A second's worth is saved up at the start.
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
