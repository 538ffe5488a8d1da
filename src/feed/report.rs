//! The answer to a feed: how many changes there were, and which lines were rejected.

use super::rejection::Rejection;
use serde::Serialize;
use std::borrow::Cow;

/// Rejected lines that an answer lists; the others are only counted.
pub const REJECTED_LISTED_MAX: usize = 10_000;

/// The answer to a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngestReport {
    /// Changes that changed something.
    pub applied: u64,
    /// Changes that changed nothing.
    pub unchanged: u64,
    /// Rejected lines: number and reason, the first [`REJECTED_LISTED_MAX`].
    pub rejected: Vec<(u64, Rejection)>,
    /// Number of further rejected lines.
    pub rejected_unlisted: u64,
}

impl IngestReport {
    /// Records a rejected line.
    pub fn reject(&mut self, line: u64, rejection: Rejection) {
        if self.rejected.len() < REJECTED_LISTED_MAX {
            // Rejections by the store come after later lines that could not be parsed.
            let at = self.rejected.partition_point(|(known, _)| *known <= line);
            self.rejected.insert(at, (line, rejection));
        } else {
            self.rejected_unlisted += 1;
        }
    }

    /// Counts stored changes; true if one changed something.
    pub fn count(&mut self, changed: &[bool]) {
        let applied = changed.iter().filter(|changed| **changed).count() as u64;
        self.applied += applied;
        self.unchanged += changed.len() as u64 - applied;
    }

    /// Returns the report as JSON.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct RejectedEvent {
            line: u64,
            code: &'static str,
            detail: Cow<'static, str>,
        }
        #[derive(Serialize)]
        struct IngestJson {
            applied: u64,
            unchanged: u64,
            rejected: Vec<RejectedEvent>,
            #[serde(skip_serializing_if = "is_none")]
            rejected_unlisted: u64,
        }
        let rejected = self.rejected.iter().map(|(line, why)| RejectedEvent {
            line: *line,
            code: why.code(),
            detail: why.detail(),
        });
        let printed = IngestJson {
            applied: self.applied,
            unchanged: self.unchanged,
            rejected: rejected.collect(),
            rejected_unlisted: self.rejected_unlisted,
        };
        serde_json::to_string(&printed).expect("numbers and text")
    }
}

fn is_none(count: &u64) -> bool {
    *count == 0
}
