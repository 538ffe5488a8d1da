//! Decisions about offline codes by the files of a status list: which files are held, when they are replaced, and what they say. A
//! gate without a network decides like this; a node does for codes of other issuers, and to prove its own new lists.

use super::code::OfflineCode;
use super::ids::ListState;
use super::list::{BaseList, ListChanges};
use crate::clock::Time;
use std::time::Duration;

/// Longest time by which a gate's clock may be behind the list's. Beyond it the age of the list cannot be computed.
const CLOCK_LEEWAY: Duration = Duration::from_secs(5 * 60);

/// Limits of a list's age.
#[derive(Clone, Debug)]
pub struct ListAges {
    /// Age past which a colour is marked as stale.
    pub stale_after: Duration,
    /// Age past which no colour is given. The expiry of the file itself applies too.
    pub too_old_after: Duration,
}

impl Default for ListAges {
    fn default() -> ListAges {
        ListAges {
            stale_after: Duration::from_secs(30 * 60),
            too_old_after: Duration::from_secs(12 * 3_600),
        }
    }
}

/// Decision about a code with a valid signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfflineDecision {
    /// A colour as of the list. If it is stale, the gate must show the age prominently.
    Colour {
        /// Green, red or yellow.
        state: ListState,
        /// Whether the list is older than `stale_after`.
        stale: bool,
    },
    /// The code was revoked, or the person was erased.
    Void,
    /// The code was issued after the list was made, so the list may not contain the person.
    NotCovered,
    /// The code has expired, or its validity has not begun.
    Expired,
    /// The list is too old for a colour, or there is no list.
    TooOld,
    /// The gate's clock is behind the list, so the age of the list is unknown.
    Clock,
}

/// Why a file does not replace the one that the gate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum Rollback {
    #[error("the file is older than the list that is held")]
    Older,
    #[error("the file is of another issuer")]
    Issuer,
    #[error("the changes belong to another base")]
    OtherBase,
}

/// The newest files of one issuer that a gate holds.
#[derive(Clone, Debug, Default)]
pub struct HeldLists {
    base: Option<BaseList>,
    changes: Option<ListChanges>,
}

impl HeldLists {
    /// Replaces the base unless the held one is newer. Changes of another base are dropped.
    ///
    /// # Errors
    ///
    /// The base is of another issuer, or older than the held one.
    pub fn take_base(&mut self, base: BaseList) -> Result<(), Rollback> {
        if let Some(held) = &self.base {
            if held.head.issuer != base.head.issuer {
                return Err(Rollback::Issuer);
            }
            if base.head.number < held.head.number || base.head.as_of < held.head.as_of {
                return Err(Rollback::Older);
            }
            if held.head.number == base.head.number {
                return Ok(());
            }
            // The held changes may be newer than a base that is new here. A gate never goes back in time.
            if self.as_of().is_some_and(|known| base.head.as_of < known) {
                return Err(Rollback::Older);
            }
        }
        self.base = Some(base);
        self.changes = None;
        Ok(())
    }

    /// Replaces the changes of the held base unless the held ones are newer.
    ///
    /// # Errors
    ///
    /// The changes are of another issuer or base, or older than the held ones.
    pub fn take_changes(&mut self, changes: ListChanges) -> Result<(), Rollback> {
        let base = self.base.as_ref().ok_or(Rollback::OtherBase)?;
        if base.head.issuer != changes.head.issuer {
            return Err(Rollback::Issuer);
        }
        if base.head.number != changes.head.number {
            return Err(Rollback::OtherBase);
        }
        if self.as_of().is_some_and(|known| changes.head.as_of < known) {
            return Err(Rollback::Older);
        }
        self.changes = Some(changes);
        Ok(())
    }

    /// Returns the time up to which acknowledged changes are in the files; None without a base.
    pub fn as_of(&self) -> Option<Time> {
        let changes = self.changes.as_ref().map(|changes| changes.head.as_of);
        changes.or_else(|| Some(self.base.as_ref()?.head.as_of))
    }

    /// Returns the decision about a code at `now`, the time of the gate's own clock.
    pub fn judge(&self, code: &OfflineCode, now: Time, ages: &ListAges) -> OfflineDecision {
        let (Some(base), Some(as_of)) = (&self.base, self.as_of()) else {
            return OfflineDecision::TooOld;
        };
        if now.plus(CLOCK_LEEWAY) < as_of {
            return OfflineDecision::Clock;
        }
        if now >= code.expires_at() || now.plus(CLOCK_LEEWAY) < code.issued_at {
            return OfflineDecision::Expired;
        }
        let until = match &self.changes {
            Some(changes) => changes.head.until,
            None => base.head.until,
        };
        let age = now.since(as_of);
        if age > ages.too_old_after || now > until {
            return OfflineDecision::TooOld;
        }
        if code.issued_at > as_of {
            return OfflineDecision::NotCovered;
        }
        let changed = self
            .changes
            .as_ref()
            .and_then(|changes| changes.state(code.list_id));
        match changed.unwrap_or_else(|| base.state(code.list_id)) {
            ListState::Void => OfflineDecision::Void,
            state => OfflineDecision::Colour {
                state,
                stale: age > ages.stale_after,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ListId;
    use super::super::list::{ListHead, build_base, tests::signing_key};
    use super::*;
    use crate::person::{Assurance, Document, MaskedIdentity, MaskedName};

    const HOUR: u64 = 3_600_000;
    const AS_OF: u64 = 1_795_500_000_000;
    const RED: ListId = ListId(7);
    const GREEN: ListId = ListId(8);

    fn head(number: u64, as_of: u64) -> ListHead {
        ListHead {
            issuer: 440_000,
            number,
            as_of: Time(as_of),
            until: Time(as_of + 24 * HOUR),
            residents: 100,
        }
    }

    fn base(number: u64, as_of: u64) -> BaseList {
        let key = signing_key(1);
        let everybody = |each: &mut dyn FnMut(ListId)| (0..100).for_each(|id| each(ListId(id)));
        let listed = [(RED, ListState::Red)];
        let file = build_base(&head(number, as_of), &listed, everybody, &key).unwrap();
        BaseList::open(file.into(), &[key.verifying()]).unwrap()
    }

    fn changes(number: u64, as_of: u64, changes: &[(ListId, ListState)]) -> ListChanges {
        let key = signing_key(1);
        let file = ListChanges::write(&head(number, as_of), changes, &key).unwrap();
        ListChanges::open(&file, &[key.verifying()]).unwrap()
    }

    fn code(list_id: ListId, issued_at: u64) -> OfflineCode {
        OfflineCode {
            key: 1,
            issuer: 440_000,
            list_id,
            generation: 0,
            check: 1,
            issued_at: Time(issued_at),
            life_hours: 72,
            masked: MaskedIdentity {
                name: MaskedName::of("陈"),
                cert_no: Document::parse("10", "440106199003077211", 20_261_128)
                    .unwrap()
                    .mask(),
                assurance: Assurance::RealName,
            },
        }
    }

    fn held() -> HeldLists {
        let mut held = HeldLists::default();
        held.take_base(base(5, AS_OF)).unwrap();
        held
    }

    #[test]
    fn a_colour_is_given_marked_and_withheld_by_the_age_of_the_list() {
        let (held, ages) = (held(), ListAges::default());
        let at = |after: u64, id| held.judge(&code(id, AS_OF - HOUR), Time(AS_OF + after), &ages);
        let colour = |state, stale| OfflineDecision::Colour { state, stale };
        let minute = 60_000;
        assert_eq!(at(0, RED), colour(ListState::Red, false));
        assert_eq!(at(30 * minute, GREEN), colour(ListState::Green, false));
        assert_eq!(at(31 * minute, GREEN), colour(ListState::Green, true));
        assert_eq!(at(12 * HOUR, RED), colour(ListState::Red, true));
        assert_eq!(at(12 * HOUR + 1, GREEN), OfflineDecision::TooOld);
        assert_eq!(at(100 * HOUR, GREEN), OfflineDecision::Expired);
    }

    #[test]
    fn a_file_ends_by_itself_whatever_the_gate_allows() {
        let ages = ListAges {
            too_old_after: Duration::from_secs(100 * 3_600),
            ..ListAges::default()
        };
        let at = |after| held().judge(&code(GREEN, AS_OF - HOUR), Time(AS_OF + after), &ages);
        assert!(matches!(at(24 * HOUR), OfflineDecision::Colour { .. }));
        assert_eq!(at(24 * HOUR + 1), OfflineDecision::TooOld);
    }

    #[test]
    fn a_clock_that_was_set_back_is_recognised() {
        let ages = ListAges::default();
        let at = |now| held().judge(&code(GREEN, AS_OF - HOUR), Time(now), &ages);
        assert_eq!(at(AS_OF - 301_000), OfflineDecision::Clock);
        assert!(matches!(
            at(AS_OF - 299_000),
            OfflineDecision::Colour { .. }
        ));
    }

    #[test]
    fn a_code_that_is_newer_than_the_list_gets_no_colour() {
        let ages = ListAges::default();
        let verdict = held().judge(&code(GREEN, AS_OF + 1_000), Time(AS_OF + 2_000), &ages);
        assert_eq!(verdict, OfflineDecision::NotCovered);
    }

    #[test]
    fn without_a_list_there_is_no_colour() {
        let verdict =
            HeldLists::default().judge(&code(GREEN, AS_OF), Time(AS_OF), &ListAges::default());
        assert_eq!(verdict, OfflineDecision::TooOld);
    }

    #[test]
    fn changes_count_before_the_base() {
        let mut held = held();
        let all = [
            (RED, ListState::Green),
            (GREEN, ListState::Red),
            (ListId(9), ListState::Void),
        ];
        held.take_changes(changes(5, AS_OF + 1, &all)).unwrap();
        let ages = ListAges::default();
        let say = |id| held.judge(&code(id, AS_OF - HOUR), Time(AS_OF + 2), &ages);
        let colour = |state| OfflineDecision::Colour {
            state,
            stale: false,
        };
        assert_eq!(say(RED), colour(ListState::Green));
        assert_eq!(say(GREEN), colour(ListState::Red));
        assert_eq!(say(ListId(9)), OfflineDecision::Void);
        assert_eq!(say(ListId(10)), colour(ListState::Green));
    }

    #[test]
    fn nothing_older_than_what_is_held_is_taken() {
        let mut held = held();
        assert_eq!(held.take_base(base(4, AS_OF + 1)), Err(Rollback::Older));
        assert_eq!(held.take_base(base(6, AS_OF - 1)), Err(Rollback::Older));
        assert_eq!(
            held.take_changes(changes(4, AS_OF + 9, &[])),
            Err(Rollback::OtherBase)
        );
        held.take_changes(changes(5, AS_OF + 5, &[])).unwrap();
        assert_eq!(
            held.take_changes(changes(5, AS_OF + 4, &[])),
            Err(Rollback::Older)
        );
        // A newer base that knows less than base and changes together would go back in time.
        assert_eq!(held.take_base(base(6, AS_OF + 4)), Err(Rollback::Older));
        assert_eq!(held.as_of(), Some(Time(AS_OF + 5)));
        held.take_base(base(6, AS_OF + 6)).unwrap();
        assert_eq!(held.as_of(), Some(Time(AS_OF + 6)));
        assert_eq!(
            held.take_changes(changes(5, AS_OF + 9, &[])),
            Err(Rollback::OtherBase)
        );
    }
}
