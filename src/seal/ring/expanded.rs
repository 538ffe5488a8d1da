//! A ring, or a part of one, with its keys expanded: what seals and opens.

use super::token_kind::TokenKind;
use crate::clock::Time;
use crate::paper::PaperPurpose;
use crate::seal::tags::TagRing;
use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::hmac;
use std::sync::Arc;

/// A ring, or a part of one, with its keys expanded.
pub struct KeyRing {
    /// None in a ring part.
    pub(in crate::seal) identity: Option<hmac::Key>,
    /// The keys of data at rest, in any order.
    pub(super) rest: Vec<RestCiphers>,
    /// The id of the one that seals.
    pub(super) rest_current: u8,
    pub(in crate::seal) mark: [u8; 16],
    /// Makes keys of papers and owners.
    pub(in crate::seal) paper_names: hmac::Key,
    pub(super) current: u8,
    /// When the current key came into use. The rotation that made it current created the next key, so this is the time of the
    /// next key's creation.
    pub(in crate::seal) current_since: Time,
    /// Keys by id, one for each [`TokenKind`]; None for a kind of which a part has no key.
    pub(super) keys: [Option<Box<[Option<LessSafeKey>; 8]>>; 256],
    /// What makes and checks the tags of statuses.
    pub(in crate::seal) tags: Arc<TagRing>,
}

/// The ciphers of one key of data at rest.
pub(in crate::seal) struct RestCiphers {
    pub(in crate::seal) id: u8,
    /// The key of profiles; None in a part of a ring.
    pub(in crate::seal) profiles: Option<LessSafeKey>,
    /// The keys of papers, by [`PaperPurpose`]; None for a key that was destroyed, or that the doors of a part do not use.
    pub(in crate::seal) papers: [Option<LessSafeKey>; PaperPurpose::ALL.len()],
}

/// Derivation name of the key that makes keys of papers and owners.
pub(super) const PAPER_NAMES: &[u8] = b"liangma paper names 1";

impl KeyRing {
    /// Returns the current keys of data at rest, which seal.
    pub(in crate::seal) fn rest_current(&self) -> &RestCiphers {
        let current = self.rest_of(self.rest_current);
        current.expect("a ring was checked when it was read")
    }

    /// Returns the keys of data at rest with this id; None if the ring has none.
    pub(in crate::seal) fn rest_of(&self, id: u8) -> Option<&RestCiphers> {
        self.rest.iter().find(|key| key.id == id)
    }

    pub(in crate::seal) fn current_id(&self) -> u8 {
        self.current
    }

    /// Returns the current key of a kind; None in a part for doors that do not use it.
    pub(in crate::seal) fn current(&self, kind: TokenKind) -> Option<(u8, &LessSafeKey)> {
        Some((self.current, self.key(self.current, kind)?))
    }

    pub(in crate::seal) fn key(&self, id: u8, kind: TokenKind) -> Option<&LessSafeKey> {
        let keys = self.keys[usize::from(id)].as_deref()?;
        keys[kind as usize - 1].as_ref()
    }
}
