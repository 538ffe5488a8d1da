//! The id of a request, from the client or a proxy, or new. It is in log lines, in a header of the answer and in problem
//! documents. Shows and scans have none, except with an internal fault.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use tracing::Span;

/// The header of the id, in requests and answers.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id in characters.
const CHARS_MAX: usize = 64;

/// A request id: letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// Returns the id in the headers, or a new one if there is no valid id.
    pub fn of(headers: &HeaderMap) -> RequestId {
        let mut brought = headers.get_all(REQUEST_ID).iter();
        match (brought.next().map(HeaderValue::as_bytes), brought.next()) {
            (Some(text), None) if is_good(text) => {
                RequestId(String::from_utf8_lossy(text).into_owned().into())
            }
            _ => RequestId::make(),
        }
    }

    /// Returns a new id, unique in this process and almost surely among all.
    fn make() -> RequestId {
        static PROCESS: OnceLock<u32> = OnceLock::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let process =
            *PROCESS.get_or_init(|| RandomState::new().hash_one(std::process::id()) as u32);
        let count = COUNT.fetch_add(1, Relaxed);
        RequestId(format!("{process:08x}{count:08x}").into())
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the id as a header value; None for an id that must not be sent back.
    pub fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }

    /// Returns the tracing span of the request.
    pub fn span(&self) -> Span {
        tracing::error_span!("request", request_id = &*self.0)
    }
}

fn is_good(text: &[u8]) -> bool {
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
    (1..=CHARS_MAX).contains(&text.len()) && text.iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_good_id_is_taken_and_any_other_is_made() {
        let of = |brought: &[&str]| {
            let mut headers = HeaderMap::new();
            for id in brought {
                headers.append(REQUEST_ID, HeaderValue::from_bytes(id.as_bytes()).unwrap());
            }
            RequestId::of(&headers)
        };
        let longest = "a".repeat(CHARS_MAX);
        for good in ["a", "4f0c.A_b-9", &longest] {
            assert_eq!(of(&[good]).as_str(), good);
        }
        let too_long = "a".repeat(CHARS_MAX + 1);
        for bad in [
            &[][..],
            &[""],
            &["a b"],
            &["a\"b"],
            &["a\tb"],
            &["甲"],
            &[&too_long],
            &["a", "a"],
        ] {
            let made = of(bad);
            assert!(
                made.as_str().len() == 16 && is_good(made.as_str().as_bytes()),
                "{bad:?}"
            );
            assert_ne!(made, of(bad));
        }
    }
}
