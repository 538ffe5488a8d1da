//! Sessions of residents.

use super::masked::{read_masked, write_masked};
use super::ring::TokenKind;
use super::sealed_text::{Nonces, SEALED_MAX, Seal};
use crate::clock::Time;
use crate::person::{Identity, MaskedIdentity, ResidentId};
use crate::refusal::Refusal;
use std::time::Duration;

/// Longest validity of a session, by setting or command. Revocations of sessions are kept that long.
pub const SESSION_LIFE_MAX: Duration = Duration::from_secs(90 * 86_400);

/// A resident's session, which the phone holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The person who is shown.
    pub identity: Identity,
    /// Slots from the home to the resident's id, as known at the log-in.
    pub steps: u8,
    /// The membership through which a family member is shown; None for the person's own session.
    pub member: Option<u64>,
    /// Name and document number, masked.
    pub masked: MaskedIdentity,
    /// When the session was opened.
    pub issued_at: Time,
    /// When the session expires.
    pub expires_at: Time,
}

impl Session {
    /// Returns the resident id.
    pub fn resident(&self) -> ResidentId {
        self.identity.slot(u64::from(self.steps))
    }
}

impl Seal {
    /// Returns a sealed session.
    pub fn session(&self, nonces: &Nonces, session: &Session) -> String {
        let mut plain = Vec::with_capacity(64);
        plain.extend_from_slice(&session.issued_at.0.to_be_bytes()[2..]);
        plain.extend_from_slice(&session.expires_at.0.to_be_bytes()[2..]);
        plain.extend_from_slice(&session.identity.home.0.to_be_bytes());
        plain.extend_from_slice(&session.identity.claim);
        plain.push(session.steps);
        let masked = plain.len();
        plain.extend_from_slice(&[0; 10]);
        write_masked(&session.masked, &mut plain[masked..]);
        if let Some(member) = session.member {
            plain.extend_from_slice(&member.to_be_bytes());
        }
        self.print(TokenKind::Session, nonces, &plain)
    }

    /// Opens a session.
    ///
    /// # Errors
    ///
    /// `Unauthorized` if our keys did not seal it or it was revoked, `NotPermitted` for another kind of credential,
    /// `SessionExpired`, and `Warming` until the revocations are read.
    pub fn open_session(&self, text: &[u8], now: Time) -> Result<Session, Refusal> {
        let mut bytes = [0; SEALED_MAX];
        let (times, rest) = self.open_timed(TokenKind::Session, text, &mut bytes, now)?;
        let member = match rest.len() {
            35 => None,
            43 => Some(u64::from_be_bytes(rest[35..].try_into().expect("8 of 43"))),
            _ => return Err(Refusal::Unauthorized),
        };
        let identity = Identity {
            home: ResidentId(u64::from_be_bytes(rest[..8].try_into().expect("8 bytes"))),
            claim: rest[8..24].try_into().expect("16 bytes"),
        };
        self.revoked
            .admits(member.unwrap_or(identity.number()), times.0)?;
        Ok(Session {
            member,
            identity,
            steps: rest[24],
            masked: read_masked(&rest[25..]).ok_or(Refusal::Unauthorized)?,
            issued_at: times.0,
            expires_at: times.1,
        })
    }
}
