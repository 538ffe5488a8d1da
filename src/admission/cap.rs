//! How many connections a door admits, steered by how long requests waited in the kernel before we read them. Pure: waits
//! and `now` in, a number out.
//!
//! One connection has one request under way, so that the number of connections bounds the wait of each: with N of them
//! and s of work for each, N·s. Where the wait is too long, fewer are let in; where it is short and the door is full, more.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
pub struct Settings {
    /// Connections, whatever the wait.
    pub most: usize,
    /// Past this wait (of nine requests in ten) the cap falls; below three quarters of it a full door opens further.
    pub wait_max: Duration,
}

/// The cap never falls below this: the wait is then not of our making.
const LEAST: usize = 64;

/// A cap falls to this part at most in one step.
const FALL_MOST: f64 = 0.1;

/// What was decided shows once those who wait already are answered; looked for again after so many `wait_max` at most.
const HOLD_MOST: u32 = 8;

/// A full door opens by one in so many, and by a few at least.
const RISE_PART: usize = 20;
const RISE_LEAST: usize = 4;

#[derive(Debug)]
pub struct Cap {
    settings: Settings,
    cap: usize,
    /// What was decided last has not shown before then.
    held_until: Option<Instant>,
}

impl Cap {
    pub fn new(settings: Settings) -> Cap {
        Cap {
            cap: settings.most,
            settings,
            held_until: None,
        }
    }

    pub fn get(&self) -> usize {
        self.cap
    }

    /// Some twenty times a second, with the wait of nine in ten since the last time (None: nobody was seen waiting) and
    /// the connections open now.
    pub fn step(&mut self, wait: Option<Duration>, inside: usize, now: Instant) -> usize {
        let Settings { most, wait_max } = self.settings;
        let Some(wait) = wait else {
            return self.cap;
        };
        if wait > wait_max {
            // Those who are too many already are on their way out: their waits are of then.
            let settled = inside <= self.cap + self.cap / 10;
            if settled && self.held_until.is_none_or(|until| until <= now) {
                // As many as wait no longer than they may, by N·s; of those who are in: a half full door may hold too many.
                let part = (wait_max.as_secs_f64() / wait.as_secs_f64()).max(FALL_MOST);
                let lower = (self.cap.min(inside) as f64 * part) as usize;
                self.cap = lower.max(LEAST.min(most)).min(self.cap);
                self.held_until = Some(now + wait.min(wait_max * HOLD_MOST));
            }
        } else if wait < wait_max * 3 / 4 && inside >= self.cap - self.cap / 10 {
            let rise = RISE_LEAST.max(self.cap / RISE_PART);
            self.cap = (self.cap + rise).min(most);
        }
        self.cap
    }
}

/// Waits seen since they were last asked for, by the kernel's tick. Threads count at once; a count may fall between two steps.
pub struct Waits {
    counts: [AtomicU32; BUCKETS],
}

/// Four milliseconds each, as coarse as the kernel tells them; the last holds all that is longer.
const BUCKETS: usize = 128;
const BUCKET: Duration = Duration::from_millis(4);

/// What half, nine in ten and ninety-nine of a hundred waited at most, to the tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub p50: Duration,
    pub p90: Duration,
    pub p99: Duration,
}

impl Default for Waits {
    fn default() -> Waits {
        Waits {
            counts: [const { AtomicU32::new(0) }; BUCKETS],
        }
    }
}

impl Waits {
    pub fn count(&self, wait: Duration) {
        let bucket = (wait.as_millis() / BUCKET.as_millis()) as usize;
        self.counts[bucket.min(BUCKETS - 1)].fetch_add(1, Relaxed);
    }

    /// What was seen since the last time; None if nothing was.
    pub fn take(&self) -> Option<Seen> {
        let counts: Vec<u32> = self
            .counts
            .iter()
            .map(|count| count.swap(0, Relaxed))
            .collect();
        let all: u32 = counts.iter().sum();
        let part = |part: f64| {
            let wanted = (f64::from(all) * part).ceil() as u32;
            let mut sum = 0;
            let bucket = counts.iter().position(|count| {
                sum += count;
                sum >= wanted
            });
            BUCKET * bucket.unwrap_or_default() as u32
        };
        (all > 0).then(|| Seen {
            p50: part(0.5),
            p90: part(0.9),
            p99: part(0.99),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: Duration = Duration::from_millis(60);

    fn cap(most: usize) -> Cap {
        Cap::new(Settings {
            most,
            wait_max: MAX,
        })
    }

    /// Connections that always have a request waiting, as many as are let in, before a server of some capacity.
    fn simulate(
        cap: &mut Cap,
        capacity: f64,
        wanting: usize,
        steps: usize,
        from: Instant,
    ) -> Vec<Duration> {
        let mut waits = Vec::new();
        let mut inside = wanting.min(cap.get());
        for step in 0..steps {
            let wait = Duration::from_secs_f64(inside as f64 / capacity);
            waits.push(wait);
            let now = from + Duration::from_millis(50) * step as u32;
            // Who is too many goes after the answer, who is missing comes.
            inside = wanting.min(cap.step(Some(wait), inside, now));
        }
        waits
    }

    #[test]
    fn a_door_that_is_not_full_keeps_its_cap() {
        let mut cap = cap(10_000);
        let now = Instant::now();
        assert_eq!(cap.step(Some(Duration::ZERO), 5_000, now), 10_000);
        assert_eq!(cap.step(None, 10_000, now), 10_000);
    }

    #[test]
    fn a_long_wait_lowers_the_cap_below_those_who_are_in_once_and_then_waits_for_it_to_show() {
        let mut cap = cap(10_000);
        let now = Instant::now();
        assert_eq!(cap.step(Some(MAX * 2), 2_000, now), 1_000);
        assert_eq!(cap.step(Some(MAX * 2), 1_900, now + MAX), 1_000);
        assert_eq!(cap.step(Some(MAX * 20), 1_500, now + MAX * 3), 1_000);
        assert_eq!(cap.step(Some(MAX * 20), 1_000, now + MAX * 3), 100);
    }

    #[test]
    fn waits_are_told_by_the_share_that_waited_no_longer() {
        let waits = Waits::default();
        assert_eq!(waits.take(), None);
        for ms in 0..100 {
            waits.count(Duration::from_millis(ms));
        }
        waits.count(Duration::from_secs(100));
        let seen = waits.take().unwrap();
        let ms = Duration::from_millis;
        assert_eq!((seen.p50, seen.p90, seen.p99), (ms(48), ms(88), ms(96)));
        assert_eq!(waits.take(), None);
    }

    proptest! {
        #[test]
        fn stays_within_its_bounds_whatever_is_seen(
            most in 1usize..20_000,
            steps in proptest::collection::vec((0u64..2_000, 0usize..30_000, 0u64..200), 0..200),
        ) {
            let mut cap = cap(most);
            let mut now = Instant::now();
            for (wait, inside, ms) in steps {
                now += Duration::from_millis(ms);
                let got = cap.step(Some(Duration::from_millis(wait)), inside, now);
                prop_assert!(got <= most && got >= LEAST.min(most));
            }
        }

        #[test]
        fn any_capacity_is_met_within_two_seconds_and_kept(capacity in 2_000.0f64..200_000.0) {
            let mut cap = cap(100_000);
            let from = Instant::now();
            let waits = simulate(&mut cap, capacity, 50_000, 200, from);
            for wait in &waits[40..] {
                prop_assert!(*wait <= MAX + MAX / 10 && *wait >= MAX / 2, "{wait:?}");
            }
        }

        #[test]
        fn a_server_that_is_faster_again_is_filled_again(slow in 2_000.0f64..20_000.0) {
            let mut cap = cap(100_000);
            let from = Instant::now();
            simulate(&mut cap, slow, 50_000, 100, from);
            let waits = simulate(&mut cap, slow * 8.0, 50_000, 200, from + Duration::from_secs(10));
            prop_assert!(*waits.last().unwrap() >= MAX / 3);
        }
    }
}
