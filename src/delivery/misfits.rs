//! Deliveries whose value doesn't fit the schema of the sink: each becomes a dead letter at its first attempt, and no other one waits for
//! it. If ten different events in a row, in the order of receipt, don't fit, then the schema is at fault, not the events.
//!
//! Attempts end in any order, so each delivery has a place in the order of receipt; one in the spool gets it when it is taken from there. A
//! delivery of which it isn't known yet whether it fits separates those before it from those behind it. The spool gives out only the
//! first delivery of each key: as long as others wait behind one that fits, they may separate, too.

use std::collections::{BTreeMap, HashSet};

use uuid::Uuid;

use super::breaker::IN_A_ROW;
use super::dispatcher::Dispatcher;
use super::lanes::{Lane, Lanes};
use super::retry::{backoff, limit_reached};
use super::stats::AttemptResult;
use super::{Backing, Delivery};
use crate::event::Reason;
use crate::sink::{AttemptId, Blame};

/// So many deliveries are remembered that didn't fit.
const REMEMBERED: usize = 1_000;
/// The first place of those that are taken from the spool. They have an order of their own.
const SPOOLED: u32 = 1 << 31;

/// Which of the latest deliveries didn't fit.
#[derive(Debug)]
pub(super) struct Misfits {
    last_received: u32,
    last_taken: u32,
    /// Those that didn't fit, by their places.
    events: BTreeMap<u32, Uuid>,
    /// Lanes whose last delivery fitted, with more of them in the spool.
    fitting: HashSet<Lane>,
}

impl Default for Misfits {
    fn default() -> Self {
        Self { last_received: 0, last_taken: SPOOLED, events: BTreeMap::new(), fitting: HashSet::new() }
    }
}

impl Misfits {
    /// The place of a delivery that is received. After some days of full load the places begin again.
    pub(super) fn place_of_received(&mut self) -> u32 {
        self.last_received += 1;
        if self.last_received >= SPOOLED {
            self.last_received = 1;
            self.events.clear();
        }
        self.last_received
    }

    /// The place of a delivery that is taken from the spool.
    pub(super) fn place_of_taken(&mut self) -> u32 {
        self.last_taken = self.last_taken.checked_add(1).unwrap_or_else(|| {
            self.events.clear();
            SPOOLED
        });
        self.last_taken
    }

    /// Returns whether it is one of [`IN_A_ROW`] different events in a row that didn't fit.
    fn add(&mut self, place: u32, event: Uuid) -> bool {
        self.events.insert(place, event);
        if self.events.len() > REMEMBERED {
            self.events.pop_first();
        }
        let known = |place: u32| self.events.get(&place);
        let before = (0..=place).rev().map_while(known);
        let behind = (place.saturating_add(1)..).map_while(known);
        let mut row = HashSet::new();
        before.chain(behind).any(|event| {
            row.insert(*event);
            row.len() >= IN_A_ROW
        })
    }

    pub(super) fn forget(&mut self) {
        self.events.clear();
    }
}

impl Lanes<Delivery> {
    /// Whether the lane has deliveries in the spool behind this one of it.
    fn has_more(&self, lane: Lane, delivery: &Delivery) -> bool {
        self.spooled(lane) > u32::from(matches!(delivery.backing, Backing::Row(_)))
    }
}

impl Dispatcher {
    /// To be called once a delivery that was delivered is settled.
    pub(super) fn on_fit(&mut self, lane: Lane) {
        if self.sink.encodes_by_other_schema() && self.lanes.is_spooled(lane) {
            self.misfits.fitting.insert(lane);
        }
    }

    /// Whether some wait in the spool behind one that fits, or may fit.
    fn may_have_fitting_ones_between(&mut self) -> bool {
        let Self { misfits, lanes, in_flight, .. } = self;
        misfits.fitting.retain(|lane| lanes.is_spooled(*lane));
        !misfits.fitting.is_empty() || in_flight.values().any(|(lane, delivery)| lanes.has_more(*lane, delivery))
    }

    pub(super) fn on_misfit(&mut self, id: AttemptId, lane: Lane, delivery: Delivery, detail: String) {
        self.misfits.fitting.remove(&lane);
        let in_a_row =
            self.misfits.add(delivery.place, delivery.payload.event().id) && !self.may_have_fitting_ones_between();
        if !in_a_row && !self.breaker.refuses_everything() {
            self.breaker.on_attempt_end(id);
            return self.dead_letter(lane, delivery, Reason::RenderFailed, detail);
        }
        self.stats.count_failure(AttemptResult::Retry, &detail);
        let was_open = self.breaker.is_open();
        if self.breaker.on_misfits(id, &self.settings.retry, &detail) {
            self.save_state();
        }
        if !was_open && self.breaker.is_open() {
            self.is_logged_as_unavailable = true;
            self.stats.set_failing(&detail);
            tracing::warn!(
                sink = %self.settings.name, error = detail,
                "no event fits the schema of the sink: {IN_A_ROW} different events in a row don't; its breaker is open, deliveries are \
                 spooled and retried, and none becomes a dead letter because of its schema until one is delivered; look at `schema`, and at \
                 `body` or `transform`"
            );
        }
        let retry = &self.settings.retry;
        if let Some(limit) = limit_reached(retry, delivery.attempts, delivery.received_at.elapsed()) {
            return self.dead_letter(lane, delivery, Reason::GaveUp, format!("{limit}: {detail}"));
        }
        let backoff = backoff(retry, delivery.attempts.max(1));
        self.log_failure(&delivery, &detail, Blame::Delivery);
        self.reschedule(lane, delivery, backoff, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u32) -> Uuid {
        Uuid::from_u128(u128::from(number))
    }

    #[test]
    fn ten_different_events_in_a_row_are_noticed_in_whatever_order_they_end() {
        let mut misfits = Misfits::default();
        for place in [7, 3, 10, 1, 9, 2, 8, 4, 6] {
            assert!(!misfits.add(place, event(place)));
        }
        assert!(misfits.add(5, event(5)));
        assert!(misfits.add(11, event(11)), "so is each one behind them");
        assert!(!misfits.add(13, event(13)), "it isn't known whether the one between fits");
        misfits.forget();
        assert!(!misfits.add(12, event(12)));
    }

    #[test]
    fn copies_of_an_event_count_once() {
        let mut misfits = Misfits::default();
        assert!((1..=50).all(|place| !misfits.add(place, event(place % 9))));
        assert!(misfits.add(51, event(100)));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut misfits = Misfits::default();
        for place in (0..10_000).map(|number| number * 2) {
            assert!(!misfits.add(place, event(place)));
        }
        assert_eq!(misfits.events.len(), REMEMBERED);
    }
}
