//! What a person types, and what it means. Times are durations here, nanoseconds further in.

use crate::class::Connecting;
use crate::retry::Policy;
use clap::{Args, Parser, Subcommand};
use liangma::config::parse_duration;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

/// Open-loop load for liangma, and for servers that answer the same: arrivals keep their own pace, whatever the server does
#[derive(Parser)]
#[command(name = "load")]
pub struct Options {
    #[command(subcommand)]
    pub what: What,
}

#[derive(Subcommand)]
pub enum What {
    /// Poisson arrivals that follow a shape; exit 0 measured, 1 could not, 2 usage, 3 measured but void
    Run(Box<RunOptions>),
    /// What it answers at most: a closed loop, a few times over, the median
    Capacity(CapacityOptions),
    /// Results side by side, with plots, in one page
    Report(ReportOptions),
}

#[derive(Args)]
pub struct Target {
    /// The resident door
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub resident: SocketAddrV4,
    /// The gate door
    #[arg(long, default_value = "127.0.0.1:8081")]
    pub gate: SocketAddrV4,
    /// The key ring of the node; without it tokens are made that only those accept who look at nothing
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Feed lines of the residents, as `liangma synth` makes them [default: the town of --town]
    #[arg(long, value_name = "FILE")]
    pub people: Option<PathBuf>,
    /// The seed of the synthetic town
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub town: u64,
    /// How many of them ask: the first
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub residents: usize,
    /// Lines of a bulk scan
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub bulk_lines: usize,
    /// How unevenly they ask: the nth as often as n to the power of minus this; 0 for evenly
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub zipf: f64,
    /// Of arrivals, residents and waits
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Source addresses, 127.0.0.2 and on; a place is at the same one always, and the Jain index is over them
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub addresses: u32,
    /// The core that we run on
    #[arg(long)]
    pub core: Option<usize>,
    /// Goes before others where cores are short: -20 to 19, below 0 for root alone
    #[arg(long, default_value_t = 0, allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-20..=19))]
    pub nice: i32,
    /// Processes of the server, for their CPU
    #[arg(long, value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// What the result is called
    #[arg(long, default_value = "")]
    pub label: String,
    /// Where the result goes; - for standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Args)]
pub struct RunOptions {
    #[command(flatten)]
    pub target: Target,
    /// Shows a second at factor 1; with --capacity, in parts of it
    #[arg(long, value_name = "RATE", default_value_t = 0.0)]
    pub show: f64,
    /// Scans, likewise
    #[arg(long, value_name = "RATE", default_value_t = 0.0)]
    pub scan: f64,
    /// Bulk scans, likewise
    #[arg(long, value_name = "RATE", default_value_t = 0.0)]
    pub bulk: f64,
    /// Answers a second that the server can make: the unit of all rates
    #[arg(long, value_name = "C")]
    pub capacity: Option<f64>,
    /// All rates, so many times
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub times: f64,
    /// How the rates go over time, a file of loadtest/shapes [default: steady]
    #[arg(long, value_name = "FILE")]
    pub shape: Option<PathBuf>,
    /// How long, where no shape says it
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Before it, at half of the first factor; not counted
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub warmup: Duration,
    /// An answer is good until then, from the instant at which it should have been asked for
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = duration)]
    pub deadline: Duration,
    /// When they give up [default: at the deadline]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub patience: Option<Duration>,
    /// Both, for bulk scans
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub bulk_deadline: Duration,
    /// Connections to the resident door
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub connections: usize,
    /// Connections to the gate door, for scans and for bulk scans each
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub gate_connections: usize,
    /// Of shows: kept (anybody's, as a balancer keeps them), own (one person's, as a phone keeps it), new (one
    /// request's) [default: the shape's, or kept]
    #[arg(long, value_name = "WHOSE", value_parser = connecting)]
    pub connecting: Option<Connecting>,
    /// The same, of scans and bulk scans
    #[arg(long, value_name = "WHOSE", default_value = "kept", value_parser = connecting)]
    pub gate_connecting: Connecting,
    /// Who was not served: none, immediate, fixed:1s, jitter:500ms, retry-after [default: the shape's, or none]
    #[arg(long, value_parser = policy)]
    pub retry: Option<Policy>,
    /// Tries at most, the first among them
    #[arg(long, default_value_t = 4)]
    pub tries: u32,
    /// Opens the kept connections in batches of so many, before the warm-up
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub fill: usize,
    /// Once the kept connections are open, the processes of --pid are put into these groups, each a cgroup.procs, in turn: one for
    /// all, or one for each. Opening connections is not what is measured, and under a small limit takes seconds
    #[arg(long, value_name = "FILE", requires = "pid", value_delimiter = ',')]
    pub limit: Vec<PathBuf>,
    /// A point of the series
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = duration)]
    pub every: Duration,
    /// Void, if the 99th of a hundred tries started later than this
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = duration)]
    pub lag_max: Duration,
    /// Both plots, as SVG
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

#[derive(Args)]
pub struct CapacityOptions {
    #[command(flatten)]
    pub target: Target,
    /// show, scan or bulk
    #[arg(long, default_value = "show")]
    pub of: String,
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub connections: usize,
    /// Of one turn
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// How often; the median counts
    #[arg(long, default_value_t = 3)]
    pub turns: usize,
    /// A connection for each
    #[arg(long)]
    pub new: bool,
}

#[derive(Args)]
pub struct ReportOptions {
    /// Results of `load run --json`; of those with the same label and shape, the medians are shown too
    #[arg(required = true)]
    pub results: Vec<PathBuf>,
    /// The page
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    pub out: PathBuf,
    /// The table alone, as markdown, on standard output
    #[arg(long)]
    pub markdown: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a number and ms, s, m, h or d".into())
}

fn connecting(text: &str) -> Result<Connecting, String> {
    Connecting::parse(text).ok_or_else(|| "kept, own or new".into())
}

fn policy(text: &str) -> Result<Policy, String> {
    Policy::parse(text)
        .ok_or_else(|| "none, immediate, fixed:TIME, jitter:TIME or retry-after".into())
}
