//! Health of the partitions: lets callers fail at once, and the log report a fault once.

use super::partition::PARTITIONS;
use crate::meters::{StoreFault, StoreMetrics};
use crate::store::error::Error;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub struct StoreHealth {
    /// A bit for each partition that is unavailable.
    lost: AtomicU32,
    /// The fault of each partition.
    faults: Mutex<[Option<StoreFault>; PARTITIONS]>,
    metrics: Arc<StoreMetrics>,
}

impl StoreHealth {
    pub fn new(metrics: Arc<StoreMetrics>) -> StoreHealth {
        StoreHealth {
            lost: AtomicU32::new(0),
            faults: Mutex::default(),
            metrics,
        }
    }

    pub fn is_lost(&self, partition: usize) -> bool {
        self.lost.load(SeqCst) & 1 << partition != 0
    }

    /// Records a fault. It is counted and logged when it begins, and when it becomes another one.
    pub fn lost(&self, partition: usize, error: &Error) {
        let fault = match error {
            Error::Stuck(_) => StoreFault::Stuck,
            Error::Away(_) => StoreFault::Gone,
            _ => StoreFault::Refused,
        };
        let before = self.lost.fetch_or(1 << partition, SeqCst);
        let known = lock(&self.faults)[partition].replace(fault);
        if known == Some(fault) {
            return;
        }
        self.metrics.fault(fault);
        let new = !lock(&self.faults)
            .iter()
            .enumerate()
            .any(|(nth, other)| nth != partition && *other == Some(fault));
        if before == 0 {
            tracing::error!(
                partition,
                %error,
                "the store is unavailable for at least this partition: its answers come from memory, and age"
            );
        } else if new {
            tracing::error!(partition, %error, "the store is unavailable for another reason");
        } else {
            tracing::debug!(partition, %error, "one more partition of the store is unavailable");
        }
    }

    pub fn found(&self, partition: usize) {
        let before = self.lost.fetch_and(!(1 << partition), SeqCst);
        if before & 1 << partition == 0 {
            return;
        }
        lock(&self.faults)[partition] = None;
        if before == 1 << partition {
            tracing::info!("the store is available again: all {PARTITIONS} partitions");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
