//! `backup`: copies a running node's store into a file; and temporary copies for other commands.

use super::failure::{CommandResult, Failure};
use super::node_client::{NodeClient, RemoteArgs, problem};
use super::stores::StoreHandle;
use super::terminal::{progress, say};
use crate::clock::Time;
use crate::config::Settings;
use crate::private_file;
use crate::seal::Seal;
use crate::store::embedded::backup::{self, BackupSummary};
use crate::store::embedded::{self, OpenedEmbedded};
use anyhow::{Context, anyhow};
use clap::Args;
use hyper::{Request, StatusCode};
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Copy the store of a running node into a file, while it serves
///
/// Needs an operator's token. The file holds everything acknowledged before the copy began. Names and numbers stay sealed, so
/// it needs the key ring, which is not in it. It appears once it is complete and was read back. A store in Redis is backed up
/// by Redis (docs/operate/backup.md).
#[derive(Args)]
pub struct Backup {
    /// The node's operations door: http://HOST:PORT or https://HOST:PORT
    #[arg(long, value_name = "URL")]
    from: String,
    /// The file to write, which must not exist yet
    #[arg(long, value_name = "FILE")]
    into: PathBuf,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Longest pause between two pieces from the node.
const PIECE_WAIT: Duration = Duration::from_secs(60);

impl Backup {
    pub fn run(self) -> CommandResult {
        let mut node = self.remote.client("--from", &self.from)?;
        let shown = self.into.display();
        if self.into.exists() {
            return Err(anyhow!("{shown} exists already and is not overwritten").into());
        }
        let summary = fetch(&mut node, &self.into)?;
        let made = serde_json::json!({
            "backup": shown.to_string(), "begun_at": Time(summary.head.begun_at).to_string(),
            "residents": summary.residents, "papers": summary.papers, "bytes": summary.bytes,
        });
        say(&made.to_string())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Copies a node's store into a new file, reads it back, and renames it.
fn fetch(node: &mut NodeClient, into: &Path) -> Result<BackupSummary, Failure> {
    let mut beside = into.as_os_str().to_owned();
    beside.push(format!(".part-{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let fetched = fetch_beside(node, &beside).and_then(|summary| {
        // Of two writers, the second fails.
        std::fs::hard_link(&beside, into).with_context(|| into.display().to_string())?;
        let folder = into
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(summary)
    });
    let _ = std::fs::remove_file(&beside);
    fetched
}

fn fetch_beside(node: &mut NodeClient, beside: &Path) -> Result<BackupSummary, Failure> {
    let file = private_file::create_new(beside).with_context(|| beside.display().to_string())?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let bar = progress(None, "copying", true);
    let answered = node.stream(Request::post("/v1/backup"), PIECE_WAIT, |piece| {
        bar.inc(piece.len() as u64);
        out.write_all(piece)
    })?;
    bar.finish_and_clear();
    if let Err((status, bytes)) = answered {
        let code = problem(node.authority(), status, &bytes)?.code;
        let why = match status {
            StatusCode::NOT_FOUND => {
                " (a store in Redis is backed up by Redis; docs/operate/backup.md)"
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                " (there is another backup under way, or the node starts or ends)"
            }
            _ => "",
        };
        return Err(anyhow!("the node refuses the backup: {code}{why}").into());
    }
    let file = out.into_inner().map_err(|error| error.into_error())?;
    file.sync_all()?;
    read_back(beside)
}

/// Reads a backup to its end.
pub fn read_back(path: &Path) -> Result<BackupSummary, Failure> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let reader = BufReader::with_capacity(1 << 20, file);
    let summary = backup::read(reader, &mut |_, _, _, _| Ok(()))
        .with_context(|| format!("the backup {}", path.display()))?;
    Ok(summary)
}

/// Prefix of the folders of copies; the number of the process follows.
const COPY_PREFIX: &str = "liangma-copy-";

/// A copy of a running node's store. It is removed at the end of the command, or by the next command if this one was killed.
pub struct ScratchStore {
    folder: PathBuf,
    /// Lock that the command holds.
    _lock: File,
}

/// Removes copies of killed commands, whose lock is free.
fn remove_left_behind() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let is_copy = entry.file_name().to_string_lossy().starts_with(COPY_PREFIX);
        let is_left = |folder: File| folder.try_lock().is_ok();
        if is_copy && File::open(entry.path()).is_ok_and(is_left) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl ScratchStore {
    /// Copies the store of the node at `from` and opens it. Names stay sealed on this disk too.
    pub fn copy(
        remote: &RemoteArgs,
        from: &str,
        settings: &Settings,
        seal: &Seal,
    ) -> Result<(ScratchStore, StoreHandle), Failure> {
        let mut node = remote.client("--from", from)?;
        remove_left_behind();
        let folder = std::env::temp_dir().join(format!("{COPY_PREFIX}{}", std::process::id()));
        let made = embedded::make_private(&folder).and_then(|()| {
            let lock = File::open(&folder)?;
            lock.lock()?;
            Ok(lock)
        });
        let scratch = ScratchStore {
            _lock: made.with_context(|| folder.display().to_string())?,
            folder,
        };
        let file = scratch.folder.join("backup");
        fetch(&mut node, &file)?;
        let store = embedded::Settings {
            cache_bytes: settings.store_cache_bytes,
            ..embedded::Settings::new(scratch.folder.join("store"))
        };
        let reader = BufReader::with_capacity(1 << 20, File::open(&file)?);
        backup::restore(&store, seal.mark(), reader, true)?;
        std::fs::remove_file(&file)?;
        let opened = OpenedEmbedded::open(store, seal.mark(), seal.status_tags())?;
        Ok((scratch, StoreHandle::Embedded(Box::new(opened))))
    }
}

impl Drop for ScratchStore {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
