//! Templates over the event: for topics, keys, addresses, headers and bodies.
//!
//! The language is minijinja's. Names are checked when the template is compiled. Null renders as the empty string, and `default`
//! replaces it. There is no clock, no randomness and no other template to include, and the cost of one rendering is bounded.
//! Most topics, keys and paths are text with fields in between: these are rendered without minijinja, see [`simple`].

mod calls;
mod exact_number;
mod fragments;
mod jinja;
mod json_escaping;
mod names;
mod numeric;
mod parts;
mod simple;
#[cfg(test)]
mod tests;
mod tokens;
mod values;

use std::fmt;
use std::sync::Arc;

pub use self::fragments::Fragment;
use self::jinja::{JinjaTemplate, RenderMode};
pub use self::parts::TemplatePart;
use self::simple::SimpleTemplate;
pub(crate) use self::simple::percent_encode;
use super::EventView;
use super::schema::EventSchema;

/// The longest template, in bytes.
const MAX_SOURCE: usize = 64 * 1024;

/// A compiled and checked template. Cheap to clone.
#[derive(Clone)]
pub struct Template(Arc<Inner>);

impl PartialEq for Template {
    /// Equal texts render equally for every event.
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

struct Inner {
    source: String,
    shown: String,
    /// None: the template has blocks or comments.
    parts: Option<Vec<TemplatePart>>,
    schema: EventSchema,
    program: Program,
}

enum Program {
    Simple(SimpleTemplate),
    Jinja(Box<JinjaTemplate>),
}

/// The template can't be compiled, or can't be rendered for this event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

impl Template {
    /// Compiles a template for events and checks every name in it: fields, filters, tests, functions.
    pub fn compile(source: &str) -> Result<Self, TemplateError> {
        Self::compile_for(source, EventSchema::Event)
    }

    /// Compiles a template for that schema.
    pub fn compile_for(source: &str, schema: EventSchema) -> Result<Self, TemplateError> {
        Self::compile_fragments(&[Fragment::written(source)], schema)
    }

    /// Compiles a template in which inserted fragments are always text, whatever characters they contain.
    pub fn compile_fragments(fragments: &[Fragment], schema: EventSchema) -> Result<Self, TemplateError> {
        let source = fragments::source(fragments)?;
        if source.len() > MAX_SOURCE {
            let length = source.len();
            return Err(TemplateError(format!("the template has {length} bytes; at most {MAX_SOURCE} are allowed")));
        }
        let program = match SimpleTemplate::of(fragments, &schema) {
            Some(simple) => Program::Simple(simple),
            None => Program::Jinja(Box::new(JinjaTemplate::compile(&source, schema.clone())?)),
        };
        let shown = fragments.iter().map(|fragment| fragment.text.as_str()).collect();
        let parts = parts::of(fragments);
        Ok(Self(Arc::new(Inner { source: source.into_owned(), shown, parts, schema, program })))
    }

    /// The template's source, with inserted fragments as strings.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The template for people, with the text of inserted fragments.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.0.shown
    }

    /// The template as texts and expressions, to describe it. None if it has more than these: blocks or comments.
    #[must_use]
    pub fn parts(&self) -> Option<&[TemplatePart]> {
        self.0.parts.as_deref()
    }

    /// The rendered text, if it is the same for every event.
    #[must_use]
    pub fn fixed(&self) -> Option<&str> {
        match &self.0.program {
            Program::Simple(simple) => simple.fixed(),
            Program::Jinja(_) => None,
        }
    }

    /// The literal parts of a simple template; nothing for others.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        match &self.0.program {
            Program::Simple(simple) => Some(simple.texts()),
            Program::Jinja(_) => None,
        }
        .into_iter()
        .flatten()
    }

    /// Whether the template has filters other than `default`.
    #[must_use]
    pub fn has_filters(&self) -> bool {
        let mut filters = self.source().split('|').skip(1).map(str::trim_start);
        filters.any(|filter| !filter.starts_with("default") && !filter.starts_with(fragments::FILTER))
    }

    /// The names that the template uses: `session`, `headers`.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        match &self.0.program {
            Program::Simple(simple) => simple.names().collect(),
            Program::Jinja(jinja) => jinja.names().collect(),
        }
    }

    /// The names that can be null and have no `default`. If one of them is null, rendering an address fails.
    #[must_use]
    pub fn nullable(&self) -> Vec<String> {
        match &self.0.program {
            Program::Simple(simple) => simple.nullable(&self.0.schema),
            Program::Jinja(jinja) => jinja.nullable(),
        }
    }

    /// If the template looks like JSON: the first name that is inserted unescaped, so that a quote in its value breaks the JSON.
    #[must_use]
    pub fn unescaped_in_json(&self) -> Option<&str> {
        let source = self.source();
        json_escaping::looks_like_json(source).then(|| json_escaping::first_unescaped(source, &self.0.schema)).flatten()
    }

    /// Renders the template; null becomes the empty string.
    pub fn render(&self, view: EventView<'_>) -> Result<String, TemplateError> {
        match &self.0.program {
            Program::Simple(simple) => Ok(simple.render(view)),
            Program::Jinja(jinja) => jinja.render(RenderMode::Text, &view).map(|rendered| rendered.text),
        }
    }

    /// Renders a topic, routing key or path: an expression that is null without a `default` is an error.
    pub fn render_address(&self, view: EventView<'_>) -> Result<String, TemplateError> {
        match &self.0.program {
            Program::Simple(simple) => simple.render_address(view),
            Program::Jinja(jinja) => jinja.render(RenderMode::Address, &view).map(|rendered| rendered.text),
        }
    }

    /// The rendered text, if it depends on nothing but the topic.
    #[must_use]
    pub fn render_with_topic(&self, topic: &str) -> Option<String> {
        match &self.0.program {
            Program::Simple(simple) => simple.render_with_topic(topic),
            Program::Jinja(_) => None,
        }
    }

    /// Renders a Kafka key: none if all expressions are null or the template is empty.
    pub fn render_key(&self, view: EventView<'_>) -> Result<Option<String>, TemplateError> {
        match &self.0.program {
            Program::Simple(simple) => Ok(simple.render_key(view)),
            Program::Jinja(jinja) => jinja.render(RenderMode::Key, &view).map(|rendered| {
                let is_null = !rendered.some_value && (rendered.some_null || rendered.text.is_empty());
                (!is_null).then_some(rendered.text)
            }),
        }
    }

    /// Renders the path and query of a URL, like `render_address` and with the value of each expression percent-encoded.
    ///
    /// A segment `.` or `..` is an error: URL parsers remove it and its parent, even if it is encoded.
    pub fn render_url(&self, view: EventView<'_>) -> Result<String, TemplateError> {
        let text = match &self.0.program {
            Program::Simple(simple) => simple.render_url(view)?,
            Program::Jinja(jinja) => jinja.render(RenderMode::Url, &view)?.text,
        };
        let path = text.split(['?', '#']).next().unwrap_or_default();
        if path.split(['/', '\\']).any(|segment| segment == "." || segment == "..") {
            return Err(TemplateError(format!("the path {path} has a segment `.` or `..`")));
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

fn null_error(expression: &str) -> TemplateError {
    TemplateError(format!(
        "{expression} is null for this event; to use another value then, write {{{{ {expression} | default(\"…\") }}}}"
    ))
}
