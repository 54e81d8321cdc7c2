//! Backlogs for people: the spooled deliveries of each sink.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use uuid::Uuid;

use super::SpoolReader;
use crate::clock::{MonotonicTime, WallTime};
use crate::spool::SpoolError;
use crate::spool::delivery::{RowId, SpooledDelivery};

/// How many deliveries are searched for the last error: those that are due last, as they were attempted last.
pub(in crate::spool) const MAX_HEADS_SEARCHED: usize = 1_000;
/// How many different errors are shown for one sink.
pub(in crate::spool) const MAX_ERRORS: usize = 20;

/// The spooled deliveries of one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BacklogSummary {
    pub sink: String,
    pub count: u64,
    pub bytes: u64,
    /// When the message of the oldest delivery was received.
    pub oldest: Option<WallTime>,
    /// When the first delivery is due.
    pub next_due: Option<MonotonicTime>,
    /// By how much the wall clock has jumped ahead of due times, in milliseconds.
    pub jumped: i64,
    /// The last error of the deliveries that are due last.
    pub last_error: Option<String>,
    /// The last errors of the oldest deliveries of all keys, each with its number: the most frequent ones first, at most [`MAX_ERRORS`].
    pub errors: Vec<(String, u64)>,
    /// The sink's saved state, as JSON.
    pub state: Option<String>,
}

impl BacklogSummary {
    /// What the wall clock will say at `moment`, for people.
    #[must_use]
    pub fn to_wall(&self, moment: MonotonicTime) -> WallTime {
        WallTime(moment.0.saturating_add(self.jumped))
    }
}

#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Only deliveries of the shard with this name. A spool that is not divided has one shard.
    pub shard: Option<String>,
    pub sink: Option<String>,
    /// Only deliveries whose body may contain this text. JSON can write a text with escapes, so bodies with escapes are listed, too: the
    /// caller has to decode them.
    pub may_contain: Option<String>,
}

#[derive(Debug)]
pub struct ListedDelivery {
    pub id: RowId,
    /// The error says why its row can't be read.
    pub delivery: Result<SpooledDelivery, String>,
    /// None: an earlier delivery of its key has to be completed first.
    pub due: Option<MonotonicTime>,
}

/// A delivery for a sink that is not in the configuration. The error says why its row can't be read.
pub type Orphan = (RowId, Result<SpooledDelivery, String>);

impl SpoolReader {
    /// The backlogs, by sink. A spool in which nothing was stored yet has none.
    pub fn backlogs(&self) -> Result<Vec<BacklogSummary>, SpoolError> {
        self.store.backlogs()
    }

    /// Gives spooled deliveries to `each`, in the order in which they were spooled, until there are no more or `each` breaks.
    pub fn list_deliveries(
        &self,
        filter: &DeliveryFilter,
        mut each: impl FnMut(ListedDelivery) -> ControlFlow<()>,
    ) -> Result<(), SpoolError> {
        let mut last = RowId(0);
        loop {
            let page = self.store.delivery_page(filter, last)?;
            let Some(newest) = page.last() else { return Ok(()) };
            last = newest.id;
            for listed in page {
                if each(listed).is_break() {
                    return Ok(());
                }
            }
        }
    }

    /// The spooled deliveries of one event to `sink`, in order; `key` is the event's ordering key at that sink.
    pub fn deliveries_of_event(&self, sink: &str, key: u64, event: Uuid) -> Result<Vec<ListedDelivery>, SpoolError> {
        self.store.deliveries_of_event(sink, key, event)
    }

    /// The spooled deliveries of these events to `sink`, in order. Reads an entry of an index for each delivery to that sink.
    pub fn deliveries_of_events(
        &self,
        sink: &str,
        events: &BTreeSet<Uuid>,
    ) -> Result<Vec<(Uuid, ListedDelivery)>, SpoolError> {
        self.store.deliveries_of_events(sink, events)
    }

    /// The next deliveries of a sink in a shard after the id `after`, in the order in which they were spooled.
    pub fn orphans(&self, shard: &str, sink: &str, after: Option<RowId>) -> Result<Vec<Orphan>, SpoolError> {
        let filter = DeliveryFilter { shard: Some(shard.to_owned()), sink: Some(sink.to_owned()), may_contain: None };
        let page = self.store.delivery_page(&filter, after.unwrap_or(RowId(0)))?;
        let orphan = |listed: ListedDelivery| {
            (listed.id, listed.delivery.map_err(|error| format!("its row can't be read ({error})")))
        };
        Ok(page.into_iter().map(orphan).collect())
    }
}
