//! Values of any type, as YAML writes them: what `set` makes of a field.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use super::decode::{At, Decode, at};
use super::reader::Reader;
use super::scalar::Text;
use super::yaml::{Kind, Node};
use crate::event::is_exact_double;

/// The key under which an expression stands.
const CEL: &str = "cel";

/// A value, or `{ cel: … }`.
#[derive(Debug)]
pub(super) enum SetValue {
    /// As it is written, as JSON.
    Literal(String),
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
            _ => json(node, reader).map(Self::Literal),
        }
    }
}

/// A value.
#[derive(Debug)]
pub(super) struct Literal(pub Value);

impl Decode for Literal {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let json = json(node, reader)?;
        // What no program holds as a number is compared as a text.
        Some(Self(serde_json::from_str(&json).unwrap_or(Value::String(json))))
    }
}

/// The JSON of it, as deep as the file may be; members in the order of their names.
fn json(node: &Node, reader: &mut Reader<'_>) -> Option<String> {
    Some(match &node.kind {
        Kind::Scalar(_) if node.is_null() => "null".to_owned(),
        Kind::Scalar(_) => {
            let filled = reader.fill(node, "a value")?;
            let typed = filled.plain.then(|| typed(&filled.text)).flatten();
            typed.unwrap_or_else(|| Value::String(filled.text).to_string())
        }
        Kind::Sequence(items) => {
            let items = items.iter().map(|item| json(item, reader)).collect::<Option<Vec<_>>>()?;
            format!("[{}]", items.join(","))
        }
        Kind::Mapping(_) => {
            let mut members = BTreeMap::new();
            for (key, value) in reader.mapping(node)? {
                members.insert(key.text.as_str(), json(value, reader)?);
            }
            let member = |(name, json): (&str, String)| format!("{}:{json}", Value::from(name));
            format!("{{{}}}", members.into_iter().map(member).collect::<Vec<_>>().join(","))
        }
    })
}

/// What is written without quotes: by YAML 1.2's core schema `true`, `false` and numbers are none of text.
fn typed(text: &str) -> Option<String> {
    if text == "true" || text == "false" {
        return Some(text.to_owned());
    }
    let digits = text.trim_start_matches(['-', '+']);
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    let number = || {
        let whole = text.parse().ok().and_then(Number::from_i128);
        whole.map(|whole| whole.to_string()).or_else(|| Some(Number::from_f64(text.parse().ok()?)?.to_string()))
    };
    let written = text.strip_prefix('+').unwrap_or(text);
    let is_json = serde_json::from_str::<&RawValue>(written).is_ok();
    let is_held = text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok() || is_exact_double(written);
    if is_json && !is_held { Some(written.to_owned()) } else { number() }
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
