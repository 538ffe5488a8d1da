//! The limit of a door's connections, controlled by the queue delay of their requests. Pure functions of waits, answers and
//! `now`.
//!
//! A connection has one request in flight, so the number of connections bounds each wait: with N asking, each waits for N
//! answers. If waits are too long, or too many requests are unread, the limit falls to the number that can be answered in time. If
//! waits are short and the door is full, or connections had to make room, it rises.

use super::observations::{CROWD_LEAST, Observations};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Settings of a door's limit.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest number of connections, whatever the waits.
    pub most: usize,
    /// Queue delay (90th percentile) above which the limit falls. Below three quarters of it the limit of a door that is full, or
    /// where connections made room, rises.
    pub queue_delay_target: Duration,
}

/// Lowest limit: with so few connections the waits have another cause.
const LEAST: usize = 64;

/// Consecutive steps with too long waits before the limit falls: a short stall of the machine is no crowd.
const LONG_STEPS: u32 = 3;

/// How many times what is answered within the target may be unread for two steps. Beyond it is a crowd, which is known sooner by
/// this than by the waits of those whose turn has come.
const CROWD_TIMES: f64 = 2.0;

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

    /// Adjusts the limit of a door with `inside` active and `frozen` connections, about twenty times a second. Returns the new limit.
    pub fn step(
        &mut self,
        inside: usize,
        frozen: usize,
        seen: Observations,
        now: Instant,
    ) -> usize {
        let Settings {
            most,
            queue_delay_target,
        } = self.settings;
        let target = queue_delay_target.as_secs_f64();
        let crowd = seen.pace() * target * CROWD_TIMES;
        let is_crowd = seen.unread.least as f64 > crowd.max(CROWD_LEAST as f64);
        if let Some(wait) = seen.wait {
            let is_long = wait > queue_delay_target;
            self.long = if is_long { self.long + 1 } else { 0 };
            let is_short = wait < queue_delay_target * 3 / 4 && !is_crowd;
            // Frozen connections are those who would be inside.
            if is_short && inside + frozen >= self.limit - self.limit / 10 {
                let rise = RISE_LEAST.max(self.limit / RISE_PART);
                self.limit = (self.limit + rise).min(most);
            }
        }
        let answers = match (is_crowd, self.long) {
            (true, _) => seen.pace(),
            (false, LONG_STEPS..) => seen.answers,
            _ => return self.limit,
        };
        // Samples from before the fall belong to the earlier limit.
        let since = seen.wait.unwrap_or_default().max(queue_delay_target);
        let after = |fell: Instant| now.saturating_duration_since(fell) >= since;
        if self.fell.is_none_or(after) {
            let fitting = answers * target;
            // Idle connections delay nobody: of all open ones, the share stays whose requests fit.
            let part = (fitting / seen.unread.likely.max(1) as f64).min(1.0);
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
    use super::super::unread::{UnreadEstimate, UnreadWatch};
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const MAX: Duration = Duration::from_millis(60);

    fn limit(most: usize) -> ConnectionLimit {
        ConnectionLimit::new(Settings {
            most,
            queue_delay_target: MAX,
        })
    }

    /// Long waits of `unread` requests.
    fn waiting(wait: Duration, unread: usize, answers: f64) -> Observations {
        Observations {
            wait: Some(wait),
            unread: UnreadEstimate {
                likely: unread,
                least: 0,
            },
            answers,
            answers_last: answers,
        }
    }

    /// A crowd of `unread` requests of which none has waited for long.
    fn crowd(unread: usize, answers: f64) -> Observations {
        Observations {
            unread: UnreadEstimate {
                likely: unread,
                least: unread,
            },
            ..waiting(MAX / 2, unread, answers)
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
            inside = wanting.min(limit.step(
                inside,
                0,
                waiting(wait, inside, capacity),
                from + STEP * step,
            ));
        }
        waits
    }

    #[test]
    fn a_door_that_is_not_full_keeps_its_cap() {
        let mut limit = limit(10_000);
        let now = Instant::now();
        assert_eq!(
            limit.step(5_000, 0, waiting(Duration::ZERO, 0, 1e5), now),
            10_000
        );
    }

    #[test]
    fn a_wait_that_stays_long_lowers_the_cap_to_those_who_are_answered_in_time() {
        let mut limit = limit(10_000);
        let now = Instant::now();
        let long = waiting(MAX * 2, 2_000, 16_700.0);
        assert_eq!(limit.step(2_000, 0, long, now), 10_000);
        // A step without requests says nothing.
        let none = Observations { wait: None, ..long };
        assert_eq!(limit.step(2_000, 0, none, now), 10_000);
        assert_eq!(limit.step(2_000, 0, long, now + STEP), 10_000);
        assert_eq!(limit.step(2_000, 0, long, now + STEP * 2), 1_002);
    }

    #[test]
    fn of_many_who_are_idle_as_small_a_part_goes_as_of_those_who_ask() {
        let mut limit = limit(10_000);
        let now = Instant::now();
        for step in 0..3 {
            let seen = waiting(MAX * 5 / 4, 1_250, 16_700.0);
            limit.step(8_000, 0, seen, now + STEP * step);
        }
        assert_eq!(limit.get(), 6_412);
        // The wait was long, and is not: few wait now.
        let mut other = super::tests::limit(10_000);
        for step in 0..3 {
            let seen = waiting(MAX * 5, 900, 16_700.0);
            assert_eq!(other.step(8_000, 0, seen, now + STEP * step), 10_000);
        }
    }

    /// A door with a queue: what came and was not answered yet is unread.
    struct Queue {
        capacity: f64,
        unread: f64,
        watch: UnreadWatch,
        recent: VecDeque<f64>,
    }

    impl Queue {
        /// Requests come at `offered` a second for one step, and are answered unless the machine has stopped.
        fn step(&mut self, offered: f64, stops: bool) -> Observations {
            let seconds = STEP.as_secs_f64();
            let wait = Duration::from_secs_f64(self.unread / self.capacity);
            self.unread += offered * seconds;
            let most = if stops { 0.0 } else { self.capacity * seconds };
            let answered = self.unread.min(most);
            self.unread -= answered;
            self.recent.push_back(answered / seconds);
            if self.recent.len() > 8 {
                self.recent.pop_front();
            }
            let unread = self.unread as usize;
            Observations {
                wait: (!stops).then_some(wait),
                // While the machine stops, nobody counts.
                unread: match stops {
                    true => UnreadEstimate::default(),
                    false => self.watch.step(UnreadEstimate::of(unread, 1, 1)),
                },
                answers: self.recent.iter().sum::<f64>() / self.recent.len() as f64,
                answers_last: answered / seconds,
            }
        }
    }

    /// Lets a machine stop for some steps. Returns the limit of 10,000 a second later at least.
    fn limit_after_stop(load: f64, stopped: u32) -> usize {
        let mut limit = limit(10_000);
        let mut queue = Queue {
            capacity: 10_000.0,
            unread: 0.0,
            watch: UnreadWatch::default(),
            recent: VecDeque::new(),
        };
        let start = Instant::now();
        for step in 0..60 {
            let stops = (20..20 + stopped).contains(&step);
            let seen = queue.step(queue.capacity * load, stops);
            if !stops {
                limit.step(5_000, 0, seen, start + STEP * step);
            }
        }
        limit.get()
    }

    #[test]
    fn a_machine_that_stops_for_a_moment_lowers_nothing() {
        // Four steps, three, and one where little is left to catch up with.
        for (load, steps) in [(0.3, 0..5), (0.5, 0..4), (0.8, 0..2)] {
            for stopped in steps {
                assert_eq!(limit_after_stop(load, stopped), 10_000, "{load} {stopped}");
            }
        }
        // A second of it is a crowd, which would be answered late for a long time.
        assert!(limit_after_stop(0.8, 20) < 5_000);
    }

    #[test]
    fn a_crowd_is_known_by_its_unread_requests_before_those_have_waited() {
        let mut limit = limit(10_000);
        let now = Instant::now();
        assert_eq!(limit.step(2_500, 0, crowd(2_500, 16_700.0), now), 1_002);
        // Fewer than twice what is answered in time are no crowd, nor are a few before a door that has answered nothing.
        for (unread, answers) in [(2_000, 16_700.0), (CROWD_LEAST, 0.0)] {
            let mut other = super::tests::limit(10_000);
            for step in 0..10 {
                let some = crowd(unread, answers);
                assert_eq!(other.step(2_500, 0, some, now + STEP * step), 10_000);
            }
        }
    }

    #[test]
    fn a_door_that_was_asked_little_before_is_judged_by_what_it_answers_now() {
        let mut limit = limit(10_000);
        let rises = Observations {
            answers_last: 16_700.0,
            ..crowd(1_900, 1_000.0)
        };
        assert_eq!(limit.step(2_500, 0, rises, Instant::now()), 10_000);
    }

    #[test]
    fn a_door_whose_requests_do_not_wait_takes_back_those_who_made_room() {
        let now = Instant::now();
        let short = waiting(MAX / 4, 0, 2_000.0);
        for (inside, frozen, limit_then) in
            [(80, 0, 100), (80, 9, 100), (80, 10, 105), (0, 1_000, 105)]
        {
            let mut limit = ConnectionLimit {
                limit: 100,
                ..limit(10_000)
            };
            assert_eq!(limit.step(inside, frozen, short, now), limit_then);
        }
    }

    #[test]
    fn the_cap_falls_again_only_for_those_who_came_since() {
        let mut limit = limit(10_000);
        let now = Instant::now();
        for step in 0..3 {
            limit.step(
                2_000,
                0,
                waiting(MAX * 2, 2_000, 16_700.0),
                now + STEP * step,
            );
        }
        let fell = now + STEP * 2;
        // Those who are left have waited since before.
        let old = waiting(MAX * 10, 1_000, 8_350.0);
        assert_eq!(limit.step(1_000, 0, old, fell + MAX * 9), 1_002);
        assert_eq!(limit.step(1_000, 0, old, fell + MAX * 10), 501);
    }

    #[test]
    fn a_half_full_door_may_hold_too_many_and_never_too_few() {
        let mut limit = limit(10_000);
        let now = Instant::now();
        for step in 0..10 {
            limit.step(50, 0, waiting(MAX * 10, 50, 300.0), now + STEP * step);
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
            steps in proptest::collection::vec(
                (0u64..2_000, (0usize..30_000, 0usize..30_000), (0usize..30_000, 0usize..30_000), (0.0f64..1e6, 0.0f64..1e6), 0u64..200),
                0..200,
            ),
        ) {
            let mut limit = limit(most);
            let mut now = Instant::now();
            for (wait, (inside, frozen), (likely, least), (answers, answers_last), ms) in steps {
                now += Duration::from_millis(ms);
                let seen = Observations {
                    wait: (wait % 3 > 0).then(|| Duration::from_millis(wait)),
                    unread: UnreadEstimate { likely, least },
                    answers,
                    answers_last,
                };
                let got = limit.step(inside, frozen, seen, now);
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
