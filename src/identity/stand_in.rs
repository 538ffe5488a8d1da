//! A stand-in for the identity platform in the demonstration: its own key, and assertions signed with it.

use crate::clock::Time;
use anyhow::{Context, Result};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use std::path::Path;

/// The claim `iss` of its assertions.
pub const ISSUER: &str = "https://identity.invalid/demo";

/// Validity of an assertion in seconds.
const LIFE_SECS: u64 = 300;

/// A person known to the platform.
pub struct StandInPerson<'p> {
    /// The type of the document, two digits.
    pub cert_type: &'p str,
    /// The number of the document.
    pub cert_no: &'p str,
    /// The name on the document.
    pub name: &'p str,
    /// The level of assurance.
    pub assurance: &'p str,
}

/// A platform with its own key, for demonstrations and tests.
pub struct StandIn {
    key: EncodingKey,
}

impl StandIn {
    /// Creates a key, and writes its public half to a JWKS file.
    ///
    /// # Errors
    ///
    /// The key cannot be created, or the file cannot be written.
    pub fn new(jwks: &Path) -> Result<StandIn> {
        let der = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new())
            .map_err(|_| anyhow::anyhow!("no random numbers for a key"))?;
        let key = EncodingKey::from_ed_der(der.as_ref());
        let public = Jwk::from_encoding_key(&key, Algorithm::EdDSA).context("a key as JWK")?;
        let set = json!({ "keys": [public] }).to_string();
        std::fs::write(jwks, set).with_context(|| jwks.display().to_string())?;
        Ok(StandIn { key })
    }

    /// Returns an assertion that the person consents to become a family member of its bearer.
    ///
    /// # Errors
    ///
    /// The assertion cannot be signed.
    pub fn member(&self, person: &StandInPerson<'_>, now: Time) -> Result<String> {
        let seconds = now.0 / 1000;
        let claims = json!({
            "iss": ISSUER, "aud": "liangma", "iat": seconds, "exp": seconds + LIFE_SECS, "purpose": "family",
            "cert_type": person.cert_type, "cert_no": person.cert_no, "name": person.name, "assurance": person.assurance,
        });
        encode(&Header::new(Algorithm::EdDSA), &claims, &self.key).context("an assertion")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{AssertionPurpose, Platform, Settings};

    #[test]
    fn a_node_that_trusts_its_keys_knows_whom_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let jwks = folder.path().join("jwks.json");
        let stand_in = StandIn::new(&jwks).unwrap();
        let settings = Settings {
            jwks: Some(jwks),
            issuer: ISSUER.into(),
            audience: "liangma".into(),
        };
        let platform = Platform::read(settings).unwrap();
        let now = Time::now();
        let known = StandInPerson {
            cert_type: "10",
            cert_no: "440106199003077211",
            name: "陈美玲",
            assurance: "real_person",
        };
        let assertion = stand_in.member(&known, now).unwrap();
        let (profile, _) = platform
            .person(&assertion, AssertionPurpose::Family, now)
            .unwrap();
        assert_eq!(profile.name.as_deref(), Some("陈美玲"));
        // The key is in no file: whoever has the folder signs nothing.
        let text = std::fs::read_to_string(platform.settings.jwks.unwrap()).unwrap();
        assert!(!text.contains("\"d\""), "{text}");
    }
}
