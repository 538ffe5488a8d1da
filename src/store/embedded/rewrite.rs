//! Rewrites the file of the embedded store and overwrites the old one, so that no free page holds removed data.
//!
//! Removed rows stay in pages until these are reused. The new file is written beside the old one and renamed once complete; a
//! killed process leaves the old store or the new one. [`finish`] overwrites and removes leftovers at the next start. File
//! systems and disks that write elsewhere (copy-on-write, flash) may keep overwritten data.

use super::file::{FILE, META, RESIDENTS, Settings, WORDS, failed, open_file};
use super::papers::{INDEX, PAPERS};
use crate::private_file;
use crate::store::error::Error;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Rows in one commit of the copy.
const COMMIT_ROWS: usize = 200_000;

/// Bytes that are read or overwritten at once.
const BLOCK: usize = 1 << 20;

/// Names of the new file until it is complete, and of the old one until it is overwritten.
const NEW: &str = "liangma.redb.rewritten";
const OLD: &str = "liangma.redb.replaced";

/// Length of the prefix that [`find_in`] searches for, in bytes.
pub const NEEDLE_BYTES: usize = 16;

/// Copies the store into a new file, replaces the old one, and overwrites it. `progress` gets the number of copied rows.
///
/// # Errors
///
/// `InUse` if another process has the store open, or the disk fails.
pub fn rewrite(settings: &Settings, progress: &dyn Fn(u64)) -> Result<(), Error> {
    finish(&settings.folder).map_err(failed)?;
    let path = |name| settings.folder.join(name);
    let old = open_file(settings).map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => {
            Error::InUse(settings.folder.display().to_string())
        }
        other => failed(other),
    })?;
    private_file::create_new(&path(NEW)).map_err(failed)?;
    {
        let new = Database::builder()
            .set_cache_size(settings.cache_bytes)
            .create(path(NEW))
            .map_err(failed)?;
        copy(&old, &new, RESIDENTS, progress)?;
        copy(&old, &new, WORDS, progress)?;
        copy(&old, &new, PAPERS, progress)?;
        copy(&old, &new, INDEX, progress)?;
        copy(&old, &new, META, progress)?;
    }
    // The old store stays open, and locked for others, until the new one has its name.
    let place = || -> std::io::Result<()> {
        File::open(path(NEW))?.sync_all()?;
        std::fs::hard_link(path(FILE), path(OLD))?;
        std::fs::rename(path(NEW), path(FILE))?;
        File::open(&settings.folder)?.sync_all()
    };
    place().map_err(failed)?;
    drop(old);
    finish(&settings.folder).map_err(failed)
}

fn copy<K: redb::Key + 'static, V: redb::Value + 'static>(
    old: &Database,
    new: &Database,
    table: TableDefinition<K, V>,
    progress: &dyn Fn(u64),
) -> Result<(), Error> {
    let read = old.begin_read().map_err(failed)?;
    let rows = read.open_table(table).map_err(failed)?;
    let mut rows = rows.iter().map_err(failed)?;
    loop {
        let mut copied = 0;
        let write = new.begin_write().map_err(failed)?;
        {
            let mut to = write.open_table(table).map_err(failed)?;
            for row in rows.by_ref().take(COMMIT_ROWS) {
                let (key, value) = row.map_err(failed)?;
                to.insert(key.value(), value.value()).map_err(failed)?;
                copied += 1;
            }
        }
        write.commit().map_err(failed)?;
        progress(copied as u64);
        if copied < COMMIT_ROWS {
            return Ok(());
        }
    }
}

/// Overwrites and removes leftovers of a rewrite that was interrupted. Usually there are none.
///
/// # Errors
///
/// A leftover cannot be overwritten or removed.
pub fn finish(folder: &Path) -> std::io::Result<()> {
    let (new, old, store) = (folder.join(NEW), folder.join(OLD), folder.join(FILE));
    if new.exists() {
        wipe(&new)?;
    }
    if !old.exists() {
        return Ok(());
    }
    // Interrupted before the new file had its name: the old one is the store.
    let number = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
    if number(&store).is_ok_and(|store| number(&old).is_ok_and(|old| old == store)) {
        return std::fs::remove_file(&old);
    }
    wipe(&old)
}

/// Overwrites a file with zeros and removes it.
fn wipe(path: &Path) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut left = file.metadata()?.len();
    file.rewind()?;
    let zeros = vec![0; BLOCK];
    while left > 0 {
        let some = left.min(BLOCK as u64);
        file.write_all(&zeros[..some as usize])?;
        left -= some;
    }
    file.sync_all()?;
    std::fs::remove_file(path)
}

/// Returns how many of `needles` occur in the file of the store. Needles shorter than [`NEEDLE_BYTES`] are skipped.
///
/// # Errors
///
/// The file cannot be read.
pub fn find_in(folder: &Path, needles: &[Vec<u8>]) -> std::io::Result<usize> {
    let mut wanted: HashMap<u64, Vec<&[u8]>> = HashMap::new();
    for needle in needles {
        if let Some(needle) = needle.get(..NEEDLE_BYTES) {
            let first = needle[..8].try_into().expect("8 of 16");
            let all = wanted.entry(u64::from_be_bytes(first)).or_default();
            all.push(needle);
        }
    }
    let mut found: Vec<&[u8]> = Vec::new();
    let mut file = File::open(folder.join(FILE))?;
    // The end of a block is kept as the beginning of the next.
    let mut block = Vec::with_capacity(BLOCK + NEEDLE_BYTES);
    loop {
        let kept = block.len();
        let read = Read::by_ref(&mut file)
            .take(BLOCK as u64)
            .read_to_end(&mut block)?;
        for window in block.windows(NEEDLE_BYTES) {
            let first = u64::from_be_bytes(window[..8].try_into().expect("8 of 16"));
            if let Some(all) = wanted.get(&first) {
                found.extend(all.iter().filter(|needle| **needle == window));
            }
        }
        if read == 0 {
            break;
        }
        let end = (kept + read).saturating_sub(NEEDLE_BYTES - 1);
        block.drain(..end);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_is_found_wherever_blocks_end() {
        let folder = tempfile::tempdir().unwrap();
        let needles: Vec<Vec<u8>> = (1..5u8).map(|n| vec![n; 20]).collect();
        let mut bytes = vec![0; 3 * BLOCK];
        for (at, needle) in [5, BLOCK - 9, 2 * BLOCK - 1].into_iter().zip(&needles) {
            bytes[at..at + 20].copy_from_slice(needle);
        }
        std::fs::write(folder.path().join(FILE), &bytes).unwrap();
        assert_eq!(find_in(folder.path(), &needles).unwrap(), 3);
        assert_eq!(find_in(folder.path(), &needles[3..]).unwrap(), 0);
    }

    #[test]
    fn what_a_rewriting_left_half_way_never_costs_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        // Ended before the new file had its name.
        std::fs::write(path(FILE), "the store").unwrap();
        std::fs::write(path(NEW), "half of a new one").unwrap();
        std::fs::hard_link(path(FILE), path(OLD)).unwrap();
        finish(folder.path()).unwrap();
        assert_eq!(std::fs::read(path(FILE)).unwrap(), b"the store");
        assert!(!path(NEW).exists() && !path(OLD).exists());
        // Ended before the old one was overwritten; another name shows that it was.
        std::fs::write(path(OLD), "the old store").unwrap();
        std::fs::hard_link(path(OLD), path("seen")).unwrap();
        finish(folder.path()).unwrap();
        assert_eq!(std::fs::read(path(FILE)).unwrap(), b"the store");
        assert_eq!(std::fs::read(path("seen")).unwrap(), [0; 13]);
        assert!(!path(OLD).exists());
        finish(folder.path()).unwrap();
    }
}
