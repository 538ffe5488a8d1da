//! What each step of the hot path costs one query: wall time and allocations, at a board of a million residents.
//! Allocations are counted over the service's own allocator; the counting makes each a little slower than it is.
//! For a figure that a busy machine does not move, see `loadtest/instructions`.

#[path = "steps/fixtures.rs"]
mod fixtures;

use divan::{AllocProfiler, Bencher};
use fixtures::{Fixtures, STEPS, Step};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

const RESIDENTS: u64 = 1_000_000;

thread_local! {
    // Fixtures belong to one thread, as a service does; the benches run on one.
    static FIXTURES: Fixtures = Fixtures::new(RESIDENTS);
}

fn main() {
    divan::main();
}

/// Before the clock starts: texts that are made once, pages that are touched once.
const WARM_UP: usize = 100_000;

// Samples far above the clock's own cost.
#[divan::bench(args = STEPS, sample_size = 2_000)]
fn steps(bencher: Bencher<'_, '_>, step: Step) {
    FIXTURES.with(|fixtures| {
        for _ in 0..WARM_UP {
            (step.once)(fixtures);
        }
        bencher.bench_local(|| (step.once)(fixtures));
    });
}
