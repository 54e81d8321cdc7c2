//! Reads what can be read of a row that can't be decoded.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Row;
use rusqlite::types::ValueRef;
use uuid::Uuid;

use super::rows::{count, optional_text, text};
use crate::event::{Message, Properties, Reason, SourceName};
use crate::rules::{RouteName, SinkName};
use crate::spool::DeadLetter;
use crate::spool::delivery::RowId;
use crate::spool::unreadable::UnreadableDelivery;

impl UnreadableDelivery {
    /// Reads the columns of `row` as far as possible; they are [`DELIVERY_COLUMNS`](super::rows::DELIVERY_COLUMNS).
    pub(super) fn from_row(
        id: RowId,
        sink: &SinkName,
        row: &Row<'_>,
        error: &rusqlite::Error,
    ) -> rusqlite::Result<Self> {
        let body = match row.get_ref(13)? {
            ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Bytes::copy_from_slice(bytes),
            _ => Bytes::new(),
        };
        let event_id = row.get_ref(10)?.as_blob().ok().and_then(|bytes| Uuid::from_slice(bytes).ok());
        let properties = text(row, 12)?;
        let letter = DeadLetter {
            reason: Reason::RenderFailed,
            detail: String::new(),
            sink: Some(sink.clone()),
            tenant: Some(text(row, 9)?),
            status: None,
            correlation_id: None,
            event_id,
            kind: Some(text(row, 8)?),
            route: optional_text(row, 7)?.as_deref().map(RouteName::new),
            attempts: count(row, 5)?,
            message: Arc::new(Message {
                source: SourceName::new(&text(row, 11)?),
                properties: Properties::from_json(&properties).unwrap_or_default(),
                body,
                redelivered: false,
            }),
        };
        Ok(Self::new(id, &error.to_string(), letter, properties))
    }
}
