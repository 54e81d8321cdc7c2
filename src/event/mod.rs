//! From [`Message`] to [`Event`], and from event to bytes.
//!
//! Decoding is a pure function of the message and of its source's [`DecodeOptions`]: no clock, no randomness, no state. The
//! same message always becomes the same event with the same id.
//!
//! This module knows nothing of brokers, routes or sinks.

mod alert;
mod alert_sample;
mod amqp_number;
mod date;
mod dead_letter;
mod decode;
mod digest;
mod encoding;
mod expression;
mod extremes;
mod family;
#[cfg(test)]
mod fixtures;
mod format;
mod identity;
mod json;
mod json_value;
mod message;
mod name;
mod properties;
mod reason;
pub mod sample;
mod schema;
mod serialize;
mod template;
#[cfg(test)]
mod tests;
mod transform;
mod view;

pub use alert::{ALERT, AlertNotice, AlertRequest, AlertStatus};
pub use alert_sample::AlertSample;
pub use amqp_number::AmqpNumber;
pub use dead_letter::{
    DEAD_LETTER, DeadLetterInfo, HOPS_HEADER, RELAY_HEADER_PREFIX, is_broker_header, is_relay_header,
};
pub use decode::{MAX_TENANT_BYTES, TENANT_HEADER};
pub use digest::{DIGEST, DigestEnvelope, digest_id};
pub use encoding::{
    LATEST, Misfit, Schema, SchemaError, SchemaFormat, SchemaKind, SchemaReference, SchemaSource, SchemaText,
    proto_imports,
};
pub use expression::{CompiledExpression, Expression, ExpressionError, Finding};
pub use extremes::{Extreme, extremes};
pub use family::{ExpectedFamily, FAMILIES, Family, OptionalField, REGARDS_EXCHANGES};
pub use format::{Carrier, EncodeError, EncodedBody, Format};
pub use identity::NAMESPACE;
pub(crate) use identity::version_5;
pub(crate) use json_value::is_exact_double;
pub use message::{Header, HeaderValue, MAX_SHORT_STRING, Message, NotUtf8, Properties, UNREADABLE};
pub use name::SourceName;
pub(crate) use name::name;
pub use properties::SampleError;
pub use reason::{DecodeError, Reason};
pub use schema::{DigestSchema, EventSchema, FieldKind, FieldType, Fields};
pub(crate) use template::percent_encode;
pub use template::{Fragment, Template, TemplateError, TemplatePart};
pub use transform::{FieldValue, Step, StepError, Transform, TransformError, alert_fields, event_fields, merge_fields};
pub use view::{EventView, TransformedEvent};

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// What happens if an optional field has the wrong JSON type or an unreadable date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validation {
    /// The field is null, and the event carries a warning.
    #[default]
    Lenient,
    /// The message becomes a dead letter with the reason `invalid_field`.
    Strict,
}

/// The state of a request, in the same words for all response families; `status` has the family's own word.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::Display, strum::IntoStaticStr, strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Outcome {
    Accepted,  // GRANTED: REGARDS will work on it
    Rejected,  // DENIED, INVALID_CONTENT, SKIPPED: REGARDS never will
    Succeeded, // SUCCESS, DONE, DELETED
    Failed,    // ERROR, FAILED
    Progress,  // SUBORDER_DONE, DELAYED
    /// Of an alert, which the relay itself makes. The last one: see [`NAMES`](Self::NAMES).
    Alert,
}

/// A decoded message: a response in the common form of all families.
#[derive(Debug)]
pub struct Event {
    /// `UUIDv5` over what identifies the response: see [`NAMESPACE`].
    pub id: Uuid,
    /// The family's `CloudEvents` type, `fr.cnes.regards.lta.submission.response`.
    pub kind: &'static str,
    pub source: SourceName,
    /// From the header `regards.tenant` or the source's configuration. Empty: an alert that is about no request; in JSON null.
    pub tenant: Arc<str>,
    /// The family's own word: GRANTED, DENIED, SUCCESS, ERROR …
    pub status: &'static str,
    pub outcome: Outcome,
    /// Empty: an alert that is about no request; in JSON null.
    pub correlation_id: String,
    pub product_id: Option<String>,
    pub session: Option<String>,
    /// RFC 3339 in UTC, with as many digits of a second as in the body.
    pub expires: Option<String>,
    pub message: Option<String>,
    /// The AMQP timestamp as RFC 3339, whole seconds.
    pub time: Option<String>,
    /// Unknown fields of the body as JSON (without insignificant white space).
    pub extra: BTreeMap<String, Box<RawValue>>,
    /// Deviations of the message that were tolerated.
    pub warnings: Vec<String>,
}

/// How the messages of a source are decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeOptions {
    pub expects: ExpectedFamily,
    pub validation: Validation,
    /// The tenant of messages without the header `regards.tenant`.
    pub tenant: Option<Arc<str>>,
    /// Longer bodies are dead letters, in bytes.
    pub max_body: usize,
}

impl Event {
    /// Decodes, validates and normalizes one message.
    pub fn decode(message: &Message, options: &DecodeOptions) -> Result<Self, Box<DecodeError>> {
        decode::decode(message, options)
    }

    /// Decodes a stored message again, into the same event of this type and tenant: the configuration of its source may have
    /// changed.
    pub fn decode_as(message: &Message, kind: &str, tenant: &Arc<str>) -> Result<Self, Box<DecodeError>> {
        if kind == ALERT {
            return alert::decode(message);
        }
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
    /// The words of the outcomes of responses, as events, configuration and metrics have them.
    pub const NAMES: &'static [&'static str] = match <Self as strum::VariantNames>::VARIANTS.split_last() {
        Some((_alert, of_responses)) => of_responses,
        None => &[],
    };

    /// Whether REGARDS is done with the request.
    #[must_use]
    pub const fn ends_request(self) -> bool {
        match self {
            Self::Rejected | Self::Succeeded | Self::Failed => true,
            Self::Accepted | Self::Progress | Self::Alert => false,
        }
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}
