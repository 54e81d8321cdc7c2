//! Numbers that minijinja can't hold exactly. They are printed and written as JSON with all their digits.
//!
//! minijinja can't calculate with them or compare them: where a template does so (`numeric`), and for the filters `float`, `int`,
//! `round` and `abs`, they become the nearest doubles.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, filters};

#[derive(Debug)]
pub(super) struct ExactNumber(pub(super) String); // the digits as written

impl Object for ExactNumber {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Replaces the filters of an environment by some that accept exact numbers.
pub(super) fn add_filters(environment: &mut Environment<'static>) {
    environment.add_filter("tojson", to_json);
    environment.add_filter("builtin float", filters::float);
    environment.add_filter("builtin int", filters::int);
    environment.add_filter("builtin round", filters::round);
    environment.add_filter("builtin abs", filters::abs);
    for name in ["float", "int", "round", "abs"] {
        environment.add_filter(name, move |state: &mut State<'_, '_>, value: Value, arguments: Rest<Value>| {
            let double = value.downcast_object_ref().and_then(|ExactNumber(raw)| raw.parse::<f64>().ok());
            let value = double.map_or(value, Value::from);
            let arguments: Vec<Value> = std::iter::once(value).chain(arguments.0).collect();
            state.apply_filter(&format!("builtin {name}"), &arguments)
        });
    }
}

/// Like minijinja's filter, also for values that contain exact numbers.
#[allow(clippy::needless_pass_by_value, reason = "what a filter is called with")]
fn to_json(state: &State<'_, '_>, value: Value, indent: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let json =
        if has_exact(&value) { exact_json(&value, indent, &named)? } else { filters::tojson(&value, indent, named)? };
    let bytes = json.as_str().map_or(0, str::len);
    state.consume_fuel(u64::try_from(bytes.div_ceil(BYTES_OF_FUEL)).unwrap_or(u64::MAX))?;
    Ok(json)
}

fn exact_json(value: &Value, indent: Option<Value>, named: &Kwargs) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => named.get::<Option<Value>>("indent")?,
    };
    named.assert_all_used()?;
    let indent = match indent {
        None => None,
        Some(value) if value.kind() == ValueKind::Bool => value.is_true().then_some(2),
        Some(value) => Some(usize::try_from(value)?.min(MAX_INDENT)),
    };
    let mut out = String::new();
    write(&mut out, value, &Layout { indent, is_spaced: true }, 0)?;
    // Like minijinja's filter: the JSON is safe in HTML.
    let escapes = [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\'', "\\u0027")];
    Ok(Value::from_safe_string(escapes.iter().fold(out, |out, (char, escape)| out.replace(*char, escape))))
}

/// The bytes of JSON that cost one unit of fuel, as with minijinja's filter.
const BYTES_OF_FUEL: usize = 4;
/// The widest indentation of JSON, in spaces.
const MAX_INDENT: usize = 16;

/// The value as JSON without white space.
pub(super) fn compact(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write(&mut out, value, &Layout { indent: None, is_spaced: false }, 0)?;
    Ok(out)
}

struct Layout {
    indent: Option<usize>,
    is_spaced: bool,
}

impl Layout {
    fn line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn begin(&self, out: &mut String, is_first: bool, depth: usize) {
        if !is_first {
            out.push_str(if self.is_spaced && self.indent.is_none() { ", " } else { "," });
        }
        self.line(out, depth);
    }
}

/// Recurses as deep as the event is nested.
fn write(out: &mut String, value: &Value, layout: &Layout, depth: usize) -> Result<(), Error> {
    if let Some(ExactNumber(raw)) = value.downcast_object_ref() {
        out.push_str(raw);
        return Ok(());
    }
    let mut is_empty = true;
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for item in value.try_iter()? {
                layout.begin(out, is_empty, depth + 1);
                is_empty = false;
                write(out, &item, layout, depth + 1)?;
            }
        }
        ValueKind::Map => {
            out.push('{');
            for name in value.try_iter()? {
                layout.begin(out, is_empty, depth + 1);
                is_empty = false;
                out.push_str(&json(&Value::from(name.to_string()))?);
                out.push_str(if layout.is_spaced { ": " } else { ":" });
                write(out, &value.get_item(&name)?, layout, depth + 1)?;
            }
        }
        ValueKind::Undefined => {
            out.push_str("null");
            return Ok(());
        }
        _ => {
            out.push_str(&json(value)?);
            return Ok(());
        }
    }
    if !is_empty {
        layout.line(out, depth);
    }
    out.push(if value.kind() == ValueKind::Map { '}' } else { ']' });
    Ok(())
}

/// Replaces the exact numbers at that path by the nearest doubles. Recurses as deep as the event is nested.
pub(super) fn to_doubles(value: Value, members: &[String]) -> Value {
    if let Some(ExactNumber(raw)) = value.downcast_object_ref() {
        return Value::from(raw.parse::<f64>().unwrap_or(f64::NAN));
    }
    match (value.kind(), members.split_first()) {
        _ if !has_exact(&value) => value,
        (ValueKind::Seq, _) => {
            value.try_iter().map_or(Value::UNDEFINED, |items| items.map(|item| to_doubles(item, members)).collect())
        }
        (ValueKind::Map, first) => {
            let names = value.try_iter().into_iter().flatten();
            let pairs = names.filter_map(|name| {
                let (member, name) = (value.get_item(&name).ok()?, name.to_string());
                Some(match first {
                    Some((first, _)) if *first != name => (name, member),
                    Some((_, rest)) => (name, to_doubles(member, rest)),
                    None => (name, to_doubles(member, &[])),
                })
            });
            Value::from_pairs(pairs.collect::<BTreeMap<_, _>>())
        }
        _ => value,
    }
}

fn json(value: &Value) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

fn has_exact(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Plain => value.downcast_object_ref::<ExactNumber>().is_some(),
        ValueKind::Seq => value.try_iter().is_ok_and(|mut items| items.any(|item| has_exact(&item))),
        ValueKind::Map => value
            .try_iter()
            .is_ok_and(|mut names| names.any(|name| value.get_item(&name).is_ok_and(|value| has_exact(&value)))),
        _ => false,
    }
}
