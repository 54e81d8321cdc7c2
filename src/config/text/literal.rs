//! Values of any type, as JSON.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use super::decode::Decode;
use super::reader::Reader;
use super::tree::{Kind, Node};
use crate::event::is_exact_double;

#[derive(Debug)]
pub struct Literal(pub Value);

impl Decode for Literal {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let json = json(node, reader)?;
        // A number that no program can store exactly is compared as a text.
        Some(Self(serde_json::from_str(&json).unwrap_or(Value::String(json))))
    }
}

/// The value of a node as JSON, its members sorted by name.
pub fn json(node: &Node, reader: &mut Reader<'_>) -> Option<String> {
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

/// The JSON of a scalar without quotes that is no text by YAML 1.2's core schema: `true`, `false` and numbers.
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
