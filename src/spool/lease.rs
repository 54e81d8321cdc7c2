//! The right to use a spool that several machines can reach: it ends at a deadline unless it is renewed before.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::clock::{Uptime, WallTime};
use crate::failpoints::Failpoint;

/// How often [`Lease::ended`] looks at the clock: that of the machine goes on while it sleeps, those of timers may not.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A lease of this process. It never becomes valid again after it has ended.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    /// In milliseconds since boot; [`ENDED`] once it was found to have passed.
    deadline: Arc<AtomicI64>,
}

const ENDED: i64 = i64::MIN;

impl Lease {
    /// A lease that was asked for at `asked`.
    pub(super) fn new(asked: Uptime, length: Duration) -> Self {
        Self { deadline: Arc::new(AtomicI64::new(by_clock(asked.after(length)))) }
    }

    /// Extends the lease, unless it has ended. Counts from before the request: the database began to count later.
    pub(super) fn renew(&self, asked: Uptime, length: Duration) -> bool {
        let renewed = by_clock(asked.after(length));
        let now = by_clock(Uptime::now());
        let later = |deadline: i64| (deadline > now).then(|| deadline.max(renewed));
        self.deadline.fetch_update(Ordering::SeqCst, Ordering::SeqCst, later).is_ok()
    }

    /// Ends it at once: another process has the spool.
    pub(super) fn end(&self) {
        self.deadline.store(ENDED, Ordering::SeqCst);
    }

    pub(super) fn is_valid(&self) -> bool {
        let deadline = self.deadline.load(Ordering::SeqCst);
        if deadline == ENDED {
            return false;
        }
        if deadline > by_clock(Uptime::now()) {
            return true;
        }
        // A renewal under way must not make it valid again. One that was faster is valid.
        self.deadline.compare_exchange(deadline, ENDED, Ordering::SeqCst, Ordering::SeqCst).is_err() && self.is_valid()
    }

    /// The time until its deadline.
    pub(super) fn remaining(&self) -> Duration {
        Uptime(self.deadline.load(Ordering::SeqCst)).remaining()
    }

    /// Returns when it has ended.
    pub(super) async fn ended(&self) {
        while self.is_valid() {
            tokio::time::sleep(self.remaining().min(LOOK_INTERVAL)).await;
        }
    }
}

/// A moment by the clock that leases count by, in milliseconds.
fn by_clock(moment: Uptime) -> i64 {
    if Failpoint::CountTheLeaseByTheWallClock.is_enabled() {
        return WallTime::now().0.saturating_add(moment.0 - Uptime::now().0);
    }
    moment.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_has_ended_is_not_renewed() {
        let lease = Lease::new(Uptime::now(), Duration::from_mins(1));
        assert!(lease.is_valid());
        assert!(lease.renew(Uptime::now(), Duration::from_mins(1)));
        lease.end();
        assert!(!lease.is_valid());
        assert!(!lease.renew(Uptime::now(), Duration::from_mins(1)));
        assert!(!lease.is_valid());

        let passed = Lease::new(Uptime(Uptime::now().0 - 2_000), Duration::from_secs(1));
        assert!(!passed.renew(Uptime::now(), Duration::from_mins(1)), "its deadline passed before the renewal");
        assert!(!passed.is_valid());
    }

    #[test]
    fn a_lease_counts_from_before_the_request() {
        let asked = Uptime(Uptime::now().0 - 5_000);
        let lease = Lease::new(asked, Duration::from_mins(1));
        assert!(lease.remaining() <= Duration::from_secs(55));
        assert!(lease.renew(Uptime(asked.0 - 5_000), Duration::from_mins(1)));
        assert!(lease.remaining() > Duration::from_secs(50), "an earlier deadline replaces no later one");
    }
}
