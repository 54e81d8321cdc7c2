//! A producer whose reports are heard on a thread of its own.
//!
//! It is rdkafka's `ThreadedProducer` but for the time that the thread asks for. librdkafka waits for whole milliseconds, rdkafka
//! (0.39, `BaseProducer::poll`) asks it again and again until the rest has passed too, and of 100 ms there is always a rest when
//! it asks first: nearly a millisecond, 1 % of a processor at rest.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, ProducerContext};

use crate::tasks::{self, TaskKind};

/// How often the thread looks whether it is to end. A little more than whole milliseconds: what is left when librdkafka is asked.
const LOOK: Duration = Duration::from_micros(100_050);

/// A producer with its thread.
pub(super) struct PolledProducer<C: ProducerContext + 'static> {
    producer: Arc<BaseProducer<C>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<C: ProducerContext + 'static> PolledProducer<C> {
    /// Builds it and starts its thread.
    pub(super) fn build(settings: &ClientConfig, context: C) -> Result<Self, KafkaError> {
        let producer = Arc::new(BaseProducer::from_config_and_context(settings, context)?);
        let ends = Arc::new(AtomicBool::new(false));
        let (polled, is_over) = (Arc::clone(&producer), Arc::clone(&ends));
        let poll = move || {
            while !is_over.load(Ordering::Relaxed) {
                polled.poll(LOOK);
                TaskKind::KafkaReports.panic_if_requested();
            }
        };
        let thread = tasks::spawn_thread(TaskKind::KafkaReports, "kafka reports".to_owned(), poll);
        let thread = thread.map_err(|error| KafkaError::ClientCreation(format!("can't start a thread: {error}")))?;
        Ok(Self { producer, ends, thread: Some(thread) })
    }
}

impl<C: ProducerContext + 'static> Deref for PolledProducer<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &Self::Target {
        &self.producer
    }
}

impl<C: ProducerContext + 'static> Drop for PolledProducer<C> {
    /// The thread has ended when this returns.
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic on it has been printed.
            let _ = thread.join();
        }
    }
}
