//! Where messages come in, and where what is settled is acknowledged.

mod receipt;

pub use receipt::{EntryId, Receipt, Settled};
