//! Shows messages of a queue that has no consumer, and gives them back.

use bytes::Bytes;
use lapin::options::BasicGetOptions;

use crate::amqp::values::{self, short_string};
use crate::amqp::{BrokerError, Connector, await_reply};
use crate::config::AmqpSourceConfig;
use crate::event::{Message, SourceName};

/// Calls `show` with up to `count` messages of the source's queue. They are taken by `basic.get` without acknowledgement, and the broker
/// takes all of them back when the channel is closed: the next consumer gets them as redelivered. This needs the READ permission only.
pub async fn peek_queue(
    config: &AmqpSourceConfig,
    source: &SourceName,
    relay: &str,
    count: u64,
    mut show: impl FnMut(&Message),
) -> Result<(), BrokerError> {
    let (connection, address) = Connector::new(&config.connection, relay).connect(&format!("capture {source}")).await?;
    let channel = await_reply(&address, "opening a channel", connection.create_channel()).await?;
    let queue = short_string("the queue's name", &config.queue)?;
    for _ in 0..count {
        let get = channel.basic_get(queue.clone(), BasicGetOptions::default());
        let Some(message) = await_reply(&address, "getting a message", get).await? else { break };
        let delivery = message.delivery;
        let edits = connection.take_edits(&channel, delivery.delivery_tag);
        show(&Message {
            source: source.clone(),
            properties: values::decode_properties(&delivery.properties, edits.as_ref()),
            body: Bytes::from(delivery.data),
            redelivered: delivery.redelivered,
        });
    }
    await_reply(&address, "closing the channel", channel.close(200, "captured".into())).await?;
    await_reply(&address, "closing the connection", connection.close(200, "captured".into())).await
}
