//! Capacity planning: nodes, memory, Redis, balancers and network for a load, from measured costs. Pure.

/// A measured cost.
#[derive(Clone, Copy, Debug)]
pub struct MeasuredCost {
    /// Name for the printed table.
    pub name: &'static str,
    /// The measured value.
    pub value: f64,
    /// The unit.
    pub unit: &'static str,
    /// The date of the measurement.
    pub date: &'static str,
    /// Command and commit of the measurement; docs/benchmarks.md describes the machine.
    pub source: &'static str,
}

/// Processor time of a show on a node with a million residents, kernel included.
pub const SHOW_CPU: MeasuredCost = MeasuredCost {
    name: "a show, processor",
    value: 10.01,
    unit: "µs",
    date: "2026-11-24",
    source: "`make sidebyside`, commit f887682",
};

/// Processor time of a scan on a node with a million residents, kernel included.
pub const SCAN_CPU: MeasuredCost = MeasuredCost {
    name: "a scan, processor",
    value: 9.78,
    unit: "µs",
    date: "2026-11-24",
    source: "`make sidebyside`, commit f887682",
};

/// Processor time of one code of a bulk scan.
pub const BULK_CODE_CPU: MeasuredCost = MeasuredCost {
    name: "a line of a bulk scan, processor",
    value: 0.59,
    unit: "µs",
    date: "2026-11-23",
    source: "`make sidebyside`: 1.69 M codes a processor second, commit 1f2b244",
};

/// Cost of a show with 127 million residents as a multiple of that with one million: more cache misses.
pub const LARGE_BOARD: MeasuredCost = MeasuredCost {
    name: "a show beside 127 M residents",
    value: 1.08,
    unit: "× one beside 1 M",
    date: "2026-11-23",
    source: "`loadtest/sidebyside --only show --store DIR`, commit 1f2b244",
};

/// Memory of a resident on the board right after the table has grown, which is the worst case.
pub const BOARD_RESIDENT: MeasuredCost = MeasuredCost {
    name: "a resident on the board",
    value: 46.2,
    unit: "bytes",
    date: "2026-11-23",
    source: "`cargo run --release --example board`, at 1 M; 39.1 at 127 M, commit 1f2b244",
};

/// Memory of an active connection; an idle one takes 2.3 KiB.
pub const CONNECTION: MeasuredCost = MeasuredCost {
    name: "a connection at work",
    value: 20.0,
    unit: "KiB",
    date: "2026-11-23",
    source: "`loadtest/idle`, commit d43644f",
};

/// Memory of Redis for one resident.
pub const REDIS_RESIDENT: MeasuredCost = MeasuredCost {
    name: "a resident in Redis",
    value: 108.0,
    unit: "bytes",
    date: "2026-11-23",
    source: "`used_memory` after an import of 1 M (92, commit e9ace2f), and 16 of tags since format 3",
};

/// Memory of Redis for one paper.
pub const REDIS_PAPER: MeasuredCost = MeasuredCost {
    name: "a paper in Redis",
    value: 150.0,
    unit: "bytes",
    date: "2026-11-24",
    source: "`used_memory` after 250,000 papers of 50,000 residents",
};

/// Memory of Redis for the stream of a partition, at its full length.
pub const REDIS_STREAM: MeasuredCost = MeasuredCost {
    name: "the stream of a partition, 100,000 changes",
    value: 5.0,
    unit: "MB",
    date: "2026-11-23",
    source: "`MEMORY USAGE`, commit e9ace2f",
};

/// Disk space of Redis for one resident, in the append-only file.
pub const REDIS_DISK: MeasuredCost = MeasuredCost {
    name: "a resident in the append-only file",
    value: 270.0,
    unit: "bytes",
    date: "2026-11-23",
    source: "size of the file after an import; twice that while it is rewritten",
};

/// Disk space of the embedded store for one resident.
pub const DISK_RESIDENT: MeasuredCost = MeasuredCost {
    name: "a resident in the embedded store",
    value: 90.0,
    unit: "bytes",
    date: "2026-11-23",
    source: "11 GB after an import of 127 M",
};

/// Residents that a starting node reads from Redis a second.
pub const START: MeasuredCost = MeasuredCost {
    name: "a start from Redis",
    value: 775_000.0,
    unit: "residents/s",
    date: "2026-11-23",
    source: "`liangma serve --store redis://…`, 10 M residents, the lowest of the runs, commit e9ace2f",
};

/// Processor time of a balancer that forwards connections, relative to the nodes'.
pub const BALANCER_L4: MeasuredCost = MeasuredCost {
    name: "HAProxy at L4, processor",
    value: 1.0,
    unit: "× a node's",
    date: "2026-11-24",
    source: "processor time a query beside the nodes', deploy/README.md",
};

/// Processor time of a balancer that speaks HTTP, relative to the nodes'.
pub const BALANCER_L7: MeasuredCost = MeasuredCost {
    name: "HAProxy at L7, processor",
    value: 1.5,
    unit: "× a node's",
    date: "2026-11-24",
    source: "processor time a query beside the nodes', deploy/README.md",
};

/// Size of the request of a show on the wire, in bytes.
pub const SHOW_REQUEST: MeasuredCost = MeasuredCost {
    name: "a show's request",
    value: 331.0,
    unit: "bytes",
    date: "2026-11-28",
    source: "curl with a session and a phone's headers, without TLS",
};

/// Size of the answer to a show on the wire, in bytes.
pub const SHOW_ANSWER: MeasuredCost = MeasuredCost {
    name: "a show's answer",
    value: 519.0,
    unit: "bytes",
    date: "2026-11-28",
    source: "the same: head 167, body 352, green",
};

/// Size of the request of a scan on the wire, in bytes.
pub const SCAN_REQUEST: MeasuredCost = MeasuredCost {
    name: "a scan's request",
    value: 327.0,
    unit: "bytes",
    date: "2026-11-28",
    source: "curl with a scanner's token, without TLS",
};

/// Size of the answer to a scan on the wire, in bytes.
pub const SCAN_ANSWER: MeasuredCost = MeasuredCost {
    name: "a scan's answer",
    value: 369.0,
    unit: "bytes",
    date: "2026-11-28",
    source: "the same: head 167, body 202, green",
};

/// All costs, in the order of the page.
pub const COSTS: &[MeasuredCost] = &[
    SHOW_CPU,
    SCAN_CPU,
    BULK_CODE_CPU,
    LARGE_BOARD,
    BOARD_RESIDENT,
    CONNECTION,
    REDIS_RESIDENT,
    REDIS_PAPER,
    REDIS_STREAM,
    REDIS_DISK,
    DISK_RESIDENT,
    START,
    BALANCER_L4,
    BALANCER_L7,
    SHOW_REQUEST,
    SHOW_ANSWER,
    SCAN_REQUEST,
    SCAN_ANSWER,
];

/// Share of a core for the peak; the rest is for short bursts, interrupts, feeds and the desk.
pub const PART_IN_USE: f64 = 0.5;

/// Share of a network interface for the peak.
pub const NETWORK_PART_IN_USE: f64 = 0.5;

/// Size of Ethernet, IP and TCP headers of a request, its answer and their acknowledgements: four packets.
const PACKET_BYTES: f64 = 4.0 * 66.0;

/// Memory of a node without its board, in bytes: program, threads, caches at their defaults.
const NODE_BASE: f64 = 450.0 * MIB;

/// Default number of connections of a node at all doors.
const NODE_CONNECTIONS: f64 = 16_256.0;

/// Factor of a node's memory for feeds and growth.
const MEMORY_ROOM: f64 = 1.15;

/// Number of partitions in Redis.
const PARTITIONS: u64 = 16;

/// Connections of a node to Redis: three for each partition.
const REDIS_CONNECTIONS: u64 = 48;

/// Factor of a server's memory: a rewrite of the append-only file copies pages that change meanwhile.
const REWRITE: f64 = 2.0;

const MIB: f64 = 1_048_576.0;

/// The load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Residents on record.
    pub residents: u64,
    /// Shows a second at the peak.
    pub shows_per_second: u64,
    /// Single scans a second at the peak.
    pub scans_per_second: u64,
    /// Codes of bulk scans a second at the peak.
    pub bulk_codes_per_second: u64,
    /// Papers of each resident: certificates, declarations, temperatures, trips.
    pub papers_per_resident: u64,
    /// Zones of the nodes. The load is carried without one of them.
    pub zones: u64,
    /// Cores of each node.
    pub cores_per_node: u64,
    /// Primaries of the partitions.
    pub redis_primaries: u64,
    /// Whether the balancer of phones speaks HTTP.
    pub is_l7: bool,
}

/// The resources for a load.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Cores that the load keeps busy in total.
    pub busy_cores: f64,
    /// Nodes in all zones.
    pub nodes: u64,
    /// Nodes in each zone.
    pub nodes_per_zone: u64,
    /// Use of each node's cores at the peak with all zones, 0 to 1.
    pub use_usual: f64,
    /// Use of each node's cores at the peak with one zone down, 0 to 1.
    pub use_zone_lost: f64,
    /// Memory of each node in bytes.
    pub node_memory: f64,
    /// Time from a node's start until it is ready over Redis, in seconds.
    pub node_start: f64,
    /// Size of the embedded store in bytes, if it is used instead of Redis.
    pub embedded_disk: f64,
    /// Servers of Redis, primaries and replicas.
    pub redis_servers: u64,
    /// Number of all replicas.
    pub redis_replicas: u64,
    /// Data of the largest primary in bytes.
    pub redis_held: f64,
    /// Memory of the largest primary's machine in bytes.
    pub redis_memory: f64,
    /// Disk space of the largest primary in bytes.
    pub redis_disk: f64,
    /// Connections of all nodes to one primary.
    pub redis_connections: u64,
    /// Cores of balancers in all zones.
    pub balancer_cores: f64,
    /// Balancers of a node's size in all zones.
    pub balancers: u64,
    /// Traffic from clients to all nodes in bits a second.
    pub network_in: f64,
    /// Traffic from all nodes to clients in bits a second.
    pub network_out: f64,
    /// Speed of a node's network interface in bits a second.
    pub node_network: f64,
}

impl Load {
    /// Returns the resources for the load.
    pub fn plan(&self) -> Plan {
        let (shows, scans) = (self.shows_per_second as f64, self.scans_per_second as f64);
        let codes = self.bulk_codes_per_second as f64;
        let micros = shows * SHOW_CPU.value + scans * SCAN_CPU.value + codes * BULK_CODE_CPU.value;
        // From one million residents on, cache misses increase; from ten million on the full factor counts.
        let board = if self.residents > 10_000_000 {
            LARGE_BOARD.value
        } else {
            1.0
        };
        let busy_cores = micros * board / 1e6;
        let zones = self.zones.max(1);
        let left = (zones - 1).max(1);
        let fitting = |cores: f64| (cores / PART_IN_USE / self.cores_per_node as f64).ceil() as u64;
        let fit = fitting(busy_cores).div_ceil(left);
        // Two in each zone, because one may restart. With a single zone, a node is what may fail.
        let nodes_per_zone = match zones {
            1 => (fit + 1).max(3),
            _ => fit.max(2),
        };
        let nodes = nodes_per_zone * zones;
        let cores = |count: u64| (count * self.cores_per_node) as f64;
        let residents = self.residents as f64;
        let replicas = zones.clamp(2, 3) - 1;
        let partitions = PARTITIONS.div_ceil(self.redis_primaries.clamp(1, PARTITIONS)) as f64;
        let part = partitions / PARTITIONS as f64;
        let papers = self.papers_per_resident as f64 * REDIS_PAPER.value;
        let streams = partitions * REDIS_STREAM.value * 1e6;
        let redis_held = residents * part * (REDIS_RESIDENT.value + papers) + streams;
        let balancer = if self.is_l7 { BALANCER_L7 } else { BALANCER_L4 };
        let balanced = busy_cores * balancer.value;
        let balancers_per_zone = fitting(balanced).div_ceil(left).max(1);
        let bits = |one: f64, other: f64| {
            8.0 * (shows * (one + PACKET_BYTES / 2.0) + scans * (other + PACKET_BYTES / 2.0))
        };
        let network_in = bits(SHOW_REQUEST.value, SCAN_REQUEST.value);
        let network_out = bits(SHOW_ANSWER.value, SCAN_ANSWER.value);
        let board_bytes = residents * BOARD_RESIDENT.value;
        let connections = NODE_CONNECTIONS * CONNECTION.value * 1_024.0;
        let nodes_left = if zones == 1 {
            nodes - 1
        } else {
            nodes_per_zone * left
        };
        Plan {
            busy_cores,
            nodes,
            nodes_per_zone,
            use_usual: busy_cores / cores(nodes),
            use_zone_lost: busy_cores / cores(nodes_left),
            node_memory: (board_bytes + NODE_BASE + connections) * MEMORY_ROOM,
            node_start: residents / START.value,
            embedded_disk: residents * DISK_RESIDENT.value * 2.0,
            redis_servers: self.redis_primaries * (1 + replicas),
            redis_replicas: replicas,
            redis_held,
            redis_memory: redis_held * REWRITE,
            redis_disk: residents * part * (REDIS_DISK.value + papers) * REWRITE,
            redis_connections: nodes * REDIS_CONNECTIONS,
            balancer_cores: balanced / PART_IN_USE * zones as f64 / left as f64,
            balancers: balancers_per_zone * zones.max(2),
            network_in,
            network_out,
            node_network: network_out.max(network_in) / nodes_left as f64 / NETWORK_PART_IN_USE,
        }
    }
}

impl Plan {
    /// Returns the plan as lines: item, amount, and explanation.
    pub fn lines(&self, load: &Load) -> Vec<(&'static str, String, String)> {
        let gib = |bytes: f64| format!("{:.1} GiB", bytes / MIB / 1_024.0);
        let gbit = |bits: f64| format!("{:.2} Gbit/s", bits / 1e9);
        let percent = |part: f64| format!("{:.0} %", part * 100.0);
        let lost = if load.zones == 1 {
            "a node down"
        } else {
            "a zone down"
        };
        let way = if load.is_l7 { "L7" } else { "L4" };
        vec![
            (
                "cores kept busy",
                format!("{:.1}", self.busy_cores),
                "shows, scans and codes by their processor time".into(),
            ),
            (
                "nodes",
                format!(
                    "{} of {} cores, {} a zone",
                    self.nodes, load.cores_per_node, self.nodes_per_zone
                ),
                format!("{} of a core at the peak with {lost}", percent(PART_IN_USE)),
            ),
            (
                "use of their cores",
                percent(self.use_usual),
                format!("{} with {lost}", percent(self.use_zone_lost)),
            ),
            (
                "memory of a node",
                gib(self.node_memory),
                "board, caches, 16,256 connections at work, 15 % room".into(),
            ),
            (
                "start of a node",
                format!("{:.0} s", self.node_start),
                "from Redis, until it is ready".into(),
            ),
            (
                "Redis",
                format!(
                    "{} servers: {} primaries with {} replicas each",
                    self.redis_servers, load.redis_primaries, self.redis_replicas
                ),
                "a replica in every other zone, two at most".into(),
            ),
            (
                "memory of a Redis",
                gib(self.redis_memory),
                format!(
                    "the largest primary holds {}; twice that for a rewrite",
                    gib(self.redis_held)
                ),
            ),
            (
                "disk of a Redis",
                gib(self.redis_disk),
                "append-only file, twice while it is rewritten".into(),
            ),
            (
                "connections to Redis",
                self.redis_connections.to_string(),
                "48 a node, over all primaries".into(),
            ),
            (
                "balancers",
                format!(
                    "{} of {} cores, {:.1} cores in all",
                    self.balancers, load.cores_per_node, self.balancer_cores
                ),
                format!("{way}, without TLS, with {lost}"),
            ),
            (
                "network from clients",
                gbit(self.network_in),
                "all nodes together, without TLS".into(),
            ),
            (
                "network to clients",
                gbit(self.network_out),
                "all nodes together, without TLS".into(),
            ),
            (
                "interface of a node",
                gbit(self.node_network),
                format!("half in use with {lost}"),
            ),
            (
                "disk without Redis",
                gib(self.embedded_disk),
                "one node over an embedded store, twice for a rewrite".into(),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn province() -> Load {
        Load {
            residents: 127_000_000,
            shows_per_second: 760_000,
            scans_per_second: 100_000,
            bulk_codes_per_second: 100_000,
            papers_per_resident: 0,
            zones: 3,
            cores_per_node: 8,
            redis_primaries: 3,
            is_l7: true,
        }
    }

    #[test]
    fn a_province_is_borne_with_one_zone_lost() {
        let plan = province().plan();
        // 760,000 × 10.01 µs and 100,000 × 9.78 µs and 100,000 × 0.59 µs, all × 1.08.
        assert!((plan.busy_cores - 9.336).abs() < 0.01, "{plan:?}");
        assert_eq!((plan.nodes, plan.nodes_per_zone), (6, 2));
        assert!(plan.use_zone_lost <= PART_IN_USE && plan.use_usual < plan.use_zone_lost);
        // A process of 127 M was measured at 5.0 GiB, and the documents give it 7.
        let gib = plan.node_memory / MIB / 1_024.0;
        assert!((6.0..=8.0).contains(&gib), "{gib}");
        assert_eq!((plan.redis_servers, plan.redis_replicas), (9, 2));
        assert!(plan.node_network < 2.5e9, "{plan:?}");
    }

    #[test]
    fn more_of_anything_never_takes_less() {
        let base = province();
        let of = |load: Load| {
            let plan = load.plan();
            [
                plan.busy_cores,
                plan.nodes as f64,
                plan.node_memory,
                plan.redis_memory,
                plan.redis_disk,
                plan.balancer_cores,
                plan.network_out,
            ]
        };
        let before = of(base);
        for more in [
            Load {
                residents: base.residents * 2,
                ..base
            },
            Load {
                shows_per_second: base.shows_per_second * 2,
                ..base
            },
            Load {
                scans_per_second: base.scans_per_second * 20,
                ..base
            },
            Load {
                bulk_codes_per_second: base.bulk_codes_per_second * 200,
                ..base
            },
            Load {
                papers_per_resident: 5,
                ..base
            },
        ] {
            let after = of(more);
            assert!(
                before
                    .iter()
                    .zip(after)
                    .all(|(before, after)| after >= *before),
                "{more:?}"
            );
            assert!(
                before
                    .iter()
                    .zip(after)
                    .any(|(before, after)| after > *before),
                "{more:?}"
            );
        }
        // For every number of zones: what is left bears the load.
        for zones in 1..=6 {
            for shows_per_second in [1, 1_000, 100_000, 760_000, 5_000_000] {
                let plan = Load {
                    zones,
                    shows_per_second,
                    ..base
                }
                .plan();
                assert!(plan.use_zone_lost <= PART_IN_USE, "{zones} {plan:?}");
                assert!(plan.nodes >= 3, "{zones} {plan:?}");
            }
        }
    }

    #[test]
    fn the_generated_page_of_capacity_is_current() {
        let mut page = String::from(
            "# Capacity\n\n\
             Generated from `src/capacity.rs`; see CONTRIBUTING.md before you edit it.\n\n\
             `liangma size --residents N --shows-per-second S` prints what a load takes: nodes, memory, Redis, balancers, network. It multiplies costs that \
             were measured, on the machine and by the commands of [benchmarks.md](../benchmarks.md); measure where you run, and compare.\n\n\
             ## The arithmetic\n\n\
             - **Cores kept busy** = shows × their processor time + scans × theirs + lines of bulk scans × theirs. Past ten million residents all of it × 1.08.\n\
             - **Nodes.** At the peak, with one zone down, half of each core stays free: cores ÷ 0.5 ÷ cores of a node, spread over the zones that are left, and as many \
             in the one that is down. Two a zone at least, so that one may be restarted. In one zone alone a node is what may fail, and three are the least.\n\
             - **Memory of a node** = (residents × the board's bytes + 450 MiB for program and caches + 16,256 connections × 20 KiB) × 1.15. Every node holds everybody, so memory \
             does not fall with more nodes.\n\
             - **Redis.** Sixteen partitions over the primaries; the largest primary has the most partitions, rounded up. It holds residents × bytes × its part, papers, and a stream for each \
             partition; its machine has twice that, and so has its disk. A replica in every other zone, two at most.\n\
             - **Balancers** take 1.0 (L4) or 1.5 (L7) times the processor time of the nodes, half of it free with one zone down. TLS comes on top: measure it with your certificates.\n\
             - **Network**, in bits a second: in, (bytes of a request + 132 bytes of packet heads) × 8 × rate; out, the same with the bytes of an answer. TLS adds some 30 bytes a record, and some 4 KB a new connection.\n\n\
             What it leaves out: how many phones are connected at once (`resident_connections_max`, the balancer's `L7_MAX`), the desk, feeds (9,700 a second were measured over one Redis \
             Cluster) and status lists.\n\n\
             ## Costs\n\n| what | cost | measured | by |\n| --- | ---: | --- | --- |\n",
        );
        for cost in COSTS {
            let MeasuredCost {
                name,
                value,
                unit,
                date,
                source,
            } = cost;
            page += &format!("| {name} | {value} {unit} | {date} | {source} |\n");
        }
        let smaller = Load {
            residents: 1_000_000,
            shows_per_second: 10_000,
            scans_per_second: 2_000,
            bulk_codes_per_second: 10_000,
            ..province()
        };
        let city = Load {
            residents: 20_000_000,
            shows_per_second: 150_000,
            scans_per_second: 30_000,
            bulk_codes_per_second: 50_000,
            ..province()
        };
        let with_papers = Load {
            papers_per_resident: 10,
            redis_primaries: 16,
            ..province()
        };
        page += "\n## Worked out\n\nThree zones, nodes of eight cores, three primaries, L7; \"with papers\" keeps ten of each resident over sixteen primaries.\n\n\
             | | 1 M residents, 10,000 shows/s | 20 M, 150,000/s | 127 M, 760,000/s | 127 M, 760,000/s, with papers |\n| --- | --- | --- | --- | --- |\n";
        let all = [smaller, city, province(), with_papers].map(|load| load.plan().lines(&load));
        for (nth, (what, ..)) in all[0].iter().enumerate() {
            let cells = all.iter().map(|lines| lines[nth].1.as_str());
            page += &format!("| {what} | {} |\n", cells.collect::<Vec<_>>().join(" | "));
        }
        crate::generated_docs::check("operate/capacity.md", &page);
    }
}
