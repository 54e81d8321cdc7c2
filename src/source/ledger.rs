//! Which messages a source handed out, across channels: so that a redelivered one is recognized and not handed out again.
//!
//! When a channel is lost, nothing that was taken through it is cancelled. The broker redelivers what was not acknowledged;
//! each redelivered copy takes over one message that is still known: unsettled, settled but unacknowledged, or among the last
//! acknowledged ones, whose acknowledgement the broker may not have seen. A message without the redelivered flag is always
//! a new one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use foldhash::HashMap;

use super::{EntryId, Settled, Watermark};
use crate::failpoints::Failpoint;

/// What identifies a message to the broker: the same bytes, properties and headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(pub u128);

/// What a received message turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It has to be handed out under this number.
    New(EntryId),
    /// It was handed out before and takes over that state.
    Known,
    /// Its tag is not the next one of the channel: the channel can't be trusted.
    OutOfTurn,
}

/// The record of one source.
#[derive(Debug)]
pub struct Ledger {
    watermark: Watermark,
    next: u64,
    /// How many entries are under way.
    unsettled: usize,
    entries: HashMap<EntryId, Entry>,
    /// What the channels before this one left behind, oldest first: equal messages can be settled and not.
    orphans: HashMap<Identity, VecDeque<Orphan>>,
    /// Which orphans are settled, oldest first: they are forgotten in this order.
    settled_orphans: VecDeque<Identity>,
    /// What was acknowledged last on this channel.
    acknowledged: VecDeque<Identity>,
    /// How many acknowledged messages are remembered, and twice as many settled orphans.
    memory: usize,
    /// Since when the oldest unacknowledged message is the oldest.
    head_since: Instant,
}

#[derive(Debug)]
struct Entry {
    identity: Identity,
    /// When it came through its present channel.
    received: Instant,
    /// None: its channel is lost and it was not redelivered yet.
    tag: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Orphan {
    /// Handed out and under way.
    Unsettled(EntryId),
    /// Done: its next copy only has to be acknowledged.
    Settled,
}

impl Ledger {
    /// A ledger that remembers as many messages as can be unacknowledged.
    #[must_use]
    pub fn new(prefetch: usize) -> Self {
        Self {
            watermark: Watermark::new(),
            next: 0,
            unsettled: 0,
            entries: HashMap::default(),
            orphans: HashMap::default(),
            settled_orphans: VecDeque::new(),
            acknowledged: VecDeque::new(),
            memory: prefetch,
            head_since: Instant::now(),
        }
    }

    /// A message came through the present channel.
    pub fn receive(&mut self, tag: u64, identity: Identity, redelivered: bool) -> Received {
        let known = if redelivered { self.take_orphan(identity) } else { None };
        let entry = match known {
            Some(Orphan::Unsettled(entry)) => entry,
            Some(Orphan::Settled) | None => self.number(),
        };
        if self.watermark.is_empty() {
            self.head_since = Instant::now();
        }
        if !self.watermark.receive(tag, entry) {
            return Received::OutOfTurn;
        }
        match known {
            Some(Orphan::Unsettled(_)) => {
                if let Some(entry) = self.entries.get_mut(&entry) {
                    if !Failpoint::SettleOnTheWrongChannel.is_enabled() {
                        entry.tag = Some(tag);
                    }
                    entry.received = Instant::now();
                }
                Received::Known
            }
            Some(Orphan::Settled) => {
                self.entries.insert(entry, Entry { identity, received: Instant::now(), tag: Some(tag) });
                self.watermark.settle(tag);
                Received::Known
            }
            None => {
                self.entries.insert(entry, Entry { identity, received: Instant::now(), tag: Some(tag) });
                self.unsettled += 1;
                Received::New(entry)
            }
        }
    }

    /// A message is settled, whichever channel it came through. True if it was abandoned: it has to be redelivered.
    pub fn settle(&mut self, settled: Settled) -> bool {
        self.unsettled = self.unsettled.saturating_sub(1);
        match settled {
            Settled::Done(id) => {
                let Some(entry) = self.entries.get(&id) else { return false };
                if let Some(tag) = entry.tag {
                    self.watermark.settle(tag);
                } else {
                    let identity = entry.identity;
                    self.entries.remove(&id);
                    self.settle_orphan(identity, id);
                }
                false
            }
            Settled::Abandoned(id) => {
                if let Some(entry) = self.entries.remove(&id) {
                    self.drop_orphan(entry.identity, id);
                }
                true
            }
        }
    }

    /// The tag up to which everything may be acknowledged now, if that moved.
    pub fn acknowledge(&mut self) -> Option<u64> {
        let (entries, acknowledged, memory) = (&mut self.entries, &mut self.acknowledged, self.memory);
        let tag = self.watermark.advance(|id| {
            if let Some(entry) = entries.remove(&id) {
                if acknowledged.len() >= memory {
                    acknowledged.pop_front();
                }
                acknowledged.push_back(entry.identity);
            }
        })?;
        self.head_since = Instant::now();
        Some(tag)
    }

    /// The oldest unacknowledged message, and since when it is that.
    #[must_use]
    pub fn head(&self) -> Option<(EntryId, Instant)> {
        Some((self.watermark.head()?, self.head_since))
    }

    /// The message that was handed out last.
    #[must_use]
    pub fn newest(&self) -> EntryId {
        EntryId(self.next)
    }

    /// The tags of settled messages that no cumulative acknowledgement reaches, for a channel that is about to be closed.
    #[must_use]
    pub fn stragglers(&self) -> Vec<u64> {
        self.watermark.stragglers().collect()
    }

    /// The channel is gone: its tags mean nothing any more, and what was not acknowledged will be redelivered.
    pub fn lose_channel(&mut self) {
        for identity in std::mem::take(&mut self.acknowledged) {
            self.remember_settled(identity);
        }
        let left: Vec<_> = self.watermark.take().collect();
        for (id, settled) in left {
            if settled {
                if let Some(entry) = self.entries.remove(&id) {
                    self.remember_settled(entry.identity);
                }
            } else if let Some(entry) = self.entries.get_mut(&id) {
                if !Failpoint::SettleOnTheWrongChannel.is_enabled() {
                    entry.tag = None;
                }
                self.orphans.entry(entry.identity).or_default().push_back(Orphan::Unsettled(id));
            }
        }
        self.watermark = Watermark::new();
    }

    /// How many messages of the present channel are not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.watermark.len()
    }

    /// Every unacknowledged message of the present channel is settled.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.watermark.is_settled()
    }

    /// How many messages are handed out and not settled, whichever channel they came through.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// For how long the oldest unacknowledged message of the channel has waited.
    #[must_use]
    pub fn oldest(&self) -> Option<Duration> {
        let head = self.watermark.head()?;
        self.entries.get(&head).map(|entry| entry.received.elapsed())
    }

    fn number(&mut self) -> EntryId {
        self.next += 1;
        EntryId(self.next)
    }

    /// Of equal messages the unsettled ones come first: one taken for a settled one would be acknowledged at once, and with it, as the
    /// broker sees it, the one that is in flight.
    fn take_orphan(&mut self, identity: Identity) -> Option<Orphan> {
        let copies = self.orphans.get_mut(&identity)?;
        let unsettled = copies.iter().position(|copy| matches!(copy, Orphan::Unsettled(_)));
        let place = unsettled.filter(|_| !Failpoint::RecognizeSettledFirst.is_enabled()).unwrap_or(0);
        let copy = copies.remove(place);
        if copies.is_empty() {
            self.orphans.remove(&identity);
        }
        if copy == Some(Orphan::Settled)
            && let Some(place) = self.settled_orphans.iter().position(|settled| *settled == identity)
        {
            self.settled_orphans.remove(place);
        }
        copy
    }

    fn settle_orphan(&mut self, identity: Identity, id: EntryId) {
        self.drop_orphan(identity, id);
        self.remember_settled(identity);
    }

    fn remember_settled(&mut self, identity: Identity) {
        self.orphans.entry(identity).or_default().push_back(Orphan::Settled);
        self.settled_orphans.push_back(identity);
        while self.settled_orphans.len() > self.memory.saturating_mul(2) {
            if let Some(oldest) = self.settled_orphans.pop_front() {
                self.drop_copy(oldest, Orphan::Settled);
            }
        }
    }

    fn drop_orphan(&mut self, identity: Identity, id: EntryId) {
        self.drop_copy(identity, Orphan::Unsettled(id));
    }

    fn drop_copy(&mut self, identity: Identity, which: Orphan) {
        if let Some(copies) = self.orphans.get_mut(&identity) {
            if let Some(place) = copies.iter().position(|copy| *copy == which) {
                copies.remove(place);
            }
            if copies.is_empty() {
                self.orphans.remove(&identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Identity = Identity(1);
    const B: Identity = Identity(2);

    fn new(received: Received) -> EntryId {
        match received {
            Received::New(entry) => entry,
            other => panic!("not new: {other:?}"),
        }
    }

    #[test]
    fn a_message_under_way_is_not_handed_out_again() {
        let mut ledger = Ledger::new(10);
        let a = new(ledger.receive(1, A, false));
        ledger.lose_channel();
        assert_eq!(ledger.receive(1, A, true), Received::Known);
        assert_eq!(ledger.acknowledge(), None);
        assert!(!ledger.settle(Settled::Done(a)));
        assert_eq!(ledger.acknowledge(), Some(1));
        assert_eq!(ledger.unsettled(), 0);
    }

    #[test]
    fn a_late_settlement_never_acknowledges_on_the_next_channel() {
        let mut ledger = Ledger::new(10);
        let a = new(ledger.receive(1, A, false));
        ledger.lose_channel();
        // Another message has the same tag on the new channel.
        let b = new(ledger.receive(1, B, false));
        ledger.settle(Settled::Done(a));
        assert_eq!(ledger.acknowledge(), None);
        // The redelivered copy of the first one needs nothing but its acknowledgement.
        assert_eq!(ledger.receive(2, A, true), Received::Known);
        assert_eq!(ledger.acknowledge(), None);
        ledger.settle(Settled::Done(b));
        assert_eq!(ledger.acknowledge(), Some(2));
    }

    #[test]
    fn what_was_settled_or_acknowledged_when_the_channel_went_is_recognized() {
        let mut ledger = Ledger::new(10);
        let a = new(ledger.receive(1, A, false));
        let b = new(ledger.receive(2, B, false));
        ledger.settle(Settled::Done(b));
        assert_eq!(ledger.acknowledge(), None);
        ledger.lose_channel();
        assert_eq!(ledger.receive(1, B, true), Received::Known);
        assert_eq!(ledger.acknowledge(), Some(1));
        ledger.settle(Settled::Done(a));
        ledger.lose_channel();
        assert_eq!(ledger.receive(1, B, true), Received::Known, "the broker did not see the acknowledgement");
    }

    #[test]
    fn a_channel_lost_before_its_redeliveries_forgets_nothing() {
        let mut ledger = Ledger::new(10);
        let a = new(ledger.receive(1, A, false));
        ledger.settle(Settled::Done(a));
        ledger.lose_channel();
        ledger.lose_channel();
        assert_eq!(ledger.receive(1, A, true), Received::Known);
    }

    #[test]
    fn one_copy_is_taken_for_one_and_only_when_redelivered() {
        let mut ledger = Ledger::new(10);
        new(ledger.receive(1, A, false));
        ledger.lose_channel();
        new(ledger.receive(1, A, false));
        assert_eq!(ledger.receive(2, A, true), Received::Known);
        new(ledger.receive(3, A, true));
    }

    #[test]
    fn of_equal_messages_the_unsettled_one_is_recognized_first() {
        let mut ledger = Ledger::new(10);
        let first = new(ledger.receive(1, A, false));
        ledger.settle(Settled::Done(first));
        assert_eq!(ledger.acknowledge(), Some(1));
        let second = new(ledger.receive(2, A, false));
        ledger.lose_channel();
        assert_eq!(ledger.receive(1, A, true), Received::Known);
        assert_eq!(ledger.acknowledge(), None, "the second is in flight");
        ledger.settle(Settled::Done(second));
        assert_eq!(ledger.acknowledge(), Some(1));
        // Should the broker not have seen the first acknowledgement, the other copy needs nothing else.
        assert_eq!(ledger.receive(2, A, true), Received::Known);
        assert_eq!(ledger.acknowledge(), Some(2));
        assert_eq!((ledger.orphans.len(), ledger.settled_orphans.len()), (0, 0));
    }

    #[test]
    fn of_several_equal_unsettled_messages_the_oldest_is_recognized_first() {
        let mut ledger = Ledger::new(10);
        let settled = new(ledger.receive(1, A, false));
        let [second, third] = [2, 3].map(|tag| new(ledger.receive(tag, A, false)));
        ledger.settle(Settled::Done(settled));
        ledger.lose_channel();
        for tag in 1..=3 {
            assert_eq!(ledger.receive(tag, A, true), Received::Known);
        }
        assert_eq!(ledger.acknowledge(), None);
        ledger.settle(Settled::Done(second));
        assert_eq!(ledger.acknowledge(), Some(1));
        ledger.settle(Settled::Done(third));
        assert_eq!(ledger.acknowledge(), Some(3));
    }

    #[test]
    fn an_abandoned_message_is_new_when_it_comes_again() {
        let mut ledger = Ledger::new(10);
        let a = new(ledger.receive(1, A, false));
        assert!(ledger.settle(Settled::Abandoned(a)));
        ledger.lose_channel();
        new(ledger.receive(1, A, true));
    }

    #[test]
    fn memory_is_bounded() {
        let mut ledger = Ledger::new(2);
        for tag in 1..=5 {
            let entry = new(ledger.receive(tag, Identity(tag.into()), false));
            ledger.settle(Settled::Done(entry));
            ledger.acknowledge();
        }
        assert_eq!(ledger.acknowledged.len(), 2);
        ledger.lose_channel();
        for _ in 0..5 {
            new(ledger.receive(1, Identity(99), false));
            let entry = EntryId(ledger.next);
            ledger.settle(Settled::Done(entry));
            ledger.lose_channel();
        }
        assert_eq!(ledger.settled_orphans.len(), 4);
        assert_eq!(ledger.orphans.values().map(VecDeque::len).sum::<usize>(), 4);
    }
}
