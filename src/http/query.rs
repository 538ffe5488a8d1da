//! Parses a request's head into a route, a credential and a language; takes the code of a scan out of its body.
//! What a scanner put around the code is removed. Pure and bounded.

use super::desk::{self, RouteEntry};
use super::door::Door;
use super::pages::{self, Page};
use crate::desk::Params;
use crate::desk::roles::Act;
use crate::language::Language;
use crate::meters::RequestKind;
use crate::recognition::ForeignFormat;
use crate::refusal::Refusal;
use crate::seal::TOKEN_CHARS_MAX;
use hyper::header::{
    ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HOST, TRANSFER_ENCODING,
};
use hyper::{HeaderMap, Method, Uri, Version};
use serde::Deserialize;
use std::borrow::Cow;

/// Route of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Shows the code of a session's resident.
    Show,
    /// Scans one code.
    Scan,
    /// Scans many codes.
    Bulk,
    /// Opens a session with an assertion of the identity platform.
    OpenSession,
    /// Explains a status in detail.
    Explain,
    /// Scans a live code of ours for a service of another issuer.
    Exchange,
    /// Scans many codes for a service of another issuer.
    ExchangeBulk,
    /// Liveness.
    Live,
    /// Readiness.
    Ready,
    /// All metrics.
    Metrics,
    /// Feeds changes.
    Feed,
    /// The settings in force.
    Settings,
    /// A page or an asset.
    Page(&'static Page),
    /// Issues an offline code for a session's resident.
    OfflineCode,
    /// The public keys of offline codes and lists.
    SigningKeys,
    /// A part of an issuer's status list.
    List(ListPath),
    /// An act of the desk.
    Desk(Act),
    /// No route of this door.
    None,
}

/// A path of a status list: `/v1/list/440000` and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListPath {
    /// The issuer: a division of GB/T 2260 as a number.
    pub issuer: u32,
    /// The requested part of the list.
    pub part: ListPartPath,
}

/// A part of a status list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListPartPath {
    /// The index: numbers, sizes, times.
    Index,
    /// `base`: the newest base.
    Base,
    /// `changes-NUMBER`: the changes of the base with this number.
    Changes(u64),
    /// `days`: the keys of the next days.
    Days,
    /// `base.sealed`: the newest base, sealed for public caches.
    SealedBase,
    /// `changes-NUMBER.sealed`: sealed changes of the base with this number.
    SealedChanges(u64),
}

impl ListPartPath {
    /// Returns whether the part is useless without the key of the day.
    pub fn is_sealed(self) -> bool {
        matches!(
            self,
            ListPartPath::SealedBase | ListPartPath::SealedChanges(_)
        )
    }
}

impl ListPath {
    const PREFIX: &'static str = "/v1/list/";

    /// Parses a path of a door; None if it is not a list path. Each part has one spelling only.
    fn parse(door: Door, path: &str) -> Option<ListPath> {
        let rest = path.strip_prefix(ListPath::PREFIX)?;
        let (issuer, part) = rest.split_once('/').unwrap_or((rest, ""));
        let is_index = part.is_empty() && !rest.ends_with('/');
        let (name, is_sealed) = match part.strip_suffix(".sealed") {
            Some(name) => (name, true),
            None => (part, false),
        };
        let part = match (name, is_sealed) {
            ("", false) if is_index => ListPartPath::Index,
            ("base", false) => ListPartPath::Base,
            ("base", true) => ListPartPath::SealedBase,
            ("days", false) => ListPartPath::Days,
            (name, _) => {
                let number = digits(name.strip_prefix("changes-")?)?;
                match is_sealed {
                    false => ListPartPath::Changes(number),
                    true => ListPartPath::SealedChanges(number),
                }
            }
        };
        // Only the gate and exchange doors serve plain files.
        if door == Door::Resident && !part.is_sealed() || issuer.len() != 6 {
            return None;
        }
        let issuer = issuer
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then_some(issuer)?;
        Some(ListPath {
            issuer: issuer.parse().ok()?,
            part,
        })
    }
}

/// Parses a number without sign or leading zeros.
fn digits(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    is_plain.then_some(text)?.parse().ok()
}

/// How a caller authenticates.
#[derive(PartialEq, Eq)]
enum Needs {
    Nothing,
    Bearer,
}

impl Route {
    /// Returns the route at a path of a door, and its one method.
    fn find(door: Door, path: &str) -> Option<(Route, Method)> {
        Some(match (door, path) {
            (Door::Resident, "/v1/code") => (Route::Show, Method::GET),
            (Door::Gate, "/v1/scan") => (Route::Scan, Method::POST),
            (Door::Gate, "/v1/scan/bulk") => (Route::Bulk, Method::POST),
            (Door::Desk, "/v1/sessions") => (Route::OpenSession, Method::POST),
            (Door::Desk, "/v1/status") => (Route::Explain, Method::GET),
            (Door::Exchange, "/v1/exchange/scan") => (Route::Exchange, Method::POST),
            (Door::Exchange, "/v1/exchange/scan/bulk") => (Route::ExchangeBulk, Method::POST),
            (Door::Ops, "/live") => (Route::Live, Method::GET),
            (Door::Ops, "/ready") => (Route::Ready, Method::GET),
            (Door::Ops, "/metrics") => (Route::Metrics, Method::GET),
            (Door::Ops, "/v1/feed") => (Route::Feed, Method::POST),
            (Door::Ops, "/v1/settings") => (Route::Settings, Method::GET),
            (Door::Resident, "/v1/code/offline") => (Route::OfflineCode, Method::GET),
            (Door::Resident, "/v1/keys") => (Route::SigningKeys, Method::GET),
            (Door::Gate, "/v1/keys") => (Route::SigningKeys, Method::GET),
            (door @ (Door::Gate | Door::Resident | Door::Exchange), path)
                if path.starts_with(ListPath::PREFIX) =>
            {
                (Route::List(ListPath::parse(door, path)?), Method::GET)
            }
            (Door::Exchange, _) => return None,
            // Checked after the routes that are requested thousands of times a second.
            (door, path) => (Route::Page(pages::find(door, path)?), Method::GET),
        })
    }

    fn needs(self) -> Needs {
        match self {
            Route::Show
            | Route::Scan
            | Route::Bulk
            | Route::Explain
            | Route::Feed
            | Route::Settings
            | Route::OfflineCode
            | Route::Desk(_) => Needs::Bearer,
            Route::List(path) if !path.part.is_sealed() => Needs::Bearer,
            Route::OpenSession
            | Route::Live
            | Route::Ready
            | Route::Metrics
            | Route::Page(_)
            | Route::SigningKeys
            | Route::List(_)
            // The caller authenticates by its certificate.
            | Route::Exchange
            | Route::ExchangeBulk
            | Route::None => Needs::Nothing,
        }
    }

    /// Whether only callers whose credential is good are answered what they ask for.
    pub fn needs_credential(self) -> bool {
        match self {
            Route::Show
            | Route::Scan
            | Route::Bulk
            | Route::OpenSession
            | Route::Explain
            | Route::Exchange
            | Route::ExchangeBulk
            | Route::Feed
            | Route::Settings
            | Route::OfflineCode
            | Route::Desk(_) => true,
            Route::Live
            | Route::Ready
            | Route::Metrics
            | Route::Page(_)
            | Route::SigningKeys
            | Route::List(_)
            | Route::None => false,
        }
    }

    /// Returns the kind under which the request is counted.
    pub fn kind(self) -> RequestKind {
        match self {
            Route::Show => RequestKind::Show,
            Route::Scan => RequestKind::Scan,
            Route::Bulk => RequestKind::Bulk,
            Route::OpenSession => RequestKind::Session,
            Route::Explain => RequestKind::Status,
            Route::Exchange | Route::ExchangeBulk => RequestKind::Exchange,
            Route::Live => RequestKind::Live,
            Route::Ready => RequestKind::Ready,
            Route::Metrics => RequestKind::Metrics,
            Route::Feed => RequestKind::Feed,
            Route::Page(_) => RequestKind::Page,
            Route::OfflineCode => RequestKind::OfflineCode,
            Route::SigningKeys | Route::List(_) => RequestKind::List,
            Route::Settings | Route::Desk(_) => RequestKind::Desk,
            Route::None => RequestKind::Other,
        }
    }
}

/// Media type of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// No header: the first type that the route accepts.
    Unsaid,
    /// `text/plain`, or an empty type.
    Text,
    /// `application/json`.
    Json,
    /// `application/x-ndjson`.
    NdJson,
    /// Any other type.
    Other,
}

/// A parsed head.
pub struct Head<'r> {
    /// What is asked for.
    pub route: Route,
    /// The credential; an error if the route needs one and none is valid in form.
    pub credential: Result<&'r [u8], Refusal>,
    /// The language of the answer.
    pub language: Language,
    /// The type of the body.
    pub content_type: ContentType,
    /// A refusal that follows from path and method.
    pub refusal: Option<Refusal>,
    /// A refusal of the body that follows from the head. It is answered only after the credential was checked.
    pub body_refusal: Option<Refusal>,
    /// Value of `Allow`, if another method was used or a record would be changed.
    pub allow: Option<&'static str>,
}

/// Fields of a head for the desk.
pub struct DeskHead<'r> {
    /// The id in the path.
    pub id: Option<&'r str>,
    /// The query parameters.
    pub params: Params<'r>,
    /// The idempotency key; `Malformed` if it is invalid or given twice.
    pub idempotency: Result<Option<&'r str>, Refusal>,
}

impl<'r> DeskHead<'r> {
    /// Parses the fields; `path` is the form that [`plain_path`] returns.
    pub fn read(
        door: Door,
        path: &'r str,
        query: Option<&'r str>,
        headers: &'r HeaderMap,
    ) -> DeskHead<'r> {
        DeskHead {
            id: RouteEntry::find(door, path).and_then(|place| place.id),
            params: desk::params(query),
            idempotency: desk::idempotency(headers),
        }
    }
}

impl<'r> Head<'r> {
    /// Parses a head. Faults are in `refusal` and `body_refusal`.
    pub fn read(door: Door, method: &Method, uri: &Uri, headers: &'r HeaderMap) -> Head<'r> {
        let path = plain_path(uri.path());
        let found = Route::find(door, &path);
        if found.is_none()
            && let Some(place) = RouteEntry::find(door, &path)
        {
            return Head::at_desk(&place, method, headers);
        }
        let route = found.as_ref().map_or(Route::None, |(route, _)| *route);
        let mut head = Head {
            route,
            credential: Err(Refusal::Unauthorized),
            language: language(headers),
            content_type: content_type(headers),
            refusal: None,
            body_refusal: None,
            allow: None,
        };
        match found {
            None => head.refusal = Some(Refusal::NotFound),
            Some((_, allowed)) if allowed != *as_get(method) => {
                head.refusal = Some(Refusal::MethodNotAllowed);
                head.allow = route.method();
            }
            Some(_) => {
                if route.needs() == Needs::Bearer {
                    head.credential = credential(headers);
                }
                let brings = *method == Method::POST;
                if brings && (!route.takes(head.content_type) || is_encoded(headers)) {
                    head.body_refusal = Some(Refusal::UnsupportedMediaType);
                }
            }
        }
        head
    }

    fn at_desk(place: &RouteEntry<'_>, method: &Method, headers: &'r HeaderMap) -> Head<'r> {
        let mut methods = place.methods.iter();
        let name = as_get(method).as_str();
        let act = methods.find(|(known, _)| *known == name);
        let route = Route::Desk(act.unwrap_or(&place.methods[0]).1);
        let content_type = content_type(headers);
        let unfit = !route.takes(content_type) || is_encoded(headers);
        let unfit = unfit.then_some(Refusal::UnsupportedMediaType);
        let (refusal, body_refusal, allow) = match act {
            None => (Some(Refusal::MethodNotAllowed), None, Some(place.allow)),
            // Whatever the body is, a record does not change, and the answer names the methods that exist.
            Some((_, Act::ChangeRecord)) => (None, None, Some(place.allow)),
            Some(_) => (None, unfit, None),
        };
        Head {
            route,
            credential: credential(headers),
            language: language(headers),
            content_type,
            refusal,
            body_refusal,
            allow,
        }
    }
}

/// Treats HEAD as GET; hyper omits the body of the answer.
fn as_get(method: &Method) -> &Method {
    match *method {
        Method::HEAD => &Method::GET,
        _ => method,
    }
}

/// Decodes unreserved characters (RFC 3986, 2.3) of a path: `/v1/%63ode` becomes `/v1/code`. Other encoded characters stay, and
/// no path of ours has any.
pub fn plain_path(path: &str) -> Cow<'_, str> {
    let Some(first) = memchr::memchr(b'%', path.as_bytes()) else {
        return Cow::Borrowed(path);
    };
    let mut plain = String::with_capacity(path.len());
    plain.push_str(&path[..first]);
    let mut rest = &path[first..];
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        let hex = rest.get(at + 1..at + 3);
        let hex = hex.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let unreserved = |b: &u8| b.is_ascii_alphanumeric() || b"-._~".contains(b);
        rest = match byte.filter(unreserved) {
            Some(byte) => {
                plain.push(char::from(byte));
                &rest[at + 3..]
            }
            None => {
                plain.push('%');
                &rest[at + 1..]
            }
        };
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// Bytes of a host and a port (RFC 3986, 3.2). The comma, which the RFC allows, is left out: a reader of lists would take one host
/// for two.
const HOST_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        bytes[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~%!$&'()*+;=:[]";
    let mut nth = 0;
    while nth < others.len() {
        bytes[others[nth] as usize] = true;
        nth += 1;
    }
    bytes
};

/// Returns whether this is a host, perhaps with a port; an empty one is allowed.
fn is_host(text: &[u8]) -> bool {
    let mut has_colon = false;
    for byte in text {
        if !HOST_BYTES[usize::from(*byte)] {
            return false;
        }
        has_colon |= *byte == b':';
    }
    !has_colon || is_host_with_colon(text)
}

#[cold]
fn is_host_with_colon(text: &[u8]) -> bool {
    let is_port = |port: &[u8]| port.iter().all(u8::is_ascii_digit);
    if let [b'[', rest @ ..] = text {
        let Some(end) = memchr::memchr(b']', rest) else {
            return false;
        };
        let address = std::str::from_utf8(&rest[..end]).ok();
        let is_address = address.is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
        return is_address
            && match &rest[end + 1..] {
                [] => true,
                [b':', port @ ..] => is_port(port),
                _ => false,
            };
    }
    let mut parts = text.splitn(2, |byte| *byte == b':');
    parts.next();
    parts.next().is_none_or(is_port)
}

/// Returns the refusal of a head that violates RFC 9110 or 9112 where hyper is lenient. `chunked`: the body's length is
/// unknown.
pub fn protocol_refusal(version: Version, headers: &HeaderMap, chunked: bool) -> Option<Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let is_host = match hosts.next() {
        Some(host) => is_host(host.as_bytes()),
        // HTTP/1.0 clients may send no host.
        None => version != Version::HTTP_11,
    };
    if !is_host || hosts.next().is_some() {
        return Some(Refusal::Malformed);
    }
    if chunked {
        // An unknown transfer coding could hide another body.
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let first = codings.next().map(|value| value.as_bytes().trim_ascii());
        let alone = first.is_some_and(|first| first.eq_ignore_ascii_case(b"chunked"));
        if !alone || codings.next().is_some() {
            return Some(Refusal::Malformed);
        }
    }
    let mut expected = headers.get_all(EXPECT).iter();
    let met = expected.all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    (!met).then_some(Refusal::ExpectationFailed)
}

/// Returns whether the body has a content coding, which no route accepts.
fn is_encoded(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(CONTENT_ENCODING).iter();
    let mut codings = codings.flat_map(|value| value.as_bytes().split(|b| *b == b','));
    codings.any(|coding| {
        let coding = coding.trim_ascii();
        !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")
    })
}

impl Route {
    fn takes(self, content_type: ContentType) -> bool {
        use ContentType::*;
        match self {
            Route::Scan => matches!(content_type, Unsaid | Text | Json),
            Route::Bulk | Route::Exchange | Route::ExchangeBulk => {
                matches!(content_type, Unsaid | Text)
            }
            Route::OpenSession => matches!(content_type, Unsaid | Json),
            // `curl --data-binary` sends a form type by default; the body is checked line by line anyway.
            Route::Feed | Route::Desk(Act::DeclareBulk) => {
                matches!(content_type, Unsaid | Text | Json | NdJson)
            }
            Route::Desk(_) => matches!(content_type, Unsaid | Json),
            _ => true,
        }
    }

    /// Returns the method of a route, for `Allow`.
    pub fn method(self) -> Option<&'static str> {
        match self {
            Route::Scan
            | Route::Bulk
            | Route::OpenSession
            | Route::Feed
            | Route::Exchange
            | Route::ExchangeBulk => Some("POST"),
            Route::Show
            | Route::Explain
            | Route::Live
            | Route::Ready
            | Route::Metrics
            | Route::Settings => Some("GET, HEAD"),
            Route::Page(_) | Route::OfflineCode | Route::SigningKeys | Route::List(_) => {
                Some("GET, HEAD")
            }
            Route::Desk(_) | Route::None => None,
        }
    }
}

fn language(headers: &HeaderMap) -> Language {
    headers
        .get(ACCEPT_LANGUAGE)
        .and_then(|value| value.to_str().ok())
        .map_or(Language::Hans, Language::accepted)
}

fn content_type(headers: &HeaderMap) -> ContentType {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let Some(value) = values.next() else {
        return ContentType::Unsaid;
    };
    if values.next().is_some() {
        return ContentType::Other;
    }
    let bytes = value.as_bytes();
    let end = memchr::memchr(b';', bytes).unwrap_or(bytes.len());
    let essence = bytes[..end].trim_ascii();
    for (name, content_type) in [
        (&b"text/plain"[..], ContentType::Text),
        (b"application/json", ContentType::Json),
        (b"application/x-ndjson", ContentType::NdJson),
        (b"application/ndjson", ContentType::NdJson),
    ] {
        if essence.eq_ignore_ascii_case(name) {
            return content_type;
        }
    }
    ContentType::Other
}

fn credential(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Refusal::Unauthorized)?.as_bytes();
    if values.next().is_some() {
        // A proxy before the node may have used the other value.
        return Err(Refusal::Unauthorized);
    }
    let (scheme, token) = value.split_at_checked(7).ok_or(Refusal::Unauthorized)?;
    let token = token.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"bearer ") || token.is_empty() || token.len() > TOKEN_CHARS_MAX
    {
        return Err(Refusal::Unauthorized);
    }
    Ok(token)
}

/// Returns the value of a query parameter; the last one if it occurs twice.
pub fn param<'u>(uri: &'u Uri, name: &str) -> Option<&'u str> {
    let mut pairs = uri.query()?.split('&').rev();
    pairs.find_map(|pair| match pair.split_once('=') {
        Some((known, value)) => (known == name).then_some(value),
        None => (pair == name).then_some(""),
    })
}

/// Returns the code in the body of a scan.
///
/// # Errors
///
/// `TooLarge` for a code longer than [`FOREIGN_CODE_BYTES_MAX`], `Malformed` for invalid JSON.
pub fn code(body: &[u8], content_type: ContentType) -> Result<Cow<'_, [u8]>, Refusal> {
    #[derive(Deserialize)]
    struct Scanned<'b> {
        #[serde(borrow)]
        code: Cow<'b, str>,
    }
    if content_type != ContentType::Json {
        let code = trimmed(body);
        // Texts up to this length get `code_invalid`.
        return match code.len() <= FOREIGN_CODE_BYTES_MAX {
            true => Ok(narrow(code)),
            false => Err(Refusal::TooLarge),
        };
    }
    let scanned: Scanned<'_> = object(body)?;
    Ok(match scanned.code {
        Cow::Borrowed(code) => narrow(trimmed(code.as_bytes())),
        Cow::Owned(code) => Cow::Owned(narrow(trimmed(code.as_bytes())).into_owned()),
    })
}

/// Converts full-width letters, digits and signs to ASCII. An input method for Chinese types them, also for a hardware scanner, which
/// is a keyboard to it.
fn narrow(code: &[u8]) -> Cow<'_, [u8]> {
    const FIRST: char = '\u{ff01}';
    const LAST: char = '\u{ff5e}';
    // Other codes begin with an ASCII byte.
    let is_wide = code.first().is_some_and(|first| *first >= 0x80);
    let Some(text) = std::str::from_utf8(code).ok().filter(|_| is_wide) else {
        return Cow::Borrowed(code);
    };
    let one = |c: char| match c {
        FIRST..=LAST => char::from_u32(c as u32 - FIRST as u32 + u32::from(b'!')).unwrap_or(c),
        c => c,
    };
    Cow::Owned(text.chars().map(one).collect::<String>().into_bytes())
}

/// Returns a code without what a hardware scanner or a form puts around it: blanks of any width, invisible marks and control
/// characters (CR, LF, Tab, GS1 separators).
pub fn trimmed(code: &[u8]) -> &[u8] {
    let is_plain = |byte: Option<&u8>| byte.is_none_or(|byte| byte.is_ascii_graphic());
    match is_plain(code.first()) && is_plain(code.last()) {
        true => code,
        false => trimmed_of_all(code),
    }
}

fn trimmed_of_all(code: &[u8]) -> &[u8] {
    /// Returns whether a character may stand around a code; these include zero-width blanks, direction marks and byte order marks.
    fn is_beside(c: char) -> bool {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
    }
    if let Ok(text) = std::str::from_utf8(code) {
        let end = text.trim_end_matches(is_beside);
        let whole = end.trim_start_matches(is_beside).as_bytes();
        // Their formats begin where the text begins.
        return match ForeignFormat::told_apart(whole).is_some() {
            true => end.as_bytes(),
            false => whole,
        };
    }
    let beside = |b: &u8| *b <= b' ' || *b == 0x7f;
    let mut code = code;
    let whole = code;
    while let [first, rest @ ..] = code
        && beside(first)
    {
        code = rest;
    }
    if code.len() < whole.len() && ForeignFormat::told_apart(code).is_some() {
        // In these formats leading characters count.
        code = whole;
    }
    while let [rest @ .., last] = code
        && beside(last)
    {
        code = rest;
    }
    code
}

/// Length of the longest code that a camera can read, in bytes. QR codes hold up to 4,296 characters, and no valid code is
/// longer than this.
pub const FOREIGN_CODE_BYTES_MAX: usize = 4_096;

/// Returns the assertion in the body of a log-in.
///
/// # Errors
///
/// `Malformed` if the body is not a JSON object with the field `assertion`.
pub fn assertion(body: &[u8]) -> Result<String, Refusal> {
    #[derive(Deserialize)]
    struct LogIn {
        assertion: String,
    }
    object::<LogIn>(body).map(|log_in| log_in.assertion)
}

/// Parses a JSON object. serde alone would accept an array for a struct as well.
fn object<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Refusal> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Refusal::Malformed);
    }
    serde_json::from_slice(body).map_err(|_| Refusal::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn refusal(
        door: Door,
        method: Method,
        path: &str,
        pairs: &[(&'static str, &str)],
    ) -> Option<Refusal> {
        let headers = headers(pairs);
        let head = Head::read(door, &method, &path.parse().unwrap(), &headers);
        head.refusal.or(head.body_refusal)
    }

    #[test]
    fn each_door_has_its_own_paths() {
        for (door, path) in [
            (Door::Resident, "/v1/scan"),
            (Door::Gate, "/v1/code"),
            (Door::Desk, "/v1/code"),
            (Door::Resident, "/metrics"),
            (Door::Gate, "/v1/scan/"),
            (Door::Resident, "/gate"),
        ] {
            assert_eq!(
                refusal(door, Method::GET, path, &[]),
                Some(Refusal::NotFound)
            );
        }
        assert_eq!(
            refusal(Door::Resident, Method::GET, "/v1/code?x=1", &[]),
            None
        );
    }

    #[test]
    fn each_path_has_one_method_and_its_media_types() {
        use Refusal::*;
        let of = |content_type| [("content-type", content_type)];
        for (door, method, path, content_type, refused) in [
            (
                Door::Resident,
                Method::POST,
                "/v1/code",
                "text/plain",
                Some(MethodNotAllowed),
            ),
            (
                Door::Gate,
                Method::GET,
                "/v1/scan",
                "text/plain",
                Some(MethodNotAllowed),
            ),
            (
                Door::Gate,
                Method::POST,
                "/v1/scan",
                "text/plain; charset=utf-8",
                None,
            ),
            (
                Door::Gate,
                Method::POST,
                "/v1/scan",
                "Application/JSON",
                None,
            ),
            (
                Door::Gate,
                Method::POST,
                "/v1/scan",
                "image/png",
                Some(UnsupportedMediaType),
            ),
            (
                Door::Gate,
                Method::POST,
                "/v1/scan/bulk",
                "application/json",
                Some(UnsupportedMediaType),
            ),
            (
                Door::Ops,
                Method::POST,
                "/v1/feed",
                "application/x-ndjson",
                None,
            ),
            (
                Door::Ops,
                Method::POST,
                "/v1/feed",
                "text/html",
                Some(UnsupportedMediaType),
            ),
        ] {
            assert_eq!(
                refusal(door, method, path, &of(content_type)),
                refused,
                "{path} {content_type}"
            );
        }
    }

    #[test]
    fn a_path_is_read_in_its_plain_form() {
        for (path, plain) in [
            ("/v1/code", "/v1/code"),
            ("/v1/%63ode", "/v1/code"),
            ("/%7e%2D%2e%5F%41z", "/~-._Az"),
            ("/a%2Fb", "/a%2Fb"),
            ("/%2563", "/%2563"),
            ("/%", "/%"),
            ("/%4", "/%4"),
            ("/%4\u{e9}1", "/%4\u{e9}1"),
            ("/%+1", "/%+1"),
            ("/%%41", "/%A"),
        ] {
            assert_eq!(plain_path(path), plain);
        }
        let path = plain_path("/v1/family/%41B%43");
        let head = HeaderMap::new();
        assert_eq!(
            DeskHead::read(Door::Desk, &path, None, &head).id,
            Some("ABC")
        );
    }

    #[test]
    fn what_is_typed_around_a_code_is_cut_off_and_nothing_else() {
        for (typed, code) in [
            ("", ""),
            (" \t\r\n", ""),
            ("AB", "AB"),
            ("\u{2}A B\u{3}\u{4}", "A B"),
            ("A\0", "A"),
            ("\u{7f}A\u{7f}", "A"),
            ("\u{feff}A\u{a0}", "A"),
            ("\u{3000}A\u{3000}\r\n", "A"),
            ("A\u{200b}", "A"),
            ("\u{200e}A", "A"),
            ("\u{feff}\u{3000}", ""),
        ] {
            assert_eq!(trimmed(typed.as_bytes()), code.as_bytes(), "{typed:?}");
        }
        // Bytes that are not UTF-8 are cut as ASCII is.
        assert_eq!(trimmed(b" \xff\r\n"), b"\xff");
    }

    #[test]
    fn a_code_that_an_input_method_typed_in_full_width_is_the_same_code() {
        let narrow = |text: &str| {
            code(text.as_bytes(), ContentType::Text)
                .unwrap()
                .into_owned()
        };
        assert_eq!(narrow("\u{ff21}\u{ff22}\u{ff17}\u{ff41}\u{3000}"), b"AB7a");
        assert_eq!(narrow("AB7"), b"AB7");
        assert_eq!(narrow("\u{ff21}B\u{4e2d}"), "AB\u{4e2d}".as_bytes());
        let json = "{\"code\":\"\u{ff21}\u{ff22}\\n\"}";
        assert_eq!(
            &code(json.as_bytes(), ContentType::Json).unwrap()[..],
            b"AB"
        );
    }

    #[test]
    fn a_host_is_read_by_the_letter() {
        for host in [
            "",
            "liangma",
            "code.gd.gov.cn",
            "code.gd.gov.cn:8443",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:8080",
            "host:",
            "a_b",
            "%E4%BA%AE",
        ] {
            assert!(is_host(host.as_bytes()), "{host:?}");
        }
        for none in [
            "a,b", "a b", "a/b", "http://a", "u@a", "a?b", "a#b", "a\\b", "\u{4eae}", "a:b",
            "a:80:81", "[::1", "[::1]x", "[x]:1", "\"a\"", "a\t",
        ] {
            assert!(!is_host(none.as_bytes()), "{none:?}");
        }
    }

    #[test]
    fn a_credential_is_a_bearer_of_bounded_length() {
        let of = |value: &str| {
            let headers = headers(&[("authorization", value)]);
            credential(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(of("Bearer ABC"), Ok(b"ABC".to_vec()));
        assert_eq!(of("bearer  ABC "), Ok(b"ABC".to_vec()));
        for bad in ["", "Bearer", "Bearer ", "Basic ABC", "ABC"] {
            assert_eq!(of(bad), Err(Refusal::Unauthorized), "{bad:?}");
        }
        assert!(of(&format!("Bearer {}", "A".repeat(TOKEN_CHARS_MAX + 1))).is_err());
    }

    #[test]
    fn a_code_comes_bare_or_in_an_object() {
        let json = ContentType::Json;
        assert_eq!(code(b" ABC\r\n", ContentType::Text).unwrap(), &b"ABC"[..]);
        assert_eq!(code(br#"{"code":"ABC"}"#, json).unwrap(), &b"ABC"[..]);
        assert_eq!(code(br#"{"code":"A\u0042C"}"#, json).unwrap(), &b"ABC"[..]);
        for bad in [
            "",
            "ABC",
            "[\"ABC\"]",
            "{}",
            "{\"code\":7}",
            "{\"code\":\"A\"",
        ] {
            assert_eq!(code(bad.as_bytes(), json), Err(Refusal::Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_head_is_read_without_a_panic(
            door in 0usize..4,
            path in "/[ -~]{0,30}",
            value in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let Ok(uri) = path.parse::<Uri>() else { return Ok(()); };
            let mut headers = HeaderMap::new();
            if let Ok(value) = hyper::header::HeaderValue::from_bytes(&value) {
                for name in [AUTHORIZATION, ACCEPT_LANGUAGE, CONTENT_TYPE] {
                    headers.insert(name, value.clone());
                }
            }
            let head = Head::read(Door::ALL[door], &Method::GET, &uri, &headers);
            prop_assert!(head.route != Route::None || head.refusal.is_some());
        }
    }
}
