//! Scans of grants: which one a scanner may open, whether it was revoked, and the status of its resident.

use super::answer::Verdict;
use super::state::AppState;
use super::thread::Service;
use super::word::own;
use crate::clock::Now;
use crate::desk::grant::{Organisation, RevokedGrants};
use crate::desk::grant_scan_notices::GrantScan;
use crate::refusal::Refusal;
use crate::seal::ring::TokenKind;
use std::collections::HashSet;

impl Service {
    /// Returns the organisation of a scanner; None if it belongs to none.
    ///
    /// # Errors
    ///
    /// `Unauthorized`, `SessionExpired`, `NotPermitted`, or `Warming`.
    pub fn organisation(&self, scanner: &[u8], now: Now) -> Result<Option<Organisation>, Refusal> {
        let seal = &self.app.seal;
        let pass = seal.open_token(TokenKind::Scanner, scanner, now.time)?;
        Ok(pass.bound().map(|name| Organisation::new(seal, name)))
    }

    /// Returns the number of a grant to an organisation; None if the code is not a grant to it, or not in force.
    pub fn number_of(&self, organisation: &Organisation, code: &[u8], now: Now) -> Option<u64> {
        let opened = self.app.seal.open_grant(code, organisation.id, now.time);
        opened.ok().map(|grant| grant.number)
    }

    /// Looks up whether grants were revoked.
    ///
    /// # Errors
    ///
    /// `UpstreamBusy` if the store does not answer in time.
    pub async fn revoked_grants(
        &self,
        organisation: &Organisation,
        numbers: &HashSet<u64>,
    ) -> Result<RevokedGrants, Refusal> {
        let AppState {
            seal,
            store_client,
            revoked_grants,
            ..
        } = &*self.app;
        revoked_grants
            .of(organisation, numbers, seal, store_client)
            .await
    }

    /// Looks up whether one grant was revoked. A code that cannot be opened is refused without a lookup.
    pub(super) async fn revoked_grants_of(
        &self,
        scanner: &[u8],
        code: &[u8],
        now: Now,
    ) -> Result<RevokedGrants, Refusal> {
        let organisation = self.organisation(scanner, now)?;
        let organisation = organisation.ok_or(Refusal::CodeInvalid)?;
        let grant = (self.app.seal).open_grant(code, organisation.id, now.time)?;
        self.revoked_grants(&organisation, &HashSet::from([grant.number]))
            .await
    }

    /// Opens one grant. The status comes from memory, the revocation from `revoked_grants`.
    ///
    /// # Errors
    ///
    /// `CodeInvalid`, `GrantExpired`, `GrantRevoked`, `Warming`, or `UpstreamBusy` if no lookup covers the grant.
    pub fn scan_grant(
        &self,
        code: &[u8],
        revoked_grants: Option<&RevokedGrants>,
        now: Now,
    ) -> Result<Verdict, Refusal> {
        let AppState {
            board, seal, scans, ..
        } = &*self.app;
        let revoked_grants = revoked_grants.ok_or(Refusal::CodeInvalid)?;
        let grant = seal.open_grant(code, revoked_grants.organisation.id, now.time)?;
        match revoked_grants.was_taken_back(grant.number) {
            Some(false) => {}
            Some(true) => return Err(Refusal::GrantRevoked),
            None => return Err(Refusal::UpstreamBusy),
        }
        let (word, mut freshness) = self.known(grant.resident, now)?;
        if revoked_grants.as_of < freshness.moment {
            // Whether it was revoked since is unknown.
            freshness = board.freshness_at(revoked_grants.as_of, now);
        }
        let own = own(word, grant.check)?;
        let scan = GrantScan {
            organisation: revoked_grants.organisation.name.clone(),
            resident: grant.resident,
            number: grant.number,
            at: now.time,
        };
        scans.note(&mut self.grants_seen.borrow_mut(), scan);
        Ok(Verdict {
            status: board.status(own, &freshness),
            masked: grant.masked,
            issued_at: now.time,
            freshness,
            with_reasons: self.app.settings.gate_reasons,
        })
    }
}
