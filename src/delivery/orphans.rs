//! Sinks that the configuration does not name and the spool has deliveries for: nobody delivers these.

use super::Stats;
use crate::rules::SinkName;

/// A sink that is gone from the configuration, with its backlog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanedSink {
    /// Its name.
    pub name: SinkName,
    /// How many deliveries wait for it.
    pub deliveries: u64,
    /// What they take, in bytes.
    pub bytes: u64,
}

impl OrphanedSink {
    /// What is the case, and what a person can do.
    #[must_use]
    pub fn advice(&self) -> String {
        let (name, count) = (&self.name, self.deliveries);
        let deliveries = if count == 1 { "1 delivery waits".to_owned() } else { format!("{count} deliveries wait") };
        format!(
            "{deliveries} for sink {name}, which is not in the configuration; the relay keeps them until the sink is back, or until \
             `regards-relay spool redrive --sink {name} --to SINK` or `regards-relay spool purge --sink {name}`"
        )
    }
}

impl Stats {
    /// The sinks that have orphans, by name.
    #[must_use]
    pub fn orphans(&self) -> Vec<OrphanedSink> {
        let now = self.now();
        let shares = self.spool().map(|spool| spool.shares()).unwrap_or_default();
        let orphaned = |(name, share): (SinkName, crate::spool::Share)| {
            let is_gone = now.sinks.iter().all(|sink| *sink.name() != name);
            (is_gone && share.count() > 0).then(|| OrphanedSink {
                name,
                deliveries: share.count(),
                bytes: share.bytes(),
            })
        };
        shares.into_iter().filter_map(orphaned).collect()
    }
}
