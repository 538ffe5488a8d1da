//! The service: turns a query into an answer. Shows, scans, sessions, explanations. A show or a scan in the steady state waits
//! for nothing: the credential and the board have all it needs.

mod admit;
pub mod answer;
pub mod foreign;
mod grant;
pub mod in_force;
mod limits;
mod maintenance;
mod offline_code;
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
use crate::person::{MaskedIdentity, MaskedName, Profile};
use crate::refusal::Refusal;
use crate::seal::{Code, CodeClass, Session};
use crate::status::ResidentStatus;
use crate::status::Word;
use crate::store::record;
use crate::traces;
use answer::{OpenedSession, ReasonDetail, ReasonSource, ShownCode, StatusExplanation};
use limits::turn;
use std::time::Instant;
use word::newer;

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
