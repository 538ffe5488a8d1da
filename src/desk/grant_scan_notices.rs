//! Notices of scanned grants, for the residents who gave them: one for each day and grant.
//! A notice has the organisation and the time of the first scan.
//!
//! Each gate thread remembers the grants it saw today and queues each first scan without waiting. A grant does not name its
//! resident: a background task reads the organisation's roster and stores a paper with the person. The key of the paper follows
//! from grant and day, so repeats by other nodes or threads change nothing.

use super::audit::GrantScanNotice;
use super::grant_record::givers;
use crate::clock::Time;
use crate::paper::{PaperKey, PaperKind};
use crate::person::{Identity, ResidentId};
use crate::refusal::Refusal;
use crate::seal::{NumberHasher, Seal};
use crate::store::{Change, ChangeKind};
use crate::store_client::StoreClient;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

/// Grants that one thread remembers, 1 to 2 MiB. Beyond that some scans are queued again.
const SEEN_MAX: usize = 100_000;

/// First scans that may wait in the queue. A scan that does not fit is queued at the next scan of its grant.
const WAITING_MAX: usize = 65_536;

/// First scans that are delivered together.
const BATCH: usize = 10_000;

/// Papers that are stored in one call.
const FILED_MAX: usize = 1_000;

/// Pause between two batches, so that one read of a roster serves many scans.
pub const EVERY: Duration = Duration::from_secs(5);

/// The grants that one thread saw today.
#[derive(Default)]
pub struct SeenGrants {
    day: u64,
    numbers: HashSet<u64, BuildHasherDefault<NumberHasher>>,
}

impl SeenGrants {
    /// Returns whether this is the first scan today, as far as the thread remembers.
    fn is_first(&mut self, number: u64, now: Time) -> bool {
        if self.day != now.day_count() || self.numbers.len() >= SEEN_MAX {
            self.day = now.day_count();
            self.numbers.clear();
        }
        self.numbers.insert(number)
    }
}

/// A scan of a grant.
pub struct GrantScan {
    /// The organisation whose gate scanned.
    pub organisation: Arc<str>,
    /// The resident who gave the grant.
    pub resident: ResidentId,
    /// The number of the grant.
    pub number: u64,
    /// When it was scanned.
    pub at: Time,
}

/// The queue of first scans, from the doors to the background task.
pub struct GrantScanQueue {
    sender: mpsc::Sender<GrantScan>,
    waiting: Mutex<PendingScans>,
}

struct PendingScans {
    receiver: mpsc::Receiver<GrantScan>,
    /// Scans taken from the queue and not delivered yet.
    some: Vec<GrantScan>,
}

impl Default for GrantScanQueue {
    fn default() -> GrantScanQueue {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let some = Vec::new();
        let waiting = Mutex::new(PendingScans { receiver, some });
        GrantScanQueue { sender, waiting }
    }
}

impl GrantScanQueue {
    /// Queues a scan if it is the first of its grant today. Never waits.
    pub fn note(&self, seen: &mut SeenGrants, scan: GrantScan) {
        let number = scan.number;
        if seen.is_first(number, scan.at) && self.sender.try_send(scan).is_err() {
            seen.numbers.remove(&number);
        }
    }

    /// Waits for queued scans and delivers some. Returns the number of new notices. Scans that cannot be delivered stay.
    ///
    /// # Errors
    ///
    /// The refusals of [`StoreClient`].
    pub async fn tell(&self, seal: &Seal, store_client: &StoreClient) -> Result<u64, Refusal> {
        let mut waiting = self.waiting.lock().await;
        let PendingScans { receiver, some } = &mut *waiting;
        if some.is_empty() {
            receiver.recv_many(some, BATCH).await;
        }
        deliver_all(some, seal, store_client).await
    }

    /// Delivers the queued scans without waiting for more, before the process ends.
    ///
    /// # Errors
    ///
    /// The refusals of [`StoreClient`].
    pub async fn deliver_rest(
        &self,
        seal: &Seal,
        store_client: &StoreClient,
    ) -> Result<u64, Refusal> {
        let mut waiting = self.waiting.lock().await;
        let PendingScans { receiver, some } = &mut *waiting;
        while let Ok(scan) = receiver.try_recv() {
            some.push(scan);
        }
        deliver_all(some, seal, store_client).await
    }
}

async fn deliver_all(
    some: &mut Vec<GrantScan>,
    seal: &Seal,
    store_client: &StoreClient,
) -> Result<u64, Refusal> {
    let mut parts: BTreeMap<(&str, u8), Vec<&GrantScan>> = BTreeMap::new();
    for scan in some.iter() {
        let part = (&*scan.organisation, (scan.resident.0 >> 60) as u8);
        parts.entry(part).or_default().push(scan);
    }
    let mut changes = Vec::with_capacity(some.len());
    for ((organisation, partition), scans) in parts {
        let numbers: HashSet<u64> = scans.iter().map(|scan| scan.number).collect();
        let givers: HashMap<u64, (PaperKey, Identity)> =
            givers(seal, store_client, organisation, partition, &numbers).await?;
        // A grant that is on no roster has no resident to notify.
        let known = scans
            .iter()
            .filter_map(|scan| Some((*scan, givers.get(&scan.number)?)));
        changes.extend(known.filter_map(|(scan, (grant, giver))| paper(seal, scan, grant, giver)));
    }
    let mut told = 0;
    for changes in changes.chunks(FILED_MAX) {
        let new = store_client.apply(changes.to_vec()).await?;
        told += new.iter().filter(|new| **new).count() as u64;
    }
    some.clear();
    Ok(told)
}

/// Returns the change that stores a notice; None if the key of notices was destroyed.
fn paper(seal: &Seal, scan: &GrantScan, grant: &PaperKey, giver: &Identity) -> Option<Change> {
    let key = seal.paper_key(&[b"grant scan", grant, &scan.at.day_count().to_be_bytes()]);
    let told = GrantScanNotice {
        by: scan.organisation.to_string(),
        grant: crate::seal::base32::text(grant),
    };
    let body = serde_json::to_vec(&told).ok()?;
    let paper = seal.paper(giver, PaperKind::GrantScan, key, scan.at, &body)?;
    Some(Change {
        who: *giver,
        what: ChangeKind::Paper(paper),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::DAY_MS;

    const NOON: Time = Time(1_790_000_000_000 / DAY_MS * DAY_MS + 4 * 3_600_000);

    fn scan(number: u64, at: Time) -> GrantScan {
        GrantScan {
            organisation: "gz-school".into(),
            resident: ResidentId(5),
            number,
            at,
        }
    }

    fn waits(scans: &GrantScanQueue) -> usize {
        scans.waiting.try_lock().unwrap().receiver.len()
    }

    #[test]
    fn a_grant_is_handed_on_once_a_day_and_again_after_midnight_in_china() {
        let (scans, mut seen) = (GrantScanQueue::default(), SeenGrants::default());
        for _ in 0..3 {
            scans.note(&mut seen, scan(7, NOON));
            scans.note(&mut seen, scan(8, NOON));
        }
        assert_eq!(waits(&scans), 2);
        let midnight = Time(NOON.0 + 12 * 3_600_000);
        scans.note(&mut seen, scan(7, Time(midnight.0 - 1)));
        assert_eq!(waits(&scans), 2);
        scans.note(&mut seen, scan(7, midnight));
        assert_eq!(waits(&scans), 3);
    }

    #[test]
    fn what_finds_no_room_is_handed_on_by_the_next_scan() {
        let (scans, mut seen) = (GrantScanQueue::default(), SeenGrants::default());
        let most = WAITING_MAX as u64;
        for number in 0..=most {
            scans.note(&mut seen, scan(number, NOON));
        }
        assert_eq!(waits(&scans), WAITING_MAX);
        let mut waiting = scans.waiting.try_lock().unwrap();
        assert!(waiting.receiver.try_recv().is_ok());
        drop(waiting);
        scans.note(&mut seen, scan(3, NOON));
        assert_eq!(waits(&scans), WAITING_MAX - 1);
        scans.note(&mut seen, scan(most, NOON));
        assert_eq!(waits(&scans), WAITING_MAX);
    }
}
