//! Whether the exchange can be reached, with nothing published.

use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;

use super::link::CAN_DECLARE;
use crate::amqp::values::short;
use crate::amqp::{ANSWER_TIMEOUT, ProblemKind, answer, connect};
use crate::config::{AmqpSinkConfig, SinkConfig};
use crate::probe::{Found, Probed};

/// Logs in and asks for the exchange. Whether it may be written to, only publishing could tell.
pub(in crate::sink) async fn probe(config: &SinkConfig, amqp: &AmqpSinkConfig, relay: &str) -> Probed {
    let exchange = short("the exchange's name", &amqp.exchange).map_err(|error| error.to_string())?;
    let connected = connect(&amqp.connection, relay, &format!("check {}", config.name)).await;
    let (connection, place) = connected.map_err(|problem| problem.to_string())?;
    let asking = async {
        // The nameless exchange is always there, and no broker lets it be asked for.
        if exchange.as_str().is_empty() {
            return Ok(());
        }
        let channel = answer(&place, "opening a channel", connection.create_channel()).await?;
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let declaring = channel.exchange_declare(exchange, ExchangeKind::default(), options, FieldTable::default());
        answer(&place, "asking for the exchange", declaring).await
    };
    let asked = asking.await;
    // What was asked is answered: a broker that doesn't let go is left to its own time-out.
    let _ = tokio::time::timeout(ANSWER_TIMEOUT, connection.close(200, "checked".into())).await;
    match asked {
        Ok(()) if amqp.exchange.is_empty() => Ok(Found::Fine("the broker lets us in".to_owned())),
        Ok(()) => Ok(Found::Fine(format!("exchange {} is there", amqp.exchange))),
        Err(problem) if problem.kind == ProblemKind::Missing && amqp.declare.is_some() => {
            Ok(Found::Fine(format!("exchange {} is not there yet, the relay declares it", amqp.exchange)))
        }
        Err(problem) if problem.kind == ProblemKind::Missing => Err(format!("{problem}{CAN_DECLARE}")),
        Err(problem) => Err(problem.to_string()),
    }
}
