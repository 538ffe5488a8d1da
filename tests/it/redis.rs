//! Redis servers of the tests' own: one, one watched by sentinels, a cluster, and a relay that fails as it is told.

mod cluster;
mod papers;
mod relay;
mod server;
mod tls;
mod watched;

pub use cluster::Cluster;
pub use papers::edit_kind;
pub use relay::Relay;
pub use server::{Backup, Server, start_with};
pub use tls::Tls;
pub use watched::Watched;
