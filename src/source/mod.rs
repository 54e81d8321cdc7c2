//! Where messages come in, and where what is settled is acknowledged.

mod ledger;
mod receipt;
mod watermark;

pub use ledger::{Identity, Ledger, Received};
pub use receipt::{EntryId, Receipt, Settled};
pub use watermark::Watermark;
