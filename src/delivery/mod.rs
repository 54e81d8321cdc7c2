//! One event for one sink, until it is settled: lanes, attempts, retries.
//!
//! A [`Delivery`] holds a share of its message's receipt. It ends delivered, or as a dead letter on disk; only then is its
//! share settled. While it is retried the message stays unacknowledged: slower, never lost.

mod dispatcher;
mod lanes;
mod notice;
mod stats;

pub use dispatcher::Dispatcher;
pub use lanes::{Lane, Lanes};
pub use notice::Throttle;
pub use stats::{DeliveryResult, Histogram, RouteStats, SinkStats, Stats};

use std::sync::Arc;
use std::time::Instant;

use crate::event::{Event, Message};
use crate::rules::RouteName;
use crate::source::Receipt;

/// An event together with the message it was made of, shared by all its deliveries.
#[derive(Debug)]
pub struct Received {
    /// What rules, templates and formats see.
    pub event: Event,
    /// What was received: for `original`, headers and dead letters.
    pub message: Arc<Message>,
}

/// One event for one sink.
#[derive(Debug)]
pub struct Delivery {
    /// What is delivered.
    pub received: Arc<Received>,
    /// The route that chose the sink; none: `unrouted:` names it.
    pub route: Option<RouteName>,
    /// Its share of the message.
    pub receipt: Receipt,
    /// When the message was received.
    pub since: Instant,
    /// How many attempts have ended.
    pub attempts: u32,
}
