//! Builds the files of a status list from all residents, and proves them by asking for each resident as a gate would. Takes
//! residents, revoked generations and earlier bases; returns signed files that are all correct, or none.

use super::code::OfflineCode;
use super::gate::{HeldLists, ListAges, OfflineDecision};
use super::ids::{ListId, ListState};
use super::issue::OfflineKeys;
use super::list::{BaseList, BuildFault, FileFault, ListChanges, ListHead, build_base};
use super::permutation::Permutation;
use crate::clock::Time;
use crate::person::{Assurance, CertType, MaskedIdentity, MaskedName, MaskedNumber, ResidentId};
use crate::status::{Colour, Word};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

/// Number of bases that are served: the newest, and the previous one for gates that have not read the newest yet.
pub const BASES_KEPT: usize = 2;

/// Thresholds of a new base: the changes are larger than this part of the base and than this many bytes.
const CHANGES_PART: usize = 4;
const CHANGES_BYTES: usize = 8 << 10;

/// Random low bits in the number of a base, below its milliseconds. They separate publishers that begin in one millisecond.
/// Numbers stay below 2^53, which every language reads exactly, until 2248.
const NUMBER_BITS: u32 = 10;

/// Access to the residents on record, for a publication.
pub trait OnRecord {
    /// Calls `each` once with every resident on record before the call, and possibly with some that are added meanwhile.
    fn each(&self, each: &mut dyn FnMut(ResidentId, Word));
    /// Returns whether a resident on record has this id.
    fn has(&self, resident: ResidentId) -> bool;
}

/// Inputs of a publication.
pub struct ListSource<'s> {
    /// The keys that sign the list.
    pub keys: &'s OfflineKeys,
    /// The issuer: a division of GB/T 2260 as a number.
    pub issuer: u32,
    /// The residents on record, in the order of their ids.
    pub residents: &'s dyn OnRecord,
    /// The newest revoked generation of each resident. That one and all earlier ones are void.
    pub revoked: &'s HashMap<u64, u8>,
    /// Time up to which `residents` and `revoked` hold all acknowledged changes.
    pub as_of: Time,
    /// Validity of the files.
    pub life: Duration,
    /// Words of this version or a later one may have changed during the walk over the residents.
    pub recent: u64,
}

/// Why no new list was made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum PublishFault {
    #[error("the base cannot be built: {0}")]
    Build(#[from] BuildFault),
    #[error("a new file cannot be read: {0}")]
    Unreadable(#[from] FileFault),
    #[error("a gate would refuse a new file")]
    NotTaken,
    #[error("of {asked} answers {wrong} would be wrong")]
    Wrong { asked: u64, wrong: u64 },
    #[error("a list cannot hold so many residents")]
    LimitReached,
    #[error("the key ring part has no signing key")]
    NoSigningKey,
}

/// A base and the changes since, both signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPair {
    /// The number of the base.
    pub number: u64,
    /// The file of the base.
    pub base: Box<[u8]>,
    /// The file of its changes.
    pub changes: Box<[u8]>,
}

/// The files of one edition, the newest base first.
#[derive(Debug)]
pub struct Edition {
    /// Time up to which all acknowledged changes are in the files.
    pub as_of: Time,
    /// Time after which gates must not use the files.
    pub until: Time,
    /// The bases with their changes, the newest first.
    pub pairs: Vec<ListPair>,
    /// Whether the newest base was made in this edition.
    pub is_rebased: bool,
    /// Numbers of red, yellow and void ids.
    pub listed: [u64; 3],
    /// Number of ids that two residents would have. They are void.
    pub clashes: u64,
    /// Number of answers that were compared when the new files were read as a gate reads them. All were right.
    pub asked: u64,
}

/// The ids of a list: the resident of each, and its state.
struct ListIds<'s> {
    permutation: &'s Permutation,
    revoked: &'s HashMap<u64, u8>,
    void: HashSet<ListId>,
    clashes: u64,
}

impl<'s> ListIds<'s> {
    fn new(source: &ListSource<'s>) -> ListIds<'s> {
        let mut ids = ListIds {
            permutation: &source.keys.permutation,
            revoked: source.revoked,
            void: HashSet::new(),
            clashes: 0,
        };
        let in_force: BTreeSet<u8> = (source.revoked.values())
            .filter_map(|newest| newest.checked_add(1))
            .chain([0])
            .collect();
        for (resident, newest) in source.revoked {
            let resident = ResidentId(*resident);
            for generation in 0..=*newest {
                let id = ids.permutation.list_id(resident, generation);
                if !ids.void.insert(id) || ids.is_of_another(id, resident, &in_force, source) {
                    ids.clashes += 1;
                }
            }
            // An id of a generation above 0 may equal the id of another resident. Both become void, which is not green.
            if let Some(id) = ids.current(resident)
                && ids.is_of_another(id, resident, &in_force, source)
            {
                ids.void.insert(id);
                ids.clashes += 1;
            }
        }
        ids
    }

    /// Returns whether an id is the current id of another resident on record.
    fn is_of_another(
        &self,
        id: ListId,
        resident: ResidentId,
        in_force: &BTreeSet<u8>,
        source: &ListSource<'_>,
    ) -> bool {
        in_force.iter().any(|generation| {
            let owner = self.permutation.resident(id, *generation);
            owner != resident && self.current(owner) == Some(id) && source.residents.has(owner)
        })
    }

    /// Returns the list id of codes issued now; None for a resident with no generation left.
    fn current(&self, resident: ResidentId) -> Option<ListId> {
        let generation = match self.revoked.get(&resident.0) {
            None => 0,
            Some(newest) => newest.checked_add(1)?,
        };
        Some(self.permutation.list_id(resident, generation))
    }

    /// Returns the state that the list must give for a resident's id.
    fn state(&self, id: ListId, word: Word) -> ListState {
        match word.reasons().colour() {
            _ if self.void.contains(&id) => ListState::Void,
            Colour::Green => ListState::Green,
            Colour::Yellow => ListState::Yellow,
            Colour::Red => ListState::Red,
        }
    }

    /// Calls `each` with the id, state and word of each resident on record.
    fn each(&self, source: &ListSource<'_>, each: &mut dyn FnMut(ListId, ListState, Word)) {
        source.residents.each(&mut |resident, word| {
            if let Some(id) = self.current(resident) {
                each(id, self.state(id, word), word);
            }
        });
    }
}

/// Recent words of the first walk. An id with the same word later did not change in between.
type RecentWords = HashMap<ListId, Word>;

/// Builds the next edition from the earlier bases, the newest first. A new base is made if `rebase` asks for it, there is no
/// base, the changes are too large, or the key of an earlier base is gone.
///
/// # Errors
///
/// A file cannot be built or read back, the proof found a wrong answer, or there is no signing key.
pub fn publish(
    source: &ListSource<'_>,
    so_far: &[BaseList],
    rebase: bool,
) -> Result<Edition, PublishFault> {
    let ids = ListIds::new(source);
    let so_far = &so_far[..so_far.len().min(BASES_KEPT)];
    // The files say what holds during this walk.
    let mut residents = 0u64;
    let mut listed = Vec::new();
    let mut changes = vec![Vec::new(); so_far.len()];
    let mut note = |id: ListId, state: ListState| {
        if state != ListState::Green {
            listed.push((id, state));
        }
        for (base, changes) in so_far.iter().zip(&mut changes) {
            if base.state(id) != state {
                changes.push((id, state));
            }
        }
    };
    let mut recent = RecentWords::new();
    ids.each(source, &mut |id, state, word| {
        residents += 1;
        note(id, state);
        if word.version() >= source.recent {
            recent.insert(id, word);
        }
    });
    ids.void.iter().for_each(|id| note(*id, ListState::Void));
    listed.sort_unstable();
    listed.dedup();
    let residents = u32::try_from(residents).map_err(|_| PublishFault::LimitReached)?;
    let until = source.as_of.plus(source.life);
    let head = |number| ListHead {
        issuer: source.issuer,
        number,
        as_of: source.as_of,
        until,
        residents,
    };
    let signing = source.keys.signing.as_ref();
    let signing = signing.ok_or(PublishFault::NoSigningKey)?;
    let mut pairs = Vec::with_capacity(BASES_KEPT);
    let is_large = |base: &BaseList, changes: &Vec<_>| {
        changes.len() * 8 > CHANGES_BYTES.max(base.file().len() / CHANGES_PART)
    };
    let outgrown = so_far
        .first()
        .is_none_or(|base| is_large(base, &changes[0]));
    let is_rebased = rebase || outgrown;
    if is_rebased {
        let number = next_number(source.as_of, so_far)?;
        let everybody = |each: &mut dyn FnMut(ListId)| {
            ids.each(source, &mut |id, _, _| each(id));
        };
        let base = build_base(&head(number), &listed, everybody, signing)?;
        let changes = ListChanges::write(&head(number), &[], signing);
        pairs.push(ListPair {
            number,
            base: base.into(),
            changes: changes.ok_or(BuildFault::Random)?.into(),
        });
    }
    for (base, changes) in so_far.iter().zip(changes) {
        if pairs.len() == BASES_KEPT {
            break;
        }
        let number = base.head.number;
        let changes = ListChanges::write(&head(number), &changes, signing);
        pairs.push(ListPair {
            number,
            base: base.file().into(),
            changes: changes.ok_or(BuildFault::Random)?.into(),
        });
    }
    let asked = prove(source, &ids, &listed, &recent, &pairs)?;
    let count = |wanted| {
        let of_state = listed.iter().filter(|(_, state)| *state == wanted);
        of_state.count() as u64
    };
    Ok(Edition {
        as_of: source.as_of,
        until,
        pairs,
        is_rebased,
        listed: [
            count(ListState::Red),
            count(ListState::Yellow),
            count(ListState::Void),
        ],
        clashes: ids.clashes,
        asked,
    })
}

/// Returns a number above that of every known base. A base whose head was lost has the same number only if it is of the same
/// millisecond and has the same random bits, one case in 1,024.
fn next_number(as_of: Time, so_far: &[BaseList]) -> Result<u64, PublishFault> {
    let mut random = [0; 2];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| BuildFault::Random)?;
    let random = u64::from(u16::from_le_bytes(random)) & ((1 << NUMBER_BITS) - 1);
    let last = so_far.iter().map(|base| base.head.number).max();
    Ok((as_of.0 << NUMBER_BITS | random).max(last.map_or(0, |last| last + 1)))
}

/// Reads the files as a gate does and asks for each resident with each pair. Returns the number of answers.
///
/// An answer must match the first walk. It must also match the current state unless the word changed since: the files may hold
/// such a change or not, and say nothing of residents added meanwhile.
fn prove(
    source: &ListSource<'_>,
    ids: &ListIds<'_>,
    listed: &[(ListId, ListState)],
    recent: &RecentWords,
    pairs: &[ListPair],
) -> Result<u64, PublishFault> {
    let ages = ListAges::default();
    let mut gates = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let keys = &source.keys.verifying;
        let mut held = HeldLists::default();
        let taken = held.take_base(BaseList::open(pair.base.clone(), keys)?);
        let changes = ListChanges::open(&pair.changes, keys)?;
        let taken = taken.and_then(|()| held.take_changes(changes));
        taken.map_err(|_| PublishFault::NotTaken)?;
        gates.push(held);
    }
    let mut code = OfflineCode {
        key: source.keys.verifying.first().map_or(0, |key| key.id),
        issuer: source.issuer,
        list_id: ListId(0),
        generation: 0,
        check: 1,
        issued_at: source.as_of,
        life_hours: 1,
        masked: MaskedIdentity {
            name: MaskedName::of(""),
            cert_no: MaskedNumber {
                cert_type: CertType::IdentityCard,
                ends: *b"0000",
            },
            assurance: Assurance::Unverified,
        },
    };
    let (mut asked, mut wrong) = (0u64, 0u64);
    let mut ask = |id: ListId, now: ListState, is_new: bool| {
        code.list_id = id;
        let before = listed.binary_search_by_key(&id, |(id, _)| *id);
        let before = before.ok().map(|at| listed[at].1);
        for gate in &gates {
            asked += 1;
            let said = match gate.judge(&code, source.as_of, &ages) {
                OfflineDecision::Colour { state, .. } => Some(state),
                OfflineDecision::Void => Some(ListState::Void),
                _ => None,
            };
            let is_right = match before {
                Some(before) => said == Some(before) && (before == now || is_new),
                None => said == Some(now) || said.is_some() && is_new,
            };
            wrong += u64::from(!is_right);
        }
    };
    ids.each(source, &mut |id, state, word| {
        let is_new = word.version() >= source.recent && recent.get(&id) != Some(&word);
        ask(id, state, is_new);
    });
    ids.void
        .iter()
        .for_each(|id| ask(*id, ListState::Void, false));
    match wrong {
        0 => Ok(asked),
        wrong => Err(PublishFault::Wrong { asked, wrong }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::ring::RingFile;
    use crate::status::{Reason, Reasons};
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    const ISSUER: u32 = 440_000;
    const START: u64 = 1_795_500_000_000;
    const SLOT: u64 = 600_000;
    const LIFE: Duration = Duration::from_secs(12 * 3_600);

    /// A board that changes between its walks.
    #[derive(Default)]
    struct Town {
        words: RefCell<BTreeMap<u64, Word>>,
        /// The changes that happen before each later walk.
        before_walks: RefCell<Vec<Vec<(u64, Word)>>>,
    }

    impl OnRecord for Town {
        fn each(&self, each: &mut dyn FnMut(ResidentId, Word)) {
            if let Some(words) = self.before_walks.borrow_mut().pop() {
                self.words.borrow_mut().extend(words);
            }
            for (id, word) in &*self.words.borrow() {
                each(ResidentId(*id), *word);
            }
        }

        fn has(&self, resident: ResidentId) -> bool {
            self.words.borrow().contains_key(&resident.0)
        }
    }

    fn spread(nth: u64) -> u64 {
        (nth + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn word(version: u64, is_red: bool) -> Word {
        let reasons = match is_red {
            true => Reasons::NONE.with(Reason::CloseContact),
            false => Reasons::NONE,
        };
        Word::new(version, 7, reasons)
    }

    fn keys() -> OfflineKeys {
        OfflineKeys::of(&RingFile::generate(Time(START)), ISSUER).unwrap()
    }

    fn source<'s>(
        keys: &'s OfflineKeys,
        residents: &'s Town,
        revoked: &'s HashMap<u64, u8>,
        as_of: u64,
    ) -> ListSource<'s> {
        ListSource {
            keys,
            issuer: ISSUER,
            residents,
            revoked,
            as_of: Time(as_of),
            life: LIFE,
            recent: as_of,
        }
    }

    fn bases(edition: &Edition, keys: &OfflineKeys) -> Vec<BaseList> {
        let pairs = edition.pairs.iter();
        pairs
            .map(|pair| BaseList::open(pair.base.clone(), &keys.verifying).unwrap())
            .collect()
    }

    fn code(id: ListId, issued_at: u64) -> OfflineCode {
        OfflineCode {
            key: 1,
            issuer: ISSUER,
            list_id: id,
            generation: 0,
            check: 7,
            issued_at: Time(issued_at),
            life_hours: 72,
            masked: MaskedIdentity {
                name: MaskedName::of("陈"),
                cert_no: MaskedNumber {
                    cert_type: CertType::IdentityCard,
                    ends: *b"4419",
                },
                assurance: Assurance::RealName,
            },
        }
    }

    /// What a gate is offered in a slot.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Offer {
        Nothing,
        Changes,
        Everything,
        /// The files of an earlier slot.
        Earlier,
    }

    /// What happens to whom before a slot, whether it makes a new base, and what the gate is offered then.
    type Slot = (Vec<(u64, u8)>, bool, Offer);

    fn days() -> impl Strategy<Value = Vec<Slot>> {
        let event = (0u64..60, 0u8..8);
        let offer = prop_oneof![
            Just(Offer::Nothing),
            Just(Offer::Changes),
            Just(Offer::Everything),
            Just(Offer::Earlier),
        ];
        let slot = (prop::collection::vec(event, 0..40), any::<bool>(), offer);
        prop::collection::vec(slot, 1..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_gate_says_of_everybody_what_was_so_at_its_list(days in days()) {
            let (keys, town) = (keys(), Town::default());
            let mut revoked: HashMap<u64, u8> = HashMap::new();
            // When each id was first given to somebody, and of each edition what was true of every id.
            let mut codes: BTreeMap<ListId, u64> = BTreeMap::new();
            let mut truths: BTreeMap<Time, BTreeMap<ListId, ListState>> = BTreeMap::new();
            let mut editions: Vec<Edition> = Vec::new();
            let mut held = HeldLists::default();
            for (nth, (events, rebase, offer)) in days.into_iter().enumerate() {
                let as_of = START + (nth as u64 + 1) * SLOT;
                for (who, what) in events {
                    let id = spread(who);
                    match what {
                        0..=3 => drop(town.words.borrow_mut().insert(id, word(as_of - 9, false))),
                        4 | 5 => drop(town.words.borrow_mut().insert(id, word(as_of - 9, true))),
                        _ => {
                            revoked.entry(id).and_modify(|newest| *newest += 1).or_insert(0);
                        }
                    }
                }
                let source = source(&keys, &town, &revoked, as_of);
                let ids = ListIds::new(&source);
                let mut truth: BTreeMap<ListId, ListState> =
                    ids.void.iter().map(|id| (*id, ListState::Void)).collect();
                ids.each(&source, &mut |id, state, _| {
                    truth.insert(id, state);
                    codes.entry(id).or_insert(as_of - 5);
                });
                let so_far = editions.last().map_or(Vec::new(), |last| bases(last, &keys));
                let edition = publish(&source, &so_far, rebase).unwrap();
                prop_assert!(edition.pairs.len() <= BASES_KEPT);
                prop_assert!(edition.asked >= truth.len() as u64);
                truths.insert(edition.as_of, truth);
                editions.push(edition);
                let offered = match offer {
                    Offer::Nothing => None,
                    Offer::Earlier => editions.get(nth / 2),
                    Offer::Changes | Offer::Everything => editions.last(),
                };
                let before = held.as_of();
                if let Some(edition) = offered {
                    let pairs = edition.pairs.iter().rev();
                    for (pair, base) in pairs.zip(bases(edition, &keys).into_iter().rev()) {
                        if offer != Offer::Changes {
                            let _ = held.take_base(base);
                        }
                        let changes = ListChanges::open(&pair.changes, &keys.verifying).unwrap();
                        let _ = held.take_changes(changes);
                    }
                }
                prop_assert!(held.as_of() >= before, "a gate went back");
                let Some(at) = held.as_of() else { continue };
                let truth = &truths[&at];
                for (id, issued_at) in &codes {
                    let said = held.judge(&code(*id, *issued_at), Time(as_of), &ListAges {
                        too_old_after: LIFE, ..ListAges::default()
                    });
                    if Time(*issued_at) > at {
                        prop_assert_eq!(said, OfflineDecision::NotCovered);
                        continue;
                    }
                    match (truth.get(id), said) {
                        (Some(ListState::Void), OfflineDecision::Void) => {}
                        (Some(wanted), OfflineDecision::Colour { state, .. }) => prop_assert_eq!(state, *wanted),
                        (wanted, said) => prop_assert!(false, "{:?} said of {:?}", said, wanted),
                    }
                }
            }
        }
    }

    #[test]
    fn what_changes_while_residents_are_walked_over_spoils_no_list() {
        let (keys, town, revoked) = (keys(), Town::default(), HashMap::new());
        for nth in 0..3_000 {
            let old = word(START - 9, nth % 50 == 0);
            town.words.borrow_mut().insert(spread(nth), old);
        }
        let changed = |from: u64| -> Vec<(u64, Word)> {
            let near = (from..from + 90).map(|nth| (spread(nth), word(START + 5, nth % 3 == 0)));
            near.collect()
        };
        // Before the walk that proves, the one that looks for others, and the first.
        *town.before_walks.borrow_mut() = vec![changed(2_950), changed(100), changed(10)];
        let edition = publish(&source(&keys, &town, &revoked, START), &[], true).unwrap();
        // Of who was on record then the list says what held.
        let mut held = HeldLists::default();
        held.take_base(bases(&edition, &keys).remove(0)).unwrap();
        let say = |nth: u64| {
            let id = keys.permutation.list_id(ResidentId(spread(nth)), 0);
            held.judge(&code(id, START), Time(START), &ListAges::default())
        };
        let colour = |state| OfflineDecision::Colour {
            state,
            stale: false,
        };
        for nth in 200..2_900 {
            let wanted = match nth % 50 {
                0 => ListState::Red,
                _ => ListState::Green,
            };
            assert_eq!(say(nth), colour(wanted), "{nth}");
        }
    }

    #[test]
    fn a_wrong_answer_is_no_list() {
        let (keys, town, revoked) = (keys(), Town::default(), HashMap::new());
        for nth in 0..500 {
            let old = word(START - 9, nth % 50 == 0);
            town.words.borrow_mut().insert(spread(nth), old);
        }
        // A change that the versions do not show: the proof sees what the walk before did not.
        let hidden = vec![(spread(7), word(START - 9, true))];
        *town.before_walks.borrow_mut() = vec![hidden, Vec::new(), Vec::new()];
        let published = publish(&source(&keys, &town, &revoked, START), &[], true);
        assert_eq!(
            published.map(|edition| edition.asked),
            Err(PublishFault::Wrong {
                asked: 500,
                wrong: 1
            })
        );
        // A list that is not of this town: the numbers are right, the answers are not.
        let other = Town::default();
        let old = (0..500).map(|nth| (spread(nth + 9_000), word(START - 9, nth % 2 == 0)));
        other.words.borrow_mut().extend(old);
        let edition = publish(&source(&keys, &other, &revoked, START), &[], true).unwrap();
        let ids = ListIds::new(&source(&keys, &town, &revoked, START));
        // However recent their words are: they are those of the walk before.
        let recent_source = ListSource {
            recent: 0,
            ..source(&keys, &town, &revoked, START)
        };
        let words = town.words.borrow();
        let same: RecentWords = (words.iter())
            .map(|(id, word)| (keys.permutation.list_id(ResidentId(*id), 0), *word))
            .collect();
        for (source, recent) in [
            (source(&keys, &town, &revoked, START), RecentWords::new()),
            (recent_source, same),
        ] {
            let proved = prove(&source, &ids, &[], &recent, &edition.pairs);
            assert!(matches!(proved, Err(PublishFault::Wrong { .. })));
        }
    }

    #[test]
    fn two_who_would_have_one_id_are_both_void() {
        let (keys, town) = (keys(), Town::default());
        let one = ResidentId(spread(1));
        // Another, whose first id is the one's second.
        let shared = keys.permutation.list_id(one, 1);
        let other = keys.permutation.resident(shared, 0);
        for (id, is_red) in [(one, true), (other, false), (ResidentId(spread(3)), false)] {
            town.words
                .borrow_mut()
                .insert(id.0, word(START - 9, is_red));
        }
        let revoked = HashMap::from([(one.0, 0)]);
        let edition = publish(&source(&keys, &town, &revoked, START), &[], true).unwrap();
        assert_eq!((edition.clashes, edition.listed), (1, [0, 0, 2]));
        let mut held = HeldLists::default();
        held.take_base(bases(&edition, &keys).remove(0)).unwrap();
        let say = |id| held.judge(&code(id, START), Time(START), &ListAges::default());
        assert_eq!(say(shared), OfflineDecision::Void);
        assert_eq!(say(keys.permutation.list_id(one, 0)), OfflineDecision::Void);
        // An id of before that is another's now is void as well.
        let taken = keys
            .permutation
            .resident(keys.permutation.list_id(one, 0), 0);
        assert_eq!(taken, one);
    }

    #[test]
    fn a_person_without_a_generation_left_and_one_who_is_gone_are_void() {
        let (keys, town) = (keys(), Town::default());
        let (spent, gone) = (spread(1), spread(2));
        town.words
            .borrow_mut()
            .insert(spent, word(START - 9, false));
        let revoked = HashMap::from([(spent, 255), (gone, 0)]);
        let edition = publish(&source(&keys, &town, &revoked, START), &[], true).unwrap();
        assert_eq!(edition.listed, [0, 0, 257]);
    }

    #[test]
    fn changes_that_outgrow_their_base_make_a_new_one_and_the_one_before_stays_true() {
        let (keys, town, revoked) = (keys(), Town::default(), HashMap::new());
        let put = |version, red: u64| {
            let all = (0..4_000).map(|nth| (spread(nth), word(version, nth % red == 0)));
            town.words.borrow_mut().extend(all);
        };
        put(START - 9, 400);
        let first = publish(&source(&keys, &town, &revoked, START), &[], false).unwrap();
        assert!(first.is_rebased && first.pairs.len() == 1);
        put(START + 9, 401);
        let at = START + SLOT;
        let second = publish(
            &source(&keys, &town, &revoked, at),
            &bases(&first, &keys),
            false,
        )
        .unwrap();
        assert!(!second.is_rebased && second.pairs[0].number == first.pairs[0].number);
        put(at + 9, 3);
        let third = publish(
            &source(&keys, &town, &revoked, at + SLOT),
            &bases(&second, &keys),
            false,
        )
        .unwrap();
        assert!(third.is_rebased && third.pairs.len() == 2);
        assert!(third.pairs[0].number > third.pairs[1].number);
        assert!(third.pairs[0].number < 1 << 53);
        assert_eq!(third.pairs[1].base, first.pairs[0].base);
    }
}
