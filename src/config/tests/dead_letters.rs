//! `dead_letters.to`: the sink that gets copies of dead letters, and nothing else.

use expect_test::expect;

use super::{check_errors, check_warnings, valid};
use crate::config::OrderBy;
use crate::event::Format;
use crate::rules::SinkName;

/// A file with that sink for copies of dead letters, followed by `more`, that is valid otherwise.
fn file(sink: &str, more: &str) -> String {
    format!(
        "version: 1
sources: {{ regards: {{ amqp: {{ url: amqp://localhost, queue: q }} }} }}
sinks:
  screen: {{ stdout: {{}} }}
  morgue: {sink}
dead_letters: {{ to: morgue }}
{more}"
    )
}

const RULES: &str = "routes: [{ name: all, to: screen }]\nunrouted: drop\n";

#[test]
fn copies_are_sent_as_received_and_without_order() {
    let config = valid(&file("{ kafka: { brokers: \"localhost:9092\", topic: \"dead.{{ reason }}\" } }", RULES));
    assert_eq!(config.dead_letters.to, Some(SinkName::new("morgue")));
    let [screen, morgue] = config.sinks.as_slice() else { panic!() };
    assert_eq!((screen.order_by, morgue.order_by), (OrderBy::CorrelationId, OrderBy::None));
    assert!(matches!((&screen.format, &morgue.format), (Format::Normalized, Format::Original)));

    let said_so =
        "{ file: { path: \"{{ source }}/{{ tenant | default(\\\"none\\\") }}\" }, format: original, order_by: none }";
    valid(&file(said_so, RULES));
    assert_eq!(
        valid(&format!("{}dead_letters: {{ to: null }}\n", super::routes("- { name: all, to: [a, b] }")))
            .dead_letters
            .to,
        None
    );
}

#[test]
fn a_route_to_the_sink_of_dead_letters_is_an_error() {
    check_errors(
        &file("{ stdout: {} }", "routes: [{ name: all, to: [screen, morgue] }]\nunrouted: morgue\n"),
        expect![[r#"
        error[dead-letter-sink]: `morgue` is the sink that dead letters are copied to
         --> routes.yaml:7:36
          |
        7 | routes: [{ name: all, to: [screen, morgue] }]
          |                                    ^^^^^^
          |
          = help: name another sink here, or in `dead_letters.to`: the sink of dead letters gets nothing else

        error[dead-letter-sink]: `morgue` is the sink that dead letters are copied to
         --> routes.yaml:8:11
          |
        8 | unrouted: morgue
          |           ^^^^^^
          |
          = help: name another sink here, or in `dead_letters.to`: the sink of dead letters gets nothing else

    "#]],
    );
}

#[test]
fn a_format_or_an_order_of_copies_is_an_error() {
    check_errors(
        &file("{ stdout: {}, format: normalized, order_by: tenant }", RULES),
        expect![[r#"
        error[dead-letter-sink]: copies of dead letters are sent as they were received
         --> routes.yaml:5:33
          |
        5 |   morgue: { stdout: {}, format: normalized, order_by: tenant }
          |                                 ^^^^^^^^^^
          |
          = help: remove it, or write `format: original`; the reason is in their headers

        error[dead-letter-sink]: copies of dead letters are not kept in order
         --> routes.yaml:5:55
          |
        5 |   morgue: { stdout: {}, format: normalized, order_by: tenant }
          |                                                       ^^^^^^
          |
          = help: remove it, or write `order_by: none`

    "#]],
    );
    check_errors(
        &file("{ stdout: {}, body: \"{{ reason }}\" }", RULES),
        expect![[r#"
        error[dead-letter-sink]: copies of dead letters are sent as they were received
         --> routes.yaml:5:31
          |
        5 |   morgue: { stdout: {}, body: "{{ reason }}" }
          |                               ^^^^^^^^^^^^^^
          |
          = help: remove it, or write `format: original`; the reason is in their headers

    "#]],
    );
}

#[test]
fn templates_of_copies_use_only_the_fields_of_dead_letters() {
    check_errors(
        &file("{ file: { path: \"{{ reason }}/{{ status }}/{{ headers.x }}\" } }", RULES),
        expect![[r#"
        error[template]: this is not a template: there is no headers; there are reason, sink, source, tenant
         --> routes.yaml:5:27
          |
        5 |   morgue: { file: { path: "{{ reason }}/{{ status }}/{{ headers.x }}" } }
          |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: this sink gets copies of dead letters: its templates may use `reason`, `source`, `sink` and `tenant`

    "#]],
    );
    check_errors(
        &super::sink("file: { path: \"{{ reason }}\" }"),
        expect![[r#"
        error[template]: this is not a template: there is no reason; there are correlationId, expires, extra, headers, id, message, outcome, productId, properties, session, source, status, tenant, time, type, warnings
         --> routes.yaml:5:19
          |
        5 |     file: { path: "{{ reason }}" }
          |                   ^^^^^^^^^^^^^^
          |
          = help: write fields of the event between `{{` and `}}`, as in `{{ tenant }}`; `schema event` lists them

    "#]],
    );
    check_warnings(
        &file("{ file: { path: \"{{ sink }}/{{ tenant }}\" } }", RULES),
        expect![[r#"
        warning[nullable-address]: `sink` can be null: such a dead letter has no address here
         --> routes.yaml:5:31
          |
        5 |   morgue: { file: { path: "{{ sink }}/{{ tenant }}" } }
          |                               ^^^^
          |
          = help: it is not copied; give it a default: `{{ sink | default('none') }}`

        warning[nullable-address]: `tenant` can be null: such a dead letter has no address here
         --> routes.yaml:5:42
          |
        5 |   morgue: { file: { path: "{{ sink }}/{{ tenant }}" } }
          |                                          ^^^^^^
          |
          = help: it is not copied; give it a default: `{{ tenant | default('none') }}`

    "#]],
    );
}

#[test]
fn an_unknown_sink_of_dead_letters_is_an_error() {
    check_errors(
        &file("{ stdout: {} }", RULES).replace("to: morgue", "to: morge"),
        expect![[r#"
        warning[unused-sink]: no route leads to the sink `morgue`
         --> routes.yaml:5:3
          |
        5 |   morgue: { stdout: {} }
          |   ^^^^^^
          |
          = help: name it in the `to:` of a route or an alert, or remove it

        error[unknown-sink]: there is no sink `morge`
         --> routes.yaml:6:21
          |
        6 | dead_letters: { to: morge }
          |                     ^^^^^ did you mean `morgue`?
          |
          = help: write `morgue`

    "#]],
    );
}
