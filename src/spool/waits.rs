//! What waits in the spool, for people: read beside a running relay.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::database::{SpoolError, open_to_read};
use super::delivery::Millis;

/// So many of those that are due next are looked at for the last failure.
const LOOKED_AT: usize = 1_000;

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
    let has_deliveries = "SELECT count(*) FROM sqlite_schema WHERE name = 'deliveries'";
    if connection.query_row(has_deliveries, [], |row| row.get::<_, i64>(0))? == 0 {
        // A relay that knows of them has never run.
        return Ok(Vec::new());
    }
    let counts = "SELECT name, (SELECT count(*) FROM deliveries WHERE sink = name), \
                  (SELECT coalesce(sum(size), 0) FROM deliveries WHERE sink = name), \
                  (SELECT min(received) FROM deliveries WHERE sink = name AND due IS NOT NULL), \
                  (SELECT min(due) FROM deliveries WHERE sink = name AND due IS NOT NULL), \
                  (SELECT state FROM states s WHERE s.kind = 'sink' AND s.name = names.name) \
                  FROM (SELECT DISTINCT sink AS name FROM deliveries UNION SELECT name FROM states WHERE kind = 'sink') names";
    let mut counts = connection.prepare(counts)?;
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
            "SELECT cause FROM (SELECT cause FROM deliveries WHERE sink = ? AND due IS NOT NULL ORDER BY due DESC \
             LIMIT {LOOKED_AT}) WHERE cause IS NOT NULL LIMIT 1"
        );
        sink.cause = connection.query_row(&cause, [&sink.sink], |row| row.get(0)).optional()?;
    }
    Ok(waits)
}
