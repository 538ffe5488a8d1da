//! `audit`: the log of privileged looks at persons, held against itself and written out.

use super::{Opened, Outcome, Sources, log, must_exist, open_existing, ring, runtime, settings};
use crate::clock::Time;
use crate::desk::audit::Log;
use crate::paper::Kinds;
use crate::seal::Seal;
use clap::{Args, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Verify or list the log of privileged looks at persons
#[derive(Args)]
pub struct Audit {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Hold every link against the one before it, and the log against what persons were told
    ///
    /// Prints the end of each chain: written down elsewhere, it tells later whether an end was cut off. Exits 1 if anything is not
    /// as it was written.
    Verify(Sources),
    /// Write every look as NDJSON, the oldest first: who, in what role, what, why; persons as keyed hashes
    List(Sources),
}

impl Audit {
    pub fn run(self) -> Outcome {
        let (sources, verifies) = match &self.what {
            What::Verify(sources) => (sources, true),
            What::List(sources) => (sources, false),
        };
        let settings = settings(sources.said())?;
        log(&settings.log)?;
        must_exist(&settings)?;
        let ring = ring(&settings)?;
        let seal = Seal::new(&ring, settings.seal.clone());
        let runtime = runtime()?;
        let store = runtime.block_on(open_existing(&settings, &seal))?;
        let mut gathered = Log::default();
        let each = |owner, paper| {
            gathered.take(&seal, &owner, &paper);
            Ok(())
        };
        match &store {
            Opened::Embedded(store) => store.each_paper(Kinds::ALL, each)?,
            Opened::Redis(store) => runtime.block_on(store.each_paper(Kinds::ALL, each))?,
        }
        let mut out = std::io::stdout().lock();
        if !verifies {
            for (at, link) in gathered.links() {
                let mut line = serde_json::json!(link);
                line["at"] = at.to_string().into();
                writeln!(out, "{line}")?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let kept = settings.keep.of(crate::paper::Kind::Audit);
        let kept_from = Time(Time::now().0.saturating_sub(kept.as_millis() as u64));
        let findings = gathered.verify(&seal, kept_from);
        for (chain, links, end) in gathered.ends() {
            writeln!(out, "chain {chain}: {links} links, the last is {end}")?;
        }
        for finding in &findings {
            writeln!(
                out,
                "chain {}, link {}: {}",
                finding.chain, finding.n, finding.why
            )?;
        }
        let looks = gathered.len();
        Ok(match findings.is_empty() {
            true => {
                writeln!(out, "{looks} looks, all as they were written")?;
                ExitCode::SUCCESS
            }
            false => {
                writeln!(out, "{looks} looks, {} findings", findings.len())?;
                ExitCode::FAILURE
            }
        })
    }
}
