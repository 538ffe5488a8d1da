//! Offline codes: issued to the resident of a session, and scanned.

use super::answer::{OfflineIssued, OfflineVerdict, Verdict};
use super::limits::turn;
use super::thread::Service;
use super::word::own;
use crate::board::Found;
use crate::clock::{Now, Time};
use crate::offline::issue::{OfflineHolder, OpenedOffline};
use crate::person::ResidentId;
use crate::refusal::Refusal;
use crate::seal::Session;
use crate::status::{Freshness, Word};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Offline codes of one resident and generation in a day, from one node.
const OFFLINE_CODES_A_DAY: u8 = 4;

impl Service {
    /// Opens a text with the length of an offline code. The status comes from memory, or from the store while the board is
    /// filled.
    pub(super) async fn scan_offline(
        &self,
        code: &[u8],
        now: Now,
    ) -> Result<OfflineVerdict, Refusal> {
        match self.scan_offline_now(code, now) {
            Err(Refusal::Warming) => {
                let opened = self.open_offline(code, now.time)?;
                let (word, freshness) = self.looked(opened.resident, now).await?;
                self.offline_verdict(&opened, word, freshness)
            }
            told => told,
        }
    }

    /// Opens an offline code from memory.
    ///
    /// # Errors
    ///
    /// The refusals of the code, and `Warming` if the board cannot answer yet.
    pub fn scan_offline_now(&self, code: &[u8], now: Now) -> Result<OfflineVerdict, Refusal> {
        let opened = self.open_offline(code, now.time)?;
        let (word, freshness) = self.known(opened.resident, now)?;
        self.offline_verdict(&opened, word, freshness)
    }

    fn open_offline(&self, code: &[u8], now: Time) -> Result<OpenedOffline, Refusal> {
        let offline = self.app.offline.as_ref().ok_or(Refusal::CodeInvalid)?;
        offline.open(code, now, self.app.seal.clock_skew())
    }

    fn offline_verdict(
        &self,
        opened: &OpenedOffline,
        word: Option<Word>,
        freshness: Freshness,
    ) -> Result<OfflineVerdict, Refusal> {
        let own = own(word, opened.code.check)?;
        Ok(OfflineVerdict {
            verdict: Verdict {
                status: self.app.board.status(own, &freshness),
                masked: opened.code.masked,
                issued_at: opened.code.issued_at,
                freshness,
                with_reasons: self.app.settings.gate_reasons,
            },
            expires_at: opened.code.expires_at(),
        })
    }

    /// Issues an offline code for a session's resident. `NotFound` if the node issues none or the person is not on record,
    /// `LimitReached` beyond a resident's daily number, `Busy` beyond this thread's rate of signatures.
    pub(super) async fn issue_offline(
        &self,
        session: &Session,
        hours: Option<&str>,
        now: Now,
    ) -> Result<OfflineIssued, Refusal> {
        let offline = self.app.offline.as_ref().ok_or(Refusal::NotFound)?;
        let life = offline.life(hours)?;
        turn(
            &self.app.show_limiter,
            session.identity.home.0,
            Instant::now(),
        )?;
        let (resident, word) = self.on_record(session).await?;
        let generation = offline.generations.current(resident)?;
        let count = self
            .app
            .offline_codes
            .get_with((session.identity, generation), Arc::default);
        let counted = |count: u8| (count < OFFLINE_CODES_A_DAY).then_some(count + 1);
        if count.load(Relaxed) >= OFFLINE_CODES_A_DAY {
            return Err(Refusal::LimitReached);
        }
        if !self.offline_budget.borrow_mut().take(Instant::now()) {
            return Err(Refusal::Busy);
        }
        count
            .fetch_update(Relaxed, Relaxed, counted)
            .map_err(|_| Refusal::LimitReached)?;
        let holder = OfflineHolder {
            resident,
            check: word.check(),
            masked: session.masked,
        };
        let (text, code) = offline.issue(&holder, life, now.time)?;
        Ok(OfflineIssued {
            code: text,
            issued_at: code.issued_at,
            expires_at: code.expires_at(),
            masked: session.masked,
        })
    }

    /// Returns the id and word of a session's resident from the board or the store. `NotFound` if the person is not on record.
    async fn on_record(&self, session: &Session) -> Result<(ResidentId, Word), Refusal> {
        let resident = session.resident();
        match self.app.board.find(resident, session.identity.check()) {
            Found::Word(word) => Ok((resident, word)),
            Found::Absent => Err(Refusal::NotFound),
            Found::NotYet | Found::Ask => {
                let looked = self.app.store_client.lookup(session.identity).await?;
                let placed = looked.placed.ok_or(Refusal::NotFound)?;
                Ok((placed.id, placed.word))
            }
        }
    }
}
