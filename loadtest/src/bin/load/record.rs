//! What a run leaves behind: one JSON object, written by `run` and read by `report`. Milliseconds, seconds from the warm-up's end.

use crate::class::Class;
use crate::machine::Machine;
use crate::shape::Shape;
use crate::tally::{Counts, jain, quantile, recovery, wave};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub label: String,
    pub command: String,
    pub commit: String,
    /// RFC 3339.
    pub at: String,
    pub seed: u64,
    pub machine: Machine,
    pub shape_name: String,
    pub shape: Shape,
    /// Why it counts for nothing.
    pub void: Option<String>,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// How late tries were started.
    pub lag_ms: Times,
    /// Of our own core.
    pub own_cpu_percent: f64,
    /// Of the time, that we were ready to run and had no core: others were there.
    pub own_wait_percent: f64,
    pub server: Option<Server>,
    pub classes: Vec<Figures>,
    pub rude: Vec<RudeFigures>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server {
    pub cpu_seconds: f64,
    /// Of one core, in the mean.
    pub cpu_percent: f64,
    /// Microseconds for each answer that came back, busy ones too. What nobody waited for is in it.
    pub us_per_answer: Option<f64>,
    pub us_per_good: Option<f64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Times {
    pub count: u64,
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    pub max: Option<f64>,
}

/// Of one class, after the warm-up. Counts of tries, by what came of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figures {
    pub kind: String,
    pub rate: f64,
    pub connections: usize,
    /// `kept`, `own` or `new`.
    pub connecting: String,
    pub deadline_ms: f64,
    pub retry: String,
    pub offered_per_second: f64,
    pub tries_per_second: f64,
    pub good_per_second: f64,
    /// Of those offered.
    pub good_percent: f64,
    /// Of them, at their first try.
    pub good_first_percent: f64,
    pub counts: Counts,
    /// Retries that were due after the end.
    pub put_off: u64,
    pub statuses: BTreeMap<u16, u64>,
    /// Of 2xx, late ones too, from the intended instant. Those who gave up have none.
    pub latency_ms: Times,
    pub busy_ms: Times,
    pub recovery: Option<Recovery>,
    pub jain: Option<f64>,
    /// Kept connections that the server had closed as we asked; asked again, and not counted twice.
    pub stale: u64,
    pub closed_idle: u64,
    pub series: Vec<Point>,
}

/// From the end of the spike; null: not within the run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Recovery {
    pub to_85_percent_ms: Option<u64>,
    pub to_95_percent_ms: Option<u64>,
    /// Most tries in a second, of those that begin a second after it or later; null: the run is too short.
    #[serde(default)]
    pub tries_per_second_max: Option<u64>,
}

/// A stretch that begins at `t`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Point {
    pub t: f64,
    #[serde(flatten)]
    pub counts: Counts,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RudeFigures {
    pub kind: String,
    pub many: usize,
    pub open_max: usize,
    pub closed: u64,
    pub taken: u64,
    pub busy: u64,
}

impl Times {
    pub fn of(histogram: &Histogram<u32>) -> Times {
        let of = |part| ms(quantile(histogram, part));
        Times {
            count: histogram.len(),
            p50: of(0.5),
            p90: of(0.9),
            p99: of(0.99),
            p999: of(0.999),
            max: of(1.0),
        }
    }
}

impl Figures {
    /// `warm` in nanoseconds, `seconds` without it.
    pub fn of(
        class: &Class,
        rate: f64,
        warm: u64,
        seconds: f64,
        spike: Option<(f64, f64)>,
    ) -> Figures {
        let (metrics, manner) = (&class.metrics, &class.manner);
        let counts = &metrics.counts;
        let per_second = |count: u64| round(count as f64 / seconds);
        let percent = |count: u64| round(100.0 * count as f64 / counts.offered.max(1) as f64);
        let recovery = spike.map(|(_, end)| {
            let series: Vec<(u64, u64)> = metrics
                .buckets
                .iter()
                .map(|b| (b.counts.offered, b.counts.good))
                .collect();
            let tries: Vec<u64> = metrics.buckets.iter().map(|b| b.counts.tries).collect();
            let (every, end) = (
                metrics.every / 1_000_000,
                warm / 1_000_000 + (end * 1e3) as u64,
            );
            Recovery {
                to_85_percent_ms: recovery(&series, every, end, 0.85),
                to_95_percent_ms: recovery(&series, every, end, 0.95),
                tries_per_second_max: wave(&tries, every, end + 1_000),
            }
        });
        let series = metrics
            .buckets
            .iter()
            .enumerate()
            .map(|(nth, bucket)| Point {
                t: round((nth as f64 * metrics.every as f64 - warm as f64) / 1e9),
                p50: ms(quantile(&bucket.served, 0.5)),
                p99: ms(quantile(&bucket.served, 0.99)),
                counts: bucket.counts.clone(),
            });
        Figures {
            kind: manner.kind.name().into(),
            rate: round(rate),
            connections: manner.connections,
            connecting: manner.connecting.word().into(),
            deadline_ms: manner.deadline as f64 / 1e6,
            retry: format!("{:?}, {} tries", manner.retry.policy, manner.retry.tries),
            offered_per_second: per_second(counts.offered),
            tries_per_second: per_second(counts.tries),
            good_per_second: per_second(counts.good),
            good_percent: percent(counts.good),
            good_first_percent: percent(metrics.good_first),
            counts: counts.clone(),
            put_off: metrics.put_off,
            statuses: metrics.statuses.clone(),
            latency_ms: Times::of(&metrics.served),
            busy_ms: Times::of(&metrics.busy),
            recovery,
            jain: jain(&metrics.good_by_client).map(|jain| (jain * 1e4).round() / 1e4),
            stale: class.stale,
            closed_idle: class.closed_idle,
            series: series.collect(),
        }
    }
}

fn ms(nanoseconds: Option<u64>) -> Option<f64> {
    nanoseconds.map(|n| (n as f64 / 1e3).round() / 1e3)
}

pub fn round(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}
