//! Formats with a schema.

use expect_test::expect;

use super::{check_errors, options, sink, valid};
use crate::config::{Config, Strictness};
use crate::event::{Format, SchemaKind, SchemaSource};

const KAFKA: &str = "kafka: { brokers: \"h:9092\", topic: t }\n";

#[test]
fn a_format_with_the_schema_of_events() {
    for (written, expected) in [
        ("avro: {}", SchemaKind::Avro),
        ("json_schema: { schema: event }", SchemaKind::JsonSchema),
        ("protobuf: { schema: \"event\" }", SchemaKind::Protobuf),
    ] {
        let config = valid(&sink(&format!("{KAFKA}format: {{ {written} }}")));
        let Format::Schema(format) = &config.sinks[0].format else { panic!("{written}") };
        assert_eq!((format.kind, &format.source), (expected, &SchemaSource::Event));
    }
    valid(&sink("stdout: {}\nformat: { json_schema: {} }"));
}

#[test]
fn a_format_with_a_schema_is_one_of_three() {
    check_errors(
        &sink(&format!("{KAFKA}format: {{ avro: {{}}, protobuf: {{}} }}")),
        expect![[r#"
            error[two-formats]: a sink has one format
             --> routes.yaml:6:35
              |
            6 |     format: { avro: {}, protobuf: {} }
              |                                   ^^
              |
              = help: keep one of them, or make it two sinks

        "#]],
    );
    check_errors(
        &sink(&format!("{KAFKA}format: {{}}")),
        expect![[r#"
        error[no-format]: there is no format
         --> routes.yaml:6:13
          |
        6 |     format: {}
          |             ^^
          |
          = help: write `normalized`, `original`, `cloudevents`, or a format with a schema, as in `{ avro: {} }`

    "#]],
    );
    check_errors(
        &sink(&format!("{KAFKA}format: {{ avor: {{}} }}")),
        expect![[r#"
        error[unknown-key]: unknown key `avor`
         --> routes.yaml:6:15
          |
        6 |     format: { avor: {} }
          |               ^^^^ did you mean `avro`?
          |
          = help: write `avro:`

    "#]],
    );
    check_errors(
        &sink(&format!("{KAFKA}format: {{ avro: }}")),
        expect![[r#"
        error[missing-value]: `avro` has no value
         --> routes.yaml:6:15
          |
        6 |     format: { avro: }
          |               ^^^^
          |
          = help: write it after the colon (encode the body by an Avro schema, in Avro's binary encoding), or remove `avro:`

    "#]],
    );
    check_errors(
        &sink(&format!("{KAFKA}format: {{ avro: {{ schema: evnt }} }}")),
        expect![[r#"
            error[unknown-schema]: `evnt` is not a schema of avro
             --> routes.yaml:6:31
              |
            6 |     format: { avro: { schema: evnt } }
              |                               ^^^^
              |
              = help: write `event`, `latest`, or the path of a file, as in `partner.avsc`

        "#]],
    );
}

#[test]
fn bytes_are_no_lines() {
    check_errors(
        &sink("file: { path: out.ndjson }\nformat:\n  avro: {}"),
        expect![[r#"
        error[binary-lines]: files and standard output get lines of text, and avro is none
         --> routes.yaml:6:5
          |
        6 |     format:
          |     ^^^^^^
          |
          = help: use `json_schema` here, or a `kafka`, `webhook` or `amqp` sink

    "#]],
    );
    check_errors(
        &sink("stdout: {}\nformat: { protobuf: {} }"),
        expect![[r#"
        error[binary-lines]: files and standard output get lines of text, and protobuf is none
         --> routes.yaml:6:13
          |
        6 |     format: { protobuf: {} }
          |             ^^^^^^^^^^^^^^^^
          |
          = help: use `json_schema` here, or a `kafka`, `webhook` or `amqp` sink

    "#]],
    );
}

#[test]
fn the_schema_of_events_has_no_room_for_anything_else() {
    check_errors(
        &sink(&format!("{KAFKA}format: {{ avro: {{}} }}\nbody: \"{{{{ status }}}}\"\ngroup: {{ wait: 1s }}")),
        expect![[r#"
            error[event-schema]: the schema `event` is that of the normalized event
             --> routes.yaml:7:11
              |
            7 |     body: "{{ status }}"
              |           ^^^^^^^^^^^^^^ this is another body
              |
              = help: remove `body`, or `format`

            error[event-schema]: the schema `event` is that of the normalized event
             --> routes.yaml:8:12
              |
            8 |     group: { wait: 1s }
              |            ^^^^^^^^^^^^ a digest is an array of events
              |
              = help: remove `group`, or `format`

        "#]],
    );
    let text = sink(&format!("{KAFKA}format: {{ json_schema: {{}} }}"))
        .replace("{ name: all, to: out }", "{ name: all, to: out, transform: [{ remove: session }] }");
    check_errors(
        &text,
        expect![[r#"
        error[event-schema]: the schema `event` is that of the normalized event
         --> routes.yaml:6:13
          |
        6 |     format: { json_schema: {} }
          |             ^^^^^^^^^^^^^^^^^^^ a route to this sink changes the event by `transform`
          |
          = help: remove `transform` from the routes that lead to this sink, or `format` here

    "#]],
    );
}

#[test]
fn copies_of_dead_letters_have_no_schema() {
    let text = sink("stdout: {}\n") + "dead_letters: { to: copies }\n";
    let text =
        text.replace("sinks:\n", &format!("sinks:\n  copies: {{ {}, format: {{ avro: {{}} }} }}\n", KAFKA.trim()));
    check_errors(
        &text,
        expect![[r#"
        error[dead-letter-sink]: copies of dead letters are sent as they were received
         --> routes.yaml:4:61
          |
        4 |   copies: { kafka: { brokers: "h:9092", topic: t }, format: { avro: {} } }
          |                                                             ^^^^^^^^^^^^
          |
          = help: remove it, or write `format: original`; the reason is in their headers

    "#]],
    );
}

/// The configuration with these files beside it, or its mistakes.
fn with_files(files: &[(&str, &str)], format: &str) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let text = sink(&format!("{KAFKA}format: {{ {format} }}"));
    let parsed = Config::parse(&text, &dir.path().join("routes.yaml"), &options(Strictness::Run, &[]));
    let shown = |found: crate::config::Diagnostics| found.to_string().replace(&dir.path().display().to_string(), "DIR");
    parsed.map(|(config, _)| config).map_err(shown)
}

#[test]
fn a_schema_in_a_file_is_compiled() {
    let avro = ("p.avsc", r#"{ "type": "record", "name": "P", "fields": [] }"#);
    let proto = ("p.proto", "syntax = \"proto3\";\nimport \"q.proto\";\nmessage P { Q q = 1; }\nmessage R {}");
    let imported = ("q.proto", "syntax = \"proto3\";\nmessage Q { int32 n = 1; }");
    let json = ("p.json", r#"{ "type": "object" }"#);
    let files = [avro, proto, imported, json];
    for (format, path, named) in [
        ("avro: { schema: p.avsc }", "p.avsc", 1),
        ("protobuf: { schema: p.proto, message: P }", "p.proto", 2),
        ("json_schema: { schema: ./p.json }", "./p.json", 1),
    ] {
        let config = with_files(&files, format).unwrap_or_else(|error| panic!("{error}"));
        let Format::Schema(schema) = &config.sinks[0].format else { panic!("{format}") };
        assert_eq!(schema.schema_name(), path);
        assert_eq!(config.files.paths().count(), named, "a change of any of them is noticed");
    }
}

#[test]
fn a_schema_in_a_file_that_can_not_be_used_is_an_error() {
    let error = |files: &[(&str, &str)], format: &str| with_files(files, format).unwrap_err();
    let two = ("p.proto", "syntax = \"proto3\";\nmessage A {}\nmessage B {}");
    let errors = [
        error(&[], "avro: { schema: p.avsc }"),
        error(&[("p.avsc", "{\n  \"type\": \"strin\"\n}")], "avro: { schema: p.avsc }"),
        error(&[("p.json", "{}")], "avro: { schema: p.json }"),
        error(&[("p.json", "[")], "json_schema: { schema: p.json }"),
        error(&[two], "protobuf: { schema: p.proto }"),
        error(&[("p.proto", "syntax = \"proto3\";\nmessage P { strin a = 1; }")], "protobuf: { schema: p.proto }"),
        error(&[("p.proto", "syntax = \"proto3\";\nimport \"../q.proto\";")], "protobuf: { schema: p.proto }"),
        error(&[("p.avsc", "\"int\"")], "avro: { schema: p.avsc, message: P }"),
        error(&[], "protobuf: { message: P }"),
    ];
    expect![[r#"
        error[missing-file]: the file `DIR/p.avsc` can't be read: No such file or directory (os error 2)
         --> DIR/routes.yaml:6:31
          |
        6 |     format: { avro: { schema: p.avsc } }
          |                               ^^^^^^
          |
          = help: relative paths begin at the directory of this file

        error[schema-file]: the schema `p.avsc` can't be used: Unknown primitive type: strin
         --> DIR/routes.yaml:6:31
          |
        6 |     format: { avro: { schema: p.avsc } }
          |                               ^^^^^^
          |
          = help: the file has one Avro schema as JSON; named types are defined before they are used

        error[unknown-schema]: `p.json` is not a schema of avro
         --> DIR/routes.yaml:6:31
          |
        6 |     format: { avro: { schema: p.json } }
          |                               ^^^^^^
          |
          = help: write `event`, `latest`, or the path of a file, as in `partner.avsc`

        error[schema-file]: the schema `p.json` can't be used: line 1, column 1: this is not JSON: EOF while parsing a list
         --> DIR/routes.yaml:6:38
          |
        6 |     format: { json_schema: { schema: p.json } }
          |                                      ^^^^^^
          |
          = help: the file has one JSON Schema, which refers to no other file

        error[schema-file]: the schema `p.proto` can't be used: it has several messages, `A`, `B`: name one by `message`
         --> DIR/routes.yaml:6:35
          |
        6 |     format: { protobuf: { schema: p.proto } }
          |                                   ^^^^^^^
          |
          = help: imports are relative to the folder of the file; `google/protobuf/…` is built in

        error[schema-file]: the schema `p.proto` can't be used: line 2, column 13: name 'strin' is not defined
         --> DIR/routes.yaml:6:35
          |
        6 |     format: { protobuf: { schema: p.proto } }
          |                                   ^^^^^^^
          |
          = help: imports are relative to the folder of the file; `google/protobuf/…` is built in

        error[schema-file]: the schema `p.proto` can't be used: line 2, column 8: this import leaves the folder of the file
         --> DIR/routes.yaml:6:35
          |
        6 |     format: { protobuf: { schema: p.proto } }
          |                                   ^^^^^^^
          |
          = help: imports are relative to the folder of the file; `google/protobuf/…` is built in

        error[no-message]: there is no message to choose
         --> DIR/routes.yaml:6:48
          |
        6 |     format: { avro: { schema: p.avsc, message: P } }
          |                                                ^ only Protobuf has messages
          |
          = help: remove `message`

        error[no-message]: there is no message to choose
         --> DIR/routes.yaml:6:36
          |
        6 |     format: { protobuf: { message: P } }
          |                                    ^ the schema `event` has one message
          |
          = help: remove `message`

    "#]].assert_eq(&errors.concat());
}
