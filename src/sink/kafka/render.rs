//! What goes out for an event: topic, key, headers. Pure.

use crate::config::{KafkaConfig, KafkaTimestamp, SinkConfig, check_topic};
use crate::event::{Carrier, Event, Format, HeaderValue, Message, Scope};
use crate::sink::{Destination, Outgoing, Unrenderable, headers};

/// The record of that event.
pub(in crate::sink) fn render(
    config: &SinkConfig,
    kafka: &KafkaConfig,
    scope: Scope<'_>,
) -> Result<Outgoing, Unrenderable> {
    let Scope { event, message, .. } = scope;
    let SinkConfig { format, keep_headers, .. } = config;
    let topic = kafka.topic.render_address(scope).map_err(|error| Unrenderable::failed("topic", error))?;
    check_topic(&topic).map_err(|problem| Unrenderable::failed("topic", problem))?;
    let key = kafka.key.render_key(scope).map_err(|error| Unrenderable::failed("key", error))?;
    let encoded = format.encode(scope, Carrier::Kafka).map_err(|error| Unrenderable::failed("body", error))?;
    let mut headers = headers::all(event, message, format, keep_headers, &encoded);
    // CloudEvents' Kafka binding, 3.2.1: the body's type is the header `content-type`.
    if let (Format::CloudEvents { .. }, Some(content_type)) = (format, &encoded.content_type) {
        headers.push(("content-type".to_owned(), HeaderValue::Text(content_type.to_string())));
    }
    let timestamp = match kafka.timestamp {
        KafkaTimestamp::Sent => None,
        KafkaTimestamp::Event => event_time(event, message),
    };
    Ok(Outgoing {
        id: event.id,
        destination: Destination::Kafka { topic, key, timestamp },
        headers,
        body: encoded.body,
    })
}

/// The event's time in milliseconds, where it has one.
fn event_time(event: &Event, message: &Message) -> Option<i64> {
    event.time.as_ref()?;
    i64::try_from(message.properties.timestamp?).ok()?.checked_mul(1000)
}
