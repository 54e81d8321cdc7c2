//! The librdkafka settings that `options:` may have, and why it may not have the others.

use rdkafka::config::{ClientConfig, FromClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;

use crate::config::kafka_settings::producer_settings;
use crate::config::text::decode::{At, NamedEntries};
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::SecretText;
use crate::config::text::secret::Secret;
use crate::config::text::words::clean;

/// The settings that may be given, by librdkafka's `CONFIGURATION.md` (2.12). A test asks librdkafka for each.
const OPTIONS: [&str; 65] = [
    "allow.auto.create.topics",
    "api.version.fallback.ms",
    "api.version.request",
    "api.version.request.timeout.ms",
    "batch.num.messages",
    "batch.size",
    "broker.address.family",
    "broker.address.ttl",
    "broker.version.fallback",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.codec",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "debug",
    "enable.metrics.push",
    "enable.random.seed",
    "linger.ms",
    "log.connection.close",
    "log.thread.name",
    "log_level",
    "message.copy.max.bytes",
    "message.max.bytes",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "receive.message.max.bytes",
    "reconnect.backoff.jitter.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "socket.blocking.max.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.ca.certificate.stores",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.engine.id",
    "ssl.engine.location",
    "ssl.key.password",
    "ssl.providers",
    "ssl.sigalgs.list",
    "statistics.interval.ms",
    "sticky.partitioning.linger.ms",
    "topic.blacklist",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.fast.cnt",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
    "produce.offset.report",
];

/// Settings that the relay has to control itself: the beginnings of their names, and why.
const PROMISES: [(&str, &str); 17] = [
    ("acks", "nothing is acknowledged to RabbitMQ before all in-sync replicas have it"),
    ("request.required.acks", "nothing is acknowledged to RabbitMQ before all in-sync replicas have it"),
    ("enable.idempotence", "without it librdkafka's own retries repeat and reorder records"),
    ("max.in.flight", "the order of records depends on it"),
    ("queuing.strategy", "the order of records depends on it"),
    ("enable.gapless.guarantee", "the relay repeats a record that failed by itself"),
    ("message.timeout.ms", "the relay's own retries depend on it"),
    ("delivery.timeout.ms", "the relay's own retries depend on it"),
    ("message.send.max.retries", "the relay's own retries depend on it"),
    ("retries", "the relay's own retries depend on it"),
    ("delivery.report.only.error", "without its report a delivery never ends"),
    ("transaction", "the relay sends without transactions"),
    ("enable.ssl.certificate.verification", "certificates are always verified"),
    ("ssl.endpoint.identification.algorithm", "certificates are always verified"),
    ("test.mock.", "a mock cluster stores nothing"),
    ("enabled_events", "the relay itself needs it"),
    ("log.queue", "the relay itself needs it"),
];

/// Settings with a key of their own in `kafka:`: the beginnings of their names, and the key.
const OWN_KEYS: [(&str, &str); 16] = [
    ("bootstrap.servers", "brokers"),
    ("metadata.broker.list", "brokers"),
    ("partitioner", "partitioner"),
    ("security.protocol", "tls` and `sasl"),
    ("sasl.mechanism", "sasl.mechanism"),
    ("sasl.username", "sasl.username"),
    ("sasl.password", "sasl.password"),
    ("sasl.", "sasl"),
    ("ssl.ca.location", "tls.ca"),
    ("ssl.ca.pem", "tls.ca"),
    ("ssl.certificate.location", "tls.cert"),
    ("ssl.certificate.pem", "tls.cert"),
    ("ssl.key.location", "tls.key"),
    ("ssl.key.pem", "tls.key"),
    ("ssl.keystore.", "tls"),
    ("https.ca.", "tls"),
];

pub(super) fn options(at: &At<NamedEntries<SecretText>>, reader: &mut Reader<'_>) -> Vec<(String, Secret)> {
    let mut checked = Vec::new();
    let mut is_each_right = true;
    for (key, value) in &at.value.0 {
        if reader.is_full() {
            break;
        }
        let name = key.text.as_str();
        let begins = |(start, _): &&(&str, &str)| name == *start || (name.starts_with(start) && start.len() > 4);
        if OPTIONS.contains(&name) {
            if let Some(text) = &value.value.0.text
                && !accepts(name, text)
            {
                is_each_right = false;
                reader.report(
                    Diagnostic::error(
                        "kafka-option",
                        value.span,
                        format!("librdkafka does not accept this value of `{name}`"),
                    )
                    .help("its CONFIGURATION.md describes the values"),
                );
            }
            checked.push((key.text.clone(), value.value.0.secret.clone()));
        } else if let Some((_, own)) = OWN_KEYS.iter().find(begins) {
            reader.report(
                Diagnostic::error("kafka-option", key.span, format!("`{}` can't be an option", clean(name)))
                    .help(format!("write it as `{own}` of `kafka`")),
            );
        } else if let Some((_, why)) = PROMISES.iter().find(begins) {
            reader.report(
                Diagnostic::error("kafka-option", key.span, format!("`{}` can't be an option: {why}", clean(name)))
                    .help("remove it: the relay sets it itself"),
            );
        } else {
            let message = format!("librdkafka's producer has no option `{}`", clean(name));
            let diagnostic = Diagnostic::error("kafka-option", key.span, message);
            let help = "its CONFIGURATION.md lists the names (those marked P or *)";
            reader.report(diagnostic.suggest(name, OPTIONS, help));
        }
    }
    if is_each_right {
        check_together(at, reader);
    }
    checked
}

/// Checks whether librdkafka accepts the options together: it compares them when a producer is built, which connects to nothing
/// here. Options for TLS may name files, and are checked when the sink is opened; those with unset variables are left out.
fn check_together(at: &At<NamedEntries<SecretText>>, reader: &mut Reader<'_>) {
    let known = at.value.0.iter().filter_map(|(key, value)| {
        let text = value.value.0.text.as_ref()?;
        (OPTIONS.contains(&key.text.as_str()) && !key.text.starts_with("ssl."))
            .then(|| (key.text.clone(), text.clone()))
    });
    let known: Vec<(String, String)> = known.collect();
    if known.is_empty() {
        return;
    }
    let mut settings = producer_settings("check", &known);
    settings.set_log_level(RDKafkaLogLevel::Emerg);
    let Err(KafkaError::ClientCreation(why)) = BaseProducer::from_config(&settings) else { return };
    let mut named = at.value.0.iter().filter(|(key, _)| why.contains(&format!("`{}`", key.text)));
    let span = named.next().map_or(at.span, |(key, _)| key.span);
    let message = format!("librdkafka does not accept these options together: {}", clean(&why));
    reader.report(
        Diagnostic::error("kafka-option", span, message)
            .help("change one of them; its CONFIGURATION.md describes each, and the relay itself sets `message.timeout.ms` to 30000"),
    );
}

/// Whether librdkafka accepts this value. It connects to nothing for that.
fn accepts(name: &str, value: &str) -> bool {
    ClientConfig::new().set(name, value).create_native_config().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether librdkafka knows the setting. The value `?` is invalid for all but texts, which gives another error.
    fn known(name: &str) -> bool {
        use rdkafka::error::KafkaError;
        use rdkafka::types::RDKafkaConfRes;
        match ClientConfig::new().set(name, "?").create_native_config() {
            Err(KafkaError::ClientConfig(result, ..)) => result != RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN,
            _ => true,
        }
    }

    #[test]
    fn librdkafka_knows_every_allowed_option() {
        let unknown: Vec<_> = OPTIONS.into_iter().filter(|name| !known(name)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert!(!known("compression.tpye"));
    }

    #[test]
    fn no_allowed_option_is_also_refused() {
        for (start, _) in PROMISES.iter().chain(&OWN_KEYS) {
            assert!(!OPTIONS.iter().any(|name| name.starts_with(start) && start.len() > 4 || name == start), "{start}");
        }
    }
}
