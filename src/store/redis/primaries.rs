//! The primary of each partition, and connections to it.
//!
//! Single servers, Sentinel and Cluster share one code path: a majority of voters names the primary, the node connects and
//! checks that it is one. The library's own Sentinel and Cluster clients wait without a deadline and share one connection.

use super::dial::{CONNECT_TIMEOUT, Login, Settings, dial, said};
use super::partition;
use super::quorum::{Elected, PartitionPrimaries, TopologyQuorum};
use super::scripts::TAKE;
use super::url::{Address, StoreUrl, Topology};
use crate::clock::Moment;
use crate::critical::CriticalTask;
use crate::store::error::Error;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time for a reply that does not block. A slower primary is useless to waiting callers.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Time that a follower blocks in Redis for news. It is the age of the data when nothing happens.
pub const BLOCK: Duration = Duration::from_millis(250);

/// Time that a writer waits for replicas.
pub const REPLICA_WAIT: Duration = Duration::from_secs(1);

/// Shortest interval of lookups of the primaries after failures.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Validity of a majority's statement about partitions whose primary has failed.
const LOST_LIFE: Duration = Duration::from_secs(3);

/// Interval at which voters are asked for the primaries.
const WATCH_PAUSE: Duration = Duration::from_millis(250);

/// Purpose of a connection. Each has its own, because a blocking command delays all later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionPurpose {
    /// Lookups, many at once.
    Ask,
    /// Scripts that write, and the wait for replicas.
    Write,
    /// Blocking reads of the stream.
    Follow,
}

/// The primary of each partition, as far as this node knows.
pub struct Primaries {
    settings: Settings,
    known: Mutex<KnownPrimaries>,
    /// Voters and connections. One task asks at a time; others use its result.
    quorum: tokio::sync::Mutex<TopologyQuorum>,
}

#[derive(Default)]
struct KnownPrimaries {
    of: PartitionPrimaries,
    /// A bit for each partition whose primary a majority calls failed.
    lost: u16,
    /// When voters were asked, the last time that a majority answered.
    asked: Moment,
    looked: Option<Instant>,
    doubted: bool,
    /// Index of the host to ask first. It changes each time, because an isolated host answers too.
    turn: usize,
}

impl Primaries {
    /// Returns primaries that are not known yet. A task keeps looking for them as long as this value lives.
    pub fn new(settings: Settings) -> Arc<Primaries> {
        let primaries = Arc::new(Primaries {
            settings,
            known: Mutex::default(),
            quorum: tokio::sync::Mutex::default(),
        });
        if primaries.settings.place.topology != Topology::Single {
            tokio::spawn(watch(Arc::downgrade(&primaries)));
        }
        primaries
    }

    /// Returns the configured servers.
    pub fn place(&self) -> &StoreUrl {
        &self.settings.place
    }

    /// Returns the primary of a partition, if known.
    pub fn of(&self, partition: usize) -> Option<Address> {
        self.known().of[partition].clone()
    }

    /// Returns each primary once.
    ///
    /// # Errors
    ///
    /// `Away` if a partition has no known primary.
    pub async fn all(&self) -> Result<Vec<Address>, Error> {
        self.look().await?;
        let mut all: Vec<Address> = self.known().of.iter().flatten().cloned().collect();
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// Returns up to when a majority of voters vouches for a primary; None once another is named. A server that was isolated or
    /// slept still answers, with old data.
    fn vouched(&self, partition: usize, address: &Address, now: Moment) -> Option<Moment> {
        let known = self.known();
        if known.of[partition].as_ref() != Some(address) {
            return None;
        }
        Some(self.asked(&known).min(now))
    }

    /// Returns up to when all primaries are vouched for.
    pub fn as_of(&self, now: Moment) -> Moment {
        self.asked(&self.known()).min(now)
    }

    /// Returns a bit for each partition whose primary a majority calls failed, while that is valid. No node has more of it.
    pub fn lost(&self, now: Moment) -> u16 {
        let known = self.known();
        match now.since(self.asked(&known).min(now)) <= LOST_LIFE {
            true => known.lost,
            false => 0,
        }
    }

    /// Returns when a majority last named the primaries; a single server needs none.
    fn asked(&self, known: &KnownPrimaries) -> Moment {
        match self.settings.place.topology {
            Topology::Single => Moment(u64::MAX),
            Topology::Sentinel { .. } | Topology::Cluster => known.asked,
        }
    }

    /// Marks the known primaries as doubtful: the next connection looks them up again.
    pub fn doubt(&self) {
        self.known().doubted = true;
    }

    fn known(&self) -> std::sync::MutexGuard<'_, KnownPrimaries> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self) -> Result<(), Error> {
        let mut quorum = self.quorum.lock().await;
        let (turn, wait) = {
            let known = self.known();
            if known.looked.is_some() && !known.doubted {
                return Ok(());
            }
            let since = known.looked.map(|looked| looked.elapsed());
            let wait = since.and_then(|since| LOOK_PAUSE.checked_sub(since));
            (known.turn, wait)
        };
        if let Some(wait) = wait {
            tokio::time::sleep(wait).await;
        }
        let asked = Moment::now();
        let found = match &self.settings.place.topology {
            Topology::Single => {
                let only = &self.settings.place.hosts[0];
                Ok(Elected {
                    of: std::array::from_fn(|_| Some(only.clone())),
                    lost: 0,
                })
            }
            Topology::Sentinel { .. } => quorum.vote(&self.settings).await,
            Topology::Cluster => match quorum.vote(&self.settings).await {
                Ok(of) => Ok(of),
                // Over half of the voters are gone, or none is known: the table of any node names them.
                Err(_) => match quorum.find(&self.settings, turn).await {
                    Ok(()) => quorum.vote(&self.settings).await,
                    Err(error) => Err(error),
                },
            },
        };
        let mut known = self.known();
        known.looked = Some(Instant::now());
        known.turn = turn.wrapping_add(1);
        known.doubted = found.is_err();
        let found = found?;
        known.of = found.of;
        known.lost = found.lost;
        known.asked = asked;
        Ok(())
    }

    async fn connect(
        &self,
        partition: usize,
        purpose: ConnectionPurpose,
    ) -> Result<(Address, MultiplexedConnection), Error> {
        self.look().await?;
        let address = self.of(partition).ok_or_else(|| {
            Error::Away(format!(
                "no primary for slot {}",
                partition::slot(partition)
            ))
        })?;
        let timeout = match purpose {
            ConnectionPurpose::Ask => ASK_TIMEOUT,
            ConnectionPurpose::Write => REPLICA_WAIT + ASK_TIMEOUT,
            ConnectionPurpose::Follow => BLOCK + CONNECT_TIMEOUT,
        };
        let connected = async {
            let mut link = dial(&self.settings, &address, Login::Server, timeout).await?;
            let role: Value = redis::cmd("ROLE").query_async(&mut link).await?;
            if !is_primary(&role) {
                return Ok(Err(Error::Away(format!("{address} is not a primary"))));
            }
            if purpose == ConnectionPurpose::Write {
                TAKE.prepare_invoke().load_async(&mut link).await?;
            }
            Ok(Ok(link))
        };
        match connected.await {
            Ok(Ok(link)) => Ok((address, link)),
            Ok(Err(error)) => {
                self.doubt();
                Err(error)
            }
            Err(error) => {
                self.doubt();
                Err(said(&address, &error))
            }
        }
    }

    /// Returns a connection to one server of any role.
    ///
    /// # Errors
    ///
    /// The server cannot be reached or refuses the login.
    pub async fn dial(&self, address: &Address) -> Result<MultiplexedConnection, Error> {
        dial(&self.settings, address, Login::Server, ASK_TIMEOUT)
            .await
            .map_err(|error| said(address, &error))
    }
}

/// Returns whether a reply of `ROLE` begins with `master`.
pub fn is_primary(role: &Value) -> bool {
    let Value::Array(parts) = role else {
        return false;
    };
    match parts.first() {
        Some(Value::BulkString(role)) => role == b"master",
        Some(Value::SimpleString(role)) => role == "master",
        _ => false,
    }
}

/// Returns the replicas that a primary's `ROLE` lists: those with all data. It lists dead ones until it notices.
pub fn replicas_in(role: &Value) -> Vec<Address> {
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    let Value::Array(parts) = role else {
        return Vec::new();
    };
    let Some(Value::Array(replicas)) = parts.get(2) else {
        return Vec::new();
    };
    let address = |replica: &Value| match replica {
        Value::Array(parts) => Some(Address {
            host: text(parts.first()?)?,
            port: text(parts.get(1)?)?.parse().ok()?,
        }),
        _ => None,
    };
    replicas.iter().filter_map(address).collect()
}

/// Asks the voters again and again, as long as the primaries are in use.
async fn watch(primaries: std::sync::Weak<Primaries>) {
    let _critical = CriticalTask("the watch of primaries");
    loop {
        tokio::time::sleep(WATCH_PAUSE).await;
        let Some(primaries) = primaries.upgrade() else {
            return;
        };
        primaries.doubt();
        if let Err(error) = primaries.look().await {
            tracing::debug!(%error, "no majority of the voters names the primaries");
        }
    }
}

/// A connection to the primary of one partition, made on demand and again after each failure.
pub struct PrimaryConnection {
    primaries: Arc<Primaries>,
    partition: usize,
    purpose: ConnectionPurpose,
    held: Option<(Address, MultiplexedConnection)>,
}

impl PrimaryConnection {
    /// Returns a connection that is made on demand.
    pub fn new(
        primaries: Arc<Primaries>,
        partition: usize,
        purpose: ConnectionPurpose,
    ) -> PrimaryConnection {
        PrimaryConnection {
            primaries,
            partition,
            purpose,
            held: None,
        }
    }

    /// Returns the connection; a new one if the last one failed or the primary changed.
    ///
    /// # Errors
    ///
    /// No primary is known, or it cannot be reached.
    pub async fn get(&mut self) -> Result<MultiplexedConnection, Error> {
        if let Some(link) = self.held() {
            return Ok(link);
        }
        self.held = None;
        let (address, link) = self.primaries.connect(self.partition, self.purpose).await?;
        self.held = Some((address, link.clone()));
        Ok(link)
    }

    /// Returns the existing connection if it leads to the current primary.
    pub fn held(&self) -> Option<MultiplexedConnection> {
        let (_, link) = self.held.as_ref().filter(|_| self.is_current())?;
        Some(link.clone())
    }

    /// Returns up to when the server at the other end is vouched for; None once another is named.
    pub fn vouched(&self, now: Moment) -> Option<Moment> {
        let (address, _) = self.held.as_ref()?;
        self.primaries.vouched(self.partition, address, now)
    }

    /// Returns whether there is a connection to the current primary.
    pub fn is_current(&self) -> bool {
        let known = self.primaries.of(self.partition);
        self.held.as_ref().map(|(address, _)| address) == known.as_ref() && known.is_some()
    }

    /// Drops the connection: after a time-out, late replies may still arrive on it.
    pub fn cut(&mut self) {
        self.held = None;
        self.primaries.doubt();
    }

    /// Returns our error for one of the library, and drops the connection.
    pub fn failed(&mut self, error: &RedisError) -> Error {
        let error = match &self.held {
            Some((address, _)) => said(address, error),
            None => Error::Away(error.to_string()),
        };
        self.cut();
        error
    }
}
