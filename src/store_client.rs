//! The client of the store: a read-through cache with single flight, a limit of concurrent queries, and deadlines. Returns what
//! the store knows, with its time, or `UpstreamBusy`. Knows neither codes nor HTTP.
//!
//! A show or a scan in the steady state does not come here. Records are cached under the version on the board: a newer version
//! is another entry, so a late fill is never found.

mod limiter;

use crate::admission::concurrency_limit::RoundTrip;
use crate::board::{Board, Found};
use crate::clock::{Moment, Now};
use crate::meters::{LookupOutcome, StoreMetrics};
use crate::paper::{self, Cursor, PAGE_MAX, Paper, PaperKey, PaperKinds};
use crate::person::{Identity, ResidentId};
use crate::refusal::Refusal;
use crate::status::Word;
use crate::status::{Freshness, ResidentStatus};
use crate::store::{Change, ChangeKind, ChangeOutcome, Error, LocatedRecord, Store};
use crate::traces::{self, Wait};
use limiter::ConcurrencyLimiter;
pub use limiter::LimiterStats;
use moka::future::Cache;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::Instrument;

/// Settings of the client.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time that the desk and feeds wait for the store.
    pub store_timeout: Duration,
    /// Time that a show or a scan waits for the store if memory cannot answer.
    pub store_read_timeout: Duration,
    /// Largest number of queries in the store at once; the limit adapts below it to the store's latency. As many writes may run
    /// beside them.
    pub store_in_flight_max: usize,
    /// Red reasons that one source may set in an hour without an alarm.
    pub red_alarm_per_hour: u64,
    /// Size of the cache of records and absences, in bytes.
    pub record_cache_bytes: u64,
}

/// Time that a show or a scan waits for a permit. A later permit would leave little of [`Settings::store_read_timeout`], at a
/// store that is slow already.
const LOOKUP_PERMIT_WAIT: Duration = Duration::from_millis(20);

/// Validity of a cached lookup; far below `stale_after`.
const LOOKUP_LIFE: Duration = Duration::from_secs(1);

/// Interval of checks whether the board has caught up with the store.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(2);

/// Idle time after which a cached record is dropped.
const RECORD_IDLE: Duration = Duration::from_secs(600);

/// Result of a lookup, and its time.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The record with its id; None if the resident is not on record.
    pub placed: Option<Arc<LocatedRecord>>,
    /// The moment up to which it is true.
    pub as_of: Moment,
}

/// Access to the store: a cache, single flight, a limit and deadlines.
pub struct StoreClient {
    board: Arc<Board>,
    store: Arc<dyn Store>,
    metrics: Arc<StoreMetrics>,
    settings: Settings,
    limiter: ConcurrencyLimiter,
    /// Permits for writes. They are separate because each waits for a group commit, whose time says nothing about queries.
    writing: Semaphore,
    records: Cache<(Identity, u64), Arc<LocatedRecord>>,
    lookups: Cache<Identity, Lookup>,
    words: Cache<ResidentId, (Option<Word>, Moment)>,
    /// The last answer of the store about an id, by any lookup: no cached answer is older than one given before.
    told: Cache<ResidentId, (Option<Word>, Moment)>,
    /// The newest papers of an owner, one page.
    papers: Cache<Identity, Arc<Vec<Paper>>>,
}

/// Approximate size of a cache entry without its record, in bytes.
const ENTRY_BYTES: u32 = 200;

/// Waits until the board satisfies a condition; `UpstreamBusy` if it does not in time.
async fn reached(wait: Duration, is_so: impl Fn() -> bool) -> Result<(), Refusal> {
    let lookups = async {
        while !is_so() {
            tokio::time::sleep(CATCH_UP_PAUSE).await;
        }
    };
    let lookups = tokio::time::timeout(wait, lookups).await;
    lookups.map_err(|_| Refusal::UpstreamBusy)
}

fn weigh(placed: &LocatedRecord) -> u32 {
    let assertions = placed.record.assertions.iter();
    let assertions: usize = assertions.map(|stats| 64 + stats.source.len()).sum();
    ENTRY_BYTES + (placed.record.profile.len() + assertions) as u32
}

impl StoreClient {
    /// Returns a client of an open store.
    pub fn new(
        board: Arc<Board>,
        store: Arc<dyn Store>,
        metrics: Arc<StoreMetrics>,
        settings: Settings,
    ) -> StoreClient {
        StoreClient {
            limiter: ConcurrencyLimiter::new(settings.store_in_flight_max),
            writing: Semaphore::new(settings.store_in_flight_max),
            records: Cache::builder()
                .max_capacity(settings.record_cache_bytes / 4)
                .weigher(|_, placed: &Arc<LocatedRecord>| weigh(placed))
                .time_to_idle(RECORD_IDLE)
                .build(),
            lookups: Cache::builder()
                .max_capacity(settings.record_cache_bytes / 4)
                .weigher(|_, looked: &Lookup| looked.placed.as_deref().map_or(ENTRY_BYTES, weigh))
                .time_to_live(LOOKUP_LIFE)
                .build(),
            words: Cache::builder()
                .max_capacity(settings.record_cache_bytes / 4)
                .weigher(|_, _| ENTRY_BYTES)
                .time_to_live(LOOKUP_LIFE)
                .build(),
            told: Cache::builder()
                .max_capacity(settings.record_cache_bytes / 4)
                .weigher(|_, _| ENTRY_BYTES)
                .time_to_live(2 * LOOKUP_LIFE)
                .build(),
            papers: Cache::builder()
                .max_capacity(settings.record_cache_bytes / 4)
                .weigher(|_, papers: &Arc<Vec<Paper>>| {
                    let bodies = papers.iter().map(|paper| 64 + paper.body.len());
                    ENTRY_BYTES + bodies.sum::<usize>() as u32
                })
                .time_to_live(LOOKUP_LIFE)
                .build(),
            board,
            store,
            metrics,
            settings,
        }
    }

    /// Applies changes like [`Self::ingest`]. Returns for each whether it changed anything.
    ///
    /// # Errors
    ///
    /// `UpstreamBusy` if the store fails or does not answer in time; the changes may have been applied. `Internal` if the record of one
    /// is damaged.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<Vec<bool>, Refusal> {
        let outcomes = self.ingest(changes).await?;
        if outcomes.contains(&ChangeOutcome::Unreadable) {
            return Err(Refusal::Internal);
        }
        Ok(outcomes
            .into_iter()
            .map(ChangeOutcome::is_applied)
            .collect())
    }

    /// Applies changes within `store_timeout`, and returns the outcome of each.
    ///
    /// # Errors
    ///
    /// As for [`Self::apply`].
    pub async fn ingest(&self, changes: Vec<Change>) -> Result<Vec<ChangeOutcome>, Refusal> {
        let papers = changes
            .iter()
            .enumerate()
            .filter_map(|(nth, change)| match &change.what {
                ChangeKind::Paper(_) | ChangeKind::Erase => Some((nth, change.who)),
                ChangeKind::Profile(_) | ChangeKind::Status(..) | ChangeKind::Override(_) => None,
            });
        let papers: Vec<(usize, Identity)> = papers.collect();
        let reds = changes
            .iter()
            .enumerate()
            .filter_map(|(nth, change)| match &change.what {
                ChangeKind::Status(stats, _) if stats.active => Some((nth, stats.source.clone())),
                _ => None,
            });
        let reds: Vec<(usize, Box<str>)> = reds.collect();
        let applied = async {
            let permit = self.writing.acquire();
            let permit = permit.instrument(traces::waiting(Wait::StorePermit));
            let _permit = permit.await.ok()?;
            let ingested = self.store.ingest(changes);
            let ingested = ingested.instrument(traces::waiting(Wait::StoreCommit));
            ingested.await.inspect_err(refused).ok()
        };
        let applied = tokio::time::timeout(self.settings.store_timeout, applied).await;
        let applied = applied.ok().flatten();
        for (nth, owner) in papers {
            // Also after failures that leave it open whether the papers were stored.
            self.papers.invalidate(&owner).await;
            if let Some(outcomes) = &applied {
                self.metrics.paper(outcomes[nth].is_applied());
            }
        }
        if let Some(outcomes) = &applied {
            let now = Moment::now();
            for (_, source) in reds.iter().filter(|(nth, _)| outcomes[*nth].is_applied()) {
                let most = self.settings.red_alarm_per_hour;
                if self.metrics.red_alarm(source, most, now) {
                    tracing::error!(%source, most, "a source set more red reasons in this hour than `red_alarm_per_hour`: check what it feeds");
                }
            }
        }
        applied.ok_or(Refusal::UpstreamBusy)
    }

    /// Returns up to `limit` papers of an owner of these kinds, at most [`PAGE_MAX`], the newest first, after the cursor.
    /// Papers that another node stored in the last second may be missing.
    ///
    /// # Errors
    ///
    /// `UpstreamBusy` if the store does not answer in time, or has too many queries.
    pub async fn papers(
        &self,
        owner: Identity,
        kinds: PaperKinds,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Paper>, Refusal> {
        let wait = self.settings.store_timeout;
        let newest = self.papers.try_get_with(owner, async {
            let all = self.store.papers(owner, PaperKinds::ALL, None, PAGE_MAX);
            self.read(wait, all).await.map(Arc::new)
        });
        let newest = newest.await.map_err(|refusal| *refusal)?;
        let limit = limit.min(PAGE_MAX);
        let whole = newest.len() < PAGE_MAX;
        let mut some = newest.to_vec();
        paper::page(&mut some, kinds, after, limit);
        // An owner with more papers than one page needs a query for the rest.
        if !whole && some.len() < limit {
            return self.papers_now(owner, kinds, after, limit).await;
        }
        Ok(some)
    }

    /// Returns papers like [`StoreClient::papers`], read from the store now.
    ///
    /// # Errors
    ///
    /// As for [`StoreClient::papers`].
    pub async fn papers_now(
        &self,
        owner: Identity,
        kinds: PaperKinds,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Paper>, Refusal> {
        let wait = self.settings.store_timeout;
        let asked = self.store.papers(owner, kinds, after, limit.min(PAGE_MAX));
        self.read(wait, asked).await
    }

    /// Returns the owner's paper for each key, read from the store now, [`PAGE_MAX`] keys a call; None for a missing one.
    ///
    /// # Errors
    ///
    /// As for [`StoreClient::papers`].
    pub async fn some_now(
        &self,
        owner: Identity,
        keys: &[PaperKey],
    ) -> Result<Vec<Option<Paper>>, Refusal> {
        let wait = self.settings.store_timeout;
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(PAGE_MAX) {
            found.extend(self.read(wait, self.store.some(owner, keys)).await?);
        }
        Ok(found)
    }

    /// Counts and logs a paper that cannot be opened.
    pub fn tell_damaged(&self, what: &str) {
        crate::store::tell_damaged(&self.metrics, what, 1);
    }

    /// Returns the record of a resident for the desk, as new as the board knows it.
    ///
    /// # Errors
    ///
    /// `UpstreamBusy` if neither store nor board answers in time.
    pub async fn record(&self, who: Identity) -> Result<Option<Arc<LocatedRecord>>, Refusal> {
        let Found::Word(word) = self.board.find(who.home, who.check()) else {
            return self.record_now(who).await;
        };
        let version = word.version();
        if let Some(known) = self.records.get(&(who, version)).await {
            return Ok(Some(known));
        }
        match self.record_now(who).await? {
            Some(placed) if placed.word.version() == version => {
                self.records.insert((who, version), placed.clone()).await;
                Ok(Some(placed))
            }
            // It is newer than the board and may be rolled back, so it is not cached under the board's version.
            Some(placed) if placed.word.version() > version => {
                self.catch_up(&placed).await?;
                Ok(Some(placed))
            }
            // The board knows more than this store, whose record is old.
            _ => Err(Refusal::UpstreamBusy),
        }
    }

    /// Returns the status of a resident and its time: the reasons on record, and those that the board keeps because the store
    /// has lost them.
    ///
    /// # Errors
    ///
    /// `UpstreamBusy` if neither store nor board answers in time.
    pub async fn standing_of(&self, who: Identity) -> Result<(ResidentStatus, Freshness), Refusal> {
        let freshness = self.board.freshness_of(who.home, Now::read());
        let placed = self.record(who).await?;
        let stats = match placed {
            _ if self.board.is_too_old(&freshness) => ResidentStatus::TooOld,
            None => ResidentStatus::Unknown,
            Some(placed) => {
                let kept = self.board.retained(placed.id);
                ResidentStatus::Known(placed.record.reasons().union(kept))
            }
        };
        Ok((stats, freshness))
    }

    /// Waits until the board knows what the store knows of a record, so that the desk is never ahead of a show.
    async fn catch_up(&self, placed: &LocatedRecord) -> Result<(), Refusal> {
        let version = placed.word.version();
        let has_it = |word: Word| word.version() >= version;
        reached(self.settings.store_timeout, || {
            self.board.word(placed.id).is_some_and(has_it)
        })
        .await
    }

    /// Returns the record of a resident, read from the store now.
    ///
    /// # Errors
    ///
    /// As for [`StoreClient::papers`].
    pub async fn record_now(&self, who: Identity) -> Result<Option<Arc<LocatedRecord>>, Refusal> {
        let wait = self.settings.store_timeout;
        let found = self.read(wait, self.store.find(who)).await?;
        Ok(found.map(Arc::new))
    }

    /// Looks up a resident whom the board cannot identify: not loaded yet, or two at one id. The result does not go onto the
    /// board: a primary that is being replaced also returns unacknowledged changes, and only the follower can roll them back.
    ///
    /// # Errors
    ///
    /// As for [`StoreClient::papers`].
    pub async fn lookup(&self, who: Identity) -> Result<Lookup, Refusal> {
        let looked = self.lookup_once(who).await?;
        let is_outdated = match &looked.placed {
            Some(placed) => {
                let word = Some(placed.word);
                self.is_outdated(placed.id, word, looked.as_of).await
            }
            None => {
                let told = self.told.get(&who.home).await;
                told.is_some_and(|(word, at)| {
                    at >= looked.as_of && word.is_some_and(|word| word.check() == who.check())
                })
            }
        };
        if !is_outdated {
            return Ok(looked);
        }
        self.lookups.invalidate(&who).await;
        self.lookup_once(who).await
    }

    async fn lookup_once(&self, who: Identity) -> Result<Lookup, Refusal> {
        let looked = self.lookups.try_get_with(who, async {
            let as_of = self.store.as_of();
            let placed = self.ask_once(self.store.find(who)).await?.map(Arc::new);
            if let Some(placed) = &placed {
                self.tell(placed.id, Some(placed.word), as_of).await;
            }
            Ok::<_, Refusal>(Lookup { placed, as_of })
        });
        looked.await.map_err(|refusal| *refusal)
    }

    /// Returns the word that the store has at an id that is not on the board yet, None if it has none, and the moment up to which this
    /// answer is complete.
    ///
    /// # Errors
    ///
    /// As for [`StoreClient::papers`].
    pub async fn word(&self, id: ResidentId) -> Result<(Option<Word>, Moment), Refusal> {
        let (word, as_of) = self.word_once(id).await?;
        if !self.is_outdated(id, word, as_of).await {
            return Ok((word, as_of));
        }
        self.words.invalidate(&id).await;
        self.word_once(id).await
    }

    async fn word_once(&self, id: ResidentId) -> Result<(Option<Word>, Moment), Refusal> {
        let looked = self.words.try_get_with(id, async {
            let as_of = self.store.as_of();
            let word = self.ask_once(self.store.word(id)).await?;
            self.tell(id, word, as_of).await;
            Ok::<_, Refusal>((word, as_of))
        });
        looked.await.map_err(|refusal| *refusal)
    }

    /// Records the store's answer about an id, unless a later one is recorded.
    async fn tell(&self, id: ResidentId, word: Option<Word>, as_of: Moment) {
        let told = self.told.entry(id);
        told.and_upsert_with(|before| {
            let before = before.map(|entry| entry.into_value());
            let newest = before.filter(|(last, at)| is_later((*last, *at), (word, as_of)));
            std::future::ready(newest.unwrap_or((word, as_of)))
        })
        .await;
    }

    /// Returns whether a later lookup gave another answer about this id.
    async fn is_outdated(&self, id: ResidentId, word: Option<Word>, as_of: Moment) -> bool {
        let told = self.told.get(&id).await;
        told.is_some_and(|last| last.0 != word && is_later(last, (word, as_of)))
    }

    /// Waits until the board has what lookups have returned about an id.
    ///
    /// # Errors
    ///
    /// `UpstreamBusy` if the board does not have it in time.
    pub async fn caught_up(&self, id: ResidentId) -> Result<(), Refusal> {
        reached(self.settings.store_read_timeout, || {
            !self.board.cannot_tell(id)
        })
        .await
    }

    /// Returns the time that the desk waits for the store.
    pub fn store_timeout(&self) -> Duration {
        self.settings.store_timeout
    }

    /// Returns the moment up to which an answer read now is complete.
    pub fn as_of(&self) -> Moment {
        self.store.as_of()
    }

    /// Returns the size of the cache in bytes.
    pub fn bytes(&self) -> u64 {
        let kept = self.records.weighted_size() + self.lookups.weighted_size();
        kept + self.words.weighted_size() + self.told.weighted_size() + self.papers.weighted_size()
    }

    /// Returns the figures of the limiter.
    pub fn stats(&self) -> LimiterStats {
        self.limiter.stats()
    }

    /// Stops the store after the work it was given.
    pub async fn close(&self) {
        self.store.close().await;
    }

    fn count(&self, found: Result<bool, &Refusal>) {
        self.metrics.lookup(match found {
            Ok(true) => LookupOutcome::Found,
            Ok(false) => LookupOutcome::Absent,
            Err(_) => LookupOutcome::Busy,
        });
    }

    /// Queries the store once for something that memory lacks, and counts the outcome.
    async fn ask_once<T>(
        &self,
        call: impl Future<Output = Result<Option<T>, Error>>,
    ) -> Result<Option<T>, Refusal> {
        let wait = self.settings.store_read_timeout;
        let found = self.ask(LOOKUP_PERMIT_WAIT, wait, call).await;
        self.count(found.as_ref().map(Option::is_some));
        found
    }

    /// Runs a query of the desk under the limit, with a deadline for the whole.
    async fn read<T>(
        &self,
        wait: Duration,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Refusal> {
        let span = traces::waiting(Wait::StoreRead);
        self.ask(wait, wait, call).instrument(span).await
    }

    /// Runs a query under the limit, with a bounded wait for a permit and a deadline for the whole.
    async fn ask<T>(
        &self,
        turn_wait: Duration,
        wait: Duration,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Refusal> {
        let deadline = Instant::now() + wait;
        let permit = self.limiter.acquire(turn_wait.min(wait)).await;
        let permit = permit.ok_or(Refusal::UpstreamBusy)?;
        match tokio::time::timeout_at(deadline, call).await {
            Ok(Ok(found)) => {
                permit.back(RoundTrip::Answered);
                return Ok(found);
            }
            Ok(Err(error)) => refused(&error),
            Err(_) => permit.back(RoundTrip::Late),
        }
        Err(Refusal::UpstreamBusy)
    }
}

/// Returns whether one answer about an id is later than another. Each is complete up to its moment and may be of later data, so
/// of two with the same moment that with the higher version is.
fn is_later(one: (Option<Word>, Moment), other: (Option<Word>, Moment)) -> bool {
    let rank = |(word, at): (Option<Word>, Moment)| (at, word.map_or(0, |word| word.version()));
    rank(one) > rank(other)
}

fn refused(error: &Error) {
    tracing::debug!(%error, "a query to the store failed");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Reasons;

    #[test]
    fn of_two_answers_up_to_the_same_moment_the_higher_version_is_later() {
        let word = |version| Some(Word::new(version, 7, Reasons::NONE));
        for (one, other, later) in [
            ((word(6), Moment(10)), (word(5), Moment(10)), true),
            ((word(5), Moment(10)), (word(6), Moment(10)), false),
            ((word(5), Moment(10)), (None, Moment(10)), true),
            // A later answer counts even if the store has lost a change since.
            ((word(5), Moment(11)), (word(6), Moment(10)), true),
            ((word(6), Moment(10)), (word(6), Moment(10)), false),
        ] {
            assert_eq!(is_later(one, other), later, "{one:?} {other:?}");
        }
    }
}
