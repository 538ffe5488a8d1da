//! Codes that scanners of two sites read: whoever photographs or forwards a code shows here, in a metric. A scan pays a comparison.
//!
//! One code in [`ONE_IN`] is watched, chosen by its time of issue, so that every gate of a node watches the same ones. What two
//! nodes read is not put together. A code that is read twice at one site, or by two scanners of a site, is no news.

use crate::clock::{Moment, Time};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Of so many codes one is watched; a power of two.
pub const ONE_IN: u64 = 256;

/// Codes that are remembered at most: some 4,000 scans a second of codes that live a minute. Others are not watched then.
const KNOWN_MAX: usize = 1_024;

/// A code that was read, and where.
#[derive(Clone, Copy)]
struct Seen {
    site: u64,
    at: Moment,
    /// Whether it was counted.
    at_two: bool,
}

#[derive(Default)]
struct Remembered {
    codes: HashMap<u64, Seen>,
    /// When codes past their life were last looked for.
    swept: Moment,
}

/// Between two sweeps of codes past their life, which a scan pays for.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// What was read of late.
pub struct Sightings {
    seen: Mutex<Remembered>,
    hasher: RandomState,
    /// As long as a code is accepted.
    life: Duration,
    /// Codes that were watched.
    pub watched: AtomicU64,
    /// Of them those that were read at two sites.
    pub at_two_sites: AtomicU64,
}

impl Sightings {
    /// `life` is how long a code is accepted after its issue.
    pub fn new(life: Duration) -> Sightings {
        Sightings {
            seen: Mutex::default(),
            hasher: RandomState::new(),
            life,
            watched: AtomicU64::new(0),
            at_two_sites: AtomicU64::new(0),
        }
    }

    /// Whether a code that was issued then is watched.
    #[inline]
    pub fn watches(issued_at: Time) -> bool {
        issued_at.0.is_multiple_of(ONE_IN)
    }

    /// Notes that the code with this text was read at a site. A reading that meets another one of a watched code is passed over:
    /// nobody waits here.
    pub fn note(&self, code: &[u8], site: &str, now: Moment) {
        let Ok(mut seen) = self.seen.try_lock() else {
            return;
        };
        let code = self.hasher.hash_one(code.to_ascii_uppercase());
        let site = self.hasher.hash_one(site);
        if let Some(known) = seen.codes.get_mut(&code) {
            if known.site != site && !known.at_two {
                known.at_two = true;
                self.at_two_sites.fetch_add(1, Relaxed);
            }
            return;
        }
        if seen.codes.len() >= KNOWN_MAX && now.since(seen.swept) >= SWEEP_PAUSE {
            seen.swept = now;
            seen.codes.retain(|_, seen| now.since(seen.at) < self.life);
        }
        if seen.codes.len() < KNOWN_MAX {
            self.watched.fetch_add(1, Relaxed);
            let at_two = false;
            seen.codes.insert(
                code,
                Seen {
                    site,
                    at: now,
                    at_two,
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    fn counts(sightings: &Sightings) -> (u64, u64) {
        let Sightings {
            watched,
            at_two_sites,
            ..
        } = sightings;
        (watched.load(Relaxed), at_two_sites.load(Relaxed))
    }

    #[test]
    fn a_code_counts_once_and_only_where_two_sites_read_it() {
        let sightings = Sightings::new(LIFE);
        for (code, site, then) in [
            (&b"ABC"[..], "east gate", (1, 0)),
            (b"ABC", "east gate", (1, 0)),
            (b"abc", "east gate", (1, 0)),
            (b"ABD", "west gate", (2, 0)),
            (b"abc", "west gate", (2, 1)),
            (b"ABC", "north gate", (2, 1)),
            (b"ABD", "north gate", (2, 2)),
        ] {
            sightings.note(code, site, Moment(1));
            assert_eq!(counts(&sightings), then, "{site}");
        }
    }

    #[test]
    fn codes_past_their_life_make_room_and_nothing_grows_without_bound() {
        let sightings = Sightings::new(LIFE);
        let fill = |from: usize, at: Moment| {
            for code in from..from + 3 * KNOWN_MAX {
                sightings.note(&code.to_be_bytes(), "a", at);
            }
        };
        fill(0, Moment(1));
        assert_eq!(counts(&sightings), (KNOWN_MAX as u64, 0));
        fill(1 << 20, Moment(59_000));
        assert_eq!(counts(&sightings).0, KNOWN_MAX as u64);
        fill(1 << 40, Moment(61_000));
        assert_eq!(counts(&sightings).0, 2 * KNOWN_MAX as u64);
        assert_eq!(sightings.seen.lock().unwrap().codes.len(), KNOWN_MAX);
    }
}
