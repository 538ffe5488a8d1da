//! Who the primary of each partition is, and connections to it.
//!
//! One code path for a single server, Sentinel and Cluster: a majority of those who elect primaries names one, we connect
//! and make sure that it is one. The library's own Sentinel and Cluster clients have waits without a deadline and one
//! connection for everything; sixteen fixed slots need neither.

use super::dial::{CONNECT_TIMEOUT, Login, Settings, dial, said};
use super::partition;
use super::quorum::{Elected, PartitionPrimaries, TopologyQuorum};
use super::scripts::TAKE;
use super::url::{Address, StoreUrl, Topology};
use crate::clock::Moment;
use crate::critical::CriticalTask;
use crate::store::Error;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For a reply that waits for nothing. A primary that computes for longer is no use to anybody who waits.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// A reader waits this long in Redis for news; it is how old knowledge gets when nothing happens.
pub const BLOCK: Duration = Duration::from_millis(250);

/// A writer waits this long for replicas to have its write.
pub const REPLICA_WAIT: Duration = Duration::from_secs(1);

/// What was looked up is looked up again after a failure, but not more often than this.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// What a majority said of lost partitions holds for so long.
const LOST_LIFE: Duration = Duration::from_secs(3);

/// Electors are asked this often who the primaries are.
const WATCH_PAUSE: Duration = Duration::from_millis(250);

/// What a connection is for. Each has its own: one that blocks holds up all that is sent behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionPurpose {
    /// Look-ups, many at once.
    Ask,
    /// Scripts that write, and the wait for replicas.
    Write,
    /// Blocking reads of a stream.
    Follow,
}

/// Who the primary of each partition is, as far as this node knows.
pub struct Primaries {
    settings: Settings,
    known: Mutex<KnownPrimaries>,
    /// One looks at a time, on connections that it keeps; the others take what it found.
    quorum: tokio::sync::Mutex<TopologyQuorum>,
}

#[derive(Default)]
struct KnownPrimaries {
    of: PartitionPrimaries,
    /// A bit for each partition that a majority says is lost.
    lost: u16,
    /// When it was asked who the primaries are, the last time that a majority answered.
    asked: Moment,
    looked: Option<Instant>,
    doubted: bool,
    /// Which host is asked first: another each time, for one that is cut off from the rest answers too.
    turn: usize,
}

impl Primaries {
    /// Returns primaries that are not known yet. A task looks for them as long as anybody holds these.
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

    /// Returns the servers that were set.
    pub fn place(&self) -> &StoreUrl {
        &self.settings.place
    }

    /// The primary of a partition, as far as we know.
    pub fn of(&self, partition: usize) -> Option<Address> {
        self.known().of[partition].clone()
    }

    /// Every primary, once.
    pub async fn all(&self) -> Result<Vec<Address>, Error> {
        self.look().await?;
        let mut all: Vec<Address> = self.known().of.iter().flatten().cloned().collect();
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// Up to when a primary is vouched for by a majority of those who elect one; None once another is named. A server that
    /// was cut off, or slept while it was replaced, goes on answering, and what it says is of then, not of now.
    fn vouched(&self, partition: usize, address: &Address, now: Moment) -> Option<Moment> {
        let known = self.known();
        if known.of[partition].as_ref() != Some(address) {
            return None;
        }
        Some(self.asked(&known).min(now))
    }

    /// Up to when all primaries are vouched for.
    pub fn as_of(&self, now: Moment) -> Moment {
        self.asked(&self.known()).min(now)
    }

    /// A bit for each partition that a majority says is lost, for as long as it says so: no node can know more of it.
    pub fn lost(&self, now: Moment) -> u16 {
        let known = self.known();
        match now.since(self.asked(&known).min(now)) <= LOST_LIFE {
            true => known.lost,
            false => 0,
        }
    }

    /// When a majority last named the primaries; a single server needs nobody to.
    fn asked(&self, known: &KnownPrimaries) -> Moment {
        match self.settings.place.topology {
            Topology::Single => Moment(u64::MAX),
            Topology::Sentinel { .. } | Topology::Cluster => known.asked,
        }
    }

    /// What we know may be wrong: the next to connect looks again.
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
                // More than half of them are gone, or none is known yet: anybody's table says who they are now.
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
                return Ok(Err(Error::Away(format!("{address} is no primary"))));
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

    /// A connection to one server, whatever it is.
    pub async fn dial(&self, address: &Address) -> Result<MultiplexedConnection, Error> {
        dial(&self.settings, address, Login::Server, ASK_TIMEOUT)
            .await
            .map_err(|error| said(address, &error))
    }
}

/// As the library prints `ROLE`: `master`, then the rest.
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

/// Returns the replicas that follow a primary, as its `ROLE` says: those that have the whole data, dead ones until it notices.
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

/// Keeps asking the voters, for as long as anybody needs to know.
async fn watch(primaries: std::sync::Weak<Primaries>) {
    let _critical = CriticalTask("the watch of primaries");
    loop {
        tokio::time::sleep(WATCH_PAUSE).await;
        let Some(primaries) = primaries.upgrade() else {
            return;
        };
        primaries.doubt();
        if let Err(error) = primaries.look().await {
            tracing::debug!(%error, "no majority names the primaries");
        }
    }
}

/// A connection to the primary of one partition, made when it is needed and again after every failure.
pub struct PrimaryConnection {
    primaries: Arc<Primaries>,
    partition: usize,
    purpose: ConnectionPurpose,
    held: Option<(Address, MultiplexedConnection)>,
}

impl PrimaryConnection {
    /// Returns a connection that is made when it is needed.
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

    /// Returns the connection, made anew where the last one failed or the primary is another.
    pub async fn get(&mut self) -> Result<MultiplexedConnection, Error> {
        if let Some(link) = self.held() {
            return Ok(link);
        }
        self.held = None;
        let (address, link) = self.primaries.connect(self.partition, self.purpose).await?;
        self.held = Some((address, link.clone()));
        Ok(link)
    }

    /// The connection that was made before, if it leads to whom we believe to be the primary now.
    pub fn held(&self) -> Option<MultiplexedConnection> {
        let (_, link) = self.held.as_ref().filter(|_| self.is_current())?;
        Some(link.clone())
    }

    /// Up to when the server at the other end is vouched for; None once another is named.
    pub fn vouched(&self, now: Moment) -> Option<Moment> {
        let (address, _) = self.held.as_ref()?;
        self.primaries.vouched(self.partition, address, now)
    }

    /// Whether there is a connection, and to whom we believe to be the primary now.
    pub fn is_current(&self) -> bool {
        let known = self.primaries.of(self.partition);
        self.held.as_ref().map(|(address, _)| address) == known.as_ref() && known.is_some()
    }

    /// After an error: a library's time-out leaves a connection on which late replies may still come.
    pub fn cut(&mut self) {
        self.held = None;
        self.primaries.doubt();
    }

    /// What went wrong, in our words; the connection is given up.
    pub fn failed(&mut self, error: &RedisError) -> Error {
        let error = match &self.held {
            Some((address, _)) => said(address, error),
            None => Error::Away(error.to_string()),
        };
        self.cut();
        error
    }
}
