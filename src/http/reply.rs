//! Answers and refusals as responses; alone in knowing HTTP status codes, JSON and languages on the wire.

use super::bulk::BulkScan;
use super::busy_page;
use super::doors::ConnectionState;
use super::foreign::foreign_json;
use super::request_id::{REQUEST_ID, RequestId};
use crate::answer::{
    Freshness, OfflineIssued, OfflineVerdict, OpenedSession, Refusal, ResidentStatus, ShownCode,
    StatusExplanation, Verdict,
};
use crate::language::Language;
use crate::person::MaskedIdentity;
use crate::service::{Answer, BegunBackup};
use crate::status::{self, Reasons};
use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::{Frame, SizeHint};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    HeaderValue, REFRESH, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Response, StatusCode};
use serde::Serialize;
use std::borrow::Cow;
use std::cell::Cell;
use std::io::Write;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

/// A response's body. When it is dropped its connection is between two requests.
pub struct Body {
    content: Content,
    connection: Option<Rc<ConnectionState>>,
}

enum Content {
    Whole(Bytes),
    Scans(Box<BulkScan>),
    /// What the store sends piece by piece.
    Stream(Box<BegunBackup>),
    /// What is large goes out piece by piece, and other connections of the thread have their turn between two.
    Pieces(Bytes, PiecePause),
}

/// Whether the next piece waits for others first.
#[derive(PartialEq)]
enum PiecePause {
    Before,
    Over,
}

/// Bytes of a piece: some microseconds of copying.
const PIECE_BYTES: usize = 32 << 10;

impl Body {
    pub fn whole(bytes: impl Into<Bytes>) -> Body {
        Body {
            content: Content::Whole(bytes.into()),
            connection: None,
        }
    }

    /// Returns a body that is sent in pieces.
    pub fn pieces(bytes: Bytes) -> Body {
        Body {
            content: Content::Pieces(bytes, PiecePause::Over),
            connection: None,
        }
    }

    pub fn scans(scans: BulkScan) -> Body {
        Body {
            content: Content::Scans(Box::new(scans)),
            connection: None,
        }
    }

    pub fn stream(begun: BegunBackup) -> Body {
        Body {
            content: Content::Stream(Box::new(begun)),
            connection: None,
        }
    }

    pub(super) fn with_connection(mut self, connection: Rc<ConnectionState>) -> Body {
        self.connection = Some(connection);
        self
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.answered();
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Pieces(bytes, _) if bytes.is_empty() => Poll::Ready(None),
            Content::Pieces(_, pause) if *pause == PiecePause::Before => {
                *pause = PiecePause::Over;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Content::Pieces(bytes, pause) => {
                *pause = PiecePause::Before;
                let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Content::Scans(scans) => scans
                .poll(cx)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
            // One that ended early has no last frame: whoever reads it sees that.
            Content::Stream(begun) => begun
                .frames
                .poll_recv(cx)
                .map(|frame| frame.map(|frame| Ok(Frame::data(frame.into())))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Whole(bytes) | Content::Pieces(bytes, _) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) | Content::Pieces(bytes, _) => {
                SizeHint::with_exact(bytes.len() as u64)
            }
            Content::Scans(_) | Content::Stream(_) => SizeHint::default(),
        }
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
pub const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");
pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");
/// Whatever is said of a person is said once.
pub const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// A body is what its type says, whatever a browser makes of its bytes.
pub const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

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
        Ok(Answer::Desk(said, language)) => super::desk::response(*said, language),
        Err(refusal) => refused(refusal, language),
    }
}

/// The headers of every answer, with the type of most. To clone them costs half of inserting each.
static JSON_HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
    let headers = [
        (CONTENT_TYPE, JSON),
        (CACHE_CONTROL, NO_STORE),
        (X_CONTENT_TYPE_OPTIONS, NOSNIFF),
    ];
    headers.into_iter().collect()
});

pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    *response.headers_mut() = JSON_HEADERS.clone();
    response
}

pub fn typed(status: StatusCode, content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    *headers = JSON_HEADERS.clone();
    headers.insert(CONTENT_TYPE, content_type);
    response
}

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

/// Writes the id of its request into a response: a header, and a member of a problem document.
pub fn identified(mut response: Response<Body>, id: &RequestId) -> Response<Body> {
    if response.headers().get(CONTENT_TYPE) == Some(&PROBLEM)
        && let Content::Whole(problem) = &mut response.body_mut().content
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

/// The problem document of a refusal, for who answers without a node.
pub fn problem_text(refusal: Refusal, wait: Duration) -> String {
    String::from_utf8_lossy(&problem(refusal, Language::Hans, Some(wait))).into_owned()
}

/// As [`refused`], for a browser that loads a page: a refusal that passes is a page that asks again by itself.
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

/// The same response, saying when to come back.
pub fn later(mut response: Response<Body>, wait: Duration) -> Response<Body> {
    let seconds = whole_seconds(wait).into();
    response.headers_mut().insert(RETRY_AFTER, seconds);
    response
}

/// The same response, as the last of its connection.
pub fn last(mut response: Response<Body>) -> Response<Body> {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

/// How long to stay away after a refusal, spread; None where coming back does not help.
pub fn wait(refusal: Refusal) -> Option<Duration> {
    refusal.retry_after().map(spread)
}

/// The same response, naming the method that the path has.
pub fn allowing(mut response: Response<Body>, method: Option<&'static str>) -> Response<Body> {
    if let Some(method) = method {
        let headers = response.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static(method));
    }
    response
}

pub fn status_of(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::Busy
        | Refusal::UpstreamBusy
        | Refusal::Warming
        | Refusal::Draining
        | Refusal::IssuerUnreachable => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Unauthorized | Refusal::SessionExpired => StatusCode::UNAUTHORIZED,
        Refusal::NotPermitted => StatusCode::FORBIDDEN,
        Refusal::Malformed => StatusCode::BAD_REQUEST,
        Refusal::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
        Refusal::NotFound => StatusCode::NOT_FOUND,
        Refusal::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::CodeInvalid
        | Refusal::CodeExpired
        | Refusal::OfflineRegistration
        | Refusal::GrantRevoked
        | Refusal::GrantExpired
        | Refusal::CodeRevoked
        | Refusal::IssuerUnknown
        | Refusal::SignatureInvalid
        | Refusal::IssuerNotEntitled
        | Refusal::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::RecordUnchangeable => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::NotOnRoster | Refusal::NoConsent => StatusCode::FORBIDDEN,
        Refusal::LimitReached => StatusCode::CONFLICT,
        Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

pub fn title(refusal: Refusal, language: Language) -> &'static str {
    use Language::*;
    match (refusal, language) {
        (Refusal::Busy, Hans) => "系统繁忙，当前查询人数过多，请稍后再试",
        (Refusal::Busy, Hant) => "系統繁忙，當前查詢人數過多，請稍後再試",
        (Refusal::Busy, En) => {
            "The system is busy, too many people are querying, please try again later"
        }
        (Refusal::UpstreamBusy, Hans) => "系统繁忙，暂时无法查询，请稍后再试",
        (Refusal::UpstreamBusy, Hant) => "系統繁忙，暫時無法查詢，請稍後再試",
        (Refusal::UpstreamBusy, En) => {
            "The system is busy and cannot look this up now, please try again later"
        }
        (Refusal::Warming, Hans) => "服务正在启动，请稍后再试",
        (Refusal::Warming, Hant) => "服務正在啟動，請稍後再試",
        (Refusal::Warming, En) => "The service is starting, please try again later",
        (Refusal::Draining, Hans) => "服务正在切换，请稍后再试",
        (Refusal::Draining, Hant) => "服務正在切換，請稍後再試",
        (Refusal::Draining, En) => "This server is leaving, please try again",
        (Refusal::RateLimited, Hans) => "查询过于频繁，请稍后再试",
        (Refusal::RateLimited, Hant) => "查詢過於頻繁，請稍後再試",
        (Refusal::RateLimited, En) => "You are asking too often, please try again later",
        (Refusal::Unauthorized, Hans) => "未登录或凭证无效，请重新登录",
        (Refusal::Unauthorized, Hant) => "未登錄或憑證無效，請重新登錄",
        (Refusal::Unauthorized, En) => "No valid credentials, please log in again",
        (Refusal::SessionExpired, Hans) => "登录已过期，请重新登录",
        (Refusal::SessionExpired, Hant) => "登錄已過期，請重新登錄",
        (Refusal::SessionExpired, En) => "The session has expired, please log in again",
        (Refusal::NotPermitted, Hans) => "该凭证无权进行此操作",
        (Refusal::NotPermitted, Hant) => "該憑證無權進行此操作",
        (Refusal::NotPermitted, En) => "These credentials do not permit this",
        (Refusal::Malformed, Hans) => "请求格式有误",
        (Refusal::Malformed, Hant) => "請求格式有誤",
        (Refusal::Malformed, En) => "The request is malformed",
        (Refusal::UnsupportedMediaType, Hans) => "不支持该内容类型",
        (Refusal::UnsupportedMediaType, Hant) => "不支援該內容類型",
        (Refusal::UnsupportedMediaType, En) => "This media type is not supported",
        (Refusal::TooLarge, Hans) => "请求内容过大",
        (Refusal::TooLarge, Hant) => "請求內容過大",
        (Refusal::TooLarge, En) => "The request is too large",
        (Refusal::ExpectationFailed, Hans) => "不支持请求中的 Expect",
        (Refusal::ExpectationFailed, Hant) => "不支援請求中的 Expect",
        (Refusal::ExpectationFailed, En) => "What the Expect header asks for is not supported",
        (Refusal::NotFound, Hans) => "没有这个地址",
        (Refusal::NotFound, Hant) => "沒有這個地址",
        (Refusal::NotFound, En) => "There is nothing at this path",
        (Refusal::MethodNotAllowed, Hans) => "该地址不支持此方法",
        (Refusal::MethodNotAllowed, Hant) => "該地址不支援此方法",
        (Refusal::MethodNotAllowed, En) => "This path has another method",
        (Refusal::CodeInvalid, Hans) => "健康码无效，请对方重新亮码",
        (Refusal::CodeInvalid, Hant) => "健康碼無效，請對方重新亮碼",
        (Refusal::CodeInvalid, En) => "The code is not genuine, ask for a fresh one",
        (Refusal::CodeExpired, Hans) => "健康码已过期，请对方刷新后再扫",
        (Refusal::CodeExpired, Hant) => "健康碼已過期，請對方刷新後再掃",
        (Refusal::CodeExpired, En) => "The code has expired, ask for a fresh one",
        (Refusal::OfflineRegistration, Hans) => {
            "该证件类型暂不支持线上申领，请到现场由工作人员登记"
        }
        (Refusal::OfflineRegistration, Hant) => {
            "該證件類型暫不支援線上申領，請到現場由工作人員登記"
        }
        (Refusal::OfflineRegistration, En) => {
            "This document gets no code online, please register with staff"
        }
        (Refusal::RecordUnchangeable, Hans) => {
            "记录不可修改或删除；如填报有误，请重新申报，以最新一次为准，历史记录保留"
        }
        (Refusal::RecordUnchangeable, Hant) => {
            "記錄不可修改或刪除；如填報有誤，請重新申報，以最新一次為準，歷史記錄保留"
        }
        (Refusal::RecordUnchangeable, En) => {
            "Records cannot be changed or deleted; if one is wrong, declare again: the newest counts and the history stays"
        }
        (Refusal::GrantRevoked, Hans) => "授权已撤销，请对方重新授权或亮码",
        (Refusal::GrantRevoked, Hant) => "授權已撤銷，請對方重新授權或亮碼",
        (Refusal::GrantRevoked, En) => {
            "The grant was revoked, ask for a new one or for a fresh code"
        }
        (Refusal::GrantExpired, Hans) => "授权已到期，请对方重新授权或亮码",
        (Refusal::GrantExpired, Hant) => "授權已到期，請對方重新授權或亮碼",
        (Refusal::GrantExpired, En) => {
            "The grant has expired, ask for a new one or for a fresh code"
        }
        (Refusal::Internal, Hans) => "系统内部故障，请联系管理单位",
        (Refusal::Internal, Hant) => "系統內部故障，請聯繫管理單位",
        (Refusal::Internal, En) => "An internal fault, report it to the operator",
        (Refusal::CodeRevoked, Hans) => "该码已作废，请对方亮码或重新领取",
        (Refusal::CodeRevoked, Hant) => "該碼已作廢，請對方亮碼或重新領取",
        (Refusal::CodeRevoked, En) => "The code was revoked, ask for a fresh code or for a new one",
        (Refusal::IssuerUnknown, Hans) => "本处不认可该码的签发机构，请查验其他证明",
        (Refusal::IssuerUnknown, Hant) => "本處不認可該碼的簽發機構，請查驗其他證明",
        (Refusal::IssuerUnknown, En) => {
            "The issuer of this code is not recognised here, ask for another document"
        }
        (Refusal::SignatureInvalid, Hans) => "该码的签名无效，可能系伪造",
        (Refusal::SignatureInvalid, Hant) => "該碼的簽名無效，可能係偽造",
        (Refusal::SignatureInvalid, En) => {
            "The signature of this code is not its issuer's, it may be forged"
        }
        (Refusal::IssuerNotEntitled, Hans) => "该签发机构无权出具此类证明",
        (Refusal::IssuerNotEntitled, Hant) => "該簽發機構無權出具此類證明",
        (Refusal::IssuerNotEntitled, En) => "The issuer of this code is not entitled to state this",
        (Refusal::IssuerUnreachable, Hans) => {
            "暂时无法联系该码的签发机构，请稍后再扫，或查验其离线码"
        }
        (Refusal::IssuerUnreachable, Hant) => {
            "暫時無法聯繫該碼的簽發機構，請稍後再掃，或查驗其離線碼"
        }
        (Refusal::IssuerUnreachable, En) => {
            "The issuer of this code does not answer, scan again later or ask for an offline code"
        }
        (Refusal::NotOnRoster, Hans) => "该人员未授权本单位，请先由本人授权",
        (Refusal::NotOnRoster, Hant) => "該人員未授權本單位，請先由本人授權",
        (Refusal::NotOnRoster, En) => {
            "This person has granted the organisation nothing, ask the person for a grant"
        }
        (Refusal::NoConsent, Hans) => "只能为已添加的家庭成员申报，姓名须一致",
        (Refusal::NoConsent, Hant) => "只能為已添加的家庭成員申報，姓名須一致",
        (Refusal::NoConsent, En) => {
            "You declare only for members of your family whom you have added, by their right name"
        }
        (Refusal::LimitReached, Hans) => "数量已达上限，请先移除，或次日再试",
        (Refusal::LimitReached, Hant) => "數量已達上限，請先移除，或次日再試",
        (Refusal::LimitReached, En) => {
            "There are as many as there may be, remove one or try again tomorrow"
        }
        (Refusal::IdempotencyMismatch, Hans) => "该幂等键已用于另一请求，请更换后重试",
        (Refusal::IdempotencyMismatch, Hant) => "該冪等鍵已用於另一請求，請更換後重試",
        (Refusal::IdempotencyMismatch, En) => {
            "This idempotency key was used for another request, use a new key"
        }
    }
}

fn problem(refusal: Refusal, language: Language, retry: Option<Duration>) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    out.put_slice(b"{\"type\":\"urn:liangma:");
    out.put_slice(refusal.code().as_bytes());
    out.put_slice(b"\",\"title\":\"");
    out.put_slice(title(refusal, language).as_bytes());
    out.put_slice(b"\",\"status\":");
    put_number(&mut out, u64::from(status_of(refusal).as_u16()));
    out.put_slice(b",\"code\":\"");
    out.put_slice(refusal.code().as_bytes());
    out.put_slice(b"\"");
    if let Some(retry) = retry {
        out.put_slice(b",\"retry_after_ms\":");
        put_number(&mut out, retry.as_millis() as u64);
    }
    out.put_slice(b"}");
    out.freeze()
}

/// Half to one and a half times as long, so that those refused together do not come back together.
pub(super) fn spread(retry: Duration) -> Duration {
    thread_local! {
        static DICE: Cell<u64> = Cell::new(crate::clock::Time::now().0 | 1);
    }
    // xorshift64: nobody gains from guessing it.
    let roll = DICE.with(|rng| {
        let mut x = rng.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        rng.set(x);
        x
    });
    retry / 2 + retry * (roll >> 48) as u32 / 65_536
}

/// For a header that counts in seconds: rounded up.
pub(super) fn whole_seconds(retry: Duration) -> u64 {
    retry.as_millis().div_ceil(1000) as u64
}

/// A refusal that no asking again helps, with its head, for connections whose head could not be read: written as it is.
pub fn ready_made(refusal: Refusal, language: Language) -> &'static [u8] {
    type Made = LazyLock<Vec<Vec<u8>>>;
    fn all(refusal: Refusal) -> Vec<Vec<u8>> {
        let languages = Language::ALL.into_iter();
        languages
            .map(|language| whole(refusal, language, None))
            .collect()
    }
    static MALFORMED: Made = LazyLock::new(|| all(Refusal::Malformed));
    static TOO_LARGE: Made = LazyLock::new(|| all(Refusal::TooLarge));
    let made = match refusal {
        Refusal::TooLarge => &TOO_LARGE,
        // What hyper refuses by itself is a head that it cannot read.
        _ => &MALFORMED,
    };
    &made[language as usize]
}

/// A refusal with its head, for a connection that is not served; `retry` is spread here.
pub fn whole(refusal: Refusal, language: Language, retry: Option<Duration>) -> Vec<u8> {
    let retry = retry.map(spread);
    let body = problem(refusal, language, retry);
    let mut bytes = Vec::with_capacity(256 + body.len());
    let head = format_args!(
        "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n\
         content-language: {}\r\ncontent-length: {}\r\nconnection: close\r\n",
        status_of(refusal),
        language.tag(),
        body.len(),
    );
    let _ = bytes.write_fmt(head); // a Vec takes everything
    if let Some(retry) = retry {
        let _ = write!(bytes, "retry-after: {}\r\n", whole_seconds(retry));
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body);
    bytes
}

/// `"state":…,"status":…,"reasons":[…]` for every set of reasons in every language, made once.
struct Fragments {
    with_guidance: Vec<Bytes>,
    bare: Vec<Bytes>,
    /// The reasons are left out.
    colours: Vec<Bytes>,
}

/// What is printed of reasons beside the colour.
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

/// One reason, as it is printed.
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

fn put_number(out: &mut BytesMut, number: u64) {
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
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

/// One verdict as JSON, without a line end.
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

/// Writes one verdict on an offline code as JSON, without a line end.
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

    #[test]
    fn every_refusal_has_its_title_and_those_that_pass_say_when() {
        for refusal in Refusal::ALL {
            for language in Language::ALL {
                let status = status_of(refusal).as_u16();
                let retry = wait(refusal);
                assert_eq!(retry.is_some(), matches!(status, 503 | 429), "{refusal:?}");
                let body: serde_json::Value =
                    serde_json::from_slice(&problem(refusal, language, retry)).unwrap();
                assert_eq!(body["type"], format!("urn:liangma:{}", refusal.code()));
                assert_eq!(body["status"], status);
                assert_eq!(body["title"], title(refusal, language));
            }
        }
    }

    #[test]
    fn retries_are_spread_over_a_factor_of_three() {
        let all: Vec<Duration> = (0..1000).map(|_| spread(Duration::from_secs(4))).collect();
        assert!(all.iter().all(|d| (2..6).contains(&d.as_secs())));
        assert!(all.iter().min().unwrap().as_millis() < 2_400);
        assert!(all.iter().max().unwrap().as_millis() > 5_600);
        assert_eq!(whole_seconds(Duration::from_millis(7_300)), 8);
    }
}
