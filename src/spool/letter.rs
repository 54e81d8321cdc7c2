//! What is kept of a message that could not be read, or of an event that could not be delivered.

use std::sync::Arc;

use uuid::Uuid;

use crate::event::{Event, Invalid, Message, Reason};
use crate::rules::SinkName;

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
    /// How many attempts there were.
    pub attempts: u32,
    /// As received: properties, headers and bytes.
    pub message: Arc<Message>,
}

impl DeadLetter {
    /// A message that can't be read.
    #[must_use]
    pub fn unreadable(invalid: Invalid, message: Arc<Message>) -> Self {
        Self {
            reason: invalid.reason,
            detail: invalid.detail,
            sink: None,
            tenant: invalid.tenant,
            status: invalid.status,
            correlation_id: invalid.correlation_id,
            event_id: None,
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
            attempts: 0,
            message,
        }
    }

    /// The same, for that sink after so many attempts.
    #[must_use]
    pub fn for_sink(mut self, sink: SinkName, attempts: u32) -> Self {
        self.sink = Some(sink);
        self.attempts = attempts;
        self
    }
}
