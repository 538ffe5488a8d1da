//! The service: turns a query into an answer. Shows, scans, sessions, explanations. A show or a scan in the steady state waits
//! for nothing: the credential and the board have all it needs.

mod admit;
pub mod answer;
pub mod foreign;
mod grant;
pub mod in_force;
mod limits;
mod maintenance;
mod query;
mod scan;
mod state;
mod thread;
mod word;

pub use maintenance::MaintenanceStream;
pub use query::{AdmittedBulk, AdmittedScanner, Answer, Query, TimedQuery};
pub use state::{AppState, RateLimits, Settings};
pub use thread::Service;

use crate::board::Found;
use crate::clock::{Now, Time};
use crate::desk::DeskResponse;
use crate::desk::roles::Role;
use crate::identity::{AssertionNumber, AssertionPurpose};
use crate::language::Language;
use crate::meters::QueryOutcome;
use crate::offline::code::OFFLINE_CODE_CHARS;
use crate::offline::issue::{OfflineHolder, OpenedOffline};
use crate::person::{MaskedIdentity, MaskedName, Profile, ResidentId};
use crate::refusal::Refusal;
use crate::seal::{Code, CodeClass, Session};
use crate::status::Word;
use crate::status::{Freshness, ResidentStatus};
use crate::store::record;
use crate::traces;
use answer::{
    OfflineIssued, OfflineVerdict, OpenedSession, ReasonDetail, ReasonSource, ShownCode,
    StatusExplanation, Verdict,
};
use limits::turn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use word::{newer, own};

/// Offline codes of one resident and generation in a day, from one node.
const OFFLINE_CODES_A_DAY: u8 = 4;

impl Service {
    /// Answers a query, and counts it with its duration.
    ///
    /// # Errors
    ///
    /// The refusal of the query.
    pub async fn answer(&self, request: TimedQuery<'_>) -> Result<Answer, Refusal> {
        let visit = self.metrics.enter(request.kind, request.started); // dropped unfinished, it counts as gone
        let result = self.walk(request.query, request.now, request.started).await;
        visit.leave(QueryOutcome::from(&result));
        result
    }

    /// Answers a query. The refusals of each step are named beside it.
    async fn walk(
        &self,
        query: Result<Query<'_>, Refusal>,
        now: Now,
        started: Instant,
    ) -> Result<Answer, Refusal> {
        let AppState { show_limiter, .. } = &*self.app;
        match query? {
            Query::Show { session, language } => {
                let session = self.app.seal.open_session(session, now.time)?; // Unauthorized, SessionExpired, NotPermitted
                turn(show_limiter, session.identity.home.0, started)?; // RateLimited
                let shown = self.show(&session, now).await?; // UpstreamBusy if the store must be asked
                Ok(Answer::Shown(shown, language))
            }
            Query::Scan {
                scanner,
                code,
                language,
            } => {
                self.still_admits(scanner.pass, scanner.token, now.time)?; // Unauthorized: the token was revoked while the body came
                match self.scan(scanner.token, code, now).await {
                    Ok(verdict) => Ok(Answer::Verdict(verdict, language)),
                    Err(Refusal::CodeInvalid) if self.is_foreign(code) => {
                        let scanned = Box::pin(self.scan_foreign(scanner.pass, code, now)).await;
                        Ok(Answer::Foreign(Box::new(scanned?))) // IssuerUnknown, SignatureInvalid, IssuerNotEntitled, RateLimited, Busy
                    }
                    // CodeRevoked, and as below
                    Err(Refusal::CodeInvalid) if code.len() == OFFLINE_CODE_CHARS => {
                        let told = Box::pin(self.scan_offline(code, now)).await?;
                        Ok(Answer::OfflineVerdict(Box::new(told), language))
                    }
                    Err(refusal) => Err(refusal), // CodeInvalid, CodeExpired; UpstreamBusy while the board fills
                }
            }
            Query::OfflineCode { session, hours } => {
                let session = self.app.seal.open_session(session, now.time)?; // Unauthorized, SessionExpired, NotPermitted
                let issued = Box::pin(self.issue_offline(&session, hours, now)).await?; // NotFound, Malformed, LimitReached, RateLimited, Busy, Warming
                Ok(Answer::OfflineCode(Box::new(issued)))
            }
            Query::OpenSession { assertion } => {
                let AppState { platform, .. } = &*self.app;
                let (profile, number) =
                    noted(platform.person(assertion, AssertionPurpose::LogIn, now.time))?; // Unauthorized, SessionExpired, Malformed, OfflineRegistration
                let opened = noted(self.open_session(profile, number, now.time).await)?; // RateLimited, UpstreamBusy; Unauthorized if it was used
                Ok(Answer::Opened(opened))
            }
            Query::Explain { session, language } => {
                let session = noted(self.app.seal.open_session(session, now.time))?; // Unauthorized, SessionExpired, NotPermitted
                traces::note_here(traces::ROLE, Role::of_session(&session).word());
                let explained = noted(self.explain(&session, language, now).await)?; // RateLimited, UpstreamBusy
                Ok(Answer::Explained(explained, language))
            }
            Query::Desk(request, caller) => {
                // Boxed, so that shows and scans stay small.
                let said = Box::pin(self.desk(now.time).answer(&request, &caller)).await;
                let mut said = noted(said)?; // what the desk refuses
                if let DeskResponse::Found(said) | DeskResponse::Done(said) = &mut said {
                    self.app.names.load().add(said, request.language);
                }
                Ok(Answer::Desk(Box::new(said), request.language))
            }
        }
    }

    async fn show(&self, session: &Session, now: Now) -> Result<ShownCode, Refusal> {
        let AppState { board, seal, .. } = &*self.app;
        let mut resident = session.resident();
        let mut check = session.identity.check();
        let mut freshness = board.freshness_of(resident, now);
        let word = match board.find(resident, check) {
            Found::Word(word) => Some(word),
            Found::Absent => None,
            // The id is not loaded yet, or may belong to another resident: the store decides by the claim.
            Found::NotYet | Found::Ask => {
                // Boxed, so that shows without a lookup stay small.
                let looked = Box::pin(self.app.store_client.lookup(session.identity)).await?;
                if let Some(placed) = &looked.placed {
                    resident = placed.id;
                }
                let word;
                if board.note_lookup(resident, looked.as_of) {
                    freshness = board.freshness_at(looked.as_of, now);
                    let known = board.word(resident);
                    word = match looked.placed {
                        // A change that arrived meanwhile may be newer.
                        Some(placed) => Some(newer(known, placed.word)),
                        None => known.filter(|word| word.check() == check),
                    };
                } else {
                    self.app.store_client.caught_up(resident).await?;
                    let known;
                    (known, freshness) = self.known(resident, now)?;
                    // If two residents share a home, the lookup gives the id; the status is the one that any caller gets for
                    // it.
                    let is_own = |word: &Word| looked.placed.is_some() || word.check() == check;
                    word = known.filter(is_own);
                }
                check = word.map_or(check, Word::check);
                word
            }
        };
        let code = Code {
            resident,
            check,
            class: CodeClass::Live,
            issued_at: now.time,
            masked: session.masked,
        };
        Ok(ShownCode {
            status: board.status(word, &freshness),
            masked: session.masked,
            code: seal.code(&self.nonces, &code),
            issued_at: now.time,
            expires_at: now.time.plus(seal.code_life()),
            freshness,
        })
    }

    /// Opens a text with the length of an offline code. The status comes from memory, or from the store while the board is
    /// filled.
    async fn scan_offline(&self, code: &[u8], now: Now) -> Result<OfflineVerdict, Refusal> {
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
    async fn issue_offline(
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

    /// Opens a session. A first one registers the resident.
    async fn open_session(
        &self,
        profile: Profile,
        number: AssertionNumber,
        now: Time,
    ) -> Result<OpenedSession, Refusal> {
        let AppState { seal, settings, .. } = &*self.app;
        let who = seal.identify(&profile.document);
        self.app.limit_desk_rate(who)?;
        let steps = self.desk(now).register(who, &profile).await?;
        // Marked as used last, so that a refused log-in can be repeated with the same assertion.
        self.desk(now).use_assertion(number, None).await?;
        let masked = MaskedIdentity {
            name: MaskedName::of(profile.name.as_deref().unwrap_or_default()),
            cert_no: profile.document.mask(),
            assurance: profile.assurance,
        };
        let expires_at = now.plus(settings.session_life);
        let session = Session {
            identity: who,
            steps,
            member: None,
            masked,
            issued_at: now,
            expires_at,
        };
        Ok(OpenedSession {
            session: seal.session(&self.nonces, &session),
            expires_at,
            masked,
        })
    }

    async fn explain(
        &self,
        session: &Session,
        language: Language,
        now: Now,
    ) -> Result<StatusExplanation, Refusal> {
        let board = &self.app.board;
        let guidance = self.app.guidance.load_full();
        let names = self.app.names.load_full();
        let said_by = |status: &record::Assertion| ReasonSource {
            since: status.at,
            until: status.until,
            region: status.region,
            source: status.source.to_string(),
            source_name: names.of(&status.source, language).map(str::to_owned),
        };
        self.app.limit_desk_rate(session.identity)?;
        let freshness = board.freshness(now);
        let placed = self.app.store_client.record(session.identity).await?;
        let mut explained = StatusExplanation {
            status: ResidentStatus::Unknown,
            details: Vec::new(),
            released: Vec::new(),
            masked: session.masked,
            freshness,
        };
        if board.is_too_old(&freshness) {
            explained.status = ResidentStatus::TooOld;
        } else if let Some(placed) = placed {
            let record = &placed.record;
            let lost = board.retained(placed.id).without(record.reasons());
            explained.status = ResidentStatus::Known(record.reasons().and(lost));
            explained.details = record
                .active()
                .map(|status| ReasonDetail {
                    reason: status.reason,
                    guidance: guidance
                        .text(status.reason, status.region, language)
                        .to_owned(),
                    said: Some(said_by(status)),
                })
                .chain(lost.iter().map(|reason| ReasonDetail {
                    reason,
                    guidance: guidance.text(reason, None, language).to_owned(),
                    said: None,
                }))
                .collect();
            let cleared = record.assertions.iter().filter(|status| !status.active);
            let released = cleared.filter(|status| status.is_told());
            explained.released = released
                .map(|status| (status.reason, said_by(status)))
                .collect();
            explained
                .released
                .sort_by_key(|(_, said)| std::cmp::Reverse(said.since));
            explained
                .details
                .sort_by_key(|detail| (detail.reason, detail.said.as_ref().map(|said| said.since)));
        }
        Ok(explained)
    }
}

/// Notes the refusal of a request at the desk in its span.
fn noted<T>(result: Result<T, Refusal>) -> Result<T, Refusal> {
    result.inspect_err(|refusal| traces::note_refusal(*refusal))
}
