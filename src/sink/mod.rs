//! Sinks deliver events to Kafka, webhooks, AMQP exchanges, files and standard output.
//!
//! A sink does two things. [`render`] is pure: it computes what is sent for an event. [`Sink::attempt`] sends that once, and
//! ends the [`Attempt`] with exactly one [`Verdict`]. The verdict is `Delivered` only after the destination has confirmed the
//! delivery. A sink does not retry, keep an order or back off, and knows nothing of acknowledgements, lanes or the spool.
//!
//! The kinds of sinks are a closed enum. Each kind is a module with one type that has the same functions as [`Sink`]. To add
//! a kind, add a module and follow the compiler's errors.

mod amqp;
mod attempt;
mod encoder;
mod file;
#[cfg(test)]
mod fixtures;
mod headers;
mod in_flight;
mod kafka;
mod lines;
mod masked;
mod rendered;
mod stdout;
#[cfg(test)]
mod tests;
mod thread_pool;
mod webhook;

pub use attempt::{Attempt, AttemptEnd, AttemptId, Blame, Confirmation, Verdict};
pub use encoder::{BenchEncoder, RegisteredBody, RegistryProblem, registered_body};
pub use file::raise_limit;
pub use headers::RELAY_HEADERS;
pub use masked::{EncodedBySchema, MaskedDelivery, MaskedDestination};
pub use rendered::{Destination, RenderError, RenderedDelivery};
pub use webhook::MAX_RETRY_AFTER;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::{Masks, SinkConfig, SinkKind};
use crate::event::{
    DigestEnvelope, EventView, Extreme, Format, Reason, Schema, SchemaSource, Transform, TransformedEvent, extremes,
};
use crate::oauth::{self, TokenSource};
use crate::probe::{ProbeOutcome, ProbeResult};
use crate::tasks;

use amqp::AmqpSink;
use encoder::Encoder;
use file::FileSink;
use kafka::KafkaSink;
use stdout::StdoutSink;
use webhook::WebhookSink;

/// An open sink. Opening never waits for the destination: the first attempt shows whether it is available.
pub struct Sink {
    config: SinkConfig,
    kind: Kind,
    /// Of a sink with a schema registry.
    encoder: Option<Encoder>,
    /// Secrets of this sink, which are masked in the cause of every failed attempt.
    masks: Arc<Masks>,
    /// Its access tokens, which are masked too.
    tokens: Option<Arc<TokenSource>>,
}

enum Kind {
    Kafka(KafkaSink),
    Webhook(WebhookSink),
    Amqp(AmqpSink),
    File(FileSink),
    Stdout(StdoutSink),
    /// Delivers every attempt at once and keeps nothing. Benchmarks use it to measure the relay without a destination; they are a
    /// crate of their own, for which nothing behind `cfg(test)` exists.
    Null,
    /// Hands up to this many attempts to a test, which ends them.
    #[cfg(test)]
    Manual(usize, tokio::sync::mpsc::UnboundedSender<(RenderedDelivery, Attempt)>),
}

/// Before a sink closes, attempts that could not be sent within this time are cancelled; at once if its broker fails.
const UNSENT_GRACE: Duration = Duration::from_secs(1);

/// The cause of an attempt that was cancelled because its sink closes.
const CANCELLED: &str = "cancelled before it was sent";
/// The cause of an attempt whose delivery was rendered for another kind of sink.
const OTHER_KIND: &str = "internal error: the delivery was rendered for another kind of sink";

/// A sink that can't be opened, because a file that its configuration names is missing or can't be used.
#[derive(Debug, thiserror::Error)]
#[error("sink {sink}: {detail}")]
pub struct OpenError {
    pub sink: String,
    /// What happened, and what the reader can do.
    pub detail: String,
}

impl Sink {
    /// Opens the sink. The files that its configuration names (certificates, secrets) have to exist; its destination need not
    /// be available. `relay` is the relay's own name, by which connections are named.
    pub async fn open(config: &SinkConfig, relay: &str) -> Result<Self, OpenError> {
        let kind = match &config.kind {
            SinkKind::Kafka(kafka) => Kind::Kafka(KafkaSink::open(config, kafka, relay).await?),
            SinkKind::Webhook(webhook) => Kind::Webhook(WebhookSink::open(config, webhook, relay).await?),
            SinkKind::Amqp(amqp) => Kind::Amqp(AmqpSink::open(config, amqp, relay).await?),
            SinkKind::File(file) => Kind::File(FileSink::open(file).await?),
            SinkKind::Stdout => Kind::Stdout(StdoutSink::open(config).await?),
        };
        let problem = |detail| OpenError { sink: config.name.to_string(), detail };
        let (masks, encoder) = if matches!(config.kind, SinkKind::File(_) | SinkKind::Stdout) {
            // They have no files with secrets. A thread for each of a thousand sinks would be too many.
            (config.secret_masks(), Encoder::open(config))
        } else {
            let copy = config.clone();
            let read = tokio::task::spawn_blocking(move || (copy.secret_masks(), Encoder::open(&copy))).await;
            read.map_err(|error| problem(tasks::blocking_error("reading the secrets of the sink", &error)))?
        };
        let encoder = encoder.map_err(problem)?;
        let tokens = config.oauth2().map(oauth::source);
        Ok(Self { config: config.clone(), kind, encoder, masks: Arc::new(masks), tokens })
    }

    /// A sink that renders as configured, and delivers every attempt at once.
    pub(crate) fn null(config: &SinkConfig) -> Self {
        Self { config: config.clone(), kind: Kind::Null, encoder: None, masks: Arc::default(), tokens: None }
    }

    /// A sink whose attempts, at most `capacity` at once, are ended by the test that asked for it.
    #[cfg(test)]
    pub(crate) fn manual(
        config: &SinkConfig,
        capacity: usize,
    ) -> (Self, tokio::sync::mpsc::UnboundedReceiver<(RenderedDelivery, Attempt)>) {
        let (to, attempts) = tokio::sync::mpsc::unbounded_channel();
        (
            Self {
                config: config.clone(),
                kind: Kind::Manual(capacity, to),
                encoder: None,
                masks: Arc::default(),
                tokens: None,
            },
            attempts,
        )
    }

    pub fn render(&self, view: EventView<'_>, transform: Option<&Transform>) -> Result<RenderedDelivery, RenderError> {
        render(&self.config, view, transform)
    }

    /// [`render_digest`] for this sink.
    pub fn render_digest(
        &self,
        events: &[(EventView<'_>, Option<&Transform>)],
    ) -> Result<RenderedDelivery, RenderError> {
        render_digest(&self.config, events)
    }

    /// How many attempts may be in flight at once.
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
    pub fn attempt(&self, outgoing: RenderedDelivery, attempt: Attempt) {
        let attempt = attempt.with_masks(&self.masks).with_tokens(self.tokens.as_ref());
        match &self.kind {
            Kind::Kafka(sink) => match &self.encoder {
                Some(encoder) => {
                    let producer = sink.producer();
                    encoder.encode(outgoing, attempt, move |encoded, attempt| producer.attempt(encoded, attempt));
                }
                None => sink.attempt(&outgoing, attempt),
            },
            Kind::Webhook(sink) => sink.attempt(outgoing, attempt),
            Kind::Amqp(sink) => sink.attempt(outgoing, attempt),
            Kind::File(sink) => sink.attempt(outgoing, attempt),
            Kind::Stdout(sink) => sink.attempt(outgoing, attempt),
            Kind::Null => attempt.end(Verdict::Delivered(Confirmation::Stdout)),
            #[cfg(test)]
            Kind::Manual(_, to) => drop(to.send((outgoing, attempt))),
        }
    }

    /// Whether a schema that is not the relay's own encodes the bodies: some may not fit it.
    #[must_use]
    pub fn encodes_by_other_schema(&self) -> bool {
        self.config.format.schema_source().is_some_and(|source| *source != SchemaSource::Event)
    }

    /// To be called at a reload that keeps the sink: what a schema registry said is asked for again.
    pub fn refresh(&self) {
        if let Some(encoder) = &self.encoder {
            encoder.refresh();
        }
    }

    /// Called before the sink closes: attempts in flight that are not yet sent may end now. Those that are sent continue.
    pub fn cancel_unsent(&self) {
        if let Some(encoder) = &self.encoder {
            encoder.cancel();
        }
        match &self.kind {
            Kind::Kafka(sink) => sink.cancel_unsent(),
            Kind::Amqp(sink) => sink.cancel_unsent(),
            // A webhook sends its request at once; files and standard output send nothing.
            _ => {}
        }
    }

    /// Waits at most `grace` for the attempts in flight, and closes. Attempts that have not ended by then are abandoned.
    pub async fn close(self, grace: Duration) {
        if let Some(encoder) = self.encoder {
            encoder.close().await;
        }
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

/// Computes what is sent for an event, after its route's transform. Pure: the same arguments give the same result.
pub fn render(
    config: &SinkConfig,
    view: EventView<'_>,
    transform: Option<&Transform>,
) -> Result<RenderedDelivery, RenderError> {
    if config.group.is_some() {
        return render_digest(config, &[(view, transform)]);
    }
    let transformed = transform.map(|transform| transform.apply(view)).transpose()?;
    render_view(config, EventView { transformed: transformed.as_ref(), ..view })
}

/// Computes what is sent for the digest of these events, each after the transform of its route. Pure, as [`render`].
pub fn render_digest(
    config: &SinkConfig,
    events: &[(EventView<'_>, Option<&Transform>)],
) -> Result<RenderedDelivery, RenderError> {
    let transformed: Vec<Option<TransformedEvent>> = events
        .iter()
        .map(|(view, transform)| transform.map(|transform| transform.apply(*view)).transpose())
        .collect::<Result<_, _>>()?;
    let views = events.iter().zip(&transformed);
    let views: Vec<_> =
        views.map(|((view, _), transformed)| EventView { transformed: transformed.as_ref(), ..*view }).collect();
    let by: Vec<&str> = config.group.iter().flat_map(|group| &group.by).map(|field| field.as_str()).collect();
    let envelope = DigestEnvelope::of(&views, &by).ok_or_else(|| RenderError {
        reason: Reason::RenderFailed,
        detail: "a digest without events".to_owned(),
        is_misfit: false,
    })?;
    render_view(config, envelope.view(&views))
}

/// What the sink's schema encodes, as JSON, which is shown in place of the encoded body. None: the sink's format has no schema.
#[must_use]
pub fn value(config: &SinkConfig, events: &[(EventView<'_>, Option<&Transform>)]) -> Option<Bytes> {
    let Format::Schema(schema) = &config.format else { return None };
    let config = SinkConfig { format: schema.json.clone(), ..config.clone() };
    let rendered = match events {
        [(view, transform)] => render(&config, *view, *transform),
        _ => render_digest(&config, events),
    };
    rendered.ok().map(|rendered| rendered.body)
}

fn render_view(config: &SinkConfig, view: EventView<'_>) -> Result<RenderedDelivery, RenderError> {
    match &config.kind {
        SinkKind::Kafka(kafka) => kafka::render(config, kafka, view),
        SinkKind::Webhook(webhook) => webhook::render(config, webhook, view),
        SinkKind::Amqp(amqp) => amqp::render(config, amqp, view),
        SinkKind::File(file) => file::render(config, file, view),
        SinkKind::Stdout => stdout::render(config, view),
    }
}

/// Tests whether events can be delivered, without sending any. `relay` is the relay's own name, by which connections are
/// named; `transforms` are those of the routes to the sink.
pub async fn probe(config: &SinkConfig, relay: &str, transforms: &[Option<&Transform>]) -> ProbeResult {
    let mut schema = match config.format.schema_source() {
        Some(SchemaSource::File { schema, .. }) => Some(schema.clone()),
        Some(SchemaSource::Event | SchemaSource::Latest { .. }) | None => None,
    };
    let outcome = match &config.kind {
        SinkKind::Kafka(kafka) => {
            let (brokers, registry) = tokio::join!(kafka::probe(kafka, relay), encoder::probe(config));
            let (brokers, registry) = (brokers?, registry.transpose()?);
            schema = registry.as_ref().and_then(|registry| registry.schema.clone()).or(schema);
            match registry {
                Some(registry) => brokers.and(&registry.found),
                None => brokers,
            }
        }
        SinkKind::Webhook(webhook) => webhook::probe(webhook).await?,
        SinkKind::Amqp(amqp) => amqp::probe(config, amqp, relay).await?,
        SinkKind::File(file) => file::probe(file).await?,
        SinkKind::Stdout => ProbeOutcome::Reachable("standard output is always available".to_owned()),
    };
    let misfits = schema.map_or_else(Vec::new, |schema| misfits(config, &schema, transforms));
    if misfits.is_empty() {
        return Ok(outcome);
    }
    Ok(ProbeOutcome::Warning(outcome.and(&misfits.join("; ")).into_text()))
}

/// Where the extremes of an event don't fit the schema of the sink, in words.
fn misfits(config: &SinkConfig, schema: &Schema, transforms: &[Option<&Transform>]) -> Vec<String> {
    let misfit = |extreme: &Extreme, transform: Option<&Transform>| match render(
        config,
        EventView::of(&extreme.event, &extreme.message),
        transform,
    ) {
        Ok(rendered) if config.format.wants_latest_schema() => {
            schema.encode_json(&rendered.body, &mut Vec::new()).err().map(|misfit| format!("body: {misfit}"))
        }
        Err(RenderError { detail, is_misfit: true, .. }) => Some(detail),
        Ok(_) | Err(_) => None,
    };
    let mut found: Vec<String> = Vec::new();
    for extreme in &extremes() {
        for transform in transforms {
            let problem = misfit(extreme, *transform);
            let problem = problem.map(|problem| format!("{} doesn't fit the schema: {problem}", extreme.what));
            found.extend(problem.filter(|problem| !found.contains(problem)));
        }
    }
    found
}

/// The verdict of an attempt that was not sent before the sink had to close.
fn cancelled() -> Verdict {
    Verdict::Retry { after: None, cause: CANCELLED.to_owned(), blame: Blame::Relay }
}

/// Ends an attempt whose delivery was rendered for another kind of sink. Only a bug in the relay can cause this.
fn reject_other_kind(attempt: Attempt) {
    attempt.end(Verdict::Retry { after: None, cause: OTHER_KIND.to_owned(), blame: Blame::Relay });
}
