//! Public keys of other issuers, and signatures checked by them. They come from files alone, never from a code.

use super::bounds::{ES256_BYTES, PS256_BYTES, RSA_BITS};
use super::pass::PassKinds;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A public key that signs in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuerPublicKey {
    /// An uncompressed point of P-256.
    Es256(Box<[u8; 65]>),
    /// Modulus and exponent.
    Ps256(Box<[u8]>, Box<[u8]>),
}

impl IssuerPublicKey {
    /// Returns the key with these coordinates. Lists in the field write a zero byte before them, or leave one out.
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

    /// Returns the RSA key of modulus and exponent, where its size is within bounds.
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

    /// Returns the name of the algorithm, as JWS has it.
    pub fn algorithm(&self) -> &'static str {
        match self {
            IssuerPublicKey::Es256(_) => "ES256",
            IssuerPublicKey::Ps256(..) => "PS256",
        }
    }

    /// Returns whether this key made the signature over the message.
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

/// A key as a trust list holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerKey {
    /// The public key.
    pub public: IssuerPublicKey,
    /// A country, or the address of an issuer.
    pub issuer: String,
    /// The name of the issuer for people; None where its list has none.
    pub issuer_name: Option<String>,
    /// What it may say.
    pub kinds: PassKinds,
    /// The codes that the issuer revoked; None where there is no list.
    pub revoked: Option<RevokedCodes>,
    /// Which section of the trust file it came by.
    pub section: usize,
}

/// Codes of a key that were revoked, by their own ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevokedCodes {
    /// Each with the second up to which codes of this id are revoked; None for all.
    ids: HashMap<String, Option<u64>>,
    /// Whether the list is as new as the key says that there is one.
    pub is_current: bool,
}

impl RevokedCodes {
    /// Reads entries: an id, or an id and a second behind a dot.
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

    /// Returns whether a code with this id that was issued at a second is revoked.
    pub fn has(&self, id: &str, issued_second: f64) -> bool {
        match self.ids.get(id) {
            None => false,
            Some(None) => true,
            Some(Some(until)) => issued_second <= *until as f64,
        }
    }
}

/// A key in a file: a JWK, and what belongs to it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// The id that codes name: base64 of an HC1's, the text itself of a SMART Health Card's.
    pub kid: String,
    /// The issuer that the key belongs to.
    pub issuer: String,
    /// The name of the issuer for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The type of the key, as JWK has it.
    pub kty: String,
    /// The curve, of an elliptic key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    /// The first coordinate, in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// The second coordinate, in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    /// The modulus of an RSA key, in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    /// The exponent of an RSA key, in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
    /// What the key may say; without it, anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<String>>,
    /// Ids of revoked codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Vec<String>>,
    /// Whether the list of revoked codes is older than the key says that there is one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked_is_old: bool,
}

/// A file of keys, as `liangma trust import` writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerKeyFile {
    /// `hc1` or `shc`.
    pub format: String,
    /// Where it came from, for people.
    #[serde(default)]
    pub source: String,
    /// When it was imported.
    pub imported_at: String,
    /// All keys of the file.
    pub keys: Vec<KeyEntry>,
}

/// Reads base64 of either alphabet, with or without padding.
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
    /// Returns the public key; None where it is none that this version checks.
    pub fn public(&self) -> Option<IssuerPublicKey> {
        let part = |part: &Option<String>| base64_any(part.as_deref()?);
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("EC", Some("P-256")) => IssuerPublicKey::of_point(&part(&self.x)?, &part(&self.y)?),
            ("RSA", None) => IssuerPublicKey::of_rsa(&part(&self.n)?, &part(&self.e)?),
            _ => None,
        }
    }

    /// Fills the members of a public key.
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

    /// Prints the id of an HC1's key.
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
