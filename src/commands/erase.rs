//! `erase`: destroys what is kept of a person, or all papers of a service by destroying their key, and says what is proof of it.

use super::{
    CommandResult, DocumentArgs, Failure, Sources, log, must_exist, note, open_existing, ring,
    runtime, say, settings, started,
};
use crate::clock::Time;
use crate::desk::audit;
use crate::desk::offline_code::{newest_of, revoking};
use crate::paper::{PaperKinds, PaperPurpose};
use crate::seal::Seal;
use crate::seal::base32;
use crate::seal::ring::RingFile;
use crate::status::Reasons;
use crate::store::{Change, ChangeKind};
use anyhow::anyhow;
use clap::{Args, Subcommand};
use std::process::ExitCode;

/// Destroy what is kept of a person, or a whole service's papers
#[derive(Args)]
pub struct Erase {
    #[command(subcommand)]
    what: EraseAction,
}

#[derive(Subcommand)]
enum EraseAction {
    /// All papers of one person, and the name and number
    ///
    /// Refused while any reason is active: a red is never lost. What stays is a keyed hash with the numbers of sources, so that an
    /// older message brings nothing back; and on lists of others (rosters, entries of a day) the masked name until they are
    /// swept.
    Person {
        #[command(flatten)]
        sources: Sources,
        #[command(flatten)]
        whom: DocumentArgs,
    },
    /// The key of a service's papers: all that it sealed is rubbish from then on, in every copy and backup
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
            EraseAction::Person { sources, whom } => person(&sources, &whom),
            EraseAction::Service { sources, name } => service(&sources, name),
        }
    }
}

fn service(sources: &Sources, name: PaperPurpose) -> CommandResult {
    let path = settings(sources.raw())?.keys;
    let mut file = RingFile::read(&path)?;
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
    file.replace(&path)?;
    let seal = Seal::new(&RingFile::read(&path)?, settings(sources.raw())?.seal);
    let erased = serde_json::json!({
        "erased": "service", "name": name.word(), "at": now.to_string(),
        "papers": "sealed by a key that is no more",
    });
    say(&report(&seal, erased))?;
    note("SIGHUP makes a running node read the ring; destroy every copy of the old one");
    Ok(ExitCode::SUCCESS)
}

fn person(sources: &Sources, whom: &DocumentArgs) -> CommandResult {
    let settings = settings(sources.raw())?;
    log(&settings.log)?;
    must_exist(&settings)?;
    let ring = ring(&settings)?;
    let seal = Seal::new(&ring, settings.seal.clone());
    let now = Time::now();
    let document = whom.document(now)?;
    let who = seal.identify(&document);
    runtime()?.block_on(async {
        let store = started(open_existing(&settings, &seal).await?, &settings);
        let placed = store.find(who).await?;
        let red = placed.as_ref().is_some_and(|placed| placed.record.reasons() != Reasons::NONE);
        if red {
            store.close().await;
            return Err(Failure::Other(anyhow!(
                "a reason is active: it must be cleared by its source before the person can be erased"
            )));
        }
        let mut papers = 0;
        let mut after = None;
        loop {
            let page = store.papers(who, PaperKinds::ALL, after, crate::paper::PAGE_MAX).await?;
            papers += page.len();
            match page.last() {
                Some(last) => after = Some(last.cursor()),
                None => break,
            }
        }
        let newest = newest_of(&*store, &seal, who).await?;
        if let Some((deed, end)) = audit::of_command(&seal, audit::ERASE, Some(who)) {
            store.apply(deed).await?;
            tracing::info!(audit_end = %end, "the erasure is in the audit log");
        }
        let what = ChangeKind::Erase;
        store.apply(vec![Change { who, what }]).await?;
        if let Some(placed) = &placed {
            // What the person saved or printed is good no more, on the list that nodes read and nowhere else.
            let generation = newest.map_or(0, |newest| newest.saturating_add(1));
            let [listed, _own] = revoking(&seal, who, placed.id, generation, now)
                .ok_or_else(|| Failure::Other(anyhow!("the papers of revocations have no key")))?;
            store.apply(vec![listed]).await?;
        }
        // Proof is what is found afterwards, not what was ordered.
        let left = store.papers(who, PaperKinds::ALL, None, 1).await?.len();
        let profile = store.find(who).await?.is_some_and(|placed| !placed.record.profile.is_empty());
        store.close().await;
        if left > 0 || profile {
            return Err(Failure::Other(anyhow!("something is still there: run it again")));
        }
        let erased = serde_json::json!({
            "erased": "person", "cert_no": document.mask().print(), "at": now.to_string(),
            "papers": papers, "profile": placed.is_some(), "found_afterwards": 0,
        });
        say(&report(&seal, erased))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The report with a keyed hash of itself: whoever holds the ring can tell that it was written here.
fn report(seal: &Seal, mut report: serde_json::Value) -> String {
    let proof = base32::text(&seal.link(report.to_string().as_bytes()));
    report["proof"] = proof.into();
    report.to_string()
}
