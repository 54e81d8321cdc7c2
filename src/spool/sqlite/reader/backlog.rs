//! Backlogs in the file.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use crate::clock::{ClockBase, MonotonicTime, WallTime};
use crate::spool::delivery::RowId;
use crate::spool::reader::{
    BacklogSummary, DeliveryFilter, ListedDelivery, MAX_ERRORS, MAX_HEADS_SEARCHED, PAGE_BYTES, PAGE_ROWS,
};
use crate::spool::sqlite::rows::{DELIVERY_COLUMNS, clock_base, decode_delivery, optional_text, text};

pub(super) fn deliveries_of_event(
    connection: &Connection,
    sink: &str,
    key: u64,
    event: Uuid,
) -> rusqlite::Result<Vec<ListedDelivery>> {
    let select = format!(
        "SELECT {DELIVERY_COLUMNS}, id, (SELECT due FROM heads h WHERE h.id = d.id) AS next FROM deliveries d \
         WHERE sink = ? AND key = ? AND event_id = ? ORDER BY id LIMIT {PAGE_ROWS}"
    );
    let mut select = connection.prepare(&select)?;
    let rows = select.query_map(rusqlite::params![sink, key.cast_signed(), event.as_bytes()], decode_listed)?;
    rows.collect()
}

pub(super) fn deliveries_of_events(
    connection: &Connection,
    sink: &str,
    events: &BTreeSet<Uuid>,
) -> rusqlite::Result<Vec<(Uuid, ListedDelivery)>> {
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
}

pub(super) fn summaries(connection: &Connection) -> rusqlite::Result<Vec<BacklogSummary>> {
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

pub(super) fn delivery_page(
    connection: &Connection,
    filter: &DeliveryFilter,
    after: RowId,
) -> rusqlite::Result<Vec<ListedDelivery>> {
    // `+`: by the order of ids and not by an index of the sink, which would sort all of the sink's rows for each page.
    let select = format!(
        "SELECT {DELIVERY_COLUMNS}, id, (SELECT due FROM heads h WHERE h.id = d.id) AS next FROM deliveries d \
         WHERE id > ?1 AND (?2 IS NULL OR +sink = ?2) AND (?3 IS NULL OR instr(body, ?3) > 0 OR instr(body, ?4) > 0) \
         ORDER BY id LIMIT {PAGE_ROWS}"
    );
    let mut select = connection.prepare(&select)?;
    let text = filter.may_contain.as_deref().map(str::as_bytes);
    let mut rows = select.query(rusqlite::params![after.0, filter.sink, text, br"\".as_slice()])?;
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

fn decode_listed(row: &Row<'_>) -> rusqlite::Result<ListedDelivery> {
    let delivery = decode_delivery(row).map_err(|error| error.to_string());
    let due = row.get::<_, Option<i64>>("next")?.map(MonotonicTime);
    Ok(ListedDelivery { id: RowId(row.get("id")?), delivery, due })
}
