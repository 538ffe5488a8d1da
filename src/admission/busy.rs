//! Limits how many connections of a full door get the answer `busy`: a share of the process's processor time, and a minimum.
//! Pure functions of processor times and `now`.

use super::budget::Budget;
use std::time::{Duration, Instant};

/// Limits of the answer `busy`.
#[derive(Clone, Debug)]
pub struct BusySettings {
    /// Largest number of these answers a second; 0 for none.
    pub per_second: u32,
    /// Share of the process's processor time, 0 to 1.
    pub share: f64,
}

/// Answers a second that are always allowed: an idle process has little processor time to share.
const BUSY_ANSWERS_LEAST: u32 = 20;

/// Processor time of one answer, in seconds, roughly (15 to 34 µs were measured).
const ANSWER_SECONDS: f64 = 40e-6;

/// Time whose share of the processor time is saved up at most.
const SAVED_FOR: Duration = Duration::from_secs(1);

/// The processor time that these answers used and may use.
#[derive(Debug)]
pub struct BusyShare {
    share: f64,
    /// Seconds of processor time left; negative if overspent.
    left: f64,
    all: Budget,
    least: Budget,
    /// The last look: its time, and the processor times of the responder thread and of the process then.
    seen: Option<(Instant, Duration, Duration)>,
    /// Recent processor time of the process in a second, in seconds.
    rate: f64,
}

impl BusyShare {
    /// Returns an unused share.
    pub fn new(settings: &BusySettings, now: Instant) -> BusyShare {
        BusyShare {
            share: settings.share,
            left: 0.0,
            all: Budget::new(settings.per_second, now),
            least: Budget::new(settings.per_second.min(BUSY_ANSWERS_LEAST), now),
            seen: None,
            rate: 0.0,
        }
    }

    /// Records the processor times of the responder thread and of the process so far.
    pub fn spent(&mut self, own: Duration, process: Duration, now: Instant) {
        if let Some((before, own_before, process_before)) = self.seen.replace((now, own, process)) {
            let took = now.saturating_duration_since(before).as_secs_f64();
            let own = own.saturating_sub(own_before).as_secs_f64();
            let process = process.saturating_sub(process_before).as_secs_f64();
            let newest = (took / SAVED_FOR.as_secs_f64()).min(1.0);
            self.rate += newest * (process / took.max(1e-3) - self.rate);
            let left = self.left + process * self.share - own;
            self.left = left.min(self.rate * self.share * SAVED_FOR.as_secs_f64());
        }
    }

    /// Returns whether processor time is left.
    pub fn has_time(&self) -> bool {
        self.left > 0.0
    }

    /// Returns about how many answers may be sent now.
    pub fn affords(&self, now: Instant) -> usize {
        let by_time = match self.has_time() {
            true => (self.left / ANSWER_SECONDS) as usize,
            false => self.least.left(now),
        };
        by_time.min(self.all.left(now))
    }

    /// Returns how much nicer than a door's thread the busy thread must be to get its share beside one: each step of niceness
    /// is a fifth less of the processor time.
    pub fn niceness(&self) -> i32 {
        const STEP: f64 = 1.25;
        const MOST: f64 = 15.0;
        let share = self.share.clamp(0.01, 0.5);
        ((1.0 - share) / share).log(STEP).round().min(MOST) as i32
    }

    /// Returns whether an answer may be sent now.
    pub fn has_answer(&self, now: Instant) -> bool {
        self.all.left(now) > 0 && (self.has_time() || self.least.left(now) > 0)
    }

    /// Takes the right to send one answer. Returns false if there is none.
    pub fn take_answer(&mut self, now: Instant) -> bool {
        match self.has_time() {
            true => self.all.take(now),
            false => self.least.take(now) && self.all.take(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Tells for so long what may be told, each for `cost`, in a process that has `cores` to itself.
    fn told(settings: &BusySettings, seconds: u64, cost: Duration, cores: u32) -> u64 {
        let start = Instant::now();
        let mut share = BusyShare::new(settings, start);
        let (mut told, mut own) = (0, Duration::ZERO);
        for ms in 0..seconds * 1_000 {
            let passed = Duration::from_millis(ms);
            share.spent(own, passed * cores, start + passed);
            for _ in 0..32 {
                if !share.take_answer(start + passed) {
                    break;
                }
                told += 1;
                own += cost;
            }
        }
        told
    }

    #[test]
    fn a_share_of_the_processor_time_is_spent_and_not_more() {
        let settings = BusySettings {
            per_second: 1_000_000,
            share: 0.05,
        };
        let cost = Duration::from_micros(50);
        for cores in [1, 2, 8] {
            let told = told(&settings, 10, cost, cores);
            let fitting = 10 * 1_000 * u64::from(cores);
            assert!(
                told >= fitting * 9 / 10 && told <= fitting * 12 / 10 + 400,
                "{told}"
            );
        }
    }

    #[test]
    fn no_more_than_a_second_s_share_is_saved() {
        let start = Instant::now();
        let settings = BusySettings {
            per_second: 1_000_000,
            share: 0.05,
        };
        let mut share = BusyShare::new(&settings, start);
        // A process that gets a fiftieth of a core, for a minute.
        for second in 0..60 {
            let process = Duration::from_millis(20) * second;
            let now = start + Duration::from_secs(second.into());
            share.spent(Duration::ZERO, process, now);
        }
        assert!(share.left > 0.000_9 && share.left < 0.001_1, "{share:?}");
    }

    #[test]
    fn no_more_is_promised_than_time_and_number_allow() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        for (per_second, share, most) in [(1_000_000, 0.05, 1_250), (10, 0.5, 10), (100, 0.0, 20)] {
            let mut busy = BusyShare::new(&BusySettings { per_second, share }, start);
            busy.spent(Duration::ZERO, Duration::ZERO, start);
            busy.spent(Duration::ZERO, second, start + second);
            let affords = busy.affords(start + second);
            assert!(affords <= most && affords + 2 >= most, "{affords} {most}");
        }
    }

    #[test]
    fn a_smaller_share_of_a_core_is_a_nicer_thread() {
        let nicer = |share| {
            let settings = BusySettings {
                per_second: 1,
                share,
            };
            BusyShare::new(&settings, Instant::now()).niceness()
        };
        assert_eq!([0.0, 0.05, 0.2, 0.5, 1.0].map(nicer), [15, 13, 6, 0, 0]);
    }

    #[test]
    fn some_are_told_where_the_share_is_nothing_and_none_where_none_may_be() {
        let cost = Duration::from_millis(1);
        for (per_second, share, most) in
            [(200, 0.0, 220), (5, 0.0, 60), (0, 1.0, 0), (10, 1.0, 120)]
        {
            let settings = BusySettings { per_second, share };
            let told = told(&settings, 10, cost, 1);
            assert!(
                told <= most && told * 2 >= most,
                "{per_second} {share}: {told}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_history_of_times_lets_more_through_than_a_second_may(
            per_second in 0u32..1_000,
            share in 0.0f64..1.0,
            steps in proptest::collection::vec((0u64..50, 0u64..100, 0u64..100), 0..200),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut busy = BusyShare::new(&BusySettings { per_second, share }, start);
            let (mut own, mut process, mut told) = (Duration::ZERO, Duration::ZERO, 0u64);
            for (ms, by_own, by_process) in steps {
                now += Duration::from_millis(ms);
                own += Duration::from_millis(by_own);
                process += Duration::from_millis(by_process);
                busy.spent(own, process, now);
                while busy.has_answer(now) {
                    prop_assert!(busy.take_answer(now));
                    told += 1;
                }
                prop_assert!(!busy.take_answer(now));
                let budget = u64::from(per_second) * ((now - start).as_millis() as u64 + 1_000) / 1_000;
                prop_assert!(told <= budget + 1);
            }
        }
    }
}
