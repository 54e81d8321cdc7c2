//! A rendered delivery as `explain`, `test` and `compare` show it, with secrets masked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::headers::to_bytes;
use super::{Destination, RegisteredBody, RenderedDelivery};
use crate::config::{STARS, SinkConfig, SinkKind, WebhookUrl};
use crate::event::{Format, Header, HeaderValue, Properties, SchemaSource};

/// A rendered delivery with secrets masked. The names of its fields are part of the commands' `--json` output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MaskedDelivery {
    pub destination: MaskedDestination,
    /// In the order they are sent, without those that depend on the time of the attempt or are secret.
    #[serde(serialize_with = "as_object")]
    pub headers: Vec<Header>,
    /// The properties of an AMQP message; `None` for the other kinds of sinks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<Box<Properties>>,
    /// Where a schema encodes the body, this is what it encodes, as JSON.
    pub body: String,
    /// Set where a schema encodes the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoded: Option<EncodedBySchema>,
}

/// A body that a schema encodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EncodedBySchema {
    pub format: &'static str,
    /// As in the configuration: `event`, `latest`, a file.
    pub schema: String,
    /// The subject of the schema in a registry; none without a registry.
    pub subject: Option<String>,
    /// The id of the schema in the registry, if it is known.
    pub id: Option<u32>,
    /// The bytes in base64; masked if a secret is in them. None: only the registry has the schema.
    pub bytes: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum MaskedDestination {
    Kafka {
        topic: String,
        key: Option<String>,
        /// Milliseconds since 1970, if the sink takes the time of the event.
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

impl RenderedDelivery {
    /// `config` is the configuration of the sink that this delivery was rendered for.
    #[must_use]
    pub fn masked(&self, config: &SinkConfig) -> MaskedDelivery {
        self.masked_with(config, None, None)
    }

    /// The same; `value` is shown in place of a body that a schema encodes: see [`value`](super::value). `registered` is the body with
    /// the prefix of the registry, if that was asked.
    #[must_use]
    pub fn masked_with(
        &self,
        config: &SinkConfig,
        value: Option<&[u8]>,
        registered: Option<&RegisteredBody>,
    ) -> MaskedDelivery {
        let mask = |text: &str| config.masks.apply(text);
        let mut properties = None;
        let destination = match &self.destination {
            Destination::Kafka { topic, key, timestamp, .. } => {
                MaskedDestination::Kafka { topic: topic.clone(), key: key.clone(), timestamp: *timestamp }
            }
            Destination::Webhook { url: Some(url) } => MaskedDestination::Webhook { url: mask(url.as_str()) },
            Destination::Webhook { url: None } => MaskedDestination::Webhook { url: fixed_url(&config.kind) },
            Destination::Amqp { exchange, routing_key, properties: set } => {
                properties = Some(set.clone());
                MaskedDestination::Amqp { exchange: exchange.clone(), routing_key: routing_key.clone() }
            }
            Destination::File { path } => MaskedDestination::File { path: path.display().to_string() },
            Destination::Stdout => MaskedDestination::Stdout {},
        };
        let has_types = matches!(self.destination, Destination::Amqp { .. });
        let header_value = |value: &HeaderValue| match to_bytes(value) {
            _ if has_types => match value {
                HeaderValue::Text(text) => HeaderValue::Text(mask(text)),
                other => other.clone(),
            },
            Some(bytes) => HeaderValue::Text(mask(&String::from_utf8_lossy(&bytes))),
            None => HeaderValue::Null,
        };
        let headers = self.headers.iter().map(|(name, header)| (name.clone(), header_value(header))).collect();
        let plain = String::from_utf8_lossy(value.unwrap_or(&self.body));
        let body = mask(&plain);
        let encoded = match &config.format {
            Format::Schema(schema) => Some(EncodedBySchema {
                format: schema.kind.as_str(),
                schema: schema.schema_name().into_owned(),
                subject: match &self.destination {
                    Destination::Kafka { subject, .. } => subject.as_deref().map(mask),
                    _ => None,
                },
                id: registered.map(|registered| registered.id),
                bytes: match (registered, &schema.source) {
                    (None, SchemaSource::Latest { .. }) => None,
                    _ if body != plain => Some(STARS.to_owned()),
                    (Some(registered), _) => Some(STANDARD.encode(&registered.body)),
                    (None, _) => Some(STANDARD.encode(&self.body)),
                },
            }),
            _ => None,
        };
        MaskedDelivery { destination, headers, properties, body, encoded }
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
