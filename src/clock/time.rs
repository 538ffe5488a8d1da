//! Moments and times: readings of the monotonic clock, and the same as times of day by an offset.

use super::calendar::{civil, digits};
use crate::kernel;
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Value of an offset that was not read yet.
const UNREAD: i64 = i64::MIN;

/// Offset in milliseconds to add to a [`Moment`].
static OFFSET: AtomicI64 = AtomicI64::new(UNREAD);

/// Nanoseconds, below a million, that align the milliseconds of the monotonic clock with those of the time of day. Set once,
/// with the first offset.
static FRACTION: AtomicU64 = AtomicU64::new(0);

/// A point on the monotonic clock: milliseconds since the machine started, suspends included. Each begins together
/// with a millisecond of the time of day, so that an age equals the difference of the printed times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Reads the monotonic clock without a system call.
    pub fn now() -> Moment {
        Moment((kernel::since_boot_ns() + fraction_ns()) / 1_000_000)
    }

    /// Returns the time since `earlier`; zero if it is in the future.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Returns the moment `by` later, at most the highest one.
    pub fn plus(self, by: Duration) -> Moment {
        Moment(self.0.saturating_add(by.as_millis() as u64))
    }
}

/// One reading of the monotonic clock, with its time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock, for ages and deadlines.
    pub moment: Moment,
    /// The time of day, for printing and for signed times of others.
    pub time: Time,
}

impl Now {
    /// Reads the monotonic clock once.
    pub fn read() -> Now {
        let moment = Moment::now();
        Now {
            moment,
            time: time_at(moment),
        }
    }

    /// Returns the time of day at an earlier moment.
    pub fn time_of(&self, moment: Moment) -> Time {
        let age = self.moment.0.saturating_sub(moment.0);
        Time(self.time.0.saturating_sub(age))
    }
}

/// Returns the time of day at a moment.
fn time_at(moment: Moment) -> Time {
    Time((moment.0 as i64).saturating_add(own()).max(0) as u64)
}

/// Returns the nanoseconds to add to the monotonic clock before it is cut to milliseconds.
fn fraction_ns() -> u64 {
    FRACTION.load(Relaxed)
}

/// Returns our offset in milliseconds.
pub fn own() -> i64 {
    let offset = OFFSET.load(Relaxed);
    match offset == UNREAD {
        true => begin(),
        false => offset,
    }
}

/// Reads the first offset. Concurrent calls are allowed.
#[cold]
fn begin() -> i64 {
    let system = system_offset_ns();
    FRACTION.store(system.rem_euclid(NS_A_MS) as u64, Relaxed);
    let offset = system.div_euclid(NS_A_MS);
    OFFSET.store(offset, Relaxed);
    offset
}

const NS_A_MS: i64 = 1_000_000;

/// Returns the offset of the system's clock (as `date` prints it) to the monotonic clock, in nanoseconds: the least interrupted
/// of several readings.
fn system_offset_ns() -> i64 {
    let read = || {
        let before = kernel::since_boot_ns();
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let after = kernel::since_boot_ns();
        let time = time.map_or(0, |since| since.as_nanos() as i64);
        (after - before, time - before as i64)
    };
    let (_, offset) = (0..3).map(|_| read()).min().expect("three readings");
    offset
}

/// Returns the milliseconds that, added to a [`Moment`], give the time of day by the system's clock.
pub fn system_offset() -> i64 {
    (system_offset_ns() - fraction_ns() as i64 + NS_A_MS / 2).div_euclid(NS_A_MS)
}

/// Moves our offset, in milliseconds. [`super::offset::look`] alone decides that.
pub(super) fn set_own(offset: i64) {
    OFFSET.store(offset, Relaxed);
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

/// Length of a printed [`Time`] in bytes: `2020-04-20T08:01:52.000Z`.
pub const PRINTED: usize = 24;

/// Milliseconds in a day.
pub const DAY_MS: u64 = 86_400_000;

/// Offset of China's time to UTC; there is no summer time.
const CHINA_MS: u64 = 8 * 3_600_000;

impl Time {
    /// Returns the time of day without a system call. It does not step when the system's clock is set.
    pub fn now() -> Time {
        Now::read().time
    }

    /// Returns the time `by` later, at most the highest one.
    pub fn plus(self, by: Duration) -> Time {
        Time(self.0.saturating_add(by.as_millis() as u64))
    }

    /// Returns the time since `earlier`; zero if it is in the future.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Returns the calendar day in China as `yyyymmdd`.
    pub fn day(self) -> u32 {
        let (year, month, day) = civil(self.day_count());
        year * 10_000 + month * 100 + day
    }

    /// Returns the calendar day in China as days since 1970.
    pub fn day_count(self) -> u64 {
        self.0.saturating_add(CHINA_MS) / DAY_MS
    }

    /// Returns RFC 3339 in UTC with milliseconds. Years beyond 9999 do not occur.
    pub fn print(self) -> [u8; PRINTED] {
        thread_local! {
            // Every answer prints times of today, so the date is cached.
            static TODAY: Cell<(u64, [u8; 10])> = const { Cell::new((u64::MAX, [0; 10])) };
        }
        let days = self.0 / DAY_MS;
        let date = TODAY.with(|today| {
            let (known, date) = today.get();
            if known == days {
                return date;
            }
            let date = print_date(days);
            today.set((days, date));
            date
        });
        let ms = (self.0 % DAY_MS) as u32;
        let mut out = *b"0000-00-00T00:00:00.000Z";
        out[0..10].copy_from_slice(&date);
        digits(&mut out[11..13], ms / 3_600_000);
        digits(&mut out[14..16], ms / 60_000 % 60);
        digits(&mut out[17..19], ms / 1_000 % 60);
        digits(&mut out[20..23], ms % 1_000);
        out
    }
}

/// Returns the date of a day count. Not inlined, so that [`Time::print`] can be; runs once a day and thread.
#[cold]
#[inline(never)]
fn print_date(days: u64) -> [u8; 10] {
    let (year, month, day) = civil(days);
    let mut date = *b"0000-00-00";
    digits(&mut date[0..4], year);
    digits(&mut date[5..7], month);
    digits(&mut date[8..10], day);
    date
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.print()).expect("digits and punctuation"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::calendar::is_day;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_utc_with_milliseconds() {
        assert_eq!(Time(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            Time(1_587_340_912_007).to_string(),
            "2020-04-20T00:01:52.007Z"
        );
        assert_eq!(Time(1_709_164_800_000).day(), 20_240_229);
        // Midnight in China is at 16:00 UTC.
        let midnight = 1_709_222_400_000;
        assert_eq!(Time(midnight - 1).day(), 20_240_229);
        assert_eq!(Time(midnight).day(), 20_240_301);
        assert_eq!(
            Time(midnight).day_count(),
            Time(midnight - 1).day_count() + 1
        );
    }

    proptest! {
        #[test]
        fn prints_what_a_calendar_library_prints(ms in 0u64..4_102_444_800_000) {
            let theirs = jiff::Timestamp::from_millisecond(ms as i64).unwrap();
            prop_assert_eq!(Time(ms).to_string(), format!("{theirs:.3}"));
            prop_assert!(is_day(Time(ms).day()));
        }
    }
}
