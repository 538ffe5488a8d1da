//! Redis servers of the tests' own: one, one watched by sentinels, a cluster, and a relay that fails as it is told.

mod cluster;
mod relay;
mod server;
mod tls;
mod watched;

pub use cluster::Cluster;
pub use relay::Relay;
pub use server::{Backup, Server, start_with};
pub use tls::Tls;
pub use watched::Watched;

use std::process::Command;

/// Whether this machine has no redis-server, which is said loudly: the tests of Redis then return at once.
pub fn is_missing() -> bool {
    let version = Command::new("redis-server").arg("--version").output();
    let missing = !version.is_ok_and(|output| output.status.success());
    if missing {
        crate::harness::left_out("redis-server");
    }
    missing
}
