//! Moves deliveries from memory to the spool.
//!
//! Spilling makes a delivery durable. It neither ends nor repeats its attempt: until that ends, the row belongs to the attempt. A lane is
//! written without holes: the deliveries before one in its lane are written first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dispatcher::Dispatcher;
use super::lanes::{Lane, TakenLane};
use super::ordering::group;
use super::overdue::{LaneStatus, SinkStatus, SpillDecision, decide_spill};
use super::stats::DeliveryResult;
use super::{Backing, Delivery};
use crate::config::WhenFull;
use crate::failpoints::Failpoint;
use crate::journal::DeliveryEnd;
use crate::spool::SizeLimits;

impl Dispatcher {
    /// Queues a new delivery in memory, or spools it at once if it would only wait there.
    pub(super) fn enqueue(&mut self, lane: Lane, mut delivery: Delivery) {
        delivery.place = self.misfits.place_of_received();
        // Only the spool knows whether an earlier run has stored this message.
        let may_be_stored = delivery.payload.message().is_some_and(|message| message.redelivered);
        let must_wait = self.goes_through_spool()
            || self.lanes.is_spooled(lane)
            || !self.breaker.is_closed()
            || self.is_slow
            || self.lanes.queued() >= self.capacity()
            || self.backlog.is_full();
        if !may_be_stored && !must_wait {
            return self.lanes.push(lane, delivery);
        }
        let limits = self.limits(&delivery);
        let has_room = self.spill_lane(lane, limits);
        let spilled = if has_room { self.spill(lane, delivery, false, limits) } else { Err(delivery) };
        if let Err(delivery) = spilled {
            self.on_spool_full(lane, delivery, must_wait);
        }
    }

    /// A delivery may exceed the limits of the spool if its source is about to receive its message again, for all sinks: at a stop, or
    /// because the broker is about to time it out.
    fn limits(&self, delivery: &Delivery) -> SizeLimits {
        if self.is_stopping() || delivery.must_be_stored() { SizeLimits::Waived } else { self.usual_limits() }
    }

    fn usual_limits(&self) -> SizeLimits {
        if self.settings.group.is_some() { SizeLimits::Grouped } else { SizeLimits::Enforced }
    }

    fn on_spool_full(&mut self, lane: Lane, delivery: Delivery, must_wait: bool) {
        match self.settings.when_full {
            WhenFull::DropNewest if must_wait => self.drop_delivery(delivery),
            // The delivery waits in memory, and its message stays unacknowledged.
            WhenFull::DropNewest | WhenFull::Block => self.lanes.push(lane, delivery),
        }
    }

    /// Spools a failed delivery and those behind it in its lane.
    pub(super) fn spill_failed(&mut self, lane: Lane, delivery: Delivery) {
        let limits = self.limits(&delivery);
        match self.spill(lane, delivery, false, limits) {
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
                let due = Instant::now() + delivery.backoff();
                self.lanes.put_back(lane, delivery, due);
            }
        }
    }

    /// Spools the deliveries that have been in memory for too long.
    pub(super) fn spill_overdue(&mut self) {
        let sink = SinkStatus {
            is_slow: self.is_slow || self.goes_through_spool(),
            is_breaker_closed: self.breaker.is_closed(),
            spill_after: self.settings.spill_after,
        };
        let SpillDecision { is_slow, lanes } = decide_spill(sink, self.lane_statuses());
        self.is_slow = is_slow;
        for (lane, limits) in lanes {
            if !self.spill_lane(lane, limits) && !self.drop_queued(lane) {
                return;
            }
        }
    }

    fn lane_statuses(&self) -> Vec<LaneStatus> {
        let status = |(lane, attempt, next): (Lane, Option<_>, &VecDeque<Delivery>)| {
            let in_flight = attempt.and_then(|attempt| self.in_flight.get(&attempt)).map(|(_, delivery)| delivery);
            let oldest = in_flight.or(next.front())?;
            let is_exceeded = in_flight.into_iter().chain(next).any(|one| self.limits(one) == SizeLimits::Waived);
            Some(LaneStatus {
                lane,
                is_in_flight: attempt.is_some(),
                age: oldest.received_at.elapsed(),
                blocks_source: oldest.blocks_source(),
                is_spooled: self.lanes.is_spooled(lane),
                limits: if is_exceeded { SizeLimits::Waived } else { self.usual_limits() },
            })
        };
        self.lanes.iter().filter_map(status).collect()
    }

    /// Spools all deliveries in memory, as far as the disk has room.
    pub(super) fn spill_all(&mut self) {
        let lanes: Vec<Lane> = self.lanes.iter().map(|(lane, ..)| lane).collect();
        for lane in lanes {
            self.spill_lane(lane, SizeLimits::Waived);
        }
    }

    /// Spools all deliveries in memory, as far as the spool has room.
    pub(super) fn spill_everything(&mut self) {
        let lanes: Vec<Lane> = self.lanes.iter().map(|(lane, ..)| lane).collect();
        for lane in lanes {
            self.spill_lane(lane, self.usual_limits());
        }
    }

    /// Spools a lane: the delivery in flight, whose attempt continues, and all behind it. Returns false if there is no room for all.
    fn spill_lane(&mut self, lane: Lane, limits: SizeLimits) -> bool {
        let Some(mut taken) = self.lanes.take(lane) else { return true };
        if !Failpoint::SpillWithoutPredecessor.is_enabled()
            && let Some(id) = taken.attempt()
            && let Some((_, delivery)) = self.in_flight.remove(&id)
        {
            match self.spill(lane, delivery, true, limits) {
                Ok(delivery) => {
                    self.in_flight.insert(id, (lane, delivery));
                    taken.attempt_is_spooled();
                }
                Err(delivery) => {
                    self.in_flight.insert(id, (lane, delivery));
                    self.lanes.restore(lane, taken);
                    return false;
                }
            }
        }
        self.spill_behind(lane, taken, limits)
    }

    /// Spools the queued deliveries of a lane. Returns false if there is no room for some, which stay in memory behind the others.
    fn spill_behind(&mut self, lane: Lane, mut taken: TakenLane<Delivery>, limits: SizeLimits) -> bool {
        while let Some(delivery) = taken.next.pop_front() {
            if let Err(delivery) = self.spill(lane, delivery, false, limits) {
                taken.next.push_front(delivery);
                self.lanes.restore(lane, taken);
                return false;
            }
        }
        true
    }

    /// Hands a delivery to the spool. From here on its lane counts as spooled. Returns the delivery with its row, or unchanged as the error
    /// if there is no room.
    fn spill(
        &mut self,
        lane: Lane,
        delivery: Delivery,
        is_in_flight: bool,
        limits: SizeLimits,
    ) -> Result<Delivery, Delivery> {
        let key = self.order.key(&self.settings.name, delivery.payload.event());
        let (delay, group) = if is_in_flight { (Duration::ZERO, None) } else { self.delay_and_group(&delivery) };
        let Some(mut row) = delivery.to_spool(&self.settings.name, key, delay, group) else { return Ok(delivery) };
        row.may_be_known &= !is_in_flight && delivery.attempts == 0;
        let receipt = match delivery.backing {
            Backing::Receipt(receipt) => receipt,
            backing @ (Backing::Row(_) | Backing::Digest) => return Ok(Delivery { backing, ..delivery }),
        };
        let attempt_guard = is_in_flight.then(|| receipt.spilled_attempt());
        match self.spool.spill(row, receipt, is_in_flight, limits) {
            Ok(id) => {
                self.lanes.add_spooled(lane);
                if is_in_flight {
                    self.backlog.add_in_flight(id, delivery.payload.message().map_or(0, |message| message.size()));
                } else {
                    self.backlog.add(Instant::now() + delay);
                    self.grown_groups.insert(key);
                }
                Ok(Delivery { backing: Backing::Row(id), attempt_guard, ..delivery })
            }
            Err(receipt) => Err(Delivery { backing: Backing::Receipt(receipt), attempt_guard: None, ..delivery }),
        }
    }

    /// When the next attempt is due at the earliest, and what the delivery is grouped by: one that has failed is in no group, because
    /// its back-off is no wait for other events.
    fn delay_and_group(&self, delivery: &Delivery) -> (Duration, Option<Arc<str>>) {
        match &self.settings.group {
            Some(settings) if delivery.failure.is_none() => {
                let event = delivery.payload.event();
                let text = group(&settings.by, |field| field.of(event));
                (settings.wait.saturating_sub(delivery.received_at.elapsed()), Some(text.into()))
            }
            _ => (delivery.backoff(), None),
        }
    }

    /// Drops the queued deliveries of a lane if `when_full: drop_newest` is set. Returns false if it isn't.
    fn drop_queued(&mut self, lane: Lane) -> bool {
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
        if let Some(suppressed) = self.drop_log.allow() {
            let event = delivery.payload.event();
            tracing::warn!(
                sink = %self.settings.name, event_id = %event.id, tenant = %event.tenant,
                correlation_id = event.correlation_id, suppressed,
                "a delivery was dropped: the spool has no room for it and `when_full: drop_newest` is set"
            );
        }
        self.record(&delivery, &DeliveryEnd::Dropped);
        if let Backing::Receipt(receipt) = delivery.backing {
            receipt.settle();
        }
    }
}
