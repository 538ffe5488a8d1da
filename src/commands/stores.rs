//! Stores as commands open them.

use super::failure::Failure;
use crate::board::Board;
use crate::config::{Settings, StoreSettings};
use crate::seal::Seal;
use crate::store::{Store, embedded, redis};
use std::path::Path;
use std::sync::Arc;

/// An open store.
pub(super) enum StoreHandle {
    Embedded(Box<embedded::OpenedEmbedded>),
    Redis(Box<redis::OpenedRedis>),
}

/// Opens the store; `cache_bytes` is the page cache of an embedded one.
pub(super) async fn open_store(
    settings: &Settings,
    seal: &Seal,
    cache_bytes: usize,
) -> Result<StoreHandle, Failure> {
    Ok(match &settings.store {
        StoreSettings::Embedded(folder) => {
            StoreHandle::Embedded(Box::new(open_embedded(folder, seal, cache_bytes)?))
        }
        StoreSettings::Redis(settings) => StoreHandle::Redis(Box::new(
            redis::OpenedRedis::open((**settings).clone(), seal.mark(), seal.status_tags()).await?,
        )),
    })
}

/// Opens an embedded store; `cache_bytes` is its page cache.
pub(super) fn open_embedded(
    folder: &Path,
    seal: &Seal,
    cache_bytes: usize,
) -> Result<embedded::OpenedEmbedded, Failure> {
    let settings = embedded::Settings {
        cache_bytes,
        fill_threads: std::thread::available_parallelism().map_or(1, usize::from),
        ..embedded::Settings::new(folder.to_owned())
    };
    Ok(embedded::OpenedEmbedded::open(
        settings,
        seal.mark(),
        seal.status_tags(),
    )?)
}

/// Refuses a directory without a store, before a command that only reads would create a ring or a store.
pub(super) fn must_exist(settings: &Settings) -> Result<(), Failure> {
    match settings.store.folder() {
        Some(folder) if !embedded::is_in(folder) => {
            Err(anyhow::anyhow!("there is no store in {}", folder.display()).into())
        }
        _ => Ok(()),
    }
}

/// Opens a store that must have been written to; call [`must_exist`] before.
pub(super) async fn open_existing(
    settings: &Settings,
    seal: &Seal,
) -> Result<StoreHandle, Failure> {
    must_exist(settings)?;
    let opened = open_store(settings, seal, settings.store_cache_bytes).await?;
    match &opened {
        StoreHandle::Redis(store) if !store.was_written() => {
            Err(anyhow::anyhow!("there is no store in this Redis: nothing was ever written").into())
        }
        _ => Ok(opened),
    }
}

/// Starts a store that a command writes to, without a board.
pub(super) fn started(opened: StoreHandle, settings: &Settings) -> Box<dyn Store> {
    match opened {
        StoreHandle::Embedded(store) => {
            let board = Arc::new(Board::new(0, settings.board.clone()));
            Box::new(store.start(board, Arc::default()))
        }
        StoreHandle::Redis(store) => Box::new(store.start(None, Arc::default())),
    }
}

/// Returns the runtime of everything except the doors: the start, signals, the store.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        // Few threads: the ones that filled the board have nothing more to do, and each call of the store would wake another.
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .enable_all()
        .build()
}
