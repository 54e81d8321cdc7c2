//! Templates that need minijinja: expressions, filters, conditions, loops.
//!
//! Null is minijinja's *undefined*, not its *none*: only *undefined* renders as nothing, also in `~`, and only *undefined* is
//! replaced by `default`. Two environments hold the compiled template. The lenient one accepts null; in the strict one, for
//! addresses, any use of null is an error that names it, except in `default`, `if`, `or` and `is`.

use std::collections::BTreeSet;
use std::io;
use std::string::FromUtf8Error;
use std::sync::{Arc, PoisonError};

use jiff::civil::DateTime;
use jiff::fmt::strtime;
use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, filters};

use super::fragments::InsertedText;
use super::numeric::NumericUses;
use super::values::{ProbeEvent, ValueSource};
use super::{TemplateError, exact_number, fragments, names, null_error, percent_encode};
use crate::event::date;
use crate::event::schema::EventSchema;

/// The cost limit of one rendering. minijinja counts 1 for an instruction, for 64 bytes of output and for 4 bytes of JSON. This is
/// enough for a body of a few MiB as JSON.
const FUEL: u64 = 2_000_000;
/// The default format of the filter `date`.
const DATE: &str = "%Y-%m-%d";
/// The longest format of a date, in bytes.
const MAX_DATE_FORMAT: usize = 100;
/// The longest output of one rendering, in bytes.
const MAX_OUTPUT: usize = 8 * 1024 * 1024;

// Marks in the state of a rendering: at least one expression was null, at least one was not.
const SOME_NULL: &str = "some null";
const SOME_VALUE: &str = "some value";

/// How a template is rendered. The name of the mode is the name of the template in its environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RenderMode {
    Text, // null renders as nothing
    /// Null renders as nothing, and [`RenderedText`] says whether there was any.
    Key,
    Address, // null is an error
    Url,     // null is an error, and values are percent-encoded
}

impl RenderMode {
    const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Key => "key",
            Self::Address => "address",
            Self::Url => "url",
        }
    }
}

pub(super) struct JinjaTemplate {
    lenient: Environment<'static>,
    strict: Environment<'static>,
    /// The names that the template uses, `headers.x` for nested ones.
    names: BTreeSet<String>,
    numeric_uses: NumericUses,
    schema: EventSchema,
}

pub(super) struct RenderedText {
    pub(super) text: String,
    pub(super) some_null: bool,
    pub(super) some_value: bool,
}

impl JinjaTemplate {
    pub(super) fn compile(source: &str, schema: EventSchema) -> Result<Self, TemplateError> {
        let lenient = environment(UndefinedBehavior::Chainable, &[RenderMode::Text, RenderMode::Key], source)?;
        let strict = environment(UndefinedBehavior::SemiStrict, &[RenderMode::Address, RenderMode::Url], source)?;
        let template = lenient.get_template(RenderMode::Text.name()).map_err(|error| explain(&error))?;
        let mut names: BTreeSet<String> = template.undeclared_variables(true).into_iter().collect();
        names.extend(names::sliced(source).filter(|name| schema.field_type(name).is_some()).map(str::to_owned));
        names::check(&names, &schema, source, &lenient)?;
        let numeric_uses = NumericUses::of(source, |name| schema.field_type(name).is_some());
        let jinja = Self { lenient, strict, names, numeric_uses, schema };
        jinja.probe_render()?;
        Ok(jinja)
    }

    /// Renders the template for a probe event, to find mistakes that fail for every event. Other failures are ignored.
    fn probe_render(&self) -> Result<(), TemplateError> {
        for null in [None, Some("")] {
            let probe = self.probe(null);
            let rendered = self.run(RenderMode::Text, &probe);
            let unknown = probe.unknown.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(name) = unknown.first() {
                return names::check_member(name, &self.schema);
            }
            if let Err(error) = rendered
                && matches!(
                    error.kind(),
                    ErrorKind::UnknownMethod
                        | ErrorKind::UnknownFunction
                        | ErrorKind::UnknownFilter
                        | ErrorKind::UnknownTest
                        | ErrorKind::TooManyArguments
                        | ErrorKind::MissingArgument
                        | ErrorKind::SyntaxError
                )
            {
                return Err(explain(&error));
            }
        }
        Ok(())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| name.split_once('.').map_or(name.as_str(), |(first, _)| first))
    }

    pub(super) fn nullable(&self) -> Vec<String> {
        let fails = |null: Option<&str>| {
            self.run(RenderMode::Address, &self.probe(null))
                .is_err_and(|error| error.kind() == ErrorKind::UndefinedError)
        };
        self.names.iter().filter(|name| self.schema.name_can_be_null(name) && fails(Some(name))).cloned().collect()
    }

    fn probe<'a>(&'a self, null: Option<&'a str>) -> ProbeEvent<'a> {
        ProbeEvent { null, schema: &self.schema, unknown: Arc::default() }
    }

    pub(super) fn render(&self, mode: RenderMode, source: &impl ValueSource) -> Result<RenderedText, TemplateError> {
        self.run(mode, source).map_err(|error| explain(&error))
    }

    fn run(&self, mode: RenderMode, source: &impl ValueSource) -> Result<RenderedText, Error> {
        let environment = match mode {
            RenderMode::Text | RenderMode::Key => &self.lenient,
            RenderMode::Address | RenderMode::Url => &self.strict,
        };
        let mut out = BoundedBuffer(Vec::new());
        let mut top = "";
        let mut values = Vec::with_capacity(self.names.len());
        for name in &self.names {
            let (first, _) = name.split_once('.').unwrap_or((name, ""));
            // The names are sorted: `headers` is right before `headers.x` and `headers.y`.
            if first != top {
                top = first;
                // A name without a value is undefined, and an error names it.
                values.extend(source.value(first).map(|value| (first, self.numeric_uses.convert(first, value))));
            }
        }
        let context = Value::from_pairs(values);
        let done = environment.get_template(mode.name())?.render_captured_to(context, &mut out)?;
        let marked = |mark| done.state().get_temp(mark).is_some();
        let (some_null, some_value) = (marked(SOME_NULL), marked(SOME_VALUE));
        drop(done);
        let text = String::from_utf8(out.0).map_err(|error: FromUtf8Error| {
            Error::new(ErrorKind::WriteFailure, "the output is not UTF-8").with_source(error)
        })?;
        Ok(RenderedText { text, some_null, some_value })
    }
}

fn environment(
    undefined: UndefinedBehavior,
    modes: &[RenderMode],
    source: &str,
) -> Result<Environment<'static>, TemplateError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(undefined);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    // Debug mode makes an error name the undefined value. It costs time only then.
    environment.set_debug(undefined == UndefinedBehavior::SemiStrict);
    environment.set_formatter(write_value);
    environment.remove_global("debug");
    environment.add_test("none", |value: Value| value.is_none() || value.is_undefined());
    for name in ["lower", "upper", "trim", "title", "capitalize", "date", "replace"] {
        null_stays_null(&mut environment, name);
    }
    exact_number::add_filters(&mut environment);
    environment.add_filter(fragments::FILTER, fragments::mark);
    for mode in modes {
        environment.add_template_owned(mode.name(), source.to_owned()).map_err(|error| explain(&error))?;
    }
    Ok(environment)
}

/// Makes a filter of text return null for null, so that `{{ session | upper }}` is null if `{{ session }}` is.
fn null_stays_null(environment: &mut Environment<'static>, name: &'static str) {
    let builtin = format!("builtin {name}");
    match name {
        "lower" => environment.add_filter(builtin.clone(), filters::lower),
        "upper" => environment.add_filter(builtin.clone(), filters::upper),
        "trim" => environment.add_filter(builtin.clone(), filters::trim),
        "title" => environment.add_filter(builtin.clone(), filters::title),
        "capitalize" => environment.add_filter(builtin.clone(), filters::capitalize),
        "date" => environment.add_filter(builtin.clone(), date),
        _ => environment.add_filter(builtin.clone(), filters::replace),
    }
    environment.add_filter(name, move |state: &mut State<'_, '_>, value: Value, arguments: Rest<Value>| {
        if value.is_undefined() || value.is_none() {
            return Ok(value);
        }
        let arguments: Vec<Value> = std::iter::once(value).chain(arguments.0).collect();
        state.apply_filter(&builtin, &arguments)
    });
}

/// The filter `date`: formats a date, or seconds since 1970, as `strftime` does, in UTC.
fn date(value: &Value, format: Option<&str>) -> Result<String, Error> {
    let format = format.unwrap_or(DATE);
    let no_format = |why: String| Error::new(ErrorKind::SyntaxError, format!("`{format}` is not a date format: {why}"));
    if format.len() > MAX_DATE_FORMAT {
        return Err(no_format(format!("it is longer than {MAX_DATE_FORMAT} bytes")));
    }
    let write = |date: DateTime| strtime::format(format, date).map_err(|error| no_format(error.to_string()));
    // Whether the format is valid doesn't depend on the date.
    write(DateTime::constant(2000, 1, 1, 0, 0, 0, 0))?;
    let date = match value.as_i64() {
        Some(seconds) => u64::try_from(seconds).ok().and_then(date::of_seconds),
        None => value.as_str().and_then(date::normalize),
    };
    let date = date.and_then(|date| date.trim_end_matches('Z').parse().ok());
    write(date.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("{value} is not a date")))?)
}

/// Writes the value of one `{{ … }}`.
fn write_value(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if let Some(InsertedText(text)) = value.downcast_object_ref() {
        return Ok(out.write_str(text)?);
    }
    let mode = state.name();
    let is_nothing = value.is_undefined() || value.is_none();
    if mode == RenderMode::Key.name() {
        state.set_temp(if is_nothing { SOME_NULL } else { SOME_VALUE }, Value::from(true));
    } else if is_nothing && (mode == RenderMode::Address.name() || mode == RenderMode::Url.name()) {
        return Err(Error::new(ErrorKind::UndefinedError, "an expression is null for this event"));
    }
    if is_nothing {
        return Ok(());
    }
    let text = match value.kind() {
        // As in JSON, not as in Python.
        ValueKind::Bool => (if value.is_true() { "true" } else { "false" }).to_owned(),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => exact_number::compact(value)?,
        _ => match value.as_str() {
            Some(text) if state.name() != RenderMode::Url.name() => return Ok(out.write_str(text)?),
            Some(text) => text.to_owned(),
            None => value.to_string(),
        },
    };
    if state.name() == RenderMode::Url.name() {
        let mut encoded = String::with_capacity(text.len());
        percent_encode(&mut encoded, &text);
        return Ok(out.write_str(&encoded)?);
    }
    Ok(out.write_str(&text)?)
}

/// Translates minijinja's errors into those of this module.
fn explain(error: &Error) -> TemplateError {
    let detail = error.detail().unwrap_or_default();
    match error.kind() {
        // "`session` is undefined"
        ErrorKind::UndefinedError => match detail.strip_prefix('`').and_then(|rest| rest.split_once('`')) {
            Some((name, _)) => null_error(name),
            None => TemplateError("an expression is null for this event".to_owned()),
        },
        ErrorKind::OutOfFuel => TemplateError("the template takes too long or produces too much text".to_owned()),
        ErrorKind::WriteFailure => TemplateError(format!("the template produces more than {MAX_OUTPUT} bytes")),
        kind => {
            let mut text = kind.to_string();
            if !detail.is_empty() {
                text = format!("{text}: {detail}");
            }
            match error.line() {
                Some(line) if line > 1 => TemplateError(format!("{text} (line {line} of the template)")),
                _ => TemplateError(text),
            }
        }
    }
}

/// A buffer of at most [`MAX_OUTPUT`] bytes.
struct BoundedBuffer(Vec<u8>);

impl io::Write for BoundedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
