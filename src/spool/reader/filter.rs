//! Which dead letters a command or a purge selects.

use serde::{Deserialize, Serialize};

use crate::event::Reason;

/// Selects the dead letters that match every condition that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterFilter {
    pub tenant: Option<String>,
    pub status: Option<String>,
    pub sink: Option<String>,
    pub reason: Option<Reason>,
    pub correlation_id: Option<String>,
    /// Not older than this, in milliseconds since 1970.
    pub since: Option<i64>,
    /// Only those with a higher id, and only up to that one.
    #[serde(default)]
    pub above: Option<i64>,
    pub up_to: Option<i64>,
    /// The largest number of results: the first ones in order.
    pub limit: Option<u64>,
    /// In the order of their ids; otherwise the newest come first.
    pub oldest_first: bool,
}
