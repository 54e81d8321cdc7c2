//! Dead letters for people: read beside a running relay, in transactions so short that they never hold it up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use uuid::Uuid;

use super::Filter;
use super::damaged::{count, optional_text, text};
use super::database::{SpoolError, open_to_read};
use crate::clock::WallTime;
use crate::event::{Message, Properties, SourceName};

/// So many are read in one transaction: a list that someone reads slowly must not keep the log from being emptied.
const PAGE: u64 = 500;
/// … and no further one after so many bytes: its texts are the message's.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// The dead letters of a spool, to read.
#[derive(Debug)]
pub struct DeadLetters {
    /// None: nothing was ever stored.
    connection: Option<Connection>,
    path: PathBuf,
}

/// What a list shows of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// What it is called by; never given twice.
    pub id: i64,
    /// A [`Reason`](crate::event::Reason), or the word of one that only a later version knows.
    pub reason: String,
    /// What was found and what was expected, or what the destination said.
    pub detail: String,
    /// The sink that could not be served.
    pub sink: Option<String>,
    /// The source it came from.
    pub source: String,
    /// Where it could be read.
    pub tenant: Option<String>,
    /// Where it could be read, as received.
    pub status: Option<String>,
    /// Where it could be read.
    pub correlation_id: Option<String>,
    /// How many attempts there were.
    pub attempts: u32,
    /// When it died.
    pub at: WallTime,
}

/// A dead letter, whole.
#[derive(Debug, Clone)]
pub struct Shown {
    /// What a list shows of it.
    pub listed: Listed,
    /// None where the message never became an event.
    pub event_id: Option<Uuid>,
    /// The event's type, where there is one.
    pub kind: Option<String>,
    /// The route that chose the sink.
    pub route: Option<String>,
    /// As received.
    pub message: Arc<Message>,
    /// Why its properties are missing: they can't be read.
    pub damage: Option<String>,
}

impl DeadLetters {
    /// Opens the spool at `path` to read. That nothing was stored there yet is no error: then there are no dead letters.
    pub fn open_read_only(path: &Path) -> Result<Self, SpoolError> {
        Ok(Self { connection: open_to_read(path)?, path: path.to_owned() })
    }

    /// Whether there is a spool at all.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.connection.is_some()
    }

    /// Gives the dead letters that the filter leaves to `each`, in its order, until there are no more or `each` fails.
    pub fn list<E: From<SpoolError>>(
        &self,
        filter: &Filter,
        mut each: impl FnMut(Listed) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = filter.limit.unwrap_or(u64::MAX);
        let mut last = None;
        while left > 0 {
            let page = self.page(filter, last, left.min(PAGE))?;
            let Some(listed) = page.last() else { break };
            last = Some(listed.id);
            left = left.saturating_sub(u64::try_from(page.len()).unwrap_or(u64::MAX));
            for letter in page {
                each(letter)?;
            }
        }
        Ok(())
    }

    /// Those that follow the letter `last`.
    pub(super) fn page(&self, filter: &Filter, last: Option<i64>, limit: u64) -> Result<Vec<Listed>, SpoolError> {
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        let (conditions, mut values) = filter.conditions();
        let (follows, begin) = if filter.oldest_first { (">", i64::MIN) } else { ("<", i64::MAX) };
        values.push(Box::new(last.unwrap_or(begin)));
        values.push(Box::new(i64::try_from(limit).unwrap_or(i64::MAX)));
        let order = filter.order();
        let query = format!("SELECT {LISTED} FROM dead_letters WHERE {conditions} AND id {follows} ? {order} LIMIT ?");
        let read = || {
            let mut select = connection.prepare(&query)?;
            let mut rows = select.query(params_from_iter(&values))?;
            let (mut page, mut bytes) = (Vec::new(), 0);
            while bytes < PAGE_BYTES
                && let Some(row) = rows.next()?
            {
                let letter = listed(row)?;
                bytes += letter.size();
                page.push(letter);
            }
            Ok(page)
        };
        read().map_err(SpoolError::sqlite(&self.path))
    }

    /// The dead letter of that id, if there is one.
    pub fn show(&self, id: i64) -> Result<Option<Shown>, SpoolError> {
        let Some(connection) = &self.connection else { return Ok(None) };
        let read = || {
            let columns = "SELECT count(*) FROM pragma_table_info('dead_letters') WHERE name = 'route'";
            let is_old = connection.query_row(columns, [], |row| row.get::<_, i64>(0))? == 0;
            let added = if is_old { "NULL, NULL" } else { "type, route" };
            let query = format!("SELECT {LISTED}, event_id, properties, body, {added} FROM dead_letters WHERE id = ?");
            connection.query_row(&query, [id], shown).optional()
        };
        read().map_err(SpoolError::sqlite(&self.path))
    }
}

impl Listed {
    /// What its texts take, in bytes.
    fn size(&self) -> usize {
        let optional = [&self.sink, &self.tenant, &self.status, &self.correlation_id];
        let optional: usize = optional.into_iter().flatten().map(String::len).sum();
        self.reason.len() + self.detail.len() + self.source.len() + optional
    }
}

/// The columns that [`listed`] reads.
const LISTED: &str = "id, reason, detail, sink, source, tenant, status, correlation_id, attempts, at";

fn listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    Ok(Listed {
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
    })
}

fn shown(row: &Row<'_>) -> rusqlite::Result<Shown> {
    let listed = listed(row)?;
    let event_id = row.get_ref(10)?.as_blob_or_null()?.and_then(|id| Uuid::from_slice(id).ok());
    let (properties, damage) = match Properties::from_json(&text(row, 11)?) {
        Ok(properties) => (properties, None),
        Err(cause) => (Properties::default(), Some(format!("its properties can't be read ({cause})"))),
    };
    let message = Message {
        source: SourceName::new(&listed.source),
        body: Bytes::copy_from_slice(row.get_ref(12)?.as_blob()?),
        properties,
        redelivered: false,
    };
    let (kind, route) = (optional_text(row, 13)?, optional_text(row, 14)?);
    Ok(Shown { listed, event_id, kind, route, message: Arc::new(message), damage })
}
