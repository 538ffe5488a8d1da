//! `audit`: verifies and lists the log of looks and acts, page by page.

use super::backup::ScratchStore;
use super::failure::{CommandResult, Failure};
use super::key_ring::ring;
use super::log::log;
use super::node_client::RemoteArgs;
use super::output::Output;
use super::sources::{Sources, settings};
use super::stores::{StoreHandle, must_exist, open_existing, runtime};
use crate::clock::{DAY_MS, Time};
use crate::desk::audit::{self, AuditLink, ChainCheck, ChainEnd, Finding};
use crate::feed::parse_day;
use crate::paper::{Cursor, Paper, PaperKey, PaperKind, PaperKinds};
use crate::person::Identity;
use crate::seal::Seal;
use crate::seal::ring::RingFile;
use crate::store::{Error, embedded, redis};
use clap::{Args, Subcommand};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::runtime::Runtime;

/// Verify or list the log of privileged looks at persons, and of acts of offices
#[derive(Args)]
pub struct AuditCommand {
    #[command(subcommand)]
    what: AuditAction,
}

#[derive(Subcommand)]
enum AuditAction {
    /// Check every link against the one before it, and the log against what persons were shown
    ///
    /// The last line says whether everything is unchanged, or the number of findings and the first of them; then the exit code
    /// is 1. The newest links can be cut off unnoticed, unless an end is given that was stored elsewhere: a node logs the end
    /// of its chain as `audit_end` every hour and when it stops.
    Verify {
        #[command(flatten)]
        sources: Sources,
        /// An end of a chain that must be present, as in a node's log: CHAIN:LINKS:HASH@DAY
        #[arg(long, value_name = "END", value_parser = end)]
        end: Vec<ChainEnd>,
        /// A log of a node, or any file that holds ends; `-` is standard input
        #[arg(long, value_name = "FILE")]
        ends: Option<PathBuf>,
        /// Operations door of a running node, instead of a store that no node has open; needs an operator's token. The store is
        /// first copied into the folder for temporary files
        #[arg(long, value_name = "URL")]
        from: Option<String>,
        #[command(flatten)]
        remote: Box<RemoteArgs>,
    },
    /// Write every look and act as NDJSON, the oldest first: holder, role, act, purpose; persons as keyed hashes
    List {
        #[command(flatten)]
        sources: Sources,
        /// First day to write, in China's time
        #[arg(long, value_name = "DAY", value_parser = day)]
        from: Option<u32>,
        /// Last day to write
        #[arg(long, value_name = "DAY", value_parser = day)]
        to: Option<u32>,
    },
}

fn end(text: &str) -> Result<ChainEnd, String> {
    ChainEnd::parse(text).ok_or_else(|| "an end is CHAIN:LINKS:HASH@DAY".to_owned())
}

fn day(text: &str) -> Result<u32, String> {
    parse_day(text).ok_or_else(|| "a day is YYYY-MM-DD".to_owned())
}

impl AuditCommand {
    pub fn run(self) -> CommandResult {
        let sources = match &self.what {
            AuditAction::Verify { sources, .. } | AuditAction::List { sources, .. } => sources,
        };
        let settings = settings(sources.raw())?;
        log(&settings.log, settings.log_format)?;
        let runtime = runtime()?;
        let (seal, _scratch, store) = match &self.what {
            AuditAction::Verify {
                from: Some(from),
                remote,
                ..
            } => {
                let ring = RingFile::read(&settings.keys)?;
                let seal = Seal::new(&ring, settings.seal.clone());
                let (scratch, store) = ScratchStore::copy(remote, from, &settings, &seal)?;
                (seal, Some(scratch), store)
            }
            _ => {
                must_exist(&settings)?;
                let ring = ring(&settings)?;
                let seal = Seal::new(&ring, settings.seal.clone());
                let store = runtime.block_on(open_existing(&settings, &seal))?;
                (seal, None, store)
            }
        };
        let reader = StoreReader {
            store: &store,
            runtime: &runtime,
        };
        let kept_from = settings.keep.horizon(PaperKind::Audit, Time::now());
        match self.what {
            AuditAction::Verify { end, ends, .. } => {
                let mut known = end;
                if let Some(path) = ends {
                    known.extend(ends_in(&path)?);
                }
                verify(&reader, &seal, kept_from, known)
            }
            AuditAction::List { from, to, .. } => list(&reader, &seal, kept_from, from, to),
        }
    }
}

/// Returns the ends in a file, each a word of its own or after `=`.
fn ends_in(path: &PathBuf) -> Result<Vec<ChainEnd>, Failure> {
    let input: Box<dyn BufRead> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => {
            let file = std::fs::File::open(path);
            let file = file.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
            Box::new(BufReader::new(file))
        }
    };
    let mut ends: BTreeMap<(String, u64), ChainEnd> = BTreeMap::new();
    for line in input.lines() {
        let line = line?;
        let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || ":@-".contains(c)));
        for end in words.filter_map(ChainEnd::parse) {
            ends.insert((end.chain.clone(), end.links), end);
        }
    }
    if ends.is_empty() {
        return Err(anyhow::anyhow!("{}: the file has no end of a chain", path.display()).into());
    }
    Ok(ends.into_values().collect())
}

fn verify(
    reader: &StoreReader<'_>,
    seal: &Seal,
    kept_from: Time,
    known: Vec<ChainEnd>,
) -> CommandResult {
    let mut out = Output::lock();
    let mut check = ChainCheck::new(seal, kept_from, known);
    let (mut count, mut first) = (0u64, None);
    let mut tell = |findings: Vec<Finding>| -> Result<(), Failure> {
        for finding in findings {
            writeln!(out, "{finding}")?;
            count += 1;
            first.get_or_insert(finding);
        }
        Ok(())
    };
    reader.each_page(
        PaperKinds::of(&[PaperKind::Audit, PaperKind::Access]),
        |page| {
            let wanted: Vec<Vec<(Identity, PaperKey)>> = page
                .iter()
                .map(|(owner, paper)| check.wants(owner, paper))
                .collect();
            let mut owners: BTreeMap<Identity, Vec<PaperKey>> = BTreeMap::new();
            for (owner, key) in wanted.iter().flatten() {
                owners.entry(*owner).or_default().push(*key);
            }
            let mut found = BTreeMap::new();
            for (owner, keys) in owners {
                let papers = reader.some(&owner, &keys)?;
                for (key, paper) in keys.into_iter().zip(papers) {
                    found.insert((owner, key), paper);
                }
            }
            for ((owner, paper), wanted) in page.iter().zip(wanted) {
                let papers = wanted.iter().map(|place| found[place].clone());
                tell(check.judge(owner, paper, papers))?;
            }
            Ok(())
        },
    )?;
    tell(check.finish())?;
    for end in check.ends() {
        writeln!(
            out,
            "chain {}: {} links, the end is {end}",
            end.chain, end.links
        )?;
    }
    let (looks, acts) = (check.looks, check.acts);
    Ok(match first {
        None => {
            writeln!(
                out,
                "{looks} looks and {acts} acts, all as they were written"
            )?;
            ExitCode::SUCCESS
        }
        Some(first) => {
            writeln!(
                out,
                "{looks} looks and {acts} acts, {count} findings; the first: {first}"
            )?;
            ExitCode::FAILURE
        }
    })
}

/// Links of one partition of a day that are read in one call.
const LIST_STEP: usize = 100;

fn list(
    reader: &StoreReader<'_>,
    seal: &Seal,
    kept_from: Time,
    from: Option<u32>,
    to: Option<u32>,
) -> CommandResult {
    let mut out = Output::lock();
    // Other nodes' clocks may be slightly ahead.
    let (mut at, last) = (kept_from, Time(Time::now().0 + DAY_MS));
    let mut unreadable = 0;
    while at.day() <= last.day() {
        let day = at.day();
        at = Time(at.0 + DAY_MS);
        if from.is_some_and(|from| day < from) || to.is_some_and(|to| day > to) {
            continue;
        }
        let mut parts: Vec<Part> = (0..16)
            .map(|n| Part {
                owner: audit::owner(seal, day, n),
                papers: VecDeque::new(),
                after: None,
                ended: false,
            })
            .collect();
        loop {
            for part in &mut parts {
                part.fill(reader)?;
            }
            let first = parts
                .iter_mut()
                .filter(|part| !part.papers.is_empty())
                .min_by_key(|part| part.papers[0].cursor().at);
            let Some(part) = first else { break };
            let Some(paper) = part.papers.pop_front() else {
                break;
            };
            match audit::read_link(seal, &part.owner, &paper) {
                Some(link) => print(&mut out, &link, paper.at)?,
                None => unreadable += 1,
            }
        }
    }
    match unreadable {
        0 => Ok(ExitCode::SUCCESS),
        _ => Err(anyhow::anyhow!("{unreadable} links cannot be opened: run `audit verify`").into()),
    }
}

fn print(out: &mut impl Write, link: &AuditLink, at: Time) -> Result<(), Failure> {
    let mut line = serde_json::json!(link);
    line["at"] = at.to_string().into();
    Ok(writeln!(out, "{line}")?)
}

/// One partition of a day's links, and how far it was read.
struct Part {
    owner: Identity,
    papers: VecDeque<Paper>,
    after: Option<Cursor>,
    ended: bool,
}

impl Part {
    fn fill(&mut self, reader: &StoreReader<'_>) -> Result<(), Failure> {
        if self.papers.is_empty() && !self.ended {
            let page = reader.oldest(&self.owner, PaperKind::Audit, self.after, LIST_STEP)?;
            self.ended = page.len() < LIST_STEP;
            self.after = page.last().map(Paper::cursor);
            self.papers.extend(page);
        }
        Ok(())
    }
}

/// Reads a store of either kind.
struct StoreReader<'s> {
    store: &'s StoreHandle,
    runtime: &'s Runtime,
}

impl StoreReader<'_> {
    fn each_page(
        &self,
        kinds: PaperKinds,
        mut each: impl FnMut(Vec<(Identity, Paper)>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self.store {
            StoreHandle::Embedded(store) => {
                let mut from = Some(embedded::papers::FIRST);
                while let Some(first) = from {
                    let step = store.next_papers(kinds, first)?;
                    if step.damaged > 0 {
                        return Err(Error::Damaged("a paper").into());
                    }
                    from = step.next;
                    each(step.papers)?;
                }
            }
            StoreHandle::Redis(store) => {
                let mut scan = redis::papers::PaperScan::default();
                let mut next = || self.runtime.block_on(store.next_papers(kinds, &mut scan));
                while let Some(page) = next()? {
                    each(page)?;
                }
            }
        }
        Ok(())
    }

    fn some(&self, owner: &Identity, keys: &[PaperKey]) -> Result<Vec<Option<Paper>>, Failure> {
        Ok(match self.store {
            StoreHandle::Embedded(store) => store.some(owner, keys)?,
            StoreHandle::Redis(store) => self.runtime.block_on(store.some(owner, keys))?,
        })
    }

    fn oldest(
        &self,
        owner: &Identity,
        kind: PaperKind,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Paper>, Failure> {
        let kinds = PaperKinds::of(&[kind]);
        Ok(match self.store {
            StoreHandle::Embedded(store) => store.page(owner, kinds, after, limit, true)?,
            StoreHandle::Redis(store) => {
                let page = store.page(owner, kinds, after, limit, true);
                self.runtime.block_on(page)?
            }
        })
    }
}
