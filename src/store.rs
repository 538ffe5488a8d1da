//! The store, which keeps every resident and reason across restarts, behind one trait. Takes changes; acknowledges them once
//! they are durable and on the board. It sees no names in clear, and no HTTP.

pub mod embedded;
pub mod record;
pub mod redis;
pub mod reseal;

use crate::clock::{Moment, Time};
use crate::meters::StoreMetrics;
use crate::paper::{Cursor, Paper, PaperKey, PaperKinds, Retention};
use crate::person::{Identity, PROBES_MAX, ResidentId};
use crate::seal::RestSeal;
use crate::status::Word;
use record::{Assertion, Record};
use reseal::{ResealProgress, ResealReport};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Why the store did not do what it was asked. A failed call acknowledged nothing and may be repeated.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum Error {
    #[error(
        "{0} is in use by another process: stop it, or let the command ask the running node, if it has --to or --from"
    )]
    InUse(String),
    #[error("{0} was made with another key ring: `--keys` must name that one")]
    ForeignRing(String),
    #[error("{0} was written by another version of the store (format {1}, this one reads {2})")]
    Format(String, u64, u64),
    #[error("the store holds data that this version cannot read: {0}")]
    Damaged(&'static str),
    #[error("the store is closing")]
    Closed,
    /// The server does not answer, or is not the expected one. The store tries again by itself.
    #[error("the store cannot be reached: {0}")]
    Away(String),
    /// The server accepted a request and does not answer.
    #[error("the store does not answer: {0}")]
    Stuck(String),
    /// The server refuses requests; trying again does not help.
    #[error("the store refuses requests: {0}")]
    Refused(String),
    #[error("{0} replicas have the change, and {1} must have it before it is acknowledged")]
    NotReplicated(u32, u32),
    /// The store may be older than what was acknowledged.
    #[error("the store is not believed: {0}")]
    Disbelieved(String),
    #[error("no free slot within {PROBES_MAX} of a resident's home")]
    Crowded,
    #[error("the store has failed: {0}")]
    Failed(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// Counts and logs damaged data: the stored bytes were changed, or the disk is faulty. `count` is the number found in one read.
pub(crate) fn tell_damaged(metrics: &StoreMetrics, what: &str, count: u64) {
    let before = metrics.damaged.fetch_add(count, Relaxed);
    // Repeated reads must not fill the log.
    if count > 1 || (before + 1).is_power_of_two() {
        tracing::error!(
            what,
            count,
            "the store is not as it was written; what is damaged is not told"
        );
    }
}

/// Frames of a backup, sent as fast as they are read.
pub type StoreStream = tokio::sync::mpsc::Receiver<Vec<u8>>;

/// One statement of an authority or an identity platform about one resident.
#[derive(Clone, Debug)]
pub struct Change {
    /// The resident.
    pub who: Identity,
    /// What changes.
    pub what: ChangeKind,
}

/// Kind of a change.
#[derive(Clone, Debug)]
pub enum ChangeKind {
    /// The sealed profile, which replaces the one on record.
    Profile(Box<[u8]>),
    /// A reason set or cleared by a source, and the sealed profile for a person who is not on record yet.
    Status(Assertion, Box<[u8]>),
    /// Replaces what a source has on record for a reason, whatever its sequence number. Changes nothing if the source has
    /// nothing on record.
    Override(Assertion),
    /// Adds a paper for an owner, who need not be on record. Changes nothing if the owner has a paper with its key.
    Paper(Paper),
    /// Removes the owner's papers and the profile and details in the record. Sources and sequence numbers stay, because an
    /// older message could bring a reason back.
    Erase,
}

impl ChangeKind {
    /// Returns whether the event is counted by this change. A notice of release only accompanies its clear.
    pub fn is_counted(&self) -> bool {
        !matches!(self, ChangeKind::Paper(paper) if paper.kind == crate::paper::PaperKind::Notice)
    }
}

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

/// Outcome of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// It changed something.
    Applied,
    /// The same or newer data was on record already.
    Unchanged,
    /// Nothing was done, because the source used the same sequence number before for the opposite or for another paper.
    Conflict,
    /// Nothing was done, because the record is damaged or no id near the home is free.
    Unreadable,
}

impl ChangeOutcome {
    /// Returns whether it changed something.
    pub fn is_applied(self) -> bool {
        self == ChangeOutcome::Applied
    }

    /// Returns whether what it says is not on record.
    pub fn is_rejected(self) -> bool {
        matches!(self, ChangeOutcome::Conflict | ChangeOutcome::Unreadable)
    }
}

impl From<bool> for ChangeOutcome {
    fn from(applied: bool) -> ChangeOutcome {
        match applied {
            true => ChangeOutcome::Applied,
            false => ChangeOutcome::Unchanged,
        }
    }
}

/// Counts of a bulk load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkLoadReport {
    /// Changes that changed something.
    pub applied: u64,
    /// Changes that changed nothing.
    pub unchanged: u64,
    /// Changes refused as [`ChangeOutcome::Conflict`].
    pub conflicts: u64,
    /// Changes refused as [`ChangeOutcome::Unreadable`].
    pub unreadable: u64,
}

impl BulkLoadReport {
    /// Counts one change by its outcome.
    pub fn count(&mut self, outcome: ChangeOutcome) {
        match outcome {
            ChangeOutcome::Applied => self.applied += 1,
            ChangeOutcome::Unchanged => self.unchanged += 1,
            ChangeOutcome::Conflict => self.conflicts += 1,
            ChangeOutcome::Unreadable => self.unreadable += 1,
        }
    }
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

    /// Seals anew, with the key that seals now, whatever at rest another key of the ring sealed: one walk over the store, in steps of
    /// some milliseconds, beside changes. Never writes over what came meanwhile.
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
