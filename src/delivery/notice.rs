//! Log lines that many events could cause: one a minute, with the number of those left out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines of one kind.
const PAUSE: Duration = Duration::from_mins(1);

/// Lets one notice pass a minute.
#[derive(Debug, Default)]
pub struct Throttle {
    state: Mutex<(Option<Instant>, u64)>,
}

impl Throttle {
    /// Says whether to write a line now, and how many were left out since the last.
    #[must_use]
    pub fn pass(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, left_out) = &mut *state;
        if last.is_some_and(|at| at.elapsed() < PAUSE) {
            *left_out += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(left_out))
    }

    /// Its last notice is less than a minute old.
    fn is_waiting(&self) -> bool {
        let (last, _) = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at.elapsed() < PAUSE)
    }
}

/// So many errors have a throttle of their own; further ones share one.
const MAX_ERRORS: usize = 100;

/// Lets one notice a minute pass for each error text, so that one destination in trouble doesn't hide another.
#[derive(Debug, Default)]
pub struct ErrorThrottle {
    by_error: HashMap<String, Throttle>,
    others: Throttle,
}

impl ErrorThrottle {
    /// Says whether to write a line for that error now, and how many of its kind were left out since the last.
    #[must_use]
    pub fn pass(&mut self, error: &str) -> Option<u64> {
        if let Some(throttle) = self.by_error.get(error) {
            return throttle.pass();
        }
        if self.by_error.len() >= MAX_ERRORS {
            self.by_error.retain(|_, throttle| throttle.is_waiting());
        }
        if self.by_error.len() >= MAX_ERRORS {
            return self.others.pass();
        }
        self.by_error.entry(error.to_owned()).or_default().pass()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_passes_and_the_others_are_counted() {
        let throttle = Throttle::default();
        assert_eq!(throttle.pass(), Some(0));
        assert_eq!(throttle.pass(), None);
        assert_eq!(throttle.pass(), None);
        assert_eq!(throttle.state.lock().unwrap().1, 2);
    }
    #[test]
    fn one_error_does_not_hide_another_and_their_number_is_bounded() {
        let mut throttle = ErrorThrottle::default();
        assert_eq!(throttle.pass("topic a doesn't exist"), Some(0));
        assert_eq!(throttle.pass("topic a doesn't exist"), None);
        assert_eq!(throttle.pass("topic b doesn't exist"), Some(0));
        let passed = (0..2 * MAX_ERRORS).filter(|number| throttle.pass(&number.to_string()).is_some()).count();
        assert_eq!(passed, MAX_ERRORS - 2 + 1, "one line for all beyond the bound");
        assert_eq!(throttle.by_error.len(), MAX_ERRORS);
    }
}
