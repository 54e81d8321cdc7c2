//! Statements on digests: several deliveries of one key that are delivered together.

use rusqlite::{OptionalExtension, Row, params};

use super::deliveries::{DueHeads, MAKE_NEXT_DUE};
use super::unsigned;
use crate::clock::MonotonicTime;
use crate::failpoints::Failpoint;
use crate::rules::SinkName;
use crate::spool::SpoolError;
use crate::spool::delivery::{DigestLimit, FetchLimit, GroupTiming, Groups, RowId};
use crate::spool::digest::{Digest, FetchedDigests, WAITS_FOR_GROUP};
use crate::spool::outcome::{FetchedDeliveries, RemovedDeliveries};
use crate::spool::sqlite::database::Database;
use crate::spool::sqlite::rows::{DELIVERY_COLUMNS, decode_delivery, decode_stamp};
use crate::spool::unreadable::UnreadableDelivery;

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
        let mut fetched = FetchedDigests::default();
        for (id, due, refusals) in heads {
            let mut digest = self.read_digest(sink, id, digests, limit.up_to)?;
            if !fetched.has_room_for(&digest, limit) {
                next = Some(due);
                break;
            }
            if let Some((first, all)) = digest.fix() {
                self.fix_digest(first, &all)?;
            }
            fetched.push(digest, refusals);
        }
        Ok(fetched.into_deliveries(next))
    }

    /// Reads the digest that begins with this head, and has no delivery after `last`. A row that can't be read is no part of it.
    fn read_digest(
        &self,
        sink: &SinkName,
        head: RowId,
        limit: DigestLimit,
        last: Option<RowId>,
    ) -> rusqlite::Result<Digest> {
        let select = format!(
            "SELECT {DELIVERY_COLUMNS}, id, size FROM deliveries WHERE sink = ?1 AND id BETWEEN ?2 AND ?3 \
             AND key = (SELECT key FROM deliveries WHERE id = ?2) ORDER BY id"
        );
        let mut select = self.connection.prepare_cached(&select)?;
        let mut found = select.query(params![sink.as_str(), head.0, last.map_or(i64::MAX, |last| last.0)])?;
        let mut digest = Digest::default();
        while let Some(row) = found.next()? {
            let id = RowId(row.get("id")?);
            let size = unsigned(row.get("size")?);
            let found = match decode_delivery(row) {
                Ok(delivery) => Ok(delivery),
                Err(error) => Err(UnreadableDelivery::from_row(id, sink, row, &error)?),
            };
            if digest.push(id, found, size, limit).is_break() {
                break;
            }
        }
        Ok(digest)
    }

    /// Stores what belongs to a digest.
    fn fix_digest(&self, first: RowId, all: &[RowId]) -> rusqlite::Result<()> {
        if Failpoint::FormDigestsAnew.is_enabled() {
            return Ok(());
        }
        let mut fix = self.connection.prepare_cached("UPDATE deliveries SET digest = ?2 WHERE id = ?1")?;
        for id in all {
            fix.execute(params![id.0, first.0])?;
        }
        Ok(())
    }

    /// Deletes the deliveries of a digest, and makes the next one of their key due when its group is.
    pub(in crate::spool) fn remove_digest(
        &self,
        ids: impl Iterator<Item = RowId>,
        timing: GroupTiming,
    ) -> Result<RemovedDeliveries, SpoolError> {
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
        let first = "SELECT group_by IS NOT NULL AND digest IS NULL AND id > ?3, received, boot, uptime FROM deliveries \
                     WHERE sink = ?1 AND key = ?2 ORDER BY id LIMIT 1";
        let mut first = self.connection.prepare_cached(first)?;
        let values = params![sink, key, timing.at_once_up_to.map_or(0, |last| last.0)];
        let first = first.query_row(values, |row| Ok((row.get(0)?, decode_stamp(row, 1)?))).optional()?;
        let now = MonotonicTime::now();
        let Some((true, received)) = first else { return Ok(now) };
        if self.is_full(sink, key, timing.limit)? {
            return Ok(now);
        }
        Ok(now.after(timing.wait.saturating_sub(received.age())))
    }

    /// Whether the deliveries of that key fill a digest.
    fn is_full(&self, sink: &str, key: i64, limit: DigestLimit) -> rusqlite::Result<bool> {
        let count = "SELECT count(*), coalesce(sum(size), 0) FROM \
                     (SELECT size FROM deliveries WHERE sink = ?1 AND key = ?2 ORDER BY id LIMIT ?3)";
        let most = i64::try_from(limit.count).unwrap_or(i64::MAX);
        let full = |row: &Row<'_>| Ok(row.get::<_, i64>(0)? >= most || unsigned(row.get(1)?) >= limit.bytes);
        self.connection.prepare_cached(count)?.query_row(params![sink, key, most], full)
    }

    /// Makes those of the groups due that wait for more events and are full. Returns whether there was one.
    pub(in crate::spool) fn make_full_groups_due(
        &self,
        sink: &SinkName,
        groups: &Groups,
        limit: DigestLimit,
    ) -> Result<bool, SpoolError> {
        let sink = sink.as_str();
        let make_due = || {
            let now = MonotonicTime::now();
            let mut is_due = false;
            let mut check = |key: i64| -> rusqlite::Result<()> {
                if let Some(head) = self.waiting_head(sink, key, now)?
                    && self.is_full(sink, key, limit)?
                {
                    let update = "UPDATE heads SET due = ?2 WHERE id = ?1";
                    self.connection.prepare_cached(update)?.execute(params![head, now.0])?;
                    is_due = true;
                }
                Ok(())
            };
            match groups {
                Groups::Of(keys) => keys.iter().try_for_each(|key| check(key.cast_signed()))?,
                Groups::All => self.waiting_groups(sink, now)?.into_iter().try_for_each(check)?,
            }
            Ok(is_due)
        };
        make_due().map_err(self.failed())
    }

    /// The head of a key, if it waits for more events of its group.
    fn waiting_head(&self, sink: &str, key: i64, now: MonotonicTime) -> rusqlite::Result<Option<i64>> {
        let head = format!(
            "SELECT id FROM heads WHERE id = (SELECT id FROM deliveries WHERE sink = ?1 AND key = ?2 ORDER BY id LIMIT 1) \
             AND due > ?3 AND {WAITS_FOR_GROUP}"
        );
        self.connection.prepare_cached(&head)?.query_row(params![sink, key, now.0], |row| row.get(0)).optional()
    }

    /// The keys of all groups that wait for more events.
    fn waiting_groups(&self, sink: &str, now: MonotonicTime) -> rusqlite::Result<Vec<i64>> {
        let keys = format!(
            "SELECT (SELECT key FROM deliveries WHERE id = heads.id) FROM heads \
             WHERE sink = ?1 AND due > ?2 AND {WAITS_FOR_GROUP}"
        );
        let mut keys = self.connection.prepare(&keys)?;
        keys.query_map(params![sink, now.0], |row| row.get(0))?.collect()
    }
}
