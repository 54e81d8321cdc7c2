//! Are the names in a template those of something? Asked when the file is checked, not when the event comes.

use std::collections::BTreeSet;

use minijinja::{Environment, ErrorKind};

use super::TemplateError;
use crate::event::vocabulary::{Holds, PROPERTIES, Shape, Vocabulary, unknown};

/// minijinja's functions that are left; each gives the same for the same.
const FUNCTIONS: [&str; 3] = ["dict", "namespace", "range"];

/// Checks all names, and the filters and tests of `source`.
pub(super) fn check(
    names: &BTreeSet<String>,
    vocabulary: &Vocabulary,
    source: &str,
    environment: &Environment<'_>,
) -> Result<(), TemplateError> {
    for name in names {
        check_name(name, vocabulary)?;
    }
    check_calls(source, environment)
}

fn check_name(name: &str, vocabulary: &Vocabulary) -> Result<(), TemplateError> {
    let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
    let Some(Shape { holds, .. }) = vocabulary.shape(first) else {
        return if FUNCTIONS.contains(&first) { Ok(()) } else { Err(no_such(first, first, vocabulary.names())) };
    };
    let what = match (holds, rest) {
        (_, None) | (Holds::Members | Holds::Anything, _) => return Ok(()),
        (Holds::Properties, Some(rest)) => return check_property(rest),
        (Holds::List, _) => "a list",
        (Holds::Text, _) => "text",
    };
    let rest = rest.unwrap_or_default();
    let hint = if ["upper", "lower", "trim", "replace"].contains(&rest) {
        format!("; write {first} | {rest}")
    } else {
        String::new()
    };
    Err(TemplateError(format!("{first} is {what} and has no member {rest}{hint}")))
}

fn check_property(name: &str) -> Result<(), TemplateError> {
    let (property, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
    match rest {
        _ if property == "headers" => Err(TemplateError("headers are at the top: headers[\"…\"]".to_owned())),
        _ if !PROPERTIES.contains(&property) => Err(no_such(&format!("properties.{property}"), property, PROPERTIES)),
        Some(rest) => Err(TemplateError(format!("properties.{property} has no members; .{rest} is too much"))),
        None => Ok(()),
    }
}

fn no_such<'k>(shown: &str, name: &str, known: impl IntoIterator<Item = &'k str>) -> TemplateError {
    let (message, hint) = unknown(shown, name, known);
    TemplateError(format!("{message}; {hint}"))
}

/// Checks the filters and tests: minijinja looks them up only when it gets there.
fn check_calls(source: &str, environment: &Environment<'_>) -> Result<(), TemplateError> {
    let mut before = Before::Other;
    let mut state = environment.empty_state();
    for word in Words::of(source) {
        before = match (before, word) {
            (_, "|") | (Before::BlockStart, "filter") => Before::Bar,
            (Before::Other, "is") | (Before::Is, "not") => Before::Is,
            (_, "{%" | "{%-" | "{%+") => Before::BlockStart,
            (Before::Bar, name) => {
                let found = state.apply_filter(name, &[]);
                if found.is_err_and(|error| error.kind() == ErrorKind::UnknownFilter) {
                    return Err(TemplateError(format!("there is no filter {name}")));
                }
                Before::Other
            }
            (Before::Is, name) => {
                let found = state.perform_test(name, &[]);
                if found.is_err_and(|error| error.kind() == ErrorKind::UnknownTest) {
                    return Err(TemplateError(format!("there is no test {name}")));
                }
                Before::Other
            }
            _ => Before::Other,
        };
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Bar,
    Is,
    BlockStart,
    Other,
}

/// The words and signs inside `{{ }}` and `{% %}`, strings left out.
struct Words<'a> {
    rest: &'a str,
    inside: bool,
}

impl<'a> Words<'a> {
    fn of(source: &'a str) -> Self {
        Self { rest: source, inside: false }
    }

    /// The length of the `{% raw %}` block that starts here, up to its `endraw`.
    fn raw_block(&self) -> Option<usize> {
        let block = self.rest.strip_prefix("{%")?.trim_start_matches(['-', '+', ' ', '\t', '\n', '\r']);
        block.starts_with("raw").then(|| self.rest.find("endraw")).flatten()
    }

    fn take(&mut self, bytes: usize) -> Option<&'a str> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if !self.inside {
            loop {
                let start =
                    self.rest.find("{{").into_iter().chain(self.rest.find("{%")).chain(self.rest.find("{#")).min()?;
                self.take(start)?;
                if !self.rest.starts_with("{#") {
                    break;
                }
                let end = self.rest.find("#}")? + 2;
                self.take(end)?;
            }
            if let Some(raw) = self.raw_block() {
                self.take(raw)?;
                return self.next();
            }
            self.inside = true;
            return self.take(2);
        }
        self.rest = self.rest.trim_start();
        let first = self.rest.chars().next()?;
        if self.rest.starts_with("}}") || self.rest.starts_with("%}") {
            self.inside = false;
            return self.take(2);
        }
        if first == '"' || first == '\'' {
            let mut escaped = false;
            let end = self.rest.char_indices().skip(1).find(|(_, char)| {
                let ends = *char == first && !escaped;
                escaped = *char == '\\' && !escaped;
                ends
            });
            let end = end.map_or(self.rest.len(), |(at, _)| at + 1);
            return self.take(end).map(|_| "\"\"");
        }
        if first.is_alphanumeric() || first == '_' {
            let end = self.rest.find(|char: char| !(char.is_alphanumeric() || char == '_')).unwrap_or(self.rest.len());
            return self.take(end);
        }
        self.take(first.len_utf8())
    }
}
