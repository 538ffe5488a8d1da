//! What gates keep for the time without a network: the public keys of offline codes.

use super::pages::names;
use super::reply::{self, Body};
use crate::meters::{Kind, Outcome};
use crate::service::Service;
use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use hyper::{HeaderMap, Response, StatusCode};
use std::time::Instant;

const JWKS: HeaderValue = HeaderValue::from_static("application/jwk-set+json");

/// A next key is published long before it signs.
const KEYS_CACHED: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// Answers with the public keys as a JWKS, which is empty where no offline codes are issued.
pub fn keys(service: &Service, asked: &HeaderMap, started: Instant) -> Response<Body> {
    let visit = service.tally.enter(Kind::List, started);
    visit.leave(Outcome::Done);
    let keys = service.rooms.offline.as_ref().map(|offline| offline.keys());
    let (tag, jwks) = match &keys {
        Some(keys) => (keys.jwks_tag.as_str(), keys.jwks.clone()),
        None => ("\"none\"", Bytes::from_static(b"{\"keys\":[]}")),
    };
    tagged(asked, tag, JWKS, KEYS_CACHED, || Body::whole(jwks))
}

/// Answers with a body, or with 304 where the caller has it.
fn tagged(
    asked: &HeaderMap,
    tag: &str,
    media_type: HeaderValue,
    cached: HeaderValue,
    body: impl FnOnce() -> Body,
) -> Response<Body> {
    let mut known = asked.get_all(IF_NONE_MATCH).iter();
    let has_it = known.any(|tags| names(tags.as_bytes(), tag.as_bytes()));
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
