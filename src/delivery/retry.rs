//! When a failed delivery is tried again, and when it is given up.

use std::time::Duration;

use crate::config::Retry;

/// `first`, doubled with each failure up to `max`; of that, a random half is taken away so that not all come at once.
#[must_use]
pub fn back_off(retry: &Retry, failures: u32) -> Duration {
    let doubled =
        retry.initial_backoff.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(retry.max_backoff).mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Whether so many attempts, or that much time since receipt, are enough; says which.
#[must_use]
pub fn limit_reached(retry: &Retry, attempts: u32, age: Duration) -> Option<String> {
    if retry.max_attempts.is_some_and(|most| attempts >= most) {
        return Some(format!("gave up after {attempts} attempts"));
    }
    let limit = retry.give_up_after.filter(|limit| age >= *limit)?;
    Some(format!("gave up {} s after receipt", limit.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_first_to_max() {
        let retry = Retry {
            initial_backoff: Duration::from_secs(5),
            max_backoff: Duration::from_mins(10),
            give_up_after: None,
            max_attempts: None,
            refuse_after: 3,
        };
        for (failures, seconds) in [(1, 5), (2, 10), (3, 20), (8, 600), (40, 600), (u32::MAX, 600)] {
            let pause = back_off(&retry, failures);
            let whole = Duration::from_secs(seconds);
            assert!(pause >= whole / 2 && pause <= whole, "{failures}: {pause:?}");
        }
    }
}
