//! Residents as rows of the embedded store: words and records with their tags, and where a resident is.

use super::file::{RESIDENTS, WORDS, failed};
use crate::person::{Identity, PROBES_MAX, ResidentId};
use crate::seal::tags::{StatusTags, TAG_BYTES, TagState};
use crate::status::Word;
use crate::store::contract::LocatedRecord;
use crate::store::error::Error;
use crate::store::record::Record;
use redb::{Database, ReadableDatabase, ReadableTable};

/// Every record must have a word.
pub(super) const WORDLESS: Error = Error::Damaged("no word for a record");

/// Returns the word at an id; `Damaged` if its tag is wrong, None if the id is free.
pub(super) fn word_at(
    words: &impl ReadableTable<u64, u128>,
    tags: &StatusTags,
    id: ResidentId,
) -> Result<Option<Word>, Error> {
    let Some(value) = words.get(id.0).map_err(failed)? else {
        return Ok(None);
    };
    let bits = (value.value() >> 64) as u64;
    if tags.word_state(id, bits, value.value() as u64) == TagState::Foreign {
        return Err(Error::Damaged("a word that is not as it was written"));
    }
    Word::from_bits(bits)
        .map(Some)
        .ok_or(Error::Damaged("a word"))
}

/// Returns a word with its tag, as `words` holds it.
pub(super) fn sealed_word(tags: &StatusTags, id: ResidentId, word: Word) -> u128 {
    u128::from(word.bits()) << 64 | u128::from(tags.word(id, word.bits()))
}

/// Returns a record with its tag, as `residents` holds it.
pub(super) fn sealed_record(
    tags: &StatusTags,
    id: ResidentId,
    word: Word,
    record: &Record,
) -> Vec<u8> {
    let mut bytes = record.to_bytes();
    let tag = tags.record(id, word.bits(), &bytes);
    bytes.extend_from_slice(&tag);
    bytes
}

/// Returns a record without its tag; `Damaged` if the tag is wrong.
pub(super) fn genuine<'b>(
    tags: &StatusTags,
    id: ResidentId,
    word: Word,
    bytes: &'b [u8],
) -> Result<&'b [u8], Error> {
    bytes
        .split_last_chunk::<TAG_BYTES>()
        .filter(|(record, tag)| {
            tags.record_state(id, word.bits(), record, tag) != TagState::Foreign
        })
        .map(|(record, _)| record)
        .ok_or(Error::Damaged("a record that is not as it was written"))
}

/// Returns the record of a resident; None if there is none.
pub(super) fn find(
    db: &Database,
    tags: &StatusTags,
    who: &Identity,
) -> Result<Option<LocatedRecord>, Error> {
    let txn = db.begin_read().map_err(failed)?;
    let residents = txn.open_table(RESIDENTS).map_err(failed)?;
    let words = txn.open_table(WORDS).map_err(failed)?;
    Ok(match place(&residents, &words, tags, who)? {
        RecordLocation::Own(placed) => Some(placed),
        RecordLocation::Free { .. } => None,
    })
}

/// Where a resident is, or would be.
pub(super) enum RecordLocation {
    Own(LocatedRecord),
    Free { id: ResidentId, steps: u64 },
}

/// Returns the id of this resident, or the id a new one gets: the first from the home on that is free or theirs. Ids are never
/// freed, so a free one ends the search. Every record on the way must be genuine: a damaged claim would send a red resident on
/// to a free id.
pub(super) fn place(
    residents: &impl ReadableTable<u64, &'static [u8]>,
    words: &impl ReadableTable<u64, u128>,
    tags: &StatusTags,
    who: &Identity,
) -> Result<RecordLocation, Error> {
    for steps in 0..PROBES_MAX {
        let id = who.slot(steps);
        let word = word_at(words, tags, id)?;
        let bytes = residents.get(id.0).map_err(failed)?;
        let (word, bytes) = match (word, bytes) {
            (None, None) => return Ok(RecordLocation::Free { id, steps }),
            (Some(word), Some(bytes)) => (word, bytes),
            _ => return Err(WORDLESS),
        };
        let record = genuine(tags, id, word, bytes.value())?;
        if record.starts_with(&who.claim) {
            return Ok(RecordLocation::Own(LocatedRecord {
                id,
                steps,
                word,
                record: read_record(record)?,
            }));
        }
    }
    Err(Error::Crowded)
}

/// Parses a record without its tag.
pub(super) fn read_record(bytes: &[u8]) -> Result<Record, Error> {
    Record::from_bytes(bytes).ok_or(Error::Damaged("a record"))
}

/// Returns the identity with a home of fewer bits, for tests that need collisions.
pub(super) fn shorten(mut who: Identity, home_bits: u32) -> Identity {
    if home_bits < 64 {
        who.home.0 &= (1 << home_bits) - 1;
    }
    who
}
