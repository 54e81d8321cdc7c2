//! What alerts ask of the spool: requests that they watch, and that they are raised.

use tokio::sync::oneshot;

use super::change::{AdvanceRequest, Change, EndRequest, FetchRequests, OpenRequest, SaveAlert, TidyRequests};
use super::{
    DueKind, DueRequests, RequestCount, RequestEvent, RequestLosses, RequestStep, STOPPED, SizeLimits, Spool,
    SpooledDelivery, Watch, WatchedRequest,
};
use crate::clock::MonotonicTime;
use crate::rules::AlertName;
use crate::source::Receipt;

impl Spool {
    /// Watches a request, unless its end came before. Returns at once; `receipt` settles when the request is on disk.
    pub fn open_request(&self, event: RequestEvent, watches: Vec<Watch>, receipt: Receipt) {
        self.change(Change::OpenRequest(OpenRequest { event: Box::new(event), watches, receipt }));
    }

    /// Ends a request for all alerts that watch it. If none does, and with `forget`, the end is remembered until then, because the event that
    /// opens the request may come later. Returns at once; `receipt` settles when that is on disk.
    pub fn end_request(&self, event: RequestEvent, forget: Option<MonotonicTime>, receipt: Receipt) {
        self.change(Change::EndRequest(EndRequest { event: Box::new(event), forget, receipt }));
    }

    /// When [`due_requests`](Self::due_requests) has something to return; far away if no request is due at any time.
    #[must_use]
    pub fn next_due_request(&self) -> MonotonicTime {
        self.shared.next_due_request()
    }

    /// The requests that are due, at most `limit`. Those of an earlier boot are not, until [`tidy_requests`](Self::tidy_requests) has
    /// counted their times in this one. `None`: the spool is closed.
    pub async fn due_requests(&self, kind: DueKind, limit: usize) -> Option<DueRequests> {
        let (done, due) = oneshot::channel();
        self.change(Change::FetchRequests(FetchRequests { kind, limit, done }));
        due.await.ok()
    }

    /// Does the step with the request, and stores the deliveries of its alert in the same transaction: those of RAISED name its receivers. The answer is false if the request
    /// has changed since it was read: then nothing is stored. Errors are texts for people.
    pub fn advance_request(
        &self,
        request: &WatchedRequest,
        step: RequestStep,
        deliveries: Vec<SpooledDelivery>,
    ) -> Result<impl Future<Output = Result<bool, String>> + use<>, String> {
        let rows = self.shared.reserve_all(deliveries, SizeLimits::Enforced)?;
        let (done, advanced) = oneshot::channel();
        let (id, alert, from) = (request.id, request.alert.clone(), request.state);
        self.change(Change::AdvanceRequest(AdvanceRequest { id, alert, from, step, rows, done }));
        Ok(async { advanced.await.map_err(|_| STOPPED.to_owned()) })
    }

    /// Forgets requests that none of the alerts watches, but for overdue ones, which become due as if they had ended; and if the caller `adopts` requests of an earlier boot, because the wall clock can
    /// be trusted by now, counts their due times in this one. It does a part of that. True: there may be more to do.
    pub async fn tidy_requests(&self, alerts: &[AlertName], adopts: bool) -> bool {
        let mut remove = self.request_counts();
        remove.retain(|(alert, count)| *count != RequestCount::default() && !alerts.contains(alert));
        let remove: Vec<_> = remove.into_iter().map(|(alert, _)| alert).collect();
        if remove.is_empty() && !adopts {
            return false;
        }
        let (done, tidied) = oneshot::channel();
        self.change(Change::TidyRequests(TidyRequests { remove, adopts, done }));
        tidied.await.unwrap_or(false)
    }

    /// Stores that an alert about no request is raised, with its state as JSON, or with `None` that it is resolved; and its deliveries in
    /// the same transaction, beyond the limits of the spool: the alert may be about these. Errors are texts for people.
    pub async fn save_alert(
        &self,
        alert: AlertName,
        subject: String,
        state: Option<String>,
        deliveries: Vec<SpooledDelivery>,
    ) -> Result<(), String> {
        let rows = self.shared.reserve_all(deliveries, SizeLimits::Waived)?;
        let (done, saved) = oneshot::channel();
        self.change(Change::SaveAlert(SaveAlert { alert, subject, state, rows, done }));
        saved.await.map_err(|_| STOPPED.to_owned())
    }

    /// The raised alerts about no request: name, subject and state as JSON.
    #[must_use]
    pub fn raised_alerts(&self) -> Vec<(AlertName, String, String)> {
        let raised = self.shared.raised_alerts();
        raised.iter().map(|((alert, subject), state)| (alert.clone(), subject.clone(), state.clone())).collect()
    }

    #[must_use]
    pub fn request_counts(&self) -> Vec<(AlertName, RequestCount)> {
        self.shared.request_counts().by_alert()
    }

    /// What the [`RequestLimits`](super::RequestLimits) have cost since the start.
    #[must_use]
    pub fn request_losses(&self) -> RequestLosses {
        self.shared.request_counts().losses()
    }
}
