//! Order per key: at most one delivery of a lane is in flight; the next ones are queued behind it, in memory or in the spool.
//!
//! This module only keeps the queues. It knows no sinks, tasks or clocks, so that every sequence can be tested.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use foldhash::HashMap;

use crate::failpoints::Failpoint;
use crate::sink::AttemptId;

/// A queue in which deliveries wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// One of the 65,536 lanes of a sink.
    Ordered(u16),
    /// A lane of one delivery, which waits for nothing.
    Free(u64),
}

impl Lane {
    #[must_use]
    pub fn of_key(key: u64) -> Self {
        let [.., high, low] = key.to_be_bytes();
        Self::Ordered(u16::from_be_bytes([high, low]))
    }
}

/// The deliveries of one sink in memory, and how many of each lane are in the spool.
#[derive(Debug)]
pub struct Lanes<T> {
    /// The lanes in [`LanePhase::Ready`], and no others, in the order in which they became ready.
    ready: BTreeMap<u64, Lane>,
    /// The lanes in [`LanePhase::Later`], and no others, by due time.
    later: BTreeMap<(Instant, u64), Lane>,
    /// Orders lanes that become ready, or are due at the same time.
    next_number: u64,
    memory: HashMap<Lane, LaneQueue<T>>,
    /// How many deliveries of each lane are in the spool. As long as there is one, no delivery of the lane in memory is attempted.
    spooled: HashMap<u16, u32>,
    /// How many deliveries are queued in memory.
    queued: usize,
}

#[derive(Debug)]
struct LaneQueue<T> {
    phase: LanePhase,
    next: VecDeque<T>,
}

/// What the first queued delivery of a lane waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LanePhase {
    /// For the deliveries of the lane in the spool.
    Blocked,
    Ready(u64),
    /// For the end of its back-off.
    Later(Instant, u64),
    /// For the end of the attempt before it.
    InFlight(AttemptId),
}

/// A lane that was taken out of memory, to be spooled.
#[derive(Debug)]
pub struct TakenLane<T> {
    phase: LanePhase,
    /// The queued deliveries, behind the one in flight.
    pub next: VecDeque<T>,
}

impl<T> TakenLane<T> {
    #[must_use]
    pub fn attempt(&self) -> Option<AttemptId> {
        if let LanePhase::InFlight(attempt) = self.phase { Some(attempt) } else { None }
    }

    /// To be called if the delivery in flight was spooled: the lane then waits until its row is deleted.
    pub fn attempt_is_spooled(&mut self) {
        self.phase = LanePhase::Blocked;
    }
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self {
            ready: BTreeMap::new(),
            later: BTreeMap::new(),
            next_number: 0,
            memory: HashMap::default(),
            spooled: HashMap::default(),
            queued: 0,
        }
    }
}

impl<T> Lanes<T> {
    /// Queues an item at the end of its lane.
    pub fn push(&mut self, lane: Lane, item: T) {
        self.queued += 1;
        if let Some(queue) = self.memory.get_mut(&lane) {
            return queue.next.push_back(item);
        }
        self.memory.insert(lane, LaneQueue { phase: LanePhase::Blocked, next: VecDeque::from([item]) });
        self.make_ready(lane);
    }

    /// The next item that may be attempted. Its lane is in flight until it is [released](Self::release), [put back](Self::put_back) or
    /// [taken out](Self::take).
    pub fn pop(&mut self, attempt: AttemptId) -> Option<(Lane, T)> {
        while let Some((_, lane)) = self.ready.pop_first() {
            let Some(queue) = self.memory.get_mut(&lane) else { continue };
            let Some(item) = queue.next.pop_front() else { continue };
            queue.phase = LanePhase::InFlight(attempt);
            self.queued -= 1;
            return Some((lane, item));
        }
        None
    }

    /// Ends the item in flight: the next one of the lane is ready.
    pub fn release(&mut self, lane: Lane) {
        self.make_ready(lane);
    }

    /// Puts back the item in flight after a failure. It is ready again when it is due.
    pub fn put_back(&mut self, lane: Lane, item: T, due: Instant) {
        let number = self.number();
        let empty = || LaneQueue { phase: LanePhase::Blocked, next: VecDeque::new() };
        let queue = self.memory.entry(lane).or_insert_with(empty);
        queue.phase = LanePhase::Later(due, number);
        queue.next.push_front(item);
        self.queued += 1;
        self.later.insert((due, number), lane);
    }

    /// Makes all items ready whose back-off is over.
    pub fn wake(&mut self, now: Instant) {
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            let lane = first.remove();
            self.make_ready(lane);
        }
    }

    pub fn wake_all(&mut self) {
        for lane in std::mem::take(&mut self.later).into_values() {
            self.make_ready(lane);
        }
    }

    /// When the next back-off ends.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.later.keys().next().map(|(due, _)| *due)
    }

    /// Takes a lane out of memory.
    pub fn take(&mut self, lane: Lane) -> Option<TakenLane<T>> {
        let LaneQueue { phase, next } = self.memory.remove(&lane)?;
        self.queued -= next.len();
        match phase {
            LanePhase::Ready(number) => drop(self.ready.remove(&number)),
            LanePhase::Later(due, number) => drop(self.later.remove(&(due, number))),
            LanePhase::Blocked | LanePhase::InFlight(_) => {}
        }
        Some(TakenLane { phase, next })
    }

    /// Puts back the rest of a [taken](Self::take) lane, for which the spool has no room. No item was queued meanwhile. The lane keeps
    /// its state, and also waits for its items that are now in the spool.
    pub fn restore(&mut self, lane: Lane, TakenLane { phase, next }: TakenLane<T>) {
        let waits = !next.is_empty() && !self.is_spooled(lane);
        let phase = match phase {
            LanePhase::InFlight(_) => phase,
            _ if next.is_empty() => return,
            LanePhase::Later(..) if Failpoint::IgnoreBackOff.is_enabled() && waits => LanePhase::Blocked,
            LanePhase::Ready(number) if waits => {
                self.ready.insert(number, lane);
                phase
            }
            LanePhase::Later(due, number) if waits => {
                self.later.insert((due, number), lane);
                phase
            }
            LanePhase::Blocked | LanePhase::Ready(_) | LanePhase::Later(..) => LanePhase::Blocked,
        };
        self.queued += next.len();
        self.memory.insert(lane, LaneQueue { phase, next });
        if phase == LanePhase::Blocked && waits {
            self.make_ready(lane);
        }
    }

    /// `count` items of the lane were spooled by earlier runs.
    pub fn set_spooled(&mut self, lane: u16, count: u32) {
        self.spooled.insert(lane, count);
    }

    /// Counts an item of the lane that is in the spool, or was handed to it.
    pub fn add_spooled(&mut self, lane: Lane) {
        if let Lane::Ordered(number) = lane {
            *self.spooled.entry(number).or_default() += 1;
        }
    }

    /// No lane counts as spooled any more: nothing is kept in order.
    pub fn forget_spooled(&mut self) {
        self.spooled.clear();
    }

    pub fn remove_spooled(&mut self, lane: Lane) {
        let Lane::Ordered(number) = lane else { return };
        let Some(count) = self.spooled.get_mut(&number) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.spooled.remove(&number);
            if self.memory.get(&lane).is_some_and(|queue| queue.phase == LanePhase::Blocked) {
                self.make_ready(lane);
            }
        }
    }

    #[must_use]
    pub fn is_spooled(&self, lane: Lane) -> bool {
        matches!(lane, Lane::Ordered(number) if self.spooled.contains_key(&number))
    }

    /// How many items of the lane are in the spool.
    #[must_use]
    pub fn spooled(&self, lane: Lane) -> u32 {
        let Lane::Ordered(number) = lane else { return 0 };
        self.spooled.get(&number).copied().unwrap_or_default()
    }

    /// How many items are queued in memory.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Whether no item is queued in memory, and none from there is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }

    /// Whether [`pop`](Self::pop) has an item.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The lanes in memory, each with its attempt in flight and the items behind that.
    pub fn iter(&self) -> impl Iterator<Item = (Lane, Option<AttemptId>, &VecDeque<T>)> {
        self.memory.iter().map(|(lane, queue)| {
            let attempt = if let LanePhase::InFlight(attempt) = queue.phase { Some(attempt) } else { None };
            (*lane, attempt, &queue.next)
        })
    }

    /// Makes the first item of the lane ready, unless some of the lane is in the spool.
    fn make_ready(&mut self, lane: Lane) {
        let is_blocked = self.is_spooled(lane);
        let Some(queue) = self.memory.get_mut(&lane) else { return };
        if queue.next.is_empty() {
            self.memory.remove(&lane);
        } else if is_blocked {
            queue.phase = LanePhase::Blocked;
        } else {
            let number = self.next_number;
            self.next_number += 1;
            queue.phase = LanePhase::Ready(number);
            self.ready.insert(number, lane);
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const A: Lane = Lane::Ordered(1);
    const B: Lane = Lane::Ordered(2);
    const C: Lane = Lane::Free(1);

    fn pop<T>(lanes: &mut Lanes<T>) -> Option<(Lane, T)> {
        lanes.pop(AttemptId(0))
    }

    #[test]
    fn one_item_of_a_lane_is_popped_at_a_time_in_order() {
        let mut lanes = Lanes::default();
        for (lane, item) in [(A, "a1"), (A, "a2"), (B, "b1"), (A, "a3"), (C, "free")] {
            lanes.push(lane, item);
        }
        let first: Vec<_> = std::iter::from_fn(|| pop(&mut lanes)).map(|(_, item)| item).collect();
        assert_eq!(first, ["a1", "b1", "free"]);
        assert_eq!(lanes.queued(), 2);
        let now = Instant::now();
        let due = now + Duration::from_secs(1);
        lanes.put_back(A, "a1", due);
        assert_eq!(lanes.next_due(), Some(due));
        lanes.wake(now);
        assert_eq!(pop(&mut lanes), None);
        lanes.wake(due);
        assert_eq!(lanes.next_due(), None);
        assert_eq!(pop(&mut lanes), Some((A, "a1")), "a retry keeps its lane");
        lanes.release(A);
        assert_eq!(pop(&mut lanes), Some((A, "a2")));
        lanes.release(A);
        lanes.release(B);
        lanes.release(C);
        assert_eq!(pop(&mut lanes), Some((A, "a3")));
        lanes.release(A);
        assert!(lanes.is_empty(), "an empty lane costs nothing");
    }

    #[test]
    fn spooled_items_come_first() {
        let mut lanes = Lanes::default();
        lanes.add_spooled(A);
        lanes.add_spooled(A);
        lanes.push(A, "a3");
        assert_eq!(pop(&mut lanes), None);
        lanes.remove_spooled(A);
        assert_eq!(pop(&mut lanes), None);
        assert!(lanes.is_spooled(A));
        lanes.remove_spooled(A);
        assert_eq!(pop(&mut lanes), Some((A, "a3")));
        lanes.release(A);
        assert!(lanes.is_empty() && lanes.spooled.is_empty());
    }

    #[test]
    fn a_whole_lane_is_taken_out_and_can_be_put_back() {
        let mut lanes = Lanes::default();
        for item in ["a1", "a2", "a3"] {
            lanes.push(A, item);
        }
        assert_eq!(lanes.pop(AttemptId(7)), Some((A, "a1")));
        let taken = lanes.take(A).unwrap();
        assert_eq!((taken.attempt(), &taken.next), (Some(AttemptId(7)), &VecDeque::from(["a2", "a3"])));
        assert!(lanes.is_empty());
        assert_eq!(lanes.queued(), 0);
        lanes.restore(A, taken);
        assert_eq!(pop(&mut lanes), None, "the first one is still in flight");
        lanes.release(A);
        assert_eq!(pop(&mut lanes), Some((A, "a2")));
    }

    #[test]
    fn a_restored_lane_keeps_its_state() {
        let mut lanes = Lanes::default();
        let due = Instant::now();
        for (lane, item) in [(A, "a1"), (B, "b1"), (C, "free")] {
            lanes.push(lane, item);
        }
        assert_eq!(pop(&mut lanes), Some((A, "a1")));
        lanes.put_back(A, "a1", due);
        assert_eq!(pop(&mut lanes), Some((B, "b1")));
        lanes.push(B, "b2");
        for _ in 0..1_000 {
            for lane in [A, B, C] {
                let taken = lanes.take(lane).unwrap();
                lanes.restore(lane, taken);
            }
        }
        assert_eq!((lanes.ready.len(), lanes.later.len(), lanes.queued()), (1, 1, 3), "each lane is there once");
        assert_eq!(pop(&mut lanes), Some((C, "free")));
        assert_eq!(pop(&mut lanes), None, "one lane is in flight, and one is not due");
        lanes.add_spooled(A);
        let mut taken = lanes.take(A).unwrap();
        taken.next = VecDeque::from(["a2"]);
        lanes.restore(A, taken);
        lanes.wake(due);
        assert_eq!(pop(&mut lanes), None, "the spooled item comes first");
        lanes.remove_spooled(A);
        assert_eq!(pop(&mut lanes), Some((A, "a2")));
    }

    #[test]
    fn a_lane_that_is_taken_out_is_no_longer_ready() {
        let mut lanes = Lanes::default();
        lanes.push(A, "a1");
        lanes.take(A);
        assert_eq!(pop(&mut lanes), None);
        lanes.push(A, "a2");
        lanes.push(A, "a3");
        assert_eq!(pop(&mut lanes), Some((A, "a2")));
        assert_eq!(pop(&mut lanes), None, "one at a time");
    }
}
