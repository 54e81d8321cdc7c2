//! What of a sink outlives the process: a pause, an open breaker, and what its deliveries in the spool are ordered by.

use serde::{Deserialize, Serialize};

use crate::clock::MonotonicTime;
use crate::config::OrderBy;

/// Why something is paused that a person paused.
pub const ASKED: &str = "as asked";

/// The state of a sink, or of a source, which can only be paused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "snake_case")]
pub struct State {
    /// None: it is not paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// None: its breaker is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<Opened>,
    /// It refused ten different events in a row, and has taken none since.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refuses_everything: bool,
    /// What its deliveries in the spool are ordered by.
    #[serde(skip_serializing_if = "is_default")]
    pub order_by: OrderBy,
}

/// Why nothing goes to a sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// In words.
    pub why: String,
    /// Until then; none: until a person resumes it.
    pub until: Option<MonotonicTime>,
    /// How long it was when it began, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
}

/// Since when only probes go to a sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Back-offs so far.
    pub times: u32,
    /// When the next probe goes out.
    pub until: MonotonicTime,
    /// How the last attempt failed.
    pub cause: String,
}

impl State {
    /// What was kept. What can't be read is as if nothing had been kept: the sink will say how it is.
    #[must_use]
    pub fn parse(kept: Option<&str>) -> Self {
        kept.and_then(|kept| serde_json::from_str(kept).ok()).unwrap_or_default()
    }

    /// What is to be kept; nothing where all is as it is by default.
    #[must_use]
    pub fn to_json(&self) -> Option<String> {
        (*self != Self::default()).then(|| serde_json::to_string(self).unwrap_or_default())
    }

    /// The same, paused by a person.
    #[must_use]
    pub fn paused(self) -> Self {
        Self { pause: Some(Pause { why: ASKED.to_owned(), until: None, length: None }), ..self }
    }

    /// The same, with everything let through.
    #[must_use]
    pub fn resumed(self) -> Self {
        Self { pause: None, open: None, ..self }
    }

    /// Why nothing goes out, or only probes.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let pause = self.pause.as_ref().map(|pause| format!("paused: {}", pause.why));
        pause.or_else(|| self.open.as_ref().map(|open| open.cause.clone()))
    }

    /// When the next attempt may be made; none: when a person resumes it.
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
