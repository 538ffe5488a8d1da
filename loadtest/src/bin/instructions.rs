//! Does what one step on the hot path does, N times, so that `loadtest/instructions` can count its instructions.
//! In: `STEP N`, or nothing to list the steps. Never: a clock.

#[path = "../../../benches/steps/fixtures.rs"]
mod fixtures;

use fixtures::{Fixtures, STEPS};
use std::process::ExitCode;

/// The service's own; its instructions count too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The counter runs fifty times slower than the processor. The map's size changes a look-up's time, not its instructions.
const RESIDENTS: u64 = 4_096;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, times] = &arguments[..] else {
        for step in STEPS {
            println!("{step}");
        }
        return ExitCode::SUCCESS;
    };
    let step = STEPS.iter().find(|step| step.name == name);
    let (Some(step), Ok(times)) = (step, times.parse()) else {
        eprintln!("usage: instructions [STEP N]");
        return ExitCode::from(2);
    };
    measured(&Fixtures::new(RESIDENTS), step.once, times);
    ExitCode::SUCCESS
}

/// The counter is on in here alone: making the fixtures depends on chance and on the clock.
#[unsafe(no_mangle)]
#[inline(never)]
fn measured(fixtures: &Fixtures, once: fn(&Fixtures), times: u64) {
    for _ in 0..times {
        once(fixtures);
    }
}
