//! Statements on deliveries and the heads of their keys.

use std::collections::HashSet;

use tokio_postgres::Row;

use super::{ids, signed};
use crate::clock::{MonotonicTime, Timestamp};
use crate::postgres::PostgresError;
use crate::postgres::{Connection, Values};
use crate::rules::{RouteName, SinkName};
use crate::spool::budget::Usage;
use crate::spool::delivery::{DeliveryRow, DueDeliveries, FetchLimit, RowId, SpooledDelivery, WaitsFor};
use crate::spool::digest::WAITS_FOR_GROUP;
use crate::spool::outcome::{FetchedDeliveries, InsertOutcome, RemovedDelivery};
use crate::spool::postgres::rows::{DELIVERY_COLUMNS, decode_delivery, decode_stamp, unsigned};
use crate::spool::postgres::text::{escape, escape_optional};

/// How many of the newest rows of its key are searched for a redelivered message. It is the largest prefetch, which bounds the messages
/// that were received after it while it was unacknowledged.
const RECALL_DEPTH: u32 = 65_536;

const ADD: &str = "INSERT INTO deliveries (id, sink, key, received, boot, uptime, attempts, last_error, route, type, tenant, \
                   event_id, source, size, properties, body, replayed, group_by) \
                   SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], \
                   $8::text[], $9::text[], $10::text[], $11::text[], $12::bytea[], $13::text[], $14::bigint[], $15::text[], $16::bytea[], \
                   $17::boolean[], $18::text[]) ON CONFLICT (id) DO NOTHING RETURNING id";
/// Makes those of the new deliveries heads that have no delivery of their key before them.
const ADD_HEADS: &str = "INSERT INTO heads (id, sink, due, refusals) \
                         SELECT new.id, new.sink, new.due, new.refusals \
                         FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) new (id, sink, key, due, refusals) \
                         WHERE NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.sink = new.sink AND d.key = new.key AND d.id < new.id) \
                         ON CONFLICT (id) DO NOTHING";
const REMOVE: &str = "DELETE FROM deliveries WHERE id = ANY($1) RETURNING id, sink, key, size";
const REMOVE_HEADS: &str = "DELETE FROM heads WHERE id = ANY($1) RETURNING id";
/// Makes the next delivery after each of these removed heads a head. No delivery of the key is older; those that were are in the index
/// until it is vacuumed, and a search from the first one would pass them all.
const NEXT_HEADS: &str = "INSERT INTO heads (id, sink, due) \
                          SELECT next.id, removed.sink, $4 FROM unnest($1::bigint[], $2::text[], $3::bigint[]) removed (id, sink, key) \
                          CROSS JOIN LATERAL (SELECT d.id FROM deliveries d WHERE d.sink = removed.sink AND d.key = removed.key \
                          AND d.id > removed.id ORDER BY d.id LIMIT 1) next ON CONFLICT (id) DO NOTHING";

/// A delivery that was deleted, with its sink.
pub(in crate::spool::postgres) type Removed = (RowId, String, RemovedDelivery);

impl Connection {
    /// Adds deliveries, each behind those of its key.
    pub(in crate::spool::postgres) async fn add_deliveries(
        &self,
        rows: &[&DeliveryRow],
    ) -> Result<Vec<InsertOutcome>, PostgresError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        macro_rules! column {
            (|$row:ident| $value:expr) => {
                rows.iter().map(|$row| $value).collect::<Vec<_>>()
            };
        }
        let ids = column!(|row| row.id.0);
        let sinks = column!(|row| row.delivery.sink.as_str());
        let keys = column!(|row| row.delivery.key.cast_signed());
        let (dues, refusals) = (column!(|row| row.delivery.due.0), column!(|row| i64::from(row.delivery.refusals)));
        let values: &Values<'_> = &[
            &ids,
            &sinks,
            &keys,
            &column!(|row| row.delivery.received.wall.0),
            &column!(|row| row.delivery.received.boot),
            &column!(|row| row.delivery.received.uptime),
            &column!(|row| i64::from(row.delivery.attempts)),
            &column!(|row| escape_optional(row.delivery.last_error.as_deref())),
            &column!(|row| row.delivery.route.as_ref().map(RouteName::as_str)),
            &column!(|row| row.delivery.kind.as_str()),
            &column!(|row| escape(&row.delivery.tenant)),
            &column!(|row| row.delivery.event_id.as_bytes().as_slice()),
            &column!(|row| row.delivery.message.source.as_str()),
            &column!(|row| signed(row.size)),
            &column!(|row| row.properties.as_str()),
            &column!(|row| &*row.delivery.message.body),
            &column!(|row| row.delivery.replayed),
            &column!(|row| row.delivery.group.as_deref()),
        ];
        let heads: &Values<'_> = &[&ids, &sinks, &keys, &dues, &refusals];
        let [added, _] = self.pipeline([(ADD, values), (ADD_HEADS, heads)]).await?;
        let added: HashSet<i64> = self.decode(&added, |row| row.try_get(0))?.into_iter().collect();
        let outcome = |row: &&DeliveryRow| {
            if added.contains(&row.id.0) { InsertOutcome::Inserted } else { InsertOutcome::AlreadyInserted }
        };
        Ok(rows.iter().map(outcome).collect())
    }

    /// Adds a delivery behind those of its key. That of a redelivered message may be recognized as an existing row, but not as one of
    /// `recognized`.
    pub(in crate::spool::postgres) async fn add_delivery(
        &self,
        row: &DeliveryRow,
        recognized: &HashSet<i64>,
    ) -> Result<InsertOutcome, PostgresError> {
        if let Some(id) = self.find_duplicate(row, recognized).await? {
            return Ok(InsertOutcome::Duplicate(id));
        }
        let inserted = self.add_deliveries(&[row]).await?;
        Ok(inserted.first().copied().unwrap_or(InsertOutcome::AlreadyInserted))
    }

    async fn find_duplicate(&self, row: &DeliveryRow, recognized: &HashSet<i64>) -> Result<Option<i64>, PostgresError> {
        let delivery = &row.delivery;
        if !delivery.may_be_known {
            return Ok(None);
        }
        let (sink, key) = (delivery.sink.as_str(), delivery.key.cast_signed());
        let event_id = delivery.event_id.as_bytes().as_slice();
        let rows = format!(
            "SELECT id FROM (SELECT id, event_id FROM deliveries WHERE sink = $1 AND key = $2 AND id < $4 \
             ORDER BY id DESC LIMIT {RECALL_DEPTH}) newest WHERE event_id = $3 ORDER BY id"
        );
        let rows = ids(self, &self.rows(&rows, &[&sink, &key, &event_id, &row.id.0]).await?)?;
        let letters = "SELECT -id FROM dead_letters WHERE identity = $1 AND sink = $2 ORDER BY id";
        let letters = ids(self, &self.rows(letters, &[&event_id, &sink]).await?)?;
        Ok(rows.into_iter().chain(letters).find(|id| !recognized.contains(id)))
    }

    /// Deletes deliveries, and makes the next one of each of their keys due. Those that are gone already are not returned.
    pub(in crate::spool::postgres) async fn remove_deliveries(
        &self,
        ids: &[i64],
    ) -> Result<Vec<Removed>, PostgresError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let (removed, heads) = self.delete_deliveries(ids).await?;
        let heads: Vec<&Removed> = removed.iter().filter(|(id, ..)| heads.contains(&id.0)).collect();
        if !heads.is_empty() {
            let ids: Vec<i64> = heads.iter().map(|(id, ..)| id.0).collect();
            let sinks: Vec<&str> = heads.iter().map(|(_, sink, _)| sink.as_str()).collect();
            let keys: Vec<i64> = heads.iter().map(|(.., row)| row.key.cast_signed()).collect();
            self.execute(NEXT_HEADS, &[&ids, &sinks, &keys, &MonotonicTime::now().0]).await?;
        }
        Ok(removed)
    }

    /// Deletes deliveries that may be the heads of their keys. Returns them, and the ids of those that were.
    pub(super) async fn delete_deliveries(&self, ids: &[i64]) -> Result<(Vec<Removed>, HashSet<i64>), PostgresError> {
        let [removed, heads] = self.pipeline([(REMOVE, &[&ids]), (REMOVE_HEADS, &[&ids])]).await?;
        let removed = self.decode(&removed, |row| {
            let removed = RemovedDelivery { key: row.try_get::<_, i64>(2)?.cast_unsigned(), size: unsigned(row, 3)? };
            Ok((RowId(row.try_get(0)?), row.try_get(1)?, removed))
        })?;
        Ok((removed, self.decode(&heads, |row| row.try_get(0))?.into_iter().collect()))
    }

    /// Makes deliveries due again, and sets their attempts and refusals; without `refusals` their number stays.
    pub(in crate::spool::postgres) async fn reschedule(
        &self,
        ids: &[i64],
        (attempts, refusals): (u32, Option<u32>),
        due: MonotonicTime,
        error: &str,
    ) -> Result<(), PostgresError> {
        let attempt = "UPDATE deliveries SET attempts = $2, last_error = $3 WHERE id = ANY($1)";
        let head = "UPDATE heads SET due = $2, refusals = coalesce($3, refusals) WHERE id = ANY($1)";
        let (attempts, refusals) = (i64::from(attempts), refusals.map(i64::from));
        let attempted: &Values<'_> = &[&ids, &attempts, &escape(error)];
        self.pipeline([(attempt, attempted), (head, &[&ids, &due.0, &refusals])]).await.map(drop)
    }

    /// Makes the deliveries of a sink that wait for this due at `at`, if they would be due later.
    pub(in crate::spool::postgres) async fn make_due(
        &self,
        sink: &SinkName,
        waits_for: WaitsFor,
        at: MonotonicTime,
    ) -> Result<(), PostgresError> {
        let in_group = waits_for.in_group();
        let update = format!(
            "UPDATE heads SET due = $2 WHERE sink = $1 AND due > $2 AND ($3::boolean IS NULL OR $3 = {WAITS_FOR_GROUP})"
        );
        self.execute(&update, &[&sink.as_str(), &at.0, &in_group]).await.map(drop)
    }

    /// The heads of a sink that are due by `now`, except `claimed` ones: each with its due time and its refusals; and the due time of the
    /// first one that is not among them.
    pub(super) async fn due_heads(
        &self,
        sink: &SinkName,
        now: MonotonicTime,
        limit: FetchLimit,
        claimed: &HashSet<RowId>,
    ) -> Result<(Vec<DueHead>, Option<MonotonicTime>), PostgresError> {
        let select = "SELECT id, due, refusals FROM heads \
                      WHERE sink = $1 AND id <= $2 AND id <> ALL($3) ORDER BY due, id LIMIT $4";
        let claimed: Vec<i64> = claimed.iter().map(|id| id.0).collect();
        let last = limit.up_to.map_or(i64::MAX, |last| last.0);
        let count = i64::try_from(limit.count).unwrap_or(i64::MAX).saturating_add(1);
        let rows = self.rows(select, &[&sink.as_str(), &last, &claimed, &count]).await?;
        let head = |row: &Row| {
            let refusals = u32::try_from(row.try_get::<_, i64>(2)?).unwrap_or(u32::MAX);
            Ok((RowId(row.try_get(0)?), MonotonicTime(row.try_get(1)?), refusals))
        };
        let mut heads = self.decode(&rows, head)?;
        let is_due = |(_, due, _): &DueHead| *due <= now;
        let due = heads.iter().take(limit.count).take_while(|head| is_due(head)).count();
        let next = heads.get(due).map(|(_, due, _)| *due);
        heads.truncate(due);
        Ok((heads, next))
    }

    /// Reads the deliveries of a sink that are due by `now`, except `claimed` ones, within `limit`. A delivery that can't be read is no
    /// error.
    pub(in crate::spool::postgres) async fn fetch_due(
        &self,
        sink: &SinkName,
        now: MonotonicTime,
        limit: FetchLimit,
        claimed: &HashSet<RowId>,
    ) -> Result<FetchedDeliveries, PostgresError> {
        let (heads, mut next) = self.due_heads(sink, now, limit, claimed).await?;
        if let Some(digests) = limit.digests {
            return self.read_digests(sink, (heads, next), limit, digests).await;
        }
        // The row that exceeds the limit is not read: bodies may be large.
        let select = format!(
            "SELECT {DELIVERY_COLUMNS}, place FROM (SELECT h.id, h.place, \
             sum(octet_length(s.body) + octet_length(s.properties)) OVER (ORDER BY h.place) AS bytes \
             FROM unnest($1::bigint[]) WITH ORDINALITY h (id, place) JOIN deliveries s ON s.id = h.id) sized \
             JOIN deliveries d ON d.id = sized.id WHERE bytes <= $2 OR place = 1 ORDER BY place"
        );
        let ids: Vec<i64> = heads.iter().map(|(id, ..)| id.0).collect();
        let most = i64::try_from(limit.bytes).unwrap_or(i64::MAX);
        let found = if ids.is_empty() { Vec::new() } else { self.rows(&select, &[&ids, &most]).await? };
        let found = self.decode(&found, |row| Ok((row.try_get::<_, i64>(17)?, decode_delivery(row)?)))?;
        let (mut rows, mut unreadable, mut read) = (Vec::with_capacity(heads.len()), Vec::new(), 0);
        for (place, found) in found {
            read = usize::try_from(place).unwrap_or(usize::MAX);
            let Some((id, _, refusals)) = heads.get(read.saturating_sub(1)).copied() else { continue };
            match found {
                Ok(delivery) => rows.push((id, SpooledDelivery { refusals, ..delivery })),
                Err(damaged) => unreadable.push(damaged.into_unreadable(id)),
            }
        }
        // It is read again as the first delivery of the next fetch.
        next = heads.get(read).map(|(_, due, _)| *due).or(next);
        Ok(FetchedDeliveries { due: DueDeliveries { rows, next }, unreadable })
    }

    /// How many deliveries of a sink there are, by the low 16 bits of their key.
    pub(in crate::spool::postgres) async fn lanes(&self, sink: &SinkName) -> Result<Vec<(u16, u32)>, PostgresError> {
        let count = "SELECT key & 65535, count(*) FROM deliveries WHERE sink = $1 GROUP BY 1";
        let lanes = self.rows_of_whole_table(count, &[&sink.as_str()]).await?;
        self.decode(&lanes, |row| {
            let (lane, count): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            Ok((u16::try_from(lane).unwrap_or(u16::MAX), u32::try_from(count).unwrap_or(u32::MAX)))
        })
    }

    /// The usage of each sink's deliveries.
    pub(in crate::spool::postgres) async fn usage(&self) -> Result<Vec<(SinkName, Usage)>, PostgresError> {
        let count = "SELECT sink, count(*), coalesce(sum(size), 0)::bigint FROM deliveries GROUP BY sink";
        let usage = self.rows_of_whole_table(count, &[]).await?;
        self.decode(&usage, |row| {
            Ok((SinkName::new(row.try_get(0)?), Usage { count: unsigned(row, 1)?, bytes: unsigned(row, 2)? }))
        })
    }

    /// When the message of a sink's oldest delivery was received.
    pub(in crate::spool::postgres) async fn oldest(&self, sink: &SinkName) -> Result<Option<Timestamp>, PostgresError> {
        let oldest = "SELECT received, boot, uptime FROM deliveries WHERE sink || '' = $1 ORDER BY received LIMIT 1";
        let oldest = self.rows(oldest, &[&sink.as_str()]).await?;
        Ok(self.decode(&oldest, |row| decode_stamp(row, 0))?.pop())
    }

    /// Makes the oldest delivery of each key its head, where it isn't. Returns how many keys were wrong.
    pub(in crate::spool::postgres) async fn repair_heads(&self) -> Result<u64, PostgresError> {
        // Each table is read once. With the settings of the connection it would be a search for each row.
        let whole = "SET LOCAL enable_seqscan TO on; SET LOCAL enable_hashjoin TO on; SET LOCAL work_mem TO '64MB'";
        self.batch(whole).await?;
        let compare = "SELECT oldest.id, heads.id FROM (SELECT DISTINCT ON (sink, key) id, sink FROM deliveries ORDER BY sink, key, id) oldest \
                       FULL JOIN heads ON heads.id = oldest.id AND heads.sink = oldest.sink \
                       WHERE oldest.id IS NULL OR heads.id IS NULL";
        let compared = self.rows_of_whole_table(compare, &[]).await?;
        let compared: Vec<(Option<i64>, Option<i64>)> =
            self.decode(&compared, |row| Ok((row.try_get(0)?, row.try_get(1)?)))?;
        let missing: Vec<i64> = compared.iter().filter_map(|(missing, _)| *missing).collect();
        let wrong: Vec<i64> = compared.iter().filter_map(|(_, wrong)| *wrong).collect();
        let insert = "INSERT INTO heads (id, sink, due) SELECT id, sink, $2 FROM deliveries WHERE id = ANY($1)";
        self.execute(REMOVE_HEADS, &[&wrong]).await?;
        self.execute(insert, &[&missing, &MonotonicTime::now().0]).await?;
        Ok(u64::try_from(wrong.len().max(missing.len())).unwrap_or(u64::MAX))
    }

    /// Deletes deliveries of a sink, the newest of a key first, at most `limit`. Returns how many.
    pub(in crate::spool::postgres) async fn purge_deliveries(
        &self,
        sink: &SinkName,
        limit: u64,
    ) -> Result<u64, PostgresError> {
        // The oldest delivery of a key goes last: it is the head.
        let newest = "SELECT id FROM deliveries WHERE sink = $1 ORDER BY key DESC, id DESC LIMIT $2";
        let newest = ids(self, &self.rows(newest, &[&sink.as_str(), &signed(limit)]).await?)?;
        let (purged, _) = self.delete_deliveries(&newest).await?;
        Ok(u64::try_from(purged.len()).unwrap_or(u64::MAX))
    }
}

/// The id of a delivery, its due time and its refusals.
pub(super) type DueHead = (RowId, MonotonicTime, u32);
