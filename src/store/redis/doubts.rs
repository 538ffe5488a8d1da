//! Changes that were shown before replicas were known to have them, and what becomes of them when their primary is lost. Pure.
//!
//! While the primary lives they are unsure. Once it is lost they are doubtful, until its successor's stream has told which of
//! them it has; the others are taken back.

use crate::person::ResidentId;
use crate::status::Word;
use std::collections::HashMap;

/// A change that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    pub version: u64,
    /// What was known before it.
    pub before: Option<Word>,
}

/// Each resident's, in the order in which they were shown.
#[derive(Default)]
pub struct Doubts {
    unsure: HashMap<ResidentId, Vec<Shown>>,
    doubtful: HashMap<ResidentId, Vec<Shown>>,
}

impl Doubts {
    /// A change was shown that replicas may not have.
    pub fn shown(&mut self, id: ResidentId, shown: Shown) {
        self.unsure.entry(id).or_default().push(shown);
    }

    /// Replicas have all that was shown.
    pub fn are_sure(&mut self) {
        self.unsure.clear();
    }

    /// Residents of whom something is unsure.
    pub fn unsure(&self) -> usize {
        self.unsure.len()
    }

    /// The primary that took them is lost.
    pub fn lose(&mut self) {
        for (id, changes) in self.unsure.drain() {
            self.doubtful.entry(id).or_default().extend(changes);
        }
    }

    /// The successor's stream tells of a change; `sure`: replicas have it. What is to be taken back, the newest first.
    pub fn told(&mut self, id: ResidentId, version: u64, sure: bool) -> Vec<Shown> {
        let Some(mut changes) = self.doubtful.remove(&id) else {
            return Vec::new();
        };
        if let Some(nth) = changes.iter().position(|change| change.version == version) {
            let kept = changes.drain(..=nth);
            if !sure {
                self.unsure.entry(id).or_default().extend(kept);
            } else {
                drop(kept);
            }
        } else if changes.first().is_some_and(|first| first.version < version) {
            // It went on without them.
            changes.reverse();
            return changes;
        }
        // An older one says nothing of them: they may come behind it.
        if !changes.is_empty() {
            self.doubtful.insert(id, changes);
        }
        Vec::new()
    }

    /// The successor's stream was read to its end: what is doubtful still is lost. Each to be taken back, the newest first.
    pub fn settle(&mut self) -> Vec<(ResidentId, Vec<Shown>)> {
        let reversed = |(id, mut changes): (ResidentId, Vec<Shown>)| {
            changes.reverse();
            (id, changes)
        };
        self.doubtful.drain().map(reversed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ResidentId = ResidentId(7);

    fn shown(version: u64) -> Shown {
        Shown {
            version,
            before: None,
        }
    }

    fn lost(versions: &[u64]) -> Doubts {
        let mut doubts = Doubts::default();
        for version in versions {
            doubts.shown(ID, shown(*version));
        }
        doubts.lose();
        doubts
    }

    #[test]
    fn what_the_successor_has_stays_and_the_rest_is_taken_back_the_newest_first() {
        let mut doubts = lost(&[3, 5, 6]);
        assert_eq!(doubts.told(ID, 3, true), []);
        assert_eq!(doubts.settle(), [(ID, vec![shown(6), shown(5)])]);
        assert_eq!(doubts.settle(), []);
    }

    #[test]
    fn an_older_change_says_nothing_of_a_later_one() {
        let mut doubts = lost(&[3]);
        assert_eq!(doubts.told(ID, 2, true), []);
        assert_eq!(doubts.told(ID, 3, true), []);
        assert_eq!(doubts.settle(), []);
    }

    #[test]
    fn a_successor_that_went_on_otherwise_takes_back_all() {
        let mut doubts = lost(&[3, 5]);
        assert_eq!(doubts.told(ID, 4, true), [shown(5), shown(3)]);
        assert_eq!(doubts.settle(), []);
    }

    #[test]
    fn what_only_the_successor_has_is_unsure_again_when_that_is_lost_too() {
        let mut doubts = lost(&[3]);
        assert_eq!(doubts.told(ID, 3, false), []);
        assert_eq!(doubts.unsure(), 1);
        doubts.lose();
        assert_eq!(doubts.settle(), [(ID, vec![shown(3)])]);
        let mut doubts = lost(&[3]);
        doubts.told(ID, 3, false);
        doubts.are_sure();
        doubts.lose();
        assert_eq!(doubts.settle(), []);
    }
}
