//! What goes to the spool, and when: so that one sink that is dead, slow or hangs holds up no source, and with it no other sink.
//!
//! Spilling makes a delivery durable. It neither ends nor repeats the attempt under way: the row belongs to that attempt until
//! it ends. A lane is written without holes: what is before a delivery in its lane is written first.

use std::time::{Duration, Instant};

use super::dispatcher::Dispatcher;
use super::lanes::{Lane, TakenLane, key};
use super::stats::DeliveryResult;
use super::{Delivery, Kept};
use crate::config::WhenFull;
use crate::failpoints::Failpoint;
use crate::spool::Limits;

/// How often what is in memory is looked over, as long as something is.
pub(super) const LOOK_OVER: Duration = Duration::from_millis(25);
/// What has been in memory for so long goes to the spool when its source is held up.
const HELD: Duration = Duration::from_millis(50);

impl Dispatcher {
    /// A new delivery: to memory, or to the spool at once where it would only wait.
    pub(super) fn place(&mut self, lane: Lane, delivery: Delivery) {
        // A message that an earlier run may have had: the spool knows.
        let is_doubtful = delivery.received.message.redelivered;
        let must_wait = self.lanes.is_spooled(lane)
            || !self.breaker.is_closed()
            || self.is_slow
            || self.lanes.waiting() >= self.capacity()
            || self.backlog.is_full();
        if !is_doubtful && !must_wait {
            return self.lanes.push(lane, delivery);
        }
        let limits = self.limits(&delivery);
        let behind = !self.spill_lane(lane, limits);
        let delivery = if behind { Err(delivery) } else { self.put_down(lane, delivery, false, limits) };
        if let Err(delivery) = delivery {
            self.no_room(lane, delivery, must_wait);
        }
    }

    /// What may be exceeded for a delivery. At an end its message would be taken anew, and go once more to the sinks that have it; or the
    /// broker is about to drop it.
    fn limits(&self, delivery: &Delivery) -> Limits {
        if self.is_stopping() || delivery.must_be_stored() { Limits::Exceeded } else { Limits::Kept }
    }

    /// There is no room for a new delivery.
    fn no_room(&mut self, lane: Lane, delivery: Delivery, must_wait: bool) {
        match self.settings.when_full {
            WhenFull::DropNewest if must_wait => self.drop_delivery(delivery),
            // It waits in memory, unacknowledged.
            WhenFull::DropNewest | WhenFull::Block => self.lanes.push(lane, delivery),
        }
    }

    /// A failed delivery, with all that waits behind it.
    pub(super) fn spill_failed(&mut self, lane: Lane, delivery: Delivery) {
        let limits = self.limits(&delivery);
        match self.put_down(lane, delivery, false, limits) {
            Ok(_) if Failpoint::ReorderOnRetry.is_enabled() => {
                self.lanes.remove_spooled(lane);
                self.lanes.release(lane);
            }
            Ok(_) => {
                if let Some(mut taken) = self.lanes.take(lane) {
                    taken.attempt_is_spooled();
                    self.spill_behind(lane, taken, limits);
                }
            }
            Err(delivery) if self.settings.when_full == WhenFull::DropNewest => {
                self.drop_delivery(delivery);
                self.lanes.release(lane);
            }
            Err(delivery) => {
                let due = Instant::now() + delivery.back_off();
                self.lanes.put_back(lane, delivery, due);
            }
        }
    }

    /// Looks for deliveries in memory that have been there too long.
    pub(super) fn look_over(&mut self) {
        let age = |delivery: &Delivery| delivery.since.elapsed();
        let mut is_held_up = false;
        let mut is_late = false;
        let mut lanes: Vec<(Lane, bool, Limits, Duration)> = self
            .lanes
            .iter()
            .filter_map(|(lane, attempt, next)| {
                let under_way = attempt.and_then(|attempt| self.under_way.get(&attempt)).map(|(_, delivery)| delivery);
                let oldest = under_way.or(next.front())?;
                is_held_up |= oldest.is_pressing() && age(oldest) >= HELD;
                is_late |= age(oldest) >= self.settings.spill_after;
                // Without holes: what is before one for which they may be exceeded goes with it.
                let exceeds = under_way.into_iter().chain(next).any(|one| self.limits(one) == Limits::Exceeded);
                let limits = if exceeds { Limits::Exceeded } else { Limits::Kept };
                Some((lane, attempt.is_none(), limits, age(oldest)))
            })
            .collect();
        self.is_slow |= is_held_up || is_late;
        let none_waits = self.is_slow || !self.breaker.is_closed();
        // These find room where the others find none.
        lanes.sort_by_key(|(.., limits, _)| *limits == Limits::Kept);
        for (lane, waits, limits, age) in lanes {
            let must_go = self.lanes.is_spooled(lane)
                || (waits && (none_waits || limits == Limits::Exceeded))
                || age >= self.settings.spill_after
                || (is_held_up && age >= HELD);
            if must_go && !self.spill_lane(lane, limits) && !self.drop_waiting(lane) {
                return;
            }
        }
    }

    /// Puts all that is in memory into the spool, as far as the disk has room.
    pub(super) fn spill_all(&mut self) {
        let lanes: Vec<Lane> = self.lanes.iter().map(|(lane, ..)| lane).collect();
        for lane in lanes {
            self.spill_lane(lane, Limits::Exceeded);
        }
    }

    /// Puts a lane into the spool: the attempt that is under way, which goes on, and all behind it. False: there is no room.
    fn spill_lane(&mut self, lane: Lane, limits: Limits) -> bool {
        let Some(mut taken) = self.lanes.take(lane) else { return true };
        if !Failpoint::SpillWithoutPredecessor.is_enabled()
            && let Some(id) = taken.attempt()
            && let Some((_, delivery)) = self.under_way.remove(&id)
        {
            match self.put_down(lane, delivery, true, limits) {
                Ok(delivery) => {
                    self.under_way.insert(id, (lane, delivery));
                    taken.attempt_is_spooled();
                }
                Err(delivery) => {
                    self.under_way.insert(id, (lane, delivery));
                    self.lanes.restore(lane, taken);
                    return false;
                }
            }
        }
        self.spill_behind(lane, taken, limits)
    }

    /// Puts what waits in a lane into the spool. False: there is no room for some, which stay in memory behind the others.
    fn spill_behind(&mut self, lane: Lane, mut taken: TakenLane<Delivery>, limits: Limits) -> bool {
        while let Some(delivery) = taken.next.pop_front() {
            if let Err(delivery) = self.put_down(lane, delivery, false, limits) {
                taken.next.push_front(delivery);
                self.lanes.restore(lane, taken);
                return false;
            }
        }
        true
    }

    /// Hands one delivery to the spool, whether or not an attempt is under way for it. From here on its lane counts as spooled. It comes
    /// back as it is where there is no room.
    fn put_down(
        &mut self,
        lane: Lane,
        delivery: Delivery,
        is_attempted: bool,
        limits: Limits,
    ) -> Result<Delivery, Delivery> {
        let key = key(&self.settings.name, self.order_by, &delivery.received.event);
        let mut waiting = delivery.waiting(&self.settings.name, key, is_attempted);
        waiting.may_be_known &= !is_attempted && delivery.attempts == 0;
        let back_off = delivery.back_off();
        let Delivery { received, route, kept, since, attempts, refusals, failure, in_flight } = delivery;
        let receipt = match kept {
            Kept::Message(receipt) => receipt,
            kept @ Kept::Row(_) => {
                return Ok(Delivery { received, route, kept, since, attempts, refusals, failure, in_flight });
            }
        };
        let in_flight = is_attempted.then(|| receipt.spilled_attempt());
        match self.spool.spill(waiting, receipt, is_attempted, limits) {
            Ok(id) => {
                self.lanes.add_spooled(lane);
                if is_attempted {
                    self.backlog.added_under_way(id, &received.message);
                } else {
                    self.backlog.added(Instant::now() + back_off);
                }
                Ok(Delivery {
                    received,
                    route,
                    kept: Kept::Row(id),
                    since,
                    attempts,
                    refusals,
                    failure: None,
                    in_flight,
                })
            }
            Err(receipt) => {
                let kept = Kept::Message(receipt);
                Err(Delivery { received, route, kept, since, attempts, refusals, failure, in_flight: None })
            }
        }
    }

    /// Drops what waits in a lane, where the configuration says so. False: it doesn't.
    fn drop_waiting(&mut self, lane: Lane) -> bool {
        if self.settings.when_full != WhenFull::DropNewest {
            return false;
        }
        let Some(mut taken) = self.lanes.take(lane) else { return true };
        for delivery in taken.next.drain(..) {
            self.drop_delivery(delivery);
        }
        self.lanes.restore(lane, taken);
        true
    }

    fn drop_delivery(&mut self, delivery: Delivery) {
        self.stats.count(DeliveryResult::Dropped);
        if let Some(left_out) = self.dropping.pass() {
            let event = &delivery.received.event;
            tracing::warn!(
                sink = %self.settings.name, event_id = %event.id, tenant = %event.tenant,
                correlation_id = event.correlation_id, left_out,
                "a delivery was dropped: the spool has no room for it, and `when_full: drop_newest` says so"
            );
        }
        if let Kept::Message(receipt) = delivery.kept {
            receipt.settle();
        }
    }
}
