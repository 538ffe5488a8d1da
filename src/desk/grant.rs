//! Grants: a resident lets an organisation check the status until a day. The grant is a sealed code that only scanners of that
//! organisation open; it lies on the organisation's roster, and whoever gave it takes it back.
//!
//! Bulk verification rests on this: a roster is checked every morning, and nobody photographs phones.

use super::{
    Asked, Desk, Masked, No, Said, content_of, cut, id, key_in, object, opened, read_who,
    sixteenth, write_who,
};
use crate::answer::Refusal;
use crate::clock::{Moment, Time};
use crate::cold::Cold;
use crate::feed::{Rejection, is_source, parse_day};
use crate::paper::{Key, Kind, Kinds, PAGE_MAX, Paper};
use crate::person::Identity;
use crate::seal::{Grant, Pass, Seal, Session, base32};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

const KINDS: Kinds = Kinds::of(&[Kind::Grant, Kind::GrantGone]);

/// Grants of one resident that are in force.
const GRANTS_MAX: usize = 64;

/// Grants of one resident in a day, those that were taken back among them.
const GRANTS_DAY_MAX: usize = 128;

/// What is known of the grants that were taken back is good for so long.
const GONE_LIFE: Duration = Duration::from_secs(1);

/// Organisations whose grants are looked after at once.
const ORGANISATIONS_MAX: u64 = 10_000;

#[derive(Deserialize)]
struct Given {
    organisation: Option<String>,
    until: Option<String>,
}

/// A grant, as it rests with the resident and on the roster.
#[derive(Serialize, Deserialize)]
struct Granted {
    organisation: String,
    until: String,
    who: String,
    steps: u8,
    /// As sealed things carry it.
    face: String,
    person: Masked,
}

/// The end of a day in China, where the day was said.
fn end_of(day: &str) -> Result<Time, Rejection> {
    parse_day(day).ok_or(Rejection::BadUntil)?;
    let end: jiff::Timestamp = format!("{day}T23:59:59.999+08:00")
        .parse()
        .map_err(|_| Rejection::BadUntil)?;
    Ok(Time(end.as_millisecond().max(0) as u64))
}

/// The key of the paper that ends a grant: it begins as the grant's does, so that nobody has to open it.
fn gone_key(key: &Key) -> Key {
    let mut gone = *key;
    gone[15] ^= 0xff;
    gone
}

fn number(key: &Key) -> u64 {
    u64::from_be_bytes(key[..8].try_into().expect("8 of 16"))
}

fn roster(seal: &Seal, organisation: &str, sixteenth: u8) -> Identity {
    seal.owner("roster", organisation, sixteenth)
}

/// What a sealed grant says of whose it is.
pub fn organisation_id(seal: &Seal, organisation: &str) -> u64 {
    let claim = roster(seal, organisation, 0).claim;
    u64::from_be_bytes(claim[..8].try_into().expect("8 of 16"))
}

/// Grants of an organisation that were taken back, as of when that was asked.
pub struct Gone {
    pub holder: Arc<str>,
    pub organisation: u64,
    pub numbers: HashSet<u64>,
    pub as_of: Moment,
}

/// What is known of the grants of organisations that scan.
pub struct Gones {
    cache: moka::future::Cache<String, Arc<Gone>>,
}

impl Default for Gones {
    fn default() -> Gones {
        Gones {
            cache: moka::future::Cache::builder()
                .max_capacity(ORGANISATIONS_MAX)
                .time_to_live(GONE_LIFE)
                .build(),
        }
    }
}

impl Gones {
    /// `UpstreamBusy` where the store does not tell in time: then no grant is good.
    pub async fn of(
        &self,
        organisation: &str,
        seal: &Seal,
        cold: &Cold,
    ) -> Result<Arc<Gone>, Refusal> {
        let read = self.cache.try_get_with_by_ref(organisation, async {
            let as_of = cold.as_of();
            let mut numbers = HashSet::new();
            for sixteenth in 0..16 {
                let owner = roster(seal, organisation, sixteenth);
                let gone = all(cold, owner, Kinds::of(&[Kind::GrantGone])).await?;
                numbers.extend(gone.iter().map(|paper| number(&paper.key)));
            }
            Ok::<_, Refusal>(Arc::new(Gone {
                holder: organisation.into(),
                organisation: organisation_id(seal, organisation),
                numbers,
                as_of,
            }))
        });
        read.await.map_err(|refusal| *refusal)
    }
}

/// All papers of these kinds.
pub(super) async fn all(cold: &Cold, owner: Identity, kinds: Kinds) -> Result<Vec<Paper>, Refusal> {
    let mut papers: Vec<Paper> = Vec::new();
    loop {
        let after = papers.last().map(Paper::cursor);
        let page = cold.papers_now(owner, kinds, after, PAGE_MAX).await?;
        let more = page.len() == PAGE_MAX;
        papers.extend(page);
        if !more {
            return Ok(papers);
        }
    }
}

/// The keys and givers of these grants, of those on a sixteenth of a roster.
pub(super) async fn givers(
    seal: &Seal,
    cold: &Cold,
    organisation: &str,
    sixteenth: u8,
    numbers: &HashSet<u64>,
) -> Result<HashMap<u64, (Key, Identity)>, Refusal> {
    let owner = roster(seal, organisation, sixteenth);
    let papers = all(cold, owner, Kinds::of(&[Kind::Grant])).await?;
    let mut givers = HashMap::new();
    for paper in papers {
        let number = number(&paper.key);
        if numbers.contains(&number) {
            // One that cannot be opened holds up no other.
            let Ok(granted) = opened::<Granted>(seal, &owner, &paper) else {
                continue;
            };
            givers.insert(number, (paper.key, read_who(&granted.who)?));
        }
    }
    Ok(givers)
}

impl Desk<'_> {
    pub(super) async fn grant(&self, session: &Session, asked: &Asked<'_>) -> Result<Said, No> {
        let given: Given = object(asked.body)?;
        let missing = Rejection::MissingField;
        let organisation = given.organisation.ok_or(missing("organisation"))?;
        let until = given.until.ok_or(missing("until"))?;
        if !is_source(&organisation) {
            return Err(Rejection::BadSource.into());
        }
        if end_of(&until)? < self.now {
            return Err(Rejection::BadUntil.into());
        }
        let who = session.identity;
        let (word, content) = (asked.idempotency, content_of(asked.body)?);
        self.bind("grant", who, word, &content).await?;
        let key = self.key_of("grant", &who.claim, word, &content);
        let granted = self.granted(who).await?;
        if granted.len() >= GRANTS_MAX && granted.iter().all(|(paper, _)| paper.key != key) {
            return Err(Refusal::TooMany.into());
        }
        self.bound_a_day(who, Kind::Grant, &key, GRANTS_DAY_MAX)
            .await?;
        let granted = Granted {
            organisation,
            until,
            who: write_who(&who),
            steps: session.steps,
            face: base32::text(&crate::seal::face_bytes(&session.face)),
            person: Masked::from(&session.face),
        };
        let list = roster(self.seal, &granted.organisation, sixteenth(&who));
        let changes = vec![
            self.filing(who, Kind::Grant, key, &granted)?,
            self.filing(list, Kind::Grant, key, &granted)?,
        ];
        self.cold.apply(changes).await?;
        Ok(Said::Done(json!({
            "id": base32::text(&key), "organisation": granted.organisation, "until": granted.until,
            "code": self.code_of(&key, &granted)?,
        })))
    }

    /// The grant as a code, sealed anew: it is good until its day, or for as long as the key is on the ring.
    fn code_of(&self, key: &Key, granted: &Granted) -> Result<String, Refusal> {
        let who = read_who(&granted.who)?;
        let face = base32::bytes(&granted.face, 10);
        let face = face.filter(|face| face.len() == 10);
        let face = face.and_then(|face| crate::seal::read_face(&face));
        let grant = Grant {
            resident: who.slot(u64::from(granted.steps)),
            check: who.check(),
            organisation: organisation_id(self.seal, &granted.organisation),
            number: number(key),
            until: end_of(&granted.until).map_err(|_| Refusal::UpstreamBusy)?,
            face: face.ok_or(Refusal::UpstreamBusy)?,
        };
        Ok(self.seal.grant(self.nonces, &grant))
    }

    /// The grants of a resident, or on a part of a roster, that are in force.
    async fn granted(&self, owner: Identity) -> Result<Vec<(Paper, Granted)>, Refusal> {
        let papers = all(self.cold, owner, KINDS).await?;
        let gone = papers.iter().filter(|paper| paper.kind == Kind::GrantGone);
        let gone: HashSet<Key> = gone.map(|paper| paper.key).collect();
        let mut granted = Vec::new();
        for paper in papers {
            if paper.kind == Kind::Grant && !gone.contains(&gone_key(&paper.key)) {
                let body: Granted = self.open(&owner, &paper)?;
                if end_of(&body.until).is_ok_and(|until| until >= self.now) {
                    granted.push((paper, body));
                }
            }
        }
        Ok(granted)
    }

    /// All grants that an organisation has and that are in force.
    async fn granted_to(&self, organisation: &str) -> Result<Vec<(Paper, Granted)>, Refusal> {
        let mut all = Vec::new();
        for sixteenth in 0..16 {
            let part = roster(self.seal, organisation, sixteenth);
            all.extend(self.granted(part).await?);
        }
        Ok(all)
    }

    pub(super) async fn grants(&self, session: &Session) -> Result<Said, No> {
        let granted = self.granted(session.identity).await?;
        let grants: Vec<Value> = granted
            .iter()
            .map(|(paper, granted)| {
                json!({
                    "id": id(paper), "organisation": granted.organisation,
                    "since": paper.at.to_string(), "until": granted.until,
                })
            })
            .collect();
        Ok(Said::Found(json!({ "grants": grants })))
    }

    pub(super) async fn revoke_grant(
        &self,
        session: &Session,
        asked: &Asked<'_>,
    ) -> Result<Said, No> {
        let who = session.identity;
        let key = key_in(asked.id)?;
        let granted = self.granted(who).await?;
        let found = granted.iter().find(|(paper, _)| paper.key == key);
        let (_, granted) = found.ok_or(Refusal::NotFound)?;
        let list = roster(self.seal, &granted.organisation, sixteenth(&who));
        let end = gone_key(&key);
        let nothing = json!({});
        let changes = vec![
            self.filing(list, Kind::GrantGone, end, &nothing)?,
            self.filing(who, Kind::GrantGone, end, &nothing)?,
        ];
        self.cold.apply(changes).await?;
        self.gones.cache.invalidate(&granted.organisation).await;
        Ok(Said::Found(
            json!({ "id": base32::text(&key), "state": "ended" }),
        ))
    }

    /// Those who granted an organisation, each with a code to scan.
    pub(super) async fn roster(&self, pass: &Pass, asked: &Asked<'_>) -> Result<Said, No> {
        let limit = asked.params.limit(PAGE_MAX, PAGE_MAX)?;
        // A cursor is a member's number among all: rosters are read whole, because what was taken back is on them too.
        let after = asked.params.after.map(key_of).transpose()?;
        let mut granted = self.granted_to(pass.holder()).await?;
        granted.sort_by_key(|(paper, _)| paper.key);
        granted.retain(|(paper, _)| after.is_none_or(|after| paper.key > after));
        let next = cut(&mut granted, limit).map(|(paper, _)| id(paper));
        let mut members = Vec::with_capacity(granted.len());
        for (paper, granted) in &granted {
            let mut told = json!(granted.person);
            told["id"] = id(paper).into();
            told["until"] = granted.until.clone().into();
            told["code"] = self.code_of(&paper.key, granted)?.into();
            members.push(told);
        }
        Ok(Said::Found(json!({ "members": members, "next": next })))
    }

    /// Everybody on an organisation's roster.
    pub(super) async fn roster_of(&self, organisation: &str) -> Result<HashSet<Identity>, Refusal> {
        let granted = self.granted_to(organisation).await?;
        let whose = granted.iter().map(|(_, granted)| read_who(&granted.who));
        whose.collect()
    }

    pub(super) async fn has_granted(
        &self,
        organisation: &str,
        who: &Identity,
    ) -> Result<bool, Refusal> {
        let own = write_who(who);
        let granted = self
            .granted(roster(self.seal, organisation, sixteenth(who)))
            .await?;
        Ok(granted.iter().any(|(_, granted)| granted.who == own))
    }
}

fn key_of(text: &str) -> Result<Key, Refusal> {
    key_in(Some(text)).map_err(|_| Refusal::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ends_at_midnight_in_china() {
        assert_eq!(
            end_of("2020-05-04").unwrap().to_string(),
            "2020-05-04T15:59:59.999Z"
        );
        assert_eq!(end_of("2020-05-32"), Err(Rejection::BadUntil));
        let key = [7; 16];
        assert_eq!(number(&gone_key(&key)), number(&key));
        assert_ne!(gone_key(&key), key);
    }
}
