//! The service: turns a query into an answer, by the child for its kind or by the desk. A show or a scan in the steady state waits
//! for nothing: the credential and the board have all it needs.

mod admit;
pub mod answer;
mod explain;
pub mod foreign;
mod grant;
pub mod in_force;
mod limits;
mod maintenance;
mod offline_code;
mod query;
mod scan;
mod session;
mod show;
mod state;
mod thread;
mod word;

pub use maintenance::MaintenanceStream;
pub use query::{AdmittedBulk, AdmittedScanner, Answer, Query, TimedQuery};
pub use state::{AppState, RateLimits, Settings};
pub use thread::Service;

use crate::clock::Now;
use crate::desk::DeskResponse;
use crate::desk::roles::Role;
use crate::identity::AssertionPurpose;
use crate::meters::QueryOutcome;
use crate::offline::code::OFFLINE_CODE_CHARS;
use crate::refusal::Refusal;
use crate::traces;
use limits::turn;
use std::time::Instant;

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
}

/// Notes the refusal of a request at the desk in its span.
fn noted<T>(result: Result<T, Refusal>) -> Result<T, Refusal> {
    result.inspect_err(|refusal| traces::note_refusal(*refusal))
}
