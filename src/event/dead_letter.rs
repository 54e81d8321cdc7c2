//! What a sink gets of a dead letter: the message as received, with headers that say why it died.
//!
//! Such a copy goes the way of an event, and is one to whoever delivers it; there is nothing in it but where it came from.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::{Event, HeaderValue, Message, Outcome, Reason};

/// The type of a copy, where events have their family's.
pub const DEAD_LETTER: &str = "regards-relay.dead-letter";

/// The number that the dead letter is kept under.
const NUMBER: &str = "regards-relay-dead-letter";
const REASON: &str = "regards-relay-reason";
const DETAIL: &str = "regards-relay-detail";
const SINK: &str = "regards-relay-sink";
const ATTEMPTS: &str = "regards-relay-attempts";
const AT: &str = "regards-relay-at";

/// What the relay's own headers begin with.
pub const OUR_HEADERS: &str = "regards-relay-";
/// How many relays a message went through.
pub const HOPS: &str = "regards-relay-hops";

/// Whether a header of that name is one of the relay's own, in whatever case it is written.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    name.get(..OUR_HEADERS.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(OUR_HEADERS))
}

/// How a message came to be a dead letter.
#[derive(Debug, Clone)]
pub struct Death<'a> {
    /// The number that it is kept under.
    pub number: i64,
    /// The stable word.
    pub reason: Reason,
    /// What was found and what was expected, or what the destination said.
    pub detail: &'a str,
    /// The sink that could not be served.
    pub sink: Option<&'a str>,
    /// How many attempts there were.
    pub attempts: u32,
    /// When, as RFC 3339.
    pub at: String,
}

impl Message {
    /// The same message, with headers that say how it died in place of those of a relay that it went through.
    #[must_use]
    pub fn with_death(&self, death: &Death<'_>) -> Self {
        let mut copy = self.clone();
        copy.redelivered = false;
        copy.properties.headers.retain(|(name, _)| !is_ours(name) || name == HOPS);
        let text = |text: &str| HeaderValue::Text(text.replace(char::is_control, " "));
        let headers = [
            (NUMBER, Some(HeaderValue::Integer(death.number))),
            (REASON, Some(text(death.reason.as_str()))),
            (DETAIL, Some(text(death.detail))),
            (SINK, death.sink.map(text)),
            (ATTEMPTS, Some(HeaderValue::Integer(death.attempts.into()))),
            (AT, Some(text(&death.at))),
        ];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        copy.properties.headers.extend(headers);
        copy
    }

    /// Why it died.
    pub(super) fn reason_of_death(&self) -> Option<&str> {
        self.text_header(REASON)
    }

    /// The sink that could not be served.
    pub(super) fn sink_of_death(&self) -> Option<&str> {
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
    /// A message [`with_death`](Message::with_death), as something to deliver. An empty tenant is an unknown one.
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

    /// It is a copy of a dead letter.
    #[must_use]
    pub fn is_dead_letter(&self) -> bool {
        self.kind == DEAD_LETTER
    }
}
