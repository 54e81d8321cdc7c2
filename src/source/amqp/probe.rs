//! Tests whether the queue can be consumed, without consuming it.

use lapin::Connection;

use super::queue::{self, QueueCounts};
use crate::amqp::{self, BrokerAddress, BrokerError, BrokerErrorKind, Connector, await_reply};
use crate::config::AmqpSourceConfig;
use crate::event::SourceName;
use crate::probe::{ProbeOutcome, ProbeResult};

/// Logs in, and asks for the queue's counts and type, which needs the READ permission.
pub async fn probe(config: &AmqpSourceConfig, source: &SourceName, relay: &str) -> ProbeResult {
    let purpose = format!("check {source}");
    let (connection, address) =
        Connector::new(&config.connection, relay).connect(&purpose).await.map_err(|error| error.to_string())?;
    let queried = query(config, &address, &connection).await;
    // The reply is there: it doesn't matter whether the broker confirms the end of the connection.
    let _ = tokio::time::timeout(amqp::REPLY_TIMEOUT, connection.close(200, "checked".into())).await;
    let declares = config.declare.as_ref().is_some_and(|declare| declare.queue.is_some());
    match queried {
        Ok(QueueCounts { messages, consumers }) => Ok(ProbeOutcome::Reachable(format!(
            "queue {} exists (messages: {messages}, consumers: {consumers})",
            config.queue
        ))),
        Err(error) if error.kind == BrokerErrorKind::NotFound && declares => Ok(ProbeOutcome::Reachable(format!(
            "queue {} doesn't exist yet; the relay declares it when it connects",
            config.queue
        ))),
        Err(error) => Err(error.to_string()),
    }
}

async fn query(
    config: &AmqpSourceConfig,
    address: &BrokerAddress,
    connection: &Connection,
) -> Result<QueueCounts, BrokerError> {
    let channel = await_reply(address, "opening a channel", connection.create_channel()).await?;
    let counts = queue::query_counts(&channel, address, &config.queue).await?;
    queue::check_not_stream(&channel, address, &config.queue).await?;
    Ok(counts)
}
