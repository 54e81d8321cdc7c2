//! Texts that something else put into a template, as `${VAR}` does: whatever is in them, they stay texts.
//!
//! Between expressions such a text becomes an expression of its own, `{{ "…" | FILTER }}`, and within a string of an
//! expression it is escaped as a part of that string. Anywhere else in an expression it would be an expression: an error.

use std::borrow::Cow;
use std::fmt;

use minijinja::value::{Object, ObjectRepr, Value};

use super::TemplateError;
use std::sync::Arc;

/// A piece of a template, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// What it is.
    pub text: String,
    /// Not written in the template, but put into it: a text, never an expression.
    pub is_inserted: bool,
}

impl Fragment {
    /// A piece as it was written.
    #[must_use]
    pub fn written(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_inserted: false }
    }

    /// A text that was put there.
    #[must_use]
    pub fn inserted(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_inserted: true }
    }
}

/// The filter that marks such a text. Nobody else can call it.
pub(super) const FILTER: &str = "regards_relay_inserted";

/// What the filter gives: written as it is, into a URL too.
#[derive(Debug)]
pub(super) struct Inserted(pub(super) String);

impl Object for Inserted {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The filter itself.
pub(super) fn mark(text: String) -> Value {
    Value::from_object(Inserted(text))
}

/// The template that means these fragments.
pub(super) fn source(fragments: &[Fragment]) -> Result<Cow<'_, str>, TemplateError> {
    let mut written = fragments.iter().filter(|fragment| !fragment.is_inserted);
    if written.any(|fragment| fragment.text.contains(FILTER)) {
        return Err(TemplateError(format!("there is no filter {FILTER}")));
    }
    if let [Fragment { text, is_inserted: false }] = fragments {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::new();
    let mut place = Place::Text;
    for Fragment { text, is_inserted } in fragments {
        if !is_inserted {
            out.push_str(text);
            place = place.after(text);
            continue;
        }
        match place {
            Place::Comment => {}
            Place::Text => push_expression(&mut out, text, ("", "")),
            Place::Raw => push_expression(&mut out, text, ("{% endraw %}", "{% raw %}")),
            Place::Expression(_) => {
                return Err(TemplateError(
                    "what `${…}` stands for is a text, never an expression: within one it stands in quotes, as in \
                     {{ default(\"${VAR}\") }}"
                        .to_owned(),
                ));
            }
            Place::Quoted { close, quote, escaped } => {
                if escaped {
                    out.push('\\');
                }
                push_escaped(&mut out, text);
                place = Place::Quoted { close, quote, escaped: false };
            }
        }
    }
    Ok(Cow::Owned(out))
}

fn push_expression(out: &mut String, text: &str, (before, after): (&str, &str)) {
    // A brace right before would become a part of the next one.
    let brace = if out.ends_with('{') { out.pop() } else { None };
    out.push_str(before);
    out.push_str("{{ \"");
    out.extend(brace);
    push_escaped(out, text);
    out.push_str("\" | ");
    out.push_str(FILTER);
    out.push_str(" }}");
    out.push_str(after);
}

fn push_escaped(out: &mut String, text: &str) {
    for char in text.chars() {
        if matches!(char, '\\' | '"' | '\'') {
            out.push('\\');
        }
        out.push(char);
    }
}

/// Where in a template something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    /// Between `{% raw %}` and `{% endraw %}`.
    Raw,
    Comment,
    /// In an expression or a block, up to its end.
    Expression(&'static str),
    /// In a string of one.
    Quoted {
        close: &'static str,
        quote: char,
        escaped: bool,
    },
}

impl Place {
    /// The place at the end of a text that begins there.
    fn after(self, text: &str) -> Self {
        let mut place = self;
        let mut rest = text;
        while !rest.is_empty() {
            let (next, used) = place.step(rest);
            place = next;
            let (_, after) = rest.split_at_checked(used.max(1)).unwrap_or(("", ""));
            rest = after;
        }
        place
    }

    /// The next place, and how many bytes lie before it.
    fn step(self, rest: &str) -> (Self, usize) {
        match self {
            Self::Text => match rest.find("{{").into_iter().chain(rest.find("{%")).chain(rest.find("{#")).min() {
                None => (self, rest.len()),
                Some(at) => {
                    let opened = rest.get(at..).unwrap_or_default();
                    let next = match opened.get(..2) {
                        Some("{{") => Self::Expression("}}"),
                        Some("{#") => Self::Comment,
                        _ if is_block(opened, "raw") => Self::Raw,
                        _ => Self::Expression("%}"),
                    };
                    let end = match next {
                        Self::Raw => opened.find("%}").map_or(opened.len(), |end| end + 2),
                        _ => 2,
                    };
                    (next, at + end)
                }
            },
            Self::Raw => {
                let end = rest.match_indices("{%").find_map(|(at, _)| {
                    let opened = rest.get(at..)?;
                    is_block(opened, "endraw").then(|| at + opened.find("%}").map_or(opened.len(), |end| end + 2))
                });
                end.map_or((self, rest.len()), |end| (Self::Text, end))
            }
            Self::Comment => rest.find("#}").map_or((self, rest.len()), |at| (Self::Text, at + 2)),
            Self::Expression(close) => {
                if rest.starts_with(close) {
                    return (Self::Text, close.len());
                }
                match rest.chars().next() {
                    Some(quote @ ('"' | '\'')) => (Self::Quoted { close, quote, escaped: false }, 1),
                    other => (self, other.map_or(1, char::len_utf8)),
                }
            }
            Self::Quoted { close, quote, escaped } => {
                let char = rest.chars().next().unwrap_or_default();
                let next = match char {
                    _ if escaped => Self::Quoted { close, quote, escaped: false },
                    '\\' => Self::Quoted { close, quote, escaped: true },
                    _ if char == quote => Self::Expression(close),
                    _ => self,
                };
                (next, char.len_utf8())
            }
        }
    }
}

/// Whether it begins with that block: `{% raw %}`, `{%- raw -%}`.
fn is_block(opened: &str, name: &str) -> bool {
    let Some(inside) = opened.strip_prefix("{%").and_then(|rest| rest.split_once("%}")) else { return false };
    inside.0.trim_matches(['-', '+', ' ', '\t', '\n', '\r']) == name
}
