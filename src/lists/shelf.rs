//! Files of status lists in the store. A file is cut into papers; the head of a slot names complete files. Parts and heads
//! never change once stored, so a reader finds a whole edition or none.

use crate::clock::Time;
use crate::paper::{PAGE_MAX, Paper, PaperKey, PaperKind, PaperKinds};
use crate::person::Identity;
use crate::seal::{PLAIN_BYTES_MAX, Seal};
use crate::store::{Change, ChangeKind, ChangeOutcome, Error, Store};
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// Parts of a file that are stored in one call.
const PARTS_AT_ONCE: usize = 64;

/// Heads that a reader asks for: the newest, and older ones in case the newest is unusable.
const HEADS_READ: usize = 8;

/// The name of a file, which follows from its contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileName {
    /// The size of the file in bytes.
    pub bytes: u32,
    /// SHA-256 of the contents.
    #[serde(with = "hash_digits")]
    pub hash: [u8; 32],
}

mod hash_digits {
    use crate::seal::base32;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes a hash as hexadecimal digits.
    pub fn serialize<S: Serializer>(hash: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&base32::text(hash))
    }

    /// Reads a hash from hexadecimal digits.
    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(from)?;
        let mut hash = [0; 32];
        match base32::decode(text.as_bytes(), &mut hash) {
            Some(32) => Ok(hash),
            _ => Err(D::Error::custom("no hash of 32 bytes")),
        }
    }
}

impl FileName {
    /// Returns the name of a file with these contents.
    pub fn of(bytes: &[u8]) -> FileName {
        let hash = digest(&SHA256, bytes);
        FileName {
            bytes: bytes.len() as u32,
            hash: hash.as_ref().try_into().expect("SHA-256 has 32 bytes"),
        }
    }

    /// Returns the entity tag of the file, in quotes.
    pub fn tag(&self) -> String {
        let half = u128::from_be_bytes(self.hash[..16].try_into().expect("16 of 32"));
        format!("\"{half:032x}\"")
    }

    fn owner(&self, seal: &Seal) -> Identity {
        let name = self.tag();
        seal.owner("list file", &name, self.hash[0])
    }

    fn parts(&self) -> usize {
        (self.bytes as usize).div_ceil(PLAIN_BYTES_MAX)
    }

    fn key(&self, seal: &Seal, part: usize) -> PaperKey {
        seal.paper_key(&[b"list part", &self.hash, &(part as u64).to_be_bytes()])
    }
}

/// A base and its changes, as a head names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairNames {
    /// The number of the base.
    pub number: u64,
    /// The file of the base.
    pub base: FileName,
    /// The file of its changes.
    pub changes: FileName,
}

/// The head of an edition: the slot, the counts, and the names of its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditionHead {
    /// When the slot began, in milliseconds since 1970.
    pub slot: u64,
    /// Time up to which acknowledged changes are in the list, in milliseconds since 1970.
    pub as_of: u64,
    /// Time after which the list must not be used, in milliseconds since 1970.
    pub until: u64,
    /// When the newest base was made, in milliseconds since 1970.
    pub based: u64,
    /// Residents on record when the edition was made.
    pub residents: u64,
    /// Numbers of red, yellow and void ids.
    pub listed: [u64; 3],
    /// Number of ids that are void because two residents would have the same one.
    pub clashes: u64,
    /// Names of the bases and their changes, the newest first.
    pub pairs: Vec<PairNames>,
}

/// Stores and reads files, turns to publish, and heads.
pub struct ListShelf<'s> {
    /// The store.
    pub store: &'s dyn Store,
    /// The keys that seal the papers.
    pub seal: &'s Seal,
    /// The issuer of the lists, a division of GB/T 2260. Each issuer has its own heads.
    pub issuer: u32,
}

const NO_KEY: Error = Error::Damaged("the papers of revocations have no key");

impl ListShelf<'_> {
    /// Stores a file. Nothing changes if the store has it already.
    ///
    /// # Errors
    ///
    /// The store fails, or the key ring has no key for papers.
    pub async fn put(&self, bytes: &[u8], now: Time) -> Result<FileName, Error> {
        let name = FileName::of(bytes);
        let owner = name.owner(self.seal);
        let parts: Vec<&[u8]> = bytes.chunks(PLAIN_BYTES_MAX).collect();
        for (nth, some) in parts.chunks(PARTS_AT_ONCE).enumerate() {
            let mut changes = Vec::with_capacity(some.len());
            for (beside, part) in some.iter().enumerate() {
                let key = name.key(self.seal, nth * PARTS_AT_ONCE + beside);
                changes.push(self.filing(owner, PaperKind::ListPart, key, now, part)?);
            }
            self.store.apply(changes).await?;
        }
        Ok(name)
    }

    /// Returns a file; None if a part is missing or changed.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub async fn get(&self, name: &FileName) -> Result<Option<Vec<u8>>, Error> {
        let owner = name.owner(self.seal);
        let keys: Vec<PaperKey> = (0..name.parts())
            .map(|part| name.key(self.seal, part))
            .collect();
        let mut bytes = Vec::with_capacity(name.bytes as usize);
        for keys in keys.chunks(PAGE_MAX) {
            for part in self.store.some(owner, keys).await? {
                let Some(part) = part.and_then(|part| self.seal.open_paper(&owner, &part)) else {
                    return Ok(None);
                };
                bytes.extend_from_slice(&part);
            }
        }
        Ok(Some(bytes).filter(|bytes| FileName::of(bytes) == *name))
    }

    /// Takes the turn to publish in a slot. Returns false if another node has it. `attempt` counts earlier turns in the slot
    /// that produced no list.
    ///
    /// # Errors
    ///
    /// The store fails, or the key ring has no key for papers.
    pub async fn take_turn(&self, slot: Time, attempt: u64, now: Time) -> Result<bool, Error> {
        let parts = [slot.0.to_be_bytes(), attempt.to_be_bytes()].concat();
        let key = self.seal.paper_key(&[b"list turn", &parts]);
        // A random body: two nodes that ask for one turn must not store the same bytes.
        let mine = self.seal.fresh_key();
        let turn = self.filing(self.heads_owner(), PaperKind::ListTurn, key, now, &mine)?;
        let filed = self.store.apply(vec![turn]).await?;
        Ok(filed == [ChangeOutcome::Applied])
    }

    /// Stores the head of a slot, after all of its files. Returns false if the slot has a head already.
    ///
    /// # Errors
    ///
    /// The store fails, or the key ring has no key for papers.
    pub async fn put_head(&self, head: &EditionHead) -> Result<bool, Error> {
        let key = self
            .seal
            .paper_key(&[b"list head", &head.slot.to_be_bytes()]);
        let body = serde_json::to_vec(head).map_err(|error| Error::Failed(error.into()))?;
        let owner = self.heads_owner();
        let head = self.filing(owner, PaperKind::ListHead, key, Time(head.slot), &body)?;
        Ok(self.store.apply(vec![head]).await? == [ChangeOutcome::Applied])
    }

    /// Returns up to eight heads, the newest slot first. Unreadable heads are left out.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub async fn heads(&self) -> Result<Vec<EditionHead>, Error> {
        let owner = self.heads_owner();
        let kinds = PaperKinds::of(&[PaperKind::ListHead]);
        let papers = self.store.papers(owner, kinds, None, HEADS_READ).await?;
        let read = |paper: &Paper| {
            let body = self.seal.open_paper(&owner, paper)?;
            serde_json::from_slice(&body).ok()
        };
        // An unreadable head does not hide the others.
        Ok(papers.iter().filter_map(read).collect())
    }

    fn heads_owner(&self) -> Identity {
        self.seal.owner("list heads", &self.issuer.to_string(), 0)
    }

    fn filing(
        &self,
        who: Identity,
        kind: PaperKind,
        key: PaperKey,
        at: Time,
        body: &[u8],
    ) -> Result<Change, Error> {
        let paper = self.seal.paper(&who, kind, key, at, body).ok_or(NO_KEY)?;
        let what = ChangeKind::Paper(paper);
        Ok(Change { who, what })
    }
}
