//! Where the spool is stored: what its writer asks of a database.
//!
//! The writer gives a batch of changes to the store and gets their outcomes; it knows no statement of any database. A store knows nothing of
//! receipts and dispatchers.

use super::SpoolError;
use super::budget::Usage;
use super::change::{AppliedChange, Change};
use super::counts::DeadLetterTotals;
use super::delivery::RowId;
use super::lease::Lease;
use super::purge::PurgeSelection;
use super::request::RequestState;
use super::writer_state::WriterState;
use crate::clock::{MonotonicTime, Timestamp};
use crate::rules::{AlertName, SinkName};
use crate::storage::DiskSpace;

/// A store that is open for its only writer. After an error it has to be [recovered](Self::recover) before it is used again.
pub(super) trait Store: Send {
    /// Its name for people; another spool has another one.
    fn name(&self) -> String;

    /// Whether due times were written in this boot, on this machine.
    fn is_same_boot(&self) -> bool;

    /// The lease of a store that several machines can reach.
    fn lease(&self) -> Option<Lease> {
        None
    }

    /// The space of its disk, as far as it is known.
    fn disk_space(&self) -> DiskSpace;

    /// What the writer counts in memory.
    fn contents(&self) -> Result<StoreContents, SpoolError>;

    /// All saved states: the component's kind, its name, and the state as JSON.
    fn states(&self) -> Result<Vec<(String, String, String)>, SpoolError>;

    /// The raised alerts: name, subject and state as JSON.
    fn raised_alerts(&self) -> Result<Vec<(AlertName, String, String)>, SpoolError>;

    /// When the message of a sink's oldest delivery was received.
    fn oldest(&self, sink: &SinkName) -> Result<Option<Timestamp>, SpoolError>;

    /// The usage of each sink's deliveries.
    fn usage(&self) -> Result<Vec<(SinkName, Usage)>, SpoolError>;

    /// How many dead letters there are by reason and sink, and the size of all.
    fn dead_letter_totals(&self) -> Result<DeadLetterTotals, SpoolError>;

    /// Applies all changes in one transaction. Once it is committed, it survives a crash.
    fn commit(
        &mut self,
        changes: Vec<Change>,
        state: &mut WriterState,
        space: DiskSpace,
    ) -> Result<Vec<AppliedChange>, Box<FailedBatch>>;

    /// Deletes dead letters, at most `limit`. Returns how many.
    fn purge_dead_letters(&self, selection: &PurgeSelection<'_>, limit: u64) -> Result<u64, SpoolError>;

    /// Deletes deliveries of a sink, the newest of a key first, at most `limit`. Returns how many.
    fn purge_deliveries(&self, sink: &SinkName, limit: u64) -> Result<u64, SpoolError>;

    /// Gives free space back to the disk: all of it, or what exceeds a reserve for the next rows. Returns whether there may be more to give
    /// back.
    fn release_free_space(&self, space: DiskSpace, all: bool) -> Result<bool, SpoolError>;

    fn is_open(&self) -> bool;

    /// To be called after an error: it is unknown how the last statement ended.
    fn close(&mut self);

    /// Opens the store again. Returns whether the last batch is stored, if it was not known.
    fn recover(&mut self) -> Result<bool, SpoolError>;

    /// To be called at the end. `is_clean`: no change is left, and no attempt in flight. Another relay can use the store at once.
    fn give_up(&mut self, is_clean: bool) {
        let _ = is_clean;
        self.close();
    }
}

#[derive(Debug)]
pub(super) struct StoreContents {
    /// The highest number that a dead letter ever had.
    pub(super) last_dead_letter: i64,
    /// No delivery has a higher id.
    pub(super) last_row: RowId,
    pub(super) usage: Vec<(SinkName, Usage)>,
    /// How many watched requests there are, by alert and state.
    pub(super) requests: Vec<(AlertName, RequestState, u64)>,
    /// When the first request of this boot is due.
    pub(super) next_due_request: Option<MonotonicTime>,
    pub(super) dead_letters: DeadLetterTotals,
}

/// A batch that was not committed, or may not have been.
#[derive(Debug)]
pub(super) struct FailedBatch {
    pub(super) error: SpoolError,
    pub(super) changes: FailedChanges,
}

#[derive(Debug)]
pub(super) enum FailedChanges {
    /// None of them is stored. They are in their order.
    Unstored(Vec<Change>),
    /// All of them are stored, or none: [`Store::recover`] finds out.
    Unknown(Vec<AppliedChange>),
}
