//! Requests that alerts watch, for people.

use super::SpoolReader;
use crate::clock::WallTime;
use crate::rules::AlertName;
use crate::spool::SpoolError;

/// That an alert watches a request which has no end yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedBy {
    pub alert: String,
    /// Since when it is overdue, or when it will be.
    pub at: WallTime,
    pub is_overdue: bool,
}

/// A request whose alert is raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverdueRequest {
    pub tenant: String,
    pub correlation_id: String,
    /// Of the event that opened it.
    pub status: String,
    pub received: WallTime,
    pub limit: String,
    pub expires: Option<String>,
    pub since: WallTime,
}

impl SpoolReader {
    /// The alerts that watch a request.
    pub fn watches(&self, tenant: &str, correlation_id: &str) -> Result<Vec<WatchedBy>, SpoolError> {
        self.store.watches(tenant, correlation_id)
    }

    /// The requests for which the alert has been raised for the longest time, at most `limit`, the oldest first.
    pub fn overdue(&self, alert: &AlertName, limit: usize) -> Result<Vec<OverdueRequest>, SpoolError> {
        self.store.overdue(alert, limit)
    }
}
