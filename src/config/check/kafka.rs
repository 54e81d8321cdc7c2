//! The key `kafka:` of a sink.

use super::common::{address_template, template};
use super::{headers, kafka_options, sasl, tls};
use crate::config::model::{KafkaConfig, OrderBy};
use crate::config::raw;
use crate::config::text::decode::{At, OneOrMany};
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::Text;
use crate::config::topic::{self, check_topic};
use crate::event::{EventSchema, Template};

/// The names of librdkafka's partitioners.
const PARTITIONERS: [&str; 7] =
    ["murmur2_random", "murmur2", "consistent_random", "consistent", "fnv1a_random", "fnv1a", "random"];
/// The default partitioner: Java clients use the same.
const PARTITIONER: &str = "murmur2_random";
/// The partitioner that ignores the key.
const ANY: &str = "random";
/// The default key of records.
const KEY: &str = "{{ correlationId }}";
/// The default key of copies of dead letters, which need no order.
const NO_KEY: &str = "";
/// Fields of an event that can hold any text, or a time.
const FREE_TEXT: [&str; 10] = [
    "correlationId",
    "productId",
    "session",
    "message",
    "expires",
    "time",
    "warnings",
    "extra",
    "headers",
    "properties",
];

pub(super) fn kafka(at: &At<raw::Kafka>, reader: &mut Reader<'_>) -> Option<KafkaConfig> {
    let raw = &at.value;
    let brokers = raw.brokers.as_ref().and_then(|brokers| self::brokers(brokers, reader));
    let topic = raw.topic.as_ref().and_then(|topic| self::topic(topic, reader));
    let key = match &raw.key {
        Some(key) => template(reader, key),
        None => match &reader.schema {
            EventSchema::DeadLetter => Template::compile(NO_KEY).ok(),
            schema @ EventSchema::Digest(_) => Template::compile_for(&group_key(schema), schema.clone()).ok(),
            _ => Template::compile(KEY).ok(),
        },
    };
    let headers = headers::headers(raw.headers.as_ref(), false, reader);
    let tls = raw.tls.as_ref().map(|at| {
        if let Some(name) = &at.value.server_name {
            reader.report(
                Diagnostic::error("server-name", name.span, "each broker of a Kafka cluster has a name of its own")
                    .help("remove `server_name`, and let the brokers advertise the names in their certificates"),
            );
        }
        tls::tls(at, false, reader)
    });
    let sasl = raw.sasl.as_ref().map(|at| sasl::sasl(at, tls.is_some(), reader));
    let partitioner = match &raw.partitioner {
        Some(partitioner) => self::partitioner(partitioner, reader),
        None => Some(PARTITIONER.to_owned()),
    };
    let options = raw.options.as_ref().map_or_else(Vec::new, |options| kafka_options::options(options, reader));
    Some(KafkaConfig {
        brokers: brokers?,
        topic: topic?,
        key: key?,
        headers,
        partitioner: partitioner?,
        timestamp: raw.timestamp.as_ref().map_or_else(Default::default, |timestamp| timestamp.value.0),
        options,
        sasl: sasl.map_or(Some(None), |sasl| sasl.map(Some))?,
        tls,
        registry: None,
    })
}

/// Warns where events that have to stay in order can go to different partitions or topics.
pub(super) fn keeps_order(raw: &raw::Sink, kafka: &KafkaConfig, order_by: OrderBy, reader: &mut Reader<'_>) {
    let Some(at) = &raw.kafka else { return };
    let unordered = match (&at.value.partitioner, &at.value.key) {
        (Some(partitioner), _) if kafka.partitioner == ANY => {
            Some((partitioner.span, "the partitioner `random` ignores the key"))
        }
        (_, Some(key)) if kafka.key.fixed() == Some(NO_KEY) => {
            Some((key.span, "a record without a key goes to any partition"))
        }
        _ => None,
    };
    if let Some((span, why)) = unordered.filter(|_| order_by != OrderBy::None) {
        let order_by = order_by.as_str();
        let message = format!("{why}: events with the same {order_by} lose their order");
        let help = "remove it, or write `order_by: none` if the order does not matter";
        reader.report(Diagnostic::warning("order-undone", span, message).help(help));
    }
    // These fields can differ between events that have to stay in order.
    let of_requests: &[&str] = &["id", "status", "outcome", "message", "expires", "time", "warnings"];
    let others: &[&str] = match order_by {
        OrderBy::None => return,
        OrderBy::CorrelationId => &[],
        OrderBy::ProductId => &["correlationId", "session"],
        OrderBy::Session => &["correlationId", "productId"],
        OrderBy::Tenant => &["correlationId", "productId", "session"],
    };
    let parts = [("topics", &kafka.topic, at.value.topic.as_ref()), ("partitions", &kafka.key, at.value.key.as_ref())];
    for (parts, template, written) in parts {
        let differs = |name: &&str| of_requests.contains(name) || others.contains(name);
        let Some(name) = template.names().into_iter().find(differs) else { continue };
        let span = match (written, &raw.order_by) {
            (Some(written), _) => reader.word_in_template(written.span, name),
            (None, Some(order_by)) => order_by.span,
            (None, None) => continue,
        };
        let order_by = order_by.as_str();
        let message = format!(
            "events with the same {order_by} can differ in `{name}`, and lose their order in different {parts}"
        );
        let help = if parts == "partitions" {
            format!("write `key: \"{{{{ {order_by} }}}}\"`, or `order_by: none` if the order does not matter")
        } else {
            format!("leave `{name}` out, or write `order_by: none` if the order does not matter")
        };
        reader.report(Diagnostic::warning("order-undone", span, message).help(help));
    }
}

fn brokers(at: &At<OneOrMany<Text>>, reader: &mut Reader<'_>) -> Option<String> {
    let mut all = Vec::new();
    for broker in &at.value.0 {
        for part in broker.value.text.split(',').map(str::trim) {
            if let Some((why, help)) = broker_mistake(part).filter(|_| !broker.value.placeholder) {
                let message = format!("{} is not the address of a broker: {why}", reader.quote(broker.span));
                reader.report(Diagnostic::error("kafka-broker", broker.span, message).help(help));
                return None;
            }
            all.push(part.to_owned());
        }
    }
    if all.is_empty() {
        reader.report(
            Diagnostic::error("empty-list", at.span, "there is no broker in the list")
                .help("write at least one `HOST:PORT`"),
        );
        return None;
    }
    Some(all.join(","))
}

/// Why a text is not `HOST` or `HOST:PORT`, with an IPv6 address in brackets; and what to write.
fn broker_mistake(text: &str) -> Option<(&'static str, &'static str)> {
    const WRITE: &str = "write `HOST:PORT`, several in a list or separated by commas";
    if text.contains("://") {
        return Some(("it has a scheme", "write only `HOST:PORT`; for brokers with TLS, add `tls: {}`"));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bare {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    match (is_host, is_port) {
        (true, true) => None,
        (true, false) => Some(("its port is not a number from 1 to 65535", WRITE)),
        (false, _) => Some(("there is no host in it, or more than a host and a port", WRITE)),
    }
}

fn topic(at: &At<Text>, reader: &mut Reader<'_>) -> Option<Template> {
    let template = address_template(reader, at)?;
    let name = template.fixed();
    let is_legal = match name {
        Some(name) => check_topic(name).is_ok(),
        None => template.texts().all(|text| text.bytes().all(topic::is_legal)),
    };
    if !is_legal {
        let what = if name.is_some() { "be" } else { "become" };
        let message = format!("{} can't {what} the name of a topic", reader.quote(at.span));
        reader.report(
            Diagnostic::error("kafka-topic", at.span, message)
                .help(format!("Kafka takes letters, digits, `.`, `_` and `-`, at most {} of them", topic::MAX_LENGTH)),
        );
        return None;
    }
    // A filter that changes a field is written with its content in mind.
    let names = if template.has_filters() { Vec::new() } else { template.names() };
    for name in names.into_iter().filter(|name| FREE_TEXT.contains(&name.split('.').next().unwrap_or_default())) {
        let message = format!("`{name}` can have characters that the name of a topic must not have");
        reader.report(
            Diagnostic::warning("free-text-topic", reader.word_in_template(at.span, name), message).help(
                "such an event becomes a dead letter, `render_failed`; replace these characters, as in `{{ session | replace(':', '-') }}`",
            ),
        );
    }
    Some(template)
}

/// The default key of digests: what they are grouped by, with slashes in between.
fn group_key(schema: &EventSchema) -> String {
    let fields: Vec<_> = schema.group_fields().into_iter().map(|name| format!("{{{{ {name} }}}}")).collect();
    fields.join("/")
}

fn partitioner(at: &At<Text>, reader: &mut Reader<'_>) -> Option<String> {
    let text = at.value.text.as_str();
    if at.value.placeholder {
        return Some(PARTITIONER.to_owned());
    }
    if !PARTITIONERS.contains(&text) {
        let message = format!("{} is not one of librdkafka's partitioners", reader.quote(at.span));
        let diagnostic = Diagnostic::error("unknown-word", at.span, message);
        reader.report(diagnostic.suggest_one_of(text, PARTITIONERS.into_iter()));
        return None;
    }
    Some(text.to_owned())
}
