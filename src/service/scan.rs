//! A scan of a live code: from memory, or by a lookup while the board is filled. A text that is not a live code and has
//! the length of a grant goes to `grant`.

use super::answer::Verdict;
use super::state::AppState;
use super::thread::Service;
use super::word::own;
use crate::clock::Now;
use crate::refusal::Refusal;
use crate::seal::ring::TokenKind;
use crate::seal::{Code, GRANT_CHARS};
use crate::sightings::Sightings;
use crate::status::{Freshness, Word};

impl Service {
    /// Opens one code of an admitted scanner.
    pub(super) async fn scan(
        &self,
        scanner: &[u8],
        code: &[u8],
        now: Now,
    ) -> Result<Verdict, Refusal> {
        match self.scan_now(code, now) {
            Ok(verdict) if Sightings::watches(verdict.issued_at) => {
                self.note_sighting(scanner, code, now);
                Ok(verdict)
            }
            Err(Refusal::Warming) => Box::pin(self.scan_by_lookup(code, now)).await,
            Err(Refusal::CodeInvalid) if code.len() == GRANT_CHARS => {
                let revoked_grants = Box::pin(self.revoked_grants_of(scanner, code, now)).await?;
                self.scan_grant(code, Some(&revoked_grants), now)
            }
            verdict => verdict,
        }
    }

    /// Records the site at which a watched code was read.
    #[cold]
    #[inline(never)]
    fn note_sighting(&self, scanner: &[u8], code: &[u8], now: Now) {
        let AppState {
            seal, sightings, ..
        } = &*self.app;
        if let Ok(pass) = seal.open_token(TokenKind::Scanner, scanner, now.time) {
            sightings.note(code, pass.holder(), now.moment);
        }
    }

    /// Opens a live code from memory.
    ///
    /// # Errors
    ///
    /// `CodeInvalid`, `CodeExpired`, or `Warming` if the board cannot answer yet.
    pub fn scan_now(&self, code: &[u8], now: Now) -> Result<Verdict, Refusal> {
        let code = self.app.seal.open_code(code, now.time)?;
        let (word, freshness) = self.known(code.resident, now)?;
        self.verdict(&code, word, freshness)
    }

    /// Opens a live code, and asks the store while the board is filled.
    pub(super) async fn scan_by_lookup(&self, code: &[u8], now: Now) -> Result<Verdict, Refusal> {
        let code = self.app.seal.open_code(code, now.time)?;
        let (word, freshness) = self.looked(code.resident, now).await?;
        self.verdict(&code, word, freshness)
    }

    /// Returns the verdict of a code. The code holds the check bits of its id's word; other bits mean that the id belonged to
    /// another resident then or does now, so the status is unknown.
    fn verdict(
        &self,
        code: &Code,
        word: Option<Word>,
        freshness: Freshness,
    ) -> Result<Verdict, Refusal> {
        let own = own(word, code.check)?;
        Ok(Verdict {
            status: self.app.board.status(own, &freshness),
            masked: code.masked,
            issued_at: code.issued_at,
            freshness,
            with_reasons: self.app.settings.gate_reasons,
        })
    }
}
