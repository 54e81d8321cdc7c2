//! A producer: each record is sent with the number of its attempt, and its delivery report ends the attempt with that number.
//!
//! It consists of two of librdkafka's producers. If one record of a batch is too large for the topic or invalid, the broker
//! refuses the whole batch, and librdkafka reports the error for every record in it. So the records of a refused batch are sent
//! once more by a second producer, which makes batches of one record. A record that is refused there is refused for good. The
//! second producer is built when it is first needed.

use std::borrow::Cow;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use regards_relay_native::kerberos::RegisteredLogin;
use tracing::{debug, error, info, warn};

use super::error_class::{ErrorClass, classify};
use super::last_error::LastError;
use super::reasons::explain_reason;
use super::settings::ProducerSettings;
use super::supervisor::ProducerCommand;
use super::threaded::ThreadedProducer;
use super::token_login::{SinkTokens, TokenLogin};
use crate::rules::SinkName;
use crate::sink::in_flight::InFlightAttempts;
use crate::sink::{Confirmation, Verdict};

/// How long a record waits for its next attempt if librdkafka's queue is full.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(100);
/// librdkafka warns of the user name by which the connections find their Kerberos login: it does not expect one.
const USER_NAME_UNUSED: &str = "`sasl.username` only applies when";
/// How long a purge may take. Each of librdkafka's broker threads answers it between two steps, which take milliseconds.
pub(super) const PURGE_TIMEOUT: Duration = Duration::from_secs(5);

/// The state of a sink that outlives its producer, which may be rebuilt.
#[derive(Debug)]
pub(super) struct SinkState {
    pub(super) sink: SinkName,
    /// Each with the timestamp of its record, which the report of a failure doesn't have.
    pub(super) in_flight: InFlightAttempts<Option<i64>>,
    pub(super) last_error: LastError,
    /// The access tokens of the login, if it takes any.
    pub(super) tokens: Option<SinkTokens>,
}

/// The first of the two producers; the second one is in its [`ReportHandler`].
pub(super) struct Producer {
    first: ThreadedProducer<ReportHandler>,
    /// Forgotten only after the producers are gone.
    _kerberos: Option<RegisteredLogin>,
}

impl Producer {
    /// Starts threads and reads PEM files, but does not wait for a broker.
    pub(super) fn build(
        settings: ProducerSettings,
        state: &Arc<SinkState>,
        commands: &Sender<ProducerCommand>,
        generation: u64,
    ) -> Result<Self, KafkaError> {
        let reports = ReportHandler {
            state: Arc::clone(state),
            commands: commands.clone(),
            generation,
            login: state.tokens.as_ref().map(TokenLogin::new),
            single: Some(SingleRecordProducer { settings: settings.client.clone(), producer: OnceLock::new() }),
        };
        let first = ThreadedProducer::build(&settings.client, reports, ReportHandler::give_token)?;
        Ok(Self { first, _kerberos: settings.kerberos })
    }

    /// Queues the record in librdkafka. Its attempt ends with the delivery report, or now if librdkafka refuses the record.
    pub(super) fn send(&self, record: BaseRecord<'_, str, [u8], usize>) {
        let number = record.delivery_opaque;
        if let Err((error, record)) = self.first.send(record) {
            self.first.context().on_enqueue_error(number, record.topic, &error);
        }
    }

    /// Waits at most `grace` for the reports of all queued records. Returns whether all have come.
    pub(super) fn flush(&self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        let mut is_answered = true;
        // In this order, as the first producer may pass records to the second.
        for producer in self.producers() {
            if let Err(error) = producer.flush(deadline.saturating_duration_since(Instant::now())) {
                debug!(sink = %self.first.context().state.sink, %error, "not all records were reported in time");
                is_answered = false;
            }
        }
        is_answered
    }

    /// Cancels the records that are not sent yet, without waiting. Those that are sent stay in flight.
    pub(super) fn cancel_unsent(&self) {
        for producer in self.producers() {
            producer.purge(PurgeConfig::default().queue().non_blocking());
        }
    }

    /// Cancels all records and closes the connections. After this has returned no more reports come. May block for as long as
    /// one of librdkafka's broker threads does.
    pub(super) fn retire(self) {
        for producer in self.producers() {
            producer.purge(PurgeConfig::default().queue().inflight());
        }
        self.flush(PURGE_TIMEOUT);
        // Dropping joins all threads of librdkafka: after that nothing is sent any more.
        drop(self.first);
    }

    fn producers(&self) -> impl Iterator<Item = &ThreadedProducer<ReportHandler>> {
        std::iter::once(&self.first)
            .chain(self.first.context().single.as_ref().and_then(|single| single.producer.get()?.as_ref()))
    }
}

/// Handles delivery reports, errors and log lines of librdkafka, on the thread of the producer.
pub(super) struct ReportHandler {
    state: Arc<SinkState>,
    commands: Sender<ProducerCommand>,
    generation: u64,
    login: Option<TokenLogin>,
    /// `None` in the second producer.
    single: Option<SingleRecordProducer>,
}

/// The second producer, which makes batches of one record. It is built when it is first needed; `None` if that failed.
struct SingleRecordProducer {
    settings: ClientConfig,
    producer: OnceLock<Option<ThreadedProducer<ReportHandler>>>,
}

impl ProducerContext for ReportHandler {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(record) => {
                self.state.last_error.clear();
                let confirmation = Confirmation::Kafka {
                    topic: record.topic().to_owned(),
                    partition: record.partition(),
                    offset: record.offset(),
                };
                self.state.in_flight.end(number, Verdict::Delivered(confirmation));
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                match self.single.as_ref().and_then(|single| self.single_record_producer(single)) {
                    Some(producer) if classify(code) == ErrorClass::Refused => resend(producer, message, number),
                    _ => self.state.in_flight.end(number, self.verdict(code, message.topic())),
                }
            }
        }
    }
}

impl ReportHandler {
    /// Ends the attempt of a record that librdkafka did not accept into its queue.
    fn on_enqueue_error(&self, number: usize, topic: &str, error: &KafkaError) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        if code == RDKafkaErrorCode::Fatal {
            self.request_rebuild();
        }
        self.state.in_flight.end(number, self.verdict(code, topic));
    }

    fn verdict(&self, code: RDKafkaErrorCode, topic: &str) -> Verdict {
        let cause = self.state.last_error.cause(code, topic);
        match classify(code) {
            ErrorClass::Refused => Verdict::Refused { cause },
            ErrorClass::Retry(blame) => {
                let after = (code == RDKafkaErrorCode::QueueFull).then_some(QUEUE_FULL_PAUSE);
                Verdict::Retry { after, cause, blame }
            }
        }
    }

    /// Builds the second producer if it doesn't exist yet.
    fn single_record_producer<'a>(&self, single: &'a SingleRecordProducer) -> Option<&'a ThreadedProducer<Self>> {
        let build = || {
            let mut settings = single.settings.clone();
            settings.set("batch.num.messages", "1");
            let reports = Self {
                state: Arc::clone(&self.state),
                commands: self.commands.clone(),
                generation: self.generation,
                login: self.state.tokens.as_ref().map(TokenLogin::new),
                single: None,
            };
            match ThreadedProducer::build(&settings, reports, Self::give_token) {
                Ok(producer) => Some(producer),
                Err(error) => {
                    let error = super::settings::explain_config_error(&error);
                    error!(sink = %self.state.sink, error, "can't build the second Kafka producer; all records of a refused batch become dead letters");
                    None
                }
            }
        };
        single.producer.get_or_init(build).as_ref()
    }

    /// Gives librdkafka the current access token, if the login takes any. Called each time before the producer is polled.
    fn give_token(producer: &BaseProducer<Self>) {
        let handler = producer.context();
        if let Some(login) = &handler.login
            && let Err(error) = login.give(producer.client())
        {
            handler.report(RDKafkaErrorCode::Authentication, &error);
        }
    }

    fn report(&self, code: RDKafkaErrorCode, reason: &str) {
        if self.state.last_error.record(code, reason) {
            let error = explain_reason(reason);
            warn!(sink = %self.state.sink, %error, "the Kafka producer reports an error; deliveries are retried");
        }
    }

    /// A text of librdkafka without access tokens, which a broker may repeat.
    fn masked<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.login.as_ref().map_or(Cow::Borrowed(text), |login| Cow::Owned(login.mask(text)))
    }

    /// Called after a fatal error: the producer delivers nothing any more.
    fn request_rebuild(&self) {
        // The supervisor is gone only when the sink is closed.
        let _ = self.commands.send(ProducerCommand::Rebuild { generation: self.generation });
    }
}

/// Sends the record of a report once more, in a batch of its own.
fn resend(producer: &ThreadedProducer<ReportHandler>, message: &BorrowedMessage<'_>, number: usize) {
    let record = BaseRecord {
        topic: message.topic(),
        partition: None,
        payload: message.payload(),
        key: message.key(),
        timestamp: producer.context().state.in_flight.note(number).flatten(),
        headers: message.headers().map(BorrowedHeaders::detach),
        delivery_opaque: number,
    };
    if let Err((error, _)) = producer.send::<[u8], [u8]>(record) {
        producer.context().on_enqueue_error(number, message.topic(), &error);
    }
}

impl ClientContext for ReportHandler {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        let sink = &self.state.sink;
        let line = &*self.masked(line);
        if line.contains(USER_NAME_UNUSED) {
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                // The error is also passed to `error` below, which doesn't log it each time.
                debug!(target: "librdkafka", %sink, "{facility}: {line}");
            }
            RDKafkaLogLevel::Warning => {
                warn!(target: "librdkafka", %sink, error = line, "warning from librdkafka ({facility})");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                info!(target: "librdkafka", %sink, "notice from librdkafka ({facility}): {line}");
            }
            RDKafkaLogLevel::Debug => debug!(target: "librdkafka", %sink, "{facility}: {line}"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        // Only with `statistics.interval.ms` among the options.
        debug!(target: "librdkafka", sink = %self.state.sink, "{}", String::from_utf8_lossy(statistics));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        if let Some(login) = &self.login {
            login.on_error(code);
        }
        self.report(code, &self.masked(reason));
        if code == RDKafkaErrorCode::Fatal {
            self.request_rebuild();
        }
    }
}
