//! The answers a second that a door has reached lately. Pure.

use std::time::Duration;

/// Time in which half of it is forgotten: in the first moments of a crowd, and without traffic, a door answers hardly anything.
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

    /// Sets the rate of a door that answers as much as it can: what it reached before, it no longer can.
    pub fn set(&mut self, answers_per_second: f64) {
        self.0 = answers_per_second;
    }

    /// Returns what was reached.
    pub fn get(&self) -> f64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
