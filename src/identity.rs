//! Verifies assertions (JWT) of the identity platform and returns the person. Keys come from a JWKS file.

pub mod stand_in;

use crate::clock::Time;
use crate::person::{self, Assurance, BadDocument, Document, Profile};
use crate::refusal::Refusal;
use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::{Deserialize, Deserializer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Settings of the identity platform.
#[derive(Clone, Debug)]
pub struct Settings {
    /// File with the platform's public keys; None refuses every assertion.
    pub jwks: Option<PathBuf>,
    /// Required value of the claim `iss`.
    pub issuer: String,
    /// Required value of the claim `aud`.
    pub audience: String,
}

/// Longest assertion in bytes.
pub const ASSERTION_BYTES_MAX: usize = 8192;

/// Allowed difference of the platform's clock in seconds.
const LEEWAY_SECS: u64 = 5;

/// Longest age of an assertion in seconds: it is handed over once, within minutes.
const LIFE_SECS_MAX: u64 = 900;

/// Largest JWKS file in bytes.
const JWKS_BYTES_MAX: u64 = 1 << 20;

/// Purpose of an assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssertionPurpose {
    /// Opens the person's own session. The default without a named purpose.
    LogIn,
    /// Adds the person to a family.
    Family,
}

impl AssertionPurpose {
    fn word(self) -> &'static str {
        match self {
            AssertionPurpose::LogIn => "log_in",
            AssertionPurpose::Family => "family",
        }
    }
}

/// Number of an assertion, a hash of the signed part. The signature is left out, because an ECDSA signature can be changed into
/// another valid one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssertionNumber(pub [u8; 32]);

impl AssertionNumber {
    fn of(assertion: &str) -> AssertionNumber {
        let signed = assertion
            .rsplit_once('.')
            .map_or(assertion, |(signed, _)| signed);
        let hash = digest::digest(&digest::SHA256, signed.as_bytes());
        AssertionNumber(hash.as_ref().try_into().expect("32 bytes of SHA-256"))
    }
}

/// The identity platform, with its keys.
pub struct Platform {
    keys: ArcSwap<Vec<TrustedKey>>,
    /// Modification time, inode and length of the key file.
    stamp: Mutex<Option<FileStamp>>,
    settings: Settings,
}

type FileStamp = (std::time::SystemTime, u64, u64);

/// Result of reading the key file again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The file did not change.
    Same,
    /// The file was read; holds the number of keys.
    Read(usize),
    /// The file is faulty, and the former keys stay. Holds the fault.
    Bad(String),
}

/// A key with its only algorithm: the token's header is compared with it, never followed.
struct TrustedKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl TrustedKey {
    fn is_named_like(&self, other: &TrustedKey) -> bool {
        self.id == other.id && self.algorithm == other.algorithm
    }
}

#[derive(Deserialize)]
struct Claims {
    /// A string; a list of issuers is another claim.
    iss: Option<serde_json::Value>,
    #[serde(default, deserialize_with = "numeric_date")]
    exp: Option<u64>,
    #[serde(default, deserialize_with = "numeric_date")]
    iat: Option<u64>,
    #[serde(default, deserialize_with = "numeric_date")]
    nbf: Option<u64>,
    purpose: Option<String>,
    cert_type: String,
    cert_no: String,
    name: String,
    assurance: String,
}

/// Parses a NumericDate (RFC 7519, 2) into seconds since 1970. A fraction of a second is allowed, and cut off.
fn numeric_date<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    let seconds = Option::<f64>::deserialize(value)?;
    match seconds {
        Some(seconds) if seconds < 0.0 => Err(serde::de::Error::custom("a time before 1970")),
        // Times past all bounds stay so.
        seconds => Ok(seconds.map(|seconds| seconds as u64)),
    }
}

impl Platform {
    /// Reads the JWKS. Unusable keys are skipped, each with a warning that names it.
    ///
    /// # Errors
    ///
    /// Why the file cannot be used, with its name and without its contents. A set without usable keys is an error.
    pub fn read(settings: Settings) -> Result<Platform, String> {
        let stamp = settings.jwks.as_deref().and_then(stamp);
        let keys = match &settings.jwks {
            Some(path) => read_keys(path).map_err(|why| format!("{}: {why}", path.display()))?,
            None => Vec::new(),
        };
        Ok(Platform {
            keys: ArcSwap::from_pointee(keys),
            stamp: Mutex::new(stamp),
            settings,
        })
    }

    /// Returns whether there is a key.
    pub fn is_known(&self) -> bool {
        !self.keys.load().is_empty()
    }

    /// Reads the JWKS again if its file changed, or if `force` is set. A faulty file changes nothing.
    pub fn reload(&self, force: bool) -> Reloaded {
        let Some(path) = &self.settings.jwks else {
            return Reloaded::Same;
        };
        let now = stamp(path);
        {
            let mut known = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
            if *known == now && !force {
                return Reloaded::Same;
            }
            *known = now;
        }
        match read_keys(path) {
            Ok(keys) => {
                let count = keys.len();
                self.keys.store(Arc::new(keys));
                Reloaded::Read(count)
            }
            Err(why) => Reloaded::Bad(format!("{}: {why}", path.display())),
        }
    }

    /// Verifies an assertion for a purpose. Returns the person and the assertion's number, by which the store knows whether it
    /// was used.
    ///
    /// # Errors
    ///
    /// `TooLarge` for a long text; `Unauthorized` for an assertion that is not the platform's, of another time or purpose;
    /// `SessionExpired` for an expired one; `OfflineRegistration` or `Malformed` for a document, name or assurance that is
    /// refused.
    pub fn person(
        &self,
        assertion: &str,
        purpose: AssertionPurpose,
        now: Time,
    ) -> Result<(Profile, AssertionNumber), Refusal> {
        if assertion.len() > ASSERTION_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        let claims = self.verify(assertion)?;
        check_life(&claims, now)?;
        let said = claims
            .purpose
            .as_deref()
            .unwrap_or(AssertionPurpose::LogIn.word());
        if said != purpose.word() {
            return Err(Refusal::Unauthorized);
        }
        let document = Document::parse(&claims.cert_type, &claims.cert_no, now.day()).map_err(
            |bad| match bad {
                BadDocument::OfflineRegistration => Refusal::OfflineRegistration,
                BadDocument::Form | BadDocument::BirthDate | BadDocument::CheckDigit => {
                    Refusal::Malformed
                }
            },
        )?;
        let assurance = Assurance::parse(&claims.assurance).ok_or(Refusal::Malformed)?;
        if !person::is_name(&claims.name) {
            return Err(Refusal::Malformed);
        }
        let profile = Profile {
            document,
            name: Some(claims.name),
            assurance,
        };
        Ok((profile, AssertionNumber::of(assertion)))
    }

    fn verify(&self, assertion: &str) -> Result<Claims, Refusal> {
        use jsonwebtoken::errors::ErrorKind;
        let head = decode_header(assertion).map_err(|_| Refusal::Unauthorized)?;
        if has_critical(assertion) {
            return Err(Refusal::Unauthorized);
        }
        let mut refusal = Refusal::Unauthorized;
        for trusted in self.keys.load().iter() {
            let named = head.kid.is_none() || trusted.id.is_none() || head.kid == trusted.id;
            if !named || head.alg != trusted.algorithm {
                continue;
            }
            let mut validation = Validation::new(trusted.algorithm);
            validation.set_issuer(&[&self.settings.issuer]);
            validation.set_audience(&[&self.settings.audience]);
            validation.set_required_spec_claims(&["exp", "iss", "aud"]);
            // All times are checked by this node's clock.
            validation.validate_exp = false;
            validation.validate_nbf = false;
            match decode::<Claims>(assertion, &trusted.key, &validation) {
                Ok(token) => return Ok(token.claims),
                // Genuine, but not as agreed.
                Err(error) if matches!(error.kind(), ErrorKind::Json(_)) => {
                    refusal = Refusal::Malformed;
                }
                Err(_) => {}
            }
        }
        Err(refusal)
    }
}

/// Returns whether the header of an assertion names critical extensions (RFC 7515, 4.1.11), which must be understood, and none
/// is. Any value counts, also `null`, which the standard does not count as a value.
fn has_critical(assertion: &str) -> bool {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let head = assertion.split('.').next().unwrap_or_default();
    let head = URL_SAFE_NO_PAD.decode(head).unwrap_or_default();
    let head = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&head);
    head.map_or(true, |head| head.contains_key("crit"))
}

/// Checks that an assertion was issued within the last minutes. One from long ago, from the future or valid for years was not
/// made for a log-in now.
/// `SessionExpired` if it has expired, else `Unauthorized`.
fn check_life(claims: &Claims, now: Time) -> Result<(), Refusal> {
    let now = now.0 / 1_000;
    let expires = claims.exp.ok_or(Refusal::Unauthorized)?;
    if now >= expires.saturating_add(LEEWAY_SECS) {
        return Err(Refusal::SessionExpired);
    }
    let from = claims.iat.unwrap_or(now);
    let latest = now.saturating_add(LEEWAY_SECS);
    let is_new = from <= latest
        && claims.nbf.is_none_or(|begins| begins <= latest)
        && now <= from.saturating_add(LIFE_SECS_MAX + LEEWAY_SECS);
    let is_short = expires <= from.saturating_add(LIFE_SECS_MAX + LEEWAY_SECS);
    let is_one = claims
        .iss
        .as_ref()
        .is_some_and(serde_json::Value::is_string);
    match is_new && is_short && is_one {
        true => Ok(()),
        false => Err(Refusal::Unauthorized),
    }
}

fn stamp(path: &Path) -> Option<FileStamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.ino(), metadata.len()))
}

/// Smallest RSA key in bits.
const RSA_BITS_MIN: usize = 2_048;

/// Returns the keys for signatures. A set may hold keys for other uses and of other types (RFC 7517, 5), which are skipped and
/// do not affect the others.
fn read_keys(path: &Path) -> Result<Vec<TrustedKey>, String> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let why = |error: std::io::Error| error.to_string();
    // Opening a FIFO would wait for its writer.
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let file = opened.map_err(why)?;
    if !file.metadata().map_err(why)?.is_file() {
        return Err("not a regular file".into());
    }
    let mut text = Vec::new();
    let mut bounded = file.take(JWKS_BYTES_MAX + 1);
    bounded.read_to_end(&mut text).map_err(why)?;
    if text.len() as u64 > JWKS_BYTES_MAX {
        return Err(format!("more than {JWKS_BYTES_MAX} bytes"));
    }
    keys_of(&text)
}

/// Returns the length in bits of a modulus in base64url; None for other text.
fn modulus_bits(text: &str) -> Option<usize> {
    let text = text.trim_end_matches('=');
    let value = |byte| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    };
    let values: Option<Vec<u8>> = text.bytes().map(value).collect();
    let values = values?;
    // Only whole bytes count: the last character has spare bits.
    let bits = values.len() * 6 / 8 * 8;
    let zeros = values.iter().take_while(|value| **value == 0).count();
    let first = values
        .get(zeros)
        .map_or(0, |value| value.leading_zeros() as usize - 2);
    bits.checked_sub(zeros * 6 + first)
}

fn keys_of(text: &[u8]) -> Result<Vec<TrustedKey>, String> {
    #[derive(Deserialize)]
    struct KeySet {
        keys: Vec<serde_json::Value>,
    }
    // Some editors write byte order marks.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let set: KeySet =
        serde_json::from_slice(text).map_err(|error| format!("not a JWKS: {error}"))?;
    if set.keys.is_empty() {
        return Err("the JWKS holds no key".into());
    }
    let mut trusted: Vec<TrustedKey> = Vec::new();
    let mut reasons = Vec::new();
    for (nth, key) in set.keys.into_iter().enumerate() {
        let name = match key.get("kid").and_then(serde_json::Value::as_str) {
            // The author of the file must not write lines into our log.
            Some(kid) => kid
                .chars()
                .take(64)
                .collect::<String>()
                .escape_debug()
                .to_string(),
            None => format!("number {} without kid", nth + 1),
        };
        match trusted_key(key) {
            // Keys of two types may have one kid (RFC 7517, 4.5); the algorithm tells them apart.
            Ok(key)
                if key.id.is_some() && trusted.iter().any(|known| known.is_named_like(&key)) =>
            {
                reasons.push(format!("key {name}: another has the same kid"));
            }
            Ok(key) => trusted.push(key),
            Err(why) => reasons.push(format!("key {name}: {why}")),
        }
    }
    for why in &reasons {
        tracing::warn!(%why, "a key of the identity platform is skipped");
    }
    match trusted.is_empty() {
        true => Err(format!(
            "no key signs assertions for us: {}",
            reasons.join("; ")
        )),
        false => Ok(trusted),
    }
}

fn trusted_key(key: serde_json::Value) -> Result<TrustedKey, String> {
    use jsonwebtoken::jwk::{AlgorithmParameters::*, EllipticCurve, Jwk};
    // Checked before the type: an encryption key never verifies, whatever else it says.
    let said = |name: &str| key.get(name).cloned();
    if said("use").is_some_and(|used| used != "sig") {
        return Err("its use is not sig".to_owned());
    }
    if let Some(operations) = said("key_ops") {
        let operations = operations.as_array().cloned().unwrap_or_default();
        if !operations.iter().any(|operation| operation == "verify") {
            return Err("its key_ops do not hold verify".to_owned());
        }
    }
    let alg = said("alg");
    let jwk: Jwk =
        serde_json::from_value(key).map_err(|_| "not a kind that is known".to_owned())?;
    let algorithm = match &jwk.algorithm {
        OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
        RSA(rsa) => {
            let bits = modulus_bits(&rsa.n);
            if bits.is_none_or(|bits| bits < RSA_BITS_MIN) {
                return Err(format!("RSA of fewer than {RSA_BITS_MIN} bits"));
            }
            Algorithm::RS256
        }
        _ => return Err("not for EdDSA, ES256 or RS256".to_owned()),
    };
    if alg.is_some_and(|alg| alg != format!("{algorithm:?}").as_str()) {
        return Err("its alg does not fit its kind".to_owned());
    }
    check_material(&jwk.algorithm)?;
    let id = jwk.common.key_id.clone();
    let key = DecodingKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
    Ok(TrustedKey { id, algorithm, key })
}

/// Refuses keys that verify nothing or anything: points off their curve or of small order, RSA exponents below 3.
fn check_material(parameters: &jsonwebtoken::jwk::AlgorithmParameters) -> Result<(), String> {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::jwk::AlgorithmParameters::*;
    let bytes = |text: &str| {
        let read = URL_SAFE_NO_PAD.decode(text);
        read.map_err(|_| "its numbers are not base64url".to_owned())
    };
    let no_point = |_| "its point is not on its curve".to_owned();
    match parameters {
        OctetKeyPair(pair) => {
            let point = bytes(&pair.x)?;
            if has_small_order(&point) {
                return Err("its point has a small order: anybody could sign".to_owned());
            }
            ParsedPublicKey::new(&ED25519, &point).map_err(no_point)?;
        }
        EllipticCurve(curve) => {
            let (x, y) = (bytes(&curve.x)?, bytes(&curve.y)?);
            if x.len() != 32 || y.len() != 32 {
                return Err("its coordinates have 32 bytes each".to_owned());
            }
            let point = [&[4][..], &x, &y].concat();
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).map_err(no_point)?;
        }
        RSA(rsa) => {
            let exponent = bytes(&rsa.e)?;
            let first = exponent.iter().position(|byte| *byte != 0);
            let digits = first.map_or(&[][..], |first| &exponent[first..]);
            let is_odd = digits.last().is_some_and(|last| last % 2 == 1);
            if !is_odd || digits == [1] {
                return Err("its exponent is not an odd number from 3 on".to_owned());
            }
        }
        _ => {}
    }
    Ok(())
}

/// Returns whether the y coordinate of an Ed25519 point is that of one of the eight points whose order divides 8, in any
/// spelling (RFC 8032, 5.1.7; the values are the curve's torsion points).
fn has_small_order(point: &[u8]) -> bool {
    let Ok(mut y) = <[u8; 32]>::try_from(point) else {
        return false;
    };
    y[31] &= 0x7f;
    // p = 2^255 - 19, little endian.
    let mut p = [0xff; 32];
    (p[0], p[31]) = (0xed, 0x7f);
    let plus = |base: [u8; 32], more: u8| {
        let mut sum = base;
        sum[0] = sum[0].wrapping_add(more);
        sum
    };
    let minus_one = plus(p, 0xff);
    let one = plus([0; 32], 1);
    let of_order_eight = [
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    ];
    [[0; 32], one, minus_one, p, plus(p, 1)].contains(&y)
        || of_order_eight.contains(&crate::hex::text(&y).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_names_critical_extensions_is_found_whatever_it_says_of_them() {
        use base64::Engine;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        for (head, is_critical) in [
            (r#"{"alg":"EdDSA","kid":"a"}"#, false),
            (r#"{"alg":"EdDSA","crit":["x"]}"#, true),
            (r#"{"alg":"EdDSA","crit":[]}"#, true),
            (r#"{"alg":"EdDSA","crit":null}"#, true),
            (r#"{"alg":"EdDSA","cr\u0069t":null}"#, true),
            ("[]", true),
        ] {
            let assertion = format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(head));
            assert_eq!(has_critical(&assertion), is_critical, "{head}");
        }
    }

    #[test]
    fn bits_of_a_modulus_are_counted_exactly() {
        let text = |first: &str, more: usize| format!("{first}{}", "_".repeat(more));
        // 342 characters are 256 bytes and four bits to spare.
        for (modulus, bits) in [
            (text("_", 341), Some(2_048)),
            (text("g", 341), Some(2_048)),
            (text("f", 341), Some(2_047)),
            (text("B", 341), Some(2_043)),
            (text("AA", 342), Some(2_052)),
            (text("AA__", 338), Some(2_036)),
            (text("_", 340), Some(2_040)),
            (String::new(), Some(0)),
            ("+/".to_owned(), None),
        ] {
            assert_eq!(
                modulus_bits(&modulus),
                bits,
                "{} {}",
                modulus.len(),
                &modulus[..modulus.len().min(4)]
            );
        }
    }

    #[test]
    fn keys_that_verify_anything_or_nothing_are_passed_over_by_name() {
        use base64::Engine;
        let text = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let ed = |x: &[u8]| serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "kid": "weak", "x": text(x) });
        let mut weak: Vec<serde_json::Value> = [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        ]
        .map(|digits| ed(&crate::hex::array::<32>(digits).unwrap()))
        .to_vec();
        weak.push(ed(&[9; 3]));
        let ec = |x: &[u8], y: &[u8]| serde_json::json!({ "kty": "EC", "crv": "P-256", "kid": "off", "x": text(x), "y": text(y) });
        weak.extend([ec(&[1; 32], &[2; 32]), ec(&[1; 3], &[2; 3])]);
        for e in [&[1][..], &[0, 1], &[0], &[4], &[]] {
            weak.push(serde_json::json!({
                "kty": "RSA", "kid": "e", "n": format!("_{}", "_".repeat(341)), "e": text(e),
            }));
        }
        for key in weak {
            let set = serde_json::json!({ "keys": [key] }).to_string();
            let why = keys_of(set.as_bytes())
                .err()
                .expect("no key of it signs for us");
            assert!(why.contains("key "), "{key}: {why}");
        }
    }

    #[test]
    fn keys_of_two_types_may_have_one_kid_and_two_of_one_type_may_not() {
        let set: serde_json::Value =
            serde_json::from_str(include_str!("../tests/it/identity/jwks.json")).unwrap();
        let named = |nth: usize| {
            let mut key = set["keys"][nth].clone();
            key["kid"] = "one".into();
            key
        };
        for (keys, taken) in [
            (vec![named(0), named(1), named(2)], 3),
            (vec![named(1), named(1), named(2)], 2),
        ] {
            let set = serde_json::json!({ "keys": keys }).to_string();
            assert_eq!(keys_of(set.as_bytes()).unwrap().len(), taken);
        }
    }

    #[test]
    fn a_kid_writes_no_line_of_its_own() {
        let set = serde_json::json!({ "keys": [{ "kty": "oct", "kid": "a\nINFO b\u{1b}[0m" }] });
        let why = keys_of(set.to_string().as_bytes()).err().expect("no key");
        assert!(!why.contains(char::is_control), "{why:?}");
    }

    #[test]
    fn the_signature_is_not_part_of_the_number() {
        let number = AssertionNumber::of;
        assert_eq!(number("a.b.c"), number("a.b.d"));
        assert_ne!(number("a.b.c"), number("a.c.c"));
    }

    #[test]
    fn a_file_of_keys_is_regular_and_of_bounded_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert_eq!(read_keys(&path).err().unwrap(), "not a regular file");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, vec![b' '; JWKS_BYTES_MAX as usize + 1]).unwrap();
        assert!(read_keys(&path).err().unwrap().contains("more than"));
        assert_eq!(
            read_keys(folder.path()).err().unwrap(),
            "not a regular file"
        );
    }

    #[test]
    fn times_of_an_assertion_may_have_a_fraction() {
        let read = |exp: &str| {
            let rest = r#""cert_type":"10","cert_no":"","name":"","assurance":"""#;
            let claims = serde_json::from_str::<Claims>(&format!("{{\"exp\":{exp},{rest}}}"));
            claims.ok().map(|claims| claims.exp)
        };
        for (exp, seconds) in [
            ("1700000000", Some(Some(1_700_000_000))),
            ("1700000000.999", Some(Some(1_700_000_000))),
            ("1.7e9", Some(Some(1_700_000_000))),
            ("18446744073709551615", Some(Some(u64::MAX))),
            ("null", Some(None)),
            ("-1", None),
            ("\"1700000000\"", None),
            ("[1700000000]", None),
        ] {
            assert_eq!(read(exp), seconds, "{exp}");
        }
    }

    #[test]
    fn all_times_of_an_assertion_are_judged_by_one_clock() {
        let claims = |iat: Option<u64>, nbf: Option<u64>, exp: Option<u64>| Claims {
            iss: Some("id".into()),
            exp,
            iat,
            nbf,
            purpose: None,
            cert_type: String::new(),
            cert_no: String::new(),
            name: String::new(),
            assurance: String::new(),
        };
        let no = Err(Refusal::Unauthorized);
        for (claims, said) in [
            (claims(Some(1_000), Some(1_000), Some(1_300)), Ok(())),
            (claims(None, None, Some(1_300)), Ok(())),
            (claims(Some(1_000), None, Some(1_000)), Ok(())),
            (
                claims(Some(900), None, Some(990)),
                Err(Refusal::SessionExpired),
            ),
            (claims(Some(1_000), None, None), no),
            (claims(Some(1_000), Some(1_100), Some(1_300)), no),
            (claims(Some(1_100), None, Some(1_300)), no),
            (claims(Some(1_000), None, Some(2_000)), no),
            (claims(Some(10), None, Some(1_300)), no),
        ] {
            assert_eq!(check_life(&claims, Time(1_000_000)), said);
        }
    }
}
