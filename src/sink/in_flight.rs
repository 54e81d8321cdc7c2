//! The attempts in flight in a client that has threads of its own. Each has a number that is never used again: a late answer
//! can't end another attempt, and an answer that never comes can't keep the sink from closing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Attempt, Verdict};
use crate::failpoints::Failpoint;

/// The attempts in flight, each with a note `N` that the sink needs when the answer comes.
#[derive(Debug, Default)]
pub(super) struct InFlightAttempts<N = ()>(Mutex<AttemptTable<N>>);

#[derive(Debug)]
struct AttemptTable<N> {
    next: usize,
    /// In the order they began. Dropping the table ends them in that order.
    attempts: BTreeMap<usize, (Attempt, N)>,
}

impl<N> Default for AttemptTable<N> {
    fn default() -> Self {
        Self { next: 0, attempts: BTreeMap::new() }
    }
}

impl<N: Copy> InFlightAttempts<N> {
    /// Keeps `attempt` until [`end`](Self::end) is called with the number that this returns.
    pub(super) fn insert(&self, attempt: Attempt, note: N) -> usize {
        let mut table = self.lock();
        let number = if Failpoint::ReuseNumberBeforeReport.is_enabled() { table.next % 2 } else { table.next };
        // With 64 bits it never wraps; with 32 it would take four billion attempts while one is in flight.
        table.next = table.next.wrapping_add(1);
        table.attempts.insert(number, (attempt, note));
        number
    }

    /// Ends that attempt. Does nothing if it has ended before.
    pub(super) fn end(&self, number: usize, verdict: Verdict) {
        let attempt = self.lock().attempts.remove(&number);
        if let Some((attempt, _)) = attempt {
            attempt.end(verdict);
        }
    }

    /// The note of that attempt, while it is in flight.
    pub(super) fn note(&self, number: usize) -> Option<N> {
        self.lock().attempts.get(&number).map(|(_, note)| *note)
    }

    /// Drops all attempts in flight, in the order they began, which ends them as `Retry`.
    pub(super) fn abandon_all(&self) {
        let attempts = std::mem::take(&mut self.lock().attempts);
        drop(attempts);
    }

    /// How many attempts are in flight.
    pub(super) fn len(&self) -> usize {
        self.lock().attempts.len()
    }

    fn lock(&self) -> MutexGuard<'_, AttemptTable<N>> {
        // No code runs under the lock that could leave the table half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{AttemptId, Blame, Confirmation};
    use tokio::sync::mpsc::unbounded_channel;

    #[test]
    fn a_late_answer_ends_no_other_attempt() {
        let (to, mut ends) = unbounded_channel();
        let in_flight: InFlightAttempts = InFlightAttempts::default();
        let first = in_flight.insert(Attempt::new(AttemptId(1), to.clone()), ());
        in_flight.end(first, Verdict::Delivered(Confirmation::Stdout));
        let second = in_flight.insert(Attempt::new(AttemptId(2), to), ());
        in_flight.end(first, Verdict::Refused { cause: "late".to_owned() });
        assert_eq!(ends.try_recv(), Ok((AttemptId(1), Verdict::Delivered(Confirmation::Stdout))));
        assert!(ends.try_recv().is_err());
        in_flight.end(second, Verdict::Delivered(Confirmation::Stdout));
        assert_eq!(ends.try_recv(), Ok((AttemptId(2), Verdict::Delivered(Confirmation::Stdout))));
    }

    #[test]
    fn abandoned_attempts_end_as_retry_in_the_order_they_began() {
        let (to, mut ends) = unbounded_channel();
        let in_flight: InFlightAttempts = InFlightAttempts::default();
        for id in 0..3 {
            in_flight.insert(Attempt::new(AttemptId(id), to.clone()), ());
        }
        in_flight.abandon_all();
        assert_eq!(in_flight.len(), 0);
        for id in 0..3 {
            let (ended, verdict) = ends.try_recv().unwrap();
            assert_eq!(ended, AttemptId(id));
            assert!(matches!(verdict, Verdict::Retry { blame: Blame::Relay, .. }));
        }
    }
}
