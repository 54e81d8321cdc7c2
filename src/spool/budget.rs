//! How much of the spool each sink uses, and whether there is room for another delivery.

use std::collections::BTreeMap;

use super::outcome::InsertOutcome;
use super::row_size::{CurrentPage, RowSize};
use crate::clock::Timestamp;
use crate::config::SpoolConfig;
use crate::failpoints::Failpoint;
use crate::rules::SinkName;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub count: u64,
    pub bytes: u64,
}

impl Usage {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn take(&mut self, bytes: u64) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// How much of the spool the deliveries of a sink use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SinkUsage {
    pub stored: Usage,
    /// Handed to the writer and not on disk yet.
    pub queued: Usage,
    /// When the message of the oldest delivery was received, as it was about a second ago.
    pub oldest: Option<Timestamp>,
    /// The size of the last delivery, if there was no room for it.
    refused: Option<u64>,
}

impl SinkUsage {
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.stored.bytes.saturating_add(self.queued.bytes)
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.stored.count + self.queued.count
    }

    /// Adds the usage of the same sink in another shard.
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, one) in [(&mut self.stored, other.stored), (&mut self.queued, other.queued)] {
            sum.count += one.count;
            sum.bytes = sum.bytes.saturating_add(one.bytes);
        }
        let oldest = [self.oldest, other.oldest].into_iter().flatten();
        self.oldest = oldest.min_by_key(|oldest| oldest.wall);
    }
}

/// Whether `spool.max_size` and `max_share` apply to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeLimits {
    Enforced,
    /// They don't apply: the relay, the source or the sink ends, or the broker is about to drop the message.
    Waived,
    /// They don't for the first [`GROUP_ROOM`] of a sink: it spools every event, also while other sinks take all of the spool.
    Grouped,
}

/// What the deliveries of a sink with `group` may take beyond the limits, in bytes.
const GROUP_ROOM: u64 = 16 * 1024 * 1024;

/// The usage of all sinks, and its limits.
#[derive(Debug)]
pub(super) struct Budget {
    max_size: u64,
    max_share: u64,
    sinks: BTreeMap<SinkName, SinkUsage>,
    /// The usage of all sinks together, in bytes.
    total: u64,
    disk_is_full: bool,
    current_page: CurrentPage,
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
            current_page: CurrentPage::default(),
        }
    }

    /// Reserves room for the next delivery. Returns its size in bytes, or `None` if there is no room.
    pub(super) fn reserve_row(&mut self, sink: &SinkName, row: &RowSize, limits: SizeLimits) -> Option<u64> {
        let size = self.current_page.add(row);
        let has_room = match limits {
            SizeLimits::Waived if !Failpoint::KeepLimitsAtTheEnd.is_enabled() => self.reserve_beyond(sink, size),
            SizeLimits::Grouped if self.share(sink).bytes().saturating_add(size) <= GROUP_ROOM => {
                self.reserve_beyond(sink, size)
            }
            _ => self.reserve(sink, size),
        };
        has_room.then_some(size)
    }

    fn reserve(&mut self, sink: &SinkName, size: u64) -> bool {
        let taken = self.share(sink).bytes();
        let has_room = self.has_room(taken, size);
        self.reserve_if(has_room, sink, size)
    }

    /// Whether a sink that uses `taken` bytes may use `size` more.
    fn has_room(&self, taken: u64, size: u64) -> bool {
        let total = self.total.saturating_add(size) <= self.max_size;
        total && !self.disk_is_full && taken.saturating_add(size) <= self.max_share
    }

    /// Reserves room beyond the configured limits, while the disk has space. There are no more such deliveries than the sources' prefetch.
    fn reserve_beyond(&mut self, sink: &SinkName, size: u64) -> bool {
        self.reserve_if(!self.disk_is_full, sink, size)
    }

    fn reserve_if(&mut self, has_room: bool, sink: &SinkName, size: u64) -> bool {
        let share = self.share(sink);
        share.refused = (!has_room).then_some(size);
        if has_room {
            share.queued.add(size);
            self.total = self.total.saturating_add(size);
        }
        has_room
    }

    /// To be called if a reserved delivery is on disk.
    pub(super) fn on_stored(&mut self, sink: &SinkName, size: u64) {
        let share = self.share(sink);
        share.queued.take(size);
        share.stored.add(size);
    }

    /// Releases the room of a reserved delivery that was not written, or whose row was counted before.
    pub(super) fn release(&mut self, sink: &SinkName, size: u64) {
        self.share(sink).queued.take(size);
        self.total = self.total.saturating_sub(size);
    }

    pub(super) fn on_written(&mut self, sink: &SinkName, size: u64, written: InsertOutcome) {
        match written {
            InsertOutcome::Inserted => self.on_stored(sink, size),
            InsertOutcome::AlreadyInserted | InsertOutcome::Duplicate(_) => self.release(sink, size),
        }
    }

    pub(super) fn remove(&mut self, sink: &SinkName, size: u64) {
        let share = self.share(sink);
        share.stored.take(size);
        if share.count() == 0 {
            share.oldest = None;
        }
        self.total = self.total.saturating_sub(size);
    }

    /// Replaces the counts by those of the file.
    pub(super) fn recount(&mut self, sizes: Vec<(SinkName, Usage)>) {
        for share in self.sinks.values_mut() {
            share.stored = Usage::default();
        }
        for (sink, stored) in sizes {
            self.share(&sink).stored = stored;
        }
        self.total = self.sinks.values().fold(0, |sum, share| sum.saturating_add(share.bytes()));
    }

    pub(super) fn set_disk_is_full(&mut self, is_full: bool) {
        self.disk_is_full = is_full;
    }

    pub(super) fn disk_is_full(&self) -> bool {
        self.disk_is_full
    }

    pub(super) fn set_oldest(&mut self, sink: &SinkName, oldest: Option<Timestamp>) {
        self.share(sink).oldest = oldest;
    }

    /// Why deliveries of a sink can't be spooled, with what to do.
    pub(super) fn problem(&self) -> Option<String> {
        // A sink that found no room may have some by now, also because others use less.
        let is_refused = |share: &SinkUsage| share.refused.is_some_and(|size| !self.has_room(share.bytes(), size));
        let full = self.sinks.iter().find(|(_, share)| is_refused(share))?;
        if self.disk_is_full {
            return Some(
                "the disk of the spool is nearly full: the relay spools no more deliveries; make room on the disk"
                    .to_owned(),
            );
        }
        let (sink, share) = full;
        Some(format!(
            "the spool has no room for sink {sink} ({} deliveries, {} bytes of at most {} for one sink and {} for all): its messages \
             stay unacknowledged; repair the sink, or raise `spool.max_size` or `max_share` and restart",
            share.count(),
            share.bytes(),
            self.max_share,
            self.max_size,
        ))
    }

    /// Of all sinks, and of one.
    pub(super) fn limits(&self) -> (u64, u64) {
        (self.max_size, self.max_share)
    }

    pub(super) fn sinks(&self) -> impl Iterator<Item = (&SinkName, &SinkUsage)> {
        self.sinks.iter()
    }

    fn share(&mut self, sink: &SinkName) -> &mut SinkUsage {
        if !self.sinks.contains_key(sink) {
            self.sinks.insert(sink.clone(), SinkUsage::default());
        }
        self.sinks.entry(sink.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::row_size::RequestLengths;

    #[test]
    fn a_refused_sink_has_room_again_once_another_has_drained() {
        let config = SpoolConfig { max_size: 1_000, max_share: 100, ..SpoolConfig::at("spool.db".into()) };
        let (a, b) = (SinkName::new("a"), SinkName::new("b"));
        let mut budget = Budget::new(&config);
        assert!(budget.reserve(&a, 1_000));
        assert!(!budget.reserve(&b, 10));
        assert!(budget.problem().is_some());
        budget.on_stored(&a, 1_000);
        budget.remove(&a, 1_000);
        assert_eq!(budget.problem(), None);
        assert!(!budget.reserve(&b, 1_001));
        budget.recount(Vec::new());
        assert!(budget.problem().is_some(), "it is larger than the whole spool");
    }

    #[test]
    fn a_full_disk_is_reported_also_beyond_the_limits() {
        let config = SpoolConfig { max_size: 1_000, max_share: 100, ..SpoolConfig::at("spool.db".into()) };
        let sink = SinkName::new("grouped");
        let row = RowSize::of_request(RequestLengths { alert: 1, others: 1 });
        for limits in [SizeLimits::Grouped, SizeLimits::Waived] {
            let mut budget = Budget::new(&config);
            budget.set_disk_is_full(true);
            assert_eq!(budget.reserve_row(&sink, &row, limits), None);
            let problem = budget.problem().expect("a problem");
            assert!(problem.contains("make room on the disk"), "{problem}");
            budget.set_disk_is_full(false);
            assert_eq!(budget.problem(), None);
        }
    }

    #[test]
    fn one_sink_is_limited_by_its_share_and_all_sinks_by_the_size() {
        let config = SpoolConfig { max_size: 1_000, max_share: 60, ..SpoolConfig::at("spool.db".into()) };
        let (a, b) = (SinkName::new("a"), SinkName::new("b"));
        let mut budget = Budget::new(&config);
        assert!(budget.reserve(&a, 600));
        assert!(!budget.reserve(&a, 1), "its share is used up");
        assert!(budget.reserve(&b, 400));
        assert!(!budget.reserve(&b, 1), "the spool is full");
        budget.on_stored(&a, 600);
        assert!(!budget.reserve(&a, 1), "a stored delivery counts as much as a queued one");
        budget.remove(&a, 600);
        assert!(budget.reserve(&b, 200));
        budget.recount(vec![(a.clone(), Usage { count: 1, bytes: 400 })]);
        assert!(!budget.reserve(&a, 1), "queued deliveries count, too");
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
