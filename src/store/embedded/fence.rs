//! Notices a store that is older than what was acknowledged from its directory.
//!
//! The store counts its commits, and a file beside it has the count too, about a second behind at most. A store with a lower count than that file was put there from a copy. Such a
//! store, and one that was made of a backup, tells of nobody: what came after the copy is not known, and may be a red. It takes feeds, so that authorities
//! can send again what came after, and is believed once somebody accepts it.

use super::{META, OpenedEmbedded, failed};
use crate::clock::Time;
use crate::store::Error;
use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Commits so far, in the table `meta`.
pub const COMMITS: &str = "commits";

/// When the backup was begun of which the store was made, in the table `meta`, and 0 for a copy that was noticed; absent once the store was accepted.
pub const RESTORED: &str = "restored";

/// The file beside the store.
const FILE: &str = "liangma.redb.commits";

/// Between two writes of the file.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// Why a store is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disbelief {
    /// It was made of a backup that was begun then.
    Restored(Time),
    /// It had fewer commits than were made in this directory.
    Older,
}

impl std::fmt::Display for Disbelief {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Disbelief::Restored(at) => write!(f, "it was restored from a backup of {at}"),
            Disbelief::Older => write!(
                f,
                "it had fewer commits than were made in this directory: it was put there from a copy"
            ),
        }
    }
}

/// Counts one more commit, in its own transaction.
pub fn count(txn: &WriteTransaction) -> Result<u64, Error> {
    let mut meta = txn.open_table(META).map_err(failed)?;
    let commits = number(&meta, COMMITS)?.unwrap_or(0) + 1;
    meta.insert(COMMITS, &commits.to_be_bytes()[..])
        .map_err(failed)?;
    Ok(commits)
}

fn number(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<u64>, Error> {
    let value = meta.get(name).map_err(failed)?;
    let value = value.and_then(|bytes| bytes.value().try_into().ok());
    Ok(value.map(u64::from_be_bytes))
}

/// Returns how many commits the store has.
pub fn commits(db: &Database) -> Result<u64, Error> {
    let txn = db.begin_read().map_err(failed)?;
    let meta = txn.open_table(META).map_err(failed)?;
    Ok(number(&meta, COMMITS)?.unwrap_or(0))
}

/// Returns why the store in a directory is not believed; None for one that is.
pub fn disbelief(db: &Database, folder: &Path) -> Result<Option<Disbelief>, Error> {
    let txn = db.begin_read().map_err(failed)?;
    let meta = txn.open_table(META).map_err(failed)?;
    match number(&meta, RESTORED)? {
        Some(0) => return Ok(Some(Disbelief::Older)),
        Some(at) => return Ok(Some(Disbelief::Restored(Time(at)))),
        None => {}
    }
    let commits = number(&meta, COMMITS)?.unwrap_or(0);
    Ok((commits < noted(folder)).then_some(Disbelief::Older))
}

/// Writes into a store that is older that it is: its own commits would make up for those that are missing.
pub fn mark_older(db: &Database, folder: &Path) -> Result<(), Error> {
    if disbelief(db, folder)? != Some(Disbelief::Older) {
        return Ok(());
    }
    let txn = db.begin_write().map_err(failed)?;
    {
        let mut meta = txn.open_table(META).map_err(failed)?;
        meta.insert(RESTORED, &0u64.to_be_bytes()[..])
            .map_err(failed)?;
    }
    txn.commit().map_err(failed)
}

/// Reads the file beside the store. One that is missing or cut says nothing.
fn noted(folder: &Path) -> u64 {
    let text = std::fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn write(folder: &Path, commits: u64) -> std::io::Result<()> {
    // In place and always of one length: a reader finds one number or the other. It is written after the commit, so it is never ahead of the store.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join(FILE))?;
    file.write_all(format!("{commits:020}\n").as_bytes())
}

/// Keeps the file beside the store, for its writer.
pub struct CommitNote {
    folder: PathBuf,
    /// Not written yet.
    commits: Option<u64>,
    written_at: Option<Instant>,
}

impl CommitNote {
    /// Returns the keeper of the file in a folder; it has written nothing yet.
    pub fn new(folder: &Path) -> CommitNote {
        CommitNote {
            folder: folder.to_owned(),
            commits: None,
            written_at: None,
        }
    }

    /// Takes in the count after a commit.
    pub fn committed(&mut self, commits: u64) {
        self.commits = Some(commits);
        self.look();
    }

    /// Writes what was not written, if it is time.
    pub fn look(&mut self) {
        let is_due = |at: Instant| at.elapsed() >= NOTE_EVERY;
        if self.commits.is_some() && self.written_at.is_none_or(is_due) {
            self.flush();
        }
    }

    /// Writes what was not written. A disk that is full costs the fence, not the store.
    pub fn flush(&mut self) {
        let Some(commits) = self.commits.take() else {
            return;
        };
        self.written_at = Some(Instant::now());
        if let Err(error) = write(&self.folder, commits) {
            tracing::debug!(%error, "the count of commits beside the store cannot be written");
        }
    }
}

impl OpenedEmbedded {
    /// Returns why this store is not believed; None for one that is.
    pub fn disbelief(&self) -> Result<Option<Disbelief>, Error> {
        disbelief(&self.db, &self.settings.folder)
    }

    /// Accepts the store as it is: from the next start on it is believed.
    pub fn accept(&self) -> Result<(), Error> {
        let txn = self.db.begin_write().map_err(failed)?;
        {
            let mut meta = txn.open_table(META).map_err(failed)?;
            meta.remove(RESTORED).map_err(failed)?;
            // Above what was noted here, so that the copy it was made of is still noticed.
            let commits = number(&meta, COMMITS)?.unwrap_or(0);
            let commits = commits.max(noted(&self.settings.folder)) + 1;
            meta.insert(COMMITS, &commits.to_be_bytes()[..])
                .map_err(failed)?;
        }
        txn.commit().map_err(failed)?;
        self.note_commits()
    }

    /// Writes the count of commits beside the store, after a load that had no writer.
    pub fn note_commits(&self) -> Result<(), Error> {
        write(&self.settings.folder, commits(&self.db)?).map_err(failed)
    }
}
