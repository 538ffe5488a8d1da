//! `keys`: creates a key ring, lists and rotates its keys, and drops those that nothing needs. `keys reseal` is in `reseal`.

use super::failure::{CommandResult, Failure};
use super::node_client::RemoteArgs;
use super::reseal;
use super::sources::{Sources, settings};
use super::terminal::{note, say};
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
    /// Show the token keys, the signing keys and the keys of data at rest: id, state, since when; no secrets
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
        /// Rotate the keys of data at rest (names, numbers, papers, tags of statuses), and keep the others. Previous keys stay until
        /// `keys drop`. Every node must have read the next key before: send SIGHUP to each node between two rotations. A ring that
        /// has no next key of data at rest gets one, and is not rotated
        #[arg(long, conflicts_with_all = ["sign", "keep", "drop_previous"])]
        rest: bool,
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
    /// Every session, code, grant and token is refused from now on, those of operators too: issue new ones. A copy of the ring
    /// from before makes nothing that a node accepts once it has read the new one. It still reads names and numbers if the thief
    /// also has the store, until `keys rotate --rest`, `keys reseal` and `keys drop` have run: the next key of data at rest is replaced
    /// too. `identity` and `offline` stay.
    Replace(Sources),
    /// Seal data at rest anew with the current key
    ///
    /// Runs while nodes serve and feeds continue, in steps of some milliseconds. Never overwrites a newer value. Can be killed at any
    /// moment and started again. Walks over the store until a whole walk finds nothing to do. Exit code 3 if something opens with no
    /// key of the ring, or if others wrote with an older key in every walk. Send SIGHUP to every node before.
    Reseal {
        #[command(flatten)]
        sources: Sources,
        /// The operations door of a running node that does it: http://HOST:PORT or https://HOST:PORT. Needs an operator's token.
        /// Without it the command opens the store: one in Redis beside its nodes, an embedded one only if no node has it open
        #[arg(long, value_name = "URL")]
        from: Option<String>,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Drop the previous keys of data at rest, after `keys reseal` found nothing that needs them
    ///
    /// Older backups cannot be opened any more: keep a copy of the old ring as long as the backups.
    Drop {
        #[command(flatten)]
        sources: Sources,
        /// Drop them without that proof: everything still sealed with them is lost
        #[arg(long)]
        unproved: bool,
    },
    /// Write the part of the ring that nodes with some doors alone need, to a new file (mode 0600)
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
                    return Err(super::key_ring::lost_ring(&path, folder));
                }
                if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("")) {
                    super::key_ring::make_private(folder)?;
                }
                RingFile::generate(Time::now()).write_new(&path)?;
                say(&format!("{}: a new key ring, mode 0600", path.display()))?;
            }
            KeysAction::List(sources) => list(&RingFile::read(&settings(sources.raw())?.keys)?)?,
            KeysAction::Rotate {
                sources,
                rest: true,
                ..
            } => rotate_rest(&sources)?,
            KeysAction::Reseal {
                sources,
                from,
                remote,
            } => return reseal::run(&sources, from.as_deref(), &remote),
            KeysAction::Drop { sources, unproved } => {
                let lock = RingLock::of(&settings(sources.raw())?.keys)?;
                let mut file = lock.read()?;
                let dropped = file.drop_previous_rest(unproved)?;
                file.replace(&lock)?;
                list(&file)?;
                note(&format!(
                    "{dropped} previous keys of data at rest are gone; SIGHUP makes a running node read the ring"
                ));
            }
            KeysAction::Rotate {
                sources,
                sign,
                keep,
                drop_previous,
                ..
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

fn rotate_rest(sources: &Sources) -> Result<(), Failure> {
    let lock = RingLock::of(&settings(sources.raw())?.keys)?;
    let mut file = lock.read()?;
    let is_rotated = file.rotate_rest(Time::now())?;
    file.replace(&lock)?;
    list(&file)?;
    note(match is_rotated {
        true => {
            "rotated; give the file to every node and send each SIGHUP, then seal data at rest anew: `liangma keys reseal`"
        }
        false => {
            "the ring had no next key of data at rest, and has one now; give the file to every node and send each SIGHUP, then rotate again"
        }
    });
    Ok(())
}

fn list(ring: &RingFile) -> std::io::Result<()> {
    say("id\tstate\tmade\tretired")?;
    print(&ring.lines())?;
    if !ring.sign_lines().is_empty() {
        say("signing id\tstate\tmade\tretired")?;
    }
    print(&ring.sign_lines())?;
    say("rest id\tstate\tmade\tretired")?;
    print(&ring.rest_lines())?;
    if let Some(at) = ring.resealed_at() {
        say(&format!("nothing at rest needed a previous key at {at}"))?;
    }
    Ok(())
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
