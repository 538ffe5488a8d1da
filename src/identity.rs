//! Assertions of the identity platform: a JWT in, the person whom it names out. Keys come from a JWKS file.

use crate::answer::Refusal;
use crate::person::{self, Assurance, BadDocument, Document, Profile};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use std::path::{Path, PathBuf};

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

/// The platform as this node trusts it.
pub struct Platform {
    keys: Vec<TrustedKey>,
    settings: Settings,
}

/// One key signs with one algorithm: what the token's head says is compared, never obeyed.
struct TrustedKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Claims {
    cert_type: String,
    cert_no: String,
    name: String,
    assurance: String,
}

impl Platform {
    /// Reads the JWKS. An error names the file and the key, never its contents.
    pub fn read(settings: Settings) -> Result<Platform, String> {
        let keys = match &settings.jwks {
            Some(path) => read_keys(path).map_err(|why| format!("{}: {why}", path.display()))?,
            None => Vec::new(),
        };
        Ok(Platform { keys, settings })
    }

    pub fn is_known(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The person whom a genuine assertion in force names.
    pub fn person(&self, assertion: &str, today: u32) -> Result<Profile, Refusal> {
        if assertion.len() > ASSERTION_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        let claims = self.verify(assertion)?;
        let document = Document::parse(&claims.cert_type, &claims.cert_no, today).map_err(
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
        Ok(Profile {
            document,
            name: Some(claims.name),
            assurance,
        })
    }

    fn verify(&self, assertion: &str) -> Result<Claims, Refusal> {
        use jsonwebtoken::errors::ErrorKind;
        let head = decode_header(assertion).map_err(|_| Refusal::Unauthorized)?;
        let mut refusal = Refusal::Unauthorized;
        for trusted in &self.keys {
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

fn read_keys(path: &Path) -> Result<Vec<TrustedKey>, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let set: JwkSet =
        serde_json::from_slice(&text).map_err(|error| format!("not a JWKS: {error}"))?;
    if set.keys.is_empty() {
        return Err("the JWKS holds no key".into());
    }
    set.keys
        .iter()
        .map(|jwk| {
            use jsonwebtoken::jwk::{AlgorithmParameters::*, EllipticCurve};
            let id = jwk.common.key_id.clone();
            let named = id.as_deref().unwrap_or("without kid").to_owned();
            let algorithm = match &jwk.algorithm {
                OctetKeyPair(_) => Algorithm::EdDSA,
                EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
                RSA(_) => Algorithm::RS256,
                _ => {
                    return Err(format!("key {named}: not for EdDSA, ES256 or RS256"));
                }
            };
            let said = jwk.common.key_algorithm.map(|said| said.to_string());
            if said.is_some_and(|said| said != format!("{algorithm:?}")) {
                return Err(format!("key {named}: its alg does not fit its type"));
            }
            let key =
                DecodingKey::from_jwk(jwk).map_err(|error| format!("key {named}: {error}"))?;
            Ok(TrustedKey { id, algorithm, key })
        })
        .collect()
}
