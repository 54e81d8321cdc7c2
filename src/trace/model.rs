//! A trace, as `--json` prints it. Users rely on the names of its fields.

use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::clock::WallTime;
use crate::journal::Destination;

#[derive(Debug, Serialize)]
pub struct Trace {
    /// In the order in which their first event was received.
    pub requests: Vec<Request>,
    /// More than [`MAX_REQUESTS`](super::MAX_REQUESTS) match.
    #[serde(skip)]
    pub has_more: bool,
    /// When the oldest record was written; none: nothing is recorded yet.
    #[serde(skip)]
    pub recorded_since: Option<WallTime>,
}

/// What REGARDS said of one request, identified by tenant and `correlationId`, and who got it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    pub tenant: String,
    pub correlation_id: String,
    pub product_id: Option<String>,
    /// In the order of receipt.
    pub events: Vec<TracedEvent>,
    /// The alerts that watch it until it ends.
    pub alerts: Vec<TracedAlert>,
}

/// An alert that watches a request.
#[derive(Debug, Serialize)]
pub struct TracedAlert {
    pub name: String,
    pub state: TracedAlertState,
    /// When the request is overdue.
    #[serde(serialize_with = "time")]
    pub at: WallTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TracedAlertState {
    /// The request has no end yet, and some time left.
    Open,
    Overdue,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TracedEvent {
    #[serde(serialize_with = "id")]
    pub id: Uuid,
    pub status: String,
    pub outcome: String,
    pub source: String,
    #[serde(serialize_with = "time")]
    pub received_at: WallTime,
    pub redelivered: bool,
    /// `send-test` has sent it.
    #[serde(rename = "test", skip_serializing_if = "std::ops::Not::not")]
    pub is_test: bool,
    /// REGARDS' own text; none: it sent none, or messages are not recorded.
    pub message: Option<String>,
    /// The routes that matched.
    pub routes: Vec<String>,
    pub deliveries: Vec<TracedDelivery>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TracedDelivery {
    /// None: the event became a dead letter before it had a sink.
    pub sink: Option<String>,
    pub state: DeliveryState,
    /// How many attempts have ended.
    pub attempts: u32,
    /// When it ended.
    #[serde(serialize_with = "optional_time")]
    pub at: Option<WallTime>,
    /// From the receipt to the end, in seconds.
    pub duration: Option<f64>,
    /// Where the destination has it.
    pub to: Option<TracedDestination>,
    /// How the last attempt that failed did so, or why it became a dead letter.
    pub last_error: Option<String>,
    #[serde(serialize_with = "optional_time")]
    pub next_attempt: Option<WallTime>,
    /// The number of the dead letter.
    pub dead_letter: Option<i64>,
    pub replayed: bool,
    /// Whether the dead letter is still stored.
    #[serde(skip)]
    pub is_stored: bool,
    /// Why the sink makes no attempts: it is paused, or its breaker is open.
    #[serde(skip)]
    pub trouble: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    Delivered,
    Waiting,
    DeadLetter,
    Dropped,
    /// A test event that the destination did not take.
    Failed,
    /// The record of its end is missing: the relay was killed just then, or the record was left out.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum TracedDestination {
    Kafka { topic: String, partition: i32, offset: i64 },
    Webhook { url: String, status: u16 },
    Amqp { exchange: String, routing_key: String },
    File { path: String, offset: u64 },
    Stdout {},
}

impl From<Destination<'_>> for TracedDestination {
    fn from(destination: Destination<'_>) -> Self {
        match destination {
            Destination::Kafka { topic, partition, offset } => {
                Self::Kafka { topic: topic.to_owned(), partition, offset }
            }
            Destination::Webhook { url, status } => Self::Webhook { url: url.to_owned(), status },
            Destination::Amqp { exchange, routing_key } => {
                Self::Amqp { exchange: exchange.to_owned(), routing_key: routing_key.to_owned() }
            }
            Destination::File { path, offset } => Self::File { path: path.into_owned(), offset },
            Destination::Stdout => Self::Stdout {},
        }
    }
}

fn id<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn time<S: Serializer>(time: &WallTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339())
}

#[expect(clippy::ref_option, reason = "as serde calls it")]
fn optional_time<S: Serializer>(at: &Option<WallTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => time(at, serializer),
        None => serializer.serialize_none(),
    }
}
