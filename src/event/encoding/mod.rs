//! Formats with a schema: from an event, or from JSON, to Avro, Protobuf, or JSON that a JSON Schema describes.
//!
//! A [`Schema`] is compiled once, when the configuration is loaded or a registry is read, and never for an event. Nothing here
//! reads a file or a network: whoever compiles a schema has its text.

mod avro;
mod error;
mod json_schema;
mod misfit;
mod number;
mod of_event;
mod protobuf;
#[cfg(test)]
mod tests;
mod time;
mod varint;

pub use error::SchemaError;
pub use misfit::Misfit;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use super::format::to_json;
use super::json;
use super::json_value;
use super::{Carrier, EncodeError, EncodedBody, Event, EventView, Format, TemplateError};

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
    /// The message of Protobuf that it was compiled for.
    message: Option<String>,
    codec: Codec,
}

#[derive(Debug)]
enum Codec {
    /// The relay's own schema, by which events are encoded without JSON in between.
    Event,
    Avro(avro::AvroSchema),
    Protobuf(protobuf::ProtoSchema),
    JsonSchema(json_schema::JsonSchema),
}

#[derive(Debug, Clone, PartialEq)]
pub struct SchemaFormat {
    pub kind: SchemaKind,
    pub source: SchemaSource,
    /// What is encoded by the schema, and what is shown of a delivery.
    pub json: Format,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SchemaSource {
    /// The relay's own schema of the normalized event.
    Event,
    /// A file, by its path as the configuration has it.
    File { path: String, schema: Schema },
    /// The latest one that the registry has under the subject; the sink encodes by it. `message` is that of Protobuf.
    Latest { message: Option<String> },
}

/// The word for the latest schema of a subject.
pub const LATEST: &str = "latest";
const AVRO: &str = "application/vnd.apache.avro";
const PROTOBUF: &str = "application/x-protobuf";
/// How deep JSON may be nested; an event has a level more than its message.
const MAX_LEVELS: usize = json::MAX_DEPTH + 8;
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
                let text = SchemaText { kind, text, references: Vec::new() };
                Schema(Arc::new(Compiled { text, message: None, codec: Codec::Event }))
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

    /// Compiles a schema. `message` is the full name of a message of Protobuf; not needed if there is only one.
    pub fn compile(text: SchemaText, message: Option<&str>) -> Result<Self, SchemaError> {
        let codec = match text.kind {
            SchemaKind::Avro => Codec::Avro(avro::compile(&text)?),
            SchemaKind::Protobuf => Codec::Protobuf(protobuf::compile(&text, message)?),
            SchemaKind::JsonSchema => Codec::JsonSchema(json_schema::JsonSchema::compile(&text)?),
        };
        Ok(Self(Arc::new(Compiled { text, message: message.map(str::to_owned), codec })))
    }

    #[must_use]
    pub fn text(&self) -> &SchemaText {
        &self.0.text
    }

    /// Encodes JSON. Members without a field are left out, but for JSON Schema, which decides for itself.
    pub fn encode_json(&self, json: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
        let not_json = || Misfit::new("text that is not JSON", "JSON");
        let text = std::str::from_utf8(json).map_err(|_| not_json())?;
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| not_json())?;
        if json::deeper_than(text, MAX_LEVELS) {
            return Err(Misfit::new("JSON that is nested too deep", format!("at most {MAX_LEVELS} levels")));
        }
        let value = json_value::parse(text);
        match &self.0.codec {
            Codec::Event => Err(Misfit::new("JSON", "an event, which has an encoder of its own")),
            Codec::Avro(schema) => schema.encode(&value, out),
            Codec::Protobuf(schema) => schema.encode(&value, out),
            Codec::JsonSchema(schema) => {
                schema.validate(json)?;
                out.extend_from_slice(json);
                Ok(())
            }
        }
    }

    /// The place of the message in its file, as Confluent's wire format has it between the id and the message: `[0]` is one zero
    /// byte. Empty for the other kinds.
    #[must_use]
    pub fn message_indexes(&self) -> &[u8] {
        match (&self.0.codec, self.0.text.kind) {
            (Codec::Protobuf(schema), _) => &schema.indexes,
            (Codec::Event, SchemaKind::Protobuf) => &[0],
            _ => &[],
        }
    }
}

/// The files that a .proto file imports, but for `google/protobuf/…`, which is built in.
pub fn proto_imports(text: &str) -> Result<Vec<String>, SchemaError> {
    protobuf::imports(text)
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.text == other.0.text && self.0.message == other.0.message)
    }
}

impl SchemaFormat {
    /// The name of the schema as the configuration has it.
    #[must_use]
    pub fn schema_name(&self) -> Cow<'_, str> {
        match &self.source {
            SchemaSource::Event => "event".into(),
            SchemaSource::File { path, .. } => path.into(),
            SchemaSource::Latest { .. } => LATEST.into(),
        }
    }

    /// The MIME type of the bodies; `None` if it is that of the JSON.
    pub(super) const fn content_type(&self) -> Option<&'static str> {
        match self.kind {
            SchemaKind::Avro => Some(AVRO),
            SchemaKind::Protobuf => Some(PROTOBUF),
            SchemaKind::JsonSchema => None,
        }
    }

    pub(super) fn encode(&self, view: EventView<'_>, carrier: Carrier) -> Result<EncodedBody, EncodeError> {
        match &self.source {
            SchemaSource::File { schema, .. } => return self.encode_by(schema, view),
            // No header tells the type of what a registry's prefix names.
            SchemaSource::Latest { .. } => return self.json.encode(view, Carrier::Http),
            SchemaSource::Event => {}
        }
        if view.transformed.is_some() || view.digest.is_some() {
            // The check of the configuration refuses them; a redrive may bring one from the route of another sink.
            let problem = "the schema `event` has no room for a transformed event or a digest";
            return Err(TemplateError(problem.to_owned()).into());
        }
        let Some(content_type) = self.content_type() else { return self.json.encode(view, carrier) };
        let mut body = Vec::with_capacity(TYPICAL_LENGTH);
        encode_event(self.kind, view.event, &mut body)?;
        Ok(EncodedBody::of(body, content_type))
    }

    fn encode_by(&self, schema: &Schema, view: EventView<'_>) -> Result<EncodedBody, EncodeError> {
        // Over HTTP, no format adds a header.
        let json = self.json.encode(view, Carrier::Http)?;
        let mut body = Vec::with_capacity(TYPICAL_LENGTH);
        schema.encode_json(&json.body, &mut body)?;
        Ok(match self.content_type() {
            Some(content_type) => EncodedBody::of(body, content_type),
            None => json,
        })
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
