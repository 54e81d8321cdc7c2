//! Limits a rate per second by even spacing, so that no second has more.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The slowest rate: one event a day. It replaces slower and invalid rates.
const SLOWEST: f64 = 1.0 / 86_400.0;

/// Spaces events by at least one interval. Time that was not used is not saved up.
#[derive(Debug)]
pub struct RateLimiter {
    interval: Duration,
    next: Mutex<Option<Instant>>,
}

impl RateLimiter {
    #[must_use]
    pub fn new(per_second: f64) -> Self {
        Self { interval: Duration::from_secs_f64(1.0 / per_second.max(SLOWEST)), next: Mutex::new(None) }
    }

    /// Waits until the next event is due: with n before it, at most n intervals.
    pub async fn wait(&self) {
        tokio::time::sleep_until(self.reserve(Instant::now())).await;
    }

    /// When the next event is due. It counts as used, even if the caller no longer waits for it.
    fn reserve(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let due = next.map_or(now, |next| next.max(now));
        *next = Some(due + self.interval);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_an_interval_apart_and_unused_time_is_not_saved_up() {
        let limiter = RateLimiter::new(4.0);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(limiter.reserve(at(0)), at(0));
        assert_eq!(limiter.reserve(at(0)), at(250));
        assert_eq!(limiter.reserve(at(100)), at(500));
        assert_eq!(limiter.reserve(at(10_000)), at(10_000));
        assert_eq!(limiter.reserve(at(10_000)), at(10_250));
    }

    #[test]
    fn invalid_rates_do_not_panic() {
        for rate in [0.0, -1.0, f64::NAN, f64::MIN_POSITIVE, f64::INFINITY] {
            let _ = RateLimiter::new(rate).reserve(Instant::now());
        }
    }
}
