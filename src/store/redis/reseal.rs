//! Sealing data at rest anew in Redis: partition by partition, some rows in a call, each written only where it is still what was read.

use super::follower;
use super::opened::OpenedRedis;
use super::partition::{self, PARTITIONS};
use super::primaries::{ConnectionPurpose, PrimaryConnection, REPLICA_WAIT};
use super::running::Redis;
use super::scripts::{self, FORMAT, RESEAL, RESEAL_PAPERS};
use super::url::Address;
use crate::paper::{Paper, PaperKey};
use crate::person::{Identity, ResidentId};
use crate::seal::RestSeal;
use crate::seal::tags::TAG_BYTES;
use crate::store::error::Error;
use crate::store::reseal::{self, ResealProgress, ResealReport, RestingRecord};
use std::time::Duration;

/// Buckets that one call reads: some hundred records, some two hundred microseconds of the server's time.
const BUCKETS: u64 = 2;

/// Rows that one call writes: some three hundred microseconds of the server's time.
const ROWS_MAX: usize = 30;

/// Readings of a page of records at most: a page is read again if others wrote some of it before they could be written here.
const RECORD_TRIES_MAX: u32 = 16;

/// Owners whose papers are read by one step, each by a call of its own.
const OWNERS_MAX: usize = 64;

/// Keys that one step of the scan for owners looks at: some four hundred microseconds of the server's time.
const KEYS_MAX: usize = 200;

/// Approximate number of papers that one call returns of an owner with many.
const PAPERS_COUNT: usize = 100;

/// Pause between two steps, so that other callers of the server come first.
const PAUSE: Duration = Duration::from_millis(1);

/// Pause after a step that failed because the store or its replicas cannot be reached.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Steps that may fail in a row: a fail-over takes some seconds.
const RETRIES_MAX: u32 = 60;

/// Number of owners to gather before their papers are read. They are sorted by partition, so that owners of one partition are read
/// one after the other.
const OWNERS_GATHERED: usize = 4_096;

/// How far a walk has come: the records of each partition, then the papers of each server, then the replicas of each partition.
enum WalkPlace {
    /// Before this partition, of which nothing was read yet.
    Begun(usize),
    /// Before the bucket `first` of a partition; `depth` bits of an id choose its bucket.
    Buckets {
        partition: usize,
        epoch: Vec<u8>,
        depth: u32,
        first: u64,
    },
    /// Among the owners of papers.
    Owners(Box<OwnerPlace>),
    /// Before the wait until the replicas of this partition have what was written.
    Looked(usize),
    /// Done.
    Over,
}

/// How far the walk over the owners of papers has come. The keys of a server are scanned once for all of its partitions.
struct OwnerPlace {
    /// The primary of each partition when this walk began. Keys that moved since may be missed.
    primaries: [Option<Address>; PARTITIONS],
    /// A partition of each server that is still to be scanned, the one at hand last.
    servers: Vec<usize>,
    /// Cursor of the scan of a server's keys; 0 before its first step and after its last.
    cursor: u64,
    /// Whether owners are gathered now; false while the papers of the gathered ones are read.
    is_gathering: bool,
    /// Owners whose papers are still to be looked at, each with the cursor among its papers.
    left: Vec<(Identity, u64)>,
}

/// A row as it was read, and as it will be written.
struct ResealedRow {
    partition: usize,
    /// The arguments that name the row to the script: an id; or an owner, and the key of a paper.
    names: Vec<Vec<u8>>,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Redis {
    /// Walks over the whole store once.
    pub(super) async fn reseal_all(
        &self,
        seal: &RestSeal,
        tell: &ResealProgress<'_>,
    ) -> Result<ResealReport, Error> {
        let mut report = ResealReport::default();
        let link = |partition| {
            let primaries = self.opened.primaries.clone();
            PrimaryConnection::new(primaries, partition, ConnectionPurpose::Write)
        };
        let mut walk = RedisWalk {
            opened: &self.opened,
            links: std::array::from_fn(link),
            seal,
            place: WalkPlace::Begun(0),
        };
        let mut failures = 0;
        while !matches!(walk.place, WalkPlace::Over) {
            let mut found = ResealReport::default();
            match walk.step(&mut found).await {
                Ok(()) => {
                    failures = 0;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error @ (Error::Away(_) | Error::Stuck(_) | Error::NotReplicated(..))) => {
                    failures += 1;
                    if failures > RETRIES_MAX {
                        return Err(error);
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
            report.add(&found);
            if !tell(&report) {
                return Err(Error::Closed);
            }
        }
        Ok(report)
    }
}

/// A walk under way.
struct RedisWalk<'w> {
    opened: &'w OpenedRedis,
    /// The connections for writing, one for each partition.
    links: [PrimaryConnection; PARTITIONS],
    seal: &'w RestSeal,
    place: WalkPlace,
}

impl RedisWalk<'_> {
    /// Goes on by one step. After an error the same step can be tried again: what it wrote is found written.
    async fn step(&mut self, found: &mut ResealReport) -> Result<(), Error> {
        match &self.place {
            WalkPlace::Begun(partition) => {
                let partition = *partition;
                let state = self.opened.state(partition).await?;
                self.place = match state.epoch.is_empty() {
                    true => self.behind(partition),
                    false => WalkPlace::Buckets {
                        partition,
                        epoch: state.epoch,
                        depth: state.depth,
                        first: 0,
                    },
                };
                Ok(())
            }
            WalkPlace::Buckets { .. } => self.records(found).await,
            WalkPlace::Owners(_) => self.owners(found).await,
            WalkPlace::Looked(partition) => {
                let partition = *partition;
                self.replicate(partition).await?;
                self.place = match partition + 1 {
                    PARTITIONS => WalkPlace::Over,
                    next => WalkPlace::Looked(next),
                };
                Ok(())
            }
            WalkPlace::Over => Ok(()),
        }
    }

    /// Returns the place behind the records of a partition.
    fn behind(&self, partition: usize) -> WalkPlace {
        match partition + 1 {
            PARTITIONS => WalkPlace::Owners(Box::new(self.first_owners())),
            next => WalkPlace::Begun(next),
        }
    }

    fn primaries_now(&self) -> [Option<Address>; PARTITIONS] {
        std::array::from_fn(|partition| self.opened.primaries.of(partition))
    }

    /// Returns the place before all owners.
    fn first_owners(&self) -> OwnerPlace {
        let primaries = self.primaries_now();
        let is_first = |partition: &usize| {
            let before = &primaries[..*partition];
            primaries[*partition].is_none() || !before.contains(&primaries[*partition])
        };
        OwnerPlace {
            servers: (0..PARTITIONS).filter(is_first).collect(),
            primaries,
            cursor: 0,
            is_gathering: true,
            left: Vec::new(),
        }
    }

    async fn records(&mut self, found: &mut ResealReport) -> Result<(), Error> {
        let WalkPlace::Buckets {
            partition,
            epoch,
            depth,
            first,
        } = &self.place
        else {
            return Ok(());
        };
        let (partition, depth, first, epoch) = (*partition, *depth, *first, epoch.clone());
        let end = 1u64 << depth;
        let count = BUCKETS.min(end - first);
        let (mut sealed_anew, mut last) = (0, ResealReport::default());
        // A record that is written all the time is met again at once: little time lies between reading and writing it alone.
        for _ in 0..RECORD_TRIES_MAX {
            let asking = &self.opened.asking[partition];
            let read = follower::page(asking, partition, depth, first, count, true).await?;
            let (now, _, bytes) = read;
            if now != epoch {
                // The store went back, or is another one: the partition is read from its beginning.
                self.place = WalkPlace::Begun(partition);
                return Ok(());
            }
            last = ResealReport::default();
            let mut rows = Vec::new();
            for (id, value) in scripts::rows(&bytes)? {
                let anew = self.record(id, value, &mut last);
                rows.extend(anew.map(|new| ResealedRow {
                    partition,
                    names: vec![id.0.to_be_bytes().to_vec()],
                    old: value.to_vec(),
                    new,
                }));
            }
            self.write(&RESEAL, &rows, &mut last).await?;
            sealed_anew += last.sealed_anew;
            if last.overtaken == 0 {
                break;
            }
        }
        last.sealed_anew = sealed_anew;
        found.add(&last);
        match &mut self.place {
            WalkPlace::Buckets { first, .. } if *first + count < end => *first += count,
            _ => self.place = self.behind(partition),
        }
        Ok(())
    }

    /// Returns the value of a record sealed anew: word, tag of the word, tag of the record, record.
    fn record(&self, id: ResidentId, value: &[u8], found: &mut ResealReport) -> Option<Vec<u8>> {
        let parts = || {
            let (bits, rest) = value.split_first_chunk::<8>()?;
            let (word_tag, rest) = rest.split_first_chunk::<8>()?;
            let (tag, record) = rest.split_first_chunk::<TAG_BYTES>()?;
            Some(RestingRecord {
                id,
                bits: u64::from_be_bytes(*bits),
                word_tag: u64::from_be_bytes(*word_tag),
                tag,
                record,
            })
        };
        let Some(resting) = parts() else {
            found.records += 1;
            found.unopened("record", 1);
            return None;
        };
        let anew = reseal::record_anew(self.seal, &self.opened.tags, &resting, found)?;
        let mut new = Vec::with_capacity(value.len());
        new.extend_from_slice(&resting.bits.to_be_bytes());
        new.extend_from_slice(&anew.word_tag.to_be_bytes());
        new.extend_from_slice(&anew.tag);
        new.extend_from_slice(&anew.record);
        Some(new)
    }

    async fn owners(&mut self, found: &mut ResealReport) -> Result<(), Error> {
        let now = self.primaries_now();
        let WalkPlace::Owners(place) = &mut self.place else {
            return Ok(());
        };
        if place.primaries != now {
            // What moved may have been missed.
            self.place = WalkPlace::Owners(Box::new(self.first_owners()));
            return Ok(());
        }
        match (place.is_gathering, place.servers.last().copied()) {
            (true, Some(server)) => {
                let mut cursor = place.cursor;
                let some = self.opened.all_owners(server, &mut cursor, KEYS_MAX);
                let some = some.await?;
                place.left.extend(some.into_iter().map(|owner| (owner, 0)));
                place.cursor = cursor;
                if cursor == 0 {
                    place.servers.pop();
                }
                if cursor == 0 || place.left.len() >= OWNERS_GATHERED {
                    let partition = |(owner, _): &(Identity, u64)| partition::of(owner.home);
                    place.left.sort_by_key(partition);
                    place.is_gathering = false;
                }
                Ok(())
            }
            (true, None) => {
                self.place = WalkPlace::Looked(0);
                Ok(())
            }
            (false, _) if place.left.is_empty() => {
                place.is_gathering = true;
                Ok(())
            }
            (false, _) => self.papers(found).await,
        }
    }

    /// Looks at the papers of some of the owners that were gathered, all in one partition.
    async fn papers(&mut self, found: &mut ResealReport) -> Result<(), Error> {
        let WalkPlace::Owners(place) = &self.place else {
            return Ok(());
        };
        let of = |owner: &(Identity, u64)| partition::of(owner.0.home);
        let Some(partition) = place.left.last().map(of) else {
            return Ok(());
        };
        let newest = place.left.iter().rev().take(OWNERS_MAX);
        let count = newest.take_while(|owner| of(owner) == partition).count();
        let before = place.left.len() - count;
        let asked = place.left[before..].to_vec();
        let (mut rows, mut step) = (Vec::new(), ResealReport::default());
        let mut unfinished = Vec::new();
        let piles = self.piles(partition, &asked).await?;
        for ((owner, _), (cursor, values)) in asked.iter().zip(piles) {
            if cursor != 0 {
                unfinished.push((*owner, cursor));
            }
            for (key, old) in values {
                let read = PaperKey::try_from(&key[..]).ok();
                let paper = read.and_then(|key| Paper::read(key, &old));
                let anew = reseal::paper_anew(self.seal, owner, paper, &mut step);
                rows.extend(anew.map(|paper| ResealedRow {
                    partition,
                    names: vec![scripts::owner(owner).to_vec(), key],
                    old,
                    new: paper.value(),
                }));
            }
        }
        self.write(&RESEAL_PAPERS, &rows, &mut step).await?;
        found.add(&step);
        if let WalkPlace::Owners(place) = &mut self.place {
            place.left.truncate(before);
            place.left.append(&mut unfinished);
        }
        Ok(())
    }

    /// Reads some papers of each of these owners as they lie there, and where the next call for the owner begins; 0 after the last.
    async fn piles(
        &self,
        partition: usize,
        owners: &[(Identity, u64)],
    ) -> Result<Vec<ScannedPile>, Error> {
        let mut pipe = redis::pipe();
        for (owner, cursor) in owners {
            let mut pile = partition::papers(partition).into_bytes();
            pile.extend_from_slice(&scripts::owner(owner));
            pipe.cmd("HSCAN").arg(pile).arg(*cursor);
            pipe.arg("COUNT").arg(PAPERS_COUNT);
        }
        let mut held = self.opened.asking[partition].lock().await;
        let mut link = held.get().await?;
        let read = pipe.query_async(&mut link).await;
        read.map_err(|error| held.failed(&error))
    }

    /// Writes each row, all of one partition, where what was read still lies there.
    async fn write(
        &mut self,
        script: &redis::Script,
        rows: &[ResealedRow],
        found: &mut ResealReport,
    ) -> Result<(), Error> {
        for rows in rows.chunks(ROWS_MAX) {
            let Some(partition) = rows.first().map(|row| row.partition) else {
                break;
            };
            let link_to = &mut self.links[partition];
            let mut link = link_to.get().await?;
            let mut call = script.key(partition::meta(partition));
            call.arg(&self.opened.mark[..]).arg(FORMAT);
            for row in rows {
                for name in &row.names {
                    call.arg(&name[..]);
                }
                call.arg(&row.old[..]).arg(&row.new[..]);
            }
            let flags: Result<Vec<u8>, _> = call.invoke_async(&mut link).await;
            let flags = flags.map_err(|error| link_to.failed(&error))?;
            let written = flags.iter().filter(|flag| **flag == b'1').count() as u64;
            found.sealed_anew += written;
            found.overtaken += rows.len() as u64 - written.min(rows.len() as u64);
        }
        Ok(())
    }

    /// Waits until as many replicas as a change needs have what was written: a successor must not come back with the old seals.
    async fn replicate(&mut self, partition: usize) -> Result<(), Error> {
        let wanted = self.opened.replicas;
        if wanted == 0 {
            return Ok(());
        }
        let link_to = &mut self.links[partition];
        let mut link = link_to.get().await?;
        let mut call = RESEAL.key(partition::meta(partition));
        call.arg(&self.opened.mark[..]).arg(FORMAT);
        let touched: Result<Vec<u8>, _> = call.invoke_async(&mut link).await;
        touched.map_err(|error| link_to.failed(&error))?;
        let had: Result<u32, _> = redis::cmd("WAIT")
            .arg(wanted)
            .arg(REPLICA_WAIT.as_millis() as u64)
            .query_async(&mut link)
            .await;
        match had.map_err(|error| link_to.failed(&error))? {
            had if had < wanted => Err(Error::NotReplicated(had, wanted)),
            _ => Ok(()),
        }
    }
}

/// The cursor of the next call for an owner, and keys and values as the store has them.
type ScannedPile = (u64, Vec<(Vec<u8>, Vec<u8>)>);
