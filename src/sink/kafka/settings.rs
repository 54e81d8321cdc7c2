//! `kafka:` of `routes.yaml` as librdkafka's settings. Which options there may be was checked with the file.

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use crate::config::{KafkaConfig, Secret, Tls};

/// A record that no broker took within this ends its attempt.
const MESSAGE_TIMEOUT_MS: &str = "30000";

/// Our defaults, where librdkafka's don't serve: name, alias, value.
const DEFAULTS: [(&str, &str, &str); 3] = [
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
];

/// The settings now: secrets are read here, which blocks. `client` is the relay's name. The error never has a value in it.
pub(super) fn settings(config: &KafkaConfig, client: &str) -> Result<ClientConfig, String> {
    let mut settings = ClientConfig::new();
    settings.set_log_level(log_level());
    settings.set("client.id", client);
    for (name, alias, value) in DEFAULTS {
        if !config.options.iter().any(|(option, _)| option == name || option == alias) {
            settings.set(name, value);
        }
    }
    for (name, value) in &config.options {
        settings.set(name, reveal(value)?);
    }
    settings.set("bootstrap.servers", &config.brokers);
    settings.set("enable.idempotence", "true");
    settings.set("acks", "all");
    settings.set("message.timeout.ms", MESSAGE_TIMEOUT_MS);
    settings.set("delivery.report.only.error", "false");
    settings.set("partitioner", &config.partitioner);
    settings.set(
        "security.protocol",
        match (&config.tls, &config.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        },
    );
    if let Some(sasl) = &config.sasl {
        settings.set("sasl.mechanism", sasl.mechanism);
        settings.set("sasl.username", reveal(&sasl.username)?);
        settings.set("sasl.password", reveal(&sasl.password)?);
    }
    if let Some(tls) = &config.tls {
        set_tls(&mut settings, tls)?;
    }
    check_each(&settings)?;
    Ok(settings)
}

/// PEM files, which librdkafka reads when the producer is built. It compares each broker's certificate with the host name
/// that the broker advertises, and has no setting for another name: the file can't have a `server_name` here.
fn set_tls(settings: &mut ClientConfig, tls: &Tls) -> Result<(), String> {
    for (name, path) in
        [("ssl.ca.location", &tls.ca), ("ssl.certificate.location", &tls.cert), ("ssl.key.location", &tls.key)]
    {
        if let Some(path) = path {
            let path = path.to_str().ok_or_else(|| format!("the path {} is not UTF-8", path.display()))?;
            settings.set(name, path);
        }
    }
    Ok(())
}

fn reveal(secret: &Secret) -> Result<String, String> {
    secret.reveal().map_err(|error| error.to_string())
}

/// Whether librdkafka knows each setting and takes its value: its own message would repeat the value.
fn check_each(settings: &ClientConfig) -> Result<(), String> {
    match settings.create_native_config() {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(&error)),
    }
}

/// What librdkafka said about the settings, without their values.
pub(super) fn explain(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(result, _, name, _) => {
            if *result == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
                format!("librdkafka has no setting {name}: see its CONFIGURATION.md for the names")
            } else {
                format!("the value of {name} is not one that librdkafka takes: see its CONFIGURATION.md")
            }
        }
        KafkaError::Nul(_) => "a setting has a NUL character in it".to_owned(),
        KafkaError::ClientCreation(cause) => cause.clone(),
        other => other.to_string(),
    }
}

/// librdkafka makes only the lines that somebody wants to see.
fn log_level() -> RDKafkaLogLevel {
    if tracing::enabled!(target: "librdkafka", tracing::Level::DEBUG) {
        RDKafkaLogLevel::Debug
    } else if tracing::enabled!(target: "librdkafka", tracing::Level::INFO) {
        RDKafkaLogLevel::Info
    } else if tracing::enabled!(target: "librdkafka", tracing::Level::WARN) {
        RDKafkaLogLevel::Warning
    } else {
        RDKafkaLogLevel::Error
    }
}
