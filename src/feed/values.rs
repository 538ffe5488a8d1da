//! The form of values in a feed line: times, days, divisions, names of sources, sequence numbers. Which times an event may have is
//! judged where it is made.

use crate::clock::{self, Time};
use crate::seal::NAME_BYTES_MAX;

/// Sequence numbers up to this one need no clock: in nanoseconds it is a day of 2006.
pub(super) const SEQ_ALWAYS: u64 = 1 << 60;

/// Returns the highest allowed sequence number: the end of the day after tomorrow in nanoseconds since 1970. Counters and times
/// in any unit are lower. An accepted number exceeds a source's next ones for two days at most.
pub(super) fn seq_max(today: u32) -> u64 {
    const DAY_NANOS: u64 = 86_400_000_000_000;
    let (year, month, day) = (today / 10_000, today / 100 % 100, today % 100);
    let since = jiff::civil::Date::new(year as i16, month as i8, day as i8)
        .and_then(|date| date.since(jiff::civil::Date::constant(1970, 1, 1)));
    let days = since.map_or(0, |since| since.get_days());
    (u64::try_from(days).unwrap_or(0) + 3).saturating_mul(DAY_NANOS)
}

/// Returns whether a text can be the name of a source or site in a token.
pub fn is_source(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// Parses RFC 3339 with an offset, and no other form, to the millisecond. A leap second counts as the last millisecond before
/// it, to keep the order.
pub fn parse_time(text: &str) -> Option<Time> {
    let bytes = text.as_bytes();
    let (start, rest) = bytes.split_at_checked(19)?;
    let (date, clock) = (&start[..10], &start[11..]);
    if date[4] != b'-' || date[7] != b'-' || !matches!(start[10], b'T' | b't') {
        return None;
    }
    if clock[2] != b':' || clock[5] != b':' {
        return None;
    }
    let (year, month, day) = (
        digits(&date[..4])?,
        digits(&date[5..7])?,
        digits(&date[8..])?,
    );
    let (hour, minute, second) = (
        digits(&clock[..2])?,
        digits(&clock[3..5])?,
        digits(&clock[6..])?,
    );
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = rest;
    let mut millis = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if length == 0 {
            return None;
        }
        for nth in 0..3 {
            let digit = fraction[..length].get(nth).map_or(0, |b| b - b'0');
            millis = millis * 10 + i64::from(digit);
        }
        rest = &fraction[length..];
    }
    let offset = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), rest @ ..] if rest.len() == 5 && rest[2] == b':' => {
            let (hours, minutes) = (digits(&rest[..2])?, digits(&rest[3..])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let minutes = i64::from(hours * 60 + minutes);
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let date = jiff::civil::Date::new(year as i16, month as i8, day as i8).ok()?;
    let days = date
        .since(jiff::civil::Date::constant(1970, 1, 1))
        .ok()?
        .get_days();
    let minutes = i64::from(days) * 1_440 + i64::from(hour * 60 + minute) - offset;
    let mut at = minutes * 60_000 + i64::from(second) * 1_000 + millis;
    if second == 60 {
        // Leap seconds end a month of UTC.
        let next = jiff::Timestamp::from_second((minutes + 1) * 60).ok()?;
        let next = jiff::tz::Offset::UTC.to_datetime(next);
        if next.day() != 1 || next.hour() != 0 || next.minute() != 0 {
            return None;
        }
        at = (minutes + 1) * 60_000 - 1;
    }
    u64::try_from(at).ok().map(Time)
}

/// Parses `2020-05-04` to `yyyymmdd`.
pub fn parse_day(text: &str) -> Option<u32> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let day = digits(&bytes[..4])? * 10_000 + digits(&bytes[5..7])? * 100 + digits(&bytes[8..])?;
    clock::is_day_or_far(day).then_some(day)
}

/// Parses six digits of a division of GB/T 2260.
pub fn parse_region(text: &str) -> Option<u32> {
    (text.len() == 6 && !text.starts_with('0'))
        .then(|| digits(text.as_bytes()))
        .flatten()
}

fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0u32, |value, b| {
        b.is_ascii_digit().then(|| value * 10 + u32::from(b - b'0'))
    })
}
