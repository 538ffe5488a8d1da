//! One connection to one server: address, password, TLS, time-outs. All other files get their connections here.

use super::url::{Address, StoreUrl};
use crate::store::error::Error;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ClientTlsConfig, ConnectionAddr, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, RedisConnectionInfo, RedisError, TlsCertificates,
};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time to connect and log in.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Settings of connections.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The servers.
    pub place: StoreUrl,
    /// File with the password, read at every connection, so that a change needs no restart. It replaces the password in the
    /// address.
    pub password_file: Option<PathBuf>,
    /// Login of sentinels, if it differs from that of the servers.
    pub sentinel: Option<SentinelLogin>,
    /// PEM file with the authority of the servers' certificates; None for the system's authorities.
    pub ca: Option<PathBuf>,
    /// PEM files with the client certificate and its key, if servers ask for one.
    pub cert: Option<(PathBuf, PathBuf)>,
}

/// Login of sentinels.
#[derive(Clone, Debug)]
pub struct SentinelLogin {
    /// User of the access-control list; None for the default user.
    pub user: Option<String>,
    /// File with the password, read at every connection.
    pub password_file: PathBuf,
}

/// Login of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// Login of a server: user, password and database of the settings.
    Server,
    /// Own login of a sentinel.
    Sentinel,
    /// Login of a sentinel with the servers' password and without a database.
    SentinelAsServer,
    /// No login, for a sentinel.
    Nobody,
}

/// Longest password in bytes.
const PASSWORD_BYTES_MAX: u64 = 4_096;

/// Reads a password file: its first and only line.
///
/// # Errors
///
/// The file cannot be read, is too long, or has more than one line.
pub fn read_password(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(PASSWORD_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    let line = text.trim_end_matches(['\r', '\n']);
    let bad = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    match line {
        "" => bad("holds no password"),
        line if line.contains(['\r', '\n']) => bad("holds more than one line"),
        line if line.len() as u64 > PASSWORD_BYTES_MAX => bad("holds more than 4096 bytes"),
        line => Ok(line.to_owned()),
    }
}

/// Connects and logs in.
///
/// # Errors
///
/// The server cannot be reached in time or refuses the login.
pub async fn dial(
    settings: &Settings,
    address: &Address,
    login: Login,
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
    let password_of = |path: &PathBuf| read_password(path).map_err(unreadable).map(Some);
    let place = &settings.place;
    let mut redis = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_skip_set_lib_name();
    let (user, password) = match (login, &settings.sentinel) {
        (Login::Server | Login::SentinelAsServer, _) => {
            let password = match &settings.password_file {
                Some(path) => password_of(path)?,
                None => place.password.clone(),
            };
            (place.user.clone(), password)
        }
        (Login::Sentinel, Some(own)) => (own.user.clone(), password_of(&own.password_file)?),
        (Login::Sentinel, None) | (Login::Nobody, _) => (None, None),
    };
    if login == Login::Server {
        redis = redis.set_db(place.db);
    }
    if let Some(password) = password {
        redis = redis.set_password(password);
    }
    if let Some(user) = user {
        redis = redis.set_username(user);
    }
    let (host, port) = (address.host.clone(), address.port);
    let address = match (address.socket(), place.tls) {
        (Some(path), _) => ConnectionAddr::Unix(path.into()),
        (None, false) => ConnectionAddr::Tcp(host, port),
        (None, true) => ConnectionAddr::TcpTls {
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

/// Sends one command. Errors name the server.
///
/// # Errors
///
/// The error of the server or the connection.
pub async fn ask<T: redis::FromRedisValue>(
    link: &mut MultiplexedConnection,
    address: &Address,
    command: &redis::Cmd,
) -> Result<T, Error> {
    command
        .query_async(link)
        .await
        .map_err(|error| said(address, &error))
}

/// Returns our error for one of the library.
pub fn said(address: &Address, error: &RedisError) -> Error {
    let why = format!("{address}: {error}");
    // The library gives no code for an error inside a pipeline.
    let within = error.clone().into_server_errors();
    let code = error.code().or_else(|| {
        let (_, first) = within.as_deref()?.first()?;
        Some(first.code())
    });
    let code = code.unwrap_or_default();
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
