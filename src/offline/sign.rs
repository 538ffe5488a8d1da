//! Signatures of offline codes and lists: ES256, and Ed25519 for lists. Public keys come as a JWKS.

use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    UnparsedPublicKey,
};

/// Bytes of a signature of either algorithm.
pub const SIGNATURE_BYTES: usize = 64;

/// How something is signed. The numbers are in the files; 3 is kept for SM2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256 = 1,
    /// EdDSA on Curve25519.
    Ed25519 = 2,
}

impl SignatureAlgorithm {
    /// None for a number of no algorithm that this version knows.
    pub fn from_bits(bits: u8) -> Option<SignatureAlgorithm> {
        match bits {
            1 => Some(SignatureAlgorithm::Es256),
            2 => Some(SignatureAlgorithm::Ed25519),
            _ => None,
        }
    }
}

/// A public key of an issuer, by the id that codes and lists name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    /// The number of the key, which codes and lists name.
    pub id: u8,
    /// The algorithm of the key.
    pub algorithm: SignatureAlgorithm,
    /// An uncompressed point of P-256 (65 bytes), or 32 bytes of Ed25519.
    pub public: Box<[u8]>,
}

impl VerifyingKey {
    /// Returns whether this key made the signature over the message.
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
    /// The number of the key, which codes and lists name.
    pub id: u8,
    pair: EcdsaKeyPair,
}

impl SigningKey {
    /// Reads a P-256 key of PKCS#8; None if it is none.
    pub fn from_pkcs8(id: u8, der: &[u8]) -> Option<SigningKey> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok()?;
        Some(SigningKey { id, pair })
    }

    /// Signs a message. None if the system gave no random bytes.
    pub fn sign(&self, message: &[u8]) -> Option<[u8; SIGNATURE_BYTES]> {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let signature = self.pair.sign(&random, message).ok()?;
        signature.as_ref().try_into().ok()
    }

    /// Returns the public half.
    pub fn verifying(&self) -> VerifyingKey {
        use signature::KeyPair;
        VerifyingKey {
            id: self.id,
            algorithm: SignatureAlgorithm::Es256,
            public: self.pair.public_key().as_ref().into(),
        }
    }
}
