//! Checks the types of an expression when the configuration is loaded, before there is an event.
//!
//! cel finds a wrong type only while it evaluates. This check looks at every part, with the types of the event's fields. It also
//! finds values that can be null where null is an error, and follows the conditions before them: in
//! `message != null && message.contains("x")` the second `message` can't be null.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, ListExpr, LiteralValue, SelectExpr,
    operators,
};

use super::context::{CheckContext, member_name};
use super::finding::Finding;
use super::types::{ExprKind, ExprType, ParamType};
use crate::event::schema::{EventSchema, PROPERTIES, unknown};

/// cel's variable in which `all`, `exists`, `map` … collect their result.
const RESULT: &str = "@result";

#[derive(Debug, Default)]
pub(super) struct Checker {
    pub(super) errors: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
    /// The names that are compared with literal texts, and these texts.
    pub(super) comparisons: Vec<(String, String)>,
}

impl Checker {
    /// Checks the whole expression and returns its type.
    pub(super) fn run(&mut self, expression: &IdedExpr) -> ExprType {
        self.type_of(expression, &CheckContext::default())
    }

    /// Records an error and returns the type `Any`, so that one mistake causes no further errors. `word` is the part of the
    /// expression to point at; none is all of it.
    pub(super) fn error<'w>(
        &mut self,
        word: impl Into<Option<&'w str>>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> ExprType {
        let word = word.into().unwrap_or_default().to_owned();
        let finding = Finding { word, message: message.into(), help: help.into() };
        if !self.errors.contains(&finding) {
            self.errors.push(finding);
        }
        ExprType { nullable: true, ..ExprType::any() }
    }

    /// Records a warning if the value can be null, and an error if it is always null.
    pub(super) fn not_null(&mut self, typed: &ExprType) {
        if typed.kind == ExprKind::Null {
            self.error(None, "null can only be compared with `==` and `!=`", "remove it here");
        } else if typed.nullable {
            let (what, help) = match &typed.name {
                Some(name) => (
                    format!("`{name}`"),
                    format!("write `{name} != null && …` before it, or `{name} == null ? … : …` around it"),
                ),
                None => ("a value".to_owned(), "write `… != null && …` before it".to_owned()),
            };
            let message = format!("{what} can be null: the expression fails for such an event");
            let word = typed.name.clone().unwrap_or_default();
            let finding = Finding { word, message, help };
            if !self.warnings.contains(&finding) {
                self.warnings.push(finding);
            }
        }
    }

    pub(super) fn type_of(&mut self, expression: &IdedExpr, context: &CheckContext) -> ExprType {
        match &expression.expr {
            Expr::Literal(literal) => self.literal(literal),
            Expr::Ident(name) => self.name(name, context),
            Expr::Select(select) => self.select(select, context),
            Expr::Call(call) => self.call(call, context),
            Expr::List(list) => self.list(list, context),
            Expr::Map(map) => self.map(&map.entries, context),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, context),
            Expr::Struct(_) => {
                self.error(None, "message literals are not supported", "write a map: `{\"name\": value}`")
            }
            Expr::Unspecified => ExprType::any(),
        }
    }

    fn literal(&mut self, literal: &LiteralValue) -> ExprType {
        ExprType::of(match literal {
            LiteralValue::Boolean(_) => ExprKind::Bool,
            LiteralValue::Double(_) => ExprKind::Double,
            LiteralValue::Int(_) => ExprKind::Integer,
            LiteralValue::UInt(_) => ExprKind::Unsigned,
            LiteralValue::String(_) => ExprKind::Text,
            LiteralValue::Null => return ExprType { nullable: true, ..ExprType::of(ExprKind::Null) },
            LiteralValue::Bytes(_) => {
                return self.error(None, "bytes literals are not supported", "write text, without the `b`");
            }
        })
    }

    fn name(&mut self, name: &str, context: &CheckContext) -> ExprType {
        let variable = context.variables.iter().rev().find(|(of, _)| of == name).map(|(_, typed)| typed.clone());
        let is_variable = variable.is_some();
        let typed = match (variable, EventSchema::Event.field(name)) {
            (Some(typed), _) => typed,
            (_, Some(field)) => {
                ExprType { nullable: EventSchema::Event.can_be_null(field), ..ExprType::of(ExprKind::Text) }
            }
            _ => ExprType::of(match name {
                "extra" | "headers" => ExprKind::Map,
                "properties" => ExprKind::Properties,
                "warnings" => ExprKind::List(Box::new(ExprKind::Text)),
                _ => {
                    let events = EventSchema::Event;
                    let (message, mut help) = unknown(&format!("`{name}`"), name, events.names());
                    if !help.starts_with("did you mean") {
                        help = format!("if this is text, write it in quotes: `'{name}'`; {help}");
                    }
                    return self.error(name, message, help);
                }
            }),
        };
        if context.in_element && !is_variable {
            let help = "build the value from the whole list in a template instead";
            return self.error(name, format!("`{name}` can't be used in the elements that `map` produces"), help);
        }
        ExprType { nullable: typed.nullable && !context.not_null.contains(name), name: Some(name.to_owned()), ..typed }
    }

    fn select(&mut self, select: &SelectExpr, context: &CheckContext) -> ExprType {
        let of = self.type_of(&select.operand, context);
        let member = self.member(&of, Some(&select.field), context);
        if select.test { ExprType::of(ExprKind::Bool) } else { member }
    }

    /// A member of a map, by a literal name or another.
    fn member(&mut self, of: &ExprType, name: Option<&str>, context: &CheckContext) -> ExprType {
        let path = name.and_then(|name| member_name(of, name));
        let nullable = path.as_ref().is_none_or(|path| !context.not_null.contains(path));
        let kind = match (&of.kind, name) {
            (ExprKind::Map | ExprKind::Any, _) | (ExprKind::Properties, None) => ExprKind::Any,
            (ExprKind::Properties, Some(name)) => match name {
                "delivery_mode" | "priority" | "timestamp" => ExprKind::Integer,
                "headers" => {
                    return self.error("headers", "`headers` is not in `properties`", "write `headers[\"…\"]`");
                }
                _ if PROPERTIES.contains(&name) => ExprKind::Text,
                _ => {
                    let (message, help) = unknown(&format!("`properties.{name}`"), name, PROPERTIES);
                    return self.error(name, message, help);
                }
            },
            (kind, _) => {
                let what = of.name.as_ref().map_or_else(|| "this".to_owned(), |name| format!("`{name}`"));
                let name = name.map_or_else(String::new, |name| format!(" `{name}`"));
                return self.error(
                    of.name.as_deref(),
                    format!("{what} is {kind} and has no member{name}"),
                    "remove the part after it",
                );
            }
        };
        self.not_null(of);
        ExprType { kind, nullable, name: path }
    }

    fn list(&mut self, list: &ListExpr, context: &CheckContext) -> ExprType {
        let mut kinds = Vec::new();
        for element in &list.elements {
            kinds.push(self.type_of(element, context).kind);
        }
        let first = kinds.first().cloned().unwrap_or(ExprKind::Any);
        let element = if kinds.iter().all(|kind| *kind == first) { first } else { ExprKind::Any };
        ExprType::of(ExprKind::List(Box::new(element)))
    }

    fn map(&mut self, entries: &[IdedEntryExpr], context: &CheckContext) -> ExprType {
        for entry in entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
            let key = self.type_of(&entry.key, context);
            if !ParamType::Text.accepts(&key.kind) {
                self.error(
                    key.name.as_deref(),
                    format!("the name of a member must be text, and this is {}", key.kind),
                    "write it in quotes",
                );
            }
            self.not_null(&key);
            self.type_of(&entry.value, context);
        }
        ExprType::of(ExprKind::Map)
    }

    /// `all`, `exists`, `exists_one`, `map`, `filter`.
    fn comprehension(&mut self, comprehension: &ComprehensionExpr, context: &CheckContext) -> ExprType {
        let range = self.type_of(&comprehension.iter_range, context);
        self.not_null(&range);
        let Some(element) = range.kind.element() else {
            return self.error(
                range.name.as_deref(),
                format!("this is {} and has no elements", range.kind),
                "use a list or a map",
            );
        };
        let variable = &comprehension.iter_var;
        if !context.variables.is_empty() {
            return self.error(None, "loops can't be nested", "split it into two conditions");
        }
        if EventSchema::Event.field_type(variable).is_some() {
            return self.error(
                variable.as_str(),
                format!("`{variable}` is already a name of the event"),
                "give the element another name",
            );
        }
        let result = self.type_of(&comprehension.accu_init, context);
        let mut inner = context.clone();
        inner.variables = vec![(RESULT.to_owned(), result), (variable.clone(), element)];
        self.type_of(&comprehension.loop_cond, &inner);
        self.type_of(&comprehension.loop_step, &inner);
        self.type_of(&comprehension.result, &inner)
    }

    fn call(&mut self, call: &CallExpr, context: &CheckContext) -> ExprType {
        match (call.func_name.as_str(), &call.target, call.args.as_slice()) {
            (operators::LOGICAL_AND, None, [left, right]) => {
                self.boolean(left, context);
                self.boolean(right, &context.and(left, true))
            }
            (operators::LOGICAL_OR, None, [left, right]) => {
                self.boolean(left, context);
                self.boolean(right, &context.and(left, false))
            }
            (operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE, None, [one]) => self.boolean(one, context),
            (operators::CONDITIONAL, None, [condition, yes, no]) => {
                self.boolean(condition, context);
                let yes = self.type_of(yes, &context.and(condition, true));
                let no = self.type_of(no, &context.and(condition, false));
                let nullable = yes.nullable || no.nullable;
                let kind = match (yes.kind, no.kind) {
                    (ExprKind::Null, kind) | (kind, ExprKind::Null) => kind,
                    (yes, no) if yes == no => yes,
                    _ => ExprKind::Any,
                };
                ExprType { kind, nullable, name: None }
            }
            (operators::EQUALS | operators::NOT_EQUALS, None, [left, right]) => self.equality(left, right, context),
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                None,
                [left, right],
            ) => {
                let [left, right] = [left, right].map(|side| self.value(side, context));
                if !left.can_compare(&right) {
                    self.error(
                        None,
                        format!("{left} and {right} can't be ordered"),
                        "compare two numbers, or two texts",
                    );
                }
                ExprType::of(ExprKind::Bool)
            }
            (operators::IN, None, [left, right]) => self.containment(left, right, context),
            (operators::ADD, None, [left, right]) => self.addition(left, right, context),
            (
                operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO,
                None,
                [left, right],
            ) => {
                let [left, right] = [left, right].map(|side| self.value(side, context));
                self.arithmetic(left, right)
            }
            (operators::NEGATE, None, [one]) => {
                let kind = self.value(one, context);
                if !matches!(kind, ExprKind::Any | ExprKind::Integer | ExprKind::Double) {
                    return self.error(None, format!("{kind} can't be negated"), "remove the `-`");
                }
                ExprType::of(kind)
            }
            (operators::INDEX, None, [of, index]) => self.index(of, index, context),
            (operators::OPT_INDEX | operators::OPT_SELECT, None, _) => {
                self.error(None, "optional values are not supported", "write `.` or `[…]`: a missing member is null")
            }
            (name, target, arguments) => self.function(name, target.as_deref(), arguments, context),
        }
    }

    fn boolean(&mut self, expression: &IdedExpr, context: &CheckContext) -> ExprType {
        let typed = self.type_of(expression, context);
        self.is_bool(&typed);
        ExprType::of(ExprKind::Bool)
    }

    /// Records an error if the value is no condition.
    pub(super) fn is_bool(&mut self, typed: &ExprType) {
        self.not_null(typed);
        if !matches!(typed.kind, ExprKind::Any | ExprKind::Bool | ExprKind::Null) {
            let message = format!("a condition must be true or false, and this is {}", typed.kind);
            self.error(typed.name.as_deref(), message, "compare it with something");
        }
    }

    /// The kind of a value where null is an error.
    fn value(&mut self, expression: &IdedExpr, context: &CheckContext) -> ExprKind {
        let typed = self.type_of(expression, context);
        self.not_null(&typed);
        typed.kind
    }

    fn equality(&mut self, left: &IdedExpr, right: &IdedExpr, context: &CheckContext) -> ExprType {
        let sides = [left, right].map(|side| self.type_of(side, context));
        let [one, other] = &sides;
        for (side, value) in [(one, right), (other, left)] {
            if let (Some(name), Expr::Literal(LiteralValue::String(text))) = (&side.name, &value.expr) {
                self.comparisons.push((name.clone(), text.inner().to_owned()));
            }
        }
        for (side, against) in [(one, other), (other, one)] {
            let tested = side.name.as_ref().is_some_and(|name| context.not_null.contains(name));
            if against.kind == ExprKind::Null && !side.nullable && !tested {
                let what = side.name.as_ref().map_or_else(|| "this".to_owned(), |name| format!("`{name}`"));
                return self.error(side.name.as_deref(), format!("{what} is never null"), "remove the comparison");
            }
        }
        if [one, other].into_iter().any(|side| matches!(side.kind, ExprKind::Map | ExprKind::Properties)) {
            return self.error(
                one.name.as_deref().or(other.name.as_deref()),
                "maps can't be compared",
                "compare their members",
            );
        }
        if !one.kind.can_equal(&other.kind) {
            let word = one.name.as_deref().or(other.name.as_deref());
            let message = format!("{} and {} are never equal", one.kind, other.kind);
            return self.error(word, message, "compare values of the same type");
        }
        ExprType::of(ExprKind::Bool)
    }

    fn containment(&mut self, left: &IdedExpr, right: &IdedExpr, context: &CheckContext) -> ExprType {
        let one = self.type_of(left, context);
        let many = self.type_of(right, context);
        self.not_null(&many);
        if let (Some(name), Expr::List(list)) = (&one.name, &right.expr) {
            for element in &list.elements {
                if let Expr::Literal(LiteralValue::String(text)) = &element.expr {
                    self.comparisons.push((name.clone(), text.inner().to_owned()));
                }
            }
        }
        match &many.kind {
            ExprKind::Any => {}
            ExprKind::List(element) if one.kind.can_equal(element) => {}
            ExprKind::List(element) => {
                return self.error(
                    one.name.as_deref(),
                    format!("{} is never in a list of {element}", one.kind),
                    "list values of the same type",
                );
            }
            ExprKind::Map | ExprKind::Properties => {
                self.not_null(&one);
                if !ParamType::Text.accepts(&one.kind) {
                    return self.error(
                        one.name.as_deref(),
                        format!("the name of a member must be text, and this is {}", one.kind),
                        "write text",
                    );
                }
            }
            kind => {
                return self.error(
                    many.name.as_deref(),
                    format!("`in` needs a list or a map, and this is {kind}"),
                    "write `[…]` around it, or use `contains`",
                );
            }
        }
        ExprType::of(ExprKind::Bool)
    }

    fn addition(&mut self, left: &IdedExpr, right: &IdedExpr, context: &CheckContext) -> ExprType {
        if matches!(&left.expr, Expr::Ident(name) if name == RESULT) {
            // A loop adds to its result: an element to a list, or one to a count.
            let mut element = context.clone();
            element.in_element = true;
            self.type_of(right, &element);
            return self.type_of(left, context);
        }
        let [left, right] = [left, right].map(|side| self.value(side, context));
        match (&left, &right) {
            (ExprKind::Text, ExprKind::Text | ExprKind::Any) | (ExprKind::Any, ExprKind::Text) => {
                ExprType::of(ExprKind::Text)
            }
            (ExprKind::Text, kind) | (kind, ExprKind::Text) if *kind != ExprKind::Null => {
                self.error(None, format!("text and {kind} can't be joined"), "convert it with `string(…)`")
            }
            (ExprKind::List(_), _) | (_, ExprKind::List(_)) => {
                self.error(None, "lists can't be joined", "write one list")
            }
            _ => self.arithmetic(left, right),
        }
    }

    fn arithmetic(&mut self, left: ExprKind, right: ExprKind) -> ExprType {
        match (left, right) {
            (ExprKind::Null, _) | (_, ExprKind::Null) => ExprType::any(),
            (ExprKind::Any, kind) | (kind, ExprKind::Any) if kind == ExprKind::Any || kind.is_number() => {
                ExprType::of(kind)
            }
            (left, right) if left == right && left.is_number() => ExprType::of(left),
            (left, right) => {
                let help = "use two numbers of the same type; `int(…)` and `double(…)` convert them";
                self.error(None, format!("{left} and {right} can't be combined in a calculation"), help)
            }
        }
    }

    fn index(&mut self, of: &IdedExpr, index: &IdedExpr, context: &CheckContext) -> ExprType {
        let of = self.type_of(of, context);
        let name = match &index.expr {
            Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
            _ => None,
        };
        let index = self.value(index, context);
        match (&of.kind, &index) {
            (ExprKind::List(element), ExprKind::Any | ExprKind::Integer) => {
                self.not_null(&of);
                ExprType { nullable: **element == ExprKind::Any, ..ExprType::of((**element).clone()) }
            }
            (ExprKind::Any, ExprKind::Any | ExprKind::Integer) => {
                self.not_null(&of);
                ExprType { nullable: true, ..ExprType::any() }
            }
            (ExprKind::List(_), kind) => {
                self.error(None, format!("a list index must be a number, and this is {kind}"), "write a number")
            }
            (ExprKind::Map | ExprKind::Properties | ExprKind::Any, ExprKind::Any | ExprKind::Text) => {
                self.member(&of, name, context)
            }
            (ExprKind::Map | ExprKind::Properties | ExprKind::Any, kind) => {
                self.error(None, format!("the name of a member must be text, and this is {kind}"), "write it in quotes")
            }
            _ => self.member(&of, name, context),
        }
    }
}
