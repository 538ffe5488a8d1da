//! Bulk scans: codes arrive one a line, and verdicts leave in the same order while further codes arrive.
//!
//! The connection pulls verdicts when it can write, and verdicts pull codes, so memory holds one piece of each. If a client
//! sends before it reads, codes are read ahead up to [`AHEAD_BYTES_MAX`]. After some codes the thread serves other connections,
//! so that single scans do not wait behind thousands. A scanner beyond its rate is slowed down, never cut off.

use super::body::{Body, PieceSource};
use super::connection_state::ConnectionState;
use super::foreign::foreign_json;
use super::limits::Settings;
use super::query::{FOREIGN_CODE_BYTES_MAX, trimmed};
use super::read_ahead::{Next, ReadAhead};
use super::reply::{self, NDJSON};
use crate::clock::{Now, Time};
use crate::desk::grant::{Organisation, RevokedGrants};
use crate::exchange::dialect::Said;
use crate::language::Language;
use crate::lines::LineSplitter;
use crate::meters::{QueryOutcome, RequestKind};
use crate::offline::code::OFFLINE_CODE_CHARS;
use crate::recognition::peer::Peer;
use crate::refusal::Refusal;
use crate::seal::CODE_CHARS;
use crate::seal::GRANT_CHARS;
use crate::service::answer::Verdict;
use crate::service::foreign::{FOREIGN_LINES, ForeignVerdict};
use crate::service::{AdmittedBulk, Service};
use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// Length of a line in bytes: the longest code that a camera can read.
pub const LINE_BYTES_MAX: usize = FOREIGN_CODE_BYTES_MAX;

/// Bytes of codes that are answered before other connections are served: 64 lines, about 40 µs.
const STEP_BYTES: usize = 64 * (crate::seal::CODE_CHARS + 1);

/// Bytes of codes whose grants are looked up together: about two thousand grants.
const FORESEEN_BYTES: usize = 256 << 10;

/// Bytes of codes that are read ahead of their verdicts: over 100,000 grants, or nearly twice as many live codes.
pub const AHEAD_BYTES_MAX: usize = 16 << 20;

/// Expected size of a verdict in bytes, without long lists of reasons. The buffer grows if needed.
const VERDICT_BYTES: usize = 320;

/// Returns the largest content length of a bulk scan: the allowed lines at four times a grant's length, and one longer line.
pub fn bytes_max(settings: &Settings) -> u64 {
    const MEAN: u64 = 4 * (GRANT_CHARS as u64 + 2);
    settings.bulk_lines_max * MEAN + LINE_BYTES_MAX as u64
}

/// The scanner, and the lookups of the next grants.
pub struct BulkScanner {
    token: Box<[u8]>,
    turn: AdmittedBulk,
    organisation: Option<Organisation>,
    revoked_grants: Result<Option<RevokedGrants>, Refusal>,
}

/// A lookup in the store: which of the next grants were revoked.
type GrantLookup = Pin<Box<dyn Future<Output = Result<RevokedGrants, Refusal>>>>;

/// A request to other issuers about their codes among the next lines.
type IssuerLookup = Pin<Box<dyn Future<Output = HashMap<String, Said>>>>;

/// A bulk scan request.
pub struct BulkRequest {
    /// The body: a code in each line.
    pub codes: Incoming,
    /// The language of the verdicts.
    pub language: Language,
    /// When the request's head was read.
    pub started: Instant,
    /// The time of the request by the node's clock.
    pub now: Now,
}

/// Starts the response for an admitted scanner.
pub fn response(
    service: &Rc<Service>,
    settings: &Settings,
    connection: &Rc<ConnectionState>,
    scanner: BulkScanner,
    asked: BulkRequest,
) -> Response<Body> {
    let BulkRequest {
        codes,
        language,
        started,
        now,
    } = asked;
    let (judge, token) = (service.clone(), scanner.token.clone());
    let admits = move || judge.still_scanner(&token, Time::now()).map(drop);
    let codes = ReadAhead::read(codes, ahead_bytes_max(settings), connection.clone(), admits);
    let scans = BulkScan {
        service: service.clone(),
        connection: connection.clone(),
        scanner,
        codes,
        piece: Bytes::new(),
        verdicts: BytesMut::new(),
        lines: LineSplitter::new(LINE_BYTES_MAX),
        foreseen: 0,
        foreseen_lines: LineSplitter::new(LINE_BYTES_MAX),
        looking: None,
        asking: None,
        said: HashMap::new(),
        last: false,
        lines_left: settings.bulk_lines_max,
        costs: 0,
        pause_max: settings.bulk_pause_max,
        pause: None,
        language,
        now,
        started,
        outcome: QueryOutcome::Gone,
        rest: false,
        ended: false,
    };
    reply::typed(StatusCode::OK, NDJSON, Body::pulled(Box::new(scans)))
}

/// Returns the bytes that may be read ahead: the allowed lines if all are grants, within [`AHEAD_BYTES_MAX`].
fn ahead_bytes_max(settings: &Settings) -> usize {
    let lines = settings
        .bulk_lines_max
        .saturating_mul(GRANT_CHARS as u64 + 2);
    usize::try_from(lines).map_or(AHEAD_BYTES_MAX, |bytes| {
        bytes.clamp(128 << 10, AHEAD_BYTES_MAX)
    })
}

impl BulkScanner {
    /// Returns the scanner of an admitted bulk scan. `organisation` is None if the scanner belongs to none.
    pub fn new(
        token: &[u8],
        turn: AdmittedBulk,
        organisation: Option<Organisation>,
    ) -> BulkScanner {
        BulkScanner {
            token: token.into(),
            turn,
            organisation,
            revoked_grants: Ok(None),
        }
    }

    fn scan_grant(&self, service: &Service, code: &[u8], now: Now) -> Result<Verdict, Refusal> {
        let revoked_grants = self.revoked_grants.as_ref().map_err(|refusal| *refusal)?;
        service.scan_grant(code, revoked_grants.as_ref(), now)
    }
}

/// Lines that the check of one signature counts as, for time and for the rate limit.
const SIGNATURE_LINES: u64 = 64;

/// Bytes that are answered in one step if offline codes are among them: about six codes.
const SIGNATURES_STEP_BYTES: usize = 1 << 10;

/// A bulk scan in progress.
pub struct BulkScan {
    service: Rc<Service>,
    connection: Rc<ConnectionState>,
    scanner: BulkScanner,
    codes: ReadAhead,
    /// The rest of the last piece that is not answered yet, and the verdicts so far.
    piece: Bytes,
    verdicts: BytesMut,
    lines: LineSplitter,
    /// For an organisation's scanner: bytes of the piece whose grants were looked up, and the lines that hold them.
    foreseen: usize,
    foreseen_lines: LineSplitter,
    looking: Option<GrantLookup>,
    /// A running request to other issuers, and their answers about the next codes.
    asking: Option<IssuerLookup>,
    said: HashMap<String, Said>,
    /// All codes have arrived; what follows the last line end is answered next.
    last: bool,
    lines_left: u64,
    /// Lines that the signature checks of the last step cost in addition.
    costs: u64,
    language: Language,
    now: Now,
    started: Instant,
    outcome: QueryOutcome,
    pause_max: Duration,
    /// Set while the scanner is over its rate; nothing is read until it ends.
    pause: Option<Pin<Box<Sleep>>>,
    /// A step was just answered, so other connections are served first.
    rest: bool,
    ended: bool,
}

impl PieceSource for BulkScan {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        self.codes.asks();
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if std::mem::take(&mut self.rest) {
                return others_first(cx);
            }
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if let Some(looking) = &mut self.looking {
                self.scanner.revoked_grants = ready!(looking.as_mut().poll(cx)).map(Some);
                self.looking = None;
            }
            if let Some(asking) = &mut self.asking {
                self.said = ready!(asking.as_mut().poll(cx));
                self.asking = None;
            }
            if self.piece.is_empty() && !self.last {
                match ready!(self.codes.poll(cx)) {
                    Next::Piece(codes) => self.begin(codes),
                    Next::Broken(error) => return Poll::Ready(Some(Err(error))),
                    Next::Refused(refusal) => self.end(refusal),
                    Next::End => {
                        self.last = true;
                        self.foresee();
                    }
                }
            }
            if !self.piece.is_empty() && self.foreseen == 0 {
                self.foresee();
            }
            if self.looking.is_some() || self.asking.is_some() {
                continue;
            }
            if self.last && !self.ended {
                self.ended = true;
                self.outcome = QueryOutcome::Done;
                self.answer(None);
            }
            if !self.piece.is_empty()
                && let Err(refusal) = self.service.still_admits(
                    self.scanner.turn.pass,
                    &self.scanner.token,
                    Time::now(),
                )
            {
                self.end(refusal);
            }
            if !self.piece.is_empty() {
                let step = match self.costs {
                    0 => STEP_BYTES,
                    // If one such code is there, more are likely.
                    _ => SIGNATURES_STEP_BYTES,
                };
                let step = self.piece.len().min(step).min(self.foreseen);
                let codes = self.piece.split_to(step);
                self.foreseen -= step;
                self.answer(Some(&codes));
                self.rest = true;
            }
            let whole = self.piece.is_empty() || self.ended || self.pause.is_some();
            if whole && !self.verdicts.is_empty() {
                return Poll::Ready(Some(Ok(self.verdicts.split().freeze())));
            }
        }
    }
}

impl BulkScan {
    /// Ends the scan with a refusal in place of the next verdict. The rest stays unanswered.
    fn end(&mut self, refusal: Refusal) {
        put_error(&mut self.verdicts, refusal);
        self.outcome = QueryOutcome::Refused(refusal);
        self.piece = Bytes::new();
        self.looking = None;
        self.asking = None;
        self.ended = true;
        self.connection.unread.set(true);
    }

    fn begin(&mut self, codes: Bytes) {
        let expected = codes.len() / crate::seal::CODE_CHARS + 1;
        self.verdicts.reserve(expected * VERDICT_BYTES);
        self.piece = codes;
    }

    /// Looks up the grants in the next codes, if there are any. Without an organisation there are none. After one failed lookup
    /// no grant of this scan is accepted.
    fn foresee(&mut self) {
        self.foreseen = self.piece.len();
        let organisation = self.scanner.organisation.as_ref();
        let organisation = organisation.filter(|_| self.scanner.revoked_grants.is_ok());
        let asks = self.service.app.exchange.is_some();
        if organisation.is_none() && !asks {
            return;
        }
        self.said = HashMap::new();
        self.foreseen = self.foreseen.min(FORESEEN_BYTES);
        let (service, now) = (self.service.clone(), Now::read());
        let mut numbers = HashSet::new();
        let mut live: HashMap<u32, (Arc<Peer>, HashSet<String>)> = HashMap::new();
        let each = |_, line: Option<&[u8]>| {
            let code = trimmed(line.unwrap_or_default());
            if let (GRANT_CHARS, Some(organisation)) = (code.len(), organisation) {
                numbers.extend(service.number_of(organisation, code, now));
            }
            if asks
                && code.len() == CODE_CHARS
                && let Some(peer) = service.asked_of(code)
            {
                let theirs = live.entry(peer.id).or_insert((peer, HashSet::new()));
                let code = String::from_utf8_lossy(code).to_ascii_uppercase();
                theirs.1.insert(code);
            }
        };
        match self.last {
            true => self.foreseen_lines.finish(each),
            false => (self.foreseen_lines).push(&self.piece[..self.foreseen], each),
        }
        if !live.is_empty() {
            let service = self.service.clone();
            self.asking = Some(Box::pin(async move { service.ask_issuers(live).await }));
        }
        if let Some(organisation) = organisation.filter(|_| !numbers.is_empty()) {
            let organisation = organisation.clone();
            let service = self.service.clone();
            self.looking = Some(Box::pin(async move {
                service.revoked_grants(&organisation, &numbers).await
            }));
        }
    }

    /// Answers the complete lines in these bytes, or the last one without a line end, and charges the scanner for them.
    fn answer(&mut self, codes: Option<&[u8]>) {
        self.now = Now::read();
        let before = self.lines_left;
        self.costs = 0;
        self.write_verdicts(codes);
        if self.ended && codes.is_some() {
            // The body has too many lines; the rest is not read.
            self.connection.unread.set(true);
        }
        let lines = before - self.lines_left + self.costs;
        let wait = self.service.charge_bulk(self.scanner.turn.pass, lines);
        if !wait.is_zero() {
            let wait = wait.min(self.pause_max);
            self.pause = Some(Box::pin(tokio::time::sleep(wait)));
        }
    }

    fn write_verdicts(&mut self, codes: Option<&[u8]>) {
        let BulkScan {
            service,
            scanner,
            verdicts: out,
            lines,
            lines_left,
            language,
            now,
            ended,
            outcome,
            costs,
            said,
            ..
        } = self;
        let each = |_, line: Option<&[u8]>| {
            if *ended && codes.is_some() {
                return;
            }
            if *lines_left == 0 {
                put_error(out, Refusal::TooLarge);
                *outcome = QueryOutcome::Refused(Refusal::TooLarge);
                *ended = true;
                return;
            }
            *lines_left -= 1;
            let verdict = match line {
                Some(code) => {
                    let code = trimmed(code);
                    match service.scan_now(code, *now) {
                        Err(Refusal::CodeInvalid) if code.len() == GRANT_CHARS => {
                            scanner.scan_grant(service, code, *now)
                        }
                        Err(Refusal::CodeInvalid)
                            if code.len() == CODE_CHARS && service.is_foreign(code) =>
                        {
                            let upper = String::from_utf8_lossy(code).to_ascii_uppercase();
                            let told = said.get(&upper).cloned();
                            let told = told.unwrap_or_else(|| Err(service.unasked(code)));
                            service.count_told(&told);
                            match told {
                                Ok(told) => {
                                    let told = ForeignVerdict::Peer(Box::new(told));
                                    out.put_slice(foreign_json(&told).as_bytes());
                                    out.put_u8(b'\n');
                                    service.metrics.code(QueryOutcome::Done);
                                    return;
                                }
                                Err(refusal) => Err(refusal),
                            }
                        }
                        Err(Refusal::CodeInvalid) if service.is_foreign(code) => {
                            *costs += FOREIGN_LINES;
                            match service.scan_foreign_now(code, *now) {
                                Ok(told) => {
                                    out.put_slice(foreign_json(&told).as_bytes());
                                    out.put_u8(b'\n');
                                    service.metrics.code(QueryOutcome::Done);
                                    return;
                                }
                                Err(refusal) => Err(refusal),
                            }
                        }
                        Err(Refusal::CodeInvalid) if code.len() == OFFLINE_CODE_CHARS => {
                            *costs += SIGNATURE_LINES;
                            match service.scan_offline_now(code, *now) {
                                Ok(told) => {
                                    let status = told.verdict.status;
                                    reply::write_offline_verdict(out, &told, *language);
                                    out.put_u8(b'\n');
                                    service.metrics.code(QueryOutcome::Told(status));
                                    return;
                                }
                                Err(refusal) => Err(refusal),
                            }
                        }
                        verdict => verdict,
                    }
                }
                None => Err(Refusal::TooLarge),
            };
            service.metrics.code(match verdict {
                Ok(verdict) => {
                    reply::write_verdict(out, &verdict, *language);
                    out.put_u8(b'\n');
                    QueryOutcome::Told(verdict.status)
                }
                Err(refusal) => {
                    put_error(out, refusal);
                    QueryOutcome::Refused(refusal)
                }
            });
        };
        match codes {
            Some(codes) => lines.push(codes, each),
            None => lines.finish(each),
        }
    }
}

/// Yields to all ready tasks and to those whose bytes the kernel still holds. A plain wake-up would only yield to the former.
fn others_first<T>(cx: &mut Context<'_>) -> Poll<T> {
    let turn = std::pin::pin!(tokio::task::yield_now());
    // The task is polled again by this waker, so the handle is not needed.
    let _ = turn.poll(cx);
    Poll::Pending
}

impl Drop for BulkScan {
    fn drop(&mut self) {
        let visit = self.service.metrics.enter(RequestKind::Bulk, self.started);
        visit.leave(self.outcome);
    }
}

fn put_error(out: &mut BytesMut, refusal: Refusal) {
    out.put_slice(b"{\"error\":\"");
    out.put_slice(refusal.code().as_bytes());
    out.put_slice(b"\"}\n");
}
