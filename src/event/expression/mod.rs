//! Expressions over the event, in CEL: the `if:` of a route, and what its `transform:` computes.
//!
//! cel parses and evaluates them. What is ours: the names are those of the event and of nothing else; all of it is checked when
//! it is compiled; and, as in templates, a member that isn't there is null. There is no clock and no randomness. What an
//! evaluation may take is bounded: by the size of the expression, by having no loop in a loop, and by the length of what a
//! loop goes through.

mod calls;
mod check;
mod exact;
mod json;
mod known;
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

use self::check::Check;
use self::patterns::Patterns;
use self::types::{Kind, Typed};
use self::values::Variables;
use super::vocabulary::{Holds, Scope, Shape};

/// A longer expression is refused, in bytes.
const MAX_SOURCE: usize = 4096;
/// A deeper one, too: parsing, checking and evaluating it take stack.
const MAX_DEPTH: u16 = 64;
/// What a field can be set to has at most so much text in it, in bytes.
const MAX_VALUE: usize = 1024 * 1024;

/// cel's own functions; those that aren't in [`types`] are refused before.
static FUNCTIONS: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut functions = Env::stdlib();
    // It fails only where a name is taken, and then its functions are missing: a test calls each.
    let _ = functions.add_extension(cel::extensions::strings);
    Arc::new(functions)
});

/// A compiled, checked expression. Cheap to clone.
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

struct Compiled {
    source: String,
    expression: IdedExpr,
    patterns: Patterns,
    shape: Shape,
}

/// What compiling found beside the expression.
#[derive(Debug)]
pub struct Checked {
    /// The expression.
    pub expression: Expression,
    /// What may not have been meant.
    pub warnings: Vec<Finding>,
    /// The names that it compares with fixed texts, and these.
    pub comparisons: Vec<(String, String)>,
}

/// What is wrong with an expression, or may be, and what can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The word of the expression that it is about; empty: all of it.
    pub word: String,
    /// What it is.
    pub message: String,
    /// What to write.
    pub help: String,
}

/// An expression that can't be evaluated for an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExpressionError(pub String);

impl Expression {
    /// Compiles a condition: something that is true or false.
    pub fn condition(source: &str) -> Result<Checked, Vec<Finding>> {
        Self::compile(source, Check::is_bool)
    }

    /// Compiles what a field can be set to.
    pub fn computed(source: &str) -> Result<Checked, Vec<Finding>> {
        Self::compile(source, |_, _| {})
    }

    fn compile(source: &str, demand: impl FnOnce(&mut Check, &Typed)) -> Result<Checked, Vec<Finding>> {
        let parsed = parse(source).map_err(|finding| vec![finding])?;
        let mut check = Check::default();
        let typed = check.run(&parsed);
        demand(&mut check, &typed);
        let Check { errors, warnings, comparisons } = check;
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut patterns = Patterns::default();
        let expression = lower::lower(parsed, &mut patterns);
        let holds = if typed.kind == Kind::Text { Holds::Text } else { Holds::Anything };
        let shape = Shape { holds, nullable: typed.nullable };
        let compiled = Compiled { source: source.to_owned(), expression, patterns, shape };
        Ok(Checked { expression: Self(Arc::new(compiled)), warnings, comparisons })
    }

    /// The expression as written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// What it gives, as far as that is known before there is an event.
    pub(super) fn shape(&self) -> Shape {
        self.0.shape
    }

    /// Whether it is true of that event.
    pub fn holds(&self, scope: Scope<'_>) -> Result<bool, ExpressionError> {
        self.evaluate(scope, |value| match value.downcast_ref::<CelBool>() {
            Some(value) => Ok(*value.inner()),
            None => Err(ExpressionError(format!("it gives {}, not true or false", value.get_type().name()))),
        })
    }

    /// What it gives for that event.
    pub fn value(&self, scope: Scope<'_>) -> Result<serde_json::Value, ExpressionError> {
        let json = self.json(scope)?;
        serde_json::from_str(json.get()).map_err(|error| ExpressionError(format!("it gives no value: {error}")))
    }

    /// The same as JSON, numbers with all their digits.
    pub fn json(&self, scope: Scope<'_>) -> Result<Box<RawValue>, ExpressionError> {
        self.evaluate(scope, |value| json::of(value, MAX_VALUE).map_err(ExpressionError))
    }

    fn evaluate<T>(
        &self,
        scope: Scope<'_>,
        then: impl FnOnce(&dyn Val) -> Result<T, ExpressionError>,
    ) -> Result<T, ExpressionError> {
        let Compiled { expression, patterns, .. } = &*self.0;
        let variables = Variables::of(scope, patterns);
        let mut context = Context::with_env(Arc::clone(&FUNCTIONS));
        context.set_variable_resolver(&variables);
        let value = Value::resolve_val(expression, &context).map_err(|error| ExpressionError(error.to_string()))?;
        then(&*value)
    }
}

fn parse(source: &str) -> Result<IdedExpr, Finding> {
    let too_large =
        |message: String| Finding { word: String::new(), message, help: "make several routes of it".to_owned() };
    if source.len() > MAX_SOURCE {
        let length = source.len();
        return Err(too_large(format!("the expression has {length} bytes; at most {MAX_SOURCE} are possible")));
    }
    let parsed = PrattParser::new().max_recursion_depth(MAX_DEPTH).parse(source).map_err(|errors| {
        let error = errors.errors.first();
        let message = error.map_or("", |error| error.msg.trim_start_matches("Syntax error: "));
        let place = error.map_or(0, |error| error.pos.1);
        let meant = [("'='", "=="), ("'and'", "&&"), ("'or'", "||"), ("'not'", "!"), ("'is'", "==")];
        let help = match meant.iter().find(|(written, _)| message.starts_with(&format!("mismatched input {written}"))) {
            Some((written, sign)) => format!("write `{sign}` for {written}"),
            None => "write it as in `message != null && message.contains('quota')`".to_owned(),
        };
        let message = message.replace("'<EOF>'", "the end").replace("<EOF>", "the end");
        Finding {
            word: String::new(),
            message: format!("the expression can't be read at its character {place}: {message}"),
            help,
        }
    })?;
    if lower::depth(&parsed) > usize::from(MAX_DEPTH) {
        return Err(too_large(format!("the expression is nested deeper than {MAX_DEPTH}")));
    }
    Ok(parsed)
}

impl PartialEq for Expression {
    /// The same text says the same of every event.
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As with templates, it may hold what was inserted before.
        f.write_str("Expression(…)")
    }
}
