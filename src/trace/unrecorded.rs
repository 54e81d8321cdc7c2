//! Events that the journal does not have, because they are older than it or were left out: those that wait in the spool or are dead
//! letters.

use std::ops::ControlFlow;

use uuid::Uuid;

use super::Query;
use super::assemble::RecordedEvent;
use super::model::TracedEvent;
use crate::clock::WallTime;
use crate::delivery::Payload;
use crate::event::Event;
use crate::spool::{DeadLetterFilter, DeliveryFilter, SpoolError, SpoolReader};

/// More events than this are not looked for.
const MAX_EVENTS: usize = 1_000;

/// The events that have the id. Reads the whole spool.
pub(super) fn events(spool: &SpoolReader, query: &Query) -> Result<Vec<RecordedEvent>, SpoolError> {
    let mut found: Vec<RecordedEvent> = Vec::new();
    let mut add = |event: &Event, received: WallTime| {
        let is_new = found.iter().all(|known| known.traced.id != event.id);
        if is_new && is_asked(event, query) {
            found.push(unrecorded(event, received));
        }
        found.len() < MAX_EVENTS
    };
    let filter = DeliveryFilter { may_contain: body_text(query), ..DeliveryFilter::default() };
    spool.list_deliveries(&filter, |listed| {
        let Ok(delivery) = listed.delivery else { return ControlFlow::Continue(()) };
        match Payload::from_spool(&delivery) {
            Ok(Payload::Event { event, .. }) if !add(&event, delivery.received.wall) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    })?;
    let letters = spool.dead_letters()?;
    let filter = DeadLetterFilter {
        correlation_id: Some(query.id.clone()),
        tenant: query.tenant.clone(),
        oldest_first: true,
        limit: Some(MAX_EVENTS as u64),
        ..DeadLetterFilter::default()
    };
    letters.list(&filter, |letter| -> Result<(), SpoolError> {
        let Some(stored) = letters.show(letter.id)? else { return Ok(()) };
        if let (Some(kind), Some(tenant)) = (&stored.kind, &stored.summary.tenant)
            && let Ok(event) = Event::decode_as(&stored.message, kind, &tenant.as_str().into())
        {
            add(&event, letter.at);
        }
        Ok(())
    })?;
    found.sort_by_key(|event| event.traced.received_at);
    Ok(found)
}

/// What the bodies of such events have in them; none: the id of an event, which is in no body.
fn body_text(query: &Query) -> Option<String> {
    Uuid::try_parse(&query.id).is_err().then(|| query.id.clone())
}

fn is_asked(event: &Event, query: &Query) -> bool {
    let is_its_id = event.correlation_id == query.id
        || event.product_id.as_ref() == Some(&query.id)
        || Uuid::try_parse(&query.id).is_ok_and(|id| id == event.id);
    is_its_id && query.tenant.as_deref().is_none_or(|tenant| tenant == &*event.tenant)
}

fn unrecorded(event: &Event, received: WallTime) -> RecordedEvent {
    RecordedEvent {
        traced: TracedEvent {
            id: event.id,
            status: event.status.to_owned(),
            outcome: event.outcome.as_str().to_owned(),
            source: event.source.to_string(),
            received_at: received,
            redelivered: false,
            is_test: false,
            message: event.message.clone(),
            routes: Vec::new(),
            deliveries: Vec::new(),
        },
        tenant: event.tenant.to_string(),
        correlation_id: event.correlation_id.clone(),
        product_id: event.product_id.clone(),
        session: event.session.clone(),
        kind: event.kind.to_owned(),
        sinks: Vec::new(),
    }
}
