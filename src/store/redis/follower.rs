//! Keeps one partition of the board current: reads the partition whole, then follows its stream.
//! After every gap it reads the partition whole again.
//!
//! Stream entries are numbered without gaps. A missing number, another epoch, fewer entries than were read, or more than one
//! reply holds is a gap. Versions fence words from any source, so a whole reading may run beside everything else.
//!
//! A replaced primary still accepts changes, and may give them higher versions than those acknowledged elsewhere. So changes
//! become visible only once enough replicas have them, as many as a change waits for.

use super::health::StoreHealth;
use super::partition;
use super::primaries::{BLOCK, ConnectionPurpose, Primaries, PrimaryConnection, is_primary};
use super::scripts::{self, FORMAT, PartitionState, RAISE, READ};
use super::trail::Trail;
use super::unreplicated::{Since, SnapshotPolicy, UnreplicatedChanges};
use super::writer::FollowerPositions;
use crate::board::{Board, PostOutcome};
use crate::clock::{Moment, Time};
use crate::critical::CriticalTask;
use crate::meters::{StoreFault, StoreMetrics};
use crate::seal::tags::StatusTags;
use crate::status::Word;
use crate::store::error::{Error, tell_damaged};
use redis::Value;
use redis::streams::{StreamRangeReply, StreamReadReply};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

/// Entries in one reply. A reply with as many may not have all.
const ENTRIES_MAX: usize = 64;

/// Pause after a reply with news, so that under load each reply brings several entries.
const GATHER: Duration = Duration::from_millis(10);

/// Pauses between attempts to reach an unavailable store: the first and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Time for replicas to have what was read. Longer than a primary's isolation goes unnoticed by its voters, and short compared
/// with `stale_after`.
const COMMIT_WAIT: Duration = Duration::from_millis(700);

/// Times that a whole reading is put off, [`COMMIT_WAIT`] each, while a primary has too few replicas. A fail-over ends within
/// that; a replica that is unavailable for longer stops no reading.
const PUT_OFF_MAX: u32 = 6;

/// Changes that are remembered as unreplicated. Feeds are refused meanwhile, so only rejected attempts add to them.
const UNSURE_MAX: usize = 100_000;

/// Time for which a primary is believed after a majority last named it.
const VOUCH_LIFE: Duration = Duration::from_secs(3);

/// Pause before a board that knows more than the store is compared again, and the multiple of the comparison's duration.
const RECOUNT_PAUSE: Duration = Duration::from_secs(2);
const RECOUNT_TIMES: u32 = 10;

/// Buckets in one page, about fifty residents each: a millisecond of Redis's time.
const PAGE_BUCKETS: u64 = 32;

/// Pages of one partition that are requested at once.
const PAGES_AT_ONCE: usize = 4;

/// State that the followers of all partitions share.
pub struct FollowerContext {
    pub primaries: Arc<Primaries>,
    pub board: Arc<Board>,
    pub followed: Arc<FollowerPositions>,
    pub metrics: Arc<StoreMetrics>,
    pub health: Arc<StoreHealth>,
    pub mark: [u8; 16],
    pub tags: StatusTags,
    /// Replicas that must have a change before it is visible.
    pub replicas: u32,
    /// Number of partitions that were read whole.
    pub synced: watch::Sender<usize>,
    pub progress: Arc<dyn Fn(u64) + Send + Sync>,
}

/// Position in a partition's stream.
#[derive(Clone, Debug, Default)]
struct Position {
    epoch: Vec<u8>,
    seq: u64,
    /// Id of the last entry read.
    entry: String,
}

enum Step {
    /// Read the whole partition. None: nothing is wrong with it.
    Sync(Option<StoreFault>),
    /// Check whether the stream continues at the last position.
    Resume,
    Follow,
}

pub struct Follower {
    partition: usize,
    shared: Arc<FollowerContext>,
    link: PrimaryConnection,
    asking: Arc<Mutex<PrimaryConnection>>,
    position: Position,
    /// Number of replies without an entry although the partition has newer ones.
    silent: u32,
    /// The store lost data and may still lack what this board knows: a whole reading of it clears no red.
    forgetful: bool,
    synced: bool,
    /// Position of the last entry that replicas had; None while it is the last one read.
    sure: Option<Position>,
    /// Later changes that are visible.
    unreplicated: UnreplicatedChanges,
    /// Some of those came from a whole reading after a gap: what was before them is unknown.
    doubts_whole: bool,
    /// Times that a whole reading was put off because replicas were missing.
    put_off: u32,
    /// When to read the partition whole again, because the board knew more than the store or versions could not be raised; None if
    /// neither holds.
    recount: Option<Instant>,
    /// Versions could not be raised because the store takes no writes. Holds whether it had gone back.
    unraised: Option<bool>,
    /// Recent entries, to find where a store that went back diverged.
    trail: Trail,
    /// When the board was last known to have everything in the store.
    told: Moment,
}

impl Follower {
    /// Returns a follower. `asking` is a connection for pages, shared with others.
    pub fn new(
        partition: usize,
        shared: Arc<FollowerContext>,
        asking: Arc<Mutex<PrimaryConnection>>,
    ) -> Follower {
        Follower {
            partition,
            link: PrimaryConnection::new(
                shared.primaries.clone(),
                partition,
                ConnectionPurpose::Follow,
            ),
            shared,
            asking,
            position: Position::default(),
            silent: 0,
            forgetful: false,
            synced: false,
            sure: None,
            unreplicated: UnreplicatedChanges::default(),
            doubts_whole: false,
            put_off: 0,
            recount: None,
            unraised: None,
            trail: Trail::default(),
            told: Moment::default(),
        }
    }

    /// Follows the partition until the task is aborted.
    pub async fn run(mut self) {
        let _critical = CriticalTask("a follower of the store");
        let mut step = Step::Sync(None);
        let mut pause = PAUSE_MIN;
        loop {
            let follows = matches!(step, Step::Follow);
            let outcome = match step {
                Step::Sync(why) => self.sync(why).await,
                Step::Resume => self.resume().await,
                Step::Follow => self.follow().await,
            };
            match outcome {
                Ok(next) => {
                    // Only following is possible: other commands may fail where they are not allowed.
                    if follows {
                        self.shared.health.found(self.partition);
                        pause = PAUSE_MIN;
                    }
                    step = next;
                }
                Err(error) => {
                    if self.synced {
                        self.shared.followed.note(self.partition, 0);
                    }
                    self.shared.health.lost(self.partition, &error);
                    self.link.cut();
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    step = match step {
                        Step::Sync(why) => Step::Sync(why),
                        Step::Resume | Step::Follow => Step::Resume,
                    };
                }
            }
        }
    }

    async fn state(&mut self, entry: &str) -> Result<PartitionState, Error> {
        let mut link = self.link.get().await?;
        let state = PartitionState::of(&mut link, self.partition, entry)
            .await
            .map_err(|error| self.link.failed(&error))?;
        let of = || {
            format!(
                "partition {} of {}",
                self.partition,
                self.shared.primaries.place()
            )
        };
        if !state.epoch.is_empty() && state.ring != self.shared.mark {
            return Err(Error::ForeignRing(of()));
        }
        if !state.epoch.is_empty() && state.format != FORMAT {
            return Err(Error::Format(of(), state.format, FORMAT));
        }
        Ok(state)
    }

    /// Puts every word of the partition onto the board. The stream's position is noted first, so that concurrent changes are
    /// read afterwards.
    async fn sync(&mut self, why: Option<StoreFault>) -> Result<Step, Error> {
        let started = Instant::now();
        let asked = Moment::now();
        let entry = match self.synced {
            true => self.position.entry.clone(),
            false => "0-0".to_owned(),
        };
        let mut state = self.state(&entry).await?;
        let top = self.shared.board.top(self.partition);
        let was_raised = self.unraised.is_none();
        if self.synced {
            // Numbers of another epoch say nothing about this one.
            self.shared.followed.note(self.partition, 0);
            let went_back = why == Some(StoreFault::Behind) || self.unraised == Some(true);
            if went_back || state.top < top {
                let raised = self.raise(top, went_back).await?;
                self.unraised = (!raised).then_some(went_back);
                state = self.state(&entry).await?;
            }
        }
        let (_, sure) = self.committed(asked).await?;
        if !sure && self.put_off < PUT_OFF_MAX {
            // The primary may be about to be replaced: what is read whole from it could not be rolled back.
            self.put_off += 1;
            return Ok(Step::Sync(why));
        }
        self.put_off = 0;
        // A mere comparison must not skip changes: an entry tells what its change was based on. Without that a cleared reason
        // looks lost.
        let goes_on = self.synced
            && why.is_none()
            && state.epoch == self.position.epoch
            && (state.held || state.seq == self.position.seq);
        if !goes_on {
            self.position = Position {
                epoch: state.epoch.clone(),
                seq: state.seq,
                entry: state.last.clone(),
            };
        }
        self.silent = 0;
        // The whole reading shows which unreplicated changes survived, whichever server is primary now.
        self.sure = None;
        self.doubts_whole = false;
        self.unreplicated.on_primary_lost();
        // Residents without a later change may be affected: a whole reading clears no red until the store was seen to have
        // everything that this board knows.
        let lacks = self.shared.metrics.ahead[self.partition].load(Relaxed) > 0
            || self.shared.board.retained_in(self.partition) > 0;
        let forgot = matches!(
            why,
            Some(StoreFault::Emptied | StoreFault::Replaced | StoreFault::Behind)
        );
        let forgot = forgot || !was_raised || self.unraised.is_some();
        self.forgetful = forgot || self.forgetful && lacks;
        let reading = SnapshotPolicy {
            wary: self.forgetful,
            // While replicas are missing, it is unknown since when they are.
            recent: match sure {
                true => state.top + 1,
                false => state.acked + 1,
            },
            top,
            since: match forgot && self.synced {
                true => self.since(&state).await?,
                false => Since::default(),
            },
        };
        let read = self.read_vouched(&state, reading, asked).await;
        let Ok(Some((read, vouched))) = read else {
            // The store became another or an older one during the reading, or no majority vouches for it.
            let mut why = Some(StoreFault::Replaced);
            if !self.synced {
                self.shared.board.discard_unconfirmed(self.partition);
                why = None;
            }
            return read.map(|_| Step::Sync(why));
        };
        // The board has everything now; later changes are counted by the store alone. What may fail comes before the partition is
        // confirmed: one that was confirmed and not synced would be discarded after it was shown.
        let here = self.shared.board.residents_in(self.partition);
        let counted = self.state("0-0").await?.count;
        self.settle();
        if !goes_on && self.unraised.is_none() {
            self.trail.begin(&self.position.entry, self.position.seq);
        }
        self.shared.followed.note(self.partition, self.position.seq);
        if self.position.seq == state.seq {
            self.confirm(vouched.min(asked));
        }
        if read.damaged > 0 {
            tell_damaged(&self.shared.metrics, "words", read.damaged);
        }
        // Records are never removed, so a partition has at least those that it had counted before it was read.
        if let Some(missing @ 1..) = state.count.checked_sub(read.residents) {
            tell_damaged(&self.shared.metrics, "missing records", missing);
        }
        let missing = here.saturating_sub(counted);
        let ahead = read.ahead + missing;
        let known = self.shared.metrics.ahead[self.partition].swap(ahead, Relaxed);
        self.recount = (ahead > 0 || self.unraised.is_some())
            .then(|| Instant::now() + RECOUNT_PAUSE.max(started.elapsed() * RECOUNT_TIMES));
        if let Some(fault) = why {
            self.shared.metrics.fault(fault);
            tracing::warn!(
                partition = self.partition,
                why = fault.name(),
                residents = read.residents,
                "a partition was read again as a whole"
            );
        }
        if ahead > known {
            tracing::error!(
                partition = self.partition,
                residents = ahead,
                "the store has lost acknowledged changes: this board knows more about these residents; sources must feed their data again"
            );
        } else if ahead == 0 && known > 0 {
            tracing::info!(
                partition = self.partition,
                "the store again has everything that this board knows"
            );
        }
        if !std::mem::replace(&mut self.synced, true) {
            self.shared.synced.send_modify(|count| *count += 1);
        }
        Ok(Step::Follow)
    }

    /// Raises the store's versions above those that this board knows, before a whole reading: its clock may be wrong and its
    /// data lost. A store that went back gets another epoch, which nodes that slept meanwhile notice. Returns false if the
    /// server takes no writes; then it is read all the same, and raised at the next reading.
    async fn raise(&mut self, top: u64, went_back: bool) -> Result<bool, Error> {
        let mut epoch = [0; 8];
        aws_lc_rs::rand::fill(&mut epoch).expect("the system gives random bytes");
        let mut link = self.link.get().await?;
        let renewed = RAISE
            .key(partition::meta(self.partition))
            .arg(top)
            .arg(match went_back {
                true => &self.position.epoch[..],
                false => &[],
            })
            .arg(&epoch)
            .invoke_async(&mut link)
            .await;
        match renewed {
            Ok(0u64) => {}
            Ok(_) => tracing::warn!(
                partition = self.partition,
                "the store went back to an earlier state: the partition has another epoch from now on"
            ),
            Err(error) if takes_no_writes(&error) => {
                tracing::warn!(partition = self.partition, %error, "the server takes no writes: the partition is read all the same, and its versions are raised at a later reading");
                return Ok(false);
            }
            Err(error) => return Err(self.link.failed(&error)),
        }
        Ok(true)
    }

    /// Returns the changes since the store diverged from what this node read of it.
    async fn since(&mut self, state: &PartitionState) -> Result<Since, Error> {
        let mut link = self.link.get().await?;
        let stream = partition::stream(self.partition);
        let parted = self.trail.parted(&mut link, &stream).await;
        let parted = parted.map_err(|error| self.link.failed(&error))?;
        let Some(mut after) = parted else {
            // The time when this node last knew everything, by the server's clock.
            let silent = Moment::now().since(self.told).as_millis() as u64;
            return Ok(Since::From(state.now.saturating_sub(silent)));
        };
        let mut since = Since::Told(HashMap::new());
        loop {
            let entries: StreamRangeReply = redis::cmd("XRANGE")
                .arg(&stream)
                .arg(format!("({after}"))
                .arg("+")
                .arg("COUNT")
                .arg(ENTRIES_MAX)
                .query_async(&mut link)
                .await
                .map_err(|error| self.link.failed(&error))?;
            let Some(last) = entries.ids.last() else {
                return Ok(since);
            };
            after = last.id.clone();
            for entry in &entries.ids {
                let words: Vec<u8> = entry.get("w").unwrap_or_default();
                // Entries that no node wrote prove nothing.
                for told in scripts::told(&words, &self.shared.tags).flatten() {
                    since.add(&told);
                }
            }
        }
    }

    /// Records that the store was alive at `now` and that the board has everything in it.
    fn confirm(&mut self, now: Moment) {
        self.told = now.max(self.told);
        self.shared.board.confirm_partition(self.partition, now);
    }

    /// Reads the partition whole. Returns the outcome and the moment up to which a majority vouches for the server; None as for
    /// [`Follower::read_whole`].
    async fn read_vouched(
        &mut self,
        state: &PartitionState,
        reading: SnapshotPolicy,
        asked: Moment,
    ) -> Result<Option<(SnapshotOutcome, Moment)>, Error> {
        let Some(read) = self.read_whole(state, reading).await? else {
            return Ok(None);
        };
        let (vouched, sure) = self.committed(asked).await?;
        if sure {
            self.mark_replicated();
        } else {
            self.sure = Some(self.position.clone());
            self.doubts_whole = true;
        }
        Ok(Some((read, vouched)))
    }

    /// Reads the partition whole. Returns None if it became another meanwhile, or was read from a server that is behind.
    async fn read_whole(
        &mut self,
        state: &PartitionState,
        reading: SnapshotPolicy,
    ) -> Result<Option<SnapshotOutcome>, Error> {
        let mut all = SnapshotOutcome::default();
        let mut pages = JoinSet::new();
        let mut next = 0;
        let end = 1u64 << state.depth;
        loop {
            while next < end && pages.len() < PAGES_AT_ONCE {
                let count = PAGE_BUCKETS.min(end - next);
                let (asking, partition, depth) = (self.asking.clone(), self.partition, state.depth);
                let first = next;
                pages.spawn(
                    async move { page(&asking, partition, depth, first, count, false).await },
                );
                next += count;
            }
            let Some(page) = pages.join_next().await else {
                return Ok(Some(all));
            };
            let (epoch, seq, words) = page.map_err(|error| Error::Failed(error.into()))??;
            if epoch != state.epoch || seq < state.seq {
                return Ok(None);
            }
            let mut count = 0;
            for (id, word) in scripts::words(&words, &self.shared.tags)? {
                count += 1;
                let Some(word) = word else {
                    // The board keeps what it knows of the resident; if it knows nothing, the resident gets no answer.
                    self.shared.board.post(id, Word::doubtful());
                    all.damaged += 1;
                    continue;
                };
                let lost = self
                    .unreplicated
                    .read(&self.shared.board, id, word, &reading);
                all.ahead += u64::from(lost);
            }
            all.residents += count;
            if !self.synced {
                (self.shared.progress)(count);
            }
            // Posting a page takes some hundred microseconds; other tasks run in between.
            tokio::task::yield_now().await;
        }
    }

    /// Continues after a cut connection, if the stream still has the last position.
    async fn resume(&mut self) -> Result<Step, Error> {
        if self.doubts_whole {
            return Ok(Step::Sync(None));
        }
        let entry = self.position.entry.clone();
        let state = self.state(&entry).await?;
        // Even if the last entry exists: two primaries may each have made one in the same millisecond.
        if state.epoch == self.position.epoch
            && let Some(sure) = self.sure.take()
            && state.seq >= sure.seq
        {
            tracing::info!(
                partition = self.partition,
                entries = self.position.seq.saturating_sub(sure.seq),
                "the connection was cut: entries that replicas may not have had are read again"
            );
            self.position = sure;
            self.unreplicated.on_primary_lost();
            return Ok(Step::Follow);
        }
        let fault = if state.epoch != self.position.epoch {
            // The very first write creates the first epoch.
            match (self.position.epoch.is_empty(), state.epoch.is_empty()) {
                (true, _) => None,
                (false, true) => Some(StoreFault::Emptied),
                (false, false) => Some(StoreFault::Replaced),
            }
        } else if state.held || state.seq == 0 && self.position.seq == 0 {
            return Ok(Step::Follow);
        } else if state.seq < self.position.seq || state.forked {
            Some(StoreFault::Behind)
        } else {
            Some(StoreFault::Trimmed)
        };
        Ok(Step::Sync(fault))
    }

    fn settle(&mut self) {
        let lost = self.unreplicated.roll_back_rest(&self.shared.board);
        if lost > 0 {
            tracing::warn!(
                partition = self.partition,
                residents = lost,
                "unacknowledged changes were lost with their primary: their senders got no acknowledgement"
            );
        }
    }

    /// Waits until enough replicas have everything that this connection has seen. If they do not in time, a primary that voters
    /// named since then is believed without them: the missing one may be gone for good. Returns up to when the primary is
    /// vouched for, and whether replicas have it.
    async fn committed(&mut self, read: Moment) -> Result<(Moment, bool), Error> {
        let another =
            || Error::Away("another primary was named while this one was read".to_owned());
        let mut replicas = 0;
        if self.shared.replicas > 0 {
            // A new connection might lead to another server.
            let mut link = self.link.held().ok_or_else(another)?;
            // Waits for everything written by the command before, by whichever node.
            let (role, had): (Value, u32) = redis::pipe()
                .cmd("ROLE")
                .cmd("WAIT")
                .arg(self.shared.replicas)
                .arg(COMMIT_WAIT.as_millis() as u64)
                .query_async(&mut link)
                .await
                .map_err(|error| self.link.failed(&error))?;
            if !is_primary(&role) {
                return Err(another());
            }
            replicas = had;
        }
        let vouched = self.link.vouched(Moment::now()).ok_or_else(another)?;
        if replicas < self.shared.replicas && vouched < read {
            return Err(Error::NotReplicated(replicas, self.shared.replicas));
        }
        Ok((vouched, replicas >= self.shared.replicas))
    }

    /// Records that enough replicas have everything that was read.
    fn mark_replicated(&mut self) {
        self.sure = None;
        self.doubts_whole = false;
        self.unreplicated.mark_replicated(&self.shared.board);
    }

    /// Handles one reply of the stream.
    async fn follow(&mut self) -> Result<Step, Error> {
        type Reply = (
            Option<StreamReadReply>,
            (Option<Vec<u8>>, Option<u64>),
            Value,
        );
        if self.recount.is_some_and(|at| at <= Instant::now()) {
            return Ok(Step::Sync(None));
        }
        // On another connection the stream may be another one, so its next entry need not follow the last one here.
        let Some(mut link) = self.link.held() else {
            return Ok(Step::Resume);
        };
        let sent = Moment::now();
        let (news, (epoch, seq), role): Reply = redis::pipe()
            .cmd("XREAD")
            .arg("COUNT")
            .arg(ENTRIES_MAX)
            .arg("BLOCK")
            .arg(BLOCK.as_millis() as u64)
            .arg("STREAMS")
            .arg(partition::stream(self.partition))
            .arg(&self.position.entry)
            // On the same connection after the reply: tells whose stream it was.
            .cmd("HMGET")
            .arg(partition::meta(self.partition))
            .arg("epoch")
            .arg("seq")
            .cmd("ROLE")
            .query_async(&mut link)
            .await
            .map_err(|error| self.link.failed(&error))?;
        if !is_primary(&role) {
            return Err(Error::Away("the primary has become a replica".to_owned()));
        }
        let entries = news.map_or(Vec::new(), |news| {
            news.keys.into_iter().flat_map(|key| key.ids).collect()
        });
        let epoch = epoch.unwrap_or_default();
        let seq = seq.unwrap_or_default();
        if self.position.epoch.is_empty() {
            self.position.epoch = epoch.clone();
        }
        let count = entries.len();
        let mut sure = true;
        if count > 0 {
            sure = self.committed(sent).await?.1;
            if sure || self.unreplicated.pending().iter().sum::<usize>() > UNSURE_MAX {
                self.mark_replicated();
            }
            if !sure && self.sure.is_none() {
                self.sure = Some(self.position.clone());
            }
        }
        let mut gap = false;
        let mut read = Vec::with_capacity(count);
        for entry in entries {
            let number: u64 = entry.get("n").unwrap_or_default();
            let words: Vec<u8> = entry.get("w").unwrap_or_default();
            // Posted whatever its number: here the entry tells what it was based on, which a whole reading does not.
            let posted = self.post(&words, sure);
            gap |= number != self.position.seq + 1 || posted.is_err();
            self.position.seq = number;
            self.position.entry = entry.id;
            read.push((self.position.entry.clone(), number, words));
        }
        if !gap && epoch == self.position.epoch {
            self.shared.followed.note(self.partition, self.position.seq);
            // Versions of a store that could not be raised may be below those of an earlier epoch on the board.
            for (entry, number, words) in read.iter().filter(|_| self.unraised.is_none()) {
                self.trail.add(entry, *number, words);
            }
        }
        if epoch != self.position.epoch {
            return Ok(Step::Sync(Some(match epoch.is_empty() {
                true => StoreFault::Emptied,
                false => StoreFault::Replaced,
            })));
        }
        if seq < self.position.seq {
            return Ok(Step::Sync(Some(StoreFault::Behind)));
        }
        // Newer entries may have come between the two replies; the next reply has them.
        self.silent = match count == 0 && seq > self.position.seq {
            true => self.silent + 1,
            false => 0,
        };
        if gap || self.silent > 1 {
            return Ok(Step::Sync(Some(StoreFault::Trimmed)));
        }
        if count < ENTRIES_MAX && self.silent == 0 {
            let Some(vouched) = self.link.vouched(sent) else {
                // Another primary was named meanwhile, and may have acknowledged what this one does not have.
                return Ok(Step::Resume);
            };
            if sent.since(vouched) > VOUCH_LIFE {
                return Err(Error::Away(
                    "no majority vouches for this primary any more".to_owned(),
                ));
            }
            self.settle();
            self.confirm(vouched);
            if count > 0 {
                tokio::time::sleep(GATHER).await;
            }
        }
        Ok(Step::Follow)
    }

    fn post(&mut self, words: &[u8], sure: bool) -> Result<(), Error> {
        let now = Time::now();
        for told in scripts::told(words, &self.shared.tags) {
            let told = told.inspect_err(|error| {
                if let Error::Damaged(what) = error {
                    tell_damaged(&self.shared.metrics, what, 1);
                }
            })?;
            let posted = self
                .unreplicated
                .apply_change(&self.shared.board, &told, sure);
            if posted == PostOutcome::Up {
                let took = now.since(Time(told.word.version()));
                self.shared.metrics.change_times.count(took);
                self.shared.metrics.last_change.touch();
            }
        }
        Ok(())
    }
}

/// Returns whether the error is a server's refusal of writes in its present state, in which it can be read.
fn takes_no_writes(error: &redis::RedisError) -> bool {
    matches!(
        error.code(),
        Some("OOM" | "MISCONF" | "NOREPLICAS" | "READONLY")
    )
}

/// Outcome of a whole reading.
#[derive(Default)]
struct SnapshotOutcome {
    residents: u64,
    /// Residents of whom the board knows more than the store.
    ahead: u64,
    /// Residents with damaged words.
    damaged: u64,
}

/// Reads a page of a partition: epoch and seq of the partition, and the contents. See `read.lua`.
///
/// # Errors
///
/// The store fails or does not answer in time.
pub async fn page(
    asking: &Mutex<PrimaryConnection>,
    partition: usize,
    depth: u32,
    first: u64,
    count: u64,
    whole: bool,
) -> Result<(Vec<u8>, u64, Vec<u8>), Error> {
    let mut link = asking.lock().await.get().await?;
    let read = READ
        .key(partition::meta(partition))
        .arg(depth)
        .arg(first)
        .arg(count)
        .arg(u8::from(whole))
        .invoke_async(&mut link)
        .await;
    match read {
        Ok(read) => Ok(read),
        Err(error) => Err(asking.lock().await.failed(&error)),
    }
}
