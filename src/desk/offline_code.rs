//! Revocation of offline codes: a resident, or staff for one, revokes all codes so far by raising the generation. The person
//! can read who did, and every node learns it within a second or two.

use super::context::Desk;
use super::persons::NamedPerson;
use super::request::{DeskError, DeskRequest, DeskResponse};
use super::values::{object, purpose};
use crate::clock::Time;
use crate::desk::audit::AuditedAct;
use crate::desk::roles::{Act, Role};
use crate::offline::issue::LAST_GENERATION;
use crate::paper::{PAGE_MAX, Paper, PaperKind, PaperKinds};
use crate::person::{Identity, ResidentId};
use crate::refusal::Refusal;
use crate::seal::{AccessToken, Caller, Seal};
use crate::store::{Change, Error, Store};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;

const KINDS: PaperKinds = PaperKinds::of(&[PaperKind::OfflineGeneration]);

/// Overlap of two readings: the clocks of nodes differ, and a paper may be stored late.
const READ_AGAIN: Duration = Duration::from_secs(600);

/// Revocations for one person in a day. A person has 255 generations, which last at least a month at this rate.
const REVOCATIONS_DAY_MAX: usize = 8;

/// The part of them that staff, and sessions by which others show the person, may make.
const REVOCATIONS_BY_OTHERS_DAY_MAX: usize = 4;

/// A revoked generation as stored: resident id and generation.
#[derive(Serialize, Deserialize)]
struct StoredGeneration(u64, u8);

/// Recorded purpose when the holder of a session revokes.
const OWN_PURPOSE: &str = "own_request";

#[derive(Deserialize)]
struct RevokeOfflineRequest {
    #[serde(flatten)]
    person: NamedPerson,
    purpose: Option<String>,
}

fn part(seal: &Seal, partition: u8) -> Identity {
    seal.owner("offline generations", "all", partition)
}

/// Returns the changes that revoke a generation: one on the list that nodes read, one with the person. None if the key of
/// papers was destroyed.
pub fn revoking(
    seal: &Seal,
    who: Identity,
    resident: ResidentId,
    generation: u8,
    now: Time,
) -> Option<[Change; 2]> {
    let key = seal.paper_key(&[
        b"offline generation",
        &resident.0.to_be_bytes(),
        &[generation],
    ]);
    let body = serde_json::to_vec(&StoredGeneration(resident.0, generation)).ok()?;
    let filed = |owner: Identity| {
        let paper = seal.paper(&owner, PaperKind::OfflineGeneration, key, now, &body)?;
        let what = crate::store::ChangeKind::Paper(paper);
        Some(Change { who: owner, what })
    };
    Some([filed(part(seal, partition_of(resident)))?, filed(who)?])
}

/// Returns the newest revoked generation in a person's own papers; None if there is none.
///
/// # Errors
///
/// The store fails, or a paper cannot be opened.
pub async fn newest_of(store: &dyn Store, seal: &Seal, who: Identity) -> Result<Option<u8>, Error> {
    let papers = read_pages(store, who, KINDS, Time(0)).await?;
    let mut newest = None;
    for paper in &papers {
        let StoredGeneration(_, generation) = opened(seal, &who, paper)?;
        newest = newest.max(Some(generation));
    }
    Ok(newest)
}

fn opened(seal: &Seal, owner: &Identity, paper: &Paper) -> Result<StoredGeneration, Error> {
    let body = seal.open_paper(owner, paper);
    let read = body.and_then(|body| serde_json::from_slice(&body).ok());
    read.ok_or(Error::Damaged("a revoked generation"))
}

/// Returns the generations revoked since `from` and some minutes before it; all of them if it is None.
///
/// # Errors
///
/// The store fails, or a paper cannot be opened.
pub async fn read_generations(
    store: &dyn Store,
    seal: &Seal,
    from: Option<Time>,
) -> Result<Vec<(ResidentId, u8)>, Error> {
    let again = READ_AGAIN.as_millis() as u64;
    let from = Time(from.map_or(0, |from| from.0.saturating_sub(again)));
    let parts = (0..16).map(|partition| async move {
        let owner = part(seal, partition);
        // The list has no other kinds, so one that was edited is damaged and hides nothing.
        let papers = read_pages(store, owner, PaperKinds::ALL, from).await?;
        let read = papers.iter().map(|paper| opened(seal, &owner, paper));
        read.collect::<Result<Vec<_>, Error>>()
    });
    let read = try_join_all(parts).await?.into_iter().flatten();
    Ok(read
        .map(|StoredGeneration(id, generation)| (ResidentId(id), generation))
        .collect())
}

/// Returns an owner's papers from a time on, the latest first.
async fn read_pages(
    store: &dyn Store,
    owner: Identity,
    kinds: PaperKinds,
    from: Time,
) -> Result<Vec<Paper>, Error> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = store.papers(owner, kinds, after, PAGE_MAX).await?;
        let last = page.last().map(|last| (last.at, last.cursor()));
        let is_whole = page.len() < PAGE_MAX;
        all.extend(page.into_iter().take_while(|paper| paper.at >= from));
        match last {
            Some((at, cursor)) if !is_whole && at >= from => after = Some(cursor),
            _ => return Ok(all),
        }
    }
}

/// Returns the partition of the list that has a resident's revocations.
fn partition_of(resident: ResidentId) -> u8 {
    (resident.0 >> 60) as u8
}

impl Desk<'_> {
    /// Revokes all offline codes so far of the session's resident, or of the person whom staff name.
    ///
    /// # Errors
    ///
    /// `NotFound` if the node issues no offline codes, or the person is not on record with that name; `LimitReached` beyond the
    /// daily number or the last generation; a rejection of a field; and the refusals of the store and the audit log.
    pub(super) async fn revoke_offline(
        &self,
        caller: &Caller,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let offline = self.offline.ok_or(Refusal::NotFound)?;
        let role = Role::of(caller);
        let (who, by, why) = match caller {
            Caller::Session(session) => {
                let by = AccessToken {
                    name: role.word().to_owned(),
                    issued_at: session.issued_at,
                    expires_at: session.expires_at,
                };
                (session.identity, by, OWN_PURPOSE.to_owned())
            }
            Caller::Token(_, pass, _) => {
                let revoking: RevokeOfflineRequest = object(asked.body)?;
                let document = revoking.person.check(self.now)?;
                let why = purpose(revoking.purpose.as_deref())?;
                let who = self.seal.identify(&document);
                // The caller gets the same answer for a person not on record and for a wrong name; both are recorded.
                if !self.is_named(who, &revoking.person.name).await? {
                    let deed = AuditedAct::new(pass.holder(), role, Act::RevokeOffline.word());
                    let deed = deed.purpose(why).about(who);
                    return Err(self.missed(deed, json!({})).await?.into());
                }
                (who, pass.clone(), why.to_owned())
            }
        };
        let placed = self
            .store_client
            .record_now(who)
            .await?
            .ok_or(Refusal::NotFound)?;
        let resident = placed.id;
        let key = self.seal.fresh_key();
        let is_own = matches!(caller, Caller::Session(session) if session.member.is_none());
        let most = match is_own {
            true => REVOCATIONS_DAY_MAX,
            false => REVOCATIONS_BY_OTHERS_DAY_MAX,
        };
        self.bound_a_day(who, "offline generation", &key, most)
            .await?;
        let papers = self.store_client.papers_now(who, KINDS, None, PAGE_MAX);
        let mut newest = offline.generations.newest(resident)?;
        for paper in &papers.await? {
            let StoredGeneration(_, generation) = self.open(&who, paper)?;
            newest = newest.max(Some(generation));
        }
        let generation = newest.map_or(Some(0), |newest| newest.checked_add(1));
        // The last generation has no codes, so every issued code can be revoked.
        let generation = generation.filter(|generation| *generation < LAST_GENERATION);
        let generation = generation.ok_or(Refusal::LimitReached)?;
        let changes = revoking(self.seal, who, resident, generation, self.now);
        self.record(&by, role, Act::RevokeOffline, &why, &[who])
            .await?;
        self.store_client
            .apply(changes.ok_or(Refusal::Internal)?.into())
            .await?;
        offline.generations.add(&[(resident, generation)]);
        Ok(DeskResponse::Done(json!({
            "revoked": "offline_codes", "before": self.now.to_string(),
        })))
    }
}
