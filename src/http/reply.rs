//! Answers and refusals as responses: status, JSON, and the headers that answers share (`JSON_HEADERS`).
//! Codes and sentences of refusals come from `http/problem`. Answers to unread requests are made there and in `http/busy_page`.
//! The caching of `http/lists` and `http/pages` replaces `no-store`.

use super::body::Body;
use super::busy_page;
use super::foreign::foreign_json;
use super::problem::{problem, put_number, status_of, title, wait, whole_seconds};
use super::request_id::{REQUEST_ID, RequestId};
use crate::desk::DeskResponse;
use crate::language::Language;
use crate::person::MaskedIdentity;
use crate::refusal::Refusal;
use crate::service::Answer;
use crate::service::answer::{
    OfflineIssued, OfflineVerdict, OpenedSession, ShownCode, StatusExplanation, Verdict,
};
use crate::status::{self, Reasons};
use crate::status::{Freshness, ResidentStatus};
use bytes::{BufMut, Bytes, BytesMut};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    HeaderValue, REFRESH, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Response, StatusCode};
use serde::Serialize;
use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The content type of a problem document.
pub const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
/// The content type of JSON in lines.
pub const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");
/// The content type of metrics.
pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");
/// Personal data must not be cached.
pub const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Browsers must use the declared type.
pub const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// Returns the response to a query.
pub fn response(result: Result<Answer, Refusal>, language: Language) -> Response<Body> {
    match result {
        Ok(Answer::Shown(shown, language)) => json(StatusCode::OK, shown_json(&shown, language)),
        Ok(Answer::Verdict(verdict, language)) => {
            let mut out = BytesMut::with_capacity(512);
            write_verdict(&mut out, &verdict, language);
            json(StatusCode::OK, out.freeze())
        }
        Ok(Answer::Opened(opened)) => json(StatusCode::CREATED, opened_json(&opened)),
        Ok(Answer::Explained(explained, language)) => {
            json(StatusCode::OK, explained_json(&explained, language))
        }
        Ok(Answer::OfflineCode(issued)) => json(StatusCode::OK, issued_json(&issued)),
        Ok(Answer::OfflineVerdict(told, language)) => {
            let mut out = BytesMut::with_capacity(512);
            write_offline_verdict(&mut out, &told, language);
            json(StatusCode::OK, out.freeze())
        }
        Ok(Answer::Foreign(verdict)) => json(StatusCode::OK, foreign_json(&verdict)),
        Ok(Answer::Desk(said, language)) => desk_response(*said, language),
        Err(refusal) => refused(refusal, language),
    }
}

/// Headers of every JSON answer. Cloning them costs half of inserting each.
static JSON_HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
    let headers = [
        (CONTENT_TYPE, JSON),
        (CACHE_CONTROL, NO_STORE),
        (X_CONTENT_TYPE_OPTIONS, NOSNIFF),
    ];
    headers.into_iter().collect()
});

/// Returns an answer of the desk as JSON; a rejection is a problem document that names the field.
fn desk_response(said: DeskResponse, language: Language) -> Response<Body> {
    let (status, body) = match said {
        DeskResponse::Found(body) => (StatusCode::OK, body),
        DeskResponse::Done(body) => (StatusCode::CREATED, body),
        DeskResponse::Rejected(why) => {
            let body = serde_json::json!({
                "type": format!("urn:liangma:{}", why.code()),
                "title": title(Refusal::Malformed, language),
                "status": 422, "code": why.code(), "detail": why.detail(),
            });
            let body = Body::whole(body.to_string());
            let mut response = typed(StatusCode::UNPROCESSABLE_ENTITY, PROBLEM, body);
            let tag = HeaderValue::from_static(language.tag());
            response.headers_mut().insert(CONTENT_LANGUAGE, tag);
            return response;
        }
    };
    json(status, body.to_string())
}

/// Returns a response with a JSON body.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    *response.headers_mut() = JSON_HEADERS.clone();
    response
}

/// Returns a response with a body of this type, which no cache keeps.
pub fn typed(status: StatusCode, content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    *headers = JSON_HEADERS.clone();
    headers.insert(CONTENT_TYPE, content_type);
    response
}

/// Returns the response of a refusal: a problem document, with Retry-After if a retry makes sense.
pub fn refused(refusal: Refusal, language: Language) -> Response<Body> {
    let wait = wait(refusal);
    let body = problem(refusal, language, wait);
    let mut response = typed(status_of(refusal), PROBLEM, Body::whole(body));
    let tag = HeaderValue::from_static(language.tag());
    response.headers_mut().insert(CONTENT_LANGUAGE, tag);
    if response.status() == StatusCode::UNAUTHORIZED {
        let bearer = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
    }
    match wait {
        Some(wait) => later(response, wait),
        None => response,
    }
}

/// Adds the request id to a response: a header, and a member of a problem document.
pub fn identified(mut response: Response<Body>, id: &RequestId) -> Response<Body> {
    if response.headers().get(CONTENT_TYPE) == Some(&PROBLEM)
        && let Some(problem) = response.body_mut().whole_bytes()
        && let Some(open) = problem.strip_suffix(b"}")
    {
        let mut out = BytesMut::with_capacity(problem.len() + 96);
        out.put_slice(open);
        out.put_slice(b",\"request_id\":\"");
        out.put_slice(id.as_str().as_bytes());
        out.put_slice(b"\"}");
        *problem = out.freeze();
    }
    if let Some(id) = id.header() {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Returns the response of a refusal for a browser that loads a page: a temporary one is a page that retries by itself.
pub fn refused_page(refusal: Refusal, language: Language) -> Response<Body> {
    let Some(wait) = wait(refusal) else {
        return refused(refusal, language);
    };
    let seconds = whole_seconds(wait);
    let page = busy_page::busy_page(refusal, language, seconds);
    let page_type = HeaderValue::from_static(busy_page::BUSY_PAGE_TYPE);
    let mut response = typed(status_of(refusal), page_type, Body::whole(page));
    let headers = response.headers_mut();
    let policy = HeaderValue::from_static(busy_page::BUSY_PAGE_POLICY);
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
    headers.insert(REFRESH, seconds.into());
    headers.insert(RETRY_AFTER, seconds.into());
    response
}

/// Adds Retry-After to a response.
pub fn later(mut response: Response<Body>, wait: Duration) -> Response<Body> {
    let seconds = whole_seconds(wait).into();
    response.headers_mut().insert(RETRY_AFTER, seconds);
    response
}

/// Makes a response the last one of its connection.
pub fn last(mut response: Response<Body>) -> Response<Body> {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

/// Adds `Allow` with the methods of the path.
pub fn allowing(mut response: Response<Body>, method: Option<&'static str>) -> Response<Body> {
    if let Some(method) = method {
        let headers = response.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static(method));
    }
    response
}

/// `"state":…,"status":…,"reasons":[…]` for each set of reasons and language, built once.
struct Fragments {
    with_guidance: Vec<Bytes>,
    bare: Vec<Bytes>,
    /// The fragments without reasons.
    colours: Vec<Bytes>,
}

/// Which reasons are printed beside the colour.
#[derive(Clone, Copy)]
enum Why {
    WithGuidance,
    Bare,
    Withheld,
}

static FRAGMENTS: LazyLock<Fragments> = LazyLock::new(|| {
    let of = |why: Why| {
        let mut all = Vec::with_capacity(Language::ALL.len() * Reasons::SETS);
        for language in Language::ALL {
            for bits in 0..Reasons::SETS as u8 {
                let reasons = Reasons::from_bits(bits).expect("below the number of sets");
                all.push(fragment(reasons, language, why));
            }
        }
        all
    };
    Fragments {
        with_guidance: of(Why::WithGuidance),
        bare: of(Why::Bare),
        colours: of(Why::Withheld),
    }
});

fn fragment(reasons: Reasons, language: Language, why: Why) -> Bytes {
    let colour = reasons.colour();
    let told = match why {
        Why::Withheld => Reasons::NONE,
        Why::WithGuidance | Why::Bare => reasons,
    };
    let guidance = matches!(why, Why::WithGuidance);
    let list: Vec<ReasonJson> = told
        .iter()
        .map(|reason| ReasonJson {
            reason: reason.word(),
            text: reason.text(language),
            guidance: guidance.then(|| reason.guidance(language).into()),
            detail: None,
        })
        .collect();
    let (state, status) = (colour.word(), colour.national());
    let list = serde_json::to_string(&list).expect("plain text");
    format!("\"state\":\"{state}\",\"status\":\"{status}\",\"reasons\":{list}").into()
}

/// One reason in JSON.
#[derive(Serialize)]
struct ReasonJson {
    reason: &'static str,
    text: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    guidance: Option<Cow<'static, str>>,
    #[serde(flatten)]
    detail: Option<ReasonDetailJson>,
}

#[derive(Serialize)]
struct ReasonDetailJson {
    since: String,
    until: Option<String>,
    region: Option<String>,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_name: Option<String>,
}

fn put_status(out: &mut BytesMut, status: ResidentStatus, language: Language, why: Why) {
    match status {
        ResidentStatus::Known(reasons) => {
            let fragments = match why {
                Why::WithGuidance => &FRAGMENTS.with_guidance,
                Why::Bare => &FRAGMENTS.bare,
                Why::Withheld => &FRAGMENTS.colours,
            };
            let nth = language as usize * Reasons::SETS + usize::from(reasons.bits());
            out.put_slice(&fragments[nth]);
        }
        ResidentStatus::Unknown | ResidentStatus::TooOld => {
            out.put_slice(b"\"state\":\"");
            out.put_slice(status.state().as_bytes());
            out.put_slice(b"\",\"reasons\":[]");
        }
    }
}

fn put_masked(out: &mut BytesMut, masked: &MaskedIdentity) {
    out.put_slice(b",\"name\":\"");
    masked.name.write(out);
    out.put_slice(b"\",\"cert_no\":\"");
    masked.cert_no.write(out);
    out.put_slice(b"\",\"assurance\":\"");
    out.put_slice(masked.assurance.word().as_bytes());
    out.put_slice(b"\"");
}

fn put_time(out: &mut BytesMut, name: &[u8], time: crate::clock::Time) {
    out.put_slice(b",\"");
    out.put_slice(name);
    out.put_slice(b"\":\"");
    out.put_slice(&time.print());
    out.put_slice(b"\"");
}

fn put_freshness(out: &mut BytesMut, freshness: &Freshness) {
    put_time(out, b"as_of", freshness.as_of);
    if freshness.stale {
        out.put_slice(b",\"stale\":true");
    }
}

fn shown_json(shown: &ShownCode, language: Language) -> Bytes {
    let mut out = BytesMut::with_capacity(1024);
    out.put_slice(b"{");
    put_status(&mut out, shown.status, language, Why::WithGuidance);
    out.put_slice(b",\"code\":\"");
    out.put_slice(&shown.code.0);
    out.put_slice(b"\"");
    put_time(&mut out, b"issued_at", shown.issued_at);
    put_time(&mut out, b"expires_at", shown.expires_at);
    out.put_slice(b",\"refresh_after_ms\":");
    let life = shown.expires_at.since(shown.issued_at);
    put_number(&mut out, life.as_millis() as u64 / 2);
    put_masked(&mut out, &shown.masked);
    put_freshness(&mut out, &shown.freshness);
    out.put_slice(b"}");
    out.freeze()
}

/// Appends a verdict as JSON, without a line end.
pub fn write_verdict(out: &mut BytesMut, verdict: &Verdict, language: Language) {
    out.put_slice(b"{");
    let why = match verdict.with_reasons {
        true => Why::Bare,
        false => Why::Withheld,
    };
    put_status(out, verdict.status, language, why);
    put_masked(out, &verdict.masked);
    put_time(out, b"issued_at", verdict.issued_at);
    put_freshness(out, &verdict.freshness);
    out.put_slice(b",\"age_ms\":");
    put_number(out, verdict.freshness.age.as_millis() as u64);
    out.put_slice(b"}");
}

/// Appends a verdict about an offline code as JSON, without a line end.
pub fn write_offline_verdict(out: &mut BytesMut, told: &OfflineVerdict, language: Language) {
    write_verdict(out, &told.verdict, language);
    out.truncate(out.len() - 1);
    put_time(out, b"expires_at", told.expires_at);
    out.put_slice(b",\"class\":\"offline\",\"check_document\":true}");
}

fn issued_json(issued: &OfflineIssued) -> Bytes {
    let mut out = BytesMut::with_capacity(512);
    out.put_slice(b"{\"code\":\"");
    out.put_slice(issued.code.as_bytes());
    out.put_slice(b"\"");
    put_time(&mut out, b"issued_at", issued.issued_at);
    put_time(&mut out, b"expires_at", issued.expires_at);
    put_masked(&mut out, &issued.masked);
    out.put_slice(b"}");
    out.freeze()
}

fn opened_json(opened: &OpenedSession) -> Bytes {
    let mut out = BytesMut::with_capacity(512);
    out.put_slice(b"{\"session\":\"");
    out.put_slice(opened.session.as_bytes());
    out.put_slice(b"\"");
    put_time(&mut out, b"expires_at", opened.expires_at);
    put_masked(&mut out, &opened.masked);
    out.put_slice(b"}");
    out.freeze()
}

fn explained_json(explained: &StatusExplanation, language: Language) -> Bytes {
    let mut out = BytesMut::with_capacity(2048);
    out.put_slice(b"{\"state\":\"");
    out.put_slice(explained.status.state().as_bytes());
    out.put_slice(b"\"");
    if let ResidentStatus::Known(reasons) = explained.status {
        out.put_slice(b",\"status\":\"");
        out.put_slice(reasons.colour().national().as_bytes());
        out.put_slice(b"\"");
    }
    let reasons: Vec<ReasonJson> = explained
        .details
        .iter()
        .map(|detail| ReasonJson {
            reason: detail.reason.word(),
            text: detail.reason.text(language),
            guidance: Some(detail.guidance.clone().into()),
            detail: detail.said.as_ref().map(|said| ReasonDetailJson {
                since: said.since.to_string(),
                until: said.until.map(crate::clock::print_day),
                region: said.region.map(|region| format!("{region:06}")),
                source: said.source.clone(),
                source_name: said.source_name.clone(),
            }),
        })
        .collect();
    let reasons = serde_json::to_string(&reasons).expect("plain text");
    out.put_slice(b",\"reasons\":");
    out.put_slice(reasons.as_bytes());
    let released: Vec<serde_json::Value> = (explained.released.iter())
        .map(|(reason, said)| {
            let mut told = serde_json::json!({
                "reason": reason.word(), "text": reason.text(language), "at": said.since.to_string(),
                "region": said.region.map(|region| format!("{region:06}")), "source": said.source,
            });
            if let Some(name) = &said.source_name {
                told["source_name"] = name.as_str().into();
            }
            told
        })
        .collect();
    out.put_slice(b",\"released\":");
    let released = serde_json::to_string(&released).expect("plain text");
    out.put_slice(released.as_bytes());
    out.put_slice(b",\"appeal\":\"");
    out.put_slice(status::appeal(language).as_bytes());
    out.put_slice(b"\"");
    put_masked(&mut out, &explained.masked);
    put_freshness(&mut out, &explained.freshness);
    out.put_slice(b"}");
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use crate::person::{Assurance, Document, MaskedName};
    use crate::status::Reason;

    fn verdict(status: ResidentStatus, stale: bool) -> Verdict {
        Verdict {
            status,
            masked: MaskedIdentity {
                name: MaskedName::of("陈美玲"),
                cert_no: Document::parse("14", "H12345678", u32::MAX).unwrap().mask(),
                assurance: Assurance::RealPerson,
            },
            issued_at: Time(1_587_340_912_007),
            freshness: Freshness {
                moment: crate::clock::Moment(1),
                as_of: Time(1_587_340_912_000),
                age: Duration::from_millis(12),
                stale,
            },
            with_reasons: true,
        }
    }

    fn print(verdict: &Verdict) -> serde_json::Value {
        let mut out = BytesMut::new();
        write_verdict(&mut out, verdict, Language::En);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_verdict_is_that_of_the_contract() {
        assert_eq!(
            print(&verdict(ResidentStatus::Known(Reasons::NONE), false)),
            serde_json::json!({
                "state": "green", "status": "00", "reasons": [], "name": "陈**", "cert_no": "H1*****78",
                "assurance": "real_person", "issued_at": "2020-04-20T00:01:52.007Z",
                "as_of": "2020-04-20T00:01:52.000Z", "age_ms": 12,
            })
        );
        let red = print(&verdict(
            ResidentStatus::Known(Reasons::NONE.with(Reason::HomeIsolation)),
            true,
        ));
        assert_eq!(
            (&red["state"], &red["status"]),
            (&"red".into(), &"10".into())
        );
        assert_eq!(red["reasons"][0]["reason"], "home_isolation");
        assert_eq!(red["stale"], true);
    }

    #[test]
    fn a_gate_that_is_told_no_reasons_is_told_the_colour() {
        for language in Language::ALL {
            for bits in 0..Reasons::SETS as u8 {
                let reasons = Reasons::from_bits(bits).unwrap();
                let mut verdict = verdict(ResidentStatus::Known(reasons), false);
                verdict.with_reasons = false;
                let mut out = BytesMut::new();
                write_verdict(&mut out, &verdict, language);
                let printed: serde_json::Value = serde_json::from_slice(&out).unwrap();
                let colour = reasons.colour();
                assert_eq!(printed["state"], colour.word());
                assert_eq!(printed["status"], colour.national());
                assert_eq!(printed["reasons"], serde_json::json!([]));
            }
        }
    }

    #[test]
    fn what_is_not_known_has_no_status() {
        for status in [ResidentStatus::Unknown, ResidentStatus::TooOld] {
            let printed = print(&verdict(status, true));
            assert_eq!(printed["state"], status.state());
            assert!(printed.get("status").is_none());
        }
    }
}
