//! Status list files for public caches, sealed with a key of the day. Gates fetch the key at the gate door.
//!
//! A changes file contains ids in clear: a person who has read a code once could follow its holder there. A base cannot be
//! enumerated, but it can be queried.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::clock::Time;

/// First bytes of a sealed file.
const MAGIC: &[u8; 4] = b"LMS1";

/// Number of authenticated bytes before the sealed ones: magic, day, nonce.
const HEAD_BYTES: usize = MAGIC.len() + 4 + NONCE_LEN;

/// Number of days whose keys a gate receives: today and the next two.
pub const DAYS_GIVEN: u32 = 3;

/// A key of one day for AES-128-GCM.
pub type DayKey = Zeroizing<[u8; 16]>;

/// Derives the keys of days. A day is a UTC day, counted from 1970-01-01.
pub struct DayKeys {
    secret: hmac::Key,
}

impl DayKeys {
    /// Returns the deriver for a secret.
    pub fn new(secret: &[u8]) -> DayKeys {
        DayKeys {
            secret: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// Returns the day that contains `time`.
    pub fn day_of(time: Time) -> u32 {
        u32::try_from(time.0 / crate::clock::DAY_MS).unwrap_or(u32::MAX)
    }

    /// Returns the key of a day: 16 bytes of HMAC-SHA-256 over a context and the day.
    pub fn of(&self, day: u32) -> DayKey {
        let mut message = b"liangma list day 1".to_vec();
        message.extend_from_slice(&day.to_be_bytes());
        let tag = hmac::sign(&self.secret, &message);
        let mut key = DayKey::default();
        key.copy_from_slice(&tag.as_ref()[..16]);
        key
    }

    /// Seals a file. The nonce follows from the contents: all nodes make the same bytes, and two files never share a nonce.
    pub fn seal(&self, file: &[u8], day: u32) -> Vec<u8> {
        let hash = digest(&SHA256, file);
        let nonce: [u8; NONCE_LEN] = hash.as_ref()[..NONCE_LEN].try_into().expect("12 of 32");
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(MAGIC);
        head[4..8].copy_from_slice(&day.to_be_bytes());
        head[8..].copy_from_slice(&nonce);
        let mut sealed = file.to_vec();
        key(&self.of(day))
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(head),
                &mut sealed,
            )
            .expect("a file is far below the bound of GCM");
        [&head[..], &sealed].concat()
    }
}

/// Opens a sealed file with the key of its day. Returns None if the bytes are not a sealed file, were changed, or `key_of` has no
/// key.
pub fn open(sealed: &[u8], key_of: impl FnOnce(u32) -> Option<DayKey>) -> Option<Vec<u8>> {
    let (head, body) = sealed.split_first_chunk::<HEAD_BYTES>()?;
    let head_rest = head.strip_prefix(MAGIC)?;
    let (day, nonce) = head_rest.split_first_chunk::<4>()?;
    let nonce: [u8; NONCE_LEN] = nonce.try_into().ok()?;
    let day_key = key_of(u32::from_be_bytes(*day))?;
    let mut body = body.to_vec();
    let length = key(&day_key)
        .open_in_place(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(*head),
            &mut body,
        )
        .ok()?
        .len();
    body.truncate(length);
    Some(body)
}

fn key(bytes: &DayKey) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &bytes[..]).expect("16 bytes are a key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_opens_with_the_key_of_its_day_and_only_as_it_was() {
        let keys = DayKeys::new(&[7; 32]);
        let day = DayKeys::day_of(Time(1_795_500_000_000));
        assert_eq!(day, 20_781);
        let sealed = keys.seal(b"a file", day);
        assert_eq!(sealed, keys.seal(b"a file", day));
        assert_ne!(sealed, keys.seal(b"a file", day + 1));
        let own = |day| Some(keys.of(day));
        assert_eq!(open(&sealed, own).as_deref(), Some(&b"a file"[..]));
        assert!(open(&sealed, |day| Some(keys.of(day + 1))).is_none());
        assert!(open(&sealed, |day| Some(DayKeys::new(&[8; 32]).of(day))).is_none());
        assert!(open(&sealed, |_| None).is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&changed, own).is_none(), "{at}");
            assert!(open(&sealed[..at], own).is_none(), "{at}");
        }
    }
}
