//! What people see of the alerts: in `status` and in the metrics.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::conditions::RaisedAlert;
use super::requests;
use crate::clock::WallTime;
use crate::event::AlertStatus;
use crate::relay::Stats;
use crate::rules::{Alert, AlertName};
use crate::spool::{OverdueRequest, RequestCount, SpoolError};
use crate::tasks;

/// So many overdue requests of an alert are named.
const MAX_NAMED_REQUESTS: usize = 10;

/// One alert of the configuration, and what it has to report now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertSummary {
    pub name: String,
    /// What raises it, by its key in the file.
    pub condition: String,
    /// Requests that it watches and that are not overdue; null for an alert of another kind.
    pub open: Option<u64>,
    /// How many times it is raised now: for how many requests, sinks or sources.
    pub active: u64,
    /// What it is raised for; of overdue requests those that have been so for the longest time, in their order.
    pub raised: Vec<RaisedSummary>,
    /// How often it was raised since the start.
    pub raised_total: u64,
    /// How often it was resolved since the start.
    pub resolved_total: u64,
}

/// What an alert is raised for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RaisedSummary {
    pub subject: String,
    /// RFC 3339.
    pub since: String,
    pub message: String,
    /// Of the overdue request; null for an alert of another kind.
    pub tenant: Option<String>,
    pub correlation_id: Option<String>,
}

impl Stats {
    /// [`alerts`](Self::alerts) with the oldest overdue requests, which are read from the spool.
    pub async fn alerts_with_requests(&self) -> Result<Vec<AlertSummary>, String> {
        let mut alerts = self.alerts();
        let Some(spool) = self.spool().map(Arc::clone) else { return Ok(alerts) };
        let reading = tokio::task::spawn_blocking(move || -> Result<_, SpoolError> {
            for alert in alerts.iter_mut().filter(|alert| alert.open.is_some() && alert.active > 0) {
                let overdue = spool.reader().overdue(&AlertName::new(&alert.name), MAX_NAMED_REQUESTS)?;
                alert.raised = overdue.into_iter().map(RaisedSummary::of_request).collect();
            }
            Ok(alerts)
        });
        let read = reading.await.map_err(|error| tasks::blocking_error("reading the overdue requests", &error))?;
        read.map_err(|error| error.to_string())
    }

    /// The alerts of the configuration, in its order. Overdue requests are counted, not named.
    #[must_use]
    pub fn alerts(&self) -> Vec<AlertSummary> {
        let snapshot = self.snapshot();
        let (raised, requests) = match self.spool() {
            Some(spool) if !snapshot.alerts.is_empty() => (spool.raised_alerts(), spool.request_counts()),
            _ => (Vec::new(), Vec::new()),
        };
        let summary = |alert: &Alert| {
            let of_alert = raised.iter().filter(|(name, _, _)| *name == alert.name);
            let raised: Vec<_> = of_alert.map(|(_, subject, state)| RaisedSummary::of(subject, state)).collect();
            let watched = requests.iter().find(|(name, _)| *name == alert.name).map(|(_, count)| *count);
            let watched = alert.overdue().map(|_| watched.unwrap_or_default());
            let active = watched.map_or(raised.len() as u64, |RequestCount { overdue, .. }| overdue);
            let total = |status| self.alert_counts().get(&alert.name, status);
            AlertSummary {
                name: alert.name.to_string(),
                condition: alert.trigger.as_str().to_owned(),
                open: watched.map(|count| count.open),
                active,
                raised,
                raised_total: total(AlertStatus::Raised),
                resolved_total: total(AlertStatus::Resolved),
            }
        };
        snapshot.alerts.iter().map(summary).collect()
    }
}

impl RaisedSummary {
    fn of(subject: &str, state: &str) -> Self {
        let (since, message) = RaisedAlert::parse(state).map(RaisedAlert::for_people).unwrap_or_default();
        Self { subject: subject.to_owned(), since, message, tenant: None, correlation_id: None }
    }

    fn of_request(request: OverdueRequest) -> Self {
        let OverdueRequest { tenant, correlation_id, status, received, limit, expires, since } = request;
        let (at, limit) = (received.to_rfc3339(), requests::within(&limit, expires.as_deref()));
        Self {
            subject: requests::subject(&tenant, &correlation_id),
            since: since.to_rfc3339(),
            message: format!("request {correlation_id} of {tenant} was {status} at {at} and has had no end {limit}"),
            tenant: Some(tenant),
            correlation_id: Some(correlation_id),
        }
    }
}

impl RaisedAlert {
    fn for_people(self) -> (String, String) {
        (WallTime(self.since).to_rfc3339(), self.message)
    }
}
