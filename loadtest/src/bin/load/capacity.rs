//! What a server answers at most: a closed loop, a few times over, the median. Its rate is what load is a multiple of.

use crate::asking::Kind;
use crate::class::{Connecting, Manner};
use crate::measure::{FILL_MAX, asking, fit, now_text, prepared, save};
use crate::options::CapacityOptions;
use crate::record::round;
use crate::retry::{Policy, Retry};
use crate::shape::Shape;
use crate::watch::Watch;
use crate::{machine, sys};
use anyhow::{Context, Result, anyhow, ensure};
use std::rc::Rc;

/// Never void: a closed loop has no lag.
pub fn measure(options: &CapacityOptions) -> Result<bool> {
    let target = &options.target;
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == options.of);
    let kind = kind.context("--of: show, scan or bulk")?;
    ensure!(
        options.turns > 0 && options.seconds > 0.0,
        "--turns and --seconds: above 0"
    );
    sys::settle(target.core, target.nice).context("--core, --nice")?;
    let patience = 10_000_000_000;
    let manner = Manner {
        kind,
        target: if kind == Kind::Show {
            target.resident
        } else {
            target.gate
        },
        connecting: if options.new {
            Connecting::New
        } else {
            Connecting::Kept
        },
        closed_loop: true,
        connections: options.connections,
        deadline: patience,
        patience,
        retry: Retry {
            policy: Policy::None,
            tries: 1,
        },
    };
    let mut wanted = vec![(manner, 0.0)];
    let mut notes = Vec::new();
    fit(&mut wanted, 0, &mut notes)?;
    let shape = Rc::new(Shape::steady(options.seconds).map_err(|e| anyhow!(e))?);
    let mut asking = asking(target, options.new)?;
    let (warm, every) = (500_000_000, 100_000_000);
    let end = warm + (options.seconds * 1e9) as u64;
    let mut turns = Vec::new();
    for _ in 0..options.turns {
        let mut run = prepared(target, &wanted, &shape, &mut asking, (warm, every, end))?;
        run.fill(64, FILL_MAX)?;
        let mut watch = Watch::new(&target.pid, warm, end);
        run.go(|run, now| watch.look(run, now))?;
        let spent = watch.end();
        let class = &run.classes[0];
        let counts = &class.metrics.counts;
        ensure!(
            counts.good > 0,
            "not one good answer: {:?}",
            class.metrics.statuses
        );
        // By when they were asked; the last are answered a moment after the end.
        let rate = counts.good as f64 / options.seconds;
        let failed = counts.tries - counts.good;
        let each = spent.server * 1e6 / counts.good as f64;
        eprintln!(
            "{} {rate:.0}/s, {failed} failed, server {:.0} % of a core, {each:.2} µs each, own {:.0} %",
            kind.name(),
            100.0 * spent.server / options.seconds,
            100.0 * spent.own / options.seconds,
        );
        turns.push((rate, failed, each));
    }
    turns.sort_by(|a, b| a.0.total_cmp(&b.0));
    let median = turns[turns.len() / 2];
    println!("{:.0}", median.0);
    let record = serde_json::json!({
        "label": target.label, "of": kind.name(), "connections": options.connections, "new_connections": options.new,
        "capacity": round(median.0), "turns": turns.iter().map(|turn| round(turn.0)).collect::<Vec<_>>(),
        "failed": turns.iter().map(|turn| turn.1).sum::<u64>(), "us_each": round(median.2),
        "notes": notes, "command": machine::command(), "commit": machine::commit(), "at": now_text(),
    });
    save(
        target.json.as_deref(),
        &serde_json::to_string_pretty(&record)?,
    )?;
    Ok(true)
}
