//! Sealed texts: their common form, and the [`Seal`] that makes and opens them with the ring in force.
//!
//! A sealed text is `kind and version (1) · key id (1) · nonce (12) · contents · tag (16)` in base32. The first two bytes are
//! authenticated. AES-128-GCM-SIV tolerates a repeated nonce. Nonces are a random prefix of the thread and a counter, because
//! system randomness costs more than the sealing.

use super::base32;
use super::revoked::RevocationTable;
use super::ring::{KeyRing, TokenKind};
use super::tags::StatusTags;
use crate::clock::Time;
use crate::person::{Document, Identity};
use crate::refusal::Refusal;
use arc_swap::ArcSwap;
use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// Why a key must be present.
pub(super) const WHOLE: &str = "doors for which a part of a ring has no keys are not opened";

/// Version of the form, in the high half of the first byte.
pub(super) const VERSION: u8 = 1;

/// Length of kind and version, key id and nonce, in bytes.
pub(super) const HEAD: usize = 2 + NONCE_LEN;

/// Length of the tag in bytes.
pub(super) const TAG: usize = 16;

/// Length of the longest sealed text, in bytes: a token with its names.
pub(super) const SEALED_MAX: usize = 256;

/// Length of the longest credential, in characters.
pub const TOKEN_CHARS_MAX: usize = base32::encoded_len(SEALED_MAX);

/// Bytes at the beginning of a nonce that name the issuer.
pub(super) const ISSUER_BYTES: usize = 3;

/// Settings of codes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Validity of a live code.
    pub code_life: Duration,
    /// Allowed difference of two nodes' clocks.
    pub clock_skew: Duration,
    /// The issuer, a division of GB/T 2260 as a number. Codes and grants hold it in clear, so that a gate of another issuer
    /// knows whom to ask.
    pub issuer: Option<u32>,
}

/// Nonces of one thread: eight random bytes, and a counter. Not `Sync`, so that counting costs one add.
pub struct Nonces {
    prefix: [u8; 8],
    count: Cell<u32>,
}

impl Nonces {
    /// Returns nonces for one thread.
    pub fn new() -> Nonces {
        let mut random = [0; 12];
        aws_lc_rs::rand::fill(&mut random).expect("the system gives random bytes");
        Nonces {
            prefix: random[..8].try_into().expect("8 of 12"),
            count: Cell::new(u32::from_be_bytes(random[8..].try_into().expect("4 of 12"))),
        }
    }

    fn next(&self) -> [u8; NONCE_LEN] {
        let count = self.count.get().wrapping_add(1);
        self.count.set(count);
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.prefix);
        nonce[8..].copy_from_slice(&count.to_be_bytes());
        nonce
    }
}

impl Default for Nonces {
    fn default() -> Nonces {
        Nonces::new()
    }
}

/// Seals and opens with the ring in force.
pub struct Seal {
    pub(super) ring: ArcSwap<KeyRing>,
    /// What makes and checks the tags of statuses in the store, which holds a clone.
    tags: StatusTags,
    /// Revoked credentials.
    pub revoked: RevocationTable,
    pub(super) settings: Settings,
}

impl Seal {
    /// Returns a seal with the keys of a ring.
    pub fn new(file: impl Into<KeyRing>, settings: Settings) -> Seal {
        let ring = file.into();
        Seal {
            tags: StatusTags::new(ring.tags.clone()),
            ring: ArcSwap::from_pointee(ring),
            revoked: RevocationTable::default(),
            settings,
        }
    }

    /// Takes up a rotated ring.
    pub fn reload(&self, file: impl Into<KeyRing>) {
        let ring = file.into();
        self.tags.reload(ring.tags.clone());
        self.ring.store(Arc::new(ring));
    }

    /// Returns the id of the current key.
    pub fn current_key(&self) -> u8 {
        self.ring.load().current_id()
    }

    /// Returns the time since the current key came into use.
    pub fn key_age(&self, now: Time) -> Duration {
        now.since(self.ring.load().current_since)
    }

    /// Returns the validity of a live code.
    pub fn code_life(&self) -> Duration {
        self.settings.code_life
    }

    /// Returns the allowed difference of two nodes' clocks.
    pub fn clock_skew(&self) -> Duration {
        self.settings.clock_skew
    }

    /// Returns the identity of a document, a keyed hash.
    ///
    /// # Panics
    /// Panics with a ring part. No caller has one: its doors take no document, and its operations door no token.
    pub fn identify(&self, document: &Document) -> Identity {
        let ring = self.ring.load();
        let mut context = aws_lc_rs::hmac::Context::with_key(ring.identity.as_ref().expect(WHOLE));
        context.update(document.cert_type().code().as_bytes());
        context.update(document.number().as_bytes());
        let tag = context.sign();
        Identity::of_hash(tag.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// Returns the mark by which a store recognises its ring.
    pub fn mark(&self) -> [u8; 16] {
        self.ring.load().mark
    }

    /// Returns the keys of the tags of statuses in the store.
    pub fn status_tags(&self) -> StatusTags {
        self.tags.clone()
    }

    /// Returns the mark of a ring that is not in force.
    pub fn mark_of(file: impl Into<KeyRing>) -> [u8; 16] {
        file.into().mark
    }

    /// Seals contents, and returns the text.
    pub(super) fn print(&self, kind: TokenKind, nonces: &Nonces, plain: &[u8]) -> String {
        let mut bytes = vec![0; HEAD + plain.len() + TAG];
        bytes[HEAD..HEAD + plain.len()].copy_from_slice(plain);
        self.close(kind, nonces, &mut bytes);
        base32::text(&bytes)
    }

    /// Seals the bytes between head and tag, and fills both.
    pub(super) fn close(&self, kind: TokenKind, nonces: &Nonces, bytes: &mut [u8]) {
        let ring = self.ring.load();
        let (id, key) = ring.current(kind).expect(WHOLE);
        let mut nonce = nonces.next();
        if let (TokenKind::Code | TokenKind::Grant, Some(issuer)) = (kind, self.settings.issuer) {
            nonce[..ISSUER_BYTES].copy_from_slice(&issuer.to_be_bytes()[1..]);
        }
        let (head, rest) = bytes.split_at_mut(HEAD);
        head[0] = VERSION << 4 | kind as u8;
        head[1] = id;
        head[2..].copy_from_slice(&nonce);
        let (plain, tag) = rest.split_at_mut(rest.len() - TAG);
        let sealed = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from([head[0], id]),
                plain,
            )
            .expect("far below the bound of the cipher");
        tag.copy_from_slice(sealed.as_ref());
    }

    /// Opens sealed bytes in place; None if our keys did not seal them as this kind.
    pub(super) fn open<'b>(&self, kind: TokenKind, bytes: &'b mut [u8]) -> Option<&'b [u8]> {
        let (head, rest) = bytes.split_at_mut_checked(HEAD)?;
        if head[0] != VERSION << 4 | kind as u8 {
            return None;
        }
        let ring = self.ring.load();
        let key: &LessSafeKey = ring.key(head[1], kind)?;
        let nonce = Nonce::try_assume_unique_for_key(&head[2..]).ok()?;
        key.open_in_place(nonce, Aad::from([head[0], head[1]]), rest)
            .ok()
            .map(|plain| &*plain)
    }

    /// Opens a credential. Returns its issue and expiry times, and the rest. No clock skew is allowed: credentials are valid
    /// for hours.
    pub(super) fn open_timed<'b>(
        &self,
        kind: TokenKind,
        text: &[u8],
        bytes: &'b mut [u8; SEALED_MAX],
        now: Time,
    ) -> Result<((Time, Time), &'b [u8]), Refusal> {
        let length = base32::decode(text, bytes).ok_or(Refusal::Unauthorized)?;
        let bytes = &mut bytes[..length];
        let found = bytes.first().map(|first| first & 15);
        let other = TokenKind::ALL
            .into_iter()
            .find(|other| *other != kind && Some(*other as u8) == found);
        if let Some(other) = other {
            return Err(match self.open(other, bytes) {
                Some(_) => Refusal::NotPermitted,
                None => Refusal::Unauthorized,
            });
        }
        let plain = self.open(kind, bytes).ok_or(Refusal::Unauthorized)?;
        let (times, rest) = plain.split_at_checked(12).ok_or(Refusal::Unauthorized)?;
        let (issued_at, expires_at) = (time48(&times[..6]), time48(&times[6..]));
        if now >= expires_at {
            return Err(Refusal::SessionExpired);
        }
        Ok(((issued_at, expires_at), rest))
    }
}

/// Reads a time of six bytes.
pub(super) fn time48(bytes: &[u8]) -> Time {
    let mut eight = [0; 8];
    eight[2..].copy_from_slice(bytes);
    Time(u64::from_be_bytes(eight))
}
