//! Papers of the embedded store. A table by home, claim and key keeps those of an owner together, in the order of records. An index
//! by kind and time lets a page be read without the rest.

use super::file::failed;
use super::opened::OpenedEmbedded;
use crate::clock::Time;
use crate::paper::{
    self, AT_MAX, Cursor, Displacement, Paper, PaperKey, PaperKind, PaperKinds, Retention,
    UNBOUNDED,
};
use crate::person::{Identity, ResidentId};
use crate::store::change::{ChangeKind, ChangeOutcome};
use crate::store::error::Error;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::ops::{Bound, RangeInclusive};

/// Key of a paper: home (8), claim (16), key of the paper (16).
pub type PaperRowKey = [u8; 40];

/// Papers by owner and key.
pub(super) const PAPERS: TableDefinition<&PaperRowKey, &[u8]> = TableDefinition::new("papers");

/// Key of the index: home (8), claim (16), kind (1), time (6), key of the paper (16).
pub type PaperIndexKey = [u8; 47];

/// Index of the papers of each owner and kind, ordered by time.
pub(super) const INDEX: TableDefinition<&PaperIndexKey, ()> =
    TableDefinition::new("papers_by_time");

/// The lowest key.
pub const FIRST: PaperRowKey = [0; 40];

/// Rows in one step of a sweep: a read of some milliseconds.
const SWEEP_STEP: usize = 20_000;

/// Papers in one step of a reader of all papers.
const READ_STEP: usize = 1_000;

/// Returns the key of a paper.
pub(super) fn row(owner: &Identity, key: &PaperKey) -> PaperRowKey {
    let mut row = [0; 40];
    row[..8].copy_from_slice(&owner.home.0.to_be_bytes());
    row[8..24].copy_from_slice(&owner.claim);
    row[24..].copy_from_slice(key);
    row
}

fn rows(owner: &Identity) -> RangeInclusive<PaperRowKey> {
    row(owner, &[0; 16])..=row(owner, &[255; 16])
}

fn entry(owner: &Identity, kind: PaperKind, at: Cursor) -> PaperIndexKey {
    let mut entry = [0; 47];
    entry[..8].copy_from_slice(&owner.home.0.to_be_bytes());
    entry[8..24].copy_from_slice(&owner.claim);
    entry[24] = kind as u8;
    entry[25..].copy_from_slice(&at.to_bytes());
    entry
}

fn place_in(entry: &PaperIndexKey) -> Cursor {
    Cursor::from_bytes(entry[25..].try_into().expect("22 of 47"))
}

const FIRST_PLACE: Cursor = Cursor {
    at: Time(0),
    key: [0; 16],
};

const LAST_PLACE: Cursor = Cursor {
    at: AT_MAX,
    key: [255; 16],
};

/// Returns the cursors of an owner's papers of a kind, the oldest first.
fn places<'t>(
    index: &'t impl ReadableTable<&'static PaperIndexKey, ()>,
    owner: &Identity,
    kind: PaperKind,
) -> Result<impl Iterator<Item = Result<Cursor, Error>> + 't, Error> {
    let first = entry(owner, kind, FIRST_PLACE);
    let last = entry(owner, kind, LAST_PLACE);
    let found = index
        .range::<&PaperIndexKey>(&first..=&last)
        .map_err(failed)?;
    Ok(found.map(|found| {
        let entry = found.map_err(failed)?.0;
        Ok(place_in(entry.value()))
    }))
}

/// Returns owner and paper of a row; None in the place of a row that is not a paper.
pub(super) fn read_row(row: &PaperRowKey, value: &[u8]) -> (Identity, Option<Paper>) {
    let owner = Identity {
        home: ResidentId(u64::from_be_bytes(row[..8].try_into().expect("8 of 40"))),
        claim: row[8..24].try_into().expect("16 of 40"),
    };
    let key = row[24..].try_into().expect("16 of 40");
    (owner, Paper::read(key, value))
}

fn paper_in(row: &PaperRowKey, value: &[u8]) -> Result<(Identity, Paper), Error> {
    let (owner, paper) = read_row(row, value);
    Ok((owner, paper.ok_or(Error::Damaged("a paper"))?))
}

/// Creates the tables in a new file.
///
/// # Errors
///
/// The tables cannot be written.
pub fn make(txn: &WriteTransaction) -> Result<(), Error> {
    txn.open_table(PAPERS).map_err(failed)?;
    txn.open_table(INDEX).map_err(failed)?;
    Ok(())
}

/// One step of reading all papers.
#[derive(Debug, Default)]
pub struct PaperStep {
    /// Papers of the requested kinds, perhaps none.
    pub papers: Vec<(Identity, Paper)>,
    /// Key at which the next step starts; None after the last.
    pub next: Option<PaperRowKey>,
    /// Number of damaged rows.
    pub damaged: u64,
}

impl OpenedEmbedded {
    /// Passes every paper of these kinds to `each`, those of an owner together. Returns the number of damaged rows, which are left
    /// out.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or `each` failed.
    pub fn each_paper(
        &self,
        kinds: PaperKinds,
        mut each: impl FnMut(Identity, Paper) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let mut damaged = 0;
        let mut from = Some(FIRST);
        while let Some(first) = from {
            let page = self.next_papers(kinds, first)?;
            from = page.next;
            damaged += page.damaged;
            for (owner, paper) in page.papers {
                each(owner, paper)?;
            }
        }
        Ok(damaged)
    }

    /// Reads papers of these kinds from a key on.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn next_papers(&self, kinds: PaperKinds, first: PaperRowKey) -> Result<PaperStep, Error> {
        let txn = self.db.begin_read().map_err(failed)?;
        let papers = txn.open_table(PAPERS).map_err(failed)?;
        let mut step = PaperStep::default();
        for found in papers.range::<&PaperRowKey>(&first..).map_err(failed)? {
            let (key, value) = found.map_err(failed)?;
            if step.papers.len() == READ_STEP {
                step.next = Some(*key.value());
                break;
            }
            match paper_in(key.value(), value.value()) {
                Ok((owner, paper)) if kinds.has(paper.kind) => step.papers.push((owner, paper)),
                Ok(_) => {}
                Err(_) => step.damaged += 1,
            }
        }
        Ok(step)
    }

    /// Returns up to `limit` papers of an owner of these kinds after the cursor, the oldest or the newest first.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn page(
        &self,
        owner: &Identity,
        kinds: PaperKinds,
        after: Option<Cursor>,
        limit: usize,
        oldest_first: bool,
    ) -> Result<Vec<Paper>, Error> {
        read(&self.db, owner, kinds, after, limit, oldest_first)
    }

    /// Returns the owner's paper for each key; None for a missing one.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn some(&self, owner: &Identity, keys: &[PaperKey]) -> Result<Vec<Option<Paper>>, Error> {
        some(&self.db, owner, keys)
    }
}

/// Returns up to `limit` papers of an owner, the newest first unless `oldest_first`.
///
/// # Errors
///
/// The file cannot be read, or a paper is damaged.
pub(super) fn read(
    db: &Database,
    owner: &Identity,
    kinds: PaperKinds,
    after: Option<Cursor>,
    limit: usize,
    oldest_first: bool,
) -> Result<Vec<Paper>, Error> {
    let txn = db.begin_read().map_err(failed)?;
    let table = txn.open_table(PAPERS).map_err(failed)?;
    let index = txn.open_table(INDEX).map_err(failed)?;
    let mut found = Vec::new();
    for kind in PaperKind::ALL.into_iter().filter(|kind| kinds.has(*kind)) {
        let mut bounds = (
            Bound::Included(entry(owner, kind, FIRST_PLACE)),
            Bound::Included(entry(owner, kind, LAST_PLACE)),
        );
        let after = after.map(|after| Bound::Excluded(entry(owner, kind, after)));
        match oldest_first {
            true => bounds.0 = after.unwrap_or(bounds.0),
            false => bounds.1 = after.unwrap_or(bounds.1),
        }
        let bounds = (bounds.0.as_ref(), bounds.1.as_ref());
        let mut range = index.range::<&PaperIndexKey>(bounds).map_err(failed)?;
        for _ in 0..limit {
            let next = match oldest_first {
                true => range.next(),
                false => range.next_back(),
            };
            let Some(next) = next else { break };
            found.push(place_in(next.map_err(failed)?.0.value()));
        }
    }
    found.sort_unstable();
    if !oldest_first {
        found.reverse();
    }
    found.truncate(limit);
    let paper = |place: Cursor| {
        let value = table.get(&row(owner, &place.key)).map_err(failed)?;
        let value = value.ok_or(Error::Damaged("the index of papers"))?;
        Paper::read(place.key, value.value()).ok_or(Error::Damaged("a paper"))
    };
    found.into_iter().map(paper).collect()
}

/// Returns the owner's paper for each key; None for a missing one.
///
/// # Errors
///
/// The file cannot be read.
pub fn some(
    db: &Database,
    owner: &Identity,
    keys: &[PaperKey],
) -> Result<Vec<Option<Paper>>, Error> {
    let txn = db.begin_read().map_err(failed)?;
    let table = txn.open_table(PAPERS).map_err(failed)?;
    let paper = |key: &PaperKey| {
        let value = table.get(&row(owner, key)).map_err(failed)?;
        let read = value.map(|value| Paper::read(*key, value.value()));
        read.map(|paper| paper.ok_or(Error::Damaged("a paper")))
            .transpose()
    };
    keys.iter().map(paper).collect()
}

fn all_of(
    table: &impl ReadableTable<&'static PaperRowKey, &'static [u8]>,
    owner: &Identity,
) -> Result<Vec<Paper>, Error> {
    let rows = rows(owner);
    let found = table
        .range::<&PaperRowKey>(rows.start()..=rows.end())
        .map_err(failed)?;
    found
        .map(|found| {
            let (key, value) = found.map_err(failed)?;
            Ok(paper_in(key.value(), value.value())?.1)
        })
        .collect()
}

/// Returns the keys of papers past their retention in one step from `first` on, and the key of the next step.
///
/// # Errors
///
/// The file cannot be read.
pub fn past(
    db: &Database,
    keep: &Retention,
    now: Time,
    first: PaperRowKey,
) -> Result<(Vec<PaperRowKey>, Option<PaperRowKey>), Error> {
    let txn = db.begin_read().map_err(failed)?;
    let table = txn.open_table(PAPERS).map_err(failed)?;
    let mut past = Vec::new();
    for (nth, found) in table
        .range::<&PaperRowKey>(&first..)
        .map_err(failed)?
        .enumerate()
    {
        let (key, value) = found.map_err(failed)?;
        let row = *key.value();
        if nth == SWEEP_STEP {
            return Ok((past, Some(row)));
        }
        let (_, paper) = paper_in(&row, value.value())?;
        if keep.is_past(paper.kind, paper.at, now) {
            past.push(row);
        }
    }
    Ok((past, None))
}

/// Removes papers in one commit.
///
/// # Errors
///
/// The file cannot be written.
pub(super) fn remove(db: &Database, rows: &[PaperRowKey]) -> Result<(), Error> {
    let txn = db.begin_write().map_err(failed)?;
    {
        let mut pile = PaperTables::open(&txn)?;
        for row in rows {
            pile.remove(row)?;
        }
    }
    super::fence::count(&txn)?;
    txn.commit().map_err(failed)
}

/// Both tables in a write transaction.
pub struct PaperTables<'t> {
    table: redb::Table<'t, &'static PaperRowKey, &'static [u8]>,
    index: redb::Table<'t, &'static PaperIndexKey, ()>,
}

impl<'t> PaperTables<'t> {
    /// Opens both tables of a transaction.
    ///
    /// # Errors
    ///
    /// The tables cannot be opened.
    pub(super) fn open(txn: &'t WriteTransaction) -> Result<PaperTables<'t>, Error> {
        let table = txn.open_table(PAPERS).map_err(failed)?;
        let index = txn.open_table(INDEX).map_err(failed)?;
        Ok(PaperTables { table, index })
    }

    /// Takes the papers out of an owner's changes, in their order, and writes them. Records the outcome of each.
    ///
    /// # Errors
    ///
    /// The tables cannot be read or written.
    pub fn take(
        &mut self,
        owner: &Identity,
        said: &mut Vec<(usize, ChangeKind)>,
        outcomes: &mut [ChangeOutcome],
    ) -> Result<(), Error> {
        for (nth, what) in said.iter() {
            match what {
                ChangeKind::Paper(paper) => outcomes[*nth] = self.file(owner, paper)?,
                ChangeKind::Erase => outcomes[*nth] = self.erase(owner)?.into(),
                ChangeKind::Profile(_) | ChangeKind::Status(..) | ChangeKind::Override(_) => {}
            }
        }
        said.retain(|(_, what)| !matches!(what, ChangeKind::Paper(_)));
        Ok(())
    }

    fn file(&mut self, owner: &Identity, paper: &Paper) -> Result<ChangeOutcome, Error> {
        let row = row(owner, &paper.key);
        if let Some(known) = self.table.get(&row).map_err(failed)? {
            // The same paper seals to the same bytes.
            return Ok(match known.value() == paper.value() {
                true => ChangeOutcome::Unchanged,
                false => ChangeOutcome::Conflict,
            });
        }
        // A kind without a limit is written without reading the owner's other papers.
        if paper.kind.most() != UNBOUNDED {
            let kin = places(&self.index, owner, paper.kind)?;
            let kin = kin.collect::<Result<Vec<Cursor>, Error>>()?;
            match paper::room(paper.kind, kin.len(), kin.first().copied(), paper.cursor()) {
                Displacement::There => {}
                Displacement::None => return Ok(ChangeOutcome::Unchanged),
                Displacement::Instead(key) => self.remove(&self::row(owner, &key))?,
            }
        }
        self.table
            .insert(&row, &paper.value()[..])
            .map_err(failed)?;
        let entry = entry(owner, paper.kind, paper.cursor());
        self.index.insert(&entry, ()).map_err(failed)?;
        Ok(ChangeOutcome::Applied)
    }

    fn remove(&mut self, row: &PaperRowKey) -> Result<(), Error> {
        let removed = self.table.remove(row).map_err(failed)?;
        if let Some(value) = removed {
            let (owner, paper) = paper_in(row, value.value())?;
            let entry = entry(&owner, paper.kind, paper.cursor());
            self.index.remove(&entry).map_err(failed)?;
        }
        Ok(())
    }

    fn erase(&mut self, owner: &Identity) -> Result<bool, Error> {
        let keys: Vec<PaperKey> = all_of(&self.table, owner)?
            .iter()
            .map(|paper| paper.key)
            .collect();
        for key in &keys {
            self.remove(&row(owner, key))?;
        }
        Ok(!keys.is_empty())
    }
}
