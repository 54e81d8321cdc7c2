//! What a template sees: the event's fields, `headers` and `properties`, as minijinja's values.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::Value;

use super::exact::Exact;
use crate::event::parsed::{Number, Parsed, parse};
use crate::event::vocabulary::{Holds, PROPERTIES, Scope, Vocabulary};
use crate::event::{AmqpNumber, Header, HeaderValue, Properties};

/// Where values come from by their first names: an event, or a made-up one.
pub(super) trait Source {
    /// None is null.
    fn value(&self, name: &str) -> Option<Value>;
}

impl Source for Scope<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        if let Some(transformed) = self.transformed
            && !["headers", "properties"].contains(&name)
        {
            return transformed.field(name).filter(|json| *json != "null").map(of_json);
        }
        let mut vocabularies = [Vocabulary::Event, Vocabulary::DeadLetter].into_iter();
        if let Some(field) = vocabularies.find_map(|vocabulary| vocabulary.field(name)) {
            return field.of(self).map(|text| Value::from(text.as_ref()));
        }
        match name {
            "extra" => {
                let members = self.event.extra.iter();
                Some(Value::from_pairs(members.map(|(name, raw)| (name.as_str(), of_json(raw.get())))))
            }
            "warnings" => Some(self.event.warnings.iter().map(String::as_str).collect()),
            "headers" => Some(of_table(&self.message.properties.headers)),
            "properties" => Some(of_properties(&self.message.properties)),
            _ => None,
        }
    }
}

/// An event that was never received: every name there is has a value, but for one.
pub(super) struct Probe<'a> {
    /// What is null: a name, possibly nested; `""` is everything that can be.
    pub(super) null: Option<&'a str>,
    /// Which names there are.
    pub(super) vocabulary: &'a Vocabulary,
}

impl Source for Probe<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        let null = self.null.unwrap_or("-");
        let (first, rest) = null.split_once('.').unwrap_or((null, ""));
        let nullable = self.vocabulary.name_can_be_null(name);
        match name {
            "properties" => {
                let names = PROPERTIES.iter().filter(|known| !null.is_empty() && **known != rest);
                Some(Value::from_pairs(names.map(|known| (*known, "x"))))
            }
            _ => match self.vocabulary.shape(name)?.holds {
                Holds::Members if null.is_empty() || first == name => Some(Value::from_pairs([("", "")])),
                _ if nullable && (null.is_empty() || null == name) => None,
                Holds::Anything if first == name => Some(Value::from_pairs([("", "")])),
                Holds::Members | Holds::Anything | Holds::Properties => Some(Value::from_object(Anything)),
                Holds::List => Some([""; 0].into_iter().collect()),
                Holds::Text => Some(Value::from("x")),
            },
        }
    }
}

/// Has every member, and each is text.
struct Anything;

impl fmt::Debug for Anything {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("x")
    }
}

impl minijinja::value::Object for Anything {
    fn get_value(self: &std::sync::Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::from_object(Self))
    }

    fn render(self: &std::sync::Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("x")
    }
}

fn of_properties(properties: &Properties) -> Value {
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    // As in `PROPERTIES`.
    let values = [
        ("app_id", text(&properties.app_id)),
        ("cluster_id", text(&properties.cluster_id)),
        ("content_encoding", text(&properties.content_encoding)),
        ("content_type", text(&properties.content_type)),
        ("correlation_id", text(&properties.correlation_id)),
        ("delivery_mode", properties.delivery_mode.map(Value::from)),
        ("expiration", text(&properties.expiration)),
        ("message_id", text(&properties.message_id)),
        ("priority", properties.priority.map(Value::from)),
        ("reply_to", text(&properties.reply_to)),
        ("timestamp", properties.timestamp.map(Value::from)),
        ("type", text(&properties.kind)),
        ("user_id", text(&properties.user_id)),
    ];
    Value::from_pairs(values.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))))
}

fn of_table(table: &[Header]) -> Value {
    let mut values = BTreeMap::new();
    for (name, value) in table {
        // Of headers of one name the first one counts, as everywhere.
        values.entry(name.as_str()).or_insert_with(|| of_header(value));
    }
    Value::from_pairs(values)
}

fn of_header(value: &HeaderValue) -> Value {
    match value {
        HeaderValue::Null => Value::UNDEFINED,
        HeaderValue::Bool(value) => Value::from(*value),
        HeaderValue::Integer(value) => Value::from(*value),
        HeaderValue::Float(value) => Value::from(*value),
        HeaderValue::Number(AmqpNumber::Float(value)) => Value::from(f64::from(*value)),
        HeaderValue::Number(number) => of_parsed(Parsed::Number(&number.to_string())),
        HeaderValue::Timestamp(seconds) => Value::from(*seconds),
        HeaderValue::Text(text) => Value::from(text.as_str()),
        HeaderValue::Binary(bytes) | HeaderValue::BinaryText(bytes) => Value::from(STANDARD.encode(bytes)),
        HeaderValue::Array(values) => values.iter().map(of_header).collect(),
        HeaderValue::Table(table) => of_table(table),
    }
}

/// A JSON value, its nulls as undefined ones. A number that minijinja can't hold as it is written is [`Exact`].
fn of_json(json: &str) -> Value {
    of_parsed(parse(json))
}

fn of_parsed(parsed: Parsed<'_>) -> Value {
    match parsed {
        Parsed::Null => Value::UNDEFINED,
        Parsed::Bool(value) => Value::from(value),
        Parsed::Text(text) => Value::from(text.as_ref()),
        Parsed::Number(raw) => match Number::of(raw) {
            Number::Integer(value) => i64::try_from(value)
                .map(Value::from)
                .or_else(|_| u64::try_from(value).map(Value::from))
                .unwrap_or_else(|_| Value::from(value)),
            Number::Double(value) => Value::from(value),
            Number::Exact(raw) => Value::from_object(Exact(raw.to_owned())),
        },
        Parsed::List(items) => Value::from(items.into_iter().map(of_parsed).collect::<Vec<_>>()),
        Parsed::Map(members) => {
            let members: BTreeMap<_, _> = members.into_iter().map(|(name, value)| (name, of_parsed(value))).collect();
            Value::from_pairs(members)
        }
    }
}
