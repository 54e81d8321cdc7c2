//! Types of values that only one key of `routes.yaml` has.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::model;
pub(super) use super::model::{KafkaTimestamp, OnCorrupt, OrderBy, QueueKind, WhenFull};
use super::text::decode::{At, Decode, at};
use super::text::literal;
use super::text::reader::Reader;
use super::text::scalar::{Text, Word, schema};
use super::text::tree::{Kind, Node};
pub(super) use crate::event::Validation;
pub(super) use crate::rules::Field;

/// The key of a computed value.
const CEL: &str = "cel";

/// The value of a field in `set:`: a constant, or `{ cel: … }`.
#[derive(Debug)]
pub(super) enum SetValue {
    /// A constant value, as JSON.
    Literal(String),
    /// The expression that computes the value.
    Computed(At<Text>),
}

impl Decode for SetValue {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.kind {
            Kind::Mapping(entries) if entries.len() == 1 && entries.iter().any(|(key, _)| key.text == CEL) => {
                let (_, expression) = entries.first()?;
                Some(Self::Computed(at(expression, reader)?))
            }
            _ => literal::json(node, reader).map(Self::Literal),
        }
    }
}

/// An argument of a broker: a scalar with the type that YAML gives it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Argument(pub model::Argument);

impl Decode for Argument {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        use model::Argument as Typed;
        let filled = reader.fill(node, "a single value")?;
        Some(Self(match filled.text.as_str() {
            "true" if filled.plain => Typed::Bool(true),
            "false" if filled.plain => Typed::Bool(false),
            text => match text.parse() {
                Ok(number) if filled.plain => Typed::Integer(number),
                _ => Typed::Text(filled.text),
            },
        }))
    }
}

impl Word for Validation {
    const WORDS: &'static [(&'static str, Self)] = &[("lenient", Self::Lenient), ("strict", Self::Strict)];
}

impl Word for QueueKind {
    const WORDS: &'static [(&'static str, Self)] = &[("classic", Self::Classic), ("quorum", Self::Quorum)];
}

impl Word for OnCorrupt {
    const WORDS: &'static [(&'static str, Self)] = &[("stop", Self::Stop), ("quarantine", Self::Quarantine)];
}

impl Word for WhenFull {
    const WORDS: &'static [(&'static str, Self)] = &[("block", Self::Block), ("drop_newest", Self::DropNewest)];
}

impl Word for OrderBy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("correlationId", Self::CorrelationId),
        ("productId", Self::ProductId),
        ("session", Self::Session),
        ("tenant", Self::Tenant),
        ("none", Self::None),
    ];
}

impl Word for Field {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("tenant", Self::Tenant),
        ("status", Self::Status),
        ("outcome", Self::Outcome),
        ("type", Self::Type),
        ("source", Self::Source),
        ("session", Self::Session),
        ("productId", Self::ProductId),
        ("correlationId", Self::CorrelationId),
    ];
}

impl Word for KafkaTimestamp {
    const WORDS: &'static [(&'static str, Self)] = &[("sent", Self::Sent), ("event", Self::Event)];
}

/// The SASL mechanism of access tokens.
pub(super) const OAUTHBEARER: &str = "OAUTHBEARER";

/// The SASL mechanism of Kerberos.
pub(super) const GSSAPI: &str = "GSSAPI";

/// A SASL mechanism, by librdkafka's name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mechanism(pub &'static str);

impl Word for Mechanism {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("PLAIN", Self("PLAIN")),
        ("SCRAM-SHA-256", Self("SCRAM-SHA-256")),
        ("SCRAM-SHA-512", Self("SCRAM-SHA-512")),
        (OAUTHBEARER, Self(OAUTHBEARER)),
        (GSSAPI, Self(GSSAPI)),
    ];
}

/// The type of an exchange, by AMQP's name.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExchangeKind(pub &'static str);

impl Word for ExchangeKind {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("topic", Self("topic")),
        ("direct", Self("direct")),
        ("fanout", Self("fanout")),
        ("headers", Self("headers")),
    ];
}

impl JsonSchema for SetValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SetValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A value, or `{ cel: … }`: the result of that expression for the event" })
    }
}

schema! {
    Argument => json_schema!({ "type": ["string", "integer", "boolean"] });
}
