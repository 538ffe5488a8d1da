//! The Redis store: records in sixteen partitions with a stream of changes each, for any number of nodes.
//!
//! A change takes two calls of one script. The first reads the record and returns what it would write; the node checks the tags
//! of what was read and makes those of what is written. The second writes record and stream entry atomically, unless another
//! node wrote meanwhile. A follower for each partition brings the entries onto the board of its node. Names and numbers in
//! Redis are sealed.

pub mod bulk;
mod checks;
pub mod dial;
mod follower;
mod health;
mod info;
pub mod papers;
pub mod partition;
pub mod primaries;
mod quorum;
mod reseal;
mod rewrite;
mod scripts;
mod trail;
mod unreplicated;
pub mod url;
mod writer;

use super::record::Record;
use super::reseal::{ResealProgress, ResealReport};
use super::{Change, ChangeOutcome, Error, LocatedRecord, Store, tell_damaged};
use crate::board::Board;
use crate::clock::{self, Moment, Time};
use crate::meters::StoreMetrics;
use crate::paper::{Cursor, Paper, PaperKey, PaperKinds, Retention};
use crate::person::{Identity, ResidentId};
use crate::seal::RestSeal;
use crate::seal::tags::StatusTags;
use crate::status::Word;
use follower::{Follower, FollowerContext};
use futures_util::future::try_join_all;
use health::StoreHealth;
use partition::PARTITIONS;
use primaries::{ConnectionPurpose, Primaries, PrimaryConnection};
use scripts::{FIND, PartitionState, WORD};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use writer::{FollowerPositions, PartitionWriter, WriteBatch};

/// Settings of the Redis store.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How connections are made.
    pub dial: dial::Settings,
    /// Replicas that must have a change before it is acknowledged. None: one, or zero if a single server has none.
    pub replicas: Option<u32>,
    /// Changes that each stream keeps for nodes that are behind.
    pub changes_kept: u64,
    /// Time for which opening waits for an unreachable store; None: forever.
    pub open_wait: Option<Duration>,
    /// Number of bits of a home id: 64, or fewer in tests that need collisions.
    pub home_bits: u32,
}

impl Settings {
    /// Returns the settings for these servers, with default times.
    pub fn new(place: url::StoreUrl) -> Settings {
        Settings {
            dial: dial::Settings {
                place,
                password_file: None,
                sentinel: None,
                ca: None,
                cert: None,
            },
            replicas: None,
            changes_kept: 100_000,
            open_wait: None,
            home_bits: 64,
        }
    }
}

/// Pause between attempts to reach a store at the start.
const OPEN_PAUSE: Duration = Duration::from_secs(1);

/// Interval of log lines while opening waits.
const OPEN_REPORT: Duration = Duration::from_secs(5);

/// Validity of an announced clock offset, which is renewed each second.
const OFFSET_LIFE: Duration = Duration::from_secs(3);

/// Returns the announced offset to add to Redis's clock, if it is younger than [`OFFSET_LIFE`] by that clock, which shows
/// `now`.
///
/// The key expires by the same clock: if the clock was set back by a day, the key stays a day longer.
fn word_in_force(told: &str, now: Time) -> Option<i64> {
    let (ahead, said_at) = told.split_once(' ')?;
    let said_at: i64 = said_at.parse().ok()?;
    let age = (now.0 as i64).saturating_sub(said_at);
    // Two readings of one clock may differ a little.
    let life = OFFSET_LIFE.as_millis() as i64;
    (-1_000..=life).contains(&age).then(|| ahead.parse().ok())?
}

/// Time for running work when the store is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A store that was reached, without writers and followers.
pub struct OpenedRedis {
    primaries: Arc<Primaries>,
    settings: Settings,
    mark: [u8; 16],
    tags: StatusTags,
    replicas: u32,
    asking: [Arc<Mutex<PrimaryConnection>>; PARTITIONS],
    residents: u64,
    written: bool,
}

impl OpenedRedis {
    /// Connects to the store and checks it. Waits for an unreachable one as long as the settings allow. `mark` and `tags` come
    /// from the key ring.
    ///
    /// # Errors
    ///
    /// An error that trying again cannot mend, or `Away` after `open_wait`.
    pub async fn open(
        settings: Settings,
        mark: [u8; 16],
        tags: StatusTags,
    ) -> Result<OpenedRedis, Error> {
        let primaries = Primaries::new(settings.dial.clone());
        let mut told = String::new();
        let started = std::time::Instant::now();
        let mut told_at = started;
        loop {
            match OpenedRedis::reach(&primaries, &settings, mark, &tags).await {
                Err(error @ (Error::Away(_) | Error::Stuck(_))) => {
                    if let Some(wait) = settings.open_wait.filter(|wait| started.elapsed() >= *wait)
                    {
                        let (Error::Away(why) | Error::Stuck(why)) = error else {
                            return Err(error);
                        };
                        let why = format!("{why}; waited for {wait:?} (command_store_timeout)");
                        return Err(Error::Away(why));
                    }
                    if told != error.to_string() || told_at.elapsed() >= OPEN_REPORT {
                        told_at = std::time::Instant::now();
                        tracing::warn!(%error, "the store cannot be reached: the next attempt follows in a second");
                        told = error.to_string();
                    }
                    tokio::time::sleep(OPEN_PAUSE).await;
                }
                opened => return opened,
            }
        }
    }

    async fn reach(
        primaries: &Arc<Primaries>,
        settings: &Settings,
        mark: [u8; 16],
        tags: &StatusTags,
    ) -> Result<OpenedRedis, Error> {
        let replicas = checks::run(primaries, settings.replicas).await?;
        let mut opened = OpenedRedis {
            primaries: primaries.clone(),
            settings: settings.clone(),
            mark,
            tags: tags.clone(),
            replicas,
            asking: std::array::from_fn(|partition| {
                let link =
                    PrimaryConnection::new(primaries.clone(), partition, ConnectionPurpose::Ask);
                Arc::new(Mutex::new(link))
            }),
            residents: 0,
            written: false,
        };
        for state in opened.states().await? {
            if !state.ring.is_empty() && state.ring != mark {
                return Err(Error::ForeignRing(primaries.place().to_string()));
            }
            if !state.epoch.is_empty() && state.format != scripts::FORMAT {
                let place = primaries.place().to_string();
                return Err(Error::Format(place, state.format, scripts::FORMAT));
            }
            // Somebody may have edited it.
            opened.residents = opened.residents.saturating_add(state.count);
            opened.written |= !state.ring.is_empty();
        }
        Ok(opened)
    }

    async fn state(&self, partition: usize) -> Result<PartitionState, Error> {
        let mut held = self.asking[partition].lock().await;
        let mut link = held.get().await?;
        PartitionState::of(&mut link, partition, "0-0")
            .await
            .map_err(|error| held.failed(&error))
    }

    /// Returns the states of all partitions, which are read concurrently.
    async fn states(&self) -> Result<Vec<PartitionState>, Error> {
        try_join_all((0..PARTITIONS).map(|partition| self.state(partition))).await
    }

    /// Returns the offset of the clock of a partition's primary.
    async fn clock_offset(&self, partition: usize) -> Result<i64, Error> {
        let mut held = self.asking[partition].lock().await;
        let mut link = held.get().await?;
        let before = Moment::now();
        let (seconds, micros): (u64, u64) = redis::cmd("TIME")
            .query_async(&mut link)
            .await
            .map_err(|error| held.failed(&error))?;
        let time = Time(seconds * 1_000 + micros / 1_000);
        Ok(clock::offset::offset_of(time, before, Moment::now()))
    }

    /// Returns the key of the announced clock offset, used while the clock of the first partition's primary is wrong.
    fn offset_key() -> String {
        let meta = partition::meta(0);
        format!("{}c", &meta[..meta.len() - 1])
    }

    /// Returns the announced offset to add to the clock of the first partition's primary.
    async fn fleet_offset(&self) -> Result<Option<i64>, Error> {
        let mut held = self.asking[0].lock().await;
        let mut link = held.get().await?;
        let before = Moment::now();
        let (told, (seconds, micros)): (Option<String>, (u64, u64)) = redis::pipe()
            .cmd("GET")
            .arg(OpenedRedis::offset_key())
            .cmd("TIME")
            .query_async(&mut link)
            .await
            .map_err(|error| held.failed(&error))?;
        let time = Time(seconds * 1_000 + micros / 1_000);
        let own = clock::offset::offset_of(time, before, Moment::now());
        let told = told.and_then(|told| word_in_force(&told, time));
        Ok(told.map(|ahead| own.saturating_add(ahead)))
    }

    async fn tell_offset(&self, offset: i64) -> Result<(), Error> {
        let clock = self.clock_offset(0).await?;
        let said_at = clock.saturating_add(Moment::now().0 as i64);
        let mut held = self.asking[0].lock().await;
        let mut link = held.get().await?;
        redis::cmd("SET")
            .arg(OpenedRedis::offset_key())
            .arg(format!("{} {said_at}", offset - clock))
            .arg("PX")
            .arg(OFFSET_LIFE.as_millis() as u64)
            .query_async(&mut link)
            .await
            .map_err(|error| held.failed(&error))
    }

    /// Returns whether anything was ever written to the store.
    pub fn was_written(&self) -> bool {
        self.written
    }

    /// Returns the number of residents on record when the store was reached.
    pub fn residents(&self) -> u64 {
        self.residents
    }

    /// Passes every record to `each`, one partition after the other. Concurrent changes may be included or not.
    ///
    /// # Errors
    ///
    /// The store fails, a record is damaged, or `each` failed.
    pub async fn each(
        &self,
        mut each: impl FnMut(ResidentId, Record) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        /// Buckets of a page: whole values have ten times the size of words.
        const BUCKETS: u64 = 8;
        let mut damaged = 0;
        for partition in 0..PARTITIONS {
            let state = self.state(partition).await?;
            let end = 1u64 << state.depth;
            let mut read = 0;
            let mut first = 0;
            while first < end {
                let count = BUCKETS.min(end - first);
                let asking = &self.asking[partition];
                let (epoch, _, bytes) =
                    follower::page(asking, partition, state.depth, first, count, true).await?;
                if epoch != state.epoch {
                    return Err(Error::Away(
                        "it became another while it was read".to_owned(),
                    ));
                }
                for (id, value) in scripts::values(&bytes, &self.tags)? {
                    read += 1;
                    match value {
                        Ok((_, record)) => each(id, record)?,
                        Err(_) => damaged += 1,
                    }
                }
                first += count;
            }
            // Records are never removed: those that are missing were not read where they are.
            damaged += state.count.saturating_sub(read);
        }
        Ok(damaged)
    }

    /// Starts the writers and followers. From now on every acknowledged change is on `board`; None if this process serves no
    /// answers.
    pub fn start(self, board: Option<Arc<Board>>, metrics: Arc<StoreMetrics>) -> Redis {
        let settings = writer::Settings {
            mark: self.mark,
            tags: self.tags.clone(),
            replicas: self.replicas,
            changes_kept: self.settings.changes_kept,
        };
        let followed = Arc::<FollowerPositions>::default();
        let (writers, ends) = (0..PARTITIONS)
            .map(|partition| {
                PartitionWriter::start(
                    partition,
                    self.primaries.clone(),
                    board.clone(),
                    followed.clone(),
                    metrics.clone(),
                    settings.clone(),
                )
            })
            .unzip();
        Redis {
            health: Arc::new(StoreHealth::new(metrics.clone())),
            opened: self,
            board,
            followed,
            metrics,
            writers: Mutex::new(writers),
            ends: Mutex::new(ends),
            followers: Mutex::default(),
            replicas_missing: Default::default(),
            sweeper: RandomState::new()
                .hash_one(std::process::id())
                .to_be_bytes(),
        }
    }
}

/// The Redis store with writers and followers.
pub struct Redis {
    opened: OpenedRedis,
    board: Option<Arc<Board>>,
    followed: Arc<FollowerPositions>,
    metrics: Arc<StoreMetrics>,
    health: Arc<StoreHealth>,
    /// Senders to the writers; empty once the store is closed.
    writers: Mutex<Vec<mpsc::Sender<WriteBatch>>>,
    ends: Mutex<Vec<JoinHandle<()>>>,
    followers: Mutex<Vec<JoinHandle<()>>>,
    /// When replicas were last found missing for each partition, as a [`Moment`]; 0: never.
    replicas_missing: [AtomicU64; PARTITIONS],
    /// Random name of this node where nodes take turns.
    sweeper: [u8; 8],
}

impl Redis {
    fn shorten(&self, mut who: Identity) -> Identity {
        let bits = self.opened.settings.home_bits;
        if bits < 64 {
            who.home.0 &= (1 << bits) - 1;
        }
        who
    }

    /// Sends changes to the writers, in their order. Their outcomes must be awaited.
    async fn submit(&self, changes: Vec<Change>) -> Result<Submitted, Error> {
        let mut submitted = Submitted {
            counted: changes
                .iter()
                .map(|change| change.what.is_counted())
                .collect(),
            parts: Vec::new(),
        };
        let mut parts: HashMap<usize, (Vec<usize>, Vec<Vec<u8>>)> = HashMap::new();
        for (nth, Change { who, what }) in changes.into_iter().enumerate() {
            let who = self.shorten(who);
            let (nths, packed) = parts.entry(partition::of(who.home)).or_default();
            nths.push(nth);
            packed.push(scripts::pack(&who, &what));
        }
        let writers = self.writers.lock().await.clone();
        for (partition, (nths, changes)) in parts {
            let (done, outcome) = oneshot::channel();
            let writer = writers.get(partition).ok_or(Error::Closed)?;
            let sent = writer.send(WriteBatch { changes, done }).await;
            sent.map_err(|_| Error::Closed)?;
            submitted.parts.push((nths, outcome));
        }
        Ok(submitted)
    }

    /// Reads one partition by a script.
    async fn ask<T: redis::FromRedisValue>(
        &self,
        partition: usize,
        script: &redis::Script,
        arguments: &[&[u8]],
    ) -> Result<T, Error> {
        let mut link = self.asking(partition).await?;
        let mut call = script.key(partition::meta(partition));
        for argument in arguments {
            call.arg(*argument);
        }
        let found = call.invoke_async(&mut link).await;
        self.judged(partition, found).await
    }

    /// Returns the connection for reads of one partition. If the partition is known to be lost it fails at once.
    async fn asking(&self, partition: usize) -> Result<redis::aio::MultiplexedConnection, Error> {
        if self.health.is_lost(partition) {
            return Err(Error::Away("it is lost".to_owned()));
        }
        self.opened.asking[partition].lock().await.get().await
    }

    /// Returns the result of a read, and raises the alarm if the data is damaged.
    fn genuine<T>(&self, read: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Damaged(what)) = &read {
            tell_damaged(&self.metrics, what, 1);
        }
        read
    }

    /// Returns the result of a read, unless another primary was named meanwhile.
    async fn judged<T>(
        &self,
        partition: usize,
        found: Result<T, redis::RedisError>,
    ) -> Result<T, Error> {
        let mut held = self.opened.asking[partition].lock().await;
        match found {
            Ok(found) if held.is_current() => Ok(found),
            Ok(_) => Err(Error::Away("another primary was named".to_owned())),
            Err(error) => Err(held.failed(&error)),
        }
    }
}

impl Redis {
    /// Checks that replicas have a found word. While the board is filled, an answer may use it before the board does; if it
    /// were lost with its primary, it could not be rolled back. `acked` is the highest version that replicas are known to have.
    async fn is_kept(&self, partition: usize, word: Word, acked: u64) -> Result<(), Error> {
        let waited_for = self.opened.replicas;
        let filling = self.board.as_ref().is_some_and(|board| !board.is_filled());
        if waited_for == 0 || !filling || word.version() <= acked {
            return Ok(());
        }
        let missing = &self.replicas_missing[partition];
        let last = Moment(missing.load(Relaxed));
        if last.0 > 0 && Moment::now().since(last) < MISSING_PAUSE {
            return Err(Error::NotReplicated(0, waited_for));
        }
        // A new connection might lead to another server.
        let another = || Error::Away("another primary was named".to_owned());
        let link = self.opened.asking[partition].lock().await.held();
        let mut link = link.ok_or_else(another)?;
        // Waits for everything written before on this connection, by whichever node.
        let had: Result<u32, _> = redis::cmd("WAIT")
            .arg(waited_for)
            .arg(LOOK_COMMIT_WAIT.as_millis() as u64)
            .query_async(&mut link)
            .await;
        let had = self.judged(partition, had).await?;
        if had < waited_for {
            missing.store(Moment::now().0, Relaxed);
            return Err(Error::NotReplicated(had, waited_for));
        }
        Ok(())
    }
}

/// Time for replicas to have a found word. Others wait on the same connection.
const LOOK_COMMIT_WAIT: Duration = Duration::from_millis(50);

/// Pause after replicas were missing, before they are waited for again.
const MISSING_PAUSE: Duration = Duration::from_millis(500);

/// Changes in progress: the indexes for each partition, and their outcomes.
struct Submitted {
    /// Whether each change counts as its event.
    counted: Vec<bool>,
    parts: Vec<(Vec<usize>, writer::WriteOutcome)>,
}

impl Submitted {
    /// Returns the outcome of each change; an error if the store failed. Some may then have been applied.
    async fn outcome(self) -> Result<Vec<ChangeOutcome>, Error> {
        let mut outcomes = vec![ChangeOutcome::Unchanged; self.counted.len()];
        let mut failed = None;
        for (nths, outcome) in self.parts {
            match outcome.await.map_err(|_| Error::Closed)? {
                Ok(flags) => {
                    for (nth, flag) in nths.into_iter().zip(flags) {
                        outcomes[nth] = match flag {
                            b'1' => ChangeOutcome::Applied,
                            b'r' => ChangeOutcome::Conflict,
                            writer::DAMAGED | writer::CROWDED => ChangeOutcome::Unreadable,
                            _ => ChangeOutcome::Unchanged,
                        };
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(outcomes), Err)
    }
}

#[async_trait::async_trait]
impl Store for Redis {
    async fn residents(&self) -> Result<u64, Error> {
        let states = self.opened.states().await?;
        let counts = states.iter().map(|state| state.count);
        Ok(counts.fold(0, u64::saturating_add))
    }

    /// Starts the followers and waits until each has read its whole partition, however many attempts it takes.
    async fn fill(&self, progress: Arc<dyn Fn(u64) + Send + Sync>) -> Result<(), Error> {
        let board = self.board.clone().ok_or(Error::Closed)?;
        let (synced, mut seen) = watch::channel(0);
        let shared = Arc::new(FollowerContext {
            primaries: self.opened.primaries.clone(),
            board,
            followed: self.followed.clone(),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            mark: self.opened.mark,
            tags: self.opened.tags.clone(),
            replicas: self.opened.replicas,
            synced,
            progress,
        });
        *self.followers.lock().await = (0..PARTITIONS)
            .map(|partition| {
                let asking = self.opened.asking[partition].clone();
                tokio::spawn(Follower::new(partition, shared.clone(), asking).run())
            })
            .collect();
        // The followers hold the sender as long as they live.
        let all = seen.wait_for(|synced| *synced == PARTITIONS).await;
        all.map(drop).map_err(|_| Error::Closed)
    }

    async fn ingest(&self, changes: Vec<Change>) -> Result<Vec<ChangeOutcome>, Error> {
        self.submit(changes).await?.outcome().await
    }

    async fn find(&self, who: Identity) -> Result<Option<LocatedRecord>, Error> {
        let who = self.shorten(who);
        let home = who.home.0.to_be_bytes();
        let found: Option<(Vec<Vec<u8>>, u8, u64)> = self
            .ask(partition::of(who.home), &FIND, &[&home, &who.claim])
            .await?;
        let Some((values, is_own, acked)) = found else {
            return Ok(None);
        };
        if is_own == 2 {
            return self.genuine(Err(Error::Damaged("the depth of a partition")));
        }
        // Each record on the way must be genuine: a damaged claim would make the resident unknown.
        let mut last = None;
        for (steps, value) in (0..).zip(&values) {
            let id = who.slot(steps);
            let (word, record) = self.genuine(scripts::value(id, value, &self.opened.tags))?;
            last = Some(LocatedRecord {
                id,
                steps,
                word,
                record,
            });
        }
        let Some(placed) = last.filter(|_| is_own == 1) else {
            return Ok(None);
        };
        self.is_kept(partition::of(who.home), placed.word, acked)
            .await?;
        Ok(Some(placed))
    }

    async fn word(&self, id: ResidentId) -> Result<Option<Word>, Error> {
        let found: Option<(Vec<u8>, u64)> = self
            .ask(partition::of(id), &WORD, &[&id.0.to_be_bytes()])
            .await?;
        let Some((bytes, acked)) = found else {
            return Ok(None);
        };
        let word = self.genuine(scripts::word(id, &bytes, &self.opened.tags))?;
        self.is_kept(partition::of(id), word, acked).await?;
        Ok(Some(word))
    }

    async fn papers(
        &self,
        owner: Identity,
        kinds: PaperKinds,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Paper>, Error> {
        self.genuine(self.read_papers(owner, kinds, after, limit).await)
    }

    async fn some(&self, owner: Identity, keys: &[PaperKey]) -> Result<Vec<Option<Paper>>, Error> {
        self.genuine(self.read_some(owner, keys).await)
    }

    async fn remove(&self, owner: Identity, keys: &[PaperKey]) -> Result<u64, Error> {
        self.remove_papers(owner, keys).await
    }

    async fn sweep(&self, keep: &Retention, now: Time, every: Duration) -> Result<u64, Error> {
        self.sweep_papers(keep, now, every).await
    }

    async fn reseal(
        &self,
        seal: RestSeal,
        tell: &ResealProgress<'_>,
    ) -> Result<ResealReport, Error> {
        self.reseal_all(&seal, tell).await
    }

    /// Returns the median offset of all primaries, so that one wrong clock of three or more decides nothing.
    async fn clock_offset(&self) -> Result<Option<i64>, Error> {
        let mut asked = Vec::new();
        let mut offsets = Vec::new();
        for partition in 0..PARTITIONS {
            let primary = self.opened.primaries.of(partition);
            if asked.contains(&primary) || self.health.is_lost(partition) {
                continue;
            }
            asked.push(primary);
            offsets.extend(self.opened.clock_offset(partition).await.ok());
        }
        offsets.sort_unstable();
        Ok(offsets.get(offsets.len() / 2).copied())
    }

    async fn fleet_offset(&self) -> Result<Option<i64>, Error> {
        self.opened.fleet_offset().await
    }

    async fn tell_offset(&self, offset: i64) -> Result<(), Error> {
        self.opened.tell_offset(offset).await
    }

    fn lost(&self) -> u16 {
        self.opened.primaries.lost(Moment::now())
    }

    fn as_of(&self) -> Moment {
        self.opened.primaries.as_of(Moment::now())
    }

    async fn close(&self) {
        for follower in self.followers.lock().await.drain(..) {
            follower.abort();
        }
        self.writers.lock().await.clear();
        let ends = std::mem::take(&mut *self.ends.lock().await);
        let all = async {
            for end in ends {
                let _ = end.await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, all).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_about_a_clock_that_was_set_since_is_none() {
        let now = Time(1_790_000_000_000);
        let said = |before: i64| format!("-86400000 {}", now.0 as i64 - before);
        for (before, is_in_force) in [
            (0, true),
            (2_900, true),
            (-500, true),
            (3_100, false),
            (-86_400_000, false),
            (86_400_000, false),
        ] {
            let word = word_in_force(&said(before), now);
            assert_eq!(word, is_in_force.then_some(-86_400_000), "{before}");
        }
        for bad in ["", "5", "x 5", "5 x", " "] {
            assert_eq!(word_in_force(bad, now), None);
        }
    }
}
