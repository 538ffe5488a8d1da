//! Tells refused clients when to return: one after the other, no faster than a door can serve them beside those who come anyway.
//! Pure functions of counts and `now`, but for two atomic numbers.

use crate::clock::Moment;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Shortest wait.
pub const LEAST: Duration = Duration::from_secs(2);
/// Longest wait. `http/problem` spreads it at random, so that those who get it do not return together.
pub const MOST: Duration = Duration::from_secs(120);

/// Divides the answers a second into those that are for returning clients. `deploy/haproxy` counts on the same part.
const ANSWERS_PER_RETURN: f64 = 4.0;

/// Returns a second of a door that answers hardly anything.
const PER_SECOND_LEAST: f64 = 5.0;

/// Time in which half of what a door once reached is forgotten: in the first moments of a crowd it answers hardly anything.
const FORGETS_HALF: Duration = Duration::from_secs(60);

/// The answers a second that a door has reached lately.
#[derive(Debug, Default)]
pub struct AnswersReached(f64);

impl AnswersReached {
    /// Adds a rate that was seen for `took`. Returns what was reached.
    pub fn step(&mut self, answers_per_second: f64, took: Duration) -> f64 {
        let kept = 0.5f64.powf(took.as_secs_f64() / FORGETS_HALF.as_secs_f64());
        self.0 = answers_per_second.max(self.0 * kept);
        self.0
    }
}

/// The planned returns of a door's refused clients. Threads plan concurrently.
#[derive(Debug)]
pub struct ReturnSchedule {
    /// Time up to which returns are planned, in microseconds of the monotonic clock.
    planned_to: AtomicU64,
    /// Time between two returns, in microseconds.
    every: AtomicU64,
}

impl Default for ReturnSchedule {
    fn default() -> ReturnSchedule {
        ReturnSchedule {
            planned_to: AtomicU64::new(0),
            every: AtomicU64::new(every(0.0)),
        }
    }
}

impl ReturnSchedule {
    /// Sets how many requests a second the door can answer.
    pub fn set_answers(&self, per_second: f64) {
        self.every.store(every(per_second), Relaxed);
    }

    /// Plans the return of one client after all that are planned. Returns its wait.
    pub fn plan(&self, now: Moment) -> Duration {
        let now = micros(now);
        let more = self.every.load(Relaxed);
        // What is planned further ahead than the longest wait would keep later clients away for nothing.
        let latest = now.saturating_add(MOST.as_micros() as u64);
        let later = |to: u64| to.max(now).saturating_add(more).min(latest);
        let before = self.planned_to.update(Relaxed, Relaxed, later);
        wait(later(before), now)
    }

    /// Returns the wait that a client would get now.
    pub fn wait(&self, now: Moment) -> Duration {
        wait(self.planned_to.load(Relaxed), micros(now))
    }
}

fn wait(planned_to: u64, now: u64) -> Duration {
    (LEAST + Duration::from_micros(planned_to.saturating_sub(now))).min(MOST)
}

fn every(answers_per_second: f64) -> u64 {
    let returns = (answers_per_second / ANSWERS_PER_RETURN).max(PER_SECOND_LEAST);
    (1e6 / returns) as u64
}

fn micros(now: Moment) -> u64 {
    now.0.saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Moment = Moment(1_000_000);

    fn later(by: Duration) -> Moment {
        Moment(NOW.0 + by.as_millis() as u64)
    }

    #[test]
    fn refused_clients_return_one_after_the_other_as_a_quarter_of_the_answers_serves_them() {
        let schedule = ReturnSchedule::default();
        schedule.set_answers(4_000.0);
        for nth in 1..=10_000 {
            let wait = schedule.plan(NOW);
            assert_eq!(wait, LEAST + Duration::from_millis(nth));
        }
        // Half of them have returned.
        let after = later(Duration::from_secs(5));
        assert_eq!(schedule.wait(after), LEAST + Duration::from_secs(5));
        let next = Duration::from_millis(5_001);
        assert_eq!(schedule.plan(after), LEAST + next);
        // All have, for long: nothing is planned any more.
        let after = later(Duration::from_secs(600));
        assert_eq!(schedule.wait(after), LEAST);
        assert_eq!(schedule.plan(after), LEAST + Duration::from_millis(1));
    }

    #[test]
    fn a_crowd_without_end_is_told_the_longest_wait_and_is_forgotten_after_it() {
        let schedule = ReturnSchedule::default();
        schedule.set_answers(100.0);
        for _ in 0..100_000 {
            schedule.plan(NOW);
        }
        assert_eq!(schedule.plan(NOW), MOST);
        assert_eq!(schedule.wait(later(MOST)), LEAST);
    }

    #[test]
    fn a_door_that_answers_nothing_takes_a_few_back_each_second() {
        let schedule = ReturnSchedule::default();
        let waits: Vec<Duration> = (0..5).map(|_| schedule.plan(NOW)).collect();
        assert_eq!(waits[4], LEAST + Duration::from_secs(1));
    }

    #[test]
    fn a_door_that_a_crowd_stops_for_a_moment_is_known_by_what_it_answered_before() {
        let mut reached = AnswersReached::default();
        assert_eq!(reached.step(800.0, Duration::from_millis(50)), 800.0);
        let then = reached.step(20.0, Duration::from_secs(1));
        assert!((790.0..800.0).contains(&then), "{then}");
        assert_eq!(reached.step(1_000.0, Duration::from_secs(1)), 1_000.0);
        let idle = reached.step(0.0, FORGETS_HALF);
        assert!((499.0..501.0).contains(&idle), "{idle}");
    }

    proptest! {
        #[test]
        fn is_always_between_its_bounds(
            steps in proptest::collection::vec((0.0f64..1e6, 0u64..100_000), 0..100),
        ) {
            let schedule = ReturnSchedule::default();
            let mut now = NOW;
            for (answers, ms) in steps {
                now = Moment(now.0 + ms);
                schedule.set_answers(answers);
                let waits = [schedule.plan(now), schedule.wait(now)];
                prop_assert!(waits.iter().all(|wait| (LEAST..=MOST).contains(wait)));
                prop_assert_eq!(waits[0], waits[1]);
            }
        }
    }
}
