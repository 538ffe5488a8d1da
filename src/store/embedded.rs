//! The embedded store: one redb file in a directory, with one writer that commits in groups, for one process at a time.
//!
//! Two tables have the resident id as key: `residents` holds the records, `words` the 64 bits for the board, so that a start
//! reads 16 bytes a resident. There is no journal: the writing process also has the only board, and updates it before it
//! acknowledges a change. Papers have their own table.
//!
//! Words and records carry keyed tags that are checked at each read. redb checks its own page checksums only when it repairs a
//! file.

pub mod backup;
pub mod bulk;
mod commit;
pub mod fence;
mod file;
mod open;
mod opened;
pub mod papers;
pub mod reseal;
pub mod rewrite;
mod rows;
mod slot;
mod writer;

pub use file::{FORMAT, Settings, check_ring, is_in, make_private, written_before};
pub use opened::OpenedEmbedded;

use super::change::{Change, ChangeOutcome};
use super::contract::{LocatedRecord, Store, StoreStream};
use super::error::Error;
use super::reseal::{ResealProgress, ResealReport};
use crate::board::Board;
use crate::clock::Time;
use crate::critical::CriticalTask;
use crate::meters::StoreMetrics;
use crate::paper::{Cursor, Paper, PaperKey, PaperKinds, Retention};
use crate::person::{Identity, ResidentId};
use crate::seal::RestSeal;
use crate::status::Word;
use fence::{CommitNote, Disbelief};
use file::{WORDS, count, failed};
use redb::{Database, ReadableDatabase};
use rows::{find, shorten, word_at};
use slot::DatabaseSlot;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use writer::{CommitWriter, Job};

/// Batches that wait for the writer; further ones wait outside the queue.
const BATCHES_WAITING_MAX: usize = 256;

/// Pause between two steps of sealing anew, so that changes come first.
const RESEAL_PAUSE: Duration = Duration::from_millis(5);

impl OpenedEmbedded {
    /// Starts the writer. From now on every acknowledged change is on `board`.
    pub fn start(self, board: Arc<Board>, metrics: Arc<StoreMetrics>) -> Embedded {
        let (jobs, waiting) = mpsc::channel();
        let disbelief = self.disbelief().unwrap_or_else(|error| {
            // If this cannot be read, nothing else in the store can.
            tracing::error!(%error, "it cannot be read whether this store was restored or is an older copy: the node takes it for neither");
            None
        });
        if let Some(why) = disbelief {
            tracing::error!(
                %why,
                "this store is not believed, and no colour is given: feed again everything since a day before the backup or copy was made, stop the node, run `liangma restore --accept` and start the node"
            );
        }
        let slot = Arc::new(DatabaseSlot {
            db: RwLock::new(Some(self.db)),
            settings: self.settings.clone(),
            tags: self.tags,
            metrics: metrics.clone(),
            reopenings: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        });
        let writer = CommitWriter {
            slot: slot.clone(),
            board: board.clone(),
            metrics,
            home_bits: self.settings.home_bits,
            note: RefCell::new(CommitNote::new(&self.settings.folder)),
            is_believed: disbelief.is_none(),
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                let _critical = CriticalTask("the store's writer");
                writer.run(&waiting);
            })
            .expect("a thread can be started");
        Embedded {
            slot,
            board,
            disbelief,
            settings: self.settings,
            jobs,
            waiting: Semaphore::new(BATCHES_WAITING_MAX),
            thread: Mutex::new(Some(thread)),
        }
    }
}

/// The embedded store with a writer.
pub struct Embedded {
    slot: Arc<DatabaseSlot>,
    board: Arc<Board>,
    /// Why the store is not believed; None if it is.
    disbelief: Option<Disbelief>,
    settings: Settings,
    jobs: mpsc::Sender<Job>,
    waiting: Semaphore,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

#[async_trait::async_trait]
impl Store for Embedded {
    async fn residents(&self) -> Result<u64, Error> {
        self.slot.with(count)
    }

    fn writes(&self) -> Option<u64> {
        Some(self.slot.writes.load(Relaxed))
    }

    async fn fill(&self, progress: Arc<dyn Fn(u64) + Send + Sync>) -> Result<(), Error> {
        self.believed().await;
        let threads = self.settings.fill_threads.max(1) as u64;
        let step = u64::MAX / threads;
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                let (slot, board) = (self.slot.clone(), self.board.clone());
                let progress = progress.clone();
                let first = part * step;
                let last = if part + 1 == threads {
                    u64::MAX
                } else {
                    first + step - 1
                };
                tokio::task::spawn_blocking(move || slot.fill(&board, first..=last, &*progress))
            })
            .collect();
        for part in parts {
            part.await.map_err(failed)??;
        }
        Ok(())
    }

    async fn ingest(&self, changes: Vec<Change>) -> Result<Vec<ChangeOutcome>, Error> {
        let _place = self.waiting.acquire().await.map_err(failed)?;
        let (done, outcome) = oneshot::channel();
        self.jobs
            .send(Job::Apply((changes, done)))
            .map_err(|_| Error::Closed)?;
        outcome.await.map_err(|_| Error::Closed)?
    }

    async fn find(&self, who: Identity) -> Result<Option<LocatedRecord>, Error> {
        self.must_be_believed()?;
        let slot = self.slot.clone();
        let who = shorten(who, self.settings.home_bits);
        // The page may have to be read from the disk.
        let found = tokio::task::spawn_blocking(move || slot.with(|db| find(db, &slot.tags, &who)));
        found.await.map_err(failed)?
    }

    async fn word(&self, id: ResidentId) -> Result<Option<Word>, Error> {
        self.must_be_believed()?;
        let slot = self.slot.clone();
        let found = tokio::task::spawn_blocking(move || {
            slot.with(|db| {
                let txn = db.begin_read().map_err(failed)?;
                word_at(&txn.open_table(WORDS).map_err(failed)?, &slot.tags, id)
            })
        });
        found.await.map_err(failed)?
    }

    async fn papers(
        &self,
        owner: Identity,
        kinds: PaperKinds,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Paper>, Error> {
        let slot = self.slot.clone();
        let owner = shorten(owner, self.settings.home_bits);
        let read = move |db: &Database| papers::read(db, &owner, kinds, after, limit, false);
        let found = tokio::task::spawn_blocking(move || slot.with(read));
        found.await.map_err(failed)?
    }

    async fn some(&self, owner: Identity, keys: &[PaperKey]) -> Result<Vec<Option<Paper>>, Error> {
        let (slot, keys) = (self.slot.clone(), keys.to_vec());
        let owner = shorten(owner, self.settings.home_bits);
        let read = move |db: &Database| papers::some(db, &owner, &keys);
        let found = tokio::task::spawn_blocking(move || slot.with(read));
        found.await.map_err(failed)?
    }

    async fn remove(&self, owner: Identity, keys: &[PaperKey]) -> Result<u64, Error> {
        let owner = shorten(owner, self.settings.home_bits);
        let found = self.some(owner, keys).await?;
        let there = keys.iter().zip(found).filter(|(_, paper)| paper.is_some());
        let rows: Vec<papers::PaperRowKey> =
            there.map(|(key, _)| papers::row(&owner, key)).collect();
        let removed = rows.len() as u64;
        let (done, outcome) = oneshot::channel();
        let sent = self.jobs.send(Job::Remove(rows, done));
        sent.map_err(|_| Error::Closed)?;
        outcome.await.map_err(|_| Error::Closed)??;
        Ok(removed)
    }

    async fn sweep(&self, keep: &Retention, now: Time, _every: Duration) -> Result<u64, Error> {
        let mut swept = 0;
        let mut from = Some(papers::FIRST);
        while let Some(first) = from {
            let (slot, keep) = (self.slot.clone(), keep.clone());
            let read = move |db: &Database| papers::past(db, &keep, now, first);
            let found = tokio::task::spawn_blocking(move || slot.with(read));
            let (past, next) = found.await.map_err(failed)??;
            from = next;
            if !past.is_empty() {
                swept += past.len() as u64;
                let (done, outcome) = oneshot::channel();
                let sent = self.jobs.send(Job::Remove(past, done));
                sent.map_err(|_| Error::Closed)?;
                outcome.await.map_err(|_| Error::Closed)??;
            }
        }
        Ok(swept)
    }

    async fn reseal(
        &self,
        seal: RestSeal,
        tell: &ResealProgress<'_>,
    ) -> Result<ResealReport, Error> {
        let mut report = ResealReport::default();
        let mut place = Some(reseal::ResealPlace::Records(0));
        while let Some(from) = place {
            let (done, outcome) = oneshot::channel();
            let sent = self.jobs.send(Job::Reseal(from, seal.clone(), done));
            sent.map_err(|_| Error::Closed)?;
            let (found, next) = outcome.await.map_err(|_| Error::Closed)??;
            report.add(&found);
            place = next;
            if !tell(&report) {
                return Err(Error::Closed);
            }
            tokio::time::sleep(RESEAL_PAUSE).await;
        }
        Ok(report)
    }

    async fn backup(&self) -> Result<Option<StoreStream>, Error> {
        let slot = self.slot.clone();
        let begun = tokio::task::spawn_blocking(move || {
            let reopenings = slot.reopenings.load(Relaxed);
            let begun_at = Time::now();
            let txn = slot.with(|db| db.begin_read().map_err(failed))?;
            let is_over = move || slot.reopenings.load(Relaxed) != reopenings;
            backup::stream(txn, begun_at, is_over).map_err(failed)
        });
        begun.await.map_err(failed)?.map(Some)
    }

    fn is_believed(&self) -> bool {
        self.disbelief.is_none()
    }

    async fn close(&self) {
        let _ = self.jobs.send(Job::Close);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Embedded {
    /// Waits forever if the store is not believed, so that nothing of it comes onto the board.
    async fn believed(&self) {
        if self.disbelief.is_some() {
            std::future::pending::<()>().await;
        }
    }

    fn must_be_believed(&self) -> Result<(), Error> {
        match self.disbelief {
            None => Ok(()),
            Some(why) => Err(Error::Disbelieved(why.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
