//! A budget of bytes a second. Pure functions of sizes and `now`.

use std::time::{Duration, Instant};

/// A budget of which one second is saved up. An item larger than the rest may still be sent; the next one waits until it is
/// paid.
pub struct ByteBudget {
    per_second: u64,
    /// Time up to which sent bytes are paid.
    paid_to: Instant,
}

const SAVED: Duration = Duration::from_secs(1);

impl ByteBudget {
    /// Returns a full budget; 0 allows nothing.
    pub fn new(per_second: u64, now: Instant) -> ByteBudget {
        ByteBudget {
            per_second,
            paid_to: now.checked_sub(SAVED).unwrap_or(now),
        }
    }

    /// Takes bytes from the budget. Returns false if earlier bytes are not paid yet.
    pub fn take(&mut self, bytes: u64, now: Instant) -> bool {
        if self.per_second == 0 || self.paid_to > now {
            return false;
        }
        let saved = now.checked_sub(SAVED).unwrap_or(now);
        let cost = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.per_second);
        self.paid_to = self.paid_to.max(saved) + cost;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_larger_than_the_budget_is_sent_and_then_paid() {
        let now = Instant::now();
        let mut budget = ByteBudget::new(1_000, now);
        let at = |ms| now + Duration::from_millis(ms);
        assert!(budget.take(600, now) && budget.take(5_000, now));
        assert!(!budget.take(1, at(4_500)));
        assert!(budget.take(1, at(4_700)));
        assert!(!ByteBudget::new(0, now).take(1, now));
        // No more than a second is saved up.
        let mut rested = ByteBudget::new(1_000, now);
        assert!(rested.take(1_001, at(60_000)) && !rested.take(1, at(60_000)));
    }
}
