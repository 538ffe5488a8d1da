//! Fuzzes what a stranger sends first: a request's head at each of the doors, and the bodies that are read whole.
//! In: `METHOD target`, header lines, an empty line, a body. Holds: no panic, and a head that is not refused is a route's.

#![no_main]

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Uri};
use liangma::desk::roles::Act;
use liangma::http::door::Door;
use liangma::http::query::{self, ContentType, Head, Route};
use liangma::seal::TOKEN_CHARS_MAX;
use liangma::traces::traceparent;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (head, body) = match bytes.windows(2).position(|pair| pair == b"\n\n") {
        Some(end) => (&bytes[..end], &bytes[end + 2..]),
        None => (bytes, &[][..]),
    };
    if let Some((method, uri, headers)) = head_of(head) {
        let texts = headers.values().filter_map(|value| value.to_str().ok());
        for caller in texts.filter_map(traceparent::parse) {
            assert!(caller.is_valid() && caller.is_remote());
        }
        for door in Door::ALL {
            check_head(&Head::read(door, &method, &uri, &headers), &method);
        }
    }
    check_body(body);
});

/// What the HTTP library would have let through; the rest it refuses by itself.
fn head_of(head: &[u8]) -> Option<(Method, Uri, HeaderMap)> {
    let mut lines = head.split(|b| *b == b'\n');
    let mut first = lines.next()?.splitn(2, |b| *b == b' ');
    let method = Method::from_bytes(first.next()?).ok()?;
    let uri = Uri::try_from(first.next()?).ok()?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|b| *b == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        headers.append(name, value);
    }
    Some((method, uri, headers))
}

fn check_head(head: &Head<'_>, method: &Method) {
    if let Ok(credential) = head.credential {
        assert!((1..=TOKEN_CHARS_MAX).contains(&credential.len()));
        assert_eq!(credential.trim_ascii(), credential);
    }
    if head.refusal.is_none() {
        assert_ne!(head.route, Route::None);
        // The methods of the desk's paths are in their table, which chose the act by them. To change a record is refused later, with
        // the methods that exist.
        let is_refused_later = matches!(head.route, Route::Desk(Act::ChangeRecord));
        let allowed = head
            .route
            .method()
            .or(head.allow.filter(|_| !is_refused_later));
        assert!(allowed.is_none_or(|all| all.split(", ").any(|one| one == method.as_str())));
    }
    // A route is counted as what it is, refused or not.
    let _ = head.route.kind();
}

fn check_body(body: &[u8]) {
    for content_type in [ContentType::Unsaid, ContentType::Text] {
        match query::code(body, content_type) {
            Ok(code) => assert_eq!(*code, narrowed_plainly(query::trimmed(body))),
            Err(_) => assert!(body.len() > query::FOREIGN_CODE_BYTES_MAX),
        }
    }
    // Escapes are longer than what they stand for, so nothing grows past what was sent.
    if let Ok(code) = query::code(body, ContentType::Json) {
        assert!(code.len() <= body.len());
    }
    if let Ok(assertion) = query::assertion(body) {
        assert!(assertion.len() <= body.len());
    }
}

/// A code that begins with a character beyond ASCII, its full-width characters as the ASCII that they stand for.
fn narrowed_plainly(code: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(code) {
        Ok(text) if !text.is_empty() && !text.starts_with(|c: char| c.is_ascii()) => text
            .chars()
            .map(|c| match c {
                '！'..='～' => char::from(b'!' + (u32::from(c) - u32::from('！')) as u8),
                c => c,
            })
            .collect::<String>()
            .into_bytes(),
        _ => code.to_vec(),
    }
}
