//! The status list that a node serves: the newest edition that the store has and whose files are good.
//! In: heads and files from the store. Out: files by their names. Never: the board, HTTP.

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

/// How status lists are made, and how old they may become.
#[derive(Clone, Debug)]
pub struct ListSettings {
    /// A slot: in each there is one new list.
    pub every: Duration,
    /// A base is made anew after so long.
    pub base_every: Duration,
    /// What gates are told: past this age a colour is marked, and past that there is none.
    pub stale_after: Duration,
    /// Past this age a list has no colour.
    pub too_old_after: Duration,
    /// Bytes of lists that a thread of a door sends in a second.
    pub bytes_per_second: u64,
}

/// While the next list is due, an answer is kept for this part of a slot.
const DUE_PART: u32 = 60;

/// One file, as it is served.
#[derive(Clone, Debug)]
pub struct ServedFile {
    /// The file's name: its hash and its size.
    pub name: FileName,
    /// The file's contents.
    pub bytes: Bytes,
    /// The same for caches that anybody may read, see [`crate::offline::daily`].
    pub sealed: Bytes,
    /// Their entity tags.
    pub tag: String,
    /// The entity tag of the sealed form.
    pub sealed_tag: String,
}

impl ServedFile {
    /// `day` is that of the edition.
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

/// A base and its changes, as they are served.
#[derive(Clone, Debug)]
pub struct ServedPair {
    /// The number of the base.
    pub number: u64,
    /// The file of the base.
    pub base: ServedFile,
    /// The file of its changes.
    pub changes: ServedFile,
}

/// An edition, whole.
#[derive(Clone, Debug)]
pub struct ServedEdition {
    /// What the store holds of the edition.
    pub head: EditionHead,
    /// The newest base first.
    pub pairs: Vec<ServedPair>,
}

impl ServedEdition {
    /// Returns the time as of which the list tells.
    pub fn as_of(&self) -> Time {
        Time(self.head.as_of)
    }

    /// Returns the time after which the list is not to be used.
    pub fn until(&self) -> Time {
        Time(self.head.until)
    }

    /// Returns the number of the newest base; 0 for no base, which no edition is.
    pub fn number(&self) -> u64 {
        self.pairs.first().map_or(0, |pair| pair.number)
    }

    /// Returns the changes of the base with this number, while it is among the newest.
    pub fn changes(&self, number: u64) -> Option<&ServedFile> {
        let mut pairs = self.pairs.iter();
        let pair = pairs.find(|pair| pair.number == number)?;
        Some(&pair.changes)
    }

    /// Returns the bases, the newest first, but for those that no key in force signed.
    pub fn bases(&self, keys: &OfflineKeys) -> Vec<BaseList> {
        let files = self.pairs.iter().map(|pair| &pair.base.bytes[..]);
        files
            .map_while(|file| BaseList::open(file.into(), &keys.verifying).ok())
            .collect()
    }

    /// Returns how long the edition is sure to be the newest one; a moment where the next one is due.
    pub fn cache_for(&self, now: Time, every: Duration) -> Duration {
        let next = Time(self.head.slot).plus(every);
        let left = Duration::from_millis(next.0.saturating_sub(now.0));
        left.max(every / DUE_PART).max(Duration::from_secs(1))
    }

    /// Describes the edition in JSON, for gates that ask what there is.
    pub fn describe(&self, issuer: u32, settings: &ListSettings) -> Bytes {
        let file = |file: &ServedFile| json!({ "bytes": file.bytes.len(), "etag": file.tag });
        let pairs: Vec<_> = self
            .pairs
            .iter()
            .map(|pair| {
                json!({
                    // As text: not every language reads large numbers exactly.
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

/// What came of a try to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// There is a new list.
    Done,
    /// The board is not filled, or stale, or the clock is apart: what this node knows is not to be published.
    Withheld,
    /// An answer would be wrong.
    Wrong,
    /// The store did not take it, or it could not be built.
    Failed,
    /// Another node published in this slot meanwhile.
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

    /// Returns the label of the meter.
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

/// Counts of this node's publications; not hot.
#[derive(Default)]
pub struct ListTally {
    outcomes: [AtomicU64; 5],
    /// Answers that would have been wrong.
    pub wrong: AtomicU64,
    /// Milliseconds that the last publication of this node took.
    pub build_ms: AtomicU64,
}

impl ListTally {
    /// Counts one publication.
    pub fn count(&self, outcome: Published) {
        self.outcomes[outcome as usize].fetch_add(1, Relaxed);
    }

    /// Returns how many publications ended so.
    pub fn counted(&self, outcome: Published) -> u64 {
        self.outcomes[outcome as usize].load(Relaxed)
    }
}

/// The list of one issuer on one node.
pub struct Lists {
    /// How lists are made and used.
    pub settings: ListSettings,
    issuer: u32,
    /// Counts of this node's publications.
    pub metrics: ListTally,
    /// Since when this node has looked for one.
    pub since: Moment,
    served: ArcSwapOption<ServedEdition>,
}

impl Lists {
    /// `issuer` is a division of GB/T 2260 as a number.
    pub fn new(settings: ListSettings, issuer: u32) -> Lists {
        Lists {
            settings,
            issuer,
            metrics: ListTally::default(),
            since: Moment::now(),
            served: ArcSwapOption::empty(),
        }
    }

    /// Returns the shelf of this list in a store.
    pub fn shelf<'s>(&self, store: &'s dyn Store, seal: &'s Seal) -> ListShelf<'s> {
        ListShelf {
            store,
            seal,
            issuer: self.issuer,
        }
    }

    /// Returns the newest edition; None before the first one.
    pub fn served(&self) -> Option<Arc<ServedEdition>> {
        self.served.load_full()
    }

    /// Returns when the slot began that a time is in.
    pub fn slot_of(&self, time: Time) -> Time {
        let every = self.settings.every.as_millis().max(1) as u64;
        Time(time.0 - time.0 % every)
    }

    /// Reads the heads in the store and takes up the newest edition that is newer than the one that is served. An edition of which
    /// a file is missing, or not as it was put, or not signed by a key in force, is passed over. What is served never gets older.
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
                    tracing::warn!(%slot, "a status list in the store is not whole, or not signed by a key of the ring")
                }
            }
        }
        Ok(())
    }

    /// Puts an edition into the store, its head last. False where the slot has one already.
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

/// Returns the edition of a head, or None where a file is missing or is not what the head says.
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
