#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them so")]

use apache_avro::types::Value as AvroValue;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::event::encoding::{Schema, SchemaKind, SchemaReference, SchemaText};
use crate::event::json_value;

fn text(schema: &Value) -> SchemaText {
    SchemaText { kind: SchemaKind::Avro, text: schema.to_string(), references: Vec::new() }
}

fn schema(schema: &Value) -> AvroSchema {
    compile(&text(schema)).unwrap_or_else(|error| panic!("{schema}: {error}"))
}

/// The bytes, or the error.
fn encode(definition: &Value, value: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let encoded = schema(definition).encode(&json_value::parse(value), &mut out);
    encoded.map(|()| out).map_err(|misfit| misfit.to_string())
}

/// What apache-avro reads of the encoded value, or the error.
fn read(definition: &Value, value: &str) -> String {
    let bytes = match encode(definition, value) {
        Ok(bytes) => bytes,
        Err(error) => return error,
    };
    let schema = apache_avro::Schema::parse(definition).unwrap();
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
    let mut rest = &bytes[..];
    let value: AvroValue = reader.read_value(&mut rest).unwrap();
    assert!(rest.is_empty());
    format!("{value:?}")
}

fn check(cases: &[(Value, &str)], expected: &Expect) {
    let lines =
        cases.iter().map(|(definition, value)| format!("{definition} <- {value}\n    {}\n", read(definition, value)));
    expected.assert_eq(&lines.collect::<String>());
}

fn logical(kind: &str, logical: &str) -> Value {
    json!({ "type": kind, "logicalType": logical })
}

#[test]
fn scalars() {
    let fixed = json!({ "type": "fixed", "name": "F", "size": 2 });
    let color = json!({ "type": "enum", "name": "Color", "symbols": ["RED", "BLUE"] });
    check(
        &[
            (json!("null"), "null"),
            (json!("boolean"), "true"),
            (json!("boolean"), "1"),
            (json!("int"), "-2147483648"),
            (json!("int"), "3.0"),
            (json!("int"), "2147483648"),
            (json!("int"), "1.5"),
            (json!("int"), "\"1\""),
            (json!("long"), "9223372036854775807"),
            (json!("long"), "9223372036854775808"),
            (json!("float"), "1.5"),
            (json!("float"), "1e39"),
            (json!("double"), "1"),
            (json!("double"), "1e999"),
            (json!("string"), "\"\u{e9}\""),
            (json!("string"), "1"),
            (json!("bytes"), "\"\u{ff}a\""),
            (json!("bytes"), "\"\u{100}\""),
            (fixed.clone(), "\"ab\""),
            (fixed, "\"abc\""),
            (color.clone(), "\"BLUE\""),
            (color, "\"GREEN\""),
            (json!({ "type": "map", "values": "int" }), r#"{"a":1}"#),
            (json!({ "type": "map", "values": "int" }), r#"{"a":"x"}"#),
            (json!({ "type": "array", "items": "int" }), "[1,2]"),
            (json!({ "type": "array", "items": { "type": "map", "values": "int" } }), r#"[{},{"a":null}]"#),
        ],
        &expect![[r#"
            "null" <- null
                Null
            "boolean" <- true
                Boolean(true)
            "boolean" <- 1
                found a number, expected boolean
            "int" <- -2147483648
                Int(-2147483648)
            "int" <- 3.0
                Int(3)
            "int" <- 2147483648
                found a number out of range, expected int
            "int" <- 1.5
                found a number that is no integer, or out of range, expected int
            "int" <- "1"
                found text, expected int
            "long" <- 9223372036854775807
                Long(9223372036854775807)
            "long" <- 9223372036854775808
                found a number out of range, expected long
            "float" <- 1.5
                Float(1.5)
            "float" <- 1e39
                found a number out of range, expected float
            "double" <- 1
                Double(1.0)
            "double" <- 1e999
                found a number out of range, expected double
            "string" <- "é"
                String("é")
            "string" <- 1
                found a number, expected string
            "bytes" <- "ÿa"
                Bytes([255, 97])
            "bytes" <- "Ā"
                found text with characters beyond U+00FF, expected bytes
            {"name":"F","size":2,"type":"fixed"} <- "ab"
                Fixed(2, [97, 98])
            {"name":"F","size":2,"type":"fixed"} <- "abc"
                found text of another length, expected fixed F of 2 bytes
            {"name":"Color","symbols":["RED","BLUE"],"type":"enum"} <- "BLUE"
                Enum(1, "BLUE")
            {"name":"Color","symbols":["RED","BLUE"],"type":"enum"} <- "GREEN"
                found another word, expected enum Color (RED or BLUE)
            {"type":"map","values":"int"} <- {"a":1}
                Map({"a": Int(1)})
            {"type":"map","values":"int"} <- {"a":"x"}
                a: found text, expected int
            {"items":"int","type":"array"} <- [1,2]
                Array([Int(1), Int(2)])
            {"items":{"type":"map","values":"int"},"type":"array"} <- [{},{"a":null}]
                [1].a: found null, expected int
        "#]],
    );
}

#[test]
fn logical_types() {
    let decimal = |kind: &str| json!({ "type": kind, "logicalType": "decimal", "precision": 6, "scale": 2 });
    let fixed =
        json!({ "type": "fixed", "name": "D", "size": 4, "logicalType": "decimal", "precision": 6, "scale": 2 });
    check(
        &[
            (logical("int", "date"), "\"2023-04-14\""),
            (logical("int", "date"), "\"2023-04-14T23:00:00-02:00\""),
            (logical("int", "date"), "19461"),
            (logical("int", "date"), "\"14.4.2023\""),
            (logical("int", "time-millis"), "\"08:46:17.1239\""),
            (logical("long", "time-micros"), "\"08:46:17.123456789\""),
            (logical("long", "timestamp-millis"), "\"2023-04-14T08:46:17.123456Z\""),
            (logical("long", "timestamp-millis"), "1681461977123"),
            (logical("long", "timestamp-micros"), "\"2023-04-14T10:46:17+02:00\""),
            (logical("long", "timestamp-nanos"), "\"2023-04-14T08:46:17.123456789Z\""),
            (logical("long", "timestamp-nanos"), "\"9999-04-14T08:46:17Z\""),
            (logical("long", "timestamp-millis"), "\"yesterday\""),
            (logical("long", "timestamp-millis"), "true"),
            (logical("long", "local-timestamp-millis"), "\"2023-04-14T10:46:17+02:00\""),
            (decimal("bytes"), "12.34"),
            (decimal("bytes"), "\"-12.3\""),
            (decimal("bytes"), "1234567.1"),
            (decimal("bytes"), "1.234"),
            (decimal("bytes"), "\"12,3\""),
            (fixed, "-1"),
            (logical("string", "uuid"), "\"0c5b3c1e-5f0e-5d3c-9a55-0b8f4f1b2a10\""),
            (logical("string", "uuid"), "\"no uuid\""),
        ],
        &expect![[r#"
            {"logicalType":"date","type":"int"} <- "2023-04-14"
                Date(19461)
            {"logicalType":"date","type":"int"} <- "2023-04-14T23:00:00-02:00"
                Date(19462)
            {"logicalType":"date","type":"int"} <- 19461
                Date(19461)
            {"logicalType":"date","type":"int"} <- "14.4.2023"
                found text of another form, expected date
            {"logicalType":"time-millis","type":"int"} <- "08:46:17.1239"
                TimeMillis(31577123)
            {"logicalType":"time-micros","type":"long"} <- "08:46:17.123456789"
                TimeMicros(31577123456)
            {"logicalType":"timestamp-millis","type":"long"} <- "2023-04-14T08:46:17.123456Z"
                TimestampMillis(1681461977123)
            {"logicalType":"timestamp-millis","type":"long"} <- 1681461977123
                TimestampMillis(1681461977123)
            {"logicalType":"timestamp-micros","type":"long"} <- "2023-04-14T10:46:17+02:00"
                TimestampMicros(1681461977000000)
            {"logicalType":"timestamp-nanos","type":"long"} <- "2023-04-14T08:46:17.123456789Z"
                TimestampNanos(1681461977123456789)
            {"logicalType":"timestamp-nanos","type":"long"} <- "9999-04-14T08:46:17Z"
                found a date out of range, expected timestamp-nanos
            {"logicalType":"timestamp-millis","type":"long"} <- "yesterday"
                found text of another form, expected timestamp-millis
            {"logicalType":"timestamp-millis","type":"long"} <- true
                found a boolean, expected timestamp-millis
            {"logicalType":"local-timestamp-millis","type":"long"} <- "2023-04-14T10:46:17+02:00"
                LocalTimestampMillis(1681469177000)
            {"logicalType":"decimal","precision":6,"scale":2,"type":"bytes"} <- 12.34
                Decimal(Decimal { value: 1234, len: 2 })
            {"logicalType":"decimal","precision":6,"scale":2,"type":"bytes"} <- "-12.3"
                Decimal(Decimal { value: -1230, len: 2 })
            {"logicalType":"decimal","precision":6,"scale":2,"type":"bytes"} <- 1234567.1
                found a number out of range, expected decimal(6, 2)
            {"logicalType":"decimal","precision":6,"scale":2,"type":"bytes"} <- 1.234
                found a number with more digits, expected decimal(6, 2)
            {"logicalType":"decimal","precision":6,"scale":2,"type":"bytes"} <- "12,3"
                found text that is no number, or one out of range, expected decimal(6, 2)
            {"logicalType":"decimal","name":"D","precision":6,"scale":2,"size":4,"type":"fixed"} <- -1
                Decimal(Decimal { value: -100, len: 4 })
            {"logicalType":"uuid","type":"string"} <- "0c5b3c1e-5f0e-5d3c-9a55-0b8f4f1b2a10"
                Uuid(0c5b3c1e-5f0e-5d3c-9a55-0b8f4f1b2a10)
            {"logicalType":"uuid","type":"string"} <- "no uuid"
                found text of another form, expected uuid
        "#]],
    );
}

#[test]
fn unions_take_the_branch_that_the_value_fits() {
    let small = json!({ "type": "record", "name": "Small", "fields": [{ "name": "a", "type": "int" }] });
    let large = json!({ "type": "record", "name": "Large", "fields": [
        { "name": "a", "type": "int" }, { "name": "b", "type": "string", "default": "" }
    ] });
    let records = json!([small, large]);
    check(
        &[
            (json!(["null", "string"]), "null"),
            (json!(["null", "string"]), "\"x\""),
            (json!(["null", "string"]), "1"),
            (json!(["int", "long"]), "3000000000"),
            (json!(["double", "long"]), "3"),
            (json!(["long", "double"]), "3.5"),
            (json!(["bytes", "string"]), "\"x\""),
            (json!(["null", logical("long", "timestamp-millis")]), "\"2023-04-14T08:46:17Z\""),
            (json!(["null", logical("long", "timestamp-millis")]), "\"soon\""),
            (json!([logical("long", "timestamp-millis"), "string"]), "\"2023-04-14T08:46:17Z\""),
            (records.clone(), r#"{"a":1}"#),
            (records.clone(), r#"{"a":1,"b":"x"}"#),
            (records.clone(), r#"{"b":1}"#),
            (json!(["null", small]), r#"{"a":"x"}"#),
        ],
        &expect![[r#"
            ["null","string"] <- null
                Union(0, Null)
            ["null","string"] <- "x"
                Union(1, String("x"))
            ["null","string"] <- 1
                found a number, expected null or string
            ["int","long"] <- 3000000000
                Union(1, Long(3000000000))
            ["double","long"] <- 3
                Union(1, Long(3))
            ["long","double"] <- 3.5
                Union(1, Double(3.5))
            ["bytes","string"] <- "x"
                Union(1, String("x"))
            ["null",{"logicalType":"timestamp-millis","type":"long"}] <- "2023-04-14T08:46:17Z"
                Union(1, TimestampMillis(1681461977000))
            ["null",{"logicalType":"timestamp-millis","type":"long"}] <- "soon"
                found text of another form, expected timestamp-millis
            [{"logicalType":"timestamp-millis","type":"long"},"string"] <- "2023-04-14T08:46:17Z"
                Union(1, String("2023-04-14T08:46:17Z"))
            [{"fields":[{"name":"a","type":"int"}],"name":"Small","type":"record"},{"fields":[{"name":"a","type":"int"},{"default":"","name":"b","type":"string"}],"name":"Large","type":"record"}] <- {"a":1}
                Union(0, Record([("a", Int(1))]))
            [{"fields":[{"name":"a","type":"int"}],"name":"Small","type":"record"},{"fields":[{"name":"a","type":"int"},{"default":"","name":"b","type":"string"}],"name":"Large","type":"record"}] <- {"a":1,"b":"x"}
                Union(1, Record([("a", Int(1)), ("b", String("x"))]))
            [{"fields":[{"name":"a","type":"int"}],"name":"Small","type":"record"},{"fields":[{"name":"a","type":"int"},{"default":"","name":"b","type":"string"}],"name":"Large","type":"record"}] <- {"b":1}
                found an object, expected record Small or record Large
            ["null",{"fields":[{"name":"a","type":"int"}],"name":"Small","type":"record"}] <- {"a":"x"}
                a: found text, expected int
        "#]],
    );
}

#[test]
fn records_take_members_by_name_and_defaults() {
    let record = json!({ "type": "record", "name": "R", "namespace": "demo", "fields": [
        { "name": "a", "type": "int", "default": 7 },
        { "name": "d", "type": ["null", "string"], "default": null },
        { "name": "n", "type": { "type": "record", "name": "N", "fields": [{ "name": "b", "type": "int" }] },
          "default": { "b": 3 } },
        { "name": "next", "type": ["null", "R"], "default": null },
        { "name": "raw", "type": "bytes", "default": "\u{ff}" },
        { "name": "list", "type": { "type": "array", "items": "N" }, "default": [] },
    ] });
    check(
        &[
            (record.clone(), "{}"),
            (record.clone(), r#"{"unknown":1,"n":{"b":4,"c":5},"a":1,"a":2}"#),
            (record.clone(), r#"{"next":{"next":{"a":"x"}}}"#),
            (record.clone(), r#"{"list":[{"b":1},{}]}"#),
            (record.clone(), r#"{"d":7}"#),
            (record, "[]"),
        ],
        &expect![[r#"
            {"fields":[{"default":7,"name":"a","type":"int"},{"default":null,"name":"d","type":["null","string"]},{"default":{"b":3},"name":"n","type":{"fields":[{"name":"b","type":"int"}],"name":"N","type":"record"}},{"default":null,"name":"next","type":["null","R"]},{"default":"ÿ","name":"raw","type":"bytes"},{"default":[],"name":"list","type":{"items":"N","type":"array"}}],"name":"R","namespace":"demo","type":"record"} <- {}
                Record([("a", Int(7)), ("d", Union(0, Null)), ("n", Record([("b", Int(3))])), ("next", Union(0, Null)), ("raw", Bytes([255])), ("list", Array([]))])
            {"fields":[{"default":7,"name":"a","type":"int"},{"default":null,"name":"d","type":["null","string"]},{"default":{"b":3},"name":"n","type":{"fields":[{"name":"b","type":"int"}],"name":"N","type":"record"}},{"default":null,"name":"next","type":["null","R"]},{"default":"ÿ","name":"raw","type":"bytes"},{"default":[],"name":"list","type":{"items":"N","type":"array"}}],"name":"R","namespace":"demo","type":"record"} <- {"unknown":1,"n":{"b":4,"c":5},"a":1,"a":2}
                Record([("a", Int(2)), ("d", Union(0, Null)), ("n", Record([("b", Int(4))])), ("next", Union(0, Null)), ("raw", Bytes([255])), ("list", Array([]))])
            {"fields":[{"default":7,"name":"a","type":"int"},{"default":null,"name":"d","type":["null","string"]},{"default":{"b":3},"name":"n","type":{"fields":[{"name":"b","type":"int"}],"name":"N","type":"record"}},{"default":null,"name":"next","type":["null","R"]},{"default":"ÿ","name":"raw","type":"bytes"},{"default":[],"name":"list","type":{"items":"N","type":"array"}}],"name":"R","namespace":"demo","type":"record"} <- {"next":{"next":{"a":"x"}}}
                next.next.a: found text, expected int
            {"fields":[{"default":7,"name":"a","type":"int"},{"default":null,"name":"d","type":["null","string"]},{"default":{"b":3},"name":"n","type":{"fields":[{"name":"b","type":"int"}],"name":"N","type":"record"}},{"default":null,"name":"next","type":["null","R"]},{"default":"ÿ","name":"raw","type":"bytes"},{"default":[],"name":"list","type":{"items":"N","type":"array"}}],"name":"R","namespace":"demo","type":"record"} <- {"list":[{"b":1},{}]}
                list[1].b: found nothing, expected int
            {"fields":[{"default":7,"name":"a","type":"int"},{"default":null,"name":"d","type":["null","string"]},{"default":{"b":3},"name":"n","type":{"fields":[{"name":"b","type":"int"}],"name":"N","type":"record"}},{"default":null,"name":"next","type":["null","R"]},{"default":"ÿ","name":"raw","type":"bytes"},{"default":[],"name":"list","type":{"items":"N","type":"array"}}],"name":"R","namespace":"demo","type":"record"} <- {"d":7}
                d: found a number, expected null or string
            {"fields":[{"default":7,"name":"a","type":"int"},{"default":null,"name":"d","type":["null","string"]},{"default":{"b":3},"name":"n","type":{"fields":[{"name":"b","type":"int"}],"name":"N","type":"record"}},{"default":null,"name":"next","type":["null","R"]},{"default":"ÿ","name":"raw","type":"bytes"},{"default":[],"name":"list","type":{"items":"N","type":"array"}}],"name":"R","namespace":"demo","type":"record"} <- []
                found an array, expected record demo.R
        "#]],
    );
}

#[test]
fn schemas_that_can_not_be_used_say_why() {
    let error = |schema: &Value| compile(&text(schema)).map(|_| ()).unwrap_err().to_string();
    let mut errors = vec![
        error(&json!("strin")),
        error(&json!({ "type": "record", "name": "R", "fields": [{ "name": "a", "type": "int", "default": "x" }] })),
        error(&json!({ "type": "record", "name": "R", "fields": [{ "name": "a", "type": "R", "default": {} }] })),
        error(&json!({ "type": "record", "name": "R", "fields": [
            { "name": "a", "type": { "type": "int", "logicalType": "date" }, "default": "soon" }
        ] })),
        error(&json!({ "type": "bytes", "logicalType": "decimal", "precision": 100_000, "scale": 2 })),
    ];
    let broken = SchemaText { text: "{\n  \"type\": \n}".to_owned(), ..text(&json!(null)) };
    errors.push(compile(&broken).map(|_| ()).unwrap_err().to_string());
    expect![[r#"
        Unknown primitive type: strin
        `default`'s value type of field `a` in `R` must be a `"int"`. Got: String("x")
        `default`'s value type of field `a` in `R` must be a `"R"`. Got: Object {}
        `default`'s value type of field `a` in `R` must be a `{"type":"int"}`. Got: String("soon")
        a decimal has at most 1233 digits here, and this one has 100000
        line 3, column 1: this is not JSON: expected value"#]]
    .assert_eq(&errors.join("\n"));
}

/// A recursive union tries its branches at each level; without a bound that would never end.
#[test]
fn a_value_with_too_many_alternatives_is_given_up() {
    let first = json!({ "type": "record", "name": "A", "fields": [{ "name": "n", "type": [
        "A", { "type": "record", "name": "B", "fields": [{ "name": "n", "type": ["A", "B", "int"] }] }, "int"
    ] }] });
    let deep = format!("{}\"x\"{}", r#"{"n":"#.repeat(100), "}".repeat(100));
    let error = encode(&first, &deep).unwrap_err();
    assert!(
        error.ends_with("found a value with too many alternatives, expected one that is recognized sooner"),
        "{error}"
    );
    assert!(error.len() < 300, "{error}");
    let fits = format!("{}1{}", r#"{"n":"#.repeat(100), "}".repeat(100));
    assert!(encode(&first, &fits).is_ok());
}

#[test]
fn references_are_compiled_with_the_schema() {
    let reference = |text: Value| crate::event::encoding::SchemaReference {
        name: String::new(),
        subject: None,
        version: None,
        text: text.to_string(),
    };
    let schema = SchemaText {
        references: vec![reference(json!({ "type": "enum", "name": "demo.Kind", "symbols": ["A", "B"] }))],
        ..text(&json!({ "type": "record", "name": "demo.R", "fields": [{ "name": "kind", "type": "demo.Kind" }] }))
    };
    let mut out = Vec::new();
    compile(&schema).unwrap().encode(&json_value::parse(r#"{"kind":"B"}"#), &mut out).unwrap();
    assert_eq!(out, [2]);
}

#[test]
fn only_a_named_type_can_be_referred_to() {
    for text in [
        r#""int""#,
        r#"{"type": "int", "name": "X"}"#,
        r#"{"name": "A", "type": {"type": "record", "name": "B", "fields": []}}"#,
        "[]",
    ] {
        let reference = SchemaReference { name: "X".to_owned(), subject: None, version: None, text: text.to_owned() };
        let text = SchemaText { kind: SchemaKind::Avro, text: r#""string""#.to_owned(), references: vec![reference] };
        let error = Schema::compile(text, None).unwrap_err().to_string();
        assert_eq!(error, "X: it is referred to, and is no record, enum or fixed");
    }
}
