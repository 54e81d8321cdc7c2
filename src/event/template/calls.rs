//! Checks the names of filters and tests in a template, and suggests what was meant.

use minijinja::{Environment, ErrorKind};

use super::TemplateError;
use super::tokens::Tokens;
use crate::event::schema::closest;

/// Common filters, and their names in other languages. A test asks minijinja for each.
const FILTERS: [(&str, &[&str]); 33] = [
    ("lower", &["lowercase", "tolower", "to_lower", "downcase"]),
    ("upper", &["uppercase", "toupper", "to_upper", "upcase"]),
    ("tojson", &["json", "to_json", "jsonify", "toJson", "dump"]),
    ("trim", &["strip"]),
    ("length", &["len", "size"]),
    ("default", &["or", "ifnull", "coalesce"]),
    ("replace", &["gsub", "sub"]),
    ("date", &["strftime", "format_date", "datetime", "dateformat"]),
    ("int", &["integer", "toint"]),
    ("float", &["double", "number"]),
    ("string", &["str", "tostring"]),
    ("abs", &[]),
    ("attr", &[]),
    ("batch", &[]),
    ("bool", &[]),
    ("capitalize", &[]),
    ("dictsort", &[]),
    ("first", &[]),
    ("indent", &[]),
    ("items", &[]),
    ("join", &[]),
    ("last", &[]),
    ("lines", &[]),
    ("list", &[]),
    ("map", &[]),
    ("max", &[]),
    ("min", &[]),
    ("reverse", &[]),
    ("round", &[]),
    ("sort", &[]),
    ("split", &[]),
    ("title", &[]),
    ("unique", &[]),
];
/// The same for tests, as in `session is none`.
const TESTS: [(&str, &[&str]); 8] = [
    ("none", &["null", "nil", "empty"]),
    ("defined", &[]),
    ("string", &["text"]),
    ("number", &[]),
    ("startingwith", &["startswith"]),
    ("endingwith", &["endswith"]),
    ("true", &[]),
    ("false", &[]),
];

/// A similar name, as the end of a sentence.
fn suggestion(name: &str, known: &[(&'static str, &[&str])]) -> String {
    let other = known.iter().find(|(_, others)| others.contains(&name)).map(|(known, _)| *known);
    let near = || closest(name, known.iter().map(|(known, _)| *known));
    other.or_else(near).map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
}

/// Checks the filters and tests: minijinja looks them up only while it renders.
pub(super) fn check(source: &str, environment: &Environment<'_>) -> Result<(), TemplateError> {
    let mut before = PrecedingToken::Other;
    let mut state = environment.empty_state();
    for word in Tokens::of(source) {
        before = match (before, word) {
            (_, "|") | (PrecedingToken::BlockStart, "filter") => PrecedingToken::Bar,
            (PrecedingToken::Other, "is") | (PrecedingToken::Is, "not") => PrecedingToken::Is,
            (_, "{%" | "{%-" | "{%+") => PrecedingToken::BlockStart,
            (PrecedingToken::Bar, name) => {
                let found = state.apply_filter(name, &[]);
                if found.is_err_and(|error| error.kind() == ErrorKind::UnknownFilter) {
                    return Err(TemplateError(format!("there is no filter {name}{}", suggestion(name, &FILTERS))));
                }
                PrecedingToken::Other
            }
            (PrecedingToken::Is, name) => {
                let found = state.perform_test(name, &[]);
                if found.is_err_and(|error| error.kind() == ErrorKind::UnknownTest) {
                    return Err(TemplateError(format!("there is no test {name}{}", suggestion(name, &TESTS))));
                }
                PrecedingToken::Other
            }
            _ => PrecedingToken::Other,
        };
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PrecedingToken {
    Bar,
    Is,
    BlockStart,
    Other,
}

#[cfg(test)]
mod tests {
    use crate::event::Template;

    use super::*;

    #[test]
    fn every_suggested_filter_and_test_exists() {
        let is_there = |source: &str| {
            let error = Template::compile(source).err().map(|error| error.to_string());
            error.is_none_or(|error| !error.contains("there is no"))
        };
        for (filter, others) in FILTERS {
            assert!(is_there(&format!("{{{{ tenant | {filter} }}}}")), "{filter}");
            for other in others {
                assert!(!is_there(&format!("{{{{ tenant | {other} }}}}")), "{other}");
            }
        }
        for (test, others) in TESTS {
            assert!(is_there(&format!("{{{{ tenant is {test} }}}}")), "{test}");
            for other in others {
                assert!(!is_there(&format!("{{{{ tenant is {other} }}}}")), "{other}");
            }
        }
    }
}
