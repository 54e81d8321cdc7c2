//! Messages of a queue that nobody consumes, looked at and given back.

use bytes::Bytes;
use lapin::options::BasicGetOptions;

use crate::amqp::values::{self, short};
use crate::amqp::{Problem, answer, connect};
use crate::config::AmqpSourceConfig;
use crate::event::{Message, SourceName};

/// Shows up to `count` messages of the source's queue. They are taken unacknowledged, and all given back when the channel is closed:
/// whoever consumes them next gets them flagged as redelivered. READ is permission enough.
pub async fn peek(
    config: &AmqpSourceConfig,
    source: &SourceName,
    relay: &str,
    count: u64,
    mut each: impl FnMut(&Message),
) -> Result<(), Problem> {
    let (connection, place) = connect(&config.connection, relay, &format!("capture {source}")).await?;
    let channel = answer(&place, "opening a channel", connection.create_channel()).await?;
    for _ in 0..count {
        let queue = short("the queue's name", &config.queue).map_err(|error| Problem::settings(error.to_string()))?;
        let got = answer(&place, "getting a message", channel.basic_get(queue, BasicGetOptions::default())).await?;
        let Some(got) = got else { break };
        let delivery = got.delivery;
        let note = connection.take_note(&channel, delivery.delivery_tag);
        each(&Message {
            source: source.clone(),
            properties: values::properties(&delivery.properties, note.as_ref()),
            body: Bytes::from(delivery.data),
            redelivered: delivery.redelivered,
        });
    }
    answer(&place, "closing the channel", channel.close(200, "captured".into())).await?;
    answer(&place, "closing the connection", connection.close(200, "captured".into())).await
}
