//! Serves what gates store for the time without a network: public keys of our offline codes, and the files of our status list.

use super::body::Body;
use super::pages::names;
use super::query::{ListPartPath, ListPath};
use super::reply;
use crate::clock::Now;
use crate::lists::{ServedEdition, ServedFile};
use crate::meters::{QueryOutcome, RequestKind};
use crate::offline::daily::{DAYS_GIVEN, DayKeys};
use crate::offline::issue::{OfflineIssuer, etag};
use crate::refusal::Refusal;
use crate::service::Service;
use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use hyper::{HeaderMap, Method, Response, StatusCode};
use std::time::{Duration, Instant};

const JWKS: HeaderValue = HeaderValue::from_static("application/jwk-set+json");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FILE: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Caching of the public keys. A next key is published long before it signs.
const KEYS_CACHED: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// Time for which a cache may serve a list while no node answers. The list itself says when it is too old.
const STALE_SECONDS: u64 = 43_200;

/// Answers with the public keys as a JWKS; empty if the node issues no offline codes.
pub fn keys(service: &Service, asked: &HeaderMap, started: Instant) -> Response<Body> {
    let visit = service.metrics.enter(RequestKind::List, started);
    visit.leave(QueryOutcome::Done);
    let keys = service.app.offline.as_ref().map(|offline| offline.keys());
    let (tag, jwks) = match &keys {
        Some(keys) => (keys.jwks_tag.as_str(), keys.jwks.clone()),
        None => ("\"none\"", Bytes::from_static(b"{\"keys\":[]}")),
    };
    let has_it = has(asked, tag);
    tagged(has_it, tag, JWKS, KEYS_CACHED, || Body::whole(jwks))
}

/// Answers an admitted caller with a part of the status list.
///
/// # Errors
///
/// `NotFound` for another issuer or a base that is no longer served, `Warming` before the first list, `Busy` if this thread has
/// sent enough bytes in this second.
pub fn list(
    service: &Service,
    path: ListPath,
    method: &Method,
    asked: &HeaderMap,
    started: Instant,
    now: Now,
) -> Result<Response<Body>, Refusal> {
    let app = &service.app;
    let (offline, lists) = app
        .offline
        .as_ref()
        .zip(app.lists.as_ref())
        .filter(|(offline, _)| offline.settings.issuer == path.issuer)
        .ok_or(Refusal::NotFound)?;
    let done = || {
        service
            .metrics
            .enter(RequestKind::List, started)
            .leave(QueryOutcome::Done)
    };
    if path.part == ListPartPath::Days {
        done();
        let keys = Body::whole(days(offline, now));
        return Ok(reply::typed(StatusCode::OK, JSON, keys));
    }
    let edition = lists.served().ok_or(Refusal::Warming)?;
    let every = lists.settings.every;
    let cached = |who| cached(who, edition.cache_for(now.time, every));
    let (tag, bytes, cached, media_type) = match path.part {
        ListPartPath::Index | ListPartPath::Days => {
            let index = edition.describe(path.issuer, &lists.settings);
            (etag(&index), index, cached("private"), JSON)
        }
        ListPartPath::Base | ListPartPath::Changes(_) => {
            let file = file_of(&edition, path.part)?;
            (
                file.tag.clone(),
                file.bytes.clone(),
                cached("private"),
                FILE,
            )
        }
        ListPartPath::SealedBase | ListPartPath::SealedChanges(_) => {
            let file = file_of(&edition, path.part)?;
            let tag = file.sealed_tag.clone();
            (tag, file.sealed.clone(), cached("public"), FILE)
        }
    };
    let has_it = has(asked, &tag);
    if !has_it && *method != Method::HEAD {
        service.admit_list_bytes(bytes.len() as u64, started)?;
    }
    done();
    Ok(tagged(has_it, &tag, media_type, cached, || {
        Body::pieces(bytes)
    }))
}

fn file_of(edition: &ServedEdition, part: ListPartPath) -> Result<&ServedFile, Refusal> {
    let file = match part {
        ListPartPath::Changes(number) | ListPartPath::SealedChanges(number) => {
            edition.changes(number)
        }
        _ => edition.pairs.first().map(|pair| &pair.base),
    };
    file.ok_or(Refusal::NotFound)
}

/// Returns the keys of today and the following days (UTC) as JSON.
fn days(offline: &OfflineIssuer, now: Now) -> Bytes {
    use crate::seal::base32;
    let keys = offline.keys();
    let today = DayKeys::day_of(now.time);
    let days: Vec<_> = (today..today.saturating_add(DAYS_GIVEN))
        .map(|day| serde_json::json!({ "day": day, "key": base32::text(&keys.days.of(day)[..]) }))
        .collect();
    serde_json::json!({ "days": days }).to_string().into()
}

fn cached(who: &str, left: Duration) -> HeaderValue {
    let seconds = left.as_secs();
    let text = format!("{who}, max-age={seconds}, stale-if-error={STALE_SECONDS}");
    HeaderValue::try_from(text).expect("letters and digits")
}

/// Returns whether `If-None-Match` names this tag.
fn has(asked: &HeaderMap, tag: &str) -> bool {
    let mut known = asked.get_all(IF_NONE_MATCH).iter();
    known.any(|tags| names(tags.as_bytes(), tag.as_bytes()))
}

/// Returns a response with the body, or 304 if the caller has it.
fn tagged(
    has_it: bool,
    tag: &str,
    media_type: HeaderValue,
    cached: HeaderValue,
    body: impl FnOnce() -> Body,
) -> Response<Body> {
    let (status, content) = match has_it {
        true => (StatusCode::NOT_MODIFIED, Body::whole("")),
        false => (StatusCode::OK, body()),
    };
    let mut response = reply::typed(status, media_type, content);
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(ETAG, tag);
    }
    headers.insert(CACHE_CONTROL, cached);
    if has_it {
        headers.remove(CONTENT_TYPE);
    }
    response
}
