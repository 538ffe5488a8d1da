//! The exchange door: answers services of other issuers, which the trust list knows by their certificates, about our live codes.
//! `exchange` is the other half, which asks them. Only own codes are opened, and no other service is asked.

use super::body::Body;
use super::reply::{self, NDJSON};
use crate::clock::Now;
use crate::language::Language;
use crate::meters::{QueryOutcome, RequestKind};
use crate::recognition::peer::Peer;
use crate::refusal::Refusal;
use crate::service::Service;
use crate::service::answer::Verdict;
use bytes::{BufMut, BytesMut};
use hyper::{Response, StatusCode};
use std::sync::Arc;
use std::time::Instant;

/// Largest body with one code, in bytes.
pub const ONE_BYTES_MAX: usize = 256;
/// Largest body with many codes, in bytes.
pub const MANY_BYTES_MAX: usize = 512 << 10;

/// Largest number of codes in a body.
pub const LINES_MAX: usize = 4_096;

/// Longest line in bytes.
const LINE_BYTES_MAX: usize = 128;

/// Codes that are answered before other connections are served.
const STEP: usize = 64;

/// Answers a request about one code.
pub async fn scan(
    service: &Service,
    peer: &Arc<Peer>,
    body: &[u8],
    language: Language,
    started: Instant,
) -> Response<Body> {
    let visit = service.metrics.enter(RequestKind::Exchange, started);
    let code = super::query::trimmed(body);
    let told = service.exchange_scan(code, Now::read()).await;
    service.count_exchanged(peer, &told);
    match told {
        Ok(verdict) => {
            visit.leave(QueryOutcome::Told(verdict.status));
            let mut out = BytesMut::with_capacity(512);
            write(&mut out, service, &verdict, language);
            reply::json(StatusCode::OK, out.freeze())
        }
        Err(refusal) => {
            visit.leave(QueryOutcome::Refused(refusal));
            reply::refused(refusal, language)
        }
    }
}

/// Answers a request about many codes, one a line, in the same order.
///
/// # Errors
///
/// `TooLarge` for more than [`LINES_MAX`] lines, `RateLimited` beyond the peer's rate.
pub async fn bulk(
    service: &Service,
    peer: &Arc<Peer>,
    body: &[u8],
    language: Language,
    started: Instant,
) -> Result<Response<Body>, Refusal> {
    let lines = lines(body)?;
    service.charge_peer(peer, lines.len() as u64, started)?;
    let visit = service.metrics.enter(RequestKind::Exchange, started);
    let mut out = BytesMut::with_capacity(lines.len() * 320);
    for (nth, code) in lines.iter().enumerate() {
        if nth % STEP == STEP - 1 {
            tokio::task::yield_now().await;
        }
        let told = match code {
            Some(code) => service.exchange_scan_now(code, Now::read()),
            None => Err(Refusal::CodeInvalid),
        };
        service.count_exchanged(peer, &told);
        match told {
            Ok(verdict) => {
                write(&mut out, service, &verdict, language);
                out.put_u8(b'\n');
            }
            Err(refusal) => {
                out.put_slice(b"{\"error\":\"");
                out.put_slice(refusal.code().as_bytes());
                out.put_slice(b"\"}\n");
            }
        }
    }
    visit.leave(QueryOutcome::Done);
    Ok(reply::typed(
        StatusCode::OK,
        NDJSON,
        Body::whole(out.freeze()),
    ))
}

/// Splits a body into codes; None for a line that is too long. `TooLarge` beyond [`LINES_MAX`].
fn lines(body: &[u8]) -> Result<Vec<Option<&[u8]>>, Refusal> {
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    let lines = body.split(|byte| *byte == b'\n');
    let fits = |line: &&[u8]| line.len() <= LINE_BYTES_MAX;
    let lines: Vec<Option<&[u8]>> = lines
        .map(super::query::trimmed)
        .map(|line| Some(line).filter(fits))
        .take(LINES_MAX + 1)
        .collect();
    match lines.len() > LINES_MAX {
        true => Err(Refusal::TooLarge),
        false => Ok(lines),
    }
}

fn write(out: &mut BytesMut, service: &Service, verdict: &Verdict, language: Language) {
    reply::write_verdict(out, verdict, language);
    out.truncate(out.len() - 1);
    out.put_slice(b",\"issuer\":\"");
    let own = service.own_issuer().unwrap_or_default();
    out.put_slice(format!("{own:06}").as_bytes());
    out.put_slice(b"\"}");
}
