//! Typed values: texts, secrets, numbers, durations, sizes, rates, and words out of a fixed set.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::decode::{Decode, or_reference};
use super::diagnostic::Diagnostic;
use super::reader::{InterpolatedText, Reader, SecretScalar};
use super::tree::Node;
use super::units::{duration, rate, size, whole};
use super::words::list;

pub type Text = InterpolatedText;

impl Decode for InterpolatedText {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.fill(node, "a text")
    }
}

impl JsonSchema for InterpolatedText {
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

/// A text that is never shown. The files it names are read again at each use.
#[derive(Debug)]
pub struct SecretText(pub SecretScalar);

impl Decode for SecretText {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.secret(node, false).map(Self)
    }
}

/// A secret text that is a URL: what `${…}` inserts into a part of it is percent-encoded.
#[derive(Debug)]
pub struct UrlText(pub SecretScalar);

impl Decode for UrlText {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.secret(node, true).map(Self)
    }
}

/// Implements `JsonSchema` for types whose schema is inlined.
macro_rules! schema {
    ($($type:ident $(<$param:ident: $bound:ident>)? => $schema:expr;)*) => {$(
        impl$(<$param: $bound>)? JsonSchema for $type$(<$param>)? {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

pub(crate) use schema;

/// Decodes a scalar by `parse`, and reports one that it refuses. An unset variable is `None` too, and already reported.
fn parsed<T>(
    node: &Node,
    reader: &mut Reader<'_>,
    what: &str,
    example: &str,
    parse: impl Fn(&InterpolatedText) -> Option<T>,
) -> Option<T> {
    let filled = reader.fill(node, what)?;
    if filled.placeholder {
        return None;
    }
    let value = parse(&filled);
    if value.is_none() && !filled.plain && parse(&InterpolatedText { plain: true, ..filled }).is_some() {
        let message = format!("{} is a text, because it is in quotes: expected {what}", reader.quote(node.span));
        reader.report(Diagnostic::error("wrong-type", node.span, message).help("remove the quotes"));
    } else if value.is_none() {
        let message = format!("{} is not {what}", reader.quote(node.span));
        reader.report(Diagnostic::error("wrong-value", node.span, message).help(format!("write {example}")));
    }
    value
}

/// A whole number that is not negative.
#[derive(Debug, Clone, Copy)]
pub struct Count(pub u64);

impl Decode for Count {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        parsed(node, reader, "a whole number", "digits only, without quotes, as in `100`", |filled| {
            filled.plain.then(|| whole(&filled.text)).flatten().map(Self)
        })
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Flag(pub bool);

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
pub struct Period(pub Duration);

const DURATION: &str = "a number and a unit, as in `250ms`, `20s`, `5m`, `24h`, `7d`";
const DURATION_PATTERN: &str = r"^[0-9]+(ms|s|m|h|d)$";

impl Decode for Period {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        parsed(node, reader, "a duration", DURATION, |filled| duration(&filled.text).map(Self))
    }
}

/// A size in bytes, written as in `64KiB`, `1MiB`, `10GiB`.
#[derive(Debug, Clone, Copy)]
pub struct Size(pub u64);

impl Decode for Size {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        parsed(node, reader, "a size", "a number and a unit, as in `512B`, `64KiB`, `1MiB`, `10GiB`", |filled| {
            size(&filled.text).map(Self)
        })
    }
}

/// A rate in events a second, written as in `50/s`, `10/m`.
#[derive(Debug, Clone, Copy)]
pub struct Rate(pub f64);

impl Decode for Rate {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        parsed(node, reader, "a rate", "a number and a unit of time, as in `50/s`, `10/m`, `100/h`", |filled| {
            rate(&filled.text).map(Self)
        })
    }
}

/// A share in percent, written as in `50%`.
#[derive(Debug, Clone, Copy)]
pub struct Percent(pub u8);

impl Decode for Percent {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        parsed(node, reader, "a share", "a share of the whole between `1%` and `100%`", |filled| {
            let number = whole(filled.text.strip_suffix('%')?)?;
            u8::try_from(number).ok().filter(|number| (1..=100).contains(number)).map(Self)
        })
    }
}

/// A value, or the word for none.
#[derive(Debug, Clone, Copy)]
pub enum ValueOrWord<T> {
    Word,
    Value(T),
}

impl<T> ValueOrWord<T> {
    pub fn value(self) -> Option<T> {
        match self {
            Self::Word => None,
            Self::Value(value) => Some(value),
        }
    }
}

/// After which time a delivery is given up: a duration, or `never`.
#[derive(Debug, Clone, Copy)]
pub struct DurationOrNever(pub ValueOrWord<Duration>);

/// When a request is overdue: after a duration, or at its date `expires`.
#[derive(Debug, Clone, Copy)]
pub struct DurationOrExpires(pub ValueOrWord<Duration>);

/// How long something is kept: a duration, or `forever`.
#[derive(Debug, Clone, Copy)]
pub struct DurationOrForever(pub ValueOrWord<Duration>);

/// How many attempts are made: a number, or `unlimited`.
#[derive(Debug, Clone, Copy)]
pub struct Attempts(pub ValueOrWord<u64>);

fn word_or<T>(
    node: &Node,
    reader: &mut Reader<'_>,
    word: &str,
    what: &str,
    example: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<ValueOrWord<T>> {
    parsed(node, reader, &format!("`{word}` or {what}"), &format!("`{word}`, or {example}"), |filled| {
        if filled.text == word { Some(ValueOrWord::Word) } else { parse(&filled.text).map(ValueOrWord::Value) }
    })
}

impl Decode for DurationOrNever {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        word_or(node, reader, "never", "a duration", DURATION, duration).map(Self)
    }
}

impl Decode for DurationOrExpires {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        word_or(node, reader, "expires", "a duration", DURATION, duration).map(Self)
    }
}

impl Decode for DurationOrForever {
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
pub trait Word: Copy + 'static {
    /// Each word with its meaning.
    const WORDS: &'static [(&'static str, Self)];
}

/// One of the words of `T`.
#[derive(Debug, Clone, Copy)]
pub struct OneOf<T>(pub T);

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

/// Reports an unknown word, and suggests a similar one.
pub fn unknown_word<'w>(
    reader: &mut Reader<'_>,
    node: &Node,
    filled: &InterpolatedText,
    words: impl Iterator<Item = &'w str> + Clone,
) {
    if reader.is_full() {
        return;
    }
    let message = format!("{} is not one of {}", reader.quote(node.span), list(words.clone()));
    let diagnostic = Diagnostic::error("unknown-word", node.span, message);
    reader.report(diagnostic.suggest(&filled.text, words, "write one of these"));
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
    DurationOrNever => pattern(r"^(never|[0-9]+(ms|s|m|h|d))$");
    DurationOrExpires => pattern(r"^(expires|[0-9]+(ms|s|m|h|d))$");
    DurationOrForever => pattern(r"^(forever|[0-9]+(ms|s|m|h|d))$");
    Attempts => or_reference(&json_schema!({ "anyOf": [{ "const": "unlimited" }, { "type": "integer", "minimum": 1 }] }));
    OneOf<T: Word> => {
        let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
        or_reference(&json_schema!({ "enum": words }))
    };
}
