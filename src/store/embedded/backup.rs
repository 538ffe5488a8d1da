//! Backups of the embedded store: one reading of all tables as a stream of frames, and a new store made of such a stream.
//!
//! A backup is read in one transaction, so it holds what was committed when it began and nothing of after. Writers go on meanwhile. All that
//! is sealed in the store is sealed in the backup: names need the key ring. A frame is kind (1), length (4) and contents; the last one has the counts and a
//! SHA-256 of all before it, so that a backup that was cut is not taken for a whole one.

use super::fence::RESTORED;
use super::papers::{INDEX, PAPERS};
use super::{FILE, FORMAT, META, RESIDENTS, Settings, WORDS, failed};
use crate::clock::Time;
use crate::store::{Error, StoreStream};
use crate::{hex, private_file};
use aws_lc_rs::digest::{Context, SHA256};
use redb::{Database, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const MAGIC: &[u8; 16] = b"liangma backup 1";

/// Bytes of rows that go into one frame, about.
const FRAME_BYTES: usize = 64 << 10;

/// Bytes of a frame at most; a longer one is no backup of ours.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// Rows that one commit of a restoration takes in.
const COMMIT_ROWS: usize = 200_000;

/// Frames that wait for a slow reader.
pub const FRAMES_WAITING_MAX: usize = 4;

const HEAD: u8 = b'H';
const ROWS: u8 = b'R';
const END: u8 = b'E';

/// The new file, until it is whole.
const NEW: &str = "liangma.redb.restored";

/// Why a backup cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum BackupError {
    #[error("is no backup of liangma")]
    Foreign,
    #[error("is cut: its end is missing")]
    Cut,
    #[error("is not as it was written")]
    Damaged,
    #[error("was made of a store of format {0}; this version has {FORMAT}")]
    Format(u64),
    #[error("was made with another key ring; `--keys` must name the one of its store")]
    ForeignRing,
    #[error("there is a store in {0} already; it is not overwritten")]
    Exists(String),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] Error),
}

/// What the first frame says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackupHead {
    /// The format of the store that was copied.
    pub store_format: u64,
    /// The mark of the key ring, hexadecimal.
    pub ring: String,
    /// When the reading began, in milliseconds: all that was acknowledged before is in the backup.
    pub begun_at: u64,
}

/// What the last frame says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct BackupEnd {
    rows: [u64; 5],
    sha256: String,
}

/// A backup that was read to its end.
#[derive(Clone, Debug)]
pub struct BackupSummary {
    /// What the head of the backup says.
    pub head: BackupHead,
    /// Residents that were read.
    pub residents: u64,
    /// Papers that were read.
    pub papers: u64,
    /// Bytes that were read.
    pub bytes: u64,
}

/// The tables, by their place in a backup.
const NAMES: [&str; 5] = ["meta", "residents", "words", "papers", "papers_by_time"];

/// Takes the bytes of a row's key and value.
type RowWriter<'w> = &'w mut dyn FnMut(&[u8], &[u8]) -> Result<(), Error>;

/// Writes frames to a sink that may refuse them.
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

    /// Writes a table, whose rows `bytes` hands on as key and value.
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

/// Writes all that a transaction sees as frames. `sink` may end it by an error.
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

/// Sends a backup of this transaction to a reader, frame after frame, on a thread of its own that lets others go first. It ends early, and without
/// its last frame, when the reader has left or `is_over` says so.
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
            Ok(()) => tracing::info!(begun_at = %begun_at, "a backup was read to its end"),
            Err(error) => tracing::warn!(%error, "a backup ended early"),
        }
    })?;
    Ok(receiver)
}

/// Takes the place of a table, a key and a value.
pub type EachRow<'e> = dyn FnMut(&BackupHead, usize, &[u8], &[u8]) -> Result<(), BackupError> + 'e;

/// Reads a backup to its end, handing each row of each table to `each`. An error of `each` ends it.
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

/// Makes a store of a backup in a directory that has none. It appears when it is whole. `believed`: for a reading that ends with the command; any other
/// store is not believed until it is accepted (see [`super::fence`]).
pub fn restore(
    settings: &Settings,
    mark: [u8; 16],
    from: impl Read,
    believed: bool,
) -> Result<BackupSummary, BackupError> {
    super::make_private(&settings.folder)?;
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
