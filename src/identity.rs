//! Assertions of the identity platform: a JWT in, the person whom it names out. Keys come from a JWKS file.

#![warn(clippy::missing_errors_doc)]

pub mod stand_in;

use crate::answer::Refusal;
use crate::clock::Time;
use crate::person::{self, Assurance, BadDocument, Document, Profile};
use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Whose assertions of a log-in are believed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The platform's public keys; None refuses every assertion.
    pub jwks: Option<PathBuf>,
    /// The claim `iss` that an assertion must have.
    pub issuer: String,
    /// The claim `aud` that an assertion must have.
    pub audience: String,
}

/// Bytes of an assertion at most.
pub const ASSERTION_BYTES_MAX: usize = 8192;

/// How far the platform's clock may be from ours.
const LEEWAY_SECS: u64 = 5;

/// An assertion is accepted for no longer than this after it was issued: it is handed over once, in the same minutes.
const LIFE_SECS_MAX: u64 = 900;

/// Bytes of the file of keys at most.
const JWKS_BYTES_MAX: u64 = 1 << 20;

/// What an assertion was issued for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssertionPurpose {
    /// To open the person's own session. An assertion that names no purpose is for this.
    LogIn,
    /// To be added to a family.
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

/// Tells an assertion from every other by what was signed. The signature is not part of it: an ECDSA signature can be changed
/// into another that verifies as well.
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

/// The platform as this node trusts it.
pub struct Platform {
    keys: ArcSwap<Vec<TrustedKey>>,
    /// Of the file that the keys were read from: modification time, inode and length.
    stamp: Mutex<Option<FileStamp>>,
    settings: Settings,
}

type FileStamp = (std::time::SystemTime, u64, u64);

/// What became of looking at the file of keys again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// It is as it was.
    Same,
    /// So many keys are trusted now.
    Read(usize),
    /// It cannot be used, and the keys from before stay.
    Bad(String),
}

/// One key signs with one algorithm: what the token's head says is compared, never obeyed.
struct TrustedKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Claims {
    /// One text: a list of issuers is another kind of claim.
    iss: Option<serde_json::Value>,
    exp: Option<u64>,
    iat: Option<u64>,
    nbf: Option<u64>,
    purpose: Option<String>,
    cert_type: String,
    cert_no: String,
    name: String,
    assurance: String,
}

impl Platform {
    /// Reads the JWKS. An error names the file, never its contents. Keys that are not for us are passed over, each with a warning
    /// that names it; a set without one that is, is an error.
    ///
    /// # Errors
    ///
    /// Why the file of keys could not be read or understood.
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

    /// Returns whether there is a key to check assertions by.
    pub fn is_known(&self) -> bool {
        !self.keys.load().is_empty()
    }

    /// Reads the JWKS again if its file is another than before, or always where `force` says so. A bad file changes nothing.
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

    /// Returns the person whom a genuine assertion in force names, and its number, if it was issued for this purpose.
    /// `Unauthorized` otherwise. Whether it was used before is known to the store alone, by the number.
    ///
    /// # Errors
    ///
    /// `TooLarge` for a long text; `Unauthorized` for an assertion that is not the platform's, out of date or of another purpose;
    /// `OfflineRegistration` or `Malformed` for a document, name or assurance that is not taken.
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
        // Extensions that must be understood, and none is (RFC 7515, 4.1.11).
        if head.crit.is_some() {
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
            // Times are judged by the clock of this node, all of them at once.
            validation.validate_exp = false;
            validation.validate_nbf = false;
            match decode::<Claims>(assertion, &trusted.key, &validation) {
                Ok(token) => return Ok(token.claims),
                // Genuine, and not what was agreed.
                Err(error) if matches!(error.kind(), ErrorKind::Json(_)) => {
                    refusal = Refusal::Malformed;
                }
                Err(_) => {}
            }
        }
        Err(refusal)
    }
}

/// Whether an assertion is of these minutes: what was issued long ago, in the future, or for years was not made to be handed
/// over now.
/// `SessionExpired` for what is over, `Unauthorized` for the rest.
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

/// RSA keys of fewer bits do not count.
const RSA_BITS_MIN: usize = 2_048;

/// The keys of a set that sign assertions for us. A set holds keys for other uses and of other kinds as well (RFC 7517, 5):
/// these are passed over by name, and never spoil the others.
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

/// Returns the bits of a modulus in base64url, or None if it is not that.
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
    // Whole bytes: the last character has bits to spare.
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
    // Byte order marks are written by some editors.
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
            // Whoever wrote the file does not write lines of our log.
            Some(kid) => kid
                .chars()
                .take(64)
                .collect::<String>()
                .escape_debug()
                .to_string(),
            None => format!("number {} without kid", nth + 1),
        };
        match trusted_key(key) {
            Ok(key) if key.id.is_some() && trusted.iter().any(|known| known.id == key.id) => {
                reasons.push(format!("key {name}: another has the same kid"));
            }
            Ok(key) => trusted.push(key),
            Err(why) => reasons.push(format!("key {name}: {why}")),
        }
    }
    for why in &reasons {
        tracing::warn!(%why, "a key of the identity platform is passed over");
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
    // Before its kind: a key for encryption never verifies, whatever else it says.
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

/// Refuses keys whose numbers verify nothing, or anything: points off their curve, points of small order, an RSA exponent below 3.
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

/// Whether the y of an Ed25519 point, whatever its sign, is that of one of the eight points whose order divides 8: 0, 1, -1, and
/// two others with their negatives, also spelled with p added (RFC 8032, 5.1.7; the values are those of the curve's torsion).
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
