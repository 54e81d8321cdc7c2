//! From the tree of the file to raw types: every mistake is recorded, and reading goes on after it.
//!
//! A value that is wrong becomes `None`, as one that is absent; by then its mistake is recorded, so whoever finds `None`
//! where something is required has nothing more to say.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::diagnostic::{Diagnostic, Severity};
use super::environment::{Options, Strictness};
use super::interpolate::{self, Piece};
use super::mask::Mask;
use super::secret::{self, Part, Secret};
use super::yaml::{Key, Kind, Node, Scalar, Span};

/// Mistakes beyond these are not even recorded.
const MAX_RECORDED: usize = 1_000;
/// Longer values are not repeated in messages.
const MAX_QUOTED: usize = 60;

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub value: T,
    /// Where it is.
    pub span: Span,
    /// Where to point at when all of it is meant.
    pub head: Span,
}

/// What can be read from a node.
pub(super) trait Decode: Sized {
    /// The value; `None` when it is wrong, which is recorded.
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;
}

/// Reads one file: knows its text and environment, and collects what is wrong with it.
pub(super) struct Reader<'a> {
    pub text: &'a str,
    /// Where relative paths that are read begin.
    pub folder: PathBuf,
    pub options: &'a Options,
    pub mask: &'a Mask,
    pub found: Vec<Diagnostic>,
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
        for (key, _) in &entries {
            if !known.contains(&key.text.as_str()) && !self.is_full() {
                self.unknown_key(key, known);
            }
        }
        Some(Fields { head: node.head, entries })
    }

    /// The entries of a mapping; of those with the same key only the first.
    fn mapping<'n>(&mut self, node: &'n Node) -> Option<Vec<&'n (Key, Arc<Node>)>> {
        let Kind::Mapping(entries) = &node.kind else {
            self.wrong_type(node, "a mapping of keys to values");
            return None;
        };
        let mut seen: HashMap<&str, Span> = HashMap::new();
        let mut unique = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = &entry.0;
            match seen.get(key.text.as_str()) {
                Some(first) => self.report(
                    Diagnostic::error("duplicate-key", key.span, format!("`{}` is given twice", clean(&key.text)))
                        .label("given again")
                        .also(*first, "first here")
                        .help("keep one of the two"),
                ),
                None => {
                    seen.insert(&key.text, key.span);
                    unique.push(entry);
                }
            }
        }
        Some(unique)
    }

    fn unknown_key(&mut self, key: &Key, known: &[&str]) {
        let mut diagnostic = Diagnostic::error("unknown-key", key.span, format!("unknown key `{}`", clean(&key.text)));
        diagnostic = match similar(&key.text, known.iter().copied()) {
            Some(near) => diagnostic.label(format!("did you mean `{near}`?")).help(format!("write `{near}:`")),
            None if key.text == "<<" => diagnostic.help("YAML 1.2 has no merge keys: write the entries out"),
            None => diagnostic.help(format!("known here: {}", list(known.iter().copied()))),
        };
        self.report(diagnostic);
    }

    /// Something else was expected.
    pub fn wrong_type(&mut self, node: &Node, expected: &str) {
        self.report(
            Diagnostic::error("wrong-type", node.head, format!("expected {expected}, found {}", node.describe()))
                .help(format!("write {expected} here")),
        );
    }

    /// A scalar with its variables and files inserted.
    pub fn fill(&mut self, node: &Node, expected: &str) -> Option<Filled> {
        let known = self.resolve(node, expected, false)?;
        Some(Filled {
            plain: known.plain || known.inserted,
            inserted: known.inserted,
            placeholder: known.placeholder,
            text: known.text,
        })
    }

    /// A scalar that may be a secret, or a part of one.
    pub fn secret(&mut self, node: &Node, url: bool) -> Option<Hidden> {
        let known = self.resolve(node, "a text", url)?;
        Some(Hidden {
            secret: Secret::parts(known.parts),
            text: (!known.placeholder).then_some(known.text),
            in_clear: !known.inserted,
        })
    }

    fn resolve(&mut self, node: &Node, expected: &str, url: bool) -> Option<Resolved> {
        let Kind::Scalar(scalar) = &node.kind else {
            self.wrong_type(node, expected);
            return None;
        };
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
        let encode = url && pieces.len() > 1;
        let mut known = Resolved {
            text: String::new(),
            parts: Vec::new(),
            plain: scalar.plain,
            inserted: false,
            placeholder: false,
        };
        for piece in pieces {
            match piece {
                Piece::Text(text) => known.push(text),
                Piece::Variable { name, default } => {
                    known.inserted = true;
                    let value = self.options.variables.get(&name).cloned();
                    let value = value.filter(|value| default.is_none() || !value.is_empty()).or(default);
                    let value = value.unwrap_or_else(|| {
                        known.placeholder = true;
                        self.unset(node.span, &name);
                        format!("unset-{name}")
                    });
                    known.push(if encode { secret::encoded(&value) } else { value });
                }
                Piece::File(path) => {
                    known.inserted = true;
                    let path = self.folder.join(path);
                    match secret::read(&path) {
                        Ok(text) => known.text.push_str(&if encode { secret::encoded(&text) } else { text }),
                        Err(cause) => {
                            known.placeholder = true;
                            known.text.push_str("unread-file");
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

    /// The place of a word within a value; of all of it where it isn't found.
    pub fn word_in(&self, span: Span, word: &str) -> Span {
        let written = self.text.get(span.start..span.end).unwrap_or_default();
        let inside = |c: char| c.is_alphanumeric() || c == '_';
        let found = written.match_indices(word).map(|(at, _)| at).find(|at| {
            let (before, rest) = written.split_at(*at);
            let after = rest.strip_prefix(word).unwrap_or_default();
            before.contains("{") && !before.ends_with(inside) && !after.starts_with(inside)
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

struct Resolved {
    text: String,
    parts: Vec<Part>,
    plain: bool,
    inserted: bool,
    placeholder: bool,
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
    /// It may be typed: it was written without quotes, or something was inserted.
    pub plain: bool,
    /// Not all of it is in the file.
    pub inserted: bool,
    /// Some of it is not known here.
    pub placeholder: bool,
}

/// A scalar that must not be shown.
#[derive(Debug, Clone)]
pub(super) struct Hidden {
    pub secret: Secret,
    /// What it is now; `None` if some of it is not known here.
    pub text: Option<String>,
    /// All of it is in the file.
    pub in_clear: bool,
}

/// The entries of a mapping.
pub(super) struct Fields<'n> {
    head: Span,
    entries: Vec<&'n (Key, Arc<Node>)>,
}

impl Fields<'_> {
    /// The value of a key; null is the same as no such key. `about` says what it is, when it is required and missing.
    pub fn take<T: Decode>(&self, reader: &mut Reader<'_>, key: &str, required: bool, about: &str) -> Option<At<T>> {
        let entry = self.entries.iter().find(|(known, _)| known.text == key);
        match entry {
            Some((_, node)) if !node.is_null() => at(node, reader),
            Some((key, _)) if required => {
                reader.report(
                    Diagnostic::error("missing-value", key.span, format!("`{}` has no value", key.text))
                        .help(format!("write it after the colon: {}", lower(about))),
                );
                None
            }
            None if required => {
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

/// The first line of a documentation, within a sentence.
fn lower(about: &str) -> String {
    let mut letters = about.trim().chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// A value and its place.
pub(super) fn at<T: Decode>(node: &Node, reader: &mut Reader<'_>) -> Option<At<T>> {
    T::decode(node, reader).map(|value| At { value, span: node.span, head: node.head })
}

/// A struct of the file: its keys with their types; `= required` ones have to be there, `= skip` ones are not in the schema.
/// What documents a key is also what the schema says of it, and its first line the help when it is missing.
macro_rules! mapping {
    (
        $(#[$about:meta])*
        $name:ident { $( $(#[doc = $doc:literal])+ $key:ident : $type:ty $(= $mark:ident)? ),* $(,)? }
    ) => {
        $(#[$about])*
        #[derive(Debug, schemars::JsonSchema)]
        #[allow(non_snake_case, reason = "the keys as the file has them")]
        #[schemars(deny_unknown_fields)]
        pub(in crate::config) struct $name {
            $( $(#[doc = $doc])+ $(#[schemars($mark)])? pub $key: Option<$crate::config::decode::At<$type>>, )*
        }

        impl $crate::config::decode::Decode for $name {
            fn decode(
                node: &$crate::config::yaml::Node,
                reader: &mut $crate::config::decode::Reader<'_>,
            ) -> Option<Self> {
                #[allow(unused_variables, reason = "a struct may have no keys")]
                let fields = reader.fields(node, &[$( $crate::config::decode::bare(stringify!($key)) ),*])?;
                Some(Self {
                    $( $key: fields.take(
                        reader,
                        $crate::config::decode::bare(stringify!($key)),
                        mapping!(@required $($mark)?),
                        [$($doc),+][0],
                    ), )*
                })
            }
        }
    };
    (@required required) => { true };
    (@required $($other:ident)?) => { false };
}
pub(super) use mapping;

/// A key as the file has it: Rust's `r#type` is `type`.
pub(super) fn bare(key: &str) -> &str {
    key.strip_prefix("r#").unwrap_or(key)
}

/// One value, or a list of them.
#[derive(Debug)]
pub(super) struct OneOrMany<T>(pub Vec<At<T>>);

impl<T: Decode> Decode for OneOrMany<T> {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.kind {
            Kind::Sequence(_) => List::decode(node, reader).map(|list| Self(list.0)),
            _ => Some(Self(vec![at(node, reader)?])),
        }
    }
}

/// A list.
#[derive(Debug)]
pub(super) struct List<T>(pub Vec<At<T>>);

impl<T: Decode> Decode for List<T> {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Kind::Sequence(items) = &node.kind else {
            reader.wrong_type(node, "a list");
            return None;
        };
        Some(Self(items.iter().filter_map(|item| at(item, reader)).collect()))
    }
}

/// A mapping whose keys are names, in the order of the file.
#[derive(Debug)]
pub(super) struct Named<T>(pub Vec<(Key, At<T>)>);

impl<T: Decode> Decode for Named<T> {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let entries = reader.mapping(node)?;
        Some(Self(entries.iter().filter_map(|(key, value)| Some((key.clone(), at(value, reader)?))).collect()))
    }
}

/// The schema of a value that can be written as a reference, too.
pub(super) fn or_reference(schema: Schema) -> Schema {
    json_schema!({ "anyOf": [schema, { "type": "string", "pattern": r"\$\{.+\}" }] })
}

macro_rules! transparent {
    ($wrapper:ident, |$inner:ident| $schema:expr) => {
        impl<T: JsonSchema> JsonSchema for $wrapper<T> {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                format!(concat!(stringify!($wrapper), "_{}"), T::schema_name()).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let $inner = generator.subschema_for::<T>();
                $schema
            }
        }
    };
}

transparent!(At, |inner| inner);
transparent!(OneOrMany, |inner| json_schema!({ "anyOf": [inner, { "type": "array", "items": inner }] }));
transparent!(List, |inner| json_schema!({ "type": "array", "items": inner }));
transparent!(Named, |inner| json_schema!({ "type": "object", "additionalProperties": inner }));

/// A text that came from the file, short enough for a message and without control characters.
pub(super) fn clean(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTED).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_QUOTED).is_some() {
        short.push('…');
    }
    short.replace("\\\"", "\"").replace("\\'", "'")
}

/// Words in a sentence: `a`, `b`, `c`.
pub(super) fn list<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

/// The known word that was most likely meant.
pub(super) fn similar<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    // Longer than any name with a slip in it: comparing would only take time.
    if word.len() > 200 {
        return None;
    }
    let simple = |text: &str| text.to_lowercase().replace(['-', '.', ' '], "_");
    let word = simple(word);
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word, &simple(candidate)), candidate))
        // Of two letters, one is half a word.
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(word.chars().count()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
