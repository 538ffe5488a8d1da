//! The record of one resident: the claim, the sealed profile, and what each source last said about each reason. Pure.

pub use super::assertion::Assertion;
use super::change::{ChangeKind, ChangeOutcome};
use crate::status::Reasons;

/// What the store keeps of one resident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The claim; see [`crate::person::Identity`].
    pub claim: [u8; 16],
    /// The sealed profile; see [`crate::seal::Seal::profile`].
    pub profile: Box<[u8]>,
    /// The last message of each source about each reason.
    pub assertions: Vec<Assertion>,
}

impl Record {
    /// Returns the record that a first change makes; None if the change registers no resident.
    pub fn first(claim: [u8; 16], what: ChangeKind) -> Option<Record> {
        let (profile, assertions) = match what {
            ChangeKind::Profile(profile) => (profile, Vec::new()),
            ChangeKind::Status(assertion, profile) => (profile, vec![assertion]),
            ChangeKind::Paper(_) | ChangeKind::Override(_) | ChangeKind::Erase => return None,
        };
        Some(Record {
            claim,
            profile,
            assertions,
        })
    }

    /// Applies a change. For each reason and source the highest `seq` wins. The same `seq` with the opposite action is a
    /// `Conflict`: the source lost count, and which message is true is unknown. If only details differ, the first message
    /// stays.
    pub fn take(&mut self, what: ChangeKind) -> ChangeOutcome {
        let changed = match what {
            ChangeKind::Profile(profile) => {
                let changed = self.profile != profile;
                self.profile = profile;
                changed
            }
            ChangeKind::Erase => {
                let had_profile = !std::mem::take(&mut self.profile).is_empty();
                // A cleared reason stays as a number, so that an older message does not bring it back.
                let cleared = self.assertions.iter_mut().filter(|known| !known.active);
                let stripped = cleared.map(Assertion::strip);
                stripped.fold(had_profile, |some, one| some | one)
            }
            ChangeKind::Override(said) => {
                let known = self.known(&said).filter(|known| **known != said);
                known.map(|known| *known = said).is_some()
            }
            // Papers are kept beside the record.
            ChangeKind::Paper(_) => false,
            ChangeKind::Status(said, profile) => {
                let active = said.active;
                match self.known(&said) {
                    Some(known) if said.seq > known.seq => *known = said,
                    Some(known)
                        if said.seq == known.seq
                            && said.active != known.active
                            && !known.has_cleared(&said) =>
                    {
                        return ChangeOutcome::Conflict;
                    }
                    Some(_) => return ChangeOutcome::Unchanged,
                    None => self.assertions.push(said),
                }
                // An active reason needs its number, or no export holds it.
                if active && self.profile.is_empty() {
                    self.profile = profile;
                }
                true
            }
        };
        changed.into()
    }

    /// Returns the known message of the same source about the same reason.
    fn known(&mut self, said: &Assertion) -> Option<&mut Assertion> {
        let same =
            |known: &&mut Assertion| known.reason == said.reason && known.source == said.source;
        self.assertions.iter_mut().find(same)
    }

    /// Returns the active reasons. A reason is active while any source has it set.
    pub fn reasons(&self) -> Reasons {
        self.active().map(|assertion| assertion.reason).collect()
    }

    /// Returns the assertions that are set.
    pub fn active(&self) -> impl Iterator<Item = &Assertion> {
        self.assertions.iter().filter(|assertion| assertion.active)
    }

    /// Returns the stored form of the record.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(20 + self.profile.len() + 48 * self.assertions.len());
        bytes.extend_from_slice(&self.claim);
        bytes.extend_from_slice(&(self.profile.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&self.profile);
        for assertion in &self.assertions {
            assertion.write(&mut bytes);
        }
        bytes
    }

    /// Parses the stored form; None for other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Record> {
        let (claim, rest) = bytes.split_first_chunk::<16>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (profile, mut rest) =
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let mut assertions = Vec::new();
        while !rest.is_empty() {
            let (assertion, left) = Assertion::read(rest)?;
            assertions.push(assertion);
            rest = left;
        }
        Some(Record {
            claim: *claim,
            profile: profile.into(),
            assertions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use crate::status::Reason;
    use crate::store::ChangeOutcome::{Applied, Conflict, Unchanged};
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn assertion() -> impl Strategy<Value = Assertion> {
        (0u8..6, 0u8..3, 0u64..12, any::<bool>()).prop_map(|(reason, source, seq, active)| {
            Assertion {
                reason: Reason::from_bits(reason).unwrap(),
                source: format!("source-{source}").into(),
                seq,
                active,
                at: Time(seq * 1000),
                until: (seq % 2 == 0).then_some(20_200_504),
                region: (seq % 3 == 0).then_some(440_106),
            }
        })
    }

    fn said(assertions: &[Assertion]) -> Record {
        let mut record = Record::first([3; 16], ChangeKind::Profile([1, 2].into())).unwrap();
        for assertion in assertions {
            record.take(ChangeKind::Status(assertion.clone(), [].into()));
        }
        record
    }

    proptest! {
        #[test]
        fn reads_back_as_it_was_written(assertions in proptest::collection::vec(assertion(), 0..8)) {
            let record = said(&assertions);
            prop_assert_eq!(Record::from_bytes(&record.to_bytes()), Some(record));
        }

        #[test]
        fn order_and_repetition_do_not_matter(assertions in proptest::collection::vec(assertion(), 0..24), seed in any::<u64>()) {
            // A source numbers its events: one number is one event.
            let mut unique: HashMap<(Reason, Box<str>, u64), Assertion> = HashMap::new();
            for assertion in assertions {
                unique.entry((assertion.reason, assertion.source.clone(), assertion.seq)).or_insert(assertion);
            }
            let events: Vec<Assertion> = unique.into_values().collect();
            let mut shuffled: Vec<Assertion> = events.iter().chain(&events).cloned().collect();
            shuffled.sort_by_key(|assertion| (assertion.seq ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            prop_assert_eq!(said(&events).reasons(), said(&shuffled).reasons());
        }

        #[test]
        fn repeating_everything_changes_nothing(assertions in proptest::collection::vec(assertion(), 0..12)) {
            let mut record = said(&assertions);
            for assertion in assertions {
                prop_assert_ne!(record.take(ChangeKind::Status(assertion, [].into())), Applied);
            }
        }

        #[test]
        fn rubbish_is_no_record_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::from_bytes(&bytes);
        }
    }

    #[test]
    fn who_was_erased_has_a_number_again_once_a_reason_is_set_anew() {
        let of = |seq, active| Assertion {
            reason: Reason::CloseContact,
            source: "gd-cdc".into(),
            seq,
            active,
            at: Time(0),
            until: None,
            region: None,
        };
        let number = || Box::<[u8]>::from([7, 7]);
        let mut record = said(&[of(1, true), of(2, false)]);
        assert_eq!(record.take(ChangeKind::Erase), Applied);
        assert_eq!(
            record.take(ChangeKind::Status(of(1, true), number())),
            Unchanged
        );
        assert_eq!(
            record.take(ChangeKind::Status(of(3, false), number())),
            Applied
        );
        assert!(
            record.profile.is_empty(),
            "nothing in force needs the number"
        );
        assert_eq!(
            record.take(ChangeKind::Status(of(4, true), number())),
            Applied
        );
        assert_eq!(record.profile, number());
    }

    #[test]
    fn of_who_was_erased_stays_what_was_cleared_as_a_number_alone() {
        let of = |seq, active| Assertion {
            reason: Reason::CloseContact,
            source: "gd-cdc".into(),
            seq,
            active,
            at: Time(1_790_000_000_000),
            until: Some(20_260_901),
            region: Some(440_106),
        };
        let mut record = said(&[of(1, true), of(5, false)]);
        assert_eq!(record.take(ChangeKind::Erase), Applied);
        let left = &record.assertions[0];
        assert_eq!((left.at, left.until, left.region), (Time(0), None, None));
        assert!(!left.is_told() && left.seq == 5);
        assert_eq!(record.take(ChangeKind::Erase), Unchanged);
        let again = ChangeKind::Status(of(1, true), Box::from([7, 7]));
        assert_eq!(record.take(again), Unchanged);
    }

    #[test]
    fn a_number_that_was_used_for_the_opposite_changes_nothing_and_is_told_apart() {
        let first = of("gd-cdc", 5, false);
        let opposite = of("gd-cdc", 5, true);
        let others = [
            Assertion {
                at: Time(1),
                ..first.clone()
            },
            Assertion {
                until: Some(20_261_201),
                ..first.clone()
            },
            Assertion {
                region: Some(440_106),
                ..first.clone()
            },
        ];
        let mut record = said(std::slice::from_ref(&first));
        assert_eq!(
            record.take(ChangeKind::Status(opposite, [].into())),
            Conflict
        );
        // Details that only are told are those of the first.
        for other in others {
            assert_eq!(record.take(ChangeKind::Status(other, [].into())), Unchanged);
        }
        assert_eq!(record.assertions, std::slice::from_ref(&first));
        assert_eq!(record.take(ChangeKind::Status(first, [].into())), Unchanged);
        let cleared = of("gd-cdc", 6, false);
        record.take(ChangeKind::Override(Assertion {
            at: Time(9),
            ..cleared
        }));
        let repeated = |at| {
            ChangeKind::Status(
                Assertion {
                    at,
                    ..of("gd-cdc", 6, true)
                },
                [].into(),
            )
        };
        assert_eq!(record.take(repeated(Time(8))), Unchanged);
        assert_eq!(record.take(repeated(Time(9))), Conflict);
        let older = of("gd-cdc", 4, true);
        assert_eq!(record.take(ChangeKind::Status(older, [].into())), Unchanged);
        let another = of("gz-cdc", 5, true);
        assert_eq!(record.take(ChangeKind::Status(another, [].into())), Applied);
    }

    /// What a source says of one reason.
    fn of(source: &str, seq: u64, active: bool) -> Assertion {
        Assertion {
            reason: Reason::CloseContact,
            source: source.into(),
            seq,
            active,
            at: Time(0),
            until: None,
            region: None,
        }
    }

    #[test]
    fn an_override_replaces_what_a_source_said_and_adds_nothing() {
        let mut record = said(&[of("gd-cdc", u64::MAX, true), of("gz-cdc", 1, true)]);
        assert_eq!(
            record.take(ChangeKind::Override(of("any-lab", 5, false))),
            Unchanged
        );
        assert_eq!(
            record.take(ChangeKind::Override(of("gd-cdc", 4, false))),
            Applied
        );
        assert_eq!(
            record.take(ChangeKind::Override(of("gd-cdc", 4, false))),
            Unchanged
        );
        assert!(
            record.reasons().has(Reason::CloseContact),
            "another source has it set"
        );
        assert_eq!(
            record.take(ChangeKind::Override(of("gz-cdc", 1, false))),
            Applied
        );
        assert_eq!(record.reasons(), Reasons::NONE);
        // From then on the source's own numbers count again, above the one that it has now.
        let said = |seq| ChangeKind::Status(of("gd-cdc", seq, true), [].into());
        assert_eq!(record.take(said(3)), Unchanged);
        assert_eq!(record.take(said(4)), Conflict, "at the moment of the clear");
        assert_eq!(record.take(said(5)), Applied);
    }

    #[test]
    fn a_reason_stays_while_any_source_has_it_set() {
        let mut record = said(&[of("gd-cdc", 1, true), of("gz-cdc", 1, true)]);
        record.take(ChangeKind::Status(of("gd-cdc", 2, false), [].into()));
        assert!(record.reasons().has(Reason::CloseContact));
        record.take(ChangeKind::Status(of("gz-cdc", 2, false), [].into()));
        assert_eq!(record.reasons(), Reasons::NONE);
        assert_eq!(
            record.take(ChangeKind::Status(of("gd-cdc", 1, true), [].into())),
            Unchanged
        );
        assert_eq!(record.reasons(), Reasons::NONE);
    }
}
