//! One line for each sink that is gone from the configuration while deliveries wait for it: at the reload, and at each start.

use std::collections::BTreeSet;

use crate::delivery::Stats;
use crate::rules::SinkName;

/// Which sinks were told of.
#[derive(Debug, Default)]
pub(super) struct Stranded {
    told: BTreeSet<SinkName>,
}

impl Stranded {
    /// Tells of those that are new. `still_ends` says of which sinks the last deliveries are still in flight, or on their way to disk: how
    /// many stay is known only once that has ended.
    pub(super) fn look(&mut self, stats: &Stats, still_ends: impl Fn(&SinkName) -> bool) {
        let orphans = stats.orphans();
        self.told.retain(|told| orphans.iter().any(|orphan| orphan.name == *told));
        for orphan in orphans {
            if !still_ends(&orphan.name) && self.told.insert(orphan.name.clone()) {
                tracing::warn!(sink = %orphan.name, deliveries = orphan.deliveries, "{}", orphan.advice());
            }
        }
    }
}
