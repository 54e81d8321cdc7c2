//! Tests whether the exchange can be reached, without publishing anything.

use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};

use super::channel::DECLARE_HINT;
use crate::amqp::values::short_string;
use crate::amqp::{BrokerErrorKind, Connector};
use crate::config::{AmqpSinkConfig, SinkConfig};
use crate::probe::{ProbeOutcome, ProbeResult};

/// Logs in and asks for the exchange. Only publishing could show whether the user may write to it.
pub(in crate::sink) async fn probe(config: &SinkConfig, sink: &AmqpSinkConfig, relay: &str) -> ProbeResult {
    let exchange = short_string("the exchange's name", &sink.exchange).map_err(|error| error.to_string())?;
    let question = |channel: Channel| async move {
        // The default exchange always exists, and a broker refuses to declare it, even passively.
        if exchange.as_str().is_empty() {
            return Ok(());
        }
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(exchange, ExchangeKind::default(), options, FieldTable::default()).await
    };
    let purpose = format!("check {}", config.name);
    let connector = Connector::new(&sink.connection, relay);
    match connector.request_once(&purpose, "asking for the exchange", question).await {
        Ok(()) if sink.exchange.is_empty() => Ok(ProbeOutcome::Reachable("the login to the broker works".to_owned())),
        Ok(()) => Ok(ProbeOutcome::Reachable(format!("exchange {} exists", sink.exchange))),
        Err(error) if error.kind == BrokerErrorKind::NotFound && sink.declare.is_some() => Ok(ProbeOutcome::Reachable(
            format!("exchange {} doesn't exist yet; the relay declares it when it connects", sink.exchange),
        )),
        Err(error) if error.kind == BrokerErrorKind::NotFound => Err(format!("{error}{DECLARE_HINT}")),
        Err(error) => Err(error.to_string()),
    }
}
