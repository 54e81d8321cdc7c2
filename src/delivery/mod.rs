//! Delivers each event to one sink until the delivery is settled: lanes, attempts, retries, the breaker, and the spool.
//!
//! As long as a [`Delivery`] is unsettled, it is backed by its share of the receipt of its message, or by its row in the spool. It ends
//! delivered or as a dead letter on disk; only then is the share settled or the row deleted. Each sink has one task that owns all of this
//! ([`Dispatcher`]): the deliveries in memory (`lanes`), those in the spool (`backlog`), and which go from memory to the spool (`spill`).

mod attempts;
mod backlog;
mod breaker;
mod digest;
mod dispatcher;
mod lanes;
mod log_limit;
mod misfits;
mod ordering;
mod overdue;
mod payload;
mod retry;
mod settle;
mod spill;
mod state;
mod stats;

pub use breaker::{Breaker, Gate};
pub use digest::DigestEvent;
pub use dispatcher::{Dispatcher, DispatcherHandle, Settings, SinkCommand};
pub use lanes::{Lane, Lanes};
pub use log_limit::{ErrorLogLimiter, LogLimiter};
pub use ordering::{Ordering, SinkQueue, SpoolPlace, group, group_key, key_of};
pub use payload::Payload;
pub use state::{OpenBreaker, Pause, PersistedState};
pub use stats::{AttemptResult, DeliveryResult, Histogram, LastFailure, Outage, SinkStats};

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{MonotonicTime, Timestamp, WallTime};
use crate::event::{DecodeError, Event};
use crate::journal::{DeliveryEnd, DeliveryRecord, Journal, short_detail};
use crate::rules::{RouteName, SinkName};
use crate::source::{Receipt, SpilledAttempt};
use crate::spool::{RowId, SpooledDelivery};

/// One event, or a digest of several, for one sink.
#[derive(Debug)]
pub struct Delivery {
    pub payload: Arc<Payload>,
    /// The route that chose the sink. None: `unrouted:` names the sink.
    pub route: Option<RouteName>,
    pub backing: Backing,
    /// When its message was received.
    pub received_at: Instant,
    /// How many attempts have ended.
    pub attempts: u32,
    /// How many attempts the destination refused.
    pub refusals: u32,
    /// How the last attempt failed.
    pub failure: Option<Failure>,
    /// It is one of a replay: the message says so at its destination.
    pub replayed: bool,
    /// Its place in the order of receipt: see `misfits`.
    place: u32,
    /// Makes the source wait for the attempt in flight, although the message is settled.
    pub attempt_guard: Option<SpilledAttempt>,
}

/// The last failed attempt of a delivery.
#[derive(Debug)]
pub struct Failure {
    /// When the next attempt is due, if the delivery is not in the spool.
    pub due: Instant,
    pub error: String,
}

impl Failure {
    /// Of a delivery that is due again.
    fn of_row(error: String) -> Self {
        Self { due: Instant::now(), error }
    }
}

/// What brings a delivery back if the relay ends before the delivery is settled.
#[derive(Debug)]
pub enum Backing {
    /// Its unacknowledged message, which the broker then redelivers.
    Receipt(Receipt),
    /// Its row in the spool.
    Row(RowId),
    /// The rows of the events of a digest.
    Digest,
}

impl Delivery {
    #[must_use]
    pub fn new(payload: Arc<Payload>, route: Option<RouteName>, receipt: Receipt, received_at: Instant) -> Self {
        Self {
            payload,
            route,
            backing: Backing::Receipt(receipt),
            received_at,
            attempts: 0,
            refusals: 0,
            failure: None,
            replayed: false,
            place: 0,
            attempt_guard: None,
        }
    }

    fn from_spool(id: RowId, row: &SpooledDelivery) -> Result<Self, Box<DecodeError>> {
        Ok(Self::of_row(id, row, Payload::from_spool(row)?))
    }

    fn of_row(id: RowId, row: &SpooledDelivery, payload: Payload) -> Self {
        Self {
            payload: Arc::new(payload),
            route: row.route.clone(),
            backing: Backing::Row(id),
            received_at: digest::received_at(row),
            attempts: row.attempts,
            refusals: row.refusals,
            failure: row.last_error.clone().map(Failure::of_row),
            replayed: row.replayed,
            place: 0,
            attempt_guard: None,
        }
    }

    /// Its row for the spool, due after `delay`. None: it is a digest, whose events have rows already.
    fn to_spool(&self, sink: &SinkName, key: u64, delay: Duration, group: Option<Arc<str>>) -> Option<SpooledDelivery> {
        let (event, message) = (self.payload.event(), self.payload.message()?);
        Some(SpooledDelivery {
            sink: sink.clone(),
            key,
            received: Timestamp::now().before(self.received_at.elapsed()),
            due: MonotonicTime::now().after(delay),
            attempts: self.attempts,
            refusals: self.refusals,
            last_error: self.failure.as_ref().map(|failure| failure.error.clone()),
            route: self.route.clone(),
            kind: event.kind.to_owned(),
            tenant: Arc::clone(&event.tenant),
            event_id: event.id,
            message: Arc::clone(message),
            group,
            digest: None,
            may_be_known: message.redelivered,
            replayed: self.replayed,
        })
    }

    /// Records how it ended. The copy of a dead letter is no event, and leaves no record.
    fn record(&self, journal: &Journal, sink: &SinkName, end: &DeliveryEnd<'_>) {
        let record = |event: &Event, received_at: Instant, replayed: bool| {
            let delivery = DeliveryRecord {
                event: event.id.into_bytes(),
                sink: Some(sink.as_str()),
                attempts: self.attempts,
                at: WallTime::now().0,
                replayed,
                duration: u64::try_from(received_at.elapsed().as_millis()).ok(),
                last_error: self.failure.as_ref().map(|failure| short_detail(&failure.error)),
                end: end.clone(),
            };
            journal.record_delivery(&event.request_name(), &delivery);
        };
        match &*self.payload {
            Payload::Event { event, .. } => record(event, self.received_at, self.replayed),
            Payload::Digest { events, .. } => {
                for event in events {
                    record(&event.event, event.received_at, event.replayed);
                }
            }
            Payload::DeadLetterCopy { .. } => {}
        }
    }

    /// Counts it as delivered: a digest once for each event.
    fn count_delivered(&self, stats: &SinkStats) {
        match &*self.payload {
            Payload::Digest { events, .. } => {
                for event in events {
                    stats.count_delivered(event.received_at.elapsed());
                }
            }
            _ => stats.count_delivered(self.received_at.elapsed()),
        }
    }

    /// The rest of the back-off before its next attempt.
    fn backoff(&self) -> Duration {
        let due = self.failure.as_ref().map(|failure| failure.due);
        due.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()))
    }

    /// Whether it must be stored soon, even beyond the limits of the spool.
    fn must_be_stored(&self) -> bool {
        matches!(&self.backing, Backing::Receipt(receipt) if receipt.must_spill())
    }

    fn blocks_source(&self) -> bool {
        matches!(&self.backing, Backing::Receipt(receipt) if receipt.should_spill())
    }
}

#[cfg(test)]
mod tests;
