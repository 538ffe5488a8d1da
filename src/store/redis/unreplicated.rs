//! Puts what was read from the store onto the board, and remembers what replicas may not have. Pure.
//!
//! While the primary that reported a change lives, the change is pending. Once that primary has failed the change is doubtful
//! until its successor has reported everything it has. Doubtful changes that it lacks are rolled back.

use super::scripts::ReportedChange;
use crate::board::{Board, ChangeContext, PostOutcome};
use crate::person::ResidentId;
use crate::status::Word;
use std::collections::HashMap;

/// A visible change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct VisibleChange {
    word: Word,
    /// The word before it; None if the resident was unknown.
    before: Option<Word>,
}

/// How words of a whole reading are treated.
#[derive(Clone, Debug, Default)]
pub struct SnapshotPolicy {
    /// Whether the store may have lost changes.
    pub wary: bool,
    /// Lowest version that replicas may lack.
    pub recent: u64,
    /// Highest version that the board had before.
    pub top: u64,
    /// Changes since the store went back.
    pub since: Since,
}

/// Changes that a store took after it had lost others. Their versions may be below those of the lost ones on boards.
#[derive(Clone, Debug)]
pub enum Since {
    /// All of them, from the stream: the last word of each resident, and the context of the first change.
    Told(HashMap<ResidentId, ReportedChange>),
    /// The stream lacks some of them. All have at least this version.
    From(u64),
}

impl Default for Since {
    fn default() -> Since {
        Since::From(u64::MAX)
    }
}

impl Since {
    /// Adds the next change of a stream.
    pub fn add(&mut self, told: &ReportedChange) {
        if let Since::Told(all) = self {
            all.entry(told.id)
                .and_modify(|last| {
                    last.word = told.word;
                    last.context.held = last.context.held.union(told.context.held);
                })
                .or_insert(*told);
        }
    }

    /// Returns the context of a word that was made since then; None for older words.
    fn ground_of(&self, id: ResidentId, word: Word) -> Option<ChangeContext> {
        match self {
            Since::Told(all) => {
                let told = all.get(&id).filter(|told| told.word == word)?;
                Some(told.context)
            }
            Since::From(least) => (word.version() >= *least).then(ChangeContext::default),
        }
    }
}

/// Visible changes of each resident, the oldest first.
#[derive(Default)]
pub struct UnreplicatedChanges {
    pending: HashMap<ResidentId, Vec<VisibleChange>>,
    doubtful: HashMap<ResidentId, Vec<VisibleChange>>,
    /// Unreplicated changes older than what is visible. Once replicated they may prove that the store has a reason again.
    proofs: Vec<ReportedChange>,
}

impl UnreplicatedChanges {
    /// Makes a change of the stream visible. `sure`: replicas have it.
    pub fn apply_change(
        &mut self,
        board: &Board,
        told: &ReportedChange,
        sure: bool,
    ) -> PostOutcome {
        let ReportedChange { id, word, context } = *told;
        roll_back(board, id, self.told(id, word, sure));
        let before = board.word(id);
        if !sure && version_of(before) > word.version() {
            // It may still be lost, and what it proves could not be undone.
            self.proofs.push(*told);
            return board.post(id, word);
        }
        let outcome = board.apply_change(id, word, context);
        if outcome == PostOutcome::Up && !sure {
            self.note_visible(id, VisibleChange { word, before });
        }
        outcome
    }

    /// Makes a word of a whole reading visible. Returns whether the board knew a later one that was not doubtful, so that the
    /// store has lost it.
    pub fn read(
        &mut self,
        board: &Board,
        id: ResidentId,
        word: Word,
        reading: &SnapshotPolicy,
    ) -> bool {
        let sure = word.version() < reading.recent;
        let since = reading.since.ground_of(id, word);
        // The change may still be lost, and what it proves could not be undone.
        let context = since.filter(|_| sure).unwrap_or_default();
        let post = || match reading.wary {
            true => board.apply_change(id, word, context),
            false => board.post(id, word),
        };
        let mut before = board.word(id);
        post();
        // After it: what the store has is never rolled back, not even briefly.
        let lost = self.told(id, word, sure);
        if let Some(oldest) = lost.last() {
            before = oldest.before;
            roll_back(board, id, lost);
            post();
        }
        let is_behind = version_of(board.word(id)) > word.version();
        if !sure && !is_behind && version_of(before) < word.version() {
            self.note_visible(id, VisibleChange { word, before });
        }
        let is_lost = is_behind && !self.doubtful.contains_key(&id);
        if is_lost && reading.wary && since.is_some() {
            board.adopt(id, word, context.held, reading.top);
        }
        is_lost
    }

    fn note_visible(&mut self, id: ResidentId, note_visible: VisibleChange) {
        self.pending.entry(id).or_default().push(note_visible);
    }

    /// Records that replicas have everything that is visible.
    pub fn mark_replicated(&mut self, board: &Board) {
        self.pending.clear();
        for ReportedChange { id, word, context } in self.proofs.drain(..) {
            board.apply_change(id, word, context);
        }
    }

    /// Returns the number of residents with unreplicated changes, and of changes that prove nothing yet.
    pub fn pending(&self) -> [usize; 2] {
        [self.pending.len(), self.proofs.len()]
    }

    /// Records that the primary of the visible changes has failed.
    pub fn on_primary_lost(&mut self) {
        self.proofs.clear();
        for (id, changes) in self.pending.drain() {
            let all = self.doubtful.entry(id).or_default();
            all.extend(changes);
            all.sort_by_key(|change| change.word.version());
        }
    }

    /// Handles a change that the successor reports. `sure`: replicas have it. Returns what to roll back, the newest first.
    fn told(&mut self, id: ResidentId, word: Word, sure: bool) -> Vec<VisibleChange> {
        let Some(mut changes) = self.doubtful.remove(&id) else {
            return Vec::new();
        };
        if let Some(nth) = changes.iter().position(|change| change.word == word) {
            let kept = changes.drain(..=nth);
            if !sure {
                self.pending.entry(id).or_default().extend(kept);
            } else {
                drop(kept);
            }
        } else if let Some(first) = changes.first_mut() {
            if first.word.version() <= word.version() {
                // The successor continued without them.
                changes.reverse();
                return changes;
            }
            // An older change says nothing about them: they may follow it. If they do not, this one stands; the board drops it
            // while they are visible.
            if first
                .before
                .is_none_or(|before| before.version() < word.version())
            {
                let before = first.before.replace(word);
                if !sure {
                    self.note_visible(id, VisibleChange { word, before });
                }
            }
        }
        if !changes.is_empty() {
            self.doubtful.insert(id, changes);
        }
        Vec::new()
    }

    /// Rolls back the changes that are still doubtful after everything of the successor was read. Returns the number of
    /// residents.
    pub fn roll_back_rest(&mut self, board: &Board) -> usize {
        let lost = self.doubtful.len();
        for (id, mut changes) in self.doubtful.drain() {
            changes.reverse();
            roll_back(board, id, changes);
        }
        lost
    }
}

fn version_of(word: Option<Word>) -> u64 {
    word.map_or(0, |word| word.version())
}

/// Rolls back the changes, the newest first.
fn roll_back(board: &Board, id: ResidentId, changes: Vec<VisibleChange>) {
    for change in changes {
        board.roll_back(id, change.word.version(), change.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Settings;
    use crate::status::Reasons;
    use proptest::prelude::*;
    use std::time::Duration;

    const ID: ResidentId = ResidentId(7);

    fn board() -> Board {
        let settings = Settings {
            stale_after: Duration::from_secs(2),
            too_old_after: Duration::from_secs(30),
            shards: 4,
        };
        Board::new(0, settings)
    }

    /// A change that follows one of version `before`.
    fn told(version: u64, before: u64) -> ReportedChange {
        let context = ChangeContext {
            before,
            held: Reasons::NONE,
        };
        ReportedChange {
            id: ID,
            word: Word::new(version, 7, Reasons::NONE),
            context,
        }
    }

    /// A board that was shown changes 3, 5 and 6, and whose primary, which took them, has failed.
    fn lost() -> (Board, UnreplicatedChanges) {
        let (board, mut unreplicated) = (board(), UnreplicatedChanges::default());
        unreplicated.apply_change(&board, &told(2, 0), true);
        for (version, before) in [(3, 2), (5, 3), (6, 5)] {
            unreplicated.apply_change(&board, &told(version, before), false);
        }
        unreplicated.on_primary_lost();
        (board, unreplicated)
    }

    fn version(board: &Board) -> u64 {
        version_of(board.word(ID))
    }

    #[test]
    fn what_the_successor_has_stays_and_the_rest_is_taken_back() {
        let (board, mut unreplicated) = lost();
        unreplicated.apply_change(&board, &told(3, 2), true);
        assert_eq!(version(&board), 6);
        assert_eq!(
            (unreplicated.roll_back_rest(&board), version(&board)),
            (1, 3)
        );
        assert_eq!(unreplicated.roll_back_rest(&board), 0);
    }

    #[test]
    fn an_older_change_of_the_successor_stands_once_later_ones_are_taken_back() {
        let (board, mut unreplicated) = lost();
        unreplicated.apply_change(&board, &told(3, 2), true);
        // It took this one before its predecessor took the one that is lost.
        unreplicated.apply_change(&board, &told(4, 3), true);
        assert_eq!(
            (unreplicated.roll_back_rest(&board), version(&board)),
            (1, 4)
        );
    }

    #[test]
    fn a_successor_that_went_on_otherwise_takes_back_all() {
        let (board, mut unreplicated) = lost();
        unreplicated.apply_change(&board, &told(4, 2), true);
        assert_eq!(
            (unreplicated.roll_back_rest(&board), version(&board)),
            (0, 4)
        );
        let (board, mut unreplicated) = lost();
        let whole = told(4, 2).word;
        assert!(
            !unreplicated.read(&board, ID, whole, &SnapshotPolicy::default()),
            "nothing is lost"
        );
        assert_eq!(
            (unreplicated.roll_back_rest(&board), version(&board)),
            (0, 4)
        );
    }

    #[test]
    fn what_a_successor_alone_has_is_taken_back_when_that_is_lost_too() {
        let (board, mut unreplicated) = lost();
        unreplicated.apply_change(&board, &told(3, 2), false);
        assert_eq!(unreplicated.pending(), [1, 1]);
        unreplicated.on_primary_lost();
        assert_eq!(
            (unreplicated.roll_back_rest(&board), version(&board)),
            (1, 2)
        );
        let (board, mut unreplicated) = lost();
        unreplicated.apply_change(&board, &told(3, 2), false);
        unreplicated.mark_replicated(&board);
        unreplicated.on_primary_lost();
        assert_eq!(
            (unreplicated.roll_back_rest(&board), version(&board)),
            (1, 3)
        );
    }

    #[test]
    fn a_later_word_that_nobody_doubts_is_a_loss_of_the_store() {
        let (board, mut unreplicated) = (board(), UnreplicatedChanges::default());
        unreplicated.apply_change(&board, &told(5, 0), true);
        assert!(unreplicated.read(&board, ID, told(4, 0).word, &SnapshotPolicy::default()));
        assert_eq!(version(&board), 5);
    }

    /// What one primary does, and how a follower learns of it.
    #[derive(Clone, Debug)]
    struct PrimaryTerm {
        /// Share of 100: how much this primary has of its predecessor's changes that replicas are not known to have.
        inherits: usize,
        /// Resident, reasons and how much time went by before.
        changes: Vec<(u64, u8, u64)>,
        /// How many entries each reply brings, and whether replicas have them.
        replies: Vec<(usize, bool)>,
        /// The number of replies after which the partition is read whole, and whether replicas have what was read.
        whole: Option<(usize, bool)>,
    }

    fn reign() -> impl Strategy<Value = PrimaryTerm> {
        (
            0..=100usize,
            proptest::collection::vec((0..3u64, 0..8u8, 0..3u64), 0..8),
            proptest::collection::vec((1..4usize, any::<bool>()), 0..8),
            proptest::option::of((0..4usize, any::<bool>())),
        )
            .prop_map(|(inherits, changes, replies, whole)| PrimaryTerm {
                inherits,
                changes,
                replies,
                whole,
            })
    }

    /// The newest word of each resident in a stream.
    fn words(log: &[ReportedChange]) -> HashMap<ResidentId, Word> {
        log.iter().map(|told| (told.id, told.word)).collect()
    }

    /// Reads everything that a primary has at once; nothing of it is known to be on replicas.
    fn read_whole(board: &Board, unreplicated: &mut UnreplicatedChanges, log: &[ReportedChange]) {
        unreplicated.on_primary_lost();
        for (id, word) in words(log) {
            unreplicated.read(board, id, word, &SnapshotPolicy::default());
        }
        unreplicated.roll_back_rest(board);
    }

    /// A follower of several primaries in turn, each of which goes on from what replicas had of the one before.
    fn outlive(reigns: &[PrimaryTerm]) -> Result<(), TestCaseError> {
        let (board, mut unreplicated) = (board(), UnreplicatedChanges::default());
        let mut log: Vec<ReportedChange> = Vec::new();
        // What replicas have, what was read, and what of that replicas are known to have.
        let (mut kept, mut read, mut sure) = (0, 0, 0);
        // When the clock of each primary begins: theirs overlap.
        let mut began = 1;
        // What was read whole is doubtful: whoever comes next is read whole too.
        let mut whole = false;
        for (nth, reign) in reigns.iter().enumerate() {
            log.truncate(kept + (log.len() - kept) * reign.inherits / 100);
            if whole {
                // Still doubtful, until replicas are known to have it.
                read_whole(&board, &mut unreplicated, &log);
                read = sure;
            } else if read > sure {
                unreplicated.on_primary_lost();
                read = sure;
            }
            let mut now = began;
            for (id, bits, gap) in &reign.changes {
                now += gap;
                let before = words(&log).get(&ResidentId(*id)).copied();
                let last = before.map_or(0, |word| word.version());
                let reasons = Reasons::from_bits(*bits).expect("some of the reasons");
                let held = before.map_or(reasons, |word| reasons.union(word.reasons()));
                log.push(ReportedChange {
                    id: ResidentId(*id),
                    word: Word::new(now.max(last + 1), 7, reasons),
                    context: ChangeContext { before: last, held },
                });
            }
            began += 2;
            let last = nth + 1 == reigns.len();
            let rest = last.then_some((usize::MAX, true));
            for (reply, (count, has)) in reign.replies.iter().copied().chain(rest).enumerate() {
                if let Some((_, has)) = reign.whole.filter(|(at, _)| *at == reply) {
                    // Replicas had as much when it began, and later ones came while it was read.
                    (kept, sure) = (kept.max(read), read);
                    read_whole(&board, &mut unreplicated, &log);
                    if has {
                        kept = log.len();
                        unreplicated.mark_replicated(&board);
                    }
                    whole = !has;
                }
                let end = log.len().min(read.saturating_add(count));
                if has {
                    kept = log.len();
                    unreplicated.mark_replicated(&board);
                    whole = false;
                }
                for told in &log[read..end] {
                    unreplicated.apply_change(&board, told, has);
                }
                read = end;
                if has {
                    sure = read;
                }
                if read == log.len() {
                    unreplicated.roll_back_rest(&board);
                }
            }
        }
        for (id, word) in words(&log) {
            let note_visible = board.word(id).expect("it was told");
            prop_assert_eq!(note_visible.version(), word.version(), "of {:?}", id);
            let missing = word.reasons().without(note_visible.reasons());
            prop_assert_eq!(missing, Reasons::NONE, "of {:?}", id);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn whoever_reads_the_last_primary_to_its_end_knows_all_that_it_has(
            reigns in proptest::collection::vec(reign(), 1..5),
        ) {
            outlive(&reigns)?;
        }
    }
}
