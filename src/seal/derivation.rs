//! Derives keys from the secrets of a ring, by HKDF with SHA-256 (RFC 5869).

use aws_lc_rs::hkdf;

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Fills `key` with what follows from a secret for this purpose. Keys of different purposes tell nothing of each other, nor of the
/// secret.
pub(super) fn fill(secret: &[u8], purpose: &[u8], key: &mut [u8]) {
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"liangma")
        .extract(secret)
        .expand(&[purpose], Length(key.len()))
        .and_then(|okm| okm.fill(key))
        .expect("a few bytes are within HKDF's bound");
}
