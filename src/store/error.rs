//! Why a store fails, and how damaged data is counted and logged.

use crate::meters::StoreMetrics;
use crate::person::PROBES_MAX;
use std::sync::atomic::Ordering::Relaxed;

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
            "the store is not as it was written: damaged data is given in no answer"
        );
    }
}
