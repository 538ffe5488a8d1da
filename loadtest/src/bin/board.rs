//! What the board costs for each resident: memory, the time to fill it, the time to find one of them at random.
//! In: how many residents and shards, 1,000,000 and 2048 if not said. Out: a line. The memory is what this process grew by, allocator included.
//! A hundred million residents need 6 GB here: the board, and their ids in order, which a node does not keep.

use liangma::board::{Board, Found, Settings};
use liangma::person::ResidentId;
use liangma::status::{Reasons, Word};
use std::time::{Duration, Instant};

/// The service's own: another one would round sizes otherwise.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LOOKUPS: u64 = 1_000_000;
const PASSES: usize = 5;

fn main() {
    let mut said = std::env::args().skip(1);
    let mut number = |otherwise: u64| match said.next() {
        None => Some(otherwise),
        Some(text) => text.replace(['_', ','], "").parse().ok().filter(|n| *n > 0),
    };
    let (Some(residents), Some(shards)) = (number(1_000_000), number(2048)) else {
        eprintln!("usage: board [RESIDENTS [SHARDS]]");
        std::process::exit(2);
    };
    // By rising id, as a start reads them from the store. Made before the count begins, and kept until it has ended.
    let mut ids: Vec<u64> = (0..residents).map(spread).collect();
    ids.sort_unstable();
    let before = resident_bytes();
    let started = Instant::now();
    // It is sized for its residents and a tenth more, as at the start of a node.
    let board = Board::new(
        residents,
        Settings {
            stale_after: Duration::from_secs(2),
            too_old_after: Duration::from_secs(30),
            shards: shards as usize,
        },
    );
    for &id in &ids {
        board.post(ResidentId(id), Word::new(1, check_of(id), Reasons::NONE));
    }
    let filled = started.elapsed();
    assert_eq!(board.residents(), residents, "splitmix64 repeats no id");
    board.fill_done();
    let grown = resident_bytes() - before;
    drop(ids);

    let mut passes: Vec<Duration> = (0..PASSES)
        .map(|pass| find(&board, residents, pass as u64))
        .collect();
    passes.sort_unstable();
    let per = |took: Duration, count: u64| took.as_nanos() as f64 / count as f64;
    println!(
        "{residents} residents: {:.2} GB, {:.1} bytes each; filled in {:.1} s, {:.0} ns each; a random find {:.0} ns \
         ({:.0} to {:.0} in {PASSES} passes of {LOOKUPS})",
        grown as f64 / 1e9,
        grown as f64 / residents as f64,
        filled.as_secs_f64(),
        per(filled, residents),
        per(passes[PASSES / 2], LOOKUPS),
        per(passes[0], LOOKUPS),
        per(passes[PASSES - 1], LOOKUPS),
    );
}

/// Each look-up hangs on the last one's outcome, so that the processor cannot overlap them: a query's cannot be either.
fn find(board: &Board, residents: u64, seed: u64) -> Duration {
    let mut rng = spread(seed);
    let started = Instant::now();
    for _ in 0..LOOKUPS {
        let id = spread(rng % residents);
        let Found::Word(word) = board.find(ResidentId(id), check_of(id)) else {
            panic!("a resident on the board");
        };
        // All 64 bits are kept: the outcome alone would soon go round among a few thousand residents.
        rng = spread(rng ^ word.bits());
    }
    started.elapsed()
}

/// Memory of this process that is in use: the kernel's count of its pages, which are of 4 KiB on x86-64.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages: u64 = statm
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("the second field is a number");
    pages * 4096
}

/// splitmix64: ids far apart, as keyed hashes are.
fn spread(nth: u64) -> u64 {
    let mut z = nth.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn check_of(id: u64) -> u16 {
    ((id & 0x3fff) as u16).max(1)
}
