//! The rate limiter: a budget for each id, for more ids than a table could list. It takes no lock and allocates nothing.
//!
//! A budget is one number, the time up to which it is spent (GCRA): each request costs some time, and a burst may be saved up.
//! The numbers are in a fixed table with two slots for each id, and the lesser one counts. An id that shares one slot with a
//! busy id still has the other. A slot is never less than what its id has spent, so the limit of an id always holds.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::{Duration, Instant};

/// A rate limiter for one kind of request.
pub struct RateLimiter {
    /// For each slot, nanoseconds from `epoch` up to which it is spent. Empty: no limit.
    spent: Box<[AtomicU64]>,
    epoch: Instant,
    /// Cost of a request, and the largest saving.
    cost: AtomicU64,
    saved: AtomicU64,
}

/// Saving without a limit: more time than any clock shows.
const NO_LIMIT: u64 = 1 << 62;

/// Largest debt beyond the savings. A slot further in the future was written before the clock went back, and is ignored.
const DEBT_MAX: u64 = 60_000_000_000;

/// Smallest number of slots: two ids share both of their slots once in this many pairs, squared.
const PLACES_MIN: usize = 1 << 10;

impl RateLimiter {
    /// Returns a limiter of `per_second`, 0 for no limit, with `burst` saved up. `places` is the number of slots of eight
    /// bytes, a power of two of at least 1,024. About ten slots for each id that asks within the time of a burst suffice.
    pub fn new(per_second: u32, burst: u64, places: usize, epoch: Instant) -> RateLimiter {
        let [cost, saved] = terms(per_second, burst);
        let places = match per_second {
            0 => 0,
            _ => places.next_power_of_two().max(PLACES_MIN),
        };
        RateLimiter {
            spent: (0..places).map(|_| AtomicU64::new(0)).collect(),
            epoch,
            cost: cost.into(),
            saved: saved.into(),
        }
    }

    /// Sets the rate; spent budgets stay spent. Returns false if there was no limit before, because there are no slots.
    pub fn set_rate(&self, per_second: u32, burst: u64) -> bool {
        if self.spent.is_empty() {
            return per_second == 0;
        }
        let [cost, saved] = terms(per_second, burst);
        self.cost.store(cost, Relaxed);
        self.saved.store(saved, Relaxed);
        true
    }

    /// Takes one request from the budget of `who`. Returns false if it is spent.
    pub fn take(&self, who: u64, now: Instant) -> bool {
        let now = self.nanos(now);
        let saved = self.saved.load(Relaxed);
        self.spend(who, now, self.cost.load(Relaxed), |spent| {
            spent <= now + saved
        })
        .is_ok()
    }

    /// Takes `count` requests, future ones included. Returns the time until the last of them is due.
    pub fn charge(&self, who: u64, count: u64, now: Instant) -> Duration {
        let now = self.nanos(now);
        let cost = self.cost.load(Relaxed).saturating_mul(count);
        let spent = self.spend(who, now, cost, |_| true);
        self.until(spent.unwrap_or_default(), now)
    }

    /// Returns the time until a request is allowed; zero if it is allowed now.
    pub fn wait(&self, who: u64, now: Instant) -> Duration {
        let now = self.nanos(now);
        let spent = self.places(who).map(|[one, other]| {
            let spent = one.load(Relaxed).min(other.load(Relaxed));
            self.believed(spent, now)
        });
        self.until(spent.unwrap_or_default(), now)
    }

    fn spend(&self, who: u64, now: u64, cost: u64, may: impl Fn(u64) -> bool) -> Result<u64, u64> {
        let Some([one, other]) = self.places(who) else {
            return Ok(0);
        };
        loop {
            let (a, b) = (one.load(Acquire), other.load(Acquire));
            let (least, spent, rest) = if a <= b {
                (one, a, other)
            } else {
                (other, b, one)
            };
            let believed = self.believed(spent, now);
            if !may(believed) {
                return Err(believed);
            }
            let saved = self.saved.load(Relaxed);
            let next = (believed.max(now).saturating_add(cost)).min(now + saved + DEBT_MAX);
            // The other slot is raised first: after the exchange it would briefly be the lesser one, and another thread would
            // use it.
            // Both slots of an id may be the same.
            if !std::ptr::eq(least, rest) {
                rest.fetch_max(next, AcqRel);
            }
            // Another thread was faster: try again. No thread waits for another.
            if least.compare_exchange(spent, next, AcqRel, Relaxed).is_ok() {
                return Ok(next);
            }
        }
    }

    fn believed(&self, spent: u64, now: u64) -> u64 {
        let (saved, cost) = (self.saved.load(Relaxed), self.cost.load(Relaxed));
        match spent > now + saved + cost + DEBT_MAX {
            true => now,
            false => spent,
        }
    }

    fn until(&self, spent: u64, now: u64) -> Duration {
        Duration::from_nanos(spent.saturating_sub(now + self.saved.load(Relaxed)))
    }

    fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    fn places(&self, who: u64) -> Option<[&AtomicU64; 2]> {
        let last = self.spent.len().checked_sub(1)?;
        let [one, other] = [who as usize, (who >> 32) as usize];
        Some([&self.spent[one & last], &self.spent[other & last]])
    }
}

/// Returns the cost of a request and the largest saving, in nanoseconds.
fn terms(per_second: u32, burst: u64) -> [u64; 2] {
    match per_second {
        0 => [0, NO_LIMIT],
        n => {
            let cost = 1_000_000_000 / u64::from(n);
            [cost, cost.saturating_mul(burst.max(1) - 1).min(NO_LIMIT)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// splitmix64: ids far apart, as keyed hashes are.
    fn id(nth: u64) -> u64 {
        let mut z = nth.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let turns = RateLimiter::new(2, 20, PLACES_MIN, start);
        let now = start + ms(7);
        assert_eq!((0..100).filter(|_| turns.take(id(1), now)).count(), 20);
        assert_eq!(turns.wait(id(1), now), ms(500));
        assert!(turns.take(id(2), now), "others have their own");
        assert!(!turns.take(id(1), now + ms(499)));
        assert!(turns.take(id(1), now + ms(500)));
        assert!(!turns.take(id(1), now + ms(501)));
        let rested = now + ms(60_000);
        assert_eq!((0..100).filter(|_| turns.take(id(1), rested)).count(), 20);
    }

    #[test]
    fn no_rate_is_no_limit_and_no_table() {
        let now = Instant::now();
        let turns = RateLimiter::new(0, 20, 1 << 18, now);
        assert!((0..1000).all(|_| turns.take(id(1), now)));
        assert_eq!(turns.charge(id(1), u64::MAX, now), Duration::ZERO);
        assert_eq!(turns.wait(id(1), now), Duration::ZERO);
        assert!(turns.spent.is_empty());
    }

    #[test]
    fn what_is_charged_is_paid_before_it_is_their_turn_again() {
        let now = Instant::now();
        let turns = RateLimiter::new(1000, 1000, PLACES_MIN, now);
        assert_eq!(turns.charge(id(1), 999, now), Duration::ZERO);
        assert_eq!(turns.charge(id(1), 501, now), ms(501));
        assert_eq!(turns.wait(id(1), now + ms(500)), ms(1));
        assert_eq!(turns.wait(id(1), now + ms(501)), Duration::ZERO);
        let year = 31_536_000_000;
        let most = turns.charge(id(1), year, now);
        assert!(most <= ms(60_000), "a debt has an end: {most:?}");
    }

    #[test]
    fn who_has_one_place_twice_gets_as_many_turns_as_others() {
        let now = Instant::now();
        let turns = RateLimiter::new(2, 20, PLACES_MIN, now);
        let who = 7 << 32 | 7;
        assert_eq!((0..100).filter(|_| turns.take(who, now)).count(), 20);
    }

    #[test]
    fn threads_together_get_no_more_than_one() {
        let start = Instant::now();
        for _ in 0..100 {
            let turns = RateLimiter::new(1, 1000, PLACES_MIN, start);
            let taken = std::thread::scope(|scope| {
                let each = || (0..1000).filter(|_| turns.take(id(1), start)).count();
                let threads = [scope.spawn(each), scope.spawn(each), scope.spawn(each)];
                threads
                    .map(|thread| thread.join().unwrap())
                    .iter()
                    .sum::<usize>()
            });
            assert_eq!(taken, 1000);
        }
    }

    #[test]
    fn thousands_who_ask_as_they_should_are_never_in_each_others_way() {
        // Every place is shared by four on average, each asking every two seconds where two a second are fair.
        let start = Instant::now();
        let turns = RateLimiter::new(2, 20, PLACES_MIN, start);
        for tick in 0..400 {
            for who in (tick % 20 * 100)..(tick % 20 + 1) * 100 {
                assert!(
                    turns.take(id(who), start + ms(tick * 100)),
                    "{who} at {tick}"
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A table of the least size, so that strangers meet; the one who behaves shares at most one place with the hot.
        #[test]
        fn who_keeps_to_the_rate_is_never_refused_whatever_the_others_do(
            per_second in 1u32..200,
            burst in 1u64..50,
            hot in proptest::collection::vec(any::<u64>(), 0..64),
            steps in proptest::collection::vec((0u64..50, 0usize..64), 0..800),
            good in any::<u64>(),
        ) {
            let start = Instant::now();
            let turns = RateLimiter::new(per_second, burst, PLACES_MIN, start);
            let last = PLACES_MIN as u64 - 1;
            let of = |who: u64| [who & last, who >> 32 & last];
            let alone = |place: u64| hot.iter().all(|who| !of(*who).contains(&place));
            prop_assume!(of(good).into_iter().any(alone));
            let every = Duration::from_nanos(turns.cost.load(Relaxed));
            let (mut now, mut next) = (start, start);
            for (later, which) in steps {
                now += ms(later);
                if let Some(who) = hot.get(which) {
                    for _ in 0..3 {
                        turns.take(*who, now);
                    }
                }
                while next <= now {
                    prop_assert!(turns.take(good, next.max(start)));
                    next += every;
                }
            }
        }

        #[test]
        fn who_asks_without_end_gets_the_burst_and_the_rate_and_no_more(
            per_second in 1u32..1000,
            burst in 1u64..50,
            strangers in proptest::collection::vec(any::<u64>(), 0..64),
            steps in proptest::collection::vec((0u64..100, 0usize..64), 0..400),
        ) {
            let start = Instant::now();
            let turns = RateLimiter::new(per_second, burst, PLACES_MIN, start);
            let (mut now, mut taken) = (start, 0u64);
            for (later, which) in steps {
                now += ms(later);
                if let Some(who) = strangers.get(which) {
                    turns.take(*who, now);
                }
                taken += (0..20).filter(|_| turns.take(id(5), now)).count() as u64;
                let passed = (now - start).as_nanos() as u64;
                prop_assert!(taken <= passed / turns.cost.load(Relaxed) + burst);
            }
        }

        /// The steady clock does not go back; threads that read it at once may still come here out of order.
        #[test]
        fn times_that_go_back_delay_nobody_for_longer_than_they_went(
            ahead in 0u64..10_000_000,
            burst in 1u64..50,
            asks in 0u64..100,
        ) {
            let start = Instant::now();
            let turns = RateLimiter::new(2, burst, PLACES_MIN, start);
            let then = start + ms(ahead);
            for _ in 0..asks {
                turns.take(id(1), then);
            }
            let wait = turns.wait(id(1), start);
            prop_assert!(wait <= ms(ahead) + ms(500));
            prop_assert!(wait <= ms(61_000), "an hour back costs a minute at most");
            prop_assert!(turns.take(id(1), start + wait));
            prop_assert!(turns.take(id(2), start), "nor anybody else");
        }
    }

    #[test]
    fn a_rate_that_changes_holds_from_then_on_and_what_was_spent_stays_spent() {
        let epoch = Instant::now();
        let turns = RateLimiter::new(10, 10, PLACES_MIN, epoch);
        let take = |now| (0..100).filter(|_| turns.take(id(1), now)).count();
        assert_eq!(take(epoch), 10);
        assert!(turns.set_rate(100, 100));
        // A second of debt at the old rate is paid; the new one saves up from there.
        assert_eq!(take(epoch + ms(1_000)), 100);
        assert!(turns.set_rate(0, 1));
        assert_eq!(take(epoch + ms(1_000)), 100, "no limit");
        assert!(turns.set_rate(1, 1));
        assert_eq!(turns.wait(id(2), epoch + ms(1_000)), Duration::ZERO);
        assert!(turns.take(id(2), epoch + ms(1_000)));
        assert!(!turns.take(id(2), epoch + ms(1_000)));
        // Where there was none there is nothing to count in.
        let none = RateLimiter::new(0, 1, PLACES_MIN, epoch);
        assert!(none.set_rate(0, 5) && !none.set_rate(5, 5));
        assert!((0..100).all(|_| none.take(id(1), epoch)));
    }
}
