//! The audit log: every privileged look at a person, as a link of a chain, and as a paper that the person can read. Nobody is
//! looked at before both are durable.
//!
//! A node has a chain of its own, and begins another where it does not know whether its last link was kept. Each link holds the
//! keyed hash of the one before it: without the key ring none can be changed, taken out or put in without being noticed, and
//! the papers of the persons tell of links that were cut off at the end.

use super::{Asked, Desk, No, Said, read_who, write_who};
use crate::answer::Refusal;
use crate::clock::Time;
use crate::desk::roles::{Act, Role};
use crate::desk::told::Told;
use crate::paper::{Kind, Kinds, Paper};
use crate::person::Identity;
use crate::seal::{Pass, Seal, Session, base32};
use crate::store::Change;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::Mutex;

/// Links that share an owner in the store: sixteen times what one may have.
const SEGMENT: u64 = 65_536;

/// One look, as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub chain: String,
    pub n: u64,
    /// The keyed hash of the link before it; of the chain's name for the first.
    pub prev: String,
    pub by: String,
    pub role: String,
    pub act: String,
    pub purpose: String,
    /// Whose papers were looked at; a keyed hash.
    pub person: String,
}

/// The same look, as the person is told of it.
#[derive(Serialize, Deserialize)]
struct Access {
    by: String,
    role: String,
    act: String,
    purpose: String,
    chain: String,
    n: u64,
}

/// The end of this node's chain.
#[derive(Default)]
pub struct Audit {
    end: Mutex<Option<End>>,
}

#[derive(Clone)]
struct End {
    chain: String,
    next: u64,
    prev: String,
}

impl End {
    fn begin(seal: &Seal) -> End {
        let chain = base32::text(&seal.fresh_key());
        End {
            prev: hash(seal, chain.as_bytes(), Time(0)),
            chain,
            next: 0,
        }
    }
}

fn hash(seal: &Seal, body: &[u8], at: Time) -> String {
    let mut bytes = body.to_vec();
    bytes.extend_from_slice(&at.0.to_be_bytes());
    base32::text(&seal.link(&bytes))
}

fn owner(seal: &Seal, chain: &str, n: u64) -> Identity {
    seal.owner("audit", &format!("{chain}:{}", n / SEGMENT), (n % 16) as u8)
}

impl Desk<'_> {
    /// Records that somebody looks at these persons. Until this is done, nothing is told of them.
    pub(super) async fn record(
        &self,
        by: &Pass,
        role: Role,
        act: Act,
        purpose: &str,
        persons: &[Identity],
    ) -> Result<(), Refusal> {
        let mut held = self.audit.end.lock().await;
        // Should this fail or be dropped, nobody knows which links are kept: the next look begins another chain.
        let mut end = held.take().unwrap_or_else(|| End::begin(self.seal));
        let mut changes: Vec<Change> = Vec::with_capacity(2 * persons.len());
        for person in persons {
            let access = Access {
                by: by.holder().to_owned(),
                role: role.word().to_owned(),
                act: act.word().to_owned(),
                purpose: purpose.to_owned(),
                chain: end.chain.clone(),
                n: end.next,
            };
            let link = Link {
                chain: end.chain.clone(),
                n: end.next,
                prev: end.prev.clone(),
                by: access.by.clone(),
                role: access.role.clone(),
                act: access.act.clone(),
                purpose: access.purpose.clone(),
                person: write_who(person),
            };
            let of_link = [end.chain.as_bytes(), &end.next.to_be_bytes()];
            let key = self.seal.paper_key(&[b"audit", of_link[0], of_link[1]]);
            let place = owner(self.seal, &end.chain, end.next);
            changes.push(self.filing(place, Kind::Audit, key, &link)?);
            let key = self.seal.paper_key(&[b"access", of_link[0], of_link[1]]);
            changes.push(self.filing(*person, Kind::Access, key, &access)?);
            let body = serde_json::to_vec(&link).map_err(|_| Refusal::Malformed)?;
            end.prev = hash(self.seal, &body, self.now);
            end.next += 1;
        }
        if !changes.is_empty() {
            self.cold.apply(changes).await?;
        }
        *held = Some(end);
        Ok(())
    }

    /// Who looked at the person, when and why; and of each grant the days on which it was scanned.
    pub(super) async fn accesses(&self, session: &Session, asked: &Asked<'_>) -> Result<Said, No> {
        let owner = session.identity;
        let kinds = Kinds::of(&[Kind::Access, Kind::GrantScan]);
        let (papers, next) = self.page(owner, kinds, &asked.params).await?;
        let mut accesses = Vec::with_capacity(papers.len());
        for paper in &papers {
            let at = paper.at.to_string();
            accesses.push(match paper.kind {
                Kind::GrantScan => {
                    let Told { by, grant } = self.open(&owner, paper)?;
                    let (role, act) = (Role::Scanner.word(), Act::Scan.word());
                    json!({ "at": at, "by": by, "role": role, "act": act, "purpose": "grant", "grant": grant })
                }
                _ => {
                    let access: Access = self.open(&owner, paper)?;
                    json!({
                        "at": at, "by": access.by, "role": access.role, "act": access.act, "purpose": access.purpose,
                    })
                }
            });
        }
        Ok(Said::Found(json!({ "accesses": accesses, "next": next })))
    }
}

/// The whole log, gathered from all papers of a store.
#[derive(Default)]
pub struct Log {
    links: BTreeMap<(String, u64), (Time, Link, String)>,
    /// Links that persons were told of.
    told: BTreeSet<(String, u64)>,
    unreadable: u64,
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub chain: String,
    pub n: u64,
    pub why: &'static str,
}

impl Log {
    pub fn take(&mut self, seal: &Seal, owner: &Identity, paper: &Paper) {
        if !matches!(paper.kind, Kind::Audit | Kind::Access) {
            return;
        }
        let Some(body) = seal.open_paper(owner, paper) else {
            self.unreadable += 1;
            return;
        };
        if paper.kind == Kind::Access {
            match serde_json::from_slice::<Access>(&body) {
                Ok(access) => drop(self.told.insert((access.chain, access.n))),
                Err(_) => self.unreadable += 1,
            }
            return;
        }
        match serde_json::from_slice::<Link>(&body) {
            Ok(link) => {
                let own = hash(seal, &body, paper.at);
                let place = (link.chain.clone(), link.n);
                self.links.insert(place, (paper.at, link, own));
            }
            Err(_) => self.unreadable += 1,
        }
    }

    pub fn len(&self) -> usize {
        self.links.len()
    }

    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Every link by time.
    pub fn links(&self) -> Vec<(Time, &Link)> {
        let mut all: Vec<(Time, &Link)> = self
            .links
            .values()
            .map(|(at, link, _)| (*at, link))
            .collect();
        all.sort_by_key(|(at, link)| (*at, link.n));
        all
    }

    /// The end of each chain: its name, how many links, and the hash of the last. Written down elsewhere, it tells later
    /// whether the end was cut off.
    pub fn ends(&self) -> Vec<(String, u64, String)> {
        let mut ends: BTreeMap<&String, (u64, &String)> = BTreeMap::new();
        for ((chain, n), (_, _, own)) in &self.links {
            ends.insert(chain, (n + 1, own));
        }
        let ends = ends.into_iter();
        ends.map(|(chain, (links, own))| (chain.clone(), links, own.clone()))
            .collect()
    }

    /// Everything that is not as it was written. Links from before `kept_from` were swept, and are not missed.
    pub fn verify(&self, seal: &Seal, kept_from: Time) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.unreadable > 0 {
            findings.push(Finding {
                chain: "-".into(),
                n: self.unreadable,
                why: "papers of the log cannot be opened: changed, or sealed by another ring",
            });
        }
        let mut before: Option<(&str, u64, &str)> = None;
        for ((chain, n), (at, link, own)) in &self.links {
            let mut find = |why| {
                findings.push(Finding {
                    chain: chain.clone(),
                    n: *n,
                    why,
                });
            };
            let follows = before.filter(|(known, ..)| known == chain);
            match follows {
                Some((_, last, prev)) => {
                    if last + 1 != *n {
                        find("links before it are missing");
                    } else if prev != link.prev {
                        find("it does not follow the link before it");
                    }
                }
                None if *n == 0 => {
                    if link.prev != hash(seal, chain.as_bytes(), Time(0)) {
                        find("it does not follow the chain's beginning");
                    }
                }
                // The first that is kept: sweeping takes from the old end.
                None if at.0 < kept_from.0 + 86_400_000 => {}
                None => find("links before it are missing"),
            }
            if !self.told.contains(&(chain.clone(), *n)) {
                find("the person was not told of it");
            }
            if read_who(&link.person).is_err() {
                find("it names nobody");
            }
            before = Some((chain, *n, own));
        }
        for (chain, n) in &self.told {
            if !self.links.contains_key(&(chain.clone(), *n)) {
                findings.push(Finding {
                    chain: chain.clone(),
                    n: *n,
                    why: "a person was told of it, and the log has lost it",
                });
            }
        }
        findings
    }
}
