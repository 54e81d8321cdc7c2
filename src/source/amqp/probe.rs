//! Whether the queue can be reached, with nothing consumed.

use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

use crate::amqp::values::short;
use crate::amqp::{self, ProblemKind};
use crate::config::AmqpSourceConfig;
use crate::event::SourceName;
use crate::probe::{Found, Probed};

/// Logs in and asks for the queue. Whether it may be read, only consuming could tell.
pub async fn probe(config: &AmqpSourceConfig, source: &SourceName, relay: &str) -> Probed {
    let queue = short("the queue's name", &config.queue).map_err(|error| error.to_string())?;
    let question = |channel: Channel| async move {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue, options, FieldTable::default()).await
    };
    let purpose = format!("check {source}");
    let asked = amqp::ask(&config.connection, relay, &purpose, "asking for the queue", question).await;
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
