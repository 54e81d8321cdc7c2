//! What goes to the spool, and when: so that one sink that is dead, slow or hangs holds up no source, and with it no other sink.
//!
//! Spilling makes a delivery durable. It neither ends nor repeats the attempt under way: the row belongs to that attempt until
//! it ends. A lane is written without holes: what is before a delivery in its lane is written first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::dispatcher::Dispatcher;
use super::lanes::{Lane, key};
use super::stats::DeliveryResult;
use super::{Delivery, Kept};
use crate::config::OnFull;
use crate::mutant::Mutant;

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
        let behind = !self.spill_lane(lane);
        let delivery = if behind { Err(delivery) } else { self.put_down(lane, delivery, Duration::ZERO, None, false) };
        if let Err(delivery) = delivery {
            self.no_room(lane, delivery, must_wait);
        }
    }

    /// There is no room for a new delivery.
    fn no_room(&mut self, lane: Lane, delivery: Delivery, must_wait: bool) {
        match self.settings.on_full {
            OnFull::Drop if must_wait => self.drop_delivery(delivery),
            // It waits in memory, unacknowledged.
            OnFull::Drop | OnFull::Wait => self.lanes.push(lane, delivery),
        }
    }

    /// A failed delivery that is due again after `pause`, with all that waits behind it.
    pub(super) fn spill_failed(&mut self, lane: Lane, delivery: Delivery, pause: Duration, cause: String) {
        match self.put_down(lane, delivery, pause, Some(cause), false) {
            Ok(_) if Mutant::ReorderOnRetry.is_on() => {
                self.lanes.remove_spooled(lane);
                self.lanes.release(lane);
            }
            Ok(_) => {
                let (_, behind) = self.lanes.take(lane);
                self.spill_behind(lane, behind);
            }
            Err(delivery) if self.settings.on_full == OnFull::Drop => {
                self.drop_delivery(delivery);
                self.lanes.release(lane);
            }
            Err(delivery) => {
                self.lanes.put_back(lane, delivery);
                self.wake_later(lane, pause);
            }
        }
    }

    /// Looks for deliveries in memory that have been there too long.
    pub(super) fn look_over(&mut self, stopping: bool) {
        let age = |delivery: &Delivery| delivery.since.elapsed();
        let mut is_held_up = false;
        let mut is_late = false;
        let lanes: Vec<(Lane, bool, Duration)> = self
            .lanes
            .iter()
            .filter_map(|(lane, attempt, first)| {
                let under_way = attempt.and_then(|attempt| self.under_way.get(&attempt)).map(|(_, delivery)| delivery);
                let oldest = under_way.or(first)?;
                is_held_up |= oldest.is_pressing() && age(oldest) >= HELD;
                is_late |= age(oldest) >= self.settings.spill_after;
                Some((lane, attempt.is_none(), age(oldest)))
            })
            .collect();
        self.is_slow |= is_held_up || is_late;
        let none_waits = stopping || self.is_slow || !self.breaker.is_closed();
        for (lane, waits, age) in lanes {
            let must_go = self.lanes.is_spooled(lane)
                || (waits && none_waits)
                || age >= self.settings.spill_after
                || (is_held_up && age >= HELD);
            if must_go && !self.spill_lane(lane) && !self.drop_waiting(lane) {
                return;
            }
        }
    }

    /// Puts all that is in memory into the spool, as far as there is room.
    pub(super) fn spill_all(&mut self) {
        let lanes: Vec<Lane> = self.lanes.iter().map(|(lane, ..)| lane).collect();
        for lane in lanes {
            self.spill_lane(lane);
        }
    }

    /// Puts a lane into the spool: the attempt that is under way, which goes on, and all behind it. False: there is no room.
    fn spill_lane(&mut self, lane: Lane) -> bool {
        let (attempt, behind) = self.lanes.take(lane);
        if !Mutant::SpillWithoutPredecessor.is_on()
            && let Some(id) = attempt
            && let Some((_, delivery)) = self.under_way.remove(&id)
        {
            match self.put_down(lane, delivery, Duration::ZERO, None, true) {
                Ok(delivery) => {
                    self.under_way.insert(id, (lane, delivery));
                }
                Err(delivery) => {
                    self.under_way.insert(id, (lane, delivery));
                    self.lanes.restore(lane, attempt, behind);
                    return false;
                }
            }
        }
        self.spill_behind(lane, behind)
    }

    /// Puts what waits in a lane into the spool. False: there is no room for some, which stay in memory behind the others.
    fn spill_behind(&mut self, lane: Lane, mut behind: VecDeque<Delivery>) -> bool {
        while let Some(delivery) = behind.pop_front() {
            if let Err(delivery) = self.put_down(lane, delivery, Duration::ZERO, None, false) {
                behind.push_front(delivery);
                self.lanes.restore(lane, None, behind);
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
        pause: Duration,
        cause: Option<String>,
        is_attempted: bool,
    ) -> Result<Delivery, Delivery> {
        let key = key(&self.settings.name, self.order_by, &delivery.received.event);
        let mut waiting = delivery.waiting(&self.settings.name, key, pause, cause);
        waiting.may_be_known &= !is_attempted && delivery.attempts == 0;
        let Delivery { received, route, kept, since, attempts } = delivery;
        let receipt = match kept {
            Kept::Message(receipt) => receipt,
            kept @ Kept::Row(_) => return Ok(Delivery { received, route, kept, since, attempts }),
        };
        match self.spool.spill(waiting, receipt, is_attempted) {
            Ok(id) => {
                self.lanes.add_spooled(lane);
                self.backlog.added((!is_attempted).then(|| Instant::now() + pause));
                Ok(Delivery { received, route, kept: Kept::Row(id), since, attempts })
            }
            Err(receipt) => Err(Delivery { received, route, kept: Kept::Message(receipt), since, attempts }),
        }
    }

    /// Drops what waits in a lane, where the configuration says so. False: it doesn't.
    fn drop_waiting(&mut self, lane: Lane) -> bool {
        if self.settings.on_full != OnFull::Drop {
            return false;
        }
        let (attempt, behind) = self.lanes.take(lane);
        for delivery in behind {
            self.drop_delivery(delivery);
        }
        self.lanes.restore(lane, attempt, VecDeque::new());
        true
    }

    fn drop_delivery(&mut self, delivery: Delivery) {
        self.stats.count(DeliveryResult::Dropped);
        if let Some(left_out) = self.dropping.pass() {
            let event = &delivery.received.event;
            tracing::warn!(
                sink = %self.settings.name, event_id = %event.id, tenant = %event.tenant,
                correlation_id = event.correlation_id, left_out,
                "a delivery was dropped: the spool has no room for it, and `on_full: drop` says so"
            );
        }
        if let Kept::Message(receipt) = delivery.kept {
            receipt.settle();
        }
    }
}
