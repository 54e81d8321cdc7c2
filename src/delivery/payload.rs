//! What a delivery carries: an event, a digest of several events, or the copy of a dead letter.

use std::sync::Arc;

use super::digest::DigestEvent;
use crate::event::{DEAD_LETTER, DecodeError, DigestEnvelope, Event, EventView, Message};
use crate::spool::{RowId, SpooledDelivery};

/// Shared by all deliveries of a message.
#[derive(Debug)]
pub enum Payload {
    Event {
        event: Event,
        /// As received: for `format: original`, headers and dead letters.
        message: Arc<Message>,
    },
    /// For a sink with `group`.
    Digest {
        /// Stands in for an event: has the digest's id, and the fields that the events are grouped by.
        envelope: Box<DigestEnvelope>,
        /// In the order of receipt; at least one.
        events: Vec<DigestEvent>,
    },
    /// For the sink of `dead_letters.to`.
    DeadLetterCopy {
        /// An event of which only id, source, tenant and `correlationId` are known: the message may never have been decoded.
        envelope: Event,
        /// Its headers say why it became a dead letter.
        message: Arc<Message>,
    },
}

impl Payload {
    pub fn from_spool(row: &SpooledDelivery) -> Result<Self, Box<DecodeError>> {
        let message = Arc::clone(&row.message);
        if row.kind == DEAD_LETTER {
            let envelope = Event::of_dead_letter(&message, &row.tenant, row.event_id);
            return Ok(Self::DeadLetterCopy { envelope, message });
        }
        Ok(Self::Event { event: Event::decode_as(&message, &row.kind, &row.tenant)?, message })
    }

    /// The event, or the envelope of a copy.
    #[must_use]
    pub fn event(&self) -> &Event {
        match self {
            Self::Event { event, .. } | Self::DeadLetterCopy { envelope: event, .. } => event,
            Self::Digest { envelope, .. } => envelope.event(),
        }
    }

    /// The message; none for a digest, which has several.
    #[must_use]
    pub fn message(&self) -> Option<&Arc<Message>> {
        match self {
            Self::Event { message, .. } | Self::DeadLetterCopy { message, .. } => Some(message),
            Self::Digest { .. } => None,
        }
    }

    /// The rows of the events of a digest, in their order.
    #[must_use]
    pub fn rows(&self) -> Vec<RowId> {
        match self {
            Self::Digest { events, .. } => events.iter().map(|event| event.row).collect(),
            Self::Event { .. } | Self::DeadLetterCopy { .. } => Vec::new(),
        }
    }

    /// The view for templates and formats. A digest is rendered with its events.
    #[must_use]
    pub fn view(&self) -> EventView<'_> {
        match self {
            Self::Event { event, message } => EventView::of(event, message),
            Self::Digest { envelope, .. } => envelope.view(&[]),
            Self::DeadLetterCopy { envelope, message } => EventView::of_dead_letter_copy(envelope, message),
        }
    }
}
