//! `import`: reads events from files or standard input into a store or a running node.

use super::failure::{CommandResult, Failure, REJECTED};
use super::key_ring::ring;
use super::log::log;
use super::node_client::RemoteArgs;
use super::output::Output;
use super::remote::Remote;
use super::sources::{Sources, settings};
use super::stores::{StoreHandle, open_store, runtime};
use super::terminal::progress;
use crate::clock::Time;
use crate::feed::{self, IngestReport, LINE_BYTES_MAX, Rejection};
use crate::lines::LineSplitter;
use crate::seal::Seal;
use crate::store::embedded::bulk::RUN_BYTES;
use crate::store::redis::bulk::RedisBulk;
use crate::store::{BulkLoadReport, Change, Error};
use clap::Args;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Read events (NDJSON, as /v1/feed takes them, and papers that export wrote) into a store or a running node
///
/// Prints the answer of /v1/feed: the numbers of changed and unchanged events, and each rejected line with its reason. The same
/// file again changes nothing, so an interrupted import is simply repeated. Line numbers run on over all files. Exits 0 if
/// every line was accepted, and 3 if some were rejected.
#[derive(Args)]
pub struct Import {
    /// Files to read; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    sources: Sources,
    /// Send to a running node's operations door instead, with an authority's token: http://HOST:PORT or https://HOST:PORT
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Bytes that one read takes.
const READ_BYTES: usize = 1 << 20;

/// Page cache of the store during an import, in bytes.
const CACHE_BYTES: usize = 1 << 30;

impl Import {
    pub fn run(self) -> CommandResult {
        // Checked before a key ring or a store is created for missing files. A pipe must not be opened twice.
        for path in self.files.iter().filter(|path| !is_stdin(path)) {
            std::fs::metadata(path)
                .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        }
        let fed = match &self.to {
            Some(to) => self.send(to)?,
            None => self.load()?,
        };
        let mut out = Output::lock();
        writeln!(out, "{}", fed.to_json())?;
        Ok(
            match fed.rejected.is_empty() && fed.rejected_unlisted == 0 {
                true => ExitCode::SUCCESS,
                false => ExitCode::from(REJECTED),
            },
        )
    }

    fn load(&self) -> Result<IngestReport, Failure> {
        let settings = settings(self.sources.raw())?;
        log(&settings.log, settings.log_format)?;
        let ring = ring(&settings)?;
        let seal = Seal::new(&ring, settings.seal.clone());
        let runtime = runtime()?;
        let opened = runtime.block_on(open_store(
            &settings,
            &seal,
            CACHE_BYTES.max(settings.store_cache_bytes),
        ))?;
        match opened {
            StoreHandle::Embedded(store) => {
                let mut bulk = store.bulk(RUN_BYTES)?;
                let fed = self.read(&seal, |change| bulk.push(change))?;
                let bar = progress(Some(bulk.changes()), "storing", false);
                let loaded = bulk.finish(|done| bar.set_position(done))?;
                bar.finish_and_clear();
                Ok(with(fed, loaded))
            }
            StoreHandle::Redis(store) => {
                let mut bulk = RedisBulk::new({
                    let _inside = runtime.enter();
                    store.start(None, Arc::default())
                });
                let fed = self.read(&seal, |change| match bulk.push(change) {
                    true => runtime.block_on(bulk.send()),
                    false => Ok(()),
                })?;
                Ok(with(fed, runtime.block_on(bulk.finish())?))
            }
        }
    }

    /// Passes every change to `each`, up to the first that fails.
    fn read(
        &self,
        seal: &Seal,
        mut each: impl FnMut(Change) -> Result<(), Error>,
    ) -> Result<IngestReport, Failure> {
        let mut fed = IngestReport::default();
        let today = Time::now().day();
        let mut failed = None;
        self.lines("reading", |nth, line| {
            let changes = line
                .map_or(Err(Rejection::LineTooLong), |line| feed::parse(line, today))
                .and_then(|event| feed::seal_event(event, seal));
            match changes {
                Ok(changes) if failed.is_none() => {
                    failed = changes.into_iter().find_map(|change| each(change).err());
                }
                Ok(_) => {}
                Err(rejection) => fed.reject(nth, rejection),
            }
        })?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(fed),
        }
    }

    fn send(&self, to: &str) -> Result<IngestReport, Failure> {
        let mut remote = Remote::new(self.remote.client("--to", to)?);
        let mut failed = None;
        self.lines("sending", |nth, line| {
            if failed.is_none()
                && let Err(error) = remote.line(nth, line)
            {
                failed = Some(error);
            }
        })?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(remote.finish()?),
        }
    }

    /// Passes every line that is not blank to `each`, with progress.
    fn lines(
        &self,
        what: &'static str,
        mut each: impl FnMut(u64, Option<&[u8]>),
    ) -> Result<(), Failure> {
        let mut total = Some(0);
        for path in self.files.iter().filter(|path| !is_stdin(path)) {
            let length = std::fs::metadata(path)
                .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?
                .len();
            total = total.map(|total| total + length);
        }
        if self.files.iter().any(|path| is_stdin(path)) {
            total = None;
        }
        let bar = progress(total, what, true);
        let mut each = |nth, line: Option<&[u8]>| match line.map(<[u8]>::trim_ascii) {
            Some([]) => {}
            line => each(nth, line),
        };
        let mut lines = LineSplitter::new(LINE_BYTES_MAX);
        let mut buffer = vec![0; READ_BYTES];
        for path in &self.files {
            let mut file: Box<dyn Read> = match is_stdin(path) {
                true => Box::new(std::io::stdin().lock()),
                false => Box::new(
                    std::fs::File::open(path)
                        .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?,
                ),
            };
            loop {
                let length = match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(length) => length,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        return Err(anyhow::anyhow!("{}: {error}", path.display()).into());
                    }
                };
                lines.push(&buffer[..length], &mut each);
                bar.inc(length as u64);
            }
            // A last line without an end belongs to its own file.
            lines.finish(&mut each);
        }
        bar.finish_and_clear();
        Ok(())
    }
}

fn with(mut fed: IngestReport, loaded: BulkLoadReport) -> IngestReport {
    fed.applied = loaded.applied;
    fed.unchanged = loaded.unchanged;
    // A bulk load sorts the changes, so the line numbers are unknown here.
    for (lines, rejection) in [
        (loaded.conflicts, Rejection::SeqReused),
        (loaded.unreadable, Rejection::RecordDamaged),
    ] {
        if lines > 0 {
            tracing::error!(lines, detail = %rejection.detail(), "the store rejected lines");
        }
        fed.rejected_unlisted += lines;
    }
    fed
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}
