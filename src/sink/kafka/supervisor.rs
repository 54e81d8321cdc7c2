//! The thread that owns a sink's producer: it builds the producer, rebuilds it after a fatal error, and closes it. All of this
//! blocks for as long as librdkafka's own threads do, so it does not run on the async runtime.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rdkafka::producer::BaseRecord;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::producer::{Producer, SinkState};
use super::settings::{explain_config_error, settings};
use crate::config::KafkaConfig;
use crate::net::Backoff;
use crate::sink::{Attempt, Blame, UNSENT_GRACE, Verdict};
use crate::tasks::{self, TaskKind};

/// The delays before a producer is rebuilt.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
/// After a producer has worked for this long, the back-off starts from the beginning.
const STABLE_AFTER: Duration = Duration::from_mins(1);

/// How often unsent records are cancelled before the sink closes.
const PURGE_INTERVAL: Duration = Duration::from_millis(100);

/// A command to the supervisor's thread.
pub(super) enum ProducerCommand {
    /// The producer of that generation had a fatal error.
    Rebuild { generation: u64 },
    /// The sink is about to close: wait only for records that are sent.
    CancelUnsent,
    /// Flush for at most `grace`, close, and notify `done`.
    Close { grace: Duration, done: Option<oneshot::Sender<()>> },
}

/// The producer, if there is one.
#[derive(Default)]
enum ProducerSlot {
    Ready(Producer),
    #[default]
    Rebuilding,
    Closed,
}

/// The producer as attempts use it, from any thread.
pub(in crate::sink) struct SharedProducer {
    slot: RwLock<ProducerSlot>,
    pub(super) state: Arc<SinkState>,
}

impl SharedProducer {
    /// Sends the record of that attempt, or ends the attempt if there is no producer.
    pub(super) fn send(&self, attempt: Attempt, record: BaseRecord<'_, str, [u8]>) {
        // The lock is held while the record is queued. So no record follows once the producer was taken out of the slot.
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            ProducerSlot::Ready(producer) => {
                let number = self.state.in_flight.insert(attempt, record.timestamp);
                producer.send(BaseRecord {
                    topic: record.topic,
                    partition: None,
                    payload: record.payload,
                    key: record.key,
                    timestamp: record.timestamp,
                    headers: record.headers,
                    delivery_opaque: number,
                });
            }
            ProducerSlot::Rebuilding => attempt.end(Verdict::Retry {
                after: None,
                cause: self.state.last_error.cause(rdkafka::error::RDKafkaErrorCode::Fatal, record.topic),
                blame: Blame::Sink,
            }),
            ProducerSlot::Closed => {
                attempt.end(Verdict::Retry {
                    after: None,
                    cause: "the sink is closed already".to_owned(),
                    blame: Blame::Relay,
                });
            }
        }
    }

    fn swap(&self, new: ProducerSlot) -> ProducerSlot {
        std::mem::replace(&mut *self.slot.write().unwrap_or_else(PoisonError::into_inner), new)
    }
}

/// Starts the thread and waits until the producer is built, which needs no broker.
pub(super) async fn start(
    state: SinkState,
    config: KafkaConfig,
    client: String,
) -> Result<(Arc<SharedProducer>, Sender<ProducerCommand>), String> {
    let (command_sender, commands) = channel();
    let state = Arc::new(state);
    let shared = Arc::new(SharedProducer { slot: RwLock::default(), state: Arc::clone(&state) });
    let (built, is_built) = oneshot::channel();
    let mut supervisor = Supervisor {
        shared: Arc::clone(&shared),
        config,
        client,
        commands,
        command_sender: command_sender.clone(),
        generation: 0,
        failures: 1,
        built_at: Instant::now(),
        closing_since: None,
    };
    let name = format!("kafka {}", state.sink);
    let thread = tasks::spawn_thread(TaskKind::KafkaSupervisor, name, move || {
        let result = supervisor.build();
        let open = result.is_ok();
        if built.send(result).is_ok() && open {
            supervisor.run();
        }
    });
    thread.map_err(|error| format!("the relay can't start a thread: {error}"))?;
    is_built
        .await
        .unwrap_or_else(|_| Err("the Kafka producer could not be built, because its thread has ended".to_owned()))?;
    Ok((shared, command_sender))
}

struct Supervisor {
    shared: Arc<SharedProducer>,
    config: KafkaConfig,
    client: String,
    commands: Receiver<ProducerCommand>,
    command_sender: Sender<ProducerCommand>,
    generation: u64,
    /// How often in a row a producer failed, or could not be built.
    failures: u32,
    built_at: Instant,
    /// Since when the sink is about to close.
    closing_since: Option<Instant>,
}

struct CloseRequest {
    grace: Duration,
    done: Option<oneshot::Sender<()>>,
}

impl Supervisor {
    fn run(mut self) {
        TaskKind::KafkaSupervisor.panic_if_requested();
        let closing = loop {
            let command = match self.closing_since {
                None => self.commands.recv().map_err(RecvTimeoutError::from),
                Some(_) => self.commands.recv_timeout(PURGE_INTERVAL),
            };
            match command {
                Ok(ProducerCommand::Rebuild { generation }) if generation == self.generation => {
                    if let Some(closing) = self.rebuild() {
                        break closing;
                    }
                }
                Ok(ProducerCommand::Rebuild { .. }) | Err(RecvTimeoutError::Timeout) => {}
                Ok(ProducerCommand::CancelUnsent) => self.start_closing(),
                Ok(ProducerCommand::Close { grace, done }) => break CloseRequest { grace, done },
                Err(RecvTimeoutError::Disconnected) => break CloseRequest { grace: Duration::ZERO, done: None },
            }
            if let Some(since) = self.closing_since
                && let ProducerSlot::Ready(producer) = &*self.shared.slot.read().unwrap_or_else(PoisonError::into_inner)
            {
                self.cancel_unsent(producer, since);
            }
        };
        self.close(closing);
    }

    fn start_closing(&mut self) {
        self.closing_since.get_or_insert_with(Instant::now);
    }

    /// Cancels unsent records after their grace, or at once after an error.
    fn cancel_unsent(&self, producer: &Producer, since: Instant) {
        if self.shared.state.last_error.is_set() || since.elapsed() >= UNSENT_GRACE {
            producer.cancel_unsent();
        }
    }

    /// Builds a producer with the current secrets and certificates.
    fn build(&mut self) -> Result<(), String> {
        let settings = settings(&self.config, &self.client)?;
        self.generation += 1;
        let producer = Producer::build(settings, &self.shared.state, &self.command_sender, self.generation)
            .map_err(|error| explain_config_error(&error))?;
        self.built_at = Instant::now();
        self.shared.swap(ProducerSlot::Ready(producer));
        Ok(())
    }

    /// Retires the failed producer and builds a new one. Nothing of the old one is left when the new one starts.
    fn rebuild(&mut self) -> Option<CloseRequest> {
        let sink = &self.shared.state.sink;
        warn!(%sink, "the Kafka producer had a fatal error; the relay rebuilds it, and deliveries are retried");
        if let ProducerSlot::Ready(old) = self.shared.swap(ProducerSlot::Rebuilding) {
            old.retire();
        }
        self.shared.state.in_flight.abandon_all();
        self.failures = if self.built_at.elapsed() >= STABLE_AFTER { 1 } else { self.failures.saturating_add(1) };
        loop {
            if let Some(closing) = self.wait(BACKOFF.delay(self.failures)) {
                return Some(closing);
            }
            match self.build() {
                Ok(()) => {
                    info!(sink = %self.shared.state.sink, "the Kafka producer was rebuilt");
                    return None;
                }
                Err(error) => {
                    self.failures = self.failures.saturating_add(1);
                    let sink = &self.shared.state.sink;
                    error!(%sink, error, "can't rebuild the Kafka producer; the relay tries again, and deliveries are retried");
                }
            }
        }
    }

    /// Waits for `delay`, or until the sink closes.
    fn wait(&mut self, delay: Duration) -> Option<CloseRequest> {
        let until = Instant::now() + delay;
        loop {
            match self.commands.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(ProducerCommand::Rebuild { .. }) => {}
                Ok(ProducerCommand::CancelUnsent) => self.start_closing(),
                Ok(ProducerCommand::Close { grace, done }) => return Some(CloseRequest { grace, done }),
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => return Some(CloseRequest { grace: Duration::ZERO, done: None }),
            }
        }
    }

    fn close(self, closing: CloseRequest) {
        let begun = Instant::now();
        if let ProducerSlot::Ready(producer) = self.shared.swap(ProducerSlot::Closed) {
            let since = self.closing_since.unwrap_or(begun);
            loop {
                let left = closing.grace.saturating_sub(begun.elapsed());
                if producer.flush(left.min(PURGE_INTERVAL)) || left.is_zero() {
                    break;
                }
                self.cancel_unsent(&producer, since);
            }
            producer.retire();
        }
        self.shared.state.in_flight.abandon_all();
        if let Some(done) = closing.done {
            // The receiver is gone if `close` has timed out.
            let _ = done.send(());
        }
    }
}
