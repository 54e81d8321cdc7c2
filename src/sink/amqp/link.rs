//! The connection to the broker and the channels on it: opened when something is to be published, never repaired.

use std::time::Duration;

use lapin::options::{ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use crate::amqp::{self, Connection, Place, Problem, ProblemKind, answer};
use crate::config::AmqpConnection;
use crate::sink::{Blame, Verdict};

/// The longest wait before the second try to connect; it doubles with each try that fails.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// The longest wait between two tries. Attempts wait for the next try, so it is short.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// Advice where there is no exchange.
pub(super) const CAN_DECLARE: &str = "; the sink can declare it itself: `declare: { type: topic }`";

/// What the sink needs to know to open one.
#[derive(Debug)]
pub(super) struct Settings {
    pub connection: AmqpConnection,
    /// Who the relay is, and what the connection is for: its name at the broker.
    pub relay: String,
    pub purpose: String,
    pub exchange: ShortString,
    /// The exchange's type, if it is to be declared.
    pub declare: Option<String>,
}

/// Why nothing could be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub cause: String,
    pub blame: Blame,
    /// The user may open no more channels.
    pub is_channel_limit: bool,
}

impl Failure {
    pub(super) fn sink(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), blame: Blame::Sink, is_channel_limit: false }
    }

    pub(super) fn verdict(&self) -> Verdict {
        Verdict::Retry { after: None, cause: self.cause.clone(), blame: self.blame }
    }
}

/// Whatever is wrong on the way to the exchange, or with it, is so for all messages: the sink has one exchange.
impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let is_channel_limit = problem.kind == ProblemKind::ChannelLimit;
        Self { is_channel_limit, ..Self::sink(problem.to_string()) }
    }
}

/// How long to wait before connecting after so many failures in a row: full jitter, so that relays don't come in step.
pub(super) fn backoff(failures: u32) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let longest = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures - 1)).min(MAX_BACKOFF);
    longest.mul_f64(fastrand::f64())
}

/// Connects, after a wait.
pub(super) async fn connect(settings: &Settings, wait: Duration) -> Result<(Connection, Place), Failure> {
    tokio::time::sleep(wait).await;
    Ok(amqp::connect(&settings.connection, &settings.relay, &settings.purpose).await?)
}

/// A channel in confirm mode, on which the exchange is known to be there.
pub(super) async fn channel(connection: &Connection, place: &Place, settings: &Settings) -> Result<Channel, Failure> {
    let channel = answer(place, "opening a channel", connection.create_channel()).await?;
    answer(place, "confirm.select", channel.confirm_select(ConfirmSelectOptions::default())).await?;
    match &settings.declare {
        Some(kind) => {
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            declare(&channel, place, settings, exchange_kind(kind), options).await?;
        }
        // The nameless exchange is always there, and no broker lets it be declared, not even passively.
        None if settings.exchange.as_str().is_empty() => {}
        // Passive: asks, needs no right, declares nothing. Publishing to an exchange that isn't there would close the channel
        // for everything that was published with it.
        None => {
            let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
            declare(&channel, place, settings, ExchangeKind::default(), options).await?;
        }
    }
    Ok(channel)
}

async fn declare(
    channel: &Channel,
    place: &Place,
    settings: &Settings,
    kind: ExchangeKind,
    options: ExchangeDeclareOptions,
) -> Result<(), Failure> {
    let declaring = channel.exchange_declare(settings.exchange.clone(), kind, options, FieldTable::default());
    answer(place, "exchange.declare", declaring).await.map_err(|problem| {
        let is_of_exchange =
            matches!(problem.kind, ProblemKind::Missing | ProblemKind::Forbidden | ProblemKind::Mismatch);
        let mut failure = Failure::from(problem);
        if is_of_exchange && settings.declare.is_none() {
            failure.cause.push_str(CAN_DECLARE);
        }
        failure
    })
}

fn exchange_kind(kind: &str) -> ExchangeKind {
    match kind {
        "direct" => ExchangeKind::Direct,
        "fanout" => ExchangeKind::Fanout,
        "headers" => ExchangeKind::Headers,
        "topic" => ExchangeKind::Topic,
        other => ExchangeKind::Custom(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_between_tries_grows_to_its_bound_and_is_spread() {
        assert_eq!(backoff(0), Duration::ZERO);
        for failures in [1, 2, 5, 6, 100, u32::MAX] {
            let longest = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures - 1)).min(MAX_BACKOFF);
            let waits: Vec<_> = (0..100).map(|_| backoff(failures)).collect();
            assert!(waits.iter().all(|wait| *wait <= longest));
            assert!(waits.iter().any(|wait| *wait != waits[0]));
        }
    }
}
