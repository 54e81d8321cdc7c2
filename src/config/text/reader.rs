//! The state of decoding one file: its text, its environment, and the mistakes found so far.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::FileKeys;
use super::diagnostic::{Diagnostic, Severity};
use super::environment::{Options, Strictness};
use super::interpolate::{self, Piece};
use super::mask::Mask;
use super::secret::{self, Part, Secret};
use super::tree::{Key, Kind, Node, Scalar, Span};
use super::words::{MAX_QUOTED, clean, list, similar};
use crate::event::{EventSchema, Fragment};

/// The largest number of mistakes that are recorded.
const MAX_RECORDED: usize = 1_000;
/// The code of a key without a value.
pub const MISSING_VALUE: &str = "missing-value";

/// The state of decoding one file.
pub struct Reader<'a> {
    pub text: &'a str,
    /// The directory of the file: paths that are read are relative to it.
    pub folder: PathBuf,
    pub options: &'a Options,
    pub file_keys: &'a FileKeys,
    pub mask: &'a Mask,
    /// The names that templates may use in the part of the file that is being checked.
    pub schema: EventSchema,
    /// The keys that lead to the value that is being decoded, without names that the user chose.
    pub keys: Vec<&'static str>,
    pub found: Vec<Diagnostic>,
    /// The files that the configuration names and that are read again while the relay runs.
    pub files: Vec<PathBuf>,
}

impl Reader<'_> {
    pub fn report(&mut self, diagnostic: Diagnostic) {
        if !self.is_full() {
            self.found.push(diagnostic);
        }
    }

    /// Whether further mistakes are not recorded any more.
    pub fn is_full(&self) -> bool {
        self.found.len() >= MAX_RECORDED
    }

    /// Whether an error was found: then the file can't be used.
    pub fn failed(&self) -> bool {
        self.found.iter().any(|diagnostic| diagnostic.severity() == Severity::Error)
    }

    /// Whether an error was found in this part of the file.
    pub fn failed_in(&self, span: Span) -> bool {
        self.found.iter().any(|diagnostic| diagnostic.is_error_in(span))
    }

    /// Whether a key without a value was found in this part of the file.
    pub fn lacks_value_in(&self, span: Span) -> bool {
        self.found.iter().any(|diagnostic| diagnostic.is_error_in(span) && diagnostic.code() == MISSING_VALUE)
    }

    /// The number of the line in which the span begins, from 1.
    pub fn line(&self, span: Span) -> usize {
        self.text.get(..span.start).unwrap_or_default().matches('\n').count() + 1
    }

    /// The text of a span, for a message: as written in the file, so that no inserted value is shown.
    pub fn quote(&self, span: Span) -> String {
        let text = self.text.get(span.start..span.end).unwrap_or_default().trim();
        let text =
            ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(text);
        if self.mask.touches(span) || text.len() > MAX_QUOTED || text.contains(char::is_control) {
            "this value".to_owned()
        } else {
            format!("`{text}`")
        }
    }

    /// A mistake about something missing: an error for `run`, a warning for the offline commands.
    pub fn absent(&self, code: &'static str, span: Span, message: String) -> Diagnostic {
        match self.options.strictness {
            Strictness::Run => Diagnostic::error(code, span, message),
            Strictness::Offline => Diagnostic::warning(code, span, message),
        }
    }

    /// The entries of a mapping. Of entries with the same key it is the first; the others are reported.
    pub fn mapping<'n>(&mut self, node: &'n Node) -> Option<Vec<&'n (Key, Arc<Node>)>> {
        let Kind::Mapping(entries) = &node.kind else {
            self.wrong_type(node, "a mapping of keys to values");
            return None;
        };
        let mut seen: HashMap<&str, Span> = HashMap::new();
        let mut unique = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = &entry.0;
            if let Some(first) = seen.get(key.text.as_str()) {
                self.report(
                    Diagnostic::error("duplicate-key", key.span, format!("`{}` is given twice", clean(&key.text)))
                        .label("given again")
                        .also(*first, "first here")
                        .help("keep one of the two"),
                );
            } else {
                seen.insert(&key.text, key.span);
                unique.push(entry);
            }
        }
        Some(unique)
    }

    /// Reports a key that is none of the known ones. `empty` is the key right before, where that has no value.
    pub fn unknown_key(&mut self, key: &Key, known: &[&str], empty: Option<&Key>) {
        let diagnostic = Diagnostic::error("unknown-key", key.span, format!("unknown key `{}`", clean(&key.text)));
        let similar = similar(&key.text, known.iter().copied());
        self.report(match (glued(&key.text).filter(|word| known.contains(word)), similar, empty) {
            (Some(word), ..) => {
                diagnostic.label(format!("there is no space after `{word}:`")).help(format!("write `{word}: …`"))
            }
            (None, Some(near), _) => {
                diagnostic.label(format!("did you mean `{near}`?")).help(format!("write `{near}:`"))
            }
            (None, None, _) if key.text == "<<" => diagnostic.help("YAML 1.2 has no merge keys: write the entries out"),
            (None, None, Some(empty)) => {
                let (inner, outer) = (clean(&key.text), clean(&empty.text));
                let help = format!("indent `{inner}:` deeper than `{outer}:` if it belongs to that; known keys: ");
                diagnostic.also(empty.span, "has no value").help(help + &list(known.iter().copied()))
            }
            (None, None, None) => diagnostic.help(format!("known keys: {}", list(known.iter().copied()))),
        });
    }

    /// Reports a value of another type than expected.
    pub fn wrong_type(&mut self, node: &Node, expected: &str) {
        let message = format!("expected {expected}, found {}", node.describe());
        let diagnostic = Diagnostic::error("wrong-type", node.head, message);
        let glued = match &node.kind {
            Kind::Scalar(scalar) if scalar.plain && !self.mask.touches(node.span) => glued(&scalar.text),
            _ => None,
        };
        self.report(match (glued, (self.file_keys.example)(&self.keys)) {
            (Some(word), _) => diagnostic.help(format!("write a space after the colon, as in `{word}: …`")),
            (None, Some(example)) => diagnostic.help(format!("write it as in `{example}`")),
            (None, None) => diagnostic.help(format!("write {expected} here")),
        });
    }

    /// A scalar with the values of its variables and files inserted.
    pub fn fill(&mut self, node: &Node, expected: &str) -> Option<InterpolatedText> {
        let known = self.resolve(node, expected, false)?;
        Some(InterpolatedText {
            plain: known.plain || known.inserted,
            inserted: known.inserted,
            placeholder: known.placeholder,
            text: known.text,
            fragments: known.fragments,
            values: known.values,
        })
    }

    /// A scalar that is a secret, or holds one. `url`: see [`resolve`](Self::resolve).
    pub fn secret(&mut self, node: &Node, url: bool) -> Option<SecretScalar> {
        let known = self.resolve(node, "a text", url)?;
        Some(SecretScalar {
            secret: Secret::parts(known.parts),
            text: (!known.placeholder).then_some(known.text),
            in_clear: !known.inserted,
            fragments: known.fragments,
            values: known.values,
        })
    }

    /// A scalar with the values of its variables and files inserted; percent-encoded where they are a part of a URL (`url`).
    fn resolve(&mut self, node: &Node, expected: &str, url: bool) -> Option<ResolvedScalar> {
        let Kind::Scalar(scalar) = &node.kind else {
            self.wrong_type(node, expected);
            return None;
        };
        if node.is_null() {
            self.wrong_type(node, expected);
            return None;
        }
        let pieces = self.pieces(node, scalar)?;
        let encode = url && pieces.len() > 1;
        let mut resolved = ResolvedScalar { plain: scalar.plain, ..ResolvedScalar::default() };
        for piece in pieces {
            match piece {
                Piece::Text(text) => {
                    resolved.fragments.push(Fragment::written(&*text));
                    resolved.text.push_str(&text);
                    resolved.parts.push(Part::Text(text));
                }
                Piece::Variable { name, default } => {
                    let value = self.variable(&name, default);
                    if value.is_none() {
                        resolved.placeholder = true;
                        self.unset(node.span, &name);
                    }
                    let value = value.unwrap_or_else(|| format!("unset-{name}"));
                    let value = if encode { secret::encoded(&value) } else { value };
                    resolved.insert(&value);
                    resolved.values.push(value.clone());
                    resolved.parts.push(Part::Text(value));
                }
                Piece::File(path) => {
                    let path = self.folder.join(path);
                    match secret::read(&path) {
                        Ok(text) => {
                            let text = if encode { secret::encoded(&text) } else { text };
                            resolved.insert(&text);
                            resolved.values.push(text);
                        }
                        Err(error) => {
                            resolved.placeholder = true;
                            resolved.insert("unread-file");
                            self.unreadable(node.span, &path, &error);
                        }
                    }
                    self.files.push(path.clone());
                    resolved.parts.push(Part::File { path, encode });
                }
            }
        }
        Some(resolved)
    }

    /// The pieces of a scalar. Reports an invalid `${`, and a `$VARIABLE`, probably a mistake for `${VARIABLE}`.
    fn pieces(&mut self, node: &Node, scalar: &Scalar) -> Option<Vec<Piece>> {
        let pieces = match interpolate::pieces(&scalar.text) {
            Ok(pieces) => pieces,
            Err(mistake) => {
                let span = self.inside(node, scalar, &mistake.range);
                self.report(
                    Diagnostic::error("interpolation", span, mistake.message)
                        .help("write `${VAR}`, `${VAR:-default}` or `${file:PATH}`, and `$$` for a dollar"),
                );
                return None;
            }
        };
        if let Some(range) = interpolate::bare_variable(&scalar.text) {
            let span = self.inside(node, scalar, &range);
            let message = format!("{} is not replaced: a variable is written with braces", self.quote(span));
            self.report(
                Diagnostic::warning("bare-variable", span, message)
                    .help("write `${NAME}` for a variable, and `$$` for a dollar"),
            );
        }
        Some(pieces)
    }

    /// The value of a variable. Its default also replaces an empty value.
    fn variable(&self, name: &str, default: Option<String>) -> Option<String> {
        let value = self.options.variables.get(name).cloned();
        value.filter(|value| default.is_none() || !value.is_empty()).or(default)
    }

    fn unreadable(&mut self, span: Span, path: &Path, error: &std::io::Error) {
        let message = format!("the file `{}` can't be read: {error}", path.display());
        let diagnostic = self.absent("unreadable-file", span, message);
        self.report(
            diagnostic.help(
                "relative paths begin at the directory of this file; the relay's user needs the right to read it",
            ),
        );
    }

    fn unset(&mut self, span: Span, name: &str) {
        let message = match self.options.strictness {
            Strictness::Run => format!("the variable `{name}` is not set"),
            Strictness::Offline => format!("the variable `{name}` is not set: a placeholder is used instead"),
        };
        let diagnostic = self.absent("unset-variable", span, message);
        self.report(diagnostic.help(format!("set it, or give it a default: `${{{name}:-default}}`")));
    }

    /// The span of a word in a template's expressions; that of the whole template if the word isn't found.
    pub fn word_in_template(&self, span: Span, word: &str) -> Span {
        let written = self.text.get(span.start..span.end).unwrap_or_default();
        let text = written.find('{').unwrap_or_default();
        let found = self.word_in(Span::new(span.start + text, span.end), word);
        if found.end == span.end { span } else { found }
    }

    /// The span of a word in a value; that of the whole value if the word isn't found.
    pub fn word_in(&self, span: Span, word: &str) -> Span {
        let written = self.text.get(span.start..span.end).unwrap_or_default();
        if word.is_empty() {
            return span;
        }
        let inside = |c: char| c.is_alphanumeric() || c == '_';
        let found = written.match_indices(word).map(|(at, _)| at).find(|at| {
            let (before, rest) = written.split_at(*at);
            let after = rest.strip_prefix(word).unwrap_or_default();
            !before.ends_with(inside) && !after.starts_with(inside)
        });
        found.map_or(span, |at| Span::new(span.start + at, span.start + at + word.len()))
    }

    /// The span of a part of a scalar; that of the whole scalar if it has escapes or folded lines.
    pub fn inside(&self, node: &Node, scalar: &Scalar, part: &std::ops::Range<usize>) -> Span {
        let written = self.text.get(node.span.start..node.span.end).unwrap_or_default();
        match written.find(&scalar.text) {
            Some(at) => Span::new(node.span.start + at + part.start, node.span.start + at + part.end),
            None => node.span,
        }
    }
}

/// The word before a colon without a space after it: YAML reads both as one text.
fn glued(text: &str) -> Option<&str> {
    let (word, after) = text.split_once(':')?;
    let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    (is_word && !after.is_empty() && !after.starts_with([' ', '\n', '/'])).then_some(word)
}

#[derive(Default)]
struct ResolvedScalar {
    text: String,
    fragments: Vec<Fragment>,
    parts: Vec<Part>,
    plain: bool,
    inserted: bool,
    placeholder: bool,
    values: Vec<String>,
}

impl ResolvedScalar {
    /// Adds the value of a `${…}`.
    fn insert(&mut self, value: &str) {
        self.inserted = true;
        self.text.push_str(value);
        self.fragments.push(Fragment::inserted(value));
    }
}

/// A scalar with the values of its variables and files inserted.
#[derive(Debug, Clone)]
pub struct InterpolatedText {
    pub text: String,
    pub fragments: Vec<Fragment>,
    /// Whether it may be a number or a boolean: it has no quotes, or something was inserted.
    pub plain: bool,
    /// Whether a variable or a file was inserted.
    pub inserted: bool,
    /// Whether a variable or file was missing and is replaced by a placeholder.
    pub placeholder: bool,
    pub values: Vec<String>,
}

/// A scalar that may be secret: it is never shown.
#[derive(Debug, Clone)]
pub struct SecretScalar {
    pub secret: Secret,
    /// The text as it is now. None if a variable or file is missing.
    pub text: Option<String>,
    pub fragments: Vec<Fragment>,
    /// Whether all of it is written in the file itself, without any `${…}`.
    pub in_clear: bool,
    pub values: Vec<String>,
}
