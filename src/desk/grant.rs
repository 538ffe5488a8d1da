//! Grants: a resident lets an organisation check the status until a day. A grant is a sealed code that only the organisation's
//! scanners open. It is on the organisation's roster, and the resident can revoke it.
//!
//! Bulk verification rests on grants: an organisation checks its roster every morning without photographs of phones.

use super::context::Desk;
use super::grant_record::{GrantRecord, gone_key, key_of_number, number, roster};
use super::persons::{MaskedPerson, partition, partition_in, read_who, write_who};
use super::request::{DeskError, DeskRequest, DeskResponse};
pub use super::revoked_grants::{Organisation, RevokedGrantCache, RevokedGrants};
use super::values::{content_of, id, key_in, object};
use crate::clock::Time;
use crate::desk::audit::AuditedAct;
use crate::desk::roles::{Act, Role};
use crate::feed::{Rejection, is_source, parse_day};
use crate::paper::{AT_MAX, Cursor, PAGE_MAX, Paper, PaperKey, PaperKind, PaperKinds};
use crate::person::Identity;
use crate::refusal::Refusal;
use crate::seal::{AccessToken, Grant, Session, base32};
use crate::store::Change;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};

const KINDS: PaperKinds = PaperKinds::of(&[PaperKind::Grant, PaperKind::GrantGone]);

/// Grants of one resident in force.
const GRANTS_MAX: usize = 64;

/// Grants of one resident whose day is not over, revoked ones included.
const GRANTS_LIVE_MAX: usize = 256;

/// Members of a roster in one answer. A page of the store has [`PAGE_MAX`] at most.
const ROSTER_LIMIT_MAX: usize = 500;

#[derive(Deserialize)]
struct GrantRequest {
    organisation: Option<String>,
    until: Option<String>,
}

/// Returns an organisation's identifier, to which the answer adds its display name. Nothing is looked up: an identifier without a
/// name may still be an organisation's.
pub(super) fn organisation(asked: &DeskRequest<'_>) -> Result<DeskResponse, DeskError> {
    let id = asked.id.filter(|id| is_source(id));
    let id = id.ok_or(Refusal::NotFound)?;
    Ok(DeskResponse::Found(json!({ "organisation": id })))
}

/// Returns the end of a day in China; `BadUntil` if the text is not a day.
fn end_of(day: &str) -> Result<Time, Rejection> {
    parse_day(day).ok_or(Rejection::BadUntil)?;
    let end: jiff::Timestamp = format!("{day}T23:59:59.999+08:00")
        .parse()
        .map_err(|_| Rejection::BadUntil)?;
    Ok(Time(end.as_millisecond().max(0) as u64))
}

impl Desk<'_> {
    /// Stores a grant to an organisation, and returns it as a sealed code.
    ///
    /// # Errors
    ///
    /// `LimitReached` beyond the number of grants, `IdempotencyMismatch`, a rejection of a field, and the refusals of the
    /// store.
    pub(super) async fn grant(
        &self,
        session: &Session,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let given: GrantRequest = object(asked.body)?;
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
        let key = key_of_number(self.seal, number(&partition_in(key, &who)));
        let (live, granted) = self.granted(who).await?;
        let full = granted.len() >= GRANTS_MAX || live >= GRANTS_LIVE_MAX;
        if full && granted.iter().all(|(paper, _)| paper.key != key) {
            return Err(Refusal::LimitReached.into());
        }
        // The grant of this key was revoked, so its code would be refused.
        let is_in_force = granted.iter().any(|(paper, _)| paper.key == key);
        if word.is_some() && !is_in_force {
            let known = self.store_client.some_now(who, &[key]).await?;
            if known.iter().any(Option::is_some) {
                return Err(Refusal::IdempotencyMismatch.into());
            }
        }
        // Both papers stay until the grant has ended, however long that is.
        let end = end_of(&until)?.min(AT_MAX);
        let granted = GrantRecord {
            organisation,
            since: self.now.to_string(),
            until,
            who: write_who(&who),
            steps: session.steps,
            masked: base32::text(&crate::seal::masked_bytes(&session.masked)),
            person: MaskedPerson::from(&session.masked),
        };
        let list = roster(self.seal, &granted.organisation, partition(&who));
        let changes = vec![
            self.filing_at(who, PaperKind::Grant, key, end, &granted)?,
            self.filing_at(list, PaperKind::Grant, key, end, &granted)?,
        ];
        let filed = self.store_client.apply(changes).await?;
        // Others were given at the same moment, here or on another node. Each of them sees this and takes itself back.
        let (live, in_force) = self.granted(who).await?;
        if filed[0] && (in_force.len() > GRANTS_MAX || live > GRANTS_LIVE_MAX) {
            let ends = self.ends_of(who, list, &key, end)?;
            self.store_client.apply(ends).await?;
            return Err(Refusal::LimitReached.into());
        }
        Ok(DeskResponse::Done(json!({
            "id": base32::text(&key), "organisation": granted.organisation, "until": granted.until,
            "code": self.code_of(&key, &granted)?,
        })))
    }

    /// Returns the grant as a newly sealed code. It is valid until its day, as long as its key is on the ring.
    fn code_of(&self, key: &PaperKey, granted: &GrantRecord) -> Result<String, Refusal> {
        let who = read_who(&granted.who)?;
        let masked = base32::bytes(&granted.masked, 10);
        let masked = masked.filter(|masked| masked.len() == 10);
        let masked = masked.and_then(|masked| crate::seal::read_masked(&masked));
        let grant = Grant {
            resident: who.slot(u64::from(granted.steps)),
            check: who.check(),
            organisation: Organisation::new(self.seal, &granted.organisation).id,
            number: number(key),
            until: end_of(&granted.until).map_err(|_| Refusal::Internal)?,
            masked: masked.ok_or(Refusal::Internal)?,
        };
        Ok(self.seal.grant(self.nonces, &grant))
    }

    /// Returns the number of a resident's grants whose day is not over, and those in force.
    async fn granted(
        &self,
        owner: Identity,
    ) -> Result<(usize, Vec<(Paper, GrantRecord)>), Refusal> {
        let mut papers: Vec<Paper> = Vec::new();
        loop {
            // Grants that end last come first.
            let after = papers.last().map(Paper::cursor);
            let page = self
                .store_client
                .papers_now(owner, KINDS, after, PAGE_MAX)
                .await?;
            let more = page.len() == PAGE_MAX && page.iter().all(|paper| paper.at >= self.now);
            papers.extend(page.into_iter().filter(|paper| paper.at >= self.now));
            if !more {
                break;
            }
        }
        let gone = papers
            .iter()
            .filter(|paper| paper.kind == PaperKind::GrantGone);
        let gone: HashSet<PaperKey> = gone.map(|paper| paper.key).collect();
        papers.retain(|paper| paper.kind == PaperKind::Grant);
        let live = papers.len();
        papers.retain(|paper| !gone.contains(&gone_key(&paper.key)));
        let granted = papers.into_iter().map(|paper| {
            let body = self.open(&owner, &paper)?;
            Ok((paper, body))
        });
        Ok((live, granted.collect::<Result<_, Refusal>>()?))
    }

    /// Returns the grants in force among these keys of an owner.
    async fn in_force(
        &self,
        owner: Identity,
        keys: &[PaperKey],
    ) -> Result<Vec<(Paper, GrantRecord)>, Refusal> {
        let papers = self.store_client.some_now(owner, keys).await?;
        let papers = papers.into_iter().flatten();
        let papers = papers.filter(|paper| paper.kind == PaperKind::Grant && paper.at >= self.now);
        self.not_gone(owner, papers.collect()).await
    }

    /// Returns an owner's grants that were not revoked.
    async fn not_gone(
        &self,
        owner: Identity,
        papers: Vec<Paper>,
    ) -> Result<Vec<(Paper, GrantRecord)>, Refusal> {
        let ends: Vec<PaperKey> = papers.iter().map(|paper| gone_key(&paper.key)).collect();
        let gone = self.store_client.some_now(owner, &ends).await?;
        let granted = papers
            .into_iter()
            .zip(gone)
            .filter(|(_, gone)| gone.is_none());
        let granted = granted.map(|(paper, _)| {
            let body = self.open(&owner, &paper)?;
            Ok((paper, body))
        });
        granted.collect()
    }

    /// Returns the grants of the resident in force.
    ///
    /// # Errors
    ///
    /// The refusals of the store.
    pub(super) async fn grants(&self, session: &Session) -> Result<DeskResponse, DeskError> {
        let (_, granted) = self.granted(session.identity).await?;
        let grants: Vec<Value> = granted
            .iter()
            .map(|(paper, granted)| {
                json!({
                    "id": id(paper), "organisation": granted.organisation,
                    "since": granted.since, "until": granted.until,
                })
            })
            .collect();
        Ok(DeskResponse::Found(json!({ "grants": grants })))
    }

    /// Revokes a grant of the resident.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such grant in force, and the refusals of the store.
    pub(super) async fn revoke_grant(
        &self,
        session: &Session,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let who = session.identity;
        let key = key_in(asked.id)?;
        let granted = self.in_force(who, &[key]).await?;
        let (paper, granted) = granted.first().ok_or(Refusal::NotFound)?;
        let list = roster(self.seal, &granted.organisation, partition(&who));
        let changes = self.ends_of(who, list, &key, paper.at)?;
        self.store_client.apply(changes).await?;
        let organisation = Organisation::new(self.seal, &granted.organisation);
        self.revoked_grants
            .cache
            .invalidate(&(organisation.id, number(&key)));
        self.revoked_grants
            .ended
            .insert((organisation.id, number(&key)), ());
        Ok(DeskResponse::Found(
            json!({ "id": base32::text(&key), "state": "ended" }),
        ))
    }

    /// Returns the changes that end a grant with the resident and on the roster. They stay as long as the grant would.
    fn ends_of(
        &self,
        who: Identity,
        list: Identity,
        key: &PaperKey,
        at: Time,
    ) -> Result<Vec<Change>, Refusal> {
        let (end, nothing) = (gone_key(key), json!({}));
        Ok(vec![
            self.filing_at(list, PaperKind::GrantGone, end, at, &nothing)?,
            self.filing_at(who, PaperKind::GrantGone, end, at, &nothing)?,
        ])
    }

    /// Returns the members of an organisation's roster, each with a code to scan: by partition, and in each the grants that end
    /// last first. A page may be short and still have a next one.
    ///
    /// # Errors
    ///
    /// `Malformed` for invalid paging, and the refusals of the store and the audit log.
    pub(super) async fn roster(
        &self,
        pass: &AccessToken,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let limit = asked.params.limit(PAGE_MAX, ROSTER_LIMIT_MAX)?;
        let mut left = limit.min(PAGE_MAX);
        let mut after = asked.params.after.map(super::values::cursor).transpose()?;
        let first = after.map_or(0, |after| after.key[0] >> 4);
        let deed = AuditedAct::new(pass.holder(), Role::Organisation, Act::ReadRoster.word());
        self.record_deeds(vec![deed]).await?;
        let (mut members, mut next) = (Vec::new(), None);
        for partition in first..16 {
            if left == 0 {
                // A cursor before all papers of the next partition.
                let mut key = [0; 16];
                key[0] = partition << 4;
                next = Some(Cursor { at: AT_MAX, key });
                break;
            }
            let owner = roster(self.seal, pass.holder(), partition);
            let kinds = PaperKinds::of(&[PaperKind::Grant]);
            let mut page = self
                .store_client
                .papers_now(owner, kinds, after.take(), left)
                .await?;
            let read = page.len();
            page.retain(|paper| paper.at >= self.now);
            let more = read == left && page.len() == read;
            let last = page.last().map(Paper::cursor);
            left -= page.len();
            for (paper, granted) in self.not_gone(owner, page).await? {
                let mut told = json!(granted.person);
                told["id"] = id(&paper).into();
                told["until"] = granted.until.clone().into();
                told["code"] = self.code_of(&paper.key, &granted)?.into();
                members.push(told);
            }
            if more {
                next = last;
                break;
            }
        }
        let next = next.map(|next| base32::text(&next.to_bytes()));
        Ok(DeskResponse::Found(
            json!({ "members": members, "next": next }),
        ))
    }

    /// Returns the persons whom ids of an organisation's roster name. Ids that are not on the roster are left out.
    pub(super) async fn members_of(
        &self,
        organisation: &str,
        ids: &HashSet<PaperKey>,
    ) -> Result<HashMap<PaperKey, Identity>, Refusal> {
        let mut parts: BTreeMap<u8, Vec<PaperKey>> = BTreeMap::new();
        for key in ids {
            parts.entry(key[0] >> 4).or_default().push(*key);
        }
        let mut members = HashMap::new();
        for (partition, keys) in parts {
            let owner = roster(self.seal, organisation, partition);
            for (paper, granted) in self.in_force(owner, &keys).await? {
                members.insert(paper.key, read_who(&granted.who)?);
            }
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
        let seal = crate::seal::Seal::new(
            &crate::seal::ring::RingFile::generate(Time(0)),
            crate::seal::Settings {
                code_life: Duration::from_secs(60),
                clock_skew: Duration::from_secs(2),
                issuer: None,
            },
        );
        let of_number = key_of_number(&seal, 77);
        assert_eq!(number(&of_number), 77);
        assert_ne!(of_number[8..], key_of_number(&seal, 78)[8..]);
    }
}
