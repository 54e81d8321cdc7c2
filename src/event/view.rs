//! What templates, formats and expressions see of an event.

use std::borrow::Cow;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Event, Message};

/// An event as templates, formats and expressions see it; also the copy of a dead letter.
#[derive(Debug, Clone, Copy)]
pub struct EventView<'a> {
    pub event: &'a Event,
    /// Has the `headers` and `properties`.
    pub message: &'a Message,
    /// The fields that templates and formats see instead of the event's. Expressions always see the event's own.
    pub transformed: Option<&'a TransformedEvent>,
    /// `event` is only the envelope of a dead letter: the headers of the message say why it became one.
    pub is_dead_letter_copy: bool,
    /// The events of a digest, for which `event` and `message` only stand.
    pub digest: Option<&'a [EventView<'a>]>,
    /// The topic of the event's record, for the templates that may use it.
    pub topic: Option<&'a str>,
}

/// The fields of a transformed event as JSON, in their order.
#[derive(Debug)]
pub struct TransformedEvent(pub(super) Vec<(String, Box<RawValue>)>);

impl<'a> EventView<'a> {
    /// An event without a transform.
    #[must_use]
    pub fn of(event: &'a Event, message: &'a Message) -> Self {
        Self { event, message, transformed: None, is_dead_letter_copy: false, digest: None, topic: None }
    }

    /// The copy of a dead letter. `envelope` is made by [`Event::of_dead_letter`].
    #[must_use]
    pub fn of_dead_letter_copy(envelope: &'a Event, message: &'a Message) -> Self {
        Self { is_dead_letter_copy: true, ..Self::of(envelope, message) }
    }
}

impl TransformedEvent {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.get())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The field as text, or its JSON if it is not text; none if it is null.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        let json = self.field(name)?;
        serde_json::from_str::<Option<String>>(json).map_or(Some(json.into()), |text| text.map(Cow::Owned))
    }
}

impl Serialize for TransformedEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut event = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            event.serialize_entry(name, value)?;
        }
        event.end()
    }
}

impl Serialize for EventView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.transformed {
            Some(transformed) => transformed.serialize(serializer),
            None => self.event.serialize(serializer),
        }
    }
}
