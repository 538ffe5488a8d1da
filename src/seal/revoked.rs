//! What is good no more although it is genuine: passes, memberships and sessions, in memory, put there again and again by the
//! desk. While there have been none, whoever opens a credential looks at one flag.

use crate::answer::Refusal;
use crate::clock::Time;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::*};

/// Of each number the time up to which what was issued under it is good no more.
pub type Ends = HashMap<u64, Time, BuildHasherDefault<NumberHasher>>;

/// Numbers are keyed hashes, or nonces with all bits spread: they need no further one.
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

/// Nothing was revoked since the start. Once something was, it is looked up for good: whoever says that nothing is left could come
/// between an entry and its flag.
const NONE: u8 = 0;
const SOME: u8 = 1;
/// What is revoked has not been read yet.
const UNREAD: u8 = 2;

#[derive(Default)]
pub struct Revoked {
    state: AtomicU8,
    ends: ArcSwap<Ends>,
    /// How often something was added, so that a reading from before does not take it out again.
    added: AtomicU64,
}

impl Revoked {
    /// `Unauthorized` for what was revoked, `Warming` for everything while nobody has said what was.
    #[inline]
    pub fn admits(&self, number: u64, issued_at: Time) -> Result<(), Refusal> {
        match self.state.load(Acquire) {
            NONE => Ok(()),
            UNREAD => Err(Refusal::Warming),
            _ => match self.ends.load().get(&number) {
                Some(end) if issued_at <= *end => Err(Refusal::Unauthorized),
                _ => Ok(()),
            },
        }
    }

    /// From now on nothing is admitted until the first [`Revoked::put`].
    pub fn await_reading(&self) {
        self.state.store(UNREAD, Release);
    }

    pub fn is_read(&self) -> bool {
        self.state.load(Acquire) != UNREAD
    }

    /// To be asked before a reading begins.
    pub fn added(&self) -> u64 {
        self.added.load(SeqCst)
    }

    /// Puts what was read. What was added since `added` stays, because the reading may not have met it.
    pub fn put(&self, read: Ends, added: u64) {
        let mut any = false;
        self.ends.rcu(|known| {
            let mut ends = read.clone();
            if self.added() != added {
                known
                    .iter()
                    .for_each(|(number, end)| extend(&mut ends, *number, *end));
            }
            any = !ends.is_empty();
            ends
        });
        match any {
            true => self.state.store(SOME, Release),
            false => self.now_if(UNREAD, NONE),
        }
    }

    /// One more, at once.
    pub fn add(&self, number: u64, end: Time) {
        self.added.fetch_add(1, SeqCst);
        self.ends.rcu(|known| {
            let mut ends = Ends::clone(known);
            extend(&mut ends, number, end);
            ends
        });
        // While nothing was read yet, nothing is admitted anyway.
        self.now_if(NONE, SOME);
    }

    fn now_if(&self, was: u8, now: u8) {
        let _ = self.state.compare_exchange(was, now, AcqRel, Acquire);
    }
}

/// Of two ends of one number the later counts.
pub fn extend(ends: &mut Ends, number: u64, end: Time) {
    let known = ends.entry(number).or_insert(end);
    *known = end.max(*known);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_admitted_before_the_first_reading() {
        let revoked = Revoked::default();
        assert_eq!(revoked.admits(7, Time(1)), Ok(()));
        revoked.await_reading();
        assert_eq!(revoked.admits(7, Time(1)), Err(Refusal::Warming));
        revoked.add(7, Time(1));
        assert_eq!(revoked.admits(8, Time(1)), Err(Refusal::Warming));
        revoked.put(Ends::default(), 0);
        assert_eq!(revoked.admits(7, Time(1)), Err(Refusal::Unauthorized));
        assert_eq!(revoked.admits(8, Time(1)), Ok(()));
    }

    #[test]
    fn what_is_issued_after_the_end_is_good_and_the_later_end_counts() {
        let revoked = Revoked::default();
        revoked.add(7, Time(20));
        revoked.add(7, Time(10));
        assert_eq!(revoked.admits(7, Time(20)), Err(Refusal::Unauthorized));
        assert_eq!(revoked.admits(7, Time(21)), Ok(()));
    }

    #[test]
    fn a_reading_takes_out_what_was_there_before_it_and_nothing_that_came_meanwhile() {
        let revoked = Revoked::default();
        revoked.add(7, Time(20));
        let before = revoked.added();
        revoked.add(8, Time(20));
        revoked.put(Ends::default(), before);
        assert!(revoked.admits(8, Time(1)).is_err());
        revoked.put(Ends::default(), revoked.added());
        assert_eq!(revoked.admits(7, Time(1)), Ok(()));
        assert_eq!(revoked.admits(8, Time(1)), Ok(()));
    }
}
