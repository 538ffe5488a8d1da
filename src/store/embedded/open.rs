//! Opens the embedded store in its directory, or makes a new one there. Refuses another format, another key ring, and a file in use.

use super::fence;
use super::file::{
    FILE, FORMAT, META, RESIDENTS, Settings, WORDS, failed, make_private, open_file,
};
use super::opened::OpenedEmbedded;
use super::papers;
use super::rewrite;
use crate::private_file;
use crate::seal::tags::StatusTags;
use crate::store::error::Error;
use redb::{Database, ReadableDatabase};
use std::path::Path;

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
