//! Templates in sinks.

use expect_test::expect;

use super::{check_errors, check_warnings, sink};

#[test]
fn a_wrong_template_is_an_error() {
    check_errors(
        &sink("kafka: { brokers: one, topic: \"regards.{{ tennant }}\", key: \"{{ tenant \" }"),
        expect![[r#"
            error[template]: this is not a template: there is no tennant; did you mean tenant?
             --> routes.yaml:5:35
              |
            5 |     kafka: { brokers: one, topic: "regards.{{ tennant }}", key: "{{ tenant " }
              |                                   ^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write fields of the event between `{{` and `}}`, as in `{{ tenant }}`; `schema event` lists them

            error[template]: this is not a template: syntax error: unexpected end of input, expected end of variable block
             --> routes.yaml:5:65
              |
            5 |     kafka: { brokers: one, topic: "regards.{{ tennant }}", key: "{{ tenant " }
              |                                                                 ^^^^^^^^^^^^
              |
              = help: write fields of the event between `{{` and `}}`, as in `{{ tenant }}`; `schema event` lists them

        "#]],
    );
}

#[test]
fn an_address_that_can_be_null_is_a_warning() {
    check_warnings(
        &sink(
            "amqp: { url: amqp://localhost, exchange: e, routing_key: \"{{ tenant }}.{{ productId }}.{{ session | default('x') }}\" }",
        ),
        expect![[r#"
            warning[nullable-address]: `productId` can be null: such an event has no address here
             --> routes.yaml:5:79
              |
            5 |     amqp: { url: amqp://localhost, exchange: e, routing_key: "{{ tenant }}.{{ productId }}.{{ session | default('x') }}" }
              |                                                                               ^^^^^^^^^
              |
              = help: it becomes a dead letter, `render_failed`; give it a default: `{{ productId | default('none') }}`

        "#]],
    );
}

#[test]
fn an_unescaped_field_in_a_json_body_is_a_warning() {
    check_warnings(
        &sink("webhook: { url: 'https://h/x' }\nbody: '{\"text\": \"{{ status }}: {{ message }}\"}'"),
        expect![[r#"
            warning[json-unescaped]: this body looks like JSON, and `message` goes into it unescaped: a quote or a line break in it breaks the JSON
             --> routes.yaml:6:39
              |
            6 |     body: '{"text": "{{ status }}: {{ message }}"}'
              |                                       ^^^^^^^
              |
              = help: write `{{ message | tojson }}`, or `{{ ("text " ~ message) | tojson }}`, without quotes around it, as `tojson` adds them

        "#]],
    );
}

#[test]
fn a_filter_or_test_of_another_language_is_an_error_with_a_suggestion() {
    check_errors(
        &sink("kafka: { brokers: h, topic: 't.{{ tenant | lowercase }}' }"),
        expect![[r#"
        error[template]: this is not a template: there is no filter lowercase; did you mean lower?
         --> routes.yaml:5:33
          |
        5 |     kafka: { brokers: h, topic: 't.{{ tenant | lowercase }}' }
          |                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: write fields of the event between `{{` and `}}`, as in `{{ tenant }}`; `schema event` lists them

    "#]],
    );
    check_errors(
        &sink("kafka: { brokers: h, topic: 't.{% if session is null %}x{% endif %}' }"),
        expect![[r#"
        error[template]: this is not a template: there is no test null; did you mean none?
         --> routes.yaml:5:33
          |
        5 |     kafka: { brokers: h, topic: 't.{% if session is null %}x{% endif %}' }
          |                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: write fields of the event between `{{` and `}}`, as in `{{ tenant }}`; `schema event` lists them

    "#]],
    );
}
