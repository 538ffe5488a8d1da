//! What came of every try, by the instant at which it was meant to begin: counts, times, a series.
//! In: outcomes. Out: figures to read. Pure. A try is one request that somebody meant to make; a retry is a try of its own.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How one try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A 2xx within the deadline.
    Good,
    /// A 2xx after it.
    Late,
    /// 503.
    Busy,
    /// Nobody let us connect, or let us down before we asked.
    Refused,
    /// Asked, and the connection ended without an answer.
    Cut,
    /// Given up without a word, while connecting.
    SilentConnect,
    /// Given up without a word, after asking.
    Silent,
    /// Given up for want of a free connection or descriptor of our own.
    Starved,
    /// Another status.
    Other(u16),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// First tries.
    pub offered: u64,
    /// All of them.
    pub tries: u64,
    pub good: u64,
    pub late: u64,
    pub busy: u64,
    pub refused: u64,
    pub cut: u64,
    /// Given up while connecting.
    pub silent_connect: u64,
    /// Given up after asking.
    pub silent: u64,
    /// Given up for want of a connection of our own.
    pub starved: u64,
    pub other: u64,
}

impl Counts {
    fn of(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Good => &mut self.good,
            Outcome::Late => &mut self.late,
            Outcome::Busy => &mut self.busy,
            Outcome::Refused => &mut self.refused,
            Outcome::Cut => &mut self.cut,
            Outcome::SilentConnect => &mut self.silent_connect,
            Outcome::Silent => &mut self.silent,
            Outcome::Starved => &mut self.starved,
            Outcome::Other(_) => &mut self.other,
        }
    }

    /// Answers that the server made, whatever they said.
    pub fn answers(&self) -> u64 {
        self.good + self.late + self.busy + self.other
    }
}

/// A stretch of the run.
#[derive(Clone)]
pub struct Bucket {
    pub counts: Counts,
    /// Of 2xx, late ones too.
    pub served: Histogram<u32>,
}

/// Returns room for durations in nanoseconds. It is told two digits: a duration is read 0.8 % too long at most.
pub fn durations() -> Histogram<u32> {
    Histogram::new(2).expect("one to five digits")
}

pub fn add(to: &mut Histogram<u32>, nanoseconds: u64) {
    to.record(nanoseconds).expect("it grows with its values");
}

/// Returns the time within which this part of them were, 0 to 1. None of none.
pub fn quantile(of: &Histogram<u32>, part: f64) -> Option<u64> {
    (!of.is_empty()).then(|| of.value_at_quantile(part))
}

/// One class of load.
pub struct Tally {
    /// Nanoseconds of a bucket.
    pub every: u64,
    warm: u64,
    pub buckets: Vec<Bucket>,
    /// What follows is without the warm-up.
    pub counts: Counts,
    pub good_first: u64,
    /// Retries that were due after the end.
    pub put_off: u64,
    pub served: Histogram<u32>,
    pub busy: Histogram<u32>,
    pub statuses: BTreeMap<u16, u64>,
    pub good_by_client: Vec<u64>,
}

/// A try, as far as it is counted.
#[derive(Clone, Copy)]
pub struct Try {
    /// Nanoseconds from the start of the warm-up.
    pub intended: u64,
    /// 1 for the first.
    pub nth: u32,
    pub client: u32,
}

impl Tally {
    /// `clients`: those whom the Jain index is of.
    pub fn new(every: u64, warm: u64, end: u64, clients: usize) -> Tally {
        let bucket = Bucket {
            counts: Counts::default(),
            served: durations(),
        };
        Tally {
            every,
            warm,
            buckets: vec![bucket; end.div_ceil(every) as usize],
            counts: Counts::default(),
            good_first: 0,
            put_off: 0,
            served: durations(),
            busy: durations(),
            statuses: BTreeMap::new(),
            good_by_client: vec![0; clients],
        }
    }

    /// `took`: from the intended instant to the end.
    pub fn add(&mut self, one: Try, outcome: Outcome, took: u64) {
        let counted = one.intended >= self.warm;
        let place = (one.intended / self.every) as usize;
        let mut buckets = [Some(&mut self.counts).filter(|_| counted), None];
        let bucket = self.buckets.get_mut(place);
        let served = matches!(outcome, Outcome::Good | Outcome::Late);
        if let Some(bucket) = bucket {
            if served {
                add(&mut bucket.served, took);
            }
            buckets[1] = Some(&mut bucket.counts);
        }
        for counts in buckets.into_iter().flatten() {
            counts.offered += u64::from(one.nth == 1);
            counts.tries += 1;
            *counts.of(outcome) += 1;
        }
        if !counted {
            return;
        }
        if served {
            add(&mut self.served, took);
        }
        match outcome {
            Outcome::Good => {
                self.good_first += u64::from(one.nth == 1);
                self.good_by_client[one.client as usize] += 1;
            }
            Outcome::Busy => add(&mut self.busy, took),
            Outcome::Other(status) => *self.statuses.entry(status).or_default() += 1,
            _ => {}
        }
    }
}

/// How evenly the good went to all: 1 evenly, 1/n all to one. None where nobody had any.
pub fn jain(of: &[u64]) -> Option<f64> {
    let sum: f64 = of.iter().map(|n| *n as f64).sum();
    let squares: f64 = of.iter().map(|n| (*n as f64).powi(2)).sum();
    (squares > 0.0).then(|| sum * sum / (of.len() as f64 * squares))
}

/// Milliseconds that must be good in a row before we call it recovered.
const RECOVERED_MS: u64 = 400;

/// Milliseconds from `end` (of a spike) until the first 400 ms in which `good` is so great a part of `offered`.
/// `series` is offered and good by buckets of `every` milliseconds, `end` in milliseconds from its start.
pub fn recovery(series: &[(u64, u64)], every: u64, end: u64, part: f64) -> Option<u64> {
    let window = RECOVERED_MS.div_ceil(every) as usize;
    let first = end.div_ceil(every) as usize;
    let found = series.get(first..)?.windows(window).position(|window| {
        let offered: u64 = window.iter().map(|one| one.0).sum();
        let good: u64 = window.iter().map(|one| one.1).sum();
        offered > 0 && good as f64 >= part * offered as f64
    })?;
    Some((first + found) as u64 * every - end)
}

/// Most tries a second, over any whole second that begins at `from` or later: how high a wave of those who come back is. None
/// where the series has no whole second. `tries` is by buckets of `every` milliseconds, `from` in milliseconds from its start.
pub fn wave(tries: &[u64], every: u64, from: u64) -> Option<u64> {
    let second = 1_000_u64.div_ceil(every) as usize;
    let first = from.div_ceil(every) as usize;
    let seconds = tries.get(first..)?.windows(second);
    seconds.map(|second| second.iter().sum()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn of(intended_ms: u64, nth: u32) -> Try {
        Try {
            intended: intended_ms * MS,
            nth,
            client: 0,
        }
    }

    #[test]
    fn each_try_is_counted_once_and_the_warm_up_in_the_series_alone() {
        let mut metrics = Tally::new(100 * MS, 1000 * MS, 2000 * MS, 1);
        metrics.add(of(500, 1), Outcome::Good, MS);
        metrics.add(of(1050, 1), Outcome::Busy, 2 * MS);
        metrics.add(of(1050, 2), Outcome::Good, 3 * MS);
        metrics.add(of(1150, 1), Outcome::Late, 300 * MS);
        metrics.add(of(1950, 1), Outcome::Other(401), MS);
        let counts = &metrics.counts;
        assert_eq!(
            (counts.offered, counts.tries, counts.good, counts.late),
            (3, 4, 1, 1)
        );
        assert_eq!((metrics.good_first, counts.answers()), (0, 4));
        assert_eq!(metrics.statuses, BTreeMap::from([(401, 1)]));
        assert_eq!((metrics.served.len(), metrics.busy.len()), (2, 1));
        assert_eq!(metrics.buckets[5].counts.good, 1);
        let bucket = &metrics.buckets[10];
        assert_eq!(
            (
                bucket.counts.offered,
                bucket.counts.tries,
                bucket.served.len()
            ),
            (1, 2, 1)
        );
    }

    #[test]
    fn a_time_is_read_within_a_hundredth_also_a_very_long_one() {
        let mut times = durations();
        assert_eq!(quantile(&times, 0.5), None);
        for us in 1..=100_000 {
            add(&mut times, us * 1000);
        }
        for part in [0.001, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let (found, wanted) = (quantile(&times, part).unwrap() as f64, part * 1e8);
            assert!((1.0..1.008).contains(&(found / wanted)), "{part}: {found}");
        }
        add(&mut times, 275_000 * MS);
        assert!(quantile(&times, 1.0).unwrap() >= 275_000 * MS);
        assert_eq!(times.len(), 100_001);
        for nanoseconds in [0, 1, 63, 64, 127, 255] {
            let mut one = durations();
            add(&mut one, nanoseconds);
            assert_eq!(quantile(&one, 0.5), Some(nanoseconds));
        }
    }

    #[test]
    fn jain_is_one_for_equals_and_a_part_for_one_alone() {
        assert_eq!(jain(&[5, 5, 5, 5]), Some(1.0));
        assert_eq!(jain(&[9, 0, 0, 0]), Some(0.25));
        assert_eq!(jain(&[0, 0]), None);
        assert!((jain(&[1, 2, 3]).unwrap() - 36.0 / 42.0).abs() < 1e-12);
    }

    #[test]
    fn a_wave_is_the_second_with_most_tries() {
        let mut tries = vec![10; 40];
        tries[12] = 900;
        assert_eq!(wave(&tries, 100, 0), Some(990));
        assert_eq!(wave(&tries, 100, 1_300), Some(100));
        tries[33..37].fill(50);
        assert_eq!(wave(&tries, 100, 1_300), Some(260));
        assert_eq!(wave(&tries, 100, 3_100), None, "no whole second");
        assert_eq!(wave(&tries, 100, 9_000), None);
    }

    #[test]
    fn recovery_is_to_the_first_four_tenths_that_are_good() {
        let series = |goods: &[u64]| goods.iter().map(|good| (100, *good)).collect::<Vec<_>>();
        let at_once = series(&[50, 50, 90, 90, 90, 90]);
        assert_eq!(recovery(&at_once, 100, 200, 0.85), Some(0));
        assert_eq!(recovery(&at_once, 100, 200, 0.95), None);
        let slow = series(&[99, 99, 0, 20, 70, 90, 90, 90, 90]);
        assert_eq!(
            recovery(&slow, 100, 200, 0.85),
            Some(200),
            "70 90 90 90 is 340 of 400"
        );
        assert_eq!(recovery(&slow, 100, 200, 0.9), Some(300));
        assert_eq!(
            recovery(&series(&[90, 90, 90]), 100, 0, 0.85),
            None,
            "too short to tell"
        );
        assert_eq!(recovery(&[(0, 0); 9], 100, 0, 0.85), None, "nobody asked");
        assert_eq!(recovery(&at_once, 100, 9_000, 0.85), None, "after the end");
    }
}
