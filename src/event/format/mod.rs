//! The formats of a delivery's body: from event to bytes.

mod cloudevents;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;

use super::{EventView, Message, Misfit, SchemaFormat, SchemaKind, SchemaSource, Template, TemplateError};

#[derive(Debug, Clone, Default, PartialEq)]
pub enum Format {
    #[default]
    Normalized,
    /// The body of the message as received.
    Original,
    /// `CloudEvents` 1.0. `name` is the relay's name, the first part of the attribute `source`.
    CloudEvents {
        name: String,
    },
    Body(Template),
    Schema(Box<SchemaFormat>),
}

/// The protocol that carries a body: it decides the mode of `CloudEvents`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    Http,  // structured mode
    Kafka, // binary mode, headers `ce_…`
    Amqp,  // binary mode, headers `ce-…`
    /// A line of a file: structured mode without line breaks.
    Line,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EncodedBody {
    pub body: Bytes,
    /// The MIME type, if it is known. In binary `CloudEvents` it is the attribute `datacontenttype`.
    pub content_type: Option<Cow<'static, str>>,
    /// The message's `content_encoding`, for `original` only.
    pub content_encoding: Option<String>,
    /// The attributes of binary `CloudEvents`.
    pub headers: Vec<(Cow<'static, str>, String)>,
}

/// Why there is no body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The value doesn't fit the schema of the format.
    #[error("{0}")]
    Misfit(Misfit),
}

impl From<Misfit> for EncodeError {
    fn from(misfit: Misfit) -> Self {
        Self::Misfit(misfit)
    }
}

const JSON: &str = "application/json";
/// Most normalized events are shorter, in bytes.
const TYPICAL_LENGTH: usize = 768;
const TEXT: &str = "text/plain; charset=utf-8";

impl Format {
    /// The words for `format:`. A body of a template has `body:` instead, and a format with a schema is a mapping.
    pub const NAMES: [&str; 3] = ["normalized", "original", "cloudevents"];

    /// The language of the schema that encodes the bodies, if there is one.
    #[must_use]
    pub fn schema_kind(&self) -> Option<SchemaKind> {
        self.schema().map(|schema| schema.kind)
    }

    /// Where the schema that encodes the bodies is from, if there is one.
    #[must_use]
    pub fn schema_source(&self) -> Option<&SchemaSource> {
        self.schema().map(|schema| &schema.source)
    }

    fn schema(&self) -> Option<&SchemaFormat> {
        match self {
            Self::Schema(schema) => Some(schema),
            Self::Normalized | Self::Original | Self::CloudEvents { .. } | Self::Body(_) => None,
        }
    }

    /// Whether the bodies are JSON until the latest schema of a registry encodes them.
    #[must_use]
    pub fn wants_latest_schema(&self) -> bool {
        matches!(self.schema_source(), Some(SchemaSource::Latest { .. }))
    }

    /// The MIME type of the bodies, if it is the same for all of them.
    #[must_use]
    pub fn content_type(&self, carrier: Carrier, is_digest: bool) -> Option<&'static str> {
        match self {
            Self::Normalized => Some(JSON),
            Self::CloudEvents { .. } => Some(cloudevents::content_type(carrier, is_digest)),
            Self::Schema(schema) => schema.content_type().or_else(|| schema.json.content_type(carrier, is_digest)),
            Self::Original | Self::Body(_) => None,
        }
    }

    pub fn encode(&self, view: EventView<'_>, carrier: Carrier) -> Result<EncodedBody, EncodeError> {
        let mut encoded = match self {
            Self::Body(template) => {
                let body = template.render(view)?;
                let mime = if is_json(&body) { JSON } else { TEXT };
                EncodedBody::of(body.into(), mime)
            }
            Self::Schema(format) => format.encode(view, carrier)?,
            format if view.digest.is_some() => format.encode_each(view.digest.unwrap_or_default())?,
            Self::Normalized => EncodedBody::of(to_json(&view)?, JSON),
            Self::Original => {
                let Message { body, properties, .. } = view.message;
                EncodedBody {
                    body: body.clone(),
                    content_type: properties.content_type.clone().map(Cow::Owned),
                    content_encoding: properties.content_encoding.clone(),
                    headers: Vec::new(),
                }
            }
            Self::CloudEvents { name } => cloudevents::encode(name, view, carrier)?,
        };
        if carrier == Carrier::Line {
            encoded.body = on_one_line(encoded.body);
        }
        Ok(encoded)
    }

    /// The events of a digest as a JSON array.
    fn encode_each(&self, events: &[EventView<'_>]) -> Result<EncodedBody, TemplateError> {
        match self {
            Self::CloudEvents { name } => cloudevents::encode_batch(name, events),
            Self::Normalized => Ok(EncodedBody::of(to_json(&events)?, JSON)),
            // The check of the configuration refuses them.
            Self::Original | Self::Body(_) | Self::Schema(_) => {
                Err(TemplateError("several events can't be sent as they were received".to_owned()))
            }
        }
    }
}

impl EncodedBody {
    pub(super) fn of(body: Vec<u8>, content_type: &'static str) -> Self {
        Self {
            body: body.into(),
            content_type: Some(Cow::Borrowed(content_type)),
            content_encoding: None,
            headers: Vec::new(),
        }
    }
}

/// JSON on one line: decoding removed the white space outside strings, and line breaks within strings are escaped.
pub(super) fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, TemplateError> {
    let mut json = Vec::with_capacity(TYPICAL_LENGTH);
    // All keys are text: serializing an event can't fail.
    serde_json::to_writer(&mut json, value)
        .map_err(|error| TemplateError(format!("the event can't be written as JSON: {error}")))?;
    Ok(json)
}

/// Whether the body of a template is a JSON object or array, for its `content_type`.
fn is_json(body: &str) -> bool {
    body.trim_start().starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok()
}

/// Replaces line breaks by spaces. In JSON they can only be between tokens, so the value stays the same.
fn on_one_line(body: Bytes) -> Bytes {
    if !body.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return body;
    }
    body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}
