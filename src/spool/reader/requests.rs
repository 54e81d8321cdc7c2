//! Requests that alerts watch, for people.

use std::path::Path;

use rusqlite::{Connection, Row, params};

use crate::clock::{ClockBase, WallTime};
use crate::rules::AlertName;
use crate::spool::SpoolError;
use crate::spool::database::open_to_read;
use crate::spool::request::{RequestState, request_hash};
use crate::spool::rows::{clock_base, optional_text, text};

/// Longer names of tenants and requests are cut, in characters.
const MAX_NAME: i64 = 256;

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

/// A request whose alert is raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverdueRequest {
    pub tenant: String,
    pub correlation_id: String,
    /// Of the event that opened it.
    pub status: String,
    pub received: WallTime,
    pub limit: String,
    pub expires: Option<String>,
    pub since: WallTime,
}

/// The requests in the spool at `path` for which the alert has been raised for the longest time, at most `limit`, the oldest first.
pub fn read_overdue(path: &Path, alert: &AlertName, limit: usize) -> Result<Vec<OverdueRequest>, SpoolError> {
    let Some(connection) = open_to_read(path)? else { return Ok(Vec::new()) };
    let read = || -> rusqlite::Result<Vec<OverdueRequest>> {
        // The texts come from messages.
        let select = "SELECT substr(tenant, 1, ?3), substr(correlation_id, 1, ?3), status, received, time_limit, substr(expires, 1, ?3), overdue \
                      FROM requests \
                      WHERE state = 1 AND alert = ?1 ORDER BY overdue LIMIT ?2";
        let mut select = connection.prepare(select)?;
        let request = |row: &Row<'_>| {
            Ok(OverdueRequest {
                tenant: text(row, 0)?,
                correlation_id: text(row, 1)?,
                status: text(row, 2)?,
                received: WallTime(row.get(3)?),
                limit: text(row, 4)?,
                expires: optional_text(row, 5)?,
                since: WallTime(row.get::<_, Option<i64>>(6)?.unwrap_or_default()),
            })
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        select.query_map(params![alert.as_str(), limit, MAX_NAME], request)?.collect()
    };
    read().map_err(SpoolError::sqlite(path))
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
