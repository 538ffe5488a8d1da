//! Queries as the service gets them, without HTTP: their kinds, their answers, and what was admitted before a query is whole.

use super::answer::{
    OfflineIssued, OfflineVerdict, OpenedSession, ShownCode, StatusExplanation, Verdict,
};
use super::foreign::ForeignVerdict;
use crate::admission::concurrency::ConcurrencyGuard;
use crate::clock::Now;
use crate::desk;
use crate::language::Language;
use crate::meters::{QueryOutcome, RequestKind};
use crate::refusal::Refusal;
use crate::seal::{AccessTokenId, Caller};
use std::time::Instant;

/// A parsed query. Its credential is not checked yet.
pub enum Query<'q> {
    /// Shows a code.
    Show {
        /// The sealed session.
        session: &'q [u8],
        /// The language of the guidance.
        language: Language,
    },
    /// Scans a code.
    Scan {
        /// The admitted scanner.
        scanner: AdmittedScanner<'q>,
        /// The code as read.
        code: &'q [u8],
        /// The language of the verdict.
        language: Language,
    },
    /// Issues an offline code.
    OfflineCode {
        /// The sealed session.
        session: &'q [u8],
        /// Requested validity in hours, as sent.
        hours: Option<&'q str>,
    },
    /// Opens a session.
    OpenSession {
        /// The identity platform's assertion of a log-in.
        assertion: &'q str,
    },
    /// Explains a status.
    Explain {
        /// The sealed session.
        session: &'q [u8],
        /// The language of the guidance.
        language: Language,
    },
    /// An act of the desk with the caller that [`super::Service::admit_desk`] admitted. Boxed, so that shows and scans stay small.
    Desk(Box<desk::DeskRequest<'q>>, Box<Caller>),
}

/// Answer to a query, with the language to print it in.
pub enum Answer {
    /// Answer to a show.
    Shown(ShownCode, Language),
    /// Answer to a scan.
    Verdict(Verdict, Language),
    /// A new session.
    Opened(OpenedSession),
    /// A status in detail.
    Explained(StatusExplanation, Language),
    /// A new offline code.
    OfflineCode(Box<OfflineIssued>),
    /// Answer to a scan of an offline code.
    OfflineVerdict(Box<OfflineVerdict>, Language),
    /// Answer to a scan of a code of another issuer.
    Foreign(Box<ForeignVerdict>),
    /// Answer of the desk. Boxed, because it is rare.
    Desk(Box<desk::DeskResponse>, Language),
}

impl From<&Result<Answer, Refusal>> for QueryOutcome {
    fn from(result: &Result<Answer, Refusal>) -> QueryOutcome {
        match result {
            Ok(Answer::Shown(shown, _)) => QueryOutcome::Told(shown.status),
            Ok(Answer::Verdict(verdict, _)) => QueryOutcome::Told(verdict.status),
            Ok(Answer::Explained(explained, _)) => QueryOutcome::Told(explained.status),
            Ok(Answer::OfflineVerdict(told, _)) => QueryOutcome::Told(told.verdict.status),
            Ok(
                Answer::Opened(_) | Answer::OfflineCode(_) | Answer::Foreign(_) | Answer::Desk(..),
            ) => QueryOutcome::Done,
            Err(refusal) => QueryOutcome::Refused(*refusal),
        }
    }
}

/// An admitted scanner: its token and the token's number.
#[derive(Clone, Copy)]
pub struct AdmittedScanner<'q> {
    pub(super) token: &'q [u8],
    pub(super) pass: AccessTokenId,
}

/// An admitted bulk scan. It counts as in progress until this is dropped.
pub struct AdmittedBulk {
    /// The number of the token.
    pub pass: AccessTokenId,
    pub(super) _under_way: ConcurrencyGuard,
}

/// A query with the kind it is counted as, which is known even if parsing failed.
pub struct TimedQuery<'q> {
    /// The kind under which the query is counted.
    pub kind: RequestKind,
    /// The query, or why it could not be parsed.
    pub query: Result<Query<'q>, Refusal>,
    /// When the head of the request was read.
    pub started: Instant,
    /// The time of the query by both clocks.
    pub now: Now,
}
