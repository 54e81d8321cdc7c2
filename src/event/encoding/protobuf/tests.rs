#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them so")]

use expect_test::expect;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};

use super::*;
use crate::event::encoding::{SchemaKind, SchemaReference, SchemaText};
use crate::event::json_value;

const PRODUCT: &str = r#"syntax = "proto3";
package demo;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/any.proto";
import "parts/item.proto";
message Other { string x = 1; }
message Product {
  string id = 1;
  optional string tenant_name = 2;
  google.protobuf.Timestamp at = 3;
  repeated demo.parts.Item items = 4;
  bytes raw = 5;
  Color color = 6;
  int64 big = 7;
  int32 small = 8;
  sint32 zig = 9;
  fixed64 fix = 10;
  map<string, int32> sizes = 11;
  map<bool, Color> flags = 12;
  oneof choice { string text = 13; int32 number = 14; }
  repeated int32 packed = 15;
  double d = 16;
  float f = 17;
  google.protobuf.Duration took = 18;
  google.protobuf.Struct any_object = 19;
  google.protobuf.Value any_value = 20;
  google.protobuf.StringValue maybe = 21;
  google.protobuf.Int64Value maybe_number = 22;
  google.protobuf.FieldMask mask = 23;
  google.protobuf.Any any = 24;
  Product parent = 25;
  repeated Color colors = 26;
  bool yes = 27;
  uint32 u = 28;
  message Inner { int32 n = 1; }
  Inner inner = 29;
  map<int32, google.protobuf.Value> values = 30;
  enum Color { NONE = 0; RED = 1; BLUE = -2; }
}
"#;
const ITEM: &str = "syntax = \"proto3\";\npackage demo.parts;\nmessage Item { int32 n = 1; string text = 2; }\n";

fn text(text: &str) -> SchemaText {
    let item =
        SchemaReference { name: "parts/item.proto".to_owned(), subject: None, version: None, text: ITEM.to_owned() };
    SchemaText { kind: SchemaKind::Protobuf, text: text.to_owned(), references: vec![item] }
}

fn schema() -> ProtoSchema {
    compile(&text(PRODUCT), Some("demo.Product")).unwrap_or_else(|error| panic!("{error}"))
}

fn descriptor() -> MessageDescriptor {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("parts")).unwrap();
    std::fs::write(dir.path().join("parts/item.proto"), ITEM).unwrap();
    std::fs::write(dir.path().join("product.proto"), PRODUCT).unwrap();
    let files = protox::compile(["product.proto"], [dir.path()]).unwrap();
    DescriptorPool::from_file_descriptor_set(files).unwrap().get_message_by_name("demo.Product").unwrap()
}

fn error(value: &Value) -> String {
    schema().encode(&json_value::parse(&value.to_string()), &mut Vec::new()).unwrap_err().to_string()
}

/// What is encoded is what prost-reflect makes of the same JSON.
#[test]
fn json_becomes_the_same_message_as_by_another_library() {
    let (schema, descriptor) = (schema(), descriptor());
    for value in [
        json!({}),
        json!({ "id": "1", "tenantName": "", "at": "2023-04-14T10:46:17.5+02:00", "raw": "AQI=", "color": "RED" }),
        json!({ "id": "", "tenant_name": "t", "at": "1969-12-31T23:59:59.25Z", "raw": "_-8", "color": -2 }),
        json!({ "items": [{ "n": 1 }, {}, { "text": "x", "unknown": [1] }], "unknown": { "a": 1 } }),
        json!({ "big": "9007199254740993", "small": -1, "zig": -3, "fix": "18446744073709551615", "u": 4_294_967_295_u32 }),
        json!({ "sizes": { "a": 1, "": 0 }, "flags": { "true": "BLUE", "false": "NONE" } }),
        json!({ "text": "", "packed": [1, -2, 300], "colors": ["NONE", "BLUE"] }),
        json!({ "number": 0, "d": 1.5, "f": 0.5, "yes": true }),
        json!({ "d": "Infinity", "f": "-Infinity", "yes": false }),
        json!({ "took": "-1.500s", "mask": "fooBar,b" }),
        json!({ "took": "3s", "anyObject": { "a": [1, null, { "b": "x" }], "c": true }, "anyValue": null }),
        json!({ "anyValue": [], "maybe": "", "maybeNumber": "7", "values": { "-1": "x", "2": null } }),
        json!({ "parent": { "parent": { "id": "deep" } }, "inner": {}, "id": null, "items": null }),
    ] {
        let mut out = Vec::new();
        schema
            .encode(&json_value::parse(&value.to_string()), &mut out)
            .unwrap_or_else(|misfit| panic!("{value}: {misfit}"));
        let read = DynamicMessage::decode(descriptor.clone(), &out[..]).unwrap();
        assert_eq!(read.unknown_fields().count(), 0, "{value}");
        let lenient = DeserializeOptions::new().deny_unknown_fields(false);
        let expected = DynamicMessage::deserialize_with_options(descriptor.clone(), value.clone(), &lenient);
        let expected = expected.unwrap_or_else(|error| panic!("{value}: {error}"));
        let json = |message: &DynamicMessage| serde_json::to_value(message).unwrap();
        assert_eq!(json(&read), json(&expected), "{value}");
    }
}

#[test]
fn what_does_not_fit_has_a_path() {
    let errors = [
        json!([]),
        json!({ "id": 1 }),
        json!({ "color": "GREEN" }),
        json!({ "colors": ["RED", "GREEN"] }),
        json!({ "flags": { "true": "GREEN" } }),
        json!({ "flags": { "maybe": "RED" } }),
        json!({ "items": [{ "n": 1 }, { "n": "text" }] }),
        json!({ "items": {} }),
        json!({ "small": 3_000_000_000_u32 }),
        json!({ "small": 1.5 }),
        json!({ "u": -1 }),
        json!({ "at": "yesterday" }),
        json!({ "at": 5 }),
        json!({ "took": "1h" }),
        json!({ "raw": "%%" }),
        json!({ "text": "a", "number": 1 }),
        json!({ "parent": { "parent": { "inner": 3 } } }),
        json!({ "any": {} }),
        json!({ "sizes": { "a": null } }),
        json!({ "yes": "true" }),
    ];
    let errors: Vec<String> = errors.iter().map(|value| format!("{value}\n    {}", error(value))).collect();
    expect![[r#"
        []
            found an array, expected message demo.Product
        {"id":1}
            id: found a number, expected string
        {"color":"GREEN"}
            color: found another word, expected enum demo.Product.Color (BLUE or NONE or RED)
        {"colors":["RED","GREEN"]}
            colors[1]: found another word, expected enum demo.Product.Color (BLUE or NONE or RED)
        {"flags":{"true":"GREEN"}}
            flags.true: found another word, expected enum demo.Product.Color (BLUE or NONE or RED)
        {"flags":{"maybe":"RED"}}
            flags.maybe: found text, expected bool
        {"items":[{"n":1},{"n":"text"}]}
            items[1].n: found text, expected int32
        {"items":{}}
            items: found an object, expected an array of message demo.parts.Item
        {"small":3000000000}
            small: found a number out of range, expected int32
        {"small":1.5}
            small: found a number that is no integer, or out of range, expected int32
        {"u":-1}
            u: found a number out of range, expected uint32
        {"at":"yesterday"}
            at: found text of another form, expected google.protobuf.Timestamp
        {"at":5}
            at: found a number, expected google.protobuf.Timestamp
        {"took":"1h"}
            took: found text of another form, expected google.protobuf.Duration, as in "1.5s"
        {"raw":"%%"}
            raw: found text that is not base64, expected bytes
        {"number":1,"text":"a"}
            number: found a second member, expected one of the oneof choice
        {"parent":{"parent":{"inner":3}}}
            parent.parent.inner: found a number, expected message demo.Product.Inner
        {"any":{}}
            any: found an object, expected no google.protobuf.Any, which the relay does not encode
        {"sizes":{"a":null}}
            sizes.a: found null, expected int32
        {"yes":"true"}
            yes: found text, expected bool"#]]
    .assert_eq(&errors.join("\n"));
}

#[test]
fn files_that_can_not_be_used_say_why() {
    let error = |file: &str, message| compile(&text(file), message).map(|_| ()).unwrap_err().to_string();
    let nested = format!("syntax = \"proto3\"; {}{}", "message M {".repeat(100), "}".repeat(100));
    let errors = [
        error("syntax = \"proto3\";\nmessage X {\n  strin id = 1; }", None),
        error("syntax = \"proto3\";\nmessage X {", None),
        error("syntax = \"proto3\";\nimport \"away.proto\";\nmessage X {}", None),
        error("syntax = \"proto3\";\n", None),
        error(PRODUCT, None),
        error(PRODUCT, Some("demo.parts.Item")),
        error(&nested, None),
    ];
    expect![[r#"
        line 3, column 3: name 'strin' is not defined
        expected a message field, oneof, reserved range, enum, message, option or '}', but reached end of file
        line 2, column 1: import 'away.proto' not found
        it has no message
        it has several messages, `demo.Other`, `demo.Product`: name one by `message`
        it has no message `demo.parts.Item`, but `demo.Other`, `demo.Product`
        blocks are nested deeper than 64"#]]
    .assert_eq(&errors.join("\n"));
}

#[test]
fn the_place_of_a_message_is_written_as_confluent_does() {
    let indexes = |message| compile(&text(PRODUCT), Some(message)).unwrap().indexes;
    assert_eq!(indexes("demo.Other"), [0]);
    assert_eq!(indexes("demo.Product"), [2, 2]);
    // Map entries are messages, too: those of `sizes`, `flags` and `values` have places of their own.
    let inner = indexes("demo.Product.Inner");
    assert_eq!((inner.len(), inner[0], inner[1]), (3, 4, 2));
}

#[test]
fn the_imports_of_a_file_are_those_that_are_not_built_in() {
    assert_eq!(imports(PRODUCT).unwrap(), ["parts/item.proto"]);
}

#[test]
fn required_fields_and_groups_of_proto2() {
    let file = "syntax = \"proto2\";\nmessage M {\n  required int32 a = 1;\n  optional group G = 2 { optional int32 b = 1; }\n  optional E e = 3;\n  enum E { ONE = 1; }\n}";
    let schema = compile(&text(file), None).unwrap();
    let encode = |value: &str| {
        let mut out = Vec::new();
        schema.encode(&json_value::parse(value), &mut out).map(|()| out).map_err(|misfit| misfit.to_string())
    };
    assert_eq!(encode(r#"{"a":0,"g":{"b":2}}"#), Ok(vec![8, 0, 0x13, 8, 2, 0x14]));
    assert_eq!(encode("{}").unwrap_err(), "a: found nothing, expected int32");
    assert_eq!(encode(r#"{"a":1,"e":5}"#).unwrap_err(), "e: found another number, expected enum M.E (ONE)");
}
