//! Whether the queue can be reached, with nothing consumed.

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

use crate::amqp::values::short;
use crate::amqp::{ANSWER_TIMEOUT, ProblemKind, answer, connect};
use crate::config::AmqpSourceConfig;
use crate::event::SourceName;
use crate::probe::{Found, Probed};

/// Logs in and asks for the queue. Whether it may be read, only consuming could tell.
pub async fn probe(config: &AmqpSourceConfig, source: &SourceName, relay: &str) -> Probed {
    let queue = short("the queue's name", &config.queue).map_err(|error| error.to_string())?;
    let connected = connect(&config.connection, relay, &format!("check {source}")).await;
    let (connection, place) = connected.map_err(|problem| problem.to_string())?;
    let asking = async {
        let channel = answer(&place, "opening a channel", connection.create_channel()).await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        answer(&place, "asking for the queue", channel.queue_declare(queue, options, FieldTable::default())).await
    };
    let asked = asking.await;
    // What was asked is answered: a broker that doesn't let go is left to its own time-out.
    let _ = tokio::time::timeout(ANSWER_TIMEOUT, connection.close(200, "checked".into())).await;
    let declares = config.declare.as_ref().is_some_and(|declare| declare.queue.is_some());
    match asked {
        Ok(queue) => {
            let (messages, consumers) = (queue.message_count(), queue.consumer_count());
            Ok(Found::Fine(format!("queue {} is there (messages: {messages}, consumers: {consumers})", config.queue)))
        }
        Err(problem) if problem.kind == ProblemKind::Missing && declares => {
            Ok(Found::Fine(format!("queue {} is not there yet, the relay declares it", config.queue)))
        }
        Err(problem) => Err(problem.to_string()),
    }
}
