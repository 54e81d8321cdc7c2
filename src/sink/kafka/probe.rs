//! Whether the brokers answer and the topic is there, with nothing produced.

use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use super::settings::{explain, settings};
use super::trouble::Trouble;
use crate::config::KafkaConfig;
use crate::probe::{Found, Probed};

/// How often the brokers are asked, and how long each time …
const TRIES: u32 = 10;
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// … but no more often than this where librdkafka has said what is wrong: that one broker is down says nothing of others.
const TRIES_IN_TROUBLE: u32 = 3;

/// Logs in and asks for the topics there are. Whether they may be written to, only producing could tell.
pub(in crate::sink) async fn probe(kafka: &KafkaConfig, relay: &str) -> Probed {
    let (kafka, client) = (kafka.clone(), relay.to_owned());
    let asked = tokio::task::spawn_blocking(move || ask(&kafka, &client)).await;
    asked.unwrap_or_else(|error| Err(error.to_string()))
}

/// Blocks.
fn ask(kafka: &KafkaConfig, client: &str) -> Probed {
    let settings = settings(kafka, client)?;
    let producer: BaseProducer<Complaints> =
        ClientConfig::create_with_context(&settings, Complaints::default()).map_err(|error| explain(&error))?;
    let metadata = metadata(&producer)?;
    let brokers = metadata.brokers().len();
    let Some(topic) = kafka.topic.fixed() else {
        return Ok(Found::Fine(format!("the brokers answer (brokers: {brokers})")));
    };
    match metadata.topics().iter().find(|found| found.name() == topic) {
        Some(found) => {
            let partitions = found.partitions().len();
            Ok(Found::Fine(format!("topic {topic} is there (partitions: {partitions}, brokers: {brokers})")))
        }
        None => Ok(Found::Doubtful(format!(
            "the brokers answer, but show no topic {topic}: does it exist, or do they create it, and may the user write to it?"
        ))),
    }
}

/// Of all topics: to ask for one could create it.
fn metadata(producer: &BaseProducer<Complaints>) -> Result<Metadata, String> {
    let mut last = None;
    for tries in 1..=TRIES {
        match producer.client().fetch_metadata(None, ANSWER_WITHIN) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => last = Some(error),
        }
        producer.poll(Duration::ZERO);
        if tries >= TRIES_IN_TROUBLE
            && let Some(complaint) = producer.context().0.last()
        {
            return Err(complaint);
        }
    }
    Err(last.map_or_else(String::new, |error| format!("no broker answers: {error}")))
}

/// What librdkafka says is wrong.
#[derive(Default)]
struct Complaints(Trouble);

impl ClientContext for Complaints {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(target: "librdkafka", facility, "{line}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.note(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown), reason);
    }
}

impl ProducerContext for Complaints {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &rdkafka::message::DeliveryResult<'_>, (): ()) {}
}
