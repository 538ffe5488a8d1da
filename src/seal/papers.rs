//! Papers sealed for the store with the key of their service, and the keyed hashes that name them and their owners.

use super::ring::{KeyRing, RestCiphers};
use super::sealed_text::Seal;
use crate::clock::Time;
use crate::paper::{BODY_BYTES_MAX, Paper, PaperKey, PaperKind};
use crate::person::{Identity, ResidentId};
use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use aws_lc_rs::hmac;

/// Bytes of a body before it is sealed, at most.
pub const PLAIN_BYTES_MAX: usize = BODY_BYTES_MAX - 1 - TAG;

const TAG: usize = 16;

/// Who owns a paper, what it is, when it was, and which key of the ring sealed it, are sealed in: a paper that was moved does not
/// open.
fn place(owner: &Identity, kind: PaperKind, key: &PaperKey, at: Time, sealed_by: u8) -> [u8; 42] {
    let mut place = [0; 42];
    place[..16].copy_from_slice(&owner.claim);
    place[16..32].copy_from_slice(key);
    place[32] = kind as u8;
    place[33..41].copy_from_slice(&at.0.to_be_bytes());
    place[41] = sealed_by;
    place
}

/// Returns the body of a paper: the id of the key, what is sealed, the tag. None if the service's key was destroyed, or the body
/// would be too long.
pub(super) fn seal_body(
    keys: &RestCiphers,
    owner: &Identity,
    kind: PaperKind,
    key: &PaperKey,
    at: Time,
    plain: &[u8],
) -> Option<Vec<u8>> {
    let secret = keys.papers[kind.purpose() as usize].as_ref()?;
    if plain.len() > PLAIN_BYTES_MAX {
        return None;
    }
    let mut body = Vec::with_capacity(1 + plain.len() + TAG);
    body.push(keys.id);
    body.extend_from_slice(plain);
    let place = Aad::from(place(owner, kind, key, at, keys.id));
    let tag = secret.seal_in_place_separate_tag(nonce(key), place, &mut body[1..]);
    body.extend_from_slice(tag.ok()?.as_ref());
    Some(body)
}

/// Opens the body of a paper with the key that it names. None if that is not on the ring or was destroyed, or the paper is another
/// owner's, or was changed.
pub(super) fn open_body(ring: &KeyRing, owner: &Identity, paper: &Paper) -> Option<Vec<u8>> {
    let (id, sealed) = paper.body.split_first()?;
    let secret = ring.rest_of(*id)?.papers[paper.kind.purpose() as usize].as_ref()?;
    let mut bytes = sealed.to_vec();
    let place = Aad::from(place(owner, paper.kind, &paper.key, paper.at, *id));
    let opened = secret.open_in_place(nonce(&paper.key), place, &mut bytes);
    let length = opened.ok()?.len();
    bytes.truncate(length);
    Some(bytes)
}

impl Seal {
    /// Returns the owner that stands for something other than a person, such as an organisation or a destination's day.
    /// `partition`, below 16, becomes the first four bits of the home, so that shared lists are spread evenly.
    pub fn owner(&self, noun: &str, name: &str, partition: u8) -> Identity {
        let tag = self.hash(&[b"owner", noun.as_bytes(), name.as_bytes()]);
        let mut who = Identity::of_hash(&tag);
        who.home = ResidentId(who.home.0 >> 4 | u64::from(partition & 15) << 60);
        who
    }

    /// Returns the key of a paper that follows from `parts`, such as source and number.
    pub fn paper_key(&self, parts: &[&[u8]]) -> PaperKey {
        let tag = self.hash(parts);
        tag[..16].try_into().expect("16 of 32")
    }

    /// Returns a random key for a paper.
    pub fn fresh_key(&self) -> PaperKey {
        let mut key = [0; 16];
        aws_lc_rs::rand::fill(&mut key).expect("the system gives random bytes");
        key
    }

    /// Returns a keyed hash of several texts; moving bytes between neighbours changes it.
    fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let ring = self.ring.load();
        let mut context = hmac::Context::with_key(&ring.paper_names);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context
            .sign()
            .as_ref()
            .try_into()
            .expect("SHA-256 has 32 bytes")
    }

    /// Returns the keyed hash of a link of the audit log.
    pub fn link(&self, bytes: &[u8]) -> [u8; 32] {
        self.hash(&[b"link", bytes])
    }

    /// Seals a paper. None if the service's key was destroyed or the body is longer than [`PLAIN_BYTES_MAX`]. The nonce follows
    /// from the key: the same paper gives the same bytes.
    pub fn paper(
        &self,
        owner: &Identity,
        kind: PaperKind,
        key: PaperKey,
        at: Time,
        plain: &[u8],
    ) -> Option<Paper> {
        let ring = self.ring.load();
        let at = at.min(crate::paper::AT_MAX);
        let body = seal_body(ring.rest_current(), owner, kind, &key, at, plain)?;
        Some(Paper {
            kind,
            key,
            at,
            body: body.into(),
        })
    }

    /// Opens a paper; None if it was sealed by another ring or for another owner, was changed, or its key was destroyed.
    pub fn open_paper(&self, owner: &Identity, paper: &Paper) -> Option<Vec<u8>> {
        open_body(&self.ring.load(), owner, paper)
    }
}

fn nonce(key: &PaperKey) -> Nonce {
    Nonce::assume_unique_for_key(key[..NONCE_LEN].try_into().expect("12 of 16"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paper::PaperPurpose;
    use crate::seal::Settings;
    use crate::seal::ring::RingFile;
    use std::time::Duration;

    const NOW: Time = Time(1_790_000_000_000);

    fn seal(ring: &RingFile) -> Seal {
        let settings = Settings {
            code_life: Duration::from_secs(60),
            clock_skew: Duration::from_secs(2),
            issuer: None,
        };
        Seal::new(ring, settings)
    }

    #[test]
    fn a_paper_opens_only_where_it_was_put() {
        let mut ring = RingFile::generate(NOW);
        let seal = seal(&ring);
        let (owner, other) = (Identity::of_hash(&[1; 32]), Identity::of_hash(&[2; 32]));
        let key = seal.paper_key(&[b"gd-cdc", b"7"]);
        let paper = seal
            .paper(&owner, PaperKind::Temperature, key, NOW, b"36.5")
            .unwrap();
        assert_eq!(
            seal.open_paper(&owner, &paper).as_deref(),
            Some(&b"36.5"[..])
        );
        assert_eq!(seal.open_paper(&other, &paper), None);
        for moved in [
            Paper {
                at: Time(NOW.0 + 1),
                ..paper.clone()
            },
            Paper {
                kind: PaperKind::Notice,
                ..paper.clone()
            },
            Paper {
                kind: PaperKind::Trip,
                ..paper.clone()
            },
            Paper {
                key: [0; 16],
                ..paper.clone()
            },
        ] {
            assert_eq!(seal.open_paper(&owner, &moved), None);
        }
        ring.destroy(PaperPurpose::Health, NOW);
        seal.reload(&ring);
        assert_eq!(seal.open_paper(&owner, &paper), None);
        assert_eq!(
            seal.paper(&owner, PaperKind::Temperature, key, NOW, b"36.5"),
            None
        );
        assert!(
            seal.paper(&owner, PaperKind::Trip, key, NOW, b"36.5")
                .is_some()
        );
        let long = vec![0; PLAIN_BYTES_MAX + 1];
        assert!(
            seal.paper(&owner, PaperKind::Trip, key, NOW, &long)
                .is_none()
        );
    }

    #[test]
    fn parts_of_a_key_are_not_taken_for_each_other() {
        let seal = seal(&RingFile::generate(NOW));
        assert_ne!(
            seal.paper_key(&[b"ab", b"c"]),
            seal.paper_key(&[b"a", b"bc"])
        );
        assert_ne!(seal.owner("a", "x", 3), seal.owner("b", "x", 3));
        assert_eq!(seal.owner("a", "x", 3).home.0 >> 60, 3);
        assert_eq!(seal.owner("a", "x", 3).claim, seal.owner("a", "x", 4).claim);
    }
}
