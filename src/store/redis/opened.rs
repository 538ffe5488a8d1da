//! A Redis store that was reached and checked, without writers and followers.

use super::partition::PARTITIONS;
use super::primaries::{ConnectionPurpose, Primaries, PrimaryConnection};
use super::scripts::PartitionState;
use super::{checks, dial, follower, scripts, url};
use crate::person::ResidentId;
use crate::seal::tags::StatusTags;
use crate::store::error::Error;
use crate::store::record::Record;
use futures_util::future::try_join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Settings of the Redis store.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How connections are made.
    pub dial: dial::Settings,
    /// Replicas that must have a change before it is acknowledged. None: one, or zero if a single server has none.
    pub replicas: Option<u32>,
    /// Changes that each stream keeps for nodes that are behind.
    pub changes_kept: u64,
    /// Time for which opening waits for an unreachable store; None: forever.
    pub open_wait: Option<Duration>,
    /// Number of bits of a home id: 64, or fewer in tests that need collisions.
    pub home_bits: u32,
}

impl Settings {
    /// Returns the settings for these servers, with default times.
    pub fn new(place: url::StoreUrl) -> Settings {
        Settings {
            dial: dial::Settings {
                place,
                password_file: None,
                sentinel: None,
                ca: None,
                cert: None,
            },
            replicas: None,
            changes_kept: 100_000,
            open_wait: None,
            home_bits: 64,
        }
    }
}

/// Pause between attempts to reach a store at the start.
const OPEN_PAUSE: Duration = Duration::from_secs(1);

/// Interval of log lines while opening waits.
const OPEN_REPORT: Duration = Duration::from_secs(5);

/// A store that was reached, without writers and followers.
pub struct OpenedRedis {
    pub(super) primaries: Arc<Primaries>,
    pub(super) settings: Settings,
    pub(super) mark: [u8; 16],
    pub(super) tags: StatusTags,
    pub(super) replicas: u32,
    pub(super) asking: [Arc<Mutex<PrimaryConnection>>; PARTITIONS],
    pub(super) residents: u64,
    written: bool,
}

impl OpenedRedis {
    /// Connects to the store and checks it. Waits for an unreachable one as long as the settings allow. `mark` and `tags` come
    /// from the key ring.
    ///
    /// # Errors
    ///
    /// An error that trying again cannot mend, or `Away` after `open_wait`.
    pub async fn open(
        settings: Settings,
        mark: [u8; 16],
        tags: StatusTags,
    ) -> Result<OpenedRedis, Error> {
        let primaries = Primaries::new(settings.dial.clone());
        let mut told = String::new();
        let started = std::time::Instant::now();
        let mut told_at = started;
        loop {
            match OpenedRedis::reach(&primaries, &settings, mark, &tags).await {
                Err(error @ (Error::Away(_) | Error::Stuck(_))) => {
                    if let Some(wait) = settings.open_wait.filter(|wait| started.elapsed() >= *wait)
                    {
                        let (Error::Away(why) | Error::Stuck(why)) = error else {
                            return Err(error);
                        };
                        let why = format!("{why}; waited for {wait:?} (command_store_timeout)");
                        return Err(Error::Away(why));
                    }
                    if told != error.to_string() || told_at.elapsed() >= OPEN_REPORT {
                        told_at = std::time::Instant::now();
                        tracing::warn!(%error, "the store cannot be reached: the next attempt follows in a second");
                        told = error.to_string();
                    }
                    tokio::time::sleep(OPEN_PAUSE).await;
                }
                opened => return opened,
            }
        }
    }

    async fn reach(
        primaries: &Arc<Primaries>,
        settings: &Settings,
        mark: [u8; 16],
        tags: &StatusTags,
    ) -> Result<OpenedRedis, Error> {
        let replicas = checks::run(primaries, settings.replicas).await?;
        let mut opened = OpenedRedis {
            primaries: primaries.clone(),
            settings: settings.clone(),
            mark,
            tags: tags.clone(),
            replicas,
            asking: std::array::from_fn(|partition| {
                let link =
                    PrimaryConnection::new(primaries.clone(), partition, ConnectionPurpose::Ask);
                Arc::new(Mutex::new(link))
            }),
            residents: 0,
            written: false,
        };
        for state in opened.states().await? {
            if !state.ring.is_empty() && state.ring != mark {
                return Err(Error::ForeignRing(primaries.place().to_string()));
            }
            if !state.epoch.is_empty() && state.format != scripts::FORMAT {
                let place = primaries.place().to_string();
                return Err(Error::Format(place, state.format, scripts::FORMAT));
            }
            // Somebody may have edited it.
            opened.residents = opened.residents.saturating_add(state.count);
            opened.written |= !state.ring.is_empty();
        }
        Ok(opened)
    }

    /// Returns the state of a partition.
    pub(super) async fn state(&self, partition: usize) -> Result<PartitionState, Error> {
        let mut held = self.asking[partition].lock().await;
        let mut link = held.get().await?;
        PartitionState::of(&mut link, partition, "0-0")
            .await
            .map_err(|error| held.failed(&error))
    }

    /// Returns the states of all partitions, which are read concurrently.
    pub(super) async fn states(&self) -> Result<Vec<PartitionState>, Error> {
        try_join_all((0..PARTITIONS).map(|partition| self.state(partition))).await
    }

    /// Returns whether anything was ever written to the store.
    pub fn was_written(&self) -> bool {
        self.written
    }

    /// Returns the number of residents on record when the store was reached.
    pub fn residents(&self) -> u64 {
        self.residents
    }

    /// Passes every record to `each`, one partition after the other. Concurrent changes may be included or not.
    ///
    /// # Errors
    ///
    /// The store fails, a record is damaged, or `each` failed.
    pub async fn each(
        &self,
        mut each: impl FnMut(ResidentId, Record) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        /// Buckets of a page: whole values have ten times the size of words.
        const BUCKETS: u64 = 8;
        let mut damaged = 0;
        for partition in 0..PARTITIONS {
            let state = self.state(partition).await?;
            let end = 1u64 << state.depth;
            let mut read = 0;
            let mut first = 0;
            while first < end {
                let count = BUCKETS.min(end - first);
                let asking = &self.asking[partition];
                let (epoch, _, bytes) =
                    follower::page(asking, partition, state.depth, first, count, true).await?;
                if epoch != state.epoch {
                    return Err(Error::Away(
                        "it became another while it was read".to_owned(),
                    ));
                }
                for (id, value) in scripts::values(&bytes, &self.tags)? {
                    read += 1;
                    match value {
                        Ok((_, record)) => each(id, record)?,
                        Err(_) => damaged += 1,
                    }
                }
                first += count;
            }
            // Records are never removed: those that are missing were not read where they are.
            damaged += state.count.saturating_sub(read);
        }
        Ok(damaged)
    }
}
