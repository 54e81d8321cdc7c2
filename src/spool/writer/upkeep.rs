//! What keeps the file in shape beside the changes: purges, the ages of backlogs, room given back to the disk.

use std::time::Instant;

use super::{FULL_RETRY, LOOK_EVERY, PURGE_EVERY, Writer, checkpoint_unless_busy};
use crate::clock::AgeCutoff;
use crate::spool::SpoolError;
use crate::spool::database::Database;
use crate::spool::disk::Room;
use crate::spool::purge::{self, Purge, Scope};
use crate::spool::store::Store;

impl Writer {
    /// Deletes some of what is older than `keep`; says whether there may be more.
    pub(super) fn purge(&mut self, database: &Database, room: Room) -> Result<bool, SpoolError> {
        let Some(keep) = self.keep else {
            self.next_purge = Instant::now() + PURGE_EVERY;
            return Ok(false);
        };
        let cutoff = AgeCutoff::of(keep);
        let purged = database.purge(&Scope::OtherBoots(cutoff), purge_batch(room))?
            + database.purge(&Scope::ThisBoot(cutoff), purge_batch(room))?;
        if purged > 0 {
            give_back(database, room, true)?;
            self.recount(database)?;
            tracing::info!(count = purged, "dead letters older than `dead_letters.keep` were purged");
        } else {
            self.next_purge = Instant::now() + PURGE_EVERY;
        }
        Ok(purged > 0)
    }

    /// Deletes some of what people asked for; says whether there may be more.
    pub(super) fn purge_asked(&mut self, database: &Database, room: Room) -> Result<bool, SpoolError> {
        let Some(mut purge) = self.purges.pop_front() else { return Ok(false) };
        if let Some(sink) = purge.sink().filter(|sink| self.held.has_dispatcher(sink)) {
            let still = format!("what waits for sink {sink} is still delivered");
            purge.end(Some(still));
            return Ok(true);
        }
        let more = match purge.go_on(database, purge_batch(room)) {
            Ok(false) => self.recount_after(&purge, database).map(|()| false),
            more => more,
        };
        let more = match more {
            Ok(more) if purge.sink().is_none() => give_back(database, room, true).map(|_| more),
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

    /// Finds out how old the oldest delivery of each sink is whose deliveries have changed, now and then.
    pub(super) fn look_at_ages(&mut self, database: &Database) -> Result<(), SpoolError> {
        let due: Vec<_> = self.looked.extract_if(|_, since| since.elapsed() >= LOOK_EVERY).collect();
        for (sink, _) in due {
            self.shared.set_oldest(&sink, database.oldest(&sink)?);
        }
        Ok(())
    }

    /// When there is something to be looked at although nothing comes in.
    pub(super) fn next_look(&self) -> Instant {
        let now = Instant::now();
        let is_full = self.queue.held_up() > 0 || self.shared.budget().disk_is_full();
        let full = is_full.then(|| now + FULL_RETRY);
        let ages = self.looked.values().min().map(|since| *since + LOOK_EVERY);
        full.into_iter().chain(ages).fold(self.next_purge, Instant::min)
    }

    /// What people asked for was purged: what is left is counted anew.
    fn recount_after(&self, purge: &Purge, database: &Database) -> Result<(), SpoolError> {
        if purge.sink().is_none() {
            return self.recount(database);
        }
        self.shared.recount_deliveries(database.sizes()?);
        Ok(())
    }
}

/// Gives room in the file back to the disk, and says whether there may be more.
pub(super) fn give_back(database: &Database, room: Room, all: bool) -> Result<bool, SpoolError> {
    let is_tight = room != Room::Plenty;
    let more = database.give_back(all, is_tight)?;
    if more && is_tight {
        checkpoint_unless_busy(database)?;
    }
    Ok(more)
}

/// How many rows are purged at once.
fn purge_batch(room: Room) -> u64 {
    if room == Room::Plenty { purge::BATCH } else { purge::SMALL_BATCH }
}
