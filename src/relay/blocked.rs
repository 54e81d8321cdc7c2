//! One line when sources are blocked, and one when they go on.

use std::time::Duration;

use crate::delivery::Stats;
use crate::source::SourceState;

/// How often it is looked.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// Who was blocked when it was last looked.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    is_said: bool,
}

impl Blocked {
    pub(super) fn look(&mut self, stats: &Stats) {
        let problem = stats.spool().and_then(|spool| spool.problem());
        let is_new = problem.is_some() != self.is_said;
        if !is_new {
            return;
        }
        let now = stats.now();
        let consuming = now.sources.iter().filter(|source| source.state().0 == SourceState::Consuming);
        let sources = consuming.map(|source| source.name().as_str()).collect::<Vec<_>>().join(", ");
        if let Some(error) = problem {
            tracing::warn!(sources, error, "sources are blocked: what can't be stored stays unacknowledged");
        } else {
            tracing::warn!(sources, "sources go on: there is room again");
        }
        self.is_said = !self.is_said;
    }
}
