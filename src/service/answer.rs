//! What answers are made of: codes, verdicts, sessions and explanations.

use crate::clock::Time;
use crate::person::MaskedIdentity;
use crate::seal::CodeText;
use crate::status::{Freshness, Reason, ResidentStatus};

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
    pub reason: Reason,
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
    pub released: Vec<(Reason, ReasonSource)>,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
    /// Age of the status.
    pub freshness: Freshness,
}
