//! The limits of one request: what it may bring, and how long it may take.

use std::time::Duration;

/// Bounds of what one request may bring, and of the time that it may take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Balancers that share what the node says it can take.
    pub balancers: u32,
    /// Lines of a bulk scan at most.
    pub bulk_lines_max: u64,
    /// Bytes of a feed's body at most.
    pub feed_bytes_max: u64,
    /// Bytes of bodies under way at one door at most.
    pub body_bytes_max: usize,
    /// For a small body, after its head.
    pub head_timeout: Duration,
    /// For the body of an organisation's declarations.
    pub body_timeout: Duration,
    /// From a request's head to the last byte of its answer.
    pub answer_timeout: Duration,
    /// The same for a bulk scan or a feed.
    pub bulk_timeout: Duration,
    /// A bulk scan that goes too fast is held up by so much at a time; below the time after which a door ends what stalls.
    pub bulk_pause_max: Duration,
}
