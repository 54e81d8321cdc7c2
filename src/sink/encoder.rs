//! The stage between rendering and sending that a sink with a schema registry has: it encodes each body by the latest schema, if the
//! sink wants that one, and puts the registry's prefix before it.
//!
//! If the schema under the delivery's subject is known, the delivery goes on at once. Else it waits for the registry, and the others go
//! on. Trouble with the registry is blamed on the delivery, as it says nothing about the sink. A task asks again for what is known: for
//! the latest schemas every five minutes, for everything at a reload.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use super::{Attempt, Blame, Destination, RenderedDelivery, Verdict, cancelled, reject_other_kind};
use crate::config::{Masks, SinkConfig};
use crate::event::{Format, Misfit, Schema, SchemaFormat, SchemaSource};
use crate::registry::{Refreshed, RegisteredSchema, Registry, RegistryError, Wanted};
use crate::rules::SinkName;
use crate::tasks::{self, TaskKind};
use crate::telemetry::printable;
use crate::timer::scaled;

/// The first byte of Confluent's wire format.
const MAGIC: u8 = 0;
/// How often the latest schemas are read again.
const REFRESH: Duration = Duration::from_mins(5);
/// After so many subjects in a row that can't be asked for, the others are left for the next time.
const MAX_FAILURES: u32 = 3;

pub(super) struct Encoder {
    stage: Arc<Stage>,
    /// Wakes the task that asks again.
    refresh: Arc<Notify>,
    /// Cancelled when the sink closes: the deliveries that wait for the registry are not sent then.
    stop: CancellationToken,
    /// Every task of this sink here has a clone of this sender, and nothing is ever sent: the channel closes when none is left.
    running: Sender<Infallible>,
    none_runs: Receiver<Infallible>,
}

struct Stage {
    sink: SinkName,
    registry: Registry,
    /// Bodies are JSON that the latest schema encodes.
    wants_latest: bool,
    /// The subject, if it is the same for every event.
    subject: Option<String>,
    /// For the log: a registry may repeat what it was sent.
    masks: Masks,
}

impl Encoder {
    /// None: the sink has no registry. Reads certificates, which blocks. The error says what to do.
    pub(super) fn open(config: &SinkConfig) -> Result<Option<Self>, String> {
        let Some(registry) = registry(config)? else { return Ok(None) };
        let (running, none_runs) = channel(1);
        let stage = Arc::new(Stage {
            sink: config.name.clone(),
            registry,
            wants_latest: config.format.wants_latest_schema(),
            subject: config.fixed_subject(),
            masks: config.secret_masks(),
        });
        let encoder = Self { stage, refresh: Arc::default(), stop: CancellationToken::new(), running, none_runs };
        let (stage, wake) = (Arc::clone(&encoder.stage), Arc::clone(&encoder.refresh));
        let (stop, running) = (encoder.stop.clone(), encoder.running.clone());
        tasks::spawn(TaskKind::RegistryRefresh, async move {
            stop.run_until_cancelled(stage.keep_fresh(&wake)).await;
            drop(running);
        });
        Ok(Some(encoder))
    }

    /// Encodes the delivery and sends it by `send`: at once if the schema is known, else when the registry has answered.
    pub(super) fn encode(
        &self,
        outgoing: RenderedDelivery,
        attempt: Attempt,
        send: impl FnOnce(&RenderedDelivery, Attempt) + Send + 'static,
    ) {
        let Destination::Kafka { subject: Some(subject), .. } = &outgoing.destination else {
            return reject_other_kind(attempt);
        };
        if let Some(known) = self.stage.registry.known(subject) {
            return self.stage.finish(&known, outgoing, attempt, send);
        }
        let (stage, stop, running) = (Arc::clone(&self.stage), self.stop.clone(), self.running.clone());
        let subject = subject.clone();
        tasks::spawn(TaskKind::RegistryRequest, async move {
            match stop.run_until_cancelled(stage.registry.resolve(&subject)).await {
                Some(Ok(found)) => stage.finish(&found, outgoing, attempt, send),
                Some(Err(error)) => {
                    let cause = format!("sink {}: {error}", stage.sink);
                    attempt.end(Verdict::Retry { after: None, cause, blame: Blame::Delivery });
                }
                None => attempt.end(cancelled()),
            }
            drop(running);
        });
    }

    /// To be called at a reload: the registry is asked again for what is known.
    pub(super) fn refresh(&self) {
        self.refresh.notify_one();
    }

    /// The deliveries that wait for the registry end now.
    pub(super) fn cancel(&self) {
        self.stop.cancel();
    }

    /// Cancels the deliveries that wait, and waits for the end of the tasks.
    pub(super) async fn close(self) {
        let Self { stop, running, mut none_runs, .. } = self;
        stop.cancel();
        drop(running);
        none_runs.recv().await;
    }
}

impl Stage {
    fn finish(
        &self,
        found: &RegisteredSchema,
        mut outgoing: RenderedDelivery,
        attempt: Attempt,
        send: impl FnOnce(&RenderedDelivery, Attempt),
    ) {
        match body(self.wants_latest, found, &outgoing.body) {
            Ok(body) => {
                outgoing.body = body;
                send(&outgoing, attempt);
            }
            Err(misfit) => attempt.end(Verdict::Unfit { detail: format!("body: {misfit}") }),
        }
    }

    /// Reads the latest schema of the sink's subject, and asks again for what is known: never ends.
    async fn keep_fresh(&self, wake: &Notify) {
        loop {
            if let Some(subject) = self.subject.as_ref().filter(|_| self.wants_latest)
                && let Err(error) = self.registry.resolve(subject).await
            {
                tracing::warn!(
                    sink = %self.sink, error = self.masked(&error),
                    "can't read the latest schema; the deliveries for its subject wait, and the relay tries again with each attempt"
                );
            }
            let next = async {
                if self.wants_latest {
                    tokio::time::sleep(scaled(REFRESH)).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = wake.notified() => {}
                () = next => {}
            }
            self.refresh_all().await;
        }
    }

    fn masked(&self, error: &RegistryError) -> String {
        self.masks.apply(&error.to_string())
    }

    async fn refresh_all(&self) {
        let mut failures = 0;
        for subject in self.registry.subjects() {
            let refreshed = self.registry.refresh(&subject).await;
            failures = if matches!(refreshed, Refreshed::Failed(_)) { failures + 1 } else { 0 };
            self.log(&subject, refreshed);
            if failures >= MAX_FAILURES {
                return;
            }
        }
    }

    fn log(&self, subject: &str, refreshed: Refreshed) {
        let (sink, subject) = (&self.sink, printable(subject));
        match refreshed {
            Refreshed::Unchanged => {}
            Refreshed::Changed(id) => tracing::info!(
                %sink,
                "the registry has another schema under the subject {subject}, id {id}; further deliveries are encoded by it"
            ),
            Refreshed::Gone(error) => tracing::warn!(
                %sink, error = self.masked(&error),
                "the registry has no schema for deliveries any more that it had before; they wait, and the relay asks again"
            ),
            Refreshed::Failed(error) => tracing::warn!(
                %sink, error = self.masked(&error),
                "can't ask the registry again; deliveries go on by the schema that is known, and the relay asks again later"
            ),
        }
    }
}

/// For the benchmark: what an [`Encoder`] does with a delivery whose schema it knows, up to sending it.
pub struct BenchEncoder {
    registry: Registry,
    wants_latest: bool,
}

impl BenchEncoder {
    /// The sink has a registry, which is never asked: the schema under this subject has this id. The error says what to do.
    pub fn open(config: &SinkConfig, subject: &str, found: RegisteredSchema) -> Result<Option<Self>, String> {
        let Some(registry) = registry(config)? else { return Ok(None) };
        registry.remember(subject, found);
        Ok(Some(Self { registry, wants_latest: config.format.wants_latest_schema() }))
    }

    /// None: the schema is not known.
    #[must_use]
    pub fn encode(&self, outgoing: &RenderedDelivery) -> Option<Result<Bytes, Misfit>> {
        let Destination::Kafka { subject: Some(subject), .. } = &outgoing.destination else { return None };
        let known = self.registry.known(subject)?;
        Some(body(self.wants_latest, &known, &outgoing.body))
    }
}

/// The registry of the sink, if it has one. Blocks.
fn registry(config: &SinkConfig) -> Result<Option<Registry>, String> {
    let (Some(settings), Format::Schema(format)) = (config.registry(), &config.format) else { return Ok(None) };
    let SchemaFormat { kind, source, .. } = &**format;
    let wanted = match source {
        SchemaSource::Event => Wanted::Exactly {
            schema: Schema::of_event(*kind),
            origin: format!("what `regards-relay schema {}` prints", kind.as_str()),
        },
        SchemaSource::File { path, schema } => {
            Wanted::Exactly { schema: schema.clone(), origin: format!("the schema in {path}") }
        }
        SchemaSource::Latest { message } => Wanted::Latest { kind: *kind, message: message.clone() },
    };
    Registry::open(settings, wanted).map(Some)
}

/// The body in Confluent's wire format: a zero byte, the id, for Protobuf the index path of the message, and the encoded value.
/// `is_json`: the value is JSON that the schema encodes.
fn body(is_json: bool, RegisteredSchema { id, schema }: &RegisteredSchema, value: &Bytes) -> Result<Bytes, Misfit> {
    let indexes = schema.message_indexes();
    let mut body = Vec::with_capacity(5 + indexes.len() + value.len());
    body.put_u8(MAGIC);
    body.put_u32(*id);
    body.put_slice(indexes);
    if is_json {
        schema.encode_json(value, &mut body)?;
    } else {
        body.put_slice(value);
    }
    Ok(body.into())
}

/// What the registry of a sink says to `check --connect`.
pub(super) struct Probed {
    pub(super) found: String,
    /// What the sink encodes by, if the registry has it.
    pub(super) schema: Option<Schema>,
}

/// For `check --connect`: what the registry says, without registering anything. None: the sink has no registry.
pub(super) async fn probe(config: &SinkConfig) -> Option<Result<Probed, String>> {
    let register = config.registry()?.register;
    let (registry, masks) = match open(config).await {
        Ok(opened) => opened?,
        Err(problem) => return Some(Err(problem)),
    };
    let probed = probe_registry(config, &registry, register).await;
    Some(probed.map_err(|problem| masks.apply(&problem)))
}

async fn probe_registry(config: &SinkConfig, registry: &Registry, register: bool) -> Result<Probed, String> {
    let Some(subject) = config.fixed_subject() else {
        registry.ping().await.map_err(|error| error.to_string())?;
        let found = "the registry answers; not tested: the subjects, whose names depend on the event".to_owned();
        return Ok(Probed { found, schema: None });
    };
    let what = if config.format.wants_latest_schema() { "a schema" } else { "the schema" };
    match registry.find(&subject).await {
        Ok(Some(RegisteredSchema { id, schema })) => {
            let found = format!("the registry has {what} under the subject {subject} (id {id})");
            Ok(Probed { found, schema: Some(schema) })
        }
        Ok(None) if register => {
            let found =
                format!("the registry answers; the first delivery registers the schema under the subject {subject}");
            Ok(Probed { found, schema: None })
        }
        Ok(None) => Err(format!("{}; until then deliveries wait", registry.missing(&subject))),
        Err(error) => Err(error.to_string()),
    }
}

/// The registry of the sink with the masks for its answers. None: the sink has none.
async fn open(config: &SinkConfig) -> Result<Option<(Registry, Masks)>, String> {
    let config = config.clone();
    let opened = tokio::task::spawn_blocking(move || {
        registry(&config).map(|opened| opened.map(|registry| (registry, config.secret_masks())))
    });
    opened.await.map_err(|error| tasks::blocking_error("reading the certificates of the registry", &error))?
}

/// The body of a delivery with the registry's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredBody {
    pub id: u32,
    pub body: Bytes,
}

/// Asks the sink's registry for the schema of a delivery, without registering anything. None: the sink has no registry. The error says
/// what to do, or where the value doesn't fit.
pub async fn registered_body(
    config: &SinkConfig,
    outgoing: &RenderedDelivery,
) -> Option<Result<RegisteredBody, RegistryProblem>> {
    let Destination::Kafka { subject: Some(subject), .. } = &outgoing.destination else { return None };
    let (registry, masks) = match open(config).await {
        Ok(opened) => opened?,
        Err(problem) => return Some(Err(RegistryProblem::NoSchema(problem))),
    };
    let found = match registry.find(subject).await {
        Ok(Some(found)) => found,
        Ok(None) => return Some(Err(RegistryProblem::NoSchema(registry.missing(subject).to_string()))),
        Err(error) => return Some(Err(RegistryProblem::NoSchema(masks.apply(&error.to_string())))),
    };
    let body = body(config.format.wants_latest_schema(), &found, &outgoing.body);
    Some(body.map(|body| RegisteredBody { id: found.id, body }).map_err(RegistryProblem::Misfit))
}

/// Why a delivery has no body with a prefix.
#[derive(Debug)]
pub enum RegistryProblem {
    NoSchema(String),
    Misfit(Misfit),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SchemaKind;

    #[test]
    fn the_prefix_is_confluent_s() {
        let value = Bytes::from_static(b"v");
        let registered = |kind, id| RegisteredSchema { id, schema: Schema::of_event(kind) };
        let prefixed = |kind, id| body(false, &registered(kind, id), &value).unwrap();
        assert_eq!(prefixed(SchemaKind::Avro, 0x0102_0304), &b"\x00\x01\x02\x03\x04v"[..]);
        assert_eq!(prefixed(SchemaKind::JsonSchema, 7), &b"\x00\x00\x00\x00\x07v"[..]);
        assert_eq!(prefixed(SchemaKind::Protobuf, 7), &b"\x00\x00\x00\x00\x07\x00v"[..]);
    }
}
