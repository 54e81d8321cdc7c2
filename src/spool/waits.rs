//! What waits in the spool, for people: read beside a running relay.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::database::{SpoolError, open_to_read};
use super::delivery::{Millis, RowId, Waiting};
use super::sqlite::{DELIVERY, waiting};

/// So many of those that are due next are looked at for the last failure.
const LOOKED_AT: usize = 1_000;
/// So many deliveries are read at once, and more bytes of them than this only where one alone has more.
const READ_AT_ONCE: usize = 500;
const READ_BYTES: usize = 8 * 1024 * 1024;
/// What `heads` has, in a file that the relay of an older version uses.
const OLD_HEADS: &str = "(SELECT id, sink, due FROM deliveries WHERE due IS NOT NULL)";

/// What waits for one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waits {
    /// Its name.
    pub sink: String,
    /// How many deliveries.
    pub count: u64,
    /// What they take, in bytes.
    pub bytes: u64,
    /// When the message of the oldest was received.
    pub oldest: Option<Millis>,
    /// When the first of them is due.
    pub next: Option<Millis>,
    /// How the last attempt at one that is due next failed.
    pub cause: Option<String>,
    /// What is remembered of the sink, as JSON.
    pub state: Option<String>,
}

/// What waits in the spool at `path`, by sink; that nothing was stored there yet is no error.
pub fn waits(path: &Path) -> Result<Vec<Waits>, SpoolError> {
    let Some(connection) = open_to_read(path)? else { return Ok(Vec::new()) };
    read(&connection).map_err(SpoolError::sqlite(path))
}

fn read(connection: &Connection) -> rusqlite::Result<Vec<Waits>> {
    let has = |table| {
        let is_there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?)";
        connection.query_row(is_there, [table], |row| row.get::<_, bool>(0))
    };
    if !has("deliveries")? {
        // A relay that knows of them has never run.
        return Ok(Vec::new());
    }
    let heads = if has("heads")? { "heads" } else { OLD_HEADS };
    let counts = format!(
        "SELECT name, (SELECT count(*) FROM deliveries WHERE sink = name), \
         (SELECT coalesce(sum(size), 0) FROM deliveries WHERE sink = name), \
         (SELECT min(received) FROM deliveries WHERE sink = name), \
         (SELECT min(due) FROM {heads} WHERE sink = name), \
         (SELECT state FROM states s WHERE s.kind = 'sink' AND s.name = names.name) \
         FROM (SELECT DISTINCT sink AS name FROM deliveries UNION SELECT name FROM states WHERE kind = 'sink') names"
    );
    let mut counts = connection.prepare(&counts)?;
    let waits = counts.query_map([], |row| {
        Ok(Waits {
            sink: row.get(0)?,
            count: u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0),
            bytes: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
            oldest: row.get::<_, Option<i64>>(3)?.map(Millis),
            next: row.get::<_, Option<i64>>(4)?.map(Millis),
            cause: None,
            state: row.get(5)?,
        })
    })?;
    let mut waits: Vec<Waits> = waits.collect::<rusqlite::Result<_>>()?;
    for sink in &mut waits {
        let cause = format!(
            "SELECT cause FROM (SELECT id, due AS next FROM {heads} WHERE sink = ? ORDER BY next DESC LIMIT {LOOKED_AT}) \
             JOIN deliveries USING (id) WHERE cause IS NOT NULL ORDER BY next DESC LIMIT 1"
        );
        sink.cause = connection.query_row(&cause, [&sink.sink], |row| row.get(0)).optional()?;
    }
    Ok(waits)
}

/// The next deliveries that wait for a sink after that one, if one is named, in the order in which they were handed in.
pub fn orphans(path: &Path, sink: &str, after: Option<RowId>) -> Result<Vec<(RowId, Waiting)>, SpoolError> {
    let Some(connection) = open_to_read(path)? else { return Ok(Vec::new()) };
    let read = || {
        // `+`: not by an index of the sink, which would sort all of its rows each time.
        let select = format!(
            "SELECT {DELIVERY}, id FROM deliveries WHERE +sink = ? AND id > ? ORDER BY id LIMIT {READ_AT_ONCE}"
        );
        let mut select = connection.prepare(&select)?;
        let mut rows = select.query(rusqlite::params![sink, after.map_or(0, |after| after.0)])?;
        let (mut read, mut bytes) = (Vec::new(), 0);
        while bytes < READ_BYTES
            && let Some(row) = rows.next()?
        {
            let waiting = waiting(row)?;
            bytes += waiting.message.body.len();
            read.push((RowId(row.get("id")?), waiting));
        }
        Ok(read)
    };
    read().map_err(SpoolError::sqlite(path))
}
