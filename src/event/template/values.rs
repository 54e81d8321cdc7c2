//! The variables of a template as minijinja's values: the event's fields, `headers` and `properties`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::{Enumerator, Object, Value};

use super::exact_number::ExactNumber;
use crate::event::json_value::{JsonNumber, JsonValue, parse};
use crate::event::schema::{COUNT, EVENTS, EventSchema, FieldKind, PROPERTIES, TOPIC, TextField};
use crate::event::{AmqpNumber, EventView, Header, HeaderValue};

/// Has the values of a template's variables: an event, or a probe.
pub(super) trait ValueSource {
    fn value(&self, name: &str) -> Option<Value>;
}

impl ValueSource for EventView<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        if let Some(topic) = self.topic.filter(|_| name == TOPIC) {
            return Some(Value::from(topic));
        }
        if let Some(events) = self.digest {
            match name {
                EVENTS => return Some(events.iter().map(|event| Value::from_object(DigestItem::of(event))).collect()),
                COUNT => return Some(Value::from(events.len())),
                _ => {}
            }
        }
        if let Some(transformed) = self.transformed
            && !["headers", "properties"].contains(&name)
        {
            return transformed.field(name).filter(|json| *json != "null").map(of_json);
        }
        let mut schemas = [EventSchema::Event, EventSchema::DeadLetter].into_iter();
        if let Some(field) = schemas.find_map(|schema| schema.field(name)) {
            return field.of(self).map(|text| Value::from(text.as_ref()));
        }
        match name {
            "extra" => {
                let members = self.event.extra.iter();
                Some(Value::from_pairs(members.map(|(name, raw)| (name.as_str(), of_json(raw.get())))))
            }
            "warnings" => Some(self.event.warnings.iter().map(String::as_str).collect()),
            "headers" => Some(of_table(&self.message.properties.headers)),
            "properties" => {
                let members = self.message.properties.present();
                Some(Value::from_pairs(members.map(|(name, value)| (name, of_header(&value)))))
            }
            _ => None,
        }
    }
}

/// An event of a digest: it is written as the event, and has `headers` and `properties` besides.
#[derive(Debug)]
struct DigestItem {
    /// In the event's order; null is undefined.
    fields: Vec<(String, Value)>,
    headers: Value,
    properties: Value,
}

impl DigestItem {
    fn of(view: &EventView<'_>) -> Self {
        let names: Vec<&str> = match view.transformed {
            Some(transformed) => transformed.names().collect(),
            None => TextField::OF_EVENTS.map(TextField::name).into_iter().chain(["extra", "warnings"]).collect(),
        };
        let value = |name: &str| view.value(name).unwrap_or(Value::UNDEFINED);
        let fields = names.into_iter().map(|name| (name.to_owned(), value(name))).collect();
        Self { fields, headers: value("headers"), properties: value("properties") }
    }
}

impl Object for DigestItem {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "headers" => Some(self.headers.clone()),
            "properties" => Some(self.properties.clone()),
            name => self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.fields.iter().map(|(name, _)| Value::from(name.as_str())).collect())
    }
}

/// How many events the digest has that a template is tried out with.
const PROBE_EVENTS: usize = 12;

/// An event made up to try out a template: every name has a value, except one.
pub(super) struct ProbeEvent<'a> {
    /// The name that is null, possibly nested; `""` for every name that can be null.
    pub(super) null: Option<&'a str>,
    pub(super) schema: &'a EventSchema,
    /// Names that the template asks of an event of a digest, and that events don't have.
    pub(super) unknown: Arc<Mutex<Vec<String>>>,
}

impl ValueSource for ProbeEvent<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        let null = self.null.unwrap_or("-");
        let (first, rest) = null.split_once('.').unwrap_or((null, ""));
        let nullable = self.schema.name_can_be_null(name);
        if let (EVENTS, EventSchema::Digest(digest)) = (name, self.schema) {
            let event = ProbeItem {
                null: self.null.map(str::to_owned),
                schema: digest.event.clone(),
                unknown: Arc::clone(&self.unknown),
            };
            let event = Value::from_object(event);
            return Some(std::iter::repeat_n(event, PROBE_EVENTS).collect());
        }
        match name {
            "properties" => {
                let names = PROPERTIES.iter().filter(|known| !null.is_empty() && **known != rest);
                Some(Value::from_pairs(names.map(|known| (*known, "x"))))
            }
            _ => match self.schema.field_type(name)?.kind {
                FieldKind::Map if null.is_empty() || first == name => Some(Value::from_pairs([("", "")])),
                _ if nullable && (null.is_empty() || null == name) => None,
                FieldKind::Any if first == name => Some(Value::from_pairs([("", "")])),
                FieldKind::Map | FieldKind::Any | FieldKind::Properties => Some(Value::from_object(AnyMember)),
                FieldKind::List => Some([""; 0].into_iter().collect()),
                FieldKind::Text => Some(Value::from("x")),
                FieldKind::Number => Some(Value::from(PROBE_EVENTS)),
            },
        }
    }
}

/// An event of the digest that a template is tried out with.
#[derive(Debug)]
struct ProbeItem {
    null: Option<String>,
    schema: EventSchema,
    unknown: Arc<Mutex<Vec<String>>>,
}

impl Object for ProbeItem {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        if self.schema.field_type(name).is_none() {
            self.unknown.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
            return None;
        }
        let (null, unknown) = (self.null.as_deref(), Arc::clone(&self.unknown));
        ProbeEvent { null, schema: &self.schema, unknown }.value(name)
    }
}

/// A map that has every member, and whose members are text and maps at once.
struct AnyMember;

impl fmt::Debug for AnyMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("x")
    }
}

impl Object for AnyMember {
    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::from_object(Self))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("x")
    }
}

fn of_table(table: &[Header]) -> Value {
    let mut values = BTreeMap::new();
    for (name, value) in table {
        // If several headers have one name, the first one is used, as everywhere.
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
        HeaderValue::Number(number) => of_parsed(JsonValue::Number(&number.to_string())),
        HeaderValue::Timestamp(seconds) => Value::from(*seconds),
        HeaderValue::Text(text) => Value::from(text.as_str()),
        HeaderValue::Binary(bytes) | HeaderValue::BinaryText(bytes) => Value::from(STANDARD.encode(bytes)),
        HeaderValue::Array(values) => values.iter().map(of_header).collect(),
        HeaderValue::Table(table) => of_table(table),
    }
}

/// A JSON value, with null as undefined. A number that minijinja can't hold exactly becomes an [`ExactNumber`].
fn of_json(json: &str) -> Value {
    of_parsed(parse(json))
}

fn of_parsed(parsed: JsonValue<'_>) -> Value {
    match parsed {
        JsonValue::Null => Value::UNDEFINED,
        JsonValue::Bool(value) => Value::from(value),
        JsonValue::Text(text) => Value::from(text.as_ref()),
        JsonValue::Number(raw) => match JsonNumber::of(raw) {
            JsonNumber::Integer(value) => i64::try_from(value)
                .map(Value::from)
                .or_else(|_| u64::try_from(value).map(Value::from))
                .unwrap_or_else(|_| Value::from(value)),
            JsonNumber::Double(value) => Value::from(value),
            JsonNumber::Exact(raw) => Value::from_object(ExactNumber(raw.to_owned())),
        },
        JsonValue::List(items) => Value::from(items.into_iter().map(of_parsed).collect::<Vec<_>>()),
        JsonValue::Map(members) => {
            let members: BTreeMap<_, _> = members.into_iter().map(|(name, value)| (name, of_parsed(value))).collect();
            Value::from_pairs(members)
        }
    }
}
