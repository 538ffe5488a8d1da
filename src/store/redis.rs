//! The Redis store: records in sixteen partitions with a stream of changes each, for any number of nodes.
//!
//! A change takes two calls of one script. The first reads the record and returns what it would write; the node checks the tags
//! of what was read and makes those of what is written. The second writes record and stream entry atomically, unless another
//! node wrote meanwhile. A follower for each partition brings the entries onto the board of its node. Names and numbers in
//! Redis are sealed.

pub mod bulk;
mod checks;
mod clock_offset;
pub mod dial;
mod follower;
mod health;
mod info;
mod opened;
pub mod papers;
pub mod partition;
pub mod primaries;
mod quorum;
mod reseal;
mod rewrite;
mod running;
mod scripts;
mod trail;
mod unreplicated;
pub mod url;
mod writer;

pub use opened::{OpenedRedis, Settings};
pub use running::Redis;

use super::change::{Change, ChangeOutcome};
use super::contract::{LocatedRecord, Store};
use super::error::Error;
use super::reseal::{ResealProgress, ResealReport};
use crate::clock::{Moment, Time};
use crate::paper::{Cursor, Paper, PaperKey, PaperKinds, Retention};
use crate::person::{Identity, ResidentId};
use crate::seal::RestSeal;
use crate::status::Word;
use follower::{Follower, FollowerContext};
use partition::PARTITIONS;
use scripts::{FIND, WORD};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Time for running work when the store is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

#[async_trait::async_trait]
impl Store for Redis {
    async fn residents(&self) -> Result<u64, Error> {
        let states = self.opened.states().await?;
        let counts = states.iter().map(|state| state.count);
        Ok(counts.fold(0, u64::saturating_add))
    }

    /// Starts the followers and waits until each has read its whole partition, however many attempts it takes.
    async fn fill(&self, progress: Arc<dyn Fn(u64) + Send + Sync>) -> Result<(), Error> {
        let board = self.board.clone().ok_or(Error::Closed)?;
        let (synced, mut seen) = watch::channel(0);
        let shared = Arc::new(FollowerContext {
            primaries: self.opened.primaries.clone(),
            board,
            followed: self.followed.clone(),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            mark: self.opened.mark,
            tags: self.opened.tags.clone(),
            replicas: self.opened.replicas,
            synced,
            progress,
        });
        *self.followers.lock().await = (0..PARTITIONS)
            .map(|partition| {
                let asking = self.opened.asking[partition].clone();
                tokio::spawn(Follower::new(partition, shared.clone(), asking).run())
            })
            .collect();
        // The followers hold the sender as long as they live.
        let all = seen.wait_for(|synced| *synced == PARTITIONS).await;
        all.map(drop).map_err(|_| Error::Closed)
    }

    async fn ingest(&self, changes: Vec<Change>) -> Result<Vec<ChangeOutcome>, Error> {
        self.submit(changes).await?.outcome().await
    }

    async fn find(&self, who: Identity) -> Result<Option<LocatedRecord>, Error> {
        let who = self.shorten(who);
        let home = who.home.0.to_be_bytes();
        let found: Option<(Vec<Vec<u8>>, u8, u64)> = self
            .ask(partition::of(who.home), &FIND, &[&home, &who.claim])
            .await?;
        let Some((values, is_own, acked)) = found else {
            return Ok(None);
        };
        if is_own == 2 {
            return self.genuine(Err(Error::Damaged("the depth of a partition")));
        }
        // Each record on the way must be genuine: a damaged claim would make the resident unknown.
        let mut last = None;
        for (steps, value) in (0..).zip(&values) {
            let id = who.slot(steps);
            let (word, record) = self.genuine(scripts::value(id, value, &self.opened.tags))?;
            last = Some(LocatedRecord {
                id,
                steps,
                word,
                record,
            });
        }
        let Some(placed) = last.filter(|_| is_own == 1) else {
            return Ok(None);
        };
        self.is_kept(partition::of(who.home), placed.word, acked)
            .await?;
        Ok(Some(placed))
    }

    async fn word(&self, id: ResidentId) -> Result<Option<Word>, Error> {
        let found: Option<(Vec<u8>, u64)> = self
            .ask(partition::of(id), &WORD, &[&id.0.to_be_bytes()])
            .await?;
        let Some((bytes, acked)) = found else {
            return Ok(None);
        };
        let word = self.genuine(scripts::word(id, &bytes, &self.opened.tags))?;
        self.is_kept(partition::of(id), word, acked).await?;
        Ok(Some(word))
    }

    async fn papers(
        &self,
        owner: Identity,
        kinds: PaperKinds,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Paper>, Error> {
        self.genuine(self.read_papers(owner, kinds, after, limit).await)
    }

    async fn some(&self, owner: Identity, keys: &[PaperKey]) -> Result<Vec<Option<Paper>>, Error> {
        self.genuine(self.read_some(owner, keys).await)
    }

    async fn remove(&self, owner: Identity, keys: &[PaperKey]) -> Result<u64, Error> {
        self.remove_papers(owner, keys).await
    }

    async fn sweep(&self, keep: &Retention, now: Time, every: Duration) -> Result<u64, Error> {
        self.sweep_papers(keep, now, every).await
    }

    async fn reseal(
        &self,
        seal: RestSeal,
        tell: &ResealProgress<'_>,
    ) -> Result<ResealReport, Error> {
        self.reseal_all(&seal, tell).await
    }

    /// Returns the median offset of all primaries, so that one wrong clock of three or more decides nothing.
    async fn clock_offset(&self) -> Result<Option<i64>, Error> {
        let mut asked = Vec::new();
        let mut offsets = Vec::new();
        for partition in 0..PARTITIONS {
            let primary = self.opened.primaries.of(partition);
            if asked.contains(&primary) || self.health.is_lost(partition) {
                continue;
            }
            asked.push(primary);
            offsets.extend(self.opened.clock_offset(partition).await.ok());
        }
        offsets.sort_unstable();
        Ok(offsets.get(offsets.len() / 2).copied())
    }

    async fn fleet_offset(&self) -> Result<Option<i64>, Error> {
        self.opened.fleet_offset().await
    }

    async fn tell_offset(&self, offset: i64) -> Result<(), Error> {
        self.opened.tell_offset(offset).await
    }

    fn lost(&self) -> u16 {
        self.opened.primaries.lost(Moment::now())
    }

    fn as_of(&self) -> Moment {
        self.opened.primaries.as_of(Moment::now())
    }

    async fn close(&self) {
        for follower in self.followers.lock().await.drain(..) {
            follower.abort();
        }
        self.writers.lock().await.clear();
        let ends = std::mem::take(&mut *self.ends.lock().await);
        let all = async {
            for end in ends {
                let _ = end.await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, all).await;
    }
}
