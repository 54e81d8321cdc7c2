//! Formats with a schema: from an event, or from JSON, to Avro, Protobuf, or JSON that a JSON Schema describes.
//!
//! A [`Schema`] is compiled once, when the configuration is loaded or a registry is read, and never for an event. Nothing here
//! reads a file or a network: whoever compiles a schema has its text.

mod of_event;
#[cfg(test)]
mod tests;
mod varint;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use super::format::to_json;
use super::{Carrier, EncodedBody, Event, EventView, Format, TemplateError};

/// The languages of schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemaKind {
    Avro,
    JsonSchema,
    Protobuf,
}

/// A schema as text: what a registry looks up and registers, byte by byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaText {
    pub kind: SchemaKind,
    pub text: String,
    /// The schemas that it refers to, those that others refer to first.
    pub references: Vec<SchemaReference>,
}

/// A schema that another one refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaReference {
    /// The name by which it is referred to: of an Avro type, an import of Protobuf, a `$ref` of JSON Schema.
    pub name: String,
    /// Where a registry has it.
    pub subject: Option<String>,
    pub version: Option<u32>,
    pub text: String,
}

/// A compiled schema. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Schema(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    text: SchemaText,
}

/// `format:` with a schema.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaFormat {
    pub kind: SchemaKind,
    pub source: SchemaSource,
    /// What is encoded by the schema, and what is shown of a delivery.
    pub json: Format,
}

/// Whose schema it is.
#[derive(Debug, Clone, PartialEq)]
pub enum SchemaSource {
    /// The relay's own schema of the normalized event.
    Event,
}

const AVRO: &str = "application/vnd.apache.avro";
const PROTOBUF: &str = "application/x-protobuf";
/// Most events are shorter, in bytes.
const TYPICAL_LENGTH: usize = 512;

impl SchemaKind {
    pub const ALL: [Self; 3] = [Self::Avro, Self::JsonSchema, Self::Protobuf];

    /// The word for it in the configuration and in the output of commands.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Avro => "avro",
            Self::JsonSchema => "json_schema",
            Self::Protobuf => "protobuf",
        }
    }

    /// Whether the encoded bodies are bytes, not text.
    #[must_use]
    pub const fn is_binary(self) -> bool {
        matches!(self, Self::Avro | Self::Protobuf)
    }
}

impl Schema {
    /// The relay's own schema of the normalized event. It only ever grows compatibly (`FULL_TRANSITIVE`).
    #[must_use]
    pub fn of_event(kind: SchemaKind) -> Self {
        static ALL: LazyLock<[Schema; 3]> = LazyLock::new(|| {
            SchemaKind::ALL.map(|kind| {
                let text = of_event::text(kind).to_owned();
                Schema(Arc::new(Compiled { text: SchemaText { kind, text, references: Vec::new() } }))
            })
        });
        let [avro, json_schema, protobuf] = &*ALL;
        match kind {
            SchemaKind::Avro => avro,
            SchemaKind::JsonSchema => json_schema,
            SchemaKind::Protobuf => protobuf,
        }
        .clone()
    }

    #[must_use]
    pub fn text(&self) -> &SchemaText {
        &self.0.text
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text
    }
}

impl SchemaFormat {
    /// The name of the schema as the configuration has it.
    #[must_use]
    pub fn schema_name(&self) -> Cow<'_, str> {
        match &self.source {
            SchemaSource::Event => "event".into(),
        }
    }

    /// The MIME type of the bodies; `None` if it is that of the JSON.
    const fn content_type(&self) -> Option<&'static str> {
        match self.kind {
            SchemaKind::Avro => Some(AVRO),
            SchemaKind::Protobuf => Some(PROTOBUF),
            SchemaKind::JsonSchema => None,
        }
    }

    pub(super) fn encode(&self, view: EventView<'_>, carrier: Carrier) -> Result<EncodedBody, TemplateError> {
        let SchemaSource::Event = self.source;
        if view.transformed.is_some() || view.digest.is_some() {
            // The check of the configuration refuses them; a redrive may bring one from the route of another sink.
            return Err(TemplateError("the schema `event` has no room for a transformed event or a digest".to_owned()));
        }
        let Some(content_type) = self.content_type() else { return self.json.encode(view, carrier) };
        let mut body = Vec::with_capacity(TYPICAL_LENGTH);
        encode_event(self.kind, view.event, &mut body)?;
        Ok(EncodedBody::of(body, content_type))
    }
}

/// Encodes the event by the relay's own schema of that kind: by hand, without JSON in between.
fn encode_event(kind: SchemaKind, event: &Event, out: &mut Vec<u8>) -> Result<(), TemplateError> {
    match kind {
        SchemaKind::Avro => of_event::to_avro(event, &extra(event)?, out),
        SchemaKind::Protobuf => of_event::to_protobuf(event, &extra(event)?, out),
        SchemaKind::JsonSchema => out.extend(to_json(event)?),
    }
    Ok(())
}

/// The field `extra` as JSON.
fn extra(event: &Event) -> Result<Cow<'static, [u8]>, TemplateError> {
    if event.extra.is_empty() { Ok(Cow::Borrowed(b"{}")) } else { to_json(&event.extra).map(Cow::Owned) }
}
