//! Explains syntax errors: the probable mistake, at its own place rather than where the parser noticed it.

use serde_saphyr::granit_parser::ErrorKind;

use super::diagnostic::Diagnostic;
use super::lookalike;
use super::tree::{MAX_DEPTH, Span};

/// The code of every syntax error.
const CODE: &str = "yaml-syntax";
/// The largest number of lines above a mistake that are compared with it.
const MAX_LINES_ABOVE: usize = 200;

/// Explains an error of the parser. `opened` is the innermost `{` or `[` that is not closed yet.
pub fn explain(text: &str, kind: &ErrorKind, at: Span, opened: Option<Span>) -> Diagnostic {
    if matches!(kind, ErrorKind::RecursionLimitExceeded) {
        return Diagnostic::error("too-deep", at, format!("more than {MAX_DEPTH} nested levels"))
            .help("no configuration needs that many: look for a wrong indentation");
    }
    let slip = lookalike_character(text, at).or_else(|| match kind {
        ErrorKind::InvalidTrailingSingleQuotedScalar => quote(text, at, '\''),
        ErrorKind::InvalidTrailingDoubleQuotedScalar => quote(text, at, '"'),
        ErrorKind::MissingAnchorOrAliasName | ErrorKind::UnknownAnchor => alias(text, at),
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::InvalidIndentation
        | ErrorKind::MappingValueNotAllowed => indentation(text, at),
        _ => None,
    });
    slip.unwrap_or_else(|| general(kind, at, opened))
}

fn general(kind: &ErrorKind, at: Span, opened: Option<Span>) -> Diagnostic {
    let diagnostic = Diagnostic::error(CODE, at, format!("this is not YAML: {kind}"));
    match kind {
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => {
            diagnostic.help("a value that has `: ` in it needs quotes; a key has to stand on a line of its own")
        }
        ErrorKind::TabInIndentation
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabNotAllowed => diagnostic.help("indent with spaces: YAML takes no tabs there"),
        ErrorKind::UnclosedQuotedScalar => diagnostic.help("close the quote that was opened before"),
        ErrorKind::UnexpectedCharacter { .. } => diagnostic.help("quote a value that starts with that character"),
        ErrorKind::FlowMappingValueAdjacentCollection => {
            Diagnostic::error(CODE, at, "there is no space after this colon")
                .help("write a space there, as in `when: {`")
        }
        ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnclosedFlowCollection { .. } => {
            let diagnostic = match opened {
                Some(opened) => diagnostic.also(opened, "opened here"),
                None => diagnostic,
            };
            diagnostic.help(
                "separate the entries by commas and close the bracket; quote a value that holds `{`, `}`, `[`, `]` or `,`",
            )
        }
        _ => {
            diagnostic.help("look for a wrong indentation, or a missing colon or quote, on this line or the one before")
        }
    }
}

/// A look-alike space or quote where a real one is needed, on the line of the mistake or the one before.
fn lookalike_character(text: &str, at: Span) -> Option<Diagnostic> {
    let line = line_of(text, at.start);
    let before = line.start.checked_sub(1).map(|end| line_of(text, end));
    let found = before.into_iter().chain([line]).find_map(|line| {
        let found = lookalike::first(text, line)?;
        let before = text.get(line.start..found.span.start)?.trim_end_matches(' ');
        (before.is_empty() || before.ends_with([':', '-', ',', '{', '['])).then_some(found)
    });
    found.map(|lookalike| lookalike.error(CODE))
}

/// A quote inside a quoted text, which ends it too early.
fn quote(text: &str, at: Span, quote: char) -> Option<Diagnostic> {
    let end = text.get(..at.start)?.rfind(quote)?;
    let message = format!("the text ends at this `{quote}`, and more follows");
    Some(Diagnostic::error(CODE, Span::new(end, end + 1), message).help(match quote {
        '\'' => "between `'` and `'`, write `''` for one `'`, or use `\"` inside",
        _ => "between `\"` and `\"`, write `\\\"` for one `\"`; or put the text between `'` and `'`",
    }))
}

/// A value that begins with `*` or `&`, which YAML reads as an alias or an anchor.
fn alias(text: &str, at: Span) -> Option<Diagnostic> {
    let line = line_of(text, at.start);
    let sign = line.start + text.get(line.start..at.end)?.rfind(['*', '&'])?;
    let what = if text.get(sign..)?.starts_with('*') {
        "a value that begins with `*` is an alias for YAML, and there is no anchor of that name"
    } else {
        "a value that begins with `&` is an anchor for YAML, and this one has no name"
    };
    let help = "put the value into quotes, as in `\"*\"` or `\"*-test\"`";
    Some(Diagnostic::error(CODE, Span::new(sign, sign + 1), what).help(help))
}

/// A line with an indentation that no line above has, and the line that it should probably align with.
fn indentation(text: &str, at: Span) -> Option<Diagnostic> {
    let line = line_of(text, at.start);
    let this = Key::of(text, line)?;
    let mut nearest: Option<Key> = None;
    let mut start = line.start;
    for _ in 0..MAX_LINES_ABOVE {
        let Some(above) = start.checked_sub(1).map(|end| line_of(text, end)) else { break };
        start = above.start;
        let Some(key) = Key::of(text, above) else { continue };
        // A deeper line belongs to a key without a value.
        if key.column == this.column || (nearest.is_none() && key.column < this.column && !key.has_value) {
            return None;
        }
        if nearest.is_none_or(|known| key.column.abs_diff(this.column) < known.column.abs_diff(this.column)) {
            nearest = Some(key);
        }
        if key.column < this.column {
            break;
        }
    }
    let nearest = nearest?;
    Some(
        Diagnostic::error(CODE, this.span, "no line above has the indentation of this line")
            .label(format!("begins in column {}", this.column + 1))
            .also(nearest.span, format!("begins in column {}", nearest.column + 1))
            .help("indent the keys of one mapping by the same number of spaces: one of these two lines is wrong"),
    )
}

/// The first word of a line, after its indentation and the `-` of a list.
#[derive(Clone, Copy)]
struct Key {
    column: usize,
    span: Span,
    has_value: bool,
}

impl Key {
    /// None if the line is empty or a comment.
    fn of(text: &str, line: Span) -> Option<Self> {
        let content = text.get(line.start..line.end)?;
        let column = content.len() - content.trim_start_matches([' ', '-']).len();
        let rest = content.get(column..)?;
        if rest.trim().is_empty() || rest.starts_with('#') {
            return None;
        }
        let length = rest.find([':', ' ', '{', '[']).filter(|length| *length > 0).unwrap_or(rest.len());
        let end = rest.split(" #").next().unwrap_or_default().trim_end();
        let has_value = !end.ends_with([':', '|', '>', '-']);
        Some(Self { column, span: Span::new(line.start + column, line.start + column + length), has_value })
    }
}

/// The span of the line around a byte, without the newline.
fn line_of(text: &str, at: usize) -> Span {
    let start = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
    let end = text.get(at..).and_then(|after| after.find('\n')).map_or(text.len(), |end| at + end);
    Span::new(start, end)
}
