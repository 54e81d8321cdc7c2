//! Reads the spool while a relay may be running, in transactions so short that they never delay its writer.

mod backlog;
mod dead_letters;
mod filter;
mod requests;

pub use backlog::{
    BacklogSummary, DeliveryFilter, ListedDelivery, deliveries_of_event, deliveries_of_events, list_deliveries,
    read_backlogs, read_orphans,
};
pub use dead_letters::{DeadLetterSummary, DeadLetters, StoredDeadLetter};
pub use filter::DeadLetterFilter;
pub use requests::{OverdueRequest, WatchedBy, read_overdue, read_watches};

/// How many rows are read in one transaction: a slow reader must not keep the writer from emptying its log.
const PAGE_ROWS: usize = 500;
/// A transaction reads no further row after this many bytes: texts and bodies come from messages and may be large.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
