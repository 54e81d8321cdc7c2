//! How much of the spool each sink takes, and whether there is room for more.

use std::collections::BTreeMap;

use super::footprint::{Footprint, LastPage};
use super::store::Written;
use crate::clock::Timestamp;
use crate::config::SpoolConfig;
use crate::failpoints::Failpoint;
use crate::rules::SinkName;

/// What the deliveries of a sink take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// How many there are.
    pub count: u64,
    /// What they take, in bytes.
    pub bytes: u64,
}

impl Sizes {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn take(&mut self, bytes: u64) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// What a sink has in the spool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// On disk.
    pub stored: Sizes,
    /// On its way there.
    pub queued: Sizes,
    /// When the message of the oldest was received, as of a moment ago.
    pub oldest: Option<Timestamp>,
    /// The size of the last delivery that asked, where it found no room.
    refused: Option<u64>,
}

impl Share {
    /// What they take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.stored.bytes.saturating_add(self.queued.bytes)
    }

    /// How many deliveries wait.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.stored.count + self.queued.count
    }
}

/// Whether a delivery may exceed the size of the spool and its sink's share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// No.
    Kept,
    /// Yes: it is put to disk because the relay, its source or its sink ends, or the broker is about to drop its message.
    Exceeded,
}

/// The shares of all sinks, and what they may take.
#[derive(Debug)]
pub(super) struct Budget {
    max_size: u64,
    max_share: u64,
    sinks: BTreeMap<SinkName, Share>,
    /// What all shares take together.
    total: u64,
    /// The disk itself has no room left to speak of.
    disk_is_full: bool,
    /// Of the table of deliveries.
    last_page: LastPage,
}

impl Budget {
    pub(super) fn new(config: &SpoolConfig) -> Self {
        let max_share = config.limit();
        Self {
            max_size: config.max_size,
            max_share,
            sinks: BTreeMap::new(),
            total: 0,
            disk_is_full: false,
            last_page: LastPage::default(),
        }
    }

    /// Room for the next delivery, if there is any: what it takes, in bytes.
    pub(super) fn reserve_row(&mut self, sink: &SinkName, row: &Footprint, limits: Limits) -> Option<u64> {
        let size = self.last_page.add(row);
        let has_room = match limits {
            Limits::Exceeded if !Failpoint::KeepLimitsAtTheEnd.is_enabled() => self.reserve_beyond(sink, size),
            Limits::Kept | Limits::Exceeded => self.reserve(sink, size),
        };
        has_room.then_some(size)
    }

    /// Room for a delivery of that size, if there is any.
    fn reserve(&mut self, sink: &SinkName, size: u64) -> bool {
        let taken = self.share(sink).bytes();
        let has_room = self.has_room(taken, size);
        let share = self.share(sink);
        share.refused = (!has_room).then_some(size);
        if has_room {
            share.queued.add(size);
            self.total = self.total.saturating_add(size);
        }
        has_room
    }

    /// Whether a sink that takes so many bytes may take so many more.
    fn has_room(&self, taken: u64, size: u64) -> bool {
        let total = self.total.saturating_add(size) <= self.max_size;
        total && !self.disk_is_full && taken.saturating_add(size) <= self.max_share
    }

    /// Room for a delivery beyond all limits but the disk's own: at the end of the relay, of a source or of a sink. There are no more
    /// of these than the sources' prefetch.
    fn reserve_beyond(&mut self, sink: &SinkName, size: u64) -> bool {
        if self.disk_is_full {
            return false;
        }
        self.share(sink).queued.add(size);
        self.total = self.total.saturating_add(size);
        true
    }

    /// What was reserved is on disk.
    pub(super) fn stored(&mut self, sink: &SinkName, size: u64) {
        let share = self.share(sink);
        share.queued.take(size);
        share.stored.add(size);
    }

    /// What was reserved is not needed: it was not written, or counted on disk before.
    pub(super) fn not_needed(&mut self, sink: &SinkName, size: u64) {
        self.share(sink).queued.take(size);
        self.total = self.total.saturating_sub(size);
    }

    /// The end of what was reserved for a row.
    pub(super) fn written(&mut self, sink: &SinkName, size: u64, written: Written) {
        match written {
            Written::New => self.stored(sink, size),
            Written::Again | Written::Known(_) => self.not_needed(sink, size),
        }
    }

    /// A delivery is gone from the disk.
    pub(super) fn removed(&mut self, sink: &SinkName, size: u64) {
        let share = self.share(sink);
        share.stored.take(size);
        if share.count() == 0 {
            share.oldest = None;
        }
        self.total = self.total.saturating_sub(size);
    }

    /// What is on disk was counted anew.
    pub(super) fn recount(&mut self, sizes: Vec<(SinkName, Sizes)>) {
        for share in self.sinks.values_mut() {
            share.stored = Sizes::default();
        }
        for (sink, stored) in sizes {
            self.share(&sink).stored = stored;
        }
        self.total = self.sinks.values().fold(0, |sum, share| sum.saturating_add(share.bytes()));
    }

    /// Whether the disk has room to speak of.
    pub(super) fn set_disk_is_full(&mut self, is_full: bool) {
        self.disk_is_full = is_full;
    }

    pub(super) fn disk_is_full(&self) -> bool {
        self.disk_is_full
    }

    pub(super) fn set_oldest(&mut self, sink: &SinkName, oldest: Option<Timestamp>) {
        self.share(sink).oldest = oldest;
    }

    /// Why nothing more is taken in for some sink, in a sentence with what to do.
    pub(super) fn problem(&self) -> Option<String> {
        // Whoever was refused may have room by now: what others took is gone, too.
        let is_refused = |share: &Share| share.refused.is_some_and(|size| !self.has_room(share.bytes(), size));
        let full = self.sinks.iter().find(|(_, share)| is_refused(share))?;
        if self.disk_is_full {
            return Some("the disk of the spool is nearly full: nothing more is put there; make room on it".to_owned());
        }
        let (sink, share) = full;
        Some(format!(
            "the spool has no room for sink {sink} ({} deliveries wait there, {} bytes of at most {} for one sink and {} for \
             all): its messages stay unacknowledged; mend the sink, or raise `spool.max_size` or `max_share` and restart",
            share.count(),
            share.bytes(),
            self.max_share,
            self.max_size,
        ))
    }

    pub(super) fn shares(&self) -> impl Iterator<Item = (&SinkName, &Share)> {
        self.sinks.iter()
    }

    fn share(&mut self, sink: &SinkName) -> &mut Share {
        if !self.sinks.contains_key(sink) {
            self.sinks.insert(sink.clone(), Share::default());
        }
        self.sinks.entry(sink.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OnCorrupt;

    #[test]
    fn a_sink_that_was_refused_has_room_again_once_another_has_drained() {
        let config =
            SpoolConfig { path: "spool.db".into(), on_corrupt: OnCorrupt::Stop, max_size: 1_000, max_share: 100 };
        let (a, b) = (SinkName::new("a"), SinkName::new("b"));
        let mut budget = Budget::new(&config);
        assert!(budget.reserve(&a, 1_000));
        assert!(!budget.reserve(&b, 10));
        assert!(budget.problem().is_some());
        budget.stored(&a, 1_000);
        budget.removed(&a, 1_000);
        assert_eq!(budget.problem(), None);
        assert!(!budget.reserve(&b, 1_001));
        budget.recount(Vec::new());
        assert!(budget.problem().is_some(), "it is more than all there is");
    }

    #[test]
    fn one_sink_takes_no_more_than_its_share_and_all_no_more_than_there_is() {
        let config =
            SpoolConfig { path: "spool.db".into(), on_corrupt: OnCorrupt::Stop, max_size: 1_000, max_share: 60 };
        let (a, b) = (SinkName::new("a"), SinkName::new("b"));
        let mut budget = Budget::new(&config);
        assert!(budget.reserve(&a, 600));
        assert!(!budget.reserve(&a, 1), "its share");
        assert!(budget.reserve(&b, 400));
        assert!(!budget.reserve(&b, 1), "the whole");
        budget.stored(&a, 600);
        assert!(!budget.reserve(&a, 1), "on disk it takes as much");
        budget.removed(&a, 600);
        assert!(budget.reserve(&b, 200));
        budget.recount(vec![(a.clone(), Sizes { count: 1, bytes: 400 })]);
        assert!(!budget.reserve(&a, 1), "what is on its way is counted too");
        assert!(budget.reserve_beyond(&a, 1));
        budget.set_disk_is_full(true);
        assert!(!budget.reserve_beyond(&a, 1));
        budget.recount(Vec::new());
        assert!(!budget.reserve(&a, 1));
        assert!(budget.problem().is_some());
        budget.set_disk_is_full(false);
        assert_eq!(budget.problem(), None);
    }
}
