//! Status: reasons, their colours, and the status word that holds them in memory.

use crate::clock::{Moment, Time};
use std::time::Duration;

mod guidance;
mod reason;

pub use guidance::appeal;
pub use reason::{Colour, Reason};

/// The active reasons of one resident, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reasons(u8);

impl Reasons {
    /// No reason, which is green.
    pub const NONE: Reasons = Reasons(0);

    /// Returns the set with a further reason.
    pub fn with(self, reason: Reason) -> Reasons {
        Reasons(self.0 | 1 << reason as u8)
    }

    /// Returns whether a reason is in the set.
    pub fn has(self, reason: Reason) -> bool {
        self.0 & 1 << reason as u8 != 0
    }

    /// Returns the reasons in the set, in the order of their bits.
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        Reason::ALL
            .into_iter()
            .filter(move |reason| self.has(*reason))
    }

    /// Returns the set as a number, with one bit for each reason.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Returns the reasons that are in either set.
    pub fn union(self, others: Reasons) -> Reasons {
        Reasons(self.0 | others.0)
    }

    /// Returns the reasons that are not in the other set.
    pub fn without(self, others: Reasons) -> Reasons {
        Reasons(self.0 & !others.0)
    }

    /// Returns the colour of the set: green if it is empty.
    pub fn colour(self) -> Colour {
        self.iter()
            .map(Reason::colour)
            .max()
            .unwrap_or(Colour::Green)
    }

    /// Number of possible sets. [`Reasons::bits`] is less.
    pub const SETS: usize = 1 << Reason::ALL.len();

    /// Returns the set with these bits; None for unknown bits.
    pub fn from_bits(bits: u8) -> Option<Reasons> {
        (usize::from(bits) < Reasons::SETS).then_some(Reasons(bits))
    }
}

impl FromIterator<Reason> for Reasons {
    fn from_iter<I: IntoIterator<Item = Reason>>(reasons: I) -> Reasons {
        reasons.into_iter().fold(Reasons::NONE, Reasons::with)
    }
}

/// What a node knows about one resident at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResidentStatus {
    /// On record, with the active reasons, which give the colour.
    Known(Reasons),
    /// The credential is genuine; the resident is not on record.
    Unknown,
    /// The node's data is older than `too_old_after`.
    TooOld,
}

impl ResidentStatus {
    /// Returns the value of `state` in answers.
    pub fn state(self) -> &'static str {
        match self {
            ResidentStatus::Known(reasons) => reasons.colour().word(),
            ResidentStatus::Unknown => "unknown",
            ResidentStatus::TooOld => "too_old",
        }
    }
}

/// Age of a node's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Everything acknowledged up to this moment is on the board.
    pub moment: Moment,
    /// The same moment as time of day, for printing.
    pub as_of: Time,
    /// Age by the monotonic clock.
    pub age: Duration,
    /// Whether the age exceeds `stale_after`, so that verdicts are marked.
    pub stale: bool,
}

/// The status of one resident in 64 bits, which are read and written at once.
///
/// From the highest bit: 42 bits of version (a hybrid clock in milliseconds, until 2109), 14 check bits
/// ([`crate::person::Identity::check`]; 0: ask the store), 8 bits of active reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Word(u64);

/// Position of the version: the bits from here on.
pub const VERSION_SHIFT: u32 = 22;
const CHECK_SHIFT: u32 = 8;
const CHECK_MASK: u64 = (1 << 14) - 1;

/// Highest version.
pub const VERSION_MAX: u64 = (1 << 42) - 1;

impl Word {
    /// Returns a word. `version` is at most [`VERSION_MAX`], `check` has 14 bits.
    pub fn new(version: u64, check: u16, reasons: Reasons) -> Word {
        debug_assert!(version <= VERSION_MAX && u64::from(check) <= CHECK_MASK);
        Word(
            version << VERSION_SHIFT
                | (u64::from(check) & CHECK_MASK) << CHECK_SHIFT
                | u64::from(reasons.0),
        )
    }

    /// Returns the version, which only rises.
    pub fn version(self) -> u64 {
        self.0 >> VERSION_SHIFT
    }

    /// Returns the check bits, which tell residents with one home apart.
    pub fn check(self) -> u16 {
        (self.0 >> CHECK_SHIFT & CHECK_MASK) as u16
    }

    /// Returns the active reasons.
    pub fn reasons(self) -> Reasons {
        Reasons(self.0 as u8)
    }

    /// Returns the 64 bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Returns the word with further reasons.
    pub fn and(self, reasons: Reasons) -> Word {
        Word(self.0 | u64::from(reasons.0))
    }

    /// Returns the word that the board holds in place of a damaged one. Its check bits match no resident, so each lookup asks the
    /// store by the claim; its version is the lowest; and it is not green.
    pub fn doubtful() -> Word {
        Word::new(0, 0, Reason::ALL.into_iter().collect())
    }

    /// Returns whether this is the word for a damaged one.
    pub fn is_doubtful(self) -> bool {
        self == Word::doubtful()
    }

    /// Returns whether the version is higher than that of the word with these bits.
    pub fn is_newer_than(self, bits: u64) -> bool {
        self.version() > bits >> VERSION_SHIFT
    }

    /// Returns the word with these bits; None if a reason is set that this version does not know, which must not read as green.
    pub fn from_bits(bits: u64) -> Option<Word> {
        Reasons::from_bits(bits as u8)?;
        Some(Word(bits))
    }

    /// Returns the version after `last`: one more, or the wall clock if that is higher, so that a restored store cannot hide
    /// new statuses behind old, higher numbers.
    pub fn version_after(last: Option<u64>, now: Time) -> u64 {
        last.map_or(0, |last| last + 1).max(now.0).min(VERSION_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn any_reason_is_red_and_none_is_green() {
        assert_eq!(Reasons::NONE.colour(), Colour::Green);
        for bits in 1..Reasons::SETS as u8 {
            assert_eq!(Reasons::from_bits(bits).unwrap().colour(), Colour::Red);
        }
    }

    #[test]
    fn words_are_those_of_the_contract() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.word()), Some(reason));
        }
        assert_eq!(Reason::parse("hungry"), None);
        assert_eq!(Colour::Red.national(), "10");
    }

    #[test]
    fn a_word_with_an_unknown_reason_is_no_word() {
        assert_eq!(Word::from_bits(1 << 6), None);
        assert_eq!(Word::from_bits(1 << 7), None);
    }

    proptest! {
        #[test]
        fn a_word_gives_back_what_was_put_in(version in 0..=VERSION_MAX, check in 0u16..1 << 14, bits in 0u8..64) {
            let word = Word::new(version, check, Reasons::from_bits(bits).unwrap());
            prop_assert_eq!((word.version(), word.check(), word.reasons().bits()), (version, check, bits));
            prop_assert_eq!(Word::from_bits(word.bits()), Some(word));
        }

        #[test]
        fn versions_rise_whatever_the_clock_says(last in 0..VERSION_MAX, now in 0..VERSION_MAX) {
            let next = Word::version_after(Some(last), Time(now));
            prop_assert!(next > last && next >= now);
        }
    }
}
