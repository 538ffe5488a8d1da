//! The desk: every service beside show and scan. It writes papers and reads them back, and may wait for the store. Takes a
//! caller, an act and a body from the service layer; returns JSON or a refusal. Knows no HTTP.

mod appeal;
pub mod audit;
mod declaration;
pub mod display_names;
mod entry;
pub mod erasure;
mod family;
pub mod grant;
pub mod grant_scan_notices;
pub mod guidance;
mod health;
pub mod offline_code;
mod overrides;
mod registration;
pub mod revocation;
pub mod roles;

use crate::clock::Time;
use crate::feed::{Rejection, is_source};
use crate::identity::{AssertionNumber, Platform};
use crate::language::Language;
use crate::offline::issue::OfflineIssuer;
use crate::paper::{Cursor, PAGE_MAX, Paper, PaperKey, PaperKind, PaperKinds};
use crate::person::{Document, Identity, MaskedIdentity, MaskedName, Profile, is_name};
use crate::refusal::Refusal;
use crate::seal::{Caller, Nonces, Seal, Session, base32};
use crate::store::{Change, ChangeKind, LocatedRecord};
use crate::store_client::StoreClient;
use audit::Audit;
use grant::RevokedGrantCache;
use roles::Act;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Limits and options of the desk.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Validity of a session by which a family member is shown.
    pub session_life: std::time::Duration,
    /// Largest number of family members of one resident.
    pub family_members_max: usize,
    /// Address to which a page sends a resident who adds a family member; None if members are added in another app.
    pub member_url: Option<String>,
}

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
    fn limit(&self, usual: usize, most: usize) -> Result<usize, Refusal> {
        let Some(limit) = self.limit else {
            return Ok(usual);
        };
        let limit = limit.parse().ok();
        let limit = limit.filter(|limit| (1..=most).contains(limit));
        limit.ok_or(Refusal::Malformed)
    }
}

/// Default and largest number of papers of a page.
const LIMIT: usize = 20;
const LIMIT_MAX: usize = 100;

/// Idempotency keys that are stored in one call.
const BOUND_TOGETHER: usize = 1_000;

/// Requests with an idempotency key that one resident may make in a day, also refused ones.
const KEYED_DAY_MAX: usize = PAGE_MAX;

/// Papers of one kind that an office or organisation may file about one person in a day.
const FILED_DAY_MAX: u8 = 16;

/// What the desk needs for one request.
pub struct Desk<'r> {
    /// Keys of codes, tokens and papers.
    pub seal: &'r Seal,
    /// Access to the store.
    pub store_client: &'r StoreClient,
    /// The identity platform, whose assertions are accepted.
    pub platform: &'r Platform,
    /// The audit log.
    pub audit: &'r Audit,
    /// Revoked and expired grants by organisation.
    pub revoked_grants: &'r RevokedGrantCache,
    /// Nonces of this thread.
    pub nonces: &'r Nonces,
    /// Limits of the desk.
    pub settings: &'r Settings,
    /// Issuer of offline codes; None if the node issues none.
    pub offline: Option<&'r OfflineIssuer>,
    /// The time of the request.
    pub now: Time,
}

impl Desk<'_> {
    /// Carries out an act for a caller whose credential permits it. The act must end within `store_timeout`; after a timeout it
    /// may be on record or not.
    ///
    /// # Errors
    ///
    /// The refusals of the act, and `UpstreamBusy` if the store does not answer in time. A wrong field is no error: it is a
    /// [`DeskResponse::Rejected`].
    pub async fn answer(
        &self,
        asked: &DeskRequest<'_>,
        caller: &Caller,
    ) -> Result<DeskResponse, Refusal> {
        let answer = self.walk(asked, caller);
        let answer = match asked.act {
            // Thousands of lines are written in batches, each with its own timeout.
            Act::DeclareBulk => answer.await,
            _ => tokio::time::timeout(self.store_client.store_timeout(), answer)
                .await
                .unwrap_or(Err(DeskError::Refused(Refusal::UpstreamBusy))),
        };
        match answer {
            Ok(said) => Ok(said),
            Err(DeskError::Refused(refusal)) => Err(refusal),
            Err(DeskError::Rejected(rejection)) => Ok(DeskResponse::Rejected(rejection)),
        }
    }

    /// Dispatches the act: one line each.
    async fn walk(
        &self,
        asked: &DeskRequest<'_>,
        caller: &Caller,
    ) -> Result<DeskResponse, DeskError> {
        match (asked.act, caller) {
            (Act::ReadHealth, Caller::Session(session)) => self.health(session, asked).await,
            (Act::ReadTrip, Caller::Session(session)) => {
                self.trip_card(session, asked.language).await
            }
            (Act::ChangeRecord, _) => Err(Refusal::RecordUnchangeable.into()),
            (Act::Declare, caller) => self.declare(caller, asked).await,
            (Act::DeclareBulk, Caller::Token(_, pass, _)) => self.declare_bulk(pass, asked).await,
            (Act::ReadDeclarations, Caller::Session(session)) => {
                self.declarations(session, asked).await
            }
            (Act::DeclareEntry, Caller::Session(session)) => {
                self.declare_entry(session, asked).await
            }
            (Act::ReadEntries, Caller::Session(session)) => self.own_entries(session, asked).await,
            (Act::ReadEntries, Caller::Token(_, staff, _)) => self.entries_for(staff, asked).await,
            (Act::AddMember, Caller::Session(session)) => self.add_member(session, asked).await,
            (Act::ListMembers, Caller::Session(session)) => self.members(session).await,
            (Act::RemoveMember, Caller::Session(session)) => {
                self.remove_member(session, asked).await
            }
            (Act::RenewMember, Caller::Session(session)) => self.renew_member(session, asked).await,
            (Act::ReadAccesses, Caller::Session(session)) => self.accesses(session, asked).await,
            (Act::Grant, Caller::Session(session)) => self.grant(session, asked).await,
            (Act::ListGrants, Caller::Session(session)) => self.grants(session).await,
            (Act::RevokeGrant, Caller::Session(session)) => self.revoke_grant(session, asked).await,
            (Act::ReadOrganisation, Caller::Session(_)) => grant::organisation(asked),
            (Act::ReadRoster, Caller::Token(_, pass, _)) => self.roster(pass, asked).await,
            (Act::Register, Caller::Token(_, pass, _)) => self.register_offline(pass, asked).await,
            (Act::FindRegistered, Caller::Token(_, pass, _)) => {
                self.find_registered(pass, asked).await
            }
            (Act::Appeal, Caller::Session(session)) => self.appeal(session, asked).await,
            (Act::ReadAppeals, Caller::Session(session)) => self.own_appeals(session, asked).await,
            (Act::ReadAppeals, Caller::Token(_, pass, _)) => self.all_appeals(pass, asked).await,
            (Act::AnswerAppeal, Caller::Token(_, pass, _)) => self.answer_appeal(pass, asked).await,
            (Act::Revoke, Caller::Token(_, pass, _)) => self.revoke(pass, asked).await,
            (Act::Override, Caller::Token(_, pass, _)) => self.override_status(pass, asked).await,
            (Act::EndSessions, Caller::Session(session)) => self.end_sessions(session).await,
            (Act::RevokeOffline, caller) => self.revoke_offline(caller, asked).await,
            // The table of acts lets no other caller through.
            _ => Err(Refusal::NotPermitted.into()),
        }
    }

    /// Registers a person, or updates the record: a log-in adds a missing name and raises the assurance, and never lowers what
    /// a feed said. Returns the number of slots from the home to the resident's id.
    ///
    /// # Errors
    ///
    /// `UpstreamBusy` and the other refusals of [`StoreClient`].
    pub async fn register(&self, who: Identity, profile: &Profile) -> Result<u8, Refusal> {
        let placed = self.store_client.record_now(who).await?;
        let known = self.profile_in(who, placed.as_deref());
        let news =
            known.is_none_or(|known| known.name.is_none() || known.assurance < profile.assurance);
        let placed = match placed {
            Some(placed) if !news => placed,
            _ => {
                let what = ChangeKind::Profile(self.seal.profile(&who, profile).into());
                self.store_client.apply(vec![Change { who, what }]).await?;
                let placed = self.store_client.record_now(who).await?;
                placed.ok_or(Refusal::UpstreamBusy)?
            }
        };
        Ok(placed.steps as u8)
    }

    /// Returns the key of a paper that a caller writes. Same caller, idempotency key and content give the same key; without an
    /// idempotency key it is random.
    fn key_of(&self, noun: &str, caller: &[u8], word: Option<&str>, content: &[u8]) -> PaperKey {
        match word {
            Some(word) => {
                let parts = [noun.as_bytes(), caller, word.as_bytes(), content];
                self.seal.paper_key(&parts)
            }
            None => self.seal.fresh_key(),
        }
    }

    /// Returns whether a person is on record with this name. False for a person who is not on record.
    async fn is_named(&self, who: Identity, name: &str) -> Result<bool, Refusal> {
        let placed = self.store_client.record_now(who).await?;
        let profile = self.profile_in(who, placed.as_deref());
        Ok(profile.is_some_and(|profile| profile.name.as_deref() == Some(name)))
    }

    /// Returns the profile in a record; None without a record, or if the person was erased.
    fn profile_in(&self, who: Identity, placed: Option<&LocatedRecord>) -> Option<Profile> {
        placed.and_then(|placed| self.seal.open_profile(&who, &placed.record.profile))
    }

    /// Marks an assertion as used for all nodes; the store decides which use was first. With `user`, the same user may use it
    /// again: a membership, so that the assertion adds no other one. Each assertion has an owner of its own, so that none
    /// displaces another.
    ///
    /// # Errors
    ///
    /// `Unauthorized` if the assertion was used before, and the refusals of [`StoreClient`].
    pub async fn use_assertion(
        &self,
        number: AssertionNumber,
        user: Option<&[u8; 16]>,
    ) -> Result<(), Refusal> {
        let name = base32::text(&number.0);
        let owner = self.seal.owner("assertion", &name, number.0[0] & 15);
        let key = self.seal.paper_key(&[b"assertion used", &number.0]);
        let by = match user {
            Some(user) => self.seal.paper_key(&[b"assertion user", user]),
            None => self.seal.fresh_key(),
        };
        let binding = Binding {
            owner,
            key,
            content: by,
        };
        match self.are_bound(&[binding]).await?[..] {
            [Some(true)] => Ok(()),
            _ => Err(Refusal::Unauthorized),
        }
    }

    /// Binds an idempotency key of a resident to the content of a request. Returns `IdempotencyMismatch` if it is bound to other
    /// content, and `LimitReached` beyond the daily number of keys. The store decides which of two requests was first.
    async fn bind(
        &self,
        noun: &str,
        caller: Identity,
        word: Option<&str>,
        content: &[u8],
    ) -> Result<(), Refusal> {
        let Some(text) = word else {
            return Ok(());
        };
        let key = self.request_key(noun, &caller, text);
        self.bound_a_day(caller, "key", &key, KEYED_DAY_MAX).await?;
        self.bind_to(noun, caller, word, content).await
    }

    /// Binds an idempotency key as [`Desk::bind`] does, without a daily number.
    async fn bind_to(
        &self,
        noun: &str,
        caller: Identity,
        word: Option<&str>,
        content: &[u8],
    ) -> Result<(), Refusal> {
        let Some(word) = word else {
            return Ok(());
        };
        match self.bind_all(noun, &[(caller, word, content)]).await?[..] {
            [false] => Err(Refusal::IdempotencyMismatch),
            _ => Ok(()),
        }
    }

    /// Binds idempotency keys of several owners. Returns for each whether it is free of other content; of two equal keys in one
    /// call the first wins.
    async fn bind_all(
        &self,
        noun: &str,
        requests: &[(Identity, &str, &[u8])],
    ) -> Result<Vec<bool>, Refusal> {
        let mut bound = Vec::with_capacity(requests.len());
        for some in requests.chunks(BOUND_TOGETHER) {
            let bindings = some.iter().map(|(owner, word, content)| Binding {
                owner: *owner,
                key: self.request_key(noun, owner, word),
                content: self.seal.paper_key(&[b"request content", content]),
            });
            let told = self.are_bound(&bindings.collect::<Vec<_>>()).await?;
            bound.extend(told.into_iter().map(|is_bound| is_bound != Some(false)));
        }
        Ok(bound)
    }

    /// Stores bindings that do not exist yet; the store decides which of two was first. Returns for each whether the key is
    /// bound to this content now; None if the store does not say.
    async fn are_bound(&self, bindings: &[Binding]) -> Result<Vec<Option<bool>>, Refusal> {
        let bound = self.bound(bindings).await?;
        let is_own = |(bound, own): (Option<String>, &Binding)| {
            bound.map(|content| content == base32::text(&own.content))
        };
        Ok(bound.into_iter().zip(bindings).map(is_own).collect())
    }

    /// Stores bindings that do not exist yet, and returns the content to which each key is bound now; None if the store does not
    /// say.
    async fn bound(&self, bindings: &[Binding]) -> Result<Vec<Option<String>>, Refusal> {
        let request = |binding: &Binding| IdempotentRequest {
            content: base32::text(&binding.content),
        };
        let changes = bindings.iter().map(|binding| {
            let (owner, key) = (binding.owner, binding.key);
            self.filing(owner, PaperKind::Request, key, &request(binding))
        });
        let changes = changes.collect::<Result<_, _>>()?;
        let new = self.store_client.apply(changes).await?;
        let mut told = vec![None; bindings.len()];
        let mut known: BTreeMap<Identity, Vec<usize>> = BTreeMap::new();
        for (nth, binding) in bindings.iter().enumerate() {
            match new[nth] {
                true => told[nth] = Some(request(binding).content),
                false => known.entry(binding.owner).or_default().push(nth),
            }
        }
        for (owner, all) in known {
            let keys: Vec<PaperKey> = all.iter().map(|nth| bindings[*nth].key).collect();
            let papers = self.store_client.some_now(owner, &keys).await?;
            for (nth, paper) in all.into_iter().zip(papers) {
                if let Some(paper) = paper {
                    let known: IdempotentRequest = self.open(&owner, &paper)?;
                    told[nth] = Some(known.content);
                }
            }
        }
        Ok(told)
    }

    /// Takes a place for each paper in the day's quota that its filer has for the person. Returns for each whether there was one.
    /// A paper that has a place takes no other.
    async fn take_places(
        &self,
        noun: &str,
        filer: &str,
        papers: &[(Identity, PaperKey)],
    ) -> Result<Vec<bool>, Refusal> {
        let day = self.now.day().to_be_bytes();
        let mut has_place = vec![false; papers.len()];
        // The papers of each person that have no place yet.
        let mut open: BTreeMap<Identity, Vec<usize>> = BTreeMap::new();
        for (nth, (who, _)) in papers.iter().enumerate() {
            open.entry(*who).or_default().push(nth);
        }
        for place in 0..FILED_DAY_MAX {
            let persons: Vec<Identity> = open.keys().copied().collect();
            for some in persons.chunks(BOUND_TOGETHER) {
                let binding = |who: &Identity| {
                    let parts = [
                        noun.as_bytes(),
                        filer.as_bytes(),
                        &who.claim,
                        &day,
                        &[place],
                    ];
                    Binding {
                        owner: self.seal.owner("quota", filer, partition(who)),
                        key: self
                            .seal
                            .paper_key(&[&[&b"quota"[..]], &parts[..]].concat()),
                        content: papers[open[who][0]].1,
                    }
                };
                let bindings: Vec<Binding> = some.iter().map(binding).collect();
                for (who, content) in some.iter().zip(self.bound(&bindings).await?) {
                    let Some(left) = open.get_mut(who) else {
                        continue;
                    };
                    left.retain(|nth| {
                        has_place[*nth] |= content == Some(base32::text(&papers[*nth].1));
                        !has_place[*nth]
                    });
                }
            }
            open.retain(|_, left| !left.is_empty());
            if open.is_empty() {
                break;
            }
        }
        Ok(has_place)
    }

    /// Takes a place as [`Desk::take_places`] does. Returns `LimitReached` if there is none.
    async fn take_place(
        &self,
        noun: &str,
        filer: &str,
        who: Identity,
        key: PaperKey,
    ) -> Result<(), Refusal> {
        match self.take_places(noun, filer, &[(who, key)]).await?[..] {
            [true] => Ok(()),
            _ => Err(Refusal::LimitReached),
        }
    }

    fn request_key(&self, noun: &str, caller: &Identity, word: &str) -> PaperKey {
        let parts = [
            b"request",
            noun.as_bytes(),
            &caller.claim[..],
            word.as_bytes(),
        ];
        self.seal.paper_key(&parts)
    }

    /// Returns the owner of an office's requests under one idempotency key.
    fn office(&self, name: &str, word: Option<&str>) -> Identity {
        let word = word.unwrap_or_default().as_bytes();
        let spread = self.seal.paper_key(&[b"requests", name.as_bytes(), word]);
        self.seal.owner("requests", name, spread[0] & 15)
    }

    /// Takes a place for a paper in the owner's quota of a day. A paper that has a place takes no other. The store decides who gets
    /// a place, so that requests at one moment and on several nodes are within the quota. `most` is [`PAGE_MAX`] at most.
    ///
    /// # Errors
    ///
    /// `LimitReached` if all `most` places of the day are taken, `UpstreamBusy` if the store does not say who has one, and the
    /// refusals of the store.
    async fn bound_a_day(
        &self,
        owner: Identity,
        noun: &str,
        key: &PaperKey,
        most: usize,
    ) -> Result<(), Refusal> {
        let day = self.now.day().to_be_bytes();
        let place = |nth: usize| {
            let parts = [noun.as_bytes(), &owner.claim, &day, &[nth as u8]];
            self.seal.paper_key(&[&[&b"day"[..]], &parts[..]].concat())
        };
        let places: Vec<PaperKey> = (0..most).map(place).collect();
        let content = base32::text(key);
        // Each turn but the last loses its place to another paper.
        for _ in 0..=most {
            let taken = self.store_client.some_now(owner, &places).await?;
            let mut free = Vec::new();
            for (place, paper) in places.iter().zip(taken) {
                match paper {
                    None => free.push(*place),
                    Some(paper) if self.is_bound_to(&owner, &paper, &content)? => return Ok(()),
                    Some(_) => {}
                }
            }
            if free.is_empty() {
                return Err(Refusal::LimitReached);
            }
            // Requests at one moment try different places.
            let binding = Binding {
                owner,
                key: free[usize::from(key[15]) % free.len()],
                content: *key,
            };
            if self.are_bound(&[binding]).await?[..] == [Some(true)] {
                return Ok(());
            }
        }
        // The store stored nothing and has nothing.
        Err(Refusal::UpstreamBusy)
    }

    fn is_bound_to(&self, owner: &Identity, paper: &Paper, content: &str) -> Result<bool, Refusal> {
        Ok(self.open::<IdempotentRequest>(owner, paper)?.content == content)
    }

    /// Returns the owner of the quotas and idempotency keys of a session. A session by which another shows a family member has its
    /// own, so that the member does not pay for it.
    fn filer(&self, session: &Session) -> Identity {
        let who = session.identity;
        match session.member {
            None => who,
            Some(member) => {
                let name = format!("{member:016x}");
                self.seal.owner("shown by", &name, partition(&who))
            }
        }
    }

    /// Returns a page of an owner's papers, and the cursor of the next page.
    async fn page(
        &self,
        owner: Identity,
        kinds: PaperKinds,
        params: &Params<'_>,
    ) -> Result<(Vec<Paper>, Option<String>), Refusal> {
        let limit = params.limit(LIMIT, LIMIT_MAX)?;
        let after = params.after.map(cursor).transpose()?;
        // One more than asked for shows whether there is a next page.
        let mut papers = self
            .store_client
            .papers(owner, kinds, after, limit + 1)
            .await?;
        let next = cut(&mut papers, limit).map(next);
        Ok((papers, next))
    }

    /// Returns a page as [`Desk::page`] does, each paper as JSON.
    async fn told_page(
        &self,
        owner: Identity,
        kinds: PaperKinds,
        params: &Params<'_>,
    ) -> Result<(Vec<Value>, Option<String>), Refusal> {
        let (papers, next) = self.page(owner, kinds, params).await?;
        let told = papers.iter().map(|paper| self.told(&owner, paper));
        Ok((told.collect::<Result<_, _>>()?, next))
    }

    /// Opens a paper. `Internal` if it cannot be opened: no answer omits a paper's contents. It is counted as damage, unless the key
    /// of its service was destroyed.
    fn open<T: DeserializeOwned>(&self, owner: &Identity, paper: &Paper) -> Result<T, Refusal> {
        let opened = opened(self.seal, owner, paper);
        let has_key = || {
            let (kind, key, at) = (paper.kind, paper.key, paper.at);
            self.seal.paper(owner, kind, key, at, b"{}").is_some()
        };
        if opened.is_err() && has_key() {
            self.store_client.tell_damaged(paper.kind.word());
        }
        opened
    }

    /// Returns a paper as JSON: id, kind, time and contents.
    fn told(&self, owner: &Identity, paper: &Paper) -> Result<Value, Refusal> {
        let body: Map<String, Value> = self.open(owner, paper)?;
        let mut told = Map::new();
        told.insert("id".into(), id(paper).into());
        told.insert("kind".into(), paper.kind.word().into());
        told.insert("at".into(), paper.at.to_string().into());
        told.extend(body);
        Ok(Value::Object(told))
    }

    /// Returns the change that writes a paper, at the time of the request.
    fn filing(
        &self,
        owner: Identity,
        kind: PaperKind,
        key: PaperKey,
        body: &impl Serialize,
    ) -> Result<Change, Refusal> {
        self.filing_at(owner, kind, key, self.now, body)
    }

    /// Returns the change that writes a paper with a given time.
    fn filing_at(
        &self,
        owner: Identity,
        kind: PaperKind,
        key: PaperKey,
        at: Time,
        body: &impl Serialize,
    ) -> Result<Change, Refusal> {
        filed(self.seal, owner, kind, key, at, body)
    }
}

/// Returns the change that writes a paper, without a desk. `NotFound` if the key of its kind was destroyed.
fn filed(
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

/// Opens a paper, without a desk. `Internal` if it cannot be opened.
fn opened<T: DeserializeOwned>(seal: &Seal, owner: &Identity, paper: &Paper) -> Result<T, Refusal> {
    let body = seal.open_paper(owner, paper);
    body.and_then(|body| serde_json::from_slice(&body).ok())
        .ok_or_else(|| {
            tracing::error!(
                kind = paper.kind.word(),
                "a paper cannot be decrypted: it was damaged or sealed with another key"
            );
            Refusal::Internal
        })
}

/// Stored contents of a request under an idempotency key.
#[derive(Serialize, Deserialize)]
struct IdempotentRequest {
    /// A keyed hash of the content, in base32.
    content: String,
}

/// An idempotency key of an owner, and a keyed hash of the content.
struct Binding {
    owner: Identity,
    key: PaperKey,
    content: PaperKey,
}

/// Returns JSON in a canonical form, independent of blanks and the order of fields.
fn content_of(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let value: Value = serde_json::from_slice(body).map_err(|_| Refusal::Malformed)?;
    serde_json::to_vec(&value).map_err(|_| Refusal::Malformed)
}

/// A person named by a caller.
#[derive(Deserialize)]
struct NamedPerson {
    cert_type: String,
    cert_no: String,
    name: String,
}

impl NamedPerson {
    fn check(&self, now: Time) -> Result<Document, Rejection> {
        let document = Document::parse(&self.cert_type, &self.cert_no, now.day())?;
        match is_name(&self.name) {
            true => Ok(document),
            false => Err(Rejection::BadName),
        }
    }
}

/// A person as other people see one.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct MaskedPerson {
    name: String,
    cert_no: String,
    assurance: String,
}

impl From<&MaskedIdentity> for MaskedPerson {
    fn from(masked: &MaskedIdentity) -> MaskedPerson {
        MaskedPerson {
            name: masked.name.print(),
            cert_no: masked.cert_no.print(),
            assurance: masked.assurance.word().to_owned(),
        }
    }
}

fn masked_of(profile: &Profile) -> MaskedIdentity {
    MaskedIdentity {
        name: MaskedName::of(profile.name.as_deref().unwrap_or_default()),
        cert_no: profile.document.mask(),
        assurance: profile.assurance,
    }
}

/// Returns the text of an owner, for use inside a paper.
fn write_who(who: &Identity) -> String {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&who.home.0.to_be_bytes());
    bytes[8..].copy_from_slice(&who.claim);
    base32::text(&bytes)
}

/// Parses a text of [`write_who`]; `Internal` for any other text.
fn read_who(text: &str) -> Result<Identity, Refusal> {
    let bytes = base32::bytes(text, 24).ok_or(Refusal::Internal)?;
    let (home, claim) = bytes.split_first_chunk::<8>().ok_or(Refusal::Internal)?;
    Ok(Identity {
        home: crate::person::ResidentId(u64::from_be_bytes(*home)),
        claim: claim.try_into().map_err(|_| Refusal::Internal)?,
    })
}

/// Returns the partition of an owner. Long lists are split by it, so that papers of the person and of the list are in one
/// partition of the store.
fn partition(who: &Identity) -> u8 {
    (who.home.0 >> 60) as u8
}

/// Sets the partition of a key, so that the key shows which part of a list has it.
fn partition_in(mut key: PaperKey, who: &Identity) -> PaperKey {
    key[0] = key[0] & 0x0f | partition(who) << 4;
    key
}

/// Parses a JSON object. serde alone would accept an array for a struct as well.
fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Refusal::Malformed);
    }
    serde_json::from_slice(body).map_err(|_| Refusal::Malformed)
}

/// Checks the purpose of a look, which the person can read.
fn purpose(said: Option<&str>) -> Result<&str, Rejection> {
    let said = said.ok_or(Rejection::MissingField("purpose"))?;
    match is_source(said) {
        true => Ok(said),
        false => Err(Rejection::BadPurpose),
    }
}

/// Returns the key in the id of a path; `NotFound` if it is none.
fn key_in(id: Option<&str>) -> Result<PaperKey, Refusal> {
    let bytes = base32::bytes(id.ok_or(Refusal::NotFound)?, 16).ok_or(Refusal::NotFound)?;
    bytes.as_slice().try_into().map_err(|_| Refusal::NotFound)
}

/// Returns the id of a paper in answers.
pub fn id(paper: &Paper) -> String {
    base32::text(&paper.key)
}

/// Cuts the entries of a page to `limit`. Returns the last one if there were more.
fn cut<T>(found: &mut Vec<T>, limit: usize) -> Option<&T> {
    let more = found.len() > limit;
    found.truncate(limit);
    found.last().filter(|_| more)
}

/// Returns the cursor of the page after this paper.
fn next(last: &Paper) -> String {
    base32::text(&last.cursor().to_bytes())
}

fn cursor(text: &str) -> Result<Cursor, Refusal> {
    let bytes = base32::bytes(text, Cursor::BYTES).ok_or(Refusal::Malformed)?;
    let bytes = bytes
        .as_slice()
        .try_into()
        .map_err(|_| Refusal::Malformed)?;
    Ok(Cursor::from_bytes(bytes))
}
