//! A budget of events a second. Pure functions of counts and `now`.

use std::time::{Duration, Instant};

/// A budget of events a second, of which one second may be saved up.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    every: Duration,
    /// Time up to which the budget is spent; at most a second behind `now`.
    spent_to: Instant,
}

const SAVED_MAX: Duration = Duration::from_secs(1);

impl Budget {
    /// Returns a budget of `per_second`; 0 allows nothing.
    pub fn new(per_second: u32, now: Instant) -> Budget {
        Budget {
            every: every(per_second),
            spent_to: now,
        }
    }

    /// Returns the time until an event is allowed; None if it is allowed now.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        if self.every == Duration::MAX {
            return Some(SAVED_MAX);
        }
        let next = self.next(now);
        (next > now).then(|| next - now)
    }

    /// Returns how many events are allowed now.
    pub fn left(&self, now: Instant) -> usize {
        let from = now.checked_sub(SAVED_MAX).unwrap_or(now);
        let saved = now.saturating_duration_since(self.spent_to.max(from));
        (saved.as_nanos() / self.every.as_nanos().max(1)) as usize
    }

    /// Takes one event from the budget. Returns false if none is left.
    pub fn take(&mut self, now: Instant) -> bool {
        let there = self.wait(now).is_none();
        if there {
            self.spent_to = self.next(now);
        }
        there
    }

    fn next(&self, now: Instant) -> Instant {
        let from = now.checked_sub(SAVED_MAX).unwrap_or(now);
        self.spent_to.max(from) + self.every
    }
}

fn every(per_second: u32) -> Duration {
    match per_second {
        0 => Duration::MAX,
        n => Duration::from_secs(1) / n,
    }
}
