//! The key `auth:` of an AMQP broker.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::text::decode::{At, Decode, at, mapping};
use super::super::text::reader::Reader;
use super::super::text::scalar::{OneOf, Word};
use super::super::text::tree::{Kind, Node};
use super::OAuth2;

/// How to log in other than by user name and password.
#[derive(Debug)]
pub(in crate::config) enum AmqpAuth {
    /// By the client certificate.
    External,
    /// By access tokens.
    Token(Box<At<TokenLogin>>),
}

mapping! {
    /// The login by access tokens.
    TokenLogin {
        /// The access tokens, which are the password; the broker gets each new one on the open connection
        oauth2: OAuth2 = required,
    }
}

#[derive(Debug, Clone, Copy)]
struct External;

impl Word for External {
    const WORDS: &'static [(&'static str, Self)] = &[("external", Self)];
}

impl Decode for AmqpAuth {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.kind {
            Kind::Mapping(_) => at(node, reader).map(|login| Self::Token(Box::new(login))),
            _ => OneOf::<External>::decode(node, reader).map(|_| Self::External),
        }
    }
}

impl JsonSchema for AmqpAuth {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AmqpAuth".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let login = generator.subschema_for::<TokenLogin>();
        json_schema!({ "anyOf": [{ "enum": ["external"] }, login, { "type": "string", "pattern": r"\$\{.+\}" }] })
    }
}
