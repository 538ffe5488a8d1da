//! One commit of the embedded store: changes applied in their order, and what became of each.

use super::fence;
use super::file::{RESIDENTS, WORDS, failed};
use super::papers;
use super::rows::{
    RecordLocation, WORDLESS, genuine, place, read_record, sealed_record, sealed_word, word_at,
};
use crate::clock::Time;
use crate::person::{Identity, ResidentId};
use crate::seal::tags::StatusTags;
use crate::status::Word;
use crate::store::change::{ChangeKind, ChangeOutcome};
use crate::store::error::Error;
use crate::store::record::Record;
use redb::{Database, ReadableTable};

/// What a commit did.
#[derive(Default)]
pub(super) struct Committed {
    pub(super) outcomes: Vec<ChangeOutcome>,
    /// Number of residents with damaged data.
    pub(super) damaged: u64,
    pub(super) posts: Vec<(ResidentId, Word)>,
    /// Number of commits of the store now; None if nothing was committed.
    pub(super) commits: Option<u64>,
}

/// Applies the changes in their order and makes them durable.
pub(super) fn commit(
    db: &Database,
    tags: &StatusTags,
    changes: Vec<(Identity, ChangeKind)>,
) -> Result<Committed, Error> {
    let txn = db.begin_write().map_err(failed)?;
    let mut committed = Committed {
        outcomes: vec![ChangeOutcome::Unchanged; changes.len()],
        ..Committed::default()
    };
    {
        let mut tables = Tables {
            words: txn.open_table(WORDS).map_err(failed)?,
            residents: txn.open_table(RESIDENTS).map_err(failed)?,
            tags,
            now: Time::now(),
        };
        let mut pile = papers::PaperTables::open(&txn)?;
        // Sorted by id, so that neighbours in the tree and all changes of a resident are together; the stable sort keeps their
        // order.
        let mut sorted: Vec<(usize, Identity, ChangeKind)> = changes
            .into_iter()
            .enumerate()
            .map(|(nth, (who, what))| (nth, who, what))
            .collect();
        sorted.sort_by_key(|(_, who, _)| *who);
        let mut sorted = sorted.into_iter().peekable();
        while let Some((nth, who, what)) = sorted.next() {
            let mut said = vec![(nth, what)];
            while let Some((nth, _, what)) = sorted.next_if(|(_, next, _)| *next == who) {
                said.push((nth, what));
            }
            let filed = pile.take(&who, &mut said, &mut committed.outcomes);
            // Papers were stored already, even if the record of their owner is damaged.
            let left: Vec<usize> = said.iter().map(|(nth, _)| *nth).collect();
            match filed.and_then(|()| tables.apply(&who, said, &mut committed)) {
                Err(error @ (Error::Damaged(_) | Error::Crowded)) => {
                    tracing::error!(%error, "a resident's changes are refused");
                    committed.damaged += u64::from(matches!(error, Error::Damaged(_)));
                    for nth in left {
                        committed.outcomes[nth] = ChangeOutcome::Unreadable;
                    }
                }
                applied => applied?,
            }
        }
    }
    if committed.outcomes.contains(&ChangeOutcome::Applied) {
        committed.commits = Some(fence::count(&txn)?);
        txn.commit().map_err(failed)?;
    } else {
        // All of it is on the disk already.
        txn.abort().map_err(failed)?;
    }
    Ok(committed)
}

/// Merges the outcomes of one change: an erasure changes papers and the record.
pub(super) fn note(known: &mut ChangeOutcome, outcome: ChangeOutcome) {
    if !known.is_applied() {
        *known = outcome;
    }
}

/// The tables of residents in a transaction.
pub(super) struct Tables<'t> {
    pub(super) words: redb::Table<'t, u64, u128>,
    pub(super) residents: redb::Table<'t, u64, &'static [u8]>,
    pub(super) tags: &'t StatusTags,
    pub(super) now: Time,
}

impl Tables<'_> {
    /// Applies all changes of one resident.
    pub(super) fn apply(
        &mut self,
        who: &Identity,
        said: Vec<(usize, ChangeKind)>,
        committed: &mut Committed,
    ) -> Result<(), Error> {
        if said.is_empty() {
            return Ok(());
        }
        let mut said = said.into_iter();
        let (id, mut record, mut dirty, old) =
            match place(&self.residents, &self.words, self.tags, who)? {
                RecordLocation::Own(placed) => (placed.id, placed.record, false, Some(placed.word)),
                RecordLocation::Free { id, steps } => {
                    // Changes that register nobody are skipped.
                    let first =
                        said.find_map(|(nth, what)| Some((nth, Record::first(who.claim, what)?)));
                    let Some((nth, record)) = first else {
                        return Ok(());
                    };
                    committed.outcomes[nth] = ChangeOutcome::Applied;
                    if steps > 0 {
                        self.tell_apart(who, committed)?;
                    }
                    (id, record, true, None)
                }
            };
        for (nth, what) in said {
            let outcome = record.take(what);
            note(&mut committed.outcomes[nth], outcome);
            dirty |= outcome.is_applied();
        }
        if dirty {
            let reasons = record.reasons();
            let check = old.map_or(who.check(), Word::check);
            let version = Word::version_after(old.map(Word::version), self.now);
            self.write(id, Word::new(version, check, reasons), &record, committed)?;
        }
        Ok(())
    }

    /// Handles a resident who did not get the home id. If the one there has the same check bits, the board cannot tell them
    /// apart: that word then demands a lookup.
    pub(super) fn tell_apart(
        &mut self,
        who: &Identity,
        committed: &mut Committed,
    ) -> Result<(), Error> {
        let id = who.home;
        let word = word_at(&self.words, self.tags, id)?.ok_or(WORDLESS)?;
        if word.check() == who.check() {
            let record = {
                let bytes = self.residents.get(id.0).map_err(failed)?.ok_or(WORDLESS)?;
                read_record(genuine(self.tags, id, word, bytes.value())?)?
            };
            let version = Word::version_after(Some(word.version()), self.now);
            let word = Word::new(version, 0, word.reasons());
            self.write(id, word, &record, committed)?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        id: ResidentId,
        word: Word,
        record: &Record,
        committed: &mut Committed,
    ) -> Result<(), Error> {
        self.residents
            .insert(id.0, &sealed_record(self.tags, id, word, record)[..])
            .map_err(failed)?;
        self.words
            .insert(id.0, sealed_word(self.tags, id, word))
            .map_err(failed)?;
        committed.posts.push((id, word));
        Ok(())
    }
}
