//! The messages of a channel: content types, headers and payloads.

use serde_json::{Map, Value, json};

use super::{KAFKA_BINDING, TOPIC_NAME_STRATEGY, put, set};
use crate::config::{Config, KafkaConfig, SinkConfig, SinkKind};
use crate::event::{
    Carrier, ExpectedFamily, FAMILIES, Family, FieldKind, Fields, Format, HOPS_HEADER, Schema, SchemaFormat,
    SchemaKind, SchemaSource, SchemaText, TENANT_HEADER,
};
use crate::rules::{Route, SinkIndex};
use crate::sink::RELAY_HEADERS;

/// The context attributes of `CloudEvents` that the relay sets, and whether every event has them.
const ATTRIBUTES: [(&str, bool); 9] = [
    ("specversion", true),
    ("id", true),
    ("source", true),
    ("type", true),
    ("subject", false),
    ("time", false),
    ("tenant", false),
    ("status", true),
    ("outcome", true),
];

/// What the messages of several channels have in common.
#[derive(Default)]
pub(super) struct Components {
    pub messages: Map<String, Value>,
    pub schemas: Map<String, Value>,
}

impl Components {
    /// A reference to the message of each family that a source takes.
    pub(super) fn received(&mut self, expects: ExpectedFamily) -> Map<String, Value> {
        let families: Vec<_> = match expects {
            ExpectedFamily::One(family) => vec![family],
            ExpectedFamily::Auto => FAMILIES.iter().collect(),
        };
        families.into_iter().map(|family| self.of_family(family)).collect()
    }

    fn of_family(&mut self, family: &Family) -> (String, Value) {
        let Family { name, key, status, statuses, fields, .. } = family;
        let name = format!("{name}_response");
        let mut properties = Map::new();
        properties.insert((*key).to_owned(), json!({ "type": "string" }));
        let statuses: Vec<_> = statuses.iter().map(|(word, _)| *word).collect();
        properties.insert((*status).to_owned(), json!({ "type": "string", "enum": statuses }));
        for (field, _) in *fields {
            properties.insert((*field).to_owned(), json!({ "type": ["string", "null"] }));
        }
        let schema = json!({ "type": "object", "properties": properties, "required": [key, status] });
        self.schemas.insert(name.clone(), schema);
        let tenant = json!({ "type": "string", "description": "Tenant of the request" });
        let message = json!({
            "name": name,
            "title": format!("Response of REGARDS' family {}", family.name),
            "contentType": "application/json",
            "headers": { "type": "object", "properties": { TENANT_HEADER: tenant } },
            "payload": { "$ref": format!("#/components/schemas/{name}") },
        });
        let reference = json!({ "$ref": format!("#/components/messages/{name}") });
        self.messages.insert(name.clone(), message);
        (name, reference)
    }

    /// A reference to the schema of the normalized event in JSON.
    fn event(&mut self) -> Value {
        let mut schema = super::super::event();
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("$schema");
        }
        self.schema("event", schema)
    }

    fn schema(&mut self, name: &str, schema: Value) -> Value {
        let name = put(&mut self.schemas, name, schema);
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    /// The payload of a format with a schema; null if it is the registry's.
    fn encoded(&mut self, format: &SchemaFormat) -> Value {
        let kind = format.kind;
        match &format.source {
            SchemaSource::Event => {
                self.schema(&format!("event_{}", kind.as_str()), multi_format(Schema::of_event(kind).text()))
            }
            SchemaSource::File { path, schema } => self.schema(path, multi_format(schema.text())),
            SchemaSource::Latest { .. } => Value::Null,
        }
    }
}

/// A schema in the language of its own: `AsyncAPI`'s Multi Format Schema Object.
fn multi_format(SchemaText { kind, text, references }: &SchemaText) -> Value {
    let json = || serde_json::from_str::<Value>(text).unwrap_or_default();
    let (format, schema) = match kind {
        SchemaKind::Avro => ("application/vnd.apache.avro;version=1.9.0".to_owned(), json()),
        SchemaKind::JsonSchema => {
            let schema = json();
            (format!("application/schema+json;version={}", draft(&schema)), schema)
        }
        SchemaKind::Protobuf => ("application/vnd.google.protobuf;version=3".to_owned(), json!(text)),
    };
    let mut value = json!({ "schemaFormat": format, "schema": schema });
    if !references.is_empty() {
        let texts: Map<_, _> =
            references.iter().map(|reference| (reference.name.clone(), json!(reference.text))).collect();
        set(&mut value, "x-references", Value::Object(texts));
    }
    value
}

fn draft(schema: &Value) -> &'static str {
    let named = schema["$schema"].as_str().unwrap_or_default();
    let drafts = ["draft-04", "draft-06", "draft-07", "2019-09"];
    drafts.into_iter().find(|draft| named.contains(draft)).unwrap_or("2020-12")
}

/// The messages that a sink sends.
pub(super) struct SinkMessages<'a> {
    sink: &'a SinkConfig,
    carrier: Carrier,
    sources: Vec<ExpectedFamily>,
    routes: Vec<&'a Route>,
    has_untransformed: bool,
    has_alerts: bool,
    is_for_dead_letters: bool,
}

impl<'a> SinkMessages<'a> {
    pub(super) fn of(config: &'a Config, index: SinkIndex, sink: &'a SinkConfig, carrier: Carrier) -> Self {
        let routes: Vec<_> = config.rules.routes().iter().filter(|route| route.to.contains(&index)).collect();
        let has_alerts = config.alerts.iter().any(|alert| alert.to.contains(&index));
        let has_untransformed =
            routes.iter().any(|route| route.transform.is_none()) || super::is_unrouted(config, index);
        Self {
            sink,
            carrier,
            sources: config.sources.iter().map(|source| source.decode_options.expects).collect(),
            has_untransformed: has_untransformed || (routes.is_empty() && !has_alerts),
            routes,
            has_alerts,
            is_for_dead_letters: config.dead_letters.to.as_ref() == Some(&sink.name),
        }
    }

    /// Where all messages have the fields of the event that are always text.
    pub(super) fn locations(&self) -> Vec<(&'static str, String)> {
        let below = match &self.sink.format {
            _ if self.is_for_dead_letters || self.sink.group.is_some() => return Vec::new(),
            Format::CloudEvents { .. } if self.carrier == Carrier::Http => "/data",
            Format::Normalized | Format::CloudEvents { .. } => "",
            Format::Schema(schema) if matches!(schema.source, SchemaSource::Event) => "",
            Format::Original | Format::Body(_) | Format::Schema(_) => return Vec::new(),
        };
        if self.routes.iter().any(|route| route.transform.is_some()) {
            return Vec::new();
        }
        let fields = ["id", "type", "source", "tenant", "status", "outcome", "correlationId", "productId", "session"];
        fields.map(|field| (field, format!("$message.payload#{below}/{field}"))).into()
    }

    /// The messages of the channel, by their keys in the document.
    pub(super) fn into_values(self, components: &mut Components) -> Map<String, Value> {
        if self.is_for_dead_letters {
            let title = "A message that became a dead letter, as received, with the reason in its headers";
            return Map::from_iter([("dead_letter".to_owned(), self.message("dead_letter", title, Value::Null))]);
        }
        if matches!(self.sink.format, Format::Original) && self.sink.group.is_none() {
            let mut messages: Map<_, _> =
                self.sources.iter().flat_map(|expects| components.received(*expects)).collect();
            if self.has_alerts {
                messages.insert("alert".to_owned(), self.message("alert", "An alert of the relay", Value::Null));
            }
            return messages;
        }
        let events = self.events(components);
        let messages = if let Some(group) = &self.sink.group {
            let mut items: Vec<_> = events.into_iter().map(|(_, _, payload)| payload).collect();
            items.dedup();
            let payload = match items.as_slice() {
                [one] if one.is_null() => Value::Null,
                [one] if self.is_array() => json!({ "type": "array", "items": one, "maxItems": group.max }),
                [one] => one.clone(),
                several => json!({ "type": "array", "items": { "anyOf": several }, "maxItems": group.max }),
            };
            vec![("digest".to_owned(), "A digest of several events".to_owned(), payload)]
        } else {
            events
        };
        let message = |(key, title, payload): (String, String, Value)| {
            let value = self.message(&key, &title, payload);
            (super::key(&key), value)
        };
        messages.into_iter().map(message).collect()
    }

    /// Whether digests are lists of what single events would be.
    fn is_array(&self) -> bool {
        matches!(self.sink.format, Format::Normalized | Format::CloudEvents { .. })
    }

    /// Key, title and payload of each kind of event.
    fn events(&self, components: &mut Components) -> Vec<(String, String, Value)> {
        let transforms = self.routes.iter().filter_map(|route| Some((route, route.transform.as_ref()?)));
        let mut events = Vec::new();
        if self.has_untransformed {
            let payload = self.payload(None, components);
            events.push(("event".to_owned(), "A response of REGARDS".to_owned(), payload));
        }
        for (route, transform) in transforms {
            let payload = self.payload(Some(&transform.fields()), components);
            let title = format!("A response of REGARDS, transformed by the route {}", route.name);
            events.push((format!("event_of_{}", route.name), title, payload));
        }
        if self.has_alerts {
            let payload = self.payload(None, components);
            events.push(("alert".to_owned(), "An alert of the relay".to_owned(), payload));
        }
        events
    }

    /// The schema of a body. Null: it is not known, as that of a template.
    fn payload(&self, transformed: Option<&Fields>, components: &mut Components) -> Value {
        let event = |components: &mut Components| transformed.map_or_else(|| components.event(), with_fields);
        match &self.sink.format {
            Format::CloudEvents { .. } if self.carrier == Carrier::Http => structured(&event(components)),
            Format::Normalized | Format::CloudEvents { .. } => event(components),
            Format::Schema(format) => components.encoded(format),
            Format::Original | Format::Body(_) => Value::Null,
        }
    }

    fn message(&self, name: &str, title: &str, payload: Value) -> Value {
        let SinkConfig { format, group, kind, .. } = self.sink;
        let mut message = json!({ "name": name, "title": title, "headers": self.headers() });
        // A registry's prefix is no part of these types.
        let has_prefix = self.sink.registry().is_some();
        let content_type = format.content_type(self.carrier, group.is_some());
        if let Some(content_type) = content_type.filter(|_| !has_prefix && !self.is_for_dead_letters) {
            set(&mut message, "contentType", json!(content_type));
        }
        set(&mut message, "payload", payload);
        match format {
            Format::Body(_) => {
                set(&mut message, "summary", json!("The body is made by a template of the configuration"));
            }
            Format::Schema(schema) => {
                let summary = format!("Encoded by the schema {} ({})", schema.schema_name(), schema.kind.as_str());
                set(&mut message, "summary", json!(summary));
            }
            Format::Normalized | Format::Original | Format::CloudEvents { .. } => {}
        }
        if let SinkKind::Kafka(kafka) = kind {
            set(&mut message, "bindings", json!({ "kafka": record(kafka) }));
        }
        message
    }

    /// The names of the headers; received ones may be passed on in addition.
    fn headers(&self) -> Value {
        let mut names: Vec<String> = match &self.sink.kind {
            SinkKind::Kafka(kafka) => own(&kafka.headers),
            SinkKind::Amqp(amqp) => own(&amqp.headers),
            SinkKind::Webhook(webhook) => {
                let signature = (!webhook.secrets.is_empty()).then_some("webhook-signature");
                let sent = ["webhook-id", "webhook-timestamp"].into_iter().chain(signature).map(str::to_owned);
                sent.chain(webhook.headers.iter().map(|(name, _)| name.to_string())).collect()
            }
            SinkKind::File(_) | SinkKind::Stdout => Vec::new(),
        };
        if let (Format::CloudEvents { .. }, Some(prefix)) = (&self.sink.format, prefix(self.carrier)) {
            names.extend(ATTRIBUTES.map(|(name, _)| format!("{prefix}{name}")));
        }
        let mut properties: Map<_, _> = names.into_iter().map(|name| (name, json!({ "type": "string" }))).collect();
        if self.carrier == Carrier::Amqp {
            properties.insert(HOPS_HEADER.to_owned(), json!({ "type": "integer" }));
        }
        json!({ "type": "object", "properties": properties })
    }
}

fn own<T>(configured: &[(String, T)]) -> Vec<String> {
    RELAY_HEADERS.map(str::to_owned).into_iter().chain(configured.iter().map(|(name, _)| name.clone())).collect()
}

/// The prefix of `CloudEvents` attributes in headers.
const fn prefix(carrier: Carrier) -> Option<&'static str> {
    match carrier {
        Carrier::Kafka => Some("ce_"),
        Carrier::Amqp => Some("ce-"),
        Carrier::Http | Carrier::Line => None,
    }
}

/// The Kafka binding of a message: its key, and where the id of its schema is.
fn record(kafka: &KafkaConfig) -> Value {
    let key = match kafka.key.shown() {
        "" => json!({ "type": "null" }),
        template => json!({ "type": ["string", "null"], "description": format!("The result of `{template}`") }),
    };
    let mut binding = json!({ "key": key, "bindingVersion": KAFKA_BINDING });
    if let Some(registry) = &kafka.registry {
        let (default, strategy) = TOPIC_NAME_STRATEGY;
        let subject = registry.subject.shown();
        set(&mut binding, "schemaIdLocation", json!("payload"));
        set(&mut binding, "schemaIdPayloadEncoding", json!("confluent"));
        set(&mut binding, "schemaLookupStrategy", json!(if subject == default { strategy } else { subject }));
    }
    binding
}

/// A `CloudEvent` in structured mode.
fn structured(data: &Value) -> Value {
    let mut properties: Map<_, _> =
        ATTRIBUTES.iter().map(|(name, _)| ((*name).to_owned(), json!({ "type": "string" }))).collect();
    properties.insert("datacontenttype".to_owned(), json!({ "const": "application/json" }));
    properties.insert("data".to_owned(), data.clone());
    let required = ATTRIBUTES.iter().filter(|(_, always)| *always).map(|(name, _)| *name);
    let required: Vec<_> = required.chain(["datacontenttype", "data"]).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

/// What a transform leaves of the event.
fn with_fields(fields: &Fields) -> Value {
    let property = |(name, field): (&String, &crate::event::FieldType)| {
        let kind = match field.kind {
            FieldKind::Text => "string",
            FieldKind::Number => "number",
            FieldKind::List => "array",
            FieldKind::Map | FieldKind::Properties => "object",
            FieldKind::Any => return (name.clone(), json!({})),
        };
        (name.clone(), json!({ "type": if field.nullable { json!([kind, "null"]) } else { json!(kind) } }))
    };
    let properties: Map<_, _> = fields.iter().map(property).collect();
    let required: Vec<_> = fields.keys().collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{DecodeOptions, Event, EventView, HeaderValue, Message, Properties, SourceName, Validation};

    #[test]
    fn the_attributes_are_those_of_the_format() {
        let message = Message {
            source: SourceName::new("regards"),
            body: r#"{"correlationId":"c","responseStatus":"SUCCESS"}"#.into(),
            properties: Properties {
                timestamp: Some(1_681_461_977),
                headers: vec![(TENANT_HEADER.to_owned(), HeaderValue::Text("esa".to_owned()))],
                ..Properties::default()
            },
            redelivered: false,
        };
        let options = DecodeOptions {
            expects: ExpectedFamily::One(Family::named("lta").unwrap()),
            validation: Validation::Lenient,
            tenant: None,
            max_body: 1024,
        };
        let event = Event::decode(&message, &options).unwrap();
        for carrier in [Carrier::Kafka, Carrier::Amqp] {
            let format = Format::CloudEvents { name: "urn:x".to_owned() };
            let encoded = format.encode(EventView::of(&event, &message), carrier).unwrap();
            let names: Vec<_> = encoded.headers.iter().map(|(name, _)| name.to_string()).collect();
            assert_eq!(names, ATTRIBUTES.map(|(name, _)| format!("{}{name}", prefix(carrier).unwrap())));
        }
    }

    #[test]
    fn the_draft_of_a_json_schema_is_named() {
        for (written, expected) in [
            ("http://json-schema.org/draft-07/schema#", "draft-07"),
            ("https://json-schema.org/draft/2019-09/schema", "2019-09"),
            ("https://json-schema.org/draft/2020-12/schema", "2020-12"),
        ] {
            assert_eq!(draft(&json!({ "$schema": written })), expected);
        }
        assert_eq!(draft(&json!({ "type": "object" })), "2020-12");
    }
}
