//! The key `format:` of a sink.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::text::decode::{Decode, mapping};
use super::super::text::reader::Reader;
use super::super::text::scalar::Text;
use super::super::text::tree::{Kind, Node};
use super::Registry;
use crate::event::Format;

/// The value of `format:`: a name, or a format with a schema.
#[derive(Debug)]
pub(in crate::config) enum FormatChoice {
    Name(Text),
    Schema(Box<SchemaFormats>),
}

mapping! {
    /// A format with a schema: one of `avro`, `json_schema` and `protobuf`.
    SchemaFormats {
        /// Encode the body by an Avro schema, in Avro's binary encoding
        avro: SchemaSettings,
        /// Send JSON that a JSON Schema describes
        json_schema: SchemaSettings,
        /// Encode the body by a message type of Protobuf
        protobuf: SchemaSettings,
    }
}

mapping! {
    /// The schema of a format; `{}` is the relay's own.
    SchemaSettings {
        /// The schema: `event` is the relay's own schema of the normalized event, which `schema avro`, `schema json_schema` and `schema protobuf` print; `latest` is the latest one of the subject in `registry`; or a file, for `avro` with the extension `.avsc`, for `json_schema` `.json`, for `protobuf` `.proto`, by which the event or the result of `body` is encoded
        schema: Text ["event"],
        /// The full name of the message, for `protobuf` with a schema that has several, as in `demo.Product`
        message: Text,
        /// The schema registry that names the schema, for `kafka` sinks; without it records have no prefix
        registry: Registry,
    }
}

impl Decode for FormatChoice {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.kind {
            Kind::Mapping(_) => SchemaFormats::decode(node, reader).map(|formats| Self::Schema(Box::new(formats))),
            _ => Text::decode(node, reader).map(Self::Name),
        }
    }
}

impl JsonSchema for FormatChoice {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FormatChoice".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let formats = generator.subschema_for::<SchemaFormats>();
        json_schema!({ "anyOf": [{ "enum": Format::NAMES }, formats, { "type": "string", "pattern": r"\$\{.+\}" }] })
    }
}
