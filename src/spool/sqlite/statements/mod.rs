//! The statements of the writer. Each function is one step of a transaction, and can be repeated after a transaction with an unknown
//! outcome.

mod dead_letters;
mod deliveries;
mod digests;
mod requests;

use std::collections::HashSet;

use super::database::Database;
use super::rows::{clock_base, text};
use crate::clock::ClockBase;
use crate::spool::{Component, SpoolError};

/// How many pages are given back to the file system at once.
const VACUUM_PAGES: usize = 2_000;
/// How many pages are given back at once if the disk has little space: each is written to the log first.
const SMALL_VACUUM_PAGES: usize = 32;
/// How many free pages stay in the file for the next rows.
const MIN_FREE_PAGES: i64 = 4_096;

impl Database {
    /// Runs `work` in a transaction: all of its statements become durable, or none.
    pub(super) fn transact<T>(&self, work: impl FnOnce() -> Result<T, SpoolError>) -> Result<T, SpoolError> {
        let transaction = self.connection.unchecked_transaction().map_err(self.failed())?;
        let done = work()?;
        transaction.commit().map_err(self.failed())?;
        self.check_moved()?;
        Ok(done)
    }

    /// Gives the current transaction a number.
    pub(super) fn set_batch(&self, number: i64) -> Result<(), SpoolError> {
        let update = "UPDATE batch SET number = ?";
        let update = self.connection.prepare_cached(update).and_then(|mut update| update.execute([number]));
        update.map(|_| ()).map_err(self.failed())
    }

    /// The number of the last transaction that is on disk.
    pub(super) fn last_batch(&self) -> Result<i64, SpoolError> {
        self.connection.query_row("SELECT number FROM batch", [], |row| row.get(0)).map_err(self.failed())
    }

    /// The start of due times; `None` in a new file.
    pub(super) fn clock(&self) -> Result<Option<ClockBase>, SpoolError> {
        clock_base(&self.connection).map_err(self.failed())
    }

    pub(super) fn set_clock(&self, ClockBase { boot, base }: ClockBase) -> Result<(), SpoolError> {
        let set = "INSERT INTO clock (id, boot, base) VALUES (1, ?1, ?2) \
                   ON CONFLICT (id) DO UPDATE SET boot = excluded.boot, base = excluded.base";
        self.connection.execute(set, [boot, base]).map(|_| ()).map_err(self.failed())
    }

    /// The highest id that a dead letter ever had, and the highest id of the deliveries that are in the file.
    pub(super) fn last_ids(&self) -> Result<(i64, i64), SpoolError> {
        let last = "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'dead_letters'), 0), \
                    coalesce((SELECT max(id) FROM dead_letters), 0)), coalesce((SELECT max(id) FROM deliveries), 0)";
        self.connection.query_row(last, [], |row| Ok((row.get(0)?, row.get(1)?))).map_err(self.failed())
    }

    pub(super) fn save_state(&self, component: &Component, state: Option<&str>) -> Result<(), SpoolError> {
        let (kind, name) = component.parts();
        let done = match state {
            Some(state) => self.connection.execute(
                "INSERT INTO states (kind, name, state) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (kind, name) DO UPDATE SET state = excluded.state",
                [kind, name, state],
            ),
            None => self.connection.execute("DELETE FROM states WHERE kind = ? AND name = ?", [kind, name]),
        };
        done.map(|_| ()).map_err(self.failed())
    }

    /// All saved states: the component's kind, its name, and the state as JSON.
    pub(super) fn states(&self) -> Result<Vec<(String, String, String)>, SpoolError> {
        let read = || {
            let mut states = self.connection.prepare("SELECT kind, name, state FROM states")?;
            let states = states.query_map([], |row| Ok((text(row, 0)?, text(row, 1)?, text(row, 2)?)))?;
            states.collect::<rusqlite::Result<_>>()
        };
        read().map_err(self.failed())
    }

    /// Gives free pages of the file back to the file system: those beyond [`MIN_FREE_PAGES`], or `all`. It takes fewer at once if the
    /// disk `is_low`. Returns whether there may be more to give back.
    pub(super) fn release_free_pages(&self, all: bool, is_low: bool) -> Result<bool, SpoolError> {
        let keep = if all { 0 } else { MIN_FREE_PAGES };
        let pages = if is_low { SMALL_VACUUM_PAGES } else { VACUUM_PAGES };
        let free = || self.connection.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0));
        let release = || -> rusqlite::Result<bool> {
            let before = free()?;
            if before <= keep {
                return Ok(false);
            }
            self.vacuum(pages)?;
            let left = free()?;
            Ok(left > keep && left < before)
        };
        release().map_err(self.failed())
    }

    fn vacuum(&self, pages: usize) -> rusqlite::Result<()> {
        // Each row of the result frees one page.
        let mut vacuum = self.connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut pages = vacuum.query([])?;
        while pages.next()?.is_some() {}
        Ok(())
    }

    fn failed(&self) -> impl FnOnce(rusqlite::Error) -> SpoolError + use<> {
        SpoolError::sqlite(self.path())
    }
}

/// The first id that no other redelivered message was recognized as.
fn first_unrecognized(mut ids: rusqlite::Rows<'_>, recognized: &HashSet<i64>) -> rusqlite::Result<Option<i64>> {
    while let Some(row) = ids.next()? {
        let id = row.get(0)?;
        if !recognized.contains(&id) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// For counts and sizes, which are far below the bounds of both types.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
