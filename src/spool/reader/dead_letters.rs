//! Dead letters for people.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use uuid::Uuid;

use super::{DeadLetterFilter, PAGE_BYTES, PAGE_ROWS};
use crate::clock::WallTime;
use crate::event::{Message, Properties, SourceName};
use crate::spool::SpoolError;
use crate::spool::database::open_to_read;
use crate::spool::rows::{count, optional_text, text};

/// The dead letters of a spool, to read.
#[derive(Debug)]
pub struct DeadLetters {
    /// None: nothing was ever stored.
    connection: Option<Connection>,
    path: PathBuf,
}

/// What a list shows of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterSummary {
    /// An id is never given twice.
    pub id: i64,
    /// A [`Reason`](crate::event::Reason), or one that only a later version knows.
    pub reason: String,
    /// What was found and what was expected, or what the destination answered.
    pub detail: String,
    pub sink: Option<String>,
    pub source: String,
    pub tenant: Option<String>,
    pub status: Option<String>,
    pub correlation_id: Option<String>,
    pub attempts: u32,
    /// When it became a dead letter.
    pub at: WallTime,
    /// None: the message never became an event.
    pub event_id: Option<Uuid>,
}

#[derive(Debug, Clone)]
pub struct StoredDeadLetter {
    pub summary: DeadLetterSummary,
    pub kind: Option<String>,
    /// The route that chose the sink.
    pub route: Option<String>,
    pub message: Arc<Message>,
    /// Why the message has no properties: the stored ones can't be read.
    pub properties_error: Option<String>,
}

impl DeadLetters {
    /// Opens the spool at `path`. A spool in which nothing was stored yet is no error: it has no dead letters.
    pub fn open_read_only(path: &Path) -> Result<Self, SpoolError> {
        Ok(Self { connection: open_to_read(path)?, path: path.to_owned() })
    }

    /// Whether there is a spool at all.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.connection.is_some()
    }

    /// Gives the dead letters that match to `each`, in the filter's order, until there are no more or `each` fails.
    pub fn list<E: From<SpoolError>>(
        &self,
        filter: &DeadLetterFilter,
        mut each: impl FnMut(DeadLetterSummary) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = filter.limit.unwrap_or(u64::MAX);
        let mut last = None;
        while left > 0 {
            let rows = usize::try_from(left).map_or(PAGE_ROWS, |left| left.min(PAGE_ROWS));
            let page = self.page(filter, last, rows)?;
            let Some(summary) = page.last() else { break };
            last = Some(summary.id);
            left = left.saturating_sub(u64::try_from(page.len()).unwrap_or(u64::MAX));
            for letter in page {
                each(letter)?;
            }
        }
        Ok(())
    }

    /// The dead letters that follow `last`, at most `rows`.
    pub(in crate::spool) fn page(
        &self,
        filter: &DeadLetterFilter,
        last: Option<i64>,
        rows: usize,
    ) -> Result<Vec<DeadLetterSummary>, SpoolError> {
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        let (conditions, mut values) = filter.conditions();
        let (follows, begin) = if filter.oldest_first { (">", i64::MIN) } else { ("<", i64::MAX) };
        values.push(Box::new(last.unwrap_or(begin)));
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

    pub fn show(&self, id: i64) -> Result<Option<StoredDeadLetter>, SpoolError> {
        let Some(connection) = &self.connection else { return Ok(None) };
        let query = format!("SELECT {SUMMARY_COLUMNS}, properties, body, type, route FROM dead_letters WHERE id = ?");
        let read = || connection.query_row(&query, [id], decode_dead_letter).optional();
        read().map_err(SpoolError::sqlite(&self.path))
    }
}

impl DeadLetterSummary {
    /// The size of its texts, in bytes.
    fn size(&self) -> usize {
        let optional = [&self.sink, &self.tenant, &self.status, &self.correlation_id];
        let optional: usize = optional.into_iter().flatten().map(String::len).sum();
        self.reason.len() + self.detail.len() + self.source.len() + optional
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
    let summary = decode_summary(row)?;
    let (properties, properties_error) = match Properties::from_json(&text(row, 11)?) {
        Ok(properties) => (properties, None),
        Err(error) => (Properties::default(), Some(format!("its properties can't be read ({error})"))),
    };
    let message = Message {
        source: SourceName::new(&summary.source),
        body: Bytes::copy_from_slice(row.get_ref(12)?.as_blob()?),
        properties,
        redelivered: false,
    };
    let (kind, route) = (optional_text(row, 13)?, optional_text(row, 14)?);
    Ok(StoredDeadLetter { summary, kind, route, message: Arc::new(message), properties_error })
}
