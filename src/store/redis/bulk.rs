//! Bulk loading: large batches, several in progress, in their order.

use super::running::{Redis, Submitted};
use crate::store::change::{BulkLoadReport, Change};
use crate::store::contract::Store;
use crate::store::error::Error;
use std::collections::VecDeque;

/// Changes in one batch: some hundreds for each partition.
const BATCH: usize = 8_000;

/// Batches in progress.
const UNDER_WAY_MAX: usize = 4;

/// An import in progress. Each acknowledged batch is on record.
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

    /// Adds a change. Returns whether it is time to [`RedisBulk::send`].
    pub fn push(&mut self, change: Change) -> bool {
        self.batch.push(change);
        self.batch.len() >= BATCH
    }

    /// Sends the added changes, and waits for the oldest batch if too many are in progress.
    ///
    /// # Errors
    ///
    /// The store fails; later batches may have been applied.
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

    /// Sends the rest and waits for all batches.
    ///
    /// # Errors
    ///
    /// The store fails; some batches may have been applied.
    pub async fn finish(mut self) -> Result<BulkLoadReport, Error> {
        self.send().await?;
        while !self.under_way.is_empty() {
            self.settle().await?;
        }
        self.store.close().await;
        Ok(self.loaded)
    }
}
