//! Two clocks: a monotonic one for ages and deadlines, and the time of day in milliseconds since 1970 (UTC).
//! The time of day is printed as RFC 3339.
//!
//! The time of day is the monotonic clock plus an offset. [`offset`] decides when that follows the system's clock.

mod calendar;
pub mod offset;
mod time;

pub use calendar::{is_day, is_day_or_far, print_day};
pub use time::{DAY_MS, Moment, Now, PRINTED, Time, own, system_offset};
