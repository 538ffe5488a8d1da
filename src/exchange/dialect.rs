//! Protocols of peers: how a verdict about a live code is requested. Another platform needs one more implementation of
//! [`Dialect`].

use super::link::{LinkAddress, LinkFault, exchange};
use crate::clock::Time;
use crate::recognition::bounds::shown;
use crate::recognition::peer::PeerVerdict;
use crate::refusal::Refusal;
use crate::status::{Colour, Reason};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use std::time::Duration;

/// A peer's verdict about a code, or a refusal.
pub type Said = Result<PeerVerdict, Refusal>;

/// Why a peer's answer does not count.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum DialectFault {
    #[error(transparent)]
    Link(#[from] LinkFault),
    /// The peer refuses the request or has no capacity.
    #[error("the peer answers with status {0}")]
    Status(StatusCode),
    /// The answer does not have the form of the protocol.
    #[error("the peer's answer cannot be parsed")]
    Rubbish,
    /// The answer is for another issuer, or from the future.
    #[error("the peer's answer is implausible: {0}")]
    Lie(&'static str),
}

/// A protocol for verdicts of another service. The caller enforces the deadline and drops late answers.
#[async_trait]
pub trait Dialect: Send + Sync {
    /// Requests verdicts about codes. Returns one for each code, in their order.
    async fn ask(&self, codes: &[String]) -> Result<Vec<Said>, DialectFault>;
}

/// Largest size of a verdict in bytes.
const VERDICT_BYTES_MAX: usize = 16 << 10;

/// Largest number of reasons in a verdict.
const REASONS_MAX: usize = 8;

/// Idle connections that are kept for one peer.
const KEPT_MAX: usize = 8;

/// The protocol of another liangma's exchange door.
pub struct LiangmaDialect {
    place: LinkAddress,
    issuer: u32,
    issuer_name: String,
    ages: VerdictAges,
    kept: std::sync::Mutex<Vec<SendRequest<Full<Bytes>>>>,
    /// Limit of connections: as many as are kept.
    places: tokio::sync::Semaphore,
}

/// Limits of a verdict's age.
#[derive(Clone, Copy, Debug)]
pub struct VerdictAges {
    /// Age past which a peer's data is stale.
    pub stale_after: Duration,
    /// Age past which a peer's data gives no colour.
    pub too_old_after: Duration,
    /// Largest time by which a peer's clock may be ahead of ours.
    pub clock_ahead_max: Duration,
}

impl LiangmaDialect {
    /// Returns the protocol for one peer.
    pub fn new(
        place: LinkAddress,
        issuer: u32,
        issuer_name: String,
        ages: VerdictAges,
    ) -> LiangmaDialect {
        LiangmaDialect {
            place,
            issuer,
            issuer_name,
            ages,
            kept: std::sync::Mutex::default(),
            places: tokio::sync::Semaphore::new(KEPT_MAX),
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Full<Bytes>>>> {
        self.kept
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn post(
        &self,
        path: &str,
        body: String,
        bytes_max: usize,
    ) -> Result<(StatusCode, Bytes), LinkFault> {
        let _place = self.places.acquire().await.expect("never closed");
        let kept = {
            let mut kept = self.kept();
            kept.retain(|sender| !sender.is_closed());
            kept.pop()
        };
        let request = || {
            Request::post(path)
                .header("host", &self.place.authority)
                .header("content-type", "text/plain")
                .body(Full::from(body.clone()))
                .expect("a fixed head")
        };
        let (mut sender, is_kept) = match kept {
            Some(sender) => (sender, true),
            None => (self.place.connect().await?, false),
        };
        let answered = match exchange(&mut sender, request(), bytes_max).await {
            // The peer closed a kept connection before it took the request: this attempt does not count.
            Err(LinkFault::Http(error)) if is_kept && error.is_canceled() => {
                sender = self.place.connect().await?;
                exchange(&mut sender, request(), bytes_max).await
            }
            answered => answered,
        }?;
        if !sender.is_closed() {
            self.kept().push(sender);
        }
        Ok(answered)
    }

    fn read(&self, bytes: &[u8], now: Time) -> Result<Said, DialectFault> {
        read_verdict(bytes, self.issuer, &self.issuer_name, self.ages, now)
    }
}

#[async_trait]
impl Dialect for LiangmaDialect {
    async fn ask(&self, codes: &[String]) -> Result<Vec<Said>, DialectFault> {
        if let [code] = codes {
            let (status, bytes) = self
                .post(SCAN_PATH, code.clone(), VERDICT_BYTES_MAX)
                .await?;
            return match status {
                StatusCode::OK => Ok(vec![self.read(&bytes, Time::now())?]),
                StatusCode::UNPROCESSABLE_ENTITY => {
                    let refused: RefusedWords =
                        serde_json::from_slice(&bytes).map_err(|_| DialectFault::Rubbish)?;
                    Ok(vec![Err(
                        refusal(&refused.code).ok_or(DialectFault::Rubbish)?
                    )])
                }
                status => Err(DialectFault::Status(status)),
            };
        }
        let bytes_max = codes.len().saturating_mul(VERDICT_BYTES_MAX).min(8 << 20);
        let (status, bytes) = self.post(BULK_PATH, codes.join("\n"), bytes_max).await?;
        if status != StatusCode::OK {
            return Err(DialectFault::Status(status));
        }
        let now = Time::now();
        let lines = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        let said: Result<Vec<Said>, DialectFault> =
            lines.map(|line| self.read(line, now)).collect();
        said.and_then(|said| match said.len() == codes.len() {
            true => Ok(said),
            false => Err(DialectFault::Rubbish),
        })
    }
}

/// Path for one code.
pub const SCAN_PATH: &str = "/v1/exchange/scan";
/// Path for many codes.
pub const BULK_PATH: &str = "/v1/exchange/scan/bulk";

#[derive(Deserialize)]
struct RefusedWords {
    code: String,
}

/// Returns a refusal that a peer may give for a code; None for any other word.
fn refusal(word: &str) -> Option<Refusal> {
    match word {
        "code_invalid" => Some(Refusal::CodeInvalid),
        "code_expired" => Some(Refusal::CodeExpired),
        "code_revoked" => Some(Refusal::CodeRevoked),
        // The peer could not answer now.
        "warming" | "upstream_busy" | "rate_limited" | "busy" => Some(Refusal::IssuerUnreachable),
        _ => None,
    }
}

#[derive(Deserialize)]
struct VerdictWords {
    error: Option<String>,
    state: Option<String>,
    status: Option<String>,
    #[serde(default)]
    reasons: Vec<ReasonWords>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    cert_no: String,
    #[serde(default)]
    assurance: String,
    issued_at: Option<String>,
    as_of: Option<String>,
    age_ms: Option<u64>,
    issuer: Option<String>,
}

#[derive(Deserialize)]
struct ReasonWords {
    reason: String,
    #[serde(default)]
    text: String,
}

fn time(text: &Option<String>) -> Option<Time> {
    let time: jiff::Timestamp = text.as_deref()?.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok().map(Time)
}

/// Parses a peer's answer about one code. A colour needs matching state and status, and a known time.
///
/// # Errors
///
/// `Rubbish` if the form is wrong, `Lie` if it is of another issuer or from the future.
pub fn read_verdict(
    bytes: &[u8],
    issuer: u32,
    issuer_name: &str,
    ages: VerdictAges,
    now: Time,
) -> Result<Said, DialectFault> {
    let words: VerdictWords = serde_json::from_slice(bytes).map_err(|_| DialectFault::Rubbish)?;
    if let Some(word) = &words.error {
        return refusal(word).map(Err).ok_or(DialectFault::Rubbish);
    }
    if words.issuer.as_deref() != Some(&format!("{issuer:06}")[..]) {
        return Err(DialectFault::Lie("another issuer"));
    }
    let state = words.state.as_deref().ok_or(DialectFault::Rubbish)?;
    let colours = [Colour::Green, Colour::Yellow, Colour::Red];
    let colour = colours.into_iter().find(|colour| colour.word() == state);
    if colour.map(Colour::national) != words.status.as_deref() {
        return Err(DialectFault::Rubbish);
    }
    let as_of = time(&words.as_of).ok_or(DialectFault::Rubbish)?;
    if as_of > now.plus(ages.clock_ahead_max) {
        return Err(DialectFault::Lie("a time that is to come"));
    }
    let said = Duration::from_millis(words.age_ms.unwrap_or(0));
    let age = now.since(as_of).max(said);
    let (state, status) = match (colour, state) {
        (Some(_), _) if age > ages.too_old_after => ("too_old", None),
        (Some(colour), _) => (colour.word(), Some(colour.national())),
        (None, "unknown") => ("unknown", None),
        (None, "too_old") => ("too_old", None),
        (None, _) => return Err(DialectFault::Rubbish),
    };
    let reasons = words.reasons.into_iter().take(REASONS_MAX).map(|reason| {
        // A word that is unknown here stays as it is.
        let word = Reason::parse(&reason.reason).map_or("other", Reason::word);
        (word.to_owned(), shown(&reason.text))
    });
    let assurance = ["real_person", "real_name", "unverified"];
    let assurance = assurance.into_iter().find(|word| *word == words.assurance);
    Ok(Ok(PeerVerdict {
        issuer,
        issuer_name: issuer_name.to_owned(),
        state,
        status,
        reasons: match status {
            Some(_) => reasons.collect(),
            None => Vec::new(),
        },
        name: shown(&words.name),
        cert_no: shown(&words.cert_no),
        assurance: assurance.unwrap_or("unverified").to_owned(),
        issued_at: time(&words.issued_at),
        expires_at: None,
        is_offline: false,
        by_exchange: true,
        as_of: Some(as_of),
        age,
        stale: status.is_some() && age > ages.stale_after,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time(1_790_000_000_000);
    const AGES: VerdictAges = VerdictAges {
        stale_after: Duration::from_secs(2),
        too_old_after: Duration::from_secs(30),
        clock_ahead_max: Duration::from_secs(5),
    };

    fn read(text: &str) -> Result<Said, DialectFault> {
        read_verdict(text.as_bytes(), 820_000, "澳门", AGES, NOW)
    }

    fn verdict(state: &str, status: &str, before: i64) -> String {
        let as_of = Time(NOW.0.saturating_add_signed(-before)).to_string();
        format!(
            r#"{{"state":"{state}"{status},"reasons":[{{"reason":"strange","text":"x"}}],"name":"陈**","cert_no":"1*","assurance":"real_name","as_of":"{as_of}","age_ms":1,"issuer":"820000"}}"#
        )
    }

    #[test]
    fn a_colour_comes_of_a_state_and_a_status_that_agree_as_of_a_known_time() {
        for (state, status, before, expected) in [
            ("green", r#","status":"00""#, 10, Some(("green", false))),
            ("red", r#","status":"10""#, 2_500, Some(("red", true))),
            ("yellow", r#","status":"01""#, 0, Some(("yellow", false))),
            (
                "green",
                r#","status":"00""#,
                31_000,
                Some(("too_old", false)),
            ),
            ("green", r#","status":"00""#, -4_000, Some(("green", false))),
            ("green", r#","status":"00""#, -6_000, None),
            ("green", r#","status":"10""#, 0, None),
            ("green", "", 0, None),
            ("unknown", "", 0, Some(("unknown", false))),
            ("too_old", "", 0, Some(("too_old", false))),
            ("unknown", r#","status":"00""#, 0, None),
            ("blue", "", 0, None),
            ("pass", "", 0, None),
        ] {
            let read = read(&verdict(state, status, before));
            let found = read.ok().map(|said| said.expect("no refusal"));
            let found = found.as_ref().map(|said| (said.state, said.stale));
            assert_eq!(found, expected, "{state} {status} {before}");
        }
        let said = read(&verdict("red", r#","status":"10""#, 0))
            .unwrap()
            .unwrap();
        assert_eq!(said.reasons, [("other".to_owned(), "x".to_owned())]);
        assert_eq!(
            (said.status, said.age),
            (Some("10"), Duration::from_millis(1))
        );
    }

    #[test]
    fn what_a_peer_may_not_say_is_no_verdict() {
        let other = verdict("green", r#","status":"00""#, 0).replace("820000", "440000");
        assert!(matches!(read(&other), Err(DialectFault::Lie(_))));
        for text in [
            "",
            "{}",
            "[]",
            "null",
            "{\"state\":\"green\"}",
            "{\"error\":\"not_permitted\"}",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(
            read(r#"{"error":"code_expired"}"#).unwrap(),
            Err(Refusal::CodeExpired)
        );
        assert_eq!(
            read(r#"{"error":"warming"}"#).unwrap(),
            Err(Refusal::IssuerUnreachable)
        );
    }

    proptest! {
        #[test]
        fn no_answer_makes_a_panic(text in ".{0,200}") {
            let _ = read(&text);
        }
    }
}
