//! Digests: several events that are delivered together, because their sink has `group`.
//!
//! All deliveries of such a sink go through the spool. It waits with them until their group is due, and stores what belongs to a digest before
//! that is attempted: the same events come again, under the same id, after each failure and restart.

use std::sync::Arc;
use std::time::Instant;

use super::dispatcher::Dispatcher;
use super::lanes::Lane;
use super::ordering::Ordering;
use super::stats::DeliveryResult;
use super::{Backing, Delivery, Failure, Payload};
use crate::clock::MonotonicTime;
use crate::event::{DigestEnvelope, Event, EventView, Message, Reason};
use crate::rules::RouteName;
use crate::sink::{RenderError, RenderedDelivery};
use crate::spool::{DeadLetter, DigestLimit, DueDeliveries, GroupTiming, Groups, RowId, SpooledDelivery, WaitsFor};

/// The events of a digest have at most so many bytes in the spool, so that Kafka and most receivers accept it with their default limits
/// of 1 MB. A larger event is a digest of its own.
const MAX_DIGEST_BYTES: u64 = 1_000_000;

/// One event of a digest.
#[derive(Debug)]
pub struct DigestEvent {
    pub event: Event,
    /// As received.
    pub message: Arc<Message>,
    /// The route that chose the sink. None: `unrouted:` names the sink.
    pub route: Option<RouteName>,
    /// When its message was received.
    pub received_at: Instant,
    /// It was sent before and is sent again on request.
    pub replayed: bool,
    /// In the spool.
    pub row: RowId,
}

impl Dispatcher {
    /// When the next digest of a group is due; none: the sink has no `group`.
    pub(super) fn group_timing(&self) -> Option<GroupTiming> {
        let limit = self.digest_limit()?;
        let wait = self.settings.group.as_ref()?.wait;
        Some(GroupTiming { wait, limit, at_once_up_to: self.backlog.boundaries.back().copied() })
    }

    /// The limits of a digest; none: the sink has no `group`.
    fn digest_limit(&self) -> Option<DigestLimit> {
        let group = self.settings.group.as_ref()?;
        Some(DigestLimit { count: group.max, bytes: MAX_DIGEST_BYTES })
    }

    /// `wait` and `max` may have changed: groups that wait are due by the new ones.
    pub(super) fn apply_group_timing(&mut self) {
        self.backlog.digests = self.digest_limit();
        if let Some(GroupTiming { wait, limit, .. }) = self.group_timing() {
            let sink = &self.settings.name;
            self.spool.make_due(sink.clone(), WaitsFor::Group, MonotonicTime::now().after(wait));
            self.spool.make_full_groups_due(sink.clone(), Groups::All, limit);
            self.backlog.fetch_at(Instant::now());
        }
    }

    /// Makes the groups due that are full with the events of this round. Only the spool knows how many they have.
    pub(super) fn check_grown_groups(&mut self) {
        let grown = std::mem::take(&mut self.grown_groups);
        if let Some(limit) = self.digest_limit().filter(|_| !grown.is_empty()) {
            let groups = Groups::Of(grown.into_iter().collect());
            self.spool.make_full_groups_due(self.settings.name.clone(), groups, limit);
        }
    }

    /// Due deliveries were fetched.
    pub(super) fn on_due(&mut self, due: DueDeliveries) {
        if self.backlog.end_outdated_fetch() {
            let ids = due.rows.iter().map(|(id, _)| *id).collect();
            return self.spool.give_back(self.settings.name.clone(), ids);
        }
        let has_none = self.backlog.on_due(due);
        if has_none && self.backlog.boundaries.pop_front().is_some() {
            self.backlog.fetch_at(Instant::now());
            self.save_state();
        }
    }

    /// Another `group` is configured. What is spooled is delivered first: new deliveries wait until it is gone.
    pub(super) fn change_grouping(&mut self, order: Ordering) {
        self.spill_everything();
        self.order = order;
        if self.order.is_none() {
            self.lanes.forget_spooled();
        }
        // They may be digests, and are to be single deliveries now, or the other way round.
        let ids = self.backlog.give_back();
        if !ids.is_empty() {
            self.spool.give_back(self.settings.name.clone(), ids);
        }
        if self.backlog.count > 0 {
            self.spool.make_due(self.settings.name.clone(), WaitsFor::Anything, MonotonicTime::now());
            self.backlog.add_boundary(self.spool.last_row());
            self.backlog.fetch_at(Instant::now());
        }
    }

    /// The next digest that may be attempted.
    pub(super) fn next_digest(&mut self) -> Option<(Lane, Delivery)> {
        while !self.is_stopping() {
            let rows = self.backlog.pop_digest();
            let lane = self.lane_of_row(rows.first()?.1.key);
            if let Some(delivery) = self.assemble(lane, rows) {
                return Some((lane, delivery));
            }
        }
        None
    }

    /// Makes one delivery of the rows of a digest. An event that can't be a part of one becomes a dead letter, the others go on.
    pub(super) fn assemble(&mut self, lane: Lane, rows: Vec<(RowId, SpooledDelivery)>) -> Option<Delivery> {
        let first = rows.first().map(|(_, row)| (row.attempts, row.refusals, row.last_error.clone()))?;
        let mut events = Vec::with_capacity(rows.len());
        for (id, row) in rows {
            let payload = match Payload::from_spool(&row) {
                Ok(payload) => payload,
                Err(invalid) => {
                    self.dead_letter_row(lane, id, row, invalid.reason, invalid.detail);
                    continue;
                }
            };
            let problem = self.transform(row.route.as_ref(), payload.view()).err();
            match (payload, problem) {
                (Payload::Event { event, message }, None) => {
                    let (received_at, replayed) = (received_at(&row), row.replayed);
                    events.push(DigestEvent { event, message, route: row.route, received_at, replayed, row: id });
                }
                (payload @ Payload::Event { .. }, Some(RenderError { reason, detail, .. })) => {
                    self.dead_letter(lane, Delivery::of_row(id, &row, payload), reason, detail);
                }
                (payload, _) => {
                    let delivery = Delivery::of_row(id, &row, payload);
                    self.drop_copy(lane, delivery, "`dead_letters.to` no longer names this sink");
                }
            }
        }
        self.digest_of(events, first)
    }

    fn digest_of(
        &self,
        events: Vec<DigestEvent>,
        (attempts, refusals, last_error): (u32, u32, Option<String>),
    ) -> Option<Delivery> {
        let received_at = events.first()?.received_at;
        let replayed = events.iter().any(|event| event.replayed);
        let by: Vec<&str> = self.settings.order.group_by.iter().flatten().map(|field| field.as_str()).collect();
        let views: Vec<_> = events.iter().map(|event| EventView::of(&event.event, &event.message)).collect();
        let envelope = DigestEnvelope::of(&views, &by)?;
        drop(views);
        Some(Delivery {
            payload: Arc::new(Payload::Digest { envelope: Box::new(envelope), events }),
            route: None,
            backing: Backing::Digest,
            received_at,
            attempts,
            refusals,
            failure: last_error.map(Failure::of_row),
            replayed,
            place: 0,
            attempt_guard: None,
        })
    }

    /// Tries the transform of the route.
    fn transform(&self, route: Option<&RouteName>, view: EventView<'_>) -> Result<(), RenderError> {
        match self.transform_of(route)? {
            Some(transform) => transform.apply(view).map(drop).map_err(RenderError::from),
            None => Ok(()),
        }
    }

    pub(super) fn render_digest(&self, events: &[DigestEvent]) -> Result<RenderedDelivery, RenderError> {
        let events: Vec<_> = events
            .iter()
            .map(|event| {
                let transform = self.transform_of(event.route.as_ref())?;
                Ok((EventView::of(&event.event, &event.message), transform))
            })
            .collect::<Result<_, RenderError>>()?;
        self.sink.render_digest(&events)
    }

    /// Makes a dead letter of each event of a digest.
    pub(super) fn dead_letter_digest(
        &mut self,
        lane: Lane,
        payload: &Payload,
        attempts: u32,
        (reason, detail): (Reason, &str),
    ) {
        let Payload::Digest { envelope, events } = payload else { return };
        if let Some(suppressed) = self.dead_letter_log.allow() {
            let (digest, count) = (envelope.event(), events.len());
            tracing::warn!(
                sink = %self.settings.name, event_id = %digest.id, tenant = %digest.tenant, %reason, detail, suppressed,
                "a digest was not delivered: each of its {count} events became a dead letter"
            );
        }
        let sink = &self.settings.name;
        let letter = |DigestEvent { event, message, route, row, .. }: &DigestEvent| {
            self.stats.count(DeliveryResult::DeadLetter);
            self.pending_dead_letters.insert(*row, lane);
            let letter = DeadLetter::of_event(event, Arc::clone(message), reason, detail);
            (*row, letter.for_sink(sink.clone(), route.clone(), attempts))
        };
        // In one transaction: the rest would come again as another digest.
        let letters = events.iter().map(letter).collect();
        self.spool.dead_letter_all(letters, sink.clone(), self.group_timing());
    }
}

/// Just after a boot there may be no such instant.
pub(super) fn received_at(row: &SpooledDelivery) -> Instant {
    Instant::now().checked_sub(row.received.age()).unwrap_or_else(Instant::now)
}
