//! Whether the queue can be consumed, with nothing consumed.

use lapin::Connection;

use super::queue;
use crate::amqp::{self, Place, Problem, ProblemKind, answer};
use crate::config::AmqpSourceConfig;
use crate::event::SourceName;
use crate::probe::{ProbeOutcome, ProbeResult};

/// Logs in, asks for the queue and what kind of queue it is, which takes the right to read it.
pub async fn probe(config: &AmqpSourceConfig, source: &SourceName, relay: &str) -> ProbeResult {
    let purpose = format!("check {source}");
    let (connection, place) =
        amqp::connect(&config.connection, relay, &purpose).await.map_err(|problem| problem.to_string())?;
    let asked = ask(config, &place, &connection).await;
    // What was asked is answered: a broker that doesn't let go is left to its own time-out.
    let _ = tokio::time::timeout(amqp::ANSWER_TIMEOUT, connection.close(200, "asked".into())).await;
    let declares = config.declare.as_ref().is_some_and(|declare| declare.queue.is_some());
    match asked {
        Ok(queue::Length { messages, consumers }) => Ok(ProbeOutcome::Reachable(format!(
            "queue {} is there (messages: {messages}, consumers: {consumers})",
            config.queue
        ))),
        Err(problem) if problem.kind == ProblemKind::Missing && declares => {
            Ok(ProbeOutcome::Reachable(format!("queue {} is not there yet, the relay declares it", config.queue)))
        }
        Err(problem) => Err(problem.to_string()),
    }
}

async fn ask(config: &AmqpSourceConfig, place: &Place, connection: &Connection) -> Result<queue::Length, Problem> {
    let channel = answer(place, "opening a channel", connection.create_channel()).await?;
    let length = queue::length(&channel, place, &config.queue).await?;
    queue::refuse_stream(&channel, place, &config.queue).await?;
    Ok(length)
}
