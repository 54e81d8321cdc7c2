//! Whether the exchange can be reached, with nothing published.

use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};

use super::link::CAN_DECLARE;
use crate::amqp::values::short;
use crate::amqp::{self, ProblemKind};
use crate::config::{AmqpSinkConfig, SinkConfig};
use crate::probe::{ProbeOutcome, ProbeResult};

/// Logs in and asks for the exchange. Whether it may be written to, only publishing could tell.
pub(in crate::sink) async fn probe(config: &SinkConfig, sink: &AmqpSinkConfig, relay: &str) -> ProbeResult {
    let exchange = short("the exchange's name", &sink.exchange).map_err(|error| error.to_string())?;
    let question = |channel: Channel| async move {
        // The nameless exchange is always there, and no broker lets it be asked for.
        if exchange.as_str().is_empty() {
            return Ok(());
        }
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(exchange, ExchangeKind::default(), options, FieldTable::default()).await
    };
    let purpose = format!("check {}", config.name);
    match amqp::ask(&sink.connection, relay, &purpose, "asking for the exchange", question).await {
        Ok(()) if sink.exchange.is_empty() => Ok(ProbeOutcome::Reachable("the broker lets us in".to_owned())),
        Ok(()) => Ok(ProbeOutcome::Reachable(format!("exchange {} is there", sink.exchange))),
        Err(problem) if problem.kind == ProblemKind::Missing && sink.declare.is_some() => {
            Ok(ProbeOutcome::Reachable(format!("exchange {} is not there yet, the relay declares it", sink.exchange)))
        }
        Err(problem) if problem.kind == ProblemKind::Missing => Err(format!("{problem}{CAN_DECLARE}")),
        Err(problem) => Err(problem.to_string()),
    }
}
