//! The thread that writes to the embedded store: it commits what waits, together.

use super::commit::commit;
use super::fence::CommitNote;
use super::papers;
use super::reseal;
use super::rows::shorten;
use super::slot::DatabaseSlot;
use crate::board::Board;
use crate::clock::Moment;
use crate::meters::StoreMetrics;
use crate::person::Identity;
use crate::seal::RestSeal;
use crate::store::change::{Change, ChangeKind, ChangeOutcome};
use crate::store::error::{Error, tell_damaged};
use std::cell::RefCell;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Interval at which an idle writer confirms that the store works. It is far below `stale_after`.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Pause between attempts to open a failed file, which may include a repair.
const REOPEN_PAUSE: Duration = Duration::from_secs(2);

/// Changes in one commit; the rest waits for the next one.
const COMMIT_CHANGES_MAX: usize = 65_536;

/// The sender for the result of a step of sealing anew.
type ResealReply = oneshot::Sender<Result<reseal::ResealStep, Error>>;

/// What the writer is asked to do.
pub(super) enum Job {
    Apply(CommitBatch),
    /// Papers to remove, and the sender for the result.
    Remove(Vec<papers::PaperRowKey>, oneshot::Sender<Result<(), Error>>),
    /// Seal some rows anew from this place on; the result goes to the sender.
    Reseal(reseal::ResealPlace, RestSeal, ResealReply),
    Close,
}

/// Changes of one caller, and the sender for their outcomes.
type CommitBatch = (
    Vec<Change>,
    oneshot::Sender<Result<Vec<ChangeOutcome>, Error>>,
);

/// The only thread that writes.
pub(super) struct CommitWriter {
    pub(super) slot: Arc<DatabaseSlot>,
    pub(super) board: Arc<Board>,
    pub(super) metrics: Arc<StoreMetrics>,
    pub(super) home_bits: u32,
    pub(super) note: RefCell<CommitNote>,
    /// If false, nothing comes onto the board.
    pub(super) is_believed: bool,
}

impl CommitWriter {
    /// Commits waiting changes together, puts them onto the board, acknowledges them, and confirms that the store works.
    pub(super) fn run(&self, jobs: &mpsc::Receiver<Job>) {
        let mut well = true;
        let mut reopen_at = Instant::now();
        self.confirm();
        loop {
            let mut group = Vec::new();
            let mut changes = 0;
            let (mut closing, mut worked) = (false, !well);
            let mut next = match jobs.recv_timeout(HEARTBEAT) {
                Ok(job) => Some(job),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            while let Some(job) = next {
                match job {
                    Job::Apply(batch) => {
                        changes += batch.0.len();
                        group.push(batch);
                    }
                    Job::Remove(past, done) => {
                        let _ = done.send(self.slot.with(|db| papers::remove(db, &past)));
                    }
                    Job::Reseal(place, seal, done) => {
                        let _ = done.send(self.reseal(&seal, place));
                    }
                    Job::Close => closing = true,
                }
                worked = true;
                next = (!closing && changes < COMMIT_CHANGES_MAX)
                    .then(|| jobs.try_recv().ok())
                    .flatten();
            }
            // After a failure the file is reopened; the board is current only once it takes a commit.
            if !group.is_empty() || !well {
                let now = Instant::now();
                if !well && now >= reopen_at {
                    reopen_at = now + REOPEN_PAUSE;
                    match self.recover() {
                        Ok(()) => {
                            tracing::info!(
                                "the store is available again: its file was opened again and took a commit"
                            );
                            well = true;
                        }
                        Err(error) => tracing::debug!(%error, "the store is still unavailable"),
                    }
                }
                if let Err(error) = self.commit(group)
                    && std::mem::take(&mut well)
                {
                    tracing::error!(%error, "the store is unavailable: nothing can be written");
                }
            }
            if worked {
                self.slot.writes.fetch_add(1, Relaxed);
            }
            if well {
                self.confirm();
            }
            if closing {
                self.note.borrow_mut().flush();
                return;
            }
            self.note.borrow_mut().look();
        }
    }

    fn reseal(
        &self,
        seal: &RestSeal,
        place: reseal::ResealPlace,
    ) -> Result<reseal::ResealStep, Error> {
        let tags = &self.slot.tags;
        let done = self.slot.with(|db| reseal::step(db, tags, seal, place));
        let (step, commits) = done?;
        if let Some(commits) = commits {
            self.note.borrow_mut().committed(commits);
        }
        Ok(step)
    }

    /// Confirms that the board is current now.
    fn confirm(&self) {
        if self.is_believed {
            self.board.confirm(Moment::now());
        }
    }

    /// Reopens the file and puts its contents onto the board. A failed commit may have reached the disk and not the board: sent
    /// again it changes nothing, so only this brings it there.
    pub(super) fn recover(&self) -> Result<(), Error> {
        self.slot.reopen()?;
        if !self.is_believed {
            return Ok(());
        }
        self.slot.fill(&self.board, 0..=u64::MAX, &|_| ())
    }

    /// Commits a group. An error concerns the store, not a single change.
    pub(super) fn commit(&self, group: Vec<CommitBatch>) -> Result<(), Error> {
        let started = Instant::now();
        let (batches, replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let lengths: Vec<usize> = batches.iter().map(Vec::len).collect();
        let changes: Vec<(Identity, ChangeKind)> = batches
            .into_iter()
            .flatten()
            .map(|change| (shorten(change.who, self.home_bits), change.what))
            .collect();
        let count = changes.len();
        match self.slot.with(|db| commit(db, &self.slot.tags, changes)) {
            Ok(committed) => {
                if committed.damaged > 0 {
                    tell_damaged(&self.slot.metrics, "records", committed.damaged);
                }
                if self.is_believed {
                    for (id, word) in &committed.posts {
                        self.board.post(*id, *word);
                    }
                }
                if let Some(commits) = committed.commits {
                    self.note.borrow_mut().committed(commits);
                }
                self.metrics.commit_times.record(started.elapsed());
                self.metrics.changes.fetch_add(count as u64, Relaxed);
                self.metrics.last_change.touch();
                let mut first = 0;
                for (length, reply) in lengths.into_iter().zip(replies) {
                    let own = first..first + length;
                    first = own.end;
                    // If the caller is gone, the change is done all the same.
                    let _ = reply.send(Ok(committed.outcomes[own].to_vec()));
                }
                Ok(())
            }
            Err(error) => {
                self.metrics.failures.fetch_add(1, Relaxed);
                for reply in replies {
                    let _ = reply.send(Err(Error::Failed(error.to_string().into())));
                }
                Err(error)
            }
        }
    }
}
