//! Idempotency keys, used assertions and quotas of a day: keys that are bound to content, where the store decides who was first.

use super::context::Desk;
use super::persons::partition;
use crate::identity::AssertionNumber;
use crate::paper::{PAGE_MAX, Paper, PaperKey, PaperKind};
use crate::person::Identity;
use crate::refusal::Refusal;
use crate::seal::{Session, base32};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Idempotency keys that are stored in one call.
const BOUND_TOGETHER: usize = 1_000;

/// Requests with an idempotency key that one resident may make in a day, also refused ones.
const KEYED_DAY_MAX: usize = PAGE_MAX;

/// Papers of one kind that an office or organisation may file about one person in a day.
const FILED_DAY_MAX: u8 = 16;

/// Stored contents of a request under an idempotency key.
#[derive(Serialize, Deserialize)]
struct IdempotentRequest {
    /// A keyed hash of the content, in base32.
    content: String,
}

/// An idempotency key of an owner, and a keyed hash of the content.
pub(super) struct Binding {
    pub(super) owner: Identity,
    pub(super) key: PaperKey,
    pub(super) content: PaperKey,
}

impl Desk<'_> {
    /// Returns the key of a paper that a caller writes. Same caller, idempotency key and content give the same key; without an
    /// idempotency key it is random.
    pub(super) fn key_of(
        &self,
        noun: &str,
        caller: &[u8],
        word: Option<&str>,
        content: &[u8],
    ) -> PaperKey {
        match word {
            Some(word) => {
                let parts = [noun.as_bytes(), caller, word.as_bytes(), content];
                self.seal.paper_key(&parts)
            }
            None => self.seal.fresh_key(),
        }
    }

    /// Marks an assertion as used for all nodes; the store decides which use was first. With `user`, the same user may use it
    /// again: a membership, so that the assertion adds no other one. Each assertion has an owner of its own, so that none
    /// displaces another.
    ///
    /// # Errors
    ///
    /// `Unauthorized` if the assertion was used before, and the refusals of [`crate::store_client::StoreClient`].
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
    pub(super) async fn bind(
        &self,
        noun: &str,
        caller: Identity,
        word: Option<&str>,
        content: &[u8],
    ) -> Result<(), Refusal> {
        if let Some(word) = word {
            let key = self.request_key(noun, &caller, word);
            self.bound_a_day(caller, "key", &key, KEYED_DAY_MAX).await?;
        }
        self.bind_to(noun, caller, word, content).await
    }

    /// Binds an idempotency key as [`Desk::bind`] does, without a daily number.
    pub(super) async fn bind_to(
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
    pub(super) async fn bind_all(
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
    pub(super) async fn are_bound(
        &self,
        bindings: &[Binding],
    ) -> Result<Vec<Option<bool>>, Refusal> {
        let bound = self.bound(bindings).await?;
        let is_own = |(bound, own): (Option<String>, &Binding)| {
            bound.map(|content| content == base32::text(&own.content))
        };
        Ok(bound.into_iter().zip(bindings).map(is_own).collect())
    }

    /// Stores bindings that do not exist yet, and returns the content to which each key is bound now; None if the store does not
    /// say.
    pub(super) async fn bound(&self, bindings: &[Binding]) -> Result<Vec<Option<String>>, Refusal> {
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
    pub(super) async fn take_places(
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
    pub(super) async fn take_place(
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
    pub(super) fn office(&self, name: &str, word: Option<&str>) -> Identity {
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
    pub(super) async fn bound_a_day(
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
        // Each round but the last loses its place to another paper.
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
    pub(super) fn filer(&self, session: &Session) -> Identity {
        let who = session.identity;
        match session.member {
            None => who,
            Some(member) => {
                let name = format!("{member:016x}");
                self.seal.owner("shown by", &name, partition(&who))
            }
        }
    }
}
