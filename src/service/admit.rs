//! Admission of requests: credential, role and rate, checked before a body is read and again when it is there.
//! Also the budgets of this thread for pages, keys and lists.

use super::limits::turn;
use super::query::{AdmittedBulk, AdmittedScanner};
use super::thread::Service;
use crate::clock::Time;
use crate::desk::roles::Act;
use crate::person::{Identity, ResidentId};
use crate::refusal::Refusal;
use crate::seal::ring::TokenKind;
use crate::seal::{AccessToken, AccessTokenId, Caller, Seal};
use crate::tls::CertificateDigest;
use std::time::{Duration, Instant};

/// Debt of a token's bulk scans above which no further one may begin. A delayed scan owes for 64 lines at a time, so a few can
/// share the rate.
const BULK_OWED_MAX: Duration = Duration::from_millis(50);

impl Service {
    /// Checks a scanner's token before the body of its scan is read.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, `SessionExpired`, `NotPermitted`, `Warming`, or `RateLimited`.
    pub fn admit_scan<'q>(
        &self,
        token: &'q [u8],
        now: Time,
        started: Instant,
    ) -> Result<AdmittedScanner<'q>, Refusal> {
        let pass = self.app.seal.admits(TokenKind::Scanner, token, now)?;
        turn(&self.app.scan_limiter, pass.0, started)?;
        Ok(AdmittedScanner { token, pass })
    }

    /// Checks that an admitted token is still in force, by one lookup in memory.
    ///
    /// # Errors
    ///
    /// `Unauthorized` if it was revoked, `SessionExpired`, or `Warming`.
    pub fn still_admits(
        &self,
        pass: AccessTokenId,
        token: &[u8],
        now: Time,
    ) -> Result<(), Refusal> {
        let Seal { revoked, .. } = &self.app.seal;
        match revoked.has_holders(TokenKind::Scanner) {
            true => self.still_scanner(token, now).map(drop),
            false => revoked.admits(pass.0, Time(0)),
        }
    }

    /// Checks credential, role and rate before the body is read.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, `SessionExpired`, `NotPermitted`, `Warming`, or `RateLimited`.
    pub fn admit_desk(
        &self,
        act: Act,
        credential: &[u8],
        certificate: Option<CertificateDigest>,
        now: Time,
    ) -> Result<Caller, Refusal> {
        let caller = self.app.caller(act, credential, certificate, now)?;
        self.app.limit_desk_rate(match &caller {
            Caller::Session(session) => session.identity,
            // Tokens have their own key, so they share no resident's rate.
            Caller::Token(.., id) => Identity {
                home: ResidentId(id.0),
                claim: [0; 16],
            },
        })?;
        Ok(caller)
    }

    /// Checks again a credential that was admitted before its body arrived.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, `SessionExpired`, `NotPermitted`, or `Warming`.
    pub fn still_permits(
        &self,
        act: Act,
        credential: &[u8],
        certificate: Option<CertificateDigest>,
        now: Time,
    ) -> Result<(), Refusal> {
        self.app.caller(act, credential, certificate, now).map(drop)
    }

    /// Checks a scanner once for a whole bulk scan.
    ///
    /// # Errors
    ///
    /// `RateLimited` while the token owes for earlier bulk scans or has too many in progress; else as for
    /// [`Service::still_scanner`].
    pub fn admit_bulk(
        &self,
        token: &[u8],
        now: Time,
        started: Instant,
    ) -> Result<AdmittedBulk, Refusal> {
        let pass = self.still_scanner(token, now)?;
        if self.app.bulk_limiter.wait(pass.0, started) > BULK_OWED_MAX {
            return Err(Refusal::RateLimited);
        }
        let under_way = self.app.bulks.enter(pass.0);
        Ok(AdmittedBulk {
            pass,
            _under_way: under_way.ok_or(Refusal::RateLimited)?,
        })
    }

    /// Checks a scanner's token, also during a bulk scan.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, `SessionExpired`, `NotPermitted`, or `Warming`.
    pub fn still_scanner(&self, token: &[u8], now: Time) -> Result<AccessTokenId, Refusal> {
        self.app.seal.admits(TokenKind::Scanner, token, now)
    }

    /// Charges lines of a bulk scan. Returns how long the scanner must wait before the next ones.
    pub fn charge_bulk(&self, pass: AccessTokenId, lines: u64) -> Duration {
        self.app.bulk_limiter.charge(pass.0, lines, Instant::now())
    }

    /// Returns whether the node serves pages.
    pub fn has_pages(&self) -> bool {
        self.app.settings.pages_per_second > 0
    }

    /// Takes a page from this thread's budget, which protects its queries.
    ///
    /// # Errors
    ///
    /// `Busy` if the budget is used up, `NotFound` if the node serves no pages.
    pub fn admit_page(&self, versioned: bool, started: Instant) -> Result<(), Refusal> {
        let budget = match versioned {
            true => &self.part_budget,
            false => &self.page_budget,
        };
        match self.app.settings.pages_per_second {
            0 => Err(Refusal::NotFound),
            _ => match budget.borrow_mut().take(started) {
                true => Ok(()),
                false => Err(Refusal::Busy),
            },
        }
    }

    /// Takes an answer with public keys from this thread's budget.
    ///
    /// # Errors
    ///
    /// `Busy` if the budget is used up.
    pub fn admit_keys(&self, started: Instant) -> Result<(), Refusal> {
        match self.list_budget.borrow_mut().take(started) {
            true => Ok(()),
            false => Err(Refusal::Busy),
        }
    }

    /// Takes bytes of a list from this thread's budget.
    ///
    /// # Errors
    ///
    /// `Busy` if the budget is used up.
    pub fn admit_list_bytes(&self, bytes: u64, started: Instant) -> Result<(), Refusal> {
        match self.list_bytes.borrow_mut().take(bytes, started) {
            true => Ok(()),
            false => Err(Refusal::Busy),
        }
    }

    /// Opens an authority's token.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, also for a token bound to another certificate; `SessionExpired`, `NotPermitted`, or `Warming`.
    pub fn admit_authority(
        &self,
        token: &[u8],
        certificate: Option<CertificateDigest>,
        now: Time,
    ) -> Result<AccessToken, Refusal> {
        let seal = &self.app.seal;
        let token = seal.open_token(TokenKind::Authority, token, now)?;
        match token.is_of(certificate) {
            true => Ok(token),
            false => Err(Refusal::Unauthorized),
        }
    }

    /// Returns the number of an authority's token.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, `SessionExpired`, `NotPermitted`, or `Warming`.
    pub fn authority_number(&self, token: &[u8], now: Time) -> Result<AccessTokenId, Refusal> {
        self.app.seal.admits(TokenKind::Authority, token, now)
    }
}
