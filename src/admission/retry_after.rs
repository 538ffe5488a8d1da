//! Tells refused clients when to return: one after the other, no faster than a door can serve them beside those who come anyway.
//! Pure functions of counts and times, but for two atomic numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Shortest wait.
pub const LEAST: Duration = Duration::from_secs(2);
/// Longest wait. `http/problem` spreads it at random, so that those who get it do not return together.
pub const MOST: Duration = Duration::from_secs(120);

/// Divides the answers a second into those that are for returning clients. `deploy/haproxy` counts on the same part.
const ANSWERS_PER_RETURN: f64 = 4.0;

/// Returns a second of a door that answers hardly anything.
const PER_SECOND_LEAST: u64 = 20;

/// The refused clients of a door that have not returned yet, if all obey. Threads plan concurrently.
#[derive(Debug)]
pub struct ReturnSchedule {
    /// Clients that are away, in thousandths.
    away: AtomicU64,
    /// Clients that return in a second.
    per_second: AtomicU64,
}

impl Default for ReturnSchedule {
    fn default() -> ReturnSchedule {
        ReturnSchedule {
            away: AtomicU64::new(0),
            per_second: AtomicU64::new(PER_SECOND_LEAST),
        }
    }
}

impl ReturnSchedule {
    /// Lets those return whose time came in the last `took`, at a door that can answer so many requests a second.
    pub fn pass(&self, took: Duration, answers_per_second: f64) {
        let per_second = (answers_per_second / ANSWERS_PER_RETURN) as u64;
        let per_second = per_second.max(PER_SECOND_LEAST);
        self.per_second.store(per_second, Relaxed);
        let returned = per_second.saturating_mul(took.as_millis() as u64);
        // Who is told the longest wait is not counted on for longer.
        let most = per_second.saturating_mul(MOST.as_millis() as u64);
        let fewer = |away: u64| away.min(most).saturating_sub(returned);
        self.away.update(Relaxed, Relaxed, fewer);
    }

    /// Plans the return of one client after all that are away. Returns its wait.
    pub fn plan(&self) -> Duration {
        self.after(self.away.fetch_add(1_000, Relaxed) + 1_000)
    }

    /// Returns the wait that a client would get now.
    pub fn wait(&self) -> Duration {
        self.after(self.away.load(Relaxed))
    }

    fn after(&self, away: u64) -> Duration {
        let ms = away / self.per_second.load(Relaxed).max(1);
        (LEAST + Duration::from_millis(ms)).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn refused_clients_return_one_after_the_other_as_a_quarter_of_the_answers_serves_them() {
        let schedule = ReturnSchedule::default();
        schedule.pass(Duration::ZERO, 4_000.0);
        for nth in 1..=10_000 {
            assert_eq!(schedule.plan(), LEAST + Duration::from_millis(nth));
        }
        // Half of them have returned.
        for _ in 0..100 {
            schedule.pass(SECOND / 20, 4_000.0);
        }
        assert_eq!(schedule.wait(), LEAST + SECOND * 5);
        // The door can do more than was known, or less.
        schedule.pass(Duration::ZERO, 20_000.0);
        assert_eq!(schedule.wait(), LEAST + SECOND);
        schedule.pass(Duration::ZERO, 2_000.0);
        assert_eq!(schedule.wait(), LEAST + SECOND * 10);
        schedule.pass(SECOND * 600, 2_000.0);
        assert_eq!(schedule.wait(), LEAST);
    }

    #[test]
    fn a_crowd_without_end_is_told_the_longest_wait_and_is_forgotten_after_it() {
        let schedule = ReturnSchedule::default();
        for _ in 0..1_000_000 {
            schedule.plan();
        }
        assert_eq!(schedule.plan(), MOST);
        schedule.pass(SECOND, 100.0);
        assert_eq!(schedule.wait(), MOST);
        schedule.pass(MOST, 100.0);
        assert_eq!(schedule.wait(), LEAST);
    }

    #[test]
    fn a_door_that_answers_nothing_takes_a_few_back_each_second() {
        let schedule = ReturnSchedule::default();
        let waits: Vec<Duration> = (0..PER_SECOND_LEAST).map(|_| schedule.plan()).collect();
        assert_eq!(waits.last(), Some(&(LEAST + SECOND)));
    }

    proptest! {
        #[test]
        fn is_always_between_its_bounds(
            steps in proptest::collection::vec((0.0f64..1e6, 0u64..100_000, 0u32..100), 0..100),
        ) {
            let schedule = ReturnSchedule::default();
            for (answers, ms, clients) in steps {
                schedule.pass(Duration::from_millis(ms), answers);
                for _ in 0..clients {
                    prop_assert!((LEAST..=MOST).contains(&schedule.plan()));
                }
                prop_assert!((LEAST..=MOST).contains(&schedule.wait()));
            }
        }
    }
}
