//! The journal in PostgreSQL, beside the spool: all relays write it, and each machine reads what any of them has recorded.

mod reader;
mod schema;

pub(super) use reader::PostgresReader;
pub(super) use schema::VERSION;

use std::time::{Duration, Instant};

use super::JournalError;
use super::batch::{BLOCK, BUCKET, Batch};
use super::keys::BUCKETS;
use super::store::{Contents, Store};
use crate::config::{JournalConfig, PostgresConfig};
use crate::postgres::{BlockingConnection, Connection, PostgresError};

/// What its connections are for, as errors name it.
const SUBJECT: &str = "the journal";
/// At most so many batches are deleted when one is written: more than relays write meanwhile.
const DELETED_AT_ONCE: i64 = 64;
/// A relay that records nothing looks so often for what is too old.
const IDLE_LOOK: Duration = Duration::from_mins(1);
/// What a row takes beside its content, in bytes, with its entries in indexes.
const ROW_BYTES: usize = 96;

pub(super) struct PostgresStore {
    connection: BlockingConnection,
    /// When it was written or looked at, and what it had then.
    last: Option<(Instant, Contents)>,
}

/// The row that says which batches there are.
struct Extent {
    first: i64,
    last: i64,
    records: i64,
    bytes: i64,
}

impl PostgresStore {
    pub(super) fn open(config: &PostgresConfig) -> Result<Self, JournalError> {
        let connection = BlockingConnection::open(config, SUBJECT)?;
        connection.run(async |connection| {
            // It is a record: a crash of the server may cost the last ones.
            connection.batch("SET synchronous_commit TO off").await?;
            schema::create(connection, config).await
        })?;
        Ok(Self { connection, last: None })
    }
}

impl Store for PostgresStore {
    fn write(&mut self, batch: &mut Batch, config: &JournalConfig) -> Result<Contents, JournalError> {
        if let Some((looked, contents)) = self.last
            && batch.records == 0
            && looked.elapsed() < IDLE_LOOK
        {
            return Ok(contents);
        }
        let contents = self.connection.run(async |connection| write(connection, batch, config).await)?;
        self.last = Some((Instant::now(), contents));
        Ok(contents)
    }
}

async fn write(connection: &Connection, batch: &mut Batch, config: &JournalConfig) -> Result<Contents, JournalError> {
    connection.batch("BEGIN").await?;
    // One relay writes at a time, so that the numbers are in the order of the commits. Waits for a transaction of this relay whose end is
    // unknown.
    let extent = "SELECT first, last, records, bytes FROM journal FOR UPDATE";
    let is_stored = "SELECT EXISTS (SELECT FROM journal_batches WHERE mark = $1)";
    let extent = connection.rows(extent, &[]).await?;
    let extent = connection.decode(&extent, |row| {
        Ok(Extent { first: row.try_get(0)?, last: row.try_get(1)?, records: row.try_get(2)?, bytes: row.try_get(3)? })
    })?;
    let mut extent = extent.into_iter().next().ok_or_else(|| JournalError::no_extent(&config.store))?;
    let is_stored = connection.rows(is_stored, &[&batch.mark]).await?;
    let is_stored = connection.decode(&is_stored, |row| row.try_get::<_, bool>(0))?.pop().unwrap_or(false);
    let is_new = batch.records > 0 && !is_stored;
    let buckets: Vec<_> = batch.buckets().collect();
    let bytes = if is_new { size(batch, &buckets) } else { 0 };
    delete_oldest(connection, &mut extent, bytes, config).await?;
    if is_new {
        extent.last += 1;
        extent.records += i64::from(batch.records);
        extent.bytes += bytes;
        insert(connection, extent.last, bytes, batch, &buckets).await?;
    }
    let Extent { first, last, records, bytes } = extent;
    let set = "UPDATE journal SET first = $1, last = $2, records = $3, bytes = $4";
    let oldest = "SELECT at FROM journal_batches WHERE id = $1";
    let [_, oldest] = connection.pipeline([(set, &[&first, &last, &records, &bytes]), (oldest, &[&first])]).await?;
    let oldest = connection.decode(&oldest, |row| row.try_get(0))?.pop();
    connection.batch("COMMIT").await?;
    Ok(Contents { records: records.cast_unsigned(), bytes: bytes.cast_unsigned(), oldest })
}

/// About what it takes on the disk, in bytes.
fn size(batch: &Batch, buckets: &[(i64, Vec<u8>)]) -> i64 {
    let blocks = batch.blocks.iter().map(Vec::len);
    let words = buckets.iter().map(|(_, words)| words.len());
    let rows: usize = blocks.chain(words).map(|content| content + ROW_BYTES).sum();
    i64::try_from(rows + ROW_BYTES).unwrap_or(i64::MAX)
}

/// Deletes the batches that are too old, and as many of the oldest ones as a new one of `bytes` requires.
async fn delete_oldest(
    connection: &Connection,
    extent: &mut Extent,
    bytes: i64,
    config: &JournalConfig,
) -> Result<(), PostgresError> {
    let keep = i64::try_from(config.keep.as_millis()).unwrap_or(i64::MAX);
    let too_much = extent.bytes.saturating_add(bytes).saturating_sub_unsigned(config.max_size);
    let until = "SELECT max(id) FROM (SELECT id, at, sum(bytes) OVER (ORDER BY id) - bytes AS before \
                 FROM journal_batches WHERE id >= $1 ORDER BY id LIMIT $2) oldest \
                 WHERE at < extract(epoch FROM clock_timestamp()) * 1000 - $3::bigint OR before < $4::bigint";
    let until = connection.rows(until, &[&extent.first, &DELETED_AT_ONCE, &keep, &too_much]).await?;
    let Some(until) = connection.decode(&until, |row| row.try_get::<_, Option<i64>>(0))?.pop().flatten() else {
        return Ok(());
    };
    let batches = "WITH deleted AS (DELETE FROM journal_batches WHERE id BETWEEN $1 AND $2 RETURNING records, bytes) \
                   SELECT sum(records)::bigint, sum(bytes)::bigint FROM deleted";
    let blocks = "DELETE FROM journal_blocks WHERE id BETWEEN $1 AND $2";
    let keys = "DELETE FROM journal_keys USING generate_series(0, $1::bigint) AS bucket \
                WHERE id BETWEEN bucket * $2::bigint + $3::bigint AND bucket * $2::bigint + $4::bigint";
    let (first_block, last_block) = (extent.first * BLOCK, until * BLOCK + BLOCK - 1);
    let last_bucket = i64::from(BUCKETS) - 1;
    let [deleted, ..] = connection
        .pipeline([
            (batches, &[&extent.first, &until]),
            (blocks, &[&first_block, &last_block]),
            (keys, &[&last_bucket, &BUCKET, &extent.first, &until]),
        ])
        .await?;
    let deleted = connection.decode(&deleted, |row| Ok((row.try_get::<_, i64>(0)?, row.try_get::<_, i64>(1)?)))?;
    for (records, bytes) in deleted {
        extent.records -= records;
        extent.bytes -= bytes;
    }
    extent.first = until + 1;
    Ok(())
}

async fn insert(
    connection: &Connection,
    id: i64,
    bytes: i64,
    batch: &Batch,
    buckets: &[(i64, Vec<u8>)],
) -> Result<(), PostgresError> {
    let (first, last) = batch.received.unzip();
    let records = i32::try_from(batch.records).unwrap_or(i32::MAX);
    let block_ids: Vec<i64> = (id * BLOCK..).take(batch.blocks.len()).collect();
    let (key_ids, words): (Vec<i64>, Vec<&[u8]>) =
        buckets.iter().map(|(bucket, words)| (bucket * BUCKET + id, words.as_slice())).unzip();
    let add = "INSERT INTO journal_batches (id, mark, at, first, last, records, bytes) \
               VALUES ($1, $2, extract(epoch FROM clock_timestamp()) * 1000, $3, $4, $5, $6)";
    let add_blocks = "INSERT INTO journal_blocks (id, records) SELECT * FROM unnest($1::bigint[], $2::bytea[])";
    let add_keys = "INSERT INTO journal_keys (id, words) SELECT * FROM unnest($1::bigint[], $2::bytea[])";
    let values: &crate::postgres::Values<'_> = &[&id, &batch.mark, &first, &last, &records, &bytes];
    connection
        .pipeline([(add, values), (add_blocks, &[&block_ids, &batch.blocks]), (add_keys, &[&key_ids, &words])])
        .await
        .map(|_| ())
}
