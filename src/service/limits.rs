//! How a query takes its turn from a rate limiter, and the budgets that a thread begins with.

use crate::admission::budget::Budget;
use crate::admission::rate_limit::RateLimiter;
use crate::refusal::Refusal;
use std::time::{Duration, Instant};

/// Returns a budget with one second saved up.
pub(super) fn full_budget(per_second: u32, now: Instant) -> Budget {
    let full = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
    Budget::new(per_second, full)
}

/// Takes one turn of a caller from a rate limiter, or refuses the query.
pub(super) fn turn(turns: &RateLimiter, who: u64, now: Instant) -> Result<(), Refusal> {
    turns
        .take(who, now)
        .then_some(())
        .ok_or(Refusal::RateLimited)
}
