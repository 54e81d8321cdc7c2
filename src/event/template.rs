//! Templates over the event: topics, keys, addresses, headers, bodies.

use super::{Event, Message};

/// A compiled, checked template.
#[derive(Debug, Clone)]
pub struct Template;

/// What a template sees.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Its fields, by their names in the normalized event.
    pub event: &'a Event,
    /// `headers` and `properties`.
    pub message: &'a Message,
}

/// A template that can't be compiled, or can't be rendered for an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

impl Template {
    /// Compiles `source` and checks every name in it.
    pub fn compile(_source: &str) -> Result<Self, TemplateError> {
        todo!()
    }

    /// The template as written.
    #[must_use]
    pub fn source(&self) -> &str {
        todo!()
    }

    /// No expression in it: the same text for every event.
    #[must_use]
    pub fn fixed(&self) -> Option<&str> {
        todo!()
    }

    /// The text for one event; null is the empty string.
    pub fn render(&self, _scope: Scope<'_>) -> Result<String, TemplateError> {
        todo!()
    }

    /// The same, but an expression that is null without a `default` is an error: for topics, routing keys, URLs and paths.
    pub fn render_address(&self, _scope: Scope<'_>) -> Result<String, TemplateError> {
        todo!()
    }

    /// The same, but a template whose expressions were all null is `None`: for Kafka keys.
    pub fn render_key(&self, _scope: Scope<'_>) -> Result<Option<String>, TemplateError> {
        todo!()
    }

    /// Like `render_address`, with what each expression makes percent-encoded: for the path and query of a URL.
    pub fn render_url(&self, _scope: Scope<'_>) -> Result<String, TemplateError> {
        todo!()
    }
}
