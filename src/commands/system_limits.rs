//! Warns at the start about settings of the kernel with which a node works badly.

use crate::http::door::Door;
use crate::http::doors;

/// Warns about a connection queue of the kernel that is shorter than the largest `backlog` of a door, and about strict memory
/// overcommit.
pub fn compare(doors: &[(Door, doors::Settings)]) {
    let backlog = doors.iter().map(|(_, door)| door.backlog).max();
    for warning in warnings(backlog.unwrap_or(0), &read) {
        tracing::warn!("{warning}");
    }
}

fn read(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    text.trim().parse().ok()
}

/// Returns the warnings. `number` reads a number under `/proc/sys`; None if it cannot be read, as in some containers.
fn warnings(backlog: u32, number: &dyn Fn(&str) -> Option<u64>) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(most) = number("net/core/somaxconn")
        && most < u64::from(backlog)
    {
        all.push(format!(
            "the kernel queues only {most} connections at a door, and `backlog` is {backlog}: raise net.core.somaxconn"
        ));
    }
    if number("vm/overcommit_memory") == Some(2) {
        all.push(
            "vm.overcommit_memory is 2: reserved memory counts as used, so a growing board may get no memory; set 0 or 1"
                .to_owned(),
        );
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_less_than_the_settings_want_is_named_and_nothing_else() {
        let kernel = |somaxconn, overcommit| {
            move |name: &str| match name {
                "net/core/somaxconn" => somaxconn,
                _ => overcommit,
            }
        };
        assert!(warnings(256, &kernel(Some(256), Some(0))).is_empty());
        assert!(warnings(256, &kernel(None, None)).is_empty());
        let both = warnings(256, &kernel(Some(128), Some(2))).join("\n");
        for part in ["128", "256", "net.core.somaxconn", "vm.overcommit_memory"] {
            assert!(both.contains(part), "{both}");
        }
    }
}
