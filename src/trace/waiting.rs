//! What the spool knows of an event: deliveries that are not ended, and which dead letters are still stored.

use std::path::{Path, PathBuf};

use super::assemble::RecordedEvent;
use super::model::{DeliveryState, TracedDelivery};
use crate::delivery::{Ordering, PersistedState, group, group_key, key_of};
use crate::rules::{Field, SinkName};
use crate::spool::{
    BacklogSummary, DeadLetterFilter, DeadLetters, ListedDelivery, SpoolError, deliveries_of_event, read_backlogs,
};

pub(super) struct SpoolLookup {
    path: PathBuf,
    /// Each with the state of its sink.
    backlogs: Vec<(BacklogSummary, PersistedState)>,
    dead_letters: DeadLetters,
}

impl SpoolLookup {
    /// A spool in which nothing was ever stored is no error.
    pub(super) fn open(path: &Path) -> Result<Self, SpoolError> {
        let with_state = |backlog: BacklogSummary| {
            let state = PersistedState::parse(backlog.state.as_deref());
            (backlog, state)
        };
        Ok(Self {
            path: path.to_owned(),
            backlogs: read_backlogs(path)?.into_iter().map(with_state).collect(),
            dead_letters: DeadLetters::open_read_only(path)?,
        })
    }

    /// Adds the deliveries that the journal knows no end of, and notes which dead letters are still stored.
    pub(super) fn add(&self, event: &mut RecordedEvent) -> Result<(), SpoolError> {
        for (backlog, state) in &self.backlogs {
            let key = event.key_at(&SinkName::new(&backlog.sink), &state.order());
            for listed in deliveries_of_event(&self.path, &backlog.sink, key, event.traced.id)? {
                event.traced.deliveries.push(waiting(listed, backlog, state));
            }
        }
        self.add_dead_letters(event)?;
        for sink in &event.sinks {
            let is_known = event.traced.deliveries.iter().any(|delivery| delivery.sink.as_ref() == Some(sink));
            if !is_known {
                event.traced.deliveries.push(TracedDelivery::unknown(sink));
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

fn waiting(listed: ListedDelivery, backlog: &BacklogSummary, state: &PersistedState) -> TracedDelivery {
    let next = listed.due.zip(state.not_before()).map(|(due, not_before)| due.max(not_before));
    let delivery = listed.delivery.ok();
    let replayed = delivery.as_ref().is_some_and(|delivery| delivery.replayed);
    TracedDelivery {
        state: DeliveryState::Waiting,
        attempts: delivery.as_ref().map_or(0, |delivery| delivery.attempts),
        last_error: delivery.and_then(|delivery| delivery.last_error),
        next_attempt: next.map(|next| backlog.to_wall(next)),
        trouble: state.trouble(),
        replayed,
        ..TracedDelivery::of_sink(Some(backlog.sink.clone()))
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
