//! `${VAR}`, `${VAR:-default}`, `${file:PATH}` and `$$` in a scalar.
//!
//! Inserted text is not interpolated again: a `${…}` in the value of a variable stays as it is.

use std::ops::Range;

/// A piece of a scalar; the pieces are in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text to take as it is; `$$` is replaced by a dollar already.
    Text(String),
    /// A reference to a variable: `${VAR}`, `${VAR:-default}`.
    Variable {
        name: String,
        /// Used when the variable is unset or empty.
        default: Option<String>,
    },
    /// A reference to a file: `${file:PATH}`.
    File(String),
}

/// A `${` that is not a valid reference.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    pub range: Range<usize>,
    pub message: String,
}

pub fn pieces(text: &str) -> Result<Vec<Piece>, Mistake> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        literal.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            literal.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let start = text.len() - after.len() - 2;
            let Some((inside, after)) = after.split_once('}') else {
                let message = "this `${` is never closed".to_owned();
                return Err(Mistake { range: start..text.len(), message });
            };
            let end = text.len() - after.len();
            let piece = reference(inside).map_err(|message| Mistake { range: start..end, message })?;
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
            rest = after;
        } else {
            literal.push('$');
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok(pieces)
}

/// A shell variable without braces (`$HOST`), probably a mistake for `${HOST}`: the whole text, or in capitals within it.
pub fn bare_variable(text: &str) -> Option<Range<usize>> {
    let mut from = 0;
    while let Some(dollar) = text.get(from..)?.find('$').map(|at| from + at) {
        let after = text.get(dollar + 1..)?;
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = after.get(..after.find(|c| !is_part(c)).unwrap_or(after.len()))?;
        from = dollar + 1 + name.len() + usize::from(after.starts_with('$'));
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.len() > 1;
        let is_apart = !text.get(..dollar)?.ends_with(is_part) && !name.bytes().any(|byte| byte.is_ascii_lowercase());
        if is_name && (is_apart || name.len() + 1 == text.len()) {
            return Some(dollar..dollar + 1 + name.len());
        }
    }
    None
}

/// Whether the text between `${` and `}` is a valid reference.
pub fn is_reference(inside: &str) -> bool {
    reference(inside).is_ok()
}

fn reference(inside: &str) -> Result<Piece, String> {
    if inside.contains("${") {
        let inner = if inside.contains(":-") {
            "a default can't contain another `${…}`"
        } else {
            "one `${…}` can't be inside another"
        };
        return Err(inner.to_owned());
    }
    if let Some(path) = inside.strip_prefix("file:") {
        return if path.trim().is_empty() {
            Err("`${file:}` names no file".to_owned())
        } else {
            Ok(Piece::File(path.trim().to_owned()))
        };
    }
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let legal = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !legal {
        // The message does not repeat it: it may be a part of a password.
        return Err("a variable's name has letters, digits and `_`, and does not begin with a digit".to_owned());
    }
    Ok(Piece::Variable { name: name.to_owned(), default: default.map(|text| text.replace("$$", "$")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    fn variable(name: &str, default: Option<&str>) -> Piece {
        Piece::Variable { name: name.to_owned(), default: default.map(str::to_owned) }
    }

    #[test]
    fn references_are_found_and_everything_else_is_text() {
        assert_eq!(pieces(""), Ok(vec![text("")]));
        assert_eq!(pieces("a $5 b$$ {x} $"), Ok(vec![text("a $5 b$ {x} $")]));
        assert_eq!(pieces("$${A}"), Ok(vec![text("${A}")]));
        assert_eq!(
            pieces("x${A}${B_2:-y:-z}w"),
            Ok(vec![text("x"), variable("A", None), variable("B_2", Some("y:-z")), text("w")])
        );
        assert_eq!(pieces("${A:-}"), Ok(vec![variable("A", Some(""))]));
        assert_eq!(pieces("${A:-$$1}"), Ok(vec![variable("A", Some("$1"))]));
        assert_eq!(pieces("${file:/run/x}"), Ok(vec![Piece::File("/run/x".to_owned())]));
    }

    #[test]
    fn variables_without_braces_are_distinguished_from_dollars() {
        let bare = |text| bare_variable(text).and_then(|range| text.get(range));
        for (text, expected) in [
            ("$HOME", Some("$HOME")),
            ("$host", Some("$host")),
            ("amqp://$HOST:5672", Some("$HOST")),
            ("a $$HOME b $OTHER_1/x", Some("$OTHER_1")),
            ("$$HOME", None),
            ("${HOME}", None),
            ("pa$WORD", None),
            ("a $5 b $", None),
            ("the $host", None),
            ("^X$", None),
            ("$A", None),
        ] {
            assert_eq!(bare(text), expected, "{text}");
        }
    }

    #[test]
    fn an_invalid_reference_is_reported_at_its_place() {
        assert_eq!(pieces("ab${C").unwrap_err().range, 2..5);
        assert_eq!(pieces("é${1A} ").unwrap_err().range, 2..7);
        assert!(pieces("${}").is_err());
        assert!(pieces("${file:}").is_err());
        assert!(pieces("${A:-${B}}").is_err());
        assert!(pieces("${A-b}").is_err());
        assert_eq!(pieces("x${file:${DIR}/y}z").unwrap_err().range, 1..14);
    }
}
