//! From options to a record: builds the classes, runs them, watches the server's CPU and ourselves, says what came of it.

use crate::abuse::Abuse;
use crate::arrivals::Arrivals;
use crate::asking::{Asking, Kind, People, Places};
use crate::class::{Class, Connecting, Manner};
use crate::machine::{self, Machine};
use crate::options::{RunOptions, Target};
use crate::record::{Figures, Record, RudeFigures, Server, Times, round};
use crate::retry::{Policy, Retry};
use crate::run::Run;
use crate::shape::Shape;
use crate::tally::Tally;
use crate::watch::Watch;
use crate::zipf::Zipf;
use crate::{plot, sys};
use anyhow::{Context, Result, anyhow, ensure};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::net::Ipv4Addr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// Descriptors for all that is no connection of a class.
const DESCRIPTORS_SPARE: u64 = 64;
/// The whole filling, at most.
pub const FILL_MAX: Duration = Duration::from_secs(3);

/// From the last connection's opening to the limit. Guess: a server with a core accepts some thousands in it.
const SETTLE: Duration = Duration::from_millis(300);

/// False: measured, but void.
pub fn run(options: &RunOptions) -> Result<bool> {
    let target = &options.target;
    let (shape_name, shape) = shape(options)?;
    let unit = options.capacity.unwrap_or(1.0) * options.times;
    let said = shape.connections.as_deref().map(|text| {
        Connecting::parse(text)
            .ok_or_else(|| anyhow!("{shape_name}: connections: kept, own or new, not {text}"))
    });
    let connecting = match options.connecting {
        Some(connecting) => connecting,
        None => said.transpose()?.unwrap_or(Connecting::Kept),
    };
    let said = shape.retry.as_deref().map(|text| {
        Policy::parse(text)
            .ok_or_else(|| anyhow!("{shape_name}: retry: no policy is called {text}"))
    });
    let policy = match options.retry {
        Some(policy) => policy,
        None => said.transpose()?.unwrap_or(Policy::None),
    };
    let nanoseconds = |time: Duration| time.as_nanos() as u64;
    let mut wanted = Vec::new();
    for (kind, rate) in [
        (Kind::Show, options.show),
        (Kind::Scan, options.scan),
        (Kind::Bulk, options.bulk),
    ] {
        ensure!(
            (0.0..=1e7).contains(&(rate * unit)),
            "{}: from 0 to 10,000,000 a second",
            kind.name()
        );
        let deadline = match kind {
            Kind::Bulk => options.bulk_deadline,
            _ => options.deadline,
        };
        let patience = options
            .patience
            .filter(|_| kind != Kind::Bulk)
            .unwrap_or(deadline);
        ensure!(patience >= deadline, "--patience: not before the deadline");
        let (to, connections, connecting) = match kind {
            Kind::Show => (target.resident, options.connections, connecting),
            _ => (
                target.gate,
                options.gate_connections,
                options.gate_connecting,
            ),
        };
        let manner = Manner {
            kind,
            target: to,
            connecting,
            closed_loop: false,
            connections,
            deadline: nanoseconds(deadline),
            patience: nanoseconds(patience),
            retry: Retry {
                policy,
                tries: options.tries,
            },
        };
        if rate > 0.0 {
            wanted.push((manner, rate * unit));
        }
    }
    ensure!(!wanted.is_empty(), "no load: say --show, --scan or --bulk");
    ensure!(
        options.every >= Duration::from_millis(1),
        "--every: from 1ms"
    );
    let mut notes = Vec::new();
    fit(
        &mut wanted,
        shape.rude.iter().map(|rude| rude.many).sum(),
        &mut notes,
    )?;
    let (warm, every) = (nanoseconds(options.warmup), nanoseconds(options.every));
    let end = warm + (shape.seconds * 1e9) as u64;
    let shape = Rc::new(shape);
    let mut asking = asking(
        target,
        wanted.iter().all(|(m, _)| m.connecting == Connecting::New),
    )?;
    let mut run = prepared(target, &wanted, &shape, &mut asking, (warm, every, end))?;
    run.rude = rude(&shape, &run, warm, target);
    sys::settle(target.core, target.nice).context("--core, --nice")?;
    let kept: usize = wanted
        .iter()
        .filter(|(m, _)| m.connecting != Connecting::New)
        .map(|(m, _)| m.connections)
        .sum();
    let filled = run.fill(options.fill.max(1), FILL_MAX)?;
    if filled < kept {
        notes.push(format!(
            "of {kept} kept connections {filled} could be opened before the start"
        ));
    }

    if !options.limit.is_empty() {
        // What is still in the server's queues is worked off unlimited.
        std::thread::sleep(SETTLE);
        for (pid, group) in target.pid.iter().zip(options.limit.iter().cycle()) {
            std::fs::write(group, pid.to_string()).with_context(|| group.display().to_string())?;
        }
    }

    let mut watch = Watch::new(&target.pid, warm, end);
    run.go(|run, now| watch.look(run, now))?;
    let spent = watch.end();
    let (server_seconds, machine) = (spent.server, Machine::since(watch.cores));
    let lag = Times::of(&run.lag);
    let void = void(&run, &lag, options.lag_max);
    let seconds = shape.seconds;
    let answers: u64 = run
        .classes
        .iter()
        .map(|class| class.metrics.counts.answers())
        .sum();
    let good: u64 = run
        .classes
        .iter()
        .map(|class| class.metrics.counts.good)
        .sum();
    let greedy: u64 = run.rude.iter().map(|rude| rude.taken + rude.busy).sum();
    let each = |many: u64| (many > 0).then(|| round(server_seconds * 1e6 / many as f64));
    if let Some(short) = run
        .classes
        .iter()
        .map(|class| class.short)
        .max()
        .filter(|n| *n > 0)
    {
        notes.push(format!(
            "{short} times there was no descriptor or port left of our own"
        ));
    }
    let record = Record {
        label: target.label.clone(),
        command: machine::command(),
        commit: machine::commit(),
        at: now_text(),
        seed: target.seed,
        machine,
        shape_name,
        shape: (*shape).clone(),
        void: void.clone(),
        notes,
        lag_ms: lag,
        own_cpu_percent: round(100.0 * spent.own / seconds),
        own_wait_percent: round(100.0 * spent.waited / seconds),
        server: (!target.pid.is_empty()).then(|| Server {
            cpu_seconds: round(server_seconds),
            cpu_percent: round(100.0 * server_seconds / seconds),
            us_per_answer: each(answers + greedy),
            us_per_good: each(good),
        }),
        classes: run
            .classes
            .iter()
            .zip(&wanted)
            .map(|(class, (_, rate))| Figures::of(class, *rate, warm, seconds, shape.spike))
            .collect(),
        rude: run
            .rude
            .iter()
            .map(|rude| RudeFigures {
                kind: format!("{:?}", rude.kind).to_lowercase(),
                many: rude.many,
                open_max: rude.open_max,
                closed: rude.closed,
                taken: rude.taken,
                busy: rude.busy,
            })
            .collect(),
    };
    say(&record);
    save(
        target.json.as_deref(),
        &serde_json::to_string_pretty(&record)?,
    )?;
    if let Some(path) = &options.svg {
        std::fs::write(path, plot::both(&record)?).with_context(|| path.display().to_string())?;
    }
    Ok(void.is_none())
}

fn shape(options: &RunOptions) -> Result<(String, Shape)> {
    let Some(path) = &options.shape else {
        return Ok((
            "steady".into(),
            Shape::steady(options.seconds).map_err(|e| anyhow!(e))?,
        ));
    };
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let shape = Shape::parse(&text).map_err(|e| anyhow!("{}: {e}", path.display()))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok((name.into_owned(), shape))
}

/// Fewer connections where descriptors are short, and a word about it.
pub fn fit(wanted: &mut [(Manner, f64)], rude: usize, notes: &mut Vec<String>) -> Result<()> {
    let all: usize = wanted.iter().map(|(manner, _)| manner.connections).sum();
    let needed = (all + rude) as u64 + DESCRIPTORS_SPARE;
    let there = sys::descriptors(needed)?;
    if there >= needed {
        return Ok(());
    }
    let room = (there.saturating_sub(DESCRIPTORS_SPARE) as usize).saturating_sub(rude);
    ensure!(room >= wanted.len(), "{there} descriptors are too few");
    for (manner, _) in wanted {
        manner.connections = (manner.connections * room / all).max(1);
    }
    notes.push(format!(
        "wanted {needed} descriptors, may have {there}: fewer connections"
    ));
    eprintln!("load: {}", notes.last().map_or("", String::as_str));
    Ok(())
}

pub fn asking(target: &Target, close: bool) -> Result<Asking> {
    let people = match &target.people {
        Some(path) => People::Of(path),
        None => People::Town(target.town),
    };
    let places = Places {
        resident: target.resident,
        gate: target.gate,
        close,
        bulk_lines: target.bulk_lines,
    };
    ensure!(
        (1..=5_000_000).contains(&target.residents),
        "--residents: from 1 to 5,000,000"
    );
    Asking::new(target.keys.as_deref(), &people, target.residents, &places)
}

pub fn prepared<'a>(
    target: &Target,
    wanted: &[(Manner, f64)],
    shape: &Rc<Shape>,
    asking: &'a mut Asking,
    (warm, every, end): (u64, u64, u64),
) -> Result<Run<'a>> {
    if wanted.iter().any(|(manner, _)| manner.kind != Kind::Show) {
        asking.make_codes();
    }
    ensure!((0.0..=10.0).contains(&target.zipf), "--zipf: from 0 to 10");
    let zipf = Rc::new(Zipf::new(asking.residents(), target.zipf));
    let (mut classes, mut from) = (Vec::new(), 0);
    for (manner, rate) in wanted {
        let stream = manner.kind as u64 * 2;
        let rng = |nth| rng(target.seed, stream + nth);
        let arrivals = Arrivals::new(shape, manner.kind.name(), *rate, warm as f64 / 1e9, rng(0));
        let places = from..from + manner.connections;
        from = places.end;
        let metrics = Tally::new(every, warm, end, target.addresses as usize);
        classes.push(Class::new(
            manner.clone(),
            arrivals,
            places,
            &zipf,
            rng(1),
            metrics,
        ));
    }
    let sources = (0..target.addresses)
        .map(|n| Ipv4Addr::new(127, 0, 0, 2 + n as u8))
        .collect();
    let mut run = Run::new(classes, asking, sources)?;
    (run.warm, run.end) = (warm, end);
    Ok(run)
}

/// Returns the sequence of a seed. `stream` tells the sequences of one seed apart.
fn rng(seed: u64, stream: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03))
}

/// They come to the resident door, from an address that no other has.
fn rude(shape: &Shape, run: &Run, warm: u64, target: &Target) -> Vec<Abuse> {
    let mut request = Vec::new();
    let source = Ipv4Addr::new(127, 0, 0, 250);
    run.asking.show(0, &mut request);
    let groups = shape.rude.iter().enumerate();
    groups
        .map(|(nth, spec)| Abuse::new(nth, spec, (source, target.resident), &request, warm))
        .collect()
}

fn void(run: &Run, lag: &Times, most: Duration) -> Option<String> {
    let most = most.as_secs_f64() * 1e3;
    let p99 = lag.p99.unwrap_or(0.0);
    if p99 > most {
        return Some(format!(
            "tries were started late: 99 of 100 within {p99} ms, {most} ms at most"
        ));
    }
    let starved: u64 = run.classes.iter().map(|class| class.short).sum();
    (starved > 0).then(|| "descriptors or ports of our own ran out".into())
}

fn say(record: &Record) {
    for figures in &record.classes {
        let (counts, latency) = (&figures.counts, &figures.latency_ms);
        let time = |time: Option<f64>| time.map_or("-".into(), |ms| format!("{ms:.2}"));
        eprintln!(
            "{}: offered {:.0}/s, good {:.0}/s ({:.1} %); late {}, busy {}, refused {}, cut {}, silent {} + {}, starved {}, other {}; p50 {} p99 {} ms",
            figures.kind,
            figures.offered_per_second,
            figures.good_per_second,
            figures.good_percent,
            counts.late,
            counts.busy,
            counts.refused,
            counts.cut,
            counts.silent,
            counts.silent_connect,
            counts.starved,
            counts.other,
            time(latency.p50),
            time(latency.p99),
        );
        if let Some(recovery) = figures.recovery {
            let to =
                |ms: Option<u64>| ms.map_or("not within the run".into(), |ms| format!("{ms} ms"));
            eprintln!(
                "  recovered to 85 %: {}; to 95 %: {}; most tries a second later: {}",
                to(recovery.to_85_percent_ms),
                to(recovery.to_95_percent_ms),
                recovery
                    .tries_per_second_max
                    .map_or("–".into(), |tries| tries.to_string()),
            );
        }
    }
    let lag = record.lag_ms.p99.unwrap_or(0.0);
    let (own, waited, stolen) = (
        record.own_cpu_percent,
        record.own_wait_percent,
        record.machine.stolen_percent,
    );
    eprintln!("lag p99 {lag} ms, own CPU {own} %, waited for a core {waited} %, stolen {stolen} %");
    if let Some(void) = &record.void {
        eprintln!("VOID: {void}");
    }
}

pub fn save(path: Option<&Path>, text: &str) -> Result<()> {
    match path {
        None => {}
        Some(path) if path == Path::new("-") => println!("{text}"),
        Some(path) => {
            std::fs::write(path, format!("{text}\n")).with_context(|| path.display().to_string())?
        }
    }
    Ok(())
}

pub fn now_text() -> String {
    let text = liangma::clock::Time::now().print();
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn a_seed_and_a_stream_are_a_sequence() {
        let of = |seed, stream| rng(seed, stream).random::<[u64; 3]>();
        assert_eq!(of(1, 0), of(1, 0));
        assert_ne!(of(1, 0), of(2, 0));
        assert_ne!(of(1, 0), of(1, 1));
    }
}
