//! Writes files of keys: whole or not at all, and for the owner alone.

use super::error::RingError;
use crate::private_file;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Writes a file of keys where there is none. Of two simultaneous writers one fails.
pub(super) fn write_new(keys: &impl Serialize, header: &str, path: &Path) -> Result<(), RingError> {
    let beside = write_beside(keys, header, path, None)?;
    let linked = std::fs::hard_link(&beside, path);
    let removed = std::fs::remove_file(&beside);
    match linked {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(RingError::Exists(path.to_owned()));
        }
        linked => linked.and(removed),
    }
    .and_then(|()| sync_folder(path))
    .map_err(|error| RingError::Io(path.to_owned(), error))
}

/// Writes a file of keys durably under a temporary name beside its own, with the owner of the file that it replaces.
pub(super) fn write_beside(
    keys: &impl Serialize,
    header: &str,
    path: &Path,
    replaces: Option<&Path>,
) -> Result<PathBuf, RingError> {
    let body = Zeroizing::new(toml::to_string(keys).expect("keys are plain data"));
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let _ = std::fs::remove_file(&beside);
    let written = private_file::create_new(&beside).and_then(|mut file| {
        if let Some(old) = replaces {
            private_file::take_owner_of(&file, old)?;
        }
        file.write_all(header.as_bytes())?;
        file.write_all(body.as_bytes())?;
        file.sync_all()
    });
    match written {
        Ok(()) => Ok(beside),
        Err(error) => {
            let _ = std::fs::remove_file(&beside);
            Err(RingError::Io(path.to_owned(), error))
        }
    }
}

/// Makes a new name in a folder durable.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(private_file::folder_of(path))?.sync_all()
}
