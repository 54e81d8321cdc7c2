//! Templates over the event: topics, keys, addresses, headers, bodies.
//!
//! A template is minijinja. Its names are checked when it is compiled; null is the empty string, `default` applies to it;
//! there is no clock, no randomness and no other template to include, and what one rendering may take is bounded. One
//! that only puts fields between texts, as nearly all topics, keys and paths do, never gets to minijinja: see [`plain`].

mod plain;

use std::fmt;
use std::sync::Arc;

use self::plain::Plain;
pub(super) use self::plain::percent_encode;
use super::{Event, Message};

/// A compiled, checked template. Cheap to clone.
#[derive(Clone)]
pub struct Template(Arc<Compiled>);

struct Compiled {
    source: String,
    plain: Plain,
}

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
    pub fn compile(source: &str) -> Result<Self, TemplateError> {
        let plain = Plain::parse(source).ok_or_else(|| TemplateError("expressions are not there yet".to_owned()))?;
        Ok(Self(Arc::new(Compiled { source: source.to_owned(), plain })))
    }

    /// The template as written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// No expression in it: the same text for every event.
    #[must_use]
    pub fn fixed(&self) -> Option<&str> {
        self.0.plain.fixed()
    }

    /// The text for one event; null is the empty string.
    pub fn render(&self, scope: Scope<'_>) -> Result<String, TemplateError> {
        Ok(self.0.plain.render(scope))
    }

    /// The same, but an expression that is null without a `default` is an error: for topics, routing keys, URLs and paths.
    pub fn render_address(&self, scope: Scope<'_>) -> Result<String, TemplateError> {
        self.0.plain.render_address(scope)
    }

    /// The same, but a template whose expressions were all null is `None`: for Kafka keys.
    pub fn render_key(&self, scope: Scope<'_>) -> Result<Option<String>, TemplateError> {
        Ok(self.0.plain.render_key(scope))
    }

    /// Like `render_address`, with what each expression makes percent-encoded: for the path and query of a URL.
    pub fn render_url(&self, scope: Scope<'_>) -> Result<String, TemplateError> {
        self.0.plain.render_url(scope)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets may have been inserted into the source before it was compiled.
        f.write_str("Template(…)")
    }
}
