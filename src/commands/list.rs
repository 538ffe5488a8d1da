//! `list`: builds a status list from a store, shows a file, and judges a code by files like a gate without a network.

use super::failure::{CommandResult, Failure};
use super::key_ring::ring;
use super::log::log;
use super::sources::{Sources, settings};
use super::stores::{StoreHandle, must_exist, open_existing, runtime};
use super::terminal::say;
use crate::board::Board;
use crate::clock::Now;
use crate::config::parse_duration;
use crate::desk::offline_code::read_generations;
use crate::offline::code::{CodeFault, OfflineCode};
use crate::offline::gate::{HeldLists, ListAges, OfflineDecision};
use crate::offline::issue::{OfflineKeys, read_jwks};
use crate::offline::list::{BaseList, ListChanges, ListFile};
use crate::offline::publisher::{ListSource, publish};
use crate::offline::sign::VerifyingKey;
use crate::seal::Seal;
use crate::store::Store;
use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Build, show and query status lists for gates without a network
#[derive(Args)]
pub struct List {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Build a list from the store, prove it for every resident, and write base.lml, changes.lml and keys.json
    ///
    /// Nodes publish lists by themselves; this command is for a first delivery on a medium, and for tests. No node may have the
    /// embedded store open.
    Build {
        #[command(flatten)]
        sources: Sources,
        /// The folder to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Judge a code like a gate without a network; prints the verdict as JSON
    ///
    /// Exit code 0: the code is genuine and has a colour or is void; 1: it has none, and `state` says why.
    Check {
        /// The code, 154 characters; `@FILE` or `-` reads it
        #[arg(long, value_name = "CODE|@FILE|-", value_parser = super::arguments::private_value)]
        code: String,
        /// The issuer's public keys, as `GET /v1/keys` returns them
        #[arg(long, value_name = "FILE")]
        jwks: PathBuf,
        /// The base of the list
        #[arg(long, value_name = "FILE")]
        base: PathBuf,
        /// The changes of that base
        #[arg(long, value_name = "FILE")]
        changes: Option<PathBuf>,
        /// Mark a colour if the list is older
        #[arg(long, value_name = "TIME", default_value = "30m", value_parser = duration)]
        stale_after: Duration,
        /// Give no colour if the list is older
        #[arg(long, value_name = "TIME", default_value = "12h", value_parser = duration)]
        too_old_after: Duration,
    },
    /// Show the head of a base or changes file as JSON; the signature is checked if keys are given
    Show {
        /// The file
        file: PathBuf,
        /// The issuer's public keys, as `GET /v1/keys` returns them
        #[arg(long, value_name = "FILE")]
        jwks: Option<PathBuf>,
    },
}

impl List {
    pub fn run(self) -> CommandResult {
        match self.what {
            What::Build { sources, out } => build(&sources, &out),
            What::Check {
                code,
                jwks,
                base,
                changes,
                stale_after,
                too_old_after,
            } => {
                let ages = ListAges {
                    stale_after,
                    too_old_after,
                };
                check(&code, &jwks, &base, changes.as_deref(), &ages)
            }
            What::Show { file, jwks } => show(&file, jwks.as_deref()),
        }
    }
}

/// Time for the store to confirm what was read, and the interval of checks.
const CONFIRM_WAIT: Duration = Duration::from_secs(10);
const CONFIRM_LOOK: Duration = Duration::from_millis(20);

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "is not a duration such as 30m or 12h".to_owned())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    Ok(bytes)
}

/// Reads public keys and their issuer.
fn keys(path: &Path) -> Result<(u32, Vec<VerifyingKey>), Failure> {
    let keys = read_jwks(&read(path)?);
    let keys = keys.with_context(|| format!("{}: is not a JWKS with an issuer", path.display()))?;
    Ok(keys)
}

fn check(
    code: &str,
    jwks: &Path,
    base: &Path,
    changes: Option<&Path>,
    ages: &ListAges,
) -> CommandResult {
    let (issuer, keys) = keys(jwks)?;
    let named = |path: &Path| path.display().to_string();
    let mut held = HeldLists::default();
    let base_list = BaseList::open(read(base)?.into(), &keys).with_context(|| named(base))?;
    let is_ours = base_list.head.issuer == issuer;
    held.take_base(base_list).with_context(|| named(base))?;
    if let Some(path) = changes {
        let changes = ListChanges::open(&read(path)?, &keys).with_context(|| named(path))?;
        held.take_changes(changes).with_context(|| named(path))?;
    }
    if !is_ours {
        return Err(anyhow!(
            "{}: the file and the keys have different issuers",
            base.display()
        )
        .into());
    }
    let now = Now::read();
    let as_of = held.as_of().map(|as_of| as_of.to_string());
    let code = code.trim().to_ascii_uppercase();
    let keys_of = |own| match own == issuer {
        true => &keys[..],
        false => &[],
    };
    let mut raw = json!({ "class": "offline", "by": "list", "as_of": as_of });
    let is_told = match OfflineCode::open(code.as_bytes(), keys_of) {
        Err(fault) => {
            raw["state"] = match fault {
                CodeFault::Form | CodeFault::UnknownKey | CodeFault::Signature => "code_invalid",
            }
            .into();
            false
        }
        Ok(code) => {
            let (state, stale, is_told) = match held.judge(&code, now.time, ages) {
                OfflineDecision::Colour { state, stale } => (state.word(), stale, true),
                OfflineDecision::Void => ("void", false, true),
                OfflineDecision::NotCovered => ("not_covered", false, false),
                OfflineDecision::Expired => ("code_expired", false, false),
                OfflineDecision::TooOld => ("too_old", false, false),
                OfflineDecision::Clock => ("clock", false, false),
            };
            raw["state"] = state.into();
            if stale {
                raw["stale"] = true.into();
            }
            raw["check_document"] = true.into();
            raw["name"] = code.masked.name.print().into();
            raw["cert_no"] = code.masked.cert_no.print().into();
            raw["assurance"] = code.masked.assurance.word().into();
            raw["issued_at"] = code.issued_at.to_string().into();
            raw["expires_at"] = code.expires_at().to_string().into();
            is_told
        }
    };
    say(&raw.to_string())?;
    Ok(match is_told {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn show(path: &Path, jwks: Option<&Path>) -> CommandResult {
    let bytes = read(path)?;
    let file = ListFile::read(&bytes).with_context(|| path.display().to_string())?;
    let signature = match jwks {
        None => "not_checked",
        Some(jwks) => match file.is_signed(&bytes, &keys(jwks)?.1) {
            true => "good",
            false => "wrong",
        },
    };
    let head = &file.head;
    let raw = json!({
        "kind": if file.is_base { "base" } else { "changes" },
        "issuer": format!("{:06}", head.issuer), "number": head.number.to_string(),
        "as_of": head.as_of.to_string(), "until": head.until.to_string(),
        "residents": head.residents, "listed": file.listed, "key": file.key.to_string(),
        "bytes": bytes.len(), "signature": signature,
    });
    say(&raw.to_string())?;
    Ok(match signature {
        "wrong" => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

fn build(sources: &Sources, out: &Path) -> CommandResult {
    let settings = settings(sources.raw())?;
    log(&settings.log, settings.log_format)?;
    must_exist(&settings)?;
    let ring = ring(&settings)?;
    let Some(offline) = &settings.service.offline else {
        return Err(Failure::Settings(vec![
            "offline_issuer: is missing: lists are signed in the name of a division".to_owned(),
        ]));
    };
    let keys = OfflineKeys::of(&ring, offline.issuer).ok_or_else(|| {
        anyhow!("the key ring has no signing keys; `liangma keys rotate --sign` makes them")
    })?;
    let seal = Seal::new(&ring, settings.seal.clone());
    let (board, revoked, as_of) = runtime()?.block_on(async {
        let opened = open_existing(&settings, &seal).await?;
        let residents = match &opened {
            StoreHandle::Embedded(store) => store.residents()?,
            StoreHandle::Redis(store) => store.residents(),
        };
        let board = Arc::new(Board::new(residents, settings.board.clone()));
        let store: Box<dyn Store> = match opened {
            StoreHandle::Embedded(store) => Box::new(store.start(board.clone(), Arc::default())),
            StoreHandle::Redis(store) => Box::new(store.start(Some(board.clone()), Arc::default())),
        };
        let read = async {
            // Everything acknowledged before is read afterwards.
            let began = Now::read().time;
            store.fill(Arc::new(|_| {})).await?;
            let revoked = read_generations(&*store, &seal, None).await?;
            let confirmed = async {
                while board.freshness(Now::read()).stale {
                    tokio::time::sleep(CONFIRM_LOOK).await;
                }
            };
            if tokio::time::timeout(CONFIRM_WAIT, confirmed).await.is_err() {
                return Err(anyhow!(
                    "the store did not confirm in time that what was read of it is complete"
                )
                .into());
            }
            let heard = board.freshness(Now::read()).as_of;
            Ok::<_, Failure>((revoked, began.min(heard)))
        };
        let read = read.await;
        store.close().await;
        let (revoked, as_of) = read?;
        Ok::<_, Failure>((board, revoked, as_of))
    })?;
    let mut newest: HashMap<u64, u8> = HashMap::new();
    for (resident, generation) in revoked {
        let known = newest.entry(resident.0).or_insert(generation);
        *known = generation.max(*known);
    }
    let source = ListSource {
        keys: &keys,
        issuer: offline.issuer,
        residents: &*board,
        revoked: &newest,
        as_of,
        life: settings.service.lists.too_old_after,
        recent: u64::MAX,
    };
    let edition = publish(&source, &[], true).map_err(anyhow::Error::from)?;
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let pair = &edition.pairs[0];
    for (name, bytes) in [
        ("base.lml", &pair.base[..]),
        ("changes.lml", &pair.changes[..]),
        ("keys.json", &keys.jwks[..]),
    ] {
        let path = out.join(name);
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    }
    let [red, yellow, void] = edition.listed;
    let raw = json!({
        "number": pair.number.to_string(), "as_of": as_of.to_string(), "until": edition.until.to_string(),
        "residents": board.residents(), "red": red, "yellow": yellow, "void": void, "clashes": edition.clashes,
        "asked": edition.asked, "base_bytes": pair.base.len(),
    });
    say(&raw.to_string())?;
    Ok(ExitCode::SUCCESS)
}
