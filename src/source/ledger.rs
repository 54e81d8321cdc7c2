//! The messages that a source handed out, across channels: a redelivered copy is recognized, and not handed out again.
//!
//! The loss of a channel cancels no message. The broker redelivers the unacknowledged ones, and each redelivered copy takes over the state
//! of one message that the ledger still knows: an unsettled one, a settled but unacknowledged one, or one of the last acknowledged ones,
//! whose acknowledgement may not have reached the broker. A message without the redelivered flag is always a new one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use foldhash::HashMap;

use super::{EntryId, Settlement, Watermark};
use crate::failpoints::Failpoint;

/// A hash of a message's bytes, properties and headers. A redelivered copy has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u128);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// A message to hand out under this number.
    New(EntryId),
    /// A copy of a message that was handed out before. It takes over the state of that message.
    Known,
    /// The delivery tag is not the next one: the channel can't be trusted.
    TagOutOfOrder,
}

#[derive(Debug)]
pub struct Ledger {
    watermark: Watermark,
    next: u64,
    /// The number of unsettled messages.
    unsettled: usize,
    entries: HashMap<EntryId, LedgerEntry>,
    /// The unacknowledged messages of earlier channels, oldest first. Of equal messages some may be settled.
    prior_copies: HashMap<Fingerprint, VecDeque<PriorCopy>>,
    /// The settled ones among them, oldest first: they are forgotten in this order.
    settled_prior_copies: VecDeque<Fingerprint>,
    /// The last acknowledged messages of this channel.
    acknowledged: VecDeque<Fingerprint>,
    /// The number of acknowledged messages that are remembered; of settled prior copies, twice as many.
    capacity: usize,
    /// When the oldest unacknowledged message became the oldest one.
    head_since: Instant,
}

#[derive(Debug)]
struct LedgerEntry {
    fingerprint: Fingerprint,
    /// When it was received on its present channel.
    received: Instant,
    /// None while its channel is lost and it was not redelivered yet.
    tag: Option<u64>,
}

/// A message of an earlier channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PriorCopy {
    Unsettled(EntryId),
    /// Its redelivered copy only has to be acknowledged.
    Settled,
}

impl Ledger {
    /// The ledger remembers as many acknowledged messages as can be unacknowledged.
    #[must_use]
    pub fn new(prefetch: usize) -> Self {
        Self {
            watermark: Watermark::new(),
            next: 0,
            unsettled: 0,
            entries: HashMap::default(),
            prior_copies: HashMap::default(),
            settled_prior_copies: VecDeque::new(),
            acknowledged: VecDeque::new(),
            capacity: prefetch,
            head_since: Instant::now(),
        }
    }

    /// Adds a message that was received on the present channel.
    pub fn register(&mut self, tag: u64, fingerprint: Fingerprint, redelivered: bool) -> Registration {
        let known = if redelivered { self.take_prior_copy(fingerprint) } else { None };
        let entry = match known {
            Some(PriorCopy::Unsettled(entry)) => entry,
            Some(PriorCopy::Settled) | None => self.next_id(),
        };
        if self.watermark.is_empty() {
            self.head_since = Instant::now();
        }
        if !self.watermark.push(tag, entry) {
            return Registration::TagOutOfOrder;
        }
        match known {
            Some(PriorCopy::Unsettled(_)) => {
                if let Some(entry) = self.entries.get_mut(&entry) {
                    if !Failpoint::SettleOnTheWrongChannel.is_enabled() {
                        entry.tag = Some(tag);
                    }
                    entry.received = Instant::now();
                }
                Registration::Known
            }
            Some(PriorCopy::Settled) => {
                self.entries.insert(entry, LedgerEntry { fingerprint, received: Instant::now(), tag: Some(tag) });
                self.watermark.settle(tag);
                Registration::Known
            }
            None => {
                self.entries.insert(entry, LedgerEntry { fingerprint, received: Instant::now(), tag: Some(tag) });
                self.unsettled += 1;
                Registration::New(entry)
            }
        }
    }

    /// Settles a message of any channel. Returns true if it was abandoned: the broker has to redeliver it.
    pub fn settle(&mut self, settled: Settlement) -> bool {
        self.unsettled = self.unsettled.saturating_sub(1);
        match settled {
            Settlement::Done(id) => {
                let Some(entry) = self.entries.get(&id) else { return false };
                if let Some(tag) = entry.tag {
                    self.watermark.settle(tag);
                } else {
                    let fingerprint = entry.fingerprint;
                    self.entries.remove(&id);
                    self.settle_prior_copy(fingerprint, id);
                }
                false
            }
            Settlement::Abandoned(id) => {
                if let Some(entry) = self.entries.remove(&id) {
                    self.forget_unsettled(entry.fingerprint, id);
                }
                true
            }
        }
    }

    /// Moves the watermark. Returns the tag up to which everything is to be acknowledged, if it moved.
    pub fn acknowledge(&mut self) -> Option<u64> {
        let (entries, acknowledged, capacity) = (&mut self.entries, &mut self.acknowledged, self.capacity);
        let tag = self.watermark.advance(|id| {
            if let Some(entry) = entries.remove(&id) {
                if acknowledged.len() >= capacity {
                    acknowledged.pop_front();
                }
                acknowledged.push_back(entry.fingerprint);
            }
        })?;
        self.head_since = Instant::now();
        Some(tag)
    }

    /// The oldest unacknowledged message, and when it became the oldest one.
    #[must_use]
    pub fn head(&self) -> Option<(EntryId, Instant)> {
        Some((self.watermark.head()?, self.head_since))
    }

    /// The last message that was handed out.
    #[must_use]
    pub fn newest(&self) -> EntryId {
        EntryId(self.next)
    }

    /// The tags of settled messages behind an unsettled one: no cumulative acknowledgement reaches them.
    #[must_use]
    pub fn settled_beyond_watermark(&self) -> Vec<u64> {
        self.watermark.settled_beyond().collect()
    }

    /// Forgets the tags of the present channel: the broker will redeliver its unacknowledged messages.
    pub fn lose_channel(&mut self) {
        for fingerprint in std::mem::take(&mut self.acknowledged) {
            self.remember_settled(fingerprint);
        }
        let left: Vec<_> = self.watermark.take().collect();
        for (id, settled) in left {
            if settled {
                if let Some(entry) = self.entries.remove(&id) {
                    self.remember_settled(entry.fingerprint);
                }
            } else if let Some(entry) = self.entries.get_mut(&id) {
                if !Failpoint::SettleOnTheWrongChannel.is_enabled() {
                    entry.tag = None;
                }
                self.prior_copies.entry(entry.fingerprint).or_default().push_back(PriorCopy::Unsettled(id));
            }
        }
        self.watermark = Watermark::new();
    }

    /// The number of unacknowledged messages of the present channel.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.watermark.len()
    }

    /// Whether every unacknowledged message of the present channel is settled.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.watermark.is_settled()
    }

    /// The number of unsettled messages of all channels.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// The age of the oldest unacknowledged message since it was received on the present channel.
    #[must_use]
    pub fn oldest(&self) -> Option<Duration> {
        let head = self.watermark.head()?;
        self.entries.get(&head).map(|entry| entry.received.elapsed())
    }

    fn next_id(&mut self) -> EntryId {
        self.next += 1;
        EntryId(self.next)
    }

    /// Of equal messages the unsettled ones come first. If a copy of an unsettled one were taken for a settled one, it would be
    /// acknowledged at once, although that message is still in flight.
    fn take_prior_copy(&mut self, fingerprint: Fingerprint) -> Option<PriorCopy> {
        let copies = self.prior_copies.get_mut(&fingerprint)?;
        let unsettled = copies.iter().position(|copy| matches!(copy, PriorCopy::Unsettled(_)));
        let index = unsettled.filter(|_| !Failpoint::RecognizeSettledFirst.is_enabled()).unwrap_or(0);
        let copy = copies.remove(index);
        if copies.is_empty() {
            self.prior_copies.remove(&fingerprint);
        }
        if copy == Some(PriorCopy::Settled)
            && let Some(index) = self.settled_prior_copies.iter().position(|settled| *settled == fingerprint)
        {
            self.settled_prior_copies.remove(index);
        }
        copy
    }

    fn settle_prior_copy(&mut self, fingerprint: Fingerprint, id: EntryId) {
        self.forget_unsettled(fingerprint, id);
        self.remember_settled(fingerprint);
    }

    fn remember_settled(&mut self, fingerprint: Fingerprint) {
        self.prior_copies.entry(fingerprint).or_default().push_back(PriorCopy::Settled);
        self.settled_prior_copies.push_back(fingerprint);
        while self.settled_prior_copies.len() > self.capacity.saturating_mul(2) {
            if let Some(oldest) = self.settled_prior_copies.pop_front() {
                self.forget_copy(oldest, PriorCopy::Settled);
            }
        }
    }

    fn forget_unsettled(&mut self, fingerprint: Fingerprint, id: EntryId) {
        self.forget_copy(fingerprint, PriorCopy::Unsettled(id));
    }

    fn forget_copy(&mut self, fingerprint: Fingerprint, which: PriorCopy) {
        if let Some(copies) = self.prior_copies.get_mut(&fingerprint) {
            if let Some(index) = copies.iter().position(|copy| *copy == which) {
                copies.remove(index);
            }
            if copies.is_empty() {
                self.prior_copies.remove(&fingerprint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Fingerprint = Fingerprint(1);
    const B: Fingerprint = Fingerprint(2);

    fn new(received: Registration) -> EntryId {
        match received {
            Registration::New(entry) => entry,
            other => panic!("not new: {other:?}"),
        }
    }

    #[test]
    fn a_message_in_flight_is_not_handed_out_again() {
        let mut ledger = Ledger::new(10);
        let a = new(ledger.register(1, A, false));
        ledger.lose_channel();
        assert_eq!(ledger.register(1, A, true), Registration::Known);
        assert_eq!(ledger.acknowledge(), None);
        assert!(!ledger.settle(Settlement::Done(a)));
        assert_eq!(ledger.acknowledge(), Some(1));
        assert_eq!(ledger.unsettled(), 0);
    }

    #[test]
    fn a_late_settlement_never_acknowledges_on_the_next_channel() {
        let mut ledger = Ledger::new(10);
        let a = new(ledger.register(1, A, false));
        ledger.lose_channel();
        // On the new channel another message has the same tag.
        let b = new(ledger.register(1, B, false));
        ledger.settle(Settlement::Done(a));
        assert_eq!(ledger.acknowledge(), None);
        // The redelivered copy of the first one only has to be acknowledged.
        assert_eq!(ledger.register(2, A, true), Registration::Known);
        assert_eq!(ledger.acknowledge(), None);
        ledger.settle(Settlement::Done(b));
        assert_eq!(ledger.acknowledge(), Some(2));
    }

    #[test]
    fn settled_and_acknowledged_messages_of_a_lost_channel_are_recognized() {
        let mut ledger = Ledger::new(10);
        let a = new(ledger.register(1, A, false));
        let b = new(ledger.register(2, B, false));
        ledger.settle(Settlement::Done(b));
        assert_eq!(ledger.acknowledge(), None);
        ledger.lose_channel();
        assert_eq!(ledger.register(1, B, true), Registration::Known);
        assert_eq!(ledger.acknowledge(), Some(1));
        ledger.settle(Settlement::Done(a));
        ledger.lose_channel();
        assert_eq!(ledger.register(1, B, true), Registration::Known, "the broker did not see the acknowledgement");
    }

    #[test]
    fn nothing_is_forgotten_if_a_channel_is_lost_before_its_redeliveries() {
        let mut ledger = Ledger::new(10);
        let a = new(ledger.register(1, A, false));
        ledger.settle(Settlement::Done(a));
        ledger.lose_channel();
        ledger.lose_channel();
        assert_eq!(ledger.register(1, A, true), Registration::Known);
    }

    #[test]
    fn one_redelivered_copy_takes_over_one_message() {
        let mut ledger = Ledger::new(10);
        new(ledger.register(1, A, false));
        ledger.lose_channel();
        new(ledger.register(1, A, false));
        assert_eq!(ledger.register(2, A, true), Registration::Known);
        new(ledger.register(3, A, true));
    }

    #[test]
    fn the_unsettled_one_of_equal_messages_is_recognized_first() {
        let mut ledger = Ledger::new(10);
        let first = new(ledger.register(1, A, false));
        ledger.settle(Settlement::Done(first));
        assert_eq!(ledger.acknowledge(), Some(1));
        let second = new(ledger.register(2, A, false));
        ledger.lose_channel();
        assert_eq!(ledger.register(1, A, true), Registration::Known);
        assert_eq!(ledger.acknowledge(), None, "the second is in flight");
        ledger.settle(Settlement::Done(second));
        assert_eq!(ledger.acknowledge(), Some(1));
        // If the first acknowledgement did not reach the broker, the other copy only has to be acknowledged.
        assert_eq!(ledger.register(2, A, true), Registration::Known);
        assert_eq!(ledger.acknowledge(), Some(2));
        assert_eq!((ledger.prior_copies.len(), ledger.settled_prior_copies.len()), (0, 0));
    }

    #[test]
    fn the_oldest_of_equal_unsettled_messages_is_recognized_first() {
        let mut ledger = Ledger::new(10);
        let settled = new(ledger.register(1, A, false));
        let [second, third] = [2, 3].map(|tag| new(ledger.register(tag, A, false)));
        ledger.settle(Settlement::Done(settled));
        ledger.lose_channel();
        for tag in 1..=3 {
            assert_eq!(ledger.register(tag, A, true), Registration::Known);
        }
        assert_eq!(ledger.acknowledge(), None);
        ledger.settle(Settlement::Done(second));
        assert_eq!(ledger.acknowledge(), Some(1));
        ledger.settle(Settlement::Done(third));
        assert_eq!(ledger.acknowledge(), Some(3));
    }

    #[test]
    fn an_abandoned_message_is_new_when_it_comes_again() {
        let mut ledger = Ledger::new(10);
        let a = new(ledger.register(1, A, false));
        assert!(ledger.settle(Settlement::Abandoned(a)));
        ledger.lose_channel();
        new(ledger.register(1, A, true));
    }

    #[test]
    fn the_number_of_remembered_messages_is_bounded() {
        let mut ledger = Ledger::new(2);
        for tag in 1..=5 {
            let entry = new(ledger.register(tag, Fingerprint(tag.into()), false));
            ledger.settle(Settlement::Done(entry));
            ledger.acknowledge();
        }
        assert_eq!(ledger.acknowledged.len(), 2);
        ledger.lose_channel();
        for _ in 0..5 {
            new(ledger.register(1, Fingerprint(99), false));
            let entry = EntryId(ledger.next);
            ledger.settle(Settlement::Done(entry));
            ledger.lose_channel();
        }
        assert_eq!(ledger.settled_prior_copies.len(), 4);
        assert_eq!(ledger.prior_copies.values().map(VecDeque::len).sum::<usize>(), 4);
    }
}
