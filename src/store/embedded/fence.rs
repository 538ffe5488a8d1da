//! Notices a store that is older than what was acknowledged from its directory.
//!
//! The store counts its commits, and a file beside it has the count too, at most about a second behind. A store with a lower
//! count than the file was copied there. Such a store, and one restored from a backup, answers nothing: later changes are
//! unknown and may include a red. It takes feeds, so that authorities can send those again, and is believed once an operator
//! accepts it.

use super::file::{META, failed};
use super::opened::OpenedEmbedded;
use crate::clock::Time;
use crate::private_file;
use crate::store::error::Error;
use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Key of the number of commits in the table `meta`.
pub const COMMITS: &str = "commits";

/// Key in the table `meta` of the time when the store's backup began; 0 for an older copy that was noticed, absent once
/// accepted.
pub const RESTORED: &str = "restored";

/// Name of the file beside the store.
const FILE: &str = "liangma.redb.commits";

/// Interval at which the file is written.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// Why a store is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disbelief {
    /// It was restored from a backup that began at this time.
    Restored(Time),
    /// It has fewer commits than were made in this directory.
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

/// Counts one more commit, in its own transaction. Returns the new count.
///
/// # Errors
///
/// The table cannot be written.
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

/// Returns the number of commits.
///
/// # Errors
///
/// The file cannot be read.
pub fn commits(db: &Database) -> Result<u64, Error> {
    let txn = db.begin_read().map_err(failed)?;
    let meta = txn.open_table(META).map_err(failed)?;
    Ok(number(&meta, COMMITS)?.unwrap_or(0))
}

/// Returns why the store in a directory is not believed; None if it is.
///
/// # Errors
///
/// The file cannot be read.
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

/// Marks a store as older if it is. Otherwise its own later commits would hide the missing ones.
///
/// # Errors
///
/// The file cannot be read or written.
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

/// Reads the file beside the store. Returns 0 if it is missing or cut.
fn noted(folder: &Path) -> u64 {
    let text = std::fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn write(folder: &Path, commits: u64) -> std::io::Result<()> {
    // Overwritten in place with a fixed length, so a reader finds one number or the other. Written after the commit, so never
    // ahead of the store.
    let path = folder.join(FILE);
    private_file::create_if_missing(&path)?;
    let mut file = OpenOptions::new().write(true).open(&path)?;
    file.write_all(format!("{commits:020}\n").as_bytes())
}

/// Writes the file beside the store, for the store's writer.
pub struct CommitNote {
    folder: PathBuf,
    /// The count that is not written yet.
    commits: Option<u64>,
    written_at: Option<Instant>,
}

impl CommitNote {
    /// Returns the writer of the file in a directory.
    pub fn new(folder: &Path) -> CommitNote {
        CommitNote {
            folder: folder.to_owned(),
            commits: None,
            written_at: None,
        }
    }

    /// Takes the count after a commit.
    pub fn committed(&mut self, commits: u64) {
        self.commits = Some(commits);
        self.look();
    }

    /// Writes the count if it is due.
    pub fn look(&mut self) {
        let is_due = |at: Instant| at.elapsed() >= NOTE_EVERY;
        if self.commits.is_some() && self.written_at.is_none_or(is_due) {
            self.flush();
        }
    }

    /// Writes the count. A full disk disables this check, not the store.
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
    /// Returns why this store is not believed; None if it is.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn disbelief(&self) -> Result<Option<Disbelief>, Error> {
        disbelief(&self.db, &self.settings.folder)
    }

    /// Accepts the store: it is believed from the next start on.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn accept(&self) -> Result<(), Error> {
        let txn = self.db.begin_write().map_err(failed)?;
        {
            let mut meta = txn.open_table(META).map_err(failed)?;
            meta.remove(RESTORED).map_err(failed)?;
            // Above the count in the file, so that the copy it came from is still noticed.
            let commits = number(&meta, COMMITS)?.unwrap_or(0);
            let commits = commits.max(noted(&self.settings.folder)) + 1;
            meta.insert(COMMITS, &commits.to_be_bytes()[..])
                .map_err(failed)?;
        }
        txn.commit().map_err(failed)?;
        self.note_commits()
    }

    /// Writes the count beside the store, after a bulk load without a writer.
    ///
    /// # Errors
    ///
    /// The count cannot be read.
    pub fn note_commits(&self) -> Result<(), Error> {
        write(&self.settings.folder, commits(&self.db)?).map_err(failed)
    }
}
