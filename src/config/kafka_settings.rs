//! librdkafka's settings of a producer but for brokers and logins: what `run` uses, and what a file is checked with.

use rdkafka::config::ClientConfig;

/// A record that no broker took within this ends its attempt.
const MESSAGE_TIMEOUT_MS: &str = "30000";

/// Our defaults, where librdkafka's don't serve: name, alias, value.
const DEFAULTS: [(&str, &str, &str); 5] = [
    // Order per key is one delivery of a key at a time, so what a batch waits for company is paid by each of them. With a
    // Kafka 4.1 on the same machine: one key 160 a second at librdkafka's 5 ms, 600 at 1 ms, 7,000 at 0; under full load
    // 1 ms costs about the CPU of 5, and 0 a third more.
    ("linger.ms", "queue.buffering.max.ms", "1"),
    // Less than `message.timeout.ms` (librdkafka's default is the same 30 s): a topic that doesn't exist has to be told from
    // a broker that doesn't answer.
    ("topic.metadata.propagation.max.ms", "", "10000"),
    // How large a record may be is the topic's setting: let the broker say so. Bounded by the sources' `max_body`; batches
    // stay within `batch.size`.
    ("message.max.bytes", "", "33554432"),
    // A firewall that forgets a quiet connection tells nobody: without probes the next record waits for a timeout.
    ("socket.keepalive.enable", "", "true"),
    // A topic that exists by a slip of the pen, or by a tenant's odd name, is one that nobody reads.
    ("allow.auto.create.topics", "", "false"),
];

/// The settings with these options, of which each one was checked. `client` is the relay's name.
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
    fn a_connection_that_died_silently_is_noticed_and_no_topic_created_unless_the_options_say_otherwise() {
        let settings = producer_settings("c", &[]);
        assert_eq!(settings.get("socket.keepalive.enable"), Some("true"));
        assert_eq!(settings.get("allow.auto.create.topics"), Some("false"));
        let other = ["socket.keepalive.enable", "allow.auto.create.topics"];
        let options = [(other[0].to_owned(), "false".to_owned()), (other[1].to_owned(), "true".to_owned())];
        let settings = producer_settings("c", &options);
        assert_eq!(other.map(|name| settings.get(name)), [Some("false"), Some("true")]);
    }
}
