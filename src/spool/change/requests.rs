//! What the changes of watched requests and raised alerts do in the file.

use tokio::sync::oneshot;

use super::Step;
use super::steps::settle_added;
use crate::clock::MonotonicTime;
use crate::rules::AlertName;
use crate::source::Receipt;
use crate::spool::Shared;
use crate::spool::delivery::DeliveryRow;
use crate::spool::outcome::{EndOutcome, InsertOutcome};
use crate::spool::request::{
    DueKind, DueRequests, RequestEvent, RequestId, RequestState, RequestStep, Watch, row_size,
};
use crate::spool::writer_state::WriterState;

/// Watches a request from now on. Once that is on disk, the message that opens it can be acknowledged.
#[derive(Debug)]
pub(in crate::spool) struct OpenRequest {
    pub(in crate::spool) event: Box<RequestEvent>,
    pub(in crate::spool) watches: Vec<Watch>,
    pub(in crate::spool) receipt: Receipt,
}

#[derive(Debug)]
pub(in crate::spool) struct OpenOutcome {
    /// By which of the watches it is watched from now on.
    pub(in crate::spool) opened: Vec<bool>,
    pub(in crate::spool) unwatched: u64,
}

impl OpenRequest {
    pub(super) fn size(&self) -> u64 {
        self.watches.iter().map(|watch| row_size(watch.alert.as_str(), &watch.limit, &self.event)).sum()
    }
}

impl Step for OpenRequest {
    type Outcome = OpenOutcome;

    fn settle(self, outcome: Self::Outcome, _: &mut WriterState, shared: &Shared) {
        let mut counts = shared.request_counts();
        counts.count_unwatched(outcome.unwatched);
        for (watch, _) in self.watches.iter().zip(outcome.opened).filter(|(_, opened)| *opened) {
            counts.add(&watch.alert, RequestState::Open);
            shared.request_due(watch.due);
        }
        drop(counts);
        self.receipt.settle();
    }
}

/// Ends a request. Once that is on disk, the message that ends it can be acknowledged.
#[derive(Debug)]
pub(in crate::spool) struct EndRequest {
    pub(in crate::spool) event: Box<RequestEvent>,
    /// Until when an end is remembered that comes before its request was opened; none: no alert would watch that request.
    pub(in crate::spool) forget: Option<MonotonicTime>,
    pub(in crate::spool) receipt: Receipt,
}

impl EndRequest {
    /// It may have to be remembered.
    pub(super) fn size(&self) -> u64 {
        self.forget.map_or(0, |_| row_size("", "", &self.event))
    }
}

impl Step for EndRequest {
    /// Whether another early end was forgotten for it, too.
    type Outcome = (EndOutcome, bool);

    fn settle(self, (outcome, has_forgotten): Self::Outcome, _: &mut WriterState, shared: &Shared) {
        let mut counts = shared.request_counts();
        if has_forgotten {
            counts.forget_early_end();
        }
        match outcome {
            EndOutcome::Early => {
                counts.add(&AlertName::new(""), RequestState::EndedEarly);
                self.forget.into_iter().for_each(|forget| shared.request_due(forget));
            }
            EndOutcome::Unchanged => {}
            EndOutcome::Ended(ended) => {
                for (alert, state) in ended {
                    counts.remove(&alert, state);
                    if state == RequestState::Overdue {
                        shared.request_due(MonotonicTime::now());
                    }
                }
            }
        }
        drop(counts);
        self.receipt.settle();
    }
}

/// Reads the requests that are due.
#[derive(Debug)]
pub(in crate::spool) struct FetchRequests {
    pub(in crate::spool) kind: DueKind,
    pub(in crate::spool) limit: usize,
    pub(in crate::spool) done: oneshot::Sender<DueRequests>,
}

impl Step for FetchRequests {
    type Outcome = DueRequests;

    fn settle(self, due: Self::Outcome, _: &mut WriterState, shared: &Shared) {
        if self.kind == DueKind::All {
            shared.set_next_due_request(due.requests.first().map(|first| first.due).or(due.next));
        }
        // The caller may be gone; then they are due at the next start.
        let _ = self.done.send(due);
    }
}

/// Raises the alert of a request, resolves it, or forgets the request: in one transaction with the deliveries of the alert.
#[derive(Debug)]
pub(in crate::spool) struct AdvanceRequest {
    pub(in crate::spool) id: RequestId,
    pub(in crate::spool) alert: AlertName,
    pub(in crate::spool) from: RequestState,
    pub(in crate::spool) step: RequestStep,
    pub(in crate::spool) rows: Vec<DeliveryRow>,
    /// False: the request was no longer in that state.
    pub(in crate::spool) done: oneshot::Sender<bool>,
}

impl Step for AdvanceRequest {
    /// None: the request was no longer in that state.
    type Outcome = Option<Vec<InsertOutcome>>;

    fn settle(self, outcome: Self::Outcome, state: &mut WriterState, shared: &Shared) {
        let has_changed = outcome.is_some();
        if has_changed {
            let mut counts = shared.request_counts();
            counts.remove(&self.alert, self.from);
            if let RequestStep::Raise { .. } = self.step {
                counts.add(&self.alert, RequestState::Overdue);
            }
        }
        settle_rows(&self.rows, outcome, state, shared);
        // The caller may be gone.
        let _ = self.done.send(has_changed);
    }
}

/// Stores that an alert about no request is raised or resolved, in one transaction with its deliveries.
#[derive(Debug)]
pub(in crate::spool) struct SaveAlert {
    pub(in crate::spool) alert: AlertName,
    pub(in crate::spool) subject: String,
    /// JSON; none: it is resolved.
    pub(in crate::spool) state: Option<String>,
    pub(in crate::spool) rows: Vec<DeliveryRow>,
    pub(in crate::spool) done: oneshot::Sender<()>,
}

impl Step for SaveAlert {
    type Outcome = Vec<InsertOutcome>;

    fn settle(self, outcome: Self::Outcome, state: &mut WriterState, shared: &Shared) {
        let subject = (self.alert, self.subject);
        match self.state {
            Some(json) => shared.raised_alerts().insert(subject, json),
            None => shared.raised_alerts().remove(&subject),
        };
        settle_rows(&self.rows, Some(outcome), state, shared);
        // The caller may be gone.
        let _ = self.done.send(());
    }
}

/// Removes requests of alerts that are no longer configured, makes those due whose alert has to be resolved, and counts due times of an earlier boot in this one, a batch of each.
#[derive(Debug)]
pub(in crate::spool) struct TidyRequests {
    pub(in crate::spool) remove: Vec<AlertName>,
    pub(in crate::spool) adopts: bool,
    /// Whether there may be more to do.
    pub(in crate::spool) done: oneshot::Sender<bool>,
}

impl Step for TidyRequests {
    type Outcome = (Vec<(AlertName, RequestState)>, bool, Option<MonotonicTime>);

    fn settle(self, (removed, adopted, next): Self::Outcome, _: &mut WriterState, shared: &Shared) {
        let mut counts = shared.request_counts();
        for (alert, state) in &removed {
            counts.remove(alert, *state);
            if *state == RequestState::Overdue {
                shared.request_due(MonotonicTime::now());
            }
        }
        drop(counts);
        if let Some(next) = next {
            shared.request_due(next);
        }
        // The caller may be gone.
        let _ = self.done.send(adopted || !removed.is_empty());
    }
}

/// Settles the deliveries of an alert; none: they were not inserted.
fn settle_rows(rows: &[DeliveryRow], inserted: Option<Vec<InsertOutcome>>, state: &WriterState, shared: &Shared) {
    let inserted = inserted.map(|inserted| inserted.into_iter().map(Some));
    let mut inserted = inserted.into_iter().flatten();
    for row in rows {
        settle_added(row, inserted.next().flatten(), state, shared);
    }
}
