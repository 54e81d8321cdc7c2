//! The rows in SQLite: all statements of the writer.

use std::collections::HashSet;

use rusqlite::types::ToSql;
use rusqlite::{OptionalExtension, Row, params, params_from_iter};

use super::budget::Sizes;
use super::damaged::{Damaged, optional_text, text};
use super::database::Database;
use super::delivery::{Due, Portion, RowId, Waiting};
use super::letter::LetterRow;
use super::purge::Scope;
use super::rows::{DELIVERY, clock_base, stamp, waiting};
use super::store::{DeliveryRow, GoneDelivery, GoneLetter, Remembered, Store, Taken, Written};
use super::{SpoolError, Tallied};
use crate::clock::{AgeCutoff, ClockBase, MonotonicTime, Timestamp, WallTime};
use crate::failpoints::Failpoint;
use crate::rules::{RouteName, SinkName};

/// Pages given back to the file system at once.
const VACUUM_PAGES: usize = 2_000;
/// … and where the disk has little room: each of them is written to the log first.
const SMALL_VACUUM_PAGES: usize = 32;
/// So many free pages stay in the file: what comes next takes them.
const KEPT_PAGES: i64 = 4_096;
/// So many of the newest rows of a key are looked at for a redelivered message's: what came after a message while it was
/// unacknowledged is bounded by the largest prefetch.
const RECALL_DEPTH: u32 = 65_536;
/// The only shard there is: all of the source.
const WHOLE: i64 = 0;
/// What is now the oldest of a sink's key is due.
const MAKE_NEXT_DUE: &str = "INSERT INTO heads (id, sink, due) \
                             SELECT id, sink, ?3 FROM deliveries WHERE sink = ?1 AND key = ?2 ORDER BY id LIMIT 1 \
                             ON CONFLICT (id) DO NOTHING";

impl Store for Database {
    fn transact<T>(&self, work: impl FnOnce() -> Result<T, SpoolError>) -> Result<T, SpoolError> {
        let transaction = self.connection.unchecked_transaction().map_err(self.failed())?;
        let done = work()?;
        transaction.commit().map_err(self.failed())?;
        self.check_moved()?;
        Ok(done)
    }

    fn set_batch(&self, number: i64) -> Result<(), SpoolError> {
        let update = "UPDATE batch SET number = ?";
        let update = self.connection.prepare_cached(update).and_then(|mut update| update.execute([number]));
        update.map(|_| ()).map_err(self.failed())
    }

    fn last_batch(&self) -> Result<i64, SpoolError> {
        self.connection.query_row("SELECT number FROM batch", [], |row| row.get(0)).map_err(self.failed())
    }

    fn add_letter(&self, row: &LetterRow, taken: &HashSet<i64>) -> Result<Written, SpoolError> {
        self.insert_letter(row, taken).map_err(self.failed())
    }

    fn add_delivery(&self, row: &DeliveryRow, taken: &HashSet<i64>) -> Result<Written, SpoolError> {
        self.insert_delivery(row, taken).map_err(self.failed())
    }

    fn remove(&self, id: RowId) -> Result<Option<GoneDelivery>, SpoolError> {
        let remove = || {
            // `RETURNING` would make a table for its one row.
            let find = "SELECT sink, key, size FROM deliveries WHERE id = ?";
            let found = self
                .connection
                .prepare_cached(find)?
                .query_row([id.0], |row| Ok((text(row, 0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)));
            let Some((sink, key, size)) = found.optional()? else { return Ok(None) };
            self.connection.prepare_cached("DELETE FROM deliveries WHERE id = ?")?.execute([id.0])?;
            self.connection.prepare_cached("DELETE FROM heads WHERE id = ?")?.execute([id.0])?;
            self.connection.prepare_cached(MAKE_NEXT_DUE)?.execute(params![sink, key, MonotonicTime::now().0])?;
            let size = unsigned(self.old_sizes.delivery(id.0, size));
            Ok(Some(GoneDelivery { key: key.cast_unsigned(), size }))
        };
        remove().map_err(self.failed())
    }

    fn reschedule(
        &self,
        id: RowId,
        (attempts, refusals): (u32, Option<u32>),
        due: MonotonicTime,
        cause: &str,
    ) -> Result<(), SpoolError> {
        let update = || {
            let failed = "UPDATE deliveries SET attempts = ?2, cause = ?3 WHERE id = ?1";
            self.connection.prepare_cached(failed)?.execute(params![id.0, attempts, cause])?;
            let later = "UPDATE heads SET due = ?2, refusals = coalesce(?3, refusals) WHERE id = ?1";
            self.connection.prepare_cached(later)?.execute(params![id.0, due.0, refusals]).map(|_| ())
        };
        update().map_err(self.failed())
    }

    fn make_due(&self, sink: &SinkName, then: MonotonicTime) -> Result<(), SpoolError> {
        let update = "UPDATE heads SET due = ?2 WHERE sink = ?1 AND due > ?2";
        self.connection.execute(update, params![sink.as_str(), then.0]).map(|_| ()).map_err(self.failed())
    }

    fn due(
        &self,
        sink: &SinkName,
        now: MonotonicTime,
        portion: Portion,
        claimed: &HashSet<RowId>,
    ) -> Result<Taken, SpoolError> {
        let mut next = None;
        let mut heads = Vec::new();
        let mut find = || -> rusqlite::Result<()> {
            let select = "SELECT id, due, refusals FROM heads WHERE sink = ? ORDER BY due, id";
            let mut select = self.connection.prepare_cached(select)?;
            let mut found = select.query([sink.as_str()])?;
            while let Some(row) = found.next()? {
                let (id, due) = (RowId(row.get(0)?), MonotonicTime(row.get(1)?));
                if claimed.contains(&id) {
                    continue;
                }
                if due > now || heads.len() >= portion.count {
                    next = Some(due);
                    break;
                }
                heads.push((id, due, row.get::<_, u32>(2)?));
            }
            Ok(())
        };
        find().map_err(self.failed())?;
        let read = || -> rusqlite::Result<Taken> {
            let select = format!("SELECT {DELIVERY}, boot, uptime FROM deliveries WHERE id = ?");
            let mut select = self.connection.prepare_cached(&select)?;
            let (mut rows, mut damaged, mut bytes) = (Vec::with_capacity(heads.len()), Vec::new(), 0_usize);
            for (id, due, refusals) in heads {
                let read = |row: &Row<'_>| match waiting(row) {
                    Ok(waiting) => Ok(Ok(Waiting { received: stamp(row, waiting.received.wall, 12), ..waiting })),
                    Err(cause) if Failpoint::StopAtADamagedRow.is_enabled() => Err(cause),
                    Err(cause) => Damaged::of(id, sink, row, &cause).map(Err),
                };
                // A head without its delivery is due for nobody.
                let Some(found) = select.query_row([id.0], read).optional()? else { continue };
                let size = found.as_ref().map_or_else(Damaged::size, |waiting| waiting.message.size());
                if bytes > 0 && bytes.saturating_add(size) > portion.bytes {
                    // It is the first of the next portion, and read once more.
                    next = Some(due);
                    break;
                }
                bytes = bytes.saturating_add(size);
                match found {
                    Ok(waiting) => rows.push((id, Waiting { refusals, ..waiting })),
                    Err(broken) => damaged.push(broken),
                }
            }
            Ok(Taken { due: Due { rows, next }, damaged })
        };
        read().map_err(self.failed())
    }

    fn lanes(&self, sink: &SinkName) -> Result<Vec<(u16, u32)>, SpoolError> {
        let count = || {
            let count = "SELECT key & 65535, count(*) FROM deliveries WHERE sink = ? GROUP BY 1";
            let mut count = self.connection.prepare(count)?;
            let lanes = count.query_map([sink.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            lanes.collect::<rusqlite::Result<_>>()
        };
        count().map_err(self.failed())
    }

    fn sizes(&self) -> Result<Vec<(SinkName, Sizes)>, SpoolError> {
        let count = || {
            let size = self.old_sizes.sum_of_deliveries();
            let count = format!("SELECT sink, count(*), {size} FROM deliveries GROUP BY sink");
            let mut count = self.connection.prepare(&count)?;
            let sizes = count.query_map([], |row| {
                let sizes = Sizes { count: unsigned(row.get(1)?), bytes: unsigned(row.get(2)?) };
                Ok((SinkName::new(&text(row, 0)?), sizes))
            })?;
            sizes.collect::<rusqlite::Result<_>>()
        };
        count().map_err(self.failed())
    }

    fn oldest(&self, sink: &SinkName) -> Result<Option<Timestamp>, SpoolError> {
        let find = || {
            let oldest = "SELECT received, boot, uptime FROM deliveries WHERE sink = ? ORDER BY received LIMIT 1";
            let mut oldest = self.connection.prepare_cached(oldest)?;
            oldest.query_row([sink.as_str()], |row| Ok(stamp(row, WallTime(row.get(0)?), 1))).optional()
        };
        find().map_err(self.failed())
    }

    fn clock(&self) -> Result<Option<ClockBase>, SpoolError> {
        clock_base(&self.connection).map_err(self.failed())
    }

    fn set_clock(&self, ClockBase { boot, base }: ClockBase) -> Result<(), SpoolError> {
        let set = "INSERT INTO clock (id, boot, base) VALUES (1, ?1, ?2) \
                   ON CONFLICT (id) DO UPDATE SET boot = excluded.boot, base = excluded.base";
        self.connection.execute(set, [boot, base]).map(|_| ()).map_err(self.failed())
    }

    fn mend_heads(&self) -> Result<u64, SpoolError> {
        let mend = || -> rusqlite::Result<usize> {
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
        self.transact(|| mend().map(|mended| u64::try_from(mended).unwrap_or(u64::MAX)).map_err(self.failed()))
    }

    fn last_ids(&self) -> Result<(i64, i64), SpoolError> {
        let last = "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'dead_letters'), 0), \
                    coalesce((SELECT max(id) FROM dead_letters), 0)), coalesce((SELECT max(id) FROM deliveries), 0)";
        let last: rusqlite::Result<(i64, i64)> =
            self.connection.query_row(last, [], |row| Ok((row.get(0)?, row.get(1)?)));
        let (letter, delivery) = last.map_err(self.failed())?;
        // Up to that id sizes are old ones.
        Ok((letter, delivery.max(self.old_sizes.deliveries)))
    }

    fn tally(&self) -> Result<Tallied, SpoolError> {
        let count = || -> rusqlite::Result<_> {
            let size = self.old_sizes.sum_of_letters();
            let count = format!("SELECT reason, sink, count(*), {size} FROM dead_letters GROUP BY reason, sink");
            let mut statement = self.connection.prepare(&count)?;
            let mut rows = statement.query([])?;
            let (mut kept, mut bytes) = (Vec::new(), 0_u64);
            while let Some(row) = rows.next()? {
                bytes = bytes.saturating_add(unsigned(row.get(3)?));
                let sink = optional_text(row, 1)?;
                // A word that only a later version knows takes room, but has no counter here.
                if let Ok(reason) = text(row, 0)?.parse() {
                    kept.push((reason, sink.as_deref().map(SinkName::new), unsigned(row.get(2)?)));
                }
            }
            Ok(Tallied { kept, bytes })
        };
        count().map_err(self.failed())
    }

    fn purge(&self, which: &Scope<'_>, limit: u64) -> Result<u64, SpoolError> {
        let (which, mut values) = match which {
            Scope::Asked(filter) => {
                let (conditions, values) = filter.conditions();
                (format!("{conditions} {}", filter.order()), values)
            }
            Scope::ThisBoot(AgeCutoff { boot, uptime, .. }) => {
                let values: Vec<Box<dyn ToSql>> = vec![Box::new(*boot), Box::new(*uptime)];
                ("boot = ? AND uptime < ? ORDER BY uptime".to_owned(), values)
            }
            Scope::OtherBoots(AgeCutoff { boot, wall, .. }) => {
                let values: Vec<Box<dyn ToSql>> = vec![Box::new(*boot), Box::new(wall.0)];
                ("boot IS NOT ? AND at < ? ORDER BY at".to_owned(), values)
            }
        };
        values.push(Box::new(i64::try_from(limit).unwrap_or(i64::MAX)));
        let query = format!("DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE {which} LIMIT ?)");
        let purged = self.connection.execute(&query, params_from_iter(values)).map_err(self.failed())?;
        Ok(u64::try_from(purged).unwrap_or(u64::MAX))
    }

    fn purge_deliveries(&self, sink: &SinkName, limit: u64) -> Result<u64, SpoolError> {
        // The oldest of a key is the last of it to go: it is the one that is due.
        let purge = |table| {
            let newest = "SELECT id FROM deliveries WHERE sink = ? ORDER BY key DESC, id DESC LIMIT ?";
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            self.connection
                .execute(&format!("DELETE FROM {table} WHERE id IN ({newest})"), params![sink.as_str(), limit])
        };
        // Both or neither: a key without its head would never be delivered.
        self.transact(|| {
            purge("heads").map_err(self.failed())?;
            let purged = purge("deliveries").map_err(self.failed())?;
            Ok(u64::try_from(purged).unwrap_or(u64::MAX))
        })
    }

    fn give_back(&self, all: bool, is_tight: bool) -> Result<bool, SpoolError> {
        let keep = if all { 0 } else { KEPT_PAGES };
        let pages = if is_tight { SMALL_VACUUM_PAGES } else { VACUUM_PAGES };
        let give = || -> rusqlite::Result<bool> {
            let free: i64 = self.connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
            if free <= keep {
                return Ok(false);
            }
            self.vacuum(pages)?;
            let left: i64 = self.connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
            Ok(left > keep && left < free)
        };
        give().map_err(self.failed())
    }

    fn remember(&self, Remembered { of, state }: &Remembered) -> Result<(), SpoolError> {
        let (kind, name) = of.parts();
        let done = match state {
            Some(state) => self.connection.execute(
                "INSERT INTO states (kind, name, state) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (kind, name) DO UPDATE SET state = excluded.state",
                [kind, name, state],
            ),
            None => self.connection.execute("DELETE FROM states WHERE kind = ? AND name = ?", [kind, name]),
        };
        done.map(|_| ()).map_err(self.failed())
    }

    fn states(&self) -> Result<Vec<(String, String, String)>, SpoolError> {
        let read = || {
            let mut states = self.connection.prepare("SELECT kind, name, state FROM states")?;
            let states = states.query_map([], |row| Ok((text(row, 0)?, text(row, 1)?, text(row, 2)?)))?;
            states.collect::<rusqlite::Result<_>>()
        };
        read().map_err(self.failed())
    }

    fn remove_letter(&self, id: i64) -> Result<Option<GoneLetter>, SpoolError> {
        let remove = || {
            let delete = "DELETE FROM dead_letters WHERE id = ? RETURNING reason, sink, size";
            let mut delete = self.connection.prepare_cached(delete)?;
            let gone = delete.query_row([id], |row| {
                Ok(GoneLetter {
                    reason: text(row, 0)?.parse().ok(),
                    sink: optional_text(row, 1)?.as_deref().map(SinkName::new),
                    size: unsigned(self.old_sizes.letter(id, row.get(2)?)),
                })
            });
            gone.optional()
        };
        remove().map_err(self.failed())
    }
}

impl Database {
    fn insert_letter(&self, row: &LetterRow, taken: &HashSet<i64>) -> rusqlite::Result<Written> {
        let letter = &row.letter;
        let sink = letter.sink.as_ref().map(SinkName::as_str);
        if letter.message.redelivered && row.is_received {
            let known = "SELECT -id FROM dead_letters WHERE identity = ? AND sink IS ? AND id < ? ORDER BY id";
            let mut known = self.connection.prepare_cached(known)?;
            if let Some(known) = first_free(known.query(params![row.identity.as_slice(), sink, row.id])?, taken)? {
                return Ok(Written::Known(known));
            }
        }
        let insert = "INSERT INTO dead_letters (id, at, reason, detail, sink, source, tenant, status, correlation_id, \
                      event_id, attempts, size, properties, body, identity, route, type, boot, uptime) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19) \
                      ON CONFLICT (id) DO NOTHING";
        let inserted = self.connection.prepare_cached(insert)?.execute(params![
            row.id,
            row.at.wall.0,
            letter.reason.as_str(),
            letter.detail,
            sink,
            letter.message.source.as_str(),
            letter.tenant,
            letter.status,
            letter.correlation_id,
            letter.event_id.as_ref().map(|id| id.as_bytes().as_slice()),
            letter.attempts,
            signed(row.size),
            row.properties,
            &*letter.message.body,
            row.identity.as_slice(),
            letter.route.as_ref().map(RouteName::as_str),
            letter.kind,
            row.at.boot,
            row.at.uptime,
        ])?;
        Ok(if inserted > 0 { Written::New } else { Written::Again })
    }

    fn insert_delivery(&self, row: &DeliveryRow, taken: &HashSet<i64>) -> rusqlite::Result<Written> {
        let waiting = &row.waiting;
        let (sink, key) = (waiting.sink.as_str(), waiting.key.cast_signed());
        let event_id = waiting.event_id.as_bytes().as_slice();
        if waiting.may_be_known {
            let rows = format!(
                "SELECT id FROM (SELECT id, event_id FROM deliveries WHERE sink = ?1 AND key = ?2 AND id < ?4 \
                 ORDER BY id DESC LIMIT {RECALL_DEPTH}) WHERE event_id = ?3 ORDER BY id"
            );
            let mut rows = self.connection.prepare_cached(&rows)?;
            if let Some(known) = first_free(rows.query(params![sink, key, event_id, row.id.0])?, taken)? {
                return Ok(Written::Known(known));
            }
            let mut letters = self
                .connection
                .prepare_cached("SELECT -id FROM dead_letters WHERE identity = ? AND sink = ? ORDER BY id")?;
            if let Some(known) = first_free(letters.query(params![event_id, sink])?, taken)? {
                return Ok(Written::Known(known));
            }
        }
        let first = "INSERT INTO heads (id, sink, due, refusals) SELECT ?1, ?2, ?4, ?5 \
                     WHERE NOT EXISTS (SELECT 1 FROM deliveries WHERE sink = ?2 AND key = ?3)";
        self.connection.prepare_cached(first)?.execute(params![
            row.id.0,
            sink,
            key,
            waiting.due.0,
            waiting.refusals
        ])?;
        let insert = "INSERT INTO deliveries (id, sink, key, received, attempts, cause, route, type, tenant, \
                      event_id, source, shard, size, properties, body, boot, uptime) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) \
                      ON CONFLICT (id) DO NOTHING";
        let inserted = self.connection.prepare_cached(insert)?.execute(params![
            row.id.0,
            sink,
            key,
            waiting.received.wall.0,
            waiting.attempts,
            waiting.cause,
            waiting.route.as_ref().map(RouteName::as_str),
            waiting.kind,
            &*waiting.tenant,
            event_id,
            waiting.message.source.as_str(),
            WHOLE,
            signed(row.size),
            row.properties,
            &*waiting.message.body,
            waiting.received.boot,
            waiting.received.uptime,
        ])?;
        Ok(if inserted > 0 { Written::New } else { Written::Again })
    }

    fn vacuum(&self, pages: usize) -> rusqlite::Result<()> {
        // Frees one page a row of its result.
        let mut vacuum = self.connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut pages = vacuum.query([])?;
        while pages.next()?.is_some() {}
        Ok(())
    }

    fn failed(&self) -> impl FnOnce(rusqlite::Error) -> SpoolError + use<> {
        SpoolError::sqlite(self.path())
    }
}

/// The first id that no other redelivered message was taken for.
fn first_free(mut ids: rusqlite::Rows<'_>, taken: &HashSet<i64>) -> rusqlite::Result<Option<i64>> {
    while let Some(row) = ids.next()? {
        let id = row.get(0)?;
        if !taken.contains(&id) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Counts and sizes are far below what both types hold.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn what_follows_each_delivery_is_compiled_once() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(&directory.path().join("spool.db")).unwrap();
        for id in 1..=3 {
            let row = "INSERT INTO deliveries (id, sink, key, received, attempts, type, tenant, event_id, source, shard, size, \
                       properties, body) VALUES (?1, 'sink', ?1, 0, 0, '', '', x'', '', 0, 1, '{}', x'')";
            database.connection.execute(row, [id]).unwrap();
            assert_eq!(database.remove(RowId(id)).unwrap(), Some(GoneDelivery { key: id.cast_unsigned(), size: 1 }));
        }
        let statement = database.connection.prepare_cached(MAKE_NEXT_DUE).unwrap();
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
        assert_eq!(statement.get_status(StatementStatus::Run), 3);
    }
}
