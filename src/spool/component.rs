//! Sinks and sources, by their kinds and names.

use serde::{Deserialize, Serialize};

/// A part of the configuration that can be paused, and has a saved state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    Sink(String),
    Source(String),
}

impl Component {
    pub(super) fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Sink(name) => ("sink", name),
            Self::Source(name) => ("source", name),
        }
    }
}
