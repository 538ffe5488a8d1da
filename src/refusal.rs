//! The closed set of refusals: why a query gets no answer.

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
    /// The code is not genuine and of no recognised issuer, or it is a grant to another organisation.
    CodeInvalid,
    /// A genuine code is not valid at this time: it has expired, or is not valid yet.
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
    /// The owner has the largest allowed number already, or an appeal about the reason is open.
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
