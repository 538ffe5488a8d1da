//! EU Digital COVID Certificates: `HC1:`, base45, zlib, COSE_Sign1, CWT. Contents are used only after the signature is checked.

use super::bounds::{
    CBOR_DEPTH_MAX, HC1_INFLATED_MAX, KID_BYTES_MAX, LIFE_MAX, PROTECTED_BYTES_MAX, TEXT_CHARS_MAX,
    cbor_is_bounded, shown,
};
use super::format::{ForeignFormat, HC1_PREFIX};
use super::inflate::{Packing, inflate};
use super::keys::{IssuerKey, IssuerPublicKey};
use super::pass::{
    COVID_19, ForeignPass, PassFault, PassKind, PolicyVerdict, RevocationCheck, TestFinding,
    claimed_time, masked_name, month_and_day, shown_date,
};
use crate::clock::Time;
use ciborium::Value;
use coset::iana::{Algorithm, EnumI64};
use coset::{AsCborValue, CoseSign1, RegisteredLabelWithPrivate};

const TAG_SIGN1: u64 = 18;
const TAG_CWT: u64 = 61;

const CLAIM_ISSUER: i64 = 1;
const CLAIM_EXPIRES: i64 = 4;
const CLAIM_NOT_BEFORE: i64 = 5;
const CLAIM_ISSUED: i64 = 6;
const CLAIM_HCERT: i64 = -260;

/// A parsed HC1 whose signature is not checked.
pub struct UncheckedHc1 {
    message: CoseSign1,
    algorithm: i64,
    /// Id of the key; empty if the code names none.
    kid: Vec<u8>,
}

/// Contents of an HC1 with a valid signature.
#[derive(Debug)]
pub struct OpenedHc1<'k> {
    /// The pass.
    pub pass: ForeignPass,
    /// Id of the certificate, by which its issuer revokes it; None if it has none.
    pub id: Option<String>,
    /// The key that signed it.
    pub key: &'k IssuerKey,
    not_before: Option<Time>,
}

impl UncheckedHc1 {
    /// Parses a code.
    ///
    /// # Errors
    ///
    /// `Undecodable` if the text is not an HC1 or exceeds a bound.
    pub fn read(text: &[u8]) -> Result<UncheckedHc1, PassFault> {
        read_form(text).ok_or(PassFault::Undecodable)
    }

    /// Returns the id of the key that the code names.
    pub fn kid(&self) -> &[u8] {
        &self.kid
    }

    /// Checks the signature with the keys of the code's key id, then parses the signed contents. Times are not checked.
    ///
    /// # Errors
    ///
    /// `UnknownKey` without a key, `BadSignature` if no key signed the code, or a fault of the signed contents.
    pub fn open<'k>(&self, keys: &'k [IssuerKey]) -> Result<OpenedHc1<'k>, PassFault> {
        let is_known = [Algorithm::ES256, Algorithm::PS256]
            .iter()
            .any(|known| known.to_i64() == self.algorithm);
        if !is_known {
            return Err(PassFault::UnsupportedAlgorithm);
        }
        if keys.is_empty() {
            return Err(PassFault::UnknownKey);
        }
        let signs = |key: &&IssuerKey| {
            let own = match key.public {
                IssuerPublicKey::Es256(_) => Algorithm::ES256,
                IssuerPublicKey::Ps256(..) => Algorithm::PS256,
            };
            own.to_i64() == self.algorithm
        };
        let signed = self.message.tbs_data(b"");
        let mut good = keys
            .iter()
            .filter(signs)
            .filter(|key| key.public.verifies(&signed, &self.message.signature))
            .peekable();
        if good.peek().is_none() {
            return Err(PassFault::BadSignature);
        }
        let payload = self.message.payload.as_deref().unwrap_or_default();
        let read = Claims::read(payload).ok_or(PassFault::Undecodable)?;
        let key = good.next().expect("one was seen");
        read.opened(key, good)
    }
}

impl OpenedHc1<'_> {
    /// Checks the validity of a code at `now` with the allowed clock skew, and that its key may sign this kind.
    ///
    /// # Errors
    ///
    /// `Expired`, `NotYetValid`, or `NotEntitled`.
    pub fn judge(&self, now: Option<(Time, std::time::Duration)>) -> Result<(), PassFault> {
        if let Some((now, skew)) = now {
            let pass = &self.pass;
            let begins = [pass.issued_at, self.not_before]
                .into_iter()
                .flatten()
                .max();
            if begins.is_some_and(|begins| begins > now.plus(skew)) {
                return Err(PassFault::NotYetValid);
            }
            if pass.expires_at.is_none_or(|ends| now >= ends) {
                return Err(PassFault::Expired);
            }
        }
        match self.key.kinds.has(self.pass.kind) {
            true => Ok(()),
            false => Err(PassFault::NotEntitled),
        }
    }
}

fn read_form(text: &[u8]) -> Option<UncheckedHc1> {
    if text.len() > TEXT_CHARS_MAX {
        return None;
    }
    let packed = base45::decode(text.strip_prefix(HC1_PREFIX)?).ok()?;
    let bytes = inflate(&packed, Packing::Zlib, HC1_INFLATED_MAX)?;
    let mut value = cbor(&bytes)?;
    for tag in [TAG_CWT, TAG_SIGN1] {
        value = match value {
            Value::Tag(found, inner) if found == tag => *inner,
            value => value,
        };
    }
    let Value::Array(parts) = &value else {
        return None;
    };
    match parts.first()? {
        Value::Bytes(protected) if protected.len() <= PROTECTED_BYTES_MAX => {
            if !protected.is_empty() && !cbor_is_bounded(protected) {
                return None;
            }
        }
        _ => return None,
    }
    let message = CoseSign1::from_cbor_value(value).ok()?;
    message.payload.as_ref()?;
    let (protected, unprotected) = (&message.protected.header, &message.unprotected);
    // A critical header must be understood, and this version knows none.
    if !protected.crit.is_empty() || !unprotected.crit.is_empty() {
        return None;
    }
    let algorithm = match protected.alg.as_ref().or(unprotected.alg.as_ref())? {
        RegisteredLabelWithPrivate::Assigned(algorithm) => algorithm.to_i64(),
        RegisteredLabelWithPrivate::PrivateUse(number) => *number,
        // None of the registered ones is a text.
        RegisteredLabelWithPrivate::Text(_) => 0,
    };
    let kid = match protected.key_id.is_empty() {
        false => protected.key_id.clone(),
        true => unprotected.key_id.clone(),
    };
    (kid.len() <= KID_BYTES_MAX).then_some(UncheckedHc1 {
        message,
        algorithm,
        kid,
    })
}

/// Parses CBOR that is within the bounds.
fn cbor(bytes: &[u8]) -> Option<Value> {
    if !cbor_is_bounded(bytes) {
        return None;
    }
    ciborium::de::from_reader_with_recursion_limit(bytes, CBOR_DEPTH_MAX + 2).ok()
}

/// A parsed CBOR map.
type CborMap<'v> = &'v [(Value, Value)];

/// Returns the value of a key; None if the map has no such key, or two.
fn only(map: &[(Value, Value)], is_key: impl Fn(&Value) -> bool) -> Option<&Value> {
    let mut found = map.iter().filter(|(key, _)| is_key(key));
    let (_, value) = found.next()?;
    found.next().is_none().then_some(value)
}

fn claim(claims: &[(Value, Value)], number: i64) -> Option<&Value> {
    only(claims, |key| {
        key.as_integer()
            .is_some_and(|key| i128::from(key) == i128::from(number))
    })
}

fn member<'v>(map: &'v [(Value, Value)], name: &str) -> Option<&'v Value> {
    only(map, |key| key.as_text() == Some(name))
}

fn text_of<'v>(map: &'v [(Value, Value)], name: &str) -> Option<&'v str> {
    member(map, name)?.as_text()
}

/// Returns a whole or fractional number; None for a tagged big number.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(i128::from(*number) as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

fn time(value: &Value) -> Option<Time> {
    claimed_time(number(value)?)
}

/// Signed contents whose signature is valid.
struct Claims {
    issuer: String,
    issued_at: Option<Time>,
    not_before: Option<Time>,
    expires_at: Time,
    certificate: Vec<(Value, Value)>,
}

impl Claims {
    fn read(payload: &[u8]) -> Option<Claims> {
        let value = cbor(payload)?;
        let claims = value.as_map()?;
        let optional = |number| match claim(claims, number) {
            Some(Value::Null) | None => Some(None),
            Some(value) => time(value).map(Some),
        };
        let expires_at = time(claim(claims, CLAIM_EXPIRES)?)?;
        let issued_at = optional(CLAIM_ISSUED)?;
        if issued_at.is_some_and(|issued| expires_at.since(issued) > LIFE_MAX) {
            return None;
        }
        let hcert = claim(claims, CLAIM_HCERT)?.as_map()?;
        let certificate = claim(hcert, 1)?.as_map()?;
        let issuer = claim(claims, CLAIM_ISSUER).and_then(Value::as_text);
        Some(Claims {
            issuer: shown(issuer.unwrap_or_default()),
            issued_at,
            not_before: optional(CLAIM_NOT_BEFORE)?,
            expires_at,
            certificate: certificate.clone(),
        })
    }

    /// Returns the only statement and its kind.
    fn statement(&self) -> Result<(PassKind, CborMap<'_>), PassFault> {
        let mut found = Vec::new();
        for (name, kind) in [
            ("v", PassKind::Vaccinated),
            ("t", PassKind::Tested),
            ("r", PassKind::Recovered),
        ] {
            let is_named = |key: &Value| key.as_text() == Some(name);
            for (_, entries) in self.certificate.iter().filter(|(key, _)| is_named(key)) {
                match entries {
                    Value::Null => {}
                    Value::Array(entries) => {
                        let some = entries.iter().filter(|entry| !entry.is_null());
                        found.extend(some.map(|entry| (kind, entry)));
                    }
                    _ => return Err(PassFault::Undecodable),
                }
            }
        }
        match found[..] {
            [(kind, Value::Map(entry))] => Ok((kind, entry)),
            [_] => Err(PassFault::Undecodable),
            _ => Err(PassFault::NotOneStatement),
        }
    }

    /// `others` are keys with the same id that verify the same signature: a key certified twice may sign the kinds of both.
    fn opened<'k>(
        self,
        key: &'k IssuerKey,
        others: impl Iterator<Item = &'k IssuerKey>,
    ) -> Result<OpenedHc1<'k>, PassFault> {
        let (kind, entry) = self.statement()?;
        let entitled = |key: &&IssuerKey| key.kinds.has(kind);
        let key = std::iter::once(key)
            .chain(others)
            .find(entitled)
            .unwrap_or(key);
        let date = |name| text_of(entry, name).and_then(shown_date);
        let count = |name| {
            let number = number(member(entry, name)?)?;
            (0.0..=1_000.0).contains(&number).then_some(number as u32)
        };
        let at = match kind {
            PassKind::Vaccinated => date("dt"),
            PassKind::Tested => date("sc"),
            _ => date("fr"),
        };
        let name = member(&self.certificate, "nam").and_then(Value::as_map);
        let part = |first, second| {
            let name = name?;
            let filled = |text: &&str| !text.trim().is_empty();
            let text = text_of(name, first).filter(filled);
            text.or_else(|| text_of(name, second))
        };
        let given = part("gn", "gnt").unwrap_or_default();
        let family = part("fn", "fnt").unwrap_or_default();
        let pass = ForeignPass {
            format: ForeignFormat::Hc1,
            kind,
            issuer: match key.issuer.is_empty() {
                true => self.issuer.clone(),
                false => key.issuer.clone(),
            },
            issuer_name: key.issuer_name.clone(),
            is_covid: text_of(entry, "tg").map(|disease| disease.trim() == COVID_19),
            finding: (kind == PassKind::Tested)
                .then(|| TestFinding::of_code(text_of(entry, "tr").unwrap_or_default().trim())),
            doses: (kind == PassKind::Vaccinated)
                .then(|| count("dn").map(|dose| (dose, count("sd"))))
                .flatten(),
            at,
            valid_from: date("df").filter(|_| kind == PassKind::Recovered),
            valid_until: date("du").filter(|_| kind == PassKind::Recovered),
            issued_at: self.issued_at,
            expires_at: Some(self.expires_at),
            revocation: RevocationCheck::NotChecked,
            policy: PolicyVerdict::None,
            name: masked_name(given, family),
            birth: text_of(&self.certificate, "dob").and_then(month_and_day),
        };
        Ok(OpenedHc1 {
            id: text_of(entry, "ci").map(|id| id.trim().to_owned()),
            pass,
            key,
            not_before: self.not_before,
        })
    }
}
