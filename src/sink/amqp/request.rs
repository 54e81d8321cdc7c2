//! Converts a rendered delivery into the arguments of lapin's `basic_publish`, and marks it with its attempt.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::ShortString;

use crate::amqp::values::{ShortStringTooLong, encode_headers, short_string};
use crate::event::{AmqpNumber, Header, HeaderValue, Properties};
use crate::sink::{AttemptId, Confirmation, Destination, OTHER_KIND, RenderedDelivery};

/// The header with the attempt's number. It distinguishes a returned message from other copies of the
/// same event.
pub(super) const ATTEMPT: &str = "regards-relay-attempt";

/// The largest size of a content header frame without the message's headers: 8 bytes for the frame, 14 for class, weight, size
/// and flags, nine short strings of 256 bytes, two octets and a timestamp.
const MAX_PROPERTIES: usize = 8 + 14 + 9 * 256 + 2 + 8;

#[derive(Debug)]
pub(super) struct PublishRequest {
    pub exchange: ShortString,
    pub routing_key: ShortString,
    pub properties: BasicProperties,
    pub body: Bytes,
    /// An upper bound of the size of its encoded properties.
    pub header_size: usize,
}

impl PublishRequest {
    /// The message of one attempt. The error says which part doesn't fit into AMQP.
    pub(super) fn new(outgoing: RenderedDelivery, attempt: AttemptId) -> Result<Self, String> {
        let Destination::Amqp { exchange, routing_key, properties } = outgoing.destination else {
            return Err(OTHER_KIND.to_owned());
        };
        let mut headers = outgoing.headers;
        headers.push((ATTEMPT.to_owned(), HeaderValue::Integer(attempt.0.cast_signed())));
        let header_size = MAX_PROPERTIES + table_size(&headers);
        let convert = || -> Result<_, ShortStringTooLong> {
            Ok((
                short_string("the exchange's name", &exchange)?,
                short_string("the routing key", &routing_key)?,
                basic(&properties, &headers)?,
            ))
        };
        let (exchange, routing_key, properties) = convert().map_err(|error| error.to_string())?;
        Ok(Self { exchange, routing_key, properties, body: outgoing.body, header_size })
    }

    /// What is reported once the broker has confirmed the message.
    pub(super) fn confirmation(&self) -> Confirmation {
        Confirmation::Amqp { exchange: self.exchange.to_string(), routing_key: self.routing_key.to_string() }
    }
}

fn basic(from: &Properties, headers: &[Header]) -> Result<BasicProperties, ShortStringTooLong> {
    let mut properties = BasicProperties::default().with_headers(encode_headers(headers)?);
    if let Some(mode) = from.delivery_mode {
        properties = properties.with_delivery_mode(mode);
    }
    if let Some(priority) = from.priority {
        properties = properties.with_priority(priority);
    }
    if let Some(timestamp) = from.timestamp {
        properties = properties.with_timestamp(timestamp);
    }
    if let Some(id) = &from.message_id {
        properties = properties.with_message_id(short_string("the message id", id)?);
    }
    if let Some(id) = &from.correlation_id {
        properties = properties.with_correlation_id(short_string("the correlation id", id)?);
    }
    if let Some(content_type) = &from.content_type {
        properties = properties.with_content_type(short_string("the content type", content_type)?);
    }
    if let Some(encoding) = &from.content_encoding {
        properties = properties.with_content_encoding(short_string("the content encoding", encoding)?);
    }
    if let Some(kind) = &from.kind {
        properties = properties.with_type(short_string("the type", kind)?);
    }
    if let Some(app) = &from.app_id {
        properties = properties.with_app_id(short_string("the app id", app)?);
    }
    Ok(properties)
}

/// The encoded size of a field table (AMQP 0.9.1, 4.2.5.5).
fn table_size(headers: &[Header]) -> usize {
    4 + headers.iter().map(|(name, value)| 1 + name.len() + value_size(value)).sum::<usize>()
}

fn value_size(value: &HeaderValue) -> usize {
    1 + match value {
        HeaderValue::Null => 0,
        HeaderValue::Bool(_) => 1,
        HeaderValue::Integer(_) | HeaderValue::Float(_) | HeaderValue::Timestamp(_) => 8,
        HeaderValue::Number(number) => match number {
            AmqpNumber::ShortShortInt(_) | AmqpNumber::ShortShortUInt(_) => 1,
            AmqpNumber::ShortInt(_) | AmqpNumber::ShortUInt(_) => 2,
            AmqpNumber::LongInt(_) | AmqpNumber::LongUInt(_) | AmqpNumber::Float(_) => 4,
            AmqpNumber::Decimal { .. } => 5,
        },
        HeaderValue::Text(text) => 4 + text.len(),
        HeaderValue::Binary(bytes) | HeaderValue::BinaryText(bytes) => 4 + bytes.len(),
        HeaderValue::Array(values) => 4 + values.iter().map(value_size).sum::<usize>(),
        HeaderValue::Table(headers) => table_size(headers),
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldTable;
    use uuid::Uuid;

    use super::*;

    fn outgoing(routing_key: &str, properties: Properties, headers: Vec<Header>) -> RenderedDelivery {
        let exchange = "partner.products".to_owned();
        let destination =
            Destination::Amqp { exchange, routing_key: routing_key.to_owned(), properties: Box::new(properties) };
        RenderedDelivery { id: Uuid::nil(), destination, headers, body: Bytes::new() }
    }

    fn encoded(table: &FieldTable) -> usize {
        let write = lapin::types::generation::gen_field_table(table);
        write(Vec::new().into()).unwrap().into_inner().0.len()
    }

    #[test]
    fn the_computed_size_of_headers_is_that_of_lapins_encoding() {
        let text = |length| HeaderValue::Text("x".repeat(length));
        let headers = vec![
            ("null".to_owned(), HeaderValue::Null),
            ("bool".to_owned(), HeaderValue::Bool(true)),
            ("integer".to_owned(), HeaderValue::Integer(-1)),
            ("float".to_owned(), HeaderValue::Float(0.5)),
            ("int8".to_owned(), HeaderValue::Number(AmqpNumber::ShortShortInt(-1))),
            ("uint16".to_owned(), HeaderValue::Number(AmqpNumber::ShortUInt(1))),
            ("float32".to_owned(), HeaderValue::Number(AmqpNumber::Float(0.5))),
            ("decimal".to_owned(), HeaderValue::Number(AmqpNumber::Decimal { value: 150, scale: 2 })),
            ("no_utf8".to_owned(), HeaderValue::BinaryText(Bytes::from_static(&[255; 9]))),
            ("time".to_owned(), HeaderValue::Timestamp(7)),
            ("text".to_owned(), text(70_000)),
            ("binary".to_owned(), HeaderValue::Binary(Bytes::from_static(&[0; 9]))),
            ("array".to_owned(), HeaderValue::Array(vec![text(3), HeaderValue::Array(Vec::new())])),
            ("table".to_owned(), HeaderValue::Table(vec![("é".to_owned(), text(1))])),
        ];
        assert_eq!(table_size(&headers), encoded(&encode_headers(&headers).unwrap()));
        let publish = PublishRequest::new(outgoing("k", Properties::default(), headers), AttemptId(1)).unwrap();
        let all = encoded(publish.properties.headers().as_ref().unwrap());
        assert_eq!(publish.header_size, MAX_PROPERTIES + all);
    }

    #[test]
    fn a_value_that_is_too_long_for_amqp_is_an_error_and_no_panic() {
        let long = "x".repeat(256);
        let with = |properties| PublishRequest::new(outgoing("k", properties, Vec::new()), AttemptId(1));
        for properties in [
            Properties { content_type: Some(long.clone()), ..Properties::default() },
            Properties { correlation_id: Some(long.clone()), ..Properties::default() },
            Properties { app_id: Some(long.clone()), ..Properties::default() },
        ] {
            assert!(with(properties).unwrap_err().contains("256 bytes"));
        }
        assert!(PublishRequest::new(outgoing(&long, Properties::default(), Vec::new()), AttemptId(1)).is_err());
        let named = vec![(long, HeaderValue::Null)];
        assert!(PublishRequest::new(outgoing("k", Properties::default(), named), AttemptId(1)).is_err());
    }
}
