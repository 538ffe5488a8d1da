//! The board: every resident's status in this process's memory, fenced by version, and how fresh it is.
//! In: words from the store. Out: what is known of one resident now. Never: the store, codes, HTTP. Never waits.

use crate::answer::{Freshness, Standing};
use crate::clock::Time;
use crate::person::ResidentId;
use crate::status::Word;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Past this age verdicts are marked.
    pub stale_after: Duration,
    /// Past this age no colour is told.
    pub too_old_after: Duration,
    /// Shards of the map: a power of two. A shard that grows stops its own readers only, and with thousands it is short.
    pub shards: usize,
}

/// What the board says of one resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// This resident's word.
    Word(Word),
    /// Nobody has this id, and every resident on record is on the board.
    Absent,
    /// Nobody has this id yet: the board is still being filled.
    NotYet,
    /// The id is another's, or may be: the store knows by the claim.
    Ask,
}

/// The whole province, resident id to word.
pub struct Board {
    words: DashMap<u64, u64, BuildHasherDefault<IdHasher>>,
    settings: Settings,
    /// Everything acknowledged up to this time is here; 0 before the first sign of life of the store.
    as_of: AtomicU64,
    filled: AtomicBool,
    /// Kept beside the map: its own count locks every shard.
    residents: AtomicU64,
    fenced: AtomicU64,
}

/// Ids are keyed hashes already, so they are their own hash and nobody can choose them to collide. Turned by seven bits:
/// the map takes a shard by the bits below the top seven, which are then the id's topmost, so that a store that is read by
/// rising id fills one shard after the other, each while it is in the processor's cache.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write_u64(&mut self, id: u64) {
        self.0 = id.rotate_right(7);
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("ids are hashed whole");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Kept free beyond the residents on record at the start, for those who come while it runs: a tenth, and a little.
fn room_for(residents: u64) -> usize {
    (residents + residents / 10 + 100_000) as usize
}

impl Board {
    /// A board with room for `residents` and a tenth more without growing.
    pub fn new(residents: u64, settings: Settings) -> Board {
        Board {
            words: DashMap::with_capacity_and_hasher_and_shard_amount(
                room_for(residents),
                BuildHasherDefault::default(),
                settings.shards,
            ),
            settings,
            as_of: AtomicU64::new(0),
            filled: AtomicBool::new(false),
            residents: AtomicU64::new(0),
            fenced: AtomicU64::new(0),
        }
    }

    /// Puts a resident's word up, unless a newer one, or this one, is there: late fills, replays and resyncs change nothing.
    pub fn post(&self, id: ResidentId, word: Word) -> bool {
        match self.words.entry(id.0) {
            Entry::Vacant(slot) => {
                slot.insert(word.bits());
                self.residents.fetch_add(1, Relaxed);
                true
            }
            Entry::Occupied(mut slot) => {
                if word.is_newer_than(*slot.get()) {
                    slot.insert(word.bits());
                    true
                } else {
                    self.fenced.fetch_add(1, Relaxed);
                    false
                }
            }
        }
    }

    /// The word at `id`, whoever's it is; what a bare look at memory gives.
    pub fn word(&self, id: ResidentId) -> Option<Word> {
        let bits = *self.words.get(&id.0)?;
        // Only words that were checked when they came in are posted.
        Word::from_bits(bits)
    }

    /// The word of the resident whose check bits these are.
    pub fn find(&self, id: ResidentId, check: u16) -> Found {
        match self.word(id) {
            Some(word) if word.check() == check && check != 0 => Found::Word(word),
            Some(_) => Found::Ask,
            None if self.filled.load(Relaxed) => Found::Absent,
            None => Found::NotYet,
        }
    }

    /// The store was seen alive at `now`, and all that it acknowledged before is here.
    pub fn confirm(&self, now: Time) {
        self.as_of.fetch_max(now.0, Relaxed);
    }

    /// Every resident on record is here.
    pub fn fill_done(&self) {
        self.filled.store(true, Relaxed);
    }

    pub fn is_filled(&self) -> bool {
        self.filled.load(Relaxed)
    }

    pub fn freshness(&self, now: Time) -> Freshness {
        let as_of = Time(self.as_of.load(Relaxed));
        let age = now.since(as_of);
        Freshness {
            as_of,
            age,
            stale: age > self.settings.stale_after,
        }
    }

    /// Whether what is known is too old to be told.
    pub fn is_too_old(&self, freshness: &Freshness) -> bool {
        freshness.age > self.settings.too_old_after
    }

    /// What may be told of a word, or of its absence, at this freshness.
    pub fn standing(&self, word: Option<Word>, freshness: &Freshness) -> Standing {
        if self.is_too_old(freshness) {
            return Standing::TooOld;
        }
        word.map_or(Standing::Unknown, |word| Standing::Known(word.reasons()))
    }

    pub fn residents(&self) -> u64 {
        self.residents.load(Relaxed)
    }

    /// Words that came and were not newer.
    pub fn fenced(&self) -> u64 {
        self.fenced.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Reason, Reasons};
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn board() -> Board {
        Board::new(
            0,
            Settings {
                stale_after: Duration::from_secs(2),
                too_old_after: Duration::from_secs(30),
                shards: 16,
            },
        )
    }

    #[test]
    fn an_older_green_never_overtakes_a_red() {
        let board = board();
        let id = ResidentId(9);
        let red = Reasons::NONE.with(Reason::Confirmed);
        assert!(board.post(id, Word::new(5, 7, red)));
        assert!(!board.post(id, Word::new(4, 7, Reasons::NONE)));
        assert!(!board.post(id, Word::new(5, 7, Reasons::NONE)));
        assert_eq!(board.find(id, 7), Found::Word(Word::new(5, 7, red)));
        assert!(board.post(id, Word::new(6, 7, Reasons::NONE)));
        assert_eq!((board.residents(), board.fenced()), (1, 2));
    }

    #[test]
    fn a_stranger_at_the_same_id_is_sent_to_the_store() {
        let board = board();
        board.fill_done();
        board.post(ResidentId(9), Word::new(5, 7, Reasons::NONE));
        assert_eq!(board.find(ResidentId(9), 8), Found::Ask);
        board.post(ResidentId(9), Word::new(6, 0, Reasons::NONE));
        assert_eq!(board.find(ResidentId(9), 7), Found::Ask);
        assert_eq!(board.find(ResidentId(9), 0), Found::Ask);
    }

    #[test]
    fn what_is_not_there_yet_is_not_called_absent() {
        let board = board();
        assert_eq!(board.find(ResidentId(1), 1), Found::NotYet);
        board.fill_done();
        assert_eq!(board.find(ResidentId(1), 1), Found::Absent);
    }

    #[test]
    fn a_colour_is_marked_when_stale_and_withheld_when_too_old() {
        let board = board();
        let reasons = Reasons::NONE.with(Reason::Suspected);
        let word = Some(Word::new(5, 7, reasons));
        let at = |now| board.freshness(Time(now));
        assert_eq!(board.standing(word, &at(60_000)), Standing::TooOld);
        board.confirm(Time(100_000));
        assert!(!at(102_000).stale && at(102_001).stale);
        assert_eq!(board.standing(word, &at(130_000)), Standing::Known(reasons));
        assert_eq!(board.standing(word, &at(130_001)), Standing::TooOld);
        assert_eq!(board.standing(None, &at(130_001)), Standing::TooOld);
        board.confirm(Time(90_000));
        assert_eq!(at(100_000).as_of, Time(100_000));
    }

    proptest! {
        #[test]
        fn never_goes_back_whatever_order_words_come_in(posts in proptest::collection::vec((0u64..4, 0u64..20, 0u8..64), 0..200)) {
            let board = board();
            let mut newest: HashMap<u64, (u64, u8)> = HashMap::new();
            for (id, version, bits) in posts {
                let word = Word::new(version, 7, Reasons::from_bits(bits).unwrap());
                let posted = board.post(ResidentId(id), word);
                let before = newest.get(&id).copied();
                prop_assert_eq!(posted, before.is_none_or(|(last, _)| version > last));
                if posted {
                    newest.insert(id, (version, bits));
                }
                let (version, bits) = newest[&id];
                prop_assert_eq!(
                    board.word(ResidentId(id)),
                    Some(Word::new(version, 7, Reasons::from_bits(bits).unwrap()))
                );
            }
        }
    }

    #[test]
    fn never_goes_back_while_many_write_and_one_reads() {
        let board = board();
        let id = ResidentId(3);
        board.post(id, Word::new(0, 7, Reasons::NONE));
        std::thread::scope(|scope| {
            for thread in 0..3u64 {
                let board = &board;
                scope.spawn(move || {
                    for step in 0..20_000u64 {
                        // Each writer's versions rise, and the three interleave.
                        let version = step * 3 + thread;
                        board.post(id, Word::new(version, 7, Reasons::NONE));
                    }
                });
            }
            let mut last = 0;
            while last < 59_999 {
                let version = board.word(id).unwrap().version();
                assert!(version >= last);
                last = version;
            }
        });
    }
}
