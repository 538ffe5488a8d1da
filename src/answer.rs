//! The closed set of refusals, and what answers are made of: states, verdicts, codes, explanations.

use crate::clock::{Moment, Time};
use crate::person::MaskedIdentity;
use crate::status::Reasons;
use std::time::Duration;

/// Why a query got no answer. Each refusal has one code, one HTTP status, one sentence in each language and one metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The door has no room. Temporary.
    Busy,
    /// The store does not answer in time, or has too many queries. Temporary.
    UpstreamBusy,
    /// The node has not read enough of the store yet. Temporary.
    Warming,
    /// The node is draining. Temporary: another node answers.
    Draining,
    /// The caller asks too often. Temporary.
    RateLimited,
    /// There is no credential, or it is not genuine, or it was revoked.
    Unauthorized,
    /// A genuine session or token has expired.
    SessionExpired,
    /// A genuine credential of a role that may not do this.
    NotPermitted,
    /// The request cannot be parsed.
    Malformed,
    /// The path does not accept the body's media type or content coding.
    UnsupportedMediaType,
    /// The head or the body is too long.
    TooLarge,
    /// The header `Expect` asks for something other than `100-continue`.
    ExpectationFailed,
    /// The door has no such path, or there is no such paper.
    NotFound,
    /// The path has other methods.
    MethodNotAllowed,
    /// The code is not genuine, and of no recognised issuer.
    CodeInvalid,
    /// A genuine code has expired.
    CodeExpired,
    /// Documents of this type cannot log in: staff register the person.
    OfflineRegistration,
    /// Records are never changed or deleted.
    RecordUnchangeable,
    /// The resident revoked the grant.
    GrantRevoked,
    /// The last day of the grant is over.
    GrantExpired,
    /// The issuer revoked the code, or this site's operator denies it.
    CodeRevoked,
    /// The issuer, key or format of the code is not in the trust list, or is switched off.
    IssuerUnknown,
    /// The signature of the code does not verify.
    SignatureInvalid,
    /// The code is genuine, but its key may not sign this kind.
    IssuerNotEntitled,
    /// The issuer of the code does not answer.
    IssuerUnreachable,
    /// The person is not on the organisation's roster.
    NotOnRoster,
    /// The person is not a family member of the caller, or has another name.
    NoConsent,
    /// The owner has the largest allowed number already.
    LimitReached,
    /// The idempotency key was used for other content.
    IdempotencyMismatch,
    /// A fault of this service or its keys; a retry does not help.
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

    /// Returns the code that programs read.
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

    /// Returns the time after which a retry makes sense; None if it never does. The values are estimates, except that a full
    /// door computes its own. Answers randomise them, so that refused clients do not return together.
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

/// What a node knows about one resident at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResidentStatus {
    /// On record, with the active reasons, which give the colour.
    Known(Reasons),
    /// The credential is genuine; the resident is not on record.
    Unknown,
    /// The node's data is older than `too_old_after`.
    TooOld,
}

impl ResidentStatus {
    /// Returns the value of `state` in answers.
    pub fn state(self) -> &'static str {
        match self {
            ResidentStatus::Known(reasons) => reasons.colour().word(),
            ResidentStatus::Unknown => "unknown",
            ResidentStatus::TooOld => "too_old",
        }
    }
}

/// Age of a node's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Everything acknowledged up to this moment is on the board.
    pub moment: Moment,
    /// The same moment as time of day, for printing.
    pub as_of: Time,
    /// Age by the monotonic clock.
    pub age: Duration,
    /// Whether the age exceeds `stale_after`, so that verdicts are marked.
    pub stale: bool,
}

/// Length of a printed code in characters, all of the QR alphanumeric set.
pub const CODE_CHARS: usize = 88;

/// A printed code.
#[derive(Clone, Copy)]
pub struct CodeText(pub [u8; CODE_CHARS]);

/// Answer to a show.
pub struct ShownCode {
    /// The resident's status.
    pub status: ResidentStatus,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
    /// The code, valid until `expires_at`.
    pub code: CodeText,
    /// When the code was made.
    pub issued_at: Time,
    /// When the code expires.
    pub expires_at: Time,
    /// Age of the status.
    pub freshness: Freshness,
}

/// Answer to a scan.
pub struct Verdict {
    /// The resident's status.
    pub status: ResidentStatus,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
    /// When the code was made.
    pub issued_at: Time,
    /// Age of the status.
    pub freshness: Freshness,
    /// Whether the gate gets the reasons beside the colour.
    pub with_reasons: bool,
}

/// A new offline code.
pub struct OfflineIssued {
    /// The text of the code for a QR code.
    pub code: String,
    /// When the code was made.
    pub issued_at: Time,
    /// When the code expires.
    pub expires_at: Time,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
}

/// Answer to a scan of an offline code. The gate must also check the holder's document.
pub struct OfflineVerdict {
    /// Status of the holder.
    pub verdict: Verdict,
    /// When the code expires.
    pub expires_at: Time,
}

/// A new session.
pub struct OpenedSession {
    /// The session token.
    pub session: String,
    /// When the session expires.
    pub expires_at: Time,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
}

/// One active reason of a resident, with details.
pub struct ReasonDetail {
    /// The reason that is active.
    pub reason: crate::status::Reason,
    /// Guidance for the person's region.
    pub guidance: String,
    /// What its source said; None if the store has lost it.
    pub said: Option<ReasonSource>,
}

/// What a source said about a reason.
pub struct ReasonSource {
    /// When the source set it.
    pub since: Time,
    /// Last day, `yyyymmdd`; None if open.
    pub until: Option<u32>,
    /// Division of GB/T 2260 of six digits; None if not given.
    pub region: Option<u32>,
    /// The name of the source.
    pub source: String,
    /// Display name of the source; None if the node has none.
    pub source_name: Option<String>,
}

/// A resident's status in detail.
pub struct StatusExplanation {
    /// The resident's status.
    pub status: ResidentStatus,
    /// Details of each active reason.
    pub details: Vec<ReasonDetail>,
    /// Cleared reasons, with their source and time, the newest first.
    pub released: Vec<(crate::status::Reason, ReasonSource)>,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
    /// Age of the status.
    pub freshness: Freshness,
}
