//! Rows that can't be read: what of them can be shown and kept all the same.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Row;
use rusqlite::types::ValueRef;
use uuid::Uuid;

use super::DeadLetter;
use super::delivery::RowId;
use crate::event::{Message, Properties, Reason, SourceName};
use crate::rules::{RouteName, SinkName};

/// A delivery that can't be read, as the dead letter that takes its place.
#[derive(Debug)]
pub(super) struct Damaged {
    pub(super) id: RowId,
    pub(super) letter: DeadLetter,
    /// As they are.
    pub(super) properties: String,
}

impl Damaged {
    /// The columns of `row` as far as they can be read; they are [`DELIVERY`](super::rows::DELIVERY).
    pub(super) fn of(id: RowId, sink: &SinkName, row: &Row<'_>, cause: &rusqlite::Error) -> rusqlite::Result<Self> {
        let body = match row.get_ref(11)? {
            ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Bytes::copy_from_slice(bytes),
            _ => Bytes::new(),
        };
        let event_id = row.get_ref(8)?.as_blob().ok().and_then(|bytes| Uuid::from_slice(bytes).ok());
        let properties = text(row, 10)?;
        let letter = DeadLetter {
            reason: Reason::RenderFailed,
            detail: format!(
                "delivery {} of the spool can't be read ({cause}): its bytes are here, its properties as they are: {properties}",
                id.0
            ),
            sink: Some(sink.clone()),
            tenant: Some(text(row, 7)?),
            status: None,
            correlation_id: None,
            event_id,
            kind: Some(text(row, 6)?),
            route: optional_text(row, 5)?.as_deref().map(RouteName::new),
            attempts: count(row, 3)?,
            message: Arc::new(Message {
                source: SourceName::new(&text(row, 9)?),
                properties: Properties::from_json(&properties).unwrap_or_default(),
                body,
                redelivered: false,
            }),
        };
        Ok(Self { id, letter, properties })
    }

    /// What it takes in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        self.letter.message.size() + self.letter.detail.len() + self.properties.len()
    }
}

/// A text, with a replacement for what isn't UTF-8.
pub(super) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(optional_text(row, column)?.unwrap_or_default())
}

/// The same, or null.
pub(super) fn optional_text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => None,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
    })
}

/// A count; zero where it is none.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u32> {
    Ok(row.get_ref(column)?.as_i64().ok().and_then(|count| u32::try_from(count).ok()).unwrap_or(0))
}
