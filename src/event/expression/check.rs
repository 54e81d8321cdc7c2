//! Is an expression one that can be evaluated, and meant? Asked when the file is checked, not when the event comes.
//!
//! cel finds a wrong type when it gets there; here, every part is looked at, with what is known of the event's fields. A part
//! that can be null where null is an error is found by what was asked before it: in `message != null && message.contains("x")`
//! the second `message` can't be null.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, ListExpr, LiteralValue, SelectExpr,
    operators,
};

use super::Finding;
use super::known::{Known, member_name};
use super::types::{Kind, Takes, Typed};
use crate::event::vocabulary::{PROPERTIES, Vocabulary, unknown};

/// What `all`, `exists`, `map` … collect in.
const RESULT: &str = "@result";

/// What was found in one expression.
#[derive(Debug, Default)]
pub(super) struct Check {
    pub(super) errors: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
    /// Names that are compared with fixed texts.
    pub(super) comparisons: Vec<(String, String)>,
}

impl Check {
    /// What the whole expression gives.
    pub(super) fn run(&mut self, expression: &IdedExpr) -> Typed {
        self.typed(expression, &Known::default())
    }

    /// Says so; of what was wrong, nothing more is said. The word is where to look; without one, everywhere.
    pub(super) fn error<'w>(
        &mut self,
        word: impl Into<Option<&'w str>>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Typed {
        let word = word.into().unwrap_or_default().to_owned();
        let finding = Finding { word, message: message.into(), help: help.into() };
        if !self.errors.contains(&finding) {
            self.errors.push(finding);
        }
        Typed { nullable: true, ..Typed::any() }
    }

    /// Says so where a value is used that can be null.
    pub(super) fn not_null(&mut self, typed: &Typed) {
        if typed.kind == Kind::Null {
            self.error(None, "null can only be compared with `==` and `!=`", "remove it here");
        } else if typed.nullable {
            let (what, help) = match &typed.name {
                Some(name) => (
                    format!("`{name}`"),
                    format!("write `{name} != null && …` before it, or `{name} == null ? … : …` around it"),
                ),
                None => ("what is used here".to_owned(), "ask for `… != null` before it".to_owned()),
            };
            let message = format!("{what} can be null: the expression fails for such an event");
            let word = typed.name.clone().unwrap_or_default();
            let finding = Finding { word, message, help };
            if !self.warnings.contains(&finding) {
                self.warnings.push(finding);
            }
        }
    }

    pub(super) fn typed(&mut self, expression: &IdedExpr, known: &Known) -> Typed {
        match &expression.expr {
            Expr::Literal(literal) => self.literal(literal),
            Expr::Ident(name) => self.name(name, known),
            Expr::Select(select) => self.select(select, known),
            Expr::Call(call) => self.call(call, known),
            Expr::List(list) => self.list(list, known),
            Expr::Map(map) => self.map(&map.entries, known),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, known),
            Expr::Struct(_) => {
                self.error(None, "there are no messages to make here", "write a map: `{\"name\": value}`")
            }
            Expr::Unspecified => Typed::any(),
        }
    }

    fn literal(&mut self, literal: &LiteralValue) -> Typed {
        Typed::of(match literal {
            LiteralValue::Boolean(_) => Kind::Bool,
            LiteralValue::Double(_) => Kind::Double,
            LiteralValue::Int(_) => Kind::Integer,
            LiteralValue::UInt(_) => Kind::Unsigned,
            LiteralValue::String(_) => Kind::Text,
            LiteralValue::Null => return Typed { nullable: true, ..Typed::of(Kind::Null) },
            LiteralValue::Bytes(_) => {
                return self.error(None, "there are no bytes here", "write text: without the `b`");
            }
        })
    }

    fn name(&mut self, name: &str, known: &Known) -> Typed {
        let variable = known.variables.iter().rev().find(|(of, _)| of == name).map(|(_, typed)| typed.clone());
        let is_variable = variable.is_some();
        let typed = match (variable, Vocabulary::Event.field(name)) {
            (Some(typed), _) => typed,
            (_, Some(field)) => Typed { nullable: Vocabulary::Event.can_be_null(field), ..Typed::of(Kind::Text) },
            _ => Typed::of(match name {
                "extra" | "headers" => Kind::Map,
                "properties" => Kind::Properties,
                "warnings" => Kind::List(Box::new(Kind::Text)),
                _ => {
                    let events = Vocabulary::Event;
                    let (message, mut help) = unknown(&format!("`{name}`"), name, events.names());
                    if !help.starts_with("did you mean") {
                        help = format!("text stands in quotes: `'{name}'`; {help}");
                    }
                    return self.error(name, message, help);
                }
            }),
        };
        if known.in_element && !is_variable {
            let help = "make one value of the whole list in the template instead";
            return self.error(name, format!("`{name}` can't stand in an element that `map` makes"), help);
        }
        Typed { nullable: typed.nullable && !known.not_null.contains(name), name: Some(name.to_owned()), ..typed }
    }

    /// `a.b`, and `has(a.b)`.
    fn select(&mut self, select: &SelectExpr, known: &Known) -> Typed {
        let of = self.typed(&select.operand, known);
        let member = self.member(&of, Some(&select.field), known);
        if select.test { Typed::of(Kind::Bool) } else { member }
    }

    /// A member of a map, by a fixed name or another.
    fn member(&mut self, of: &Typed, name: Option<&str>, known: &Known) -> Typed {
        let path = name.and_then(|name| member_name(of, name));
        let nullable = path.as_ref().is_none_or(|path| !known.not_null.contains(path));
        let kind = match (&of.kind, name) {
            (Kind::Map | Kind::Any, _) | (Kind::Properties, None) => Kind::Any,
            (Kind::Properties, Some(name)) => match name {
                "delivery_mode" | "priority" | "timestamp" => Kind::Integer,
                "headers" => {
                    return self.error("headers", "`headers` are not in `properties`", "write `headers[\"…\"]`");
                }
                _ if PROPERTIES.contains(&name) => Kind::Text,
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
                    "remove what follows it",
                );
            }
        };
        self.not_null(of);
        Typed { kind, nullable, name: path }
    }

    fn list(&mut self, list: &ListExpr, known: &Known) -> Typed {
        let mut kinds = Vec::new();
        for element in &list.elements {
            kinds.push(self.typed(element, known).kind);
        }
        let first = kinds.first().cloned().unwrap_or(Kind::Any);
        let element = if kinds.iter().all(|kind| *kind == first) { first } else { Kind::Any };
        Typed::of(Kind::List(Box::new(element)))
    }

    fn map(&mut self, entries: &[IdedEntryExpr], known: &Known) -> Typed {
        for entry in entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
            let key = self.typed(&entry.key, known);
            if !Takes::Text.takes(&key.kind) {
                self.error(
                    key.name.as_deref(),
                    format!("the name of a member is text, and this is {}", key.kind),
                    "write it in quotes",
                );
            }
            self.not_null(&key);
            self.typed(&entry.value, known);
        }
        Typed::of(Kind::Map)
    }

    /// `all`, `exists`, `exists_one`, `map`, `filter`.
    fn comprehension(&mut self, comprehension: &ComprehensionExpr, known: &Known) -> Typed {
        let range = self.typed(&comprehension.iter_range, known);
        self.not_null(&range);
        let Some(element) = range.kind.element() else {
            return self.error(
                range.name.as_deref(),
                format!("this is {}, and has no elements to go through", range.kind),
                "name a list or a map",
            );
        };
        let variable = &comprehension.iter_var;
        if !known.variables.is_empty() {
            return self.error(None, "a loop can't stand in another", "make two conditions of it");
        }
        if Vocabulary::Event.shape(variable).is_some() {
            return self.error(
                variable.as_str(),
                format!("`{variable}` is a name of the event"),
                "give the element another one",
            );
        }
        let result = self.typed(&comprehension.accu_init, known);
        let mut inner = known.clone();
        inner.variables = vec![(RESULT.to_owned(), result), (variable.clone(), element)];
        self.typed(&comprehension.loop_cond, &inner);
        self.typed(&comprehension.loop_step, &inner);
        self.typed(&comprehension.result, &inner)
    }

    fn call(&mut self, call: &CallExpr, known: &Known) -> Typed {
        match (call.func_name.as_str(), &call.target, call.args.as_slice()) {
            (operators::LOGICAL_AND, None, [left, right]) => {
                self.boolean(left, known);
                self.boolean(right, &known.and(left, true))
            }
            (operators::LOGICAL_OR, None, [left, right]) => {
                self.boolean(left, known);
                self.boolean(right, &known.and(left, false))
            }
            (operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE, None, [one]) => self.boolean(one, known),
            (operators::CONDITIONAL, None, [condition, yes, no]) => {
                self.boolean(condition, known);
                let yes = self.typed(yes, &known.and(condition, true));
                let no = self.typed(no, &known.and(condition, false));
                let nullable = yes.nullable || no.nullable;
                let kind = match (yes.kind, no.kind) {
                    (Kind::Null, kind) | (kind, Kind::Null) => kind,
                    (yes, no) if yes == no => yes,
                    _ => Kind::Any,
                };
                Typed { kind, nullable, name: None }
            }
            (operators::EQUALS | operators::NOT_EQUALS, None, [left, right]) => self.equality(left, right, known),
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                None,
                [left, right],
            ) => {
                let [left, right] = [left, right].map(|side| self.value(side, known));
                if !left.can_compare(&right) {
                    self.error(None, format!("{left} and {right} have no order"), "compare two numbers, or two texts");
                }
                Typed::of(Kind::Bool)
            }
            (operators::IN, None, [left, right]) => self.containment(left, right, known),
            (operators::ADD, None, [left, right]) => self.addition(left, right, known),
            (
                operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO,
                None,
                [left, right],
            ) => {
                let [left, right] = [left, right].map(|side| self.value(side, known));
                self.arithmetic(left, right)
            }
            (operators::NEGATE, None, [one]) => {
                let kind = self.value(one, known);
                if !matches!(kind, Kind::Any | Kind::Integer | Kind::Double) {
                    return self.error(None, format!("{kind} has no negative"), "remove the `-`");
                }
                Typed::of(kind)
            }
            (operators::INDEX, None, [of, index]) => self.index(of, index, known),
            (operators::OPT_INDEX | operators::OPT_SELECT, None, _) => self.error(
                None,
                "there are no optional values here",
                "write `.` or `[…]`: a member that isn't there is null",
            ),
            (name, target, arguments) => self.function(name, target.as_deref(), arguments, known),
        }
    }

    fn boolean(&mut self, expression: &IdedExpr, known: &Known) -> Typed {
        let typed = self.typed(expression, known);
        self.is_bool(&typed);
        Typed::of(Kind::Bool)
    }

    /// Says so where a value is no condition.
    pub(super) fn is_bool(&mut self, typed: &Typed) {
        self.not_null(typed);
        if !matches!(typed.kind, Kind::Any | Kind::Bool | Kind::Null) {
            let message = format!("a condition is true or false, and this is {}", typed.kind);
            self.error(typed.name.as_deref(), message, "compare it with something");
        }
    }

    /// The kind of a value that must not be null.
    fn value(&mut self, expression: &IdedExpr, known: &Known) -> Kind {
        let typed = self.typed(expression, known);
        self.not_null(&typed);
        typed.kind
    }

    fn equality(&mut self, left: &IdedExpr, right: &IdedExpr, known: &Known) -> Typed {
        let sides = [left, right].map(|side| self.typed(side, known));
        let [one, other] = &sides;
        for (side, value) in [(one, right), (other, left)] {
            if let (Some(name), Expr::Literal(LiteralValue::String(text))) = (&side.name, &value.expr) {
                self.comparisons.push((name.clone(), text.inner().to_owned()));
            }
        }
        for (side, against) in [(one, other), (other, one)] {
            let asked_for = side.name.as_ref().is_some_and(|name| known.not_null.contains(name));
            if against.kind == Kind::Null && !side.nullable && !asked_for {
                let what = side.name.as_ref().map_or_else(|| "this".to_owned(), |name| format!("`{name}`"));
                return self.error(side.name.as_deref(), format!("{what} is never null"), "remove the comparison");
            }
        }
        if [one, other].into_iter().any(|side| matches!(side.kind, Kind::Map | Kind::Properties)) {
            return self.error(
                one.name.as_deref().or(other.name.as_deref()),
                "maps can't be compared",
                "compare members of it",
            );
        }
        if !one.kind.can_equal(&other.kind) {
            let word = one.name.as_deref().or(other.name.as_deref());
            let message = format!("{} and {} are never equal", one.kind, other.kind);
            return self.error(word, message, "compare values of one type");
        }
        Typed::of(Kind::Bool)
    }

    fn containment(&mut self, left: &IdedExpr, right: &IdedExpr, known: &Known) -> Typed {
        let one = self.typed(left, known);
        let many = self.typed(right, known);
        self.not_null(&many);
        if let (Some(name), Expr::List(list)) = (&one.name, &right.expr) {
            for element in &list.elements {
                if let Expr::Literal(LiteralValue::String(text)) = &element.expr {
                    self.comparisons.push((name.clone(), text.inner().to_owned()));
                }
            }
        }
        match &many.kind {
            Kind::Any => {}
            Kind::List(element) if one.kind.can_equal(element) => {}
            Kind::List(element) => {
                return self.error(
                    one.name.as_deref(),
                    format!("{} is never in a list of {element}", one.kind),
                    "list values of its type",
                );
            }
            Kind::Map | Kind::Properties => {
                self.not_null(&one);
                if !Takes::Text.takes(&one.kind) {
                    return self.error(
                        one.name.as_deref(),
                        format!("the name of a member is text, and this is {}", one.kind),
                        "write text",
                    );
                }
            }
            kind => {
                return self.error(
                    many.name.as_deref(),
                    format!("`in` looks into a list or a map, and this is {kind}"),
                    "write `[…]` around it, or use `contains`",
                );
            }
        }
        Typed::of(Kind::Bool)
    }

    fn addition(&mut self, left: &IdedExpr, right: &IdedExpr, known: &Known) -> Typed {
        if matches!(&left.expr, Expr::Ident(name) if name == RESULT) {
            // What a loop collects: the elements of a list, or a count.
            let mut element = known.clone();
            element.in_element = true;
            self.typed(right, &element);
            return self.typed(left, known);
        }
        let [left, right] = [left, right].map(|side| self.value(side, known));
        match (&left, &right) {
            (Kind::Text, Kind::Text | Kind::Any) | (Kind::Any, Kind::Text) => Typed::of(Kind::Text),
            (Kind::Text, kind) | (kind, Kind::Text) if *kind != Kind::Null => {
                self.error(None, format!("text and {kind} can't be joined"), "make it text by `string(…)`")
            }
            (Kind::List(_), _) | (_, Kind::List(_)) => self.error(None, "lists can't be joined", "write one list"),
            _ => self.arithmetic(left, right),
        }
    }

    fn arithmetic(&mut self, left: Kind, right: Kind) -> Typed {
        match (left, right) {
            (Kind::Null, _) | (_, Kind::Null) => Typed::any(),
            (Kind::Any, kind) | (kind, Kind::Any) if kind == Kind::Any || kind.is_number() => Typed::of(kind),
            (left, right) if left == right && left.is_number() => Typed::of(left),
            (left, right) => {
                let help = "use two numbers of one type: `int(…)` and `double(…)` make them so";
                self.error(None, format!("{left} and {right} can't be calculated with"), help)
            }
        }
    }

    fn index(&mut self, of: &IdedExpr, index: &IdedExpr, known: &Known) -> Typed {
        let of = self.typed(of, known);
        let name = match &index.expr {
            Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
            _ => None,
        };
        let index = self.value(index, known);
        match (&of.kind, &index) {
            (Kind::List(element), Kind::Any | Kind::Integer) => {
                self.not_null(&of);
                Typed { nullable: **element == Kind::Any, ..Typed::of((**element).clone()) }
            }
            (Kind::Any, Kind::Any | Kind::Integer) => {
                self.not_null(&of);
                Typed { nullable: true, ..Typed::any() }
            }
            (Kind::List(_), kind) => {
                self.error(None, format!("the place in a list is a number, and this is {kind}"), "write a number")
            }
            (Kind::Map | Kind::Properties | Kind::Any, Kind::Any | Kind::Text) => self.member(&of, name, known),
            (Kind::Map | Kind::Properties | Kind::Any, kind) => {
                self.error(None, format!("the name of a member is text, and this is {kind}"), "write it in quotes")
            }
            _ => self.member(&of, name, known),
        }
    }
}
