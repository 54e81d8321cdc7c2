//! librdkafka's producer settings except brokers and logins. The sink uses them, and the configuration is checked with them.

use rdkafka::config::ClientConfig;

/// When a record that no broker has confirmed ends its attempt.
const MESSAGE_TIMEOUT_MS: &str = "30000";

/// The relay's own defaults: name, alias, value.
const DEFAULTS: [(&str, &str, &str); 5] = [
    // To keep order, one delivery of a key is in flight at a time, and each waits for its batch to fill. Measured with Kafka
    // 4.1 on the same machine: one key gets 160 records a second at librdkafka's 5 ms, 600 at 1 ms, 7,000 at 0. Under full
    // load, 1 ms costs about as much CPU as 5, and 0 a third more.
    ("linger.ms", "queue.buffering.max.ms", "1"),
    // Less than `message.timeout.ms` (librdkafka's default is the same 30 s), so that a missing topic can be told from a
    // broker that doesn't answer.
    ("topic.metadata.propagation.max.ms", "", "10000"),
    // The topic has its own limit, and the broker enforces it. Records are bounded by the sources' `max_body`, batches by
    // `batch.size`.
    ("message.max.bytes", "", "33554432"),
    // A firewall may drop an idle connection silently: without probes, the next record would wait for a timeout.
    ("socket.keepalive.enable", "", "true"),
    // A topic created because of a typing error or an unusual tenant name would have no reader.
    ("allow.auto.create.topics", "", "false"),
];

/// The settings with these checked options. `client` is the relay's name.
#[must_use]
pub fn producer_settings(client: &str, options: &[(String, String)]) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("client.id", client);
    for (name, alias, value) in DEFAULTS {
        if !options.iter().any(|(option, _)| option == name || option == alias) {
            settings.set(name, value);
        }
    }
    for (name, value) in options {
        settings.set(name, value);
    }
    settings.set("enable.idempotence", "true");
    settings.set("acks", "all");
    settings.set("message.timeout.ms", MESSAGE_TIMEOUT_MS);
    settings.set("delivery.report.only.error", "false");
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_keep_connections_alive_and_create_no_topic_and_options_override_them() {
        let settings = producer_settings("c", &[]);
        assert_eq!(settings.get("socket.keepalive.enable"), Some("true"));
        assert_eq!(settings.get("allow.auto.create.topics"), Some("false"));
        let other = ["socket.keepalive.enable", "allow.auto.create.topics"];
        let options = [(other[0].to_owned(), "false".to_owned()), (other[1].to_owned(), "true".to_owned())];
        let settings = producer_settings("c", &options);
        assert_eq!(other.map(|name| settings.get(name)), [Some("false"), Some("true")]);
    }
}
