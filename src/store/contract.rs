//! What every store does: one trait, and what it hands out.

use super::change::{Change, ChangeOutcome};
use super::error::Error;
use super::record::Record;
use super::reseal_report::{ResealProgress, ResealReport};
use crate::clock::{Moment, Time};
use crate::paper::{Cursor, Paper, PaperKey, PaperKinds, Retention};
use crate::person::{Identity, ResidentId};
use crate::seal::RestSeal;
use crate::status::Word;
use std::time::Duration;

/// Frames of a backup, sent as fast as they are read.
pub type StoreStream = tokio::sync::mpsc::Receiver<Vec<u8>>;

/// A record and its position.
#[derive(Clone, Debug)]
pub struct LocatedRecord {
    /// The resident's id: the home, or one of the next ids.
    pub id: ResidentId,
    /// Distance of the id from the home.
    pub steps: u64,
    /// The status word. Its version is that of the record; each change of the record makes a new one.
    pub word: Word,
    /// The record.
    pub record: Record,
}

/// A store. Calls wait for the disk or the network and never block the caller's thread. Each call fails with [`Error`] as
/// described there.
#[async_trait::async_trait]
pub trait Store: Send + Sync {
    /// Returns the number of residents on record, which sizes the board.
    async fn residents(&self) -> Result<u64, Error>;

    /// Puts the word of every resident on record onto the board. `progress` gets the number of residents so far.
    async fn fill(&self, progress: std::sync::Arc<dyn Fn(u64) + Send + Sync>) -> Result<(), Error>;

    /// Makes the changes durable and puts them onto the board, in their order. Returns the outcome of each. A change of a damaged
    /// record fails alone, as [`ChangeOutcome::Unreadable`].
    async fn ingest(&self, changes: Vec<Change>) -> Result<Vec<ChangeOutcome>, Error>;

    /// Applies changes that belong together, like [`Self::ingest`]. Fails if the record of one is damaged; the others may have been
    /// applied.
    async fn apply(&self, changes: Vec<Change>) -> Result<Vec<ChangeOutcome>, Error> {
        let outcomes = self.ingest(changes).await?;
        match outcomes.contains(&ChangeOutcome::Unreadable) {
            true => Err(Error::Damaged("the record of a change")),
            false => Ok(outcomes),
        }
    }

    /// Returns the record of a resident; None if there is none.
    async fn find(&self, who: Identity) -> Result<Option<LocatedRecord>, Error>;

    /// Returns the word at an id, whichever resident has it; None if the id is free.
    async fn word(&self, id: ResidentId) -> Result<Option<Word>, Error>;

    /// Returns up to `limit` papers of an owner of these kinds, the newest first, after the cursor.
    async fn papers(
        &self,
        owner: Identity,
        kinds: PaperKinds,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Paper>, Error>;

    /// Returns the owner's paper for each key, in their order; None for a missing one.
    async fn some(&self, owner: Identity, keys: &[PaperKey]) -> Result<Vec<Option<Paper>>, Error>;

    /// Removes an owner's papers with these keys, and returns their number. For erasures only: papers that end something stay.
    async fn remove(&self, owner: Identity, keys: &[PaperKey]) -> Result<u64, Error>;

    /// Removes papers past their retention, a few at a time, and returns their number. Nodes with a common store take turns: a
    /// partition swept within `every` is skipped.
    async fn sweep(&self, keep: &Retention, now: Time, every: Duration) -> Result<u64, Error>;

    /// Returns the moment up to which an answer read now is complete: now, unless a primary may have been replaced since.
    fn as_of(&self) -> Moment {
        Moment::now()
    }

    /// Returns the offset of the store's clock, as [`crate::clock::offset::offset_of`] computes it; None if it is the clock of
    /// this machine.
    async fn clock_offset(&self) -> Result<Option<i64>, Error> {
        Ok(None)
    }

    /// Returns a number that rises after each write; None if other processes may write to the store.
    fn writes(&self) -> Option<u64> {
        None
    }

    /// Returns a bit for each partition that the store itself has lost, so that no node has it.
    fn lost(&self) -> u16 {
        0
    }

    /// Returns the clock offset that other nodes announce because the store's clock is wrong; None if none does.
    async fn fleet_offset(&self) -> Result<Option<i64>, Error> {
        Ok(None)
    }

    /// Announces a clock offset to other nodes, for some seconds.
    async fn tell_offset(&self, _offset: i64) -> Result<(), Error> {
        Ok(())
    }

    /// Starts a backup of what is on record now; None for a store with its own means. A slow reader does not delay writers.
    async fn backup(&self) -> Result<Option<StoreStream>, Error> {
        Ok(None)
    }

    /// Walks over the store once, and seals with the current key all data at rest that another key of the ring sealed: in steps of
    /// some milliseconds, beside changes. Never overwrites what was written meanwhile.
    async fn reseal(
        &self,
        _seal: RestSeal,
        _tell: &ResealProgress<'_>,
    ) -> Result<ResealReport, Error> {
        Err(Error::Refused("it keeps nothing sealed".to_owned()))
    }

    /// Returns whether the store is known to hold everything acknowledged. If not, no answer is given from it.
    fn is_believed(&self) -> bool {
        true
    }

    /// Stops the store's tasks. Acknowledged changes stay.
    async fn close(&self);
}
