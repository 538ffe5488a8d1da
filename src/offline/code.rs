//! The offline code: 96 bytes that name a resident by list id, signed with ES256, printed as 154 characters. It carries no
//! colour.

use super::ids::ListId;
use super::sign::{SIGNATURE_BYTES, SignatureAlgorithm, SigningKey, VerifyingKey};
use crate::clock::Time;
use crate::person::MaskedIdentity;
use crate::seal::{base32, masked_bytes, read_masked};
use std::time::Duration;

/// Number of bytes before the signature.
const SIGNED_BYTES: usize = 32;

/// Length of a code in bytes.
pub const OFFLINE_CODE_BYTES: usize = SIGNED_BYTES + SIGNATURE_BYTES;

/// Length of a code in characters. No other code of this service has this length.
pub const OFFLINE_CODE_CHARS: usize = base32::encoded_len(OFFLINE_CODE_BYTES);

/// First byte of a code: version 1, kind 9.
const FIRST_BYTE: u8 = 0x19;

/// Prefix of the signed message, so that a signature is valid for no other purpose.
const CONTEXT: &[u8] = b"liangma offline 1";

/// 2020-01-01T00:00:00Z. Issue times are 32-bit seconds since then and end in 2156.
const EPOCH: Time = Time(1_577_836_800_000);

/// Longest validity in hours: 366 days.
pub const LIFE_HOURS_MAX: u16 = 8_784;

/// Contents of an offline code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineCode {
    /// Id of the key that signed the code.
    pub key: u8,
    /// The issuer: a division of GB/T 2260 as a number, below 2^24.
    pub issuer: u32,
    /// List id of the resident.
    pub list_id: ListId,
    /// The generation. Revoking it revokes all earlier ones too.
    pub generation: u8,
    /// The 14 check bits of the status word.
    pub check: u16,
    /// When the code was made.
    pub issued_at: Time,
    /// Validity in hours, 1 to [`LIFE_HOURS_MAX`].
    pub life_hours: u16,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
}

/// Why a text is not a valid offline code of a known issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeFault {
    /// The length, alphabet or layout is wrong.
    Form,
    /// The issuer has no key with the id that the code names.
    UnknownKey,
    /// The signature does not verify with the named key.
    Signature,
}

impl OfflineCode {
    /// Returns when the code expires.
    pub fn expires_at(&self) -> Time {
        let life = Duration::from_secs(3_600 * u64::from(self.life_hours));
        self.issued_at.plus(life)
    }

    /// Signs the code with `key` and sets the key's id. Returns None if the system's random generator fails.
    pub fn sign(&self, key: &SigningKey) -> Option<String> {
        let mut bytes = [0; OFFLINE_CODE_BYTES];
        let (signed, signature) = bytes.split_at_mut(SIGNED_BYTES);
        self.write(key.id, signed);
        signature.copy_from_slice(&key.sign(&message(signed))?);
        Some(base32::text(&bytes))
    }

    fn write(&self, key: u8, out: &mut [u8]) {
        debug_assert!(self.check < 1 << 14 && self.issuer < 1 << 24);
        let seconds = self.issued_at.0.saturating_sub(EPOCH.0) / 1_000;
        out[0] = FIRST_BYTE;
        out[1] = key;
        out[2..5].copy_from_slice(&self.issuer.to_be_bytes()[1..]);
        out[5..13].copy_from_slice(&self.list_id.0.to_be_bytes());
        out[13] = self.generation;
        out[14..16].copy_from_slice(&self.check.to_be_bytes());
        out[16..20].copy_from_slice(&(seconds.min(u64::from(u32::MAX)) as u32).to_be_bytes());
        out[20..22].copy_from_slice(&self.life_hours.to_be_bytes());
        out[22..32].copy_from_slice(&masked_bytes(&self.masked));
    }

    /// Returns the issuer that a text in the form of an offline code names, without checking the signature. None for any other
    /// text.
    pub fn issuer_named(text: &[u8]) -> Option<u32> {
        let mut bytes = [0; OFFLINE_CODE_BYTES];
        let is_form = text.len() == OFFLINE_CODE_CHARS
            && base32::decode(&text.to_ascii_uppercase(), &mut bytes) == Some(OFFLINE_CODE_BYTES);
        Some(OfflineCode::read(bytes.get(..SIGNED_BYTES).filter(|_| is_form)?)?.issuer)
    }

    /// Parses a code and checks its signature. `keys_of` returns the keys of an issuer.
    ///
    /// # Errors
    ///
    /// `Form` if the text is not an offline code, `UnknownKey` if the issuer has no key with that id, `Signature` if the signature
    /// does not verify.
    pub fn open<'k>(
        text: &[u8],
        keys_of: impl FnOnce(u32) -> &'k [VerifyingKey],
    ) -> Result<OfflineCode, CodeFault> {
        let mut bytes = [0; OFFLINE_CODE_BYTES];
        if text.len() != OFFLINE_CODE_CHARS
            || base32::decode(text, &mut bytes) != Some(OFFLINE_CODE_BYTES)
        {
            return Err(CodeFault::Form);
        }
        let (signed, signature) = bytes.split_at(SIGNED_BYTES);
        let code = OfflineCode::read(signed).ok_or(CodeFault::Form)?;
        let key = keys_of(code.issuer)
            .iter()
            .find(|key| key.id == code.key && key.algorithm == SignatureAlgorithm::Es256)
            .ok_or(CodeFault::UnknownKey)?;
        match key.verifies(&message(signed), signature) {
            true => Ok(code),
            false => Err(CodeFault::Signature),
        }
    }

    fn read(bytes: &[u8]) -> Option<OfflineCode> {
        let [FIRST_BYTE, key, i0, i1, i2, id @ ..] = bytes else {
            return None;
        };
        let (list_id, rest) = id.split_first_chunk::<8>()?;
        let (generation, rest) = rest.split_first()?;
        let (check, rest) = rest.split_first_chunk::<2>()?;
        let (seconds, rest) = rest.split_first_chunk::<4>()?;
        let (hours, masked) = rest.split_first_chunk::<2>()?;
        let check = u16::from_be_bytes(*check);
        let life_hours = u16::from_be_bytes(*hours);
        if check >= 1 << 14 || !(1..=LIFE_HOURS_MAX).contains(&life_hours) || masked[0] >> 4 != 0 {
            return None;
        }
        Some(OfflineCode {
            key: *key,
            issuer: u32::from_be_bytes([0, *i0, *i1, *i2]),
            list_id: ListId(u64::from_be_bytes(*list_id)),
            generation: *generation,
            check,
            issued_at: Time(EPOCH.0 + 1_000 * u64::from(u32::from_be_bytes(*seconds))),
            life_hours,
            masked: read_masked(masked)?,
        })
    }
}

fn message(signed: &[u8]) -> [u8; CONTEXT.len() + SIGNED_BYTES] {
    let mut message = [0; CONTEXT.len() + SIGNED_BYTES];
    message[..CONTEXT.len()].copy_from_slice(CONTEXT);
    message[CONTEXT.len()..].copy_from_slice(signed);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::person::{Assurance, Document, MaskedName};
    use proptest::prelude::*;

    fn key(id: u8) -> SigningKey {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
        let random = aws_lc_rs::rand::SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        SigningKey::from_pkcs8(id, der.as_ref()).unwrap()
    }

    fn code() -> OfflineCode {
        let document = Document::parse("10", "440106199003077211", 20_261_128).unwrap();
        OfflineCode {
            key: 7,
            issuer: 440_000,
            list_id: ListId(0x0123_4567_89ab_cdef),
            generation: 3,
            check: 0x1fff,
            issued_at: Time(1_795_500_000_000),
            life_hours: 72,
            masked: MaskedIdentity {
                name: MaskedName::of("陈美玲"),
                cert_no: document.mask(),
                assurance: Assurance::Unverified,
            },
        }
    }

    #[test]
    fn a_signed_code_has_154_characters_and_says_what_was_signed() {
        let key = key(7);
        let text = code().sign(&key).unwrap();
        assert_eq!((text.len(), OFFLINE_CODE_CHARS), (154, 154));
        let keys = [key.verifying()];
        assert_eq!(OfflineCode::open(text.as_bytes(), |_| &keys), Ok(code()));
        assert_eq!(code().expires_at().0 - code().issued_at.0, 72 * 3_600_000);
    }

    #[test]
    fn a_code_of_another_key_or_issuer_is_refused_as_such() {
        let text = code().sign(&key(7)).unwrap();
        let open = |keys: &[VerifyingKey]| OfflineCode::open(text.as_bytes(), |_| keys);
        assert_eq!(open(&[]), Err(CodeFault::UnknownKey));
        assert_eq!(open(&[key(8).verifying()]), Err(CodeFault::UnknownKey));
        assert_eq!(open(&[key(7).verifying()]), Err(CodeFault::Signature));
    }

    #[test]
    fn no_changed_bit_passes() {
        let key = key(7);
        let keys = [key.verifying()];
        let text = code().sign(&key).unwrap();
        let mut bytes = base32::bytes(&text, OFFLINE_CODE_BYTES).unwrap();
        for bit in 0..SIGNED_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let changed = base32::text(&bytes);
            assert!(OfflineCode::open(changed.as_bytes(), |_| &keys).is_err());
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn the_signature_of_an_independent_implementation_is_accepted() {
        // A code of an earlier layout, of 94 bytes: its signature over the context and the 30 bytes before it is valid.
        let keys: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/it/offline/keys.json")).unwrap();
        let bytes = base32::bytes(keys["code"].as_str().unwrap(), 94).unwrap();
        let key = super::super::list::tests::independent_key("es256");
        let message = [CONTEXT, &bytes[..30]].concat();
        assert!(key.verifies(&message, &bytes[30..]));
        assert!(!key.verifies(&message[1..], &bytes[30..]));
    }

    proptest! {
        #[test]
        fn rubbish_is_no_code_and_no_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(OfflineCode::open(&text, |_| &[]), Err(CodeFault::Form));
        }
    }
}
