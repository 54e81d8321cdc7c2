//! Globs: `*` is any text, `?` any one character.

/// A pattern that a whole text must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Every text is a pattern.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `text` matches. Time is bounded by the product of both lengths.
    #[must_use]
    pub fn matches(&self, _text: &str) -> bool {
        todo!()
    }
}
