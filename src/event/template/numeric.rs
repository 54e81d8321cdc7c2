//! Finds the values that a template compares or calculates with. minijinja needs these as doubles.

use std::collections::BTreeSet;

use minijinja::value::Value;

use super::exact_number;
use super::tokens::Tokens;

/// Tests and filters that depend on the value of a number.
const OF_NUMBERS: [&str; 24] = [
    "divisibleby",
    "eq",
    "equalto",
    "even",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "integer",
    "le",
    "lessthan",
    "lt",
    "max",
    "min",
    "ne",
    "number",
    "odd",
    "reject",
    "rejectattr",
    "select",
    "selectattr",
    "sort",
    "sum",
    "unique",
];
/// Words that are never names of an event.
const KEYWORDS: [&str; 13] =
    ["and", "elif", "else", "false", "if", "in", "is", "loop", "none", "not", "or", "range", "true"];

/// The values that a template uses as numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NumericUses {
    /// The values at these paths.
    Paths(BTreeSet<Vec<String>>),
    /// Unknown, for example because a loop's variable is used: any value.
    All,
}

impl NumericUses {
    /// `is_known` tells whether a name is one of the event's.
    pub(super) fn of(source: &str, is_known: impl Fn(&str) -> bool) -> Self {
        let mut paths = BTreeSet::new();
        let mut expression = Vec::new();
        for word in Tokens::of(source) {
            expression.push(word);
            if word.ends_with("}}") || word.ends_with("%}") {
                if is_numeric(&expression) {
                    let found = paths_in(&expression);
                    if !found.iter().filter_map(|path| path.first()).all(|first| is_known(first)) {
                        return Self::All;
                    }
                    paths.extend(found);
                }
                expression.clear();
            }
        }
        Self::Paths(paths)
    }

    /// The value of that name, with doubles where the template uses it as a number.
    pub(super) fn convert(&self, name: &str, value: Value) -> Value {
        match self {
            Self::All => exact_number::to_doubles(value, &[]),
            Self::Paths(paths) => {
                let paths = paths.iter().filter_map(|path| path.split_first());
                paths
                    .filter(|(first, _)| *first == name)
                    .fold(value, |value, (_, rest)| exact_number::to_doubles(value, rest))
            }
        }
    }
}

/// Whether an expression compares numbers or calculates with them.
fn is_numeric(expression: &[&str]) -> bool {
    let mut before = "";
    expression.iter().any(|word| {
        let found = match *word {
            "<" | ">" | "+" | "-" | "*" | "/" | "%" => true,
            "=" => matches!(before, "=" | "!"),
            name => matches!(before, "|" | "is") && OF_NUMBERS.contains(&name),
        };
        if (before, *word) != ("is", "not") {
            before = word;
        }
        found
    })
}

/// The names in an expression with their members.
fn paths_in(expression: &[&str]) -> Vec<Vec<String>> {
    let mut paths: Vec<Vec<String>> = Vec::new();
    let mut before = "";
    let mut is_path = false;
    for word in expression {
        let is_name = word.starts_with(|first: char| first.is_alphabetic() || first == '_');
        match (before, paths.last_mut()) {
            (".", Some(path)) if is_name && is_path => path.push((*word).to_owned()),
            (".", _) if is_name => {}
            _ if *word == "." => {}
            ("|" | "is", _) => is_path = false,
            _ if is_name && !KEYWORDS.contains(word) => {
                paths.push(vec![(*word).to_owned()]);
                is_path = true;
            }
            _ => is_path = false,
        }
        if (before, *word) != ("is", "not") {
            before = word;
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_used_as_numbers_are_found() {
        let of = |source| NumericUses::of(source, |name| ["extra", "message", "headers"].contains(&name));
        let paths = |paths: &[&[&str]]| {
            NumericUses::Paths(paths.iter().map(|path| path.iter().map(|name| (*name).to_owned()).collect()).collect())
        };
        for (source, expected) in [
            ("{{ extra.x }} {{- message | tojson -}}", paths(&[])),
            (
                "{{ extra.x }} {% if extra.y == 3 and message is not none %}a{% endif %}",
                paths(&[&["extra", "y"], &["message"]]),
            ),
            ("{{ extra.a.b | default(0) * 2 }}", paths(&[&["extra", "a", "b"]])),
            ("{% if extra['a'].b > 2 or loop.index > 1 %}{% endif %}", paths(&[&["extra"]])),
            ("{% if extra.n is not divisibleby(3) %}{% endif %}", paths(&[&["extra", "n"]])),
            ("{{ headers.list | sort }} {{ extra | tojson(indent=2) }}", paths(&[&["headers", "list"]])),
            ("{% for n in extra.list %}{% if n < 5 %}{{ n }}{% endif %}{% endfor %}", NumericUses::All),
        ] {
            assert_eq!(of(source), expected, "{source}");
        }
    }
}
