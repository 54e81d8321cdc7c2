//! The result of rendering one event for one sink.

use std::path::PathBuf;

use bytes::Bytes;
use uuid::Uuid;

use crate::event::{EncodeError, HeaderValue, Properties, Reason, TransformError};

/// One event, rendered for one sink. Each attempt of its delivery sends it.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderedDelivery {
    /// The event's id: the same at every sink and in every attempt.
    pub id: Uuid,
    pub destination: Destination,
    /// In the order they are sent. A webhook's signature is added at each attempt, as it depends on the time.
    pub headers: Vec<(String, HeaderValue)>,
    pub body: Bytes,
}

/// The header of a delivery that is one of a replay.
pub const REPLAYED: &str = "regards-relay-replayed";
/// The header of a test.
const TEST: &str = "regards-relay-test";

impl RenderedDelivery {
    /// Marks it as one of a replay. A line of a file has no headers, and no mark.
    pub fn mark_as_replayed(&mut self) {
        self.mark(REPLAYED);
    }

    /// Marks it as a test, in the same way.
    pub fn mark_as_test(&mut self) {
        self.mark(TEST);
    }

    fn mark(&mut self, header: &str) {
        if matches!(self.destination, Destination::File { .. } | Destination::Stdout) {
            return;
        }
        // The configuration of a webhook may have a header of this name.
        self.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(header));
        self.headers.push((header.to_owned(), HeaderValue::Text("true".to_owned())));
    }
}

/// Where one delivery goes: the values of the sink's templates, checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Destination {
    Kafka {
        topic: String,
        /// `None` is Kafka's null key.
        key: Option<String>,
        /// Milliseconds since 1970, if the sink takes the time of the event.
        timestamp: Option<i64>,
        /// The subject of the body's schema, if the sink has a registry. The registry's prefix is put before the body when the
        /// id of the schema is known.
        subject: Option<String>,
    },
    Webhook {
        /// `None` if every event goes to the same URL: it may be secret, and is read from the configuration at each attempt.
        url: Option<url::Url>,
    },
    Amqp {
        exchange: String,
        /// At most 255 bytes (AMQP's short string).
        routing_key: String,
        /// The properties that the relay sets, without `headers`.
        properties: Box<Properties>,
    },
    File {
        /// An absolute path below the data directory.
        path: PathBuf,
    },
    Stdout,
}

/// An event that can't be rendered for a sink, and becomes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct RenderError {
    /// `render_failed` or `loop`, the two reasons that rendering has.
    pub reason: Reason,
    /// What was found, and what was expected.
    pub detail: String,
    /// The value doesn't fit the schema of the sink's format: if that is so of many events in a row, the schema is at fault.
    pub is_misfit: bool,
}

impl RenderError {
    /// `what` is the part of the delivery that could not be rendered.
    pub(crate) fn failed(what: &str, error: impl std::fmt::Display) -> Self {
        Self { reason: Reason::RenderFailed, detail: format!("{what}: {error}"), is_misfit: false }
    }

    pub(crate) fn of_body(error: EncodeError) -> Self {
        Self { is_misfit: matches!(error, EncodeError::Misfit(_)), ..Self::failed("body", error) }
    }
}

impl From<TransformError> for RenderError {
    fn from(error: TransformError) -> Self {
        Self::failed("transform", error)
    }
}
