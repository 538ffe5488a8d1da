//! Computes when refused clients should return, from their number and the spare capacity. Pure functions of counts and times.
//! `http/problem` spreads the result at random.

use std::time::Duration;

/// Shortest wait.
pub const LEAST: Duration = Duration::from_secs(2);
/// Longest wait.
pub const MOST: Duration = Duration::from_secs(120);

/// Share of the capacity for returning clients, at least: even at full load, clients leave.
const SPARE_LEAST: f64 = 0.05;

/// Weights of the newest second in the averages: fast for refused clients, slow for usual answers.
const SOON: f64 = 0.3;
const SLOWLY: f64 = 0.02;

/// Estimates of a door's crowd, updated about once a second.
#[derive(Debug, Default)]
pub struct RetryAfterEstimator {
    /// Refused clients a second.
    turned: f64,
    /// Answers a second: the usual number, and the highest while the door was full.
    usual: f64,
    capacity: f64,
    wait: Duration,
}

impl RetryAfterEstimator {
    /// Returns the wait for clients that are refused now, not randomised yet.
    pub fn wait(&self) -> Duration {
        self.wait.clamp(LEAST, MOST)
    }

    /// Returns the recent capacity in answers a second.
    pub fn capacity(&self) -> f64 {
        self.capacity
    }

    /// Adds a period of `took`: `turned` clients refused, `answered` requests; `full`: there was no room for some. Returns the
    /// new wait.
    pub fn step(&mut self, turned: u64, answered: u64, full: bool, took: Duration) -> Duration {
        let seconds = took.as_secs_f64().max(1e-3);
        let (turned, answered) = (turned as f64 / seconds, answered as f64 / seconds);
        self.turned += SOON * (turned - self.turned);
        if full {
            // Capacity changes: a measurement loses half its weight in a minute.
            self.capacity = (self.capacity * (1.0 - SLOWLY / 2.0)).max(answered);
        } else {
            self.usual += SLOWLY * (answered - self.usual);
            self.capacity = self.capacity.max(answered);
        }
        let spare = (self.capacity - self.usual)
            .max(self.capacity * SPARE_LEAST)
            .max(1.0);
        // Clients refused in the last `wait` have not returned yet.
        let away = self.turned * self.wait().as_secs_f64();
        self.wait = Duration::from_secs_f64((away / spare).min(MOST.as_secs_f64()));
        self.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nobody_turned_away_is_the_least_wait() {
        let mut estimator = RetryAfterEstimator::default();
        for _ in 0..10 {
            assert_eq!(estimator.step(0, 1_000, false, SECOND), LEAST);
        }
    }

    #[test]
    fn the_more_are_away_the_longer_and_the_less_once_they_are_served() {
        let mut estimator = RetryAfterEstimator::default();
        for _ in 0..60 {
            estimator.step(0, 500, false, SECOND);
        }
        let mut last = LEAST;
        for _ in 0..5 {
            let wait = estimator.step(9_000, 1_000, true, SECOND);
            assert!(wait >= last);
            last = wait;
        }
        assert!(last > Duration::from_secs(30), "{last:?}");
        for _ in 0..30 {
            last = estimator.step(0, 800, false, SECOND);
        }
        assert_eq!(last, LEAST);
    }

    proptest! {
        #[test]
        fn is_always_between_its_bounds(
            steps in proptest::collection::vec((0u64..1_000_000, 0u64..200_000, any::<bool>(), 0u64..3_000), 0..100),
        ) {
            let mut estimator = RetryAfterEstimator::default();
            for (turned, answered, full, ms) in steps {
                let wait = estimator.step(turned, answered, full, Duration::from_millis(ms));
                prop_assert!((LEAST..=MOST).contains(&wait));
            }
        }
    }
}
