//! The most recent entries read of a partition's stream, to find where a store that went back diverged.

use redis::RedisError;
use redis::aio::MultiplexedConnection;
use redis::streams::StreamRangeReply;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Entries that are remembered for a partition: more than restored backups usually lack, and some hundred kilobytes.
const STEPS_MAX: usize = 4_096;

/// One entry that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Passed {
    /// The two numbers of the entry's id.
    id: (u64, u64),
    /// The sequence number of the entry.
    number: u64,
    /// Digest of the entry's words; None if nothing but its position is known. Two servers may have made an entry in one millisecond.
    digest: Option<u64>,
}

/// Entries, the oldest first.
#[derive(Debug, Default)]
pub struct Trail(VecDeque<Passed>);

impl Trail {
    /// Adds the position at which a whole reading began.
    pub fn begin(&mut self, entry: &str, number: u64) {
        self.push(entry, number, None);
    }

    /// Adds an entry that was read.
    pub fn add(&mut self, entry: &str, number: u64, words: &[u8]) {
        self.push(entry, number, Some(digest_of(words)));
    }

    fn push(&mut self, entry: &str, number: u64, digest: Option<u64>) {
        let Some(id) = numbers_of(entry).filter(|id| *id > (0, 0)) else {
            return;
        };
        // An entry that is read again was passed before; in another epoch ids may start again.
        while self.0.back().is_some_and(|last| last.id >= id) {
            self.0.pop_back();
        }
        if self.0.len() == STEPS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Passed { id, number, digest });
    }

    /// Returns the id of the last entry here that the stream also has; None if there is none.
    pub async fn parted(
        &self,
        link: &mut MultiplexedConnection,
        stream: &str,
    ) -> Result<Option<String>, RedisError> {
        let first = range(link, stream, "-", "+").await?;
        let Some((first, ..)) = first else {
            return Ok(None);
        };
        // After the first entry that the stream still has: first those it shares, then those it lacks.
        let (mut low, mut high) = (
            self.0.partition_point(|passed| passed.id < first),
            self.0.len(),
        );
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let passed = self.0[middle];
            let id = format!("{}-{}", passed.id.0, passed.id.1);
            let there = range(link, stream, &id, &id).await?;
            let is_there = there.is_some_and(|(_, number, digest)| {
                number == passed.number && passed.digest.is_none_or(|passed| passed == digest)
            });
            match is_there {
                true => {
                    found = Some(id);
                    low = middle + 1;
                }
                false => high = middle,
            }
        }
        Ok(found)
    }
}

/// Returns id, number and digest of the first entry between two ids.
async fn range(
    link: &mut MultiplexedConnection,
    stream: &str,
    from: &str,
    to: &str,
) -> Result<Option<((u64, u64), u64, u64)>, RedisError> {
    let entries: StreamRangeReply = redis::cmd("XRANGE")
        .arg(stream)
        .arg(from)
        .arg(to)
        .arg("COUNT")
        .arg(1)
        .query_async(link)
        .await?;
    Ok(entries.ids.first().and_then(|entry| {
        let words: Vec<u8> = entry.get("w").unwrap_or_default();
        let number = entry.get("n").unwrap_or_default();
        Some((numbers_of(&entry.id)?, number, digest_of(&words)))
    }))
}

fn numbers_of(entry: &str) -> Option<(u64, u64)> {
    let (ms, nth) = entry.split_once('-')?;
    Some((ms.parse().ok()?, nth.parse().ok()?))
}

fn digest_of(words: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(trail: &Trail) -> Vec<(u64, u64)> {
        trail.0.iter().map(|passed| passed.id).collect()
    }

    #[test]
    fn what_is_read_again_replaces_what_was_behind_it() {
        let mut trail = Trail::default();
        trail.begin("0-0", 0);
        for (entry, number) in [("5-0", 1), ("5-1", 2), ("7-0", 3), ("5-1", 2), ("6-0", 3)] {
            trail.add(entry, number, entry.as_bytes());
        }
        assert_eq!(ids(&trail), [(5, 0), (5, 1), (6, 0)]);
        trail.add("rubbish", 4, b"");
        assert_eq!(ids(&trail).len(), 3);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut trail = Trail::default();
        for number in 1..=STEPS_MAX as u64 + 10 {
            trail.add(&format!("{number}-0"), number, b"");
        }
        assert_eq!((ids(&trail).len(), ids(&trail)[0]), (STEPS_MAX, (11, 0)));
    }
}
