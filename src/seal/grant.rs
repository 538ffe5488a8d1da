//! Grants as sealed codes: longer than a live code, so that scanners tell them apart by length, with keys of their own.

use super::base32;
use super::masked::{read_masked, write_masked};
use super::sealed_text::{HEAD, Nonces, Seal, TAG};
use crate::clock::Time;
use crate::person::{MaskedIdentity, ResidentId};
use crate::refusal::Refusal;
use crate::seal::ring::TokenKind;

const GRANT_BYTES: usize = 42;

/// Length of a grant in characters: 116.
pub const GRANT_CHARS: usize = base32::encoded_len(HEAD + GRANT_BYTES + TAG);
const _: () = assert!(GRANT_CHARS <= 128 && GRANT_CHARS != crate::seal::code::CODE_CHARS);

/// Contents of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The resident who gave it.
    pub resident: ResidentId,
    /// Check bits of the resident's word, as in a code.
    pub check: u16,
    /// Number of the organisation whose scanners can open it.
    pub organisation: u64,
    /// Number of the grant, unique within the organisation.
    pub number: u64,
    /// When the grant expires.
    pub until: Time,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
}

impl Seal {
    /// Returns a sealed grant.
    pub fn grant(&self, nonces: &Nonces, grant: &Grant) -> String {
        let mut plain = [0; GRANT_BYTES];
        plain[..8].copy_from_slice(&grant.resident.0.to_be_bytes());
        plain[8..10].copy_from_slice(&grant.check.to_be_bytes());
        plain[10..18].copy_from_slice(&grant.organisation.to_be_bytes());
        plain[18..26].copy_from_slice(&grant.number.to_be_bytes());
        plain[26..32].copy_from_slice(&grant.until.0.to_be_bytes()[2..]);
        write_masked(&grant.masked, &mut plain[32..]);
        self.print(TokenKind::Grant, nonces, &plain)
    }

    /// Opens a grant for a scanner of an organisation.
    ///
    /// # Errors
    ///
    /// `CodeInvalid` if the text is not a grant to this organisation, `GrantExpired` after its last day.
    pub fn open_grant(&self, text: &[u8], organisation: u64, now: Time) -> Result<Grant, Refusal> {
        let mut bytes = [0; HEAD + GRANT_BYTES + TAG];
        if text.len() != GRANT_CHARS
            || base32::decode_any_case(text, &mut bytes) != Some(bytes.len())
        {
            return Err(Refusal::CodeInvalid);
        }
        let plain = self
            .open(TokenKind::Grant, &mut bytes)
            .ok_or(Refusal::CodeInvalid)?;
        let eight = |at: usize| u64::from_be_bytes(plain[at..at + 8].try_into().expect("8 bytes"));
        let grant = Grant {
            resident: ResidentId(eight(0)),
            check: u16::from_be_bytes([plain[8], plain[9]]),
            organisation: eight(10),
            number: eight(18),
            until: super::sealed_text::time48(&plain[26..32]),
            masked: read_masked(&plain[32..]).ok_or(Refusal::CodeInvalid)?,
        };
        if grant.organisation != organisation {
            return Err(Refusal::CodeInvalid);
        }
        match now > grant.until {
            true => Err(Refusal::GrantExpired),
            false => Ok(grant),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::person::{Assurance, Document, MaskedName};
    use crate::seal::Settings;
    use crate::seal::ring::RingFile;
    use proptest::prelude::*;
    use std::time::Duration;

    const NOW: Time = Time(1_790_000_000_000);

    fn seal() -> Seal {
        let settings = Settings {
            code_life: Duration::from_secs(60),
            clock_skew: Duration::from_secs(2),
            issuer: None,
        };
        Seal::new(&RingFile::generate(NOW), settings)
    }

    fn grant() -> Grant {
        Grant {
            resident: ResidentId(5),
            check: 77,
            organisation: 8,
            number: 9,
            until: NOW.plus(Duration::from_secs(86_400)),
            masked: MaskedIdentity {
                name: MaskedName::of("陈美玲"),
                cert_no: Document::parse("10", "440106199003077211", u32::MAX)
                    .unwrap()
                    .mask(),
                assurance: Assurance::RealPerson,
            },
        }
    }

    #[test]
    fn a_grant_opens_for_its_organisation_until_its_day_and_is_no_live_code() {
        let seal = seal();
        let text = seal.grant(&Nonces::new(), &grant());
        let at = |organisation, now| seal.open_grant(text.as_bytes(), organisation, now);
        assert_eq!(at(8, NOW), Ok(grant()));
        assert_eq!(at(7, NOW), Err(Refusal::CodeInvalid));
        let until = grant().until;
        assert!(at(8, until).is_ok());
        assert_eq!(at(8, Time(until.0 + 1)), Err(Refusal::GrantExpired));
        assert_eq!(
            seal.open_code(text.as_bytes(), NOW),
            Err(Refusal::CodeInvalid)
        );
        assert!(seal.open_caller(text.as_bytes(), NOW).is_err());
    }

    proptest! {
        #[test]
        fn a_changed_or_cut_grant_never_opens(place in 0..GRANT_CHARS, to in "[A-Z2-7]", cut in 0..GRANT_CHARS) {
            let seal = seal();
            let text = seal.grant(&Nonces::new(), &grant()).into_bytes();
            let mut changed = text.clone();
            changed[place] = to.as_bytes()[0];
            if changed != text {
                prop_assert!(seal.open_grant(&changed, 8, NOW).is_err());
            }
            prop_assert!(seal.open_grant(&text[..cut], 8, NOW).is_err());
        }
    }
}
