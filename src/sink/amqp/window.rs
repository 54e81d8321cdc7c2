//! A window: messages published together on one channel, none of them settled before every confirm is in.
//!
//! A broker returns an unroutable message and then confirms it like any other. lapin hands what was returned to whichever
//! confirm comes next, so a confirm says nothing about its own message but that it came; which ones were returned is known
//! only once all are in: a return comes before its own confirm, and each confirm takes one return along. They are found by
//! `message_id` and attempt, never by the confirm that brought them.

use std::collections::HashMap;

use lapin::BasicProperties;
use lapin::Confirmation;
use lapin::message::BasicReturnMessage;
use lapin::types::AMQPValue;
use uuid::Uuid;

use super::publish::ATTEMPT;
use crate::amqp::escape;
use crate::sink::{AttemptId, Blame, Verdict};

/// What makes one published message recognizable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark {
    /// The `message_id`: the event's id.
    pub id: Uuid,
    /// The attempt's number.
    pub attempt: AttemptId,
}

/// What one confirm said.
#[derive(Debug)]
pub(super) struct Confirm {
    /// The broker has taken the message; otherwise it could not.
    pub ack: bool,
    /// A message that was returned, of this window, but not necessarily this one.
    pub returned: Option<Returned>,
}

/// A message that came back.
#[derive(Debug)]
pub(super) struct Returned {
    /// Which; none if it can't be told.
    pub mark: Option<Mark>,
    /// Why, in the broker's words.
    pub reason: String,
}

impl Confirm {
    /// From lapin's. None where the channel isn't in confirm mode.
    pub(super) fn read(confirmation: Confirmation) -> Option<Self> {
        match confirmation {
            Confirmation::Ack(returned) => Some(Self { ack: true, returned: returned.map(Returned::from) }),
            Confirmation::Nack(returned) => Some(Self { ack: false, returned: returned.map(Returned::from) }),
            Confirmation::NotRequested => None,
        }
    }
}

impl From<BasicReturnMessage> for Returned {
    fn from(message: BasicReturnMessage) -> Self {
        let reason = format!("{} {}", message.reply_code, escape(message.reply_text.as_str()));
        Self { mark: mark(&message.delivery.properties), reason }
    }
}

fn mark(properties: &BasicProperties) -> Option<Mark> {
    let id = properties.message_id().as_ref()?.as_str().parse().ok()?;
    match properties.headers().as_ref()?.inner().get(ATTEMPT)? {
        AMQPValue::LongLongInt(attempt) => Some(Mark { id, attempt: AttemptId(attempt.cast_unsigned()) }),
        _ => None,
    }
}

/// The verdicts of a whole window, in the order of `sent`. `confirms` are all of them, each at its message's place.
pub(super) fn settle(sent: &[Mark], confirms: Vec<Confirm>) -> Vec<Verdict> {
    let complete = confirms.len() == sent.len();
    let mut returned = HashMap::new();
    let mut unknown = None;
    let mut acks = Vec::with_capacity(confirms.len());
    for confirm in confirms {
        acks.push(confirm.ack);
        match confirm.returned {
            Some(Returned { mark: Some(mark), reason }) if sent.contains(&mark) => {
                returned.insert(mark, reason);
            }
            Some(Returned { reason, .. }) => unknown = Some(reason),
            None => {}
        }
    }
    sent.iter()
        .enumerate()
        .map(|(place, mark)| match (returned.remove(mark), acks.get(place), &unknown) {
            (Some(reason), _, _) => delivery(format!(
                "no queue is bound for it: the broker returned it ({reason}); bind a queue for its routing key, or change the sink's"
            )),
            (None, Some(false), _) => delivery(
                "the broker could not take it (nack): a queue it goes to is full or not available".to_owned(),
            ),
            // Some message of the window came back, and it can't be told which: none may count as delivered.
            (None, Some(true), Some(reason)) => delivery(format!(
                "one of {} messages came back and can't be recognized ({reason}), so none counts as delivered",
                sent.len()
            )),
            (None, Some(true), None) if complete => Verdict::Delivered,
            (None, _, _) => Verdict::Retry {
                after: None,
                cause: "the broker did not confirm every message of its window".to_owned(),
                blame: Blame::Sink,
            },
        })
        .collect()
}

fn delivery(cause: String) -> Verdict {
    Verdict::Retry { after: None, cause, blame: Blame::Delivery }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(count: u64) -> Vec<Mark> {
        (0..count).map(|n| Mark { id: Uuid::from_u128(u128::from(n)), attempt: AttemptId(100 + n) }).collect()
    }

    fn ack(returned: Option<Mark>) -> Confirm {
        let returned = returned.map(|mark| Returned { mark: Some(mark), reason: "312 NO_ROUTE".to_owned() });
        Confirm { ack: true, returned }
    }

    fn words(verdicts: &[Verdict]) -> Vec<&str> {
        verdicts
            .iter()
            .map(|verdict| match verdict {
                Verdict::Delivered => "delivered",
                Verdict::Retry { cause, blame: Blame::Delivery, .. } if cause.contains("returned") => "returned",
                Verdict::Retry { cause, blame: Blame::Delivery, .. } if cause.contains("nack") => "nacked",
                Verdict::Retry { blame: Blame::Delivery, .. } => "unknown",
                Verdict::Retry { .. } => "retry",
                Verdict::Refused { .. } => "refused",
            })
            .collect()
    }

    #[test]
    fn a_returned_message_is_found_whichever_confirm_brings_it() {
        let sent = marks(4);
        for bringer in 0..4 {
            for lost in 0..4 {
                let confirms = (0..4).map(|n| ack((n == bringer).then(|| sent[lost]))).collect();
                let expected: Vec<_> = (0..4).map(|n| if n == lost { "returned" } else { "delivered" }).collect();
                assert_eq!(words(&settle(&sent, confirms)), expected);
            }
        }
    }

    #[test]
    fn two_copies_of_one_event_are_told_apart_by_their_attempts() {
        let id = Uuid::from_u128(7);
        let sent = [Mark { id, attempt: AttemptId(1) }, Mark { id, attempt: AttemptId(2) }];
        assert_eq!(words(&settle(&sent, vec![ack(Some(sent[1])), ack(None)])), ["delivered", "returned"]);
    }

    #[test]
    fn a_nack_speaks_of_its_own_message() {
        let sent = marks(3);
        let confirms = vec![ack(None), Confirm { ack: false, returned: None }, ack(None)];
        assert_eq!(words(&settle(&sent, confirms)), ["delivered", "nacked", "delivered"]);
    }

    #[test]
    fn a_return_that_can_t_be_recognized_leaves_nothing_of_the_window_delivered() {
        let sent = marks(3);
        let stranger = Mark { id: sent[0].id, attempt: AttemptId(99) };
        for mark in [None, Some(stranger)] {
            let returned = Some(Returned { mark, reason: String::new() });
            let confirms = vec![ack(None), Confirm { ack: true, returned }, ack(Some(sent[2]))];
            assert_eq!(words(&settle(&sent, confirms)), ["unknown", "unknown", "returned"]);
        }
    }

    #[test]
    fn a_window_with_a_confirm_missing_delivers_nothing() {
        assert_eq!(words(&settle(&marks(2), vec![ack(None)])), ["retry", "retry"]);
    }

    #[test]
    fn marks_are_read_from_what_comes_back() {
        let outgoing = crate::sink::Outgoing {
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
            let publish = super::super::publish::Publish::new(outgoing.clone(), AttemptId(attempt)).unwrap();
            assert_eq!(mark(&publish.properties), Some(Mark { id: Uuid::from_u128(5), attempt: AttemptId(attempt) }));
        }
        assert_eq!(mark(&BasicProperties::default()), None);
    }
}
