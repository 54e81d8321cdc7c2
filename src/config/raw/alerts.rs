//! The keys under `alerts:`.

use super::When;
use crate::config::text::decode::{OneOrMany, mapping};
use crate::config::text::scalar::{Count, DurationOrExpires, Percent, Period, Text};

mapping! {
    /// One alert: exactly one of the six conditions, and the sinks that get an event when it begins to hold and when it ends.
    Alert {
        /// The name of the alert in its events, in metrics and logs
        name: Text = required,
        /// A request was accepted, and no response ends it in time
        overdue: Overdue,
        /// Deliveries to a sink have failed for a while
        sink_failing: SinkFailing,
        /// A source has not been able to consume for a while
        source_down: SourceDown,
        /// The spool, or the share of one sink in it, fills up
        spool_filling: SpoolFilling,
        /// Dead letters are stored
        dead_letters: StoredDeadLetters,
        /// The last reload of the configuration failed
        reload_failed: ReloadFailed,
        /// The sinks that get the alert; an alert about a sink never goes to that sink
        to: OneOrMany<Text> = required,
    }
}

mapping! {
    /// Requests that are accepted and then have no end.
    Overdue {
        /// Which responses open a request that is watched, as in the `when` of a route; without it, all with the outcome `accepted`
        when: When,
        /// How long the request may stay without an end: a duration, counted from the receipt of that response, or `expires`, the request's own date; of a list the earliest counts
        within: OneOrMany<DurationOrExpires> = required,
    }
}

mapping! {
    /// Sinks that fail.
    SinkFailing {
        /// The names of the sinks, with `*` and `?` as wildcards
        sink: OneOrMany<Text> ["*"],
        /// How long deliveries to the sink have to fail, none of them successful
        r#for: Period ["5m"],
    }
}

mapping! {
    /// Sources that do not consume. One that is paused or stands by is not down.
    SourceDown {
        /// The names of the sources, with `*` and `?` as wildcards
        source: OneOrMany<Text> ["*"],
        /// How long the source has to be down
        r#for: Period ["5m"],
    }
}

mapping! {
    /// A spool that fills up.
    SpoolFilling {
        /// The used share of `spool.max_size`, or of what `max_share` lets one sink use
        above: Percent ["80%"],
    }
}

mapping! {
    /// Stored dead letters.
    StoredDeadLetters {
        /// The number of stored dead letters above which the alert is raised
        more_than: Count [0, "dead letters"],
    }
}

mapping! {
    /// A failed reload of the configuration, without any setting.
    ReloadFailed {}
}
