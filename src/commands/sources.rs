//! Where the settings of a command come from, and what they are.

use super::failure::Failure;
use super::terminal::note;
use crate::config::{RawSettings, Settings};
use clap::Args;
use std::path::PathBuf;

/// Sources of settings, the same for every command that needs a store or its key ring.
#[derive(Args)]
pub(super) struct Sources {
    /// Directory of the embedded store, or an address of Redis: redis://HOST, rediss://HOST,
    /// redis+sentinel://HOST,HOST,HOST/NAME, redis+cluster://HOST,HOST,… [default: ./liangma-data]
    #[arg(long, value_name = "DIR|URL")]
    pub(super) store: Option<String>,
    /// The key ring [default: keys in the store's directory; required with Redis]
    #[arg(long, value_name = "FILE")]
    pub(super) keys: Option<String>,
    /// Settings, as TOML; docs/operate/settings.md lists them all
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// How long a command other than `serve` waits for an unreachable Redis [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub(super) wait: Option<String>,
    /// Any setting by its name; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(super) pairs: Vec<String>,
}

impl Sources {
    /// Collects the settings of all sources.
    pub(super) fn raw(&self) -> RawSettings {
        let mut raw = RawSettings::default();
        if let Some(path) = &self.config {
            raw.load_file(path);
        }
        raw.load_environment(std::env::vars_os());
        for pair in &self.pairs {
            raw.set_pair(pair);
        }
        let flags = [
            ("store", "--store", &self.store),
            ("key_ring", "--keys", &self.keys),
            ("command_store_timeout", "--wait", &self.wait),
        ];
        for (name, flag, value) in flags {
            if let Some(value) = value {
                raw.set(name, value, flag);
            }
        }
        raw
    }
}

/// Returns the settings, and prints which were given by a former name.
pub(super) fn settings(raw: RawSettings) -> Result<Settings, Failure> {
    tell_renamed(&raw);
    raw.settings().map_err(Failure::Settings)
}

/// Returns the settings like [`settings()`], after a check of every file and folder that a node needs.
pub(super) fn checked_settings(raw: RawSettings) -> Result<Settings, Failure> {
    tell_renamed(&raw);
    raw.checked().map_err(Failure::Settings)
}

fn tell_renamed(raw: &RawSettings) {
    for line in raw.renamed() {
        note(line);
    }
}
