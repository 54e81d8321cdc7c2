//! The journal in a file: `journal.db` in the data directory.

mod reader;

pub(super) use reader::SqliteReader;

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::JournalError;
use super::batch::{BLOCK, BUCKET, Batch};
use super::keys::BUCKETS;
use super::store::{Contents, Store};
use crate::clock::{AgeCutoff, Timestamp};
use crate::config::JournalConfig;
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

/// How many expired batches are deleted at a time: each delays the next batch by less than a millisecond.
const EXPIRED_AT_ONCE: usize = 64;

/// The file as its only writer uses it.
#[derive(Debug)]
pub(super) struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    /// How many records the file has.
    records: u64,
}

impl SqliteStore {
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
        // Reads all batches.
        let records = connection
            .query_row("SELECT coalesce(sum(records), 0) FROM batches", [], |row| row.get(0))
            .map(i64::cast_unsigned)
            .map_err(JournalError::sqlite(path))?;
        Ok(Self { connection, path: path.to_owned(), records })
    }

    /// The size of the file and its log, in bytes.
    fn size(&self) -> Result<u64, JournalError> {
        Ok(self.pages("page_count")? * PAGE + self.log_size())
    }

    /// Whether a reader keeps the log from being emptied, so that nothing can be written.
    fn is_blocked(&self) -> Result<bool, JournalError> {
        if self.log_size() < MAX_LOG {
            return Ok(false);
        }
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: i64 =
            self.connection.query_row(checkpoint, [], |row| row.get(0)).map_err(JournalError::sqlite(&self.path))?;
        Ok(busy != 0)
    }

    /// Adds a batch, and deletes as many of the oldest ones as the limit requires. Returns how many records were deleted.
    fn add(&self, batch: &mut Batch, max_size: u64) -> Result<u64, JournalError> {
        // The rest is for the log.
        let limit = max_size - max_size / 20;
        let transaction = self.begin()?;
        let mut deleted = 0;
        while self.used()? + size(batch) > limit
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
        for (bucket, words) in batch.buckets() {
            insert.execute(params![bucket * BUCKET + id, words])?;
        }
        Ok(())
    }

    /// Deletes the oldest batch if it was written before `cutoff`. Returns how many records it had.
    fn delete_expired(&self, cutoff: AgeCutoff) -> Result<Option<u64>, JournalError> {
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

impl Store for SqliteStore {
    fn write(&mut self, batch: &mut Batch, config: &JournalConfig) -> Result<Contents, JournalError> {
        let cutoff = AgeCutoff::of(config.keep);
        for _ in 0..EXPIRED_AT_ONCE {
            let Some(records) = self.delete_expired(cutoff)? else { break };
            self.records = self.records.saturating_sub(records);
        }
        if batch.records > 0 {
            if self.is_blocked()? {
                return Err(JournalError::Busy(self.path.clone()));
            }
            let deleted = self.add(batch, config.max_size)?;
            self.records = self.records.saturating_sub(deleted) + u64::from(batch.records);
        }
        let oldest = reader::oldest(&self.connection).map_err(JournalError::sqlite(&self.path))?;
        Ok(Contents { records: self.records, bytes: self.size()?, oldest })
    }
}

/// About what the batch takes in the file, in bytes.
fn size(batch: &Batch) -> u64 {
    let blocks: usize = batch.blocks.iter().map(|block| block.len().next_multiple_of(4096)).sum();
    let keys: usize = batch.keys.iter().map(|words| words.len() * 8 + 32).sum();
    (blocks + keys) as u64
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
