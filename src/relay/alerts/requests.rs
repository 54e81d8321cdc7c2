//! Requests that are accepted and then have no end.
//!
//! A request is watched from before the message that opens it is acknowledged until its end is on disk. Its time limit is counted by
//! [`MonotonicTime`], so that a wall clock that jumps makes no request overdue. `within: expires` is a date of REGARDS: it is compared with
//! the wall clock once, when the request is opened. A clock that is wrong at that moment makes this limit wrong by as much, later jumps
//! change nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Map, Value};

use super::notice::{Occurrence, PreparedAlert};
use super::sources::{SourceGate, SourceReading};
use super::{AlertTable, Alerts};
use crate::clock::{self, MonotonicTime, WallTime};
use crate::delivery::SinkQueue;
use crate::event::{AlertRequest, AlertStatus, Event, EventView, Message};
use crate::failpoints::Failpoint;
use crate::rules::{Alert, AlertName, Overdue};
use crate::source::{EntryId, Receipt};
use crate::spool::{DueKind, RequestEvent, RequestLosses, RequestState, RequestStep, Watch, WatchedRequest};

/// An end that comes before the event that opens its request is remembered for this time.
const REMEMBER_END: Duration = Duration::from_hours(24);
/// So many requests are raised or resolved at once.
const BATCH: usize = 256;

impl Alerts {
    /// Watches the request that the event opens, or ends it. The message is acknowledged only after that is on disk.
    pub(in crate::relay) fn on_event(&self, event: &Event, message: &Message, receipt: &Receipt) {
        let table = self.table.load();
        if !table.watches_requests {
            return;
        }
        if event.outcome.ends_request() {
            if Failpoint::IgnoreEnds.is_enabled() {
                return;
            }
            // An alert may have watched the request that doesn't watch such requests any more.
            let may_be_early = table.overdue().any(|(_, overdue, _)| overdue.may_watch(event));
            let forget = may_be_early.then(|| MonotonicTime::now().after(REMEMBER_END));
            self.spool.end_request(request_event(event), forget, share(receipt));
            return;
        }
        let watches = self.watches(&table, EventView::of(event, message));
        if !watches.is_empty() {
            self.spool.open_request(request_event(event), watches, share(receipt));
        }
    }

    fn watches(&self, table: &AlertTable, view: EventView<'_>) -> Vec<Watch> {
        let watch = |(alert, overdue, limit): (&Alert, &Overdue, &Arc<str>)| match overdue.opens(view) {
            Ok(false) => None,
            Ok(true) => {
                let due = due(overdue, view.event)?;
                Some(Watch { alert: alert.name.clone(), due, limit: Arc::clone(limit) })
            }
            Err(error) => {
                if let Some(suppressed) = self.expression_log.allow() {
                    tracing::warn!(
                        alert = %alert.name, %error, suppressed,
                        "the `if:` of an alert could not be evaluated; the alert doesn't watch the request of this event"
                    );
                }
                None
            }
        };
        table.overdue().filter_map(watch).collect()
    }
}

/// When the request is overdue; none: it has no date `expires`, and no other limit.
fn due(overdue: &Overdue, event: &Event) -> Option<MonotonicTime> {
    let now = MonotonicTime::now();
    let within = overdue.within.map(|within| now.after(within));
    let expires = event.expires.as_deref().filter(|_| overdue.at_expiry);
    let expires = expires.and_then(|date| date.parse::<jiff::Timestamp>().ok());
    let expiry = expires.map(|date| {
        let left = date.as_millisecond().saturating_sub(WallTime::now().0);
        now.after(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
    });
    within.into_iter().chain(expiry).min()
}

fn request_event(event: &Event) -> RequestEvent {
    let request = AlertRequest {
        tenant: Arc::clone(&event.tenant),
        correlation_id: event.correlation_id.clone(),
        product_id: event.product_id.clone(),
        session: event.session.clone(),
        expires: event.expires.clone(),
    };
    RequestEvent { request, status: event.status.to_owned(), received: WallTime::now() }
}

fn share(receipt: &Receipt) -> Receipt {
    if Failpoint::AcknowledgeBeforeTheRequest.is_enabled() {
        return Receipt::new(EntryId(0), tokio::sync::mpsc::unbounded_channel().0);
    }
    receipt.share()
}

/// Raises the alerts of overdue requests, and resolves those of requests that have ended since.
#[derive(Default)]
pub(super) struct Watcher {
    sources: SourceGate,
    /// The alerts whose requests are kept, as of the last upkeep.
    kept: Option<Vec<AlertName>>,
    /// Requests of an earlier boot are taken over.
    has_adopted: bool,
    /// What the log has told.
    losses: RequestLosses,
}

impl Watcher {
    pub(super) async fn update(&mut self, alerts: &Alerts, table: &AlertTable) {
        self.tidy(alerts, table).await;
        self.warn_of_losses(alerts);
        let snapshot = alerts.stats.snapshot();
        let own = table.sources.iter().filter_map(|source| snapshot.source(source));
        let sources: Vec<_> = own.map(|source| SourceReading::of(source)).collect();
        let kind = if self.sources.is_open(&sources, Instant::now()) { DueKind::All } else { DueKind::Ended };
        while alerts.spool.next_due_request().has_passed() {
            let Some(due) = alerts.spool.due_requests(kind, BATCH).await else { return };
            let is_full = due.requests.len() == BATCH;
            let done = join_all(due.requests.into_iter().map(|request| advance(alerts, table, request))).await;
            if !is_full || done.contains(&false) {
                return;
            }
        }
    }

    /// Forgets open requests of alerts that are no longer configured, lets the overdue ones be resolved, and takes over those of an earlier boot.
    async fn tidy(&mut self, alerts: &Alerts, table: &AlertTable) {
        let names: Vec<_> = table.overdue().map(|(alert, ..)| alert.name.clone()).collect();
        // Just after a boot the wall clock may not be corrected yet, and nothing of an earlier boot counts as overdue.
        let adopts = !self.has_adopted && clock::is_past_boot_grace();
        if self.kept.as_ref() == Some(&names) && !adopts {
            return;
        }
        if !alerts.spool.tidy_requests(&names, adopts).await {
            self.kept = Some(names);
            self.has_adopted |= adopts;
        }
    }

    fn warn_of_losses(&mut self, alerts: &Alerts) {
        let losses = alerts.spool.request_losses();
        if losses == self.losses {
            return;
        }
        let Some(suppressed) = alerts.limit_log.allow() else { return };
        let unwatched = losses.unwatched - self.losses.unwatched;
        if unwatched > 0 {
            tracing::warn!(
                suppressed,
                "{unwatched} requests are not watched, because the spool has as many as it can watch: no alert will report them as \
                 overdue; the metric `requests_unwatched_total` counts them; watch fewer requests with `overdue.when`, or for a shorter time"
            );
        }
        let early_ends = losses.early_ends - self.losses.early_ends;
        if early_ends > 0 {
            tracing::warn!(
                suppressed,
                "{early_ends} ends of requests that no alert watched were forgotten before their {} h were over, because others came later: \
                 if the event that opens such a request comes after all, the request will be reported as overdue; the metric \
                 `early_ends_forgotten_total` counts them; watch the requests of fewer tenants with `overdue.when`",
                REMEMBER_END.as_secs() / 3_600
            );
        }
        self.losses = losses;
    }
}

/// Does what is due about a request. False: it has to be done later.
async fn advance(alerts: &Alerts, table: &AlertTable, request: WatchedRequest) -> bool {
    let alert = table.alert(&request.alert).filter(|alert| alert.overdue().is_some());
    let (step, prepared) = match (request.state, alert) {
        (RequestState::Open, Some(alert)) => {
            let since = overdue_since(&request);
            (RequestStep::Raise { overdue: since }, Some(raised(&request, since, table.receivers(alert, None))))
        }
        (RequestState::Ended, alert) => {
            (RequestStep::Forget, Some(resolved(&request, alert.is_some(), table.remaining(&request.receivers))))
        }
        // Nobody gets an alert that is no longer configured, and an early end has been remembered for long enough.
        _ => (RequestStep::Forget, None),
    };
    let deliveries = prepared.as_ref().map(PreparedAlert::deliveries).unwrap_or_default();
    let stored = match alerts.spool.advance_request(&request, step, deliveries) {
        Ok(stored) => stored.await,
        Err(problem) => Err(problem),
    };
    match (stored, prepared) {
        (Ok(true), Some(prepared)) => prepared.on_stored(alerts),
        (Ok(_), _) => {}
        (Err(problem), _) => {
            if let Some(suppressed) = alerts.blocked_log.allow() {
                tracing::warn!(
                    alert = %request.alert, error = problem, suppressed,
                    "an overdue request could not be reported; the relay tries again each second"
                );
            }
            return false;
        }
    }
    true
}

/// The moment of the due time by the wall clock, as it is now.
fn overdue_since(request: &WatchedRequest) -> WallTime {
    let late = MonotonicTime::now().0.saturating_sub(request.due.0);
    WallTime::now().before(Duration::from_millis(u64::try_from(late).unwrap_or(0)))
}

fn raised(request: &WatchedRequest, since: WallTime, receivers: Vec<SinkQueue>) -> PreparedAlert {
    let RequestEvent { request: of, status, received } = &request.event;
    let AlertRequest { tenant, correlation_id, expires, .. } = of;
    let limit = within(&request.limit, expires.as_deref());
    let at = received.to_rfc3339();
    let sentence = format!("request {correlation_id} of {tenant} was {status} at {at} and has had no end {limit}");
    occurrence(request, since).prepare(AlertStatus::Raised, sentence, receivers)
}

fn resolved(request: &WatchedRequest, is_configured: bool, receivers: Vec<SinkQueue>) -> PreparedAlert {
    let RequestEvent { request: AlertRequest { tenant, correlation_id, .. }, status, received } = &request.event;
    let since = request.overdue.unwrap_or(*received);
    let sentence = if is_configured {
        format!("request {correlation_id} of {tenant} has ended: {status} at {}", received.to_rfc3339())
    } else {
        let alert = &request.alert;
        format!(
            "request {correlation_id} of {tenant} is no longer watched: the alert {alert} is no longer in the configuration"
        )
    };
    occurrence(request, since).prepare(AlertStatus::Resolved, sentence, receivers)
}

/// A time limit as it continues "has had no end".
pub(super) fn within(limit: &str, expires: Option<&str>) -> String {
    let part = |part: &str| match (part, expires) {
        (Overdue::EXPIRES, Some(date)) => Some(format!("by {date}")),
        // It has no such date, and was opened because of the other limit.
        (Overdue::EXPIRES, None) => None,
        (within, _) => Some(format!("within {within}")),
    };
    limit.split(Overdue::OR).filter_map(part).collect::<Vec<_>>().join(Overdue::OR)
}

fn occurrence(request: &WatchedRequest, since: WallTime) -> Occurrence {
    let RequestEvent { request: of, status, received } = &request.event;
    let details = [
        ("requestStatus", Value::from(status.as_str())),
        ("requestReceivedAt", Value::from(received.to_rfc3339())),
        ("within", Value::from(request.limit.as_str())),
    ];
    Occurrence {
        alert: request.alert.clone(),
        subject: subject(&of.tenant, &of.correlation_id),
        since,
        request: Some(of.clone()),
        details: Map::from_iter(details.map(|(name, value)| (name.to_owned(), value))),
    }
}

pub(super) fn subject(tenant: &str, correlation_id: &str) -> String {
    format!("request {tenant} {correlation_id}")
}
