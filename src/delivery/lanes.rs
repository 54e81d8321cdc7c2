//! Order per key: at most one delivery of a lane is under way, the next ones wait behind it.
//!
//! This is bookkeeping only. It knows nothing of sinks, time or tasks, so that every order can be tested.

use std::collections::{HashMap, VecDeque};

use xxhash_rust::xxh3::Xxh3;

use crate::config::OrderBy;
use crate::event::Event;
use crate::rules::SinkName;

/// One of the 65,536 lanes of a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lane(u16);

impl Lane {
    /// The lane of an event in a sink, by a hash that never changes (XXH3, seed 0, each part behind its length); none where
    /// nothing is kept in order. A null key falls back to `correlationId`.
    #[must_use]
    pub fn of(sink: &SinkName, order_by: OrderBy, event: &Event) -> Option<Self> {
        let key = match order_by {
            OrderBy::None => return None,
            OrderBy::Tenant => "",
            OrderBy::CorrelationId => &event.correlation_id,
            OrderBy::ProductId => event.product_id.as_deref().unwrap_or(&event.correlation_id),
            OrderBy::Session => event.session.as_deref().unwrap_or(&event.correlation_id),
        };
        let mut hash = Xxh3::new();
        for part in [sink.as_str(), &event.tenant, key] {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let [.., high, low] = hash.digest().to_be_bytes();
        Some(Self(u16::from_be_bytes([high, low])))
    }
}

/// What waits for one sink: some of it ready to go, the rest behind others of its lane.
#[derive(Debug)]
pub struct Lanes<T> {
    ready: VecDeque<(Option<Lane>, T)>,
    /// A lane is here exactly while one of its deliveries is ready, under way, or waits for its next attempt.
    taken: HashMap<Lane, VecDeque<T>>,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self { ready: VecDeque::new(), taken: HashMap::new() }
    }
}

impl<T> Lanes<T> {
    /// One more at the end of its lane.
    pub fn push(&mut self, lane: Option<Lane>, item: T) {
        if let Some(lane) = lane {
            if let Some(behind) = self.taken.get_mut(&lane) {
                behind.push_back(item);
                return;
            }
            self.taken.insert(lane, VecDeque::new());
        }
        self.ready.push_back((lane, item));
    }

    /// The next one that may go. Its lane is taken until [`release`](Self::release).
    pub fn pop(&mut self) -> Option<(Option<Lane>, T)> {
        self.ready.pop_front()
    }

    /// One whose lane is still taken may go again.
    pub fn again(&mut self, lane: Option<Lane>, item: T) {
        self.ready.push_back((lane, item));
    }

    /// The one under way in this lane is settled: the next of the lane may go.
    pub fn release(&mut self, lane: Option<Lane>) {
        let Some(lane) = lane else { return };
        match self.taken.get_mut(&lane).map(VecDeque::pop_front) {
            Some(Some(next)) => self.ready.push_back((Some(lane), next)),
            Some(None) => {
                self.taken.remove(&lane);
            }
            None => {}
        }
    }

    /// Some are ready to go.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Option<Lane> = Some(Lane(1));
    const B: Option<Lane> = Some(Lane(2));

    #[test]
    fn a_lane_lets_one_go_at_a_time_in_order() {
        let mut lanes = Lanes::default();
        for (lane, item) in [(A, "a1"), (A, "a2"), (B, "b1"), (A, "a3"), (None, "free")] {
            lanes.push(lane, item);
        }
        let first: Vec<_> = std::iter::from_fn(|| lanes.pop()).map(|(_, item)| item).collect();
        assert_eq!(first, ["a1", "b1", "free"]);
        lanes.again(A, "a1");
        assert_eq!(lanes.pop(), Some((A, "a1")), "a retry keeps its lane");
        assert_eq!(lanes.pop(), None);
        lanes.release(A);
        assert_eq!(lanes.pop(), Some((A, "a2")));
        lanes.release(A);
        lanes.release(B);
        assert_eq!(lanes.pop(), Some((A, "a3")));
        lanes.release(A);
        assert!(lanes.taken.is_empty(), "an empty lane costs nothing");
    }
}
