//! When those who were turned away should come back: how many of them there are, by how much is left over for them.
//! Pure: counts and times in, a wait out.

use std::time::Duration;

/// Asking again sooner is of no use to anybody, and later is too late.
pub const LEAST: Duration = Duration::from_secs(2);
/// The longest time for which anybody is sent away.
pub const MOST: Duration = Duration::from_secs(120);

/// At least this part of the capacity is for those who come back: even with everything in use, people leave.
const SPARE_LEAST: f64 = 0.05;

/// Of a second's figures, how much the averages take: of those turned away soon, of what is usual slowly.
const SOON: f64 = 0.3;
const SLOWLY: f64 = 0.02;

/// What a door knows of its crowd. One step a second, about.
#[derive(Debug, Default)]
pub struct RetryAfterEstimator {
    /// Turned away a second.
    turned: f64,
    /// Answers a second: usual, and as many as were ever given in one while the door was full.
    usual: f64,
    capacity: f64,
    wait: Duration,
}

impl RetryAfterEstimator {
    /// How long those who are turned away now should stay away; not spread yet.
    pub fn wait(&self) -> Duration {
        self.wait.clamp(LEAST, MOST)
    }

    /// Answers a second that the door has shown of late that it can give.
    pub fn capacity(&self) -> f64 {
        self.capacity
    }

    /// `turned` away and `answered` within `took`; `full`: more were there than could be let in.
    pub fn step(&mut self, turned: u64, answered: u64, full: bool, took: Duration) -> Duration {
        let seconds = took.as_secs_f64().max(1e-3);
        let (turned, answered) = (turned as f64 / seconds, answered as f64 / seconds);
        self.turned += SOON * (turned - self.turned);
        if full {
            // What a machine can do changes; what it did a minute ago is worth half.
            self.capacity = (self.capacity * (1.0 - SLOWLY / 2.0)).max(answered);
        } else {
            self.usual += SLOWLY * (answered - self.usual);
            self.capacity = self.capacity.max(answered);
        }
        let spare = (self.capacity - self.usual)
            .max(self.capacity * SPARE_LEAST)
            .max(1.0);
        // Who was turned away in the last `wait` is still away.
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
