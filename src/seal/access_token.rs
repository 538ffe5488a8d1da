//! Tokens of scanners and of offices.

use super::ring::TokenKind;
use super::sealed_text::{HEAD, Nonces, SEALED_MAX, Seal, TAG};
use crate::clock::Time;
use crate::refusal::Refusal;
use crate::tls::CertificateDigest;
use std::time::Duration;

/// Longest validity of a token.
pub const ACCESS_TOKEN_LIFE_MAX: Duration = Duration::from_secs(3_650 * 86_400);

/// Longest name of a site or source, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// A token of a scanner or an office.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// The holder, and what the token is bound to: a scanner's site, an authority's source.
    pub name: String,
    /// When the token was made.
    pub issued_at: Time,
    /// When the token expires.
    pub expires_at: Time,
}

/// Longest name of a token with what it is bound to, in bytes.
pub const ACCESS_TOKEN_NAME_BYTES_MAX: usize = SEALED_MAX - HEAD - 12 - TAG;

/// Separator of a token's name and what it is bound to; neither contains it.
const BOUND: char = '\0';

impl AccessToken {
    /// Returns the name of a bound token: a scanner bound to its organisation, staff to their region.
    pub fn bound_name(name: &str, to: Option<&str>) -> String {
        match to {
            None => name.to_owned(),
            Some(to) => format!("{name}{BOUND}{to}"),
        }
    }

    /// Returns the holder.
    pub fn holder(&self) -> &str {
        AccessToken::holder_in(&self.name)
    }

    /// Returns the name of a token that needs a client certificate with this SHA-256 of 64 hexadecimal digits.
    pub fn with_certificate(name: &str, certificate: &str) -> String {
        match name.contains(BOUND) {
            true => format!("{name}{BOUND}{certificate}"),
            false => format!("{name}{BOUND}{BOUND}{certificate}"),
        }
    }

    fn holder_in(name: &str) -> &str {
        name.split(BOUND).next().unwrap_or_default()
    }

    /// Returns whether an authority with this token may speak for a source: its own, or one that the token names.
    pub fn speaks_for(&self, source: &str) -> bool {
        let mut named = self.bound().unwrap_or_default().split(',');
        !source.is_empty() && (self.holder() == source || named.any(|named| named == source))
    }

    /// Returns what the token is bound to.
    pub fn bound(&self) -> Option<&str> {
        self.name.split(BOUND).nth(1).filter(|to| !to.is_empty())
    }

    /// Returns the SHA-256 of the required client certificate, 64 hexadecimal digits; None if none is required.
    pub fn certificate(&self) -> Option<&str> {
        self.name.splitn(3, BOUND).nth(2)
    }

    /// Returns whether the shown certificate satisfies the token.
    pub fn is_of(&self, shown: Option<CertificateDigest>) -> bool {
        match (self.certificate(), shown) {
            (None, _) => true,
            (Some(wanted), Some(shown)) => wanted == shown.hex(),
            (Some(_), None) => false,
        }
    }
}

/// Number of a token: its nonce with all bits mixed, which no caller can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessTokenId(pub u64);

impl AccessTokenId {
    /// Returns the number of a nonce. Tokens made by one thread differ in the counter only.
    fn of(prefix: u64, count: u32) -> AccessTokenId {
        let mut z = prefix.wrapping_add(u64::from(count).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        AccessTokenId(z ^ (z >> 31))
    }
}

impl Seal {
    /// Returns a sealed token. Its name and what it is bound to have at most [`NAME_BYTES_MAX`] bytes each.
    pub fn pass(&self, kind: TokenKind, nonces: &Nonces, pass: &AccessToken) -> String {
        debug_assert!(!matches!(
            kind,
            TokenKind::Code | TokenKind::Session | TokenKind::Grant
        ));
        debug_assert!(pass.name.len() <= ACCESS_TOKEN_NAME_BYTES_MAX);
        let mut plain = Vec::with_capacity(12 + pass.name.len());
        plain.extend_from_slice(&pass.issued_at.0.to_be_bytes()[2..]);
        plain.extend_from_slice(&pass.expires_at.0.to_be_bytes()[2..]);
        plain.extend_from_slice(pass.name.as_bytes());
        self.print(kind, nonces, &plain)
    }

    /// Checks that `text` is a token of this kind in force, and returns its number: the check of the hot path, which does not
    /// copy the name.
    ///
    /// # Errors
    ///
    /// `Unauthorized` if our keys did not seal it or it was revoked, `NotPermitted` for another kind of credential,
    /// `SessionExpired`, and `Warming` until the revocations are read.
    pub fn admits(
        &self,
        kind: TokenKind,
        text: &[u8],
        now: Time,
    ) -> Result<AccessTokenId, Refusal> {
        let mut bytes = [0; SEALED_MAX];
        let (times, name) = self.open_timed(kind, text, &mut bytes, now)?;
        let length = name.len();
        self.in_force(kind, times.0, &bytes, length)
    }

    /// Returns the number of an opened token unless it was revoked; its name has `name_length` bytes.
    #[inline]
    fn in_force(
        &self,
        kind: TokenKind,
        issued_at: Time,
        bytes: &[u8; SEALED_MAX],
        name_length: usize,
    ) -> Result<AccessTokenId, Refusal> {
        let nonce = &bytes[2..HEAD];
        let prefix = u64::from_be_bytes(nonce[..8].try_into().expect("8 of 12"));
        let count = u32::from_be_bytes(nonce[8..].try_into().expect("the other 4"));
        let id = AccessTokenId::of(prefix, count);
        let holder = || {
            let name = bytes.get(HEAD + 12..HEAD + 12 + name_length)?;
            std::str::from_utf8(name).ok().map(AccessToken::holder_in)
        };
        self.revoked
            .admits_token(kind, id.0, issued_at, holder)
            .map(|()| id)
    }

    /// Opens a token of this kind, with its name.
    ///
    /// # Errors
    ///
    /// As for [`Seal::admits`].
    pub fn open_token(
        &self,
        kind: TokenKind,
        text: &[u8],
        now: Time,
    ) -> Result<AccessToken, Refusal> {
        let mut bytes = [0; SEALED_MAX];
        let (times, name) = self.open_timed(kind, text, &mut bytes, now)?;
        let pass = AccessToken {
            name: std::str::from_utf8(name)
                .map_err(|_| Refusal::Unauthorized)?
                .to_owned(),
            issued_at: times.0,
            expires_at: times.1,
        };
        let length = pass.name.len();
        self.in_force(kind, times.0, &bytes, length)?;
        Ok(pass)
    }
}
