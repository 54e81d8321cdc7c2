//! Where the journal is stored: what its writer and its readers ask of a database. Each store has batches, the blocks of their records, and
//! the keys by which blocks are found.

use super::JournalError;
use super::batch::Batch;
use super::keys::RequestKey;
use super::postgres::{PostgresReader, PostgresStore};
use super::sqlite::{SqliteReader, SqliteStore};
use crate::config::{JournalConfig, JournalStoreConfig};

/// A store that is open to be written. After an error it is dropped, and opened anew.
pub(super) trait Store: Send {
    /// Writes the batch, which may be empty, and deletes what is too old or too much. A batch that is stored already, by a call whose
    /// success was not known, is left as it is.
    fn write(&mut self, batch: &mut Batch, config: &JournalConfig) -> Result<Contents, JournalError>;
}

/// What is stored, for people.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Contents {
    pub(super) records: u64,
    /// Their size on the disk.
    pub(super) bytes: u64,
    /// When the oldest batch was written, in milliseconds since 1970.
    pub(super) oldest: Option<i64>,
}

/// Opens the store, and creates it if it is missing.
pub(super) fn open(config: &JournalStoreConfig) -> Result<Box<dyn Store>, JournalError> {
    Ok(match config {
        JournalStoreConfig::Sqlite(path) => Box::new(SqliteStore::open(path)?),
        JournalStoreConfig::Postgres(database) => Box::new(PostgresStore::open(database)?),
    })
}

/// Reads a store, beside relays that write it.
pub(super) trait StoreReader: std::fmt::Debug + Send {
    /// When the oldest batch was written; `None`: there is none.
    fn oldest(&self) -> Result<Option<i64>, JournalError>;

    /// The id of each block that may have records with this key, the oldest first.
    fn blocks_of(&self, key: RequestKey) -> Result<Vec<i64>, JournalError>;

    /// The records of a block, compressed; `None`: it was deleted.
    fn block(&self, id: i64) -> Result<Option<Vec<u8>>, JournalError>;

    /// The first block after the block `after` that may have events that were received between these times.
    fn next_block(&self, after: i64, received: (i64, i64)) -> Result<Option<(i64, Vec<u8>)>, JournalError>;
}

/// `None`: nothing was ever stored.
pub(super) fn open_to_read(config: &JournalStoreConfig) -> Result<Option<Box<dyn StoreReader>>, JournalError> {
    Ok(match config {
        JournalStoreConfig::Sqlite(path) => SqliteReader::open(path)?.map(|reader| Box::new(reader) as _),
        JournalStoreConfig::Postgres(database) => PostgresReader::open(database)?.map(|reader| Box::new(reader) as _),
    })
}
