//! The exchange door: verdicts on our live codes for services of other issuers, which come with a certificate that the trust list names.
//! Only own codes are opened, and nothing is asked of anybody else.

use super::body::Body;
use super::reply::{self, NDJSON};
use crate::answer::{Refusal, Verdict};
use crate::clock::Now;
use crate::language::Language;
use crate::meters::{QueryOutcome, RequestKind};
use crate::recognition::peer::Peer;
use crate::service::Service;
use bytes::{BufMut, BytesMut};
use hyper::{Response, StatusCode};
use std::sync::Arc;
use std::time::Instant;

/// Bytes of a body with one code, and with many.
pub const ONE_BYTES_MAX: usize = 256;
/// Bytes of the body of a question about many codes.
pub const MANY_BYTES_MAX: usize = 512 << 10;

/// Lines of a body with many codes.
pub const LINES_MAX: usize = 4_096;

/// Bytes of a line.
const LINE_BYTES_MAX: usize = 128;

/// Codes that are answered before others have their turn.
const STEP: usize = 64;

/// Answers for one code.
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

/// Answers for many codes, a line each, in their order.
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

/// Cuts a body into codes; a line that is too long is none.
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
