//! The desk: everything that the notice promises beside the code. It keeps papers and reads them back, may wait for the store,
//! and is asked by the spine alone. In: who asks, for what, with which body. Out: what is said, or a refusal. Never: HTTP.

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

use crate::answer::Refusal;
use crate::clock::{DAY_MS, Time};
use crate::feed::{Rejection, is_source};
use crate::identity::{AssertionNumber, Platform};
use crate::language::Language;
use crate::offline::issue::OfflineIssuer;
use crate::paper::{Cursor, Paper, PaperKey, PaperKind, PaperKinds};
use crate::person::{Document, Identity, MaskedIdentity, MaskedName, Profile, is_name};
use crate::seal::{Caller, Nonces, Seal, base32};
use crate::store::{Change, ChangeKind, LocatedRecord};
use crate::store_client::StoreClient;
use audit::Audit;
use grant::RevokedGrantCache;
use roles::Act;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Limits of the desk.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a session lasts by which a family member is shown.
    pub session_life: std::time::Duration,
    /// Family members of one resident.
    pub family_members_max: usize,
    /// Where a page sends a resident who adds a family member; None: members are added in another app.
    pub member_url: Option<String>,
}

/// A question to the desk, read and not yet believed.
pub struct DeskRequest<'q> {
    /// What is asked for.
    pub act: Act,
    /// The paper that the path names.
    pub id: Option<&'q str>,
    /// What stands behind the question mark.
    pub params: Params<'q>,
    /// The body, whole; empty where none came.
    pub body: &'q [u8],
    /// The caller's own word for what is asked: said again, it is done once.
    pub idempotency: Option<&'q str>,
    /// The language that the caller reads.
    pub language: Language,
}

/// What stands behind the question mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'q> {
    /// The cursor after which a page begins.
    pub after: Option<&'q str>,
    /// How many a page is to have.
    pub limit: Option<&'q str>,
    /// The kind of records that are asked for.
    pub kind: Option<&'q str>,
    /// The division to which journeys go.
    pub destination: Option<&'q str>,
    /// The day on which journeys arrive, `yyyy-mm-dd`.
    pub day: Option<&'q str>,
    /// Why an office looks.
    pub purpose: Option<&'q str>,
}

/// What the desk says; printed as it is.
pub enum DeskResponse {
    /// Found.
    Found(Value),
    /// Done, and on record.
    Done(Value),
    /// Understood, and not taken: the field that is wrong.
    Rejected(Rejection),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeskError {
    /// Refused, as any request may be.
    Refused(Refusal),
    /// Understood, and not taken: the field that is wrong.
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
    /// How many a page is to have: so many unless it is said, and not more than `most`.
    fn limit(&self, usual: usize, most: usize) -> Result<usize, Refusal> {
        let Some(limit) = self.limit else {
            return Ok(usual);
        };
        let limit = limit.parse().ok();
        let limit = limit.filter(|limit| (1..=most).contains(limit));
        limit.ok_or(Refusal::Malformed)
    }
}

/// Papers of a page, unless another number is asked for, and at most.
const LIMIT: usize = 20;
const LIMIT_MAX: usize = 100;

/// Idempotency keys that go to the store together.
const BOUND_TOGETHER: usize = 1_000;

/// What the desk works with.
pub struct Desk<'r> {
    /// Keys of codes, tokens and papers.
    pub seal: &'r Seal,
    /// Where papers are kept.
    pub store_client: &'r StoreClient,
    /// Whose assertions are believed.
    pub platform: &'r Platform,
    /// Where looks and acts of offices are recorded.
    pub audit: &'r Audit,
    /// Grants that were revoked or have ended, by organisation.
    pub revoked_grants: &'r RevokedGrantCache,
    /// Numbers for what is sealed by this thread.
    pub nonces: &'r Nonces,
    /// Limits of the desk.
    pub settings: &'r Settings,
    /// None where no offline codes are issued.
    pub offline: Option<&'r OfflineIssuer>,
    /// The time of the request.
    pub now: Time,
}

impl Desk<'_> {
    /// Answers whoever has been let in for this act, within the time that the desk waits for the store in all. What was being
    /// filed when that was over is filed or not, as after any `UpstreamBusy`.
    pub async fn answer(
        &self,
        asked: &DeskRequest<'_>,
        caller: &Caller,
    ) -> Result<DeskResponse, Refusal> {
        let answer = self.walk(asked, caller);
        let answer = match asked.act {
            // Thousands of lines go batch by batch, each with a wait of its own.
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

    /// One line a promise.
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
            // No act of the table comes here with another caller.
            _ => Err(Refusal::NotPermitted.into()),
        }
    }

    /// Puts a person on record, or what is new of one: a log-in names the nameless and raises the assurance. What an authority's
    /// feed said of the person is never lowered by it. The slots from the home to the resident's own.
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

    /// Returns the key of the paper that a caller files: the same key for the same content under the same idempotency key of
    /// the same caller. Other content has another key, so that no paper is taken for another.
    fn key_of(&self, noun: &str, caller: &[u8], word: Option<&str>, content: &[u8]) -> PaperKey {
        match word {
            Some(word) => {
                let parts = [noun.as_bytes(), caller, word.as_bytes(), content];
                self.seal.paper_key(&parts)
            }
            None => self.seal.fresh_key(),
        }
    }

    /// Returns whether a person is on record under this name. Who is not on record has none.
    async fn is_named(&self, who: Identity, name: &str) -> Result<bool, Refusal> {
        let placed = self.store_client.record_now(who).await?;
        let profile = self.profile_in(who, placed.as_deref());
        Ok(profile.is_some_and(|profile| profile.name.as_deref() == Some(name)))
    }

    /// Returns what a record holds of its person; None where there is no record, or the person was erased.
    fn profile_in(&self, who: Identity, placed: Option<&LocatedRecord>) -> Option<Profile> {
        placed.and_then(|placed| self.seal.open_profile(&who, &placed.record.profile))
    }

    /// Marks an assertion as used, on all nodes: the store decides who came first. `Unauthorized` if it was used before, by
    /// another than `user`, or by anybody where there is none. Each has an owner of its own, so that no other pushes it out.
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

    /// Binds an idempotency key of a caller to the content of a request. `IdempotencyMismatch` where the key is bound to
    /// other content already; the store decides which of two requests came first.
    async fn bind(
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

    /// Binds idempotency keys of their owners, each to its content. Returns of each whether it is bound to no other content; of two
    /// with one key in one call the first is.
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

    /// Files what keys of owners are bound to, unless they are bound already; the store decides which of two came first. Returns of
    /// each whether it is bound to this content now; None where the store does not tell.
    async fn are_bound(&self, bindings: &[Binding]) -> Result<Vec<Option<bool>>, Refusal> {
        let request = |binding: &Binding| IdempotentRequest {
            content: base32::text(&binding.content),
        };
        let changes = bindings.iter().map(|binding| {
            let (owner, key) = (binding.owner, binding.key);
            self.filing(owner, PaperKind::Request, key, &request(binding))
        });
        let changes = changes.collect::<Result<_, _>>()?;
        let new = self.store_client.apply(changes).await?;
        let mut told = Vec::with_capacity(bindings.len());
        for (binding, is_new) in bindings.iter().zip(new) {
            if is_new {
                told.push(Some(true));
                continue;
            }
            let keys = [binding.key];
            let papers = self.store_client.some_now(binding.owner, &keys).await?;
            told.push(match papers.iter().flatten().next() {
                None => None,
                Some(paper) => {
                    let known: IdempotentRequest = self.open(&binding.owner, paper)?;
                    Some(known.content == request(binding).content)
                }
            });
        }
        Ok(told)
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

    /// Returns the owner of the requests of an office under one idempotency key.
    fn office(&self, name: &str, word: Option<&str>) -> Identity {
        let word = word.unwrap_or_default().as_bytes();
        let spread = self.seal.paper_key(&[b"requests", name.as_bytes(), word]);
        self.seal.owner("requests", name, spread[0] & 15)
    }

    /// Refuses one more paper of a kind where its owner has `most` of the last day. A paper that is filed already is no more.
    async fn bound_a_day(
        &self,
        owner: Identity,
        kind: PaperKind,
        key: &PaperKey,
        most: usize,
    ) -> Result<(), Refusal> {
        let papers = self
            .store_client
            .papers_now(owner, PaperKinds::of(&[kind]), None, most);
        let papers = papers.await?;
        let day_ago = Time(self.now.0.saturating_sub(DAY_MS));
        let today = papers.iter().filter(|paper| paper.at > day_ago).count();
        match today < most || papers.iter().any(|paper| paper.key == *key) {
            true => Ok(()),
            false => Err(Refusal::LimitReached),
        }
    }

    /// A page of an owner's papers, and where the next begins.
    async fn page(
        &self,
        owner: Identity,
        kinds: PaperKinds,
        params: &Params<'_>,
    ) -> Result<(Vec<Paper>, Option<String>), Refusal> {
        let limit = params.limit(LIMIT, LIMIT_MAX)?;
        let after = params.after.map(cursor).transpose()?;
        // One more tells whether there is a next page.
        let mut papers = self
            .store_client
            .papers(owner, kinds, after, limit + 1)
            .await?;
        let next = cut(&mut papers, limit).map(next);
        Ok((papers, next))
    }

    /// As [`Desk::page`], each paper as it is told.
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

    /// What a paper says. `Internal` where it cannot be opened: a paper is not told without its contents.
    fn open<T: DeserializeOwned>(&self, owner: &Identity, paper: &Paper) -> Result<T, Refusal> {
        opened(self.seal, owner, paper)
    }

    /// A paper as it is told: its id, kind and time, and what it says.
    fn told(&self, owner: &Identity, paper: &Paper) -> Result<Value, Refusal> {
        let body: Map<String, Value> = self.open(owner, paper)?;
        let mut told = Map::new();
        told.insert("id".into(), id(paper).into());
        told.insert("kind".into(), paper.kind.word().into());
        told.insert("at".into(), paper.at.to_string().into());
        told.extend(body);
        Ok(Value::Object(told))
    }

    /// A change that files one paper.
    fn filing(
        &self,
        owner: Identity,
        kind: PaperKind,
        key: PaperKey,
        body: &impl Serialize,
    ) -> Result<Change, Refusal> {
        self.filing_at(owner, kind, key, self.now, body)
    }

    /// As [`Desk::filing`], with a time of its own.
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

/// As [`Desk::filing_at`].
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

/// As [`Desk::open`].
fn opened<T: DeserializeOwned>(seal: &Seal, owner: &Identity, paper: &Paper) -> Result<T, Refusal> {
    let body = seal.open_paper(owner, paper);
    body.and_then(|body| serde_json::from_slice(&body).ok())
        .ok_or_else(|| {
            tracing::error!(kind = paper.kind.word(), "a paper cannot be opened");
            Refusal::Internal
        })
}

/// What a caller asked for under an idempotency key, as it rests.
#[derive(Serialize, Deserialize)]
struct IdempotentRequest {
    /// A keyed hash of the content.
    content: String,
}

/// A key of an owner, and a keyed hash of the content that it is to be bound to.
struct Binding {
    owner: Identity,
    key: PaperKey,
    content: PaperKey,
}

/// Returns the content of a JSON body, independent of blanks and the order of fields.
fn content_of(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let value: Value = serde_json::from_slice(body).map_err(|_| Refusal::Malformed)?;
    serde_json::to_vec(&value).map_err(|_| Refusal::Malformed)
}

/// A person whom a caller names.
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

/// A person as others are told of one.
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

/// An owner, written into a paper so that it is found again.
fn write_who(who: &Identity) -> String {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&who.home.0.to_be_bytes());
    bytes[8..].copy_from_slice(&who.claim);
    base32::text(&bytes)
}

/// Returns the owner that [`write_who`] wrote; `Internal` for any other text.
fn read_who(text: &str) -> Result<Identity, Refusal> {
    let bytes = base32::bytes(text, 24).ok_or(Refusal::Internal)?;
    let (home, claim) = bytes.split_first_chunk::<8>().ok_or(Refusal::Internal)?;
    Ok(Identity {
        home: crate::person::ResidentId(u64::from_be_bytes(*home)),
        claim: claim.try_into().map_err(|_| Refusal::Internal)?,
    })
}

/// The partition that somebody is in: lists that many are on are cut by it, so that what is filed of a person and
/// of a list lies in one place of the store.
fn partition(who: &Identity) -> u8 {
    (who.home.0 >> 60) as u8
}

/// A key that tells of which partition its owner's part of a list is.
fn partition_in(mut key: PaperKey, who: &Identity) -> PaperKey {
    key[0] = key[0] & 0x0f | partition(who) << 4;
    key
}

/// JSON that is an object: serde would take an array for a struct as well.
fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Refusal::Malformed);
    }
    serde_json::from_slice(body).map_err(|_| Refusal::Malformed)
}

/// Why a person is looked up: said by whoever looks, and told to the person.
fn purpose(said: Option<&str>) -> Result<&str, Rejection> {
    let said = said.ok_or(Rejection::MissingField("purpose"))?;
    match is_source(said) {
        true => Ok(said),
        false => Err(Rejection::BadPurpose),
    }
}

/// The key that an id of a path names.
fn key_in(id: Option<&str>) -> Result<PaperKey, Refusal> {
    let bytes = base32::bytes(id.ok_or(Refusal::NotFound)?, 16).ok_or(Refusal::NotFound)?;
    bytes.as_slice().try_into().map_err(|_| Refusal::NotFound)
}

/// How a paper is named to those who may read it.
pub fn id(paper: &Paper) -> String {
    base32::text(&paper.key)
}

/// Cuts what was found to a page; its last one, where there is more.
fn cut<T>(found: &mut Vec<T>, limit: usize) -> Option<&T> {
    let more = found.len() > limit;
    found.truncate(limit);
    found.last().filter(|_| more)
}

/// Where the page behind this paper begins, as it is told.
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
