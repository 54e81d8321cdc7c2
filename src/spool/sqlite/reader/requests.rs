//! Watched requests in the file.

use rusqlite::{Connection, Row, params};

use crate::clock::{ClockBase, WallTime};
use crate::rules::AlertName;
use crate::spool::reader::{MAX_NAME, OverdueRequest, WatchedBy};
use crate::spool::request::{RequestState, request_hash};
use crate::spool::sqlite::rows::{clock_base, optional_text, text};

pub(super) fn overdue(
    connection: &Connection,
    alert: &AlertName,
    limit: usize,
) -> rusqlite::Result<Vec<OverdueRequest>> {
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
}

pub(super) fn watches(connection: &Connection, tenant: &str, correlation_id: &str) -> rusqlite::Result<Vec<WatchedBy>> {
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
