//! A whole key ring, as in its file: its keys, and how they are rotated, replaced and destroyed.

use super::error::RingError;
use super::expanded::{KeyRing, PAPER_NAMES, RestCiphers};
use super::files::write_new;
use super::offline::{OfflineSecrets, OfflineSource, SignKeyPair};
use super::rotation::{
    KeyLine, KeyState, RotatedKey, drop_previous, free_ids, lines, replace, rotate,
};
use super::secret::{RandomSecret, Secret, SignSecret, derive};
use super::token_kind::TokenKind;
use crate::clock::Time;
use crate::paper::PaperPurpose;
use crate::seal::derivation;
use crate::seal::tags::{TagRing, TagSecrets};
use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize, de};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// A key that seals tokens and codes.
type TokenKey = RotatedKey<Secret>;

/// A key that seals data at rest, and from which the tags of statuses are made.
type RestKey = RotatedKey<Secret>;

/// A key that signs offline codes and status lists.
type SignKey = RotatedKey<SignSecret>;

/// The keys of data at rest: one current, the previous ones, and a next one, unless the ring is older than their rotation. A file has
/// them as a list, or such an older ring as one key.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub(super) struct RestKeyList(pub(super) Vec<RestKey>);

impl<'de> Deserialize<'de> for RestKeyList {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<RestKeyList, D::Error> {
        from.deserialize_any(RestKeysVisitor)
    }
}

/// The one key of a ring that is older than the rotation of data at rest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoneRestKey {
    id: u8,
    secret: Secret,
}

struct RestKeysVisitor;

impl<'de> de::Visitor<'de> for RestKeysVisitor {
    type Value = RestKeyList;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("the keys of data at rest")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<RestKeyList, A::Error> {
        Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(RestKeyList)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RestKeyList, A::Error> {
        let lone = LoneRestKey::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(RestKeyList(vec![RestKey {
            id: lone.id,
            state: KeyState::Current,
            created: 0,
            retired: None,
            secret: lone.secret,
        }]))
    }
}

impl RestKeyList {
    /// Returns the key that seals.
    pub(super) fn current(&self) -> &RestKey {
        let current = |key: &&RestKey| key.state == KeyState::Current;
        let current = self.0.iter().find(current);
        current.expect("a ring was checked when it was read")
    }
}

/// What `keys reseal` found: from then on nothing at rest needed a key of before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RestProof {
    key: u8,
    at: u64,
}

/// The key of one service's papers, or when it was destroyed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PapersKey {
    purpose: PaperPurpose,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    destroyed: Option<u64>,
}

/// The key ring as in its file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingFile {
    /// Makes resident ids. It can never change, because every id would.
    pub(super) identity: Secret,
    /// Seal data at rest in the store.
    pub(super) rest: RestKeyList,
    /// When everything at rest was found sealed with the current key; absent from the next rotation on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resealed: Option<RestProof>,
    pub(super) token: Vec<TokenKey>,
    /// One key for each service. Rings made before papers had keys derive them from `rest`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) papers: Vec<PapersKey>,
    /// Makes list ids. It can never change, because every list id would. Missing in a ring made before offline codes existed,
    /// until its first `keys rotate --sign`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) offline: Option<Secret>,
    /// Keys that sign offline codes and lists; missing where `offline` is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) sign: Vec<SignKey>,
}

/// Previous keys of data at rest at most: each is tried where a tag does not fit.
pub(super) const REST_PREVIOUS_MAX: usize = 6;

/// What the file of a ring begins with.
pub(super) const HEADER: &str = "# The key ring of liangma. Whoever reads it can make codes and read names: keep it at mode 0600.\n\
# `liangma keys rotate` changes the token keys, with --sign the signing keys, with --rest the keys of data at rest.\n\n";

impl OfflineSource for RingFile {
    fn offline(&self) -> Option<OfflineSecrets<'_>> {
        let secret = self.offline.as_ref()?;
        let signing = self.sign.iter().map(|key| SignKeyPair {
            id: key.id,
            state: key.state,
            public: key.secret.public(),
            private: Some(&key.secret.0),
        });
        Some(OfflineSecrets {
            permutation: derive::<16>(secret, b"liangma list id 1").0,
            days: Zeroizing::new(derive::<32>(secret, b"liangma list days 1").0),
            signing: signing.collect(),
        })
    }
}

impl RingFile {
    /// Returns a new ring with one current key.
    pub fn generate(now: Time) -> RingFile {
        let token = |id, state| TokenKey::new(id, state, now);
        RingFile {
            identity: Secret::random(),
            rest: RestKeyList(vec![
                RestKey::new(1, KeyState::Current, now),
                RestKey::new(2, KeyState::Next, now),
            ]),
            resealed: None,
            token: vec![token(1, KeyState::Current), token(2, KeyState::Next)],
            papers: PaperPurpose::ALL
                .into_iter()
                .map(|purpose| PapersKey {
                    purpose,
                    secret: Some(Secret::random()),
                    destroyed: None,
                })
                .collect(),
            offline: Some(Secret::random()),
            sign: vec![
                RotatedKey::new(1, KeyState::Current, now),
                RotatedKey::new(2, KeyState::Next, now),
            ],
        }
    }

    /// Destroys the key of a service's papers: existing papers cannot be opened any more, and none can be sealed. Returns false
    /// if the ring has no own key for them, because it was made before papers had keys.
    pub fn destroy(&mut self, purpose: PaperPurpose, now: Time) -> bool {
        let Some(key) = self.papers.iter_mut().find(|key| key.purpose == purpose) else {
            return false;
        };
        key.secret = None;
        key.destroyed.get_or_insert(now.0);
        true
    }

    /// Returns when the key of a service's papers was destroyed; None if it was not.
    pub fn destroyed(&self, purpose: PaperPurpose) -> Option<Time> {
        let key = self.papers.iter().find(|key| key.purpose == purpose)?;
        key.destroyed.map(Time)
    }

    /// Returns what is wrong with the ring, if anything is.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let with = |state| self.rest.0.iter().filter(|key| key.state == state).count();
        if with(KeyState::Current) != 1 || with(KeyState::Next) > 1 {
            return Err("exactly one key of data at rest must be current, and at most one next");
        }
        let mut ids: Vec<u8> = self.rest.0.iter().map(|key| key.id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("two keys of data at rest have the same id");
        }
        let with = |state| self.token.iter().filter(|key| key.state == state).count();
        if with(KeyState::Current) != 1 {
            return Err("exactly one token key must be current");
        }
        if with(KeyState::Next) != 1 {
            return Err("exactly one token key must be next");
        }
        let mut ids: Vec<u8> = self.token.iter().map(|key| key.id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("two token keys have the same id");
        }
        let with = |state| self.sign.iter().filter(|key| key.state == state).count();
        if self.offline.is_some() && (with(KeyState::Current), with(KeyState::Next)) != (1, 1) {
            return Err("exactly one signing key must be current, and one next");
        }
        if self.offline.is_none() && !self.sign.is_empty() {
            return Err("there are signing keys, and no key `offline`");
        }
        let mut ids: Vec<u8> = self.sign.iter().map(|key| key.id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("two signing keys have the same id");
        }
        let mut purposes: Vec<PaperPurpose> = self.papers.iter().map(|key| key.purpose).collect();
        purposes.sort_unstable();
        if purposes.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("a service has two keys of papers");
        }
        if (self.papers.iter()).any(|key| key.secret.is_some() == key.destroyed.is_some()) {
            return Err("a key of papers is there or destroyed, not both");
        }
        Ok(())
    }

    /// Writes a ring to a new file. Of two simultaneous writers one fails.
    ///
    /// # Errors
    ///
    /// `Exists` if there is a file, `Io` if it cannot be written.
    pub fn write_new(&self, path: &Path) -> Result<(), RingError> {
        write_new(self, HEADER, path)
    }

    /// Rotates the token keys: the next key seals, the current one only opens, and a new next one is created. Previous keys are
    /// dropped `keep` after they retired, when nothing they sealed is valid.
    ///
    /// # Errors
    ///
    /// `Full` if too many previous keys are kept.
    pub fn rotate(&mut self, now: Time, keep: Duration) -> Result<(), RingError> {
        rotate(&mut self.token, now, keep)
    }

    /// Rotates the signing keys like [`RingFile::rotate`]. Gates must have read the next public key before. A ring made before
    /// offline codes existed gets its first keys.
    ///
    /// # Errors
    ///
    /// `Full` if too many previous keys are kept.
    pub fn rotate_sign(&mut self, now: Time, keep: Duration) -> Result<(), RingError> {
        if self.offline.is_none() {
            self.offline = Some(Secret::random());
            self.sign = vec![
                RotatedKey::new(1, KeyState::Current, now),
                RotatedKey::new(2, KeyState::Next, now),
            ];
            return Ok(());
        }
        rotate(&mut self.sign, now, keep)
    }

    /// Rotates the keys of data at rest: the next key seals, the current one only opens, and a new next one is made. Previous keys
    /// stay until [`RingFile::drop_previous_rest`]. A ring without a next key gets one and nothing more: every node must have a key
    /// before it seals. Returns whether another key seals now.
    ///
    /// # Errors
    ///
    /// `RestFull` if the ring has its largest number of previous keys.
    pub fn rotate_rest(&mut self, now: Time) -> Result<bool, RingError> {
        let with = |state| self.rest.0.iter().filter(move |key| key.state == state);
        let previous = with(KeyState::Previous).count();
        if with(KeyState::Next).count() == 0 {
            let id = free_ids(self.rest.current().id, &self.rest.0).next();
            let id = id.expect("fewer keys than ids");
            self.rest.0.push(RestKey::new(id, KeyState::Next, now));
            return Ok(false);
        }
        if previous >= REST_PREVIOUS_MAX {
            return Err(RingError::RestFull(previous));
        }
        rotate(&mut self.rest.0, now, Duration::MAX)?;
        self.resealed = None;
        Ok(true)
    }

    /// Notes that everything at rest was found sealed with this key. Returns false, and notes nothing, if another key seals now.
    pub fn note_resealed(&mut self, key: u8, now: Time) -> bool {
        let is_current = self.rest.current().id == key;
        if is_current {
            self.resealed = Some(RestProof { key, at: now.0 });
        }
        is_current
    }

    /// Returns when everything at rest was found sealed with the current key; None: not since the last rotation.
    pub fn resealed_at(&self) -> Option<Time> {
        let current = self.rest.current().id;
        let proof = self.resealed.filter(|proof| proof.key == current);
        proof.map(|proof| Time(proof.at))
    }

    /// Removes the previous keys of data at rest, and returns their number. With `is_forced` they are removed although data may need
    /// them.
    ///
    /// # Errors
    ///
    /// `RestNeeded` if no walk since the last rotation found that nothing needs them.
    pub fn drop_previous_rest(&mut self, is_forced: bool) -> Result<usize, RingError> {
        let before = self.rest.0.len();
        let had_previous = (self.rest.0.iter()).any(|key| key.state == KeyState::Previous);
        if had_previous && self.resealed_at().is_none() && !is_forced {
            return Err(RingError::RestNeeded);
        }
        drop_previous(&mut self.rest.0);
        Ok(before - self.rest.0.len())
    }

    /// Returns the id of the key that seals data at rest.
    pub fn rest_current(&self) -> u8 {
        self.rest.current().id
    }

    /// Returns a line for each key of data at rest, without its secret.
    pub fn rest_lines(&self) -> Vec<KeyLine> {
        lines(&self.rest.0)
    }

    /// Drops all previous signing keys: codes and lists signed before the last rotation are refused.
    pub fn drop_previous_sign(&mut self) {
        drop_previous(&mut self.sign);
    }

    /// Drops all previous keys: everything sealed before the last rotation is refused.
    pub fn drop_previous(&mut self) {
        drop_previous(&mut self.token);
    }

    /// Replaces all token keys by new ones: an older copy of the ring makes nothing that is accepted, and opens nothing sealed
    /// from now on. Ids are not reused, so that no old key is taken for a new one.
    pub fn replace_token_keys(&mut self, now: Time) {
        replace(&mut self.token, now);
        if self.offline.is_some() {
            // A holder of the old ring could also sign codes and lists.
            replace(&mut self.sign, now);
        }
        // What rests goes on under its key until a rotation; that one then makes a key which no copy of the old ring has.
        let newest = self.rest.0.iter().map(|key| key.id).max().unwrap_or(0);
        let id = free_ids(newest, &self.rest.0).next();
        let next = RestKey::new(id.expect("fewer keys than ids"), KeyState::Next, now);
        self.rest.0.retain(|key| key.state != KeyState::Next);
        self.rest.0.push(next);
    }

    /// Returns a line for each signing key, without its secret.
    pub fn sign_lines(&self) -> Vec<KeyLine> {
        lines(&self.sign)
    }

    /// Returns a line for each key, without its secret.
    pub fn lines(&self) -> Vec<KeyLine> {
        lines(&self.token)
    }
}

/// Returns the derivation name of the key of a service's papers. Its number rises with any change of how papers are named: a
/// paper imported under an old name must not open.
fn papers_purpose(purpose: PaperPurpose) -> String {
    format!("liangma papers {} 3", purpose.word())
}

impl From<&RingFile> for KeyRing {
    fn from(file: &RingFile) -> KeyRing {
        let mut keys = [const { None }; 256];
        let (mut current, mut current_since) = (0, Time(0));
        for key in &file.token {
            keys[usize::from(key.id)] =
                Some(Box::new(TokenKind::ALL.map(|kind| {
                    Some(derive(&key.secret, kind.purpose()).cipher())
                })));
            match key.state {
                KeyState::Current => current = key.id,
                KeyState::Next => current_since = Time(key.created),
                KeyState::Previous => {}
            }
        }
        KeyRing {
            current_since,
            identity: Some(hmac::Key::new(hmac::HMAC_SHA256, &file.identity.0)),
            rest: (file.rest.0.iter())
                .map(|key| RestCiphers {
                    id: key.id,
                    profiles: Some(derive(&key.secret, b"liangma rest 1").cipher()),
                    papers: PaperPurpose::ALL
                        .map(|purpose| Some(file.papers_key(key, purpose)?.cipher())),
                })
                .collect(),
            rest_current: file.rest.current().id,
            mark: file.mark(),
            paper_names: hmac::Key::new(
                hmac::HMAC_SHA256,
                &derive::<32>(&file.identity, PAPER_NAMES).0,
            ),
            current,
            keys,
            tags: Arc::new(TagRing::new(file.rest.0.iter().map(|key| {
                let is_current = key.state == KeyState::Current;
                (is_current, TagSecrets::of(&key.secret.0))
            }))),
        }
    }
}

impl RingFile {
    /// Returns the mark by which a store recognises its ring.
    pub(super) fn mark(&self) -> [u8; 16] {
        let identity = hmac::Key::new(hmac::HMAC_SHA256, &self.identity.0);
        let tag = hmac::sign(&identity, b"liangma store mark 1");
        tag.as_ref()[..16].try_into().expect("16 of 32")
    }

    /// Returns the key of a service's papers, derived from the service's own key and a key of data at rest, so that destroying either
    /// makes the papers unreadable. None if the service's key was destroyed. A ring without a key for
    /// the service uses the other alone.
    pub(super) fn papers_key(&self, rest: &RestKey, purpose: PaperPurpose) -> Option<Secret<16>> {
        let own = self.papers.iter().find(|key| key.purpose == purpose);
        let mut secret = Zeroizing::new(Vec::with_capacity(64));
        if let Some(own) = own {
            secret.extend_from_slice(&own.secret.as_ref()?.0);
        }
        secret.extend_from_slice(&rest.secret.0);
        let mut key = Secret([0; 16]);
        derivation::fill(&secret, papers_purpose(purpose).as_bytes(), &mut key.0);
        Some(key)
    }
}
