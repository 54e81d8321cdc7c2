//! Dead letters for people.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{DeadLetterFilter, DeadLetterReader, PAGE_ROWS, SpoolReader};
use crate::clock::WallTime;
use crate::event::{Message, Properties, SourceName};
use crate::spool::SpoolError;

/// The dead letters of a spool, to read.
#[derive(Debug)]
pub struct DeadLetters {
    pub(in crate::spool) store: Box<dyn DeadLetterReader>,
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

impl SpoolReader {
    /// Opens the dead letters. A spool in which nothing was stored yet is no error: it has none.
    pub fn dead_letters(&self) -> Result<DeadLetters, SpoolError> {
        Ok(DeadLetters { store: self.store.dead_letters()? })
    }
}

impl DeadLetters {
    /// Whether a relay has ever stored anything.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.store.exist()
    }

    /// Gives the dead letters that match to `each`, in the filter's order, until there are no more or `each` fails.
    pub fn list<E: From<SpoolError>>(
        &self,
        filter: &DeadLetterFilter,
        mut each: impl FnMut(DeadLetterSummary) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = filter.limit.unwrap_or(u64::MAX);
        let mut last: Option<DeadLetterSummary> = None;
        while left > 0 {
            let rows = usize::try_from(left).map_or(PAGE_ROWS, |left| left.min(PAGE_ROWS));
            let page = self.store.page(filter, last.as_ref(), rows)?;
            let Some(summary) = page.last() else { break };
            last = Some(summary.clone());
            left = left.saturating_sub(u64::try_from(page.len()).unwrap_or(u64::MAX));
            for letter in page {
                each(letter)?;
            }
        }
        Ok(())
    }

    pub fn show(&self, id: i64) -> Result<Option<StoredDeadLetter>, SpoolError> {
        self.store.show(id)
    }
}

impl StoredDeadLetter {
    /// `properties` are JSON, or text that is no JSON.
    pub(in crate::spool) fn new(
        summary: DeadLetterSummary,
        properties: &str,
        body: Bytes,
        (kind, route): (Option<String>, Option<String>),
    ) -> Self {
        let (properties, properties_error) = match Properties::from_json(properties) {
            Ok(properties) => (properties, None),
            Err(error) => (Properties::default(), Some(format!("its properties can't be read ({error})"))),
        };
        let source = SourceName::new(&summary.source);
        let message = Arc::new(Message { source, properties, body, redelivered: false });
        Self { summary, kind, route, message, properties_error }
    }
}

impl DeadLetterSummary {
    /// The size of its texts, in bytes.
    pub(in crate::spool) fn size(&self) -> usize {
        let optional = [&self.sink, &self.tenant, &self.status, &self.correlation_id];
        let optional: usize = optional.into_iter().flatten().map(String::len).sum();
        self.reason.len() + self.detail.len() + self.source.len() + optional
    }
}
