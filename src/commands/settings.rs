//! `settings`: prints every setting with its default, bounds, unit and meaning.

use super::failure::CommandResult;
use super::terminal::say;
use crate::config::listing;
use clap::Args;
use std::process::ExitCode;

/// Print every setting: default, bounds, unit, meaning
///
/// `liangma serve --check` checks the settings in use.
#[derive(Args)]
pub struct SettingsCommand {
    /// As the table of the documentation
    #[arg(long, conflicts_with = "toml")]
    markdown: bool,
    /// As a file for --config, with every setting in a comment
    #[arg(long)]
    toml: bool,
}

impl SettingsCommand {
    pub fn run(self) -> CommandResult {
        let page = match (self.markdown, self.toml) {
            (true, _) => listing::markdown(),
            (_, true) => listing::toml(),
            _ => listing::text(),
        };
        say(page.trim_end())?;
        Ok(ExitCode::SUCCESS)
    }
}
