//! An embedded store that is open, without a writer.

use super::file::{RESIDENTS, Settings, WORDS, count, failed};
use super::rows::{WORDLESS, genuine, read_record, word_at};
use crate::person::ResidentId;
use crate::seal::tags::StatusTags;
use crate::status::Word;
use crate::store::error::Error;
use crate::store::record::Record;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata};

/// An open store without a writer.
pub struct OpenedEmbedded {
    pub(super) db: Database,
    pub(super) settings: Settings,
    pub(super) tags: StatusTags,
}

impl OpenedEmbedded {
    /// Returns the number of residents on record.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn residents(&self) -> Result<u64, Error> {
        count(&self.db)
    }

    /// Passes every word on record to `each`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a word is damaged.
    pub fn each_word(&self, each: &mut dyn FnMut(Word)) -> Result<(), Error> {
        let txn = self.db.begin_read().map_err(failed)?;
        let words = txn.open_table(WORDS).map_err(failed)?;
        for row in words.iter().map_err(failed)? {
            let (_, value) = row.map_err(failed)?;
            let word = Word::from_bits((value.value() >> 64) as u64);
            each(word.ok_or(Error::Damaged("a word"))?);
        }
        Ok(())
    }

    /// Passes every record to `each`, by rising id. Returns the number of damaged records, which are left out.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or `each` failed.
    pub fn each(
        &self,
        mut each: impl FnMut(ResidentId, Record) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let txn = self.db.begin_read().map_err(failed)?;
        let residents = txn.open_table(RESIDENTS).map_err(failed)?;
        let words = txn.open_table(WORDS).map_err(failed)?;
        let (mut damaged, mut with_word) = (0, 0);
        for row in residents.iter().map_err(failed)? {
            let (id, bytes) = row.map_err(failed)?;
            let id = ResidentId(id.value());
            with_word += u64::from(words.get(id.0).map_err(failed)?.is_some());
            let read = || {
                let word = word_at(&words, &self.tags, id)?.ok_or(WORDLESS)?;
                read_record(genuine(&self.tags, id, word, bytes.value())?)
            };
            match read() {
                Ok(record) => each(id, record)?,
                Err(Error::Damaged(_)) => damaged += 1,
                Err(error) => return Err(error),
            }
        }
        // Words without a record.
        Ok(damaged + words.len().map_err(failed)? - with_word)
    }
}
