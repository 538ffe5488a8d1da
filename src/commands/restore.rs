//! `restore`: creates a store from a backup, reports what it lacks, and accepts it.

use super::backup::read_back;
use super::failure::{CommandResult, Failure};
use super::sources::{Sources, settings};
use super::stores::{must_exist, open_embedded, runtime};
use super::terminal::{note, say};
use super::token_register::TokenRegister;
use crate::board::Board;
use crate::clock::Time;
use crate::config::Settings;
use crate::desk::revocation;
use crate::paper::{PaperKind, PaperKinds};
use crate::seal::Seal;
use crate::seal::ring::{RingFile, TokenKind};
use crate::store::Store;
use crate::store::embedded::backup;
use crate::store::embedded::{self, OpenedEmbedded};
use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::{Value, json};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Create an embedded store from a backup, report what it lacks, and accept it
///
/// A restored store answers nothing until it is accepted: what came after the backup is not in it, and may be a red. A node
/// over it is not ready (`restored`) and takes feeds. So: `restore FILE`, start the node, have every authority send again what
/// came after the backup, revoke again what `--check` lists, stop the node, `restore --accept`, start it. The key ring must be
/// the one of the backup.
#[derive(Args)]
pub struct Restore {
    #[command(flatten)]
    sources: Sources,
    /// The backup to restore into the directory of --store, which must have no store; with --check it is only read
    #[arg(value_name = "FILE", required_unless_present_any = ["check", "accept"], conflicts_with = "accept")]
    file: Option<PathBuf>,
    /// Report up to when a store or backup is complete, and what it lacks
    #[arg(long, conflicts_with = "accept")]
    check: bool,
    /// Accept the store as it is, from the next start on
    #[arg(long)]
    accept: bool,
}

impl Restore {
    pub fn run(self) -> CommandResult {
        let settings = settings(self.sources.raw())?;
        let Some(folder) = settings.store.folder().map(Path::to_owned) else {
            return Err(
                anyhow!("a store in Redis is restored by Redis (docs/operate/backup.md)").into(),
            );
        };
        if let (Some(file), true) = (&self.file, self.check) {
            let summary = read_back(file)?;
            let said = json!({
                "backup": file.display().to_string(), "is_whole": true,
                "begun_at": Time(summary.head.begun_at).to_string(), "residents": summary.residents,
                "papers": summary.papers, "bytes": summary.bytes,
            });
            say(&said.to_string())?;
            return Ok(ExitCode::SUCCESS);
        }
        // Never a new ring: it could not read what another one sealed.
        let ring = RingFile::read(&settings.keys)?;
        let seal = Seal::new(&ring, settings.seal.clone());
        if let Some(file) = &self.file {
            let opened = File::open(file).with_context(|| file.display().to_string())?;
            let store = embedded::Settings {
                cache_bytes: settings.store_cache_bytes,
                ..embedded::Settings::new(folder.clone())
            };
            let reader = BufReader::with_capacity(1 << 20, opened);
            backup::restore(&store, seal.mark(), reader, false)
                .with_context(|| format!("the backup {}", file.display()))?;
            note("restored, and not believed yet: docs/operate/backup.md has what comes next");
        } else {
            must_exist(&settings)?;
        }
        if self.accept {
            let store = open_embedded(&folder, &seal, settings.store_cache_bytes)?;
            let was = store.disbelief()?;
            store.accept()?;
            let why = was.map(|why| why.to_string());
            let said = json!({ "accepted": folder.display().to_string(), "was": why });
            say(&said.to_string())?;
            return Ok(ExitCode::SUCCESS);
        }
        let store = open_embedded(&folder, &seal, settings.store_cache_bytes)?;
        say(&report(store, &seal, &settings)?.to_string())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Reports up to when a store is complete, and what it is known to lack.
fn report(store: OpenedEmbedded, seal: &Seal, settings: &Settings) -> Result<Value, Failure> {
    let disbelief = store.disbelief()?;
    let (mut residents, mut not_green, mut newest) = (0u64, 0u64, 0);
    store.each_word(&mut |word| {
        residents += 1;
        not_green += u64::from(word.reasons().bits() != 0);
        newest = newest.max(word.version());
    })?;
    let mut papers = serde_json::Map::new();
    let (mut audited, mut listed) = (Time(0), Time(0));
    let all = PaperKinds::ALL.without(&[]);
    store.each_paper(all, |_, paper| {
        let count = papers.entry(paper.kind.word()).or_insert_with(|| 0.into());
        *count = (count.as_u64().unwrap_or(0) + 1).into();
        match paper.kind {
            PaperKind::Audit => audited = audited.max(paper.at),
            PaperKind::ListHead => listed = listed.max(paper.at),
            _ => {}
        }
        Ok(())
    })?;
    let missing = revocations_missing(store, seal, settings)?;
    let told = |at: Time| (at > Time(0)).then(|| at.to_string());
    Ok(json!({
        "store": settings.store.folder().map(|folder| folder.display().to_string()),
        "believed": disbelief.is_none(),
        "why": disbelief.map(|why| why.to_string()),
        "residents": residents,
        "not_green": not_green,
        "newest_change": told(Time(newest)),
        "newest_audit": told(audited),
        "newest_status_list": told(listed),
        "papers": papers,
        "revocations_missing": missing,
    }))
}

/// Returns the revocations that the register of tokens has and the store lacks.
fn revocations_missing(
    store: OpenedEmbedded,
    seal: &Seal,
    settings: &Settings,
) -> Result<Vec<Value>, Failure> {
    let register = TokenRegister::beside(&settings.keys);
    let contents = register
        .read()
        .with_context(|| register.path().display().to_string())?;
    let runtime = runtime()?;
    runtime.block_on(async {
        let board = Arc::new(Board::new(0, settings.board.clone()));
        let store = store.start(board, Arc::default());
        let read = revocation::refresh(&store, seal, true).await;
        store.close().await;
        read
    })?;
    let mut missing = Vec::new();
    for revoked in &contents.revoked {
        let is_known = match (&revoked.number, &revoked.role, &revoked.name) {
            (Some(number), _, _) => {
                let number = revocation::parse_number(number);
                number.is_none_or(|number| seal.revoked.admits(number, Time(0)).is_err())
            }
            (None, Some(role), Some(name)) => {
                let kind = revocation::kind_of(role).unwrap_or(TokenKind::Scanner);
                let held = || Some(name.as_str());
                // For a token that was made at the time of the revocation.
                let at = crate::feed::parse_time(&revoked.revoked_at).unwrap_or(Time(0));
                seal.revoked.admits_token(kind, 0, at, held).is_err()
            }
            _ => true,
        };
        if !is_known {
            missing.push(json!(revoked));
        }
    }
    Ok(missing)
}
