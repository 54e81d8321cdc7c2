//! Renders an event as a Kafka record: topic, key, headers and body. Pure.

use crate::config::{KafkaConfig, KafkaTimestamp, SinkConfig, check_topic};
use crate::event::{Carrier, Event, EventView, Format, HeaderValue, Message};
use crate::sink::{Destination, RenderError, RenderedDelivery, headers};

const CONTENT_TYPE: &str = "content-type";

pub(in crate::sink) fn render(
    config: &SinkConfig,
    kafka: &KafkaConfig,
    view: EventView<'_>,
) -> Result<RenderedDelivery, RenderError> {
    let EventView { event, message, .. } = view;
    let SinkConfig { format, keep_headers, .. } = config;
    let topic = kafka.topic.render_address(view).map_err(|error| RenderError::failed("topic", error))?;
    check_topic(&topic).map_err(|problem| RenderError::failed("topic", problem))?;
    let key = kafka.key.render_key(view).map_err(|error| RenderError::failed("key", error))?;
    // Both events of an alert go to one partition.
    let key = key.or_else(|| event.alert_key());
    let encoded = format.encode(view, Carrier::Kafka).map_err(|error| RenderError::failed("body", error))?;
    let mut headers = headers::delivery_headers(view, &kafka.headers, format, keep_headers, &encoded)?;
    if let Some(content_type) = encoded.content_type.as_ref().filter(|_| names_its_type(format))
        && !headers::has(&headers, CONTENT_TYPE)
    {
        headers.push((CONTENT_TYPE.to_owned(), HeaderValue::Text(content_type.to_string())));
    }
    let timestamp = match kafka.timestamp {
        KafkaTimestamp::Sent => None,
        KafkaTimestamp::Event => event_time(event, message),
    };
    Ok(RenderedDelivery {
        id: event.id,
        destination: Destination::Kafka { topic, key, timestamp },
        headers,
        body: encoded.body,
    })
}

/// Whether the header `content-type` has the type of the body: of `CloudEvents` (Kafka binding, 3.2.1), and of what is no text.
fn names_its_type(format: &Format) -> bool {
    match format {
        Format::CloudEvents { .. } => true,
        Format::Schema(schema) => schema.kind.is_binary(),
        Format::Normalized | Format::Original | Format::Body(_) => false,
    }
}

/// The event's time in milliseconds since 1970, if it has one.
fn event_time(event: &Event, message: &Message) -> Option<i64> {
    event.time.as_ref()?;
    i64::try_from(message.properties.timestamp?).ok()?.checked_mul(1000)
}
