//! From event to bytes: the formats a sink can ask for.

use std::borrow::Cow;

use bytes::Bytes;

use super::{Event, Message, Template, TemplateError};

/// What the body of a delivery is.
#[derive(Debug, Clone, Default)]
pub enum Format {
    /// The normalized event as JSON.
    #[default]
    Normalized,
    /// The bytes as received.
    Original,
    /// CloudEvents 1.0: structured or binary, as the carrier has it.
    CloudEvents {
        /// The relay's name, the first part of the attribute `source`.
        name: String,
    },
    /// What a template makes.
    Body(Template),
}

/// What carries a body: decides how `CloudEvents` and headers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// HTTP: structured mode.
    Http,
    /// Kafka: binary mode, headers `ce_…`.
    Kafka,
    /// AMQP: binary mode, headers `cloudEvents:…`.
    Amqp,
    /// A line in a file: structured mode, no line breaks.
    Line,
}

/// A body with what has to be said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The bytes.
    pub body: Bytes,
    /// Their MIME type; none where it isn't known.
    pub content_type: Option<Cow<'static, str>>,
    /// The `content_encoding` as received, for `original` only.
    pub content_encoding: Option<String>,
    /// Headers that belong to the format: the attributes of binary `CloudEvents`.
    pub headers: Vec<(Cow<'static, str>, String)>,
}

impl Format {
    /// The body of that event for that carrier.
    pub fn encode(&self, _event: &Event, _message: &Message, _carrier: Carrier) -> Result<Encoded, TemplateError> {
        todo!()
    }
}
