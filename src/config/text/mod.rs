//! YAML text to typed values, each with its place; and diagnostics, which show no secrets.
//!
//! These modules know no key of the configuration, nor the purpose of a value: [`FileKeys`] has the little that they need. Each
//! uses only those above it:
//!
//! - `tree`: the values of a file with their places; `words`, `units`, `interpolate`, `environment`, `references`: pieces of text;
//! - `mask`, `secret`: what must not be shown;
//! - `diagnostic`, `lookalike`, `syntax`: mistakes, and what to write instead;
//! - `yaml`: text to a bounded tree;
//! - `reader`, `decode`: the tree to structs, `${…}` replaced;
//! - `scalar`, `literal`: the types of single values.

pub mod decode;
pub mod diagnostic;
pub mod environment;
pub mod interpolate;
pub mod literal;
pub mod lookalike;
pub mod mask;
pub mod reader;
pub mod references;
pub mod scalar;
pub mod secret;
pub mod syntax;
pub mod tree;
pub mod units;
pub mod words;
pub mod yaml;

/// What these modules need to know about the keys of a file.
pub struct FileKeys {
    /// What to write into an empty file.
    pub start: &'static str,
    /// The example for the last of these keys, each of which is below the one before.
    pub example: fn(&[&str]) -> Option<&'static str>,
    /// Top-level keys with names below them that the user chose: such a name is never a secret.
    pub named: &'static [&'static str],
    /// Keys below secret ones whose values are no secret.
    pub shown: &'static [&'static str],
}
