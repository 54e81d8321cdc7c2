//! What the check knows at one place of an expression: the variables, and the names that can't be null because of the conditions
//! before.

use std::collections::BTreeSet;

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};

use super::types::ExprType;

#[derive(Debug, Clone, Default)]
pub(super) struct CheckContext {
    /// Names that can't be null here.
    pub(super) not_null: BTreeSet<String>,
    /// The variables of the loop around this place.
    pub(super) variables: Vec<(String, ExprType)>,
    /// This place is the element that `map` produces.
    pub(super) in_element: bool,
}

impl CheckContext {
    /// This context where, in addition, the condition is true, or false.
    pub(super) fn and(&self, condition: &IdedExpr, value: bool) -> Self {
        let mut context = self.clone();
        context.not_null.extend(not_null(condition, value));
        context
    }
}

/// The member as it would be written, if the value before it has a name.
pub(super) fn member_name(of: &ExprType, member: &str) -> Option<String> {
    let of = of.name.as_ref()?;
    let is_identifier = member.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
        && !member.starts_with(|char: char| char.is_ascii_digit());
    Some(if is_identifier { format!("{of}.{member}") } else { format!("{of}[\"{member}\"]") })
}

/// The names that can't be null if the condition has that value.
fn not_null(condition: &IdedExpr, value: bool) -> BTreeSet<String> {
    match &condition.expr {
        Expr::Select(select) if select.test && value => {
            path(&select.operand).and_then(|of| member_name(&of, &select.field)).into_iter().collect()
        }
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_NOT, [one]) => not_null(one, !value),
            (operators::LOGICAL_AND, [left, right]) if value => &not_null(left, true) | &not_null(right, true),
            (operators::LOGICAL_OR, [left, right]) if !value => &not_null(left, false) | &not_null(right, false),
            (operators::EQUALS, [left, right]) => equality(left, right, value),
            (operators::NOT_EQUALS, [left, right]) => equality(left, right, !value),
            (operators::IN, [IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }, of]) if value => {
                path(of).and_then(|of| member_name(&of, name.inner())).into_iter().collect()
            }
            _ => BTreeSet::new(),
        },
        _ => BTreeSet::new(),
    }
}

/// The names that can't be null if the two are equal, or are different.
fn equality(left: &IdedExpr, right: &IdedExpr, equal: bool) -> BTreeSet<String> {
    let sides = [(left, right), (right, left)].into_iter().filter(|(_, against)| match &against.expr {
        Expr::Literal(LiteralValue::Null) => !equal,
        Expr::Literal(_) => equal,
        _ => false,
    });
    sides.filter_map(|(side, _)| path(side)?.name).collect()
}

/// The name or member that the expression is, if it is one.
fn path(expression: &IdedExpr) -> Option<ExprType> {
    let name = match &expression.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => member_name(&path(&select.operand)?, &select.field),
        Expr::Call(call) if call.func_name == operators::INDEX => match call.args.as_slice() {
            [of, IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }] => {
                member_name(&path(of)?, name.inner())
            }
            _ => None,
        },
        _ => None,
    };
    Some(ExprType { name: Some(name?), ..ExprType::any() })
}
