//! Checks the names in a template when the configuration is loaded.

use std::collections::BTreeSet;

use minijinja::Environment;

use super::tokens::Tokens;
use super::{TemplateError, calls};
use crate::event::schema::{EventSchema, FieldKind, FieldType, PROPERTIES, unknown};

/// The functions of minijinja that templates can use. All are pure.
const FUNCTIONS: [&str; 3] = ["dict", "namespace", "range"];

/// Checks all names, and the filters and tests of `source`.
pub(super) fn check(
    names: &BTreeSet<String>,
    schema: &EventSchema,
    source: &str,
    environment: &Environment<'_>,
) -> Result<(), TemplateError> {
    for name in names {
        check_name(name, schema)?;
    }
    calls::check(source, environment)
}

fn check_name(name: &str, schema: &EventSchema) -> Result<(), TemplateError> {
    let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
    let Some(FieldType { kind, .. }) = schema.field_type(first) else {
        return match schema {
            _ if FUNCTIONS.contains(&first) => Ok(()),
            EventSchema::Digest(digest) if digest.event.field_type(first).is_some() => Err(not_common(first)),
            _ => Err(no_such(first, first, schema.names())),
        };
    };
    let what = match (kind, rest) {
        (_, None) | (FieldKind::Map | FieldKind::Any, _) => return Ok(()),
        (FieldKind::Properties, Some(rest)) => return check_property(rest),
        (FieldKind::List, _) => "a list",
        (FieldKind::Number, _) => "a number",
        (FieldKind::Text, _) => "text",
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
        _ if property == "headers" => {
            Err(TemplateError("`headers` is not in `properties`: write headers[\"…\"]".to_owned()))
        }
        _ if !PROPERTIES.contains(&property) => Err(no_such(&format!("properties.{property}"), property, PROPERTIES)),
        Some(rest) => Err(TemplateError(format!("properties.{property} has no members; remove .{rest}"))),
        None => Ok(()),
    }
}

/// The names of what may be sliced, as in `message[:20]`. minijinja does not list them.
pub(super) fn sliced(source: &str) -> impl Iterator<Item = &str> {
    let has_slice = Tokens::of(source).any(|word| word == ":");
    let mut before = "";
    Tokens::of(source).filter(move |word| {
        let is_name = has_slice && !matches!(before, "." | "|");
        before = *word;
        is_name
    })
}

/// A name that each event of a digest has.
pub(super) fn check_member(name: &str, schema: &EventSchema) -> Result<(), TemplateError> {
    match schema {
        EventSchema::Digest(digest) => {
            Err(no_such(&format!("{name} in an event of `events`"), name, digest.event.names()))
        }
        _ => Ok(()),
    }
}

fn not_common(name: &str) -> TemplateError {
    TemplateError(format!(
        "a digest has several events, which may differ in {name}: write {{% for event in events %}}{{{{ event.{name} }}}}{{% endfor %}}, \
         or add it to `by:`"
    ))
}

fn no_such<'k>(shown: &str, name: &str, known: impl IntoIterator<Item = &'k str>) -> TemplateError {
    let (message, hint) = unknown(shown, name, known);
    TemplateError(format!("{message}; {hint}"))
}
