//! What waits in the spool, for people: read beside a running relay.

use std::ops::ControlFlow;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::damaged::{optional_text, text};
use super::database::{SpoolError, open_to_read};
use super::delivery::{RowId, Waiting};
use super::old_sizes::OldSizes;
use super::rows::{DELIVERY, clock_base, waiting};
use crate::clock::{ClockBase, MonotonicTime, WallTime};

/// So many of those that are due next are looked at for the last failure.
const LOOKED_AT: usize = 1_000;
/// So many deliveries are read at once, and more bytes of them than this only where one alone has more.
const READ_AT_ONCE: usize = 500;
const READ_BYTES: usize = 8 * 1024 * 1024;
/// So many causes of failures are shown for one sink.
pub const MAX_CAUSES: usize = 20;
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
    pub oldest: Option<WallTime>,
    /// When the first of them is due.
    pub next: Option<MonotonicTime>,
    /// By how much the wall clock has jumped ahead of that, in milliseconds.
    pub jumped: i64,
    /// How the last attempt at one that is due next failed.
    pub cause: Option<String>,
    /// How the last attempts failed at those that are the oldest of their key, and how many failed so: the most frequent first, at
    /// most [`MAX_CAUSES`].
    pub causes: Vec<(String, u64)>,
    /// What is remembered of the sink, as JSON.
    pub state: Option<String>,
}

impl Waits {
    /// What the wall clock will say at `moment`, for people.
    #[must_use]
    pub fn to_wall(&self, moment: MonotonicTime) -> WallTime {
        WallTime(moment.0.saturating_add(self.jumped))
    }
}

/// What waits in the spool at `path`, by sink; that nothing was stored there yet is no error.
pub fn waits(path: &Path) -> Result<Vec<Waits>, SpoolError> {
    let Some(connection) = open_to_read(path)? else { return Ok(Vec::new()) };
    read(&connection).map_err(SpoolError::sqlite(path))
}

fn read(connection: &Connection) -> rusqlite::Result<Vec<Waits>> {
    if !has_table(connection, "deliveries")? {
        // A relay that knows of them has never run.
        return Ok(Vec::new());
    }
    let heads = if has_table(connection, "heads")? { "heads" } else { OLD_HEADS };
    let jumped = if has_table(connection, "clock")? { clock_base(connection)?.map_or(0, ClockBase::jump) } else { 0 };
    let bytes = OldSizes::read(connection)?.sum_of_deliveries();
    let counts = format!(
        "SELECT name, (SELECT count(*) FROM deliveries WHERE sink = name), \
         (SELECT {bytes} FROM deliveries WHERE sink = name), \
         (SELECT min(received) FROM deliveries WHERE sink = name), \
         (SELECT min(due) FROM {heads} WHERE sink = name), \
         (SELECT state FROM states s WHERE s.kind = 'sink' AND s.name = names.name) \
         FROM (SELECT DISTINCT sink AS name FROM deliveries UNION SELECT name FROM states WHERE kind = 'sink') names"
    );
    let mut counts = connection.prepare(&counts)?;
    let waits = counts.query_map([], |row| {
        Ok(Waits {
            sink: text(row, 0)?,
            count: u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0),
            bytes: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
            oldest: row.get::<_, Option<i64>>(3)?.map(WallTime),
            next: row.get::<_, Option<i64>>(4)?.map(MonotonicTime),
            jumped,
            cause: None,
            causes: Vec::new(),
            state: optional_text(row, 5)?,
        })
    })?;
    let mut waits: Vec<Waits> = waits.collect::<rusqlite::Result<_>>()?;
    for sink in &mut waits {
        let cause = format!(
            "SELECT cause FROM (SELECT id, due AS next FROM {heads} WHERE sink = ? ORDER BY next DESC LIMIT {LOOKED_AT}) \
             JOIN deliveries USING (id) WHERE cause IS NOT NULL ORDER BY next DESC LIMIT 1"
        );
        sink.cause = connection.query_row(&cause, [&sink.sink], |row| text(row, 0)).optional()?;
        let causes = format!(
            "SELECT cause, count(*) FROM {heads} h JOIN deliveries d USING (id) WHERE h.sink = ? AND cause IS NOT NULL \
             GROUP BY cause ORDER BY count(*) DESC, cause LIMIT {MAX_CAUSES}"
        );
        let mut causes = connection.prepare(&causes)?;
        let causes = causes.query_map([&sink.sink], |row| Ok((text(row, 0)?, row.get::<_, i64>(1)?)))?;
        sink.causes = causes
            .map(|row| row.map(|(cause, count)| (cause, u64::try_from(count).unwrap_or(0))))
            .collect::<rusqlite::Result<_>>()?;
    }
    Ok(waits)
}

/// Which deliveries to list.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Of this sink; none: of all.
    pub sink: Option<String>,
    /// Whose message can have this text in its body, also where JSON writes some of it as escapes: who asks looks closer.
    pub may_contain: Option<String>,
}

/// One delivery that waits, to list it.
#[derive(Debug)]
pub struct ListedDelivery {
    /// Its number.
    pub id: RowId,
    /// None: its row can't be read, for that reason.
    pub waiting: Result<Waiting, String>,
    /// When it is due; none: it waits behind an earlier one of its key.
    pub due: Option<MonotonicTime>,
}

/// Gives deliveries that wait to `each`, in the order in which they were handed in, until there are no more or `each` has seen enough.
pub fn list_deliveries(
    path: &Path,
    filter: &DeliveryFilter,
    mut each: impl FnMut(ListedDelivery) -> ControlFlow<()>,
) -> Result<(), SpoolError> {
    let Some(connection) = open_to_read(path)? else { return Ok(()) };
    let mut last = 0;
    loop {
        let page = delivery_page(&connection, filter, last).map_err(SpoolError::sqlite(path))?;
        let Some(newest) = page.last() else { return Ok(()) };
        last = newest.id.0;
        for listed in page {
            if each(listed).is_break() {
                return Ok(());
            }
        }
    }
}

/// Some of the deliveries after that one: a list that someone reads slowly must not keep the log from being emptied.
fn delivery_page(
    connection: &Connection,
    filter: &DeliveryFilter,
    after: i64,
) -> rusqlite::Result<Vec<ListedDelivery>> {
    if !has_table(connection, "deliveries")? {
        return Ok(Vec::new());
    }
    let heads = if has_table(connection, "heads")? { "heads" } else { OLD_HEADS };
    let select = format!(
        "SELECT {DELIVERY}, id, (SELECT due FROM {heads} h WHERE h.id = d.id) AS next FROM deliveries d \
         WHERE id > ?1 AND (?2 IS NULL OR +sink = ?2) AND (?3 IS NULL OR instr(body, ?3) > 0 OR instr(body, ?4) > 0) \
         ORDER BY id LIMIT {READ_AT_ONCE}"
    );
    let mut select = connection.prepare(&select)?;
    let text = filter.may_contain.as_deref().map(str::as_bytes);
    let mut rows = select.query(rusqlite::params![after, filter.sink, text, br"\".as_slice()])?;
    let (mut read, mut bytes) = (Vec::new(), 0);
    while bytes < READ_BYTES
        && let Some(row) = rows.next()?
    {
        let waiting = waiting(row).map_err(|cause| cause.to_string());
        bytes += waiting.as_ref().map_or(0, |waiting| waiting.message.size());
        let due = row.get::<_, Option<i64>>("next")?.map(MonotonicTime);
        read.push(ListedDelivery { id: RowId(row.get("id")?), waiting, due });
    }
    Ok(read)
}

fn has_table(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let is_there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?)";
    connection.query_row(is_there, [table], |row| row.get(0))
}

/// A delivery for a sink that nobody delivers to; where it can't be read, why.
pub type Orphan = (RowId, Result<Waiting, String>);

/// The next deliveries that wait for a sink after that one, if one is named, in the order in which they were handed in; one that can't be
/// read by the reason.
pub fn orphans(path: &Path, sink: &str, after: Option<RowId>) -> Result<Vec<Orphan>, SpoolError> {
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
            let waiting = waiting(row).map_err(|cause| format!("its row can't be read ({cause})"));
            bytes += waiting.as_ref().map_or(0, |waiting| waiting.message.size());
            read.push((RowId(row.get("id")?), waiting));
        }
        Ok(read)
    };
    read().map_err(SpoolError::sqlite(path))
}
