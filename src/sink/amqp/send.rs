//! Publishing a window on its channel, until every confirm is in or none will come any more.

use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::{Channel, ErrorKind};
use tokio::time::timeout;

use super::publish::Publish;
use super::window::Confirm;
use crate::amqp::{Place, Problem, escape};
use crate::sink::{Blame, Verdict};

/// AMQP's reply code of what the user may not do.
const ACCESS_REFUSED: u16 = 403;
/// What `RabbitMQ` says where the user may write to the exchange, but not with that routing key (`check_topic_authorisation` in
/// `rabbit_access_control.erl`).
const TOPIC_REFUSED: &str = "access to topic '";
/// AMQP's reply code of what doesn't exist.
const NOT_FOUND: u16 = 404;
/// AMQP's reply code of what the broker refuses for what it is: too large, above all.
const PRECONDITION_FAILED: u16 = 406;
/// AMQP's reply code of a message on a channel that is closed: it was in lapin's queue when the broker closed the channel
/// for another one, and ends the connection.
const CHANNEL_ERROR: u16 = 504;

/// A window whose messages can't be told delivered from lost.
#[derive(Debug)]
pub(super) enum Broken {
    /// Not every confirm came in time.
    Silent(Duration),
    /// The broker closed the channel, or the connection with it: some message is why, of this window or of another.
    Closed {
        /// AMQP's reply code.
        code: u16,
        /// The broker's words.
        error: lapin::Error,
    },
    /// The connection is gone.
    Lost(lapin::Error),
}

/// Publishes all of them, mandatory, and waits for their confirms, at most `limit`. Each confirm stands at its message's place.
pub(super) async fn window(channel: &Channel, window: Vec<Publish>, limit: Duration) -> Result<Vec<Confirm>, Broken> {
    timeout(limit, all(channel, window)).await.unwrap_or(Err(Broken::Silent(limit)))
}

async fn all(channel: &Channel, window: Vec<Publish>) -> Result<Vec<Confirm>, Broken> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut failure = None;
    let mut pending = Vec::with_capacity(window.len());
    for Publish { exchange, routing_key, properties, body, .. } in window {
        // Resolves when it is written, and not all at once: what lapin still has in its queue when the broker closes the
        // channel it would send all the same, and that ends the whole connection.
        match channel.basic_publish(exchange, routing_key, options, &body, properties).await {
            Ok(confirm) => pending.push(confirm),
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let mut confirms = Vec::with_capacity(pending.len());
    for confirm in pending {
        match confirm.await {
            Ok(confirmation) => confirms.extend(Confirm::read(confirmation)),
            // The broker's own words say more than that the channel isn't there any more.
            Err(error) if failure.as_ref().is_none_or(|known| !known.is_amqp_error()) => failure = Some(error),
            Err(_) => {}
        }
    }
    failure.map_or(Ok(confirms), |error| Err(broken(error)))
}

fn broken(error: lapin::Error) -> Broken {
    match error.kind() {
        ErrorKind::ProtocolError(words) if error.is_amqp_soft_error() || words.get_id() == CHANNEL_ERROR => {
            Broken::Closed { code: words.get_id(), error }
        }
        _ => Broken::Lost(error),
    }
}

impl Broken {
    /// Whether one message is the reason, and it can't be told which.
    pub(super) fn is_because_of_one(&self) -> bool {
        matches!(self, Self::Closed { .. }) && !self.is_because_of_exchange()
    }

    /// The exchange isn't there, or nobody of us may write to it: that is so for all messages. A right to one topic is not.
    fn is_because_of_exchange(&self) -> bool {
        match self {
            Self::Closed { code: NOT_FOUND, .. } => true,
            Self::Closed { code: ACCESS_REFUSED, error } => !words(error).contains(TOPIC_REFUSED),
            _ => false,
        }
    }

    /// The verdict of each of so many messages.
    pub(super) fn verdict(&self, messages: usize, place: &Place) -> Verdict {
        let retry = |cause, blame| Verdict::Retry { after: None, cause, blame };
        match self {
            Self::Silent(limit) => retry(
                format!("the broker did not confirm within {limit:?}; is it under memory or disk alarm?"),
                Blame::Sink,
            ),
            Self::Lost(error) => retry(Problem::explain(error, place).to_string(), Blame::Sink),
            Self::Closed { code: PRECONDITION_FAILED, error } if messages == 1 => {
                Verdict::Refused { cause: format!("the broker refuses it: {}", words(error)) }
            }
            Self::Closed { error, .. } if self.is_because_of_exchange() => {
                retry(Problem::explain(error, place).to_string(), Blame::Sink)
            }
            Self::Closed { error, .. } if messages == 1 => {
                retry(Problem::explain(error, place).to_string(), Blame::Delivery)
            }
            Self::Closed { error, .. } => retry(
                format!(
                    "the broker refuses one of the {messages} messages it was published with ({}); it is tried alone next",
                    words(error)
                ),
                Blame::Delivery,
            ),
        }
    }
}

fn words(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(words) => escape(words.get_message().as_str()),
        _ => escape(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    fn closed(code: u16) -> Broken {
        saying(code, &format!("{code} - words of\nthe broker"))
    }

    fn saying(code: u16, words: &str) -> Broken {
        let words = AMQPError::from_id(code, words.into()).unwrap();
        broken(ErrorKind::ProtocolError(words).into())
    }

    fn kind(broken: &Broken, messages: usize) -> &'static str {
        match broken.verdict(messages, &Place::default()) {
            Verdict::Delivered => "delivered",
            Verdict::Refused { .. } => "refused",
            Verdict::Retry { blame: Blame::Sink, .. } => "sink",
            Verdict::Retry { blame: Blame::Delivery, .. } => "delivery",
            Verdict::Retry { .. } => "relay",
        }
    }

    #[test]
    fn what_breaks_a_window_speaks_of_the_sink_or_of_one_message() {
        let lost = || Broken::Lost(ErrorKind::MissingHeartbeatError.into());
        for (broken, alone, together, because_of_one) in [
            (Broken::Silent(Duration::from_secs(30)), "sink", "sink", false),
            (lost(), "sink", "sink", false),
            (closed(404), "sink", "sink", false),
            (closed(403), "sink", "sink", false),
            (
                saying(
                    403,
                    "ACCESS_REFUSED - write access to topic 'a' in exchange 'b' in vhost '/' refused for user 'c'",
                ),
                "delivery",
                "delivery",
                true,
            ),
            (closed(406), "refused", "delivery", true),
            (closed(504), "delivery", "delivery", true),
            (closed(320), "sink", "sink", false),
        ] {
            assert_eq!(kind(&broken, 1), alone, "{broken:?}");
            assert_eq!(kind(&broken, 256), together, "{broken:?}");
            assert_eq!(broken.is_because_of_one(), because_of_one, "{broken:?}");
        }
    }

    #[test]
    fn the_broker_s_words_are_kept_on_one_line() {
        let Verdict::Refused { cause } = closed(406).verdict(1, &Place::default()) else { panic!() };
        assert_eq!(cause, r"the broker refuses it: 406 - words of\nthe broker");
    }
}
