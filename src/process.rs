//! Resources of this process for Prometheus: processor time, memory, descriptors. Read from `/proc/self`.

use crate::clock::Time;
use crate::kernel;
use std::sync::OnceLock;
use std::time::Duration;

/// Ticks a second in `/proc/self/stat`, on every architecture that Linux supports.
const TICKS: u64 = 100;

/// Returns name and value of each metric. Values that the system does not give are left out.
pub fn usage() -> Vec<(&'static str, f64)> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |field| Some(number(&status, field)? as f64 * 1_024.0);
    let all = [
        (
            "process_cpu_seconds_total",
            Some(kernel::process_time().as_secs_f64()),
        ),
        ("process_resident_memory_bytes", bytes("VmRSS:")),
        ("process_virtual_memory_bytes", bytes("VmSize:")),
        (
            "process_threads",
            number(&status, "Threads:").map(|count| count as f64),
        ),
        ("process_open_fds", open_descriptors()),
        (
            "process_max_fds",
            rlimit::getrlimit(rlimit::Resource::NOFILE)
                .ok()
                .map(|(soft, _)| soft as f64),
        ),
        (
            "process_start_time_seconds",
            started().map(|at| at.0 as f64 / 1_000.0),
        ),
    ];
    let told = all.into_iter();
    told.filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// Returns the number in a field of `/proc/self/status`.
fn number(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Returns the number of open descriptors. Newer kernels (6.2) give it as the folder's size.
fn open_descriptors() -> Option<f64> {
    let folder = "/proc/self/fd";
    let size = std::fs::metadata(folder).ok()?.len();
    match size {
        // The descriptor that reads the folder does not count.
        0 => Some(std::fs::read_dir(folder).ok()?.count().saturating_sub(1) as f64),
        count => Some(count as f64),
    }
}

/// Returns the start time of this process, computed at the first call, so that later clock changes do not move it.
fn started() -> Option<Time> {
    static STARTED: OnceLock<Option<Time>> = OnceLock::new();
    *STARTED.get_or_init(|| {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let ticks = start_ticks(&stat)?;
        let since_boot = Duration::from_nanos(kernel::since_boot_ns());
        let age = since_boot.saturating_sub(Duration::from_millis(ticks * 1_000 / TICKS));
        Some(Time(Time::now().0.saturating_sub(age.as_millis() as u64)))
    })
}

/// Returns the field `starttime`. The second field is the program's name, which may hold blanks and brackets.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_told_and_plausible() {
        let _open: Vec<_> = (0..50)
            .map(|_| std::fs::File::open("/dev/null").unwrap())
            .collect();
        let usage = usage();
        assert_eq!(usage.len(), 7);
        let of = |name: &str| {
            let found = usage.iter().find(|(known, _)| known.ends_with(name));
            found.unwrap_or_else(|| panic!("{name}")).1
        };
        assert!(
            of("resident_memory_bytes") > 1e5
                && of("virtual_memory_bytes") >= of("resident_memory_bytes")
        );
        assert!(of("open_fds") >= 50.0 && of("open_fds") < of("max_fds"));
        assert!(of("threads") >= 1.0);
        let now = Time::now().0 as f64 / 1_000.0;
        let started = of("start_time_seconds");
        assert!(
            started <= now + 1.0 && started > now - 86_400.0,
            "{started} {now}"
        );
    }

    #[test]
    fn a_name_with_blanks_and_brackets_moves_no_field() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(
            start_ticks(&format!("77 (a) b) ({rest}) {rest}")),
            Some(4711)
        );
        assert_eq!(start_ticks("77 (a) S 1"), None);
        assert_eq!(
            number("VmRSS:\t  123 kB\nThreads:\t4\n", "Threads:"),
            Some(4)
        );
        assert_eq!(number("", "VmRSS:"), None);
    }
}
