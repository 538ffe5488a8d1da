//! A request with an id: requests of the desk, acts of the operations door, and feeds. Its id is in log lines, its span in traces.

use super::desk::RouteEntry;
use super::door::Door;
use super::query::{self, Route};
use super::request_id::RequestId;
use crate::refusal::Refusal;
use crate::traces::{self, Wait};
use hyper::header::HeaderName;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};
use tracing::Span;

/// The header with the caller's trace.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The id of a request, and its span.
pub struct IdentifiedRequest {
    /// The id of the request.
    pub id: RequestId,
    span: Span,
}

impl IdentifiedRequest {
    /// Begins a request, and its span if traces are switched on.
    pub fn begin(door: Door, route: Route, parts: &Parts) -> IdentifiedRequest {
        let id = RequestId::of(&parts.headers);
        let span = id.span();
        if traces::is_on() {
            let path = query::plain_path(parts.uri.path());
            let method = method_word(&parts.method);
            let named = pattern(door, route, &path);
            let name = format!("{method} {named}");
            traces::begin(&span, name, traceparent(&parts.headers));
            traces::note(&span, "http.request.method", method);
            traces::note(&span, "http.route", named);
            traces::note(&span, "liangma.door", door.name());
        }
        IdentifiedRequest { id, span }
    }

    /// Returns the span, to run parts of the request in.
    pub fn span(&self) -> Span {
        self.span.clone()
    }

    /// Returns a span for a wait of the request.
    pub fn waiting(&self, wait: Wait) -> Span {
        self.span.in_scope(|| traces::waiting(wait))
    }

    /// Notes the role of an admitted caller.
    pub fn note_role(&self, word: &'static str) {
        traces::note(&self.span, traces::ROLE, word);
    }

    /// Notes a refusal that is given before the service is asked.
    pub fn note_refusal(&self, refusal: Refusal) {
        traces::note(&self.span, traces::REFUSAL, refusal.code());
    }

    /// Ends the request with the status of its answer, and returns its id.
    pub fn end(self, status: u16) -> RequestId {
        traces::note_status(&self.span, status);
        self.id
    }
}

/// Returns the header `traceparent`; None if it is missing or occurs twice.
fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let one = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(one)
}

/// Returns the path of a route without ids.
fn pattern(door: Door, route: Route, path: &str) -> &'static str {
    match route {
        Route::Feed => "/v1/feed",
        Route::OpenSession => "/v1/sessions",
        Route::Explain => "/v1/status",
        Route::Settings => "/v1/settings",
        _ => RouteEntry::find(door, path).map_or("", |entry| entry.path),
    }
}

/// Returns a method that the standard knows; `_OTHER` for any other, whose text is the caller's.
fn method_word(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT",
    ];
    let known = KNOWN.into_iter().find(|known| *known == method.as_str());
    known.unwrap_or("_OTHER")
}
