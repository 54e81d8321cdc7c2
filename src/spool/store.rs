//! What the writer asks of whatever keeps the rows. Today that is one SQLite file; it could be a database that several relays share.

use std::collections::HashSet;

use super::budget::Sizes;
use super::damaged::Damaged;
use super::delivery::{Due, Portion, RowId, Waiting};
use super::letter::LetterRow;
use super::purge::Scope;
use super::{SpoolError, Subject, Tallied};
use crate::clock::{ClockBase, MonotonicTime, Timestamp};
use crate::event::Reason;
use crate::rules::SinkName;

/// A delivery as it is written.
#[derive(Debug)]
pub(super) struct DeliveryRow {
    pub(super) id: RowId,
    pub(super) waiting: Waiting,
    /// JSON, made once however often the writing fails.
    pub(super) properties: String,
    pub(super) size: u64,
}

/// What became of a row that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is there now.
    New,
    /// It was there already: what was said of an earlier try was wrong.
    Again,
    /// A redelivered message's is there already, under this id.
    Known(i64),
}

/// What was taken for a sink.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) due: Due,
    /// Those that are due, too, and can't be read.
    pub(super) damaged: Vec<Damaged>,
}

/// A delivery that was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GoneDelivery {
    pub(super) key: u64,
    pub(super) size: u64,
}

/// A dead letter that was deleted.
#[derive(Debug)]
pub(super) struct GoneLetter {
    /// None: a word that only a later version knows.
    pub(super) reason: Option<Reason>,
    pub(super) sink: Option<SinkName>,
    pub(super) size: u64,
}

/// What a sink or a source must not forget when the relay restarts.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) of: Subject,
    /// JSON; none: nothing is to be remembered.
    pub(super) state: Option<String>,
}

/// The rows. Each function is one step of a transaction, and can be done again after one of unknown end.
pub(super) trait Store {
    /// All that `work` does becomes durable, or none of it.
    fn transact<T>(&self, work: impl FnOnce() -> Result<T, SpoolError>) -> Result<T, SpoolError>;

    /// The transaction under way has that number from here on.
    fn set_batch(&self, number: i64) -> Result<(), SpoolError>;

    /// The number of the last transaction that is on the disk.
    fn last_batch(&self) -> Result<i64, SpoolError>;

    /// Writes a dead letter. One of a redelivered message may be known, but not as one of `taken`.
    fn add_letter(&self, row: &LetterRow, taken: &HashSet<i64>) -> Result<Written, SpoolError>;

    /// Writes a delivery behind those of its key. One of a redelivered message may be known, but not as one of `taken`.
    fn add_delivery(&self, row: &DeliveryRow, taken: &HashSet<i64>) -> Result<Written, SpoolError>;

    /// Deletes a delivery, and lets the next of its key be due. None: it is gone already.
    fn remove(&self, id: RowId) -> Result<Option<GoneDelivery>, SpoolError>;

    /// A delivery is to be attempted again, after so many attempts and refusals (none: as many as before).
    fn reschedule(
        &self,
        id: RowId,
        tries: (u32, Option<u32>),
        due: MonotonicTime,
        cause: &str,
    ) -> Result<(), SpoolError>;

    /// Every delivery of a sink that would be due later is due `then`.
    fn make_due(&self, sink: &SinkName, then: MonotonicTime) -> Result<(), SpoolError>;

    /// Deliveries of a sink that are due by `now`, but those in `claimed`, no more than `portion`, and when the next one is due. One
    /// that can't be read is no error.
    fn due(
        &self,
        sink: &SinkName,
        now: MonotonicTime,
        portion: Portion,
        claimed: &HashSet<RowId>,
    ) -> Result<Taken, SpoolError>;

    /// How many deliveries of a sink there are, by the low 16 bits of their key.
    fn lanes(&self, sink: &SinkName) -> Result<Vec<(u16, u32)>, SpoolError>;

    /// What the deliveries of each sink take.
    fn sizes(&self) -> Result<Vec<(SinkName, Sizes)>, SpoolError>;

    /// When the message of a sink's oldest delivery was received.
    fn oldest(&self, sink: &SinkName) -> Result<Option<Timestamp>, SpoolError>;

    /// Makes the oldest delivery of each key the one that is due, where that isn't so; says how many keys that concerned.
    fn mend_heads(&self) -> Result<u64, SpoolError>;

    /// What due times were counted from; none: there were none yet.
    fn clock(&self) -> Result<Option<ClockBase>, SpoolError>;

    /// What they are counted from now.
    fn set_clock(&self, base: ClockBase) -> Result<(), SpoolError>;

    /// The highest ids ever given: of dead letters, and of the deliveries that are there.
    fn last_ids(&self) -> Result<(i64, i64), SpoolError>;

    /// How many dead letters there are by reason and sink, and what all take, in bytes.
    fn tally(&self) -> Result<Tallied, SpoolError>;

    /// Deletes dead letters, at most so many; says how many.
    fn purge(&self, which: &Scope<'_>, limit: u64) -> Result<u64, SpoolError>;

    /// Deletes deliveries of a sink, the newest of a key first, at most so many; says how many.
    fn purge_deliveries(&self, sink: &SinkName, limit: u64) -> Result<u64, SpoolError>;

    /// Gives some of the room that is left in the file back to the disk, where there is much, or `all` of it is wanted: less at once
    /// where the disk `is_tight`. Says whether there may be more to give.
    fn give_back(&self, all: bool, is_tight: bool) -> Result<bool, SpoolError>;

    /// Remembers, or forgets.
    fn remember(&self, remembered: &Remembered) -> Result<(), SpoolError>;

    /// All that is remembered: of what kind, its name, its state.
    fn states(&self) -> Result<Vec<(String, String, String)>, SpoolError>;

    /// Deletes a dead letter; none: it is gone already.
    fn remove_letter(&self, id: i64) -> Result<Option<GoneLetter>, SpoolError>;
}
