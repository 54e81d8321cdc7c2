//! One line when sources are blocked, and one when they go on.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::delivery::Stats;
use crate::event::SourceName;

/// How often it is looked.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// Which sources are said to be blocked.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    said: BTreeSet<SourceName>,
}

impl Blocked {
    pub(super) fn look(&mut self, stats: &Stats) {
        let problem = stats.spool().and_then(|spool| spool.problem());
        let Some(error) = problem else {
            if !self.said.is_empty() {
                tracing::warn!(sources = names(&self.said), "sources go on: there is room again");
                self.said.clear();
            }
            return;
        };
        // One that goes on meanwhile may be blocked again in a moment: it is named once for each problem.
        let now = stats.now();
        let held_up = now.sources.iter().filter(|source| source.is_blocked()).map(|source| source.name().clone());
        let new: BTreeSet<_> = held_up.filter(|name| !self.said.contains(name)).collect();
        if !new.is_empty() {
            tracing::warn!(
                sources = names(&new),
                error,
                "sources are blocked: what can't be stored stays unacknowledged"
            );
            self.said.extend(new);
        }
    }
}

fn names(sources: &BTreeSet<SourceName>) -> String {
    sources.iter().map(SourceName::as_str).collect::<Vec<_>>().join(", ")
}
