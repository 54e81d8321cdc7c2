//! Dates in the forms of REGARDS, converted to RFC 3339 in UTC.
//!
//! The parser is our own: jiff's accepts more forms (a space, lower-case letters, the second 60), and it doesn't keep the
//! number of digits of a second.

use jiff::SignedDuration;
use jiff::civil::DateTime;

/// The accepted forms, for people.
pub(super) const FORMS: &str = "a date such as 2025-05-01T10:25:52.243Z";

/// The largest offset in hours, as in `java.time.ZoneOffset`.
const MAX_OFFSET_HOURS: i16 = 18;

/// AMQP timestamps count from here.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Converts `text` to UTC and keeps its digits of a second; none if it has another form.
///
/// The form is `YYYY-MM-DDTHH:MM:SS`, up to nine digits of a second, then `Z`, `+HH:MM`, `+HHMM`, `+HH` (or `-`) or nothing,
/// which means UTC.
pub(super) fn normalize(text: &str) -> Option<String> {
    let mut rest = Rest(text.as_bytes());
    let year = rest.number(4)?;
    rest.byte(b'-')?;
    let month = rest.two()?;
    rest.byte(b'-')?;
    let day = rest.two()?;
    rest.byte(b'T')?;
    let hour = rest.two()?;
    rest.byte(b':')?;
    let minute = rest.two()?;
    rest.byte(b':')?;
    let second = rest.two()?;
    let fraction = rest.fraction()?;
    let offset = rest.offset()?;
    let local = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    let utc = local.checked_sub(offset).ok()?;
    if year < 1 || utc.year() < 1 {
        return None;
    }
    Some(print(utc, fraction))
}

/// Converts seconds since 1970 to RFC 3339; none after the year 9999.
pub(super) fn of_seconds(seconds: u64) -> Option<String> {
    let since = SignedDuration::from_secs(i64::try_from(seconds).ok()?);
    EPOCH.checked_add(since).ok().map(|utc| print(utc, ""))
}

/// Without `format!`, which takes as long as the rest of the decoding.
fn print(utc: DateTime, fraction: &str) -> String {
    let mut text = String::with_capacity("YYYY-MM-DDTHH:MM:SSZ".len() + fraction.len());
    let year = utc.year().unsigned_abs();
    two_digits(&mut text, year / 100);
    two_digits(&mut text, year % 100);
    for (before, number) in
        [('-', utc.month()), ('-', utc.day()), ('T', utc.hour()), (':', utc.minute()), (':', utc.second())]
    {
        text.push(before);
        two_digits(&mut text, number.unsigned_abs().into());
    }
    text.push_str(fraction);
    text.push('Z');
    text
}

fn two_digits(text: &mut String, number: u16) {
    for digit in [number / 10, number % 10] {
        text.extend(char::from_digit(digit.into(), 10));
    }
}

/// The part of a date that is not parsed yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self, expected: u8) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        (*first == expected).then_some(())
    }

    fn number(&mut self, digits: usize) -> Option<i16> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        number.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i16::from(byte - b'0')))
    }

    fn two(&mut self) -> Option<i8> {
        self.number(2).and_then(|number| i8::try_from(number).ok())
    }

    /// The digits of a second with their point, or an empty text.
    fn fraction(&mut self) -> Option<&'a str> {
        if self.0.first() != Some(&b'.') {
            return Some("");
        }
        let digits = self.0.iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, rest) = self.0.split_at_checked(digits + 1)?;
        self.0 = rest;
        (1..=9).contains(&digits).then(|| std::str::from_utf8(fraction).ok())?
    }

    /// The offset from UTC at the end of the text.
    fn offset(&mut self) -> Option<SignedDuration> {
        let (sign, rest) = match self.0.split_first() {
            None => return Some(SignedDuration::ZERO),
            Some((b'Z', rest)) => return rest.is_empty().then_some(SignedDuration::ZERO),
            Some((b'+', rest)) => (1, rest),
            Some((b'-', rest)) => (-1, rest),
            Some(_) => return None,
        };
        self.0 = rest;
        let hours = self.number(2)?;
        let minutes = if self.0.is_empty() {
            0
        } else {
            if self.0.first() == Some(&b':') {
                self.byte(b':')?;
            }
            self.number(2)?
        };
        let whole = hours < MAX_OFFSET_HOURS || (hours == MAX_OFFSET_HOURS && minutes == 0);
        let fits = self.0.is_empty() && whole && minutes < 60;
        fits.then(|| SignedDuration::from_mins(sign * (i64::from(hours) * 60 + i64::from(minutes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_date_form_of_regards_is_parsed() {
        for (text, expected) in [
            ("2025-05-01T00:00:00Z", "2025-05-01T00:00:00Z"),
            ("2022-12-22T10:25:52.243Z", "2022-12-22T10:25:52.243Z"),
            ("2025-05-01T00:00:00.243117Z", "2025-05-01T00:00:00.243117Z"),
            ("2025-05-01T00:00:00.000000000Z", "2025-05-01T00:00:00.000000000Z"),
            ("2025-05-01T01:30:00.10+02:00", "2025-04-30T23:30:00.10Z"),
            ("2025-05-01T01:30:00+0200", "2025-04-30T23:30:00Z"),
            ("2025-05-01T01:30:00+02", "2025-04-30T23:30:00Z"),
            ("2024-12-31T23:30:00-01:30", "2025-01-01T01:00:00Z"),
            ("2025-05-01T01:30:00", "2025-05-01T01:30:00Z"),
            ("2025-05-01T01:30:00.5", "2025-05-01T01:30:00.5Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
            ("2025-05-01T01:30:00-00:00", "2025-05-01T01:30:00Z"),
            ("2025-05-01T18:30:00+18:00", "2025-05-01T00:30:00Z"),
        ] {
            assert_eq!(normalize(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_not_dates() {
        for text in [
            "",
            "tomorrow",
            "2025-05-01",
            "2025-05-01T00:00Z",
            "2025-05-01 00:00:00Z",
            "2025-05-01t00:00:00z",
            "2025-05-01T00:00:00.Z",
            "2025-05-01T00:00:00.0000000001Z",
            "2025-05-01T00:00:00,5Z",
            "2025-05-01T24:00:00Z",
            "2025-05-01T00:00:60Z",
            "2025-02-29T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-05-01T00:00:00ZZ",
            "2025-05-01T00:00:00Z ",
            "2025-05-01T00:00:00+2",
            "2025-05-01T00:00:00+02:0",
            "2025-05-01T00:00:00+02:60",
            "2025-05-01T00:00:00+18:01",
            "2025-05-01T00:00:00+02:00:00",
            "2025-05-01T00:00:00[UTC]",
            "0000-05-01T00:00:00Z",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:30:00-01:00",
            "+2025-05-01T00:00:00Z",
            "２025-05-01T00:00:00Z",
        ] {
            assert_eq!(normalize(text), None, "{text}");
        }
    }

    #[test]
    fn seconds_become_dates_up_to_the_year_9999() {
        assert_eq!(of_seconds(0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(of_seconds(1_681_461_977).as_deref(), Some("2023-04-14T08:46:17Z"));
        assert_eq!(of_seconds(253_402_300_799).as_deref(), Some("9999-12-31T23:59:59Z"));
        assert_eq!(of_seconds(253_402_300_800), None);
        assert_eq!(of_seconds(u64::MAX), None);
    }
}
