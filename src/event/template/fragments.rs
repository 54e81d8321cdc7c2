//! Text that is inserted into a template, for example by `${VAR}`. It stays text, whatever characters it contains.
//!
//! Outside expressions the text becomes an expression of its own, `{{ "…" | FILTER }}`. Within a string of an expression it is
//! escaped as a part of the string. Elsewhere in an expression it is an error, as it would be code.

use std::borrow::Cow;
use std::fmt;

use minijinja::value::{Object, ObjectRepr, Value};

use super::TemplateError;
use std::sync::Arc;

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    pub text: String,
    /// Inserted into the template: always text, never an expression.
    pub is_inserted: bool,
}

impl Fragment {
    #[must_use]
    pub fn written(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_inserted: false }
    }

    #[must_use]
    pub fn inserted(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_inserted: true }
    }
}

/// The filter that marks inserted text. Templates can't call it.
pub(super) const FILTER: &str = "regards_relay_inserted";

/// The filter's result. It is written as it is, also into a URL.
#[derive(Debug)]
pub(super) struct InsertedText(pub(super) String);

impl Object for InsertedText {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn mark(text: String) -> Value {
    Value::from_object(InsertedText(text))
}

/// The source of the template that these fragments make.
pub(super) fn source(fragments: &[Fragment]) -> Result<Cow<'_, str>, TemplateError> {
    let mut written = fragments.iter().filter(|fragment| !fragment.is_inserted);
    if written.any(|fragment| fragment.text.contains(FILTER)) {
        return Err(TemplateError(format!("there is no filter {FILTER}")));
    }
    if let [Fragment { text, is_inserted: false }] = fragments {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::new();
    let mut position = Position::Text;
    for Fragment { text, is_inserted } in fragments {
        if !is_inserted {
            out.push_str(text);
            position = position.after(text);
            continue;
        }
        match position {
            Position::Comment => {}
            Position::Text => push_expression(&mut out, text, ("", "")),
            Position::Raw => push_expression(&mut out, text, ("{% endraw %}", "{% raw %}")),
            Position::Expression(_) => {
                return Err(TemplateError(
                    "the value of `${…}` is text, not an expression: within an expression write it in quotes, as in \
                     {{ default(\"${VAR}\") }}"
                        .to_owned(),
                ));
            }
            Position::Quoted { close, quote, escaped } => {
                if escaped {
                    out.push('\\');
                }
                push_escaped(&mut out, text);
                position = Position::Quoted { close, quote, escaped: false };
            }
        }
    }
    Ok(Cow::Owned(out))
}

fn push_expression(out: &mut String, text: &str, (before, after): (&str, &str)) {
    // A brace right before would become a part of the opening `{{`.
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

/// The syntactic position within a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Text,
    /// Between `{% raw %}` and `{% endraw %}`.
    Raw,
    Comment,
    /// In an expression or a block that ends with this text.
    Expression(&'static str),
    /// In a string of an expression.
    Quoted {
        close: &'static str,
        quote: char,
        escaped: bool,
    },
}

impl Position {
    fn after(self, text: &str) -> Self {
        let mut position = self;
        let mut rest = text;
        while !rest.is_empty() {
            let (next, used) = position.step(rest);
            position = next;
            let (_, after) = rest.split_at_checked(used.max(1)).unwrap_or(("", ""));
            rest = after;
        }
        position
    }

    /// The next position, and how many bytes come before it.
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

/// Whether the text begins with that block: `{% raw %}`, `{%- raw -%}`.
fn is_block(opened: &str, name: &str) -> bool {
    let Some(inside) = opened.strip_prefix("{%").and_then(|rest| rest.split_once("%}")) else { return false };
    inside.0.trim_matches(['-', '+', ' ', '\t', '\n', '\r']) == name
}
