//! The verdicts of a window, which is a batch of messages published together on one channel. They are known once every
//! confirm of the window has come.
//!
//! A broker returns an unroutable message and then confirms it like any other. lapin attaches a returned message to whichever
//! confirm comes next, so a confirm does not say whether its own message was returned. But each return comes before the
//! confirm of its message, and each confirm takes one return: after all confirms, all returns are known. Returned messages are
//! recognized by `message_id` and attempt, never by the confirm that they came with.

use std::collections::HashMap;

use lapin::BasicProperties;
use lapin::Confirmation;
use lapin::message::BasicReturnMessage;
use lapin::types::AMQPValue;
use uuid::Uuid;

use super::request::ATTEMPT;
use crate::sink::{AttemptId, Blame, Verdict};
use crate::telemetry::printable;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PublishId {
    /// The `message_id`: the event's id.
    pub id: Uuid,
    pub attempt: AttemptId,
}

#[derive(Debug)]
pub(super) struct Confirm {
    pub ack: bool,
    /// A returned message of this window, not necessarily the confirmed one.
    pub returned: Option<ReturnedMessage>,
}

/// A message that the broker returned as unroutable.
#[derive(Debug)]
pub(super) struct ReturnedMessage {
    /// `None` if the message can't be identified.
    pub publish_id: Option<PublishId>,
    /// The broker's reply code and text.
    pub reason: String,
}

impl Confirm {
    /// `None` if the channel isn't in confirm mode.
    pub(super) fn from_lapin(confirmation: Confirmation) -> Option<Self> {
        match confirmation {
            Confirmation::Ack(returned) => Some(Self { ack: true, returned: returned.map(ReturnedMessage::from) }),
            Confirmation::Nack(returned) => Some(Self { ack: false, returned: returned.map(ReturnedMessage::from) }),
            Confirmation::NotRequested => None,
        }
    }
}

impl From<BasicReturnMessage> for ReturnedMessage {
    fn from(message: BasicReturnMessage) -> Self {
        let reason = format!("{} {}", message.reply_code, printable(message.reply_text.as_str()));
        Self { publish_id: publish_id(&message.delivery.properties), reason }
    }
}

fn publish_id(properties: &BasicProperties) -> Option<PublishId> {
    let id = properties.message_id().as_ref()?.as_str().parse().ok()?;
    match properties.headers().as_ref()?.inner().get(ATTEMPT)? {
        AMQPValue::LongLongInt(attempt) => Some(PublishId { id, attempt: AttemptId(attempt.cast_unsigned()) }),
        _ => None,
    }
}

/// Which messages of a whole window were delivered, or the verdicts of those that were not, in the order of `sent`. `confirms`
/// has the same order.
pub(super) fn verdicts(sent: &[PublishId], confirms: Vec<Confirm>) -> Vec<Result<(), Verdict>> {
    let complete = confirms.len() == sent.len();
    let mut returned = HashMap::new();
    let mut unknown = None;
    let mut acks = Vec::with_capacity(confirms.len());
    for confirm in confirms {
        acks.push(confirm.ack);
        match confirm.returned {
            Some(ReturnedMessage { publish_id: Some(publish_id), reason }) if sent.contains(&publish_id) => {
                returned.insert(publish_id, reason);
            }
            Some(ReturnedMessage { reason, .. }) => unknown = Some(reason),
            None => {}
        }
    }
    sent.iter()
        .enumerate()
        .map(|(index, publish_id)| match (returned.remove(publish_id), acks.get(index), &unknown) {
            (Some(reason), _, _) => delivery_failure(format!(
                "the broker returned the message as unroutable ({reason}); bind a queue for its routing key, or change the sink's `routing_key`"
            )),
            (None, Some(false), _) => delivery_failure(
                "the broker rejected the message (nack): a queue that it is routed to is full or not available".to_owned(),
            ),
            // An unknown message of the window was returned, so none may count as delivered.
            (None, Some(true), Some(reason)) => delivery_failure(format!(
                "the broker returned one of {} messages, which can't be identified ({reason}), so none counts as delivered",
                sent.len()
            )),
            (None, Some(true), None) if complete => Ok(()),
            (None, _, _) => Err(Verdict::Retry {
                after: None,
                cause: "the broker did not confirm every message that was published together with this one".to_owned(),
                blame: Blame::Sink,
            }),
        })
        .collect()
}

fn delivery_failure(cause: String) -> Result<(), Verdict> {
    Err(Verdict::Retry { after: None, cause, blame: Blame::Delivery })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish_ids(count: u64) -> Vec<PublishId> {
        (0..count).map(|n| PublishId { id: Uuid::from_u128(u128::from(n)), attempt: AttemptId(100 + n) }).collect()
    }

    fn ack(returned: Option<PublishId>) -> Confirm {
        let returned = returned
            .map(|publish_id| ReturnedMessage { publish_id: Some(publish_id), reason: "312 NO_ROUTE".to_owned() });
        Confirm { ack: true, returned }
    }

    fn words(verdicts: &[Result<(), Verdict>]) -> Vec<&str> {
        verdicts
            .iter()
            .map(|verdict| match verdict {
                Ok(()) => "delivered",
                Err(Verdict::Retry { cause, blame: Blame::Delivery, .. }) if cause.contains("as unroutable") => {
                    "returned"
                }
                Err(Verdict::Retry { cause, blame: Blame::Delivery, .. }) if cause.contains("nack") => "nacked",
                Err(Verdict::Retry { blame: Blame::Delivery, .. }) => "unknown",
                Err(Verdict::Retry { .. }) => "retry",
                Err(verdict) => panic!("{verdict:?}"),
            })
            .collect()
    }

    #[test]
    fn a_returned_message_is_found_whichever_confirm_it_comes_with() {
        let sent = publish_ids(4);
        for bringer in 0..4 {
            for lost in 0..4 {
                let confirms = (0..4).map(|n| ack((n == bringer).then(|| sent[lost]))).collect();
                let expected: Vec<_> = (0..4).map(|n| if n == lost { "returned" } else { "delivered" }).collect();
                assert_eq!(words(&verdicts(&sent, confirms)), expected);
            }
        }
    }

    #[test]
    fn two_copies_of_one_event_are_told_apart_by_their_attempts() {
        let id = Uuid::from_u128(7);
        let sent = [PublishId { id, attempt: AttemptId(1) }, PublishId { id, attempt: AttemptId(2) }];
        assert_eq!(words(&verdicts(&sent, vec![ack(Some(sent[1])), ack(None)])), ["delivered", "returned"]);
    }

    #[test]
    fn a_nack_rejects_its_own_message_only() {
        let sent = publish_ids(3);
        let confirms = vec![ack(None), Confirm { ack: false, returned: None }, ack(None)];
        assert_eq!(words(&verdicts(&sent, confirms)), ["delivered", "nacked", "delivered"]);
    }

    #[test]
    fn a_window_with_an_unidentified_return_delivers_no_message() {
        let sent = publish_ids(3);
        let stranger = PublishId { id: sent[0].id, attempt: AttemptId(99) };
        for publish_id in [None, Some(stranger)] {
            let returned = Some(ReturnedMessage { publish_id, reason: String::new() });
            let confirms = vec![ack(None), Confirm { ack: true, returned }, ack(Some(sent[2]))];
            assert_eq!(words(&verdicts(&sent, confirms)), ["unknown", "unknown", "returned"]);
        }
    }

    #[test]
    fn a_window_with_a_missing_confirm_delivers_no_message() {
        assert_eq!(words(&verdicts(&publish_ids(2), vec![ack(None)])), ["retry", "retry"]);
    }

    #[test]
    fn a_returned_message_is_identified_by_its_properties() {
        let outgoing = crate::sink::RenderedDelivery {
            id: Uuid::from_u128(5),
            destination: crate::sink::Destination::Amqp {
                exchange: "e".to_owned(),
                routing_key: "k".to_owned(),
                properties: Box::new(crate::event::Properties {
                    message_id: Some(Uuid::from_u128(5).to_string()),
                    ..Default::default()
                }),
            },
            headers: Vec::new(),
            body: bytes::Bytes::new(),
        };
        for attempt in [0, 7, u64::MAX] {
            let publish = super::super::request::PublishRequest::new(outgoing.clone(), AttemptId(attempt)).unwrap();
            assert_eq!(
                publish_id(&publish.properties),
                Some(PublishId { id: Uuid::from_u128(5), attempt: AttemptId(attempt) })
            );
        }
        assert_eq!(publish_id(&BasicProperties::default()), None);
    }
}
