//! Changes of a store: what one authority or identity platform says about one resident, and what became of it.

use super::assertion::Assertion;
use crate::paper::Paper;
use crate::person::Identity;

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
