//! `schema asyncapi`: the queues, topics, exchanges and URLs of a configuration and the messages there, as an `AsyncAPI` document
//! (<https://www.asyncapi.com/docs/reference/specification/v3.0.0>).
//!
//! It takes the relay's side: the relay receives from the channels of its sources and sends to those of its sinks. Files and
//! standard output are no channels. The document can be published: it has no credentials, and of a URL that is not written in the
//! file only the host.

mod address;
mod message;

use serde_json::{Map, Value, json};

pub(in crate::cli) use self::address::vhost;
use self::address::{Address, Server};
use self::message::{Components, SinkMessages};
use crate::config::{AmqpConnection, AmqpSinkConfig, AmqpSourceConfig, Config, KafkaConfig, SinkConfig, SinkKind};
use crate::config::{SourceConfig, SourceKind, WebhookConfig};
use crate::event::Carrier;
use crate::rules::{SinkIndex, Unrouted};

const VERSION: &str = "3.0.0";
/// The versions of the `AsyncAPI` bindings: <https://github.com/asyncapi/bindings>.
const AMQP_BINDING: &str = "0.3.0";
const HTTP_BINDING: &str = "0.3.0";
const KAFKA_BINDING: &str = "0.5.0";
/// A registry's subject that has this name by the strategy of Confluent's clients.
const TOPIC_NAME_STRATEGY: (&str, &str) = ("{{ topic }}-value", "TopicNameStrategy");

pub(super) fn document(config: &Config) -> Value {
    let mut document = Document::default();
    for source in &config.sources {
        document.add_source(source);
    }
    for (place, sink) in config.sinks.iter().enumerate() {
        document.add_sink(config, SinkIndex(place), sink);
    }
    let Document { servers, channels, operations, components: Components { messages, schemas } } = document;
    json!({
        "asyncapi": VERSION,
        "id": config.name,
        "info": {
            "title": config.name,
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What regards-relay receives and sends. The version is that of the relay.",
        },
        "servers": servers,
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas },
    })
}

/// The maps of a document, by their keys.
#[derive(Default)]
struct Document {
    servers: Map<String, Value>,
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    components: Components,
}

/// One channel and what the relay does there.
struct Channel<'a> {
    /// The name of the source or sink.
    name: &'a str,
    summary: String,
    servers: Vec<Server>,
    address: Address,
    bindings: Value,
    messages: Map<String, Value>,
    operation: Operation,
}

struct Operation {
    action: &'static str,
    summary: String,
    description: Option<String>,
    bindings: Value,
}

impl Document {
    fn add_source(&mut self, source: &SourceConfig) {
        let SourceKind::Amqp(amqp) = &source.kind else { return };
        let AmqpSourceConfig { connection, queue, .. } = &**amqp;
        let messages = self.components.received(source.decode_options.expects);
        let mut named = json!({ "name": queue, "vhost": vhost(connection) });
        if let Some(named) = named.as_object_mut().filter(|_| amqp.declare.as_ref().is_some_and(|d| d.queue.is_some()))
        {
            named.insert("durable".to_owned(), json!(true));
        }
        self.add(Channel {
            name: source.name.as_str(),
            summary: format!("The queue of the source {}", source.name),
            servers: of_brokers(connection),
            address: Address::fixed(queue),
            bindings: json!({ "amqp": { "is": "queue", "queue": named, "bindingVersion": AMQP_BINDING } }),
            messages,
            operation: Operation {
                action: "receive",
                summary: "Responses of REGARDS".to_owned(),
                description: None,
                bindings: json!({ "amqp": { "ack": true, "bindingVersion": AMQP_BINDING } }),
            },
        });
    }

    fn add_sink(&mut self, config: &Config, index: SinkIndex, sink: &SinkConfig) {
        let (servers, address, bindings, carrier) = match &sink.kind {
            SinkKind::Kafka(kafka) => (of_cluster(kafka), Address::of_topic(&kafka.topic), Value::Null, Carrier::Kafka),
            SinkKind::Amqp(amqp) => {
                let address = Address::of_routing_key(&amqp.routing_key);
                (of_brokers(&amqp.connection), address, exchange(amqp), Carrier::Amqp)
            }
            SinkKind::Webhook(webhook) => {
                let WebhookConfig { url, .. } = &**webhook;
                let (server, address) = address::of_webhook(url, &sink.masks);
                (vec![server], address, Value::Null, Carrier::Http)
            }
            SinkKind::File(_) | SinkKind::Stdout => return,
        };
        let mut address = address;
        let messages = SinkMessages::of(config, index, sink, carrier);
        for (name, location) in messages.locations() {
            address.locate(name, &location);
        }
        let operation = match carrier {
            Carrier::Http => json!({ "http": { "method": "POST", "bindingVersion": HTTP_BINDING } }),
            Carrier::Amqp => json!({ "amqp": { "deliveryMode": 2, "bindingVersion": AMQP_BINDING } }),
            Carrier::Kafka | Carrier::Line => Value::Null,
        };
        let messages = messages.into_values(&mut self.components);
        self.add(Channel {
            name: sink.name.as_str(),
            summary: format!("The {} of the sink {}", what(&sink.kind), sink.name),
            servers,
            address,
            bindings,
            messages,
            operation: Operation {
                action: "send",
                summary: in_summary(config, index, sink),
                description: routes(config, index),
                bindings: operation,
            },
        });
    }

    fn add(&mut self, channel: Channel<'_>) {
        let Channel { name, summary, servers, address, bindings, messages, operation } = channel;
        let servers: Vec<_> = servers
            .into_iter()
            .map(|server| {
                let key = put(&mut self.servers, &server.key(), server.into_value());
                json!({ "$ref": format!("#/servers/{key}") })
            })
            .collect();
        let names: Vec<_> = messages.keys().cloned().collect();
        let mut value = json!({ "title": name, "summary": summary, "servers": servers, "messages": messages });
        address.write(&mut value);
        set(&mut value, "bindings", bindings);
        let key = put(&mut self.channels, name, value);
        let messages: Vec<_> =
            names.iter().map(|message| json!({ "$ref": format!("#/channels/{key}/messages/{message}") })).collect();
        let Operation { action, summary, description, bindings } = operation;
        let mut value = json!({
            "action": action,
            "channel": { "$ref": format!("#/channels/{key}") },
            "summary": summary,
            "messages": messages,
        });
        set(&mut value, "description", description.map_or(Value::Null, Value::String));
        set(&mut value, "bindings", bindings);
        self.operations.insert(key, value);
    }
}

/// Sets a member that is not null.
fn set(object: &mut Value, name: &str, value: Value) {
    if let (Some(object), false) = (object.as_object_mut(), value.is_null()) {
        object.insert(name.to_owned(), value);
    }
}

/// Adds a value, unless an equal one is there. Gives its key: the name, or the name and a number where another value has that key.
fn put(map: &mut Map<String, Value>, name: &str, value: Value) -> String {
    let name = key(name);
    let mut free = name.clone();
    let mut number = 2;
    while map.get(&free).is_some_and(|known| *known != value) {
        free = format!("{name}_{number}");
        number += 1;
    }
    map.insert(free.clone(), value);
    free
}

/// The keys of a document have only these characters.
fn key(name: &str) -> String {
    name.chars()
        .map(|char| if char.is_ascii_alphanumeric() || matches!(char, '-' | '_') { char } else { '_' })
        .collect()
}

fn of_brokers(connection: &AmqpConnection) -> Vec<Server> {
    connection.urls.iter().map(address::of_broker).collect()
}

fn of_cluster(kafka: &KafkaConfig) -> Vec<Server> {
    let protocol = if kafka.tls.is_some() { "kafka-secure" } else { "kafka" };
    let registry = kafka.registry.as_ref().and_then(|registry| address::of_registry(&registry.url));
    let registry = registry.map(|url| {
        json!({ "kafka": { "schemaRegistryUrl": url, "schemaRegistryVendor": "confluent", "bindingVersion": KAFKA_BINDING } })
    });
    let server = |host: &str| Server {
        protocol: protocol.to_owned(),
        host: host.to_owned(),
        bindings: registry.clone().unwrap_or_default(),
    };
    kafka.brokers.split(',').map(server).collect()
}

fn exchange(amqp: &AmqpSinkConfig) -> Value {
    let mut exchange = json!({ "name": amqp.exchange, "vhost": vhost(&amqp.connection) });
    if let Some(kind) = &amqp.declare {
        set(&mut exchange, "type", json!(kind));
        set(&mut exchange, "durable", json!(true));
    }
    json!({ "amqp": { "is": "routingKey", "exchange": exchange, "bindingVersion": AMQP_BINDING } })
}

const fn what(kind: &SinkKind) -> &'static str {
    match kind {
        SinkKind::Kafka(_) => "topic",
        SinkKind::Amqp(_) => "exchange",
        SinkKind::Webhook(_) => "URL",
        SinkKind::File(_) => "file",
        SinkKind::Stdout => "output",
    }
}

fn in_summary(config: &Config, index: SinkIndex, sink: &SinkConfig) -> String {
    if config.dead_letters.to.as_ref() == Some(&sink.name) {
        return "Copies of dead letters".to_owned();
    }
    let has_events = config.rules.routes().iter().any(|route| route.to.contains(&index)) || is_unrouted(config, index);
    let has_alerts = config.alerts.iter().any(|alert| alert.to.contains(&index));
    match (&sink.group, has_events, has_alerts) {
        (Some(_), _, _) => "Digests, each of several events",
        (None, true, true) => "Events, and alerts of the relay",
        (None, true, false) => "Events",
        (None, false, true) => "Alerts of the relay",
        (None, false, false) => "No route leads here",
    }
    .to_owned()
}

fn is_unrouted(config: &Config, index: SinkIndex) -> bool {
    matches!(config.rules.unrouted(), Unrouted::Sinks(sinks) if sinks.contains(&index))
}

/// What leads to a sink: routes with their conditions, and alerts. A list in Markdown.
fn routes(config: &Config, index: SinkIndex) -> Option<String> {
    let mut lines: Vec<_> = config
        .rules
        .routes()
        .iter()
        .filter(|route| route.to.contains(&index))
        .map(|route| match route.when.to_string() {
            when if when.is_empty() => format!("- route {}: every event", route.name),
            when => format!("- route {}: {when}", route.name),
        })
        .collect();
    lines.extend(is_unrouted(config, index).then(|| "- events that no route matches".to_owned()));
    let alerts = config.alerts.iter().filter(|alert| alert.to.contains(&index));
    lines.extend(alerts.map(|alert| format!("- alert {}: {}", alert.name, alert.trigger.as_str())));
    (!lines.is_empty()).then(|| lines.join("\n"))
}
