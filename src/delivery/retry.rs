//! When a failed delivery is attempted again, and when it is given up.

use std::time::Duration;

use crate::config::Retry;
use crate::net::Backoff;

/// The initial back-off, doubled with each failure up to the maximum; then a random value between half of that and all of it, so that not
/// all deliveries are attempted at once.
#[must_use]
pub fn backoff(retry: &Retry, failures: u32) -> Duration {
    Backoff::new(retry.initial_backoff, retry.max_backoff).half_jitter(failures.max(1))
}

/// The limit that the number of attempts, or the time since receipt, has reached.
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
    fn back_offs_double_up_to_the_maximum() {
        let retry = Retry {
            initial_backoff: Duration::from_secs(5),
            max_backoff: Duration::from_mins(10),
            give_up_after: None,
            max_attempts: None,
            refuse_after: 3,
        };
        for (failures, seconds) in [(1, 5), (2, 10), (3, 20), (8, 600), (40, 600), (u32::MAX, 600)] {
            let backoff = backoff(&retry, failures);
            let whole = Duration::from_secs(seconds);
            assert!(backoff >= whole / 2 && backoff <= whole, "{failures}: {backoff:?}");
        }
    }
}
