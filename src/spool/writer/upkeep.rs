//! The writer's work in addition to the changes: purges, the ages of backlogs, free space given back to the disk.

use std::time::Instant;

use super::{FULL_RETRY, OLDEST_INTERVAL, PURGE_INTERVAL, Writer};
use crate::clock::AgeCutoff;
use crate::spool::SpoolError;
use crate::spool::purge::{self, Purge, PurgeSelection};
use crate::storage::DiskSpace;

impl Writer {
    /// Deletes some of the dead letters that are older than `dead_letters.keep`. Returns whether there may be more.
    pub(super) fn purge_expired(&mut self, space: DiskSpace) -> Result<bool, SpoolError> {
        let Some(keep) = self.keep else {
            self.next_purge = Instant::now() + PURGE_INTERVAL;
            return Ok(false);
        };
        let cutoff = AgeCutoff::of(keep);
        let purged = self.store.purge_dead_letters(&PurgeSelection::ExpiredOtherBoots(cutoff), purge_batch(space))?
            + self.store.purge_dead_letters(&PurgeSelection::ExpiredThisBoot(cutoff), purge_batch(space))?;
        if purged > 0 {
            self.store.release_free_space(space, true)?;
            self.recount_dead_letters()?;
            tracing::info!("{purged} dead letters older than `dead_letters.keep` were purged");
        } else {
            self.next_purge = Instant::now() + PURGE_INTERVAL;
        }
        Ok(purged > 0)
    }

    /// Deletes some rows of the first requested purge. Returns whether there may be more.
    pub(super) fn purge_requested(&mut self, space: DiskSpace) -> Result<bool, SpoolError> {
        let Some(mut purge) = self.purges.pop_front() else { return Ok(false) };
        if let Some(sink) = purge.sink().filter(|sink| self.state.has_dispatcher(sink)) {
            let refusal = format!("sink {sink} still delivers its backlog");
            purge.end(Some(refusal));
            return Ok(true);
        }
        let more = match purge.delete_batch(&*self.store, purge_batch(space)) {
            Ok(false) => self.recount_after(&purge).map(|()| false),
            more => more,
        };
        let more = match more {
            Ok(more) if purge.sink().is_none() => self.store.release_free_space(space, true).map(|_| more),
            more => more,
        };
        match more {
            Ok(true) => self.purges.push_front(purge),
            Ok(false) => purge.end(None),
            Err(error) => {
                purge.end(Some(error.to_string()));
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Reads the age of the oldest delivery, for sinks whose backlogs have changed a while ago.
    pub(super) fn update_oldest(&mut self) -> Result<(), SpoolError> {
        let due: Vec<_> = self.oldest_outdated.extract_if(|_, since| since.elapsed() >= OLDEST_INTERVAL).collect();
        for (sink, _) in due {
            self.shared.set_oldest(&sink, self.store.oldest(&sink)?);
        }
        Ok(())
    }

    /// The time of the next work that no command triggers.
    pub(super) fn next_upkeep(&self) -> Instant {
        let now = Instant::now();
        let is_full = self.queue.blocked_count() > 0 || self.shared.budget().disk_is_full();
        let full = is_full.then(|| now + FULL_RETRY);
        let oldest = self.oldest_outdated.values().min().map(|since| *since + OLDEST_INTERVAL);
        full.into_iter().chain(oldest).fold(self.next_purge, Instant::min)
    }

    /// Updates the counts after a requested purge.
    fn recount_after(&self, purge: &Purge) -> Result<(), SpoolError> {
        if purge.sink().is_none() {
            return self.recount_dead_letters();
        }
        self.shared.recount_deliveries(self.store.usage()?);
        Ok(())
    }
}

/// How many rows are purged in one transaction.
fn purge_batch(space: DiskSpace) -> u64 {
    if space == DiskSpace::Plenty { purge::BATCH } else { purge::SMALL_BATCH }
}
