//! Statements on digests: several deliveries of one key that are delivered together.

use rusqlite::{OptionalExtension, params};

use super::deliveries::{DueHeads, MAKE_NEXT_DUE};
use crate::clock::MonotonicTime;
use crate::failpoints::Failpoint;
use crate::rules::SinkName;
use crate::spool::SpoolError;
use crate::spool::database::Database;
use crate::spool::delivery::{DigestLimit, DueDeliveries, FetchLimit, GroupTiming, RowId, SpooledDelivery};
use crate::spool::outcome::{FetchedDeliveries, RemovedDelivery};
use crate::spool::rows::{DELIVERY_COLUMNS, decode_delivery, decode_stamp};
use crate::spool::unreadable::UnreadableDelivery;

/// Between two deliveries of a digest there are at most so many others: redriven ones whose numbers were given before, and damaged ones.
const MAX_BETWEEN: usize = 100;

/// The deliveries of one digest.
#[derive(Default)]
struct Digest {
    /// In the order of receipt.
    rows: Vec<(RowId, SpooledDelivery)>,
    unreadable: Vec<UnreadableDelivery>,
    bytes: usize,
}

impl Digest {
    fn size(&self) -> usize {
        self.unreadable.iter().fold(self.bytes, |sum, row| sum.saturating_add(row.size()))
    }

    /// It was put together before, and stays as it is.
    fn is_fixed(&self) -> bool {
        self.rows.first().is_some_and(|(_, first)| first.digest.is_some())
    }

    /// Whether that delivery belongs to it.
    fn takes(&self, row: &SpooledDelivery, limit: DigestLimit) -> bool {
        let Some((_, first)) = self.rows.first() else { return true };
        if first.digest.is_some() {
            return row.digest == first.digest;
        }
        first.group.is_some()
            && row.group == first.group
            && row.digest.is_none()
            && self.rows.len() < limit.count
            && self.bytes.saturating_add(row.message.size()) <= limit.bytes
    }
}

impl Database {
    /// Reads the digests that begin with these heads. What belongs to a digest is stored: it stays the same, however often the digest is
    /// attempted.
    pub(super) fn read_digests(
        &self,
        sink: &SinkName,
        DueHeads { heads, mut next }: DueHeads,
        limit: FetchLimit,
        digests: DigestLimit,
    ) -> rusqlite::Result<FetchedDeliveries> {
        let (mut rows, mut unreadable, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
        for (id, due, refusals) in heads {
            let mut digest = self.read_digest(sink, id, digests)?;
            let size = digest.size();
            let has_room = rows.len() + digest.rows.len() <= limit.count && bytes.saturating_add(size) <= limit.bytes;
            if !rows.is_empty() && !has_room {
                next = Some(due);
                break;
            }
            bytes = bytes.saturating_add(size);
            if !digest.is_fixed() {
                self.fix_digest(&mut digest)?;
            }
            if let Some((_, first)) = digest.rows.first_mut() {
                first.refusals = refusals;
            }
            rows.append(&mut digest.rows);
            unreadable.append(&mut digest.unreadable);
        }
        Ok(FetchedDeliveries { due: DueDeliveries { rows, next }, unreadable })
    }

    /// Reads the digest that begins with this head. A row that can't be read is no part of it.
    fn read_digest(&self, sink: &SinkName, head: RowId, limit: DigestLimit) -> rusqlite::Result<Digest> {
        let select = format!(
            "SELECT {DELIVERY_COLUMNS}, id FROM deliveries WHERE sink = ?1 AND id >= ?2 \
             AND key = (SELECT key FROM deliveries WHERE id = ?2) ORDER BY id"
        );
        let mut select = self.connection.prepare_cached(&select)?;
        let mut found = select.query(params![sink.as_str(), head.0])?;
        let (mut digest, mut between) = (Digest::default(), 0);
        while let Some(row) = found.next()? {
            let id = RowId(row.get("id")?);
            match decode_delivery(row) {
                Err(error) if digest.unreadable.len() < MAX_BETWEEN => {
                    digest.unreadable.push(UnreadableDelivery::from_row(id, sink, row, &error)?);
                }
                Ok(delivery) if digest.takes(&delivery, limit) => {
                    digest.bytes = digest.bytes.saturating_add(delivery.message.size());
                    digest.rows.push((id, delivery));
                }
                Ok(_) if digest.is_fixed() && between < MAX_BETWEEN => between += 1,
                Ok(_) | Err(_) => break,
            }
        }
        Ok(digest)
    }

    /// Stores what belongs to the digest.
    fn fix_digest(&self, digest: &mut Digest) -> rusqlite::Result<()> {
        let Some((first, _)) = digest.rows.first() else { return Ok(()) };
        let first = *first;
        let mut fix = self.connection.prepare_cached("UPDATE deliveries SET digest = ?2 WHERE id = ?1")?;
        for (id, row) in &mut digest.rows {
            if !Failpoint::FormDigestsAnew.is_enabled() {
                fix.execute(params![id.0, first.0])?;
            }
            row.digest = Some(first);
        }
        Ok(())
    }

    /// Deletes the deliveries of a digest, and makes the next one of their key due when its group is.
    pub(in crate::spool) fn remove_digest(
        &self,
        ids: impl Iterator<Item = RowId>,
        timing: GroupTiming,
    ) -> Result<Vec<(RowId, Option<RemovedDelivery>)>, SpoolError> {
        let remove = || {
            let (mut all, mut of) = (Vec::new(), None);
            for id in ids {
                let removed = self.delete_delivery(id)?.map(|(sink, removed)| {
                    of = Some((sink, removed.key.cast_signed()));
                    removed
                });
                all.push((id, removed));
            }
            if let Some((sink, key)) = of {
                let due = self.next_digest_due(&sink, key, timing)?;
                self.connection.prepare_cached(MAKE_NEXT_DUE)?.execute(params![sink, key, due.0])?;
            }
            Ok(all)
        };
        remove().map_err(self.failed())
    }

    fn next_digest_due(&self, sink: &str, key: i64, timing: GroupTiming) -> rusqlite::Result<MonotonicTime> {
        let first = "SELECT group_by IS NULL OR digest IS NOT NULL, received, boot, uptime FROM deliveries \
                     WHERE sink = ?1 AND key = ?2 ORDER BY id LIMIT 1";
        let mut first = self.connection.prepare_cached(first)?;
        let first = first.query_row(params![sink, key], |row| Ok((row.get(0)?, decode_stamp(row, 1)?))).optional()?;
        let now = MonotonicTime::now();
        let Some((false, received)) = first else { return Ok(now) };
        let count = "SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE sink = ?1 AND key = ?2 LIMIT ?3)";
        let max = i64::try_from(timing.max).unwrap_or(i64::MAX);
        let count: i64 = self.connection.prepare_cached(count)?.query_row(params![sink, key, max], |row| row.get(0))?;
        Ok(if count >= max { now } else { now.after(timing.wait.saturating_sub(received.age())) })
    }

    /// Makes the group of that key due, if it waits for more events.
    pub(in crate::spool) fn make_group_due(&self, sink: &SinkName, key: u64) -> Result<(), SpoolError> {
        let update = "UPDATE heads SET due = min(due, ?3) WHERE id = (SELECT id FROM deliveries WHERE sink = ?1 AND key = ?2 \
                      ORDER BY id LIMIT 1) AND (SELECT digest FROM deliveries d WHERE d.id = heads.id) IS NULL";
        let values = params![sink.as_str(), key.cast_signed(), MonotonicTime::now().0];
        let update = self.connection.prepare_cached(update).and_then(|mut update| update.execute(values));
        update.map(|_| ()).map_err(self.failed())
    }
}
