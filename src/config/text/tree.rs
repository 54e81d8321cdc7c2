//! The values of a file, each with its place. Nothing is typed here: a scalar is text, and whether it was written without quotes.

use std::sync::Arc;

/// How deep mappings and lists may be nested, aliases followed.
pub const MAX_DEPTH: usize = 32;

/// A range of bytes in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    pub fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// A value of the file, with all that is in it.
#[derive(Debug)]
pub struct Node {
    pub span: Span,
    /// The place to mark for the whole value: the key before a block, else the value itself.
    pub head: Span,
    pub kind: Kind,
    /// The number of levels including this one, aliases followed.
    pub depth: usize,
    /// The number of values including this one, aliases followed.
    pub size: usize,
}

#[derive(Debug)]
pub enum Kind {
    Scalar(Scalar),
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<(Key, Arc<Node>)>),
}

/// A single value as text, its YAML escapes decoded.
#[derive(Debug, Clone)]
pub struct Scalar {
    pub text: String,
    /// Whether it is written without quotes: then it may be a number, a boolean or null.
    pub plain: bool,
}

/// A key of a mapping, with its place.
#[derive(Debug, Clone)]
pub struct Key {
    pub text: String,
    pub span: Span,
}

impl Node {
    /// Whether there is no value: nothing, `null` or `~`.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(Scalar { text, plain: true })
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The kind of value, for a message.
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(_) if self.is_null() => "nothing",
            Kind::Scalar(_) => "a single value",
            Kind::Sequence(_) => "a list",
            Kind::Mapping(_) => "a mapping of keys to values",
        }
    }
}
