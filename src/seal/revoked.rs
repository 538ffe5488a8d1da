//! Revoked credentials in memory: tokens, memberships and sessions. The desk reads them from the store again and again. As long
//! as there are none, a check reads one flag.
//!
//! Reading the store adds entries and never removes one, even if the store was emptied or restored. An entry is dropped a day
//! after everything it revokes has expired, by the monotonic clock.

use super::ring::TokenKind;
use crate::clock::{Moment, Now, Time};
use crate::refusal::Refusal;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU8, Ordering::*};
use std::time::Duration;

/// Extra time that an entry is kept: as long as the store keeps it, and longer than clocks may differ.
const MARGIN: Duration = Duration::from_secs(86_400);

/// Smallest change of the drop time for which an entry is written again.
const EXTENDED_BY: Duration = Duration::from_secs(3_600);

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What is revoked.
    pub what: RevocationSubject,
    /// Credentials issued up to this time are revoked.
    pub end: Time,
    /// When the last of them would expire.
    pub until: Time,
}

/// Subject of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationSubject {
    /// The number of a token, a membership, or a resident.
    Number(u64),
    /// All tokens of a kind that one holder has.
    Holder(TokenKind, String),
}

/// An entry in memory.
#[derive(Clone, Copy)]
struct RevocationEntry {
    end: Time,
    forgotten_at: Moment,
}

#[derive(Clone, Default)]
struct Table {
    numbers: HashMap<u64, RevocationEntry, BuildHasherDefault<NumberHasher>>,
    /// Revoked holders, one map for each kind of token.
    holders: [HashMap<String, RevocationEntry>; TokenKind::ALL.len()],
}

impl Table {
    fn get(&self, what: &RevocationSubject) -> Option<&RevocationEntry> {
        match what {
            RevocationSubject::Number(number) => self.numbers.get(number),
            RevocationSubject::Holder(kind, holder) => self.holders_of(*kind).get(holder),
        }
    }

    fn holders_of(&self, kind: TokenKind) -> &HashMap<String, RevocationEntry> {
        &self.holders[kind as usize - 1]
    }

    /// Merges an entry: the later end and the later drop time count.
    fn merge(&mut self, what: &RevocationSubject, new: RevocationEntry) {
        let known = match what {
            RevocationSubject::Number(number) => self.numbers.entry(*number).or_insert(new),
            RevocationSubject::Holder(kind, holder) => self.holders[*kind as usize - 1]
                .entry(holder.clone())
                .or_insert(new),
        };
        known.end = known.end.max(new.end);
        known.forgotten_at = known.forgotten_at.max(new.forgotten_at);
    }

    fn forget(&mut self, now: Moment) {
        self.numbers.retain(|_, entry| now < entry.forgotten_at);
        for holders in &mut self.holders {
            holders.retain(|_, entry| now < entry.forgotten_at);
        }
    }

    fn entries(&self) -> impl Iterator<Item = &RevocationEntry> {
        let holders = self.holders.iter().flat_map(HashMap::values);
        self.numbers.values().chain(holders)
    }
}

/// Hasher of numbers, which are keyed hashes or mixed nonces and need no further hashing.
#[derive(Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("numbers are hashed as one u64");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Nothing was revoked since the start. Once something was, lookups never stop: resetting the flag could race with a new entry.
const NONE: u8 = 0;
const SOME: u8 = 1;
/// The revocations were not read yet.
const UNREAD: u8 = 2;

/// The revocations that all threads use. A reading of the store only adds to them.
#[derive(Default)]
pub struct RevocationTable {
    state: AtomicU8,
    table: ArcSwap<Table>,
}

impl RevocationTable {
    /// Checks whether what was issued under a number at a time is revoked.
    ///
    /// # Errors
    ///
    /// `Unauthorized` if it was revoked, `Warming` until the revocations are read.
    #[inline]
    pub fn admits(&self, number: u64, issued_at: Time) -> Result<(), Refusal> {
        match self.state.load(Acquire) {
            NONE => Ok(()),
            UNREAD => Err(Refusal::Warming),
            _ => admit(self.table.load().numbers.get(&number), issued_at),
        }
    }

    /// Checks a token of this kind by its number, and by its holder if any holder was revoked.
    ///
    /// # Errors
    ///
    /// As for [`Self::admits`].
    #[inline]
    pub fn admits_token<'h>(
        &self,
        kind: TokenKind,
        number: u64,
        issued_at: Time,
        holder: impl FnOnce() -> Option<&'h str>,
    ) -> Result<(), Refusal> {
        match self.state.load(Acquire) {
            NONE => Ok(()),
            UNREAD => Err(Refusal::Warming),
            _ => {
                let table = self.table.load();
                // Whenever it was issued.
                admit(table.numbers.get(&number), Time(0))?;
                let holders = table.holders_of(kind);
                if holders.is_empty() {
                    return Ok(());
                }
                let holder = holder().ok_or(Refusal::Unauthorized)?;
                admit(holders.get(holder), issued_at)
            }
        }
    }

    /// Returns whether a holder of this kind was revoked, so that the number alone does not decide.
    pub fn has_holders(&self, kind: TokenKind) -> bool {
        self.state.load(Acquire) != NONE && !self.table.load().holders_of(kind).is_empty()
    }

    /// Refuses everything until the first [`RevocationTable::learn`].
    pub fn await_reading(&self) {
        self.state.store(UNREAD, Release);
    }

    /// Returns whether the revocations were read. Before that no credential is accepted.
    pub fn is_read(&self) -> bool {
        self.state.load(Acquire) != UNREAD
    }

    /// Returns whether a revocation adds nothing.
    pub fn knows(&self, revocation: &Revocation, now: Now) -> bool {
        let table = self.table.load();
        table.get(&revocation.what).is_some_and(|known| {
            known.end >= revocation.end
                && known.forgotten_at.plus(EXTENDED_BY) >= forgotten_at(revocation, now)
        })
    }

    /// Adds the revocations of a reading. From then on everything else is admitted.
    pub fn learn(&self, read: &[Revocation], now: Now) {
        let news: Vec<&Revocation> = read.iter().filter(|one| !self.knows(one, now)).collect();
        let is_over = |entry: &RevocationEntry| now.moment >= entry.forgotten_at;
        if !news.is_empty() || self.table.load().entries().any(is_over) {
            self.table.rcu(|known| {
                let mut table = Table::clone(known);
                table.forget(now.moment);
                for one in &news {
                    let Revocation { what, end, .. } = one;
                    let forgotten_at = forgotten_at(one, now);
                    let end = *end;
                    table.merge(what, RevocationEntry { end, forgotten_at });
                }
                table
            });
        }
        if self.table.load().entries().next().is_some() {
            self.state.store(SOME, Release);
        } else {
            self.now_if(UNREAD, NONE);
        }
    }

    /// Adds one revocation at once.
    pub fn add(&self, revocation: &Revocation, now: Now) {
        let (end, forgotten_at) = (revocation.end, forgotten_at(revocation, now));
        self.table.rcu(|known| {
            let mut table = Table::clone(known);
            table.merge(&revocation.what, RevocationEntry { end, forgotten_at });
            table
        });
        // Before the first reading nothing is admitted anyway.
        self.now_if(NONE, SOME);
    }

    fn now_if(&self, was: u8, now: u8) {
        let _ = self.state.compare_exchange(was, now, AcqRel, Acquire);
    }
}

fn admit(entry: Option<&RevocationEntry>, issued_at: Time) -> Result<(), Refusal> {
    match entry {
        Some(entry) if issued_at <= entry.end => Err(Refusal::Unauthorized),
        _ => Ok(()),
    }
}

/// Returns when an entry is dropped. On a node whose clock is ahead, that is a day from now, as long as the store has the
/// revocation.
fn forgotten_at(revocation: &Revocation, now: Now) -> Moment {
    now.moment
        .plus(revocation.until.since(now.time))
        .plus(MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    fn at(ms: u64) -> Now {
        Now {
            moment: Moment(ms),
            time: Time(1_000_000 * DAY + ms),
        }
    }

    fn of(number: u64, end: u64, until: u64) -> Revocation {
        Revocation {
            what: RevocationSubject::Number(number),
            end: Time(end),
            until: Time(1_000_000 * DAY + until),
        }
    }

    #[test]
    fn nothing_is_admitted_before_the_first_reading() {
        let revoked = RevocationTable::default();
        assert_eq!(revoked.admits(7, Time(1)), Ok(()));
        revoked.await_reading();
        assert_eq!(revoked.admits(7, Time(1)), Err(Refusal::Warming));
        revoked.add(&of(7, 1, 9), at(0));
        assert_eq!(revoked.admits(8, Time(1)), Err(Refusal::Warming));
        revoked.learn(&[], at(0));
        assert_eq!(revoked.admits(7, Time(1)), Err(Refusal::Unauthorized));
        assert_eq!(revoked.admits(8, Time(1)), Ok(()));
    }

    #[test]
    fn what_is_issued_after_the_end_is_good_and_the_later_end_counts() {
        let revoked = RevocationTable::default();
        revoked.add(&of(7, 20, 9), at(0));
        revoked.add(&of(7, 10, 9), at(0));
        revoked.learn(&[of(7, 15, 9)], at(0));
        assert_eq!(revoked.admits(7, Time(20)), Err(Refusal::Unauthorized));
        assert_eq!(revoked.admits(7, Time(21)), Ok(()));
    }

    #[test]
    fn a_reading_of_a_store_that_was_emptied_or_restored_takes_nothing_back() {
        let revoked = RevocationTable::default();
        revoked.await_reading();
        revoked.learn(&[of(7, 20, 90 * DAY), of(8, 20, 90 * DAY)], at(0));
        revoked.add(&of(9, 20, 90 * DAY), at(0));
        for read in [vec![], vec![of(8, 10, 5)]] {
            revoked.learn(&read, at(2 * DAY));
            for number in [7, 8, 9] {
                assert!(revoked.admits(number, Time(20)).is_err(), "{number}");
            }
        }
    }

    #[test]
    fn an_entry_leaves_a_day_after_all_that_it_revokes_has_ended() {
        let revoked = RevocationTable::default();
        revoked.add(&of(7, 20, 5 * DAY), at(0));
        revoked.learn(&[], at(6 * DAY - 1));
        assert!(revoked.admits(7, Time(20)).is_err());
        revoked.learn(&[], at(6 * DAY));
        assert_eq!(revoked.admits(7, Time(20)), Ok(()));
    }

    #[test]
    fn a_clock_that_is_ahead_for_a_while_takes_nothing_back() {
        let revoked = RevocationTable::default();
        let ahead = |ms| Now {
            time: Time(at(ms).time.0 + 400 * DAY),
            ..at(ms)
        };
        // Known before, or read while the clock is ahead.
        revoked.add(&of(7, 20, 5 * DAY), at(0));
        revoked.learn(&[of(7, 20, 5 * DAY), of(8, 20, 5 * DAY)], ahead(1_000));
        revoked.learn(&[], ahead(2_000));
        for number in [7, 8] {
            assert!(revoked.admits(number, Time(20)).is_err(), "{number}");
        }
        // As long as the store has it, it stays.
        for day in 1..5 {
            revoked.learn(&[of(8, 20, 5 * DAY)], ahead(day * DAY));
        }
        assert!(revoked.admits(8, Time(20)).is_err());
    }

    #[test]
    fn a_holder_is_revoked_for_one_kind_of_pass_and_up_to_a_time() {
        let revoked = RevocationTable::default();
        let of_holder = Revocation {
            what: RevocationSubject::Holder(TokenKind::Scanner, "gate-7".into()),
            ..of(0, 20, DAY)
        };
        revoked.learn(std::slice::from_ref(&of_holder), at(0));
        assert!(revoked.knows(&of_holder, at(0)));
        let admits = |kind, issued_at, holder: &str| {
            revoked.admits_token(kind, 1, Time(issued_at), || Some(holder))
        };
        let refused = Err(Refusal::Unauthorized);
        assert_eq!(admits(TokenKind::Scanner, 20, "gate-7"), refused);
        assert_eq!(admits(TokenKind::Scanner, 21, "gate-7"), Ok(()));
        assert_eq!(admits(TokenKind::Scanner, 20, "gate-8"), Ok(()));
        assert_eq!(admits(TokenKind::Staff, 20, "gate-7"), Ok(()));
        revoked.add(&of(1, u64::MAX, DAY), at(0));
        assert_eq!(admits(TokenKind::Scanner, 21, "gate-7"), refused);
    }
}
