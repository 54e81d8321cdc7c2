//! The relay's own schemas of the normalized event, and its encoders by them. They are written by hand: no library is between an
//! event and its bytes.
//!
//! A new field goes to the end of each schema, with a default. Fields are never renamed, removed or retyped.

use super::SchemaKind;
use super::varint::{write_length, write_unsigned};
use crate::event::Event;

pub(super) const fn text(kind: SchemaKind) -> &'static str {
    match kind {
        SchemaKind::Avro => include_str!("event.avsc"),
        SchemaKind::JsonSchema => include_str!("event.json"),
        SchemaKind::Protobuf => include_str!("event.proto"),
    }
}

/// A field of the event: what every event has, or what may be absent.
enum Field<'a> {
    Required(&'a [u8]),
    Optional(Option<&'a str>),
}

/// The fields before `warnings`, in the order of the schemas.
fn fields<'a>(event: &'a Event, id: &'a str, extra: &'a [u8]) -> [Field<'a>; 13] {
    use Field::{Optional, Required};
    let or_null = |text: &'a str| Optional(Some(text).filter(|text| !text.is_empty()));
    [
        Required(id.as_bytes()),
        Required(event.kind.as_bytes()),
        Required(event.source.as_str().as_bytes()),
        or_null(&event.tenant),
        Required(event.status.as_bytes()),
        Required(event.outcome.as_str().as_bytes()),
        or_null(&event.correlation_id),
        Optional(event.product_id.as_deref()),
        Optional(event.session.as_deref()),
        Optional(event.expires.as_deref()),
        Optional(event.message.as_deref()),
        Optional(event.time.as_deref()),
        Required(extra),
    ]
}

/// Avro's binary encoding: the values in the order of the schema. A union is preceded by the index of its branch; here `null` is
/// the first and `string` the second.
pub(super) fn to_avro(event: &Event, extra: &[u8], out: &mut Vec<u8>) {
    const NULL: u8 = 0;
    const STRING: u8 = 2; // 1 in zigzag
    const END: u8 = 0;
    let bytes = |bytes: &[u8], out: &mut Vec<u8>| {
        write_length(bytes.len(), out);
        out.extend_from_slice(bytes);
    };
    let mut buffer = uuid::Uuid::encode_buffer();
    for field in fields(event, event.id.as_hyphenated().encode_lower(&mut buffer), extra) {
        match field {
            Field::Required(text) => bytes(text, out),
            Field::Optional(None) => out.push(NULL),
            Field::Optional(Some(text)) => {
                out.push(STRING);
                bytes(text.as_bytes(), out);
            }
        }
    }
    if !event.warnings.is_empty() {
        write_length(event.warnings.len(), out);
        event.warnings.iter().for_each(|warning| bytes(warning.as_bytes(), out));
    }
    out.push(END);
}

/// Protobuf's encoding: each value after the number of its field. An absent value is left out; so is an empty text that can't be
/// absent, which a reader can't tell from it.
pub(super) fn to_protobuf(event: &Event, extra: &[u8], out: &mut Vec<u8>) {
    const LENGTH_DELIMITED: u64 = 2;
    const WARNINGS: u64 = 14;
    let bytes = |number: u64, bytes: &[u8], out: &mut Vec<u8>| {
        write_unsigned(number << 3 | LENGTH_DELIMITED, out);
        write_unsigned(u64::try_from(bytes.len()).unwrap_or(u64::MAX), out);
        out.extend_from_slice(bytes);
    };
    let mut buffer = uuid::Uuid::encode_buffer();
    let fields = fields(event, event.id.as_hyphenated().encode_lower(&mut buffer), extra);
    for (number, field) in (1..).zip(fields) {
        match field {
            Field::Required([]) | Field::Optional(None) => {}
            Field::Required(text) => bytes(number, text, out),
            Field::Optional(Some(text)) => bytes(number, text.as_bytes(), out),
        }
    }
    event.warnings.iter().for_each(|warning| bytes(WARNINGS, warning.as_bytes(), out));
}
