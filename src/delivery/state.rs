//! The state of a sink that outlives the process: a pause, an open breaker, and the order of its spooled deliveries.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::ordering::Ordering;
use crate::clock::MonotonicTime;
use crate::config::OrderBy;
use crate::rules::Field;
use crate::spool::RowId;

/// The reason of a pause that a person asked for.
pub const ON_REQUEST: &str = "on request";

/// The state of a sink, or of a source, which can only be paused. Stored in the spool as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "snake_case")]
pub struct PersistedState {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// None: the breaker is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenBreaker>,
    /// The sink refused ten different events in a row and has taken none since.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refuses_everything: bool,
    /// The order of its spooled deliveries.
    #[serde(skip_serializing_if = "is_default")]
    pub order_by: OrderBy,
    /// The groups of its spooled deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<Vec<Field>>,
    /// The last delivery of each `group` that the sink had before, as long as deliveries from before are spooled.
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    pub boundaries: VecDeque<RowId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub reason: String,
    /// None: until a person resumes it.
    pub until: Option<MonotonicTime>,
    /// The whole length of the pause, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenBreaker {
    pub backoffs: u32,
    /// When the next probe goes out.
    pub until: MonotonicTime,
    /// The error of the last attempt.
    pub error: String,
}

impl PersistedState {
    /// A state that can't be parsed is ignored: the next attempts will show whether the sink works.
    #[must_use]
    pub fn parse(json: Option<&str>) -> Self {
        json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
    }

    #[must_use]
    pub fn order(&self) -> Ordering {
        Ordering { order_by: self.order_by, group_by: self.group_by.clone() }
    }

    /// None: the state is the default, so nothing has to be stored.
    #[must_use]
    pub fn to_json(&self) -> Option<String> {
        (*self != Self::default()).then(|| serde_json::to_string(self).unwrap_or_default())
    }

    /// This state, but paused by a person.
    #[must_use]
    pub fn paused(self) -> Self {
        Self { pause: Some(Pause { reason: ON_REQUEST.to_owned(), until: None, length: None }), ..self }
    }

    /// This state, but neither paused nor with an open breaker.
    #[must_use]
    pub fn resumed(self) -> Self {
        Self { pause: None, open: None, ..self }
    }

    /// How the last attempts failed, if the sink is at fault. None: it isn't, or a person paused it.
    #[must_use]
    pub fn outage(&self) -> Option<String> {
        let gone = self.pause.as_ref().filter(|pause| pause.until.is_none() && pause.reason != ON_REQUEST);
        let gone = gone.map(|pause| pause.reason.clone());
        gone.or_else(|| self.open.as_ref().map(|open| open.error.clone()))
    }

    /// Why no attempts are made, or only probes.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let pause = self.pause.as_ref().map(|pause| format!("paused: {}", pause.reason));
        pause.or_else(|| self.open.as_ref().map(|open| open.error.clone()))
    }

    /// When the next attempt may begin. None: when a person resumes the sink.
    #[must_use]
    pub fn not_before(&self) -> Option<MonotonicTime> {
        let open = self.open.as_ref().map_or(MonotonicTime(0), |open| open.until);
        self.pause.as_ref().map_or(Some(open), |pause| pause.until.map(|until| until.max(open)))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_default(order_by: &OrderBy) -> bool {
    *order_by == OrderBy::default()
}
