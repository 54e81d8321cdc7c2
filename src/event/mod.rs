//! From [`Message`] to [`Event`], and from event to bytes.
//!
//! Normalization is a pure function of the message and of what its source expects: no clock, no randomness, no state. The
//! same message always gives the same event with the same id, whenever and wherever it is read.
//!
//! This module knows nothing of brokers, rules or sinks.

mod date;
mod dead_letter;
mod expression;
mod family;
#[cfg(test)]
mod fixtures;
mod format;
mod identity;
mod json;
mod message;
mod name;
mod number;
mod parsed;
mod properties;
mod read;
mod reason;
pub mod sample;
mod serialize;
mod template;
#[cfg(test)]
mod tests;
mod transform;
mod vocabulary;

pub use dead_letter::{DEAD_LETTER, Death, HOPS, OUR_HEADERS, is_ours};
pub use expression::{Checked, Expression, ExpressionError, Finding};
pub use family::{Expects, FAMILIES, Family, Slot};
pub use format::{Carrier, Encoded, Format};
pub use identity::NAMESPACE;
pub(crate) use identity::version_5;
pub use message::{Header, HeaderValue, Message, NotUtf8, Properties, UNREADABLE};
pub use name::SourceName;
pub(crate) use name::name;
pub use number::AmqpNumber;
pub(crate) use parsed::is_a_double;
pub use properties::SampleError;
pub use read::TENANT_HEADER;
pub use reason::{Invalid, Reason};
pub use template::{Fragment, Template, TemplateError};
pub use transform::{Misnamed, Set, Step, Transform, TransformError, Transformed, fields_of_any, fields_of_events};
pub use vocabulary::{Fields, Scope, Vocabulary};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::value::RawValue;
use uuid::Uuid;

/// What becomes of an optional field that has another JSON type or an unreadable date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validation {
    /// It is null, and the event carries a warning.
    #[default]
    Lenient,
    /// The message is a dead letter, `invalid_field`.
    Strict,
}

/// One word over all response families for how a request fares; `status` keeps the family's own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// GRANTED: REGARDS will work on it.
    Accepted,
    /// DENIED, `INVALID_CONTENT`, SKIPPED: it never will.
    Rejected,
    /// SUCCESS, DONE, DELETED.
    Succeeded,
    /// ERROR, FAILED.
    Failed,
    /// `SUBORDER_DONE`, DELAYED: on its way.
    Progress,
}

/// A valid, normalized message.
#[derive(Debug)]
pub struct Event {
    /// `UUIDv5` over what identifies the response: see [`NAMESPACE`].
    pub id: Uuid,
    /// The family's `CloudEvents` type, `fr.cnes.regards.lta.submission.response`.
    pub kind: &'static str,
    /// The source it came from.
    pub source: SourceName,
    /// The tenant, from the header `regards.tenant` or the source's configuration.
    pub tenant: Arc<str>,
    /// The family's own word: GRANTED, DENIED, SUCCESS, ERROR …
    pub status: &'static str,
    /// The same over all families.
    pub outcome: Outcome,
    /// The requester's own identifier.
    pub correlation_id: String,
    /// The product's identifier.
    pub product_id: Option<String>,
    /// The requester's session.
    pub session: Option<String>,
    /// RFC 3339 in UTC, with the digits it came with.
    pub expires: Option<String>,
    /// What REGARDS says about it.
    pub message: Option<String>,
    /// The AMQP timestamp as RFC 3339, whole seconds.
    pub time: Option<String>,
    /// Unknown fields of the body, their JSON kept (without insignificant white space).
    pub extra: BTreeMap<String, Box<RawValue>>,
    /// What was tolerated, in words.
    pub warnings: Vec<String>,
}

/// What a source expects of its messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The response family, or families.
    pub expects: Expects,
    /// What becomes of unreadable optional fields.
    pub validation: Validation,
    /// The tenant of messages without the header.
    pub tenant: Option<Arc<str>>,
    /// Longer bodies are dead letters, in bytes.
    pub max_body: usize,
}

impl Event {
    /// Reads, validates and normalizes one message. Pure: the same message always gives the same event.
    pub fn read(message: &Message, reading: &Reading) -> Result<Self, Box<Invalid>> {
        read::read(message, reading)
    }

    /// Reads a message once more that was an event of this type and tenant: it is the same event, whatever sources expect by now.
    pub fn read_again(message: &Message, kind: &str, tenant: &Arc<str>) -> Result<Self, Box<Invalid>> {
        let family = FAMILIES.iter().find(|family| family.kind == kind).ok_or_else(|| {
            Box::new(Invalid {
                reason: Reason::InvalidField,
                detail: format!("this version of the relay knows no events of the type {kind}"),
                tenant: Some(tenant.to_string()),
                status: None,
                correlation_id: None,
            })
        })?;
        let tenant = Some(Arc::clone(tenant));
        read::read(
            message,
            &Reading { expects: Expects::One(family), validation: Validation::Lenient, tenant, max_body: usize::MAX },
        )
    }
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Accepted, Self::Rejected, Self::Succeeded, Self::Failed, Self::Progress];

    /// The word used in events, rules and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Progress => "progress",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
