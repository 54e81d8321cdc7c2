//! Lowering: rewrites a parsed expression into the form that is evaluated.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::exact_number::CONVERTER;
use super::patterns::{Pattern, Patterns};

/// The functions that convert between types.
const CONVERSIONS: [&str; 4] = ["double", "int", "uint", "string"];

/// Rewrites the parts that mean something else here than in cel: `has(a.b)` becomes `a.b != null`, as a missing member is null;
/// and `x.matches("…")` becomes `x in` a pattern that is compiled once.
pub(super) fn lower(expression: IdedExpr, patterns: &mut Patterns) -> IdedExpr {
    let IdedExpr { id, expr } = expression;
    let mut lower = |expression| lower(expression, patterns);
    let expr = match expr {
        Expr::Select(mut select) => {
            select.operand = Box::new(lower(*select.operand));
            if select.test {
                select.test = false;
                let member = IdedExpr { id, expr: Expr::Select(select) };
                let null = IdedExpr { id, expr: Expr::Literal(LiteralValue::Null) };
                call(operators::NOT_EQUALS, vec![member, null])
            } else {
                Expr::Select(select)
            }
        }
        Expr::Call(CallExpr { func_name, target, args }) => {
            let target = target.map(|target| Box::new(lower(*target)));
            let mut args: Vec<_> = args.into_iter().map(&mut lower).collect();
            if let (None, [arg], true) = (&target, args.as_mut_slice(), CONVERSIONS.contains(&func_name.as_str())) {
                let convertible = IdedExpr { id, expr: Expr::Ident(CONVERTER.to_owned()) };
                let expr = call(operators::INDEX, vec![convertible, std::mem::take(arg)]);
                *arg = IdedExpr { id, expr };
            }
            if let (Some(mirrored), [left, right]) = (mirrored(&func_name), args.as_slice())
                && matches!(left.expr, Expr::Literal(_))
                && !matches!(right.expr, Expr::Literal(_))
            {
                // cel asks the left side to compare, and its literals don't know our types.
                let args = args.into_iter().rev().collect();
                return IdedExpr { id, expr: call(mirrored, args) };
            }
            match (func_name.as_str(), target, pattern(&args)) {
                ("matches", Some(target), Some(pattern)) => {
                    let pattern = IdedExpr { id, expr: Expr::Ident(patterns.add(pattern)) };
                    call(operators::IN, vec![*target, pattern])
                }
                (_, target, _) => Expr::Call(CallExpr { func_name, target, args }),
            }
        }
        Expr::List(mut list) => {
            list.elements = list.elements.into_iter().map(lower).collect();
            Expr::List(list)
        }
        Expr::Map(mut map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    entry.key = lower(std::mem::take(&mut entry.key));
                    entry.value = lower(std::mem::take(&mut entry.value));
                }
            }
            Expr::Map(map)
        }
        Expr::Comprehension(mut comprehension) => {
            for part in [
                &mut comprehension.iter_range,
                &mut comprehension.accu_init,
                &mut comprehension.loop_cond,
                &mut comprehension.loop_step,
                &mut comprehension.result,
            ] {
                *part = lower(std::mem::take(part));
            }
            Expr::Comprehension(comprehension)
        }
        other @ (Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified) => other,
    };
    IdedExpr { id, expr }
}

/// The operator for swapped operands.
fn mirrored(operator: &str) -> Option<&'static str> {
    let pairs = [
        (operators::LESS, operators::GREATER),
        (operators::LESS_EQUALS, operators::GREATER_EQUALS),
        (operators::GREATER, operators::LESS),
        (operators::GREATER_EQUALS, operators::LESS_EQUALS),
        (operators::EQUALS, operators::EQUALS),
        (operators::NOT_EQUALS, operators::NOT_EQUALS),
    ];
    pairs.into_iter().find(|(known, _)| *known == operator).map(|(_, mirrored)| mirrored)
}

fn call(name: &str, args: Vec<IdedExpr>) -> Expr {
    Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args })
}

fn pattern(args: &[IdedExpr]) -> Option<Pattern> {
    match args {
        [IdedExpr { expr: Expr::Literal(LiteralValue::String(pattern)), .. }] => Pattern::compile(pattern.inner()).ok(),
        _ => None,
    }
}

/// How deep the expression is nested.
pub(super) fn depth(expression: &IdedExpr) -> usize {
    let mut deepest = 0;
    let mut open = vec![(expression, 1)];
    while let Some((expression, depth)) = open.pop() {
        deepest = deepest.max(depth);
        let mut add = |part| open.push((part, depth + 1));
        match &expression.expr {
            Expr::Select(select) => add(&select.operand),
            Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).for_each(add),
            Expr::List(list) => list.elements.iter().for_each(add),
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        add(&entry.key);
                        add(&entry.value);
                    }
                }
            }
            Expr::Comprehension(parts) => {
                [&parts.iter_range, &parts.accu_init, &parts.loop_cond, &parts.loop_step, &parts.result]
                    .into_iter()
                    .for_each(add);
            }
            Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => {}
        }
    }
    deepest
}
