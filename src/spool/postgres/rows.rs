//! How rows are decoded.

use std::sync::Arc;

use bytes::Bytes;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::text::unescape;
use crate::clock::{MonotonicTime, Timestamp, WallTime};
use crate::event::{Message, Properties, Reason, SourceName};
use crate::rules::{RouteName, SinkName};
use crate::spool::DeadLetter;
use crate::spool::delivery::{RowId, SpooledDelivery};
use crate::spool::unreadable::UnreadableDelivery;

/// The columns that [`decode_delivery`] reads, of the table `d`.
pub(super) const DELIVERY_COLUMNS: &str = "d.sink, d.key, d.received, d.boot, d.uptime, d.attempts, d.last_error, d.route, d.type, d.tenant, \
                                           d.event_id, d.source, d.properties, d.body, d.replayed, d.group_by, d.digest";

/// A delivery whose columns can be read, but not what is in them.
#[derive(Debug)]
pub(super) struct DamagedDelivery {
    pub(super) error: String,
    letter: DeadLetter,
    properties: String,
}

impl DamagedDelivery {
    pub(super) fn into_unreadable(self, id: RowId) -> UnreadableDelivery {
        UnreadableDelivery::new(id, &self.error, self.letter, self.properties)
    }
}

pub(super) fn decode_delivery(row: &Row) -> Result<Result<SpooledDelivery, DamagedDelivery>, Error> {
    let event: &[u8] = row.try_get(10)?;
    let stored: &str = row.try_get(12)?;
    let (event_id, properties) = (Uuid::from_slice(event), Properties::from_json(stored));
    let received = decode_stamp(row, 2)?;
    let message = Message {
        source: SourceName::new(row.try_get(11)?),
        properties: properties.as_ref().cloned().unwrap_or_default(),
        body: Bytes::copy_from_slice(row.try_get(13)?),
        redelivered: false,
    };
    let (message, route) = (Arc::new(message), row.try_get::<_, Option<&str>>(7)?.map(RouteName::new));
    let (kind, tenant) = (row.try_get::<_, String>(8)?, unescape(row.try_get(9)?));
    let attempts = u32::try_from(row.try_get::<_, i64>(5)?).unwrap_or(u32::MAX);
    let error = match (&event_id, &properties) {
        (Err(error), _) => Some(error.to_string()),
        (_, Err(error)) => Some(error.to_string()),
        _ => None,
    };
    if let Some(error) = error {
        let letter = DeadLetter {
            reason: Reason::RenderFailed,
            detail: String::new(),
            sink: Some(SinkName::new(row.try_get(0)?)),
            tenant: Some(tenant),
            status: None,
            correlation_id: None,
            event_id: event_id.ok(),
            kind: Some(kind),
            route,
            attempts,
            message,
        };
        return Ok(Err(DamagedDelivery { error, letter, properties: stored.to_owned() }));
    }
    Ok(Ok(SpooledDelivery {
        sink: SinkName::new(row.try_get(0)?),
        key: row.try_get::<_, i64>(1)?.cast_unsigned(),
        received,
        // The caller may attempt the delivery now. The table `heads` has the due time and the refusals.
        due: MonotonicTime(received.wall.0),
        refusals: 0,
        attempts,
        last_error: row.try_get::<_, Option<String>>(6)?.map(unescape),
        route,
        kind,
        tenant: tenant.into(),
        event_id: event_id.unwrap_or_default(),
        message,
        group: row.try_get::<_, Option<&str>>(15)?.map(Arc::from),
        digest: row.try_get::<_, Option<i64>>(16)?.map(RowId),
        may_be_known: false,
        replayed: row.try_get(14)?,
    }))
}

/// A moment by both clocks, from three columns: the wall clock, the boot, the time since that boot.
pub(super) fn decode_stamp(row: &Row, column: usize) -> Result<Timestamp, Error> {
    Ok(Timestamp {
        wall: WallTime(row.try_get(column)?),
        boot: row.try_get(column + 1)?,
        uptime: row.try_get(column + 2)?,
    })
}

/// A text from a message.
pub(super) fn text(row: &Row, column: usize) -> Result<String, Error> {
    row.try_get(column).map(unescape)
}

pub(super) fn optional_text(row: &Row, column: usize) -> Result<Option<String>, Error> {
    Ok(row.try_get::<_, Option<String>>(column)?.map(unescape))
}

/// A count or a size, which is never negative.
pub(super) fn unsigned(row: &Row, column: usize) -> Result<u64, Error> {
    Ok(u64::try_from(row.try_get::<_, i64>(column)?).unwrap_or(0))
}
