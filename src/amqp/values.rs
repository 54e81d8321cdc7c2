//! AMQP field values and properties: lapin's types to those of an event, and back.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable, LongString, ShortString};

use super::guard::{MessageEdits, TextLocation};
use crate::event::{AmqpNumber, Header, HeaderValue, MAX_SHORT_STRING, NotUtf8, Properties, UNREADABLE};

/// Header values nested deeper than this are left out, and [`Properties::headers_too_deep`] is set. As JSON, where a table may need two
/// levels, the others stay within the 128 levels that JSON parsers accept.
pub const MAX_HEADER_DEPTH: usize = 60;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {length} bytes long; AMQP allows at most {}", MAX_SHORT_STRING)]
pub struct ShortStringTooLong {
    what: &'static str,
    length: usize,
}

/// The properties of a received message. `edits` are those of the guard: a property that was not UTF-8 becomes `None`.
#[must_use]
pub fn decode_properties(from: &BasicProperties, edits: Option<&MessageEdits>) -> Properties {
    let Some(edits) = edits else { return convert_properties(from) };
    if let Some(bytes) = edits.unreadable_properties() {
        return Properties { not_utf8: vec![not_utf8(UNREADABLE.to_owned(), bytes)], ..Properties::default() };
    }
    let mut properties = convert_properties(from);
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
        if edits.has_property(name) {
            *text = None;
        }
    }
    properties.headers_too_deep |= edits.is_too_deep();
    properties.not_utf8 = edits
        .listed()
        .iter()
        .filter_map(|edit| match edit.location {
            TextLocation::Property(name) => Some(not_utf8(name.to_owned(), &edit.original)),
            TextLocation::HeaderName => Some(not_utf8(format!("headers.{}", edit.replacement), &edit.original)),
            TextLocation::Argument => None,
        })
        .collect();
    if edits.unlisted() > 0 || edits.has_unreadable_value() {
        // Edits whose original bytes were not kept.
        properties.not_utf8.push(not_utf8("headers".to_owned(), b""));
    }
    properties
}

fn not_utf8(place: String, bytes: &[u8]) -> NotUtf8 {
    NotUtf8 { place, bytes: Bytes::copy_from_slice(bytes) }
}

fn convert_properties(from: &BasicProperties) -> Properties {
    let text = |value: &Option<ShortString>| value.as_ref().map(|text| text.as_str().to_owned());
    let mut too_deep = false;
    let headers = from.headers().as_ref().map(|table| decode_headers(table, 1, &mut too_deep)).unwrap_or_default();
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

fn decode_headers(table: &FieldTable, depth: usize, too_deep: &mut bool) -> Vec<Header> {
    table.inner().iter().map(|(name, value)| (name.as_str().to_owned(), decode_value(value, depth, too_deep))).collect()
}

fn decode_value(value: &AMQPValue, depth: usize, too_deep: &mut bool) -> HeaderValue {
    match value {
        AMQPValue::Boolean(value) => HeaderValue::Bool(*value),
        AMQPValue::ShortShortInt(value) => HeaderValue::Number(AmqpNumber::ShortShortInt(*value)),
        AMQPValue::ShortShortUInt(value) => HeaderValue::Number(AmqpNumber::ShortShortUInt(*value)),
        AMQPValue::ShortInt(value) => HeaderValue::Number(AmqpNumber::ShortInt(*value)),
        AMQPValue::ShortUInt(value) => HeaderValue::Number(AmqpNumber::ShortUInt(*value)),
        AMQPValue::LongInt(value) => HeaderValue::Number(AmqpNumber::LongInt(*value)),
        AMQPValue::LongUInt(value) => HeaderValue::Number(AmqpNumber::LongUInt(*value)),
        AMQPValue::LongLongInt(value) => HeaderValue::Integer(*value),
        AMQPValue::Float(value) => HeaderValue::Number(AmqpNumber::Float(*value)),
        AMQPValue::Double(value) => HeaderValue::Float(*value),
        AMQPValue::DecimalValue(DecimalValue { scale, value }) => {
            HeaderValue::Number(AmqpNumber::Decimal { value: value.cast_signed(), scale: *scale })
        }
        AMQPValue::ShortString(value) => HeaderValue::Text(value.as_str().to_owned()),
        AMQPValue::LongString(value) => match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => HeaderValue::Text(text.to_owned()),
            Err(_) => HeaderValue::BinaryText(Bytes::copy_from_slice(value.as_bytes())),
        },
        AMQPValue::ByteArray(value) => HeaderValue::Binary(Bytes::copy_from_slice(value.as_slice())),
        AMQPValue::Timestamp(value) => HeaderValue::Timestamp(*value),
        AMQPValue::Void => HeaderValue::Null,
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) if depth >= MAX_HEADER_DEPTH => {
            *too_deep = true;
            HeaderValue::Null
        }
        AMQPValue::FieldArray(values) => {
            HeaderValue::Array(values.as_slice().iter().map(|value| decode_value(value, depth + 1, too_deep)).collect())
        }
        AMQPValue::FieldTable(table) => HeaderValue::Table(decode_headers(table, depth + 1, too_deep)),
    }
}

/// Headers to publish. Those of a received message are no deeper than [`MAX_HEADER_DEPTH`].
pub fn encode_headers(headers: &[Header]) -> Result<FieldTable, ShortStringTooLong> {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert(short_string("a header's name", name)?, encode_value(value)?);
    }
    Ok(table)
}

fn encode_value(value: &HeaderValue) -> Result<AMQPValue, ShortStringTooLong> {
    Ok(match value {
        HeaderValue::Null => AMQPValue::Void,
        HeaderValue::Bool(value) => AMQPValue::Boolean(*value),
        HeaderValue::Integer(value) => AMQPValue::LongLongInt(*value),
        HeaderValue::Float(value) => AMQPValue::Double(*value),
        HeaderValue::Number(number) => encode_number(*number),
        HeaderValue::Timestamp(value) => AMQPValue::Timestamp(*value),
        HeaderValue::Text(text) => AMQPValue::LongString(LongString::from(text.as_bytes())),
        HeaderValue::Binary(bytes) => AMQPValue::ByteArray(bytes.to_vec().into()),
        HeaderValue::BinaryText(bytes) => AMQPValue::LongString(LongString::from(&bytes[..])),
        HeaderValue::Array(values) => {
            let mut array = FieldArray::default();
            for value in values {
                array.push(encode_value(value)?);
            }
            AMQPValue::FieldArray(array)
        }
        HeaderValue::Table(headers) => AMQPValue::FieldTable(encode_headers(headers)?),
    })
}

fn encode_number(number: AmqpNumber) -> AMQPValue {
    match number {
        AmqpNumber::ShortShortInt(value) => AMQPValue::ShortShortInt(value),
        AmqpNumber::ShortShortUInt(value) => AMQPValue::ShortShortUInt(value),
        AmqpNumber::ShortInt(value) => AMQPValue::ShortInt(value),
        AmqpNumber::ShortUInt(value) => AMQPValue::ShortUInt(value),
        AmqpNumber::LongInt(value) => AMQPValue::LongInt(value),
        AmqpNumber::LongUInt(value) => AMQPValue::LongUInt(value),
        AmqpNumber::Float(value) => AMQPValue::Float(value),
        AmqpNumber::Decimal { value, scale } => {
            AMQPValue::DecimalValue(DecimalValue { scale, value: value.cast_unsigned() })
        }
    }
}

/// Checks the length, because lapin's own conversion panics above 255 bytes. `what` names the string in the error.
pub fn short_string(what: &'static str, text: &str) -> Result<ShortString, ShortStringTooLong> {
    ShortString::try_new(text).map_err(|_| ShortStringTooLong { what, length: text.len() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn headers_are_equal_after_encoding_and_decoding() {
        let headers = vec![
            ("array".to_owned(), HeaderValue::Array(vec![HeaderValue::Integer(-1), HeaderValue::Null])),
            ("binary".to_owned(), HeaderValue::Binary(Bytes::from_static(&[0, 255]))),
            ("bool".to_owned(), HeaderValue::Bool(true)),
            ("float".to_owned(), HeaderValue::Float(0.5)),
            ("table".to_owned(), HeaderValue::Table(vec![("x".to_owned(), HeaderValue::Text("é".to_owned()))])),
            ("time".to_owned(), HeaderValue::Timestamp(1_681_461_977)),
        ];
        let sent = BasicProperties::default().with_headers(encode_headers(&headers).unwrap());
        assert_eq!(decode_properties(&sent, None).headers, headers);
    }

    #[test]
    fn decimals_have_a_sign_and_a_scale() {
        for (value, scale, expected) in [(-15_i32, 1, "-1.5"), (15, 1, "1.5"), (150, 2, "1.50")] {
            let decimal = DecimalValue { scale, value: value.cast_unsigned() };
            let mut table = FieldTable::default();
            table.insert("decimal".into(), AMQPValue::DecimalValue(decimal));
            let received = decode_properties(&BasicProperties::default().with_headers(table), None);
            let [(_, HeaderValue::Number(number))] = received.headers.as_slice() else { panic!("{received:?}") };
            assert_eq!(number.to_string(), expected);
        }
    }

    fn received_value() -> impl Strategy<Value = AMQPValue> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..8);
        let leaf = prop_oneof![
            any::<bool>().prop_map(AMQPValue::Boolean),
            any::<i8>().prop_map(AMQPValue::ShortShortInt),
            any::<u8>().prop_map(AMQPValue::ShortShortUInt),
            any::<i16>().prop_map(AMQPValue::ShortInt),
            any::<u16>().prop_map(AMQPValue::ShortUInt),
            any::<i32>().prop_map(AMQPValue::LongInt),
            any::<u32>().prop_map(AMQPValue::LongUInt),
            any::<i64>().prop_map(AMQPValue::LongLongInt),
            any::<f32>().prop_map(AMQPValue::Float),
            any::<f64>().prop_map(AMQPValue::Double),
            prop_oneof![Just(f32::INFINITY), Just(f32::NEG_INFINITY), Just(f32::NAN), Just(-0.0)]
                .prop_map(AMQPValue::Float),
            prop_oneof![Just(f64::INFINITY), Just(f64::NAN), Just(-0.0)].prop_map(AMQPValue::Double),
            any::<(u8, u32)>().prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
            any::<u64>().prop_map(AMQPValue::Timestamp),
            any::<String>().prop_map(|text| AMQPValue::LongString(text.as_bytes().into())),
            bytes().prop_map(|bytes| AMQPValue::LongString(bytes.into())),
            bytes().prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
            Just(AMQPValue::Void),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4)
                    .prop_map(|values| AMQPValue::FieldArray(FieldArray::from(values))),
                received_table(inner).prop_map(AMQPValue::FieldTable),
            ]
        })
    }

    fn received_table(value: impl Strategy<Value = AMQPValue>) -> impl Strategy<Value = FieldTable> {
        let name = prop_oneof!["[a-c.$é]{0,3}", Just("$int32".to_owned()), Just("$text".to_owned())];
        prop::collection::btree_map(name, value, 0..4).prop_map(|members| {
            let mut table = FieldTable::default();
            for (name, value) in members {
                table.insert(name.into(), value);
            }
            table
        })
    }

    /// The bytes that go to a broker.
    fn encoded(table: &FieldTable) -> Vec<u8> {
        let write = lapin::types::generation::gen_field_table(table);
        write(Vec::new().into()).unwrap().into_inner().0
    }

    proptest! {
        #[test]
        fn headers_keep_their_bytes_from_broker_to_broker_also_through_the_spool(sent in received_table(received_value())) {
            let received = decode_properties(&BasicProperties::default().with_headers(sent.clone()), None);
            prop_assert_eq!(encoded(&encode_headers(&received.headers).unwrap()), encoded(&sent));
            let kept = Properties::from_json(&received.to_json()).unwrap();
            prop_assert_eq!(encoded(&encode_headers(&kept.headers).unwrap()), encoded(&sent));
        }
    }

    #[test]
    fn headers_nested_too_deep_are_left_out_and_reported() {
        assert!(!decode_properties(&nested(MAX_HEADER_DEPTH - 1), None).headers_too_deep);
        assert!(decode_properties(&nested(MAX_HEADER_DEPTH), None).headers_too_deep);
    }

    #[test]
    fn a_name_over_255_bytes_is_an_error_and_no_panic() {
        let headers = vec![("n".repeat(256), HeaderValue::Null)];
        assert_eq!(
            encode_headers(&headers).unwrap_err().to_string(),
            "a header's name is 256 bytes long; AMQP allows at most 255"
        );
    }
}
