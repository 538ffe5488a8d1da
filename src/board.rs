//! The board: the status of every resident in memory, fenced by version, and the age of each partition. Takes words from the
//! store, returns what is known of a resident. It never waits, and knows neither the store nor codes nor HTTP.

use crate::clock::{Moment, Now, Time};
use crate::person::ResidentId;
use crate::status::{Freshness, ResidentStatus};
use crate::status::{Reasons, Word};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
    fence,
};
use std::time::Duration;

/// The two ages past which verdicts change, and the number of shards.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Age past which verdicts are marked as stale.
    pub stale_after: Duration,
    /// Age past which no colour is given.
    pub too_old_after: Duration,
    /// Number of shards of the map, a power of two. A growing shard blocks only its own readers, briefly if there are
    /// thousands.
    pub shards: usize,
}

/// Result of a lookup on the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// This resident's word.
    Word(Word),
    /// The id is free, and every resident on record is on the board.
    Absent,
    /// The id is free so far: the board is still being filled.
    NotYet,
    /// The id belongs to another resident, or may. The store decides by the claim.
    Ask,
}

/// What lookups have answered about an id.
#[derive(Default)]
struct ToldLookup {
    /// The latest moment up to which an answer was complete.
    as_of: u64,
    /// The highest version in an answer.
    version: u64,
    /// When the last answer was there. Its data is no later.
    at: u64,
}

impl ToldLookup {
    /// Returns whether an answer may be of later data than a word of this version that is complete up to `as_of`.
    fn may_be_later(&self, version: u64, as_of: u64) -> bool {
        self.as_of > as_of || self.version > version && self.at > as_of
    }
}

/// Resident id to word, for the whole province.
pub struct Board {
    words: DashMap<u64, u64, BuildHasherDefault<IdHasher>>,
    /// Reasons that stay although the store has lost them; empty except after a loss. Locked inside a shard of `words`.
    retained: DashMap<u64, RetainedReasons, BuildHasherDefault<IdHasher>>,
    retained_count: AtomicU64,
    settings: Settings,
    /// For each partition the [`Moment`] up to which everything acknowledged is here; 0 before the first contact with the
    /// store.
    as_of: [AtomicU64; PARTITIONS],
    filled: AtomicBool,
    /// Number of residents of each partition, because the map's own count locks every shard.
    residents: [AtomicU64; PARTITIONS],
    /// Highest version that was ever visible in each partition. Later changes must exceed it, whatever happened to the store.
    tops: [AtomicU64; PARTITIONS],
    /// While the board is filled: what lookups have answered about an id.
    looked_up: DashMap<u64, ToldLookup, BuildHasherDefault<IdHasher>>,
    /// Set once everything was read: from then on lookups no longer decide.
    settling: AtomicBool,
    dropped_stale: AtomicU64,
    conflicts: AtomicU64,
}

/// Number of partitions. Each has its own age, because a store in several places may lose one of them.
pub const PARTITIONS: usize = 16;

/// Returns the partition of an id: its four highest bits.
pub fn partition(id: ResidentId) -> usize {
    (id.0 >> 60) as usize
}

/// What a change was based on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeContext {
    /// Version of the resident's word in the store before the change; 0 if there was none.
    pub before: u64,
    /// Reasons that the store had as active during the change.
    pub held: Reasons,
}

/// Reasons that the board keeps although the store does not have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RetainedReasons {
    reasons: Reasons,
    /// Version of the resident's word on the board when a reason was last retained. A later change based on a store with the
    /// reason proves that the store has it again.
    since: u64,
}

/// Outcome of posting a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostOutcome {
    /// The word is visible.
    Up,
    /// The word was visible already.
    Same,
    /// A newer word is visible, and stays.
    Behind,
}

/// Hasher of ids, which are keyed hashes already and cannot be chosen to collide. Rotated by seven bits, because the map picks
/// a shard by the bits below the highest seven: those are then the id's highest. A store that is read by rising id fills one
/// shard after the other, in the processor's cache.
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

/// Returns the capacity for `residents` at the start: a tenth and 100,000 more than they are.
fn room_for(residents: u64) -> usize {
    (residents + residents / 10 + 100_000) as usize
}

impl Board {
    /// Returns a board with room for `residents` and a tenth more without growing.
    pub fn new(residents: u64, settings: Settings) -> Board {
        Board {
            words: DashMap::with_capacity_and_hasher_and_shard_amount(
                room_for(residents),
                BuildHasherDefault::default(),
                settings.shards,
            ),
            retained: DashMap::with_hasher_and_shard_amount(BuildHasherDefault::default(), 4),
            retained_count: AtomicU64::new(0),
            settings,
            as_of: [const { AtomicU64::new(0) }; PARTITIONS],
            filled: AtomicBool::new(false),
            residents: [const { AtomicU64::new(0) }; PARTITIONS],
            tops: [const { AtomicU64::new(0) }; PARTITIONS],
            looked_up: DashMap::with_hasher_and_shard_amount(BuildHasherDefault::default(), 4),
            settling: AtomicBool::new(false),
            dropped_stale: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
        }
    }

    /// Makes a word visible unless a newer one, or the same, is there. Late fills, replays and repeated readings change
    /// nothing.
    pub fn post(&self, id: ResidentId, word: Word) -> PostOutcome {
        self.put(id, word, None)
    }

    /// Makes the word of a change visible like [`Board::post`]; `context` tells what the change was based on.
    ///
    /// If the version on the board is later than `context.before`, the store has lost something. Then the change clears only
    /// reasons in `context.held`. The board keeps its other reasons until the store has them again; from then on a clear works as
    /// usual.
    pub fn apply_change(&self, id: ResidentId, word: Word, context: ChangeContext) -> PostOutcome {
        self.put(id, word, Some(context))
    }

    fn put(&self, id: ResidentId, word: Word, context: Option<ChangeContext>) -> PostOutcome {
        let top = &self.tops[partition(id)];
        if word.version() > top.load(Relaxed) {
            top.fetch_max(word.version(), Relaxed);
        }
        let mut slot = match self.words.entry(id.0) {
            Entry::Vacant(slot) => {
                slot.insert(word.bits());
                self.residents[partition(id)].fetch_add(1, Relaxed);
                return PostOutcome::Up;
            }
            Entry::Occupied(slot) => slot,
        };
        let bits = *slot.get();
        if !word.is_newer_than(bits) {
            if word.bits() == bits {
                return PostOutcome::Same;
            }
            // The word was read before the changes that led to it were received.
            let retained = self.retained_of(id);
            if let Some(context) = context
                && let Some(known) = Word::from_bits(bits)
                && let left = retained.reasons.without(context.held)
                && left != retained.reasons
            {
                let after = if word.version() == known.version() {
                    Some(word.and(left))
                } else if retained.since < word.version() && retained.since < known.version() {
                    // Retained reasons are not part of what the store said with this word.
                    let reasons = known.reasons().without(retained.reasons).union(left);
                    Some(Word::new(known.version(), known.check(), reasons))
                } else {
                    None
                };
                if let Some(after) = after {
                    slot.insert(after.bits());
                    let retained = RetainedReasons {
                        reasons: left,
                        ..retained
                    };
                    self.set_retained(id, retained);
                    return PostOutcome::Up;
                }
            }
            self.dropped_stale.fetch_add(1, Relaxed);
            return PostOutcome::Behind;
        }
        let mut retained = self.retained_of(id);
        if let (Some(context), Some(known)) = (context, Word::from_bits(bits)) {
            if context.before < known.version() {
                retained.reasons = retained.reasons.union(known.reasons());
                retained.since = known.version().max(retained.since);
                self.conflicts.fetch_add(1, Relaxed);
            }
            retained.reasons = retained.reasons.without(context.held);
        }
        retained.reasons = retained.reasons.without(word.reasons());
        slot.insert(word.and(retained.reasons).bits());
        self.set_retained(id, retained);
        PostOutcome::Up
    }

    fn set_retained(&self, id: ResidentId, retained: RetainedReasons) {
        let none = retained.reasons == Reasons::NONE;
        let before = match none {
            true if self.retained_count.load(Relaxed) == 0 => return,
            true => self.retained.remove(&id.0).map(|(_, before)| before),
            false => self.retained.insert(id.0, retained),
        };
        match (before.is_some(), none) {
            (false, false) => self.retained_count.fetch_add(1, Relaxed),
            (true, true) => self.retained_count.fetch_sub(1, Relaxed),
            _ => 0,
        };
    }

    /// Rolls back a visible change of `version` that was lost with its primary: the version before it returns. No red is lost: a
    /// reason that the change cleared returns, and one that it set is retained until the store has it itself.
    pub fn roll_back(&self, id: ResidentId, version: u64, before: Option<Word>) {
        let Entry::Occupied(mut slot) = self.words.entry(id.0) else {
            return;
        };
        let Some(shown) = Word::from_bits(*slot.get()).filter(|word| word.version() == version)
        else {
            return;
        };
        let (last, known) =
            before.map_or((0, Reasons::NONE), |word| (word.version(), word.reasons()));
        let reasons = shown.reasons().union(known);
        slot.insert(Word::new(last, shown.check(), reasons).bits());
        let retained = self.retained_of(id);
        let retained = RetainedReasons {
            reasons: retained.reasons.union(shown.reasons().without(known)),
            since: version.max(retained.since),
        };
        self.set_retained(id, retained);
    }

    /// Takes over a word that a store wrote after it had lost the visible one, although its version is lower.
    ///
    /// What the board knew stays, except for reasons in `held`, which the store has had since. Words above `top` belong to the
    /// store's new history.
    pub fn adopt(&self, id: ResidentId, word: Word, held: Reasons, top: u64) {
        let Entry::Occupied(mut slot) = self.words.entry(id.0) else {
            return;
        };
        let is_lost = |known: &Word| word.version() < known.version() && known.version() <= top;
        let Some(known) = Word::from_bits(*slot.get()).filter(is_lost) else {
            return;
        };
        let mut retained = self.retained_of(id);
        let reasons = retained.reasons.union(known.reasons()).without(held);
        retained.reasons = reasons.without(word.reasons());
        retained.since = known.version().max(retained.since);
        // The store decides which resident has this id now.
        let check = match word.check() == known.check() {
            true => known.check(),
            false => 0,
        };
        let shown = word.reasons().union(retained.reasons);
        slot.insert(Word::new(known.version(), check, shown).bits());
        self.conflicts.fetch_add(1, Relaxed);
        self.set_retained(id, retained);
    }

    /// Returns the highest version that was ever visible in a partition.
    pub fn top(&self, nth: usize) -> u64 {
        self.tops[nth].load(Relaxed)
    }

    /// Returns the reasons of a resident that the board keeps although the store has lost them.
    pub fn retained(&self, id: ResidentId) -> Reasons {
        self.retained_of(id).reasons
    }

    fn retained_of(&self, id: ResidentId) -> RetainedReasons {
        if self.retained_count.load(Relaxed) == 0 {
            return RetainedReasons::default();
        }
        self.retained
            .get(&id.0)
            .map_or_else(RetainedReasons::default, |retained| *retained)
    }

    /// Returns the number of residents with retained reasons.
    pub fn retained_count(&self) -> u64 {
        self.retained_count.load(Relaxed)
    }

    /// Returns the number of residents of the `nth` partition with retained reasons. It visits all of them.
    pub fn retained_in(&self, nth: usize) -> u64 {
        if self.retained_count.load(Relaxed) == 0 {
            return 0;
        }
        let retained = self.retained.iter();
        retained
            .filter(|retained| partition(ResidentId(*retained.key())) == nth)
            .count() as u64
    }

    /// Removes what was read of a partition and answered nobody yet: the reading failed, or no majority vouches for the server.
    pub fn discard_unconfirmed(&self, nth: usize) {
        debug_assert_eq!(self.as_of[nth].load(Relaxed), 0, "it was told");
        self.words.retain(|id, _| partition(ResidentId(*id)) != nth);
        self.residents[nth].store(0, Relaxed);
    }

    /// Returns the word at an id, whichever resident has it; None if there is none.
    pub fn word(&self, id: ResidentId) -> Option<Word> {
        let bits = *self.words.get(&id.0)?;
        // Only checked words are posted.
        Word::from_bits(bits)
    }

    /// Returns the version of the word at an id; 0 without one.
    fn version(&self, id: ResidentId) -> u64 {
        self.word(id).map_or(0, |word| word.version())
    }

    /// Returns the word of the resident with these check bits.
    pub fn find(&self, id: ResidentId, check: u16) -> Found {
        // Before the word is read: one that was behind until then is not told.
        let is_unconfirmed = self.is_unconfirmed(id);
        match self.word(id) {
            Some(_) if is_unconfirmed => Found::NotYet,
            Some(word) if word.check() == check && check != 0 => Found::Word(word),
            Some(_) => Found::Ask,
            None if self.filled.load(Relaxed) => Found::Absent,
            None => Found::NotYet,
        }
    }

    /// Returns whether the board cannot answer for an id while it is filled: a word becomes visible before its age is known,
    /// and a lookup may have answered with later data.
    pub fn is_unconfirmed(&self, id: ResidentId) -> bool {
        if self.filled.load(Relaxed) {
            return false;
        }
        let as_of = self.as_of[partition(id)].load(SeqCst);
        let is_behind = || {
            let version = self.version(id);
            let told = self.looked_up.get(&id.0);
            told.is_some_and(|told| told.may_be_later(version, as_of))
        };
        as_of == 0 || is_behind()
    }

    /// Returns whether the store must be asked about an id: it is unconfirmed, or it is free here and may be taken in the
    /// store.
    pub fn cannot_tell(&self, id: ResidentId) -> bool {
        self.is_unconfirmed(id) || !self.is_filled() && self.word(id).is_none()
    }

    /// Records that a lookup of `id` has answered by the moment `at` with `word` and data of `as_of`, so that the board no longer
    /// answers with older data. Returns false if the result must not be used, because the board answers for this id or is about to.
    /// Else the answer is the lookup's alone: what the board holds of the id is not confirmed, and may be discarded.
    pub fn note_lookup(
        &self,
        id: ResidentId,
        word: Option<Word>,
        as_of: Moment,
        at: Moment,
    ) -> bool {
        let is_late = || {
            let heard = self.as_of[partition(id)].load(SeqCst) > 0;
            self.settling.load(SeqCst) || heard && self.word(id).is_some()
        };
        if is_late() {
            return false;
        }
        let mut told = self.looked_up.entry(id.0).or_default();
        told.as_of = told.as_of.max(as_of.0);
        // An answer is complete up to `as_of`, and may be of later data.
        let version = word.map_or(0, |word| word.version());
        told.version = told.version.max(version);
        told.at = told.at.max(at.0);
        drop(told);
        // From here on, a thread that answers from the board either sees this entry, or is seen here.
        fence(SeqCst);
        !is_late()
    }

    /// Ends the filling: every resident on record is here, and lookups no longer decide. Returns false if lookups have answered
    /// with later data than is here; then it must be called again.
    pub fn fill_done(&self) -> bool {
        self.settling.store(true, SeqCst);
        fence(SeqCst);
        self.looked_up.retain(|id, told| {
            let id = ResidentId(*id);
            // Read before the word, which is at least as new.
            let as_of = self.as_of[partition(id)].load(SeqCst);
            told.may_be_later(self.version(id), as_of)
        });
        let done = self.looked_up.is_empty();
        self.filled.store(done, SeqCst);
        done
    }

    /// Records that the store was alive at `now`, and that everything it acknowledged before is here.
    pub fn confirm(&self, now: Moment) {
        for nth in 0..PARTITIONS {
            self.confirm_partition(nth, now);
        }
    }

    /// Records for one partition that the store was alive at `now`, and that everything it acknowledged there before is here.
    pub fn confirm_partition(&self, nth: usize, now: Moment) {
        self.as_of[nth].fetch_max(now.0, Relaxed);
    }

    /// Returns whether everything that the store held at the start is on the board.
    pub fn is_filled(&self) -> bool {
        self.filled.load(Relaxed)
    }

    /// Returns the freshness of the oldest partition.
    pub fn freshness(&self, now: Now) -> Freshness {
        let as_of = self.as_of.iter().map(|as_of| as_of.load(Relaxed)).min();
        self.freshness_at(Moment(as_of.unwrap_or_default()), now)
    }

    /// Returns a bit for each partition whose data is too old.
    pub fn too_old_in(&self, now: Now) -> u16 {
        let is_old = |nth: &usize| {
            let as_of = Moment(self.as_of[*nth].load(Relaxed));
            self.is_too_old(&self.freshness_at(as_of, now))
        };
        let old = (0..PARTITIONS).filter(is_old);
        old.fold(0, |bits, nth| bits | 1 << nth)
    }

    /// Returns the freshness of an id's partition.
    pub fn freshness_of(&self, id: ResidentId, now: Now) -> Freshness {
        self.freshness_at(Moment(self.as_of[partition(id)].load(Relaxed)), now)
    }

    /// Returns the freshness of data of `moment`. [`Moment`] 0 means that the store was never reached: such data is too old,
    /// however recently the machine started.
    pub fn freshness_at(&self, moment: Moment, now: Now) -> Freshness {
        let (as_of, age) = match moment {
            Moment(0) => (Time(0), now.time.since(Time(0))),
            moment => (now.time_of(moment), now.moment.since(moment)),
        };
        Freshness {
            moment,
            as_of,
            age,
            stale: age > self.settings.stale_after,
        }
    }

    /// Returns whether data of this freshness is too old for a colour.
    pub fn is_too_old(&self, freshness: &Freshness) -> bool {
        freshness.age > self.settings.too_old_after
    }

    /// Returns the status that a word, or its absence, gives at this freshness.
    pub fn status(&self, word: Option<Word>, freshness: &Freshness) -> ResidentStatus {
        if self.is_too_old(freshness) {
            return ResidentStatus::TooOld;
        }
        word.map_or(ResidentStatus::Unknown, |word| {
            ResidentStatus::Known(word.reasons())
        })
    }

    /// Calls `each` with every resident on the board before the walk, and possibly with some added meanwhile.
    ///
    /// A shard is locked while it is copied, not while `each` runs: a writer waits for a copy of some ten thousand words, some
    /// hundred microseconds. Readers never wait.
    pub fn walk(&self, mut each: impl FnMut(ResidentId, Word)) {
        let mut copy = Default::default();
        for shard in self.words.shards() {
            // The buffer of the last copy is reused.
            Clone::clone_from(&mut copy, &*shard.read());
            for (id, bits) in copy.drain() {
                // Only checked words are posted.
                if let Some(word) = Word::from_bits(*bits.get()) {
                    each(ResidentId(id), word);
                }
            }
        }
    }

    /// Returns the number of residents on the board.
    pub fn residents(&self) -> u64 {
        self.residents.iter().map(|part| part.load(Relaxed)).sum()
    }

    /// Returns the number of residents in the `nth` partition.
    pub fn residents_in(&self, nth: usize) -> u64 {
        self.residents[nth].load(Relaxed)
    }

    /// Returns the number of words that were dropped because a newer one was visible.
    pub fn dropped_stale(&self) -> u64 {
        self.dropped_stale.load(Relaxed)
    }

    /// Returns the number of changes based on an older version than the board has, which means that the store lost data.
    pub fn conflicts(&self) -> u64 {
        self.conflicts.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Reason, Reasons};
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// A clock whose time of day is a million milliseconds ahead of the steady one.
    fn at(ms: u64) -> Now {
        Now {
            moment: Moment(ms),
            time: Time(ms + 1_000_000),
        }
    }

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
        board.confirm(Moment(1));
        let id = ResidentId(9);
        let red = Reasons::NONE.with(Reason::Confirmed);
        assert_eq!(board.post(id, Word::new(5, 7, red)), PostOutcome::Up);
        assert_eq!(board.post(id, Word::new(5, 7, red)), PostOutcome::Same);
        for late in [4, 5] {
            assert_eq!(
                board.post(id, Word::new(late, 7, Reasons::NONE)),
                PostOutcome::Behind
            );
        }
        assert_eq!(board.find(id, 7), Found::Word(Word::new(5, 7, red)));
        assert_eq!(
            board.post(id, Word::new(6, 7, Reasons::NONE)),
            PostOutcome::Up
        );
        assert_eq!((board.residents(), board.dropped_stale()), (1, 2));
    }

    #[test]
    fn a_change_made_by_a_store_that_forgot_cannot_take_a_red_away() {
        let board = board();
        let id = ResidentId(9);
        let reasons = |reason| Reasons::NONE.with(reason);
        let at = || board.word(id).unwrap().reasons();
        let apply_change = |version, reasons, before, held| {
            let context = ChangeContext { before, held };
            board.apply_change(id, Word::new(version, 7, reasons), context);
        };
        let [confirmed, suspected] = [Reason::Confirmed, Reason::Suspected].map(reasons);
        apply_change(5, confirmed, 0, confirmed);
        // The store was emptied, and another source cleared what it never heard of.
        apply_change(9, Reasons::NONE, 0, Reasons::NONE);
        assert_eq!(at(), confirmed);
        // It was read whole before the change was heard of: what the store had, it could clear.
        let seen = ResidentId(10);
        board.post(seen, Word::new(5, 7, confirmed));
        board.apply_change(
            seen,
            Word::new(8, 7, Reasons::NONE),
            ChangeContext::default(),
        );
        assert_eq!(
            (board.word(seen).unwrap().reasons(), board.retained_count()),
            (confirmed, 2)
        );
        let context = ChangeContext {
            before: 5,
            held: confirmed,
        };
        board.apply_change(seen, Word::new(8, 7, Reasons::NONE), context);
        assert_eq!(
            (board.word(seen).unwrap().reasons(), board.retained_count()),
            (Reasons::NONE, 1)
        );
        // Another reason comes and goes: the first is not among what the store can clear.
        apply_change(12, suspected, 9, suspected);
        assert_eq!(at(), confirmed.union(suspected));
        apply_change(13, Reasons::NONE, 12, suspected);
        assert_eq!(
            (at(), board.retained(id), board.retained_count()),
            (confirmed, confirmed, 1)
        );
        // It was restored from before all of this.
        apply_change(15, suspected, 4, suspected);
        assert_eq!(at(), confirmed.union(suspected));
        assert_eq!(board.conflicts(), 3);
        // Once it has the first again, that is cleared as ever.
        apply_change(
            16,
            confirmed.union(suspected),
            15,
            confirmed.union(suspected),
        );
        apply_change(17, suspected, 16, confirmed.union(suspected));
        assert_eq!((at(), board.retained_count()), (suspected, 0));
        apply_change(18, Reasons::NONE, 17, suspected);
        assert_eq!((at(), board.conflicts()), (Reasons::NONE, 3));
    }

    #[test]
    fn a_reason_that_is_set_and_cleared_within_one_change_is_known_to_the_store_again() {
        let board = board();
        let id = ResidentId(9);
        let confirmed = Reasons::NONE.with(Reason::Confirmed);
        board.post(id, Word::new(5, 7, confirmed));
        let lost = ChangeContext::default();
        board.apply_change(id, Word::new(9, 7, Reasons::NONE), lost);
        assert_eq!(board.word(id).unwrap().reasons(), confirmed);
        let again = ChangeContext {
            before: 9,
            held: confirmed,
        };
        board.apply_change(id, Word::new(10, 7, Reasons::NONE), again);
        assert_eq!(board.word(id).unwrap().reasons(), Reasons::NONE);
    }

    #[test]
    fn a_change_that_is_taken_back_leaves_no_red_green_and_no_newer_word_fenced() {
        let board = board();
        let id = ResidentId(9);
        let [confirmed, suspected, contact] =
            [Reason::Confirmed, Reason::Suspected, Reason::CloseContact]
                .map(|reason| Reasons::NONE.with(reason));
        let at = || board.word(id).unwrap().reasons();
        let first = Word::new(5, 7, confirmed);
        board.post(id, first);
        // One is cleared and another set, by a server that is given up.
        let lost = Word::new(20, 7, suspected);
        board.post(id, lost);
        board.roll_back(id, 20, Some(first));
        assert_eq!(
            (at(), board.retained(id)),
            (confirmed.union(suspected), suspected)
        );
        // What its successor took meanwhile has a lower version, and counts.
        let context = ChangeContext {
            before: 5,
            held: confirmed.union(contact),
        };
        assert_eq!(
            board.apply_change(id, Word::new(12, 7, contact), context),
            PostOutcome::Up
        );
        assert_eq!((at(), board.conflicts()), (contact.union(suspected), 0));
        // Only what is still shown is taken back.
        board.roll_back(id, 20, None);
        assert_eq!(board.word(id).unwrap().version(), 12);
        // A resident who was first heard of so is not unknown again.
        let other = ResidentId(10);
        board.post(other, Word::new(20, 7, suspected));
        board.roll_back(other, 20, None);
        assert_eq!(board.word(other).unwrap().reasons(), suspected);
        assert_eq!(
            board.post(other, Word::new(1, 7, Reasons::NONE)),
            PostOutcome::Up
        );
        assert_eq!(board.word(other).unwrap().reasons(), suspected);
    }

    #[test]
    fn what_nobody_vouches_for_is_taken_down_before_it_is_told() {
        let board = board();
        let ids = [3u64, 4].map(|nth| ResidentId(nth << 60 | 5));
        for id in ids {
            board.post(id, Word::new(5, 7, Reasons::NONE));
        }
        board.discard_unconfirmed(3);
        assert_eq!(ids.map(|id| board.word(id).is_some()), [false, true]);
        assert_eq!((board.residents_in(3), board.residents()), (0, 1));
    }

    #[test]
    fn a_stranger_at_the_same_id_is_sent_to_the_store() {
        let board = board();
        board.confirm(Moment(1));
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
        board.post(ResidentId(2), Word::new(5, 7, Reasons::NONE));
        for id in [1, 2] {
            assert_eq!(board.find(ResidentId(id), 7), Found::NotYet);
        }
        board.fill_done();
        assert_eq!(board.find(ResidentId(1), 1), Found::Absent);
    }

    #[test]
    fn a_reason_that_was_cleared_while_the_store_was_read_whole_is_gone_once_the_changes_are_heard_of()
     {
        let (board, id) = (board(), ResidentId(2));
        let red = Reasons::NONE.with(Reason::Suspected);
        let at = |version, reasons| Word::new(version, 7, reasons);
        let context = |before, held| ChangeContext { before, held };
        // It was set, cleared, and something else happened; the last of it was read whole, by a board that trusts no whole reading.
        board.apply_change(id, at(5, red), context(0, Reasons::NONE));
        board.apply_change(id, at(8, Reasons::NONE), ChangeContext::default());
        assert_eq!(board.retained(id), red);
        // What the board knew before it kept the reason says nothing of it.
        assert_eq!(
            board.apply_change(id, at(5, red), context(0, red)),
            PostOutcome::Behind
        );
        assert_eq!(board.word(id).map(|word| word.reasons()), Some(red));
        let cleared = board.apply_change(id, at(7, Reasons::NONE), context(5, red));
        assert_eq!(cleared, PostOutcome::Up);
        assert_eq!(board.word(id), Some(at(8, Reasons::NONE)));
        assert_eq!(
            (board.retained(id), board.retained_count()),
            (Reasons::NONE, 0)
        );
    }

    #[test]
    fn a_board_that_is_behind_a_look_into_the_store_does_not_answer_before_it_has_caught_up() {
        let (board, id) = (board(), ResidentId(2));
        board.post(id, Word::new(5, 7, Reasons::NONE));
        assert!(board.note_lookup(id, None, Moment(20), Moment(20)));
        board.confirm(Moment(10));
        assert_eq!(board.find(id, 7), Found::NotYet);
        assert!(
            !board.note_lookup(id, None, Moment(30), Moment(30)),
            "the board tells it soon"
        );
        // Others are not kept from theirs.
        assert!(!board.is_unconfirmed(ResidentId(3)));
        assert!(
            board.note_lookup(ResidentId(3), None, Moment(12), Moment(12)),
            "it is not here"
        );
        assert!(!board.fill_done() && !board.is_filled());
        assert!(
            !board.note_lookup(ResidentId(3), None, Moment(30), Moment(30)),
            "no more"
        );
        board.confirm(Moment(20));
        assert!(matches!(board.find(id, 7), Found::Word(_)));
        assert!(board.fill_done() && board.is_filled());
    }

    #[test]
    fn a_board_that_was_read_before_a_look_into_the_store_waits_for_the_later_word() {
        let (board, id) = (board(), ResidentId(2));
        let word = |version| Word::new(version, 7, Reasons::NONE);
        board.post(id, word(5));
        // Both are complete up to the same moment: how much later each was read is not known.
        assert!(board.note_lookup(id, Some(word(6)), Moment(10), Moment(14)));
        board.confirm(Moment(10));
        assert_eq!(board.find(id, 7), Found::NotYet);
        assert!(!board.fill_done(), "the end of the filling waits too");
        let caught_up = |board: &Board, version| {
            assert_eq!(board.find(id, 7), Found::Word(word(version)));
            assert!(board.fill_done() && board.is_filled());
        };
        board.post(id, word(6));
        caught_up(&board, 6);
        // A board that is complete up to when the answer was there has what the store kept of it.
        let other = super::tests::board();
        other.post(id, word(5));
        assert!(other.note_lookup(id, Some(word(6)), Moment(10), Moment(14)));
        other.confirm(Moment(13));
        assert_eq!(other.find(id, 7), Found::NotYet);
        other.confirm(Moment(14));
        caught_up(&other, 5);
    }

    #[test]
    fn a_colour_is_marked_when_stale_and_withheld_when_too_old() {
        let board = board();
        let reasons = Reasons::NONE.with(Reason::Suspected);
        let word = Some(Word::new(5, 7, reasons));
        let at = |now| board.freshness(at(now));
        assert_eq!(board.status(word, &at(60_000)), ResidentStatus::TooOld);
        board.confirm(Moment(100_000));
        assert!(!at(102_000).stale && at(102_001).stale);
        assert_eq!(
            board.status(word, &at(130_000)),
            ResidentStatus::Known(reasons)
        );
        assert_eq!(board.status(word, &at(130_001)), ResidentStatus::TooOld);
        assert_eq!(board.status(None, &at(130_001)), ResidentStatus::TooOld);
        board.confirm(Moment(90_000));
        assert_eq!(at(100_000).moment, Moment(100_000));
        // A time of day that steps changes no age.
        let stepped = Now {
            moment: Moment(131_000),
            time: Time(5_000),
        };
        assert_eq!(
            board.status(word, &board.freshness(stepped)),
            ResidentStatus::TooOld
        );
    }

    #[test]
    fn a_walk_meets_everybody_once_while_others_write() {
        let board = board();
        let id = |nth: u64| ResidentId(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let red = Reasons::NONE.with(Reason::Suspected);
        for nth in 0..5_000 {
            board.post(id(nth), Word::new(nth, 7, Reasons::NONE));
        }
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for nth in 0..10_000 {
                    board.post(id(nth), Word::new(nth + 9, 7, red));
                }
            });
            for _ in 0..3 {
                let mut met: HashMap<ResidentId, u64> = HashMap::new();
                board.walk(|id, _| *met.entry(id).or_default() += 1);
                assert!(met.values().all(|times| *times == 1));
                assert!((0..5_000).all(|nth| met.contains_key(&id(nth))));
            }
            writer.join().unwrap();
        });
        let mut reds = 0;
        board.walk(|_, word| reds += u64::from(word.reasons() == red));
        assert_eq!(reds, 10_000);
    }

    #[test]
    fn what_was_never_heard_is_too_old_on_a_machine_that_has_just_started() {
        let board = board();
        let id = ResidentId(5);
        let word = Word::new(5, 7, Reasons::NONE);
        board.post(id, word);
        for ms in [1, 5_000, 100_000_000] {
            let freshness = board.freshness_of(id, at(ms));
            assert_eq!(freshness.as_of, Time(0));
            assert_eq!(freshness.age, at(ms).time.since(freshness.as_of));
            assert!(freshness.stale);
            assert_eq!(board.status(Some(word), &freshness), ResidentStatus::TooOld);
        }
        assert_eq!(board.too_old_in(at(1)), u16::MAX);
    }

    #[test]
    fn each_sixteenth_is_as_old_as_it_is_and_the_whole_as_the_oldest() {
        let board = board();
        board.confirm(Moment(10_000));
        board.confirm_partition(3, Moment(20_000));
        let id = |nth: u64| ResidentId(nth << 60 | 5);
        assert_eq!(board.freshness_of(id(3), at(20_000)).moment, Moment(20_000));
        assert_eq!(board.freshness_of(id(4), at(20_000)).moment, Moment(10_000));
        assert_eq!(board.freshness(at(20_000)).moment, Moment(10_000));
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
                prop_assert_eq!(posted == PostOutcome::Up, before.is_none_or(|(last, _)| version > last));
                if posted == PostOutcome::Up {
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
