//! The attempts that are under way in a client which works on its own threads: each under a number that is never used
//! again, so that a late answer can't end another attempt, and one that never comes can't keep an attempt from ending.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Attempt, Verdict};
use crate::failpoints::Failpoint;

/// The attempts under way, each with a note of the sink's own.
#[derive(Debug, Default)]
pub(super) struct Pending<N = ()>(Mutex<Table<N>>);

#[derive(Debug)]
struct Table<N> {
    next: usize,
    /// In the order they began, which is the order in which dropping the table ends them.
    attempts: BTreeMap<usize, (Attempt, N)>,
}

impl<N> Default for Table<N> {
    fn default() -> Self {
        Self { next: 0, attempts: BTreeMap::new() }
    }
}

impl<N: Copy> Pending<N> {
    /// Keeps `attempt` until it is ended by the number returned.
    pub(super) fn hold(&self, attempt: Attempt, note: N) -> usize {
        let mut table = self.lock();
        let number = if Failpoint::ReuseNumberBeforeReport.is_enabled() { table.next % 2 } else { table.next };
        // On 64 bits it never wraps; on 32 it would take four thousand million attempts while one is under way.
        table.next = table.next.wrapping_add(1);
        table.attempts.insert(number, (attempt, note));
        number
    }

    /// That attempt ended so. Nothing happens if it ended before.
    pub(super) fn end(&self, number: usize, verdict: Verdict) {
        let attempt = self.lock().attempts.remove(&number);
        if let Some((attempt, _)) = attempt {
            attempt.end(verdict);
        }
    }

    /// What was noted of that attempt, while it is under way.
    pub(super) fn note(&self, number: usize) -> Option<N> {
        self.lock().attempts.get(&number).map(|(_, note)| *note)
    }

    /// Drops all that have not ended, in the order they began.
    pub(super) fn abandon(&self) {
        let attempts = std::mem::take(&mut self.lock().attempts);
        drop(attempts);
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.lock().attempts.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table<N>> {
        // No code runs under the lock that could leave the table half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{AttemptId, Blame};
    use tokio::sync::mpsc::unbounded_channel;

    #[test]
    fn a_late_answer_ends_no_other_attempt() {
        let (to, mut ends) = unbounded_channel();
        let pending: Pending = Pending::default();
        let first = pending.hold(Attempt::new(AttemptId(1), to.clone()), ());
        pending.end(first, Verdict::Delivered);
        let second = pending.hold(Attempt::new(AttemptId(2), to), ());
        pending.end(first, Verdict::Refused { cause: "late".to_owned() });
        assert_eq!(ends.try_recv(), Ok((AttemptId(1), Verdict::Delivered)));
        assert!(ends.try_recv().is_err());
        pending.end(second, Verdict::Delivered);
        assert_eq!(ends.try_recv(), Ok((AttemptId(2), Verdict::Delivered)));
    }

    #[test]
    fn abandoned_attempts_end_as_retry_in_the_order_they_began() {
        let (to, mut ends) = unbounded_channel();
        let pending: Pending = Pending::default();
        for id in 0..3 {
            pending.hold(Attempt::new(AttemptId(id), to.clone()), ());
        }
        pending.abandon();
        assert_eq!(pending.len(), 0);
        for id in 0..3 {
            let (ended, verdict) = ends.try_recv().unwrap();
            assert_eq!(ended, AttemptId(id));
            assert!(matches!(verdict, Verdict::Retry { blame: Blame::Relay, .. }));
        }
    }
}
