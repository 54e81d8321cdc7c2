//! Are the functions and methods there, and do they get what they take?

use cel::common::ast::{Expr, IdedExpr, LiteralValue};

use super::check::Check;
use super::known::Known;
use super::patterns::Pattern;
use super::types::{FUNCTIONS, Function, Kind, METHODS, Takes, Typed};
use crate::event::vocabulary::unknown;

/// Methods that are parsed to something else than a call.
const MACROS: [&str; 5] = ["all", "exists", "exists_one", "map", "filter"];

impl Check {
    /// A call of one, with or without a value before the dot.
    pub(super) fn function(
        &mut self,
        name: &str,
        target: Option<&IdedExpr>,
        arguments: &[IdedExpr],
        known: &Known,
    ) -> Typed {
        let Some(target) = target else {
            let takes: Vec<Typed> = arguments.iter().map(|argument| self.typed(argument, known)).collect();
            return match FUNCTIONS.iter().find(|function| function.name == name) {
                Some(function) => self.arguments(function, &takes),
                None if METHODS.iter().any(|method| method.name == name) || name == "matches" => {
                    self.error(name, format!("`{name}` is called on a text"), format!("write `x.{name}(…)`"))
                }
                None => self.no_function(name, FUNCTIONS.iter().map(|function| function.name).chain(["has"])),
            };
        };
        let of = self.typed(target, known);
        let takes: Vec<Typed> = arguments.iter().map(|argument| self.typed(argument, known)).collect();
        if name == "size" && takes.is_empty() {
            return match FUNCTIONS.iter().find(|function| function.name == name) {
                Some(size) => self.arguments(size, &[of]),
                None => Typed::any(),
            };
        }
        let is_method = METHODS.iter().any(|method| method.name == name) || name == "matches";
        if !is_method {
            let names = METHODS.iter().map(|method| method.name).chain(["matches", "size"]).chain(MACROS);
            return self.no_function(name, names);
        }
        self.not_null(&of);
        if !Takes::Text.takes(&of.kind) && of.kind != Kind::Null {
            return self.error(
                name,
                format!("`{name}` is called on a text, and this is {}", of.kind),
                "use it on text",
            );
        }
        if name == "matches" {
            return self.pattern(arguments);
        }
        match METHODS.iter().find(|method| method.name == name) {
            Some(method) => self.arguments(method, &takes),
            None => Typed::any(),
        }
    }

    fn no_function(&mut self, name: &str, known: impl IntoIterator<Item = &'static str>) -> Typed {
        let (message, help) = unknown(&format!("function `{name}`"), name, known);
        self.error(name, message, help)
    }

    fn arguments(&mut self, function: &Function, given: &[Typed]) -> Typed {
        let (name, most) = (function.name, function.takes.len());
        if given.len() < function.at_least || given.len() > most {
            let takes: Vec<String> = function.takes.iter().map(Takes::to_string).collect();
            let help = if takes.is_empty() { "nothing".to_owned() } else { takes.join(", then ") };
            let message = format!("`{name}` has {} in its parentheses", count(given.len()));
            self.error(name, message, format!("it takes {help}"));
        }
        for (takes, given) in function.takes.iter().zip(given) {
            self.not_null(given);
            if !takes.takes(&given.kind) && given.kind != Kind::Null {
                self.error(
                    given.name.as_deref().or(Some(name)),
                    format!("`{name}` takes {takes}, and this is {}", given.kind),
                    format!("write {takes}"),
                );
            }
        }
        Typed::of(function.gives.clone())
    }

    fn pattern(&mut self, arguments: &[IdedExpr]) -> Typed {
        match arguments {
            [IdedExpr { expr: Expr::Literal(LiteralValue::String(pattern)), .. }] => {
                if let Err(error) = Pattern::compile(pattern.inner()) {
                    let last = error.to_string();
                    let last = last.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                    self.error(
                        "matches",
                        format!("`{}` is no regular expression: {last}", pattern.inner()),
                        "it is that of RE2, without look-around",
                    );
                }
            }
            _ => {
                self.error("matches", "`matches` takes one regular expression, written out", "write it in quotes");
            }
        }
        Typed::of(Kind::Bool)
    }
}

fn count(values: usize) -> String {
    match values {
        0 => "nothing".to_owned(),
        1 => "one value".to_owned(),
        more => format!("{more} values"),
    }
}
