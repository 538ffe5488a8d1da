//! The closed set of refusals, and what answers are made of: states, verdicts, codes, explanations.

use crate::clock::{Moment, Time};
use crate::person::MaskedIdentity;
use crate::status::Reasons;
use std::time::Duration;

/// Why a query got no answer. Each is one code on the wire, one HTTP status, one sentence, one meter label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The door has no room. Passes.
    Busy,
    /// The store does not answer in time, or has too many questions. Passes.
    UpstreamBusy,
    /// The node has not read enough of the store yet. Passes.
    Warming,
    /// The node is about to end. Passes: another node answers.
    Draining,
    /// The caller asks too often. Passes.
    RateLimited,
    /// No credential, or one that is not genuine.
    Unauthorized,
    /// A genuine session whose time is over.
    SessionExpired,
    /// A genuine credential of a role that may not do this.
    NotPermitted,
    /// The request could not be understood.
    Malformed,
    /// The body's type or coding is none that the path takes.
    UnsupportedMediaType,
    /// The head or the body has too many bytes.
    TooLarge,
    /// The header `Expect` asks for something other than `100-continue`.
    ExpectationFailed,
    /// The door has no such path, or there is no such paper.
    NotFound,
    /// The path has another method.
    MethodNotAllowed,
    /// The code is none of ours, nor of an issuer that is recognised.
    CodeInvalid,
    /// A genuine code whose time is over.
    CodeExpired,
    /// Documents of this type get no session at a log-in: staff register the person.
    OfflineRegistration,
    /// Records are never changed or deleted.
    RecordUnchangeable,
    /// The grant was taken back by the resident who gave it.
    GrantRevoked,
    /// The last day of the grant is over.
    GrantExpired,
    /// A code that its issuer revoked, or that this site's operator denies.
    CodeRevoked,
    /// A code of an issuer, key or format that is not in the trust list, or is switched off.
    IssuerUnknown,
    /// A code whose signature is not its issuer's.
    SignatureInvalid,
    /// A genuine code of a key that may not say this.
    IssuerNotEntitled,
    /// The issuer of the code does not answer.
    IssuerUnreachable,
    /// The person is not on the organisation's roster.
    NotOnRoster,
    /// The person is no family member whom the caller added, or the name differs.
    NoConsent,
    /// There are as many as there may be of one owner.
    LimitReached,
    /// The idempotency key was used for other content.
    IdempotencyMismatch,
    /// A fault of this service or of its keys: asking again does not help.
    Internal,
}

impl Refusal {
    /// All refusals, in the order of the enum.
    pub const ALL: [Refusal; 30] = [
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
        Refusal::GrantExpired,
        Refusal::CodeRevoked,
        Refusal::IssuerUnknown,
        Refusal::SignatureInvalid,
        Refusal::IssuerNotEntitled,
        Refusal::IssuerUnreachable,
        Refusal::NotOnRoster,
        Refusal::NoConsent,
        Refusal::LimitReached,
        Refusal::IdempotencyMismatch,
        Refusal::Internal,
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
            Refusal::GrantExpired => "grant_expired",
            Refusal::CodeRevoked => "code_revoked",
            Refusal::IssuerUnknown => "issuer_unknown",
            Refusal::SignatureInvalid => "signature_invalid",
            Refusal::IssuerNotEntitled => "issuer_not_entitled",
            Refusal::IssuerUnreachable => "issuer_unreachable",
            Refusal::NotOnRoster => "not_on_roster",
            Refusal::NoConsent => "no_consent",
            Refusal::LimitReached => "limit_reached",
            Refusal::IdempotencyMismatch => "idempotency_mismatch",
            Refusal::Internal => "internal",
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
            Refusal::IssuerUnreachable => Some(Duration::from_millis(2_000)),
            _ => None,
        }
    }
}

/// What a node knows of one resident at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResidentStatus {
    /// On record: the active reasons, from which the colour follows.
    Known(Reasons),
    /// Genuine, and not on record.
    Unknown,
    /// What is known is older than may be told.
    TooOld,
}

impl ResidentStatus {
    /// The `state` of the contract.
    pub fn state(self) -> &'static str {
        match self {
            ResidentStatus::Known(reasons) => reasons.colour().word(),
            ResidentStatus::Unknown => "unknown",
            ResidentStatus::TooOld => "too_old",
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
    /// How long ago that was, by the monotonic clock.
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
pub struct ShownCode {
    /// The resident's status.
    pub status: ResidentStatus,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
    /// The code, valid until `expires_at`.
    pub code: CodeText,
    /// When the code was made.
    pub issued_at: Time,
    /// When the code ends.
    pub expires_at: Time,
    /// How old the knowledge behind the status is.
    pub freshness: Freshness,
}

/// What a gate is told of a code.
pub struct Verdict {
    /// The resident's status.
    pub status: ResidentStatus,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
    /// When the code was made.
    pub issued_at: Time,
    /// How old the knowledge behind the status is.
    pub freshness: Freshness,
    /// Whether the gate is told why, beside the colour.
    pub with_reasons: bool,
}

/// An offline code just issued.
pub struct OfflineIssued {
    /// The code, as a QR code holds it.
    pub code: String,
    /// When the code was made.
    pub issued_at: Time,
    /// When the code ends.
    pub expires_at: Time,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
}

/// What a gate is told of an offline code: a colour from memory, and that the holder's document is to be checked.
pub struct OfflineVerdict {
    /// What is known of the holder.
    pub verdict: Verdict,
    /// When the code ends.
    pub expires_at: Time,
}

/// A session just opened.
pub struct OpenedSession {
    /// The session's token.
    pub session: String,
    /// When the session ends.
    pub expires_at: Time,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
}

/// One active reason of a resident.
pub struct ReasonDetail {
    /// The reason that is active.
    pub reason: crate::status::Reason,
    /// What to do, where the person is.
    pub guidance: String,
    /// None where the store has lost what it held of it.
    pub said: Option<ReasonSource>,
}

/// What the source of a reason said of it.
pub struct ReasonSource {
    /// When the source set it.
    pub since: Time,
    /// `yyyymmdd`
    pub until: Option<u32>,
    /// Division of GB/T 2260, six digits.
    pub region: Option<u32>,
    /// The name of the source.
    pub source: String,
    /// In print; None where the node was given none.
    pub source_name: Option<String>,
}

/// A resident's status in detail.
pub struct StatusExplanation {
    /// The resident's status.
    pub status: ResidentStatus,
    /// A detail for each active reason.
    pub details: Vec<ReasonDetail>,
    /// What was set once and is cleared: by whom and when; the newest first.
    pub released: Vec<(crate::status::Reason, ReasonSource)>,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
    /// How old the knowledge behind the status is.
    pub freshness: Freshness,
}
