//! `rate: N/s`: attempts take their turns evenly, so that no second ever sees more than N of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Slower than one in a day is no rate.
const SLOWEST: f64 = 1.0 / 86_400.0;

/// Hands out turns, each at least the same interval after the one before.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// Turns for so many requests a second.
    pub(super) fn new(per_second: f64) -> Self {
        Self { interval: Duration::from_secs_f64(1.0 / per_second.max(SLOWEST)), next: Mutex::new(None) }
    }

    /// Waits for its turn: with n before it, at most n intervals.
    pub(super) async fn turn(&self) {
        let turn = self.reserve(Instant::now());
        tokio::time::sleep_until(turn).await;
    }

    /// The time of the next turn; it is taken then, even by one who no longer waits for it.
    fn reserve(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(turn + self.interval);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_an_interval_apart_and_time_unused_is_not_saved_up() {
        let pace = Pace::new(4.0);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(pace.reserve(at(0)), at(0));
        assert_eq!(pace.reserve(at(0)), at(250));
        assert_eq!(pace.reserve(at(100)), at(500));
        assert_eq!(pace.reserve(at(10_000)), at(10_000));
        assert_eq!(pace.reserve(at(10_000)), at(10_250));
    }

    #[test]
    fn rates_that_make_no_sense_do_not_panic() {
        for rate in [0.0, -1.0, f64::NAN, f64::MIN_POSITIVE, f64::INFINITY] {
            let _ = Pace::new(rate).reserve(Instant::now());
        }
    }
}
