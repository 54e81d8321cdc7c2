//! Joins the records of a request: the events first, then the end of each of their deliveries, then what is not ended.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use uuid::Uuid;

use super::model::{DeliveryState, Request, Trace, TracedAlert, TracedAlertState, TracedDelivery, TracedEvent};
use super::waiting::SpoolLookup;
use super::{MAX_REQUESTS, Query, TraceError, unrecorded};
use crate::clock::WallTime;
use crate::config::Config;
use crate::event::Event;
use crate::journal::{DeliveryEnd, DeliveryRecord, EventRecord, JournalError, JournalReader, Record, RequestKey};
use crate::spool::{SpoolReader, WatchedBy};

/// Tenant and `correlationId`.
type RequestId = (String, String);

/// An event of the journal, and what it takes to look for it in the spool.
pub(super) struct RecordedEvent {
    pub(super) traced: TracedEvent,
    pub(super) tenant: String,
    pub(super) correlation_id: String,
    pub(super) product_id: Option<String>,
    pub(super) session: Option<String>,
    pub(super) kind: String,
    pub(super) sinks: Vec<String>,
}

pub(super) fn trace(
    config: Option<&Config>,
    reader: &JournalReader,
    spool: &SpoolReader,
    query: &Query,
) -> Result<Trace, TraceError> {
    let (requests, has_more) = matching_requests(reader, query)?;
    let mut events = if requests.is_empty() {
        unrecorded::events(spool, query)?
    } else {
        let mut events = events_of(reader, &requests)?;
        add_ends(reader, &requests, &mut events)?;
        events
    };
    SpoolLookup::open(spool, config)?.add_to(&mut events)?;
    let mut requests = by_request(events);
    for request in &mut requests {
        let watches = spool.watches(&request.tenant, &request.correlation_id)?;
        request.alerts.extend(watches.into_iter().map(TracedAlert::of));
    }
    Ok(Trace { requests, has_more, recorded_since: reader.oldest()?.map(WallTime) })
}

/// The requests in the order of their first events.
fn by_request(events: Vec<RecordedEvent>) -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::new();
    let mut places: HashMap<RequestId, usize> = HashMap::new();
    for RecordedEvent { tenant, correlation_id, product_id, traced, .. } in events {
        let place = *places.entry((tenant.clone(), correlation_id.clone())).or_insert(requests.len());
        if place == requests.len() {
            requests.push(Request { tenant, correlation_id, product_id: None, events: Vec::new(), alerts: Vec::new() });
        }
        if let Some(request) = requests.get_mut(place) {
            request.product_id = request.product_id.take().or(product_id);
            request.events.push(traced);
        }
    }
    requests
}

/// The requests that have the id, at most [`MAX_REQUESTS`], and whether there are more.
fn matching_requests(reader: &JournalReader, query: &Query) -> Result<(BTreeSet<RequestId>, bool), JournalError> {
    let uuid = Uuid::try_parse(&query.id).ok();
    let mut keys = vec![RequestKey::of_request(&query.id)];
    keys.extend(uuid.map(RequestKey::of_event_id));
    // With the time of the newest event of each.
    let mut found: HashMap<RequestId, i64> = HashMap::new();
    reader.find(&keys, |record| {
        let Record::Event(event) = record else { return };
        let is_asked = event.correlation_id == query.id
            || event.product_id == Some(&query.id)
            || uuid.is_some_and(|id| id.into_bytes() == event.id);
        if is_asked && query.tenant.as_deref().is_none_or(|tenant| tenant == event.tenant) {
            let newest = found.entry((event.tenant.to_owned(), event.correlation_id.to_owned())).or_default();
            *newest = event.received.max(*newest);
        }
    })?;
    let mut found: Vec<_> = found.into_iter().map(|(id, newest)| (newest, id)).collect();
    found.sort_unstable_by(|one, other| other.cmp(one));
    let has_more = found.len() > MAX_REQUESTS;
    Ok((found.into_iter().take(MAX_REQUESTS).map(|(_, id)| id).collect(), has_more))
}

fn keys(requests: &BTreeSet<RequestId>) -> Vec<RequestKey> {
    requests.iter().map(|(_, correlation_id)| RequestKey::of_request(correlation_id)).collect()
}

/// All events of these requests, in the order of receipt.
fn events_of(reader: &JournalReader, requests: &BTreeSet<RequestId>) -> Result<Vec<RecordedEvent>, JournalError> {
    let mut events: Vec<RecordedEvent> = Vec::new();
    reader.find(&keys(requests), |record| {
        let Record::Event(record) = record else { return };
        if !requests.contains(&(record.tenant.to_owned(), record.correlation_id.to_owned())) {
            return;
        }
        let id = Uuid::from_bytes(record.id);
        // A redelivered message is the one that was received before.
        let known = events.iter_mut().rev().find(|event| record.redelivered && event.traced.id == id);
        match known {
            Some(known) => known.traced.redelivered = true,
            None => events.push(recorded(id, &record)),
        }
    })?;
    Ok(events)
}

fn recorded(id: Uuid, record: &EventRecord<'_>) -> RecordedEvent {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    RecordedEvent {
        traced: TracedEvent {
            id,
            status: record.status.to_owned(),
            outcome: record.outcome.to_owned(),
            source: record.source.to_owned(),
            received_at: WallTime(record.received),
            redelivered: record.redelivered,
            is_test: record.is_test,
            message: message_text(record),
            routes: owned(&record.routes),
            deliveries: Vec::new(),
        },
        tenant: record.tenant.to_owned(),
        correlation_id: record.correlation_id.to_owned(),
        product_id: record.product_id.map(str::to_owned),
        session: record.session.map(str::to_owned),
        kind: record.kind.to_owned(),
        sinks: owned(&record.sinks),
    }
}

/// REGARDS' own text in the message.
fn message_text(record: &EventRecord<'_>) -> Option<String> {
    let message = record.message.as_ref()?.to_message(record.source, record.redelivered).ok()?;
    Event::decode_as(&message, record.kind, &record.tenant.into()).ok()?.message
}

/// Adds the end of each delivery to its event.
fn add_ends(
    reader: &JournalReader,
    requests: &BTreeSet<RequestId>,
    events: &mut [RecordedEvent],
) -> Result<(), JournalError> {
    reader.find(&keys(requests), |record| {
        let Record::Delivery(delivery) = record else { return };
        let id = Uuid::from_bytes(delivery.event);
        let has_end =
            |event: &RecordedEvent| event.traced.deliveries.iter().any(|known| known.sink.as_deref() == delivery.sink);
        // Equal messages are events with one id: the ends are theirs in turn.
        let free = events.iter().position(|event| event.traced.id == id && !has_end(event));
        let place = free.or_else(|| events.iter().rposition(|event| event.traced.id == id));
        if let Some(event) = place.and_then(|place| events.get_mut(place)) {
            event.traced.deliveries.push(ended(&delivery));
        }
    })
}

impl TracedAlert {
    fn of(watch: WatchedBy) -> Self {
        let state = if watch.is_overdue { TracedAlertState::Overdue } else { TracedAlertState::Open };
        Self { name: watch.alert, state, at: watch.at }
    }
}

fn ended(record: &DeliveryRecord<'_>) -> TracedDelivery {
    let mut delivery = TracedDelivery {
        state: DeliveryState::Dropped,
        attempts: record.attempts,
        at: Some(WallTime(record.at)),
        replayed: record.replayed,
        duration: record.duration.map(|duration| Duration::from_millis(duration).as_secs_f64()),
        last_error: record.last_error.map(str::to_owned),
        ..TracedDelivery::of_sink(record.sink.map(str::to_owned))
    };
    match &record.end {
        DeliveryEnd::Delivered(destination) => {
            delivery.state = DeliveryState::Delivered;
            delivery.to = Some(destination.clone().into());
        }
        DeliveryEnd::DeadLetter { number, reason, detail } => {
            delivery.state = DeliveryState::DeadLetter;
            delivery.dead_letter = Some(*number);
            delivery.last_error = Some(format!("{reason}: {detail}"));
        }
        DeliveryEnd::Dropped => {}
        DeliveryEnd::Failed { error } => {
            delivery.state = DeliveryState::Failed;
            delivery.last_error = Some((*error).to_owned());
        }
    }
    delivery
}
