//! Values of requests and answers: bodies, purposes, ids, and where a page begins and ends.

use crate::feed::{Rejection, is_source};
use crate::paper::{Cursor, Paper, PaperKey};
use crate::refusal::Refusal;
use crate::seal::base32;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Default and largest number of papers of a page.
pub(super) const LIMIT: usize = 20;

pub(super) const LIMIT_MAX: usize = 100;

/// Returns JSON in a canonical form, independent of blanks and the order of fields.
pub(super) fn content_of(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let value: Value = serde_json::from_slice(body).map_err(|_| Refusal::Malformed)?;
    serde_json::to_vec(&value).map_err(|_| Refusal::Malformed)
}

/// Parses a JSON object. serde alone would accept an array for a struct as well.
pub(super) fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Refusal::Malformed);
    }
    serde_json::from_slice(body).map_err(|_| Refusal::Malformed)
}

/// Checks the purpose of a look, which the person can read.
pub(super) fn purpose(said: Option<&str>) -> Result<&str, Rejection> {
    let said = said.ok_or(Rejection::MissingField("purpose"))?;
    match is_source(said) {
        true => Ok(said),
        false => Err(Rejection::BadPurpose),
    }
}

/// Returns the key in the id of a path; `NotFound` if it is none.
pub(super) fn key_in(id: Option<&str>) -> Result<PaperKey, Refusal> {
    let bytes = base32::bytes(id.ok_or(Refusal::NotFound)?, 16).ok_or(Refusal::NotFound)?;
    bytes.as_slice().try_into().map_err(|_| Refusal::NotFound)
}

/// Returns the id of a paper in answers.
pub fn id(paper: &Paper) -> String {
    base32::text(&paper.key)
}

/// Cuts the entries of a page to `limit`. Returns the last one if there were more.
pub(super) fn cut<T>(found: &mut Vec<T>, limit: usize) -> Option<&T> {
    let more = found.len() > limit;
    found.truncate(limit);
    found.last().filter(|_| more)
}

/// Returns the cursor of the page after this paper.
pub(super) fn next(last: &Paper) -> String {
    base32::text(&last.cursor().to_bytes())
}

/// Parses the cursor of a page; `Malformed` for any other text.
pub(super) fn cursor(text: &str) -> Result<Cursor, Refusal> {
    let bytes = base32::bytes(text, Cursor::BYTES).ok_or(Refusal::Malformed)?;
    let bytes = bytes
        .as_slice()
        .try_into()
        .map_err(|_| Refusal::Malformed)?;
    Ok(Cursor::from_bytes(bytes))
}
