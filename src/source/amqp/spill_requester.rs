//! Decides when a source asks for its oldest messages to be spilled, because they block it. Pure: the session gives it the time.

use std::time::Instant;

use crate::source::{BLOCKING_DELAY, EntryId};

/// The messages that block a source: those up to this one.
#[derive(Debug, Clone, Copy)]
pub struct Blocker {
    pub up_to: EntryId,
    pub since: Instant,
}

#[derive(Debug, Default)]
pub struct SpillRequester {
    requested: Option<EntryId>,
}

impl SpillRequester {
    /// The time of the next request, if these messages still block the source then.
    pub fn next_deadline(&self, blocker: Option<Blocker>) -> Option<Instant> {
        let blocker = blocker.filter(|blocker| self.requested != Some(blocker.up_to))?;
        Some(blocker.since + BLOCKING_DELAY)
    }

    /// The message up to which to request a spill now. It is returned once.
    pub fn take_due(&mut self, blocker: Option<Blocker>, now: Instant) -> Option<EntryId> {
        self.next_deadline(blocker).filter(|deadline| *deadline <= now)?;
        self.requested = blocker.map(|blocker| blocker.up_to);
        self.requested
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_spill_is_requested_once_after_50_ms() {
        let since = Instant::now();
        let [early, due] = [49, 50].map(|millis| since + Duration::from_millis(millis));
        let blocker = |up_to| Some(Blocker { up_to: EntryId(up_to), since });
        let mut requester = SpillRequester::default();
        // The blocking message, the time, what is requested, the next deadline.
        let table = [
            (None, due, None, None),
            (blocker(1), early, None, Some(due)),
            (blocker(1), due, Some(EntryId(1)), None),
            (blocker(1), due, None, None),
            (blocker(7), early, None, Some(due)),
            (blocker(7), due, Some(EntryId(7)), None),
        ];
        for (blocker, now, requested, deadline) in table {
            assert_eq!(requester.take_due(blocker, now), requested, "{blocker:?}");
            assert_eq!(requester.next_deadline(blocker), deadline, "{blocker:?}");
        }
    }
}
