//! State that all threads share: what it is made of, and what a reload changes.

use super::in_force::SettingsInForce;
use super::limits::full_budget;
use crate::admission::budget::Budget;
use crate::admission::concurrency::ConcurrencyCounter;
use crate::admission::rate_limit::RateLimiter;
use crate::board::Board;
use crate::clock::offset::ClockWatch;
use crate::clock::{Now, Time};
use crate::desk;
use crate::desk::audit::{Audit, FeedCounts, Feeder};
use crate::desk::display_names::DisplayNames;
use crate::desk::grant::RevokedGrantCache;
use crate::desk::grant_scan_notices::GrantScanQueue;
use crate::desk::guidance::Guidance;
use crate::desk::offline_code::read_generations;
use crate::desk::revocation;
use crate::desk::roles::{Act, Role};
use crate::door_load::DoorLoads;
use crate::exchange::ExchangeSettings;
use crate::exchange::asking::Exchange;
use crate::identity::{Platform, Reloaded};
use crate::lists::{ListSettings, Lists, Published, ServedFile, ServedPair};
use crate::meters::{Meters, OfflineFacts};
use crate::offline::issue::{CodeOutcome, OfflineIssuer, OfflineSettings};
use crate::person::Identity;
use crate::recognition::recogniser::{Recogniser, TrustReloaded};
use crate::refusal::Refusal;
use crate::seal::ring::KeyFile;
use crate::seal::{Caller, Seal};
use crate::sightings::Sightings;
use crate::store::Store;
use crate::store_client::{self, StoreClient};
use crate::tls::CertificateDigest;
use arc_swap::ArcSwap;
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

/// Slots of the rate limiter of residents for each core: 1 MiB. A core answers 100,000 shows a second; spread over well-behaved
/// residents, they fill less than half of the slots.
const RESIDENT_PLACES: usize = 1 << 17;

/// Slots of the rate limiter of scanners for the node: 512 KiB for some thousands.
const SCANNER_PLACES: usize = 1 << 16;

/// Residents whose desk requests are counted at once; older ones start again.
const DESK_COUNTED_MAX: u64 = 200_000;

/// Residents whose offline codes are counted at once; older ones start again.
const OFFLINE_COUNTED_MAX: u64 = 200_000;

/// Each reading of this number reads all revoked generations; the others read new ones.
const GENERATIONS_WHOLE_EVERY: u64 = 600;

/// Slots of the rate limiter of peers.
const PEER_PLACES: usize = 1 << 10;

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
    pub(super) audit: Audit,
    pub(super) revoked_grants: RevokedGrantCache,
    pub(super) scans: GrantScanQueue,
    /// Codes read by scanners of two sites.
    pub sightings: Sightings,
    pub(super) guidance: ArcSwap<Guidance>,
    pub(super) names: ArcSwap<DisplayNames>,
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
    pub(super) exchange_limiter: RateLimiter,
    pub(super) offline_codes: moka::sync::Cache<(Identity, u8), Arc<AtomicU8>>,
    pub(super) settings: Settings,
    desk_budgets: moka::sync::Cache<Identity, Arc<std::sync::Mutex<Budget>>>,
    pub(super) show_limiter: RateLimiter,
    pub(super) scan_limiter: RateLimiter,
    pub(super) bulk_limiter: RateLimiter,
    pub(super) bulks: Arc<ConcurrencyCounter>,
    pub(super) backups: Arc<ConcurrencyCounter>,
    /// Number of readings of the revocations.
    revoked_readings: AtomicU32,
    draining: AtomicBool,
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
        let places = PEER_PLACES;
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
    pub(super) fn caller(
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

    /// Counts one request against a resident's rate at the desk, or refuses it.
    pub(super) fn limit_desk_rate(&self, who: Identity) -> Result<(), Refusal> {
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
