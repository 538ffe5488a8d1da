//! `trust`: imports other issuers' key lists, shows a trust file, and judges a code by it like a gate.

use super::failure::{CommandResult, Failure};
use super::terminal::{note, say};
use crate::clock::Time;
use crate::http::foreign::foreign_json;
use crate::offline::code::OFFLINE_CODE_CHARS;
use crate::offline::gate::ListAges;
use crate::recognition::ForeignFormat;
use crate::recognition::bounds::read_bounded;
use crate::recognition::import::{ImportedKeys, ListForm, import};
use crate::recognition::recogniser::{LIANGMA, Recogniser, RecognitionSettings};
use crate::recognition::trust::{self, TrustList};
use crate::refusal::Refusal;
use crate::service::foreign::ForeignVerdict;
use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Import key lists of other issuers, show a trust file, and judge a code by it
#[derive(Args)]
pub struct Trust {
    #[command(subcommand)]
    what: TrustAction,
}

#[derive(Subcommand)]
enum TrustAction {
    /// Convert a publisher's list into a key file for a trust file
    ///
    /// Nothing is fetched: the list is a file. Only lists of CovPass have a signature that can be checked, with the publisher's
    /// key; `--unsigned` accepts a list without a check.
    Import {
        /// gdhcn: a did.json of the WHO network; covpass: its signed list; vci: a snapshot of the VCI directory; pem:
        /// certificates
        #[arg(long, value_name = "FORM", value_parser = form)]
        format: ListForm,
        /// The publisher's public key, P-256 in PEM
        #[arg(long, value_name = "PEM", conflicts_with = "unsigned")]
        key: Option<PathBuf>,
        /// Accept a list whose signature is not checked
        #[arg(long)]
        unsigned: bool,
        /// The file to write or replace [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// The list
        file: PathBuf,
    },
    /// Show the keys of a trust file: format, issuer, id, algorithm, allowed kinds
    List {
        /// The trust file
        #[arg(long, value_name = "FILE")]
        trust: PathBuf,
    },
    /// Judge a code like a gate; prints the verdict or the refusal as JSON
    ///
    /// Every format counts as switched on. An offline code of another province is judged by a list in a folder, if there is
    /// one. Exit code 0: the code is genuine and in force; 1: it is not, and `error` says why.
    Check {
        /// The trust file
        #[arg(long, value_name = "FILE")]
        trust: PathBuf,
        /// The code; `@FILE` or `-` reads it
        #[arg(value_name = "CODE|@FILE|-", value_parser = code)]
        code: String,
        /// Time of the check, RFC 3339 [default: now]
        #[arg(long, value_name = "TIME", value_parser = time)]
        at: Option<Time>,
    },
}

fn form(text: &str) -> Result<ListForm, String> {
    let mut forms = ListForm::ALL.into_iter();
    let found = forms.find(|(name, _)| *name == text);
    found
        .map(|(_, form)| form)
        .ok_or_else(|| "gdhcn, covpass, vci or pem".to_owned())
}

fn time(text: &str) -> Result<Time, String> {
    let time: Option<jiff::Timestamp> = text.parse().ok();
    let time = time.and_then(|time| u64::try_from(time.as_millisecond()).ok());
    time.map(Time)
        .ok_or_else(|| "no time such as 2026-06-15T00:00:00Z".to_owned())
}

/// Returns a code without the line end and blanks after it.
fn code(text: &str) -> Result<String, String> {
    use std::io::Read;
    const BYTES_MAX: u64 = 1 << 20;
    let mut read = String::new();
    let outcome = match (text, text.strip_prefix('@')) {
        ("-", _) => std::io::stdin()
            .lock()
            .take(BYTES_MAX)
            .read_to_string(&mut read),
        (_, Some(path)) => std::fs::File::open(path)
            .and_then(|file| file.take(BYTES_MAX).read_to_string(&mut read)),
        _ => {
            read.push_str(text);
            Ok(0)
        }
    };
    outcome.map_err(|error| format!("{text}: {error}"))?;
    Ok(read.trim_end().to_owned())
}

impl Trust {
    pub fn run(self) -> CommandResult {
        match self.what {
            TrustAction::Import {
                format,
                key,
                unsigned,
                out,
                file,
            } => {
                if format == ListForm::Covpass && key.is_none() && !unsigned {
                    let why =
                        "a list of this form is signed: say the publisher's key, or --unsigned";
                    return Err(anyhow!(why).into());
                }
                import_list(format, key.as_deref(), out.as_deref(), &file)
            }
            TrustAction::List { trust } => show(&read(&trust)?),
            TrustAction::Check { trust, code, at } => {
                let at = at.unwrap_or_else(Time::now);
                match code.len() == OFFLINE_CODE_CHARS {
                    true => check_offline(trust, &code, at),
                    false => check(&read(&trust)?, &code, at),
                }
            }
        }
    }
}

fn read(path: &Path) -> Result<TrustList, Failure> {
    trust::read(path).map_err(Failure::Settings)
}

fn import_list(
    format: ListForm,
    key: Option<&Path>,
    out: Option<&Path>,
    file: &Path,
) -> CommandResult {
    let named = |path: &Path| {
        let place = path.display().to_string();
        read_bounded(path).map_err(|why| anyhow!("{place}: {why}"))
    };
    let bytes = named(file)?;
    let publisher = key.map(named).transpose()?;
    let name = file.file_name().map(|name| name.to_string_lossy());
    let name = name.unwrap_or_default();
    let imported = import(format, &bytes, publisher.as_deref(), &name, Time::now())
        .with_context(|| file.display().to_string())?;
    let ImportedKeys {
        file: keys,
        is_signed,
        skipped,
    } = imported;
    for why in &skipped {
        note(&format!("passed over: {why}"));
    }
    if keys.keys.is_empty() {
        return Err(anyhow!(
            "{}: the list has no key of a supported type",
            file.display()
        )
        .into());
    }
    let text = serde_json::to_string_pretty(&keys)?;
    match out {
        None => say(&text)?,
        Some(out) => {
            let beside = out.with_extension("part");
            std::fs::write(&beside, text + "\n")
                .and_then(|()| std::fs::rename(&beside, out))
                .inspect_err(|_| drop(std::fs::remove_file(&beside)))
                .with_context(|| out.display().to_string())?;
        }
    }
    note(&format!(
        "{} keys of {}, {} skipped, signature {}",
        keys.keys.len(),
        keys.format,
        skipped.len(),
        if is_signed { "good" } else { "not checked" },
    ));
    Ok(ExitCode::SUCCESS)
}

fn show(list: &TrustList) -> CommandResult {
    say("format\tissuer\tkid\talgorithm\tkinds\tname")?;
    for (format, kid, key) in list.all_keys() {
        let kinds: Vec<&str> = key.kinds.words().collect();
        say(&format!(
            "{}\t{}\t{kid}\t{}\t{}\t{}",
            format.word(),
            key.issuer,
            key.public.algorithm(),
            kinds.join(","),
            key.issuer_name.as_deref().unwrap_or("-"),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Judges an offline code of another province by the list beside the trust file; nothing is fetched.
fn check_offline(trust: PathBuf, code: &str, at: Time) -> CommandResult {
    let settings = RecognitionSettings {
        trust,
        formats: vec![LIANGMA.to_owned()],
    };
    let recogniser = Recogniser::read(settings).map_err(Failure::Settings)?;
    let told = recogniser.open_offline(code.as_bytes(), at, &ListAges::default());
    tell(told.map(|told| ForeignVerdict::Peer(Box::new(told))))
}

/// Allowed lead of the issuer's clock: the default of `clock_skew`.
const SKEW: Duration = Duration::from_secs(2);

fn check(list: &TrustList, code: &str, at: Time) -> CommandResult {
    let opened = match ForeignFormat::told_apart(code.as_bytes()) {
        Some(format) => list
            .open(format, code.as_bytes(), Some((at, SKEW)))
            .map_err(|fault| fault.refusal()),
        None => Err(Refusal::CodeInvalid),
    };
    tell(opened.map(|pass| ForeignVerdict::Pass {
        pass: Box::new(pass),
        trust_as_of: list.as_of,
    }))
}

fn tell(told: Result<ForeignVerdict, Refusal>) -> CommandResult {
    match told {
        Ok(verdict) => {
            say(&foreign_json(&verdict))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(refusal) => {
            say(&serde_json::json!({ "error": refusal.code() }).to_string())?;
            Ok(ExitCode::FAILURE)
        }
    }
}
