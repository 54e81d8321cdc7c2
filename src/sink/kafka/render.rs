//! Renders an event as a Kafka record: topic, key, headers and body. Pure.

use crate::config::{KafkaConfig, KafkaTimestamp, RegistryConfig, SinkConfig, check_topic};
use crate::event::{Carrier, Event, EventView, Format, HeaderValue, Message};
use crate::sink::{Destination, RenderError, RenderedDelivery, headers};
use crate::telemetry::printable;

/// The longest subject, in bytes.
const MAX_SUBJECT: usize = 255;

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
    let encoded = format.encode(view, Carrier::Kafka).map_err(RenderError::of_body)?;
    let mut headers = headers::delivery_headers(view, &kafka.headers, format, keep_headers, &encoded)?;
    let names_its_type = kafka.registry.is_none() && names_its_type(format);
    if let Some(content_type) = encoded.content_type.as_ref().filter(|_| names_its_type)
        && !headers::has(&headers, CONTENT_TYPE)
    {
        headers.push((CONTENT_TYPE.to_owned(), HeaderValue::Text(content_type.to_string())));
    }
    let subject = kafka.registry.as_ref().map(|registry| subject(registry, &topic, view)).transpose()?;
    let timestamp = match kafka.timestamp {
        KafkaTimestamp::Sent => None,
        KafkaTimestamp::Event => event_time(event, message),
    };
    Ok(RenderedDelivery {
        id: event.id,
        destination: Destination::Kafka { topic, key, timestamp, subject },
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

/// The subject of the body's schema in the registry.
fn subject(registry: &RegistryConfig, topic: &str, view: EventView<'_>) -> Result<String, RenderError> {
    let failed = |error: &dyn std::fmt::Display| RenderError::failed("registry.subject", error);
    let view = EventView { topic: Some(topic), ..view };
    let subject = registry.subject.render_address(view).map_err(|error| failed(&error))?;
    // These segments of a URL stand for other ones.
    let is_legal = !matches!(subject.as_str(), "" | "." | "..") && subject.len() <= MAX_SUBJECT;
    if !is_legal || subject.contains(char::is_control) {
        let subject: String = printable(&subject).chars().take(MAX_SUBJECT).collect();
        return Err(failed(&format!(
            "`{subject}` can't be a subject: it has 1 to {MAX_SUBJECT} bytes without control characters, and is not `.` or `..`"
        )));
    }
    Ok(subject)
}

/// The event's time in milliseconds since 1970, if it has one.
fn event_time(event: &Event, message: &Message) -> Option<i64> {
    event.time.as_ref()?;
    i64::try_from(message.properties.timestamp?).ok()?.checked_mul(1000)
}
