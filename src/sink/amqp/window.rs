//! Publishes a window on its channel and waits for its confirms, or for an error after which no more can come. Then the attempts
//! of the window end.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::{Channel, ErrorKind};
use tokio::time::timeout;
use uuid::Uuid;

use super::confirms::{self, Confirm, PublishId};
use super::request::PublishRequest;
use crate::amqp::{BrokerAddress, BrokerError};
use crate::sink::{Attempt, Blame, Verdict};
use crate::telemetry::printable;

/// AMQP's reply code for a user without permission.
const ACCESS_REFUSED: u16 = 403;
/// Part of `RabbitMQ`'s text if the user may write to the exchange, but not with that routing key (`check_topic_authorisation`
/// in `rabbit_access_control.erl`).
const TOPIC_ACCESS_REFUSED: &str = "access to topic '";
/// AMQP's reply code for an exchange that doesn't exist.
const NOT_FOUND: u16 = 404;
/// AMQP's reply code for a message that the broker refuses, mostly because it is too large.
const PRECONDITION_FAILED: u16 = 406;
/// AMQP's reply code for a message on a closed channel. It was in lapin's queue when the broker closed the channel because of
/// another message, and it ends the connection.
const CHANNEL_ERROR: u16 = 504;

/// The time from the first publish of a window to its last confirm. A broker with a memory alarm accepts and confirms nothing.
pub(super) const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// The end of a window, whose attempts have their verdicts.
pub(super) struct WindowEnd {
    pub generation: u64,
    /// `None` if the channel can't be used again.
    pub channel: Option<Channel>,
    /// The broker did not confirm in time.
    pub is_timed_out: bool,
    /// Events of which the broker may have refused one.
    pub suspects: Vec<Uuid>,
    /// Events that are no longer suspects.
    pub cleared: Vec<Uuid>,
}

/// Why it is unknown which messages of a window were delivered.
#[derive(Debug)]
enum WindowError {
    /// The broker did not confirm every message within this time.
    ConfirmTimeout(Duration),
    /// The broker closed the channel or the connection because of a message of this or another window.
    Closed {
        code: u16,
        error: lapin::Error,
    },
    ConnectionLost(lapin::Error),
}

/// Publishes a window and ends its attempts.
pub(super) async fn run(
    generation: u64,
    channel: Channel,
    window: Vec<(PublishId, PublishRequest, Attempt)>,
    address: Arc<BrokerAddress>,
) -> WindowEnd {
    let (mut publish_ids, mut publishes, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
    for (publish_id, publish, attempt) in window {
        publish_ids.push(publish_id);
        let attempt = (attempt, publish.confirmation());
        publishes.push(publish);
        attempts.push(attempt);
    }
    let ids = || publish_ids.iter().map(|publish_id| publish_id.id).collect::<Vec<_>>();
    let mut ended =
        WindowEnd { generation, channel: None, is_timed_out: false, suspects: Vec::new(), cleared: Vec::new() };
    let verdicts = match publish(&channel, publishes, CONFIRM_TIMEOUT).await {
        Ok(confirms) => {
            ended.channel = Some(channel);
            ended.cleared = ids();
            confirms::verdicts(&publish_ids, confirms)
        }
        Err(error) => {
            ended.is_timed_out = matches!(error, WindowError::ConfirmTimeout(_));
            let verdict = error.verdict(publish_ids.len(), &address);
            if matches!(verdict, Verdict::Refused { .. }) {
                ended.cleared = ids();
            } else if error.blames_one_message() {
                ended.suspects = ids();
            }
            vec![Err(verdict); publish_ids.len()]
        }
    };
    for ((attempt, confirmation), verdict) in attempts.into_iter().zip(verdicts) {
        attempt.end(verdict.map_or_else(|failure| failure, |()| Verdict::Delivered(confirmation)));
    }
    ended
}

/// Publishes all messages as mandatory and waits at most `limit` for their confirms, which have the order of the messages.
async fn publish(channel: &Channel, window: Vec<PublishRequest>, limit: Duration) -> Result<Vec<Confirm>, WindowError> {
    timeout(limit, publish_and_confirm(channel, window)).await.unwrap_or(Err(WindowError::ConfirmTimeout(limit)))
}

async fn publish_and_confirm(channel: &Channel, window: Vec<PublishRequest>) -> Result<Vec<Confirm>, WindowError> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut failure = None;
    let mut pending = Vec::with_capacity(window.len());
    for PublishRequest { exchange, routing_key, properties, body, .. } in window {
        // Waits until the message is written before the next one is queued: lapin also sends what is in its queue when the
        // broker closes the channel, and that would end the whole connection.
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
            Ok(confirmation) => confirms.extend(Confirm::from_lapin(confirmation)),
            // The broker's own error says more than the error that the channel is closed.
            Err(error) if failure.as_ref().is_none_or(|known| !known.is_amqp_error()) => failure = Some(error),
            Err(_) => {}
        }
    }
    failure.map_or(Ok(confirms), |error| Err(window_error(error)))
}

fn window_error(error: lapin::Error) -> WindowError {
    match error.kind() {
        ErrorKind::ProtocolError(words) if error.is_amqp_soft_error() || words.get_id() == CHANNEL_ERROR => {
            WindowError::Closed { code: words.get_id(), error }
        }
        _ => WindowError::ConnectionLost(error),
    }
}

impl WindowError {
    /// Whether one message is at fault, and it is unknown which one.
    fn blames_one_message(&self) -> bool {
        matches!(self, Self::Closed { .. }) && !self.blames_exchange()
    }

    /// Whether the exchange doesn't exist or the user may not write to it, which affects all messages. The permission for one
    /// routing key doesn't.
    fn blames_exchange(&self) -> bool {
        match self {
            Self::Closed { code: NOT_FOUND, .. } => true,
            Self::Closed { code: ACCESS_REFUSED, error } => !broker_text(error).contains(TOPIC_ACCESS_REFUSED),
            _ => false,
        }
    }

    /// The verdict of each of the `messages` messages of the window.
    fn verdict(&self, messages: usize, address: &BrokerAddress) -> Verdict {
        let retry = |cause, blame| Verdict::Retry { after: None, cause, blame };
        match self {
            Self::ConfirmTimeout(limit) => retry(
                format!(
                    "the broker did not confirm the message within {limit:?}; check whether it has a memory or disk alarm"
                ),
                Blame::Sink,
            ),
            Self::ConnectionLost(error) => retry(BrokerError::from_lapin(error, address).to_string(), Blame::Sink),
            Self::Closed { code: PRECONDITION_FAILED, error } if messages == 1 => {
                Verdict::Refused { cause: format!("the broker refuses the message ({})", broker_text(error)) }
            }
            Self::Closed { error, .. } if self.blames_exchange() => {
                retry(BrokerError::from_lapin(error, address).to_string(), Blame::Sink)
            }
            Self::Closed { error, .. } if messages == 1 => {
                retry(BrokerError::from_lapin(error, address).to_string(), Blame::Delivery)
            }
            Self::Closed { error, .. } => retry(
                format!(
                    "the broker refuses one of the {messages} messages that were published together ({}); each is published alone next",
                    broker_text(error)
                ),
                Blame::Delivery,
            ),
        }
    }
}

fn broker_text(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(words) => printable(words.get_message().as_str()).into_owned(),
        _ => printable(&error.to_string()).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    fn closed(code: u16) -> WindowError {
        saying(code, &format!("{code} - words of\nthe broker"))
    }

    fn saying(code: u16, words: &str) -> WindowError {
        let words = AMQPError::from_id(code, words.into()).unwrap();
        window_error(ErrorKind::ProtocolError(words).into())
    }

    fn kind(error: &WindowError, messages: usize) -> &'static str {
        match error.verdict(messages, &BrokerAddress::default()) {
            Verdict::Delivered(_) => "delivered",
            Verdict::Refused { .. } => "refused",
            Verdict::Unfit { .. } => "unfit",
            Verdict::Retry { blame: Blame::Sink, .. } => "sink",
            Verdict::Retry { blame: Blame::Delivery, .. } => "delivery",
            Verdict::Retry { .. } => "relay",
        }
    }

    #[test]
    fn a_window_error_blames_the_sink_or_one_message() {
        let lost = || WindowError::ConnectionLost(ErrorKind::MissingHeartbeatError.into());
        for (error, alone, together, because_of_one) in [
            (WindowError::ConfirmTimeout(Duration::from_secs(30)), "sink", "sink", false),
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
            assert_eq!(kind(&error, 1), alone, "{error:?}");
            assert_eq!(kind(&error, 256), together, "{error:?}");
            assert_eq!(error.blames_one_message(), because_of_one, "{error:?}");
        }
    }

    #[test]
    fn the_broker_s_text_is_kept_on_one_line() {
        let Verdict::Refused { cause } = closed(406).verdict(1, &BrokerAddress::default()) else { panic!() };
        assert_eq!(cause, r"the broker refuses the message (406 - words of\nthe broker)");
    }
}
