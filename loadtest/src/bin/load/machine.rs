//! Where it was measured: machine, commit, command, how busy; and what the server's processes cost. Reads /proc alone.

use crate::sys;
use serde::{Deserialize, Serialize};
use std::fs;
use std::process::Command;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub kernel: String,
    /// Of a minute, as the run ended.
    pub loadavg: String,
    /// Of the cores' time during the run: what the host gave to others.
    pub stolen_percent: f64,
    /// Of the cores' time during the run, by everyone here.
    pub busy_percent: f64,
}

/// The cores' time so far, in ticks: all, stolen, idle.
#[derive(Clone, Copy)]
pub struct Cores([f64; 3]);

impl Cores {
    pub fn now() -> Cores {
        let stat = read("/proc/stat");
        let first = stat.lines().next().unwrap_or_default();
        let ticks: Vec<f64> = first
            .split_ascii_whitespace()
            .skip(1)
            .flat_map(str::parse)
            .collect();
        let of = |nth: usize| ticks.get(nth).copied().unwrap_or(0.0);
        Cores([ticks.iter().take(8).sum(), of(7), of(3) + of(4)])
    }
}

impl Machine {
    pub fn since(before: Cores) -> Machine {
        let now = Cores::now();
        let passed: Vec<f64> = (0..3).map(|nth| now.0[nth] - before.0[nth]).collect();
        let percent = |part: f64| (1000.0 * part / passed[0].max(1.0)).round() / 10.0;
        let info = read("/proc/cpuinfo");
        let model = info
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        Machine {
            processor: model
                .unwrap_or_default()
                .trim_matches([' ', '\t', ':'])
                .into(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            loadavg: read("/proc/loadavg")
                .split_ascii_whitespace()
                .next()
                .unwrap_or_default()
                .into(),
            stolen_percent: percent(passed[1]),
            busy_percent: percent(passed[0] - passed[1] - passed[2]),
        }
    }
}

/// User and kernel seconds of these processes; one that is gone has none.
pub fn cpu_seconds(processes: &[u32]) -> f64 {
    let ticks = |pid: &u32| {
        let stat = read(&format!("/proc/{pid}/stat"));
        // The name may hold anything; what follows its last bracket are numbers.
        let numbers: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_ascii_whitespace()
            .skip(11)
            .take(2)
            .flat_map(str::parse)
            .collect();
        numbers.iter().sum::<u64>()
    };
    processes.iter().map(ticks).sum::<u64>() as f64 / sys::ticks_per_second() as f64
}

/// Seconds that this thread was ready to run and waited for a core.
pub fn waited_seconds() -> f64 {
    let stat = read("/proc/thread-self/schedstat");
    let waited = stat
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|n| n.parse::<f64>().ok());
    waited.unwrap_or(0.0) / 1e9
}

/// Of the folder that we run in.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let done = Command::new("git").args(arguments).output().ok()?;
        done.status
            .success()
            .then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
    };
    match git(&["rev-parse", "--short", "HEAD"]) {
        None => "unknown".into(),
        Some(commit) => match git(&["status", "--porcelain", "--untracked-files=no"]).as_deref() {
            Some("") => commit,
            _ => format!("{commit} with changes"),
        },
    }
}

/// As it could be typed again.
pub fn command() -> String {
    let words = std::env::args().enumerate().map(|(nth, word)| match nth {
        0 => word.rsplit('/').next().unwrap_or_default().to_owned(),
        _ if word.contains([' ', '\'', '"']) => format!("'{word}'"),
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
