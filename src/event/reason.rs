//! Why a message or an event becomes a dead letter.

use serde::{Deserialize, Serialize};

/// The reason of a dead letter: a stable word for metrics, filters and test cases.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Reason {
    /// The body is not UTF-8.
    NotUtf8,
    /// The body is not JSON, trailing commas allowed.
    NotJson,
    /// The body is JSON, but not an object.
    NotAnObject,
    /// The body is longer than the source's `max_body`.
    TooLarge,
    /// The body or a header is nested too deeply.
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
    /// No route matches the event, and `unrouted:` is `dead_letter`.
    Unrouted,
    /// An `if:` could not be evaluated, and no other route matches the event.
    RuleError,
    /// A sink's template or address could not be rendered for the event.
    RenderFailed,
    /// The destination refuses the event permanently.
    Refused,
    /// `give_up_after` or `max_attempts` was reached.
    GaveUp,
}

impl Reason {
    /// In the order of the documentation.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;
    /// The words of all reasons, as metrics, filters and output have them.
    pub const NAMES: &'static [&'static str] = <Self as strum::VariantNames>::VARIANTS;

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// Why a message can't become an event, with what could be read of it, so that a person can find the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct DecodeError {
    pub reason: Reason,
    /// What was found and what was expected.
    pub detail: String,
    pub tenant: Option<String>,
    pub status: Option<String>,
    pub correlation_id: Option<String>,
}
