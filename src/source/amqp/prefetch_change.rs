//! Changes the prefetch of a consumer. A prefetch applies to new consumers only, so another consumer has to take over.
//!
//! A larger prefetch is not urgent: the session lets the consumer fill up, so that the broker sends nothing more. Once every message is
//! settled and no attempt of a spilled delivery is in flight, the session cancels the consumer and starts the next one. If a delivery were
//! in flight, another relay could consume first, and its newer messages would overtake that delivery.
//!
//! A smaller prefetch is urgent: the session closes its channel, and the broker takes back the consumer and all unacknowledged messages at
//! once.
//!
//! Pure: the session gives it the time and the state of its messages, and does each step.

use std::time::{Duration, Instant};

use super::ack_pacer::AckNeed;
use super::prefetch::{LargestBody, Prefetch};

/// The delay of a change for which attempts of spilled deliveries are still in flight, for example at a slow sink.
const POSTPONEMENT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct PrefetchChange {
    wanted: Prefetch,
    /// The prefetch of the present consumer.
    current: u16,
    not_before: Instant,
    phase: ChangePhase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChangePhase {
    Idle,
    /// The consumer is full: the broker sends nothing more until something is acknowledged.
    Full,
    Cancelled,
}

/// What the session has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrefetchStep {
    /// Cancel the consumer, and hand out what it still received.
    Cancel,
    /// Acknowledge everything, and consume with this prefetch.
    Consume(u16),
}

impl PrefetchChange {
    /// For a consumer that starts with the prefetch that is wanted now.
    pub fn new(wanted: Prefetch, now: Instant) -> Self {
        Self { current: wanted.get(), wanted, not_before: now, phase: ChangePhase::Idle }
    }

    pub fn on_message(&mut self, largest: &LargestBody, max_bytes: u64) {
        self.wanted.on_message(largest, max_bytes);
    }

    /// Whether further messages as large as the largest one would need too much memory.
    pub fn must_shrink(&self) -> bool {
        self.wanted.get() < self.current
    }

    /// To be called when messages were handed out.
    pub fn on_unacknowledged(&mut self, unacknowledged: usize, now: Instant) {
        if self.is_filling(now) && self.is_full(unacknowledged) {
            self.phase = ChangePhase::Full;
        }
    }

    /// The next step, if the messages allow it: every one that is unacknowledged `is_settled`.
    pub fn next_step(&mut self, is_settled: bool, has_spilled_attempts: bool, now: Instant) -> Option<PrefetchStep> {
        if !is_settled {
            return None;
        }
        match self.phase {
            ChangePhase::Idle => None,
            ChangePhase::Full if has_spilled_attempts => {
                self.phase = ChangePhase::Idle;
                self.not_before = now + POSTPONEMENT;
                None
            }
            ChangePhase::Full => Some(PrefetchStep::Cancel),
            ChangePhase::Cancelled => Some(PrefetchStep::Consume(self.wanted.get())),
        }
    }

    pub fn on_cancelled(&mut self) {
        self.phase = ChangePhase::Cancelled;
    }

    pub fn on_consuming(&mut self, prefetch: u16) {
        self.current = prefetch;
        self.phase = ChangePhase::Idle;
    }

    /// The end of a postponement: from then on, the consumer may fill up.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        (self.phase == ChangePhase::Idle && self.is_larger_wanted() && self.not_before > now).then_some(self.not_before)
    }

    pub fn is_in_progress(&self) -> bool {
        self.phase != ChangePhase::Idle
    }

    pub fn is_cancelled(&self) -> bool {
        self.phase == ChangePhase::Cancelled
    }

    pub fn is_full(&self, unacknowledged: usize) -> bool {
        unacknowledged >= usize::from(self.current)
    }

    pub fn is_half_full(&self, unacknowledged: usize) -> bool {
        unacknowledged * 2 >= usize::from(self.current)
    }

    pub fn ack_need(&self, unacknowledged: usize, now: Instant) -> AckNeed {
        if self.is_in_progress() {
            AckNeed::Withhold
        } else if self.is_filling(now) {
            AckNeed::Filling
        } else if self.is_half_full(unacknowledged) {
            AckNeed::Urgent
        } else {
            AckNeed::Normal
        }
    }

    fn is_filling(&self, now: Instant) -> bool {
        self.is_larger_wanted() && now >= self.not_before
    }

    fn is_larger_wanted(&self) -> bool {
        self.current < self.wanted.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// A change from a prefetch of 16 to one of 32.
    fn larger_wanted(now: Instant) -> PrefetchChange {
        let largest = LargestBody::default();
        let mut change = PrefetchChange::new(Prefetch::new(1_000, &largest, 64 * MIB), now);
        (0..16).for_each(|_| change.on_message(&largest, 64 * MIB));
        assert_eq!((change.current, change.wanted.get()), (16, 32));
        change
    }

    #[test]
    fn a_consumer_is_cancelled_only_when_full_and_settled_and_with_no_attempt_in_flight() {
        let now = Instant::now();
        // Unacknowledged messages, all of them settled, attempts of spilled deliveries.
        let table = [
            (15, true, false, None),
            (16, false, false, None),
            (16, false, true, None),
            (16, true, true, None),
            (16, true, false, Some(PrefetchStep::Cancel)),
        ];
        for (unacknowledged, is_settled, has_spilled_attempts, expected) in table {
            let mut change = larger_wanted(now);
            change.on_unacknowledged(unacknowledged, now);
            let step = change.next_step(is_settled, has_spilled_attempts, now);
            assert_eq!(step, expected, "{unacknowledged} {is_settled} {has_spilled_attempts}");
        }
    }

    #[test]
    fn a_full_consumer_acknowledges_nothing_until_the_next_one_starts() {
        let now = Instant::now();
        let mut change = larger_wanted(now);
        assert_eq!(change.ack_need(15, now), AckNeed::Filling);
        change.on_unacknowledged(16, now);
        assert_eq!(change.ack_need(16, now), AckNeed::Withhold);
        assert_eq!(change.next_step(true, false, now), Some(PrefetchStep::Cancel));
        change.on_cancelled();
        assert_eq!(change.ack_need(16, now), AckNeed::Withhold);
        assert_eq!(change.next_step(false, false, now), None, "the cancelled consumer still had a message");
        assert_eq!(change.next_step(true, true, now), Some(PrefetchStep::Consume(32)), "it is cancelled already");
        change.on_consuming(32);
        assert_eq!((change.current, change.is_in_progress()), (32, false));
        assert_eq!(change.ack_need(15, now), AckNeed::Normal);
        assert_eq!(change.ack_need(16, now), AckNeed::Urgent);
    }

    #[test]
    fn an_attempt_of_a_spilled_delivery_postpones_the_change() {
        let now = Instant::now();
        let mut change = larger_wanted(now);
        assert_eq!(change.next_deadline(now), None, "it is filling already");
        change.on_unacknowledged(16, now);
        assert_eq!(change.next_step(true, true, now), None);
        assert!(!change.is_in_progress());
        let later = now + POSTPONEMENT;
        assert_eq!(change.next_deadline(now), Some(later));
        assert_eq!(change.ack_need(16, now), AckNeed::Urgent, "acknowledgements continue as usual meanwhile");
        change.on_unacknowledged(16, now);
        assert!(!change.is_in_progress());
        assert_eq!((change.next_deadline(later), change.ack_need(8, later)), (None, AckNeed::Filling));
        change.on_unacknowledged(16, later);
        assert_eq!(change.next_step(true, false, later), Some(PrefetchStep::Cancel));
    }

    #[test]
    fn a_large_body_makes_the_prefetch_shrink() {
        let now = Instant::now();
        let mut change = larger_wanted(now);
        let mut largest = LargestBody::default();
        largest.record(16 * 1024 * 1024);
        change.on_message(&largest, 64 * MIB);
        assert!(change.must_shrink());
        change.on_unacknowledged(16, now);
        assert_eq!(change.next_step(true, false, now), None, "the channel is closed instead");
    }
}
