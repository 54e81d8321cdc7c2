//! What metrics and `status` say of the journal.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::store::Contents;

#[derive(Debug, Default)]
pub struct JournalStats {
    records: AtomicU64,
    bytes: AtomicU64,
    /// Milliseconds since 1970; 0: there is no record.
    oldest: AtomicI64,
    skipped: AtomicU64,
}

impl JournalStats {
    /// How many records the file has: of events, and of ends of deliveries.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// The size of the file and its log, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// When the oldest record was written, in milliseconds since 1970.
    #[must_use]
    pub fn oldest(&self) -> Option<i64> {
        Some(self.oldest.load(Ordering::Relaxed)).filter(|oldest| *oldest != 0)
    }

    /// How many records were left out.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    pub(super) fn skip(&self, records: u64) {
        self.skipped.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn set(&self, contents: Contents) {
        let Contents { records, bytes, oldest } = contents;
        self.records.store(records, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.oldest.store(oldest.unwrap_or_default(), Ordering::Relaxed);
    }
}
