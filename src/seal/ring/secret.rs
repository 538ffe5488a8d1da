//! Secrets of a ring: made at random, written as hexadecimal digits, and what is derived from them.

use crate::hex;
use crate::seal::derivation;
use aws_lc_rs::aead::{AES_128_GCM_SIV, LessSafeKey, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Secret bytes, wiped on drop and never printed.
#[derive(Clone, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(try_from = "String")]
pub(super) struct Secret<const BYTES: usize = 32>(pub(super) [u8; BYTES]);

impl RandomSecret for Secret {
    fn random() -> Secret {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
        Secret(bytes)
    }
}

impl<const BYTES: usize> TryFrom<String> for Secret<BYTES> {
    type Error = String;
    fn try_from(text: String) -> Result<Secret<BYTES>, String> {
        let text = Zeroizing::new(text);
        let bytes = hex::array(&text);
        let bytes = bytes.ok_or_else(|| format!("a key is {} hexadecimal digits", 2 * BYTES))?;
        Ok(Secret(bytes))
    }
}

impl<const BYTES: usize> Serialize for Secret<BYTES> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&digits(&self.0))
    }
}

/// Returns the hexadecimal digits of a secret in a text that is wiped.
pub(super) fn digits(secret: &[u8]) -> Zeroizing<String> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // Allocated in full, because a growing text leaves copies.
    let mut text = Zeroizing::new(String::with_capacity(2 * secret.len()));
    for byte in secret {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// A secret that a rotation creates.
pub(super) trait RandomSecret {
    fn random() -> Self;
}

/// A P-256 private key in PKCS#8, wiped on drop and never printed.
#[derive(Clone, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(try_from = "String")]
pub(super) struct SignSecret(pub(super) Vec<u8>);

impl SignSecret {
    /// Returns the public key, an uncompressed P-256 point.
    pub(super) fn public(&self) -> Box<[u8]> {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.0);
        let pair = pair.expect("it was read as a key, or made as one");
        pair.public_key().as_ref().into()
    }
}

/// Largest size of such a key in bytes.
const SIGN_SECRET_BYTES_MAX: usize = 256;

impl RandomSecret for SignSecret {
    fn random() -> SignSecret {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
        let random = aws_lc_rs::rand::SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .expect("the system gives random bytes");
        SignSecret(der.as_ref().to_vec())
    }
}

impl TryFrom<String> for SignSecret {
    type Error = &'static str;
    fn try_from(text: String) -> Result<SignSecret, &'static str> {
        let text = Zeroizing::new(text);
        let why = "a signing key is hexadecimal digits of PKCS#8";
        if text.len() > 2 * SIGN_SECRET_BYTES_MAX {
            return Err(why);
        }
        let bytes = SignSecret(hex::bytes(&text).ok_or(why)?);
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
        match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &bytes.0) {
            Ok(_) => Ok(bytes),
            Err(_) => Err("a signing key is not a P-256 key in PKCS#8"),
        }
    }
}

impl Serialize for SignSecret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&digits(&self.0))
    }
}

impl Secret<16> {
    /// Returns the cipher with this key.
    pub(super) fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_128_GCM_SIV, &self.0).expect("16 bytes are a key"))
    }
}

/// Derives a secret of its own for a purpose.
pub(super) fn derive<const BYTES: usize>(secret: &Secret, purpose: &[u8]) -> Secret<BYTES> {
    let mut key = Secret([0; BYTES]);
    derivation::fill(&secret.0, purpose, &mut key.0);
    key
}
