//! Who the primary of each partition is, and connections to it.
//!
//! One code path for a single server, Sentinel and Cluster: look up an address, connect, make sure that it is a primary. The
//! library's own Sentinel and Cluster clients have waits without a deadline and one connection for everything; sixteen
//! fixed slots need neither.

use super::partition::{self, PARTITIONS};
use super::place::{Address, Place, Topology};
use super::scripts::TAKE;
use crate::clock::Time;
use crate::store::Error;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ClientTlsConfig, ConnectionAddr, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, RedisConnectionInfo, RedisError, TlsCertificates, Value,
};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// To connect, and for the greeting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// For a reply that waits for nothing. A primary that computes for longer is no use to anybody who waits.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// A reader waits this long in Redis for news; it is how old knowledge gets when nothing happens.
pub const BLOCK: Duration = Duration::from_millis(250);

/// A writer waits this long for replicas to have its write.
pub const REPLICA_WAIT: Duration = Duration::from_secs(1);

/// What was looked up is looked up again after a failure, but not more often than this.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Sentinels are asked this often who the primary is.
const WATCH_PAUSE: Duration = Duration::from_millis(500);

/// What a connection needs beside an address.
#[derive(Clone, Debug)]
pub struct Settings {
    pub place: Place,
    /// Read at every connection, so that a changed password needs no restart; instead of the address's.
    pub password_file: Option<PathBuf>,
    /// PEM: who signed the servers' certificates; the system's authorities without it.
    pub ca: Option<PathBuf>,
    /// PEM: our certificate and its key, where servers ask for one.
    pub cert: Option<(PathBuf, PathBuf)>,
}

/// What a connection is for. Each has its own: one that blocks holds up all that is sent behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Look-ups, many at once.
    Ask,
    /// Scripts that write, and the wait for replicas.
    Write,
    /// Blocking reads of a stream.
    Follow,
}

pub struct Primaries {
    settings: Settings,
    known: Mutex<Known>,
    /// One looks at a time; the others take what it found.
    looking: tokio::sync::Mutex<()>,
    /// When a majority of sentinels last named the primary that we know.
    vouched: AtomicU64,
}

#[derive(Default)]
struct Known {
    of: [Option<Address>; PARTITIONS],
    looked: Option<Instant>,
    doubted: bool,
    /// Which host is asked first: another each time, for one that is cut off from the rest answers too.
    turn: usize,
}

impl Primaries {
    pub fn new(settings: Settings) -> Arc<Primaries> {
        let primaries = Arc::new(Primaries {
            settings,
            known: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            vouched: AtomicU64::new(0),
        });
        if matches!(primaries.settings.place.topology, Topology::Sentinel { .. }) {
            tokio::spawn(watch(Arc::downgrade(&primaries)));
        }
        primaries
    }

    pub fn place(&self) -> &Place {
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

    /// Up to when the primaries that we know are vouched for by whoever names them. A server that was cut off from the rest
    /// goes on answering, and what it says is of then, not of now. A cluster's node stops by itself.
    pub fn vouched(&self, now: Time) -> Time {
        match self.settings.place.topology {
            Topology::Sentinel { .. } => Time(self.vouched.load(Relaxed)).min(now),
            Topology::Single | Topology::Cluster => now,
        }
    }

    /// What we know may be wrong: the next to connect looks again.
    pub fn doubt(&self) {
        self.known().doubted = true;
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self) -> Result<(), Error> {
        let _one = self.looking.lock().await;
        let (turn, wait) = {
            let known = self.known();
            if known.looked.is_some() && !known.doubted {
                return Ok(());
            }
            let since = known.looked.map(|looked| looked.elapsed());
            (
                known.turn,
                since.and_then(|since| LOOK_PAUSE.checked_sub(since)),
            )
        };
        if let Some(wait) = wait {
            tokio::time::sleep(wait).await;
        }
        let found = match &self.settings.place.topology {
            Topology::Single => Ok(std::array::from_fn(|_| {
                Some(self.settings.place.hosts[0].clone())
            })),
            Topology::Sentinel { name } => self.ask_sentinels(name).await,
            Topology::Cluster => self.ask_cluster(turn).await,
        };
        let mut known = self.known();
        known.looked = Some(Instant::now());
        known.turn = turn.wrapping_add(1);
        known.doubted = found.is_err();
        known.of = found?;
        Ok(())
    }

    /// The primary that a majority of all sentinels names.
    async fn ask_sentinels(&self, name: &str) -> Result<[Option<Address>; PARTITIONS], Error> {
        let asked = Time::now();
        let hosts = &self.settings.place.hosts;
        let mut answers = JoinSet::new();
        for host in hosts {
            let (settings, host, name) = (self.settings.clone(), host.clone(), name.to_owned());
            answers.spawn(async move { ask_sentinel(&settings, &host, &name).await });
        }
        let mut named: Vec<Address> = Vec::new();
        let mut why = "none answers".to_owned();
        while let Some(answer) = answers.join_next().await {
            match answer {
                Ok(Ok(Some(address))) => named.push(address),
                Ok(Ok(None)) => why = format!("they do not know {name}"),
                Ok(Err(error)) => why = error.to_string(),
                Err(error) => why = error.to_string(),
            }
        }
        let most = hosts.len() / 2 + 1;
        let named_by = |address: &Address| named.iter().filter(|other| *other == address).count();
        match named.iter().find(|address| named_by(address) >= most) {
            Some(address) => {
                self.vouched.fetch_max(asked.0, Relaxed);
                Ok(std::array::from_fn(|_| Some(address.clone())))
            }
            None => Err(Error::Away(format!(
                "no majority of {} sentinels names a primary of {name}: {why}",
                hosts.len()
            ))),
        }
    }

    /// The primaries of our slots, as one node of the cluster knows them.
    async fn ask_cluster(&self, turn: usize) -> Result<[Option<Address>; PARTITIONS], Error> {
        let mut hosts = self.settings.place.hosts.clone();
        for known in self.known().of.iter().flatten() {
            if !hosts.contains(known) {
                hosts.push(known.clone());
            }
        }
        let first = turn % hosts.len();
        hosts.rotate_left(first);
        let mut why = String::new();
        for host in hosts {
            match ask_slots(&self.settings, &host).await {
                Ok(of) => return Ok(of),
                Err(error) => why = format!("{host}: {error}"),
            }
        }
        Err(Error::Away(why))
    }

    async fn connect(
        &self,
        partition: usize,
        purpose: Purpose,
    ) -> Result<(Address, MultiplexedConnection), Error> {
        self.look().await?;
        let address = self.of(partition).ok_or_else(|| {
            Error::Away(format!(
                "no primary for slot {}",
                partition::slot(partition)
            ))
        })?;
        let timeout = match purpose {
            Purpose::Ask => ASK_TIMEOUT,
            Purpose::Write => REPLICA_WAIT + ASK_TIMEOUT,
            Purpose::Follow => BLOCK + CONNECT_TIMEOUT,
        };
        let connected = async {
            let mut link = dial(&self.settings, &address, true, timeout).await?;
            let role: Value = redis::cmd("ROLE").query_async(&mut link).await?;
            if !is_primary(&role) {
                return Ok(Err(Error::Away(format!("{address} is no primary"))));
            }
            if purpose == Purpose::Write {
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
        dial(&self.settings, address, true, ASK_TIMEOUT)
            .await
            .map_err(|error| said(address, &error))
    }
}

/// What an error of the library means to us.
pub fn said(address: &Address, error: &RedisError) -> Error {
    let why = format!("{address}: {error}");
    let code = error.code().unwrap_or_default();
    match error.kind() {
        _ if code == "FOREIGNRING" => Error::ForeignRing(address.to_string()),
        ErrorKind::AuthenticationFailed
        | ErrorKind::InvalidClientConfig
        | ErrorKind::RESP3NotSupported => Error::Refused(why),
        _ if matches!(code, "NOAUTH" | "WRONGPASS" | "NOPERM" | "NOPROTO") => Error::Refused(why),
        _ if error.is_timeout() => Error::Stuck(why),
        _ => Error::Away(why),
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

/// Keeps asking the sentinels, for as long as anybody needs to know.
async fn watch(primaries: std::sync::Weak<Primaries>) {
    loop {
        tokio::time::sleep(WATCH_PAUSE).await;
        let Some(primaries) = primaries.upgrade() else {
            return;
        };
        primaries.doubt();
        if let Err(error) = primaries.look().await {
            tracing::debug!(%error, "the sentinels do not agree");
        }
    }
}

async fn ask_sentinel(
    settings: &Settings,
    host: &Address,
    name: &str,
) -> Result<Option<Address>, RedisError> {
    // Sentinels often have no password where the servers have one.
    let mut link = match dial(settings, host, false, CONNECT_TIMEOUT).await {
        Err(error) if error.code() == Some("NOAUTH") => {
            dial(settings, host, true, CONNECT_TIMEOUT).await?
        }
        link => link?,
    };
    let address: Option<(String, u16)> = redis::cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(name)
        .query_async(&mut link)
        .await?;
    Ok(address.map(|(host, port)| Address { host, port }))
}

async fn ask_slots(
    settings: &Settings,
    asked: &Address,
) -> Result<[Option<Address>; PARTITIONS], RedisError> {
    /// First slot, last slot, then the nodes: the primary, and its replicas.
    type Row = (u16, u16, Vec<Value>);
    let mut link = dial(settings, asked, true, CONNECT_TIMEOUT).await?;
    let rows: Vec<Value> = redis::cmd("CLUSTER")
        .arg("SLOTS")
        .query_async(&mut link)
        .await?;
    let mut of = [const { None }; PARTITIONS];
    for row in rows {
        let Value::Array(mut parts) = row else {
            continue;
        };
        if parts.len() < 3 {
            continue;
        }
        let nodes = parts.split_off(2);
        let (first, last, nodes): Row = match (&parts[0], &parts[1]) {
            (Value::Int(first), Value::Int(last)) => (*first as u16, *last as u16, nodes),
            _ => continue,
        };
        let Some(primary) = nodes.first().and_then(|node| address_of(node, asked)) else {
            continue;
        };
        for (nth, of) in of.iter_mut().enumerate() {
            if (first..=last).contains(&partition::slot(nth)) {
                *of = Some(primary.clone());
            }
        }
    }
    Ok(of)
}

/// Host and port of a node as `CLUSTER SLOTS` tells them; a node that does not know its own host has that by which it was asked.
fn address_of(node: &Value, asked: &Address) -> Option<Address> {
    let Value::Array(parts) = node else {
        return None;
    };
    let host = match parts.first()? {
        Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
        _ => String::new(),
    };
    let Value::Int(port) = parts.get(1)? else {
        return None;
    };
    Some(Address {
        host: match host.as_str() {
            "" | "?" => asked.host.clone(),
            _ => host,
        },
        port: u16::try_from(*port).ok()?,
    })
}

async fn dial(
    settings: &Settings,
    address: &Address,
    with_password: bool,
    response_timeout: Duration,
) -> Result<MultiplexedConnection, RedisError> {
    let unreadable = |error: std::io::Error| {
        RedisError::from((
            ErrorKind::InvalidClientConfig,
            "a file of the store's settings cannot be read",
            error.to_string(),
        ))
    };
    let read = |path: &PathBuf| std::fs::read(path).map_err(unreadable);
    let Place { user, password, .. } = &settings.place;
    let mut redis = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_skip_set_lib_name();
    if with_password {
        redis = redis.set_db(settings.place.db);
        let password = match &settings.password_file {
            Some(path) => Some(
                std::fs::read_to_string(path)
                    .map_err(unreadable)?
                    .trim_end_matches(['\r', '\n'])
                    .to_owned(),
            ),
            None => password.clone(),
        };
        if let Some(password) = password {
            redis = redis.set_password(password);
        }
        if let Some(user) = user {
            redis = redis.set_username(user);
        }
    }
    let (host, port) = (address.host.clone(), address.port);
    let address = match settings.place.tls {
        false => ConnectionAddr::Tcp(host, port),
        true => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
    };
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(3))
        .with_retries(3);
    let tcp = redis::io::tcp::TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive)
        .set_user_timeout(Duration::from_secs(8));
    let info = address
        .into_connection_info()?
        .set_redis_settings(redis)
        .set_tcp_settings(tcp);
    let client = match settings.place.tls {
        false => redis::Client::open(info)?,
        true => redis::Client::build_with_tls(
            info,
            TlsCertificates {
                client_tls: match &settings.cert {
                    Some((cert, key)) => Some(ClientTlsConfig {
                        client_cert: read(cert)?,
                        client_key: read(key)?,
                    }),
                    None => None,
                },
                root_cert: settings.ca.as_ref().map(read).transpose()?,
            },
        )?,
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(response_timeout))
        .set_pipeline_buffer_size(1024);
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

/// A connection to the primary of one partition, made when it is needed and again after every failure.
pub struct Link {
    primaries: Arc<Primaries>,
    partition: usize,
    purpose: Purpose,
    held: Option<(Address, MultiplexedConnection)>,
}

impl Link {
    pub fn new(primaries: Arc<Primaries>, partition: usize, purpose: Purpose) -> Link {
        Link {
            primaries,
            partition,
            purpose,
            held: None,
        }
    }

    pub async fn get(&mut self) -> Result<MultiplexedConnection, Error> {
        if let Some((_, link)) = self.held.as_ref().filter(|_| self.is_current()) {
            return Ok(link.clone());
        }
        self.held = None;
        let (address, link) = self.primaries.connect(self.partition, self.purpose).await?;
        self.held = Some((address, link.clone()));
        Ok(link)
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
