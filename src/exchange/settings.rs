//! Settings of requests to other issuers, and of theirs to this node.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of requests to other issuers, and of theirs to this node.
#[derive(Clone, Debug)]
pub struct ExchangeSettings {
    /// Our certificate and key, which peers know by the public key. None: no peer is asked.
    pub cert: Option<(PathBuf, PathBuf)>,
    /// Time for a verdict, with the connection.
    pub wait: Duration,
    /// Concurrent requests to one peer.
    pub in_flight: usize,
    /// Codes that one peer may ask about here in a second.
    pub per_second: u32,
    /// Interval of fetches of a peer's list.
    pub list_fetch_every: Duration,
    /// Age past which a peer's data is marked as stale.
    pub stale_after: Duration,
    /// Age past which a peer's data gives no colour.
    pub too_old_after: Duration,
    /// Largest time by which a peer's clock may be ahead.
    pub clock_ahead_max: Duration,
}
