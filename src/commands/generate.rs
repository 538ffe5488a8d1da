//! `generate`: manual pages and completions, for packages.

use super::failure::CommandResult;
use clap::{Args, Command};
use clap_complete::Shell;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write manual pages and completions into a directory
#[derive(Args)]
pub struct Generate {
    /// It gets the folders man and completions
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Generate {
    /// Runs the command; `whole` is the command line that is described.
    pub fn run(self, whole: Command) -> CommandResult {
        let (man, completions) = (self.folder.join("man"), self.folder.join("completions"));
        for folder in [&man, &completions] {
            std::fs::create_dir_all(folder)
                .map_err(|error| anyhow::anyhow!("{}: {error}", folder.display()))?;
        }
        clap_mangen::generate_to(whole.clone(), &man)?;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut whole.clone(), "liangma", &completions)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
