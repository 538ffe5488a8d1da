//! The writer of one partition: sends waiting changes as one script call, waits for replicas, and acknowledges the changes.
//! Before it acknowledges, it puts the results onto the board.

use super::partition;
use super::primaries::{
    ConnectionPurpose, Primaries, PrimaryConnection, REPLICA_WAIT, replicas_in,
};
use super::scripts::{self, Done, FORMAT, ReportedChange, SealedPlan, TAKE};
use super::url::Address;
use crate::board::Board;
use crate::clock::Moment;
use crate::critical::CriticalTask;
use crate::meters::StoreMetrics;
use crate::seal::tags::StatusTags;
use crate::store::error::{Error, tell_damaged};
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Changes in one script call: some milliseconds of Redis's time, and entries of some kilobytes.
const CHANGES_MAX: usize = 512;

/// Batches that wait for a writer; further ones wait outside the queue.
const BATCHES_MAX: usize = 256;

/// Age up to which a majority's naming of the primary allows a write. A fail-over takes longer to begin.
const NAMED_WITHIN: Duration = Duration::from_secs(1);

/// Interval of checks whether a majority named it.
const NAMED_PAUSE: Duration = Duration::from_millis(20);

/// Time in which the board of this node must have a change. After that it is not acknowledged.
const BOARD_WAIT: Duration = Duration::from_secs(2);

/// Interval of checks whether the board has it.
const BOARD_PAUSE: Duration = Duration::from_millis(1);

/// Time after a failure during which changes are refused at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Attempts to plan a write while other nodes write the same partition.
const PLANS_MAX: u32 = 64;

/// Outcome byte in place of `take.lua`'s: the record of the change is damaged.
pub const DAMAGED: u8 = b'd';

/// Outcome byte of `take.lua`: no id near the home is free.
pub const CROWDED: u8 = b'c';

/// Receiver of a batch's outcome: a byte for each change from `take.lua`, or [`DAMAGED`].
pub type WriteOutcome = oneshot::Receiver<Result<Vec<u8>, Error>>;

/// Encoded changes of one caller, and the sender of their [`WriteOutcome`].
pub struct WriteBatch {
    pub changes: Vec<Vec<u8>>,
    pub done: oneshot::Sender<Result<Vec<u8>, Error>>,
}

#[derive(Clone)]
pub struct Settings {
    /// The mark of the key ring.
    pub mark: [u8; 16],
    pub tags: StatusTags,
    /// Replicas that must have a change before it is acknowledged.
    pub replicas: u32,
    /// Changes that the stream keeps.
    pub changes_kept: u64,
}

/// Position of the follower of each partition: the number of the last entry on the board. No writer waits for a follower before
/// its first whole reading.
pub struct FollowerPositions([AtomicU64; partition::PARTITIONS]);

impl Default for FollowerPositions {
    fn default() -> FollowerPositions {
        FollowerPositions([const { AtomicU64::new(u64::MAX) }; partition::PARTITIONS])
    }
}

impl FollowerPositions {
    pub fn note(&self, partition: usize, seq: u64) {
        self.0[partition].store(seq, Relaxed);
    }

    pub fn seq(&self, partition: usize) -> u64 {
        self.0[partition].load(Relaxed)
    }
}

/// Reply of one call of `take.lua`; see there.
struct Reply {
    flags: Vec<u8>,
    told: Vec<u8>,
    seq: u64,
    done: Done,
    plan: Vec<u8>,
    /// Number of replicas that have it.
    replicas: u32,
    /// When the call was sent.
    sent: Moment,
}

/// Outcome of some changes.
struct TakeReply {
    flags: Vec<u8>,
    /// Number of the partition's last entry, if the board lacks any of the changes; None if it has all.
    behind: Option<u64>,
}

pub struct PartitionWriter {
    partition: usize,
    link: PrimaryConnection,
    /// None if this process serves no answers.
    board: Option<Arc<Board>>,
    followed: Arc<FollowerPositions>,
    metrics: Arc<StoreMetrics>,
    settings: Settings,
    failed: Option<(Instant, String)>,
    /// Highest version of this writer that replicas have.
    acked: u64,
    /// Replicas that followed the primary at the last look.
    online: Vec<Address>,
    /// When a former replica was first missing, or the primary became known here.
    missed: Moment,
}

impl PartitionWriter {
    /// Starts the writer. It ends when the sender is dropped and waiting batches are done.
    pub fn start(
        partition: usize,
        primaries: Arc<Primaries>,
        board: Option<Arc<Board>>,
        followed: Arc<FollowerPositions>,
        metrics: Arc<StoreMetrics>,
        settings: Settings,
    ) -> (mpsc::Sender<WriteBatch>, tokio::task::JoinHandle<()>) {
        let (send, waiting) = mpsc::channel(BATCHES_MAX);
        let writer = PartitionWriter {
            partition,
            link: PrimaryConnection::new(primaries, partition, ConnectionPurpose::Write),
            board,
            followed,
            metrics,
            settings,
            failed: None,
            acked: 0,
            online: Vec::new(),
            missed: Moment::default(),
        };
        (send, tokio::spawn(writer.run(waiting)))
    }

    async fn run(mut self, mut waiting: mpsc::Receiver<WriteBatch>) {
        let _critical = CriticalTask("a writer of the store");
        while let Some(first) = waiting.recv().await {
            let mut count = first.changes.len();
            let mut group = vec![first];
            while count < CHANGES_MAX
                && let Ok(next) = waiting.try_recv()
            {
                count += next.changes.len();
                group.push(next);
            }
            // A caller that gave up sends again; skipping its batch loses nothing.
            group.retain(|batch| !batch.done.is_closed());
            self.take(group).await;
        }
    }

    async fn take(&mut self, group: Vec<WriteBatch>) {
        let (changes, replies): (Vec<_>, Vec<_>) = group
            .into_iter()
            .map(|batch| {
                let count = batch.changes.len();
                (batch.changes, (count, batch.done))
            })
            .unzip();
        let changes: Vec<Vec<u8>> = changes.into_iter().flatten().collect();
        let mut flags = Vec::with_capacity(changes.len());
        let mut behind = None;
        let mut outcome = Ok(());
        for part in changes.chunks(CHANGES_MAX) {
            match self.send(part).await {
                Ok(taken) => {
                    flags.extend(taken.flags);
                    behind = taken.behind.or(behind);
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        let (followed, partition) = (self.followed.clone(), self.partition);
        let acknowledge = async move {
            let mut shown = Ok(());
            if let Some(seq) = behind {
                shown = wait_for_board(&followed, partition, seq).await;
            }
            let mut first = 0;
            for (count, done) in replies {
                let own = flags.get(first..first + count);
                first += count;
                let _ = done.send(match (own, &shown, &outcome) {
                    (Some(_), Err(error), _) => Err(again(error)),
                    (Some(own), Ok(()), _) => Ok(own.to_vec()),
                    (None, _, Err(error)) => Err(again(error)),
                    (None, _, Ok(())) => Err(Error::Damaged("a reply")),
                });
            }
        };
        match behind {
            // Entries that another node just wrote arrive by the stream; other callers do not wait for them.
            Some(_) => drop(tokio::spawn(acknowledge)),
            None => acknowledge.await,
        }
    }

    /// Sends one script call, and waits for replicas on the same connection.
    async fn send(&mut self, changes: &[Vec<u8>]) -> Result<TakeReply, Error> {
        let started = Instant::now();
        if let Some((at, why)) = &self.failed
            && at.elapsed() < PAUSE
        {
            return Err(Error::Away(why.clone()));
        }
        let sent = self.try_send(changes).await;
        self.failed = match &sent {
            Err(error) => Some((Instant::now(), error.to_string())),
            Ok(_) => None,
        };
        if sent.is_ok() {
            self.metrics.commit_times.count(started.elapsed());
            self.metrics
                .changes
                .fetch_add(changes.len() as u64, Relaxed);
            self.metrics.last_change.touch();
        } else {
            self.metrics.failures.fetch_add(1, Relaxed);
        }
        sent
    }

    /// Waits until a majority has named this primary at `since` or later. Voters are asked four times a second.
    async fn named_since(&self, since: Moment) -> Result<(), Error> {
        let named = async {
            loop {
                match self.link.vouched(Moment::now()) {
                    Some(named) if named >= since => return true,
                    Some(_) => tokio::time::sleep(NAMED_PAUSE).await,
                    None => return false,
                }
            }
        };
        match tokio::time::timeout(NAMED_WITHIN, named).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Error::Away("no majority names this primary now".to_owned())),
        }
    }

    /// Calls `take.lua`. Returns its reply and the number of replicas that have it. `made` holds the tags of a plan; `is_new`:
    /// the connection is new.
    async fn call(
        &mut self,
        link: &mut MultiplexedConnection,
        changes: &[&Vec<u8>],
        made: &[u8],
        is_new: bool,
    ) -> Result<Reply, Error> {
        let top = self
            .board
            .as_ref()
            .map_or(0, |board| board.top(self.partition));
        let mut epoch = [0; 8];
        aws_lc_rs::rand::fill(&mut epoch).expect("the system gives random bytes");
        let mut pipe = redis::pipe();
        pipe.cmd("EVALSHA")
            .arg(TAKE.get_hash())
            .arg(1)
            .arg(partition::meta(self.partition))
            .arg(&self.settings.mark)
            .arg(FORMAT)
            .arg(&epoch)
            .arg(self.settings.changes_kept)
            .arg(u8::from(self.settings.replicas > 0))
            .arg(top)
            .arg(self.acked)
            .arg(made);
        for change in changes {
            pipe.arg(change);
        }
        // A plan writes nothing for replicas. The first call writes papers only.
        let is_plan = made.is_empty() && !changes.iter().all(|change| scripts::is_paper(change));
        let asked = if is_plan { 0 } else { self.wanted() };
        let sent = Moment::now();
        pipe.cmd("ROLE");
        pipe.cmd("WAIT")
            .arg(asked)
            .arg(REPLICA_WAIT.as_millis() as u64);
        type Answered = (Vec<u8>, Vec<u8>, u64, u64, Vec<u8>);
        let ((flags, told, seq, done, plan), role, mut replicas): (Answered, Value, u32) = pipe
            .query_async(link)
            .await
            .map_err(|error| self.link.failed(&error))?;
        let done = Done::from_number(done, &plan)?;
        let online = replicas_in(&role);
        if is_new || self.online.iter().any(|known| !online.contains(known)) {
            self.missed = sent;
        }
        self.online = online;
        if done == Done::All && self.wanted() > asked && replicas >= asked {
            replicas = redis::cmd("WAIT")
                .arg(self.wanted())
                .arg(REPLICA_WAIT.as_millis() as u64)
                .query_async(link)
                .await
                .map_err(|error| self.link.failed(&error))?;
        }
        if matches!(done, Done::All | Done::Planned) && flags.len() != changes.len() {
            return Err(Error::Damaged("a reply"));
        }
        Ok(Reply {
            flags,
            told,
            seq,
            done,
            plan,
            replicas,
            sent,
        })
    }

    /// Returns the number of replicas to wait for; 0 if none counts.
    fn wanted(&self) -> u32 {
        match self.settings.replicas {
            0 => 0,
            least => least.max(self.online.len() as u32),
        }
    }

    /// Plans and writes, repeatedly if other nodes write meanwhile. Changes of damaged records are left out and marked.
    async fn write(&mut self, changes: &[Vec<u8>]) -> Result<Reply, Error> {
        let mut is_new = self.link.held().is_none();
        let mut link = self.link.get().await?;
        let mut flags = vec![0; changes.len()];
        let mut left: Vec<usize> = (0..changes.len()).collect();
        let mut made = Vec::new();
        let mut overtaken = 0;
        while overtaken < PLANS_MAX {
            let sent: Vec<&Vec<u8>> = left.iter().map(|nth| &changes[*nth]).collect();
            let mut reply = self.call(&mut link, &sent, &made, is_new).await?;
            is_new = false;
            made.clear();
            overtaken += u32::from(reply.done == Done::Overtaken);
            let plan = match reply.done {
                Done::Met(number) => SealedPlan {
                    damaged: vec![number],
                    ..SealedPlan::default()
                },
                Done::All | Done::Planned | Done::Overtaken => {
                    scripts::seal_plan(&reply.plan, &self.settings.tags)?
                }
            };
            if !plan.damaged.is_empty() {
                let count = plan.damaged.len() as u64;
                tell_damaged(&self.metrics, "records", count);
                let met = plan.damaged.iter().filter_map(|number| sent.get(*number));
                // The papers of an owner are separate from the record; either may be damaged alone.
                let met: Vec<(&[u8], bool)> = met
                    .map(|change| (scripts::owner_in(change), scripts::is_paper(change)))
                    .collect();
                for nth in &left {
                    let change = &changes[*nth];
                    if met.contains(&(scripts::owner_in(change), scripts::is_paper(change))) {
                        flags[*nth] = DAMAGED;
                    }
                }
            }
            if reply.done == Done::All {
                for (nth, flag) in left.iter().zip(&reply.flags) {
                    if flags[*nth] != DAMAGED {
                        flags[*nth] = *flag;
                    }
                }
                reply.flags = flags;
                return Ok(reply);
            }
            left.retain(|nth| flags[*nth] != DAMAGED);
            if plan.damaged.is_empty() {
                made = plan.tags;
            }
        }
        Err(Error::Away(
            "other nodes write the same partition without end".to_owned(),
        ))
    }

    async fn try_send(&mut self, changes: &[Vec<u8>]) -> Result<TakeReply, Error> {
        let Reply {
            flags,
            told,
            seq,
            replicas,
            sent,
            ..
        } = self.write(changes).await?;
        // A replaced primary takes changes too, with higher versions than those acknowledged elsewhere meanwhile.
        if replicas < self.settings.replicas {
            return Err(Error::NotReplicated(replicas, self.settings.replicas));
        }
        // An isolated primary may still have a replica with it. If all known replicas have the change, the primary must have
        // been named just now, or after one of them left. If one is silent, it may be the successor, so the primary must be
        // named after the change was sent.
        let is_whole = replicas >= self.wanted();
        let named_within = Moment(sent.0.saturating_sub(NAMED_WITHIN.as_millis() as u64));
        self.named_since(match is_whole {
            true => named_within.max(self.missed),
            false => sent,
        })
        .await?;
        let told: Vec<ReportedChange> =
            scripts::told(&told, &self.settings.tags).collect::<Result<_, _>>()?;
        let highest = told.iter().map(|told| told.word.version()).max();
        self.acked = self.acked.max(highest.unwrap_or_default());
        let Some(board) = &self.board else {
            return Ok(TakeReply {
                flags,
                behind: None,
            });
        };
        // Changes that existed already may have come by another node just before.
        let mut is_behind = flags.contains(&b'0') && self.followed.seq(self.partition) < seq;
        for told in told {
            // Entries in between are in the stream, and may be a forgetful store's view of this resident.
            let known = board.word(told.id).map_or(0, |word| word.version());
            if known == told.context.before {
                board.apply_change(told.id, told.word, told.context);
            } else {
                is_behind |= known < told.word.version();
            }
        }
        Ok(TakeReply {
            flags,
            behind: is_behind.then_some(seq),
        })
    }
}

/// Waits until the board of this node has an entry of the stream and all before it.
async fn wait_for_board(
    followed: &FollowerPositions,
    partition: usize,
    seq: u64,
) -> Result<(), Error> {
    let reached = async {
        while followed.seq(partition) < seq {
            tokio::time::sleep(BOARD_PAUSE).await;
        }
    };
    tokio::time::timeout(BOARD_WAIT, reached)
        .await
        .map_err(|_| Error::Away("the change is not on this node's board yet".to_owned()))
}

/// Returns the error for another caller of the same batch. `NotReplicated` and `ForeignRing` keep their kind; others become `Away`
/// with the same text.
fn again(error: &Error) -> Error {
    match error {
        Error::NotReplicated(got, wanted) => Error::NotReplicated(*got, *wanted),
        Error::ForeignRing(place) => Error::ForeignRing(place.clone()),
        other => Error::Away(other.to_string()),
    }
}
