//! Values of settings: durations, counts, ratios and sizes, as they are written.

use std::time::Duration;

/// Returns a duration of milliseconds.
pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Returns a duration of seconds.
pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Returns a duration of days.
pub(super) fn days(n: u64) -> Duration {
    secs(n * 86_400)
}

/// Parses `250ms`, `60s`, `5m`, `24h`, `30d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit).map(Duration::from_millis)
}

/// Parses digits only: no sign, underscore or unit.
pub(super) fn parse_count(text: &str) -> Option<u64> {
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    good.then(|| text.parse().ok()).flatten()
}

/// Parses a decimal number: digits, and perhaps a point with digits behind it.
pub(super) fn parse_ratio(text: &str) -> Option<f64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let are_digits = |digits: &str| {
        (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let is_good = are_digits(whole) && are_digits(part);
    is_good.then(|| text.parse().ok()).flatten()
}

/// Parses a number of bytes, KiB, MiB, GiB or TiB.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit)
}
