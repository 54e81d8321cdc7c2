//! Statements on deliveries and the heads of their keys.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, Row, params};

use super::{first_unrecognized, signed, unsigned};
use crate::clock::{MonotonicTime, Timestamp};
use crate::failpoints::Failpoint;
use crate::rules::{RouteName, SinkName};
use crate::spool::SpoolError;
use crate::spool::budget::Usage;
use crate::spool::delivery::{DeliveryRow, DueDeliveries, FetchLimit, RowId, SpooledDelivery, WaitsFor};
use crate::spool::digest::WAITS_FOR_GROUP;
use crate::spool::outcome::{FetchedDeliveries, InsertOutcome, RemovedDelivery};
use crate::spool::sqlite::database::Database;
use crate::spool::sqlite::rows::{DELIVERY_COLUMNS, decode_delivery, decode_stamp, text};
use crate::spool::unreadable::UnreadableDelivery;

/// How many of the newest rows of its key are searched for a redelivered message. It is the largest prefetch, which bounds the messages
/// that were received after it while it was unacknowledged.
const RECALL_DEPTH: u32 = 65_536;
/// Makes the oldest delivery of a sink's key its head.
pub(super) const MAKE_NEXT_DUE: &str = "INSERT INTO heads (id, sink, due) \
                             SELECT id, sink, ?3 FROM deliveries WHERE sink = ?1 AND key = ?2 ORDER BY id LIMIT 1 \
                             ON CONFLICT (id) DO NOTHING";

/// The due heads of a sink that are fetched, and the due time of the first one that is not.
pub(super) struct DueHeads {
    /// Each with its due time and its refusals.
    pub(super) heads: Vec<(RowId, MonotonicTime, u32)>,
    pub(super) next: Option<MonotonicTime>,
}

impl Database {
    /// Adds a delivery behind those of its key. That of a redelivered message may be recognized as an existing row, but not as one of
    /// `recognized`.
    pub(in crate::spool) fn add_delivery(
        &self,
        row: &DeliveryRow,
        recognized: &HashSet<i64>,
    ) -> Result<InsertOutcome, SpoolError> {
        let add = || match self.find_duplicate(row, recognized)? {
            Some(id) => Ok(InsertOutcome::Duplicate(id)),
            None => self.insert_delivery(row),
        };
        add().map_err(self.failed())
    }

    fn find_duplicate(&self, row: &DeliveryRow, recognized: &HashSet<i64>) -> rusqlite::Result<Option<i64>> {
        let delivery = &row.delivery;
        if !delivery.may_be_known {
            return Ok(None);
        }
        let (sink, key) = (delivery.sink.as_str(), delivery.key.cast_signed());
        let event_id = delivery.event_id.as_bytes().as_slice();
        let rows = format!(
            "SELECT id FROM (SELECT id, event_id FROM deliveries WHERE sink = ?1 AND key = ?2 AND id < ?4 \
             ORDER BY id DESC LIMIT {RECALL_DEPTH}) WHERE event_id = ?3 ORDER BY id"
        );
        let mut rows = self.connection.prepare_cached(&rows)?;
        if let Some(id) = first_unrecognized(rows.query(params![sink, key, event_id, row.id.0])?, recognized)? {
            return Ok(Some(id));
        }
        let letters = "SELECT -id FROM dead_letters WHERE identity = ? AND sink = ? ORDER BY id";
        let mut letters = self.connection.prepare_cached(letters)?;
        first_unrecognized(letters.query(params![event_id, sink])?, recognized)
    }

    fn insert_delivery(&self, row: &DeliveryRow) -> rusqlite::Result<InsertOutcome> {
        let delivery = &row.delivery;
        let (sink, key) = (delivery.sink.as_str(), delivery.key.cast_signed());
        let head = "INSERT INTO heads (id, sink, due, refusals) SELECT ?1, ?2, ?4, ?5 \
                    WHERE NOT EXISTS (SELECT 1 FROM deliveries WHERE sink = ?2 AND key = ?3)";
        let head_values = params![row.id.0, sink, key, delivery.due.0, delivery.refusals];
        self.connection.prepare_cached(head)?.execute(head_values)?;
        let insert = "INSERT INTO deliveries (id, sink, key, received, boot, uptime, attempts, last_error, route, type, tenant, \
                      event_id, source, size, properties, body, replayed, group_by) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18) \
                      ON CONFLICT (id) DO NOTHING";
        let inserted = self.connection.prepare_cached(insert)?.execute(params![
            row.id.0,
            sink,
            key,
            delivery.received.wall.0,
            delivery.received.boot,
            delivery.received.uptime,
            delivery.attempts,
            delivery.last_error,
            delivery.route.as_ref().map(RouteName::as_str),
            delivery.kind,
            &*delivery.tenant,
            delivery.event_id.as_bytes().as_slice(),
            delivery.message.source.as_str(),
            signed(row.size),
            row.properties,
            &*delivery.message.body,
            delivery.replayed,
            delivery.group.as_deref(),
        ])?;
        Ok(if inserted > 0 { InsertOutcome::Inserted } else { InsertOutcome::AlreadyInserted })
    }

    /// Deletes a delivery, and makes the next one of its key due; `None` if it is gone already.
    pub(in crate::spool) fn remove_delivery(&self, id: RowId) -> Result<Option<RemovedDelivery>, SpoolError> {
        let remove = || {
            let Some((sink, removed)) = self.delete_delivery(id)? else { return Ok(None) };
            let next = params![sink, removed.key.cast_signed(), MonotonicTime::now().0];
            self.connection.prepare_cached(MAKE_NEXT_DUE)?.execute(next)?;
            Ok(Some(removed))
        };
        remove().map_err(self.failed())
    }

    /// Deletes a delivery that may be the head of its key. Returns its sink.
    pub(super) fn delete_delivery(&self, id: RowId) -> rusqlite::Result<Option<(String, RemovedDelivery)>> {
        // `RETURNING` would make a table for its one row.
        let find = "SELECT sink, key, size FROM deliveries WHERE id = ?";
        let found = self
            .connection
            .prepare_cached(find)?
            .query_row([id.0], |row| Ok((text(row, 0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)));
        let Some((sink, key, size)) = found.optional()? else { return Ok(None) };
        self.connection.prepare_cached("DELETE FROM deliveries WHERE id = ?")?.execute([id.0])?;
        self.connection.prepare_cached("DELETE FROM heads WHERE id = ?")?.execute([id.0])?;
        Ok(Some((sink, RemovedDelivery { key: key.cast_unsigned(), size: unsigned(size) })))
    }

    /// Makes a delivery due again, and sets its attempts and refusals; without `refusals` their number stays.
    pub(in crate::spool) fn reschedule(
        &self,
        id: RowId,
        (attempts, refusals): (u32, Option<u32>),
        due: MonotonicTime,
        error: &str,
    ) -> Result<(), SpoolError> {
        let update = || {
            let attempt = "UPDATE deliveries SET attempts = ?2, last_error = ?3 WHERE id = ?1";
            self.connection.prepare_cached(attempt)?.execute(params![id.0, attempts, error])?;
            let head = "UPDATE heads SET due = ?2, refusals = coalesce(?3, refusals) WHERE id = ?1";
            self.connection.prepare_cached(head)?.execute(params![id.0, due.0, refusals]).map(|_| ())
        };
        update().map_err(self.failed())
    }

    /// Makes the deliveries of a sink that wait for this due at `at`, if they would be due later.
    pub(in crate::spool) fn make_due(
        &self,
        sink: &SinkName,
        waits_for: WaitsFor,
        at: MonotonicTime,
    ) -> Result<(), SpoolError> {
        let in_group = waits_for.in_group();
        let update = format!(
            "UPDATE heads SET due = ?2 WHERE sink = ?1 AND due > ?2 AND (?3 IS NULL OR ?3 = {WAITS_FOR_GROUP})"
        );
        self.connection.execute(&update, params![sink.as_str(), at.0, in_group]).map(|_| ()).map_err(self.failed())
    }

    /// Reads the deliveries of a sink that are due by `now`, except `claimed` ones, within `limit`. A delivery that can't be read is no
    /// error.
    pub(in crate::spool) fn fetch_due(
        &self,
        sink: &SinkName,
        now: MonotonicTime,
        limit: FetchLimit,
        claimed: &HashSet<RowId>,
    ) -> Result<FetchedDeliveries, SpoolError> {
        let heads = self.due_heads(sink, now, limit, claimed);
        heads.and_then(|heads| self.read_heads(sink, heads, limit)).map_err(self.failed())
    }

    fn due_heads(
        &self,
        sink: &SinkName,
        now: MonotonicTime,
        limit: FetchLimit,
        claimed: &HashSet<RowId>,
    ) -> rusqlite::Result<DueHeads> {
        let mut due_heads = DueHeads { heads: Vec::new(), next: None };
        let select = "SELECT id, due, refusals FROM heads WHERE sink = ? ORDER BY due, id";
        let mut select = self.connection.prepare_cached(select)?;
        let mut found = select.query([sink.as_str()])?;
        while let Some(row) = found.next()? {
            let (id, due) = (RowId(row.get(0)?), MonotonicTime(row.get(1)?));
            let is_later = limit.up_to.is_some_and(|last| id > last);
            if is_later || claimed.contains(&id) {
                continue;
            }
            if due > now || due_heads.heads.len() >= limit.count {
                due_heads.next = Some(due);
                break;
            }
            due_heads.heads.push((id, due, row.get(2)?));
        }
        Ok(due_heads)
    }

    fn read_heads(
        &self,
        sink: &SinkName,
        DueHeads { heads, mut next }: DueHeads,
        limit: FetchLimit,
    ) -> rusqlite::Result<FetchedDeliveries> {
        if let Some(digests) = limit.digests {
            return self.read_digests(sink, DueHeads { heads, next }, limit, digests);
        }
        let select = format!("SELECT {DELIVERY_COLUMNS} FROM deliveries WHERE id = ?");
        let mut select = self.connection.prepare_cached(&select)?;
        let (mut rows, mut unreadable, mut bytes) = (Vec::with_capacity(heads.len()), Vec::new(), 0_usize);
        for (id, due, refusals) in heads {
            let read = |row: &Row<'_>| match decode_delivery(row) {
                Ok(delivery) => Ok(Ok(delivery)),
                Err(error) if Failpoint::StopAtADamagedRow.is_enabled() => Err(error),
                Err(error) => UnreadableDelivery::from_row(id, sink, row, &error).map(Err),
            };
            // A head without its delivery is skipped.
            let Some(found) = select.query_row([id.0], read).optional()? else { continue };
            let size = found.as_ref().map_or_else(UnreadableDelivery::size, |delivery| delivery.message.size());
            if bytes > 0 && bytes.saturating_add(size) > limit.bytes {
                // It is read again as the first delivery of the next fetch.
                next = Some(due);
                break;
            }
            bytes = bytes.saturating_add(size);
            match found {
                Ok(delivery) => rows.push((id, SpooledDelivery { refusals, ..delivery })),
                Err(delivery) => unreadable.push(delivery),
            }
        }
        Ok(FetchedDeliveries { due: DueDeliveries { rows, next }, unreadable })
    }

    /// How many deliveries of a sink there are, by the low 16 bits of their key.
    pub(in crate::spool) fn lanes(&self, sink: &SinkName) -> Result<Vec<(u16, u32)>, SpoolError> {
        let count = || {
            let count = "SELECT key & 65535, count(*) FROM deliveries WHERE sink = ? GROUP BY 1";
            let mut count = self.connection.prepare(count)?;
            let lanes = count.query_map([sink.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            lanes.collect::<rusqlite::Result<_>>()
        };
        count().map_err(self.failed())
    }

    /// The usage of each sink's deliveries.
    pub(in crate::spool) fn usage(&self) -> Result<Vec<(SinkName, Usage)>, SpoolError> {
        let count = || {
            let count = "SELECT sink, count(*), coalesce(sum(size), 0) FROM deliveries GROUP BY sink";
            let mut count = self.connection.prepare(count)?;
            let usage = count.query_map([], |row| {
                let usage = Usage { count: unsigned(row.get(1)?), bytes: unsigned(row.get(2)?) };
                Ok((SinkName::new(&text(row, 0)?), usage))
            })?;
            usage.collect::<rusqlite::Result<_>>()
        };
        count().map_err(self.failed())
    }

    /// When the message of a sink's oldest delivery was received.
    pub(in crate::spool) fn oldest(&self, sink: &SinkName) -> Result<Option<Timestamp>, SpoolError> {
        let find = || {
            let oldest = "SELECT received, boot, uptime FROM deliveries WHERE sink = ? ORDER BY received LIMIT 1";
            let mut oldest = self.connection.prepare_cached(oldest)?;
            oldest.query_row([sink.as_str()], |row| decode_stamp(row, 0)).optional()
        };
        find().map_err(self.failed())
    }

    /// Makes the oldest delivery of each key its head, where it isn't. Returns how many keys were wrong.
    pub(in crate::spool) fn repair_heads(&self) -> Result<u64, SpoolError> {
        let repair = || -> rusqlite::Result<usize> {
            let wrong = "DELETE FROM heads WHERE NOT EXISTS (SELECT 1 FROM deliveries d \
                         WHERE d.id = heads.id AND d.sink = heads.sink AND NOT EXISTS (SELECT 1 FROM deliveries earlier \
                         WHERE earlier.sink = d.sink AND earlier.key = d.key AND earlier.id < d.id))";
            let wrong = self.connection.execute(wrong, [])?;
            let missing = "INSERT INTO heads (id, sink, due) SELECT first.id, first.sink, ? \
                           FROM (SELECT min(id) AS id, sink FROM deliveries GROUP BY sink, key) first \
                           WHERE NOT EXISTS (SELECT 1 FROM heads WHERE heads.id = first.id)";
            let missing = self.connection.execute(missing, [MonotonicTime::now().0])?;
            Ok(wrong.max(missing))
        };
        self.transact(|| repair().map(|repaired| u64::try_from(repaired).unwrap_or(u64::MAX)).map_err(self.failed()))
    }

    /// Deletes deliveries of a sink, the newest of a key first, at most `limit`. Returns how many.
    pub(in crate::spool) fn purge_deliveries(&self, sink: &SinkName, limit: u64) -> Result<u64, SpoolError> {
        // The oldest delivery of a key goes last: it is the head.
        let purge = |table| {
            let newest = "SELECT id FROM deliveries WHERE sink = ? ORDER BY key DESC, id DESC LIMIT ?";
            let delete = format!("DELETE FROM {table} WHERE id IN ({newest})");
            self.connection.execute(&delete, params![sink.as_str(), signed(limit)]).map_err(self.failed())
        };
        // In one transaction: a key without its head would never be delivered.
        self.transact(|| {
            purge("heads")?;
            Ok(u64::try_from(purge("deliveries")?).unwrap_or(u64::MAX))
        })
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn the_statement_that_follows_each_delivery_is_compiled_once() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(&directory.path().join("spool.db")).unwrap();
        for id in 1..=3_i64 {
            let row = "INSERT INTO deliveries (id, sink, key, received, boot, uptime, attempts, replayed, type, tenant, event_id, source, size, \
                       properties, body) VALUES (?1, 'sink', ?1, 0, 0, 0, 0, 0, '', '', x'', '', 1, '{}', x'')";
            database.connection.execute(row, [id]).unwrap();
            let removed = RemovedDelivery { key: id.cast_unsigned(), size: 1 };
            assert_eq!(database.remove_delivery(RowId(id)).unwrap(), Some(removed));
        }
        let statement = database.connection.prepare_cached(MAKE_NEXT_DUE).unwrap();
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
        assert_eq!(statement.get_status(StatementStatus::Run), 3);
    }
}
