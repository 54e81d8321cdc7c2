//! Who has which shard of a spool that several relays share.

use super::SpoolError;
use super::instances::Instances;
use super::postgres::PostgresWatch;
use crate::config::StoreConfig;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardState {
    /// The source whose queue it is about; empty: all sources that have one queue.
    pub source: String,
    /// The name of its owner; none: it can be taken.
    pub owner: Option<String>,
}

/// The shards at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardView {
    /// Those that were ever taken.
    pub shards: Vec<ShardState>,
    /// How many relays there are, this one included.
    pub relays: usize,
}

/// Looks who has which shard. None: the spool is a file, which is not divided.
pub struct ShardWatch(Option<PostgresWatch>);

impl ShardWatch {
    #[must_use]
    pub fn new(store: &StoreConfig) -> Self {
        Self(match store {
            StoreConfig::Sqlite(_) => None,
            StoreConfig::Postgres(config) => Some(PostgresWatch::new((**config).clone())),
        })
    }

    /// Looks about each second, and when a shard is given up. After an error it connects anew.
    pub async fn next(&mut self, instances: &Instances) -> Result<ShardView, SpoolError> {
        match &mut self.0 {
            Some(watch) => watch.next(instances).await,
            None => std::future::pending().await,
        }
    }
}
