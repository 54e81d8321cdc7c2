//! Alerts: what the relay itself reports to sinks, and when.

use std::time::Duration;

use super::{Condition, Field, Glob, SinkIndex};
use crate::event::{Event, EventView, ExpressionError, name};

name!(
    /// The name of an alert: in its events, in metrics and logs.
    AlertName
);

#[derive(Debug, Clone)]
pub struct Alert {
    pub name: AlertName,
    pub trigger: Trigger,
    pub to: Vec<SinkIndex>,
}

#[derive(Debug, Clone)]
pub enum Trigger {
    /// A request that REGARDS accepted has no end in time.
    Overdue(Overdue),
    /// No delivery to a sink has succeeded for so long, and attempts failed.
    SinkFailing {
        sinks: Vec<Glob>,
        after: Duration,
    },
    /// A source has not been able to consume for so long.
    SourceDown {
        sources: Vec<Glob>,
        after: Duration,
    },
    /// More than so many percent of the spool are used, or of one sink's share.
    SpoolFilling {
        above: u8,
    },
    DeadLetters {
        more_than: u64,
    },
    /// The relay uses an earlier configuration, because the last reload failed.
    ReloadFailed,
}

/// Which requests are watched, and when they are overdue.
#[derive(Debug, Clone)]
pub struct Overdue {
    /// Matches the event that opens a request.
    pub when: Condition,
    /// Counted from the receipt of that event.
    pub within: Option<Duration>,
    /// At the date `expires` of that event, if it has one.
    pub at_expiry: bool,
}

impl Trigger {
    /// Its key in the file.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Overdue(_) => "overdue",
            Self::SinkFailing { .. } => "sink_failing",
            Self::SourceDown { .. } => "source_down",
            Self::SpoolFilling { .. } => "spool_filling",
            Self::DeadLetters { .. } => "dead_letters",
            Self::ReloadFailed => "reload_failed",
        }
    }
}

impl Alert {
    #[must_use]
    pub fn overdue(&self) -> Option<&Overdue> {
        if let Trigger::Overdue(overdue) = &self.trigger { Some(overdue) } else { None }
    }
}

impl Overdue {
    /// In a time limit in words: the date `expires`, and what is between two limits.
    pub const EXPIRES: &str = "expires";
    pub const OR: &str = " or ";

    /// Whether the event opens a request that the alert watches. An event that ends its request never does.
    pub fn opens(&self, view: EventView<'_>) -> Result<bool, ExpressionError> {
        if view.event.outcome.ends_request() {
            return Ok(false);
        }
        self.when.matches(view)
    }

    /// Whether the alert may watch the request of that event. The fields that are the same for all events of a request decide.
    #[must_use]
    pub fn may_watch(&self, event: &Event) -> bool {
        let is_common = |field: Field| matches!(field, Field::Tenant | Field::Type | Field::CorrelationId);
        self.when
            .fields
            .iter()
            .filter(|(field, _)| is_common(*field))
            .all(|(field, globs)| field.of(event).is_some_and(|value| globs.iter().any(|glob| glob.matches(value))))
    }

    /// The time limit in words: `24h`, `expires`, `24h or expires`.
    #[must_use]
    pub fn limit(&self) -> String {
        let within = self.within.map(in_words);
        let expiry = self.at_expiry.then(|| Self::EXPIRES.to_owned());
        within.into_iter().chain(expiry).collect::<Vec<_>>().join(Self::OR)
    }
}

/// A duration as the configuration has it, in its largest whole unit.
#[must_use]
pub fn in_words(duration: Duration) -> String {
    const UNITS: [(&str, u128); 4] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let millis = duration.as_millis();
    let unit = UNITS.iter().find(|(_, size)| millis >= *size && millis.is_multiple_of(*size));
    unit.map_or_else(|| format!("{millis}ms"), |(unit, size)| format!("{}{unit}", millis / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_in_their_largest_whole_unit() {
        let shown = [1_500, 2_000, 120_000, 86_400_000, 90_000_000].map(|ms| in_words(Duration::from_millis(ms)));
        assert_eq!(shown, ["1500ms", "2s", "2m", "1d", "25h"]);
    }
}
