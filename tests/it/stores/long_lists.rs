//! What calls cost Redis at lists of a province's size; run by hand, because it fills more than a million papers.

use super::{Place, board, change, runtime, who};
use liangma::clock::Time;
use liangma::paper::{Cursor, Paper, PaperKind, PaperKinds};
use liangma::store::{Change, ChangeKind};

/// Papers of one owner: a sixteenth of a roster of 100,000, of 300,000 entries of a day, of 1,000,000 appeals; and all of the
/// last under one owner.
const SIZES: [u64; 5] = [100, 6_250, 18_750, 62_500, 1_000_000];

fn paper(n: u64) -> Paper {
    let mut key = [7; 16];
    key[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Paper {
        kind: PaperKind::Entry,
        key,
        at: Time(1_790_000_000_000 + n),
        body: vec![5; 400].into(),
    }
}

fn filed(owner: u64, n: u64) -> Change {
    change(owner, ChangeKind::Paper(paper(n)))
}

/// `cargo test --release --locked --test it -- --ignored --nocapture what_calls_cost_redis`
#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
#[ignore = "fills more than a million papers"]
fn what_calls_cost_redis_at_long_lists() {
    let place = Place::redis();
    runtime().block_on(async {
        let store = place.open(64, &board()).await;
        println!("papers  page of 50  page of 200  look by key  200 looks  one filed  [microseconds of Redis]");
        for (owner, size) in (1..).zip(SIZES) {
            for first in (0..size).step_by(2_000) {
                let some = first..(first + 2_000).min(size);
                store.apply(some.map(|n| filed(owner, n)).collect()).await.unwrap();
            }
            let middle = Cursor {
                at: Time(1_790_000_000_000 + size / 2),
                key: [0; 16],
            };
            let kinds = PaperKinds::of(&[PaperKind::Entry, PaperKind::Grant]);
            let keys: Vec<_> = (0..200).map(|n| paper(n * size / 200).key).collect();
            let mut line = format!("{size:>9}");
            for what in 0..5 {
                place.server().ask(&["CONFIG", "RESETSTAT"]);
                for round in 0..200 {
                    let who = who(owner);
                    match what {
                        0 => drop(store.papers(who, kinds, Some(middle), 50).await.unwrap()),
                        1 => drop(store.papers(who, kinds, Some(middle), 200).await.unwrap()),
                        2 => drop(store.some(who, &keys[..1]).await.unwrap()),
                        3 => drop(store.some(who, &keys).await.unwrap()),
                        _ => drop(store.apply(vec![filed(owner, size + round)]).await.unwrap()),
                    }
                }
                line += &format!("  {}", per_call(&place));
            }
            println!("{line}");
        }
        store.close().await;
    });
}

fn per_call(place: &Place) -> String {
    let told = place.server().ask(&["INFO", "commandstats"]);
    // A look by key is no script; scripts call the same command.
    let of = |name: &str| told.lines().find(|line| line.starts_with(name));
    let line = of("cmdstat_evalsha:").or(of("cmdstat_hmget:"));
    let line = line.expect("it was asked");
    let (_, rest) = line.split_once("usec_per_call=").expect("it is told");
    rest.split(',').next().unwrap_or_default().to_owned()
}
