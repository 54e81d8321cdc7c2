//! Expressions over the event in CEL: the `if:` of a route, and computed values in its `transform:`.
//!
//! The crate cel parses and evaluates them. This module adds: the names are those of the event only; every part is checked when
//! the expression is compiled; and, as in templates, a missing member is null. There is no clock and no randomness. The cost of
//! an evaluation is bounded by the size of the expression, by the length of what a loop iterates over, and because loops can't
//! be nested.

mod calls;
mod check;
mod context;
mod exact_number;
mod finding;
mod json;
mod lower;
mod patterns;
#[cfg(test)]
mod tests;
mod types;
mod values;

use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::common::ast::IdedExpr;
use cel::common::types::CelBool;
use cel::common::value::Val;
use cel::parser::PrattParser;
use cel::{Context, Env, Value};
use serde_json::value::RawValue;

use self::check::Checker;
pub use self::finding::Finding;
use self::patterns::Patterns;
use self::types::{ExprKind, ExprType};
use self::values::Variables;
use super::EventView;
use super::schema::{FieldKind, FieldType};

/// The longest expression, in bytes.
const MAX_SOURCE: usize = 4096;
/// The deepest expression: parsing, checking and evaluating recurse.
const MAX_DEPTH: u16 = 64;
/// The largest result for a field of a transform, in bytes of JSON.
const MAX_VALUE: usize = 1024 * 1024;

/// cel's functions. The check refuses those that are not in [`types`].
static FUNCTIONS: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut functions = Env::stdlib();
    // An error means that a name is taken and functions are missing. A test calls each of them.
    let _ = functions.add_extension(cel::extensions::strings);
    Arc::new(functions)
});

/// A compiled and checked expression. Cheap to clone.
#[derive(Clone)]
pub struct Expression(Arc<Inner>);

struct Inner {
    source: String,
    expression: IdedExpr,
    patterns: Patterns,
    field_type: FieldType,
}

#[derive(Debug)]
pub struct CompiledExpression {
    pub expression: Expression,
    /// Parts that are valid and probably mistakes.
    pub warnings: Vec<Finding>,
    /// The names that the expression compares with literal texts, and these texts.
    pub comparisons: Vec<(String, String)>,
}

/// The expression can't be evaluated for this event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExpressionError(pub String);

impl Expression {
    /// Compiles a condition, whose result is true or false.
    pub fn condition(source: &str) -> Result<CompiledExpression, Vec<Finding>> {
        Self::compile(source, Checker::is_bool)
    }

    /// Compiles the value of a field, which can have any type.
    pub fn computed(source: &str) -> Result<CompiledExpression, Vec<Finding>> {
        Self::compile(source, |_, _| {})
    }

    fn compile(
        source: &str,
        check_type: impl FnOnce(&mut Checker, &ExprType),
    ) -> Result<CompiledExpression, Vec<Finding>> {
        let parsed = parse(source).map_err(|finding| vec![finding])?;
        let mut checker = Checker::default();
        let typed = checker.run(&parsed);
        check_type(&mut checker, &typed);
        let Checker { errors, warnings, comparisons } = checker;
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut patterns = Patterns::default();
        let expression = lower::lower(parsed, &mut patterns);
        let kind = if typed.kind == ExprKind::Text { FieldKind::Text } else { FieldKind::Any };
        let field_type = FieldType { kind, nullable: typed.nullable };
        let compiled = Inner { source: source.to_owned(), expression, patterns, field_type };
        Ok(CompiledExpression { expression: Self(Arc::new(compiled)), warnings, comparisons })
    }

    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The type of the result, as far as it is known before there is an event.
    pub(super) fn field_type(&self) -> FieldType {
        self.0.field_type
    }

    pub fn is_true(&self, view: EventView<'_>) -> Result<bool, ExpressionError> {
        self.evaluate(view, |value| match value.downcast_ref::<CelBool>() {
            Some(value) => Ok(*value.inner()),
            None => Err(ExpressionError(format!("the result is {}, not true or false", value.get_type().name()))),
        })
    }

    pub fn value(&self, view: EventView<'_>) -> Result<serde_json::Value, ExpressionError> {
        let json = self.json(view)?;
        serde_json::from_str(json.get()).map_err(|error| ExpressionError(format!("the result is not a value: {error}")))
    }

    /// The result as JSON. Numbers keep all their digits.
    pub fn json(&self, view: EventView<'_>) -> Result<Box<RawValue>, ExpressionError> {
        self.evaluate(view, |value| json::of(value, MAX_VALUE).map_err(ExpressionError))
    }

    fn evaluate<T>(
        &self,
        view: EventView<'_>,
        then: impl FnOnce(&dyn Val) -> Result<T, ExpressionError>,
    ) -> Result<T, ExpressionError> {
        let Inner { expression, patterns, .. } = &*self.0;
        let variables = Variables::of(view, patterns);
        let mut context = Context::with_env(Arc::clone(&FUNCTIONS));
        context.set_variable_resolver(&variables);
        let value = Value::resolve_val(expression, &context).map_err(|error| ExpressionError(error.to_string()))?;
        then(&*value)
    }
}

fn parse(source: &str) -> Result<IdedExpr, Finding> {
    let too_large =
        |message: String| Finding { word: String::new(), message, help: "split it into several routes".to_owned() };
    if source.len() > MAX_SOURCE {
        let length = source.len();
        return Err(too_large(format!("the expression has {length} bytes; at most {MAX_SOURCE} are allowed")));
    }
    let parsed = PrattParser::new().max_recursion_depth(MAX_DEPTH).parse(source).map_err(|errors| {
        let error = errors.errors.first();
        let message = error.map_or("", |error| error.msg.trim_start_matches("Syntax error: "));
        let place = error.map_or(0, |error| error.pos.1);
        let corrections = [("'='", "=="), ("'and'", "&&"), ("'or'", "||"), ("'not'", "!"), ("'is'", "==")];
        let help =
            match corrections.iter().find(|(written, _)| message.starts_with(&format!("mismatched input {written}"))) {
                Some((written, sign)) => format!("write `{sign}` for {written}"),
                None => "write it as in `message != null && message.contains('quota')`".to_owned(),
            };
        let message = message.replace("'<EOF>'", "the end").replace("<EOF>", "the end");
        Finding {
            word: String::new(),
            message: format!("syntax error at character {place} of the expression: {message}"),
            help,
        }
    })?;
    if lower::depth(&parsed) > usize::from(MAX_DEPTH) {
        return Err(too_large(format!("the expression is nested deeper than {MAX_DEPTH}")));
    }
    Ok(parsed)
}

impl PartialEq for Expression {
    /// Equal texts have equal results for every event.
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As in templates, secrets may have been inserted into the source.
        f.write_str("Expression(…)")
    }
}
