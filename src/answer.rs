//! The closed set of outcomes: every answer and every refusal that a query can end in.

use crate::clock::{Moment, Time};
use crate::language::Language;
use crate::person::Face;
use crate::status::Reasons;
use std::time::Duration;

/// Why a query got no answer. Each is one code on the wire, one HTTP status, one sentence, one meter label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    Busy,
    UpstreamBusy,
    Warming,
    Draining,
    RateLimited,
    Unauthorized,
    SessionExpired,
    NotPermitted,
    Malformed,
    UnsupportedMediaType,
    TooLarge,
    ExpectationFailed,
    NotFound,
    MethodNotAllowed,
    CodeInvalid,
    CodeExpired,
    OfflineRegistration,
    RecordUnchangeable,
    GrantRevoked,
    /// An offline code of a generation that was revoked.
    CodeRevoked,
    NotOnRoster,
    NoConsent,
    TooMany,
    IdempotencyMismatch,
}

impl Refusal {
    pub const ALL: [Refusal; 24] = [
        Refusal::Busy,
        Refusal::UpstreamBusy,
        Refusal::Warming,
        Refusal::Draining,
        Refusal::RateLimited,
        Refusal::Unauthorized,
        Refusal::SessionExpired,
        Refusal::NotPermitted,
        Refusal::Malformed,
        Refusal::UnsupportedMediaType,
        Refusal::TooLarge,
        Refusal::ExpectationFailed,
        Refusal::NotFound,
        Refusal::MethodNotAllowed,
        Refusal::CodeInvalid,
        Refusal::CodeExpired,
        Refusal::OfflineRegistration,
        Refusal::RecordUnchangeable,
        Refusal::GrantRevoked,
        Refusal::CodeRevoked,
        Refusal::NotOnRoster,
        Refusal::NoConsent,
        Refusal::TooMany,
        Refusal::IdempotencyMismatch,
    ];

    /// The word that programs read.
    pub fn code(self) -> &'static str {
        match self {
            Refusal::Busy => "busy",
            Refusal::UpstreamBusy => "upstream_busy",
            Refusal::Warming => "warming",
            Refusal::Draining => "draining",
            Refusal::RateLimited => "rate_limited",
            Refusal::Unauthorized => "unauthorized",
            Refusal::SessionExpired => "session_expired",
            Refusal::NotPermitted => "not_permitted",
            Refusal::Malformed => "malformed",
            Refusal::UnsupportedMediaType => "unsupported_media_type",
            Refusal::TooLarge => "too_large",
            Refusal::ExpectationFailed => "expectation_failed",
            Refusal::NotFound => "not_found",
            Refusal::MethodNotAllowed => "method_not_allowed",
            Refusal::CodeInvalid => "code_invalid",
            Refusal::CodeExpired => "code_expired",
            Refusal::OfflineRegistration => "offline_registration",
            Refusal::RecordUnchangeable => "record_unchangeable",
            Refusal::GrantRevoked => "grant_revoked",
            Refusal::CodeRevoked => "code_revoked",
            Refusal::NotOnRoster => "not_on_roster",
            Refusal::NoConsent => "no_consent",
            Refusal::TooMany => "too_many",
            Refusal::IdempotencyMismatch => "idempotency_mismatch",
        }
    }

    /// How long until it is worth asking again; None where asking again does not help. Guesses, but for a full door, which
    /// computes its own; the reply spreads them, so that those refused together do not return together.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Refusal::Busy => Some(Duration::from_millis(5_000)),
            Refusal::UpstreamBusy => Some(Duration::from_millis(2_000)),
            Refusal::Warming => Some(Duration::from_millis(5_000)),
            Refusal::Draining => Some(Duration::from_millis(1_000)),
            Refusal::RateLimited => Some(Duration::from_millis(1_000)),
            _ => None,
        }
    }
}

/// What a node knows of one resident at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// On record: the active reasons, from which the colour follows.
    Known(Reasons),
    /// Genuine, and not on record.
    Unknown,
    /// What is known is older than may be told.
    TooOld,
}

impl Standing {
    /// The `state` of the contract.
    pub fn state(self) -> &'static str {
        match self {
            Standing::Known(reasons) => reasons.colour().word(),
            Standing::Unknown => "unknown",
            Standing::TooOld => "too_old",
        }
    }
}

/// How old a node's knowledge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Everything acknowledged up to here is on the board.
    pub moment: Moment,
    /// The same as time of day, for printing.
    pub as_of: Time,
    pub age: Duration,
    /// Past `stale_after`: verdicts are marked.
    pub stale: bool,
}

/// Characters of a code on a screen: letters and digits of the QR alphanumeric set.
pub const CODE_CHARS: usize = 88;

/// A code as it is shown.
#[derive(Clone, Copy)]
pub struct CodeText(pub [u8; CODE_CHARS]);

/// A resident's own code, brought up.
pub struct Shown {
    pub standing: Standing,
    pub face: Face,
    pub code: CodeText,
    pub issued_at: Time,
    pub expires_at: Time,
    pub freshness: Freshness,
}

/// What a gate is told of a code.
pub struct Verdict {
    pub standing: Standing,
    pub face: Face,
    pub issued_at: Time,
    pub freshness: Freshness,
    /// Whether the gate is told why, beside the colour.
    pub with_reasons: bool,
}

/// An offline code just issued.
pub struct OfflineIssued {
    pub code: String,
    pub issued_at: Time,
    pub expires_at: Time,
    pub face: Face,
}

/// What a gate is told of an offline code: a colour from memory, and that the holder's document is to be checked.
pub struct OfflineVerdict {
    pub verdict: Verdict,
    pub expires_at: Time,
}

/// A session just opened.
pub struct Opened {
    pub session: String,
    pub expires_at: Time,
    pub face: Face,
}

/// One active reason of a resident.
pub struct Detail {
    pub reason: crate::status::Reason,
    /// What to do, where the person is.
    pub guidance: String,
    /// None where the store has lost what it held of it.
    pub said: Option<SaidBy>,
}

/// What the source of a reason said of it.
pub struct SaidBy {
    pub since: Time,
    /// `yyyymmdd`
    pub until: Option<u32>,
    /// Division of GB/T 2260, six digits.
    pub region: Option<u32>,
    pub source: String,
}

/// A resident's status in detail.
pub struct Explained {
    pub standing: Standing,
    pub details: Vec<Detail>,
    /// What was set once and is cleared: by whom and when; the newest first.
    pub released: Vec<(crate::status::Reason, SaidBy)>,
    pub face: Face,
    pub freshness: Freshness,
}

/// What a query ends in when it is not refused, and the language to say it in.
pub enum Answer {
    Shown(Shown, Language),
    Verdict(Verdict, Language),
    Opened(Opened),
    Explained(Explained, Language),
    OfflineCode(Box<OfflineIssued>),
    OfflineVerdict(Box<OfflineVerdict>, Language),
    /// What the desk says; rare beside the others, so that they carry no place for it.
    Desk(Box<crate::desk::Said>, Language),
}
