//! Open-loop load: arrivals that keep their own pace, and what came of each, from the instant at which it was meant to begin.
//! In: rates, a shape, a key ring. Out: one JSON result, plots. It says so itself when it was too slow to be believed.
//! One thread and one epoll loop in `run`; loadtest/README.md says how to read the figures.

mod abuse;
mod answer;
mod arrivals;
mod asking;
mod capacity;
mod class;
mod machine;
mod measure;
mod options;
mod plot;
mod record;
mod report;
mod retry;
mod run;
mod shape;
mod slot;
mod sys;
mod tally;
mod watch;
mod zipf;

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
