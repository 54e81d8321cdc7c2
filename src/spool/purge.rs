//! Dead letters that go: what is older than `keep`, and what a person asks for. Some at a time, so that new ones don't wait.

use rusqlite::params_from_iter;
use rusqlite::types::ToSql;
use tokio::sync::oneshot;

use super::Filter;
use super::database::Database;

/// So many are purged in one transaction.
const BATCH: u64 = 500;
/// Pages given back to the file system after each transaction that purged.
const VACUUM_PAGES: usize = 2_000;

/// What a person asked to be purged, under way.
#[derive(Debug)]
pub(super) struct Purge {
    filter: Filter,
    purged: u64,
    done: oneshot::Sender<Result<u64, String>>,
}

impl Purge {
    pub(super) fn new(filter: Filter, done: oneshot::Sender<Result<u64, String>>) -> Self {
        Self { filter, purged: 0, done }
    }

    /// Deletes some; says whether there may be more.
    pub(super) fn go_on(&mut self, database: &Database) -> rusqlite::Result<bool> {
        let left = self.filter.limit.map_or(BATCH, |limit| limit.saturating_sub(self.purged).min(BATCH));
        if left == 0 {
            return Ok(false);
        }
        let (conditions, values) = self.filter.conditions();
        let purged = delete(database, &format!("{conditions} ORDER BY id DESC"), values, left)?;
        self.purged += purged;
        Ok(purged == left)
    }

    /// Tells who asked. Nobody may be there to hear it.
    pub(super) fn end(self, failure: Option<String>) {
        let _ = self.done.send(failure.map_or(Ok(self.purged), Err));
    }
}

/// Deletes some of what died before that time, in milliseconds since 1970; says how many.
pub(super) fn delete_older(database: &Database, before: i64) -> rusqlite::Result<u64> {
    delete(database, "at < ? ORDER BY at", vec![Box::new(before)], BATCH)
}

fn delete(database: &Database, which: &str, mut values: Vec<Box<dyn ToSql>>, limit: u64) -> rusqlite::Result<u64> {
    values.push(Box::new(i64::try_from(limit).unwrap_or(i64::MAX)));
    let query = format!("DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE {which} LIMIT ?)");
    let purged = database.connection.execute(&query, params_from_iter(values))?;
    if purged > 0 {
        // Frees one page a row of its result.
        let mut vacuum = database.connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut pages = vacuum.query([])?;
        while pages.next()?.is_some() {}
    }
    Ok(u64::try_from(purged).unwrap_or(u64::MAX))
}
