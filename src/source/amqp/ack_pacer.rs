//! Decides when the next cumulative acknowledgement is sent. Pure: the session gives it the time, and sends.

use std::time::{Duration, Instant};

/// The pause between two acknowledgements: each costs a broker as much as a message, and far more on a queue with 255 priorities.
const PAUSE: Duration = Duration::from_millis(20);
/// The pause while the consumer has to fill up, before another one with a larger prefetch takes over. It is longer than the broker needs
/// to replace the acknowledged messages: with a shorter pause, a consumer of a distant broker would never be full.
const PAUSE_WHILE_FILLING: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckNeed {
    /// A change of the prefetch waits until every message is settled: an acknowledgement would bring new ones.
    Withhold,
    /// The consumer should fill up: acknowledgements are rare.
    Filling,
    Normal,
    /// Half of the prefetch is in use: the broker may soon have nothing to send.
    Urgent,
}

#[derive(Debug)]
pub struct AckPacer {
    /// Whether something may have been settled since the last acknowledgement.
    has_settlements: bool,
    /// At most one acknowledgement is in flight. Messages that are settled meanwhile are acknowledged by the next one.
    in_flight: bool,
    last_sent: Instant,
}

impl AckPacer {
    pub fn new(now: Instant) -> Self {
        Self { has_settlements: false, in_flight: false, last_sent: now }
    }

    pub fn on_settled(&mut self) {
        self.has_settlements = true;
    }

    /// The time of the next acknowledgement, if there is anything to acknowledge.
    pub fn next_deadline(&self, need: AckNeed) -> Option<Instant> {
        if !self.has_settlements || self.in_flight {
            return None;
        }
        match need {
            AckNeed::Withhold => None,
            AckNeed::Filling => Some(self.last_sent + PAUSE_WHILE_FILLING),
            AckNeed::Normal => Some(self.last_sent + PAUSE),
            AckNeed::Urgent => Some(self.last_sent),
        }
    }

    /// Whether to acknowledge up to the watermark now. If so, the settlements until now need no further acknowledgement.
    pub fn take_due(&mut self, need: AckNeed, now: Instant) -> bool {
        let is_due = self.next_deadline(need).is_some_and(|deadline| deadline <= now);
        self.has_settlements &= !is_due;
        is_due
    }

    pub fn on_sent(&mut self, now: Instant) {
        self.in_flight = true;
        self.last_sent = now;
    }

    pub fn on_written(&mut self) {
        self.in_flight = false;
    }

    pub fn is_in_flight(&self) -> bool {
        self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_deadline_depends_on_what_the_consumer_needs() {
        let start = Instant::now();
        // Settlements, an acknowledgement in flight, the need: the time after the last acknowledgement.
        let table = [
            (false, false, AckNeed::Urgent, None),
            (false, false, AckNeed::Normal, None),
            (true, true, AckNeed::Urgent, None),
            (true, false, AckNeed::Withhold, None),
            (true, false, AckNeed::Filling, Some(ms(250))),
            (true, false, AckNeed::Normal, Some(ms(20))),
            (true, false, AckNeed::Urgent, Some(ms(0))),
        ];
        for (has_settlements, in_flight, need, expected) in table {
            let mut pacer = AckPacer { has_settlements, in_flight, last_sent: start };
            assert_eq!(pacer.next_deadline(need), expected.map(|pause| start + pause), "{pacer:?} {need:?}");
            for after in [0, 19, 20, 249, 250].map(ms) {
                let mut pacer = AckPacer { has_settlements, in_flight, last_sent: start };
                let is_due = expected.is_some_and(|pause| pause <= after);
                assert_eq!(pacer.take_due(need, start + after), is_due, "{pacer:?} {need:?} {after:?}");
                assert!(!is_due || pacer.next_deadline(need).is_none(), "it is due only once");
            }
            pacer.on_written();
            assert!(!pacer.is_in_flight());
        }
    }

    #[test]
    fn settlements_during_an_acknowledgement_are_acknowledged_by_the_next_one() {
        let start = Instant::now();
        let mut pacer = AckPacer::new(start);
        pacer.on_settled();
        assert!(pacer.take_due(AckNeed::Normal, start + ms(20)));
        pacer.on_sent(start + ms(20));
        pacer.on_settled();
        assert!(!pacer.take_due(AckNeed::Urgent, start + ms(1_000)));
        pacer.on_written();
        assert_eq!(pacer.next_deadline(AckNeed::Normal), Some(start + ms(40)));
        assert!(pacer.take_due(AckNeed::Urgent, start + ms(21)));
    }
}
