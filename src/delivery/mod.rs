//! One event for one sink, until it is settled: lanes, attempts, retries, the breaker, and what goes to the spool.
//!
//! A [`Delivery`] is kept by the share that it holds of its message's receipt, or by its row in the spool. It ends delivered, or as
//! a dead letter on disk; only then is its share settled, or its row deleted. One task a sink owns all of that
//! ([`Dispatcher`]): what is in memory (`lanes`), what waits on disk (`backlog`), and what goes from the one to the other
//! (`spill`).

mod backlog;
mod breaker;
mod dispatcher;
mod lanes;
mod notice;
mod orphans;
mod retry;
mod settle;
mod spill;
mod state;
mod stats;

pub use breaker::Breaker;
pub use dispatcher::{Dispatcher, Inlet, Order, Settings};
pub use lanes::{Lane, Lanes, key};
pub use notice::{ErrorThrottle, Throttle};
pub use orphans::OrphanedSink;
pub use state::{Opened, Pause, State};
pub use stats::{AttemptResult, Counted, DeliveryResult, Histogram, RouteStats, SinkStats, Stats};

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{MonotonicTime, Timestamp};
use crate::event::{DEAD_LETTER, DecodeError, Event, EventView, Message};
use crate::rules::{RouteName, SinkName};
use crate::source::{Receipt, SpilledAttempt};
use crate::spool::{RowId, Waiting};

/// An event together with the message it was made of, shared by all its deliveries.
#[derive(Debug)]
pub struct Received {
    /// What rules, templates and formats see.
    pub event: Event,
    /// What was received: for `original`, headers and dead letters.
    pub message: Arc<Message>,
}

impl Received {
    /// What rules, templates and formats see.
    #[must_use]
    pub fn view(&self) -> EventView<'_> {
        EventView::of(&self.event, &self.message)
    }
}

/// One event for one sink.
#[derive(Debug)]
pub struct Delivery {
    /// What is delivered.
    pub received: Arc<Received>,
    /// The route that chose the sink; none: `unrouted:` names it.
    pub route: Option<RouteName>,
    /// What brings it back if the relay ends.
    pub kept: Kept,
    /// When the message was received.
    pub since: Instant,
    /// How many attempts have ended.
    pub attempts: u32,
    /// How many of them the destination refused.
    pub refusals: u32,
    /// How the last of them failed, where that is not in the spool.
    pub failure: Option<Failure>,
    /// Its source waits for the attempt under way, although the message is settled.
    pub in_flight: Option<SpilledAttempt>,
}

/// A failed attempt of a delivery in memory.
#[derive(Debug)]
pub struct Failure {
    /// When the next attempt is due.
    pub due: Instant,
    /// What happened, for people.
    pub cause: String,
}

/// What brings a delivery back if the relay ends before it is settled.
#[derive(Debug)]
pub enum Kept {
    /// Its message, which is unacknowledged.
    Message(Receipt),
    /// Its row in the spool.
    Row(RowId),
}

/// The event of a delivery that comes out of the spool, or the copy of a dead letter that it is.
pub fn event_of(waiting: &Waiting) -> Result<Event, Box<DecodeError>> {
    if waiting.kind == DEAD_LETTER {
        return Ok(Event::of_dead_letter(&waiting.message, &waiting.tenant, waiting.event_id));
    }
    Event::decode_as(&waiting.message, &waiting.kind, &waiting.tenant)
}

impl Delivery {
    /// A delivery that comes out of the spool.
    fn of_row(id: RowId, waiting: &Waiting) -> Result<Self, Box<DecodeError>> {
        let message = Arc::clone(&waiting.message);
        let event = event_of(waiting)?;
        let age = waiting.received.age();
        Ok(Self {
            received: Arc::new(Received { event, message }),
            route: waiting.route.clone(),
            kept: Kept::Row(id),
            // A machine that has just started has no such time.
            since: Instant::now().checked_sub(age).unwrap_or_else(Instant::now),
            attempts: waiting.attempts,
            refusals: waiting.refusals,
            failure: None,
            in_flight: None,
        })
    }

    /// What the spool is to keep of it, with its back-off unless an attempt is under way.
    fn waiting(&self, sink: &SinkName, key: u64, is_attempted: bool) -> Waiting {
        let event = &self.received.event;
        let pause = if is_attempted { Duration::ZERO } else { self.back_off() };
        Waiting {
            sink: sink.clone(),
            key,
            received: Timestamp::now().before(self.since.elapsed()),
            due: MonotonicTime::now().after(pause),
            attempts: self.attempts,
            refusals: self.refusals,
            cause: self.failure.as_ref().map(|failure| failure.cause.clone()),
            route: self.route.clone(),
            kind: event.kind.to_owned(),
            tenant: Arc::clone(&event.tenant),
            event_id: event.id,
            message: Arc::clone(&self.received.message),
            may_be_known: self.received.message.redelivered,
        }
    }

    /// How long it has to wait for its next attempt.
    fn back_off(&self) -> Duration {
        let due = self.failure.as_ref().map(|failure| failure.due);
        due.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()))
    }

    /// It is to be on disk soon, though the spool is full.
    fn must_be_stored(&self) -> bool {
        matches!(&self.kept, Kept::Message(receipt) if receipt.must_spill())
    }

    /// Its message holds up its source.
    fn is_pressing(&self) -> bool {
        matches!(&self.kept, Kept::Message(receipt) if receipt.should_spill())
    }
}

#[cfg(test)]
mod tests;
