//! Revocations: what is genuine and good no more. Filed as papers on lists of ours, which every node reads again each second
//! into its own memory, where whoever opens a credential finds them without asking anybody.
//!
//! A revocation's time is the one at which what it revokes would have ended by itself: lists hold what is in force and no more, and
//! past the most of a list those go first that end first.

use super::{Asked, Desk, No, Said, object};
use crate::answer::Refusal;
use crate::clock::Time;
use crate::desk::audit::Deed;
use crate::desk::roles::{Act, Role};
use crate::paper::{Kind, Kinds, PAGE_MAX};
use crate::person::Identity;
use crate::seal::{Caller, Ends, Pass, Seal, Session, extend};
use crate::store::{Change, Error, Store};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;

/// Between two readings of the lists; far below the age at which a verdict is marked.
pub const REFRESH_EVERY: Duration = Duration::from_secs(1);

const KINDS: Kinds = Kinds::of(&[Kind::Revocation]);

/// Times that a resident may end own sessions while the former ends are in force.
const SESSION_ENDS_MAX: usize = 16;

/// Lists of their own, so that nothing which residents file makes room for itself where operators did.
#[derive(Clone, Copy)]
pub(super) enum List {
    Passes,
    Members,
    Sessions,
}

impl List {
    const ALL: [List; 3] = [List::Passes, List::Members, List::Sessions];

    fn part(self, seal: &Seal, sixteenth: u8) -> Identity {
        let name = match self {
            List::Passes => "passes",
            List::Members => "members",
            List::Sessions => "sessions",
        };
        seal.owner("revocations", name, sixteenth)
    }
}

/// What is revoked.
pub(super) struct Revocation {
    pub number: u64,
    /// What was issued up to then is good no more.
    pub end: Time,
    /// When the last of it would have ended by itself.
    pub until: Time,
}

impl Revocation {
    /// Of whatever was issued under a number.
    pub fn of_all(number: u64, until: Time) -> Revocation {
        let end = Time(u64::MAX);
        Revocation { number, end, until }
    }

    /// Of whatever was issued under it before this.
    fn of_earlier(number: u64, than: Time, until: Time) -> Revocation {
        let end = Time(than.0.saturating_sub(1));
        Revocation { number, end, until }
    }
}

/// A revocation as it rests: number and end, in milliseconds.
#[derive(Serialize, Deserialize)]
struct Resting(u64, u64);

#[derive(Deserialize)]
struct Revoked {
    token: String,
}

impl Desk<'_> {
    /// The change that files a revocation; in this node's memory it is at once.
    pub(super) fn revocation(
        &self,
        list: List,
        revocation: &Revocation,
    ) -> Result<Change, Refusal> {
        let owner = list.part(self.seal, (revocation.number >> 60) as u8);
        self.seal.revoked.add(revocation.number, revocation.end);
        self.filed_with(owner, revocation)
    }

    fn filed_with(&self, owner: Identity, revocation: &Revocation) -> Result<Change, Refusal> {
        let Revocation { number, end, until } = *revocation;
        let parts = [number.to_be_bytes(), end.0.to_be_bytes()];
        let key = self.seal.paper_key(&[b"revocation", &parts[0], &parts[1]]);
        self.filing_at(owner, Kind::Revocation, key, until, &Resting(number, end.0))
    }

    /// Revokes a token: whoever comes with it is `unauthorized`, here at once and everywhere within a second or two.
    pub(super) async fn revoke(&self, by: &Pass, asked: &Asked<'_>) -> Result<Said, No> {
        let revoked: Revoked = object(asked.body)?;
        let caller = self.seal.open_caller(revoked.token.as_bytes(), self.now);
        let (list, revocation, of) = match caller {
            Ok(Caller::Pass(_, pass, id)) => {
                let of = pass.holder().to_owned();
                let revocation = Revocation::of_all(id.0, pass.expires_at);
                (List::Passes, revocation, of)
            }
            Ok(Caller::Session(session)) => match session.member {
                Some(member) => {
                    let revocation = Revocation::of_all(member, session.expires_at);
                    (List::Members, revocation, "a member".to_owned())
                }
                // Sessions of an own log-in are told apart by their time alone.
                None => {
                    let after = Time(session.issued_at.0 + 1);
                    let number = session.identity.number();
                    let revocation = Revocation::of_earlier(number, after, session.expires_at);
                    (List::Sessions, revocation, "a resident".to_owned())
                }
            },
            // Revoked before, or over: there is nothing to do.
            Err(_) => return Err(Refusal::CodeInvalid.into()),
        };
        let deed = Deed::new(by.holder(), Role::Operator, Act::Revoke.word());
        let deed =
            deed.detail(json!({ "of": of, "number": format!("{:016x}", revocation.number) }));
        let change = self.revocation(list, &revocation)?;
        self.cold.apply(vec![change]).await?;
        // What ends is ended first, and recorded before it is acknowledged.
        self.record_deeds(vec![deed]).await?;
        let until = revocation.until.to_string();
        Ok(Said::Done(json!({ "revoked": of, "until": until })))
    }

    /// Ends every session of the resident from before this one, and those by which family members were shown until then: for
    /// whoever has lost a phone and logged in on another. Who holds an older session ends none that is newer.
    pub(super) async fn end_sessions(&self, session: &Session) -> Result<Said, No> {
        let who = session.identity;
        let until = self.now.plus(self.settings.session_life);
        let earlier = |number| Revocation::of_earlier(number, session.issued_at, until);
        let own = earlier(who.number());
        // The resident's own list says how often.
        let known = self.cold.papers_now(who, KINDS, None, PAGE_MAX).await?;
        let in_force = known.iter().filter(|paper| paper.at > self.now).count();
        if in_force >= SESSION_ENDS_MAX {
            return Err(Refusal::TooMany.into());
        }
        let mut changes = vec![
            self.filed_with(who, &own)?,
            self.revocation(List::Sessions, &own)?,
        ];
        let members = self.memberships(who).await?;
        for number in &members {
            changes.push(self.revocation(List::Members, &earlier(*number))?);
        }
        self.cold.apply(changes).await?;
        Ok(Said::Done(json!({
            "revoked": "sessions", "before": session.issued_at.to_string(), "members": members.len(),
        })))
    }
}

/// Reads the lists, all at once; of them only what could still be used counts.
pub async fn read(store: &dyn Store, seal: &Seal, now: Time) -> Result<Ends, Error> {
    let parts = List::ALL.into_iter();
    let parts = parts.flat_map(|list| (0..16).map(move |sixteenth| list.part(seal, sixteenth)));
    let read = try_join_all(parts.map(|part| read_part(store, seal, now, part))).await?;
    let mut ends = Ends::default();
    for Resting(number, end) in read.into_iter().flatten() {
        extend(&mut ends, number, Time(end));
    }
    Ok(ends)
}

/// One sixteenth of a list.
async fn read_part(
    store: &dyn Store,
    seal: &Seal,
    now: Time,
    owner: Identity,
) -> Result<Vec<Resting>, Error> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = store.papers(owner, KINDS, after, PAGE_MAX).await?;
        // The latest to end come first.
        for paper in page.iter().take_while(|paper| paper.at > now) {
            let body = seal.open_paper(&owner, paper);
            let read = body.and_then(|body| serde_json::from_slice(&body).ok());
            all.push(read.ok_or(Error::Damaged("a revocation"))?);
        }
        match page.last() {
            Some(last) if page.len() == PAGE_MAX && last.at > now => after = Some(last.cursor()),
            _ => return Ok(all),
        }
    }
}
