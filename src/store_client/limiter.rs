//! The concurrency limiter before the store: permits for queries, in order of arrival, with a bounded wait. The holder of a
//! permit reports the outcome; the permit returns however the query ends.

use crate::admission::concurrency_limit::{ConcurrencyLimit, RoundTrip};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The limiter, which adapts to the store's latency.
pub struct ConcurrencyLimiter {
    permits: Semaphore,
    controlled: Mutex<ControlledLimit>,
}

struct ControlledLimit {
    limit: ConcurrencyLimit,
    /// Number of permits, free or held. Above the limit, returned ones are removed.
    permits: usize,
}

/// Figures of the limiter, for metrics.
#[derive(Clone, Copy, Debug)]
pub struct LimiterStats {
    /// Lookups that may run at once.
    pub limit: usize,
    /// Lookups that run now.
    pub in_flight: usize,
    /// Round trip without a queue.
    pub floor: Duration,
    /// Recent round trip.
    pub smoothed: Duration,
}

impl ConcurrencyLimiter {
    /// Returns a limiter with at most `most` permits, 1 or more.
    pub fn new(most: usize) -> ConcurrencyLimiter {
        let limit = ConcurrencyLimit::new(most);
        let permits = limit.most_now();
        ConcurrencyLimiter {
            permits: Semaphore::new(permits),
            controlled: Mutex::new(ControlledLimit { limit, permits }),
        }
    }

    /// Waits for a permit for at most `wait`. Returns None if there is none in time.
    pub async fn acquire(&self, wait: Duration) -> Option<Permit<'_>> {
        let permit = tokio::time::timeout(wait, self.permits.acquire()).await;
        let permit = permit.ok()?.ok()?;
        let began = Instant::now();
        self.controlled().limit.begin(began);
        Some(Permit {
            limiter: self,
            permit: Some(permit),
            began,
            trip: RoundTrip::Left,
        })
    }

    /// Returns the current figures.
    pub fn stats(&self) -> LimiterStats {
        let controlled = self.controlled();
        LimiterStats {
            limit: controlled.limit.most_now(),
            in_flight: controlled.limit.in_flight(),
            floor: controlled.limit.floor(),
            smoothed: controlled.limit.smoothed(),
        }
    }

    fn controlled(&self) -> MutexGuard<'_, ControlledLimit> {
        self.controlled
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A permit of one query. Dropped unfinished, the query counts as abandoned.
pub struct Permit<'g> {
    limiter: &'g ConcurrencyLimiter,
    permit: Option<SemaphorePermit<'g>>,
    began: Instant,
    trip: RoundTrip,
}

impl Permit<'_> {
    /// Returns the permit and reports the query's round trip.
    pub fn back(mut self, trip: RoundTrip) {
        self.trip = trip;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut controlled = self.limiter.controlled();
        controlled.limit.end(self.began, self.trip, Instant::now());
        let (wanted, permits) = (controlled.limit.most_now(), &self.limiter.permits);
        match self.permit.take() {
            Some(permit) if controlled.permits > wanted => {
                permit.forget();
                controlled.permits -= 1;
            }
            permit => drop(permit),
        }
        if controlled.permits > wanted {
            controlled.permits -= permits.forget_permits(controlled.permits - wanted);
        } else if controlled.permits < wanted {
            permits.add_permits(wanted - controlled.permits);
            controlled.permits = wanted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Duration = Duration::ZERO;

    fn at_once<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(future)
    }

    #[test]
    fn whoever_finds_no_room_waits_a_moment_and_no_longer() {
        at_once(async {
            let limiter = ConcurrencyLimiter::new(1);
            let permit = limiter.acquire(NOW).await.unwrap();
            assert!(limiter.acquire(Duration::from_millis(5)).await.is_none());
            let waiting = limiter.acquire(Duration::from_secs(30));
            let (next, ()) = tokio::join!(waiting, async { permit.back(RoundTrip::Answered) });
            assert_eq!(limiter.stats().in_flight, 1);
            drop(next);
            assert_eq!(limiter.stats().in_flight, 0);
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_permit_is_given_back_however_it_ends(
            most in 1usize..40,
            steps in proptest::collection::vec((any::<bool>(), 0usize..40, 0u8..4), 0..300),
        ) {
            at_once(async {
                let limiter = ConcurrencyLimiter::new(most);
                let mut held = Vec::new();
                for (comes, which, how) in steps {
                    if comes {
                        held.extend(limiter.acquire(NOW).await);
                    } else if !held.is_empty() {
                        let mut permit = held.swap_remove(which % held.len());
                        // As if it had been away for long.
                        let away = Duration::from_millis(u64::from(how) * 80);
                        permit.began = permit.began.checked_sub(away).unwrap_or(permit.began);
                        match how {
                            0 => permit.back(RoundTrip::Answered),
                            1 => permit.back(RoundTrip::Late),
                            _ => drop(permit),
                        }
                    }
                    let stats = limiter.stats();
                    prop_assert_eq!(stats.in_flight, held.len());
                    prop_assert!(stats.in_flight <= most);
                    let controlled = limiter.controlled();
                    prop_assert_eq!(controlled.permits, limiter.permits.available_permits() + held.len());
                    prop_assert!(controlled.permits <= stats.limit.max(held.len()));
                }
                held.clear();
                let stats = limiter.stats();
                prop_assert_eq!(limiter.permits.available_permits(), stats.limit);
                Ok(())
            })?;
        }
    }
}
