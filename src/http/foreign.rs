//! Verdicts about codes of other issuers as JSON. A pass has neither a colour nor a `status`.

use crate::recognition::pass::{ForeignPass, PolicyVerdict, RevocationCheck};
use crate::recognition::peer::PeerVerdict;
use crate::service::foreign::ForeignVerdict;
use serde::Serialize;

#[derive(Serialize)]
struct PassJson<'p> {
    format: &'static str,
    kind: &'static str,
    issuer: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer_name: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dose: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    doses: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_from: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    signature: &'static str,
    revocation: &'static str,
    policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct PassVerdictJson<'p> {
    state: &'static str,
    pass: PassJson<'p>,
    name: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    birth: Option<&'p str>,
    check_document: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    trust_as_of: Option<String>,
}

#[derive(Serialize)]
struct PeerReasonJson<'p> {
    reason: &'p str,
    text: &'p str,
}

#[derive(Serialize)]
struct PeerIssuerJson<'p> {
    id: String,
    name: &'p str,
}

#[derive(Serialize)]
struct PeerVerdictJson<'p> {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    reasons: Vec<PeerReasonJson<'p>>,
    name: &'p str,
    cert_no: &'p str,
    assurance: &'p str,
    issuer: PeerIssuerJson<'p>,
    class: &'static str,
    by: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    check_document: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<String>,
    age_ms: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
}

fn peer_json(told: &PeerVerdict) -> String {
    let time = |at: Option<crate::clock::Time>| at.map(|at| at.to_string());
    let reasons = told.reasons.iter();
    let verdict = PeerVerdictJson {
        state: told.state,
        status: told.status,
        reasons: reasons
            .map(|(reason, text)| PeerReasonJson { reason, text })
            .collect(),
        name: &told.name,
        cert_no: &told.cert_no,
        assurance: &told.assurance,
        issuer: PeerIssuerJson {
            id: format!("{:06}", told.issuer),
            name: &told.issuer_name,
        },
        class: if told.is_offline { "offline" } else { "live" },
        by: if told.by_exchange { "exchange" } else { "list" },
        check_document: told.is_offline,
        issued_at: time(told.issued_at),
        expires_at: time(told.expires_at),
        as_of: time(told.as_of),
        age_ms: told.age.as_millis() as u64,
        stale: told.stale,
    };
    serde_json::to_string(&verdict).expect("texts and numbers")
}

/// Returns the verdict as JSON.
pub fn foreign_json(verdict: &ForeignVerdict) -> String {
    match verdict {
        ForeignVerdict::Pass { pass, trust_as_of } => {
            let trust_as_of = trust_as_of.map(|at| at.to_string());
            pass_json(pass, trust_as_of)
        }
        ForeignVerdict::Peer(told) => peer_json(told),
    }
}

fn pass_json(pass: &ForeignPass, trust_as_of: Option<String>) -> String {
    let (policy, policy_reason) = match pass.policy {
        PolicyVerdict::None => ("none", None),
        PolicyVerdict::Accepted => ("accepted", None),
        PolicyVerdict::NotAccepted(reason) => ("not_accepted", Some(reason.word())),
    };
    let verdict = PassVerdictJson {
        state: "pass",
        pass: PassJson {
            format: pass.format.word(),
            kind: pass.kind.word(),
            issuer: &pass.issuer,
            issuer_name: pass.issuer_name.as_deref(),
            result: pass.finding.map(|finding| finding.word()),
            dose: pass.doses.map(|(dose, _)| dose),
            doses: pass.doses.and_then(|(_, series)| series),
            at: pass.at.as_deref(),
            valid_from: pass.valid_from.as_deref(),
            valid_until: pass.valid_until.as_deref(),
            issued_at: pass.issued_at.map(|at| at.to_string()),
            expires_at: pass.expires_at.map(|at| at.to_string()),
            signature: "good",
            revocation: match pass.revocation {
                RevocationCheck::Good => "good",
                RevocationCheck::NotChecked => "not_checked",
            },
            policy,
            policy_reason,
        },
        name: &pass.name,
        birth: pass.birth.as_deref(),
        check_document: true,
        trust_as_of,
    };
    serde_json::to_string(&verdict).expect("texts and numbers")
}
