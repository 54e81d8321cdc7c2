//! What the relay encodes is read by other libraries, to the same values.

use apache_avro::types::Value as AvroValue;
use proptest::prelude::*;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor};
use serde_json::Value;

use super::*;
use crate::event::fixtures::with_body;

fn format(kind: SchemaKind) -> Format {
    Format::Schema(Box::new(SchemaFormat { kind, source: SchemaSource::Event, json: Format::Normalized }))
}

fn encoded(kind: SchemaKind, view: EventView<'_>) -> EncodedBody {
    format(kind).encode(view, Carrier::Kafka).expect("every event can be encoded")
}

fn avro_schema() -> apache_avro::Schema {
    apache_avro::Schema::parse_str(&Schema::of_event(SchemaKind::Avro).text().text).expect("an Avro schema")
}

/// Reads one datum, and fails if bytes are left.
fn read_avro(schema: &apache_avro::Schema, bytes: &[u8]) -> Value {
    let mut rest = bytes;
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(schema).build().expect("a reader");
    let value: AvroValue = reader.read_value(&mut rest).expect("a datum");
    assert!(rest.is_empty(), "{} bytes are left", rest.len());
    Value::try_from(value).expect("JSON")
}

fn message_of_proto() -> MessageDescriptor {
    message_of(&Schema::of_event(SchemaKind::Protobuf).text().text)
}

fn message_of(proto: &str) -> MessageDescriptor {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("event.proto"), proto).unwrap();
    let files = protox::compile(["event.proto"], [dir.path()]).expect("a .proto file");
    let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
    pool.get_message_by_name("fr.cnes.regards.relay.Event").expect("the message")
}

/// With absent fields as null, as in JSON.
fn read_protobuf(message: &MessageDescriptor, bytes: &[u8]) -> Value {
    let read = DynamicMessage::decode(message.clone(), bytes).expect("a message");
    assert_eq!(read.unknown_fields().count(), 0);
    let options = prost_reflect::SerializeOptions::new().skip_default_fields(false);
    let mut value = read.serialize_with_options(serde_json::value::Serializer, &options).expect("JSON");
    let members = value.as_object_mut().expect("an object");
    for field in message.fields().filter(FieldDescriptor::supports_presence) {
        members.entry(field.json_name()).or_insert(Value::Null);
    }
    value
}

/// The normalized event with `extra` as text, as Avro and Protobuf have it.
fn expected(view: EventView<'_>) -> Value {
    let mut value = serde_json::to_value(view.event).expect("JSON");
    // As the event has it: numbers with all their digits.
    value["extra"] = serde_json::to_string(&view.event.extra).expect("JSON").into();
    value
}

#[test]
fn other_libraries_read_an_event() {
    let (avro, message) = (avro_schema(), message_of_proto());
    for body in [
        r#"{"correlationId":"c","responseStatus":"GRANTED"}"#,
        r#"{"correlationId":"c 1","responseStatus":"ERROR","productId":"","session":7,"expires":"2022-12-22T10:25:52.243+02:00","message":"é","n":12345678901234567890.10,"x":{"y":[null]}}"#,
    ] {
        with_body(body, |view| {
            let body = encoded(SchemaKind::Avro, view);
            assert_eq!(body.content_type.as_deref(), Some("application/vnd.apache.avro"));
            assert_eq!(read_avro(&avro, &body.body), expected(view));
            let body = encoded(SchemaKind::Protobuf, view);
            assert_eq!(body.content_type.as_deref(), Some("application/x-protobuf"));
            assert_eq!(read_protobuf(&message, &body.body), expected(view));
            let body = encoded(SchemaKind::JsonSchema, view);
            assert_eq!(body, Format::Normalized.encode(view, Carrier::Kafka).unwrap());
        });
    }
}

/// The first released schema: what any version writes is read by any other (`FULL_TRANSITIVE`).
#[test]
fn the_schema_of_events_only_grows_compatibly() {
    let first = include_str!("../../../tests/fixtures/schemas/event-1.avsc");
    let first = apache_avro::Schema::parse_str(first).expect("an Avro schema");
    assert!(apache_avro::schema_compatibility::SchemaCompatibility::mutual_read(&first, &avro_schema()).is_ok());
    // Fields of Protobuf keep their numbers, and their names in JSON are those of the event.
    let fields: Vec<String> = message_of_proto().fields().map(|field| field.json_name().to_owned()).collect();
    let apache_avro::Schema::Record(record) = avro_schema() else { panic!("a record") };
    assert_eq!(fields, record.fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>());
}

/// The schema of events as one in a file, without `extra`, which is an object in JSON.
fn in_a_file(kind: SchemaKind) -> Schema {
    let text = Schema::of_event(kind).text().text.clone();
    let lines = text.lines().filter(|line| !line.contains("\"extra\"") && !line.contains(" extra = "));
    let text = lines.collect::<Vec<_>>().join("\n");
    Schema::compile(SchemaText { kind, text, references: Vec::new() }, None).unwrap_or_else(|error| panic!("{error}"))
}

fn by_a_file(kind: SchemaKind) -> Format {
    let source = SchemaSource::File { path: "event".to_owned(), schema: in_a_file(kind) };
    Format::Schema(Box::new(SchemaFormat { kind, source, json: Format::Normalized }))
}

/// A digest is an array of events, for which a schema in a file may be.
#[test]
fn a_digest_is_encoded_by_a_schema_in_a_file() {
    let text = r#"{"type":"array","items":{"type":"record","name":"E","fields":[{"name":"status","type":"string"}]}}"#;
    let text = SchemaText { kind: SchemaKind::Avro, text: text.to_owned(), references: Vec::new() };
    let source = SchemaSource::File { path: String::new(), schema: Schema::compile(text, None).unwrap() };
    let format = Format::Schema(Box::new(SchemaFormat { kind: SchemaKind::Avro, source, json: Format::Normalized }));
    with_body(r#"{"correlationId":"c","responseStatus":"ERROR"}"#, |view| {
        let views = [view, view];
        let envelope = crate::event::DigestEnvelope::of(&views, &[]).unwrap();
        let body = format.encode(envelope.view(&views), Carrier::Kafka).unwrap().body;
        assert_eq!(body.as_ref(), b"\x04\x0aERROR\x0aERROR\x00");
    });
}

#[test]
fn a_transformed_event_is_not_encoded_by_the_schema_of_events() {
    let transformed = crate::event::TransformedEvent(Vec::new());
    with_body(r#"{"correlationId":"c","responseStatus":"GRANTED"}"#, |view| {
        for kind in SchemaKind::ALL {
            let view = EventView { transformed: Some(&transformed), ..view };
            assert!(format(kind).encode(view, Carrier::Kafka).is_err());
        }
    });
}

proptest! {
    /// Any event that decodes as a response is read back from each format, to the same values.
    #[test]
    fn any_event_is_read_back(
        texts in prop::array::uniform6(any::<String>()),
        present in prop::array::uniform6(any::<bool>()),
        extra in prop::collection::btree_map("[a-z]{1,8}|.{1,3}", crate::event::tests::generated::json_value(), 0..4),
    ) {
        let names = ["correlationId", "productId", "session", "expires", "message", "note"];
        let mut body: serde_json::Map<String, Value> = extra.into_iter().collect();
        for ((name, text), present) in names.into_iter().zip(texts).zip(present) {
            if present {
                body.insert(name.to_owned(), text.into());
            }
        }
        body.insert("responseStatus".to_owned(), "ERROR".into());
        if body.get("correlationId").is_none_or(|id| id == "") {
            body.insert("correlationId".to_owned(), "c".into());
        }
        let (avro, message) = (avro_schema(), message_of_proto());
        let files = [SchemaKind::Avro, SchemaKind::Protobuf].map(by_a_file);
        let part_of_avro = apache_avro::Schema::parse_str(&in_a_file(SchemaKind::Avro).text().text).unwrap();
        let part_of_proto = message_of(&in_a_file(SchemaKind::Protobuf).text().text);
        with_body(&Value::Object(body).to_string(), |view| {
            let mut part = expected(view);
            part.as_object_mut().unwrap().remove("extra");
            let [by_avro, by_proto] = files.each_ref().map(|format| format.encode(view, Carrier::Kafka).unwrap().body);
            assert_eq!(read_avro(&part_of_avro, &by_avro), part);
            assert_eq!(read_protobuf(&part_of_proto, &by_proto), part);
            assert_eq!(read_avro(&avro, &encoded(SchemaKind::Avro, view).body), expected(view));
            assert_eq!(read_protobuf(&message, &encoded(SchemaKind::Protobuf, view).body), expected(view));
            let json: Value = serde_json::from_slice(&encoded(SchemaKind::JsonSchema, view).body).unwrap();
            assert_eq!(json, serde_json::to_value(view.event).unwrap());
        });
    }
}
