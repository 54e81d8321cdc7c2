//! Reads the file beside a running relay.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};

use super::KIND;
use crate::journal::batch::{BLOCK, BUCKET};
use crate::journal::store::StoreReader;
use crate::journal::{JournalError, RequestKey};

#[derive(Debug)]
pub(in crate::journal) struct SqliteReader {
    connection: Connection,
    path: PathBuf,
}

impl SqliteReader {
    /// `None`: there is no file.
    pub(in crate::journal) fn open(path: &Path) -> Result<Option<Self>, JournalError> {
        let connection = KIND.open_to_read(path).map_err(JournalError::open(path))?;
        Ok(connection.map(|connection| Self { connection, path: path.to_owned() }))
    }
}

impl StoreReader for SqliteReader {
    fn oldest(&self) -> Result<Option<i64>, JournalError> {
        oldest(&self.connection).map_err(JournalError::sqlite(&self.path))
    }

    fn blocks_of(&self, key: RequestKey) -> Result<Vec<i64>, JournalError> {
        let bucket = i64::from(key.bucket()) * BUCKET;
        let read = || -> rusqlite::Result<Vec<i64>> {
            let keys = "SELECT id, words FROM keys WHERE id BETWEEN ? AND ? ORDER BY id";
            let mut keys = self.connection.prepare_cached(keys)?;
            let mut rows = keys.query([bucket, bucket + BUCKET - 1])?;
            let mut blocks = Vec::new();
            while let Some(row) = rows.next()? {
                let batch = row.get::<_, i64>(0)? - bucket;
                let words = row.get_ref(1)?.as_blob()?;
                blocks.extend(key.blocks(words).map(|block| batch * BLOCK + i64::from(block)));
            }
            Ok(blocks)
        };
        read().map_err(JournalError::sqlite(&self.path))
    }

    fn block(&self, id: i64) -> Result<Option<Vec<u8>>, JournalError> {
        self.connection
            .prepare_cached("SELECT records FROM blocks WHERE id = ?")
            .and_then(|mut block| block.query_row([id], |row| row.get(0)).optional())
            .map_err(JournalError::sqlite(&self.path))
    }

    fn next_block(&self, after: i64, (since, until): (i64, i64)) -> Result<Option<(i64, Vec<u8>)>, JournalError> {
        // The rest of the batch, or the first block of a later one.
        let next = "SELECT b.id, b.records FROM batches JOIN blocks b ON b.id BETWEEN batches.id << 16 AND (batches.id << 16) + 65535 \
                    WHERE batches.id >= ?1 >> 16 AND first <= ?3 AND last >= ?2 AND b.id > ?1 ORDER BY batches.id, b.id LIMIT 1";
        let block = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        self.connection
            .prepare_cached(next)
            .and_then(|mut next| next.query_row([after, since, until], block).optional())
            .map_err(JournalError::sqlite(&self.path))
    }
}

pub(super) fn oldest(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection.query_row("SELECT at FROM batches ORDER BY id LIMIT 1", [], |row| row.get(0)).optional()
}
