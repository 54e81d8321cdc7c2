//! Exponential back-off: the delay after a number of failures in a row.

use std::time::Duration;

/// Delays that double from `first` with each failure, up to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
}

impl Backoff {
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// The delay after this number of failures in a row; zero after none.
    #[must_use]
    pub fn delay(self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        self.first.saturating_mul(2_u32.saturating_pow(doublings)).min(self.max)
    }

    /// A random part of the delay: relays and sinks that failed together don't try again together.
    #[must_use]
    pub fn full_jitter(self, failures: u32) -> Duration {
        self.delay(failures).mul_f64(fastrand::f64())
    }

    /// Between half of the delay and all of it, for attempts that must not follow each other at once.
    #[must_use]
    pub fn half_jitter(self, failures: u32) -> Duration {
        self.delay(failures).mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_from_the_first_to_the_longest() {
        let backoff = Backoff::new(Duration::from_secs(5), Duration::from_mins(10));
        for (failures, seconds) in [(0, 0), (1, 5), (2, 10), (3, 20), (8, 600), (40, 600), (u32::MAX, 600)] {
            let delay = Duration::from_secs(seconds);
            assert_eq!(backoff.delay(failures), delay, "{failures}");
            for jitter in [backoff.full_jitter(failures), backoff.half_jitter(failures)] {
                assert!(jitter <= delay, "{failures}: {jitter:?}");
            }
            assert!(backoff.half_jitter(failures) >= delay / 2, "{failures}");
        }
    }

    #[test]
    fn jitter_spreads_the_delays() {
        let backoff = Backoff::new(Duration::from_secs(5), Duration::from_mins(10));
        for jitter in [Backoff::full_jitter, Backoff::half_jitter] {
            let delays: Vec<_> = (0..100).map(|_| jitter(backoff, 3)).collect();
            assert!(delays.iter().any(|delay| *delay != delays[0]));
        }
    }
}
