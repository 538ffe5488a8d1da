//! Watches for codes that scanners of two sites read: photographed or forwarded codes show in a metric. A scan pays one
//! comparison.
//!
//! One code in [`ONE_IN`] is watched, chosen by its issue time, so that all gates of a node watch the same ones. Sightings of
//! different nodes are not combined. Repeated reads at one site do not count.

use crate::clock::{Moment, Time};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// One of this many codes is watched; a power of two.
pub const ONE_IN: u64 = 256;

/// Largest number of remembered codes: about 4,000 scans a second of codes that are valid for a minute. Beyond it, codes are
/// not watched.
const KNOWN_MAX: usize = 1_024;

/// A watched code, and where it was read.
#[derive(Clone, Copy)]
struct Seen {
    site: u64,
    at: Moment,
    /// Whether the code was read at two sites, and was counted for that.
    at_two: bool,
}

#[derive(Default)]
struct Remembered {
    codes: HashMap<u64, Seen>,
    /// When expired codes were last removed.
    swept: Moment,
}

/// Interval of removals of expired codes, which a scan pays for.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// Recently read codes.
pub struct Sightings {
    seen: Mutex<Remembered>,
    hasher: RandomState,
    /// Validity of a code.
    life: Duration,
    /// Number of watched codes.
    pub watched: AtomicU64,
    /// Number of watched codes that were read at two sites.
    pub at_two_sites: AtomicU64,
}

impl Sightings {
    /// Returns an empty watch; `life` is the validity of a code.
    pub fn new(life: Duration) -> Sightings {
        Sightings {
            seen: Mutex::default(),
            hasher: RandomState::new(),
            life,
            watched: AtomicU64::new(0),
            at_two_sites: AtomicU64::new(0),
        }
    }

    /// Returns whether a code with this issue time is watched.
    #[inline]
    pub fn watches(issued_at: Time) -> bool {
        issued_at.0.is_multiple_of(ONE_IN)
    }

    /// Records that a code was read at a site. If another thread is recording, the reading is skipped, so that no scan waits.
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
