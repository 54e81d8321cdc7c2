//! What the spool knows of an event: deliveries that are not ended, and which dead letters are still stored.

use super::assemble::RecordedEvent;
use super::model::{DeliveryState, TracedDelivery};
use crate::config::Config;
use crate::delivery::{Ordering, PersistedState, group, group_key, key_of};
use crate::rules::{Field, SinkName};
use crate::spool::{BacklogSummary, DeadLetterFilter, DeadLetters, ListedDelivery, SpoolError, SpoolReader};

pub(super) struct SpoolLookup {
    spool: SpoolReader,
    backlogs: Vec<Backlog>,
    dead_letters: DeadLetters,
}

/// The backlog of a sink.
struct Backlog {
    summary: BacklogSummary,
    state: PersistedState,
    /// `group` or `order_by` has changed: some of its deliveries have other ordering keys than the state says.
    has_other_keys: bool,
}

impl Backlog {
    fn of(summary: BacklogSummary, config: Option<&Config>) -> Self {
        let state = PersistedState::parse(summary.state.as_deref());
        let sink = config.and_then(|config| config.sinks.iter().find(|sink| sink.name.as_str() == summary.sink));
        // Redriven and replayed deliveries have the keys of the configuration.
        let is_changed = sink.is_some_and(|sink| Ordering::of(sink) != state.order());
        Self { has_other_keys: is_changed || !state.boundaries.is_empty(), summary, state }
    }
}

impl SpoolLookup {
    /// A spool in which nothing was ever stored is no error.
    pub(super) fn open(spool: &SpoolReader, config: Option<&Config>) -> Result<Self, SpoolError> {
        Ok(Self {
            spool: spool.clone(),
            backlogs: spool.backlogs()?.into_iter().map(|summary| Backlog::of(summary, config)).collect(),
            dead_letters: spool.dead_letters()?,
        })
    }

    /// Adds the deliveries that the journal knows no end of, and notes which dead letters are still stored.
    pub(super) fn add_to(&self, events: &mut [RecordedEvent]) -> Result<(), SpoolError> {
        for backlog in &self.backlogs {
            self.add_waiting(backlog, events)?;
        }
        for event in events {
            self.add_dead_letters(event)?;
            for sink in &event.sinks {
                let is_known = event.traced.deliveries.iter().any(|delivery| delivery.sink.as_ref() == Some(sink));
                if !is_known {
                    event.traced.deliveries.push(TracedDelivery::unknown(sink));
                }
            }
        }
        Ok(())
    }

    fn add_waiting(&self, backlog: &Backlog, events: &mut [RecordedEvent]) -> Result<(), SpoolError> {
        let sink = &backlog.summary.sink;
        if !backlog.has_other_keys {
            for event in events {
                let key = event.key_at(&SinkName::new(sink), &backlog.state.order());
                for listed in self.spool.deliveries_of_event(sink, key, event.traced.id)? {
                    event.traced.deliveries.push(waiting(listed, backlog));
                }
            }
            return Ok(());
        }
        // Reads the index of all its deliveries, once.
        let ids = events.iter().map(|event| event.traced.id).collect();
        for (id, listed) in self.spool.deliveries_of_events(sink, &ids)? {
            // Equal messages are events with one id: the deliveries are theirs in turn.
            let has_one =
                |event: &RecordedEvent| event.traced.deliveries.iter().any(|one| one.sink.as_ref() == Some(sink));
            let free = events.iter().position(|event| event.traced.id == id && !has_one(event));
            let place = free.or_else(|| events.iter().rposition(|event| event.traced.id == id));
            if let Some(event) = place.and_then(|place| events.get_mut(place)) {
                event.traced.deliveries.push(waiting(listed, backlog));
            }
        }
        Ok(())
    }

    fn add_dead_letters(&self, event: &mut RecordedEvent) -> Result<(), SpoolError> {
        let filter = DeadLetterFilter {
            correlation_id: Some(event.correlation_id.clone()),
            tenant: Some(event.tenant.clone()),
            oldest_first: true,
            ..DeadLetterFilter::default()
        };
        self.dead_letters.list(&filter, |letter| -> Result<(), SpoolError> {
            if letter.event_id != Some(event.traced.id) {
                return Ok(());
            }
            let recorded = event.traced.deliveries.iter_mut().find(|delivery| delivery.dead_letter == Some(letter.id));
            match recorded {
                Some(recorded) => recorded.is_stored = true,
                None => event.traced.deliveries.push(TracedDelivery {
                    state: DeliveryState::DeadLetter,
                    attempts: letter.attempts,
                    at: Some(letter.at),
                    last_error: Some(format!("{}: {}", letter.reason, letter.detail)),
                    dead_letter: Some(letter.id),
                    is_stored: true,
                    ..TracedDelivery::of_sink(letter.sink)
                }),
            }
            Ok(())
        })
    }
}

impl RecordedEvent {
    fn key_at(&self, sink: &SinkName, order: &Ordering) -> u64 {
        let (product_id, session) = (self.product_id.as_deref(), self.session.as_deref());
        let Some(by) = &order.group_by else {
            let parts = (self.correlation_id.as_str(), product_id, session);
            return key_of(sink, order.order_by, self.traced.id, &self.tenant, parts);
        };
        let value = |field| match field {
            Field::Tenant => Some(self.tenant.as_str()),
            Field::Status => Some(self.traced.status.as_str()),
            Field::Outcome => Some(self.traced.outcome.as_str()),
            Field::Type => Some(self.kind.as_str()),
            Field::Source => Some(self.traced.source.as_str()),
            Field::Session => session,
            Field::ProductId => product_id,
            Field::CorrelationId => Some(self.correlation_id.as_str()),
        };
        group_key(sink, &group(by, value))
    }
}

fn waiting(listed: ListedDelivery, Backlog { summary, state, .. }: &Backlog) -> TracedDelivery {
    let next = listed.due.zip(state.not_before()).map(|(due, not_before)| due.max(not_before));
    let delivery = listed.delivery.ok();
    let replayed = delivery.as_ref().is_some_and(|delivery| delivery.replayed);
    TracedDelivery {
        state: DeliveryState::Waiting,
        attempts: delivery.as_ref().map_or(0, |delivery| delivery.attempts),
        last_error: delivery.and_then(|delivery| delivery.last_error),
        next_attempt: next.map(|next| summary.to_wall(next)),
        trouble: state.trouble(),
        replayed,
        ..TracedDelivery::of_sink(Some(summary.sink.clone()))
    }
}

impl TracedDelivery {
    pub(super) fn of_sink(sink: Option<String>) -> Self {
        Self {
            sink,
            state: DeliveryState::Unknown,
            attempts: 0,
            at: None,
            duration: None,
            to: None,
            last_error: None,
            next_attempt: None,
            dead_letter: None,
            replayed: false,
            is_stored: false,
            trouble: None,
        }
    }

    fn unknown(sink: &str) -> Self {
        Self::of_sink(Some(sink.to_owned()))
    }
}
