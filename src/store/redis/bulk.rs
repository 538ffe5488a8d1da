//! Loading by the million: large batches, several on their way, in the order in which they came.

use super::{Redis, Submitted};
use crate::store::{BulkLoadReport, Change, Error, Store};
use std::collections::VecDeque;

/// Changes of one batch, a few hundred for each partition.
const BATCH: usize = 8_000;

/// Batches on their way.
const UNDER_WAY_MAX: usize = 4;

/// An import under way. What is done is on record, each batch as it is acknowledged.
pub struct RedisBulk {
    store: Redis,
    batch: Vec<Change>,
    under_way: VecDeque<Submitted>,
    loaded: BulkLoadReport,
}

impl RedisBulk {
    /// Returns an import into an open store.
    pub fn new(store: Redis) -> RedisBulk {
        RedisBulk {
            store,
            batch: Vec::with_capacity(BATCH),
            under_way: VecDeque::new(),
            loaded: BulkLoadReport::default(),
        }
    }

    /// Takes one more; whether it is time to [`RedisBulk::send`].
    pub fn push(&mut self, change: Change) -> bool {
        self.batch.push(change);
        self.batch.len() >= BATCH
    }

    /// Sends what was pushed, and waits for the oldest where too many are on their way.
    pub async fn send(&mut self) -> Result<(), Error> {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        let submitted = self.store.submit(batch).await?;
        self.under_way.push_back(submitted);
        if self.under_way.len() > UNDER_WAY_MAX {
            self.settle().await?;
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Error> {
        if let Some(oldest) = self.under_way.pop_front() {
            let counted = oldest.counted.clone();
            let outcomes = oldest.outcome().await?.into_iter().zip(counted);
            for (outcome, _) in outcomes.filter(|(_, counted)| *counted) {
                self.loaded.count(outcome);
            }
        }
        Ok(())
    }

    /// Puts the rest on record.
    pub async fn finish(mut self) -> Result<BulkLoadReport, Error> {
        self.send().await?;
        while !self.under_way.is_empty() {
            self.settle().await?;
        }
        self.store.close().await;
        Ok(self.loaded)
    }
}
