//! Reads the spool beside a running relay, in transactions so short that they never hold up its writer.

mod backlog;
mod dead_letters;
mod filter;

pub use backlog::{BacklogSummary, DeliveryFilter, ListedDelivery, list_deliveries, read_backlogs, read_orphans};
pub use dead_letters::{DeadLetterSummary, DeadLetters, StoredDeadLetter};
pub use filter::DeadLetterFilter;

/// So many rows are read in one transaction: a slow reader must not keep the writer from emptying its log …
const PAGE_ROWS: usize = 500;
/// … and no further row after so many bytes, because the texts and bodies are those of messages.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
