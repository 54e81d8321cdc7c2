//! Reads the spool while a relay may be running, in transactions so short that they never delay its writer.

mod backlog;
mod dead_letters;
mod filter;
mod requests;

pub use backlog::{BacklogSummary, DeliveryFilter, ListedDelivery};
pub use dead_letters::{DeadLetterSummary, DeadLetters, StoredDeadLetter};
pub use filter::DeadLetterFilter;
pub use requests::{OverdueRequest, WatchedBy};

pub(super) use backlog::{MAX_ERRORS, MAX_HEADS_SEARCHED};

use std::fmt;

use super::SpoolError;
use super::sqlite::SqliteReader;
use crate::config::StoreConfig;

/// How many rows are read in one transaction: a slow reader must not keep the writer from emptying its log.
pub(super) const PAGE_ROWS: usize = 500;
/// A transaction reads no further row after this many bytes: texts and bodies come from messages and may be large.
pub(super) const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Longer names of tenants and requests are cut, in characters.
pub(super) const MAX_NAME: i64 = 256;

/// Reads a spool, beside its relay or without one. Its functions block.
#[derive(Debug, Clone)]
pub struct SpoolReader {
    config: StoreConfig,
    store: SqliteReader,
}

impl fmt::Display for SpoolReader {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(to)
    }
}

impl SpoolReader {
    /// [`SpoolError::Unsupported`]: it is not in a file.
    pub fn new(config: &StoreConfig) -> Result<Self, SpoolError> {
        match config {
            StoreConfig::Sqlite(file) => {
                Ok(Self { config: config.clone(), store: SqliteReader::new(file.path.clone()) })
            }
            StoreConfig::Postgres(_) => Err(SpoolError::Unsupported(config.to_string())),
        }
    }

    /// The [name](crate::spool::Spool::name) of the spool; none if it does not exist.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        self.store.name()
    }

    /// Whether there is a spool at all.
    pub fn exists(&self) -> Result<bool, SpoolError> {
        self.store.exists()
    }
}
