//! What a door's controller observed since its last step: waits, unread requests, answers. Pure.

use super::unread::UnreadEstimate;
use std::time::Duration;

/// Requests that may wait unread, or connections in the accept queue, before they count as a crowd, whatever the door answers: twice
/// those that balancers may have in flight at a door of unknown capacity.
pub const CROWD_LEAST: usize = 128;

/// Observations of a door since the last step.
#[derive(Clone, Copy, Debug)]
pub struct Observations {
    /// 90th percentile of the queue delays; None without requests.
    pub wait: Option<Duration>,
    /// Open connections whose request is unread.
    pub unread: UnreadEstimate,
    /// Recent answers a second.
    pub answers: f64,
    /// Answers a second in the last few steps alone.
    pub answers_last: f64,
}

impl Observations {
    /// Returns how many answers a second the door is known to give: below its capacity it answers what is asked, and then more.
    pub fn pace(&self) -> f64 {
        self.answers.max(self.answers_last)
    }
}
