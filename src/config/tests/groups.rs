//! Sinks with `group`.

use std::time::Duration;

use expect_test::expect;

use super::{check_errors, check_warnings, sink, valid};
use crate::rules::Field;

#[test]
fn a_group_has_defaults() {
    let hook = "webhook: { url: \"https://localhost/\" }\ngroup:";
    let group = |text: &str| valid(&sink(&format!("{hook} {text}"))).sinks[0].group.clone().unwrap();
    let default = group("{}");
    assert_eq!((default.by.as_slice(), default.wait, default.max), (&[][..], Duration::from_secs(30), 100));
    let given = group("{ by: [tenant, status], wait: 5m, max: 1000 }");
    assert_eq!((given.by, given.wait, given.max), (vec![Field::Tenant, Field::Status], Duration::from_mins(5), 1_000));
}

#[test]
fn a_record_of_a_digest_has_the_group_as_its_key() {
    let config = valid(&sink("kafka: { brokers: one, topic: digests }\ngroup: { by: [status, tenant] }"));
    let crate::config::SinkKind::Kafka(kafka) = &config.sinks[0].kind else { panic!("a Kafka sink") };
    assert_eq!(kafka.key.source(), "{{ tenant }}/{{ status }}");
}

#[test]
fn settings_that_make_no_sense_for_digests() {
    check_errors(
        &sink(
            "stdout: {}\nformat: original\norder_by: tenant\nkeep_headers: \"*\"\ngroup: { by: [tenant, tenant], wait: 1h, max: 1 }\nretry: { give_up_after: 1h }",
        ),
        expect![[r#"
            error[group-format]: several messages can't be sent as they were received
             --> routes.yaml:6:13
              |
            6 |     format: original
              |             ^^^^^^^^
            ...
            9 |     group: { by: [tenant, tenant], wait: 1h, max: 1 }
              |            ------------------------------------------ the groups
              |
              = help: remove `format`: the body is then a JSON array of the normalized events; or write a template in `body`

            error[group-order]: a sink with `group` keeps the order of its groups
             --> routes.yaml:7:15
              |
            7 |     order_by: tenant
              |               ^^^^^^
            8 |     keep_headers: "*"
            9 |     group: { by: [tenant, tenant], wait: 1h, max: 1 }
              |            ------------------------------------------ the groups
              |
              = help: remove `order_by`: the digests of a group are delivered one after another, each with its events in the order of receipt

            error[group-headers]: a digest has several messages, and no headers of any of them
             --> routes.yaml:8:19
              |
            8 |     keep_headers: "*"
              |                   ^^^
              |
              = help: remove `keep_headers`; a template in `body` can use `events[0].headers`

            error[group-kind]: files and standard output get one line for each event, no digests
             --> routes.yaml:9:12
              |
            9 |     group: { by: [tenant, tenant], wait: 1h, max: 1 }
              |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: remove `group`, or use a `webhook`, `amqp` or `kafka` sink

            error[field-twice]: `tenant` is named twice
             --> routes.yaml:9:27
              |
            9 |     group: { by: [tenant, tenant], wait: 1h, max: 1 }
              |                           ^^^^^^
              |
              = help: name each field once

            error[group-wait]: a group waits for 1h, and its events are given up after 1h
             --> routes.yaml:9:42
              |
            9 |     group: { by: [tenant, tenant], wait: 1h, max: 1 }
              |                                          ^^
              |
              = help: make `wait` much shorter than `retry.give_up_after`, so that a failed digest can be attempted again

            error[out-of-range]: `1` is out of range
             --> routes.yaml:9:51
              |
            9 |     group: { by: [tenant, tenant], wait: 1h, max: 1 }
              |                                                   ^
              |
              = help: write something between `2` and `1000`

        "#]],
    );
    check_errors(
        &sink("kafka: { brokers: one, topic: digests }\nformat: cloudevents\ngroup: { by: [tenat] }"),
        expect![[r#"
            error[group-format]: CloudEvents has batches of events for HTTP only
             --> routes.yaml:6:13
              |
            6 |     format: cloudevents
              |             ^^^^^^^^^^^
            7 |     group: { by: [tenat] }
              |            --------------- the groups
              |
              = help: remove `format`: the body is then a JSON array of the normalized events; or write a template in `body`

            error[unknown-word]: `tenat` is not one of `tenant`, `status`, `outcome`, `type`, `source`, `session`, `productId`, `correlationId`
             --> routes.yaml:7:19
              |
            7 |     group: { by: [tenat] }
              |                   ^^^^^ did you mean `tenant`?
              |
              = help: write `tenant`

        "#]],
    );
    check_errors(
        &sink("webhook: { url: \"https://localhost/\" }\ngroup: { by: [], wait: 10ms, max: 1001 }"),
        expect![[r#"
        error[empty-list]: there is no field to group by
         --> routes.yaml:6:18
          |
        6 |     group: { by: [], wait: 10ms, max: 1001 }
          |                  ^^
          |
          = help: name at least one, or remove `by` to put all events of the sink together

        error[out-of-range]: `10ms` is out of range
         --> routes.yaml:6:28
          |
        6 |     group: { by: [], wait: 10ms, max: 1001 }
          |                            ^^^^
          |
          = help: write something between `100ms` and `1d`

        error[out-of-range]: `1001` is out of range
         --> routes.yaml:6:39
          |
        6 |     group: { by: [], wait: 10ms, max: 1001 }
          |                                       ^^^^
          |
          = help: write something between `2` and `1000`

    "#]],
    );
}

#[test]
fn templates_of_digests_have_no_fields_of_one_event() {
    check_errors(
        &sink(
            "kafka: { brokers: one, topic: \"regards.{{ status }}\" }\nbody: \"{{ tenant }} {{ message }}\"\ngroup: { by: tenant }",
        ),
        expect![[r#"
            error[template]: this is not a template: a digest has several events, which may differ in status: write {% for event in events %}{{ event.status }}{% endfor %}, or add it to `by:`
             --> routes.yaml:5:35
              |
            5 |     kafka: { brokers: one, topic: "regards.{{ status }}" }
              |                                   ^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: this sink gets digests: its templates may use `events`, `count` and the fields of `group.by`

            error[template]: this is not a template: a digest has several events, which may differ in message: write {% for event in events %}{{ event.message }}{% endfor %}, or add it to `by:`
             --> routes.yaml:6:11
              |
            6 |     body: "{{ tenant }} {{ message }}"
              |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: this sink gets digests: its templates may use `events`, `count` and the fields of `group.by`

        "#]],
    );
    check_errors(
        &sink(
            "webhook: { url: \"https://localhost/{{ session }}\" }\nbody: \"{{ session }} {% for event in events %}{{ event.mesage }}{% endfor %}\"\ngroup: { by: session }",
        ),
        expect![[r#"
            warning[nullable-address]: `session` can be null: such a digest has no address here
             --> routes.yaml:5:43
              |
            5 |     webhook: { url: "https://localhost/{{ session }}" }
              |                                           ^^^^^^^
              |
              = help: its events become dead letters, `render_failed`; give it a default: `{{ session | default('none') }}`

            error[template]: this is not a template: there is no mesage in an event of `events`; did you mean message?
             --> routes.yaml:6:11
              |
            6 |     body: "{{ session }} {% for event in events %}{{ event.mesage }}{% endfor %}"
              |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: this sink gets digests: its templates may use `events`, `count` and the fields of `group.by`

        "#]],
    );
}

#[test]
fn fields_that_a_body_does_not_show() {
    check_warnings(
        &sink(
            "webhook: { url: \"https://localhost/\" }\nbody: \"{{ count }} errors of {{ tenant }}\"\ngroup: { by: [tenant, status] }",
        ),
        expect![[r#"
            warning[group-not-shown]: events that differ in `status` come in different digests, and the body does not show it
             --> routes.yaml:7:27
              |
            6 |     body: "{{ count }} errors of {{ tenant }}"
              |           ------------------------------------ the body
            7 |     group: { by: [tenant, status] }
              |                           ^^^^^^
              |
              = help: write `{{ status }}` in the body, or remove `status` here

        "#]],
    );
    valid(&sink(
        "webhook: { url: \"https://localhost/\" }\nbody: '{\"all\": {{ events | tojson }}}'\ngroup: { by: [tenant, status] }",
    ));
}
