//! A dead letter: a message that could not be read, or an event that could not be delivered.

use std::sync::Arc;

use uuid::Uuid;

use super::delivery::SpooledDelivery;
use super::row_size::{CurrentPage, DeadLetterLengths, RowSize, field_size};
use crate::clock::{MonotonicTime, Timestamp};
use crate::event::{DEAD_LETTER, DeadLetterInfo, DecodeError, Event, Message, NAMESPACE, Reason, version_5};
use crate::journal::{DeliveryEnd, DeliveryRecord, Journal, short_detail};
use crate::rules::{RouteName, SinkName};

/// The detail is cut to this length, in bytes.
const MAX_DETAIL: usize = 4 * 1024;

/// A message that is kept until a person has dealt with it. The spool adds the time when it stores it.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub reason: Reason,
    /// What was found and what was expected, or what the destination answered.
    pub detail: String,
    /// The sink that the event could not be delivered to; none: the message is for no sink, or for all.
    pub sink: Option<SinkName>,
    pub tenant: Option<String>,
    pub status: Option<String>,
    pub correlation_id: Option<String>,
    /// None: the message never became an event.
    pub event_id: Option<Uuid>,
    pub kind: Option<String>,
    /// The route that chose the sink.
    pub route: Option<RouteName>,
    pub attempts: u32,
    /// As received: properties, headers and bytes.
    pub message: Arc<Message>,
}

impl DeadLetter {
    /// A dead letter of a message that can't be decoded.
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

    /// A dead letter of a valid event that no route matches or that can't be delivered. [`for_sink`](Self::for_sink) names the sink.
    #[must_use]
    pub fn of_event(event: &Event, message: Arc<Message>, reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            sink: None,
            tenant: Some(event.tenant.to_string()),
            status: Some(event.status.to_owned()),
            correlation_id: Some(event.request_name().into_owned()),
            event_id: Some(event.id),
            kind: Some(event.kind.to_owned()),
            route: None,
            attempts: 0,
            message,
        }
    }

    /// A dead letter of an event that can't be delivered to `sink`, which `route` chose.
    #[must_use]
    pub fn for_sink(mut self, sink: SinkName, route: Option<RouteName>, attempts: u32) -> Self {
        self.sink = Some(sink);
        self.route = route;
        self.attempts = attempts;
        self
    }
}

/// A dead letter with the values of its row. It is made once, and may be written repeatedly.
#[derive(Debug)]
pub(super) struct DeadLetterRow {
    /// Assigned once, so that writing the row again after a commit with an unknown outcome doesn't add a second one.
    pub(super) id: i64,
    pub(super) at: Timestamp,
    pub(super) letter: DeadLetter,
    /// It replaces a message that was just received, and not a delivery in the spool.
    pub(super) is_received: bool,
    pub(super) properties: String,
    /// Identifies the message when it is redelivered.
    pub(super) identity: [u8; 16],
    pub(super) size: u64,
}

impl DeadLetterRow {
    pub(super) fn new(id: i64, letter: DeadLetter, is_received: bool, current_page: &mut CurrentPage) -> Self {
        let properties = letter.message.properties.to_json();
        Self::with_properties(id, letter, is_received, properties, current_page)
    }

    /// [`new`](Self::new) with properties as JSON, or as text that is no JSON.
    pub(super) fn with_properties(
        id: i64,
        mut letter: DeadLetter,
        is_received: bool,
        properties: String,
        current_page: &mut CurrentPage,
    ) -> Self {
        cut(&mut letter.detail, MAX_DETAIL);
        let identity = letter.event_id.map_or_else(|| letter.message.fingerprint().to_be_bytes(), Uuid::into_bytes);
        let size = current_page.add(&row_size(&letter, &properties));
        Self { id, at: Timestamp::now(), letter, is_received, properties, identity, size }
    }

    /// Records that the event, or its delivery to a sink, became this dead letter.
    pub(super) fn record(&self, journal: &Journal) {
        let DeadLetter { event_id: Some(event), correlation_id: Some(correlation_id), .. } = &self.letter else {
            return;
        };
        let delivery = DeliveryRecord {
            event: event.into_bytes(),
            sink: self.letter.sink.as_ref().map(SinkName::as_str),
            attempts: self.letter.attempts,
            at: self.at.wall.0,
            replayed: false,
            duration: None,
            last_error: None,
            end: DeliveryEnd::DeadLetter {
                number: self.id,
                reason: self.letter.reason.as_str(),
                detail: short_detail(&self.letter.detail),
            },
        };
        journal.record_delivery(correlation_id, &delivery);
    }

    /// Its copy for `dead_letters.to`, with an ordering key of its own.
    pub(super) fn copy(&self, sink: SinkName) -> SpooledDelivery {
        let letter = &self.letter;
        let death = DeadLetterInfo {
            number: self.id,
            reason: letter.reason,
            detail: &letter.detail,
            sink: letter.sink.as_ref().map(SinkName::as_str),
            attempts: letter.attempts,
            at: self.at.wall.to_rfc3339(),
        };
        // One message can have several dead letters, each with a copy.
        let id = version_5(&NAMESPACE, [&self.identity[..], &self.id.to_be_bytes()]);
        SpooledDelivery {
            sink,
            key: id.as_u64_pair().0,
            received: self.at,
            due: MonotonicTime::now(),
            attempts: 0,
            refusals: 0,
            last_error: None,
            route: None,
            kind: DEAD_LETTER.to_owned(),
            tenant: letter.tenant.as_deref().unwrap_or_default().into(),
            event_id: id,
            message: Arc::new(letter.message.with_dead_letter_headers(&death)),
            group: None,
            digest: None,
            may_be_known: false,
            replayed: false,
        }
    }
}

fn row_size(letter: &DeadLetter, properties: &str) -> RowSize {
    let texts = [
        letter.detail.as_str(),
        letter.tenant.as_deref().unwrap_or_default(),
        letter.status.as_deref().unwrap_or_default(),
        letter.kind.as_deref().unwrap_or_default(),
        letter.message.source.as_str(),
        letter.route.as_ref().map_or("", RouteName::as_str),
        properties,
    ];
    let texts: usize = texts.into_iter().map(|text| field_size(text.len())).sum();
    RowSize::of_dead_letter(DeadLetterLengths {
        sink: letter.sink.as_ref().map_or(0, |sink| sink.as_str().len()),
        reason: letter.reason.as_str().len(),
        correlation_id: letter.correlation_id.as_ref().map_or(0, String::len),
        others: texts + field_size(letter.message.body.len()),
    })
}

/// Cuts `text` to at most `bytes`, between two characters.
pub(super) fn cut(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
}
