//! Conditions and computed values in CEL.

mod evaluation;
mod findings;
mod generated;
mod limits;

use super::*;
use crate::event::fixtures::with_event;

fn compile(source: &str) -> CompiledExpression {
    Expression::condition(source).unwrap_or_else(|errors| panic!("{source}: {errors:?}"))
}

fn holds(source: &str) -> Result<bool, ExpressionError> {
    with_event(|view| compile(source).expression.is_true(view))
}

#[test]
fn comparisons_with_literal_texts_are_listed() {
    let compared = compile("status == 'SUCCES' || tenant in ['a', 'b'] && !('x' != outcome)").comparisons;
    let compared: Vec<_> = compared.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(compared, [("status", "SUCCES"), ("tenant", "a"), ("tenant", "b"), ("outcome", "x")]);
}
