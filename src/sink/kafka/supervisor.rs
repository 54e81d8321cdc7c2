//! The thread that owns a sink's producer: it builds it, replaces it when it has failed for good, and closes it. All of that
//! blocks, for as long as librdkafka's own threads do, so none of it runs on the runtime.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rdkafka::producer::BaseRecord;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::producer::{Common, Producer};
use super::settings::{explain, settings};
use crate::config::KafkaConfig;
use crate::sink::{Attempt, Blame, UNSENT_GRACE, Verdict};
use crate::tasks::{self, TaskKind};

/// Before a producer is rebuilt the first time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Between two builds of a producer that fails again and again; the pause doubles up to this.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A producer that worked for this long failed anew, not again.
const WORKED: Duration = Duration::from_mins(1);

/// How often it is looked for what isn't sent.
const TAKE_BACK_EVERY: Duration = Duration::from_millis(100);

/// What the thread is told.
pub(super) enum Order {
    /// The producer of that generation has failed for good.
    Rebuild { generation: u64 },
    /// The sink is to end: only what is on a wire is worth waiting for.
    TakeBackUnsent,
    /// Flush for at most that long, close, and say so.
    Close { grace: Duration, done: Option<oneshot::Sender<()>> },
}

/// The producer, while there is one.
#[derive(Default)]
enum Slot {
    Ready(Producer),
    #[default]
    Rebuilding,
    Closed,
}

/// Where attempts find the producer.
pub(super) struct Shared {
    slot: RwLock<Slot>,
    pub(super) common: Arc<Common>,
}

impl Shared {
    /// Sends one record for that attempt, if there is a producer to do it.
    pub(super) fn send(&self, attempt: Attempt, record: BaseRecord<'_, str, [u8]>) {
        // The lock is held over the sending: who takes the producer out of the slot knows that nothing comes after.
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Slot::Ready(producer) => {
                let number = self.common.pending.hold(attempt, record.timestamp);
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
            Slot::Rebuilding => attempt.end(Verdict::Retry {
                after: None,
                cause: self.common.trouble.cause(rdkafka::error::RDKafkaErrorCode::Fatal, record.topic),
                blame: Blame::Sink,
            }),
            Slot::Closed => {
                attempt.end(Verdict::Retry {
                    after: None,
                    cause: "the sink is closed".to_owned(),
                    blame: Blame::Relay,
                });
            }
        }
    }

    fn swap(&self, new: Slot) -> Slot {
        std::mem::replace(&mut *self.slot.write().unwrap_or_else(PoisonError::into_inner), new)
    }
}

/// Starts the thread and waits until the producer is built, which no broker is needed for.
pub(super) async fn start(
    common: Common,
    config: KafkaConfig,
    client: String,
) -> Result<(Arc<Shared>, Sender<Order>), String> {
    let (orders_in, orders) = channel();
    let common = Arc::new(common);
    let shared = Arc::new(Shared { slot: RwLock::default(), common: Arc::clone(&common) });
    let (built, is_built) = oneshot::channel();
    let mut supervisor = Supervisor {
        shared: Arc::clone(&shared),
        config,
        client,
        orders,
        orders_in: orders_in.clone(),
        generation: 0,
        pause: FIRST_PAUSE,
        built_at: Instant::now(),
        ends_since: None,
    };
    let name = format!("kafka {}", common.sink);
    let thread = tasks::spawn_thread(TaskKind::KafkaSupervisor, name, move || {
        let result = supervisor.build();
        let open = result.is_ok();
        if built.send(result).is_ok() && open {
            supervisor.run();
        }
    });
    thread.map_err(|error| format!("can't start a thread: {error}"))?;
    is_built.await.unwrap_or_else(|_| Err("librdkafka could not start its threads".to_owned()))?;
    Ok((shared, orders_in))
}

struct Supervisor {
    shared: Arc<Shared>,
    config: KafkaConfig,
    client: String,
    orders: Receiver<Order>,
    orders_in: Sender<Order>,
    generation: u64,
    pause: Duration,
    built_at: Instant,
    /// Since when the sink is to end.
    ends_since: Option<Instant>,
}

/// The sink closes.
struct Closing {
    grace: Duration,
    done: Option<oneshot::Sender<()>>,
}

impl Supervisor {
    fn run(mut self) {
        TaskKind::KafkaSupervisor.panic_if_requested();
        let closing = loop {
            let order = match self.ends_since {
                None => self.orders.recv().map_err(RecvTimeoutError::from),
                Some(_) => self.orders.recv_timeout(TAKE_BACK_EVERY),
            };
            match order {
                Ok(Order::Rebuild { generation }) if generation == self.generation => {
                    if let Some(closing) = self.replace() {
                        break closing;
                    }
                }
                Ok(Order::Rebuild { .. }) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::TakeBackUnsent) => self.ends(),
                Ok(Order::Close { grace, done }) => break Closing { grace, done },
                Err(RecvTimeoutError::Disconnected) => break Closing { grace: Duration::ZERO, done: None },
            }
            if let Some(since) = self.ends_since
                && let Slot::Ready(producer) = &*self.shared.slot.read().unwrap_or_else(PoisonError::into_inner)
            {
                self.take_back_unsent(producer, since);
            }
        };
        self.close(closing);
    }

    fn ends(&mut self) {
        self.ends_since.get_or_insert_with(Instant::now);
    }

    /// Takes back what isn't sent, if it is time to.
    fn take_back_unsent(&self, producer: &Producer, since: Instant) {
        if self.shared.common.trouble.is_any() || since.elapsed() >= UNSENT_GRACE {
            producer.take_back_unsent();
        }
    }

    /// A new producer, with the secrets and certificates of now.
    fn build(&mut self) -> Result<(), String> {
        let settings = settings(&self.config, &self.client)?;
        self.generation += 1;
        let producer = Producer::build(&settings, &self.shared.common, &self.orders_in, self.generation)
            .map_err(|error| explain(&error))?;
        self.built_at = Instant::now();
        self.shared.swap(Slot::Ready(producer));
        Ok(())
    }

    /// Takes the failed producer out and puts a new one in; nothing of the old one is left when the new one begins.
    fn replace(&mut self) -> Option<Closing> {
        let sink = &self.shared.common.sink;
        warn!(%sink, "the producer has failed for good; it is rebuilt");
        if let Slot::Ready(old) = self.shared.swap(Slot::Rebuilding) {
            old.retire();
        }
        self.shared.common.pending.abandon();
        self.pause = if self.built_at.elapsed() >= WORKED { FIRST_PAUSE } else { (self.pause * 2).min(MAX_PAUSE) };
        loop {
            if let Some(closing) = self.wait(self.pause) {
                return Some(closing);
            }
            match self.build() {
                Ok(()) => {
                    info!(sink = %self.shared.common.sink, "the producer is rebuilt");
                    return None;
                }
                Err(cause) => {
                    self.pause = (self.pause * 2).min(MAX_PAUSE);
                    error!(sink = %self.shared.common.sink, cause, "can't rebuild the producer");
                }
            }
        }
    }

    /// Waits that long, unless the sink closes before.
    fn wait(&mut self, pause: Duration) -> Option<Closing> {
        let until = Instant::now() + pause;
        loop {
            match self.orders.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Order::Rebuild { .. }) => {}
                Ok(Order::TakeBackUnsent) => self.ends(),
                Ok(Order::Close { grace, done }) => return Some(Closing { grace, done }),
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => return Some(Closing { grace: Duration::ZERO, done: None }),
            }
        }
    }

    fn close(self, closing: Closing) {
        let begun = Instant::now();
        if let Slot::Ready(producer) = self.shared.swap(Slot::Closed) {
            let since = self.ends_since.unwrap_or(begun);
            loop {
                let left = closing.grace.saturating_sub(begun.elapsed());
                if producer.flush(left.min(TAKE_BACK_EVERY)) || left.is_zero() {
                    break;
                }
                self.take_back_unsent(&producer, since);
            }
            producer.retire();
        }
        self.shared.common.pending.abandon();
        if let Some(done) = closing.done {
            // Nobody waits any more when `close` has lost its patience.
            let _ = done.send(());
        }
    }
}
