//! Which delivery tag may be acknowledged: the end of the longest run of settled messages.
//!
//! A watermark belongs to one channel. Tags restart with the next channel, and so does the watermark: nothing here can
//! acknowledge on a channel what came through another.

use std::collections::VecDeque;

use super::EntryId;
use crate::failpoints::Failpoint;

/// The messages that came through one channel and are not yet acknowledged there, by tag.
#[derive(Debug, Default)]
pub struct Watermark {
    /// The tag of the first slot; AMQP counts them from 1.
    first: u64,
    slots: VecDeque<Slot>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    entry: EntryId,
    settled: bool,
}

impl Watermark {
    /// The watermark of a new channel.
    #[must_use]
    pub fn new() -> Self {
        Self { first: 1, slots: VecDeque::new() }
    }

    /// The next message of the channel. False if `tag` isn't the next one, which no broker does.
    pub fn receive(&mut self, tag: u64, entry: EntryId) -> bool {
        let expected = self.first + self.slots.len() as u64;
        if tag != expected {
            return false;
        }
        self.slots.push_back(Slot { entry, settled: false });
        true
    }

    /// The message with that tag is settled.
    pub fn settle(&mut self, tag: u64) {
        let place = tag.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        if let Some(slot) = place.and_then(|place| self.slots.get_mut(place)) {
            slot.settled = true;
        }
    }

    /// Takes the settled run off the front: calls `acknowledged` for each of its messages, and says the tag up to which
    /// one cumulative acknowledgement now reaches.
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

    /// The tags of settled messages behind one that isn't: no cumulative acknowledgement reaches them.
    pub fn stragglers(&self) -> impl Iterator<Item = u64> + '_ {
        (self.first..).zip(&self.slots).filter(|(_, slot)| slot.settled).map(|(tag, _)| tag)
    }

    /// The messages that are not acknowledged, in order, and whether each is settled. The watermark is empty afterwards.
    pub fn take(&mut self) -> impl Iterator<Item = (EntryId, bool)> {
        std::mem::take(&mut self.slots).into_iter().map(|slot| (slot.entry, slot.settled))
    }

    /// The oldest message that is not acknowledged.
    #[must_use]
    pub fn head(&self) -> Option<EntryId> {
        self.slots.front().map(|slot| slot.entry)
    }

    /// Every message that is not acknowledged is settled.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.slots.iter().all(|slot| slot.settled)
    }

    /// How many messages are not acknowledged.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Every message is acknowledged.
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
            assert!(watermark.receive(tag, EntryId(tag * 10)));
        }
        watermark.settle(2);
        watermark.settle(3);
        assert_eq!(watermark.advance(|_| ()), None);
        assert_eq!(watermark.stragglers().collect::<Vec<_>>(), [2, 3]);
        watermark.settle(1);
        let mut acknowledged = Vec::new();
        assert_eq!(watermark.advance(|entry| acknowledged.push(entry.0)), Some(3));
        assert_eq!(acknowledged, [10, 20, 30]);
        assert_eq!(watermark.advance(|_| ()), None);
        assert_eq!(watermark.take().collect::<Vec<_>>(), [(EntryId(40), false)]);
    }

    #[test]
    fn tags_out_of_turn_are_not_taken() {
        let mut watermark = Watermark::new();
        assert!(!watermark.receive(2, EntryId(1)));
        assert!(watermark.receive(1, EntryId(1)));
        assert!(!watermark.receive(1, EntryId(2)));
        watermark.settle(0);
        watermark.settle(99);
        assert_eq!(watermark.len(), 1);
    }
}
