//! AMQP field values and properties, from lapin's types to the event's and back.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};

use super::guard::{Note, Place};
use crate::event::{Header, HeaderValue, NotUtf8, Properties, UNREADABLE};

/// Header values nested deeper than this are left out, and [`Properties::headers_too_deep`] says so. Shown as JSON, where a
/// table may take two levels, they stay within the 128 that readers of JSON take.
pub const MAX_HEADER_DEPTH: usize = 60;

/// The longest short string, in bytes.
pub const MAX_SHORT: usize = 255;

/// A name or value is longer than the 255 bytes AMQP has for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {length} bytes long; AMQP takes 255 at most")]
pub struct TooLong {
    what: &'static str,
    length: usize,
}

/// What was received, in the event's types; `note` says what isn't as it came. A property that was no UTF-8 is none.
#[must_use]
pub fn properties(from: &BasicProperties, note: Option<&Note>) -> Properties {
    let Some(note) = note else { return unchanged(from) };
    if let Some(bytes) = note.unreadable_properties() {
        return Properties { not_utf8: vec![not_utf8(UNREADABLE.to_owned(), bytes)], ..Properties::default() };
    }
    let mut properties = unchanged(from);
    for (name, text) in [
        ("content_type", &mut properties.content_type),
        ("content_encoding", &mut properties.content_encoding),
        ("correlation_id", &mut properties.correlation_id),
        ("reply_to", &mut properties.reply_to),
        ("expiration", &mut properties.expiration),
        ("message_id", &mut properties.message_id),
        ("type", &mut properties.kind),
        ("user_id", &mut properties.user_id),
        ("app_id", &mut properties.app_id),
        ("cluster_id", &mut properties.cluster_id),
    ] {
        if note.has(name) {
            *text = None;
        }
    }
    properties.headers_too_deep |= note.is_too_deep();
    properties.not_utf8 = note
        .originals()
        .iter()
        .filter_map(|original| match original.place {
            Place::Property(name) => Some(not_utf8(name.to_owned(), &original.bytes)),
            Place::HeaderName => Some(not_utf8(format!("headers.{}", original.instead), &original.bytes)),
            Place::Argument => None,
        })
        .collect();
    if note.more() > 0 || note.has_unreadable_value() {
        // What there is no room for is said all the same.
        properties.not_utf8.push(not_utf8("headers".to_owned(), b""));
    }
    properties
}

fn not_utf8(place: String, bytes: &[u8]) -> NotUtf8 {
    NotUtf8 { place, bytes: Bytes::copy_from_slice(bytes) }
}

fn unchanged(from: &BasicProperties) -> Properties {
    let text = |value: &Option<ShortString>| value.as_ref().map(|text| text.as_str().to_owned());
    let mut too_deep = false;
    let headers = from.headers().as_ref().map(|table| headers(table, 1, &mut too_deep)).unwrap_or_default();
    Properties {
        content_type: text(from.content_type()),
        content_encoding: text(from.content_encoding()),
        delivery_mode: *from.delivery_mode(),
        priority: *from.priority(),
        correlation_id: text(from.correlation_id()),
        reply_to: text(from.reply_to()),
        expiration: text(from.expiration()),
        message_id: text(from.message_id()),
        timestamp: *from.timestamp(),
        kind: text(from.kind()),
        user_id: text(from.user_id()),
        app_id: text(from.app_id()),
        cluster_id: text(from.cluster_id()),
        headers,
        headers_too_deep: too_deep,
        not_utf8: Vec::new(),
    }
}

fn headers(table: &FieldTable, depth: usize, too_deep: &mut bool) -> Vec<Header> {
    table.inner().iter().map(|(name, value)| (name.as_str().to_owned(), value_at(value, depth, too_deep))).collect()
}

fn value_at(value: &AMQPValue, depth: usize, too_deep: &mut bool) -> HeaderValue {
    match value {
        AMQPValue::Boolean(value) => HeaderValue::Bool(*value),
        AMQPValue::ShortShortInt(value) => HeaderValue::Integer((*value).into()),
        AMQPValue::ShortShortUInt(value) => HeaderValue::Integer((*value).into()),
        AMQPValue::ShortInt(value) => HeaderValue::Integer((*value).into()),
        AMQPValue::ShortUInt(value) => HeaderValue::Integer((*value).into()),
        AMQPValue::LongInt(value) => HeaderValue::Integer((*value).into()),
        AMQPValue::LongUInt(value) => HeaderValue::Integer((*value).into()),
        AMQPValue::LongLongInt(value) => HeaderValue::Integer(*value),
        AMQPValue::Float(value) => HeaderValue::Float((*value).into()),
        AMQPValue::Double(value) => HeaderValue::Float(*value),
        AMQPValue::DecimalValue(value) => {
            // Signed, as Java's and Python's clients write it (AMQP 0.9.1, 4.2.5.5 leaves that open).
            HeaderValue::Float(f64::from(value.value.cast_signed()) / 10_f64.powi(i32::from(value.scale)))
        }
        AMQPValue::ShortString(value) => HeaderValue::Text(value.as_str().to_owned()),
        AMQPValue::LongString(value) => match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => HeaderValue::Text(text.to_owned()),
            Err(_) => HeaderValue::Binary(Bytes::copy_from_slice(value.as_bytes())),
        },
        AMQPValue::ByteArray(value) => HeaderValue::Binary(Bytes::copy_from_slice(value.as_slice())),
        AMQPValue::Timestamp(value) => HeaderValue::Timestamp(*value),
        AMQPValue::Void => HeaderValue::Null,
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) if depth >= MAX_HEADER_DEPTH => {
            *too_deep = true;
            HeaderValue::Null
        }
        AMQPValue::FieldArray(values) => {
            HeaderValue::Array(values.as_slice().iter().map(|value| value_at(value, depth + 1, too_deep)).collect())
        }
        AMQPValue::FieldTable(table) => HeaderValue::Table(headers(table, depth + 1, too_deep)),
    }
}

/// Headers to publish. Their depth is what [`properties`] left of it.
pub fn table(headers: &[Header]) -> Result<FieldTable, TooLong> {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert(short("a header's name", name)?, amqp_value(value)?);
    }
    Ok(table)
}

fn amqp_value(value: &HeaderValue) -> Result<AMQPValue, TooLong> {
    Ok(match value {
        HeaderValue::Null => AMQPValue::Void,
        HeaderValue::Bool(value) => AMQPValue::Boolean(*value),
        HeaderValue::Integer(value) => AMQPValue::LongLongInt(*value),
        HeaderValue::Float(value) => AMQPValue::Double(*value),
        HeaderValue::Timestamp(value) => AMQPValue::Timestamp(*value),
        HeaderValue::Text(text) => AMQPValue::LongString(LongString::from(text.as_bytes())),
        HeaderValue::Binary(bytes) => AMQPValue::ByteArray(bytes.to_vec().into()),
        HeaderValue::Array(values) => {
            let mut array = FieldArray::default();
            for value in values {
                array.push(amqp_value(value)?);
            }
            AMQPValue::FieldArray(array)
        }
        HeaderValue::Table(headers) => AMQPValue::FieldTable(table(headers)?),
    })
}

/// A short string, checked: lapin's own conversion panics above 255 bytes. `what` names it in the error.
pub fn short(what: &'static str, text: &str) -> Result<ShortString, TooLong> {
    ShortString::try_new(text).map_err(|_| TooLong { what, length: text.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> BasicProperties {
        let mut value = AMQPValue::Boolean(true);
        for _ in 0..levels {
            let mut array = FieldArray::default();
            array.push(value);
            value = AMQPValue::FieldArray(array);
        }
        let mut table = FieldTable::default();
        table.insert("deep".into(), value);
        BasicProperties::default().with_headers(table)
    }

    #[test]
    fn headers_survive_the_way_there_and_back() {
        let headers = vec![
            ("array".to_owned(), HeaderValue::Array(vec![HeaderValue::Integer(-1), HeaderValue::Null])),
            ("binary".to_owned(), HeaderValue::Binary(Bytes::from_static(&[0, 255]))),
            ("bool".to_owned(), HeaderValue::Bool(true)),
            ("float".to_owned(), HeaderValue::Float(0.5)),
            ("table".to_owned(), HeaderValue::Table(vec![("x".to_owned(), HeaderValue::Text("é".to_owned()))])),
            ("time".to_owned(), HeaderValue::Timestamp(1_681_461_977)),
        ];
        let sent = BasicProperties::default().with_headers(table(&headers).unwrap());
        assert_eq!(properties(&sent, None).headers, headers);
    }

    #[test]
    fn decimals_have_a_sign() {
        for (value, expected) in [(-15_i32, -1.5), (15, 1.5)] {
            let decimal = lapin::types::DecimalValue { scale: 1, value: value.cast_unsigned() };
            let mut table = FieldTable::default();
            table.insert("decimal".into(), AMQPValue::DecimalValue(decimal));
            let received = properties(&BasicProperties::default().with_headers(table), None);
            assert_eq!(received.headers, [("decimal".to_owned(), HeaderValue::Float(expected))]);
        }
    }

    #[test]
    fn what_is_nested_too_deep_is_left_out_and_said() {
        assert!(!properties(&nested(MAX_HEADER_DEPTH - 1), None).headers_too_deep);
        assert!(properties(&nested(MAX_HEADER_DEPTH), None).headers_too_deep);
    }

    #[test]
    fn a_name_over_255_bytes_is_an_error_not_a_panic() {
        let headers = vec![("n".repeat(256), HeaderValue::Null)];
        assert_eq!(
            table(&headers).unwrap_err().to_string(),
            "a header's name is 256 bytes long; AMQP takes 255 at most"
        );
    }
}
