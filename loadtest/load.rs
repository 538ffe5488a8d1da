//! Open-loop load: arrivals that keep their own pace, and what came of each, from the instant at which it was meant to begin.
//! In: rates, a shape, a key ring. Out: one JSON result, plots. It says so itself when it was too slow to be believed.
//! One thread and one epoll loop in `load/run.rs`; README.md here says how to read the figures.

#[path = "load/abuse.rs"]
mod abuse;
#[path = "load/answer.rs"]
mod answer;
#[path = "load/arrivals.rs"]
mod arrivals;
#[path = "load/asking.rs"]
mod asking;
#[path = "load/capacity.rs"]
mod capacity;
#[path = "load/class.rs"]
mod class;
#[path = "load/histogram.rs"]
mod histogram;
#[path = "load/machine.rs"]
mod machine;
#[path = "load/measure.rs"]
mod measure;
#[path = "load/tally.rs"]
mod metrics;
#[path = "load/options.rs"]
mod options;
#[path = "load/plot.rs"]
mod plot;
#[path = "load/record.rs"]
mod record;
#[path = "load/report.rs"]
mod report;
#[path = "load/retry.rs"]
mod retry;
#[path = "load/rng.rs"]
mod rng;
#[path = "load/run.rs"]
mod run;
#[path = "load/shape.rs"]
mod shape;
#[path = "load/slot.rs"]
mod slot;
#[path = "load/sys.rs"]
mod sys;
#[path = "load/watch.rs"]
mod watch;

use clap::Parser;
use options::{Options, What};
use std::process::ExitCode;

/// Measured, but too late or too short to be believed.
const VOID: u8 = 3;

fn main() -> ExitCode {
    let done = match Options::parse().what {
        What::Run(options) => measure::run(&options),
        What::Capacity(options) => capacity::measure(&options),
        What::Report(options) => report::write(&options).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(VOID),
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}
