//! Errors and warnings about an expression.

/// A mistake in an expression, or a probable one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The word of the expression to point at; empty for the whole expression.
    pub word: String,
    pub message: String,
    pub help: String,
}
