//! The gate before the store: as many queries pass at once as the limit says, first come first served, not waiting long.
//! In: how long one would wait. Out: a pass, which says how its query went and is given back however that ends.

use crate::admission::limit::{Limit, Trip};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

pub struct Gate {
    permits: Semaphore,
    steered: Mutex<Steered>,
}

struct Steered {
    limit: Limit,
    /// Permits that there are, free or held. Above the limit, those that come back are taken out.
    permits: usize,
}

/// How the gate stands, for the meters.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub limit: usize,
    pub in_flight: usize,
    /// A round trip of the store without a queue.
    pub floor: Duration,
    /// Its round trips of late.
    pub smoothed: Duration,
}

impl Gate {
    /// At most `most` at once, 1 or more.
    pub fn new(most: usize) -> Gate {
        let limit = Limit::new(most);
        let permits = limit.most_now();
        Gate {
            permits: Semaphore::new(permits),
            steered: Mutex::new(Steered { limit, permits }),
        }
    }

    /// Waits for a pass at most so long.
    pub async fn pass(&self, wait: Duration) -> Option<Pass<'_>> {
        let permit = tokio::time::timeout(wait, self.permits.acquire()).await;
        let permit = permit.ok()?.ok()?;
        let began = Instant::now();
        self.steered().limit.begin(began);
        Some(Pass {
            gate: self,
            permit: Some(permit),
            began,
            trip: Trip::Left,
        })
    }

    pub fn standing(&self) -> Standing {
        let steered = self.steered();
        Standing {
            limit: steered.limit.most_now(),
            in_flight: steered.limit.in_flight(),
            floor: steered.limit.floor(),
            smoothed: steered.limit.smoothed(),
        }
    }

    fn steered(&self) -> MutexGuard<'_, Steered> {
        self.steered
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// One query under way; dropped unfinished, it has left.
pub struct Pass<'g> {
    gate: &'g Gate,
    permit: Option<SemaphorePermit<'g>>,
    began: Instant,
    trip: Trip,
}

impl Pass<'_> {
    pub fn back(mut self, trip: Trip) {
        self.trip = trip;
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut steered = self.gate.steered();
        steered.limit.end(self.began, self.trip, Instant::now());
        let (wanted, permits) = (steered.limit.most_now(), &self.gate.permits);
        match self.permit.take() {
            Some(permit) if steered.permits > wanted => {
                permit.forget();
                steered.permits -= 1;
            }
            permit => drop(permit),
        }
        if steered.permits > wanted {
            steered.permits -= permits.forget_permits(steered.permits - wanted);
        } else if steered.permits < wanted {
            permits.add_permits(wanted - steered.permits);
            steered.permits = wanted;
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
            let gate = Gate::new(1);
            let pass = gate.pass(NOW).await.unwrap();
            assert!(gate.pass(Duration::from_millis(5)).await.is_none());
            let waiting = gate.pass(Duration::from_secs(30));
            let (next, ()) = tokio::join!(waiting, async { pass.back(Trip::Answered) });
            assert_eq!(gate.standing().in_flight, 1);
            drop(next);
            assert_eq!(gate.standing().in_flight, 0);
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_pass_is_given_back_however_it_ends(
            most in 1usize..40,
            steps in proptest::collection::vec((any::<bool>(), 0usize..40, 0u8..4), 0..300),
        ) {
            at_once(async {
                let gate = Gate::new(most);
                let mut passes = Vec::new();
                for (comes, which, how) in steps {
                    if comes {
                        passes.extend(gate.pass(NOW).await);
                    } else if !passes.is_empty() {
                        let mut pass = passes.swap_remove(which % passes.len());
                        // As if it had been away for long.
                        let away = Duration::from_millis(u64::from(how) * 80);
                        pass.began = pass.began.checked_sub(away).unwrap_or(pass.began);
                        match how {
                            0 => pass.back(Trip::Answered),
                            1 => pass.back(Trip::Late),
                            _ => drop(pass),
                        }
                    }
                    let standing = gate.standing();
                    prop_assert_eq!(standing.in_flight, passes.len());
                    prop_assert!(standing.in_flight <= most);
                    let steered = gate.steered();
                    prop_assert_eq!(steered.permits, gate.permits.available_permits() + passes.len());
                    prop_assert!(steered.permits <= standing.limit.max(passes.len()));
                }
                passes.clear();
                let standing = gate.standing();
                prop_assert_eq!(gate.permits.available_permits(), standing.limit);
                Ok(())
            })?;
        }
    }
}
