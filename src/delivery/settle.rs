//! What attempts come to: settled, tried later, or a dead letter; and what each says of the sink.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::breaker::REFUSED_IN_A_ROW;
use super::dispatcher::Dispatcher;
use super::lanes::Lane;
use super::retry::{back_off, limit_reached};
use super::stats::{AttemptResult, DeliveryResult};
use super::{Delivery, Failure, Kept};
use crate::clock::MonotonicTime;
use crate::event::Reason;
use crate::sink::{AttemptId, Blame, Verdict};
use crate::spool::{DeadLetter, RowId, Waiting};

/// Before an attempt that failed for a reason of the relay's own is made again.
const OWN_PAUSE: Duration = Duration::from_millis(100);

impl Dispatcher {
    /// The end of an attempt.
    pub(super) fn attempt_ended(&mut self, id: AttemptId, verdict: Verdict) {
        let Some((lane, mut delivery)) = self.under_way.remove(&id) else { return };
        self.stats.attempt_ended();
        delivery.attempts = delivery.attempts.saturating_add(1);
        match verdict {
            Verdict::Delivered => {
                self.stats.count_attempt(AttemptResult::Delivered);
                self.stats.count_delivered(delivery.since.elapsed());
                self.is_well();
                self.settle(lane, delivery);
            }
            Verdict::Refused { cause } => self.refused(id, lane, delivery, cause),
            Verdict::Retry { after, cause, blame } => self.try_later(id, lane, delivery, after, cause, blame),
        }
    }

    /// It dies of that only once it was refused so often, and where the sink isn't at fault itself.
    fn refused(&mut self, id: AttemptId, lane: Lane, mut delivery: Delivery, cause: String) {
        self.stats.count_attempt(AttemptResult::Refused);
        delivery.refusals = delivery.refusals.saturating_add(1);
        let was_open = self.breaker.is_open();
        if self.breaker.refused(id, delivery.received.event.id, &self.settings.retry, &cause) {
            self.remember();
        }
        if !was_open && self.breaker.is_open() {
            self.troubled = true;
            tracing::warn!(
                sink = %self.settings.name, cause,
                "sink refuses everything: {REFUSED_IN_A_ROW} different events in a row and none delivered; its breaker is open, deliveries \
                 are spooled and retried, and none becomes a dead letter by refusal until one is delivered; look at its \
                 secret, certificate and templates"
            );
        }
        let retry = &self.settings.retry;
        if delivery.refusals >= retry.refuse_after && !self.breaker.refuses_everything() {
            return self.bury(lane, delivery, Reason::Refused, cause);
        }
        if let Some(limit) = limit_reached(retry, delivery.attempts, delivery.since.elapsed()) {
            return self.bury(lane, delivery, Reason::GaveUp, format!("{limit}: {cause}"));
        }
        let pause = back_off(retry, delivery.refusals);
        self.notice_trouble(&delivery, &cause, Blame::Delivery);
        self.put_off(lane, delivery, pause, cause);
    }

    /// The sink took something.
    fn is_well(&mut self) {
        if self.breaker.succeeded() {
            // What waits because of it may go at once.
            self.backlog.look_at(Instant::now());
            self.remember();
        }
        if std::mem::take(&mut self.troubled) {
            tracing::info!(sink = %self.settings.name, "delivers again");
        }
    }

    fn try_later(
        &mut self,
        id: AttemptId,
        lane: Lane,
        mut delivery: Delivery,
        after: Option<Duration>,
        cause: String,
        blame: Blame,
    ) {
        self.stats.count_attempt(AttemptResult::Retry);
        if blame == Blame::Relay {
            // Nothing was learned of the destination: it doesn't count as an attempt.
            delivery.attempts -= 1;
            self.breaker.ended(id);
            self.notice_trouble(&delivery, &cause, blame);
            return self.put_off(lane, delivery, after.unwrap_or(OWN_PAUSE), cause);
        }
        self.learn(id, after, &cause, blame);
        if let Some(limit) = limit_reached(&self.settings.retry, delivery.attempts, delivery.since.elapsed()) {
            self.bury(lane, delivery, Reason::GaveUp, format!("{limit}: {cause}"));
            return;
        }
        self.notice_trouble(&delivery, &cause, blame);
        let pause = if blame == Blame::Delivery || self.breaker.is_closed() {
            back_off(&self.settings.retry, delivery.attempts).max(after.unwrap_or_default())
        } else {
            // The breaker or the pause says when, and which of those that wait comes next.
            Duration::ZERO
        };
        self.put_off(lane, delivery, pause, cause);
    }

    /// What a failed attempt says of the sink.
    fn learn(&mut self, id: AttemptId, after: Option<Duration>, cause: &str, blame: Blame) {
        let changed = match blame {
            Blame::Relay => {
                self.breaker.ended(id);
                false
            }
            Blame::Delivery => {
                self.breaker.answered(id);
                false
            }
            Blame::Sink => {
                let opened = self.breaker.failed(id, &self.settings.retry, cause);
                if let Some(after) = after {
                    self.breaker.pause_for(after, cause.to_owned());
                }
                opened || after.is_some()
            }
            Blame::Gone => {
                self.breaker.ended(id);
                let is_new = self.breaker.pause().is_none_or(|pause| pause.until.is_some());
                self.breaker.pause_until_resumed(cause.to_owned());
                if is_new {
                    tracing::error!(sink = %self.settings.name, cause, "paused: nothing more is sent to it until it is resumed");
                }
                is_new
            }
        };
        if changed {
            self.remember();
        }
    }

    /// A failed delivery is due again after `pause`; until then it is in the spool, if there is room.
    fn put_off(&mut self, lane: Lane, mut delivery: Delivery, pause: Duration, cause: String) {
        match delivery.kept {
            Kept::Row(id) => {
                let (sink, due) = (self.settings.name.clone(), MonotonicTime::now().after(pause));
                if delivery.refusals > 0 {
                    self.spool.reschedule_refused(id, sink, (delivery.attempts, delivery.refusals), due, cause);
                } else {
                    self.spool.reschedule(id, sink, delivery.attempts, due, cause);
                }
                self.backlog.again(id, Instant::now() + pause);
            }
            Kept::Message(_) => {
                delivery.failure = Some(Failure { due: Instant::now() + pause, cause });
                self.spill_failed(lane, delivery);
            }
        }
    }

    fn notice_trouble(&mut self, delivery: &Delivery, cause: &str, blame: Blame) {
        let event = &delivery.received.event;
        let (event_id, tenant, correlation_id) = (event.id, &event.tenant, event.correlation_id.as_str());
        let (sink, attempt) = (&self.settings.name, delivery.attempts);
        let left_out = match blame {
            Blame::Sink if !std::mem::replace(&mut self.troubled, true) => {
                tracing::warn!(
                    %sink, %event_id, %tenant, correlation_id, attempt, cause,
                    "does not deliver; what is for it waits, and is tried again"
                );
                return;
            }
            Blame::Delivery => self.failing.pass(cause),
            Blame::Sink | Blame::Relay | Blame::Gone => None,
        };
        if let Some(left_out) = left_out {
            tracing::warn!(
                %sink, %event_id, %tenant, correlation_id, attempt, cause, left_out,
                "a delivery failed; it waits, and is tried again"
            );
        } else {
            tracing::debug!(%sink, %event_id, %tenant, correlation_id, attempt, cause, "an attempt failed");
        }
    }

    /// It is delivered, or dropped on purpose.
    pub(super) fn settle(&mut self, lane: Lane, delivery: Delivery) {
        match delivery.kept {
            Kept::Message(receipt) => {
                receipt.settle();
                self.lanes.release(lane);
            }
            Kept::Row(id) => {
                self.spool.done(id, self.settings.name.clone());
                self.row_is_gone(lane, id);
            }
        }
    }

    /// No retry can deliver it: a dead letter, whose message is settled once that is on disk. It does not hold its lane.
    pub(super) fn bury(&mut self, lane: Lane, delivery: Delivery, reason: Reason, detail: String) {
        if delivery.received.event.is_dead_letter() {
            return self.drop_copy(lane, delivery, &detail);
        }
        self.stats.count(DeliveryResult::DeadLetter);
        let Delivery { received, route, kept, attempts, .. } = delivery;
        let event = &received.event;
        if let Some(left_out) = self.dead.pass() {
            tracing::warn!(
                sink = %self.settings.name, event_id = %event.id, tenant = %event.tenant,
                correlation_id = event.correlation_id, %reason, detail, left_out, "a delivery became a dead letter"
            );
        }
        let letter = DeadLetter::of_event(event, Arc::clone(&received.message), reason, detail);
        let letter = letter.for_sink(self.settings.name.clone(), route, attempts);
        match kept {
            Kept::Message(receipt) => {
                self.spool.store(letter, receipt);
                self.lanes.release(lane);
            }
            Kept::Row(id) => {
                self.spool.bury(letter, id, self.settings.name.clone());
                self.burying.insert(id, lane);
            }
        }
    }

    /// A dead letter is on disk in place of a delivery of the backlog.
    pub(super) fn buried(&mut self, id: RowId, key: Option<u64>) {
        match (self.burying.remove(&id), key) {
            (Some(lane), _) => self.row_is_gone(lane, id),
            // The dispatcher before this one had it in its hands.
            (None, Some(key)) => {
                self.lanes.remove_spooled(self.lane_of_row(key));
                self.backlog.gone_elsewhere();
            }
            (None, None) => {}
        }
    }

    /// A copy of a dead letter that isn't delivered is forgotten: the dead letter itself is kept.
    pub(super) fn drop_copy(&mut self, lane: Lane, delivery: Delivery, detail: &str) {
        self.stats.count(DeliveryResult::Dropped);
        if let Some(left_out) = self.dead.pass() {
            let event = &delivery.received.event;
            tracing::warn!(
                sink = %self.settings.name, event_id = %event.id, tenant = %event.tenant, detail, left_out,
                "a copy of a dead letter can't be delivered, and is forgotten; the dead letter is kept"
            );
        }
        self.settle(lane, delivery);
    }

    /// There was no room for a copy of a dead letter.
    pub(super) fn notice_not_copied(&mut self, letter: i64) {
        self.stats.count(DeliveryResult::Dropped);
        if let Some(left_out) = self.dropping.pass() {
            tracing::warn!(
                sink = %self.settings.name, letter, left_out,
                "a dead letter was not copied: the spool has no room for it; the dead letter is kept"
            );
        }
    }

    /// What has waited too long behind an open breaker is given up without another attempt.
    pub(super) fn give_up_old(&mut self) {
        let Some(age) = self.settings.retry.give_up_after else { return };
        for (id, waiting) in self.backlog.take_older(age) {
            let lane = self.lane_of_row(waiting.key);
            match Delivery::of_row(id, &waiting) {
                Ok(delivery) => {
                    let cause = waiting.cause.unwrap_or_else(|| "the sink does not deliver".to_owned());
                    let detail = format!("gave up {} s after receipt: {cause}", age.as_secs());
                    self.bury(lane, delivery, Reason::GaveUp, detail);
                }
                Err(invalid) => self.bury_row(lane, id, waiting, invalid.reason, invalid.detail),
            }
        }
    }

    /// What is in the spool and can't be read any more: no event, but its bytes.
    pub(super) fn bury_row(&mut self, lane: Lane, id: RowId, waiting: Waiting, reason: Reason, detail: String) {
        self.stats.count(DeliveryResult::DeadLetter);
        tracing::error!(sink = %self.settings.name, event_id = %waiting.event_id, %reason, detail, "a delivery can't be read any more");
        let letter = DeadLetter {
            reason,
            detail,
            sink: Some(self.settings.name.clone()),
            tenant: Some(waiting.tenant.to_string()),
            status: None,
            correlation_id: None,
            event_id: Some(waiting.event_id),
            kind: Some(waiting.kind),
            route: waiting.route,
            attempts: waiting.attempts,
            message: waiting.message,
        };
        self.spool.bury(letter, id, self.settings.name.clone());
        self.burying.insert(id, lane);
    }

    fn row_is_gone(&mut self, lane: Lane, id: RowId) {
        self.lanes.remove_spooled(lane);
        self.backlog.done(id);
    }
}
