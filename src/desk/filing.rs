//! Papers as the desk writes and opens them, by the seal alone.

use crate::clock::Time;
use crate::paper::{Paper, PaperKey, PaperKind};
use crate::person::Identity;
use crate::refusal::Refusal;
use crate::seal::Seal;
use crate::store::{Change, ChangeKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Returns the change that writes a paper, for callers that have the seal and no `Desk`. `NotFound` if the key of its service was
/// destroyed, `TooLarge` if the body is too long.
pub(super) fn filed(
    seal: &Seal,
    owner: Identity,
    kind: PaperKind,
    key: PaperKey,
    at: Time,
    body: &impl Serialize,
) -> Result<Change, Refusal> {
    let body = serde_json::to_vec(body).map_err(|_| Refusal::Internal)?;
    if body.len() > crate::seal::PLAIN_BYTES_MAX {
        return Err(Refusal::TooLarge);
    }
    // The service has ended: its key was destroyed.
    let paper = seal.paper(&owner, kind, key, at, &body);
    let paper = paper.ok_or(Refusal::NotFound)?;
    let what = ChangeKind::Paper(paper);
    Ok(Change { who: owner, what })
}

/// Opens a paper, for callers that have the seal and no `Desk`. `Internal` if it cannot be opened.
pub(super) fn opened<T: DeserializeOwned>(
    seal: &Seal,
    owner: &Identity,
    paper: &Paper,
) -> Result<T, Refusal> {
    let body = seal.open_paper(owner, paper);
    body.and_then(|body| serde_json::from_slice(&body).ok())
        .ok_or_else(|| {
            tracing::error!(
                kind = paper.kind.word(),
                "a paper cannot be opened: it is damaged, its key was destroyed or is in another ring, or its contents have another form"
            );
            Refusal::Internal
        })
}
