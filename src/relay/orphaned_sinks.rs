//! Orphaned sinks: sinks that the configuration does not name, but for which the spool has deliveries. These are not delivered.

use std::collections::BTreeSet;

use super::Stats;
use crate::rules::SinkName;

/// A sink that is not in the configuration, with the size of its backlog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanedSink {
    pub name: SinkName,
    pub deliveries: u64,
    pub bytes: u64,
}

impl OrphanedSink {
    /// What the relay does with the deliveries, and what a person can do.
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
    /// The orphaned sinks, by name.
    #[must_use]
    pub fn orphaned_sinks(&self) -> Vec<OrphanedSink> {
        let snapshot = self.snapshot();
        let mut shares = self.spool().map(|spool| spool.sink_usage()).unwrap_or_default();
        shares.retain(|(name, share)| share.count() > 0 && snapshot.sinks.iter().all(|sink| sink.name() != name));
        let orphaned = shares.into_iter().map(|(name, share)| OrphanedSink {
            name,
            deliveries: share.count(),
            bytes: share.bytes(),
        });
        orphaned.collect()
    }
}

/// Warns once of each orphaned sink: at the reload that removed it, and at each start.
#[derive(Debug, Default)]
pub(super) struct OrphanWarnings {
    warned: BTreeSet<SinkName>,
}

impl OrphanWarnings {
    /// Warns of orphaned sinks that are new. `is_stopping` is true for sinks whose last deliveries are still in flight or not yet on
    /// disk: the number of orphans is known only afterwards.
    pub(super) fn update(&mut self, stats: &Stats, is_stopping: impl Fn(&SinkName) -> bool) {
        let orphaned = stats.orphaned_sinks();
        self.warned.retain(|name| orphaned.iter().any(|sink| sink.name == *name));
        for sink in orphaned {
            if !is_stopping(&sink.name) && self.warned.insert(sink.name.clone()) {
                tracing::warn!(sink = %sink.name, "{}", sink.advice());
            }
        }
    }
}
