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

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::SpoolError;
use super::delivery::RowId;
use super::instances::Instance;
use super::postgres::PostgresReader;
use super::sqlite::SqliteReader;
use crate::config::StoreConfig;
use crate::rules::AlertName;

/// How many rows are read in one transaction: a slow reader must not keep the writer from emptying its log.
pub(super) const PAGE_ROWS: usize = 500;
/// A transaction reads no further row after this many bytes: texts and bodies come from messages and may be large.
pub(super) const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// The numbers of each shard's dead letters begin with its own, as `shard.sql` says.
pub(super) const DEAD_LETTERS_OF_SHARD: i64 = 1_000_000_000;
/// Longer names of tenants and requests are cut, in characters.
pub(super) const MAX_NAME: i64 = 256;

/// A shard of a spool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardName {
    pub number: i16,
    /// The source whose queue it is about; empty: all sources that have one queue.
    pub source: String,
}

impl ShardName {
    /// The numbers of its dead letters are above the first and up to the second.
    #[must_use]
    pub fn dead_letters(&self) -> (i64, i64) {
        let before = i64::from(self.number) * DEAD_LETTERS_OF_SHARD;
        (before, before + DEAD_LETTERS_OF_SHARD)
    }
}

/// What a reader asks of a store. Each function blocks, and reads nothing from a spool in which nothing was stored yet.
pub(super) trait StoreReader: fmt::Debug + Send + Sync {
    /// The [name](crate::spool::Spool::name) of the spool; none if it does not exist.
    fn name(&self) -> Option<String>;

    fn exists(&self) -> Result<bool, SpoolError>;

    /// The relays that share it; none if no other machine can reach it.
    fn instances(&self) -> Result<Vec<Instance>, SpoolError> {
        Ok(Vec::new())
    }

    /// The shards that were ever taken.
    fn shards(&self) -> Result<Vec<ShardName>, SpoolError> {
        Ok(vec![ShardName::default()])
    }

    fn backlogs(&self) -> Result<Vec<BacklogSummary>, SpoolError>;

    /// The next deliveries that match, after the id `after`.
    fn delivery_page(&self, filter: &DeliveryFilter, after: RowId) -> Result<Vec<ListedDelivery>, SpoolError>;

    /// Those of one event to `sink`, in order; `key` is the event's ordering key at that sink.
    fn deliveries_of_event(&self, sink: &str, key: u64, event: Uuid) -> Result<Vec<ListedDelivery>, SpoolError>;

    /// Those of these events to `sink`, in order.
    fn deliveries_of_events(
        &self,
        sink: &str,
        events: &BTreeSet<Uuid>,
    ) -> Result<Vec<(Uuid, ListedDelivery)>, SpoolError>;

    /// The alerts that watch a request.
    fn watches(&self, tenant: &str, correlation_id: &str) -> Result<Vec<WatchedBy>, SpoolError>;

    /// The requests for which the alert has been raised for the longest time, at most `limit`, the oldest first.
    fn overdue(&self, alert: &AlertName, limit: usize) -> Result<Vec<OverdueRequest>, SpoolError>;

    fn dead_letters(&self) -> Result<Box<dyn DeadLetterReader>, SpoolError>;
}

pub(super) trait DeadLetterReader: fmt::Debug + Send {
    /// Whether a relay has ever stored anything.
    fn exist(&self) -> bool;

    /// The dead letters that follow `last` in the order of the filter, at most `rows`.
    fn page(
        &self,
        filter: &DeadLetterFilter,
        last: Option<&DeadLetterSummary>,
        rows: usize,
    ) -> Result<Vec<DeadLetterSummary>, SpoolError>;

    fn show(&self, id: i64) -> Result<Option<StoredDeadLetter>, SpoolError>;
}

/// Reads a spool, beside its relay or without one. Its functions block.
#[derive(Debug, Clone)]
pub struct SpoolReader {
    config: StoreConfig,
    store: Arc<dyn StoreReader>,
}

impl fmt::Display for SpoolReader {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(to)
    }
}

impl SpoolReader {
    #[must_use]
    pub fn new(config: &StoreConfig) -> Self {
        let store: Arc<dyn StoreReader> = match config {
            StoreConfig::Sqlite(file) => Arc::new(SqliteReader::new(file.path.clone())),
            StoreConfig::Postgres(database) => Arc::new(PostgresReader::new((**database).clone())),
        };
        Self { config: config.clone(), store }
    }

    /// The [name](crate::spool::Spool::name) of the spool; none if it does not exist.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        self.store.name()
    }

    /// The relays that share the spool; none if no other machine can reach it.
    pub fn instances(&self) -> Result<Vec<Instance>, SpoolError> {
        self.store.instances()
    }

    /// The shards that were ever taken. A spool that is not divided is its only shard.
    pub fn shards(&self) -> Result<Vec<ShardName>, SpoolError> {
        self.store.shards()
    }

    /// Whether there is a spool at all.
    pub fn exists(&self) -> Result<bool, SpoolError> {
        self.store.exists()
    }
}
