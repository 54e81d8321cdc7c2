//! Produces events as records to Kafka topics, with librdkafka's idempotent producer and `acks=all`.
//!
//! Only its delivery report ends an attempt. librdkafka is given only the number of the attempt, which is kept
//! in a table. So a late report can't end another attempt, and a missing one can't keep the sink from closing.

mod error_class;
mod last_error;
mod probe;
mod producer;
mod reasons;
mod render;
mod settings;
mod supervisor;
#[cfg(test)]
mod tests;
mod threaded;
mod token_login;

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rdkafka::message::OwnedHeaders;
use rdkafka::producer::BaseRecord;
use tokio::sync::oneshot;
use tokio::time::sleep;

pub(super) use self::probe::probe;
pub(super) use self::render::render;
use super::in_flight::InFlightAttempts;
use super::{Attempt, Destination, OpenError, RenderedDelivery, headers};
use crate::config::{KafkaConfig, SinkConfig};
use crate::event::HeaderValue;
use last_error::LastError;
use producer::{PURGE_TIMEOUT, SinkState};
use supervisor::{ProducerCommand, SharedProducer};
use token_login::SinkTokens;

/// The largest number of attempts in flight, unless the options set it: librdkafka's own default for its queue.
const CAPACITY: usize = 100_000;
/// How long closing may take beyond its grace, to purge the queue and to end librdkafka's threads.
const CLOSE_SLACK: Duration = PURGE_TIMEOUT.saturating_mul(3);
/// How long closing waits for librdkafka's threads if no record is in flight. A thread may hang in a login while a key distribution
/// center doesn't answer.
const IDLE_SLACK: Duration = Duration::from_secs(1);
/// How often closing looks whether a record is in flight.
const IDLE_INTERVAL: Duration = Duration::from_millis(50);

/// An open producer, and the size of its queue.
pub(super) struct KafkaSink {
    capacity: usize,
    producer: ProducerHandle,
}

/// Closes the producer when it is dropped.
struct ProducerHandle {
    shared: Arc<SharedProducer>,
    commands: Sender<ProducerCommand>,
}

impl Drop for ProducerHandle {
    fn drop(&mut self) {
        // The thread is gone if the sink was closed before.
        let _ = self.commands.send(ProducerCommand::Close { grace: Duration::ZERO, done: None });
    }
}

impl KafkaSink {
    pub(super) async fn open(config: &SinkConfig, kafka: &KafkaConfig, relay: &str) -> Result<Self, OpenError> {
        let state = SinkState {
            sink: config.name.clone(),
            in_flight: InFlightAttempts::default(),
            last_error: LastError::default(),
            tokens: SinkTokens::of(kafka),
        };
        let (shared, commands) = supervisor::start(state, kafka.clone(), relay.to_owned())
            .await
            .map_err(|detail| OpenError { sink: config.name.to_string(), detail })?;
        Ok(Self { capacity: capacity(kafka), producer: ProducerHandle { shared, commands } })
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn attempt(&self, outgoing: &RenderedDelivery, attempt: Attempt) {
        self.producer.shared.attempt(outgoing, attempt);
    }

    /// Sends deliveries that are ready later.
    pub(super) fn producer(&self) -> Arc<SharedProducer> {
        Arc::clone(&self.producer.shared)
    }

    pub(super) fn cancel_unsent(&self) {
        // The thread is gone only if the sink was closed.
        let _ = self.producer.commands.send(ProducerCommand::CancelUnsent);
    }

    pub(super) async fn close(self, grace: Duration) {
        let (done, is_done) = oneshot::channel();
        if self.producer.commands.send(ProducerCommand::Close { grace, done: Some(done) }).is_ok() {
            // A broker's thread of librdkafka may hang (a name that doesn't resolve). That must not delay the relay's stop.
            tokio::select! {
                _ = is_done => {}
                () = self.becomes_idle() => {}
                () = sleep(grace + CLOSE_SLACK) => {}
            }
        }
        self.producer.shared.state.in_flight.abandon_all();
    }

    /// Returns a moment after the last record in flight was reported, while no attempts begin.
    async fn becomes_idle(&self) {
        while self.producer.shared.state.in_flight.len() > 0 {
            sleep(IDLE_INTERVAL).await;
        }
        sleep(IDLE_SLACK).await;
    }
}

impl SharedProducer {
    pub(super) fn attempt(&self, outgoing: &RenderedDelivery, attempt: Attempt) {
        let Destination::Kafka { topic, key, timestamp, .. } = &outgoing.destination else {
            return super::reject_other_kind(attempt);
        };
        let record = BaseRecord {
            topic,
            partition: None,
            payload: Some(&*outgoing.body),
            key: key.as_deref(),
            timestamp: *timestamp,
            headers: Some(to_kafka_headers(&outgoing.headers)),
            delivery_opaque: (),
        };
        self.send(attempt, record);
    }
}

/// How many records librdkafka's queue holds.
fn capacity(kafka: &KafkaConfig) -> usize {
    let option = kafka.options.iter().rfind(|(name, _)| name == "queue.buffering.max.messages");
    option.and_then(|(_, value)| value.reveal().ok()?.parse().ok()).filter(|size| *size > 0).unwrap_or(CAPACITY)
}

fn to_kafka_headers(headers: &[(String, HeaderValue)]) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |native, (key, value)| {
        let value = headers::to_bytes(value);
        native.insert(rdkafka::message::Header { key, value: value.as_deref() })
    })
}
