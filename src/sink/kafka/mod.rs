//! Events as records in Kafka topics, by librdkafka's idempotent producer with `acks=all`.
//!
//! An attempt ends with its delivery report and nothing else. It is not given to librdkafka but kept in a table, and librdkafka
//! has its number: a report that comes late, or never, can then neither end another attempt nor keep one from ending when the
//! sink is closed.

mod polled;
mod probe;
mod producer;
mod render;
mod settings;
mod supervisor;
#[cfg(test)]
mod tests;
mod trouble;
mod verdict;
mod words;

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rdkafka::message::OwnedHeaders;
use rdkafka::producer::BaseRecord;
use tokio::sync::oneshot;

pub(super) use self::probe::probe;
pub(super) use self::render::render;
use super::pending::Pending;
use super::{Attempt, Destination, OpenError, Outgoing, headers};
use crate::config::{KafkaConfig, SinkConfig};
use crate::event::HeaderValue;
use producer::{Common, PURGE_TIMEOUT};
use supervisor::{Order, Shared};
use trouble::Trouble;

/// Attempts under way at once, unless the options say otherwise: librdkafka's own default for its queue.
const CAPACITY: usize = 100_000;
/// What closing may take beyond its grace: purging, and librdkafka's threads ending.
const CLOSE_SLACK: Duration = PURGE_TIMEOUT.saturating_mul(3);

/// A producer, and what makes records for it.
pub(super) struct KafkaSink {
    capacity: usize,
    producer: Handle,
}

/// Closes the producer when it is dropped.
struct Handle {
    shared: Arc<Shared>,
    orders: Sender<Order>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The thread is gone already where the sink was closed.
        let _ = self.orders.send(Order::Close { grace: Duration::ZERO, done: None });
    }
}

impl KafkaSink {
    pub(super) async fn open(config: &SinkConfig, kafka: &KafkaConfig, relay: &str) -> Result<Self, OpenError> {
        let common = Common { sink: config.name.clone(), pending: Pending::default(), trouble: Trouble::default() };
        let (shared, orders) = supervisor::start(common, kafka.clone(), relay.to_owned())
            .await
            .map_err(|detail| OpenError { sink: config.name.to_string(), detail })?;
        Ok(Self { capacity: capacity(kafka), producer: Handle { shared, orders } })
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn attempt(&self, outgoing: &Outgoing, attempt: Attempt) {
        let Destination::Kafka { topic, key, timestamp } = &outgoing.destination else {
            return super::misdirected(attempt);
        };
        let record = BaseRecord {
            topic,
            partition: None,
            payload: Some(&*outgoing.body),
            key: key.as_deref(),
            timestamp: *timestamp,
            headers: Some(native(&outgoing.headers)),
            delivery_opaque: (),
        };
        self.producer.shared.send(attempt, record);
    }

    pub(super) fn take_back_unsent(&self) {
        // The thread is gone only where the sink is closed.
        let _ = self.producer.orders.send(Order::TakeBackUnsent);
    }

    pub(super) async fn close(self, grace: Duration) {
        let (done, is_done) = oneshot::channel();
        if self.producer.orders.send(Order::Close { grace, done: Some(done) }).is_ok() {
            // A broker's thread that hangs (a name that doesn't resolve) holds up librdkafka, not the relay's stop.
            let _ = tokio::time::timeout(grace + CLOSE_SLACK, is_done).await;
        }
        self.producer.shared.common.pending.abandon();
    }
}

/// How many records librdkafka's queue holds.
fn capacity(kafka: &KafkaConfig) -> usize {
    let option = kafka.options.iter().rfind(|(name, _)| name == "queue.buffering.max.messages");
    option.and_then(|(_, value)| value.reveal().ok()?.parse().ok()).filter(|size| *size > 0).unwrap_or(CAPACITY)
}

/// The headers as librdkafka takes them.
fn native(headers: &[(String, HeaderValue)]) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |native, (key, value)| {
        let value = headers::untyped(value);
        native.insert(rdkafka::message::Header { key, value: value.as_deref() })
    })
}
