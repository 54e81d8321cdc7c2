//! How rows are decoded, by the writer and by readers beside it.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use crate::clock::{ClockBase, MonotonicTime, Timestamp, WallTime};
use crate::event::{Message, Properties, SourceName};
use crate::rules::{RouteName, SinkName};
use crate::spool::delivery::{RowId, SpooledDelivery};

/// The columns that [`decode_delivery`] reads.
pub(super) const DELIVERY_COLUMNS: &str = "sink, key, received, boot, uptime, attempts, last_error, route, type, tenant, \
                                           event_id, source, properties, body, replayed, group_by, digest";

pub(super) fn decode_delivery(row: &Row<'_>) -> rusqlite::Result<SpooledDelivery> {
    let event_id = Uuid::from_slice(row.get_ref(10)?.as_blob()?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(10, Type::Blob, error.to_string().into()))?;
    let properties = Properties::from_json(row.get_ref(12)?.as_str()?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(12, Type::Text, error.to_string().into()))?;
    let received = decode_stamp(row, 2)?;
    Ok(SpooledDelivery {
        sink: SinkName::new(row.get_ref(0)?.as_str()?),
        key: row.get::<_, i64>(1)?.cast_unsigned(),
        received,
        // The caller may attempt the delivery now. The table `heads` has the due time and the refusals.
        due: MonotonicTime(received.wall.0),
        refusals: 0,
        attempts: row.get(5)?,
        last_error: row.get(6)?,
        route: row.get_ref(7)?.as_str_or_null()?.map(RouteName::new),
        kind: row.get(8)?,
        tenant: row.get_ref(9)?.as_str()?.into(),
        event_id,
        message: Arc::new(Message {
            source: SourceName::new(row.get_ref(11)?.as_str()?),
            properties,
            body: Bytes::copy_from_slice(row.get_ref(13)?.as_blob()?),
            redelivered: false,
        }),
        group: row.get_ref(15)?.as_str_or_null()?.map(Arc::from),
        digest: row.get::<_, Option<i64>>(16)?.map(RowId),
        may_be_known: false,
        replayed: row.get(14)?,
    })
}

/// A moment by both clocks, from three columns: the wall clock, the boot, the time since that boot.
pub(super) fn decode_stamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Ok(Timestamp { wall: WallTime(row.get(column)?), boot: row.get(column + 1)?, uptime: row.get(column + 2)? })
}

/// The start of due times; `None` in a new file.
pub(super) fn clock_base(connection: &Connection) -> rusqlite::Result<Option<ClockBase>> {
    let read = |row: &Row<'_>| Ok(ClockBase { boot: row.get(0)?, base: row.get(1)? });
    connection.query_row("SELECT boot, base FROM clock", [], read).optional()
}

/// A text, with a replacement character for what isn't UTF-8: a damaged row can still be shown.
pub(super) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(optional_text(row, column)?.unwrap_or_default())
}

pub(super) fn optional_text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => None,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
    })
}

/// A count; zero where the column has none.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u32> {
    Ok(row.get_ref(column)?.as_i64().ok().and_then(|count| u32::try_from(count).ok()).unwrap_or(0))
}
