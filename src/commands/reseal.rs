//! `keys reseal`: seals data at rest anew, by a running node or in the store itself, and notes on the ring that nothing needs another key.

use super::failure::{CommandResult, Failure, REJECTED};
use super::key_ring::ring;
use super::log::log;
use super::node_client::{NodeClient, RemoteArgs, problem};
use super::sources::{Sources, settings};
use super::stores::{must_exist, open_existing, runtime, started};
use super::terminal::{note, progress, say};
use crate::clock::Time;
use crate::config::Settings;
use crate::seal::Seal;
use crate::seal::ring::RingLock;
use crate::store::reseal::{ResealOutcome, ResealReport, until_settled};
use anyhow::anyhow;
use bytes::Bytes;
use hyper::{Request, StatusCode};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Longest silence of a node that seals anew; usually it sends a line a second.
const LINE_WAIT: Duration = Duration::from_secs(60);

/// Time for a node to answer what its settings are.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Time for a node to read the ring after its SIGHUP.
const RING_WAIT: Duration = Duration::from_secs(10);

/// Pause between two questions whether the node has read the ring.
const RING_PAUSE: Duration = Duration::from_millis(100);

/// Interval of lines about the walk if standard error is not a terminal.
const NOTE_EVERY: Duration = Duration::from_secs(10);

/// Longest line of a node, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

pub fn run(sources: &Sources, from: Option<&str>, remote: &RemoteArgs) -> CommandResult {
    let settings = settings(sources.raw())?;
    let own = RingLock::of(&settings.keys)?.read()?;
    let shown = ShownProgress::new();
    let outcome = match from {
        Some(address) => {
            let mut node = remote.client("--from", address)?;
            wait_for_ring(&mut node, own.rest_current())?;
            by_node(&mut node, &shown)?
        }
        None => in_store(&settings, &shown)?,
    };
    shown.finish();
    tell(&settings, &outcome)
}

/// Waits until the node seals with the key of the ring here, which its SIGHUP may still be about to do.
fn wait_for_ring(node: &mut NodeClient, key: u8) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let (status, bytes) = node.ask(Request::get("/v1/settings"), Bytes::new(), ANSWER_WAIT)?;
        if status != StatusCode::OK {
            let code = problem(node.authority(), status, &bytes)?.code;
            return Err(anyhow!("the node does not say which key it seals with: {code}").into());
        }
        let told: serde_json::Value = serde_json::from_slice(&bytes)?;
        let own = told["rest_key"].as_u64();
        if own == Some(u64::from(key)) {
            return Ok(());
        }
        if begun.elapsed() >= RING_WAIT {
            let own = own.map_or("none".to_owned(), |own| own.to_string());
            return Err(anyhow!(
                "the node seals data at rest with key {own}, the ring here with key {key}: give the node the ring, send it SIGHUP, and run this again"
            )
            .into());
        }
        std::thread::sleep(RING_PAUSE);
    }
}

fn by_node(node: &mut NodeClient, shown: &ShownProgress) -> Result<ResealOutcome, Failure> {
    let (mut line, mut ended) = (Vec::new(), None);
    let answered = node.stream(Request::post("/v1/reseal"), LINE_WAIT, |piece| {
        for byte in piece {
            if *byte != b'\n' {
                line.push(*byte);
                if line.len() > LINE_BYTES_MAX {
                    return Err(std::io::Error::other("the node sends a line without end"));
                }
                continue;
            }
            match serde_json::from_slice::<ResealOutcome>(&line) {
                Ok(outcome) => ended = Some(outcome),
                Err(_) => shown.show(&serde_json::from_slice(&line)?),
            }
            line.clear();
        }
        Ok(())
    })?;
    if let Err((status, bytes)) = answered {
        let code = problem(node.authority(), status, &bytes)?.code;
        let why = match status {
            StatusCode::SERVICE_UNAVAILABLE => {
                " (it seals anew already, or makes a backup, or starts or ends)"
            }
            _ => "",
        };
        return Err(anyhow!("the node refuses: {code}{why}").into());
    }
    ended.ok_or_else(|| {
        anyhow!("the node ended before all was sealed anew, and its log says why; run this again")
            .into()
    })
}

fn in_store(settings: &Settings, shown: &ShownProgress) -> Result<ResealOutcome, Failure> {
    log(&settings.log, settings.log_format)?;
    must_exist(settings)?;
    let seal = Seal::new(&ring(settings)?, settings.seal.clone());
    let tell = |report: &ResealReport| {
        shown.show(report);
        true
    };
    runtime()?.block_on(async {
        let store = started(open_existing(settings, &seal).await?, settings);
        let settled = until_settled(&*store, &|| seal.rest_seal(), &tell).await;
        store.close().await;
        Ok(settled?)
    })
}

/// Says what came of it, and notes on the ring where nothing at rest needs another key than the current one.
fn tell(settings: &Settings, outcome: &ResealOutcome) -> CommandResult {
    let ResealOutcome { key, report, .. } = outcome;
    let is_whole = outcome.is_whole();
    let told = serde_json::json!({
        "key": key, "at": Time::now().to_string(), "walks": outcome.walks,
        "records": report.records, "papers": report.papers,
        "sealed_anew": report.sealed_anew, "ended": report.ended, "unopened": report.unopened,
        "previous_keys": if is_whole { "not needed" } else { "may be needed" },
    });
    if is_whole {
        let lock = RingLock::of(&settings.keys)?;
        let mut file = lock.read()?;
        if !file.note_resealed(*key, Time::now()) {
            return Err(anyhow!("the ring was rotated meanwhile: run this again").into());
        }
        file.replace(&lock)?;
    }
    say(&told.to_string())?;
    if is_whole {
        note(
            "nothing at rest needs the previous keys, if every node has read the ring since its rotation; `liangma keys drop` removes them",
        );
        return Ok(ExitCode::SUCCESS);
    }
    if !outcome.is_settled {
        note(
            "in each walk others wrote data that a previous key sealed: send SIGHUP to the nodes that have not read the ring, and run this again",
        );
    }
    for (what, count) in &report.unopened {
        note(&format!(
            "{count} of the kind {what} open with no key of the ring; they stay as they are"
        ));
    }
    Ok(ExitCode::from(REJECTED))
}

/// How far a walk is, shown: a bar on a terminal, a line now and then elsewhere.
struct ShownProgress {
    bar: Option<indicatif::ProgressBar>,
    noted_at: Mutex<Instant>,
}

impl ShownProgress {
    fn new() -> ShownProgress {
        let is_seen = std::io::stderr().is_terminal();
        ShownProgress {
            bar: is_seen.then(|| progress(None, "sealed anew", false)),
            noted_at: Mutex::new(Instant::now()),
        }
    }

    fn show(&self, report: &ResealReport) {
        let ResealReport {
            records,
            papers,
            sealed_anew,
            ..
        } = report;
        if let Some(bar) = &self.bar {
            bar.set_position(*sealed_anew);
            bar.set_message(format!("of {records} records and {papers} papers"));
            return;
        }
        let mut noted_at = self
            .noted_at
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if noted_at.elapsed() >= NOTE_EVERY {
            *noted_at = Instant::now();
            note(&format!(
                "{records} records and {papers} papers were looked at in this walk, {sealed_anew} sealed anew"
            ));
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
