//! Where messages come in, and where what is settled is acknowledged.

mod receipt;
pub mod stats;

pub use receipt::{EntryId, Receipt, Settled};
pub use stats::SourceStats;
