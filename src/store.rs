//! The store: what remembers every resident and every reason across restarts, behind one trait.
//! In: changes. Out: an acknowledgement when they are durable and on the board. Never: names in clear, HTTP.

pub mod embedded;
pub mod record;
pub mod redis;

use crate::clock::{Moment, Time};
use crate::meters::StoreMetrics;
use crate::paper::{Cursor, Paper, PaperKey, PaperKinds, Retention};
use crate::person::{Identity, PROBES_MAX, ResidentId};
use crate::status::Word;
use record::{Assertion, Record};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Why the store did not do what it was asked. Nothing that failed was acknowledged; what was asked may be repeated.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum Error {
    #[error(
        "{0} is in use by another process: stop it, or send the file to it with `--to http://its-ops-door`"
    )]
    InUse(String),
    #[error("{0} was made with another key ring; `--keys` must name the one that it was made with")]
    ForeignRing(String),
    #[error("{0} was written by another version of the store (format {1}, this one reads {2})")]
    Format(String, u64, u64),
    #[error("the store holds what this version cannot read: {0}")]
    Damaged(&'static str),
    #[error("the store is closing")]
    Closed,
    /// Nobody answers, or nobody who may. It is tried again and again.
    #[error("the store is away: {0}")]
    Away(String),
    /// It took what was asked, and says nothing.
    #[error("the store is stuck: {0}")]
    Stuck(String),
    /// It answers and will not have us; trying again does not help.
    #[error("the store refuses: {0}")]
    Refused(String),
    #[error("{0} replicas have the change, {1} must before it is acknowledged")]
    NotReplicated(u32, u32),
    /// It may be older than what was acknowledged.
    #[error("the store is not believed: {0}")]
    Disbelieved(String),
    #[error("no free slot within {PROBES_MAX} of a resident's home")]
    Crowded,
    #[error("the store failed: {0}")]
    Failed(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// Raises the alarm: what rests was edited, or the disk lies. `count` is of what was found in one reading.
fn tell_damaged(metrics: &StoreMetrics, what: &str, count: u64) {
    let before = metrics.damaged.fetch_add(count, Relaxed);
    // Whoever asks again and again fills no disk.
    if count > 1 || (before + 1).is_power_of_two() {
        tracing::error!(
            what,
            count,
            "the store is not as it was written; what is damaged is not told"
        );
    }
}

/// What a store sends piece by piece, as fast as it is read.
pub type StoreStream = tokio::sync::mpsc::Receiver<Vec<u8>>;

/// One thing that an authority or an identity platform says of one resident.
#[derive(Clone, Debug)]
pub struct Change {
    /// Whose record changes.
    pub who: Identity,
    /// What changes.
    pub what: ChangeKind,
}

/// What a change does.
#[derive(Clone, Debug)]
pub enum ChangeKind {
    /// The sealed profile, which replaces the one on record.
    Profile(Box<[u8]>),
    /// A reason set or cleared by a source, and the sealed profile that registers a person not on record.
    Status(Assertion, Box<[u8]>),
    /// What a source is on record with of a reason, in place of what it said itself, whatever its number. It changes nothing
    /// of whoever has no such standing.
    Override(Assertion),
    /// One more paper of this owner, who need not be on record. It changes something if the owner has none with its key.
    Paper(Paper),
    /// All papers of this owner go, and what a record holds of the person: the reasons that sources gave stay, because an
    /// older message could bring them back.
    Erase,
}

impl ChangeKind {
    /// Whether this is what its event is counted by: a notice of release only accompanies its clear.
    pub fn is_counted(&self) -> bool {
        !matches!(self, ChangeKind::Paper(paper) if paper.kind == crate::paper::PaperKind::Notice)
    }
}

/// A record and where it stands.
#[derive(Clone, Debug)]
pub struct LocatedRecord {
    /// The id that the resident has: the home, or a slot after it.
    pub id: ResidentId,
    /// Slots from the resident's home.
    pub steps: u64,
    /// Its version is that of the record: every change of the record makes a new one.
    pub word: Word,
    /// What is on record.
    pub record: Record,
}

/// What became of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// It changed something.
    Applied,
    /// All of it was on record, or something newer was.
    Unchanged,
    /// Nothing was done, because something else is on record under the same number: the source used it before to set
    /// what it clears now or to clear what it sets, or for another paper.
    Conflict,
}

impl ChangeOutcome {
    /// Returns whether it changed something.
    pub fn is_applied(self) -> bool {
        self == ChangeOutcome::Applied
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

/// How a bulk load went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkLoadReport {
    /// Changes that changed something.
    pub applied: u64,
    /// Changes that changed nothing.
    pub unchanged: u64,
    /// See [`ChangeOutcome::Conflict`].
    pub conflicts: u64,
}

impl BulkLoadReport {
    /// Counts one change by what came of it.
    pub fn count(&mut self, outcome: ChangeOutcome) {
        match outcome {
            ChangeOutcome::Applied => self.applied += 1,
            ChangeOutcome::Unchanged => self.unchanged += 1,
            ChangeOutcome::Conflict => self.conflicts += 1,
        }
    }
}

/// What remembers. Calls wait for the disk or the network, never the caller's thread.
#[async_trait::async_trait]
pub trait Store: Send + Sync {
    /// Residents on record now; sizes the board.
    async fn residents(&self) -> Result<u64, Error>;

    /// Posts the word of every resident on record on the board; `progress` hears of each few thousand.
    async fn fill(&self, progress: std::sync::Arc<dyn Fn(u64) + Send + Sync>) -> Result<(), Error>;

    /// Makes the changes durable and posts them, in their order; then tells what became of each.
    async fn apply(&self, changes: Vec<Change>) -> Result<Vec<ChangeOutcome>, Error>;

    /// The record of this resident, if there is one.
    async fn find(&self, who: Identity) -> Result<Option<LocatedRecord>, Error>;

    /// The word at an id, whoever's it is.
    async fn word(&self, id: ResidentId) -> Result<Option<Word>, Error>;

    /// Papers of an owner, the newest first: up to `limit` of these kinds, from behind the cursor on.
    async fn papers(
        &self,
        owner: Identity,
        kinds: PaperKinds,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Paper>, Error>;

    /// Returns of each key the owner's paper that has it, in their order.
    async fn some(&self, owner: Identity, keys: &[PaperKey]) -> Result<Vec<Option<Paper>>, Error>;

    /// Removes an owner's papers with these keys; how many there were. For what is erased: whatever ends something stays.
    async fn remove(&self, owner: Identity, keys: &[PaperKey]) -> Result<u64, Error>;

    /// Removes every paper that is older than its kind is kept, a few at a time between other work; how many. Nodes that share a
    /// store take turns: what another has swept within `every` is left out.
    async fn sweep(&self, keep: &Retention, now: Time, every: Duration) -> Result<u64, Error>;

    /// Up to when what is asked now is sure to be told: now, but for a store whose primary may have been replaced since.
    fn as_of(&self) -> Moment {
        Moment::now()
    }

    /// The offset of the store's own clock, as [`crate::clock::offset::offset_of`] has it; None for a store of this machine.
    async fn clock_offset(&self) -> Result<Option<i64>, Error> {
        Ok(None)
    }

    /// A bit for each partition that the store itself has lost, so that no node can be any better.
    fn lost(&self) -> u16 {
        0
    }

    /// The offset that other nodes say holds, because the store's clock is wrong; None while nobody says so.
    async fn fleet_offset(&self) -> Result<Option<i64>, Error> {
        Ok(None)
    }

    /// Says to other nodes that this offset holds, for some seconds.
    async fn tell_offset(&self, _offset: i64) -> Result<(), Error> {
        Ok(())
    }

    /// Begins a backup of what is on record now, in frames; None for a store that is backed up by its own means. A reader that waits
    /// holds up no writer.
    async fn backup(&self) -> Result<Option<StoreStream>, Error> {
        Ok(None)
    }

    /// Whether the store is known to hold all that was acknowledged; of one that may not, nothing is told.
    fn is_believed(&self) -> bool {
        true
    }

    /// Ends what runs for the store; what was acknowledged stays.
    async fn close(&self);
}
