//! Live codes, which a phone shows and a gate scans.

use super::base32;
use super::masked::{read_masked, write_masked};
use super::ring::TokenKind;
use super::sealed_text::{HEAD, ISSUER_BYTES, Nonces, Seal, TAG, VERSION};
use crate::clock::Time;
use crate::person::{MaskedIdentity, ResidentId};
use crate::refusal::Refusal;

/// Origin of issue times of codes, which count milliseconds in 40 bits until 2054.
const ISSUE_EPOCH_MS: u64 = 1_577_836_800_000; // 2020-01-01

const CODE_BYTES: usize = 25;

/// Characters that hold kind, key id and issuer.
const ISSUER_CHARS: usize = base32::encoded_len(2 + ISSUER_BYTES);

/// Length of a printed code in characters, all of the QR alphanumeric set.
pub const CODE_CHARS: usize = 88;

/// A printed code.
#[derive(Clone, Copy)]
pub struct CodeText(pub [u8; CODE_CHARS]);

/// Class of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeClass {
    /// Shown by a phone now.
    Live,
}

/// Contents of a live code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The resident.
    pub resident: ResidentId,
    /// Check bits of the resident's word when the code was made. Another resident's word does not match.
    pub check: u16,
    /// Class of the code.
    pub class: CodeClass,
    /// When the code was made.
    pub issued_at: Time,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
}

const _: () = assert!(base32::encoded_len(HEAD + CODE_BYTES + TAG) == CODE_CHARS);
const _: () = assert!(CODE_CHARS <= 128);

impl Seal {
    /// Returns a sealed code.
    pub fn code(&self, nonces: &Nonces, code: &Code) -> CodeText {
        let mut bytes = [0; HEAD + CODE_BYTES + TAG];
        let plain = &mut bytes[HEAD..HEAD + CODE_BYTES];
        let issued = code.issued_at.0.saturating_sub(ISSUE_EPOCH_MS);
        plain[..8].copy_from_slice(&code.resident.0.to_be_bytes());
        plain[8..10].copy_from_slice(&code.check.to_be_bytes());
        plain[10..15].copy_from_slice(&issued.to_be_bytes()[3..]);
        plain[15] = match code.class {
            CodeClass::Live => 0,
        } << 4;
        write_masked(&code.masked, &mut plain[15..]);
        self.close(TokenKind::Code, nonces, &mut bytes);
        let mut text = CodeText([0; CODE_CHARS]);
        base32::encode(&bytes, &mut text.0);
        text
    }

    /// Opens a live code that a gate scanned.
    ///
    /// # Errors
    ///
    /// `CodeInvalid` if our keys did not seal it, `CodeExpired` if it has expired or is from the future.
    pub fn open_code(&self, text: &[u8], now: Time) -> Result<Code, Refusal> {
        let mut bytes = [0; HEAD + CODE_BYTES + TAG];
        if text.len() != CODE_CHARS
            || base32::decode_any_case(text, &mut bytes) != Some(bytes.len())
        {
            return Err(Refusal::CodeInvalid);
        }
        let plain = self
            .open(TokenKind::Code, &mut bytes)
            .ok_or(Refusal::CodeInvalid)?;
        let mut issued = [0; 8];
        issued[3..].copy_from_slice(&plain[10..15]);
        let class = match plain[15] >> 4 {
            0 => CodeClass::Live,
            _ => return Err(Refusal::CodeInvalid),
        };
        let code = Code {
            resident: ResidentId(u64::from_be_bytes(plain[..8].try_into().expect("8 bytes"))),
            check: u16::from_be_bytes([plain[8], plain[9]]),
            class,
            issued_at: Time(ISSUE_EPOCH_MS + u64::from_be_bytes(issued)),
            masked: read_masked(&plain[15..]).ok_or(Refusal::CodeInvalid)?,
        };
        let skew = self.settings.clock_skew;
        if code.issued_at > now.plus(skew)
            || now > code.issued_at.plus(self.settings.code_life + skew)
        {
            return Err(Refusal::CodeExpired);
        }
        Ok(code)
    }

    /// Returns the issuer that a text in the form of a live code names in clear, unchecked. Codes of a node without an issuer
    /// hold any number.
    pub fn issuer_named(text: &[u8]) -> Option<u32> {
        let mut bytes = [0; 2 + ISSUER_BYTES];
        let begins = text
            .get(..ISSUER_CHARS)
            .filter(|_| text.len() == CODE_CHARS)?;
        base32::decode_any_case(begins, &mut bytes)?;
        let [kind, _, issuer @ ..] = bytes;
        let is_code = kind == VERSION << 4 | TokenKind::Code as u8;
        let issuer = u32::from_be_bytes([0, issuer[0], issuer[1], issuer[2]]);
        is_code.then_some(issuer)
    }
}
