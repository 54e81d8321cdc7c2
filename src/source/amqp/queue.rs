//! The queue: declaring it where that is asked, finding out what it is, and consuming it alone.

use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer, ErrorKind};

use super::AmqpSource;
use super::channels::Channels;
use crate::amqp::values::{self, short};
use crate::amqp::{self, Place, Problem, ProblemKind, answer};
use crate::config::{Argument, DeclareQueue, QueueDeclaration, QueueKind};

/// What a queue turns out to be. READ is permission enough to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Reserved for one consumer by `exclusive`.
    Classic,
    /// Counts how often it gave out each message, and reserves itself for nobody.
    Quorum,
    /// The broker doesn't say.
    Unknown,
}

/// How many messages and consumers a queue has.
#[derive(Debug, Clone, Copy)]
pub struct Length {
    /// Ready to be given out.
    pub messages: u32,
    /// All of them; of a quorum queue with `x-single-active-consumer` only the active one.
    pub consumers: u32,
}

/// An open consumer.
pub struct Consuming {
    /// Its channel.
    pub channel: Channel,
    /// What comes.
    pub consumer: Consumer,
    /// What it consumes.
    pub kind: Kind,
    /// The queue itself lets one consumer take from it.
    pub is_single_active: bool,
}

/// Opens a channel and consumes, alone where the configuration says so. `may_ask` becomes false where the broker refuses to say a
/// queue's length, which costs a channel.
pub async fn open(
    channels: &mut Channels<'_>,
    source: &AmqpSource,
    prefetch: u16,
    may_ask: &mut bool,
) -> Result<Consuming, Problem> {
    let config = &source.config;
    let place = &channels.place.clone();
    let mut channel = channels.open().await?;
    if let Some(declare) = &config.declare {
        declare_queue(&channel, place, &config.queue, declare).await?;
    }
    let may_share = !config.exclusive;
    if !may_share && *may_ask {
        match length(&channel, place, &config.queue).await {
            Ok(length) if length.consumers > 0 => return Err(in_use(place, &config.queue)),
            Ok(_) => {}
            Err(problem) if is_refusal(&problem) => {
                *may_ask = false;
                channel = channels.open_another().await?;
            }
            Err(problem) => return Err(problem),
        }
    }
    let kind = match ask_kind(&channel, place, source, prefetch).await? {
        Asked::Consumes(consumer) => {
            return Ok(Consuming { channel, consumer, kind: Kind::Unknown, is_single_active: false });
        }
        Asked::Is(kind) => kind,
    };
    let channel = channels.open_another().await?;
    match consume(&channel, place, source, prefetch, config.exclusive).await {
        Ok(consumer) => {
            // Classic queues see to it themselves.
            if kind != Kind::Classic && !may_share && *may_ask {
                let length = length(&channel, place, &config.queue).await?;
                if length.consumers > 1 {
                    return Err(shared(place, &config.queue));
                }
            }
            Ok(Consuming { channel, consumer, kind, is_single_active: false })
        }
        // Nobody has it: the queue has a single active consumer, and takes no exclusive one whatever happens.
        Err(problem) if problem.kind == ProblemKind::InUse && !may_share && *may_ask => {
            let channel = channels.open_another().await?;
            if length(&channel, place, &config.queue).await?.consumers > 0 {
                return Err(problem);
            }
            tracing::debug!(source = %source.name, queue = %config.queue, "the queue has a single active consumer");
            let consumer = consume(&channel, place, source, prefetch, false).await?;
            Ok(Consuming { channel, consumer, kind, is_single_active: true })
        }
        Err(problem) => Err(problem),
    }
}

/// Asks the queue for its length. A refusal closes the channel.
pub async fn length(channel: &Channel, place: &Place, queue: &str) -> Result<Length, Problem> {
    let queue = short("the queue's name", queue).map_err(|error| settings(&error))?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asked = channel.queue_declare(queue, options, FieldTable::default());
    let queue = answer(place, "asking for the queue's length", asked).await?;
    Ok(Length { messages: queue.message_count(), consumers: queue.consumer_count() })
}

/// The broker lets nobody ask: that is no reason not to consume.
pub fn is_refusal(problem: &Problem) -> bool {
    problem.kind == ProblemKind::Forbidden
}

enum Asked {
    /// The channel is closed.
    Is(Kind),
    Consumes(Consumer),
}

/// Consumes as one consumes a stream: classic and quorum queues refuse that, and their refusal names their type (since `RabbitMQ`
/// 3.10: `check_arguments_key` in `rabbit_amqqueue.erl`). A broker before that doesn't know the argument, and consumes.
async fn ask_kind(channel: &Channel, place: &Place, source: &AmqpSource, prefetch: u16) -> Result<Asked, Problem> {
    let config = &source.config;
    let tag = format!("regards-relay-{}", source.name);
    let consumed = start(channel, place, &config.queue, &tag, prefetch, config.exclusive, from_next()).await?;
    match consumed {
        Ok(consumer) => match length(channel, place, &config.queue).await?.consumers {
            0 => Err(is_stream(&config.queue)),
            _ => Ok(Asked::Consumes(consumer)),
        },
        Err(error) => kind_by(&error).map(Asked::Is).ok_or_else(|| Problem::explain(&error, place)),
    }
}

/// Where in a stream a consumer begins; no other queue has such places.
fn from_next() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), AMQPValue::LongString("next".into()));
    arguments
}

/// An error if the queue is a stream, or can't be read. The channel is of no use afterwards.
pub async fn refuse_stream(channel: &Channel, place: &Place, queue: &str) -> Result<(), Problem> {
    match start(channel, place, queue, "regards-relay-check", 1, true, from_next()).await? {
        Ok(_) if length(channel, place, queue).await?.consumers == 0 => Err(is_stream(queue)),
        Ok(_) => Ok(()),
        Err(error) if kind_by(&error).is_some() => Ok(()),
        Err(error) => match Problem::explain(&error, place) {
            // A broker that doesn't know the argument, and has a consumer.
            problem if problem.kind == ProblemKind::InUse => Ok(()),
            problem => Err(problem),
        },
    }
}

/// The type that the refusal of a stream's argument names.
fn kind_by(error: &lapin::Error) -> Option<Kind> {
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    let (_, named) = error.get_message().as_str().split_once("of queue type ")?;
    Some(match named.trim() {
        "rabbit_classic_queue" => Kind::Classic,
        "rabbit_quorum_queue" => Kind::Quorum,
        _ => Kind::Unknown,
    })
}

/// What a stream is refused with.
fn is_stream(queue: &str) -> Problem {
    Problem::settings(format!(
        "queue {queue} is a stream, from which acknowledgements remove nothing: name a classic or quorum queue (ask the broker's \
         administrator for one that is bound to the same exchange)"
    ))
}

fn in_use(place: &Place, queue: &str) -> Problem {
    let text = format!(
        "queue {queue} has another consumer, and this relay takes a queue exclusively: it stands by until that one stops"
    );
    Problem::of(ProblemKind::InUse, place, &text)
}

/// Somebody else takes from a queue that the relay is to have for itself.
pub fn shared(place: &Place, queue: &str) -> Problem {
    let text = format!(
        "queue {queue} has another consumer beside this relay, which would break the order of what both deliver, so this relay gives \
         it up and waits for it to be free: RabbitMQ doesn't reserve a quorum queue for one consumer. Ask its administrator to make \
         the queue with `x-single-active-consumer`, or end the other consumer"
    );
    Problem::of(ProblemKind::Shared, place, &text)
}

/// Consumes with that prefetch.
pub async fn consume(
    channel: &Channel,
    place: &Place,
    source: &AmqpSource,
    prefetch: u16,
    exclusive: bool,
) -> Result<Consumer, Problem> {
    let tag = format!("regards-relay-{}", source.name);
    let queue = &source.config.queue;
    let consumed = start(channel, place, queue, &tag, prefetch, exclusive, FieldTable::default()).await?;
    consumed.map_err(|error| Problem::explain(&error, place))
}

async fn start(
    channel: &Channel,
    place: &Place,
    queue: &str,
    tag: &str,
    prefetch: u16,
    exclusive: bool,
    arguments: FieldTable,
) -> Result<lapin::Result<Consumer>, Problem> {
    answer(place, "setting the prefetch", channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
    let queue = short("the queue's name", queue).map_err(|error| settings(&error))?;
    let tag = short("the consumer's tag", &format!("{tag}-{:016x}", fastrand::u64(..))).unwrap_or_default();
    let options = BasicConsumeOptions { exclusive, ..BasicConsumeOptions::default() };
    amqp::answer_or_refusal(place, "consuming", channel.basic_consume(queue, tag, options, arguments)).await
}

async fn declare_queue(channel: &Channel, place: &Place, name: &str, declare: &DeclareQueue) -> Result<(), Problem> {
    let queue = || short("the queue's name", name).map_err(|error| settings(&error));
    if let Some(declaration) = &declare.queue {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let arguments = arguments(declaration)?;
        answer(place, "declaring the queue", channel.queue_declare(queue()?, options, arguments)).await?;
    }
    for binding in &declare.bindings {
        let exchange = short("the exchange's name", &binding.exchange).map_err(|error| settings(&error))?;
        let key = short("the routing key", &binding.routing_key).map_err(|error| settings(&error))?;
        let bind = channel.queue_bind(queue()?, exchange, key, QueueBindOptions::default(), FieldTable::default());
        answer(place, "binding the queue", bind).await?;
    }
    Ok(())
}

fn arguments(declaration: &QueueDeclaration) -> Result<FieldTable, Problem> {
    let mut table = FieldTable::default();
    // Classic is what a queue without the argument is; naming it would not match one that REGARDS declared without.
    if declaration.kind == QueueKind::Quorum {
        table.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    }
    for (name, value) in &declaration.arguments {
        let value = match value {
            Argument::Bool(value) => AMQPValue::Boolean(*value),
            Argument::Integer(value) => {
                i32::try_from(*value).map_or(AMQPValue::LongLongInt(*value), AMQPValue::LongInt)
            }
            Argument::Text(text) => AMQPValue::LongString(text.as_bytes().into()),
        };
        table.insert(short("an argument's name", name).map_err(|error| settings(&error))?, value);
    }
    Ok(table)
}

fn settings(error: &values::TooLong) -> Problem {
    Problem::settings(error.to_string())
}
