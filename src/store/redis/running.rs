//! The Redis store with writers and followers: how changes are handed to its writers, and how a partition is asked.

use super::health::StoreHealth;
use super::opened::OpenedRedis;
use super::partition::PARTITIONS;
use super::writer::{FollowerPositions, PartitionWriter, WriteBatch};
use super::{partition, scripts, writer};
use crate::board::Board;
use crate::clock::Moment;
use crate::meters::StoreMetrics;
use crate::person::Identity;
use crate::status::Word;
use crate::store::change::{Change, ChangeOutcome};
use crate::store::error::{Error, tell_damaged};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

impl OpenedRedis {
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
    pub(super) opened: OpenedRedis,
    pub(super) board: Option<Arc<Board>>,
    pub(super) followed: Arc<FollowerPositions>,
    pub(super) metrics: Arc<StoreMetrics>,
    pub(super) health: Arc<StoreHealth>,
    /// Senders to the writers; empty once the store is closed.
    pub(super) writers: Mutex<Vec<mpsc::Sender<WriteBatch>>>,
    pub(super) ends: Mutex<Vec<JoinHandle<()>>>,
    pub(super) followers: Mutex<Vec<JoinHandle<()>>>,
    /// When replicas were last found missing for each partition, as a [`Moment`]; 0: never.
    replicas_missing: [AtomicU64; PARTITIONS],
    /// Random name of this node in the leases to sweep a partition.
    pub(super) sweeper: [u8; 8],
}

impl Redis {
    /// Returns the identity with a home of fewer bits, for tests that need collisions.
    pub(super) fn shorten(&self, mut who: Identity) -> Identity {
        let bits = self.opened.settings.home_bits;
        if bits < 64 {
            who.home.0 &= (1 << bits) - 1;
        }
        who
    }

    /// Sends changes to the writers, in their order. Their outcomes must be awaited.
    pub(super) async fn submit(&self, changes: Vec<Change>) -> Result<Submitted, Error> {
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
    pub(super) async fn ask<T: redis::FromRedisValue>(
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
    pub(super) async fn asking(
        &self,
        partition: usize,
    ) -> Result<redis::aio::MultiplexedConnection, Error> {
        if self.health.is_lost(partition) {
            return Err(Error::Away("it is lost".to_owned()));
        }
        self.opened.asking[partition].lock().await.get().await
    }

    /// Returns the result of a read, and raises the alarm if the data is damaged.
    pub(super) fn genuine<T>(&self, read: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Damaged(what)) = &read {
            tell_damaged(&self.metrics, what, 1);
        }
        read
    }

    /// Returns the result of a read, unless another primary was named meanwhile.
    pub(super) async fn judged<T>(
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
    pub(super) async fn is_kept(
        &self,
        partition: usize,
        word: Word,
        acked: u64,
    ) -> Result<(), Error> {
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
pub(super) struct Submitted {
    /// Whether each change counts as its event.
    pub(super) counted: Vec<bool>,
    parts: Vec<(Vec<usize>, writer::WriteOutcome)>,
}

impl Submitted {
    /// Returns the outcome of each change; an error if the store failed. Some may then have been applied.
    pub(super) async fn outcome(self) -> Result<Vec<ChangeOutcome>, Error> {
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
