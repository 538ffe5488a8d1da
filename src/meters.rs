//! Every meter: name, labels, meaning. Hot ones are a plain add on the counting thread's own line of memory, summed when
//! somebody scrapes; nothing here is shared between threads that serve.

use crate::answer::{Refusal, ResidentStatus};
use crate::clock::{Moment, Time};
use crate::process;
use crate::status::Colour;
use crate::version::{COMMIT, VERSION};
use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Every meter: name, type, labels, meaning. `docs/operate/metrics.md` is generated from this list.
pub const METERS: &[(&str, &str, &str, &str)] = &[
    (
        "liangma_queries_total",
        "counter",
        "kind, outcome",
        "queries ended, by what was asked and what came of it; `gone`: the asker left first",
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
        "lines of bulk scans, by verdict",
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
        "words that came late and were kept off the board by their version",
    ),
    (
        "liangma_data_age_seconds",
        "gauge",
        "",
        "age of what this node knows",
    ),
    ("liangma_ready", "gauge", "", "1 while `/ready` says 200"),
    (
        "liangma_partitions_too_old",
        "gauge",
        "",
        "sixteenths of the residents of whom this node tells no colour, because what it knows is too old",
    ),
    (
        "liangma_partitions_lost",
        "gauge",
        "",
        "sixteenths of the residents whose primary has failed, as a majority of the cluster says; every node is without them",
    ),
    (
        "liangma_clock_steps_total",
        "counter",
        "",
        "steps of the system's clock by more than half a second; the node's time did not follow at once",
    ),
    (
        "liangma_clock_offset_seconds",
        "gauge",
        "",
        "how far the system's clock is ahead of that of Redis; behind it is negative",
    ),
    ("liangma_connections", "gauge", "door", "connections open"),
    (
        "liangma_connections_frozen",
        "gauge",
        "door",
        "of them those that made room and are not heard",
    ),
    (
        "liangma_connections_limit_max",
        "gauge",
        "door",
        "connections that the door admits",
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
        "connections told that we are busy",
    ),
    (
        "liangma_connections_closed_total",
        "counter",
        "door, reason",
        "connections that we closed: `idle`, `head` (slow or silent), `stalled` (no byte moved), `late` (the answer's time was up), `evicted` (idle, or waited for its body, while others waited to come in), `body` (a request's body took too long)",
    ),
    (
        "liangma_tls_handshakes_total",
        "counter",
        "door, outcome",
        "TLS handshakes of a door that speaks TLS: `done`, `failed` (the client left, or has no certificate that is accepted), `closed` (by us, mostly because it took longer than `head_timeout`)",
    ),
    (
        "liangma_tls_certificate_expiry_seconds",
        "gauge",
        "door",
        "until the certificate in force expires; negative after that",
    ),
    (
        "liangma_tls_reload_failures_total",
        "counter",
        "door",
        "new certificate or key files that could not be used; the certificate before them stays in force",
    ),
    (
        "liangma_connections_limit",
        "gauge",
        "door",
        "connections that the door admits now, steered by the wait",
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
        "the part of its usual traffic that the agent port asks for: below 1 while requests wait for longer than half of `queue_delay_target`",
    ),
    (
        "liangma_queue_delay_seconds",
        "gauge",
        "door, quantile",
        "from a request's bytes to our reading them, sampled, in the last step in which there were any",
    ),
    (
        "liangma_accept_queue",
        "gauge",
        "door",
        "connections that waited to be accepted while the door was full, when last seen",
    ),
    (
        "liangma_connections_overflowed_total",
        "counter",
        "door",
        "connections that found an accept queue of this network full, counted while this door was full",
    ),
    (
        "liangma_retry_after_seconds",
        "gauge",
        "door",
        "how long those who are told that we are busy should stay away",
    ),
    (
        "liangma_accept_errors_total",
        "counter",
        "door",
        "accepts that failed, as when descriptors run out",
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
        "a group commit, from its first change to durable",
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
        "statuses and records that are not as they were written, each time that one was read; none of them is told",
    ),
    (
        "liangma_residents_on_record",
        "gauge",
        "",
        "residents in the store when this node started; `liangma_residents` beside it is how far a start is",
    ),
    (
        "liangma_replication_lag_seconds",
        "histogram",
        "",
        "from a change in Redis to this board, by the clocks of both",
    ),
    (
        "liangma_store_faults_total",
        "counter",
        "fault",
        "what befell the store: `gone`, `stuck`, `refused`, `emptied`, `replaced`, `behind`, `trimmed`",
    ),
    (
        "liangma_board_lost_by_store",
        "gauge",
        "",
        "residents of whom this board knows more than the store: it has lost what it acknowledged",
    ),
    (
        "liangma_board_conflicts_total",
        "counter",
        "",
        "changes made by a store that had forgotten what this board knows; they took no red away",
    ),
    (
        "liangma_board_retained_reds",
        "gauge",
        "",
        "residents who stay red although the store, which has lost why, says otherwise",
    ),
    (
        "liangma_store_lookups_total",
        "counter",
        "outcome",
        "looks into the store because memory could not answer: `found`, `absent`, `busy`",
    ),
    (
        "liangma_store_lookups_limit",
        "gauge",
        "",
        "queries that may be with the store at once; it follows how long the store takes",
    ),
    (
        "liangma_store_lookups_in_flight",
        "gauge",
        "",
        "queries that are with the store",
    ),
    (
        "liangma_store_rtt_seconds",
        "gauge",
        "stat",
        "how long the store takes to answer a query: `floor`, undisturbed; `smoothed`, of late",
    ),
    (
        "liangma_record_cache_bytes",
        "gauge",
        "",
        "records and absences kept beside the board",
    ),
    (
        "liangma_entries_written_total",
        "counter",
        "outcome",
        "papers that came: `new`, or `known` because their key was there already",
    ),
    (
        "liangma_entries_expired_total",
        "counter",
        "",
        "papers that were past their time and are gone",
    ),
    (
        "liangma_feed_reds_total",
        "counter",
        "token",
        "reasons that feeds set, by the source that the token was made for; past 64 of them `others`",
    ),
    (
        "liangma_codes_watched_total",
        "counter",
        "",
        "codes that gates read and that are watched: one in 256, by the time of issue",
    ),
    (
        "liangma_codes_at_two_sites_total",
        "counter",
        "",
        "of them those that scanners of two sites read here within the code's life: copies",
    ),
    (
        "liangma_audit_links_total",
        "counter",
        "",
        "links of the audit log that this node filed; its end is in the log of the node each hour, as `audit_end`",
    ),
    (
        "liangma_red_set_hourly_max",
        "gauge",
        "",
        "people whom the source that turned most red did so in this hour, by feeds to this node",
    ),
    (
        "liangma_red_alarms",
        "gauge",
        "",
        "sources that are beyond `red_alarm_per_hour` in this hour: look at what they fed",
    ),
    (
        "liangma_log_lines_lost_total",
        "counter",
        "",
        "lines of the log that could not be written: standard error is full, closed, or not read",
    ),
    (
        "liangma_panics_total",
        "counter",
        "",
        "panics: faults of this program, each named in the log",
    ),
    (
        "liangma_list_age_seconds",
        "gauge",
        "",
        "age of the status list that this node serves; before the first one, since the node started",
    ),
    (
        "liangma_list_residents",
        "gauge",
        "",
        "residents on record by the status list that this node serves",
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
        "ids in that list that two residents would have; they are void",
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
        "turns of this node to publish: `published`, `withheld` (the node is warming, stale, leaving, or its clock is apart), `wrong` (the proof failed), `failed` (it could not be built or stored), `late`",
    ),
    (
        "liangma_list_wrong_total",
        "counter",
        "",
        "answers of lists that this node built and did not publish because they would have been wrong",
    ),
    (
        "liangma_list_build_seconds",
        "gauge",
        "",
        "how long the last list of this node took, from its turn to the store",
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
        "since a change was last written by this node or came to its board; since its start, before the first",
    ),
    (
        "liangma_key_age_seconds",
        "gauge",
        "",
        "for how long the key has sealed that seals codes, sessions and tokens now; rotation begins it anew",
    ),
    (
        "liangma_last_reload_successful",
        "gauge",
        "",
        "0 while something that the last SIGHUP had read again was bad, and what was before stays in force",
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
        "since the oldest of the trust list's key files was imported",
    ),
    (
        "liangma_peer_list_age_seconds",
        "gauge",
        "issuer",
        "age of the status list of another issuer; before the first, since the node started",
    ),
    (
        "liangma_exchange_asked_total",
        "counter",
        "issuer, outcome",
        "questions to another issuer's service: `answered`; `late`, `failed`, `rubbish`, `lie` (another issuer, or a time to come); `turned_away`; `full`, `open` (not asked)",
    ),
    (
        "liangma_exchange_seconds",
        "histogram",
        "issuer",
        "time of a question to another issuer's service, with the connection",
    ),
    (
        "liangma_exchange_open",
        "gauge",
        "issuer",
        "1 while another issuer's service failed too often and is not asked but for trials",
    ),
    (
        "liangma_exchange_answered_total",
        "counter",
        "issuer, outcome",
        "codes that another issuer's service asked of here, by what was told: a state, or the refusal",
    ),
    (
        "liangma_build_info",
        "gauge",
        "version, commit",
        "always 1; the labels say which build runs",
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
        "memory of this process that is in RAM",
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
        "descriptors that this process has open",
    ),
    (
        "process_max_fds",
        "gauge",
        "",
        "descriptors that this process may have open",
    ),
    (
        "process_start_time_seconds",
        "gauge",
        "",
        "when this process was started, in seconds since 1970",
    ),
];

/// What a query asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A code is shown.
    Show,
    /// A code is scanned.
    Scan,
    /// Many codes are scanned.
    Bulk,
    /// A session is opened.
    Session,
    /// A status is explained.
    Status,
    /// Somebody asks whether the process lives.
    Live,
    /// Somebody asks whether the node is ready.
    Ready,
    /// The metrics are scraped.
    Metrics,
    /// Changes are fed.
    Feed,
    /// A page or an asset is loaded.
    Page,
    /// An offline code is asked for.
    OfflineCode,
    /// Public keys and status lists.
    List,
    /// Whatever the desk keeps papers of.
    Desk,
    /// A service of another issuer asks of our codes.
    Exchange,
    /// Nothing that we have.
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

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryOutcome {
    /// Answered, with something that is no verdict.
    Done,
    /// A status was told.
    Told(ResidentStatus),
    /// The query was refused.
    Refused(Refusal),
    /// The asker left, or was cut off, before the answer.
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

/// Times in fixed buckets.
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    /// Nanoseconds up to each bound, and beyond.
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    nanos: AtomicU64,
}

/// Bounds of query times in nanoseconds: an answer from memory takes one microsecond, a deadline is 250 ms.
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

/// Bounds of the way of a change to a board in nanoseconds: the goal is 50 ms.
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
/// Durations of commits of the store.
pub type CommitTimes = Histogram<10>;
/// Durations from a change's version to its being on the board.
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

    /// Counts one; only its own thread may.
    pub fn record(&self, took: Duration) {
        let nanos = took.as_nanos() as u64;
        add_local(self.bucket(nanos), 1);
        add_local(&self.nanos, nanos);
    }

    /// Counts one, from any thread.
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

/// An add by the one thread that writes: a load and a store, no locked instruction.
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

    /// A query that begins; dropped unfinished, it counts as gone.
    pub fn enter(&self, kind: RequestKind, started: Instant) -> RequestGuard<'_> {
        RequestGuard {
            metrics: self,
            kind,
            started,
            outcome: QueryOutcome::Gone,
        }
    }

    /// A line of a bulk scan.
    pub fn code(&self, outcome: QueryOutcome) {
        add_local(&self.codes[outcome.index()], 1);
    }
}

/// A query under way.
pub struct RequestGuard<'t> {
    metrics: &'t ThreadMetrics,
    kind: RequestKind,
    started: Instant,
    outcome: QueryOutcome,
}

impl RequestGuard<'_> {
    /// Counts the query with its outcome.
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

/// Why we closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Nothing was asked for too long.
    Idle,
    /// A head did not end in time.
    Head,
    /// No byte moved while a request was answered.
    Stalled,
    /// The answer took too long as a whole.
    Late,
    /// The connection made room for another.
    Evicted,
    /// A body did not come in time.
    Body,
}

/// How a TLS handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeOutcome {
    /// The handshake ended well.
    Done,
    /// The client left, sent something else, or has no certificate that the door takes.
    Failed,
    /// We closed the connection before it was done.
    Closed,
}

/// The counts of one door.
#[derive(Default)]
pub struct DoorMetrics {
    /// Connections that are open, frozen ones too.
    pub open: AtomicU64,
    /// Connections accepted since the start.
    pub accepted: AtomicU64,
    /// Newcomers that were told the door is full.
    pub busy: AtomicU64,
    /// Accepts that failed.
    pub accept_errors: AtomicU64,
    /// Connections that are admitted now.
    pub limit: AtomicU64,
    /// Connections that are open and not heard.
    pub frozen: AtomicU64,
    /// Milliseconds that 50, 90 and 99 of a hundred waited in the kernel.
    pub waits: [AtomicU64; 3],
    /// Connections in the kernel's queue, of late.
    pub queued: AtomicU64,
    /// Connections that the kernel dropped because its queue was full.
    pub overflowed: AtomicU64,
    /// Milliseconds.
    pub retry_after: AtomicU64,
    /// What balancers are told: requests in flight, and the weight in hundredths.
    pub in_flight_max: AtomicU64,
    /// The weight, in hundredths.
    pub weight: AtomicU64,
    closed: [AtomicU64; 6],
    handshakes: [AtomicU64; 3],
    /// Whether the door speaks TLS.
    /// Connections that the door admits, whatever the wait.
    pub limit_max: AtomicU64,
    /// Whether the door speaks TLS.
    pub has_tls: AtomicBool,
    /// Milliseconds since 1970; 0: not known.
    pub certificate_expires_at: AtomicU64,
    /// Certificates that could not be read anew.
    pub certificate_failures: AtomicU64,
}

impl DoorMetrics {
    /// Counts a handshake that ended.
    pub fn shook_hands(&self, outcome: HandshakeOutcome) {
        self.handshakes[outcome as usize].fetch_add(1, Relaxed);
    }

    /// Counts a connection that we closed.
    pub fn closed(&self, why: CloseReason) {
        self.closed[why as usize].fetch_add(1, Relaxed);
    }
}

/// Values that are read at a scrape.
pub struct ScrapeSnapshot {
    /// Residents on the board.
    pub residents: u64,
    /// Whether everything that the store held at the start is on the board.
    pub filled: bool,
    /// Writes to the board that were older than what it held.
    pub stale_writes_dropped: u64,
    /// Residents whose slot on the board another one has.
    pub conflicts: u64,
    /// Reds that the board keeps although the store does not hold them.
    pub retained_reds: u64,
    /// Bytes of records that are cached.
    pub record_cache_bytes: u64,
    /// Lookups that the store may have at once.
    pub store_lookups_limit: u64,
    /// Lookups that the store has now.
    pub store_lookups_in_flight: u64,
    /// The shortest round trip to the store of late.
    pub store_rtt_floor: Duration,
    /// The usual round trip to the store.
    pub store_rtt_smoothed: Duration,
    /// The age of the oldest partition of the board.
    pub age: Duration,
    /// Whether the node may get traffic.
    pub ready: bool,
    /// Sixteenths of the residents of whom nothing may be told any more.
    pub too_old: u32,
    /// Sixteenths that the store itself has lost.
    pub lost: u32,
    /// How often the time of day was set.
    pub clock_steps: u64,
    /// Seconds between the system's clock and the store's.
    pub clock_apart: f64,
    /// Links that this node wrote to the audit log.
    pub audit_links: u64,
    /// Codes that are watched for a second site.
    pub codes_watched: u64,
    /// Codes that were read at two sites.
    pub codes_at_two_sites: u64,
    /// For how long the current key has sealed.
    pub key_age: Duration,
    /// Whether all was good that was read again last.
    pub reloaded: bool,
    /// None where no offline codes are issued.
    pub offline: Option<OfflineFacts>,
    /// None where codes of other issuers are not recognised.
    pub foreign: Option<ForeignFacts>,
}

/// What is known of codes of other issuers when somebody scrapes.
pub struct ForeignFacts {
    /// Format, outcome, count.
    pub codes: Vec<(&'static str, &'static str, u64)>,
    /// Keys of each format.
    pub keys: Vec<(&'static str, u64)>,
    /// Since the oldest of the key files was imported; None where there are none.
    pub trust_age: Option<Duration>,
    /// Each issuer that is asked, or whose list is held.
    pub peers: Vec<PeerFacts>,
    /// Number of an issuer, outcome, count.
    pub answered: Vec<(u32, &'static str, u64)>,
}

/// What is known of one issuer whose service is asked, or whose list is held.
pub struct PeerFacts {
    /// The number of the issuer.
    pub issuer: u32,
    /// What came of questions; None where it is not asked.
    pub asked: Option<PeerQuestions>,
    /// Age of its status list; since the node started, before the first. None where there is none to come.
    pub list_age: Option<Duration>,
}

/// What came of questions to one issuer.
pub struct PeerQuestions {
    /// Outcome and count.
    pub outcomes: Vec<(&'static str, u64)>,
    /// Whether it is not asked, because it did not answer of late.
    pub is_open: bool,
    /// How long questions took.
    pub times: Arc<QueryTimes>,
}

/// What is known of offline codes and of the status list when somebody scrapes.
pub struct OfflineFacts {
    /// The age of the list that is served.
    pub list_age: Duration,
    /// Residents on the list.
    pub residents: u64,
    /// Label and count.
    pub listed: [(&'static str, u64); 3],
    /// Ids that had to be told one by one.
    pub clashes: u64,
    /// File and its bytes.
    pub bytes: [(&'static str, u64); 2],
    /// Outcome of a publication, and count.
    pub published: [(&'static str, u64); 5],
    /// Answers of a list that would have been wrong; such a list is not published.
    pub wrong: u64,
    /// How long the last publication of this node took.
    pub build: Duration,
    /// Outcome of an offline code, and count.
    pub codes: [(&'static str, u64); 5],
}

/// What can befall a store, and be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// Nobody answers there, or nobody who may.
    Gone,
    /// It took a question, and says nothing.
    Stuck,
    /// It answers, and will not do it: out of memory, another password, no primary.
    Refused,
    /// A partition has nothing any more.
    Emptied,
    /// A partition is another one than before.
    Replaced,
    /// A partition is as it was some time ago.
    Behind,
    /// The stream has lost entries that this node had not read.
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

    /// Returns the label of the meter.
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

/// When a change was last written or heard.
pub struct LastChange(AtomicU64);

impl Default for LastChange {
    fn default() -> LastChange {
        LastChange(Moment::now().0.into())
    }
}

impl LastChange {
    /// Notes that there is one now.
    pub fn touch(&self) {
        self.0.store(Moment::now().0, Relaxed);
    }

    fn age(&self) -> Duration {
        Moment::now().since(Moment(self.0.load(Relaxed)))
    }
}

/// Counts of the feed and of the store; not hot.
#[derive(Default)]
pub struct StoreMetrics {
    /// Changes of feeds that changed something.
    pub applied: AtomicU64,
    /// Changes of feeds that changed nothing.
    pub unchanged: AtomicU64,
    /// Lines of feeds that were rejected.
    pub rejected: AtomicU64,
    /// How long commits took.
    pub commit_times: CommitTimes,
    /// Changes that came onto the board from others.
    pub changes: AtomicU64,
    /// When a change was last written or heard.
    pub last_change: LastChange,
    /// Calls of the store that failed.
    pub failures: AtomicU64,
    /// Statuses and records that were read and are not as they were written.
    pub damaged: AtomicU64,
    /// From a change's version to its being on this board.
    pub change_times: ChangeTimes,
    /// Residents of each partition of whom the board knew more than the store, when that was last compared.
    pub ahead: [AtomicU64; 16],
    /// Residents on record when the store was opened.
    pub on_record: AtomicU64,
    faults: [AtomicU64; StoreFault::ALL.len()],
    lookups: [AtomicU64; 3],
    /// Known, and new.
    papers: [AtomicU64; 2],
    /// Papers that were swept because their time was over.
    pub swept: AtomicU64,
    red_alarm: Mutex<RedAlarm>,
    /// Reasons that were set, by the source that the feed's token was made for.
    fed_reds: Mutex<HashMap<Box<str>, u64>>,
}

/// Whom each source turned red in this hour; a wrong list is noticed by its length.
#[derive(Default)]
struct RedAlarm {
    hour: u64,
    most: u64,
    counts: HashMap<Box<str>, u64>,
}

/// Sources that are counted by themselves.
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

/// Tokens that a meter names; the rest are counted together.
const TOKENS_MAX: usize = 64;

impl StoreMetrics {
    /// Feeds of a token set so many reasons.
    pub fn fed_reds(&self, token: &str, reds: u64) {
        let mut fed = lock(&self.fed_reds);
        let full = fed.len() >= TOKENS_MAX && !fed.contains_key(token);
        let token = if full { "others" } else { token };
        *fed.entry(token.into()).or_default() += reds;
    }

    /// A source turned one more red; true where it is beyond `most` in this hour with just this one.
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

    /// Counts a paper that was filed; `new` is false where it was there already.
    pub fn paper(&self, new: bool) {
        self.papers[usize::from(new)].fetch_add(1, Relaxed);
    }

    /// Counts a fault of the store.
    pub fn fault(&self, fault: StoreFault) {
        self.faults[fault as usize].fetch_add(1, Relaxed);
    }

    /// Counts a lookup by what came of it.
    pub fn lookup(&self, lookup: LookupOutcome) {
        self.lookups[lookup as usize].fetch_add(1, Relaxed);
    }
}

/// What came of a look into the store, because memory could not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupOutcome {
    /// The resident is on record.
    Found,
    /// The resident is not on record.
    Absent,
    /// The store did not answer in time, or was not asked.
    Busy,
}

/// All meters of a node.
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
    /// Returns meters in which nothing is counted.
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

    /// The counts of one more serving thread.
    pub fn metrics(&self) -> Arc<ThreadMetrics> {
        let metrics = Arc::new(ThreadMetrics::new());
        lock(&self.all_metrics).push(metrics.clone());
        metrics
    }

    /// The counts of a door that admits `connections_max`.
    pub fn door(&self, name: &'static str, connections_max: usize) -> Arc<DoorMetrics> {
        let metrics = Arc::new(DoorMetrics::default());
        metrics.limit_max.store(connections_max as u64, Relaxed);
        lock(&self.doors).push((name, metrics.clone()));
        metrics
    }

    /// Each open door's name and counts.
    pub fn doors(&self) -> Vec<(&'static str, Arc<DoorMetrics>)> {
        lock(&self.doors).clone()
    }

    /// Everything in the text format of Prometheus.
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
        self.gauge("liangma_partitions_lost", &[], snapshot.lost.into());
        self.count("liangma_clock_steps_total", &[], snapshot.clock_steps);
        self.gauge("liangma_clock_offset_seconds", &[], snapshot.clock_apart);
        self.count("liangma_audit_links_total", &[], snapshot.audit_links);
        self.count("liangma_codes_watched_total", &[], snapshot.codes_watched);
        self.count(
            "liangma_codes_at_two_sites_total",
            &[],
            snapshot.codes_at_two_sites,
        );
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
        let reloaded = f64::from(u8::from(snapshot.reloaded));
        self.gauge("liangma_last_reload_successful", &[], reloaded);

        let mut out = self.handle.render();
        for (name, value) in process::usage() {
            head(&mut out, name);
            // A text takes what is written to it.
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
            self.gauge(
                "liangma_connections",
                &[door],
                metrics.open.load(Relaxed) as f64,
            );
            self.gauge(
                "liangma_connections_limit_max",
                &[door],
                metrics.limit_max.load(Relaxed) as f64,
            );
            for (name, count) in [
                ("liangma_connections_accepted_total", &metrics.accepted),
                ("liangma_connections_rejected_total", &metrics.busy),
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
                (
                    "liangma_connections_frozen",
                    metrics.frozen.load(Relaxed) as f64,
                ),
                (
                    "liangma_connections_limit",
                    metrics.limit.load(Relaxed) as f64,
                ),
                ("liangma_accept_queue", metrics.queued.load(Relaxed) as f64),
                (
                    "liangma_in_flight_max",
                    metrics.in_flight_max.load(Relaxed) as f64,
                ),
                (
                    "liangma_balancer_weight_ratio",
                    metrics.weight.load(Relaxed) as f64 / 100.0,
                ),
                ("liangma_retry_after_seconds", seconds(&metrics.retry_after)),
            ] {
                self.gauge(name, &[door], value);
            }
            for (why, count) in ["idle", "head", "stalled", "late", "evicted", "body"]
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

/// Prints what stands above the values of a meter: its meaning and type.
fn head(out: &mut String, name: &str) {
    let meter = METERS.iter().find(|(known, ..)| *known == name);
    let (_, kind, _, meaning) = meter.expect("every meter is listed");
    // A text takes what is written to it.
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
        let gate = meters.door("gate", 10);
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
