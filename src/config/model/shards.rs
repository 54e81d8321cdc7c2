//! The shards of a spool, which several relays share out.

use super::{Config, DeadLettersConfig, SourceConfig, SourceKind, SpoolConfig, StoreConfig};

/// The name of the shard of all sources with one queue.
pub const UNDIVIDED: &str = "";

/// One of several queues of an entry of the configuration. Each becomes a source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceShard {
    /// Its place among the queues of its entry, from 0.
    pub number: u16,
    /// How many queues its entry has.
    pub of: u16,
    /// The name of all queues, with `{shard}` in the place of the number.
    pub queue: String,
}

impl StoreConfig {
    /// The name of the shard; empty: the spool is not divided, or it is the shard of all sources with one queue.
    #[must_use]
    pub fn shard(&self) -> &str {
        match self {
            Self::Sqlite(_) => UNDIVIDED,
            Self::Postgres(database) => &database.shard,
        }
    }
}

impl SourceConfig {
    /// The name of its shard: empty for all sources with one queue.
    #[must_use]
    pub fn shard(&self) -> &str {
        match &self.kind {
            SourceKind::Amqp(amqp) if amqp.shard.is_some() => self.name.as_str(),
            SourceKind::Amqp(_) | SourceKind::Recording(_) => UNDIVIDED,
        }
    }
}

impl SpoolConfig {
    /// One shard of the spool.
    #[must_use]
    pub fn of_shard(&self, shard: &str) -> Self {
        let mut part = self.clone();
        if let StoreConfig::Postgres(database) = &mut part.store {
            shard.clone_into(&mut database.shard);
        }
        part
    }
}

impl Config {
    /// The shards of the spool, each with an owner of its own: one for all sources with one queue, also if there is none, and one for each
    /// other source.
    #[must_use]
    pub fn shards(&self) -> Vec<&str> {
        let divided = self.sources.iter().map(SourceConfig::shard).filter(|shard| *shard != UNDIVIDED);
        std::iter::once(UNDIVIDED).chain(divided).collect()
    }

    /// The name of the shard that has what comes from that source.
    #[must_use]
    pub fn shard_of(&self, source: &str) -> &str {
        let is_source = |config: &&SourceConfig| config.name.as_str() == source;
        self.sources.iter().find(is_source).map_or(UNDIVIDED, SourceConfig::shard)
    }

    /// One shard of the spool, with its part of the limits.
    #[must_use]
    pub fn spool_of(&self, shard: &str) -> (SpoolConfig, DeadLettersConfig) {
        let (mut spool, mut dead_letters) = (self.spool.of_shard(shard), self.dead_letters.clone());
        let count = u64::try_from(self.shards().len()).unwrap_or(u64::MAX);
        spool.max_size /= count;
        dead_letters.max_size /= count;
        (spool, dead_letters)
    }
}
