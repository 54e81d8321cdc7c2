//! Are the names in a template those of something? Asked when the file is checked, not when the event comes.

use std::collections::BTreeSet;

use minijinja::Environment;

use super::{TemplateError, calls};
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
    calls::check(source, environment)
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
