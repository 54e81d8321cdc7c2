//! Dead letters in the file.

use std::path::PathBuf;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use uuid::Uuid;

use super::SqliteReader;
use crate::clock::WallTime;
use crate::spool::SpoolError;
use crate::spool::reader::{DeadLetterFilter, DeadLetterReader, DeadLetterSummary, PAGE_BYTES, StoredDeadLetter};
use crate::spool::sqlite::rows::{count, optional_text, text};

/// The dead letters of a file that is open for reading.
#[derive(Debug)]
pub(super) struct SqliteDeadLetters {
    /// None: nothing was ever stored.
    connection: Option<Connection>,
    path: PathBuf,
}

impl SqliteReader {
    pub(super) fn open_dead_letters(&self) -> Result<SqliteDeadLetters, SpoolError> {
        Ok(SqliteDeadLetters { connection: self.open()?, path: self.path.clone() })
    }
}

impl DeadLetterReader for SqliteDeadLetters {
    fn exist(&self) -> bool {
        self.connection.is_some()
    }

    fn page(
        &self,
        filter: &DeadLetterFilter,
        last: Option<&DeadLetterSummary>,
        rows: usize,
    ) -> Result<Vec<DeadLetterSummary>, SpoolError> {
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        let (conditions, mut values) = filter.conditions();
        let (follows, begin) = if filter.oldest_first { (">", i64::MIN) } else { ("<", i64::MAX) };
        values.push(Box::new(last.map_or(begin, |last| last.id)));
        let order = filter.order();
        let query = format!(
            "SELECT {SUMMARY_COLUMNS} FROM dead_letters WHERE {conditions} AND id {follows} ? {order} LIMIT {rows}"
        );
        let read = || {
            let mut select = connection.prepare(&query)?;
            let mut rows = select.query(params_from_iter(&values))?;
            let (mut page, mut bytes) = (Vec::new(), 0);
            while bytes < PAGE_BYTES
                && let Some(row) = rows.next()?
            {
                let letter = decode_summary(row)?;
                bytes += letter.size();
                page.push(letter);
            }
            Ok(page)
        };
        read().map_err(SpoolError::sqlite(&self.path))
    }

    fn show(&self, id: i64) -> Result<Option<StoredDeadLetter>, SpoolError> {
        let Some(connection) = &self.connection else { return Ok(None) };
        let query = format!("SELECT {SUMMARY_COLUMNS}, properties, body, type, route FROM dead_letters WHERE id = ?");
        let read = || connection.query_row(&query, [id], decode_dead_letter).optional();
        read().map_err(SpoolError::sqlite(&self.path))
    }
}

/// The columns that [`decode_summary`] reads.
const SUMMARY_COLUMNS: &str =
    "id, reason, detail, sink, source, tenant, status, correlation_id, attempts, at, event_id";

fn decode_summary(row: &Row<'_>) -> rusqlite::Result<DeadLetterSummary> {
    Ok(DeadLetterSummary {
        id: row.get(0)?,
        reason: text(row, 1)?,
        detail: text(row, 2)?,
        sink: optional_text(row, 3)?,
        source: text(row, 4)?,
        tenant: optional_text(row, 5)?,
        status: optional_text(row, 6)?,
        correlation_id: optional_text(row, 7)?,
        attempts: count(row, 8)?,
        at: WallTime(row.get(9)?),
        event_id: row.get_ref(10)?.as_blob_or_null()?.and_then(|id| Uuid::from_slice(id).ok()),
    })
}

fn decode_dead_letter(row: &Row<'_>) -> rusqlite::Result<StoredDeadLetter> {
    let body = Bytes::copy_from_slice(row.get_ref(12)?.as_blob()?);
    let names = (optional_text(row, 13)?, optional_text(row, 14)?);
    Ok(StoredDeadLetter::new(decode_summary(row)?, &text(row, 11)?, body, names))
}
