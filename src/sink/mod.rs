//! Where events go: Kafka, webhooks, AMQP exchanges, files, standard output.
//!
//! A sink does two things. [`render`] is pure: it says what exactly would go out for an event. [`Sink::attempt`] sends
//! that, once, and lets the [`Attempt`] end in exactly one [`Verdict`]: when the destination has it, and not before. Retries,
//! order and back-off are not its business; it knows nothing of acknowledgements, lanes or the spool.
//!
//! The kinds are a closed enum. Each is a module with one type that has the same five functions as [`Sink`]; a new kind is
//! a new module, and the compiler shows the rest.

mod amqp;
mod attempt;
mod file;
#[cfg(test)]
mod fixtures;
mod headers;
#[cfg(test)]
mod inserted_tests;
mod kafka;
mod lines;
mod outgoing;
mod pending;
mod pool;
mod shown;
mod stdout;
mod webhook;

pub use attempt::{Attempt, AttemptEnd, AttemptId, Blame, Verdict};
pub use file::raise_limit;
pub use outgoing::{Destination, Outgoing, Unrenderable};
pub use shown::{Shown, ShownDestination};
pub use webhook::MAX_RETRY_AFTER;

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Masks, SinkConfig, SinkKind};
use crate::event::{Scope, Transform};
use crate::probe::{ProbeOutcome, ProbeResult};

use amqp::AmqpSink;
use file::FileSink;
use kafka::KafkaSink;
use stdout::StdoutSink;
use webhook::WebhookSink;

/// A sink that is open. Opening never waits for the destination: what is down is found out by attempts.
pub struct Sink {
    config: SinkConfig,
    kind: Kind,
    /// What no cause of a failure may tell.
    masks: Arc<Masks>,
}

/// The kinds of sinks that are open.
enum Kind {
    Kafka(KafkaSink),
    Webhook(WebhookSink),
    Amqp(AmqpSink),
    File(FileSink),
    Stdout(StdoutSink),
    /// Has at once what it is given, and keeps nothing: for benchmarks.
    Null,
    /// Hands its attempts to a test, which ends them; so many at once.
    #[cfg(test)]
    Manual(usize, tokio::sync::mpsc::UnboundedSender<(Outgoing, Attempt)>),
}

/// What couldn't be sent within this is taken back when the sink is to end, or at once where its broker is in trouble.
const UNSENT_GRACE: Duration = Duration::from_secs(1);

/// A sink that can't be opened: its configuration names something that isn't there.
#[derive(Debug, thiserror::Error)]
#[error("sink {sink}: {detail}")]
pub struct OpenError {
    /// Which.
    pub sink: String,
    /// What happened and what to do.
    pub detail: String,
}

impl Sink {
    /// Opens the sink. Files it names (certificates, secrets) have to be there; its destination doesn't. `relay` is the
    /// relay's own name, for connections.
    pub async fn open(config: &SinkConfig, relay: &str) -> Result<Self, OpenError> {
        let kind = match &config.kind {
            SinkKind::Kafka(kafka) => Kind::Kafka(KafkaSink::open(config, kafka, relay).await?),
            SinkKind::Webhook(webhook) => Kind::Webhook(WebhookSink::open(config, webhook, relay).await?),
            SinkKind::Amqp(amqp) => Kind::Amqp(AmqpSink::open(config, amqp, relay).await?),
            SinkKind::File(file) => Kind::File(FileSink::open(file).await?),
            SinkKind::Stdout => Kind::Stdout(StdoutSink::open(config).await?),
        };
        let secret = config.clone();
        let masks = tokio::task::spawn_blocking(move || secret.cause_masks()).await;
        let masks = masks.map_err(|error| OpenError { sink: config.name.to_string(), detail: error.to_string() })?;
        Ok(Self { config: config.clone(), kind, masks: Arc::new(masks) })
    }

    /// One that renders as configured, and whose attempts all end delivered at once.
    pub(crate) fn null(config: &SinkConfig) -> Self {
        Self { config: config.clone(), kind: Kind::Null, masks: Arc::default() }
    }

    /// One whose attempts, so many at once, the test ends that asked for it.
    #[cfg(test)]
    pub(crate) fn manual(
        config: &SinkConfig,
        capacity: usize,
    ) -> (Self, tokio::sync::mpsc::UnboundedReceiver<(Outgoing, Attempt)>) {
        let (to, attempts) = tokio::sync::mpsc::unbounded_channel();
        (Self { config: config.clone(), kind: Kind::Manual(capacity, to), masks: Arc::default() }, attempts)
    }

    /// What exactly goes out for that event.
    pub fn render(&self, scope: Scope<'_>, transform: Option<&Transform>) -> Result<Outgoing, Unrenderable> {
        render(&self.config, scope, transform)
    }

    /// How many attempts may be under way at once.
    #[must_use]
    pub fn capacity(&self) -> usize {
        match &self.kind {
            Kind::Kafka(sink) => sink.capacity(),
            Kind::Webhook(sink) => sink.capacity(),
            Kind::Amqp(sink) => sink.capacity(),
            Kind::File(sink) => sink.capacity(),
            Kind::Stdout(sink) => sink.capacity(),
            Kind::Null => usize::MAX,
            #[cfg(test)]
            Kind::Manual(capacity, _) => *capacity,
        }
    }

    /// Sends `outgoing` once. Returns at once; the attempt ends when the destination has answered.
    pub fn attempt(&self, outgoing: Outgoing, attempt: Attempt) {
        let attempt = attempt.masking(&self.masks);
        match &self.kind {
            Kind::Kafka(sink) => sink.attempt(&outgoing, attempt),
            Kind::Webhook(sink) => sink.attempt(outgoing, attempt),
            Kind::Amqp(sink) => sink.attempt(outgoing, attempt),
            Kind::File(sink) => sink.attempt(outgoing, attempt),
            Kind::Stdout(sink) => sink.attempt(outgoing, attempt),
            Kind::Null => attempt.end(Verdict::Delivered),
            #[cfg(test)]
            Kind::Manual(_, to) => drop(to.send((outgoing, attempt))),
        }
    }

    /// The sink is to end soon: attempts that are under way but not yet sent may end now, unsent. Others keep what they have.
    pub fn take_back_unsent(&self) {
        match &self.kind {
            Kind::Kafka(sink) => sink.take_back_unsent(),
            Kind::Amqp(sink) => sink.take_back_unsent(),
            // A request is on its way at once; files and standard output know none.
            _ => {}
        }
    }

    /// Lets what is under way end, at most for `grace`, and closes. What has not ended by then is dropped unfinished.
    pub async fn close(self, grace: Duration) {
        match self.kind {
            Kind::Kafka(sink) => sink.close(grace).await,
            Kind::Webhook(sink) => sink.close(grace).await,
            Kind::Amqp(sink) => sink.close(grace).await,
            Kind::File(sink) => sink.close(grace).await,
            Kind::Stdout(sink) => sink.close(grace).await,
            Kind::Null => {}
            #[cfg(test)]
            Kind::Manual(..) => {}
        }
    }
}

/// What exactly goes out for that event, changed as its route says. Pure: the same always gives the same.
pub fn render(config: &SinkConfig, scope: Scope<'_>, transform: Option<&Transform>) -> Result<Outgoing, Unrenderable> {
    let transformed = transform.map(|transform| transform.apply(scope)).transpose()?;
    let scope = Scope { transformed: transformed.as_ref(), ..scope };
    match &config.kind {
        SinkKind::Kafka(kafka) => kafka::render(config, kafka, scope),
        SinkKind::Webhook(webhook) => webhook::render(config, webhook, scope),
        SinkKind::Amqp(amqp) => amqp::render(config, amqp, scope),
        SinkKind::File(file) => file::render(config, file, scope),
        SinkKind::Stdout => stdout::render(config, scope),
    }
}

/// Whether events could be delivered, with nothing sent. `relay` is the relay's own name, for connections.
pub async fn probe(config: &SinkConfig, relay: &str) -> ProbeResult {
    match &config.kind {
        SinkKind::Kafka(kafka) => kafka::probe(kafka, relay).await,
        SinkKind::Webhook(webhook) => webhook::probe(webhook).await,
        SinkKind::Amqp(amqp) => amqp::probe(config, amqp, relay).await,
        SinkKind::File(file) => file::probe(file).await,
        SinkKind::Stdout => Ok(ProbeOutcome::Reachable("it is always there".to_owned())),
    }
}

/// Of an attempt that was not sent when the sink had to end.
fn taken_back() -> Verdict {
    Verdict::Retry { after: None, cause: "taken back before it was sent".to_owned(), blame: Blame::Relay }
}

/// Ends an attempt to send what another kind of sink rendered. No way leads here but a mistake of ours.
fn misdirected(attempt: Attempt) {
    attempt.end(Verdict::Retry {
        after: None,
        cause: "it was rendered for another kind of sink".to_owned(),
        blame: Blame::Relay,
    });
}
