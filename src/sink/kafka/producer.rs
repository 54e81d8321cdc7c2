//! One producer of librdkafka's: records go in with a number, and their delivery reports end the attempts of those numbers.
//!
//! It is really two. Brokers refuse a whole batch where one record of it is too large for the topic or invalid, and librdkafka
//! says the same of every record in it. So a record whose batch was refused is sent once more by a second producer that makes
//! batches of one; what is refused there is refused for good. The second exists only once it is needed.

use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use tracing::{debug, error, info, warn};

use super::polled::PolledProducer;
use super::supervisor::Order;
use super::trouble::Trouble;
use super::verdict::{Judgement, judge};
use super::words::in_plain_words;
use crate::rules::SinkName;
use crate::sink::Verdict;
use crate::sink::pending::Pending;

/// Time for another record when librdkafka's queue is full.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(100);
/// Every broker thread answers a purge between two of its own steps, which take milliseconds.
pub(super) const PURGE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the producer and everything it becomes in its life have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) sink: SinkName,
    /// With the time that each record was rendered with: a report of failure has none.
    pub(super) pending: Pending<Option<i64>>,
    pub(super) trouble: Trouble,
}

/// A pair of librdkafka's producers.
pub(super) struct Producer(PolledProducer<Reports>);

impl Producer {
    /// Builds it: starts threads and reads PEM files, but waits for no broker.
    pub(super) fn build(
        settings: &ClientConfig,
        common: &Arc<Common>,
        orders: &Sender<Order>,
        generation: u64,
    ) -> Result<Self, KafkaError> {
        let reports = Reports {
            common: Arc::clone(common),
            orders: orders.clone(),
            generation,
            alone: Some(Alone { settings: settings.clone(), producer: OnceLock::new() }),
        };
        PolledProducer::build(settings, reports).map(Self)
    }

    /// Gives the record to librdkafka. The attempt of that number ends by its report, or now if librdkafka doesn't take it.
    pub(super) fn send(&self, record: BaseRecord<'_, str, [u8], usize>) {
        let number = record.delivery_opaque;
        if let Err((error, record)) = self.0.send(record) {
            self.0.context().refused_at_once(number, record.topic, &error);
        }
    }

    /// Waits until all that was sent is reported, at most for `grace`. True: it is.
    pub(super) fn flush(&self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        let mut is_answered = true;
        // The first passes records on to the second.
        for producer in self.both() {
            if let Err(error) = producer.flush(deadline.saturating_duration_since(Instant::now())) {
                debug!(sink = %self.0.context().common.sink, %error, "not all records were answered in time");
                is_answered = false;
            }
        }
        is_answered
    }

    /// Takes back what was not sent. What is on a wire stays under way. Waits for nothing.
    pub(super) fn take_back_unsent(&self) {
        for producer in self.both() {
            producer.purge(PurgeConfig::default().queue().non_blocking());
        }
    }

    /// Takes back what was not sent, gives up what was sent and not answered, and lets go of the brokers. Every report has
    /// come, or never will, when this returns. May block for as long as a broker's thread does.
    pub(super) fn retire(self) {
        for producer in self.both() {
            producer.purge(PurgeConfig::default().queue().inflight());
        }
        self.flush(PURGE_TIMEOUT);
        // Dropping joins every thread of librdkafka's: after that nothing of it can send anything.
        drop(self.0);
    }

    fn both(&self) -> impl Iterator<Item = &PolledProducer<Reports>> {
        std::iter::once(&self.0).chain(self.0.context().alone.as_ref().and_then(|alone| alone.producer.get()?.as_ref()))
    }
}

/// Hears what librdkafka has to say, on the producer's own thread.
pub(super) struct Reports {
    common: Arc<Common>,
    orders: Sender<Order>,
    generation: u64,
    /// None: this is the one that makes batches of one.
    alone: Option<Alone>,
}

/// The producer that makes batches of one, built when it is first needed. It is none where it can't be built.
struct Alone {
    settings: ClientConfig,
    producer: OnceLock<Option<PolledProducer<Reports>>>,
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(_) => {
                self.common.trouble.over();
                self.common.pending.end(number, Verdict::Delivered);
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                match self.alone.as_ref().and_then(|alone| self.second(alone)) {
                    Some(second) if judge(code) == Judgement::Refused => again(second, message, number),
                    _ => self.common.pending.end(number, self.verdict(code, message.topic())),
                }
            }
        }
    }
}

impl Reports {
    /// Why librdkafka didn't even take it.
    fn refused_at_once(&self, number: usize, topic: &str, error: &KafkaError) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        if code == RDKafkaErrorCode::Fatal {
            self.fatal();
        }
        self.common.pending.end(number, self.verdict(code, topic));
    }

    fn verdict(&self, code: RDKafkaErrorCode, topic: &str) -> Verdict {
        let cause = self.common.trouble.cause(code, topic);
        match judge(code) {
            Judgement::Refused => Verdict::Refused { cause },
            Judgement::Retry(blame) => {
                let after = (code == RDKafkaErrorCode::QueueFull).then_some(QUEUE_FULL_PAUSE);
                Verdict::Retry { after, cause, blame }
            }
        }
    }

    /// The producer of batches of one.
    fn second<'a>(&self, alone: &'a Alone) -> Option<&'a PolledProducer<Self>> {
        let build = || {
            let mut settings = alone.settings.clone();
            settings.set("batch.num.messages", "1");
            let reports = Self {
                common: Arc::clone(&self.common),
                orders: self.orders.clone(),
                generation: self.generation,
                alone: None,
            };
            match PolledProducer::build(&settings, reports) {
                Ok(producer) => Some(producer),
                Err(error) => {
                    let cause = super::settings::explain(&error);
                    error!(sink = %self.common.sink, cause, "can't build the producer for refused batches");
                    None
                }
            }
        };
        alone.producer.get_or_init(build).as_ref()
    }

    /// It will deliver nothing any more.
    fn fatal(&self) {
        // The supervisor is gone only when the sink is closed.
        let _ = self.orders.send(Order::Rebuild { generation: self.generation });
    }
}

/// Sends the record of that report once more, alone.
fn again(second: &PolledProducer<Reports>, message: &BorrowedMessage<'_>, number: usize) {
    let record = BaseRecord {
        topic: message.topic(),
        partition: None,
        payload: message.payload(),
        key: message.key(),
        timestamp: second.context().common.pending.note(number).flatten(),
        headers: message.headers().map(BorrowedHeaders::detach),
        delivery_opaque: number,
    };
    if let Err((error, _)) = second.send::<[u8], [u8]>(record) {
        second.context().refused_at_once(number, message.topic(), &error);
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        let sink = &self.common.sink;
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                // Also comes as an error below, where it isn't said each time.
                debug!(target: "librdkafka", %sink, facility, "{line}");
            }
            RDKafkaLogLevel::Warning => warn!(target: "librdkafka", %sink, facility, "{line}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => info!(target: "librdkafka", %sink, facility, "{line}"),
            RDKafkaLogLevel::Debug => debug!(target: "librdkafka", %sink, facility, "{line}"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        // Only with `statistics.interval.ms` among the options.
        debug!(target: "librdkafka", sink = %self.common.sink, "{}", String::from_utf8_lossy(statistics));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        if self.common.trouble.note(code, reason) {
            warn!(sink = %self.common.sink, code = ?code, "{}", in_plain_words(reason));
        }
        if code == RDKafkaErrorCode::Fatal {
            self.fatal();
        }
    }
}
