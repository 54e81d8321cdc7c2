//! What goes out, as people and programs are shown it: all of it but what may be secret.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::headers::untyped;
use super::{Destination, Outgoing};
use crate::config::{STARS, SinkConfig, SinkKind, WebhookUrl};
use crate::event::{Header, HeaderValue, Properties};

/// One rendered delivery. These names are relied on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// Where to.
    pub destination: ShownDestination,
    /// In the order they are sent; what depends on the time of an attempt, or is secret, is not among them.
    #[serde(serialize_with = "as_object")]
    pub headers: Vec<Header>,
    /// AMQP's, which are no headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<Box<Properties>>,
    /// As text.
    pub body: String,
}

/// Where one delivery goes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum ShownDestination {
    Kafka {
        topic: String,
        key: Option<String>,
        /// Milliseconds since 1970, where the sink takes it from the event.
        #[serde(skip_serializing_if = "Option::is_none")]
        timestamp: Option<i64>,
    },
    Webhook {
        url: String,
    },
    Amqp {
        exchange: String,
        routing_key: String,
    },
    File {
        path: String,
    },
    Stdout {},
}

impl Outgoing {
    /// All of it but what may be secret; `config` is that of its sink.
    #[must_use]
    pub fn shown(&self, config: &SinkConfig) -> Shown {
        let mask = |text: &str| config.masks.apply(text);
        let mut properties = None;
        let destination = match &self.destination {
            Destination::Kafka { topic, key, timestamp } => {
                ShownDestination::Kafka { topic: topic.clone(), key: key.clone(), timestamp: *timestamp }
            }
            Destination::Webhook { url: Some(url) } => ShownDestination::Webhook { url: mask(url.as_str()) },
            Destination::Webhook { url: None } => ShownDestination::Webhook { url: fixed_url(&config.kind) },
            Destination::Amqp { exchange, routing_key, properties: set } => {
                properties = Some(set.clone());
                ShownDestination::Amqp { exchange: exchange.clone(), routing_key: routing_key.clone() }
            }
            Destination::File { path } => ShownDestination::File { path: path.display().to_string() },
            Destination::Stdout => ShownDestination::Stdout {},
        };
        let has_types = matches!(self.destination, Destination::Amqp { .. });
        let value = |value: &HeaderValue| match untyped(value) {
            _ if has_types => value.clone(),
            Some(bytes) => HeaderValue::Text(mask(&String::from_utf8_lossy(&bytes))),
            None => HeaderValue::Null,
        };
        let headers = self.headers.iter().map(|(name, header)| (name.clone(), value(header))).collect();
        Shown { destination, headers, properties, body: mask(&String::from_utf8_lossy(&self.body)) }
    }
}

fn fixed_url(kind: &SinkKind) -> String {
    match kind {
        SinkKind::Webhook(webhook) => match &webhook.url {
            WebhookUrl::Fixed { shown, .. } => shown.clone(),
            WebhookUrl::Templated { origin, .. } => origin.clone(),
        },
        _ => STARS.to_owned(),
    }
}

fn as_object<S: Serializer>(headers: &[Header], serializer: S) -> Result<S::Ok, S::Error> {
    let mut object = serializer.serialize_map(Some(headers.len()))?;
    for (name, value) in headers {
        object.serialize_entry(name, value)?;
    }
    object.end()
}
