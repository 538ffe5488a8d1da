//! Every setting: its name, default, bounds and meaning; and the typed settings of each module, read from file, environment and
//! command line.
//!
//! Precedence: defaults < file < environment (`LIANGMA_…`) < command line. All invalid and unknown settings are reported at
//! once.

mod files;
pub mod listing;

use crate::exchange::ExchangeSettings;
use crate::http::door::Door;
use crate::http::doors;
use crate::lists::ListSettings;
use crate::logging::LogFormat;
use crate::offline::issue::OfflineSettings;
use crate::paper::Retention;
use crate::recognition::recogniser::RecognitionSettings;
use crate::service::in_force::{SettingInForce, SettingsInForce};
use crate::store::redis;
use crate::store::redis::dial::{SentinelLogin, read_password};
use crate::store::redis::url::{StoreLocation, Topology, meant};
use crate::tls::ServerFiles;
use crate::traces::collector::Endpoint;
use crate::{admission, board, desk, http, identity, seal, service, store_client, traces};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Display;
use std::io::Read;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The settings: name, default, bounds, meaning. `docs/operate/settings.md` is generated from this list.
pub const SETTINGS: &[(&str, &str, &str, &str)] = &[
    (
        "store",
        "./liangma-data",
        "a directory, or `redis://…`, `rediss://…`, `redis+sentinel://…`, `redis+cluster://…`, the same with `valkey`, `unix:///…`",
        "where residents and statuses are kept",
    ),
    (
        "key_ring",
        "STORE/keys",
        "a file, mode 0600",
        "the key ring; required with Redis",
    ),
    (
        "resident",
        "127.0.0.1:8080",
        "address:port",
        "the resident door; port 0 takes a free one",
    ),
    ("gate", "127.0.0.1:8081", "address:port", "the gate door"),
    ("desk", "127.0.0.1:8082", "address:port", "the desk door"),
    (
        "ops",
        "127.0.0.1:9090",
        "address:port",
        "the operations door",
    ),
    (
        "agent",
        "none",
        "none, or address:port",
        "the agent port, which tells balancers how many requests a door can take, and that the node drains; for an inner network",
    ),
    (
        "balancers",
        "1",
        "1 to 1000",
        "balancers that share the numbers of the agent port and of `/ready`",
    ),
    (
        "doors",
        "resident,gate,desk,ops",
        "a list of these",
        "which doors to open",
    ),
    (
        "resident_tls_cert",
        "none",
        "a PEM file",
        "certificate chain of the resident door, which then uses TLS; it and its key are read again when they change",
    ),
    (
        "resident_tls_key",
        "none",
        "a PEM file",
        "and its private key",
    ),
    (
        "gate_tls_cert",
        "none",
        "a PEM file",
        "certificate chain of the gate door",
    ),
    ("gate_tls_key", "none", "a PEM file", "and its private key"),
    (
        "desk_tls_cert",
        "none",
        "a PEM file",
        "certificate chain of the desk door",
    ),
    ("desk_tls_key", "none", "a PEM file", "and its private key"),
    (
        "ops_tls_cert",
        "none",
        "a PEM file",
        "certificate chain of the operations door",
    ),
    ("ops_tls_key", "none", "a PEM file", "and its private key"),
    (
        "ops_client_ca",
        "none",
        "a PEM file",
        "authorities of client certificates at the operations door: clients without one are refused; needs `ops_tls_cert`",
    ),
    (
        "resident_threads",
        "cores",
        "1 to 256",
        "threads of the resident door",
    ),
    (
        "gate_threads",
        "cores",
        "1 to 256",
        "threads of the gate door",
    ),
    ("desk_threads", "1", "1 to 256", "threads of the desk door"),
    (
        "ops_threads",
        "1",
        "1 to 256",
        "threads of the operations door",
    ),
    (
        "resident_connections_max",
        "10000",
        "1 to 1000000",
        "connections that the resident door admits at most",
    ),
    (
        "gate_connections_max",
        "4000",
        "1 to 1000000",
        "connections that the gate door admits at most",
    ),
    (
        "desk_connections_max",
        "2000",
        "1 to 1000000",
        "connections that the desk door admits at most",
    ),
    (
        "ops_connections_max",
        "256",
        "1 to 1000000",
        "connections that the operations door admits at most",
    ),
    (
        "resident_niceness",
        "10",
        "0 to 19",
        "niceness of the threads of the resident and desk doors, so that gates go first",
    ),
    (
        "queue_delay_target",
        "60ms",
        "5ms to 5s",
        "queue delay (90th percentile) above which a door admits fewer connections; below three quarters of it the door admits more again",
    ),
    (
        "backlog",
        "256",
        "1 to 65535",
        "length of the kernel's accept queue of a door; clients in a long queue have often left",
    ),
    (
        "busy_answers_per_second",
        "10000",
        "0 to 100000",
        "answers `busy` of one full door at most; 0: none, new connections wait in the kernel",
    ),
    (
        "busy_cpu_percent",
        "5",
        "0 to 100",
        "share of the process's processor time for the answers `busy` of one full door; 20 a second are sent in any case",
    ),
    (
        "head_timeout",
        "5s",
        "100ms to 5m",
        "time for a request's head, and for a new connection's first byte",
    ),
    (
        "idle_timeout",
        "60s",
        "100ms to 1h",
        "time between two requests of a connection",
    ),
    (
        "stall_timeout",
        "10s",
        "100ms to 5m",
        "time without a byte read or written while a request is answered",
    ),
    (
        "answer_timeout",
        "30s",
        "100ms to 5m",
        "time for a whole answer",
    ),
    (
        "bulk_timeout",
        "5m",
        "100ms to 1h",
        "time for a whole bulk scan or feed",
    ),
    (
        "head_bytes_max",
        "8192",
        "1024 to 65536",
        "largest head of a request",
    ),
    (
        "bulk_lines_max",
        "100000",
        "1 to 10000000",
        "largest number of lines of a bulk scan",
    ),
    (
        "body_bytes_max",
        "64MiB",
        "64KiB to 1TiB",
        "memory for request bodies of one door: gathered ones, and bulk scans that are read ahead of their verdicts",
    ),
    (
        "body_timeout",
        "60s",
        "100ms to 5m",
        "time for the body of an organisation's declarations; other small bodies have head_timeout, after the head",
    ),
    (
        "feed_bytes_max",
        "1GiB",
        "1KiB to 1TiB",
        "largest body of a feed",
    ),
    (
        "code_life",
        "60s",
        "1s to 10m",
        "validity of a code after it was shown",
    ),
    (
        "clock_skew",
        "2s",
        "0ms to 30s",
        "allowed difference of two nodes' clocks",
    ),
    (
        "session_life",
        "24h",
        "1m to 90d",
        "validity of a session that an assertion opened",
    ),
    (
        "stale_after",
        "2s",
        "100ms to 10m",
        "older data is marked `stale`",
    ),
    (
        "too_old_after",
        "30s",
        "1s to 1h",
        "older data gives no colour, and the node is not ready",
    ),
    (
        "clock_offset_max",
        "5s",
        "500ms to 1h",
        "a node is not ready while its system's clock and that of Redis differ by more",
    ),
    (
        "board_shards",
        "2048",
        "16 to 65536, a power of two",
        "shards of the board; with thousands, a growing one delays no query noticeably",
    ),
    (
        "store_timeout",
        "5s",
        "10ms to 5m",
        "time that the desk and feeds wait for the store before `upstream_busy`",
    ),
    (
        "store_in_flight_max",
        "256",
        "1 to 65536",
        "largest number of queries in the store at once, and of writes beside them; below it the limit follows the store's latency",
    ),
    (
        "store_cache_bytes",
        "256MiB",
        "1MiB to 1TiB",
        "page cache of the embedded store",
    ),
    (
        "store_replicas",
        "auto",
        "auto, or 0 to 5",
        "replicas in Redis that must have a change before it is acknowledged; `auto`: 1, or 0 for a single server without replicas at the start",
    ),
    (
        "store_stream_entries_max",
        "100000",
        "1000 to 100000000",
        "changes that each of the 16 streams in Redis keeps for nodes that are behind",
    ),
    (
        "store_password_file",
        "none",
        "a file",
        "file with the password of Redis, in place of the one in the address; read at every connection, so that a change needs no restart",
    ),
    (
        "store_sentinel_user",
        "none",
        "text",
        "user of the sentinels; needs store_sentinel_password_file",
    ),
    (
        "store_sentinel_password_file",
        "none",
        "a file",
        "file with the password of the sentinels, if it differs from that of Redis; read at every connection",
    ),
    (
        "store_ca_file",
        "none",
        "a PEM file",
        "authorities of the certificates of `rediss://` servers; default: the system's",
    ),
    (
        "store_cert_file",
        "none",
        "a PEM file",
        "client certificate for `rediss://` servers that ask for one",
    ),
    ("store_cert_key_file", "none", "a PEM file", "and its key"),
    (
        "store_read_timeout",
        "250ms",
        "10ms to 5m",
        "time that a show or scan waits for the store, if memory cannot answer, before `upstream_busy`",
    ),
    (
        "record_cache_bytes",
        "64MiB",
        "1MiB to 1TiB",
        "cache of records and absences beside the board",
    ),
    (
        "desk_requests_per_second",
        "20",
        "1 to 10000",
        "log-ins and explanations a second for one resident",
    ),
    (
        "guidance_file",
        "none",
        "a TOML file",
        "texts of release guidance by reason and region, checked at the start; docs/integrate/api.md describes the file",
    ),
    (
        "names_file",
        "none",
        "a TOML file",
        "display names of sources, organisations and sites, checked at the start; docs/integrate/api.md describes the file",
    ),
    (
        "red_alarm_per_hour",
        "1000",
        "1 to 1000000000",
        "people whom one source may set red in an hour before an alarm (`liangma_red_alarms`); nothing is refused",
    ),
    (
        "family_members_max",
        "8",
        "0 to 64",
        "family members that one resident may add",
    ),
    (
        "shows_per_second",
        "2",
        "0 to 1000000",
        "shows of one resident, with ten seconds saved up, before `rate_limited`; 0 for no limit",
    ),
    (
        "scans_per_second",
        "50",
        "0 to 1000000",
        "scans with one scanner token, with ten seconds saved up, before `rate_limited`; 0 for no limit",
    ),
    (
        "gate_reasons",
        "none",
        "none, all",
        "reasons in answers to scans: none, or all",
    ),
    (
        "bulk_codes_per_second",
        "10000",
        "0 to 100000000",
        "lines of bulk scans with one scanner token, with `bulk_lines_max` saved up; beyond it bulk scans are slowed down, and few begin; 0 for no limit",
    ),
    (
        "bulk_scans_per_token",
        "2",
        "1 to 10000",
        "concurrent bulk scans with one scanner token; further ones are `rate_limited`",
    ),
    (
        "offline_issuer",
        "none",
        "six digits",
        "issuer of offline codes, a division of GB/T 2260; default: no offline codes",
    ),
    (
        "offline_life",
        "72h",
        "1h to 366d",
        "validity of an offline code in whole hours, if the caller asks for none",
    ),
    (
        "offline_life_max",
        "90d",
        "1h to 366d",
        "longest validity that a caller may ask for, in whole hours",
    ),
    (
        "offline_codes_per_second",
        "200",
        "1 to 1000000",
        "offline codes that each thread of the resident door signs in a second before `busy`",
    ),
    (
        "trust",
        "none",
        "a TOML file",
        "trust file: other issuers whose codes are recognised; read again when it or a file that it names changes. Default: none",
    ),
    (
        "formats",
        "liangma",
        "a list of liangma, hc1, shc",
        "formats of the trust file that are switched on",
    ),
    (
        "exchange",
        "none",
        "none, or address:port",
        "the exchange door, for services of other issuers, which the trust file names by public key; needs `exchange_cert`, `trust` and `offline_issuer`. A balancer before it must not end TLS",
    ),
    (
        "exchange_cert",
        "none",
        "a PEM file",
        "certificate of the exchange door and of requests to other issuers, who know its public key",
    ),
    (
        "exchange_cert_key",
        "none",
        "a PEM file",
        "and its private key",
    ),
    (
        "exchange_wait",
        "800ms",
        "50ms to 10s",
        "time that a scan waits for another issuer's service before `issuer_unreachable`",
    ),
    (
        "exchange_in_flight",
        "64",
        "1 to 10000",
        "concurrent requests to one issuer's service; further scans are `issuer_unreachable` at once",
    ),
    (
        "exchange_per_second",
        "1000",
        "1 to 1000000",
        "codes that one issuer's service may ask for here in a second before `rate_limited`",
    ),
    (
        "list_fetch_every",
        "5m",
        "1s to 1h",
        "interval of fetches of other issuers' status lists",
    ),
    (
        "list_every",
        "10m",
        "1s to 1h",
        "interval at which one of the nodes publishes a status list for gates without a network",
    ),
    (
        "list_base_every",
        "3h",
        "1s to 24h",
        "interval of new bases of the status list; between them only changes are published",
    ),
    (
        "list_stale_after",
        "30m",
        "1s to 24h",
        "age of a list past which gates without a network mark a colour as stale",
    ),
    (
        "list_too_old_after",
        "12h",
        "1s to 24h",
        "age past which a list gives no colour, and validity of its files",
    ),
    (
        "list_bytes_per_second",
        "4MiB",
        "64KiB to 1GiB",
        "bytes of status lists that each thread of a door sends in a second before `busy`",
    ),
    (
        "pages_per_second",
        "1000",
        "0 to 1000000",
        "pages that each thread of a door serves in a second before `busy`, and as many versioned assets beside them; 0 for no pages, if a proxy serves them",
    ),
    (
        "identity_jwks_file",
        "none",
        "a file",
        "JWKS with the identity platform's public keys; without it every log-in is refused",
    ),
    (
        "identity_issuer",
        "none",
        "text",
        "required claim `iss` of its assertions",
    ),
    (
        "identity_audience",
        "liangma",
        "text",
        "required claim `aud` of its assertions",
    ),
    (
        "identity_member_url",
        "none",
        "an address, https://",
        "address to which the resident's page sends a resident who adds a family member; the platform returns to `return` with `#a=ASSERTION&state=STATE`",
    ),
    (
        "retention_health",
        "730d",
        "1d to 36500d",
        "retention of certificates and notices of release",
    ),
    (
        "retention_temperatures",
        "30d",
        "1d to 36500d",
        "retention of temperatures",
    ),
    (
        "retention_trips",
        "14d",
        "1d to 36500d",
        "retention of trip cards",
    ),
    (
        "retention_declarations",
        "180d",
        "1d to 36500d",
        "retention of declarations of health and of entry",
    ),
    (
        "retention_arrangements",
        "1095d",
        "1d to 36500d",
        "retention of family members, grants, registrations and appeals",
    ),
    (
        "retention_accesses",
        "1095d",
        "1d to 36500d",
        "retention of recorded looks at persons, notices of scanned grants and the audit log",
    ),
    (
        "retention_sweep_interval",
        "24h",
        "1s to 30d",
        "interval of sweeps of papers past their retention; of several nodes over one Redis, one sweeps",
    ),
    (
        "drain_delay",
        "1s",
        "0ms to 5m",
        "on SIGTERM: time between `/ready` answering no and the doors closing",
    ),
    (
        "drain_timeout",
        "10s",
        "0ms to 10m",
        "then: time for running queries to end",
    ),
    (
        "command_store_timeout",
        "30s",
        "0ms to 1h",
        "time that a command other than `serve` waits for an unreachable Redis before it fails",
    ),
    (
        "log",
        "info",
        "a filter of tracing",
        "filter of log lines, which go to standard error",
    ),
    (
        "log_format",
        "text",
        "text, json",
        "format of log lines; in the systemd journal each has its priority",
    ),
    (
        "otlp_endpoint",
        "none",
        "none, or an address, http:// or https://",
        "where an OpenTelemetry collector takes spans of desk requests, feeds and acts of operators, as http://127.0.0.1:4318/v1/traces; docs/operate/traces.md",
    ),
    (
        "otlp_ca_file",
        "none",
        "a PEM file",
        "authorities of the collector's certificate; default: the system's",
    ),
    (
        "otlp_sample_ratio",
        "1",
        "0 to 1",
        "share of traces that are sent, as 0.1; a caller that brings a trace decides for it",
    ),
];

/// `LIANGMA_TOKEN` is no setting: commands that connect to a running node read their token from it.
const TOKEN_VARIABLE: &str = "TOKEN";

/// Renamed settings. The old name still works, and is reported.
const RENAMED: &[(&str, &str)] = &[
    ("wait_max", "queue_delay_target"),
    ("cold_bytes", "record_cache_bytes"),
    ("miss_wait", "store_read_timeout"),
    ("store_wait", "store_timeout"),
    ("keep_health", "retention_health"),
    ("keep_temperatures", "retention_temperatures"),
    ("keep_trips", "retention_trips"),
    ("keep_declarations", "retention_declarations"),
    ("keep_arrangements", "retention_arrangements"),
    ("keep_accesses", "retention_accesses"),
    ("sweep_every", "retention_sweep_interval"),
    ("drain_notice", "drain_delay"),
    ("reddened_per_hour", "red_alarm_per_hour"),
    ("guidance", "guidance_file"),
    ("keys", "key_ring"),
    ("issuer", "offline_issuer"),
    ("back", "ops"),
    ("back_threads", "ops_threads"),
    ("back_connections_max", "ops_connections_max"),
    ("clock_apart_max", "clock_offset_max"),
    ("desk_per_second", "desk_requests_per_second"),
    ("bulks_per_token", "bulk_scans_per_token"),
    ("family_max", "family_members_max"),
    ("store_changes_kept", "store_stream_entries_max"),
    ("store_ca", "store_ca_file"),
    ("store_cert", "store_cert_file"),
    ("store_cert_key", "store_cert_key_file"),
    ("identity_jwks", "identity_jwks_file"),
    ("command_wait", "command_store_timeout"),
];

/// Settings that a reload changes. The others need a restart.
pub const RELOADABLE: &[&str] = &[
    "log",
    "guidance_file",
    "names_file",
    "desk_requests_per_second",
    "shows_per_second",
    "scans_per_second",
    "bulk_codes_per_second",
    "bulk_scans_per_token",
    "resident_connections_max",
    "gate_connections_max",
    "desk_connections_max",
    "ops_connections_max",
];

/// Formats of codes of other issuers.
const FORMATS: [&str; 3] = ["liangma", "hc1", "shc"];

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

/// Settings as text, from all sources; later ones win.
#[derive(Default)]
pub struct RawSettings {
    values: BTreeMap<String, (String, String)>,
    bad: Vec<String>,
    /// Uses of old names, with the present ones.
    renamed: Vec<String>,
}

impl RawSettings {
    /// Sets one value. `origin` is named if it is bad.
    pub fn set(&mut self, name: &str, value: impl Into<String>, origin: impl Display) {
        let (value, origin) = (value.into(), origin.to_string());
        if let Some(new) = renamed(name) {
            // With two names for one setting in one source, the meant value is unknown.
            let is_twice = (self.values.get(new)).is_some_and(|(_, known)| *known == origin);
            match is_twice {
                true => (self.bad).push(format!(
                    "{origin}: {name} is the former name of {new}, and both are set"
                )),
                false => {
                    (self.renamed).push(format!("{origin}: {name} is the former name of {new}"));
                    self.set(new, value, origin);
                }
            }
            return;
        }
        if !is_known(name) {
            let hint = nearest(name).map_or(String::new(), |near| format!("; is it {near}?"));
            self.bad
                .push(format!("{origin}: there is no setting {name}{hint}"));
            return;
        }
        if value.is_empty() {
            self.bad.push(format!("{origin}: {name} is empty"));
        } else if value.trim() != value || value.contains(char::is_control) {
            self.bad.push(format!(
                "{origin}: {name} begins or ends with a blank, or holds a control character"
            ));
        } else {
            self.values.insert(name.to_owned(), (value, origin));
        }
    }

    /// Reads a TOML file of `name = value` lines.
    ///
    /// Lines that are not TOML are reported, and the others are read all the same. Messages never repeat a value, which may be
    /// a password.
    pub fn load_file(&mut self, path: &Path) {
        let place = path.display().to_string();
        let text = match read_small(path) {
            Ok(text) => text,
            Err(error) => {
                self.bad.push(format!("{place}: {error}"));
                return;
            }
        };
        self.load_text(&text, &place);
    }

    /// Reads the text of such a file; `place` is named if it is bad.
    pub fn load_text(&mut self, text: &str, place: &str) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Ok(table) = text.parse::<toml::Table>() {
            self.load_table(table, place);
            return;
        }
        let mut seen = BTreeMap::new();
        let before = self.bad.len();
        for (nth, line) in text.lines().enumerate() {
            match line.parse::<toml::Table>() {
                Ok(table) => {
                    for name in table.keys() {
                        if let Some(first) = seen.insert(name.clone(), nth + 1) {
                            self.bad.push(format!(
                                "{place}: {name} is set in lines {first} and {}",
                                nth + 1
                            ));
                        }
                    }
                    self.load_table(table, place);
                }
                Err(error) => {
                    let why = error
                        .message()
                        .lines()
                        .next()
                        .unwrap_or_default()
                        .to_owned();
                    self.bad.push(format!("{place}: line {}: {why}", nth + 1));
                }
            }
        }
        if self.bad.len() == before {
            self.bad
                .push(format!("{place}: is not TOML of NAME = VALUE lines"));
        }
    }

    fn load_table(&mut self, table: toml::Table, place: &str) {
        for (name, value) in table {
            match value {
                toml::Value::String(text) => self.set(&name, text, place),
                toml::Value::Integer(number) => self.set(&name, number.to_string(), place),
                toml::Value::Float(number) => self.set(&name, number.to_string(), place),
                _ => self
                    .bad
                    .push(format!("{place}: {name} is a string or a number")),
            }
        }
    }

    /// Reads `LIANGMA_…` variables: each names a setting in capitals.
    ///
    /// Variables with similar names are reported too, because they would be ignored silently.
    pub fn load_environment(&mut self, variables: impl Iterator<Item = (OsString, OsString)>) {
        for (variable, value) in variables {
            let variable = variable.to_string_lossy();
            let Some(name) = variable.strip_prefix("LIANGMA_") else {
                if let Some(near) = nearly_ours(&variable) {
                    self.bad.push(format!(
                        "{variable}: is it LIANGMA_{}?",
                        near.to_ascii_uppercase()
                    ));
                }
                continue;
            };
            if name == TOKEN_VARIABLE {
                continue;
            }
            if name != name.to_ascii_uppercase() {
                self.bad
                    .push(format!("{variable}: the name is in capitals"));
                continue;
            }
            match value.to_str() {
                Some(value) => self.set(&name.to_ascii_lowercase(), value, &variable),
                None => self.bad.push(format!("{variable}: is not UTF-8")),
            }
        }
    }

    /// Sets `name=value`, the argument of `--set`.
    pub fn set_pair(&mut self, pair: &str) {
        match pair.split_once('=') {
            Some((name, value)) => self.set(name, value, "--set"),
            // Any other text may be an address with a password.
            None => {
                let is_word = pair.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                let shown = if is_word { pair } else { "…" };
                self.bad
                    .push(format!("--set {shown}: NAME=VALUE is expected"));
            }
        }
    }

    /// Returns a line for each use of an old name.
    pub fn renamed(&self) -> &[String] {
        &self.renamed
    }

    /// Returns the typed settings.
    ///
    /// # Errors
    ///
    /// All faults of the settings.
    pub fn settings(self) -> Result<Settings, Vec<String>> {
        let (settings, read) = self.read();
        read.outcome(settings)
    }

    /// Returns the typed settings, after a check of every file and folder that a node needs.
    ///
    /// # Errors
    ///
    /// All faults of the settings and of those files.
    pub fn checked(self) -> Result<Settings, Vec<String>> {
        let (settings, mut read) = self.read();
        files::check(&mut read, &settings);
        read.outcome(settings)
    }

    /// Reads all settings. A valid value replaces each bad one; the reader holds the faults.
    fn read(self) -> (Settings, SettingsReader) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut read = SettingsReader {
            raw: self,
            bad_names: BTreeSet::new(),
        };
        let store = read.store();
        let keys = match (read.raw("key_ring"), store.folder()) {
            (Some(keys), _) => PathBuf::from(keys),
            (None, Some(folder)) => folder.join("keys"),
            (None, None) => {
                read.bad(
                    "key_ring",
                    "is missing (`--keys FILE`): a store in Redis has no directory to keep it in",
                );
                PathBuf::new()
            }
        };
        let doors = read.doors(cores);
        let bulk_lines_max = read.number("bulk_lines_max", 1..=10_000_000);
        // Half of the time after which a door considers a client stalled.
        let bulk_pause_max = doors
            .iter()
            .map(|(_, door)| door.stall_timeout / 2)
            .min()
            .unwrap_or_default();
        let drain_timeout = read.duration("drain_timeout", ms(0)..=secs(600));
        let stale_after = read.duration("stale_after", ms(100)..=secs(600));
        let too_old_after = read.duration("too_old_after", secs(1)..=secs(3600));
        if stale_after > too_old_after {
            read.bad("stale_after", "is longer than too_old_after");
        }
        let shards = read.number("board_shards", 16..=65_536) as usize;
        if !shards.is_power_of_two() {
            read.bad("board_shards", "is not a power of two");
        }
        let jwks = read.raw("identity_jwks_file").map(PathBuf::from);
        let issuer = read.raw("identity_issuer");
        if jwks.is_some() && issuer.is_none() {
            read.bad("identity_issuer", "is missing beside identity_jwks_file");
        }
        let (offline, offline_life_max) = read.offline();
        let lists = read.lists();
        let agent = read.agent();
        read.addresses(&doors, agent);
        let in_force = read.in_force(&store, &keys);
        let settings = Settings {
            offline_life_max,
            store,
            keys,
            doors,
            agent,
            http: http::Settings {
                balancers: read.number("balancers", 1..=1_000) as u32,
                bulk_pause_max,
                bulk_lines_max,
                feed_bytes_max: read.bytes("feed_bytes_max", 1 << 10..=1 << 40),
                body_bytes_max: read.bytes("body_bytes_max", 1 << 16..=1 << 40) as usize,
                body_timeout: read.duration("body_timeout", ms(100)..=secs(300)),
                head_timeout: read.duration("head_timeout", ms(100)..=secs(300)),
                answer_timeout: read.duration("answer_timeout", ms(100)..=secs(300)),
                bulk_timeout: read.duration("bulk_timeout", ms(100)..=secs(3600)),
            },
            seal: seal::Settings {
                issuer: offline.as_ref().map(|offline| offline.issuer),
                code_life: read.duration("code_life", secs(1)..=secs(600)),
                clock_skew: read.duration("clock_skew", ms(0)..=secs(30)),
            },
            board: board::Settings {
                stale_after,
                too_old_after,
                shards,
            },
            service: service::Settings {
                clock_offset_max: read.duration("clock_offset_max", ms(500)..=secs(3600)),
                session_life: read.duration("session_life", secs(60)..=seal::SESSION_LIFE_MAX),
                store_client: store_client::Settings {
                    store_timeout: read.duration("store_timeout", ms(10)..=secs(300)),
                    store_read_timeout: read.duration("store_read_timeout", ms(10)..=secs(300)),
                    store_in_flight_max: read.number("store_in_flight_max", 1..=65_536) as usize,
                    red_alarm_per_hour: read.number("red_alarm_per_hour", 1..=1_000_000_000),
                    record_cache_bytes: read.bytes("record_cache_bytes", 1 << 20..=1 << 40),
                },
                desk: desk::Settings {
                    session_life: read.duration("session_life", secs(60)..=seal::SESSION_LIFE_MAX),
                    family_members_max: read.number("family_members_max", 0..=64) as usize,
                    member_url: read.page_address("identity_member_url"),
                },
                desk_requests_per_second: read.number("desk_requests_per_second", 1..=10_000)
                    as u32,
                rate_limits: service::RateLimits {
                    shows_per_second: read.number("shows_per_second", 0..=1_000_000) as u32,
                    scans_per_second: read.number("scans_per_second", 0..=1_000_000) as u32,
                    bulk_codes_per_second: read.number("bulk_codes_per_second", 0..=100_000_000)
                        as u32,
                    bulk_scans_per_token: read.number("bulk_scans_per_token", 1..=10_000) as u32,
                    bulk_codes_saved: bulk_lines_max,
                },
                gate_reasons: read.one_of("gate_reasons", &["none", "all"]) == "all",
                offline,
                lists,
                in_force,
                pages_per_second: read.number("pages_per_second", 0..=1_000_000) as u32,
            },
            identity: identity::Settings {
                jwks,
                issuer: issuer.unwrap_or_default(),
                audience: read.text("identity_audience"),
            },
            keep: Retention {
                health: read.duration("retention_health", days(1)..=days(36_500)),
                temperatures: read.duration("retention_temperatures", days(1)..=days(36_500)),
                trips: read.duration("retention_trips", days(1)..=days(36_500)),
                declarations: read.duration("retention_declarations", days(1)..=days(36_500)),
                arrangements: read.duration("retention_arrangements", days(1)..=days(36_500)),
                accesses: read.duration("retention_accesses", days(1)..=days(36_500)),
            },
            retention_sweep_interval: read.duration("retention_sweep_interval", secs(1)..=days(30)),
            recognition: read.recognition(),
            exchange: read.exchange(),
            guidance: read.raw("guidance_file").map(PathBuf::from),
            names: read.raw("names_file").map(PathBuf::from),
            traces: read.traces(),
            store_cache_bytes: read.bytes("store_cache_bytes", 1 << 20..=1 << 40) as usize,
            drain_delay: read.duration("drain_delay", ms(0)..=secs(300)),
            drain_timeout,
            log: read.log(),
            log_format: match read.one_of("log_format", &["text", "json"]) {
                "json" => LogFormat::Json,
                _ => LogFormat::Text,
            },
        };
        (settings, read)
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn days(n: u64) -> Duration {
    secs(n * 86_400)
}

/// Takes settings one by one, and records their faults.
struct SettingsReader {
    raw: RawSettings,
    bad_names: BTreeSet<String>,
}

impl SettingsReader {
    fn outcome(self, settings: Settings) -> Result<Settings, Vec<String>> {
        match self.raw.bad.is_empty() {
            true => Ok(settings),
            false => Err(self.raw.bad),
        }
    }

    fn is_bad(&self, name: &str) -> bool {
        self.bad_names.contains(name)
    }

    /// Returns all settings as written. Of an address, only host, kind and path are shown, because it may hold a password.
    fn in_force(&self, store: &StoreSettings, keys: &Path) -> SettingsInForce {
        let all = SETTINGS.iter().map(|(name, default, ..)| {
            let said = self.raw.values.get(*name);
            let value = match (*name, store) {
                ("store", StoreSettings::Embedded(folder)) => folder.display().to_string(),
                ("store", StoreSettings::Redis(redis)) => redis.dial.place.to_string(),
                ("key_ring", _) => keys.display().to_string(),
                _ => said.map_or((*default).to_owned(), |(value, _)| value.clone()),
            };
            SettingInForce {
                name,
                value,
                origin: said.map(|(_, origin)| origin.clone()),
                is_reloadable: RELOADABLE.contains(name),
            }
        });
        SettingsInForce(all.collect())
    }

    /// Records listeners with the same address.
    fn addresses(&mut self, doors: &[(Door, doors::Settings)], agent: Option<SocketAddr>) {
        let doors = doors.iter().map(|(door, of)| (door.name(), of.address));
        let mut seen: Vec<(&str, SocketAddr)> = Vec::new();
        for (name, address) in doors.chain(agent.map(|address| ("agent", address))) {
            let same = seen.iter().find(|(_, known)| *known == address);
            match same {
                // The system gives each a free port.
                Some((other, _)) if address.port() != 0 => {
                    let other = (*other).to_owned();
                    self.bad(name, &format!("is the address of {other} too"));
                }
                _ => seen.push((name, address)),
            }
        }
    }

    fn raw(&self, name: &str) -> Option<String> {
        self.raw.values.get(name).map(|(value, _)| value.clone())
    }

    fn text(&self, name: &str) -> String {
        self.raw(name).unwrap_or_else(|| default(name).to_owned())
    }

    fn bad(&mut self, name: &str, why: &str) {
        self.bad_names.insert(name.to_owned());
        let raw = self.raw.values.get(name);
        self.raw.bad.push(match raw {
            // An address may hold a password.
            Some((_, origin)) if matches!(name, "store" | "otlp_endpoint") => {
                format!("{origin}: {name} {why}")
            }
            Some((value, origin)) => format!("{origin}: {name} = {value:?} {why}"),
            None => format!("{name} {why}"),
        });
    }

    /// Reads a setting within bounds. A bad one is recorded, and a valid value takes its place, so that all are checked. `form`
    /// describes how the value is written.
    fn read<T: PartialOrd + Copy>(
        &mut self,
        name: &str,
        bounds: RangeInclusive<T>,
        parse: impl Fn(&str) -> Option<T>,
        form: &str,
    ) -> T {
        let text = self.text(name);
        let value = parse(&text);
        value
            .filter(|value| bounds.contains(value))
            .unwrap_or_else(|| {
                let knob = SETTINGS.iter().find(|(known, ..)| *known == name);
                let (_, _, range, _) = knob.expect("every knob is listed");
                let wrong = match value {
                    Some(_) => format!("is not within {range}"),
                    None => format!("{form}; it must be within {range}"),
                };
                self.bad(name, &wrong);
                *bounds.start()
            })
    }

    fn duration(&mut self, name: &str, bounds: RangeInclusive<Duration>) -> Duration {
        let form = match parse_count(&self.text(name)) {
            Some(number) => {
                &format!("needs a unit: {number}ms, {number}s, {number}m, {number}h or {number}d")
            }
            None => "is not a duration such as 60s",
        };
        self.read(name, bounds, parse_duration, form)
    }

    /// Reads a count without a unit.
    fn number(&mut self, name: &str, bounds: RangeInclusive<u64>) -> u64 {
        self.read(
            name,
            bounds,
            parse_count,
            "is not a whole number without a unit",
        )
    }

    /// Reads a share of one.
    fn ratio(&mut self, name: &str) -> f64 {
        self.read(name, 0.0..=1.0, parse_ratio, "is not a share such as 0.1")
    }

    /// Reads the settings of traces; None without a collector.
    fn traces(&mut self) -> Option<traces::Settings> {
        let sample_ratio = self.ratio("otlp_sample_ratio");
        let ca = self.raw("otlp_ca_file").map(PathBuf::from);
        let endpoint = self.text("otlp_endpoint");
        let endpoint = (endpoint != "none").then(|| Endpoint::parse(&endpoint));
        let endpoint = match endpoint {
            Some(Err(why)) => {
                self.bad("otlp_endpoint", &why);
                return None;
            }
            Some(Ok(endpoint)) => Some(endpoint),
            None => None,
        };
        if ca.is_some() && !endpoint.as_ref().is_some_and(Endpoint::has_tls) {
            self.bad("otlp_ca_file", "needs an otlp_endpoint of https://");
        }
        Some(traces::Settings {
            endpoint: endpoint?,
            ca,
            sample_ratio,
        })
    }

    /// Reads one of `words`. Any other value is recorded as a fault, and gives the first word.
    fn one_of(&mut self, name: &str, words: &[&'static str]) -> &'static str {
        let text = self.text(name);
        words
            .iter()
            .copied()
            .find(|word| *word == text)
            .unwrap_or_else(|| {
                self.bad(name, &format!("is one of {}", words.join(", ")));
                words[0]
            })
    }

    /// Reads the address of a page for people. Only addresses of this machine may lack TLS.
    fn page_address(&mut self, name: &str) -> Option<String> {
        let text = self.raw(name)?;
        let is_safe = ["https://", "http://127.0.0.1:", "http://localhost:"]
            .iter()
            .any(|start| text.len() > start.len() && text.starts_with(start));
        let is_plain = text.bytes().all(|b| b.is_ascii_graphic())
            && !text.contains(['#', '"', '\'', '<', '>', '\\']);
        if !is_safe || !is_plain || text.len() > 512 {
            self.bad(
                name,
                "is not an address such as https://id.example/member, of at most 512 characters",
            );
            return None;
        }
        Some(text)
    }

    /// Reads the settings of offline codes; None without an issuer. The longest validity is needed by the key ring in any case.
    fn offline(&mut self) -> (Option<OfflineSettings>, Duration) {
        let (hour, year) = (secs(3_600), days(366));
        let life = self.duration("offline_life", hour..=year);
        let life_max = self.duration("offline_life_max", hour..=year);
        if life > life_max {
            self.bad("offline_life", "is longer than offline_life_max");
        }
        for (name, value) in [("offline_life", life), ("offline_life_max", life_max)] {
            if !value.as_millis().is_multiple_of(hour.as_millis()) {
                self.bad(name, "is not a whole number of hours");
            }
        }
        let codes_per_second = self.number("offline_codes_per_second", 1..=1_000_000) as u32;
        let Some(text) = self.raw("offline_issuer") else {
            return (None, life_max);
        };
        let Some(issuer) = crate::feed::parse_region(&text) else {
            self.bad(
                "offline_issuer",
                "is not a division of GB/T 2260, six digits",
            );
            return (None, life_max);
        };
        let settings = OfflineSettings {
            issuer,
            life,
            life_max,
            codes_per_second,
        };
        (Some(settings), life_max)
    }

    /// Reads the settings of recognition; None without a trust file.
    fn recognition(&mut self) -> Option<RecognitionSettings> {
        let formats: Vec<String> = self
            .text("formats")
            .split(',')
            .map(|word| word.trim().to_owned())
            .collect();
        if !formats.iter().all(|word| FORMATS.contains(&word.as_str())) {
            self.bad("formats", "is not a list of liangma, hc1, shc");
        }
        Some(RecognitionSettings {
            trust: self.raw("trust")?.into(),
            formats,
        })
    }

    /// Reads the settings of status lists.
    fn lists(&mut self) -> ListSettings {
        let lists = ListSettings {
            every: self.duration("list_every", secs(1)..=secs(3_600)),
            base_every: self.duration("list_base_every", secs(1)..=days(1)),
            stale_after: self.duration("list_stale_after", secs(1)..=days(1)),
            too_old_after: self.duration("list_too_old_after", secs(1)..=days(1)),
            bytes_per_second: self.bytes("list_bytes_per_second", 1 << 16..=1 << 30),
        };
        if lists.base_every < lists.every {
            self.bad("list_base_every", "is shorter than list_every");
        }
        if lists.stale_after > lists.too_old_after {
            self.bad("list_stale_after", "is longer than list_too_old_after");
        }
        // A gate must be able to miss one list.
        if lists.too_old_after < lists.every * 2 {
            self.bad("list_too_old_after", "is shorter than two of list_every");
        }
        lists
    }

    /// Reads a size in bytes.
    fn bytes(&mut self, name: &str, bounds: RangeInclusive<u64>) -> u64 {
        self.read(
            name,
            bounds,
            parse_bytes,
            "is not a number of bytes such as 64MiB",
        )
    }

    /// Reads the filter of the log. tracing takes an unknown level for the name of a target, and logs nothing.
    fn log(&mut self) -> String {
        let text = self.text("log");
        let is_level = |word: &str| {
            let levels = ["off", "error", "warn", "info", "debug", "trace"];
            levels.iter().any(|level| word.eq_ignore_ascii_case(level))
        };
        let is_good = |part: &str| match part.split_once('=') {
            None => is_level(part),
            Some((target, level)) => {
                let ours = target == "liangma" || target.starts_with("liangma::");
                ours && is_level(level)
            }
        };
        if !text.split(',').all(is_good) {
            self.bad("log", "is not a list of LEVEL or liangma::MODULE=LEVEL; levels are off, error, warn, info, debug, trace");
        }
        text
    }

    fn store(&mut self) -> StoreSettings {
        let text = self.text("store");
        let file = |read: &SettingsReader, name| read.raw(name).map(PathBuf::from);
        let cert = match (
            file(self, "store_cert_file"),
            file(self, "store_cert_key_file"),
        ) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                self.bad("store_cert_key_file", "is missing beside store_cert_file");
                None
            }
            (None, Some(_)) => {
                self.bad("store_cert_file", "is missing beside store_cert_key_file");
                None
            }
        };
        let replicas = self.read(
            "store_replicas",
            None..=Some(5),
            |text| match text {
                "auto" => Some(None),
                text => parse_count(text)
                    .and_then(|count| u32::try_from(count).ok())
                    .map(Some),
            },
            "is neither auto nor a whole number",
        );
        let changes_kept = self.number("store_stream_entries_max", 1_000..=100_000_000);
        let open_wait = self.duration("command_store_timeout", ms(0)..=secs(3_600));
        let place = match meant(&text) {
            Ok(StoreLocation::Directory) => return StoreSettings::Embedded(text.into()),
            Ok(StoreLocation::Address(place)) => place,
            Err(why) => {
                self.bad("store", &why);
                return StoreSettings::Embedded(PathBuf::new());
            }
        };
        // An operator who names certificates expects encryption.
        if !place.tls {
            for name in ["store_ca_file", "store_cert_file", "store_cert_key_file"] {
                if self.raw(name).is_some() {
                    self.bad(name, "is of no use: store has no TLS (rediss://…)");
                }
            }
        }
        let own = file(self, "store_sentinel_password_file");
        let user = self.raw("store_sentinel_user");
        if user.is_some() && own.is_none() {
            self.bad(
                "store_sentinel_password_file",
                "is missing beside store_sentinel_user",
            );
        }
        if own.is_some() && !matches!(place.topology, Topology::Sentinel { .. }) {
            self.bad(
                "store_sentinel_password_file",
                "is of no use: store names no sentinels",
            );
        }
        let passwords = [
            ("store_password_file", file(self, "store_password_file")),
            ("store_sentinel_password_file", own.clone()),
        ];
        for (name, path) in passwords {
            if let Some(Err(why)) = path.as_deref().map(read_password) {
                self.bad(name, &format!("cannot be used: {why}"));
            }
        }
        for name in ["store_ca_file", "store_cert_file", "store_cert_key_file"] {
            if let Some(Err(why)) = file(self, name).map(std::fs::File::open) {
                self.bad(name, &format!("cannot be read: {why}"));
            }
        }
        let sentinel = own.map(|password_file| SentinelLogin {
            user,
            password_file,
        });
        let settings = redis::Settings::new(place);
        StoreSettings::Redis(Box::new(redis::Settings {
            dial: redis::dial::Settings {
                password_file: file(self, "store_password_file"),
                sentinel,
                ca: file(self, "store_ca_file"),
                cert,
                ..settings.dial
            },
            replicas,
            changes_kept,
            open_wait: Some(open_wait),
            ..settings
        }))
    }

    fn agent(&mut self) -> Option<SocketAddr> {
        let text = self.text("agent");
        if text == "none" {
            return None;
        }
        let address = text.parse().ok();
        if address.is_none() {
            self.bad("agent", "is neither none nor address:port");
        }
        address
    }

    /// Reads the TLS files of a door; None for plain HTTP.
    fn door_tls(&mut self, door: &str) -> Option<ServerFiles> {
        let (cert_name, key_name) = (format!("{door}_tls_cert"), format!("{door}_tls_key"));
        let file = |read: &SettingsReader, name: &str| read.raw(name).map(PathBuf::from);
        let client_ca = match door == Door::Ops.name() {
            true => file(self, "ops_client_ca"),
            false => None,
        };
        match (file(self, &cert_name), file(self, &key_name)) {
            (Some(cert), Some(key)) => {
                return Some(ServerFiles {
                    cert,
                    key,
                    client_ca,
                    admitted: None,
                });
            }
            (Some(_), None) => self.bad(&key_name, &format!("is missing beside {cert_name}")),
            (None, Some(_)) => self.bad(&cert_name, &format!("is missing beside {key_name}")),
            // An operator who names authorities expects that other clients are refused.
            (None, None) if client_ca.is_some() => {
                self.bad(&cert_name, "is missing beside ops_client_ca")
            }
            (None, None) => {}
        }
        None
    }

    fn doors(&mut self, cores: usize) -> Vec<(Door, doors::Settings)> {
        let list = self.text("doors");
        let mut opened = Vec::new();
        for name in list.split(',').map(str::trim) {
            match Door::named(name) {
                Some(door) if opened.contains(&door) => {
                    self.bad("doors", &format!("names {name} twice"))
                }
                Some(door) => opened.push(door),
                None => self.bad("doors", &format!("names {name:?}, which is not a door")),
            }
        }
        let backlog = self.number("backlog", 1..=65_535) as u32;
        let niceness = self.number("resident_niceness", 0..=19) as i32;
        let queue_delay_target = self.duration("queue_delay_target", ms(5)..=secs(5));
        let busy_answers_per_second = self.number("busy_answers_per_second", 0..=100_000) as u32;
        let busy_cpu_percent = self.number("busy_cpu_percent", 0..=100);
        let head_timeout = self.duration("head_timeout", ms(100)..=secs(300));
        let idle_timeout = self.duration("idle_timeout", ms(100)..=secs(3600));
        let stall_timeout = self.duration("stall_timeout", ms(100)..=secs(300));
        let head_bytes_max = self.bytes("head_bytes_max", 1024..=65_536) as usize;
        let door_settings = |address, tls, threads, niceness, connections_max| doors::Settings {
            address,
            tls,
            threads,
            niceness,
            admission: admission::AdmissionSettings {
                connections_max,
                queue_delay_target,
                busy: admission::busy::BusySettings {
                    per_second: busy_answers_per_second,
                    share: busy_cpu_percent as f64 / 100.0,
                },
            },
            backlog,
            head_timeout,
            idle_timeout,
            stall_timeout,
            head_bytes_max,
        };
        let mut all = Vec::new();
        for door in Door::ALL {
            let name = door.name();
            let address = self.text(name).parse::<SocketAddr>().unwrap_or_else(|_| {
                self.bad(name, "is not address:port");
                SocketAddr::from(([127, 0, 0, 1], 0))
            });
            let threads = self.read(
                &format!("{name}_threads"),
                1..=256,
                |text| match text {
                    "cores" => Some(cores.min(256)),
                    text => parse_count(text).and_then(|count| usize::try_from(count).ok()),
                },
                "is neither cores nor a whole number",
            );
            let connections_max = self.number(&format!("{name}_connections_max"), 1..=1_000_000);
            let tls = self.door_tls(name);
            let niceness = match door {
                Door::Resident | Door::Desk => niceness,
                Door::Gate | Door::Ops | Door::Exchange => 0,
            };
            let settings = door_settings(address, tls, threads, niceness, connections_max as usize);
            if opened.contains(&door) {
                all.push((door, settings));
            }
        }
        if let Some(text) = self.raw("exchange").filter(|text| text != "none") {
            let address = text.parse::<SocketAddr>().unwrap_or_else(|_| {
                self.bad("exchange", "is not address:port");
                SocketAddr::from(([127, 0, 0, 1], 0))
            });
            let pair = self.exchange_pair();
            if pair.is_none() {
                self.bad("exchange", "needs exchange_cert and exchange_cert_key");
            }
            for (name, why) in [
                ("trust", "needs trust, which names who may ask"),
                (
                    "offline_issuer",
                    "needs offline_issuer, in whose name codes are shown",
                ),
            ] {
                if self.raw(name).is_none() {
                    self.bad("exchange", why);
                }
            }
            let (cert, key) = pair.unwrap_or_default();
            let files = ServerFiles {
                cert,
                key,
                client_ca: None,
                // The node adds them from its trust list.
                admitted: None,
            };
            // After gates, before residents.
            let niceness = niceness / 2;
            let settings =
                door_settings(address, Some(files), 1, niceness, EXCHANGE_CONNECTIONS_MAX);
            all.push((Door::Exchange, settings));
        }
        all
    }

    /// Returns the certificate and key of the exchange.
    fn exchange_pair(&self) -> Option<(PathBuf, PathBuf)> {
        let file = |name: &str| self.raw(name).map(PathBuf::from);
        file("exchange_cert").zip(file("exchange_cert_key"))
    }

    /// Reads the settings of requests to other issuers.
    fn exchange(&mut self) -> ExchangeSettings {
        let cert = self.exchange_pair();
        for (name, other) in [
            ("exchange_cert", "exchange_cert_key"),
            ("exchange_cert_key", "exchange_cert"),
        ] {
            if self.raw(name).is_some() && self.raw(other).is_none() {
                self.bad(other, &format!("is missing beside {name}"));
            }
        }
        ExchangeSettings {
            cert,
            wait: self.duration("exchange_wait", ms(50)..=secs(10)),
            in_flight: self.number("exchange_in_flight", 1..=10_000) as usize,
            per_second: self.number("exchange_per_second", 1..=1_000_000) as u32,
            list_fetch_every: self.duration("list_fetch_every", secs(1)..=secs(3_600)),
            stale_after: self.duration("stale_after", ms(100)..=secs(600)),
            too_old_after: self.duration("too_old_after", secs(1)..=secs(3_600)),
            clock_ahead_max: self.duration("clock_offset_max", ms(500)..=secs(3_600)),
        }
    }
}

/// Connections that the exchange door admits. Each node of a peer keeps eight.
const EXCHANGE_CONNECTIONS_MAX: usize = 1_024;

fn is_known(name: &str) -> bool {
    SETTINGS.iter().any(|(known, ..)| *known == name)
}

/// Returns the present name of a renamed setting.
fn renamed(name: &str) -> Option<&'static str> {
    let found = RENAMED.iter().find(|(old, _)| *old == name);
    found.map(|(_, new)| *new)
}

/// Returns the setting with the most similar name, if one is similar.
fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let known = || SETTINGS.iter().map(|(known, ..)| *known);
    let near = known().min_by_key(|known| strsim::osa_distance(known, &name));
    let by_letters = near.filter(|near| strsim::osa_distance(near, &name) <= 3.min(name.len() / 2));
    by_letters.or_else(|| {
        known()
            .filter(|known| name.len() > 3 && (known.contains(&name) || name.contains(known)))
            .max_by_key(|known| known.len().min(name.len()))
    })
}

/// Returns the setting that a variable with a similar prefix names.
fn nearly_ours(variable: &str) -> Option<&'static str> {
    let plain = variable.to_ascii_uppercase().replace('-', "_");
    let (prefix, rest) = match plain.split_once('_') {
        Some(parts) => parts,
        None => plain.split_at_checked("LIANGMA".len())?,
    };
    if strsim::osa_distance(prefix, "LIANGMA") > 1 {
        return None;
    }
    let rest = rest.trim_start_matches('_').to_ascii_lowercase();
    let known = SETTINGS.iter().map(|(known, ..)| *known);
    known
        .into_iter()
        .find(|known| strsim::osa_distance(known, &rest) <= 1)
}

/// Largest file of settings in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

fn read_small(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other("is longer than 1 MiB"));
    }
    Ok(text)
}

fn default(name: &str) -> &'static str {
    let knob = SETTINGS.iter().find(|(known, ..)| *known == name);
    knob.expect("every knob is listed").1
}

/// Parses `250ms`, `60s`, `5m`, `24h`, `30d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit).map(Duration::from_millis)
}

/// Parses digits only: no sign, underscore or unit.
fn parse_count(text: &str) -> Option<u64> {
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    good.then(|| text.parse().ok()).flatten()
}

/// Parses a decimal number: digits, and perhaps a point with digits behind it.
fn parse_ratio(text: &str) -> Option<f64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let are_digits = |digits: &str| {
        (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let is_good = are_digits(whole) && are_digits(part);
    is_good.then(|| text.parse().ok()).flatten()
}

/// Parses a number of bytes, KiB, MiB, GiB or TiB.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(pairs: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let mut raw = RawSettings::default();
        for (name, value) in pairs {
            raw.set(name, *value, "test");
        }
        raw.settings()
    }

    #[test]
    fn a_setting_of_an_old_name_is_taken_and_the_new_name_is_told() {
        for (old, new) in RENAMED {
            assert!(!is_known(old), "{old}");
            assert!(is_known(new), "{new}");
            let mut raw = RawSettings::default();
            raw.set(new, "0", "another file");
            raw.set(old, "1", "file");
            assert_eq!(raw.values[*new], ("1".to_owned(), "file".to_owned()));
            assert_eq!(
                raw.renamed,
                [format!("file: {old} is the former name of {new}")]
            );
            assert!(raw.bad.is_empty(), "{:?}", raw.bad);
            // In one place beside the new name it could mean either.
            raw.set(old, "2", "file");
            let both = format!("file: {old} is the former name of {new}, and both are set");
            assert_eq!(raw.bad, [both]);
            assert_eq!(raw.values[*new].0, "1");
        }
        let settings = raw(&[("drain_notice", "7s")]).unwrap();
        assert_eq!(settings.drain_delay, secs(7));
    }

    #[test]
    fn every_default_is_within_its_bounds() {
        let settings = raw(&[]).unwrap();
        assert_eq!(settings.doors.len(), 4);
        assert_eq!(settings.keys, Path::new("./liangma-data/keys"));
        for (name, default, ..) in SETTINGS {
            if !matches!(*default, "none" | "STORE/keys") {
                raw(&[(name, default)]).unwrap();
            }
        }
    }

    #[test]
    fn all_that_is_bad_is_named_at_once() {
        let mut raw = RawSettings::default();
        raw.set("code_life", "forever", "LIANGMA_CODE_LIFE");
        raw.set("gate", "door", "--gate");
        raw.set("gate_thread", "2", "liangma.toml");
        raw.set("stale_after", "40s", "test");
        raw.set("board_shards", "1000", "test");
        raw.set("doors", "gate,window", "--doors");
        raw.set("store", "redis://u:hush@x:y", "--store");
        raw.set_pair("nonsense");
        let bad = raw.settings().unwrap_err();
        let all = bad.join("\n");
        for word in [
            "LIANGMA_CODE_LIFE: code_life = \"forever\" is not a duration such as 60s; it must be within 1s to 10m",
            "--gate: gate = \"door\" is not address:port",
            "liangma.toml: there is no setting gate_thread; is it gate_threads?",
            "stale_after = \"40s\" is longer than too_old_after",
            "is not a power of two",
            "\"window\"",
            "--store: store names a host that is none",
            "NAME=VALUE",
        ] {
            assert!(all.contains(word), "{word} in\n{all}");
        }
        assert!(!all.contains("hush"), "{all}");
        assert_eq!(bad.len(), 8, "{all}");
    }

    #[test]
    fn a_bad_value_is_told_by_what_is_wrong_with_it() {
        for (name, value, wrong) in [
            (
                "code_life",
                "60",
                "needs a unit: 60ms, 60s, 60m, 60h or 60d; it must be within 1s to 10m",
            ),
            (
                "code_life",
                "banana",
                "is not a duration such as 60s; it must be within 1s to 10m",
            ),
            ("code_life", "60h", "is not within 1s to 10m"),
            (
                "family_members_max",
                "8s",
                "is not a whole number without a unit; it must be within ",
            ),
            ("family_members_max", "999999", "is not within "),
            (
                "store_cache_bytes",
                "64MB",
                "is not a number of bytes such as 64MiB; it must be within ",
            ),
            (
                "gate_threads",
                "some",
                "is neither cores nor a whole number; it must be within ",
            ),
        ] {
            let bad = raw(&[(name, value)]).unwrap_err().join("\n");
            assert!(
                bad.contains(&format!("{name} = {value:?} {wrong}")),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_store_in_redis_needs_its_key_ring_named() {
        let redis = ("store", "redis+cluster://a,b");
        let bad = raw(&[redis, ("store_cert_file", "c.pem"), ("store_replicas", "6")]).unwrap_err();
        for name in [
            "key_ring",
            "store_cert_key_file",
            "store_replicas",
            "no TLS",
        ] {
            assert!(
                bad.iter().any(|line| line.contains(name)),
                "{name}: {bad:?}"
            );
        }
        let settings = raw(&[redis, ("key_ring", "ring"), ("store_replicas", "2")]).unwrap();
        let StoreSettings::Redis(redis) = settings.store else {
            panic!("an address of Redis");
        };
        assert_eq!((redis.replicas, redis.changes_kept), (Some(2), 100_000));
    }

    #[test]
    fn settings_in_force_name_their_origin_and_no_secret() {
        let settings = raw(&[
            ("store", "rediss+sentinel://u:hush@a,b/main"),
            ("key_ring", "ring"),
            ("log", "warn"),
        ]);
        let all = settings.unwrap().service.in_force;
        let of = |name| all.0.iter().find(|of| of.name == name).unwrap();
        let (set, others) = (all.line(true), all.line(false));
        assert!(!format!("{all:?}{set}{others}").contains("hush"));
        let place = "rediss+sentinel://a:26379,b:26379/main";
        assert_eq!(
            (&*of("store").value, &of("store").origin),
            (place, &Some("test".into()))
        );
        assert_eq!(
            (&*of("gate").value, &of("gate").origin),
            ("127.0.0.1:8081", &None)
        );
        assert!(set.contains("log=warn") && others.contains("code_life=60s"));
        assert_eq!(all.0.len(), SETTINGS.len());
        for name in RELOADABLE {
            assert!(is_known(name), "{name}");
        }
    }

    #[test]
    fn traces_are_off_unless_a_collector_is_named() {
        for off in [&[][..], &[("otlp_endpoint", "none")]] {
            assert!(raw(off).unwrap().traces.is_none());
        }
        let endpoint = ("otlp_endpoint", "https://collector:4318/v1/traces");
        let traces = raw(&[
            endpoint,
            ("otlp_sample_ratio", "0.25"),
            ("otlp_ca_file", "ca"),
        ]);
        let traces = traces.unwrap().traces.unwrap();
        assert_eq!(traces.sample_ratio, 0.25);
        assert_eq!(traces.ca.as_deref(), Some(Path::new("ca")));
        for (endpoint, named) in [
            ("http://u:hush@collector:4318/v1/traces", "password"),
            ("htps://collector/v1/traces?hush", "is it https?"),
        ] {
            let bad = raw(&[("otlp_endpoint", endpoint)]).unwrap_err().join("\n");
            assert!(bad.contains(named) && !bad.contains("hush"), "{bad}");
        }
        // Without TLS there is nothing to check with it.
        for more in [&[][..], &[("otlp_endpoint", "http://collector/v1/traces")]] {
            let bad = raw(&[&[("otlp_ca_file", "ca")], more].concat()).unwrap_err();
            assert_eq!(
                bad,
                ["test: otlp_ca_file = \"ca\" needs an otlp_endpoint of https://"]
            );
        }
    }

    #[test]
    fn a_number_of_a_file_may_have_a_point() {
        for (text, ratio) in [("0.5", 0.5), ("1", 1.0), ("\"0.125\"", 0.125), ("1.0", 1.0)] {
            let mut raw = RawSettings::default();
            raw.load_text(
                &format!("otlp_endpoint = \"http://a/v1/traces\"\notlp_sample_ratio = {text}\n"),
                "file",
            );
            let traces = raw.settings().unwrap().traces.unwrap();
            assert_eq!(traces.sample_ratio, ratio);
        }
        for (name, number) in [
            ("otlp_sample_ratio", "1.5"),
            ("otlp_sample_ratio", "nan"),
            ("otlp_sample_ratio", "inf"),
            ("otlp_sample_ratio", "-0.5"),
            ("backlog", "77.5"),
            ("code_life", "30.0"),
        ] {
            let mut raw = RawSettings::default();
            raw.load_text(&format!("{name} = {number}\n"), "file");
            let bad = raw.settings().expect_err(number);
            assert!(bad.len() == 1 && bad[0].contains(name), "{bad:?}");
        }
    }

    #[test]
    fn two_doors_have_two_addresses() {
        let bad = raw(&[("gate", "127.0.0.1:8080"), ("agent", "127.0.0.1:9090")]).unwrap_err();
        assert_eq!(
            bad,
            [
                "test: gate = \"127.0.0.1:8080\" is the address of resident too",
                "test: agent = \"127.0.0.1:9090\" is the address of ops too"
            ]
        );
        let free = ("127.0.0.1:0", "127.0.0.1:0");
        raw(&[("gate", free.0), ("desk", free.1)]).unwrap();
        // A door that is not opened needs none.
        raw(&[("doors", "gate"), ("gate", "127.0.0.1:8080")]).unwrap();
    }

    #[test]
    fn later_sources_win() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("liangma.toml");
        std::fs::write(&file, "code_life = \"30s\"\nbacklog = 77\nlog = \"warn\"\n").unwrap();
        let mut raw = RawSettings::default();
        raw.load_file(&file);
        raw.load_environment(
            [
                ("LIANGMA_CODE_LIFE", "40s"),
                ("LIANGMA_LOG", "debug"),
                ("HOME", "x"),
            ]
            .map(|(name, value)| (name.into(), value.into()))
            .into_iter(),
        );
        raw.set_pair("log=error");
        let settings = raw.settings().unwrap();
        assert_eq!(settings.seal.code_life, secs(40));
        assert_eq!(settings.doors[0].1.backlog, 77);
        assert_eq!(settings.log, "error");
    }

    #[test]
    fn a_bad_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("liangma.toml");
        std::fs::write(&file, "code_life = [1]\nnot toml").unwrap();
        let mut raw = RawSettings::default();
        raw.load_file(&file);
        raw.load_file(&folder.path().join("missing.toml"));
        let bad = raw.settings().unwrap_err();
        assert_eq!(bad.len(), 3, "{bad:?}");
    }

    #[test]
    fn a_line_that_is_none_hides_no_other_and_no_value_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("liangma.toml");
        let text = "store = redis://u:hush@a\ncode_life = \"0s\"\nbacklog = 1\nbacklog = 2\ngate_thread = 1\n";
        std::fs::write(&file, text).unwrap();
        let mut raw = RawSettings::default();
        raw.load_file(&file);
        let all = raw.settings().unwrap_err().join("\n");
        for word in [
            "line 1:",
            "code_life",
            "backlog is set in lines 3 and 4",
            "gate_threads?",
        ] {
            assert!(all.contains(word), "{word} in\n{all}");
        }
        assert!(!all.contains("hush"), "{all}");
    }

    /// Of every setting: what was not understood is refused by name, whatever kind of value it takes.
    #[test]
    fn no_setting_takes_what_it_does_not_understand() {
        for (name, default, ..) in SETTINGS {
            for junk in ["", " ", "\t1", "1s ", "\u{7}"] {
                let bad = raw(&[(name, junk)]).expect_err(name);
                assert!(
                    bad.iter().any(|line| line.contains(name)),
                    "{name}: {bad:?}"
                );
            }
            let takes_a_number =
                default.starts_with(|c: char| c.is_ascii_digit()) && !default.contains(':');
            if !takes_a_number {
                continue;
            }
            let has_unit = default.ends_with(|c: char| c.is_ascii_alphabetic());
            let mut junk = vec![
                "+1",
                "-1",
                "1_000",
                "1e3",
                "0x10",
                "1.5",
                "１",
                "99999999999999999999",
                "1 s",
                "1S",
                "1h30m",
                "1kb",
                "1s;",
                "none",
            ];
            // A time without a unit, a count with one.
            junk.extend(if has_unit && parse_duration(default).is_some() {
                ["1", "1KiB"]
            } else {
                ["1s", "1d"]
            });
            if !has_unit && !name.contains("bytes") {
                junk.push("4KiB");
            }
            for junk in junk {
                let bad = raw(&[(name, junk)]).expect_err(&format!("{name} = {junk}"));
                assert!(
                    bad.iter().any(|line| line.contains(name)),
                    "{name}: {bad:?}"
                );
            }
        }
        for (name, junk) in [
            ("log", "inof"),
            ("log", "liangma"),
            ("log", "info,"),
            ("log", "liangmaa=debug"),
            ("doors", "gate,gate"),
            ("doors", "gate,"),
            ("store_replicas", "+1"),
            ("store_replicas", "none"),
            ("gate_threads", "+1"),
            ("gate", "localhost:1"),
            ("gate", "127.0.0.1"),
            ("otlp_endpoint", "htpp://127.0.0.1:4318/v1/traces"),
            ("otlp_sample_ratio", ".5"),
            ("otlp_sample_ratio", "1."),
            ("otlp_sample_ratio", "0.1.0"),
            ("store", "redis-sentinel://a/m"),
        ] {
            let bad = raw(&[(name, junk)]).expect_err(junk);
            assert!(
                bad.iter().any(|line| line.contains(name)),
                "{name}: {bad:?}"
            );
        }
    }

    #[test]
    fn names_that_are_nearly_ours_are_named() {
        let mut raw = RawSettings::default();
        let variables = [
            "LIANGMA_STOER",
            "liangma_store",
            "LIANMA_STORE",
            "LIANGMA-STORE",
            "LIANGMASTORE",
            "LIANGMA_Store",
            "HOME",
            "LIANG_STORE",
        ];
        raw.load_environment(variables.into_iter().map(|name| (name.into(), "x".into())));
        raw.set_pair("code-life=30s");
        let bad = raw.settings().unwrap_err();
        assert_eq!(bad.len(), 7, "{bad:#?}");
        let all = bad.join("\n");
        for word in ["no setting stoer; is it store?", "is it code_life?"] {
            assert!(all.contains(word), "{word} in\n{all}");
        }
    }
}
