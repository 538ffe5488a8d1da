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
pub mod fence;
pub mod papers;
pub mod reseal;
pub mod rewrite;

use super::record::Record;
use super::reseal::{ResealProgress, ResealReport};
use super::{
    Change, ChangeKind, ChangeOutcome, Error, LocatedRecord, Store, StoreStream, tell_damaged,
};
use crate::board::Board;
use crate::clock::{Moment, Time};
use crate::critical::CriticalTask;
use crate::meters::StoreMetrics;
use crate::paper::{Cursor, Paper, PaperKey, PaperKinds, Retention};
use crate::person::{Identity, PROBES_MAX, ResidentId};
use crate::private_file;
use crate::seal::RestSeal;
use crate::seal::tags::{StatusTags, TAG_BYTES, TagScratch, TagState};
use crate::status::Word;
use fence::{CommitNote, Disbelief};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};

/// Records, each followed by its tag.
const RESIDENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("residents");
/// Words in the upper half, their tags in the lower.
const WORDS: TableDefinition<u64, u128> = TableDefinition::new("words");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Number of the table layout. A store with another number is refused.
pub const FORMAT: u64 = 5;

/// Interval at which an idle writer confirms that the store works. It is far below `stale_after`.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Pause between attempts to open a failed file, which may include a repair.
const REOPEN_PAUSE: Duration = Duration::from_secs(2);

/// Batches that wait for the writer; further ones wait outside the queue.
const BATCHES_WAITING_MAX: usize = 256;

/// Between two steps of sealing anew, so that changes come first.
const RESEAL_PAUSE: Duration = Duration::from_millis(5);

/// Changes in one commit; the rest waits for the next one.
const COMMIT_CHANGES_MAX: usize = 65_536;

/// Settings of the embedded store.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of its files.
    pub folder: PathBuf,
    /// Size of redb's page cache in bytes.
    pub cache_bytes: usize,
    /// Threads that read the store at the start.
    pub fill_threads: usize,
    /// Number of bits of a home id: 64, or fewer in tests that need collisions.
    pub home_bits: u32,
}

impl Settings {
    /// Returns the settings for a directory, with default sizes.
    pub fn new(folder: PathBuf) -> Settings {
        Settings {
            folder,
            cache_bytes: 256 << 20,
            fill_threads: 2,
            home_bits: 64,
        }
    }
}

/// An open store without a writer.
pub struct OpenedEmbedded {
    db: Database,
    settings: Settings,
    tags: StatusTags,
}

impl OpenedEmbedded {
    /// Opens the store in its directory, or creates it. `mark` and `tags` come from the key ring.
    ///
    /// # Errors
    ///
    /// `InUse`, `ForeignRing`, `Format`, `Damaged`, or a failure of the disk.
    pub fn open(
        settings: Settings,
        mark: [u8; 16],
        tags: StatusTags,
    ) -> Result<OpenedEmbedded, Error> {
        make_private(&settings.folder).map_err(failed)?;
        let place = settings.folder.display().to_string();
        let path = settings.folder.join(FILE);
        rewrite::finish(&settings.folder).map_err(failed)?;
        if !path.exists() {
            make(&path, mark)?;
        }
        let db = open_file(&settings).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Error::InUse(place.clone()),
            other => failed(other),
        })?;
        let (format, ring) = {
            let txn = db.begin_read().map_err(failed)?;
            let meta = txn.open_table(META).map_err(failed)?;
            let read = |name| -> Result<Option<Vec<u8>>, Error> {
                let value = meta.get(name).map_err(failed)?;
                Ok(value.map(|bytes| bytes.value().to_vec()))
            };
            (read("format")?, read("ring")?)
        };
        let format = format.and_then(|bytes| bytes.try_into().ok());
        let format = format.map_or(0, u64::from_be_bytes);
        if format != FORMAT {
            return Err(Error::Format(place, format, FORMAT));
        }
        if ring.as_deref() != Some(&mark[..]) {
            return Err(Error::ForeignRing(place));
        }
        fence::mark_older(&db, &settings.folder)?;
        Ok(OpenedEmbedded { db, settings, tags })
    }

    /// Returns the number of residents on record.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn residents(&self) -> Result<u64, Error> {
        count(&self.db)
    }

    /// Passes every word on record to `each`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a word is damaged.
    pub fn each_word(&self, each: &mut dyn FnMut(Word)) -> Result<(), Error> {
        let txn = self.db.begin_read().map_err(failed)?;
        let words = txn.open_table(WORDS).map_err(failed)?;
        for row in words.iter().map_err(failed)? {
            let (_, value) = row.map_err(failed)?;
            let word = Word::from_bits((value.value() >> 64) as u64);
            each(word.ok_or(Error::Damaged("a word"))?);
        }
        Ok(())
    }

    /// Passes every record to `each`, by rising id. Returns the number of damaged records, which are left out.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or `each` failed.
    pub fn each(
        &self,
        mut each: impl FnMut(ResidentId, Record) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let txn = self.db.begin_read().map_err(failed)?;
        let residents = txn.open_table(RESIDENTS).map_err(failed)?;
        let words = txn.open_table(WORDS).map_err(failed)?;
        let (mut damaged, mut with_word) = (0, 0);
        for row in residents.iter().map_err(failed)? {
            let (id, bytes) = row.map_err(failed)?;
            let id = ResidentId(id.value());
            with_word += u64::from(words.get(id.0).map_err(failed)?.is_some());
            let read = || {
                let word = word_at(&words, &self.tags, id)?.ok_or(WORDLESS)?;
                read_record(genuine(&self.tags, id, word, bytes.value())?)
            };
            match read() {
                Ok(record) => each(id, record)?,
                Err(Error::Damaged(_)) => damaged += 1,
                Err(error) => return Err(error),
            }
        }
        // Words without a record.
        Ok(damaged + words.len().map_err(failed)? - with_word)
    }

    /// Starts the writer. From now on every acknowledged change is on `board`.
    pub fn start(self, board: Arc<Board>, metrics: Arc<StoreMetrics>) -> Embedded {
        let (jobs, waiting) = mpsc::channel();
        let disbelief = self.disbelief().unwrap_or_else(|error| {
            // If this cannot be read, nothing else in the store can.
            tracing::error!(%error, "the counts of the store cannot be read");
            None
        });
        if let Some(why) = disbelief {
            tracing::error!(
                %why,
                "this store is not believed: nobody is told a colour. Feed again what came after it, then `liangma restore --accept` and start again"
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

/// The open file and its readers. redb needs the file reopened after a disk error, which only the writer sees.
struct DatabaseSlot {
    db: RwLock<Option<Database>>,
    settings: Settings,
    tags: StatusTags,
    metrics: Arc<StoreMetrics>,
    /// Number of reopenings. A reader in a long transaction must end it after one.
    reopenings: AtomicU64,
    /// Rises after each write, also after one that failed and may have reached the disk.
    writes: AtomicU64,
}

impl DatabaseSlot {
    fn with<T>(&self, read: impl FnOnce(&Database) -> Result<T, Error>) -> Result<T, Error> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let read = read(db.as_ref().ok_or(Error::Closed)?);
        if let Err(Error::Damaged(what)) = &read {
            tell_damaged(&self.metrics, what, 1);
        }
        read
    }

    /// Puts the words of these ids onto the board. The resident of a damaged word gets no answer.
    fn fill(
        &self,
        board: &Board,
        ids: std::ops::RangeInclusive<u64>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Error> {
        let doubtful = self.with(|db| fill_part(db, &self.tags, board, ids, progress))?;
        if doubtful > 0 {
            tell_damaged(&self.metrics, "words", doubtful);
        }
        Ok(())
    }

    /// Closes the file, opens it again, and writes to it.
    fn reopen(&self) -> Result<(), Error> {
        self.reopenings.fetch_add(1, Relaxed);
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        *db = None;
        let again = open_file(&self.settings).map_err(failed)?;
        probe(&again)?;
        *db = Some(again);
        Ok(())
    }
}

const FILE: &str = "liangma.redb";

/// Returns whether the directory has a store.
pub fn is_in(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

/// Returns how long ago the store was written, by the system's clock; None if there is no store or the time is in the future.
pub fn written_before(folder: &Path) -> Option<std::time::Duration> {
    let written = std::fs::metadata(folder.join(FILE)).and_then(|file| file.modified());
    written.ok()?.elapsed().ok()
}

/// Checks that a store was made with the ring of this mark. A store that is in use or was not closed cleanly is not checked.
///
/// # Errors
///
/// `ForeignRing` if it was made with another ring.
pub fn check_ring(folder: &Path, mark: [u8; 16]) -> Result<(), Error> {
    let Ok(db) = redb::ReadOnlyDatabase::open(folder.join(FILE)) else {
        return Ok(());
    };
    let txn = db.begin_read().map_err(failed)?;
    let meta = txn.open_table(META).map_err(failed)?;
    match meta.get("ring").map_err(failed)? {
        Some(ring) if ring.value() == &mark[..] => Ok(()),
        _ => Err(Error::ForeignRing(folder.display().to_string())),
    }
}

/// Creates an empty store under another name and renames it once complete: a killed process leaves no partial store, and of two
/// creators the second uses the first's.
fn make(path: &Path, mark: [u8; 16]) -> Result<(), Error> {
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let _ = std::fs::remove_file(&beside);
    let linked = make_at(&beside, mark).map(|()| std::fs::hard_link(&beside, path));
    let removed = std::fs::remove_file(&beside);
    let linked = linked?;
    removed.map_err(failed)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(failed(error)),
        _ => Ok(()),
    }
}

/// Creates an empty store.
fn make_at(path: &Path, mark: [u8; 16]) -> Result<(), Error> {
    private_file::create_new(path).map_err(failed)?;
    let db = Database::create(path).map_err(failed)?;
    let txn = db.begin_write().map_err(failed)?;
    {
        let mut meta = txn.open_table(META).map_err(failed)?;
        meta.insert("format", &FORMAT.to_be_bytes()[..])
            .map_err(failed)?;
        meta.insert("ring", &mark[..]).map_err(failed)?;
        txn.open_table(WORDS).map_err(failed)?;
        txn.open_table(RESIDENTS).map_err(failed)?;
        papers::make(&txn)?;
    }
    txn.commit().map_err(failed)
}

fn open_file(settings: &Settings) -> Result<Database, redb::DatabaseError> {
    Database::builder()
        .set_cache_size(settings.cache_bytes)
        .create(settings.folder.join(FILE))
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

/// Where what a step of sealing anew found is waited for.
type ResealReply = oneshot::Sender<Result<reseal::ResealStep, Error>>;

enum Job {
    Apply(CommitBatch),
    /// Papers to remove, and the sender for the result.
    Remove(Vec<papers::PaperRowKey>, oneshot::Sender<Result<(), Error>>),
    /// Some rows that are to be sealed anew.
    Reseal(reseal::ResealPlace, RestSeal, ResealReply),
    Close,
}

/// Changes of one caller, and the sender for their outcomes.
type CommitBatch = (
    Vec<Change>,
    oneshot::Sender<Result<Vec<ChangeOutcome>, Error>>,
);

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

fn count(db: &Database) -> Result<u64, Error> {
    let txn = db.begin_read().map_err(failed)?;
    let words = txn.open_table(WORDS).map_err(failed)?;
    words.len().map_err(failed)
}

/// Returns the number of damaged words.
fn fill_part(
    db: &Database,
    tags: &StatusTags,
    board: &Board,
    ids: std::ops::RangeInclusive<u64>,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<u64, Error> {
    const REPORT: u64 = 65_536;
    /// Words whose tags are computed in one call.
    const TOGETHER: usize = 256;
    let txn = db.begin_read().map_err(failed)?;
    let words = txn.open_table(WORDS).map_err(failed)?;
    let (mut filled, mut doubtful) = (0, 0);
    let (mut rows, mut told) = (Vec::with_capacity(TOGETHER), Vec::new());
    let mut scratch = TagScratch::default();
    let mut all = words.range(ids).map_err(failed)?;
    loop {
        rows.clear();
        told.clear();
        for row in all.by_ref().take(TOGETHER) {
            let (id, value) = row.map_err(failed)?;
            let value = value.value();
            rows.push((id.value(), (value >> 64) as u64));
            told.push(value as u64);
        }
        if rows.is_empty() {
            break;
        }
        tags.check_words(&rows, &told, &mut scratch);
        for ((id, bits), is_own) in rows.iter().zip(&scratch.are_own) {
            let word = match is_own {
                true => Word::from_bits(*bits).ok_or(Error::Damaged("a word"))?,
                false => {
                    doubtful += 1;
                    Word::doubtful()
                }
            };
            board.post(ResidentId(*id), word);
            filled += 1;
            if filled % REPORT == 0 {
                progress(REPORT);
            }
        }
    }
    progress(filled % REPORT);
    Ok(doubtful)
}

/// The only thread that writes.
struct CommitWriter {
    slot: Arc<DatabaseSlot>,
    board: Arc<Board>,
    metrics: Arc<StoreMetrics>,
    home_bits: u32,
    note: RefCell<CommitNote>,
    /// If false, nothing comes onto the board.
    is_believed: bool,
}

impl CommitWriter {
    /// Commits waiting changes together, puts them onto the board, acknowledges them, and confirms that the store works.
    fn run(&self, jobs: &mpsc::Receiver<Job>) {
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
                                "the store is back: its file was opened again and took a commit"
                            );
                            well = true;
                        }
                        Err(error) => tracing::debug!(%error, "the store is still lost"),
                    }
                }
                if let Err(error) = self.commit(group)
                    && std::mem::take(&mut well)
                {
                    tracing::error!(%error, "the store is lost: nothing can be written");
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
    fn recover(&self) -> Result<(), Error> {
        self.slot.reopen()?;
        if !self.is_believed {
            return Ok(());
        }
        self.slot.fill(&self.board, 0..=u64::MAX, &|_| ())
    }

    /// Commits a group. An error concerns the store, not a single change.
    fn commit(&self, group: Vec<CommitBatch>) -> Result<(), Error> {
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

#[derive(Default)]
struct Committed {
    outcomes: Vec<ChangeOutcome>,
    /// Number of residents with damaged data.
    damaged: u64,
    posts: Vec<(ResidentId, Word)>,
    /// Number of commits of the store now; None if nothing was committed.
    commits: Option<u64>,
}

/// Checks that the disk takes a commit.
fn probe(db: &Database) -> Result<(), Error> {
    let txn = db.begin_write().map_err(failed)?;
    {
        let mut meta = txn.open_table(META).map_err(failed)?;
        meta.insert("probe", &Time::now().0.to_be_bytes()[..])
            .map_err(failed)?;
    }
    txn.commit().map_err(failed)
}

/// Applies the changes in their order and makes them durable.
fn commit(
    db: &Database,
    tags: &StatusTags,
    changes: Vec<(Identity, ChangeKind)>,
) -> Result<Committed, Error> {
    let txn = db.begin_write().map_err(failed)?;
    let mut committed = Committed {
        outcomes: vec![ChangeOutcome::Unchanged; changes.len()],
        ..Committed::default()
    };
    {
        let mut tables = Tables {
            words: txn.open_table(WORDS).map_err(failed)?,
            residents: txn.open_table(RESIDENTS).map_err(failed)?,
            tags,
            now: Time::now(),
        };
        let mut pile = papers::PaperTables::open(&txn)?;
        // Sorted by id, so that neighbours in the tree and all changes of a resident are together; the stable sort keeps their
        // order.
        let mut sorted: Vec<(usize, Identity, ChangeKind)> = changes
            .into_iter()
            .enumerate()
            .map(|(nth, (who, what))| (nth, who, what))
            .collect();
        sorted.sort_by_key(|(_, who, _)| *who);
        let mut sorted = sorted.into_iter().peekable();
        while let Some((nth, who, what)) = sorted.next() {
            let mut said = vec![(nth, what)];
            while let Some((nth, _, what)) = sorted.next_if(|(_, next, _)| *next == who) {
                said.push((nth, what));
            }
            let filed = pile.take(&who, &mut said, &mut committed.outcomes);
            // Papers were stored already, even if the record of their owner is damaged.
            let left: Vec<usize> = said.iter().map(|(nth, _)| *nth).collect();
            match filed.and_then(|()| tables.apply(&who, said, &mut committed)) {
                Err(error @ (Error::Damaged(_) | Error::Crowded)) => {
                    tracing::error!(%error, "a resident's changes are refused");
                    committed.damaged += u64::from(matches!(error, Error::Damaged(_)));
                    for nth in left {
                        committed.outcomes[nth] = ChangeOutcome::Unreadable;
                    }
                }
                applied => applied?,
            }
        }
    }
    if committed.outcomes.contains(&ChangeOutcome::Applied) {
        committed.commits = Some(fence::count(&txn)?);
        txn.commit().map_err(failed)?;
    } else {
        // All of it is on the disk already.
        txn.abort().map_err(failed)?;
    }
    Ok(committed)
}

/// Merges the outcomes of one change: an erasure changes papers and the record.
fn note(known: &mut ChangeOutcome, outcome: ChangeOutcome) {
    if !known.is_applied() {
        *known = outcome;
    }
}

struct Tables<'t> {
    words: redb::Table<'t, u64, u128>,
    residents: redb::Table<'t, u64, &'static [u8]>,
    tags: &'t StatusTags,
    now: Time,
}

impl Tables<'_> {
    /// Applies all changes of one resident.
    fn apply(
        &mut self,
        who: &Identity,
        said: Vec<(usize, ChangeKind)>,
        committed: &mut Committed,
    ) -> Result<(), Error> {
        if said.is_empty() {
            return Ok(());
        }
        let mut said = said.into_iter();
        let (id, mut record, mut dirty, old) =
            match place(&self.residents, &self.words, self.tags, who)? {
                RecordLocation::Own(placed) => (placed.id, placed.record, false, Some(placed.word)),
                RecordLocation::Free { id, steps } => {
                    // Changes that register nobody are skipped.
                    let first =
                        said.find_map(|(nth, what)| Some((nth, Record::first(who.claim, what)?)));
                    let Some((nth, record)) = first else {
                        return Ok(());
                    };
                    committed.outcomes[nth] = ChangeOutcome::Applied;
                    if steps > 0 {
                        self.tell_apart(who, committed)?;
                    }
                    (id, record, true, None)
                }
            };
        for (nth, what) in said {
            let outcome = record.take(what);
            note(&mut committed.outcomes[nth], outcome);
            dirty |= outcome.is_applied();
        }
        if dirty {
            let reasons = record.reasons();
            let check = old.map_or(who.check(), Word::check);
            let version = Word::version_after(old.map(Word::version), self.now);
            self.write(id, Word::new(version, check, reasons), &record, committed)?;
        }
        Ok(())
    }

    /// Handles a resident who did not get the home id. If the one there has the same check bits, the board cannot tell them
    /// apart: that word then demands a lookup.
    fn tell_apart(&mut self, who: &Identity, committed: &mut Committed) -> Result<(), Error> {
        let id = who.home;
        let word = word_at(&self.words, self.tags, id)?.ok_or(WORDLESS)?;
        if word.check() == who.check() {
            let record = {
                let bytes = self.residents.get(id.0).map_err(failed)?.ok_or(WORDLESS)?;
                read_record(genuine(self.tags, id, word, bytes.value())?)?
            };
            let version = Word::version_after(Some(word.version()), self.now);
            let word = Word::new(version, 0, word.reasons());
            self.write(id, word, &record, committed)?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        id: ResidentId,
        word: Word,
        record: &Record,
        committed: &mut Committed,
    ) -> Result<(), Error> {
        self.residents
            .insert(id.0, &sealed_record(self.tags, id, word, record)[..])
            .map_err(failed)?;
        self.words
            .insert(id.0, sealed_word(self.tags, id, word))
            .map_err(failed)?;
        committed.posts.push((id, word));
        Ok(())
    }
}

/// Every record must have a word.
const WORDLESS: Error = Error::Damaged("no word for a record");

fn word_at(
    words: &impl ReadableTable<u64, u128>,
    tags: &StatusTags,
    id: ResidentId,
) -> Result<Option<Word>, Error> {
    let Some(value) = words.get(id.0).map_err(failed)? else {
        return Ok(None);
    };
    let bits = (value.value() >> 64) as u64;
    if tags.word_state(id, bits, value.value() as u64) == TagState::Foreign {
        return Err(Error::Damaged("a word that is not as it was written"));
    }
    Word::from_bits(bits)
        .map(Some)
        .ok_or(Error::Damaged("a word"))
}

/// Returns a word with its tag, as `words` holds it.
fn sealed_word(tags: &StatusTags, id: ResidentId, word: Word) -> u128 {
    u128::from(word.bits()) << 64 | u128::from(tags.word(id, word.bits()))
}

/// Returns a record with its tag, as `residents` holds it.
fn sealed_record(tags: &StatusTags, id: ResidentId, word: Word, record: &Record) -> Vec<u8> {
    let mut bytes = record.to_bytes();
    let tag = tags.record(id, word.bits(), &bytes);
    bytes.extend_from_slice(&tag);
    bytes
}

/// Returns a record without its tag; `Damaged` if the tag is wrong.
fn genuine<'b>(
    tags: &StatusTags,
    id: ResidentId,
    word: Word,
    bytes: &'b [u8],
) -> Result<&'b [u8], Error> {
    bytes
        .split_last_chunk::<TAG_BYTES>()
        .filter(|(record, tag)| {
            tags.record_state(id, word.bits(), record, tag) != TagState::Foreign
        })
        .map(|(record, _)| record)
        .ok_or(Error::Damaged("a record that is not as it was written"))
}

fn find(db: &Database, tags: &StatusTags, who: &Identity) -> Result<Option<LocatedRecord>, Error> {
    let txn = db.begin_read().map_err(failed)?;
    let residents = txn.open_table(RESIDENTS).map_err(failed)?;
    let words = txn.open_table(WORDS).map_err(failed)?;
    Ok(match place(&residents, &words, tags, who)? {
        RecordLocation::Own(placed) => Some(placed),
        RecordLocation::Free { .. } => None,
    })
}

enum RecordLocation {
    Own(LocatedRecord),
    Free { id: ResidentId, steps: u64 },
}

/// Returns the id of this resident, or the id a new one gets: the first from the home on that is free or theirs. Ids are never
/// freed, so a free one ends the search. Every record on the way must be genuine: a damaged claim would send a red resident on
/// to a free id.
fn place(
    residents: &impl ReadableTable<u64, &'static [u8]>,
    words: &impl ReadableTable<u64, u128>,
    tags: &StatusTags,
    who: &Identity,
) -> Result<RecordLocation, Error> {
    for steps in 0..PROBES_MAX {
        let id = who.slot(steps);
        let word = word_at(words, tags, id)?;
        let bytes = residents.get(id.0).map_err(failed)?;
        let (word, bytes) = match (word, bytes) {
            (None, None) => return Ok(RecordLocation::Free { id, steps }),
            (Some(word), Some(bytes)) => (word, bytes),
            _ => return Err(WORDLESS),
        };
        let record = genuine(tags, id, word, bytes.value())?;
        if record.starts_with(&who.claim) {
            return Ok(RecordLocation::Own(LocatedRecord {
                id,
                steps,
                word,
                record: read_record(record)?,
            }));
        }
    }
    Err(Error::Crowded)
}

fn read_record(bytes: &[u8]) -> Result<Record, Error> {
    Record::from_bytes(bytes).ok_or(Error::Damaged("a record"))
}

fn shorten(mut who: Identity, home_bits: u32) -> Identity {
    if home_bits < 64 {
        who.home.0 &= (1 << home_bits) - 1;
    }
    who
}

/// Creates a directory of mode 0700 and its parents. An existing directory stays as it is.
///
/// # Errors
///
/// The directory cannot be created.
pub fn make_private(folder: &Path) -> std::io::Result<()> {
    private_file::create_folder(folder)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Failed(Box::new(error))
}

#[cfg(test)]
mod tests;
