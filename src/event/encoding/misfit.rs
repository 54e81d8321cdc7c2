//! What doesn't fit a schema, and where.

use crate::event::json_value::JsonValue;

/// A value that doesn't fit its schema. It never has the value itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// `extra.size`, `warnings[1]`; empty for the whole value.
    pub path: String,
    pub found: &'static str,
    pub expected: String,
}

/// A longer name of a member is cut in a path, in characters: the keys of a map come from outside.
const MAX_NAME: usize = 60;
/// The number of members that a path shows at its beginning, and at its end.
const MAX_STEPS: usize = 12;

impl Misfit {
    pub(super) fn new(found: &'static str, expected: impl Into<String>) -> Self {
        Self { path: String::new(), found, expected: expected.into() }
    }

    /// `value` has a type that doesn't fit.
    pub(super) fn of(value: &JsonValue<'_>, expected: impl Into<String>) -> Self {
        Self::new(kind_of(value), expected)
    }

    /// It is in the member of that name.
    pub(super) fn in_member(mut self, name: &str) -> Self {
        let end = name.char_indices().nth(MAX_NAME).map_or(name.len(), |(end, _)| end);
        let (name, rest) = name.split_at_checked(end).unwrap_or((name, ""));
        let cut = if rest.is_empty() { "" } else { "…" };
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{name}{cut}{dot}{}", self.path);
        self
    }

    pub(super) fn in_item(mut self, index: usize) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("[{index}]{dot}{}", self.path);
        self
    }
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, found, expected } = self;
        let steps: Vec<&str> = path.split_inclusive(['.', ']']).collect();
        match (steps.get(..MAX_STEPS), steps.get(steps.len().saturating_sub(MAX_STEPS)..)) {
            (Some(first), Some(last)) if steps.len() > 2 * MAX_STEPS => {
                write!(f, "{}…{}: ", first.concat(), last.concat())?;
            }
            _ if path.is_empty() => {}
            _ => write!(f, "{path}: ")?,
        }
        write!(f, "found {found}, expected {expected}")
    }
}

pub(super) fn kind_of(value: &JsonValue<'_>) -> &'static str {
    match value {
        JsonValue::Null => "null",
        JsonValue::Bool(_) => "a boolean",
        JsonValue::Number(_) => "a number",
        JsonValue::Text(_) => "text",
        JsonValue::List(_) => "an array",
        JsonValue::Map(_) => "an object",
    }
}
