//! Backlogs for people: the spooled deliveries of each sink.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::{PAGE_BYTES, PAGE_ROWS};
use crate::clock::{ClockBase, MonotonicTime, WallTime};
use crate::spool::SpoolError;
use crate::spool::database::open_to_read;
use crate::spool::delivery::{RowId, SpooledDelivery};
use crate::spool::rows::{DELIVERY_COLUMNS, clock_base, decode_delivery, optional_text, text};

/// How many deliveries are searched for the last error: those that are due last, as they were attempted last.
const MAX_HEADS_SEARCHED: usize = 1_000;
/// How many different errors are shown for one sink.
const MAX_ERRORS: usize = 20;

/// The spooled deliveries of one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BacklogSummary {
    pub sink: String,
    pub count: u64,
    pub bytes: u64,
    /// When the message of the oldest delivery was received.
    pub oldest: Option<WallTime>,
    /// When the first delivery is due.
    pub next_due: Option<MonotonicTime>,
    /// By how much the wall clock has jumped ahead of due times, in milliseconds.
    pub jumped: i64,
    /// The last error of the deliveries that are due last.
    pub last_error: Option<String>,
    /// The last errors of the oldest deliveries of all keys, each with its number: the most frequent ones first, at most [`MAX_ERRORS`].
    pub errors: Vec<(String, u64)>,
    /// The sink's saved state, as JSON.
    pub state: Option<String>,
}

impl BacklogSummary {
    /// What the wall clock will say at `moment`, for people.
    #[must_use]
    pub fn to_wall(&self, moment: MonotonicTime) -> WallTime {
        WallTime(moment.0.saturating_add(self.jumped))
    }
}

/// The backlogs in the spool at `path`, by sink. A spool in which nothing was stored yet is no error.
pub fn read_backlogs(path: &Path) -> Result<Vec<BacklogSummary>, SpoolError> {
    let Some(connection) = open_to_read(path)? else { return Ok(Vec::new()) };
    read(&connection).map_err(SpoolError::sqlite(path))
}

fn read(connection: &Connection) -> rusqlite::Result<Vec<BacklogSummary>> {
    let jumped = clock_base(connection)?.map_or(0, ClockBase::jump);
    let backlogs = "SELECT name, (SELECT count(*) FROM deliveries WHERE sink = name), \
                    (SELECT coalesce(sum(size), 0) FROM deliveries WHERE sink = name), \
                    (SELECT min(received) FROM deliveries WHERE sink = name), \
                    (SELECT min(due) FROM heads WHERE sink = name), \
                    (SELECT state FROM states s WHERE s.kind = 'sink' AND s.name = names.name) \
                    FROM (SELECT DISTINCT sink AS name FROM deliveries UNION SELECT name FROM states WHERE kind = 'sink') names";
    let mut backlogs = connection.prepare(backlogs)?;
    let backlogs = backlogs.query_map([], |row| {
        Ok(BacklogSummary {
            sink: text(row, 0)?,
            count: u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0),
            bytes: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
            oldest: row.get::<_, Option<i64>>(3)?.map(WallTime),
            next_due: row.get::<_, Option<i64>>(4)?.map(MonotonicTime),
            jumped,
            last_error: None,
            errors: Vec::new(),
            state: optional_text(row, 5)?,
        })
    })?;
    let mut backlogs: Vec<BacklogSummary> = backlogs.collect::<rusqlite::Result<_>>()?;
    for backlog in &mut backlogs {
        backlog.last_error = last_error(connection, &backlog.sink)?;
        backlog.errors = errors(connection, &backlog.sink)?;
    }
    Ok(backlogs)
}

fn last_error(connection: &Connection, sink: &str) -> rusqlite::Result<Option<String>> {
    let select = format!(
        "SELECT last_error FROM (SELECT id, due FROM heads WHERE sink = ? ORDER BY due DESC LIMIT {MAX_HEADS_SEARCHED}) \
         JOIN deliveries USING (id) WHERE last_error IS NOT NULL ORDER BY due DESC LIMIT 1"
    );
    connection.query_row(&select, [sink], |row| text(row, 0)).optional()
}

fn errors(connection: &Connection, sink: &str) -> rusqlite::Result<Vec<(String, u64)>> {
    let select = format!(
        "SELECT last_error, count(*) FROM heads h JOIN deliveries d USING (id) WHERE h.sink = ? AND last_error IS NOT NULL \
         GROUP BY last_error ORDER BY count(*) DESC, last_error LIMIT {MAX_ERRORS}"
    );
    let mut select = connection.prepare(&select)?;
    let errors =
        select.query_map([sink], |row| Ok((text(row, 0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0))))?;
    errors.collect()
}

#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    pub sink: Option<String>,
    /// Only deliveries whose body may contain this text. JSON can write a text with escapes, so bodies with escapes are listed, too: the
    /// caller has to decode them.
    pub may_contain: Option<String>,
}

#[derive(Debug)]
pub struct ListedDelivery {
    pub id: RowId,
    /// The error says why its row can't be read.
    pub delivery: Result<SpooledDelivery, String>,
    /// None: an earlier delivery of its key has to be completed first.
    pub due: Option<MonotonicTime>,
}

/// Gives spooled deliveries to `each`, in the order in which they were spooled, until there are no more or `each` breaks.
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

/// The next deliveries that match, after the id `after`.
fn delivery_page(
    connection: &Connection,
    filter: &DeliveryFilter,
    after: i64,
) -> rusqlite::Result<Vec<ListedDelivery>> {
    // `+`: by the order of ids and not by an index of the sink, which would sort all of the sink's rows for each page.
    let select = format!(
        "SELECT {DELIVERY_COLUMNS}, id, (SELECT due FROM heads h WHERE h.id = d.id) AS next FROM deliveries d \
         WHERE id > ?1 AND (?2 IS NULL OR +sink = ?2) AND (?3 IS NULL OR instr(body, ?3) > 0 OR instr(body, ?4) > 0) \
         ORDER BY id LIMIT {PAGE_ROWS}"
    );
    let mut select = connection.prepare(&select)?;
    let text = filter.may_contain.as_deref().map(str::as_bytes);
    let mut rows = select.query(rusqlite::params![after, filter.sink, text, br"\".as_slice()])?;
    let (mut read, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES
        && let Some(row) = rows.next()?
    {
        let listed = decode_listed(row)?;
        bytes += listed.delivery.as_ref().map_or(0, |delivery| delivery.message.size());
        read.push(listed);
    }
    Ok(read)
}

/// The spooled deliveries of one event to `sink`, in order; `key` is the event's ordering key at that sink.
pub fn deliveries_of_event(path: &Path, sink: &str, key: u64, event: Uuid) -> Result<Vec<ListedDelivery>, SpoolError> {
    let Some(connection) = open_to_read(path)? else { return Ok(Vec::new()) };
    let read = || {
        let select = format!(
            "SELECT {DELIVERY_COLUMNS}, id, (SELECT due FROM heads h WHERE h.id = d.id) AS next FROM deliveries d \
             WHERE sink = ? AND key = ? AND event_id = ? ORDER BY id LIMIT {PAGE_ROWS}"
        );
        let mut select = connection.prepare(&select)?;
        let rows = select.query_map(rusqlite::params![sink, key.cast_signed(), event.as_bytes()], decode_listed)?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(SpoolError::sqlite(path))
}

/// The spooled deliveries of these events to `sink`, in order. Reads an entry of an index for each delivery to that sink.
pub fn deliveries_of_events(
    path: &Path,
    sink: &str,
    events: &BTreeSet<Uuid>,
) -> Result<Vec<(Uuid, ListedDelivery)>, SpoolError> {
    let Some(connection) = open_to_read(path)? else { return Ok(Vec::new()) };
    let read = || {
        let mut ids =
            connection.prepare("SELECT id, event_id FROM deliveries INDEXED BY deliveries_by_key WHERE sink = ?")?;
        let mut ids = ids.query([sink])?;
        let mut found = BTreeMap::new();
        while let Some(row) = ids.next()? {
            let event = row.get_ref(1)?.as_blob().ok().and_then(|id| Uuid::from_slice(id).ok());
            if let Some(event) = event.filter(|event| events.contains(event)) {
                found.insert(row.get::<_, i64>(0)?, event);
            }
        }
        let select = format!(
            "SELECT {DELIVERY_COLUMNS}, id, (SELECT due FROM heads h WHERE h.id = d.id) AS next FROM deliveries d WHERE id = ?"
        );
        let mut select = connection.prepare(&select)?;
        let mut listed = Vec::with_capacity(found.len());
        for (id, event) in found {
            // It may be delivered by now.
            listed.extend(select.query_row([id], decode_listed).optional()?.map(|delivery| (event, delivery)));
        }
        Ok(listed)
    };
    read().map_err(SpoolError::sqlite(path))
}

fn decode_listed(row: &Row<'_>) -> rusqlite::Result<ListedDelivery> {
    let delivery = decode_delivery(row).map_err(|error| error.to_string());
    let due = row.get::<_, Option<i64>>("next")?.map(MonotonicTime);
    Ok(ListedDelivery { id: RowId(row.get("id")?), delivery, due })
}

/// A delivery for a sink that is not in the configuration. The error says why its row can't be read.
pub type Orphan = (RowId, Result<SpooledDelivery, String>);

/// The next deliveries of a sink after the id `after`, in the order in which they were spooled.
pub fn read_orphans(path: &Path, sink: &str, after: Option<RowId>) -> Result<Vec<Orphan>, SpoolError> {
    let filter = DeliveryFilter { sink: Some(sink.to_owned()), may_contain: None };
    let Some(connection) = open_to_read(path)? else { return Ok(Vec::new()) };
    let page = delivery_page(&connection, &filter, after.map_or(0, |after| after.0));
    let orphan = |listed: ListedDelivery| {
        (listed.id, listed.delivery.map_err(|error| format!("its row can't be read ({error})")))
    };
    Ok(page.map_err(SpoolError::sqlite(path))?.into_iter().map(orphan).collect())
}
