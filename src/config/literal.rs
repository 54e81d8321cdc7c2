//! Values of any type, as YAML writes them: what `set` makes of a field.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Number, Value};

use super::decode::{At, Decode, at};
use super::reader::Reader;
use super::scalar::Text;
use super::yaml::{Kind, Node};

/// The key under which an expression stands.
const CEL: &str = "cel";

/// A value, or `{ cel: … }`.
#[derive(Debug)]
pub(super) enum SetValue {
    /// As it is written.
    Literal(Value),
    /// What this gives.
    Computed(At<Text>),
}

impl Decode for SetValue {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.kind {
            Kind::Mapping(entries) if entries.len() == 1 && entries.iter().any(|(key, _)| key.text == CEL) => {
                let (_, expression) = entries.first()?;
                Some(Self::Computed(at(expression, reader)?))
            }
            _ => literal(node, reader).map(Self::Literal),
        }
    }
}

/// A value.
#[derive(Debug)]
pub(super) struct Literal(pub Value);

impl Decode for Literal {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        literal(node, reader).map(Self)
    }
}

/// As deep as the file may be.
fn literal(node: &Node, reader: &mut Reader<'_>) -> Option<Value> {
    match &node.kind {
        Kind::Scalar(_) if node.is_null() => Some(Value::Null),
        Kind::Scalar(_) => {
            let filled = reader.fill(node, "a value")?;
            Some(if filled.plain { typed(filled.text) } else { Value::String(filled.text) })
        }
        Kind::Sequence(items) => {
            items.iter().map(|item| literal(item, reader)).collect::<Option<_>>().map(Value::Array)
        }
        Kind::Mapping(_) => {
            let mut members = Map::new();
            for (key, value) in reader.mapping(node)? {
                members.insert(key.text.clone(), literal(value, reader)?);
            }
            Some(Value::Object(members))
        }
    }
}

/// What is written without quotes: by YAML 1.2's core schema `true`, `false` and numbers are none of text.
fn typed(text: String) -> Value {
    let is_number =
        text.trim_start_matches(['-', '+']).starts_with(|first: char| first.is_ascii_digit() || first == '.');
    let number = || text.parse().map(Number::from_i128).ok().flatten().or_else(|| Number::from_f64(text.parse().ok()?));
    match text.as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => match is_number.then(number).flatten() {
            Some(number) => Value::Number(number),
            None => Value::String(text),
        },
    }
}

impl JsonSchema for Literal {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Literal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!(true)
    }
}

impl JsonSchema for SetValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SetValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A value, or `{ cel: … }`: what that expression gives for the event" })
    }
}
