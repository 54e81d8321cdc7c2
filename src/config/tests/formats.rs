//! Formats with a schema.

use expect_test::expect;

use super::{check_errors, sink, valid};
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
        error[unknown-schema]: `evnt` is not a schema
         --> routes.yaml:6:31
          |
        6 |     format: { avro: { schema: evnt } }
          |                               ^^^^
          |
          = help: write `event`, or remove `schema`

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
