//! Our status list as a node serves it: the newest edition in the store whose files are valid. Reads heads and files from the
//! store and gives files by name; knows neither the board nor HTTP.

pub mod shelf;

use crate::clock::{Moment, Time};
use crate::offline::daily::DayKeys;
use crate::offline::issue::OfflineKeys;
use crate::offline::list::{BaseList, ListChanges};
use crate::offline::publisher::Edition;
use crate::seal::Seal;
use crate::store::{Error, Store};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use serde_json::json;
use shelf::{EditionHead, FileName, ListShelf, PairNames};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Settings of status lists: how often they are made, and the ages that gates apply to them.
#[derive(Clone, Debug)]
pub struct ListSettings {
    /// Length of a slot. One list is published in each slot.
    pub every: Duration,
    /// Time after which a new base is made.
    pub base_every: Duration,
    /// Age past which gates mark a colour as stale.
    pub stale_after: Duration,
    /// Age past which gates give no colour.
    pub too_old_after: Duration,
    /// Bytes of list files that one thread of a door sends in a second.
    pub bytes_per_second: u64,
}

/// Divides a slot into the time for which an answer may be cached once the next list is due.
const DUE_PART: u32 = 60;

/// A file of a status list as it is served, plain and sealed.
#[derive(Clone, Debug)]
pub struct ServedFile {
    /// The file's name: its hash and its size.
    pub name: FileName,
    /// The file's contents.
    pub bytes: Bytes,
    /// The contents sealed with the key of the day, for caches that anybody may read; see [`crate::offline::daily`].
    pub sealed: Bytes,
    /// The entity tag of the plain contents.
    pub tag: String,
    /// The entity tag of the sealed form.
    pub sealed_tag: String,
}

impl ServedFile {
    /// Returns the file with both forms; `day` is the day of the edition.
    fn new(name: FileName, bytes: Bytes, days: &DayKeys, day: u32) -> ServedFile {
        let sealed = days.seal(&bytes, day);
        ServedFile {
            tag: name.tag(),
            sealed_tag: FileName::of(&sealed).tag(),
            sealed: sealed.into(),
            name,
            bytes,
        }
    }
}

/// A base and its changes as they are served.
#[derive(Clone, Debug)]
pub struct ServedPair {
    /// The number of the base.
    pub number: u64,
    /// The file of the base.
    pub base: ServedFile,
    /// The file of its changes.
    pub changes: ServedFile,
}

/// An edition with all its files in memory.
#[derive(Clone, Debug)]
pub struct ServedEdition {
    /// The head of the edition as the store has it.
    pub head: EditionHead,
    /// Bases with their changes, the newest first.
    pub pairs: Vec<ServedPair>,
}

impl ServedEdition {
    /// Returns the time up to which acknowledged changes are in the list.
    pub fn as_of(&self) -> Time {
        Time(self.head.as_of)
    }

    /// Returns the time after which gates must not use the list.
    pub fn until(&self) -> Time {
        Time(self.head.until)
    }

    /// Returns the number of the newest base. No edition has the number 0.
    pub fn number(&self) -> u64 {
        self.pairs.first().map_or(0, |pair| pair.number)
    }

    /// Returns the changes of the base with this number; None if the edition no longer has that base.
    pub fn changes(&self, number: u64) -> Option<&ServedFile> {
        let mut pairs = self.pairs.iter();
        let pair = pairs.find(|pair| pair.number == number)?;
        Some(&pair.changes)
    }

    /// Returns the bases that a key in force signed, the newest first.
    pub fn bases(&self, keys: &OfflineKeys) -> Vec<BaseList> {
        let files = self.pairs.iter().map(|pair| &pair.base.bytes[..]);
        files
            .map_while(|file| BaseList::open(file.into(), &keys.verifying).ok())
            .collect()
    }

    /// Returns how long a cache may keep the edition: until the next slot, or a short time if the next list is overdue.
    pub fn cache_for(&self, now: Time, every: Duration) -> Duration {
        let next = Time(self.head.slot).plus(every);
        let left = Duration::from_millis(next.0.saturating_sub(now.0));
        left.max(every / DUE_PART).max(Duration::from_secs(1))
    }

    /// Returns a description of the edition in JSON, for gates that ask which files there are.
    pub fn describe(&self, issuer: u32, settings: &ListSettings) -> Bytes {
        let file = |file: &ServedFile| json!({ "bytes": file.bytes.len(), "etag": file.tag });
        let pairs: Vec<_> = self
            .pairs
            .iter()
            .map(|pair| {
                json!({
                    // Numbers are printed as text: some languages read large JSON numbers inexactly.
                    "number": pair.number.to_string(),
                    "base": file(&pair.base), "changes": file(&pair.changes),
                })
            })
            .collect();
        json!({
            "issuer": format!("{issuer:06}"),
            "as_of": self.as_of().to_string(),
            "until": self.until().to_string(),
            "every_ms": settings.every.as_millis() as u64,
            "stale_after_ms": settings.stale_after.as_millis() as u64,
            "too_old_after_ms": settings.too_old_after.as_millis() as u64,
            "bases": pairs,
        })
        .to_string()
        .into()
    }
}

/// Result of an attempt to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The list was published.
    Done,
    /// The node may not publish: its board is not filled or is stale, or its clock is wrong.
    Withheld,
    /// The proof failed: an answer of the list would be wrong.
    Wrong,
    /// The list could not be built, or the store did not take it.
    Failed,
    /// Another node published in this slot first, or the slot was over.
    Late,
}

impl Published {
    /// All outcomes, in the order of the enum.
    pub const ALL: [Published; 5] = [
        Published::Done,
        Published::Withheld,
        Published::Wrong,
        Published::Failed,
        Published::Late,
    ];

    /// Returns the value of the label `outcome`.
    pub fn label(self) -> &'static str {
        match self {
            Published::Done => "published",
            Published::Withheld => "withheld",
            Published::Wrong => "wrong",
            Published::Failed => "failed",
            Published::Late => "late",
        }
    }
}

/// Counts of this node's publications. They are not on the hot path.
#[derive(Default)]
pub struct ListTally {
    outcomes: [AtomicU64; 5],
    /// Wrong answers that proofs found.
    pub wrong: AtomicU64,
    /// Time that the last publication of this node took, in milliseconds.
    pub build_ms: AtomicU64,
}

impl ListTally {
    /// Counts one attempt by its result.
    pub fn count(&self, outcome: Published) {
        self.outcomes[outcome as usize].fetch_add(1, Relaxed);
    }

    /// Returns the number of attempts with this result.
    pub fn counted(&self, outcome: Published) -> u64 {
        self.outcomes[outcome as usize].load(Relaxed)
    }
}

/// The status list of one issuer on one node.
pub struct Lists {
    /// Settings of the list.
    pub settings: ListSettings,
    issuer: u32,
    /// Counts of this node's publications.
    pub metrics: ListTally,
    /// When this node started to look for a list.
    pub since: Moment,
    served: ArcSwapOption<ServedEdition>,
}

impl Lists {
    /// Returns an empty list; `issuer` is a division of GB/T 2260 as a number.
    pub fn new(settings: ListSettings, issuer: u32) -> Lists {
        Lists {
            settings,
            issuer,
            metrics: ListTally::default(),
            since: Moment::now(),
            served: ArcSwapOption::empty(),
        }
    }

    /// Returns access to the files of this list in a store.
    pub fn shelf<'s>(&self, store: &'s dyn Store, seal: &'s Seal) -> ListShelf<'s> {
        ListShelf {
            store,
            seal,
            issuer: self.issuer,
        }
    }

    /// Returns the edition that is served; None before the first one.
    pub fn served(&self) -> Option<Arc<ServedEdition>> {
        self.served.load_full()
    }

    /// Returns the beginning of the slot that contains `time`.
    pub fn slot_of(&self, time: Time) -> Time {
        let every = self.settings.every.as_millis().max(1) as u64;
        Time(time.0 - time.0 % every)
    }

    /// Takes up the newest valid edition in the store if it is newer than the served one. An edition with a missing, changed or
    /// wrongly signed file is skipped.
    ///
    /// # Errors
    ///
    /// The store cannot be read. The served edition stays.
    pub async fn refresh(
        &self,
        store: &dyn Store,
        seal: &Seal,
        keys: &OfflineKeys,
    ) -> Result<(), Error> {
        let shelf = self.shelf(store, seal);
        let served = self.served();
        let is_news = |head: &EditionHead| {
            let number = head.pairs.first().map_or(0, |pair| pair.number);
            let is_newer = |served: &Arc<ServedEdition>| {
                head.as_of > served.head.as_of && number >= served.number()
            };
            number > 0 && served.as_ref().is_none_or(is_newer)
        };
        let mut heads = shelf.heads().await?;
        heads.retain(is_news);
        heads.sort_by_key(|head| std::cmp::Reverse(head.as_of));
        for head in heads {
            let slot = Time(head.slot);
            match load(&shelf, head, served.as_deref(), keys).await? {
                Some(edition) => {
                    self.served.store(Some(Arc::new(edition)));
                    return Ok(());
                }
                None => {
                    tracing::warn!(%slot, "a status list in the store is incomplete or has no valid signature: it is skipped")
                }
            }
        }
        Ok(())
    }

    /// Puts an edition into the store, its head last. Returns false if the slot has a head already.
    ///
    /// # Errors
    ///
    /// The store fails, or the key ring has no key for papers.
    pub async fn put(
        &self,
        shelf: &ListShelf<'_>,
        slot: Time,
        edition: &Edition,
        residents: u64,
        now: Time,
    ) -> Result<bool, Error> {
        let mut pairs = Vec::with_capacity(edition.pairs.len());
        let served = self.served();
        for pair in &edition.pairs {
            let known = served.as_ref().and_then(|served| {
                let mut pairs = served.pairs.iter();
                pairs.find(|known| known.base.bytes == pair.base[..])
            });
            pairs.push(PairNames {
                number: pair.number,
                base: match known {
                    Some(known) => known.base.name.clone(),
                    None => shelf.put(&pair.base, now).await?,
                },
                changes: shelf.put(&pair.changes, now).await?,
            });
        }
        let based = match (&served, edition.is_rebased) {
            (Some(served), false) => served.head.based,
            _ => edition.as_of.0,
        };
        let head = EditionHead {
            slot: slot.0,
            as_of: edition.as_of.0,
            until: edition.until.0,
            based,
            residents,
            listed: edition.listed,
            clashes: edition.clashes,
            pairs,
        };
        shelf.put_head(&head).await
    }
}

/// Reads the files of an edition; None if one is missing, changed or not signed by a key in force.
async fn load(
    shelf: &ListShelf<'_>,
    head: EditionHead,
    served: Option<&ServedEdition>,
    keys: &OfflineKeys,
) -> Result<Option<ServedEdition>, Error> {
    let day = DayKeys::day_of(Time(head.as_of));
    let mut pairs = Vec::with_capacity(head.pairs.len());
    for names in &head.pairs {
        let known = served.and_then(|served| {
            let mut pairs = served.pairs.iter();
            pairs.find(|pair| pair.base.name == names.base)
        });
        let base = match known {
            Some(known) => Some(known.base.bytes.clone()),
            None => shelf.get(&names.base).await?.map(Bytes::from),
        };
        let Some((base, changes)) = base.zip(shelf.get(&names.changes).await?) else {
            return Ok(None);
        };
        let opened_base = BaseList::open(base[..].into(), &keys.verifying);
        let opened_changes = ListChanges::open(&changes, &keys.verifying);
        let (Ok(opened_base), Ok(opened_changes)) = (opened_base, opened_changes) else {
            return Ok(None);
        };
        let file = |name: &FileName, bytes| ServedFile::new(name.clone(), bytes, &keys.days, day);
        let is_named = opened_base.head.issuer == shelf.issuer
            && opened_base.head.number == names.number
            && opened_changes.head.number == names.number
            && opened_changes.head.as_of == Time(head.as_of);
        if !is_named {
            return Ok(None);
        }
        pairs.push(ServedPair {
            number: names.number,
            base: file(&names.base, base),
            changes: file(&names.changes, changes.into()),
        });
    }
    Ok(Some(ServedEdition { head, pairs }))
}
