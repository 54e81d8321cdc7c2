//! Dates and times of JSON, which are text there, as numbers.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

use crate::event::date;

const NANOS_OF_A_DAY: i128 = 86_400_000_000_000;

/// Nanoseconds since 1970 of a date with a time, in the forms that the relay reads in messages. Without an offset it is UTC.
pub(super) fn instant(text: &str) -> Option<i128> {
    date::normalize(text)?.parse::<Timestamp>().ok().map(Timestamp::as_nanosecond)
}

/// The same of the date and time as written, whatever its offset.
pub(super) fn local(text: &str) -> Option<i128> {
    date::normalize(text)?;
    let written: DateTime = text.trim_end_matches('Z').parse().ok()?;
    written.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp().as_nanosecond())
}

/// Days since 1970 of a date, or of the date in UTC of an instant.
pub(super) fn days(text: &str) -> Option<i128> {
    let nanos = match text.len() {
        10 => text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp().as_nanosecond(),
        _ => instant(text)?,
    };
    Some(nanos.div_euclid(NANOS_OF_A_DAY))
}

pub(super) fn time_of_day(text: &str) -> Option<i128> {
    let time: Time = text.parse().ok()?;
    let since = time.duration_since(Time::midnight());
    text.starts_with(|first: char| first.is_ascii_digit()).then(|| since.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_counted_from_1970_and_from_midnight() {
        assert_eq!(instant("1970-01-01T00:00:01.5Z"), Some(1_500_000_000));
        assert_eq!(instant("1970-01-01T02:00:00+02:00"), Some(0));
        assert_eq!(instant("1970-01-01T00:00:00"), Some(0));
        assert_eq!(instant("1969-12-31T23:59:59.9995Z"), Some(-500_000));
        assert_eq!(instant("1970-01-01"), None);
        assert_eq!(local("1970-01-01T02:00:00+02:00"), Some(7_200_000_000_000));
        assert_eq!(local("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(days("1970-01-02"), Some(1));
        assert_eq!(days("1969-12-31T23:00:00Z"), Some(-1));
        assert_eq!(days("1970-01-01T01:00:00+02:00"), Some(-1));
        assert_eq!(days("1970-13-01"), None);
        assert_eq!(time_of_day("00:00:01.000000001"), Some(1_000_000_001));
        assert_eq!(time_of_day("25:00"), None);
    }
}
