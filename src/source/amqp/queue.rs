//! The queue of a source: its declaration if configured, its type, and its exclusive consumer.

use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Consumer, ErrorKind};

use super::AmqpSource;
use super::channel_opener::ChannelOpener;
use crate::amqp::values::{ShortStringTooLong, short_string};
use crate::amqp::{BrokerAddress, BrokerError, BrokerErrorKind, await_raw_reply, await_reply};
use crate::config::{Argument, DeclareQueue, QueueDeclaration, QueueKind};

/// The type that the broker reports. The READ permission is enough to ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueType {
    Classic,
    /// The broker counts the deliveries of each message, and does not enforce `exclusive`.
    Quorum,
    Unknown,
}

#[derive(Debug, Clone, Copy)]
pub struct QueueCounts {
    /// Those ready to be delivered.
    pub messages: u32,
    /// All consumers; of a quorum queue with `x-single-active-consumer` only the active one.
    pub consumers: u32,
}

pub struct OpenConsumer {
    pub channel: Channel,
    pub consumer: Consumer,
    pub queue_type: QueueType,
    /// Whether the queue has `x-single-active-consumer`, and is therefore consumed without `exclusive`.
    pub is_single_active: bool,
}

/// Opens a channel and consumes, exclusively unless configured otherwise. Sets `can_query_counts` to false if the broker refuses to
/// tell a queue's counts: each refusal costs a channel.
pub async fn open(
    channels: &mut ChannelOpener<'_>,
    source: &AmqpSource,
    prefetch: u16,
    can_query_counts: &mut bool,
) -> Result<OpenConsumer, BrokerError> {
    let config = &source.config;
    let address = &channels.address.clone();
    let mut channel = channels.open().await?;
    if let Some(declare) = &config.declare {
        declare_queue(&channel, address, &config.queue, declare).await?;
    }
    if config.exclusive && *can_query_counts {
        match query_counts(&channel, address, &config.queue).await {
            Ok(counts) if counts.consumers > 0 => return Err(in_use(address, &config.queue)),
            Ok(_) => {}
            Err(error) if is_refusal(&error) => {
                *can_query_counts = false;
                channel = channels.reopen().await?;
            }
            Err(error) => return Err(error),
        }
    }
    let queue_type = match probe_type(&channel, address, source, prefetch).await? {
        TypeProbe::Consuming(consumer) => {
            return Ok(OpenConsumer { channel, consumer, queue_type: QueueType::Unknown, is_single_active: false });
        }
        TypeProbe::Refused(queue_type) => queue_type,
    };
    let channel = channels.reopen().await?;
    match consume(&channel, address, source, prefetch, config.exclusive).await {
        Ok(consumer) => {
            // The broker enforces `exclusive` on a classic queue.
            if queue_type != QueueType::Classic && config.exclusive && *can_query_counts {
                let counts = query_counts(&channel, address, &config.queue).await?;
                if counts.consumers > 1 {
                    return Err(not_exclusive(address, &config.queue));
                }
            }
            Ok(OpenConsumer { channel, consumer, queue_type, is_single_active: false })
        }
        // A queue without consumers that refuses an exclusive one has a single active consumer.
        Err(error) if error.kind == BrokerErrorKind::InUse && config.exclusive && *can_query_counts => {
            let channel = channels.reopen().await?;
            if query_counts(&channel, address, &config.queue).await?.consumers > 0 {
                return Err(error);
            }
            tracing::debug!(source = %source.name, queue = %config.queue, "the queue has a single active consumer");
            let consumer = consume(&channel, address, source, prefetch, false).await?;
            Ok(OpenConsumer { channel, consumer, queue_type, is_single_active: true })
        }
        Err(error) => Err(error),
    }
}

/// Declares the queue passively. A refusal closes the channel.
pub async fn query_counts(channel: &Channel, address: &BrokerAddress, queue: &str) -> Result<QueueCounts, BrokerError> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declare = channel.queue_declare(queue_name(queue)?, options, FieldTable::default());
    let queue = await_reply(address, "asking for the queue's counts", declare).await?;
    Ok(QueueCounts { messages: queue.message_count(), consumers: queue.consumer_count() })
}

/// Whether the user lacks the permission to ask. The queue may be consumed nevertheless.
pub fn is_refusal(error: &BrokerError) -> bool {
    error.kind == BrokerErrorKind::AccessRefused
}

enum TypeProbe {
    /// The refusal named the type, and closed the channel.
    Refused(QueueType),
    Consuming(Consumer),
}

/// Consumes with an argument for streams: classic and quorum queues refuse it, and the refusal names their type (since `RabbitMQ` 3.10:
/// `check_arguments_key` in `rabbit_amqqueue.erl`). An older broker ignores the argument, and consumes.
async fn probe_type(
    channel: &Channel,
    address: &BrokerAddress,
    source: &AmqpSource,
    prefetch: u16,
) -> Result<TypeProbe, BrokerError> {
    let config = &source.config;
    let request = ConsumeRequest {
        queue: &config.queue,
        tag: &consumer_tag(source),
        prefetch,
        exclusive: config.exclusive,
        arguments: stream_offset(),
    };
    match request.send(channel, address).await? {
        Ok(consumer) => match query_counts(channel, address, &config.queue).await?.consumers {
            0 => Err(is_stream(&config.queue)),
            _ => Ok(TypeProbe::Consuming(consumer)),
        },
        Err(error) => {
            refused_type(&error).map(TypeProbe::Refused).ok_or_else(|| BrokerError::from_lapin(&error, address))
        }
    }
}

fn stream_offset() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), AMQPValue::LongString("next".into()));
    arguments
}

/// Returns an error if the queue is a stream, or can't be read. The channel is unusable afterwards.
pub async fn check_not_stream(channel: &Channel, address: &BrokerAddress, queue: &str) -> Result<(), BrokerError> {
    let tag = "regards-relay-check";
    let request = ConsumeRequest { queue, tag, prefetch: 1, exclusive: true, arguments: stream_offset() };
    match request.send(channel, address).await? {
        Ok(_) if query_counts(channel, address, queue).await?.consumers == 0 => Err(is_stream(queue)),
        Ok(_) => Ok(()),
        Err(error) if refused_type(&error).is_some() => Ok(()),
        Err(error) => match BrokerError::from_lapin(&error, address) {
            // An older broker, which ignores the argument, and has another consumer.
            error if error.kind == BrokerErrorKind::InUse => Ok(()),
            error => Err(error),
        },
    }
}

/// The queue type that the refusal of a stream's argument names.
fn refused_type(error: &lapin::Error) -> Option<QueueType> {
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    let (_, named) = error.get_message().as_str().split_once("of queue type ")?;
    Some(match named.trim() {
        "rabbit_classic_queue" => QueueType::Classic,
        "rabbit_quorum_queue" => QueueType::Quorum,
        _ => QueueType::Unknown,
    })
}

fn is_stream(queue: &str) -> BrokerError {
    BrokerError::configuration(format!(
        "queue {queue} is a stream, and acknowledging a message doesn't remove it from a stream: name a classic or quorum queue (ask the \
         broker's administrator for one that is bound to the same exchange)"
    ))
}

fn in_use(address: &BrokerAddress, queue: &str) -> BrokerError {
    let text = format!(
        "queue {queue} has another consumer, and this relay consumes a queue exclusively: it stands by until that consumer stops"
    );
    BrokerError::at(BrokerErrorKind::InUse, address, &text)
}

/// The error when another consumer takes from a queue that this relay should consume exclusively.
pub fn not_exclusive(address: &BrokerAddress, queue: &str) -> BrokerError {
    let text = format!(
        "queue {queue} has another consumer beside this relay, so the events of both would arrive out of order. This relay stops consuming \
         until the queue is free, because RabbitMQ does not enforce exclusive consumers on a quorum queue. Ask the broker's administrator \
         to create the queue with `x-single-active-consumer`, or stop the other consumer"
    );
    BrokerError::at(BrokerErrorKind::NotExclusive, address, &text)
}

pub async fn consume(
    channel: &Channel,
    address: &BrokerAddress,
    source: &AmqpSource,
    prefetch: u16,
    exclusive: bool,
) -> Result<Consumer, BrokerError> {
    let (queue, tag) = (&source.config.queue, &consumer_tag(source));
    let request = ConsumeRequest { queue, tag, prefetch, exclusive, arguments: FieldTable::default() };
    let consumer = request.send(channel, address).await?;
    consumer.map_err(|error| BrokerError::from_lapin(&error, address))
}

fn consumer_tag(source: &AmqpSource) -> String {
    format!("regards-relay-{}", source.name)
}

struct ConsumeRequest<'a> {
    queue: &'a str,
    /// Made unique by a random suffix.
    tag: &'a str,
    prefetch: u16,
    exclusive: bool,
    arguments: FieldTable,
}

impl ConsumeRequest<'_> {
    async fn send(self, channel: &Channel, address: &BrokerAddress) -> Result<lapin::Result<Consumer>, BrokerError> {
        let qos = channel.basic_qos(self.prefetch, BasicQosOptions::default());
        await_reply(address, "setting the prefetch", qos).await?;
        let queue = queue_name(self.queue)?;
        let tag = format!("{}-{:016x}", self.tag, fastrand::u64(..));
        let tag = short_string("the consumer's tag", &tag).unwrap_or_default();
        let options = BasicConsumeOptions { exclusive: self.exclusive, ..BasicConsumeOptions::default() };
        await_raw_reply(address, "consuming", channel.basic_consume(queue, tag, options, self.arguments)).await
    }
}

async fn declare_queue(
    channel: &Channel,
    address: &BrokerAddress,
    queue: &str,
    declare: &DeclareQueue,
) -> Result<(), BrokerError> {
    let queue = queue_name(queue)?;
    if let Some(declaration) = &declare.queue {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let arguments = arguments(declaration)?;
        await_reply(address, "declaring the queue", channel.queue_declare(queue.clone(), options, arguments)).await?;
    }
    for binding in &declare.bindings {
        let exchange = short_string("the exchange's name", &binding.exchange)?;
        let key = short_string("the routing key", &binding.routing_key)?;
        let bind = channel.queue_bind(queue.clone(), exchange, key, QueueBindOptions::default(), FieldTable::default());
        await_reply(address, "binding the queue", bind).await?;
    }
    Ok(())
}

fn arguments(declaration: &QueueDeclaration) -> Result<FieldTable, BrokerError> {
    let mut table = FieldTable::default();
    // A queue without this argument is a classic one. With the argument, the declaration would not match one that REGARDS declared without.
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
        table.insert(short_string("an argument's name", name)?, value);
    }
    Ok(table)
}

fn queue_name(queue: &str) -> Result<ShortString, ShortStringTooLong> {
    short_string("the queue's name", queue)
}
