//! Any credential of a caller, opened by the kind that it says it is.

use super::access_token::{AccessToken, AccessTokenId};
use super::base32;
use super::ring::TokenKind;
use super::sealed_text::{SEALED_MAX, Seal};
use super::session::Session;
use crate::clock::Time;
use crate::refusal::Refusal;

/// A caller with a genuine credential in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A session of a resident.
    Session(Session),
    /// A token: its kind, contents and number.
    Token(TokenKind, AccessToken, AccessTokenId),
}

impl Seal {
    /// Opens any credential.
    ///
    /// # Errors
    ///
    /// `Unauthorized` if our keys did not seal it or it was revoked, `SessionExpired`, and `Warming` until the revocations are
    /// read.
    pub fn open_caller(&self, text: &[u8], now: Time) -> Result<Caller, Refusal> {
        let mut first = [0; SEALED_MAX];
        let length = base32::decode(text, &mut first).ok_or(Refusal::Unauthorized)?;
        let kind = first[..length].first().map(|first| first & 15);
        let kind = TokenKind::ALL
            .into_iter()
            .find(|one| Some(*one as u8) == kind);
        match kind.ok_or(Refusal::Unauthorized)? {
            TokenKind::Session => self.open_session(text, now).map(Caller::Session),
            TokenKind::Code | TokenKind::Grant => Err(Refusal::Unauthorized),
            kind => {
                let id = self.admits(kind, text, now)?;
                let pass = self.open_token(kind, text, now)?;
                Ok(Caller::Token(kind, pass, id))
            }
        }
    }
}
