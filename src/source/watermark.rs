//! The delivery tag up to which everything may be acknowledged: the end of the longest run of settled messages.
//!
//! A watermark belongs to one channel. Delivery tags restart with the next channel, and so does the watermark: it can't acknowledge a
//! message on another channel than its own.

use std::collections::VecDeque;

use super::EntryId;
use crate::failpoints::Failpoint;

/// The messages that were received on one channel and are not acknowledged, by delivery tag.
#[derive(Debug, Default)]
pub struct Watermark {
    /// The tag of the first slot. AMQP counts tags from 1.
    first: u64,
    slots: VecDeque<Slot>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    entry: EntryId,
    settled: bool,
}

impl Watermark {
    #[must_use]
    pub fn new() -> Self {
        Self { first: 1, slots: VecDeque::new() }
    }

    /// Adds the next message of the channel. Returns false if `tag` is not the next one, which no broker does.
    pub fn push(&mut self, tag: u64, entry: EntryId) -> bool {
        let expected = self.first + self.slots.len() as u64;
        if tag != expected {
            return false;
        }
        self.slots.push_back(Slot { entry, settled: false });
        true
    }

    pub fn settle(&mut self, tag: u64) {
        let index = tag.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(slot) = index.and_then(|index| self.slots.get_mut(index)) {
            slot.settled = true;
        }
    }

    /// Removes the settled messages at the front, calls `acknowledged` for each, and returns the tag for one cumulative acknowledgement.
    pub fn advance(&mut self, mut acknowledged: impl FnMut(EntryId)) -> Option<u64> {
        if Failpoint::AcknowledgePastTheWatermark.is_enabled()
            && let Some(last) = self.slots.iter().rposition(|slot| slot.settled)
        {
            self.slots.iter_mut().take(last).for_each(|slot| slot.settled = true);
        }
        let before = self.first;
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.settled) {
            acknowledged(slot.entry);
            self.first += 1;
        }
        (self.first > before).then(|| self.first - 1)
    }

    /// The tags of settled messages behind an unsettled one: no cumulative acknowledgement reaches them.
    pub fn settled_beyond(&self) -> impl Iterator<Item = u64> + '_ {
        (self.first..).zip(&self.slots).filter(|(_, slot)| slot.settled).map(|(tag, _)| tag)
    }

    /// Removes and returns the messages that are not acknowledged, in order, with whether each is settled.
    pub fn take(&mut self) -> impl Iterator<Item = (EntryId, bool)> {
        std::mem::take(&mut self.slots).into_iter().map(|slot| (slot.entry, slot.settled))
    }

    #[must_use]
    pub fn head(&self) -> Option<EntryId> {
        self.slots.front().map(|slot| slot.entry)
    }

    /// Whether every unacknowledged message is settled.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.slots.iter().all(|slot| slot.settled)
    }

    /// The number of unacknowledged messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_settled_run_at_the_front_is_acknowledged() {
        let mut watermark = Watermark::new();
        for tag in 1..=4 {
            assert!(watermark.push(tag, EntryId(tag * 10)));
        }
        watermark.settle(2);
        watermark.settle(3);
        assert_eq!(watermark.advance(|_| ()), None);
        assert_eq!(watermark.settled_beyond().collect::<Vec<_>>(), [2, 3]);
        watermark.settle(1);
        let mut acknowledged = Vec::new();
        assert_eq!(watermark.advance(|entry| acknowledged.push(entry.0)), Some(3));
        assert_eq!(acknowledged, [10, 20, 30]);
        assert_eq!(watermark.advance(|_| ()), None);
        assert_eq!(watermark.take().collect::<Vec<_>>(), [(EntryId(40), false)]);
    }

    #[test]
    fn tags_out_of_order_are_refused() {
        let mut watermark = Watermark::new();
        assert!(!watermark.push(2, EntryId(1)));
        assert!(watermark.push(1, EntryId(1)));
        assert!(!watermark.push(1, EntryId(2)));
        watermark.settle(0);
        watermark.settle(99);
        assert_eq!(watermark.len(), 1);
    }
}
