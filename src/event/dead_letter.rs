//! The copy of a dead letter for a sink: the message as received, with headers that say why it is a dead letter.
//!
//! Such a copy is delivered like an event. Of an event's fields it has only the source and the tenant.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::{Event, HeaderValue, Message, Outcome, Reason};

/// The type of a copy, in place of a family's type.
pub const DEAD_LETTER: &str = "regards-relay.dead-letter";

const NUMBER: &str = "regards-relay-dead-letter";
const REASON: &str = "regards-relay-reason";
const DETAIL: &str = "regards-relay-detail";
const SINK: &str = "regards-relay-sink";
const ATTEMPTS: &str = "regards-relay-attempts";
const AT: &str = "regards-relay-at";

/// The prefix of the relay's own headers.
pub const RELAY_HEADER_PREFIX: &str = "regards-relay-";
/// Counts the relays that a message went through.
pub const HOPS_HEADER: &str = "regards-relay-hops";

/// Whether the header is one of the relay's own, in upper or lower case.
#[must_use]
pub fn is_relay_header(name: &str) -> bool {
    name.get(..RELAY_HEADER_PREFIX.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(RELAY_HEADER_PREFIX))
}

/// Whether a broker may act on a header of this name, in upper or lower case: `RabbitMQ` routes by `CC` and `BCC`, and `x-…` are its
/// own and its plugins'.
#[must_use]
pub fn is_broker_header(name: &str) -> bool {
    name.eq_ignore_ascii_case("cc")
        || name.eq_ignore_ascii_case("bcc")
        || name.get(..2).is_some_and(|begin| begin.eq_ignore_ascii_case("x-"))
}

/// What the headers of a copy say.
#[derive(Debug, Clone)]
pub struct DeadLetterInfo<'a> {
    /// The id of the dead letter in the spool.
    pub number: i64,
    pub reason: Reason,
    /// The reason in a sentence, or the answer of the destination.
    pub detail: &'a str,
    /// The sink that the delivery failed for.
    pub sink: Option<&'a str>,
    pub attempts: u32,
    pub at: String, // RFC 3339
}

impl Message {
    /// The same message with these headers, in place of the relay headers that it has.
    #[must_use]
    pub fn with_dead_letter_headers(&self, info: &DeadLetterInfo<'_>) -> Self {
        let mut copy = self.clone();
        copy.redelivered = false;
        copy.properties.headers.retain(|(name, _)| !is_relay_header(name) || name == HOPS_HEADER);
        let text = |text: &str| HeaderValue::Text(text.replace(char::is_control, " "));
        let headers = [
            (NUMBER, Some(HeaderValue::Integer(info.number))),
            (REASON, Some(text(info.reason.as_str()))),
            (DETAIL, Some(text(info.detail))),
            (SINK, info.sink.map(text)),
            (ATTEMPTS, Some(HeaderValue::Integer(info.attempts.into()))),
            (AT, Some(text(&info.at))),
        ];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        copy.properties.headers.extend(headers);
        copy
    }

    pub(super) fn dead_letter_reason(&self) -> Option<&str> {
        self.text_header(REASON)
    }

    pub(super) fn dead_letter_sink(&self) -> Option<&str> {
        self.text_header(SINK)
    }

    fn text_header(&self, name: &str) -> Option<&str> {
        match self.properties.header(name) {
            Some(HeaderValue::Text(text)) => Some(text),
            _ => None,
        }
    }
}

impl Event {
    /// The event of a [copy](Message::with_dead_letter_headers) in a delivery: it has only the source and the tenant. An empty
    /// tenant is an unknown one.
    #[must_use]
    pub fn of_dead_letter(message: &Message, tenant: &Arc<str>, id: Uuid) -> Self {
        Self {
            id,
            kind: DEAD_LETTER,
            source: message.source.clone(),
            tenant: Arc::clone(tenant),
            status: "",
            outcome: Outcome::Failed,
            correlation_id: message.properties.correlation_id.clone().unwrap_or_default(),
            product_id: None,
            session: None,
            expires: None,
            message: None,
            time: None,
            extra: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }
}
