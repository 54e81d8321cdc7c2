//! Numbers as people read them: sizes, ages, rates.

use std::time::Duration;

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// `512 B`, `1.5 MiB`, `10 GiB`.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn size(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        // What would be shown as 1024 belongs to the next unit.
        if size < 1_023.5 {
            break;
        }
        size /= 1_024.0;
        unit = next;
    }
    if size < 9.95 && unit != UNITS[0] { format!("{size:.1} {unit}") } else { format!("{size:.0} {unit}") }
}

/// In the two largest units: `45s`, `3m 12s`, `2h 5m`, `3d 4h`.
pub(super) fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// A number that increased by `increase` in `time`, per second: `0/s`, `0.4/s`, `1250/s`.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn rate(increase: u64, time: Duration) -> String {
    if increase == 0 || time.is_zero() {
        return "0/s".to_owned();
    }
    let rate = increase as f64 / time.as_secs_f64();
    if rate < 9.95 { format!("{:.1}/s", rate.max(0.1)) } else { format!("{rate:.0}/s") }
}

/// How much of `whole` a part is, in percent, rounded down; 100 if the whole is 0.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 { 100 } else { u64::try_from(u128::from(part) * 100 / u128::from(whole)).unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_two_or_three_digits() {
        let shown = [0, 1_023, 1_024, 1_536, 10 << 20, (1 << 30) - 1, 10 << 30, u64::MAX].map(size);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10 MiB", "1.0 GiB", "10 GiB", "16384 PiB"]);
    }

    #[test]
    fn ages_have_their_two_largest_units() {
        let shown = [0, 59, 61, 3_600, 90_061].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(shown, ["0s", "59s", "1m 1s", "1h 0m", "1d 1h"]);
    }

    #[test]
    fn a_rate_is_never_shown_as_nothing_if_there_was_something() {
        let shown = [(0, 1), (1, 60), (1, 2), (99, 10), (5_000, 2)].map(|(n, s)| rate(n, Duration::from_secs(s)));
        assert_eq!(shown, ["0/s", "0.1/s", "0.5/s", "9.9/s", "2500/s"]);
        assert_eq!(rate(1, Duration::ZERO), "0/s");
    }

    #[test]
    fn a_part_is_rounded_down() {
        assert_eq!(
            [percent(0, 10), percent(999, 1_000), percent(u64::MAX, u64::MAX), percent(1, 0)],
            [0, 99, 100, 100]
        );
    }
}
