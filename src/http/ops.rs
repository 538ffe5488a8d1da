//! The operations door: liveness, readiness, metrics, feeds and backups.

use super::agent;
use super::body::Body;
use super::connection_state::ConnectionState;
use super::limits::Settings;
use super::problem;
use super::reply;
use crate::board::PARTITIONS;
use crate::clock::{Now, Time, offset};
use crate::desk::audit::{FeedCounts, Feeder};
use crate::feed::{self, IngestReport, LINE_BYTES_MAX};
use crate::language::Language;
use crate::lines::LineSplitter;
use crate::meters::{QueryOutcome, RequestKind, ScrapeSnapshot};
use crate::paper::Paper;
use crate::person::Identity;
use crate::refusal::Refusal;
use crate::seal::AccessToken;
use crate::service::{AppState, MaintenanceStream, Service};
use crate::store::{Change, ChangeKind, ChangeOutcome};
use crate::traces;
use crate::version::{COMMIT, VERSION};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// Changes that go to the store in one batch: enough to share a commit, few enough not to delay other feeds.
const BATCH: usize = 2_000;

/// Bytes of lines in one batch: bounds the memory of a feed with long lines.
const BATCH_BYTES: u64 = 1 << 20;

/// Returns the value of `state` at `/ready`: the first reason why the node is not ready, else `ready`.
fn state(app: &AppState, now: Now) -> &'static str {
    if app.is_draining() {
        "draining"
    } else if !app.store.is_believed() {
        "restored"
    } else if !app.board.is_filled() || !app.seal.revoked.is_read() {
        "warming"
    } else if is_worse(app, app.board.too_old_in(now)) {
        "too_old"
    } else if app.clock_offset_is_too_large() {
        "clock"
    } else if app.board.too_old_in(now) != 0 {
        "degraded"
    } else {
        "ready"
    }
}

/// Returns whether another node could serve partitions that are too old here (`old`). Partitions that the store itself has lost
/// are lost on every node. A node without any usable partition is worse in any case.
fn is_worse(app: &AppState, old: u16) -> bool {
    old == u16::MAX || old & !app.store.lost() != 0
}

/// Returns whether a node in this state should get traffic.
fn is_ready(state: &str) -> bool {
    matches!(state, "ready" | "degraded")
}

/// Answers that the process is alive.
pub fn live(service: &Service, started: Instant) -> Response<Body> {
    service
        .metrics
        .enter(RequestKind::Live, started)
        .leave(QueryOutcome::Done);
    reply::json(StatusCode::OK, r#"{"state":"live"}"#)
}

/// Header of `/ready` with the requests in flight that each door can take from one balancer.
const IN_FLIGHT_MAX: HeaderName = HeaderName::from_static("in-flight-max");

/// Answers whether the node should get traffic, and the reason if not.
pub fn ready(service: &Service, settings: &Settings, started: Instant, now: Now) -> Response<Body> {
    let mut response = readiness(service, started, now);
    let told = agent::header(&service.app, settings.balancers);
    if let Ok(told) = HeaderValue::try_from(told) {
        response.headers_mut().insert(IN_FLIGHT_MAX, told);
    }
    response
}

fn readiness(service: &Service, started: Instant, now: Now) -> Response<Body> {
    let app = &service.app;
    let state = state(app, now);
    let freshness = app.board.freshness(now);
    let mut body = serde_json::json!({
        "state": state,
        "residents": app.board.residents(),
        "as_of": freshness.as_of.to_string(),
        "age_ms": freshness.age.as_millis() as u64,
    });
    service
        .metrics
        .enter(RequestKind::Ready, started)
        .leave(QueryOutcome::Done);
    let old = app.board.too_old_in(now);
    if state == "degraded" || state == "too_old" {
        let partitions = (0..PARTITIONS).filter(|nth| old & 1 << nth != 0);
        body["too_old"] = partitions.collect::<Vec<_>>().into();
    }
    let refusal = match state {
        _ if is_ready(state) => return reply::json(StatusCode::OK, body.to_string()),
        "draining" => Refusal::Draining,
        "warming" | "restored" => Refusal::Warming,
        _ => Refusal::UpstreamBusy,
    };
    let wait = problem::wait(refusal).unwrap_or_default();
    body["retry_after_ms"] = (wait.as_millis() as u64).into();
    reply::later(
        reply::json(problem::status_of(refusal), body.to_string()),
        wait,
    )
}

/// Answers with all metrics in the Prometheus text format.
pub fn metrics(service: &Service, started: Instant, now: Now) -> Response<Body> {
    let app = &service.app;
    let misses = app.store_client.stats();
    let text = app.meters.print(&ScrapeSnapshot {
        residents: app.board.residents(),
        filled: app.board.is_filled(),
        stale_writes_dropped: app.board.dropped_stale(),
        conflicts: app.board.conflicts(),
        retained_reds: app.board.retained_count(),
        record_cache_bytes: app.store_client.bytes(),
        store_lookups_limit: misses.limit as u64,
        store_lookups_in_flight: misses.in_flight as u64,
        store_rtt_floor: misses.floor,
        store_rtt_smoothed: misses.smoothed,
        age: app.board.freshness(now).age,
        ready: is_ready(state(app, now)),
        too_old: app.board.too_old_in(now).count_ones(),
        lost: app.store.lost().count_ones(),
        clock_steps: offset::steps(),
        clock_apart: app.clock.apart_ms() as f64 / 1_000.0,
        audit_links: app.audit_links(),
        key_age: app.seal.key_age(now.time),
        rest_key: app.seal.rest_seal().key(),
        reloaded: app.is_reloaded.load(Relaxed),
        offline: app.offline_facts(now),
        foreign: app.foreign_facts(now.time),
        codes_watched: app.sightings.watched.load(Relaxed),
        codes_at_two_sites: app.sightings.at_two_sites.load(Relaxed),
        traces: traces::facts(),
    });
    service
        .metrics
        .enter(RequestKind::Metrics, started)
        .leave(QueryOutcome::Done);
    reply::typed(StatusCode::OK, reply::TEXT, Body::whole(text))
}

/// Answers with the build and the settings in force.
pub fn settings(service: &Service, started: Instant) -> Response<Body> {
    let body = serde_json::json!({
        "version": VERSION,
        "commit": COMMIT,
        "rest_key": service.app.seal.rest_seal().key(),
        "settings": service.app.in_force.load().to_json(),
    });
    service
        .metrics
        .enter(RequestKind::Desk, started)
        .leave(QueryOutcome::Done);
    reply::json(StatusCode::OK, body.to_string())
}

/// Time limit of a backup. A reader that stalls ends it sooner.
pub const BACKUP_WAIT: Duration = Duration::from_secs(6 * 3_600);

/// Answers with a backup that has begun.
pub fn backup(
    service: &Service,
    begun: Result<MaintenanceStream, Refusal>,
    language: Language,
    started: Instant,
) -> Response<Body> {
    stream(service, BYTES, begun, language, started)
}

/// Time for all walks of sealing anew: a province takes some hours.
pub const RESEAL_WAIT: Duration = Duration::from_secs(24 * 3_600);

/// Answers with lines that tell how sealing anew goes.
pub fn reseal(
    service: &Service,
    begun: Result<MaintenanceStream, Refusal>,
    language: Language,
    started: Instant,
) -> Response<Body> {
    stream(service, reply::NDJSON, begun, language, started)
}

fn stream(
    service: &Service,
    typed: HeaderValue,
    begun: Result<MaintenanceStream, Refusal>,
    language: Language,
    started: Instant,
) -> Response<Body> {
    let visit = service.metrics.enter(RequestKind::Desk, started);
    match begun {
        Ok(begun) => {
            visit.leave(QueryOutcome::Done);
            reply::typed(StatusCode::OK, typed, Body::stream(begun))
        }
        Err(refusal) => {
            visit.leave(QueryOutcome::Refused(refusal));
            reply::refused(refusal, language)
        }
    }
}

const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Interval at which a silent feed is checked for a revoked token.
const LOOK: Duration = Duration::from_millis(500);

/// An admitted feed.
pub struct FeedRequest<'q> {
    /// The token of the authority.
    pub token: &'q [u8],
    /// The lines, streamed.
    pub body: Incoming,
    /// The language of a refusal.
    pub language: Language,
    /// When the request's head was read.
    pub started: Instant,
    /// The time of the request.
    pub now: Time,
}

/// Applies a feed. Changes counted as applied are durable and on the board. A feed that is cut off or meets a busy store may be
/// applied in part, and can be sent again.
pub async fn feed(
    service: &Service,
    settings: &Settings,
    connection: &ConnectionState,
    asked: FeedRequest<'_>,
) -> Response<Body> {
    let language = asked.language;
    let visit = service.metrics.enter(RequestKind::Feed, asked.started);
    let mut fed = IngestReport::default();
    let taken = take_in(service, settings, connection, asked, &mut fed).await;
    let rejected = fed.rejected.len() as u64 + fed.rejected_unlisted;
    for (key, count) in [
        ("liangma.feed.lines", fed.applied + fed.unchanged + rejected),
        ("liangma.feed.applied", fed.applied),
        ("liangma.feed.unchanged", fed.unchanged),
        ("liangma.feed.rejected", rejected),
    ] {
        traces::note_here(key, count as i64);
    }
    match taken {
        Ok(()) => {
            visit.leave(QueryOutcome::Done);
            reply::json(StatusCode::OK, fed.to_json())
        }
        Err(refusal) => {
            traces::note_refusal(refusal);
            visit.leave(QueryOutcome::Refused(refusal));
            reply::refused(refusal, language)
        }
    }
}

/// Applies a feed, and counts its lines in `fed` as far as it comes.
async fn take_in(
    service: &Service,
    settings: &Settings,
    connection: &ConnectionState,
    asked: FeedRequest<'_>,
    fed: &mut IngestReport,
) -> Result<(), Refusal> {
    let app = &service.app;
    let FeedRequest {
        token,
        mut body,
        now,
        ..
    } = asked;
    let certificate = connection.certificate.get();
    let admits = || {
        let admitted = service.admit_authority(token, certificate, Time::now());
        admitted.map(drop)
    };
    let authority = service.admit_authority(token, certificate, now)?;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut record = FeedAudit::new(service, &authority, service.authority_number(token, now)?.0);
    let mut batch = FeedBatch::default();
    let mut lines = LineSplitter::new(LINE_BYTES_MAX);
    let (mut bytes, mut applied_bytes) = (0, 0);
    let today = now.day();
    loop {
        if app.is_draining() {
            return Err(Refusal::Draining);
        }
        connection.awaits_more(true);
        let frame = tokio::select! {
            frame = body.frame() => frame,
            _ = look.tick() => {
                admits()?;
                continue;
            }
        };
        connection.awaits_more(false);
        let mut each = |nth, line: Option<&[u8]>| {
            let event = match line.map(<[u8]>::trim_ascii) {
                Some([]) => return,
                Some(line) => feed::parse(line, today),
                None => Err(feed::Rejection::LineTooLong),
            };
            let changes = event.and_then(|event| match event {
                // Feeds carry events, and no sealed lines of exports.
                feed::Event::Paper(..) | feed::Event::Erased(..) => Err(feed::Rejection::Imported),
                event if event.source().is_some_and(|of| !authority.speaks_for(of)) => {
                    Err(feed::Rejection::SourceNotPermitted)
                }
                event => feed::seal_event(event, &app.seal),
            });
            match changes {
                Ok(changes) => batch.push(nth, changes),
                Err(rejection) => {
                    fed.reject(nth, rejection);
                    record.of(authority.holder()).rejected += 1;
                    app.meters.store.rejected.fetch_add(1, Relaxed);
                }
            }
        };
        let ended = frame.is_none();
        match frame {
            None => lines.finish(&mut each),
            Some(frame) => {
                let frame = frame.map_err(|_| Refusal::Malformed)?;
                if let Some(data) = frame.data_ref() {
                    bytes += data.len() as u64;
                    if bytes > settings.feed_bytes_max {
                        return Err(Refusal::TooLarge);
                    }
                    lines.push(data, &mut each);
                }
            }
        }
        let full = batch.changes.len() >= BATCH || bytes - applied_bytes >= BATCH_BYTES;
        if (full || ended) && !batch.changes.is_empty() {
            applied_bytes = bytes;
            // A token that was revoked meanwhile changes nothing more.
            admits()?;
            let batch = std::mem::take(&mut batch);
            let (said, lines) = (record.said(&batch.changes), batch.lines.clone());
            let outcomes = batch.apply(app).await?;
            for ((source, red), (line, outcome)) in said.iter().zip(lines.iter().zip(&outcomes)) {
                let (counted, metered) = (record.of(source), &app.meters.store);
                match outcome {
                    ChangeOutcome::Applied => {
                        fed.applied += 1;
                        counted.applied += 1;
                        counted.reds += u64::from(*red);
                        metered.applied.fetch_add(1, Relaxed);
                    }
                    ChangeOutcome::Unchanged => {
                        fed.unchanged += 1;
                        counted.unchanged += 1;
                        metered.unchanged.fetch_add(1, Relaxed);
                    }
                    ChangeOutcome::Conflict => {
                        fed.reject(*line, feed::Rejection::SeqReused);
                        counted.rejected += 1;
                        metered.rejected.fetch_add(1, Relaxed);
                    }
                    ChangeOutcome::Unreadable => {
                        fed.reject(*line, feed::Rejection::RecordDamaged);
                        counted.rejected += 1;
                        metered.rejected.fetch_add(1, Relaxed);
                    }
                }
            }
        }
        if ended {
            return Ok(());
        }
        // Parsing a piece takes some hundred microseconds, so requests to `/ready` come in between.
        tokio::task::yield_now().await;
    }
}

/// Changes of a feed that are not applied yet, one for each line, with the line numbers.
#[derive(Default)]
struct FeedBatch {
    changes: Vec<Change>,
    lines: Vec<u64>,
    /// Notices of release, each with the index of its clear.
    notices: Vec<(usize, Change)>,
}

impl FeedBatch {
    fn push(&mut self, line: u64, changes: Vec<Change>) {
        let (papers, mut said): (Vec<_>, Vec<_>) =
            (changes.into_iter()).partition(|change| !change.what.is_counted());
        self.lines.extend(said.iter().map(|_| line));
        self.changes.append(&mut said);
        let of = self.changes.len().saturating_sub(1);
        self.notices
            .extend(papers.into_iter().map(|paper| (of, paper)));
    }

    /// Applies the changes. Returns the outcome of each line. The notice of a refused release is not stored.
    async fn apply(self, app: &AppState) -> Result<Vec<ChangeOutcome>, Refusal> {
        let store_client = &app.store_client;
        let paper = |(nth, change): (usize, &Change)| match &change.what {
            ChangeKind::Paper(paper) => Some((nth, change.who, paper.clone())),
            _ => None,
        };
        let papers = self.changes.iter().enumerate().filter_map(paper);
        let papers: Vec<(usize, Identity, Paper)> = papers.collect();
        let mut outcomes = store_client.ingest(self.changes).await?;
        for (nth, who, paper) in papers {
            // One that was filed under another key of the ring has other bytes, and may say the same.
            if outcomes[nth] == ChangeOutcome::Conflict {
                let known = store_client.some_now(who, &[paper.key]).await?;
                let is_same = |known: &Paper| app.seal.is_same_paper(&who, &paper, known);
                if known.first().and_then(Option::as_ref).is_some_and(is_same) {
                    outcomes[nth] = ChangeOutcome::Unchanged;
                }
            }
        }
        let notices = (self.notices.into_iter())
            .filter(|(of, _)| !outcomes[*of].is_rejected())
            .map(|(_, notice)| notice);
        let notices: Vec<Change> = notices.collect();
        if !notices.is_empty() {
            store_client.apply(notices).await?;
        }
        Ok(outcomes)
    }
}

/// Counts of a feed by source for the audit log. They are handed on however the feed ends.
struct FeedAudit<'s> {
    service: &'s Service,
    holder: String,
    token: u64,
    feeds: HashMap<Box<str>, FeedCounts>,
}

impl<'s> FeedAudit<'s> {
    fn new(service: &'s Service, authority: &AccessToken, token: u64) -> FeedAudit<'s> {
        FeedAudit {
            service,
            holder: authority.holder().to_owned(),
            token,
            feeds: HashMap::new(),
        }
    }

    fn of(&mut self, source: &str) -> &mut FeedCounts {
        if !self.feeds.contains_key(source) {
            let one = FeedCounts {
                feeds: 1,
                ..FeedCounts::default()
            };
            self.feeds.insert(source.into(), one);
        }
        self.feeds.get_mut(source).expect("just put there")
    }

    /// Returns the source of each change, and whether it sets a reason. Events other than statuses count for the token's
    /// source.
    fn said(&self, changes: &[Change]) -> Vec<(Box<str>, bool)> {
        let said = changes.iter().map(|change| match &change.what {
            ChangeKind::Status(status, _) => (status.source.clone(), status.active),
            _ => (self.holder.as_str().into(), false),
        });
        said.collect()
    }
}

impl Drop for FeedAudit<'_> {
    fn drop(&mut self) {
        for (source, feeds) in self.feeds.drain() {
            let feeder = Feeder {
                holder: self.holder.clone(),
                token: self.token,
                source: source.into(),
            };
            self.service.app.count_feed(feeder, feeds);
        }
    }
}
