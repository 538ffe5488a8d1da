//! A show: the status of a session's resident, and a new code for it.

use super::answer::ShownCode;
use super::state::AppState;
use super::thread::Service;
use crate::board::Found;
use crate::clock::{Moment, Now};
use crate::refusal::Refusal;
use crate::seal::{Code, CodeClass, Session};
use crate::status::Word;

impl Service {
    pub(super) async fn show(&self, session: &Session, now: Now) -> Result<ShownCode, Refusal> {
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
                let told = looked.placed.as_ref().map(|placed| placed.word);
                let word;
                if board.note_lookup(resident, told, looked.as_of, Moment::now()) {
                    freshness = board.freshness_at(looked.as_of, now);
                    word = told;
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
}
