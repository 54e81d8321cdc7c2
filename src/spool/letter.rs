//! What is kept of a message that could not be read, or of an event that could not be delivered.

use std::sync::Arc;

use uuid::Uuid;

use super::delivery::Waiting;
use super::footprint::{Footprint, LastPage, LetterLengths, field};
use crate::clock::{MonotonicTime, Timestamp};
use crate::event::{DEAD_LETTER, DeadLetterInfo, DecodeError, Event, Message, NAMESPACE, Reason, version_5};
use crate::rules::{RouteName, SinkName};

/// A cause is kept so far, in bytes.
const MAX_DETAIL: usize = 4 * 1024;

/// A message that stays until a person has looked at it. When it died is set when it is stored.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The stable word.
    pub reason: Reason,
    /// What was found and what was expected, or what the destination said.
    pub detail: String,
    /// The sink that could not be served; none: the message concerns none, or all.
    pub sink: Option<SinkName>,
    /// Where it could be read.
    pub tenant: Option<String>,
    /// Where it could be read, as received.
    pub status: Option<String>,
    /// Where it could be read.
    pub correlation_id: Option<String>,
    /// None where the message never became an event.
    pub event_id: Option<Uuid>,
    /// The event's type, where there is one.
    pub kind: Option<String>,
    /// The route that chose the sink.
    pub route: Option<RouteName>,
    /// How many attempts there were.
    pub attempts: u32,
    /// As received: properties, headers and bytes.
    pub message: Arc<Message>,
}

impl DeadLetter {
    /// A message that can't be read.
    #[must_use]
    pub fn unreadable(invalid: DecodeError, message: Arc<Message>) -> Self {
        Self {
            reason: invalid.reason,
            detail: invalid.detail,
            sink: None,
            tenant: invalid.tenant,
            status: invalid.status,
            correlation_id: invalid.correlation_id,
            event_id: None,
            kind: None,
            route: None,
            attempts: 0,
            message,
        }
    }

    /// A valid event that no route takes, or that a sink can't be given. `sink` and `attempts` are to be filled in.
    #[must_use]
    pub fn of_event(event: &Event, message: Arc<Message>, reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            sink: None,
            tenant: Some(event.tenant.to_string()),
            status: Some(event.status.to_owned()),
            correlation_id: Some(event.correlation_id.clone()),
            event_id: Some(event.id),
            kind: Some(event.kind.to_owned()),
            route: None,
            attempts: 0,
            message,
        }
    }

    /// The same, for that sink, which that route chose, after so many attempts.
    #[must_use]
    pub fn for_sink(mut self, sink: SinkName, route: Option<RouteName>, attempts: u32) -> Self {
        self.sink = Some(sink);
        self.route = route;
        self.attempts = attempts;
        self
    }
}

/// A letter as it is written: made once, however often the writing fails.
#[derive(Debug)]
pub(super) struct LetterRow {
    /// Given once, so that writing it again after a commit of unknown end doesn't make two of it.
    pub(super) id: i64,
    pub(super) at: Timestamp,
    pub(super) letter: DeadLetter,
    /// It stands for a message that was just received, and not for a delivery that was in the spool.
    pub(super) is_received: bool,
    pub(super) properties: String,
    /// What its message is known by when it is redelivered.
    pub(super) identity: [u8; 16],
    pub(super) size: u64,
}

impl LetterRow {
    pub(super) fn new(id: i64, letter: DeadLetter, is_received: bool, last_page: &mut LastPage) -> Self {
        let properties = letter.message.properties.to_json();
        Self::with_properties(id, letter, is_received, properties, last_page)
    }

    /// The same with properties that are none.
    pub(super) fn with_properties(
        id: i64,
        mut letter: DeadLetter,
        is_received: bool,
        properties: String,
        last_page: &mut LastPage,
    ) -> Self {
        cut(&mut letter.detail, MAX_DETAIL);
        let identity = letter.event_id.map_or_else(|| letter.message.fingerprint().to_be_bytes(), Uuid::into_bytes);
        let size = last_page.add(&footprint(&letter, &properties));
        Self { id, at: Timestamp::now(), letter, is_received, properties, identity, size }
    }

    /// A copy of it for that sink. It waits for no other, and none waits for it.
    pub(super) fn copy(&self, sink: SinkName) -> Waiting {
        let letter = &self.letter;
        let death = DeadLetterInfo {
            number: self.id,
            reason: letter.reason,
            detail: &letter.detail,
            sink: letter.sink.as_ref().map(SinkName::as_str),
            attempts: letter.attempts,
            at: self.at.wall.to_rfc3339(),
        };
        // Of one message there can be several dead letters, and of each a copy.
        let id = version_5(&NAMESPACE, [&self.identity[..], &self.id.to_be_bytes()]);
        Waiting {
            sink,
            key: id.as_u64_pair().0,
            received: self.at,
            due: MonotonicTime::now(),
            attempts: 0,
            refusals: 0,
            cause: None,
            route: None,
            kind: DEAD_LETTER.to_owned(),
            tenant: letter.tenant.as_deref().unwrap_or_default().into(),
            event_id: id,
            message: Arc::new(letter.message.with_dead_letter_headers(&death)),
            may_be_known: false,
        }
    }
}

/// What a letter will take on disk.
fn footprint(letter: &DeadLetter, properties: &str) -> Footprint {
    let texts = [
        letter.detail.as_str(),
        letter.tenant.as_deref().unwrap_or_default(),
        letter.status.as_deref().unwrap_or_default(),
        letter.kind.as_deref().unwrap_or_default(),
        letter.message.source.as_str(),
        letter.route.as_ref().map_or("", RouteName::as_str),
        properties,
    ];
    let texts: usize = texts.into_iter().map(|text| field(text.len())).sum();
    Footprint::of_letter(LetterLengths {
        sink: letter.sink.as_ref().map_or(0, |sink| sink.as_str().len()),
        reason: letter.reason.as_str().len(),
        correlation_id: letter.correlation_id.as_ref().map_or(0, String::len),
        others: texts + field(letter.message.body.len()),
    })
}

/// Cuts `text` to at most so many bytes, between two characters.
pub(super) fn cut(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
}
