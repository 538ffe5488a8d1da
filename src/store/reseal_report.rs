//! What a walk over a store that seals data at rest anew has found.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a walk has found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResealReport {
    /// Records that were looked at.
    pub records: u64,
    /// Papers that were looked at.
    pub papers: u64,
    /// Records and papers that were sealed anew.
    pub sealed_anew: u64,
    /// Records and papers that others wrote meanwhile: the next walk looks at them again.
    pub overtaken: u64,
    /// Papers of services whose keys were destroyed.
    pub ended: u64,
    /// What no key of the ring opens, by what it is: a status, a record, a profile, or a kind of paper.
    pub unopened: BTreeMap<String, u64>,
}

impl ResealReport {
    /// Adds what a step found.
    pub fn add(&mut self, step: &ResealReport) {
        self.records += step.records;
        self.papers += step.papers;
        self.sealed_anew += step.sealed_anew;
        self.overtaken += step.overtaken;
        self.ended += step.ended;
        for (what, count) in &step.unopened {
            *self.unopened.entry(what.clone()).or_default() += count;
        }
    }

    /// Counts what no key of the ring opens.
    pub fn unopened(&mut self, what: &str, count: u64) {
        if count > 0 {
            *self.unopened.entry(what.to_owned()).or_default() += count;
        }
    }

    /// Returns whether the walk found nothing to seal anew, and nothing that others wrote meanwhile.
    pub(super) fn is_settled(&self) -> bool {
        self.sealed_anew == 0 && self.overtaken == 0
    }
}

/// Called with what a walk has found so far; returns false to end the walk.
pub type ResealProgress<'p> = dyn Fn(&ResealReport) -> bool + Send + Sync + 'p;
