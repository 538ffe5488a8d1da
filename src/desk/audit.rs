//! The chains of the audit log: how looks and acts become links, and how links are stored, read and verified. A privileged look at a
//! person is a link and a paper that the person can read; an act of an office is a link.
//!
//! Each node has its own chain, and begins another if it does not know whether its last link was stored. A link holds the keyed
//! hash of the previous one: without the key ring no link can be changed, removed or inserted unnoticed. A cut end is noticed
//! by the persons' papers and by the ends of chains in the node's log.
//!
//! Links are stored by day, in China's time, so that the log can be read day by day. Repeated looks by one office at one person
//! with one purpose are one paper a day, and one link if the node still remembers them.

use super::persons::{read_who, write_who};
use crate::clock::{DAY_MS, Time, print_day};
use crate::desk::roles::{Act, Role};
use crate::paper::{Paper, PaperKey, PaperKind};
use crate::person::Identity;
use crate::refusal::Refusal;
use crate::seal::{Seal, base32};
use crate::store::{Change, ChangeKind};
use crate::store_client::StoreClient;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::Mutex;

/// Looks that a node remembers, so that it does not record them twice in a day.
const REMEMBERED_MAX: u64 = 200_000;

/// Links that are stored in one call.
const TOGETHER: usize = 200;

/// The act of `liangma export`, which no door has.
pub const EXPORT: &str = "export";
/// The act of `liangma erase`.
pub const ERASE: &str = "erase";

/// Tokens whose feeds are counted individually; the rest are counted together.
const FEEDERS_MAX: usize = 1_000;

/// A link of the log: one look or act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLink {
    /// The name of the chain.
    pub chain: String,
    /// The number of the link in its chain, from 1.
    pub n: u64,
    /// The keyed hash of the previous link; for the first link, of the chain's name.
    pub prev: String,
    /// The day of the previous link.
    pub prev_day: u32,
    /// The holder of the credential.
    pub by: String,
    /// The role of the credential.
    pub role: String,
    /// The act.
    pub act: String,
    /// The purpose that the office stated.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// The person, as a keyed hash; empty if the act concerns no person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub person: String,
    /// Whether the person got a paper.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told: bool,
    /// Figures of the act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

/// The paper of the first look of a day, which the person can read.
#[derive(Serialize, Deserialize)]
pub(super) struct Access {
    pub(super) by: String,
    pub(super) role: String,
    pub(super) act: String,
    pub(super) purpose: String,
    pub(super) chain: String,
    n: u64,
}

/// The paper of a grant's scan, which the person can read.
#[derive(Serialize, Deserialize)]
pub(super) struct GrantScanNotice {
    /// The organisation whose gate scanned.
    pub by: String,
    /// The key of the grant's paper, in base32.
    pub grant: String,
}

/// A look or act to record.
#[derive(Clone, Debug)]
pub struct AuditedAct {
    /// The holder of the credential.
    pub by: String,
    /// The role of the credential.
    pub role: Role,
    /// The act.
    pub act: &'static str,
    /// The purpose; empty if the act needs none.
    pub purpose: String,
    /// The person whom the act concerns; None if it concerns none.
    pub person: Option<Identity>,
    /// Whether the person gets a paper; false if the person is not on record.
    pub told: bool,
    /// Further figures; None if there are none.
    pub detail: Option<Value>,
}

impl AuditedAct {
    /// Returns an act without purpose, person and detail.
    pub fn new(by: &str, role: Role, act: &'static str) -> AuditedAct {
        AuditedAct {
            by: by.to_owned(),
            role,
            act,
            purpose: String::new(),
            person: None,
            told: false,
            detail: None,
        }
    }

    /// Sets the purpose.
    pub fn purpose(mut self, purpose: &str) -> AuditedAct {
        self.purpose = purpose.to_owned();
        self
    }

    /// Sets the person, who gets a paper.
    pub fn person(mut self, person: Identity) -> AuditedAct {
        (self.person, self.told) = (Some(person), true);
        self
    }

    /// Sets the person without a paper, for one who learns of it otherwise or is not on record.
    pub fn about(mut self, person: Identity) -> AuditedAct {
        (self.person, self.told) = (Some(person), false);
        self
    }

    /// Sets further figures.
    pub fn detail(mut self, detail: Value) -> AuditedAct {
        self.detail = Some(detail);
        self
    }

    /// Returns the key by which two equal acts of a day are recognised.
    fn key(&self, seal: &Seal, day: u32) -> PaperKey {
        let claim = self.person.map(|person| person.claim).unwrap_or_default();
        let detail = self
            .detail
            .as_ref()
            .map(Value::to_string)
            .unwrap_or_default();
        seal.paper_key(&[
            b"deed",
            self.by.as_bytes(),
            self.role.word().as_bytes(),
            self.act.as_bytes(),
            self.purpose.as_bytes(),
            &claim,
            &[u8::from(self.told)],
            detail.as_bytes(),
            &day.to_be_bytes(),
        ])
    }
}

/// Returns the key of the paper by which a person learns of looks on a day.
fn access_key(seal: &Seal, link: &AuditLink, day: u32) -> PaperKey {
    seal.paper_key(&[
        b"access",
        link.by.as_bytes(),
        link.role.as_bytes(),
        link.act.as_bytes(),
        link.purpose.as_bytes(),
        &day.to_be_bytes(),
    ])
}

/// The end of a chain: the number of its links and the hash of the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEnd {
    /// The name of the chain.
    pub chain: String,
    /// Number of links so far.
    pub links: u64,
    /// The hash of the last link.
    pub hash: String,
    /// The day of the last link.
    pub day: u32,
}

impl std::fmt::Display for ChainEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let day = print_day(self.day);
        write!(f, "{}:{}:{}@{day}", self.chain, self.links, self.hash)
    }
}

impl ChainEnd {
    /// Returns the end of a new chain without links.
    pub fn begin(seal: &Seal) -> ChainEnd {
        let chain = base32::text(&seal.fresh_key());
        ChainEnd {
            hash: hash(seal, chain.as_bytes(), Time(0)),
            chain,
            links: 0,
            day: 0,
        }
    }

    /// Parses an end as it is printed; None for any other text.
    pub fn parse(text: &str) -> Option<ChainEnd> {
        let (rest, day) = text.split_once('@')?;
        let mut parts = rest.split(':');
        let (chain, links, hash) = (parts.next()?, parts.next()?, parts.next()?);
        base32::bytes(chain, 16)?;
        base32::bytes(hash, 32)?;
        if parts.next().is_some() {
            return None;
        }
        Some(ChainEnd {
            chain: chain.to_owned(),
            links: links.parse().ok().filter(|links| *links > 0)?,
            hash: hash.to_owned(),
            day: crate::feed::parse_day(day)?,
        })
    }

    /// Returns the changes that append acts to the chain, and moves the end.
    ///
    /// # Errors
    ///
    /// `NotFound` if the key of the audit log was destroyed, `TooLarge` if an act does not fit into a paper.
    pub fn append(
        &mut self,
        seal: &Seal,
        now: Time,
        deeds: &[AuditedAct],
    ) -> Result<Vec<Change>, Refusal> {
        let day = now.day();
        let mut changes = Vec::with_capacity(2 * deeds.len());
        for deed in deeds {
            let link = AuditLink {
                chain: self.chain.clone(),
                n: self.links,
                prev: self.hash.clone(),
                prev_day: if self.links == 0 { day } else { self.day },
                by: deed.by.clone(),
                role: deed.role.word().to_owned(),
                act: deed.act.to_owned(),
                purpose: deed.purpose.clone(),
                person: deed.person.as_ref().map(write_who).unwrap_or_default(),
                told: deed.told,
                detail: deed.detail.clone(),
            };
            let body = serde_json::to_vec(&link).map_err(|_| Refusal::Malformed)?;
            let key = link_key(seal, &link.chain, link.n);
            let place = owner(seal, day, link.n);
            changes.push(change(seal, place, PaperKind::Audit, key, now, &body)?);
            if let (Some(person), true) = (deed.person, deed.told) {
                let access = Access {
                    by: link.by.clone(),
                    role: link.role.clone(),
                    act: link.act.clone(),
                    purpose: link.purpose.clone(),
                    chain: link.chain.clone(),
                    n: link.n,
                };
                let told = serde_json::to_vec(&access).map_err(|_| Refusal::Malformed)?;
                let key = access_key(seal, &link, day);
                changes.push(change(seal, person, PaperKind::Access, key, now, &told)?);
            }
            self.hash = hash(seal, &body, now.min(crate::paper::AT_MAX));
            self.links += 1;
            self.day = day;
        }
        Ok(changes)
    }
}

fn change(
    seal: &Seal,
    owner: Identity,
    kind: PaperKind,
    key: PaperKey,
    at: Time,
    body: &[u8],
) -> Result<Change, Refusal> {
    if body.len() > crate::seal::PLAIN_BYTES_MAX {
        return Err(Refusal::TooLarge);
    }
    // The service has ended: its key was destroyed.
    let paper = seal.paper(&owner, kind, key, at, body);
    let what = ChangeKind::Paper(paper.ok_or(Refusal::NotFound)?);
    Ok(Change { who: owner, what })
}

fn hash(seal: &Seal, body: &[u8], at: Time) -> String {
    let mut bytes = body.to_vec();
    bytes.extend_from_slice(&at.0.to_be_bytes());
    base32::text(&seal.link(&bytes))
}

/// Returns the owner of one partition of a day's links.
pub fn owner(seal: &Seal, day: u32, n: u64) -> Identity {
    seal.owner("audit", &print_day(day), (n % 16) as u8)
}

fn link_key(seal: &Seal, chain: &str, n: u64) -> PaperKey {
    seal.paper_key(&[b"audit", chain.as_bytes(), &n.to_be_bytes()])
}

/// A feed token and the source in its feeds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Feeder {
    /// The source that the token was made for.
    pub holder: String,
    /// The number of the token.
    pub token: u64,
    /// The source of the feed.
    pub source: String,
}

/// Counts of one token's feeds for one source since the last record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedCounts {
    /// Feeds.
    pub feeds: u64,
    /// Changes that changed something.
    pub applied: u64,
    /// Changes that changed nothing.
    pub unchanged: u64,
    /// Lines that were rejected.
    pub rejected: u64,
    /// Changes that set a resident red.
    pub reds: u64,
}

/// The audit log of a node: its chain, and counts that are not recorded yet.
pub struct Audit {
    /// The end of the chain. None before the first link, and while it is unknown which links were stored.
    end: Mutex<Option<ChainEnd>>,
    /// The last end that is known to be stored.
    kept: std::sync::Mutex<Option<ChainEnd>>,
    pub(super) remembered: moka::sync::Cache<PaperKey, ()>,
    feeds: std::sync::Mutex<HashMap<Feeder, FeedCounts>>,
    /// Links that this node wrote since its start.
    pub links: AtomicU64,
}

impl Default for Audit {
    fn default() -> Audit {
        Audit {
            end: Mutex::default(),
            kept: std::sync::Mutex::default(),
            remembered: moka::sync::Cache::new(REMEMBERED_MAX),
            feeds: std::sync::Mutex::default(),
            links: AtomicU64::new(0),
        }
    }
}

impl Audit {
    /// Records acts, except those that this node recorded on the same day. The persons' data may be shown only after it
    /// returns.
    ///
    /// # Errors
    ///
    /// `NotFound` if the key of the audit log was destroyed, and the refusals of [`StoreClient`].
    pub async fn file(
        &self,
        seal: &Seal,
        store_client: &StoreClient,
        now: Time,
        deeds: Vec<AuditedAct>,
    ) -> Result<(), Refusal> {
        let day = now.day();
        let deeds = deeds.into_iter().map(|deed| (deed.key(seal, day), deed));
        let new: Vec<(PaperKey, AuditedAct)> = deeds
            .filter(|(key, _)| !self.remembered.contains_key(key))
            .collect();
        for some in new.chunks(TOGETHER) {
            let (keys, deeds): (Vec<PaperKey>, Vec<AuditedAct>) = some.iter().cloned().unzip();
            self.append(seal, store_client, now, &deeds).await?;
            for key in keys {
                self.remembered.insert(key, ());
            }
        }
        Ok(())
    }

    async fn append(
        &self,
        seal: &Seal,
        store_client: &StoreClient,
        now: Time,
        deeds: &[AuditedAct],
    ) -> Result<(), Refusal> {
        let mut held = self.end.lock().await;
        // If this call fails or is dropped, it is unknown which links were stored: the next act begins another chain.
        let mut end = match held.take() {
            Some(end) => end,
            None => {
                self.tell_end("the chain of the audit log ended: the next link begins another");
                ChainEnd::begin(seal)
            }
        };
        let changes = end.append(seal, now, deeds)?;
        store_client.apply(changes).await?;
        self.links.fetch_add(deeds.len() as u64, Relaxed);
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(end.clone());
        *held = Some(end);
        Ok(())
    }

    /// Writes the end of this node's chain to the node's log, which an attacker on the store cannot change.
    pub fn tell_end(&self, what: &'static str) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(audit_end) = kept.as_ref() {
            tracing::info!(%audit_end, "{what}");
        }
    }

    /// Counts a feed of a token until [`Audit::file_feeds`] records it.
    pub fn count_feed(&self, mut feeder: Feeder, feed: FeedCounts) {
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        if feeds.len() >= FEEDERS_MAX && !feeds.contains_key(&feeder) {
            feeder.source = "others".to_owned();
        }
        let sum = feeds.entry(feeder).or_default();
        sum.feeds += feed.feeds;
        sum.applied += feed.applied;
        sum.unchanged += feed.unchanged;
        sum.rejected += feed.rejected;
        sum.reds += feed.reds;
    }

    /// Records the feeds since the last call. Feeds that cannot be recorded stay for the next one.
    ///
    /// # Errors
    ///
    /// `NotFound` if the key of the audit log was destroyed, and the refusals of [`StoreClient`].
    pub async fn file_feeds(
        &self,
        seal: &Seal,
        store_client: &StoreClient,
        now: Time,
    ) -> Result<(), Refusal> {
        let feeds = {
            let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *feeds)
        };
        let left = feeds.into_iter().collect();
        let mut waiting = PendingFeeds { audit: self, left };
        while !waiting.left.is_empty() {
            let some = waiting.left.len().min(TOGETHER);
            let deeds: Vec<AuditedAct> = waiting.left[..some].iter().map(fed).collect();
            self.append(seal, store_client, now, &deeds).await?;
            waiting.left.drain(..some);
        }
        Ok(())
    }
}

/// Feeds being recorded. On drop the remaining ones are counted again.
struct PendingFeeds<'a> {
    audit: &'a Audit,
    left: Vec<(Feeder, FeedCounts)>,
}

impl Drop for PendingFeeds<'_> {
    fn drop(&mut self) {
        for (feeder, sum) in self.left.drain(..) {
            self.audit.count_feed(feeder, sum);
        }
    }
}

fn fed((feeder, sum): &(Feeder, FeedCounts)) -> AuditedAct {
    let deed = AuditedAct::new(&feeder.holder, Role::Authority, Act::Feed.word());
    deed.detail(json!({
        "token": format!("{:016x}", feeder.token), "source": feeder.source, "feeds": sum.feeds,
        "applied": sum.applied, "unchanged": sum.unchanged, "rejected": sum.rejected, "reds": sum.reds,
    }))
}

/// Returns the changes that record the act of a command as a chain of its own, and its end. `person` is the person concerned,
/// `detail` further figures. None if the key of the audit log was destroyed.
pub fn of_command(
    seal: &Seal,
    act: &'static str,
    person: Option<Identity>,
    detail: Option<serde_json::Value>,
) -> Option<(Vec<Change>, ChainEnd)> {
    let deed = AuditedAct::new(&user(), Role::Operator, act);
    let deed = match person {
        Some(person) => deed.about(person),
        None => deed,
    };
    let deed = match detail {
        Some(detail) => deed.detail(detail),
        None => deed,
    };
    let mut end = ChainEnd::begin(seal);
    let changes = end.append(seal, Time::now(), &[deed]).ok()?;
    Some((changes, end))
}

/// Returns the system user who runs a command.
pub fn user() -> String {
    use std::os::unix::fs::MetadataExt;
    let of_process = std::fs::metadata("/proc/self");
    of_process.map_or("command".to_owned(), |process| {
        format!("uid-{}", process.uid())
    })
}

/// Parses the link in a paper; None if it cannot be opened.
pub fn read_link(seal: &Seal, owner: &Identity, paper: &Paper) -> Option<AuditLink> {
    let body = seal.open_paper(owner, paper)?;
    serde_json::from_slice(&body).ok()
}

/// Checks the audit log against itself and against the persons' papers, some papers at a time. Memory grows with the number of
/// chains, one for each start of a node, and of persons with missing papers.
pub struct ChainCheck<'s> {
    seal: &'s Seal,
    /// Papers older than this may have been swept.
    kept_from: Time,
    /// Ends that the log must contain.
    known_ends: Vec<ChainEnd>,
    chains: BTreeMap<String, Chain>,
    /// Number of links of each person whose papers are missing. This is right for erased persons.
    untold: HashMap<String, u64>,
    erased: std::collections::HashSet<String>,
    /// Number of looks.
    pub looks: u64,
    /// Number of acts.
    pub acts: u64,
}

/// What was read of a chain.
struct Chain {
    first: u64,
    met: u64,
    end: ChainEnd,
}

/// A paper that must exist: owner and key.
pub type ExpectedPaper = (Identity, PaperKey);

/// A finding, in one line.
pub type Finding = String;

impl<'s> ChainCheck<'s> {
    /// Returns a check that has read nothing yet. Links older than `kept_from` may be missing; each of `known_ends` must be
    /// found.
    pub fn new(seal: &'s Seal, kept_from: Time, known_ends: Vec<ChainEnd>) -> ChainCheck<'s> {
        ChainCheck {
            seal,
            kept_from,
            known_ends,
            chains: BTreeMap::new(),
            untold: HashMap::new(),
            erased: std::collections::HashSet::new(),
            looks: 0,
            acts: 0,
        }
    }

    /// Returns whether a paper of this time may have been swept. Looks of a day are swept within the day.
    fn may_be_swept(&self, at: Time) -> bool {
        at.0 < self.kept_from.0.saturating_add(DAY_MS)
    }

    /// Returns the papers that must exist beside a paper: for a link, the previous link and the person's paper; for a person's
    /// paper, the link.
    pub fn wants(&self, owner: &Identity, paper: &Paper) -> Vec<ExpectedPaper> {
        let Some(body) = self.seal.open_paper(owner, paper) else {
            return Vec::new();
        };
        let day = paper.at.day();
        if paper.kind == PaperKind::Access {
            let access = serde_json::from_slice::<Access>(&body).ok();
            let wanted = access.map(|access| {
                let key = link_key(self.seal, &access.chain, access.n);
                (self::owner(self.seal, day, access.n), key)
            });
            return wanted.into_iter().collect();
        }
        let Ok(link) = serde_json::from_slice::<AuditLink>(&body) else {
            return Vec::new();
        };
        let before = link.n.checked_sub(1);
        let before = before.map(|n| {
            let key = link_key(self.seal, &link.chain, n);
            (self::owner(self.seal, link.prev_day, n), key)
        });
        let person = read_who(&link.person).ok().filter(|_| link.told);
        let told = person.map(|person| (person, access_key(self.seal, &link, day)));
        before.into_iter().chain(told).collect()
    }

    /// Checks a paper against those that [`ChainCheck::wants`] named, in the same order. Returns all findings.
    pub fn judge(
        &mut self,
        owner: &Identity,
        paper: &Paper,
        mut found: impl Iterator<Item = Option<Paper>>,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        let unreadable = "a paper of the log cannot be opened: changed, or sealed by another ring";
        let Some(body) = self.seal.open_paper(owner, paper) else {
            return vec![unreadable.to_owned()];
        };
        if paper.kind == PaperKind::Access {
            match serde_json::from_slice::<Access>(&body) {
                Ok(Access { chain, n, .. }) => {
                    let link = found.next().flatten();
                    let link = link.filter(|link| link.kind == PaperKind::Audit);
                    if link.is_none() && !self.may_be_swept(paper.at) {
                        let why = "a person was told of it, and the log has lost it";
                        findings.push(format!("chain {chain}, link {n}: {why}"));
                    }
                }
                Err(_) => findings.push(unreadable.to_owned()),
            }
            return findings;
        }
        let Ok(link) = serde_json::from_slice::<AuditLink>(&body) else {
            return vec![unreadable.to_owned()];
        };
        let mut find = |why: &str| {
            findings.push(format!("chain {}, link {}: {why}", link.chain, link.n));
        };
        let day = paper.at.day();
        if *owner != self::owner(self.seal, day, link.n)
            || paper.key != link_key(self.seal, &link.chain, link.n)
        {
            find("it is not where it was put");
        }
        let own = hash(self.seal, &body, paper.at);
        match link.n {
            0 if link.prev != hash(self.seal, link.chain.as_bytes(), Time(0)) => {
                find("it does not follow the chain's beginning");
            }
            0 => {}
            _ => match found.next().flatten() {
                None if day_may_be_swept(link.prev_day, self.kept_from) => {}
                None => find("links before it are missing"),
                Some(before) => {
                    let place = self::owner(self.seal, link.prev_day, link.n - 1);
                    let body = self.seal.open_paper(&place, &before);
                    if body.is_none_or(|body| hash(self.seal, &body, before.at) != link.prev) {
                        find("it does not follow the link before it");
                    }
                }
            },
        }
        match link.told {
            true => self.looks += 1,
            false => self.acts += 1,
        }
        if link.act == ERASE {
            self.erased.insert(link.person.clone());
        }
        if link.told && read_who(&link.person).is_err() {
            find("it names nobody");
        } else if link.told {
            // A paper whose kind was edited is on no list that the person reads.
            let told = found.next().flatten();
            let told = told.filter(|told| told.kind == PaperKind::Access);
            if told.is_none() && !self.may_be_swept(paper.at) {
                *self.untold.entry(link.person.clone()).or_default() += 1;
            }
        }
        for known in &self.known_ends {
            if known.chain == link.chain && known.links == link.n + 1 && known.hash != own {
                find("it is not the end that was written down");
            }
        }
        let end = ChainEnd {
            chain: link.chain.clone(),
            links: link.n + 1,
            hash: own,
            day,
        };
        let chain = self.chains.entry(link.chain).or_insert_with(|| Chain {
            first: link.n,
            met: 0,
            end: end.clone(),
        });
        chain.first = chain.first.min(link.n);
        chain.met += 1;
        if end.links > chain.end.links {
            chain.end = end;
        }
        findings
    }

    /// Returns the findings about the whole log, after the last paper.
    pub fn finish(&mut self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (name, chain) in &self.chains {
            if chain.end.links - chain.first > chain.met {
                let missing = chain.end.links - chain.first - chain.met;
                findings.push(format!("chain {name}: {missing} links in it are missing"));
            }
        }
        for (person, links) in &self.untold {
            if !self.erased.contains(person) {
                findings.push(format!("person {person} was not told of {links} looks"));
            }
        }
        for known in &self.known_ends {
            let met = self
                .chains
                .get(&known.chain)
                .map_or(0, |chain| chain.end.links);
            if met < known.links && !day_may_be_swept(known.day, self.kept_from) {
                let links = known.links;
                findings.push(format!(
                    "chain {}: it ends after {met} links, and {links} were written down",
                    known.chain
                ));
            }
        }
        findings
    }

    /// Returns the end of each chain. Stored elsewhere, an end shows later whether links were cut off.
    pub fn ends(&self) -> impl Iterator<Item = &ChainEnd> {
        self.chains.values().map(|chain| &chain.end)
    }
}

/// Returns whether links of a day may have been swept.
fn day_may_be_swept(day: u32, kept_from: Time) -> bool {
    day <= kept_from
        .plus(std::time::Duration::from_millis(DAY_MS))
        .day()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_as_it_is_printed() {
        let end = ChainEnd {
            chain: base32::text(&[7; 16]),
            links: 12,
            hash: base32::text(&[9; 32]),
            day: 20_261_128,
        };
        assert_eq!(ChainEnd::parse(&end.to_string()), Some(end.clone()));
        for bad in [
            "",
            "a:1:b@2026-11-28",
            &end.to_string().replace(":12:", ":0:"),
        ] {
            assert_eq!(ChainEnd::parse(bad), None, "{bad}");
        }
    }
}
