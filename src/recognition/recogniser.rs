//! The recogniser of a node: the trust list in force, its reloads, and counts of foreign codes.

use super::bounds::read_bounded;
use super::format::ForeignFormat;
use super::pass::{ForeignPass, PassFault};
use super::peer::{ListPlace, PeerLists, PeerVerdict, judge_offline, open_offline};
use super::trust::{self, TrustList};
use crate::clock::Time;
use crate::offline::code::OfflineCode;
use crate::offline::gate::ListAges;
use crate::refusal::Refusal;
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

/// Settings of recognition.
#[derive(Clone, Debug)]
pub struct RecognitionSettings {
    /// The trust file.
    pub trust: PathBuf,
    /// Names of the formats that are switched on.
    pub formats: Vec<String>,
}

/// Name of the format of peers' codes, in the setting `formats` and in metrics.
pub const LIANGMA: &str = "liangma";

/// Size and modification time of each file at the last reading.
type Look = Vec<Option<(u64, SystemTime)>>;

/// Result of reading the trust file again.
#[derive(Debug, PartialEq, Eq)]
pub enum TrustReloaded {
    /// The files did not change.
    Same,
    /// The files changed and were read.
    Read,
    /// The files are faulty; the list in force stays. Holds all faults.
    Bad(Vec<String>),
}

/// The trust list of a node, and counts.
pub struct Recogniser {
    settings: RecognitionSettings,
    list: ArcSwap<TrustList>,
    seen: Mutex<Look>,
    counts: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// Status lists of peers that were received.
    lists: Mutex<HashMap<u32, Arc<PeerLists>>>,
    /// Answers to peers: issuer, outcome, count.
    answered: Mutex<BTreeMap<(u32, &'static str), u64>>,
    since: Time,
}

impl Recogniser {
    /// Reads the trust file.
    ///
    /// # Errors
    ///
    /// All faults of the file and of the files that it names.
    pub fn read(settings: RecognitionSettings) -> Result<Recogniser, Vec<String>> {
        let (list, look) = read(&settings.trust, &[])?;
        let recogniser = Recogniser {
            settings,
            list: ArcSwap::from_pointee(list),
            seen: Mutex::new(look),
            counts: Mutex::default(),
            lists: Mutex::default(),
            answered: Mutex::default(),
            since: Time::now(),
        };
        recogniser.read_folders();
        Ok(recogniser)
    }

    /// Reads the files again if one changed, or if `force` is set. Faulty files change nothing.
    pub fn reload(&self, force: bool) -> TrustReloaded {
        let mut seen = held(&self.seen);
        let files = self.list.load().files.clone();
        let look = look(&self.settings.trust, &files);
        if look == *seen && !force {
            return TrustReloaded::Same;
        }
        match read(&self.settings.trust, &files) {
            Ok((list, look)) => {
                *seen = look;
                self.list.store(Arc::new(list));
                self.read_folders();
                TrustReloaded::Read
            }
            Err(faults) => {
                // Faulty files are read again once they change.
                *seen = look;
                TrustReloaded::Bad(faults)
            }
        }
    }

    /// Returns the trust list in force.
    pub fn list(&self) -> Arc<TrustList> {
        self.list.load_full()
    }

    /// Returns whether a format is switched on.
    pub fn is_on(&self, format: &str) -> bool {
        self.settings.formats.iter().any(|on| on == format)
    }

    /// Opens a code of another issuer; None if its first characters match no format.
    pub fn open(
        &self,
        text: &[u8],
        now: Time,
        skew: Duration,
    ) -> Option<(ForeignFormat, Result<ForeignPass, Refusal>)> {
        let format = ForeignFormat::told_apart(text)?;
        let opened = match self.is_on(format.word()) {
            true => (self.list.load())
                .open(format, text, Some((now, skew)))
                .map_err(PassFault::refusal),
            false => Err(Refusal::IssuerUnknown),
        };
        self.count(
            format.word(),
            opened
                .as_ref()
                .map_or_else(|refusal| refusal.code(), |_| "pass"),
        );
        Some((format, opened))
    }

    /// Opens an offline code of a peer, and judges it by the peer's list.
    ///
    /// # Errors
    ///
    /// `IssuerUnknown` if the trust file does not name the issuer, or a refusal of the code.
    pub fn open_offline(
        &self,
        text: &[u8],
        now: Time,
        ages: &ListAges,
    ) -> Result<PeerVerdict, Refusal> {
        let opened = self.judge_offline(text, now, ages);
        self.count(
            LIANGMA,
            opened
                .as_ref()
                .map_or_else(|refusal| refusal.code(), |told| told.state),
        );
        opened
    }

    fn judge_offline(
        &self,
        text: &[u8],
        now: Time,
        ages: &ListAges,
    ) -> Result<PeerVerdict, Refusal> {
        let issuer = OfflineCode::issuer_named(text).ok_or(Refusal::CodeInvalid)?;
        let list = self.list.load();
        let peer = list.peers.get(&issuer).filter(|_| self.is_on(LIANGMA));
        let peer = peer.ok_or(Refusal::IssuerUnknown)?;
        let code = open_offline(peer, text)?;
        if list.deny.has_code(&format!("{:016x}", code.list_id.0)) {
            return Err(Refusal::CodeRevoked);
        }
        let held = self.lists_of(issuer);
        let none = PeerLists::default();
        // A list that former keys signed does not count.
        let held = held.as_deref().filter(|held| held.keys == peer.keys);
        judge_offline(peer, &code, &held.unwrap_or(&none).held, ages, now)
    }

    /// Returns the held list of a peer.
    pub fn lists_of(&self, issuer: u32) -> Option<Arc<PeerLists>> {
        held(&self.lists).get(&issuer).cloned()
    }

    /// Takes up files of a peer's list.
    ///
    /// # Errors
    ///
    /// A message that says which file is refused, and why.
    pub fn take_lists(
        &self,
        issuer: u32,
        base: Option<Vec<u8>>,
        changes: Option<Vec<u8>>,
    ) -> Result<(), String> {
        let list = self.list.load();
        let peer = list
            .peers
            .get(&issuer)
            .ok_or("the issuer is not in the trust list any more")?;
        let known = self
            .lists_of(issuer)
            .filter(|known| known.keys == peer.keys);
        let mut next = known.map_or_else(
            || PeerLists {
                keys: peer.keys.clone(),
                ..PeerLists::default()
            },
            |known| PeerLists::clone(&known),
        );
        next.take(issuer, base, changes)?;
        held(&self.lists).insert(issuer, Arc::new(next));
        Ok(())
    }

    /// Reads lists in folders that the trust file names.
    fn read_folders(&self) {
        for peer in self.list.load().peers.values() {
            let Some(ListPlace::Folder(folder)) = &peer.list else {
                continue;
            };
            let read = |name: &str| read_bounded(&folder.join(name)).ok();
            let (base, changes) = (read("base.lml"), read("changes.lml"));
            let issuer = peer.id;
            if let Err(why) = self.take_lists(issuer, base, changes) {
                tracing::warn!(
                    issuer,
                    why,
                    "the status list of another issuer is refused; the one before stays"
                );
            }
        }
    }

    /// Counts a foreign code by format and outcome.
    pub fn count(&self, format: &'static str, outcome: &'static str) {
        *held(&self.counts).entry((format, outcome)).or_default() += 1;
    }

    /// Counts an answer to a peer.
    pub fn count_answered(&self, issuer: u32, outcome: &'static str) {
        *held(&self.answered).entry((issuer, outcome)).or_default() += 1;
    }

    /// Returns the answers to each peer: issuer, outcome, count.
    pub fn counted_answered(&self) -> Vec<(u32, &'static str, u64)> {
        let answered = held(&self.answered);
        let each = answered.iter();
        let each = each.map(|((issuer, outcome), count)| (*issuer, *outcome, *count));
        let list = self.list.load();
        // Every outcome is listed from the start, so that a rate can be computed.
        let may_ask = list.peers.values().filter(|peer| !peer.pins.is_empty());
        let first = may_ask.filter(|peer| !answered.contains_key(&(peer.id, "green")));
        each.chain(first.map(|peer| (peer.id, "green", 0)))
            .collect()
    }

    /// Returns the age of a peer's list; before the first one, the time since the start.
    pub fn list_age(&self, issuer: u32, now: Time) -> Duration {
        let as_of = self.lists_of(issuer).and_then(|lists| lists.held.as_of());
        now.since(as_of.unwrap_or(self.since))
    }

    /// Returns the foreign codes: format, outcome, count.
    pub fn counted(&self) -> Vec<(&'static str, &'static str, u64)> {
        let counts = held(&self.counts);
        let each = counts.iter();
        each.map(|((format, outcome), count)| (*format, *outcome, *count))
            .collect()
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn look(trust: &Path, files: &[PathBuf]) -> Look {
    let of = |path: &Path| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.len(), file.modified().ok()?))
    };
    let files = files.iter().map(PathBuf::as_path);
    std::iter::once(trust).chain(files).map(of).collect()
}

/// Reads the files and their state before the reading, so that a file that changes meanwhile is read again.
fn read(trust: &Path, before: &[PathBuf]) -> Result<(TrustList, Look), Vec<String>> {
    let first = look(trust, before);
    let list = trust::read(trust)?;
    let look = match list.files == before {
        true => first,
        false => look(trust, &list.files),
    };
    Ok((list, look))
}
