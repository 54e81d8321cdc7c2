//! Finds values that a template inserts into JSON without escaping.

use super::tokens::Tokens;
use super::{fragments, simple};
use crate::event::schema::{EventSchema, FieldKind};

/// Fields that never need escaping: made by the relay, words of a family, dates, names of the configuration.
const HARMLESS: [&str; 7] = ["id", "type", "source", "status", "outcome", "expires", "time"];
/// Filters whose result needs no escaping.
const ESCAPING: [&str; 9] = ["tojson", "int", "float", "round", "abs", "length", "count", "date", fragments::FILTER];

/// Whether the template begins like JSON.
pub(super) fn looks_like_json(source: &str) -> bool {
    let source = source.trim_start();
    source.starts_with('[')
        || (source.starts_with('{') && !simple::OPENINGS.iter().any(|sign| source.starts_with(sign)))
}

/// The first name whose value is inserted unescaped and may need escaping.
pub(super) fn first_unescaped<'s>(source: &'s str, schema: &EventSchema) -> Option<&'s str> {
    let mut inside = false;
    let (mut found, mut before, mut is_escaped, mut in_condition) = (None, "", false, false);
    for word in Tokens::of(source) {
        match word {
            _ if word.starts_with("{{") => (inside, found, is_escaped, in_condition) = (true, None, false, false),
            _ if word.ends_with("}}") && found.is_some() && !is_escaped => return found,
            _ if word.ends_with("}}") || word.starts_with("{%") => (inside, found) = (false, None),
            _ if before == "|" => is_escaped |= ESCAPING.contains(&word),
            // The name in a condition is not inserted.
            "if" => in_condition = true,
            "else" => in_condition = false,
            _ if inside && !in_condition && found.is_none() && before != "." => {
                let is_text = schema.field_type(word).is_some_and(|field| field.kind != FieldKind::Number);
                found = (!HARMLESS.contains(&word) && is_text).then_some(word);
            }
            _ => {}
        }
        before = word;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unescaped_values_are_found() {
        let found = |source| first_unescaped(source, &EventSchema::Event);
        assert_eq!(found(r#"{"a": "{{ message }}"}"#), Some("message"));
        assert_eq!(found(r#"{"a": {{ message | tojson }}, "b": "{{- tenant | upper -}}"}"#), Some("tenant"));
        assert_eq!(found(r#"{"a": {{ ("x " ~ message) | tojson }}, "b": "{{ status }} {{ time | date }}"}"#), None);
        assert_eq!(found(r#"{"a": {{ extra.size }}}"#), Some("extra"));
        assert_eq!(found(r#"{"a": {{ warnings | length }}, "b": {% if message %}1{% else %}2{% endif %}}"#), None);
        assert_eq!(found(r#"{"a": "{{ status ~ message }}"}"#), Some("message"));
        assert_eq!(found(r#"{"a": "{{ 'x' if message else 'y' }}"}"#), None);
        assert_eq!(found(r#"{"a": "{{ 'x' if message else session }}"}"#), Some("session"));
    }

    #[test]
    fn json_is_recognized_by_its_beginning() {
        assert!(looks_like_json(" {\"a\": 1}") && looks_like_json("[1]") && looks_like_json("{ {{ tenant }}"));
        assert!(!looks_like_json("{{ tenant }}") && !looks_like_json("{% if a %}") && !looks_like_json("x {"));
    }
}
