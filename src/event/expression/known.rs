//! What is known where a part of an expression stands, by what was asked before it.

use std::collections::BTreeSet;

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};

use super::types::Typed;

/// What is known where a part of an expression stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Names that aren't null there.
    pub(super) not_null: BTreeSet<String>,
    /// Variables of the loop around it.
    pub(super) variables: Vec<(String, Typed)>,
    /// It makes an element of what `map` gives.
    pub(super) in_element: bool,
}

impl Known {
    /// The same, where the condition is that, too.
    pub(super) fn and(&self, condition: &IdedExpr, holds: bool) -> Self {
        let mut known = self.clone();
        known.not_null.extend(not_null(condition, holds));
        known
    }
}

/// How a member would be written, where what it is a member of has a name.
pub(super) fn member_name(of: &Typed, member: &str) -> Option<String> {
    let of = of.name.as_ref()?;
    let is_identifier = member.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
        && !member.starts_with(|char: char| char.is_ascii_digit());
    Some(if is_identifier { format!("{of}.{member}") } else { format!("{of}[\"{member}\"]") })
}

/// The names that aren't null if the condition is that.
fn not_null(condition: &IdedExpr, holds: bool) -> BTreeSet<String> {
    match &condition.expr {
        Expr::Select(select) if select.test && holds => {
            path(&select.operand).and_then(|of| member_name(&of, &select.field)).into_iter().collect()
        }
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_NOT, [one]) => not_null(one, !holds),
            (operators::LOGICAL_AND, [left, right]) if holds => &not_null(left, true) | &not_null(right, true),
            (operators::LOGICAL_OR, [left, right]) if !holds => &not_null(left, false) | &not_null(right, false),
            (operators::EQUALS, [left, right]) => equality(left, right, holds),
            (operators::NOT_EQUALS, [left, right]) => equality(left, right, !holds),
            (operators::IN, [IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }, of]) if holds => {
                path(of).and_then(|of| member_name(&of, name.inner())).into_iter().collect()
            }
            _ => BTreeSet::new(),
        },
        _ => BTreeSet::new(),
    }
}

/// The names that aren't null if the two are equal, or if they aren't.
fn equality(left: &IdedExpr, right: &IdedExpr, equal: bool) -> BTreeSet<String> {
    let sides = [(left, right), (right, left)].into_iter().filter(|(_, against)| match &against.expr {
        Expr::Literal(LiteralValue::Null) => !equal,
        Expr::Literal(_) => equal,
        _ => false,
    });
    sides.filter_map(|(side, _)| path(side)?.name).collect()
}

/// What is named by it, if anything is.
fn path(expression: &IdedExpr) -> Option<Typed> {
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
    Some(Typed { name: Some(name?), ..Typed::any() })
}
