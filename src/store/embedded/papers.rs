//! The papers of the embedded store: one table, by home, claim and key, so that those of one owner lie together, in the
//! order in which records do.

use super::{Opened, failed};
use crate::clock::Time;
use crate::paper::{self, Cursor, Keep, Key, Kinds, Paper, Room, UNBOUNDED};
use crate::person::{Identity, ResidentId};
use crate::store::{Error, What};
use redb::{
    Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle, WriteTransaction,
};
use std::ops::RangeInclusive;

/// Home (8), claim (16), key of the paper (16).
pub type Row = [u8; 40];

pub const PAPERS: TableDefinition<&Row, &[u8]> = TableDefinition::new("papers");

/// Before every other.
pub const FIRST: Row = [0; 40];

/// Rows that one step of a sweep looks at; it is a read of some milliseconds.
const SWEEP_STEP: usize = 20_000;

fn row(owner: &Identity, key: &Key) -> Row {
    let mut row = [0; 40];
    row[..8].copy_from_slice(&owner.home.0.to_be_bytes());
    row[8..24].copy_from_slice(&owner.claim);
    row[24..].copy_from_slice(key);
    row
}

fn rows(owner: &Identity) -> RangeInclusive<Row> {
    row(owner, &[0; 16])..=row(owner, &[255; 16])
}

fn read_row(row: &Row, value: &[u8]) -> Result<(Identity, Paper), Error> {
    let owner = Identity {
        home: ResidentId(u64::from_be_bytes(row[..8].try_into().expect("8 of 40"))),
        claim: row[8..24].try_into().expect("16 of 40"),
    };
    let key = row[24..].try_into().expect("16 of 40");
    let paper = Paper::read(key, value).ok_or(Error::Damaged("a paper"))?;
    Ok((owner, paper))
}

/// A file of before there were papers gets their table.
pub fn make_room(db: &Database) -> Result<(), Error> {
    let tables = db.begin_read().map_err(failed)?;
    let mut tables = tables.list_tables().map_err(failed)?;
    if tables.any(|table| table.name() == PAPERS.name()) {
        return Ok(());
    }
    let txn = db.begin_write().map_err(failed)?;
    txn.open_table(PAPERS).map_err(failed)?;
    txn.commit().map_err(failed)
}

impl Opened {
    /// Hands every paper to `each`, an owner's together.
    pub fn each_paper(
        &self,
        mut each: impl FnMut(Identity, Paper) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let txn = self.db.begin_read().map_err(failed)?;
        let papers = txn.open_table(PAPERS).map_err(failed)?;
        for found in papers.iter().map_err(failed)? {
            let (key, value) = found.map_err(failed)?;
            let (owner, paper) = read_row(key.value(), value.value())?;
            each(owner, paper)?;
        }
        Ok(())
    }
}

pub fn read(
    db: &Database,
    owner: &Identity,
    kinds: Kinds,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Vec<Paper>, Error> {
    let txn = db.begin_read().map_err(failed)?;
    let table = txn.open_table(PAPERS).map_err(failed)?;
    let mut papers = all_of(&table, owner)?;
    paper::page(&mut papers, kinds, after, limit);
    Ok(papers)
}

fn all_of(
    table: &impl ReadableTable<&'static Row, &'static [u8]>,
    owner: &Identity,
) -> Result<Vec<Paper>, Error> {
    let rows = rows(owner);
    let found = table
        .range::<&Row>(rows.start()..=rows.end())
        .map_err(failed)?;
    found
        .map(|found| {
            let (key, value) = found.map_err(failed)?;
            Ok(read_row(key.value(), value.value())?.1)
        })
        .collect()
}

/// Rows from `first` on that are past their time, of as many as one step looks at, and where the next step begins.
pub fn past(
    db: &Database,
    keep: &Keep,
    now: Time,
    first: Row,
) -> Result<(Vec<Row>, Option<Row>), Error> {
    let txn = db.begin_read().map_err(failed)?;
    let table = txn.open_table(PAPERS).map_err(failed)?;
    let mut past = Vec::new();
    for (nth, found) in table.range::<&Row>(&first..).map_err(failed)?.enumerate() {
        let (key, value) = found.map_err(failed)?;
        let row = *key.value();
        if nth == SWEEP_STEP {
            return Ok((past, Some(row)));
        }
        let (_, paper) = read_row(&row, value.value())?;
        if keep.is_past(paper.kind, paper.at, now) {
            past.push(row);
        }
    }
    Ok((past, None))
}

pub fn remove(db: &Database, rows: &[Row]) -> Result<(), Error> {
    let txn = db.begin_write().map_err(failed)?;
    {
        let mut table = txn.open_table(PAPERS).map_err(failed)?;
        for row in rows {
            table.remove(row).map_err(failed)?;
        }
    }
    txn.commit().map_err(failed)
}

/// The table while it is written to.
pub struct Pile<'t> {
    table: redb::Table<'t, &'static Row, &'static [u8]>,
}

impl<'t> Pile<'t> {
    pub fn open(txn: &'t WriteTransaction) -> Result<Pile<'t>, Error> {
        let table = txn.open_table(PAPERS).map_err(failed)?;
        Ok(Pile { table })
    }

    /// Takes the papers out of what is said of one owner, in its order, and notes which of them are new.
    pub fn take(
        &mut self,
        owner: &Identity,
        said: &mut Vec<(usize, What)>,
        changed: &mut [bool],
    ) -> Result<(), Error> {
        if said
            .iter()
            .all(|(_, what)| matches!(what, What::Profile(_) | What::Status(..)))
        {
            return Ok(());
        }
        // Counted once, and only where somebody could be past the most.
        let mut known = None;
        for (nth, what) in said.iter() {
            match what {
                What::Paper(paper) => changed[*nth] = self.file(owner, paper, &mut known)?,
                What::Erase => {
                    changed[*nth] = self.erase(owner)?;
                    known = None;
                }
                What::Profile(_) | What::Status(..) => {}
            }
        }
        said.retain(|(_, what)| !matches!(what, What::Paper(_)));
        Ok(())
    }

    fn file(
        &mut self,
        owner: &Identity,
        paper: &Paper,
        known: &mut Option<Vec<Paper>>,
    ) -> Result<bool, Error> {
        let row = row(owner, &paper.key);
        if self.table.get(&row).map_err(failed)?.is_some() {
            return Ok(false);
        }
        // A kind without a bound is filed without reading the owner's other papers.
        if known.is_none() && paper.kind.most() != UNBOUNDED {
            *known = Some(all_of(&self.table, owner)?);
        }
        if let Some(known) = known.as_mut() {
            match paper::room(known.iter(), paper) {
                Room::There => {}
                Room::None => return Ok(false),
                Room::Instead(key) => {
                    self.table.remove(&self::row(owner, &key)).map_err(failed)?;
                    known.retain(|known| known.key != key);
                }
            }
        }
        self.table
            .insert(&row, &paper.value()[..])
            .map_err(failed)?;
        if let Some(known) = known {
            known.push(Paper {
                // Only what tells its place is needed again.
                body: Box::default(),
                ..paper.clone()
            });
        }
        Ok(true)
    }

    fn erase(&mut self, owner: &Identity) -> Result<bool, Error> {
        let keys: Vec<Key> = all_of(&self.table, owner)?
            .iter()
            .map(|paper| paper.key)
            .collect();
        for key in &keys {
            self.table.remove(&row(owner, key)).map_err(failed)?;
        }
        Ok(!keys.is_empty())
    }
}
