//! The limit of a door's connections, controlled by the queue delay of their requests. Pure functions of waits, answers and
//! `now`.
//!
//! A connection has one request in flight, so the number of connections bounds each wait: with N asking, each waits for N
//! answers. If waits are too long, the limit falls to the number that can be answered in time. If they are short and the door
//! is full, it rises.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Settings of a door's limit.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest number of connections, whatever the waits.
    pub most: usize,
    /// Queue delay (90th percentile) above which the limit falls. Below three quarters of it a full door's limit rises.
    pub queue_delay_target: Duration,
}

/// Lowest limit: with so few connections the waits have another cause.
const LEAST: usize = 64;

/// Consecutive steps with too long waits before the limit falls: a short stall of the machine is no crowd.
const LONG_STEPS: u32 = 3;

/// Divides the limit into the rise of one step, which is at least a few.
const RISE_PART: usize = 20;
const RISE_LEAST: usize = 4;

/// The limit of a door, learnt from queue delays.
#[derive(Debug)]
pub struct ConnectionLimit {
    settings: Settings,
    limit: usize,
    /// Consecutive steps with too long waits.
    long: u32,
    /// When the limit fell.
    fell: Option<Instant>,
}

/// Observations of a door since the last step.
#[derive(Clone, Copy, Debug)]
pub struct LimitSample {
    /// 90th percentile of the queue delays.
    pub wait: Duration,
    /// Connections open now.
    pub inside: usize,
    /// Open connections whose request waits unread.
    pub pending: usize,
    /// Recent answers a second.
    pub answers: f64,
}

impl ConnectionLimit {
    /// Returns a limit that starts at `most`.
    pub fn new(settings: Settings) -> ConnectionLimit {
        ConnectionLimit {
            limit: settings.most,
            settings,
            long: 0,
            fell: None,
        }
    }

    /// Returns the current limit.
    pub fn get(&self) -> usize {
        self.limit
    }

    /// Sets the largest number of connections. A lower current limit stays.
    pub fn set_most(&mut self, most: usize) {
        let is_open = self.limit == self.settings.most;
        self.settings.most = most;
        self.limit = if is_open { most } else { self.limit.min(most) };
    }

    /// Adjusts the limit, about twenty times a second if there were samples. Returns the new limit.
    pub fn step(&mut self, sample: LimitSample, now: Instant) -> usize {
        let Settings {
            most,
            queue_delay_target,
        } = self.settings;
        let LimitSample {
            wait,
            inside,
            pending,
            answers,
        } = sample;
        if wait <= queue_delay_target {
            self.long = 0;
            if wait < queue_delay_target * 3 / 4 && inside >= self.limit - self.limit / 10 {
                let rise = RISE_LEAST.max(self.limit / RISE_PART);
                self.limit = (self.limit + rise).min(most);
            }
            return self.limit;
        }
        self.long += 1;
        // Samples from before the fall belong to the earlier limit.
        let after = |fell: Instant| now.saturating_duration_since(fell) >= wait;
        if self.long >= LONG_STEPS && self.fell.is_none_or(after) {
            let fitting = answers * queue_delay_target.as_secs_f64();
            // Idle connections delay nobody: of all open ones, the share stays whose requests fit.
            let part = (fitting / pending.max(1) as f64).min(1.0);
            // Beyond the limit are those who are about to make room.
            let lower = (inside.min(self.limit) as f64 * part).max(fitting) as usize;
            let lower = lower.max(LEAST.min(most));
            if part < 1.0 && lower < self.limit {
                self.limit = lower;
                self.fell = Some(now);
            }
        }
        self.limit
    }
}

/// Samples of queue delays since the last look, by the kernel's tick. Threads count concurrently; a sample may fall between two
/// steps.
pub struct WaitSamples {
    counts: [AtomicU32; BUCKETS],
}

/// Buckets of four milliseconds, the kernel's resolution. The last one holds all longer waits.
const BUCKETS: usize = 128;
const BUCKET: Duration = Duration::from_millis(4);

/// Percentiles of queue delays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitQuantiles {
    /// 50th percentile.
    pub p50: Duration,
    /// 90th percentile.
    pub p90: Duration,
    /// 99th percentile.
    pub p99: Duration,
}

impl Default for WaitSamples {
    fn default() -> WaitSamples {
        WaitSamples {
            counts: [const { AtomicU32::new(0) }; BUCKETS],
        }
    }
}

impl WaitSamples {
    /// Counts one sample. All waits from half a second on share a bucket.
    pub fn count(&self, wait: Duration) {
        let bucket = (wait.as_millis() / BUCKET.as_millis()) as usize;
        self.counts[bucket.min(BUCKETS - 1)].fetch_add(1, Relaxed);
    }

    /// Takes the samples since the last call; None if there were none.
    pub fn take(&self) -> Option<WaitQuantiles> {
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
        (all > 0).then(|| WaitQuantiles {
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

    fn limit(most: usize) -> ConnectionLimit {
        ConnectionLimit::new(Settings {
            most,
            queue_delay_target: MAX,
        })
    }

    fn sample(wait: Duration, inside: usize, answers: f64) -> LimitSample {
        LimitSample {
            wait,
            inside,
            pending: inside,
            answers,
        }
    }

    const STEP: Duration = Duration::from_millis(50);

    /// Connections that always have a request waiting, as many as are let in, before a server of some capacity.
    fn simulate(
        limit: &mut ConnectionLimit,
        capacity: f64,
        wanting: usize,
        steps: u32,
        from: Instant,
    ) -> Vec<Duration> {
        let mut waits = Vec::new();
        let mut inside = wanting.min(limit.get());
        for step in 0..steps {
            let wait = Duration::from_secs_f64(inside as f64 / capacity);
            waits.push(wait);
            // Who is too many makes room, who is missing comes.
            inside = wanting.min(limit.step(sample(wait, inside, capacity), from + STEP * step));
        }
        waits
    }

    #[test]
    fn a_door_that_is_not_full_keeps_its_cap() {
        let mut limit = limit(10_000);
        let now = Instant::now();
        assert_eq!(limit.step(sample(Duration::ZERO, 5_000, 1e5), now), 10_000);
    }

    #[test]
    fn a_wait_that_stays_long_lowers_the_cap_to_those_who_are_answered_in_time() {
        let mut limit = limit(10_000);
        let now = Instant::now();
        let long = sample(MAX * 2, 2_000, 16_700.0);
        assert_eq!(limit.step(long, now), 10_000);
        assert_eq!(limit.step(long, now + STEP), 10_000);
        assert_eq!(limit.step(long, now + STEP * 2), 1_002);
    }

    #[test]
    fn of_many_who_are_idle_as_small_a_part_goes_as_of_those_who_ask() {
        let mut limit = limit(10_000);
        let now = Instant::now();
        for step in 0..3 {
            let sample = LimitSample {
                wait: MAX * 5 / 4,
                inside: 8_000,
                pending: 1_250,
                answers: 16_700.0,
            };
            limit.step(sample, now + STEP * step);
        }
        assert_eq!(limit.get(), 6_412);
        // The wait was long, and is not: few wait now.
        let mut other = super::tests::limit(10_000);
        for step in 0..3 {
            let sample = LimitSample {
                wait: MAX * 5,
                inside: 8_000,
                pending: 900,
                answers: 16_700.0,
            };
            assert_eq!(other.step(sample, now + STEP * step), 10_000);
        }
    }

    #[test]
    fn a_machine_that_stops_for_a_moment_lowers_nothing() {
        let mut limit = limit(10_000);
        let mut now = Instant::now();
        for _ in 0..100 {
            for wait in [MAX * 5, MAX * 3, Duration::ZERO] {
                now += STEP;
                assert_eq!(limit.step(sample(wait, 5_000, 100.0), now), 10_000);
            }
        }
    }

    #[test]
    fn the_cap_falls_again_only_for_those_who_came_since() {
        let mut limit = limit(10_000);
        let now = Instant::now();
        for step in 0..3 {
            limit.step(sample(MAX * 2, 2_000, 16_700.0), now + STEP * step);
        }
        let fell = now + STEP * 2;
        // Those who are left have waited since before.
        let old = sample(MAX * 10, 1_000, 8_350.0);
        assert_eq!(limit.step(old, fell + MAX * 9), 1_002);
        assert_eq!(limit.step(old, fell + MAX * 10), 501);
    }

    #[test]
    fn a_half_full_door_may_hold_too_many_and_never_too_few() {
        let mut limit = limit(10_000);
        let now = Instant::now();
        for step in 0..10 {
            limit.step(sample(MAX * 10, 50, 300.0), now + STEP * step);
        }
        assert_eq!(limit.get(), LEAST);
    }

    #[test]
    fn waits_are_told_by_the_share_that_waited_no_longer() {
        let waits = WaitSamples::default();
        assert_eq!(waits.take(), None);
        for ms in 0..100 {
            waits.count(Duration::from_millis(ms));
        }
        waits.count(Duration::from_secs(100));
        let quantiles = waits.take().unwrap();
        let ms = Duration::from_millis;
        assert_eq!(
            (quantiles.p50, quantiles.p90, quantiles.p99),
            (ms(48), ms(88), ms(96))
        );
        assert_eq!(waits.take(), None);
    }

    proptest! {
        #[test]
        fn stays_within_its_bounds_whatever_is_seen(
            most in 1usize..20_000,
            steps in proptest::collection::vec((0u64..2_000, 0usize..30_000, 0usize..30_000, 0.0f64..1e6, 0u64..200), 0..200),
        ) {
            let mut limit = limit(most);
            let mut now = Instant::now();
            for (wait, inside, pending, answers, ms) in steps {
                now += Duration::from_millis(ms);
                let wait = Duration::from_millis(wait);
                let sample = LimitSample { wait, inside, pending, answers };
                let got = limit.step(sample, now);
                prop_assert!(got <= most && got >= LEAST.min(most));
            }
        }

        #[test]
        fn any_capacity_is_met_within_two_seconds_and_kept(capacity in 2_000.0f64..200_000.0) {
            let mut limit = limit(100_000);
            let from = Instant::now();
            let waits = simulate(&mut limit, capacity, 50_000, 200, from);
            for wait in &waits[40..] {
                prop_assert!(*wait <= MAX + MAX / 10 && *wait >= MAX / 2, "{wait:?}");
            }
        }

        #[test]
        fn a_server_that_is_faster_again_is_filled_again(slow in 2_000.0f64..20_000.0) {
            let mut limit = limit(100_000);
            let from = Instant::now();
            simulate(&mut limit, slow, 50_000, 100, from);
            let waits = simulate(&mut limit, slow * 8.0, 50_000, 200, from + Duration::from_secs(10));
            prop_assert!(*waits.last().unwrap() >= MAX / 3);
        }
    }
}
