//! What statements on the file come to.

use super::delivery::DueDeliveries;
use super::unreadable::UnreadableDelivery;
use crate::event::Reason;
use crate::rules::SinkName;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InsertOutcome {
    Inserted,
    /// An earlier transaction that was reported as failed had written the row.
    AlreadyInserted,
    /// The row of a redelivered message is there from before, under this id; a dead letter's id is negative.
    Duplicate(i64),
}

/// A delivery that was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RemovedDelivery {
    pub(super) key: u64,
    /// What the row counted against the limit, in bytes.
    pub(super) size: u64,
}

/// A dead letter that was deleted.
#[derive(Debug)]
pub(super) struct RemovedDeadLetter {
    /// None: a reason that only a later version knows.
    pub(super) reason: Option<Reason>,
    pub(super) sink: Option<SinkName>,
    /// What the row counted against the limit, in bytes.
    pub(super) size: u64,
}

/// Deliveries of a sink that are due.
#[derive(Debug)]
pub(super) struct FetchedDeliveries {
    pub(super) due: DueDeliveries,
    /// Those that are due and can't be read.
    pub(super) unreadable: Vec<UnreadableDelivery>,
}
