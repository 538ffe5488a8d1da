//! `export`: writes everything on record as feed lines for an import elsewhere. Papers stay sealed and need the same key ring.

use super::backup::ScratchStore;
use super::failure::{CommandResult, Failure, REJECTED};
use super::key_ring::ring;
use super::log::log;
use super::node_client::RemoteArgs;
use super::output::Output;
use super::sources::{Sources, settings};
use super::stores::{StoreHandle, must_exist, open_existing, runtime, started};
use super::terminal::note;
use crate::config::Settings;
use crate::desk::audit;
use crate::feed;
use crate::paper::{Paper, PaperKind, PaperKinds};
use crate::person::{CertType, Identity, ResidentId};
use crate::private_file;
use crate::seal::Seal;
use crate::seal::ring::RingFile;
use crate::store::Error;
use crate::store::record::Record;
use clap::Args;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Write every resident and every status on record as NDJSON, as import takes it
///
/// Cleared statuses are written too: without them an older message could set them again. The lines hold names and numbers in
/// clear; a file is readable by its owner only. For erased persons, the last assertion of each source is written without name and number. Damaged
/// records are left out and counted; the exit code is then 3. Papers (health information, declarations, members, grants, the audit log) are
/// written sealed: import them where the same key ring is.
#[derive(Args)]
pub struct Export {
    #[command(flatten)]
    sources: Sources,
    /// The file to write, which must not exist yet [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Operations door of a running node, instead of a store that no node has open; needs an operator's token. The store is
    /// first copied into the folder for temporary files
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Export {
    pub fn run(self) -> CommandResult {
        let settings = settings(self.sources.raw())?;
        log(&settings.log, settings.log_format)?;
        let runtime = runtime()?;
        let (seal, _scratch, store) = match &self.from {
            // The node has recorded that its store was read.
            Some(from) => {
                let ring = RingFile::read(&settings.keys)?;
                let seal = Seal::new(&ring, settings.seal.clone());
                let (scratch, store) = ScratchStore::copy(&self.remote, from, &settings, &seal)?;
                (seal, Some(scratch), store)
            }
            None => {
                must_exist(&settings)?;
                let ring = ring(&settings)?;
                let seal = Seal::new(&ring, settings.seal.clone());
                runtime.block_on(record(&settings, &seal))?;
                let store = runtime.block_on(open_existing(&settings, &seal))?;
                (seal, None, store)
            }
        };
        let mut out: Box<dyn Write> = match &self.out {
            None => Box::new(BufWriter::new(Output::lock())),
            Some(path) => {
                let file = private_file::create_new(path)
                    .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
                Box::new(BufWriter::new(file))
            }
        };
        let mut failed = None;
        let each = |id, record| {
            let written = write(&mut out, &seal, id, &record);
            written.map_err(|error| {
                failed = Some(error);
                Error::Closed
            })
        };
        let done = match &store {
            StoreHandle::Embedded(store) => store.each(each),
            StoreHandle::Redis(store) => runtime.block_on(store.each(each)),
        };
        let mut damaged = match failed {
            Some(error) => return Err(error),
            None => done?,
        };
        let mut failed = None;
        let each = |owner, paper: Paper| {
            // The export is recorded in the store it reads, so each export of that store is the same.
            let link = (paper.kind == PaperKind::Audit)
                .then(|| audit::read_link(&seal, &owner, &paper))
                .flatten();
            if link.is_some_and(|link| link.act == audit::EXPORT) {
                return Ok(());
            }
            let written = writeln!(out, "{}", feed::paper_line(&owner, &paper));
            written.map_err(|error| {
                failed = Some(error);
                Error::Closed
            })
        };
        let kinds = PaperKinds::ALL.without(&PaperKind::MADE_AGAIN);
        let done = match &store {
            StoreHandle::Embedded(store) => store.each_paper(kinds, each),
            StoreHandle::Redis(store) => runtime.block_on(store.each_paper(kinds, each)),
        };
        damaged += match failed {
            Some(error) => return Err(error.into()),
            None => done?,
        };
        out.flush()?;
        if damaged == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        note(&format!(
            "{damaged} records are not as they were written, and are left out: keep a copy of the store as it is, and look at the disk and at who had access"
        ));
        Ok(ExitCode::from(REJECTED))
    }
}

/// Records the export in the audit log before anything is written.
async fn record(settings: &Settings, seal: &Seal) -> Result<(), Failure> {
    let Some((deed, end)) = audit::of_command(seal, audit::EXPORT, None, None) else {
        return Ok(());
    };
    let store = started(open_existing(settings, seal).await?, settings);
    let filed = store.apply(deed).await;
    store.close().await;
    filed?;
    tracing::info!(audit_end = %end, "the export is recorded in the audit log, and begins");
    Ok(())
}

fn write(out: &mut dyn Write, seal: &Seal, id: ResidentId, record: &Record) -> Result<(), Failure> {
    // The home is not needed to open a profile: the claim is.
    let who = Identity {
        home: id,
        claim: record.claim,
    };
    // A person who was erased has neither name nor number.
    if record.profile.is_empty() {
        for said in &record.assertions {
            writeln!(out, "{}", feed::erased_line(seal, &who, said))?;
        }
        return Ok(());
    }
    let profile = seal
        .open_profile(&who, &record.profile)
        .ok_or(Error::Damaged("a profile"))?;
    let document = &profile.document;
    let told = |mut line: serde_json::Value| {
        match document.cert_type() {
            CertType::Registration => line["registration"] = document.number().into(),
            cert_type => {
                line["cert_type"] = cert_type.code().into();
                line["cert_no"] = document.number().into();
            }
        }
        line
    };
    if let Some(name) = profile.name {
        let line = told(serde_json::json!({
            "event": "resident", "name": name, "assurance": profile.assurance.word(),
        }));
        writeln!(out, "{line}")?;
    }
    for standing in &record.assertions {
        let mut line = told(serde_json::json!({
            "event": "status", "reason": standing.reason.word(),
            "action": if standing.active { "set" } else { "clear" },
            "at": standing.at.to_string(), "source": standing.source, "seq": standing.seq,
        }));
        if let Some(day) = standing.until {
            line["until"] = crate::clock::print_day(day).into();
        }
        if let Some(region) = standing.region {
            line["region"] = format!("{region:06}").into();
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}
