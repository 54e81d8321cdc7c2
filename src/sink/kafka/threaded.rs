//! A producer with a thread that polls its delivery reports.
//!
//! It replaces rdkafka's `ThreadedProducer`, whose thread polls for 100 ms. librdkafka waits for whole milliseconds, and rdkafka
//! (0.39, `BaseProducer::poll`) polls in a busy loop for the rest, which is nearly a millisecond each time: 1 % of a processor
//! without any traffic.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, ProducerContext};

use crate::tasks::{self, TaskKind};

/// How long the thread polls before it checks whether it has to end. Slightly more than 100 ms, so that librdkafka, which is
/// called a moment later, still waits for 100 whole milliseconds.
const POLL_INTERVAL: Duration = Duration::from_micros(100_050);

pub(super) struct ThreadedProducer<C: ProducerContext + 'static> {
    producer: Arc<BaseProducer<C>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<C: ProducerContext + 'static> ThreadedProducer<C> {
    /// Builds it and starts its thread, which calls `before_poll` each time before it polls.
    pub(super) fn build(
        settings: &ClientConfig,
        context: C,
        before_poll: impl Fn(&BaseProducer<C>) + Send + 'static,
    ) -> Result<Self, KafkaError> {
        let producer = Arc::new(BaseProducer::from_config_and_context(settings, context)?);
        let stop = Arc::new(AtomicBool::new(false));
        let (polled, is_stopped) = (Arc::clone(&producer), Arc::clone(&stop));
        let poll = move || {
            while !is_stopped.load(Ordering::Relaxed) {
                before_poll(&polled);
                polled.poll(POLL_INTERVAL);
                TaskKind::KafkaReports.panic_if_requested();
            }
        };
        let thread = tasks::spawn_thread(TaskKind::KafkaReports, "kafka reports".to_owned(), poll);
        let thread = thread.map_err(|error| KafkaError::ClientCreation(format!("can't start a thread: {error}")))?;
        Ok(Self { producer, stop, thread: Some(thread) })
    }
}

impl<C: ProducerContext + 'static> Deref for ThreadedProducer<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &Self::Target {
        &self.producer
    }
}

impl<C: ProducerContext + 'static> Drop for ThreadedProducer<C> {
    /// Waits until the thread has ended.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic on the thread has been logged.
            let _ = thread.join();
        }
    }
}
