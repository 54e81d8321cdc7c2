//! The stage between rendering and sending that a sink with a schema registry has: it puts the registry's prefix before each body.
//!
//! If the id of the schema under the delivery's subject is known, the delivery goes on at once. Else it waits for the registry,
//! and the others go on. Trouble with the registry is blamed on the delivery, as it says nothing about the sink.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use super::{Attempt, Blame, Destination, RenderedDelivery, Verdict, cancelled, reject_other_kind};
use crate::config::SinkConfig;
use crate::event::{Format, Schema, SchemaFormat, SchemaSource};
use crate::registry::{Lookup, Registry};
use crate::rules::SinkName;
use crate::tasks::{self, TaskKind};

/// The first byte of Confluent's wire format.
const MAGIC: u8 = 0;

pub(super) struct Encoder {
    sink: SinkName,
    schema: Schema,
    registry: Arc<Registry>,
    /// Cancelled when the sink closes: the deliveries that wait for the registry are not sent then.
    stop: CancellationToken,
    /// Every delivery that waits has a clone of this sender, and nothing is ever sent: the channel closes when none waits.
    waiting: Sender<Infallible>,
    none_waits: Receiver<Infallible>,
}

impl Encoder {
    /// None: the sink has no registry. Reads certificates, which blocks. The error says what to do.
    pub(super) fn open(config: &SinkConfig) -> Result<Option<Self>, String> {
        let Some((schema, registry)) = registry(config)? else { return Ok(None) };
        let (waiting, none_waits) = channel(1);
        let (sink, stop) = (config.name.clone(), CancellationToken::new());
        Ok(Some(Self { sink, schema, registry: Arc::new(registry), stop, waiting, none_waits }))
    }

    /// Sends the delivery by `send`, with the prefix: at once if the id is known, else when the registry has answered.
    pub(super) fn encode(
        &self,
        mut outgoing: RenderedDelivery,
        attempt: Attempt,
        send: impl FnOnce(&RenderedDelivery, Attempt) + Send + 'static,
    ) {
        let Destination::Kafka { subject: Some(subject), .. } = &outgoing.destination else {
            return reject_other_kind(attempt);
        };
        if let Some(id) = self.registry.known(subject) {
            outgoing.body = with_prefix(id, self.schema.message_indexes(), &outgoing.body);
            return send(&outgoing, attempt);
        }
        let (registry, stop, waiting) = (Arc::clone(&self.registry), self.stop.clone(), self.waiting.clone());
        let (sink, schema, subject) = (self.sink.clone(), self.schema.clone(), subject.clone());
        tasks::spawn(TaskKind::RegistryRequest, async move {
            match stop.run_until_cancelled(registry.resolve(&subject)).await {
                Some(Ok(id)) => {
                    outgoing.body = with_prefix(id, schema.message_indexes(), &outgoing.body);
                    send(&outgoing, attempt);
                }
                Some(Err(error)) => {
                    let cause = format!("sink {sink}: {error}");
                    attempt.end(Verdict::Retry { after: None, cause, blame: Blame::Delivery });
                }
                None => attempt.end(cancelled()),
            }
            drop(waiting);
        });
    }

    /// The deliveries that wait for the registry end now.
    pub(super) fn cancel(&self) {
        self.stop.cancel();
    }

    /// Cancels the deliveries that wait, and waits for the end of their tasks.
    pub(super) async fn close(self) {
        let Self { stop, waiting, mut none_waits, .. } = self;
        stop.cancel();
        drop(waiting);
        none_waits.recv().await;
    }
}

/// The schema of the sink and its registry, if it has one. Blocks.
fn registry(config: &SinkConfig) -> Result<Option<(Schema, Registry)>, String> {
    let (Some(settings), Format::Schema(format)) = (config.registry(), &config.format) else { return Ok(None) };
    let SchemaFormat { kind, source, .. } = &**format;
    let (schema, origin) = match source {
        SchemaSource::Event => {
            (Schema::of_event(*kind), format!("what `regards-relay schema {}` prints", kind.as_str()))
        }
        SchemaSource::File { path, schema } => (schema.clone(), format!("the schema in {path}")),
    };
    Ok(Some((schema.clone(), Registry::open(settings, schema, origin)?)))
}

/// Confluent's wire format: a zero byte, the id, for Protobuf the index path of the message, and the encoded value.
fn with_prefix(id: u32, indexes: &[u8], value: &Bytes) -> Bytes {
    let mut body = BytesMut::with_capacity(5 + indexes.len() + value.len());
    body.put_u8(MAGIC);
    body.put_u32(id);
    body.put_slice(indexes);
    body.put_slice(value);
    body.freeze()
}

/// For `check --connect`: what the registry says, without registering anything. None: the sink has no registry.
pub(super) async fn probe(config: &SinkConfig) -> Option<Result<String, String>> {
    let (settings, sink) = (config.registry()?.clone(), config.clone());
    let opened = tokio::task::spawn_blocking(move || registry(&sink)).await;
    let registry = match opened {
        Ok(Ok(registry)) => registry?.1,
        Ok(Err(problem)) => return Some(Err(problem)),
        Err(error) => return Some(Err(tasks::blocking_error("reading the certificates of the registry", &error))),
    };
    let Some(subject) = config.fixed_subject() else {
        let pinged = registry.ping().await.map_err(|error| error.to_string());
        return Some(
            pinged
                .map(|()| "the registry answers; not tested: the subjects, whose names depend on the event".to_owned()),
        );
    };
    Some(match registry.look_up(&subject).await {
        Ok(Lookup::Found(id)) => Ok(format!("the registry has the schema under the subject {subject} (id {id})")),
        Ok(Lookup::Missing) if settings.register => {
            Ok(format!("the registry answers; the first delivery registers the schema under the subject {subject}"))
        }
        Ok(Lookup::Missing) => Err(format!("{}; until then deliveries wait", registry.missing(&subject))),
        Err(error) => Err(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SchemaKind;

    #[test]
    fn the_prefix_is_confluent_s() {
        let value = Bytes::from_static(b"v");
        let prefixed = |kind, id| with_prefix(id, Schema::of_event(kind).message_indexes(), &value);
        assert_eq!(prefixed(SchemaKind::Avro, 0x0102_0304), &b"\x00\x01\x02\x03\x04v"[..]);
        assert_eq!(prefixed(SchemaKind::JsonSchema, 7), &b"\x00\x00\x00\x00\x07v"[..]);
        assert_eq!(prefixed(SchemaKind::Protobuf, 7), &b"\x00\x00\x00\x00\x07\x00v"[..]);
    }
}
