//! Numbers with units, as the configuration and the command line have them.

use std::time::Duration;

/// The longest duration: a hundred years. Adding it to a time never overflows.
const MAX_DURATION: Duration = Duration::from_hours(100 * 366 * 24);

/// `250ms`, `20s`, `5m`, `24h`, `7d`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.checked_mul(millis)?);
    (duration <= MAX_DURATION).then_some(duration)
}

/// A duration as the configuration has it: the largest unit of which it is a whole number.
#[must_use]
pub fn written_duration(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms > 0 && ms % 86_400_000 == 0 => format!("{}d", ms / 86_400_000),
        ms if ms > 0 && ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms > 0 && ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// `512B`, `64KiB`, `1MiB`, `10GiB`, `1TiB`: in bytes.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let bytes: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    // SQLite and files count in signed 64 bits.
    number.checked_mul(bytes).filter(|&size| i64::try_from(size).is_ok())
}

/// `50/s`, `10/m`, `100/h`: how many a second. Zero is no rate.
#[must_use]
pub fn rate(text: &str) -> Option<f64> {
    let (number, unit) = text.split_once('/')?;
    let number = u32::try_from(whole(number)?).ok().filter(|&number| number > 0)?;
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Some(f64::from(number) / seconds)
}

/// A whole number in decimal digits, without a sign.
pub fn whole(text: &str) -> Option<u64> {
    // `parse` alone would take `+5`.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    Some((whole(number)?, unit.strip_prefix(' ').unwrap_or(unit)))
}
