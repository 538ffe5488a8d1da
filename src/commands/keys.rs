//! `keys`: creates, lists and rotates a key ring.

use super::{CommandResult, Sources, note, say, settings};
use crate::clock::Time;
use crate::config::parse_duration;
use crate::seal::ring::part::DoorPart;
use crate::seal::ring::{KeyLine, KeyState, RingFile, RingLock};
use crate::store::embedded;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Make, list and rotate the key ring
#[derive(Args)]
pub struct Keys {
    #[command(subcommand)]
    what: KeysAction,
}

#[derive(Subcommand)]
enum KeysAction {
    /// Create a key ring (mode 0600) where there is none
    New(Sources),
    /// Show the token keys and the signing keys: id, state, since when; no secrets
    List(Sources),
    /// Seal with the next key from now on
    ///
    /// Everything sealed with the current and previous keys stays valid. Copy the file to every node and send each SIGHUP, in
    /// any order: every node knows the next key already.
    Rotate {
        #[command(flatten)]
        sources: Sources,
        /// Rotate the keys that sign offline codes and status lists, and keep the token keys. Gates must have read the next key
        /// (`GET /v1/keys`) before: rotate no more often than gates read it
        #[arg(long)]
        sign: bool,
        /// Drop previous keys this long after they retired: 31d, the validity of the longest usual token; with --sign
        /// `offline_life_max` and a day
        #[arg(long, value_name = "TIME", value_parser = time)]
        keep: Option<Duration>,
        /// Drop the current key and all previous ones: every session, code, grant and token is refused from now on. A thief of
        /// the ring also has the next key: after a theft use `keys replace`
        #[arg(long, conflicts_with = "keep")]
        drop_previous: bool,
    },
    /// Replace the current and the next key, and the signing keys, at once, after the ring was stolen
    ///
    /// Every session, code, grant and token is refused from now on, those of operators too: issue new ones. An older copy of
    /// the ring makes nothing that a node accepts once it has read the new one. It still reads names and numbers if the thief
    /// also has the store: the keys `identity`, `rest`, `offline` and those of papers stay.
    Replace(Sources),
    /// Write the part of the ring that nodes with some doors only need, to a new file (mode 0600)
    ///
    /// A node with the part for `gate` opens codes, grants and scanners' tokens. It cannot read names or numbers, and makes no
    /// session and no token of an office. With a part, the operations door refuses every token: feed elsewhere. After every
    /// `keys rotate` or `keys replace` make the parts again, replace the old ones, and send SIGHUP.
    Export {
        #[command(flatten)]
        sources: Sources,
        /// `resident`, `gate`, or both with a comma between
        #[arg(long = "for", value_name = "DOORS", value_delimiter = ',', required = true, value_parser = door)]
        doors: Vec<DoorPart>,
        /// The file to write; it is not overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

fn door(text: &str) -> Result<DoorPart, String> {
    let named = DoorPart::ALL.into_iter().find(|door| door.name() == text);
    named.ok_or_else(|| {
        "a ring has parts for `resident` and `gate`; other doors need the whole".to_owned()
    })
}

const DAY: Duration = Duration::from_secs(86_400);

/// Retention of previous token keys: the validity of the longest usual token.
const TOKENS_KEPT: Duration = DAY.saturating_mul(31);

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a time is a number and ms, s, m, h or d".to_owned())
}

impl Keys {
    pub fn run(self) -> CommandResult {
        match self.what {
            KeysAction::New(sources) => {
                let settings = settings(sources.raw())?;
                let path = settings.keys;
                if let Some(folder) = path.parent()
                    && !path.exists()
                    && embedded::is_in(folder)
                {
                    return Err(super::lost_ring(&path, folder));
                }
                if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("")) {
                    super::make_private(folder)?;
                }
                RingFile::generate(Time::now()).write_new(&path)?;
                say(&format!("{}: a new key ring, mode 0600", path.display()))?;
            }
            KeysAction::List(sources) => list(&RingFile::read(&settings(sources.raw())?.keys)?)?,
            KeysAction::Rotate {
                sources,
                sign,
                keep,
                drop_previous,
            } => {
                let settings = settings(sources.raw())?;
                let lock = RingLock::of(&settings.keys)?;
                let mut file = lock.read()?;
                let usual = match sign {
                    true => settings.offline_life_max + DAY,
                    false => TOKENS_KEPT,
                };
                let keep = match drop_previous {
                    true => Duration::ZERO,
                    false => keep.unwrap_or(usual),
                };
                match sign {
                    true => file.rotate_sign(Time::now(), keep)?,
                    false => file.rotate(Time::now(), keep)?,
                }
                match (sign, drop_previous) {
                    (true, true) => file.drop_previous_sign(),
                    (false, true) => file.drop_previous(),
                    _ => {}
                }
                file.replace(&lock)?;
                list(&file)?;
                note("rotated; SIGHUP makes a running node read it");
            }
            KeysAction::Export {
                sources,
                doors,
                out,
            } => {
                let part = RingFile::read(&settings(sources.raw())?.keys)?.part(&doors);
                part.write_new(&out)?;
                say(&format!(
                    "{}: the part of the key ring for {}, mode 0600",
                    out.display(),
                    part.door_names()
                ))?;
            }
            KeysAction::Replace(sources) => {
                let lock = RingLock::of(&settings(sources.raw())?.keys)?;
                let mut file = lock.read()?;
                file.replace_token_keys(Time::now());
                file.replace(&lock)?;
                list(&file)?;
                note(
                    "replaced; give the file to every node and send each SIGHUP, then issue new tokens",
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(ring: &RingFile) -> std::io::Result<()> {
    say("id\tstate\tmade\tretired")?;
    print(&ring.lines())?;
    if !ring.sign_lines().is_empty() {
        say("signing id\tstate\tmade\tretired")?;
    }
    print(&ring.sign_lines())
}

fn print(lines: &[KeyLine]) -> std::io::Result<()> {
    for key in lines {
        let state = match key.state {
            KeyState::Next => "next",
            KeyState::Current => "current",
            KeyState::Previous => "previous",
        };
        let retired = key.retired.map_or(String::from("-"), |at| at.to_string());
        say(&format!("{}\t{state}\t{}\t{retired}", key.id, key.created))?;
    }
    Ok(())
}
