//! Backups of the embedded store: all tables in one stream of frames, and a new store from such a stream.
//!
//! A backup is read in one transaction: it holds what was committed before, and nothing later. Writers go on meanwhile. Sealed
//! data stays sealed, so names need the key ring. A frame has kind (1), length (4) and contents; the last one has counts and a
//! SHA-256 of all before, so that a cut backup is noticed.

use super::fence::RESTORED;
use super::file::{FILE, FORMAT, META, RESIDENTS, Settings, WORDS, failed};
use super::papers::{INDEX, PAPERS};
use crate::clock::Time;
use crate::store::contract::StoreStream;
use crate::store::error::Error;
use crate::{hex, private_file};
use aws_lc_rs::digest::{Context, SHA256};
use redb::{Database, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const MAGIC: &[u8; 16] = b"liangma backup 1";

/// Approximate size of a frame's rows in bytes.
const FRAME_BYTES: usize = 64 << 10;

/// Largest size of a frame in bytes; a longer one is invalid.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// Rows in one commit of a restore.
const COMMIT_ROWS: usize = 200_000;

/// Frames that wait for a slow reader.
pub const FRAMES_WAITING_MAX: usize = 4;

const HEAD: u8 = b'H';
const ROWS: u8 = b'R';
const END: u8 = b'E';

/// Name of the new file until it is complete.
const NEW: &str = "liangma.redb.restored";

/// Why a backup cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum BackupError {
    #[error("is not a backup of liangma")]
    Foreign,
    #[error("is incomplete: its end is missing")]
    Cut,
    #[error("is not as it was written")]
    Damaged,
    #[error("was made of a store of format {0}; this version has {FORMAT}")]
    Format(u64),
    #[error("was made with another key ring; `--keys` must name the one of its store")]
    ForeignRing,
    #[error("{0} has a store already, which is not overwritten")]
    Exists(String),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] Error),
}

/// Contents of the first frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackupHead {
    /// Format of the copied store.
    pub store_format: u64,
    /// Mark of the key ring, in hexadecimal.
    pub ring: String,
    /// When the reading began, in milliseconds since 1970: everything acknowledged before is in the backup.
    pub begun_at: u64,
}

/// Contents of the last frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct BackupEnd {
    rows: [u64; 5],
    sha256: String,
}

/// Summary of a complete backup.
#[derive(Clone, Debug)]
pub struct BackupSummary {
    /// The head of the backup.
    pub head: BackupHead,
    /// Number of residents.
    pub residents: u64,
    /// Number of papers.
    pub papers: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// The tables, by their index in a backup.
const NAMES: [&str; 5] = ["meta", "residents", "words", "papers", "papers_by_time"];

/// Function that takes a row's key and value as bytes.
type RowWriter<'w> = &'w mut dyn FnMut(&[u8], &[u8]) -> Result<(), Error>;

/// Writes frames to a sink that may fail.
struct FrameWriter<S> {
    sink: S,
    digest: Context,
    table: u8,
    rows: [u64; 5],
    frame: Vec<u8>,
}

impl<S: FnMut(Vec<u8>) -> Result<(), Error>> FrameWriter<S> {
    fn send(&mut self, kind: u8, contents: &[u8]) -> Result<(), Error> {
        let mut frame = Vec::with_capacity(5 + contents.len());
        frame.push(kind);
        frame.extend_from_slice(&(contents.len() as u32).to_be_bytes());
        frame.extend_from_slice(contents);
        if kind != END {
            self.digest.update(&frame);
        }
        (self.sink)(frame)
    }

    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if self.frame.is_empty() {
            self.frame.push(self.table);
        }
        self.frame
            .extend_from_slice(&(key.len() as u32).to_be_bytes());
        self.frame.extend_from_slice(key);
        self.frame
            .extend_from_slice(&(value.len() as u32).to_be_bytes());
        self.frame.extend_from_slice(value);
        self.rows[usize::from(self.table)] += 1;
        match self.frame.len() >= FRAME_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Writes a table; `bytes` passes key and value of each row.
    fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &mut self,
        place: u8,
        txn: &ReadTransaction,
        definition: TableDefinition<K, V>,
        bytes: impl for<'r> Fn(K::SelfType<'r>, V::SelfType<'r>, RowWriter<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.table = place;
        let table = txn.open_table(definition).map_err(failed)?;
        for row in table.iter().map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            bytes(key.value(), value.value(), &mut |key, value| {
                self.row(key, value)
            })?;
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Error> {
        let frame = std::mem::take(&mut self.frame);
        match frame.is_empty() {
            true => Ok(()),
            false => self.send(ROWS, &frame),
        }
    }
}

/// Writes everything that a transaction sees as frames.
///
/// # Errors
///
/// The store cannot be read, or the sink failed.
pub fn write(
    txn: &ReadTransaction,
    begun_at: Time,
    mut sink: impl FnMut(Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    let meta = txn.open_table(META).map_err(failed)?;
    let ring = meta.get("ring").map_err(failed)?;
    let ring = ring.map(|ring| hex::text(ring.value())).unwrap_or_default();
    sink(MAGIC.to_vec())?;
    let mut writer = FrameWriter {
        sink,
        digest: Context::new(&SHA256),
        table: 0,
        rows: [0; 5],
        frame: Vec::new(),
    };
    writer.digest.update(MAGIC);
    let head = BackupHead {
        store_format: FORMAT,
        ring,
        begun_at: begun_at.0,
    };
    writer.send(HEAD, &serde_json::to_vec(&head).map_err(failed)?)?;
    let raw = |id: u64| id.to_be_bytes();
    writer.table(0, txn, META, |key, value, row| row(key.as_bytes(), value))?;
    writer.table(1, txn, RESIDENTS, |key, value, row| row(&raw(key), value))?;
    writer.table(2, txn, WORDS, |key, value, row| {
        row(&raw(key), &value.to_be_bytes())
    })?;
    writer.table(3, txn, PAPERS, |key, value, row| row(key, value))?;
    writer.table(4, txn, INDEX, |key, (), row| row(key, &[]))?;
    let digest = writer.digest.clone().finish();
    let end = BackupEnd {
        rows: writer.rows,
        sha256: hex::text(digest.as_ref()),
    };
    writer.send(END, &serde_json::to_vec(&end).map_err(failed)?)
}

/// Sends the frames of a transaction from a low-priority thread. It ends early, without the last frame, if the reader has left
/// or `is_over` returns true.
///
/// # Errors
///
/// The thread cannot be started.
pub fn stream(
    txn: ReadTransaction,
    begun_at: Time,
    is_over: impl Fn() -> bool + Send + 'static,
) -> io::Result<StoreStream> {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Vec<u8>>(FRAMES_WAITING_MAX);
    let send = move |frame: Vec<u8>| {
        let mut frame = frame;
        loop {
            if is_over() {
                return Err(Error::Closed);
            }
            match sender.try_send(frame) {
                Ok(()) => return Ok(()),
                Err(tokio::sync::mpsc::error::TrySendError::Closed(_)) => {
                    return Err(Error::Closed);
                }
                Err(tokio::sync::mpsc::error::TrySendError::Full(back)) => frame = back,
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    };
    let thread = std::thread::Builder::new().name("backup".into());
    thread.spawn(move || {
        crate::kernel::step_back(10);
        match write(&txn, begun_at, send) {
            Ok(()) => {
                tracing::info!(begun_at = %begun_at, "a backup was handed whole to its reader")
            }
            Err(error) => tracing::warn!(%error, "a backup ended early and is incomplete"),
        }
    })?;
    Ok(receiver)
}

/// Function that takes the index of a table, a key and a value.
pub type EachRow<'e> = dyn FnMut(&BackupHead, usize, &[u8], &[u8]) -> Result<(), BackupError> + 'e;

/// Reads a backup to its end, and passes each row of each table to `each`.
///
/// # Errors
///
/// The bytes are not a complete and unchanged backup, or `each` failed.
pub fn read(mut from: impl Read, each: &mut EachRow<'_>) -> Result<BackupSummary, BackupError> {
    let cut = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => BackupError::Cut,
        _ => BackupError::Io(error),
    };
    let mut magic = [0; 16];
    from.read_exact(&mut magic)
        .map_err(|_| BackupError::Foreign)?;
    if magic != *MAGIC {
        return Err(BackupError::Foreign);
    }
    let mut digest = Context::new(&SHA256);
    digest.update(&magic);
    let mut known: Option<BackupHead> = None;
    let mut rows = [0u64; 5];
    let mut bytes = magic.len() as u64;
    let mut contents = Vec::new();
    loop {
        let mut head = [0; 5];
        from.read_exact(&mut head).map_err(cut)?;
        let length = u32::from_be_bytes(head[1..].try_into().expect("4 of 5")) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(BackupError::Damaged);
        }
        contents.resize(length, 0);
        from.read_exact(&mut contents).map_err(cut)?;
        bytes += 5 + length as u64;
        if head[0] != END {
            digest.update(&head);
            digest.update(&contents);
        }
        match (head[0], &known) {
            (HEAD, None) => {
                let read: BackupHead =
                    serde_json::from_slice(&contents).map_err(|_| BackupError::Damaged)?;
                if read.store_format != FORMAT {
                    return Err(BackupError::Format(read.store_format));
                }
                known = Some(read);
            }
            (ROWS, Some(head)) => {
                let (table, mut rest) = contents.split_first().ok_or(BackupError::Damaged)?;
                let table = usize::from(*table);
                let count = rows.get_mut(table).ok_or(BackupError::Damaged)?;
                while !rest.is_empty() {
                    let key = take(&mut rest)?;
                    let value = take(&mut rest)?;
                    *count += 1;
                    each(head, table, key, value)?;
                }
            }
            (END, Some(head)) => {
                let end: BackupEnd =
                    serde_json::from_slice(&contents).map_err(|_| BackupError::Damaged)?;
                if end.rows != rows || end.sha256 != hex::text(digest.finish().as_ref()) {
                    return Err(BackupError::Damaged);
                }
                if from.read(&mut [0])? != 0 {
                    return Err(BackupError::Damaged);
                }
                return Ok(BackupSummary {
                    head: head.clone(),
                    residents: rows[1],
                    papers: rows[3],
                    bytes,
                });
            }
            _ => return Err(BackupError::Damaged),
        }
    }
}

fn take<'b>(rest: &mut &'b [u8]) -> Result<&'b [u8], BackupError> {
    let (length, behind) = rest.split_first_chunk().ok_or(BackupError::Damaged)?;
    let length = u32::from_be_bytes(*length) as usize;
    let (taken, behind) = behind
        .split_at_checked(length)
        .ok_or(BackupError::Damaged)?;
    *rest = behind;
    Ok(taken)
}

/// Creates a store from a backup in a directory without one. It appears once complete. `believed` is for a command that only
/// reads it; any other store is not believed until it is accepted (see [`super::fence`]).
///
/// # Errors
///
/// The backup is invalid or of another ring or format, the directory has a store, or the disk fails.
pub fn restore(
    settings: &Settings,
    mark: [u8; 16],
    from: impl Read,
    believed: bool,
) -> Result<BackupSummary, BackupError> {
    super::file::make_private(&settings.folder)?;
    let path = settings.folder.join(FILE);
    let place = settings.folder.display().to_string();
    if path.exists() {
        return Err(BackupError::Exists(place));
    }
    let new = settings.folder.join(NEW);
    let _ = std::fs::remove_file(&new);
    private_file::create_new(&new)?;
    let made = fill(settings, &new, mark, from, believed);
    let placed = made.and_then(|summary| {
        File::open(&new)?.sync_all()?;
        match std::fs::hard_link(&new, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(BackupError::Exists(place))
            }
            linked => Ok(linked?),
        }?;
        File::open(&settings.folder)?.sync_all()?;
        Ok(summary)
    });
    let _ = std::fs::remove_file(&new);
    placed
}

fn fill(
    settings: &Settings,
    new: &Path,
    mark: [u8; 16],
    from: impl Read,
    believed: bool,
) -> Result<BackupSummary, BackupError> {
    let mark = hex::text(&mark);
    let db = Database::builder()
        .set_cache_size(settings.cache_bytes)
        .create(new)
        .map_err(failed)?;
    let mut batch: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut of = 0;
    let mut each = |head: &BackupHead, table: usize, key: &[u8], value: &[u8]| {
        if head.ring != mark {
            return Err(BackupError::ForeignRing);
        }
        if table != of || batch.len() >= COMMIT_ROWS {
            insert(&db, of, &batch)?;
            batch.clear();
            of = table;
        }
        batch.push((key.to_vec(), value.to_vec()));
        Ok(())
    };
    let summary = read(from, &mut each)?;
    insert(&db, of, &batch)?;
    let txn = db.begin_write().map_err(failed)?;
    {
        // A store without residents or papers has these tables too.
        txn.open_table(RESIDENTS).map_err(failed)?;
        txn.open_table(WORDS).map_err(failed)?;
        super::papers::make(&txn)?;
        let mut meta = txn.open_table(META).map_err(failed)?;
        if !believed {
            let begun_at = summary.head.begun_at.to_be_bytes();
            meta.insert(RESTORED, &begun_at[..]).map_err(failed)?;
        }
    }
    txn.commit().map_err(failed)?;
    Ok(summary)
}

fn insert(db: &Database, table: usize, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<(), BackupError> {
    let txn = db.begin_write().map_err(failed)?;
    match NAMES[table] {
        "meta" => {
            let mut meta = txn.open_table(META).map_err(failed)?;
            for (key, value) in rows {
                let key = std::str::from_utf8(key).map_err(|_| BackupError::Damaged)?;
                meta.insert(key, &value[..]).map_err(failed)?;
            }
        }
        "residents" => put(&txn, RESIDENTS, rows, |key, value| Some((id(key)?, value)))?,
        "words" => {
            let mut words = txn.open_table(WORDS).map_err(failed)?;
            for (key, value) in rows {
                let value = value.as_slice().try_into().map(u128::from_be_bytes);
                let (Some(id), Ok(word)) = (id(key), value) else {
                    return Err(BackupError::Damaged);
                };
                words.insert(id, word).map_err(failed)?;
            }
        }
        "papers" => put(&txn, PAPERS, rows, |key, value| {
            Some((key.try_into().ok()?, value))
        })?,
        _ => put(&txn, INDEX, rows, |key, _| Some((key.try_into().ok()?, ())))?,
    }
    txn.commit().map_err(failed)?;
    Ok(())
}

fn id(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

fn put<K: redb::Key + 'static, V: redb::Value + 'static>(
    txn: &WriteTransaction,
    table: TableDefinition<K, V>,
    rows: &[(Vec<u8>, Vec<u8>)],
    row: impl for<'r> Fn(&'r [u8], &'r [u8]) -> Option<(K::SelfType<'r>, V::SelfType<'r>)>,
) -> Result<(), BackupError> {
    let mut table = txn.open_table(table).map_err(failed)?;
    for (key, value) in rows {
        let (key, value) = row(key, value).ok_or(BackupError::Damaged)?;
        table.insert(key, value).map_err(failed)?;
    }
    Ok(())
}
