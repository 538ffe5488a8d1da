//! The file of the embedded store: its name, its tables and the number of their format, and how it is opened.

use crate::private_file;
use crate::store::error::Error;
use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};
use std::path::{Path, PathBuf};

/// Records, each followed by its tag.
pub(super) const RESIDENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("residents");

/// Words in the upper half, their tags in the lower.
pub(super) const WORDS: TableDefinition<u64, u128> = TableDefinition::new("words");

/// Format, mark of the ring, and counts, by name.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Number of the table layout. A store with another number is refused.
pub const FORMAT: u64 = 5;

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

/// Name of the file.
pub(super) const FILE: &str = "liangma.redb";

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

/// Opens the file, or creates it without tables.
pub(super) fn open_file(settings: &Settings) -> Result<Database, redb::DatabaseError> {
    Database::builder()
        .set_cache_size(settings.cache_bytes)
        .create(settings.folder.join(FILE))
}

/// Returns the number of residents on record.
pub(super) fn count(db: &Database) -> Result<u64, Error> {
    let txn = db.begin_read().map_err(failed)?;
    let words = txn.open_table(WORDS).map_err(failed)?;
    words.len().map_err(failed)
}

/// Creates a directory of mode 0700 and its parents. An existing directory stays as it is.
///
/// # Errors
///
/// The directory cannot be created.
pub fn make_private(folder: &Path) -> std::io::Result<()> {
    private_file::create_folder(folder)
}

/// Returns a failure of the disk, or of what is read from it.
pub(super) fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Failed(Box::new(error))
}
