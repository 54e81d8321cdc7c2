//! Limits log lines that many events can cause to one a minute; the next line says how many were suppressed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_mins(1);

/// Allows one log line a minute.
#[derive(Debug, Default)]
pub struct LogLimiter {
    state: Mutex<(Option<Instant>, u64)>,
}

impl LogLimiter {
    /// If a line may be written now: the number of lines that were suppressed since the last one.
    #[must_use]
    pub fn allow(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, suppressed) = &mut *state;
        if last.is_some_and(|at| at.elapsed() < INTERVAL) {
            *suppressed += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(suppressed))
    }

    fn is_suppressing(&self) -> bool {
        let (last, _) = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at.elapsed() < INTERVAL)
    }
}

/// How many errors have a limiter of their own; the others share one.
const MAX_ERRORS: usize = 100;

/// Allows one log line a minute for each error text, so that one failing destination doesn't hide another.
#[derive(Debug, Default)]
pub struct ErrorLogLimiter {
    by_error: HashMap<String, LogLimiter>,
    others: LogLimiter,
}

impl ErrorLogLimiter {
    /// Like [`LogLimiter::allow`], for this error.
    #[must_use]
    pub fn allow(&mut self, error: &str) -> Option<u64> {
        if let Some(limiter) = self.by_error.get(error) {
            return limiter.allow();
        }
        if self.by_error.len() >= MAX_ERRORS {
            self.by_error.retain(|_, limiter| limiter.is_suppressing());
        }
        if self.by_error.len() >= MAX_ERRORS {
            return self.others.allow();
        }
        self.by_error.entry(error.to_owned()).or_default().allow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_allowed_and_the_others_are_counted() {
        let limiter = LogLimiter::default();
        assert_eq!(limiter.allow(), Some(0));
        assert_eq!(limiter.allow(), None);
        assert_eq!(limiter.allow(), None);
        assert_eq!(limiter.state.lock().unwrap().1, 2);
    }

    #[test]
    fn one_error_does_not_hide_another_and_their_number_is_bounded() {
        let mut limiter = ErrorLogLimiter::default();
        assert_eq!(limiter.allow("topic a doesn't exist"), Some(0));
        assert_eq!(limiter.allow("topic a doesn't exist"), None);
        assert_eq!(limiter.allow("topic b doesn't exist"), Some(0));
        let passed = (0..2 * MAX_ERRORS).filter(|number| limiter.allow(&number.to_string()).is_some()).count();
        assert_eq!(passed, MAX_ERRORS - 2 + 1, "one line for all beyond the bound");
        assert_eq!(limiter.by_error.len(), MAX_ERRORS);
    }
}
