//! Renders an event as an AMQP message: properties, headers, routing key and body. Pure.

use crate::config::{AmqpSinkConfig, SinkConfig};
use crate::event::{
    Carrier, EncodedBody, Event, EventView, Format, Header, MAX_SHORT_STRING, Message, Properties, Template,
};
use crate::rules::Glob;
use crate::sink::{Destination, RenderError, RenderedDelivery, headers};

/// The `app_id` of messages that were received without one.
const APP_ID: &str = "regards-relay";
/// The `delivery_mode` of messages that survive a restart of the broker.
const PERSISTENT: u8 = 2;

pub(in crate::sink) fn render(
    config: &SinkConfig,
    amqp: &AmqpSinkConfig,
    view: EventView<'_>,
) -> Result<RenderedDelivery, RenderError> {
    let EventView { event, message, .. } = view;
    let SinkConfig { format, keep_headers, .. } = config;
    let routing_key =
        amqp.routing_key.render_address(view).map_err(|error| RenderError::failed("routing key", error))?;
    check_routing_key(&routing_key).map_err(|problem| RenderError::failed("routing key", problem))?;
    let encoded = format.encode(view, Carrier::Amqp).map_err(RenderError::of_body)?;
    let properties = Box::new(properties(event, message, &encoded));
    let headers = all_headers(view, &amqp.headers, &encoded, format, keep_headers)?;
    let destination = Destination::Amqp { exchange: amqp.exchange.clone(), routing_key, properties };
    Ok(RenderedDelivery { id: event.id, destination, headers, body: encoded.body })
}

/// The properties that the relay sets. It never sets `user_id`, which the broker compares with the login, nor `reply_to`,
/// `expiration` and `cluster_id`, which belong to the received message.
fn properties(event: &Event, message: &Message, encoded: &EncodedBody) -> Properties {
    let received = &message.properties;
    Properties {
        content_type: encoded.content_type.as_deref().map(str::to_owned),
        content_encoding: encoded.content_encoding.clone(),
        delivery_mode: Some(PERSISTENT),
        priority: received.priority,
        correlation_id: Some(event.correlation_id.clone()).filter(|id| (1..=MAX_SHORT_STRING).contains(&id.len())),
        message_id: Some(event.id.to_string()),
        timestamp: received.timestamp,
        kind: Some(event.kind.to_owned()),
        app_id: Some(received.app_id.clone().unwrap_or_else(|| APP_ID.to_owned())),
        ..Properties::default()
    }
}

/// The headers that every sink sends, and the number of relays that the message went through.
fn all_headers(
    view: EventView<'_>,
    configured: &[(String, Template)],
    encoded: &EncodedBody,
    format: &Format,
    keep: &[Glob],
) -> Result<Vec<Header>, RenderError> {
    let mut headers = headers::delivery_headers(view, configured, format, keep, encoded)?;
    headers.push(headers::hop_header(view.message)?);
    Ok(headers)
}

fn check_routing_key(key: &str) -> Result<(), String> {
    if key.len() > MAX_SHORT_STRING {
        return Err(format!("the key has {} bytes; AMQP allows {MAX_SHORT_STRING} at most", key.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{DecodeOptions, ExpectedFamily, FAMILIES, HeaderValue, SourceName, Validation};

    fn message(properties: Properties) -> Message {
        Message {
            source: SourceName::new("regards"),
            body: bytes::Bytes::from_static(br#"{"correlationId": "c", "responseStatus": "ERROR"}"#),
            properties,
            redelivered: false,
        }
    }

    fn received() -> Properties {
        let text = |name: &str, value: &str| (name.to_owned(), HeaderValue::Text(value.to_owned()));
        Properties {
            content_type: Some("application/json".to_owned()),
            content_encoding: Some("UTF-8".to_owned()),
            delivery_mode: Some(1),
            priority: Some(7),
            correlation_id: Some("c".to_owned()),
            reply_to: Some("back".to_owned()),
            expiration: Some("1000".to_owned()),
            message_id: Some("theirs".to_owned()),
            timestamp: Some(1_681_461_977),
            kind: Some("theirs".to_owned()),
            user_id: Some("regards".to_owned()),
            app_id: Some("rs-lta-manager".to_owned()),
            cluster_id: Some("x".to_owned()),
            headers: vec![
                text("regards.tenant", "cnes-a"),
                text("regards-relay-attempt", "9"),
                text("CC", "everywhere"),
                text("traceparent", "00-1-2-03"),
            ],
            headers_too_deep: false,
            not_utf8: Vec::new(),
        }
    }

    fn event(message: &Message) -> Event {
        let options = DecodeOptions {
            expects: ExpectedFamily::One(&FAMILIES[0]),
            validation: Validation::Lenient,
            tenant: None,
            max_body: 1024 * 1024,
        };
        Event::decode(message, &options).unwrap()
    }

    fn rendered(message: &Message, format: &Format) -> (Properties, Vec<Header>) {
        let event = event(message);
        let view = EventView::of(&event, message);
        let encoded = format.encode(view, Carrier::Amqp).unwrap();
        let headers = all_headers(view, &[], &encoded, format, &[]).unwrap();
        (properties(&event, message, &encoded), headers)
    }

    #[test]
    fn the_relay_sets_its_properties_and_drops_those_of_the_received_message() {
        let message = message(received());
        let (properties, _) = rendered(&message, &Format::Normalized);
        assert_eq!(properties.message_id, Some(event(&message).id.to_string()));
        let expected = Properties {
            content_type: Some("application/json".to_owned()),
            content_encoding: properties.content_encoding.clone(),
            delivery_mode: Some(2),
            priority: Some(7),
            correlation_id: Some("c".to_owned()),
            message_id: properties.message_id.clone(),
            timestamp: Some(1_681_461_977),
            kind: Some("fr.cnes.regards.lta.submission.response".to_owned()),
            app_id: Some("rs-lta-manager".to_owned()),
            ..Properties::default()
        };
        assert_eq!(properties, expected);
    }

    #[test]
    fn a_correlation_id_that_is_too_long_for_amqp_is_left_out() {
        for (length, carried) in [(255, true), (256, false)] {
            let mut message = message(received());
            let body = format!(r#"{{"correlationId": "{}", "responseStatus": "ERROR"}}"#, "c".repeat(length));
            message.body = body.into();
            assert_eq!(rendered(&message, &Format::Normalized).0.correlation_id.is_some(), carried);
        }
    }

    #[test]
    fn headers_are_those_of_the_relay_the_hop_count_and_the_trace() {
        let names = |format| {
            let (_, headers) = rendered(&message(received()), format);
            headers.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let ours = ["regards-relay-id", "regards-relay-type", "regards-relay-tenant", "regards-relay-status"];
        assert_eq!(names(&Format::Normalized), [&ours[..], &["traceparent", "regards-relay-hops"]].concat());
        let original = ["regards.tenant", "traceparent", "regards-relay-hops"];
        assert_eq!(names(&Format::Original), [&ours[..], &original].concat());
    }

    #[test]
    fn a_routing_key_has_255_bytes_at_most() {
        assert!(check_routing_key(&"é".repeat(127)).is_ok());
        assert!(check_routing_key(&"é".repeat(128)).is_err());
    }
}
