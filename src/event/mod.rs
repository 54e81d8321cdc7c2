//! From [`Message`] to [`Event`], and from event to bytes.
//!
//! Normalization is a pure function of the message and of what its source expects: no clock, no randomness, no state. The
//! same message always gives the same event with the same id, whenever and wherever it is read.
//!
//! This module knows nothing of brokers, rules or sinks.

mod date;
mod dead_letter;
mod decode;
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
mod reason;
pub mod sample;
mod serialize;
mod template;
#[cfg(test)]
mod tests;
mod transform;
mod vocabulary;

pub use dead_letter::{DEAD_LETTER, Death, HOPS, OUR_HEADERS, is_ours};
pub use decode::TENANT_HEADER;
pub use expression::{Checked, Expression, ExpressionError, Finding};
pub use family::{ExpectedFamily, FAMILIES, Family, Slot};
pub use format::{Carrier, Encoded, Format};
pub use identity::NAMESPACE;
pub(crate) use identity::version_5;
pub use message::{Header, HeaderValue, Message, NotUtf8, Properties, UNREADABLE};
pub use name::SourceName;
pub(crate) use name::name;
pub use number::AmqpNumber;
pub(crate) use parsed::is_a_double;
pub use properties::SampleError;
pub use reason::{DecodeError, Reason};
pub use template::{Fragment, Template, TemplateError};
pub use transform::{Misnamed, Set, Step, Transform, TransformError, Transformed, fields_of_any, fields_of_events};
pub use vocabulary::{Fields, Scope, Vocabulary};

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
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

/// How a request fares, in one word for all response families; `status` keeps the family's own word.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::Display, strum::IntoStaticStr, strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Outcome {
    /// GRANTED: REGARDS will work on it.
    Accepted,
    /// DENIED, `INVALID_CONTENT`, SKIPPED: REGARDS never will.
    Rejected,
    /// SUCCESS, DONE, DELETED.
    Succeeded,
    /// ERROR, FAILED.
    Failed,
    /// `SUBORDER_DONE`, DELAYED.
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

/// How the messages of a source are decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeOptions {
    pub expects: ExpectedFamily,
    pub validation: Validation,
    /// The tenant of messages without the header.
    pub tenant: Option<Arc<str>>,
    /// Longer bodies are dead letters, in bytes.
    pub max_body: usize,
}

impl Event {
    /// Decodes, validates and normalizes one message.
    pub fn decode(message: &Message, options: &DecodeOptions) -> Result<Self, Box<DecodeError>> {
        decode::decode(message, options)
    }

    /// Decodes a stored message that was an event of this type and tenant before: into the same event, whatever its
    /// source is configured to expect by now.
    pub fn decode_as(message: &Message, kind: &str, tenant: &Arc<str>) -> Result<Self, Box<DecodeError>> {
        let family = FAMILIES.iter().find(|family| family.kind == kind).ok_or_else(|| {
            Box::new(DecodeError {
                reason: Reason::InvalidField,
                detail: format!("this version of the relay knows no events of the type {kind}"),
                tenant: Some(tenant.to_string()),
                status: None,
                correlation_id: None,
            })
        })?;
        let tenant = Some(Arc::clone(tenant));
        decode::decode(
            message,
            &DecodeOptions {
                expects: ExpectedFamily::One(family),
                validation: Validation::Lenient,
                tenant,
                max_body: usize::MAX,
            },
        )
    }
}

impl Outcome {
    /// The words of all outcomes, as events, configuration and metrics have them.
    pub const NAMES: &'static [&'static str] = <Self as strum::VariantNames>::VARIANTS;

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}
