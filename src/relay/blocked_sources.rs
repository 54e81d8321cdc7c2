//! Log lines when sources become blocked because the spool can't store anything, and when they continue.

use std::collections::BTreeSet;

use super::Stats;
use crate::event::SourceName;

/// Warns once of each blocked source, until the spool can store again.
#[derive(Debug, Default)]
pub(super) struct BlockedSourceWarnings {
    warned: BTreeSet<SourceName>,
}

impl BlockedSourceWarnings {
    pub(super) fn update(&mut self, stats: &Stats) {
        let problem = stats.spool().and_then(|spool| spool.problem());
        let Some(error) = problem else {
            if !self.warned.is_empty() {
                tracing::warn!("sources continue, as the spool can store again: {}", names(&self.warned));
                self.warned.clear();
            }
            return;
        };
        // A source that continues for a moment may be blocked again by the same problem: it is named only once.
        let snapshot = stats.snapshot();
        let blocked = snapshot.sources.iter().filter(|source| source.is_blocked()).map(|source| source.name().clone());
        let new: BTreeSet<_> = blocked.filter(|name| !self.warned.contains(name)).collect();
        if !new.is_empty() {
            tracing::warn!(
                error,
                "sources are blocked: {}; the relay leaves messages that it can't store unacknowledged",
                names(&new)
            );
            self.warned.extend(new);
        }
    }
}

fn names(sources: &BTreeSet<SourceName>) -> String {
    sources.iter().map(SourceName::as_str).collect::<Vec<_>>().join(", ")
}
