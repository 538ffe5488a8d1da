//! Whether each partition answers: what callers need to fail at once, and the log needs to speak once.

use super::partition::PARTITIONS;
use crate::meters::{Fault, StoreTally};
use crate::store::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

pub struct Health {
    /// A bit for each partition that is lost.
    lost: AtomicU32,
    tally: Arc<StoreTally>,
}

impl Health {
    pub fn new(tally: Arc<StoreTally>) -> Health {
        Health {
            lost: AtomicU32::new(0),
            tally,
        }
    }

    pub fn is_lost(&self, partition: usize) -> bool {
        self.lost.load(SeqCst) & 1 << partition != 0
    }

    pub fn lost(&self, partition: usize, error: &Error) {
        let before = self.lost.fetch_or(1 << partition, SeqCst);
        if before & 1 << partition == 0 {
            self.tally.fault(match error {
                Error::Stuck(_) => Fault::Stuck,
                Error::Away(_) => Fault::Gone,
                _ => Fault::Refused,
            });
        }
        if before == 0 {
            tracing::error!(%error, "the store is lost: answers come from memory, and age");
        } else if before & 1 << partition == 0 {
            tracing::debug!(partition, %error, "one more partition of the store is lost");
        }
    }

    pub fn found(&self, partition: usize) {
        let before = self.lost.fetch_and(!(1 << partition), SeqCst);
        if before == 1 << partition {
            tracing::info!("the store is back: all {PARTITIONS} partitions");
        }
    }
}
