//! Watches a run: the CPU of the server and ours, and a line on a terminal. Silent where there is none.

use crate::machine::{self, Cores};
use crate::run::Run;
use crate::sys;
use crate::tally::quantile;
use std::io::{IsTerminal, Write};

/// Between two words on a terminal.
const TOLD_EVERY: u64 = 250_000_000;

/// Looks at the server's CPU and ours when the warm-up ends and when the arrivals end; tells on a terminal how it goes.
pub struct Watch<'a> {
    processes: &'a [u32],
    warm: u64,
    end: u64,
    pub cores: Cores,
    begun: Option<Spent>,
    ended: Option<Spent>,
    told: Option<u64>,
}

impl<'a> Watch<'a> {
    pub fn new(processes: &'a [u32], warm: u64, end: u64) -> Watch<'a> {
        Watch {
            processes,
            warm,
            end,
            cores: Cores::now(),
            begun: None,
            ended: None,
            told: std::io::stderr().is_terminal().then_some(0),
        }
    }

    pub fn look(&mut self, run: &Run, now: u64) {
        if now >= self.warm && self.begun.is_none() {
            self.begun = Some(Spent::now(self.processes));
        }
        if now >= self.end && self.ended.is_none() {
            self.close();
        }
        if let Some(told) = self.told
            && now >= told
        {
            self.told = Some(now + TOLD_EVERY);
            tell(run, now);
        }
    }

    fn close(&mut self) {
        let (from, to) = (self.begun.unwrap_or_default(), Spent::now(self.processes));
        self.ended = Some(Spent {
            server: to.server - from.server,
            own: to.own - from.own,
            waited: to.waited - from.waited,
        });
    }

    /// What was spent between the two looks.
    pub fn end(&mut self) -> Spent {
        if self.told.is_some() {
            eprint!("\r\x1b[K");
        }
        if self.ended.is_none() {
            self.close();
        }
        self.ended.unwrap_or_default()
    }
}

/// Seconds of CPU: the server's, ours, and those in which we were ready and had no core.
#[derive(Clone, Copy, Default)]
pub struct Spent {
    pub server: f64,
    pub own: f64,
    pub waited: f64,
}

impl Spent {
    fn now(processes: &[u32]) -> Spent {
        Spent {
            server: machine::cpu_seconds(processes),
            own: sys::own_cpu() as f64 / 1e9,
            waited: machine::waited_seconds(),
        }
    }
}

/// One line, over the last one.
fn tell(run: &Run, now: u64) {
    let mut line = format!("\r\x1b[K{:5.1} s", (now as f64 - run.warm as f64) / 1e9);
    for class in &run.classes {
        let every = class.metrics.every;
        // The stretch before the one that is under way, and before its last who are still waited for.
        let settled = now.saturating_sub(class.manner.deadline) / every;
        if let Some(bucket) = class
            .metrics
            .buckets
            .get((settled as usize).saturating_sub(1))
        {
            let per_second = |n: u64| n as f64 * 1e9 / every as f64;
            line += &format!(
                "  {} {:.0}/s good {:.0} busy {:.0}",
                class.manner.kind.name(),
                per_second(bucket.counts.offered),
                per_second(bucket.counts.good),
                per_second(bucket.counts.busy),
            );
        }
    }
    line += &format!(
        "  lag p99 {:.2} ms",
        quantile(&run.lag, 0.99).unwrap_or(0) as f64 / 1e6
    );
    eprint!("{line}");
    let _ = std::io::stderr().flush();
}
