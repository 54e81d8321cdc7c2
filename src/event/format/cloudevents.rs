//! `CloudEvents` 1.0: the event's context attributes, and the normalized event as their data.
//!
//! Structured mode is the JSON event format (`application/cloudevents+json`). In binary mode the attributes are headers:
//! on Kafka `ce_…`, in UTF-8 as it is (Kafka binding 1.0.2, section 3.2.3: only HTTP percent-encodes); on AMQP
//! `ce-…`: Knative's `RabbitMQ` binding, which is for AMQP 0-9-1 (knative-extensions/eventing-rabbitmq,
//! cloudevents-protocol-spec/spec.md, 1.0.2-wip, section 3.1.3.1). `CloudEvents`' own AMQP binding (`cloudEvents_…`) is for AMQP 1.0. The
//! attribute `datacontenttype` is the content type there.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{Carrier, EncodedBody, JSON, to_json};
use crate::event::template::percent_encode;
use crate::event::{Event, EventView, TemplateError};

const CLOUDEVENTS_JSON: &str = "application/cloudevents+json";
const CLOUDEVENTS_BATCH: &str = "application/cloudevents-batch+json";
const KAFKA_PREFIX: &str = "ce_";
const AMQP_PREFIX: &str = "ce-";

pub(super) const fn content_type(carrier: Carrier, is_digest: bool) -> &'static str {
    match carrier {
        _ if is_digest => CLOUDEVENTS_BATCH,
        Carrier::Http | Carrier::Line => CLOUDEVENTS_JSON,
        Carrier::Kafka | Carrier::Amqp => JSON,
    }
}

pub(super) fn encode(name: &str, view: EventView<'_>, carrier: Carrier) -> Result<EncodedBody, TemplateError> {
    let attributes = Attributes::of(name, view.event);
    let prefix = match carrier {
        Carrier::Kafka => KAFKA_PREFIX,
        Carrier::Amqp => AMQP_PREFIX,
        Carrier::Http | Carrier::Line => {
            return Ok(EncodedBody::of(to_json(&StructuredEvent { attributes, data: view })?, CLOUDEVENTS_JSON));
        }
    };
    let mut encoded = EncodedBody::of(to_json(&view)?, JSON);
    encoded.headers = attributes.0.into_iter().map(|(name, value)| (format!("{prefix}{name}").into(), value)).collect();
    Ok(encoded)
}

/// Several events in the JSON batch format, which only the HTTP binding has.
pub(super) fn encode_batch(name: &str, events: &[EventView<'_>]) -> Result<EncodedBody, TemplateError> {
    let batch = events.iter().map(|view| StructuredEvent { attributes: Attributes::of(name, view.event), data: *view });
    let batch: Vec<_> = batch.collect();
    Ok(EncodedBody::of(to_json(&batch)?, CLOUDEVENTS_BATCH))
}

/// The context attributes without `datacontenttype`, in the order of the specification.
struct Attributes(Vec<(&'static str, String)>);

impl Attributes {
    fn of(name: &str, event: &Event) -> Self {
        let mut source = format!("{name}/");
        // The attribute is a URI reference.
        percent_encode(&mut source, event.source.as_str());
        let mut attributes = vec![
            ("specversion", "1.0".to_owned()),
            ("id", event.id.to_string()),
            ("source", source),
            ("type", event.kind.to_owned()),
        ];
        // An attribute can't be empty: an alert that is about no request has neither.
        let known = |name, text: &str| Some((name, printable(text))).filter(|(_, text)| !text.is_empty());
        attributes.extend(known("subject", &event.correlation_id));
        attributes.extend(event.time.clone().map(|time| ("time", time)));
        attributes.extend(known("tenant", &event.tenant));
        attributes.extend([("status", event.status.to_owned()), ("outcome", event.outcome.as_str().to_owned())]);
        Self(attributes)
    }
}

/// Replaces control characters and non-characters: a `CloudEvents` string can't have them (section 3.1 of the specification).
fn printable(text: &str) -> String {
    let allowed = |char: char| {
        let code = u32::from(char);
        !char.is_control() && code & 0xFFFE != 0xFFFE && !(0xFDD0..=0xFDEF).contains(&code)
    };
    text.chars().map(|char| if allowed(char) { char } else { char::REPLACEMENT_CHARACTER }).collect()
}

struct StructuredEvent<'a> {
    attributes: Attributes,
    data: EventView<'a>,
}

impl Serialize for StructuredEvent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.attributes.0 {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("datacontenttype", JSON)?;
        map.serialize_entry("data", &self.data)?;
        map.end()
    }
}
