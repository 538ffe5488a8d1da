//! `synth`: a synthetic province as feed lines.

use super::failure::CommandResult;
use super::output::Output;
use super::terminal::{note, progress};
use crate::synth::{RESIDENTS_MAX, Town};
use clap::Args;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Generate a synthetic province: residents with valid documents, one in two hundred of them red
///
/// The same seed gives the same province. No person in it is real.
#[derive(Args)]
pub struct Synth {
    /// Number of residents
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=RESIDENTS_MAX))]
    residents: u64,
    /// Seed of the province
    #[arg(long, value_name = "S")]
    seed: u64,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Synth {
    pub fn run(self) -> CommandResult {
        let town = Town {
            residents: self.residents,
            seed: self.seed,
        };
        let started = Instant::now();
        let mut out: Box<dyn Write> = match &self.out {
            None => Box::new(Output::lock()),
            Some(path) => Box::new(
                File::create(path)
                    .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?,
            ),
        };
        let bar = progress(Some(self.residents), "residents", false);
        town.write(&mut BufWriter::with_capacity(1 << 20, &mut out), |done| {
            bar.set_position(done);
        })?;
        bar.finish_and_clear();
        out.flush()?;
        let seconds = started.elapsed().as_secs_f64();
        note(&format!(
            "{} residents in {seconds:.1} s, {:.0} a second",
            self.residents,
            self.residents as f64 / seconds.max(0.001)
        ));
        Ok(ExitCode::SUCCESS)
    }
}
