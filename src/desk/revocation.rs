//! Revocations: what is genuine and good no more. Filed as papers on a list of ours, which every node reads again each second
//! into its own memory, where whoever opens a credential finds it without asking anybody.

use super::{Asked, Desk, No, Said, object};
use crate::answer::Refusal;
use crate::clock::Time;
use crate::paper::{Kind, Kinds, PAGE_MAX};
use crate::person::Identity;
use crate::seal::{Caller, Seal};
use crate::store::{Change, Error, Store};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashSet;
use std::time::Duration;

/// Between two readings of the list; far below the age at which a verdict is marked.
pub const REFRESH_EVERY: Duration = Duration::from_secs(1);

const KINDS: Kinds = Kinds::of(&[Kind::Revocation]);

#[derive(Serialize, Deserialize)]
struct Revocation {
    id: u64,
    /// Until what is revoked would have ended by itself, in milliseconds.
    until: u64,
}

#[derive(Deserialize)]
struct Revoked {
    token: String,
}

fn list(seal: &Seal, sixteenth: u8) -> Identity {
    seal.owner("revocations", "", sixteenth)
}

impl Desk<'_> {
    /// The change that revokes a pass or a membership; in this node's memory it is at once.
    pub(super) fn revocation(&self, id: u64, until: Time) -> Result<Change, Refusal> {
        let list = list(self.seal, (id >> 60) as u8);
        let key = self.seal.paper_key(&[b"revocation", &id.to_be_bytes()]);
        let until = until.0;
        let change = self.filing(list, Kind::Revocation, key, &Revocation { id, until })?;
        self.seal.revoked.add(id);
        Ok(change)
    }

    /// Revokes a token: whoever comes with it is `unauthorized`, here at once and everywhere within a second or two.
    pub(super) async fn revoke(&self, asked: &Asked<'_>) -> Result<Said, No> {
        let revoked: Revoked = object(asked.body)?;
        let caller = self.seal.open_caller(revoked.token.as_bytes(), self.now);
        let (id, until, of) = match caller {
            Ok(Caller::Pass(_, pass, id)) => (id.0, pass.expires_at, pass.holder().to_owned()),
            Ok(Caller::Session(session)) => match session.member {
                Some(member) => (member, session.expires_at, "a member".to_owned()),
                // Sessions of an own log-in are told apart by nothing, and end within a day.
                None => return Err(Refusal::NotPermitted.into()),
            },
            // Revoked before, or over: there is nothing to do.
            Err(_) => return Err(Refusal::CodeInvalid.into()),
        };
        self.cold.apply(vec![self.revocation(id, until)?]).await?;
        Ok(Said::Done(
            json!({ "revoked": of, "until": until.to_string() }),
        ))
    }
}

/// Reads the whole list, of which only what could still be used counts.
pub async fn read(store: &dyn Store, seal: &Seal, now: Time) -> Result<HashSet<u64>, Error> {
    let mut ids = HashSet::new();
    for sixteenth in 0..16 {
        let owner = list(seal, sixteenth);
        let mut after = None;
        loop {
            let page = store.papers(owner, KINDS, after, PAGE_MAX).await?;
            for paper in &page {
                let body = seal.open_paper(&owner, paper);
                let read = body.and_then(|body| serde_json::from_slice::<Revocation>(&body).ok());
                let revocation = read.ok_or(Error::Damaged("a revocation"))?;
                if Time(revocation.until) > now {
                    ids.insert(revocation.id);
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE_MAX => after = Some(last.cursor()),
                _ => break,
            }
        }
    }
    Ok(ids)
}
