//! What keeps one partition of the board true: it reads the partition whole, then follows its stream, and reads it whole
//! again wherever the stream cannot have told everything.
//!
//! Each entry carries a number of its own, one more than that of the entry before. A number that is left out, a partition
//! that is another (its epoch), fewer entries than were read, more than the stream gives: each is a gap. Words are fenced by
//! version wherever they come from, so reading whole may run beside anything.

use super::health::Health;
use super::partition;
use super::primaries::{BLOCK, Link, Primaries, Purpose, is_primary};
use super::scripts::{self, FORMAT, READ, State};
use crate::board::{Board, Posted};
use crate::clock::Time;
use crate::meters::{Fault, StoreTally};
use crate::store::Error;
use redis::Value;
use redis::streams::StreamReadReply;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

/// Entries that one reply may bring; one that brings as many may not have brought all.
const ENTRIES_MAX: usize = 64;

/// After a reply with news, so that under many changes each reply brings several.
const GATHER: Duration = Duration::from_millis(10);

/// Between tries to reach a store that is lost, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A primary that nobody vouches for any more is believed for so long.
const VOUCH_LIFE: Duration = Duration::from_secs(3);

/// Buckets that one page takes in, some fifty residents each: a millisecond of Redis's time.
const PAGE_BUCKETS: u64 = 32;

/// Pages of one partition that are asked for at once.
const PAGES_AT_ONCE: usize = 4;

/// What the followers of all partitions share.
pub struct Shared {
    pub primaries: Arc<Primaries>,
    pub board: Arc<Board>,
    pub tally: Arc<StoreTally>,
    pub health: Arc<Health>,
    pub mark: [u8; 16],
    /// How many partitions have been read whole.
    pub synced: watch::Sender<usize>,
    pub progress: Arc<dyn Fn(u64) + Send + Sync>,
}

/// How far a partition has been read.
#[derive(Clone, Debug, Default)]
struct Position {
    epoch: Vec<u8>,
    seq: u64,
    /// Of the last entry read.
    entry: String,
}

enum Step {
    /// Read the partition whole; None: for the first time.
    Sync(Option<Fault>),
    /// See whether the stream goes on where we stopped.
    Resume,
    Follow,
}

pub struct Follower {
    partition: usize,
    shared: Arc<Shared>,
    link: Link,
    asking: Arc<Mutex<Link>>,
    position: Position,
    /// Replies without an entry although the partition has newer ones.
    silent: u32,
    /// The store forgot once: what is read whole from it no longer takes a red away.
    forgetful: bool,
    synced: bool,
}

impl Follower {
    /// `asking` is the link for pages, which others use too.
    pub fn new(partition: usize, shared: Arc<Shared>, asking: Arc<Mutex<Link>>) -> Follower {
        Follower {
            partition,
            link: Link::new(shared.primaries.clone(), partition, Purpose::Follow),
            shared,
            asking,
            position: Position::default(),
            silent: 0,
            forgetful: false,
            synced: false,
        }
    }

    /// Never ends by itself.
    pub async fn run(mut self) {
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
                    // Only who follows has been found: another command may be refused where the others are not.
                    if follows {
                        self.shared.health.found(self.partition);
                        pause = PAUSE_MIN;
                    }
                    step = next;
                }
                Err(error) => {
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

    async fn state(&mut self, entry: &str) -> Result<State, Error> {
        let mut link = self.link.get().await?;
        let state = State::of(&mut link, self.partition, entry)
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

    /// Posts every word of the partition. Where the stream stands is noted before, so that what changes meanwhile is read after.
    async fn sync(&mut self, why: Option<Fault>) -> Result<Step, Error> {
        let before = self.shared.board.residents_in(self.partition);
        let asked = Time::now();
        let state = self.state("0-0").await?;
        self.position = Position {
            epoch: state.epoch.clone(),
            seq: state.seq,
            entry: state.last.clone(),
        };
        self.silent = 0;
        self.forgetful |= matches!(why, Some(Fault::Emptied | Fault::Replaced));
        let wary = self.forgetful || why == Some(Fault::Behind);
        let Some(read) = self.read_whole(&state, wary).await? else {
            // It became another, or an older one, while it was read.
            return Ok(Step::Sync(Some(Fault::Replaced)));
        };
        if let Some(vouched) = self.link.vouched(asked) {
            let nth = self.partition;
            self.shared.board.confirm_sixteenth(nth, vouched);
        }
        let missing = before.saturating_sub(self.state("0-0").await?.count);
        let ahead = read.ahead + missing;
        self.shared.tally.ahead[self.partition].store(ahead, Relaxed);
        if let Some(fault) = why {
            self.shared.tally.fault(fault);
            tracing::warn!(
                partition = self.partition,
                why = fault.name(),
                residents = read.residents,
                "a partition was read anew"
            );
        }
        if ahead > 0 {
            tracing::error!(
                partition = self.partition,
                residents = ahead,
                "the store has lost what it acknowledged: this board knows more of these residents; feed again what sources have"
            );
        }
        if !std::mem::replace(&mut self.synced, true) {
            self.shared.synced.send_modify(|count| *count += 1);
        }
        Ok(Step::Follow)
    }

    /// None if the partition became another meanwhile, or was read from a server that is behind.
    async fn read_whole(&mut self, state: &State, wary: bool) -> Result<Option<Read>, Error> {
        let mut all = Read::default();
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
            for row in scripts::words(&words) {
                let (id, word) = row?;
                let posted = match wary {
                    true => self.shared.board.follow(id, word, 0),
                    false => self.shared.board.post(id, word),
                };
                all.ahead += u64::from(posted == Posted::Behind);
                count += 1;
            }
            all.residents += count;
            if !self.synced {
                (self.shared.progress)(count);
            }
            // A page is some hundred microseconds of posting; others come between.
            tokio::task::yield_now().await;
        }
    }

    /// After a connection was lost: goes on where it stopped, if the stream still knows that place.
    async fn resume(&mut self) -> Result<Step, Error> {
        let entry = self.position.entry.clone();
        let state = self.state(&entry).await?;
        let fault = if state.epoch != self.position.epoch {
            // The first write of all makes the first epoch.
            match (self.position.epoch.is_empty(), state.epoch.is_empty()) {
                (true, _) => None,
                (false, true) => Some(Fault::Emptied),
                (false, false) => Some(Fault::Replaced),
            }
        } else if state.held || state.seq == 0 && self.position.seq == 0 {
            return Ok(Step::Follow);
        } else if state.seq < self.position.seq || state.forked {
            Some(Fault::Behind)
        } else {
            Some(Fault::Trimmed)
        };
        Ok(Step::Sync(fault))
    }

    /// One reply of the stream.
    async fn follow(&mut self) -> Result<Step, Error> {
        type Reply = (
            Option<StreamReadReply>,
            (Option<Vec<u8>>, Option<u64>),
            Value,
        );
        let mut link = self.link.get().await?;
        let sent = Time::now();
        let (news, (epoch, seq), role): Reply = redis::pipe()
            .cmd("XREAD")
            .arg("COUNT")
            .arg(ENTRIES_MAX)
            .arg("BLOCK")
            .arg(BLOCK.as_millis() as u64)
            .arg("STREAMS")
            .arg(partition::stream(self.partition))
            .arg(&self.position.entry)
            // Behind the reply, on the same connection: whose stream that was.
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
        let mut gap = false;
        for entry in entries {
            let number: u64 = entry.get("n").unwrap_or_default();
            let words: Vec<u8> = entry.get("w").unwrap_or_default();
            // Posted whatever its number: what it follows is known here and not where it is read whole.
            let posted = self.post(&words);
            gap |= number != self.position.seq + 1 || posted.is_err();
            self.position.seq = number;
            self.position.entry = entry.id;
        }
        if epoch != self.position.epoch {
            return Ok(Step::Sync(Some(match epoch.is_empty() {
                true => Fault::Emptied,
                false => Fault::Replaced,
            })));
        }
        if seq < self.position.seq {
            return Ok(Step::Sync(Some(Fault::Behind)));
        }
        // Newer entries may have come between the two replies; they are there at the next.
        self.silent = match count == 0 && seq > self.position.seq {
            true => self.silent + 1,
            false => 0,
        };
        if gap || self.silent > 1 {
            return Ok(Step::Sync(Some(Fault::Trimmed)));
        }
        if count < ENTRIES_MAX && self.silent == 0 {
            let Some(vouched) = self.link.vouched(sent) else {
                // Another was named since we asked, and may have acknowledged what this one never heard of.
                return Ok(Step::Resume);
            };
            if sent.since(vouched) > VOUCH_LIFE {
                return Err(Error::Away(
                    "no majority vouches for this primary any more".to_owned(),
                ));
            }
            self.shared.board.confirm_sixteenth(self.partition, vouched);
            if count > 0 {
                tokio::time::sleep(GATHER).await;
            }
        }
        Ok(Step::Follow)
    }

    fn post(&self, words: &[u8]) -> Result<(), Error> {
        let now = Time::now();
        for told in scripts::told(words)? {
            let posted = self.shared.board.follow(told.id, told.word, told.before);
            if posted == Posted::Up {
                let took = now.since(Time(told.word.version()));
                self.shared.tally.change_times.count(took);
            }
        }
        Ok(())
    }
}

/// What reading whole found.
#[derive(Default)]
struct Read {
    residents: u64,
    /// Of whom the board knows more than the store.
    ahead: u64,
}

/// A stretch of a partition: epoch and seq of the partition, and what is in the stretch. See `read.lua`.
pub async fn page(
    asking: &Mutex<Link>,
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
