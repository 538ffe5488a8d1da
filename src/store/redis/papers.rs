//! Papers in Redis: a hash for each owner in the slot of the owner's partition, with an index if it is long. Scripts read it;
//! sweeps and exports scan.

use super::opened::OpenedRedis;
use super::partition;
use super::partition::PARTITIONS;
use super::running::Redis;
use super::scripts::{self, LEASE, PAPERS, REMOVE, SWEEP};
use crate::clock::Time;
use crate::paper::{Cursor, PAGE_MAX, Paper, PaperKey, PaperKind, PaperKinds, Retention};
use crate::person::Identity;
use crate::store::error::Error;
use std::collections::HashSet;
use std::time::Duration;

/// Keys that one step of a scan looks at: some hundred microseconds of the server's time.
const SCAN_COUNT: usize = 500;

/// Papers that one step of a sweep looks at: less than a millisecond of the server's time.
const SWEEP_COUNT: usize = 1_000;

/// Time for which a partition is left to a silent sweeper.
const TURN: Duration = Duration::from_secs(60);

/// Pause between two steps of a sweep.
const SWEEP_PAUSE: Duration = Duration::from_millis(5);

/// Returns the command that reads papers of an owner by their keys. It is not a script, so the reply is sent without a copy.
fn looks(owner: &Identity, keys: &[PaperKey]) -> redis::Cmd {
    let mut pile = partition::papers(partition::of(owner.home)).into_bytes();
    pile.extend_from_slice(&scripts::owner(owner));
    let mut call = redis::cmd("HMGET");
    call.arg(pile);
    for key in keys {
        call.arg(&key[..]);
    }
    call
}

fn looked_up(keys: &[PaperKey], values: Vec<Option<Vec<u8>>>) -> Result<Vec<Option<Paper>>, Error> {
    let read = |(key, value): (&PaperKey, Option<Vec<u8>>)| {
        let paper = value.map(|value| Paper::read(*key, &value).ok_or(Error::Damaged("a paper")));
        paper.transpose()
    };
    keys.iter().zip(values).map(read).collect()
}

impl Redis {
    /// Returns up to `limit` papers of an owner of these kinds after the cursor, the newest first.
    ///
    /// # Errors
    ///
    /// The store fails, or a paper is damaged.
    pub(super) async fn read_papers(
        &self,
        owner: Identity,
        kinds: PaperKinds,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Paper>, Error> {
        let owner = self.shorten(owner);
        let after = after.map_or(Vec::new(), |after| after.to_bytes().to_vec());
        let (kinds, limit) = (kinds.bits().to_string(), limit.to_string());
        let arguments = [
            &scripts::owner(&owner)[..],
            kinds.as_bytes(),
            limit.as_bytes(),
            &after,
        ];
        let partition = partition::of(owner.home);
        scripts::papers(self.ask(partition, &PAPERS, &arguments).await?)
    }

    /// Returns the owner's paper for each key; None for a missing one.
    ///
    /// # Errors
    ///
    /// The store fails, or a paper is damaged.
    pub(super) async fn read_some(
        &self,
        owner: Identity,
        keys: &[PaperKey],
    ) -> Result<Vec<Option<Paper>>, Error> {
        let owner = self.shorten(owner);
        let partition = partition::of(owner.home);
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(PAGE_MAX) {
            let mut link = self.asking(partition).await?;
            let values = looks(&owner, keys).query_async(&mut link).await;
            let values = self.judged(partition, values).await?;
            found.extend(looked_up(keys, values)?);
        }
        Ok(found)
    }

    /// Removes an owner's papers with these keys, and returns their number.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub(super) async fn remove_papers(
        &self,
        owner: Identity,
        keys: &[PaperKey],
    ) -> Result<u64, Error> {
        let owner = self.shorten(owner);
        let mut removed = 0;
        for keys in keys.chunks(PAGE_MAX) {
            let place = scripts::owner(&owner);
            let mut arguments = vec![&place[..]];
            arguments.extend(keys.iter().map(|key| &key[..]));
            let partition = partition::of(owner.home);
            let some: u64 = self.ask(partition, &REMOVE, &arguments).await?;
            removed += some;
        }
        Ok(removed)
    }

    /// Sweeps each partition that no node swept within `every`. If two nodes sweep at once, the second finds less.
    ///
    /// # Errors
    ///
    /// The store fails. Papers swept before stay removed.
    pub(super) async fn sweep_papers(
        &self,
        keep: &Retention,
        now: Time,
        every: Duration,
    ) -> Result<u64, Error> {
        let horizons: Vec<u8> = PaperKind::ALL
            .into_iter()
            .flat_map(|kind| keep.horizon(kind, now).0.to_be_bytes()[2..].to_vec())
            .collect();
        let mut swept = 0;
        for partition in 0..PARTITIONS {
            let mut cursor = 0;
            loop {
                if !self.has_turn(partition, TURN).await? {
                    break;
                }
                let owners = self.opened.owners(partition, &mut cursor).await?;
                let owners: Vec<[u8; 24]> = owners.iter().map(scripts::owner).collect();
                let mut left = &owners[..];
                while !left.is_empty() {
                    let count = SWEEP_COUNT.to_string();
                    let mut arguments = vec![&horizons[..], count.as_bytes()];
                    arguments.extend(left.iter().map(|owner| &owner[..]));
                    let (more, done): (u64, usize) =
                        self.ask(partition, &SWEEP, &arguments).await?;
                    swept += more;
                    left = &left[done.min(left.len())..];
                    if !left.is_empty() {
                        tokio::time::sleep(SWEEP_PAUSE).await;
                        if !self.has_turn(partition, TURN).await? {
                            break;
                        }
                    }
                }
                if cursor == 0 {
                    // A little less, so that the last sweeper finds it free again.
                    self.has_turn(partition, every * 9 / 10).await?;
                    break;
                }
                tokio::time::sleep(SWEEP_PAUSE).await;
            }
        }
        Ok(swept)
    }

    /// Takes the lease to sweep a partition for `time`. Returns false if another node has it.
    async fn has_turn(&self, partition: usize, time: Duration) -> Result<bool, Error> {
        let time = time.as_millis().max(1).to_string();
        let arguments = [&self.sweeper[..], time.as_bytes()];
        let taken: u64 = self.ask(partition, &LEASE, &arguments).await?;
        Ok(taken == 1)
    }
}

/// Position of a scan over all papers.
#[derive(Default)]
pub struct PaperScan {
    partition: usize,
    cursor: u64,
    /// Owners that were returned: a scan may repeat a key.
    told: HashSet<Identity>,
    owners: Vec<Identity>,
    after: Option<Cursor>,
}

impl OpenedRedis {
    /// Passes every paper of these kinds to `each`. Papers stored meanwhile may be included or not. Returns the number of owners
    /// with a damaged paper; the rest of theirs is left out.
    ///
    /// # Errors
    ///
    /// The store fails, or `each` failed.
    pub async fn each_paper(
        &self,
        kinds: PaperKinds,
        mut each: impl FnMut(Identity, Paper) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let mut scan = PaperScan::default();
        let mut damaged = 0;
        loop {
            match self.next_papers(kinds, &mut scan).await {
                Ok(Some(page)) => {
                    for (owner, paper) in page {
                        each(owner, paper)?;
                    }
                }
                Ok(None) => return Ok(damaged),
                Err(Error::Damaged(_)) if scan.owners.pop().is_some() => {
                    scan.after = None;
                    damaged += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns further papers of these kinds, perhaps none; None after the last.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub async fn next_papers(
        &self,
        kinds: PaperKinds,
        scan: &mut PaperScan,
    ) -> Result<Option<Vec<(Identity, Paper)>>, Error> {
        while scan.partition < PARTITIONS {
            if let Some(owner) = scan.owners.last().copied() {
                let page = self
                    .page(&owner, kinds, scan.after, PAGE_MAX, false)
                    .await?;
                scan.after = page.last().map(Paper::cursor);
                if page.len() < PAGE_MAX {
                    scan.owners.pop();
                    scan.after = None;
                }
                let page = page.into_iter().map(|paper| (owner, paper));
                return Ok(Some(page.collect()));
            }
            if scan.cursor == 0 && !scan.told.is_empty() {
                *scan = PaperScan {
                    partition: scan.partition + 1,
                    ..PaperScan::default()
                };
                continue;
            }
            let found = self.owners(scan.partition, &mut scan.cursor).await?;
            let new = found.into_iter().filter(|owner| scan.told.insert(*owner));
            scan.owners = new.collect();
            if scan.cursor == 0 && scan.told.is_empty() {
                scan.partition += 1;
            }
        }
        Ok(None)
    }

    /// Returns up to `limit` papers of an owner of these kinds after the cursor, the oldest or the newest first.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub async fn page(
        &self,
        owner: &Identity,
        kinds: PaperKinds,
        after: Option<Cursor>,
        limit: usize,
        oldest_first: bool,
    ) -> Result<Vec<Paper>, Error> {
        let partition = partition::of(owner.home);
        let mut held = self.asking[partition].lock().await;
        let mut link = held.get().await?;
        let found = PAPERS
            .key(partition::meta(partition))
            .arg(&scripts::owner(owner)[..])
            .arg(kinds.bits())
            .arg(limit)
            .arg(after.map_or(Vec::new(), |after| after.to_bytes().to_vec()))
            .arg(u8::from(oldest_first))
            .invoke_async(&mut link)
            .await
            .map_err(|error| held.failed(&error))?;
        scripts::papers(found)
    }

    /// Returns the owner's paper for each key; None for a missing one.
    ///
    /// # Errors
    ///
    /// The store fails.
    pub async fn some(
        &self,
        owner: &Identity,
        keys: &[PaperKey],
    ) -> Result<Vec<Option<Paper>>, Error> {
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(PAGE_MAX) {
            let partition = partition::of(owner.home);
            let mut held = self.asking[partition].lock().await;
            let mut link = held.get().await?;
            let values = looks(owner, keys).query_async(&mut link).await;
            let values = values.map_err(|error| held.failed(&error))?;
            found.extend(looked_up(keys, values)?);
        }
        Ok(found)
    }

    /// Returns some owners with papers in a partition. The cursor is 0 again after the last.
    async fn owners(&self, partition: usize, cursor: &mut u64) -> Result<Vec<Identity>, Error> {
        let pattern = format!("{}*", partition::papers(partition));
        self.scan(partition, &pattern, cursor, SCAN_COUNT).await
    }

    /// Some owners who have papers at the server of a partition, in whichever of its partitions, of about `count` keys; the cursor is 0
    /// again after the last of them.
    pub(super) async fn all_owners(
        &self,
        partition: usize,
        cursor: &mut u64,
        count: usize,
    ) -> Result<Vec<Identity>, Error> {
        self.scan(partition, "lm:{*}:p*", cursor, count).await
    }

    async fn scan(
        &self,
        partition: usize,
        pattern: &str,
        cursor: &mut u64,
        count: usize,
    ) -> Result<Vec<Identity>, Error> {
        let mut held = self.asking[partition].lock().await;
        let mut link = held.get().await?;
        let (next, keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(*cursor)
            .arg("MATCH")
            .arg(pattern)
            .arg("COUNT")
            .arg(count)
            .query_async(&mut link)
            .await
            .map_err(|error| held.failed(&error))?;
        *cursor = next;
        // Other keys that the pattern lets through have other lengths, or another owner's partition.
        let owner = |key: &Vec<u8>| {
            let owner = scripts::owner_of(key)?;
            let head = partition::papers(partition::of(owner.home));
            let is_own = key.len() == head.len() + 24 && key.starts_with(head.as_bytes());
            is_own.then_some(owner)
        };
        Ok(keys.iter().filter_map(owner).collect())
    }
}
