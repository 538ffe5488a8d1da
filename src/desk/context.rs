//! What the desk needs for one request, and how it reads and writes papers with that.

use super::audit::Audit;
use super::filing::{filed, opened};
use super::request::Params;
use super::revoked_grants::RevokedGrantCache;
use super::values::{LIMIT, LIMIT_MAX, cursor, cut, id, next};
use crate::clock::Time;
use crate::identity::Platform;
use crate::offline::issue::OfflineIssuer;
use crate::paper::{Paper, PaperKey, PaperKind, PaperKinds};
use crate::person::{Identity, Profile};
use crate::refusal::Refusal;
use crate::seal::{Nonces, Seal};
use crate::store::{Change, LocatedRecord};
use crate::store_client::StoreClient;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

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
    /// Returns whether a person is on record with this name. False for a person who is not on record.
    pub(super) async fn is_named(&self, who: Identity, name: &str) -> Result<bool, Refusal> {
        let placed = self.store_client.record_now(who).await?;
        let profile = self.profile_in(who, placed.as_deref());
        Ok(profile.is_some_and(|profile| profile.name.as_deref() == Some(name)))
    }

    /// Returns the profile in a record; None without a record, or if the person was erased.
    pub(super) fn profile_in(
        &self,
        who: Identity,
        placed: Option<&LocatedRecord>,
    ) -> Option<Profile> {
        placed.and_then(|placed| self.seal.open_profile(&who, &placed.record.profile))
    }

    /// Returns a page of an owner's papers, and the cursor of the next page.
    pub(super) async fn page(
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
    pub(super) async fn told_page(
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
    pub(super) fn open<T: DeserializeOwned>(
        &self,
        owner: &Identity,
        paper: &Paper,
    ) -> Result<T, Refusal> {
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
    pub(super) fn told(&self, owner: &Identity, paper: &Paper) -> Result<Value, Refusal> {
        let body: Map<String, Value> = self.open(owner, paper)?;
        let mut told = Map::new();
        told.insert("id".into(), id(paper).into());
        told.insert("kind".into(), paper.kind.word().into());
        told.insert("at".into(), paper.at.to_string().into());
        told.extend(body);
        Ok(Value::Object(told))
    }

    /// Returns the change that writes a paper, at the time of the request.
    pub(super) fn filing(
        &self,
        owner: Identity,
        kind: PaperKind,
        key: PaperKey,
        body: &impl Serialize,
    ) -> Result<Change, Refusal> {
        self.filing_at(owner, kind, key, self.now, body)
    }

    /// Returns the change that writes a paper with a given time.
    pub(super) fn filing_at(
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
