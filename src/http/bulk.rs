//! Bulk scans: codes come in a line each, verdicts leave in the same order while codes still come.
//!
//! The body is pulled by the connection when it can write, and pulls the codes in turn: a slow reader slows its own
//! sending, and memory holds one piece of either. After each piece the thread turns to others, so that single scans at the
//! same door do not wait behind thousands.

use super::Settings;
use super::reply::{self, Body, NDJSON};
use crate::answer::Refusal;
use crate::clock::Time;
use crate::language::Language;
use crate::lines::Lines;
use crate::meters::{Kind, Outcome};
use crate::service::Service;
use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use hyper::{Response, StatusCode};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// Bytes of a line at most.
pub const LINE_BYTES_MAX: usize = 512;

/// A verdict takes this many bytes at most when nobody is red for many reasons; the buffer grows where it must.
const VERDICT_BYTES: usize = 320;

/// Whether a body that says its length can hold no more lines than are taken.
pub fn fits(codes: &Incoming, settings: &Settings) -> Result<(), Refusal> {
    let most = settings.bulk_lines_max * (LINE_BYTES_MAX as u64 + 2);
    let fits = codes.size_hint().lower() <= most;
    fits.then_some(()).ok_or(Refusal::TooLarge)
}

/// Begins to answer; the scanner is admitted.
pub fn response(
    service: &Rc<Service>,
    settings: &Settings,
    codes: Incoming,
    language: Language,
    started: Instant,
    now: Time,
) -> Response<Body> {
    let scans = Scans {
        service: service.clone(),
        codes,
        lines: Lines::new(LINE_BYTES_MAX),
        lines_left: settings.bulk_lines_max,
        language,
        now,
        started,
        outcome: Outcome::Gone,
        rest: false,
        ended: false,
    };
    reply::typed(StatusCode::OK, NDJSON, Body::scans(scans))
}

/// A bulk scan under way.
pub struct Scans {
    service: Rc<Service>,
    codes: Incoming,
    lines: Lines,
    lines_left: u64,
    language: Language,
    now: Time,
    started: Instant,
    outcome: Outcome,
    /// A piece was just answered: others first.
    rest: bool,
    ended: bool,
}

impl Scans {
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if std::mem::take(&mut self.rest) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let verdicts = match ready!(Pin::new(&mut self.codes).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(codes) => {
                        self.now = Time::now();
                        self.rest = true;
                        self.verdicts(Some(&codes))
                    }
                    Err(_trailers) => continue,
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.ended = true;
                    self.outcome = Outcome::Done;
                    self.verdicts(None)
                }
            };
            if !verdicts.is_empty() {
                return Poll::Ready(Some(Ok(verdicts)));
            }
        }
    }

    /// The verdicts of the lines that end in this piece, or of the last one.
    fn verdicts(&mut self, codes: Option<&[u8]>) -> Bytes {
        let Scans {
            service,
            lines,
            lines_left,
            language,
            now,
            ended,
            outcome,
            ..
        } = self;
        let expected = codes.map_or(1, |codes| codes.len() / crate::answer::CODE_CHARS + 1);
        let mut out = BytesMut::with_capacity(expected * VERDICT_BYTES);
        let each = |_, line: Option<&[u8]>| {
            if *ended && codes.is_some() {
                return;
            }
            if *lines_left == 0 {
                put_error(&mut out, Refusal::TooLarge);
                *outcome = Outcome::Refused(Refusal::TooLarge);
                *ended = true;
                return;
            }
            *lines_left -= 1;
            let verdict = match line {
                Some(code) => service.scan_now(code.trim_ascii(), *now),
                None => Err(Refusal::TooLarge),
            };
            service.tally.code(match verdict {
                Ok(verdict) => {
                    reply::write_verdict(&mut out, &verdict, *language);
                    out.put_u8(b'\n');
                    Outcome::Told(verdict.standing)
                }
                Err(refusal) => {
                    put_error(&mut out, refusal);
                    Outcome::Refused(refusal)
                }
            });
        };
        match codes {
            Some(codes) => lines.push(codes, each),
            None => lines.finish(each),
        }
        out.freeze()
    }
}

impl Drop for Scans {
    fn drop(&mut self) {
        let visit = self.service.tally.enter(Kind::Bulk, self.started);
        visit.leave(self.outcome);
    }
}

fn put_error(out: &mut BytesMut, refusal: Refusal) {
    out.put_slice(b"{\"error\":\"");
    out.put_slice(refusal.code().as_bytes());
    out.put_slice(b"\"}\n");
}
