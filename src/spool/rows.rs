//! How the rows of deliveries are read, by the writer and by readers beside it.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::delivery::Waiting;
use crate::clock::{ClockBase, MonotonicTime, Timestamp, WallTime};
use crate::event::{Message, Properties, SourceName};
use crate::rules::{RouteName, SinkName};

/// The columns that [`waiting`] reads.
pub(super) const DELIVERY: &str =
    "sink, key, received, attempts, cause, route, type, tenant, event_id, source, properties, body";

pub(super) fn waiting(row: &Row<'_>) -> rusqlite::Result<Waiting> {
    let properties = Properties::from_json(row.get_ref(10)?.as_str()?)
        .map_err(|cause| rusqlite::Error::FromSqlConversionFailure(10, Type::Text, cause.to_string().into()))?;
    let event_id = Uuid::from_slice(row.get_ref(8)?.as_blob()?)
        .map_err(|cause| rusqlite::Error::FromSqlConversionFailure(8, Type::Blob, cause.to_string().into()))?;
    // Who needs more of it than people read asks for it.
    let received = Timestamp::from_wall(WallTime(row.get(2)?));
    Ok(Waiting {
        sink: SinkName::new(row.get_ref(0)?.as_str()?),
        key: row.get::<_, i64>(1)?.cast_unsigned(),
        received,
        // Who has it in his hands may attempt it.
        due: MonotonicTime(received.wall.0),
        attempts: row.get(3)?,
        // Of a key's oldest one, the table `heads` has them.
        refusals: 0,
        cause: row.get(4)?,
        route: row.get_ref(5)?.as_str_or_null()?.map(RouteName::new),
        kind: row.get(6)?,
        tenant: row.get_ref(7)?.as_str()?.into(),
        event_id,
        message: Arc::new(Message {
            source: SourceName::new(row.get_ref(9)?.as_str()?),
            properties,
            body: Bytes::copy_from_slice(row.get_ref(11)?.as_blob()?),
            redelivered: false,
        }),
        may_be_known: false,
    })
}

/// The same moment with the boot and the time since boot that are in that column and the next, if they are known.
pub(super) fn stamp(row: &Row<'_>, wall: WallTime, column: usize) -> Timestamp {
    let number = |column| row.get_ref(column).and_then(|value| Ok(value.as_i64_or_null()?)).ok().flatten();
    let known = number(column).zip(number(column + 1));
    known.map_or(Timestamp::from_wall(wall), |(boot, uptime)| Timestamp { wall, boot, uptime })
}

/// What due times are counted from; none: there were none yet.
pub(super) fn clock_base(connection: &Connection) -> rusqlite::Result<Option<ClockBase>> {
    let read = |row: &Row<'_>| Ok(ClockBase { boot: row.get(0)?, base: row.get(1)? });
    connection.query_row("SELECT boot, base FROM clock", [], read).optional()
}
