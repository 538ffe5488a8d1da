//! The secrets of offline codes and lists, which a ring and its parts give out alike.

use super::rotation::KeyState;
use zeroize::Zeroizing;

/// The secrets of a ring for offline codes and lists.
pub struct OfflineSecrets<'r> {
    /// Key of the permutation of list ids. It can never change, because every list id would.
    pub permutation: [u8; 16],
    /// Secret from which the keys of days follow.
    pub days: Zeroizing<[u8; 32]>,
    /// Key pairs that sign offline codes and lists.
    pub signing: Vec<SignKeyPair<'r>>,
}

/// A key pair that signs offline codes and lists.
pub struct SignKeyPair<'r> {
    /// Id of the key.
    pub id: u8,
    /// State of the key.
    pub state: KeyState,
    /// The public key, an uncompressed P-256 point.
    pub public: Box<[u8]>,
    /// The private key in PKCS#8; None in a ring part for a door that only verifies.
    pub private: Option<&'r [u8]>,
}

/// A source of the secrets of offline codes: a ring, or a part of one.
pub trait OfflineSource {
    /// Returns the secrets; None if the ring was made before offline codes existed.
    fn offline(&self) -> Option<OfflineSecrets<'_>>;
}
