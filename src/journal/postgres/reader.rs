//! Reads the journal in PostgreSQL, each request in a transaction of its own.

use tokio_postgres::Row;

use super::{SUBJECT, schema};
use crate::config::PostgresConfig;
use crate::journal::batch::{BLOCK, BUCKET};
use crate::journal::store::StoreReader;
use crate::journal::{JournalError, RequestKey};
use crate::postgres::{BlockingConnection, Values};

/// So many rows with keys are read at a time. Those of a busy journal have up to 100 kB.
const KEYS_AT_ONCE: i64 = 200;

#[derive(Debug)]
pub(in crate::journal) struct PostgresReader(BlockingConnection);

impl PostgresReader {
    /// `None`: nothing was ever written.
    pub(in crate::journal) fn open(config: &PostgresConfig) -> Result<Option<Self>, JournalError> {
        let connection = BlockingConnection::open(config, SUBJECT)?;
        let exists = connection.run(async |connection| schema::check(connection, config).await)?;
        Ok(exists.then_some(Self(connection)))
    }

    fn rows<T: Send>(
        &self,
        statement: &str,
        values: &Values<'_>,
        decode: impl FnMut(&Row) -> Result<T, tokio_postgres::Error> + Send,
    ) -> Result<Vec<T>, JournalError> {
        self.0.run(async |connection| {
            let rows = connection.rows(statement, values).await?;
            Ok(connection.decode(&rows, decode)?)
        })
    }
}

impl StoreReader for PostgresReader {
    fn oldest(&self) -> Result<Option<i64>, JournalError> {
        let oldest = "SELECT at FROM journal JOIN journal_batches ON id = journal.first";
        Ok(self.rows(oldest, &[], |row| row.try_get(0))?.pop())
    }

    fn blocks_of(&self, key: RequestKey) -> Result<Vec<i64>, JournalError> {
        let bucket = i64::from(key.bucket()) * BUCKET;
        let keys = "SELECT id, words FROM journal_keys WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3";
        let (mut after, mut blocks) = (bucket, Vec::new());
        loop {
            let values: &Values<'_> = &[&after, &(bucket + BUCKET), &KEYS_AT_ONCE];
            let page = self.rows(keys, values, |row| Ok((row.try_get::<_, i64>(0)?, row.try_get::<_, Vec<u8>>(1)?)))?;
            let Some((last, _)) = page.last() else { return Ok(blocks) };
            after = *last;
            for (id, words) in page {
                blocks.extend(key.blocks(&words).map(|block| (id - bucket) * BLOCK + i64::from(block)));
            }
        }
    }

    fn block(&self, id: i64) -> Result<Option<Vec<u8>>, JournalError> {
        Ok(self.rows("SELECT records FROM journal_blocks WHERE id = $1", &[&id], |row| row.try_get(0))?.pop())
    }

    fn next_block(&self, after: i64, (since, until): (i64, i64)) -> Result<Option<(i64, Vec<u8>)>, JournalError> {
        // The rest of the batch, or the first block of a later one.
        let next = "SELECT b.id, b.records FROM journal_batches batch \
                    JOIN journal_blocks b ON b.id BETWEEN batch.id << 16 AND (batch.id << 16) + 65535 \
                    WHERE batch.id >= $1::bigint >> 16 AND first <= $3 AND last >= $2 AND b.id > $1 \
                    ORDER BY batch.id, b.id LIMIT 1";
        Ok(self.rows(next, &[&after, &since, &until], |row| Ok((row.try_get(0)?, row.try_get(1)?)))?.pop())
    }
}
