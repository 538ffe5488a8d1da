//! What the desk is asked, and what it answers.

use super::roles::Act;
use crate::feed::Rejection;
use crate::language::Language;
use crate::refusal::Refusal;
use serde_json::Value;

/// A parsed desk request. Its fields are not checked yet.
pub struct DeskRequest<'q> {
    /// What is asked for.
    pub act: Act,
    /// The id in the path.
    pub id: Option<&'q str>,
    /// The query parameters.
    pub params: Params<'q>,
    /// The whole body; empty if there is none.
    pub body: &'q [u8],
    /// The idempotency key: a repeated request with the same key is carried out once.
    pub idempotency: Option<&'q str>,
    /// The language of the answer.
    pub language: Language,
}

/// Query parameters of desk requests, as sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'q> {
    /// The cursor after which a page begins.
    pub after: Option<&'q str>,
    /// Number of entries of a page.
    pub limit: Option<&'q str>,
    /// Kind of records to return.
    pub kind: Option<&'q str>,
    /// Division of destination.
    pub destination: Option<&'q str>,
    /// Day of arrival, `yyyy-mm-dd`.
    pub day: Option<&'q str>,
    /// Purpose of a look by an office.
    pub purpose: Option<&'q str>,
}

/// Answer of the desk.
pub enum DeskResponse {
    /// Result of a read.
    Found(Value),
    /// Result of an act that is on record.
    Done(Value),
    /// The request was understood, and a field is wrong.
    Rejected(Rejection),
}

/// Why the desk has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeskError {
    /// A refusal.
    Refused(Refusal),
    /// The request was understood, and a field is wrong.
    Rejected(Rejection),
}

impl From<Refusal> for DeskError {
    fn from(refusal: Refusal) -> DeskError {
        DeskError::Refused(refusal)
    }
}

impl From<Rejection> for DeskError {
    fn from(rejection: Rejection) -> DeskError {
        DeskError::Rejected(rejection)
    }
}

impl Params<'_> {
    /// Returns the length of a page: `usual` if the caller gives none. `Malformed` for a number outside 1 to `most`.
    pub(super) fn limit(&self, usual: usize, most: usize) -> Result<usize, Refusal> {
        let Some(limit) = self.limit else {
            return Ok(usual);
        };
        let limit = limit.parse().ok();
        let limit = limit.filter(|limit| (1..=most).contains(limit));
        limit.ok_or(Refusal::Malformed)
    }
}
