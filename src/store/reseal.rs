//! Sealing data at rest anew: what a walk over a store finds, and what becomes of each record and paper. The store brings the rows and
//! writes them, each only if no other write came meanwhile.

use super::contract::Store;
use super::error::Error;
use super::record::Record;
pub use super::reseal_report::{ResealProgress, ResealReport};
use crate::paper::Paper;
use crate::person::{Identity, ResidentId};
use crate::seal::tags::{StatusTags, TAG_BYTES, TagState};
use crate::seal::{RestSeal, SealedAnew};
use serde::{Deserialize, Serialize};

/// Largest number of walks over a store: what is written meanwhile is sealed with the newest key by every node that has read the ring.
const WALKS_MAX: u32 = 5;

/// How sealing anew ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResealOutcome {
    /// The id of the key that seals now.
    pub key: u8,
    /// Number of walks. The report is that of the last one, except for what was sealed anew.
    pub walks: u32,
    /// What the last walk found, with what all of them sealed anew.
    pub report: ResealReport,
    /// Whether the last walk found everything that opens sealed with the key that seals now.
    pub is_settled: bool,
}

impl ResealOutcome {
    /// Returns whether nothing at rest needs another key of the ring.
    pub fn is_whole(&self) -> bool {
        self.is_settled && self.report.unopened.is_empty()
    }
}

/// Walks over the store again and again, until a whole walk finds nothing to seal anew. `keys` tells which keys are in force.
///
/// # Errors
///
/// The error of the store if it cannot go on. What was sealed anew until then stays; another call goes on with the rest.
pub async fn until_settled(
    store: &dyn Store,
    keys: &(dyn Fn() -> RestSeal + Send + Sync),
    tell: &ResealProgress<'_>,
) -> Result<ResealOutcome, Error> {
    let mut outcome = ResealOutcome::default();
    let mut sealed_before = 0;
    loop {
        let seal = keys();
        let key = seal.key();
        let told = |report: &ResealReport| {
            let mut report = report.clone();
            report.sealed_anew += sealed_before;
            tell(&report)
        };
        let mut report = store.reseal(seal, &told).await?;
        outcome.walks += 1;
        outcome.key = key;
        // The ring may have been rotated in the course of the walk.
        outcome.is_settled = report.is_settled() && keys().key() == key;
        sealed_before += report.sealed_anew;
        report.sealed_anew = sealed_before;
        outcome.report = report;
        if outcome.is_settled || outcome.walks == WALKS_MAX {
            return Ok(outcome);
        }
    }
}

/// A record as it rests: its word, the tags of both, and its bytes.
pub struct RestingRecord<'r> {
    /// The id at which it lies.
    pub id: ResidentId,
    /// The status word.
    pub bits: u64,
    /// The tag of the word.
    pub word_tag: u64,
    /// The tag of the record.
    pub tag: &'r [u8; TAG_BYTES],
    /// The record.
    pub record: &'r [u8],
}

/// A record as it is to rest.
pub struct ResealedRecord {
    /// The tag of the word, which is as it was.
    pub word_tag: u64,
    /// The tag of the record.
    pub tag: [u8; TAG_BYTES],
    /// The record.
    pub record: Vec<u8>,
}

/// Returns a record sealed anew; None if the current key sealed all of it, or if no key of the ring opens it. What no key opens is
/// counted, and stays as it is. If the tags of a record fit and its profile does not open, the tags alone are made anew.
pub fn record_anew(
    seal: &RestSeal,
    tags: &StatusTags,
    resting: &RestingRecord<'_>,
    found: &mut ResealReport,
) -> Option<ResealedRecord> {
    found.records += 1;
    let RestingRecord { id, bits, .. } = *resting;
    let word = tags.word_state(id, bits, resting.word_tag);
    if word == TagState::Foreign {
        found.unopened("status", 1);
        return None;
    }
    let record = tags.record_state(id, bits, resting.record, resting.tag);
    let read = Record::from_bytes(resting.record).filter(|_| record != TagState::Foreign);
    let Some(mut read) = read else {
        found.unopened("record", 1);
        return None;
    };
    let mut is_current = word == TagState::Current && record == TagState::Current;
    if !read.profile.is_empty() {
        match seal.profile_anew(&read.claim, &read.profile) {
            SealedAnew::Current => {}
            SealedAnew::Anew(profile) => {
                read.profile = profile.into();
                is_current = false;
            }
            SealedAnew::Unopened | SealedAnew::Ended => found.unopened("profile", 1),
        }
    }
    if is_current {
        return None;
    }
    let record = read.to_bytes();
    Some(ResealedRecord {
        word_tag: tags.word(id, bits),
        tag: tags.record(id, bits, &record),
        record,
    })
}

/// Returns a paper sealed anew; None if the current key sealed it, or if no key of the ring opens it. `paper` is None for a row that is
/// not a paper.
pub fn paper_anew(
    seal: &RestSeal,
    owner: &Identity,
    paper: Option<Paper>,
    found: &mut ResealReport,
) -> Option<Paper> {
    found.papers += 1;
    let Some(paper) = paper else {
        found.unopened("paper", 1);
        return None;
    };
    match seal.paper_anew(owner, &paper) {
        SealedAnew::Current => None,
        SealedAnew::Anew(body) => Some(Paper {
            body: body.into(),
            ..paper
        }),
        SealedAnew::Ended => {
            found.ended += 1;
            None
        }
        SealedAnew::Unopened => {
            found.unopened(paper.kind.word(), 1);
            None
        }
    }
}
