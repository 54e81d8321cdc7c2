//! The two extremes of an event, by which a schema is tried before events come.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Event, FAMILIES, Message, Outcome, Properties, SourceName};

/// An event, and what it is in words.
#[derive(Debug)]
pub struct Extreme {
    pub what: &'static str,
    pub event: Event,
    pub message: Message,
}

/// A response with every field, and one in which every optional field is null.
#[must_use]
pub fn extremes() -> [Extreme; 2] {
    let of = |what, has_all| {
        let properties = Properties::default();
        let message = Message { source: source(), body: Bytes::from_static(b"{}"), properties, redelivered: false };
        Extreme { what, event: event(has_all), message }
    };
    [of("an event with every field", true), of("an event with every optional field null", false)]
}

fn source() -> SourceName {
    SourceName::new("source")
}

fn event(has_all: bool) -> Event {
    let optional = |text: &str| has_all.then(|| text.to_owned());
    let value = RawValue::from_string("\"value\"".to_owned()).ok();
    Event {
        id: Uuid::nil(),
        kind: FAMILIES.first().map_or("", |family| family.kind),
        source: source(),
        tenant: Arc::from("tenant"),
        status: "GRANTED",
        outcome: Outcome::Accepted,
        correlation_id: "request".to_owned(),
        product_id: optional("product"),
        session: optional("session"),
        expires: optional("2030-01-01T00:00:00.000Z"),
        message: optional("message"),
        time: optional("2030-01-01T00:00:00Z"),
        extra: optional("name").into_iter().zip(value).collect(),
        warnings: optional("warning").into_iter().collect(),
    }
}
