//! The values of the file that are more than text: durations, sizes, rates, words out of a fixed set.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::decode::{Decode, or_reference};
use super::diagnostic::Diagnostic;
use super::reader::{Filled, Hidden, Reader};
use super::words::{list, similar};
use super::yaml::{Kind, Node};
use crate::event::Format;

/// Any text.
pub(super) type Text = Filled;

impl Decode for Filled {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.fill(node, "a text")
    }
}

impl JsonSchema for Filled {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // An unquoted number or `true` is taken as the text it is written as.
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

/// A text that is never shown; its files are read anew at each use.
#[derive(Debug)]
pub(super) struct SecretText(pub Hidden);

impl Decode for SecretText {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.secret(node, false).map(Self)
    }
}

/// The same for a URL: what is inserted into it is percent-encoded, unless it is the whole of it.
#[derive(Debug)]
pub(super) struct UrlText(pub Hidden);

impl Decode for UrlText {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.secret(node, true).map(Self)
    }
}

macro_rules! schema {
    ($($type:ident $(<$param:ident: $bound:ident>)? => $schema:expr;)*) => {$(
        impl$(<$param: $bound>)? JsonSchema for $type$(<$param>)? {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

/// A scalar that `parse` makes a value of. One that is not known here is `None`, and no mistake.
fn parsed<T>(
    node: &Node,
    reader: &mut Reader<'_>,
    what: &str,
    example: &str,
    parse: impl Fn(&Filled) -> Option<T>,
) -> Option<T> {
    let filled = reader.fill(node, what)?;
    if filled.placeholder {
        return None;
    }
    let value = parse(&filled);
    if value.is_none() && !filled.plain && parse(&Filled { plain: true, ..filled }).is_some() {
        let message = format!("{} stands in quotes, which makes it a text: expected {what}", reader.quote(node.span));
        reader.report(Diagnostic::error("wrong-type", node.span, message).help("remove the quotes"));
    } else if value.is_none() {
        let message = format!("{} is not {what}", reader.quote(node.span));
        reader.report(Diagnostic::error("wrong-value", node.span, message).help(format!("write {example}")));
    }
    value
}

/// A number of things.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count(pub u64);

impl Decode for Count {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        parsed(node, reader, "a whole number", "digits only, without quotes, as in `100`", |filled| {
            filled.plain.then(|| whole(&filled.text)).flatten().map(Self)
        })
    }
}

/// `true` or `false`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag(pub bool);

impl Decode for Flag {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        parsed(node, reader, "`true` or `false`", "`true` or `false`, without quotes", |filled| {
            match filled.text.as_str() {
                "true" | "True" | "TRUE" if filled.plain => Some(Self(true)),
                "false" | "False" | "FALSE" if filled.plain => Some(Self(false)),
                _ => None,
            }
        })
    }
}

/// `250ms`, `20s`, `5m`, `24h`, `7d`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Period(pub Duration);

const DURATION: &str = "a number and a unit, as in `250ms`, `20s`, `5m`, `24h`, `7d`";
const DURATION_PATTERN: &str = r"^[0-9]+(ms|s|m|h|d)$";

impl Decode for Period {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        parsed(node, reader, "a duration", DURATION, |filled| duration(&filled.text).map(Self))
    }
}

/// The longest duration that can be written: a hundred years, so that adding it to a time never overflows.
const MAX_DURATION: Duration = Duration::from_hours(100 * 366 * 24);

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.checked_mul(millis)?);
    (duration <= MAX_DURATION).then_some(duration)
}

/// `64KiB`, `1MiB`, `10GiB`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size(pub u64);

impl Decode for Size {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        parsed(node, reader, "a size", "a number and a unit, as in `512B`, `64KiB`, `1MiB`, `10GiB`", |filled| {
            let (number, unit) = split(&filled.text)?;
            let bytes: u64 = match unit {
                "B" => 1,
                "KiB" => 1 << 10,
                "MiB" => 1 << 20,
                "GiB" => 1 << 30,
                "TiB" => 1 << 40,
                _ => return None,
            };
            // SQLite and files count in signed 64 bits.
            number.checked_mul(bytes).filter(|&size| i64::try_from(size).is_ok()).map(Self)
        })
    }
}

/// `50/s`, `10/m`: in events a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate(pub f64);

impl Decode for Rate {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        parsed(node, reader, "a rate", "how many in which time, as in `50/s`, `10/m`, `100/h`", |filled| {
            let (number, unit) = filled.text.split_once('/')?;
            let number = u32::try_from(whole(number)?).ok().filter(|&number| number > 0)?;
            let seconds = match unit {
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
            Some(Self(f64::from(number) / seconds))
        })
    }
}

/// `50%`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Percent(pub u8);

impl Decode for Percent {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        parsed(node, reader, "a share", "a share of the whole between `1%` and `100%`", |filled| {
            let number = whole(filled.text.strip_suffix('%')?)?;
            u8::try_from(number).ok().filter(|number| (1..=100).contains(number)).map(Self)
        })
    }
}

/// A value, or a word that says that there is none.
#[derive(Debug, Clone, Copy)]
pub(super) enum Or<T> {
    Word,
    Value(T),
}

impl<T> Or<T> {
    pub fn value(self) -> Option<T> {
        match self {
            Self::Word => None,
            Self::Value(value) => Some(value),
        }
    }
}

/// `never`, or a duration.
#[derive(Debug, Clone, Copy)]
pub(super) struct GiveUp(pub Or<Duration>);

/// `forever`, or a duration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep(pub Or<Duration>);

/// `unlimited`, or a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempts(pub Or<u64>);

fn word_or<T>(
    node: &Node,
    reader: &mut Reader<'_>,
    word: &str,
    what: &str,
    example: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<Or<T>> {
    parsed(node, reader, &format!("`{word}` or {what}"), &format!("`{word}`, or {example}"), |filled| {
        if filled.text == word { Some(Or::Word) } else { parse(&filled.text).map(Or::Value) }
    })
}

impl Decode for GiveUp {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        word_or(node, reader, "never", "a duration", DURATION, duration).map(Self)
    }
}

impl Decode for Keep {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        word_or(node, reader, "forever", "a duration", DURATION, duration).map(Self)
    }
}

impl Decode for Attempts {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        word_or(node, reader, "unlimited", "a whole number", "digits only, as in `10`", whole).map(Self)
    }
}

/// A word out of a fixed set.
pub(super) trait Word: Copy + 'static {
    /// What can be written, and what it means.
    const WORDS: &'static [(&'static str, Self)];
}

/// One of the words of `T`.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneOf<T>(pub T);

impl<T: Word> Decode for OneOf<T> {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let filled = reader.fill(node, "a word")?;
        if filled.placeholder {
            return None;
        }
        let found = T::WORDS.iter().find(|(word, _)| *word == filled.text);
        if found.is_none() {
            let words = T::WORDS.iter().map(|(word, _)| *word);
            unknown_word(reader, node, &filled, words);
        }
        found.map(|(_, meaning)| Self(*meaning))
    }
}

/// Says that a word is not one of those known, and which was meant.
pub(super) fn unknown_word<'w>(
    reader: &mut Reader<'_>,
    node: &Node,
    filled: &Filled,
    words: impl Iterator<Item = &'w str> + Clone,
) {
    if reader.is_full() {
        return;
    }
    let message = format!("{} is not one of {}", reader.quote(node.span), list(words.clone()));
    let mut diagnostic = Diagnostic::error("unknown-word", node.span, message);
    if let Some(near) = similar(&filled.text, words) {
        diagnostic = diagnostic.label(format!("did you mean `{near}`?")).help(format!("write `{near}`"));
    } else {
        diagnostic = diagnostic.help("write one of these");
    }
    reader.report(diagnostic);
}

/// What `format:` can be: a name, or, later, a name with settings.
#[derive(Debug)]
pub(super) enum FormatChoice {
    Name(Text),
    WithSettings,
}

impl Decode for FormatChoice {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.kind {
            Kind::Mapping(_) => Some(Self::WithSettings),
            _ => Text::decode(node, reader).map(Self::Name),
        }
    }
}

/// A key that has its place but no meaning yet.
#[derive(Debug)]
pub(super) struct Later;

impl Decode for Later {
    fn decode(_: &Node, _: &mut Reader<'_>) -> Option<Self> {
        Some(Self)
    }
}

/// A scalar as YAML itself types it: for broker arguments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Argument(pub super::model::Argument);

impl Decode for Argument {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        use super::model::Argument as Typed;
        let filled = reader.fill(node, "a single value")?;
        Some(Self(match filled.text.as_str() {
            "true" if filled.plain => Typed::Bool(true),
            "false" if filled.plain => Typed::Bool(false),
            text => match text.parse() {
                Ok(number) if filled.plain => Typed::Integer(number),
                _ => Typed::Text(filled.text),
            },
        }))
    }
}

fn whole(text: &str) -> Option<u64> {
    // `parse` alone would take `+5`.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    Some((whole(number)?, unit.strip_prefix(' ').unwrap_or(unit)))
}

fn pattern(pattern: &str) -> Schema {
    or_reference(&json_schema!({ "type": "string", "pattern": pattern }))
}

schema! {
    SecretText => json_schema!({ "type": ["string", "number", "boolean"] });
    UrlText => json_schema!({ "type": "string" });
    Count => or_reference(&json_schema!({ "type": "integer", "minimum": 0 }));
    Flag => or_reference(&json_schema!({ "type": "boolean" }));
    Period => pattern(DURATION_PATTERN);
    Size => pattern(r"^[0-9]+(B|KiB|MiB|GiB|TiB)$");
    Rate => pattern(r"^[0-9]+/(s|m|h)$");
    Percent => pattern(r"^[0-9]+%$");
    GiveUp => pattern(r"^(never|[0-9]+(ms|s|m|h|d))$");
    Keep => pattern(r"^(forever|[0-9]+(ms|s|m|h|d))$");
    Attempts => or_reference(&json_schema!({ "anyOf": [{ "const": "unlimited" }, { "type": "integer", "minimum": 1 }] }));
    FormatChoice => or_reference(&json_schema!({ "enum": Format::NAMES }));
    Argument => json_schema!({ "type": ["string", "integer", "boolean"] });
    OneOf<T: Word> => {
        let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
        or_reference(&json_schema!({ "enum": words }))
    };
}
