//! The normalized event as JSON: its fields in a fixed order, absent ones as `null`.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::{Event, SourceName};

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A new field goes to the end, before `extra`: consumers may compare bytes. Fields are never renamed or removed.
        let mut event = serializer.serialize_struct("Event", 14)?;
        event.serialize_field("id", &self.id.as_hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))?;
        event.serialize_field("type", self.kind)?;
        event.serialize_field("source", &self.source)?;
        event.serialize_field("tenant", &or_null(&self.tenant))?;
        event.serialize_field("status", self.status)?;
        event.serialize_field("outcome", &self.outcome)?;
        event.serialize_field("correlationId", &or_null(&self.correlation_id))?;
        event.serialize_field("productId", &self.product_id)?;
        event.serialize_field("session", &self.session)?;
        event.serialize_field("expires", &self.expires)?;
        event.serialize_field("message", &self.message)?;
        event.serialize_field("time", &self.time)?;
        event.serialize_field("extra", &self.extra)?;
        event.serialize_field("warnings", &self.warnings)?;
        event.end()
    }
}

/// An alert may have no tenant and no `correlationId`; a response always has them.
fn or_null(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

impl Serialize for SourceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
