//! The key ring that a command reads: made at a first start, never for a store with data.

use super::failure::Failure;
use super::terminal::note;
use crate::clock::Time;
use crate::config::Settings;
use crate::seal::ring::{KeyFile, RingFile};
use crate::store::embedded;
use std::path::Path;

/// Returns the key ring. A first start of an embedded store creates one; a store with data never gets another.
pub(super) fn ring(settings: &Settings) -> Result<RingFile, Failure> {
    prepare_ring(settings)?;
    Ok(RingFile::read(&settings.keys)?)
}

/// Returns the key ring of a starting node, or the part that its doors need.
pub(super) fn node_keys(settings: &Settings) -> Result<KeyFile, Failure> {
    prepare_ring(settings)?;
    read_node_keys(settings)
}

/// Reads a key ring, or the part that these doors need.
pub(super) fn read_node_keys(settings: &Settings) -> Result<KeyFile, Failure> {
    let keys = KeyFile::read(&settings.keys)?;
    let doors = settings.doors.iter().map(|(door, _)| door.name());
    match &keys {
        KeyFile::Part(part) => match part.refused(doors) {
            Some(why) => Err(anyhow::anyhow!("{}: {why}", settings.keys.display()).into()),
            None => Ok(keys),
        },
        KeyFile::Whole(_) => Ok(keys),
    }
}

/// Creates the ring at a first start, and refuses a store whose ring is missing.
fn prepare_ring(settings: &Settings) -> Result<(), Failure> {
    if let Some(folder) = settings.store.folder()
        && settings.keys == folder.join("keys")
        && !settings.keys.exists()
        && !embedded::is_in(folder)
    {
        make_private(folder)?;
        RingFile::generate(Time::now()).write_new(&settings.keys)?;
        note(&format!(
            "created a key ring: {} (mode 0600). Keep a copy: without it the store cannot be read.",
            settings.keys.display()
        ));
    }
    if let Some(folder) = settings.store.folder()
        && !settings.keys.exists()
        && embedded::is_in(folder)
    {
        return Err(lost_ring(&settings.keys, folder));
    }
    Ok(())
}

/// Returns the failure of a store with data whose key ring is missing.
pub(super) fn lost_ring(keys: &Path, folder: &Path) -> Failure {
    let (keys, folder) = (keys.display(), folder.display());
    let why = anyhow::anyhow!(
        "the key ring {keys} is missing, and {folder} has a store: put the ring's copy back; a new ring cannot read what is there"
    );
    why.into()
}

/// Creates the directory of a store, of mode 0700.
pub(super) fn make_private(folder: &Path) -> Result<(), Failure> {
    embedded::make_private(folder)
        .map_err(|error| anyhow::anyhow!("{}: {error}", folder.display()))?;
    Ok(())
}
