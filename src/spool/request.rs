//! Requests that alerts watch, as they are handed to the spool and read from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::row_size::{RequestLengths, RowSize, field_size};
use crate::clock::{MonotonicTime, WallTime};
use crate::event::AlertRequest;
use crate::rules::{AlertName, SinkName};

/// How many requests the spool watches.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Each counted once for each of its alerts. Beyond it, the events of further requests are acknowledged all the same, and the requests
    /// are counted as unwatched.
    pub watched: u64,
    /// Ends that came before their requests were opened. Beyond it the oldest one is forgotten: it is the least likely to be needed.
    pub early_ends: u64,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { watched: 2_000_000, early_ends: 500_000 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub(super) i64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestState {
    /// It has no end yet.
    Open = 0,
    /// It has no end, and its alert is raised.
    Overdue = 1,
    /// It ended after its alert was raised.
    Ended = 2,
    /// It ended before the event that opens it came.
    EndedEarly = 3,
}

impl RequestState {
    pub(super) fn of_number(number: i64) -> Option<Self> {
        [Self::Open, Self::Overdue, Self::Ended, Self::EndedEarly].into_iter().find(|state| *state as i64 == number)
    }
}

/// The event that opens a request, or ends it.
#[derive(Debug, Clone)]
pub struct RequestEvent {
    pub request: AlertRequest,
    pub status: String,
    pub received: WallTime,
}

impl RequestEvent {
    pub(super) fn hash(&self) -> i64 {
        request_hash(&self.request.tenant, &self.request.correlation_id)
    }
}

/// An alert that watches a request.
#[derive(Debug, Clone)]
pub struct Watch {
    pub alert: AlertName,
    /// When the request is overdue.
    pub due: MonotonicTime,
    /// The time limit in words. It is stored with the request, because a reload may change that of the alert.
    pub limit: Arc<str>,
}

/// A request about which the relay has to do something.
#[derive(Debug, Clone)]
pub struct WatchedRequest {
    pub id: RequestId,
    pub alert: AlertName,
    pub state: RequestState,
    /// What opened it; of a request that has ended: with the status of the end, and when that was received.
    pub event: RequestEvent,
    pub due: MonotonicTime,
    /// The time limit in words, as of when it was opened.
    pub limit: String,
    /// Since when it is overdue.
    pub overdue: Option<WallTime>,
    /// The sinks that got RAISED.
    pub receivers: Vec<SinkName>,
}

/// Which due requests are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueKind {
    All,
    /// All but those that are still open: their ends may be unread.
    Ended,
}

#[derive(Debug)]
pub struct DueRequests {
    /// In the order of their due times.
    pub requests: Vec<WatchedRequest>,
    /// The due time of the first one that is not among them; [`DueKind::All`] only.
    pub next: Option<MonotonicTime>,
}

/// What becomes of a watched request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestStep {
    Raise {
        overdue: WallTime,
    },
    /// It is no longer watched.
    Forget,
}

/// How many requests one alert watches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCount {
    /// Without an end, and not overdue.
    pub open: u64,
    /// Without an end, and reported as overdue.
    pub overdue: u64,
}

/// How many requests are watched, by alert.
#[derive(Debug, Default)]
pub(super) struct RequestCounts {
    by_alert: BTreeMap<AlertName, RequestCount>,
    early_ends: u64,
    losses: RequestLosses,
}

/// What the limits have cost since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestLosses {
    pub unwatched: u64,
    /// Ends that were forgotten early.
    pub early_ends: u64,
}

impl RequestCounts {
    pub(super) fn recount(&mut self, counted: Vec<(AlertName, RequestState, u64)>) {
        self.by_alert.clear();
        self.early_ends = 0;
        for (alert, state, count) in counted {
            self.change(&alert, state, |known| *known = known.saturating_add(count));
        }
    }

    pub(super) fn add(&mut self, alert: &AlertName, state: RequestState) {
        self.change(alert, state, |count| *count += 1);
    }

    pub(super) fn remove(&mut self, alert: &AlertName, state: RequestState) {
        self.change(alert, state, |count| *count = count.saturating_sub(1));
    }

    /// A request that has ended is about to be removed, and is no longer counted.
    fn change(&mut self, alert: &AlertName, state: RequestState, change: impl FnOnce(&mut u64)) {
        match state {
            RequestState::Open => change(&mut self.by_alert.entry(alert.clone()).or_default().open),
            RequestState::Overdue => change(&mut self.by_alert.entry(alert.clone()).or_default().overdue),
            RequestState::EndedEarly => change(&mut self.early_ends),
            RequestState::Ended => {}
        }
    }

    pub(super) fn count_unwatched(&mut self, count: u64) {
        self.losses.unwatched = self.losses.unwatched.saturating_add(count);
    }

    /// The end is no longer remembered, because others came later.
    pub(super) fn forget_early_end(&mut self) {
        self.early_ends = self.early_ends.saturating_sub(1);
        self.losses.early_ends = self.losses.early_ends.saturating_add(1);
    }

    pub(super) fn losses(&self) -> RequestLosses {
        self.losses
    }

    pub(super) fn total(&self) -> u64 {
        self.by_alert.values().fold(0, |sum, count| sum + count.open + count.overdue)
    }

    pub(super) fn early_ends(&self) -> u64 {
        self.early_ends
    }

    pub(super) fn by_alert(&self) -> Vec<(AlertName, RequestCount)> {
        self.by_alert.iter().map(|(alert, count)| (alert.clone(), *count)).collect()
    }
}

/// The stored hash of a request. Its recipe never changes.
pub(super) fn request_hash(tenant: &str, correlation_id: &str) -> i64 {
    let mut hash = Xxh3::new();
    for part in [tenant, correlation_id] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.digest().cast_signed()
}

/// The names of sinks in a JSON array.
pub(super) fn sinks_of_json(json: &str) -> Vec<SinkName> {
    let names: Vec<String> = serde_json::from_str(json).unwrap_or_default();
    names.iter().map(|name| SinkName::new(name)).collect()
}

/// What a row takes in the file, in bytes.
pub(super) fn row_size(alert: &str, limit: &str, event: &RequestEvent) -> u64 {
    let AlertRequest { tenant, correlation_id, product_id, session, expires } = &event.request;
    let optional = [product_id, session, expires].map(|text| text.as_deref().unwrap_or_default());
    let texts = [alert, limit, &**tenant, correlation_id, &event.status].into_iter().chain(optional);
    let others = texts.map(|text| field_size(text.len())).sum();
    RowSize::of_request(RequestLengths { alert: alert.len(), others }).bytes()
}
