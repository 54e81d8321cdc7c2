//! AMQP properties as JSON, in samples and for dead letters.
//!
//! The members have AMQP's names, absent properties are left out, and `headers` is an object. No value loses its type: an AMQP
//! type that JSON doesn't have is an object with one member: `{"$timestamp": 1681461977}` (seconds), `{"$binary": "…"}` (base64),
//! `{"$text": "…"}` (a string that is not UTF-8, in base64), `{"$float": "NaN"}`, numbers of less than 64 bits (`$int8`, `$uint8` …
//! `$uint32`, `$float32`) and `{"$decimal": "1.50"}`; a plain number has 64 bits. A table that looks like one of these is
//! `{"$table": {…}}`.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::json::{ObjectMembers, kind_of};
use super::{AmqpNumber, Header, HeaderValue, NotUtf8, Properties};

/// Deeper headers are an error. Twice the depth that a source keeps.
const MAX_HEADER_DEPTH: usize = 256;

const TIMESTAMP: &str = "$timestamp";
const BINARY: &str = "$binary";
const BINARY_TEXT: &str = "$text";
const FLOAT: &str = "$float";
const TABLE: &str = "$table";

/// The JSON is not a sample, or its properties are wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SampleError(pub(super) String);

impl Properties {
    /// The properties as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // All keys and values are text: serializing them can't fail.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }

    /// Parses the result of [`to_json`](Self::to_json), or JSON that a person wrote.
    pub fn from_json(json: &str) -> Result<Self, SampleError> {
        let ObjectMembers(members) = serde_json::from_str(json)
            .map_err(|error| SampleError(format!("the properties are not a JSON object: {error}")))?;
        let mut properties = Self::default();
        for (name, value) in members {
            properties.set(&name, value)?;
        }
        Ok(properties)
    }

    /// The properties that are present, sorted by name.
    pub(super) fn present(&self) -> impl Iterator<Item = (&'static str, HeaderValue)> {
        let text = |text: &Option<String>| text.clone().map(HeaderValue::Text);
        let integer = |number: Option<u8>| number.map(|number| HeaderValue::Integer(number.into()));
        // The names of `PROPERTIES` in `schema`.
        let values = [
            ("app_id", text(&self.app_id)),
            ("cluster_id", text(&self.cluster_id)),
            ("content_encoding", text(&self.content_encoding)),
            ("content_type", text(&self.content_type)),
            ("correlation_id", text(&self.correlation_id)),
            ("delivery_mode", integer(self.delivery_mode)),
            ("expiration", text(&self.expiration)),
            ("message_id", text(&self.message_id)),
            ("priority", integer(self.priority)),
            ("reply_to", text(&self.reply_to)),
            ("timestamp", self.timestamp.map(HeaderValue::Timestamp)),
            ("type", text(&self.kind)),
            ("user_id", text(&self.user_id)),
        ];
        values.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }

    fn set(&mut self, name: &str, value: &RawValue) -> Result<(), SampleError> {
        match name {
            "content_type" => self.content_type = member(name, value, "text")?,
            "content_encoding" => self.content_encoding = member(name, value, "text")?,
            "delivery_mode" => self.delivery_mode = member(name, value, "1 or 2")?,
            "priority" => self.priority = member(name, value, "a number from 0 to 255")?,
            "correlation_id" => self.correlation_id = member(name, value, "text")?,
            "reply_to" => self.reply_to = member(name, value, "text")?,
            "expiration" => self.expiration = member(name, value, "text")?,
            "message_id" => self.message_id = member(name, value, "text")?,
            "timestamp" => self.timestamp = member(name, value, "a number of seconds")?,
            "type" => self.kind = member(name, value, "text")?,
            "user_id" => self.user_id = member(name, value, "text")?,
            "app_id" => self.app_id = member(name, value, "text")?,
            "cluster_id" => self.cluster_id = member(name, value, "text")?,
            "headers_too_deep" => self.headers_too_deep = member(name, value, "true or false")?.unwrap_or(false),
            "not_utf8" => self.not_utf8 = not_utf8(value)?,
            "headers" => {
                self.headers = match value.get() {
                    "null" => Vec::new(),
                    json if json.starts_with('{') => table(value, 0)?,
                    json => return Err(unexpected("headers", kind_of(json), "an object")),
                }
            }
            _ => return Err(SampleError(format!("there is no property {name}"))),
        }
        Ok(())
    }
}

fn member<T: serde::de::DeserializeOwned>(
    name: &str,
    raw: &RawValue,
    expected: &str,
) -> Result<Option<T>, SampleError> {
    serde_json::from_str(raw.get()).map_err(|_| {
        let json = raw.get();
        unexpected(name, if json.len() <= 32 { json } else { kind_of(json) }, expected)
    })
}

fn unexpected(name: &str, found: &str, expected: &str) -> SampleError {
    SampleError(format!("the property {name} is {found}; expected {expected}"))
}

fn not_utf8(raw: &RawValue) -> Result<Vec<NotUtf8>, SampleError> {
    let expected = || unexpected("not_utf8", kind_of(raw.get()), "an object of {\"$binary\": \"…\"}");
    let members = if raw.get().starts_with('{') { table(raw, 0)? } else { return Err(expected()) };
    members
        .into_iter()
        .map(|(place, value)| match value {
            HeaderValue::Binary(bytes) => Ok(NotUtf8 { place, bytes }),
            _ => Err(expected()),
        })
        .collect()
}

fn table(raw: &RawValue, depth: usize) -> Result<Vec<Header>, SampleError> {
    let ObjectMembers(members) =
        serde_json::from_str(raw.get()).map_err(|error| SampleError(format!("a header can't be read: {error}")))?;
    members.into_iter().map(|(name, value)| Ok((name.into_owned(), header(value, depth)?))).collect()
}

/// One header's value. Each level is parsed on its own: AMQP can have 128 levels, which `serde_json` refuses to parse at once.
fn header(raw: &RawValue, depth: usize) -> Result<HeaderValue, SampleError> {
    let unreadable = |error: serde_json::Error| SampleError(format!("a header can't be read: {error}"));
    if depth > MAX_HEADER_DEPTH {
        return Err(SampleError(format!("a header is nested more than {MAX_HEADER_DEPTH} levels deep")));
    }
    let json = raw.get();
    Ok(match json.bytes().next() {
        Some(b'n') => HeaderValue::Null,
        Some(b't' | b'f') => HeaderValue::Bool(json == "true"),
        Some(b'"') => HeaderValue::Text(serde_json::from_str(json).map_err(unreadable)?),
        Some(b'[') => {
            let values: Vec<&RawValue> = serde_json::from_str(json).map_err(unreadable)?;
            HeaderValue::Array(values.into_iter().map(|value| header(value, depth + 1)).collect::<Result<_, _>>()?)
        }
        Some(b'{') => object(raw, depth)?,
        _ if json.contains(['.', 'e', 'E']) => float(json)?,
        _ => match serde_json::from_str(json) {
            Ok(integer) => HeaderValue::Integer(integer),
            Err(_) => float(json)?,
        },
    })
}

/// Exactly the number as written; `serde_json` promises that only with the feature `float_roundtrip`.
fn float(json: &str) -> Result<HeaderValue, SampleError> {
    json.parse().map(HeaderValue::Float).map_err(|error| SampleError(format!("a header can't be read: {error}")))
}

fn object(raw: &RawValue, depth: usize) -> Result<HeaderValue, SampleError> {
    let ObjectMembers(members) =
        serde_json::from_str(raw.get()).map_err(|error| SampleError(format!("a header can't be read: {error}")))?;
    let [(name, value)] = members.as_slice() else {
        return Ok(HeaderValue::Table(table(raw, depth + 1)?));
    };
    let bad =
        |expected: &str| SampleError(format!("a header's {name} is {}; expected {expected}", kind_of(value.get())));
    Ok(match &**name {
        TABLE => HeaderValue::Table(table(value, depth + 1)?),
        TIMESTAMP => HeaderValue::Timestamp(serde_json::from_str(value.get()).map_err(|_| bad("a number of seconds"))?),
        BINARY => HeaderValue::Binary(base64(value).ok_or_else(|| bad("base64"))?),
        BINARY_TEXT => HeaderValue::BinaryText(base64(value).ok_or_else(|| bad("base64"))?),
        FLOAT => {
            let text: String = serde_json::from_str(value.get()).map_err(|_| bad("\"NaN\", \"inf\" or \"-inf\""))?;
            HeaderValue::Float(text.parse().map_err(|_| bad("\"NaN\", \"inf\" or \"-inf\""))?)
        }
        tag => {
            let text: Cow<'_, str> = serde_json::from_str(value.get()).map_or(Cow::Borrowed(value.get()), Cow::Owned);
            match AmqpNumber::tagged(tag, &text) {
                Some(number) => HeaderValue::Number(number.map_err(bad)?),
                None => HeaderValue::Table(table(raw, depth + 1)?),
            }
        }
    })
}

fn base64(raw: &RawValue) -> Option<Bytes> {
    let text: String = serde_json::from_str(raw.get()).ok()?;
    STANDARD.decode(text).ok().map(Bytes::from)
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn put<M: SerializeMap, T: Serialize>(map: &mut M, name: &str, value: Option<&T>) -> Result<(), M::Error> {
            value.map_or(Ok(()), |value| map.serialize_entry(name, value))
        }
        // In the order of REGARDS' documents, then the rest.
        let mut map = serializer.serialize_map(None)?;
        put(&mut map, "app_id", self.app_id.as_ref())?;
        put(&mut map, "timestamp", self.timestamp.as_ref())?;
        put(&mut map, "correlation_id", self.correlation_id.as_ref())?;
        put(&mut map, "priority", self.priority.as_ref())?;
        put(&mut map, "delivery_mode", self.delivery_mode.as_ref())?;
        put(&mut map, "content_encoding", self.content_encoding.as_ref())?;
        put(&mut map, "content_type", self.content_type.as_ref())?;
        put(&mut map, "message_id", self.message_id.as_ref())?;
        put(&mut map, "type", self.kind.as_ref())?;
        put(&mut map, "user_id", self.user_id.as_ref())?;
        put(&mut map, "reply_to", self.reply_to.as_ref())?;
        put(&mut map, "expiration", self.expiration.as_ref())?;
        put(&mut map, "cluster_id", self.cluster_id.as_ref())?;
        put(&mut map, "headers", (!self.headers.is_empty()).then_some(&Table(&self.headers)))?;
        put(&mut map, "headers_too_deep", self.headers_too_deep.then_some(&true))?;
        if !self.not_utf8.is_empty() {
            let binary = |one: &NotUtf8| (one.place.clone(), HeaderValue::Binary(one.bytes.clone()));
            map.serialize_entry("not_utf8", &Table(&self.not_utf8.iter().map(binary).collect::<Vec<_>>()))?;
        }
        map.end()
    }
}

struct Table<'a>(&'a [Header]);

impl Serialize for Table<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Serialize for HeaderValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn tagged<S: Serializer, T: Serialize>(serializer: S, tag: &str, value: &T) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(tag, value)?;
            map.end()
        }
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Float(value) if value.is_finite() => serializer.serialize_f64(*value),
            Self::Float(value) => tagged(serializer, FLOAT, &value.to_string()),
            Self::Number(number) => match number.integer() {
                Some(integer) => tagged(serializer, number.tag(), &integer),
                None => tagged(serializer, number.tag(), &number.tagged_text()),
            },
            Self::Timestamp(seconds) => tagged(serializer, TIMESTAMP, seconds),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Binary(bytes) => tagged(serializer, BINARY, &STANDARD.encode(bytes)),
            Self::BinaryText(bytes) => tagged(serializer, BINARY_TEXT, &STANDARD.encode(bytes)),
            Self::Array(values) => {
                let mut seq = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    seq.serialize_element(value)?;
                }
                seq.end()
            }
            Self::Table(headers) => match headers.as_slice() {
                [(name, _)] if name.starts_with('$') => tagged(serializer, TABLE, &Table(headers)),
                _ => Table(headers).serialize(serializer),
            },
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header_value() -> impl Strategy<Value = HeaderValue> {
        let leaf = prop_oneof![
            Just(HeaderValue::Null),
            any::<bool>().prop_map(HeaderValue::Bool),
            any::<i64>().prop_map(HeaderValue::Integer),
            (-1e300..1e300).prop_map(HeaderValue::Float),
            Just(HeaderValue::Float(f64::INFINITY)),
            Just(HeaderValue::Float(-3.0)),
            any::<u64>().prop_map(HeaderValue::Timestamp),
            any::<String>().prop_map(HeaderValue::Text),
            prop::collection::vec(any::<u8>(), 0..8).prop_map(|bytes| HeaderValue::Binary(Bytes::from(bytes))),
            prop::collection::vec(any::<u8>(), 0..8).prop_map(|bytes| HeaderValue::BinaryText(Bytes::from(bytes))),
            any::<i32>().prop_map(|value| HeaderValue::Number(AmqpNumber::LongInt(value))),
            any::<(i32, u8)>().prop_map(|(value, scale)| HeaderValue::Number(AmqpNumber::Decimal { value, scale })),
        ];
        leaf.prop_recursive(4, 16, 3, |inner| {
            let name = prop_oneof!["[a-c.$]{0,4}", Just("$binary".to_owned()), Just("$table".to_owned())];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(HeaderValue::Array),
                prop::collection::vec((name, inner), 0..3).prop_map(HeaderValue::Table),
            ]
        })
    }

    prop_compose! {
        pub(in crate::event) fn properties()(
            texts in prop::collection::vec(prop::option::of(any::<String>()), 10),
            timestamp in any::<Option<u64>>(),
            small in any::<Option<(u8, u8)>>(),
            headers in prop::collection::vec(("[a-c.$]{0,4}", header_value()), 0..3),
            headers_too_deep in any::<bool>(),
            not_utf8 in prop::collection::vec(("[a-c.$]{0,4}", prop::collection::vec(any::<u8>(), 0..8)), 0..2),
        ) -> Properties {
            let mut texts = texts.into_iter();
            let mut text = || texts.next().flatten();
            Properties {
                content_type: text(),
                content_encoding: text(),
                delivery_mode: small.map(|(mode, _)| mode),
                priority: small.map(|(_, priority)| priority),
                correlation_id: text(),
                reply_to: text(),
                expiration: text(),
                message_id: text(),
                timestamp,
                kind: text(),
                user_id: text(),
                app_id: text(),
                cluster_id: text(),
                headers,
                headers_too_deep,
                not_utf8: not_utf8.into_iter().map(|(place, bytes)| NotUtf8 { place, bytes: bytes.into() }).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn properties_survive_the_round_trip(properties in properties()) {
            let json = properties.to_json();
            prop_assert!(!json.contains('\n'));
            prop_assert_eq!(Properties::from_json(&json), Ok(properties));
        }
    }

    #[test]
    fn the_deepest_headers_of_a_source_survive_the_round_trip() {
        let deep = |levels| (0..levels).fold(HeaderValue::Null, |inner, _| HeaderValue::Array(vec![inner]));
        let properties = |levels| Properties { headers: vec![("x".to_owned(), deep(levels))], ..Properties::default() };
        let kept = properties(128);
        assert_eq!(Properties::from_json(&kept.to_json()), Ok(kept));
        assert!(Properties::from_json(&properties(300).to_json()).is_err());
    }

    #[test]
    fn mistakes_are_named() {
        let told = |json: &str| Properties::from_json(json).expect_err(json).to_string();
        expect_test::expect![[r#"
            the properties are not a JSON object: invalid type: sequence, expected an object at line 1 column 0
            there is no property appid
            the property app_id is 1; expected text
            the property timestamp is "2023"; expected a number of seconds
            the property timestamp is -1; expected a number of seconds
            the property priority is 256; expected a number from 0 to 255
            the property headers is an array; expected an object
            a header's $binary is text; expected base64
            a header's $timestamp is text; expected a number of seconds
            a header's $uint8 is a number; expected a number from 0 to 255
            a header's $decimal is text; expected a decimal of 32 bits, such as "1.50"
            a header can't be read: unexpected end of hex escape at line 1 column 8"#]]
        .assert_eq(
            &[
                "[]",
                r#"{"appid":"x"}"#,
                r#"{"app_id":1}"#,
                r#"{"timestamp":"2023"}"#,
                r#"{"timestamp":-1}"#,
                r#"{"priority":256}"#,
                r#"{"headers":[]}"#,
                r#"{"headers":{"x":{"$binary":"?"}}}"#,
                r#"{"headers":{"x":{"$timestamp":"now"}}}"#,
                r#"{"headers":{"x":{"$uint8":256}}}"#,
                r#"{"headers":{"x":{"$decimal":"1,50"}}}"#,
                r#"{"headers":{"x":"\ud800"}}"#,
            ]
            .map(told)
            .join("\n"),
        );
    }
}
