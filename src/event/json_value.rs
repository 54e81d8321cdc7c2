//! A JSON value parsed without loss: numbers keep all their digits, and text with half a surrogate pair, which
//! `serde_json` refuses, doesn't make its neighbours unreadable.

use std::borrow::Cow;
use std::cmp::Ordering;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum JsonValue<'a> {
    Null,
    Bool(bool),
    Number(&'a str), // the digits as written
    /// Half a surrogate pair becomes U+FFFD.
    Text(Cow<'a, str>),
    List(Vec<JsonValue<'a>>),
    Map(Vec<(Cow<'a, str>, JsonValue<'a>)>),
}

/// Parses valid JSON; of anything else the result is undefined, but there is always one. Recurses as deep as the JSON is nested.
pub(super) fn parse(json: &str) -> JsonValue<'_> {
    Parser { rest: json }.value()
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn value(&mut self) -> JsonValue<'a> {
        self.skip_space();
        match self.rest.as_bytes().first() {
            Some(b'"') => JsonValue::Text(self.text()),
            Some(b'[') => {
                let mut items = Vec::new();
                self.members(b']', |parser| items.push(parser.value()));
                JsonValue::List(items)
            }
            Some(b'{') => {
                let mut members = Vec::new();
                self.members(b'}', |parser| {
                    let name = parser.text();
                    parser.skip(b':');
                    members.push((name, parser.value()));
                });
                JsonValue::Map(members)
            }
            _ => match self.take(|byte| !matches!(byte, b',' | b']' | b'}' | b':') && !byte.is_ascii_whitespace()) {
                "true" => JsonValue::Bool(true),
                "false" => JsonValue::Bool(false),
                "null" | "" => JsonValue::Null,
                number => JsonValue::Number(number),
            },
        }
    }

    /// Parses each member between the next bracket and the one that closes it.
    fn members(&mut self, close: u8, mut member: impl FnMut(&mut Self)) {
        self.advance(1);
        loop {
            self.skip_space();
            match self.rest.as_bytes().first() {
                None => return,
                Some(&byte) if byte == close => return self.advance(1),
                Some(_) => {}
            }
            let before = self.rest.len();
            member(self);
            self.skip(b',');
            // Invalid JSON, of which nothing was consumed: don't loop for ever.
            if self.rest.len() == before {
                self.rest = "";
            }
        }
    }

    fn text(&mut self) -> Cow<'a, str> {
        self.skip(b'"');
        let mut escaped = false;
        let inside = self.take(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            !ends
        });
        self.advance(1);
        if inside.contains('\\') { Cow::Owned(unescape(inside)) } else { Cow::Borrowed(inside) }
    }

    fn take(&mut self, mut takes: impl FnMut(u8) -> bool) -> &'a str {
        let end = self.rest.bytes().position(|byte| !takes(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn skip(&mut self, byte: u8) {
        self.skip_space();
        if self.rest.as_bytes().first() == Some(&byte) {
            self.advance(1);
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let mut chars = after.chars();
        let char = match chars.next() {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('u') => {
                let (char, end) = unicode(after);
                out.push(char);
                rest = after.get(end..).unwrap_or_default();
                continue;
            }
            Some(char) => char,
            None => '\\',
        };
        out.push(char);
        rest = chars.as_str();
    }
    out.push_str(rest);
    out
}

/// The character of `uXXXX`, or of a surrogate pair with the `\uXXXX` after it; and the length of both in bytes.
fn unicode(after: &str) -> (char, usize) {
    let unit = |at: usize| u32::from_str_radix(after.get(at..at + 4)?, 16).ok();
    let Some(high) = unit(1) else { return (char::REPLACEMENT_CHARACTER, after.len().min(1)) };
    if let Some(char) = char::from_u32(high) {
        return (char, 5);
    }
    let low = if after.get(5..7) == Some("\\u") { unit(7) } else { None };
    match low {
        Some(low @ 0xdc00..=0xdfff) if high < 0xdc00 => {
            let char = char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00));
            (char.unwrap_or(char::REPLACEMENT_CHARACTER), 11)
        }
        _ => (char::REPLACEMENT_CHARACTER, 5),
    }
}

/// A number in the smallest type that holds all its digits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum JsonNumber<'a> {
    Integer(i128),
    Double(f64),
    /// The digits as written, if no other type holds them.
    Exact(&'a str),
}

impl<'a> JsonNumber<'a> {
    pub(super) fn of(raw: &'a str) -> Self {
        if let Some(integer) = raw.parse().ok().filter(|_| raw != "-0") {
            return Self::Integer(integer);
        }
        match raw.parse::<f64>() {
            Ok(double) if double.is_finite() && compare(&format!("{double:e}"), raw) == Some(Ordering::Equal) => {
                Self::Double(double)
            }
            _ => Self::Exact(raw),
        }
    }
}

/// Whether a double holds all digits of the number.
pub(crate) fn is_exact_double(raw: &str) -> bool {
    matches!(JsonNumber::of(raw), JsonNumber::Double(_))
}

/// Compares two JSON numbers by all their digits; none if an exponent doesn't fit into 64 bits.
pub(super) fn compare(one: &str, other: &str) -> Option<Ordering> {
    let (one, other) = (Decimal::of(one)?, Decimal::of(other)?);
    Some(match (one.sign, other.sign) {
        (0, 0) => Ordering::Equal,
        (sign, same) if sign == same => {
            let size = one.exponent.cmp(&other.exponent).then_with(|| one.digits.cmp(&other.digits));
            if sign < 0 { size.reverse() } else { size }
        }
        (sign, different) => sign.cmp(&different),
    })
}

/// `0.DIGITS` times ten to the power of `exponent`.
struct Decimal {
    sign: i8,
    /// Without leading and trailing zeros.
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn of(raw: &str) -> Option<Self> {
        let (mantissa, exponent) = raw.split_once(['e', 'E']).unwrap_or((raw, "0"));
        let exponent: i64 = exponent.parse().ok()?;
        let (is_negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_start_matches('0');
        let leading = i64::try_from(all.len() - digits.len()).ok()?;
        let exponent = i64::try_from(whole.len()).ok()?.checked_sub(leading)?.checked_add(exponent)?;
        let digits = digits.trim_end_matches('0').to_owned();
        let sign = if digits.is_empty() { 0 } else { 1 - 2 * i8::from(is_negative) };
        Some(Self { sign, digits, exponent })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_that_is_not_unicode_leaves_other_members_readable() {
        let parsed = parse(r#" {"a":"\ud800", "b": [1, "\ud83d\ude00\udc00x\n\"", "\\"],"\udead":null} "#);
        let text = |text: &'static str| JsonValue::Text(text.into());
        let list = JsonValue::List(vec![JsonValue::Number("1"), text("😀\u{fffd}x\n\""), text("\\")]);
        let expected = vec![("a".into(), text("\u{fffd}")), ("b".into(), list), ("\u{fffd}".into(), JsonValue::Null)];
        assert_eq!(parsed, JsonValue::Map(expected));
    }

    #[test]
    fn numbers_are_stored_exactly() {
        for raw in [
            "1e999",
            "0.1234567890123456789",
            "170141183460469231731687303715884105728",
            "1e-400",
            "1e99999999999999999999",
        ] {
            assert_eq!(JsonNumber::of(raw), JsonNumber::Exact(raw));
        }
        assert_eq!(JsonNumber::of("-12345678901234567890123"), JsonNumber::Integer(-12_345_678_901_234_567_890_123));
        for (raw, double) in
            [("1.10", 1.1), ("2.352221900000001", 2.352_221_900_000_001), ("1E2", 100.0), ("-0", -0.0), ("0.0e5", 0.0)]
        {
            assert_eq!(JsonNumber::of(raw), JsonNumber::Double(double));
        }
        for (one, order, other) in [
            ("0.1234567890123456789", Ordering::Greater, "0.1234567890123456788"),
            ("-1e999", Ordering::Less, "-5"),
            ("1e999", Ordering::Greater, "12"),
            ("0.00", Ordering::Equal, "-0"),
            ("100", Ordering::Equal, "1E2"),
            ("-1", Ordering::Less, "0.001"),
        ] {
            assert_eq!(compare(one, other), Some(order), "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn valid_json_is_parsed_as_by_serde_json(json in "(\\{|\\}|\\[|\\]|,|:|\"|\\\\|\\\\u00e9|[a0-9.eE+ \n-]|true|null|\"a\":|\"b\"){0,30}") {
            let parsed = parse(&json);
            let Ok(value) = serde_json::from_str::<serde_json::Value>(&json) else { return Ok(()) };
            prop_assert!(is(&parsed, &value), "{parsed:?} {value:?}");
        }
    }

    fn is(parsed: &JsonValue<'_>, value: &serde_json::Value) -> bool {
        use serde_json::Value;
        match (parsed, value) {
            (JsonValue::Null, Value::Null) => true,
            (JsonValue::Bool(one), Value::Bool(other)) => one == other,
            (JsonValue::Number(raw), Value::Number(number)) => raw.parse::<f64>().ok() == number.as_f64(),
            (JsonValue::Text(one), Value::String(other)) => one == other,
            (JsonValue::List(ones), Value::Array(others)) => {
                ones.len() == others.len() && ones.iter().zip(others).all(|(one, other)| is(one, other))
            }
            (JsonValue::Map(ones), Value::Object(others)) => {
                // If several members have one name, the last one is used.
                let last = |name: &str| ones.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value);
                ones.iter().all(|(name, _)| others.contains_key(&**name))
                    && others.iter().all(|(name, other)| last(name).is_some_and(|one| is(one, other)))
            }
            _ => false,
        }
    }
}
