//! Checks the calls of functions and methods: their names and arguments.

use cel::common::ast::{Expr, IdedExpr, LiteralValue};

use super::check::Checker;
use super::context::CheckContext;
use super::patterns::Pattern;
use super::types::{ExprKind, ExprType, FUNCTIONS, Function, METHODS, ParamType};
use crate::event::schema::unknown;

/// Methods that cel's parser turns into a loop.
const MACROS: [&str; 5] = ["all", "exists", "exists_one", "map", "filter"];

impl Checker {
    /// A call of a function, or with a target of a method.
    pub(super) fn function(
        &mut self,
        name: &str,
        target: Option<&IdedExpr>,
        arguments: &[IdedExpr],
        context: &CheckContext,
    ) -> ExprType {
        let Some(target) = target else {
            let given: Vec<ExprType> = arguments.iter().map(|argument| self.type_of(argument, context)).collect();
            return match FUNCTIONS.iter().find(|function| function.name == name) {
                Some(function) => self.arguments(function, &given),
                None if METHODS.iter().any(|method| method.name == name) || name == "matches" => {
                    self.error(name, format!("`{name}` is a method of text"), format!("write `x.{name}(…)`"))
                }
                None => self.no_function(name, FUNCTIONS.iter().map(|function| function.name).chain(["has"])),
            };
        };
        let of = self.type_of(target, context);
        let given: Vec<ExprType> = arguments.iter().map(|argument| self.type_of(argument, context)).collect();
        if name == "size" && given.is_empty() {
            return match FUNCTIONS.iter().find(|function| function.name == name) {
                Some(size) => self.arguments(size, &[of]),
                None => ExprType::any(),
            };
        }
        let is_method = METHODS.iter().any(|method| method.name == name) || name == "matches";
        if !is_method {
            let names = METHODS.iter().map(|method| method.name).chain(["matches", "size"]).chain(MACROS);
            return self.no_function(name, names);
        }
        self.not_null(&of);
        if !ParamType::Text.accepts(&of.kind) && of.kind != ExprKind::Null {
            return self.error(
                name,
                format!("`{name}` is a method of text, and this is {}", of.kind),
                "call it on text",
            );
        }
        if name == "matches" {
            return self.pattern(arguments);
        }
        match METHODS.iter().find(|method| method.name == name) {
            Some(method) => self.arguments(method, &given),
            None => ExprType::any(),
        }
    }

    fn no_function(&mut self, name: &str, known: impl IntoIterator<Item = &'static str>) -> ExprType {
        let (message, help) = unknown(&format!("function `{name}`"), name, known);
        self.error(name, message, help)
    }

    fn arguments(&mut self, function: &Function, given: &[ExprType]) -> ExprType {
        let (name, max) = (function.name, function.parameters.len());
        if given.len() < function.required || given.len() > max {
            let parameters: Vec<String> = function.parameters.iter().map(ParamType::to_string).collect();
            let help = if parameters.is_empty() { "no argument".to_owned() } else { parameters.join(", then ") };
            let message = format!("`{name}` is called with {}", count(given.len()));
            self.error(name, message, format!("it takes {help}"));
        }
        for (parameter, argument) in function.parameters.iter().zip(given) {
            self.not_null(argument);
            if !parameter.accepts(&argument.kind) && argument.kind != ExprKind::Null {
                self.error(
                    argument.name.as_deref().or(Some(name)),
                    format!("`{name}` takes {parameter}, and this is {}", argument.kind),
                    format!("write {parameter}"),
                );
            }
        }
        ExprType::of(function.returns.clone())
    }

    fn pattern(&mut self, arguments: &[IdedExpr]) -> ExprType {
        match arguments {
            [IdedExpr { expr: Expr::Literal(LiteralValue::String(pattern)), .. }] => {
                if let Err(error) = Pattern::compile(pattern.inner()) {
                    let last = error.to_string();
                    let last = last.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                    self.error(
                        "matches",
                        format!("`{}` is not a regular expression: {last}", pattern.inner()),
                        "the syntax is that of RE2, without look-around",
                    );
                }
            }
            _ => {
                self.error("matches", "`matches` takes one regular expression as a literal text", "write it in quotes");
            }
        }
        ExprType::of(ExprKind::Bool)
    }
}

fn count(values: usize) -> String {
    match values {
        0 => "no argument".to_owned(),
        1 => "one argument".to_owned(),
        more => format!("{more} arguments"),
    }
}
