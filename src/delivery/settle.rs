//! Handles the end of each attempt: the delivery is settled, rescheduled, or becomes a dead letter, and the breaker is updated.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::breaker::IN_A_ROW;
use super::dispatcher::Dispatcher;
use super::lanes::Lane;
use super::retry::{backoff, limit_reached};
use super::stats::{AttemptResult, DeliveryResult};
use super::{Backing, Delivery, Failure, Payload};
use crate::clock::MonotonicTime;
use crate::event::Reason;
use crate::journal::DeliveryEnd;
use crate::sink::{AttemptId, Blame, Verdict};
use crate::spool::{DeadLetter, GroupTiming, RowId, SpooledDelivery};

/// The back-off after an attempt that failed because of the relay itself.
const OWN_BACKOFF: Duration = Duration::from_millis(100);

impl Dispatcher {
    pub(super) fn on_attempt_end(&mut self, id: AttemptId, verdict: Verdict) {
        let Some((lane, mut delivery)) = self.in_flight.remove(&id) else { return };
        self.stats.count_attempt_end();
        delivery.attempts = delivery.attempts.saturating_add(1);
        match verdict {
            Verdict::Delivered(confirmation) => {
                self.stats.count_attempt(AttemptResult::Delivered);
                delivery.count_delivered(&self.stats);
                self.record(&delivery, &DeliveryEnd::Delivered((&confirmation).into()));
                self.on_success();
                self.settle(lane, delivery);
                self.on_fit(lane);
            }
            Verdict::Refused { cause } => self.on_refused(id, lane, delivery, cause),
            Verdict::Unfit { detail } => self.on_misfit(id, lane, delivery, detail),
            Verdict::Retry { after, cause, blame } => self.on_retry(id, lane, delivery, after, cause, blame),
        }
    }

    pub(super) fn record(&self, delivery: &Delivery, end: &DeliveryEnd<'_>) {
        delivery.record(&self.journal, &self.settings.name, end);
    }

    /// A refused event becomes a dead letter only after several refusals, and only if the sink isn't at fault.
    fn on_refused(&mut self, id: AttemptId, lane: Lane, mut delivery: Delivery, error: String) {
        self.stats.count_failure(AttemptResult::Refused, &error);
        delivery.refusals = delivery.refusals.saturating_add(1);
        let was_open = self.breaker.is_open();
        if self.breaker.on_refusal(id, delivery.payload.event().id, &self.settings.retry, &error) {
            self.save_state();
        }
        if !was_open && self.breaker.is_open() {
            self.is_logged_as_unavailable = true;
            self.stats.set_failing(&error);
            tracing::warn!(
                sink = %self.settings.name, error,
                "sink refuses everything: {IN_A_ROW} different events in a row and none delivered; its breaker is open, deliveries \
                 are spooled and retried, and none becomes a dead letter by refusal until one is delivered; look at its \
                 secret, certificate and templates"
            );
        }
        let retry = &self.settings.retry;
        if delivery.refusals >= retry.refuse_after && !self.breaker.refuses_everything() {
            return self.dead_letter(lane, delivery, Reason::Refused, error);
        }
        if let Some(limit) = limit_reached(retry, delivery.attempts, delivery.received_at.elapsed()) {
            return self.dead_letter(lane, delivery, Reason::GaveUp, format!("{limit}: {error}"));
        }
        let backoff = backoff(retry, delivery.refusals);
        self.log_failure(&delivery, &error, Blame::Delivery);
        self.reschedule(lane, delivery, backoff, error);
    }

    fn on_success(&mut self) {
        self.stats.end_outage();
        if self.breaker.on_success() {
            self.misfits.forget();
            // Deliveries that waited for the breaker may be attempted at once.
            self.backlog.fetch_at(Instant::now());
            self.save_state();
        }
        if std::mem::take(&mut self.is_logged_as_unavailable) {
            tracing::info!(sink = %self.settings.name, "sink delivers again");
        }
    }

    fn on_retry(
        &mut self,
        id: AttemptId,
        lane: Lane,
        mut delivery: Delivery,
        after: Option<Duration>,
        error: String,
        blame: Blame,
    ) {
        if blame == Blame::Relay {
            // It says nothing about the destination.
            self.stats.count_attempt(AttemptResult::Retry);
        } else {
            self.stats.count_failure(AttemptResult::Retry, &error);
        }
        self.update_breaker(id, after, &error, blame);
        if blame == Blame::Relay {
            // The failure says nothing about the destination, so it doesn't count as an attempt.
            delivery.attempts -= 1;
            self.log_failure(&delivery, &error, blame);
            return self.reschedule(lane, delivery, after.unwrap_or(OWN_BACKOFF), error);
        }
        if let Some(limit) = limit_reached(&self.settings.retry, delivery.attempts, delivery.received_at.elapsed()) {
            self.dead_letter(lane, delivery, Reason::GaveUp, format!("{limit}: {error}"));
            return;
        }
        self.log_failure(&delivery, &error, blame);
        let backoff = if blame == Blame::Delivery || self.breaker.is_closed() {
            backoff(&self.settings.retry, delivery.attempts).max(after.unwrap_or_default())
        } else {
            // The breaker or the pause decides when the next attempt is made, and the order of the deliveries decides whose attempt it is.
            Duration::ZERO
        };
        self.reschedule(lane, delivery, backoff, error);
    }

    fn update_breaker(&mut self, id: AttemptId, after: Option<Duration>, error: &str, blame: Blame) {
        if matches!(blame, Blame::Sink | Blame::Gone) {
            self.stats.set_failing(error);
        }
        let has_changed = match blame {
            Blame::Relay => {
                self.breaker.on_attempt_end(id);
                false
            }
            Blame::Delivery => {
                self.breaker.on_answer(id);
                false
            }
            Blame::Sink => {
                let has_opened = self.breaker.on_failure(id, &self.settings.retry, error);
                if let Some(after) = after {
                    self.breaker.pause_for(after, error.to_owned());
                }
                has_opened || after.is_some()
            }
            Blame::Gone => {
                self.breaker.on_attempt_end(id);
                let is_new = self.breaker.pause().is_none_or(|pause| pause.until.is_some());
                self.breaker.pause_until_resumed(error.to_owned());
                if is_new {
                    tracing::error!(
                        sink = %self.settings.name, error,
                        "sink paused: its destination is gone; deliveries are spooled until somebody runs `regards-relay resume`"
                    );
                }
                is_new
            }
        };
        if has_changed {
            self.save_state();
        }
    }

    /// Makes a failed delivery due again after `backoff`. Until then it is in the spool if that has room.
    pub(super) fn reschedule(&mut self, lane: Lane, mut delivery: Delivery, backoff: Duration, error: String) {
        match delivery.backing {
            Backing::Row(id) => {
                let (sink, due) = (self.settings.name.clone(), MonotonicTime::now().after(backoff));
                let refusals = (delivery.refusals > 0).then_some(delivery.refusals);
                self.spool.reschedule(id, sink, (delivery.attempts, refusals), due, error);
                self.backlog.reschedule(id, Instant::now() + backoff);
            }
            Backing::Digest => {
                let mut ids = delivery.payload.rows();
                let (sink, due) = (self.settings.name.clone(), MonotonicTime::now().after(backoff));
                let refusals = (delivery.refusals > 0).then_some(delivery.refusals);
                for id in &ids {
                    self.backlog.reschedule(*id, Instant::now() + backoff);
                }
                let others = ids.split_off(1.min(ids.len()));
                if let Some(first) = ids.pop() {
                    self.spool.reschedule_digest((first, others), sink, (delivery.attempts, refusals), due, error);
                }
            }
            Backing::Receipt(_) => {
                delivery.failure = Some(Failure { due: Instant::now() + backoff, error });
                self.spill_failed(lane, delivery);
            }
        }
    }

    pub(super) fn log_failure(&mut self, delivery: &Delivery, error: &str, blame: Blame) {
        let event = delivery.payload.event();
        let (event_id, tenant, correlation_id) = (event.id, &event.tenant, event.correlation_id.as_str());
        let (sink, attempt) = (&self.settings.name, delivery.attempts);
        let suppressed = match blame {
            Blame::Sink if !std::mem::replace(&mut self.is_logged_as_unavailable, true) => {
                tracing::warn!(
                    %sink, %event_id, %tenant, correlation_id, attempt, error,
                    "sink unavailable; deliveries are spooled and will be retried"
                );
                return;
            }
            Blame::Delivery => self.failure_log.allow(error),
            Blame::Sink | Blame::Relay | Blame::Gone => None,
        };
        if let Some(suppressed) = suppressed {
            tracing::warn!(
                %sink, %event_id, %tenant, correlation_id, attempt, error, suppressed,
                "a delivery failed; it will be retried"
            );
        } else {
            tracing::debug!(%sink, %event_id, %tenant, correlation_id, attempt, error, "an attempt failed");
        }
    }

    /// Ends a delivery that was delivered, or dropped as configured.
    pub(super) fn settle(&mut self, lane: Lane, delivery: Delivery) {
        match delivery.backing {
            Backing::Receipt(receipt) => {
                receipt.settle();
                self.lanes.release(lane);
            }
            Backing::Row(id) => {
                self.spool.complete(id, self.settings.name.clone());
                self.forget_row(lane, id);
            }
            Backing::Digest => {
                let ids = delivery.payload.rows();
                for id in &ids {
                    self.forget_row(lane, *id);
                }
                let next = self.group_timing().unwrap_or(GroupTiming::AT_ONCE);
                self.spool.complete_digest(ids, self.settings.name.clone(), next);
            }
        }
    }

    /// Makes a dead letter of a delivery that no retry can deliver. The message is settled once the dead letter is on disk; the lane
    /// continues before that.
    pub(super) fn dead_letter(&mut self, lane: Lane, delivery: Delivery, reason: Reason, detail: String) {
        if matches!(*delivery.payload, Payload::DeadLetterCopy { .. }) {
            return self.drop_copy(lane, delivery, &detail);
        }
        if matches!(*delivery.payload, Payload::Digest { .. }) {
            return self.dead_letter_digest(lane, &delivery.payload, delivery.attempts, (reason, &detail));
        }
        self.stats.count(DeliveryResult::DeadLetter);
        let Delivery { payload, route, backing, attempts, .. } = delivery;
        let Some(message) = payload.message() else { return };
        let event = payload.event();
        if let Some(suppressed) = self.dead_letter_log.allow() {
            tracing::warn!(
                sink = %self.settings.name, event_id = %event.id, tenant = %event.tenant,
                correlation_id = event.correlation_id, %reason, detail, suppressed, "a delivery became a dead letter"
            );
        }
        let letter = DeadLetter::of_event(event, Arc::clone(message), reason, detail);
        let letter = letter.for_sink(self.settings.name.clone(), route, attempts);
        match backing {
            Backing::Receipt(receipt) => {
                self.spool.store_dead_letter(letter, receipt);
                self.lanes.release(lane);
            }
            Backing::Row(id) => {
                self.spool.dead_letter(letter, id, self.settings.name.clone(), self.group_timing());
                self.pending_dead_letters.insert(id, lane);
            }
            // Only a digest has several rows.
            Backing::Digest => {}
        }
    }

    /// To be called if a dead letter is on disk, and its spooled delivery is deleted.
    pub(super) fn on_dead_letter_stored(&mut self, id: RowId, key: Option<u64>) {
        match (self.pending_dead_letters.remove(&id), key) {
            (Some(lane), _) => self.forget_row(lane, id),
            // An earlier dispatcher of this sink had taken it.
            (None, Some(key)) => {
                self.lanes.remove_spooled(self.lane_of_row(key));
                self.backlog.remove_untaken();
            }
            (None, None) => {}
        }
    }

    /// Drops the copy of a dead letter that can't be delivered. The dead letter itself stays.
    pub(super) fn drop_copy(&mut self, lane: Lane, delivery: Delivery, error: &str) {
        self.stats.count(DeliveryResult::Dropped);
        if let Some(suppressed) = self.dead_letter_log.allow() {
            let event = delivery.payload.event();
            tracing::warn!(
                sink = %self.settings.name, event_id = %event.id, tenant = %event.tenant, error, suppressed,
                "the copy of a dead letter can't be delivered and is dropped; the dead letter stays in the spool"
            );
        }
        self.settle(lane, delivery);
    }

    /// To be called if the spool had no room for the copy of a dead letter.
    pub(super) fn on_copy_rejected(&mut self, letter: i64) {
        self.stats.count(DeliveryResult::Dropped);
        if let Some(suppressed) = self.drop_log.allow() {
            tracing::warn!(
                sink = %self.settings.name, suppressed,
                "dead letter {letter} was not copied: the spool has no room for the copy; the dead letter stays in the spool"
            );
        }
    }

    /// Gives up deliveries that have waited too long behind an open breaker.
    pub(super) fn give_up_expired(&mut self) {
        let Some(age) = self.settings.retry.give_up_after else { return };
        for rows in self.backlog.take_expired(age) {
            let Some((_, first)) = rows.first() else { continue };
            let error = first.last_error.clone().unwrap_or_else(|| "the sink is unavailable".to_owned());
            let detail = format!("gave up {} s after receipt: {error}", age.as_secs());
            let lane = self.lane_of_row(first.key);
            if self.settings.group.is_some() {
                if let Some(digest) = self.assemble(lane, rows) {
                    self.dead_letter(lane, digest, Reason::GaveUp, detail);
                }
                continue;
            }
            for (id, row) in rows {
                match Delivery::from_spool(id, &row) {
                    Ok(delivery) => self.dead_letter(lane, delivery, Reason::GaveUp, detail.clone()),
                    Err(invalid) => self.dead_letter_row(lane, id, row, invalid.reason, invalid.detail),
                }
            }
        }
    }

    /// Makes a dead letter of a spooled delivery whose message can't be decoded any more, as after an upgrade.
    pub(super) fn dead_letter_row(
        &mut self,
        lane: Lane,
        id: RowId,
        row: SpooledDelivery,
        reason: Reason,
        detail: String,
    ) {
        self.stats.count(DeliveryResult::DeadLetter);
        tracing::error!(
            sink = %self.settings.name, event_id = %row.event_id, %reason, detail,
            "the message of a spooled delivery can't be decoded any more; the delivery became a dead letter"
        );
        let letter = DeadLetter {
            reason,
            detail,
            sink: Some(self.settings.name.clone()),
            tenant: Some(row.tenant.to_string()),
            status: None,
            correlation_id: None,
            event_id: Some(row.event_id),
            kind: Some(row.kind),
            route: row.route,
            attempts: row.attempts,
            message: row.message,
        };
        self.spool.dead_letter(letter, id, self.settings.name.clone(), self.group_timing());
        self.pending_dead_letters.insert(id, lane);
    }

    fn forget_row(&mut self, lane: Lane, id: RowId) {
        self.lanes.remove_spooled(lane);
        self.backlog.remove(id);
    }
}
