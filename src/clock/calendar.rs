//! Days of the calendar: parsed, checked and printed, without a clock.

/// Returns whether `yyyymmdd` is a calendar day from 1850 to 2100.
pub fn is_day(yyyymmdd: u32) -> bool {
    yyyymmdd / 10_000 <= 2100 && is_day_or_far(yyyymmdd)
}

/// Returns whether `yyyymmdd` is a calendar day up to the end of 9999, which means an open end.
pub fn is_day_or_far(yyyymmdd: u32) -> bool {
    let (year, month, day) = (yyyymmdd / 10_000, yyyymmdd / 100 % 100, yyyymmdd % 100);
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => 0,
    };
    (1850..=9999).contains(&year) && (1..=days).contains(&day)
}

/// Returns `yyyymmdd` as `yyyy-mm-dd`.
pub fn print_day(yyyymmdd: u32) -> String {
    let (year, month, day) = (yyyymmdd / 10_000, yyyymmdd / 100 % 100, yyyymmdd % 100);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Prints a number into all of `out`, with leading zeros.
pub(super) fn digits(out: &mut [u8], mut value: u32) {
    for place in out.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Returns year, month and day of a count of days since 1970. Years are counted from March, so that the leap day comes last.
pub(super) fn civil(days: u64) -> (u32, u32, u32) {
    let days = days + 719_468; // from 0000-03-01 to 1970-01-01
    let era = days / 146_097; // 400 years
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn knows_the_days_of_the_calendar(year in 1850i16..=2100, month in 0i8..=13, day in 0i8..=32) {
            let ours = is_day(year as u32 * 10_000 + month as u32 * 100 + day as u32);
            prop_assert_eq!(ours, jiff::civil::Date::new(year, month, day).is_ok());
        }
    }
}
