//! Signatures of offline codes and lists: ES256, and Ed25519 for lists. Public keys are exchanged as a JWKS.

use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    UnparsedPublicKey,
};

/// Length of a signature of either algorithm, in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// Signature algorithms. The numbers are stored in files; 3 is reserved for SM2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256 = 1,
    /// EdDSA on Curve25519.
    Ed25519 = 2,
}

impl SignatureAlgorithm {
    /// Returns the algorithm of a number; None if this version does not know it.
    pub fn from_bits(bits: u8) -> Option<SignatureAlgorithm> {
        match bits {
            1 => Some(SignatureAlgorithm::Es256),
            2 => Some(SignatureAlgorithm::Ed25519),
            _ => None,
        }
    }
}

/// A public key of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    /// Id of the key, which codes and lists name.
    pub id: u8,
    /// The algorithm of the key.
    pub algorithm: SignatureAlgorithm,
    /// An uncompressed P-256 point (65 bytes), or an Ed25519 key (32 bytes).
    pub public: Box<[u8]>,
}

impl VerifyingKey {
    /// Returns whether this key signed the message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn signature::VerificationAlgorithm = match self.algorithm {
            SignatureAlgorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
            SignatureAlgorithm::Ed25519 => &ED25519,
        };
        UnparsedPublicKey::new(algorithm, &self.public)
            .verify(message, signature)
            .is_ok()
    }
}

/// A private key that signs codes and lists with ES256.
pub struct SigningKey {
    /// Id of the key, which codes and lists name.
    pub id: u8,
    pair: EcdsaKeyPair,
}

impl SigningKey {
    /// Parses a P-256 key in PKCS#8; None if the bytes are not such a key.
    pub fn from_pkcs8(id: u8, der: &[u8]) -> Option<SigningKey> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok()?;
        Some(SigningKey { id, pair })
    }

    /// Signs a message. Returns None if the system's random generator fails.
    pub fn sign(&self, message: &[u8]) -> Option<[u8; SIGNATURE_BYTES]> {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let signature = self.pair.sign(&random, message).ok()?;
        signature.as_ref().try_into().ok()
    }

    /// Returns the public key.
    pub fn verifying(&self) -> VerifyingKey {
        use signature::KeyPair;
        VerifyingKey {
            id: self.id,
            algorithm: SignatureAlgorithm::Es256,
            public: self.pair.public_key().as_ref().into(),
        }
    }
}
