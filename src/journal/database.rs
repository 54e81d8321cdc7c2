//! The file of the journal as its only writer uses it, and the statements on its tables.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::JournalError;
use super::keys::BUCKETS;
use crate::clock::{AgeCutoff, Timestamp};
use crate::storage::{self, BUSY_TIMEOUT, FileKind, log_of};

pub(super) const SCHEMA_VERSION: i64 = 1;

pub(super) const KIND: FileKind = FileKind {
    // `RgRj`
    application_id: 0x5267_526a,
    version: SCHEMA_VERSION,
    schema: include_str!("schema.sql"),
};

/// The size of a page of the file, in bytes.
const PAGE: u64 = 4096;
/// A checkpoint starts when the write-ahead log has this many pages.
const WAL_PAGES: u64 = 512;
/// While a reader keeps the log from being emptied, no batch is written that would make it larger than this, in bytes.
const MAX_LOG: u64 = 8 * 1024 * 1024;
/// SQLite's page cache, in KiB.
const CACHE_KIB: i64 = 2 * 1024;
/// How many free pages are given back to the disk at a time, if the file is larger than its limit.
const VACUUM_PAGES: u64 = 1024;

/// Buckets are numbered from here.
const BUCKET: i64 = 1 << 48;
const BLOCK: i64 = 1 << 16;

/// With this size, in bytes before they are compressed, the records of a batch are written at once.
const FULL_BATCH: usize = 2 * 1024 * 1024;

/// The records of one transaction.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) records: u32,
    /// Their size before they were compressed, in bytes.
    pub(super) uncompressed: usize,
    /// The earliest and the latest receipt of its events.
    pub(super) received: Option<(i64, i64)>,
    /// Compressed.
    pub(super) blocks: Vec<Vec<u8>>,
    /// The words of each bucket.
    pub(super) keys: [Vec<u64>; BUCKETS as usize],
}

impl Batch {
    pub(super) const fn is_full(&self) -> bool {
        self.uncompressed >= FULL_BATCH
    }

    /// What it takes in the file, about, in bytes.
    fn size(&self) -> u64 {
        let blocks: usize = self.blocks.iter().map(|block| block.len().next_multiple_of(4096)).sum();
        let keys: usize = self.keys.iter().map(|words| words.len() * 8 + 32).sum();
        (blocks + keys) as u64
    }
}

#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    /// Opens the file, and creates it if it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory).map_err(JournalError::io(path))?;
        if let Some(kind) = storage::network_file_system(directory) {
            return Err(JournalError::Network { path: path.to_owned(), kind });
        }
        storage::create_private(path).map_err(JournalError::io(path))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(JournalError::sqlite(path))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(JournalError::sqlite(path))?;
        let has_schema = KIND.has_schema(&connection).map_err(JournalError::open(path))?;
        let prepare = || {
            configure(&connection)?;
            if has_schema { Ok(()) } else { KIND.create_schema(&connection) }
        };
        prepare().map_err(JournalError::sqlite(path))?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// How many records the file has. Reads all batches.
    pub(super) fn records(&self) -> Result<u64, JournalError> {
        self.connection
            .query_row("SELECT coalesce(sum(records), 0) FROM batches", [], |row| row.get(0))
            .map(i64::cast_unsigned)
            .map_err(JournalError::sqlite(&self.path))
    }

    /// When the oldest batch was written.
    pub(super) fn oldest(&self) -> Result<Option<i64>, JournalError> {
        read::oldest(&self.connection).map_err(JournalError::sqlite(&self.path))
    }

    /// The size of the file and its log, in bytes.
    pub(super) fn size(&self) -> Result<u64, JournalError> {
        Ok(self.pages("page_count")? * PAGE + self.log_size())
    }

    /// Whether a reader keeps the log from being emptied, so that nothing can be written.
    pub(super) fn is_blocked(&self) -> Result<bool, JournalError> {
        if self.log_size() < MAX_LOG {
            return Ok(false);
        }
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: i64 =
            self.connection.query_row(checkpoint, [], |row| row.get(0)).map_err(JournalError::sqlite(&self.path))?;
        Ok(busy != 0)
    }

    /// Adds a batch, and deletes as many of the oldest ones as the limit requires. Returns how many records were deleted.
    pub(super) fn add(&self, batch: &mut Batch, max_size: u64) -> Result<u64, JournalError> {
        // The rest is for the log.
        let limit = max_size - max_size / 20;
        let transaction = self.begin()?;
        let mut deleted = 0;
        while self.used()? + batch.size() > limit
            && let Some(records) = self.delete_oldest()?
        {
            deleted += records;
        }
        self.insert(batch).map_err(JournalError::sqlite(&self.path))?;
        transaction.commit().map_err(JournalError::sqlite(&self.path))?;
        self.shrink(max_size)?;
        Ok(deleted)
    }

    fn insert(&self, batch: &mut Batch) -> rusqlite::Result<()> {
        // Not remembered from the last one: a test event may have been recorded meanwhile, by another process.
        let id: i64 = self
            .connection
            .prepare_cached("SELECT coalesce(max(id), 0) + 1 FROM batches")?
            .query_row([], |row| row.get(0))?;
        let Timestamp { wall, boot, uptime } = Timestamp::now();
        let (first, last) = batch.received.unzip();
        self.connection
            .prepare_cached(
                "INSERT INTO batches (id, at, boot, uptime, first, last, records) VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![id, wall.0, boot, uptime, first, last, batch.records])?;
        let mut insert = self.connection.prepare_cached("INSERT INTO blocks (id, records) VALUES (?, ?)")?;
        for (number, block) in (0..).zip(&batch.blocks) {
            insert.execute(params![id * BLOCK + number, block])?;
        }
        let mut insert = self.connection.prepare_cached("INSERT INTO keys (id, words) VALUES (?, ?)")?;
        let mut bytes = Vec::new();
        for (bucket, words) in (0..).zip(&mut batch.keys).filter(|(_, words)| !words.is_empty()) {
            // An event and the ends of its deliveries have keys in common.
            words.sort_unstable();
            words.dedup();
            bytes.clear();
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            insert.execute(params![bucket * BUCKET + id, bytes])?;
        }
        Ok(())
    }

    /// Deletes the oldest batch if it was written before `cutoff`. Returns how many records it had.
    pub(super) fn delete_expired(&self, cutoff: AgeCutoff) -> Result<Option<u64>, JournalError> {
        let oldest = "SELECT CASE boot WHEN ? THEN uptime < ? ELSE at < ? END FROM batches ORDER BY id LIMIT 1";
        let is_expired = self
            .connection
            .query_row(oldest, params![cutoff.boot, cutoff.uptime, cutoff.wall.0], |row| row.get(0))
            .optional()
            .map_err(JournalError::sqlite(&self.path))?
            .unwrap_or(false);
        if !is_expired {
            return Ok(None);
        }
        let transaction = self.begin()?;
        let deleted = self.delete_oldest()?;
        transaction.commit().map_err(JournalError::sqlite(&self.path))?;
        Ok(deleted)
    }

    /// A transaction that writes from its beginning, so that it can't fail because of another writer later.
    fn begin(&self) -> Result<Transaction<'_>, JournalError> {
        Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
            .map_err(JournalError::sqlite(&self.path))
    }

    /// Within a transaction. Returns how many records the batch had; `None`: there is no batch.
    fn delete_oldest(&self) -> Result<Option<u64>, JournalError> {
        let delete = || -> rusqlite::Result<Option<u64>> {
            let oldest = "DELETE FROM batches WHERE id = (SELECT min(id) FROM batches) RETURNING id, records";
            let deleted = self
                .connection
                .prepare_cached(oldest)?
                .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?)))
                .optional()?;
            let Some((id, records)) = deleted else { return Ok(None) };
            self.connection
                .prepare_cached("DELETE FROM blocks WHERE id BETWEEN ? AND ?")?
                .execute([id * BLOCK, id * BLOCK + BLOCK - 1])?;
            let mut keys = self.connection.prepare_cached("DELETE FROM keys WHERE id = ?")?;
            for bucket in 0..i64::from(BUCKETS) {
                keys.execute([bucket * BUCKET + id])?;
            }
            Ok(Some(records.into()))
        };
        delete().map_err(JournalError::sqlite(&self.path))
    }

    /// Gives free pages back to the disk if the file is larger than its limit, as after a new configuration.
    fn shrink(&self, max_size: u64) -> Result<(), JournalError> {
        if self.pages("page_count")? * PAGE > max_size {
            let mut vacuum = self
                .connection
                .prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))
                .map_err(JournalError::sqlite(&self.path))?;
            // Each step gives back one page.
            let mut rows = vacuum.query([]).map_err(JournalError::sqlite(&self.path))?;
            while rows.next().map_err(JournalError::sqlite(&self.path))?.is_some() {}
        }
        Ok(())
    }

    /// What is used of the file, in bytes.
    fn used(&self) -> Result<u64, JournalError> {
        Ok(self.pages("page_count")?.saturating_sub(self.pages("freelist_count")?) * PAGE)
    }

    fn pages(&self, pragma: &str) -> Result<u64, JournalError> {
        self.connection
            .pragma_query_value(None, pragma, |row| row.get(0))
            .map(i64::cast_unsigned)
            .map_err(JournalError::sqlite(&self.path))
    }

    fn log_size(&self) -> u64 {
        log_of(&self.path).metadata().map_or(0, |log| log.len())
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // Takes effect only in an empty file, and only before the file has a log.
    connection.pragma_update(None, "page_size", PAGE.cast_signed())?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // An fsync before and after a checkpoint only: at a power failure the last transactions may be missing, and the file is intact.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", (WAL_PAGES * PAGE).cast_signed())?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES.cast_signed())
}

pub(super) mod read {
    use super::{BLOCK, BUCKET, Connection, OptionalExtension};
    use crate::journal::keys::RequestKey;

    /// Calls `found` with the id of each block that has the key, the oldest first.
    pub fn blocks_of(connection: &Connection, key: RequestKey, mut found: impl FnMut(i64)) -> rusqlite::Result<()> {
        let bucket = i64::from(key.bucket()) * BUCKET;
        let mut keys = connection.prepare_cached("SELECT id, words FROM keys WHERE id BETWEEN ? AND ? ORDER BY id")?;
        let mut rows = keys.query([bucket, bucket + BUCKET - 1])?;
        while let Some(row) = rows.next()? {
            let batch = row.get::<_, i64>(0)? - bucket;
            let words = row.get_ref(1)?.as_blob()?;
            for word in words.as_chunks().0 {
                if let Some(block) = key.block(u64::from_le_bytes(*word)) {
                    found(batch * BLOCK + i64::from(block));
                }
            }
        }
        Ok(())
    }

    /// The records of a block, compressed; `None`: it was deleted.
    pub fn block(connection: &Connection, id: i64) -> rusqlite::Result<Option<Vec<u8>>> {
        connection
            .prepare_cached("SELECT records FROM blocks WHERE id = ?")?
            .query_row([id], |row| row.get(0))
            .optional()
    }

    /// The first block after the block `after` that may have events that were received between these times.
    pub fn next_block(
        connection: &Connection,
        after: i64,
        (since, until): (i64, i64),
    ) -> rusqlite::Result<Option<(i64, Vec<u8>)>> {
        // The rest of the batch, or the first block of a later one.
        let next = "SELECT b.id, b.records FROM batches JOIN blocks b ON b.id BETWEEN batches.id << 16 AND (batches.id << 16) + 65535 \
                    WHERE batches.id >= ?1 >> 16 AND first <= ?3 AND last >= ?2 AND b.id > ?1 ORDER BY batches.id, b.id LIMIT 1";
        connection
            .prepare_cached(next)?
            .query_row([after, since, until], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    }

    /// When the oldest batch was written; `None`: there is none.
    pub fn oldest(connection: &Connection) -> rusqlite::Result<Option<i64>> {
        connection.query_row("SELECT at FROM batches ORDER BY id LIMIT 1", [], |row| row.get(0)).optional()
    }
}
