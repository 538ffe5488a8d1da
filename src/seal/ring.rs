//! The key ring: the keys that seal and open, their states, and their file, which only its owner may read.

pub mod part;

use super::derivation;
use super::tags::{TagRing, TagSecrets};
use crate::clock::Time;
use crate::paper::PaperPurpose;
use crate::{hex, private_file};
use aws_lc_rs::aead::{AES_128_GCM_SIV, LessSafeKey, UnboundKey};
use aws_lc_rs::hmac;
use part::{DoorPart, RingPart};
use serde::{Deserialize, Serialize, de};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Why a key ring file cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum RingError {
    #[error("{path}: there is no key ring (`liangma keys new --keys {path}` creates one)", path = .0.display())]
    Missing(PathBuf),
    #[error("{path}: other users can read the key ring (mode {1:03o}): `chmod 600 {path}`, and replace its keys if it was exposed: `liangma keys replace --keys {path}`", path = .0.display())]
    Exposed(PathBuf, u32),
    #[error("{path}: there is a key ring already, which is not overwritten", path = .0.display())]
    Exists(PathBuf),
    #[error("{path}: not a key ring: {1}", path = .0.display())]
    Unreadable(PathBuf, String),
    #[error("{path}: {1}", path = .0.display())]
    Io(PathBuf, #[source] std::io::Error),
    #[error("{path}: the file holds the key ring part for {1}, and the whole ring is needed", path = .0.display())]
    Part(PathBuf, String),
    #[error(
        "the key ring is full: credentials of {0} previous keys are still valid; `--drop-previous` drops these keys at once"
    )]
    Full(usize),
    #[error(
        "the ring has {0} previous keys of data at rest: run `liangma keys reseal`, then `liangma keys drop`"
    )]
    RestFull(usize),
    #[error(
        "data at rest may still need the previous keys: run `liangma keys reseal` first; `--unproved` drops them anyway, and everything still sealed with them is lost"
    )]
    RestNeeded,
}

/// Exclusive lock for a change of a ring, from reading to writing, across processes. Released on drop and when the process
/// ends.
pub struct RingLock {
    path: PathBuf,
    _folder: std::fs::File,
}

impl RingLock {
    /// Waits for the lock of the ring's folder.
    ///
    /// # Errors
    ///
    /// `Missing` if there is no such folder, `Io` if it cannot be locked.
    pub fn of(path: &Path) -> Result<RingLock, RingError> {
        // The folder is locked, because the file is replaced by every change.
        let opened = std::fs::File::open(private_file::folder_of(path));
        let locked = opened.and_then(|folder| folder.lock().map(|()| folder));
        match locked {
            Ok(folder) => Ok(RingLock {
                path: path.to_owned(),
                _folder: folder,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(RingError::Missing(path.to_owned()))
            }
            Err(error) => Err(RingError::Io(path.to_owned(), error)),
        }
    }

    /// Reads the ring to change.
    ///
    /// # Errors
    ///
    /// As of [`RingFile::read`].
    pub fn read(&self) -> Result<RingFile, RingError> {
        RingFile::read(&self.path)
    }
}

/// Secret bytes, wiped on drop and never printed.
#[derive(Clone, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(try_from = "String")]
struct Secret<const BYTES: usize = 32>([u8; BYTES]);

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
fn digits(secret: &[u8]) -> Zeroizing<String> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // Allocated in full, because a growing text leaves copies.
    let mut text = Zeroizing::new(String::with_capacity(2 * secret.len()));
    for byte in secret {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// State of a key that seals tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Opens already, and seals after the next rotation: all nodes know it before any uses it.
    Next,
    /// Seals and opens.
    Current,
    /// Opens what it sealed, until the longest validity of that is over.
    Previous,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RotatedKey<S> {
    id: u8,
    state: KeyState,
    created: u64,
    /// When it became previous, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retired: Option<u64>,
    secret: S,
}

/// A key that seals tokens and codes.
type TokenKey = RotatedKey<Secret>;

/// A key that seals data at rest, and from which the tags of statuses are made.
type RestKey = RotatedKey<Secret>;

/// A key that signs offline codes and status lists.
type SignKey = RotatedKey<SignSecret>;

/// A secret that a rotation creates.
trait RandomSecret {
    fn random() -> Self;
}

impl<S: RandomSecret> RotatedKey<S> {
    fn new(id: u8, state: KeyState, now: Time) -> RotatedKey<S> {
        RotatedKey {
            id,
            state,
            created: now.0,
            retired: None,
            secret: S::random(),
        }
    }
}

/// Rotates: the next key becomes current, the current one previous. Drops keys that retired `keep` ago, and adds a next one.
fn rotate<S: RandomSecret>(
    keys: &mut Vec<RotatedKey<S>>,
    now: Time,
    keep: Duration,
) -> Result<(), RingError> {
    keys.retain(|key| {
        key.retired
            .is_none_or(|retired| now.since(Time(retired)) < keep)
    });
    if keys.len() >= KEYS_MAX {
        return Err(RingError::Full(keys.len() - 2));
    }
    let mut newest = 0;
    for key in keys.iter_mut() {
        match key.state {
            KeyState::Next => {
                key.state = KeyState::Current;
                newest = key.id;
            }
            KeyState::Current => {
                key.state = KeyState::Previous;
                key.retired = Some(now.0);
            }
            KeyState::Previous => {}
        }
    }
    let id = free_ids(newest, keys).next().expect("fewer keys than ids");
    keys.push(RotatedKey::new(id, KeyState::Next, now));
    Ok(())
}

/// Replaces all keys by new ones. Ids are not reused, so that no old key is taken for a new one.
fn replace<S: RandomSecret>(keys: &mut Vec<RotatedKey<S>>, now: Time) {
    let newest = keys.iter().map(|key| key.id).max().unwrap_or(0);
    let mut free = free_ids(newest, keys);
    let mut key = |state| RotatedKey::new(free.next().expect("fewer keys than ids"), state, now);
    *keys = vec![key(KeyState::Current), key(KeyState::Next)];
}

/// Returns unused ids, from the one after `newest` on.
fn free_ids<S>(newest: u8, keys: &[RotatedKey<S>]) -> impl Iterator<Item = u8> + use<S> {
    let used: Vec<u8> = keys.iter().map(|key| key.id).collect();
    (1..=u8::MAX)
        .map(move |step| newest.wrapping_add(step))
        .filter(move |id| *id != 0 && !used.contains(id))
}

fn drop_previous<S>(keys: &mut Vec<RotatedKey<S>>) {
    keys.retain(|key| key.state != KeyState::Previous);
}

fn lines<S>(keys: &[RotatedKey<S>]) -> Vec<KeyLine> {
    let line = |key: &RotatedKey<S>| KeyLine {
        id: key.id,
        state: key.state,
        created: Time(key.created),
        retired: key.retired.map(Time),
    };
    keys.iter().map(line).collect()
}

/// The keys of data at rest: one current, the previous ones, and a next one, unless the ring is older than their rotation. A file has
/// them as a list, or such an older ring as one key.
#[derive(Clone, Serialize)]
#[serde(transparent)]
struct RestKeyList(Vec<RestKey>);

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
    fn current(&self) -> &RestKey {
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

/// A P-256 private key in PKCS#8, wiped on drop and never printed.
#[derive(Clone, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(try_from = "String")]
struct SignSecret(Vec<u8>);

impl SignSecret {
    /// Returns the public key, an uncompressed P-256 point.
    fn public(&self) -> Box<[u8]> {
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
            Err(_) => Err("a signing key is no PKCS#8 of P-256"),
        }
    }
}

impl Serialize for SignSecret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&digits(&self.0))
    }
}

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

/// The key of one service's papers, or when it was destroyed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PapersKey {
    purpose: PaperPurpose,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    destroyed: Option<u64>,
}

/// The key ring as in its file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingFile {
    /// Makes resident ids. It can never change, because every id would.
    identity: Secret,
    /// Seal data at rest in the store.
    rest: RestKeyList,
    /// When everything at rest was found sealed with the current key; absent from the next rotation on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resealed: Option<RestProof>,
    token: Vec<TokenKey>,
    /// One key for each service. Rings made before papers had keys derive them from `rest`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    papers: Vec<PapersKey>,
    /// Makes list ids. It can never change, because every list id would. Missing in a ring made before offline codes existed,
    /// until its first `keys rotate --sign`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offline: Option<Secret>,
    /// Keys that sign offline codes and lists; missing where `offline` is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sign: Vec<SignKey>,
}

/// A line of `keys list`, without secrets.
pub struct KeyLine {
    /// Id of the key.
    pub id: u8,
    /// State of the key.
    pub state: KeyState,
    /// When the key was created.
    pub created: Time,
    /// When the key retired; None while it seals.
    pub retired: Option<Time>,
}

/// Previous keys of data at rest at most: each is tried where a tag does not fit.
const REST_PREVIOUS_MAX: usize = 6;

/// Largest number of keys. Ids are a byte, and none may be reused while it still opens something.
const KEYS_MAX: usize = 64;

const HEADER: &str = "# The key ring of liangma. Whoever reads it can make codes and read names: keep it at mode 0600.\n\
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

/// A file of keys: a whole ring, or a part for some doors.
pub enum KeyFile {
    /// A ring with all keys.
    Whole(Box<RingFile>),
    /// The part of a ring for some doors.
    Part(Box<RingPart>),
}

impl KeyFile {
    /// Reads a ring or a part.
    ///
    /// # Errors
    ///
    /// The file is missing, readable by others, or holds neither.
    pub fn read(path: &Path) -> Result<KeyFile, RingError> {
        let io = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => RingError::Missing(path.to_owned()),
            _ => RingError::Io(path.to_owned(), error),
        };
        let file = std::fs::File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(RingError::Exposed(path.to_owned(), mode));
        }
        let text = Zeroizing::new(std::io::read_to_string(file).map_err(io)?);
        let unreadable = |why: &str| RingError::Unreadable(path.to_owned(), why.to_owned());
        // The parser's message would quote the line, and with it the key.
        let quiet = |error: toml::de::Error| unreadable(error.message());
        if text.lines().any(|line| line.starts_with("doors")) {
            let part: RingPart = toml::from_str(&text).map_err(quiet)?;
            part.check().map_err(unreadable)?;
            return Ok(KeyFile::Part(Box::new(part)));
        }
        let ring: RingFile = toml::from_str(&text).map_err(quiet)?;
        ring.check().map_err(unreadable)?;
        Ok(KeyFile::Whole(Box::new(ring)))
    }
}

impl OfflineSource for KeyFile {
    fn offline(&self) -> Option<OfflineSecrets<'_>> {
        match self {
            KeyFile::Whole(ring) => ring.offline(),
            KeyFile::Part(part) => part.offline(),
        }
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

    /// Reads a whole ring.
    ///
    /// # Errors
    ///
    /// The file is missing, readable by others, or holds no whole ring.
    pub fn read(path: &Path) -> Result<RingFile, RingError> {
        match KeyFile::read(path)? {
            KeyFile::Whole(ring) => Ok(*ring),
            KeyFile::Part(part) => Err(RingError::Part(path.to_owned(), part.door_names())),
        }
    }

    fn check(&self) -> Result<(), &'static str> {
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

    /// Returns the part of the ring for nodes with these doors only.
    pub fn part(&self, doors: &[DoorPart]) -> RingPart {
        RingPart::of(self, doors)
    }

    /// Writes the locked ring atomically: a reader or a crash finds the old or the new one. The lock of [`RingLock::read`]
    /// keeps two writers from undoing each other's change.
    ///
    /// # Errors
    ///
    /// `Io` if the new file cannot be written; the old one stays.
    pub fn replace(&self, lock: &RingLock) -> Result<(), RingError> {
        let path = &lock.path;
        // An operator rotates as root, and the node reads the ring as a user of its own.
        let beside = write_beside(self, HEADER, path, Some(path))?;
        std::fs::rename(&beside, path)
            .inspect_err(|_| drop(std::fs::remove_file(&beside)))
            .and_then(|()| sync_folder(path))
            .map_err(|error| RingError::Io(path.to_owned(), error))
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

    /// The next key seals data at rest from now on, the current one only opens, and a new next one is made. Previous keys stay until
    /// [`RingFile::drop_previous_rest`]. A ring that is older than this rotation gets its next key and nothing more: every node
    /// must have that before it seals. Returns whether another key seals now.
    ///
    /// # Errors
    ///
    /// `RestFull` where as many previous keys are kept as there may be.
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

    /// Notes that everything at rest was found sealed with this key. False where it is not the one that seals now.
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

    /// Removes the previous keys of data at rest, and returns how many there were. `is_forced`: although something may need them.
    ///
    /// # Errors
    ///
    /// `RestNeeded` where it was not found since the last rotation that nothing needs them.
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

/// Writes a file of keys where there is none. Of two simultaneous writers one fails.
fn write_new(keys: &impl Serialize, header: &str, path: &Path) -> Result<(), RingError> {
    let beside = write_beside(keys, header, path, None)?;
    let linked = std::fs::hard_link(&beside, path);
    let removed = std::fs::remove_file(&beside);
    match linked {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(RingError::Exists(path.to_owned()));
        }
        linked => linked.and(removed),
    }
    .and_then(|()| sync_folder(path))
    .map_err(|error| RingError::Io(path.to_owned(), error))
}

/// Writes a file of keys durably under a temporary name beside its own, with the owner of the file that it replaces.
fn write_beside(
    keys: &impl Serialize,
    header: &str,
    path: &Path,
    replaces: Option<&Path>,
) -> Result<PathBuf, RingError> {
    let body = Zeroizing::new(toml::to_string(keys).expect("keys are plain data"));
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let _ = std::fs::remove_file(&beside);
    let written = private_file::create_new(&beside).and_then(|mut file| {
        if let Some(old) = replaces {
            private_file::take_owner_of(&file, old)?;
        }
        file.write_all(header.as_bytes())?;
        file.write_all(body.as_bytes())?;
        file.sync_all()
    });
    match written {
        Ok(()) => Ok(beside),
        Err(error) => {
            let _ = std::fs::remove_file(&beside);
            Err(RingError::Io(path.to_owned(), error))
        }
    }
}

/// Makes a new name in a folder durable.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(private_file::folder_of(path))?.sync_all()
}

/// Purpose of a sealed text. Each has its own keys, so that none is accepted as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// A code that a gate scans.
    Code = 1,
    /// A session of a resident.
    Session = 2,
    /// A token of a gate's device.
    Scanner = 3,
    /// A token of an authority that feeds.
    Authority = 4,
    /// A token of an organisation.
    Organisation = 5,
    /// A token of an office's staff.
    Staff = 6,
    /// A token of an operator.
    Operator = 7,
    /// A grant to an organisation.
    Grant = 8,
}

impl TokenKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [TokenKind; 8] = [
        TokenKind::Code,
        TokenKind::Session,
        TokenKind::Scanner,
        TokenKind::Authority,
        TokenKind::Organisation,
        TokenKind::Staff,
        TokenKind::Operator,
        TokenKind::Grant,
    ];

    fn purpose(self) -> &'static [u8] {
        match self {
            TokenKind::Code => b"liangma code 1",
            TokenKind::Session => b"liangma session 1",
            TokenKind::Scanner => b"liangma scanner 1",
            TokenKind::Authority => b"liangma authority 1",
            TokenKind::Organisation => b"liangma organisation 1",
            TokenKind::Staff => b"liangma staff 1",
            TokenKind::Operator => b"liangma operator 1",
            TokenKind::Grant => b"liangma grant 1",
        }
    }
}

/// A ring, or a part of one, with its keys expanded.
pub struct KeyRing {
    /// None in a ring part.
    pub(super) identity: Option<hmac::Key>,
    /// The keys of data at rest, in any order.
    rest: Vec<RestCiphers>,
    /// The id of the one that seals.
    rest_current: u8,
    pub(super) mark: [u8; 16],
    /// Makes keys of papers and owners.
    pub(super) paper_names: hmac::Key,
    current: u8,
    /// When the current key came into use: the rotation creates the next key at that moment.
    pub(super) current_since: Time,
    /// Keys by id, one for each [`TokenKind`]; None where a part has none.
    keys: [Option<Box<[Option<LessSafeKey>; 8]>>; 256],
    /// What makes and checks the tags of statuses.
    pub(super) tags: Arc<TagRing>,
}

/// What a key of data at rest seals with.
pub(super) struct RestCiphers {
    pub(super) id: u8,
    /// Of profiles; None in a part of a ring.
    pub(super) profiles: Option<LessSafeKey>,
    /// By [`PaperPurpose`]; None: destroyed, or of no use to the doors of a part.
    pub(super) papers: [Option<LessSafeKey>; PaperPurpose::ALL.len()],
}

const PAPER_NAMES: &[u8] = b"liangma paper names 1";

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

impl From<&KeyFile> for KeyRing {
    fn from(file: &KeyFile) -> KeyRing {
        match file {
            KeyFile::Whole(ring) => KeyRing::from(&**ring),
            KeyFile::Part(part) => KeyRing::from(&**part),
        }
    }
}

impl RingFile {
    /// Returns the mark by which a store recognises its ring.
    fn mark(&self) -> [u8; 16] {
        let identity = hmac::Key::new(hmac::HMAC_SHA256, &self.identity.0);
        let tag = hmac::sign(&identity, b"liangma store mark 1");
        tag.as_ref()[..16].try_into().expect("16 of 32")
    }

    /// The key of a service's papers that were sealed under a key of data at rest; None if the service's was destroyed. It is made of
    /// both, so that the end of either ends it.
    fn papers_key(&self, rest: &RestKey, purpose: PaperPurpose) -> Option<Secret<16>> {
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

impl KeyRing {
    /// The keys that seal data at rest.
    pub(super) fn rest_current(&self) -> &RestCiphers {
        let current = self.rest_of(self.rest_current);
        current.expect("a ring was checked when it was read")
    }

    /// The keys that opened data at rest under this id.
    pub(super) fn rest_of(&self, id: u8) -> Option<&RestCiphers> {
        self.rest.iter().find(|key| key.id == id)
    }

    pub(super) fn current_id(&self) -> u8 {
        self.current
    }

    /// Returns the current key of a kind; None in a part for doors that do not use it.
    pub(super) fn current(&self, kind: TokenKind) -> Option<(u8, &LessSafeKey)> {
        Some((self.current, self.key(self.current, kind)?))
    }

    pub(super) fn key(&self, id: u8, kind: TokenKind) -> Option<&LessSafeKey> {
        let keys = self.keys[usize::from(id)].as_deref()?;
        keys[kind as usize - 1].as_ref()
    }
}

impl Secret<16> {
    fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_128_GCM_SIV, &self.0).expect("16 bytes are a key"))
    }
}

fn derive<const BYTES: usize>(secret: &Secret, purpose: &[u8]) -> Secret<BYTES> {
    let mut key = Secret([0; BYTES]);
    derivation::fill(&secret.0, purpose, &mut key.0);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_written_ring_reads_back_and_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let ring = RingFile::generate(Time(1));
        ring.write_new(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(RingFile::read(&path).unwrap().identity.0 == ring.identity.0);
        assert!(matches!(ring.write_new(&path), Err(RingError::Exists(_))));
    }

    #[test]
    fn a_rotated_ring_keeps_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let mut ring = RingFile::generate(Time(1));
        ring.write_new(&path).unwrap();
        let owner = |path: &Path| {
            let metadata = std::fs::metadata(path).unwrap();
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o777)
        };
        // As /etc/liangma is: the folder is root's, the ring the node's.
        let given = std::os::unix::fs::chown(&path, Some(54_321), Some(54_322));
        let before = owner(&path);
        assert_eq!(before.0 == 54_321, given.is_ok());
        let lock = RingLock::of(&path).unwrap();
        ring.rotate(Time(2), Duration::ZERO).unwrap();
        ring.replace(&lock).unwrap();
        assert_eq!(owner(&path), before);
    }

    #[test]
    fn a_ring_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        RingFile::generate(Time(1)).write_new(&path).unwrap();
        for mode in [0o640, 0o604, 0o644, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(
                RingFile::read(&path),
                Err(RingError::Exposed(_, m)) if m == mode
            ));
        }
    }

    #[test]
    fn a_spoilt_ring_is_refused_without_quoting_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        RingFile::generate(Time(1)).write_new(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let secret = text.split('"').nth(1).unwrap().to_owned();
        let spoilt = text.replacen(&secret, &format!("{}zz", &secret[..62]), 1);
        std::fs::write(&path, spoilt).unwrap();
        let error = RingFile::read(&path).err().unwrap().to_string();
        assert!(error.contains("64 hexadecimal"), "{error}");
        assert!(!error.contains(&secret[..16]), "{error}");
    }

    #[test]
    fn rotation_keeps_what_still_opens_something_and_drops_the_rest() {
        let mut ring = RingFile::generate(Time(0));
        let keep = Duration::from_millis(100);
        ring.rotate(Time(10), keep).unwrap();
        ring.rotate(Time(50), keep).unwrap();
        let states: Vec<_> = ring.lines().iter().map(|key| (key.id, key.state)).collect();
        assert_eq!(
            states,
            [
                (1, KeyState::Previous),
                (2, KeyState::Previous),
                (3, KeyState::Current),
                (4, KeyState::Next)
            ]
        );
        ring.rotate(Time(120), keep).unwrap();
        assert!(ring.lines().iter().all(|key| key.id != 1));
        assert!(ring.check().is_ok());
    }

    #[test]
    fn a_key_that_was_destroyed_is_gone_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let mut ring = RingFile::generate(Time(1));
        let secrets = |ring: &RingFile| {
            ring.papers
                .iter()
                .filter(|key| key.secret.is_some())
                .count()
        };
        assert_eq!(secrets(&ring), PaperPurpose::ALL.len());
        assert!(
            ring.destroy(PaperPurpose::Trips, Time(7))
                && ring.destroy(PaperPurpose::Trips, Time(9))
        );
        ring.write_new(&path).unwrap();
        let read = RingFile::read(&path).unwrap();
        assert_eq!(read.destroyed(PaperPurpose::Trips), Some(Time(7)));
        assert_eq!(read.destroyed(PaperPurpose::Health), None);
        assert_eq!(secrets(&read), PaperPurpose::ALL.len() - 1);
        // A ring of before has nothing to destroy.
        ring.papers.clear();
        assert!(!ring.destroy(PaperPurpose::Trips, Time(7)));
        let keys = KeyRing::from(&ring);
        assert!(keys.rest_current().papers.iter().all(Option::is_some));
    }

    #[test]
    fn ids_come_round_without_meeting() {
        let mut ring = RingFile::generate(Time(0));
        for i in 0..600 {
            ring.rotate(Time(i * 10), Duration::from_millis(50))
                .unwrap();
            ring.rotate_sign(Time(i * 10), Duration::from_millis(50))
                .unwrap();
            assert!(ring.check().is_ok());
            let mut lines = ring.lines().into_iter().chain(ring.sign_lines());
            assert!(lines.all(|key| key.id != 0));
        }
    }

    #[test]
    fn signing_keys_rotate_by_themselves_and_a_theft_replaces_them_too() {
        let mut ring = RingFile::generate(Time(0));
        let permutation = ring.offline().unwrap().permutation;
        let tokens = |ring: &RingFile| ring.lines().iter().map(|key| key.id).collect::<Vec<_>>();
        let before = tokens(&ring);
        ring.rotate_sign(Time(10), Duration::from_millis(100))
            .unwrap();
        assert_eq!(tokens(&ring), before);
        let states = |ring: &RingFile| {
            let lines = ring.sign_lines().into_iter();
            lines.map(|key| (key.id, key.state)).collect::<Vec<_>>()
        };
        assert_eq!(
            states(&ring),
            [
                (1, KeyState::Previous),
                (2, KeyState::Current),
                (3, KeyState::Next)
            ]
        );
        ring.replace_token_keys(Time(20));
        assert_eq!(states(&ring), [(4, KeyState::Current), (5, KeyState::Next)]);
        assert!(ring.check().is_ok());
        assert_eq!(ring.offline().unwrap().permutation, permutation);
    }

    #[test]
    fn a_ring_of_before_offline_codes_is_read_and_gets_its_keys_by_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let mut ring = RingFile::generate(Time(1));
        (ring.offline, ring.sign) = (None, Vec::new());
        ring.write_new(&path).unwrap();
        let mut read = RingFile::read(&path).unwrap();
        assert!(read.offline().is_none());
        read.rotate_sign(Time(2), Duration::ZERO).unwrap();
        read.replace(&RingLock::of(&path).unwrap()).unwrap();
        assert_eq!(
            RingFile::read(&path)
                .unwrap()
                .offline()
                .unwrap()
                .signing
                .len(),
            2
        );
    }

    #[test]
    fn keys_of_what_rests_stay_until_nothing_is_known_to_need_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let mut ring = RingFile::generate(Time(0));
        let states = |ring: &RingFile| {
            let lines = ring.rest_lines().into_iter();
            lines.map(|key| (key.id, key.state)).collect::<Vec<_>>()
        };
        ring.rotate(Time(5), Duration::ZERO).unwrap();
        ring.rotate_sign(Time(5), Duration::ZERO).unwrap();
        let (current, next) = (KeyState::Current, KeyState::Next);
        assert_eq!(states(&ring), [(1, current), (2, next)]);
        assert!(ring.rotate_rest(Time(10)).unwrap());
        let rotated = [(1, KeyState::Previous), (2, current), (3, next)];
        assert_eq!(states(&ring), rotated);
        // No time lets them go, and no proof of another key.
        let kept = |ring: &mut RingFile| {
            let refused = ring.drop_previous_rest(false);
            matches!(refused, Err(RingError::RestNeeded))
        };
        assert!(kept(&mut ring));
        assert!(!ring.note_resealed(1, Time(11)) && !ring.note_resealed(3, Time(11)));
        assert!(kept(&mut ring));
        assert!(ring.note_resealed(2, Time(12)));
        ring.write_new(&path).unwrap();
        let mut ring = RingFile::read(&path).unwrap();
        assert_eq!(
            (states(&ring), ring.resealed_at()),
            (rotated.to_vec(), Some(Time(12)))
        );
        assert_eq!(ring.clone().drop_previous_rest(false).unwrap(), 1);
        // What was found ends with the next rotation.
        assert!(ring.rotate_rest(Time(20)).unwrap());
        assert_eq!(ring.resealed_at(), None);
        assert!(kept(&mut ring));
        // A theft makes the next key another one, and nothing else of data at rest.
        let before = ring.rest.current().secret.0;
        ring.replace_token_keys(Time(30));
        assert_eq!(ring.rest.current().secret.0, before);
        let ids: Vec<u8> = states(&ring).iter().map(|key| key.0).collect();
        assert_eq!(ids, [1, 2, 3, 5]);
        assert!(ring.check().is_ok());
        let full = (0..9).find_map(|nth| ring.rotate_rest(Time(40 + nth)).err());
        assert!(matches!(full, Some(RingError::RestFull(REST_PREVIOUS_MAX))));
        assert_eq!(ring.drop_previous_rest(true).unwrap(), REST_PREVIOUS_MAX);
    }

    #[test]
    fn a_ring_of_before_the_rotation_of_what_rests_gets_its_next_key_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let ring = RingFile::generate(Time(1));
        let text = toml::to_string(&ring).unwrap();
        let (head, rest) = text.split_once("[[rest]]").unwrap();
        let (_, tail) = rest.split_once("[[token]]").unwrap();
        let secret = &*digits(&ring.rest.current().secret.0);
        let text = format!("{head}[rest]\nid = 1\nsecret = \"{secret}\"\n\n[[token]]{tail}");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut old = RingFile::read(&path).unwrap();
        assert!(old.rest.current().secret.0 == ring.rest.current().secret.0);
        assert!(!old.rotate_rest(Time(2)).unwrap());
        let ids = |ring: &RingFile| {
            ring.rest_lines()
                .iter()
                .map(|key| key.id)
                .collect::<Vec<_>>()
        };
        assert_eq!((old.rest_current(), ids(&old)), (1, vec![1, 2]));
        old.replace(&RingLock::of(&path).unwrap()).unwrap();
        let mut old = RingFile::read(&path).unwrap();
        assert!(old.rotate_rest(Time(3)).unwrap());
        assert_eq!((old.rest_current(), ids(&old)), (2, vec![1, 2, 3]));
    }
}
