//! `erase`: destroys the data of a person, or all papers of a service by destroying their key, and reports the proof.

use super::arguments::DocumentArgs;
use super::failure::{CommandResult, Failure};
use super::key_ring::ring;
use super::log::log;
use super::sources::{Sources, settings};
use super::stores::{must_exist, open_existing, runtime, started};
use super::terminal::{note, progress, say};
use crate::clock::Time;
use crate::config::{Settings, StoreSettings};
use crate::desk::audit;
use crate::desk::erasure::Copies;
use crate::desk::offline_code::{newest_of, revoking};
use crate::desk::revocation::ending_sessions;
use crate::paper::{PAGE_MAX, PaperKinds, PaperPurpose};
use crate::person::Document;
use crate::seal::Seal;
use crate::seal::base32;
use crate::seal::ring::{RingFile, RingLock};
use crate::status::Reasons;
use crate::store::embedded::rewrite::{find_in, rewrite};
use crate::store::{Change, ChangeKind, Store, embedded, redis};
use anyhow::anyhow;
use clap::{Args, Subcommand};
use std::process::ExitCode;

/// Destroy the data of a person, or all papers of a service
#[derive(Args)]
pub struct Erase {
    #[command(subcommand)]
    what: EraseAction,
}

#[derive(Subcommand)]
enum EraseAction {
    /// All papers of one person, and the name and number
    ///
    /// Refused while a reason is active: a red is never lost. Grants, memberships and sessions end, and lists of others (rosters, entries
    /// of a day, appeals, families) lose what they have of the person. A keyed hash with the sequence numbers of sources stays,
    /// so that an older message restores nothing, and so does the audit log. Then the store's files are rewritten, so that
    /// nothing can be read from free pages or logs of Redis; an embedded store needs space for a second file of the same size.
    /// The type `registration` means the number of a registration by staff.
    Person {
        #[command(flatten)]
        sources: Sources,
        #[command(flatten)]
        whom: DocumentArgs,
        /// Do not rewrite the files now: for several persons, with one `erase traces` at the end
        #[arg(long)]
        later: bool,
    },
    /// Rewrite the store's files, so that nothing that was erased or swept is left in free pages or logs
    Traces(Sources),
    /// The key of a service's papers: everything sealed with it becomes unreadable, in every copy and backup too
    ///
    /// Copies of the key ring hold the key as well: give every node the new file (SIGHUP), and destroy the old ones.
    Service {
        #[command(flatten)]
        sources: Sources,
        /// health, trips, declarations, family, grants, audit, registration, appeals
        #[arg(long, value_name = "NAME", value_parser = purpose)]
        name: PaperPurpose,
    },
}

fn purpose(text: &str) -> Result<PaperPurpose, String> {
    let services = || {
        PaperPurpose::ALL
            .into_iter()
            .filter(|purpose| purpose.may_end())
    };
    services()
        .find(|purpose| purpose.word() == text)
        .ok_or_else(|| {
            let words: Vec<&str> = services().map(PaperPurpose::word).collect();
            format!("a service is one of {}", words.join(", "))
        })
}

impl Erase {
    pub fn run(self) -> CommandResult {
        match self.what {
            EraseAction::Person {
                sources,
                whom,
                later,
            } => person(&sources, &whom, later),
            EraseAction::Traces(sources) => traces(&sources),
            EraseAction::Service { sources, name } => service(&sources, name),
        }
    }
}

fn service(sources: &Sources, name: PaperPurpose) -> CommandResult {
    let path = settings(sources.raw())?.keys;
    let lock = RingLock::of(&path)?;
    let mut file = lock.read()?;
    if let Some(at) = file.destroyed(name) {
        return Err(anyhow!("the key of {} was destroyed at {at}", name.word()).into());
    }
    let now = Time::now();
    if !file.destroy(name, now) {
        return Err(anyhow!(
            "this key ring was made before services had keys of their own: its papers are sealed by a key made of `rest`, which also seals names"
        )
        .into());
    }
    file.replace(&lock)?;
    let seal = Seal::new(&RingFile::read(&path)?, settings(sources.raw())?.seal);
    let erased = serde_json::json!({
        "erased": "service", "name": name.word(), "at": now.to_string(),
        "papers": "sealed by a key that was destroyed",
    });
    say(&signed(&seal, erased))?;
    note("SIGHUP makes a running node read the ring; destroy every copy of the old one");
    Ok(ExitCode::SUCCESS)
}

fn person(sources: &Sources, whom: &DocumentArgs, later: bool) -> CommandResult {
    let settings = settings(sources.raw())?;
    log(&settings.log, settings.log_format)?;
    must_exist(&settings)?;
    let ring = ring(&settings)?;
    let seal = Seal::new(&ring, settings.seal.clone());
    let now = Time::now();
    let document = document(whom, now)?;
    let runtime = runtime()?;
    let erased = runtime.block_on(async {
        let store = started(open_existing(&settings, &seal).await?, &settings);
        let erased = erase(&*store, &seal, &document, now).await;
        store.close().await;
        erased
    })?;
    let mut report = serde_json::json!({
        "erased": "person", "cert_no": document.mask().print(), "at": now.to_string(),
        "papers": erased.papers, "on_lists": erased.on_lists, "profile": erased.profile,
        "found_afterwards": 0,
    });
    if erased.unread > 0 {
        report["not_followed"] = erased.unread.into();
    }
    let traces = match later {
        true => serde_json::json!("until `erase traces`"),
        false => remove_traces(&runtime, &settings, &seal, &erased.needles)?,
    };
    report["traces"] = traces;
    say(&signed(&seal, report))?;
    Ok(ExitCode::SUCCESS)
}

/// What was erased of a person.
struct Erased {
    papers: usize,
    /// Papers removed from lists of others.
    on_lists: u64,
    profile: bool,
    /// Papers that could not be opened, so that their copies on lists of others are unknown.
    unread: usize,
    /// Sealed bytes of the person, to search for in the store's file.
    needles: Vec<Vec<u8>>,
}

/// Returns the document of a person, or the number of a registration.
fn document(whom: &DocumentArgs, now: Time) -> anyhow::Result<Document> {
    match &*whom.cert_type {
        "registration" => Document::registration(&whom.cert_no)
            .map_err(|_| anyhow!("--cert-no: is not the number of a registration")),
        _ => whom.document(now),
    }
}

async fn erase(
    store: &dyn Store,
    seal: &Seal,
    document: &Document,
    now: Time,
) -> Result<Erased, Failure> {
    let who = seal.identify(document);
    let placed = store.find(who).await?;
    if placed
        .as_ref()
        .is_some_and(|placed| placed.record.reasons() != Reasons::NONE)
    {
        return Err(Failure::Other(anyhow!(
            "a reason is active: it must be cleared by its source before the person can be erased"
        )));
    }
    let (mut papers, mut copies, mut needles) = (0, Copies::default(), Vec::new());
    let mut after = None;
    loop {
        let page = store.papers(who, PaperKinds::ALL, after, PAGE_MAX).await?;
        papers += page.len();
        copies.add(seal, &who, &page, now);
        needles.extend(page.iter().map(|paper| paper.body.to_vec()));
        match page.last() {
            Some(last) => after = Some(last.cursor()),
            None => break,
        }
    }
    copies.add_registrations(store, seal, document).await?;
    if let Some(placed) = &placed {
        needles.push(placed.record.profile.to_vec());
    }
    let newest = newest_of(store, seal, who).await?;
    if let Some((deed, end)) = audit::of_command(seal, audit::ERASE, Some(who), None) {
        store.apply(deed).await?;
        tracing::info!(audit_end = %end, "the erasure is recorded in the audit log, and begins");
    }
    if let Some(placed) = &placed {
        // Offline codes of the person are revoked on the list that nodes read. This comes first, so that an interrupted erasure
        // leaves no valid code.
        let generation = newest.map_or(0, |newest| newest.saturating_add(1));
        let [listed, _own] = revoking(seal, who, placed.id, generation, now)
            .ok_or_else(|| Failure::Other(anyhow!("the key of revocations was destroyed")))?;
        store.apply(vec![listed]).await?;
    }
    // With a session more could be filed for the person.
    let sessions = ending_sessions(seal, &who, now)
        .map_err(|_| Failure::Other(anyhow!("the key of revocations was destroyed")))?;
    store.apply(vec![sessions]).await?;
    // Grants and memberships end before the papers about them are removed.
    store.apply(copies.ends).await?;
    let mut on_lists = 0;
    for (owner, keys) in &copies.lists {
        let there = store.some(*owner, keys).await?;
        needles.extend(there.into_iter().flatten().map(|paper| paper.body.to_vec()));
        on_lists += store.remove(*owner, keys).await?;
    }
    let what = ChangeKind::Erase;
    store.apply(vec![Change { who, what }]).await?;
    // The proof is what is found afterwards.
    let mut left = store.papers(who, PaperKinds::ALL, None, 1).await?.len();
    for (owner, keys) in &copies.lists {
        left += store.some(*owner, keys).await?.iter().flatten().count();
    }
    let has_profile = store
        .find(who)
        .await?
        .is_some_and(|placed| !placed.record.profile.is_empty());
    if left > 0 || has_profile {
        return Err(Failure::Other(anyhow!(
            "some data of the person is still in the store: run the command again"
        )));
    }
    Ok(Erased {
        papers,
        on_lists,
        profile: placed.is_some(),
        unread: copies.unread,
        needles,
    })
}

/// Rewrites the files of the store, so that erased data is not left in them, and searches them.
fn remove_traces(
    runtime: &tokio::runtime::Runtime,
    settings: &Settings,
    seal: &Seal,
    needles: &[Vec<u8>],
) -> Result<serde_json::Value, Failure> {
    match &settings.store {
        StoreSettings::Embedded(folder) => {
            let bar = progress(None, "rows rewritten", false);
            let store = embedded::Settings {
                cache_bytes: settings.store_cache_bytes,
                ..embedded::Settings::new(folder.clone())
            };
            rewrite(&store, &|rows| bar.inc(rows))?;
            bar.finish_and_clear();
            let found = find_in(folder, needles).map_err(|error| anyhow!("{error}"))?;
            if found > 0 {
                return Err(Failure::Other(anyhow!(
                    "{found} sealed papers of the person are still in the file: run `erase traces`"
                )));
            }
            Ok(
                serde_json::json!({ "file": "written anew", "looked_for": needles.len(), "found": 0 }),
            )
        }
        StoreSettings::Redis(store) => {
            let store = (**store).clone();
            let (mark, tags) = (seal.mark(), seal.status_tags());
            let servers = runtime.block_on(async {
                let opened = redis::OpenedRedis::open(store, mark, tags).await?;
                opened.rewrite_logs().await
            })?;
            Ok(serde_json::json!({ "append_only_files": "written anew", "servers": servers }))
        }
    }
}

fn traces(sources: &Sources) -> CommandResult {
    let settings = settings(sources.raw())?;
    log(&settings.log, settings.log_format)?;
    must_exist(&settings)?;
    let seal = Seal::new(&ring(&settings)?, settings.seal.clone());
    let runtime = runtime()?;
    // A store of another ring is refused before its file is rewritten.
    drop(runtime.block_on(open_existing(&settings, &seal))?);
    let done = remove_traces(&runtime, &settings, &seal, &[])?;
    let at = Time::now().to_string();
    let report = serde_json::json!({ "erased": "traces", "at": at, "traces": done });
    say(&signed(&seal, report))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the report with a keyed hash of itself, which a holder of the ring can check.
fn signed(seal: &Seal, mut report: serde_json::Value) -> String {
    let proof = base32::text(&seal.link(report.to_string().as_bytes()));
    report["proof"] = proof.into();
    report.to_string()
}
