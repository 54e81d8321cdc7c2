//! The registry of a format with a schema.

use expect_test::expect;

use super::{check_errors, check_warnings, sink, valid};
use crate::config::WebhookAuth;

const KAFKA: &str = "kafka: { brokers: \"h:9092\", topic: \"regards.{{ tenant }}\" }\n";

fn with(registry: &str) -> String {
    sink(&format!("{KAFKA}format: {{ avro: {{ registry: {{ {registry} }} }} }}"))
}

#[test]
fn a_registry_has_a_subject_for_each_topic_by_default() {
    let config = valid(&with("url: \"https://registry.example.org/apis/ccompat/v7\""));
    let registry = config.sinks[0].registry().unwrap();
    assert_eq!(registry.subject.render_with_topic("t").as_deref(), Some("t-value"));
    assert_eq!((registry.register, &registry.auth, config.sinks[0].fixed_subject()), (false, &None, None));
}

#[test]
fn all_settings_of_a_registry() {
    let config = valid(&with(
        "url: \"https://h/v7\", subject: \"{{ topic }}.{{ tenant }}.{{ type }}\", register: true, auth: { bearer: \"${T:-x}\" }",
    ));
    let registry = config.sinks[0].registry().unwrap();
    assert!(registry.register && matches!(registry.auth, Some(WebhookAuth::Bearer(_))));
}

#[test]
fn a_registry_needs_kafka_and_a_url() {
    check_errors(
        &with("subject: s"),
        expect![[r#"
        error[missing-key]: `url` is missing
         --> routes.yaml:6:33
          |
        6 |     format: { avro: { registry: { subject: s } } }
          |                                 ^^^^^^^^^^^^^^ needs `url`
          |
          = help: add `url:`, where the API begins, as in `https://registry.example.org/apis/ccompat/v7`

    "#]],
    );
    check_errors(
        &sink("stdout: {}\nformat: { json_schema: { registry: { url: \"https://h\" } } }"),
        expect![[r#"
        error[registry-without-kafka]: only the records of a `kafka` sink name a schema in a registry
         --> routes.yaml:6:40
          |
        6 |     format: { json_schema: { registry: { url: "https://h" } } }
          |                                        ^^^^^^^^^^^^^^^^^^^^
          |
          = help: remove `registry`: the body is then encoded by the schema, without a prefix

    "#]],
    );
    check_errors(
        &with("url: \"https://h/?x\""),
        expect![[r#"
        error[url]: the URL of a registry has no `?` and no `#`
         --> routes.yaml:6:40
          |
        6 |     format: { avro: { registry: { url: "https://h/?x" } } }
          |                                        ^^^^^^^^^^^^^^
          |
          = help: write where the API begins, as in `https://HOST/apis/ccompat/v7`

    "#]],
    );
    check_errors(
        &with("url: \"ftp://h\""),
        expect![[r#"
        error[url]: the URL of a registry begins with `https://` or `http://`
         --> routes.yaml:6:40
          |
        6 |     format: { avro: { registry: { url: "ftp://h" } } }
          |                                        ^^^^^^^^^
          |
          = help: write `https://HOST/PATH`

    "#]],
    );
}

#[test]
fn the_subject_is_a_template_over_the_event_and_its_topic() {
    check_errors(
        &with("url: \"https://h\", subject: \"{{ topik }}-value\""),
        expect![[r#"
        error[template]: this is not a template: there is no topik; did you mean topic?
         --> routes.yaml:6:62
          |
        6 |     format: { avro: { registry: { url: "https://h", subject: "{{ topik }}-value" } } }
          |                                                              ^^^^^^^^^^^^^^^^^^^
          |
          = help: write fields of the event between `{{` and `}}`, as in `{{ tenant }}`; `schema event` lists them

    "#]],
    );
    check_errors(
        &sink("kafka: { brokers: \"h:9092\", topic: t, key: \"{{ topic }}\" }"),
        expect![[r#"
        error[template]: this is not a template: there is no topic; there are correlationId, expires, extra, headers, id, message, outcome, productId, properties, session, source, status, tenant, time, type, warnings
         --> routes.yaml:5:48
          |
        5 |     kafka: { brokers: "h:9092", topic: t, key: "{{ topic }}" }
          |                                                ^^^^^^^^^^^^^
          |
          = help: write fields of the event between `{{` and `}}`, as in `{{ tenant }}`; `schema event` lists them

    "#]],
    );
    check_warnings(
        &with("url: \"https://h\", subject: \"{{ session }}\""),
        expect![[r#"
        warning[nullable-address]: `session` can be null: such an event has no address here
         --> routes.yaml:6:66
          |
        6 |     format: { avro: { registry: { url: "https://h", subject: "{{ session }}" } } }
          |                                                                  ^^^^^^^
          |
          = help: it becomes a dead letter, `render_failed`; give it a default: `{{ session | default('none') }}`

    "#]],
    );
}

fn with_schema(schema: &str) -> String {
    sink(&format!("{KAFKA}format: {{ avro: {{ {schema} }} }}"))
}

#[test]
fn the_latest_schema_is_that_of_a_registry() {
    let config = valid(&with_schema("schema: latest, registry: { url: \"https://h\" }"));
    let crate::event::Format::Schema(format) = &config.sinks[0].format else { panic!("a schema") };
    assert_eq!(format.source, crate::event::SchemaSource::Latest { message: None });
    check_errors(
        &with_schema("schema: latest"),
        expect![[r#"
        error[latest-without-registry]: `latest` is read from a registry, and there is none
         --> routes.yaml:6:31
          |
        6 |     format: { avro: { schema: latest } }
          |                               ^^^^^^
          |
          = help: add `registry: { url: … }`, or write `event` or the path of a file

    "#]],
    );
    check_errors(
        &with_schema("schema: latest, message: a.B, registry: { url: \"https://h\", register: true }"),
        expect![[r#"
            error[no-message]: there is no message to choose
             --> routes.yaml:6:48
              |
            6 |     format: { avro: { schema: latest, message: a.B, registry: { url: "https://h", register: true } } }
              |                                                ^^^ only Protobuf has messages
              |
              = help: remove `message`

            error[register-latest]: `latest` takes what the registry has, and registers nothing
             --> routes.yaml:6:93
              |
            6 |     format: { avro: { schema: latest, message: a.B, registry: { url: "https://h", register: true } } }
              |                                                                                             ^^^^
              |
              = help: remove `register`, or write `event` or the path of a file as `schema`

        "#]],
    );
}
