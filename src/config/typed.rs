//! The settings of a node, typed.

use crate::exchange::ExchangeSettings;
use crate::http::door::Door;
use crate::http::doors;
use crate::logging::LogFormat;
use crate::paper::Retention;
use crate::recognition::recogniser::RecognitionSettings;
use crate::store::redis;
use crate::{board, http, identity, seal, service, traces};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Settings of the store.
#[derive(Clone, Debug)]
pub enum StoreSettings {
    /// The embedded store in this directory.
    Embedded(PathBuf),
    /// Redis servers.
    Redis(Box<redis::Settings>),
}

impl StoreSettings {
    /// Returns the directory of the embedded store; None for Redis.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            StoreSettings::Embedded(folder) => Some(folder),
            StoreSettings::Redis(_) => None,
        }
    }
}

/// All settings of a node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The store.
    pub store: StoreSettings,
    /// File of the key ring.
    pub keys: PathBuf,
    /// Longest validity of an offline code, even if none are issued.
    pub offline_life_max: Duration,
    /// The doors, each with its settings.
    pub doors: Vec<(Door, doors::Settings)>,
    /// Address of the agent port; None to open none.
    pub agent: Option<SocketAddr>,
    /// The limits of one request.
    pub http: http::Settings,
    /// Settings of codes.
    pub seal: seal::Settings,
    /// Ages and size of the board.
    pub board: board::Settings,
    /// Settings of the service.
    pub service: service::Settings,
    /// The identity platform, whose assertions are accepted.
    pub identity: identity::Settings,
    /// Size of the embedded store's page cache in bytes.
    pub store_cache_bytes: usize,
    /// Time between `/ready` answering no and the doors closing.
    pub drain_delay: Duration,
    /// Time for running queries until their connections are cut.
    pub drain_timeout: Duration,
    /// Filter of log lines, as directives of `tracing`.
    pub log: String,
    /// Format of log lines.
    pub log_format: LogFormat,
    /// Settings of recognition; None if codes of other issuers are not recognised.
    pub recognition: Option<RecognitionSettings>,
    /// Settings of requests to other issuers.
    pub exchange: ExchangeSettings,
    /// Texts of release guidance.
    pub guidance: Option<PathBuf>,
    /// Display names of sources, organisations and sites.
    pub names: Option<PathBuf>,
    /// Retention of papers.
    pub keep: Retention,
    /// Interval of sweeps of papers past their retention.
    pub retention_sweep_interval: Duration,
    /// Settings of traces; None if they are switched off.
    pub traces: Option<traces::Settings>,
}
