//! What decoding has at hand: the file's text, its environment, and the list of what is wrong with it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::decode::{At, Decode, at};
use super::diagnostic::{Diagnostic, Severity};
use super::environment::{Options, Strictness};
use super::examples;
use super::interpolate::{self, Piece};
use super::mask::Mask;
use super::secret::{self, Part, Secret};
use super::words::{MAX_QUOTED, clean, list, lower, similar};
use super::yaml::{Key, Kind, Node, Scalar, Span};
use crate::event::{EventSchema, Fragment};

/// Mistakes beyond these are not even recorded.
const MAX_RECORDED: usize = 1_000;
/// A key without a value.
const MISSING_VALUE: &str = "missing-value";

/// Reads one file: knows its text and environment, and collects what is wrong with it.
pub(super) struct Reader<'a> {
    pub text: &'a str,
    /// Where relative paths that are read begin.
    pub folder: PathBuf,
    pub options: &'a Options,
    pub mask: &'a Mask,
    /// What templates are written for in the part that is read.
    pub vocabulary: EventSchema,
    /// The keys that lead to what is read, those of names left out.
    pub keys: Vec<&'static str>,
    pub found: Vec<Diagnostic>,
    /// The files that are named and read at work, too.
    pub files: Vec<PathBuf>,
}

impl Reader<'_> {
    /// Records a mistake.
    pub fn report(&mut self, diagnostic: Diagnostic) {
        if !self.is_full() {
            self.found.push(diagnostic);
        }
    }

    /// Nothing more is recorded.
    pub fn is_full(&self) -> bool {
        self.found.len() >= MAX_RECORDED
    }

    /// Whether the file can't be used.
    pub fn failed(&self) -> bool {
        self.found.iter().any(|diagnostic| diagnostic.severity() == Severity::Error)
    }

    /// Whether an error was found in that part of the file.
    pub fn failed_in(&self, span: Span) -> bool {
        self.found.iter().any(|diagnostic| diagnostic.is_error_in(span))
    }

    /// Whether a key without a value was found in that part of the file.
    pub fn lacks_value_in(&self, span: Span) -> bool {
        self.found.iter().any(|diagnostic| diagnostic.is_error_in(span) && diagnostic.code() == MISSING_VALUE)
    }

    /// The line in which that begins, counted from 1.
    pub fn line(&self, span: Span) -> usize {
        self.text.get(..span.start).unwrap_or_default().matches('\n').count() + 1
    }

    /// What is written there, to be repeated in a message: as in the file, so that nothing that was inserted is shown.
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

    /// What isn't there is an error to run, and a warning to look at the rules.
    pub fn absent(&self, code: &'static str, span: Span, message: String) -> Diagnostic {
        match self.options.strictness {
            Strictness::Run => Diagnostic::error(code, span, message),
            Strictness::Offline => Diagnostic::warning(code, span, message),
        }
    }

    /// The entries of a mapping: none of them unknown, none twice.
    pub fn fields<'n>(&mut self, node: &'n Node, known: &[&str]) -> Option<Fields<'n>> {
        let entries = self.mapping(node)?;
        let mut before: Option<&(Key, Arc<Node>)> = None;
        for entry in &entries {
            if !known.contains(&entry.0.text.as_str()) && !self.is_full() {
                let empty = before.filter(|(_, value)| value.is_null()).map(|(key, _)| key);
                self.unknown_key(&entry.0, known, empty);
            }
            before = Some(entry);
        }
        Some(Fields { head: node.head, entries })
    }

    /// The entries of a mapping; of those with the same key only the first.
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

    /// `empty` is the key right before, where that has no value.
    fn unknown_key(&mut self, key: &Key, known: &[&str], empty: Option<&Key>) {
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
                let help = format!("indent `{inner}:` deeper than `{outer}:` if it belongs to that; known here: ");
                diagnostic.also(empty.span, "has no value").help(help + &list(known.iter().copied()))
            }
            (None, None, None) => diagnostic.help(format!("known here: {}", list(known.iter().copied()))),
        });
    }

    /// Something else was expected.
    pub fn wrong_type(&mut self, node: &Node, expected: &str) {
        let message = format!("expected {expected}, found {}", node.describe());
        let diagnostic = Diagnostic::error("wrong-type", node.head, message);
        let glued = match &node.kind {
            Kind::Scalar(scalar) if scalar.plain && !self.mask.touches(node.span) => glued(&scalar.text),
            _ => None,
        };
        self.report(match (glued, examples::of(&self.keys)) {
            (Some(word), _) => diagnostic.help(format!("write a space after the colon, as in `{word}: …`")),
            (None, Some(example)) => diagnostic.help(format!("write it as in `{example}`")),
            (None, None) => diagnostic.help(format!("write {expected} here")),
        });
    }

    /// A scalar with its variables and files inserted.
    pub fn fill(&mut self, node: &Node, expected: &str) -> Option<Filled> {
        let known = self.resolve(node, expected, false)?;
        Some(Filled {
            plain: known.plain || known.inserted,
            inserted: known.inserted,
            placeholder: known.placeholder,
            text: known.text,
            fragments: known.fragments,
            values: known.values,
        })
    }

    /// A scalar that may be a secret, or a part of one.
    pub fn secret(&mut self, node: &Node, url: bool) -> Option<Hidden> {
        let known = self.resolve(node, "a text", url)?;
        Some(Hidden {
            secret: Secret::parts(known.parts),
            text: (!known.placeholder).then_some(known.text),
            in_clear: !known.inserted,
            fragments: known.fragments,
            values: known.values,
        })
    }

    fn resolve(&mut self, node: &Node, expected: &str, url: bool) -> Option<Resolved> {
        let Kind::Scalar(scalar) = &node.kind else {
            self.wrong_type(node, expected);
            return None;
        };
        if node.is_null() {
            self.wrong_type(node, expected);
            return None;
        }
        let pieces = match interpolate::pieces(&scalar.text) {
            Ok(pieces) => pieces,
            Err(mistake) => {
                let span = self.inside(node, scalar, &mistake.range);
                self.report(
                    Diagnostic::error("interpolation", span, mistake.message)
                        .help("write `${VAR}`, `${VAR:-default}` or `${file:PATH}`; a dollar that stays is `$$`"),
                );
                return None;
            }
        };
        if let Some(range) = interpolate::bare_variable(&scalar.text) {
            let span = self.inside(node, scalar, &range);
            let message = format!("{} is no variable: it stays as it is written", self.quote(span));
            self.report(
                Diagnostic::warning("bare-variable", span, message)
                    .help("write `${NAME}` for a variable; a dollar that is meant is `$$`"),
            );
        }
        let encode = url && pieces.len() > 1;
        let mut known = Resolved {
            text: String::new(),
            fragments: Vec::new(),
            parts: Vec::new(),
            plain: scalar.plain,
            inserted: false,
            placeholder: false,
            values: Vec::new(),
        };
        for piece in pieces {
            match piece {
                Piece::Text(text) => {
                    known.fragments.push(Fragment::written(&*text));
                    known.push(text);
                }
                Piece::Variable { name, default } => {
                    known.inserted = true;
                    let value = self.options.variables.get(&name).cloned();
                    let value = value.filter(|value| default.is_none() || !value.is_empty());
                    let value = value.or(default);
                    let value = value.unwrap_or_else(|| {
                        known.placeholder = true;
                        self.unset(node.span, &name);
                        format!("unset-{name}")
                    });
                    let value = if encode { secret::encoded(&value) } else { value };
                    known.fragments.push(Fragment::inserted(&*value));
                    known.values.push(value.clone());
                    known.push(value);
                }
                Piece::File(path) => {
                    known.inserted = true;
                    let path = self.folder.join(path);
                    match secret::read(&path) {
                        Ok(text) => {
                            let text = if encode { secret::encoded(&text) } else { text };
                            known.text.push_str(&text);
                            known.fragments.push(Fragment::inserted(&*text));
                            known.values.push(text);
                        }
                        Err(cause) => {
                            known.placeholder = true;
                            known.text.push_str("unread-file");
                            known.fragments.push(Fragment::inserted("unread-file"));
                            self.report(
                                self.absent(
                                    "unreadable-file",
                                    node.span,
                                    format!("the file `{}` can't be read: {cause}", path.display()),
                                )
                                .help("a relative path begins at the folder of this file; the relay's user needs the right to read it"),
                            );
                        }
                    }
                    self.files.push(path.clone());
                    known.parts.push(Part::File { path, encode });
                }
            }
        }
        Some(known)
    }

    fn unset(&mut self, span: Span, name: &str) {
        let message = match self.options.strictness {
            Strictness::Run => format!("the variable `{name}` is not set"),
            Strictness::Offline => format!("the variable `{name}` is not set: a placeholder stands for it"),
        };
        let diagnostic = self.absent("unset-variable", span, message);
        self.report(diagnostic.help(format!("set it, or give it a default: `${{{name}:-default}}`")));
    }

    /// The place of a word within a template; of all of it where it isn't found.
    pub fn word_in_template(&self, span: Span, word: &str) -> Span {
        let written = self.text.get(span.start..span.end).unwrap_or_default();
        let text = written.find('{').unwrap_or_default();
        let found = self.word_in(Span::new(span.start + text, span.end), word);
        if found.end == span.end { span } else { found }
    }

    /// The place of a word within a value; of all of it where it isn't found.
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

    /// The place of a part of a scalar; of all of it where escapes or folded lines lie between.
    pub fn inside(&self, node: &Node, scalar: &Scalar, part: &std::ops::Range<usize>) -> Span {
        let written = self.text.get(node.span.start..node.span.end).unwrap_or_default();
        match written.find(&scalar.text) {
            Some(at) => Span::new(node.span.start + at + part.start, node.span.start + at + part.end),
            None => node.span,
        }
    }
}

/// The word before a colon that has no space after it, so that YAML takes both for one text.
fn glued(text: &str) -> Option<&str> {
    let (word, after) = text.split_once(':')?;
    let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    (is_word && !after.is_empty() && !after.starts_with([' ', '\n', '/'])).then_some(word)
}

struct Resolved {
    text: String,
    fragments: Vec<Fragment>,
    parts: Vec<Part>,
    plain: bool,
    inserted: bool,
    placeholder: bool,
    values: Vec<String>,
}

impl Resolved {
    fn push(&mut self, text: String) {
        self.text.push_str(&text);
        self.parts.push(Part::Text(text));
    }
}

/// A scalar, its variables and files inserted.
#[derive(Debug, Clone)]
pub(super) struct Filled {
    pub text: String,
    /// The same in pieces.
    pub fragments: Vec<Fragment>,
    /// It may be typed: it was written without quotes, or something was inserted.
    pub plain: bool,
    /// Not all of it is in the file.
    pub inserted: bool,
    /// Some of it is not known here.
    pub placeholder: bool,
    /// What was inserted.
    pub values: Vec<String>,
}

/// A scalar that must not be shown.
#[derive(Debug, Clone)]
pub(super) struct Hidden {
    pub secret: Secret,
    /// What it is now; `None` if some of it is not known here.
    pub text: Option<String>,
    /// The same in pieces.
    pub fragments: Vec<Fragment>,
    /// All of it is in the file, and not as a default that a variable can take the place of.
    pub in_clear: bool,
    /// What was inserted.
    pub values: Vec<String>,
}

/// Whether a key has to be there, and with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It has to be there.
    Required,
    /// If it is there, it has a value.
    Optional,
    /// Without a value it is the same as no such key.
    Nullable,
}

/// The entries of a mapping.
pub(super) struct Fields<'n> {
    head: Span,
    entries: Vec<&'n (Key, Arc<Node>)>,
}

impl Fields<'_> {
    /// The value of a key. `about` says what it is, when it is missing.
    pub fn take<T: Decode>(
        &self,
        reader: &mut Reader<'_>,
        key: &'static str,
        presence: Presence,
        about: &str,
    ) -> Option<At<T>> {
        let entry = self.entries.iter().find(|(known, _)| known.text == key);
        match entry {
            Some((_, node)) if !node.is_null() => {
                reader.keys.push(key);
                let value = at(node, reader);
                reader.keys.pop();
                value
            }
            Some((key, _)) if presence != Presence::Nullable => {
                let help = match presence {
                    Presence::Required => format!("write it after the colon: {}", lower(about)),
                    _ => format!("write it after the colon ({}), or remove `{}:`", lower(about), key.text),
                };
                reader.report(
                    Diagnostic::error(MISSING_VALUE, key.span, format!("`{}` has no value", key.text)).help(help),
                );
                None
            }
            None if presence == Presence::Required => {
                reader.report(
                    Diagnostic::error("missing-key", self.head, format!("`{key}` is missing"))
                        .label(format!("needs `{key}`"))
                        .help(format!("add `{key}:`, {}", lower(about))),
                );
                None
            }
            _ => None,
        }
    }
}
