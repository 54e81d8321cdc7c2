//! What people see of the alerts: in `status` and in the metrics.

use serde::{Deserialize, Serialize};

use super::conditions::RaisedAlert;
use crate::clock::WallTime;
use crate::event::AlertStatus;
use crate::relay::Stats;
use crate::rules::Alert;
use crate::spool::RequestCount;

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
    /// What it is raised for, unless that is requests.
    pub raised: Vec<RaisedSummary>,
    /// How often it was raised since the start.
    pub raised_total: u64,
    /// How often it was resolved since the start.
    pub resolved_total: u64,
}

/// A raised alert that is about no request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaisedSummary {
    pub subject: String,
    /// RFC 3339.
    pub since: String,
    pub message: String,
}

impl Stats {
    /// The alerts of the configuration, in its order.
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
        Self { subject: subject.to_owned(), since, message }
    }
}

impl RaisedAlert {
    fn for_people(self) -> (String, String) {
        (WallTime(self.since).to_rfc3339(), self.message)
    }
}
