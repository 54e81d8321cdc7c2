//! Decides which lanes in memory go to the spool, so that a sink that is down, hangs or is slow blocks no source, and so delays
//! no other sink.
//!
//! The decision is a pure function of the dispatcher's state; `spill` carries it out.

use std::time::Duration;

use super::lanes::Lane;
use crate::spool::SizeLimits;

/// How often the deliveries in memory are checked.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(25);
/// While this sink blocks a source, deliveries that have been in memory for this time are spooled.
const SPILL_AFTER_WHILE_BLOCKING: Duration = Duration::from_millis(50);

/// The state of a sink.
#[derive(Debug, Clone, Copy)]
pub(super) struct SinkStatus {
    pub(super) is_slow: bool,
    pub(super) is_breaker_closed: bool,
    pub(super) spill_after: Duration,
}

/// The state of a lane in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneStatus {
    pub(super) lane: Lane,
    /// Whether its oldest delivery has an attempt in flight.
    pub(super) is_in_flight: bool,
    /// The time since the receipt of its oldest delivery.
    pub(super) age: Duration,
    /// Whether its oldest delivery blocks its source.
    pub(super) blocks_source: bool,
    /// Whether the spool has deliveries of the lane.
    pub(super) is_spooled: bool,
    /// [`SizeLimits::Waived`] if any delivery of the lane may exceed them: those before it are spooled with it.
    pub(super) limits: SizeLimits,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct SpillDecision {
    /// Whether the sink blocks a source, or a delivery is overdue.
    pub(super) is_slow: bool,
    /// The lanes to spool, in this order: those that may exceed the limits of the spool come first, before the others fill it.
    pub(super) lanes: Vec<(Lane, SizeLimits)>,
}

/// Which lanes to spool now.
pub(super) fn decide_spill(sink: SinkStatus, mut lanes: Vec<LaneStatus>) -> SpillDecision {
    let is_blocking = lanes.iter().any(|lane| lane.blocks_source && lane.age >= SPILL_AFTER_WHILE_BLOCKING);
    let is_overdue = lanes.iter().any(|lane| lane.age >= sink.spill_after);
    let is_slow = sink.is_slow || is_blocking || is_overdue;
    let may_wait_in_memory = !is_slow && sink.is_breaker_closed;
    lanes.retain(|lane| {
        let is_queued = !lane.is_in_flight;
        lane.is_spooled
            || lane.age >= sink.spill_after
            || (is_blocking && lane.age >= SPILL_AFTER_WHILE_BLOCKING)
            || (is_queued && (!may_wait_in_memory || lane.limits == SizeLimits::Waived))
    });
    lanes.sort_by_key(|lane| lane.limits != SizeLimits::Waived);
    SpillDecision { is_slow, lanes: lanes.into_iter().map(|lane| (lane.lane, lane.limits)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTHY: SinkStatus =
        SinkStatus { is_slow: false, is_breaker_closed: true, spill_after: Duration::from_secs(2) };
    /// A lane with one new delivery in memory.
    const QUEUED: LaneStatus = LaneStatus {
        lane: Lane::Ordered(1),
        is_in_flight: false,
        age: Duration::ZERO,
        blocks_source: false,
        is_spooled: false,
        limits: SizeLimits::Enforced,
    };
    const IN_FLIGHT: LaneStatus = LaneStatus { is_in_flight: true, ..QUEUED };

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn lanes_that_are_overdue_or_would_block_a_source_are_spooled() {
        let slow = SinkStatus { is_slow: true, ..HEALTHY };
        let broken = SinkStatus { is_breaker_closed: false, ..HEALTHY };
        let blocking = |age| LaneStatus { blocks_source: true, age: ms(age), ..IN_FLIGHT };
        let aged = |age, lane| LaneStatus { age: ms(age), ..lane };
        let waived = |lane| LaneStatus { limits: SizeLimits::Waived, ..lane };
        for (case, sink, lane, is_spilled, is_slow) in [
            ("new delivery", HEALTHY, QUEUED, false, false),
            ("delivery below spill_after", HEALTHY, aged(1_999, QUEUED), false, false),
            ("attempt below spill_after", HEALTHY, aged(1_999, IN_FLIGHT), false, false),
            ("delivery at spill_after", HEALTHY, aged(2_000, QUEUED), true, true),
            ("attempt at spill_after", HEALTHY, aged(2_000, IN_FLIGHT), true, true),
            ("attempt that blocks its source for 50 ms", HEALTHY, blocking(50), true, true),
            ("attempt that blocks its source for less", HEALTHY, blocking(49), false, false),
            ("new delivery for a slow sink", slow, QUEUED, true, true),
            ("attempt at a slow sink", slow, IN_FLIGHT, false, true),
            ("new delivery behind an open breaker", broken, QUEUED, true, false),
            ("probe of an open breaker", broken, IN_FLIGHT, false, false),
            ("delivery behind spooled ones", HEALTHY, LaneStatus { is_spooled: true, ..IN_FLIGHT }, true, false),
            ("delivery that must be stored", HEALTHY, waived(QUEUED), true, false),
            ("attempt that must be stored", HEALTHY, waived(IN_FLIGHT), false, false),
        ] {
            let decision = decide_spill(sink, vec![lane]);
            let lanes = if is_spilled { vec![(lane.lane, lane.limits)] } else { Vec::new() };
            assert_eq!(decision, SpillDecision { is_slow, lanes }, "{case}");
        }
    }

    #[test]
    fn one_lane_that_blocks_its_source_makes_the_sink_slow_for_all_lanes() {
        let lane = |number, lane| LaneStatus { lane: Lane::Ordered(number), ..lane };
        let lanes = vec![
            lane(1, LaneStatus { blocks_source: true, age: ms(50), ..IN_FLIGHT }),
            lane(2, QUEUED),
            lane(3, IN_FLIGHT),
            lane(4, LaneStatus { age: ms(50), ..IN_FLIGHT }),
            lane(5, LaneStatus { limits: SizeLimits::Waived, ..QUEUED }),
        ];
        let SpillDecision { is_slow, lanes } = decide_spill(HEALTHY, lanes);
        assert!(is_slow);
        let numbers = [5, 1, 2, 4].map(Lane::Ordered);
        assert_eq!(
            lanes.into_iter().map(|(lane, _)| lane).collect::<Vec<_>>(),
            numbers,
            "the lane without limits comes first"
        );
    }
}
