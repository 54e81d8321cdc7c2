//! Requests that alerts watch, for people.

use std::path::Path;

use rusqlite::{Connection, params};

use crate::clock::{ClockBase, WallTime};
use crate::spool::SpoolError;
use crate::spool::database::open_to_read;
use crate::spool::request::{RequestState, request_hash};
use crate::spool::rows::{clock_base, text};

/// That an alert watches a request which has no end yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedBy {
    pub alert: String,
    /// Since when it is overdue, or when it will be.
    pub at: WallTime,
    pub is_overdue: bool,
}

/// The alerts that watch a request in the spool at `path`.
pub fn read_watches(path: &Path, tenant: &str, correlation_id: &str) -> Result<Vec<WatchedBy>, SpoolError> {
    let Some(connection) = open_to_read(path)? else { return Ok(Vec::new()) };
    read(&connection, tenant, correlation_id).map_err(SpoolError::sqlite(path))
}

fn read(connection: &Connection, tenant: &str, correlation_id: &str) -> rusqlite::Result<Vec<WatchedBy>> {
    // No relay that knows alerts has used the file yet.
    let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'requests'";
    if connection.query_row(tables, [], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(Vec::new());
    }
    let jumped = clock_base(connection)?.map_or(0, ClockBase::jump);
    let select = "SELECT alert, state, due, overdue FROM requests \
                  WHERE request = ?1 AND tenant = ?2 AND correlation_id = ?3 ORDER BY id";
    let mut select = connection.prepare(select)?;
    let mut rows = select.query(params![request_hash(tenant, correlation_id), tenant, correlation_id])?;
    let mut watches = Vec::new();
    while let Some(row) = rows.next()? {
        let state = RequestState::of_number(row.get(1)?);
        let at = match state {
            Some(RequestState::Open) => row.get::<_, Option<i64>>(2)?.map(|due| due.saturating_add(jumped)),
            Some(RequestState::Overdue) => row.get(3)?,
            _ => None,
        };
        let watched = at.map(|at| WatchedBy {
            alert: text(row, 0).unwrap_or_default(),
            at: WallTime(at),
            is_overdue: state == Some(RequestState::Overdue),
        });
        watches.extend(watched);
    }
    Ok(watches)
}
