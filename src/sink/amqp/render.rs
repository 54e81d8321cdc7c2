//! What goes out for an event: properties, headers, routing key. Pure.

use crate::amqp::values::MAX_SHORT;
use crate::event::{Encoded, Event, Format, Header, HeaderValue, Message, Properties, Reason};
use crate::rules::Glob;
use crate::sink::{Unrenderable, headers};

/// How many relays a message has been through.
const HOPS: &str = "regards-relay-hops";
/// A message that went through more relays than this goes round in circles.
const MAX_HOPS: i64 = 8;
/// `app_id` of messages whose source has none.
const APP_ID: &str = "regards-relay";
/// `delivery_mode` of messages that survive the broker's restart.
const PERSISTENT: u8 = 2;

/// The properties that the relay sets. Never `user_id` (the broker checks it against the login), `reply_to`, `expiration` and
/// `cluster_id`: they belong to the message that was received.
pub(super) fn properties(event: &Event, message: &Message, encoded: &Encoded) -> Properties {
    let received = &message.properties;
    Properties {
        content_type: encoded.content_type.as_deref().map(str::to_owned),
        content_encoding: encoded.content_encoding.clone(),
        delivery_mode: Some(PERSISTENT),
        priority: received.priority,
        correlation_id: Some(event.correlation_id.clone()).filter(|id| id.len() <= MAX_SHORT),
        message_id: Some(event.id.to_string()),
        timestamp: received.timestamp,
        kind: Some(event.kind.to_owned()),
        app_id: Some(received.app_id.clone().unwrap_or_else(|| APP_ID.to_owned())),
        ..Properties::default()
    }
}

/// Ours, the hops, the format's, and what goes along; the first of a name is the one.
pub(super) fn headers(
    event: &Event,
    message: &Message,
    encoded: &Encoded,
    format: &Format,
    keep: &[Glob],
) -> Result<Vec<Header>, Unrenderable> {
    let mut headers = headers::ours(event);
    headers.push((HOPS.to_owned(), HeaderValue::Integer(hops(message)?)));
    let formats = encoded.headers.iter().map(|(name, value)| (name.to_string(), HeaderValue::Text(value.clone())));
    for (name, value) in formats.chain(headers::kept(message, format, keep).cloned()) {
        if !headers.iter().any(|(known, _)| *known == name) {
            headers.push((name, value));
        }
    }
    Ok(headers)
}

/// The message's hops with this one. What no relay has written counts as none.
fn hops(message: &Message) -> Result<i64, Unrenderable> {
    let before = match message.properties.header(HOPS) {
        Some(HeaderValue::Integer(hops)) => (*hops).max(0),
        _ => 0,
    };
    let hops = before.saturating_add(1);
    if hops > MAX_HOPS {
        return Err(Unrenderable {
            reason: Reason::Loop,
            detail: format!(
                "it went through {before} relays already, {MAX_HOPS} is the most: does a route lead back to a source?"
            ),
        });
    }
    Ok(hops)
}

/// A routing key, checked.
pub(super) fn routing_key(key: String) -> Result<String, Unrenderable> {
    if key.len() > MAX_SHORT {
        return Err(failed(format!("the routing key is {} bytes long, AMQP takes {MAX_SHORT} at most", key.len())));
    }
    Ok(key)
}

/// A template that can't be rendered for this event.
pub(super) fn failed(detail: String) -> Unrenderable {
    Unrenderable { reason: Reason::RenderFailed, detail }
}
