//! Sealing data at rest anew in the embedded store: some rows in each commit, by the thread that writes.
//! So no other write comes between their reading and their writing.

use super::fence;
use super::file::{RESIDENTS, WORDS, failed};
use super::papers::{self, PaperRowKey};
use crate::person::ResidentId;
use crate::seal::RestSeal;
use crate::seal::tags::{StatusTags, TAG_BYTES};
use crate::store::error::Error;
use crate::store::reseal::{self, ResealReport, RestingRecord};
use redb::{Database, ReadableTable, ReadableTableMetadata};

/// Rows that one commit looks at: some milliseconds, in which no change is committed.
const STEP_ROWS: usize = 500;

/// The place at which a step begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResealPlace {
    /// At the record of this id, or behind it.
    Records(u64),
    /// At this paper, or behind it.
    Papers(PaperRowKey),
}

/// What a step found, and where the next one begins; None after the last.
pub type ResealStep = (ResealReport, Option<ResealPlace>);

/// Seals anew some rows from a place on, in one commit. Returns what the step found, and the store's number of commits after it; None if
/// there was nothing to write and so no commit.
///
/// # Errors
///
/// The error of the file if it cannot be read or written. A damaged row is not an error.
pub fn step(
    db: &Database,
    tags: &StatusTags,
    seal: &RestSeal,
    place: ResealPlace,
) -> Result<(ResealStep, Option<u64>), Error> {
    let txn = db.begin_write().map_err(failed)?;
    let mut found = ResealReport::default();
    let next = match place {
        ResealPlace::Records(first) => {
            let mut residents = txn.open_table(RESIDENTS).map_err(failed)?;
            let mut words = txn.open_table(WORDS).map_err(failed)?;
            let mut next = Some(ResealPlace::Papers(papers::FIRST));
            let mut anew = Vec::new();
            for (nth, row) in residents.range(first..).map_err(failed)?.enumerate() {
                let (id, value) = row.map_err(failed)?;
                if nth == STEP_ROWS {
                    next = Some(ResealPlace::Records(id.value()));
                    break;
                }
                let id = ResidentId(id.value());
                let word = words.get(id.0).map_err(failed)?.map(|word| word.value());
                let parts = word.zip(value.value().split_last_chunk::<TAG_BYTES>());
                let Some((word, (record, tag))) = parts else {
                    found.records += 1;
                    found.unopened("record", 1);
                    continue;
                };
                let resting = RestingRecord {
                    id,
                    bits: (word >> 64) as u64,
                    word_tag: word as u64,
                    tag,
                    record,
                };
                if let Some(one) = reseal::record_anew(seal, tags, &resting, &mut found) {
                    anew.push((id, resting.bits, one));
                }
            }
            if first == 0 {
                // A word without a record is reached by no row.
                let (rows, all) = (residents.len(), words.len());
                let lone = all.map_err(failed)?.saturating_sub(rows.map_err(failed)?);
                found.unopened("status", lone);
            }
            found.sealed_anew = anew.len() as u64;
            for (id, bits, one) in anew {
                let word = u128::from(bits) << 64 | u128::from(one.word_tag);
                words.insert(id.0, word).map_err(failed)?;
                let mut value = one.record;
                value.extend_from_slice(&one.tag);
                residents.insert(id.0, &value[..]).map_err(failed)?;
            }
            next
        }
        ResealPlace::Papers(first) => {
            let mut table = txn.open_table(papers::PAPERS).map_err(failed)?;
            let mut next = None;
            let mut anew = Vec::new();
            let rows = table.range::<&PaperRowKey>(&first..).map_err(failed)?;
            for (nth, row) in rows.enumerate() {
                let (key, value) = row.map_err(failed)?;
                if nth == STEP_ROWS {
                    next = Some(ResealPlace::Papers(*key.value()));
                    break;
                }
                let (owner, paper) = papers::read_row(key.value(), value.value());
                if let Some(one) = reseal::paper_anew(seal, &owner, paper, &mut found) {
                    anew.push((*key.value(), one));
                }
            }
            found.sealed_anew = anew.len() as u64;
            for (key, paper) in anew {
                // Kind, time and key are as they were, so that the index is.
                table.insert(&key, &paper.value()[..]).map_err(failed)?;
            }
            next
        }
    };
    let commits = match found.sealed_anew {
        0 => {
            txn.abort().map_err(failed)?;
            None
        }
        _ => {
            let commits = fence::count(&txn)?;
            txn.commit().map_err(failed)?;
            Some(commits)
        }
    };
    Ok(((found, next), commits))
}
