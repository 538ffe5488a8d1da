//! One connection to one server: address, password, TLS, time-outs. Every other file gets its connections here.

use super::place::{Address, Place};
use crate::store::Error;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ClientTlsConfig, ConnectionAddr, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, RedisConnectionInfo, RedisError, TlsCertificates,
};
use std::path::PathBuf;
use std::time::Duration;

/// To connect, and for the greeting.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

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

/// Connects. `with_password` is false for servers that may have none, as sentinels.
pub async fn dial(
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

/// What an error of the library means to us.
pub fn said(address: &Address, error: &RedisError) -> Error {
    let why = format!("{address}: {error}");
    // Of an error within a pipeline the library knows no code.
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
