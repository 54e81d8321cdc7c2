//! Explains in words why a condition matches or not.

use std::fmt;

use super::{Condition, Glob};
use crate::event::EventView;

impl Condition {
    /// Why the condition matches, or as an error why it doesn't.
    pub fn explain(&self, view: EventView<'_>) -> Result<String, String> {
        let mut reasons = Vec::new();
        for (field, globs) in &self.fields {
            let name = field.as_str();
            match field.of(view.event) {
                None => return Err(format!("{name} is null, which matches nothing")),
                Some(value) if globs.iter().any(|glob| glob.matches(value)) => {
                    reasons.push(format!("{name} is {value}"));
                }
                Some(value) => return Err(format!("{name} is {value}, not {}", one_of(globs))),
            }
        }
        for block in &self.not {
            match block.matches(view) {
                Ok(false) => {}
                Ok(true) => {
                    let (Ok(reason) | Err(reason)) = block.explain(view);
                    return Err(format!("`not:` excludes it: {reason}"));
                }
                Err(error) => return Err(format!("`if:` in `not:` can't be evaluated: {error}")),
            }
        }
        if !self.not.is_empty() {
            reasons.push("`not:` doesn't exclude it".to_owned());
        }
        if let Some(expression) = &self.expression {
            match expression.is_true(view) {
                Ok(true) => reasons.push("`if:` is true".to_owned()),
                Ok(false) => return Err("`if:` is false".to_owned()),
                Err(error) => return Err(format!("`if:` can't be evaluated: {error}")),
            }
        }
        Ok(if reasons.is_empty() { "it matches every event".to_owned() } else { reasons.join(", ") })
    }
}

/// The condition in words; empty if it has no parts.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields.iter().map(|(field, globs)| format!("{} {}", field.as_str(), one_of(globs)));
        let blocks = self.not.iter().map(|block| format!("not ({block})"));
        let expression = self.expression.iter().map(|expression| format!("if {}", expression.source()));
        f.write_str(&fields.chain(blocks).chain(expression).collect::<Vec<_>>().join(", "))
    }
}

/// `a`, `a or b`, `a, b or c`.
fn one_of(globs: &[Glob]) -> String {
    let names: Vec<_> = globs.iter().map(Glob::as_str).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "anything".to_owned(),
    }
}
