//! Why a message or an event becomes a dead letter.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The reason of a dead letter: a stable word for metrics, filters and rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Reason {
    /// The body is not UTF-8.
    NotUtf8,
    /// The body is not JSON, trailing commas allowed.
    NotJson,
    /// The body is JSON, but not an object.
    NotAnObject,
    /// The body is over the source's `max_body`.
    TooLarge,
    /// The body or a header is nested too deep.
    TooDeep,
    /// `content_encoding` names something other than UTF-8 text.
    UnsupportedEncoding,
    /// A required field is missing, null or empty.
    MissingField,
    /// A field has a value it can't have.
    InvalidField,
    /// The status is not one of the family's.
    UnknownStatus,
    /// No header `regards.tenant`, and the source has no tenant of its own.
    MissingTenant,
    /// The tenant has control characters or is over 255 bytes.
    InvalidTenant,
    /// The message went through too many relays.
    Loop,
    /// No route took the event, and `unrouted:` says `dead_letter`.
    Unrouted,
    /// An `if:` could not be evaluated, and no other route took the event.
    RuleError,
    /// A sink's template or address could not be rendered for this event.
    RenderFailed,
    /// The destination refuses this event for good.
    Refused,
    /// `give_up_after` or `attempts` was reached.
    GaveUp,
}

impl Reason {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 17] = [
        Self::NotUtf8,
        Self::NotJson,
        Self::NotAnObject,
        Self::TooLarge,
        Self::TooDeep,
        Self::UnsupportedEncoding,
        Self::MissingField,
        Self::InvalidField,
        Self::UnknownStatus,
        Self::MissingTenant,
        Self::InvalidTenant,
        Self::Loop,
        Self::Unrouted,
        Self::RuleError,
        Self::RenderFailed,
        Self::Refused,
        Self::GaveUp,
    ];

    /// The word used in metrics, filters and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::UnknownStatus => "unknown_status",
            Self::MissingTenant => "missing_tenant",
            Self::InvalidTenant => "invalid_tenant",
            Self::Loop => "loop",
            Self::Unrouted => "unrouted",
            Self::RuleError => "rule_error",
            Self::RenderFailed => "render_failed",
            Self::Refused => "refused",
            Self::GaveUp => "gave_up",
        }
    }

    /// The reason of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

impl From<Reason> for &'static str {
    fn from(reason: Reason) -> Self {
        reason.as_str()
    }
}

impl TryFrom<String> for Reason {
    type Error = &'static str;

    fn try_from(word: String) -> Result<Self, Self::Error> {
        Self::parse(&word).ok_or("is no reason of a dead letter")
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message that can't become an event: why, and what of it could be read all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Invalid {
    /// The stable word.
    pub reason: Reason,
    /// What was found and what was expected.
    pub detail: String,
    /// The tenant, where it could be read.
    pub tenant: Option<String>,
    /// The status as received, where it could be read.
    pub status: Option<String>,
    /// The correlation id, where it could be read.
    pub correlation_id: Option<String>,
}
