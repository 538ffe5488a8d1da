//! Bulk loading with bounded memory: changes are sorted so that each page is written once.
//!
//! Resident ids are keyed hashes, so events come in random order for the tree, and a tree of ten gigabytes cannot take them one
//! by one. They are sorted in runs on the disk, merged, and applied by rising id: appended if they follow everything on record,
//! as in a first import, and inserted otherwise.

use super::commit::{Committed, commit};
use super::file::{RESIDENTS, WORDS, failed};
use super::opened::OpenedEmbedded;
use super::papers::PaperTables;
use super::rows::{sealed_record, sealed_word, shorten};
use crate::clock::Time;
use crate::paper::Paper;
use crate::person::{Identity, PROBES_MAX, ResidentId};
use crate::status::Word;
use crate::store::change::{BulkLoadReport, Change, ChangeKind, ChangeOutcome};
use crate::store::error::Error;
use crate::store::record::{Assertion, Record};
use redb::{ReadableDatabase, ReadableTable};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::ops::Bound;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Creates a file of mode 0600, or empties an existing one.
fn private(path: &Path) -> std::io::Result<File> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Bytes of changes that are sorted in memory. Up to twice as much is held.
pub const RUN_BYTES: usize = 128 << 20;

/// Changes in one commit.
const COMMIT_CHANGES: usize = 500_000;

/// Returns the directory for the runs of an import. It holds sealed profiles, and no name or number in clear.
fn folder(store: &OpenedEmbedded) -> PathBuf {
    store.settings.folder.join("import")
}

/// An import in progress. Nothing is on record before [`EmbeddedBulk::finish`]; afterwards it is durable.
pub struct EmbeddedBulk<'s> {
    store: &'s OpenedEmbedded,
    run_bytes: usize,
    /// Changes in their order, and where each begins.
    arena: Vec<u8>,
    index: Vec<(u64, u32)>,
    runs: Vec<PathBuf>,
    changes: u64,
}

impl OpenedEmbedded {
    /// Starts an import; `run_bytes` is usually [`RUN_BYTES`].
    ///
    /// # Errors
    ///
    /// The directory of the runs cannot be created.
    pub fn bulk(&self, run_bytes: usize) -> Result<EmbeddedBulk<'_>, Error> {
        // A killed import leaves its runs behind.
        let _ = std::fs::remove_dir_all(folder(self));
        Ok(EmbeddedBulk {
            store: self,
            run_bytes: run_bytes.min(u32::MAX as usize / 2),
            arena: Vec::new(),
            index: Vec::new(),
            runs: Vec::new(),
            changes: 0,
        })
    }
}

impl Drop for EmbeddedBulk<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(folder(self.store));
    }
}

impl EmbeddedBulk<'_> {
    /// Adds a change.
    ///
    /// # Errors
    ///
    /// A run cannot be written.
    pub fn push(&mut self, change: Change) -> Result<(), Error> {
        let who = shorten(change.who, self.store.settings.home_bits);
        self.index.push((who.home.0, self.arena.len() as u32));
        write_change(&mut self.arena, &who, &change.what);
        self.changes += 1;
        if self.arena.len() >= self.run_bytes {
            self.spill()?;
        }
        Ok(())
    }

    /// Returns the number of added changes.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Puts everything on record. `progress` gets the number of changes done.
    ///
    /// # Errors
    ///
    /// A run cannot be read, or the store fails; commits before the failure stay.
    pub fn finish(mut self, mut progress: impl FnMut(u64)) -> Result<BulkLoadReport, Error> {
        let mut loaded = BulkLoadReport::default();
        let mut done = 0;
        let mut put = |changes: Vec<(Identity, ChangeKind)>| -> Result<(), Error> {
            let count = changes.len() as u64;
            let counted: Vec<bool> = changes.iter().map(|(_, what)| what.is_counted()).collect();
            let outcomes = if self.store.all_behind(changes[0].0.home)? {
                self.store.append(changes)?
            } else {
                commit(&self.store.db, &self.store.tags, changes)?.outcomes
            };
            for (outcome, _) in outcomes.iter().zip(counted).filter(|(_, counted)| *counted) {
                loaded.count(*outcome);
            }
            done += count;
            progress(done);
            Ok(())
        };
        if self.runs.is_empty() {
            sort(&mut self.index, &self.arena);
            let changes = self.index.iter().map(|(_, at)| {
                read_change(&self.arena[*at as usize..])
                    .ok_or(Error::Damaged("an import in memory"))
            });
            in_batches(changes, &mut put)?;
        } else {
            self.spill()?;
            (self.arena, self.index) = (Vec::new(), Vec::new());
            in_batches(Merge::open(&self.runs)?, &mut put)?;
        }
        self.store.note_commits()?;
        Ok(loaded)
    }

    /// Writes the changes in memory as a sorted run.
    fn spill(&mut self) -> Result<(), Error> {
        sort(&mut self.index, &self.arena);
        let folder = folder(self.store);
        super::file::make_private(&folder).map_err(failed)?;
        let path = folder.join(format!("run-{}", self.runs.len()));
        let mut file = BufWriter::with_capacity(1 << 20, private(&path).map_err(failed)?);
        for (_, at) in &self.index {
            let change = &self.arena[*at as usize..];
            let length = change_len(change).ok_or(Error::Damaged("an import in memory"))?;
            file.write_all(&change[..length]).map_err(failed)?;
        }
        file.flush().map_err(failed)?;
        self.runs.push(path);
        self.arena.clear();
        self.index.clear();
        Ok(())
    }
}

/// Sorts by identity; changes of one resident keep their order.
fn sort(index: &mut [(u64, u32)], arena: &[u8]) {
    let claim = |at: u32| &arena[at as usize + 8..at as usize + 24];
    index.sort_unstable_by(|a, b| {
        (a.0.cmp(&b.0))
            .then_with(|| claim(a.1).cmp(claim(b.1)))
            .then(a.1.cmp(&b.1))
    });
}

/// Splits a sorted stream into commits, never between two changes of one resident.
fn in_batches(
    changes: impl Iterator<Item = Result<(Identity, ChangeKind), Error>>,
    put: &mut impl FnMut(Vec<(Identity, ChangeKind)>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut batch: Vec<(Identity, ChangeKind)> = Vec::new();
    for change in changes {
        let change = change?;
        let same = batch.last().is_some_and(|last| last.0 == change.0);
        if batch.len() >= COMMIT_CHANGES && !same {
            put(std::mem::take(&mut batch))?;
        }
        batch.push(change);
    }
    if !batch.is_empty() {
        put(batch)?;
    }
    Ok(())
}

impl OpenedEmbedded {
    /// Returns whether everything on record is before `home`.
    fn all_behind(&self, home: ResidentId) -> Result<bool, Error> {
        let txn = self.db.begin_read().map_err(failed)?;
        let words = txn.open_table(WORDS).map_err(failed)?;
        let last = words.last().map_err(failed)?.map(|(id, _)| id.value());
        Ok(last.is_none_or(|last| last < home.0))
    }

    /// Appends sorted changes after everything on record. No lookup is needed: occupied ids belong to the residents just
    /// before.
    fn append(&self, changes: Vec<(Identity, ChangeKind)>) -> Result<Vec<ChangeOutcome>, Error> {
        let mut outcomes = vec![ChangeOutcome::Unchanged; changes.len()];
        let now = Time::now();
        let mut displaced = Vec::new();
        let txn = self.db.begin_write().map_err(failed)?;
        {
            let mut words = txn.open_table(WORDS).map_err(failed)?;
            let mut residents = txn.open_table(RESIDENTS).map_err(failed)?;
            let mut at_words = words
                .upper_bound_mut(Bound::<u64>::Unbounded)
                .map_err(failed)?;
            let mut at_residents = residents
                .upper_bound_mut(Bound::<u64>::Unbounded)
                .map_err(failed)?;
            let mut last: Option<u64> = None;
            let mut pile = PaperTables::open(&txn)?;
            let mut changes = changes.into_iter().enumerate().peekable();
            while let Some((nth, (who, what))) = changes.next() {
                let mut said = vec![(nth, what)];
                while let Some((nth, (_, what))) = changes.next_if(|(_, next)| next.0 == who) {
                    said.push((nth, what));
                }
                pile.take(&who, &mut said, &mut outcomes)?;
                // Sorted, so a home that is taken means that every slot up to the last one written is.
                let id = match last {
                    Some(last) if last >= who.home.0 => last.checked_add(1),
                    _ => Some(who.home.0),
                };
                let is_near = |id: &u64| {
                    let steps = id - who.home.0;
                    steps < PROBES_MAX && who.slot(steps).0 == *id
                };
                let Some(id) = id.filter(is_near) else {
                    tracing::error!(error = %Error::Crowded, "a resident's changes are refused");
                    for (nth, _) in said {
                        outcomes[nth] = ChangeOutcome::Unreadable;
                    }
                    continue;
                };
                let mut said = said.into_iter();
                let first =
                    said.find_map(|(nth, what)| Some((nth, Record::first(who.claim, what)?)));
                let Some((nth, mut record)) = first else {
                    continue;
                };
                outcomes[nth] = ChangeOutcome::Applied;
                for (nth, what) in said {
                    super::commit::note(&mut outcomes[nth], record.take(what));
                }
                if id != who.home.0 {
                    displaced.push(who);
                }
                let version = Word::version_after(None, now);
                let word = Word::new(version, who.check(), record.reasons());
                let at = ResidentId(id);
                at_words
                    .insert_before(id, sealed_word(&self.tags, at, word))
                    .map_err(failed)?;
                at_residents
                    .insert_before(id, &sealed_record(&self.tags, at, word, &record)[..])
                    .map_err(failed)?;
                last = Some(id);
            }
            at_words.close().map_err(failed)?;
            at_residents.close().map_err(failed)?;
            let mut tables = super::commit::Tables {
                words,
                residents,
                tags: &self.tags,
                now,
            };
            let mut committed = Committed::default();
            for who in displaced {
                tables.tell_apart(&who, &mut committed)?;
            }
        }
        super::fence::count(&txn)?;
        txn.commit().map_err(failed)?;
        Ok(outcomes)
    }
}

/// Appends home (8), claim (16), length of the rest (4), kind (1), then the assertion if any and the profile, or the paper with
/// its key in front.
fn write_change(out: &mut Vec<u8>, who: &Identity, what: &ChangeKind) {
    out.extend_from_slice(&who.home.0.to_be_bytes());
    out.extend_from_slice(&who.claim);
    let length = out.len();
    out.extend_from_slice(&[0; 4]);
    let profile = match what {
        ChangeKind::Profile(profile) => {
            out.push(0);
            &profile[..]
        }
        ChangeKind::Status(assertion, profile) => {
            out.push(1);
            assertion.write(out);
            &profile[..]
        }
        ChangeKind::Paper(paper) => {
            out.push(2);
            out.extend_from_slice(&paper.key);
            paper.write(out);
            &[]
        }
        ChangeKind::Erase => {
            out.push(3);
            &[]
        }
        ChangeKind::Override(assertion) => {
            out.push(4);
            assertion.write(out);
            &[]
        }
    };
    out.extend_from_slice(profile);
    let rest = (out.len() - length - 4) as u32;
    out[length..length + 4].copy_from_slice(&rest.to_be_bytes());
}

const HEAD: usize = 28;

/// Returns the length of the change at the beginning of `bytes`.
fn change_len(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(24..HEAD)?.try_into().ok()?;
    Some(HEAD + u32::from_be_bytes(length) as usize)
}

fn read_change(bytes: &[u8]) -> Option<(Identity, ChangeKind)> {
    let rest = bytes.get(HEAD..change_len(bytes)?)?;
    let who = Identity {
        home: ResidentId(u64::from_be_bytes(bytes[..8].try_into().ok()?)),
        claim: bytes[8..24].try_into().ok()?,
    };
    let (kind, rest) = rest.split_first()?;
    let what = match kind {
        0 => ChangeKind::Profile(rest.into()),
        1 => {
            let (assertion, profile) = Assertion::read(rest)?;
            ChangeKind::Status(assertion, profile.into())
        }
        2 => {
            let (key, value) = rest.split_first_chunk::<16>()?;
            ChangeKind::Paper(Paper::read(*key, value)?)
        }
        3 => ChangeKind::Erase,
        4 => ChangeKind::Override(Assertion::read(rest)?.0),
        _ => return None,
    };
    Some((who, what))
}

/// Merges sorted runs into one sorted stream; changes of one resident stay in the order of the runs.
struct Merge {
    runs: Vec<BufReader<File>>,
    heads: BinaryHeap<Reverse<(Identity, usize, Vec<u8>)>>,
}

impl Merge {
    fn open(paths: &[PathBuf]) -> Result<Merge, Error> {
        let mut merge = Merge {
            runs: Vec::new(),
            heads: BinaryHeap::new(),
        };
        for (nth, path) in paths.iter().enumerate() {
            let file = File::open(path).map_err(failed)?;
            merge.runs.push(BufReader::with_capacity(256 << 10, file));
            merge.pull(nth, Vec::new())?;
        }
        Ok(merge)
    }

    /// Puts the next change of a run into the heap; `bytes` is a buffer to reuse.
    fn pull(&mut self, nth: usize, mut bytes: Vec<u8>) -> Result<(), Error> {
        let run = &mut self.runs[nth];
        let mut head = [0; HEAD];
        match run.read_exact(&mut head) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read.map_err(failed)?,
        }
        bytes.clear();
        bytes.extend_from_slice(&head);
        bytes.resize(change_len(&head).ok_or(Error::Damaged("a run"))?, 0);
        run.read_exact(&mut bytes[HEAD..]).map_err(failed)?;
        let who = Identity {
            home: ResidentId(u64::from_be_bytes(head[..8].try_into().expect("8 of 28"))),
            claim: head[8..24].try_into().expect("16 of 28"),
        };
        self.heads.push(Reverse((who, nth, bytes)));
        Ok(())
    }
}

impl Iterator for Merge {
    type Item = Result<(Identity, ChangeKind), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((_, nth, bytes)) = self.heads.pop()?;
        let change = read_change(&bytes).ok_or(Error::Damaged("a run"));
        if let Err(error) = self.pull(nth, bytes) {
            return Some(Err(error));
        }
        Some(change)
    }
}
