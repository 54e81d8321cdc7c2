//! Statements on digests: several deliveries of one key that are delivered together.

use futures_util::future::try_join_all;
use tokio_postgres::Row;

use super::deliveries::DueHead;
use super::ids;
use crate::clock::MonotonicTime;
use crate::failpoints::Failpoint;
use crate::postgres::Connection;
use crate::postgres::PostgresError;
use crate::rules::SinkName;
use crate::spool::delivery::{DigestLimit, FetchLimit, GroupTiming, Groups, RowId};
use crate::spool::digest::{Digest, FetchedDigests, WAITS_FOR_GROUP};
use crate::spool::outcome::{FetchedDeliveries, RemovedDeliveries};
use crate::spool::postgres::rows::{DELIVERY_COLUMNS, decode_delivery, decode_stamp, unsigned};

/// How many rows of a key are read at once.
const PAGE: i64 = 100;

/// How many digests are read at the same time. Those that exceed the limit of a fetch are read in vain.
const DIGESTS_AT_ONCE: usize = 8;

impl Connection {
    /// Reads the digests that begin with these heads. What belongs to a digest is stored: it stays the same, however often the digest is
    /// attempted.
    pub(super) async fn read_digests(
        &self,
        sink: &SinkName,
        (heads, mut next): (Vec<DueHead>, Option<MonotonicTime>),
        limit: FetchLimit,
        digests: DigestLimit,
    ) -> Result<FetchedDeliveries, PostgresError> {
        let mut fetched = FetchedDigests::default();
        let (mut ids, mut firsts) = (Vec::new(), Vec::new());
        'all: for heads in heads.chunks(DIGESTS_AT_ONCE) {
            let read = heads.iter().map(|(id, ..)| self.read_digest(sink, *id, digests, limit.up_to));
            for (mut digest, (_, due, refusals)) in try_join_all(read).await?.into_iter().zip(heads) {
                if !fetched.has_room_for(&digest, limit) {
                    next = Some(*due);
                    break 'all;
                }
                if let Some((first, all)) = digest.fix() {
                    firsts.extend(std::iter::repeat_n(first.0, all.len()));
                    ids.extend(all.iter().map(|id| id.0));
                }
                fetched.push(digest, *refusals);
            }
        }
        if !ids.is_empty() && !Failpoint::FormDigestsAnew.is_enabled() {
            let fix = "UPDATE deliveries SET digest = digests.first FROM unnest($1::bigint[], $2::bigint[]) digests (id, first) \
                       WHERE deliveries.id = digests.id";
            self.execute(fix, &[&ids, &firsts]).await?;
        }
        Ok(fetched.into_deliveries(next))
    }

    /// Reads the digest that begins with this head, and has no delivery after `last`. A row that can't be read is no part of it.
    async fn read_digest(
        &self,
        sink: &SinkName,
        head: RowId,
        limit: DigestLimit,
        last: Option<RowId>,
    ) -> Result<Digest, PostgresError> {
        let select = format!(
            "SELECT {DELIVERY_COLUMNS}, d.id, d.size FROM deliveries d WHERE d.sink = $1 AND d.id BETWEEN $2 AND $3 \
             AND d.key = (SELECT key FROM deliveries WHERE id = $4) ORDER BY d.id LIMIT {PAGE}"
        );
        let last = last.map_or(i64::MAX, |last| last.0);
        let (mut digest, mut from) = (Digest::default(), head.0);
        loop {
            let page = self.rows(&select, &[&sink.as_str(), &from, &last, &head.0]).await?;
            let page =
                self.decode(&page, |row| Ok((RowId(row.try_get(17)?), unsigned(row, 18)?, decode_delivery(row)?)))?;
            let is_last = page.len() < usize::try_from(PAGE).unwrap_or(0);
            for (id, size, found) in page {
                from = id.0.saturating_add(1);
                let found = found.map_err(|damaged| damaged.into_unreadable(id));
                if digest.push(id, found, size, limit).is_break() {
                    return Ok(digest);
                }
            }
            if is_last {
                return Ok(digest);
            }
        }
    }

    /// Deletes the deliveries of a digest, and makes the next one of their key due when its group is.
    pub(in crate::spool::postgres) async fn remove_digest(
        &self,
        all: &[RowId],
        timing: GroupTiming,
    ) -> Result<RemovedDeliveries, PostgresError> {
        let ids: Vec<i64> = all.iter().map(|id| id.0).collect();
        let (mut removed, _) = self.delete_deliveries(&ids).await?;
        if let Some((_, sink, row)) = removed.last() {
            let key = row.key.cast_signed();
            let due = self.next_digest_due(sink, key, timing).await?;
            let next = "INSERT INTO heads (id, sink, due) \
                        SELECT id, sink, $3 FROM deliveries WHERE sink = $1 AND key = $2 ORDER BY id LIMIT 1 \
                        ON CONFLICT (id) DO NOTHING";
            self.execute(next, &[sink, &key, &due.0]).await?;
        }
        let mut take = |id: RowId| {
            let place = removed.iter().position(|(removed, ..)| *removed == id)?;
            Some(removed.swap_remove(place).2)
        };
        Ok(all.iter().map(|id| (*id, take(*id))).collect())
    }

    async fn next_digest_due(&self, sink: &str, key: i64, timing: GroupTiming) -> Result<MonotonicTime, PostgresError> {
        let first = "SELECT group_by IS NOT NULL AND digest IS NULL AND id > $3, received, boot, uptime FROM deliveries \
                     WHERE sink = $1 AND key = $2 ORDER BY id LIMIT 1";
        let after = timing.at_once_up_to.map_or(0, |last| last.0);
        let first = self.rows(first, &[&sink, &key, &after]).await?;
        let first = self.decode(&first, |row| Ok((row.try_get(0)?, decode_stamp(row, 1)?)))?.pop();
        let now = MonotonicTime::now();
        let Some((true, received)) = first else { return Ok(now) };
        if self.is_full(sink, key, timing.limit).await? {
            return Ok(now);
        }
        Ok(now.after(timing.wait.saturating_sub(received.age())))
    }

    /// Whether the deliveries of that key fill a digest.
    async fn is_full(&self, sink: &str, key: i64, limit: DigestLimit) -> Result<bool, PostgresError> {
        let count = "SELECT count(*), coalesce(sum(size), 0)::bigint FROM \
                     (SELECT size FROM deliveries WHERE sink = $1 AND key = $2 ORDER BY id LIMIT $3) oldest";
        let most = i64::try_from(limit.count).unwrap_or(i64::MAX);
        let counted = self.rows(count, &[&sink, &key, &most]).await?;
        let full = |row: &Row| Ok(row.try_get::<_, i64>(0)? >= most || unsigned(row, 1)? >= limit.bytes);
        Ok(self.decode(&counted, full)?.pop().unwrap_or(false))
    }

    /// Makes those of the groups due that wait for more events and are full. Returns whether there was one.
    pub(in crate::spool::postgres) async fn make_full_groups_due(
        &self,
        sink: &SinkName,
        groups: &Groups,
        limit: DigestLimit,
    ) -> Result<bool, PostgresError> {
        let (sink, now) = (sink.as_str(), MonotonicTime::now());
        let keys = match groups {
            Groups::Of(keys) => keys.iter().map(|key| key.cast_signed()).collect(),
            Groups::All => self.waiting_groups(sink, now).await?,
        };
        let mut is_due = false;
        for key in keys {
            if let Some(head) = self.waiting_head(sink, key, now).await?
                && self.is_full(sink, key, limit).await?
            {
                self.execute("UPDATE heads SET due = $2 WHERE id = $1", &[&head, &now.0]).await?;
                is_due = true;
            }
        }
        Ok(is_due)
    }

    /// The head of a key, if it waits for more events of its group.
    async fn waiting_head(&self, sink: &str, key: i64, now: MonotonicTime) -> Result<Option<i64>, PostgresError> {
        let head = format!(
            "SELECT id FROM heads WHERE id = (SELECT id FROM deliveries WHERE sink = $1 AND key = $2 ORDER BY id LIMIT 1) \
             AND due > $3 AND {WAITS_FOR_GROUP}"
        );
        Ok(ids(self, &self.rows(&head, &[&sink, &key, &now.0]).await?)?.pop())
    }

    /// The keys of all groups that wait for more events.
    async fn waiting_groups(&self, sink: &str, now: MonotonicTime) -> Result<Vec<i64>, PostgresError> {
        let keys = format!(
            "SELECT (SELECT key FROM deliveries WHERE id = heads.id) FROM heads \
             WHERE sink = $1 AND due > $2 AND {WAITS_FOR_GROUP}"
        );
        ids(self, &self.rows(&keys, &[&sink, &now.0]).await?)
    }
}
