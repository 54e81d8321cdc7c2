//! Routes and `unrouted:`.

use expect_test::expect;

use super::{check_errors, check_warnings, routes, valid};

#[test]
fn a_route_needs_a_unique_name_and_known_sinks() {
    check_errors(
        &routes("- to: a\n- { name: one, to: c }\n- { name: one, to: [a, bb] }\n- { name: two }"),
        expect![[r#"
            error[missing-key]: `name` is missing
             --> routes.yaml:5:7
              |
            5 |     - to: a
              |       ^^ needs `name`
              |
              = help: add `name:`, the name of the route in metrics, logs and `explain`

            error[unknown-sink]: there is no sink `c`
             --> routes.yaml:6:24
              |
            6 |     - { name: one, to: c }
              |                        ^
              |
              = help: write one of `a`, `b`

            error[duplicate-route]: there are two routes named `one`
             --> routes.yaml:7:15
              |
            6 |     - { name: one, to: c }
              |               --- first here
            7 |     - { name: one, to: [a, bb] }
              |               ^^^
              |
              = help: give each route its own name: metrics and `explain` show it

            error[unknown-sink]: there is no sink `bb`
             --> routes.yaml:7:28
              |
            7 |     - { name: one, to: [a, bb] }
              |                            ^^
              |
              = help: write one of `a`, `b`

            error[missing-key]: `to` is missing
             --> routes.yaml:8:7
              |
            8 |     - { name: two }
              |       ^^^^^^^^^^^^^ needs `to`
              |
              = help: add `to:`, the sinks the events go to; an empty list drops them on purpose

        "#]],
    );
}

#[test]
fn unrouted_needs_a_known_value() {
    let with = |unrouted: &str| routes("- { name: all, to: [a, b] }").replace("unrouted: drop", unrouted);
    check_errors(
        &with(""),
        expect![[r#"
            error[missing-key]: `unrouted` is missing
             --> routes.yaml:1:1
              |
            1 | version: 1
              | ^^^^^^^ needs `unrouted`
              |
              = help: add `unrouted:`, what happens to events that no route matches: `drop`, `dead_letter`, or names of sinks

        "#]],
    );
    check_errors(
        &with("unrouted: dead-letter"),
        expect![[r#"
        error[unknown-sink]: there is no sink `dead-letter`
         --> routes.yaml:7:11
          |
        7 | unrouted: dead-letter
          |           ^^^^^^^^^^^ did you mean `dead_letter`?
          |
          = help: write `dead_letter`

    "#]],
    );
    check_errors(
        &with("unrouted: []"),
        expect![[r#"
        error[empty-list]: `unrouted` is empty: it has to say what happens to events that no route matches
         --> routes.yaml:7:11
          |
        7 | unrouted: []
          |           ^^
          |
          = help: write `drop` (they are counted), `dead_letter`, or names of sinks

    "#]],
    );
    check_errors(
        &with("unrouted: [drop, a]"),
        expect![[r#"
        error[unknown-sink]: there is no sink `drop`
         --> routes.yaml:7:12
          |
        7 | unrouted: [drop, a]
          |            ^^^^
          |
          = help: write one of `a`, `b`

    "#]],
    );
}

#[test]
fn a_route_that_contradicts_itself_is_a_warning() {
    for (when, expected) in [
        (
            "{ status: SUCCESS, outcome: failed }",
            expect![[r#"
            warning[contradiction]: no event matches this route: its conditions exclude each other
             --> routes.yaml:5:26
              |
            5 |     - { name: one, when: { status: SUCCESS, outcome: failed }, to: [a, b] }
              |                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: `type`, `status` and `outcome` have to be possible together, and `not:` must not exclude everything

        "#]],
        ),
        (
            "{ tenant: [cnes, esa], not: { tenant: \"*s*\" } }",
            expect![[r#"
            warning[contradiction]: no event matches this route: its conditions exclude each other
             --> routes.yaml:5:26
              |
            5 |     - { name: one, when: { tenant: [cnes, esa], not: { tenant: "*s*" } }, to: [a, b] }
              |                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: `type`, `status` and `outcome` have to be possible together, and `not:` must not exclude everything

        "#]],
        ),
    ] {
        check_warnings(&routes(&format!("- {{ name: one, when: {when}, to: [a, b] }}")), expected);
    }
    valid(&routes(
        "- { name: one, when: { status: [SUCCESS, ERROR], outcome: failed, not: { tenant: cnes } }, to: [a, b] }",
    ));
}

#[test]
fn a_route_that_no_event_reaches_is_a_warning() {
    check_warnings(
        &routes(
            "- { name: esa, when: { tenant: \"esa*\" }, to: a, final: true }
- { name: esa-errors, when: { tenant: esa-2, status: ERROR }, to: b }
- { name: all, to: [a, b], final: true }
- { name: more, to: a }",
        ),
        expect![[r#"
            warning[hidden-route]: no event reaches this route: all events that it matches stop at `esa`
             --> routes.yaml:6:7
              |
            6 |     - { name: esa-errors, when: { tenant: esa-2, status: ERROR }, to: b }
              |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: move this route above `esa`, or remove `final: true` from `esa`

            warning[sink-of-several]: an event that `esa-errors` matches as well goes to this sink once, by that route
             --> routes.yaml:7:24
              |
            7 |     - { name: all, to: [a, b], final: true }
              |                        ^^^^^^
              |
              = help: remove the sink here, or make the two routes exclude each other (`not:`, or `final: true` on `esa-errors`)

            warning[hidden-route]: no event reaches this route: all events that it matches stop at `all`
             --> routes.yaml:8:7
              |
            8 |     - { name: more, to: a }
              |       ^^^^^^^^^^^^^^^^^^^^^
              |
              = help: move this route above `all`, or remove `final: true` from `all`

        "#]],
    );
}

#[test]
fn a_sink_of_two_overlapping_routes_is_a_warning() {
    check_warnings(
        &routes(
            "- { name: errors, when: { outcome: failed }, to: [a, b] }\n- { name: esa, when: { tenant: \"esa-*\" }, to: [b, b] }",
        ),
        expect![[r#"
            warning[sink-of-several]: an event that `errors` matches as well goes to this sink once, by that route
             --> routes.yaml:6:51
              |
            6 |     - { name: esa, when: { tenant: "esa-*" }, to: [b, b] }
              |                                                   ^^^^^^
              |
              = help: remove the sink here, or make the two routes exclude each other (`not:`, or `final: true` on `errors`)

            warning[sink-twice]: `b` is named twice
             --> routes.yaml:6:55
              |
            6 |     - { name: esa, when: { tenant: "esa-*" }, to: [b, b] }
              |                                                       ^
              |
              = help: once is enough: each sink gets an event once

        "#]],
    );
}

#[test]
fn routes_that_exclude_each_other_can_share_a_sink() {
    for pair in [
        ["when: { tenant: esa }", "when: { tenant: [cnes, dlr] }"],
        ["when: { tenant: \"cnes-*\" }", "when: { tenant: \"esa-*\" }"],
        ["when: { tenant: \"*-a\" }", "when: { tenant: \"*-b\" }"],
        ["when: { outcome: failed }", "when: { status: [GRANTED, SUCCESS] }"],
        ["when: { tenant: esa }", "when: { not: { tenant: \"es*\" } }"],
        ["when: { tenant: esa }, final: true", "when: { status: ERROR }"],
    ] {
        let [one, other] = pair;
        valid(&routes(&format!("- {{ name: one, to: [a, b], {one} }}\n- {{ name: two, to: a, {other} }}")));
    }
}

#[test]
fn an_unused_sink_is_a_warning() {
    check_warnings(
        &routes("- { name: all, to: a }"),
        expect![[r#"
        warning[unused-sink]: no route leads to the sink `b`
         --> routes.yaml:3:29
          |
        3 | sinks: { a: { stdout: {} }, b: { stdout: {} } }
          |                             ^
          |
          = help: name it in the `to:` of a route or an alert, or remove it

    "#]],
    );
}

#[test]
fn a_status_of_a_tenant_without_a_route_is_a_warning() {
    let file = |routes: &str, unrouted: &str| {
        format!(
            "version: 1
sources:
  one: {{ amqp: {{ url: amqp://localhost, queue: q }}, expects: lta }}
sinks: {{ a: {{ stdout: {{}} }} }}
routes:
{routes}
unrouted: {unrouted}
"
        )
    };
    check_warnings(
        &file("- { name: some, when: { status: [SUCCESS, ERROR] }, to: a }", "dead_letter"),
        expect![[r#"
        warning[no-route]: no route matches `GRANTED`, `DENIED`
         --> routes.yaml:7:11
          |
        7 | unrouted: dead_letter
          |           ^^^^^^^^^^^ each becomes a dead letter
          |
          = help: add a route for them; a route with `to: []` drops events that are not needed

    "#]],
    );
    let named = "- { name: failed, when: { outcome: failed }, to: a }
- { name: cnes, when: { tenant: cnes, not: { status: [DENIED, ERROR] } }, to: [] }
- { name: others, when: { tenant: [b, c, d, e, f], status: SUCCESS }, to: a }";
    check_warnings(
        &file(named, "dead_letter"),
        expect![[r#"
            warning[no-route]: no route matches `DENIED` of the tenant `cnes`
             --> routes.yaml:9:11
              |
            9 | unrouted: dead_letter
              |           ^^^^^^^^^^^ each becomes a dead letter
              |
              = help: add a route for them; a route with `to: []` drops events that are not needed

            warning[no-route]: no route matches `GRANTED`, `DENIED` of the tenants `b`, `c`, `d` and 2 others
             --> routes.yaml:9:11
              |
            9 | unrouted: dead_letter
              |           ^^^^^^^^^^^ each becomes a dead letter
              |
              = help: add a route for them; a route with `to: []` drops events that are not needed

        "#]],
    );
    // Statuses that may match a route are not reported, nor those that are dropped on purpose.
    valid(&file("- { name: some, when: { status: SUCCESS }, to: a }", "drop"));
    valid(&file(
        "- { name: some, when: { status: [SUCCESS, ERROR], tenant: cnes }, to: a }
- { name: rest, when: { tenant: c*, status: \"*\", if: session != null }, to: [] }",
        "dead_letter",
    ));
}

#[test]
fn a_status_of_a_source_without_a_route_is_a_warning() {
    check_warnings(
        "version: 1
sources:
  one: { amqp: { url: amqp://localhost, queue: q }, expects: lta }
  two: { amqp: { url: amqp://localhost, queue: p }, expects: order }
  each: { amqp: { url: amqp://localhost, queue: p, vhost: 'regards.{tenant}' }, tenants: [cnes, esa], expects: lta }
sinks: { a: { stdout: {} } }
routes:
- { name: lta, when: { source: one }, to: a }
- { name: done, when: { type: fr.cnes.regards.order.response, outcome: [succeeded, failed] }, to: [] }
- { name: cnes, when: { source: each.cnes }, to: [] }
unrouted: dead_letter
",
        expect![[r#"
            warning[no-route]: no route matches `GRANTED`, `DENIED`, `SUCCESS`, `ERROR` of the tenant `esa`
              --> routes.yaml:11:11
               |
            11 | unrouted: dead_letter
               |           ^^^^^^^^^^^ each becomes a dead letter
               |
               = help: add a route for them; a route with `to: []` drops events that are not needed

            warning[no-route]: no route matches `GRANTED`, `SUBORDER_DONE`, `DENIED` of the source `two`
              --> routes.yaml:11:11
               |
            11 | unrouted: dead_letter
               |           ^^^^^^^^^^^ each becomes a dead letter
               |
               = help: add a route for them; a route with `to: []` drops events that are not needed

        "#]],
    );
}
