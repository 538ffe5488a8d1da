//! Every metric: name, type, labels, meaning. Serving threads count in memory of their own with plain adds, which a scrape sums
//! up; they share nothing here.

use crate::clock::{Moment, Time};
use crate::door_load::DoorLoad;
use crate::process;
use crate::refusal::Refusal;
use crate::status::Colour;
use crate::status::ResidentStatus;
use crate::version::{COMMIT, VERSION};
use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Every metric: name, type, labels, meaning. `docs/operate/metrics.md` is generated from this list.
pub const METERS: &[(&str, &str, &str, &str)] = &[
    (
        "liangma_queries_total",
        "counter",
        "kind, outcome",
        "queries that ended, by kind and outcome; `gone`: the client left before the answer",
    ),
    (
        "liangma_query_seconds",
        "histogram",
        "kind",
        "from the request's head to its answer",
    ),
    (
        "liangma_bulk_codes_total",
        "counter",
        "outcome",
        "lines of bulk scans, by outcome",
    ),
    ("liangma_residents", "gauge", "", "residents on the board"),
    (
        "liangma_board_filled",
        "gauge",
        "",
        "1 when every resident on record is on the board",
    ),
    (
        "liangma_board_stale_writes_dropped_total",
        "counter",
        "",
        "status words that arrived after a newer one and were dropped by their version",
    ),
    (
        "liangma_data_age_seconds",
        "gauge",
        "",
        "age of the oldest partition of this node's board",
    ),
    ("liangma_ready", "gauge", "", "1 while `/ready` says 200"),
    (
        "liangma_partitions_too_old",
        "gauge",
        "",
        "partitions, of 16, for which this node gives no colour because its data is too old",
    ),
    (
        "liangma_partitions_unavailable",
        "gauge",
        "",
        "partitions, of 16, whose primary has failed according to a majority of the cluster: no node can read them",
    ),
    (
        "liangma_clock_steps_total",
        "counter",
        "",
        "steps of the system's clock by more than half a second; the node's time follows them slowly",
    ),
    (
        "liangma_clock_offset_seconds",
        "gauge",
        "",
        "how far the system's clock is ahead of the clock of Redis; negative if it is behind",
    ),
    ("liangma_connections", "gauge", "door", "open connections"),
    (
        "liangma_connections_frozen",
        "gauge",
        "door",
        "open connections that are not read, to make room for others",
    ),
    (
        "liangma_connections_limit_max",
        "gauge",
        "door",
        "connections that the door admits at most",
    ),
    (
        "liangma_connections_accepted_total",
        "counter",
        "door",
        "connections admitted",
    ),
    (
        "liangma_connections_rejected_total",
        "counter",
        "door",
        "connections refused with the answer `busy`, and those refused before their TLS handshake ended, which hear nothing",
    ),
    (
        "liangma_connections_closed_total",
        "counter",
        "door, reason",
        "connections that the door closed: `idle`; `head` (a request's head or a TLS handshake took too long); `stalled` (no byte moved); `late` (the answer took too long as a whole); `evicted` (idle, or waiting for a body, while new connections waited); `body` (a request's body took too long); `untold` (its request was to get the answer `busy`, and neither processor time nor the number of answers a second was left for it)",
    ),
    (
        "liangma_tls_handshakes_total",
        "counter",
        "door, outcome",
        "TLS handshakes: `done`; `failed` (the client left, or has no accepted certificate); `closed` (by the door, mostly after `head_timeout`)",
    ),
    (
        "liangma_tls_certificate_expiry_seconds",
        "gauge",
        "door",
        "time until the certificate in force expires; negative after that",
    ),
    (
        "liangma_tls_reload_failures_total",
        "counter",
        "door",
        "certificate or key files that could not be loaded; the previous certificate stays in force",
    ),
    (
        "liangma_connections_limit",
        "gauge",
        "door",
        "connections that the door admits now; the controller sets it by the queue delay",
    ),
    (
        "liangma_in_flight_max",
        "gauge",
        "door",
        "requests in flight that the door answers within half of `queue_delay_target`; the agent port divides it among the balancers",
    ),
    (
        "liangma_balancer_weight_ratio",
        "gauge",
        "door",
        "share of its usual traffic that the agent port asks for: below 1 while requests wait for longer than half of `queue_delay_target`",
    ),
    (
        "liangma_queue_delay_seconds",
        "gauge",
        "door, quantile",
        "time from the arrival of a request's bytes until the door reads them, sampled; the last step with samples, and 0 after 30 s without any; without requests that waited because their connection was frozen",
    ),
    (
        "liangma_accept_queue",
        "gauge",
        "door",
        "connections that wait to be accepted, at the last step",
    ),
    (
        "liangma_connections_overflowed_total",
        "counter",
        "door",
        "connections dropped because an accept queue of this network namespace was full, counted while the door was full or its own queue at least a quarter full",
    ),
    (
        "liangma_connections_left_total",
        "counter",
        "door, request",
        "connections whose client had left before they were accepted or refused, which count as neither: with the request `none`, as a probe or a browser that connected ahead, or `late`, at an overloaded door; who closed its sending side only and waits for longer than `queue_delay_target` counts as one who left",
    ),
    (
        "liangma_retry_after_seconds",
        "gauge",
        "door",
        "Retry-After of the answer `busy`",
    ),
    (
        "liangma_accept_errors_total",
        "counter",
        "door",
        "accepts that failed, for example because descriptors ran out",
    ),
    (
        "liangma_feed_events_total",
        "counter",
        "outcome",
        "feed lines: `applied`, `unchanged`, `rejected`",
    ),
    (
        "liangma_store_commit_seconds",
        "histogram",
        "",
        "time of a group commit, from its first change until it is durable",
    ),
    (
        "liangma_store_changes_total",
        "counter",
        "",
        "changes committed",
    ),
    (
        "liangma_store_failures_total",
        "counter",
        "",
        "commits that failed",
    ),
    (
        "liangma_store_damaged_total",
        "counter",
        "",
        "damaged statuses, records and papers, counted at each read; no answer uses them",
    ),
    (
        "liangma_residents_on_record",
        "gauge",
        "",
        "residents in the store when this node started; compared with `liangma_residents` it shows the progress of a start",
    ),
    (
        "liangma_replication_lag_seconds",
        "histogram",
        "",
        "time from a change in Redis until it is on this board, by the clocks of both",
    ),
    (
        "liangma_store_faults_total",
        "counter",
        "fault",
        "faults of the store: `gone`, `stuck`, `refused`, `emptied`, `replaced`, `behind`, `trimmed`",
    ),
    (
        "liangma_board_lost_by_store",
        "gauge",
        "",
        "residents for whom this board has a newer version than the store: the store has lost acknowledged changes",
    ),
    (
        "liangma_board_conflicts_total",
        "counter",
        "",
        "changes based on an older version than this board has; they clear no red",
    ),
    (
        "liangma_board_retained_reds",
        "gauge",
        "",
        "residents who stay red although the store has lost the reason",
    ),
    (
        "liangma_store_lookups_total",
        "counter",
        "outcome",
        "lookups in the store that memory could not answer: `found`, `absent`, `busy`",
    ),
    (
        "liangma_store_lookups_limit",
        "gauge",
        "",
        "lookups that may run in the store at once; it follows the store's latency",
    ),
    (
        "liangma_store_lookups_in_flight",
        "gauge",
        "",
        "lookups that run in the store now",
    ),
    (
        "liangma_store_rtt_seconds",
        "gauge",
        "stat",
        "latency of lookups in the store: `floor`, without load; `smoothed`, recent",
    ),
    (
        "liangma_record_cache_bytes",
        "gauge",
        "",
        "size of the cache of records and absences",
    ),
    (
        "liangma_entries_written_total",
        "counter",
        "outcome",
        "papers written: `new`, or `known` because their key was there already",
    ),
    (
        "liangma_entries_expired_total",
        "counter",
        "",
        "papers removed after their retention",
    ),
    (
        "liangma_feed_reds_total",
        "counter",
        "token",
        "reasons that feeds set, by the source of the token; past 64 sources `others`",
    ),
    (
        "liangma_codes_watched_total",
        "counter",
        "",
        "scanned codes that are watched for copies: one in 256, by the time of issue",
    ),
    (
        "liangma_codes_at_two_sites_total",
        "counter",
        "",
        "watched codes that scanners of two sites read on this node while they were valid: copies",
    ),
    (
        "liangma_audit_links_total",
        "counter",
        "",
        "links of the audit log that this node wrote; its log has the end of the chain each hour, as `audit_end`",
    ),
    (
        "liangma_red_set_hourly_max",
        "gauge",
        "",
        "red reasons that one source set in this hour by feeds to this node; the largest count of all sources",
    ),
    (
        "liangma_red_alarms",
        "gauge",
        "",
        "sources that exceed `red_alarm_per_hour` in this hour: check what they fed",
    ),
    (
        "liangma_spans_total",
        "counter",
        "outcome",
        "spans of requests that ended, by what became of them: `sent`; dropped: `queue_full`, `export_failed`; `refused` by the collector. 0 without `otlp_endpoint`",
    ),
    (
        "liangma_span_exports_total",
        "counter",
        "outcome",
        "exports of spans to the collector: `done`, or failed: `unreachable`, `late`, `refused` (another status than 2xx), `invalid`",
    ),
    (
        "liangma_log_lines_lost_total",
        "counter",
        "",
        "log lines that could not be written because standard error is full, closed or not read",
    ),
    (
        "liangma_panics_total",
        "counter",
        "",
        "panics, which are faults of this program; the log has each one",
    ),
    (
        "liangma_list_age_seconds",
        "gauge",
        "",
        "age of the status list that this node serves; before the first one, time since the start",
    ),
    (
        "liangma_list_residents",
        "gauge",
        "",
        "residents on record in the status list that this node serves",
    ),
    (
        "liangma_list_listed",
        "gauge",
        "state",
        "ids in that list that are `red`, `yellow` or `void`",
    ),
    (
        "liangma_list_clashes",
        "gauge",
        "",
        "ids in that list that are void because two residents would have the same one",
    ),
    (
        "liangma_list_bytes",
        "gauge",
        "file",
        "bytes of the newest `base` and of its `changes`",
    ),
    (
        "liangma_list_published_total",
        "counter",
        "outcome",
        "attempts of this node to publish: `published`; `withheld` (the node is warming, stale or draining, or its clock is wrong); `wrong` (the proof failed); `failed` (not built or not stored); `late`",
    ),
    (
        "liangma_list_wrong_total",
        "counter",
        "",
        "wrong answers that proofs found; such a list is not published",
    ),
    (
        "liangma_list_build_seconds",
        "gauge",
        "",
        "time that the last list of this node took, from its turn until it was stored",
    ),
    (
        "liangma_offline_codes_total",
        "counter",
        "outcome",
        "offline codes: `issued`; scanned and `opened`, `expired`, `revoked`, or `invalid`",
    ),
    (
        "liangma_last_change_age_seconds",
        "gauge",
        "",
        "time since this node last wrote a change or received one; before the first, time since the start",
    ),
    (
        "liangma_key_age_seconds",
        "gauge",
        "",
        "time since the current key of codes, sessions and tokens came into use; a rotation restarts it",
    ),
    (
        "liangma_rest_key_id",
        "gauge",
        "",
        "id of the key of the ring that seals data at rest; nodes with different ones have different rings",
    ),
    (
        "liangma_last_reload_successful",
        "gauge",
        "",
        "0 if a file was bad at the last SIGHUP, and its previous contents stay in force",
    ),
    (
        "liangma_foreign_total",
        "counter",
        "format, outcome",
        "codes of other issuers that gates scanned: `pass`, or the refusal",
    ),
    (
        "liangma_trust_keys",
        "gauge",
        "format",
        "public keys in the trust list in force",
    ),
    (
        "liangma_trust_age_seconds",
        "gauge",
        "",
        "time since the oldest key file of the trust list was imported",
    ),
    (
        "liangma_peer_list_age_seconds",
        "gauge",
        "issuer",
        "age of the status list of another issuer; before the first, time since the start",
    ),
    (
        "liangma_exchange_asked_total",
        "counter",
        "issuer, outcome",
        "requests to another issuer's service: `answered`; `late`; `failed`; `rubbish` (not understood); `lie` (another issuer, or a time in the future); `turned_away`; `full` and `open` (not sent)",
    ),
    (
        "liangma_exchange_seconds",
        "histogram",
        "issuer",
        "time of a request to another issuer's service, with the connection",
    ),
    (
        "liangma_exchange_open",
        "gauge",
        "issuer",
        "1 while the circuit breaker of another issuer's service is open and sends only trial requests",
    ),
    (
        "liangma_exchange_answered_total",
        "counter",
        "issuer, outcome",
        "codes that another issuer's service asked for, by the answer: a state or a refusal",
    ),
    (
        "liangma_build_info",
        "gauge",
        "version, commit",
        "always 1; the labels name the build",
    ),
    (
        "process_cpu_seconds_total",
        "counter",
        "",
        "processor time of this process, user and system",
    ),
    (
        "process_resident_memory_bytes",
        "gauge",
        "",
        "resident memory of this process",
    ),
    (
        "process_virtual_memory_bytes",
        "gauge",
        "",
        "address space of this process",
    ),
    ("process_threads", "gauge", "", "threads of this process"),
    (
        "process_open_fds",
        "gauge",
        "",
        "open file descriptors of this process",
    ),
    (
        "process_max_fds",
        "gauge",
        "",
        "limit of open file descriptors of this process",
    ),
    (
        "process_start_time_seconds",
        "gauge",
        "",
        "start time of this process, in seconds since 1970",
    ),
];

/// Kind of a query: what the client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Shows a code.
    Show,
    /// Scans a code.
    Scan,
    /// Scans many codes.
    Bulk,
    /// Opens a session.
    Session,
    /// Explains a status.
    Status,
    /// Liveness probe.
    Live,
    /// Readiness probe.
    Ready,
    /// Scrape of the metrics.
    Metrics,
    /// Feeds changes.
    Feed,
    /// Loads a page or an asset.
    Page,
    /// Issues an offline code.
    OfflineCode,
    /// Loads public keys or a status list.
    List,
    /// Any act of the desk.
    Desk,
    /// A request of another issuer's service about our codes.
    Exchange,
    /// A path that the door does not have.
    Other,
}

impl RequestKind {
    const ALL: [RequestKind; 15] = [
        RequestKind::Show,
        RequestKind::Scan,
        RequestKind::Bulk,
        RequestKind::Session,
        RequestKind::Status,
        RequestKind::Live,
        RequestKind::Ready,
        RequestKind::Metrics,
        RequestKind::Feed,
        RequestKind::Page,
        RequestKind::OfflineCode,
        RequestKind::List,
        RequestKind::Desk,
        RequestKind::Exchange,
        RequestKind::Other,
    ];

    fn label(self) -> &'static str {
        match self {
            RequestKind::Show => "show",
            RequestKind::Scan => "scan",
            RequestKind::Bulk => "bulk",
            RequestKind::Session => "session",
            RequestKind::Status => "status",
            RequestKind::Live => "live",
            RequestKind::Ready => "ready",
            RequestKind::Metrics => "metrics",
            RequestKind::Feed => "feed",
            RequestKind::Page => "page",
            RequestKind::OfflineCode => "offline_code",
            RequestKind::List => "list",
            RequestKind::Desk => "desk",
            RequestKind::Exchange => "exchange",
            RequestKind::Other => "other",
        }
    }
}

/// Outcome of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryOutcome {
    /// The query was answered with something other than a status.
    Done,
    /// A status was given.
    Told(ResidentStatus),
    /// The query was refused.
    Refused(Refusal),
    /// The connection ended before the answer.
    Gone,
}

const TOLD: usize = 1;
const GONE: usize = 6;
const REFUSED: usize = 7;
const OUTCOMES: usize = REFUSED + Refusal::ALL.len();

impl QueryOutcome {
    fn index(self) -> usize {
        match self {
            QueryOutcome::Done => 0,
            QueryOutcome::Told(ResidentStatus::Known(reasons)) => {
                TOLD + match reasons.colour() {
                    Colour::Green => 0,
                    Colour::Yellow => 1,
                    Colour::Red => 2,
                }
            }
            QueryOutcome::Told(ResidentStatus::Unknown) => TOLD + 3,
            QueryOutcome::Told(ResidentStatus::TooOld) => TOLD + 4,
            QueryOutcome::Gone => GONE,
            QueryOutcome::Refused(refusal) => REFUSED + refusal as usize,
        }
    }

    fn label(index: usize) -> &'static str {
        const FIRST: [&str; REFUSED] = [
            "done", "green", "yellow", "red", "unknown", "too_old", "gone",
        ];
        match index {
            0..REFUSED => FIRST[index],
            _ => Refusal::ALL[index - REFUSED].code(),
        }
    }
}

/// Durations counted in fixed buckets.
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    /// Counts up to each bound, and beyond the last one.
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    nanos: AtomicU64,
}

/// Bounds of query times in nanoseconds: an answer from memory takes 1 µs, a deadline is 250 ms.
const QUERY_BOUNDS: [u64; 16] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
    10_000_000_000,
];

/// Bounds of commit times in nanoseconds: an fsync takes some milliseconds.
const COMMIT_BOUNDS: [u64; 10] = [
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    2_000_000_000,
];

/// Bounds of replication lag in nanoseconds: the goal is 50 ms.
const CHANGE_BOUNDS: [u64; 12] = [
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    30_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
    10_000_000_000,
    60_000_000_000,
];

/// Durations of queries, from microseconds to seconds.
pub type QueryTimes = Histogram<16>;
/// Durations of store commits.
pub type CommitTimes = Histogram<10>;
/// Durations from a change's version until it is on the board.
pub type ChangeTimes = Histogram<12>;

impl Default for QueryTimes {
    fn default() -> QueryTimes {
        Histogram::new(&QUERY_BOUNDS)
    }
}

impl Default for ChangeTimes {
    fn default() -> ChangeTimes {
        Histogram::new(&CHANGE_BOUNDS)
    }
}

impl Default for CommitTimes {
    fn default() -> CommitTimes {
        Histogram::new(&COMMIT_BOUNDS)
    }
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: &'static [u64; N]) -> Histogram<N> {
        Histogram {
            bounds,
            counts: [const { AtomicU64::new(0) }; N],
            beyond: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
        }
    }

    /// Counts one duration. Only the thread that owns the histogram may call it.
    pub fn record(&self, took: Duration) {
        let nanos = took.as_nanos() as u64;
        add_local(self.bucket(nanos), 1);
        add_local(&self.nanos, nanos);
    }

    /// Counts one duration, from any thread.
    pub fn count(&self, took: Duration) {
        let nanos = took.as_nanos() as u64;
        self.bucket(nanos).fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    fn bucket(&self, nanos: u64) -> &AtomicU64 {
        let nth = self.bounds.iter().position(|bound| nanos <= *bound);
        nth.map_or(&self.beyond, |nth| &self.counts[nth])
    }

    fn print<'h>(
        out: &mut String,
        name: &str,
        labels: &str,
        parts: impl Iterator<Item = &'h Histogram<N>> + Clone,
    ) where
        Self: 'h,
    {
        let Some(first) = parts.clone().next() else {
            return;
        };
        let comma = if labels.is_empty() { "" } else { "," };
        let mut total = 0;
        for (nth, bound) in first.bounds.iter().enumerate() {
            total += parts
                .clone()
                .map(|part| part.counts[nth].load(Relaxed))
                .sum::<u64>();
            let le = *bound as f64 / 1e9;
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{le}\"}} {total}");
        }
        total += parts
            .clone()
            .map(|part| part.beyond.load(Relaxed))
            .sum::<u64>();
        let sum = parts.map(|part| part.nanos.load(Relaxed)).sum::<u64>() as f64 / 1e9;
        let braces = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}");
        let _ = writeln!(out, "{name}_sum{braces} {sum}");
        let _ = writeln!(out, "{name}_count{braces} {total}");
    }
}

/// Adds without a locked instruction. Only the thread that owns the counter may call it.
fn add_local(count: &AtomicU64, by: u64) {
    count.store(count.load(Relaxed).wrapping_add(by), Relaxed);
}

/// The counts of one serving thread.
#[repr(align(128))]
pub struct ThreadMetrics {
    queries: [[AtomicU64; OUTCOMES]; RequestKind::ALL.len()],
    codes: [AtomicU64; OUTCOMES],
    times: [QueryTimes; RequestKind::ALL.len()],
}

impl ThreadMetrics {
    fn new() -> ThreadMetrics {
        ThreadMetrics {
            queries: [const { [const { AtomicU64::new(0) }; OUTCOMES] }; RequestKind::ALL.len()],
            codes: [const { AtomicU64::new(0) }; OUTCOMES],
            times: std::array::from_fn(|_| Histogram::new(&QUERY_BOUNDS)),
        }
    }

    /// Starts a query. If the guard is dropped before [`RequestGuard::leave`], the query counts as `gone`.
    pub fn enter(&self, kind: RequestKind, started: Instant) -> RequestGuard<'_> {
        RequestGuard {
            metrics: self,
            kind,
            started,
            outcome: QueryOutcome::Gone,
        }
    }

    /// Counts one line of a bulk scan.
    pub fn code(&self, outcome: QueryOutcome) {
        add_local(&self.codes[outcome.index()], 1);
    }
}

/// A query in progress.
pub struct RequestGuard<'t> {
    metrics: &'t ThreadMetrics,
    kind: RequestKind,
    started: Instant,
    outcome: QueryOutcome,
}

impl RequestGuard<'_> {
    /// Ends the query and counts its outcome.
    pub fn leave(mut self, outcome: QueryOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        let kind = self.kind as usize;
        add_local(&self.metrics.queries[kind][self.outcome.index()], 1);
        self.metrics.times[kind].record(self.started.elapsed());
    }
}

/// Why a door closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// No request came within the idle timeout.
    Idle,
    /// The head of a request did not end in time.
    Head,
    /// No byte moved while a request was answered.
    Stalled,
    /// The answer took too long as a whole.
    Late,
    /// The connection was closed to make room for another.
    Evicted,
    /// A body did not arrive in time.
    Body,
    /// The request was to be refused, and neither processor time nor the number of answers a second was left for that.
    Untold,
}

/// With what a client has left before its connection was accepted or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftWith {
    /// No request, as a probe or a browser that connected ahead.
    NoRequest,
    /// A request that nobody reads any more: it waited for too long.
    LateRequest,
}

/// Outcome of a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeOutcome {
    /// The handshake succeeded.
    Done,
    /// The client left, did not speak TLS, or has no accepted certificate.
    Failed,
    /// The door closed the connection before the handshake ended.
    Closed,
}

/// Counts and values of one door, for metrics only: the door never reads them. Its load is read when the metrics are scraped.
pub struct DoorMetrics {
    load: Arc<DoorLoad>,
    /// Accepts that failed.
    pub accept_errors: AtomicU64,
    /// Queue delay in milliseconds: the 50th, 90th and 99th percentile.
    pub waits: [AtomicU64; 3],
    /// Connections in the kernel's accept queue at the last look.
    pub queued: AtomicU64,
    /// Connections that the kernel dropped because its accept queue was full.
    pub overflowed: AtomicU64,
    left: [AtomicU64; 2],
    closed: [AtomicU64; 7],
    handshakes: [AtomicU64; 3],
    /// Whether the door speaks TLS.
    pub has_tls: AtomicBool,
    /// When the certificate in force expires, in milliseconds since 1970; 0 if unknown.
    pub certificate_expires_at: AtomicU64,
    /// Certificate or key files that could not be loaded again.
    pub certificate_failures: AtomicU64,
}

impl DoorMetrics {
    fn new(load: Arc<DoorLoad>) -> DoorMetrics {
        DoorMetrics {
            load,
            accept_errors: AtomicU64::default(),
            waits: Default::default(),
            queued: AtomicU64::default(),
            overflowed: AtomicU64::default(),
            left: Default::default(),
            closed: Default::default(),
            handshakes: Default::default(),
            has_tls: AtomicBool::default(),
            certificate_expires_at: AtomicU64::default(),
            certificate_failures: AtomicU64::default(),
        }
    }

    /// Counts a TLS handshake by its outcome.
    pub fn shook_hands(&self, outcome: HandshakeOutcome) {
        self.handshakes[outcome as usize].fetch_add(1, Relaxed);
    }

    /// Counts a client that had left before its connection was accepted or refused.
    pub fn left(&self, with: LeftWith) {
        self.left[with as usize].fetch_add(1, Relaxed);
    }

    /// Counts a connection that the door closed, by reason.
    pub fn closed(&self, why: CloseReason) {
        self.closed[why as usize].fetch_add(1, Relaxed);
    }
}

/// Values that are read when the metrics are scraped.
pub struct ScrapeSnapshot {
    /// Residents on the board.
    pub residents: u64,
    /// Whether everything that the store held at the start is on the board.
    pub filled: bool,
    /// Status words that the board dropped because it had a newer version.
    pub stale_writes_dropped: u64,
    /// Changes based on an older version than the board has.
    pub conflicts: u64,
    /// Reds that the board keeps although the store lost them.
    pub retained_reds: u64,
    /// Size of the record cache in bytes.
    pub record_cache_bytes: u64,
    /// Lookups that may run in the store at once.
    pub store_lookups_limit: u64,
    /// Lookups that run in the store now.
    pub store_lookups_in_flight: u64,
    /// Latency of the store without load.
    pub store_rtt_floor: Duration,
    /// Recent latency of the store.
    pub store_rtt_smoothed: Duration,
    /// The age of the oldest partition of the board.
    pub age: Duration,
    /// Whether `/ready` says 200.
    pub ready: bool,
    /// Number of partitions whose data is too old for a colour.
    pub too_old: u32,
    /// Number of partitions that the store has lost.
    pub lost: u32,
    /// Steps of the system's clock.
    pub clock_steps: u64,
    /// Offset of the system's clock to the store's, in seconds; positive if it is ahead.
    pub clock_apart: f64,
    /// Links of the audit log that this node wrote.
    pub audit_links: u64,
    /// Codes that are watched for a second site.
    pub codes_watched: u64,
    /// Codes that were read at two sites.
    pub codes_at_two_sites: u64,
    /// Time since the current key came into use.
    pub key_age: Duration,
    /// The id of the key that seals data at rest.
    pub rest_key: u8,
    /// Whether the last reload succeeded for all files.
    pub reloaded: bool,
    /// Figures of offline codes; None if the node issues none.
    pub offline: Option<OfflineFacts>,
    /// Figures of foreign codes; None if the node recognises none.
    pub foreign: Option<ForeignFacts>,
    /// Figures of traces.
    pub traces: TraceFacts,
}

/// Figures of traces, read when the metrics are scraped.
pub struct TraceFacts {
    /// Spans: what became of them, count.
    pub spans: Vec<(&'static str, u64)>,
    /// Exports: outcome, count.
    pub exports: Vec<(&'static str, u64)>,
}

/// Figures of codes of other issuers, read when the metrics are scraped.
pub struct ForeignFacts {
    /// Scanned codes: format, outcome, count.
    pub codes: Vec<(&'static str, &'static str, u64)>,
    /// Keys in the trust list: format, count.
    pub keys: Vec<(&'static str, u64)>,
    /// Time since the oldest key file was imported; None without key files.
    pub trust_age: Option<Duration>,
    /// Issuers that are asked, or whose status list is read.
    pub peers: Vec<PeerFacts>,
    /// Codes that issuers asked for: number of the issuer, outcome, count.
    pub answered: Vec<(u32, &'static str, u64)>,
}

/// Figures of one issuer that is asked, or whose status list is read.
pub struct PeerFacts {
    /// The number of the issuer.
    pub issuer: u32,
    /// Requests to its service; None if it is not asked.
    pub asked: Option<PeerQuestions>,
    /// Age of its status list; before the first one, time since the start. None if it has no list.
    pub list_age: Option<Duration>,
}

/// Requests to the service of one issuer.
pub struct PeerQuestions {
    /// Requests: outcome, count.
    pub outcomes: Vec<(&'static str, u64)>,
    /// Whether the circuit breaker is open.
    pub is_open: bool,
    /// Durations of requests.
    pub times: Arc<QueryTimes>,
}

/// Figures of offline codes and the status list, read when the metrics are scraped.
pub struct OfflineFacts {
    /// Age of the served list.
    pub list_age: Duration,
    /// Residents on record in the served list.
    pub residents: u64,
    /// Listed ids: state, count.
    pub listed: [(&'static str, u64); 3],
    /// Ids that are void because two residents would have the same one.
    pub clashes: u64,
    /// Sizes of files: name, bytes.
    pub bytes: [(&'static str, u64); 2],
    /// Attempts to publish: outcome, count.
    pub published: [(&'static str, u64); 5],
    /// Wrong answers that proofs found; such a list is not published.
    pub wrong: u64,
    /// Time that the last publication of this node took.
    pub build: Duration,
    /// Offline codes: outcome, count.
    pub codes: [(&'static str, u64); 5],
}

/// Fault of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// The server does not answer, or is not the expected one.
    Gone,
    /// The server accepted a request and does not answer.
    Stuck,
    /// The server refuses requests: out of memory, wrong password, no primary.
    Refused,
    /// A partition lost all its data.
    Emptied,
    /// A partition has another epoch: another store answers.
    Replaced,
    /// A partition went back to an earlier state.
    Behind,
    /// The stream lost entries that this node had not read.
    Trimmed,
}

impl StoreFault {
    const ALL: [StoreFault; 7] = [
        StoreFault::Gone,
        StoreFault::Stuck,
        StoreFault::Refused,
        StoreFault::Emptied,
        StoreFault::Replaced,
        StoreFault::Behind,
        StoreFault::Trimmed,
    ];

    /// Returns the value of the label `fault`.
    pub fn name(self) -> &'static str {
        match self {
            StoreFault::Gone => "gone",
            StoreFault::Stuck => "stuck",
            StoreFault::Refused => "refused",
            StoreFault::Emptied => "emptied",
            StoreFault::Replaced => "replaced",
            StoreFault::Behind => "behind",
            StoreFault::Trimmed => "trimmed",
        }
    }
}

/// Time of the last change that was written or received.
pub struct LastChange(AtomicU64);

impl Default for LastChange {
    fn default() -> LastChange {
        LastChange(Moment::now().0.into())
    }
}

impl LastChange {
    /// Records a change now.
    pub fn touch(&self) {
        self.0.store(Moment::now().0, Relaxed);
    }

    fn age(&self) -> Duration {
        Moment::now().since(Moment(self.0.load(Relaxed)))
    }
}

/// Counts of the feed and of the store. They are not on the hot path.
#[derive(Default)]
pub struct StoreMetrics {
    /// Fed changes that changed something.
    pub applied: AtomicU64,
    /// Fed changes that changed nothing.
    pub unchanged: AtomicU64,
    /// Rejected feed lines.
    pub rejected: AtomicU64,
    /// Durations of commits.
    pub commit_times: CommitTimes,
    /// Changes that came to the board from the store.
    pub changes: AtomicU64,
    /// Time of the last change that was written or received.
    pub last_change: LastChange,
    /// Calls of the store that failed.
    pub failures: AtomicU64,
    /// Damaged statuses, records and papers that were read.
    pub damaged: AtomicU64,
    /// Durations from a change's version until it is on this board.
    pub change_times: ChangeTimes,
    /// Residents of each partition for whom the board had a newer version than the store, at the last comparison.
    pub ahead: [AtomicU64; 16],
    /// Residents on record when the store was opened.
    pub on_record: AtomicU64,
    faults: [AtomicU64; StoreFault::ALL.len()],
    lookups: [AtomicU64; 3],
    /// Papers whose key was known already, and new ones.
    papers: [AtomicU64; 2],
    /// Papers that were removed after their retention.
    pub swept: AtomicU64,
    red_alarm: Mutex<RedAlarm>,
    /// Reasons that feeds set, by the source of the feed's token.
    fed_reds: Mutex<HashMap<Box<str>, u64>>,
}

/// Residents whom each source set red in this hour. A wrong list is noticed by its length.
#[derive(Default)]
struct RedAlarm {
    hour: u64,
    most: u64,
    counts: HashMap<Box<str>, u64>,
}

/// Sources that are counted individually.
const SOURCES_MAX: usize = 1_000;

const HOUR_MS: u64 = 3_600_000;

impl RedAlarm {
    fn enter(&mut self, now: Moment) {
        let hour = now.0 / HOUR_MS;
        if self.hour != hour {
            self.hour = hour;
            self.counts.clear();
        }
    }
}

/// Tokens with a label of their own; the rest are counted as `others`.
const TOKENS_MAX: usize = 64;

impl StoreMetrics {
    /// Counts `reds` reasons set by feeds of a token.
    pub fn fed_reds(&self, token: &str, reds: u64) {
        let mut fed = lock(&self.fed_reds);
        let full = fed.len() >= TOKENS_MAX && !fed.contains_key(token);
        let token = if full { "others" } else { token };
        *fed.entry(token.into()).or_default() += reds;
    }

    /// Counts one red of a source. Returns true for the one red that exceeds `most` in this hour.
    pub fn red_alarm(&self, source: &str, most: u64, now: Moment) -> bool {
        let mut red_alarm = lock(&self.red_alarm);
        red_alarm.enter(now);
        red_alarm.most = most;
        let full = red_alarm.counts.len() >= SOURCES_MAX && !red_alarm.counts.contains_key(source);
        let source = if full { "others" } else { source };
        let count = red_alarm.counts.entry(source.into()).or_default();
        *count += 1;
        *count == most + 1
    }

    /// Counts a paper that was written; `new` is false if the store had its key already.
    pub fn paper(&self, new: bool) {
        self.papers[usize::from(new)].fetch_add(1, Relaxed);
    }

    /// Counts a fault of the store.
    pub fn fault(&self, fault: StoreFault) {
        self.faults[fault as usize].fetch_add(1, Relaxed);
    }

    /// Counts a lookup by its outcome.
    pub fn lookup(&self, lookup: LookupOutcome) {
        self.lookups[lookup as usize].fetch_add(1, Relaxed);
    }
}

/// Outcome of a lookup in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupOutcome {
    /// The resident is on record.
    Found,
    /// The resident is not on record.
    Absent,
    /// The store did not answer in time, or was not asked.
    Busy,
}

/// All metrics of a node.
pub struct Meters {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    all_metrics: Mutex<Vec<Arc<ThreadMetrics>>>,
    doors: Mutex<Vec<(&'static str, Arc<DoorMetrics>)>>,
    /// Counts of the feed and of the store.
    pub store: Arc<StoreMetrics>,
}

impl Default for Meters {
    fn default() -> Meters {
        Meters::new()
    }
}

const METADATA: Metadata<'static> = Metadata::new("liangma", Level::INFO, None);

impl Meters {
    /// Returns metrics with all counts at zero.
    pub fn new() -> Meters {
        let recorder = PrometheusBuilder::new().build_recorder();
        for (name, _, _, meaning) in METERS {
            recorder.describe_gauge((*name).into(), None, (*meaning).into());
        }
        Meters {
            handle: recorder.handle(),
            recorder,
            all_metrics: Mutex::default(),
            doors: Mutex::default(),
            store: Arc::default(),
        }
    }

    /// Registers and returns the counts of one more serving thread.
    pub fn metrics(&self) -> Arc<ThreadMetrics> {
        let metrics = Arc::new(ThreadMetrics::new());
        lock(&self.all_metrics).push(metrics.clone());
        metrics
    }

    /// Registers and returns the counts of a door with this load.
    pub fn door(&self, name: &'static str, load: Arc<DoorLoad>) -> Arc<DoorMetrics> {
        let metrics = Arc::new(DoorMetrics::new(load));
        lock(&self.doors).push((name, metrics.clone()));
        metrics
    }

    /// Returns the name and counts of each open door.
    pub fn doors(&self) -> Vec<(&'static str, Arc<DoorMetrics>)> {
        lock(&self.doors).clone()
    }

    /// Returns all metrics in the text format of Prometheus.
    pub fn print(&self, snapshot: &ScrapeSnapshot) -> String {
        let all_metrics = lock(&self.all_metrics).clone();
        self.publish_queries(&all_metrics);
        self.publish_doors();
        self.gauge("liangma_residents", &[], snapshot.residents as f64);
        self.gauge(
            "liangma_board_filled",
            &[],
            f64::from(u8::from(snapshot.filled)),
        );
        self.count(
            "liangma_board_stale_writes_dropped_total",
            &[],
            snapshot.stale_writes_dropped,
        );
        self.count("liangma_board_conflicts_total", &[], snapshot.conflicts);
        self.gauge(
            "liangma_board_retained_reds",
            &[],
            snapshot.retained_reds as f64,
        );
        self.gauge(
            "liangma_record_cache_bytes",
            &[],
            snapshot.record_cache_bytes as f64,
        );
        self.gauge(
            "liangma_store_lookups_limit",
            &[],
            snapshot.store_lookups_limit as f64,
        );
        self.gauge(
            "liangma_store_lookups_in_flight",
            &[],
            snapshot.store_lookups_in_flight as f64,
        );
        for (of, rtt) in [
            ("floor", snapshot.store_rtt_floor),
            ("smoothed", snapshot.store_rtt_smoothed),
        ] {
            self.gauge(
                "liangma_store_rtt_seconds",
                &[("stat", of)],
                rtt.as_secs_f64(),
            );
        }
        self.gauge("liangma_data_age_seconds", &[], snapshot.age.as_secs_f64());
        self.gauge("liangma_ready", &[], f64::from(u8::from(snapshot.ready)));
        self.gauge("liangma_partitions_too_old", &[], snapshot.too_old.into());
        self.gauge("liangma_partitions_unavailable", &[], snapshot.lost.into());
        self.count("liangma_clock_steps_total", &[], snapshot.clock_steps);
        self.gauge("liangma_clock_offset_seconds", &[], snapshot.clock_apart);
        self.count("liangma_audit_links_total", &[], snapshot.audit_links);
        self.count("liangma_codes_watched_total", &[], snapshot.codes_watched);
        self.count(
            "liangma_codes_at_two_sites_total",
            &[],
            snapshot.codes_at_two_sites,
        );
        for (outcome, spans) in &snapshot.traces.spans {
            self.count("liangma_spans_total", &[("outcome", outcome)], *spans);
        }
        for (outcome, exports) in &snapshot.traces.exports {
            let outcome = ("outcome", *outcome);
            self.count("liangma_span_exports_total", &[outcome], *exports);
        }
        self.count("liangma_log_lines_lost_total", &[], crate::logging::lost());
        self.count("liangma_panics_total", &[], crate::critical::panics());
        self.gauge(
            "liangma_build_info",
            &[("version", VERSION), ("commit", COMMIT)],
            1.0,
        );
        let store = &self.store;
        for (outcome, count) in [
            ("applied", &store.applied),
            ("unchanged", &store.unchanged),
            ("rejected", &store.rejected),
        ] {
            self.count(
                "liangma_feed_events_total",
                &[("outcome", outcome)],
                count.load(Relaxed),
            );
        }
        self.count(
            "liangma_store_changes_total",
            &[],
            store.changes.load(Relaxed),
        );
        self.count(
            "liangma_store_failures_total",
            &[],
            store.failures.load(Relaxed),
        );
        self.count(
            "liangma_store_damaged_total",
            &[],
            store.damaged.load(Relaxed),
        );

        self.publish_store();
        if let Some(offline) = &snapshot.offline {
            self.publish_offline(offline);
        }
        if let Some(foreign) = &snapshot.foreign {
            self.publish_foreign(foreign);
        }

        self.gauge(
            "liangma_last_change_age_seconds",
            &[],
            store.last_change.age().as_secs_f64(),
        );
        self.gauge(
            "liangma_key_age_seconds",
            &[],
            snapshot.key_age.as_secs_f64(),
        );
        self.gauge("liangma_rest_key_id", &[], f64::from(snapshot.rest_key));
        let reloaded = f64::from(u8::from(snapshot.reloaded));
        self.gauge("liangma_last_reload_successful", &[], reloaded);

        let mut out = self.handle.render();
        for (name, value) in process::usage() {
            head(&mut out, name);
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name} {value}");
        }
        let asked = snapshot.foreign.iter().flat_map(|foreign| &foreign.peers);
        let asked = asked.filter_map(|peer| Some((peer.issuer, peer.asked.as_ref()?)));
        let mut asked = asked.peekable();
        if asked.peek().is_some() {
            head(&mut out, "liangma_exchange_seconds");
        }
        for (issuer, asked) in asked {
            let labels = format!("issuer=\"{issuer:06}\"");
            let times = std::iter::once(&*asked.times);
            Histogram::print(&mut out, "liangma_exchange_seconds", &labels, times);
        }
        head(&mut out, "liangma_query_seconds");
        for kind in RequestKind::ALL {
            let labels = format!("kind=\"{}\"", kind.label());
            let parts = all_metrics
                .iter()
                .map(|metrics| &metrics.times[kind as usize]);
            Histogram::print(&mut out, "liangma_query_seconds", &labels, parts);
        }
        head(&mut out, "liangma_store_commit_seconds");
        let commits = std::iter::once(&store.commit_times);
        Histogram::print(&mut out, "liangma_store_commit_seconds", "", commits);
        head(&mut out, "liangma_replication_lag_seconds");
        let changes = std::iter::once(&store.change_times);
        Histogram::print(&mut out, "liangma_replication_lag_seconds", "", changes);
        out
    }

    fn publish_offline(&self, snapshot: &OfflineFacts) {
        let [age, build] = [snapshot.list_age, snapshot.build].map(|time| time.as_secs_f64());
        self.gauge("liangma_list_age_seconds", &[], age);
        self.gauge("liangma_list_residents", &[], snapshot.residents as f64);
        for (state, listed) in snapshot.listed {
            self.gauge("liangma_list_listed", &[("state", state)], listed as f64);
        }
        self.gauge("liangma_list_clashes", &[], snapshot.clashes as f64);
        for (file, bytes) in snapshot.bytes {
            self.gauge("liangma_list_bytes", &[("file", file)], bytes as f64);
        }
        for (outcome, published) in snapshot.published {
            let outcome = ("outcome", outcome);
            self.count("liangma_list_published_total", &[outcome], published);
        }
        self.count("liangma_list_wrong_total", &[], snapshot.wrong);
        self.gauge("liangma_list_build_seconds", &[], build);
        for (outcome, codes) in snapshot.codes {
            let outcome = ("outcome", outcome);
            self.count("liangma_offline_codes_total", &[outcome], codes);
        }
    }

    fn publish_foreign(&self, snapshot: &ForeignFacts) {
        for (format, outcome, codes) in &snapshot.codes {
            let labels = [("format", *format), ("outcome", *outcome)];
            self.count("liangma_foreign_total", &labels, *codes);
        }
        for (format, keys) in &snapshot.keys {
            self.gauge("liangma_trust_keys", &[("format", format)], *keys as f64);
        }
        if let Some(age) = snapshot.trust_age {
            self.gauge("liangma_trust_age_seconds", &[], age.as_secs_f64());
        }
        for (issuer, outcome, answers) in &snapshot.answered {
            let labels = [issuer_label(*issuer), Label::new("outcome", *outcome)];
            let key = Key::from_parts("liangma_exchange_answered_total", labels.to_vec());
            let counter = self.recorder.register_counter(&key, &METADATA);
            counter.absolute(*answers);
        }
        for peer in &snapshot.peers {
            let label = issuer_label(peer.issuer);
            let gauge = |name: &'static str, value: f64| {
                let key = Key::from_parts(name, vec![label.clone()]);
                self.recorder.register_gauge(&key, &METADATA).set(value);
            };
            if let Some(age) = peer.list_age {
                gauge("liangma_peer_list_age_seconds", age.as_secs_f64());
            }
            let Some(asked) = &peer.asked else {
                continue;
            };
            gauge("liangma_exchange_open", f64::from(u8::from(asked.is_open)));
            for (outcome, questions) in &asked.outcomes {
                let labels = vec![label.clone(), Label::new("outcome", *outcome)];
                let key = Key::from_parts("liangma_exchange_asked_total", labels);
                let counter = self.recorder.register_counter(&key, &METADATA);
                counter.absolute(*questions);
            }
        }
    }

    fn publish_store(&self) {
        let store = &self.store;
        for fault in StoreFault::ALL {
            let count = store.faults[fault as usize].load(Relaxed);
            self.count(
                "liangma_store_faults_total",
                &[("fault", fault.name())],
                count,
            );
        }
        for (outcome, count) in ["found", "absent", "busy"].into_iter().zip(&store.lookups) {
            let outcome = ("outcome", outcome);
            self.count(
                "liangma_store_lookups_total",
                &[outcome],
                count.load(Relaxed),
            );
        }
        for (outcome, count) in ["known", "new"].into_iter().zip(&store.papers) {
            let outcome = ("outcome", outcome);
            self.count(
                "liangma_entries_written_total",
                &[outcome],
                count.load(Relaxed),
            );
        }
        self.count(
            "liangma_entries_expired_total",
            &[],
            store.swept.load(Relaxed),
        );
        for (token, reds) in &*lock(&store.fed_reds) {
            let label = Label::new("token", token.to_string());
            let key = Key::from_parts("liangma_feed_reds_total", vec![label]);
            let counter = self.recorder.register_counter(&key, &METADATA);
            counter.absolute(*reds);
        }
        let (most, alarms) = {
            let mut red_alarm = lock(&store.red_alarm);
            red_alarm.enter(Moment::now());
            let beyond = red_alarm
                .counts
                .values()
                .filter(|count| **count > red_alarm.most);
            let most = red_alarm.counts.values().copied().max().unwrap_or(0);
            (most, beyond.count())
        };
        self.gauge("liangma_red_set_hourly_max", &[], most as f64);
        self.gauge("liangma_red_alarms", &[], alarms as f64);
        let ahead: u64 = store.ahead.iter().map(|part| part.load(Relaxed)).sum();
        for (name, value) in [
            ("liangma_board_lost_by_store", ahead),
            ("liangma_residents_on_record", store.on_record.load(Relaxed)),
        ] {
            self.gauge(name, &[], value as f64);
        }
    }

    fn publish_queries(&self, all_metrics: &[Arc<ThreadMetrics>]) {
        for index in 0..OUTCOMES {
            let outcome = ("outcome", QueryOutcome::label(index));
            for kind in RequestKind::ALL {
                let sum = all_metrics
                    .iter()
                    .map(|metrics| metrics.queries[kind as usize][index].load(Relaxed))
                    .sum::<u64>();
                if sum > 0 {
                    self.count(
                        "liangma_queries_total",
                        &[("kind", kind.label()), outcome],
                        sum,
                    );
                }
            }
            let sum = all_metrics
                .iter()
                .map(|metrics| metrics.codes[index].load(Relaxed))
                .sum::<u64>();
            if sum > 0 {
                self.count("liangma_bulk_codes_total", &[outcome], sum);
            }
        }
    }

    fn publish_doors(&self) {
        for (name, metrics) in lock(&self.doors).iter() {
            let door = ("door", *name);
            let load = &*metrics.load;
            for (name, count) in [
                ("liangma_connections_accepted_total", &load.accepted),
                ("liangma_connections_rejected_total", &load.rejected),
                ("liangma_accept_errors_total", &metrics.accept_errors),
                ("liangma_connections_overflowed_total", &metrics.overflowed),
            ] {
                self.count(name, &[door], count.load(Relaxed));
            }
            let seconds = |ms: &AtomicU64| ms.load(Relaxed) as f64 / 1000.0;
            for (quantile, ms) in ["0.5", "0.9", "0.99"].iter().zip(&metrics.waits) {
                let labels = [door, ("quantile", *quantile)];
                self.gauge("liangma_queue_delay_seconds", &labels, seconds(ms));
            }
            for (name, value) in [
                ("liangma_connections", load.open_connections() as f64),
                (
                    "liangma_connections_limit_max",
                    load.connections_max.load(Relaxed) as f64,
                ),
                (
                    "liangma_connections_frozen",
                    load.frozen.load(Relaxed) as f64,
                ),
                ("liangma_connections_limit", load.limit.load(Relaxed) as f64),
                ("liangma_accept_queue", metrics.queued.load(Relaxed) as f64),
                (
                    "liangma_in_flight_max",
                    load.in_flight_max.load(Relaxed) as f64,
                ),
                (
                    "liangma_balancer_weight_ratio",
                    load.weight.load(Relaxed) as f64 / 100.0,
                ),
                ("liangma_retry_after_seconds", seconds(&load.retry_after_ms)),
            ] {
                self.gauge(name, &[door], value);
            }
            for (request, count) in ["none", "late"].iter().zip(&metrics.left) {
                let labels = [door, ("request", *request)];
                let count = count.load(Relaxed);
                self.count("liangma_connections_left_total", &labels, count);
            }
            for (why, count) in [
                "idle", "head", "stalled", "late", "evicted", "body", "untold",
            ]
            .iter()
            .zip(&metrics.closed)
            {
                let labels = [door, ("reason", *why)];
                self.count(
                    "liangma_connections_closed_total",
                    &labels,
                    count.load(Relaxed),
                );
            }
            if metrics.has_tls.load(Relaxed) {
                self.publish_tls(door, metrics);
            }
        }
    }

    fn publish_tls(&self, door: (&'static str, &'static str), metrics: &DoorMetrics) {
        for (outcome, count) in ["done", "failed", "closed"].iter().zip(&metrics.handshakes) {
            let labels = [door, ("outcome", *outcome)];
            self.count("liangma_tls_handshakes_total", &labels, count.load(Relaxed));
        }
        self.count(
            "liangma_tls_reload_failures_total",
            &[door],
            metrics.certificate_failures.load(Relaxed),
        );
        let expires_at = metrics.certificate_expires_at.load(Relaxed);
        if expires_at > 0 {
            let left = (expires_at as f64 - Time::now().0 as f64) / 1_000.0;
            self.gauge("liangma_tls_certificate_expiry_seconds", &[door], left);
        }
    }

    fn count(&self, name: &'static str, labels: &[(&'static str, &'static str)], value: u64) {
        let counter = self
            .recorder
            .register_counter(&key(name, labels), &METADATA);
        counter.absolute(value);
    }

    fn gauge(&self, name: &'static str, labels: &[(&'static str, &'static str)], value: f64) {
        let gauge = self.recorder.register_gauge(&key(name, labels), &METADATA);
        gauge.set(value);
    }
}

/// Prints the HELP and TYPE lines of a metric.
fn head(out: &mut String, name: &str) {
    let meter = METERS.iter().find(|(known, ..)| *known == name);
    let (_, kind, _, meaning) = meter.expect("every meter is listed");
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {meaning}\n# TYPE {name} {kind}");
}

fn issuer_label(issuer: u32) -> Label {
    Label::new("issuer", format!("{issuer:06}"))
}

fn key(name: &'static str, labels: &[(&'static str, &'static str)]) -> Key {
    let labels = labels
        .iter()
        .map(|(name, value)| Label::from_static_parts(name, value))
        .collect::<Vec<_>>();
    Key::from_parts(name, labels)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> ScrapeSnapshot {
        ScrapeSnapshot {
            residents: 3,
            filled: true,
            stale_writes_dropped: 0,
            conflicts: 0,
            retained_reds: 0,
            record_cache_bytes: 0,
            store_lookups_limit: 32,
            store_lookups_in_flight: 0,
            store_rtt_floor: Duration::from_millis(1),
            store_rtt_smoothed: Duration::ZERO,
            age: Duration::from_millis(1500),
            ready: true,
            too_old: 0,
            lost: 0,
            clock_steps: 0,
            clock_apart: 0.0,
            audit_links: 0,
            key_age: Duration::from_secs(7),
            rest_key: 3,
            reloaded: true,
            offline: Some(OfflineFacts {
                list_age: Duration::ZERO,
                residents: 3,
                listed: [("red", 1), ("yellow", 0), ("void", 0)],
                clashes: 0,
                bytes: [("base", 200), ("changes", 128)],
                published: ["published", "withheld", "wrong", "failed", "late"]
                    .map(|outcome| (outcome, 0)),
                wrong: 0,
                build: Duration::ZERO,
                codes: ["issued", "opened", "expired", "revoked", "invalid"]
                    .map(|outcome| (outcome, 0)),
            }),
            foreign: Some(ForeignFacts {
                codes: vec![("hc1", "pass", 1)],
                keys: vec![("hc1", 829)],
                trust_age: Some(Duration::from_secs(5)),
                peers: vec![PeerFacts {
                    issuer: 820_000,
                    asked: Some(PeerQuestions {
                        outcomes: vec![("answered", 1)],
                        is_open: false,
                        times: Arc::default(),
                    }),
                    list_age: Some(Duration::from_secs(7)),
                }],
                answered: vec![(820_000, "green", 1)],
            }),
            codes_watched: 0,
            codes_at_two_sites: 0,
            traces: TraceFacts {
                spans: vec![("sent", 1)],
                exports: vec![("done", 1)],
            },
        }
    }

    #[test]
    fn a_query_that_is_dropped_counts_as_gone() {
        let meters = Meters::new();
        let metrics = meters.metrics();
        drop(metrics.enter(RequestKind::Show, Instant::now()));
        metrics
            .enter(RequestKind::Scan, Instant::now())
            .leave(QueryOutcome::Refused(Refusal::CodeExpired));
        let text = meters.print(&snapshot());
        for line in [
            "liangma_queries_total{kind=\"show\",outcome=\"gone\"} 1",
            "liangma_queries_total{kind=\"scan\",outcome=\"code_expired\"} 1",
            "liangma_query_seconds_count{kind=\"show\"} 1",
            "liangma_data_age_seconds 1.5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn the_generated_page_of_metrics_is_current() {
        let mut page = String::from(
            "# Metrics\n\n\
             Generated from `src/meters.rs`; see CONTRIBUTING.md before you edit it.\n\n\
             `GET /metrics` at the operations door answers in the text format of Prometheus.\n\n\
             | metric | type | labels | meaning |\n| --- | --- | --- | --- |\n",
        );
        for (name, kind, labels, meaning) in METERS {
            page += &format!("| `{name}` | {kind} | {labels} | {meaning} |\n");
        }
        crate::generated_docs::check("operate/metrics.md", &page);
    }

    #[test]
    fn a_source_that_turns_many_red_raises_one_alarm_an_hour() {
        let metrics = StoreMetrics::default();
        let at = |minute: u64| Moment(9 * HOUR_MS + minute * 60_000);
        let alarms = |source, minute| metrics.red_alarm(source, 2, at(minute));
        assert_eq!([alarms("a", 0), alarms("a", 1), alarms("b", 1)], [false; 3]);
        assert!(alarms("a", 2));
        assert!(!alarms("a", 3) && !alarms("b", 59));
        assert_eq!(
            [alarms("a", 60), alarms("a", 61), alarms("a", 62)],
            [false, false, true]
        );
    }

    #[test]
    fn tokens_past_the_most_are_counted_together() {
        let meters = Meters::new();
        for nth in 0..TOKENS_MAX + 10 {
            meters.store.fed_reds(&format!("t-{nth}"), 2);
        }
        let text = meters.print(&snapshot());
        let of = |line: &&str| line.starts_with("liangma_feed_reds_total{");
        assert_eq!(text.lines().filter(of).count(), TOKENS_MAX + 1);
        assert!(text.contains("liangma_feed_reds_total{token=\"others\"} 20"));
    }

    #[test]
    fn threads_are_summed_and_never_go_back() {
        let meters = Meters::new();
        for _ in 0..3 {
            let metrics = meters.metrics();
            metrics.code(QueryOutcome::Told(ResidentStatus::Unknown));
            let text = meters.print(&snapshot());
            assert!(text.contains("liangma_bulk_codes_total{outcome=\"unknown\"}"));
        }
        assert!(meters.print(&snapshot()).contains("outcome=\"unknown\"} 3"));
    }

    #[test]
    fn every_meter_that_is_printed_is_on_the_list_and_the_other_way_round() {
        let meters = Meters::new();
        let metrics = meters.metrics();
        let gate = meters.door("gate", Arc::new(DoorLoad::new(10, 1)));
        gate.has_tls.store(true, Relaxed);
        gate.certificate_expires_at.store(u64::MAX, Relaxed);
        metrics.code(QueryOutcome::Done);
        metrics
            .enter(RequestKind::Show, Instant::now())
            .leave(QueryOutcome::Done);
        meters.store.fed_reds("gd-cdc", 1);
        let text = meters.print(&snapshot());
        let mut printed: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        let mut listed: Vec<&str> = METERS.iter().map(|(name, ..)| *name).collect();
        printed.sort_unstable();
        listed.sort_unstable();
        assert_eq!(printed, listed);
        for (name, kind, _, meaning) in METERS {
            for line in [
                format!("# HELP {name} {meaning}"),
                format!("# TYPE {name} {kind}"),
            ] {
                assert_eq!(text.lines().filter(|l| *l == line).count(), 1, "{line}");
            }
        }
    }
}
