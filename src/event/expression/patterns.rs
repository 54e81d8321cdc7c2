//! The regular expressions of `matches`, compiled together with their expression.

use std::any::Any;

use cel::ExecutionError;
use cel::common::traits::Container;
use cel::common::types::{CelString, Type};
use cel::common::value::{StaticVal, Val};
use regex::{Regex, RegexBuilder};

use super::types::unexpected;

/// The size limit of a compiled pattern, in bytes.
const MAX_PATTERN: usize = 1024 * 1024;

/// The patterns of one expression. Each has a variable whose name users can't write.
#[derive(Debug, Default)]
pub(super) struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Adds the pattern and returns the name of its variable.
    pub(super) fn add(&mut self, pattern: Pattern) -> String {
        self.0.push(pattern);
        format!("@{}", self.0.len() - 1)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Pattern> {
        self.0.get(name.strip_prefix('@')?.parse::<usize>().ok()?)
    }
}

/// A container of all texts that match: `x.matches("…")` is evaluated as `x in @0`.
#[derive(Debug, Clone)]
pub(super) struct Pattern(Regex);

impl Pattern {
    pub(super) fn compile(source: &str) -> Result<Self, regex::Error> {
        RegexBuilder::new(source).size_limit(MAX_PATTERN).build().map(Self)
    }
}

static PATTERN_TYPE: Type = Type::new_unspecified_type("pattern");

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &PATTERN_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

impl Container for Pattern {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        let text = value.downcast_ref::<CelString<'_>>().ok_or_else(|| unexpected(value, "text"))?;
        Ok(self.0.is_match(text.inner()))
    }
}
