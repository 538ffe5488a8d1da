//! The open file of the embedded store, which is opened again after an error of the disk.

use super::file::{META, Settings, WORDS, failed, open_file};
use crate::board::Board;
use crate::clock::Time;
use crate::meters::StoreMetrics;
use crate::person::ResidentId;
use crate::seal::tags::{StatusTags, TagScratch};
use crate::status::Word;
use crate::store::error::{Error, tell_damaged};
use redb::{Database, ReadableDatabase};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

/// The open file and its readers. redb needs the file reopened after a disk error, which only the writer sees.
pub(super) struct DatabaseSlot {
    pub(super) db: RwLock<Option<Database>>,
    pub(super) settings: Settings,
    pub(super) tags: StatusTags,
    pub(super) metrics: Arc<StoreMetrics>,
    /// Number of reopenings. A reader in a long transaction must end it after one.
    pub(super) reopenings: AtomicU64,
    /// Rises after each write, also after one that failed and may have reached the disk.
    pub(super) writes: AtomicU64,
}

impl DatabaseSlot {
    /// Reads the open file. Damaged data is counted and logged.
    pub(super) fn with<T>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let read = read(db.as_ref().ok_or(Error::Closed)?);
        if let Err(Error::Damaged(what)) = &read {
            tell_damaged(&self.metrics, what, 1);
        }
        read
    }

    /// Puts the words of these ids onto the board. The resident of a damaged word gets no answer.
    pub(super) fn fill(
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
    pub(super) fn reopen(&self) -> Result<(), Error> {
        self.reopenings.fetch_add(1, Relaxed);
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        *db = None;
        let again = open_file(&self.settings).map_err(failed)?;
        probe(&again)?;
        *db = Some(again);
        Ok(())
    }
}

/// Returns the number of damaged words.
pub(super) fn fill_part(
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
