//! Public keys of other issuers, and signature checks. Keys come from files only, never from a code.

use super::bounds::{ES256_BYTES, PS256_BYTES, RSA_BITS};
use super::pass::PassKinds;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A public key with its only signature algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuerPublicKey {
    /// An uncompressed P-256 point.
    Es256(Box<[u8; 65]>),
    /// Modulus and exponent.
    Ps256(Box<[u8]>, Box<[u8]>),
}

impl IssuerPublicKey {
    /// Returns the P-256 key with these coordinates; None if there is none. Leading zero bytes may be missing or extra, as in
    /// published lists.
    pub fn of_point(x: &[u8], y: &[u8]) -> Option<IssuerPublicKey> {
        let mut point = [0; 65];
        point[0] = 4;
        for (part, end) in [(x, 33), (y, 65)] {
            let part = match part {
                [0, rest @ ..] if part.len() == 33 => rest,
                part => part,
            };
            if part.is_empty() || part.len() > 32 {
                return None;
            }
            point[end - part.len()..end].copy_from_slice(part);
        }
        Some(IssuerPublicKey::Es256(Box::new(point)))
    }

    /// Returns the RSA key with this modulus and exponent; None if its size is out of bounds.
    pub fn of_rsa(modulus: &[u8], exponent: &[u8]) -> Option<IssuerPublicKey> {
        fn plain(number: &[u8]) -> &[u8] {
            let zeros = number.iter().take_while(|byte| **byte == 0).count();
            &number[zeros..]
        }
        let (modulus, exponent) = (plain(modulus), plain(exponent));
        let bits = modulus.len() * 8 - modulus.first()?.leading_zeros() as usize;
        let is_good = RSA_BITS.contains(&bits) && (1..=8).contains(&exponent.len());
        is_good.then(|| IssuerPublicKey::Ps256(modulus.into(), exponent.into()))
    }

    /// Returns the JWS name of the algorithm.
    pub fn algorithm(&self) -> &'static str {
        match self {
            IssuerPublicKey::Es256(_) => "ES256",
            IssuerPublicKey::Ps256(..) => "PS256",
        }
    }

    /// Returns whether this key signed the message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            IssuerPublicKey::Es256(point) => {
                signature.len() == ES256_BYTES
                    && UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point[..])
                        .verify(message, signature)
                        .is_ok()
            }
            IssuerPublicKey::Ps256(n, e) => {
                PS256_BYTES.contains(&signature.len())
                    && RsaPublicKeyComponents {
                        n: &n[..],
                        e: &e[..],
                    }
                    .verify(&RSA_PSS_2048_8192_SHA256, message, signature)
                    .is_ok()
            }
        }
    }
}

/// A key in the trust list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerKey {
    /// The public key.
    pub public: IssuerPublicKey,
    /// The issuer: a country, or an address.
    pub issuer: String,
    /// Name of the issuer for people; None if its list has none.
    pub issuer_name: Option<String>,
    /// Kinds that the key may sign.
    pub kinds: PassKinds,
    /// Codes that the issuer revoked; None without a revocation list.
    pub revoked: Option<RevokedCodes>,
    /// Index of the section in the trust file.
    pub section: usize,
}

/// Revoked codes of one key, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevokedCodes {
    /// Each id with the second up to which its codes are revoked; None for all.
    ids: HashMap<String, Option<u64>>,
    /// Whether the revocation list is as new as the key says.
    pub is_current: bool,
}

impl RevokedCodes {
    /// Parses entries: an id, or an id, a dot and a second.
    pub fn read(entries: &[String], is_current: bool) -> RevokedCodes {
        let mut ids = HashMap::new();
        for entry in entries {
            let parts = entry.rsplit_once('.');
            let parts = parts.and_then(|(id, second)| Some((id, second.parse::<u64>().ok()?)));
            let (id, until) = match parts {
                Some((id, second)) => (id, Some(second)),
                None => (entry.as_str(), None),
            };
            ids.entry(id.to_owned())
                .and_modify(|known: &mut Option<u64>| {
                    *known = (*known).zip(until).map(|(known, until)| known.max(until));
                })
                .or_insert(until);
        }
        RevokedCodes { ids, is_current }
    }

    /// Returns whether a code with this id and issue time, in seconds since 1970, is revoked.
    pub fn has(&self, id: &str, issued_second: f64) -> bool {
        match self.ids.get(id) {
            None => false,
            Some(None) => true,
            Some(Some(until)) => issued_second <= *until as f64,
        }
    }
}

/// A key in a key file: a JWK and its attributes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// The key id that codes name: base64 for HC1, text for SMART Health Cards.
    pub kid: String,
    /// The issuer of the key.
    pub issuer: String,
    /// The name of the issuer for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// JWK key type.
    pub kty: String,
    /// JWK curve of an elliptic key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    /// X coordinate in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// Y coordinate in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    /// RSA modulus in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    /// RSA exponent in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
    /// Kinds that the key may sign; None for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<String>>,
    /// Ids of revoked codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Vec<String>>,
    /// Whether the revocation list is older than the key says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked_is_old: bool,
}

/// A key file as `liangma trust import` writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerKeyFile {
    /// `hc1` or `shc`.
    pub format: String,
    /// The place from which the list was taken, for people who read this file.
    #[serde(default)]
    pub source: String,
    /// When the list was imported.
    pub imported_at: String,
    /// The keys.
    pub keys: Vec<KeyEntry>,
}

/// Decodes base64 of either alphabet, with or without padding.
pub fn base64_any(text: &str) -> Option<Vec<u8>> {
    let plain: String = text
        .trim_end_matches('=')
        .chars()
        .map(|c| match c {
            '+' => '-',
            '/' => '_',
            c => c,
        })
        .collect();
    BASE64_URL_SAFE_NO_PAD.decode(plain).ok()
}

impl KeyEntry {
    /// Returns the public key; None if this version does not support its type.
    pub fn public(&self) -> Option<IssuerPublicKey> {
        let part = |part: &Option<String>| base64_any(part.as_deref()?);
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("EC", Some("P-256")) => IssuerPublicKey::of_point(&part(&self.x)?, &part(&self.y)?),
            ("RSA", None) => IssuerPublicKey::of_rsa(&part(&self.n)?, &part(&self.e)?),
            _ => None,
        }
    }

    /// Sets the members of a public key.
    pub fn with(mut self, public: &IssuerPublicKey) -> KeyEntry {
        let text = |bytes: &[u8]| Some(BASE64_URL_SAFE_NO_PAD.encode(bytes));
        match public {
            IssuerPublicKey::Es256(point) => {
                self.kty = "EC".to_owned();
                self.crv = Some("P-256".to_owned());
                (self.x, self.y) = (text(&point[1..33]), text(&point[33..]));
            }
            IssuerPublicKey::Ps256(n, e) => {
                self.kty = "RSA".to_owned();
                (self.n, self.e) = (text(n), text(e));
            }
        }
        self
    }

    /// Returns the printed key id of an HC1 key.
    pub fn hc1_kid(kid: &[u8]) -> String {
        BASE64_STANDARD.encode(kid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_within_bounds_are_read_and_others_are_not() {
        let (x, y) = ([1; 32], [2; 32]);
        let key = IssuerPublicKey::of_point(&x, &y);
        assert!(key.is_some());
        assert_eq!(IssuerPublicKey::of_point(&[&[0][..], &x].concat(), &y), key);
        assert_eq!(
            IssuerPublicKey::of_point(&[&[7][..], &x].concat(), &y),
            None
        );
        let short = IssuerPublicKey::of_point(&x[..31], &y);
        assert_eq!(
            short,
            IssuerPublicKey::of_point(&[&[0][..], &x[..31]].concat(), &y)
        );
        assert_eq!(IssuerPublicKey::of_point(&[], &y), None);
        for (bits, expected) in [
            (1_024, false),
            (2_047, false),
            (2_048, true),
            (4_096, true),
            (4_104, false),
        ] {
            let mut modulus = vec![0xff; usize::div_ceil(bits, 8)];
            modulus[0] >>= modulus.len() * 8 - bits;
            assert_eq!(
                IssuerPublicKey::of_rsa(&modulus, &[1, 0, 1]).is_some(),
                expected,
                "{bits}"
            );
            let longer = [&[0][..], &modulus].concat();
            assert_eq!(
                IssuerPublicKey::of_rsa(&longer, &[1, 0, 1]).is_some(),
                expected
            );
        }
        assert_eq!(IssuerPublicKey::of_rsa(&[], &[1]), None);
        assert_eq!(IssuerPublicKey::of_rsa(&[0xff; 256], &[]), None);
        let key = key.unwrap();
        let entry = KeyEntry::default().with(&key);
        assert_eq!(entry.public(), Some(key.clone()));
        for length in [0, 63, 65, 128] {
            assert!(!key.verifies(b"message", &vec![1; length]));
        }
        assert!(!key.verifies(b"message", &[0; 64]));
    }

    #[test]
    fn a_revoked_id_counts_up_to_its_second() {
        let entries = ["a", "b.100", "c.50", "c", "d.5", "d.9", "e.x"].map(str::to_owned);
        let revoked = RevokedCodes::read(&entries, true);
        for (id, second, expected) in [
            ("a", 1e12, true),
            ("b", 100.0, true),
            ("b", 100.5, false),
            ("c", 1e12, true),
            ("d", 7.0, true),
            ("d", 10.0, false),
            ("e.x", 1.0, true),
            ("f", 0.0, false),
        ] {
            assert_eq!(revoked.has(id, second), expected, "{id} {second}");
        }
    }
}
