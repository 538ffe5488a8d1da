//! What a node asks of other health codes' services: for a verdict on a live code, and for their status lists.
//! In: peers of the trust list. Out: verdicts and files. Never: the board, the store.

#![warn(clippy::missing_errors_doc)]

pub mod asking;
pub mod breaker;
pub mod dialect;
pub mod link;
pub mod lists;

use std::path::PathBuf;
use std::time::Duration;

/// How other health codes' services are asked, and how they may ask here.
#[derive(Clone, Debug)]
pub struct ExchangeSettings {
    /// Our certificate and its key, which peers know by its public key; None: no peer is asked.
    pub cert: Option<(PathBuf, PathBuf)>,
    /// For a verdict in all, with the connection.
    pub wait: Duration,
    /// Questions under way to one peer.
    pub in_flight: usize,
    /// Questions that one peer may ask here in a second; each line of a bulk is one.
    pub per_second: u32,
    /// Between two fetches of a peer's list.
    pub list_fetch_every: Duration,
    /// As for our own: older knowledge of a peer is marked, and then has no colour.
    pub stale_after: Duration,
    /// Past this age knowledge of a peer has no colour.
    pub too_old_after: Duration,
    /// How far a peer's clock may be ahead.
    pub clock_ahead_max: Duration,
}
