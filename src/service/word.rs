//! The status word at an id: from memory, or from the store while the board is filled.

use super::state::AppState;
use super::thread::Service;
use crate::clock::{Moment, Now};
use crate::person::ResidentId;
use crate::refusal::Refusal;
use crate::status::{Freshness, Word};

impl Service {
    /// Returns the word at an id from memory, and its freshness; `Warming` if the board cannot answer yet.
    #[inline]
    pub(super) fn known(
        &self,
        id: ResidentId,
        now: Now,
    ) -> Result<(Option<Word>, Freshness), Refusal> {
        let board = &self.app.board;
        // Read before the word, which is at least as new.
        let freshness = board.freshness_of(id, now);
        // The same of whether it can be told.
        let is_unconfirmed = board.is_unconfirmed(id);
        let word = board.word(id);
        match is_unconfirmed || word.is_none() && !board.is_filled() {
            true => Err(Refusal::Warming),
            false => Ok((word, freshness)),
        }
    }

    /// Returns the word at an id from a lookup, or from memory if it has caught up meanwhile.
    pub(super) async fn looked(
        &self,
        id: ResidentId,
        now: Now,
    ) -> Result<(Option<Word>, Freshness), Refusal> {
        let AppState {
            board,
            store_client,
            ..
        } = &*self.app;
        let (word, as_of) = store_client.word(id).await?;
        if !board.note_lookup(id, word, as_of, Moment::now()) {
            store_client.caught_up(id).await?;
            return self.known(id, now);
        }
        Ok((word, board.freshness_at(as_of, now)))
    }
}

/// Returns the word if its check bits match. Refuses if the word in the store is damaged, because "unknown" would be wrong for
/// a resident on record.
#[inline]
pub(super) fn own(word: Option<Word>, check: u16) -> Result<Option<Word>, Refusal> {
    match word {
        Some(word) if word.check() == check => Ok(Some(word)),
        Some(word) if word.is_doubtful() => Err(Refusal::UpstreamBusy),
        _ => Ok(None),
    }
}
