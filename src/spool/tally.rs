//! Dead letters counted by reason and sink.

use std::collections::BTreeMap;

use crate::event::Reason;
use crate::rules::SinkName;

/// What a reason and a sink have in the spool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Stored since the relay started.
    pub stored: u64,
    /// In the file now.
    pub kept: u64,
}

/// A tally with what it counts.
pub type TallyRow = (Reason, Option<SinkName>, Tally);

/// What the file has.
#[derive(Debug)]
pub(super) struct Tallied {
    pub(super) kept: Vec<(Reason, Option<SinkName>, u64)>,
    pub(super) bytes: u64,
}

/// All tallies. Those of reasons and sinks that never had a dead letter aren't among them.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    by: BTreeMap<(Reason, Option<SinkName>), Tally>,
    bytes: u64,
}

impl Tallies {
    /// One more letter is in the file.
    pub(super) fn stored(&mut self, reason: Reason, sink: Option<&SinkName>, bytes: u64) {
        let tally = self.by.entry((reason, sink.cloned())).or_default();
        tally.stored += 1;
        tally.kept += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// A letter is no longer in the file.
    pub(super) fn removed(&mut self, reason: Option<Reason>, sink: Option<&SinkName>, bytes: u64) {
        if let Some(reason) = reason {
            let tally = self.by.entry((reason, sink.cloned())).or_default();
            tally.kept = tally.kept.saturating_sub(1);
        }
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// The file was counted anew: after opening it, and after a purge.
    pub(super) fn recount(&mut self, Tallied { kept, bytes }: Tallied) {
        for tally in self.by.values_mut() {
            tally.kept = 0;
        }
        for (reason, sink, count) in kept {
            self.by.entry((reason, sink)).or_default().kept = count;
        }
        self.bytes = bytes;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn rows(&self) -> Vec<TallyRow> {
        self.by.iter().map(|((reason, sink), tally)| (*reason, sink.clone(), *tally)).collect()
    }
}
