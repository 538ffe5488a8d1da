//! The commands: their arguments and exit codes.

mod audit;
mod backup;
mod demo;
mod erase;
mod export;
mod generate;
mod import;
mod keys;
mod list;
mod node_client;
mod output;
mod remote;
mod reseal;
mod restore;
mod serve;
mod settings;
mod size;
mod synth;
mod system_limits;
mod token;
mod token_register;
mod trust;

use crate::board::Board;
use crate::clock::Time;
use crate::config::{RawSettings, Settings, StoreSettings};
use crate::kernel;
use crate::logging::{self, LogFormat, LogQueue, WithPriority};
use crate::person::{BadDocument, Document};
use crate::seal::Seal;
use crate::seal::ring::{KeyFile, RingFile};
use crate::store::{Store, embedded, redis};
use crate::traces::TraceLayer;
use crate::version::BUILD;
use clap::{Args, Parser, Subcommand};
use output::Output;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

/// 亮码: the status lookup behind a health code. Residents show their code, gates scan it, from memory.
#[derive(Parser)]
#[command(name = "liangma", version = BUILD, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
First steps:
  liangma demo                                  a town of 100,000 on this machine, with lines to paste
  liangma import residents.ndjson               residents and statuses into ./liangma-data
  liangma serve                                 opens the doors over ./liangma-data
  liangma token scanner --site east-gate        a token for a gate
  liangma token authority --source gd-cdc       a token for who feeds statuses

Exit codes: 0 done, 1 failed, 2 bad usage, 3 done and some lines were rejected or something was left, 78 bad settings.";

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    Settings(settings::SettingsCommand),
    Size(size::Size),
    #[command(hide = true)]
    Generate(generate::Generate),
    Demo(demo::Demo),
    Import(import::Import),
    Export(export::Export),
    Synth(synth::Synth),
    Token(token::Token),
    Keys(keys::Keys),
    List(list::List),
    Audit(audit::AuditCommand),
    Erase(erase::Erase),
    Trust(trust::Trust),
    Backup(backup::Backup),
    Restore(restore::Restore),
}

/// Arguments that name a person.
#[derive(Args)]
struct DocumentArgs {
    /// 10 identity card, 14 travel permit of HK and Macao residents, 20 PRC passport
    #[arg(long, value_name = "TYPE")]
    cert_type: String,
    /// Number of the document; `@FILE` or `-` reads it, so that it is not among the arguments that others see
    #[arg(long, value_name = "N|@FILE|-", value_parser = private_value)]
    cert_no: String,
}

impl DocumentArgs {
    fn document(&self, now: Time) -> anyhow::Result<Document> {
        Document::parse(&self.cert_type, &self.cert_no, now.day()).map_err(|bad| {
            anyhow::anyhow!(match bad {
                BadDocument::OfflineRegistration =>
                    "--cert-type: documents of this type get no code; register with staff",
                BadDocument::Form => "--cert-no: not the form of a number of this type",
                BadDocument::BirthDate => "--cert-no: no such day of birth",
                BadDocument::CheckDigit => "--cert-no: the check digit is wrong",
            })
        })
    }
}

/// Longest value read from a file, in bytes.
const PRIVATE_BYTES_MAX: u64 = 4_096;

/// Returns a value that should not be among the arguments: for `@FILE` the first line of a file, for `-` the next line of
/// standard input, else the value itself. Errors name the file, never the value.
fn private_value(text: &str) -> Result<String, String> {
    let mut line = String::new();
    let read = if text == "-" {
        let input = io::stdin().lock();
        input.take(PRIVATE_BYTES_MAX).read_line(&mut line)
    } else if let Some(path) = text.strip_prefix('@') {
        let file = std::fs::File::open(path).map_err(|error| format!("{path}: {error}"))?;
        io::BufReader::new(file.take(PRIVATE_BYTES_MAX)).read_line(&mut line)
    } else {
        return Ok(text.to_owned());
    };
    read.map_err(|error| format!("{text}: {error}"))?;
    let value = line.trim_end_matches(['\r', '\n']);
    match value.is_empty() || line.len() as u64 == PRIVATE_BYTES_MAX {
        true => Err(format!("{text}: no line of 1 to {PRIVATE_BYTES_MAX} bytes")),
        false => Ok(value.to_owned()),
    }
}

/// Sources of settings, the same for every command that needs a store or its key ring.
#[derive(Args)]
struct Sources {
    /// Directory of the embedded store, or an address of Redis: redis://HOST, rediss://HOST,
    /// redis+sentinel://HOST,HOST,HOST/NAME, redis+cluster://HOST,HOST,… [default: ./liangma-data]
    #[arg(long, value_name = "DIR|URL")]
    store: Option<String>,
    /// The key ring [default: keys in the store's directory; required with Redis]
    #[arg(long, value_name = "FILE")]
    keys: Option<String>,
    /// Settings, as TOML; docs/operate/settings.md lists them all
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long a command other than `serve` waits for an unreachable Redis [default: 30s]
    #[arg(long, value_name = "TIME")]
    wait: Option<String>,
    /// Any setting by its name; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pairs: Vec<String>,
}

impl Sources {
    fn raw(&self) -> RawSettings {
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

/// Why a command failed.
enum Failure {
    /// Bad settings: all faults.
    Settings(Vec<String>),
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Other(error.into())
    }
}

type CommandResult = Result<ExitCode, Failure>;

/// Exit code if some lines were rejected.
const REJECTED: u8 = 3;
/// Exit code for bad settings, `EX_CONFIG` of sysexits.
const BAD_SETTINGS: u8 = 78;

/// Runs the command of the command line.
pub fn run() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            let code = ExitCode::from(error.exit_code() as u8);
            return match error.print() {
                Ok(()) => code,
                // Help or an error that cannot be printed is still an error.
                Err(_) if error.use_stderr() => code,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
                Err(error) => {
                    note(&output::named(error).to_string());
                    ExitCode::FAILURE
                }
            };
        }
    };
    if !kernel::forbid_core_dumps() {
        note("core dumps cannot be forbidden: a crash may write keys to the disk");
    }
    let outcome = match command {
        Command::Serve(serve) => serve.run(),
        Command::Settings(settings) => settings.run(),
        Command::Size(size) => size.run(),
        Command::Generate(generate) => generate.run(),
        Command::Demo(demo) => demo.run(),
        Command::Import(import) => import.run(),
        Command::Export(export) => export.run(),
        Command::Synth(synth) => synth.run(),
        Command::Token(token) => token.run(),
        Command::Keys(keys) => keys.run(),
        Command::List(list) => list.run(),
        Command::Audit(audit) => audit.run(),
        Command::Erase(erase) => erase.run(),
        Command::Trust(trust) => trust.run(),
        Command::Backup(backup) => backup.run(),
        Command::Restore(restore) => restore.run(),
    };
    let code = match outcome {
        Ok(code) => code,
        Err(Failure::Settings(bad)) => {
            for line in bad {
                note(&line);
            }
            ExitCode::from(BAD_SETTINGS)
        }
        // The reader of the output has left, as `head` does.
        Err(Failure::Other(error)) if output::reader_has_left(&error) => ExitCode::SUCCESS,
        Err(Failure::Other(error)) => {
            note(&causes(&error));
            ExitCode::FAILURE
        }
    };
    if let Some(lines) = LOG.get() {
        lines.flush();
    }
    code
}

/// The queue of the log, once it is started.
static LOG: OnceLock<LogQueue> = OnceLock::new();

/// Prints a line to standard error. If that fails, the line is dropped.
fn note(line: &str) {
    let _ = writeln!(io::stderr(), "liangma: {line}");
}

/// Returns an error with its causes. A cause that an error names itself does not appear twice.
fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.ends_with(&cause) {
            let gap = if text.is_empty() { "" } else { ": " };
            text = text + gap + &cause;
        }
    }
    text
}

/// Prints a line to standard output.
fn say(line: &str) -> io::Result<()> {
    let mut out = Output::lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn settings(raw: RawSettings) -> Result<Settings, Failure> {
    tell_renamed(&raw);
    raw.settings().map_err(Failure::Settings)
}

/// Returns the settings like [`settings()`], after a check of every file and folder that a node needs.
fn checked_settings(raw: RawSettings) -> Result<Settings, Failure> {
    tell_renamed(&raw);
    raw.checked().map_err(Failure::Settings)
}

fn tell_renamed(raw: &RawSettings) {
    for line in raw.renamed() {
        note(line);
    }
}

/// Starts the log on standard error, so that standard output holds the results only.
fn log(filter: &str, format: LogFormat) -> Result<(), Failure> {
    log_beside(None, filter, format)
}

/// Starts the log like [`log`], beside a layer that makes spans.
fn log_beside(traces: Option<TraceLayer>, filter: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::Settings(vec![format!("log = {filter:?}: {error}")]))?;
    let lines = LOG.get_or_init(|| LogQueue::start(io::stderr()).expect("a thread can be started"));
    let beside = tracing_subscriber::registry().with(traces);
    let (filter, handle) = reload::Layer::new(filter);
    let _ = SET_LOG_FILTER.set(Box::new(move |filter| handle.reload(filter).is_ok()));
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(lines.clone())
        .log_internal_errors(false);
    let is_on = logging::goes_to_journal();
    match format {
        LogFormat::Text => {
            let format = tracing_subscriber::fmt::format();
            let layer = layer
                .with_ansi(!is_on && std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .event_format(WithPriority { format, is_on });
            let _ = beside.with(layer.with_filter(filter)).try_init();
        }
        LogFormat::Json => {
            let format = tracing_subscriber::fmt::format()
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false);
            let layer = layer
                .fmt_fields(JsonFields::new())
                .event_format(WithPriority { format, is_on });
            let _ = beside.with(layer.with_filter(filter)).try_init();
        }
    }
    Ok(())
}

/// Replaces the filter of the log. Returns whether it succeeded.
type SetLogFilter = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

/// Set once the log is started.
static SET_LOG_FILTER: OnceLock<SetLogFilter> = OnceLock::new();

/// Changes the filter of the log. Returns false if that fails.
fn set_log_filter(filter: &str) -> bool {
    let set = EnvFilter::try_new(filter).ok().zip(SET_LOG_FILTER.get());
    set.is_some_and(|(filter, set)| set(filter))
}

/// Returns the key ring. A first start of an embedded store creates one; a store with data never gets another.
fn ring(settings: &Settings) -> Result<RingFile, Failure> {
    prepare_ring(settings)?;
    Ok(RingFile::read(&settings.keys)?)
}

/// Returns the key ring of a starting node, or the part that its doors need.
fn node_keys(settings: &Settings) -> Result<KeyFile, Failure> {
    prepare_ring(settings)?;
    read_node_keys(settings)
}

/// Reads a key ring, or the part that these doors need.
fn read_node_keys(settings: &Settings) -> Result<KeyFile, Failure> {
    let keys = KeyFile::read(&settings.keys)?;
    let doors = settings.doors.iter().map(|(door, _)| door.name());
    match &keys {
        KeyFile::Part(part) => match part.refused(doors) {
            Some(why) => Err(anyhow::anyhow!("{}: {why}", settings.keys.display()).into()),
            None => Ok(keys),
        },
        KeyFile::Whole(_) => Ok(keys),
    }
}

/// Creates the ring at a first start, and refuses a store whose ring is missing.
fn prepare_ring(settings: &Settings) -> Result<(), Failure> {
    if let Some(folder) = settings.store.folder()
        && settings.keys == folder.join("keys")
        && !settings.keys.exists()
        && !embedded::is_in(folder)
    {
        make_private(folder)?;
        RingFile::generate(Time::now()).write_new(&settings.keys)?;
        note(&format!(
            "created a key ring: {} (mode 0600). Keep a copy: without it the store cannot be read.",
            settings.keys.display()
        ));
    }
    if let Some(folder) = settings.store.folder()
        && !settings.keys.exists()
        && embedded::is_in(folder)
    {
        return Err(lost_ring(&settings.keys, folder));
    }
    Ok(())
}

/// Returns the failure of a store with data whose key ring is missing.
fn lost_ring(keys: &Path, folder: &Path) -> Failure {
    let (keys, folder) = (keys.display(), folder.display());
    let why = anyhow::anyhow!(
        "the key ring {keys} is missing, and {folder} has a store: put the ring's copy back; a new ring cannot read what is there"
    );
    why.into()
}

fn make_private(folder: &Path) -> Result<(), Failure> {
    embedded::make_private(folder)
        .map_err(|error| anyhow::anyhow!("{}: {error}", folder.display()))?;
    Ok(())
}

/// An open store.
enum StoreHandle {
    Embedded(Box<embedded::OpenedEmbedded>),
    Redis(Box<redis::OpenedRedis>),
}

/// Opens the store; `cache_bytes` is the page cache of an embedded one.
async fn open_store(
    settings: &Settings,
    seal: &Seal,
    cache_bytes: usize,
) -> Result<StoreHandle, Failure> {
    Ok(match &settings.store {
        StoreSettings::Embedded(folder) => {
            StoreHandle::Embedded(Box::new(open_embedded(folder, seal, cache_bytes)?))
        }
        StoreSettings::Redis(settings) => StoreHandle::Redis(Box::new(
            redis::OpenedRedis::open((**settings).clone(), seal.mark(), seal.status_tags()).await?,
        )),
    })
}

fn open_embedded(
    folder: &Path,
    seal: &Seal,
    cache_bytes: usize,
) -> Result<embedded::OpenedEmbedded, Failure> {
    let settings = embedded::Settings {
        cache_bytes,
        fill_threads: std::thread::available_parallelism().map_or(1, usize::from),
        ..embedded::Settings::new(folder.to_owned())
    };
    Ok(embedded::OpenedEmbedded::open(
        settings,
        seal.mark(),
        seal.status_tags(),
    )?)
}

/// Refuses a directory without a store, before a command that only reads would create a ring or a store.
fn must_exist(settings: &Settings) -> Result<(), Failure> {
    match settings.store.folder() {
        Some(folder) if !embedded::is_in(folder) => {
            Err(anyhow::anyhow!("there is no store in {}", folder.display()).into())
        }
        _ => Ok(()),
    }
}

/// Opens a store that must have been written to; call [`must_exist`] before.
async fn open_existing(settings: &Settings, seal: &Seal) -> Result<StoreHandle, Failure> {
    must_exist(settings)?;
    let opened = open_store(settings, seal, settings.store_cache_bytes).await?;
    match &opened {
        StoreHandle::Redis(store) if !store.was_written() => {
            Err(anyhow::anyhow!("there is no store in this Redis: nothing was ever written").into())
        }
        _ => Ok(opened),
    }
}

/// Starts a store that a command writes to, without a board.
fn started(opened: StoreHandle, settings: &Settings) -> Box<dyn Store> {
    match opened {
        StoreHandle::Embedded(store) => {
            let board = Arc::new(Board::new(0, settings.board.clone()));
            Box::new(store.start(board, Arc::default()))
        }
        StoreHandle::Redis(store) => Box::new(store.start(None, Arc::default())),
    }
}

/// Returns the runtime of everything except the doors: the start, signals, the store.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        // Few threads: the ones that filled the board have nothing more to do, and each call of the store would wake another.
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .enable_all()
        .build()
}

/// Shows progress on a terminal, and nothing elsewhere. `total` is the expected number, if known.
fn progress(total: Option<u64>, what: &'static str, bytes: bool) -> indicatif::ProgressBar {
    use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressState, ProgressStyle};
    let (bar, count) = match (total, bytes) {
        (Some(total), true) => (ProgressBar::new(total), "{bytes}/{total_bytes}"),
        (Some(total), false) => (ProgressBar::new(total), "{human_pos}/{human_len}"),
        (None, _) => (ProgressBar::new_spinner(), "{human_pos}"),
    };
    // A rate names its unit, and has few digits.
    let rate = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let rate = state.per_sec().round().max(0.0) as u64;
        // A bar that cannot be written is ignored.
        let _ = match bytes {
            true => write!(out, "{}/s", HumanBytes(rate)),
            false => write!(out, "{}/s", HumanCount(rate)),
        };
    };
    let left = if total.is_some() { "ETA {eta}" } else { "" };
    let template = format!("{{prefix}} {{wide_bar}} {count} {{rate}} {{elapsed}} {left} {{msg}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style.with_key("rate", rate));
    }
    bar.set_prefix(what);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_cause_that_an_error_names_itself_is_printed_once() {
        let fault = || io::Error::other("no route");
        let twice = anyhow::Error::new(crate::exchange::link::LinkFault::Connect(fault()));
        assert_eq!(causes(&twice), "the peer cannot be reached: no route");
        let within = Err::<(), _>(fault()).context("node:9090").unwrap_err();
        assert_eq!(causes(&within), "node:9090: no route");
    }
}
