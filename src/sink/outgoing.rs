//! What exactly goes out: the result of rendering one event for one sink.

use std::path::PathBuf;

use bytes::Bytes;
use uuid::Uuid;

use crate::event::{HeaderValue, Properties, Reason, TransformError};

/// Exactly what one attempt sends.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The event's id: the same for every copy and every attempt.
    pub id: Uuid,
    /// Where to.
    pub destination: Destination,
    /// In the order they are sent. Webhook signatures, which depend on the time, are not among them.
    pub headers: Vec<(String, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

/// Where one delivery goes: all that templates made of it, checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Destination {
    /// A record.
    Kafka {
        /// A legal topic name.
        topic: String,
        /// None is a null key.
        key: Option<String>,
        /// Milliseconds since 1970, where the sink takes it from the event.
        timestamp: Option<i64>,
    },
    /// A POST request.
    Webhook {
        /// Of this event; none: the one of the configuration, which may be secret and is read at each attempt.
        url: Option<url::Url>,
    },
    /// A message to an exchange.
    Amqp {
        /// The exchange.
        exchange: String,
        /// At most 255 bytes.
        routing_key: String,
        /// The properties that the relay sets; headers are beside.
        properties: Box<Properties>,
    },
    /// A line in a file.
    File {
        /// Absolute, below the data directory.
        path: PathBuf,
    },
    /// A line on standard output.
    Stdout,
}

/// An event that a sink can't be given: it becomes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Unrenderable {
    /// `render_failed` or `loop`.
    pub reason: Reason,
    /// What was found and what was expected.
    pub detail: String,
}

impl Unrenderable {
    /// What could not be rendered, and why.
    pub(crate) fn failed(what: &str, why: impl std::fmt::Display) -> Self {
        Self { reason: Reason::RenderFailed, detail: format!("{what}: {why}") }
    }
}

impl From<TransformError> for Unrenderable {
    fn from(error: TransformError) -> Self {
        Self::failed("transform", error)
    }
}
