//! Decides which lanes in memory go to the spool, so that a dead, hanging or slow sink blocks no source, and thereby no other sink.
//!
//! It is a pure function of what the dispatcher knows; `spill` carries the decision out.

use std::time::Duration;

use super::lanes::Lane;
use crate::spool::SizeLimits;

/// How often the deliveries in memory are checked.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(25);
/// While a source is blocked by this sink, deliveries that have been in memory for this time are spooled.
const HOLD_UP_LIMIT: Duration = Duration::from_millis(50);

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
    /// Its oldest delivery is being attempted.
    pub(super) is_in_flight: bool,
    /// Time since receipt of its oldest delivery.
    pub(super) age: Duration,
    /// Its oldest delivery blocks its source.
    pub(super) is_pressing: bool,
    /// Some of the lane is in the spool.
    pub(super) is_spooled: bool,
    /// [`SizeLimits::Waived`] where any delivery of the lane may exceed them: those before it are spooled with it.
    pub(super) limits: SizeLimits,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// The sink blocks a source, or is too late.
    pub(super) is_slow: bool,
    /// In this order: a lane that may exceed the limits of the spool finds room where others find none.
    pub(super) lanes: Vec<(Lane, SizeLimits)>,
}

/// Which lanes to spool now.
pub(super) fn overdue(sink: SinkStatus, mut lanes: Vec<LaneStatus>) -> Decision {
    let is_held_up = lanes.iter().any(|lane| lane.is_pressing && lane.age >= HOLD_UP_LIMIT);
    let is_late = lanes.iter().any(|lane| lane.age >= sink.spill_after);
    let is_slow = sink.is_slow || is_held_up || is_late;
    let keeps_waiting_in_memory = !is_slow && sink.is_breaker_closed;
    lanes.retain(|lane| {
        let only_waits = !lane.is_in_flight;
        lane.is_spooled
            || lane.age >= sink.spill_after
            || (is_held_up && lane.age >= HOLD_UP_LIMIT)
            || (only_waits && (!keeps_waiting_in_memory || lane.limits == SizeLimits::Waived))
    });
    lanes.sort_by_key(|lane| lane.limits == SizeLimits::Enforced);
    Decision { is_slow, lanes: lanes.into_iter().map(|lane| (lane.lane, lane.limits)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTHY: SinkStatus =
        SinkStatus { is_slow: false, is_breaker_closed: true, spill_after: Duration::from_secs(2) };
    /// A lane that waits in memory and has just come.
    const WAITING: LaneStatus = LaneStatus {
        lane: Lane::Ordered(1),
        is_in_flight: false,
        age: Duration::ZERO,
        is_pressing: false,
        is_spooled: false,
        limits: SizeLimits::Enforced,
    };
    const IN_FLIGHT: LaneStatus = LaneStatus { is_in_flight: true, ..WAITING };
    const JUST_BELOW: Duration = Duration::from_millis(49);
    const LONG: Duration = Duration::from_millis(50);
    const LATE: Duration = Duration::from_secs(2);

    #[test]
    fn a_lane_is_spooled_when_it_would_hold_up_its_source() {
        let slow = SinkStatus { is_slow: true, ..HEALTHY };
        let broken = SinkStatus { is_breaker_closed: false, ..HEALTHY };
        let pressing = |age| LaneStatus { is_pressing: true, age, ..IN_FLIGHT };
        let aged = |age, lane| LaneStatus { age, ..lane };
        let stored = |lane| LaneStatus { limits: SizeLimits::Waived, ..lane };
        for (case, sink, lane, is_spilled, is_slow) in [
            ("a new delivery waits in memory", HEALTHY, WAITING, false, false),
            ("so does one below spill_after", HEALTHY, aged(LONG, WAITING), false, false),
            ("so does an attempt", HEALTHY, aged(LONG, IN_FLIGHT), false, false),
            ("at spill_after the sink is slow", HEALTHY, aged(LATE, WAITING), true, true),
            ("and an attempt is spooled as well", HEALTHY, aged(LATE, IN_FLIGHT), true, true),
            ("a source that is held up waits no longer", HEALTHY, pressing(LONG), true, true),
            ("than 50 ms", HEALTHY, pressing(JUST_BELOW), false, false),
            ("nothing waits for a slow sink", slow, WAITING, true, true),
            ("but attempts go on", slow, IN_FLIGHT, false, true),
            ("nothing waits behind an open breaker", broken, WAITING, true, false),
            ("but attempts go on there", broken, IN_FLIGHT, false, false),
            ("what is spooled comes first", HEALTHY, LaneStatus { is_spooled: true, ..IN_FLIGHT }, true, false),
            ("a waiting delivery that must be stored", HEALTHY, stored(WAITING), true, false),
            ("is behind an attempt until that is late", HEALTHY, stored(IN_FLIGHT), false, false),
        ] {
            let decision = overdue(sink, vec![lane]);
            let lanes = if is_spilled { vec![(lane.lane, lane.limits)] } else { Vec::new() };
            assert_eq!(decision, Decision { is_slow, lanes }, "{case}");
        }
    }

    #[test]
    fn one_lane_that_holds_up_a_source_makes_the_sink_slow_for_all() {
        let lane = |number, lane| LaneStatus { lane: Lane::Ordered(number), ..lane };
        let lanes = vec![
            lane(1, LaneStatus { is_pressing: true, age: LONG, ..IN_FLIGHT }),
            lane(2, WAITING),
            lane(3, IN_FLIGHT),
            lane(4, LaneStatus { age: LONG, ..IN_FLIGHT }),
            lane(5, LaneStatus { limits: SizeLimits::Waived, ..WAITING }),
        ];
        let Decision { is_slow, lanes } = overdue(HEALTHY, lanes);
        assert!(is_slow);
        let numbers = [5, 1, 2, 4].map(Lane::Ordered);
        assert_eq!(
            lanes.into_iter().map(|(lane, _)| lane).collect::<Vec<_>>(),
            numbers,
            "the one that finds room first"
        );
    }
}
