//! From event to bytes: the formats a sink can ask for.

mod cloudevents;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;

use super::{Message, Scope, Template, TemplateError};

/// What the body of a delivery is.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Format {
    /// The normalized event as JSON.
    #[default]
    Normalized,
    /// The bytes as received.
    Original,
    /// `CloudEvents` 1.0: structured or binary, as the carrier has it.
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
    /// AMQP: binary mode, headers `ce-…`.
    Amqp,
    /// A line in a file: structured mode, no line breaks.
    Line,
}

/// A body with what has to be said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The bytes.
    pub body: Bytes,
    /// Their MIME type; none where it isn't known. In binary `CloudEvents` it is the attribute `datacontenttype`.
    pub content_type: Option<Cow<'static, str>>,
    /// The `content_encoding` as received, for `original` only.
    pub content_encoding: Option<String>,
    /// Headers that belong to the format: the attributes of binary `CloudEvents`.
    pub headers: Vec<(Cow<'static, str>, String)>,
}

/// The MIME type of the normalized event.
const JSON: &str = "application/json";
/// Most normalized events fit into this, in bytes.
const TYPICAL_LENGTH: usize = 768;
const TEXT: &str = "text/plain; charset=utf-8";

impl Format {
    /// The formats that have a name in `format:`.
    pub const NAMES: [&str; 3] = ["normalized", "original", "cloudevents"];

    /// The body of that event for that carrier.
    pub fn encode(&self, scope: Scope<'_>, carrier: Carrier) -> Result<Encoded, TemplateError> {
        let mut encoded = match self {
            Self::Normalized => Encoded::of(to_json(&scope)?, JSON),
            Self::Original => {
                let Message { body, properties, .. } = scope.message;
                Encoded {
                    body: body.clone(),
                    content_type: properties.content_type.clone().map(Cow::Owned),
                    content_encoding: properties.content_encoding.clone(),
                    headers: Vec::new(),
                }
            }
            Self::CloudEvents { name } => cloudevents::encode(name, scope, carrier)?,
            Self::Body(template) => {
                let body = template.render(scope)?;
                let mime = if is_json(&body) { JSON } else { TEXT };
                Encoded::of(body.into(), mime)
            }
        };
        if carrier == Carrier::Line {
            encoded.body = on_one_line(encoded.body);
        }
        Ok(encoded)
    }
}

impl Encoded {
    fn of(body: Vec<u8>, content_type: &'static str) -> Self {
        Self {
            body: body.into(),
            content_type: Some(Cow::Borrowed(content_type)),
            content_encoding: None,
            headers: Vec::new(),
        }
    }
}

/// JSON on one line: white space outside strings was removed when the event was read, and strings escape theirs.
fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, TemplateError> {
    let mut json = Vec::with_capacity(TYPICAL_LENGTH);
    // An event is text keys and values through and through: serializing one can't fail.
    serde_json::to_writer(&mut json, value)
        .map_err(|error| TemplateError(format!("the event can't be written as JSON: {error}")))?;
    Ok(json)
}

/// Whether a templated body is a JSON object or array, so that its receiver can be told so.
fn is_json(body: &str) -> bool {
    body.trim_start().starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok()
}

/// Line breaks made spaces. In JSON they can only stand between tokens, so that the value stays the same.
fn on_one_line(body: Bytes) -> Bytes {
    if !body.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return body;
    }
    body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}
