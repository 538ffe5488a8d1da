//! SMART Health Cards: `shc:/` and pairs of digits, or the compact JWS itself; raw DEFLATE; FHIR. A key belongs to an issuer's
//! URL.

use super::bounds::{
    ES256_BYTES, LIFE_MAX, SHC_INFLATED_MAX, TEXT_CHARS_MAX, json_is_bounded, shown,
};
use super::format::{ForeignFormat, SHC_PREFIX};
use super::inflate::{Packing, inflate};
use super::keys::{IssuerKey, IssuerPublicKey};
use super::pass::{
    COVID_19, ForeignPass, PassFault, PassKind, PolicyVerdict, RevocationCheck, TestFinding,
    claimed_time, masked_name, month_and_day, shown_date,
};
use crate::clock::Time;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::time::Duration;

/// Character of the digit pair 00.
const FIRST_CHARACTER: u8 = b'-';

/// Highest digit pair: `z`.
const PAIR_MAX: u8 = 77;

#[derive(Deserialize)]
struct Head<'h> {
    #[serde(borrow)]
    alg: Cow<'h, str>,
    #[serde(borrow)]
    kid: Option<Cow<'h, str>>,
    #[serde(borrow)]
    zip: Option<Cow<'h, str>>,
    crit: Option<Value>,
}

/// A parsed card. Its issuer and key id are not checked.
#[derive(Debug)]
pub struct UncheckedShc {
    signed: Vec<u8>,
    signature: Vec<u8>,
    is_es256: bool,
    kid: String,
    issuer: String,
    payload: Vec<u8>,
}

/// Contents of a card with a valid signature.
#[derive(Debug)]
pub struct OpenedShc<'k> {
    /// The pass.
    pub pass: ForeignPass,
    /// Id by which its issuer revokes it.
    pub id: Option<String>,
    /// The key that signed it.
    pub key: &'k IssuerKey,
    not_before_second: f64,
}

impl UncheckedShc {
    /// Parses a card, with its issuer and key id.
    ///
    /// # Errors
    ///
    /// `Undecodable` if the text is not a card or exceeds a bound.
    pub fn read(text: &[u8]) -> Result<UncheckedShc, PassFault> {
        read_form(text).ok_or(PassFault::Undecodable)
    }

    /// Returns the issuer that the card names. It is not checked.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the id of the key that the code names.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Checks the signature with the key of the card's issuer and key id, then parses the signed contents. Times are not
    /// checked.
    ///
    /// # Errors
    ///
    /// `UnknownKey` without a key, `BadSignature` if it did not sign the card, or a fault of the signed contents.
    pub fn open<'k>(&self, key: Option<&'k IssuerKey>) -> Result<OpenedShc<'k>, PassFault> {
        if !self.is_es256 {
            return Err(PassFault::UnsupportedAlgorithm);
        }
        let key = key.ok_or(PassFault::UnknownKey)?;
        if !matches!(key.public, IssuerPublicKey::Es256(_)) {
            return Err(PassFault::UnsupportedAlgorithm);
        }
        if !key.public.verifies(&self.signed, &self.signature) {
            return Err(PassFault::BadSignature);
        }
        read_card(&self.payload, key).ok_or(PassFault::Undecodable)
    }
}

impl OpenedShc<'_> {
    /// Checks the validity of a card at `now` with the allowed clock skew, its revocation, and that its key may sign this kind.
    ///
    /// # Errors
    ///
    /// `Expired`, `NotYetValid`, `Revoked`, or `NotEntitled`.
    pub fn judge(&self, now: Option<(Time, Duration)>) -> Result<(), PassFault> {
        if let (Some(id), Some(revoked)) = (&self.id, &self.key.revoked)
            && revoked.has(id, self.not_before_second)
        {
            return Err(PassFault::Revoked);
        }
        if let Some((now, skew)) = now {
            let begins = self.pass.issued_at;
            if begins.is_some_and(|begins| begins > now.plus(skew)) {
                return Err(PassFault::NotYetValid);
            }
            if self.pass.expires_at.is_some_and(|ends| now >= ends) {
                return Err(PassFault::Expired);
            }
        }
        match self.key.kinds.has(self.pass.kind) {
            true => Ok(()),
            false => Err(PassFault::NotEntitled),
        }
    }
}

/// Returns the JWS of a code: decoded from digit pairs, or the text itself.
fn jws(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(digits) = text.strip_prefix(SHC_PREFIX) else {
        return Some(Cow::Borrowed(text));
    };
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let character = |pair: &[u8; 2]| {
        if !pair.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = (pair[0] - b'0') * 10 + pair[1] - b'0';
        (number <= PAIR_MAX).then_some(number + FIRST_CHARACTER)
    };
    pairs
        .iter()
        .map(character)
        .collect::<Option<Vec<u8>>>()
        .map(Cow::Owned)
}

fn read_form(text: &[u8]) -> Option<UncheckedShc> {
    if text.len() > TEXT_CHARS_MAX {
        return None;
    }
    let jws = jws(text)?;
    let mut parts = jws.split(|byte| *byte == b'.');
    let (head, body, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let decode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.decode(part).ok();
    let head_bytes = decode(head)?;
    if !json_is_bounded(&head_bytes) {
        return None;
    }
    let signed = jws[..head.len() + 1 + body.len()].to_vec();
    let head: Head<'_> = serde_json::from_slice(&head_bytes).ok()?;
    if head.zip.as_deref() != Some("DEF") || head.crit.is_some() {
        return None;
    }
    let signature = decode(signature)?;
    let is_es256 = head.alg == "ES256";
    if is_es256 && signature.len() != ES256_BYTES {
        return None;
    }
    let payload = inflate(&decode(body)?, Packing::Deflate, SHC_INFLATED_MAX)?;
    if !json_is_bounded(&payload) {
        return None;
    }
    #[derive(Deserialize)]
    struct Named {
        iss: String,
    }
    let named: Named = serde_json::from_slice(&payload).ok()?;
    Some(UncheckedShc {
        signed,
        signature,
        is_es256,
        kid: head.kid?.into_owned(),
        issuer: named.iss,
        payload,
    })
}

#[derive(Deserialize)]
struct Card {
    iss: String,
    nbf: Option<f64>,
    /// Issue time in cards of the first drafts, in place of `nbf`.
    iat: Option<f64>,
    exp: Option<f64>,
    vc: Credential,
}

#[derive(Deserialize)]
struct Credential {
    #[serde(rename = "type", default)]
    types: Vec<String>,
    #[serde(rename = "credentialSubject", default)]
    subject: Subject,
    rid: Option<String>,
}

#[derive(Default, Deserialize)]
struct Subject {
    #[serde(rename = "fhirBundle", default)]
    bundle: Bundle,
}

#[derive(Default, Deserialize)]
struct Bundle {
    #[serde(default)]
    entry: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    resource: Value,
}

fn read_card<'k>(payload: &[u8], key: &'k IssuerKey) -> Option<OpenedShc<'k>> {
    let card: Card = serde_json::from_slice(payload).ok()?;
    let optional = |second: Option<f64>| match second {
        Some(second) => claimed_time(second).map(Some),
        None => Some(None),
    };
    let begins = card.nbf.or(card.iat);
    let (issued_at, expires_at) = (optional(begins)?, optional(card.exp)?);
    let life = expires_at.zip(issued_at);
    if life.is_some_and(|(ends, begins)| ends.since(begins) > LIFE_MAX) {
        return None;
    }
    let is_type = |name: &str| {
        let types = card.vc.types.iter();
        types
            .map(|each| each.rsplit('#').next().unwrap_or_default())
            .any(|each| each == name)
    };
    let entries = &card.vc.subject.bundle.entry;
    let resources = |kind: &'static str| {
        entries
            .iter()
            .map(|entry| &entry.resource)
            .filter(move |resource| resource["resourceType"] == kind)
    };
    let kind = match () {
        () if is_type("immunization") => PassKind::Vaccinated,
        () if is_type("laboratory") => PassKind::Tested,
        () => PassKind::Statement,
    };
    let dates = |of: &'static str, name: &'static str| {
        let dates = resources(of).filter_map(move |resource| shown_date(resource[name].as_str()?));
        dates.max()
    };
    let doses = resources("Immunization").count() as u32;
    let patient = resources("Patient").next();
    let name = patient.map(|patient| &patient["name"][0]);
    let word = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let given = word(name.map(|name| &name["given"][0]));
    let family = word(name.map(|name| &name["family"]));
    let is_current = key
        .revoked
        .as_ref()
        .is_some_and(|revoked| revoked.is_current);
    let pass = ForeignPass {
        format: ForeignFormat::Shc,
        kind,
        issuer: shown(&card.iss),
        issuer_name: key.issuer_name.clone(),
        is_covid: Some(
            is_type("covid19") || entries.iter().any(|entry| is_about_covid(&entry.resource)),
        ),
        finding: (kind == PassKind::Tested).then(|| finding(resources("Observation"))),
        doses: (kind == PassKind::Vaccinated && doses > 0).then_some((doses, None)),
        at: match kind {
            PassKind::Vaccinated => dates("Immunization", "occurrenceDateTime"),
            PassKind::Tested => dates("Observation", "effectiveDateTime"),
            _ => None,
        },
        valid_from: None,
        valid_until: None,
        issued_at,
        expires_at,
        revocation: match &card.vc.rid {
            // A card without an id cannot be on a revocation list.
            Some(_) if is_current => RevocationCheck::Good,
            _ => RevocationCheck::NotChecked,
        },
        policy: PolicyVerdict::None,
        name: masked_name(&given, &family),
        birth: patient.and_then(|patient| month_and_day(patient["birthDate"].as_str()?)),
    };
    Some(OpenedShc {
        pass,
        id: card.vc.rid,
        key,
        // A card without an issue time counts as older than any revocation.
        not_before_second: begins.unwrap_or(0.0),
    })
}

/// Returns the result of a card's tests if they agree.
fn finding<'v>(observations: impl Iterator<Item = &'v Value>) -> TestFinding {
    let mut found = observations.map(|observation| {
        let codings = observation["valueCodeableConcept"]["coding"].as_array();
        let mut codings = codings.into_iter().flatten();
        let known = codings.find_map(|coding| {
            let finding = TestFinding::of_code(coding["code"].as_str()?);
            (finding != TestFinding::Unknown).then_some(finding)
        });
        known.unwrap_or(TestFinding::Unknown)
    });
    let first = found.next().unwrap_or(TestFinding::Unknown);
    let mut rest = found.filter(|other| *other != first);
    match rest.next() {
        None => first,
        // A positive test is not outweighed by another.
        Some(TestFinding::Detected) => TestFinding::Detected,
        Some(_) if first == TestFinding::Detected => TestFinding::Detected,
        Some(_) if rest.any(|other| other == TestFinding::Detected) => TestFinding::Detected,
        Some(_) => TestFinding::Unknown,
    }
}

/// Returns whether the vaccine or test of a resource is for COVID-19.
fn is_about_covid(resource: &Value) -> bool {
    /// CVX codes of vaccines and LOINC codes of tests in health cards in use.
    const CODES: [&str; 23] = [
        COVID_19, "207", "208", "210", "211", "212", "213", "217", "218", "219", "221", "228",
        "229", "230", "510", "511", "94500-6", "94558-4", "94759-8", "95209-3", "96119-3",
        "94309-2", "94745-7",
    ];
    ["vaccineCode", "code"].iter().any(|name| {
        let codings = resource[name]["coding"].as_array();
        let mut codes = codings
            .into_iter()
            .flatten()
            .filter_map(|coding| coding["code"].as_str());
        codes.any(|code| CODES.contains(&code))
    })
}
