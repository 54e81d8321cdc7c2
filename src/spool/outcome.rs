//! What the changes did in the store.

use super::delivery::{DueDeliveries, RowId};
use super::request::RequestState;
use super::unreadable::UnreadableDelivery;
use crate::event::Reason;
use crate::rules::{AlertName, SinkName};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InsertOutcome {
    Inserted,
    /// An earlier transaction that was reported as failed had written the row.
    AlreadyInserted,
    /// The row of a redelivered message is already there, under this id; a dead letter's id is negative.
    Duplicate(i64),
}

/// A delivery that was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RemovedDelivery {
    pub(super) key: u64,
    /// The size of its row, in bytes, as the limits count it.
    pub(super) size: u64,
}

/// Deliveries that were deleted, or were gone before.
pub(super) type RemovedDeliveries = Vec<(RowId, Option<RemovedDelivery>)>;

/// A dead letter that was deleted.
#[derive(Debug)]
pub(super) struct RemovedDeadLetter {
    /// None: a reason that only a later version knows.
    pub(super) reason: Option<Reason>,
    pub(super) sink: Option<SinkName>,
    /// The size of its row, in bytes, as the limits count it.
    pub(super) size: u64,
}

/// Deliveries of a sink that are due.
#[derive(Debug)]
pub(super) struct FetchedDeliveries {
    pub(super) due: DueDeliveries,
    /// Those that are due and can't be read.
    pub(super) unreadable: Vec<UnreadableDelivery>,
}

/// What became of a request with its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EndOutcome {
    /// Alerts watched it: each with the state before. A raised alert is now to be resolved.
    Ended(Vec<(AlertName, RequestState)>),
    /// Nobody watches it: the event that opens it may come later.
    Early,
    /// Nobody watches it, and an earlier end is remembered already, or none has to be.
    Unchanged,
}
