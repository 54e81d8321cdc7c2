//! What is recorded, and its form in the file: [postcard](https://postcard.jamesmunns.com/wire-format), a compact binary form of serde's
//! data model. The form of version 1 of the schema: a field may be added only with another version.

use std::borrow::Cow;

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize, Serializer};

use super::properties::StoredProperties;
use crate::clock::WallTime;
use crate::event::{Event, Message, SourceName};
use crate::sink::Confirmation;

/// Larger messages are not recorded, only their events. In bytes; larger records would leave the buffer no room for others.
const MAX_BODY: usize = 1024 * 1024;

/// A record that was read.
#[expect(clippy::large_enum_variant, reason = "a record lives on the stack")]
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub enum Record<'a> {
    #[serde(borrow)]
    Event(EventRecord<'a>),
    #[serde(borrow)]
    Delivery(DeliveryRecord<'a>),
}

/// A record to be written. It has the form of a [`Record`].
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum RecordRef<'a> {
    Event(&'a EventRecord<'a>),
    Delivery(&'a DeliveryRecord<'a>),
}

/// An event that was received.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRecord<'a> {
    pub id: [u8; 16],
    /// When its message was received: milliseconds since 1970.
    pub received: i64,
    pub redelivered: bool,
    /// The relay has made it to test a sink.
    pub is_test: bool,
    pub source: &'a str,
    pub tenant: &'a str,
    /// The event's type.
    pub kind: &'a str,
    pub status: &'a str,
    pub outcome: &'a str,
    pub correlation_id: &'a str,
    pub product_id: Option<&'a str>,
    pub session: Option<&'a str>,
    /// The names of the routes that matched.
    pub routes: Vec<&'a str>,
    /// The names of the sinks that get the event.
    pub sinks: Vec<&'a str>,
    /// None: messages are not recorded (`journal: { bodies: false }`).
    #[serde(borrow)]
    pub message: Option<StoredMessage<'a>>,
}

/// The message that an event was decoded from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredMessage<'a> {
    #[serde(borrow)]
    properties: StoredProperties<'a>,
    #[serde(borrow, serialize_with = "serialize_bytes")]
    body: &'a [u8],
}

/// The end of a delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliveryRecord<'a> {
    /// The event's id.
    pub event: [u8; 16],
    /// None: the event became a dead letter before it had a sink.
    pub sink: Option<&'a str>,
    pub attempts: u32,
    /// When it ended: milliseconds since 1970.
    pub at: i64,
    /// It was one of a replay.
    pub replayed: bool,
    /// From the receipt of the message to the end, in milliseconds.
    pub duration: Option<u64>,
    /// How the attempt before the last one failed, as [`short_detail`] has it.
    pub last_error: Option<&'a str>,
    #[serde(borrow)]
    pub end: DeliveryEnd<'a>,
}

/// Errors, and the details of dead letters, are cut to this length, in bytes.
const MAX_DETAIL: usize = 512;

/// As much of an error, or of the detail of a dead letter, as is recorded.
#[must_use]
pub fn short_detail(detail: &str) -> &str {
    detail.get(..detail.floor_char_boundary(MAX_DETAIL)).unwrap_or_default()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum DeliveryEnd<'a> {
    #[serde(borrow)]
    Delivered(Destination<'a>),
    DeadLetter {
        number: i64,
        reason: &'a str,
        /// Why, as [`short_detail`] has it.
        detail: &'a str,
    },
    /// The spool was full, and the configuration says that deliveries are then dropped.
    Dropped,
    /// The destination did not take a test event.
    Failed { error: &'a str },
}

/// Where a delivered event is at its destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Destination<'a> {
    Kafka { topic: &'a str, partition: i32, offset: i64 },
    Webhook { url: &'a str, status: u16 },
    Amqp { exchange: &'a str, routing_key: &'a str },
    File { path: Cow<'a, str>, offset: u64 },
    Stdout,
}

impl<'a> From<&'a Confirmation> for Destination<'a> {
    fn from(confirmation: &'a Confirmation) -> Self {
        match confirmation {
            Confirmation::Kafka { topic, partition, offset } => {
                Self::Kafka { topic, partition: *partition, offset: *offset }
            }
            Confirmation::Webhook { url, status } => Self::Webhook { url, status: *status },
            Confirmation::Amqp { exchange, routing_key } => Self::Amqp { exchange, routing_key },
            Confirmation::File { path, offset } => Self::File { path: path.to_string_lossy(), offset: *offset },
            Confirmation::Stdout => Self::Stdout,
        }
    }
}

impl<'a> StoredMessage<'a> {
    /// None: the body is larger than [`MAX_BODY`].
    pub(super) fn of(message: &'a Message) -> Option<Self> {
        let is_small = message.body.len() <= MAX_BODY;
        is_small.then(|| Self { properties: StoredProperties::of(&message.properties), body: &message.body })
    }

    /// The message as it was received.
    pub fn to_message(&self, source: &str, redelivered: bool) -> Result<Message, String> {
        Ok(Message {
            source: SourceName::new(source),
            body: bytes::Bytes::copy_from_slice(self.body),
            properties: self.properties.to_properties()?,
            redelivered,
        })
    }
}

/// Without it, serde writes a sequence of numbers.
fn serialize_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

impl<'a> EventRecord<'a> {
    /// An event that is received now. Its routes and sinks are still missing.
    pub(super) fn of(event: &'a Event, message: &'a Message, bodies: bool) -> Self {
        Self {
            id: event.id.into_bytes(),
            received: WallTime::now().0,
            redelivered: message.redelivered,
            is_test: false,
            source: event.source.as_str(),
            tenant: &event.tenant,
            kind: event.kind,
            status: event.status,
            outcome: event.outcome.as_str(),
            correlation_id: &event.correlation_id,
            product_id: event.product_id.as_deref(),
            session: event.session.as_deref(),
            routes: Vec::new(),
            sinks: Vec::new(),
            message: if bodies { StoredMessage::of(message) } else { None },
        }
    }
}

impl RecordRef<'_> {
    /// Appends the record. An error leaves a part of it behind.
    pub(super) fn encode(self, bytes: &mut Vec<u8>) -> Result<(), postcard::Error> {
        postcard::serialize_with_flavor(&self, Appending(bytes))
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Record<'_>, postcard::Error> {
    postcard::from_bytes(bytes)
}

/// Lets postcard append to a buffer.
struct Appending<'a>(&'a mut Vec<u8>);

impl Flavor for Appending<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
