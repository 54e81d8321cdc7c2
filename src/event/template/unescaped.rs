//! What a template inserts into JSON without escaping it.

use super::words::Words;
use super::{inserted, plain};
use crate::event::vocabulary::Vocabulary;

/// Fields that never hold what JSON would have to escape: made by the relay, words of a family, dates, names of the configuration.
const HARMLESS: [&str; 7] = ["id", "type", "source", "status", "outcome", "expires", "time"];
/// Filters after which there is nothing to escape.
const ESCAPING: [&str; 9] = ["tojson", "int", "float", "round", "abs", "length", "count", "date", inserted::FILTER];

/// Whether it makes JSON, as far as that can be told from how it begins.
pub(super) fn looks_like_json(source: &str) -> bool {
    let source = source.trim_start();
    source.starts_with('[') || (source.starts_with('{') && !plain::OPENINGS.iter().any(|sign| source.starts_with(sign)))
}

/// The first name whose value goes into the text as it is, and needs not be harmless there.
pub(super) fn first<'s>(source: &'s str, vocabulary: &Vocabulary) -> Option<&'s str> {
    let mut inside = false;
    let (mut found, mut before, mut is_escaped, mut is_asked) = (None, "", false, false);
    for word in Words::of(source) {
        match word {
            _ if word.starts_with("{{") => (inside, found, is_escaped, is_asked) = (true, None, false, false),
            _ if word.ends_with("}}") && found.is_some() && !is_escaped => return found,
            _ if word.ends_with("}}") || word.starts_with("{%") => (inside, found) = (false, None),
            _ if before == "|" => is_escaped |= ESCAPING.contains(&word),
            // What is only asked for is not inserted.
            "if" => is_asked = true,
            "else" => is_asked = false,
            _ if inside && !is_asked && found.is_none() && before != "." => {
                found = (!HARMLESS.contains(&word) && vocabulary.shape(word).is_some()).then_some(word);
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
    fn what_may_break_the_json_is_found() {
        let found = |source| first(source, &Vocabulary::Event);
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
    fn json_is_told_by_how_it_begins() {
        assert!(looks_like_json(" {\"a\": 1}") && looks_like_json("[1]") && looks_like_json("{ {{ tenant }}"));
        assert!(!looks_like_json("{{ tenant }}") && !looks_like_json("{% if a %}") && !looks_like_json("x {"));
    }
}
