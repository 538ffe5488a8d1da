//! Limits of one HTTP request: sizes of bodies, and times.

use std::time::Duration;

/// Limits of one request: sizes and times.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Balancers that share the advice of the agent port and of `/ready`.
    pub balancers: u32,
    /// Largest number of lines of a bulk scan.
    pub bulk_lines_max: u64,
    /// Largest body of a feed, in bytes.
    pub feed_bytes_max: u64,
    /// Bytes that all bodies in progress at one door may take.
    pub body_bytes_max: usize,
    /// Time for a small body, after its head.
    pub head_timeout: Duration,
    /// Time for the body of an organisation's declarations.
    pub body_timeout: Duration,
    /// Time from a request's head to the last byte of its answer.
    pub answer_timeout: Duration,
    /// Time from the head of a bulk scan or a feed to the last byte of its answer.
    pub bulk_timeout: Duration,
    /// Longest single pause of a bulk scan beyond its rate. Shorter than `stall_timeout`.
    pub bulk_pause_max: Duration,
}
