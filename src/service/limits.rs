//! Counts a query against its caller's rate, and makes the budgets that a thread begins with.

use crate::admission::budget::Budget;
use crate::admission::rate_limit::RateLimiter;
use crate::refusal::Refusal;
use std::time::{Duration, Instant};

/// Returns a budget with one second saved up.
pub(super) fn full_budget(per_second: u32, now: Instant) -> Budget {
    let full = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
    Budget::new(per_second, full)
}

/// Counts one query of a caller at a rate limiter, or refuses it.
pub(super) fn turn(turns: &RateLimiter, who: u64, now: Instant) -> Result<(), Refusal> {
    turns
        .take(who, now)
        .then_some(())
        .ok_or(Refusal::RateLimited)
}
