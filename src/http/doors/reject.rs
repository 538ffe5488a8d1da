//! Refusals outside HTTP handling: the busy answer for connections that are not served, and the orderly end after a refusal.

use crate::http::busy_page::{self, takes_html};
use crate::http::problem;
use crate::kernel;
use crate::language::Language;
use crate::refusal::Refusal;
use socket2::SockRef;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// The most bytes that are discarded after a refusal: nearly twice a bulk scan of 100,000 live codes.
pub const UNREAD_BYTES_MAX: usize = 16 << 20;

/// The most time for it.
pub const UNREAD_WAIT: Duration = Duration::from_secs(2);

/// Reads and discards bytes after a refusal until the client closes: closing with unread bytes would reset the connection and
/// lose the refusal. Bounded in bytes and time.
pub async fn linger(stream: TcpStream) {
    let _ = SockRef::from(&stream).shutdown(std::net::Shutdown::Write);
    let _ = tokio::time::timeout(UNREAD_WAIT, async {
        let mut left = UNREAD_BYTES_MAX;
        while left > 0
            && stream.readable().await.is_ok()
            && let Some(thrown) = throw_away(&stream, left)
        {
            left -= thrown.min(left);
            // Other connections are served between two pieces.
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Discards unread bytes. Returns their number; None at the end of the connection.
fn throw_away(stream: &TcpStream, most: usize) -> Option<usize> {
    let thrown = stream.try_io(tokio::io::Interest::READABLE, || {
        kernel::throw_away(stream, most)
    });
    match thrown {
        Ok(0) => None,
        Ok(thrown) => Some(thrown),
        Err(error) => (error.kind() == io::ErrorKind::WouldBlock).then_some(0),
    }
}

/// Returns the busy answer to an unparsed, possibly partial head: a page for a browser that loads one, else JSON, in the
/// requested language.
pub fn busy_answer(head: &[u8], wait: Duration) -> Vec<u8> {
    let language = language_of(head);
    let is_page = head.starts_with(b"GET ") && value_of(head, b"accept:").is_some_and(takes_html);
    match is_page {
        true => busy_page::whole(Refusal::Busy, language, problem::spread(wait)),
        false => problem::whole(Refusal::Busy, language, Some(wait)),
    }
}

/// Returns whether the bytes are one whole request, its body included. Then nothing is left unread, which would reset the
/// connection and lose the answer; only a client that sends the next request before it has this answer may be reset.
pub fn is_whole_request(bytes: &[u8]) -> bool {
    const HEADERS_MAX: usize = 64;
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = request.parse(bytes) else {
        return false;
    };
    let mut body = None;
    for header in &*request.headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return false;
        } else if header.name.eq_ignore_ascii_case("content-length") {
            let digits = std::str::from_utf8(header.value).ok();
            let digits = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse::<usize>().ok());
            match (length, body) {
                (Some(length), None) => body = Some(length),
                _ => return false,
            }
        }
    }
    bytes.len() - head == body.unwrap_or_default()
}

/// Returns the language that an unparsed head asks for.
fn language_of(head: &[u8]) -> Language {
    let value = value_of(head, b"accept-language:").map(std::str::from_utf8);
    match value {
        Some(Ok(value)) => Language::accepted(value),
        _ => Language::Hans,
    }
}

/// Returns the value of the first header with this name, which includes the colon.
fn value_of<'h>(head: &'h [u8], name: &[u8]) -> Option<&'h [u8]> {
    head.split(|b| *b == b'\n').skip(1).find_map(|line| {
        let (its_name, value) = line.split_at_checked(name.len())?;
        let is_it = its_name.eq_ignore_ascii_case(name);
        is_it.then(|| value.trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unread_head_still_says_its_language() {
        let head = b"GET /v1/code HTTP/1.1\r\nHost: x\r\nACCEPT-Language: en-GB\r\n\r\n";
        assert_eq!(language_of(head), Language::En);
        assert_eq!(language_of(b""), Language::Hans);
        let bad = b"GET / HTTP/1.1\r\naccept-language: \xff\r\n";
        assert_eq!(language_of(bad), Language::Hans);
        assert_eq!(
            language_of(b"GET / HTTP/1.1\r\naccept-language"),
            Language::Hans
        );
    }

    #[test]
    fn a_whole_request_is_one_with_its_body_and_no_more() {
        for (bytes, whole) in [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", true),
            ("", false),
            ("GET / HTTP/1.1\r\nhost: a\r\n", false),
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /", false),
            ("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", false),
            ("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n{}", false),
            ("POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\n{}", false),
            ("POST / HTTP/1.1\r\ncontent-length: two\r\n\r\n{}", false),
            ("POST / HTTP/1.1\r\ncontent-length: +2\r\n\r\n{}", false),
            ("POST / HTTP/1.1\r\ncontent-length:\r\n\r\n", false),
            (
                "POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 0\r\n\r\n",
                false,
            ),
            (
                "POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n",
                false,
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
            ),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false),
        ] {
            assert_eq!(is_whole_request(bytes.as_bytes()), whole, "{bytes:?}");
        }
    }

    #[test]
    fn a_browser_that_loads_a_page_gets_one_and_everybody_else_json() {
        let wait = Duration::from_secs(4);
        for (head, html) in [
            (
                &b"GET / HTTP/1.1\r\nAccept: text/html,*/*\r\n\r\n"[..],
                true,
            ),
            (b"GET / HTTP/1.1\r\naccept:text/html", true),
            (b"GET / HTTP/1.1\r\naccept: */*\r\n\r\n", false),
            (b"POST / HTTP/1.1\r\naccept: text/html\r\n\r\n", false),
            (b"GET /?accept: text/html", false),
            (b"", false),
        ] {
            let answer = String::from_utf8(busy_answer(head, wait)).unwrap();
            assert_eq!(answer.contains("content-type: text/html"), html, "{answer}");
            assert_eq!(answer.contains("\r\nrefresh: "), html, "{answer}");
            assert!(answer.contains("\r\nretry-after: "), "{answer}");
        }
    }
}
