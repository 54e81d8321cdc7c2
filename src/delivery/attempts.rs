//! Starts attempts: takes the next delivery from memory or from the spool, and renders it by the current configuration.

use super::dispatcher::Dispatcher;
use super::lanes::Lane;
use super::{Backing, Delivery, Payload};
use crate::event::{Reason, Transform};
use crate::rules::RouteName;
use crate::sink::{Attempt, AttemptId, RenderError, RenderedDelivery};

impl Dispatcher {
    pub(super) fn start_attempts(&mut self) {
        while self.in_flight.len() < self.capacity() && self.breaker.allows_attempt() && self.spool.has_lease() {
            let id = AttemptId(self.next_number());
            let Some((lane, mut delivery)) = self.next_delivery(id) else { return };
            if !matches!(delivery.backing, Backing::Receipt(_)) {
                delivery.place = self.misfits.place_of_taken();
            }
            match self.render(&delivery) {
                Ok(mut outgoing) => {
                    if delivery.replayed {
                        outgoing.mark_as_replayed();
                    }
                    self.in_flight.insert(id, (lane, delivery));
                    self.breaker.on_attempt_start(id);
                    self.stats.count_attempt_start();
                    self.sink.attempt(outgoing, Attempt::new(id, self.attempt_end_sender.clone()));
                }
                Err(RenderError { detail, is_misfit: true, .. }) => {
                    self.breaker.on_attempt_start(id);
                    delivery.attempts = delivery.attempts.saturating_add(1);
                    self.on_misfit(id, lane, delivery, detail);
                }
                Err(RenderError { reason, detail, .. }) => self.dead_letter(lane, delivery, reason, detail),
            }
        }
    }

    /// Renders by the current configuration, which may no longer have the route that chose the sink.
    fn render(&self, delivery: &Delivery) -> Result<RenderedDelivery, RenderError> {
        if let Payload::Digest { events, .. } = &*delivery.payload {
            return self.render_digest(events);
        }
        self.sink.render(delivery.payload.view(), self.transform_of(delivery.route.as_ref())?)
    }

    pub(super) fn transform_of(&self, route: Option<&RouteName>) -> Result<Option<&Transform>, RenderError> {
        let Some(name) = route else { return Ok(None) };
        let route = self.settings.rules.route(name).ok_or_else(|| RenderError {
            reason: Reason::RenderFailed,
            detail: format!(
                "its route {name} is no longer in the configuration, so its transform is unknown: add the route again, or redrive \
                 the dead letter `--to` a sink"
            ),
            is_misfit: false,
        })?;
        Ok(route.transform.as_ref())
    }

    /// No delivery is attempted that is not in the spool: it waits there for its group, or for what was spooled in other groups.
    pub(super) fn goes_through_spool(&self) -> bool {
        self.settings.group.is_some() || !self.backlog.boundaries.is_empty()
    }

    /// The next delivery that may be attempted: new and spooled ones take turns.
    fn next_delivery(&mut self, attempt: AttemptId) -> Option<(Lane, Delivery)> {
        if self.settings.group.is_some() {
            return self.next_digest();
        }
        if self.backlog.boundaries.is_empty() && (self.last_was_spooled || self.is_stopping()) {
            self.last_was_spooled = false;
            if let Some(next) = self.lanes.pop(attempt) {
                return Some(next);
            }
        }
        while !self.is_stopping()
            && let Some((id, row)) = self.backlog.pop()
        {
            let lane = self.lane_of_row(row.key);
            match Delivery::from_spool(id, &row) {
                Ok(delivery)
                    if matches!(*delivery.payload, Payload::DeadLetterCopy { .. })
                        && !self.settings.takes_dead_letters =>
                {
                    self.drop_copy(lane, delivery, "`dead_letters.to` no longer names this sink");
                }
                Ok(delivery) => {
                    self.last_was_spooled = true;
                    return Some((lane, delivery));
                }
                Err(invalid) => self.dead_letter_row(lane, id, row, invalid.reason, invalid.detail),
            }
        }
        if !self.backlog.boundaries.is_empty() {
            return None;
        }
        self.lanes.pop(attempt)
    }
}
