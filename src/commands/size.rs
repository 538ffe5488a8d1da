//! `size`: prints the resources for a load, from measured costs.

use super::failure::CommandResult;
use super::terminal::say;
use crate::capacity::{COSTS, Load};
use clap::Args;
use std::process::ExitCode;

/// Print the nodes, memory, Redis, balancers and network for a load
///
/// Multiplies measured costs, which are listed with their dates; docs/operate/capacity.md has the arithmetic. One zone may be
/// lost.
#[derive(Args)]
pub struct Size {
    /// Residents on record
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    residents: u64,
    /// Shows a second at the peak
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    shows_per_second: u64,
    /// Single scans a second at the peak
    #[arg(long, value_name = "S", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000_000), visible_alias = "scans")]
    scans_per_second: u64,
    /// Lines of bulk scans a second at the peak
    #[arg(long, value_name = "S", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    bulk_codes_per_second: u64,
    /// Papers of each resident: certificates, declarations, temperatures, trips
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    papers_per_resident: u64,
    /// Zones of nodes and Redis
    #[arg(long, value_name = "Z", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    zones: u64,
    /// Cores of a node's machine
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    cores_per_node: u64,
    /// Primaries of the Redis Cluster
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=16))]
    redis_primaries: u64,
    /// The balancer forwards connections (L4) instead of speaking HTTP (L7)
    #[arg(long)]
    l4: bool,
}

impl Size {
    pub fn run(self) -> CommandResult {
        let load = Load {
            residents: self.residents,
            shows_per_second: self.shows_per_second,
            scans_per_second: self.scans_per_second,
            bulk_codes_per_second: self.bulk_codes_per_second,
            papers_per_resident: self.papers_per_resident,
            zones: self.zones,
            cores_per_node: self.cores_per_node,
            redis_primaries: self.redis_primaries,
            is_l7: !self.l4,
        };
        for (what, value, why) in load.plan().lines(&load) {
            say(&format!("{what:<22}{value:<44}{why}"))?;
        }
        say("\nby these costs, each from docs/benchmarks.md; measure where you run:")?;
        for cost in COSTS {
            let value = format!("{} {}", cost.value, cost.unit);
            say(&format!("{:<44}{value:<24}{}", cost.name, cost.date))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
