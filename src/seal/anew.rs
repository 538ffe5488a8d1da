//! Data at rest under the keys of the ring: seals and opens profiles, and seals profiles and papers anew with the current key.
//! What is sealed anew was sealed by another key of the ring.

use super::papers::{open_body, seal_body};
use super::ring::{KeyRing, RestCiphers};
use super::sealed_text::{Seal, TAG, WHOLE};
use crate::paper::Paper;
use crate::person::{Identity, Profile};
use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use std::sync::Arc;
use zeroize::Zeroizing;

/// What became of a profile or paper that was to be sealed anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealedAnew {
    /// It is sealed with the key that seals now, and stays as it is.
    Current,
    /// Its contents, sealed with the key that seals now.
    Anew(Vec<u8>),
    /// The key of its service was destroyed, so no key of data at rest opens it.
    Ended,
    /// No key of the ring opens it.
    Unopened,
}

fn profile_nonce(claim: &[u8; 16]) -> Nonce {
    Nonce::assume_unique_for_key(claim[..NONCE_LEN].try_into().expect("12 of 16"))
}

/// Returns the id of a key, and what it seals; None in a part of a ring.
fn seal_profile(keys: &RestCiphers, claim: &[u8; 16], plain: &[u8]) -> Option<Vec<u8>> {
    let key = keys.profiles.as_ref()?;
    let mut bytes = Vec::with_capacity(1 + plain.len() + TAG);
    bytes.push(keys.id);
    bytes.extend_from_slice(plain);
    let tag = key
        .seal_in_place_separate_tag(profile_nonce(claim), Aad::from([keys.id]), &mut bytes[1..])
        .expect("a profile is far below the bound of the cipher");
    bytes.extend_from_slice(tag.as_ref());
    Some(bytes)
}

/// None if the bytes were sealed by no key of the ring, for another resident, or were changed.
fn open_profile(ring: &KeyRing, claim: &[u8; 16], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (id, sealed) = sealed.split_first()?;
    let key = ring.rest_of(*id)?.profiles.as_ref()?;
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let length = key
        .open_in_place(profile_nonce(claim), Aad::from([*id]), &mut bytes)
        .ok()?
        .len();
    bytes.truncate(length);
    Some(bytes)
}

/// The keys of data at rest, as the ring in force had them when it was asked.
#[derive(Clone)]
pub struct RestSeal(Arc<KeyRing>);

impl RestSeal {
    /// Returns the id of the key that seals.
    pub fn key(&self) -> u8 {
        self.0.rest_current().id
    }

    /// Seals a profile anew that another key of the ring sealed.
    pub fn profile_anew(&self, claim: &[u8; 16], sealed: &[u8]) -> SealedAnew {
        let keys = self.0.rest_current();
        let Some(plain) = open_profile(&self.0, claim, sealed) else {
            return SealedAnew::Unopened;
        };
        match seal_profile(keys, claim, &plain) {
            _ if sealed[0] == keys.id => SealedAnew::Current,
            Some(anew) => SealedAnew::Anew(anew),
            None => SealedAnew::Unopened,
        }
    }

    /// Seals the body of a paper anew that another key of the ring sealed.
    pub fn paper_anew(&self, owner: &Identity, paper: &Paper) -> SealedAnew {
        let keys = self.0.rest_current();
        if keys.papers[paper.kind.purpose() as usize].is_none() {
            return SealedAnew::Ended;
        }
        let Some(plain) = open_body(&self.0, owner, paper) else {
            return SealedAnew::Unopened;
        };
        match seal_body(keys, owner, paper.kind, &paper.key, paper.at, &plain) {
            _ if paper.body.first() == Some(&keys.id) => SealedAnew::Current,
            Some(anew) => SealedAnew::Anew(anew),
            None => SealedAnew::Unopened,
        }
    }
}

impl Seal {
    /// Seals a profile for the store. Panics like [`Seal::identify`]. The nonce follows from the claim: the same profile gives
    /// the same bytes, so that a store notices an unchanged one.
    pub fn profile(&self, identity: &Identity, profile: &Profile) -> Vec<u8> {
        let ring = self.ring.load();
        let mut plain = Vec::with_capacity(profile.length());
        profile.write(&mut plain);
        seal_profile(ring.rest_current(), &identity.claim, &plain).expect(WHOLE)
    }

    /// Opens a profile; None if it was sealed by another ring or for another resident, or was changed.
    pub fn open_profile(&self, identity: &Identity, sealed: &[u8]) -> Option<Profile> {
        let plain = open_profile(&self.ring.load(), &identity.claim, sealed)?;
        Profile::from_bytes(&plain)
    }

    /// Returns the keys of data at rest, as they are now.
    pub fn rest_seal(&self) -> RestSeal {
        RestSeal(self.ring.load_full())
    }

    /// Whether two papers of an owner under one key say the same, whichever keys of the ring sealed them.
    pub fn is_same_paper(&self, owner: &Identity, one: &Paper, other: &Paper) -> bool {
        let place = |paper: &Paper| (paper.kind, paper.key, paper.at);
        let said = self.open_paper(owner, one);
        place(one) == place(other) && said.is_some() && said == self.open_paper(owner, other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use crate::paper::{PaperKind, PaperPurpose};
    use crate::person::{Assurance, Document, Profile};
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

    fn profile() -> Profile {
        Profile {
            document: Document::parse("10", "440106199003077211", u32::MAX).unwrap(),
            name: Some("陈美玲".into()),
            assurance: Assurance::RealPerson,
        }
    }

    #[test]
    fn what_rests_opens_through_every_rotation_and_after_it_was_sealed_anew_without_the_old_keys() {
        let mut ring = RingFile::generate(NOW);
        let before = seal(&ring);
        let who = before.identify(&profile().document);
        let sealed = before.profile(&who, &profile());
        let key = before.paper_key(&[b"gd-cdc", b"7"]);
        let paper = before
            .paper(&who, PaperKind::Temperature, key, NOW, b"36.5")
            .unwrap();
        let now = seal(&ring);
        for _ in 0..3 {
            assert!(ring.rotate_rest(NOW).unwrap());
            now.reload(&ring);
            assert_eq!(now.open_profile(&who, &sealed), Some(profile()));
            assert_eq!(now.open_paper(&who, &paper).as_deref(), Some(&b"36.5"[..]));
        }
        let SealedAnew::Anew(profile_anew) = now.rest_seal().profile_anew(&who.claim, &sealed)
        else {
            panic!("a previous key sealed it");
        };
        let SealedAnew::Anew(body) = now.rest_seal().paper_anew(&who, &paper) else {
            panic!("a previous key sealed it");
        };
        // Sealing the same with the current key gives the same bytes, by whatever way.
        assert_eq!(profile_anew, now.profile(&who, &profile()));
        let again = now.paper(&who, PaperKind::Temperature, key, NOW, b"36.5");
        assert_eq!(again.unwrap().body[..], body[..]);
        let anew = Paper {
            body: body.into(),
            ..paper.clone()
        };
        assert!(now.is_same_paper(&who, &paper, &anew));
        assert_eq!(
            now.rest_seal().profile_anew(&who.claim, &profile_anew),
            SealedAnew::Current
        );
        assert_eq!(now.rest_seal().paper_anew(&who, &anew), SealedAnew::Current);
        ring.drop_previous_rest(true).unwrap();
        now.reload(&ring);
        assert_eq!(now.open_profile(&who, &profile_anew), Some(profile()));
        assert_eq!(now.open_paper(&who, &anew).as_deref(), Some(&b"36.5"[..]));
        assert_eq!(
            now.rest_seal().profile_anew(&who.claim, &sealed),
            SealedAnew::Unopened
        );
        assert_eq!(
            now.rest_seal().paper_anew(&who, &paper),
            SealedAnew::Unopened
        );
        assert!(!now.is_same_paper(&who, &paper, &anew));
    }

    #[test]
    fn what_is_damaged_or_of_a_service_that_ended_is_not_sealed_anew() {
        let mut ring = RingFile::generate(NOW);
        let seal = seal(&ring);
        let who = seal.identify(&profile().document);
        let key = seal.paper_key(&[b"gd-cdc", b"7"]);
        let paper = seal
            .paper(&who, PaperKind::Temperature, key, NOW, b"36.5")
            .unwrap();
        let sealed = seal.profile(&who, &profile());
        ring.rotate_rest(NOW).unwrap();
        seal.reload(&ring);
        for place in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[place] ^= 1;
            let anew = seal.rest_seal().profile_anew(&who.claim, &damaged);
            assert_eq!(anew, SealedAnew::Unopened);
        }
        for place in 0..paper.body.len() {
            let mut damaged = paper.clone();
            damaged.body[place] ^= 1;
            assert_eq!(
                seal.rest_seal().paper_anew(&who, &damaged),
                SealedAnew::Unopened
            );
        }
        assert_eq!(
            seal.rest_seal().profile_anew(&who.claim, &[]),
            SealedAnew::Unopened
        );
        ring.destroy(PaperPurpose::Health, NOW);
        seal.reload(&ring);
        assert_eq!(seal.rest_seal().paper_anew(&who, &paper), SealedAnew::Ended);
    }

    #[test]
    fn a_copy_of_the_ring_from_before_a_theft_opens_nothing_that_is_sealed_after_the_rotation() {
        let mut ring = RingFile::generate(NOW);
        let stolen = seal(&ring);
        ring.replace_token_keys(NOW);
        assert!(ring.rotate_rest(NOW).unwrap());
        let now = seal(&ring);
        let who = now.identify(&profile().document);
        assert_eq!(
            stolen.open_profile(&who, &now.profile(&who, &profile())),
            None
        );
        for kind in PaperKind::ALL {
            let paper = now.paper(&who, kind, [7; 16], NOW, b"x").unwrap();
            assert_eq!(stolen.open_paper(&who, &paper), None, "{kind:?}");
        }
        let id = who.home;
        let tag = now.status_tags().word(id, 77);
        assert_ne!(stolen.status_tags().word(id, 77), tag);
    }
}
