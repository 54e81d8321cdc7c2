//! How many dead letters there are, by reason and sink.

use std::collections::BTreeMap;

use crate::event::Reason;
use crate::rules::SinkName;

/// Dead letters of one reason and sink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeadLetterCount {
    /// Added since the relay started.
    pub total: u64,
    /// Stored in the file now.
    pub stored: u64,
}

pub type DeadLetterCountRow = (Reason, Option<SinkName>, DeadLetterCount);

/// The dead letters in the file: their number by reason and sink, and their size.
#[derive(Debug)]
pub(super) struct DeadLetterTotals {
    pub(super) counts: Vec<(Reason, Option<SinkName>, u64)>,
    pub(super) bytes: u64,
}

/// Has no entry for a reason and sink that never had a dead letter.
#[derive(Debug, Default)]
pub(super) struct DeadLetterCounts {
    by: BTreeMap<(Reason, Option<SinkName>), DeadLetterCount>,
    bytes: u64,
}

impl DeadLetterCounts {
    pub(super) fn add(&mut self, reason: Reason, sink: Option<&SinkName>, bytes: u64) {
        let count = self.by.entry((reason, sink.cloned())).or_default();
        count.total += 1;
        count.stored += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn remove(&mut self, reason: Option<Reason>, sink: Option<&SinkName>, bytes: u64) {
        if let Some(reason) = reason {
            let count = self.by.entry((reason, sink.cloned())).or_default();
            count.stored = count.stored.saturating_sub(1);
        }
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Replaces the counts by those of the file. To be called when the file is opened, and after a purge.
    pub(super) fn recount(&mut self, DeadLetterTotals { counts, bytes }: DeadLetterTotals) {
        for count in self.by.values_mut() {
            count.stored = 0;
        }
        for (reason, sink, count) in counts {
            self.by.entry((reason, sink)).or_default().stored = count;
        }
        self.bytes = bytes;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn rows(&self) -> Vec<DeadLetterCountRow> {
        self.by.iter().map(|((reason, sink), count)| (*reason, sink.clone(), *count)).collect()
    }
}
