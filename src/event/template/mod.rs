//! Templates over the event: topics, keys, addresses, headers, bodies.
//!
//! A template is minijinja. Its names are checked when it is compiled; null is the empty string, `default` applies to it;
//! there is no clock, no randomness and no other template to include, and what one rendering may take is bounded. One
//! that only puts fields between texts, as nearly all topics, keys and paths do, never gets to minijinja: see [`plain`].

mod calls;
mod counted;
mod engine;
mod exact;
mod inserted;
mod names;
mod plain;
mod scope;
#[cfg(test)]
mod tests;
mod unescaped;
mod words;

use std::fmt;
use std::sync::Arc;

use self::engine::{Engine, Mode};
pub use self::inserted::Fragment;
use self::plain::Plain;
pub(super) use self::plain::percent_encode;
use super::vocabulary::{Scope, Vocabulary};

/// A longer template is refused, in bytes.
const MAX_SOURCE: usize = 64 * 1024;

/// A compiled, checked template. Cheap to clone.
#[derive(Clone)]
pub struct Template(Arc<Compiled>);

impl PartialEq for Template {
    /// The same text makes the same of every event.
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

struct Compiled {
    source: String,
    shown: String,
    vocabulary: Vocabulary,
    kind: Kind,
}

enum Kind {
    Plain(Plain),
    Engine(Box<Engine>),
}

/// A template that can't be compiled, or can't be rendered for an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

impl Template {
    /// Compiles `source` for events and checks every name in it: fields, filters, tests, functions.
    pub fn compile(source: &str) -> Result<Self, TemplateError> {
        Self::compile_for(source, Vocabulary::Event)
    }

    /// The same, where the names are those of something else.
    pub fn compile_for(source: &str, vocabulary: Vocabulary) -> Result<Self, TemplateError> {
        Self::compile_fragments(&[Fragment::written(source)], vocabulary)
    }

    /// The same of a template in pieces: what was inserted is text, whatever it looks like.
    pub fn compile_fragments(fragments: &[Fragment], vocabulary: Vocabulary) -> Result<Self, TemplateError> {
        let source = inserted::source(fragments)?;
        if source.len() > MAX_SOURCE {
            let length = source.len();
            return Err(TemplateError(format!("the template has {length} bytes; at most {MAX_SOURCE} are possible")));
        }
        let kind = match Plain::of(fragments, &vocabulary) {
            Some(plain) => Kind::Plain(plain),
            None => Kind::Engine(Box::new(Engine::compile(&source, vocabulary.clone())?)),
        };
        let shown = fragments.iter().map(|fragment| fragment.text.as_str()).collect();
        Ok(Self(Arc::new(Compiled { source: source.into_owned(), shown, vocabulary, kind })))
    }

    /// The template as written; what was inserted into it as strings.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// For people: as written, with what was inserted in its place.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.0.shown
    }

    /// No expression in it: the same text for every event.
    #[must_use]
    pub fn fixed(&self) -> Option<&str> {
        match &self.0.kind {
            Kind::Plain(plain) => plain.fixed(),
            Kind::Engine(_) => None,
        }
    }

    /// What stands in every text that it makes, where that can be told.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        match &self.0.kind {
            Kind::Plain(plain) => Some(plain.texts()),
            Kind::Engine(_) => None,
        }
        .into_iter()
        .flatten()
    }

    /// Whether it changes what it inserts by a filter, other than by `default`.
    #[must_use]
    pub fn has_filters(&self) -> bool {
        let mut filters = self.source().split('|').skip(1).map(str::trim_start);
        filters.any(|filter| !filter.starts_with("default") && !filter.starts_with(inserted::FILTER))
    }

    /// The names that it uses: `session`, `headers`.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        match &self.0.kind {
            Kind::Plain(plain) => plain.names().collect(),
            Kind::Engine(engine) => engine.names().collect(),
        }
    }

    /// The names in it that can be null and have no `default`: where an address would be `render_failed` then.
    #[must_use]
    pub fn nullable(&self) -> Vec<String> {
        match &self.0.kind {
            Kind::Plain(plain) => plain.nullable(&self.0.vocabulary),
            Kind::Engine(engine) => engine.nullable(),
        }
    }

    /// The first name that it inserts unescaped, where it looks like JSON: a quote in that value makes it none.
    #[must_use]
    pub fn unescaped_in_json(&self) -> Option<&str> {
        let source = self.source();
        unescaped::looks_like_json(source).then(|| unescaped::first(source, &self.0.vocabulary)).flatten()
    }

    /// The text for one event; null is the empty string.
    pub fn render(&self, scope: Scope<'_>) -> Result<String, TemplateError> {
        match &self.0.kind {
            Kind::Plain(plain) => Ok(plain.render(scope)),
            Kind::Engine(engine) => engine.render(Mode::Text, &scope).map(|rendered| rendered.text),
        }
    }

    /// The same, but an expression that is null without a `default` is an error: for topics, routing keys, URLs and paths.
    pub fn render_address(&self, scope: Scope<'_>) -> Result<String, TemplateError> {
        match &self.0.kind {
            Kind::Plain(plain) => plain.render_address(scope),
            Kind::Engine(engine) => engine.render(Mode::Address, &scope).map(|rendered| rendered.text),
        }
    }

    /// The same as `render`, but a template whose expressions were all null is `None`, and so is an empty template: for
    /// Kafka keys.
    pub fn render_key(&self, scope: Scope<'_>) -> Result<Option<String>, TemplateError> {
        match &self.0.kind {
            Kind::Plain(plain) => Ok(plain.render_key(scope)),
            Kind::Engine(engine) => engine.render(Mode::Key, &scope).map(|rendered| {
                let is_null = !rendered.some_value && (rendered.some_null || rendered.text.is_empty());
                (!is_null).then_some(rendered.text)
            }),
        }
    }

    /// Like `render_address`, with what each expression makes percent-encoded: for the path and query of a URL.
    ///
    /// A path with a segment `.` or `..` is an error: whoever parses the URL would go up by it, encoded or not.
    pub fn render_url(&self, scope: Scope<'_>) -> Result<String, TemplateError> {
        let text = match &self.0.kind {
            Kind::Plain(plain) => plain.render_url(scope)?,
            Kind::Engine(engine) => engine.render(Mode::Url, &scope)?.text,
        };
        let path = text.split(['?', '#']).next().unwrap_or_default();
        if path.split(['/', '\\']).any(|segment| segment == "." || segment == "..") {
            return Err(TemplateError(format!("the path {path} has a segment of dots only")));
        }
        Ok(text)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets may have been inserted into the source before it was compiled.
        f.write_str("Template(…)")
    }
}

/// An expression of an address that was null.
fn is_null(expression: &str) -> TemplateError {
    TemplateError(format!(
        "{expression} is null for this event; what to use then is written {{{{ {expression} | default(\"…\") }}}}"
    ))
}
