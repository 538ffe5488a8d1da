//! The page that a browser gets for a temporary refusal: the sentence, and a countdown to its own retry. Pure: takes a refusal,
//! a language and a wait, returns HTML or a whole response.

use super::problem;
use crate::language::Language;
use crate::refusal::Refusal;
use hyper::Method;
use hyper::header::HeaderValue;
use std::io::Write;
use std::time::Duration;

/// Content-Security-Policy of the page: its one script and one style by their digests.
pub const BUSY_PAGE_POLICY: &str = "default-src 'none'; script-src 'sha256-N44R5rR77GVkJWqfiuq6AwrnCyECv7LUsl9j6kS9X1Q='; style-src 'sha256-iCd/k+N8n6fVIL5VsJtimg8EiZ0EzFC38utZbV5MRv0='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The content type of the page.
pub const BUSY_PAGE_TYPE: &str = "text/html; charset=utf-8";

const BUSY_STYLE: &str = "body{font:1.2em/1.6 system-ui,sans-serif;margin:20vh auto;max-width:26em;padding:0 1em;text-align:center}b{font-size:2em}";

/// Shows the countdown. The header `Refresh` reloads the page even without scripts.
const BUSY_SCRIPT: &str = "var s=document.getElementById('s');setInterval(function(){if(+s.textContent>1)s.textContent-=1},1000)";

/// Returns whether a browser loads a page with this request, and cannot use JSON.
pub fn is_page_load(method: &Method, accept: Option<&HeaderValue>) -> bool {
    let reads = *method == Method::GET || *method == Method::HEAD;
    reads && accept.is_some_and(|accept| takes_html(accept.as_bytes()))
}

/// Returns whether an `Accept` value has `text/html` with a weight above 0.
pub fn takes_html(accept: &[u8]) -> bool {
    accept.split(|byte| *byte == b',').any(|range| {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let is_html = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(b"text/html"));
        is_html && !parts.any(is_no_weight)
    })
}

/// Returns whether a parameter is a weight of 0, for example `q=0.0`.
fn is_no_weight(parameter: &[u8]) -> bool {
    let weight = parameter
        .strip_prefix(b"q=")
        .or(parameter.strip_prefix(b"Q="));
    weight.is_some_and(|weight| weight.iter().all(|byte| b"0.".contains(byte)))
}

/// Returns the page in a language; `seconds` is the time until it reloads.
pub fn busy_page(refusal: Refusal, language: Language, seconds: u64) -> String {
    let title = problem::title(refusal, language);
    let again = again(language);
    let tag = language.tag();
    page(tag, title, &seconds.to_string(), again)
}

fn page(tag: &str, title: &str, seconds: &str, again: &str) -> String {
    format!(
        "<!doctype html><html lang=\"{tag}\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{BUSY_STYLE}</style><p>{title}</p><p><b id=\"s\">{seconds}</b> {again}</p>\
         <script>{BUSY_SCRIPT}</script></html>\n"
    )
}

fn again(language: Language) -> &'static str {
    match language {
        Language::Hans => "秒后自动重试",
        Language::Hant => "秒後自動重試",
        Language::En => "seconds until this page tries again",
    }
}

/// Returns a whole response with the page, which ends its connection. `wait` is used as it is.
pub fn whole(refusal: Refusal, language: Language, wait: Duration) -> Vec<u8> {
    let seconds = problem::whole_seconds(wait);
    let body = busy_page(refusal, language, seconds);
    let mut bytes = Vec::with_capacity(768 + body.len());
    let head = format_args!(
        "HTTP/1.1 {}\r\ncontent-type: {BUSY_PAGE_TYPE}\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n\
         content-security-policy: {BUSY_PAGE_POLICY}\r\ncontent-language: {}\r\nretry-after: {seconds}\r\nrefresh: {seconds}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        problem::status_of(refusal),
        language.tag(),
        body.len(),
    );
    let _ = bytes.write_fmt(head); // a Vec takes everything
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;

    #[test]
    fn a_page_load_is_a_get_that_takes_html() {
        for (accept, html) in [
            (
                &b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"[..],
                true,
            ),
            (b"application/json, Text/HTML;q=0.1", true),
            (b"text/html; q=0", false),
            (b"text/html;q=0.000", false),
            (b"*/*", false),
            (b"text/htmlx", false),
            (b"application/json", false),
            (b"", false),
            (b"\xff,;,;q", false),
        ] {
            let text = String::from_utf8_lossy(accept);
            assert_eq!(takes_html(accept), html, "{text}");
            if let Ok(value) = HeaderValue::from_bytes(accept) {
                assert_eq!(is_page_load(&Method::GET, Some(&value)), html, "{text}");
                assert!(!is_page_load(&Method::POST, Some(&value)), "{text}");
            }
        }
        assert!(!is_page_load(&Method::GET, None));
    }

    #[test]
    fn the_policy_names_the_script_and_the_style_of_the_page() {
        let digest = |text: &str| {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            let digest = base64::engine::general_purpose::STANDARD.encode(digest);
            format!("'sha256-{digest}'")
        };
        for text in [BUSY_SCRIPT, BUSY_STYLE] {
            assert!(BUSY_PAGE_POLICY.contains(&digest(text)), "{}", digest(text));
        }
        let policy = format!("hdr Content-Security-Policy \"{BUSY_PAGE_POLICY}\"");
        for balancer in [
            include_str!("../../deploy/haproxy/l4.cfg"),
            include_str!("../../deploy/haproxy/l7.cfg"),
        ] {
            let mut pages = 0;
            for line in balancer.lines().filter(|line| line.contains(".html")) {
                assert!(line.contains(&policy), "{line}");
                pages += 1;
            }
            assert!(pages > 0);
            assert_eq!(balancer.matches("Content-Security-Policy").count(), pages);
        }
    }

    #[test]
    fn the_balancer_has_the_same_pages_and_the_same_words() {
        const TITLE: &str = "concat(/,txn.language),map_str(titles.map)";
        for (code, theirs) in [
            (
                "var(txn.code)",
                include_str!("../../deploy/haproxy/refusal.html"),
            ),
            (
                "str(upstream_busy)",
                include_str!("../../deploy/haproxy/upstream_busy.html"),
            ),
        ] {
            let ours = page(
                "%[var(txn.language)]",
                &format!("%[{code},{TITLE}]"),
                "%[var(txn.wait),add(999),div(1000)]",
                "%[var(txn.language),map_str(again.map)]",
            );
            assert_eq!(ours, theirs);
        }
        let titles = include_str!("../../deploy/haproxy/titles.map");
        let agains = include_str!("../../deploy/haproxy/again.map");
        let has = |map: &str, line: String| map.lines().any(|theirs| theirs == line);
        for language in Language::ALL {
            let tag = language.tag();
            for refusal in [Refusal::Busy, Refusal::UpstreamBusy] {
                let title = problem::title(refusal, language);
                assert!(has(titles, format!("{}/{tag} {title}", refusal.code())));
            }
            assert!(has(agains, format!("{tag} {}", super::again(language))));
        }
    }
}
