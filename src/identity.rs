//! Assertions of the identity platform: a JWT in, the person whom it names out. Keys come from a JWKS file.

use crate::answer::Refusal;
use crate::clock::Time;
use crate::person::{self, Assurance, BadDocument, Document, Profile};
use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Debug)]
pub struct Settings {
    /// The platform's public keys; None refuses every assertion.
    pub jwks: Option<PathBuf>,
    pub issuer: String,
    pub audience: String,
}

/// Bytes of an assertion at most.
pub const ASSERTION_BYTES_MAX: usize = 8192;

/// How far the platform's clock may be from ours.
const LEEWAY_SECS: u64 = 5;

/// An assertion is accepted for no longer than this after it was issued: it is handed over once, in the same minutes.
const LIFE_SECS_MAX: u64 = 900;

/// Assertions that are remembered as used, on this node; each until it would have expired.
const USED_MAX: u64 = 1_000_000;

/// What an assertion was issued for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To open the person's own session. An assertion that names no purpose is for this.
    LogIn,
    /// To be added to a family.
    Family,
}

impl Purpose {
    fn word(self) -> &'static str {
        match self {
            Purpose::LogIn => "log_in",
            Purpose::Family => "family",
        }
    }
}

/// The platform as this node trusts it.
pub struct Platform {
    keys: ArcSwap<Vec<TrustedKey>>,
    /// Of the file that the keys were read from: modification time, inode and length.
    stamp: Mutex<Option<Stamp>>,
    /// Hashes of assertions that were accepted, and for whom: who repeats a request is not refused.
    used: moka::sync::Cache<[u8; 32], [u8; 16]>,
    settings: Settings,
}

type Stamp = (std::time::SystemTime, u64, u64);

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
    purpose: Option<String>,
    cert_type: String,
    cert_no: String,
    name: String,
    assurance: String,
}

impl Platform {
    /// Reads the JWKS. An error names the file, never its contents. Keys that are not for us are passed over, each with a warning
    /// that names it; a set without one that is, is an error.
    pub fn read(settings: Settings) -> Result<Platform, String> {
        let stamp = settings.jwks.as_deref().and_then(stamp);
        let keys = match &settings.jwks {
            Some(path) => read_keys(path).map_err(|why| format!("{}: {why}", path.display()))?,
            None => Vec::new(),
        };
        let life = std::time::Duration::from_secs(LIFE_SECS_MAX + 2 * LEEWAY_SECS);
        Ok(Platform {
            keys: ArcSwap::from_pointee(keys),
            stamp: Mutex::new(stamp),
            used: moka::sync::Cache::builder()
                .max_capacity(USED_MAX)
                .time_to_live(life)
                .build(),
            settings,
        })
    }

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

    /// The person whom a genuine assertion in force names, if it was issued for this purpose and was not used before by another
    /// than `user`: 16 bytes that stand for whoever hands it over. `Unauthorized` otherwise.
    pub fn person(
        &self,
        assertion: &str,
        purpose: Purpose,
        user: [u8; 16],
        now: Time,
    ) -> Result<Profile, Refusal> {
        if assertion.len() > ASSERTION_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        let claims = self.verify(assertion)?;
        check_life(&claims, now.0 / 1_000)?;
        let said = claims.purpose.as_deref().unwrap_or(Purpose::LogIn.word());
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
        let hash = digest::digest(&digest::SHA256, assertion.as_bytes());
        let hash: [u8; 32] = hash.as_ref().try_into().expect("32 bytes of SHA-256");
        let first = self.used.entry(hash).or_insert(user);
        if !first.is_fresh() && (*first.value() != user || purpose == Purpose::LogIn) {
            return Err(Refusal::Unauthorized);
        }
        Ok(Profile {
            document,
            name: Some(claims.name),
            assurance,
        })
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
            validation.leeway = LEEWAY_SECS;
            validation.validate_nbf = true;
            match decode::<Claims>(assertion, &trusted.key, &validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) => match error.kind() {
                    ErrorKind::ExpiredSignature => refusal = Refusal::SessionExpired,
                    // Genuine, and not what was agreed.
                    ErrorKind::Json(_) => refusal = Refusal::Malformed,
                    _ => {}
                },
            }
        }
        Err(refusal)
    }
}

/// Whether an assertion is of these minutes: what was issued long ago, in the future, or for years was not made to be handed
/// over now.
fn check_life(claims: &Claims, now: u64) -> Result<(), Refusal> {
    let from = claims.iat.unwrap_or(now);
    let is_new =
        from <= now + LEEWAY_SECS && now <= from.saturating_add(LIFE_SECS_MAX + LEEWAY_SECS);
    let is_short =
        claims.exp.unwrap_or(u64::MAX) <= from.saturating_add(LIFE_SECS_MAX + LEEWAY_SECS);
    let is_one = claims
        .iss
        .as_ref()
        .is_some_and(serde_json::Value::is_string);
    match is_new && is_short && is_one {
        true => Ok(()),
        false => Err(Refusal::Unauthorized),
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.ino(), metadata.len()))
}

/// RSA keys of fewer bits do not count.
const RSA_BITS_MIN: usize = 2_048;

/// The keys of a set that sign assertions for us. A set holds keys for other uses and of other kinds as well (RFC 7517, 5):
/// these are passed over by name, and never spoil the others.
fn read_keys(path: &Path) -> Result<Vec<TrustedKey>, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    keys_of(&text)
}

fn keys_of(text: &[u8]) -> Result<Vec<TrustedKey>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    // Byte order marks are written by some editors.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let set: Set = serde_json::from_slice(text).map_err(|error| format!("not a JWKS: {error}"))?;
    if set.keys.is_empty() {
        return Err("the JWKS holds no key".into());
    }
    let mut trusted: Vec<TrustedKey> = Vec::new();
    let mut reasons = Vec::new();
    for (nth, key) in set.keys.into_iter().enumerate() {
        let name = match key.get("kid").and_then(serde_json::Value::as_str) {
            Some(kid) => kid.chars().take(64).collect(),
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
            // Six bits a character of the modulus, without padding.
            let bits = rsa.n.trim_end_matches('=').trim_start_matches('A').len() * 6;
            if bits < RSA_BITS_MIN {
                return Err(format!("RSA of fewer than {RSA_BITS_MIN} bits"));
            }
            Algorithm::RS256
        }
        _ => return Err("not for EdDSA, ES256 or RS256".to_owned()),
    };
    if alg.is_some_and(|alg| alg != format!("{algorithm:?}").as_str()) {
        return Err("its alg does not fit its kind".to_owned());
    }
    let id = jwk.common.key_id.clone();
    let key = DecodingKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
    Ok(TrustedKey { id, algorithm, key })
}
