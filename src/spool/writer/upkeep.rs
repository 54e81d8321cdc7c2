//! The writer's work in addition to the changes: purges, the ages of backlogs, free pages given back to the disk.

use std::time::Instant;

use super::{FULL_RETRY, OLDEST_INTERVAL, PURGE_INTERVAL, Writer, checkpoint_unless_busy};
use crate::clock::AgeCutoff;
use crate::spool::SpoolError;
use crate::spool::database::Database;
use crate::spool::purge::{self, Purge};
use crate::spool::statements::PurgeSelection;
use crate::storage::DiskSpace;

impl Writer {
    /// Deletes some of the dead letters that are older than `dead_letters.keep`. Returns whether there may be more.
    pub(super) fn purge_expired(&mut self, database: &Database, space: DiskSpace) -> Result<bool, SpoolError> {
        let Some(keep) = self.keep else {
            self.next_purge = Instant::now() + PURGE_INTERVAL;
            return Ok(false);
        };
        let cutoff = AgeCutoff::of(keep);
        let purged = database.purge_dead_letters(&PurgeSelection::ExpiredOtherBoots(cutoff), purge_batch(space))?
            + database.purge_dead_letters(&PurgeSelection::ExpiredThisBoot(cutoff), purge_batch(space))?;
        if purged > 0 {
            release_free_pages(database, space, true)?;
            self.recount_dead_letters(database)?;
            tracing::info!("{purged} dead letters older than `dead_letters.keep` were purged");
        } else {
            self.next_purge = Instant::now() + PURGE_INTERVAL;
        }
        Ok(purged > 0)
    }

    /// Deletes some rows of the first requested purge. Returns whether there may be more.
    pub(super) fn purge_requested(&mut self, database: &Database, space: DiskSpace) -> Result<bool, SpoolError> {
        let Some(mut purge) = self.purges.pop_front() else { return Ok(false) };
        if let Some(sink) = purge.sink().filter(|sink| self.state.has_dispatcher(sink)) {
            let refusal = format!("sink {sink} still delivers its backlog");
            purge.end(Some(refusal));
            return Ok(true);
        }
        let more = match purge.delete_batch(database, purge_batch(space)) {
            Ok(false) => self.recount_after(&purge, database).map(|()| false),
            more => more,
        };
        let more = match more {
            Ok(more) if purge.sink().is_none() => release_free_pages(database, space, true).map(|_| more),
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
    pub(super) fn update_oldest(&mut self, database: &Database) -> Result<(), SpoolError> {
        let due: Vec<_> = self.oldest_outdated.extract_if(|_, since| since.elapsed() >= OLDEST_INTERVAL).collect();
        for (sink, _) in due {
            self.shared.set_oldest(&sink, database.oldest(&sink)?);
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
    fn recount_after(&self, purge: &Purge, database: &Database) -> Result<(), SpoolError> {
        if purge.sink().is_none() {
            return self.recount_dead_letters(database);
        }
        self.shared.recount_deliveries(database.usage()?);
        Ok(())
    }
}

/// Gives free pages of the file back to the disk. Returns whether there may be more.
pub(super) fn release_free_pages(database: &Database, space: DiskSpace, all: bool) -> Result<bool, SpoolError> {
    let is_low = space != DiskSpace::Plenty;
    let more = database.release_free_pages(all, is_low)?;
    if more && is_low {
        checkpoint_unless_busy(database)?;
    }
    Ok(more)
}

/// How many rows are purged in one transaction.
fn purge_batch(space: DiskSpace) -> u64 {
    if space == DiskSpace::Plenty { purge::BATCH } else { purge::SMALL_BATCH }
}
